package switching_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/issuing"
	"koala/settlement"
	"koala/spec/pboc"
	"koala/switching"
	"koala/switching/referral"
	"koala/wallet"
)

// An entry is a line of a terminal's journal.
type entry struct {
	kind string
	stan int
	fen  int64
	far  bool
	stands,
	void bool // undone by a later void
	rrn string
}

// A till is a terminal with a journal, over a line that loses and doubles.
type till struct {
	*terminal
	journal []*entry
	due     *entry // to be reversed before anything else
	told    *entry // of an advice without an answer: it goes again
	advice  []byte
	lost    [][]byte
}

// deliver sends wire and says whether the answer came back.
func (p *till) deliver(t *rapid.T, wire []byte) (came bool) {
	switch rapid.SampledFrom([]string{"", "", "", "", "doubled", "no answer", "lost"}).Draw(t, "line") {
	case "lost":
		p.lost = append(p.lost, wire)
		return false
	case "no answer":
		p.exchange(wire)
		return false
	case "doubled":
		p.exchange(wire)
	}
	p.take(p.exchange(wire))
	return p.in.Verify(p.key) == nil
}

// settleDue sends the reversal that waits; it stays when no answer comes.
func (p *till) settleDue(t *rapid.T, sure bool) bool {
	if p.due == nil {
		return true
	}
	k := switching.KindNamed(p.due.kind)
	wire, err := p.message("0400", fields{3: k.Process, 4: fmt.Sprintf("%012d", p.due.fen), 11: fmt.Sprintf("%06d", p.due.stan), 25: k.Point, 39: "98", 49: "156",
		60: fmt.Sprintf("%s%06d00020", k.Type, p.batch)}).Seal(nil, p.key)
	if err != nil {
		t.Fatal(err)
	}
	if sure {
		p.take(p.exchange(wire))
	} else if !p.deliver(t, wire) {
		return false
	}
	if got := p.in.Text(39); got != "00" {
		t.Fatalf("reversal of %s %d: %s", p.due.kind, p.due.stan, got)
	}
	p.due = nil
	return true
}

// act does one transaction as a terminal does.
func (p *till) act(t *rapid.T, e *entry, f fields) {
	k := switching.KindNamed(e.kind)
	e.stan = p.stan + 1
	all := fields{3: k.Process, 4: fmt.Sprintf("%012d", e.fen), 11: p.next(), 22: "021", 25: k.Point, 49: "156", 60: fmt.Sprintf("%s%06d00020", k.Type, p.batch)}
	for n, v := range f {
		all[n] = v
	}
	wire, err := p.message(k.MTI, all).Seal(nil, p.key)
	if err != nil {
		t.Fatal(err)
	}
	if !p.deliver(t, wire) {
		p.due = e
		return
	}
	switch code := p.in.Text(39); code {
	case "00":
		e.stands, e.rrn = true, p.in.Text(37)
		p.journal = append(p.journal, e)
	case "98", "96":
		p.due = e
	}
}

// tell tells a sale that was approved by telephone: what has no answer is not
// taken back, it goes again.
func (p *till) tell(t *rapid.T, e *entry, f fields) {
	k := switching.KindNamed(e.kind)
	e.stan = p.stan + 1
	all := fields{3: k.Process, 4: fmt.Sprintf("%012d", e.fen), 11: p.next(), 22: "012", 25: k.Point, 49: "156", 60: fmt.Sprintf("%s%06d00020", k.Type, p.batch)}
	for n, v := range f {
		all[n] = v
	}
	wire, err := p.message(k.MTI, all).Seal(nil, p.key)
	if err != nil {
		t.Fatal(err)
	}
	p.told, p.advice = e, wire
	p.tellDue(t, false)
}

// tellDue sends the advice that waits.
func (p *till) tellDue(t *rapid.T, sure bool) bool {
	switch {
	case p.told == nil:
		return true
	case sure:
		p.take(p.exchange(p.advice))
	case !p.deliver(t, p.advice):
		return false
	}
	if p.in.Text(39) == "00" {
		p.told.stands = true
		p.journal = append(p.journal, p.told)
	}
	p.told = nil
	return true
}

// aCode is a code that was given by telephone, and what for.
type aCode struct {
	id, code string
	fen      int64
}

