package dialogue

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// logged shows a log record of a payment application, split by its format if
// that is known by now, and keeps it.
func (t *telling) logged(l logRecord) {
	kind, zh := TransactionLog, "交易明细"
	if l.load {
		kind, zh = LoadLog, "圈存明细"
	}
	t.e.EN += ", the " + string(kind)
	t.e.ZH += "，" + zh
	if t.unsure() {
		return
	}
	t.app.logs = append(t.app.logs, l)
	r := t.app.decode(l)
	for _, v := range r.Values {
		t.add(v.Name, v.NameZH, v.Text)
	}
	if len(r.Values) == 0 {
		t.add("record", "记录", fmt.Sprintf("%X", l.raw))
	}
}

// loads shows the whole load log, which the card gives with a MAC as record 00
// (CARD.md 1.8): proof to the issuer that a load arrived.
func (t *telling) loads(data []byte) {
	t.e.EN += ", the load log with the card's MAC"
	t.e.ZH += "，圈存明细及卡片 MAC"
	x, err := pboc.ParseSignedLoadLog(data)
	if err != nil {
		t.add("record", "记录", fmt.Sprintf("%X", data))
		return
	}
	t.add("transaction counter", "交易计数器", fmt.Sprint(x.ATC))
	for i, e := range x.Entries {
		name := nameOf(tagOf(e.Tag), t.app.kind)
		r := Record{Kind: LoadLog, SFI: t.c.P2 >> 3, Index: byte(i + 1), Raw: e.Bytes()}
		r.words("object", "object", "数据对象", name.en, name.zh)
		r.money("old_fen", "before", "圈存前", int64(e.Old))
		r.money("new_fen", "after", "圈存后", int64(e.New))
		r.text("date", "date", "日期", shortDate(e.Date[:]))
		r.text("time", "time", "时间", fmt.Sprintf("%X", e.Time))
		r.number("atc", "transaction counter", "交易计数器", int64(e.ATC))
		t.add(fmt.Sprintf("load %d", i+1), fmt.Sprintf("圈存 %d", i+1),
			fmt.Sprintf("%s → %s, %s", yuan(int64(e.Old)), yuan(int64(e.New)), shortDate(e.Date[:])))
		if !t.unsure() {
			t.records = appendRecord(t.records, r)
		}
	}
	t.add("MAC of the card", "卡片 MAC", fmt.Sprintf("%X", x.MAC))
}

// decode splits a log record by the format the card gave (9F4F, DF4F). A
// record of the load log begins with the object that PUT DATA changed and its
// old and new value (CARD.md 1.8). Without a format, or with one that does not
// fit, the record has no values.
func (a *application) decode(l logRecord) Record {
	r := Record{Kind: TransactionLog, SFI: l.sfi, Index: l.number, Raw: l.raw}
	tag, raw := emv.TagLogFormat, l.raw
	if l.load {
		r.Kind, tag = LoadLog, emv.TagLoadLogFormat
		if len(raw) < 14 {
			return r
		}
		name := nameOf(tagOf(uint16(raw[0])<<8|uint16(raw[1])), a.kind)
		r.words("object", "object", "数据对象", name.en, name.zh)
		r.money("old_fen", "before", "圈存前", bcdNumber(raw[2:8]))
		r.money("new_fen", "after", "圈存后", bcdNumber(raw[8:14]))
		raw = raw[14:]
	}
	format, err := emv.ParseDOL(a.objects[tag])
	if err != nil {
		return r
	}
	values, err := format.Split(raw)
	if err != nil {
		return r
	}
	currency, _ := values.Get(emv.TagCurrency)
	for _, v := range values {
		r.logged(v, hex.EncodeToString(currency), a.kind)
	}
	return r
}

// keys are the names programs read a log's values by.
var keys = map[tlv.Tag]string{
	emv.TagAmount: "amount_fen", emv.TagAmountOther: "other_fen", emv.TagDate: "date", emv.TagTime: "time",
	emv.TagTerminalCountry: "country", emv.TagCurrency: "currency", emv.TagMerchantName: "merchant",
	emv.TagType: "type", emv.TagATC: "atc", emv.TagCID: "cid",
}

