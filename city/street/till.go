package street

import (
	"context"
	"errors"

	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// till is a shop's till. Its line to the issuer is the devices' door.
type till struct {
	*pos.Till
	a   *Acceptor
	ctx context.Context // of the visit under way
	pin string
}

func newTill(a *Acceptor) (appliance, error) {
	t := &till{a: a, ctx: context.Background()}
	keys, err1 := a.setup.authorities()
	lists, err2 := a.setup.packs()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var err error
	t.Till, err = pos.New(pos.Config{
		Kernel: pos.Beijing(pos.Shop{TID: a.setup.TID, MID: a.setup.MID, Name: a.Slip, Category: a.Category, Serial: a.setup.TID}, keys),
		Clock:  a.s.clock, Random: a.chance(), Key: lists, Sales: a.flash[0], Denied: a.flash[1], State: a.flash[2],
		Issuer: t.issuer, PIN: t.offlinePIN, OnlinePIN: t.onlinePIN, Record: true,
	})
	return t, err
}

// issuer asks the house. A line that fails is no host.
func (t *till) issuer(request []byte) (kernel.Answer, error) {
	a, err := t.a.s.authorise(t.ctx, t.a, request)
	if err != nil {
		return kernel.Answer{}, errors.Join(kernel.ErrNoHost, err)
	}
	return a, nil
}

func (t *till) offlinePIN(int) (string, bool) { return t.pin, t.pin != "" }

// onlinePIN is the till's PIN pad, which shares the house's zone key.
func (t *till) onlinePIN(pan string) ([]byte, bool) {
	if t.pin == "" {
		return nil, false
	}
	b, err := t.a.s.House().Keys.EncipherPIN(t.ctx, pan, t.pin)
	return b.Block[:], err == nil
}

func (t *till) visit(ctx context.Context, card iso7816.Transmit, w Wish) (Visit, error) {
	t.ctx, t.pin = ctx, w.PIN
	defer func() { t.ctx, t.pin = context.Background(), "" }()
	sale := pos.Sale{Fen: w.Fen, ForceOnline: w.Online, Chosen: w.AID}
	if w.Refund {
		sale.Type = pos.Refund
	}
	serve := t.Tap
	if w.Contact {
		serve = t.Insert
	}
	r, err := serve(card, sale)
	o := &r.Outcome
	v := Visit{Sale: &r, Balance: -1, Took: r.Took, Card: o.PAN, Words: [2]string{o.Words(false), o.Words(true)},
		Receipt: [2][]string{t.Receipt(r, false), t.Receipt(r, true)}}
	if o.Available != nil {
		v.Balance = int64(*o.Available)
	}
	switch {
	case o.Result == kernel.TryAgain:
		v.End = Again
	case o.Reason == kernel.NoRoom:
		v.End = Dark
	case o.Result != kernel.Approved:
		v.End = Refused
	case w.Refund:
		v.End, v.Fen = Returned, int64(w.Fen)
	case o.Online:
		v.End, v.Fen = Online, int64(w.Fen)
	default:
		v.End, v.Fen = Paid, int64(w.Fen)
	}
	return v, err
}

func (t *till) dialogue() []terminal.Exchange { return t.Dialogue() }
func (t *till) waiting() int                  { return t.Waiting() }
func (t *till) release(upto uint32) error     { return t.Release(upto) }

// batch closes the till's day, as often as it hands over.
func (t *till) batch() ([]byte, error) {
	if _, _, err := t.Close(); err != nil {
		return nil, err
	}
	b := t.Batch(pboc.MaxClearingBatch)
	return b.MarshalBinary()
}

func (t *till) doubts() (int, error) { return len(t.Doubts()), nil }

func (t *till) pack() (have uint32, load func([]byte) error) {
	return t.Deny().Version(), t.Deny().Apply
}
