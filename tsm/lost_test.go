package tsm_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/rule"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/tsm"
)

const newBandID = "band_2"

// six issues a card of each kind into the house's band, 30 yuan on each that
// holds money.
func six(t *testing.T) (h *house, cards map[string]issuing.CardID) {
	t.Helper()
	h = allKinds(t)
	cards = map[string]issuing.CardID{}
	for _, p := range products {
		h.product, h.card = p, ""
		h.settle(h.place(tsm.Issue, 0), tsm.Done)
		cards[p] = h.card
		if h.holdsMoney() {
			h.settle(h.place(tsm.TopUp, 30_00), tsm.Done)
		}
	}
	return h, cards
}

// at turns the house's helpers to one of its cards.
func (h *house) at(p string, cards map[string]issuing.CardID) { h.product, h.card = p, cards[p] }

// books checks the sum of all money of the house's cards.
func (h *house) books(cards ...issuing.CardID) {
	h.t.Helper()
	sum := int64(0)
	for _, id := range append([]issuing.CardID{""}, cards...) {
		h.card = id
		v := h.money()
		if sum += v.float + v.deposit; id == "" {
			sum += v.wallet
		}
	}
	if sum != funds {
		h.t.Errorf("all money is %d, want %d", sum, funds)
	}
}

func all(m map[string]issuing.CardID) (list []issuing.CardID) {
	for _, id := range m {
		list = append(list, id)
	}
	return list
}

// TestLostBand reports a band with six cards lost, lets it be seen, and takes it
// back.
func TestLostBand(t *testing.T) {
	t.Parallel()
	h, cards := six(t)
	h.at(issuing.TransitBJ, cards)
	waits := h.place(tsm.TopUp, 10_00)
	suspend := func() (n int) {
		h.do(func(tx *db.Tx) error {
			list, err := h.tsm.Suspend(tx, bandID)
			n = len(list)
			return err
		})
		return n
	}
	if n := suspend(); n != len(products) {
		t.Fatalf("%d blocks ordered, want %d", n, len(products))
	}
	suspend()
	if got := h.order(waits.ID); got.State != tsm.Cancelled {
		t.Errorf("a top-up that had not begun is %s", got.State)
	}
	if _, err := h.request(tsm.TopUp, 10_00); !errors.Is(err, tsm.ErrLost) {
		t.Errorf("a top-up of a lost band: %v", err)
	}
	h.band.element.LoseAnswer(7)
	h.band.work(0)
	h.band.element.LoseAnswer(0)
	h.band.work(0)
	for _, p := range products {
		h.at(p, cards)
		if _, _, open := h.onCard(); open || h.state() != issuing.Blocked {
			t.Errorf("%s of a lost band is %s, open: %v", p, h.state(), open)
		}
	}
	h.do(func(tx *db.Tx) error { _, err := h.tsm.Restore(tx, bandID); return err })
	h.band.work(0)
	for _, p := range products {
		h.at(p, cards)
		h.wholeOf()
	}
	h.books(all(cards)...)
}

// wholeOf checks the house's card alone: element and books.
func (h *house) wholeOf() {
	h.t.Helper()
	v := h.money()
	if fen, there, open := h.onCard(); !there || !open || fen != v.float || h.state() != issuing.Active {
		h.t.Errorf("%s is %s, there: %v, open: %v, with %d; the books say %d", h.product, h.state(), there, open, fen, v.float)
	}
}

// TestFoundBeforeSeen takes a band back that was never seen meanwhile.
func TestFoundBeforeSeen(t *testing.T) {
	t.Parallel()
	h, cards := six(t)
	h.do(func(tx *db.Tx) error {
		if _, err := h.tsm.Suspend(tx, bandID); err != nil {
			return err
		}
		again, err := h.tsm.Restore(tx, bandID)
		if len(again) != 0 {
			t.Errorf("%d orders to undo what had not begun", len(again))
		}
		return err
	})
	h.band.work(0)
	for _, p := range products {
		h.at(p, cards)
		h.wholeOf()
	}
}

// nothing goes along but money.
func nothing(db.Reader, issuing.Card) (issuing.Carry, error) { return issuing.Carry{}, nil }

