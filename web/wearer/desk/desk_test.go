package desk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"koala/acquiring"
	"koala/activity"
	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/customer"
	"koala/firmware"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	release "koala/spec/firmware"
	"koala/switching"
	"koala/transit"
	"koala/tsm"
	"koala/wallet"
	partners "koala/web/open"
	"koala/web/wearer"
	"koala/web/wearer/desk"
)

const ann, bob = "cust_ann", "cust_bob"

// A house is Ann's and Bob's, with every kind of card on sale.
type house struct {
	t      *testing.T
	now    *clock.Virtual
	store  *db.Store
	tsm    *tsm.Manager
	keys   *hsm.HSM
	desk   wearer.Desk
	losses wearer.Losses
	body   wearer.Body
	uses   wearer.Uses
	bands  map[string]*band.Band
	refs   int
}

func open(t *testing.T) *house {
	t.Helper()
	ctx := t.Context()
	h := &house{t: t, now: clock.NewVirtual(time.Date(2015, 9, 16, 4, 0, 0, 0, time.UTC)), bands: map[string]*band.Band{}}
	primes, err := os.ReadFile("../../../hsm/testdata/primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	if h.store, err = db.Open(ctx, db.Config{URL: dbtest.File(t), Clock: h.now, Rand: clock.Random(7), Inline: true}); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); h.store.Close() })
	keys, err := hsm.Open(ctx, h.store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(8), Primes: primes})
	if err != nil {
		t.Fatal(err)
	}
	h.tsm, h.keys = tsm.New(h.store, keys, tsm.Config{}), keys
	err = errors.Join(h.store.Migrate(ctx, wallet.Schema, settlement.Schema, merchant.Schema, issuing.Schema, tsm.Schema, transit.Schema, acquiring.Schema, proposal.Schema, switching.Schema, activity.Schema, firmware.Schema, partners.Schema),
		keys.Provision(ctx), keys.ProvisionBank(ctx))
	if err != nil {
		t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error {
		return errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), wallet.Open(tx, ann), wallet.Open(tx, bob), templates(tx))
	})
	h.do(func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, "fund-ann", ann, money.Fen(1000_00))
		return err
	})
	h.desk, h.losses, h.body = desk.New(h.store, book, keys, h.tsm), desk.NewLosses(h.store, h.tsm), desk.NewBody(h.store)
	h.uses = desk.NewUses(h.store, book, acquiring.NewOffice(h.store, keys, issuing.NewBank(h.store, keys), acquiring.Elements{}))
	h.give("band_1")
	return h
}

