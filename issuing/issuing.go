// Package issuing keeps the cards the house has issued: products with their
// dated rules, number ranges, and for every card who holds it, in which band
// it lives, in what state it is and what its element last proved about itself.
//
// Start with Open, which makes a card on paper: number, float account, deposit.
// The over-the-air side (package tsm) then writes it into an element and calls
// Activate, Block, Unblock and Close as the element proves each step. A card's
// money stands on its float account in the ledger: what was loaded less what
// was spent and booked.
package issuing

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
	"koala/spec/coupon"
	"koala/spec/globalplatform"
	"koala/spec/purse"
)

// State is where a card is in its life.
type State string

// The states, and who acts next.
const (
	Ordered       State = "ordered"       // the band: ask for the script that writes the card
	Personalising State = "personalising" // the band and tsm: finish the script
	Active        State = "active"        // the wearer: tap, load, block, give back
	Blocked       State = "blocked"       // the wearer or staff: unblock or give back
	Closing       State = "closing"       // the band and tsm: prove the balance, delete the instance
	Closed        State = "closed"        // nobody: refunded, number never used again
	Abandoned     State = "abandoned"     // nobody: never came to life, deposit returned, number never used again
	Replaced      State = "replaced"      // nobody: lost, its money and history went to another card, number denied for ever
)

// next lists the allowed transitions.
var next = map[State][]State{
	Ordered:       {Personalising, Abandoned},
	Personalising: {Active, Abandoned},
	Active:        {Blocked, Closing, Replaced},
	Blocked:       {Active, Closing, Replaced},
	Closing:       {Closed, Active, Blocked},
	Closed:        {},
	Abandoned:     {},
	Replaced:      {},
}

// May tells whether a card in state s may go to state to.
func (s State) May(to State) bool {
	for _, t := range next[s] {
		if t == to {
			return true
		}
	}
	return false
}

// Over tells whether nothing can happen to the card any more.
func (s State) Over() bool { return s == Closed || s == Abandoned || s == Replaced }

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string {
	w, ok := stateWords[s]
	switch {
	case !ok:
		return string(s)
	case zh:
		return w[1]
	}
	return w[0]
}

var stateWords = map[State][2]string{
	Ordered: {"ordered", "已申请"}, Personalising: {"being written", "写卡中"}, Active: {"ready", "可用"},
	Blocked: {"blocked", "已锁定"}, Closing: {"being returned", "退卡中"}, Closed: {"returned", "已退卡"},
	Abandoned: {"not issued", "未发成"}, Replaced: {"replaced", "已换卡"},
}

// A CardID names one issued card of any kind. A transit purse is named by its
// 20-digit card number, as gates and its operator know it; every other card by
// a token, card_…, because its own number (PAN, UID) is a secret or no name.
type CardID string

// IDOf is the name of a transit purse.
func IDOf(n purse.Number) CardID { return CardID(n) }

// Purse is the 20-digit number of a transit purse, empty for other cards.
func (id CardID) Purse() purse.Number {
	if n, err := purse.ParseNumber(string(id)); err == nil {
		return n
	}
	return ""
}

// Masked shows a card in messages and logs: of a purse's printed number the
// first six and last four digits, of a token its last four characters.
func (id CardID) Masked() string {
	s := string(id)
	if n := id.Purse(); n != "" {
		s = n.Printed()
	}
	switch {
	case len(s) < 12:
		return "****"
	case id.Purse() == "":
		return "****" + s[len(s)-4:]
	}
	return s[:6] + "****" + s[len(s)-4:]
}

// Kind is what a card is for. It decides how its element is personalised and
// which rules of money it follows.
type Kind string

// The kinds.
const (
	Transit Kind = "transit" // T-Union purse (JT/T 978)
	ECash   Kind = "ecash"   // e-cash alone (JR/T 0025.13)
	Debit   Kind = "debit"   // debit card with e-cash (JR/T 0025.5, .12)
	Credit  Kind = "credit"  // credit card
	Canteen Kind = "canteen" // DESFire value file
	Door    Kind = "door"    // DESFire access file
	Coupon  Kind = "coupon"  // discount card
)