// TestModel: any order of sales, voids, losses, doubled and late messages,
// restarts, and an issuer's host in any mood: in the end terminal, shop,
// cardholder and issuer have the same, and every trace is there once.
func TestModel(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	c := h.card(issuing.DebitCard)
	first := h.terminal("19999999")
	loaded := c.chip(issuing.TypeLoad, 800_00, pboc.ARQC)
	expect(t, "load", first.ask("load", 800_00, loaded), "00")
	expect(t, "notice", first.say("0620", fields{2: c.number, 3: "600000", 4: fmt.Sprintf("%012d", 800_00), 11: first.next(), 49: "156",
		55: string([]byte{0xDF, 0x31, 5, 0x20, 0, 0, 0, 0}), 60: fmt.Sprintf("45%06d00060", first.batch), 61: first.of(first.stan - 1)[61]}), "00")
	c.fen = 800_00
	expect(t, "what earns points", first.ask("sale", 900_00, c.chip(0, 900_00, pboc.ARQC)), "00")
	expect(t, "settle", first.settle(900_00, 1, 0, 0), "11")
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		f.held, f.mood = map[string]int64{}, ""
		p := &till{terminal: h.terminal(fmt.Sprintf("1%07d", n))}
		heldBefore := h.balance(wallet.Account(holder)).Held
		var codes []aCode
		givenBefore := h.given()
		floatBefore := h.balance(issuing.Float(c.id)).Posted.Minor()
		holderBefore, shopBefore := h.balance(wallet.Account(holder)).Available.Minor(), h.balance(settlement.Payable(shop)).Posted.Minor()
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			f.mood = rapid.SampledFrom([]string{"", "", "", "silent", "amount", "mac", "down", "91", "51", "garbage"}).Draw(t, "mood")
			if !p.settleDue(t, false) || !p.tellDue(t, false) {
				continue
			}
			fen := rapid.Int64Range(1, 20).Draw(t, "fen")
			switch rapid.SampledFrom([]string{"own", "own", "code", "far", "far", "goods", "goods", "void", "call", "voice", "voice", "points", "points", "tap", "part", "part", "restart", "tick", "late"}).Draw(t, "do") {
			case "own":
				p.act(t, &entry{kind: "sale", fen: fen}, c.chip(0, fen, pboc.ARQC))
			case "code":
				p.act(t, &entry{kind: "sale", fen: fen}, fields{22: "032", 62: h.code()})
			case "far":
				p.act(t, &entry{kind: "sale", fen: fen, far: true}, p.far())
			case "goods": // given already: the issuer is told
				p.tell(t, &entry{kind: "offline", fen: fen, far: true}, fields{2: farCard, 14: "2512", 38: "PHONE1"})
			case "points":
				p.act(t, &entry{kind: "points", fen: fen}, c.chip(0, fen, pboc.ARQC))
			case "tap":
				c.fen -= fen
				p.tell(t, &entry{kind: "tap", fen: fen}, c.chip(0, fen, pboc.TC))
			case "part": // of what a tap paid, as long as there is something left
				for _, o := range p.journal {
					if o.kind == "tap" {
						e := &entry{kind: "tap.refund", fen: rapid.Int64Range(1, o.fen).Draw(t, "part")}
						p.tell(t, e, fields{2: c.number, 61: p.of(o.stan)[61] + "0916"})
						break
					}
				}
			case "call":
				code := h.voice(c, fen)
				codes = append(codes, aCode{fmt.Sprintf("call_%06d", h.n), code, fen})
			case "voice": // with a code that stands, that was used, or for more than it was given for
				if len(codes) > 0 {
					x := rapid.SampledFrom(codes).Draw(t, "code")
					p.tell(t, &entry{kind: "offline", fen: max(x.fen+rapid.Int64Range(-2, 1).Draw(t, "more"), 1)}, fields{2: c.number, 14: c.expiry, 38: x.code})
				}
			case "void":
				for _, o := range p.journal {
					if (o.kind == "sale" || o.kind == "points") && o.stands && !o.void {
						v := &entry{kind: map[string]string{"sale": "void", "points": "points.void"}[o.kind], fen: o.fen, far: o.far}
						o.void = true
						p.act(t, v, p.of(o.stan))
						if !v.stands {
							p.settleDue(t, true)
							o.void = false
						}
						break
					}
				}
			case "late": // what was lost, and is reversed, comes all the same
				for _, wire := range p.lost {
					p.exchange(wire)
				}
				p.lost = nil
			case "restart":
				h.boot()
			case "tick":
				h.now.Advance(time.Minute)
				if err := h.host.Tick(ctx, h.now.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		f.mood = ""
		p.settleDue(t, true)
		p.tellDue(t, true)
		for _, x := range codes {
			h.do(func(tx *db.Tx) error {
				if r, err := referral.Of(tx, x.id); err != nil || r.State != referral.Held {
					return err
				}
				return referral.Withdraw(tx, x.id)
			})
		}
		for range 3 {
			h.now.Advance(20 * time.Minute)
			p.signOn()
			if err := h.host.Tick(ctx, h.now.Now()); err != nil {
				t.Fatal(err)
			}
		}
		p.strike(t)
		var debits, credits int64
		var dn, cn int
		for _, e := range p.journal {
			switch {
			case e.kind == "sale", e.kind == "offline", e.kind == "tap", e.kind == "points":
				debits, dn = debits+e.fen, dn+1
			default:
				credits, cn = credits+e.fen, cn+1
			}
		}
		if got := p.settle(debits, dn, credits, cn); got != "11" {
			t.Fatalf("settlement %s: host %s", got, p.in.Text(48))
		}
		b := h.balance(wallet.Account(holder))
		spent := floatBefore - h.balance(issuing.Float(c.id)).Posted.Minor()
		given := h.given() - givenBefore
		own, shopGot := holderBefore-b.Available.Minor()+spent, h.balance(settlement.Payable(shop)).Posted.Minor()-shopBefore
		if net := debits - credits; shopGot != net || own+given+f.sum() != net || b.Held != heldBefore {
			t.Fatalf("terminal %d, shop %d, holder %d (held %d), far %d, points %d", net, shopGot, own, b.Held.Minor(), f.sum(), given)
		}
		if b := h.points(c); b.Spent != h.given() {
			t.Fatalf("%d points spent, the house gave %d fen", b.Spent, h.given())
		}
		h.stands(t)
	})
}

