package tsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/card/catalog"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm"
)

// halfLoaded brings a top-up to the point where CREDIT FOR LOAD has been carried
// out and its answer is lost, and gives what the card had answered before to
// INITIALIZE FOR LOAD with the same amount.
func halfLoaded(t *testing.T) (h *house, o tsm.Order, old []byte) {
	t.Helper()
	h = plain(t)
	h.issued(0)
	o = h.place(tsm.TopUp, 50_00)
	s := h.next()
	answers, _ := h.band.transmit(s)
	h.band.report(s, answers, false)
	s = h.next()
	if _, cut := h.band.transmit(s); cut {
		t.Fatal("torn")
	}
	h.band.report(s, nil, true) // a lie: the card took the money
	return h, o, answers[1]
}

func (h *house) next() tsm.Script {
	h.t.Helper()
	s, err := h.tsm.Next(ctx, bandID)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// TestLyingAgent lets an agent that took the money claim that it did not.
func TestLyingAgent(t *testing.T) {
	t.Parallel()
	fci := func(h *house) []byte { return h.band.ask(iso7816.Select(purse.AIDTUnion)).Bytes() }
	for _, tt := range []struct {
		name string
		lie  func(h *house, old []byte) [][]byte // answers to the proving script
		desk bool
	}{
		{"an answer from before the load", func(h *house, old []byte) [][]byte {
			return [][]byte{fci(h), {0x94, 0x06}, old}
		}, false},
		{"a made-up sequence", func(h *house, old []byte) [][]byte {
			fresh := append([]byte(nil), old...)
			fresh[5] = 9
			return [][]byte{fci(h), {0x94, 0x06}, fresh}
		}, false},
		{"a made-up TAC", func(h *house, _ []byte) [][]byte {
			return nil // see below
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, o, old := halfLoaded(t)
			s := h.next()
			answers := tt.lie(h, old)
			if answers == nil {
				answers, _ = h.band.transmit(s)
				copy(answers[1], "lies")
				copy(answers[1][4:], "lies")
			}
			h.band.report(s, answers, false)
			got := h.order(o.ID)
			if got.State != tsm.Unconfirmed || got.Desk != tt.desk {
				t.Fatalf("order is %s (%s), desk %v", got.State, got.Why, got.Desk)
			}
			if v := h.money(); v.held != 50_00 || v.float != 0 {
				t.Errorf("money: %+v, want 50 yuan still held", v)
			}
			if tt.desk {
				h.do(func(tx *db.Tx) error { _, err := h.tsm.Recover(tx, o.ID, tsm.TryAgain); return err })
			}
			h.settle(o, tsm.Done)
			h.sound()
		})
	}
}

// TestOtherCard puts another person's card under the reader.
func TestOtherCard(t *testing.T) {
	h, o, _ := halfLoaded(t)
	mine := h.band.element
	other := plain(t)
	h2 := open(t, sqlite(t), tsm.Config{})
	_ = h2.placeOther()
	h2.issued(0)
	h.band.element = h2.band.element
	h.band.work(1)
	if got := h.order(o.ID); got.State != tsm.Unconfirmed || got.Why != tsm.WrongCard {
		t.Errorf("with another card: %s (%s)", got.State, got.Why)
	}
	h.band.element = other.band.element // no card at all
	h.band.work(1)
	if got := h.order(o.ID); got.State != tsm.Unconfirmed {
		t.Errorf("without a card: %s (%s)", got.State, got.Why)
	}
	h.band.element = mine
	h.settle(o, tsm.Done)
	h.sound()
}

// placeOther uses up a number, so that the next card has another one.
func (h *house) placeOther() tsm.Order {
	o := h.place(tsm.Issue, 0)
	h.do(func(tx *db.Tx) error { _, err := h.tsm.Cancel(tx, o.ID); return err })
	return o
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		kind    tsm.Kind
		scripts int // run before the customer cancels
		want    tsm.State
		card    issuing.State
	}{
		{"an issue nobody began", tsm.Issue, 0, tsm.Cancelled, issuing.Abandoned},
		{"an issue whose script is out", tsm.Issue, 1, tsm.Done, issuing.Active},
		{"a top-up nobody began", tsm.TopUp, 0, tsm.Cancelled, issuing.Active},
		{"a top-up before MAC2", tsm.TopUp, 0, tsm.Cancelled, issuing.Active},
		{"a top-up after MAC2", tsm.TopUp, 1, tsm.Done, issuing.Active},
		{"a return before its proof", tsm.Delete, 0, tsm.Cancelled, issuing.Active},
		{"a return after its proof", tsm.Delete, 2, tsm.Done, issuing.Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := plain(t)
			h.band.work(0)
			if tt.kind != tsm.Issue {
				h.issued(20_00)
			}
			o := h.place(tt.kind, 10_00)
			if tt.scripts > 0 {
				h.band.work(tt.scripts)
			}
			h.do(func(tx *db.Tx) error { _, err := h.tsm.Cancel(tx, o.ID); return err })
			h.band.work(0)
			if got := h.order(o.ID); got.State != tt.want || h.state() != tt.card {
				t.Errorf("order %s (%s), card %s; want %s, %s\n%s", got.State, got.Why, h.state(), tt.want, tt.card, h.log(o.ID))
			}
			h.sound()
		})
	}
}

