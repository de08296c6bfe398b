package wearer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"koala/fare"
	"koala/issuing"
	"koala/spec/iso7816"
	"koala/web"
)

// A Wallet is a person's money in the house.
type Wallet struct {
	Fen, HeldFen int64 // available; waiting in top-ups
	BankFen      int64 // in the simulated bank account
	Lines        []WalletLine
}

// A PayCode pays once out of the wallet, until a moment.
type PayCode struct {
	Digits string
	Until  time.Time
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
	For          issuing.Kind
	Kind         web.CardKind
	Tail         string // last digits of its number; empty where it has none
	Name, Issuer web.Text
	Fen          int64     // what the card last proved it holds
	BookFen      int64     // what the books hold for it
	Seen         time.Time // when it did
	State        web.Text
	Tone         web.Tone
	Usable       bool // taps and loads
	Blocked      bool
	Lost         bool // suspended: its holder reported the band lost
	Default      bool // the payment card readers get first
	Loads        bool // money goes onto it over the air
	MinLoadFen   int64
	MaxLoadFen   int64
	MaxFen       int64 // the card may hold
	DepositFen   int64
	To           time.Time // valid until
	Space        int       // bytes of the element it takes
	Limits       []web.Fact
	OnceFen      int64 // one offline payment at most; 0: the card has no such limit
	OnceMaxFen   int64 // and what its holder may raise it to
	OwesFen      int64 // of a credit card
	CreditFen    int64 // and what it may owe
	Coupon       *Coupon
	Doors        web.Text // where a door card opens
	Was          web.Text // what it carried over from the card it replaced; empty: nothing
}

// Pays tells whether a card pays at tills.
func (c Card) Pays() bool { return c.For.Bank() }

// TakesPIN tells whether its holder may set a PIN for it.
func (c Card) TakesPIN() bool { return c.For == issuing.Debit || c.For == issuing.Credit }

// Worth tells whether the card itself holds money.
func (c Card) Worth() bool { return c.For == issuing.Transit || c.For.Money() && c.Loads }

// Key names a card in addresses: the full number never stands in a URL or a log.
func (c Card) Key() string {
	sum := sha256.Sum256([]byte(c.Number))
	return hex.EncodeToString(sum[:5])
}

// Points are what a card's payments have earned and sales for points have cost.
type Points struct {
	Left     int64 // below zero when what earned them went back after they were spent
	WorthFen int64 // what they pay at a till today
	PerYuan  int64 // points that a whole yuan earns today
	Moves    []PointMove
}

// A PointMove is a payment that earned, or a sale that was paid with points.
type PointMove struct {
	At     time.Time
	Points int64    // + earned, − spent; 0: all of them came back
	Where  web.Text // the shop as the statement has it, or the reference number of a sale for points
	Spent  bool
}

// A Coupon is what a discount card gives, and how often still.
type Coupon struct {
	Gives    web.Text
	Merchant web.Text
	Uses     int // at issue
	Left     int
}

// A Product is a card one can add.
type Product struct {
	Code         string
	For          issuing.Kind
	Kind         web.CardKind
	Name, Issuer web.Text
	DepositFen   int64
	MaxFen       int64
	Space        int      // bytes of the element
	Have         bool     // already in the band
	Instead      web.Text // the card in the band that answers under the same name, so that this one cannot; empty: none
	Firm         bool     // from a firm on the platform, not the house
	Note         web.Text
}

// Offered tells whether the product can be added.
func (p Product) Offered() bool { return !p.Have && p.Instead.Empty() }

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
	OrderDefault OrderKind = "default"
	OrderUpdate  OrderKind = "update"
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
	Firm       web.Text   // the firm that asked for it; empty: its holder; only from Order
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
	// PayCode makes a code for the next payment at a till.
	PayCode(ctx context.Context, who string) (PayCode, error)
	Cards(ctx context.Context, who string) ([]Card, error) // newest last
	Products(ctx context.Context, who string) ([]Product, error)
	Apply(ctx context.Context, who, ref, product string) (order string, err error)
	TopUp(ctx context.Context, who, ref string, card issuing.CardID, fen int64) (order string, err error)
	Act(ctx context.Context, who, ref string, card issuing.CardID, kind OrderKind) (order string, err error)
	// SetPIN gives a bank card its PIN: at the bank at once, in the element by
	// the order when there is one.
	SetPIN(ctx context.Context, who, ref string, card issuing.CardID, pin string) (order string, err error)
	// SetLimit changes what one offline payment may be, downwards or back up.
	SetLimit(ctx context.Context, who, ref string, card issuing.CardID, fen int64) (order string, err error)
	Orders(ctx context.Context, who string, card issuing.CardID, limit int) ([]Order, error) // newest first; no card: all
	Order(ctx context.Context, who, id string) (Order, error)
	// Repay pays a credit card's bill out of the wallet.
	Repay(ctx context.Context, who, ref string, card issuing.CardID, fen int64) error
	// Points are those of a debit or credit card, with its last movements.
	Points(ctx context.Context, who string, card issuing.CardID, limit int) (Points, error)
	Cancel(ctx context.Context, who, id string) error
	Verify(ctx context.Context, who, id string) error
	// Room is how the element's memory is shared out.
	Room(ctx context.Context, who string) (Room, error)
}

