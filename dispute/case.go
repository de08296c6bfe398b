package dispute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
)

// A Claim is what an issuer opens a case with.
type Claim struct {
	Ref    string // the network's number
	Sale   Sale
	Amount money.Amount
	Reason string
	Money  bool      // at once a chargeback; else the receipt is asked for
	At     time.Time // when the issuer raised it
	Why    string    // what the issuer writes
}

// Open opens a case, once per number. The same again returns the case as it
// stands; other content is ErrDiffers. An issuer who comes too late is ErrLate.
func Open(tx *db.Tx, c Claim) (Case, error) {
	x, err := open(tx, c)
	if err != nil {
		return Case{}, fmt.Errorf("dispute %s: %w", c.Ref, err)
	}
	return x, nil
}

func open(tx *db.Tx, c Claim) (Case, error) {
	_, known := ReasonOf(c.Reason)
	if c.Ref == "" || len(c.Ref) > MaxRef || c.Sale.RRN == "" || c.Sale.Payee == "" || c.Sale.Counter == "" || c.Sale.At.IsZero() || !known ||
		c.Amount.Sign() <= 0 || c.Sale.Amount.Currency() != c.Amount.Currency() || c.Amount.Cmp(c.Sale.Amount) > 0 || len(c.Why) > MaxWhy {
		return Case{}, ErrClaim
	}
	old, err := ByRef(tx, c.Ref)
	switch {
	case err == nil && (old.Sale.RRN != c.Sale.RRN || old.Amount != c.Amount):
		return old, ErrDiffers
	case err == nil && old.Reason != c.Reason: // the chargeback behind a request may have brought another
		asked, err := openedAs(tx, old.ID)
		if err == nil && (c.Money || asked != Requested || old.Moves == 0) {
			err = ErrDiffers
		}
		return old, err
	case err == nil || !errors.Is(err, ErrNone):
		return old, err
	}
	active, err := cases(tx, `rrn = $1 AND final = $2 ORDER BY id LIMIT 1`, c.Sale.RRN, false)
	if err == nil && len(active) > 0 {
		err = ErrActive
	}
	if err != nil {
		return Case{}, err
	}
	taken, err := Taken(tx, c.Sale.RRN) // cases before this one ended with the issuer
	if err == nil && taken.Add(c.Amount).Cmp(c.Sale.Amount) > 0 {
		err = ErrClaim
	}
	if err != nil {
		return Case{}, err
	}
	rule, to := RuleAsk, Requested
	if c.Money {
		rule, to = RuleCharge, Charged
	}
	if err := intime(tx, rule, c.Sale.At, c.At); err != nil {
		return Case{}, err
	}
	x := Case{ID: tx.NewID("dsp"), Ref: c.Ref, Sale: c.Sale, Amount: c.Amount, Reason: c.Reason, State: to, Opened: tx.Now(), At: tx.Now()}
	if err := insertCase(tx, x); err != nil {
		return x, err
	}
	return x.enter(tx, "", "issuer", c.Why)
}

// intime refuses an act later than the rule's days after its start.
func intime(tx *db.Tx, r Rule, since, at time.Time) error {
	end, err := deadline(tx, r, since)
	if err == nil && !at.Before(end) {
		err = fmt.Errorf("%s ended %s: %w", r, end.Format(time.RFC3339), ErrLate)
	}
	return err
}

// deadline is the end of the last day of a rule, Beijing.
func deadline(q db.Reader, r Rule, since time.Time) (time.Time, error) {
	days, err := RuleAt(q, r, since)
	return endOf(since, days), err
}

// endOf is the end of the day that is some days after a moment's, Beijing.
func endOf(since time.Time, days int64) time.Time {
	return calendar.Of(since, calendar.Beijing).AddDays(int(days) + 1).Start(calendar.Beijing).UTC()
}

// move brings a case to a state, if the table lets it and its deadline has not
// passed.
func move(tx *db.Tx, id string, to State, who, why string) (Case, error) {
	return moveAt(tx, id, to, who, why, tx.Now())
}

