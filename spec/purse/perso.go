package purse

import "fmt"

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