// TestMove moves the cards of a lost band to another one: with their money in
// the same order when the claims are due, and later by itself when not.
func TestMove(t *testing.T) {
	t.Parallel()
	for _, due := range []bool{true, false} {
		h, cards := six(t)
		h.do(func(tx *db.Tx) error {
			_, err := h.tsm.Suspend(tx, bandID)
			return errors.Join(err, h.tsm.Register(tx, newBandID, string(lin)))
		})
		if due {
			h.now.Advance(8 * 24 * time.Hour)
		}
		carry := func(_ db.Reader, c issuing.Card) (issuing.Carry, error) {
			if c.ID != cards[issuing.TransitBJ] {
				return issuing.Carry{}, nil
			}
			return issuing.Carry{Rides: 17, Spent: money.Fen(68_00), At: h.now.Now()}, nil
		}
		orders, err := h.tsm.MoveTo(ctx, bandID, newBandID, carry)
		if err != nil || len(orders) != len(products) {
			t.Fatalf("%d orders, want %d: %v", len(orders), len(products), err)
		}
		if _, err := h.tsm.MoveTo(ctx, bandID, newBandID, carry); err != nil {
			t.Fatal(err)
		}
		h.read(func(q *db.Query) error {
			if list, err := tsm.Orders(q, tsm.Filter{Band: newBandID, Limit: 100}); len(list) != len(products)+1 || err != nil {
				t.Errorf("%d orders for the new band, want %d and its adoption: %v", len(list), len(products), err)
			}
			return nil
		})
		h.band = newBand(t, h.tsm, newBandID, 2)
		h.band.element.LoseAnswer(40)
		h.band.work(0)
		h.band.element.LoseAnswer(0)
		h.band.work(0)
		moved := map[string]issuing.CardID{}
		for _, o := range orders {
			got := h.order(o.ID)
			if got.State != tsm.Done {
				t.Fatalf("%s (%s)\n%s", got.State, got.Why, h.log(o.ID))
			}
			h.read(func(q *db.Query) error {
				c, err := issuing.Get(q, o.Card)
				moved[c.Product] = c.ID
				return err
			})
		}
		if !due {
			h.now.Advance(8 * 24 * time.Hour)
			for range 2 {
				if err := h.tsm.Tick(ctx, h.now.Now()); err != nil {
					t.Fatal(err)
				}
				h.band.work(0)
			}
		}
		for _, p := range products {
			h.at(p, moved)
			h.wholeOf()
			if v := h.money(); h.holdsMoney() && v.float != 30_00 {
				t.Errorf("due %v: %s holds %d, want 3000", due, p, v.float)
			}
		}
		h.read(func(q *db.Query) error {
			for p, id := range cards {
				if c, err := issuing.Get(q, id); c.State != issuing.Replaced || err != nil {
					t.Errorf("due %v: the old %s is %s, %v", due, p, c.State, err)
				}
			}
			return nil
		})
		h.carried(17, 68_00)
		h.books(append(all(cards), all(moved)...)...)
	}
}

// carried reads the rail record of the transit card in the band.
func (h *house) carried(rides uint16, fen uint32) {
	h.t.Helper()
	h.band.balance()
	r, err := purse.ParseTransit(h.band.ask(iso7816.ReadRecordByID(purse.RailID>>8, purse.SFITransit, purse.TransitLen)).Data)
	if err != nil || r.Count != rides || r.Accumulated != fen {
		h.t.Errorf("rail record: %d rides for %d, %v", r.Count, r.Accumulated, err)
	}
}

// TestDefault puts one of two payment cards first, and then the other.
func TestDefault(t *testing.T) {
	t.Parallel()
	h, cards := six(t)
	for _, p := range []string{issuing.DebitCard, issuing.ECashCard} {
		h.at(p, cards)
		h.settle(h.place(tsm.Default, 0), tsm.Done)
		if first := h.band.listed(); first != h.instance() {
			t.Errorf("readers get %X first, want %X", first, h.instance())
		}
	}
	h.at(canteenCard, cards)
	if _, err := h.request(tsm.Default, 0); !errors.Is(err, issuing.ErrKind) {
		t.Errorf("a canteen card as the default: %v", err)
	}
}

// TestDefaultOverAChoice: a card that the wearer had put first for now does not
// hide the new default, which would be asked for again and again.
func TestDefaultOverAChoice(t *testing.T) {
	t.Parallel()
	h, cards := six(t)
	h.at(issuing.DebitCard, cards)
	choice := globalplatform.ContactlessSet{Change: globalplatform.PutFirst, Apps: []globalplatform.AID{globalplatform.AID(h.instance())}}
	h.band.ask(iso7816.Select([]byte(globalplatform.ContactlessAID)))
	if r := h.band.ask(choice.Command()); !r.SW.OK() {
		t.Fatal(r.SW)
	}
	h.at(issuing.ECashCard, cards)
	h.settle(h.place(tsm.Default, 0), tsm.Done)
	if first := h.band.listed(); first != h.instance() {
		t.Errorf("readers get %X first, want %X", first, h.instance())
	}
}

// listed is the application that the contactless payment directory names first.
func (b *band) listed() string {
	b.t.Helper()
	aid, _ := tlv.Find(b.ask(iso7816.Select([]byte(emv.PPSE))).Data, emv.TagAID)
	return string(aid)
}

