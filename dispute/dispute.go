// Package dispute keeps what issuers say against sales: the request for a copy
// of the receipt, the chargeback, our representment, the second chargeback and
// the arbitration, each with its deadline as dated data. Where the disputed
// money is follows from the state alone, and every move is booked once, in the
// ledger and in the shop's settlement together.
//
// Start with Open; Answer, Represent and File are ours, ChargeBack, Again,
// Withdraw and Decide are what issuer and arbiter say; Tick moves what missed its
// deadline. Gather makes the evidence pack. Watch keeps refunds and disputes of
// one sale from paying twice.
package dispute

import (
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
	"koala/money"
)

// State is where a case stands.
type State string

// The states, and who acts next.
const (
	Requested State = "requested"    // the shop: send the receipt
	Answered  State = "answered"     // the issuer: charge back, or let it rest
	Missed    State = "missed"       // the issuer: charge back; the receipt did not come in time
	Charged   State = "charged_back" // the shop: answer; the desk: represent or accept
	Presented State = "represented"  // the issuer: charge back again, or let it rest
	Again     State = "charged_back_again"
	// Again is for the desk: file for arbitration or accept.

	Arbitration State = "arbitration" // the arbiter
	Resting     State = "closed"      // nobody: no chargeback came
	Won         State = "won"         // nobody: the money is the shop's
	Lost        State = "lost"        // nobody: the money is the cardholder's
	Accepted    State = "accepted"    // nobody: the shop gave it back
	Withdrawn   State = "withdrawn"   // nobody: the issuer gave up
)

// nextStates is the table of what may follow.
var nextStates = map[State][]State{
	Requested:   {Answered, Missed, Charged, Withdrawn},
	Answered:    {Charged, Resting, Withdrawn},
	Missed:      {Charged, Resting, Withdrawn},
	Charged:     {Presented, Accepted, Lost, Withdrawn},
	Presented:   {Again, Arbitration, Won, Withdrawn},
	Again:       {Arbitration, Accepted, Lost, Withdrawn},
	Arbitration: {Won, Lost, Withdrawn},
	Resting:     {}, Won: {}, Lost: {}, Accepted: {}, Withdrawn: {},
}

// May tells whether a case in state s may go to state to.
func (s State) May(to State) bool { return slices.Contains(nextStates[s], to) }

// Final tells whether nothing may follow.
func (s State) Final() bool { return len(nextStates[s]) == 0 }

var stateWords = map[State][2]string{
	Requested: {"receipt requested", "调单"}, Answered: {"receipt sent", "已回复调单"}, Missed: {"receipt not sent in time", "调单逾期未回复"},
	Charged: {"charged back", "一次退单"}, Presented: {"represented", "再请款"}, Again: {"charged back again", "二次退单"},
	Arbitration: {"in arbitration", "争议裁判中"}, Resting: {"closed without chargeback", "未退单结案"}, Won: {"won", "胜诉"}, Lost: {"lost", "败诉"},
	Accepted: {"accepted by the shop", "商户接受退单"}, Withdrawn: {"withdrawn by the issuer", "发卡行撤回"},
}

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string { return pick(stateWords, s, zh) }

func pick[K ~string](words map[K][2]string, k K, zh bool) string {
	w, ok := words[k]
	switch {
	case !ok:
		return string(k)
	case zh:
		return w[1]
	}
	return w[0]
}

// Actor is whose turn it is.
type Actor string

// The actors.
const (
	Nobody  Actor = "nobody"
	Shop    Actor = "shop"
	Desk    Actor = "desk"
	Issuer  Actor = "issuer"
	Arbiter Actor = "arbiter"
)

var actorWords = map[Actor][2]string{
	Nobody: {"nobody", "无"}, Shop: {"shop", "商户"}, Desk: {"dispute desk", "差错岗"}, Issuer: {"issuer", "发卡行"}, Arbiter: {"arbiter", "裁判方"},
}

// Words says the actor for people, in Chinese if zh.
func (a Actor) Words(zh bool) string { return pick(actorWords, a, zh) }

var turn = map[State]Actor{Requested: Shop, Answered: Issuer, Missed: Issuer, Charged: Shop, Presented: Issuer, Again: Desk, Arbitration: Arbiter}

// Next is whose turn it is in state s.
func (s State) Next() Actor {
	if a, ok := turn[s]; ok {
		return a
	}
	return Nobody
}

// A Sale is what is disputed, as the caller knows it.
type Sale struct {
	RRN     string // retrieval reference
	Payee   string // the shop
	Counter ledger.AccountID
	// Counter is who gets the money back: receivable.<host> of a foreign card's
	// host, or the account of our own cardholder.

	Issuer string       // host of a foreign card's issuer; empty: our own bank
	Class  string       // debit, credit, prepaid
	Amount money.Amount // what is left of it after refunds, whatever disputes took
	At     time.Time
}

// A Case is one dispute about one sale.
type Case struct {
	ID     string // dsp_…
	Ref    string // the network's number of it
	Sale   Sale
	Amount money.Amount // disputed; at most Sale.Amount
	Reason string       // code, see Reasons
	State  State
	Moves  int       // how often the money has moved: odd, the cardholder has it
	Held   bool      // the shop has it, but it is not paid out
	Due    time.Time // by when Next has to act; zero: no deadline
	Pack   string    // SHA-256 of the evidence we sent; empty: none
	Opened time.Time
	At     time.Time // of the last step
}

// WithIssuer tells whether the disputed money has been taken from the shop.
func (c Case) WithIssuer() bool { return c.Moves%2 == 1 }