// Room is the element's memory by issuer.
type Room struct {
	Size    int // bytes the element has for cards
	Free    int // of them, as the element itself says; 0: it was not asked
	Issuers []RoomOf
}

// Used adds up what cards take.
func (r Room) Used() (n int) {
	for _, i := range r.Issuers {
		n += i.Used
	}
	return n
}

// RoomOf is one issuer's part.
type RoomOf struct {
	Issuer web.Text
	Used   int // bytes
	Cards  int
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

// A Posting is one ledger entry a trip or a payment made.
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

// A UseKind is what a card did at a reader that is no gate.
type UseKind string

// The uses.
const (
	UsePayment    UseKind = "payment"
	UseMeal       UseKind = "meal"
	UsePassage    UseKind = "passage"
	UseRedemption UseKind = "redemption"
)

// A Use is one act of a card at a till, a canteen, a door or a coupon desk, as
// the house learnt of it from the reader's batch.
type Use struct {
	ID       string
	Kind     UseKind
	Card     issuing.CardID
	At       time.Time // by the reader's clock
	Where    web.Text
	What     web.Text // one line more: dishes, what a coupon gave; may be empty
	Fen      int64    // out of the card; negative: back to it
	State    web.Text
	Tone     web.Tone
	Waiting  bool // not cleared yet
	Facts    []web.Fact
	Message  []web.Fact // the fields as handed in, number masked; only from Use
	Trace    []web.Happening
	Postings []Posting
}

// Uses is what the cards of one person did at readers that are no gates.
type Uses interface {
	// Uses lists them newest first; no card: all cards.
	Uses(ctx context.Context, who string, card issuing.CardID, limit int) ([]Use, error)
	Use(ctx context.Context, who, id string) (Use, error)
}

// A Loss is a band that was reported lost.
type Loss struct {
	Band  string
	At    time.Time
	Cards []LostCard
	Rule  web.Text // when claims are paid, with its source
	Next  string   // the band its cards move to; empty: none yet
	// Money is set when all cards have arrived and only what was on them is still
	// to come: by then it may.
	Money time.Time
}

// A LostCard is one card of a lost band and what becomes of it.
type LostCard struct {
	Card    Card
	Claim   web.Text // state of the claim for its money
	Tone    web.Tone
	Due     time.Time // the money is paid from then on; zero: the card holds none
	Fen     int64     // proven last, or paid
	Mine    bool      // may be claimed to the wallet now
	New     *Card     // the card in its place
	Order   *Order    // that writes it
	Carried []web.Fact
}

// Losses is what happens when a band is lost.
type Losses interface {
	Loss(ctx context.Context, who string) (loss Loss, lost bool, err error)
	Report(ctx context.Context, who string) error
	Withdraw(ctx context.Context, who string) error
	// Move orders every card of the lost band anew for band.
	Move(ctx context.Context, who, ref, band string) error
	// Claim pays a due card's money to the wallet.
	Claim(ctx context.Context, who string, card issuing.CardID) error
}

// A Firm is a partner of the house that may ask to write a card into a band.
type Firm struct {
	Code        string
	Name        web.Text
	Used, Space int // bytes of the band that its cards take, and may take
}

// A Consent is a person's word that a firm may write one card into the band.
// Its code is shown once and kept nowhere.
type Consent struct {
	ID, Band string
	Firm     web.Text // whom it is for; empty: any
	Made     time.Time
	Left     time.Duration // to live, by the clock of people
	Lives    bool
	State    web.Text
	Tone     web.Tone
	By       web.Text // the firm that used it; empty: none did
	Order    string   // that it was used for
}

// Firms is the leave that a person gives to firms.
type Firms interface {
	Firms(ctx context.Context, who string) ([]Firm, error)
	Consents(ctx context.Context, who string) ([]Consent, error) // newest first
	// Agree makes a code for a firm, or for any when firm is empty.
	Agree(ctx context.Context, who, ref, firm string) (c Consent, code string, err error)
	TakeBack(ctx context.Context, who, id string) error
}

// A Day is how one moved and slept.
type Day struct {
	Start  time.Time
	Steps  int64
	Asleep int64 // minutes
}

// Body is steps and sleep, for their owner's page only.
type Body interface {
	Days(ctx context.Context, who string, n int) ([]Day, error) // oldest first
	Forget(ctx context.Context, who string) error
}
