package coupon

import (
	"fmt"

	"koala/spec/iso7816"
)

// Explain says in English and Chinese what a command to a discount card and its
// answer mean, every field named, amounts in yuan. False means that the command
// is not one of them. A response with status word 0 stands for "not answered
// yet".
func Explain(c iso7816.Command, r iso7816.Response) (e iso7816.Explanation, ok bool) {
	if iso7816.Base(c.CLA) != CLA {
		return e, false
	}
	answered := r.SW.OK()
	switch c.INS {
	case InsRead:
		e = explainRead(c, r, answered)
	case InsBegin:
		e = explainBegin(c, r, answered)
	case InsCommit:
		e = explainDone("COMMIT COUPON: carry it out", "执行核销", r, answered)
		if x, err := ParseCommit(c); err == nil {
			e.Fields = append([]iso7816.Field{{Name: "MAC1", NameZH: "MAC1", Value: hex(x.MAC1[:])}}, e.Fields...)
		}
	case InsProve:
		e = explainDone("PROVE COUPON: was it carried out?", "查询核销凭证", r, answered)
		if x, err := ParseProve(c); err == nil {
			e.Fields = append([]iso7816.Field{{Name: "terminal challenge", NameZH: "终端随机数", Value: x.Challenge.String()}}, e.Fields...)
		}
	default:
		return e, false
	}
	if r.SW != 0 && !answered {
		en, zh := r.SW.Meaning(false), r.SW.Meaning(true)
		if w, own := swWords[r.SW]; own {
			en, zh = w[0], w[1]
		}
		e.EN += fmt.Sprintf(": %04X %s", uint16(r.SW), en)
		e.ZH += fmt.Sprintf("：%04X %s", uint16(r.SW), zh)
	}
	return e, true
}

var swWords = map[iso7816.SW][2]string{
	SWDate:    {"not valid on this date", "不在有效期内"},
	SWMinimum: {"the purchase is below the minimum spend", "未达最低消费"},
	SWStamps:  {"stamps are missing", "点数不足"},
	SWFull:    {"the stamp card is full", "点数已满"},

	iso7816.SWReferenceInvalid: {"the coupon is used up", "优惠券已用完"},
}

func explainRead(c iso7816.Command, r iso7816.Response, answered bool) iso7816.Explanation {
	e := iso7816.Explanation{EN: "READ COUPON", ZH: "读取优惠券"}
	switch x, err := ParseRead(c); {
	case err != nil:
	case x.N != 0:
		e = e.Add("number", "序号", fmt.Sprint(x.N))
	default:
		e = e.Add("coupon", "优惠券", x.ID.String())
	}
	if answered {
		if x, err := Parse(r.Data); err == nil {
			e.Fields = append(e.Fields, x.fields()...)
		}
	}
	return e
}

func (c Coupon) fields() []iso7816.Field {
	e := iso7816.Explanation{}.
		Add("coupon", "优惠券", c.ID.String()).Add("issuer", "发行方", c.Issuer.String()).Add("merchant", "商户", c.Merchant.String()).
		Add("kind", "种类", c.Kind.Words(false)+" "+c.Kind.Words(true)).Add("key index", "密钥索引", fmt.Sprint(c.Key))
	switch c.Kind {
	case PercentOff:
		e = e.Add("off", "折扣", fmt.Sprintf("%d.%02d %%", c.Value/100, c.Value%100))
		if c.Ceiling != 0 {
			e = e.Add("at most", "最高优惠", yuan(c.Ceiling))
		}
	case AmountOff:
		e = e.Add("off", "优惠金额", yuan(c.Value))
	case StampCard:
		e = e.Add("off", "优惠金额", yuan(c.Value)).Add("stamps", "点数", fmt.Sprintf("%d of %d", c.Stamps, c.Needed))
	}
	return e.Add("minimum spend", "最低消费", yuan(c.Minimum)).Add("valid", "有效期", c.From.String()+" – "+c.To.String()).
		Add("uses left", "剩余次数", fmt.Sprint(c.Uses)).Add("counter", "计数器", fmt.Sprint(c.Counter)).Fields
}

func explainBegin(c iso7816.Command, r iso7816.Response, answered bool) iso7816.Explanation {
	e := iso7816.Explanation{EN: "BEGIN COUPON", ZH: "优惠券交易初始化"}
	if x, err := ParseBegin(c); err == nil {
		e = e.Add("operation", "操作", x.Op.Words(false)+" "+x.Op.Words(true)).Add("coupon", "优惠券", x.Coupon.String()).
			Add("terminal", "终端", x.Terminal.String()).Add("terminal challenge", "终端随机数", x.Challenge.String()).
			Add("purchase", "消费金额", yuan(x.Fen)).Add("time", "时间", hex(x.At[:]))
	}
	if a, err := ParseBeginAnswer(r.Data); err == nil && answered {
		e = e.Add("holder", "卡号", a.Holder.String()).Add("key version", "密钥版本", fmt.Sprint(a.Key)).
			Add("counter", "计数器", fmt.Sprint(a.Counter)).Add("reduction", "优惠", yuan(a.Reduction)).
			Add("card challenge", "卡片随机数", a.Challenge.String())
	}
	return e
}

func explainDone(en, zh string, r iso7816.Response, answered bool) iso7816.Explanation {
	e := iso7816.Explanation{EN: en, ZH: zh}
	if a, err := ParseDone(r.Data); err == nil && answered {
		e = e.Add("counter", "计数器", fmt.Sprint(a.Counter)).Add("reduction", "优惠", yuan(a.Reduction)).
			Add("proof for the issuer", "发行方凭证", hex(a.Proof[:])).Add("MAC2", "MAC2", hex(a.MAC2[:]))
	}
	return e
}

func yuan(fen uint32) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

func hex(b []byte) string { return fmt.Sprintf("%X", b) }
