package open

import "koala/web"

// words is the catalog of the page for developers.
var words = struct {
	Title, Lead, Document, Keys, KeysText, Once, OnceText, Consent, ConsentText, Problems, ProblemsText, Limits, LimitsText, Life, LifeText,
	Operations, Right, Inputs, Sent, Answers, Field, Type, Needed, Meaning, Yes, No, Example, Code, Status, Sentence web.Text
}{
	Title:        web.Text{ZH: "开放接口", EN: "Developers"},
	Lead:         web.Text{ZH: "合作方用接口描述自己的卡片模板，获批后空中发卡到手环。", EN: "Partners describe their own card templates and, once approved, issue the cards to bands over the air."},
	Document:     web.Text{ZH: "OpenAPI 3.1 文档", EN: "OpenAPI 3.1 document"},
	Keys:         web.Text{ZH: "密钥", EN: "Keys"},
	KeysText:     web.Text{ZH: "密钥由平台员工签发，只显示一次，平台只保存它的哈希。每次请求都在 Authorization 头里带上。密钥有权限范围，可随时吊销。", EN: "Staff issue a key. It is shown once, and only its hash is kept. Every request brings it in the Authorization header. A key has rights, and can be revoked at any time."},
	Once:         web.Text{ZH: "只生效一次", EN: "Once"},
	OnceText:     web.Text{ZH: "每个 POST 都带 Idempotency-Key。同一个键、同样的内容，返回第一次的答复（头里有 Idempotent-Replayed: true）；同一个键、不同内容，返回 409。网络中断后，用同一个键再发一次即可。", EN: "Every POST brings an Idempotency-Key. The same key with the same content gives the first answer again, marked Idempotent-Replayed: true; with other content it is a 409. After a lost connection send the same request with the same key."},
	Consent:      web.Text{ZH: "持有人授权", EN: "The wearer agrees"},
	ConsentText:  web.Text{ZH: "发卡前须由手环的佩戴者同意：他在“我的手环 → 安全 → 其他公司的卡”为您（或任意一家）生成一个 8 位授权码，15 分钟内有效，只能用一次。下单时放进 consent。用同一个 Idempotency-Key 或同一个 reference 重发，返回第一次的订单，不再消耗授权码；连续 5 次填错，该手环所有未用的授权码一并作废。", EN: "A wearer must agree to each card first: under My band, Security, Cards from other firms they make a code of 8 characters for your firm, or for any. It lives 15 minutes and works once; bring it as consent. The same Idempotency-Key, or the same reference, gives the first order again and takes no second code. Five wrong codes in a row end every living code of that band."},
	Problems:     web.Text{ZH: "出错", EN: "Problems"},
	ProblemsText: web.Text{ZH: "出错时返回 application/problem+json（RFC 9457）。程序按 code 判断，人看 detail；fields 指出哪个输入有误。报障时请附上 request_id。", EN: "A request that was not done is answered with application/problem+json (RFC 9457). Programs decide by code, people read detail; fields name the inputs at fault. Quote request_id to staff."},
	Limits:       web.Text{ZH: "频率", EN: "Limits"},
	LimitsText:   web.Text{ZH: "每把密钥平均每秒 %[1]d 次，最多连发 %[2]d 次。超过时返回 429，Retry-After 给出等待秒数。", EN: "On average %[1]d requests a second for each key, at most %[2]d at once. Beyond it comes a 429 whose Retry-After says how many seconds to wait."},
	Life:         web.Text{ZH: "从模板到卡片", EN: "From template to card"},
	LifeText:     web.Text{ZH: "建草稿 → 提交 → 员工批准 → 佩戴者生成授权码 → 按模板向手环下单（202）→ 手环下次联系时写卡 → 查订单直到 done，卡片为 active。批准过的模板不再改变：同一 code 再提交就是下一版。", EN: "Make a draft, submit it, staff approve it. Then, with a code of its wearer, order a card of it for a band (202): the band is written when it next calls. Read the order until it is done; its card is then active. An approved template never changes; the same code again is its next version."},
	Operations:   web.Text{ZH: "操作", EN: "Operations"},
	Right:        web.Text{ZH: "所需权限", EN: "Right"},
	Inputs:       web.Text{ZH: "参数", EN: "Parameters"},
	Sent:         web.Text{ZH: "请求内容", EN: "Request body"},
	Answers:      web.Text{ZH: "答复内容", EN: "Answer"},
	Field:        web.Text{ZH: "字段", EN: "Field"},
	Type:         web.Text{ZH: "类型", EN: "Type"},
	Needed:       web.Text{ZH: "必填", EN: "Needed"},
	Meaning:      web.Text{ZH: "含义", EN: "Meaning"},
	Yes:          web.Text{ZH: "是", EN: "yes"},
	No:           web.Text{ZH: "否", EN: "no"},
	Example:      web.Text{ZH: "示例", EN: "Example"},
	Code:         web.Text{ZH: "代码", EN: "Code"},
	Status:       web.Text{ZH: "状态码", EN: "Status"},
	Sentence:     web.Text{ZH: "说明", EN: "Sentence"},
}

