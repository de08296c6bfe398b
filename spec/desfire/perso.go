package desfire

import (
	"encoding/binary"
	"fmt"
)

// Data groupings of the personalisation over the air, this house's own: STORE
// DATA for the card's instance hands them on. Keys in them are enciphered under
// the security domain's data encryption key. Each may come again: an application
// that is there already is replaced.
const (
	DGIMaster      = 0x8D00 // the card's master key, see Master
	DGIApplication = 0x8D01 // a whole application, see Application
	DGIDelete      = 0x0D02 // version 1 | AID 3: an application goes
)

// persoVersion is the first byte of every grouping; others may follow.
const persoVersion = 0x01

// A SealedKey is an AES key on its way to a card: version 1, key 16 under the
// domain's key, check value of the clear key 3.
type SealedKey struct {
	Version byte
	Sealed  [16]byte
	KCV     [3]byte
}

const sealedKeyLen = 20

// Seal puts a key under the domain's key by encrypt, which takes and gives 16
// bytes (SCP02: 3DES; SCP03: AES).
func Seal(k Key, encrypt func([]byte) ([]byte, error)) (SealedKey, error) {
	if k.Kind != AES {
		return SealedKey{}, fmt.Errorf("sealing %v: %w", k, ErrSettings)
	}
	out, err := encrypt(k.Bytes())
	if err != nil {
		return SealedKey{}, fmt.Errorf("sealing %v: %w", k, err)
	}
	if err := exactly("sealed key", out, 16); err != nil {
		return SealedKey{}, err
	}
	return SealedKey{k.Version, [16]byte(out), k.CheckValue()}, nil
}

// Open takes the key out by decrypt and compares the check value.
func (s SealedKey) Open(decrypt func([]byte) ([]byte, error)) (Key, error) {
	clear, err := decrypt(s.Sealed[:])
	if err != nil {
		return Key{}, fmt.Errorf("key version %02X: %w", s.Version, err)
	}
	if err := exactly("key", clear, 16); err != nil {
		return Key{}, err
	}
	k := AESKey([16]byte(clear), s.Version)
	if k.CheckValue() != s.KCV {
		return Key{}, fmt.Errorf("key version %02X: check value: %w", s.Version, ErrMAC)
	}
	return k, nil
}

func (s SealedKey) append(b []byte) []byte {
	return append(append(append(b, s.Version), s.Sealed[:]...), s.KCV[:]...)
}

func sealedKey(b []byte) SealedKey {
	return SealedKey{b[0], [16]byte(b[1:17]), [3]byte(b[17:20])}
}

// A Master is grouping DGIMaster: version 1 | settings of the card's level 1 |
// sealed key 20.
type Master struct {
	Settings KeySettings
	Key      SealedKey
}

// Bytes codes the grouping.
func (m Master) Bytes() []byte { return m.Key.append([]byte{persoVersion, byte(m.Settings)}) }

// ParseMaster reads the grouping.
func ParseMaster(b []byte) (m Master, err error) {
	if err := exactly("master key", b, 2+sealedKeyLen); err != nil {
		return m, err
	}
	if b[0] != persoVersion {
		return m, fmt.Errorf("master key: %w: %02X", ErrVersion, b[0])
	}
	return Master{KeySettings(b[1]), sealedKey(b[2:])}, nil
}

// KeySettings is the first settings byte of an application or of the card.
type KeySettings byte

// Bits of KeySettings; of an application, the high nibble is the key that
// changes keys: 0-D that key, E each key itself, F none.
const (
	ChangeMaster   KeySettings = 0x01 // the master key may change
	FreeListing    KeySettings = 0x02 // lists and settings without authentication
	FreeCreate     KeySettings = 0x04 // create and delete without the master key
	ChangeSettings KeySettings = 0x08 // these settings may change

	DefaultSettings KeySettings = 0x0F
)

// ChangeKey is the key that changes the others.
func (k KeySettings) ChangeKey() byte { return byte(k >> 4) }

// An InitialFile is a file an application is born with, and its content: the
// bytes of a data file, whole records of a record file (oldest first), nothing
// for a value file.
type InitialFile struct {
	NewFile
	Content []byte
}

// An Application is grouping DGIApplication: version 1 | AID 3 | settings 1 |
// number of keys 1, with the bits 80 of AES | sealed keys, 20 each, number 0
// first | number of files 1 | files. A file is: number 1 | settings as GET FILE
// SETTINGS answers them (records there are: those of the content) | of a value
// file the value 4, little endian | content length 2, big endian | content.
type Application struct {
	AID      AID
	Settings KeySettings
	Keys     []SealedKey
	Files    []InitialFile
}

