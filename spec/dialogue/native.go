package dialogue

import (
	"fmt"

	"koala/spec/iso7816"
)

// claDESFire is the class of wrapped native commands (CARD.md 4).
const claDESFire = 0x90

// nativeNames are the native commands of DESFire EV1.
var nativeNames = map[byte][2]string{
	0x0A: {"Authenticate (DES)", "认证 (DES)"}, 0x1A: {"AuthenticateISO (3DES)", "认证 ISO (3DES)"}, 0xAA: {"AuthenticateAES", "认证 AES"},
	0x54: {"ChangeKeySettings", "修改密钥设置"}, 0x5C: {"SetConfiguration", "设置配置"}, 0xC4: {"ChangeKey", "修改密钥"},
	0x64: {"GetKeyVersion", "取密钥版本"}, 0x45: {"GetKeySettings", "取密钥设置"},
	0xCA: {"CreateApplication", "创建应用"}, 0xDA: {"DeleteApplication", "删除应用"}, 0x6A: {"GetApplicationIDs", "取应用列表"},
	0x6D: {"GetDFNames", "取应用名称"}, 0x5A: {"SelectApplication", "选择应用"}, 0xFC: {"FormatPICC", "格式化卡片"},
	0x60: {"GetVersion", "取版本"}, 0x6E: {"FreeMemory", "剩余空间"}, 0x51: {"GetCardUID", "取卡号"},
	0x6F: {"GetFileIDs", "取文件列表"}, 0x61: {"GetISOFileIDs", "取 ISO 文件列表"}, 0xF5: {"GetFileSettings", "取文件设置"},
	0x5F: {"ChangeFileSettings", "修改文件设置"}, 0xCD: {"CreateStdDataFile", "创建标准数据文件"},
	0xCB: {"CreateBackupDataFile", "创建备份数据文件"}, 0xCC: {"CreateValueFile", "创建值文件"},
	0xC1: {"CreateLinearRecordFile", "创建线性记录文件"}, 0xC0: {"CreateCyclicRecordFile", "创建循环记录文件"},
	0xDF: {"DeleteFile", "删除文件"}, 0xBD: {"ReadData", "读数据"}, 0x3D: {"WriteData", "写数据"},
	0x6C: {"GetValue", "取值"}, 0x0C: {"Credit", "增值"}, 0xDC: {"Debit", "减值"}, 0x1C: {"LimitedCredit", "限额增值"},
	0x3B: {"WriteRecord", "写记录"}, 0xBB: {"ReadRecords", "读记录"}, 0xEB: {"ClearRecordFile", "清空记录文件"},
	0xC7: {"CommitTransaction", "提交交易"}, 0xA7: {"AbortTransaction", "放弃交易"}, 0xAF: {"AdditionalFrame", "后续帧"},
}

// nativeStatus are the words of the second status byte behind 91.
var nativeStatus = map[byte][2]string{
	0x00: {"done", "成功"}, 0x0C: {"no changes", "无变化"}, 0x0E: {"out of memory", "空间不足"}, 0x1C: {"illegal command", "非法命令"},
	0x1E: {"integrity error", "完整性错误"}, 0x40: {"no such key", "密钥不存在"}, 0x7E: {"length error", "长度错误"},
	0x9D: {"permission denied", "权限不足"}, 0x9E: {"parameter error", "参数错误"}, 0xA0: {"application not found", "应用未找到"},
	0xAE: {"authentication error", "认证错误"}, 0xAF: {"more frames follow", "后续还有数据帧"}, 0xBE: {"boundary error", "超出边界"},
	0xCA: {"command aborted", "命令中止"}, 0xDE: {"duplicate", "重复"}, 0xEE: {"memory error", "存储器错误"}, 0xF0: {"file not found", "文件未找到"},
}

// explainDESFire explains a wrapped native command. Class 90 is nobody else's.
func (t *telling) explainDESFire() bool {
	name, ok := nativeNames[t.c.INS]
	if t.c.CLA != claDESFire || t.c.P1 != 0 || t.c.P2 != 0 || !ok {
		return false
	}
	t.known = true
	t.title("DESFire "+name[0], "DESFire "+name[1])
	if w, ok := nativeStatus[byte(t.r.SW)]; ok && t.r.SW>>8 == 0x91 && byte(t.r.SW) != 0 {
		t.e.EN += fmt.Sprintf(": %04X %s", uint16(t.r.SW), w[0])
		t.e.ZH += fmt.Sprintf("：%04X %s", uint16(t.r.SW), w[1])
	}
	if t.r.SW>>8 == 0x91 && t.app == t.loose {
		t.app.kind = DESFire
	}
	t.nativeParameters()
	return true
}

// nativeParameters names the parts of a native command that are never
// enciphered.
func (t *telling) nativeParameters() {
	d := t.c.Data
	switch t.c.INS {
	case 0x5A:
		if len(d) == 3 {
			t.add("application", "应用", fmt.Sprintf("%02X%02X%02X", d[2], d[1], d[0]))
		}
		return
	case 0x0A, 0x1A, 0xAA, 0x64, 0xC4:
		if len(d) > 0 {
			t.add("key", "密钥", fmt.Sprint(d[0]&0x3F))
			d = d[1:]
		}
		if t.c.INS == 0xC4 {
			t.e.Fields = append(t.e.Fields, iso7816.Field{Name: "new key", NameZH: "新密钥", Value: mask, Secret: true})
			d = nil
		}
	case 0x6C, 0x0C, 0xDC, 0x1C, 0x3B, 0xBB, 0xBD, 0x3D, 0xF5, 0x5F, 0xDF, 0xEB, 0xCD, 0xCB, 0xCC, 0xC1, 0xC0:
		if len(d) > 0 {
			t.add("file", "文件", fmt.Sprint(d[0]))
			d = d[1:]
		}
	}
	if t.c.INS == 0x6C && len(t.r.Data) >= 4 {
		t.add("value", "值", fmt.Sprint(littleEndian(t.r.Data[:4])))
	}
	if (t.c.INS == 0x0C || t.c.INS == 0xDC || t.c.INS == 0x1C) && len(d) == 4 {
		t.add("amount", "金额", fmt.Sprint(littleEndian(d)))
		d = nil
	}
	if len(d) > 0 {
		t.add("data sent", "发送数据", fmt.Sprintf("%X", d))
	}
	if len(t.r.Data) > 0 {
		t.add("data received", "接收数据", fmt.Sprintf("%X", t.r.Data))
	}
}

func littleEndian(b []byte) int32 {
	return int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
}
