package coupon

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Instructions of the discount card, CLA 80.
const (
	CLA       = 0x80
	InsBegin  = 0x50
	InsCommit = 0x52
	InsProve  = 0x5A
	InsRead   = 0xB2
)

// Version is in the FCI (9F08).
const Version = 0x0100

// An FCI is what SELECT answers: 6F { 84 name, A5 { 9F08 version 2, BF0C { C1
// holder 8, C2 number of coupons 1 } } }.
type FCI struct {
	AID     []byte
	Version uint16
	Holder  ID
	Count   byte
}

// Bytes codes the FCI.
func (f FCI) Bytes() []byte {
	own := tlv.Append(tlv.Append(nil, 0xC1, f.Holder[:]), 0xC2, []byte{f.Count})
	a5 := tlv.Append(nil, 0x9F08, binary.BigEndian.AppendUint16(nil, f.Version))
	a5 = tlv.Append(a5, 0xBF0C, own)
	return tlv.Append(nil, 0x6F, tlv.Append(tlv.Append(nil, 0x84, f.AID), 0xA5, a5))
}

// ParseFCI reads the FCI of a discount card.
func ParseFCI(in []byte) (f FCI, err error) {
	name, _ := tlv.Find(in, 0x84)
	version, _ := tlv.Find(in, 0x9F08)
	holder, _ := tlv.Find(in, 0xC1)
	count, _ := tlv.Find(in, 0xC2)
	if len(version) != 2 || len(holder) != 8 || len(count) != 1 {
		return f, fmt.Errorf("FCI of a discount card: %w", ErrLength)
	}
	return FCI{AID: name, Version: binary.BigEndian.Uint16(version), Holder: ID(holder), Count: count[0]}, nil
}

// A Read asks for a coupon: the N-th, or with N = 0 that of ID.
type Read struct {
	N  byte
	ID ID
}

// Command codes the command.
func (r Read) Command() iso7816.Command {
	if r.N != 0 {
		return iso7816.Command{CLA: CLA, INS: InsRead, P1: r.N}
	}
	return iso7816.Command{CLA: CLA, INS: InsRead, P2: 1, Data: r.ID[:]}
}

// ParseRead reads the command.
func ParseRead(c iso7816.Command) (r Read, err error) {
	switch {
	case c.INS != InsRead || c.P1 == 0 != (c.P2 == 1) || c.P2 > 1:
		return r, fmt.Errorf("read: %w", ErrCommand)
	case c.P2 == 0 && len(c.Data) != 0, c.P2 == 1 && len(c.Data) != 8:
		return r, fmt.Errorf("read: %w: %d bytes", ErrLength, len(c.Data))
	case c.P2 == 1:
		return Read{ID: ID(c.Data)}, nil
	}
	return Read{N: c.P1}, nil
}

// A Begin opens an operation.
type Begin struct {
	Op        Op
	Coupon    ID
	Terminal  ID
	Challenge ID // the terminal's, never used twice
	Fen       uint32
	At        Stamp
}

const (
	beginLen       = 35
	beginAnswerLen = 23
	commitLen      = 8
	commitAnswer   = 22
)

// Command codes the command.
func (x Begin) Command() iso7816.Command {
	return iso7816.Command{CLA: CLA, INS: InsBegin, P1: byte(x.Op), Data: x.data()}
}

func (x Begin) data() []byte {
	b := make([]byte, 0, beginLen)
	b = append(append(append(b, x.Coupon[:]...), x.Terminal[:]...), x.Challenge[:]...)
	return append(binary.BigEndian.AppendUint32(b, x.Fen), x.At[:]...)
}

// match says that a command is ins with n bytes of data.
func match(c iso7816.Command, ins byte, n int) error {
	switch {
	case c.INS != ins || c.P2 != 0 || ins != InsBegin && c.P1 != 0:
		return fmt.Errorf("%02X: %w", ins, ErrCommand)
	case len(c.Data) != n:
		return fmt.Errorf("%02X: %w: %d bytes", ins, ErrLength, len(c.Data))
	}
	return nil
}

// ParseBegin reads the command.
func ParseBegin(c iso7816.Command) (x Begin, err error) {
	if err := match(c, InsBegin, beginLen); err != nil {
		return x, err
	}
	d := c.Data
	return Begin{Op: Op(c.P1), Coupon: ID(d), Terminal: ID(d[8:]), Challenge: ID(d[16:]),
		Fen: binary.BigEndian.Uint32(d[24:]), At: Stamp(d[28:])}, nil
}

// A BeginAnswer is the card's.
type BeginAnswer struct {
	Holder    ID
	Key       byte // version of the merchant's key
	Counter   uint16
	Reduction uint32 // fen
	Challenge ID     // the card's
}

// Bytes codes the answer.
func (a BeginAnswer) Bytes() []byte {
	b := append(make([]byte, 0, beginAnswerLen), a.Holder[:]...)
	b = binary.BigEndian.AppendUint16(append(b, a.Key), a.Counter)
	return append(binary.BigEndian.AppendUint32(b, a.Reduction), a.Challenge[:]...)
}

// ParseBeginAnswer reads the answer.
func ParseBeginAnswer(b []byte) (a BeginAnswer, err error) {
	if len(b) != beginAnswerLen {
		return a, fmt.Errorf("begin answer: %w: %d bytes", ErrLength, len(b))
	}
	return BeginAnswer{Holder: ID(b), Key: b[8], Counter: binary.BigEndian.Uint16(b[9:]),
		Reduction: binary.BigEndian.Uint32(b[11:]), Challenge: ID(b[15:])}, nil
}

// A Commit carries the operation out.
type Commit struct{ MAC1 [8]byte }

// Command codes the command.
func (x Commit) Command() iso7816.Command {
	return iso7816.Command{CLA: CLA, INS: InsCommit, Data: x.MAC1[:]}
}

// ParseCommit reads the command.
func ParseCommit(c iso7816.Command) (x Commit, err error) {
	if err := match(c, InsCommit, commitLen); err != nil {
		return x, err
	}
	return Commit{[8]byte(c.Data)}, nil
}

// A Done is the answer to COMMIT, and to PROVE afterwards.
type Done struct {
	Counter   uint16
	Reduction uint32 // fen
	Proof     [8]byte
	MAC2      [8]byte
}

// Bytes codes the answer.
func (a Done) Bytes() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, commitAnswer), a.Counter)
	b = binary.BigEndian.AppendUint32(b, a.Reduction)
	return append(append(b, a.Proof[:]...), a.MAC2[:]...)
}

// ParseDone reads the answer.
func ParseDone(b []byte) (a Done, err error) {
	if len(b) != commitAnswer {
		return a, fmt.Errorf("proof of a coupon: %w: %d bytes", ErrLength, len(b))
	}
	return Done{Counter: binary.BigEndian.Uint16(b), Reduction: binary.BigEndian.Uint32(b[2:]), Proof: [8]byte(b[6:]), MAC2: [8]byte(b[14:])}, nil
}

// A Prove asks for the answer to an earlier COMMIT.
type Prove struct{ Challenge ID }

// Command codes the command.
func (x Prove) Command() iso7816.Command {
	return iso7816.Command{CLA: CLA, INS: InsProve, Data: x.Challenge[:]}
}

// ParseProve reads the command.
func ParseProve(c iso7816.Command) (x Prove, err error) {
	if err := match(c, InsProve, 8); err != nil {
		return x, err
	}
	return Prove{ID(c.Data)}, nil
}
