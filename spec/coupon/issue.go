package coupon

import (
	"fmt"

	"koala/spec/iso9797"
)

// Data groupings of STORE DATA for a discount card. Each may come again: what is
// done already is done once.
const (
	DGIHolder   = 0x0001 // holder number, 8; for ever once a coupon is there
	DGICoupon   = 0x0101 // a new Coupon; its id must be new, or the very same offer
	DGIDelete   = 0x0102 // id of a coupon to delete, 8; no such coupon is no error
	DGIKeyFirst = 0x8001 // keys: DGIKeyFirst, DGIKeyFirst+1, ... one KeyRecord each
	DGIKeyLast  = 0x80FF
)

// A KeyUse is what a key on the card is for.
type KeyUse byte

// The uses.
const (
	MerchantKey KeyUse = 1 // sessions with the owner's terminals
	IssuerKey   KeyUse = 2 // proofs for the owner
)

// A KeyRecord is a card's key on its way into the card, the key itself under
// the DEK of the security domain.
type KeyRecord struct {
	Index   byte // 1 to 255; a key of the same index is replaced
	Use     KeyUse
	Version byte
	Owner   ID // the merchant or the issuer
	Key     [16]byte
	KCV     [3]byte // of the key in clear
}

// KeyRecordLen is the length of a KeyRecord in bytes.
const KeyRecordLen = 1 + 1 + 1 + 8 + 16 + 3

// Bytes codes the record: index 1 | use 1 | version 1 | owner 8 | key 16 | KCV 3.
func (k KeyRecord) Bytes() []byte {
	b := append([]byte{k.Index, byte(k.Use), k.Version}, k.Owner[:]...)
	return append(append(b, k.Key[:]...), k.KCV[:]...)
}

// String leaves the key out.
func (k KeyRecord) String() string {
	return fmt.Sprintf("key %d of use %d for %v, version %d, KCV %X", k.Index, k.Use, k.Owner, k.Version, k.KCV)
}

// GoString leaves the key out too.
func (k KeyRecord) GoString() string { return k.String() }

// ParseKeyRecord reads the record.
func ParseKeyRecord(b []byte) (k KeyRecord, err error) {
	if len(b) != KeyRecordLen {
		return k, fmt.Errorf("key record: %w: %d bytes", ErrLength, len(b))
	}
	return KeyRecord{Index: b[0], Use: KeyUse(b[1]), Version: b[2], Owner: ID(b[3:]), Key: [16]byte(b[11:]), KCV: [3]byte(b[27:])}, nil
}

// Fits says whether a key in clear is the one that the record's check value is of.
func (k KeyRecord) Fits(key [16]byte) bool { return iso9797.KCVAES(key[:]) == k.KCV }
