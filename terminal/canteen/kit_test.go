package canteen_test

import (
	"errors"
	"testing"
	"time"

	"koala/card"
	"koala/card/cardtest"
	"koala/internal/clock"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/canteen"
	"koala/terminal/terminaltest"
)

var (
	tills   = desfire.AESKey([16]byte{0: 0xD1}, 1)
	hosts   = desfire.AESKey([16]byte{0: 0xD2}, 1)
	masters = desfire.AESKey([16]byte{0: 0xA1}, 1)
	sales   = [16]byte{0: 0xE0}
	uid     = [7]byte{4, 1, 2, 3, 4, 5, 6}
	number  = desfire.Till{0x10, 0x01, 0x00, 0x07}

	noon = time.Date(2024, 12, 30, 12, 0, 0, 0, time.FixedZone("CST", 8*3600))
)

// An eater is a card in somebody's hand.
type eater struct {
	t   cardtest.T
	e   *cardtest.Element
	uid desfire.UID
}

func newEater(t cardtest.T, uid desfire.UID, fen int32) *eater {
	t.Helper()
	var keys [3]desfire.SealedKey
	for i, m := range []desfire.Key{masters, tills, hosts} {
		keys[i] = terminaltest.Sealed(t, desfire.CardKey(m, uid, desfire.CanteenAID, desfire.CanteenSystem))
	}
	x := &eater{t, terminaltest.DESFire(t, uid, desfire.Canteen(keys)), uid}
	if fen > 0 {
		x.topUp(fen)
	}
	return x
}

// session authenticates as the top-up host.
func (x *eater) session() *desfire.Host {
	x.t.Helper()
	x.e.Mend()
	x.e.Power(card.Contactless)
	h := desfire.NewHost(x.e.Transmit, clock.Random(77))
	if err := errors.Join(h.Open(), h.Select(desfire.CanteenAID),
		h.Authenticate(desfire.CanteenHost, desfire.CardKey(hosts, x.uid, desfire.CanteenAID, desfire.CanteenSystem))); err != nil {
		x.t.Fatalf("%v", err)
	}
	return h
}

func (x *eater) topUp(fen int32) {
	x.t.Helper()
	h := x.session()
	if err := errors.Join(h.Credit(desfire.CanteenValue, fen, desfire.Enciphered), h.Commit()); err != nil {
		x.t.Fatalf("%v", err)
	}
	x.e.PowerOff()
}

// topUpLogged tops up with a line in the card's log, as a host does that writes
// one.
func (x *eater) topUpLogged(fen int32, host desfire.Till, at desfire.Stamp) {
	x.t.Helper()
	h := x.session()
	l := desfire.Log{Fen: -fen, Till: host, At: at, Seq: 1}
	if err := errors.Join(h.Credit(desfire.CanteenValue, fen, desfire.Enciphered),
		h.WriteRecord(desfire.CanteenLog, 0, l.Bytes(), desfire.Enciphered), h.Commit()); err != nil {
		x.t.Fatalf("%v", err)
	}
	x.e.PowerOff()
}

// holds reads value and log without a till.
func (x *eater) holds() (value int32, log []desfire.Log) {
	x.t.Helper()
	h := x.session()
	defer x.e.PowerOff()
	value, err := h.Value(desfire.CanteenValue, desfire.Enciphered)
	if err != nil {
		x.t.Fatalf("%v", err)
	}
	f, err := h.FileSettings(desfire.CanteenLog)
	if err != nil || f.Now == 0 {
		return value, nil
	}
	records, err := h.ReadRecords(desfire.CanteenLog, 0, 0, desfire.LogLen, desfire.Enciphered)
	if err != nil {
		x.t.Fatalf("%v", err)
	}
	for _, r := range records {
		l, err := desfire.ParseLog(r)
		if err != nil {
			x.t.Fatalf("%v", err)
		}
		log = append(log, l)
	}
	return value, log
}

