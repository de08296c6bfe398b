package purse

import (
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// ScriptMAC is the secure messaging MAC of file updates and blocking: first
// four bytes of the retail MAC under the card's DAMK, starting from the
// card's challenge (8 bytes, or 4 followed by zeros), over the header (class
// without channel, Lc counting the MAC) and the data. Another challenge
// length is a defect and panics.
func ScriptMAC(damk [16]byte, challenge, data []byte) (mac [4]byte) {
	var iv [8]byte
	if len(challenge) != 4 && len(challenge) != 8 {
		panic(fmt.Sprintf("purse: challenge of %d bytes", len(challenge)))
	}
	copy(iv[:], challenge)
	full := iso9797.RetailMAC(damk[:], iv[:], data)
	copy(mac[:], full[:4])
	return mac
}

// Protect turns a command into its form with MAC: class 04 or 84, four bytes
// more data.
func Protect(damk [16]byte, challenge []byte, c iso7816.Command) iso7816.Command {
	c.CLA |= 0x04
	mac := ScriptMAC(damk, challenge, macInput(c, c.Data))
	c.Data = append(append(make([]byte, 0, len(c.Data)+4), c.Data...), mac[:]...)
	return c
}

// ProtectEncrypted does the same after enciphering the data: length byte,
// data, padding 80 00.. unless the block is full, triple DES ECB.
func ProtectEncrypted(damk [16]byte, challenge []byte, c iso7816.Command) iso7816.Command {
	plain := append([]byte{byte(len(c.Data))}, c.Data...)
	if len(plain)%8 != 0 {
		plain = iso9797.Pad2(plain, 8)
	}
	c.Data = iso9797.TDESEncryptECB(damk[:], plain)
	return Protect(damk, challenge, c)
}

// Unprotect checks the MAC at the card and gives the command without it,
// class 00 or 80.
func Unprotect(damk [16]byte, challenge []byte, c iso7816.Command) (iso7816.Command, error) {
	n := len(c.Data) - 4
	if !iso7816.Secure(c.CLA) || n < 0 {
		return c, fmt.Errorf("%02X%02X: %w: no MAC", c.CLA, c.INS, ErrMAC)
	}
	if !Equal(ScriptMAC(damk, challenge, macInput(c, c.Data[:n])), [4]byte(c.Data[n:])) {
		return c, fmt.Errorf("%02X%02X: %w", c.CLA, c.INS, ErrMAC)
	}
	c.CLA &^= 0x0C
	c.Data = c.Data[:n:n]
	return c, nil
}

// Decipher takes the encryption of ProtectEncrypted off data whose MAC
// Unprotect has checked.
func Decipher(damk [16]byte, data []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%8 != 0 {
		return nil, fmt.Errorf("enciphered data: %w: %d bytes", ErrLength, len(data))
	}
	plain := iso9797.TDESDecryptECB(damk[:], data)
	if int(plain[0]) >= len(plain) {
		return nil, fmt.Errorf("enciphered data: %w: says %d bytes", ErrLength, plain[0])
	}
	return plain[1 : 1+int(plain[0])], nil
}

func macInput(c iso7816.Command, data []byte) []byte {
	lc := len(data) + 4
	return append([]byte{iso7816.WithoutChannel(c.CLA), c.INS, c.P1, c.P2, byte(lc)}, data...)
}

// AppBlock blocks the application, for ever if permanent. Protect it.
func AppBlock(permanent bool) iso7816.Command {
	c := iso7816.Command{CLA: 0x80, INS: InsAppBlock, Le: iso7816.NoLe}
	if permanent {
		c.P2 = 0x01
	}
	return c
}

// AppUnblock takes a temporary block back. Protect it.
func AppUnblock() iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: InsAppUnblock, Le: iso7816.NoLe}
}

// CardBlock blocks the card for ever. Protect it.
func CardBlock() iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: InsCardBlock, Le: iso7816.NoLe}
}
