package dialogue

import (
	"bytes"
	"embed"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

// public takes number and validity out of file 15.
func (t *telling) public(b []byte) {
	f, err := purse.ParseFile15(b)
	if err != nil {
		return
	}
	t.app.number = string(f.Number)
	t.app.from, t.app.to = dateText(f.From[:]), dateText(f.To[:])
	if t.app == t.loose && t.app.kind == Unknown {
		t.app.kind = TUnion
	}
	if t.c.INS != iso7816.InsReadBinary { // which names its fields itself
		t.add("issuer", "发卡机构标识", fmt.Sprintf("%X", f.Issuer))
		t.add("card number", "卡号", string(f.Number))
		t.add("valid", "有效期", t.app.from+" – "+t.app.to)
	}
	if city, ok := issuerCity(t.app.kind, [2]byte(f.Issuer[2:4])); ok {
		t.add("issuer's city", "发卡城市", city)
	}
}

// cityUnionCities are the cities of City-Union cards, which count them by post
// code (CARD.md 2.6).
var cityUnionCities = map[[2]byte]string{{0x20, 0x00}: "Shanghai 上海", {0x40, 0x00}: "Chongqing 重庆", {0x71, 0x00}: "Xi'an 西安"}

// issuerCity names the city in the issuer's number of file 15.
func issuerCity(k Kind, code [2]byte) (string, bool) {
	if k == CityUnion {
		name, ok := cityUnionCities[code]
		return name, ok
	}
	return regionName(code)
}

// dateText writes four bytes YYYYMMDD of BCD as a date.
func dateText(b []byte) string {
	s := hex.EncodeToString(b)
	if len(s) != 8 || strings.Trim(s, "0123456789") != "" || s == "00000000" {
		return strings.ToUpper(s)
	}
	return s[:4] + "-" + s[4:6] + "-" + s[6:]
}

// learnPurse takes balance, number and records out of a purse's answer.
func (t *telling) learnPurse() {
	if !t.r.SW.OK() || t.unsure() || t.in.CommandMask != nil {
		return
	}
	switch c, data := t.c, t.r.Data; c.INS {
	case purse.InsBalance:
		if len(data) == 4 && c.P1 < 4 && c.CLA&0x80 != 0 {
			t.app.balances[c.P1] = Balance{Known: true, Fen: thirtyOne(data), Currency: "156", Source: "GET BALANCE"}
		}
	case iso7816.InsReadBinary:
		t.learnFile(c.P1, c.P2, data)
	case iso7816.InsReadRecord:
		number := c.P1
		if c.P2&0x04 == 0 {
			number = 0 // read by identifier
		}
		t.learnRecord(c.P2>>3, number, data)
	}
}

// thirtyOne reads a purse balance: the low 31 bits are fen (CARD.md 2.6).
func thirtyOne(b []byte) int64 {
	return int64(b[0]&0x7F)<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
}

func (t *telling) learnFile(p1, off byte, data []byte) {
	if p1&0x80 == 0 || off != 0 {
		return
	}
	switch p1 & 0x1F {
	case purse.SFIPublic:
		if len(data) == purse.File15Len {
			t.public(data)
		}
	case purse.SFIBeijing:
		t.beijing(data)
	case purse.SFIRegion:
		if f, err := purse.ParseFile17(data); err == nil {
			if city, ok := regionName(f.City); ok {
				t.add("city's name", "城市名称", city)
			}
		}
	}
}

// beijing reads file 04 of the old Beijing card. Cards answer READ BINARY
// without length with more than its 32 bytes.
func (t *telling) beijing(data []byte) {
	if len(data) < purse.BeijingFileLen {
		return
	}
	f, err := purse.ParseBeijingFile(data[:purse.BeijingFileLen])
	if err != nil || f.Number[0] != 0x10 || f.Number[1] != 0x00 || t.app != t.loose && t.app.kind != BeijingBMAC {
		return
	}
	t.app.kind = BeijingBMAC
	t.app.number = fmt.Sprintf("%X", f.Number)
	t.app.from, t.app.to = dateText(f.From[:]), dateText(f.To[:])
	if len(data) > purse.BeijingFileLen {
		t.e.Fields = nil
		t.add("card number", "卡号", t.app.number)
		t.add("version", "版本", fmt.Sprintf("%X", f.Version))
		t.add("valid from", "启用日期", t.app.from)
		t.add("valid to", "有效日期", t.app.to)
		t.add("further bytes", "其余字节", fmt.Sprintf("%X", data[purse.BeijingFileLen:]))
	}
}

// learnRecord keeps a log record of a purse; one that was never written is
// zeros and no record.
func (t *telling) learnRecord(sfi, n byte, data []byte) {
	r, ok := DecodeRecord(sfi, data)
	if !ok {
		return
	}
	if len(bytes.Trim(data, "\x00")) == 0 {
		t.e.Fields = nil
		t.add("record", "记录", fmt.Sprintf("%d, never written 未写入", t.c.P1))
		return
	}
	r.Index = n
	t.nameStations(&r, data)
	t.records = appendRecord(t.records, r)
	for _, key := range []string{"line_name", "city_name", "entry_name", "exit_name"} {
		if v, ok := r.Get(key); ok {
			t.add(v.Name, v.NameZH, v.Text)
		}
	}
}

// nameStations adds the names of a rail record's stations, where somebody knows
// them.
func (t *telling) nameStations(r *Record, data []byte) {
	x, err := purse.ParseTransit(data)
	if r.Kind != RailRecord || err != nil || t.options.Station == nil || x.Status == purse.NeverRidden {
		return
	}
	name := func(key, en, zh string, station [8]byte) {
		if code, ok := purse.StationCode(station); ok {
			if s, ok := t.options.Station(code); ok {
				r.text(key, en, zh, s)
			}
		}
	}
	name("entry_name", "entered at", "进站站名", x.EntryStation)
	if x.Status == purse.Left {
		name("exit_name", "left at", "出站站名", x.ExitStation)
	}
}

// appendRecord keeps each record once.
func appendRecord(list []Record, r Record) []Record {
	for _, x := range list {
		if x.Kind == r.Kind && x.SFI == r.SFI && x.Index == r.Index && bytes.Equal(x.Raw, r.Raw) {
			return list
		}
	}
	return append(list, r)
}

// DecodeRecord decodes a record of a purse's file: the log 18, the trips 1E,
// the rail record 1A (CARD.md 2.5). False: no such file or not its length.
func DecodeRecord(sfi byte, b []byte) (Record, bool) {
	switch {
	case sfi == purse.SFILog && len(b) == purse.LogLen:
		return purseLog(b)
	case sfi == purse.SFITrip && len(b) == purse.TripLen:
		return tripLog(b)
	case sfi == purse.SFITransit && len(b) == purse.TransitLen:
		return railRecord(b)
	}
	return Record{}, false
}

func (r *Record) text(key, en, zh, text string) {
	if text != "" {
		r.Values = append(r.Values, Value{Key: key, Name: en, NameZH: zh, Text: text})
	}
}

// words is text that is different in Chinese.
func (r *Record) words(key, en, zh, text, textZH string) {
	if text != "" {
		r.Values = append(r.Values, Value{Key: key, Name: en, NameZH: zh, Text: text, TextZH: textZH})
	}
}

func (r *Record) number(key, en, zh string, n int64) {
	r.Values = append(r.Values, Value{Key: key, Name: en, NameZH: zh, Text: fmt.Sprint(n), Int: n, Numeric: true})
}

func (r *Record) money(key, en, zh string, fen int64) {
	r.Values = append(r.Values, Value{Key: key, Name: en, NameZH: zh, Text: yuan(fen), Int: fen, Numeric: true})
}

// yuan is purse.Yuan with a sign.
func yuan(fen int64) string {
	if fen < 0 {
		return "-" + yuan(-fen)
	}
	return fmt.Sprintf("%d.%02d CNY", fen/100, fen%100)
}

func purseLog(b []byte) (Record, bool) {
	l, err := purse.ParseLog(b)
	if err != nil {
		return Record{}, false
	}
	r := Record{Kind: PurseLog, SFI: purse.SFILog, Raw: bytes.Clone(b)}
	r.number("number", "sequence", "交易序号", int64(l.Seq))
	r.money("overdraft_fen", "overdraft limit", "透支限额", int64(l.Overdraft))
	r.money("amount_fen", "amount", "交易金额", int64(l.Amount()))
	r.text("type", "type", "交易类型", fmt.Sprintf("%02X", byte(l.Type)))
	r.words("type_name", "what", "交易名称", l.Type.Words(false), l.Type.Words(true))
	r.text("terminal", "terminal", "终端编号", l.Terminal.String())
	r.text("date", "date", "日期", fmt.Sprintf("%X", l.Stamp.Date))
	r.text("time", "time", "时间", fmt.Sprintf("%X", l.Stamp.Time))
	if line, ok := lineOfTerminal(l.Terminal); ok {
		r.text("line_name", "line's name", "线路名称", line)
	}
	return r, true
}

// lineOfTerminal is the Beijing line that a terminal number of the old card's
// readers names.
func lineOfTerminal(t purse.Terminal) (string, bool) {
	code, ok := t.BeijingLine()
	if !ok {
		return "", false
	}
	name, ok := tables().lines[code]
	return name, ok
}

var tripWords = map[purse.TripKind][2]string{
	0x02:             {"single", "单次"},
	purse.TripSingle: {"single", "单次"},
	purse.TripEntry:  {"entry", "进站"},
	purse.TripExit:   {"exit", "出站"},
}

var industryWords = map[byte][2]string{
	purse.IndustryMetro: {"metro", "地铁"},
	purse.IndustryBus:   {"bus", "公交"},
}

func tripLog(b []byte) (Record, bool) {
	x, err := purse.ParseTrip(b)
	if err != nil {
		return Record{}, false
	}
	r := Record{Kind: TripLog, SFI: purse.SFITrip, Raw: bytes.Clone(b)}
	kind, ok := tripWords[x.Kind]
	if !ok {
		kind = [2]string{"type " + fmt.Sprintf("%02X", byte(x.Kind)), "类型 " + fmt.Sprintf("%02X", byte(x.Kind))}
	}
	r.text("type", "type", "行程类型", fmt.Sprintf("%02X", byte(x.Kind)))
	r.words("type_name", "what", "行程名称", kind[0], kind[1])
	industry := industryWords[x.Industry]
	code := fmt.Sprintf("%02X", x.Industry)
	r.words("industry", "industry", "行业", strings.TrimSpace(code+" "+industry[0]), strings.TrimSpace(code+" "+industry[1]))
	r.text("line", "line", "线路", fmt.Sprintf("%X", x.Line))
	r.text("station", "station", "站点", fmt.Sprintf("%X", x.Station))
	r.text("operator", "operator", "运营公司", fmt.Sprintf("%X", x.Operator))
	r.money("amount_fen", "amount", "交易金额", int64(x.Fen&0x7FFFFFFF))
	r.money("balance_fen", "balance", "余额", int64(x.Balance&0x7FFFFFFF))
	stamp := x.Stamp.Bytes()
	r.text("date", "date", "日期", fmt.Sprintf("%X", stamp[:4]))
	r.text("time", "time", "时间", fmt.Sprintf("%X", stamp[4:]))
	r.text("terminal", "terminal", "终端编号", fmt.Sprintf("%X", x.Terminal))
	r.text("city", "city", "城市代码", fmt.Sprintf("%X", x.City))
	r.text("acquirer", "acquirer", "收单机构", fmt.Sprintf("%X", x.Acquirer))
	if name, ok := regionName(x.City); ok {
		r.text("city_name", "city's name", "城市名称", name)
	}
	return r, true
}

func railRecord(b []byte) (Record, bool) {
	x, err := purse.ParseTransit(b)
	if err != nil {
		return Record{}, false
	}
	r := Record{Kind: RailRecord, SFI: purse.SFITransit, Raw: bytes.Clone(b)}
	status := map[purse.TransitStatus][2]string{purse.NeverRidden: {"never ridden", "未乘车"}, purse.Entered: {"entered", "已进站"}, purse.Left: {"left", "已出站"}}[x.Status]
	r.words("status", "status", "进出站状态", status[0], status[1])
	if x.Status == purse.NeverRidden {
		return r, true
	}
	r.text("entry_station", "entry station", "进站站点", fmt.Sprintf("%X", x.EntryStation))
	r.text("entry_time", "entry time", "进站时间", x.EntryAt.String())
	if x.Status == purse.Left {
		r.text("exit_station", "exit station", "出站站点", fmt.Sprintf("%X", x.ExitStation))
		r.text("exit_time", "exit time", "出站时间", x.ExitAt.String())
		r.money("amount_fen", "paid", "实付金额", int64(x.Actual))
	}
	r.money("month_fen", "month's spending", "当月累计", int64(x.Accumulated))
	r.number("month_rides", "month's rides", "当月次数", int64(x.Count))
	return r, true
}

//go:embed data/bmac_terminal_lines.csv data/regions.csv
var tableFiles embed.FS

// places are the names of codes on transit cards.
type places struct {
	lines   map[string]string // digits 4 and 5 of a Beijing terminal
	regions map[string]string // UnionPay region code
}

var tables = sync.OnceValue(func() places {
	return places{lines: column("data/bmac_terminal_lines.csv"), regions: column("data/regions.csv")}
})

// column reads the first column of an embedded table as keys of the second.
func column(file string) map[string]string {
	text, err := tableFiles.ReadFile(file)
	if err != nil {
		panic(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		panic(fmt.Sprintf("dialogue: %s: %v", file, err))
	}
	out := make(map[string]string, len(rows))
	for _, r := range rows[1:] {
		out[r[0]] = r[1]
	}
	return out
}

// regionName names a UnionPay region code.
func regionName(code [2]byte) (string, bool) {
	name, ok := tables().regions[fmt.Sprintf("%X", code)]
	return name, ok
}
