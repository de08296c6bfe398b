package switching_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/settlement"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/switching"
)

// A far host is an issuer's: it keeps what it approved, and does as it is told
// to misbehave.
type far struct {
	key   *iso8583.Key
	mood  string           // silent, down, amount, trace, mac, garbage, 51, late
	held  map[string]int64 // approved by time and trace, fen
	seen  []string         // message types
	said  string           // field 38 of the last one
	block func()
}

func newFar() *far {
	k, err := iso8583.NewKey(zoneMAC[:])
	if err != nil {
		panic(err)
	}
	return &far{key: k, held: map[string]int64{}}
}

func (f *far) sum() (n int64) {
	for _, v := range f.held {
		n += v
	}
	return n
}

func (f *far) Ask(ctx context.Context, request []byte) ([]byte, error) {
	if f.block != nil {
		f.block()
	}
	if f.mood == "down" {
		return nil, fmt.Errorf("no line: %w", switching.ErrDown)
	}
	var m, out iso8583.Message
	if err := m.Unpack(iso8583.UnionPayInterchange(), request); err != nil {
		return nil, err
	}
	if err := m.Verify(f.key); err != nil {
		return nil, err
	}
	f.seen, f.said = append(f.seen, m.MTI()), m.Text(38)
	var fen int64
	fmt.Sscanf(m.Text(4), "%d", &fen)
	code := "00"
	name := m.Text(11) + m.Text(7)
	switch {
	case f.mood == "51" && !m.IsMTI("0420") && f.held[name] == 0: // what it took it does not refuse when it comes again
		code = "51"
	case f.mood == "91":
		code = "91"
	case m.IsMTI("0420"):
		delete(f.held, m.Text(90)[4:20])
	case m.Text(3) == "200000" && m.IsMTI("0200"):
		f.held[name] = -fen
	case m.IsMTI("0220") && m.Text(3) == "200000":
		f.held[name] = -fen
	case !strings.HasPrefix(m.Text(3), "31") && !m.IsMTI("0620"):
		f.held[name] = fen
	}
	if f.mood == "silent" {
		return nil, errors.New("time-out")
	}
	if f.mood == "garbage" {
		return []byte("....garbage"), nil
	}
	if err := out.AnswerTo(&m, code); err != nil {
		return nil, err
	}
	if code == "00" && !m.IsMTI("0420") {
		out.SetText(38, "FAR001")
	}
	switch f.mood {
	case "amount":
		out.SetText(4, fmt.Sprintf("%012d", fen+1))
	case "trace":
		out.SetText(11, "999999")
	}
	if m.Text(3) == "310000" {
		out.SetText(54, "1002156C000000012345")
	}
	wire, err := out.Seal(nil, f.key)
	if f.mood == "mac" {
		wire[len(wire)-1] ^= 1
	}
	return wire, err
}

const farCard = "6225880000000001"

// stripe is a sale by the stripe of a far card.
func (p *terminal) far() fields {
	return fields{2: farCard, 35: farCard + "D2512101", 60: fmt.Sprintf("22%06d00020", p.batch)}
}

// TestForeign: sale, void, refund, settlement of another issuer's card.
func TestForeign(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	p := h.terminal("10000001")
	tick := func() {
		t.Helper()
		if err := h.host.Tick(ctx, h.now.Now()); err != nil {
			t.Fatal(err)
		}
	}
	in := p.pin(p.far(), farCard, "1234")
	expect(t, "balance", p.ask("balance", 0, fields{2: farCard, 35: farCard + "D2512101"}), "00")
	if p.in.Text(54) != "1002156C000000012345" {
		t.Errorf("balance %q", p.in.Text(54))
	}
	expect(t, "sale", p.ask("sale", 100_00, in), "00")
	rrn := p.in.Text(37)
	if p.in.Text(38) != "FAR001" {
		t.Errorf("authorisation %q", p.in.Text(38))
	}
	wire := p.sent
	expect(t, "the same message", p.repeat(wire), "00")
	expect(t, "sale", p.ask("sale", 50_00, p.far()), "00")
	expect(t, "void", p.ask("void", 50_00, p.of(p.stan)), "00")
	f.mood = "51"
	expect(t, "declined", p.ask("sale", 50_00, p.far()), "51")
	f.mood = ""
	expect(t, "settle", p.settle(150_00, 2, 50_00, 1), "11")
	h.want("settled", 5000_00, 0, 100_00)
	expect(t, "end", p.end("207", 0), "00")
	expect(t, "refund", p.ask("refund", 25_00, fields{2: farCard, 37: rrn}), "00")
	expect(t, "refund of an old terminal", p.ask("refund", 15_00, fields{2: farCard, 3: "000000", 37: rrn}), "00")
	h.want("refunded", 5000_00, 0, 60_00)
	tick()
	if f.sum() != 60_00 || h.balance(switching.Receivable("FAR")).Posted.Minor() != -60_00 {
		t.Errorf("the far host has %d, the books %d", f.sum(), h.balance(switching.Receivable("FAR")).Posted.Minor())
	}
}

