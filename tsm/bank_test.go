package tsm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/tsm"
	"koala/tsm/online"
	"koala/wallet"
)

// bankHouse is a house that issues bank cards.
func bankHouse(t *testing.T) *house {
	t.Helper()
	h := plain(t)
	h.openBank()
	h.product = issuing.ECashCard
	return h
}

func (h *house) openBank() {
	h.t.Helper()
	if err := errors.Join(h.keys.ProvisionBank(ctx), h.try(issuing.SeedBank)); err != nil {
		h.t.Fatal(err)
	}
}

// TestECash writes an e-cash card, loads it twice and reads what it holds.
func TestECash(t *testing.T) {
	h := bankHouse(t)
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	h.settle(h.place(tsm.TopUp, 100_00), tsm.Done)
	h.settle(h.place(tsm.TopUp, 50_00), tsm.Done)
	if v := h.money(); v.wallet != funds-150_00 || v.float != 150_00 || v.held != 0 {
		t.Errorf("money: %+v", v)
	}
	if on := h.band.cash(pboc.AIDECash); on != 150_00 {
		t.Errorf("the card holds %d, want 15000", on)
	}
}

// cash is what an e-cash card in the element says it holds.
func (b *band) cash(aid string) int64 {
	b.t.Helper()
	if r := b.ask(iso7816.Select([]byte(aid))); !r.SW.OK() {
		b.t.Fatalf("SELECT: %v", r.SW)
	}
	r := b.ask(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x79})
	if len(r.Data) != 9 {
		b.t.Fatalf("balance: %v", r)
	}
	fen, err := pboc.ParseAmount(r.Data[3:])
	if err != nil {
		b.t.Fatal(err)
	}
	return int64(fen)
}

// halfway places a load of 50 yuan and lets the element carry out the script
// that credits, number n of the order; the agent claims that the link was lost.
func (h *house) halfway(n int) (o tsm.Order, before [][]byte) {
	h.t.Helper()
	o = h.place(tsm.TopUp, 50_00)
	for range n - 1 {
		s := h.next()
		before, _ = h.band.transmit(s)
		h.band.report(s, before, false)
	}
	s := h.next()
	if _, cut := h.band.transmit(s); cut {
		h.t.Fatal("torn")
	}
	h.band.report(s, nil, true)
	return o, before
}

const (
	cashCredits    = 3 // SELECT, cryptogram, credit
	canteenCredits = 5 // authentication, size of the log, log, value, credit
)

// TestLyingCashAgent lets an agent that loaded an e-cash card claim that it did
// not: with the log of before, with one of its own, with a status word.
func TestLyingCashAgent(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(old, now []byte) []byte{
		"the log of before": func(old, _ []byte) []byte { return old },
		"another log":       func(_, now []byte) []byte { return append(append([]byte{}, now[:2]...), 0, 1, 2, 3, 4, 0x90, 0) },
		"one entry less": func(_, now []byte) []byte {
			out := append([]byte{}, now...)
			out[2]--
			return append(out[:3], out[3+22:]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := bankHouse(t)
			h.settle(h.place(tsm.Issue, 0), tsm.Done)
			h.settle(h.place(tsm.TopUp, 20_00), tsm.Done)
			h.band.ask(iso7816.Select([]byte(h.instance())))
			old := h.band.ask(pboc.ReadSignedLoadLog(pboc.LoadLogSFI)).Bytes()
			o, _ := h.halfway(cashCredits)
			s := h.next()
			answers, _ := h.band.transmit(s)
			h.band.report(s, answers, false)
			s = h.next()
			answers, _ = h.band.transmit(s)
			answers[1] = lie(old, answers[1])
			h.band.report(s, answers, false)
			if got := h.order(o.ID); got.State != tsm.Unconfirmed || got.Desk {
				t.Fatalf("order is %s (%s), desk %v", got.State, got.Why, got.Desk)
			}
			if v := h.money(); v.held != 50_00 || v.float != 20_00 {
				t.Errorf("money: %+v, want 50 yuan still held", v)
			}
			h.settle(o, tsm.Done)
			h.whole()
		})
	}
}

