package tsm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/tsm"
	"koala/tsm/domain"
)

// home is the domain that an instance is associated with; empty when it is not
// in the element.
func (b *band) home(instance string) (aid globalplatform.AID) {
	for _, x := range b.element.Entries() {
		if string(x.AID) == instance {
			aid = globalplatform.AID(x.Domain)
		}
	}
	return aid
}

func (b *band) has(aid globalplatform.AID) bool { return b.home(string(aid)) != "" }

func (h *house) receipts(o tsm.Order) (list []tsm.Receipt) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { list, err = tsm.ReceiptsOf(q, o.ID); return err })
	return list
}

// firms is a house with cards of every kind on sale and of a second firm's too.
func firms(t *testing.T) *house {
	t.Helper()
	h := allKinds(t)
	h.templates("bun", map[string]offer{
		"door": {issuing.Door, issuing.DoorData{Site: 9, Days: 365}, 0},
		"bun":  {issuing.Coupon, issuing.CouponData{Merchant: "bun", Gives: "amount", Value: 300, Uses: 3, Days: 30}, 0},
	})
	return h
}

// TestFirstCardOfAFirm cuts everything that makes a firm's domain for its first
// card, each time in a new element: before every command, at every lost answer,
// at every physical write, at every lost report, and with every script run twice.
func TestFirstCardOfAFirm(t *testing.T) {
	faults := map[string]func(h *house, n int) (hit bool){
		"cut before a command": func(h *house, n int) bool {
			h.band.cutBefore = n
			h.band.work(0)
			hit := h.band.cutBefore == 0
			h.band.cutBefore = 0
			return hit
		},
		"answer lost": func(h *house, n int) bool {
			before := h.band.sent
			h.band.element.LoseAnswer(n)
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
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := allKinds(t)
			h.do(func(tx *db.Tx) error { return h.tsm.Register(tx, bandID, string(lin)) })
			h.band.work(0) // adopted
			fresh := h.band.element.Image()
			begin := func(n int) (o tsm.Order) {
				e, err := elements.Restore(fresh, clock.Random(uint64(n)))
				if err != nil {
					t.Fatal(err)
				}
				h.band.element = e
				h.product, h.card = doorCard, ""
				return h.place(tsm.Issue, 0)
			}
			o := begin(0)
			writes, sent := h.band.element.Memory().Writes(), h.band.sent
			const scripts = 5 // the domain is not there, the issuer's, its keys, its look
			h.band.work(scripts)
			last := map[string]int{"cut at a write": h.band.element.Memory().Writes() - writes, "report lost": scripts, "script twice": scripts}[name]
			if last == 0 {
				last = h.band.sent - sent
			}
			h.settle(o, tsm.Done)
			h.settle(h.place(tsm.Delete, 0), tsm.Done)
			for n := 1; n <= last; n++ { // what follows is as of any card: TestKindsUnderFaults
				o := begin(n)
				hit := fault(h, n)
				h.settle(o, tsm.Done)
				if h.whole(); h.band.home(h.instance()) != issuing.DomainOf([]byte(h.instance())) || h.band.has(domain.Partners) {
					t.Errorf("fault %d: the card is in domain %X", n, string(h.band.home(h.instance())))
				}
				h.settle(h.place(tsm.Delete, 0), tsm.Done)
				if t.Failed() {
					t.Fatalf("fault %d\n%s", n, h.log(o.ID))
				}
				if !hit {
					t.Fatalf("fault %d is behind the end", n)
				}
			}
		})
	}
}

