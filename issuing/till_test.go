package issuing_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/card"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
	"koala/wallet"
)

// A stall is a shop with a real till, whose line goes to the house's bank.
type stall struct {
	h    *bankHouse
	cfg  pos.Config
	till *pos.Till

	mute bool // the line is down after the request went out
	last issuing.Answer
}

var errLine = errors.New("no line")

func (h *bankHouse) stall() *stall {
	h.t.Helper()
	ca, err := h.bank.CAKey(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := h.keys.PublicKey(context.Background(), hsm.LabelPack)
	if err != nil {
		h.t.Fatal(err)
	}
	s := &stall{h: h}
	s.cfg = pos.Config{
		Kernel: pos.Beijing(pos.Shop{TID: "30008900", MID: "898110058120001", Name: "KOALA TEAHOUSE", Category: 5814, Serial: "KOALA001"},
			append(emv.CAKeys(), ca)),
		Clock: h.now, Random: clock.Random(5), Key: key,
		Sales: terminal.NewFlash(16), Denied: terminal.NewFlash(4), State: terminal.NewFlash(2), Issuer: s.ask,
	}
	s.boot()
	return s
}

func (s *stall) boot() {
	s.h.t.Helper()
	var err error
	if s.till, err = pos.New(s.cfg); err != nil {
		s.h.t.Fatal(err)
	}
}

// ask is the line.
func (s *stall) ask(request []byte) (kernel.Answer, error) {
	a, err := s.h.bank.Authorise(context.Background(), issuing.Online{EMV: request, Payee: shop, Text: "KOALA TEAHOUSE"})
	if err != nil {
		s.h.t.Fatal(err)
	}
	if s.last = a; s.mute {
		return kernel.Answer{}, errLine
	}
	return kernel.Answer{ARC: a.ARC, Data: a.EMV}, nil
}

// handIn brings the host all there is: records, some twice, and doubts.
func (s *stall) handIn() {
	s.h.t.Helper()
	b := s.till.Batch(100)
	s.h.clear(append(b.Records, b.Records...)...)
	for _, d := range s.till.Doubts() {
		if d.Kind == pboc.ClearOnline && d.Type != pos.Load {
			continue // cancelled at the next start
		}
		for range 2 {
			s.h.doubt(d.Clearing, d.Paid)
		}
		if err := s.till.Settle(d); err != nil {
			s.h.t.Fatal(err)
		}
	}
}

func (k *chip) present(i card.Interface) func(iso7816.Command) (iso7816.Response, error) {
	k.e.PowerOff()
	if err := k.e.PowerOn(i); err != nil {
		return func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn }
	}
	return k.e.Transmit
}

func (s *stall) tap(k *chip, sale pos.Sale) pos.Result {
	s.h.t.Helper()
	r, err := s.till.Tap(k.present(card.Contactless), sale)
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.now.Advance(time.Minute)
	return r
}

func (s *stall) load(k *chip, fen uint64) pos.LoadResult {
	s.h.t.Helper()
	r, err := s.till.Load(k.present(card.Contactless), fen)
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.now.Advance(time.Minute)
	return r
}

// heard lets the house hear the card at a till: its log and a small sale.
func (s *stall) heard(k *chip) {
	s.h.t.Helper()
	k.e.LoseAnswer(0)
	if h, o := s.till.Prove(k.present(card.Contactless)); o.Result == kernel.Approved && len(h.LoadLog) > 0 {
		if err := s.h.bank.ReportLog(context.Background(), k.id, h.LoadLog); err != nil {
			s.h.t.Fatal(err)
		}
	}
	if r := s.tap(k, pos.Sale{Fen: 1}); r.Outcome.Result != kernel.Approved {
		s.h.t.Fatalf("the last sale: %v", r.Outcome)
	}
	s.handIn()
}

// balanced holds the books against the card.
func (h *bankHouse) balanced(what string, k *chip) {
	h.t.Helper()
	if books, have := h.balance(issuing.Float(k.id)), k.balance(); books != have {
		h.t.Errorf("%s: the card has %d, the books %d", what, have, books)
	}
	if got := h.waits(k.id); len(got) > 0 {
		h.t.Errorf("%s: waits %v", what, got)
	}
	h.do(func(tx *db.Tx) error {
		list, err := issuing.DoubtsOf(tx, k.id)
		for _, d := range list {
			if d.State == issuing.DoubtWaiting {
				h.t.Errorf("%s: %+v", what, d)
			}
		}
		gaps, err2 := issuing.Gaps(tx, k.id)
		if len(gaps) > 0 {
			h.t.Errorf("%s: gaps %v", what, gaps)
		}
		return errors.Join(err, err2)
	})
}

