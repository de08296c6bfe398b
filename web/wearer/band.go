package wearer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"koala/issuing"
	"koala/web"
)

type component = templ.Component

// bandView is the first page.
type bandView struct {
	band   BandView
	face   web.BandFace
	cards  []Card
	rules  []ruleLine
	payers []Card // usable payment cards
	wallet Wallet
	busy   []busyOrder // under way, the first few
	more   int         // and how many besides
	recent []web.Happening
	room   Room
	wrist  bool      // hands can do things to the band from here
	lost   bool      // a band is reported lost
	moving bool      // and its cards move to the one that is shown
	money  time.Time // or have moved, and only money is still to come by then
	ref    string
}

// away tells whether there is no band to show: the lost one was the last.
func (v bandView) away() bool { return v.lost && !v.moving && v.band.Battery == 0 }

// A busyOrder is an order under way with the card it is for.
type busyOrder struct {
	Order
	card *Card
}

// shownOrders are on the first page at most.
const shownOrders = 3

// busy picks the orders a wearer waits for. The blocks that wait for a lost band
// are told on its own page.
func busy(orders []Order, cards []Card) (out []busyOrder, more int) {
	for _, o := range orders {
		b := busyOrder{Order: o}
		for i, c := range cards {
			if c.Number == o.Card {
				b.card = &cards[i]
			}
		}
		waits := o.Kind == OrderBlock && (b.card == nil || b.card.Lost)
		switch {
		case o.Over || waits:
		case len(out) < shownOrders:
			out = append(out, b)
		default:
			more++
		}
	}
	return out, more
}

// A ruleLine says which card answers a kind of reader.
type ruleLine struct {
	icon  string
	place web.Text
	rule  web.Text
	card  *Card // nil: none yet
}

const recentActs = 5

func (p pages) band(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	v := bandView{wrist: p.Wrist != nil, ref: p.Ref()}
	var err error
	if v.cards, v.band, err = p.hand(ctx, me); err != nil {
		return err
	}
	if v.wallet, err = p.Desk.Wallet(ctx, me); err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	orders, err := p.Desk.Orders(ctx, me, "", 30)
	if err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	v.busy, v.more = busy(orders, v.cards)
	if v.room, err = p.room(ctx, me, v.band); err != nil {
		return err
	}
	if p.Losses != nil {
		var loss Loss
		if loss, v.lost, err = p.Losses.Loss(ctx, me); err != nil {
			return fmt.Errorf("loss: %w", err)
		}
		v.moving, v.money = loss.Next != "", loss.Money
	}
	v.face, v.rules = faceOf(v.cards, v.band), rulesFor(v.cards)
	if v.away() {
		v.face = web.BandFace{Line2: "koala", Line3: words.LostAway}
	}
	for _, c := range v.cards {
		if c.Pays() && c.Usable {
			v.payers = append(v.payers, c)
		}
	}
	if v.recent, err = p.lately(ctx, me, orders, recentActs); err != nil {
		return err
	}
	return p.show(w, r, web.Page{Title: words.Band, Here: "/my/", Plain: true}, bandPage(v))
}

// hand is the band on the wrist and the cards in it, with the balances the
// element itself tells.
func (p pages) hand(ctx context.Context, me string) ([]Card, BandView, error) {
	cards, err := p.Desk.Cards(ctx, me)
	if err != nil {
		return nil, BandView{}, fmt.Errorf("cards: %w", err)
	}
	band, err := p.Street.Band(ctx, me)
	if err != nil {
		return nil, BandView{}, fmt.Errorf("band: %w", err)
	}
	return withLive(cards, band), band, nil
}

// lately merges rides, other uses and orders, newest first.
func (p pages) lately(ctx context.Context, me string, orders []Order, limit int) ([]web.Happening, error) {
	trips, err := p.Trips.Trips(ctx, me, "", limit)
	if err != nil {
		return nil, fmt.Errorf("trips: %w", err)
	}
	uses, err := p.uses(ctx, me, "", limit)
	if err != nil {
		return nil, err
	}
	return history(trips, uses, orders, limit), nil
}

func (p pages) uses(ctx context.Context, me string, card issuing.CardID, limit int) ([]Use, error) {
	if p.Uses == nil {
		return nil, nil
	}
	uses, err := p.Uses.Uses(ctx, me, card, limit)
	if err != nil {
		return nil, fmt.Errorf("uses: %w", err)
	}
	return uses, nil
}