// TestCancelledIssueLeavesNothing cancels an issue whose script then breaks at
// every command: what was written is removed again, unless all of it was.
func TestCancelledIssueLeavesNothing(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		h := plain(t)
		h.band.work(0)
		o := h.place(tsm.Issue, 0)
		h.band.work(1)
		h.do(func(tx *db.Tx) error { _, err := h.tsm.Cancel(tx, o.ID); return err })
		h.band.cutBefore = n
		h.band.work(0)
		hit := h.band.cutBefore == 0
		h.band.cutBefore = 0
		h.band.work(0)
		_, there := h.band.balance()
		if got := h.order(o.ID); hit && (got.State != tsm.Cancelled || h.state() != issuing.Abandoned || there) {
			t.Errorf("cut before command %d: %s (%s), card %s, in the element: %v", n, got.State, got.Why, h.state(), there)
		}
		h.sound()
		if !hit {
			return
		}
	}
}

// TestSilence lets the clock run while a band says nothing.
func TestSilence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		kind    tsm.Kind
		scripts int
		hours   int
		want    tsm.State
		desk    bool
	}{
		{"top-up, band never came", tsm.TopUp, 0, 25, tsm.Failed, false},
		{"top-up, MAC2 out, not yet late", tsm.TopUp, 1, 0, tsm.Running, false},
		{"top-up, MAC2 out, two hours", tsm.TopUp, 1, 2, tsm.Unconfirmed, false},
		{"top-up, MAC2 out, three days", tsm.TopUp, 1, 72, tsm.Unconfirmed, true},
		{"issue, band never came", tsm.Issue, 0, 25, tsm.Failed, false},
		{"issue, half way, two hours", tsm.Issue, 1, 2, tsm.Unconfirmed, false},
		{"block, half way, three days", tsm.Block, 1, 72, tsm.Unconfirmed, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := plain(t)
			h.band.work(0)
			if tt.kind != tsm.Issue {
				h.issued(20_00)
			}
			o := h.place(tt.kind, 10_00)
			if tt.scripts > 0 {
				h.band.work(tt.scripts)
			}
			for range tt.hours {
				h.now.Advance(time.Hour)
				if err := h.tsm.Tick(ctx, h.now.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if got := h.order(o.ID); got.State != tt.want || got.Desk != tt.desk {
				t.Errorf("%s (%s), desk %v; want %s, %v", got.State, got.Why, got.Desk, tt.want, tt.desk)
			}
			if v := h.money(); tt.want == tsm.Failed && (v.held != 0 || v.wallet+v.float+v.deposit != funds) {
				t.Errorf("money: %+v", v)
			}
		})
	}
}

// TestDesk lets staff decide a top-up whose band is gone for ever.
func TestDesk(t *testing.T) {
	for _, tt := range []struct {
		decision tsm.Decision
		want     tsm.State
		float    int64
	}{{tsm.Happened, tsm.Done, 50_00}, {tsm.Nothing, tsm.Failed, 0}} {
		h, o, _ := halfLoaded(t)
		recover := func() error {
			return h.try(func(tx *db.Tx) error { _, err := h.tsm.Recover(tx, o.ID, tt.decision); return err })
		}
		if err := recover(); !errors.Is(err, tsm.ErrState) {
			t.Errorf("before it is at the desk: %v", err)
		}
		h.now.Advance(100 * time.Hour)
		if err := h.tsm.Tick(ctx, h.now.Now()); err != nil {
			t.Fatal(err)
		}
		if err := recover(); err != nil {
			t.Fatal(err)
		}
		if got, v := h.order(o.ID), h.money(); got.State != tt.want || v.float != tt.float || v.held != 0 || v.wallet+v.float+v.deposit != funds {
			t.Errorf("%s: %s, money %+v", tt.decision, got.State, v)
		}
		if err := recover(); !errors.Is(err, tsm.ErrState) {
			t.Errorf("twice: %v", err)
		}
	}
}

