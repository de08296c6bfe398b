// Package telling is what the switch's queue to issuers' hosts goes by: what a
// line of it has its host told, what an answer to that means, and when it is sent
// again. It holds no state; the queue is package switching's.
//
// Start at Read.
package telling

import (
	"time"

	"koala/spec/iso8583"
)

// What a line of the queue is.
const (
	Asked    = "asked"    // the host is being asked
	Reversal = "reversal" // it has to take back what it was asked
	Advice   = "advice"   // it has to be told
	Notice   = "notice"   // what became of its script
	Done     = "done"
	Told     = "told" // a notice's end: the transaction's own row is done beside it
)

// A Verdict is what a host's answer to something it was told means.
type Verdict int

// The verdicts.
const (
	Again   Verdict = iota // it has not taken it
	Taken                  // it has
	Refused                // it never will: people
)

// Read reads field 39 of the answer to a stored message, empty for no answer that
// counts. A host that answers a reversal with 12 or 25 holds nothing of it; a
// notice asks for nothing, so any answer will do.
func Read(what, code string) Verdict {
	switch code {
	case "", "68", "91", "96", "98", "A0":
		return Again
	}
	switch {
	case what == Notice, iso8583.Approved(code), what == Reversal && (code == "12" || code == "25"):
		return Taken
	}
	return Refused
}

// Wait is the time to the next attempt after so many: 30 s, twice as long each
// time, at most 15 minutes.
func Wait(attempts int) time.Duration {
	return min(30*time.Second<<min(attempts, 10), 15*time.Minute)
}
