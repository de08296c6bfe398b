package dialogue

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
)

// dispatch asks the explainers in their one order: what every application has
// alike (SELECT, GET DATA, PIN), then the application that is selected, then
// whoever knows the instruction.
func (t *telling) dispatch() {
	base := iso7816.Base(t.c.CLA)
	switch ins := t.c.INS; {
	case t.c.CLA == claReader:
		t.reader()
	case base == 0 && ins == iso7816.InsSelect && t.c.P1 == 0x04:
		t.selectName(t.c.Data)
	case base == 0 && ins == iso7816.InsSelect:
		t.selectFile()
	case t.native():
	case base == 0x80 && ins == iso7816.InsGetData, base == 0 && ins == iso7816.InsGetData:
		t.getData()
	case ins == globalplatform.InsInitializeUpdate && len(t.c.Data) == 8 && t.management():
	case t.app.kind == Coupons && t.coupon():
	case (t.app.kind.Payment() || t.app.kind == Directory || t.app.kind == GeldKarte) && t.payment():
	case t.app.kind == GlobalPlatform && t.management():
	case t.app.kind.Purse() && t.purse():
	case t.anywhere():
	default:
		t.unknown()
	}
}

// anywhere is for commands while nothing is selected whose kind is known: the
// shape of the command decides.
func (t *telling) anywhere() bool {
	if iso7816.Base(t.c.CLA) == 0 && t.c.INS == iso7816.InsReadRecord && bytes.HasPrefix(t.r.Data, []byte{byte(emv.TagRecord)}) {
		return t.payment()
	}
	return t.management() || t.purse() || t.payment() || t.plain()
}

// plain is ISO 7816-4 alone.
func (t *telling) plain() bool {
	e, ok := iso7816.Explain(t.c, t.r)
	if ok {
		t.e, t.known = e, true
	}
	return ok
}

// hideSecrets hides the data of a command that has a secret inside, also when
// the command is malformed.
func (t *telling) hideSecrets() {
	hide := slices.ContainsFunc(t.e.Fields, func(f iso7816.Field) bool { return f.Secret })
	if c := t.in.Command; len(c) > 1 {
		switch c[1] {
		case iso7816.InsVerify, pboc.InsPINChange, purse.InsReloadPIN, globalplatform.InsPutKey:
			hide = true
		case globalplatform.InsStoreData:
			hide = hide || c[0]&0x80 != 0
		}
	}
	for i := 8; hide && i < len(t.hide[sent]); i++ {
		t.hide[sent][i] = secret
	}
}

// unknown still says what the parts are.
func (t *telling) unknown() {
	t.title(fmt.Sprintf("command %02X %02X", t.c.CLA, t.c.INS), fmt.Sprintf("命令 %02X %02X", t.c.CLA, t.c.INS))
	t.add("parameters", "参数", fmt.Sprintf("%02X %02X", t.c.P1, t.c.P2))
	if n := len(t.c.Data); n > 0 {
		t.add("data sent", "发送数据", fmt.Sprintf("%d bytes", n))
	}
	if looksObjects(t.r.Data) {
		t.known = true
		t.tree(t.r.Data, 0)
	} else if n := len(t.r.Data); n > 0 {
		t.add("data received", "接收数据", fmt.Sprintf("%d bytes", n))
	}
}

// claReader marks commands that the reader itself answers (PC/SC part 3).
const claReader = 0xFF

// reader is a command that the reader itself answers (PC/SC part 3).
func (t *telling) reader() {
	t.known = true
	switch {
	case t.c.INS == iso7816.InsGetData && t.c.P1 == 0:
		t.title("GET DATA of the reader: the card's UID", "读卡器取卡号 UID")
		t.add("UID", "UID", fmt.Sprintf("%X", t.r.Data))
	case t.c.INS == iso7816.InsGetData:
		t.title("GET DATA of the reader: the card's historical bytes", "读卡器取卡片历史字节 ATS")
		t.add("historical bytes", "历史字节", fmt.Sprintf("%X", t.r.Data))
	default:
		t.title("command for the reader itself", "发给读卡器本身的命令")
	}
}

// selectName is SELECT by application name. An answer that refuses leaves the
// selection as it was.
func (t *telling) selectName(asked []byte) {
	t.known = true
	aid := asked
	if name, ok := fciName(t.r.Data); ok && t.given() {
		aid = name
	}
	name, _ := kindOf(aid)
	if len(asked) == 0 && len(aid) == 0 {
		name = aidName{kind: GlobalPlatform, en: "what the card selects by default", zh: "默认应用"}
	}
	t.title("SELECT "+name.en, "选择"+name.zh)
	t.add("name", "名称", aidText(asked))
	if _, more := t.r.SW.More(); !more && !t.given() {
		return
	}
	t.enter(aid, name)
	if !bytes.Equal(aid, asked) && len(aid) > 0 {
		t.add("selected", "选中", aidText(aid))
	}
	t.tree(t.r.Data, 0)
}

// aidText is an application name in hexadecimal, or as text when it is one.
func aidText(aid []byte) string {
	for _, b := range aid {
		if b < 0x20 || b > 0x7E {
			return fmt.Sprintf("%X", aid)
		}
	}
	if len(aid) == 0 {
		return "-"
	}
	return fmt.Sprintf("%X (%s)", aid, aid)
}

func fciName(data []byte) ([]byte, bool) {
	tag, val, _, ok := nextObject(data)
	if !ok || tag != emv.TagFCI {
		return nil, false
	}
	for len(val) > 0 {
		inner, v, rest, ok := nextObject(val)
		if !ok {
			break
		}
		if inner == emv.TagDFName {
			return v, true
		}
		val = rest
	}
	return nil, false
}

