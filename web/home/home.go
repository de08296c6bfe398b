// Package home is the start page: the city at work on its map, what it has
// done so far, its last acts with the way to each one's trace, and the doors
// to the consoles. It knows the city only through [City].
package home

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/web"
)

// ErrSpeed is a speed that is not offered.
var ErrSpeed = fail.Define(fail.Invalid, "home.speed", "the city does not run at that speed")

// Speeds are city seconds per real second; 0 stands still.
var Speeds = []int{0, 1, 10, 60, 300}

const recentActs = 7 // shown in the feed

// A City is the running city as the start page sees it. Live news comes over
// the hub on topic "city": "tap" {station, kind in|out|bus}, "train" {id, line,
// from, to, ms}, "figures" with the names of [Totals.Figures], and "act" {}
// when [City.Recent] has changed.
type City interface {
	Totals(ctx context.Context) (Totals, error)
	Recent(ctx context.Context, limit int) ([]Act, error) // newest first
	Time() (now time.Time, speed int)                     // the city's clock
	SetSpeed(ctx context.Context, speed int) error
}

// Totals is what the city has done since its books were opened.
type Totals struct {
	Taps, TopUps, Cards int64
	Riding              int64 // people inside the network now
	MovedFen, FareFen   int64 // money moved in all; fares alone
	Entries             int64 // entries in the books
	Balanced            bool  // every currency sums to zero
	SparkTaps           []int64
	SparkMoved          []int64
}

// Figures is the body of the live event "figures".
func (t Totals) Figures() map[string]int64 {
	return map[string]int64{"taps": t.Taps, "topups": t.TopUps, "cards": t.Cards, "riding": t.Riding,
		"moved": t.MovedFen, "fares": t.FareFen, "entries": t.Entries}
}

// Kind is what an act was.
type Kind string

// The acts the feed can tell.
const (
	TapIn  Kind = "tap.in"
	TapOut Kind = "tap.out"
	Bus    Kind = "bus"
	TopUp  Kind = "topup"
	Issue  Kind = "issue"
	Block  Kind = "block"
	Repair Kind = "repair"
	Settle Kind = "settle"
	Torn   Kind = "torn"
	Sale   Kind = "sale"
	Swiped Kind = "swiped" // a card without its chip
	Meal   Kind = "meal"
	Door   Kind = "door"
	Coupon Kind = "coupon"
)

// An Act is one thing that happened, with the page of its trace.
type Act struct {
	At      time.Time
	Kind    Kind
	Who     string   // a first name or a card's tail; never a full number
	Station string   // station id, for taps
	Shop    web.Text // whose device it was, where it was not a station's
	Fen     int64
	Trace   string // path of a page in this house; may be empty
}

// Deps is what the page is made of. City and Network may be nil in a house
// without a simulated city.
type Deps struct {
	Kit     *web.Kit
	City    City
	Network *web.Network
	Keys    Keys
	Store   *db.Store
	Slips   Slips
}

// New gives the handler of "/".
func New(d Deps) http.Handler {
	m := d.Kit.Mux(web.Public)
	m.Handle("GET /{$}", d.start)
	m.Handle("GET /feed", d.feed)
	m.Handle("POST /speed", d.setSpeed)
	d.keyPages(m)
	d.slipPages(m)
	return m
}

// view is what the page shows.
type view struct {
	network *web.Network
	city    bool
	totals  Totals
	feed    feedView
	doors   []web.DoorWithLogins
}

type feedView struct {
	now   time.Time
	speed int
	acts  []web.Happening
}

func (d Deps) start(w http.ResponseWriter, r *http.Request) error {
	v := view{network: d.Network, doors: d.Kit.Doors(), city: d.City != nil}
	p := web.Page{Title: words.Title, Plain: true}
	if d.City != nil {
		p.Topics = []string{"city"}
		var err error
		if v.totals, err = d.City.Totals(r.Context()); err != nil {
			return fmt.Errorf("city totals: %w", err)
		}
		if v.feed, err = d.readFeed(r.Context()); err != nil {
			return err
		}
	}
	return d.Kit.Page(w, r, p, startPage(v))
}

func (d Deps) feed(w http.ResponseWriter, r *http.Request) error {
	if d.City == nil {
		return web.ErrNoPage
	}
	f, err := d.readFeed(r.Context())
	if err != nil {
		return err
	}
	return d.Kit.Part(w, r, feedPart(f))
}

func (d Deps) readFeed(ctx context.Context) (feedView, error) {
	acts, err := d.City.Recent(ctx, recentActs)
	if err != nil {
		return feedView{}, fmt.Errorf("last acts: %w", err)
	}
	var f feedView
	f.now, f.speed = d.City.Time()
	for _, a := range acts {
		f.acts = append(f.acts, d.tell(a))
	}
	return f, nil
}

func (d Deps) setSpeed(w http.ResponseWriter, r *http.Request) error {
	speed, err := strconv.Atoi(r.PostFormValue("to"))
	if d.City == nil || err != nil || !offered(speed) {
		return fmt.Errorf("speed: %w", ErrSpeed)
	}
	if err := d.City.SetSpeed(r.Context(), speed); err != nil {
		return fmt.Errorf("speed %d: %w", speed, err)
	}
	return web.Redirect(w, r, "/", web.Toast{})
}

func offered(speed int) bool {
	for _, s := range Speeds {
		if s == speed {
			return true
		}
	}
	return false
}

// tell puts an act into words.
func (d Deps) tell(a Act) web.Happening {
	place := web.Same(a.Station)
	if d.Network != nil {
		if s, ok := d.Network.Station(a.Station); ok {
			place = s.Name
		}
	}
	if a.Shop != (web.Text{}) {
		place = a.Shop
	}
	how := map[Kind]struct {
		text web.Text
		tone web.Tone
		icon string
	}{
		TapIn:  {words.DidTapIn, web.Neutral, "arrow-down-left"},
		TapOut: {words.DidTapOut, web.Good, "arrow-up-right"},
		Bus:    {words.DidBus, web.Neutral, "bus"},
		TopUp:  {words.DidTopUp, web.Info, "wallet"},
		Issue:  {words.DidIssue, web.Info, "credit-card"},
		Block:  {words.DidBlock, web.Warn, "lock"},
		Repair: {words.DidRepair, web.Warn, "wrench"},
		Settle: {words.DidSettle, web.Good, "scale"},
		Torn:   {words.DidTear, web.Warn, "wifi-off"},
		Sale:   {words.DidPay, web.Good, "store"},
		Swiped: {words.DidSwipe, web.Good, "credit-card"},
		Meal:   {words.DidEat, web.Good, "utensils"},
		Door:   {words.DidEnter, web.Neutral, "door-open"},
		Coupon: {words.DidRedeem, web.Info, "ticket"},
	}[a.Kind]
	h := web.Happening{At: a.At, Tone: how.tone, Icon: how.icon, Href: a.Trace,
		What: web.Text{
			ZH: how.text.To(web.ZH, a.Who, place.ZH),
			EN: how.text.To(web.EN, a.Who, place.EN),
		}}
	if a.Fen != 0 {
		h.Detail = web.Yuan(a.Fen)
	}
	return h
}
