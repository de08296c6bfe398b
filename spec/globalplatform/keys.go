package globalplatform

import (
	"bytes"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// A KeyType is the algorithm of a key as PUT KEY and the key information
// template code it (GPCS table 11-16).
type KeyType byte

// Key types of security domains here.
const (
	DES KeyType = 0x80 // two-key triple DES, 16 bytes: speaks SCP02
	AES KeyType = 0x88 // 16, 24 or 32 bytes: speaks SCP03
	// Public keys that verify tokens.
	RSA KeyType = 0xA1 // modulus of 1024 to 2048 bits, whole bytes
	ECC KeyType = 0xB0 // uncompressed point on P-256, 65 bytes

	keyExponent KeyType = 0xA0 // component of an RSA key
	keyCurve    KeyType = 0xF0 // component of an elliptic curve key: number of its curve
)

// String names the algorithm.
func (t KeyType) String() string {
	switch t {
	case DES:
		return "3DES"
	case AES:
		return "AES"
	case RSA:
		return "RSA public"
	case ECC:
		return "ECC public"
	}
	return fmt.Sprintf("type %02X", byte(t))
}

// Check is the key check value: the first three bytes of zeros (3DES) or of 01
// bytes (AES) encrypted (GPCS B.5, B.6). Public keys have none.
func (t KeyType) Check(key []byte) [3]byte {
	if t == DES {
		return iso9797.KCVDES(key)
	}
	return iso9797.KCVAES(key)
}

// Fits says whether a key of n bytes exists in the algorithm.
func (t KeyType) Fits(n int) bool {
	switch t {
	case DES:
		return n == 16
	case AES:
		return n == 16 || n == 24 || n == 32
	case RSA:
		return n >= 128 && n <= 256
	case ECC:
		return n == 65
	}
	return false
}

// Public says whether keys of the type are public, written in clear and without
// a check value.
func (t KeyType) Public() bool { return t == RSA || t == ECC }

// Key identifiers within a set (GPCS 7.5.1, D.2).
const (
	KeyENC byte = 1
	KeyMAC byte = 2
	KeyDEK byte = 3
)

// FactoryVersion is the key version number of the set a card leaves the factory
// with; the first PUT KEY replaces it.
const FactoryVersion = 0xFF

// A KeySet is the three keys of a secure channel under one version number. The
// protocol that uses the set knows its algorithm: SCP02 takes 16-byte 3DES
// keys, SCP03 AES keys of 16, 24 or 32 bytes.
type KeySet struct {
	Version       byte
	ENC, MAC, DEK []byte
}

// FactoryKeys is the public test key 40..4F three times, as sold cards have it.
func FactoryKeys() KeySet {
	key := []byte("@ABCDEFGHIJKLMNO")
	return KeySet{Version: FactoryVersion, ENC: key, MAC: key, DEK: key}
}

// keys lists the set in the order of the key identifiers.
func (k KeySet) keys() [3][]byte { return [3][]byte{k.ENC, k.MAC, k.DEK} }

// Fits says whether all three keys are keys of the algorithm.
func (k KeySet) Fits(t KeyType) bool {
	return t.Fits(len(k.ENC)) && t.Fits(len(k.MAC)) && t.Fits(len(k.DEK))
}

// Checks are the check values of the three keys.
func (k KeySet) Checks(t KeyType) [3][3]byte {
	return [3][3]byte{t.Check(k.ENC), t.Check(k.MAC), t.Check(k.DEK)}
}

// DiversifyCPS derives a card's 3DES set from master keys with the key data of
// INITIALIZE UPDATE as EMV CPS 1.1, 4.3 does: each key is the last six bytes of
// the key data | F0 | n followed by the same with 0F, encrypted under its
// master, n = 1 ENC, 2 MAC, 3 DEK.
func DiversifyCPS(master KeySet, kdd [10]byte) KeySet {
	derive := func(key []byte, n byte) []byte {
		in := make([]byte, 0, 16)
		in = append(append(in, kdd[4:]...), 0xF0, n)
		in = append(append(in, kdd[4:]...), 0x0F, n)
		return iso9797.TDESEncryptECB(key, in)
	}
	return KeySet{Version: master.Version,
		ENC: derive(master.ENC, KeyENC), MAC: derive(master.MAC, KeyMAC), DEK: derive(master.DEK, KeyDEK)}
}

// DiversifyKDF derives a card's AES set from master keys and its key data: the
// counter mode KDF of SCP03 over n as four bytes | 00 | key data, n = 1 ENC, 2
// MAC, 3 DEK, which public tools call "kdf3". Keys are as long as their master.
func DiversifyKDF(master KeySet, kdd [10]byte) KeySet {
	derive := func(key []byte, n byte) []byte {
		return counterKDF(iso9797.NewAES(key), nil, append([]byte{0, 0, 0, n, 0}, kdd[:]...), len(key))
	}
	return KeySet{Version: master.Version,
		ENC: derive(master.ENC, KeyENC), MAC: derive(master.MAC, KeyMAC), DEK: derive(master.DEK, KeyDEK)}
}

// counterKDF is NIST SP 800-108 in counter mode with CMAC and a counter of one
// byte between before and after.
func counterKDF(k *iso9797.AES, before, after []byte, n int) []byte {
	in := append(append(bytes.Clone(before), 0), after...)
	var out []byte
	for i := byte(1); len(out) < n; i++ {
		in[len(before)] = i
		block := k.CMAC(in)
		out = append(out, block[:]...)
	}
	return out[:n]
}

// A KeyField is one key of PUT KEY, still enciphered.
type KeyField struct {
	Type   KeyType
	Length int    // of the clear key, bytes
	Cipher []byte // under the data encryption key; a public key in clear
	Check  []byte // three bytes, or none
	// Reference is a public key's second component: the exponent of RSA, the
	// number of the curve (00 is P-256).
	Reference []byte
}

// Open deciphers the key with decrypt and compares its check value. A public key
// is as it came; Public reads it.
func (f KeyField) Open(decrypt func([]byte) ([]byte, error)) ([]byte, error) {
	if f.Type.Public() {
		return f.Cipher, nil
	}
	key, err := decrypt(f.Cipher)
	if err != nil || len(key) < f.Length || !f.Type.Fits(f.Length) {
		return nil, ErrKey
	}
	key = key[:f.Length]
	if kcv := f.Type.Check(key); len(f.Check) > 0 && !bytes.Equal(kcv[:], f.Check) {
		return nil, ErrKey
	}
	return key, nil
}

// A PutKey is the PUT KEY command (GPCS 11.8): new keys from identifier First
// under NewVersion, replacing the set Replaces (00: none, they are added).
type PutKey struct {
	Replaces   byte
	First      byte
	NewVersion byte
	Keys       []KeyField
}

// A KeyCoding is one of the two ways to write an AES key in PUT KEY that are
// in use.
type KeyCoding bool

// Key codings.
const (
	BareKeys     KeyCoding = false // 88 10 key: GPCS 11.8.2.3.1, basic format
	MeasuredKeys KeyCoding = true  // 88 11 10 key: with the clear length in front (GPCS table 11-70)
)

// Command codes the command in plain. Keys longer than their cipher blocks need
// the measured coding, which is then used in any case.
func (p PutKey) Command(coding KeyCoding) iso7816.Command {
	data := []byte{p.NewVersion}
	for _, f := range p.Keys {
		data = append(data, byte(f.Type))
		if f.Type.Public() {
			data = appendComponents(data, f)
			continue
		}
		if f.Type == AES && coding == MeasuredKeys || len(f.Cipher) != f.Length {
			data = append(data, byte(len(f.Cipher)+1), byte(f.Length))
		} else {
			data = append(data, byte(len(f.Cipher)))
		}
		data = append(append(data, f.Cipher...), byte(len(f.Check)))
		data = append(data, f.Check...)
	}
	p2 := p.First
	if len(p.Keys) > 1 {
		p2 |= 0x80
	}
	return plain(InsPutKey, p.Replaces, p2, data)
}

// ParsePutKey reads a PUT KEY in plain, in either coding of AES keys.
func ParsePutKey(c iso7816.Command) (PutKey, error) {
	if err := expect(c, InsPutKey); err != nil {
		return PutKey{}, err
	}
	p := PutKey{Replaces: c.P1, First: c.P2 & 0x7F}
	if len(c.Data) == 0 || p.Replaces > 0x7F && p.Replaces != FactoryVersion || p.First == 0 {
		return PutKey{}, fmt.Errorf("%w: PUT KEY header", ErrCommand)
	}
	p.NewVersion = c.Data[0]
	for rest := c.Data[1:]; len(rest) > 0; {
		f, after, err := parseKeyField(rest)
		if err != nil {
			return PutKey{}, err
		}
		p.Keys, rest = append(p.Keys, f), after
	}
	if len(p.Keys) == 0 || (len(p.Keys) > 1) != (c.P2&0x80 != 0) {
		return PutKey{}, fmt.Errorf("%w: PUT KEY with %d keys, P2 %02X", ErrCommand, len(p.Keys), c.P2)
	}
	return p, nil
}

// parseKeyField reads type | length | [clear length] | cipher | check length |
// check. Lengths of 128 and more occur in public keys only.
func parseKeyField(in []byte) (f KeyField, rest []byte, err error) {
	bad := fmt.Errorf("%w: key field of PUT KEY", ErrCommand)
	if len(in) > 0 && KeyType(in[0]).Public() {
		return parseComponents(in)
	}
	if len(in) < 3 || in[1] == 0 || in[1] > 0x7F || len(in) < 2+int(in[1])+1 {
		return f, nil, bad
	}
	body, after := in[2:2+int(in[1])], in[2+int(in[1]):]
	f = KeyField{Type: KeyType(in[0]), Length: len(body), Cipher: body}
	if !f.Type.Fits(len(body)) || f.Type == AES && len(body)%16 != 0 {
		f.Length, f.Cipher = int(body[0]), body[1:]
	}
	if !f.Type.Fits(f.Length) || len(f.Cipher) < f.Length || len(f.Cipher)%8 != 0 {
		return f, nil, bad
	}
	n := int(after[0])
	if n != 0 && n != 3 || len(after) < 1+n {
		return f, nil, bad
	}
	f.Check = after[1 : 1+n]
	return f, after[1+n:], nil
}

// appendComponents codes a public key behind its type: length | modulus or point
// | A0 or F0 | length | exponent or curve | 00, no check value.
func appendComponents(dst []byte, f KeyField) []byte {
	second := keyExponent
	if f.Type == ECC {
		second = keyCurve
	}
	dst = append(appendLV(dst, f.Cipher), byte(second))
	return append(appendLV(dst, f.Reference), 0)
}

func parseComponents(in []byte) (f KeyField, rest []byte, err error) {
	bad := fmt.Errorf("%w: public key of PUT KEY", ErrCommand)
	f.Type = KeyType(in[0])
	second := keyExponent
	if f.Type == ECC {
		second = keyCurve
	}
	if f.Cipher, rest, err = nextLV(in[1:]); err != nil || !f.Type.Fits(len(f.Cipher)) || len(rest) == 0 || KeyType(rest[0]) != second {
		return f, nil, bad
	}
	if f.Reference, rest, err = nextLV(rest[1:]); err != nil || len(f.Reference) == 0 || len(f.Reference) > 3 || len(rest) == 0 || rest[0] != 0 {
		return f, nil, bad
	}
	f.Length = len(f.Cipher)
	return f, rest[1:], nil
}

// PutKeyAnswer codes what the card answers: the new version and every check
// value; one client refuses the bare version, the other takes both.
func PutKeyAnswer(version byte, checks ...[3]byte) []byte {
	out := []byte{version}
	for _, k := range checks {
		out = append(out, k[:]...)
	}
	return out
}

// ParsePutKeyAnswer reads the version and the check values, if any.
func ParsePutKeyAnswer(data []byte) (version byte, checks [][3]byte, err error) {
	if len(data) == 0 || len(data)%3 != 1 {
		return 0, nil, fmt.Errorf("%w: PUT KEY, %d bytes", ErrAnswer, len(data))
	}
	for rest := data[1:]; len(rest) > 0; rest = rest[3:] {
		checks = append(checks, [3]byte(rest))
	}
	return data[0], checks, nil
}
