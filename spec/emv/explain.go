package emv

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"koala/spec/tlv"
)

// A Line is one object of a card's data in words. Constructed objects are
// followed by their parts one deeper.
type Line struct {
	Depth      int     // 0 for the outermost
	Tag        tlv.Tag // 0: bytes that are not an object
	EN, ZH     string  // name
	Value      string  // hexadecimal; empty for a constructed object; masked where Secret
	Meaning    string  // the value in words, empty when the bytes say all
	MeaningZH  string
	Secret     bool // Value and Meaning are masked
	Structured bool // constructed: its parts follow
}

const maxExplainDepth = 16

// ExplainTLV takes any BER-TLV data apart and names and renders every object.
// It never fails: what is not TLV stays as one line of hexadecimal, padding 00
// between objects is skipped. PBOC's meaning wins with pbocMeaning set. PAN,
// track data and PIN are masked; ShowTLV shows them.
func ExplainTLV(data []byte, pbocMeaning bool) []Line {
	return explainInto(nil, data, 0, reading{pboc: pbocMeaning})
}

// ShowTLV is ExplainTLV with nothing masked, for a person looking at her own
// card; its lines belong in no log.
func ShowTLV(data []byte, pbocMeaning bool) []Line {
	return explainInto(nil, data, 0, reading{pboc: pbocMeaning, open: true})
}

// A reading is how values are shown.
type reading struct {
	pboc bool
	visa bool // Visa's cards: PBOC took its tags 9Fxx from them, not its DFxx
	open bool
}

// pbocMeans says whether PBOC's meaning of a tag wins.
func (how reading) pbocMeans(tag tlv.Tag) bool { return how.pboc || how.visa && tag < 0xDF00 }

func explainInto(lines []Line, data []byte, depth int, how reading) []Line {
	for len(data) > 0 {
		if data[0] == 0x00 {
			data = data[1:]
			continue
		}
		tag, val, rest, err := tlv.Next(data)
		if err != nil || depth > maxExplainDepth {
			return append(lines, Line{Depth: depth, EN: "not an object", ZH: "非数据对象", Value: fmt.Sprintf("%X", data)})
		}
		lines = append(lines, how.line(depth, tag, val))
		if tag.Constructed() {
			lines = explainInto(lines, val, depth+1, how)
		}
		data = rest
	}
	return lines
}

// line names and renders one object.
func (how reading) line(depth int, tag tlv.Tag, val []byte) Line {
	pboc := how.pbocMeans(tag)
	o, ok := Lookup(tag, pboc)
	if !ok {
		o = Object{Tag: tag, EN: "unknown", ZH: "未知"}
	}
	l := Line{Depth: depth, Tag: tag, EN: o.EN, ZH: o.ZH, Structured: tag.Constructed()}
	if l.Structured {
		return l
	}
	l.Value = fmt.Sprintf("%X", val)
	show, secret := secrets[tag]
	if secret = secret && !(tag == TagCardCVMLimit && pboc) && !(tag == tagHolderID && !pboc); !secret {
		l.Meaning, l.MeaningZH = how.meaning(o, val)
	} else if !how.open {
		l.Secret, l.Value = true, show(val)
	}
	return l
}

// tagHolderID is the number of the holder's identity document in PBOC.
const tagHolderID tlv.Tag = 0x9F61

const mask = "••••"

func hidden([]byte) string { return mask }

// maskPAN shows the first six and the last four digits of a PAN or a track 2.
func maskPAN(val []byte) string {
	digits := fmt.Sprintf("%X", val)
	if end := strings.IndexAny(digits, "DF"); end >= 0 {
		digits = digits[:end]
	}
	if len(digits) < 13 {
		return mask
	}
	return digits[:6] + mask + digits[len(digits)-4:]
}

// secrets are the objects that a log must not have, with what may be shown.
var secrets = map[tlv.Tag]func([]byte) string{
	TagPAN: maskPAN, TagTrack2: maskPAN, 0x56: hidden, 0x99: hidden, TagTrack1Rest: hidden, 0x9F20: hidden,
	TagCardCVMLimit: maskPAN, // track 2 of a Mastercard; an amount in PBOC
	tagHolderID:     hidden,
}