// TestMoveUnderFaults moves a card with money from band to band, each time with
// the fault one place later: it is written and loaded in one order, once.
func TestMoveUnderFaults(t *testing.T) {
	t.Parallel()
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
			h.band.work(0)
			h.band.element.LoseAnswer(0)
			return h.band.sent >= n
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
	}
	for _, p := range []string{issuing.TransitBJ, issuing.ECashCard, canteenCard} {
		for name, fault := range faults {
			t.Run(p+" "+name, func(t *testing.T) {
				t.Parallel()
				h := allKinds(t)
				h.product = p
				h.do(func(tx *db.Tx) error {
					return paidAtOnce(tx)
				})
				h.settle(h.place(tsm.Issue, 0), tsm.Done)
				h.settle(h.place(tsm.TopUp, 30_00), tsm.Done)
				from, hit := bandID, true
				for n := 1; hit; n++ {
					to := fmt.Sprint("next_", n)
					h.do(func(tx *db.Tx) error {
						_, err := h.tsm.Suspend(tx, from)
						return errors.Join(err, h.tsm.Register(tx, to, string(lin)))
					})
					h.band = newBand(t, h.tsm, to, byte(n+1))
					h.band.work(0)
					orders, err := h.tsm.MoveTo(ctx, from, to, nothing)
					if err != nil || len(orders) != 1 {
						t.Fatalf("%d orders: %v", len(orders), err)
					}
					h.card, h.band.sent = orders[0].Card, 0
					hit = fault(h, n)
					h.settle(orders[0], tsm.Done)
					h.whole()
					if v := h.money(); v.float != 30_00 || t.Failed() {
						t.Fatalf("fault %d: %+v\n%s", n, v, h.log(orders[0].ID))
					}
					from = to
				}
			})
		}
	}
}

// paidAtOnce lets the money of a lost card move without waiting.
func paidAtOnce(tx *db.Tx) error {
	_, err := tx.Exec(`UPDATE issuing_rule SET value = 0 WHERE rule = $1`, string(rule.Claim))
	return err
}

// TestMoveGivenUp cancels the issue of a moved card when it is written but not
// loaded: the card lives, and the money stays in the wallet.
func TestMoveGivenUp(t *testing.T) {
	t.Parallel()
	for _, p := range []string{issuing.TransitBJ, issuing.ECashCard, canteenCard} {
		h := allKinds(t)
		h.product = p
		h.do(func(tx *db.Tx) error {
			return paidAtOnce(tx)
		})
		h.settle(h.place(tsm.Issue, 0), tsm.Done)
		h.settle(h.place(tsm.TopUp, 30_00), tsm.Done)
		h.do(func(tx *db.Tx) error {
			_, err := h.tsm.Suspend(tx, bandID)
			return errors.Join(err, h.tsm.Register(tx, newBandID, string(lin)))
		})
		h.band = newBand(t, h.tsm, newBandID, 2)
		h.band.work(0)
		orders, err := h.tsm.MoveTo(ctx, bandID, newBandID, nothing)
		if err != nil || len(orders) != 1 {
			t.Fatalf("%d orders: %v", len(orders), err)
		}
		h.card = orders[0].Card
		for h.state() != issuing.Active {
			h.band.work(1)
		}
		h.do(func(tx *db.Tx) error { _, err := h.tsm.Cancel(tx, orders[0].ID); return err })
		h.settle(orders[0], tsm.Cancelled)
		if v := h.money(); v.float != 0 || v.wallet+v.deposit != funds {
			t.Errorf("%s: money %+v", p, v)
		}
		h.whole()
	}
}

// TestReplaceOnlyByItsHeir: a card ends for the living one that was opened in its
// place, and one with money only with its claim.
func TestReplaceOnlyByItsHeir(t *testing.T) {
	t.Parallel()
	h, cards := six(t)
	for _, tt := range []struct {
		old, to string
		want    error
	}{{doorCard, couponCard, issuing.ErrNotHeir}, {issuing.TransitBJ, issuing.TransitBJ, issuing.ErrNotHeir}} {
		if err := h.try(func(tx *db.Tx) error { return issuing.Replace(tx, cards[tt.old], cards[tt.to]) }); !errors.Is(err, tt.want) {
			t.Errorf("%s for %s: %v, want %v", tt.old, tt.to, err, tt.want)
		}
	}
	h.do(func(tx *db.Tx) error {
		_, err := h.tsm.Suspend(tx, bandID)
		return errors.Join(err, h.tsm.Register(tx, newBandID, string(lin)))
	})
	h.band = newBand(t, h.tsm, newBandID, 2)
	orders, err := h.tsm.MoveTo(ctx, bandID, newBandID, nothing)
	if err != nil {
		t.Fatal(err)
	}
	h.band.work(0)
	for _, o := range orders {
		h.do(func(tx *db.Tx) error {
			c, err := issuing.Get(tx, o.Card)
			if err != nil {
				return err
			}
			want := error(nil) // the same again
			if c.Kind.Money() {
				want = issuing.ErrKind
			}
			if err := issuing.Replace(tx, c.Replaces, c.ID); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", c.Kind, err, want)
			}
			return nil
		})
	}
}