// Bank tells whether cards of the kind have a PAN and EMV keys.
func (k Kind) Bank() bool { return k == ECash || k == Debit || k == Credit }

// Money tells whether cards of the kind hold money, which stands on a float.
func (k Kind) Money() bool { return k == Transit || k.Bank() || k == Canteen }

// Shared tells whether cards of the kind live together in one instance of the
// element: applications of a DESFire card, coupons of a discount card.
func (k Kind) Shared() bool { return k == Canteen || k == Door || k == Coupon }

// Words says the kind for people, in Chinese if zh.
func (k Kind) Words(zh bool) string {
	w, ok := kindWords[k]
	switch {
	case !ok:
		return string(k)
	case zh:
		return w[1]
	}
	return w[0]
}

var kindWords = map[Kind][2]string{
	Transit: {"transit card", "交通卡"}, ECash: {"e-cash card", "电子现金卡"}, Debit: {"debit card", "借记卡"},
	Credit: {"credit card", "信用卡"}, Canteen: {"canteen card", "饭卡"}, Door: {"door card", "门禁卡"},
	Coupon: {"discount card", "优惠卡"},
}

// A Card is one issued card.
type Card struct {
	ID       CardID
	Kind     Kind
	Tail     string // last four digits of its number, for pages
	Customer customer.ID
	Band     string // the band or device whose element holds it
	Product  string // Product.Code
	Instance []byte // AID of the instance in the element
	State    State
	Before   State        // what a card in Closing goes back to when the return is given up
	Deposit  money.Amount // held on the deposit account, given back at the end
	From, To time.Time    // validity, as file 15 says
	Opened   time.Time
	Changed  time.Time
	Known    Counters
	Why      string // why it was blocked or closed, for pages
	// Suspended is since when the house refuses the card everywhere, whatever
	// its element says; zero: it does not.
	Suspended time.Time
	Replaces  CardID // the card it was made in place of
	Carry     Carry
}

// Counters are what an element said about a card, and when. Sequences count
// up, so of two observations the one with the higher ones is the later.
type Counters struct {
	Balance money.Amount // on the card
	Online  int          // next load sequence; -1 not known
	Offline int          // next purchase sequence; -1 not known
	At      time.Time    // when it was seen; zero: never
	By      string       // reference of the order or debit that proved it
}

// A Product is one kind of card as sold in a span of time.
type Product struct {
	Code           string
	Kind           Kind
	Template       string    // Template.ID: what its element is written with; empty for Transit
	From, To       time.Time // valid from (incl.) to (excl.); zero To: open
	NameEN, NameZH string
	Art            string // key of the drawing on pages
	Package        []byte // load file in the element's catalogue
	Module         []byte
	Instance       []byte // AID readers select
	Issuer         [8]byte
	Prefix         string // first digits of the number
	City           [2]byte
	Province       [2]byte
	Years          int          // validity
	Deposit        money.Amount // taken when the card is ordered
	MinLoad        money.Amount
	MaxLoad        money.Amount // one top-up at most
	MaxBalance     money.Amount // on the card at most
	Source         string       // who says so
}

// An Application asks for a new card.
type Application struct {
	Ref      string // names this wish: the same again gives the same card
	Customer customer.ID
	Band     string
	Product  string
	PAN      *Numbered // of a bank card: what Bank.Number drew
	Replaces CardID    // the card it is made in place of
	Carry    Carry     // what goes along from that one
}

// Carry is what a card takes over from the one it replaces, beside the money: of
// a transit card how often and for how much it rode this month, which decides the
// rebate; of a coupon how far it was used.
type Carry struct {
	Rides int
	Spent money.Amount
	At    time.Time // of the last ride that is in it
	Used  uint16    // redemptions and stamps of a coupon: the counter it goes on from
}

