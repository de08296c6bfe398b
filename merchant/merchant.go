// Package merchant keeps who the house acquires for: merchants with their
// papers and the checks made of them, the agents who brought them, their shops
// with merchant numbers, and the terminals that stand there. A shop is a payee
// of settlement, named by its id, and so is an agent (Payee); the only money
// that moves here are the agents' commissions (EarnAll).
//
// Start with Desk: Apply takes an application, Screen runs the checks that need
// no person, Approve opens the shop. What the switch asks before each sale is
// StandingOf. Personal data is sealed before it reaches the store and looked
// for by its token only.
package merchant

import (
	"time"

	"koala/internal/fail"
)

// What can go wrong.
var (
	ErrNotFound = fail.Define(fail.NotFound, "merchant.not_found", "there is no such merchant, shop, terminal or agent")
	ErrName     = fail.Define(fail.Invalid, "merchant.name", "a name has 1 to 60 characters and no control characters")
	ErrForm     = fail.Define(fail.Invalid, "merchant.form", "there is no such legal form")
	ErrLicence  = fail.Define(fail.Invalid, "merchant.licence", "a unified social credit code has 18 characters, the last of which checks the others")
	ErrIDNumber = fail.Define(fail.Invalid, "merchant.id_number", "an identity number has 18 characters, the last of which checks the others")
	ErrAccount  = fail.Define(fail.Invalid, "merchant.account", "a settlement account has a bank, a holder and 8 to 32 digits")
	ErrPhone    = fail.Define(fail.Invalid, "merchant.phone", "a mobile number has 11 digits and begins with 1")
	ErrCategory = fail.Define(fail.Invalid, "merchant.category", "there is no such merchant category")
	ErrCity     = fail.Define(fail.Invalid, "merchant.city", "there is no such city")
	ErrMID      = fail.Define(fail.Invalid, "merchant.mid", "a merchant number has 15 characters: institution, region, category and sequence")
	ErrTID      = fail.Define(fail.Invalid, "merchant.tid", "a terminal number has 8 letters or digits")
	ErrTerminal = fail.Define(fail.Invalid, "merchant.terminal", "a terminal needs a kind and a serial number of at most 32 letters, digits and dashes")
	ErrDocument = fail.Define(fail.Invalid, "merchant.document", "a document has a kind, a SHA-256 and a size")
	ErrDiffers  = fail.Define(fail.Conflict, "merchant.differs", "this id was registered with other content")
	ErrState    = fail.Define(fail.Conflict, "merchant.state", "the merchant, shop or terminal is not in a state that allows this")
	ErrUnready  = fail.Define(fail.Refused, "merchant.unready", "a check has failed or is missing: look at the checks")
	ErrStaff    = fail.Define(fail.Invalid, "merchant.staff", "this needs the name of who decides and a reason")
	ErrBound    = fail.Define(fail.Conflict, "merchant.bound", "this device stands in another shop; staff must move it")
	ErrFull     = fail.Define(fail.Refused, "merchant.full", "there is no number left for this region and category")
	ErrStopped  = fail.Define(fail.Refused, "merchant.stopped", "this shop or terminal takes no cards at the moment")
	ErrLimit    = fail.Define(fail.Refused, "merchant.limit", "the amount is above the shop's limit")
	ErrAgent    = fail.Define(fail.Invalid, "merchant.agent", "an agent needs an id, a name and a superior that is there")
	ErrRate     = fail.Define(fail.Invalid, "merchant.rate", "the rates of a commission are 0 to 10000 basis points in sum")
	ErrBegun    = fail.Define(fail.Refused, "merchant.begun", "this begins tomorrow or later: of today and before agents have had their commissions")
	ErrLevels   = fail.Define(fail.Refused, "merchant.levels", "an agent stands below itself, or more than six agents above each other")
	ErrDeny     = fail.Define(fail.Invalid, "merchant.deny", "denials are a CSV of kind,value,reason,source; a kind is name, licence or person; reason and source are said")
	ErrCharge   = fail.Define(fail.Invalid, "merchant.charge", "a charge needs a reference of at most 49 bytes and the day of the sales")
	ErrBehave   = fail.Define(fail.Invalid, "merchant.takings", "takings are counts and amounts of at least nothing")
)

