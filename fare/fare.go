// Package fare prices one ride. The tariff is dated data with its sources; a
// price is a list of rule lines that sum to it, in English and Chinese. The
// gate (from its Table) and the back office (from the network) both call
// Price, so a price exists once. Start at Price; the data is tariffs.json.
package fare

import (
	"fmt"
	"time"

	"koala/internal/fail"
	"koala/money"
)

// The failures of this package.
var (
	ErrNoTariff     = fail.Define(fail.NotFound, "fare.no_tariff", "no tariff is in force on that day")
	ErrNoRule       = fail.Define(fail.Invalid, "fare.no_rule", "the tariff has no rule for that ride")
	ErrRide         = fail.Define(fail.Invalid, "fare.ride", "this is not a ride that can be priced")
	ErrNoConcession = fail.Define(fail.Refused, "fare.no_concession", "there is no such concession on that day")
	ErrTable        = fail.Define(fail.Invalid, "fare.table", "this is not a fare table")
	ErrNoStation    = fail.Define(fail.NotFound, "fare.no_station", "the fare table does not know the entry station")
)

// MaxMetres bounds the length of one part of a ride; the longest line of the
// world's metros is far below.
const MaxMetres = 1_000_000

// A Region is a part of the network that charges on its own. A ride through
// two regions pays both.
type Region string

// The regions of the Beijing data.
const (
	Network        Region = "network"
	CapitalAirport Region = "capital-airport"
	DaxingAirport  Region = "daxing-airport"
	XijiaoTram     Region = "xijiao-tram"
	YizhuangTram   Region = "yizhuang-t1-tram"
)

// A Part is the shortest distance of a ride inside one region, in metres.
type Part struct {
	Region Region `json:"region"`
	Metres int    `json:"metres"`
}

// A Case says what kind of ride is priced.
type Case byte

// The cases. In the last two the rider is at one end only: Parts then hold
// the farthest ride of the station that is known.
const (
	Complete     Case = iota // entered and left at two stations
	SameStation              // entered and left at one station; Parts name its region
	MissingEntry             // leaves, but the card knows no entry
	MissingExit              // enters (or is looked at later), the last ride was never closed
)

var caseNames = [...]string{"complete", "same-station", "missing-entry", "missing-exit"}

func (c Case) String() string {
	if int(c) < len(caseNames) {
		return caseNames[c]
	}
	return fmt.Sprintf("case %d", byte(c))
}

// A Ride is what the price depends on.
type Ride struct {
	Case         Case
	Parts        []Part       // shortest distances, in riding order
	EarlyStation bool         // the entry station is on the early-bird list
	Entered      time.Time    // tap in; zero when missing
	Left         time.Time    // tap out; for MissingExit the moment of charging
	MonthSpent   money.Amount // rail spending of the card this month before the ride, as counted by Quote.Counts
	Concession   string       // code of the rider's concession, empty for none
}

// A Line is one rule that made part of the price. Fen is signed: the lines of
// a quote sum to its price.
type Line struct {
	Rule string `json:"rule"` // stable word for programs: base, early-bird, concession, rebate, overstay, same-station, missing-entry, missing-exit, bus
	EN   string `json:"en"`
	ZH   string `json:"zh"`
	Fen  int64  `json:"fen"`
}

// A Quote is a price and why.
type Quote struct {
	Tariff string       // id of the tariff
	Fen    money.Amount // what the rider pays
	Counts money.Amount // what the ride adds to the card's monthly total
	Lines  []Line
}

// Rules returns the lines as text in English, amounts included.
func (q Quote) Rules() []string {
	out := make([]string, len(q.Lines))
	for i, l := range q.Lines {
		out[i] = fmt.Sprintf("%s: %s", l.EN, money.Fen(l.Fen).Yuan())
	}
	return out
}

func (q *Quote) add(rule string, fen int64, en, zh string) {
	q.Lines = append(q.Lines, Line{Rule: rule, EN: en, ZH: zh, Fen: fen})
	q.Fen = q.Fen.Add(money.Fen(fen))
}
