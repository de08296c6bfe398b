// Package desfire holds the MIFARE DESFire EV1 card as readers see it: native
// commands wrapped in ISO 7816 (90 CMD 00 00 Lc data 00, answered 91 SS),
// status codes, keys and authentication, secure messaging in three modes,
// files and access rights, key diversification (AN10922), and what this house
// writes on such cards: the personalisation of an application, the canteen's
// log and sale, the door's credential.
//
// Numbers on the wire are little endian, as the card has them; what is marked
// otherwise is this house's own. Start with Host, the reader's side of a card,
// and Session, the secure messaging that both sides share (CARD.md 4).
package desfire

import (
	"errors"
	"fmt"

	"koala/spec/iso7816"
)

// What can be wrong with bytes that should be something of DESFire.
var (
	ErrLength   = errors.New("desfire: wrong length")
	ErrSettings = errors.New("desfire: bad settings")
	ErrVersion  = errors.New("desfire: unknown version")
	ErrMAC      = errors.New("desfire: MAC or CRC does not match")
	ErrAuth     = errors.New("desfire: authentication failed")
	ErrTime     = errors.New("desfire: bad date or time")
)

// Name is the ISO name of a DESFire card; SELECT of it opens native commands.
var Name = []byte{0xD2, 0x76, 0x00, 0x00, 0x85, 0x01, 0x00}

// CLA is the class of a native command wrapped in ISO 7816.
const CLA = 0x90

// Limits of the card, in the units named.
const (
	MaxApplications = 28   // on one card
	MaxFiles        = 32   // in one application, numbers 0-31
	MaxKeys         = 14   // in one application, numbers 0-13
	MaxAnswerFrame  = 58   // data bytes of one answer: with 91 SS it fills the 60 that readers keep room for
	MaxCommandFrame = 54   // data bytes a Host sends in one command
	MaxFileSize     = 8192 // bytes of a data file, and of all records of a record file
	MaxTransaction  = 1536 // bytes that one command may write and one commit may carry
)

// Native commands.
const (
	CmdAuthLegacy     = 0x0A // DES and 2K3DES as on the first DESFire
	CmdAuthISO        = 0x1A // DES, 2K3DES, 3K3DES with the EV1 messaging
	CmdAuthAES        = 0xAA
	CmdMore           = 0xAF
	CmdChangeKey      = 0xC4
	CmdKeyVersion     = 0x64
	CmdKeySettings    = 0x45
	CmdChangeSettings = 0x54
	CmdConfigure      = 0x5C
	CmdSelect         = 0x5A
	CmdCreateApp      = 0xCA
	CmdDeleteApp      = 0xDA
	CmdApplications   = 0x6A
	CmdDFNames        = 0x6D
	CmdVersion        = 0x60
	CmdFreeMemory     = 0x6E
	CmdFormat         = 0xFC
	CmdUID            = 0x51
	CmdFiles          = 0x6F
	CmdISOFiles       = 0x61
	CmdFileSettings   = 0xF5
	CmdChangeFile     = 0x5F
	CmdCreateStd      = 0xCD
	CmdCreateBackup   = 0xCB
	CmdCreateValue    = 0xCC
	CmdCreateLinear   = 0xC1
	CmdCreateCyclic   = 0xC0
	CmdDeleteFile     = 0xDF
	CmdReadData       = 0xBD
	CmdWriteData      = 0x3D
	CmdGetValue       = 0x6C
	CmdCredit         = 0x0C
	CmdDebit          = 0xDC
	CmdLimitedCredit  = 0x1C
	CmdReadRecords    = 0xBB
	CmdWriteRecord    = 0x3B
	CmdClearRecords   = 0xEB
	CmdCommit         = 0xC7
	CmdAbort          = 0xA7
)

// Options of CmdConfigure and the bit of the first.
const (
	OptionFormat     byte = 0x00 // 1 byte: ForbidFormat or nothing
	OptionDefaultKey byte = 0x01 // key 24, version 1: what the keys of new applications are

	ForbidFormat byte = 0x01
)

// A Status is the second byte of the status word 91 SS.
type Status byte

// Status codes (CARD.md 4).
const (
	OK             Status = 0x00
	NoChange       Status = 0x0C
	OutOfMemory    Status = 0x0E
	IllegalCommand Status = 0x1C
	Integrity      Status = 0x1E // MAC, CRC or padding wrong
	NoSuchKey      Status = 0x40
	WrongLength    Status = 0x7E
	Permission     Status = 0x9D
	Parameter      Status = 0x9E
	NoApplication  Status = 0xA0
	AuthError      Status = 0xAE
	More           Status = 0xAF
	Boundary       Status = 0xBE
	Aborted        Status = 0xCA // the command before was not taken to its end
	TooMany        Status = 0xCE // no room for another application
	Duplicate      Status = 0xDE
	MemoryError    Status = 0xEE
	NoFile         Status = 0xF0
)

