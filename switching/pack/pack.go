// Package pack is the numbered, signed pack of what every shop terminal is told
// alike: parameters, AIDs, CA keys with their last days and how new a black list
// must be. Start at Pack.
package pack

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/spec/emv"
)

// Errors of packs.
var (
	ErrPack      = errors.New("pack: not a pack for terminals")
	ErrSignature = errors.New("pack: the house did not sign it")
	ErrOld       = errors.New("pack: not newer than what the terminal has")
)

// Limits of a pack.
const (
	MaxSize         = 64 << 10 // bytes, signature included
	MaxParameters   = 99
	MaxApplications = 99 // what a list of two digits can name
	MaxKeys         = 99
)

// A Parameter is one of docs/terminal-protocol.md section 10 that does not
// depend on the shop.
type Parameter struct {
	Number byte   // 0 to 99
	Value  string // printable ASCII, 1 to 40 bytes
}

// An Application is what is told about one AID.
type Application struct {
	AID  []byte // 5 to 16 bytes
	Data []byte // the objects behind 9F06, as field 62 of 380 has them; at most 512 bytes
}

// A Pack is what terminals are given under one number. A pack's lists are
// ordered and name nothing twice, so equal content has equal bytes.
type Pack struct {
	Number       uint32        // from 1; only rises
	Parameters   []Parameter   // rising numbers
	Applications []Application // rising AIDs
	Keys         []emv.CAKey   // rising RID, index; each with its last day
	Black        uint32        // oldest black list to work with; 0 any
}

// Label is that of the key that signs packs (hsm.Signing).
const Label = "terminal.sign"

const (
	magic  = "koala terminal pack"
	format = 1
	head   = len(magic) + 1 + 4
)

// Bytes are the canonical bytes that are signed:
//
//	"koala terminal pack" 19 | format 1 | number 4 | black list 4
//	| n 1 | n × (number 1, length 1, value)
//	| n 1 | n × (length 1, AID; length 2, data)
//	| n 1 | n × (RID 5, index 1, algorithm 1, last day 8; length 2, modulus; length 1, exponent)
func (p Pack) Bytes() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	b := append(append(make([]byte, 0, 1024), magic...), format)
	b = binary.BigEndian.AppendUint32(b, p.Number)
	b = binary.BigEndian.AppendUint32(b, p.Black)
	b = append(b, byte(len(p.Parameters)))
	for _, x := range p.Parameters {
		b = append(append(b, x.Number, byte(len(x.Value))), x.Value...)
	}
	b = append(b, byte(len(p.Applications)))
	for _, x := range p.Applications {
		b = append(append(b, byte(len(x.AID))), x.AID...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(x.Data))), x.Data...)
	}
	b = append(b, byte(len(p.Keys)))
	for _, k := range p.Keys {
		b = append(append(append(b, k.RID[:]...), k.Index, byte(algorithm(k.Algorithm))), k.Last...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(k.Modulus))), k.Modulus...)
		b = append(append(b, byte(len(k.Exponent))), k.Exponent...)
	}
	if len(b)+ed25519.SignatureSize > MaxSize {
		return nil, fmt.Errorf("pack %d of %d bytes: %w", p.Number, len(b), ErrPack)
	}
	return b, nil
}

// algorithm has one name for RSA.
func algorithm(a emv.KeyAlgorithm) emv.KeyAlgorithm {
	if a == 0 {
		return emv.RSA
	}
	return a
}

// check says what of a pack cannot be.
func (p Pack) check() error {
	bad := func(what string) error { return fmt.Errorf("pack %d: %s: %w", p.Number, what, ErrPack) }
	if p.Number == 0 || len(p.Parameters) > MaxParameters || len(p.Applications) > MaxApplications || len(p.Keys) > MaxKeys {
		return bad("number or counts")
	}
	for i, x := range p.Parameters {
		printable := strings.Trim(x.Value, "\x20") != "" && strings.IndexFunc(x.Value, func(r rune) bool { return r < ' ' || r > '~' }) < 0
		if x.Number > 99 || OfShop(x.Number) || len(x.Value) > 40 || !printable || i > 0 && p.Parameters[i-1].Number >= x.Number {
			return bad("parameters")
		}
	}
	for i, x := range p.Applications {
		if len(x.AID) < 5 || len(x.AID) > 16 || len(x.Data) > 512 || i > 0 && bytes.Compare(p.Applications[i-1].AID, x.AID) >= 0 {
			return bad("applications")
		}
	}
	for i, k := range p.Keys {
		day, err := time.Parse("20060102", k.Last)
		if err != nil || day.Format("20060102") != k.Last || !k.Valid() || i > 0 && compare(p.Keys[i-1], k) >= 0 {
			return bad("keys")
		}
		// A key whose bytes the key itself would write otherwise has two forms.
		public, err := k.Public()
		if err != nil || !bytes.Equal(public.Modulus(), k.Modulus) || !bytes.Equal(public.Exponent(), k.Exponent) {
			return bad("keys")
		}
	}
	return nil
}

func compare(a, b emv.CAKey) int {
	return bytes.Compare(append(a.RID[:], a.Index), append(b.RID[:], b.Index))
}

// Sign writes a pack down and signs it: Bytes | Ed25519 64.
func (p Pack) Sign(sign func([]byte) ([]byte, error)) ([]byte, error) {
	b, err := p.Bytes()
	if err != nil {
		return nil, err
	}
	sig, err := sign(b)
	if err != nil {
		return nil, fmt.Errorf("signing pack %d: %w", p.Number, err)
	}
	if len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("signing pack %d: %w", p.Number, ErrSignature)
	}
	return append(b, sig...), nil
}

// Content is the SHA-256 of all but the number: a roll-back has the content of
// the pack it goes back to.
func (p Pack) Content() ([sha256.Size]byte, error) {
	b, err := p.Bytes()
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(b[head:]), nil
}

// Again is a roll-back: the same content under a new number, which is above
// latest, the highest that any terminal was given.
func (p Pack) Again(number, latest uint32) (Pack, error) {
	if number <= latest || number <= p.Number {
		return Pack{}, fmt.Errorf("pack %d again as %d over %d: %w", p.Number, number, latest, ErrOld)
	}
	p.Number = number
	return p, nil
}

// Open reads a pack that key signed and that is newer than have, the number of
// the pack in use (0: none). Nothing of another pack is used.
func Open(key ed25519.PublicKey, signed []byte, have uint32) (Pack, error) {
	n := len(signed) - ed25519.SignatureSize
	if len(key) != ed25519.PublicKeySize || n < 0 || !ed25519.Verify(key, signed[:n], signed[n:]) {
		return Pack{}, ErrSignature
	}
	p, err := Parse(signed)
	if err == nil && p.Number <= have {
		err = fmt.Errorf("pack %d over %d: %w", p.Number, have, ErrOld)
	}
	if err != nil {
		return Pack{}, err
	}
	return p, nil
}
