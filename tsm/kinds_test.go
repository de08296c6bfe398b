package tsm_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/tsm"
)

// Products of another firm on the platform.
const (
	canteenCard = "acme/lunch"
	doorCard    = "acme/door"
	couponCard  = "acme/tea"
)

// openAll puts cards of every kind on sale.
func (h *house) openAll() {
	h.t.Helper()
	h.openBank()
	h.templates("acme", map[string]offer{
		"lunch": {issuing.Canteen, issuing.CanteenData{Site: "hq"}, 0},
		"door":  {issuing.Door, issuing.DoorData{Site: 7, Days: 365}, 0},
		"tea":   {issuing.Coupon, couponData, 0},
	})
}

var couponData = issuing.CouponData{Merchant: "tea", Gives: "amount", Value: 500, Uses: 3, Days: 30}

// An offer is a template of a firm's.
type offer struct {
	kind  issuing.Kind
	data  any
	space int
}

// templates puts cards of a firm on sale.
func (h *house) templates(firm string, list map[string]offer) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		for code, t := range list {
			data, err := json.Marshal(t.data)
			if err != nil {
				return err
			}
			x, err := issuing.Submit(tx, issuing.Template{Issuer: firm, Code: code, Kind: t.kind, NameEN: code, NameZH: code, Art: "acme", Space: t.space, Data: data})
			if err == nil {
				_, err = issuing.Approve(tx, x.ID, "staff")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func allKinds(t *testing.T) *house {
	t.Helper()
	return copied(t, kindsImage, tsm.Config{})
}

var products = []string{issuing.TransitBJ, issuing.ECashCard, issuing.DebitCard, canteenCard, doorCard, couponCard}

// onCard is what the card in the element holds, asked as its own terminals
// would; there is false when it is not there, open when it can be used.
func (h *house) onCard() (fen int64, there, open bool) {
	h.t.Helper()
	b := h.band
	switch h.product {
	case issuing.TransitBJ:
		r := b.ask(iso7816.Select([]byte(h.instance())))
		if r.SW == iso7816.SWFileNotFound {
			return 0, false, false
		}
		if r.SW == iso7816.SWSelectedBlocked {
			return 0, true, false
		}
		fen, there = b.balance()
		return fen, there, true
	case issuing.ECashCard, issuing.DebitCard:
		if r := b.ask(iso7816.Select([]byte(h.instance()))); !r.SW.OK() {
			return 0, h.locked(), false
		}
		return b.cash(h.instance()), true, true
	case couponCard:
		if r := b.ask(iso7816.Select([]byte(h.instance()))); !r.SW.OK() {
			return 0, false, false
		}
		r := b.ask(coupon.Read{N: 1}.Command())
		return 0, r.SW.OK(), r.SW.OK()
	}
	return h.native()
}

func (h *house) instance() string {
	h.t.Helper()
	var c issuing.Card
	h.read(func(q *db.Query) (err error) { c, err = issuing.Get(q, h.card); return err })
	return string(c.Instance)
}

// locked tells whether the security domain has locked the instance, as the
// registry has it.
func (h *house) locked() bool {
	h.t.Helper()
	r := h.band.ask(iso7816.Select([]byte("\xA0\x00\x00\x01\x51\x43\x52\x53\x00")))
	if !r.SW.OK() {
		h.t.Fatal(r.SW)
	}
	r = h.band.ask(iso7816.Command{CLA: 0x80, INS: 0xF2, P1: 0x40, Data: append([]byte{0x4F, byte(len(h.instance()))}, h.instance()...)})
	return r.SW.OK()
}

// native speaks to the DESFire application with the keys of the hsm.
func (h *house) native() (fen int64, there, open bool) {
	h.t.Helper()
	app, key := desfire.CanteenAID, desfire.CanteenHost
	say := hsm.Native{Cmd: desfire.CmdGetValue, Header: []byte{0}, Answer: 4, In: desfire.Enciphered}
	if h.product == doorCard {
		app, key = desfire.DoorAID, desfire.DoorReader
		say = hsm.Native{Cmd: desfire.CmdReadData, Header: []byte{0, 0, 0, 0, desfire.CredentialLen, 0, 0}, Answer: desfire.CredentialLen, In: desfire.Enciphered}
	}
	aid := app.Bytes()
	if r := h.band.ask(iso7816.Select([]byte(h.instance()))); !r.SW.OK() {
		return 0, false, false
	}
	if r := h.band.ask(desfire.Wrap(desfire.CmdSelect, aid[:])); r.SW != desfire.OK.SW() {
		return 0, false, false
	}
	token := h.band.ask(desfire.Wrap(desfire.CmdAuthAES, []byte{key})).Data
	s := hsm.NativeScript{CardApp: hsm.CardApp{UID: h.band.element.UID(), App: app, Key: key}, RndA: [16]byte{1, 2, 3}, Token: token, Commands: []hsm.Native{say}}
	wire, _, err := h.keys.RunNative(ctx, s)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range wire {
		r := h.band.ask(c)
		if r.SW != desfire.OK.SW() {
			return 0, true, false
		}
		s.Answers = append(s.Answers, r.Data)
	}
	_, heard, err := h.keys.RunNative(ctx, s)
	if err != nil {
		h.t.Fatal(err)
	}
	if h.product == doorCard {
		return 0, true, true
	}
	return int64(binary.LittleEndian.Uint32(heard[0])), true, true
}

// whole checks books and element against the state of the card.
func (h *house) whole() {
	h.t.Helper()
	v := h.money()
	if v.wallet+v.float+v.deposit != funds || v.held != 0 {
		h.t.Errorf("money: %+v, sum must be %d and nothing held", v, funds)
	}
	fen, there, open := h.onCard()
	state := h.state()
	out := h.product == couponCard && state == issuing.Blocked // taken out, to come back
	if there != !state.Over() && !out || open != (state == issuing.Active) || open && fen != v.float {
		h.t.Errorf("card is %s and the books say %d; in the element it is there: %v, open: %v, with %d", state, v.float, there, open, fen)
	}
}

// TestEveryKind leads a card of each kind through its life.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	for _, product := range products {
		t.Run(product, func(t *testing.T) {
			h := allKinds(t)
			h.product = product
			do := func(k tsm.Kind, fen int64) {
				t.Helper()
				h.settle(h.place(k, fen), tsm.Done)
				h.whole()
			}
			do(tsm.Issue, 0)
			if h.holdsMoney() {
				do(tsm.TopUp, 100_00)
				do(tsm.TopUp, 50_00)
			}
			do(tsm.Block, 0)
			do(tsm.Unblock, 0)
			do(tsm.Block, 0)
			do(tsm.Delete, 0)
			do(tsm.Issue, 0)
			do(tsm.Delete, 0)
			if v := h.money(); v.wallet != funds {
				t.Errorf("money: %+v", v)
			}
		})
	}
}

