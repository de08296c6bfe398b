// Package risk judges what shops' terminals do. Rules are data: versioned sets
// with a day they begin, proposed by one person, replayed on history and put
// into force by another. Each rule looks at one fact and a small window of
// earlier ones and says points and why; the sum decides by the shop's level.
//
// Start with Open. Engine.Assess judges a fact from memory, without the store;
// Engine.Keep writes it down and opens a case where people have to look. Take,
// Decide and Replay are the desk's. Evaluate is the whole judgement, pure.
package risk

import (
	"time"

	"koala/internal/fail"
)

// Kind is what a fact is about.
type Kind string

// The kinds.
const (
	Sale    Kind = "sale"
	Preauth Kind = "preauth"
	Refund  Kind = "refund"
	Void    Kind = "void"
)

// Entry is how the card's number came in.
type Entry string

// The entries.
const (
	Chip   Entry = "chip"
	Tap    Entry = "tap"
	Stripe Entry = "stripe"
	Manual Entry = "manual"
	QR     Entry = "qr"
)

// Level is how far a shop is trusted.
type Level string

// The levels.
const (
	LowRisk    Level = "low"
	NormalRisk Level = "normal"
	HighRisk   Level = "high"
)

var levelWords = map[Level][2]string{LowRisk: {"low risk", "低风险"}, NormalRisk: {"normal", "一般"}, HighRisk: {"high risk", "高风险"}}

// Words says the level for people, in Chinese if zh.
func (l Level) Words(zh bool) string { return pick(levelWords, l, zh) }

var entryWords = map[Entry][2]string{
	Chip: {"chip", "插卡"}, Tap: {"tap", "挥卡"}, Stripe: {"stripe", "刷卡"}, Manual: {"keyed in", "手工输入"}, QR: {"code", "扫码"},
}

// Words says the entry for people, in Chinese if zh.
func (e Entry) Words(zh bool) string { return pick(entryWords, e, zh) }

// A Place is a point on the map in 1/10,000 degree; zero: not known.
type Place struct{ Lat, Lon int32 }

// A Fact is one transaction as far as a judgement needs it. It never has a card
// number: Card is the bank's keyed token or, for foreign cards, the switch's.
type Fact struct {
	Ref      string // retrieval reference, unique
	At       time.Time
	Kind     Kind
	Card     string
	Class    string // debit, credit, prepaid
	Shop     string
	Terminal string
	Agent    string // who brought the shop; empty: nobody
	Category string // merchant category code, four digits
	Fen      int64
	Entry    Entry
	Declined bool
	Sale     string    // of a refund: the sale's reference; empty: none was named
	Since    time.Time // the terminal's binding to the shop; zero: not known
	Place    Place     // where the terminal is now
	Home     Place     // where it is registered
	Level    Level     // empty: normal
}

// Action is what a judgement asks for.
type Action string

// The actions, mildest first.
const (
	Allow  Action = "allow"
	Review Action = "review" // goes through; people look
	Hold   Action = "hold"   // goes through; the shop is not paid until people have looked
	Refuse Action = "refuse"
)

var actionRank = map[Action]int{Allow: 0, Review: 1, Hold: 2, Refuse: 3}

var actionWords = map[Action][2]string{
	Allow: {"allowed", "放行"}, Review: {"to be reviewed", "待审查"}, Hold: {"payout held", "暂停付款"}, Refuse: {"refused", "拒绝"},
}

// Words says the action for people, in Chinese if zh.
func (a Action) Words(zh bool) string { return pick(actionWords, a, zh) }

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

// A Hit is one rule that spoke.
type Hit struct {
	Rule   Code   `json:"rule"`
	Points int    `json:"points"`
	En     string `json:"en"`
	Zh     string `json:"zh"`
}

// A Decision is a judgement that can explain itself.
type Decision struct {
	Action  Action `json:"action"`
	Score   int    `json:"score"`
	Version int    `json:"version"` // of the rule set
	Hits    []Hit  `json:"hits"`
}

// Limits.
const (
	MaxTrail = 64             // earlier facts that are remembered per card, shop, terminal and agent
	Keep     = 48 * time.Hour // how far back a start reads
	MaxText  = 500            // bytes of a reason or a field
	maxPage  = 500
)

// What can go wrong.
var (
	ErrFact     = fail.Define(fail.Invalid, "risk.bad_fact", "a fact needs a reference, a time, a kind, a shop and an amount")
	ErrSet      = fail.Define(fail.Invalid, "risk.bad_set", "the rule set cannot be used as it is written")
	ErrNoSet    = fail.Define(fail.NotFound, "risk.no_set", "there is no such rule set")
	ErrState    = fail.Define(fail.Refused, "risk.state", "the case or rule set is not in a state for this")
	ErrReplay   = fail.Define(fail.Refused, "risk.not_replayed", "replay the rule set on history first")
	ErrFourEyes = fail.Define(fail.Refused, "risk.four_eyes", "somebody else has to put a rule set into force")
	ErrNoCase   = fail.Define(fail.NotFound, "risk.no_case", "there is no such case")
	ErrWhy      = fail.Define(fail.Invalid, "risk.why", "say who acts and why, in up to 500 bytes")
	ErrNotYours = fail.Define(fail.Forbidden, "risk.not_yours", "the case is somebody else's")
)
