package dialogue

import (
	"bytes"
	"fmt"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// The two directions as indices.
const (
	sent     = 0 // command
	received = 1 // response
)

// tagName is what a data object is called where it stands.
type tagName struct {
	en, zh string
	known  bool
}

// tagGPLength and tagGPProduction stand in the FCI of a security domain, where
// payment cards have other objects under the same tags (GPCS 2.3.1, 11.9.3).
const (
	tagGPLength     tlv.Tag = 0x9F65
	tagGPProduction tlv.Tag = 0x9F6E
)

var (
	fciNames = map[tlv.Tag]tagName{
		tagGPLength:     {"Maximum length of command data", "命令数据最大长度", true},
		tagGPProduction: {"Application production life cycle data", "应用生产生命周期数据", true},
		0x73:            {"Security domain management data", "安全域管理数据", true},
		0x9F0C:          {"Public application information, file 15", "公共应用基本信息（15 文件）", true},
		0x9F08:          {"Application version number", "应用版本号", true},
	}
	// cardDataNames are inside 66 and 73 of card recognition data (GPCS 2.3.1, H.2).
	cardDataNames = map[tlv.Tag]tagName{
		0x66: {"Card data", "卡片数据", true},
		0x73: {"Card recognition data", "卡片识别数据", true},
		0x06: {"Object identifier", "对象标识符", true},
		0x60: {"Card management type and version", "卡片管理类型与版本", true},
		0x63: {"Card identification scheme", "卡片识别方案", true},
		0x64: {"Secure channel protocol and options", "安全通道协议及选项", true},
		0x65: {"Card configuration details", "卡片配置", true},
		0x67: {"Card capability information", "卡片能力信息", true},
		0xE0: {"Key information template", "密钥信息模板", true},
		0xC0: {"Key information data", "密钥信息", true},
		0xC1: {"Sequence counter", "计数器", true},
		0xC2: {"Confirmation counter", "确认计数器", true},
		0xCF: {"Key derivation data", "密钥分散数据", true},
		0x42: {"Issuer identification number", "发卡方标识号", true},
		0x45: {"Card image number", "卡片映像号", true},
	}
	purseNames = map[tlv.Tag]tagName{
		0x9F0C: {"Public application information, file 15", "公共应用基本信息（15 文件）", true},
		0x9F08: {"Application version number", "应用版本号", true},
	}
	tagCPLC = tlv.Tag(0x9F7F)
	// visaNames are Visa's where PBOC, its twin, has none or another (EMV
	// Contactless C-3).
	visaNames = map[tlv.Tag]tagName{
		0x9F5A: {"Application program identifier", "应用程序标识", true},
		0x9F6E: {"Form factor indicator", "设备形态标识", true},
		0x9F7C: {"Customer exclusive data", "客户专用数据", true},
		0xDF60: {"Visa log entry", "Visa 日志入口", true},
	}
	mastercardNames = map[tlv.Tag]tagName{
		0x9F6E: {"Third party data", "第三方数据", true},
		0x9F52: {"Card verification results", "卡片验证结果", true},
	}
)

// nameOf says what tag is called on a card of that kind. Payment cards of the
// Visa family share PBOC's names of the objects from 9F50 on; DF tags are each
// scheme's own.
func nameOf(tag tlv.Tag, k Kind) tagName {
	own := map[Kind]map[tlv.Tag]tagName{Visa: visaNames, CB: visaNames, Mastercard: mastercardNames,
		GlobalPlatform: cardDataNames, TUnion: purseNames, CityUnion: purseNames, BeijingBMAC: purseNames}[k]
	if n, ok := own[tag]; ok {
		return n
	}
	pboc := k == UnionPay || k == Unknown || (k == Visa || k == CB || k == JCB) && tag>>8 == 0x9F
	if tag == tagCPLC {
		return tagName{"Card production life cycle data", "卡片生产生命周期数据", true}
	}
	if o, ok := emv.Lookup(tag, pboc); ok && o.EN != "" && o.EN != "?" {
		return tagName{o.EN, o.ZH, true}
	}
	return tagName{"object " + tag.String(), "数据对象 " + tag.String(), false}
}

// nameIn is nameOf for an object inside a template.
func nameIn(tag, parent tlv.Tag, k Kind) tagName {
	if n, ok := fciNames[tag]; ok && parent == emv.TagFCIProprietary && (!k.Payment() || tag == tagGPLength) {
		return n
	}
	if n, ok := cardDataNames[tag]; ok && (parent == 0x66 || parent == 0x73 || parent>>4 == 0x06 && parent < 0x70) {
		return n
	}
	return nameOf(tag, k)
}

// identity are the objects that name a person: PAN, track data, the holder's
// name and identity document, the certificate that has the PAN inside.
var identity = map[tlv.Tag]bool{
	emv.TagPAN: true, emv.TagTrack2: true, emv.TagHolder: true, emv.TagHolderExtended: true,
	emv.TagTrack1Rest: true, 0x9F20: true, 0x56: true, 0x9F61: true, 0x9F5E: true, 0x99: true, 0x5F53: true,
}

// names says whether an object names a person on this card: 9F6B is a limit
// for PBOC and track 2 for Mastercard.
func (t *telling) names(tag tlv.Tag) bool {
	return identity[tag] || tag == emv.TagCardCVMLimit && t.app.kind == Mastercard
}

// pieces of walking: where data stands inside the exchange.
type place struct {
	side   int
	at     int // offset of the data in the command or response
	depth  int
	parent tlv.Tag
}

// maxDepth bounds how deep objects nest.
const maxDepth = 10

// tree names the data objects of the response from offset at on.
func (t *telling) tree(data []byte, at int) { t.walk(data, place{side: received, at: at}) }

// walk names every object of data; bytes that are no object end it and are
// shown as they are. It goes on where spec/tlv refuses: padding between objects
// and lengths in a longer form than necessary.
func (t *telling) walk(data []byte, p place) {
	for len(data) > 0 {
		if data[0] == 0x00 || data[0] == 0xFF {
			p.at++
			data = data[1:]
			continue
		}
		tag, val, rest, ok := nextObject(data)
		if !ok {
			t.rest(data, p)
			return
		}
		at := p.at + len(data) - len(rest) - len(val)
		t.object(tag, val, place{p.side, at, p.depth, p.parent})
		p.at += len(data) - len(rest)
		data = rest
	}
}

func (t *telling) rest(data []byte, p place) {
	t.objects = append(t.objects, Object{Depth: p.depth, Sent: p.side == sent, Named: true,
		Name: "bytes that are no data object", NameZH: "非数据对象字节", Value: t.hex(data, p)})
}

// nextObject is tlv.Next for what real cards send.
func nextObject(in []byte) (tag tlv.Tag, val, rest []byte, ok bool) {
	if tag, val, rest, err := tlv.Next(in); err == nil {
		return tag, val, rest, true
	}
	tag, in, ok = leadingTag(in)
	if !ok || len(in) < 2 || in[0] <= 0x80 || in[0] > 0x83 {
		return 0, nil, nil, false
	}
	size := int(in[0] & 0x7F)
	if len(in) < 1+size {
		return 0, nil, nil, false
	}
	n := 0
	for _, b := range in[1 : 1+size] {
		n = n<<8 | int(b)
	}
	if in = in[1+size:]; n > len(in) {
		return 0, nil, nil, false
	}
	return tag, in[:n], in[n:], true
}

// leadingTag reads a tag of up to four bytes.
func leadingTag(in []byte) (tlv.Tag, []byte, bool) {
	if len(in) == 0 {
		return 0, nil, false
	}
	tag := tlv.Tag(in[0])
	if in[0]&0x1F != 0x1F {
		return tag, in[1:], true
	}
	for i := 1; i < 4 && i < len(in); i++ {
		if tag = tag<<8 | tlv.Tag(in[i]); in[i]&0x80 == 0 {
			return tag, in[i+1:], true
		}
	}
	return 0, nil, false
}

// object names one object, shows its value and remembers what the card gave.
func (t *telling) object(tag tlv.Tag, val []byte, p place) {
	name := nameIn(tag, p.parent, t.app.kind)
	o := Object{Depth: p.depth, Sent: p.side == sent, Tag: tag, Name: name.en, NameZH: name.zh, Named: name.known}
	inner := tag.Constructed() && p.depth < maxDepth && len(val) > 0
	if !inner {
		if t.names(tag) {
			t.hideDigits(tag, val, p)
		}
		if tag == emv.TagICCCert || tag == emv.TagPINCert {
			t.hideAll(val, p)
		}
		o.Value = t.hex(val, p)
		o.Text, o.TextZH = t.words(tag, val)
	}
	t.objects = append(t.objects, o)
	switch {
	case p.side == received && t.certain(val, p):
		t.learn(tag, val, p)
	case p.side == received && (tag == emv.TagPAN || tag == emv.TagTrack2) && t.app.number == "":
		t.app.number = t.partly(val, p)
	}
	if inner {
		t.walk(val, place{p.side, p.at, p.depth + 1, tag})
	}
}

// values names the values of a list, as they travel without tags.
func (t *telling) values(list emv.DOL, data []byte, at int) bool {
	split, err := list.Split(data)
	if err != nil {
		return false
	}
	for _, v := range split {
		t.object(v.Tag, v.Value, place{side: sent, at: at, depth: 1})
		at += len(v.Value)
	}
	return true
}

// certain says that every digit of a value of the answer was written down.
func (t *telling) certain(val []byte, p place) bool {
	m := t.in.ResponseMask
	if p.side == sent {
		m = t.in.CommandMask
	}
	return m == nil || p.at+len(val) > len(m) || len(bytes.Trim(m[p.at:p.at+len(val)], "\x00")) == 0
}

// partly is a PAN of which some digits were not written down.
func (t *telling) partly(val []byte, p place) string {
	m := t.in.ResponseMask[p.at : p.at+len(val)]
	out := []rune(fmt.Sprintf("%X", val)[:panDigits(val)])
	for i := range out {
		if m[i/2]>>(4*(1-i%2))&0x0F != 0 {
			out[i] = '•'
		}
	}
	if n := len(out); n > 10 && !t.options.Clear {
		for i := 6; i < n-4; i++ {
			out[i] = '•'
		}
	}
	return string(out)
}

// hex shows a value with what names a person masked.
func (t *telling) hex(val []byte, p place) string {
	hide := t.hide[p.side]
	if 2*p.at > len(hide) {
		return fmt.Sprintf("%X", val)
	}
	return t.shown(val, nil, hide[2*p.at:])
}

func (t *telling) hideAll(val []byte, p place) { t.hideRange(p, 0, 2*len(val)) }

// hideRange marks digits from to to of the value at p.
func (t *telling) hideRange(p place, from, to int) {
	hide := t.hide[p.side]
	for i := 2*p.at + from; i < 2*p.at+to && i < len(hide); i++ {
		hide[i] = personal
	}
}

// hideDigits keeps the first six and last four digits of a PAN and hides the
// rest; of track 2 what follows the PAN, of everything else all.
func (t *telling) hideDigits(tag tlv.Tag, val []byte, p place) {
	n := 2 * len(val)
	switch tag {
	case emv.TagPAN, emv.TagTrack2, emv.TagCardCVMLimit:
		pan := panDigits(val)
		if pan > 10 {
			t.hideRange(p, 6, pan-4)
		} else {
			t.hideRange(p, 0, pan)
		}
		if tag != emv.TagPAN && pan+1+7 < n {
			t.hideRange(p, pan+1+7, n) // separator, YYMM and service code stay
		}
	default:
		t.hideRange(p, 0, n)
	}
}

// panDigits counts the digits before the F or D that ends a PAN.
func panDigits(val []byte) int {
	for i, b := range val {
		if b>>4 > 9 {
			return 2 * i
		}
		if b&0x0F > 9 {
			return 2*i + 1
		}
	}
	return 2 * len(val)
}
