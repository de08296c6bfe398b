package pos

import (
	"fmt"
	"io"
	"time"

	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
)

// Transaction types, tag 9C. Load is from the card's own account.
const (
	Goods  = 0x00
	Refund = 0x20
	Load   = 0x60
)

// A Sale is what the cashier keys in.
type Sale struct {
	Fen         uint64
	Type        byte // Goods or Refund
	ForceOnline bool
	Chosen      []byte // AID the customer chose, inserted cards only; nil: the card's priority decides
}

// A Result is what a transaction came to.
type Result struct {
	Outcome kernel.Outcome
	Sale    Sale
	STAN    uint32
	Batch   uint32
	At      time.Time
	// Record is what the till tells the host of it, nil when there is nothing
	// to tell: a sale, a refund, or the reversal of a payment for nothing.
	Record *Numbered
	Took   time.Duration // by the model
}

// Tap serves a card held to the reader. The error is for the device, never
// for the card: after ErrPower the till is dead.
func (t *Till) Tap(card iso7816.Transmit, s Sale) (Result, error) {
	return t.serve(card, s, terminal.Air{Rate: t.meter.Rate}, t.k.Tap)
}

// Insert serves a card in the contact reader.
func (t *Till) Insert(card iso7816.Transmit, s Sale) (Result, error) {
	return t.serve(card, s, terminal.T0{}, t.k.Insert)
}

type runner func(iso7816.Transmit, kernel.Transaction, kernel.Seams) (kernel.Outcome, error)

func (t *Till) serve(card iso7816.Transmit, s Sale, link terminal.Link, run runner) (Result, error) {
	res := Result{Sale: s, At: t.cfg.Clock.Now(), Batch: t.book.batch}
	if err := t.shelf.Room(); err != nil {
		if !terminal.NoRoom(err) {
			return res, t.failed(err)
		}
		res.Outcome = kernel.Outcome{Result: kernel.EndApplication, Reason: kernel.NoRoom}
		return res, nil
	}
	x, err := t.transaction(s, res.At)
	if err != nil {
		return res, t.failed(err)
	}
	res.STAN = x.Sequence
	card = t.meter.Begin(link, card)
	a := &act{t: t, sale: s, stan: x.Sequence, at: res.At}
	res.Outcome, err = run(card, x, a.seams())
	res.Took = t.meter.Took
	if err == nil {
		err = a.finish(&res)
	}
	if err != nil {
		return res, t.failed(err)
	}
	return res, nil
}

func (t *Till) failed(err error) error {
	return fmt.Errorf("pos %s: %w", t.cfg.Kernel.TerminalID, err)
}

// transaction draws what a transaction needs of chance and counters.
func (t *Till) transaction(s Sale, at time.Time) (kernel.Transaction, error) {
	stan, err := t.book.stan()
	if err != nil {
		return kernel.Transaction{}, err
	}
	var chance [5]byte
	if _, err := io.ReadFull(t.cfg.Random, chance[:]); err != nil {
		return kernel.Transaction{}, fmt.Errorf("chance: %w", err)
	}
	return kernel.Transaction{
		Fen: s.Fen, Type: s.Type, At: at, Unpredictable: [4]byte(chance[:4]), Random: chance[4] % 100, Sequence: stan,
		ForceOnline: s.ForceOnline || s.Type == Refund, Chosen: s.Chosen,
	}, nil
}

// An act is one transaction under way at a till.
type act struct {
	t         *Till
	sale      Sale
	stan      uint32
	at        time.Time
	begun     string // key of the intent on the shelf, empty when there is none
	recovered *Numbered
}

func (a *act) seams() kernel.Seams {
	s := kernel.Seams{
		Listed: a.t.listed, Commit: a.commit, Doubt: a.t.doubt, Settle: a.settle, Online: a.online,
		PIN: a.t.cfg.PIN, OnlinePIN: a.t.cfg.OnlinePIN, Choose: a.t.cfg.Choose,
	}
	if a.t.cfg.Issuer != nil {
		s.Issuer = a.t.cfg.Issuer
	}
	return s
}

// commit keeps an offline approval before the card is told to commit it.
func (a *act) commit(o *kernel.Outcome) error {
	a.t.meter.Took += commitPages * a.t.meter.Costs.Page
	return a.begin(o, pboc.ClearSale)
}

// online keeps what the host is about to be asked.
func (a *act) online(o *kernel.Outcome) error { return a.begin(o, pboc.ClearOnline) }

func (a *act) begin(o *kernel.Outcome, kind pboc.ClearingKind) error {
	if err := a.drop(); err != nil { // a contact card was asked offline and wants the host
		return err
	}
	c, err := a.t.clearing(o, kind, a.stan)
	if err != nil { // what the card says of itself fits no record
		return kernel.Refuse(kernel.CardError)
	}
	wire, err := c.MarshalBinary()
	if err != nil {
		return err
	}
	if err := a.t.shelf.Begin(wire); err != nil {
		return err
	}
	a.begun = c.Key()
	return nil
}

// drop takes the intent back: nothing came of it.
func (a *act) drop() error {
	key := a.begun
	if a.begun = ""; key == "" {
		return nil
	}
	return a.t.shelf.Settle(key)
}

