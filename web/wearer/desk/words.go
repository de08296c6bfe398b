package desk

import "koala/web"

// Text is a phrase in both languages.
type Text = web.Text

// words is the catalog of what the house's domains are called on a wearer's
// pages.
var words = struct {
	TransitIssuer, BankIssuer, LineFund, LineWithdraw, LineDeposit, LineDepositBack, LineRefund, LineLoad, LineMoved,
	BusLine, TraceTap, TraceBooked, TraceFixed, AccountFloat, AccountClearing, YourWallet, YourBank, Suspended,
	LimitOnce, LimitDay, LimitOffline, LimitPIN, LimitCredit, Source,
	GivesAmount, GivesPercent, GivesStamps, GivesThing, GivesOver, DoorNote, CanteenNote, TransitNote, ECashNote, DebitNote, CreditNote,
	DoorsOf, CarriedRides, CarriedFen, ClaimWaiting, ClaimDue, ClaimPaid, ClaimWithdrawn, NoClaim, ClaimRule, AccountShop Text
}{
	TransitIssuer:   Text{ZH: "北京一卡通（模拟发卡方）", EN: "Beijing Yikatong (simulated issuer)"},
	BankIssuer:      Text{ZH: "考拉银行（模拟发卡行）", EN: "koala bank (simulated issuer)"},
	LineFund:        Text{ZH: "从银行转入（模拟银行）", EN: "From my bank (simulated)"},
	LineWithdraw:    Text{ZH: "转出到银行（模拟银行）", EN: "To my bank (simulated)"},
	LineDeposit:     Text{ZH: "卡片押金", EN: "Card deposit"},
	LineDepositBack: Text{ZH: "押金退回", EN: "Deposit returned"},
	LineRefund:      Text{ZH: "退卡余额", EN: "Balance of a returned card"},
	LineLoad:        Text{ZH: "充值到卡", EN: "Top-up to a card"},
	LineMoved:       Text{ZH: "挂失卡的余额", EN: "Balance of a lost card"},
	BusLine:         Text{ZH: "公交 %[1]d 路", EN: "Bus %[1]d"},
	TraceTap:        Text{ZH: "在终端 %[1]s 刷卡，卡片签出 %[2]s", EN: "Tap at terminal %[1]s; the card signed %[2]s"},
	TraceBooked:     Text{ZH: "批次上送，TAC 验证通过，入账", EN: "The batch came in; the TAC verified; booked"},
	TraceFixed:      Text{ZH: "补登：%[1]s", EN: "Completed with %[1]s"},
	AccountFloat:    Text{ZH: "卡内资金", EN: "your card's float"},
	AccountClearing: Text{ZH: "交通清算", EN: "transit clearing"},
	AccountShop:     Text{ZH: "商户待结算款", EN: "what the shop is owed"},
	YourWallet:      Text{ZH: "考拉钱包", EN: "koala wallet"},
	YourBank:        Text{ZH: "我的银行账户", EN: "my bank account"},
	Suspended:       Text{ZH: "已挂失", EN: "suspended"},
	LimitOnce:       Text{ZH: "联机单笔", EN: "One online payment"},
	LimitDay:        Text{ZH: "联机单日", EN: "Online, a day"},
	LimitOffline:    Text{ZH: "脱机单笔", EN: "One offline payment"},
	LimitPIN:        Text{ZH: "超过此额要密码", EN: "A PIN above"},
	LimitCredit:     Text{ZH: "信用额度", EN: "Credit line"},
	Source:          Text{ZH: "依据", EN: "by"},
	GivesAmount:     Text{ZH: "立减 %[1]s", EN: "%[1]s off"},
	GivesPercent:    Text{ZH: "优惠 %[1]s%%", EN: "%[1]s%% off"},
	GivesStamps:     Text{ZH: "集满 %[1]d 个章换一份", EN: "one free for %[1]d stamps"},
	GivesThing:      Text{ZH: "兑换一份", EN: "one for free"},
	GivesOver:       Text{ZH: "%[1]s，满 %[2]s 可用", EN: "%[1]s from %[2]s"},
	DoorNote:        Text{ZH: "开门用，有效 %[1]d 天", EN: "opens doors for %[1]d days"},
	CanteenNote:     Text{ZH: "食堂刷卡，餐费从卡内扣", EN: "meals are paid out of the card"},
	TransitNote:     Text{ZH: "地铁、公交，脱机扣款", EN: "subway and buses, out of the card"},
	ECashNote:       Text{ZH: "小额脱机，最多存 %[1]s", EN: "small payments without a line; holds up to %[1]s"},
	DebitNote:       Text{ZH: "银行账户付款，另带电子现金", EN: "pays from your account, with e-cash beside it"},
	CreditNote:      Text{ZH: "先付后还，额度 %[1]s", EN: "pay later, up to %[1]s"},
	DoorsOf:         Text{ZH: "%[1]d 号园区的门", EN: "the doors of site %[1]d"},
	CarriedRides:    Text{ZH: "本月已乘 %[1]d 次", EN: "%[1]d rides of this month"},
	CarriedFen:      Text{ZH: "本月已付 %[1]s", EN: "%[1]s paid this month"},
	ClaimWaiting:    Text{ZH: "等待期", EN: "waiting"},
	ClaimDue:        Text{ZH: "可以退款", EN: "due"},
	ClaimPaid:       Text{ZH: "已退到钱包", EN: "paid to your wallet"},
	ClaimWithdrawn:  Text{ZH: "已解除挂失", EN: "withdrawn"},
	NoClaim:         Text{ZH: "卡内没有钱", EN: "holds no money"},
	ClaimRule:       Text{ZH: "挂失 %[1]d 天后退款：这之前的刷卡记录可能还在闸机里，要等它们都交上来。", EN: "Money is paid %[1]d days after the report: what was spent before it may still wait inside a gate, and has to come in first."},
}
