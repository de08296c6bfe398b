package shell

// An Act names what staff of a merchant did.
type Act string

// The acts.
const (
	ActInvite  Act = "staff.invite"
	ActJoin    Act = "staff.join"
	ActPromote Act = "staff.role"
	ActLet     Act = "staff.remove"
	ActRefund  Act = "sale.refund"
	ActPayNow  Act = "payout.now"
	ActBill    Act = "bill.make"
	ActStop    Act = "terminal.ask_stop"
	ActAnswer  Act = "dispute.answer"
	ActPaper   Act = "dispute.document"
	ActAccept  Act = "dispute.accept"
	ActApply   Act = "merchant.apply"
	ActPapers  Act = "merchant.document"
)

// Acts lists them.
var Acts = []Act{ActInvite, ActJoin, ActPromote, ActLet, ActRefund, ActPayNow, ActBill, ActStop, ActAnswer, ActPaper, ActAccept, ActApply, ActPapers}

var actWords = map[Act][2]string{ActInvite: {"invited somebody", "邀请员工"}, ActJoin: {"joined", "加入"}, ActPromote: {"changed a role", "更改角色"}, ActLet: {"removed somebody", "移除员工"},
	ActRefund: {"gave money back", "退款"}, ActPayNow: {"was paid at once", "即时到账"}, ActBill: {"had a bill made", "生成账单"}, ActStop: {"asked to stop a terminal", "申请停用终端"},
	ActAnswer: {"answered a dispute", "回复争议"}, ActPaper: {"added a document", "补充凭证"}, ActAccept: {"accepted a dispute", "接受争议"}, ActApply: {"applied", "提交申请"},
	ActPapers: {"brought papers", "补交资料"}}

// Words says the act for people, in Chinese if zh.
func (a Act) Words(zh bool) string {
	if zh {
		return actWords[a][1]
	}
	return actWords[a][0]
}
