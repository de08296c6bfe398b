package purse

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
)

// DebitCommand is DEBIT FOR PURCHASE or CAPP PURCHASE (8054 01).
type DebitCommand struct {
	TSeq  uint32 // the PSAM's transaction number
	Stamp Stamp
	MAC1  [4]byte
}

// Command codes it.
func (x DebitCommand) Command() iso7816.Command {
	data := binary.BigEndian.AppendUint32(make([]byte, 0, 15), x.TSeq)
	data = append(appendStamp(data, x.Stamp), x.MAC1[:]...)
	return iso7816.Command{CLA: claPurse, INS: InsDebit, P1: 0x01, Data: data, Le: 8}
}

// ParseDebitCommand reads it at the card.
func ParseDebitCommand(c iso7816.Command) (x DebitCommand, err error) {
	if err := match(c, InsDebit, 0x01, 15); err != nil {
		return x, err
	}
	x.TSeq = binary.BigEndian.Uint32(c.Data)
	x.Stamp = StampFrom([7]byte(c.Data[4:11]))
	copy(x.MAC1[:], c.Data[11:])
	return x, nil
}

// DebitAnswer proves the debit: the TAC to the clearing, MAC2 to the PSAM.
type DebitAnswer struct{ TAC, MAC2 [4]byte }

// Bytes codes the answer.
func (a DebitAnswer) Bytes() []byte {
	return append(append(make([]byte, 0, 8), a.TAC[:]...), a.MAC2[:]...)
}

// ParseDebitAnswer reads the answer at the terminal.
func ParseDebitAnswer(b []byte) (a DebitAnswer, err error) {
	if err := exactly("answer to DEBIT", b, 8); err != nil {
		return a, err
	}
	copy(a.TAC[:], b)
	copy(a.MAC2[:], b[4:])
	return a, nil
}

// CreditCommand is CREDIT FOR LOAD (8052) or, with Unload, DEBIT FOR UNLOAD
// (8054 03).
type CreditCommand struct {
	Unload bool
	Stamp  Stamp
	MAC2   [4]byte
}

// Command codes it.
func (x CreditCommand) Command() iso7816.Command {
	c := iso7816.Command{CLA: claPurse, INS: InsCredit, Le: 4}
	if x.Unload {
		c.INS, c.P1 = InsDebit, 0x03
	}
	c.Data = append(appendStamp(make([]byte, 0, 11), x.Stamp), x.MAC2[:]...)
	return c
}

// ParseCreditCommand reads it at the card.
func ParseCreditCommand(c iso7816.Command) (x CreditCommand, err error) {
	ins, p1 := byte(InsCredit), 0x00
	if c.INS == InsDebit {
		ins, p1, x.Unload = InsDebit, 0x03, true
	}
	if err := match(c, ins, p1, 11); err != nil {
		return CreditCommand{}, err
	}
	x.Stamp = StampFrom([7]byte(c.Data[:7]))
	copy(x.MAC2[:], c.Data[7:])
	return x, nil
}

// CreditAnswer proves the credit to the clearing.
type CreditAnswer struct{ TAC [4]byte }

// Bytes codes the answer.
func (a CreditAnswer) Bytes() []byte { return append([]byte(nil), a.TAC[:]...) }

// ParseCreditAnswer reads the answer at the host.
func ParseCreditAnswer(b []byte) (a CreditAnswer, err error) {
	if err := exactly("answer to CREDIT FOR LOAD", b, 4); err != nil {
		return a, err
	}
	copy(a.TAC[:], b)
	return a, nil
}

// Prove is GET TRANSACTION PROVE (805A): the MAC and TAC of a transaction
// whose answer was lost.
type Prove struct {
	Type Type
	Seq  uint16 // the sequence the transaction carried, before the increment
}

// Command codes it.
func (x Prove) Command() iso7816.Command {
	return iso7816.Command{CLA: claPurse, INS: InsProve, P2: byte(x.Type), Data: binary.BigEndian.AppendUint16(nil, x.Seq), Le: 8}
}

