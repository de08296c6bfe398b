package tsm_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/card"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm"
	"koala/wallet"
)

// A life drives one wallet, one card and one band through whatever comes, and
// knows only this: no fen is lost or made, an order never leaves its table of
// transitions, and in the end every order ends.
type life struct {
	*house
	rt     *rapid.T
	orders []tsm.Order // the latest seen of each
}

// watch checks every order against what it was before.
func (l *life) watch() {
	for i, was := range l.orders {
		now := l.order(was.ID)
		if was.State.Over() && now.State != was.State {
			l.rt.Fatalf("%s went from %s to %s", was.Kind, was.State, now.State)
		}
		l.orders[i] = now
	}
	v := l.money()
	if v.wallet+v.float+v.deposit != funds {
		l.rt.Fatalf("money: %+v, must sum to %d", v, funds)
	}
	held := int64(0)
	for _, o := range l.orders {
		if o.Kind == tsm.TopUp && !o.State.Over() {
			held += o.Amount.Minor()
		}
	}
	bank := l.product == issuing.ECashCard || l.product == issuing.DebitCard
	if v.held > held || v.held < held && !bank { // a bank holds anew with each request
		l.rt.Fatalf("%d held, open top-ups want %d", v.held, held)
	}
}

func (l *life) place(rt *rapid.T) {
	kind := rapid.SampledFrom([]tsm.Kind{tsm.Issue, tsm.TopUp, tsm.TopUp, tsm.TopUp, tsm.Block, tsm.Unblock, tsm.Delete, tsm.Default, tsm.Update}).Draw(rt, "kind")
	if l.card == "" && kind != tsm.Issue {
		return
	}
	if before := l.card; kind == tsm.Issue {
		if before != "" && !l.state().Over() {
			return
		}
		if v := l.money(); before != "" && v.float != 0 {
			rt.Fatalf("a card that is over still has %d on its float", v.float)
		}
	}
	o, err := l.request(kind, rapid.SampledFrom([]int64{1, 20_00, 300_00, 500_00, 500_01, 0, -1}).Draw(rt, "fen"))
	if err != nil {
		if fail.Of(err).Kind == fail.Broken {
			rt.Fatal(err)
		}
		return
	}
	l.orders = append(l.orders, o)
}

// fault arms one mishap for the band's next contact.
func (l *life) fault(rt *rapid.T) {
	n := rapid.IntRange(1, 25).Draw(rt, "at")
	switch rapid.IntRange(0, 4).Draw(rt, "fault") {
	case 0:
		l.band.cutBefore = n
	case 1:
		l.band.element.LoseAnswer(n)
	case 2:
		l.band.element.Memory().CutAfter(n)
	case 3:
		l.band.mute = true
	case 4:
		l.band.element.PowerOff()
	}
}

func (l *life) contact(rt *rapid.T) {
	l.band.twice = rapid.Bool().Draw(rt, "twice")
	l.band.rerun = rapid.IntRange(0, 5).Draw(rt, "rerun")
	l.band.work(rapid.IntRange(1, 6).Draw(rt, "scripts"))
	l.band.rerun = 0
}

// desk is what customer and staff press.
func (l *life) desk(rt *rapid.T) {
	if len(l.orders) == 0 {
		return
	}
	id := rapid.SampledFrom(l.orders).Draw(rt, "order").ID
	err := l.try(func(tx *db.Tx) (err error) {
		switch rapid.IntRange(0, 2).Draw(rt, "button") {
		case 0:
			_, err = l.tsm.Cancel(tx, id)
		case 1:
			_, err = l.tsm.Verify(tx, id)
		case 2:
			_, err = l.tsm.Recover(tx, id, tsm.TryAgain)
		}
		return err
	})
	if err != nil && !errors.Is(err, tsm.ErrState) {
		rt.Fatal(err)
	}
}

func (l *life) wait(rt *rapid.T) {
	l.now.Advance(rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Minute, 30 * time.Minute}).Draw(rt, "wait"))
	if err := l.tsm.Tick(ctx, l.now.Now()); err != nil {
		rt.Fatal(err)
	}
}

// foreign is another reader that touches the card: it changes nothing, but
// disarms whatever was armed.
func (l *life) foreign(*rapid.T) {
	if !l.band.element.Powered() {
		_ = l.band.element.PowerOn(card.Contactless)
	}
	// A fault may hit it: then it has torn away, and so has whatever was armed.
	if l.card == "" {
		return
	}
	_, _ = l.band.element.Transmit(iso7816.Select([]byte(l.instance())))
	_, _ = l.band.element.Transmit(purse.InitLoad{Purse: purse.EP, Key: 1, Fen: 1}.Command())
}

