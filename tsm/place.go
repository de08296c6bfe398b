package tsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/desfire"
	"koala/wallet"
)

// walletOf is the ledger account a card's top-ups come from.
func walletOf(c issuing.Card) ledger.AccountID { return wallet.Account(c.Customer) }

// Register makes a band known and orders that its factory keys be replaced by
// keys of its own. The same band for the same owner again changes nothing.
func (m *Manager) Register(tx *db.Tx, band, owner string) error {
	if band == "" || len(band) > MaxBand || owner == "" {
		return fmt.Errorf("band %q: %w", band, ErrRequest)
	}
	fresh, err := insertBand(tx, band, owner)
	if err != nil {
		return fmt.Errorf("band %s: %w", band, err)
	}
	if !fresh {
		b, err := BandOf(tx, band)
		if err == nil && b.Owner != owner {
			err = ErrBandTaken
		}
		if err != nil {
			return fmt.Errorf("band %s: %w", band, err)
		}
		return nil
	}
	_, err = m.Place(tx, Request{Ref: "adopt:" + band, Kind: Adopt, Band: band, Customer: owner})
	return err
}

// Place puts an order into the books. The same reference again gives the same
// order, another body under it is ErrDiffers. A card has one order at a time.
// A top-up's money is held from this moment on.
func (m *Manager) Place(tx *db.Tx, r Request) (Order, error) {
	o, err := m.place(tx, r)
	if err != nil {
		return Order{}, fmt.Errorf("placing %s %s: %w", r.Kind, r.Ref, err)
	}
	return o, nil
}

func (m *Manager) place(tx *db.Tx, r Request) (Order, error) {
	if r.Ref == "" || len(r.Ref) > MaxRef || r.Band == "" || len(r.Band) > MaxBand || walks[r.Kind] == nil {
		return Order{}, ErrRequest
	}
	if needs := r.Kind != Adopt && r.Kind != SAM; needs != (r.Card != "") || (r.Kind == SAM) != (r.SAM != nil) || (r.Kind == Update) != (r.Update != nil) {
		return Order{}, ErrRequest
	}
	if r.Update != nil {
		if err := r.Update.check(); err != nil {
			return Order{}, err
		}
	}
	if o, err := orderByRef(tx, r.Ref); err == nil {
		if o.Kind != r.Kind || o.Band != r.Band || o.Card != r.Card || o.Amount.Minor() != r.Amount.Minor() {
			return Order{}, ErrDiffers
		}
		return o, nil
	} else if !errors.Is(err, ErrNotFound) {
		return Order{}, err
	}
	b, err := BandOf(tx, r.Band)
	if err != nil {
		return Order{}, err
	}
	if !b.Lost.IsZero() && !r.behind && r.Kind != Block && r.Kind != Adopt {
		return Order{}, ErrLost
	}
	if !b.Adopted && (r.Kind == Issue || r.Kind == SAM) {
		if err := m.readopt(tx, b); err != nil {
			return Order{}, err
		}
	}
	o := Order{
		ID: tx.NewID("ord"), Ref: r.Ref, Kind: r.Kind, Band: r.Band, Card: r.Card, Customer: r.Customer, Amount: r.Amount,
		State: Placed, Phase: PhaseWait, Placed: tx.Now(), Changed: tx.Now(), Deadline: tx.Now().Add(waitOf(r.Kind)), seq: -1,
	}
	switch {
	case r.SAM != nil:
		o.data = r.SAM.bytes()
	case r.Update != nil:
		o.data = r.Update.bytes()
	}
	if r.Card != "" {
		if err := admit(tx, &o, r); err != nil {
			return Order{}, err
		}
	}
	if err := insertOrder(tx, o); err != nil {
		return Order{}, err
	}
	return o, m.tell(tx, o)
}

// readopt orders the adoption of a band again whose first order for it ended
// before the band came. Orders of a band are carried out in their order.
func (m *Manager) readopt(tx *db.Tx, b Band) error {
	under, err := orders(tx, `band = $1 AND kind = $2 AND open`, b.ID, Adopt)
	if err != nil || len(under) > 0 {
		return err
	}
	_, err = m.place(tx, Request{Ref: tx.NewID("adopt"), Kind: Adopt, Band: b.ID, Customer: b.Owner})
	return err
}

