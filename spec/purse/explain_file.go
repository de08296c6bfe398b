package purse

import (
	"bytes"
	"fmt"

	"koala/spec/iso7816"
)

// fileWords names the files by short identifier.
var fileWords = map[byte][2]string{
	SFIBeijing: {"file 04, number and validity of the Beijing card", "04 文件，北京卡号与有效期"},
	SFIPublic:  {"file 15, issuer, card number and validity", "15 文件，公共应用信息"},
	SFIHolder:  {"file 16, holder", "16 文件，持卡人信息"},
	SFIRegion:  {"file 17, country and city", "17 文件，管理信息（国家、城市）"},
	SFILog:     {"file 18, transaction log", "18 文件，交易明细"},
	SFILocal:   {"file 19, local industries", "19 文件，地方行业信息"},
	SFITransit: {"file 1A, rail record", "1A 文件，轨道交通信息"},
	SFITrip:    {"file 1E, trip records", "1E 文件，行程记录"},
}

func (t *telling) file(sfi byte) {
	name, ok := fileWords[sfi]
	if !ok {
		name = [2]string{fmt.Sprintf("file %02X", sfi), fmt.Sprintf("%02X 文件", sfi)}
	}
	t.e.EN += ": " + name[0]
	t.e.ZH += "：" + name[1]
}

func (t *telling) selecting() {
	names := []struct {
		aid    []byte
		en, zh string
	}{
		{AIDTUnion, "China T-Union purse", "交通联合电子钱包"},
		{AIDCityUnion, "City-Union purse", "城市一卡通电子钱包"},
		{[]byte{0x10, 0x01}, "directory 1001 of a Beijing card", "北京卡 1001 目录"},
	}
	t.title("SELECT", "选择")
	for _, n := range names {
		if bytes.Equal(n.aid, t.c.Data) {
			t.title("SELECT "+n.en, "选择"+n.zh)
		}
	}
	t.hex(&t.in, len(t.in), "name", "名称")
	if fci, err := ParseFCI(t.out); err == nil && len(fci.Public) == File15Len {
		t.public(fci.Public)
	}
}

func (t *telling) readBinary() {
	t.title("READ BINARY", "读二进制文件")
	if t.c.P1&0x80 == 0 {
		t.add("offset", "偏移", fmt.Sprintf("%d", int(t.c.P1)<<8|int(t.c.P2)))
		t.hex(&t.out, len(t.out), "data", "数据")
		return
	}
	sfi := t.c.P1 & 0x1F
	t.file(sfi)
	switch {
	case sfi == SFIPublic && t.c.P2 == 0 && len(t.out) == File15Len:
		t.public(t.out)
	case sfi == SFIRegion && t.c.P2 == 0 && len(t.out) >= File17Head:
		t.region()
	case sfi == SFIBeijing && t.c.P2 == 0 && len(t.out) == BeijingFileLen:
		t.hex(&t.out, 8, "card number", "卡号")
		t.hex(&t.out, 3, "version", "版本")
		t.hex(&t.out, 13, "reserved", "保留")
		t.hex(&t.out, 4, "valid from", "启用日期")
		t.hex(&t.out, 4, "valid to", "有效日期")
	case sfi == SFISAMTerminal && t.c.P2 == 0 && len(t.out) == 6:
		t.hex(&t.out, 6, "terminal", "终端编号")
	default:
		t.hex(&t.out, len(t.out), "data", "数据")
	}
}

func (t *telling) public(b []byte) {
	t.hex(&b, 8, "issuer", "发卡机构标识")
	t.hex(&b, 1, "application type", "应用类型标识")
	t.hex(&b, 1, "application version", "应用版本")
	t.hex(&b, 10, "card number", "卡号")
	t.hex(&b, 4, "valid from", "启用日期")
	t.hex(&b, 4, "valid to", "有效日期")
	t.hex(&b, 1, "card type", "卡种类型")
	t.hex(&b, 1, "reserved", "保留")
}

func (t *telling) region() {
	t.hex(&t.out, 4, "country", "国家代码")
	t.hex(&t.out, 2, "province", "省级代码")
	t.hex(&t.out, 2, "city", "城市代码")
	t.hex(&t.out, 2, "interoperability", "互通标识")
	if b, ok := take(&t.out, 1); ok {
		kind := CardType(b[0])
		t.add("card type", "卡种类型", fmt.Sprintf("%02X %s %s", b[0], kind.Words(false), kind.Words(true)))
	}
	if len(t.out) > 0 {
		t.hex(&t.out, len(t.out), "reserved", "保留")
	}
}

func (t *telling) readRecord() {
	t.title("READ RECORD", "读记录")
	sfi := t.c.P2 >> 3
	t.file(sfi)
	t.recordName(t.c.P1, t.c.P2&0x04 != 0)
	t.record(sfi, t.out)
}

