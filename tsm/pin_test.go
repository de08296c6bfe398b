package tsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/tsm"
)

// pinCard is a debit card that checks its PIN by itself.
const pinCard = "debit-pin"

// pinHouse sells such cards beside the others.
func pinHouse(t *testing.T) *house {
	t.Helper()
	h := allKinds(t)
	h.do(func(tx *db.Tx) error {
		p, err := issuing.ProductOn(tx, issuing.DebitCard, tx.Now())
		if err != nil {
			return err
		}
		x, err := issuing.TemplateOf(tx, p.Template)
		if err != nil {
			return err
		}
		x.Code, x.Data = pinCard, bytes.Replace(x.Data, []byte(`"ecash"`), []byte(`"offline_pin":true,"ecash"`), 1)
		if x, err = issuing.Submit(tx, x); err == nil {
			x, err = issuing.Approve(tx, x.ID, "staff")
		}
		p.Code, p.Template, p.Prefix = pinCard, x.ID, bin.HousePrefix+"92"
		return errors.Join(err, issuing.SetProduct(tx, p))
	})
	h.product = pinCard
	return h
}

// pin enciphers a PIN for the house's card as a keypad does.
func (h *house) pin(digits string) *hsm.PINBlock {
	h.t.Helper()
	key, err := h.bank.Keys(ctx, h.card)
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := h.keys.EncipherPIN(ctx, key.PAN, digits)
	if err != nil {
		h.t.Fatal(err)
	}
	return &b
}

// withPIN gives the house an active card with a PIN.
func (h *house) withPIN(digits string) {
	h.t.Helper()
	o := h.place(tsm.Issue, 0)
	if err := h.bank.SetPIN(ctx, h.card, *h.pin(digits)); err != nil {
		h.t.Fatal(err)
	}
	h.settle(o, tsm.Done)
}

func (h *house) update(c tsm.Change) (o tsm.Order, err error) {
	h.refs++
	err = h.try(func(tx *db.Tx) (err error) {
		o, err = h.tsm.Place(tx, tsm.Request{Ref: fmt.Sprint("update", h.refs), Kind: tsm.Update, Band: bandID, Card: h.card, Update: &c})
		return err
	})
	return o, err
}

// takes tells whether the card takes a PIN, as a terminal asks it.
func (h *house) takes(digits string) bool {
	h.t.Helper()
	h.band.ask(iso7816.Select([]byte(h.instance())))
	block, err := emv.PINBlock(digits)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.band.ask(iso7816.Command{INS: 0x20, P2: 0x80, Data: block[:], Le: iso7816.NoLe}).SW.OK()
}

// bankPIN is what the bank keeps of the card's PIN.
func (h *house) bankPIN() (reference []byte, tries int) {
	h.t.Helper()
	h.read(func(q *db.Query) error {
		return q.QueryRow(`SELECT b.pin, u.tries FROM issuing_bank b JOIN issuing_use u ON u.card = b.card WHERE b.card = $1`, h.card).Scan(&reference, &tries)
	})
	return reference, tries
}

// agreed checks that bank and card have this PIN.
func (h *house) agreed(digits string) {
	h.t.Helper()
	key, err := h.bank.Keys(ctx, h.card)
	if err != nil {
		h.t.Fatal(err)
	}
	reference, _ := h.bankPIN()
	if err := h.keys.CheckPIN(ctx, key.PAN, *h.pin(digits), reference); err != nil {
		h.t.Errorf("the bank does not have PIN %s: %v", digits, err)
	}
	if !h.takes(digits) {
		h.t.Errorf("the card does not have PIN %s", digits)
	}
}

// TestPINFirst orders a card that checks its PIN by itself before the PIN is
// set: the order says what it waits for, and does not keep the others.
func TestPINFirst(t *testing.T) {
	t.Parallel()
	h := pinHouse(t)
	o := h.place(tsm.Issue, 0)
	waits := h.card
	h.product = issuing.TransitBJ
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	if got := h.order(o.ID); got.State != tsm.Placed || got.Why != tsm.NoPIN {
		t.Errorf("without a PIN the order is %s (%s)", got.State, got.Why)
	}
	h.product, h.card = pinCard, waits
	if err := h.bank.SetPIN(ctx, h.card, *h.pin("246802")); err != nil {
		t.Fatal(err)
	}
	h.settle(o, tsm.Done)
	h.agreed("246802")

	late := pinHouse(t)
	o = late.place(tsm.Issue, 0)
	late.band.work(0)
	late.now.Advance(25 * time.Hour)
	if err := late.tsm.Tick(ctx, late.now.Now()); err != nil {
		t.Fatal(err)
	}
	if got := late.order(o.ID); got.State != tsm.Failed || got.Why != tsm.NoPIN {
		t.Errorf("a day later the order is %s (%s)", got.State, got.Why)
	}
}

