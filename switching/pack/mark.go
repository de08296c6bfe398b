package pack

import (
	"crypto/ed25519"
	"encoding/binary"

	"koala/spec/tlv"
)

// The private objects by which the messages of a download name their pack
// (docs/terminal-protocol.md, Parameter packs). A terminal that does not ask for
// them never sees one.
const (
	TagNumber    tlv.Tag = 0xDF7A // 4 bytes: in a request the pack that the terminal has, 0 none
	TagSignature tlv.Tag = 0xDF7B // 64 bytes, over Pack.Bytes
	TagResult    tlv.Tag = 0xDF7C // 1 byte, in the request that ends a download
	TagBlack     tlv.Tag = 0xDF7D // 4 bytes, Pack.Black
)

// A Result is what became of a pack at a terminal.
type Result byte

// The results.
const (
	InUse       Result = 0
	BadSign     Result = 1 // the signature is not the house's
	Unreadable  Result = 2 // its parts do not make a pack
	Outdated    Result = 3 // its number is below the one in use
	WontWork    Result = 4 // the terminal cannot start with it
	lastRefusal        = WontWork
)

// Known says whether r is one of the results.
func (r Result) Known() bool { return r <= lastRefusal }

// String names a result in a word; pages have their own.
func (r Result) String() string {
	if !r.Known() {
		return "unknown"
	}
	return [...]string{"in use", "signature", "unreadable", "older", "would not work"}[r]
}

// A Mark is what the objects of one message say.
type Mark struct {
	There     bool // it has a number
	Number    uint32
	Black     uint32
	Signature []byte // nil: none
	Result    Result // of the request that ends a download
	Ends      bool   // it has a result
}

// Append writes the number, and the other objects where a whole pack is named.
func (m Mark) Append(dst []byte) []byte {
	dst = tlv.Append(dst, TagNumber, binary.BigEndian.AppendUint32(nil, m.Number))
	if m.Signature != nil {
		dst = tlv.Append(dst, TagBlack, binary.BigEndian.AppendUint32(nil, m.Black))
		dst = tlv.Append(dst, TagSignature, m.Signature)
	}
	if m.Ends {
		dst = tlv.Append(dst, TagResult, []byte{byte(m.Result)})
	}
	return dst
}

// Cut reads the mark at the end of the objects in, and gives what stands before
// it. What is no mark is left where it is.
func Cut(in []byte) (before []byte, m Mark) {
	for rest := in; len(rest) > 0; {
		tag, v, after, err := tlv.Next(rest)
		if err != nil {
			return in, Mark{}
		}
		if tag == TagNumber && len(v) == 4 {
			before = in[:len(in)-len(rest)]
			m = Mark{There: true, Number: binary.BigEndian.Uint32(v)}
			if m.read(after) {
				return before, m
			}
			return in, Mark{}
		}
		rest = after
	}
	return in, Mark{}
}

// read reads what stands behind the number.
func (m *Mark) read(in []byte) bool {
	for len(in) > 0 {
		tag, v, after, err := tlv.Next(in)
		switch {
		case err != nil:
			return false
		case tag == TagBlack && len(v) == 4:
			m.Black = binary.BigEndian.Uint32(v)
		case tag == TagSignature && len(v) == ed25519.SignatureSize:
			m.Signature = v
		case tag == TagResult && len(v) == 1:
			m.Result, m.Ends = Result(v[0]), true
		default:
			return false
		}
		in = after
	}
	return true
}

// OfShop says whether a parameter is the shop's own: it is in no pack.
func OfShop(number byte) bool {
	switch number {
	case 18, 19, 20, 22, 26, 27:
		return true
	}
	return false
}