// TestForgedCashScript lets an agent answer for the card that it took the money.
func TestForgedCashScript(t *testing.T) {
	h := bankHouse(t)
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	o := h.place(tsm.TopUp, 50_00)
	h.band.work(cashCredits - 1)
	s := h.next()
	ok := []byte{0x90, 0}
	log := append(make([]byte, 29), ok...)
	log[2] = 1
	h.band.report(s, [][]byte{ok, ok, ok, log}, false)
	if got, v := h.order(o.ID), h.money(); got.State != tsm.Unconfirmed || v.float != 0 {
		t.Fatalf("%s (%s), money %+v", got.State, got.Why, v)
	}
	h.settle(o, tsm.Done) // the card says that it has nothing, and is loaded
	h.whole()
}

// TestCashDesk lets staff decide a load whose band is gone for ever.
func TestCashDesk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		product  string
		credits  int
		decision tsm.Decision
		want     tsm.State
		float    int64
	}{
		{issuing.ECashCard, cashCredits, tsm.Happened, tsm.Done, 50_00}, {issuing.ECashCard, cashCredits, tsm.Nothing, tsm.Failed, 0},
		{canteenCard, canteenCredits - 1, tsm.Happened, tsm.Done, 50_00}, {canteenCard, canteenCredits - 1, tsm.Nothing, tsm.Failed, 0},
	} {
		h := allKinds(t)
		h.product = tt.product
		h.settle(h.place(tsm.Issue, 0), tsm.Done)
		o, _ := h.halfway(tt.credits)
		h.now.Advance(100 * time.Hour)
		if err := h.tsm.Tick(ctx, h.now.Now()); err != nil {
			t.Fatal(err)
		}
		h.do(func(tx *db.Tx) error { _, err := h.tsm.Recover(tx, o.ID, tt.decision); return err })
		if got, v := h.order(o.ID), h.money(); got.State != tt.want || v.float != tt.float || v.held != 0 || v.wallet+v.float != funds {
			t.Errorf("%s %s: %s, money %+v", tt.product, tt.decision, got.State, v)
		}
	}
}

// TestBankDeclines loads past the card's limit, and past the wallet.
func TestBankDeclines(t *testing.T) {
	h := bankHouse(t)
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	h.settle(h.place(tsm.TopUp, 800_00), tsm.Done)
	h.do(func(tx *db.Tx) error { _, err := wallet.Fund(tx, "more", lin, money.Fen(funds)); return err })
	o := h.place(tsm.TopUp, 300_00)
	h.settle(o, tsm.Failed)
	if got := h.order(o.ID); got.Why != tsm.OverCardLimit {
		t.Errorf("failed for %s", got.Why)
	}
	for fen, want := range map[int64]error{0: tsm.ErrAmount, -5: tsm.ErrAmount, 1000_01: tsm.ErrOverOnce} {
		if _, err := h.request(tsm.TopUp, fen); !errors.Is(err, want) {
			t.Errorf("%d fen: %v, want %v", fen, err, want)
		}
	}
	if v := h.money(); v.held != 0 || v.wallet+v.float != 2*funds {
		t.Errorf("money: %+v", v)
	}
}

// TestCanteenLogGoesRound lets a till sell so often after a load whose end was
// lost that neither its line nor what stood before it is in the log: nobody
// guesses.
func TestCanteenLogGoesRound(t *testing.T) {
	t.Parallel()
	for sales, want := range map[int]tsm.State{3: tsm.Done, desfire.CanteenLogs: tsm.Unconfirmed} {
		h := allKinds(t)
		h.product = canteenCard
		h.settle(h.place(tsm.Issue, 0), tsm.Done)
		h.settle(h.place(tsm.TopUp, 20_00), tsm.Done)
		o, _ := h.halfway(canteenCredits)
		for i := range sales {
			h.sell(100, uint16(i))
		}
		h.band.work(0)
		if got := h.order(o.ID); got.State != want || got.Desk != (want == tsm.Unconfirmed) {
			t.Errorf("after %d sales: %s (%s), desk %v\n%s", sales, got.State, got.Why, got.Desk, h.log(o.ID))
		}
	}
}

