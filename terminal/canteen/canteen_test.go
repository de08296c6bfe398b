package canteen_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/card"
	"koala/internal/clock"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/canteen"
	"koala/terminal/terminaltest"
)

var lunch = canteen.Order{Dishes: []byte{1, 2}} // 15.01 yuan, the employer pays 7.50

func TestLunch(t *testing.T) {
	now := clock.NewVirtual(noon)
	x, c := newEater(t, uid, 50_00), newCounter(t, number, now)
	o := c.sell(x, lunch)
	want(t, "lunch", o, canteen.Served, canteen.NoReason)
	if o.Fen != 751 || o.Subsidy != 750 || o.Balance != 4249 || !o.InTime() {
		t.Errorf("%+v", o)
	}
	t.Logf("took %v by the model", o.Took)
	if got := o.Display(true); !reflect.DeepEqual(got, []string{"谢谢", "金额 7.51 元", "餐补 7.50 元", "余额 42.49 元"}) {
		t.Errorf("%q", got)
	}
	if s := o.Sale; s.Seq != 1 || s.Before != 5000 || s.After != 4249 || s.Meal != 2 || s.Verify(c.cfg.Sales) != nil {
		t.Errorf("%+v", s)
	}
	now.Advance(10 * time.Minute)
	o = c.sell(x, canteen.Order{Dishes: []byte{2}})
	want(t, "second soup, at the full price", o, canteen.Served, canteen.NoReason)
	if o.Fen != 301 || o.Subsidy != 0 {
		t.Errorf("%+v", o)
	}
	now.Advance(3 * time.Hour)
	o = c.sell(x, canteen.Order{Fen: 500})
	want(t, "between meals", o, canteen.Served, canteen.NoReason)
	if o.Fen != 500 || o.Sale.Meal != 0 {
		t.Errorf("%+v", o)
	}
	if _, err := c.visit(x, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Sell(send, lunch) }); !errors.Is(err, canteen.ErrDish) {
		t.Errorf("a dish of another meal: %v", err)
	}
	now.Advance(21 * time.Hour)
	if o = c.sell(x, lunch); o.Subsidy != 750 {
		t.Errorf("the next day: %+v", o)
	}
	value, log := x.holds()
	if value != 5000-751-301-500-751 || len(log) != 4 || log[0].Fen != 751 || log[0].Till != number || log[3].Seq != 4 {
		t.Errorf("%d %+v", value, log)
	}
	if fen, n := c.collected(uid); fen != 5000-int64(value) || n != 4 {
		t.Errorf("%d in %d", fen, n)
	}
}

func TestRefusals(t *testing.T) {
	now := clock.NewVirtual(noon)
	x, c := newEater(t, uid, 7_50), newCounter(t, number, now)
	want(t, "too little", c.sell(x, lunch), canteen.Refused, canteen.NoMoney)
	want(t, "nothing", c.sell(x, canteen.Order{}), canteen.Refused, canteen.BadAmount)
	want(t, "too much", c.sell(x, canteen.Order{Fen: 50_001}), canteen.Refused, canteen.BadAmount)
	want(t, "nothing to give back", c.refund(x, 0), canteen.Refused, canteen.NoPurchase)
	denied := menu()
	denied.Version, denied.Denied = 2, []desfire.Denial{{Card: uid, Reason: 1}}
	c.load(denied)
	want(t, "lost card", c.sell(x, canteen.Order{Fen: 100}), canteen.Refused, canteen.Denied)
	other := newCounter(t, number, now)
	other.cfg.Cards = desfire.AESKey([16]byte{1}, 1)
	other.boot()
	want(t, "other keys", other.sell(x, lunch), canteen.Refused, canteen.NotGenuine)
	other.cfg.Menu = terminal.NewFlash(2)
	other.cfg.Cards = tills
	other.boot()
	want(t, "no menu", other.sell(x, canteen.Order{Fen: 100}), canteen.OutOfService, canteen.NoMenu)
	o, err := c.c.Sell(func(iso7816.Command) (iso7816.Response, error) {
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	}, lunch)
	if err != nil {
		t.Error(err)
	}
	want(t, "no card of ours", o, canteen.Refused, canteen.NoCard)
	if value, log := x.holds(); value != 750 || len(log) != 0 {
		t.Errorf("%d %v", value, log)
	}
}