// TestMoods: whatever an issuer's host does, the shop, the host and the books
// end equal, and nothing is booked that the terminal was not told of.
func TestMoods(t *testing.T) {
	for _, tt := range []struct {
		mood, code string
		reversals  int
	}{
		{"silent", "98", 1}, {"garbage", "98", 1}, {"amount", "98", 1}, {"trace", "98", 1}, {"mac", "98", 1}, {"down", "91", 0}, {"51", "51", 0}, {"", "00", 0},
	} {
		t.Run(tt.mood, func(t *testing.T) {
			f := newFar()
			h := open(t, true, map[string]switching.Peer{"FAR": f})
			p := h.terminal("10000001")
			f.mood = tt.mood
			expect(t, "sale", p.ask("sale", 10_00, p.far()), tt.code)
			stan := p.stan
			var wait []switching.Queued
			h.read(func(q *db.Query) (err error) { wait, err = switching.Queue(q, 0, 10); return err })
			if len(wait) != tt.reversals {
				t.Errorf("%d wait, want %d", len(wait), tt.reversals)
			}
			f.mood = "silent"
			for range 3 { // not answered: asked again later
				if err := h.host.Tick(ctx, h.now.Now()); err != nil {
					t.Fatal(err)
				}
				h.now.Advance(20 * time.Minute)
			}
			f.mood = ""
			if err := h.host.Tick(ctx, h.now.Now()); err != nil {
				t.Fatal(err)
			}
			h.read(func(q *db.Query) (err error) { wait, err = switching.Queue(q, 0, 10); return err })
			if len(wait) != 0 {
				t.Errorf("%d still wait: %+v", len(wait), wait)
			}
			want := int64(0)
			if tt.code == "00" {
				want = 10_00
			}
			if f.sum() != want {
				t.Errorf("the far host holds %d, want %d", f.sum(), want)
			}
			p.signOn()
			expect(t, "the terminal reverses", p.reverse("sale", stan, 10_00, "98"), "00")
			if err := h.host.Tick(ctx, h.now.Now()); err != nil {
				t.Fatal(err)
			}
			if f.sum() != 0 {
				t.Errorf("the far host still holds %d", f.sum())
			}
			expect(t, "settle", p.settle(0, 0, 0, 0), "11")
			h.want("nothing", 5000_00, 0, 0)
		})
	}
}

// TestStandIn: the switch approves small chip sales for a host that is down,
// and tells it afterwards.
func TestStandIn(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	p := h.terminal("10000001")
	f.mood = "down"
	chip := func(fen int64) fields {
		a := pboc.Amount(uint64(fen))
		v := tlv.Append(nil, emv.TagCID, []byte{0x80})
		v = tlv.Append(tlv.Append(v, emv.TagAmount, a[:]), emv.TagType, []byte{0})
		return fields{2: farCard, 22: "052", 55: string(v)}
	}
	expect(t, "too much", p.ask("sale", 100_01, chip(100_01)), "91")
	expect(t, "by stripe", p.ask("sale", 1_00, p.far()), "91")
	expect(t, "stand-in", p.ask("sale", 100_00, chip(100_00)), "00")
	f.mood = ""
	if err := h.host.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	if f.sum() != 100_00 || f.seen[len(f.seen)-1] != "0220" {
		t.Errorf("the host was told of %d by %v", f.sum(), f.seen)
	}
	expect(t, "settle", p.settle(100_00, 1, 0, 0), "11")
	h.want("settled", 5000_00, 0, 100_00)
}

// told is a sale that the far card's issuer allowed by telephone.
func (p *terminal) toldFar(fen int64) string {
	return p.ask("offline", fen, fields{2: farCard, 14: "2512", 22: "012", 38: "PHONE1"})
}