// sell takes fen off the canteen card as a till does.
func (h *house) sell(fen int32, seq uint16) {
	h.t.Helper()
	aid := desfire.CanteenAID.Bytes()
	h.band.ask(iso7816.Select(desfire.Name))
	h.band.ask(desfire.Wrap(desfire.CmdSelect, aid[:]))
	token := h.band.ask(desfire.Wrap(desfire.CmdAuthAES, []byte{desfire.CanteenTill})).Data
	line := desfire.Log{Fen: fen, Till: desfire.Till{1}, Seq: seq}
	s := hsm.NativeScript{CardApp: hsm.CardApp{UID: h.band.element.UID(), App: desfire.CanteenAID, Key: desfire.CanteenTill}, RndA: [16]byte{9}, Token: token, Commands: []hsm.Native{
		{Cmd: desfire.CmdDebit, Header: []byte{0}, Data: binary.LittleEndian.AppendUint32(nil, uint32(fen)), Mode: desfire.Enciphered},
		{Cmd: desfire.CmdWriteRecord, Header: []byte{1, 0, 0, 0, desfire.LogLen, 0, 0}, Data: line.Bytes(), Mode: desfire.Enciphered},
		{Cmd: desfire.CmdCommit},
	}}
	wire, _, err := h.keys.RunNative(ctx, s)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range wire {
		if r := h.band.ask(c); r.SW != desfire.OK.SW() {
			h.t.Fatalf("till: %X answered %v", c.INS, r.SW)
		}
	}
}

// TestOtherCanteenCard puts somebody else's card under the reader: it proves
// itself, but as another card.
func TestOtherCanteenCard(t *testing.T) {
	t.Parallel()
	h := allKinds(t)
	h.product = canteenCard
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	mine := h.band.element
	h2 := allKinds(t)
	h2.product = canteenCard
	h2.band = newBand(t, h2.tsm, bandID, 77)
	h2.settle(h2.place(tsm.Issue, 0), tsm.Done)
	o := h.place(tsm.TopUp, 10_00)
	h.band.element = h2.band.element
	h.band.work(3)
	if got := h.order(o.ID); got.State == tsm.Done {
		t.Fatal("another card was loaded")
	}
	h.band.element = mine
	h.settle(o, tsm.Done)
	h.whole()
}

// TestNoCardNumberInTheStore issues and loads a card and looks for its number in
// everything that the store has of the scripts.
func TestNoCardNumberInTheStore(t *testing.T) {
	h := bankHouse(t)
	h.do(func(tx *db.Tx) error { // a number like no other bytes
		_, err := tx.Exec(`UPDATE issuing_range SET upcoming = 7391824653 WHERE prefix LIKE '628888%' AND digits = 10`)
		return err
	})
	o := h.place(tsm.Issue, 0)
	h.settle(o, tsm.Done)
	load := h.place(tsm.TopUp, 20_00)
	h.settle(load, tsm.Done)
	key, err := h.bank.Keys(ctx, h.card)
	if err != nil {
		t.Fatal(err)
	}
	secret := key.PAN[6 : len(key.PAN)-4]
	h.read(func(q *db.Query) error {
		for _, id := range []string{o.ID, load.ID} {
			lines, err := tsm.Log(q, id)
			if err != nil {
				return err
			}
			for _, l := range lines {
				text := fmt.Sprintf("%X", l.Plain.Bytes())
				if l.Answer != nil {
					text += fmt.Sprintf(" %X", l.Answer.Bytes())
				}
				if strings.Contains(text, secret) || strings.Contains(fmt.Sprint(l.Meaning), secret) {
					t.Errorf("%s shows the card number: %s", l.Phase, text)
				}
				if l.Meaning.EN == "" || l.Meaning.ZH == "" || l.Phase.Words(true) == string(l.Phase) {
					t.Errorf("no words for %X", l.Plain.Bytes())
				}
			}
		}
		return nil
	})
}