// TestTill: everything a till can do with a card, from the load to the last
// doubt, handed in at once or all at the end: the books are the card's.
func TestTill(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late ", late), func(t *testing.T) {
			h := openBank(t, t.TempDir())
			k, s := h.issue(issuing.DebitCard, "band_1"), h.stall()
			step := func(what string, o kernel.Outcome, r *pos.Numbered, kind pboc.ClearingKind) {
				t.Helper()
				if o.Result != kernel.Approved || r == nil || r.Kind != kind {
					t.Fatalf("%s: %v, %+v", what, o, r)
				}
				if !late {
					s.handIn()
				}
			}
			l := s.load(k, 200_00)
			if l.State != pos.Loaded || l.New != 200_00 {
				t.Fatalf("load: %+v", l)
			}
			step("load", l.Outcome, l.Record, pboc.ClearOnline)
			offline := s.tap(k, pos.Sale{Fen: 12_50})
			step("offline", offline.Outcome, offline.Record, pboc.ClearSale)
			online := s.tap(k, pos.Sale{Fen: 30_00, ForceOnline: true})
			step("online", online.Outcome, online.Record, pboc.ClearOnline)
			refund := s.tap(k, pos.Sale{Fen: 5_00, Type: pos.Refund})
			step("refund", refund.Outcome, refund.Record, pboc.ClearRefund)
			wrong := s.tap(k, pos.Sale{Fen: 7_00})
			step("wrong", wrong.Outcome, wrong.Record, pboc.ClearSale)
			if _, err := s.till.Reverse(wrong.STAN); err != nil {
				t.Fatal(err)
			}
			undone := s.tap(k, pos.Sale{Fen: 9_00, ForceOnline: true})
			step("online, taken back", undone.Outcome, undone.Record, pboc.ClearOnline)
			if _, err := s.till.Reverse(undone.STAN); err != nil {
				t.Fatal(err)
			}
			s.mute = true
			if r := s.tap(k, pos.Sale{Fen: 11_00, ForceOnline: true}); r.Outcome.Result == kernel.Approved || r.Record == nil || r.Record.Kind != pboc.ClearCancel {
				t.Fatalf("no answer: %v %+v", r.Outcome, r.Record)
			}
			s.mute = false
			batch, _, err := s.till.Close()
			if err == nil {
				_, err = s.till.TakeBack(batch, offline.STAN)
			}
			if err != nil {
				t.Fatal(err)
			}
			k.e.LoseAnswer(7) // of the last record: the card has paid
			if r := s.tap(k, pos.Sale{Fen: 3_00}); r.Outcome.Result != kernel.TryAgain {
				t.Fatalf("torn: %v", r.Outcome)
			}
			k.e.LoseAnswer(0)
			if d := s.till.Doubts(); len(d) != 1 || d[0].Kind != pboc.ClearSale {
				t.Fatalf("doubts %v", d)
			}
			s.handIn()
			s.heard(k)
			h.balanced("end", k)
			h.want("end", map[ledger.AccountID]int64{
				issuing.Float(k.id): 200_00 - 12_50 - 7_00 - 3_00 - 1,
				shop:                30_00 - 5_00 + 1,
				wallet.Account(lin): 2000_00 - 200_00 + 12_50 - 30_00 + 5_00 + 7_00 + 3_00,
			})
			if b := h.available(wallet.Account(lin)); b != h.balance(wallet.Account(lin)) {
				t.Errorf("%d is still held", h.balance(wallet.Account(lin))-b)
			}
		})
	}
}

// TestTillWithLosses: a card and a till that lose answers at will, power of the
// till, and the line. Whatever happened, once the card has been heard the books
// are its, and the money is what there was.
func TestTillWithLosses(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.rich()
	k, s := h.issue(issuing.DebitCard, "band_1"), h.stall()
	if l := s.load(k, 500_00); l.State != pos.Loaded {
		t.Fatalf("%+v", l)
	}
	total := func() int64 {
		return h.balance(wallet.Account(lin)) + h.balance(issuing.Float(k.id)) + h.balance(shop)
	}
	before := total()
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 3).Draw(rt, "steps") {
			k.e.LoseAnswer(rapid.IntRange(0, 24).Draw(rt, "lost"))
			s.mute = rapid.IntRange(0, 4).Draw(rt, "line") == 0
			fen := uint64(rapid.IntRange(1, 50).Draw(rt, "fen"))
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0, 1:
				s.tap(k, pos.Sale{Fen: fen})
			case 2:
				s.tap(k, pos.Sale{Fen: fen, ForceOnline: true})
			case 3:
				if r := s.tap(k, pos.Sale{Fen: fen}); r.Outcome.Result == kernel.Approved && r.Outcome.Reason != kernel.Recovered {
					if _, err := s.till.Reverse(r.STAN); err != nil {
						rt.Fatal(err)
					}
				}
			case 4:
				s.load(k, fen)
			case 5:
				s.boot()
			}
			if rapid.Bool().Draw(rt, "hands in") {
				s.handIn()
			}
		}
		s.mute = false
		s.handIn()
		s.boot() // it cancels what it had asked for
		s.handIn()
		s.heard(k)
		s.release(rt)
		s.ripen(k)
		h.balanced("heard", k)
		if after := total(); after != before {
			rt.Fatalf("%d became %d", before, after)
		}
		if b := h.available(wallet.Account(lin)); b != h.balance(wallet.Account(lin)) {
			rt.Fatalf("%d is still held", h.balance(wallet.Account(lin))-b)
		}
	})
}

