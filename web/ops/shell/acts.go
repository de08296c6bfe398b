package shell

import "koala/web"

// Act names what staff did.
type Act string

// The acts.
const (
	ActVerify      Act = "order.verify"
	ActCancel      Act = "order.cancel"
	ActRecover     Act = "order.recover"
	ActBlock       Act = "card.block"
	ActUnblock     Act = "card.unblock"
	ActDeny        Act = "deny.add"
	ActAllow       Act = "deny.remove"
	ActRepair      Act = "journey.repair"
	ActSettle      Act = "settlement.run"
	ActShut        Act = "customer.block"
	ActReopen      Act = "customer.unblock"
	ActAcknowledge Act = "exception.close"
	ActPublish     Act = "deny.publish"
	ActSeal        Act = "books.seal"
	ActApprove     Act = "template.approve"
	ActRefuse      Act = "template.refuse"
	ActWithdraw    Act = "template.withdraw"
	ActRotate      Act = "key.rotate"
	ActFill        Act = "pool.fill"
	ActSuspend     Act = "band.suspend"
	ActRestore     Act = "band.restore"
	ActRefund      Act = "claim.refund"
	ActRetry       Act = "clearing.retry"
	ActRule        Act = "load.decide"
	ActDoubt       Act = "doubt.decide"
	ActDevice      Act = "device.state"
	ActRelease     Act = "release.publish"
	ActStage       Act = "release.stage"
	ActHalt        Act = "release.halt"
	ActPartner     Act = "partner.add"
	ActKey         Act = "partner.key"
	ActRevoke      Act = "partner.revoke"
	ActSpace       Act = "partner.space"
	ActPassages    Act = "passages.open"
	ActAdmit       Act = "grant.give"
	ActExpel       Act = "grant.take"
)

// Acts lists them for the filter.
var Acts = []Act{ActVerify, ActCancel, ActRecover, ActBlock, ActUnblock, ActDeny, ActAllow, ActRepair, ActSettle, ActShut, ActReopen,
	ActAcknowledge, ActPublish, ActSeal, ActApprove, ActRefuse, ActWithdraw, ActRotate, ActFill, ActSuspend, ActRestore, ActRefund, ActRetry,
	ActRule, ActDoubt, ActDevice, ActRelease, ActStage, ActHalt, ActPartner, ActKey, ActRevoke, ActSpace,
	ActPassages, ActAdmit, ActExpel}

// Words says what staff did.
func (a Act) Words() web.Text { return deedWords[a] }

var deedWords = map[Act]web.Text{
	ActVerify: {ZH: "核实订单", EN: "order verified"}, ActCancel: {ZH: "取消订单", EN: "order cancelled"}, ActRecover: {ZH: "人工决定订单", EN: "order decided"},
	ActBlock: {ZH: "锁卡", EN: "card blocked"}, ActUnblock: {ZH: "解锁卡", EN: "card unblocked"}, ActDeny: {ZH: "加入黑名单", EN: "card denied"},
	ActAllow: {ZH: "移出黑名单", EN: "card allowed"}, ActPublish: {ZH: "发布黑名单", EN: "deny list published"}, ActRepair: {ZH: "补登行程", EN: "journey repaired"},
	ActSettle: {ZH: "执行结算", EN: "settlement run"}, ActShut: {ZH: "停用登录", EN: "login stopped"}, ActReopen: {ZH: "恢复登录", EN: "login opened"},
	ActAcknowledge: {ZH: "处理异常", EN: "exception closed"}, ActSeal: {ZH: "封账", EN: "day sealed"},
	ActApprove: {ZH: "批准卡片模板", EN: "template approved"}, ActRefuse: {ZH: "退回卡片模板", EN: "template refused"}, ActWithdraw: {ZH: "下架卡片模板", EN: "template withdrawn"},
	ActRotate: {ZH: "轮换密钥", EN: "key rotated"}, ActFill: {ZH: "补充密钥池", EN: "pool filled"},
	ActSuspend: {ZH: "挂失手环", EN: "band suspended"}, ActRestore: {ZH: "解除挂失", EN: "band restored"}, ActRefund: {ZH: "挂失退款", EN: "claim paid"},
	ActRetry: {ZH: "重试清算记录", EN: "record tried again"}, ActRule: {ZH: "裁定圈存", EN: "load decided"}, ActDoubt: {ZH: "裁定待核实交易", EN: "sale in doubt decided"}, ActDevice: {ZH: "更改设备状态", EN: "device changed"},
	ActRelease: {ZH: "发布固件", EN: "release published"}, ActStage: {ZH: "扩大固件推送", EN: "release widened"}, ActHalt: {ZH: "中止固件", EN: "release halted"},
	ActPartner: {ZH: "登记合作方", EN: "partner added"}, ActKey: {ZH: "签发接口密钥", EN: "API key issued"}, ActRevoke: {ZH: "吊销接口密钥", EN: "API key revoked"},
	ActSpace:    {ZH: "更改合作方空间", EN: "partner's space changed"},
	ActPassages: {ZH: "打开通行记录", EN: "passages opened"}, ActAdmit: {ZH: "授予通行", EN: "access given"}, ActExpel: {ZH: "取消通行", EN: "access taken away"},
}

// Told makes a timeline of the trail.
func Told(list []Deed) []web.Happening {
	var out []web.Happening
	for _, d := range list {
		out = append(out, web.Happening{At: d.At, Who: d.Who, What: d.Act.Words(), Detail: d.Why, Icon: "user", Tone: web.Info})
	}
	return out
}