// TestOffline: the goods are given. Whatever keeps the issuer's host from taking
// the sale, the shop hears 00, the host is told until it takes it or refuses it,
// and the shop has its money when the host has the sale, not before.
func TestOffline(t *testing.T) {
	for _, tt := range []struct{ mood, then string }{{"down", ""}, {"silent", ""}, {"garbage", ""}, {"mac", ""}, {"91", ""}, {"", ""}, {"down", "51"}, {"91", "51"}, {"down", "silent"}} {
		t.Run(tt.mood+" "+tt.then, func(t *testing.T) {
			f := newFar()
			h := open(t, true, map[string]switching.Peer{"FAR": f})
			p := h.terminal("10000001")
			f.mood = tt.mood
			expect(t, "told", p.toldFar(10_00), "00")
			rrn, stan := p.in.Text(37), p.stan
			if got := p.in.Text(38); got != "PHONE1" {
				t.Errorf("field 38 %q", got)
			}
			expect(t, "told again", p.repeat(p.sent), "00")
			expect(t, "settled", p.settle(10_00, 1, 0, 0), "11")
			expect(t, "end", p.end("207", 0), "00")
			waits := int64(0)
			if tt.mood == "" {
				waits = 10_00
			}
			h.want("as long as it waits", 5000_00, 0, waits)
			if waits == 0 {
				expect(t, "a refund before", p.ask("refund", 1_00, fields{2: farCard, 37: rrn}), "12")
			}
			h.now.Advance(24 * time.Hour) // the day's end books nothing that waits
			h.tick()
			h.want("over the day's end", 5000_00, 0, waits)
			f.mood = tt.then
			for range 2 {
				h.now.Advance(20 * time.Minute)
				h.tick()
			}
			f.mood = ""
			h.now.Advance(20 * time.Minute)
			h.tick()
			h.tick()
			if tt.then == "51" {
				list := h.cases()
				if len(list) != 1 || list[0].What != switching.DeclinedAdvice || list[0].RRN != rrn || list[0].STAN != stan {
					t.Fatalf("cases %+v", list)
				}
				h.want("refused", 5000_00, 0, 0)
				h.do(func(tx *db.Tx) error {
					return switching.Resolve(tx, list[0].ID, false, "ling", "the shop asked the cardholder")
				})
				h.want("given up", 5000_00, 0, 0)
				if x := h.txn(rrn); x.State != switching.Reversed || f.sum() != 0 {
					t.Errorf("it is %s, the host has %d", x.State, f.sum())
				}
				return
			}
			h.want("taken", 5000_00, 0, 10_00)
			if x := h.txn(rrn); x.State != switching.Cleared || x.StandIn != (tt.mood != "") || f.sum() != 10_00 {
				t.Errorf("it is %s, stood in %v, the host has %d", x.State, x.StandIn, f.sum())
			}
			p.signOn()
			expect(t, "a refund after", p.ask("refund", 1_00, fields{2: farCard, 37: rrn}), "00")
		})
	}
}

// TestOfflineBounds: above the shop's floor nothing is kept, and what the watch
// would refuse only its issuer may approve.
func TestOfflineBounds(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	h.estate.more = func(p *switching.Place) { p.Floor = 50_00 }
	p := h.terminal("10000001")
	f.mood = "down"
	expect(t, "above the floor", p.toldFar(50_01), "58")
	expect(t, "at the floor", p.toldFar(50_00), "00")
	h.host = switching.New(h.store, h.keys, h.bank, h.estate, switching.Config{Peers: h.peers, Wait: 200 * time.Millisecond, Watch: refuseAll{}})
	if err := h.host.Start(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, "the watch says no, the host is down", p.toldFar(10_00), "91")
	f.mood = "silent"
	expect(t, "the watch says no, the host is silent", p.toldFar(10_00), "98")
	f.mood = ""
	expect(t, "the watch says no, the host yes", p.toldFar(20_00), "00")
	h.now.Advance(20 * time.Minute)
	h.tick()
	if f.sum() != 70_00 {
		t.Errorf("the host has %d", f.sum())
	}
}

// refuseAll is a watch that would let nothing pass.
type refuseAll struct{}

func (refuseAll) Judge(switching.Txn, switching.Place) switching.Judgement {
	return switching.Judgement{Code: "59", Why: "test"}
}