// on is a coupon that was used so far. Its counter tells everything: a stamp card
// takes its stamps and then gives its reward, any other one is redeemed each time.
func (k Carry) on(x coupon.Coupon) coupon.Coupon {
	round := uint16(x.Needed) + 1
	x.Counter, x.Stamps = k.Used, byte(k.Used%round)
	if x.Uses -= min(x.Uses, k.Used/round); x.Uses == 0 {
		x.Stamps = 0
	}
	return x
}

// What can go wrong.
var (
	ErrNotFound   = fail.Define(fail.NotFound, "issuing.card_not_found", "there is no such card")
	ErrProduct    = fail.Define(fail.NotFound, "issuing.product_not_found", "there is no such card product on sale")
	ErrHasCard    = fail.Define(fail.Conflict, "issuing.band_has_card", "the band already holds a card of this kind")
	ErrDiffers    = fail.Define(fail.Conflict, "issuing.reference_differs", "this reference was used for another application")
	ErrState      = fail.Define(fail.Conflict, "issuing.wrong_state", "the card is not in a state that allows this")
	ErrExhausted  = fail.Define(fail.Broken, "issuing.range_exhausted", "the number range of this product is used up")
	ErrReused     = fail.Define(fail.Broken, "issuing.number_reused", "a number was about to be given twice")
	ErrShort      = fail.Define(fail.Broken, "issuing.float_short", "the element proves more money than the books hold for it")
	ErrKind       = fail.Define(fail.Invalid, "issuing.kind", "cards of this kind do not work that way")
	ErrTemplate   = fail.Define(fail.Invalid, "issuing.template", "the card template is not in order")
	ErrPrefix     = fail.Define(fail.Invalid, "issuing.prefix", "the number range is another bank's, or does not fit cards of this kind")
	ErrNoTemplate = fail.Define(fail.NotFound, "issuing.template_not_found", "there is no such card template")
	ErrSuspended  = fail.Define(fail.Refused, "issuing.suspended", "the card is suspended; its holder reported it lost")
	ErrNoLoad     = fail.Define(fail.NotFound, "issuing.load_not_found", "there is no such load")
	ErrBusyLoad   = fail.Define(fail.Conflict, "issuing.load_open", "an earlier load of this card is not finished")
	ErrAmount     = fail.Define(fail.Invalid, "issuing.amount", "the amount is not one this card may have")
	ErrNoAuth     = fail.Define(fail.NotFound, "issuing.no_authorisation", "there is no authorised payment at this counter")
	ErrNoPIN      = fail.Define(fail.Refused, "issuing.no_pin", "the card has no PIN yet")
	ErrNoDoubt    = fail.Define(fail.NotFound, "issuing.doubt_not_found", "there is no such case of a transaction without a known end")
	ErrDoubt      = fail.Define(fail.Conflict, "issuing.doubt_open", "a payment of the card is still being looked into")
	ErrNoClaim    = fail.Define(fail.NotFound, "issuing.claim_not_found", "the card was not reported lost")
	ErrNotDue     = fail.Define(fail.Refused, "issuing.claim_not_due", "what was spent before the loss may still come in; the claim is paid when its waiting time is over")
	ErrNotHeir    = fail.Define(fail.Conflict, "issuing.not_replacement", "this card was not opened in place of the lost one")
	ErrNoNumber   = fail.Define(fail.Invalid, "issuing.no_number", "a bank card needs a number drawn for its product")
	ErrSpace      = fail.Define(fail.Invalid, "issuing.space", "a firm's space is 1024 to 32768 bytes of an element")
	ErrFirmSpace  = fail.Define(fail.Refused, "issuing.firm_space", "the firm's cards may not take more of this band")
	ErrBadInput   = fail.Define(fail.Invalid, "issuing.bad_application", "an application needs a reference, a customer, a band and a product")
)

