package reconcile

import (
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/spec/clearing"
	"koala/spec/pan"
)

// A Notice is what a line of a host's file says in a dispute about a sale.
type Notice struct {
	Flag     string        // clearing.Requested, ChargedBack, Represented, ChargedAgain…
	Undone   bool          // what an earlier line said is taken back
	Number   string        // the network's key of the line: sender, trace and moment; empty: it has none
	RRN      string        // of the sale
	Terminal string        // its terminal
	PAN      pan.PAN       // masked when printed
	Sold     int64         // fen of the sale; 0: not told
	SoldOn   calendar.Date // zero: not told
	Fen      int64         // disputed, above zero
	Reason   string        // code of four digits; empty: the line has no column for it
	At       time.Time     // when it was said
	Line     int           // of the file
}

// MaxNotices bounds those of one file.
const MaxNotices = 50_000

// readDispute reads a line of the dispute file (clearing.Dispute): what it moves
// and what it says.
func readDispute(text []byte, day calendar.Date, class ClassOf) (x Item, n Notice, err error) {
	d, err := clearing.ParseDispute(text)
	if err != nil {
		return x, n, err
	}
	if !d.Known() {
		return x, n, &FormatError{0, 1, "a flag whose money is known, E04, E05, E22 to E25, E32, E74 or E84: the desk has to look at this line"}
	}
	at, err := sent(d.Sent, day)
	if err != nil {
		return x, n, err
	}
	n = Notice{Flag: d.Flag, Undone: d.Undone(), Number: d.Sender + d.Trace + d.Sent, RRN: d.RRN, Terminal: d.Terminal, PAN: d.PAN, Sold: d.Sold, Fen: d.Amount, Reason: d.Reason, At: at}
	if sold, err := sent(d.First, day); err == nil {
		n.SoldOn = calendar.Of(sold, calendar.Beijing)
	}
	x = Item{RRN: d.RRN, Acquirer: d.Agent, TID: d.Terminal, STAN: d.Trace, Date: calendar.Of(at, calendar.Beijing), Kind: disputeKind(d), State: Cleared,
		Fen: d.Fen(), Fee: d.Payable - d.Receivable + d.Owed - d.Due, Currency: money.CNY, At: at}
	if class != nil {
		x.Class = class(d.PAN)
	}
	return x, n, nil
}

// disputeKind is what a dispute's line is beside our own items: the issuer's
// chargeback taken back gives the sale again, and our claim is the sale itself.
func disputeKind(d clearing.Dispute) Kind {
	switch d.Flag {
	case clearing.ChargedBack, clearing.ChargedAgain, clearing.Represented:
		if d.Fen() < 0 {
			return Chargeback
		}
		return Presented
	case clearing.Claimed:
		return Sale
	case clearing.Replied:
		return Copy
	}
	return Refund
}

// noticeOf is what a line of the general file says: one of message type 0422,
// which has neither reason nor number.
func noticeOf(r clearing.Record, at time.Time) (n Notice, ok bool) {
	n = Notice{RRN: r.RRN, Terminal: r.Terminal, PAN: r.PAN, Fen: r.Amount, At: at}
	switch r.Kind() {
	case clearing.Chargeback:
		n.Flag = clearing.ChargedBack
	case clearing.Presented:
		n.Flag = clearing.Represented
	}
	return n, n.Flag != ""
}

// Found ends the exceptions of dispute lines that no movement of ours explained
// when the file was compared, and that one explains now: the notice of the line
// itself moved the case behind it. Such a movement is left out when its own day is
// compared. What was booked for the exception meanwhile is reversed. Not called,
// the next day's comparison finds the same.
func Found(tx *db.Tx, host string, ours []Item) error {
	open, err := exceptions(tx, `host = $1 AND state <> $2 AND type = $3 ORDER BY id`, host, string(Closed), string(MissingHere))
	if err != nil {
		return err
	}
	used := map[int]bool{}
	for _, x := range open {
		if x.Theirs == nil || x.Theirs.Kind != Chargeback && x.Theirs.Kind != Presented {
			continue
		}
		for i := range ours {
			o := &ours[i]
			if used[i] || o.RRN != x.Theirs.RRN || o.Kind != x.Theirs.Kind || o.Fen != x.Theirs.Fen || o.Fee != x.Theirs.Fee || o.Network != x.Theirs.Network {
				continue
			}
			used[i] = true
			if err := x.explain(tx, o); err != nil {
				return fmt.Errorf("exception %s: %w", x.ID, err)
			}
			break
		}
	}
	return nil
}