// moveAt is move by what was said at a moment: a file of a day comes later.
func moveAt(tx *db.Tx, id string, to State, who, why string, at time.Time) (Case, error) {
	c, err := Get(tx, id)
	switch {
	case err != nil:
		return c, err
	case who == "" || why == "" || len(why) > MaxWhy:
		return c, fmt.Errorf("dispute %s: %w", id, ErrWhy)
	case !c.State.May(to):
		return c, fmt.Errorf("dispute %s from %s to %s: %w", id, c.State, to, ErrState)
	}
	if err := c.late(tx, to, who, at); err != nil {
		return c, fmt.Errorf("dispute %s: %w", id, err)
	}
	was := c.State
	c.State = to
	return c.enter(tx, was, who, why)
}

// late refuses an act behind its deadline, when Tick has not come round yet. To
// give up or in is never too late, nor is the arbiter; the issuer's chargeback
// is bound by the sale and not by the shop's time to answer.
func (c Case) late(tx *db.Tx, to State, who string, at time.Time) error {
	switch {
	case who == System, to == Withdrawn, to == Accepted, c.State == Arbitration:
		return nil
	case c.State == Requested && to == Charged:
		return intime(tx, RuleCharge, c.Sale.At, at)
	case !c.Due.IsZero() && !at.Before(c.Due):
		return ErrLate
	}
	return nil
}

// due is the rule that bounds each state.
var due = map[State]Rule{Requested: RuleAnswer, Charged: RulePresent, Presented: RuleAgain, Again: RuleFile, Arbitration: RuleDecide}

// enter does what a state does: the money is where it belongs, the deadline is
// set, the step is written down.
func (c Case) enter(tx *db.Tx, was State, who, why string) (_ Case, err error) {
	c.At = tx.Now()
	moved := c.Moves
	switch r, bound := due[c.State]; {
	case c.State == Answered || c.State == Missed: // counts from the sale
		c.Due, err = deadline(tx, RuleCharge, c.Sale.At)
	case bound:
		c.Due, err = deadline(tx, r, c.At)
	default:
		c.Due = time.Time{}
	}
	if err == nil {
		err = c.place(tx)
	}
	if err == nil {
		err = updateCase(tx, c, was)
	}
	if err == nil && c.takes() != (Case{State: was, Moves: moved}).takes() {
		err = c.tell(tx)
	}
	if err == nil {
		err = insertEvent(tx, c.ID, Event{At: c.At, Who: who, Was: was, Is: c.State, Why: why})
	}
	if err == nil {
		err = outbox.Put(tx, outbox.Event{Name: "dispute." + string(c.State), Subject: c.ID, Data: map[string]string{"shop": c.Sale.Payee, "rrn": c.Sale.RRN, "next": string(c.State.Next())}})
	}
	if err != nil {
		return c, fmt.Errorf("dispute %s to %s: %w", c.ID, c.State, err)
	}
	return c, nil
}