// logged adds one value of a log record.
func (r *Record) logged(v emv.Value, currency string, k Kind) {
	name := nameOf(v.Tag, k)
	key, ok := keys[v.Tag]
	if !ok {
		key = strings.ToLower(v.Tag.String())
	}
	switch v.Tag {
	case emv.TagAmount, emv.TagAmountOther:
		n := bcdNumber(v.Value)
		r.Values = append(r.Values, Value{Key: key, Name: name.en, NameZH: name.zh, Text: amountText(n, currency), Int: n, Numeric: true})
	case emv.TagATC:
		r.number(key, name.en, name.zh, int64(v.Value[0])<<8|int64(v.Value[len(v.Value)-1]))
	case emv.TagMerchantName:
		r.text(key, name.en, name.zh, strings.TrimSpace(printable(v.Value)))
	case emv.TagDate:
		r.text(key, name.en, name.zh, shortDate(v.Value))
	default:
		r.text(key, name.en, name.zh, fmt.Sprintf("%X", v.Value))
	}
}

// bcdNumber reads decimal digits; -1 when there are others.
func bcdNumber(b []byte) int64 {
	n, err := strconv.ParseInt(hex.EncodeToString(b), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// currencies are letters and digits behind the point of currency codes that
// cards show (ISO 4217).
var currencies = map[string]struct {
	letters string
	places  int
}{
	"156": {"CNY", 2}, "344": {"HKD", 2}, "446": {"MOP", 2}, "901": {"TWD", 2}, "392": {"JPY", 0}, "410": {"KRW", 0},
	"702": {"SGD", 2}, "764": {"THB", 2}, "840": {"USD", 2}, "978": {"EUR", 2}, "826": {"GBP", 2}, "756": {"CHF", 2},
	"036": {"AUD", 2}, "124": {"CAD", 2}, "643": {"RUB", 2}, "985": {"PLN", 2}, "752": {"SEK", 2}, "578": {"NOK", 2},
	"208": {"DKK", 2}, "554": {"NZD", 2},
}

// amountText writes minor units in the currency with that code, of three or
// four digits; without one that is known as a plain number with two places.
func amountText(n int64, currency string) string {
	if n < 0 {
		return "?"
	}
	c, ok := currencies[strings.TrimPrefix(currency, "0")]
	if !ok {
		c, ok = currencies[currency]
	}
	if !ok {
		c.places = 2
	}
	text := fmt.Sprint(n)
	if c.places == 2 {
		text = fmt.Sprintf("%d.%02d", n/100, n%100)
	}
	return strings.TrimSpace(text + " " + c.letters)
}

// shortDate writes YYMMDD of BCD as a date: years 50 to 99 are 1950 to 1999
// (EMV 4.4 Book 4, 6.7.3).
func shortDate(b []byte) string {
	s := hex.EncodeToString(b)
	if len(b) != 3 || strings.Trim(s, "0123456789") != "" || s == "000000" {
		return strings.ToUpper(s)
	}
	century := "20"
	if s[0] >= '5' {
		century = "19"
	}
	return century + s[:2] + "-" + s[2:4] + "-" + s[4:]
}

// printable is text with everything that does not print as a dot.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7E {
			return '.'
		}
		return r
	}, string(bytesAsRunes(bytes.TrimRight(b, "\x00\xFF"))))
}

func bytesAsRunes(b []byte) []rune {
	out := make([]rune, len(b))
	for i, c := range b {
		out[i] = rune(c)
	}
	return out
}

// allRecords are the purse's records and those of the payment logs, decoded by
// the formats known at the end.
func (s *Session) allRecords() []Record {
	out := append([]Record(nil), s.records...)
	for _, a := range append([]*application{s.loose}, s.apps...) {
		for _, l := range a.logs {
			if len(bytes.Trim(l.raw, "\x00")) > 0 {
				out = appendRecord(out, a.decode(l))
			}
		}
	}
	return out
}

// balance is the money of an application. A purse holds what GET BALANCE gives
// less the overdraft used, where the card keeps one (CARD.md 2.6: T-Union is
// purse 0 minus purse 1 when purse 0 is empty); e-cash holds 9F79.
func (a *application) balance() Balance {
	b := a.balances[0]
	switch {
	case b.Known && a.kind == TUnion && a.balances[1].Known:
		b.Fen -= a.balances[1].Fen
		return b
	case b.Known:
		return b
	case a.balances[3].Known:
		return a.balances[3]
	}
	return a.cash
}