// meaning renders a value in words, English and Chinese; empty when the bytes
// say all there is.
func (how reading) meaning(o Object, val []byte) (en, zh string) {
	if !pbocOnly[o.Tag] || how.pbocMeans(o.Tag) {
		if f, ok := meanings[o.Tag]; ok {
			return f(val)
		}
		if en, zh := bitWords(o.Tag, val); en != "" {
			return en, zh
		}
	}
	switch {
	case o.Format == List:
		return how.dolWords(val)
	case o.Digits == 12:
		return same(amount(val))
	case o.Format == Text:
		return same(printable(val))
	}
	return "", ""
}

func same(s string) (string, string) { return s, s }

// amount writes n 12 minor units of a currency with two decimals.
func amount(val []byte) string {
	digits := fmt.Sprintf("%X", val)
	if len(val) == 0 || !decimal(digits) {
		return ""
	}
	digits = strings.TrimLeft(digits, "0")
	for len(digits) < 3 {
		digits = "0" + digits
	}
	return digits[:len(digits)-2] + "." + digits[len(digits)-2:]
}

func printable(val []byte) string {
	for _, b := range val {
		if b < 0x20 || b > 0x7E {
			return ""
		}
	}
	return string(val)
}

func date(val []byte) (string, string) {
	y, ok1 := bcdAt(val, 0)
	m, ok2 := bcdAt(val, 1)
	d, ok3 := bcdAt(val, 2)
	if len(val) != 3 || !ok1 || !ok2 || !ok3 {
		return "", ""
	}
	if y < 50 {
		y += 100
	}
	return same(fmt.Sprintf("%04d-%02d-%02d", 1900+y, m, d))
}

func bcdAt(val []byte, i int) (int, bool) {
	if i >= len(val) {
		return 0, false
	}
	return bcd(val[i])
}

func clock(val []byte) (string, string) {
	if digits := fmt.Sprintf("%X", val); len(val) == 3 && decimal(digits) {
		return same(digits[:2] + ":" + digits[2:4] + ":" + digits[4:])
	}
	return "", ""
}

func number(val []byte) (string, string) {
	if len(val) == 0 || len(val) > 7 {
		return "", ""
	}
	n, err := strconv.ParseUint(fmt.Sprintf("%X", val), 16, 64)
	if err != nil {
		panic(err) // hexadecimal of at most 7 bytes
	}
	return same(strconv.FormatUint(n, 10))
}

// meanings are the objects with a rendering of their own.
var meanings = map[tlv.Tag]func([]byte) (string, string){
	TagDate: date, TagExpiry: date, TagEffective: date, TagTime: clock,
	TagATC: number, TagLastOnlineATC: number, TagPINTries: number, TagSFI: number, TagPriority: number,
	TagLowerLimit: number, TagUpperLimit: number, TagFloorLimit: number,
	TagType: word("type"), TagARC: word("arc"), TagCurrency: word("money"), TagCardCurrency: word("money"),
	TagECCurrency: word("money"), TagIssuerCountry: word("country"), TagTerminalCountry: word("country"),
	TagKernelID: word("kernel"), TagCAPPIndicator: word("capp"), TagCAPPCard: word("cappcard"),
	TagCID: cidWords, TagAFL: aflWords, TagCVMList: cvmListWords, TagCVMResults: cvmResultWords,
	TagLogEntry: logWords, TagLoadLogEntry: logWords, TagSDATagList: tagListWords,
	TagDFName: nameWords, TagAID: nameWords, TagTerminalAID: nameWords,
	TagIACDefault: tvrWords, TagIACDenial: tvrWords, TagIACOnline: tvrWords, TagTVR: tvrWords,
}

// pbocOnly are renderings that hold for PBOC's meaning alone.
var pbocOnly = map[tlv.Tag]bool{
	TagECCurrency: true, TagCAPPIndicator: true, TagCAPPCard: true, TagLoadLogEntry: true, TagCPP: true, TagCTQ: true,
}

var words = sync.OnceValue(func() map[string][2]string {
	out := map[string][2]string{}
	for _, r := range rows("data/words.csv", "kind", "code", "en", "zh") {
		out[r[0]+r[1]] = [2]string{r[2], r[3]}
	}
	return out
})

func word(kind string) func([]byte) (string, string) {
	return func(val []byte) (string, string) {
		w := words()[fmt.Sprintf("%s%X", kind, val)]
		return w[0], w[1]
	}
}

func wordOf(kind string, code byte) (en, zh string) {
	if en, zh = word(kind)([]byte{code}); en == "" {
		return same(fmt.Sprintf("%02X", code))
	}
	return en, zh
}