func menu() desfire.Menu {
	return desfire.Menu{
		Version: 1, Made: noon.UTC(),
		Meals: []desfire.Meal{
			{ID: 1, From: 390, To: 540, Percent: 100, Subsidy: 500, EN: "breakfast", ZH: "早餐", Dishes: []desfire.Dish{{ID: 1, Fen: 200, EN: "congee", ZH: "粥"}}},
			{ID: 2, From: 660, To: 810, Percent: 50, Subsidy: 800, EN: "lunch", ZH: "午餐", Dishes: []desfire.Dish{{ID: 1, Fen: 1200, EN: "noodles", ZH: "面条"}, {ID: 2, Fen: 301, EN: "soup", ZH: "汤"}}},
		},
	}
}

// A counter is a till with its flash.
type counter struct {
	t   cardtest.T
	cfg canteen.Config
	now *clock.Virtual
	c   *canteen.Till
}

func newCounter(t cardtest.T, till desfire.Till, now *clock.Virtual) *counter {
	t.Helper()
	c := &counter{t: t, now: now}
	c.cfg = canteen.Config{
		Till: till, Clock: now, Rand: clock.Random(uint64(till[3])), Menus: terminaltest.Public, Cards: tills, Sales: till.Key(sales),
		Store: terminal.NewFlash(4), Menu: terminal.NewFlash(2), Record: true,
	}
	c.boot()
	c.load(menu())
	return c
}

func (c *counter) boot() {
	c.t.Helper()
	c.cfg.Store.PowerOn()
	c.cfg.Menu.PowerOn()
	var err error
	if c.c, err = canteen.New(c.cfg); err != nil {
		c.t.Fatalf("%v", err)
	}
}

func (c *counter) load(m desfire.Menu) {
	c.t.Helper()
	pack, err := m.Sign(terminaltest.Private)
	if err == nil {
		err = c.c.Load(pack)
	}
	if err != nil {
		c.t.Fatalf("%v", err)
	}
}

// visit holds a card to the till and takes it away.
func (c *counter) visit(x *eater, act func(iso7816.Transmit) (canteen.Outcome, error)) (canteen.Outcome, error) {
	if err := x.e.PowerOn(card.Contactless); err != nil {
		return canteen.Outcome{Result: canteen.TryAgain, Reason: canteen.Torn}, nil // cut in recovery
	}
	defer x.e.PowerOff()
	return act(x.e.Transmit)
}

func (c *counter) sell(x *eater, o canteen.Order) canteen.Outcome {
	c.t.Helper()
	out, err := c.visit(x, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Sell(send, o) })
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	return out
}

func (c *counter) refund(x *eater, fen uint32) canteen.Outcome {
	c.t.Helper()
	out, err := c.visit(x, func(send iso7816.Transmit) (canteen.Outcome, error) { return c.c.Refund(send, fen) })
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	return out
}

// collected is what the till has taken from a card by its signed sales; every
// sale verifies, no number stands twice, and before and after run on.
func (c *counter) collected(card desfire.UID) (fen int64, count int) {
	c.t.Helper()
	b, err := c.c.Batch(desfire.MaxSaleBatch)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	wire, err := b.Bytes()
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	if b, err = desfire.ParseSaleBatch(wire); err != nil {
		c.t.Fatalf("%v", err)
	}
	seen := map[uint32]bool{}
	for _, s := range b.Sales {
		if err := s.Verify(c.cfg.Sales); err != nil || seen[s.Seq] {
			c.t.Errorf("sale %d, seen %v: %v", s.Seq, seen[s.Seq], err)
		}
		seen[s.Seq] = true
		if s.Card == card && s.Kind != desfire.Void {
			fen += int64(s.Before) - int64(s.After)
			count++
		}
	}
	doubts, err := c.c.Doubts()
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	for _, s := range doubts {
		seen[s.Seq] = true
	}
	for n := range len(seen) {
		if !seen[uint32(n+1)] {
			c.t.Errorf("number %d of %d is missing", n+1, len(seen))
		}
	}
	return fen, count
}

func want(t testing.TB, what string, o canteen.Outcome, r canteen.Result, why canteen.Reason) {
	t.Helper()
	if o.Result != r || o.Reason != why {
		t.Errorf("%s: %s (%v %v %v)", what, o.Words(false), o.Result, o.Reason, o.SW)
	}
}
