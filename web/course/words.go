package course

import "koala/web"

// words is the catalog of the picture.
var words = struct {
	Arbiter, By, ByItself, Course, Days, Desk, HasHolder, HasShop, Hours, Issuer, Next, NoDeadline, Over, Shop web.Text
}{
	Arbiter:    web.Text{ZH: "裁判", EN: "arbiter"},
	By:         web.Text{ZH: "最晚 %[1]s", EN: "by %[1]s"},
	ByItself:   web.Text{ZH: "否则，到期自动", EN: "else, at the deadline"},
	Course:     web.Text{ZH: "案件进程", EN: "Course of the case"},
	Days:       web.Text{ZH: "还有 %[1]d 天", EN: "%[1]d days left"},
	Desk:       web.Text{ZH: "争议岗", EN: "desk"},
	HasHolder:  web.Text{ZH: "款项在持卡人", EN: "the cardholder has the money"},
	HasShop:    web.Text{ZH: "款项在商户", EN: "the shop has the money"},
	Hours:      web.Text{ZH: "还有 %[1]d 小时", EN: "%[1]d h left"},
	Issuer:     web.Text{ZH: "发卡行", EN: "issuer"},
	Next:       web.Text{ZH: "轮到%[1]s", EN: "next: %[1]s"},
	NoDeadline: web.Text{ZH: "没有期限", EN: "no deadline"},
	Over:       web.Text{ZH: "已过期", EN: "over"},
	Shop:       web.Text{ZH: "商户", EN: "shop"},
}

// laneWords name the lanes, in their order.
var laneWords = []web.Text{words.Issuer, words.Shop, words.Desk, words.Arbiter}
