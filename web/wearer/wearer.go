// Package wearer is "my band", the pages of the person who wears one: the
// cards in it, adding a card over the air, topping up, tapping a gate, trips
// with their fares explained, and for every act the bytes that made it happen.
//
// It asks for what it needs through three small interfaces: a [Desk] for cards,
// orders and money, [Trips] for rides, and the [Street] for what a hand does:
// holding the band to a gate. NewDesk is the desk over the house's domains;
// the street is simulated by app and says so on its pages.
package wearer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"koala/fare"
	"koala/internal/fail"
	"koala/issuing"
	"koala/spec/iso7816"
	"koala/web"
)

// Failures of these pages.
var (
	ErrNoCard  = fail.Define(fail.NotFound, "wearer.no_card", "there is no such card in your band")
	ErrNoOrder = fail.Define(fail.NotFound, "wearer.no_order", "you have no such order")
	ErrNoTrip  = fail.Define(fail.NotFound, "wearer.no_trip", "you have no such trip")
	ErrNoTap   = fail.Define(fail.NotFound, "wearer.no_tap", "this tap is no longer remembered; its trip is")
	ErrAmount  = fail.Define(fail.Invalid, "wearer.amount", "this is not an amount; write yuan like 50 or 12.50")
)

// A Wallet is a person's money in the house.
type Wallet struct {
	Fen, HeldFen int64 // available; waiting in top-ups
	BankFen      int64 // in the simulated bank account
	Lines        []WalletLine
}

// A WalletLine is one line of the wallet's statement.
type WalletLine struct {
	At    time.Time
	What  web.Text
	Fen   int64 // + in, − out
	After int64
}

// A Card is one card of the band as its owner sees it.
type Card struct {
	Number       issuing.CardID
	Kind         web.CardKind
	Name, Issuer web.Text
	Fen          int64     // what the card last proved it holds
	Seen         time.Time // when it did
	State        web.Text
	Tone         web.Tone
	Usable       bool // taps and loads
	Blocked      bool
	MinLoadFen   int64
	MaxLoadFen   int64
	MaxFen       int64 // the card may hold
	DepositFen   int64
	To           time.Time // valid until
}

// Key names a card in addresses: the full number never stands in a URL or a log.
func (c Card) Key() string {
	sum := sha256.Sum256([]byte(c.Number))
	return hex.EncodeToString(sum[:5])
}

// A Product is a card one can add.
type Product struct {
	Code         string
	Kind         web.CardKind
	Name, Issuer web.Text
	DepositFen   int64
	MaxFen       int64
	Have         bool // already in the band
}

// An OrderKind is what an order does to a card.
type OrderKind string

// The orders people see.
const (
	OrderIssue   OrderKind = "issue"
	OrderTopUp   OrderKind = "topup"
	OrderBlock   OrderKind = "block"
	OrderUnblock OrderKind = "unblock"
	OrderReturn  OrderKind = "delete"
	OrderAdopt   OrderKind = "adopt"
)

// An Order is work on the band over the air, with how far it is.
type Order struct {
	ID         string
	Kind       OrderKind
	Card       issuing.CardID
	Name       web.Text // what it does
	Fen        int64    // of a top-up
	State      web.Text
	Tone       web.Tone
	Why        web.Text // may be empty
	Over, Good bool
	Unsure     bool // the line was cut where it matters: verify
	MayCancel  bool
	Steps      []web.Step
	At         time.Time
	Changed    time.Time
	Talk       []Exchange // only from Order
}

// An Exchange is a command and its answer. Answer is nil when the link broke.
type Exchange struct {
	Command []byte // secrets masked
	Answer  []byte
	Air     time.Duration // modelled; 0 when unknown
	Told    *iso7816.Explanation
}

// A Desk is cards, orders and money of one person; who is a customer id, and
// every answer is about that person only.
type Desk interface {
	Wallet(ctx context.Context, who string) (Wallet, error)
	Fund(ctx context.Context, who, ref string, fen int64) error
	Cards(ctx context.Context, who string) ([]Card, error) // newest last
	Products(ctx context.Context, who string) ([]Product, error)
	Apply(ctx context.Context, who, ref, product string) (order string, err error)
	TopUp(ctx context.Context, who, ref string, card issuing.CardID, fen int64) (order string, err error)
	Act(ctx context.Context, who, ref string, card issuing.CardID, kind OrderKind) (order string, err error)
	Orders(ctx context.Context, who string, card issuing.CardID, limit int) ([]Order, error) // newest first; no card: all
	Order(ctx context.Context, who, id string) (Order, error)
	Cancel(ctx context.Context, who, id string) error
	Verify(ctx context.Context, who, id string) error
}