// TestFirmsApart puts cards of two firms into one element: each firm has its own
// domain and instances, its receipts are kept, and readers find every card by the
// names they know.
func TestFirmsApart(t *testing.T) {
	t.Parallel()
	h := firms(t)
	issued := map[string]issuing.CardID{}
	for _, p := range []string{couponCard, doorCard, "bun/bun", "bun/door", canteenCard} {
		h.product, h.card = p, ""
		o := h.place(tsm.Issue, 0)
		h.settle(o, tsm.Done)
		issued[p] = h.card
		list := h.receipts(o)
		want := 1
		if p == canteenCard {
			want = 0 // the instance was there
		}
		if len(list) != want {
			t.Fatalf("%s: %d receipts", p, len(list))
		}
		for _, r := range list {
			if r.Domain != issuing.DomainOf([]byte(h.instance())) || r.Counter != len(issued) || len(r.Answer.Receipt) != 16 {
				t.Errorf("%s: %+v", p, r)
			}
		}
	}
	for _, p := range []string{couponCard, canteenCard, "bun/bun", "bun/door"} {
		h.at(p, issued)
		if got := h.band.home(h.instance()); got == "" || got != issuing.DomainOf([]byte(h.instance())) {
			t.Errorf("%s is in domain %X", p, string(got))
		}
	}
	host := desfire.NewHost(h.band.element.Transmit, clock.Random(1))
	if err := host.Open(); err != nil {
		t.Fatal(err)
	}
	for _, app := range []desfire.AID{desfire.CanteenAID, desfire.DoorAID, desfire.CanteenAID} {
		if err := host.Select(app); err != nil {
			t.Errorf("application %v: %v", app, err)
		}
	}
	till := coupon.Till{Send: h.band.element.Transmit}
	_, first, err := till.Open([]byte("\xF0koala\x04\x10"))
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := till.OpenNext([]byte("\xF0koala\x04\x10"))
	if err != nil || len(first) != 1 || len(second) != 1 || first[0].Merchant == second[0].Merchant {
		t.Errorf("coupons %v, %v: %v", first, second, err)
	}
	h.at("bun/bun", issued)
	o := h.place(tsm.Delete, 0)
	h.settle(o, tsm.Done)
	if list := h.receipts(o); len(list) != 1 || list[0].Said.INS != globalplatform.InsDelete {
		t.Errorf("receipts of a removal: %+v", list)
	}
	if h.band.home(h.instance()) != "" || !h.band.has(issuing.DomainOf([]byte(h.instance()))) {
		t.Error("with the firm's last coupon its instance goes, and its domain stays")
	}
	h.at(couponCard, issued)
	if _, there, open := h.onCard(); !there || !open {
		t.Error("the other firm's coupon is gone")
	}
}

// TestForgedReceipt lets an agent invent, drop and repeat receipts: an order whose
// receipt is not the element's is not done by it.
func TestForgedReceipt(t *testing.T) {
	t.Parallel()
	var old []byte // the confirmation of an earlier order
	for name, forge := range map[string]func(b []byte) []byte{
		"changed":         func(b []byte) []byte { b[3] ^= 1; return b },
		"none":            func(b []byte) []byte { return []byte{0, 0x90, 0} },
		"another order's": func([]byte) []byte { return old },
	} {
		t.Run(name, func(t *testing.T) {
			h := allKinds(t)
			h.product = doorCard
			h.issued(0)
			for _, keep := range []bool{true, false} {
				o := h.place(tsm.Delete, 0)
				for !h.order(o.ID).State.Over() {
					s := h.next()
					answers, _ := h.band.transmit(s)
					at := slices.IndexFunc(answers, func(a []byte) bool { return len(a) > 20 && a[0] == 16 })
					switch {
					case at >= 0 && keep:
						old = bytes.Clone(answers[at])
					case at >= 0:
						answers[at] = forge(answers[at])
					}
					h.band.report(s, answers, false)
					if got := h.order(o.ID); at >= 0 && !keep && (got.State != tsm.Unconfirmed || got.Why != tsm.WrongProof || len(h.receipts(o)) != 0) {
						t.Fatalf("%s (%s), %d receipts", got.State, got.Why, len(h.receipts(o)))
					} else if at >= 0 && !keep {
						break
					}
				}
				if keep {
					h.settle(h.place(tsm.Issue, 0), tsm.Done)
					continue
				}
				h.settle(o, tsm.Done) // a look says that it is gone
			}
		})
	}
}

