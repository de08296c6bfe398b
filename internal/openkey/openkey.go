// Package openkey is the list of public keys that a house signs papers with,
// as anybody gets it: each key with an id, what it signs, and in two forms,
// JSON for programs and PEM for openssl. Start at Parse and Book.Check.
package openkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"

	"koala/internal/fail"
)

// How a list, or a signature under it, is refused.
var (
	ErrBook      = fail.Define(fail.Invalid, "openkey.book", "this is no list of public keys of this house")
	ErrUnknown   = fail.Define(fail.NotFound, "openkey.unknown", "the list has no such key for this use")
	ErrSignature = fail.Define(fail.Refused, "openkey.signature", "the signature does not verify under the key that the paper names")
)

// A Use is what a key signs. A key is good for its use alone.
type Use string

// The uses.
const (
	Bills    Use = "bill"   // bills of payees
	OldBills Use = "bill.1" // bills from before these had a key of their own
	Slips    Use = "slip"   // slips of sales
	Packs    Use = "pack"   // parameter packs of shop terminals
)

// A Key is one public key, Ed25519.
type Key struct {
	ID     string
	Use    Use
	Public ed25519.PublicKey
}

// A Book is the keys of a house, oldest first within each use.
type Book []Key

// IDLen is the length of an id.
const IDLen = 16

// ID names a public key: the first eight bytes of its SHA-256, hexadecimal.
func ID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:IDLen/2])
}

// Of makes the entry of a key.
func Of(use Use, public ed25519.PublicKey) Key { return Key{ID: ID(public), Use: use, Public: public} }

// PEM is the key as openssl reads it: SubjectPublicKeyInfo (RFC 8410).
func (k Key) PEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		panic("openkey: " + err.Error()) // an Ed25519 key of 32 bytes always has this form
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Check verifies a signature under the key of an id that is good for a use.
func (b Book) Check(use Use, id string, message, signature []byte) error {
	for _, k := range b {
		if k.Use != use || k.ID != id {
			continue
		}
		if !ed25519.Verify(k.Public, message, signature) {
			return fmt.Errorf("under key %s: %w", id, ErrSignature)
		}
		return nil
	}
	return fmt.Errorf("key %.20q for %s: %w", id, use, ErrUnknown)
}

// entry is a key in JSON.
type entry struct {
	ID     string `json:"id"`
	Use    Use    `json:"use"`
	Kind   string `json:"kind"`
	Public string `json:"public"` // hexadecimal
	PEM    string `json:"pem"`
}

const kind = "Ed25519"

// JSON is the list as a program reads it.
func (b Book) JSON() []byte {
	list := struct {
		Keys []entry `json:"keys"`
	}{[]entry{}}
	for _, k := range b {
		list.Keys = append(list.Keys, entry{k.ID, k.Use, kind, hex.EncodeToString(k.Public), string(k.PEM())})
	}
	out, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		panic("openkey: " + err.Error()) // strings only
	}
	return append(out, '\n')
}

// Parse reads what JSON wrote. An id that is not its key's is refused.
func Parse(text []byte) (b Book, err error) {
	var list struct {
		Keys []entry `json:"keys"`
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Keys) == 0 {
		return nil, fmt.Errorf("it does not read as a list of keys: %w", ErrBook)
	}
	for i, e := range list.Keys {
		public, err := hex.DecodeString(e.Public)
		if err != nil || len(public) != ed25519.PublicKeySize || e.Kind != kind {
			return nil, fmt.Errorf("entry %d is no key: %w", i+1, ErrBook)
		}
		k := Of(e.Use, public)
		if k.ID != e.ID || !bytes.Equal(k.PEM(), []byte(e.PEM)) {
			return nil, fmt.Errorf("entry %d says two keys: %w", i+1, ErrBook)
		}
		b = append(b, k)
	}
	return b, nil
}