// A Place is where one entered, left or tapped.
type Place struct {
	Station string // network station id; empty on buses
	Name    web.Text
	At      time.Time
}

// A Trip is one ride.
type Trip struct {
	ID       string
	Card     issuing.CardID
	In, Out  *Place // nil: missing
	Bus      bool
	State    web.Text
	Tone     web.Tone
	Open     bool // still inside
	Missing  bool // a tap is missing and may be repaired by its rider
	Fen      int64
	Metres   int64
	Lines    []fare.Line
	Route    []string // station ids
	Trace    []web.Happening
	Postings []Posting
}

// A Posting is one ledger entry a trip made.
type Posting struct {
	Ref      string
	From, To web.Text
	Fen      int64
	At       time.Time
}

// Trips is the rides of one person.
type Trips interface {
	Trips(ctx context.Context, who, after string, limit int) ([]Trip, error) // newest first
	Trip(ctx context.Context, who, id string) (Trip, error)
	Repair(ctx context.Context, who, id, station string) error
}

// A ReaderKind is what stands at a place to hold the band to.
type ReaderKind string

// The readers of the street. The empty kind is a gate, or a bus by Gate.Bus.
const (
	ReaderGate    ReaderKind = "gate"
	ReaderBus     ReaderKind = "bus"
	ReaderTill    ReaderKind = "till"
	ReaderCanteen ReaderKind = "canteen"
	ReaderDoor    ReaderKind = "door"
	ReaderCoupon  ReaderKind = "coupon" // a shop's coupon desk
)

// A Gate is a place to hold the band to.
type Gate struct {
	ID      string
	Station string // network station id; empty on buses
	Name    web.Text
	Bus     bool
	Kind    ReaderKind
	Shop    web.Text // whose till, canteen or coupon desk it is
	Note    web.Text // what its sign says: hours of a door, contact only
	MaxFen  int64    // a till takes at most this at once; 0: no bound of its own
	Dishes  []Dish   // a canteen's menu of the hour
}

// At is what stands there, whichever way the place says it.
func (g Gate) At() ReaderKind {
	switch {
	case g.Kind != "":
		return g.Kind
	case g.Bus:
		return ReaderBus
	default:
		return ReaderGate
	}
}

// A Dish is one line of a canteen's menu.
type Dish struct {
	No   byte
	Name web.Text
	Fen  int64
}

// A BandView is the band on the wrist.
type BandView struct {
	ID        string
	Battery   int // percent
	Worn      bool
	Fen       map[issuing.CardID]int64 // balances read from the element itself
	Protected bool                     // a passcode is set
	Locked    bool                     // and not entered since the band was put on
	Waits     time.Time                // after wrong passcodes no try before this; zero: now
	Policy    Policy
	Firmware  uint32 // version that runs
	Trial     bool   // a new version that may still be rolled back
	Steps     int64  // today
}

// A Policy says what a locked band may still do.
type Policy struct{ Ride, Enter, Pay, Offer bool }

// A TapAct is what a hand does at a gate.
type TapAct struct {
	Ref     string // names the act: the same again is the same tap
	Gate    string
	Card    issuing.CardID // the card chosen by hand; empty at a till: the default payment card
	Pull    int            // the band leaves the field in the n-th command; 0: it stays
	Fen     int64          // what the till was told to take
	Dishes  []byte         // numbers of the menu
	Contact bool           // inserted, not tapped
	PIN     string         // typed at the till; never kept, never logged
	Coupon  string         // offer number to redeem
}

// A TapResult is how a tap ended.
type TapResult struct {
	Ref, Gate          string
	Reader             ReaderKind
	Card               issuing.CardID // the one that answered; empty: none did
	Place              web.Text
	Station            string
	At                 time.Time
	Kind               TapKind
	Reason             web.Text // words of the gate's display
	Fen                int64    // charged now
	BalanceFen         int64
	Total              time.Duration // modelled, first bit to doors
	Parts              []TapPart     // what the time went into
	Talk               []Exchange
	Trip               string   // id, may be empty until the gate's batch is in
	Payment            string   // id for its page, empty until handed in
	Receipt, ReceiptZH []string // lines of the slip, as the till prints them
}

// A TapKind is how a tap ended.
type TapKind string

// The ends of a tap.
const (
	TapIn       TapKind = "in"
	TapOut      TapKind = "out"
	TapBus      TapKind = "bus"
	TapPaid     TapKind = "paid"     // approved offline by the card
	TapOnline   TapKind = "online"   // approved by the issuer
	TapServed   TapKind = "served"   // canteen
	TapOpened   TapKind = "opened"   // door
	TapRedeemed TapKind = "redeemed" // coupon
	TapReturned TapKind = "returned" // money back to the card
	TapRefused  TapKind = "refused"
	TapTorn     TapKind = "torn" // the band left too early
)

