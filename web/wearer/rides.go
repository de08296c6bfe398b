package wearer

import (
	"fmt"
	"net/http"
	"time"

	"koala/web"
)

const tripsPerPage = 20

// tripsView is the list of rides.
type tripsView struct {
	list []web.Happening
	days []dayOfTrips
	next string
}

// dayOfTrips is the rides of one day under its date.
type dayOfTrips struct {
	day  time.Time
	fen  int64
	list []web.Happening
}

func (p pages) trips(w http.ResponseWriter, r *http.Request) error {
	at := web.PageOf(r, tripsPerPage)
	list, err := p.Trips.Trips(r.Context(), who(r), at.After, at.Limit)
	if err != nil {
		return fmt.Errorf("trips: %w", err)
	}
	var v tripsView
	for _, t := range list {
		h := tripLine(t)
		v.list = append(v.list, h)
		if n := len(v.days); n == 0 || web.Moment(v.days[n-1].day)[:10] != web.Moment(h.At)[:10] {
			v.days = append(v.days, dayOfTrips{day: h.At})
		}
		d := &v.days[len(v.days)-1]
		d.list, d.fen = append(d.list, h), d.fen+t.Fen
	}
	if len(list) > 0 {
		v.next = web.NextURL(r, len(list), at, list[len(list)-1].ID)
	}
	return p.show(w, r, web.Page{Title: words.Trips, Here: "/my/trips"}, tripsPage(v))
}

// tripLine is a ride in one line.
func tripLine(t Trip) web.Happening {
	h := web.Happening{Href: "/my/trips/" + t.ID, Tone: t.Tone, Icon: "train-front", What: between(t)}
	if t.Bus {
		h.Icon = "bus"
	}
	for _, at := range []*Place{t.Out, t.In} {
		if at != nil {
			h.At = at.At
			break
		}
	}
	if t.Fen != 0 {
		h.Detail = web.Yuan(-t.Fen)
	}
	return h
}

// between names a ride by its ends.
func between(t Trip) web.Text {
	name := func(at *Place) web.Text {
		if at == nil {
			return words.Unknown
		}
		return at.Name
	}
	switch {
	case t.Bus:
		return name(t.In)
	case t.Open:
		return web.Text{ZH: words.InsideSince.To(web.ZH, name(t.In).ZH), EN: words.InsideSince.To(web.EN, name(t.In).EN)}
	}
	return web.Text{ZH: name(t.In).ZH + " → " + name(t.Out).ZH, EN: name(t.In).EN + " → " + name(t.Out).EN}
}

// tripView is one ride with its price.
type tripView struct {
	trip    Trip
	lines   []web.Line
	network *web.Network
}

func (p pages) trip(w http.ResponseWriter, r *http.Request) error {
	t, err := p.Trips.Trip(r.Context(), who(r), r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("trip: %w", err)
	}
	v := tripView{trip: t, network: p.Network}
	for _, l := range t.Lines {
		v.lines = append(v.lines, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.SignedYuan(l.Fen)})
	}
	if len(v.lines) > 0 {
		v.lines = append(v.lines, web.Line{Text: words.Charged, Value: web.Yuan(t.Fen), Total: true})
	}
	return p.show(w, r, web.Page{Title: between(t), Back: "/my/trips", Here: "/my/trips"}, tripPage(v))
}

func (p pages) repair(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := p.Trips.Repair(r.Context(), who(r), id, r.PostFormValue("station")); err != nil {
		return p.sorry(w, r, "/my/trips/"+id, err)
	}
	return web.Redirect(w, r, "/my/trips/"+id, web.Toast{Tone: web.Good, Text: words.Repaired.In(r.Context())})
}
