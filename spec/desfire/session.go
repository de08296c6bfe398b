package desfire

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A Mode is the communication setting of a file: how its data travels once the
// reader is authenticated.
type Mode byte

// Modes, as file settings code them. 2 is plain as well.
const (
	Plain      Mode = 0x00
	MACed      Mode = 0x01
	Enciphered Mode = 0x03
)

// Words names the mode, in Chinese if zh.
func (m Mode) Words(zh bool) string {
	w, ok := map[Mode][2]string{Plain: {"plain", "明文"}, MACed: {"MACed", "带 MAC"}, Enciphered: {"enciphered", "加密"}}[m]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(m))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

// Lengths of MACs in bytes.
const (
	macLen       = 8 // of the EV1 messaging
	legacyMACLen = 4
)

// A Session is the secure messaging after an authentication, the same at the
// reader and at the card: both see every command and answer in order, and the
// initialisation vector runs through all of them. A Session belongs to one
// contact; after an error in it there is none any more.
type Session struct {
	KeyNo  byte
	Kind   KeyKind
	legacy bool // authenticated by 0A: every operation starts from zero
	mac    *mac
	iv     []byte
}

func newSession(no byte, kind KeyKind, legacy bool, key Key) *Session {
	m := key.cipher()
	return &Session{KeyNo: no, Kind: kind, legacy: legacy, mac: m, iv: make([]byte, m.BlockSize())}
}

// Command protects a command: header goes as it is, data as the mode says. The
// result is everything after the command code.
func (s *Session) Command(cmd byte, header, data []byte, mode Mode) []byte {
	body := append(append([]byte(nil), header...), data...)
	switch {
	case mode == Enciphered && len(data) > 0:
		sealed := s.seal(append(append([]byte(nil), data...), s.check(data, []byte{cmd}, header, data)...))
		return append(append([]byte(nil), header...), sealed...)
	case s.legacy && mode == MACed && len(data) > 0:
		return append(body, s.legacyMAC(data)...)
	case s.legacy:
		return body
	}
	s.chain([]byte{cmd}, body)
	if mode == MACed && len(data) > 0 {
		body = append(body, s.iv[:macLen]...)
	}
	return body
}

// CommandSize is how many bytes follow the header when n bytes of data go in
// the mode.
func (s *Session) CommandSize(n int, mode Mode) int {
	switch {
	case s == nil, n == 0, mode != MACed && mode != Enciphered:
		return n
	case mode == MACed && s.legacy:
		return n + legacyMACLen
	case mode == MACed:
		return n + macLen
	}
	return s.padded(n + s.checkLen())
}

// OpenCommand checks a command at the card and gives its n bytes of data; body
// is what follows the header.
func (s *Session) OpenCommand(cmd byte, header, body []byte, n int, mode Mode) ([]byte, error) {
	if err := exactly("protected command", body, s.CommandSize(n, mode)); err != nil {
		return nil, err
	}
	data, tail := body[:n], body[n:]
	switch {
	case mode == Enciphered && n > 0:
		clear := s.open(body)
		if !endsAfter(clear, n, s.check(clear[:n], []byte{cmd}, header, clear[:n])) {
			return nil, fmt.Errorf("command %02X: %w", cmd, ErrMAC)
		}
		return clear[:n], nil
	case s.legacy && mode == MACed && n > 0:
		if !same(tail, s.legacyMAC(data)) {
			return nil, fmt.Errorf("command %02X: %w", cmd, ErrMAC)
		}
		return data, nil
	case s.legacy:
		return data, nil
	}
	s.chain([]byte{cmd}, header, data)
	if len(tail) > 0 && !same(tail, s.iv[:macLen]) {
		return nil, fmt.Errorf("command %02X: %w", cmd, ErrMAC)
	}
	return data, nil
}

// Answer protects the card's answer with status 00. Enciphered takes a length
// the reader did not name (whole) with 80 before the padding, if there is any:
// readers look for the checksum no further than a block from the end.
func (s *Session) Answer(data []byte, mode Mode, whole bool) []byte {
	switch {
	case mode == Enciphered && len(data) > 0:
		clear := append(append([]byte(nil), data...), s.answerCheck(data)...)
		if whole && len(clear) < s.padded(len(clear)) {
			clear = append(clear, 0x80)
		}
		return s.sealAnswer(clear)
	case s.legacy && mode == MACed && len(data) > 0:
		return append(append([]byte(nil), data...), s.legacyMAC(data)...)
	case s.legacy:
		return data
	}
	s.chain(data, []byte{byte(OK)})
	return append(append([]byte(nil), data...), s.iv[:macLen]...)
}

