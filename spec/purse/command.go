package purse

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
)

// Instructions of the purse (class 80, 84 where marked).
const (
	InsInit         = 0x50 // P1 00 load, 01 purchase, 03 compound purchase, 04 overdraft, 05 unload
	InsCredit       = 0x52
	InsDebit        = 0x54 // P1 01 purchase, 03 unload
	InsOverdraw     = 0x58
	InsProve        = 0x5A
	InsBalance      = 0x5C
	InsReloadPIN    = 0x5E
	InsUpdateCAPP   = 0xDC
	InsCardBlock    = 0x16 // class 84
	InsAppUnblock   = 0x18 // class 84
	InsAppBlock     = 0x1E // class 84
	InsPINUnblock   = 0x24
	InsSAMPurchase  = 0x70 // at the PSAM: make MAC1
	InsSAMCredit    = 0x72 // at the PSAM: check MAC2
	InsSAMKeySelect = 0x1A // at the PSAM: choose and disperse a key
	InsSAMCipher    = 0xFA // at the PSAM: cipher or MAC with that key
)

const claPurse = 0x80

// P1 of INITIALIZE.
const (
	initLoad     = 0x00
	initPurchase = 0x01
	initCAPP     = 0x03
	initOverdraw = 0x04
	initUnload   = 0x05
)

// match checks class (whatever channel), instruction and, when p1 is not
// negative, P1, and that the data has n bytes (any number when negative).
func match(c iso7816.Command, ins byte, p1, n int) error {
	if iso7816.WithoutChannel(c.CLA) != claPurse || c.INS != ins || p1 >= 0 && c.P1 != byte(p1) {
		return fmt.Errorf("%w: %02X%02X%02X%02X", ErrCommand, c.CLA, c.INS, c.P1, c.P2)
	}
	if n >= 0 && len(c.Data) != n {
		return fmt.Errorf("%02X%02X: %w: %d bytes, want %d", c.CLA, c.INS, ErrLength, len(c.Data), n)
	}
	return nil
}

func exactly(what string, b []byte, n int) error {
	if len(b) != n {
		return fmt.Errorf("%s: %w: %d bytes, want %d", what, ErrLength, len(b), n)
	}
	return nil
}

// InitPurchase is INITIALIZE FOR PURCHASE (8050 01) or, with CAPP, FOR CAPP
// PURCHASE (8050 03).
type InitPurchase struct {
	CAPP     bool
	Purse    Purse
	Key      byte // index of the purchase key
	Fen      uint32
	Terminal Terminal
}

// Command codes it.
func (x InitPurchase) Command() iso7816.Command {
	p1 := byte(initPurchase)
	if x.CAPP {
		p1 = initCAPP
	}
	return initCommand(p1, x.Purse, x.Key, x.Fen, x.Terminal, initPurchaseAnswerLen)
}

func initCommand(p1 byte, p Purse, key byte, fen uint32, term Terminal, le int) iso7816.Command {
	data := append(make([]byte, 0, 11), key)
	data = append(binary.BigEndian.AppendUint32(data, fen), term[:]...)
	return iso7816.Command{CLA: claPurse, INS: InsInit, P1: p1, P2: byte(p), Data: data, Le: le}
}

// Type is the transaction type that the MACs and the log will carry.
func (x InitPurchase) Type() Type {
	switch {
	case x.CAPP:
		return CAPP
	case x.Purse == ED:
		return PurchaseED
	default:
		return PurchaseEP
	}
}

// ParseInitPurchase reads it at the card.
func ParseInitPurchase(c iso7816.Command) (x InitPurchase, err error) {
	if err := match(c, InsInit, -1, 11); err != nil {
		return x, err
	}
	if c.P1 != initPurchase && c.P1 != initCAPP {
		return x, fmt.Errorf("%w: 8050%02X", ErrCommand, c.P1)
	}
	x = InitPurchase{CAPP: c.P1 == initCAPP, Purse: Purse(c.P2), Key: c.Data[0], Fen: binary.BigEndian.Uint32(c.Data[1:])}
	copy(x.Terminal[:], c.Data[5:])
	return x, nil
}