// enter makes aid the application that answers from now on.
func (t *telling) enter(aid []byte, name aidName) {
	if a := t.find(aid); a != nil {
		t.certify(a)
		a.again()
		t.app = a
	} else {
		a := newApplication(bytes.Clone(aid))
		a.kind, a.name = name.kind, name
		t.apps = append(t.apps, a)
		t.app = a
	}
	t.current[t.channel] = t.app
	switch {
	case bytes.Equal(aid, namePPSE):
		t.iface = Contactless
	case bytes.Equal(aid, namePSE):
		t.iface = Contact
	}
}

// selectFile is SELECT of a file by identifier: DF 1001 makes a Beijing card.
func (t *telling) selectFile() {
	if e, ok := purse.Explain(t.c, t.r); ok {
		t.e, t.known = e, true
	}
	if bytes.Equal(t.c.Data, []byte{0x10, 0x01}) && t.given() && (t.app == t.loose || t.app.kind == BeijingBMAC) {
		t.app.kind = BeijingBMAC
	}
	if len(t.r.Data) > 0 {
		t.tree(t.r.Data, 0)
	}
}

// getData is GET DATA: an object of the card's issuer domain or of the
// application.
func (t *telling) getData() {
	tag := uint16(t.c.P1)<<8 | uint16(t.c.P2)
	if e, ok := globalplatform.Explain(t.c, t.r); ok && managementData[tag] && (!t.app.kind.Payment() || tag == uint16(tagCPLC)) {
		t.e, t.known = e, true
		t.e.EN, t.e.ZH = "GET DATA: "+strings.TrimPrefix(e.EN, "read "), "取数据："+strings.TrimPrefix(e.ZH, "读取")
		if t.app == t.loose && t.given() && t.r.SW != 0 && t.app.kind == Unknown {
			t.app.kind = GlobalPlatform
		}
		t.tree(t.r.Data, 0)
		return
	}
	name := nameOf(tagOf(tag), t.app.kind)
	t.title("GET DATA: "+name.en, "取数据："+name.zh)
	t.known = true
	if len(t.r.Data) > 0 {
		t.tree(t.r.Data, 0)
	}
}

// managementData are the objects of GET DATA that the issuer domain has.
var managementData = map[uint16]bool{0x42: true, 0x45: true, 0x66: true, 0x67: true, 0xE0: true, 0xC1: true, 0xC2: true, 0xCF: true, 0x9F7F: true}

// native is a wrapped native command of DESFire. Class 90 is nobody else's.
func (t *telling) native() bool {
	e, ok := desfire.Explain(t.c, t.r)
	if !ok {
		return false
	}
	t.e, t.known, t.statusTold = e, true, true
	if _, ours := desfire.StatusOf(t.r.SW); ours && t.app == t.loose {
		t.app.kind = DESFire
	}
	return true
}

// management is GlobalPlatform.
func (t *telling) management() bool {
	e, ok := globalplatform.Explain(t.c, t.r)
	if !ok || t.c.INS == iso7816.InsExternalAuthenticate && t.c.CLA&0x04 == 0 {
		return false
	}
	t.e, t.known = e, true
	if t.app == t.loose && t.app.kind == Unknown {
		t.app.kind = GlobalPlatform
	}
	return true
}

// purse is a purse or PSAM of PBOC ED/EP.
func (t *telling) purse() bool {
	e, ok := purse.Explain(t.c, t.r)
	if !ok {
		return false
	}
	t.e, t.known = e, true
	switch t.c.INS {
	case purse.InsSAMPurchase, purse.InsSAMCredit, purse.InsSAMKeySelect, purse.InsSAMCipher:
		if t.app == t.loose && t.app.kind == Unknown {
			t.app.kind = PSAM
		}
	}
	t.learnPurse()
	return true
}

// knownInstruction says that cards of this package's kinds have the
// instruction, so that bytes beginning so are a command.
func knownInstruction(cla, ins byte) bool {
	switch ins {
	case iso7816.InsVerify, iso7816.InsManageChannel, iso7816.InsExternalAuthenticate, iso7816.InsGetChallenge,
		iso7816.InsInternalAuthenticate, iso7816.InsSelect, iso7816.InsReadBinary, iso7816.InsReadRecord,
		iso7816.InsGetResponse, iso7816.InsGetData, iso7816.InsUpdateBinary, iso7816.InsPutData,
		iso7816.InsUpdateRecord, iso7816.InsAppendRecord:
		return true
	}
	if iso7816.Base(cla) == 0 {
		return cla&0x0C != 0
	}
	switch ins {
	case pboc.InsGPO, pboc.InsGenerateAC, pboc.InsReadCAPP, pboc.InsUpdateCAPP, pboc.InsPINChange,
		globalplatform.InsInitializeUpdate, globalplatform.InsGetStatus, globalplatform.InsSetStatus,
		globalplatform.InsInstall, globalplatform.InsLoad, globalplatform.InsDelete, globalplatform.InsPutKey:
		return true
	}
	_, ok := purse.Explain(iso7816.Command{CLA: iso7816.Base(cla), INS: ins}, iso7816.Response{})
	return ok
}

// coupon is a discount card of this house.
func (t *telling) coupon() bool {
	e, ok := coupon.Explain(t.c, t.r)
	if ok {
		t.e, t.known = e, true
	}
	return ok
}
