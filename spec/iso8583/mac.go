package iso8583

import (
	"crypto/subtle"

	"koala/spec/iso9797"
)

// An Algorithm makes 8 bytes of a MAC from a key and data. Data is filled with
// 00 to whole blocks of 8 bytes (ISO/IEC 9797-1 padding method 1).
type Algorithm byte

// The algorithms of the dialects. Where a key of 16 bytes meets X99, or one of
// 8 bytes X919, the whole key is used as ECB and CBC use it.
const (
	// ECB is UnionPay's for terminals: the blocks are XORed together, the result
	// is written as 16 hexadecimal characters, the first 8 are encrypted, XORed
	// with the other 8 and encrypted again.
	ECB Algorithm = iota + 1
	// X99 is ANSI X9.9: single DES in CBC, the last block. With a key of 16 bytes
	// it is CBC.
	X99
	// X919 is ANSI X9.19: X9.9 with the left half of the key, the last block
	// decrypted with the right and encrypted with the left half (ISO/IEC 9797-1
	// algorithm 3). With a key of 8 bytes it is X99.
	X919
	// CBC is every block under the whole key, DES or triple DES.
	CBC
)

// algorithmNames are what people write.
var algorithmNames = map[string]Algorithm{"ecb": ECB, "x9.9": X99, "x9.19": X919, "cbc": CBC}

// AlgorithmNamed finds an algorithm: ecb, x9.9, x9.19 or cbc.
func AlgorithmNamed(name string) (Algorithm, bool) {
	a, ok := algorithmNames[name]
	return a, ok
}

// String is the name that AlgorithmNamed takes.
func (a Algorithm) String() string {
	for name, x := range algorithmNames {
		if x == a {
			return name
		}
	}
	return "unknown"
}

// A MACRule is a dialect's: which algorithm, over what, written how and where.
type MACRule struct {
	Algorithm Algorithm
	Hex       bool // eight hexadecimal characters of the first four bytes; otherwise eight bytes
	Field     int  // 64 or 128; 0: 128 when there is a second bitmap, otherwise 64
	// Chosen covers the message type and the fields that the table's column mac
	// marks for its kind, joined by blanks (Q/CUP 006.4): variable ones with their
	// length before them, of field 90 the first 20 digits, each in capitals,
	// without other characters than letters, digits, blank, comma and point,
	// without blanks around it and never two blanks in a row; what is empty then
	// is left out. Otherwise everything from the message type to the last field before the
	// MAC is covered as it is on the wire.
	Chosen bool
}

// A Key is a MAC key ready for use; safe for several goroutines.
type Key struct {
	single *iso9797.DES  // the key, or its left half
	double *iso9797.TDES // nil for a key of 8 bytes
}

// NewKey takes 8 or 16 bytes.
func NewKey(raw []byte) (*Key, error) {
	switch len(raw) {
	case 8:
		return &Key{single: iso9797.NewDES(raw)}, nil
	case 16:
		return &Key{single: iso9797.NewDES(raw[:8]), double: iso9797.NewTDES(raw)}, nil
	}
	return nil, ErrKey
}

func (k *Key) encrypt(block []byte) {
	if k.double != nil {
		k.double.EncryptBlock(block, block)
		return
	}
	k.single.EncryptBlock(block, block)
}

// MAC computes the eight bytes of data's MAC.
func (k *Key) MAC(a Algorithm, data []byte) [8]byte {
	return k.mac(a, new([16]byte), data)
}

// mac is MAC with room to work in.
func (k *Key) mac(a Algorithm, room *[16]byte, data []byte) [8]byte {
	*room = [16]byte{}
	block := room[:]
	switch a {
	case ECB:
		k.ecb(block, data)
	case X99, X919, CBC:
		k.chain(a, block[:8], data)
	default:
		panic("iso8583: no such MAC algorithm")
	}
	return [8]byte(block)
}

func (k *Key) ecb(block, data []byte) {
	var sum [8]byte
	for i, b := range data {
		sum[i&7] ^= b
	}
	for i, b := range sum {
		p := pairs[b]
		block[2*i], block[2*i+1] = p[0], p[1]
	}
	k.encrypt(block[:8])
	subtle.XORBytes(block[:8], block[:8], block[8:])
	k.encrypt(block[:8])
}

func (k *Key) chain(a Algorithm, state, data []byte) {
	for len(data) > 0 {
		n := subtle.XORBytes(state, state, data[:min(8, len(data))])
		data = data[n:]
		if a == X919 && len(data) > 0 {
			k.single.EncryptBlock(state, state)
			continue
		}
		k.encrypt(state)
	}
}

