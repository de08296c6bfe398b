// Package acquiring is the shops' side of cards: the devices that stand in
// shops and at sites, what these hand over of what cards proved, and the money
// that follows. Shops and their tills themselves are package merchant's; here
// are sites, doors, canteens and coupon tills. It verifies, books and settles
// every proof exactly once, whatever the order in which batches come and
// however often: sales of tills through the issuing bank, meals of canteens,
// redemptions of coupons. What doors saw is kept for the owner of the site.
//
// Start with Office.CollectSales. Functions that take a unit of work register
// shops, firms, sites and devices; what a device is told comes in signed packs
// (pack.go). Whatever cannot be booked waits in suspense under a name (Why) and
// may be tried again at any time (Office.Retry).
package acquiring

import (
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/coupon"
	"koala/spec/desfire"
)

// The failures of this package.
var (
	ErrShop      = fail.Define(fail.Invalid, "acquiring.shop", "a shop needs an id, names in both languages, a category of four digits and a city")
	ErrFirm      = fail.Define(fail.Invalid, "acquiring.firm", "a firm needs an id and names in both languages")
	ErrSite      = fail.Define(fail.Invalid, "acquiring.site", "a site needs an id, a number, an owner and names in both languages")
	ErrDevice    = fail.Define(fail.Invalid, "acquiring.device", "a device needs a number of eight characters, a kind, and a shop or a site")
	ErrDiffers   = fail.Define(fail.Conflict, "acquiring.differs", "this id was registered with other content")
	ErrNotFound  = fail.Define(fail.NotFound, "acquiring.not_found", "there is no such shop, site, device or record")
	ErrKind      = fail.Define(fail.Invalid, "acquiring.kind", "devices of this kind do not send that")
	ErrState     = fail.Define(fail.Conflict, "acquiring.state", "the device is not in a state that allows this")
	ErrInstalled = fail.Define(fail.Conflict, "acquiring.installed", "the device was installed before; staff must open it for another installation")
	ErrBatch     = fail.Define(fail.Invalid, "acquiring.batch", "the batch is not this device's, or its numbers cannot be")
	ErrMenu      = fail.Define(fail.Invalid, "acquiring.menu", "the menu is not in order")
	ErrPlan      = fail.Define(fail.Invalid, "acquiring.plan", "the plan of the site is not in order")
	ErrNotOwner  = fail.Define(fail.Forbidden, "acquiring.not_owner", "only the owner of the site may see who passed its doors")
	ErrTransport = fail.Define(fail.Conflict, "acquiring.no_transport", "the device has no transport key; staff open it for installation and make one")
	ErrRuled     = fail.Define(fail.Conflict, "acquiring.ruled", "this case was decided before")
	ErrRuling    = fail.Define(fail.Invalid, "acquiring.ruling", "a ruling needs the name of who decides and a reason")
)

// The limits of this package.
const (
	MaxID    = 40  // bytes of an id
	MaxName  = 80  // bytes of a name
	MaxWhy   = 200 // bytes of a ruling's reason
	MaxBatch = 1000
	maxPage  = 500
)

// A Shop is a payee of settlement, and a shop of package merchant, which keeps
// all of it but the site.
type Shop struct {
	ID             string // shop_…
	NameEN, NameZH string
	MID            string // merchant number; empty at AddShop: the next one
	MCC            string // merchant category, four digits (ISO 18245)
	City           string // its English name; at AddShop any that merchant.FindCity knows
	Site           string // whose canteen it is; empty: nobody's
	Made           time.Time
}

// Merchant is how discount cards name the shop.
func (s Shop) Merchant() coupon.ID { return issuing.CouponID("merchant", s.ID) }

// A Firm pays for others with money it has paid in: an employer a part of the
// meals, an issuer of coupons what they take off.
type Firm struct {
	ID             string // as templates of coupons name their issuer
	NameEN, NameZH string
	Made           time.Time
}

// Issuer is how discount cards name the firm.
func (f Firm) Issuer() coupon.ID { return issuing.CouponID("issuer", f.ID) }

// Funding is the account of what a firm has paid in.
func Funding(firm string) ledger.AccountID { return ledger.AccountID("funding." + firm) }

// A Site is a place with doors, and perhaps a canteen.
type Site struct {
	ID             string // site_…
	Number         uint32 // as door credentials name it
	Owner          string // the customer who may see its passages
	Firm           string // the employer; empty: meals have no subsidy
	NameEN, NameZH string
	KeepDays       int // passages are kept that long
	Made           time.Time
}

// DefaultKeep is how many days passages are kept where a site says nothing.
const DefaultKeep = 90

// A Kind is what a device does.
type Kind string

// The kinds of devices.
const (
	POS     Kind = "pos"     // a shop's till for bank cards
	Canteen Kind = "canteen" // a till for canteen cards
	Door    Kind = "door"
	Coupon  Kind = "coupon" // redeems coupons
)

var kindWords = map[Kind][2]string{POS: {"till", "收银机"}, Canteen: {"canteen till", "食堂消费机"}, Door: {"door", "门禁"}, Coupon: {"coupon till", "核销终端"}}

// Words says the kind for people, in Chinese if zh.
func (k Kind) Words(zh bool) string { return pick(kindWords[k], string(k), zh) }

