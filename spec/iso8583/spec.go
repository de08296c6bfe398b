package iso8583

import (
	"embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"sync"
)

//go:embed data/*.csv
var data embed.FS

// MaxField is the highest field number.
const MaxField = 128

// A Class says which characters a field may hold.
type Class byte

// The classes of ISO 8583 as far as they differ on the wire.
const (
	Numeric  Class = iota + 1 // n: digits
	Track                     // z: digits and the separator D or =
	Signed                    // x+n: C or D, then digits
	Alpha                     // an: printable ASCII
	Text                      // ans: any bytes, GBK by agreement
	Binary                    // b: bytes
	HexTrack                  // zx: as Track, of which a part may be enciphered: hexadecimal digits
)

// A Coding says how the characters of a field become bytes.
type Coding byte

// The codings. An odd number of digits leaves half a byte, which is 0.
const (
	Plain    Coding = iota + 1 // one byte a character
	BCD                        // two digits a byte, filled on the right
	BCDRight                   // two digits a byte, filled on the left
)

// A Padding says what fills a fixed field that was set too short.
type Padding byte

// The paddings.
const (
	NoPadding Padding = iota
	Zeros             // 0 on the left
	Spaces            // blanks on the right
)

// A Secrecy says what of a field may be shown.
type Secrecy byte

// The secrecies. SecretBatch and SecretKeys depend on the message: card
// numbers in a batch upload, keys in the answer to a sign-on.
const (
	Open Secrecy = iota
	SecretPAN
	SecretTrack
	SecretAll
	SecretBatch
	SecretKeys
)

// A Sealing is a set of kinds of messages whose MAC over chosen fields covers a
// field.
type Sealing byte

// The kinds: 05xx, 08xx and the rest.
const (
	SealedTransaction Sealing = 1 << iota
	SealedSettlement
	SealedNetwork
)

// A Field is one line of a specification.
type Field struct {
	Number  int
	Class   Class
	Digits  int // length digits before the value: 0 fixed, 2 LLVAR, 3 LLLVAR
	Max     int // characters; bytes for Text and Binary; exact when fixed
	Coding  Coding
	Padding Padding
	Secrecy Secrecy
	Echoed  bool    // an answer repeats it
	Sealed  Sealing // by a MAC over chosen fields, in which messages
	EN, ZH  string
}

// A layout is what packing needs of a Field, kept close together.
type layout struct {
	max    uint16
	digits uint8
	class  Class
	coding Coding
	pad    Padding
}

// A HeadKind says what stands before the message type.
type HeadKind byte

// The headers.
const (
	NoHead          HeadKind = iota
	POSHead                  // TPDU of 5 bytes and header of 6 bytes
	InterchangeHead          // 46 bytes, may be absent; 92 with the original header of a refused message
)

// A BitmapKind says how the bitmap is written. Bit 1 announces the second half.
type BitmapKind byte

// The bitmaps.
const (
	Bitmap64      BitmapKind = iota + 1 // 8 bytes, bit 1 is never set
	Bitmap128                           // 8 or 16 bytes
	BitmapHex128                        // 16 or 32 upper case hexadecimal digits
	BitmapHexBoth                       // always 32, and bit 1 is never set
)

// A Spec is one dialect. The variables of this package are the ones there are.
type Spec struct {
	Name     string
	EN, ZH   string
	Head     HeadKind
	Bitmap   BitmapKind
	MTI      Coding // of the message type and of the lengths
	MAC      MACRule
	PBOCChip bool // field 55 reads as PBOC's data objects
	fields   [MaxField + 1]Field
	layouts  [MaxField + 1]layout
}

// Field gives the line of field n; ok is false where the dialect has none.
func (s *Spec) Field(n int) (f Field, ok bool) {
	if n < 2 || n > MaxField || s.layouts[n].class == 0 {
		return Field{}, false
	}
	return s.fields[n], true
}

