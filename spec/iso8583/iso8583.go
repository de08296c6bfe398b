// Package iso8583 reads and writes card messages (ISO 8583:1987) in three
// dialects that are tables, not code: UnionPay's POS dialect, UnionPay's
// interchange dialect and plain ASCII. It packs and unpacks without allocating,
// computes the message authentication codes of the dialects, builds answers,
// frames messages for a stream, and says in words what a message holds.
//
// Bytes in, values out. Unpack is strict: what it takes, AppendTo writes back
// byte for byte, and everything else is refused with a FieldError that names
// the field, the place and the reason, never the value. Start with Unpack.
package iso8583

import (
	"errors"
	"fmt"
)

// MaxMessage is the longest message in bytes, header included: what the four
// length digits of the interchange header can say.
const MaxMessage = 9999

// Reasons of a FieldError, and of the functions that have none.
var (
	ErrShort   = errors.New("the message ends too early")
	ErrLong    = errors.New("longer than the specification allows")
	ErrLength  = errors.New("not the length that the specification says")
	ErrPrefix  = errors.New("the length before the field is not a number")
	ErrDigits  = errors.New("not digits")
	ErrTrack   = errors.New("not track data")
	ErrText    = errors.New("not printable characters")
	ErrSign    = errors.New("an amount with a sign begins with C or D")
	ErrPadding = errors.New("the filling half byte is not 0")
	ErrNoField = errors.New("the specification has no such field")
	ErrBitmap  = errors.New("malformed bitmap")
	ErrMTI     = errors.New("not a message type")
	ErrHeader  = errors.New("malformed header")
	ErrTrails  = errors.New("bytes follow the last field")
	ErrAnswer  = errors.New("nothing answers a message of this type")
	ErrNoMAC   = errors.New("iso8583: the message carries no authentication code")
	ErrMAC     = errors.New("iso8583: the authentication code differs")
	ErrKey     = errors.New("iso8583: a MAC key has 8 or 16 bytes")
	ErrFrame   = errors.New("iso8583: the frame is longer than a message may be")
)

// Numbers that a FieldError gives to the parts before the first field.
const (
	PartHeader = -1
	PartMTI    = 0
	PartBitmap = 1
)

// A FieldError says which part of a message is wrong, where it begins and why.
// It holds nothing of the value, which may be a card number.
type FieldError struct {
	Spec   string
	Field  int // 2 to 128, or PartHeader, PartMTI, PartBitmap
	Offset int // bytes from the start of the message; of the output when packing
	Why    error
}

// Error names the part, the offset and the reason.
func (e *FieldError) Error() string {
	return fmt.Sprintf("iso8583: %s: %s at byte %d: %v", e.Spec, partName(e.Field), e.Offset, e.Why)
}

// Unwrap gives the reason.
func (e *FieldError) Unwrap() error { return e.Why }

func partName(field int) string {
	switch field {
	case PartHeader:
		return "header"
	case PartMTI:
		return "message type"
	case PartBitmap:
		return "bitmap"
	}
	return fmt.Sprintf("field %d", field)
}
