package purse

import (
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// ScriptMAC is the secure messaging MAC of file updates and blocking: first
// four bytes of the retail MAC under the card's DAMK, starting from the
// card's challenge (8 bytes, or 4 followed by zeros), over the header (class
// without channel, Lc counting the MAC) and the data. Another challenge
// length is a defect and panics.
func ScriptMAC(damk [16]byte, challenge, data []byte) (mac [4]byte) {
	var iv [8]byte
	if len(challenge) != 4 && len(challenge) != 8 {
		panic(fmt.Sprintf("purse: challenge of %d bytes", len(challenge)))
	}
	copy(iv[:], challenge)
	full := iso9797.RetailMAC(damk[:], iv[:], data)
	copy(mac[:], full[:4])
	return mac
}

// Protect turns a command into its form with MAC: class 04 or 84, four bytes
// more data.
func Protect(damk [16]byte, challenge []byte, c iso7816.Command) iso7816.Command {
	c.CLA |= 0x04
	mac := ScriptMAC(damk, challenge, macInput(c, c.Data))
	c.Data = append(append(make([]byte, 0, len(c.Data)+4), c.Data...), mac[:]...)
	return c
}

// ProtectEncrypted does the same after enciphering the data: length byte,
// data, padding 80 00.. unless the block is full, triple DES ECB.
func ProtectEncrypted(damk [16]byte, challenge []byte, c iso7816.Command) iso7816.Command {
	plain := append([]byte{byte(len(c.Data))}, c.Data...)
	if len(plain)%8 != 0 {
		plain = iso9797.Pad2(plain, 8)
	}
	c.Data = iso9797.TDESEncryptECB(damk[:], plain)
	return Protect(damk, challenge, c)
}

// Unprotect checks the MAC at the card and gives the command without it,
// class 00 or 80.
func Unprotect(damk [16]byte, challenge []byte, c iso7816.Command) (iso7816.Command, error) {
	n := len(c.Data) - 4
	if !iso7816.Secure(c.CLA) || n < 0 {
		return c, fmt.Errorf("%02X%02X: %w: no MAC", c.CLA, c.INS, ErrMAC)
	}
	if !Equal(ScriptMAC(damk, challenge, macInput(c, c.Data[:n])), [4]byte(c.Data[n:])) {
		return c, fmt.Errorf("%02X%02X: %w", c.CLA, c.INS, ErrMAC)
	}
	c.CLA &^= 0x0C
	c.Data = c.Data[:n:n]
	return c, nil
}

// Decipher takes the encryption of ProtectEncrypted off data whose MAC
// Unprotect has checked.
func Decipher(damk [16]byte, data []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%8 != 0 {
		return nil, fmt.Errorf("enciphered data: %w: %d bytes", ErrLength, len(data))
	}
	plain := iso9797.TDESDecryptECB(damk[:], data)
	if int(plain[0]) >= len(plain) {
		return nil, fmt.Errorf("enciphered data: %w: says %d bytes", ErrLength, plain[0])
	}
	return plain[1 : 1+int(plain[0])], nil
}

func macInput(c iso7816.Command, data []byte) []byte {
	lc := len(data) + 4
	return append([]byte{iso7816.WithoutChannel(c.CLA), c.INS, c.P1, c.P2, byte(lc)}, data...)
}

// AppBlock blocks the application, for ever if permanent. Protect it.
func AppBlock(permanent bool) iso7816.Command {
	c := iso7816.Command{CLA: 0x80, INS: InsAppBlock, Le: iso7816.NoLe}
	if permanent {
		c.P2 = 0x01
	}
	return c
}

// AppUnblock takes a temporary block back. Protect it.
func AppUnblock() iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: InsAppUnblock, Le: iso7816.NoLe}
}

// CardBlock blocks the card for ever. Protect it.
func CardBlock() iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: InsCardBlock, Le: iso7816.NoLe}
}

// Data groups with which STORE DATA personalises a purse or a PSAM. The
// numbers are this house's own: no public text gives those of a vendor.
const (
	DGIBeijing  = 0x0004 // MF file 04 of a Beijing card, 32 bytes
	DGIPublic   = 0x0015 // file 15, 30 bytes; at a PSAM its 14 bytes
	DGIHolder   = 0x0016 // file 16; at a PSAM the terminal number, 6 bytes
	DGIRegion   = 0x0017 // file 17, 60 bytes
	DGITransit  = 0x001A // the first record of file 1A, 128 bytes
	DGIKeyFirst = 0x8001 // keys: DGIKeyFirst, DGIKeyFirst+1, ... one KeyRecord each
	DGIKeyLast  = 0x80FF
	DGILimits   = 0x9001 // Limits
)

// KeyKind is what a key is for (JR/T 0025.1 names).
type KeyKind byte

// Kinds of purse keys.
const (
	DPK  KeyKind = 0x01 // purchase
	DLK  KeyKind = 0x02 // load
	DTK  KeyKind = 0x03 // TAC
	DAMK KeyKind = 0x04 // application maintenance
	DUK  KeyKind = 0x05 // overdraft limit
	DULK KeyKind = 0x06 // unload
	DPUK KeyKind = 0x07 // PIN unblock
	DRPK KeyKind = 0x08 // PIN reload
)

// Algorithms of keys.
const (
	Alg3DES = 0x00
	AlgSM4  = 0x04 // known by name; its purse MACs are not public
)

// KeyRecord is one key of a purse on its way into the card. On the wire Key
// is enciphered under the security domain's DEK; the check value is of the
// clear key.
type KeyRecord struct {
	Kind    KeyKind
	Index   byte
	Version byte
	Alg     byte
	Key     [16]byte
	KCV     [3]byte
}

// KeyRecordLen is the length of a KeyRecord in bytes.
const KeyRecordLen = 23

// Bytes codes the record.
func (k KeyRecord) Bytes() []byte {
	b := append(make([]byte, 0, KeyRecordLen), byte(k.Kind), k.Index, k.Version, k.Alg)
	return append(append(b, k.Key[:]...), k.KCV[:]...)
}

// String names the key without its value.
func (k KeyRecord) String() string {
	return fmt.Sprintf("key kind %02X index %02X version %02X KCV %X", byte(k.Kind), k.Index, k.Version, k.KCV)
}

// GoString is String, so that no printing shows the key.
func (k KeyRecord) GoString() string { return k.String() }

// ParseKeyRecord reads the record.
func ParseKeyRecord(b []byte) (k KeyRecord, err error) {
	if err := exactly("key record", b, KeyRecordLen); err != nil {
		return k, err
	}
	return KeyRecord{Kind: KeyKind(b[0]), Index: b[1], Version: b[2], Alg: b[3], Key: [16]byte(b[4:20]), KCV: [3]byte(b[20:23])}, nil
}

// Limits bounds a purse: the highest balance a load may reach, and the
// overdraft (three bytes), in fen.
type Limits struct {
	MaxBalance uint32
	Overdraft  uint32
}

// LimitsLen is the length of Limits in bytes.
const LimitsLen = 7

// Bytes codes the limits.
func (l Limits) Bytes() []byte { return appendUint24(BalanceBytes(l.MaxBalance), l.Overdraft) }

// ParseLimits reads the limits.
func ParseLimits(b []byte) (Limits, error) {
	if err := exactly("purse limits", b, LimitsLen); err != nil {
		return Limits{}, err
	}
	return Limits{MaxBalance: uint32(b[0])<<24 | uint24(b[1:]), Overdraft: uint24(b[4:])}, nil
}