// learn remembers an object that the card gave.
func (t *telling) learn(tag tlv.Tag, val []byte, p place) {
	a := t.app
	if tag.Constructed() {
		if tag == emv.TagEntry {
			t.list(val)
		}
		return
	}
	if p.parent == emv.TagEntry {
		return // of the application listed, not of this one
	}
	a.objects[tag] = bytes.Clone(val)
	switch tag {
	case emv.TagPDOL:
		a.pdol, _ = emv.ParseDOL(a.objects[tag])
	case emv.TagCDOL1:
		a.cdol1, _ = emv.ParseDOL(a.objects[tag])
	case emv.TagCDOL2:
		a.cdol2, _ = emv.ParseDOL(a.objects[tag])
	case emv.TagDDOL:
		a.ddol, _ = emv.ParseDOL(a.objects[tag])
	case emv.TagLabel:
		a.label = printable(val)
	case tagPublic:
		if a.kind.Purse() {
			t.public(val)
		}
	case emv.TagPAN, emv.TagTrack2:
		a.number = t.pan(val)
	case emv.TagCardCVMLimit: // track 2 of a Mastercard
		if a.kind == Mastercard {
			a.number = t.pan(val)
		}
	case emv.TagEffective:
		a.from = shortDate(val)
	case emv.TagExpiry:
		a.to = shortDate(val)
	case emv.TagECBalance:
		if a.kind == UnionPay || a.kind == Unknown {
			t.cash(val, "9F79")
		}
	case emv.TagIAD:
		t.reported(val)
	}
	if a == t.loose && a.kind == Unknown && tag == emv.TagPAN {
		a.kind = OtherPayment
	}
}

func (t *telling) cash(val []byte, source string) {
	if n := bcdNumber(val); n >= 0 {
		t.app.cash = Balance{Known: true, Fen: n, Currency: "156", Source: source}
	}
}

// reported takes the e-cash balance out of the issuer application data, where
// it stands with a MAC of its own (CARD.md 1.5).
func (t *telling) reported(val []byte) {
	iad, err := pboc.ParseIAD(val)
	if err != nil || iad.Report != pboc.ReportBalance || t.app.cash.Source == "9F79" || t.app.kind != UnionPay && t.app.kind != Unknown {
		return
	}
	t.app.cash = Balance{Known: true, Fen: int64(iad.Amounts[0]), Currency: "156", Source: "9F10"}
}

// pan is the number of tag 5A or 57, masked as the options say.
func (t *telling) pan(val []byte) string {
	digits := hex.EncodeToString(val)[:panDigits(val)]
	return t.masked(digits)
}

// masked keeps the first six and the last four digits of a PAN.
func (s *Session) masked(digits string) string {
	if s.options.Clear {
		return digits
	}
	if len(digits) <= 10 {
		return strings.Repeat("•", len(digits))
	}
	return digits[:6] + strings.Repeat("•", len(digits)-10) + digits[len(digits)-4:]
}

// tagPublic holds file 15 in the FCI of a purse (CARD.md 2.1).
const tagPublic tlv.Tag = 0x9F0C

// list keeps an entry of a payment directory.
func (t *telling) list(val []byte) {
	var app Application
	for len(val) > 0 {
		tag, v, rest, ok := nextObject(val)
		if !ok {
			break
		}
		switch {
		case tag == emv.TagAID:
			app.AID = bytes.Clone(v)
		case tag == emv.TagLabel:
			app.Label = printable(v)
		case tag == emv.TagPriority && len(v) == 1:
			app.Priority = v[0] & 0x0F
		}
		val = rest
	}
	name, _ := kindOf(app.AID)
	app.Kind, app.Name, app.NameZH = name.kind, name.en, name.zh
	for _, l := range t.listed {
		if bytes.Equal(l.AID, app.AID) {
			return
		}
	}
	if len(app.AID) > 0 {
		t.Session.listed = append(t.listed, app)
	}
}

// Amount writes minor units in the currency with that numeric code.
func Amount(n int64, currency string) string {
	if n < 0 {
		return "-" + amountText(-n, currency)
	}
	return amountText(n, currency)
}

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