// place moves the disputed money to where the state has it, and holds it at the
// shop while the issuer may come again. In arbitration it stays where it was.
// The fee of the sale is neither given back nor asked for again.
func (c *Case) place(tx *db.Tx) error {
	issuer, held := c.WithIssuer(), c.Held
	switch c.State {
	case Charged, Again, Lost, Accepted:
		issuer, held = true, false
	case Presented:
		issuer, held = false, true
	case Requested, Answered, Missed, Resting, Won, Withdrawn:
		issuer, held = false, false
	}
	if c.Held && !held {
		if err := settlement.Release(tx, c.holdID()); err != nil && !errors.Is(err, settlement.ErrHold) { // staff ended it before
			return err
		}
	}
	if issuer != c.WithIssuer() {
		c.Moves++
		from, to, kind, sign := settlement.Payable(c.Sale.Payee), c.Sale.Counter, settlement.Chargeback, money.Amount.Neg
		if !issuer {
			from, to, kind, sign = to, from, Returned, func(a money.Amount) money.Amount { return a }
		}
		ref := fmt.Sprintf("dispute:%s:%d", c.ID, c.Moves)
		e := ledger.Move(ref, from, to, c.Amount)
		e.Kind, e.Text = kind, string(c.State)+" "+c.Ref
		if err := c.post(tx, e, from, to); err != nil {
			return err
		}
		if err := settlement.Capture(tx, settlement.Item{Ref: ref, Payee: c.Sale.Payee, Amount: sign(c.Amount), At: c.At, Kind: kind, Issuer: c.Sale.Issuer, Sale: "sale:" + c.Sale.RRN}); err != nil {
			return err
		}
		if err := insertMove(tx, c, sign(c.Amount).Minor()); err != nil {
			return err
		}
	}
	if held && !c.Held {
		_, err := settlement.PutHold(tx, settlement.Hold{ID: c.holdID(), Payee: c.Sale.Payee, Reason: settlement.ForDispute, Amount: c.Amount, Text: c.Ref})
		if err != nil {
			return err
		}
	}
	c.Held = held
	return nil
}

// Returned is the kind of an item that gives a chargeback back to the shop.
const Returned = "chargeback_returned"

// holdID names the hold of the present round.
func (c *Case) holdID() string { return fmt.Sprintf("dispute:%s:%d", c.ID, c.Moves) }

// Send says that the receipt went to the issuer; pack is the hash of what Gather
// made and Keep kept.
func Send(tx *db.Tx, id, who, why string) (Case, error) {
	if err := packed(tx, id); err != nil {
		return Case{}, err
	}
	return move(tx, id, Answered, who, why)
}

// packed refuses a case whose evidence nobody gathered.
func packed(tx *db.Tx, id string) error {
	c, err := Get(tx, id)
	if err == nil && c.Pack == "" {
		err = fmt.Errorf("dispute %s: %w", id, ErrEvidence)
	}
	return err
}

// ChargeBack is the issuer's chargeback behind a request for the receipt.
func ChargeBack(tx *db.Tx, id, reason, why string) (Case, error) {
	return chargeBack(tx, id, reason, why, tx.Now())
}

func chargeBack(tx *db.Tx, id, reason, why string, at time.Time) (Case, error) {
	c, err := Get(tx, id)
	if err != nil {
		return c, err
	}
	if _, known := ReasonOf(reason); !known {
		return c, fmt.Errorf("dispute %s: %w", id, ErrClaim)
	}
	if err := setReason(tx, id, reason); err != nil {
		return c, err
	}
	return moveAt(tx, id, Charged, "issuer", why, at)
}

// Accept gives the money to the cardholder: the shop or the desk gives in.
func Accept(tx *db.Tx, id, who, why string) (Case, error) { return move(tx, id, Accepted, who, why) }

// Represent asks the issuer for the money again, with the evidence kept. The
// shop has it meanwhile, but it is held.
func Represent(tx *db.Tx, id, who, why string) (Case, error) {
	if err := packed(tx, id); err != nil {
		return Case{}, err
	}
	return move(tx, id, Presented, who, why)
}

// ChargeAgain is the issuer's second chargeback, where the card may have one.
func ChargeAgain(tx *db.Tx, id, why string) (Case, error) {
	return chargeAgain(tx, id, why, tx.Now())
}

func chargeAgain(tx *db.Tx, id, why string, at time.Time) (Case, error) {
	c, err := Get(tx, id)
	if err != nil {
		return c, err
	}
	rule := RuleRounds
	if c.Sale.Class == "debit" {
		rule = RuleDebit
	}
	if n, err := RuleAt(tx, rule, c.Sale.At); err != nil || n < 2 {
		return c, fmt.Errorf("dispute %s: %w", id, errors.Join(err, ErrRounds))
	}
	return moveAt(tx, id, Again, "issuer", why, at)
}

