package iso7816

import "fmt"

// A SW is a status word, SW1 and SW2.
type SW uint16

// Status words of ISO/IEC 7816-4, 5.6.
const (
	OK                    SW = 0x9000
	SWSelectedBlocked     SW = 0x6283 // the file or application selected is invalidated
	SWWarning             SW = 0x6300 // authentication failed, in EXTERNAL AUTHENTICATE
	SWMemory              SW = 0x6581 // memory failure or cache full
	SWLength              SW = 0x6700
	SWNoChannel           SW = 0x6881
	SWNoSecureMessaging   SW = 0x6882
	SWFileType            SW = 0x6981 // command does not suit the file's structure
	SWSecurity            SW = 0x6982
	SWBlocked             SW = 0x6983 // authentication method blocked
	SWReferenceInvalid    SW = 0x6984
	SWConditions          SW = 0x6985 // conditions of use not satisfied, wrong order
	SWNoFile              SW = 0x6986 // no current elementary file
	SWSecureMissing       SW = 0x6987
	SWSecureWrong         SW = 0x6988
	SWData                SW = 0x6A80
	SWFunction            SW = 0x6A81 // function not supported, card blocked
	SWFileNotFound        SW = 0x6A82
	SWRecordNotFound      SW = 0x6A83
	SWNoSpace             SW = 0x6A84
	SWP1P2                SW = 0x6A86
	SWReferenceNotFound   SW = 0x6A88
	SWOffset              SW = 0x6B00 // wrong P1 P2, offset beyond the end
	SWInstruction         SW = 0x6D00
	SWClass               SW = 0x6E00
	SWUnknown             SW = 0x6F00
	SWPurseMAC            SW = 0x9302 // ED/EP: MAC wrong
	SWPurseBlocked        SW = 0x9303 // ED/EP: application permanently blocked
	SWPurseMoney          SW = 0x9401 // ED/EP: not enough money
	SWPurseSequence       SW = 0x9402 // ED/EP: transaction counter at its end
	SWPurseKey            SW = 0x9403 // ED/EP: no key with that index
	SWPurseProve          SW = 0x9406 // ED/EP: no such MAC or TAC kept
	swMore                SW = 0x6100
	swExact               SW = 0x6C00
	swTries               SW = 0x63C0
	SWDESFireOK           SW = 0x9100
	SWDESFireMore         SW = 0x91AF
	SWCAPPNothingRead     SW = 0x6974 // JR/T 0025: no cached update for the record read
	SWPersonalisationDone SW = 0x6999 // application not selectable or not ready
)

// More is the status word that n (1-256) more bytes wait for GET RESPONSE.
func More(n int) SW { return swMore | SW(byte(n)) }

// Exact is the status word that asks for the same command with Le n (1-256).
func Exact(n int) SW { return swExact | SW(byte(n)) }

// Tries is the status word for a wrong PIN or key with n (0-15) tries left.
func Tries(n int) SW { return swTries | SW(n&0x0F) }

// OK says that the command was carried out without remark.
func (s SW) OK() bool { return s == OK }

// More says how many bytes (1-256) wait for GET RESPONSE.
func (s SW) More() (int, bool) { return s.count(swMore) }

// Exact says with which Le (1-256) the command must be sent again.
func (s SW) Exact() (int, bool) { return s.count(swExact) }

func (s SW) count(family SW) (int, bool) {
	if s&0xFF00 != family {
		return 0, false
	}
	if n := int(s & 0xFF); n != 0 {
		return n, true
	}
	return 256, true
}

// Tries says how many tries (0-15) are left.
func (s SW) Tries() (int, bool) { return int(s & 0x0F), s&0xFFF0 == swTries }

// String gives the word and its meaning: "9401 not enough money".
func (s SW) String() string { return fmt.Sprintf("%04X %s", uint16(s), s.Meaning(false)) }

