package risk

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Code names what a rule looks for.
type Code string

// The codes.
const (
	CardVelocity     Code = "card_velocity"
	ShopVelocity     Code = "shop_velocity"
	TerminalVelocity Code = "terminal_velocity"
	OddHour          Code = "odd_hour"
	RoundAmounts     Code = "round_amounts"
	RepeatedCard     Code = "repeated_card"
	SplitSale        Code = "split_sale"
	Distance         Code = "distance"
	NewTerminal      Code = "new_terminal"
	MovedTerminal    Code = "moved_terminal"
	CategoryMismatch Code = "category_mismatch"
	CashOut          Code = "cash_out"
	RefundAlone      Code = "refund_without_sale"
	ManualEntry      Code = "manual_entry"
)

// A Rule is one line of a set. What its fields mean is its code's; those that a
// code does not use are zero.
//
//	card_velocity, shop_velocity, terminal_velocity   Count facts within Minutes, this one with them
//	odd_hour             at least Fen between the hours From and To (Beijing; To may be behind midnight) in Categories
//	round_amounts        Count sales of whole Fen at the shop within Minutes
//	repeated_card        Count sales of one card at one shop within Minutes
//	split_sale           Count sales of one card at one shop within Minutes, each below Fen by at most BP
//	distance             the card was elsewhere: more than Km away and faster than Speed
//	new_terminal         at least Fen within Minutes after the terminal was bound
//	moved_terminal       more than Km from where it is registered
//	category_mismatch    Count or more sales of the shop within Minutes are on average above Fen, in Categories
//	cash_out             Count credit cards' round sales of at least Fen at the shop, or at shops of its agent,
//	                     within Minutes; between From and To the points count twice
//	refund_without_sale  a refund of at least Fen that names no sale
//	manual_entry         at least Fen keyed in by hand
type Rule struct {
	Code       Code     `json:"code"`
	Points     int      `json:"points"`
	Count      int      `json:"count,omitempty"`
	Minutes    int      `json:"minutes,omitempty"`
	Fen        int64    `json:"fen,omitempty"`
	BP         int64    `json:"bp,omitempty"`
	From       int      `json:"from,omitempty"`
	To         int      `json:"to,omitempty"`
	Km         int      `json:"km,omitempty"`
	Speed      int      `json:"speed,omitempty"` // km/h
	Categories []string `json:"categories,omitempty"`
}

func (r *Rule) window() time.Duration { return time.Duration(r.Minutes) * time.Minute }

func (r *Rule) covers(category string) bool {
	return len(r.Categories) == 0 || slices.Contains(r.Categories, category)
}

// hours tells whether t is between From and To, Beijing.
func (r *Rule) hours(t time.Time) bool {
	h := int((t.Unix()/3600 + 8) % 24)
	if r.From <= r.To {
		return h >= r.From && h < r.To
	}
	return h >= r.From || h < r.To
}

// Bars are the scores from which an action is asked for.
type Bars struct {
	Review int `json:"review"`
	Hold   int `json:"hold"`
	Refuse int `json:"refuse"`
}

func (b Bars) action(score int) Action {
	switch {
	case score >= b.Refuse:
		return Refuse
	case score >= b.Hold:
		return Hold
	case score >= b.Review:
		return Review
	}
	return Allow
}

// A Set is the rules in force together.
type Set struct {
	Version int            `json:"version"`
	Note    string         `json:"note"`
	Rules   []Rule         `json:"rules"`
	Bars    map[Level]Bars `json:"bars"`
}

//go:embed house.json
var houseText []byte

// House is the set that a new house begins with.
func House() Set {
	s, err := ParseSet(houseText)
	if err != nil {
		panic(err) // part of the program
	}
	return s
}

// ParseSet reads a set and checks it.
func ParseSet(text []byte) (s Set, err error) {
	if err = json.Unmarshal(text, &s); err != nil {
		return Set{}, fmt.Errorf("%w: %w", ErrSet, err)
	}
	return s, s.Check()
}