// end clears all faults and lets everything come to its end.
func (l *life) end() {
	l.band.cutBefore, l.band.mute, l.band.rerun = 0, false, 0
	l.band.element.LoseAnswer(0)
	l.band.element.Memory().CutAfter(0)
	for range 4 {
		l.band.work(0)
		for _, o := range l.orders {
			if now := l.order(o.ID); now.Desk {
				l.do(func(tx *db.Tx) error { _, err := l.tsm.Recover(tx, o.ID, tsm.TryAgain); return err })
			}
		}
	}
	l.watch()
	for _, o := range l.orders {
		if !o.State.Over() {
			l.rt.Fatalf("%s does not end: %s (%s)\n%s", o.Kind, o.State, o.Why, l.log(o.ID))
		}
	}
	if l.card == "" || l.state() == issuing.Blocked {
		return
	}
	v := l.money()
	on, there, open := l.onCard()
	if active := l.state() == issuing.Active; there != active || open != active || on != v.float {
		l.rt.Fatalf("the element has a card: %v, open: %v, with %d; the books say %s with %d", there, open, on, l.state(), v.float)
	}
}

func TestOrdersAlwaysEndWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{house: copied(rt, kindsImage, tsm.Config{Chunk: rapid.SampledFrom([]int{0, 0, 2}).Draw(rt, "chunk")}), rt: rt}
		l.product = rapid.SampledFrom(products).Draw(rt, "product")
		rt.Repeat(map[string]func(*rapid.T){
			"":        func(*rapid.T) { l.watch() },
			"place":   l.place,
			"fault":   l.fault,
			"contact": l.contact,
			"desk":    l.desk,
			"wait":    l.wait,
			"foreign": l.foreign,
		})
		l.end()
	})
}

func TestTransitionsAreATable(t *testing.T) {
	all := []tsm.State{tsm.Placed, tsm.Running, tsm.Unconfirmed, tsm.Done, tsm.Failed, tsm.Cancelled}
	for _, from := range all {
		for _, to := range all {
			may := from.May(to)
			if from.Over() && may {
				t.Errorf("%s is the end, but may go to %s", from, to)
			}
			if to == tsm.Placed && from != tsm.Placed && may {
				t.Errorf("%s may go back to placed", from)
			}
		}
		if from.Words(false) == "" || from.Words(true) == from.Words(false) {
			t.Errorf("%s has no words", from)
		}
	}
}

// TestLimits places top-ups at the edges of the rules.
func TestLimits(t *testing.T) {
	h := plain(t)
	h.issued(0)
	for _, tt := range []struct {
		name  string
		fen   int64
		want  error
		state tsm.State
		why   tsm.Reason
	}{
		{"nothing", 0, tsm.ErrAmount, "", ""},
		{"less than nothing", -1, tsm.ErrAmount, "", ""},
		{"much", 480_00, nil, tsm.Done, ""},
		{"one fen", 1, nil, tsm.Done, ""},
		{"more than at once", 500_01, tsm.ErrOverOnce, "", ""},
		{"more than the wallet has left", 500_00, ledger.ErrInsufficient, "", ""},
	} {
		o, err := h.request(tsm.TopUp, tt.fen)
		if !errors.Is(err, tt.want) {
			t.Fatalf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			h.settle(o, tt.state)
		}
		h.sound()
	}
	h.do(func(tx *db.Tx) error { _, err := wallet.Fund(tx, "more", lin, money.Fen(1000_00)); return err })
	h.settle(h.place(tsm.TopUp, 500_00), tsm.Done)
	o := h.place(tsm.TopUp, 20_00) // 980.01 and 20.00 are one fen over the limit
	h.settle(o, tsm.Failed)
	if got := h.order(o.ID); got.Why != tsm.OverCardLimit {
		t.Errorf("failed for %s, want %s", got.Why, tsm.OverCardLimit)
	}
	h.settle(h.place(tsm.TopUp, 19_99), tsm.Done)
	if v := h.money(); v.float != 1000_00 || v.held != 0 {
		t.Errorf("money: %+v, want 1,000 yuan on the card", v)
	}
}
