package switching_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/money"
	"koala/settlement"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/switching"
)

// An odd host answers with codes and amounts of its own.
type odd struct {
	key  *iso8583.Key
	code func(m *iso8583.Message) (code string, fen int64)
	seen []string // message types
	down bool
}

func newOdd() *odd {
	return &odd{key: newFar().key, code: func(*iso8583.Message) (string, int64) { return "00", 0 }}
}

func (o *odd) Ask(_ context.Context, request []byte) ([]byte, error) {
	if o.down {
		return nil, fmt.Errorf("no line: %w", switching.ErrDown)
	}
	var m, out iso8583.Message
	if err := m.Unpack(iso8583.UnionPayInterchange(), request); err != nil {
		return nil, err
	}
	o.seen = append(o.seen, m.MTI())
	code, fen := o.code(&m)
	if err := out.AnswerTo(&m, code); err != nil {
		return nil, err
	}
	if iso8583.Approved(code) && !m.IsMTI("0420") {
		out.SetText(38, "FAR001")
	}
	if fen > 0 {
		out.SetText(4, fmt.Sprintf("%012d", fen))
	}
	return out.Seal(nil, o.key)
}

func (o *odd) count(mti string) (n int) {
	for _, s := range o.seen {
		if s == mti {
			n++
		}
	}
	return n
}

// answer has the host answer messages of a type with a code.
func (o *odd) answer(mti, code string, fen int64) {
	o.code = func(m *iso8583.Message) (string, int64) {
		if m.IsMTI(mti) {
			return code, fen
		}
		return "00", 0
	}
}

func (h *house) txn(rrn string) (x switching.Txn) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { x, err = switching.Transaction(q, rrn); return err })
	return x
}

func (h *house) cases() (list []switching.Difference) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { list, err = switching.Differences(q, true, "", 100); return err })
	return list
}

// farChip is a far card's sale by chip: its host may be stood in for.
func farChip(fen int64) fields {
	a := pboc.Amount(uint64(fen))
	v := tlv.Append(nil, emv.TagCID, []byte{0x80})
	v = tlv.Append(tlv.Append(v, emv.TagAmount, a[:]), emv.TagType, []byte{0})
	return fields{2: farCard, 22: "052", 55: string(v)}
}

// ok is expect for codes of a transaction of whose answer the reference number
// is wanted.
func (p *terminal) ok(kind string, fen int64, more fields) (rrn string) {
	p.h.t.Helper()
	if code := p.ask(kind, fen, more); code != "00" {
		p.h.t.Fatalf("%s: %s", kind, code)
	}
	return p.in.Text(37)
}

