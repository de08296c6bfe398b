package lost

import "koala/web"

// words is the catalog of these pages.
var words = struct {
	AllMoved, Band, BandLead, Card, Cards, Claim, Customer, Customers, DidRefund, DidRestore, DidSuspend, Due, Ended, Found, InUse, Kind, Lead,
	MayPay, Moved, NothingLost, Paid, Proven, Refund, RefundBody, Restore, RestoreBody, RuleLine, Since, State, Suspend, SuspendBody, Suspended,
	Title, Waits, WentTo, WhyWait web.Text
}{
	AllMoved:    web.Text{ZH: "已全部换发", EN: "moved to another band"},
	Band:        web.Text{ZH: "手环", EN: "Band"},
	BandLead:    web.Text{ZH: "挂失、找回、退款或换到新手环。", EN: "Suspended, found again, paid, or moved to another band."},
	Card:        web.Text{ZH: "卡", EN: "Card"},
	Cards:       web.Text{ZH: "卡与手环", EN: "Cards and bands"},
	Claim:       web.Text{ZH: "退款", EN: "Claim"},
	Customer:    web.Text{ZH: "客户", EN: "Customer"},
	Customers:   web.Text{ZH: "客户", EN: "Customers"},
	DidRefund:   web.Text{ZH: "已退到钱包。", EN: "Paid to the wallet."},
	DidRestore:  web.Text{ZH: "已解除挂失。", EN: "Restored."},
	DidSuspend:  web.Text{ZH: "已挂失，所有卡停用。", EN: "Suspended, with all its cards."},
	Due:         web.Text{ZH: "可退时间", EN: "May be paid from"},
	Ended:       web.Text{ZH: "已了结", EN: "ended"},
	Found:       web.Text{ZH: "已找回", EN: "found again"},
	InUse:       web.Text{ZH: "使用中", EN: "in use"},
	Kind:        web.Text{ZH: "种类", EN: "Kind"},
	Lead:        web.Text{ZH: "挂失的手环：哪些卡停用，钱何时可退，哪些卡已换到新手环。", EN: "Bands reported lost: what is suspended, when its money may be paid, what went on to another band."},
	MayPay:      web.Text{ZH: "可以退款", EN: "may be paid"},
	Moved:       web.Text{ZH: "已换发", EN: "Moved"},
	NothingLost: web.Text{ZH: "没有挂失的手环。", EN: "No band is lost."},
	Paid:        web.Text{ZH: "已退 %[1]s", EN: "paid %[1]s"},
	Proven:      web.Text{ZH: "卡片证明的余额", EN: "Proven balance"},
	Refund:      web.Text{ZH: "退款到钱包", EN: "Pay to the wallet"},
	RefundBody:  web.Text{ZH: "把卡片最后证明的余额和押金退到持卡人钱包，这张卡永久停用。", EN: "The balance that the card proved last goes to its holder's wallet with the deposit, and the card ends for ever."},
	Restore:     web.Text{ZH: "找回，解除挂失", EN: "Found: restore"},
	RestoreBody: web.Text{ZH: "没有换发的卡恢复使用，并移出拒绝名单；已换发的不变。", EN: "Its cards work again and leave the lists; those that another card took over stay as they are."},
	RuleLine:    web.Text{ZH: "%[1]s：挂失后等待 %[2]d 天（%[3]s）", EN: "%[1]s waits %[2]d days from its loss (%[3]s)"},
	Since:       web.Text{ZH: "挂失时间", EN: "Since"},
	State:       web.Text{ZH: "状态", EN: "State"},
	Suspend:     web.Text{ZH: "挂失手环", EN: "Suspend the band"},
	SuspendBody: web.Text{ZH: "手环里所有的卡立即停用，并进入闸机、终端和门禁的拒绝名单。卡里的钱从现在起算等待期。", EN: "All cards of the band are refused everywhere from now on and go onto the lists of gates, tills and doors. The waiting time for their money begins."},
	Suspended:   web.Text{ZH: "已挂失", EN: "suspended"},
	Title:       web.Text{ZH: "挂失", EN: "Lost bands"},
	Waits:       web.Text{ZH: "等待期", EN: "waiting"},
	WentTo:      web.Text{ZH: "换发为", EN: "Went on as"},
	WhyWait:     web.Text{ZH: "为什么要等", EN: "Why it waits"},
}
