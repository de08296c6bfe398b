package emv

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
)

// A CAKey is a scheme's certification authority key as a terminal keeps it.
type CAKey struct {
	RID         [5]byte
	Index       byte         // tag 8F of the card names it
	Algorithm   KeyAlgorithm // 0: RSA
	Modulus     []byte       // X and Y of an SM2 key
	Exponent    []byte       // 03 or 010001; none of an SM2 key
	Hash        [20]byte     // SHA-1 of RID, index, modulus and exponent
	Scheme      string
	Environment string // "live", "test" or "unstated"
	Last        string // YYYYMMDD, the last day on which it proves a card; empty: no end is known
}

// Usable says whether the key proves cards on a day, YYYYMMDD: a key past its
// last day is as one the terminal has not got.
func (k CAKey) Usable(day string) bool { return k.Last == "" || day <= k.Last }

// NewCAKey makes a terminal's copy of a CA key with its check value.
func NewCAKey(rid [5]byte, index byte, public PublicKey) CAKey {
	k := CAKey{RID: rid, Index: index, Algorithm: public.Algorithm(), Modulus: public.Modulus(), Exponent: public.Exponent(), Environment: "unstated"}
	k.Hash = k.sum()
	return k
}

// Valid says whether the check value is the key's: SHA-1 of RID, index,
// modulus and exponent (EMV 4.4 Book 2, 11.2.2). No public source says what it
// is of for an SM2 key; the house takes the same of X and Y.
func (k CAKey) Valid() bool { return k.sum() == k.Hash }

func (k CAKey) sum() [20]byte {
	all := append(k.RID[:], k.Index)
	return sha1.Sum(append(append(all, k.Modulus...), k.Exponent...))
}

// Public gives the key ready for use.
func (k CAKey) Public() (PublicKey, error) {
	switch k.Algorithm {
	case 0, RSA:
		return NewPublicKey(k.Modulus, k.Exponent)
	case SM2:
		return NewSM2PublicKey(k.Modulus)
	}
	return PublicKey{}, fmt.Errorf("%w: algorithm %02X", ErrAlgorithm, byte(k.Algorithm))
}

var caKeys = sync.OnceValue(func() []CAKey {
	var keys []CAKey
	for _, r := range rows("data/capk.csv", "scheme", "rid", "index", "exponent", "modulus", "sha1", "environment") {
		index, err := strconv.ParseUint(r[2], 16, 8)
		if err != nil {
			panic("emv: CA key index " + r[2])
		}
		k := CAKey{
			RID: [5]byte(unhex(r[1])), Index: byte(index), Exponent: unhex(r[3]), Modulus: unhex(r[4]),
			Hash: [20]byte(unhex(r[5])), Scheme: r[0], Environment: r[6],
		}
		keys = append(keys, k)
	}
	return keys
})

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("emv: embedded " + s)
	}
	return b
}

// CAKeys gives the published keys of the schemes. Take current ones from the
// scheme before any use with real money. The list is a copy, the keys' bytes
// are not: they are read only.
func CAKeys() []CAKey { return append([]CAKey(nil), caKeys()...) }

// FindCA gives the published key of a scheme and index. Where several were
// published under one index, as test keys and old ones are, it is a live one
// before a test key before the rest; FindCAs gives them all in that order.
func FindCA(rid [5]byte, index byte) (CAKey, bool) {
	if all := FindCAs(rid, index); len(all) > 0 {
		return all[0], true
	}
	return CAKey{}, false
}

// FindCAs gives every published key of a scheme and index.
func FindCAs(rid [5]byte, index byte) []CAKey {
	var found []CAKey
	for _, environment := range []string{"live", "test", "unstated"} {
		for _, k := range caKeys() {
			if k.RID == rid && k.Index == index && k.Environment == environment {
				found = append(found, k)
			}
		}
	}
	return found
}