// opWords names the operations, with what a request sends as an example.
var opWords = map[string]struct {
	name, lead web.Text
	body       string
}{
	"create-card-template": {web.Text{ZH: "新建卡片模板草稿", EN: "Make a draft of a card template"}, web.Text{ZH: "草稿只有合作方自己看得见。", EN: "Only its partner sees a draft."},
		`{"code": "lunch-club", "kind": "coupon", "name_en": "Lunch club", "name_zh": "午餐会",
 "coupon": {"gives": "amount", "value": 500, "minimum_fen": 2000, "uses": 10, "days": 90}}`},
	"list-card-templates": {web.Text{ZH: "列出自己的卡片模板", EN: "List the partner's card templates"}, web.Text{ZH: "最新的在前。", EN: "Newest first."}, ""},
	"get-card-template":   {web.Text{ZH: "查看一个卡片模板", EN: "Read one card template"}, web.Text{ZH: "也是查询审批结果的地方。", EN: "Also where an approval is seen."}, ""},
	"submit-card-template": {web.Text{ZH: "提交卡片模板", EN: "Submit a card template"},
		web.Text{ZH: "交给平台员工审批。再次提交不会改变什么。", EN: "Hands it to the house's staff. Again it changes nothing."}, ""},
	"issue-card": {web.Text{ZH: "向手环发一张卡", EN: "Issue a card to a band"},
		web.Text{ZH: "需要佩戴者的授权码。下单后立即返回 202；手环下次联系时写入。同一个 reference 是同一个订单。", EN: "Needs a code of the wearer. Answers 202 at once; the band is written when it next calls. The same reference is the same order."},
		`{"template": "ct_01j8", "reference": "member-1001", "consent": "7KQ2-M9XT"}`},
	"get-order": {web.Text{ZH: "查看一个订单", EN: "Read one order"}, web.Text{ZH: "写卡进行到哪一步。", EN: "How far the writing is."}, ""},
	"get-card":  {web.Text{ZH: "查看一张卡", EN: "Read one card"}, web.Text{ZH: "只限自己发的卡，不透露持卡人。", EN: "Only of the partner's own; who wears it is not told."}, ""},
}

// fieldZH is what the fields of the contract mean, in Chinese, by name; the
// English stands beside each in wire.go. Where a name has two meanings its type
// goes before it.
var fieldZH = map[string]string{
	"code": "卡片在合作方内的名字；同名再提交就是下一版", "kind": "卡的用途，决定下面给哪个对象", "name_en": "英文卡名", "name_zh": "中文卡名，UTF-8 不超过 60 字节",
	"space_bytes": "一张卡占用安全元件的字节数", "canteen": "kind 为 canteen 时", "door": "kind 为 door 时", "coupon": "kind 为 coupon 时",
	"Canteen.site": "哪家食堂", "Door.site": "场所编号，与门禁设备一致", "days": "自发卡起有效天数", "merchant": "由谁核销；不填就是合作方自己", "gives": "优惠方式：减额、折扣、集章、实物",
	"value": "减多少分，或折扣的万分之几，依优惠方式", "ceiling_fen": "折扣封顶，分；0 为不封顶", "minimum_fen": "消费满多少分才可用", "uses": "可用次数", "stamps_needed": "集几个章换一次",
	"id": "编号", "CardTemplate.state": "draft 由合作方提交；submitted 由员工审批；approved 可以下单；refused、withdrawn 已结束", "version": "同一 code 的提交次数，从 1 起；草稿没有",
	"CardTemplate.reason": "退回或下架的原因", "created_at": "建立时间", "decided_at": "审批时间", "data": "模板", "next": "作为 after 取下一页；最后一页没有",
	"template": "模板编号", "reference": "合作方自己的订单名", "Order.state": "waiting 等手环；running 写卡中；unconfirmed 中途断开，下次先读卡；其余为终态", "Order.reason": "停在此处的原因代码",
	"band": "手环编号", "card": "卡片编号", "steps_done": "已完成步数", "steps": "总步数", "placed_at": "下单时间", "changed_at": "最近变化",
	"Card.state": "returned、not_issued、replaced 为终态", "suspended": "已挂失，找回之前到处拒用", "valid_from": "生效时刻", "valid_to": "失效时刻",
	"consent": "手环佩戴者为合作方（或任意一方）生成的一次性授权码，下单即作废",
	"after":   "上一页的 next", "limit": "每页条数", "Idempotency-Key": "合作方为这次请求起的名字；同名同内容返回第一次的答复，同名不同内容为冲突；保存 30 天",
	"band (path)": "手环编号，由持有人告诉合作方",
}