// Limits of what is kept.
const (
	MaxName = 60  // runes
	MaxWhy  = 200 // bytes of a reason
	MaxText = 200 // bytes of an address or a note
	MaxPage = 200 // rows of a list
)

// A Form is what a merchant is before the law.
type Form string

// The forms, with the papers each must show.
const (
	Enterprise Form = "enterprise" // a company: licence, legal person, business account
	Individual Form = "individual" // 个体工商户: licence, owner, business or owner's account
	Micro      Form = "micro"      // 小微: no licence; the owner's identity and account
	Adopted    Form = "adopted"    // kept from before there were papers: none is known
)

var formWords = map[Form][2]string{Enterprise: {"enterprise", "企业"}, Individual: {"individual business", "个体工商户"}, Micro: {"small or micro", "小微商户"},
	Adopted: {"adopted, papers to come", "存量商户，资料待补"}}

// Words says the form for people, in Chinese if zh.
func (f Form) Words(zh bool) string { return pick(formWords[f], string(f), zh) }

// A State is where a merchant or a shop is in its life.
type State string

// The states, and who acts next.
const (
	Applied   State = "applied"   // the house: run the checks
	Checking  State = "checking"  // staff: decide what the checks leave open
	Approved  State = "approved"  // the installer: bring the first terminal
	Refused   State = "refused"   // the merchant: apply again with other papers
	Active    State = "active"    // the merchant: sell
	Suspended State = "suspended" // staff: find out and lift, or close
	Closed    State = "closed"    // nobody
)

// States lists every state, in the order of a life.
var States = []State{Applied, Checking, Approved, Refused, Active, Suspended, Closed}

// nextState is the table of allowed transitions.
var nextState = map[State][]State{
	Applied:   {Checking, Closed}, // Closed: withdrawn
	Checking:  {Applied, Approved, Refused, Closed},
	Approved:  {Active, Suspended, Closed},
	Refused:   {Applied, Closed},
	Active:    {Suspended, Closed},
	Suspended: {Active, Closed},
	Closed:    {},
}

// May tells whether something in state s may go to state to.
func (s State) May(to State) bool {
	for _, t := range nextState[s] {
		if t == to {
			return true
		}
	}
	return false
}

// Trades tells whether a merchant or shop in state s may take a card.
func (s State) Trades() bool { return s == Approved || s == Active }

var stateWords = map[State][2]string{Applied: {"applied", "已申请"}, Checking: {"being checked", "审核中"}, Approved: {"approved", "已通过"},
	Refused: {"refused", "已拒绝"}, Active: {"active", "正常"}, Suspended: {"suspended", "已暂停"}, Closed: {"closed", "已注销"}}

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string { return pick(stateWords[s], string(s), zh) }

// A Merchant is one party that the house has a contract with.
type Merchant struct {
	ID           string // merchant_…
	Form         Form
	Name         string // as on the licence; of a micro merchant the sign above the door
	Licence      string // unified social credit code; empty: micro
	Legal        string // name of the legal person or owner
	IDMask       string // 110101********1234
	Phone        string // 138****5678
	Bank         string // where the settlement account is
	Holder       string // of the settlement account
	AccountMask  string // last four digits
	City         string // six digits, GB/T 2260
	Agent        string // who brought it; empty: the house itself
	State        State
	Risk         Risk
	Made         time.Time
	Changed      time.Time // of its state
	ident, token string    // what duplicates are found by
}

// A Shop is one place where a merchant sells, and a payee of settlement.
type Shop struct {
	ID             string // shop_…
	Merchant       string
	MID            string // 15 characters; empty before approval
	NameEN, NameZH string // the first as receipts in Latin letters print it
	MCC            string // ISO 18245, four digits
	City           string // six digits, GB/T 2260
	Address        string
	State          State
	Made           time.Time
}

// Place is the shop's city.
func (s Shop) Place() City { return cityOf[s.City] }

// Category is what the shop's code says it sells.
func (s Shop) Category() Category { return categoryOf[s.MCC] }

func pick(w [2]string, own string, zh bool) string {
	switch {
	case w[0] == "":
		return own
	case zh:
		return w[1]
	}
	return w[0]
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