// TestSAM writes a gate's PSAM and a card, and lets the two meet.
func TestSAM(t *testing.T) {
	h := plain(t)
	gate := newBand(t, h.tsm, "gate_1", 9)
	data := tsm.SAMData{Serial: [10]byte{1, 2, 3}, Terminal: purse.Terminal{0x30, 0, 0x89, 0, 3, 0x40}}
	var o tsm.Order
	h.do(func(tx *db.Tx) (err error) {
		if err := h.tsm.Register(tx, "gate_1", "metro"); err != nil {
			return err
		}
		o, err = h.tsm.Place(tx, tsm.Request{Ref: "sam", Kind: tsm.SAM, Band: "gate_1", Customer: "metro", SAM: &data})
		return err
	})
	gate.element.Memory().CutAfter(40)
	gate.work(0)
	if got := h.order(o.ID); got.State != tsm.Done {
		t.Fatalf("%s (%s)\n%s", got.State, got.Why, h.log(o.ID))
	}
	h.issued(20_00)
	at := purse.StampOf(h.now.Now())
	h.band.ask(iso7816.Select(purse.AIDTUnion))
	buy := purse.InitPurchase{Purse: purse.EP, Key: 1, Fen: 300, Terminal: data.Terminal}
	a, err := purse.ParseInitPurchaseAnswer(h.band.ask(buy.Command()).Data)
	if err != nil {
		t.Fatal(err)
	}
	gate.ask(iso7816.Select([]byte(catalog.PSAMModule)))
	sam, err := purse.ParseSAMPurchaseAnswer(gate.ask(purse.SAMPurchase{Rnd: a.Rnd, Seq: a.Seq, Fen: 300, Type: buy.Type(), Stamp: at,
		KeyVersion: a.KeyVersion, Alg: a.Alg, Factors: [][8]byte{h.card.Purse().Factor()}}.Command()).Data)
	if err != nil {
		t.Fatal(err)
	}
	paid := h.band.ask(purse.DebitCommand{TSeq: sam.TSeq, Stamp: at, MAC1: sam.MAC1}.Command())
	proof, err := purse.ParseDebitAnswer(paid.Data)
	if err != nil {
		t.Fatalf("%v: %v", paid, err)
	}
	if r := gate.ask(purse.SAMCredit{MAC2: proof.MAC2}.Command()); !r.SW.OK() {
		t.Errorf("the PSAM says %v to MAC2", r.SW)
	}
	if on, _ := h.band.balance(); on != 17_00 {
		t.Errorf("card holds %d, want 1700", on)
	}
}

// TestLogHidesKeys reads the log of an issue: every command explains itself,
// and nothing in it, nor in the store's own bytes of it, is key material.
func TestLogHidesKeys(t *testing.T) {
	h := plain(t)
	o := h.place(tsm.Issue, 0)
	h.settle(o, tsm.Done)
	secrets := 0
	h.read(func(q *db.Query) error {
		lines, err := tsm.Log(q, o.ID)
		for _, l := range lines {
			if l.Meaning.EN == "" || l.Meaning.ZH == "" || l.Phase.Words(true) == string(l.Phase) {
				t.Errorf("no words for %X in %s: %+v", l.Plain.Bytes(), l.Phase, l.Meaning)
			}
			if l.Answer == nil || !l.Good {
				t.Errorf("%X has no good answer", l.Plain.Bytes())
			}
			if strings.Contains(fmt.Sprint(l.Meaning), string(h.card)) {
				t.Errorf("%s shows the whole card number: %+v", l.Phase, l.Meaning)
			}
			if secrets += len(l.Secret); len(l.Secret) > 0 && len(l.Plain.Data) > 0 {
				t.Errorf("a command with keys shows data %X", l.Plain.Data)
			}
		}
		return err
	})
	if secrets != 4 {
		t.Errorf("%d keys named, want 4", secrets)
	}
	for i, s := range h.order(o.ID).Progress() {
		if !s.Done || s.Now || s.EN == "" || s.ZH == "" {
			t.Errorf("step %d of a finished issue: %+v", i, s)
		}
	}
	h.read(func(q *db.Query) error {
		all, err := tsm.Orders(q, tsm.Filter{Customer: string(lin), Limit: 10})
		if len(all) != 2 || all[0].ID != o.ID {
			t.Errorf("orders: %v", all)
		}
		n, err2 := tsm.Counts(q)
		if n[tsm.Done] != 2 {
			t.Errorf("counts: %v", n)
		}
		bands, err3 := tsm.BandsOf(q, string(lin))
		if len(bands) != 1 || !bands[0].Adopted {
			t.Errorf("bands: %+v", bands)
		}
		return errors.Join(err, err2, err3)
	})
}

