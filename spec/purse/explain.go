package purse

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
)

// Explain says in English and Chinese what a command to a purse or PSAM and
// its answer mean, every field named, amounts in yuan. It knows every command
// of the purse; false means that the command is not one of them. A response
// with status word 0 stands for "not answered yet".
func Explain(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	f, ok := explainers[[2]byte{iso7816.Base(c.CLA), c.INS}]
	if !ok {
		return iso7816.Explanation{}, false
	}
	t := &telling{c: c, in: c.Data, out: r.Data}
	if !r.SW.OK() {
		t.out = nil // a refusal carries nothing worth naming
	}
	f(t)
	if iso7816.Secure(c.CLA) {
		t.secured()
	}
	if r.SW != 0 && !r.SW.OK() {
		t.e.EN += ": " + r.SW.String()
		t.e.ZH += fmt.Sprintf("：%04X %s", uint16(r.SW), r.SW.Meaning(true))
	}
	return t.e, true
}

// A telling takes a command and its answer apart from the left. Fields whose
// bytes are not there are left out, so a malformed command explains as far as
// it goes.
type telling struct {
	c       iso7816.Command
	e       iso7816.Explanation
	in, out []byte
}

func (t *telling) title(en, zh string) { t.e.EN, t.e.ZH = en, zh }

func (t *telling) add(en, zh, value string) { t.e = t.e.Add(en, zh, value) }

func take(from *[]byte, n int) ([]byte, bool) {
	if len(*from) < n {
		*from = nil
		return nil, false
	}
	b := (*from)[:n]
	*from = (*from)[n:]
	return b, true
}

func (t *telling) hex(from *[]byte, n int, en, zh string) {
	if b, ok := take(from, n); ok {
		t.add(en, zh, fmt.Sprintf("%X", b))
	}
}

func (t *telling) number(from *[]byte, n int, en, zh string) {
	if b, ok := take(from, n); ok {
		var wide [8]byte
		copy(wide[8-n:], b)
		t.add(en, zh, fmt.Sprintf("%d", binary.BigEndian.Uint64(wide[:])))
	}
}

func (t *telling) yuan(from *[]byte, n int, en, zh string) {
	if b, ok := take(from, n); ok {
		var wide [4]byte
		copy(wide[4-n:], b)
		t.add(en, zh, Yuan(binary.BigEndian.Uint32(wide[:])&0x7FFFFFFF)+" CNY")
	}
}

func (t *telling) stamp(from *[]byte) {
	if b, ok := take(from, 7); ok {
		t.add("date and time", "日期时间", StampFrom([7]byte(b)).String())
	}
}

func (t *telling) typ(from *[]byte) {
	if b, ok := take(from, 1); ok {
		typ := Type(b[0])
		t.add("type", "交易类型", fmt.Sprintf("%02X %s %s", b[0], typ.Words(false), typ.Words(true)))
	}
}

// secured names the MAC at the end of a command under secure messaging.
func (t *telling) secured() {
	if n := len(t.c.Data); n >= 4 {
		t.add("secure messaging MAC", "安全报文 MAC", fmt.Sprintf("%X", t.c.Data[n-4:]))
	}
}

func (t *telling) secret(en, zh string) {
	t.e.Fields = append(t.e.Fields, iso7816.Field{Name: en, NameZH: zh, Value: "••••", Secret: true})
	t.in = nil
}

var explainers = map[[2]byte]func(*telling){
	{0x80, InsInit}:                         (*telling).initialize,
	{0x80, InsCredit}:                       (*telling).credit,
	{0x80, InsDebit}:                        (*telling).debit,
	{0x80, InsOverdraw}:                     (*telling).overdraw,
	{0x80, InsProve}:                        (*telling).prove,
	{0x80, InsBalance}:                      (*telling).balance,
	{0x80, InsReloadPIN}:                    (*telling).reloadPIN,
	{0x80, InsPINUnblock}:                   (*telling).unblockPIN,
	{0x80, InsUpdateCAPP}:                   (*telling).updateCAPP,
	{0x80, InsCardBlock}:                    (*telling).cardBlock,
	{0x80, InsAppUnblock}:                   (*telling).appUnblock,
	{0x80, InsAppBlock}:                     (*telling).appBlock,
	{0x80, InsSAMPurchase}:                  (*telling).samPurchase,
	{0x80, InsSAMCredit}:                    (*telling).samCredit,
	{0x80, InsSAMKeySelect}:                 (*telling).samKey,
	{0x80, InsSAMCipher}:                    (*telling).samCipher,
	{0x00, iso7816.InsVerify}:               (*telling).verify,
	{0x00, iso7816.InsSelect}:               (*telling).selecting,
	{0x00, iso7816.InsReadBinary}:           (*telling).readBinary,
	{0x00, iso7816.InsReadRecord}:           (*telling).readRecord,
	{0x00, iso7816.InsUpdateBinary}:         (*telling).updateBinary,
	{0x00, iso7816.InsUpdateRecord}:         (*telling).updateRecord,
	{0x00, iso7816.InsAppendRecord}:         (*telling).appendRecord,
	{0x00, iso7816.InsGetChallenge}:         (*telling).challenge,
	{0x00, iso7816.InsExternalAuthenticate}: (*telling).external,
	{0x00, iso7816.InsInternalAuthenticate}: (*telling).internal,
}

