package wearer

import (
	"context"
	"time"

	"koala/issuing"
	"koala/web"
)

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
	ReaderPhone   ReaderKind = "phone"  // a shop's phone with a card reader
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
	Online  bool     // it asks the switch where that is needed, and reads stripes
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

// gate tells whether it is a gate or a bus.
func (g Gate) gate() bool { return g.At() == ReaderGate || g.At() == ReaderBus }

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
	Firmware  uint32   // version that runs
	Trial     bool     // a new version that may still be rolled back
	Steps     int64    // today
	Phones    []string // names of the phones it is paired with
	Size      int      // bytes of the element for cards; 0: not known
	Free      int      // and of them free
}

// A Policy says what a locked band may still do.
type Policy struct{ Ride, Enter, Pay, Offer bool }

// A TapAct is what a hand does at a gate.
type TapAct struct {
	Ref     string // names the act: the same again is the same tap
	Gate    string
	Card    issuing.CardID // the card on the display
	Pull    int            // the band leaves the field in the n-th command; 0: it stays
	Fen     int64          // what the till was told to take
	Dishes  []byte         // numbers of the menu
	Contact bool           // inserted, not tapped
	PIN     string         // typed at the till; never kept, never logged
	Coupon  string         // offer number to redeem
	Swipe   bool           // a card of another bank (simulated) is swiped instead
	Scan    bool           // a payment code of the wallet is shown instead
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
	Unsigned           bool     // the slip waits for the cardholder's signature
	Signature          []byte   // picture on the slip, PNG; nil: none
	Messages           []Message
}

// A Message is one line of the switch's log about a sale.
type Message struct {
	At   time.Time
	Way  string // terminal: a message and its answer; note; an issuer's host and > (asked) or < (answered)
	MTI  string
	Note string // the answer's code, or what was wrong
}

// A TapKind is how a tap ended.
type TapKind string

// The ends of a tap.
const (
	TapIn       TapKind = "in"
	TapOut      TapKind = "out"
	TapBus      TapKind = "bus"
	TapPaid     TapKind = "paid"     // approved offline by the card, or by the wallet
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
	// Sign puts the picture of a signature, PNG, onto the slip of a sale that waits
	// for one. Again it changes nothing.
	Sign(ctx context.Context, who, ref string, picture []byte) error
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
