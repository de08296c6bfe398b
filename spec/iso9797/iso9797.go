// Package iso9797 computes the message authentication codes, paddings and
// block encryptions that cards use: DES and two-key triple DES (ISO/IEC
// 9797-1 algorithms 1 and 3), and AES with CMAC (RFC 4493).
//
// Keys are byte slices of the length their algorithm has (8, 16, or 16, 24
// and 32 for AES); another length is a defect of the caller and panics, since
// no key of this house is typed in by hand. An IV of nil means zeros. Start
// with RetailMAC; a loop that uses one key often keeps a *TDES, *DES or *AES.
package iso9797

import (
	"crypto/cipher"
	"errors"
	"fmt"
)

// blockDES and blockAES are the block sizes in bytes.
const (
	blockDES = 8
	blockAES = 16
)

// ErrPadding says that data does not end in 80 00.. .
var ErrPadding = errors.New("iso9797: no padding 80 00 at the end")

// Pad2 returns data followed by 80 and as many 00 as fill the last block
// (padding method 2). At least one byte is always added. The result is a copy.
func Pad2(data []byte, block int) []byte {
	out := make([]byte, (len(data)/block+1)*block)
	copy(out, data)
	out[len(data)] = 0x80
	return out
}

// Unpad2 takes the padding of Pad2 off; the result is a part of data.
func Unpad2(data []byte) ([]byte, error) {
	for i := len(data) - 1; i >= 0; i-- {
		switch data[i] {
		case 0x00:
		case 0x80:
			return data[:i], nil
		default:
			return nil, ErrPadding
		}
	}
	return nil, ErrPadding
}

// chain runs CBC over data from state and leaves the last block in state.
// Data that does not fill its last block is padded with method 2 when pad is
// set and is a defect otherwise.
func chain(b cipher.Block, state *[blockDES]byte, data []byte, pad bool) {
	for len(data) >= blockDES {
		xor8(state, data)
		b.Encrypt(state[:], state[:])
		data = data[blockDES:]
	}
	if !pad {
		mustLen("padded data tail", len(data), 0)
		return
	}
	for i, x := range data {
		state[i] ^= x
	}
	state[len(data)] ^= 0x80
	b.Encrypt(state[:], state[:])
}

func xor8(state *[blockDES]byte, data []byte) {
	for i := range state {
		state[i] ^= data[i]
	}
}

func startFrom(iv []byte) (state [blockDES]byte) {
	if iv != nil {
		mustLen("IV", len(iv), blockDES)
		copy(state[:], iv)
	}
	return state
}

func cbc(b cipher.Block, iv, data []byte, encrypt bool) []byte {
	size := b.BlockSize()
	mustLen("data beyond whole blocks", len(data)%size, 0)
	if iv == nil {
		iv = make([]byte, size)
	}
	mustLen("IV", len(iv), size)
	out := make([]byte, len(data))
	if encrypt {
		cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, data)
	} else {
		cipher.NewCBCDecrypter(b, iv).CryptBlocks(out, data)
	}
	return out
}

func ecb(crypt func(dst, src []byte), data []byte) []byte {
	mustLen("data beyond whole blocks", len(data)%blockDES, 0)
	out := make([]byte, len(data))
	for i := 0; i < len(data); i += blockDES {
		crypt(out[i:i+blockDES], data[i:i+blockDES])
	}
	return out
}

// mustLen stops on a length only a defect can cause. It prints no content:
// the bytes may be a key.
func mustLen(what string, got, want int) {
	if got != want {
		panic(fmt.Sprintf("iso9797: %s: %d bytes, want %d", what, got, want))
	}
}