// TestBankAhead lets the house die after the bank has bound a load and before
// its script was kept: the script never left, and the card tells as much. skips
// is how often another reader uses the card's counter in between.
func TestBankAhead(t *testing.T) {
	t.Parallel()
	for skips := range 3 {
		h := bankHouse(t)
		h.settle(h.place(tsm.Issue, 0), tsm.Done)
		o := h.place(tsm.TopUp, 50_00)
		s := h.next()
		lists, _ := h.band.transmit(s)
		h.band.report(s, lists, false)
		s = h.next()
		answers, _ := h.band.transmit(s)
		l, err := online.ParseLists(lists[0], lists[1])
		if err != nil {
			t.Fatal(err)
		}
		key, err := h.bank.Keys(ctx, h.card)
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := iso7816.ParseCommand(s.Steps[1].APDU)
		if err != nil {
			t.Fatal(err)
		}
		x, err := online.Hear(key, answers[0], answers[1], l.CDOL1, cmd.Data)
		if err != nil {
			t.Fatal(err)
		}
		a, err := h.bank.Authorise(ctx, issuing.Online{EMV: x.Request()})
		if err != nil || a.Why != issuing.Approval {
			t.Fatalf("%+v, %v", a, err)
		}
		h.band.report(s, nil, true)
		for range skips {
			h.band.ask(iso7816.Select([]byte(h.instance())))
			if r := h.band.ask(online.Deal{}.Options(l.PDOL)); !r.SW.OK() {
				t.Fatal(r.SW)
			}
		}
		h.settle(o, tsm.Done)
		h.whole()
	}
}

// TestUpdate sets limits, and lifts a block of the application that a script of
// the bank has put on the card; what no script may set is refused.
func TestUpdate(t *testing.T) {
	h := bankHouse(t)
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	update := func(c tsm.Change, want tsm.State) {
		t.Helper()
		var o tsm.Order
		h.refs++
		h.do(func(tx *db.Tx) (err error) {
			o, err = h.tsm.Place(tx, tsm.Request{Ref: fmt.Sprint("update", h.refs), Kind: tsm.Update, Band: bandID, Card: h.card, Update: &c})
			return err
		})
		h.settle(o, want)
	}
	update(tsm.Change{Limits: []tsm.Limit{{Tag: 0x9F78, Fen: 50_00}, {Tag: 0x9F6B, Fen: 20_00}}}, tsm.Done)
	h.block()
	if r := h.band.ask(iso7816.Select([]byte(h.instance()))); r.SW != iso7816.SWSelectedBlocked {
		t.Fatalf("SELECT of a blocked application: %v", r.SW)
	}
	update(tsm.Change{Open: true}, tsm.Done)
	if r := h.band.ask(iso7816.Select([]byte(h.instance()))); !r.SW.OK() {
		t.Errorf("SELECT: %v", r.SW)
	}
	for _, bad := range []tsm.Change{{}, {Limits: []tsm.Limit{{Tag: 0x9F79, Fen: 1}}}, {Limits: []tsm.Limit{{Tag: 0x9F78, Fen: -1}}}} {
		err := h.try(func(tx *db.Tx) error {
			_, err := h.tsm.Place(tx, tsm.Request{Ref: "bad", Kind: tsm.Update, Band: bandID, Card: h.card, Update: &bad})
			return err
		})
		if !errors.Is(err, tsm.ErrRequest) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	h.whole()
}

// inquiry is a declined transaction of a terminal: it returns the cryptogram.
func (h *house) inquiry() online.Heard {
	h.t.Helper()
	fci := h.band.ask(iso7816.Select([]byte(h.instance()))).Data
	l, err := online.ParseLists(fci, h.band.ask(online.ReadLists()).Data)
	if err != nil {
		h.t.Fatal(err)
	}
	d := online.Deal{UN: [4]byte{1}, At: h.now.Now()}
	options, first := h.band.ask(d.Options(l.PDOL)), d.GenerateAC(pboc.AAC, l.CDOL1)
	key, err := h.bank.Keys(ctx, h.card)
	if err != nil {
		h.t.Fatal(err)
	}
	x, err := online.Hear(key, options.Data, h.band.ask(first).Data, l.CDOL1, first.Data)
	if err != nil {
		h.t.Fatal(err)
	}
	return x
}

// block blocks the application by a script of the bank, as a terminal brings it.
func (h *house) block() {
	h.t.Helper()
	script, err := h.keys.ProtectScript(ctx, h.inquiry().Cryptogram, pboc.AppBlock())
	if err != nil {
		h.t.Fatal(err)
	}
	if r := h.band.ask(script[0]); !r.SW.OK() {
		h.t.Fatal(r.SW)
	}
}