// A TapPart is one share of a tap's modelled time.
type TapPart struct {
	Name web.Text
	Took time.Duration
}

// A Street is what a body does in the city, simulated: where the band is, the
// gates, the phone beside it that carries scripts. Events for a person's pages
// go out on the hub topic "my:ID": "order.changed", "card.changed",
// "trip.changed", "wallet.changed", "payment.changed", "band.changed".
type Street interface {
	Band(ctx context.Context, who string) (BandView, error)
	Gates(ctx context.Context) ([]Gate, error)
	Tap(ctx context.Context, who string, a TapAct) error
	Tapped(ctx context.Context, who, ref string) (TapResult, error) // the last ones are remembered
	// Connect lets the band's agent fetch and run what waits for it, soon and
	// in the background.
	Connect(ctx context.Context, who string)
}

// Wrist is what a hand does to the band itself, simulated by the city. A house
// without a city has none, and its pages leave the buttons out.
type Wrist interface {
	Wear(ctx context.Context, who string, on bool) error
	Unlock(ctx context.Context, who, code string) error
	// SetPasscode sets the first passcode (old empty), changes it, or removes
	// it (code empty).
	SetPasscode(ctx context.Context, who, old, code string) error
	SetPolicy(ctx context.Context, who string, p Policy) error
	Lose(ctx context.Context, who string) error                       // the band lies in a taxi now
	NewBand(ctx context.Context, who string) (band string, err error) // one bought at a kiosk, adopted by the house
	Found(ctx context.Context, who string) error                      // the lost one came back
}

// Deps is what the pages are made of.
type Deps struct {
	Kit     *web.Kit
	Desk    Desk
	Trips   Trips
	Street  Street
	Wrist   Wrist // nil: a house without a city
	Network *web.Network
	Ref     func() string    // a fresh reference for a form, unguessable enough not to collide
	Now     func() time.Time // the house's clock
}

// pages is the handler's receiver.
type pages struct{ Deps }

// New gives the handler of "/my/".
func New(d Deps) http.Handler {
	p := pages{d}
	m := d.Kit.Mux(web.Person)
	m.Handle("GET /my", func(w http.ResponseWriter, r *http.Request) error {
		return web.Redirect(w, r, "/my/", web.Toast{})
	})
	m.Handle("GET /my/{$}", p.band)
	m.Handle("GET /my/cards/{key}", p.card)
	m.Handle("POST /my/cards/{key}/{act}", p.act)
	m.Handle("GET /my/cards/{key}/topup", p.topUpForm)
	m.Handle("POST /my/cards/{key}/topup", p.topUp)
	m.Handle("GET /my/add", p.catalogue)
	m.Handle("POST /my/add", p.add)
	m.Handle("GET /my/orders/{id}", p.order)
	m.Handle("POST /my/orders/{id}/cancel", p.cancel)
	m.Handle("POST /my/orders/{id}/verify", p.verify)
	m.Handle("GET /my/wallet", p.wallet)
	m.Handle("POST /my/wallet/fund", p.fund)
	m.Handle("GET /my/tap", p.tapForm)
	m.Handle("POST /my/tap", p.tap)
	m.Handle("GET /my/taps/{ref}", p.tapped)
	m.Handle("GET /my/trips", p.trips)
	m.Handle("GET /my/trips/{id}", p.trip)
	m.Handle("POST /my/trips/{id}/repair", p.repair)
	return m
}

// nav is the bar at the thumb.
var nav = []web.NavItem{
	{Href: "/my/", Name: words.Band, Icon: "watch"},
	{Href: "/my/tap", Name: words.Tap, Icon: "nfc"},
	{Href: "/my/trips", Name: words.Trips, Icon: "route"},
	{Href: "/my/wallet", Name: words.Wallet, Icon: "wallet"},
}

// show renders a page of the phone.
func (p pages) show(w http.ResponseWriter, r *http.Request, page web.Page, body component) error {
	page.Nav, page.Phone, page.Topics = nav, true, []string{"my:" + who(r)}
	return p.Kit.Page(w, r, page, body)
}

// who is the customer a request speaks for: the session's, never the form's.
func who(r *http.Request) string {
	u, _ := web.Who(r.Context())
	return u.Subject
}

// find gives the person's card with a key.
func (p pages) find(r *http.Request, key string) (Card, error) {
	cards, err := p.Desk.Cards(r.Context(), who(r))
	if err != nil {
		return Card{}, fmt.Errorf("cards of %s: %w", who(r), err)
	}
	for _, c := range cards {
		if c.Key() == key {
			return c, nil
		}
	}
	return Card{}, fmt.Errorf("card %q: %w", key, ErrNoCard)
}
