package reconcile

import (
	"fmt"

	"koala/calendar"
	"koala/internal/db"
)

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
