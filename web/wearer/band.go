package wearer

import (
	"fmt"
	"net/http"

	"github.com/a-h/templ"

	"koala/web"
)

type component = templ.Component

// bandView is the first page.
type bandView struct {
	band   BandView
	face   web.BandFace
	cards  []Card
	wallet Wallet
	busy   []Order // orders still under way
	recent []web.Happening
}

const recentActs = 5

func (p pages) band(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	var v bandView
	var err error
	if v.cards, err = p.Desk.Cards(ctx, me); err != nil {
		return fmt.Errorf("cards: %w", err)
	}
	if v.band, err = p.Street.Band(ctx, me); err != nil {
		return fmt.Errorf("band: %w", err)
	}
	if v.wallet, err = p.Desk.Wallet(ctx, me); err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	orders, err := p.Desk.Orders(ctx, me, "", 30)
	if err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	for _, o := range orders {
		if !o.Over {
			v.busy = append(v.busy, o)
		}
	}
	v.cards = withLive(v.cards, v.band)
	v.face = faceOf(v.cards, v.band)
	trips, err := p.Trips.Trips(ctx, me, "", recentActs)
	if err != nil {
		return fmt.Errorf("trips: %w", err)
	}
	v.recent = history(trips, orders, recentActs)
	return p.show(w, r, web.Page{Title: words.Band, Here: "/my/", Plain: true}, bandPage(v))
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

// faceOf is what the band's display shows: the first usable card.
func faceOf(cards []Card, b BandView) web.BandFace {
	f := web.BandFace{Line1: words.NoCardYet, Line2: "koala", Line3: words.AddOne, Worn: b.Worn, Corner: fmt.Sprintf("%d%%", b.Battery)}
	for _, c := range cards {
		if c.Usable {
			f.Line1, f.Line2, f.Line3 = c.Name, web.Yuan(c.Fen), words.ReadyToTap
			break
		}
	}
	if !b.Worn {
		f.Line3 = words.NotWorn
	}
	return f
}

// cardView is the page of one card.
type cardView struct {
	card   Card
	orders []Order
	past   []web.Happening
	ref    string
}

func (p pages) card(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	band, err := p.Street.Band(ctx, me)
	if err != nil {
		return fmt.Errorf("band: %w", err)
	}
	v := cardView{card: withLive([]Card{c}, band)[0], ref: p.Ref()}
	if v.orders, err = p.Desk.Orders(ctx, me, c.Number, 20); err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	trips, err := p.Trips.Trips(ctx, me, "", 40)
	if err != nil {
		return fmt.Errorf("trips: %w", err)
	}
	var own []Trip
	for _, t := range trips {
		if t.Card == c.Number {
			own = append(own, t)
		}
	}
	v.past = history(own, v.orders, 20)
	return p.show(w, r, web.Page{Title: c.Name, Back: "/my/", Here: "/my/"}, cardPage(v))
}

// acts are the buttons of a card's page that need no more input.
var acts = map[string]OrderKind{"block": OrderBlock, "unblock": OrderUnblock, "return": OrderReturn}

func (p pages) act(w http.ResponseWriter, r *http.Request) error {
	kind, known := acts[r.PathValue("act")]
	if !known {
		return web.ErrNoPage
	}
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	id, err := p.Desk.Act(r.Context(), who(r), r.PostFormValue("ref"), c.Number, kind)
	if err != nil {
		return p.sorry(w, r, "/my/cards/"+c.Key(), err)
	}
	p.Street.Connect(r.Context(), who(r))
	return web.Redirect(w, r, "/my/orders/"+id, web.Toast{})
}