// strike gives up what the issuer would not hear of, and takes it out of the
// terminal's journal.
func (p *till) strike(t *rapid.T) {
	for _, d := range p.h.cases() {
		if d.TID != p.tid || d.What != switching.DeclinedAdvice {
			continue
		}
		p.h.do(func(tx *db.Tx) error { return switching.Resolve(tx, d.ID, false, "ling", "") })
		p.journal = slices.DeleteFunc(p.journal, func(e *entry) bool { return e.stan == d.STAN })
	}
}

// stands proves the books.
func (h *house) stands(t *rapid.T) {
	err := h.store.Read(ctx, func(q *db.Query) error {
		var open int
		err := q.QueryRow(`SELECT COUNT(*) FROM switching_txn WHERE state = 'sent'`).Scan(&open)
		if open != 0 {
			t.Errorf("%d transactions have no end", open)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzHandle: whatever comes is answered or refused, nothing panics, and
// nothing is booked for a message whose MAC does not verify.
func FuzzHandle(f *testing.F) {
	h := open(f, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	if got := p.ask("sale", 10_00, c.chip(0, 10_00, pboc.ARQC)); got != "00" {
		f.Fatal(got)
	}
	f.Add(p.sent)
	p.reverse("sale", p.stan, 10_00, "98")
	f.Add(p.sent)
	p.settle(0, 0, 0, 0)
	f.Add(p.sent)
	p.end("207", 0)
	f.Add(p.sent)
	p.ask("refund", 1_00, fields{2: c.number, 37: "000000000000"})
	f.Add(p.sent)
	f.Add([]byte{0x60, 0, 3, 0, 0, 0x60})
	count := func() (n int) {
		h.read(func(q *db.Query) error { return q.QueryRow(`SELECT COUNT(*) FROM switching_txn`).Scan(&n) })
		return n
	}
	before, held := count(), h.balance(wallet.Account(holder))
	f.Fuzz(func(t *testing.T, in []byte) {
		h.t = t
		_, _ = h.host.Handle(ctx, in)
		if b := h.balance(wallet.Account(holder)); b != held || count() != before {
			var m = p.in
			if m.Unpack(p.in.Spec(), in) != nil || m.Verify(p.key) != nil {
				t.Errorf("%X changed the books", in)
			}
			before, held = count(), b
		}
	})
}