// A refund gives back the last purchase of this till, once, within its time, and
// the meal is the employer's again.
func TestRefund(t *testing.T) {
	now := clock.NewVirtual(noon)
	x, c := newEater(t, uid, 50_00), newCounter(t, number, now)
	c.sell(x, canteen.Order{Fen: 100})
	c.sell(x, canteen.Order{Fen: 1000})
	want(t, "more than paid", c.refund(x, 1001), canteen.Refused, canteen.BadAmount)
	elsewhere := newCounter(t, desfire.Till{9}, now)
	want(t, "another till", elsewhere.refund(x, 0), canteen.Refused, canteen.NoPurchase)
	o := c.refund(x, 0)
	want(t, "refund", o, canteen.Served, canteen.NoReason)
	if o.Fen != 1000 || o.Sale.Kind != desfire.Refund || o.Sale.Of != 2 || o.Sale.Verify(c.cfg.Sales) != nil {
		t.Errorf("%+v", o.Sale)
	}
	want(t, "twice", c.refund(x, 0), canteen.Refused, canteen.NoPurchase)
	if o = c.sell(x, lunch); o.Subsidy != 0 {
		t.Errorf("the first purchase was this meal: %+v", o)
	}
	now.Advance(31 * time.Minute)
	want(t, "too late", c.refund(x, 0), canteen.Refused, canteen.NoPurchase)
	y := newEater(t, desfire.UID{4, 9}, 50_00)
	c.sell(y, lunch)
	c.refund(y, 0)
	if o = c.sell(y, lunch); o.Subsidy != 750 {
		t.Errorf("given back, then bought again: %+v", o)
	}
	if value, _ := y.holds(); value != 50_00-751 {
		t.Errorf("%d", value)
	}
	// A part given back leaves the meal had; a top-up gives nothing back.
	z := newEater(t, desfire.UID{4, 8}, 50_00)
	c.sell(z, lunch)
	c.refund(z, 100)
	z.topUpLogged(751, desfire.Till{0xFF}, desfire.StampOf(now.Now()))
	want(t, "after a top-up", c.refund(z, 0), canteen.Refused, canteen.NoPurchase)
	if o = c.sell(z, lunch); o.Subsidy != 0 {
		t.Errorf("a second subsidy: %+v", o)
	}
}

// until presents the card until the till has served it, giving the till power
// again when it lost it.
func until(t *testing.T, what string, n int, x *eater, c *counter, act func(iso7816.Transmit) (canteen.Outcome, error)) {
	t.Helper()
	for range 6 {
		o, err := c.visit(x, act)
		switch {
		case errors.Is(err, terminal.ErrPower):
			c.boot()
		case err != nil:
			t.Fatalf("%s %d: %v", what, n, err)
		case o.Result == canteen.Served:
			return
		case o.Result != canteen.TryAgain:
			t.Fatalf("%s %d: %s", what, n, o.Words(false))
		}
		c.now.Advance(5 * time.Second)
	}
	t.Fatalf("%s %d: never served", what, n)
}

// once checks what must hold at the end of every story: the card paid once, by
// its value, its log and the till's sales.
func once(t *testing.T, what string, n int, x *eater, c *counter, fen int64) {
	t.Helper()
	value, log := x.holds()
	moved := int64(0)
	for _, l := range log {
		moved += int64(l.Fen)
	}
	got, _ := c.collected(x.uid)
	doubts, err := c.c.Doubts()
	if 50_00-int64(value) != fen || moved != fen || got != fen || len(doubts) != 0 || err != nil {
		t.Fatalf("%s %d: the card paid %d, its log says %d, the till has %d, doubts %v %v", what, n, 50_00-int64(value), moved, got, doubts, err)
	}
}

// Every answer is lost in turn, and every physical write of the card torn.
func TestTornAtEveryCommandAndWrite(t *testing.T) {
	for n := 1; n <= 14; n++ {
		x, c := newEater(t, uid, 50_00), newCounter(t, number, clock.NewVirtual(noon))
		x.e.LoseAnswer(n)
		until(t, "answer", n, x, c, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Sell(send, lunch) })
		once(t, "answer", n, x, c, 751)
	}
	for n := 1; ; n++ {
		x, c := newEater(t, uid, 50_00), newCounter(t, number, clock.NewVirtual(noon))
		before := x.e.Memory().Writes()
		x.e.Memory().CutAfter(n)
		until(t, "write", n, x, c, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Sell(send, lunch) })
		torn := x.e.Memory().Writes()-before >= n
		once(t, "write", n, x, c, 751)
		if !torn {
			t.Logf("%d physical writes", n-1)
			return
		}
	}
}

// The same for a refund.
func TestRefundTorn(t *testing.T) {
	refund := func(c *counter) func(send iso7816.Transmit) (canteen.Outcome, error) {
		return func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Refund(send, 0) }
	}
	for n := 1; n <= 16; n++ {
		x, c := newEater(t, uid, 50_00), newCounter(t, number, clock.NewVirtual(noon))
		c.sell(x, lunch)
		x.e.LoseAnswer(n)
		until(t, "answer", n, x, c, refund(c))
		once(t, "answer", n, x, c, 0)
	}
}

