package iso8583

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// Options of a description.
type Options struct {
	// Clear shows card numbers, tracks, PIN blocks and keys; for test messages.
	Clear bool
}

// A Line is one part of a message in words. The parts of a field follow it one
// deeper.
type Line struct {
	Depth     int
	Field     int    // number; 0 for a part of the header
	Key       string // "4", "60.1", or the tag of a chip object
	EN, ZH    string
	Value     string // digits and text as they are, bytes in hexadecimal; masked where Secret
	Meaning   string // the value in words, empty when it says all
	MeaningZH string
	Secret    bool // something of Value is masked
}

// A Description is a message in words.
type Description struct {
	Spec       *Spec
	MTI        string
	EN, ZH     string // what the message type is called
	Bitmap     string // hexadecimal
	TPDU, Head string // hexadecimal; empty where there is none
	HeadLines  []Line // the parts of TPDU and header
	Lines      []Line
}

// Describe puts a message into words. Values that Unpack has not checked are
// shown as they are, fixed ones of a wrong length without a meaning.
func Describe(m *Message, o Options) Description {
	d := Description{Spec: m.spec, MTI: m.MTI(), Bitmap: fmt.Sprintf("%016X", m.present[0])}
	if m.present[0]&bit(1) != 0 || m.present[1] != 0 || m.spec.Bitmap == BitmapHexBoth {
		d.Bitmap += fmt.Sprintf("%016X", m.present[1])
	}
	d.EN, d.ZH = mtiWords(d.MTI)
	d.Head = fmt.Sprintf("%X", m.head)
	if m.spec.Head == POSHead && len(m.head) == POSHeadLen {
		d.TPDU, d.Head = d.Head[:2*TPDULen], d.Head[2*TPDULen:]
	}
	d.HeadLines = DescribeHead(m.head)
	for n, v := range m.Fields() {
		d.Lines = append(d.Lines, m.describe(n, v, o)...)
	}
	return d
}

// DescribeHead puts what stands before a message type into words: TPDU and
// header of the POS dialect, or the 46 bytes of the interchange dialect. It is
// empty for anything else.
func DescribeHead(head []byte) []Line {
	if h, err := ParseInterchangeHeader(head); err == nil {
		version := pair{"", ""}
		if h.Version&0x80 != 0 {
			version = pair{"test message", "测试报文"}
		}
		return []Line{
			{EN: "version", ZH: "版本标识", Value: fmt.Sprintf("%02X", h.Version), Meaning: version.en, MeaningZH: version.zh},
			{EN: "length of header and message", ZH: "整个报文长度", Value: fmt.Sprintf("%04d", h.Total)},
			{EN: "destination", ZH: "目的标识", Value: string(h.Destination[:])}, {EN: "source", ZH: "源标识", Value: string(h.Source[:])},
			{EN: "reserved", ZH: "保留使用", Value: fmt.Sprintf("%X", h.Reserved)}, {EN: "batch", ZH: "批次号", Value: fmt.Sprintf("%02X", h.Batch)},
			{EN: "transaction", ZH: "交易信息", Value: string(h.Transaction[:])}, {EN: "user", ZH: "用户信息", Value: fmt.Sprintf("%02X", h.User)},
			{EN: "reject code", ZH: "拒绝码", Value: string(h.Reject[:])},
		}
	}
	h, err := ParsePOSHeader(head)
	if err != nil {
		return nil
	}
	application := fmt.Sprintf("%02X", h.Application)
	en, zh := wordsOf("application", application)
	return []Line{
		{EN: "destination", ZH: "目的地址", Value: fmt.Sprintf("%04X", h.Destination)}, {EN: "source", ZH: "源地址", Value: fmt.Sprintf("%04X", h.Source)},
		{EN: "application", ZH: "应用类别定义", Value: application, Meaning: en, MeaningZH: zh},
		{EN: "version", ZH: "软件总版本号", Value: fmt.Sprintf("%02X", h.Version)}, {EN: "state and request", ZH: "终端状态及处理要求", Value: fmt.Sprintf("%02X", h.State)},
		{EN: "software", ZH: "软件分版本号", Value: fmt.Sprintf("%X", h.Rest)},
	}
}

// describe is field n and its parts.
func (m *Message) describe(n int, v []byte, o Options) []Line {
	f := m.spec.fields[n]
	l := Line{Field: n, Key: fmt.Sprint(n), EN: f.EN, ZH: f.ZH, Value: f.value(v)}
	if !o.Clear {
		if masked, secret := m.mask(f, v); secret {
			l.Value, l.Secret = masked, true
		}
	}
	if f.Class == 0 || f.Digits == 0 && len(v) != f.Max {
		return []Line{l} // was set, not read: AppendTo will fill or refuse it
	}
	parts := m.parts(f, v, o)
	if !l.Secret {
		l.Meaning, l.MeaningZH = m.meaning(n, v)
	}
	return append([]Line{l}, parts...)
}

// value is a field's value as text.
func (f Field) value(v []byte) string {
	switch f.Class {
	case Binary:
		return fmt.Sprintf("%X", v)
	case Text:
		if s, ok := chinese(v); ok {
			return s
		}
		return fmt.Sprintf("hex:%X", v)
	}
	return string(v)
}

// chinese reads GBK, which ASCII is a part of.
func chinese(v []byte) (string, bool) {
	out, err := simplifiedchinese.GBK.NewDecoder().Bytes(v)
	if err != nil || strings.ContainsRune(string(out), utf8.RuneError) || strings.ContainsRune(string(out), '€') {
		return "", false // the sign of the euro is 80 here and nothing in GBK of the dialect
	}
	return string(out), true
}

