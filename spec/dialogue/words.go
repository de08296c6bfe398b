package dialogue

import (
	"fmt"
	"strings"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// words says what the value of an object means, in both languages; empty when
// the bytes say all, and for what names a person.
func (t *telling) words(tag tlv.Tag, val []byte) (en, zh string) {
	switch {
	case len(val) == 0:
		return "", ""
	case t.names(tag) && !t.options.Clear:
		return "", ""
	case tag == emv.TagIAD:
		return applicationData(val, t.app.cryptograms > 1)
	case tag == emv.TagDFName || tag == emv.TagAID || tag == emv.TagTerminalAID:
		return aidWords(val)
	case tag == emv.TagAmount || tag == emv.TagAmountOther:
		return both(amountText(bcdNumber(val), t.currency()))
	}
	lines := emv.ShowTLV(tlv.Append(nil, tag, val), t.app.kind == UnionPay || t.app.kind == Unknown)
	if len(lines) == 0 {
		return "", ""
	}
	return lines[0].Meaning, lines[0].MeaningZH
}

func both(s string) (string, string) { return s, s }

func aidWords(aid []byte) (string, string) {
	name, ok := kindOf(aid)
	if !ok {
		return "", ""
	}
	return name.en, name.zh
}

// currency is the transaction's currency, from what the reader sent.
func (t *telling) currency() string {
	for _, l := range []struct {
		list emv.DOL
		data []byte
	}{{t.app.pdol, t.app.pdolData}, {t.app.cdol1, t.c.Data}, {t.app.cdol2, t.c.Data}} {
		if v, err := l.list.Split(l.data); err == nil {
			if c, ok := v.Get(emv.TagCurrency); ok {
				return fmt.Sprintf("%X", c)
			}
		}
	}
	return ""
}

// applicationData reads the issuer application data of PBOC and Visa: key,
// cryptogram version, what the card decided, and the balance PBOC reports
// (CARD.md 1.5, 1.15).
func applicationData(val []byte, second bool) (string, string) {
	kind, ok := cryptogramOf(val, second)
	if !ok {
		return "", ""
	}
	w := cryptogramWords[kind]
	en := fmt.Sprintf("key %02X, cryptogram version %d, %s", val[1], val[2], w[0])
	zh := fmt.Sprintf("密钥 %02X，密文版本 %d，%s", val[1], val[2], w[1])
	if x, err := pboc.ParseIAD(val); err == nil && x.Report == pboc.ReportBalance {
		en += ", balance " + yuan(int64(x.Amounts[0]))
		zh += "，余额 " + yuan(int64(x.Amounts[0]))
	}
	return en, zh
}

// cryptogramOf is the kind of cryptogram that the card verification results in
// the issuer application data name: of PBOC (07 DKI CVN 03 CVR) or of Visa (06
// DKI CVN 03 CVR), the first or the second of the transaction.
func cryptogramOf(iad []byte, second bool) (byte, bool) {
	if x, err := pboc.ParseIAD(iad); err == nil {
		if second {
			return x.CVR.Second().CID(), true
		}
		return x.CVR.First().CID(), true
	}
	if len(iad) < 7 || iad[0] != 0x06 || iad[3] != 0x03 {
		return 0, false
	}
	if second {
		return iad[4] & 0xC0, true
	}
	return iad[4] << 2 & 0xC0, true
}

// Fields gives an explanation's fields with the objects of the exchange behind
// them, for pages that show one list.
func (l Line) Fields() []iso7816.Field {
	out := make([]iso7816.Field, 0, len(l.Explanation.Fields)+len(l.Objects))
	for _, f := range l.Explanation.Fields {
		out = append(out, iso7816.Field{Name: f.Name, NameZH: f.NameZH, Value: f.Value, Secret: f.Secret})
	}
	for _, o := range l.Objects {
		name, zh := o.Name, o.NameZH
		if o.Tag != 0 {
			name, zh = o.Tag.String()+" "+name, o.Tag.String()+" "+zh
		}
		value := strings.TrimSpace(o.Value + " " + o.Text)
		if value != "" {
			out = append(out, iso7816.Field{Name: name, NameZH: zh, Value: value, Secret: strings.Contains(o.Value, "X")})
		}
	}
	return out
}