func (t *telling) recordName(p1 byte, byNumber bool) {
	if byNumber {
		t.add("record", "记录号", fmt.Sprintf("%d", p1))
		return
	}
	t.add("record identifier", "记录标识", fmt.Sprintf("%02X", p1))
}

// record names the fields of a record as its file defines them.
func (t *telling) record(sfi byte, b []byte) {
	switch {
	case sfi == SFILog && len(b) == LogLen:
		t.number(&b, 2, "sequence", "交易序号")
		t.yuan(&b, 3, "overdraft limit", "透支限额")
		t.yuan(&b, 4, "amount", "交易金额")
		t.typ(&b)
		t.hex(&b, 6, "terminal", "终端编号")
		t.stamp(&b)
	case sfi == SFITrip && len(b) == TripLen:
		t.trip(b)
	case sfi == SFITransit && len(b) == TransitLen:
		t.transit(b)
	case len(b) > 0:
		t.add("data", "数据", fmt.Sprintf("%X", b))
	}
}

func (t *telling) trip(b []byte) {
	kinds := map[byte]string{0x02: "single 单次", 0x06: "single 单次", 0x03: "entry 进站", 0x04: "exit 出站"}
	t.add("trip", "行程类型", fmt.Sprintf("%02X %s", b[0], kinds[b[0]]))
	b = b[1:]
	t.hex(&b, 8, "terminal", "终端编号")
	t.hex(&b, 1, "industry", "行业代码")
	t.hex(&b, 2, "line", "线路")
	t.hex(&b, 2, "station", "站点")
	t.hex(&b, 2, "operator", "运营公司")
	t.hex(&b, 1, "reserved", "保留")
	t.yuan(&b, 4, "amount", "交易金额")
	t.yuan(&b, 4, "balance", "余额")
	t.stamp(&b)
	t.hex(&b, 2, "city", "城市代码")
	t.hex(&b, 8, "acquirer", "收单机构")
	t.hex(&b, 6, "reserved", "保留")
}

func (t *telling) transit(b []byte) {
	r, err := ParseTransit(b)
	if err != nil {
		t.add("rail record", "轨道记录", err.Error())
		return
	}
	status := map[TransitStatus]string{NeverRidden: "never ridden 未乘车", Entered: "entered 已进站", Left: "left 已出站"}
	t.add("status", "进出站状态", fmt.Sprintf("%02X %s", byte(r.Status), status[r.Status]))
	if r.Status == NeverRidden {
		return
	}
	t.add("entry station", "进站站点", fmt.Sprintf("%X", r.EntryStation))
	t.add("entry time", "进站时间", r.EntryAt.String())
	if r.Status == Left {
		t.add("exit station", "出站站点", fmt.Sprintf("%X", r.ExitStation))
		t.add("exit time", "出站时间", r.ExitAt.String())
		t.add("paid", "实付金额", Yuan(r.Actual)+" CNY")
	}
	t.add("month's spending", "当月累计", Yuan(r.Accumulated)+" CNY")
	t.add("month's rides", "当月次数", fmt.Sprintf("%d", r.Count))
}

func (t *telling) updateCAPP() {
	t.title("UPDATE CAPP DATA CACHE: the card keeps a record until the debit writes it", "更新复合应用数据缓存")
	x, err := ParseUpdateCAPP(t.c)
	if err != nil {
		return
	}
	t.file(x.SFI)
	t.recordName(x.ID, x.ByNumber)
	t.record(x.SFI, x.Record)
}

// plainData is the command's data without a secure messaging MAC.
func (t *telling) plainData() []byte {
	if n := len(t.c.Data); iso7816.Secure(t.c.CLA) && n >= 4 {
		return t.c.Data[:n-4]
	}
	return t.c.Data
}

func (t *telling) updateBinary() {
	t.title("UPDATE BINARY", "写二进制文件")
	if t.c.P1&0x80 != 0 {
		t.file(t.c.P1 & 0x1F)
	}
	t.add("offset", "偏移", fmt.Sprintf("%d", t.c.P2))
	t.add("data", "数据", fmt.Sprintf("%X", t.plainData()))
}

func (t *telling) updateRecord() {
	t.title("UPDATE RECORD", "写记录")
	t.file(t.c.P2 >> 3)
	t.recordName(t.c.P1, t.c.P2&0x04 != 0)
	t.record(t.c.P2>>3, t.plainData())
}

func (t *telling) appendRecord() {
	t.title("APPEND RECORD", "追加记录")
	t.file(t.c.P2 >> 3)
	t.record(t.c.P2>>3, t.plainData())
}
