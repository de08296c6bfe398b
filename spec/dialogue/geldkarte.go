package dialogue

import (
	"bytes"
	"fmt"
)

// Files of a GeldKarte that readers look at, by short identifier.
const (
	geldID     = 0x17 // EF_ID: the holder's bank and account
	geldAmount = 0x18 // EF_BETRAG: balance and limits, three bytes of BCD each
	geldLog    = 0x1D // EF_BLOG: payments
)

// geldKarte explains these files. False: another file or too short.
func (t *telling) geldKarte(sfi byte) bool {
	d := t.r.Data
	switch {
	case sfi == geldID && len(d) >= 12:
		t.e.EN += ", EF_ID: the holder's bank and account"
		t.e.ZH += "，EF_ID：持卡人银行与账号"
		t.hideRange(place{side: received}, 8, 14)
		t.add("bank", "银行", fmt.Sprintf("%X", d[1:4]))
		t.add("valid to", "有效期", fmt.Sprintf("20%X-%X", d[10], d[11]))
		if number := fmt.Sprintf("%X", d[4:9]); !t.unsure() {
			if !t.options.Clear {
				number = "••••••" + number[6:]
			}
			t.app.number, t.app.to = number, fmt.Sprintf("20%X-%X", d[10], d[11])
			t.add("account", "账号", number)
		}
	case sfi == geldAmount && len(d) >= 9:
		t.e.EN += ", EF_BETRAG: the balance"
		t.e.ZH += "，EF_BETRAG：余额"
		for i, name := range [][2]string{{"balance", "余额"}, {"highest balance", "余额上限"}, {"highest payment", "单笔上限"}} {
			t.add(name[0], name[1], amountText(bcdNumber(d[3*i:3*i+3]), "978"))
		}
		if n := bcdNumber(d[:3]); n >= 0 && !t.unsure() {
			t.app.cash = Balance{Known: true, Fen: n, Currency: "978", Source: "EF_BETRAG"}
		}
	case sfi == geldLog && len(d) >= 36:
		t.e.EN += ", EF_BLOG: a payment"
		t.e.ZH += "，EF_BLOG：交易明细"
		r := geldRecord(d)
		r.Index = t.c.P1
		for _, v := range r.Values {
			t.add(v.Name, v.NameZH, v.Text)
		}
		if !t.unsure() {
			t.records = appendRecord(t.records, r)
		}
	default:
		return false
	}
	return true
}

// geldRecord reads a record of EF_BLOG: bits 7 and 6 of the first byte say what
// it was, bytes 21 to 23 the amount, 29 to 35 date and time.
func geldRecord(d []byte) Record {
	r := Record{Kind: TransactionLog, SFI: geldLog, Raw: bytes.Clone(d)}
	what := [...][2]string{{"load", "圈存"}, {"unload", "圈提"}, {"purchase", "消费"}, {"refund", "退款"}}[d[0]>>5&0x03]
	n := bcdNumber(d[21:24])
	r.Values = append(r.Values, Value{Key: "amount_fen", Name: "amount", NameZH: "金额", Text: amountText(n, "978"), Int: n, Numeric: true})
	r.words("type_name", "what", "交易名称", what[0], what[1])
	r.text("date", "date", "日期", dateText(d[29:33]))
	r.text("time", "time", "时间", fmt.Sprintf("%X", d[33:36]))
	return r
}