// TestGivenBackOnce: what was refunded is not given back again by a reversal, a
// further refund, or after a dispute.
func TestGivenBackOnce(t *testing.T) {
	peers := func() map[string]switching.Peer { return map[string]switching.Peer{"FAR": newFar()} }
	t.Run("completion refunded, then reversed", func(t *testing.T) {
		h := open(t, true, peers())
		p := h.terminal("10000001")
		p.ok("preauth", 100_00, fields{2: farCard, 35: farCard + "D2512101"})
		rrn := p.ok("completion", 100_00, p.of(p.stan))
		done := p.stan
		p.ok("refund", 100_00, fields{2: farCard, 37: rrn})
		expect(t, "reversal", p.reverse("completion", done, 100_00, "98"), "12")
		h.want("once", 5000_00, 0, 0)
	})
	t.Run("tap of another issuer's card", func(t *testing.T) {
		h := open(t, true, peers())
		c, p := h.card(issuing.DebitCard), h.terminal("10000001")
		tap := c.chip(0, 5_00, pboc.TC)
		tap[2] = farCard
		rrn := p.ok("tap", 5_00, tap)
		back := fields{2: farCard, 22: "072", 23: "001", 12: "100000", 37: rrn, 55: tap[55]}
		p.ok("tap.refund", 5_00, back)
		expect(t, "again", p.ask("tap.refund", 5_00, back), "12")
		h.want("once", 5000_00, 0, 0)
	})
	t.Run("disputed", func(t *testing.T) {
		h := open(t, true, peers())
		p := h.terminal("10000001")
		rrn := p.ok("sale", 100_00, p.far())
		set := func(fen int64) error {
			return h.store.Write(ctx, func(tx *db.Tx) error { return switching.Dispute(tx, rrn, money.Fen(fen)) })
		}
		if err := set(1); !errors.Is(err, switching.ErrState) {
			t.Errorf("dispute of a sale that is not booked: %v", err)
		}
		sale := p.stan
		expect(t, "settled", p.settle(100_00, 1, 0, 0)+p.end("207", 0), "1100")
		if err := set(70_00); err != nil {
			t.Fatal(err)
		}
		expect(t, "refund beyond", p.ask("refund", 30_01, fields{2: farCard, 37: rrn}), "64")
		expect(t, "refund of the rest", p.ask("refund", 30_00, fields{2: farCard, 37: rrn}), "00")
		if err := set(70_01); !errors.Is(err, switching.ErrTooMuch) {
			t.Errorf("dispute of what was refunded: %v", err)
		}
		_, err := h.host.GiveBack(ctx, switching.GiveBack{RRN: rrn, Shop: shop, Amount: money.Fen(1), Key: "k"})
		if !errors.Is(err, switching.ErrTooMuch) {
			t.Errorf("refund at the house: %v", err)
		}
		if err := set(0); err != nil {
			t.Errorf("the shop has won: %v", err)
		}
		if x := h.txn(rrn); x.Left() != money.Fen(70_00) || x.STAN != sale {
			t.Errorf("left %s", x.Left())
		}
	})
	t.Run("two terminals at once", func(t *testing.T) {
		h := open(t, false, peers())
		p, q := h.terminal("10000001"), h.terminal("10000002")
		rrn := p.ok("sale", 100_00, p.far())
		done := make(chan string, 2)
		for _, x := range []*terminal{p, q} {
			go func() { done <- x.ask("refund", 100_00, fields{2: farCard, 37: rrn}) }()
		}
		if a, b := <-done, <-done; a+b != "0064" && a+b != "6400" {
			t.Errorf("answers %s and %s", a, b)
		}
		h.want("once", 5000_00, 0, 0)
	})
	t.Run("void reversed after booking", func(t *testing.T) {
		h := open(t, true, nil)
		c, p := h.card(issuing.DebitCard), h.terminal("10000001")
		p.ok("sale", 100_00, p.swipe(c, "123456"))
		sale := p.stan
		h.now.Advance(24 * time.Hour)
		h.tick()
		p.signOn()
		p.ok("void", 100_00, p.of(sale))
		expect(t, "reversal of the void", p.reverse("void", p.stan, 100_00, "98"), "12")
		h.want("the void stands", 5000_00, 0, 0)
	})
}

// TestNotice: what became of a script is told once; its row has an end of its
// own, and a tick with it comes to its end.
func TestNotice(t *testing.T) {
	o := newOdd()
	h := open(t, true, map[string]switching.Peer{"FAR": o})
	p := h.terminal("10000001")
	p.ok("sale", 10_00, farChip(10_00))
	sale := p.stan
	script := string(tlv.Append(nil, 0xDF31, []byte{0x20, 0, 0, 0, 0}))
	for range 3 {
		expect(t, "notice", p.say("0620", fields{3: "000000", 4: fmt.Sprintf("%012d", 10_00), 11: p.next(), 22: "052", 25: "00", 49: "156", 55: script,
			60: fmt.Sprintf("22%06d951", p.batch), 61: fmt.Sprintf("%06d%06d", p.batch, sale)}), "00")
		h.tick()
		h.tick()
	}
	if n := o.count("0620"); n != 1 {
		t.Errorf("told %d times", n)
	}
	expect(t, "reversal beside it", p.reverse("sale", sale, 10_00, "06"), "00")
	h.tick()
	if o.count("0420") != 1 {
		t.Errorf("the host was told %v", o.seen)
	}
}