// OpenAnswer checks an answer with status 00 at the reader. n is the length of
// the data; negative where the reader does not know it.
func (s *Session) OpenAnswer(body []byte, n int, mode Mode) ([]byte, error) {
	if mode == Enciphered && n != 0 {
		return s.openAnswer(body, n)
	}
	tail := macLen
	if s.legacy {
		tail = 0
		if mode == MACed && n != 0 {
			tail = legacyMACLen
		}
	}
	if len(body) < tail || n >= 0 && len(body) != n+tail {
		return nil, fmt.Errorf("protected answer: %w: %d bytes", ErrLength, len(body))
	}
	data, got := body[:len(body)-tail], body[len(body)-tail:]
	want := []byte(nil)
	if s.legacy && tail > 0 {
		want = s.legacyMAC(data)
	} else if !s.legacy {
		s.chain(data, []byte{byte(OK)})
		want = s.iv[:macLen]
	}
	if !same(got, want) {
		return nil, fmt.Errorf("answer: %w", ErrMAC)
	}
	return data, nil
}

func (s *Session) openAnswer(body []byte, n int) ([]byte, error) {
	size := s.mac.BlockSize()
	if len(body) == 0 || len(body)%size != 0 {
		return nil, fmt.Errorf("enciphered answer: %w: %d bytes", ErrLength, len(body))
	}
	clear := decryptCBC(s.mac, s.start(), body)
	first, last := n, n
	if n < 0 { // the checksum is where the padding begins, whatever that is
		last = len(clear) - s.checkLen()
		first = max(0, last-size)
	}
	for n = last; n >= first; n-- {
		if n+s.checkLen() <= len(clear) && endsAfter(clear, n, s.answerCheck(clear[:n])) {
			return clear[:n], nil
		}
	}
	return nil, fmt.Errorf("answer: %w", ErrMAC)
}

// endsAfter says that clear is n bytes, the checksum and padding: zeros, or 80
// and zeros.
func endsAfter(clear []byte, n int, check []byte) bool {
	rest := clear[n:]
	if len(rest) < len(check) || !same(rest[:len(check)], check) {
		return false
	}
	for i, b := range rest[len(check):] {
		if b != 0 && (i != 0 || b != 0x80) {
			return false
		}
	}
	return true
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// chain runs the CMAC over the parts and leaves it as the next vector.
func (s *Session) chain(parts ...[]byte) {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	s.mac.cmac(s.iv, all, 1)
}

func (s *Session) checkLen() int {
	if s.legacy {
		return 2
	}
	return 4
}

func (s *Session) padded(n int) int {
	size := s.mac.BlockSize()
	return (n + size - 1) / size * size
}

// check is the checksum of enciphered command data: over the data alone under
// the legacy messaging, over the whole command under the other.
func (s *Session) check(data []byte, whole ...[]byte) []byte {
	if s.legacy {
		return binary.LittleEndian.AppendUint16(nil, CRC16(data))
	}
	return binary.LittleEndian.AppendUint32(nil, CRC32(whole...))
}

func (s *Session) answerCheck(data []byte) []byte { return s.check(data, data, []byte{byte(OK)}) }

// start is the vector of the next operation.
func (s *Session) start() []byte {
	if s.legacy {
		clear(s.iv)
	}
	return s.iv
}

func (s *Session) pad(data []byte) []byte {
	return append(data, make([]byte, s.padded(len(data))-len(data))...)
}

// seal enciphers command data, padded with zeros. Under the legacy messaging
// the reader only ever deciphers: it sends what the card's encryption undoes.
func (s *Session) seal(data []byte) []byte {
	data = s.pad(data)
	if s.legacy {
		return legacySend(s.mac, data)
	}
	return encryptCBC(s.mac, s.start(), data)
}

// open is the card's side of seal.
func (s *Session) open(data []byte) []byte {
	if s.legacy {
		return legacyReceive(s.mac, data)
	}
	return decryptCBC(s.mac, s.start(), data)
}

// sealAnswer enciphers answer data, padded with zeros.
func (s *Session) sealAnswer(data []byte) []byte { return encryptCBC(s.mac, s.start(), s.pad(data)) }

// legacyMAC is the first four bytes of the last block of CBC over the data
// padded with zeros.
func (s *Session) legacyMAC(data []byte) []byte {
	out := encryptCBC(s.mac, s.start(), s.pad(append([]byte(nil), data...)))
	return out[len(out)-s.mac.BlockSize():][:legacyMACLen]
}

// CRC32 is the checksum of enciphered data under the EV1 messaging: reflected
// polynomial EDB88320, start FFFFFFFF, no final inversion.
func CRC32(parts ...[]byte) uint32 {
	sum := uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.IEEETable, p)
	}
	return ^sum
}

// CRC16 is the checksum of enciphered data under the legacy messaging: CRC_A of
// ISO 14443-3, reflected polynomial 8408, start 6363.
func CRC16(data []byte) uint16 {
	sum := uint16(0x6363)
	for _, b := range data {
		sum ^= uint16(b)
		for range 8 {
			sum = sum>>1 ^ 0x8408&-(sum&1)
		}
	}
	return sum
}
