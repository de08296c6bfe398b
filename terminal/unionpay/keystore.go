package unionpay

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/poskey"
	"koala/terminal"
)

// Failures of the keystore.
var (
	ErrNoKeys   = errors.New("unionpay: no keys: inject the master key and sign on")
	ErrKeyCheck = errors.New("unionpay: the check value of a key is wrong")
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

// Sizes in bytes: of a key, and of its check value, the start of zeros encrypted
// under it.
const (
	masterLen = 16
	checkLen  = 4
)

// A Module is where the keys of a terminal are: keys go in and never come out.
// Keystore is one; a card reader whose phone speaks to the host is another.
type Module interface {
	// Injected says that the module has what the acquirer gave it.
	Injected() bool
	// Ready says that a transaction can be sealed.
	Ready() bool
	// SealsSignOn says that even a sign-on has a MAC, and brings no keys: there is
	// a key for each request (DUKPT).
	SealsSignOn() bool
	// Accept takes the working keys of a sign-on's answer (F62).
	Accept(sealed []byte) error
	// Seal writes a message with its MAC, Verify checks that of the answer to the
	// message sealed last.
	Seal(m *iso8583.Message) ([]byte, error)
	Verify(a *iso8583.Message) error
	// PINBlock is the PIN in ISO 9564-1 format 0 under the PIN key, 8 bytes.
	PINBlock(pin, pan string) ([]byte, error)
}

// A Keystore is the security module of the terminal: the master key (TMK) and
// under it the working keys. Keys go in and never come out: what leaves is PIN
// blocks, MACs and encrypted tracks. It lives in a flash of its own, which is
// erased when the device is opened.
type Keystore struct {
	bank   *terminal.Bank
	key    [masterLen]byte // the master key
	has    bool
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
		k.key, k.has = [masterLen]byte(v), true
		_ = k.take(v[masterLen:]) // what was kept was checked before; otherwise sign on again
	}
	return k
}

// Inject puts a clear master key of 16 bytes in, as the acquirer's loader does.
// check is the start of zeros encrypted under it, 3 or 4 bytes. Working keys of
// the old one are gone.
func (k *Keystore) Inject(master, check []byte) error {
	if len(master) != masterLen || len(check) < 3 || len(check) > checkLen {
		return ErrKeyCheck
	}
	if all := poskey.KCV([masterLen]byte(master)); subtle.ConstantTimeCompare(all[:len(check)], check) != 1 {
		return ErrKeyCheck
	}
	if err := k.bank.Put(k.bank.Version()+1, bytes.Clone(master)); err != nil {
		return fmt.Errorf("unionpay: keystore: %w", err)
	}
	k.key, k.has = [masterLen]byte(master), true
	return k.take(nil)
}

// Wipe forgets every key: the device was opened.
func (k *Keystore) Wipe() error {
	k.key, k.has = [masterLen]byte{}, false
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
	if !k.has {
		return ErrNoKeys
	}
	if len(sealed) == 0 {
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
	if len(sealed) == 0 {
		return nil
	}
	blocks, err := poskey.ParseField(sealed)
	if err != nil {
		return ErrKeyCheck
	}
	var work [keyUses]*iso9797.TDES
	var mac *iso8583.Key
	for i, b := range blocks {
		clear, err := b.Open(k.key)
		if err != nil {
			return ErrKeyCheck
		}
		work[i] = iso9797.NewTDES(clear[:])
		if keyUse(i) == macKey {
			if mac, err = iso8583.NewKey(clear[:]); err != nil {
				return err
			}
		}
	}
	k.work, k.mac, k.sealed = work, mac, sealed
	return nil
}

// CheckValue is the master key's, 3 bytes, and whether there is one: what a
// display may show.
func (k *Keystore) CheckValue() (check [3]byte, ok bool) {
	if !k.has {
		return check, false
	}
	all := poskey.KCV(k.key)
	return [3]byte(all[:]), true
}

// Injected says whether there is a master key.
func (k *Keystore) Injected() bool { return k.has }

// SealsSignOn is false: a sign-on brings the key that messages are sealed with.
func (k *Keystore) SealsSignOn() bool { return false }

// Seal writes a message with its MAC.
func (k *Keystore) Seal(m *iso8583.Message) ([]byte, error) {
	if k.mac == nil {
		return nil, ErrNoKeys
	}
	return m.Seal(nil, k.mac)
}

// Verify checks the MAC of an answer.
func (k *Keystore) Verify(a *iso8583.Message) error {
	if k.mac == nil {
		return ErrNoKeys
	}
	return a.Verify(k.mac)
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

// PINBlock is the PIN in ISO 9564-1 format 0 under the PIN key, 8 bytes.
func (k *Keystore) PINBlock(pin, pan string) ([]byte, error) {
	if k.work[pinKey] == nil {
		return nil, ErrNoKeys
	}
	block, err := poskey.PINBlock(poskey.WithPAN, pin, pan)
	if err != nil {
		return nil, fmt.Errorf("unionpay: %w", err)
	}
	k.work[pinKey].EncryptBlock(block[:], block[:])
	return block[:], nil
}

// A trackSealer is a Module that has a track key.
type trackSealer interface {
	// SealTrack enciphers eight bytes of a track in their place.
	SealTrack(track string) (string, error)
}

// SealTrack enciphers eight bytes of a track, digits and D, in their place: those
// before the last one, two digits a byte. What is too short for it is ErrOrder.
func (k *Keystore) SealTrack(track string) (string, error) {
	if k.work[trackKey] == nil {
		return "", ErrNoKeys
	}
	packed, err := hex.DecodeString((track + "0")[:(len(track)+1)/2*2])
	if err != nil {
		return "", ErrOrder
	}
	part, err := poskey.TrackBlock(packed)
	if err != nil {
		return "", ErrOrder
	}
	k.work[trackKey].EncryptBlock(part, part)
	return strings.ToUpper(hex.EncodeToString(packed))[:len(track)], nil
}

// seal enciphers what there is of tracks.
func (s *secret) seal(m Module) (err error) {
	k, ok := m.(trackSealer)
	if !ok {
		return ErrNoKeys
	}
	if s.sealed = true; s.track3 != "" {
		if s.track3, err = k.SealTrack(s.track3); err != nil {
			return err
		}
	}
	s.track2, err = k.SealTrack(s.track2)
	return err
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