// admit checks an order against its card and does what the kind does at once.
func admit(tx *db.Tx, o *Order, r Request) error {
	c, err := issuing.Get(tx, o.Card)
	if err != nil {
		return err
	}
	if c.Band != o.Band || o.Customer != "" && string(c.Customer) != o.Customer {
		return ErrRequest
	}
	o.Customer, o.CardKind = string(c.Customer), c.Kind
	if c.Kind.Shared() {
		o.instance = c.Instance
	}
	if r.behind { // it waits for the card's earlier orders, and looks then
		return nil
	}
	if busy, err := openFor(tx, o.Card); err != nil || busy {
		return errors.Join(err, cond(busy, ErrBusy))
	}
	switch o.Kind {
	case Issue:
		if o.Amount.IsZero() || c.State != issuing.Ordered {
			return cond(c.State != issuing.Ordered, issuing.ErrState)
		}
		return holdMoney(tx, *o, c)
	case TopUp:
		switch {
		case c.State != issuing.Active:
			return issuing.ErrState
		case c.Kind.Bank():
			return admitCash(tx, o)
		case !c.Kind.Money():
			return issuing.ErrKind
		}
		return admitTopUp(tx, *o, c, r.follows)
	case Default, Update:
		if !c.Kind.Bank() {
			return issuing.ErrKind
		}
		if r.Update != nil && r.Update.told() {
			if own, err := checksPIN(tx, c); err != nil || !own {
				return errors.Join(err, cond(!own, issuing.ErrKind))
			}
		}
		return cond(c.State != issuing.Active, issuing.ErrState)
	case Block:
		return cond(c.State != issuing.Active, issuing.ErrState)
	case Unblock:
		return cond(c.State != issuing.Blocked, issuing.ErrState)
	case Delete:
		return issuing.BeginReturn(tx, o.Card)
	}
	return ErrRequest
}

// checksPIN tells whether a card checks its PIN by itself. Of any other the PIN
// is the bank's alone (issuing.Bank.SetPIN), and no script changes it.
func checksPIN(tx *db.Tx, c issuing.Card) (bool, error) {
	p, err := issuing.ProductOn(tx, c.Product, c.Opened)
	if err != nil {
		return false, err
	}
	t, err := issuing.TemplateOf(tx, p.Template)
	if err != nil {
		return false, err
	}
	var d issuing.BankData
	err = json.Unmarshal(t.Data, &d)
	return d.OfflinePIN, err
}

func cond(bad bool, err error) error {
	if bad {
		return err
	}
	return nil
}

// admitTopUp applies the product's limits of today and holds the money. What is
// on the card is checked when the card says it.
func admitTopUp(tx *db.Tx, o Order, c issuing.Card, follows bool) error {
	p, err := issuing.ProductOn(tx, c.Product, tx.Now())
	switch {
	case err != nil:
		return err
	case o.Amount.Sign() <= 0 || o.Amount.Currency() != money.CNY || o.Amount.Cmp(p.MinLoad) < 0:
		return ErrAmount
	case !follows && o.Amount.Cmp(mostOf(c, p.MaxLoad)) > 0:
		return ErrOverOnce
	case o.Amount.Cmp(mostOf(c, p.MaxBalance)) > 0:
		return ErrOverCard
	}
	return holdMoney(tx, o, c)
}

// mostOf bounds a limit of the product by what a card of the kind can hold.
func mostOf(c issuing.Card, limit money.Amount) money.Amount {
	if c.Kind == issuing.Canteen && (limit.IsZero() || limit.Minor() > desfire.CanteenLimit) {
		return money.Fen(desfire.CanteenLimit)
	}
	return limit
}

// admitCash places the load with the issuing bank, which holds the money.
func admitCash(tx *db.Tx, o *Order) error {
	if o.Amount.Sign() <= 0 || o.Amount.Currency() != money.CNY {
		return ErrAmount
	}
	l, err := issuing.PlaceLoad(tx, o.ID, o.Card, o.Amount)
	o.data = []byte(l.ID)
	if errors.Is(err, issuing.ErrAmount) {
		err = ErrOverOnce
	}
	return err
}

// Cancel gives an order up on the customer's wish. Where nothing irrevocable is
// out it ends at once; otherwise it ends as soon as the element has proven that
// nothing happened, and if it did happen the order is done after all.
func (m *Manager) Cancel(tx *db.Tx, id string) (Order, error) {
	o, err := orderByID(tx, id)
	switch {
	case err != nil:
	case o.State.Over():
		err = ErrState
	case m.untouched(o):
		err = m.apply(tx, withoutScript(o), verdict{state: Cancelled, why: Given})
	default:
		o.Stop, o.Why = true, Given
		err = m.save(tx, &o)
	}
	if err != nil {
		return Order{}, fmt.Errorf("cancelling order %s: %w", id, err)
	}
	return orderByID(tx, id)
}

// untouched tells whether nothing that changes the element has left the house.
func (m *Manager) untouched(o Order) bool {
	switch {
	case o.State == Placed:
		return true
	case o.Kind == TopUp:
		return o.seq < 0 // MAC2 is made and bound in one unit
	}
	return false
}

func withoutScript(o Order) Order {
	o.script = ""
	return o
}

