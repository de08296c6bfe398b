package globalplatform

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// OptionSCP03 is the "i" of the SCP03 spoken here (Amendment D, 5.1):
// pseudo-random card challenge (10), R-MAC and R-ENC supported (60).
const OptionSCP03 = 0x70

// Derivation constants (Amendment D, table 4-1).
const (
	deriveCardCryptogram byte = 0x00
	deriveHostCryptogram byte = 0x01
	deriveChallenge      byte = 0x02
	deriveENC            byte = 0x04
	deriveMAC            byte = 0x06
	deriveRMAC           byte = 0x07
)

// kdf is the data derivation of Amendment D, 4.1.5: label of eleven zeros and
// the constant | 00 | length in bits | counter | context.
func kdf(k *iso9797.AES, constant byte, context []byte, n int) []byte {
	var before [15]byte
	before[11] = constant
	binary.BigEndian.PutUint16(before[13:], uint16(8*n))
	return counterKDF(k, before[:], context, n)
}

// Challenge03 is the card's pseudo-random challenge: derived from the static
// ENC key, the sequence counter (three bytes) and the AID of the security
// domain that was selected (Amendment D, 6.2.2.1).
func Challenge03(enc []byte, seq uint32, domain AID) (c [8]byte) {
	context := append([]byte{byte(seq >> 16), byte(seq >> 8), byte(seq)}, domain...)
	copy(c[:], kdf(iso9797.NewAES(enc), deriveChallenge, context, 8))
	return c
}

// scp03 is one SCP03 session: session keys, MAC chain, command counter.
type scp03 struct {
	level          Level
	enc, mac, rmac *iso9797.AES
	dek            *iso9797.AES // the static one: SCP03 has no session key for it
	chain          [16]byte
	counter        uint64 // commands since EXTERNAL AUTHENTICATE
	context        [16]byte
}

func newSCP03(keys KeySet, host, card [8]byte) (*scp03, error) {
	if !keys.Fits(AES) {
		return nil, fmt.Errorf("SCP03: %w", ErrProtocol)
	}
	s := &scp03{dek: iso9797.NewAES(keys.DEK)}
	copy(s.context[:], host[:])
	copy(s.context[8:], card[:])
	enc, mac := iso9797.NewAES(keys.ENC), iso9797.NewAES(keys.MAC)
	s.enc = iso9797.NewAES(kdf(enc, deriveENC, s.context[:], len(keys.ENC)))
	s.mac = iso9797.NewAES(kdf(mac, deriveMAC, s.context[:], len(keys.MAC)))
	s.rmac = iso9797.NewAES(kdf(mac, deriveRMAC, s.context[:], len(keys.MAC)))
	return s, nil
}

func (s *scp03) cryptograms() (card, host [8]byte) {
	copy(card[:], kdf(s.mac, deriveCardCryptogram, s.context[:], 8))
	copy(host[:], kdf(s.mac, deriveHostCryptogram, s.context[:], 8))
	return card, host
}

func (s *scp03) protocol() byte { return 3 }

func (s *scp03) open(l Level, _ [8]byte) { s.level = l }

// commandMAC moves the chain on and gives the C-MAC of a command whose data is
// as sent, after encryption (Amendment D, 6.2.4).
func (s *scp03) commandMAC(c iso7816.Command) (mac [8]byte) {
	in := append(s.chain[:len(s.chain):len(s.chain)], c.CLA|0x04, c.INS, c.P1, c.P2)
	in = appendLc(in, len(c.Data)+8)
	s.chain = s.mac.CMAC(append(in, c.Data...))
	copy(mac[:], s.chain[:])
	return mac
}

// iv encrypts the command counter; answers have the first bit of the block set
// (Amendment D, 6.2.6, 6.2.7).
func (s *scp03) iv(n uint64, answer bool) []byte {
	iv := make([]byte, 16)
	binary.BigEndian.PutUint64(iv[8:], n)
	if answer {
		iv[0] = 0x80
	}
	s.enc.EncryptBlock(iv, iv)
	return iv
}