// TestOfflineAmount: a change of a sale that waits is told after it, and one case
// is opened about both.
func TestOfflineAmount(t *testing.T) {
	for _, mood := range []string{"", "51"} {
		t.Run(mood, func(t *testing.T) {
			f := newFar()
			h := open(t, true, map[string]switching.Peer{"FAR": f})
			p := h.terminal("10000001")
			f.mood = "down"
			expect(t, "told", p.toldFar(10_00), "00")
			rrn, stan := p.in.Text(37), p.stan
			for range 3 {
				h.now.Advance(5 * time.Minute)
				h.tick()
			}
			expect(t, "adjusted", p.ask("adjust", 11_00, fields{2: farCard, 61: p.of(stan)[61]}), "00")
			f.mood = mood
			h.tick() // the change is due, the sale is not
			if len(f.seen) != 0 {
				t.Errorf("the host was told %v", f.seen)
			}
			for range 4 {
				h.now.Advance(20 * time.Minute)
				h.tick()
			}
			p.signOn()
			expect(t, "settled", p.settle(11_00, 1, 0, 0), "11")
			if mood == "" {
				h.want("booked", 5000_00, 0, 11_00)
				return
			}
			list := h.cases()
			if len(list) != 1 {
				t.Fatalf("cases %+v", list)
			}
			h.do(func(tx *db.Tx) error { return switching.Resolve(tx, list[0].ID, false, "ling", "") })
			if x := h.txn(rrn); x.State != switching.Reversed {
				t.Errorf("it is %s", x.State)
			}
			h.want("nothing", 5000_00, 0, 0)
		})
	}
}

// TestOfflineRestart: the house falls while the host is asked of goods that are
// given: the next one tells it again, and the terminal hears 00.
func TestOfflineRestart(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	p := h.terminal("10000001")
	fell := errors.New("the power is off")
	f.block = func() { panic(fell) }
	func() {
		defer func() {
			if recover() != fell {
				t.Error("it did not fall")
			}
		}()
		p.toldFar(10_00)
	}()
	f.block = nil
	wire := p.sent
	h.boot()
	expect(t, "the same message", p.repeat(wire), "00")
	if got := p.in.Text(38); got != "PHONE1" {
		t.Errorf("field 38 %q", got)
	}
	h.tick()
	expect(t, "settle", p.settle(10_00, 1, 0, 0), "11")
	h.want("taken", 5000_00, 0, 10_00)
	if f.sum() != 10_00 || len(f.seen) != 1 || f.seen[0] != "0220" {
		t.Errorf("the host holds %d after %v", f.sum(), f.seen)
	}
}

// TestRestart: what was asked and had no answer when the house fell is taken
// back by the next one.
func TestRestart(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	p := h.terminal("10000001")
	fell := errors.New("the power is off")
	f.block = func() { panic(fell) }
	func() {
		defer func() {
			if recover() != fell {
				t.Error("it did not fall")
			}
		}()
		p.ask("sale", 10_00, p.far())
	}()
	f.block = nil
	wire := p.sent
	h.boot()
	expect(t, "the same message", p.repeat(wire), "98")
	if err := h.host.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	if f.sum() != 0 || len(f.seen) != 1 || f.seen[0] != "0420" {
		t.Errorf("the host holds %d after %v", f.sum(), f.seen)
	}
	expect(t, "settle", p.settle(0, 0, 0, 0), "11")
	if b := h.balance(settlement.Payable(shop)); b.Posted.Minor() != 0 {
		t.Errorf("shop %v", b)
	}
}

// TestLate: what comes after its end is kept in the log and changes nothing; a
// tap of another bank's card is booked once, whoever brings it.
func TestLate(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	p, q := h.terminal("10000001"), h.terminal("10000002")
	f.mood = "silent"
	expect(t, "sale", p.ask("sale", 10_00, p.far()), "98")
	rrn := p.in.Text(37)
	var late iso8583.Message
	late.Reset(iso8583.UnionPayInterchange(), "0210")
	late.SetText(37, rrn)
	late.SetText(39, "00")
	wire, err := late.Seal(nil, f.key)
	if err != nil {
		t.Fatal(err)
	}
	h.host.Late(ctx, "FAR", wire)
	f.mood = ""
	if err := h.host.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	var x switching.Txn
	var log []switching.Message
	h.read(func(q *db.Query) (err error) {
		if x, err = switching.Transaction(q, rrn); err == nil {
			log, err = switching.Messages(q, x)
		}
		return err
	})
	if x.State != switching.Unknown || len(log) != 5 || log[2].Note != "late or doubled" {
		t.Errorf("%s, %d lines", x.State, len(log))
	}
	c := h.card(issuing.DebitCard)
	tap := c.chip(0, 5_00, pboc.TC)
	tap[2] = farCard
	expect(t, "tap", p.ask("tap", 5_00, tap), "00")
	expect(t, "the same tap at another terminal", q.ask("tap", 5_00, tap), "00")
	h.want("once", 5000_00, 0, 5_00)
}