// finish brings a transaction's outcome to where it stays: approvals and
// payments for nothing into the store, the rest away.
func (a *act) finish(res *Result) error {
	o := &res.Outcome
	if o.Result == kernel.OnlineRequest {
		if err := a.askHost(o); err != nil {
			return err
		}
	}
	switch {
	case o.Reason == kernel.Recovered:
		res.Record = a.recovered
		if a.recovered != nil {
			res.STAN, res.Batch = a.recovered.STAN, a.recovered.Batch
		}
		return nil
	case o.Result == kernel.Approved:
		return a.keep(res, a.kind(o))
	case o.Committed && o.Result == kernel.TryAgain:
		return nil // the intent stays until the card comes back
	case o.Committed:
		return a.keep(res, pboc.ClearReversal)
	case o.Online && approves(o.ARC), o.Reason == kernel.NoHost && a.begun != "":
		return a.keep(res, pboc.ClearCancel)
	}
	return a.drop()
}

func approves(arc string) bool { return kernel.Answer{ARC: arc}.Approves() }

// kind is what an approval is recorded as.
func (a *act) kind(o *kernel.Outcome) pboc.ClearingKind {
	switch {
	case a.sale.Type == Refund:
		return pboc.ClearRefund
	case o.Online:
		return pboc.ClearOnline
	}
	return pboc.ClearSale
}

// askHost finishes a contactless request. The host's approval of what the
// till forgot by a power failure is reversed at the next start.
func (a *act) askHost(o *kernel.Outcome) error {
	if a.t.cfg.Issuer == nil {
		o.Answered(kernel.Answer{}, kernel.ErrNoHost)
		return nil
	}
	if _, err := a.t.clearing(o, pboc.ClearOnline, a.stan); err != nil {
		o.Result, o.Reason = kernel.Declined, kernel.CardError
		return nil
	}
	if err := a.online(o); err != nil {
		return err
	}
	answer, err := a.t.cfg.Issuer(o.Request())
	o.Answered(answer, err)
	return nil
}

// keep puts a record into the store and takes the intent it came of away.
func (a *act) keep(res *Result, kind pboc.ClearingKind) error {
	c, err := a.t.clearing(&res.Outcome, kind, a.stan)
	if err != nil {
		return err
	}
	if res.Record, err = a.t.keep(c); err != nil {
		return err
	}
	if c.Key() == a.begun {
		a.begun = ""
	}
	return a.drop()
}

// keep stores a record; the same again gets the number it has.
func (t *Till) keep(c pboc.Clearing) (*Numbered, error) {
	wire, err := c.MarshalBinary()
	if err != nil {
		return nil, err
	}
	n, err := t.shelf.Keep(wire)
	if err != nil {
		return nil, err
	}
	return &Numbered{n, c}, nil
}

// Reverse takes back a sale of the open batch whose goods were not given: the
// card's money goes back by way of its issuer. The record keeps the sale's
// trace number.
func (t *Till) Reverse(stan uint32) (Numbered, error) {
	c, open, err := t.find(t.book.batch, stan)
	if err == nil && !open {
		err = ErrNoSale
	}
	if err != nil {
		return Numbered{}, fmt.Errorf("STAN %06d: %w", stan, err)
	}
	return t.takeBack(undo(c))
}

// TakeBack refunds a whole sale of a batch that is closed and not yet released:
// the goods came back, and the money goes to the card's account. The card is
// not needed. The record is a transaction of the open batch.
func (t *Till) TakeBack(batch, stan uint32) (Numbered, error) {
	c, open, err := t.find(batch, stan)
	if err == nil && open {
		err = ErrOpen // Reverse is for those
	}
	if err != nil {
		return Numbered{}, fmt.Errorf("batch %06d STAN %06d: %w", batch, stan, err)
	}
	back := as(c, pboc.ClearRefund)
	if _, ok := t.shelf.Kept(back.Key()); !ok {
		if back.STAN, err = t.book.stan(); err != nil {
			return Numbered{}, t.failed(err)
		}
		back.Batch = t.book.batch
	}
	return t.takeBack(back)
}

// find looks for a sale by its numbers; open says that its batch is.
func (t *Till) find(batch, stan uint32) (c pboc.Clearing, open bool, err error) {
	for _, item := range t.shelf.Batch(t.shelf.Waiting()) {
		c := parsed(item.Wire)
		sold := c.Kind == pboc.ClearSale || c.Kind == pboc.ClearOnline
		if sold && c.Type == Goods && c.Batch == batch && c.STAN == stan {
			return c, item.Number >= t.book.first, nil
		}
	}
	return pboc.Clearing{}, false, ErrNoSale
}

// takeBack keeps a record that undoes a sale, once.
func (t *Till) takeBack(back pboc.Clearing) (Numbered, error) {
	if n, ok := t.shelf.Kept(back.Key()); ok {
		return Numbered{n, back}, fmt.Errorf("STAN %06d: %w", back.STAN, ErrReversed)
	}
	if err := t.shelf.Room(); err != nil {
		return Numbered{}, t.failed(err)
	}
	n, err := t.keep(back)
	if err != nil {
		return Numbered{}, t.failed(err)
	}
	return *n, nil
}