var (
	// UnionPayPOS is what terminals speak to an acquirer (Q/CUP 009 family).
	UnionPayPOS = sync.OnceValue(func() *Spec {
		return load(Spec{Name: "unionpay-pos", EN: "UnionPay POS dialect", ZH: "银联 POS 终端报文", Head: POSHead, Bitmap: Bitmap64, MTI: BCD, PBOCChip: true,
			MAC: MACRule{Algorithm: ECB, Hex: true, Field: 64}})
	})
	// UnionPayInterchange is what institutions speak to the network (Q/CUP 006.2).
	UnionPayInterchange = sync.OnceValue(func() *Spec {
		return load(Spec{Name: "unionpay-interchange", EN: "UnionPay interchange dialect", ZH: "银联联网联合报文", Head: InterchangeHead, Bitmap: Bitmap128, MTI: Plain,
			PBOCChip: true, MAC: MACRule{Algorithm: X99, Hex: true, Field: 128, Chosen: true}})
	})
	// ISO87ASCII is ISO 8583:1987 in ASCII with a hexadecimal bitmap; chip data,
	// PIN and MAC are bytes.
	ISO87ASCII = sync.OnceValue(func() *Spec {
		return load(Spec{Name: "iso87-ascii", EN: "ISO 8583:1987 in ASCII", ZH: "ISO 8583:1987 ASCII 报文", Bitmap: BitmapHex128, MTI: Plain,
			MAC: MACRule{Algorithm: X919}})
	})
	// ISO87ASCIIBoth is ISO87ASCII as simulators of Visa's BASE I write it: both
	// halves of the bitmap are always there and bit 1 does not announce them.
	ISO87ASCIIBoth = sync.OnceValue(func() *Spec {
		return load(Spec{Name: "iso87-ascii", EN: "ISO 8583:1987 in ASCII, two bitmaps always", ZH: "ISO 8583:1987 ASCII 报文（固定双位图）", Bitmap: BitmapHexBoth, MTI: Plain,
			MAC: MACRule{Algorithm: X919}})
	})
)

// Specs lists the dialects.
func Specs() []*Spec {
	return []*Spec{UnionPayPOS(), UnionPayInterchange(), ISO87ASCII(), ISO87ASCIIBoth()}
}

// SpecNamed finds a dialect; of the two that have the name iso87-ascii it is
// the standard's.
func SpecNamed(name string) (*Spec, bool) {
	for _, s := range Specs() {
		if s.Name == name {
			return s, true
		}
	}
	return nil, false
}

// rows reads an embedded table whose first line must be head.
func rows(file string, head ...string) [][]string {
	f, err := data.Open("data/" + file)
	if err != nil {
		panic(err) // embedded
	}
	all, err := csv.NewReader(f).ReadAll()
	if err != nil || fmt.Sprint(all[0]) != fmt.Sprint(head) {
		panic(fmt.Sprintf("iso8583: embedded %s: %v", file, err))
	}
	return all[1:]
}

// The words of the tables.
var (
	classes   = map[string]Class{"n": Numeric, "z": Track, "zx": HexTrack, "x": Signed, "an": Alpha, "ans": Text, "b": Binary}
	lengths   = map[string]int{"fixed": 0, "ll": 2, "lll": 3}
	codings   = map[string]Coding{"plain": Plain, "bcd": BCD, "bcd-right": BCDRight}
	paddings  = map[string]Padding{"": NoPadding, "0": Zeros, "_": Spaces}
	secrecies = map[string]Secrecy{"": Open, "pan": SecretPAN, "track": SecretTrack, "all": SecretAll, "batch": SecretBatch, "keys": SecretKeys}
	flags     = map[string]bool{"": false, "y": true}
	sealings  = map[string]Sealing{"": 0, "t": SealedTransaction, "s": SealedSettlement, "n": SealedNetwork,
		"ts": SealedTransaction | SealedSettlement, "tn": SealedTransaction | SealedNetwork, "tsn": SealedTransaction | SealedSettlement | SealedNetwork}
)

// load fills a dialect from its table; a defect of the table panics.
func load(s Spec) *Spec {
	for _, r := range rows(s.Name+".csv", "field", "class", "length", "max", "coding", "pad", "secret", "echo", "mac", "en", "zh") {
		f := Field{Number: number(r[0]), Class: word(classes, r[1]), Digits: word(lengths, r[2]), Max: number(r[3]), Coding: word(codings, r[4]),
			Padding: word(paddings, r[5]), Secrecy: word(secrecies, r[6]), Echoed: word(flags, r[7]), Sealed: word(sealings, r[8]), EN: r[9], ZH: r[10]}
		if f.Number < 2 || f.Number > MaxField || s.layouts[f.Number].class != 0 {
			panic("iso8583: field " + r[0] + " of " + s.Name)
		}
		s.fields[f.Number] = f
		s.layouts[f.Number] = layout{max: uint16(f.Max), digits: uint8(f.Digits), class: f.Class, coding: f.Coding, pad: f.Padding}
	}
	return &s
}

func word[T any](words map[string]T, s string) T {
	v, ok := words[s]
	if !ok {
		panic("iso8583: embedded word " + s)
	}
	return v
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("iso8583: embedded number " + s)
	}
	return n
}