// MaxRef and MaxBand bound what callers may name, in bytes.
const (
	MaxRef  = 80
	MaxBand = 64
	maxPage = 500
)

// A Firm is an issuer of templates as elements know it: its security domain and
// its instances of shared kinds end with its number.
type Firm struct {
	Code   string
	Number uint16 // 0: none of its cards was ever ordered
	Space  int    // bytes of one element that its cards may take together
}

// FirmSpace is what a firm has when staff gave it no other; MinFirmSpace is one
// card, MaxFirmSpace leaves the wearer's own cards their room.
const (
	MinFirmSpace = 1 << 10
	FirmSpace    = 12 << 10
	MaxFirmSpace = 32 << 10

	firmName = "\xF0koala\x06" // begins the name of a firm's domain
)

// FirmOf reads a firm; one that is not known yet has the usual space.
func FirmOf(q db.Reader, code string) (Firm, error) {
	f := Firm{Code: code, Space: FirmSpace}
	err := q.QueryRow(`SELECT number, space FROM issuing_firm WHERE code = $1`, code).Scan(&f.Number, &f.Space)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return f, err
}

// FirmAt reads the firm of a security domain.
func FirmAt(q db.Reader, domain globalplatform.AID) (f Firm, err error) {
	if n := len(domain); n > len(firmName) {
		f.Number = uint16(domain[n-2])<<8 | uint16(domain[n-1])
	}
	err = q.QueryRow(`SELECT code, space FROM issuing_firm WHERE number = $1`, f.Number).Scan(&f.Code, &f.Space)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoTemplate
	}
	return f, err
}

// SetFirmSpace changes what a firm's cards may take of an element: at once where
// new cards are concerned, and of its domain on a band with the next card there.
func SetFirmSpace(tx *db.Tx, code string, space int) error {
	if code == "" || code == House || space < MinFirmSpace || space > MaxFirmSpace {
		return fmt.Errorf("%d bytes for %q: %w", space, code, ErrSpace)
	}
	_, err := numbered(tx, code)
	if err == nil {
		_, err = tx.Exec(`UPDATE issuing_firm SET space = $2 WHERE code = $1`, code, space)
	}
	return err
}

// numbered reads a firm and gives it its number the first time.
func numbered(tx *db.Tx, code string) (Firm, error) {
	f, err := FirmOf(tx, code)
	if err != nil || f.Number != 0 {
		return f, err
	}
	var last int
	if err := tx.QueryRow(`SELECT COALESCE(MAX(number), 0) FROM issuing_firm`).Scan(&last); err != nil || last >= 0xFFFF {
		return f, errors.Join(err, ErrSpace)
	}
	f.Number = uint16(last + 1)
	_, err = tx.Exec(`INSERT INTO issuing_firm (code, number, space) VALUES ($1, $2, $3)`, code, f.Number, f.Space)
	return f, err
}

// Domain is the name of the firm's security domain on elements.
func (f Firm) Domain() globalplatform.AID {
	return firmName + globalplatform.AID([]byte{byte(f.Number >> 8), byte(f.Number)})
}

// DomainOf is the firm's domain that an instance of a shared kind lives in. An
// instance of before firms had domains has the bare name: empty, it is in the
// partners' one domain.
func DomainOf(instance []byte) globalplatform.AID {
	for _, name := range []string{desfireName, couponName} {
		if n := len(instance) - 2; n == len(name) && string(instance[:n]) == name {
			return firmName + globalplatform.AID(instance[n:])
		}
	}
	return ""
}

