package desfire

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
)

// Explain says in English and Chinese what a native DESFire command and its
// answer mean, every field named as far as it travels in the clear: what is
// enciphered stays bytes, and MACs are named where the length shows them. False
// means that the command is not one. A response with status word 0 stands for
// "not answered yet".
func Explain(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	if c.CLA != CLA {
		return iso7816.Explanation{}, false
	}
	f, ok := explainers[c.INS]
	if !ok {
		return iso7816.Explanation{}, false
	}
	t := &telling{c: c, in: c.Data, out: r.Data}
	f(t)
	if len(t.in) > 0 {
		t.hex(&t.in, len(t.in), "protection of the command", "命令保护数据")
	}
	if len(t.out) == macLen {
		t.hex(&t.out, macLen, "MAC of the card", "卡片 MAC")
	}
	if len(t.out) > 0 {
		t.hex(&t.out, len(t.out), "answer", "应答数据")
	}
	t.status(r.SW)
	return t.e, true
}

// A telling takes a command and its answer apart from the left. Fields whose
// bytes are not there are left out, so a malformed command explains as far as it
// goes.
type telling struct {
	c       iso7816.Command
	e       iso7816.Explanation
	in, out []byte
}

func (t *telling) title(en, zh string) { t.e.EN, t.e.ZH = en, zh }

func (t *telling) add(en, zh, value string) { t.e = t.e.Add(en, zh, value) }

// status tells what came of it; 9100 needs no words.
func (t *telling) status(sw iso7816.SW) {
	st, native := StatusOf(sw)
	switch {
	case sw == 0, native && st == OK:
	case native:
		t.e.EN += ": " + st.Words(false)
		t.e.ZH += "：" + st.Words(true)
		t.add("status", "状态", fmt.Sprintf("%04X", uint16(sw)))
	default:
		t.e.EN += ": " + sw.String()
		t.e.ZH += fmt.Sprintf("：%04X %s", uint16(sw), sw.Meaning(true))
	}
}

func take(from *[]byte, n int) ([]byte, bool) {
	if len(*from) < n {
		return nil, false
	}
	b := (*from)[:n]
	*from = (*from)[n:]
	return b, true
}

func (t *telling) hex(from *[]byte, n int, en, zh string) {
	if b, ok := take(from, n); ok && n > 0 {
		t.add(en, zh, fmt.Sprintf("%X", b))
	}
}

func (t *telling) number(from *[]byte, n int, en, zh string) {
	if b, ok := take(from, n); ok {
		var wide [8]byte
		copy(wide[:], b)
		t.add(en, zh, fmt.Sprintf("%d", binary.LittleEndian.Uint64(wide[:])))
	}
}

var knownApps = map[AID][2]string{Card: {"the card itself", "卡片层"}, CanteenAID: {"canteen", "餐卡"}, DoorAID: {"door", "门禁"}}

func (t *telling) aid(from *[]byte, en, zh string) {
	if b, ok := take(from, 3); ok {
		a := AIDFrom([3]byte(b))
		text := a.String()
		if w, ok := knownApps[a]; ok {
			text += " " + w[0] + " " + w[1]
		}
		t.add(en, zh, text)
	}
}

func (t *telling) file() { t.number(&t.in, 1, "file", "文件") }

func (t *telling) mode(from *[]byte) {
	if b, ok := take(from, 1); ok {
		t.add("communication", "通信方式", Mode(b[0]).Words(false)+" "+Mode(b[0]).Words(true))
	}
}

func (t *telling) access(from *[]byte) {
	if b, ok := take(from, 2); ok {
		t.add("access", "访问权限", Access(binary.LittleEndian.Uint16(b)).String())
	}
}

// plain explains a command that is its title alone.
func plain(en, zh string) func(*telling) { return func(t *telling) { t.title(en, zh) } }

// ofFile explains a command that names a file.
func ofFile(en, zh string) func(*telling) {
	return func(t *telling) {
		t.title(en, zh)
		t.file()
	}
}

