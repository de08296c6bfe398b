package iso8583

import (
	"encoding/hex"
	"strings"

	"koala/spec/emv"
)

// meaning puts the value of field n into words, English and Chinese; empty when
// it says all there is.
func (m *Message) meaning(n int, v []byte) (en, zh string) {
	s := string(v)
	switch n {
	case 3:
		return processWords(s)
	case 4:
		return same(amountText(s, m.Text(49)))
	case 5:
		return same(amountText(s, m.Text(50)))
	case 6:
		return same(amountText(s, m.Text(51)))
	case 7:
		return same(s[:2] + "-" + s[2:4] + " " + clock(s[4:]))
	case 12:
		return same(clock(s))
	case 13, 15, 16, 17:
		return same(s[:2] + "-" + s[2:])
	case 14:
		return same("20" + s[:2] + "-" + s[2:])
	case 22:
		return joined(two("entry", s[:2]), two("pin", s[2:]))
	case 25:
		return wordsOf("condition", s)
	case 28, 29, 30, 31:
		return same(s[:1] + " " + amountText(s[1:], m.Text(49)))
	case 39:
		return ResponseWords(s)
	case 49, 50, 51:
		return currencyWords(s)
	case 70:
		return wordsOf("network", s)
	}
	if f := m.spec.fields[n]; f.Class == Binary && n != 52 && n != chipField {
		text, _ := printed(v)
		return same(text)
	}
	return "", ""
}

func same(s string) (string, string) { return s, s }

// A pair is a text in two languages.
type pair struct{ en, zh string }

func two(kind, code string) pair {
	en, zh := wordsOf(kind, code)
	return pair{en, zh}
}

// joined lists what is not empty.
func joined(list ...pair) (en, zh string) {
	for _, p := range list {
		if p.en == "" {
			continue
		}
		if en != "" {
			en, zh = en+", ", zh+"，"
		}
		en, zh = en+p.en, zh+p.zh
	}
	return en, zh
}

// processWords reads a processing code: what is done, from and to which account.
func processWords(s string) (en, zh string) {
	from, to := pair{}, pair{}
	if s[2:4] != "00" {
		if en, zh := wordsOf("account", s[2:4]); en != "" {
			from = pair{"from " + en, "自" + zh}
		}
	}
	if s[4:] != "00" {
		if en, zh := wordsOf("account", s[4:]); en != "" {
			to = pair{"to " + en, "至" + zh}
		}
	}
	return joined(two("process", s[:2]), from, to)
}

func clock(s string) string { return s[:2] + ":" + s[2:4] + ":" + s[4:] }

// Currencies of two decimals are the rule; these have none.
const wholeUnits = "392 410 704 152 "

// amountText writes minor units with the decimals and the name of a currency
// (ISO 4217 number, three digits).
func amountText(digits, currency string) string {
	if strings.Trim(digits, "0123456789") != "" || digits == "" {
		return ""
	}
	digits = strings.TrimLeft(digits, "0")
	decimals := 2
	if currency != "" && strings.Contains(wholeUnits, currency+" ") {
		decimals = 0
	}
	for len(digits) <= decimals {
		digits = "0" + digits
	}
	text := digits
	if decimals > 0 {
		text = digits[:len(digits)-decimals] + "." + digits[len(digits)-decimals:]
	}
	name, _ := currencyWords(currency)
	return strings.TrimSpace(text + " " + name)
}

// currencyWords names an ISO 4217 number of three digits, by the words that chip
// data has for it.
func currencyWords(code string) (en, zh string) {
	value, err := hex.DecodeString("0" + code)
	if err != nil || len(value) != 2 {
		return "", ""
	}
	l := emv.ExplainTLV([]byte{0x5F, 0x2A, 2, value[0], value[1]}, false)[0]
	return l.Meaning, l.MeaningZH
}