// text writes the MAC as the field carries it.
func (r MACRule) text(mac [8]byte) [8]byte {
	if !r.Hex {
		return mac
	}
	var out [8]byte
	for i, b := range mac[:4] {
		copy(out[2*i:], pairs[b][:])
	}
	return out
}

// MACField is the field of m that carries the MAC, present or not.
func (m *Message) MACField() int {
	switch r := m.spec.MAC; {
	case r.Field != 0:
		return r.Field
	case m.present[1] != 0:
		return 128
	}
	return 64
}

// macLen is the length of a MAC field in every dialect.
const macLen = 8

// Seal appends the message to dst with its MAC field computed under k, by the
// dialect's rule.
func (m *Message) Seal(dst []byte, k *Key) ([]byte, error) { return m.SealBy(dst, k, m.spec.MAC) }

// SealBy is Seal by another rule, for partners that agreed on one; the field
// stays the dialect's.
func (m *Message) SealBy(dst []byte, k *Key, r MACRule) ([]byte, error) {
	n := m.MACField()
	m.Set(n, m.keep(zeroMAC[:]))
	if m.last() != n {
		return dst, &FieldError{m.spec.Name, n, 0, ErrNoField}
	}
	out, err := m.AppendTo(dst)
	if err != nil {
		return dst, err
	}
	mac := r.text(k.mac(r.Algorithm, &m.room, m.covered(out[len(dst):], r, nil)))
	copy(out[len(out)-macLen:], mac[:])
	copy(m.values[n], mac[:])
	return out, nil
}

var zeroMAC [macLen]byte

// Verify checks the MAC of a message that Unpack has read: nil, ErrNoMAC or
// ErrMAC.
func (m *Message) Verify(k *Key) error {
	carried, computed, err := m.MACBy(k, m.spec.MAC)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(carried, computed[:]) != 1 {
		return ErrMAC
	}
	return nil
}

// MACBy gives the MAC that a message read by Unpack carries and the one that it
// should by rule r, both as the field holds them. It is ErrNoMAC when the
// message carries none.
func (m *Message) MACBy(k *Key, r MACRule) (carried []byte, computed [8]byte, err error) {
	n := m.MACField()
	if m.wire == nil || !m.Has(n) || m.last() != n {
		return nil, computed, ErrNoMAC
	}
	return m.values[n], r.text(k.mac(r.Algorithm, &m.room, m.covered(m.wire, r, nil))), nil
}

// covered is the data that the MAC of a whole message is made of; the MAC is
// its last field. chosen, where there is one, is told which part of it each
// chosen field has become.
func (m *Message) covered(whole []byte, r MACRule, chosen func(field, from, to int)) []byte {
	if !r.Chosen {
		return whole[len(m.head) : len(whole)-macLen]
	}
	kind := SealedTransaction
	switch m.mti[1] {
	case '5':
		kind = SealedSettlement
	case '8':
		kind = SealedNetwork
	}
	out := append(m.scratch[:0], m.mti[:]...)
	for n, v := range m.Fields() {
		f := &m.spec.fields[n]
		if f.Sealed&kind == 0 {
			continue
		}
		before := len(out)
		out = append(out, ' ')
		if f.Digits > 0 {
			out = appendLength(out, len(v), uint8(f.Digits), Plain)
		}
		if l := &m.spec.layouts[n]; l.pad != NoPadding && len(v) < f.Max {
			var room [maxFilled]byte
			v = l.fill(room[:0], v)
		}
		if n == originalField && len(v) > originalSealed {
			v = v[:originalSealed]
		}
		if out = appendPlainText(out, v); len(out) == before+1 {
			out = out[:before]
		} else if chosen != nil {
			chosen(n, before, len(out))
		}
	}
	m.scratch = out
	return out
}

// Of the original data elements the MAC covers type, trace and time.
const (
	originalField  = 90
	originalSealed = 20
)

// appendPlainText appends v as the interchange MAC reads it.
func appendPlainText(dst, v []byte) []byte {
	start, blank := len(dst), false
	for _, c := range v {
		switch {
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ',', c == '.':
		case c == ' ':
			blank = len(dst) > start // written before the next character, if one comes
			continue
		default:
			continue
		}
		if blank {
			dst, blank = append(dst, ' '), false
		}
		dst = append(dst, c)
	}
	return dst
}