// commitAnswer is the number of the answer to the commit of a first sale.
const commitAnswer = 12

// The commit's answer is lost, then every answer of the next visit.
func TestRecoveryTornToo(t *testing.T) {
	for n := 1; n <= 12; n++ {
		x, c := newEater(t, uid, 50_00), newCounter(t, number, clock.NewVirtual(noon))
		x.e.LoseAnswer(commitAnswer)
		want(t, "torn", c.sell(x, lunch), canteen.TryAgain, canteen.Torn)
		if d, err := c.c.Doubts(); err != nil || len(d) != 1 {
			t.Fatalf("%v %v", d, err)
		}
		x.e.LoseAnswer(n)
		until(t, "recovery", n, x, c, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Sell(send, lunch) })
		once(t, "recovery", n, x, c, 751)
	}
}

// The till loses power at every write of its flash, alone and after the card has
// been torn at the commit.
func TestTillCutAtEveryWrite(t *testing.T) {
	for _, torn := range []int{0, commitAnswer} {
		for n := 1; ; n++ {
			x, c := newEater(t, uid, 50_00), newCounter(t, number, clock.NewVirtual(noon))
			x.e.LoseAnswer(torn)
			before := c.cfg.Store.Writes()
			c.cfg.Store.CutAfter(n)
			until(t, "flash", n, x, c, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Sell(send, lunch) })
			once(t, "flash", n, x, c, 751)
			if c.cfg.Store.Writes()-before < n {
				t.Logf("%d flash writes", n-1)
				break
			}
		}
	}
}

// The card comes back late, or for something else: the first sale stands and the
// new one is its own.
func TestComesBackForMore(t *testing.T) {
	for name, tt := range map[string]struct {
		wait  time.Duration
		order canteen.Order
		fen   int64
	}{
		"much later":    {20 * time.Minute, lunch, 751 + 1501},
		"another order": {time.Second, canteen.Order{Dishes: []byte{2}}, 751 + 301},
	} {
		now := clock.NewVirtual(noon)
		x, c := newEater(t, uid, 50_00), newCounter(t, number, now)
		x.e.LoseAnswer(commitAnswer)
		want(t, name, c.sell(x, lunch), canteen.TryAgain, canteen.Torn)
		now.Advance(tt.wait)
		want(t, name, c.sell(x, tt.order), canteen.Served, canteen.NoReason)
		once(t, name, 0, x, c, tt.fen)
	}
}

// The card never comes back: the doubt stays, through power loss, until the host
// has found out. Another card does not settle it.
func TestNeverComesBack(t *testing.T) {
	for _, paid := range []bool{true, false} {
		x, y := newEater(t, uid, 50_00), newEater(t, desfire.UID{4, 9}, 50_00)
		c := newCounter(t, number, clock.NewVirtual(noon))
		x.e.LoseAnswer(commitAnswer)
		c.sell(x, lunch)
		c.boot()
		want(t, "another card", c.sell(y, lunch), canteen.Served, canteen.NoReason)
		d, err := c.c.Doubts()
		if err != nil || len(d) != 1 || d[0].Card != uid || d[0].Fen != 751 || d[0].Seq != 1 {
			t.Fatalf("%+v %v", d, err)
		}
		if err := c.c.Resolve(9, true); !errors.Is(err, canteen.ErrSale) {
			t.Errorf("%v", err)
		}
		if err := c.c.Resolve(1, paid); err != nil {
			t.Error(err)
		}
		want(t, "on it goes", c.sell(y, canteen.Order{Fen: 5}), canteen.Served, canteen.NoReason)
		if fen, n := c.collected(uid); paid && (fen != 751 || n != 1) || !paid && n != 0 {
			t.Errorf("paid %v: %d in %d", paid, fen, n)
		}
	}
}

// A card whose log has moved on keeps its doubt; one whose log begins before it
// does not.
func TestLogHasMovedOn(t *testing.T) {
	now := clock.NewVirtual(noon)
	x, c := newEater(t, uid, 100_00), newCounter(t, number, now)
	x.e.LoseAnswer(commitAnswer)
	c.sell(x, lunch)
	elsewhere := newCounter(t, desfire.Till{9}, now)
	for range desfire.CanteenLogs {
		now.Advance(time.Minute)
		want(t, "elsewhere", elsewhere.sell(x, canteen.Order{Fen: 5}), canteen.Served, canteen.NoReason)
	}
	want(t, "back", c.sell(x, canteen.Order{Fen: 5}), canteen.Served, canteen.NoReason)
	if d, _ := c.c.Doubts(); len(d) != 1 {
		t.Errorf("%v", d)
	}
}