var explainers = map[byte]func(*telling){
	CmdAuthLegacy: auth("AUTHENTICATE (legacy DES)", "认证（传统 DES）"),
	CmdAuthISO:    auth("AUTHENTICATE (ISO, DES)", "认证（ISO，DES）"),
	CmdAuthAES:    auth("AUTHENTICATE (AES)", "认证（AES）"),
	CmdMore:       (*telling).more,
	CmdChangeKey:  (*telling).changeKey,
	CmdKeyVersion: func(t *telling) {
		t.title("GET KEY VERSION", "读密钥版本")
		t.number(&t.in, 1, "key", "密钥号")
		t.hex(&t.out, 1, "version", "版本")
	},
	CmdKeySettings: func(t *telling) {
		t.title("GET KEY SETTINGS", "读密钥设置")
		t.hex(&t.out, 1, "settings", "设置")
		t.keys(&t.out)
	},
	CmdChangeSettings: plain("CHANGE KEY SETTINGS", "修改密钥设置"),
	CmdConfigure: func(t *telling) {
		t.title("SET CONFIGURATION", "设置配置")
		t.hex(&t.in, 1, "option", "选项")
	},
	CmdSelect: func(t *telling) {
		t.title("SELECT APPLICATION", "选择应用")
		t.aid(&t.in, "application", "应用")
	},
	CmdCreateApp: func(t *telling) {
		t.title("CREATE APPLICATION", "创建应用")
		t.aid(&t.in, "application", "应用")
		t.hex(&t.in, 1, "settings", "设置")
		t.keys(&t.in)
	},
	CmdDeleteApp: func(t *telling) {
		t.title("DELETE APPLICATION", "删除应用")
		t.aid(&t.in, "application", "应用")
	},
	CmdApplications: func(t *telling) {
		t.title("GET APPLICATION IDS", "列出应用")
		for len(t.out)%3 == 0 && len(t.out) > 0 || len(t.out) > macLen {
			t.aid(&t.out, "application", "应用")
		}
	},
	CmdDFNames: func(t *telling) {
		t.title("GET DF NAMES", "列出 DF 名称")
		t.aid(&t.out, "application", "应用")
		t.hex(&t.out, 2, "ISO identifier", "ISO 标识")
		t.hex(&t.out, len(t.out), "name", "名称")
	},
	CmdVersion: func(t *telling) {
		t.title("GET VERSION", "读版本")
		t.hex(&t.out, 7, "hardware", "硬件")
	},
	CmdFreeMemory: func(t *telling) {
		t.title("FREE MEMORY", "剩余空间")
		t.number(&t.out, 3, "bytes", "字节")
	},
	CmdFormat: plain("FORMAT PICC: every application goes", "格式化卡片"),
	CmdUID:    plain("GET CARD UID, enciphered", "读真实 UID（加密）"),
	CmdFiles: func(t *telling) {
		t.title("GET FILE IDS", "列出文件")
		n := len(t.out)
		if n >= macLen {
			n -= macLen
		}
		t.hex(&t.out, n, "files", "文件")
	},
	CmdISOFiles:     plain("GET ISO FILE IDS", "列出 ISO 文件标识"),
	CmdFileSettings: (*telling).settings,
	CmdChangeFile: func(t *telling) {
		t.title("CHANGE FILE SETTINGS", "修改文件设置")
		t.file()
		if len(t.in) == 3 {
			t.mode(&t.in)
			t.access(&t.in)
		}
	},
	CmdCreateStd:     (*telling).create,
	CmdCreateBackup:  (*telling).create,
	CmdCreateValue:   (*telling).create,
	CmdCreateLinear:  (*telling).create,
	CmdCreateCyclic:  (*telling).create,
	CmdDeleteFile:    ofFile("DELETE FILE", "删除文件"),
	CmdReadData:      part("READ DATA", "读数据", "offset", "偏移", "bytes (0: the rest)", "字节数（0 为全部）"),
	CmdWriteData:     part("WRITE DATA", "写数据", "offset", "偏移", "bytes", "字节数"),
	CmdReadRecords:   part("READ RECORDS", "读记录", "newest left out", "跳过最新", "records (0: all)", "记录数（0 为全部）"),
	CmdWriteRecord:   part("WRITE RECORD, kept at the commit", "写记录（提交后生效）", "offset", "偏移", "bytes", "字节数"),
	CmdGetValue:      (*telling).value,
	CmdCredit:        move("CREDIT, kept at the commit", "充值（提交后生效）"),
	CmdDebit:         move("DEBIT, kept at the commit", "扣款（提交后生效）"),
	CmdLimitedCredit: move("LIMITED CREDIT: gives back of the last debit", "限额退款"),
	CmdClearRecords:  ofFile("CLEAR RECORD FILE, at the commit", "清空记录文件（提交后生效）"),
	CmdCommit:        plain("COMMIT TRANSACTION: all changes become permanent together", "提交交易：全部改动一起生效"),
	CmdAbort:         plain("ABORT TRANSACTION", "放弃交易"),
}