// Verify is the customer's "what became of it?": a script that nobody reported
// is given up, so that the next contact with the band reads the element.
func (m *Manager) Verify(tx *db.Tx, id string) (Order, error) {
	o, err := orderByID(tx, id)
	switch {
	case err != nil:
	case o.State != Running && o.State != Unconfirmed:
		err = ErrState
	case o.script != "":
		err = m.apply(tx, withoutScript(o), silent(o))
	}
	if err != nil {
		return Order{}, fmt.Errorf("verifying order %s: %w", id, err)
	}
	return orderByID(tx, id)
}

// silent is the verdict on a script that was not reported in time.
func silent(o Order) verdict {
	if o.Kind == TopUp && o.seq < 0 || o.harmless() {
		return verdict{state: Running, why: Silent} // nothing irrevocable was in it
	}
	return verdict{state: Unconfirmed, why: Silent, desk: o.Desk}
}

// harmless tells whether the order's commands may be given up at any point: what
// they do is whole at each, and may be done again.
func (o Order) harmless() bool {
	return o.Kind == Adopt || o.Kind == Default || o.Kind == Update && o.seq < 0
}

// A Decision is what staff make of an order that cannot go on by itself.
type Decision string

const (
	TryAgain Decision = "again"    // ask the element once more
	Happened Decision = "happened" // a top-up: the money is on the card
	Nothing  Decision = "nothing"  // nothing happened: give the money back, end the order
)

// Recover carries out what staff decided about an order waiting at the desk.
// The caller keeps the audit row: who, why, on what evidence.
func (m *Manager) Recover(tx *db.Tx, id string, d Decision) (Order, error) {
	o, err := orderByID(tx, id)
	switch {
	case err != nil:
	case !o.Desk || o.State.Over():
		err = ErrState
	case d == TryAgain:
		err = m.apply(tx, withoutScript(o), verdict{state: o.State, why: o.Why, set: func(o *Order) { o.Stalled = 0 }})
	case d == Happened && (o.Kind == TopUp || o.Kind == Issue) && o.seq >= 0:
		err = m.apply(tx, withoutScript(o), m.ruledPaid(o))
	case d == Nothing:
		err = m.apply(tx, withoutScript(o), ruledNothing(o))
	default:
		err = ErrRequest
	}
	if err != nil {
		return Order{}, fmt.Errorf("recovering order %s: %w", id, err)
	}
	return orderByID(tx, id)
}

func (m *Manager) ruledPaid(o Order) verdict {
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		if o.CardKind.Bank() {
			_, err := issuing.RuleLoad(tx, string(o.data), true)
			return err
		}
		if err := settleLoad(tx, o.Card, o.seq, o.ID, loadPaid, nil); err != nil {
			return err
		}
		_, err := ledger.Capture(tx, holdOf(o), "load:"+o.ID, o.Amount, true)
		return err
	}}
}

func ruledNothing(o Order) verdict {
	v := verdict{state: Failed, why: ByStaff}
	if o.seq >= 0 {
		v.effect = func(tx *db.Tx) error {
			if o.Kind == Update {
				return nil // the bank goes on with the old PIN
			}
			if o.CardKind.Bank() {
				_, err := issuing.RuleLoad(tx, string(o.data), false)
				return err
			}
			return settleLoad(tx, o.Card, o.seq, o.ID, loadUnused, nil)
		}
		v.set = func(o *Order) { o.seq = -1 }
	}
	return v
}

// Tick looks at every open order whose time has come. It may be called at any
// moment and as often as one likes.
func (m *Manager) Tick(ctx context.Context, now time.Time) error {
	if err := m.followMoves(ctx, now); err != nil {
		return err
	}
	var due []Order
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		due, err = orders(q, `deadline <= $1 AND open AND desk = $2 ORDER BY deadline, id LIMIT $3`, now.UnixMicro(), false, maxPage)
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for orders due: %w", err)
	}
	for _, o := range due {
		err := m.store.Write(ctx, func(tx *db.Tx) error { return m.apply(tx, withoutScript(o), overdue(o)) })
		if err != nil && !errors.Is(err, ErrMoved) {
			return fmt.Errorf("order %s is due: %w", o.ID, err)
		}
	}
	return nil
}

// waitOf is how long a placed order waits for its band.
func waitOf(k Kind) time.Duration {
	if k == Block {
		return blockTime
	}
	return orderTime
}

// overdue is the verdict of the clock.
func overdue(o Order) verdict {
	switch {
	case o.script != "":
		return silent(o)
	case o.Why == NoPIN:
		return verdict{state: Failed, why: NoPIN}
	case o.State == Placed, o.Kind == TopUp && o.seq < 0, o.Kind == Default, o.Kind == Update && o.seq < 0:
		return verdict{state: Failed, why: NeverCame}
	}
	return verdict{state: Unconfirmed, why: NeverCame, desk: true}
}