// TestOneRowsTrouble: what cannot be done for one transaction holds up no other.
func TestOneRowsTrouble(t *testing.T) {
	o := newOdd()
	h := open(t, true, map[string]switching.Peer{"FAR": o})
	p := h.terminal("10000001")
	p.ok("sale", 10_00, p.far())
	expect(t, "reversal", p.reverse("sale", p.stan, 10_00, "98"), "00")
	p.ok("sale", 20_00, p.far())
	expect(t, "reversal", p.reverse("sale", p.stan, 20_00, "98"), "00")
	c := h.card(issuing.DebitCard)
	held := func() string {
		f := p.swipe(c, "123456")
		f[60] = fmt.Sprintf("10%06d00020", p.batch)
		return p.ok("preauth", 5_00, f)
	}
	bad, good := held(), held()
	h.do(func(tx *db.Tx) error {
		_, err1 := tx.Exec(`UPDATE switching_queue SET sealed = $1 WHERE stan = (SELECT MIN(stan) FROM switching_queue)`, []byte{1})
		_, err2 := tx.Exec(`UPDATE switching_txn SET card = 'card_none' WHERE rrn = $1`, bad)
		return errors.Join(err1, err2)
	})
	h.tick()
	if o.count("0420") != 1 {
		t.Errorf("the host was told %v", o.seen)
	}
	h.now.Advance(31 * 24 * time.Hour)
	h.tick()
	h.tick()
	if x, y := h.txn(bad), h.txn(good); x.State != switching.Approved || y.State != switching.Expired {
		t.Errorf("one is %s, the other %s", x.State, y.State)
	}
}

// TestReversalTaken: a reversal is sent until the host has taken it, and a host
// that has nothing to take back has.
func TestReversalTaken(t *testing.T) {
	for code, again := range map[string]bool{"00": false, "12": false, "25": false, "91": true, "96": true, "98": true, "A0": true, "68": true} {
		o := newOdd()
		o.answer("0420", code, 0)
		h := open(t, true, map[string]switching.Peer{"FAR": o})
		p := h.terminal("10000001")
		p.ok("sale", 100_00, p.far())
		expect(t, "reversal", p.reverse("sale", p.stan, 100_00, "98"), "00")
		for range 3 {
			h.tick()
			h.now.Advance(time.Hour)
		}
		if n := o.count("0420"); n > 1 != again {
			t.Errorf("answered %s it was sent %d times", code, n)
		}
		if len(h.cases()) != 0 {
			t.Errorf("answered %s: %+v", code, h.cases())
		}
	}
}

// TestDeclinedAdvice: what an issuer refuses to be told keeps the sale from being
// booked, and people decide.
func TestDeclinedAdvice(t *testing.T) {
	for _, tt := range []struct {
		what    string
		settled bool // before the host refuses
		pay     bool
		payable int64
		state   switching.State
	}{
		{"booked all the same", false, true, 100_00, switching.Cleared},
		{"given up", false, false, 0, switching.Reversed},
		{"booked before, given up", true, false, 0, switching.Reversed},
		{"booked before, left so", true, true, 100_00, switching.Cleared},
	} {
		t.Run(tt.what, func(t *testing.T) {
			o := newOdd()
			h := open(t, true, map[string]switching.Peer{"FAR": o})
			p := h.terminal("10000001")
			o.down = true
			rrn := p.ok("sale", 100_00, farChip(100_00))
			o.down = false
			o.answer("0220", "51", 0)
			if !tt.settled {
				h.tick()
				h.tick()
			}
			expect(t, "settled", p.settle(100_00, 1, 0, 0), "11")
			want := map[bool]int64{true: 100_00}[tt.settled]
			h.want("by the batch", 5000_00, 0, want)
			h.tick()
			list := h.cases()
			if len(list) != 1 || list[0].What != switching.DeclinedAdvice || list[0].RRN != rrn {
				t.Fatalf("cases %+v", list)
			}
			h.do(func(tx *db.Tx) error { return switching.Resolve(tx, list[0].ID, tt.pay, "ling", "asked them") })
			h.want("decided", 5000_00, 0, tt.payable)
			if x := h.txn(rrn); x.State != tt.state {
				t.Errorf("it is %s", x.State)
			}
		})
	}
}

