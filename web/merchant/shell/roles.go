package shell

import "slices"

// A Role is what a member of a merchant's staff is.
type Role string

// The roles.
const (
	Owner      Role = "owner"
	Manager    Role = "manager"
	Cashier    Role = "cashier"
	Accountant Role = "accountant"
)

// Roles lists every role, in the order pages show them.
var Roles = []Role{Owner, Manager, Cashier, Accountant}

var roleWords = map[Role][2]string{Owner: {"owner", "老板"}, Manager: {"manager", "店长"}, Cashier: {"cashier", "收银员"}, Accountant: {"accountant", "会计"}}

// Words says the role for people, in Chinese if zh.
func (r Role) Words(zh bool) string {
	if zh {
		return roleWords[r][1]
	}
	return roleWords[r][0]
}

// A Right is one thing a role may do.
type Right string

// The rights.
const (
	SeeSales     Right = "sales.see"
	GiveBack     Right = "sales.refund"
	SeeMoney     Right = "money.see"
	TakeMoney    Right = "money.take" // be paid at once
	SeeTerminals Right = "terminals.see"
	AskTerminals Right = "terminals.ask"
	SeeDisputes  Right = "disputes.see"
	Dispute      Right = "disputes.answer"
	SeeStaff     Right = "staff.see"
	ChangeStaff  Right = "staff.change"
)

// Rights lists every right, in the order pages show them.
var Rights = []Right{SeeSales, GiveBack, SeeMoney, TakeMoney, SeeTerminals, AskTerminals, SeeDisputes, Dispute, SeeStaff, ChangeStaff}

var rightWords = map[Right][2]string{SeeSales: {"see sales", "看交易"}, GiveBack: {"refund", "退款"}, SeeMoney: {"see settlement", "看结算"}, TakeMoney: {"be paid at once", "即时到账"},
	SeeTerminals: {"see terminals", "看终端"}, AskTerminals: {"have a terminal stopped", "申请停用终端"}, SeeDisputes: {"see disputes", "看争议"}, Dispute: {"answer disputes", "回复争议"},
	SeeStaff: {"see staff", "看员工"}, ChangeStaff: {"invite and remove staff", "邀请和移除员工"}}

// Words says the right for people, in Chinese if zh.
func (x Right) Words(zh bool) string {
	if zh {
		return rightWords[x][1]
	}
	return rightWords[x][0]
}

// rights is the one place that says what a role may do.
var rights = map[Role][]Right{
	Owner:      Rights,
	Manager:    {SeeSales, GiveBack, SeeMoney, SeeTerminals, AskTerminals, SeeDisputes, Dispute, SeeStaff},
	Cashier:    {SeeSales, GiveBack, SeeTerminals},
	Accountant: {SeeSales, SeeMoney, TakeMoney, SeeDisputes},
}

// refundMost is what a role may give back at once, fen; an owner is bound by
// the sale alone.
var refundMost = map[Role]int64{Cashier: 500_00, Manager: 20_000_00}

// May tells whether a role may do something.
func (r Role) May(x Right) bool { return slices.Contains(rights[r], x) }

// RefundMost is the most a role may give back at once, in fen; bounded is
// false when only the sale bounds it.
func (r Role) RefundMost() (fen int64, bounded bool) {
	if !r.May(GiveBack) {
		return 0, true
	}
	fen, bounded = refundMost[r]
	return fen, bounded
}