// TestPINTries gives tries back that were used up at the card.
func TestPINTries(t *testing.T) {
	t.Parallel()
	h := pinHouse(t)
	h.withPIN("246802")
	for range 5 {
		h.takes("999999")
	}
	h.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE issuing_use SET tries = 0 WHERE card = $1`, h.card)
		return err
	})
	if h.takes("246802") {
		t.Fatal("the card takes a PIN without tries")
	}
	o, err := h.update(tsm.Change{Tries: true})
	if err != nil {
		t.Fatal(err)
	}
	h.settle(o, tsm.Done)
	h.agreed("246802")
	if _, tries := h.bankPIN(); tries == 0 {
		t.Error("the bank has not given the tries back")
	}
}

// TestPINUnderFaults changes a PIN again and again, each time with the fault one
// place later: bank and card always end with the same one.
func TestPINUnderFaults(t *testing.T) {
	faults := map[string]func(h *house, n int) bool{
		"cut before a command": func(h *house, n int) bool {
			h.band.cutBefore = n
			h.band.work(0)
			hit := h.band.cutBefore == 0
			h.band.cutBefore = 0
			return hit
		},
		"answer lost": func(h *house, n int) bool {
			h.band.element.LoseAnswer(n)
			before := h.band.sent
			h.band.work(0)
			h.band.element.LoseAnswer(0)
			return h.band.sent-before >= n
		},
		"cut at a write": func(h *house, n int) bool {
			m := h.band.element.Memory()
			before := m.Writes()
			m.CutAfter(n)
			h.band.work(0)
			hit := m.Writes()-before >= n
			m.CutAfter(0)
			return hit
		},
		"report lost": func(h *house, n int) bool {
			if n > 1 {
				h.band.work(n - 1)
			}
			h.band.mute = true
			h.band.work(0)
			hit := !h.band.mute
			h.band.mute = false
			return hit
		},
		"script twice": func(h *house, n int) bool {
			h.band.twice, h.band.rerun = true, n
			h.band.work(0)
			hit := h.band.rerun == 0
			h.band.twice, h.band.rerun = false, 0
			return hit
		},
		"cut, and tapped before the band comes back": func(h *house, n int) bool {
			h.band.cutBefore = n
			h.band.work(3)
			hit := h.band.cutBefore == 0
			h.band.cutBefore = 0
			h.inquiry()
			return hit && n < 20
		},
		"cut and given up": func(h *house, n int) bool {
			h.band.cutBefore = n
			h.band.work(n)
			hit := h.band.cutBefore == 0
			h.band.cutBefore = 0
			return hit
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := pinHouse(t)
			h.withPIN("111110")
			old, hit := "111110", true
			for n := 1; hit; n++ {
				next := fmt.Sprint(222220 + n)
				o, err := h.update(tsm.Change{PIN: h.pin(next)})
				if err != nil {
					t.Fatal(err)
				}
				hit = fault(h, n)
				if got := h.order(o.ID); name == "cut and given up" && !got.State.Over() {
					h.do(func(tx *db.Tx) error { _, err := h.tsm.Cancel(tx, o.ID); return err })
				}
				h.band.work(0)
				switch got := h.order(o.ID); got.State {
				case tsm.Done:
					old = next
				case tsm.Cancelled:
				default:
					t.Fatalf("fault %d: %s (%s)\n%s", n, got.State, got.Why, h.log(o.ID))
				}
				if h.agreed(old); t.Failed() {
					t.Fatalf("fault %d\n%s", n, h.log(o.ID))
				}
			}
		})
	}
}

// TestPINChangeHasItsOwnOrder: what no count could tell apart is not ordered
// together, and cards whose PIN is the bank's alone take none.
func TestPINChangeHasItsOwnOrder(t *testing.T) {
	t.Parallel()
	h := pinHouse(t)
	h.withPIN("246802")
	b := h.pin("135790")
	for _, c := range []tsm.Change{{PIN: b, Tries: true}, {PIN: b, Open: true}, {Tries: true, Limits: []tsm.Limit{{Tag: 0x9F78, Fen: 1}}}} {
		if _, err := h.update(c); !errors.Is(err, tsm.ErrRequest) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	h.product = issuing.ECashCard
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	if _, err := h.update(tsm.Change{Tries: true}); !errors.Is(err, issuing.ErrKind) {
		t.Errorf("tries of a card without a PIN: %v", err)
	}
}

// TestForgedPINChange lets an agent answer for the card that it has the new PIN.
func TestForgedPINChange(t *testing.T) {
	h := pinHouse(t)
	h.withPIN("246802")
	o, err := h.update(tsm.Change{PIN: h.pin("135790")})
	if err != nil {
		t.Fatal(err)
	}
	h.band.work(2) // lists, cryptogram
	s := h.next()
	ok := make([][]byte, len(s.Steps))
	for i := range ok {
		ok[i] = []byte{0x90, 0}
	}
	h.band.report(s, ok, false)
	if got := h.order(o.ID); got.State != tsm.Unconfirmed {
		t.Fatalf("%s (%s)", got.State, got.Why)
	}
	h.agreed("246802")
	h.settle(o, tsm.Done)
	h.agreed("135790")
}