// TestPartialApproval: another amount than the one asked for is no approval here.
func TestPartialApproval(t *testing.T) {
	o := newOdd()
	o.answer("0200", "10", 60_00)
	h := open(t, true, map[string]switching.Peer{"FAR": o})
	p := h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 100_00, p.far()), "51")
	h.tick()
	if o.count("0420") != 1 {
		t.Errorf("the host was told %v", o.seen)
	}
	expect(t, "settled", p.settle(0, 0, 0, 0), "11")
	h.want("nothing", 5000_00, 0, 0)
}

// TestGivenUpAfterBooking: people give up what the cut-off booked and the
// terminal does not know.
func TestGivenUpAfterBooking(t *testing.T) {
	for what, peers := range map[string]map[string]switching.Peer{"own": nil, "far": {"FAR": newOdd()}} {
		h := open(t, true, peers)
		c, p := h.card(issuing.DebitCard), h.terminal("10000001")
		sale := p.swipe(c, "123456")
		if what == "far" {
			sale = p.far()
		}
		rrn := p.ok("sale", 100_00, sale)
		h.now.Advance(24 * time.Hour)
		h.tick()
		p.signOn()
		expect(t, "settled", p.settle(0, 0, 0, 0)+p.end("202", 0), "2100")
		list := h.cases()
		if len(list) != 1 || list[0].What != switching.MissingAtTerminal {
			t.Fatalf("%s: cases %+v", what, list)
		}
		h.do(func(tx *db.Tx) error { return switching.Resolve(tx, list[0].ID, false, "ling", "given up") })
		h.want(what+" given up", 5000_00, 0, 0)
		if x := h.txn(rrn); x.State != switching.Reversed {
			t.Errorf("%s: it is %s", what, x.State)
		}
		h.tick()
		if o, is := peers["FAR"].(*odd); is && o.count("0420") != 1 {
			t.Errorf("the host was told %v", o.seen)
		}
	}
}

// TestLoadReplayed: a load whose cryptogram came before moves nobody's money.
func TestLoadReplayed(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	c := h.card(issuing.ECashCard)
	f := c.chip(0x63, 100_00, pboc.ARQC)
	p.ok("load.cash", 100_00, f)
	owes := h.balance(settlement.Payable(shop))
	expect(t, "cash again", p.ask("load.cash", 100_00, f), "94")
	if now := h.balance(settlement.Payable(shop)); now.Posted != owes.Posted {
		t.Errorf("the shop owes %v, owed %v", now.Posted, owes.Posted)
	}
	payer := h.card(issuing.DebitCard)
	chip := c.chip(0x62, 100_00, pboc.ARQC)
	ask := func() string {
		g := fields{2: payer.number, 35: payer.track(), 22: "051", 23: "001", 12: "100000", 13: "0916", 55: chip[55], 62: fmt.Sprintf("%-19s", c.number)}
		return p.ask("load.other", 100_00, p.pin(g, payer.number, "123456"))
	}
	spent := func() (n int64) {
		h.read(func(q *db.Query) error {
			return q.QueryRow(`SELECT spent FROM issuing_use WHERE card = $1`, payer.id).Scan(&n)
		})
		return n
	}
	expect(t, "from another card", ask(), "00")
	once := spent()
	expect(t, "again", ask(), "94")
	if spent() != once || once == 0 {
		t.Errorf("the payer has paid %d, %d before", spent(), once)
	}
}

// TestPaidInItsOwnDay: a sale of a shop that never settles is booked before the
// shop's cut-off, and paid with the day it was made on.
func TestPaidInItsOwnDay(t *testing.T) {
	h := open(t, true, nil)
	h.do(func(tx *db.Tx) error {
		return settlement.SetTerms(tx, settlement.Terms{Payee: shop, Since: calendar.Date{Year: 2015, Month: 9, Day: 1}, CutOff: settlement.ShopCutOff, Holidays: true})
	})
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	p.ok("sale", 100_00, p.swipe(c, "123456")) // 10:00
	h.at(22, 54)
	h.tick()
	h.want("its day goes on", 5000_00, 100_00, 0)
	h.at(22, 56)
	p.ok("sale", 7_00, p.swipe(c, "123456"))
	expect(t, "its day", p.in.Text(15), "0917")
	h.tick()
	h.want("its day is over", 4900_00, 7_00, 100_00)
	h.now.Advance(6 * time.Hour)
	if _, err := settlement.Run(ctx, h.store, calendar.Date{Year: 2015, Month: 9, Day: 16}); err != nil {
		t.Fatal(err)
	}
	h.want("paid", 4900_00, 7_00, 0)
}