// TestReportsThatDoNotFit sends the manager what no agent should.
func TestReportsThatDoNotFit(t *testing.T) {
	h := plain(t)
	s := h.next()
	ok, no := []byte{0x90, 0x00}, []byte{0x6A, 0x82}
	for _, tt := range []struct {
		name    string
		band    string
		script  string
		answers [][]byte
		want    error
	}{
		{"unknown script", bandID, "scr_none", nil, tsm.ErrScript},
		{"somebody else's script", "band_2", s.ID, nil, tsm.ErrScript},
		{"an answer of one byte", bandID, s.ID, [][]byte{{0x90}}, tsm.ErrAnswers},
		{"an answer too long", bandID, s.ID, [][]byte{bytes.Repeat([]byte{0}, 300)}, tsm.ErrAnswers},
		{"more answers than commands", bandID, s.ID, [][]byte{ok, ok, ok}, tsm.ErrAnswers},
		{"an answer after a refusal", bandID, s.ID, [][]byte{no, ok}, tsm.ErrAnswers},
		{"rubbish that fits", bandID, s.ID, [][]byte{ok, ok}, nil},
	} {
		if err := h.tsm.Report(ctx, tt.band, tt.script, tt.answers, false); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	h.issued(10_00) // and still everything works
	if _, err := h.tsm.Next(ctx, "band_2"); !errors.Is(err, tsm.ErrBand) {
		t.Errorf("unknown band: %v", err)
	}
}

func TestPlaceChecks(t *testing.T) {
	h := plain(t)
	h.issued(0)
	good := tsm.Request{Ref: "r", Kind: tsm.TopUp, Band: bandID, Card: h.card, Customer: string(lin), Amount: money.Fen(10_00)}
	for _, tt := range []struct {
		name   string
		change func(*tsm.Request)
		want   error
	}{
		{"good", func(*tsm.Request) {}, nil},
		{"same again", func(*tsm.Request) {}, nil},
		{"same reference, other amount", func(r *tsm.Request) { r.Amount = money.Fen(11_00) }, tsm.ErrDiffers},
		{"while one is open", func(r *tsm.Request) { r.Ref = "r2" }, tsm.ErrBusy},
		{"no reference", func(r *tsm.Request) { r.Ref = "" }, tsm.ErrRequest},
		{"reference too long", func(r *tsm.Request) { r.Ref = strings.Repeat("r", 81) }, tsm.ErrRequest},
		{"unknown kind", func(r *tsm.Request) { r.Ref, r.Kind = "r3", "gift" }, tsm.ErrRequest},
		{"no card", func(r *tsm.Request) { r.Ref, r.Card = "r4", "" }, tsm.ErrRequest},
		{"other band", func(r *tsm.Request) { r.Ref, r.Band = "r5", "band_9" }, tsm.ErrBand},
		{"other customer", func(r *tsm.Request) { r.Ref, r.Customer = "r6", "cust_x" }, tsm.ErrRequest},
		{"no such card", func(r *tsm.Request) { r.Ref, r.Card = "r7", "03105170070099999999" }, issuing.ErrNotFound},
		{"a SAM without data", func(r *tsm.Request) { r.Ref, r.Kind, r.Card = "r8", tsm.SAM, "" }, tsm.ErrRequest},
	} {
		r := good
		tt.change(&r)
		if err := h.try(func(tx *db.Tx) error { _, err := h.tsm.Place(tx, r); return err }); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	err := h.try(func(tx *db.Tx) error { return h.tsm.Register(tx, bandID, "cust_x") })
	if !errors.Is(err, tsm.ErrBandTaken) {
		t.Errorf("somebody else's band: %v", err)
	}
}

// TestOrphan issues into an element that still holds a card nobody knows any
// more: one that staff had written off while its last answer was on its way.
func TestOrphan(t *testing.T) {
	h := plain(t)
	h.band.work(0)
	o := h.place(tsm.Issue, 0)
	h.band.element.LoseAnswer(10) // the read-back
	h.band.work(2)
	h.now.Advance(100 * time.Hour)
	if err := h.tsm.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error { _, err := h.tsm.Recover(tx, o.ID, tsm.Nothing); return err })
	if got := h.order(o.ID); got.State != tsm.Failed || h.state() != issuing.Abandoned {
		t.Fatalf("written off: %s, card %s", got.State, h.state())
	}
	if _, there := h.band.balance(); !there {
		t.Fatal("the test wants a card left in the element")
	}
	h.issued(20_00)
	h.sound()
}

// TestFullElement issues to an element without room: the order ends, the
// deposit comes back, and nothing of the card stays.
func TestFullElement(t *testing.T) {
	h := plain(t)
	cfg := elements.Config([7]byte{4, 1}, nil)
	cfg.Capacity = 3000
	e, err := card.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.band.element = e
	o := h.place(tsm.Issue, 0)
	h.settle(o, tsm.Failed)
	if got := h.order(o.ID); got.Why != tsm.NoSpace || h.state() != issuing.Abandoned {
		t.Errorf("failed for %s, card %s", got.Why, h.state())
	}
	h.sound()
}