// room is how the element's memory is shared out; what the element itself says
// of its size and its free bytes goes first.
func (p pages) room(ctx context.Context, me string, b BandView) (Room, error) {
	room, err := p.Desk.Room(ctx, me)
	if err != nil {
		return room, fmt.Errorf("room: %w", err)
	}
	room.Size, room.Free = cmp.Or(b.Size, room.Size), b.Free
	return room, nil
}

// withLive takes the balances the element itself tells: they are newer than
// what the last order or batch proved.
func withLive(cards []Card, b BandView) []Card {
	out := append([]Card(nil), cards...)
	for i := range out {
		if fen, ok := b.Fen[out[i].Number]; ok {
			out[i].Fen = fen
		}
	}
	return out
}

// faceOf is what the band's display shows: the first usable card with money on
// it, or the first usable one.
func faceOf(cards []Card, b BandView) web.BandFace {
	f := web.BandFace{Line1: words.NoCardYet, Line2: "koala", Line3: words.AddOne, Worn: b.Worn, Corner: fmt.Sprintf("%d%%", b.Battery)}
	var chosen *Card
	for i, c := range cards {
		if c.Usable && (chosen == nil || c.Worth() && !chosen.Worth()) {
			chosen = &cards[i]
		}
	}
	if chosen != nil {
		f.Line1, f.Line2, f.Line3 = chosen.Name, tail(*chosen), words.ReadyToTap
		if chosen.Worth() {
			f.Line2 = web.Yuan(chosen.Fen)
		}
	}
	switch {
	case !b.Worn:
		f.Line3 = words.NotWorn
	case b.Locked:
		f.Line3 = words.LockedNow
	}
	f.Locked = b.Locked
	return f
}

// rulesFor says which card answers where: the choice nobody has to make.
func rulesFor(cards []Card) []ruleLine {
	lines := []ruleLine{
		{"train-front", words.AtGates, words.RuleGate, nil}, {"store", words.AtTills, words.RuleTill, nil},
		{"utensils", words.AtCanteens, words.RuleCanteen, nil}, {"door-open", words.AtDoors, words.RuleDoor, nil},
		{"ticket", words.AtCoupons, words.RuleCoupon, nil},
	}
	kinds := []ReaderKind{ReaderGate, ReaderTill, ReaderCanteen, ReaderDoor, ReaderCoupon}
	for i := range lines {
		if fit := cardsFor(cards, kinds[i]); len(fit) > 0 {
			lines[i].card = &fit[0]
		}
	}
	return lines
}

// cardsFor are the usable cards a reader takes, the one it would get by itself
// first.
func cardsFor(cards []Card, k ReaderKind) (out []Card) {
	for _, c := range cards {
		if !c.Usable || !fits(c, k) {
			continue
		}
		if c.Default {
			out = append([]Card{c}, out...)
		} else {
			out = append(out, c)
		}
	}
	return out
}

// fits tells whether a card is one that a reader speaks to.
func fits(c Card, k ReaderKind) bool {
	switch k {
	case ReaderTill, ReaderPhone:
		return c.Pays()
	case ReaderCanteen:
		return c.For == issuing.Canteen
	case ReaderDoor:
		return c.For == issuing.Door
	case ReaderCoupon:
		return c.For == issuing.Coupon
	default:
		return c.For == issuing.Transit
	}
}

// wrist is what a hand does to the band: put it on, take it off, unlock it.
func (p pages) wrist(w http.ResponseWriter, r *http.Request) error {
	if p.Wrist == nil {
		return ErrNoWrist
	}
	ctx, me, back := r.Context(), who(r), "/my/"
	if r.PostFormValue("back") == "tap" {
		back = "/my/tap"
	}
	var err error
	var did web.Text
	switch r.PathValue("act") {
	case "on":
		did, err = words.PutOnDone, p.Wrist.Wear(ctx, me, true)
	case "off":
		did, err = words.TakenOffDone, p.Wrist.Wear(ctx, me, false)
	case "unlock":
		did, err = words.UnlockedDone, p.Wrist.Unlock(ctx, me, r.PostFormValue("code"))
	default:
		return web.ErrNoPage
	}
	if errors.Is(err, web.ErrNoPage) {
		return err
	}
	if err != nil {
		return p.sorry(w, r, back, err)
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Good, Text: did.In(ctx)})
}
