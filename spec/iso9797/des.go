package iso9797

import (
	"crypto/cipher"
	"crypto/des"
)

// A DES is one single DES key, ready for use; safe for several goroutines.
type DES struct{ block cipher.Block }

// NewDES prepares an 8-byte key.
func NewDES(key8 []byte) *DES {
	mustLen("DES key", len(key8), 8)
	b, err := des.NewCipher(key8)
	if err != nil {
		panic("iso9797: " + err.Error())
	}
	return &DES{b}
}

// MAC is ISO 9797-1 algorithm 1: CBC with padding method 2, the last block.
func (d *DES) MAC(iv8, data []byte) [8]byte {
	state := startFrom(iv8)
	chain(d.block, &state, data, true)
	return state
}

// CBCMAC is MAC over data that the caller has padded to whole blocks.
func (d *DES) CBCMAC(iv8, padded []byte) [8]byte {
	state := startFrom(iv8)
	chain(d.block, &state, padded, false)
	return state
}

// EncryptBlock encrypts one block of 8 bytes.
func (d *DES) EncryptBlock(dst, src []byte) { d.block.Encrypt(dst, src) }

// DecryptBlock decrypts one block of 8 bytes.
func (d *DES) DecryptBlock(dst, src []byte) { d.block.Decrypt(dst, src) }

// A TDES is one two-key triple DES key, ready for use; safe for several
// goroutines.
type TDES struct {
	full  cipher.Block // left, right, left
	left  cipher.Block
	right cipher.Block
}

// NewTDES prepares a key of 16 bytes: the left and the right half.
func NewTDES(key16 []byte) *TDES {
	mustLen("triple DES key", len(key16), 16)
	var key24 [24]byte
	copy(key24[:], key16)
	copy(key24[16:], key16[:8])
	full, err := des.NewTripleDESCipher(key24[:])
	if err != nil {
		panic("iso9797: " + err.Error())
	}
	return &TDES{full: full, left: NewDES(key16[:8]).block, right: NewDES(key16[8:]).block}
}

// MAC is the retail MAC: algorithm 3 (single DES CBC with the left half, the
// last block decrypted with the right and encrypted with the left half) and
// padding method 2.
func (k *TDES) MAC(iv8, data []byte) [8]byte {
	state := startFrom(iv8)
	chain(k.left, &state, data, true)
	k.right.Decrypt(state[:], state[:])
	k.left.Encrypt(state[:], state[:])
	return state
}

// CBCMAC is the last block of triple DES CBC over data that the caller has
// padded to whole blocks.
func (k *TDES) CBCMAC(iv8, padded []byte) [8]byte {
	state := startFrom(iv8)
	chain(k.full, &state, padded, false)
	return state
}

// EncryptBlock encrypts one block of 8 bytes.
func (k *TDES) EncryptBlock(dst, src []byte) { k.full.Encrypt(dst, src) }

// DecryptBlock decrypts one block of 8 bytes.
func (k *TDES) DecryptBlock(dst, src []byte) { k.full.Decrypt(dst, src) }

// EncryptECB encrypts whole blocks, each by itself.
func (k *TDES) EncryptECB(data []byte) []byte { return ecb(k.full.Encrypt, data) }

// DecryptECB is the reverse of EncryptECB.
func (k *TDES) DecryptECB(data []byte) []byte { return ecb(k.full.Decrypt, data) }

// EncryptCBC encrypts whole blocks in a chain.
func (k *TDES) EncryptCBC(iv8, data []byte) []byte { return cbc(k.full, iv8, data, true) }

// DecryptCBC is the reverse of EncryptCBC.
func (k *TDES) DecryptCBC(iv8, data []byte) []byte { return cbc(k.full, iv8, data, false) }

// DESCBCMAC is (*DES).CBCMAC under a key used once.
func DESCBCMAC(key8, iv8, padded []byte) [8]byte { return NewDES(key8).CBCMAC(iv8, padded) }

// DESMAC is (*DES).MAC under a key used once.
func DESMAC(key8, iv8, data []byte) [8]byte { return NewDES(key8).MAC(iv8, data) }

// RetailMAC is (*TDES).MAC under a key used once.
func RetailMAC(key16, iv8, data []byte) [8]byte { return NewTDES(key16).MAC(iv8, data) }

// DESEncrypt encrypts one block of 8 bytes under a single DES key.
func DESEncrypt(key8, block8 []byte) (out [8]byte) {
	mustLen("block", len(block8), blockDES)
	NewDES(key8).EncryptBlock(out[:], block8)
	return out
}

// TDESEncryptECB is (*TDES).EncryptECB under a key used once.
func TDESEncryptECB(key16, data []byte) []byte { return NewTDES(key16).EncryptECB(data) }

// TDESDecryptECB is (*TDES).DecryptECB under a key used once.
func TDESDecryptECB(key16, data []byte) []byte { return NewTDES(key16).DecryptECB(data) }

// TDESEncryptCBC is (*TDES).EncryptCBC under a key used once.
func TDESEncryptCBC(key16, iv8, data []byte) []byte { return NewTDES(key16).EncryptCBC(iv8, data) }

// TDESDecryptCBC is (*TDES).DecryptCBC under a key used once.
func TDESDecryptCBC(key16, iv8, data []byte) []byte { return NewTDES(key16).DecryptCBC(iv8, data) }

// KCVDES is the key check value of a triple DES key: the first three bytes of
// eight zeros encrypted (GPCS 2.3.1, B.5).
func KCVDES(key16 []byte) (kcv [3]byte) {
	var block [blockDES]byte
	NewTDES(key16).EncryptBlock(block[:], block[:])
	copy(kcv[:], block[:])
	return kcv
}