// ParseProve reads it at the card.
func ParseProve(c iso7816.Command) (Prove, error) {
	if err := match(c, InsProve, 0x00, 2); err != nil {
		return Prove{}, err
	}
	return Prove{Type(c.P2), binary.BigEndian.Uint16(c.Data)}, nil
}

// ProveAnswer carries MAC2 of a purchase (zeros for a load) and the TAC; in
// this order, other than in the answer to DEBIT.
type ProveAnswer struct{ MAC2, TAC [4]byte }

// Bytes codes the answer.
func (a ProveAnswer) Bytes() []byte {
	return append(append(make([]byte, 0, 8), a.MAC2[:]...), a.TAC[:]...)
}

// ParseProveAnswer reads the answer at the terminal.
func ParseProveAnswer(b []byte) (a ProveAnswer, err error) {
	if err := exactly("answer to GET TRANSACTION PROVE", b, 8); err != nil {
		return a, err
	}
	copy(a.MAC2[:], b)
	copy(a.TAC[:], b[4:])
	return a, nil
}

// GetBalance is GET BALANCE (805C).
type GetBalance struct {
	Purse Purse
	Part  BalancePart
}

// BalancePart chooses what GET BALANCE answers (P1).
type BalancePart byte

// The parts of a balance.
const (
	BalanceAll       BalancePart = 0x00 // including overdraft
	BalanceLimit     BalancePart = 0x01 // overdraft limit
	BalanceOverdrawn BalancePart = 0x02 // overdraft used
	BalanceOwn       BalancePart = 0x03 // own money
)

// Command codes it.
func (x GetBalance) Command() iso7816.Command {
	return iso7816.Command{CLA: claPurse, INS: InsBalance, P1: byte(x.Part), P2: byte(x.Purse), Le: 4}
}

// ParseGetBalance reads it at the card.
func ParseGetBalance(c iso7816.Command) (GetBalance, error) {
	if err := match(c, InsBalance, -1, 0); err != nil {
		return GetBalance{}, err
	}
	if c.P1 > byte(BalanceOwn) {
		return GetBalance{}, fmt.Errorf("%w: balance part %02X", ErrCommand, c.P1)
	}
	return GetBalance{Purse(c.P2), BalancePart(c.P1)}, nil
}

// BalanceBytes codes the answer to GET BALANCE.
func BalanceBytes(fen uint32) []byte { return binary.BigEndian.AppendUint32(nil, fen) }

// ParseBalance reads the answer to GET BALANCE, 31 bits: readers mask the top
// bit, which some cities use as a sign.
func ParseBalance(b []byte) (uint32, error) {
	if err := exactly("balance", b, 4); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b) & 0x7FFFFFFF, nil
}

// UpdateCAPP is UPDATE CAPP DATA CACHE (80DC): a record that DEBIT will write
// in the same unit as the money. P1 is the record number when ByNumber is
// set, else the first byte of the record's identifier; 00 in a cyclic file,
// where the record is added. Record may end in a MAC under the file's key.
type UpdateCAPP struct {
	SFI      byte
	ID       byte
	ByNumber bool
	Record   []byte
}

// Command codes it.
func (x UpdateCAPP) Command() iso7816.Command {
	p2 := x.SFI << 3
	if x.ByNumber {
		p2 |= 0x04
	}
	return iso7816.Command{CLA: claPurse, INS: InsUpdateCAPP, P1: x.ID, P2: p2, Data: x.Record, Le: iso7816.NoLe}
}

// ParseUpdateCAPP reads it at the card. Record is part of c.
func ParseUpdateCAPP(c iso7816.Command) (UpdateCAPP, error) {
	if err := match(c, InsUpdateCAPP, -1, -1); err != nil {
		return UpdateCAPP{}, err
	}
	if len(c.Data) == 0 || c.P2&0x03 != 0 {
		return UpdateCAPP{}, fmt.Errorf("%w: P2 %02X with %d bytes", ErrCommand, c.P2, len(c.Data))
	}
	return UpdateCAPP{SFI: c.P2 >> 3, ID: c.P1, ByNumber: c.P2&0x04 != 0, Record: c.Data}, nil
}