func (h *house) holdsMoney() bool { return h.product != doorCard && h.product != couponCard }

// A trial is an order of one kind for one card, tried again and again in one
// house, each time with the fault one place later.
type trial struct {
	product string
	kind    tsm.Kind
	blocked bool // of a return: the card is blocked before
}

func (x trial) String() string {
	if x.blocked {
		return fmt.Sprint(x.product, " ", x.kind, " of a blocked card")
	}
	return fmt.Sprint(x.product, " ", x.kind)
}

func trials() (list []trial) {
	for _, p := range []string{issuing.TransitBJ, issuing.ECashCard, canteenCard, doorCard, couponCard} {
		for _, k := range []tsm.Kind{tsm.Issue, tsm.TopUp, tsm.Block, tsm.Unblock, tsm.Delete, tsm.Default, tsm.Update} {
			switch {
			case k == tsm.TopUp && (p == doorCard || p == couponCard), (k == tsm.Default || k == tsm.Update) && p != issuing.ECashCard:
				continue
			}
			list = append(list, trial{p, k, false})
		}
		list = append(list, trial{p, tsm.Delete, true})
	}
	return list
}

// ready brings the house's card to where the trial begins, without faults.
func (x trial) ready(h *house) {
	h.t.Helper()
	h.product = x.product
	do := func(k tsm.Kind, fen int64) { h.t.Helper(); h.settle(h.place(k, fen), tsm.Done) }
	state := issuing.Closed
	if h.card != "" {
		state = h.state()
	}
	if x.kind == tsm.Issue {
		if !state.Over() {
			do(tsm.Delete, 0)
		}
		return
	}
	if v := h.money(); !state.Over() && v.float > 300_00 {
		do(tsm.Delete, 0)
		state = issuing.Closed
	}
	if state.Over() {
		do(tsm.Issue, 0)
		state = issuing.Active
		if h.holdsMoney() && x.kind != tsm.TopUp {
			do(tsm.TopUp, 20_00)
		}
	}
	switch wants := x.kind == tsm.Unblock || x.blocked; {
	case wants && state == issuing.Active:
		do(tsm.Block, 0)
	case !wants && state == issuing.Blocked:
		do(tsm.Unblock, 0)
	}
}

