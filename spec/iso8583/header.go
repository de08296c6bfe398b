package iso8583

import (
	"encoding/binary"
	"errors"
)

// Lengths of headers in bytes.
const (
	TPDULen              = 5
	POSHeadLen           = TPDULen + 6
	InterchangeHeaderLen = 46
)

// tpduID is the first byte of a transport unit that carries a transaction.
const tpduID = 0x60

var errHeadTotal = errors.New("the header gives another length than the message has")

// headLen is how many bytes of in stand before the message type.
func (s *Spec) headLen(in []byte) (int, error) {
	switch {
	case s.Head == POSHead:
		if len(in) < POSHeadLen {
			return 0, ErrShort
		}
		if in[0] != tpduID {
			return 0, ErrHeader
		}
		return POSHeadLen, nil
	case s.Head == InterchangeHead && len(in) > 0 && in[0] == InterchangeHeaderLen:
		h, err := ParseInterchangeHeader(in)
		if err == nil && h.Total != len(in) {
			return InterchangeHeaderLen, errHeadTotal
		}
		if err == nil && h.refused() {
			if _, err := ParseInterchangeHeader(in[InterchangeHeaderLen:]); err == nil {
				return 2 * InterchangeHeaderLen, nil
			}
		}
		return InterchangeHeaderLen, err
	}
	return 0, nil
}

// refused says that the centre sends a message back to who sent it: the header
// it came with follows this one.
func (h InterchangeHeader) refused() bool { return h.Reject != accepted }

var accepted = [5]byte{'0', '0', '0', '0', '0'}

// takesHead says whether a message may be written behind head.
func (s *Spec) takesHead(head []byte) bool {
	switch s.Head {
	case POSHead:
		return len(head) == POSHeadLen && head[0] == tpduID
	case InterchangeHead:
		if len(head) == 0 {
			return true
		}
		h, err := ParseInterchangeHeader(head)
		if err != nil || len(head) == InterchangeHeaderLen {
			return err == nil
		}
		_, err = ParseInterchangeHeader(head[InterchangeHeaderLen:])
		return err == nil && len(head) == 2*InterchangeHeaderLen && h.refused()
	}
	return len(head) == 0
}

// A POSHeader is what stands before a message of the POS dialect: the TPDU with
// network addresses, and six bytes of which application and version speak.
type POSHeader struct {
	Destination, Source uint16 // of the TPDU, BCD by habit
	Application         byte   // 60 stripe card payment, 61 chip card payment
	Version             byte   // of the whole software, BCD
	State               byte   // of the terminal and what it shall do, two digits
	Rest                [3]byte
}

// ParsePOSHeader reads 11 bytes; more may follow.
func ParsePOSHeader(in []byte) (POSHeader, error) {
	if len(in) < POSHeadLen {
		return POSHeader{}, ErrShort
	}
	if in[0] != tpduID {
		return POSHeader{}, ErrHeader
	}
	return POSHeader{Destination: binary.BigEndian.Uint16(in[1:]), Source: binary.BigEndian.Uint16(in[3:]),
		Application: in[5], Version: in[6], State: in[7], Rest: [3]byte(in[8:11])}, nil
}

// AppendTo appends the 11 bytes.
func (h POSHeader) AppendTo(dst []byte) []byte {
	dst = append(dst, tpduID)
	dst = binary.BigEndian.AppendUint16(dst, h.Destination)
	dst = binary.BigEndian.AppendUint16(dst, h.Source)
	dst = append(dst, h.Application, h.Version, h.State)
	return append(dst, h.Rest[:]...)
}

// Answer is the header of the answer: the addresses change places.
func (h POSHeader) Answer() POSHeader {
	h.Destination, h.Source = h.Source, h.Destination
	return h
}

// An InterchangeHeader is the header of 46 bytes of the interchange dialect
// (Q/CUP 006.2).
type InterchangeHeader struct {
	Version     byte     // bit 8 set for a test message
	Total       int      // bytes of header and message, 0 to 9999
	Destination [11]byte // institution, blanks on the right
	Source      [11]byte
	Reserved    [3]byte
	Batch       byte
	Transaction [8]byte // filled by the centre
	User        byte
	Reject      [5]byte // digits; 00000 when nothing was refused
}

// ParseInterchangeHeader reads 46 bytes; more may follow.
func ParseInterchangeHeader(in []byte) (InterchangeHeader, error) {
	if len(in) < InterchangeHeaderLen {
		return InterchangeHeader{}, ErrShort
	}
	if in[0] != InterchangeHeaderLen || !all(in[2:6], isDigit) || !all(in[6:28], isAlpha) || !all(in[32:40], isAlpha) || !all(in[41:46], isDigit) {
		return InterchangeHeader{}, ErrHeader
	}
	h := InterchangeHeader{Version: in[1], Destination: [11]byte(in[6:]), Source: [11]byte(in[17:]), Reserved: [3]byte(in[28:]),
		Batch: in[31], Transaction: [8]byte(in[32:]), User: in[40], Reject: [5]byte(in[41:])}
	for _, c := range in[2:6] {
		h.Total = h.Total*10 + int(c-'0')
	}
	return h, nil
}

// AppendTo appends the 46 bytes.
func (h InterchangeHeader) AppendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, InterchangeHeaderLen, h.Version, 0, 0, 0, 0)
	putTotal(dst[start:], h.Total)
	dst = append(append(dst, h.Destination[:]...), h.Source[:]...)
	dst = append(append(dst, h.Reserved[:]...), h.Batch)
	dst = append(append(dst, h.Transaction[:]...), h.User)
	return append(dst, h.Reject[:]...)
}

// Answer is the header of the answer: the institutions change places and
// nothing is refused.
func (h InterchangeHeader) Answer() InterchangeHeader {
	h.Destination, h.Source = h.Source, h.Destination
	h.Reject = accepted
	return h
}

// putTotal writes the four length digits of an interchange header.
func putTotal(head []byte, n int) {
	head[2], head[3], head[4], head[5] = byte('0'+n/1000%10), byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10)
}

// FramePrefix is the length before a message on a stream: two bytes, high byte
// first, not counting themselves.
const FramePrefix = 2

// FrameLen reads the length before a message, 0 to MaxMessage; 0 is a frame
// that only keeps a line open.
func FrameLen(prefix [FramePrefix]byte) (int, error) {
	n := int(binary.BigEndian.Uint16(prefix[:]))
	if n > MaxMessage {
		return 0, ErrFrame
	}
	return n, nil
}

// AppendFrame appends a message with its length.
func AppendFrame(dst, message []byte) ([]byte, error) {
	if len(message) > MaxMessage {
		return dst, ErrFrame
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(message)))
	return append(dst, message...), nil
}

// NextFrame takes one message off a stream. ErrShort says that more bytes are
// needed, ErrFrame that the stream is not one of messages.
func NextFrame(in []byte) (message, rest []byte, err error) {
	if len(in) < FramePrefix {
		return nil, in, ErrShort
	}
	n, err := FrameLen([FramePrefix]byte(in))
	if err != nil {
		return nil, in, err
	}
	if len(in)-FramePrefix < n {
		return nil, in, ErrShort
	}
	return in[FramePrefix : FramePrefix+n], in[FramePrefix+n:], nil
}

// Unframe takes the length off a single captured message, if there is one.
func Unframe(in []byte) (message []byte, framed bool) {
	if m, rest, err := NextFrame(in); err == nil && len(rest) == 0 && len(m) > 0 {
		return m, true
	}
	return in, false
}