func auth(en, zh string) func(*telling) {
	return func(t *telling) {
		t.title(en, zh)
		t.number(&t.in, 1, "key", "密钥号")
		t.hex(&t.out, len(t.out), "random of the card, enciphered", "卡片随机数（加密）")
	}
}

func (t *telling) more() {
	t.title("ADDITIONAL FRAME", "后续数据帧")
	t.hex(&t.in, len(t.in), "data of the reader", "终端数据")
	t.hex(&t.out, len(t.out), "data of the card", "卡片数据")
}

func (t *telling) changeKey() {
	t.title("CHANGE KEY", "修改密钥")
	t.hex(&t.in, 1, "key", "密钥号")
	if len(t.in) > 0 {
		t.e.Fields = append(t.e.Fields, iso7816.Field{Name: "new key, enciphered", NameZH: "新密钥（加密）", Value: "••••", Secret: true})
		t.in = nil
	}
}

func (t *telling) keys(from *[]byte) {
	if b, ok := take(from, 1); ok {
		kind := map[KeyKind]string{DES: "DES", TDES: "3K3DES", AES: "AES"}[KeyKind(b[0]&kindMask)]
		t.add("keys", "密钥", fmt.Sprintf("%d %s", b[0]&0x0F, kind))
	}
}

func part(en, zh, off, offZH, n, nZH string) func(*telling) {
	return func(t *telling) {
		t.title(en, zh)
		t.file()
		t.number(&t.in, 3, off, offZH)
		t.number(&t.in, 3, n, nZH)
	}
}

func move(en, zh string) func(*telling) {
	return func(t *telling) {
		t.title(en, zh)
		t.file()
		switch len(t.in) {
		case 4, 4 + legacyMACLen, 4 + macLen:
			t.signed(&t.in, "amount", "金额")
		}
	}
}

func (t *telling) value() {
	t.title("GET VALUE", "读值")
	t.file()
	switch len(t.out) {
	case 4, 4 + legacyMACLen, 4 + macLen:
		t.signed(&t.out, "value", "值")
	}
}

func (t *telling) signed(from *[]byte, en, zh string) {
	if b, ok := take(from, 4); ok {
		t.add(en, zh, fmt.Sprintf("%d", int32At(b)))
	}
}

func (t *telling) settings() {
	t.title("GET FILE SETTINGS", "读文件设置")
	t.file()
	f, rest, err := nextSettings(t.out)
	if err != nil {
		return
	}
	t.out = rest
	t.describe(f)
}

func (t *telling) describe(f FileSettings) {
	t.add("type", "类型", f.Type.Words(false)+" "+f.Type.Words(true))
	t.add("communication", "通信方式", f.Mode.Words(false)+" "+f.Mode.Words(true))
	t.add("access", "访问权限", f.Access.String())
	switch f.Type {
	case ValueFile:
		t.add("limits", "上下限", fmt.Sprintf("%d … %d", f.Lower, f.Upper))
		t.add("limited credit", "限额退款", fmt.Sprintf("%d, %v", f.Limited, f.LimitedOn))
	case LinearFile, CyclicFile:
		t.add("records", "记录", fmt.Sprintf("%d of %d, %d bytes each", f.Now, f.Max, f.Size))
	default:
		t.add("size", "大小", fmt.Sprintf("%d bytes", f.Size))
	}
}

func (t *telling) create() {
	t.title("CREATE FILE", "创建文件")
	f, err := ParseNewFile(t.c.INS, t.in)
	if err != nil {
		return
	}
	t.in = nil
	t.add("file", "文件", fmt.Sprintf("%d", f.No))
	t.describe(f.Settings)
	if f.Settings.Type == ValueFile {
		t.add("value", "值", fmt.Sprintf("%d", f.Value))
	}
}
