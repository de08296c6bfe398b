package door

import (
	"errors"
	"fmt"
	"time"

	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
)

// A Reason says why a tap came to its result. Passages keep it as a byte: a
// number once given keeps its meaning.
type Reason byte

// Reasons.
const (
	NoReason     Reason = 0
	Torn         Reason = 1  // the card left the field
	NoCard       Reason = 2  // not a DESFire card
	NoCredential Reason = 3  // no door application, or nothing readable in it
	NotGenuine   Reason = 4  // key or MAC wrong
	Denied       Reason = 5  // the card is on the plan's list of denied cards
	OtherSite    Reason = 6  // a credential of another site
	NotYetValid  Reason = 7  // before the first day
	Expired      Reason = 8  // after the last day
	NotThisDoor  Reason = 9  // no grant for this door
	NotNow       Reason = 10 // a grant, but not at this hour
	CardRefused  Reason = 11 // the card answered with an unexpected status
	NoPlan       Reason = 12 // the door has no plan yet
	LogFull      Reason = 13 // the log must be fetched first
)

var reasonWords = map[Reason]terminal.Words{
	Torn: {"the card left too early", "刷卡过快"}, NoCard: {"no access card", "非门禁卡"},
	NoCredential: {"no credential on the card", "卡内无门禁凭证"}, NotGenuine: {"the card is not genuine", "卡片校验失败"},
	Denied: {"the card is blocked", "卡已停用"}, OtherSite: {"card of another site", "非本单位卡"},
	NotYetValid: {"not valid yet", "凭证未生效"}, Expired: {"expired", "凭证已过期"},
	NotThisDoor: {"no access to this door", "无此门权限"}, NotNow: {"not at this hour", "非允许时段"},
	CardRefused: {"the card refuses", "卡片拒绝"}, NoPlan: {"no plan loaded", "无门禁计划"}, LogFull: {"log is full", "记录已满"},
}

// Words says the reason to the person at the door, in Chinese if zh.
func (r Reason) Words(zh bool) string { return reasonWords[r].In(zh) }

// An Outcome is everything a tap came to.
type Outcome struct {
	Result terminal.Result
	Reason Reason
	SW     iso7816.SW // what the card answered, when that was the reason
	Door   uint32
	Card   desfire.UID // zero when the card did not say
	Person uint64      // zero until the credential is proved
	At     time.Time
	Took   time.Duration // by the model
}

// InTime says whether the tap met the budget by the model.
func (o Outcome) InTime() bool { return o.Took <= Budget }

// Words tells the outcome in one line, in Chinese if zh.
func (o Outcome) Words(zh bool) string {
	return terminal.Line(o.Result.Words(zh), o.Reason.Words(zh), 0, zh)
}

// A stop is why reading ended.
type stop struct {
	reason Reason
	err    error
}

func (s *stop) Error() string { return fmt.Sprintf("door: %s: %v", s.reason.Words(false), s.err) }

func (s *stop) Unwrap() error { return s.err }

func because(r Reason, err error) error { return &stop{r, err} }

// fail writes into the outcome why reading ended. A card that left may come
// again.
func (o *Outcome) fail(err error) {
	o.Result = terminal.Refused
	var s *stop
	if errors.As(err, &s) {
		o.Reason = s.reason
	}
	var refused *desfire.Refusal
	switch {
	case errors.As(err, &refused):
		o.SW = refused.SW
	case errors.Is(err, desfire.ErrAuth), errors.Is(err, desfire.ErrMAC), errors.Is(err, desfire.ErrLength),
		errors.Is(err, desfire.ErrVersion):
	default: // no answer came
		o.Result, o.Reason = terminal.TryAgain, Torn
	}
}