var ends = map[tsm.Kind]issuing.State{tsm.Issue: issuing.Active, tsm.TopUp: issuing.Active, tsm.Block: issuing.Blocked, tsm.Unblock: issuing.Active,
	tsm.Delete: issuing.Closed, tsm.Default: issuing.Active, tsm.Update: issuing.Active}

// each runs the trial in the house with fault n armed by f until that says that
// the fault lay behind the end.
func (x trial) each(t *testing.T, h *house, f func(h *house, n int) (hit bool)) {
	h.t, h.band.t = t, t
	for n := 1; ; n++ {
		if n > 1000 {
			t.Fatal("the fault is never behind the end")
		}
		x.ready(h)
		o := h.place(x.kind, 10_00)
		hit := f(h, n)
		h.settle(o, tsm.Done)
		if got := h.state(); got != ends[x.kind] {
			t.Errorf("fault %d: card is %s, want %s", n, got, ends[x.kind])
		}
		h.whole()
		if t.Failed() {
			t.Fatalf("fault %d\n%s", n, h.log(o.ID))
		}
		if !hit {
			return
		}
	}
}

// TestKindsUnderFaults cuts every order of every kind of card before every
// command, loses every answer, tears power away at every physical write, loses
// every report, and runs every script twice.
func TestKindsUnderFaults(t *testing.T) {
	for _, x := range trials() {
		t.Run(x.String(), func(t *testing.T) {
			t.Parallel()
			h := allKinds(t)
			t.Run("cut before a command", func(t *testing.T) {
				x.each(t, h, func(h *house, n int) bool {
					h.band.cutBefore = n
					h.band.work(0)
					hit := h.band.cutBefore == 0
					h.band.cutBefore = 0
					return hit
				})
			})
			t.Run("answer lost", func(t *testing.T) {
				x.each(t, h, func(h *house, n int) bool {
					h.band.element.LoseAnswer(n)
					before := h.band.sent
					h.band.work(0)
					h.band.element.LoseAnswer(0)
					return h.band.sent-before >= n
				})
			})
			t.Run("cut at a write", func(t *testing.T) {
				x.each(t, h, func(h *house, n int) bool {
					m := h.band.element.Memory()
					before := m.Writes()
					m.CutAfter(n)
					h.band.work(0)
					hit := m.Writes()-before >= n
					m.CutAfter(0)
					return hit
				})
			})
			t.Run("report lost", func(t *testing.T) {
				x.each(t, h, func(h *house, n int) bool {
					if n > 1 {
						h.band.work(n - 1)
					}
					h.band.mute = true
					h.band.work(0)
					hit := !h.band.mute
					h.band.mute = false
					return hit
				})
			})
			t.Run("script twice", func(t *testing.T) {
				x.each(t, h, func(h *house, n int) bool {
					h.band.twice, h.band.rerun = true, n
					h.band.work(0)
					hit := h.band.rerun == 0
					h.band.twice, h.band.rerun = false, 0
					return hit
				})
			})
			if x.kind != tsm.Issue && x.kind != tsm.Delete {
				return // scripts of the channel only are cut to pieces
			}
			t.Run("one command at a time", func(t *testing.T) {
				h := copied(t, kindsImage, tsm.Config{Chunk: 1})
				x.each(t, h, func(h *house, n int) bool {
					h.band.cutBefore = n
					h.band.work(0)
					hit := h.band.cutBefore == 0
					h.band.cutBefore = 0
					return hit
				})
			})
		})
	}
}