func (t *telling) purseName() {
	switch Purse(t.c.P2) {
	case ED:
		t.add("purse", "账户", "ED 电子存折")
	case EP:
		t.add("purse", "账户", "EP 电子钱包")
	default:
		t.add("purse", "账户", fmt.Sprintf("%02X", t.c.P2))
	}
}

func (t *telling) initialize() {
	switch t.c.P1 {
	case initLoad:
		t.title("INITIALIZE FOR LOAD: a host wants to add money", "圈存初始化")
	case initPurchase:
		t.title("INITIALIZE FOR PURCHASE: a terminal wants to be paid", "消费初始化")
	case initCAPP:
		t.title("INITIALIZE FOR CAPP PURCHASE: a gate wants to be paid and to write records", "复合消费初始化")
	case initOverdraw:
		t.title("INITIALIZE FOR UPDATE: a host wants to change the overdraft limit", "修改透支限额初始化")
	case initUnload:
		t.title("INITIALIZE FOR UNLOAD: a host wants to take money back", "圈提初始化")
	default:
		t.title(fmt.Sprintf("INITIALIZE %02X", t.c.P1), fmt.Sprintf("交易初始化 %02X", t.c.P1))
	}
	t.purseName()
	t.hex(&t.in, 1, "key index", "密钥索引")
	if t.c.P1 != initOverdraw {
		t.yuan(&t.in, 4, "amount", "交易金额")
	}
	t.hex(&t.in, 6, "terminal", "终端编号")
	t.initAnswer()
}

func (t *telling) initAnswer() {
	offline := t.c.P1 == initPurchase || t.c.P1 == initCAPP
	t.yuan(&t.out, 4, "balance", "余额")
	if offline {
		t.number(&t.out, 2, "offline sequence", "脱机交易序号")
	} else {
		t.number(&t.out, 2, "online sequence", "联机交易序号")
	}
	if offline || t.c.P1 == initOverdraw {
		t.yuan(&t.out, 3, "overdraft limit", "透支限额")
	}
	t.hex(&t.out, 1, "key version", "密钥版本")
	t.hex(&t.out, 1, "algorithm", "算法标识")
	t.hex(&t.out, 4, "card random", "卡片随机数")
	if !offline {
		t.hex(&t.out, 4, "MAC1 of the card", "卡片 MAC1")
	}
}

func (t *telling) credit() {
	t.title("CREDIT FOR LOAD: the host proves itself and the card takes the money", "圈存")
	t.stamp(&t.in)
	t.hex(&t.in, 4, "MAC2 of the host", "主机 MAC2")
	t.hex(&t.out, 4, "TAC, proof of the credit", "交易认证码 TAC")
}

func (t *telling) debit() {
	if t.c.P1 == 0x03 {
		t.title("DEBIT FOR UNLOAD: the card gives money back", "圈提")
		t.stamp(&t.in)
		t.hex(&t.in, 4, "MAC2 of the host", "主机 MAC2")
		t.hex(&t.out, 4, "MAC3 of the card", "卡片 MAC3")
		return
	}
	t.title("DEBIT FOR PURCHASE: the card checks MAC1, pays and writes records and log in one unit", "消费扣款")
	t.number(&t.in, 4, "terminal sequence", "终端交易序号")
	t.stamp(&t.in)
	t.hex(&t.in, 4, "MAC1 of the PSAM", "PSAM 卡 MAC1")
	t.hex(&t.out, 4, "TAC, proof of the debit", "交易认证码 TAC")
	t.hex(&t.out, 4, "MAC2 of the card", "卡片 MAC2")
}

func (t *telling) overdraw() {
	t.title("UPDATE OVERDRAW LIMIT: the card takes a new overdraft limit", "修改透支限额")
	t.yuan(&t.in, 3, "new limit", "新透支限额")
	t.stamp(&t.in)
	t.hex(&t.in, 4, "MAC2 of the host", "主机 MAC2")
	t.hex(&t.out, 4, "TAC", "交易认证码 TAC")
}

