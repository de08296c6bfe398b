package coupon

import (
	"errors"
	"fmt"
	"time"

	"koala/money"
	"koala/spec/coupon"
	"koala/spec/iso7816"
	"koala/terminal"
)

// A Result is what a visit came to.
type Result byte

// Results.
const (
	Redeemed     Result = iota + 1 // the order was carried out
	Refused                        // Reason says why
	TryAgain                       // the card left too early: present it again
	OutOfService                   // the desk takes no cards
)

// Words names the result, in Chinese if zh.
func (r Result) Words(zh bool) string {
	return map[Result]terminal.Words{
		Redeemed: {"done, thank you", "已核销，谢谢"}, Refused: {"not accepted", "不能使用"},
		TryAgain: {"present the card again", "请重新刷卡"}, OutOfService: {"out of service", "暂停服务"},
	}[r].In(zh)
}

// A Reason says why.
type Reason byte

// Reasons.
const (
	NoReason      Reason = iota
	Recovered            // it had been done at the visit before; now it is known
	Torn                 // the card left the field
	NoCard               // no discount card
	NoCoupon             // no coupon of this shop, or not the one named
	OtherShop            // a coupon of another merchant
	NotToday             // outside its days
	TooLittle            // below the coupon's minimum spend
	StampsMissing        // not enough stamps yet
	StampsFull           // the stamp card is full: redeem it
	UsedUp               // no use left
	NotGenuine           // the card's proof is wrong
	CardRefused          // the card answered with an unexpected status word
	StoreFull            // no room for another redemption
)

// Words says the reason to the customer, in Chinese if zh.
func (r Reason) Words(zh bool) string { return reasonWords[r].In(zh) }

var reasonWords = map[Reason]terminal.Words{
	Recovered: {"done at the visit before", "上次已核销"}, Torn: {"the card left too early", "刷卡过快"},
	NoCard: {"no discount card", "无优惠卡"}, NoCoupon: {"no coupon for this shop", "无本店优惠券"},
	OtherShop: {"a coupon of another shop", "非本店优惠券"}, NotToday: {"not valid today", "不在有效期内"},
	TooLittle: {"below the minimum spend", "未达到最低消费"}, StampsMissing: {"stamps are missing", "集章不足"},
	StampsFull: {"the stamp card is full", "集章已满"}, UsedUp: {"used up", "已用完"},
	NotGenuine: {"the card is not genuine", "卡片校验失败"}, CardRefused: {"the card refuses", "卡片拒绝交易"},
	StoreFull: {"desk is full", "设备存储已满"},
}

// An Outcome is everything a visit came to.
type Outcome struct {
	Result     Result
	Reason     Reason
	SW         iso7816.SW // what the card answered, when that was the reason
	Op         coupon.Op
	Holder     coupon.ID // of the card; zero when it did not say
	At         time.Time
	Coupon     coupon.Coupon // as it is now; zero after Recovered
	Redemption *coupon.Redemption
	Took       time.Duration // by the model
}

// InTime says whether the visit met the budget by the model.
func (o Outcome) InTime() bool { return o.Took <= Budget }

// Words tells the outcome in one line, in Chinese if zh.
func (o Outcome) Words(zh bool) string {
	return terminal.Line(o.Result.Words(zh), o.Reason.Words(zh), 0, zh)
}

// Display is what the desk shows: result, what is taken off, what is left.
func (o Outcome) Display(zh bool) []string {
	lines := []string{o.Words(zh)}
	add := func(w terminal.Words, args ...any) { lines = append(lines, fmt.Sprintf(w.In(zh), args...)) }
	if o.Redemption != nil && o.Redemption.Reduction > 0 {
		add(terminal.Words{"off %s", "优惠 %s 元"}, money.Fen(int64(o.Redemption.Reduction)).Yuan())
	}
	switch c := o.Coupon; {
	case o.Result != Redeemed || c == (coupon.Coupon{}):
	case o.Op == coupon.GiveStamp:
		add(terminal.Words{"stamps %d of %d", "集章 %d/%d"}, c.Stamps, c.Needed)
	default:
		add(terminal.Words{"uses left %d", "剩余 %d 次"}, c.Uses)
	}
	return lines
}

// A stop ends a visit: an outcome that travels as an error inside the desk.
type stop struct {
	result Result
	reason Reason
	sw     iso7816.SW
}

func (s *stop) Error() string { return "coupon: " + s.reason.Words(false) }

func refuse(r Reason) error { return &stop{result: Refused, reason: r} }

// because is the stop for a failed exchange with the card. When no answer came
// the card left.
func because(r Reason, err error) error {
	var refused coupon.Refusal
	switch {
	case errors.As(err, &refused):
		if known := reasonOf(refused.SW); known != CardRefused {
			return &stop{Refused, known, 0}
		}
		return &stop{Refused, r, refused.SW}
	case errors.Is(err, coupon.ErrLength), errors.Is(err, coupon.ErrCoupon), errors.Is(err, coupon.ErrDiffers):
		return &stop{result: Refused, reason: r}
	}
	return &stop{result: TryAgain, reason: Torn}
}