func (s *scp03) wrap(c iso7816.Command) (iso7816.Command, mark, error) {
	s.counter++ // every command counts, with data or without
	if s.level&CMAC == 0 {
		return c, mark{}, nil
	}
	data := c.Data
	if s.level&CENC != 0 && len(data) > 0 {
		data = s.enc.EncryptCBC(s.iv(s.counter, false), iso9797.Pad2(data, 16))
	}
	if len(data)+8 > maxShort {
		s.counter--
		return c, mark{}, ErrTooLong
	}
	c.CLA |= 0x04
	c.Data = data
	mac := s.commandMAC(c)
	c.Data = append(append(make([]byte, 0, len(data)+8), data...), mac[:]...)
	return c, mark{chain: s.chain, counter: s.counter}, nil
}

func (s *scp03) unwrap(c iso7816.Command) (iso7816.Command, mark, error) {
	s.counter++
	if s.level&CMAC == 0 {
		return c, mark{}, nil
	}
	body := len(c.Data) - 8
	if body < 0 || c.CLA&0x04 == 0 {
		return c, mark{}, ErrMAC
	}
	got := c.Data[body:]
	c.Data = c.Data[:body]
	if want := s.commandMAC(c); subtle.ConstantTimeCompare(want[:], got) != 1 {
		return c, mark{}, ErrMAC
	}
	c.CLA &^= 0x04
	if s.level&CENC != 0 && body > 0 {
		if body%16 != 0 {
			return c, mark{}, ErrMAC
		}
		data, err := iso9797.Unpad2(s.enc.DecryptCBC(s.iv(s.counter, false), c.Data))
		if err != nil {
			return c, mark{}, ErrMAC
		}
		c.Data = data
	}
	return c, mark{chain: s.chain, counter: s.counter}, nil
}

// responseMAC is CMAC over the command's chain | answer as sent | status word
// (Amendment D, 6.2.5).
func (s *scp03) responseMAC(m mark, data []byte, sw iso7816.SW) []byte {
	in := append(m.chain[:len(m.chain):len(m.chain)], data...)
	mac := s.rmac.CMAC(append(in, byte(sw>>8), byte(sw)))
	return mac[:8]
}

func (s *scp03) seal(m mark, r iso7816.Response) iso7816.Response {
	if s.level&RMAC == 0 || bare(r.SW) {
		return r
	}
	data := r.Data
	if s.level&RENC != 0 && len(data) > 0 {
		data = s.enc.EncryptCBC(s.iv(m.counter, true), iso9797.Pad2(data, 16))
	}
	return iso7816.Response{Data: append(bytes.Clone(data), s.responseMAC(m, data, r.SW)...), SW: r.SW}
}

func (s *scp03) unseal(m mark, r iso7816.Response) (iso7816.Response, error) {
	if s.level&RMAC == 0 || bare(r.SW) {
		return r, nil
	}
	body := len(r.Data) - 8
	if body < 0 {
		return r, ErrMAC
	}
	data, got := r.Data[:body], r.Data[body:]
	if subtle.ConstantTimeCompare(s.responseMAC(m, data, r.SW), got) != 1 {
		return r, ErrMAC
	}
	if s.level&RENC != 0 && body > 0 {
		if body%16 != 0 {
			return r, ErrMAC
		}
		clear, err := iso9797.Unpad2(s.enc.DecryptCBC(s.iv(m.counter, true), data))
		if err != nil {
			return r, ErrMAC
		}
		data = clear
	}
	return iso7816.Response{Data: data, SW: r.SW}, nil
}

// encryptKey and decryptKey are CBC with IV 0 under the static data encryption
// key (Amendment D, 6.2.8). A key of 24 bytes is filled to whole blocks.
func (s *scp03) encryptKey(data []byte) ([]byte, error) {
	padded := make([]byte, (len(data)+15)/16*16)
	copy(padded, data)
	return s.dek.EncryptCBC(nil, padded), nil
}

func (s *scp03) decryptKey(data []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%16 != 0 {
		return nil, ErrKey
	}
	return s.dek.DecryptCBC(nil, data), nil
}
