package issuer

import "koala/web"

// fields names what the kinds' own parts of a template say.
var fields = map[string]struct {
	name        web.Text
	money, bits bool
}{
	"label": {name: web.Text{ZH: "应用标签（50）", EN: "Application label (50)"}}, "priority": {name: web.Text{ZH: "优先级（87）", EN: "Priority (87)"}},
	"service": {name: web.Text{ZH: "服务码", EN: "Service code"}}, "cvn": {name: web.Text{ZH: "密文版本号", EN: "Cryptogram version"}},
	"sm": {name: web.Text{ZH: "国密算法", EN: "SM algorithms"}}, "ecash": {name: web.Text{ZH: "电子现金", EN: "E-cash balance"}},
	"processing": {name: web.Text{ZH: "卡片附加处理（9F68）", EN: "Card additional processes (9F68)"}, bits: true}, "single_limit": {name: web.Text{ZH: "单笔脱机限额（9F78）", EN: "One offline payment at most (9F78)"}, money: true},
	"reset": {name: web.Text{ZH: "自动圈存阈值（9F6D）", EN: "Go online below (9F6D)"}, money: true}, "cvm_limit": {name: web.Text{ZH: "免密限额（9F6B）", EN: "PIN or signature above (9F6B)"}, money: true},
	"total": {name: web.Text{ZH: "脱机累计限额（9F54）", EN: "Offline total, then online (9F54)"}, money: true}, "total_upper": {name: web.Text{ZH: "脱机累计上限（9F5C）", EN: "Offline total, then refuse (9F5C)"}, money: true},
	"fdda1": {name: web.Text{ZH: "fDDA 01 版", EN: "fDDA version 01"}}, "credit": {name: web.Text{ZH: "信用额度", EN: "Credit limit"}, money: true},
	"years": {name: web.Text{ZH: "有效年限", EN: "Valid, years"}}, "capp": {name: web.Text{ZH: "分段扣费（DF61）", EN: "Segment fare (DF61)"}}, "offset": {name: web.Text{ZH: "可欠金额（DF62）", EN: "May stand owing (DF62)"}, money: true},
	"offline_pin": {name: web.Text{ZH: "脱机密码", EN: "Offline PIN"}},
	"site":        {name: web.Text{ZH: "场所", EN: "Site"}}, "days": {name: web.Text{ZH: "有效天数", EN: "Valid, days"}},
	"merchant": {name: web.Text{ZH: "核销商户", EN: "Who redeems"}}, "gives": {name: web.Text{ZH: "优惠方式", EN: "Gives"}}, "value": {name: web.Text{ZH: "面值", EN: "Worth"}},
	"ceiling": {name: web.Text{ZH: "封顶", EN: "At most"}, money: true}, "minimum": {name: web.Text{ZH: "起用金额", EN: "From a sale of"}, money: true},
	"uses": {name: web.Text{ZH: "可用次数", EN: "Uses"}}, "needed": {name: web.Text{ZH: "集章数", EN: "Stamps needed"}},
}

var gives = map[string]web.Text{"amount": {ZH: "减额", EN: "an amount off"}, "percent": {ZH: "折扣", EN: "a percentage off"}, "stamps": {ZH: "集章", EN: "stamps"}, "thing": {ZH: "实物", EN: "a thing"}}