// TestTokenKeyRotated changes the house's token key and the receipts' while a band
// has a firm's domain: the next order brings the new ones in.
func TestTokenKeyRotated(t *testing.T) {
	t.Parallel()
	h := allKinds(t)
	h.product = doorCard
	h.issued(0)
	if _, err := h.keys.Rotate(ctx, hsm.LabelInstallToken, hsm.LabelReceipt); err != nil {
		t.Fatal(err)
	}
	h.settle(h.place(tsm.Delete, 0), tsm.Done)
	o := h.place(tsm.Issue, 0)
	h.settle(o, tsm.Done)
	h.whole()
	if len(h.receipts(o)) != 1 {
		t.Errorf("%d receipts", len(h.receipts(o)))
	}
}

// partnersImage is a house and its band as they were when all firms' cards lived
// in one domain: cards of acme, and an order of another firm half way.
func partnersImage(t *testing.T) *house {
	t.Helper()
	f, err := os.Open("testdata/partners.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[head.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	h := copied(t, func() (image, error) { return image{store: files["koala.db"], key: files["key"]}, nil }, tsm.Config{})
	if err := h.store.Migrate(ctx, issuing.Schema, tsm.Schema); err != nil {
		t.Fatal(err)
	}
	h.now.Advance(time.Minute)
	if h.band.element, err = elements.Restore(files["element"], clock.Random(9)); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestPartnersDomainOfBefore goes on with a band whose cards are in the one domain
// of before: they are managed there to their end, an order half way is finished
// there, and new cards of the same firm live in its own.
func TestPartnersDomainOfBefore(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		t.Run(fmt.Sprint("cut ", n), func(t *testing.T) {
			h := partnersImage(t)
			cards := map[string]issuing.CardID{}
			h.read(func(q *db.Query) error {
				list, err := issuing.InBand(q, bandID)
				for _, c := range list {
					cards[c.Product] = c.ID
				}
				return err
			})
			h.band.element.LoseAnswer(n)
			h.band.work(0) // the order half way
			h.band.element.LoseAnswer(0)
			h.band.work(0)
			if h.at("bun/bun", cards); h.state() != issuing.Active || h.band.home(h.instance()) != domain.Partners {
				t.Fatalf("the card half way is %s in domain %X", h.state(), string(h.band.home(h.instance())))
			}
			for _, p := range []string{doorCard, canteenCard, couponCard} {
				h.at(p, cards)
				h.settle(h.place(tsm.Block, 0), tsm.Done)
				h.settle(h.place(tsm.Unblock, 0), tsm.Done)
				h.wholeOf()
				if h.band.home(h.instance()) != domain.Partners {
					t.Errorf("%s left its domain", p)
				}
			}
			h.at(doorCard, cards)
			h.settle(h.place(tsm.Delete, 0), tsm.Done)
			h.settle(h.place(tsm.Issue, 0), tsm.Done)
			if h.wholeOf(); h.band.home(h.instance()) != issuing.DomainOf([]byte(h.instance())) {
				t.Errorf("a new card is in domain %X", string(h.band.home(h.instance())))
			}
			reader := desfire.NewHost(h.band.element.Transmit, clock.Random(1))
			if err := errors.Join(reader.Open(), reader.Select(desfire.DoorAID), reader.Select(desfire.CanteenAID)); err != nil {
				t.Error(err) // in the instance of before and in the firm's
			}
			h.at(canteenCard, cards)
			h.settle(h.place(tsm.TopUp, 10_00), tsm.Done)
			h.wholeOf()
			for _, p := range []string{canteenCard, couponCard, "bun/bun"} {
				h.at(p, cards)
				h.settle(h.place(tsm.Delete, 0), tsm.Done)
			}
			if r := h.band.ask(iso7816.Select([]byte("\xF0koala\x04\x10"))); r.SW != iso7816.SWFileNotFound {
				t.Errorf("the coupons' instance of before: %04X", uint16(r.SW))
			}
			if v := h.money(); v.wallet != funds || v.held != 0 {
				t.Errorf("money: %+v", v)
			}
		})
	}
}