// Meaning says in words what the card answered, in Chinese if zh.
func (s SW) Meaning(zh bool) string {
	if text, ok := meanings[s]; ok {
		return text.in(zh)
	}
	if n, ok := s.More(); ok {
		return fmt.Sprintf(words{"%d more bytes wait", "还有 %d 字节待取"}.in(zh), n)
	}
	if n, ok := s.Exact(); ok {
		return fmt.Sprintf(words{"ask again with Le %d", "请以 Le %d 重发"}.in(zh), n)
	}
	if n, ok := s.Tries(); ok {
		return fmt.Sprintf(words{"wrong, %d tries left", "验证失败，剩余 %d 次"}.in(zh), n)
	}
	if text, ok := families[s>>8]; ok {
		return text.in(zh)
	}
	return words{"unknown status", "未知状态"}.in(zh)
}

type words struct{ en, zh string }

func (w words) in(zh bool) string {
	if zh {
		return w.zh
	}
	return w.en
}

var meanings = map[SW]words{
	OK:                    {"done", "成功"},
	SWSelectedBlocked:     {"selected, but the application is blocked", "已选择，但应用已锁定"},
	SWWarning:             {"authentication failed", "认证失败"},
	SWMemory:              {"memory failure", "存储器失败"},
	SWLength:              {"wrong length", "长度错误"},
	SWNoChannel:           {"logical channel not supported", "不支持逻辑通道"},
	SWNoSecureMessaging:   {"secure messaging not supported", "不支持安全报文"},
	SWFileType:            {"command does not suit the file", "命令与文件结构不符"},
	SWSecurity:            {"security status not satisfied", "不满足安全状态"},
	SWBlocked:             {"authentication method blocked", "认证方法已锁定"},
	SWReferenceInvalid:    {"reference data not usable", "引用数据无效"},
	SWConditions:          {"wrong order, conditions of use not satisfied", "使用条件不满足"},
	SWNoFile:              {"no file selected", "未选择文件"},
	SWSecureMissing:       {"secure messaging data missing", "缺少安全报文数据"},
	SWSecureWrong:         {"secure messaging MAC wrong", "安全报文 MAC 错误"},
	SWCAPPNothingRead:     {"no update was cached for the record read", "没有缓存对应记录的更新"},
	SWPersonalisationDone: {"application refuses selection", "应用拒绝选择"},
	SWData:                {"wrong data", "数据域错误"},
	SWFunction:            {"function not supported or card blocked", "不支持该功能或卡已锁定"},
	SWFileNotFound:        {"file or application not found", "文件或应用未找到"},
	SWRecordNotFound:      {"record not found", "记录未找到"},
	SWNoSpace:             {"not enough space", "空间不足"},
	SWP1P2:                {"wrong P1 P2", "P1 P2 错误"},
	SWReferenceNotFound:   {"referenced data or key not found", "引用的数据或密钥未找到"},
	SWOffset:              {"beyond the end of the file", "超出文件范围"},
	SWInstruction:         {"instruction not supported", "不支持的指令"},
	SWClass:               {"class not supported", "不支持的类别"},
	SWUnknown:             {"no precise diagnosis", "未知错误"},
	SWPurseMAC:            {"MAC wrong", "MAC 无效"},
	SWPurseBlocked:        {"application permanently blocked", "应用已永久锁定"},
	SWPurseMoney:          {"not enough money", "余额不足"},
	SWPurseSequence:       {"transaction counter at its end", "交易计数器达到最大值"},
	SWPurseKey:            {"no key with this index", "密钥索引不支持"},
	SWPurseProve:          {"no such MAC or TAC kept", "所需 MAC 或 TAC 不可用"},
	SWDESFireOK:           {"done (DESFire)", "成功 (DESFire)"},
	SWDESFireMore:         {"more frames follow (DESFire)", "后续还有数据帧 (DESFire)"},
}

var families = map[SW]words{
	0x62: {"warning, memory unchanged", "警告，存储器未改变"},
	0x63: {"warning, memory changed", "警告，存储器已改变"},
	0x64: {"execution error, memory unchanged", "执行错误，存储器未改变"},
	0x65: {"execution error, memory changed", "执行错误，存储器已改变"},
	0x67: {"wrong length", "长度错误"},
	0x68: {"class function not supported", "类别功能不支持"},
	0x69: {"command not allowed", "命令不允许"},
	0x6A: {"wrong parameters", "参数错误"},
	0x6F: {"no precise diagnosis", "未知错误"},
	0x91: {"DESFire status", "DESFire 状态"},
	0x93: {"purse refuses", "钱包拒绝"},
	0x94: {"purse refuses", "钱包拒绝"},
}