// A State is where a device is in its life.
type State string

// The states, and who acts next.
const (
	Registered State = "registered" // the installer: fetch keys and keys' keepers
	Active     State = "active"     // the shop
	Suspended  State = "suspended"  // staff; what it holds is still taken
	Retired    State = "retired"    // nobody; what it holds is still taken
)

var nextState = map[State][]State{Registered: {Active, Retired}, Active: {Registered, Suspended, Retired}, Suspended: {Registered, Active, Retired}, Retired: {}}

// May tells whether a device in state s may go to state to.
func (s State) May(to State) bool {
	for _, t := range nextState[s] {
		if t == to {
			return true
		}
	}
	return false
}

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string { return pick(stateWords[s], string(s), zh) }

var stateWords = map[State][2]string{Registered: {"not installed", "待装机"}, Active: {"in use", "使用中"},
	Suspended: {"suspended", "已停用"}, Retired: {"retired", "已撤机"}}

// A Device stands in a shop or at a site.
type Device struct {
	TID              string // 8 characters; of canteen tills and doors hexadecimal digits
	MID              string // 15 characters, of tills for bank cards
	Kind             Kind
	Shop             string // empty: a door
	Site             string // of a door, and of a canteen by its shop
	PlaceEN, PlaceZH string
	State            State
	Seen             time.Time // when it last handed something over or asked
	Next             uint32    // number expected next in its row
}

// A Why names what keeps something in suspense, or was odd about it.
type Why string

// The reasons of this package; those of records of bank cards are
// issuing.Flaw's.
const (
	Fine        Why = ""
	WhyCard     Why = "unknown_card"
	WhyShort    Why = "short"        // the books hold less for the card than it spent
	WhyFirm     Why = "firm_short"   // the firm has paid in too little
	WhyNoFirm   Why = "no_firm"      // nobody pays subsidies or these coupons here
	WhyPurchase Why = "no_purchase"  // a refund whose purchase has not come
	WhyRefund   Why = "over_refund"  // a refund of another card, or of more than was paid
	WhyUses     Why = "over_uses"    // a coupon that was moved has been redeemed as often as it was granted
	WhyMAC      Why = "mac"          // the proof does not verify: not the key of that device or card
	WhyForked   Why = "forked"       // the same name was used for something else
	WhyNumber   Why = "number"       // the device's number was used for something else
	WhyDevice   Why = "other_device" // it names another device, shop or merchant
)

// Words says the reason for people, in Chinese if zh.
func (w Why) Words(zh bool) string {
	if t, ok := whyWords[w]; ok {
		return pick(t, string(w), zh)
	}
	return issuing.Flaw(w).Words(zh)
}

var whyWords = map[Why][2]string{
	WhyCard: {"no card of this house", "非本平台的卡"}, WhyShort: {"the books hold less for the card", "账上余额不足"},
	WhyFirm: {"the firm has not paid in enough", "单位备付金不足"}, WhyNoFirm: {"nobody pays for it", "没有出资单位"},
	WhyPurchase: {"its purchase has not come yet", "原消费尚未上送"}, WhyRefund: {"more than was paid", "退款超过原消费"},
	WhyUses: {"used up: the coupon went to another band with this use", "优惠券已用完：这次使用已随换卡转走"},
	WhyMAC:  {"the proof does not verify", "验证码不符"}, WhyForked: {"the same name was used otherwise", "同一标识内容不一致"},
	WhyNumber: {"the number was used otherwise", "流水号重复且内容不同"}, WhyDevice: {"it is of another device or shop", "非本终端或商户"},
}

func pick(w [2]string, own string, zh bool) string {
	switch {
	case w[0] == "":
		return own
	case zh:
		return w[1]
	}
	return w[0]
}

// A Fate is what became of something handed over.
type Fate string

// The fates.
const (
	Booked   Fate = "booked"   // now
	Known    Fate = "known"    // it was taken before; nothing moved
	Suspense Fate = "suspense" // it waits with its reason
	Odd      Fate = "odd"      // not taken; kept for the operator with its reason
)

// Words says the fate for people, in Chinese if zh.
func (f Fate) Words(zh bool) string {
	return pick(map[Fate][2]string{Booked: {"booked", "已入账"}, Known: {"known before", "重复上送"},
		Suspense: {"waiting", "挂账"}, Odd: {"put aside", "异常"}}[f], string(f), zh)
}

// A Result is what became of one thing in a batch.
type Result struct {
	Number uint32 // in the device's row
	ID     string // of the record, for its trace; of an odd one too
	Fate   Fate
	Why    Why
}

// A Handed is the answer to a batch.
type Handed struct {
	Release uint32 // the device may forget what lies up to here
	Results []Result
	Missing []Gap // numbers that have not come
}

// Elements knows which cards live in which chip. Its functions run inside
// units of work and readers.
type Elements struct {
	// Cards lists the cards that were ever written into the chip of a UID.
	Cards func(q db.Reader, uid desfire.UID) ([]issuing.CardID, error)
	// UID is the chip that a card was written into; false when it is nowhere.
	UID func(q db.Reader, card issuing.CardID) (desfire.UID, bool, error)
}

func fen(n int64) money.Amount { return money.Fen(n) }