// ripen lets the waiting time pass of doubts that something unknown stands
// beside: a counter that the card used and told nobody of.
func (s *stall) ripen(k *chip) {
	s.h.t.Helper()
	var wait bool
	s.h.do(func(tx *db.Tx) error {
		list, err := issuing.DoubtsOf(tx, k.id)
		for _, d := range list {
			wait = wait || d.State == issuing.DoubtWaiting
		}
		return err
	})
	if !wait {
		return
	}
	s.h.now.Advance(8 * 24 * time.Hour)
	if err := s.h.bank.RipenDoubts(context.Background()); err != nil {
		s.h.t.Fatal(err)
	}
}

// release frees the till's store: the host has it all.
func (s *stall) release(rt *rapid.T) {
	b := s.till.Batch(1000)
	if _, _, err := s.till.Close(); err != nil {
		rt.Fatal(err)
	}
	if n := len(b.Records); n > 0 {
		if err := s.till.Release(b.First + uint32(n) - 1); err != nil {
			rt.Fatal(err)
		}
	}
}

// TestExceptionList: a card that is suspended is on the tills' list, one that is
// found again is not, one that has ended stays.
func TestExceptionList(t *testing.T) {
	ctx := context.Background()
	h := openBank(t, t.TempDir())
	k, s := h.issue(issuing.DebitCard, "band_1"), h.stall()
	h.open(issuing.TransitBJ, "band_1")
	s.load(k, 50_00)
	update := func() {
		t.Helper()
		list, err := h.bank.ExceptionList(ctx, s.till.Deny().Version())
		if err == nil && list != nil {
			err = s.till.Deny().Apply(list)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	taps := func(what string, want kernel.Result, why kernel.Reason) {
		t.Helper()
		if o := s.tap(k, pos.Sale{Fen: 1_00}).Outcome; o.Result != want || o.Reason != why {
			t.Errorf("%s: %v", what, o)
		}
	}
	update()
	if taps("before", kernel.Approved, kernel.NoReason); s.till.Deny().Version() != 0 {
		t.Error("a list without anything in it")
	}
	h.do(func(tx *db.Tx) error { _, err := issuing.Suspend(tx, "band_1"); return err })
	update()
	taps("lost", kernel.Declined, kernel.OnExceptions)
	h.do(func(tx *db.Tx) error {
		list, err := issuing.Refusals(tx, 0, 10)
		if len(list) != 2 || list[0].Version != 1 || list[1].Card.Purse() == "" && list[0].Card.Purse() == "" || list[0].Reason != purse.DenyLost {
			t.Errorf("refusals %+v", list)
		}
		return err
	})
	h.do(func(tx *db.Tx) error { _, err := issuing.Restore(tx, "band_1"); return err })
	if update(); s.till.Deny().Size() != 0 {
		t.Errorf("%d on the list", s.till.Deny().Size())
	}
	taps("found", kernel.Approved, kernel.NoReason)
	s.handIn()
	h.do(func(tx *db.Tx) error {
		err := issuing.BeginReturn(tx, k.id)
		if err == nil {
			err = issuing.Close(tx, k.id, issuing.Counters{Balance: money.Fen(48_00), Online: 99, Offline: 99, At: tx.Now()})
		}
		return err
	})
	update()
	taps("ended", kernel.Declined, kernel.OnExceptions)
	if whole, err := h.bank.ExceptionList(ctx, 0); err != nil || len(whole) != 24+11+64 {
		t.Errorf("the whole list: %d bytes, %v", len(whole), err)
	}
}

// TestClaims: a customer sees what became of a lost card, by which rule, and what
// went along.
func TestClaims(t *testing.T) {
	h := openBank(t, t.TempDir())
	p := h.paper(issuing.DebitCard, "band_1", 50_00)
	h.do(func(tx *db.Tx) error { _, err := issuing.Suspend(tx, "band_1"); return err })
	h.now.Advance(8 * 24 * time.Hour)
	n, err := h.bank.Number(context.Background(), issuing.DebitCard)
	if err != nil {
		t.Fatal(err)
	}
	carry := issuing.Carry{Rides: 3, Spent: money.Fen(12_00), At: start}
	h.do(func(tx *db.Tx) error {
		heir, err := issuing.Open(tx, issuing.Application{Ref: "heir", Customer: lin, Band: "band_2", Product: issuing.DebitCard, PAN: &n, Replaces: p.id, Carry: carry})
		if err == nil {
			_, err = issuing.Move(tx, p.id, heir.ID)
		}
		if err != nil {
			return err
		}
		c, err := issuing.ClaimOf(tx, p.id)
		if c.State != issuing.ClaimPaid || c.New != heir.ID || c.Fen.Minor() != 50_00 || c.Carry.Rides != 3 || !c.Carry.At.Equal(start) ||
			c.Rule.Value != 7 || c.Due.Sub(c.Lost) != 7*24*time.Hour {
			t.Errorf("claim %+v", c)
		}
		return err
	})
}

// TestSMTill: a card of the SM variant from the order to the books, over the air and
// by contact, at a till with both CA keys, which reads its SM2 chain, and at one that
// knows RSA only.
func TestSMTill(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.sellSM()
	k, s := h.issue("debit-sm", "band_1"), h.stall()
	old := s.till
	keys, err := h.bank.CAKeys(context.Background())
	if err != nil || len(keys) != 2 || keys[1].Algorithm != emv.SM2 {
		t.Fatalf("%d CA keys, %v", len(keys), err)
	}
	s.cfg.Kernel.Keys, s.cfg.Record = keys, true
	s.cfg.Sales, s.cfg.Denied, s.cfg.State = terminal.NewFlash(16), terminal.NewFlash(4), terminal.NewFlash(2)
	s.boot()
	if l := s.load(k, 200_00); l.State != pos.Loaded || l.New != 200_00 {
		t.Fatalf("load: %+v", l)
	}
	signature := func() (sdad []byte) {
		for _, x := range s.till.Dialogue() {
			if v, ok := tlv.Find(x.Response.Data, emv.TagSDAD); ok {
				sdad = v
			}
		}
		return sdad
	}
	r := s.tap(k, pos.Sale{Fen: 12_50})
	if r.Outcome.Result != kernel.Approved || r.Record == nil || r.Record.Kind != pboc.ClearSale {
		t.Fatalf("tapped: %v", r.Outcome)
	}
	if sdad := signature(); len(sdad) != 69 || sdad[0] != 0x15 {
		t.Errorf("9F4B %X", sdad)
	}
	if iad, err := pboc.ParseIAD(r.Record.IAD); err != nil || iad.Alg != pboc.SM4 {
		t.Errorf("9F10 %X %v", r.Record.IAD, err)
	}
	in, err := s.till.Insert(k.present(card.Contact), pos.Sale{Fen: 7_50})
	if err != nil || in.Outcome.Result != kernel.Approved {
		t.Fatalf("inserted: %v %v", in.Outcome, err)
	}
	s.handIn()
	h.want("at a till with both keys", map[ledger.AccountID]int64{issuing.Float(k.id): 180_00, shop: 20_00})
	s.till = old
	if r := s.tap(k, pos.Sale{Fen: 10_00}); r.Outcome.Result != kernel.Approved {
		t.Fatalf("at a till with one key: %v", r.Outcome)
	}
	s.handIn()
	h.want("at a till with one key", map[ledger.AccountID]int64{issuing.Float(k.id): 170_00, shop: 30_00})
	h.balanced("SM", k)
	other, err := emv.NewSM2Key(append(make([]byte, 31), 9))
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Kernel.Keys = []emv.CAKey{keys[0], emv.NewCAKey(emv.RIDUnionPay, keys[1].Index, other.Public())}
	s.cfg.Sales, s.cfg.Denied, s.cfg.State = terminal.NewFlash(16), terminal.NewFlash(4), terminal.NewFlash(2)
	s.boot()
	if r := s.tap(k, pos.Sale{Fen: 10_00}); r.Outcome.Result == kernel.Approved && r.Record.Kind == pboc.ClearSale || k.balance() != 170_00 {
		t.Errorf("another authority's till: %v, the card has %d", r.Outcome, k.balance())
	}
}
