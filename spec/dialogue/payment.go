package dialogue

import (
	"bytes"
	"fmt"
	"strings"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// payment explains the commands of EMV and of PBOC's additions. False: not one
// of them.
func (t *telling) payment() bool {
	f, ok := payments[[2]byte{iso7816.Base(t.c.CLA), t.c.INS}]
	if ok {
		t.known = true
		f(t)
		return true
	}
	e, ok := emv.Explain(t.c, t.r)
	if !ok || t.c.INS == iso7816.InsGetData {
		return false
	}
	t.e, t.known = e, true
	return true
}

var payments map[[2]byte]func(*telling)

func init() { // the functions lead back to the map
	payments = map[[2]byte]func(*telling){
		{0x80, pboc.InsGPO}:                     (*telling).beginTransaction,
		{0x80, pboc.InsGenerateAC}:              (*telling).generateAC,
		{0x00, iso7816.InsReadRecord}:           (*telling).readRecord,
		{0x00, iso7816.InsInternalAuthenticate}: (*telling).internal,
		{0x00, iso7816.InsAppendRecord}:         (*telling).appendRecord,
		{0x80, pboc.InsReadCAPP}:                (*telling).readCAPP,
		{0x80, pboc.InsUpdateCAPP}:              (*telling).updateCAPP,
		{0x80, pboc.InsProve}:                   (*telling).prove,
	}
}

// bare gives the values of template 80: value fields without tags, or data of
// template 77 that is named by tag.
func format1(data []byte) ([]byte, bool) {
	tag, val, _, ok := nextObject(data)
	return val, ok && tag == emv.TagAnswer1
}

// beginTransaction is GET PROCESSING OPTIONS (EMV 4.4 Book 3, 6.5.8): the transaction
// begins, and on a contactless card may end here.
func (t *telling) beginTransaction() {
	t.title("GET PROCESSING OPTIONS: the transaction begins", "取处理选项：交易开始")
	if data, at, ok := template83(t.c); ok {
		t.app.pdolData = bytes.Clone(data)
		switch {
		case len(data) == 0:
			t.add("values of the PDOL", "PDOL 数据", "none")
		case len(t.app.pdol) > 0 && t.values(t.app.pdol, data, at):
			t.seeInterface(data)
		default:
			t.add("values of the PDOL", "PDOL 数据", fmt.Sprintf("%X", data))
		}
	}
	if !t.given() {
		return
	}
	t.app.opened = true
	if list, ok := format1(t.r.Data); ok && len(list) >= 6 {
		t.title("GET PROCESSING OPTIONS: the card names its abilities and its records", "取处理选项：卡片给出应用特征与记录位置")
		t.outer(emv.TagAnswer1)
		t.object(emv.TagAIP, list[:2], place{received, t.offset(list), 1, emv.TagAnswer1})
		t.object(emv.TagAFL, list[2:], place{received, t.offset(list) + 2, 1, emv.TagAnswer1})
		return
	}
	t.tree(t.r.Data, 0)
	if ac := t.app.objects[emv.TagAC]; len(ac) == 8 && tagged(t.r.Data, emv.TagAC) {
		t.decided()
	}
}

// decided says what a contactless card decided (CARD.md 1.3): the kind of its
// cryptogram is in the CVR of 9F10, or in 9F27.
func (t *telling) decided() {
	kind, ok := t.cryptogramKind()
	if !ok {
		return
	}
	w := cryptogramWords[kind]
	t.title("GET PROCESSING OPTIONS: the card decides: "+w[0], "取处理选项：卡片决定："+w[1])
	t.iface = Contactless
}

func (t *telling) cryptogramKind() (byte, bool) {
	if cid := t.app.objects[emv.TagCID]; len(cid) == 1 {
		return emv.CID(cid[0]).Kind(), true
	}
	return cryptogramOf(t.app.objects[emv.TagIAD], false)
}

var cryptogramWords = map[byte][2]string{
	emv.AAC:  {"declined (AAC)", "拒绝 (AAC)"},
	emv.TC:   {"approved offline (TC)", "脱机批准 (TC)"},
	emv.ARQC: {"go online (ARQC)", "请求联机 (ARQC)"},
	0xC0:     {"referral", "请求参考"},
}

// seeInterface learns from a PDOL with terminal transaction qualifiers that
// the reader is contactless.
func (t *telling) seeInterface([]byte) {
	if t.app.pdol.Has(emv.TagTTQ) && t.iface == UnknownInterface {
		t.iface = Contactless
	}
}

// outer puts the template of format 1 in front of its values.
func (t *telling) outer(tag tlv.Tag) {
	name := nameOf(tag, t.app.kind)
	t.objects = append(t.objects, Object{Tag: tag, Name: name.en, NameZH: name.zh, Named: name.known})
}

// offset is where the value field of the answer's template begins.
func (t *telling) offset(val []byte) int { return len(t.r.Data) - len(val) }

func tagged(data []byte, tag tlv.Tag) bool {
	_, ok := tlv.Find(data, tag)
	return ok
}

// template83 is the value field of GET PROCESSING OPTIONS and its offset in
// the command.
func template83(c iso7816.Command) (data []byte, at int, ok bool) {
	tag, val, rest, ok := nextObject(c.Data)
	if !ok || tag != emv.TagCommand {
		return nil, 0, false
	}
	return val, dataAt(c) + len(c.Data) - len(rest) - len(val), true
}

// dataAt is the offset of the data field: behind the header and Lc of one or
// three bytes.
func dataAt(c iso7816.Command) int {
	if c.Extended || len(c.Data) > iso7816.MaxShortData || c.Le > iso7816.MaxShortLe {
		return 7
	}
	return 5
}

// generateAC is GENERATE AC (EMV 4.4 Book 3, 6.5.5).
func (t *telling) generateAC() {
	if t.app.kind != Mastercard && t.iface == UnknownInterface {
		t.iface = Contact // Mastercard asks it on both interfaces
	}
	kind := t.c.P1 & 0xC0
	list, name, zh := t.app.cdol1, "first", "第一次"
	if t.app.cryptograms > 0 {
		list, name, zh = t.app.cdol2, "second", "第二次"
	}
	ask := map[byte]string{emv.AAC: "an AAC", emv.TC: "a TC", emv.ARQC: "an ARQC", 0xC0: "what is reserved"}[kind]
	t.title(fmt.Sprintf("GENERATE AC, %s: the terminal asks for %s", name, ask), fmt.Sprintf("%s生成应用密文：终端请求 %s", zh, ask[strings.IndexByte(ask, ' ')+1:]))
	if t.c.P1&emv.RequestCDA != 0 {
		t.e.EN += " with a combined signature (CDA)"
		t.e.ZH += "，带复合签名 (CDA)"
	}
	if len(t.c.Data) > 0 && !t.values(list, t.c.Data, dataAt(t.c)) {
		t.add("values of the CDOL", "CDOL 数据", fmt.Sprintf("%X", t.c.Data))
	}
	if len(t.r.Data) == 0 || !t.given() {
		return
	}
	t.app.acData = append(bytes.Clone(t.app.acData), t.c.Data...)
	t.app.combined = append(t.app.combined, combinedAnswer{t.unpredictable(list), t.app.acData, bytes.Clone(t.r.Data)})
	t.app.cryptograms++
	if list, ok := format1(t.r.Data); ok && len(list) >= 11 {
		t.outer(emv.TagAnswer1)
		at := t.offset(list)
		for _, part := range []struct {
			tag      tlv.Tag
			from, to int
		}{{emv.TagCID, 0, 1}, {emv.TagATC, 1, 3}, {emv.TagAC, 3, 11}, {emv.TagIAD, 11, len(list)}} {
			if part.to > part.from {
				t.object(part.tag, list[part.from:part.to], place{received, at + part.from, 1, emv.TagAnswer1})
			}
		}
	} else {
		t.tree(t.r.Data, 0)
	}
	if cid := t.app.objects[emv.TagCID]; len(cid) == 1 {
		w := cryptogramWords[emv.CID(cid[0]).Kind()]
		t.e.EN += "; the card: " + w[0]
		t.e.ZH += "；卡片：" + w[1]
	}
}

// unpredictable is the terminal's number that the combined signature covers:
// from the CDOL, else from the PDOL.
func (t *telling) unpredictable(list emv.DOL) []byte {
	for _, asked := range []struct {
		list emv.DOL
		data []byte
	}{{list, t.c.Data}, {t.app.pdol, t.app.pdolData}} {
		if v, err := asked.list.Split(asked.data); err == nil {
			if un, ok := v.Get(emv.TagUN); ok {
				return bytes.Clone(un)
			}
		}
	}
	return nil
}

// readRecord is READ RECORD of a directory, an application or one of its logs.
func (t *telling) readRecord() {
	sfi := t.c.P2 >> 3
	t.title(fmt.Sprintf("READ RECORD %d of file %02X", t.c.P1, sfi), fmt.Sprintf("读 %02X 文件记录 %d", sfi, t.c.P1))
	if t.app.kind == Directory {
		t.e.EN += ", the payment directory"
		t.e.ZH += "，支付目录"
	}
	if len(t.r.Data) == 0 {
		return
	}
	log := logRecord{fileRecord{sfi, t.c.P1}, t.logFile(sfi) == LoadLog, bytes.Clone(t.r.Data)}
	if t.logFile(sfi) == LoadLog && t.c.P1 == 0 {
		t.loads(t.r.Data)
		return
	}
	if t.logFile(sfi) != "" {
		t.logged(log)
		return
	}
	if t.app.kind == GeldKarte && t.geldKarte(sfi) {
		return
	}
	t.located(sfi)
	if !t.unsure() {
		t.app.answers[fileRecord{sfi, t.c.P1}] = bytes.Clone(t.r.Data)
	}
	t.tree(t.r.Data, 0)
}

// located says what the file locator has about the record: whether it is
// signed, and whether reading it commits an offline payment (CARD.md 1.3).
func (t *telling) located(sfi byte) {
	afl, err := emv.ParseAFL(t.app.objects[emv.TagAFL])
	if err != nil {
		return
	}
	for _, id := range afl.Records() {
		if id.SFI == sfi && id.Number == t.c.P1 && id.ODA {
			t.e.EN += ", signed"
			t.e.ZH += "，参与数据认证"
		}
	}
	kind, ok := t.cryptogramKind()
	if last, any := afl.Last(); any && last.SFI == sfi && last.Number == t.c.P1 && t.app.kind == UnionPay && t.iface == Contactless && ok && kind == emv.TC {
		t.e.EN += ", the last: the card commits the payment"
		t.e.ZH += "，末条记录：卡片提交交易"
	}
}

// logFile says which log a file is, by the log entries the card announced.
func (t *telling) logFile(sfi byte) RecordKind {
	for _, e := range []struct {
		tag  tlv.Tag
		kind RecordKind
	}{{emv.TagLogEntry, TransactionLog}, {emv.TagLoadLogEntry, LoadLog}, {tagVisaLogEntry, TransactionLog}} {
		if v := t.app.objects[e.tag]; len(v) == 2 && v[0] == sfi && (e.tag != tagVisaLogEntry || t.app.kind != UnionPay) {
			return e.kind
		}
	}
	return ""
}

// tagVisaLogEntry is Visa's 9F4D.
const tagVisaLogEntry tlv.Tag = 0xDF60

// internal is INTERNAL AUTHENTICATE: dynamic data authentication.
func (t *telling) internal() {
	t.iface = Contact
	t.title("INTERNAL AUTHENTICATE: the card signs the terminal's number (DDA)", "内部认证：卡片对终端随机数签名 (DDA)")
	list := t.app.ddol
	if len(list) == 0 {
		list = emv.DOL{{Tag: emv.TagUN, Len: 4}} // the usual default DDOL
	}
	if !t.values(list, t.c.Data, dataAt(t.c)) {
		t.add("values of the DDOL", "DDOL 数据", fmt.Sprintf("%X", t.c.Data))
	}
	if len(t.r.Data) == 0 || !t.given() {
		return
	}
	t.app.daData = bytes.Clone(t.c.Data)
	if signature, ok := format1(t.r.Data); ok {
		t.outer(emv.TagAnswer1)
		t.object(emv.TagSDAD, signature, place{received, t.offset(signature), 1, emv.TagAnswer1})
	} else {
		t.tree(t.r.Data, 0)
	}
	t.app.daAnswer = t.app.objects[emv.TagSDAD]
}

// proof names the MAC at the end of a script command and gives what is before.
func (t *telling) proof(data []byte) []byte {
	n := len(data)
	if n < 4 || !iso7816.Secure(t.c.CLA) {
		return data
	}
	t.add("MAC of the issuer", "发卡行 MAC", fmt.Sprintf("%X", data[n-4:]))
	return data[:n-4]
}

func (t *telling) appendRecord() {
	t.title(fmt.Sprintf("APPEND RECORD to file %02X: an industry record is opened", t.c.P2>>3), fmt.Sprintf("追加记录至 %02X 文件：开通行业应用", t.c.P2>>3))
	value := t.proof(t.c.Data)
	t.add("record", "记录", fmt.Sprintf("%d bytes", len(value)))
}

// readCAPP and updateCAPP are the extended application of the transit gate
// (CARD.md 1.12).
func (t *telling) readCAPP() {
	t.title(fmt.Sprintf("READ CAPP DATA of file %02X", t.c.P2>>3), fmt.Sprintf("读 %02X 文件行业记录", t.c.P2>>3))
	if len(t.c.Data) >= 2 {
		t.add("record identifier", "记录标识", fmt.Sprintf("%X", t.c.Data[:2]))
	}
	if len(t.r.Data) > 0 {
		t.add("record", "记录", fmt.Sprintf("%X", t.r.Data))
	}
}

func (t *telling) updateCAPP() {
	t.title(fmt.Sprintf("UPDATE CAPP DATA CACHE of file %02X: written when the payment commits", t.c.P2>>3), fmt.Sprintf("更新 %02X 文件行业记录缓存，随交易提交写入", t.c.P2>>3))
	record := t.c.Data
	if n := len(record); n >= 4 {
		t.add("MAC of the terminal", "终端 MAC", fmt.Sprintf("%X", record[n-4:]))
		record = record[:n-4]
	}
	t.add("record", "记录", fmt.Sprintf("%X", record))
	if len(t.r.Data) == 4 {
		t.add("MAC of the card", "卡片 MAC", fmt.Sprintf("%X", t.r.Data))
	}
}

func (t *telling) prove() {
	t.title("GET TRANS PROVE: the answer was lost, the card repeats its cryptogram", "取交易认证")
	if len(t.c.Data) >= 2 {
		t.add("ATC asked for", "交易计数器", fmt.Sprintf("%X", t.c.Data[:2]))
	}
	if len(t.r.Data) == 8 {
		t.add("TC", "交易证书 TC", fmt.Sprintf("%X", t.r.Data))
	}
}

// unwritten explains an answer whose command was not written down, by its
// form: it goes on with what would come next.
func (t *telling) unwritten() {
	if len(t.in.Response) == 0 {
		t.title("nothing", "无内容")
		return
	}
	if len(t.r.Data) == 0 {
		t.title("an answer without its command", "应答，命令未记录")
		t.known = t.r.SW.OK() || t.r.SW>>12 == 6 || t.r.SW>>12 == 9
		return
	}
	tag, val, _, ok := nextObject(t.r.Data)
	switch {
	case !ok || !nameOf(tag, t.app.kind).known:
		t.title("data that is neither a command nor data objects", "既非命令也非数据对象的数据")
		t.add("bytes", "字节", fmt.Sprint(len(t.r.Data)))
		return
	case t.in.Bare && tag != emv.TagFCI:
		t.title("data objects", "数据对象")
		t.known = true
		t.tree(t.r.Data, 0)
		return
	case tag == emv.TagFCI:
		name, _ := fciName(t.r.Data)
		t.selectName(name)
		t.e.Fields = nil
	case t.app.kind.Payment() && !t.app.opened && (tag == emv.TagAnswer1 || tag == emv.TagAnswer2):
		t.beginTransaction()
	case tag == emv.TagAnswer1 && len(val) >= 11 || tag == emv.TagAnswer2 && tagged(t.r.Data, emv.TagCID):
		t.generateAC()
	default:
		t.title("data objects", "数据对象")
		t.tree(t.r.Data, 0)
	}
	t.known = true
	if !t.in.Bare {
		t.e.EN += " (the command was not written down)"
		t.e.ZH += "（命令未记录）"
	}
}

func tagOf(n uint16) tlv.Tag { return tlv.Tag(n) }