// templates are those of a firm on the platform.
func templates(tx *db.Tx) error {
	if err := acquiring.AddFirm(tx, acquiring.Firm{ID: "acme", NameEN: "Acme Works", NameZH: "艾克美"}); err != nil {
		return err
	}
	for code, t := range map[string]struct {
		kind issuing.Kind
		data any
	}{
		"lunch": {issuing.Canteen, issuing.CanteenData{Site: "hq"}},
		"door":  {issuing.Door, issuing.DoorData{Site: 7, Days: 365}},
		"tea":   {issuing.Coupon, issuing.CouponData{Merchant: "tea", Gives: "percent", Value: 1250, Minimum: 2000, Uses: 3, Days: 30}},
	} {
		data, err := json.Marshal(t.data)
		if err != nil {
			return err
		}
		x, err := issuing.Submit(tx, issuing.Template{Issuer: "acme", Code: code, Kind: t.kind, NameEN: code, NameZH: code, Art: "acme", Space: 2 << 10, Data: data})
		if err == nil {
			_, err = issuing.Approve(tx, x.ID, "staff")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.store.Write(context.Background(), f); err != nil {
		h.t.Fatal(err)
	}
}

// give makes a band of Ann's.
func (h *house) give(id string) {
	h.t.Helper()
	e, err := catalog.New(isd.Config{}).NewElement([7]byte{4, byte(len(h.bands)), 2, 3, 4, 5, 6}, clock.Random(uint64(9+len(h.bands))))
	if err != nil {
		h.t.Fatal(err)
	}
	if h.bands[id], err = band.New(id, e); err != nil {
		h.t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error { return h.tsm.Register(tx, id, ann) })
}

// link is a band's way to the house without a network between.
type link struct{ tsm *tsm.Manager }

func (l link) Next(ctx context.Context, id string, _ band.Hello) (band.Script, error) {
	s, err := l.tsm.Next(ctx, id)
	out := band.Script{ID: s.ID, Order: s.Order, Done: s.Done}
	for _, c := range s.Steps {
		out.Steps = append(out.Steps, band.Step{APDU: c.APDU, Expect: c.Expect})
	}
	return out, err
}

func (l link) Report(ctx context.Context, id, script string, answers [][]byte, cut bool) error {
	return l.tsm.Report(ctx, id, script, answers, cut)
}

func (h *house) ref() string { h.refs++; return fmt.Sprintf("form-%05d", h.refs) }

// done lets a band work and wants the order done.
func (h *house) done(band, order string, err error) {
	h.t.Helper()
	if err == nil {
		err = h.bands[band].Run(context.Background(), link{h.tsm})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if o, err := h.desk.Order(context.Background(), ann, order); err != nil || !o.Good {
		h.t.Fatalf("order %s is %v, %v: %v", order, o.State, o.Why, err)
	}
}

func (h *house) add(product string) wearer.Card {
	h.t.Helper()
	h.now.Set(h.now.Now().Add(time.Minute))
	order, err := h.desk.Apply(context.Background(), ann, h.ref(), product)
	h.done("band_1", order, err)
	cards := h.cards()
	return cards[len(cards)-1]
}

func (h *house) load(c wearer.Card, fen int64) {
	h.t.Helper()
	order, err := h.desk.TopUp(context.Background(), ann, h.ref(), c.Number, fen)
	h.done("band_1", order, err)
}

func (h *house) cards() []wearer.Card {
	h.t.Helper()
	cards, err := h.desk.Cards(context.Background(), ann)
	if err != nil {
		h.t.Fatal(err)
	}
	return cards
}

func (h *house) card(k issuing.Kind) wearer.Card {
	h.t.Helper()
	for _, c := range h.cards() {
		if c.For == k {
			return c
		}
	}
	h.t.Fatalf("no card of kind %s", k)
	return wearer.Card{}
}

func TestCardsOfEveryKind(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	products, err := h.desk.Products(ctx, ann)
	if err != nil || len(products) != 8 {
		t.Fatalf("%d products, %v", len(products), err)
	}
	for _, p := range products {
		if p.Space == 0 || p.Note.Empty() || p.Kind == "" || !p.Offered() || p.Firm != (p.Issuer.EN == "Acme Works") {
			t.Errorf("on sale: %+v", p)
		}
		if p.Code == issuing.ECashCardSM { // under the name of the e-cash card before it: a band holds one of them
			if _, err := h.desk.Apply(ctx, ann, h.ref(), p.Code); !errors.Is(err, issuing.ErrHasCard) {
				t.Errorf("a second e-cash card: %v", err)
			}
			list, err := h.desk.Products(ctx, ann)
			if i := slices.IndexFunc(list, func(x wearer.Product) bool { return x.Code == p.Code }); err != nil || list[i].Offered() || list[i].Have || list[i].Instead.EN != "E-cash card" {
				t.Errorf("a second e-cash card is offered: %+v, %v", list[i], err)
			}
			continue
		}
		h.add(p.Code)
	}
	for _, tt := range []struct {
		kind  issuing.Kind
		loads bool
		pays  bool
	}{{issuing.Transit, true, false}, {issuing.ECash, true, true}, {issuing.Debit, true, true}, {issuing.Credit, false, true},
		{issuing.Canteen, true, false}, {issuing.Door, false, false}, {issuing.Coupon, false, false}} {
		if c := h.card(tt.kind); !c.Usable || c.Loads != tt.loads || c.Pays() != tt.pays || c.Worth() != tt.loads {
			t.Errorf("%s: %+v", tt.kind, c)
		}
	}
	for _, c := range h.cards() {
		if c.Loads {
			h.load(c, 50_00)
			if c := h.card(c.For); c.Fen != 50_00 || c.BookFen != 50_00 {
				t.Errorf("%s holds %d, in the books %d", c.For, c.Fen, c.BookFen)
			}
		}
	}
	if c := h.card(issuing.Coupon).Coupon; c == nil || c.Left != 3 || c.Gives.EN != "12.5% off from ¥20.00" || c.Gives.ZH == "" {
		t.Errorf("coupon %+v", c)
	}
	if c := h.card(issuing.Credit); c.CreditFen == 0 || c.OwesFen != 0 || len(c.Limits) == 0 {
		t.Errorf("credit %+v", c)
	}
	if d := h.card(issuing.Door); d.Doors.EN != "the doors of site 7" {
		t.Errorf("door %+v", d)
	}
	room, err := h.desk.Room(ctx, ann)
	if err != nil || len(room.Issuers) != 3 || room.Used() == 0 || room.Used() > room.Size {
		t.Errorf("room %+v, %v", room, err)
	}
	if w, err := h.desk.Wallet(ctx, ann); err != nil || w.Fen != 1000_00-20_00-4*50_00 || w.HeldFen != 0 {
		t.Errorf("wallet %+v, %v", w, err)
	}
}

// TestTheDefaultCard: by priority first, then the one chosen last, and another
// when that one is blocked.
func TestTheDefaultCard(t *testing.T) {
	h := open(t)
	want := func(k issuing.Kind) {
		t.Helper()
		for _, c := range h.cards() {
			if c.Default != (c.For == k) {
				t.Errorf("%s default %v, want %s", c.For, c.Default, k)
			}
		}
	}
	debit := h.add(issuing.DebitCard)
	want(issuing.Debit)
	cash := h.add(issuing.ECashCard)
	want(issuing.ECash)
	act := func(c wearer.Card, k wearer.OrderKind) {
		t.Helper()
		h.now.Set(h.now.Now().Add(time.Minute))
		order, err := h.desk.Act(t.Context(), ann, h.ref(), c.Number, k)
		h.done("band_1", order, err)
	}
	act(debit, wearer.OrderDefault)
	want(issuing.Debit)
	act(cash, wearer.OrderDefault)
	want(issuing.ECash)
	act(cash, wearer.OrderBlock)
	want(issuing.Debit)
	act(cash, wearer.OrderUnblock)
	want(issuing.ECash)
}

func TestAPINGoesToTheBank(t *testing.T) {
	h := open(t)
	debit, transit := h.add(issuing.DebitCard), h.add(issuing.TransitBJ)
	ctx := t.Context()
	if order, err := h.desk.SetPIN(ctx, ann, h.ref(), debit.Number, "135790"); err != nil || order != "" {
		t.Errorf("PIN: %q, %v", order, err)
	}
	if _, err := h.desk.SetPIN(ctx, bob, h.ref(), debit.Number, "135790"); !errors.Is(err, wearer.ErrNoCard) {
		t.Errorf("another's PIN: %v", err)
	}
	if _, err := h.desk.SetPIN(ctx, ann, h.ref(), transit.Number, "135790"); err == nil {
		t.Error("a purse has a PIN")
	}
	if err := h.desk.Repay(ctx, bob, h.ref(), debit.Number, 1); !errors.Is(err, wearer.ErrNoCard) {
		t.Errorf("another's bill: %v", err)
	}
	if err := h.desk.Repay(ctx, ann, h.ref(), debit.Number, 1); !errors.Is(err, issuing.ErrKind) {
		t.Errorf("a debit card's bill: %v", err)
	}
}

// TestALostBandIsFound: everything works again.
func TestALostBandIsFound(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.add(issuing.TransitBJ)
	h.load(h.card(issuing.Transit), 50_00)
	if loss, lost, err := h.losses.Loss(ctx, ann); lost || err != nil || loss.Rule.Empty() {
		t.Fatalf("lost %v, %v; the rule is %+v", lost, err, loss.Rule)
	}
	if err := h.losses.Withdraw(ctx, ann); !errors.Is(err, wearer.ErrNoLoss) {
		t.Errorf("nothing to withdraw: %v", err)
	}
	if err := h.losses.Report(ctx, ann); err != nil {
		t.Fatal(err)
	}
	loss, lost, err := h.losses.Loss(ctx, ann)
	if err != nil || !lost || len(loss.Cards) != 1 || loss.Next != "" || loss.Rule.Empty() {
		t.Fatalf("%+v, %v, %v", loss, lost, err)
	}
	if c := loss.Cards[0]; c.Fen != 50_00 || c.Due.Sub(loss.At) != 7*24*time.Hour || c.Mine || !c.Card.Lost {
		t.Errorf("lost card %+v", c)
	}
	if c := h.card(issuing.Transit); !c.Lost || c.Usable {
		t.Errorf("a lost card is %+v", c)
	}
	if err := h.losses.Claim(ctx, ann, h.card(issuing.Transit).Number); !errors.Is(err, issuing.ErrNotDue) {
		t.Errorf("paid before its time: %v", err)
	}
	if _, err := h.desk.Apply(ctx, ann, h.ref(), issuing.ECashCard); !errors.Is(err, tsm.ErrBand) {
		t.Errorf("a card into a lost band: %v", err)
	}
	if err := h.losses.Withdraw(ctx, ann); err != nil {
		t.Fatal(err)
	}
	if _, lost, err := h.losses.Loss(ctx, ann); lost || err != nil || !h.card(issuing.Transit).Usable {
		t.Errorf("found, and still lost: %v, %v", lost, err)
	}
}

// TestALostBandIsReplaced: every card comes anew, the money follows when it is
// due, and then the loss is over.
func TestALostBandIsReplaced(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for _, p := range []string{issuing.TransitBJ, issuing.ECashCard, "acme/door"} {
		h.add(p)
	}
	h.load(h.card(issuing.Transit), 50_00)
	h.load(h.card(issuing.ECash), 80_00)
	before := h.cards()
	if err := h.losses.Report(ctx, ann); err != nil {
		t.Fatal(err)
	}
	h.give("band_2")
	if err := h.bands["band_2"].Run(ctx, link{h.tsm}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same again is the same move
		if err := h.losses.Move(ctx, ann, h.ref(), "band_2"); err != nil {
			t.Fatal(err)
		}
	}
	loss, lost, err := h.losses.Loss(ctx, ann)
	if err != nil || !lost || loss.Next != "band_2" || len(loss.Cards) != 3 {
		t.Fatalf("%+v, %v, %v", loss, lost, err)
	}
	for _, c := range loss.Cards {
		if c.New == nil || c.Order == nil || c.Mine {
			t.Errorf("moving %+v", c)
		}
	}
	if err := h.bands["band_2"].Run(ctx, link{h.tsm}); err != nil {
		t.Fatal(err)
	}
	now := h.cards()
	if len(now) != 3 {
		t.Fatalf("%d cards after the move, old ones among them", len(now))
	}
	for i, c := range now {
		if !c.Usable || c.Number == before[i].Number || c.For != before[i].For {
			t.Errorf("in place of %s: %+v", before[i].For, c)
		}
	}
	if _, lost, _ := h.losses.Loss(ctx, ann); !lost {
		t.Error("over while its money waits")
	}
	h.now.Set(h.now.Now().AddDate(0, 0, 8))
	if err := h.tsm.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	if err := h.bands["band_2"].Run(ctx, link{h.tsm}); err != nil {
		t.Fatal(err)
	}
	if a, b := h.card(issuing.Transit).Fen, h.card(issuing.ECash).Fen; a != 50_00 || b != 80_00 {
		t.Errorf("the new cards hold %d and %d", a, b)
	}
	if loss, lost, err := h.losses.Loss(ctx, ann); lost || err != nil {
		t.Errorf("still lost: %+v, %v", loss, err)
	}
}

// TestALostCardIsPaidOut: without a new band its money goes to the wallet.
func TestALostCardIsPaidOut(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.add(issuing.TransitBJ)
	h.load(h.card(issuing.Transit), 50_00)
	card := h.card(issuing.Transit).Number
	if err := h.losses.Report(ctx, ann); err != nil {
		t.Fatal(err)
	}
	h.now.Set(h.now.Now().AddDate(0, 0, 8))
	if loss, _, err := h.losses.Loss(ctx, ann); err != nil || len(loss.Cards) != 1 || !loss.Cards[0].Mine {
		t.Fatalf("%+v, %v", loss, err)
	}
	if err := h.losses.Claim(ctx, bob, card); !errors.Is(err, wearer.ErrNoCard) {
		t.Errorf("another's claim: %v", err)
	}
	if err := h.losses.Claim(ctx, ann, card); err != nil {
		t.Fatal(err)
	}
	if w, err := h.desk.Wallet(ctx, ann); err != nil || w.Fen != 1000_00 {
		t.Errorf("wallet %d, %v", w.Fen, err)
	}
	if _, lost, err := h.losses.Loss(ctx, ann); lost || err != nil {
		t.Errorf("still lost, %v", err)
	}
}

func TestReleaseNotes(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	notes := desk.NewNotes(h.store)
	if _, err := h.keys.Generate(ctx, firmware.Label, hsm.Signing); err != nil {
		t.Fatal(err)
	}
	if err := firmware.Publish(ctx, h.store, h.keys, release.Release{Version: 4, EN: "doors open faster", ZH: "开门更快"}); err != nil {
		t.Fatal(err)
	}
	if got, err := notes(ctx, 4); err != nil || got.EN != "doors open faster" || got.ZH != "开门更快" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := notes(ctx, 3); err != nil || !got.Empty() {
		t.Errorf("a release nobody published: %+v, %v", got, err)
	}
}

func TestBodyAndUses(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.do(func(tx *db.Tx) error {
		return activity.Keep(tx, customer.ID(ann), []activity.Hour{{Start: h.now.Now().Add(-time.Hour), Steps: 700, Asleep: 5}})
	})
	days, err := h.body.Days(ctx, ann, 14)
	if err != nil || len(days) != 14 || days[13].Steps != 700 || days[13].Asleep != 5 {
		t.Errorf("%+v, %v", days, err)
	}
	if days, err := h.body.Days(ctx, bob, 14); err != nil || days[13].Steps != 0 {
		t.Errorf("another's steps: %+v, %v", days, err)
	}
	if err := h.body.Forget(ctx, ann); err != nil {
		t.Error(err)
	}
	if days, err := h.body.Days(ctx, ann, 14); err != nil || days[13].Steps != 0 {
		t.Errorf("%+v, %v", days, err)
	}
	h.add("acme/door")
	if list, err := h.uses.Uses(ctx, ann, "", 20); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := h.uses.Use(ctx, ann, "psg_none"); !errors.Is(err, wearer.ErrNoUse) {
		t.Errorf("a use that is none: %v", err)
	}
}
