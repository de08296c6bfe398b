package pboc

import (
	"errors"
	"fmt"
)

// MaxFen is the largest amount of an n12 object: twelve nines.
const MaxFen = 999_999_999_999

// ErrAmount says that six bytes are no packed decimal number.
var ErrAmount = errors.New("pboc: not a BCD amount")

// Amount codes fen as n12: six bytes, packed decimal. What does not fit is a
// defect of the caller and panics.
func Amount(fen uint64) (b [6]byte) {
	if fen > MaxFen {
		panic(fmt.Sprintf("pboc: %d fen do not fit n12", fen))
	}
	for i := 5; i >= 0; i-- {
		b[i] = byte(fen%10 | fen/10%10<<4)
		fen /= 100
	}
	return b
}

// ParseAmount reads an n12 object; other lengths and digits above 9 are refused.
func ParseAmount(b []byte) (fen uint64, err error) {
	if len(b) != 6 {
		return 0, fmt.Errorf("%w: %d bytes", ErrAmount, len(b))
	}
	for _, x := range b {
		if x>>4 > 9 || x&0x0F > 9 {
			return 0, ErrAmount
		}
		fen = fen*100 + uint64(x>>4)*10 + uint64(x&0x0F)
	}
	return fen, nil
}