// printed is chinese for bytes that may be anything: only what prints.
func printed(v []byte) (string, bool) {
	s, ok := chinese(v)
	if !ok || s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7F }) {
		return "", false
	}
	return s, true
}

// wordTable are the words for codes.
var wordTable = sync.OnceValue(func() map[string][2]string {
	out := map[string][2]string{}
	for _, r := range rows("words.csv", "kind", "code", "en", "zh") {
		key := r[0] + " " + r[1]
		if _, twice := out[key]; twice {
			panic("iso8583: embedded words have " + key + " twice")
		}
		out[key] = [2]string{r[2], r[3]}
	}
	return out
})

// wordsOf are the words for a code, empty when there are none.
func wordsOf(kind, code string) (en, zh string) {
	w := wordTable()[kind+" "+code]
	return w[0], w[1]
}

// ResponseWords says what a response code of field 39 means, in English and
// Chinese; empty for an unknown one.
func ResponseWords(code string) (en, zh string) { return wordsOf("response", code) }

// Approved says that a response code means approved: 00, 10, 11, 16, and A2, A4,
// A5, A6, where the issuer is to be told but the sale stands.
func Approved(code string) bool {
	switch code {
	case "00", "10", "11", "16", "A2", "A4", "A5", "A6":
		return true
	}
	return false
}

func mtiWords(mti string) (en, zh string) {
	class, classZH := wordsOf("class", mti[1:2])
	function, functionZH := wordsOf("function", mti[2:3])
	if class == "" || function == "" {
		return "", ""
	}
	en, zh = class+" "+function, classZH+functionZH
	if mti[3]%2 == 1 {
		en, zh = en+", repeat", zh+"（重发）"
	}
	return en, zh
}

// hidden stands for what may not be shown at all.
const hidden = "****"

// mask gives what may be shown of a field; secret is false when that is all of
// it.
func (m *Message) mask(f Field, v []byte) (shown string, secret bool) {
	switch f.Secrecy {
	case SecretPAN:
		return maskPAN(string(v)), true
	case SecretTrack:
		return maskTrack(string(v)), true
	case SecretAll:
		return hidden, len(v) > 0
	case SecretBatch:
		if m.IsMTI("0320") && len(v) > 0 {
			return hidden, true // card numbers of the items
		}
	case SecretKeys:
		if m.carriesKeys() && len(v) > 0 {
			return hidden, true
		}
	}
	if f.Number == chipField {
		return maskChip(v, m.spec.PBOCChip)
	}
	return "", false
}

// carriesKeys says that field 62 may hold encrypted keys: it is the answer to a
// sign-on, or to a network code that is not one of the known downloads.
func (m *Message) carriesKeys() bool {
	if !m.IsMTI("0810") {
		return false
	}
	code := part(m.Get(60), 8, 11)
	return code == "" || code[0] != '3' || wordTable()["network "+code][0] == ""
}

// maskPAN shows the first six and the last four digits of 13 or more, as many
// stars as digits between them.
func maskPAN(digits string) string {
	if len(digits) < 13 {
		return hidden
	}
	return digits[:6] + strings.Repeat("*", len(digits)-10) + digits[len(digits)-4:]
}

func maskTrack(track string) string {
	end := strings.IndexAny(track, "D=")
	if end < 0 {
		return hidden
	}
	return maskPAN(track[:end]) + track[end:end+1] + hidden
}

// maskChip is chip data in hexadecimal with X for the digits of secret objects
// and of what is no object.
func maskChip(v []byte, pboc bool) (string, bool) {
	var out strings.Builder
	secret := false
	for rest := v; len(rest) > 0; {
		if rest[0] == 0x00 {
			out.WriteString("00")
			rest = rest[1:]
			continue
		}
		tag, val, after, err := tlv.Next(rest)
		if err != nil {
			out.WriteString(strings.Repeat("X", 2*len(rest)))
			return out.String(), true
		}
		whole := rest[:len(rest)-len(after)]
		fmt.Fprintf(&out, "%X", whole[:len(whole)-len(val)])
		shown, hides := fmt.Sprintf("%X", val), false
		if tag.Constructed() {
			if inner, inside := maskChip(val, pboc); inside {
				shown, hides = inner, true
			}
		} else if emv.ExplainTLV(whole, pboc)[0].Secret {
			shown, hides = strings.Repeat("X", 2*len(val)), true
		}
		out.WriteString(shown)
		secret = secret || hides
		rest = after
	}
	return out.String(), secret
}

// chipField is the field of chip data.
const chipField = 55

// chipLines are the objects of chip data.
func chipLines(v []byte, pboc, clear bool) []Line {
	read := emv.ExplainTLV
	if clear {
		read = emv.ShowTLV
	}
	var lines []Line
	for _, x := range read(v, pboc) {
		l := Line{Depth: 1 + x.Depth, Field: chipField, Key: x.Tag.String(), EN: x.EN, ZH: x.ZH, Value: x.Value, Meaning: x.Meaning, MeaningZH: x.MeaningZH, Secret: x.Secret}
		if x.Tag == 0 {
			l.Key = ""
			if !clear {
				l.Value, l.Secret = hidden, true // bytes that are no object may be anything
			}
		}
		lines = append(lines, l)
	}
	return lines
}