// takes tells whether the disputed money is the issuer's or may yet become it
// without a new claim: so much of the sale cannot be given back otherwise.
func (c Case) takes() bool {
	return c.WithIssuer() || c.State == Presented || c.State == Arbitration
}

// takesSQL is takes in the words of the store.
const takesSQL = `(moves % 2 = 1 OR state = '` + string(Presented) + `' OR state = '` + string(Arbitration) + `')`

// A Take is what all cases of a sale take of it.
type Take struct {
	RRN string
	Fen int64
}

// Takes reads of which sales cases take something, by reference, from the one
// after the given: see Taken.
func Takes(q db.Reader, after string, limit int) (out []Take, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var t Take
		err := scan(&t.RRN, &t.Fen)
		out = append(out, t)
		return err
	}, `SELECT rrn, CAST(SUM(fen) AS BIGINT) FROM dispute_case WHERE rrn > $1 AND `+takesSQL+` GROUP BY rrn ORDER BY rrn LIMIT $2`, after, page(limit))
	return out, err
}

// Taken is what all cases of a sale take of it: what the issuer has, and what
// is contested while the shop has it.
func Taken(q db.Reader, rrn string) (money.Amount, error) {
	sum := money.Fen(0)
	all, err := OfSale(q, rrn)
	for _, c := range all {
		if c.takes() {
			sum = sum.Add(c.Amount)
		}
	}
	return sum, err
}

// Watch has f told, in the unit that changes it, what the cases of a sale take
// of it (Taken): whoever gives money back must not give that. If so much is not
// left, because it was given back before, f says ErrClaim and the step is not
// made. It is for all units of a store and set before they are run.
func Watch(store *db.Store, f func(tx *db.Tx, rrn string, taken money.Amount) error) {
	store.Provide(watchKey{}, f)
}

type watchKey struct{}

// Collect has f book what takes disputed money back from a cardholder of our own
// bank, who may have spent it: the shop that wins is paid all the same. e is the
// plain move. It is for all units of a store and set before they are run.
func Collect(store *db.Store, f func(tx *db.Tx, e ledger.Entry, from, to ledger.AccountID, amount money.Amount) error) {
	store.Provide(collectKey{}, f)
}

type collectKey struct{}

// post books a move of the disputed money.
func (c Case) post(tx *db.Tx, e ledger.Entry, from, to ledger.AccountID) error {
	f, ok := tx.Provided(collectKey{}).(func(*db.Tx, ledger.Entry, ledger.AccountID, ledger.AccountID, money.Amount) error)
	if ok && c.Sale.Issuer == "" && from == c.Sale.Counter {
		return f(tx, e, from, to, c.Amount)
	}
	_, err := ledger.Post(tx, e)
	return err
}

// tell hands what the cases of the sale take to whoever watches.
func (c Case) tell(tx *db.Tx) error {
	f, ok := tx.Provided(watchKey{}).(func(*db.Tx, string, money.Amount) error)
	if !ok {
		return nil
	}
	taken, err := Taken(tx, c.Sale.RRN)
	if err != nil {
		return err
	}
	return f(tx, c.Sale.RRN, taken)
}

// An Event is one step of a case.
type Event struct {
	At      time.Time
	Who     string
	Was, Is State
	Why     string
}

// System is who acts when a deadline passes.
const System = "system"

// whyMissed is what it writes; the end of the deadline stands for %s.
const whyMissed = "the deadline of %s passed"

// whyFile is what is written of a step that a host's clearing file told.
const whyFile = "clearing file of %s"

// Reason is why, for people: what the system wrote in Chinese if zh, what
// somebody wrote as it was written.
func (e Event) Reason(zh bool) string {
	if host, told := strings.CutPrefix(e.Why, strings.TrimSuffix(whyFile, "%s")); told && zh && e.Who == string(Issuer) {
		return host + " 清算文件"
	}
	before, behind, _ := strings.Cut(whyMissed, "%s")
	end, fits := strings.CutPrefix(e.Why, before)
	if !zh || e.Who != System || !fits || !strings.HasSuffix(end, behind) {
		return e.Why
	}
	return "已过期限 " + strings.TrimSuffix(end, behind)
}

// Limits.
const (
	MaxRef       = 64      // bytes of the network's number
	MaxWhy       = 2_000   // bytes of a reason or an answer
	MaxDocument  = 5 << 20 // bytes of one document
	MaxDocuments = 20      // of one case
	maxPage      = 500
)

// What can go wrong.
var (
	ErrClaim    = fail.Define(fail.Invalid, "dispute.bad_claim", "a dispute needs a number, a sale, a known reason and an amount of at most what is left of the sale")
	ErrDiffers  = fail.Define(fail.Conflict, "dispute.differs", "this number was opened with other content")
	ErrActive   = fail.Define(fail.Conflict, "dispute.active", "the sale has an open dispute already")
	ErrNone     = fail.Define(fail.NotFound, "dispute.no_case", "there is no such dispute")
	ErrState    = fail.Define(fail.Refused, "dispute.state", "the dispute is not in a state for this")
	ErrLate     = fail.Define(fail.Refused, "dispute.late", "the deadline for this has passed")
	ErrRounds   = fail.Define(fail.Refused, "dispute.rounds", "a card of this kind has no second chargeback")
	ErrEvidence = fail.Define(fail.Refused, "dispute.evidence", "gather the evidence first")
	ErrWhy      = fail.Define(fail.Invalid, "dispute.why", "say who acts and why, in up to 2,000 bytes")
	ErrDocument = fail.Define(fail.Invalid, "dispute.document", "a document has a name, a type and 1 byte to 5 MiB; a case has up to 20")
	ErrRule     = fail.Define(fail.Broken, "dispute.rule", "no rule is in force for this step")
)