// TestBatchesWrap: after batch 999999 comes the first number the terminal never
// had, and a lost answer to an end is still found.
func TestBatchesWrap(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	for range 2 {
		p.ok("sale", 1_00, p.swipe(c, "123456"))
		expect(t, "settled", p.settle(1_00, 1, 0, 0)+p.end("207", 0), "1100")
	}
	h.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE switching_terminal SET batch = 999999`)
		return err
	})
	h.boot()
	p.signOn()
	sale := p.swipe(c, "123456")
	p.ok("sale", 1_00, sale)
	sold := p.stan
	expect(t, "settled", p.settle(1_00, 1, 0, 0), "11")
	wire, _ := p.message("0320", fields{11: p.next(), 48: "0000", 60: fmt.Sprintf("00%06d207", p.batch)}).Seal(nil, p.key)
	for _, what := range []string{"end", "the end again"} {
		expect(t, what, p.repeat(wire), "00")
		expect(t, "its batch", p.in.Text(60)[2:8], "000003")
	}
	expect(t, "reversal in the old batch", p.reverse("sale", sold, 1_00, "98"), "12")
	p.batch, p.stan = 3, 0
	for range 4 {
		p.ok("sale", 1_00, p.swipe(c, "123456"))
	}
	f := fields{3: "000000", 4: "000000000100", 11: "000009", 25: "00", 39: "98", 49: "156", 60: fmt.Sprintf("22%06d00060", 4711)}
	expect(t, "reversal in a batch to come", p.say("0400", f), "30")
}

// TestBatchFull: a batch takes no more than its totals can say.
func TestBatchFull(t *testing.T) {
	h := open(t, true, map[string]switching.Peer{"FAR": newFar()})
	p := h.terminal("10000001")
	p.ok("sale", 999_999_999_999, p.far())
	expect(t, "too much", p.ask("sale", 1, p.far()), "95")
	h.boot()
	p.signOn()
	expect(t, "after a restart", p.ask("sale", 1, p.far()), "95")
	expect(t, "settled", p.settle(999_999_999_999, 1, 0, 0)+p.end("207", 0), "1100")
	rrn := p.ok("sale", 1, p.far())
	x := h.txn(rrn)
	h.do(func(tx *db.Tx) error {
		for i := range 998 {
			_, err := tx.Exec(`INSERT INTO switching_txn (tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded,
				entry, auth, code, why, original, plan, standin, hash, reply, extra, at, changed, cut) SELECT tid, batch, $2, rrn || $3, kind, 'declined', mid, shop, host, card, counter,
				token, masked, class, abroad, fen, due, refunded, entry, auth, code, why, original, plan, standin, hash, reply, extra, at, changed, cut FROM switching_txn WHERE rrn = $1`,
				x.RRN, 1000+i, fmt.Sprint("-", i))
			if err != nil {
				return err
			}
		}
		return nil
	})
	h.boot()
	p.signOn()
	expect(t, "the thousandth", p.ask("sale", 1, p.far()), "95")
}

// TestTapsOnTrust: a shop takes taps that nobody here can prove up to a bound of
// the house.
func TestTapsOnTrust(t *testing.T) {
	h := open(t, true, map[string]switching.Peer{"FAR": newFar()})
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	tap := func(fen int64) string {
		f := c.chip(0, fen, pboc.TC)
		f[2] = farCard
		return p.ask("tap", fen, f)
	}
	expect(t, "one", tap(switching.DefaultTaps-1), "00")
	expect(t, "beyond", tap(2), "61")
	expect(t, "up to it", tap(1), "00")
	h.now.Advance(24 * time.Hour)
	p.signOn()
	expect(t, "the next day", tap(2), "00")
}

// TestManyTapsWait: a thousand taps that can never be booked hide none that can.
func TestManyTapsWait(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	rrn := p.ok("tap", 12_50, c.chip(0, 12_50, pboc.TC)) // of money that has not come yet
	if x := h.txn(rrn); x.State != switching.Approved {
		t.Fatalf("it is %s %s", x.State, x.Why)
	}
	h.do(func(tx *db.Tx) error {
		for i := range 1000 {
			_, err := tx.Exec(`INSERT INTO switching_txn (tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded,
				entry, auth, code, why, original, plan, standin, hash, reply, extra, at, changed, cut) SELECT tid, batch, $2, $3 || rrn, kind, state, mid, shop, host, 'card_none', counter,
				token, masked, class, abroad, fen, due, refunded, entry, auth, code, '', original, plan, standin, hash, reply, extra, at - 1, changed, cut FROM switching_txn WHERE rrn = $1`,
				rrn, 1000+i, fmt.Sprint(i, "-"))
			if err != nil {
				return err
			}
		}
		return nil
	})
	p.stan = 2000
	p.ok("load", 200_00, c.chip(issuing.TypeLoad, 200_00, pboc.ARQC))
	expect(t, "notice", p.say("0620", fields{2: c.number, 3: "600000", 4: fmt.Sprintf("%012d", 200_00), 11: p.next(), 49: "156",
		55: string([]byte{0xDF, 0x31, 5, 0x20, 0, 0, 0, 0}), 60: fmt.Sprintf("45%06d00060", p.batch), 61: p.of(p.stan - 1)[61]}), "00")
	h.tick()
	h.tick()
	if x := h.txn(rrn); x.State != switching.Cleared {
		t.Errorf("it is %s %s", x.State, x.Why)
	}
}

// TestNoWayToTheIssuer: a card of a bank that no way leads to is answered at once.
func TestNoWayToTheIssuer(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	n, err := pan.Complete("621700000000000000") // of a bank that shares no key with the house either
	if err != nil {
		t.Fatal(err)
	}
	number := string(n)
	f := fields{2: number, 35: number + "D2512101"}
	expect(t, "stripe with PIN", p.ask("sale", 10_00, p.pin(f, f[2], "123456")), "91")
	expect(t, "chip", p.ask("sale", 10_00, farChip(10_00)), "91")
	expect(t, "settled", p.settle(0, 0, 0, 0)+p.end("207", 0), "1100")
	h.tick()
	h.want("nothing", 5000_00, 0, 0)
	for _, b := range bin.All() {
		if b.Bank != "" || strings.HasPrefix(b.Prefix, bin.HousePrefix) {
			continue
		}
		h.read(func(q *db.Query) error {
			return db.Each(q, func(scan func(...any) error) error {
				var host string
				err := scan(&host)
				if host == "" {
					t.Errorf("range %s goes to the house's own bank", b.Prefix)
				}
				return err
			}, `SELECT host FROM switching_route WHERE prefix = $1`, b.Prefix)
		})
	}
}

// TestMalformed: a field that cannot be read, is missing or says what cannot be is
// named by the answer, which is sealed where there is a key.
func TestMalformed(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	whole := func(drop int, set fields) []byte {
		f := p.swipe(c, "123456")
		maps.Copy(f, fields{3: "000000", 4: "000000001000", 11: p.next(), 22: "021", 25: "00", 49: "156", 60: fmt.Sprintf("22%06d00020", p.batch)})
		maps.Copy(f, set)
		delete(f, drop)
		wire, err := p.message("0200", f).Seal(nil, p.key)
		if err != nil {
			t.Fatal(err)
		}
		return wire
	}
	at := 11 + 2 + 8 // of the fields: 2 (10 digits and its length), 3, 4
	pan := 1 + (len(c.number)+1)/2
	for _, tt := range []struct {
		what string
		wire func() []byte
		want string
	}{
		{"letters in 4", func() []byte { w := whole(0, nil); w[at+pan+3] = 0xAB; return w }, "F4"},
		{"letters in 3 and 4", func() []byte { w := whole(0, nil); w[at+pan], w[at+pan+3] = 0xCC, 0xAB; return w }, "F3"},
		{"bytes behind the last", func() []byte { return append(whole(0, nil), 1, 2, 3) }, "F64"},
		{"short 60", func() []byte { return whole(0, fields{60: "22"}) }, "F60"},
		{"no 22", func() []byte { return whole(22, nil) }, "F22"},
		{"entry 99", func() []byte { return whole(0, fields{22: "991"}) }, "F22"},
		{"entry with PIN 7", func() []byte { return whole(0, fields{22: "027"}) }, "F22"},
		{"hour 99", func() []byte { return whole(0, fields{12: "999999"}) }, "F12"},
		{"day 9999", func() []byte { return whole(0, fields{13: "9999"}) }, "F13"},
		{"month 13", func() []byte { return whole(0, fields{14: "2513"}) }, "F14"},
		{"check digit", func() []byte {
			return whole(35, fields{2: c.number[:len(c.number)-1] + string('0'+('9'-c.number[len(c.number)-1]+1)%10)})
		}, "F2"},
	} {
		if code := p.repeat(tt.wire()); code != "30" || p.in.Text(44) != tt.want {
			t.Errorf("%s: %s, field %q, want %s", tt.what, code, p.in.Text(44), tt.want)
		}
	}
	expect(t, "29 February", p.repeat(whole(0, fields{13: "0229"})), "00")
	for _, x := range []struct{ mti, code, body, want string }{
		{"0820", "372", "", "30"}, {"0820", "372", "1", "30"}, {"0800", "370", "", "30"}, {"0820", "362", strings.Repeat("x", 257), "30"}, {"0820", "362", strings.Repeat("x", 256), "00"},
	} {
		f := fields{11: p.next(), 60: fmt.Sprintf("00%06d%s", p.batch, x.code)}
		if x.body != "" {
			f[62] = x.body
		}
		expect(t, x.code, p.say(x.mti, f), x.want)
	}
	for what, cut := range map[string]func([]byte) []byte{
		"half a header":  func(w []byte) []byte { return w[:9] },
		"half a message": func(w []byte) []byte { return w[:at+4] },
		"nothing":        func([]byte) []byte { return nil },
	} {
		if answer, err := h.host.Handle(ctx, cut(whole(0, nil))); err == nil {
			t.Errorf("%s is answered: %X", what, answer)
		}
	}
}

// TestOtherMerchant: a terminal under another merchant's number is told so under
// its own key.
func TestOtherMerchant(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	f := p.swipe(c, "123456")
	f[42] = "898110058129999"
	expect(t, "sale", p.ask("sale", 10_00, f), "03")
	expect(t, "sale under its own", p.ask("sale", 10_00, p.swipe(c, "123456")), "00")
}

// TestReversedSaleAgain: the answer of then would be an approval.
func TestReversedSaleAgain(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	p.ok("sale", 10_00, p.swipe(c, "123456"))
	sale := p.sent
	expect(t, "reversal", p.reverse("sale", p.stan, 10_00, "98"), "00")
	expect(t, "the sale again", p.repeat(sale), "12")
	if p.in.Has(38) {
		t.Error("with an authorisation")
	}
	h.want("nothing", 5000_00, 0, 0)
}

// TestCardsDay: voids, and reversals of voids, leave the card's day at what is held.
func TestCardsDay(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	p.ok("sale", 100_00, p.swipe(c, "123456"))
	sale := p.stan
	for range 3 {
		p.ok("void", 100_00, p.of(sale))
		expect(t, "reversal of the void", p.reverse("void", p.stan, 100_00, "98"), "00")
	}
	var spent int64
	h.read(func(q *db.Query) error {
		return q.QueryRow(`SELECT spent FROM issuing_use WHERE card = $1`, c.id).Scan(&spent)
	})
	if spent != 100_00 {
		t.Errorf("100.00 is held, the card's day says %d", spent)
	}
}

// TestPreauthOver: after its life a pre-authorisation is neither completed nor held.
func TestPreauthOver(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	f := p.swipe(c, "123456")
	f[60] = fmt.Sprintf("10%06d00020", p.batch)
	rrn := p.ok("preauth", 100_00, f)
	pre := p.stan
	h.now.Advance(30*24*time.Hour + time.Minute)
	p.signOn()
	expect(t, "late completion", p.ask("completion", 100_00, p.of(pre)), "12")
	h.tick()
	if x := h.txn(rrn); x.State != switching.Expired {
		t.Errorf("it is %s", x.State)
	}
	h.want("nothing held", 5000_00, 0, 0)
}