// Check refuses a set that says less than it seems to: unknown codes, windows
// that memory does not reach, bars out of order.
func (s Set) Check() error {
	bad := func(i int, what string) error {
		return fmt.Errorf("rule %d: %s: %w", i+1, what, ErrSet)
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		n, known := needs[r.Code]
		switch {
		case !known:
			return bad(i, "unknown code "+string(r.Code))
		case r.Points < 1 || r.Points > 1000:
			return bad(i, "points are 1 to 1000")
		case n.count && (r.Count < 2 || r.Count > MaxTrail):
			return bad(i, fmt.Sprintf("count is 2 to %d", MaxTrail))
		case n.minutes && (r.Minutes < 1 || r.Minutes > 24*60):
			return bad(i, "minutes are 1 to 1440")
		case n.fen && r.Fen < 1 || r.Fen < 0:
			return bad(i, "fen are above zero")
		case n.bp && (r.BP < 1 || r.BP > 10_000):
			return bad(i, "bp are 1 to 10000")
		case r.From < 0 || r.From > 23 || r.To < 0 || r.To > 24 || n.hours && r.From == r.To:
			return bad(i, "hours are 0 to 23, and to 24")
		case n.km && (r.Km < 1 || r.Km > 20_000):
			return bad(i, "km are 1 to 20000")
		case r.Code == Distance && (r.Speed < 1 || r.Speed > 100_000):
			return bad(i, "speed is above zero, km/h")
		}
	}
	for _, l := range []Level{LowRisk, NormalRisk, HighRisk} {
		b, ok := s.Bars[l]
		if !ok || b.Review < 1 || b.Hold < b.Review || b.Refuse < b.Hold {
			return fmt.Errorf("bars of level %s are review, hold and refuse in rising order: %w", l, ErrSet)
		}
	}
	if len(s.Rules) > 100 {
		return fmt.Errorf("at most 100 rules: %w", ErrSet)
	}
	return nil
}

// need is which fields a code cannot do without.
type need struct{ count, minutes, fen, bp, hours, km bool }

var needs = map[Code]need{
	CardVelocity: {count: true, minutes: true}, ShopVelocity: {count: true, minutes: true}, TerminalVelocity: {count: true, minutes: true},
	OddHour: {fen: true, hours: true}, RoundAmounts: {count: true, minutes: true, fen: true}, RepeatedCard: {count: true, minutes: true},
	SplitSale: {count: true, minutes: true, fen: true, bp: true}, Distance: {km: true}, NewTerminal: {minutes: true, fen: true},
	MovedTerminal: {km: true}, CategoryMismatch: {count: true, minutes: true, fen: true}, CashOut: {count: true, minutes: true, fen: true},
	RefundAlone: {}, ManualEntry: {},
}

var codeWords = map[Code][2]string{
	CardVelocity: {"many uses of a card", "同卡频繁交易"}, ShopVelocity: {"many sales at a shop", "商户交易过频"}, TerminalVelocity: {"many sales at a terminal", "终端交易过频"},
	OddHour: {"an odd hour for the trade", "非营业时段大额"}, RoundAmounts: {"round amounts", "整额交易"}, RepeatedCard: {"one card again and again", "同卡同店重复"},
	SplitSale: {"a split sale", "拆单"}, Distance: {"two cities too fast", "异地过快"}, NewTerminal: {"a new terminal", "新终端大额"},
	MovedTerminal: {"a moved terminal", "移机"}, CategoryMismatch: {"amounts unlike the trade", "金额与商户类别不符"}, CashOut: {"cash-out", "疑似套现"},
	RefundAlone: {"a refund without a sale", "无原交易退货"}, ManualEntry: {"keyed in by hand", "手工输入卡号"},
}

// Words says the code for people, in Chinese if zh.
func (c Code) Words(zh bool) string { return pick(codeWords, c, zh) }

// Codes lists the codes in the order of pages.
var Codes = []Code{CardVelocity, ShopVelocity, TerminalVelocity, OddHour, RoundAmounts, RepeatedCard, SplitSale, Distance, NewTerminal, MovedTerminal,
	CategoryMismatch, CashOut, RefundAlone, ManualEntry}