// lodge names the instance that a new card lives in. Cards of a firm that share
// one share it with its own only, and keep to the firm's space.
func lodge(tx *db.Tx, band string, p Product) ([]byte, error) {
	if !p.Kind.Shared() {
		return p.Instance, nil
	}
	t, err := TemplateOf(tx, p.Template)
	if err != nil || t.Issuer == House {
		return p.Instance, err
	}
	f, err := numbered(tx, t.Issuer)
	if err != nil {
		return nil, err
	}
	used, err := SpaceUsed(tx, band)
	if err != nil {
		return nil, err
	}
	if used[f.Code]+t.takes() > f.Space {
		return nil, fmt.Errorf("%d of %d bytes used, %d wanted: %w", used[f.Code], f.Space, t.takes(), ErrFirmSpace)
	}
	return append(p.Instance[:len(p.Instance):len(p.Instance)], byte(f.Number>>8), byte(f.Number)), nil
}

// SpaceUsed adds up, by issuer, what the living cards of a band take of its
// element as their templates say. The transit card has none.
func SpaceUsed(q db.Reader, band string) (map[string]int, error) {
	list, err := InBand(q, band)
	out := map[string]int{}
	for _, c := range list {
		p, err := ProductOn(q, c.Product, c.Opened)
		if err != nil || p.Template == "" {
			continue // its terms are not kept any more, or it has none
		}
		t, err := TemplateOf(q, p.Template)
		if err != nil {
			return nil, err
		}
		out[t.Issuer] += t.takes()
	}
	return out, err
}

// takes is what one card of the template takes, at least what its kind does.
func (t Template) takes() int {
	return max(t.Space, map[Kind]int{Canteen: 1 << 10, Door: 1 << 10, Coupon: 64}[t.Kind])
}

// A Grant is what a coupon was given out as. It stays that, with its last day,
// however often its card is replaced.
type Grant struct {
	First  Card   // that it was issued on
	Cards  []Card // that it was ever on, First first
	Data   CouponData
	Issuer string
}

// Left is how often a coupon may still be redeemed after used redemptions and
// stamps.
func (g Grant) Left(used uint16) int {
	return int((Carry{Used: used}).on(coupon.Coupon{Uses: g.Data.Uses, Needed: g.Data.Needed}).Uses)
}

// on is the coupon as it is written on one of its cards.
func (g Grant) on(c Card) (coupon.Coupon, error) {
	x, err := g.Data.coupon(g.First, g.Issuer)
	x.ID = CouponID("coupon", string(c.ID))
	return c.Carry.on(x), err
}

// GrantOf reads what the coupon on a card was given out as.
func GrantOf(q db.Reader, id CardID) (g Grant, err error) {
	line, err := Lineage(q, id)
	if err != nil {
		return g, err
	}
	root := line[len(line)-1]
	if g.First, err = Get(q, root); err != nil {
		return g, err
	}
	p, err := ProductOn(q, g.First.Product, g.First.Opened)
	if err != nil {
		return g, err
	}
	t, err := TemplateOf(q, p.Template)
	if err != nil {
		return g, err
	}
	g.Issuer = t.Issuer
	if g.Data, err = read[CouponData](t.Data); err != nil {
		return g, err
	}
	if g.Cards, err = cards(q, `id IN (SELECT card FROM issuing_coupon WHERE root = $1) ORDER BY opened, id`, root); len(g.Cards) == 0 {
		g.Cards = []Card{g.First} // issued before coupons had names, and never moved since
	}
	return g, err
}

// CouponCard is the card that redemptions call by this name.
func CouponCard(q db.Reader, name coupon.ID) (id CardID, err error) {
	err = q.QueryRow(`SELECT card FROM issuing_coupon WHERE name = $1`, hex.EncodeToString(name[:])).Scan(&id)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return id, err
}

// nameCoupon keeps the names of a coupon card and of those it stands for.
func nameCoupon(tx *db.Tx, c Card) error {
	if c.Kind != Coupon {
		return nil
	}
	line, err := Lineage(tx, c.ID)
	for _, id := range line {
		name := CouponID("coupon", string(id))
		if err == nil {
			_, err = tx.Exec(`INSERT INTO issuing_coupon (name, card, root) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
				hex.EncodeToString(name[:]), id, line[len(line)-1])
		}
	}
	return err
}
