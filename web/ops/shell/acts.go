package shell

import "koala/web"

// Act names what staff did.
type Act string

// The acts.
const (
	ActVerify       Act = "order.verify"
	ActCancel       Act = "order.cancel"
	ActRecover      Act = "order.recover"
	ActBlock        Act = "card.block"
	ActUnblock      Act = "card.unblock"
	ActDeny         Act = "deny.add"
	ActAllow        Act = "deny.remove"
	ActRepair       Act = "journey.repair"
	ActSettle       Act = "settlement.run"
	ActShut         Act = "customer.block"
	ActReopen       Act = "customer.unblock"
	ActAcknowledge  Act = "exception.close"
	ActPublish      Act = "deny.publish"
	ActSeal         Act = "books.seal"
	ActApprove      Act = "template.approve"
	ActRefuse       Act = "template.refuse"
	ActWithdraw     Act = "template.withdraw"
	ActRotate       Act = "key.rotate"
	ActFill         Act = "pool.fill"
	ActSuspend      Act = "band.suspend"
	ActRestore      Act = "band.restore"
	ActRefund       Act = "claim.refund"
	ActRetry        Act = "clearing.retry"
	ActRule         Act = "load.decide"
	ActDoubt        Act = "doubt.decide"
	ActDevice       Act = "device.state"
	ActRelease      Act = "release.publish"
	ActStage        Act = "release.stage"
	ActHalt         Act = "release.halt"
	ActPartner      Act = "partner.add"
	ActKey          Act = "partner.key"
	ActRevoke       Act = "partner.revoke"
	ActSpace        Act = "partner.space"
	ActPassages     Act = "passages.open"
	ActAdmit        Act = "grant.give"
	ActExpel        Act = "grant.take"
	ActRoute        Act = "route.set"
	ActRoutePropose Act = "route.propose"
	ActRouteUndo    Act = "route.undo"
	ActCall         Act = "referral.decide"
	ActCallBack     Act = "referral.withdraw"
	ActResend       Act = "queue.resend"
	ActTerminal     Act = "terminal.state"
	ActDemand       Act = "terminal.ask"
	ActStageEstate  Act = "terminals.stage"
	ActBatchDiffer  Act = "batch.decide"
	ActMerchant     Act = "merchant.decide"
	ActCheck        Act = "merchant.check"
	ActMerchantRisk Act = "merchant.risk"
	ActPropose      Act = "exception.propose"
	ActSign         Act = "exception.sign"
	ActReject       Act = "exception.reject"
	ActOffset       Act = "exception.offset"
	ActFile         Act = "file.brought"
	ActHold         Act = "payout.hold"
	ActFree         Act = "payout.release"
	ActFunding      Act = "funding.set"
	ActCase         Act = "risk.case"
	ActRules        Act = "rules.propose"
	ActRehearse     Act = "rules.replay"
	ActActivate     Act = "rules.activate"
	ActDispute      Act = "dispute.step"
	ActPack         Act = "dispute.pack"
	ActDisputeRule  Act = "dispute.rule"
	ActRecord       Act = "dispute.record"
	ActNotice       Act = "dispute.notice"
	ActTerms        Act = "terms.change"
	ActWish         Act = "wish.answer"
	ActAnswer       Act = "payout.answer"
	ActAgent        Act = "agent.change"
	ActDenial       Act = "denial.change"
	ActParameters   Act = "terminals.pack"
	ActLook         Act = "document.open"
)

