package iso9797

import (
	"crypto/aes"
	"crypto/cipher"
)

// An AES is one AES key with its CMAC subkeys, ready for use; safe for several
// goroutines.
type AES struct {
	block  cipher.Block
	k1, k2 [blockAES]byte
}

// NewAES prepares a key of 16, 24 or 32 bytes.
func NewAES(key []byte) *AES {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("iso9797: " + err.Error())
	}
	a := &AES{block: b}
	var zero [blockAES]byte
	b.Encrypt(a.k1[:], zero[:])
	a.k1 = double(a.k1)
	a.k2 = double(a.k1)
	return a
}

// double multiplies by x in GF(2^128) (RFC 4493, 2.3). Both branches cost the
// same: the mask depends on the bit shifted out.
func double(in [blockAES]byte) (out [blockAES]byte) {
	for i := range blockAES - 1 {
		out[i] = in[i]<<1 | in[i+1]>>7
	}
	out[blockAES-1] = in[blockAES-1]<<1 ^ 0x87&-(in[0]>>7)
	return out
}

// CMAC is the 16-byte AES-CMAC of data (RFC 4493).
func (a *AES) CMAC(data []byte) [16]byte {
	var state, last [blockAES]byte
	for len(data) > blockAES {
		a.step(&state, data)
		data = data[blockAES:]
	}
	copy(last[:], data)
	sub := &a.k1
	if len(data) < blockAES {
		last[len(data)] = 0x80
		sub = &a.k2
	}
	for i := range last {
		last[i] ^= sub[i]
	}
	a.step(&state, last[:])
	return state
}

func (a *AES) step(state *[blockAES]byte, in []byte) {
	for i := range state {
		state[i] ^= in[i]
	}
	a.block.Encrypt(state[:], state[:])
}

// EncryptBlock encrypts one block of 16 bytes.
func (a *AES) EncryptBlock(dst, src []byte) { a.block.Encrypt(dst, src) }

// DecryptBlock decrypts one block of 16 bytes.
func (a *AES) DecryptBlock(dst, src []byte) { a.block.Decrypt(dst, src) }

// EncryptCBC encrypts whole blocks in a chain.
func (a *AES) EncryptCBC(iv, data []byte) []byte { return cbc(a.block, iv, data, true) }

// DecryptCBC is the reverse of EncryptCBC.
func (a *AES) DecryptCBC(iv, data []byte) []byte { return cbc(a.block, iv, data, false) }

// CMAC is (*AES).CMAC under a key used once.
func CMAC(key, data []byte) [16]byte { return NewAES(key).CMAC(data) }

// AESCBCEncrypt is (*AES).EncryptCBC under a key used once.
func AESCBCEncrypt(key, iv, data []byte) []byte { return NewAES(key).EncryptCBC(iv, data) }

// AESCBCDecrypt is (*AES).DecryptCBC under a key used once.
func AESCBCDecrypt(key, iv, data []byte) []byte { return NewAES(key).DecryptCBC(iv, data) }

// KCVAES is the key check value of an AES key: the first three bytes of
// sixteen 01 encrypted (GPCS 2.3.1, B.6).
func KCVAES(key []byte) (kcv [3]byte) {
	var block [blockAES]byte
	for i := range block {
		block[i] = 0x01
	}
	NewAES(key).EncryptBlock(block[:], block[:])
	copy(kcv[:], block[:])
	return kcv
}
