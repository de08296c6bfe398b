package emv

import (
	"bytes"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Instructions of payment applications beside those of iso7816 (EMV 4.4 Book
// 3, 6.5).
const (
	InsAppUnblock   = 0x18
	InsAppBlock     = 0x1E
	InsCardBlock    = 0x16
	InsPINChange    = 0x24
	InsGenerateAC   = 0xAE
	InsGPO          = 0xA8
	InsPutData      = iso7816.InsPutData
	InsUpdateRecord = iso7816.InsUpdateRecord
)

// Names of the directories a terminal selects first (CARD.md 1.1).
const (
	PPSE = "2PAY.SYS.DDF01" // contactless
	PSE  = "1PAY.SYS.DDF01" // contact
)

// Explain says in words what a command to a payment application and its answer
// mean. It knows nothing of the commands before: a Teller also names the values
// of PDOL and CDOL. PBOC's meaning of tags holds. False: not one of these
// commands.
func Explain(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	return (&Teller{PBOC: true}).Explain(c, r)
}

// A Teller explains one dialogue, command by command, and remembers the lists
// the card gave, so that it can name the values sent for them.
type Teller struct {
	PBOC bool // PBOC's meaning of tags; follows the application selected
	Open bool // PAN and track data are shown
	visa bool
	dols map[tlv.Tag]DOL
	gac  int // GENERATE AC so far
}

// Explain says in words what the next command of the dialogue and its answer
// mean. A response with status word 0 stands for "not answered yet".
func (t *Teller) Explain(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	f, ok := tellers[[2]byte{iso7816.Base(c.CLA), c.INS}]
	if !ok {
		return iso7816.Explanation{}, false
	}
	if iso7816.Secure(c.CLA) {
		f = scripts[c.INS]
	}
	if f == nil {
		return iso7816.Explanation{}, false
	}
	e, ok := f(t, c, r)
	if !ok {
		return iso7816.Explanation{}, false
	}
	if r.SW != 0 && !r.SW.OK() {
		e.EN += ": " + r.SW.String()
		e.ZH += fmt.Sprintf("：%04X %s", uint16(r.SW), r.SW.Meaning(true))
	}
	return e, true
}

// Providers whose tags mean what PBOC says, all or in part: the transport
// scheme's e-cash is PBOC's, and PBOC grew out of Visa's cards.
var (
	ridTUnion = []byte{0xA0, 0x00, 0x00, 0x06, 0x32}
	ridVisa   = []byte{0xA0, 0x00, 0x00, 0x00, 0x03}
)

type teller func(*Teller, iso7816.Command, iso7816.Response) (iso7816.Explanation, bool)

var tellers = map[[2]byte]teller{
	{0x00, iso7816.InsSelect}:               (*Teller).selected,
	{0x80, InsGPO}:                          (*Teller).options,
	{0x00, iso7816.InsReadRecord}:           (*Teller).record,
	{0x80, InsGenerateAC}:                   (*Teller).generate,
	{0x00, iso7816.InsInternalAuthenticate}: (*Teller).internal,
	{0x00, iso7816.InsExternalAuthenticate}: (*Teller).external,
	{0x80, iso7816.InsGetData}:              (*Teller).getData,
	{0x00, iso7816.InsVerify}:               (*Teller).verify,
	{0x80, InsAppBlock}:                     nil,
	{0x80, InsAppUnblock}:                   nil,
	{0x80, InsCardBlock}:                    nil,
	{0x80, InsPINChange}:                    nil,
	{0x00, InsPutData}:                      nil,
	{0x00, InsUpdateRecord}:                 nil,
}

// scripts are the commands an issuer sends under secure messaging.
var scripts = map[byte]teller{
	InsAppBlock:     script("APPLICATION BLOCK", "应用锁定"),
	InsAppUnblock:   script("APPLICATION UNBLOCK", "应用解锁"),
	InsCardBlock:    script("CARD BLOCK", "卡片锁定"),
	InsPINChange:    script("PIN CHANGE/UNBLOCK", "PIN 修改/解锁"),
	InsPutData:      (*Teller).putData,
	InsUpdateRecord: script("UPDATE RECORD script", "修改记录脚本"),
}

func (t *Teller) selected(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	if c.P1 != 0x04 {
		return iso7816.Explanation{}, false
	}
	t.dols, t.gac = map[tlv.Tag]DOL{}, 0
	e := iso7816.Explanation{EN: "SELECT payment application", ZH: "选择支付应用"}
	switch string(c.Data) {
	case PPSE:
		e = iso7816.Explanation{EN: "SELECT contactless payment directory (PPSE)", ZH: "选择近距离支付系统环境（PPSE）"}
	case PSE:
		e = iso7816.Explanation{EN: "SELECT payment directory (PSE)", ZH: "选择支付系统环境（PSE）"}
	default:
		e = e.Add("AID", "应用标识符", fmt.Sprintf("%X", c.Data))
		t.PBOC = bytes.HasPrefix(c.Data, RIDUnionPay[:]) || bytes.HasPrefix(c.Data, ridTUnion)
		t.visa = bytes.HasPrefix(c.Data, ridVisa)
	}
	return t.told(e, r), true
}

func (t *Teller) options(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	e := iso7816.Explanation{EN: "GET PROCESSING OPTIONS", ZH: "取处理选项"}
	if tag, val, rest, err := tlv.Next(c.Data); err == nil && tag == TagCommand && len(rest) == 0 {
		e = t.values(e, TagPDOL, val)
	}
	if tag, val, _, err := tlv.Next(r.Data); err == nil && tag == TagAnswer1 && len(val) >= 2 {
		e = t.one(e, TagAIP, val[:2])
		return t.one(e, TagAFL, val[2:]), true
	}
	return t.told(e, r), true
}

func (t *Teller) record(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	if c.P2&0x07 != 0x04 {
		return iso7816.Explanation{}, false
	}
	e := iso7816.Explanation{EN: fmt.Sprintf("READ RECORD %d of file %d", c.P1, c.P2>>3), ZH: fmt.Sprintf("读取文件 %d 的记录 %d", c.P2>>3, c.P1)}
	if tag, _, rest, err := tlv.Next(r.Data); err == nil && tag.Constructed() && len(rest) == 0 {
		return t.told(e, r), true
	}
	return t.values(e, TagLogFormat, r.Data), true // a log record has no template
}

func (t *Teller) generate(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	t.gac++
	kind, kindZH := wordOf("cid", CID(c.P1).Kind())
	e := iso7816.Explanation{EN: "GENERATE AC, terminal asks " + kind, ZH: "生成应用密文，终端请求 " + kindZH}
	if c.P1&RequestCDA != 0 {
		e.EN, e.ZH = e.EN+", signed (CDA)", e.ZH+"，带签名（CDA）"
	}
	list := TagCDOL1
	if t.gac > 1 {
		list = TagCDOL2
	}
	e = t.values(e, list, c.Data)
	if tag, val, _, err := tlv.Next(r.Data); err == nil && tag == TagAnswer1 && len(val) >= 11 {
		e = t.one(e, TagCID, val[:1])
		e = t.one(e, TagATC, val[1:3])
		e = t.one(e, TagAC, val[3:11])
		if len(val) > 11 {
			e = t.one(e, TagIAD, val[11:])
		}
		return e, true
	}
	return t.told(e, r), true
}

func (t *Teller) internal(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	e := t.values(iso7816.Explanation{EN: "INTERNAL AUTHENTICATE", ZH: "内部认证"}, TagDDOL, c.Data)
	if tag, val, _, err := tlv.Next(r.Data); err == nil && tag == TagAnswer1 {
		return t.one(e, TagSDAD, val), true
	}
	return t.told(e, r), true
}

func (t *Teller) external(c iso7816.Command, _ iso7816.Response) (iso7816.Explanation, bool) {
	e := iso7816.Explanation{EN: "EXTERNAL AUTHENTICATE: the issuer's answer", ZH: "外部认证：发卡行应答"}
	if len(c.Data) != 10 {
		return e.Add("issuer authentication data", "发卡行认证数据", fmt.Sprintf("%X", c.Data)), true
	}
	e = e.Add("ARPC", "授权响应密文", fmt.Sprintf("%X", c.Data[:8]))
	return t.one(e, TagARC, c.Data[8:]), true
}

func (t *Teller) getData(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	tag := tlv.Tag(c.P1)<<8 | tlv.Tag(c.P2)
	o, ok := t.lookup(tag)
	if !ok || tag < 0x9F00 || tag == 0x9F7F {
		return iso7816.Explanation{}, false // card management's: 42, 66, 9F7F
	}
	return t.told(iso7816.Explanation{EN: "GET DATA: " + o.EN, ZH: "取数据：" + o.ZH}, r), true
}

func (t *Teller) verify(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	e := iso7816.Explanation{EN: "VERIFY PIN", ZH: "验证 PIN"}
	switch c.P2 {
	case 0x80:
		e.EN, e.ZH = "VERIFY plaintext PIN", "验证明文 PIN"
	case 0x88:
		e.EN, e.ZH = "VERIFY enciphered PIN", "验证加密 PIN"
	}
	e.Fields = append(e.Fields, iso7816.Field{Name: "PIN", NameZH: "密码", Value: mask, Secret: true})
	if left := uint16(r.SW); left&0xFFF0 == 0x63C0 {
		e = e.Add("tries left", "剩余次数", fmt.Sprint(left&0x0F))
	}
	return e, true
}

func script(en, zh string) teller {
	return func(_ *Teller, c iso7816.Command, _ iso7816.Response) (iso7816.Explanation, bool) {
		return scriptMAC(iso7816.Explanation{EN: en + " (issuer script)", ZH: zh + "（发卡行脚本）"}, c.Data), true
	}
}

// scriptMAC names the four bytes at the end of a script command. What is before
// them may be an enciphered PIN and is not shown.
func scriptMAC(e iso7816.Explanation, data []byte) iso7816.Explanation {
	if len(data) < 4 {
		return e
	}
	if len(data) > 4 {
		e.Fields = append(e.Fields, iso7816.Field{Name: "content", NameZH: "内容", Value: mask, Secret: true})
	}
	return e.Add("secure messaging MAC", "安全报文 MAC", fmt.Sprintf("%X", data[len(data)-4:]))
}

func (t *Teller) putData(c iso7816.Command, _ iso7816.Response) (iso7816.Explanation, bool) {
	tag := tlv.Tag(c.P1)<<8 | tlv.Tag(c.P2)
	o, ok := t.lookup(tag)
	if !ok {
		o.EN, o.ZH = "object "+tag.String(), "数据对象 "+tag.String()
	}
	e := iso7816.Explanation{EN: "PUT DATA (issuer script): " + o.EN, ZH: "设置数据（发卡行脚本）：" + o.ZH}
	if n := len(c.Data) - 4; n >= 0 {
		e = t.one(e, tag, c.Data[:n])
		e = e.Add("secure messaging MAC", "安全报文 MAC", fmt.Sprintf("%X", c.Data[n:]))
	}
	return e, true
}

// values names the values sent for a list the card gave; without the list, or
// when they do not fit it, they stay together.
func (t *Teller) values(e iso7816.Explanation, list tlv.Tag, data []byte) iso7816.Explanation {
	if d, ok := t.dols[list]; ok {
		if values, err := d.Split(data); err == nil {
			for _, v := range values {
				e = t.one(e, v.Tag, v.Value)
			}
			return e
		}
	}
	if len(data) == 0 {
		return e
	}
	o, _ := t.lookup(list)
	return e.Add("values for "+o.EN, "数据："+o.ZH, fmt.Sprintf("%X", data))
}

// told adds the objects of an answer and remembers the lists among them.
func (t *Teller) told(e iso7816.Explanation, r iso7816.Response) iso7816.Explanation {
	_ = tlv.Walk(r.Data, func(_ int, tag tlv.Tag, val []byte) error {
		if o, _ := t.lookup(tag); o.Format == List && !tag.Constructed() {
			if d, err := ParseDOL(val); err == nil {
				if t.dols == nil {
					t.dols = map[tlv.Tag]DOL{}
				}
				t.dols[tag] = d
			}
		}
		return nil // an answer that ends badly is still shown as far as it goes
	})
	for _, l := range explainInto(nil, r.Data, 0, t.reading()) {
		if !l.Structured {
			e.Fields = append(e.Fields, l.field())
		}
	}
	return e
}

func (t *Teller) reading() reading { return reading{pboc: t.PBOC, visa: t.visa, open: t.Open} }

func (t *Teller) lookup(tag tlv.Tag) (Object, bool) {
	return Lookup(tag, t.reading().pbocMeans(tag))
}

func (t *Teller) one(e iso7816.Explanation, tag tlv.Tag, val []byte) iso7816.Explanation {
	e.Fields = append(e.Fields, t.reading().line(0, tag, val).field())
	return e
}

// field writes a line as a field: bytes, then their meaning in both languages
// where they differ.
func (l Line) field() iso7816.Field {
	f := iso7816.Field{Name: l.EN, NameZH: l.ZH, Value: l.Value, Secret: l.Secret}
	if l.Tag != 0 {
		f.Name, f.NameZH = l.Tag.String()+" "+l.EN, l.Tag.String()+" "+l.ZH
	}
	if l.Meaning != "" {
		f.Value += " " + l.Meaning
		if l.MeaningZH != l.Meaning {
			f.Value += " " + l.MeaningZH
		}
	}
	return f
}
