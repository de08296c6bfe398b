package iso8583

import (
	"fmt"
	"strings"
)

// part is v[from:to] as text, as far as there is one.
func part(v []byte, from, to int) string {
	if from >= len(v) {
		return ""
	}
	return string(v[from:min(to, len(v))])
}

// A piece is one part of a field that is made of parts.
type piece struct {
	len    int // characters; 0 for the rest
	en, zh string
	words  string // kind of its words
	amount bool
	secret Secrecy
}

// The parts of fields that are made of parts (Q/CUP 009 for terminals,
// ISO 8583:1987 for fields 54 and 90).
var (
	typeBatchCode = []piece{{len: 2, en: "type", zh: "交易类型码", words: "type"}, {len: 6, en: "batch", zh: "批次号"}, {len: 3, en: "network code", zh: "网络管理信息码", words: "network"},
		{len: 1, en: "reading capability", zh: "终端读取能力", words: "capability"}, {len: 1, en: "chip condition", zh: "IC 卡条件代码", words: "chip"},
		{len: 1, en: "part approval", zh: "部分扣款标志", words: "partial"}, {len: 3, en: "account type", zh: "账户类型"}}
	originalOfPOS = []piece{{len: 6, en: "original batch", zh: "原始批次号"}, {len: 6, en: "original trace", zh: "原始流水号"}, {len: 4, en: "original date", zh: "原始交易日期"},
		{len: 2, en: "original authorisation mode", zh: "原交易授权方式"}, {len: 11, en: "original authorising institution", zh: "原交易授权机构代码"}}
	originalElements = []piece{{len: 4, en: "original message type", zh: "原始报文类型"}, {len: 6, en: "original trace", zh: "原始跟踪号"}, {len: 10, en: "original time", zh: "原始传输时间"},
		{len: 11, en: "original acquirer", zh: "原始受理机构"}, {len: 11, en: "original forwarder", zh: "原始发送机构"}}
	settlementTotals = []piece{
		{len: 12, en: "domestic debits", zh: "内卡借记总金额", amount: true}, {len: 3, en: "domestic debit count", zh: "内卡借记总笔数"},
		{len: 12, en: "domestic credits", zh: "内卡贷记总金额", amount: true}, {len: 3, en: "domestic credit count", zh: "内卡贷记总笔数"}, {len: 1, en: "domestic result", zh: "内卡对账应答", words: "balance"},
		{len: 12, en: "foreign debits", zh: "外卡借记总金额", amount: true}, {len: 3, en: "foreign debit count", zh: "外卡借记总笔数"},
		{len: 12, en: "foreign credits", zh: "外卡贷记总金额", amount: true}, {len: 3, en: "foreign credit count", zh: "外卡贷记总笔数"}, {len: 1, en: "foreign result", zh: "外卡对账应答", words: "balance"}}
	batchItem = []piece{{len: 2, en: "item kind", zh: "明细种类"}, {len: 6, en: "item trace", zh: "明细流水号"}, {len: 20, en: "item card", zh: "明细卡号", secret: SecretPAN},
		{len: 12, en: "item amount", zh: "明细金额", amount: true}}
	securityControl  = []piece{{len: 1, en: "PIN format", zh: "密码格式", words: "pinformat"}, {len: 1, en: "encryption", zh: "加密算法", words: "method"}, {len: 1, en: "tracks encrypted", zh: "磁道加密标志"}}
	additionalAmount = []piece{{len: 2, en: "account type", zh: "账户类型", words: "account"}, {len: 2, en: "amount type", zh: "余额类型"}, {len: 3, en: "currency", zh: "货币代码"},
		{len: 1, en: "sign", zh: "余额符号"}, {len: 12, en: "amount", zh: "余额", amount: true}}
	schemeAndText  = []piece{{len: 3, en: "card scheme", zh: "国际信用卡公司代码", words: "scheme"}, {en: "text", zh: "附加信息"}}
	reasonAndPoint = []piece{{len: 4, en: "reason", zh: "报文原因代码"}, {en: "point of service", zh: "服务点附加信息"}}
)

