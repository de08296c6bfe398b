package shell

import "koala/web"

// words is the catalog of the frame. Field terms follow docs/glossary.md.
var words = struct {
	AgoDays, AgoHours, AgoMinutes, AgoSeconds, Amount, Audit, Back, Books, Cards, Clear, Customer, Deny, ECash, Exceptions, Filter, Firmware, Gates, Issuers, Journeys, Keys, Never, Orders, Overview, Partners, Sections, Settlement, Shops, Trail, WhyAsk, WhyHint web.Text
}{
	AgoDays:    web.Text{ZH: "%[1]d 天前", EN: "%[1]d days ago"},
	AgoHours:   web.Text{ZH: "%[1]d 小时前", EN: "%[1]d h ago"},
	AgoMinutes: web.Text{ZH: "%[1]d 分钟前", EN: "%[1]d min ago"},
	AgoSeconds: web.Text{ZH: "%[1]d 秒前", EN: "%[1]d s ago"},
	Amount:     web.Text{ZH: "金额", EN: "Amount"},
	Audit:      web.Text{ZH: "操作日志", EN: "Audit trail"},
	Back:       web.Text{ZH: "返回", EN: "Back"},
	Books:      web.Text{ZH: "账本", EN: "Books"},
	Cards:      web.Text{ZH: "卡与手环", EN: "Cards and bands"},
	Clear:      web.Text{ZH: "清除", EN: "Clear"},
	Customer:   web.Text{ZH: "客户", EN: "Customer"},
	Deny:       web.Text{ZH: "黑名单", EN: "Deny list"},
	ECash:      web.Text{ZH: "清算台", EN: "Clearing"},
	Exceptions: web.Text{ZH: "异常与补登", EN: "Exceptions"},
	Filter:     web.Text{ZH: "筛选", EN: "Filter"},
	Firmware:   web.Text{ZH: "固件", EN: "Firmware"},
	Gates:      web.Text{ZH: "闸机与公交", EN: "Gates and buses"},
	Issuers:    web.Text{ZH: "发卡与模板", EN: "Issuers"},
	Journeys:   web.Text{ZH: "行程", EN: "Journeys"},
	Keys:       web.Text{ZH: "密钥", EN: "Keys"},
	Never:      web.Text{ZH: "从未", EN: "never"},
	Orders:     web.Text{ZH: "空中订单", EN: "Over-the-air orders"},
	Overview:   web.Text{ZH: "总览", EN: "Overview"},
	Partners:   web.Text{ZH: "合作方", EN: "Partners"},
	Sections:   web.Text{ZH: "分页", EN: "Sections"},
	Shops:      web.Text{ZH: "商户与终端", EN: "Shops"},
	Settlement: web.Text{ZH: "结算", EN: "Settlement"},
	Trail:      web.Text{ZH: "工作人员的操作", EN: "What staff did"},
	WhyAsk:     web.Text{ZH: "为什么", EN: "Why"},
	WhyHint:    web.Text{ZH: "4 到 200 字，写入操作日志。", EN: "4 to 200 characters. It goes into the audit trail."},
}