// InitPurchaseAnswer is what the card says to InitPurchase. Seq is the
// offline sequence the purchase will carry; Overdraft has three bytes.
type InitPurchaseAnswer struct {
	Balance    uint32
	Seq        uint16
	Overdraft  uint32
	KeyVersion byte
	Alg        byte
	Rnd        [4]byte
}

const initPurchaseAnswerLen = 15

// Bytes codes the answer.
func (a InitPurchaseAnswer) Bytes() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, initPurchaseAnswerLen), a.Balance)
	b = binary.BigEndian.AppendUint16(b, a.Seq)
	b = append(appendUint24(b, a.Overdraft), a.KeyVersion, a.Alg)
	return append(b, a.Rnd[:]...)
}

// ParseInitPurchaseAnswer reads the answer at the terminal.
func ParseInitPurchaseAnswer(b []byte) (a InitPurchaseAnswer, err error) {
	if err := exactly("answer to INITIALIZE FOR PURCHASE", b, initPurchaseAnswerLen); err != nil {
		return a, err
	}
	a = InitPurchaseAnswer{
		Balance: binary.BigEndian.Uint32(b), Seq: binary.BigEndian.Uint16(b[4:]),
		Overdraft: uint24(b[6:]), KeyVersion: b[9], Alg: b[10],
	}
	copy(a.Rnd[:], b[11:])
	return a, nil
}

// InitLoad is INITIALIZE FOR LOAD (8050 00) or, with Unload, FOR UNLOAD
// (8050 05).
type InitLoad struct {
	Unload   bool
	Purse    Purse
	Key      byte // index of the load key
	Fen      uint32
	Terminal Terminal
}

// Command codes it.
func (x InitLoad) Command() iso7816.Command {
	p1 := byte(initLoad)
	if x.Unload {
		p1 = initUnload
	}
	return initCommand(p1, x.Purse, x.Key, x.Fen, x.Terminal, initLoadAnswerLen)
}

// Type is the transaction type that the MACs and the log will carry.
func (x InitLoad) Type() Type {
	switch {
	case x.Unload:
		return Unload
	case x.Purse == ED:
		return LoadED
	default:
		return LoadEP
	}
}

// ParseInitLoad reads it at the card.
func ParseInitLoad(c iso7816.Command) (x InitLoad, err error) {
	if err := match(c, InsInit, -1, 11); err != nil {
		return x, err
	}
	if c.P1 != initLoad && c.P1 != initUnload {
		return x, fmt.Errorf("%w: 8050%02X", ErrCommand, c.P1)
	}
	x = InitLoad{Unload: c.P1 == initUnload, Purse: Purse(c.P2), Key: c.Data[0], Fen: binary.BigEndian.Uint32(c.Data[1:])}
	copy(x.Terminal[:], c.Data[5:])
	return x, nil
}

// InitLoadAnswer is what the card says to InitLoad. Seq is the online
// sequence the load will carry.
type InitLoadAnswer struct {
	Balance    uint32
	Seq        uint16
	KeyVersion byte
	Alg        byte
	Rnd        [4]byte
	MAC1       [4]byte
}

const initLoadAnswerLen = 16

// Bytes codes the answer.
func (a InitLoadAnswer) Bytes() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, initLoadAnswerLen), a.Balance)
	b = binary.BigEndian.AppendUint16(b, a.Seq)
	b = append(append(b, a.KeyVersion, a.Alg), a.Rnd[:]...)
	return append(b, a.MAC1[:]...)
}

// ParseInitLoadAnswer reads the answer at the host.
func ParseInitLoadAnswer(b []byte) (a InitLoadAnswer, err error) {
	if err := exactly("answer to INITIALIZE FOR LOAD", b, initLoadAnswerLen); err != nil {
		return a, err
	}
	a = InitLoadAnswer{Balance: binary.BigEndian.Uint32(b), Seq: binary.BigEndian.Uint16(b[4:]), KeyVersion: b[6], Alg: b[7]}
	copy(a.Rnd[:], b[8:])
	copy(a.MAC1[:], b[12:])
	return a, nil
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

// appendUint24 keeps the low three bytes; the fields it codes have no more.
func appendUint24(b []byte, v uint32) []byte { return append(b, byte(v>>16), byte(v>>8), byte(v)) }
