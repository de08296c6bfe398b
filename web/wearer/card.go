package wearer

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"koala/web"
)

// cardView is the page of one card.
type cardView struct {
	card   Card
	orders []Order
	past   []web.Happening
	places placeGroup // readers that take it, gates left out
	room   Room
	points Points // of a debit or credit card
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
	if v.room, err = p.room(ctx, me, band); err != nil {
		return err
	}
	if c.TakesPIN() {
		if v.points, err = p.Desk.Points(ctx, me, c.Number, pointLines); err != nil {
			return fmt.Errorf("points: %w", err)
		}
	}
	gates, err := p.Street.Gates(ctx)
	if err != nil {
		return fmt.Errorf("gates: %w", err)
	}
	v.places = placesFor(gates, v.card)
	trips, err := p.Trips.Trips(ctx, me, "", 40)
	if err != nil {
		return fmt.Errorf("trips: %w", err)
	}
	trips = slices.DeleteFunc(trips, func(t Trip) bool { return t.Card != c.Number })
	uses, err := p.uses(ctx, me, c.Number, 20)
	if err != nil {
		return err
	}
	v.past = history(trips, uses, v.orders, 20)
	return p.show(w, r, web.Page{Title: c.Name, Back: "/my/", Here: "/my/"}, cardPage(v))
}

// pointLines is how many movements of points a card's page shows.
const pointLines = 10

// pointLine is a movement of points in one line.
func pointLine(m PointMove) web.Happening {
	h := web.Happening{At: m.At, What: m.Where, Icon: "plus", Tone: web.Good, Detail: signed(m.Points)}
	switch {
	case m.Spent && m.Points == 0:
		h.Icon, h.Tone, h.Detail, h.What = "history", web.Neutral, "", web.Text{ZH: joined(m.Where.ZH, words.PointsBack.ZH), EN: joined(m.Where.EN, words.PointsBack.EN)}
	case m.Spent:
		h.Icon, h.Tone, h.What = "receipt", web.Neutral, web.Text{ZH: joined(m.Where.ZH, words.PointsPaid.ZH), EN: joined(m.Where.EN, words.PointsPaid.EN)}
	}
	return h
}

func pointList(moves []PointMove) (out []web.Happening) {
	for _, m := range moves {
		out = append(out, pointLine(m))
	}
	return out
}

// signed is a number of points as it moves.
func signed(n int64) string {
	if n > 0 {
		return "+" + web.Number(n)
	}
	return web.Number(n)
}

// placesFor lists where a card is taken, gates and buses left out: they are
// everywhere.
func placesFor(gates []Gate, c Card) placeGroup {
	icon, _ := useOf(c)
	g := placeGroup{name: words.WhereWorks, icon: icon}
	for _, at := range gates {
		if c.Usable && !at.gate() && fits(c, at.At()) && len(couponsOf([]Card{c}, at)) == 1 {
			g.gates = append(g.gates, at)
		}
	}
	return g
}

// acts are the buttons of a card's page that need no more input.
var acts = map[string]OrderKind{"block": OrderBlock, "unblock": OrderUnblock, "return": OrderReturn, "default": OrderDefault}

func (p pages) act(w http.ResponseWriter, r *http.Request) error {
	kind, known := acts[r.PathValue("act")]
	if !known {
		return web.ErrNoPage
	}
	c, err := p.find(r, cmp.Or(r.PostFormValue("card"), r.PathValue("key")))
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

// pinView is the form that gives a bank card its PIN.
type pinView struct {
	card  Card
	wrong web.Text
	ref   string
}

func (p pages) pinForm(w http.ResponseWriter, r *http.Request) error {
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	if !c.TakesPIN() {
		return web.ErrNoPage
	}
	return p.showPIN(w, r, pinView{card: c, ref: p.Ref()})
}

func (p pages) showPIN(w http.ResponseWriter, r *http.Request, v pinView) error {
	return p.show(w, r, web.Page{Title: words.PINTitle, Lead: words.PINLead, Back: "/my/cards/" + v.card.Key(), Here: "/my/"}, pinPage(v))
}

// pin takes a PIN typed twice. It goes to the bank and is neither shown again
// nor kept here.
func (p pages) pin(w http.ResponseWriter, r *http.Request) error {
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	if !c.TakesPIN() {
		return web.ErrNoPage
	}
	one, two := r.PostFormValue("pin"), r.PostFormValue("again")
	v := pinView{card: c, ref: cmp.Or(r.PostFormValue("ref"), p.Ref())}
	if one != two || !digits(one, 4, 6) {
		v.wrong = wrongOf(ErrPIN)
		w.WriteHeader(http.StatusUnprocessableEntity)
		return p.showPIN(w, r, v)
	}
	id, err := p.Desk.SetPIN(r.Context(), who(r), v.ref, c.Number, one)
	if err != nil {
		return p.sorry(w, r, "/my/cards/"+c.Key()+"/pin", err)
	}
	if id == "" {
		return web.Redirect(w, r, "/my/cards/"+c.Key(), web.Toast{Tone: web.Good, Text: words.PINDone.In(r.Context())})
	}
	p.Street.Connect(r.Context(), who(r))
	return web.Redirect(w, r, "/my/orders/"+id, web.Toast{})
}

// digits tells whether s is from lo to hi decimal digits.
func digits(s string, lo, hi int) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) >= lo && len(s) <= hi
}

// useView is one payment, meal, passage or redemption.
type useView struct {
	use    Use
	card   Card
	have   bool
	talk   []web.Exchange // of the tap it came from, when that is known
	proofs []proofLine
}

func (p pages) use(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	if p.Uses == nil {
		return ErrNoUse
	}
	u, err := p.Uses.Use(ctx, me, r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("use: %w", err)
	}
	v := useView{use: u}
	if ref := r.FormValue("tap"); ref != "" {
		if t, err := p.Street.Tapped(ctx, me, ref); err == nil && t.Payment == u.ID { // older ones are forgotten
			if v.talk, v.proofs, err = p.told(ctx, t.Talk); err != nil {
				return err
			}
		}
	}
	cards, err := p.Desk.Cards(ctx, me)
	if err != nil {
		return fmt.Errorf("cards: %w", err)
	}
	back := "/my/"
	for _, c := range cards {
		if c.Number == u.Card {
			v.card, v.have, back = c, true, "/my/cards/"+c.Key()
		}
	}
	return p.show(w, r, web.Page{Title: u.Where, Back: back, Here: "/my/"}, usePage(v))
}

// useLine is a use in one line.
func useLine(u Use) web.Happening {
	h := web.Happening{At: u.At, What: u.Where, Href: "/my/uses/" + u.ID, Icon: useIcons[u.Kind], Tone: u.Tone}
	if u.Fen != 0 {
		h.Detail = web.SignedYuan(-u.Fen)
	}
	h.What = web.Text{ZH: joined(u.Where.ZH, u.What.ZH, u.State.ZH), EN: joined(u.Where.EN, u.What.EN, u.State.EN)}
	return h
}

func joined(parts ...string) (out string) {
	for _, s := range parts {
		if s != "" && out != "" {
			out += " · "
		}
		out += s
	}
	return out
}

var useIcons = map[UseKind]string{UsePayment: "receipt", UseMeal: "utensils", UsePassage: "door-open", UseRedemption: "ticket"}