// parts are the lines below field f.
func (m *Message) parts(f Field, v []byte, o Options) []Line {
	switch f.Number {
	case chipField:
		return chipLines(v, m.spec.PBOCChip, o.Clear)
	case 54:
		return repeated(54, v, additionalAmount, 20, o)
	case 90:
		return split(90, v, originalElements, o)
	}
	switch m.spec.Head {
	case POSHead:
		return m.posParts(f.Number, v, o)
	case InterchangeHead:
		if f.Number == 60 {
			return split(60, v, reasonAndPoint, o)
		}
	}
	return nil
}

// posParts are the parts of the POS dialect's own fields.
func (m *Message) posParts(n int, v []byte, o Options) []Line {
	switch n {
	case 48:
		if m.IsMTI("0320") && len(v) > 4 {
			return append(split(48, v[:2], []piece{{len: 2, en: "items", zh: "明细笔数"}}, o), repeated(48, v[2:], batchItem, 40, o)...)
		}
		if len(v) == 62 {
			return split(48, v, settlementTotals, o)
		}
	case 53:
		return split(53, v[:3], securityControl, o)
	case 60:
		return split(60, v, typeBatchCode, o)
	case 61:
		return split(61, v, originalOfPOS, o)
	case 62:
		if m.carriesKeys() {
			return keyParts(v, o)
		}
	case 63:
		if en, _ := wordsOf("scheme", part(v, 0, 3)); en != "" {
			return split(63, v, schemeAndText, o)
		}
	}
	return nil
}

// split takes a value apart as far as it goes.
func split(n int, v []byte, list []piece, o Options) []Line {
	var lines []Line
	for i, p := range list {
		if len(v) == 0 {
			break
		}
		size := min(p.len, len(v))
		if p.len == 0 {
			size = len(v)
		}
		lines = append(lines, p.line(n, i+1, v[:size], o))
		v = v[size:]
	}
	if len(v) > 0 {
		rest := piece{en: "rest", zh: "其余"}
		lines = append(lines, rest.line(n, len(list)+1, v, o))
	}
	return lines
}

// repeated takes a value apart whose parts come again every size characters.
func repeated(n int, v []byte, list []piece, size int, o Options) []Line {
	var lines []Line
	for len(v) > 0 {
		k := min(size, len(v))
		lines = append(lines, split(n, v[:k], list, o)...)
		v = v[k:]
	}
	return lines
}

func (p piece) line(n, i int, v []byte, o Options) Line {
	l := Line{Depth: 1, Field: n, Key: fmt.Sprintf("%d.%d", n, i), EN: p.en, ZH: p.zh}
	text, ok := printed(v)
	if !ok {
		text = fmt.Sprintf("hex:%X", v)
	}
	if l.Value = text; p.secret == SecretPAN && !o.Clear {
		l.Value, l.Secret = maskPAN(strings.TrimLeft(text, "0")), true
		return l
	}
	if p.words != "" {
		l.Meaning, l.MeaningZH = wordsOf(p.words, text)
	}
	if p.amount {
		l.Meaning, l.MeaningZH = same(amountText(text, ""))
	}
	return l
}

// keyNames are the working keys in the order of a sign-on's answer.
var keyNames = []pair{{"PIN key", "PIN 密钥"}, {"MAC key", "MAC 密钥"}, {"track key", "磁道密钥"}}

// keyCheckLen is the check value behind each key in bytes: the start of zeros
// encrypted under it.
const keyCheckLen = 4

// keyParts are the working keys of a sign-on's answer: two or three of 8 or 16
// bytes, encrypted under the terminal's master key, each with its check value.
// Another length is a dialect of its own.
func keyParts(v []byte, o Options) []Line {
	size := map[int]int{24: 12, 40: 20, 36: 12, 60: 20}[len(v)]
	if size == 0 {
		return nil
	}
	var lines []Line
	for i := 0; i*size < len(v); i++ {
		key, name := v[i*size:(i+1)*size], keyNames[i]
		l := Line{Depth: 1, Field: 62, Key: fmt.Sprintf("62.%d", i+1), EN: name.en, ZH: name.zh, Value: fmt.Sprintf("%X", key[:size-keyCheckLen])}
		if !o.Clear {
			l.Value, l.Secret = hidden, true
		}
		check := fmt.Sprintf("%X", key[size-keyCheckLen:])
		l.Meaning, l.MeaningZH = "check value "+check, "校验值 "+check
		lines = append(lines, l)
	}
	return lines
}