// File brings a case before the arbiter: ours against a second chargeback, the
// issuer's against a representment.
func File(tx *db.Tx, id, who, why string) (Case, error) { return move(tx, id, Arbitration, who, why) }

// Decide is the arbiter's word.
func Decide(tx *db.Tx, id string, shop bool, why string) (Case, error) {
	c, err := Get(tx, id)
	if err == nil && c.State != Arbitration {
		err = fmt.Errorf("dispute %s in state %s: %w", id, c.State, ErrState)
	}
	if err != nil {
		return c, err
	}
	if shop {
		return move(tx, id, Won, "arbiter", why)
	}
	return move(tx, id, Lost, "arbiter", why)
}

// Withdraw is the issuer giving up, whenever.
func Withdraw(tx *db.Tx, id, why string) (Case, error) {
	return move(tx, id, Withdrawn, "issuer", why)
}

// missedTo is where a missed deadline takes a case; in arbitration the money
// stays where it is.
func missedTo(c Case) State {
	switch c.State {
	case Requested:
		return Missed
	case Answered, Missed:
		return Resting
	case Presented:
		return Won
	case Arbitration:
		if !c.WithIssuer() {
			return Won
		}
	}
	return Lost
}

// Lapses is the state that a missed deadline takes a case to.
func (c Case) Lapses() State { return missedTo(c) }

// heardBy is how long after an issuer's deadline its word may still come in: the
// file of the last day comes the day after, behind a holiday later.
const heardBy = 3 * 24 * time.Hour

// over says that a deadline has passed at now: of an issuer when no word of before
// it can come any more.
func (c Case) over(now time.Time) bool {
	if c.State.Next() == Issuer {
		now = now.Add(-heardBy)
	}
	return !c.State.Final() && !c.Due.IsZero() && !c.Due.After(now)
}

// tickPage is how many cases Tick reads at a time.
const tickPage = 200

// Tick moves the cases whose deadline has passed at now and says how many. Each
// has a unit of its own: one that cannot move keeps no other from it.
func Tick(ctx context.Context, store *db.Store, now time.Time) (n int, err error) {
	var failed []error
	for last := (Case{}); ; {
		var over []Case
		err := store.Read(ctx, func(q *db.Query) (err error) {
			over, err = cases(q, `final = $1 AND due > 0 AND due <= $2 AND (due > $3 OR due = $3 AND id > $4) ORDER BY due, id LIMIT $5`,
				false, now.UnixMicro(), micros(last.Due), last.ID, tickPage)
			return err
		})
		if err != nil {
			return n, errors.Join(append(failed, err)...)
		}
		for _, last = range over {
			moved := false
			err := store.Write(ctx, func(tx *db.Tx) (err error) {
				moved, err = miss(tx, last.ID, now)
				return err
			})
			if failed = append(failed, err); moved && err == nil {
				n++
			}
		}
		if len(over) < tickPage {
			return n, errors.Join(failed...)
		}
	}
}

// miss moves a case whose deadline has passed, if nobody has moved it meanwhile.
func miss(tx *db.Tx, id string, now time.Time) (bool, error) {
	c, err := Get(tx, id)
	if err != nil || !c.over(now) {
		return false, err
	}
	_, err = move(tx, id, missedTo(c), System, fmt.Sprintf(whyMissed, c.Due.In(calendar.Beijing).Format("2006-01-02 15:04")))
	return err == nil, err
}

// Answer keeps what the shop says about a case, with its documents. It may say
// more than once, until the case is decided.
func Answer(tx *db.Tx, id, who, text string) error {
	c, err := Get(tx, id)
	switch {
	case err != nil:
		return err
	case who == "" || text == "" || len(text) > MaxWhy:
		return fmt.Errorf("dispute %s: %w", id, ErrWhy)
	case c.State.Final():
		return fmt.Errorf("dispute %s: %w", id, ErrState)
	}
	return insertEvent(tx, id, Event{At: tx.Now(), Who: who, Was: c.State, Is: c.State, Why: text})
}