func cidWords(val []byte) (string, string) {
	if len(val) != 1 {
		return "", ""
	}
	return wordOf("cid", CID(val[0]).Kind())
}

// bitNames are the names of single bits by tag, byte and mask.
var bitNames = sync.OnceValue(func() map[tlv.Tag]map[uint16][2]string {
	out := map[tlv.Tag]map[uint16][2]string{}
	for _, r := range rows("data/bits.csv", "tag", "byte", "bit", "name_en", "name_zh") {
		tag := hexTag(r[0])
		if out[tag] == nil {
			out[tag] = map[uint16][2]string{}
		}
		out[tag][uint16(r[1][0]-'1')<<8|1<<(r[2][0]-'1')] = [2]string{r[3], r[4]}
	}
	return out
})

// bitWords lists the bits set in a field, "none" for no bit of a field that
// has names.
func bitWords(tag tlv.Tag, val []byte) (en, zh string) {
	names := bitNames()[tag]
	if names == nil {
		return "", ""
	}
	var e, z []string
	for i, b := range val {
		for mask := 0x80; mask > 0; mask >>= 1 {
			if n, ok := names[uint16(i)<<8|uint16(mask)]; ok && b&byte(mask) != 0 {
				e, z = append(e, n[0]), append(z, n[1])
			}
		}
	}
	if e == nil {
		return "none", "无"
	}
	return strings.Join(e, "; "), strings.Join(z, "；")
}

func tvrWords(val []byte) (string, string) { return bitWords(TagTVR, val) }

func (how reading) dolWords(val []byte) (string, string) {
	d, err := ParseDOL(val)
	if err != nil {
		return "malformed", "格式错误"
	}
	var e, z []string
	for _, x := range d {
		o, ok := Lookup(x.Tag, how.pbocMeans(x.Tag))
		if !ok {
			o.EN, o.ZH = "unknown", "未知"
		}
		e = append(e, fmt.Sprintf("%v %s (%d)", x.Tag, o.EN, x.Len))
		z = append(z, fmt.Sprintf("%v %s（%d）", x.Tag, o.ZH, x.Len))
	}
	return strings.Join(e, ", "), strings.Join(z, "，")
}

func aflWords(val []byte) (string, string) {
	a, err := ParseAFL(val)
	if err != nil {
		return "malformed", "格式错误"
	}
	var e, z []string
	for _, x := range a {
		e = append(e, fmt.Sprintf("file %d records %d to %d, %d signed", x.SFI, x.First, x.Last, x.ODA))
		z = append(z, fmt.Sprintf("文件 %d 记录 %d 至 %d，%d 条参与认证", x.SFI, x.First, x.Last, x.ODA))
	}
	return strings.Join(e, "; "), strings.Join(z, "；")
}

func cvmListWords(val []byte) (string, string) {
	l, err := ParseCVMList(val)
	if err != nil {
		return "malformed", "格式错误"
	}
	e, z := []string{fmt.Sprintf("X %d, Y %d", l.X, l.Y)}, []string{fmt.Sprintf("X %d，Y %d", l.X, l.Y)}
	for _, r := range l.Rules {
		en, zh := ruleWords(r)
		if r.Next() {
			en, zh = en+", else next", zh+"，失败则继续"
		}
		e, z = append(e, en), append(z, zh)
	}
	return strings.Join(e, "; "), strings.Join(z, "；")
}

func ruleWords(r CVMRule) (string, string) {
	en, zh := wordOf("cvm", byte(r.Method()))
	when, whenZH := wordOf("when", byte(r.Condition))
	return en + " " + when, whenZH + zh
}

func cvmResultWords(val []byte) (string, string) {
	if len(val) != 3 {
		return "", ""
	}
	en, zh := ruleWords(CVMResults(val).Rule())
	result, resultZH := wordOf("result", val[2])
	return en + ": " + result, zh + "：" + resultZH
}

func logWords(val []byte) (string, string) {
	if len(val) != 2 {
		return "", ""
	}
	return fmt.Sprintf("file %d, %d records", val[0], val[1]), fmt.Sprintf("文件 %d，%d 条记录", val[0], val[1])
}

func tagListWords(val []byte) (string, string) {
	if len(val) == 1 && val[0] == byte(TagAIP) {
		return "application interchange profile", "应用交互特征"
	}
	return "", ""
}

// nameWords shows application names that are text, as PPSE's is.
func nameWords(val []byte) (string, string) { return same(printable(val)) }
