package pboc

import (
	"encoding/binary"
	"fmt"
	"strings"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Explain says in English and Chinese what a command that PBOC adds to EMV and its
// answer mean: the transit extension and issuer scripts, amounts in yuan. False means
// that the command is not one of them; spec/emv explains the rest. A response with
// status word 0 stands for "not answered yet".
func Explain(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	f, ok := explainers[[2]byte{iso7816.WithoutChannel(c.CLA), c.INS}]
	if !ok {
		return iso7816.Explanation{}, false
	}
	t := &telling{c: c, in: c.Data, out: r.Data}
	if !r.SW.OK() {
		t.out = nil
	}
	var mac []byte
	if iso7816.Secure(c.CLA) && len(t.in) >= 4 {
		t.in, mac = t.in[:len(t.in)-4], t.in[len(t.in)-4:]
	}
	f(t)
	if mac != nil {
		t.add("MAC", "报文鉴别码", fmt.Sprintf("%X", mac))
	}
	if r.SW != 0 && !r.SW.OK() {
		t.e.EN += ": " + r.SW.String()
		t.e.ZH += fmt.Sprintf("：%04X %s", uint16(r.SW), r.SW.Meaning(true))
	}
	return t.e, true
}

var explainers = map[[2]byte]func(*telling){
	{0x80, InsReadCAPP}:                       (*telling).readCAPP,
	{claSecure, InsUpdateCAPP}:                (*telling).updateCAPP,
	{0x80, InsProve}:                          (*telling).prove,
	{claSecureInter, iso7816.InsAppendRecord}: (*telling).appendRecord,
	{claSecureInter, iso7816.InsPutData}:      (*telling).putData,
	{claSecureInter, iso7816.InsUpdateRecord}: (*telling).updateRecord,
	{claSecure, InsAppBlock}:                  titled("APPLICATION BLOCK", "应用锁定"),
	{claSecure, InsAppUnblock}:                titled("APPLICATION UNBLOCK", "应用解锁"),
	{claSecure, InsCardBlock}:                 titled("CARD BLOCK", "卡片锁定"),
	{claSecure, InsPINChange}:                 (*telling).pinChange,
}

// A telling takes a command and its answer apart.
type telling struct {
	c       iso7816.Command
	e       iso7816.Explanation
	in, out []byte
}

func (t *telling) title(en, zh string) { t.e.EN, t.e.ZH = en, zh }

func (t *telling) add(en, zh, value string) { t.e = t.e.Add(en, zh, value) }

func (t *telling) hex(en, zh string, b []byte) {
	if len(b) > 0 {
		t.add(en, zh, fmt.Sprintf("%X", b))
	}
}

func (t *telling) file() { t.add("file", "文件", fmt.Sprintf("%02X", t.c.P2>>3)) }

func titled(en, zh string) func(*telling) {
	return func(t *telling) { t.title(en, zh) }
}

func (t *telling) readCAPP() {
	t.title("READ CAPP DATA", "读取行业应用数据")
	t.file()
	if len(t.in) >= 2 {
		t.hex("record", "记录标识", t.in[:2])
		t.hex("random", "随机数", t.in[2:])
	}
	if len(t.in) > 2 && len(t.out) > 4 {
		t.industry(t.out[:len(t.out)-4])
		t.hex("proof", "响应 MAC", t.out[len(t.out)-4:])
		return
	}
	t.industry(t.out)
}

func (t *telling) updateCAPP() {
	t.title("UPDATE CAPP DATA CACHE", "更新行业应用数据缓存")
	t.file()
	t.industry(t.in)
	t.hex("proof", "响应 MAC", t.out)
}

// industry names the fields of a transit operator's record; another stays hexadecimal.
func (t *telling) industry(rec []byte) {
	x, err := ParseBus(rec)
	if err != nil {
		t.hex("record", "记录", rec)
		return
	}
	status, zh := "left", "已出站"
	if x.Status == BusEntered {
		status, zh = "entered", "已进站"
	}
	t.add("status", "状态", fmt.Sprintf("%02X %s %s", x.Status, status, zh))
	for _, s := range []struct {
		en, zh string
		stop   BusStop
	}{{"entry", "进站", x.Entry}, {"exit", "出站", x.Exit}, {"last", "最近", x.Last}} {
		if s.stop != (BusStop{}) {
			t.add(s.en, s.zh, fmt.Sprintf("%X by %X", s.stop.Time, s.stop.Device))
		}
	}
	t.add("this month", "本月累计", fmt.Sprintf("%s CNY, %d rides", Yuan(uint64(x.MonthFen)), x.MonthRides))
	t.add("paid", "实付", Yuan(uint64(x.Fen))+" CNY")
}

func (t *telling) prove() {
	t.title("GET TRANS PROVE", "取交易认证")
	if len(t.in) == 2 {
		t.add("transaction counter", "交易计数器", fmt.Sprintf("%d", binary.BigEndian.Uint16(t.in)))
	}
	t.hex("transaction certificate", "交易证书", t.out)
}

func (t *telling) appendRecord() {
	t.title("APPEND RECORD: open an industry record", "追加记录：开通行业应用")
	t.file()
	if len(t.in) > 16 {
		t.e.Fields = append(t.e.Fields, iso7816.Field{Name: "record key", NameZH: "记录密钥", Value: "••••", Secret: true})
		t.industry(t.in[16:])
	}
}

func (t *telling) putData() {
	tag := uint16(t.c.P1)<<8 | uint16(t.c.P2)
	t.title("PUT DATA", "设置数据")
	name, zh := fmt.Sprintf("%04X", tag), ""
	if o, ok := emv.Lookup(tlv.Tag(tag), true); ok {
		name, zh = name+" "+o.EN, o.ZH
	}
	if fen, err := ParseAmount(t.in); err == nil {
		t.add(name, zh, Yuan(fen)+" CNY")
		return
	}
	t.add(name, zh, fmt.Sprintf("%X", t.in))
}

func (t *telling) updateRecord() {
	t.title("UPDATE RECORD", "更新记录")
	t.file()
	t.add("number", "记录号", fmt.Sprintf("%d", t.c.P1))
	t.hex("record", "记录", t.in)
}

func (t *telling) pinChange() {
	if t.c.P2 == 0 {
		t.title("PIN UNBLOCK", "密码解锁")
		return
	}
	t.title("PIN CHANGE", "密码修改")
	t.e.Fields = append(t.e.Fields, iso7816.Field{Name: "new PIN", NameZH: "新密码", Value: "••••", Secret: true})
}

// Yuan writes fen as yuan: 12.34.
func Yuan(fen uint64) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

// Words says what the card decided and why, parts separated by commas (or their
// Chinese counterpart).
func (v CVR) Words(zh bool) string {
	lang, comma := 0, ", "
	if zh {
		lang, comma = 1, "，"
	}
	out := []string{[...][2]string{{"declined", "拒绝"}, {"approved offline", "脱机批准"}, {"online", "联机"}, {"reserved", "保留"}}[v.First()][lang]}
	if s := v.Second(); s != NotRequested {
		out = append(out, [...][2]string{{"then declined", "其后拒绝"}, {"then approved", "其后批准"}, {"", ""}, {"then reserved", "其后保留"}}[s][lang])
	}
	for _, w := range cvrWords {
		if v.Has(w.bit) {
			out = append(out, w.words[lang])
		}
	}
	if n := v.Scripts(); n > 0 {
		out = append(out, fmt.Sprintf([...]string{"%d script commands", "%d 条脚本命令"}[lang], n))
	}
	return strings.Join(out, comma)
}

var cvrWords = [...]struct {
	bit   CVR
	words [2]string
}{
	{CVRIssuerAuthFailed, [2]string{"issuer authentication failed", "发卡行认证失败"}},
	{CVROfflinePIN, [2]string{"offline PIN checked", "已验证脱机密码"}},
	{CVRPINFailed, [2]string{"offline PIN wrong", "脱机密码错误"}},
	{CVRNoOnline, [2]string{"unable to go online", "无法联机"}},
	{CVRLastOnlineOpen, [2]string{"last online transaction not completed", "上次联机交易未完成"}},
	{CVRPINLimit, [2]string{"PIN tries used up", "密码次数超限"}},
	{CVRVelocity, [2]string{"a limit exceeded", "频度检查超限"}},
	{CVRNewCard, [2]string{"new card", "新卡"}},
	{CVRLastIssuerAuthFailed, [2]string{"last issuer authentication failed", "上次发卡行认证失败"}},
	{CVRNoIssuerAuth, [2]string{"last issuer authentication missing", "上次未做发卡行认证"}},
	{CVRBlockedByPIN, [2]string{"blocked by PIN tries", "因密码超限锁定"}},
	{CVRLastSDAFailed, [2]string{"last SDA failed", "上次静态认证失败"}},
	{CVRScriptFailed, [2]string{"last script failed", "上次脚本失败"}},
	{CVRLastDDAFailed, [2]string{"last DDA failed", "上次动态认证失败"}},
	{CVRDDA, [2]string{"DDA done", "已做动态认证"}},
}