func (t *telling) prove() {
	t.title("GET TRANSACTION PROVE: the answer was lost, the card repeats its proofs", "取交易认证")
	typ := []byte{t.c.P2}
	t.typ(&typ)
	t.number(&t.in, 2, "sequence asked for", "交易序号")
	t.hex(&t.out, 4, "MAC2 of the card", "卡片 MAC2")
	t.hex(&t.out, 4, "TAC", "交易认证码 TAC")
}

func (t *telling) balance() {
	t.title("GET BALANCE", "读余额")
	t.purseName()
	part := map[byte][2]string{
		0: {"balance", "余额"}, 1: {"overdraft limit", "透支限额"}, 2: {"overdraft used", "已透支额"}, 3: {"own money", "自有余额"},
	}
	name, ok := part[t.c.P1]
	if !ok {
		name = part[0]
	}
	t.yuan(&t.out, 4, name[0], name[1])
}

func (t *telling) reloadPIN() {
	t.title("RELOAD PIN: the issuer sets a new PIN", "重装密码")
	t.secret("new PIN and MAC", "新密码与 MAC")
}

func (t *telling) unblockPIN() {
	t.title("PIN UNBLOCK: the issuer frees the PIN", "密码解锁")
	t.secret("PIN and MAC", "密码与 MAC")
}

func (t *telling) verify() {
	t.title("VERIFY: the holder's PIN", "验证密码")
	t.secret("PIN", "密码")
}

func (t *telling) cardBlock() { t.title("CARD BLOCK: the card is blocked for ever", "卡片锁定") }

func (t *telling) appUnblock() {
	t.title("APPLICATION UNBLOCK: the application works again", "应用解锁")
}

func (t *telling) appBlock() {
	if t.c.P2 == 0x01 {
		t.title("APPLICATION BLOCK, for ever", "应用永久锁定")
		return
	}
	t.title("APPLICATION BLOCK, until unblocked", "应用临时锁定")
}

func (t *telling) samPurchase() {
	t.title("INIT_SAM_FOR_PURCHASE: the gate's PSAM takes its next number and makes MAC1", "PSAM 消费初始化")
	t.hex(&t.in, 4, "card random", "卡片随机数")
	t.number(&t.in, 2, "offline sequence", "脱机交易序号")
	t.yuan(&t.in, 4, "amount", "交易金额")
	t.typ(&t.in)
	t.stamp(&t.in)
	t.hex(&t.in, 1, "key version", "密钥版本")
	t.hex(&t.in, 1, "algorithm", "算法标识")
	t.hex(&t.in, 8, "dispersion factor: card", "分散因子：卡号")
	t.hex(&t.in, 8, "dispersion factor: issuer", "分散因子：发卡机构")
	t.number(&t.out, 4, "terminal sequence", "终端交易序号")
	t.hex(&t.out, 4, "MAC1 of the PSAM", "PSAM 卡 MAC1")
}

func (t *telling) samCredit() {
	t.title("CREDIT_SAM_FOR_PURCHASE: the PSAM checks that the card really paid", "PSAM 校验 MAC2")
	t.hex(&t.in, 4, "MAC2 of the card", "卡片 MAC2")
}

func (t *telling) samKey() {
	t.title("the PSAM chooses and disperses a key", "PSAM 通用密钥初始化")
	t.add("key type", "密钥类型", fmt.Sprintf("%02X", t.c.P1))
	t.add("key index", "密钥索引", fmt.Sprintf("%02X", t.c.P2))
	t.hex(&t.in, 8, "dispersion factor: card", "分散因子：卡号")
	t.hex(&t.in, 8, "dispersion factor: issuer", "分散因子：发卡机构")
}

func (t *telling) samCipher() {
	t.title("the PSAM enciphers or authenticates with the key chosen", "PSAM 通用加密或 MAC")
	t.hex(&t.in, len(t.in), "data", "数据")
	t.hex(&t.out, len(t.out), "result", "结果")
}

func (t *telling) challenge() {
	t.title("GET CHALLENGE: the card gives a random number", "取随机数")
	t.hex(&t.out, len(t.out), "random", "随机数")
}

func (t *telling) external() {
	t.title("EXTERNAL AUTHENTICATE: the outside proves a key to the card", "外部认证")
	t.add("key", "密钥标识", fmt.Sprintf("%02X", t.c.P2))
	t.hex(&t.in, 8, "proof", "认证数据")
}

func (t *telling) internal() {
	t.title("INTERNAL AUTHENTICATE: the card proves a key to the outside", "内部认证")
	t.hex(&t.in, len(t.in), "challenge", "认证输入")
	t.hex(&t.out, len(t.out), "proof", "认证数据")
}
