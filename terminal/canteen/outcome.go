package canteen

import (
	"errors"
	"fmt"
	"time"

	"koala/money"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
)

// A Result is what a visit came to.
type Result byte

// Results.
const (
	Served       Result = iota + 1 // paid, given back or read
	Refused                        // Reason says why
	TryAgain                       // the card left too early: present it again
	OutOfService                   // the till takes no cards
)

// Words names the result, in Chinese if zh.
func (r Result) Words(zh bool) string {
	return map[Result]terminal.Words{
		Served: {"thank you", "谢谢"}, Refused: {"not accepted", "不能消费"},
		TryAgain: {"present the card again", "请重新刷卡"}, OutOfService: {"out of service", "暂停服务"},
	}[r].In(zh)
}

// A Reason says why.
type Reason byte

// Reasons.
const (
	NoReason    Reason = iota
	Recovered          // the card had paid at the tap before; now it is known
	Torn               // the card left the field
	NoCard             // not a DESFire card
	NoPurse            // no canteen application on it
	NotGenuine         // the key is wrong
	Denied             // on the menu's list of denied cards
	NoMoney            // not enough: top up
	BadAmount          // nothing, too much, or more than was paid
	NoPurchase         // nothing of this till to give back
	CardRefused        // the card answered with an unexpected status
	StoreFull          // no room for another sale
	NoMenu             // no menu loaded
)

// Words says the reason to the customer, in Chinese if zh.
func (r Reason) Words(zh bool) string { return reasonWords[r].In(zh) }

var reasonWords = map[Reason]terminal.Words{
	Recovered: {"paid at the tap before", "上次刷卡已扣款"}, Torn: {"the card left too early", "刷卡过快"},
	NoCard: {"not a canteen card", "非餐卡"}, NoPurse: {"no canteen money on the card", "卡内无餐卡应用"},
	NotGenuine: {"the card is not genuine", "卡片校验失败"}, Denied: {"the card is blocked", "卡已停用"},
	NoMoney: {"not enough money, please top up", "余额不足，请充值"}, BadAmount: {"wrong amount", "金额错误"},
	NoPurchase: {"nothing to give back", "无可退消费"}, CardRefused: {"the card refuses", "卡片拒绝交易"},
	StoreFull: {"till is full", "设备存储已满"}, NoMenu: {"no menu", "无菜单数据"},
}

// An Outcome is everything a visit came to.
type Outcome struct {
	Result  Result
	Reason  Reason
	SW      iso7816.SW // what the card answered, when that was the reason
	Card    desfire.UID
	At      time.Time
	Fen     uint32 // moved on the card
	Subsidy uint32 // paid by the employer
	Balance int32  // of the card, fen
	Sale    *desfire.Sale
	Took    time.Duration // by the model
}

// InTime says whether the visit met the budget by the model.
func (o Outcome) InTime() bool { return o.Took <= Budget }

// Words tells the outcome in one line, in Chinese if zh.
func (o Outcome) Words(zh bool) string {
	return terminal.Line(o.Result.Words(zh), o.Reason.Words(zh), 0, zh)
}

// Display is what the till shows: result, amounts and balance.
func (o Outcome) Display(zh bool) []string {
	lines := []string{o.Words(zh)}
	add := func(w terminal.Words, fen int64) { lines = append(lines, fmt.Sprintf(w.In(zh), money.Fen(fen).Yuan())) }
	if o.Result == Served && o.Fen > 0 {
		add(terminal.Words{"amount %s", "金额 %s 元"}, int64(o.Fen))
	}
	if o.Subsidy > 0 {
		add(terminal.Words{"paid by the employer %s", "餐补 %s 元"}, int64(o.Subsidy))
	}
	if o.Card != (desfire.UID{}) && o.Result != TryAgain {
		add(terminal.Words{"balance %s", "余额 %s 元"}, int64(o.Balance))
	}
	return lines
}

// A stop ends a visit: an outcome that travels as an error inside the till.
type stop struct {
	result Result
	reason Reason
	sw     iso7816.SW
}

func (s *stop) Error() string { return "canteen: " + s.reason.Words(false) }

func refuse(r Reason) error { return &stop{result: Refused, reason: r} }

// because is the stop for a failed exchange with the card; nil for nil. When no
// answer came the card left.
func because(r Reason, err error) error {
	var refused *desfire.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return &stop{Refused, r, refused.SW}
	case r == Torn, errors.Is(err, iso7816.ErrTorn):
		return &stop{TryAgain, Torn, 0}
	case errors.Is(err, desfire.ErrAuth), errors.Is(err, desfire.ErrMAC), errors.Is(err, desfire.ErrLength):
		return &stop{Refused, r, 0}
	}
	return &stop{TryAgain, Torn, 0} // the reader failed
}