func (x Exception) explain(tx *db.Tx, o *Item) error {
	text, err := itemText(o)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE reconcile_exception SET ours = $2, payee = $3 WHERE id = $1`, x.ID, text, o.Payee); err != nil {
		return err
	}
	return selfClose(tx, x.ID, whyTold)
}

// A claimed movement is one that an earlier file's line has had.
type claimed struct {
	rrn  string
	kind Kind
	at   int64
}

// claims are the movements that Found has given to lines of earlier days.
func claims(q db.Reader, host string, since calendar.Date) (map[claimed]bool, error) {
	had, err := exceptions(q, `host = $1 AND day >= $2 AND type = $3 AND state = $4 AND ours <> '' ORDER BY id`, host, since.String(), string(MissingHere), string(Closed))
	out := map[claimed]bool{}
	for _, x := range had {
		out[x.Ours.claim()] = true
	}
	return out, err
}

func (x *Item) claim() claimed { return claimed{x.RRN, x.Kind, x.At.UnixMicro()} }

// ECashDesk is the host under which exceptions of e-cash are kept: what tills
// handed in and what cards say of themselves, instead of two files. Money that
// waits for them is in suspense with issuer or acquirer, not here: signing books
// nothing.
const ECashDesk = "ecash"

// The types of e-cash.
const (
	ECashGap     Type = "ecash_gap"     // money left a card between two counters that nobody handed in
	ECashTwice   Type = "ecash_twice"   // a counter or number comes a second time as something else
	ECashProof   Type = "ecash_proof"   // cryptogram, TAC or MAC do not verify
	ECashUnknown Type = "ecash_unknown" // a card that the house does not know
	ECashDoubt   Type = "ecash_doubt"   // a tap whose end nobody knows: the card was torn away
	ECashWaits   Type = "ecash_waits"   // a record that does not fit what is booked
)

// ECash tells whether the type is one of e-cash.
func (t Type) ECash() bool { return len(t) > 6 && t[:6] == "ecash_" }

// A Finding is one thing that another desk found and this one has to sign.
type Finding struct {
	Type Type
	Ref  string // what it is about, unique under its type
	Ours Item   // terminal, trace, moment and amount
}

// Findings brings the open exceptions of e-cash to what is found now: what is new
// is raised, once by its reference, and what is found no more closes by itself.
// types are those that found speaks of; the others stay. What people have closed
// is not raised again.
func Findings(tx *db.Tx, types []Type, found []Finding) error {
	now := map[string]bool{}
	for i := range found {
		f := &found[i]
		x := Exception{Host: ECashDesk, Day: calendar.Of(f.Ours.At, calendar.Beijing), Type: f.Type, Ours: &f.Ours, Payee: f.Ours.Payee, Ref: string(f.Type) + "/" + f.Ref}
		now[x.Ref] = true
		if _, err := byRef(tx, x.Ref); err == nil {
			continue
		}
		if err := raise(tx, x); err != nil {
			return fmt.Errorf("%s: %w", x.Ref, err)
		}
	}
	for _, t := range types {
		open, err := exceptions(tx, `host = $1 AND type = $2 AND state <> $3 ORDER BY id`, ECashDesk, string(t), string(Closed))
		if err != nil {
			return err
		}
		for _, x := range open {
			if now[x.Ref] {
				continue
			}
			if _, err := step(tx, x, Closed, System, whyGone); err != nil {
				return err
			}
		}
	}
	return nil
}