var statusWords = map[Status][2]string{
	OK: {"done", "成功"}, NoChange: {"nothing to commit or abort", "无改动"}, OutOfMemory: {"no room", "存储空间不足"},
	IllegalCommand: {"unknown command", "命令不支持"}, Integrity: {"MAC or CRC wrong", "完整性校验失败"},
	NoSuchKey: {"no key with that number", "密钥不存在"}, WrongLength: {"wrong length", "长度错误"},
	Permission: {"not permitted", "无权限"}, Parameter: {"wrong parameter", "参数错误"},
	NoApplication: {"no such application", "应用不存在"}, AuthError: {"not authenticated, or wrongly", "认证失败"},
	More: {"more follows", "待续"}, Boundary: {"beyond the limits of the file", "超出文件范围"},
	Aborted: {"the command before was not finished", "上一命令未完成"}, TooMany: {"too many applications", "应用数已满"},
	Duplicate: {"exists already", "已存在"}, MemoryError: {"memory failure", "存储器失败"}, NoFile: {"no such file", "文件不存在"},
}

// SW is the status word 91 SS.
func (s Status) SW() iso7816.SW { return iso7816.SWDESFireOK | iso7816.SW(s) }

// StatusOf takes the status out of a status word; false when it is not 91 SS.
func StatusOf(sw iso7816.SW) (Status, bool) { return Status(sw), sw&0xFF00 == iso7816.SWDESFireOK }

// Words says the status, in Chinese if zh.
func (s Status) Words(zh bool) string {
	w, ok := statusWords[s]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(s))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

// A Refusal is a card's answer other than 9100.
type Refusal struct {
	Command byte
	SW      iso7816.SW
}

// Error names the command and what the card said.
func (r *Refusal) Error() string {
	if s, ok := StatusOf(r.SW); ok {
		return fmt.Sprintf("desfire: command %02X: %04X %s", r.Command, uint16(r.SW), s.Words(false))
	}
	return fmt.Sprintf("desfire: command %02X: %s", r.Command, r.SW)
}

// Status is the native status, false when the card answered outside 91 SS.
func (r *Refusal) Status() (Status, bool) { return StatusOf(r.SW) }

// Wrap is a native command in its ISO 7816 dress.
func Wrap(cmd byte, data []byte) iso7816.Command {
	return iso7816.Command{CLA: CLA, INS: cmd, Data: data}
}

// An AID names an application, three bytes. 000000 is the card itself.
type AID uint32

// Card is the AID of the card's own level.
const Card AID = 0

// MaxAID is the highest application number.
const MaxAID AID = 0xFFFFFF

// Bytes is the AID on the wire, least significant byte first. A higher number
// than MaxAID is a defect and panics.
func (a AID) Bytes() [3]byte {
	if a > MaxAID {
		panic(fmt.Sprintf("desfire: AID %X", uint32(a)))
	}
	return [3]byte{byte(a), byte(a >> 8), byte(a >> 16)}
}

// AIDFrom reads the three bytes of the wire.
func AIDFrom(b [3]byte) AID { return AID(b[0]) | AID(b[1])<<8 | AID(b[2])<<16 }

// String gives the six digits, most significant first.
func (a AID) String() string { return fmt.Sprintf("%06X", uint32(a)) }

// An UID is the seven bytes that anticollision and the version answer give.
type UID [7]byte

// String gives the fourteen digits.
func (u UID) String() string { return fmt.Sprintf("%X", u[:]) }

func exactly(what string, b []byte, n int) error {
	if len(b) != n {
		return fmt.Errorf("%s: %w: %d bytes, want %d", what, ErrLength, len(b), n)
	}
	return nil
}

// put24 and uint24 write and read three bytes, least significant first.
func put24(b []byte, v int) []byte { return append(b, byte(v), byte(v>>8), byte(v>>16)) }

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// A Version is what GET VERSION answers in three frames: hardware 7, software
// 7, and UID 7, batch 5, week and year of production in BCD.
type Version struct {
	Hardware, Software [7]byte
	UID                UID
	Batch              [5]byte
	Week, Year         byte
}

// VersionLen is the length of all three frames together, bytes.
const VersionLen = 28

// EV1 is the version of an EV1 card with 8 KB, as identification tools know it.
func EV1(uid UID) Version {
	return Version{
		Hardware: [7]byte{0x04, 0x01, 0x01, 0x01, 0x00, 0x1A, 0x05}, Software: [7]byte{0x04, 0x01, 0x01, 0x01, 0x04, 0x1A, 0x05},
		UID: uid, Batch: [5]byte{0x4B, 0x4F, 0x41, 0x4C, 0x41}, Week: 0x01, Year: 0x17,
	}
}

// Frames are the three answers.
func (v Version) Frames() [3][]byte {
	last := append(append([]byte(nil), v.UID[:]...), v.Batch[:]...)
	return [3][]byte{v.Hardware[:], v.Software[:], append(last, v.Week, v.Year)}
}

// ParseVersion reads the three answers put together.
func ParseVersion(b []byte) (v Version, err error) {
	if err := exactly("version", b, VersionLen); err != nil {
		return v, err
	}
	return Version{
		Hardware: [7]byte(b[:7]), Software: [7]byte(b[7:14]), UID: UID(b[14:21]), Batch: [5]byte(b[21:26]), Week: b[26], Year: b[27],
	}, nil
}

// Storage is the card's memory in bytes, as the version states it.
func (v Version) Storage() int { return 1 << (v.Hardware[5] >> 1) }

// String gives the version in words.
func (v Version) String() string {
	return fmt.Sprintf("hardware %d.%d, software %d.%d, %d bytes, UID %s, batch %X, week %02X of %02X",
		v.Hardware[3], v.Hardware[4], v.Software[3], v.Software[4], v.Storage(), v.UID, v.Batch[:], v.Week, v.Year)
}
