package purse

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
)

// Short identifiers of the PSAM's files.
const (
	SFISAMPublic   = 0x15 // serial 10, version and more, 14 bytes
	SFISAMTerminal = 0x16 // terminal number, 6 bytes
	SFISAMKeys     = 0x17 // key index, issuer, validity
)

// SAMPurchase is INIT_SAM_FOR_PURCHASE (8070): the PSAM disperses the
// purchase key by the factors, takes its next transaction number and makes
// MAC1. One factor is the card number's; with two the second is the issuer
// code followed by FFFFFFFF. The order of the two on the wire is that of the
// reader code read (card first).
type SAMPurchase struct {
	Rnd        [4]byte
	Seq        uint16
	Fen        uint32
	Type       Type
	Stamp      Stamp
	KeyVersion byte
	Alg        byte
	Factors    [][8]byte // one or two
}

const samPurchaseHead = 20

// Command codes it. A number of factors other than one or two panics.
func (x SAMPurchase) Command() iso7816.Command {
	if len(x.Factors) < 1 || len(x.Factors) > 2 {
		panic(fmt.Sprintf("purse: %d dispersion factors", len(x.Factors)))
	}
	b := append(make([]byte, 0, samPurchaseHead+16), x.Rnd[:]...)
	b = binary.BigEndian.AppendUint16(b, x.Seq)
	b = binary.BigEndian.AppendUint32(b, x.Fen)
	b = append(appendStamp(append(b, byte(x.Type)), x.Stamp), x.KeyVersion, x.Alg)
	for _, f := range x.Factors {
		b = append(b, f[:]...)
	}
	return iso7816.Command{CLA: claPurse, INS: InsSAMPurchase, Data: b, Le: 8}
}

// ParseSAMPurchase reads it at the PSAM.
func ParseSAMPurchase(c iso7816.Command) (x SAMPurchase, err error) {
	if err := match(c, InsSAMPurchase, 0x00, -1); err != nil {
		return x, err
	}
	b := c.Data
	if len(b) != samPurchaseHead+8 && len(b) != samPurchaseHead+16 {
		return x, fmt.Errorf("INIT_SAM_FOR_PURCHASE: %w: %d bytes", ErrLength, len(b))
	}
	copy(x.Rnd[:], b)
	x.Seq = binary.BigEndian.Uint16(b[4:])
	x.Fen = binary.BigEndian.Uint32(b[6:])
	x.Type = Type(b[10])
	x.Stamp = StampFrom([7]byte(b[11:18]))
	x.KeyVersion, x.Alg = b[18], b[19]
	for b = b[samPurchaseHead:]; len(b) > 0; b = b[8:] {
		x.Factors = append(x.Factors, [8]byte(b[:8]))
	}
	return x, nil
}

// IssuerFactor is the second level's factor: the issuer code, then FFFFFFFF.
func IssuerFactor(code [4]byte) [8]byte {
	return [8]byte{code[0], code[1], code[2], code[3], 0xFF, 0xFF, 0xFF, 0xFF}
}

// SAMPurchaseAnswer is the PSAM's transaction number, consumed even when the
// card leaves, and MAC1.
type SAMPurchaseAnswer struct {
	TSeq uint32
	MAC1 [4]byte
}

// Bytes codes the answer.
func (a SAMPurchaseAnswer) Bytes() []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 8), a.TSeq), a.MAC1[:]...)
}

// ParseSAMPurchaseAnswer reads the answer at the terminal.
func ParseSAMPurchaseAnswer(b []byte) (a SAMPurchaseAnswer, err error) {
	if err := exactly("answer of the PSAM", b, 8); err != nil {
		return a, err
	}
	a.TSeq = binary.BigEndian.Uint32(b)
	copy(a.MAC1[:], b[4:])
	return a, nil
}

// SAMCredit is CREDIT_SAM_FOR_PURCHASE (8072): the PSAM checks MAC2.
type SAMCredit struct{ MAC2 [4]byte }

// Command codes it.
func (x SAMCredit) Command() iso7816.Command {
	return iso7816.Command{CLA: claPurse, INS: InsSAMCredit, Data: append([]byte(nil), x.MAC2[:]...), Le: iso7816.NoLe}
}

// ParseSAMCredit reads it at the PSAM.
func ParseSAMCredit(c iso7816.Command) (x SAMCredit, err error) {
	if err := match(c, InsSAMCredit, 0x00, 4); err != nil {
		return x, err
	}
	copy(x.MAC2[:], c.Data)
	return x, nil
}
