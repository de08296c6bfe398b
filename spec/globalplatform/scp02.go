package globalplatform

import (
	"crypto/subtle"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// OptionSCP02 is the "i" of the SCP02 spoken here (GPCS D.1.1): three keys,
// explicit initiation, C-MAC on the modified command, ICV zero, the ICV of
// later commands encrypted.
const OptionSCP02 = 0x15

// scp02 is one SCP02 session: session keys and the two MAC chains. Both ends
// keep the same one.
type scp02 struct {
	level    Level
	enc, dek *iso9797.TDES
	mac      *iso9797.TDES
	macLeft  *iso9797.DES // encrypts the previous MAC into the next ICV
	rmac     *iso9797.TDES
	icv      []byte // nil before the first command, then the last C-MAC
	ricv     [8]byte
	host     [8]byte
	seq      uint16
	random   [6]byte
}

// newSCP02 derives the session keys: 3DES CBC of constant | sequence | zeros
// under the static key (GPCS D.4.1).
func newSCP02(keys KeySet, seq uint16, random [6]byte, host [8]byte) (*scp02, error) {
	if !keys.Fits(DES) {
		return nil, fmt.Errorf("SCP02: %w", ErrProtocol)
	}
	derive := func(key []byte, constant uint16) []byte {
		var in [16]byte
		in[0], in[1], in[2], in[3] = byte(constant>>8), byte(constant), byte(seq>>8), byte(seq)
		return iso9797.TDESEncryptCBC(key, nil, in[:])
	}
	mac := derive(keys.MAC, 0x0101)
	return &scp02{
		enc: iso9797.NewTDES(derive(keys.ENC, 0x0182)), dek: iso9797.NewTDES(derive(keys.DEK, 0x0181)),
		mac: iso9797.NewTDES(mac), macLeft: iso9797.NewDES(mac[:8]),
		rmac: iso9797.NewTDES(derive(keys.MAC, 0x0102)),
		host: host, seq: seq, random: random,
	}, nil
}

// cryptograms are the card's and the host's proof that they know the keys: the
// full 3DES CBC MAC over both challenges in either order (GPCS D.3.1).
func (s *scp02) cryptograms() (card, host [8]byte) {
	own := append([]byte{byte(s.seq >> 8), byte(s.seq)}, s.random[:]...)
	in := append(append([]byte{}, s.host[:]...), own...)
	card = s.enc.CBCMAC(nil, iso9797.Pad2(in, 8))
	in = append(own, s.host[:]...)
	host = s.enc.CBCMAC(nil, iso9797.Pad2(in, 8))
	return card, host
}

func (s *scp02) protocol() byte { return 2 }

func (s *scp02) open(l Level, firstMAC [8]byte) { s.level, s.ricv = l, firstMAC }

// commandMAC moves the chain on and gives the C-MAC of a command whose data is
// still in plain (GPCS D.3.2, D.3.4).
func (s *scp02) commandMAC(c iso7816.Command) [8]byte {
	iv := s.icv
	if iv != nil {
		iv = make([]byte, 8)
		s.macLeft.EncryptBlock(iv, s.icv)
	}
	in := appendLc([]byte{c.CLA | 0x04, c.INS, c.P1, c.P2}, len(c.Data)+8)
	mac := s.mac.MAC(iv, append(in, c.Data...))
	s.icv = mac[:]
	return mac
}

func (s *scp02) wrap(c iso7816.Command) (iso7816.Command, mark, error) {
	m := mark{command: c}
	if s.level&CMAC == 0 {
		return c, m, nil
	}
	data := c.Data
	if s.level&CENC != 0 && len(data) > 0 {
		data = s.enc.EncryptCBC(nil, iso9797.Pad2(data, 8))
	}
	if len(data)+8 > maxShort {
		return c, m, ErrTooLong
	}
	mac := s.commandMAC(c)
	c.CLA |= 0x04
	c.Data = append(append(make([]byte, 0, len(data)+8), data...), mac[:]...)
	return c, m, nil
}

func (s *scp02) unwrap(c iso7816.Command) (iso7816.Command, mark, error) {
	if s.level&CMAC == 0 {
		return c, mark{command: c}, nil
	}
	body := len(c.Data) - 8
	if body < 0 || c.CLA&0x04 == 0 {
		return c, mark{}, ErrMAC
	}
	wire, got := c.Data[:body], c.Data[body:]
	c.CLA &^= 0x04
	c.Data = wire
	if s.level&CENC != 0 && body > 0 {
		if body%8 != 0 {
			return c, mark{}, ErrMAC
		}
		data, err := iso9797.Unpad2(s.enc.DecryptCBC(nil, wire))
		if err != nil {
			return c, mark{}, ErrMAC
		}
		c.Data = data
	}
	if want := s.commandMAC(c); subtle.ConstantTimeCompare(want[:], got) != 1 {
		return c, mark{}, ErrMAC
	}
	return c, mark{command: c}, nil
}

// responseMAC is the R-MAC: command without its protection | length of the
// answer | answer | status word, chained from the MAC of EXTERNAL AUTHENTICATE
// (GPCS D.3.5).
func (s *scp02) responseMAC(m mark, data []byte, sw iso7816.SW) [8]byte {
	c := m.command
	in := appendLc([]byte{c.CLA &^ 0x07, c.INS, c.P1, c.P2}, len(c.Data))
	in = append(in, c.Data...)
	in = append(append(in, byte(len(data))), data...)
	s.ricv = s.rmac.MAC(s.ricv[:], append(in, byte(sw>>8), byte(sw)))
	return s.ricv
}

func (s *scp02) seal(m mark, r iso7816.Response) iso7816.Response {
	if s.level&RMAC == 0 || bare(r.SW) {
		return r
	}
	mac := s.responseMAC(m, r.Data, r.SW)
	return iso7816.Response{Data: append(append([]byte{}, r.Data...), mac[:]...), SW: r.SW}
}

func (s *scp02) unseal(m mark, r iso7816.Response) (iso7816.Response, error) {
	if s.level&RMAC == 0 || bare(r.SW) {
		return r, nil
	}
	body := len(r.Data) - 8
	if body < 0 {
		return r, ErrMAC
	}
	if mac := s.responseMAC(m, r.Data[:body], r.SW); subtle.ConstantTimeCompare(mac[:], r.Data[body:]) != 1 {
		return r, ErrMAC
	}
	r.Data = r.Data[:body]
	return r, nil
}

// encryptKey and decryptKey are ECB under the session's data encryption key
// (GPCS D.4.6, 11.8.2.3).
func (s *scp02) encryptKey(data []byte) ([]byte, error) {
	if len(data)%8 != 0 {
		return nil, ErrKey
	}
	return s.dek.EncryptECB(data), nil
}

func (s *scp02) decryptKey(data []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%8 != 0 {
		return nil, ErrKey
	}
	return s.dek.DecryptECB(data), nil
}
