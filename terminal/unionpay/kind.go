package unionpay

import (
	"koala/terminal"
)

// A Kind is what a transaction is, for the terminal's menu. What it is on the
// wire is one row of a table.
type Kind byte

// The kinds.
const (
	NoKind Kind = iota
	Balance
	Sale
	SaleVoid
	Refund
	PreAuth
	PreAuthCancel
	Completion
	CompletionCancel
	CompletionAdvice
	OfflineSale
	Adjust
	Tip
	Instalment
	InstalmentVoid
	Points
	PointsVoid
	PhoneSale
	PhoneVoid
	Reservation
	ReservationCancel
	TapSale
	Load
	LoadOther
	LoadCash
	LoadCashUndo
	CashRefund
	kinds
)

// A flow is how a kind travels.
type flow byte

const (
	query  flow = iota // nothing is kept: no answer, no harm
	ask                // the host decides; without an answer it is reversed
	advise             // decided already or not to be reversed: repeated with the same trace until it is answered
)

// A side is what an approved transaction is to the batch's totals.
type side byte

const (
	neither  side = iota
	debit         // the shop gets money
	credit        // the shop gives money
	replaces      // the original counts with this amount
)

// A row is a kind on the wire.
type row struct {
	mti, process, condition, code string // F0, F3, F25, F60.1
	flow                          flow
	side                          side
	pin                           bool   // the cardholder is asked for the PIN
	of                            []Kind // what it takes back, uses up or changes; nil: nothing
	words                         terminal.Words
}

// table is section 6 of docs/terminal-protocol.md.
var table = [kinds]row{
	Balance:           {"0200", "310000", "00", "01", query, neither, true, nil, terminal.Words{"balance", "余额查询"}},
	Sale:              {"0200", "000000", "00", "22", ask, debit, true, nil, terminal.Words{"sale", "消费"}},
	SaleVoid:          {"0200", "200000", "00", "23", ask, credit, false, []Kind{Sale}, terminal.Words{"void", "消费撤销"}},
	Refund:            {"0220", "200000", "00", "25", advise, credit, false, nil, terminal.Words{"refund", "退货"}},
	PreAuth:           {"0100", "030000", "06", "10", ask, neither, true, nil, terminal.Words{"pre-authorisation", "预授权"}},
	PreAuthCancel:     {"0100", "200000", "06", "11", ask, neither, false, []Kind{PreAuth}, terminal.Words{"pre-authorisation cancel", "预授权撤销"}},
	Completion:        {"0200", "000000", "06", "20", ask, debit, false, []Kind{PreAuth}, terminal.Words{"completion", "预授权完成"}},
	CompletionCancel:  {"0200", "200000", "06", "21", ask, credit, false, []Kind{Completion}, terminal.Words{"completion cancel", "预授权完成撤销"}},
	CompletionAdvice:  {"0220", "000000", "06", "24", advise, debit, false, []Kind{PreAuth}, terminal.Words{"completion advice", "预授权完成通知"}},
	OfflineSale:       {"0220", "000000", "00", "30", advise, debit, false, nil, terminal.Words{"offline sale", "离线消费"}},
	Adjust:            {"0220", "000000", "00", "32", advise, replaces, false, []Kind{OfflineSale}, terminal.Words{"adjustment", "结算调整"}},
	Tip:               {"0220", "000000", "00", "34", advise, replaces, false, []Kind{Sale, OfflineSale}, terminal.Words{"tip", "小费"}},
	Instalment:        {"0200", "000000", "64", "22", ask, debit, true, nil, terminal.Words{"instalment sale", "分期消费"}},
	InstalmentVoid:    {"0200", "200000", "64", "23", ask, credit, false, []Kind{Instalment}, terminal.Words{"instalment void", "分期消费撤销"}},
	Points:            {"0200", "000000", "65", "22", ask, debit, true, nil, terminal.Words{"points sale", "积分消费"}},
	PointsVoid:        {"0200", "200000", "65", "23", ask, credit, false, []Kind{Points}, terminal.Words{"points void", "积分消费撤销"}},
	PhoneSale:         {"0200", "000000", "08", "22", ask, debit, false, nil, terminal.Words{"phone order", "电话订购"}},
	PhoneVoid:         {"0200", "200000", "18", "23", ask, credit, false, []Kind{PhoneSale}, terminal.Words{"phone order void", "电话订购撤销"}},
	Reservation:       {"0200", "000000", "67", "54", ask, debit, false, nil, terminal.Words{"reservation", "预约消费"}},
	ReservationCancel: {"0200", "200000", "67", "53", ask, credit, false, []Kind{Reservation}, terminal.Words{"reservation cancel", "预约消费撤销"}},
	TapSale:           {"0200", "000000", "00", "36", advise, debit, false, nil, terminal.Words{"e-cash sale", "电子现金消费"}},
	Load:              {"0200", "600000", "91", "45", ask, neither, true, nil, terminal.Words{"e-cash load", "指定账户圈存"}},
	LoadOther:         {"0200", "620000", "91", "47", ask, neither, true, nil, terminal.Words{"e-cash load from another account", "非指定账户圈存"}},
	LoadCash:          {"0200", "630000", "91", "46", ask, credit, false, nil, terminal.Words{"e-cash load with cash", "现金充值"}},
	LoadCashUndo:      {"0200", "170000", "91", "51", ask, debit, false, []Kind{LoadCash}, terminal.Words{"undo of a load with cash", "现金充值撤销"}},
	CashRefund:        {"0220", "200000", "00", "27", advise, credit, false, nil, terminal.Words{"e-cash refund", "电子现金退货"}},
}

// Words names the kind, in Chinese if zh.
func (k Kind) Words(zh bool) string {
	if k >= kinds {
		k = NoKind
	}
	return table[k].words.In(zh)
}

// String is Words in English.
func (k Kind) String() string { return k.Words(false) }

// load says whether the kind puts e-cash on the card.
func (k Kind) load() bool { return k == Load || k == LoadOther || k == LoadCash }
