package terminal

import (
	"fmt"
	"time"

	"koala/fare"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// A Result is what a tap came to.
type Result byte

// Results.
const (
	Opened       Result = iota + 1 // the rider may pass
	Refused                        // the rider may not; Reason says why
	TryAgain                       // the card left too early: present it again
	OutOfService                   // the device takes no taps
)

// Words names the result, in Chinese if zh.
func (r Result) Words(zh bool) string {
	return map[Result]Words{
		Opened: {"please pass", "请通行"}, Refused: {"not accepted", "不能通行"},
		TryAgain: {"present the card again", "请重新刷卡"}, OutOfService: {"out of service", "暂停服务"},
	}[r].In(zh)
}

// A Reason says why a tap came to its result.
type Reason byte

// Reasons.
const (
	NoReason       Reason = iota
	Recovered             // the card had paid at the tap before; now it is proved
	AgainHere             // tapped here a moment ago: nothing more to pay
	Torn                  // the card left the field
	NoPurse               // no transit purse on the card
	CardBlocked           // application blocked, for now or for ever
	NotYetValid           // before the first day
	Expired               // after the last day
	OnDenyList            // on the deny list
	OtherCity             // the card is good in its own city only
	RecordLocked          // the rail record is locked or not valid
	RecordDamaged         // the rail record does not read: to the service desk
	NoMoney               // not enough money: top up
	MissingEntry          // leaves without having entered: repair first
	MissingExit           // enters without having left: repair first
	UnknownStation        // the tariff table does not know the entry station
	Sequence              // the card's counter is at its end: new card
	CardRefused           // the card answered with an unexpected status word
	WrongProof            // the card's MAC2 is wrong: not a genuine card
	SAMRefused            // the PSAM refused
	StoreFull             // no room for another debit
	NoTariff              // no tariff in force
	NothingToDo           // repair asked for, nothing to repair
)

// Words says the reason to the rider, in Chinese if zh.
func (r Reason) Words(zh bool) string { return reasonWords[r].In(zh) }

var reasonWords = map[Reason]Words{
	Recovered: {"paid at the tap before", "上次刷卡已扣款"}, AgainHere: {"already tapped here", "已刷卡，请勿重复刷卡"},
	Torn: {"the card left too early", "刷卡过快"}, NoPurse: {"no transit card", "非交通卡"},
	CardBlocked: {"card is blocked", "卡已锁定"}, NotYetValid: {"card is not valid yet", "卡未启用"},
	Expired: {"card has expired", "卡已过期"}, OnDenyList: {"card is not accepted", "卡已列入黑名单"},
	OtherCity: {"card of another city", "非互通卡"}, RecordLocked: {"transit function is locked", "交通功能已锁定"},
	RecordDamaged:  {"record unreadable, see the service desk", "记录异常，请到客服中心"},
	NoMoney:        {"not enough money, please top up", "余额不足，请充值"},
	MissingEntry:   {"no entry on the card, please repair", "无进站记录，请补登"},
	MissingExit:    {"last ride was not closed, please repair", "上次乘车无出站记录，请补登"},
	UnknownStation: {"entry station unknown, see the service desk", "进站站点未知，请到客服中心"},
	Sequence:       {"card is used up, please replace it", "卡交易次数已满，请换卡"},
	CardRefused:    {"the card refuses", "卡片拒绝交易"}, WrongProof: {"the card is not genuine", "卡片校验失败"},
	SAMRefused: {"gate fault", "设备故障"}, StoreFull: {"gate is full", "设备存储已满"},
	NoTariff: {"no tariff", "无票价数据"}, NothingToDo: {"nothing to repair", "无需补登"},
}

// An Outcome is everything a tap came to.
type Outcome struct {
	Result  Result
	Reason  Reason
	SW      iso7816.SW // what the card or PSAM answered, when that was the reason
	Deny    purse.DenyReason
	Card    purse.Number
	At      time.Time
	Fen     uint32  // paid by this tap
	Balance uint32  // of the card now, fen
	Stored  *Stored // the debit, when one was collected
	Lines   []fare.Line
	Took    time.Duration // by the model
}

// InTime says whether the tap met the budget by the model.
func (o Outcome) InTime() bool { return o.Took <= Budget }

// Words tells the outcome in one line, in Chinese if zh.
func (o Outcome) Words(zh bool) string {
	return Line(o.Result.Words(zh), o.Reason.Words(zh), o.SW, zh)
}

// Display is what the device shows: result, fare and balance.
func (o Outcome) Display(zh bool) []string {
	lines := []string{o.Words(zh)}
	money := map[bool][2]string{false: {"fare %s", "balance %s"}, true: {"票价 %s 元", "余额 %s 元"}}[zh]
	if o.Result == Opened && o.Fen > 0 {
		lines = append(lines, fmt.Sprintf(money[0], purse.Yuan(o.Fen)))
	}
	if o.Card != "" && o.Result != TryAgain {
		lines = append(lines, fmt.Sprintf(money[1], purse.Yuan(o.Balance)))
	}
	return lines
}