// Bytes codes the grouping. It must hold what ParseApplication asks for.
func (a Application) Bytes() ([]byte, error) {
	aid := a.AID.Bytes()
	b := append([]byte{persoVersion}, aid[:]...)
	b = append(b, byte(a.Settings), byte(AES)|byte(len(a.Keys)))
	for _, k := range a.Keys {
		b = k.append(b)
	}
	b = append(b, byte(len(a.Files)))
	for _, f := range a.Files {
		b = append(append(b, f.No), f.Settings.Bytes()...)
		if f.Settings.Type == ValueFile {
			b = binary.LittleEndian.AppendUint32(b, uint32(f.Value))
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(f.Content)))
		b = append(b, f.Content...)
	}
	if _, err := ParseApplication(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ParseApplication reads the grouping: one to fourteen keys, files in order of
// number, contents that fit their files.
func ParseApplication(b []byte) (a Application, err error) {
	bad := func(what string) (Application, error) {
		return Application{}, fmt.Errorf("application %s: %s: %w", a.AID, what, ErrSettings)
	}
	if len(b) < 6 {
		return a, fmt.Errorf("application: %w: %d bytes", ErrLength, len(b))
	}
	if b[0] != persoVersion {
		return a, fmt.Errorf("application: %w: %02X", ErrVersion, b[0])
	}
	a.AID, a.Settings = AIDFrom([3]byte(b[1:4])), KeySettings(b[4])
	n := int(b[5] &^ kindMask)
	if KeyKind(b[5]&kindMask) != AES || n < 1 || n > MaxKeys || a.AID == Card {
		return bad("keys")
	}
	if b = b[6:]; len(b) < n*sealedKeyLen+1 {
		return bad("cut off")
	}
	for range n {
		a.Keys, b = append(a.Keys, sealedKey(b)), b[sealedKeyLen:]
	}
	files := int(b[0])
	b = b[1:]
	for i := range files {
		var f InitialFile
		if f, b, err = nextFile(b); err != nil {
			return Application{}, fmt.Errorf("application %s: %w", a.AID, err)
		}
		if i > 0 && a.Files[i-1].No >= f.No {
			return bad("files not in order")
		}
		a.Files = append(a.Files, f)
	}
	if len(b) != 0 {
		return bad("bytes after the end")
	}
	return a, nil
}

func nextFile(b []byte) (f InitialFile, rest []byte, err error) {
	if len(b) < 1 {
		return f, nil, fmt.Errorf("file: %w", ErrLength)
	}
	f.No = b[0]
	if f.Settings, b, err = nextSettings(b[1:]); err != nil {
		return f, nil, fmt.Errorf("file %d: %w", f.No, err)
	}
	need := 2
	if f.Settings.Type == ValueFile {
		need += 4
	}
	if len(b) < need {
		return f, nil, fmt.Errorf("file %d: %w", f.No, ErrLength)
	}
	if f.Settings.Type == ValueFile {
		f.Value, b = int32At(b), b[4:]
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return f, nil, fmt.Errorf("file %d: %w: content of %d", f.No, ErrLength, n)
	}
	if n > 0 {
		f.Content = append([]byte(nil), b[:n]...)
	}
	if err := f.check(); err != nil {
		return f, nil, err
	}
	if !f.filled() {
		return f, nil, fmt.Errorf("file %d: content of %d: %w", f.No, n, ErrSettings)
	}
	return f, b[n:], nil
}

// filled says that the content is one the file can have.
func (f InitialFile) filled() bool {
	s, n := f.Settings, len(f.Content)
	switch s.Type {
	case ValueFile:
		return n == 0
	case LinearFile, CyclicFile:
		return n == s.Now*s.Size
	}
	return n <= s.Size
}

// Deletion is grouping DGIDelete.
func Deletion(a AID) []byte {
	b := a.Bytes()
	return append([]byte{persoVersion}, b[:]...)
}

// ParseDeletion reads it.
func ParseDeletion(b []byte) (AID, error) {
	if err := exactly("deletion", b, 4); err != nil {
		return 0, err
	}
	if b[0] != persoVersion {
		return 0, fmt.Errorf("deletion: %w: %02X", ErrVersion, b[0])
	}
	a := AIDFrom([3]byte(b[1:]))
	if a == Card {
		return 0, fmt.Errorf("deletion of the card: %w", ErrSettings)
	}
	return a, nil
}