// Acts lists them for the filter.
var Acts = []Act{ActVerify, ActCancel, ActRecover, ActBlock, ActUnblock, ActDeny, ActAllow, ActRepair, ActSettle, ActShut, ActReopen,
	ActAcknowledge, ActPublish, ActSeal, ActApprove, ActRefuse, ActWithdraw, ActRotate, ActFill, ActSuspend, ActRestore, ActRefund, ActRetry,
	ActRule, ActDoubt, ActDevice, ActRelease, ActStage, ActHalt, ActPartner, ActKey, ActRevoke, ActSpace,
	ActPassages, ActAdmit, ActExpel, ActRoutePropose, ActRoute, ActRouteUndo, ActCall, ActCallBack, ActResend, ActTerminal, ActDemand, ActStageEstate, ActBatchDiffer, ActMerchant, ActCheck, ActMerchantRisk, ActPropose, ActSign, ActReject, ActOffset, ActFile, ActHold, ActFree, ActFunding, ActCase, ActRules, ActRehearse, ActActivate, ActDispute, ActPack,
	ActDisputeRule, ActRecord, ActNotice, ActTerms, ActWish, ActAnswer, ActAgent, ActDenial, ActParameters, ActLook}

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
	ActRoute:        {ZH: "复核并更改路由", EN: "route changed"},
	ActRoutePropose: {ZH: "提议更改路由", EN: "route proposed"},
	ActRouteUndo:    {ZH: "撤回路由提议", EN: "route proposal taken back"},
	ActCall:         {ZH: "处理授权来电", EN: "call decided"},
	ActCallBack:     {ZH: "撤回语音授权码", EN: "voice code withdrawn"},
	ActResend:       {ZH: "立即重发", EN: "queue sent now"},
	ActTerminal:     {ZH: "更改终端状态", EN: "terminal changed"},
	ActDemand:       {ZH: "要求终端", EN: "terminal asked"},
	ActStageEstate:  {ZH: "分批下发终端参数", EN: "staged for terminals"},
	ActBatchDiffer:  {ZH: "裁定批次差异", EN: "batch difference decided"},
	ActMerchant:     {ZH: "审批商户", EN: "merchant decided"},
	ActCheck:        {ZH: "核验商户", EN: "merchant checked"},
	ActMerchantRisk: {ZH: "更改商户风险等级", EN: "merchant risk level changed"},
	ActPropose:      {ZH: "提出处理", EN: "exception proposed"},
	ActSign:         {ZH: "复核签字", EN: "exception signed"},
	ActReject:       {ZH: "驳回处理", EN: "proposal rejected"},
	ActOffset:       {ZH: "对冲差异", EN: "exceptions set off"},
	ActFile:         {ZH: "上传或重试文件", EN: "file brought or tried again"},
	ActHold:         {ZH: "暂停付款", EN: "payouts held"},
	ActFree:         {ZH: "解除暂停", EN: "hold released"},
	ActFunding:      {ZH: "更改垫资上限", EN: "funding limit changed"},
	ActCase:         {ZH: "处理风险案件", EN: "risk case moved"},
	ActRules:        {ZH: "提交规则", EN: "rules proposed"},
	ActRehearse:     {ZH: "回放规则", EN: "rules replayed"},
	ActActivate:     {ZH: "启用规则", EN: "rules put into force"},
	ActDispute:      {ZH: "推进争议", EN: "dispute moved"},
	ActPack:         {ZH: "汇集证据", EN: "evidence gathered"},
	ActDisputeRule:  {ZH: "争议规则", EN: "dispute rule"},
	ActRecord:       {ZH: "处理争议记录", EN: "dispute record decided"},
	ActNotice:       {ZH: "争议通知", EN: "dispute notice"},
	ActTerms:        {ZH: "结算条款", EN: "payee’s terms"},
	ActWish:         {ZH: "答复商户申请", EN: "shop’s wish answered"},
	ActAnswer:       {ZH: "代银行答复付款", EN: "answer for the bank"},
	ActAgent:        {ZH: "代理商", EN: "agent"},
	ActDenial:       {ZH: "商户黑名单", EN: "merchants’ deny list"},
	ActParameters:   {ZH: "终端参数包", EN: "terminals’ packs"},
	ActLook:         {ZH: "查看证件", EN: "document opened"},
}

// Told makes a timeline of the trail.
func Told(list []Deed) []web.Happening {
	var out []web.Happening
	for _, d := range list {
		out = append(out, web.Happening{At: d.At, Who: d.Who, What: d.Act.Words(), Detail: d.Why, Icon: "user", Tone: web.Info})
	}
	return out
}