// The store fills, is handed over and released, and numbers go on.
func TestStoreIsBounded(t *testing.T) {
	x, c := newEater(t, uid, 50_00), newCounter(t, number, clock.NewVirtual(noon))
	n := 0
	for ; n < 1000; n++ {
		if o := c.sell(x, canteen.Order{Fen: 1}); o.Result != canteen.Served {
			want(t, "full", o, canteen.OutOfService, canteen.StoreFull)
			break
		}
	}
	if n < 20 || n == 1000 || c.c.Waiting() != n {
		t.Fatalf("%d sales, %d waiting", n, c.c.Waiting())
	}
	if err := c.c.Release(uint32(n)); err != nil {
		t.Fatal(err)
	}
	c.boot()
	o := c.sell(x, canteen.Order{Fen: 1})
	want(t, "emptied", o, canteen.Served, canteen.NoReason)
	b, err := c.c.Batch(10)
	if err != nil || o.Sale == nil || o.Sale.Seq != uint32(n+1) || b.First != uint32(n+1) {
		t.Errorf("%+v %+v %v", o.Sale, b, err)
	}
}

// Any mixture of orders, refunds, tears, lost answers and power cuts of the till:
// what the cards lost is what the till has, once everybody has come back.
func TestMoneyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := clock.NewVirtual(noon)
		eaters := []*eater{newEater(t, desfire.UID{4, 1}, 100_00), newEater(t, desfire.UID{4, 2}, 100_00)}
		c := newCounter(t, number, now)
		for range rapid.IntRange(1, 12).Draw(t, "visits") {
			now.Advance(time.Duration(rapid.IntRange(1, 600).Draw(t, "seconds")) * time.Second)
			x := rapid.SampledFrom(eaters).Draw(t, "card")
			x.e.LoseAnswer(rapid.SampledFrom([]int{0, 0, 8, 11, 12, 13, 14, 15}).Draw(t, "lose"))
			x.e.Memory().CutAt(rapid.SampledFrom([]int{0, 0, 1, 2, 3, 4}).Draw(t, "tear"), rapid.IntRange(0, 64).Draw(t, "keep"))
			c.cfg.Store.CutAfter(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "cut"))
			fen := rapid.Uint32Range(0, 4000).Draw(t, "fen")
			_, err := c.visit(x, func(send iso7816.Transmit) (canteen.Outcome, error) {
				if fen < 800 {
					return c.c.Refund(send, fen%3)
				}
				return c.c.Sell(send, canteen.Order{Fen: fen})
			})
			if errors.Is(err, terminal.ErrPower) {
				c.boot()
			} else if err != nil {
				t.Fatalf("%v", err)
			}
			x.e.LoseAnswer(0)
			x.e.Memory().CutAt(0, 0)
			c.cfg.Store.CutAfter(0)
		}
		for _, x := range eaters {
			if err := x.e.PowerOn(card.Contactless); err != nil {
				t.Fatalf("%v", err)
			}
			if o, err := c.c.Balance(x.e.Transmit); err != nil || o.Result != canteen.Served {
				t.Fatalf("%v %v", o.Words(false), err)
			}
			value, log := x.holds()
			moved := int64(0)
			for _, l := range log {
				moved += int64(l.Fen)
			}
			if fen, _ := c.collected(x.uid); fen != 100_00-int64(value) || fen != moved {
				t.Fatalf("card %s paid %d, its log says %d, the till has %d", x.uid, 100_00-int64(value), moved, fen)
			}
		}
	})
}

func BenchmarkSell(b *testing.B) {
	x, c := newEater(b, uid, 500_00), newCounter(b, number, clock.NewVirtual(noon))
	for n := 0; b.Loop(); n++ {
		if o := c.sell(x, canteen.Order{Fen: 1}); o.Result != canteen.Served {
			b.Fatal(o.Words(false))
		}
		if n%10 == 9 {
			if err := c.c.Release(uint32(n + 1)); err != nil {
				b.Fatal(err)
			}
		}
		if n%50_000 == 49_999 {
			b.StopTimer()
			x.topUp(499_99)
			b.StartTimer()
		}
	}
}

// FuzzHostileCard: whatever a stranger's card answers, the till has no sale of it.
func FuzzHostileCard(f *testing.F) {
	f.Add([]byte{2, 0x90, 0, 2, 0x91, 0, 2, 0x91, 0xAF})
	f.Add([]byte("\x02\x90\x00\x1E1234567890123456789012345678\x91\x00\x02\x91\x00\x121234567890123456\x91\xAF\x121234567890123456\x91\x00"))
	c := newCounter(f, number, clock.NewVirtual(noon))
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := c.c.Sell(terminaltest.Stranger(in), lunch)
		if err != nil || o.Result == canteen.Served || c.c.Waiting() != 0 {
			t.Fatalf("%+v %v", o, err)
		}
	})
}
