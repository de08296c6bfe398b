package shell

import "koala/web"

// words is the catalog of the frame. Field terms follow docs/glossary.md.
var words = struct {
	AgoDays, AgoHours, AgoMinutes, Calendar, Change, Disputes, Fees, GroupMoney, GroupSales, GroupShop, JustNow, Limits, Never, Payouts, Refunds, Sales, Shop, Staff, Statements, Status, Terminals, Today, YourRole web.Text
}{
	AgoDays:    web.Text{ZH: "%[1]d 天前", EN: "%[1]d days ago"},
	AgoHours:   web.Text{ZH: "%[1]d 小时前", EN: "%[1]d h ago"},
	AgoMinutes: web.Text{ZH: "%[1]d 分钟前", EN: "%[1]d min ago"},
	Calendar:   web.Text{ZH: "结算日历", EN: "Settlement"},
	Change:     web.Text{ZH: "切换", EN: "Show"},
	Disputes:   web.Text{ZH: "争议", EN: "Disputes"},
	Fees:       web.Text{ZH: "手续费", EN: "Fees"},
	GroupMoney: web.Text{ZH: "钱", EN: "Money"},
	GroupSales: web.Text{ZH: "收款", EN: "Selling"},
	GroupShop:  web.Text{ZH: "门店", EN: "Your shop"},
	JustNow:    web.Text{ZH: "刚刚", EN: "just now"},
	Limits:     web.Text{ZH: "限额与经营", EN: "Limits"},
	Never:      web.Text{ZH: "从未", EN: "never"},
	Payouts:    web.Text{ZH: "到账", EN: "Payouts"},
	Refunds:    web.Text{ZH: "退款", EN: "Refunds"},
	Sales:      web.Text{ZH: "交易", EN: "Sales"},
	Shop:       web.Text{ZH: "门店", EN: "Shop"},
	Staff:      web.Text{ZH: "员工", EN: "Staff"},
	Statements: web.Text{ZH: "对账单", EN: "Statements"},
	Status:     web.Text{ZH: "签约状态", EN: "Contract"},
	Terminals:  web.Text{ZH: "终端", EN: "Terminals"},
	Today:      web.Text{ZH: "今日", EN: "Today"},
	YourRole:   web.Text{ZH: "您是%[1]s", EN: "you are %[1]s here"},
}
