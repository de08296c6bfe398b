package unionpay

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"

	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/terminal"
)

// Failures of the keystore.
var (
	ErrNoKeys   = errors.New("unionpay: no keys: inject the master key and sign on")
	ErrKeyCheck = errors.New("unionpay: the check value of a key is wrong")
	ErrPIN      = errors.New("unionpay: a PIN has 4 to 12 digits, its card number 13 to 19")
)

// A keyUse says what a working key is for; they arrive in this order.
type keyUse byte

// The working keys of a sign-on's answer (F62).
const (
	pinKey keyUse = iota
	macKey
	trackKey
	keyUses
)

// Sizes in bytes: a working key as it travels is the key under the master key
// and 4 bytes of check value, the start of zeros encrypted under it.
const (
	masterLen = 16
	sealedLen = masterLen + checkLen
	checkLen  = 4
)

// A Keystore is the security module of the terminal: the master key (TMK) and
// under it the working keys. Keys go in and never come out: what leaves is PIN
// blocks, MACs and encrypted tracks. It lives in a flash of its own, which is
// erased when the device is opened.
type Keystore struct {
	bank   *terminal.Bank
	master *iso9797.TDES
	sealed []byte // working keys as they arrived, 20 bytes each
	work   [keyUses]*iso9797.TDES
	mac    *iso8583.Key
}

// OpenKeystore reads what the flash (at least two sectors) holds: master key 16
// | working keys as they arrived, 20 bytes each. A store that does not read has
// no keys.
func OpenKeystore(f *terminal.Flash) *Keystore {
	k := &Keystore{bank: terminal.OpenBank(f)}
	if v := k.bank.Value(); len(v) >= masterLen {
		k.master = iso9797.NewTDES(v[:masterLen])
		_ = k.take(v[masterLen:]) // what was kept was checked before; otherwise sign on again
	}
	return k
}

// Inject puts a clear master key of 16 bytes in, as the acquirer's loader does.
// check is the start of zeros encrypted under it, 3 to 8 bytes. Working keys of
// the old one are gone.
func (k *Keystore) Inject(master, check []byte) error {
	if len(master) != masterLen || len(check) < 3 || len(check) > 8 {
		return ErrKeyCheck
	}
	key := iso9797.NewTDES(master)
	if !checks(key, check) {
		return ErrKeyCheck
	}
	if err := k.bank.Put(k.bank.Version()+1, bytes.Clone(master)); err != nil {
		return fmt.Errorf("unionpay: keystore: %w", err)
	}
	k.master = key
	return k.take(nil)
}

// Wipe forgets every key: the device was opened.
func (k *Keystore) Wipe() error {
	k.master = nil
	_ = k.take(nil)
	for range 2 { // both halves of the bank
		if err := k.bank.Put(k.bank.Version()+1, nil); err != nil {
			return fmt.Errorf("unionpay: keystore: %w", err)
		}
	}
	return nil
}

// Accept takes working keys as the host sends them: two (PIN, MAC) or three
// (and track) of 20 bytes. All check values must be right, or none is taken.
func (k *Keystore) Accept(sealed []byte) error {
	if k.master == nil {
		return ErrNoKeys
	}
	if len(sealed) != 2*sealedLen && len(sealed) != 3*sealedLen {
		return ErrKeyCheck
	}
	old := k.sealed
	if err := k.take(bytes.Clone(sealed)); err != nil {
		_ = k.take(old)
		return err
	}
	v := k.bank.Value()[:masterLen]
	if err := k.bank.Put(k.bank.Version()+1, append(bytes.Clone(v), sealed...)); err != nil {
		return fmt.Errorf("unionpay: keystore: %w", err)
	}
	return nil
}

// take opens working keys under the master key.
func (k *Keystore) take(sealed []byte) error {
	k.work, k.mac, k.sealed = [keyUses]*iso9797.TDES{}, nil, nil
	for i := range len(sealed) / sealedLen {
		one := sealed[i*sealedLen : (i+1)*sealedLen]
		clear := k.master.DecryptECB(one[:masterLen])
		key := iso9797.NewTDES(clear)
		if !checks(key, one[masterLen:]) {
			return ErrKeyCheck
		}
		k.work[i] = key
		if keyUse(i) == macKey {
			var err error
			if k.mac, err = iso8583.NewKey(clear); err != nil {
				return err
			}
		}
	}
	k.sealed = sealed
	return nil
}

// checks says whether check begins zeros encrypted under key.
func checks(key *iso9797.TDES, check []byte) bool {
	var zeros [8]byte
	key.EncryptBlock(zeros[:], zeros[:])
	return subtle.ConstantTimeCompare(zeros[:len(check)], check) == 1
}

// CheckValue is the master key's, 3 bytes, and whether there is one: what a
// display may show.
func (k *Keystore) CheckValue() (check [3]byte, ok bool) {
	if k.master == nil {
		return check, false
	}
	var zeros [8]byte
	k.master.EncryptBlock(zeros[:], zeros[:])
	return [3]byte(zeros[:3]), true
}

// Ready says whether the keys to take a transaction are there.
func (k *Keystore) Ready() bool { return k.mac != nil && k.work[pinKey] != nil }

// String shows no key.
func (k *Keystore) String() string {
	if check, ok := k.CheckValue(); ok {
		return fmt.Sprintf("keystore, master key %X", check)
	}
	return "keystore without keys"
}

// GoString is String: no form of printing shows a key.
func (k *Keystore) GoString() string { return k.String() }

// PINBlock is the PIN in ISO 9564-1 format 0 under the PIN key, 8 bytes: 0,
// length, digits, filled with F, XORed with the right 12 digits of the card
// number before its check digit.
func (k *Keystore) PINBlock(pin, pan string) ([]byte, error) {
	if k.work[pinKey] == nil {
		return nil, ErrNoKeys
	}
	block, err := PINBlock(pin, pan)
	if err != nil {
		return nil, err
	}
	k.work[pinKey].EncryptBlock(block[:], block[:])
	return block[:], nil
}

// PINBlock is the clear block of ISO 9564-1 format 0.
func PINBlock(pin, pan string) (block [8]byte, err error) {
	if len(pin) < 4 || len(pin) > 12 || !digits(pin) || len(pan) < 13 || len(pan) > 19 || !digits(pan) {
		return block, ErrPIN
	}
	block = [8]byte{byte(len(pin)), 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	for i := range len(pin) {
		setNibble(block[:], 2+i, pin[i]-'0')
	}
	var account [8]byte
	for i, c := range []byte(pan[len(pan)-13 : len(pan)-1]) {
		setNibble(account[:], 4+i, c-'0')
	}
	subtle.XORBytes(block[:], block[:], account[:])
	return block, nil
}

func setNibble(b []byte, at int, v byte) {
	shift := 4 * (1 - at%2)
	b[at/2] = b[at/2]&^(0x0F<<shift) | v<<shift
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