// TestFirmSpace gives a firm little room. What its templates say does not fit is
// refused before anything is ordered; what takes more than its template says
// fails by the element's word and leaves nothing. Other cards find their room,
// and the firm's too when it gets more.
func TestFirmSpace(t *testing.T) {
	t.Parallel()
	h := allKinds(t)
	space := func(n int) {
		t.Helper()
		h.do(func(tx *db.Tx) error { return issuing.SetFirmSpace(tx, "acme", n) })
	}
	issue := func(p string, want tsm.State, why tsm.Reason) {
		t.Helper()
		h.product, h.card = p, ""
		o := h.place(tsm.Issue, 0)
		h.settle(o, want)
		if got := h.order(o.ID); got.Why != why {
			t.Errorf("%s: %s (%s), want %s", p, got.State, got.Why, why)
		}
	}
	space(issuing.MinFirmSpace)
	h.templates("acme", map[string]offer{"large": {issuing.Coupon, couponData, 4 << 10}})
	h.product, h.card = "acme/large", ""
	if _, err := h.request(tsm.Issue, 0); !errors.Is(err, issuing.ErrFirmSpace) {
		t.Errorf("a card of 4096 bytes in 1024: %v", err)
	}
	issue(couponCard, tsm.Failed, tsm.NoSpace)
	if h.state() != issuing.Abandoned {
		t.Errorf("the card is %s", h.state())
	}
	issue(issuing.TransitBJ, tsm.Done, tsm.NoReason)
	h.whole()
	issue(doorCard, tsm.Done, tsm.NoReason)
	space(issuing.FirmSpace)
	issue(couponCard, tsm.Done, tsm.NoReason)
	issue("acme/large", tsm.Done, tsm.NoReason)
}

// TestGivenUpBehindALoss gives orders up whose script was carried out without the
// house hearing of it: they end as the card is, not as was wished. Door and
// canteen share an instance, so a look at it does not tell which is out.
func TestGivenUpBehindALoss(t *testing.T) {
	for _, p := range []string{doorCard, canteenCard, couponCard} {
		for _, kind := range []tsm.Kind{tsm.Block, tsm.Delete} {
			t.Run(p+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				h, cards := six(t)
				h.at(p, cards)
				for n := 1; ; n++ {
					if h.state().Over() {
						h.settle(h.place(tsm.Issue, 0), tsm.Done)
					} else if h.state() == issuing.Blocked {
						h.settle(h.place(tsm.Unblock, 0), tsm.Done)
					}
					o := h.place(kind, 0)
					before := h.band.sent
					h.band.element.LoseAnswer(n)
					for h.band.sent-before < n && !h.order(o.ID).State.Over() {
						h.band.work(1)
					}
					h.band.element.LoseAnswer(0)
					if h.order(o.ID).State.Over() {
						return
					}
					h.do(func(tx *db.Tx) error { _, err := h.tsm.Cancel(tx, o.ID); return err })
					h.band.work(0)
					if got := h.order(o.ID); !got.State.Over() {
						t.Fatalf("answer %d: %s (%s)\n%s", n, got.State, got.Why, h.log(o.ID))
					}
					if fen, there, open := h.onCard(); (h.state() == issuing.Active) != open || h.state().Over() && there {
						t.Fatalf("answer %d: %s; in the element: %v, open: %v, %d\n%s", n, h.state(), there, open, fen, h.log(o.ID))
					}
				}
			})
		}
	}
}
