package pboc

import (
	"encoding/binary"
	"errors"

	"koala/spec/emv"
	"koala/spec/iso7816"
)

// claSecure is the class of commands whose data end with a MAC.
const (
	claSecure      = 0x84
	claSecureInter = 0x04
)

// A Script is one issuer script command before protection: class, instruction,
// parameters and plain data, as the builders below make it.
type Script = iso7816.Command

func script(cla, ins, p1, p2 byte, data []byte) Script {
	return Script{CLA: cla, INS: ins, P1: p1, P2: p2, Data: data, Le: iso7816.NoLe}
}

// AppBlock stops payments until AppUnblock; the application can still be selected
// (CARD 1.10).
func AppBlock() Script { return script(claSecure, InsAppBlock, 0, 0, nil) }

// AppUnblock lifts AppBlock.
func AppUnblock() Script { return script(claSecure, InsAppUnblock, 0, 0, nil) }

// CardBlock ends the application for ever.
func CardBlock() Script { return script(claSecure, InsCardBlock, 0, 0, nil) }

// PutData writes a data object of the list in CARD 1.8.
func PutData(tag uint16, value []byte) Script {
	return script(claSecureInter, iso7816.InsPutData, byte(tag>>8), byte(tag), value)
}

// PutBalance sets the e-cash balance: the load of CARD 1.11.
func PutBalance(fen uint64) Script {
	b := Amount(fen)
	return PutData(uint16(emv.TagECBalance), b[:])
}

// UpdateRecord writes a record of a file other than the logs.
func UpdateRecord(sfi, n byte, rec []byte) Script {
	return script(claSecureInter, iso7816.InsUpdateRecord, n, sfi<<3|0x04, rec)
}

// PINUnblock gives the PIN its tries back.
func PINUnblock() Script { return script(claSecure, InsPINChange, 0, 0, nil) }

// PINChange sets a new PIN. encipher is the session ENC key, card the card's ENC
// key. old is empty (P2 02), or the PIN now, which is mixed in (P2 01).
func PINChange(encipher *Key, card [16]byte, pin, old string) (Script, error) {
	p2, mix := byte(0x02), []byte(nil)
	if old != "" {
		b, err := emv.PINBlock(old)
		if err != nil {
			return Script{}, err
		}
		p2, mix = 0x01, b[:]
	}
	block, err := emv.PINBlock(pin)
	if err != nil {
		return Script{}, err
	}
	return script(claSecure, InsPINChange, 0, p2, encipher.Encrypt(changeBlock(block, card, mix))), nil
}

// changeBlock is 08 | D2 | 80 00.. (CARD 1.10): D3 = 0 | length | PIN | F.., D2 =
// D3 xor 00000000 | the last four bytes of the left half of the card's ENC key,
// and xor the old PIN with its filler read as 0 when one is given.
func changeBlock(block [8]byte, card [16]byte, old []byte) []byte {
	out := make([]byte, 16)
	out[0], out[9] = 0x08, 0x80
	mixPIN(&block, card, old)
	copy(out[1:], block[:])
	return out
}

func mixPIN(block *[8]byte, card [16]byte, old []byte) {
	block[0] &= 0x0F
	for i := range 4 {
		block[4+i] ^= card[4+i]
	}
	if old == nil {
		return
	}
	digits := int(old[0] & 0x0F)
	for i := 1; i < 8; i++ {
		for half, shift := 0, 4; half < 2; half, shift = half+1, shift-4 {
			if n := (i-1)*2 + half; n < digits {
				block[i] ^= old[i] >> shift & 0x0F << shift
			}
		}
	}
}

// OpenPINChange is the card's side of PINChange: the new block as VERIFY compares
// it. old is nil, or the block of the PIN now for P2 01.
func OpenPINChange(decipher *Key, card [16]byte, data, old []byte) (block [8]byte, err error) {
	plain, err := decipher.Decrypt(data)
	if err != nil || len(plain) != 16 || plain[0] != 0x08 || plain[9] != 0x80 {
		return block, emv.ErrPIN
	}
	for _, b := range plain[10:] {
		if b != 0 {
			return block, emv.ErrPIN
		}
	}
	copy(block[:], plain[1:9])
	head := block[0]
	mixPIN(&block, card, old)
	block[0] = head | 0x20
	if _, err := emv.ParsePINBlock(block); err != nil || head&0xF0 != 0 {
		return [8]byte{}, emv.ErrPIN
	}
	return block, nil
}

// ScriptMAC proves a script command: the MAC under the session MAC key of
// CLA INS P1 P2 Lc | ATC | AC | data, Lc counting the MAC, CLA without its channel
// and AC that of the first GENERATE AC (CARD 1.10). data is without MAC.
func (k *Key) ScriptMAC(c Script, atc uint16, ac [8]byte) [4]byte {
	b := make([]byte, 0, 15+len(c.Data))
	b = append(b, iso7816.WithoutChannel(c.CLA), c.INS, c.P1, c.P2, byte(len(c.Data)+4))
	b = append(binary.BigEndian.AppendUint16(b, atc), ac[:]...)
	return k.MAC4(nil, append(b, c.Data...))
}

// Protect appends the MAC.
func (k *Key) Protect(c Script, atc uint16, ac [8]byte) iso7816.Command {
	m := k.ScriptMAC(c, atc, ac)
	c.Data = append(append(make([]byte, 0, len(c.Data)+4), c.Data...), m[:]...)
	return c
}

// ErrMAC says that the MAC of a command is wrong or missing.
var ErrMAC = errors.New("pboc: MAC wrong")

// Unprotect checks and takes off the MAC.
func (k *Key) Unprotect(c iso7816.Command, atc uint16, ac [8]byte) (Script, error) {
	n := len(c.Data) - 4
	if n < 0 || len(c.Data) > iso7816.MaxShortData {
		return Script{}, ErrMAC
	}
	plain := c
	plain.Data = c.Data[:n:n]
	if k.ScriptMAC(plain, atc, ac) != [4]byte(c.Data[n:]) {
		return Script{}, ErrMAC
	}
	return plain, nil
}
