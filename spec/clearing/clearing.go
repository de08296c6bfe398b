// Package clearing reads and writes the clearing file of UnionPay's switch: the
// file of general transactions that an institution gets for each settlement day
// (ACOM for the acquirer, ICOM for the issuer). It has one line a transaction
// of fixed columns with a space between them, and neither heading nor total.
//
// The layout is part 3 of the switch's technical specification (file
// interfaces), 6.2.1, as three public programs read it: their widths agree
// (masget settlement ACOMADatas.java; a CUPS import in Python with the same
// table; a bank's Java importer by offsets: fees at 192, 205 and 218).
//
// Disputes stand in a file of their own (ERR), of the same form: see Dispute.
//
// Start with Parse and Record.Append.
package clearing

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"koala/spec/pan"
)

// ErrLine is what every *Error wraps.
var ErrLine = errors.New("clearing: malformed line")

// An Error says where a line is not a transaction, and what should stand there.
type Error struct {
	Column int // first byte of the field, from 1
	Field  string
	Need   string
}

// Error names the column, the field and what to do. It never shows the value.
func (e *Error) Error() string {
	return fmt.Sprintf("clearing: column %d, %s: needs %s", e.Column, e.Field, e.Need)
}

// Unwrap returns ErrLine.
func (e *Error) Unwrap() error { return ErrLine }

// A Record is one transaction. Texts are without the spaces that fill their
// column; amounts are in minor units.
type Record struct {
	Agent      string  // 1: institution acting for the acquirer, 11
	Sender     string  // 2: field 33 of the message, 11
	Trace      string  // 3: field 11, 6 digits
	Sent       string  // 4: field 7, MMDDhhmmss
	PAN        pan.PAN // 5: field 2, 13-19 digits
	Amount     int64   // 6: field 4, n12
	Accepted   int64   // 7: accepted part of a collection, n12
	HolderFee  int64   // 8: what the cardholder pays, n12
	MTI        string  // 9: 0200, 0220, 0420…
	Processing string  // 10: field 3, 6 digits
	MCC        string  // 11: field 18, 4
	Terminal   string  // 12: field 41, 8
	Merchant   string  // 13: field 42, 15
	RRN        string  // 14: field 37, 12
	Condition  string  // 15: field 25, 2 digits
	Approval   string  // 16: field 38, 6
	Receiver   string  // 17: field 100, 11
	FirstTrace string  // 18: trace of the original, 6
	Response   string  // 19: field 39, 2
	Entry      string  // 20: field 22, 3
	Receivable int64   // 21: fee the acquirer receives, n12
	Payable    int64   // 22: fee the acquirer pays the issuer, n12
	SwitchFee  int64   // 23: fee of the switch; D the acquirer pays (positive), C it gets (negative), x+n11
	Conversion string  // 24: single or dual message, 1
	CardSeq    string  // 25: field 23, 3
	Reading    string  // 26: what the terminal can read, 1
	ICC        string  // 27: chip condition, 1
	First      string  // 28: time of the original, MMDDhhmmss
	Issuer     string  // 29: 11
	Region     string  // 30: 1
	Device     string  // 31: kind of terminal, 2
	ECI        string  // 32: 2
	Instalment int64   // 33: additional fee of instalments, n12
	Rest       string  // 34 and behind, as it stands: other data and the institution's own columns
}

// coding is how a column is written.
type coding byte

const (
	text   coding = iota // left aligned, filled with spaces
	digits               // digits only, all of them
	amount               // n12, zeros on the left
	signed               // C or D, then n11
	number               // a card number, left aligned
)

// A column is one field of the line of an R.
type column[R any] struct {
	name  string
	width int
	code  coding
	text  func(*R) *string
	fen   func(*R) *int64
}

var layout = []column[Record]{
	{"agent", 11, text, func(r *Record) *string { return &r.Agent }, nil},
	{"sender", 11, text, func(r *Record) *string { return &r.Sender }, nil},
	{"trace", 6, digits, func(r *Record) *string { return &r.Trace }, nil},
	{"sent", 10, digits, func(r *Record) *string { return &r.Sent }, nil},
	{"card", 19, number, func(r *Record) *string { return (*string)(&r.PAN) }, nil},
	{"amount", 12, amount, nil, func(r *Record) *int64 { return &r.Amount }},
	{"accepted", 12, amount, nil, func(r *Record) *int64 { return &r.Accepted }},
	{"cardholder's fee", 12, amount, nil, func(r *Record) *int64 { return &r.HolderFee }},
	{"message type", 4, digits, func(r *Record) *string { return &r.MTI }, nil},
	{"processing code", 6, digits, func(r *Record) *string { return &r.Processing }, nil},
	{"category", 4, text, func(r *Record) *string { return &r.MCC }, nil},
	{"terminal", 8, text, func(r *Record) *string { return &r.Terminal }, nil},
	{"merchant", 15, text, func(r *Record) *string { return &r.Merchant }, nil},
	{"retrieval reference", 12, text, func(r *Record) *string { return &r.RRN }, nil},
	{"condition", 2, digits, func(r *Record) *string { return &r.Condition }, nil},
	{"approval", 6, text, func(r *Record) *string { return &r.Approval }, nil},
	{"receiver", 11, text, func(r *Record) *string { return &r.Receiver }, nil},
	{"original trace", 6, text, func(r *Record) *string { return &r.FirstTrace }, nil},
	{"response", 2, text, func(r *Record) *string { return &r.Response }, nil},
	{"entry mode", 3, text, func(r *Record) *string { return &r.Entry }, nil},
	{"fee receivable", 12, amount, nil, func(r *Record) *int64 { return &r.Receivable }},
	{"fee payable", 12, amount, nil, func(r *Record) *int64 { return &r.Payable }},
	{"switch's fee", 12, signed, nil, func(r *Record) *int64 { return &r.SwitchFee }},
	{"conversion", 1, text, func(r *Record) *string { return &r.Conversion }, nil},
	{"card sequence", 3, text, func(r *Record) *string { return &r.CardSeq }, nil},
	{"reading ability", 1, text, func(r *Record) *string { return &r.Reading }, nil},
	{"chip condition", 1, text, func(r *Record) *string { return &r.ICC }, nil},
	{"original time", 10, text, func(r *Record) *string { return &r.First }, nil},
	{"issuer", 11, text, func(r *Record) *string { return &r.Issuer }, nil},
	{"region", 1, text, func(r *Record) *string { return &r.Region }, nil},
	{"device", 2, text, func(r *Record) *string { return &r.Device }, nil},
	{"ECI", 2, text, func(r *Record) *string { return &r.ECI }, nil},
	{"instalment fee", 12, amount, nil, func(r *Record) *int64 { return &r.Instalment }},
}

// Width is the bytes of the 33 columns with the spaces between them.
const Width = 252 + 32

// Where the currency stands in Rest: behind other data (14) and the acquirer's
// first seven own columns (sender's and receiver's clearing institutions 11 and
// 11, reversed 1, voided 1, settlement day 4, session 2, the shop's name 40), as
// masget ACOMADatas.java has them (COMA, 6.2.1).
const currencyAt = 14 + 1 + 11 + 1 + 11 + 1 + 1 + 1 + 1 + 1 + 4 + 1 + 2 + 1 + 40 + 1

// Currency is the transaction's, three digits of ISO 4217, when the line has the
// acquirer's own columns; empty when it does not tell.
func (r Record) Currency() string {
	const end = currencyAt + 3
	if len(r.Rest) < end || r.Rest[currencyAt-1] != ' ' || len(r.Rest) > end && r.Rest[end] != ' ' || !allDigits([]byte(r.Rest[currencyAt:end])) {
		return ""
	}
	return r.Rest[currencyAt:end]
}

// SetCurrency writes the currency, three digits, where Currency reads it: the own
// columns before it that the line does not have are left blank.
func (r *Record) SetCurrency(digits string) {
	const end = currencyAt + 3
	rest := r.Rest + strings.Repeat(" ", max(end-len(r.Rest), 0))
	r.Rest = rest[:currencyAt] + digits + rest[end:]
}

// MaxLine bounds a line with an institution's own columns.
const MaxLine = 2_048

// Parse reads a line without its line end. The columns behind the 33rd, when a
// space parts them from it, are kept as they stand.
func Parse(line []byte) (r Record, err error) {
	r.Rest, err = parseLine(layout, &r, line)
	return r, err
}

// parseLine reads the columns of a layout and gives what stands behind them.
func parseLine[R any](layout []column[R], r *R, line []byte) (rest string, err error) {
	if len(line) > MaxLine {
		return "", &Error{MaxLine + 1, "line", fmt.Sprintf("at most %d bytes", MaxLine)}
	}
	at := 0
	for i := range layout {
		c := &layout[i]
		if i > 0 {
			if at >= len(line) || line[at] != ' ' {
				return "", &Error{at + 1, c.name, "a space before it: the columns are shifted"}
			}
			at++
		}
		if len(line) < at+c.width {
			return "", &Error{at + 1, c.name, fmt.Sprintf("%d bytes: the line ends too soon", c.width)}
		}
		if need := c.read(r, line[at:at+c.width]); need != "" {
			return "", &Error{at + 1, c.name, need}
		}
		at += c.width
	}
	if at == len(line) {
		return "", nil
	}
	if line[at] != ' ' {
		return "", &Error{at + 1, "other data", "a space before it"}
	}
	if rest = string(line[at+1:]); rest == "" {
		return "", &Error{at + 1, "line", "no space behind the last column"}
	}
	return rest, nil
}

// read takes one column; it returns what the column needs instead.
func (c *column[R]) read(r *R, in []byte) (need string) {
	switch c.code {
	case text, digits:
		if c.code == digits && !allDigits(in) {
			return fmt.Sprintf("%d digits", c.width)
		}
		*c.text(r) = string(trim(in))
	case amount:
		n, ok := parse(in)
		if !ok {
			return "12 digits, fen"
		}
		*c.fen(r) = n
	case signed:
		n, ok := parse(in[1:])
		switch {
		case !ok || in[0] != 'C' && in[0] != 'D' || in[0] == 'C' && n == 0:
			return "C or D and 11 digits, nothing being D"
		case in[0] == 'C':
			n = -n
		}
		*c.fen(r) = n
	case number:
		n, err := pan.Parse(string(trim(in)))
		if err != nil {
			return "a card number with a right check digit"
		}
		*c.text(r) = string(n)
	}
	return ""
}

// Append writes r as a line without its line end. A value that does not fit
// its column is an *Error and dst comes back as it was.
func (r Record) Append(dst []byte) ([]byte, error) { return appendLine(layout, &r, dst, r.Rest) }

func appendLine[R any](layout []column[R], r *R, dst []byte, rest string) ([]byte, error) {
	out := dst
	at := 0
	for i := range layout {
		c := &layout[i]
		if i > 0 {
			out, at = append(out, ' '), at+1
		}
		var ok bool
		if out, ok = c.write(r, out); !ok {
			return dst, &Error{at + 1, c.name, fmt.Sprintf("a value of at most %d bytes of the column's coding", c.width)}
		}
		at += c.width
	}
	if rest != "" {
		out = append(append(out, ' '), rest...)
	}
	return out, nil
}

func (c *column[R]) write(r *R, out []byte) ([]byte, bool) {
	switch c.code {
	case amount:
		return appendDigits(out, *c.fen(r), c.width)
	case signed:
		n, sign := *c.fen(r), byte('D')
		if n < 0 {
			n, sign = -n, 'C'
		}
		return appendDigits(append(out, sign), n, c.width-1)
	}
	v := *c.text(r)
	if len(v) > c.width || c.code == digits && (len(v) != c.width || !allDigits([]byte(v))) || len(v) > 0 && v[len(v)-1] == ' ' {
		return out, false
	}
	out = append(out, v...)
	for range c.width - len(v) {
		out = append(out, ' ')
	}
	return out, true
}

func appendDigits(out []byte, n int64, width int) ([]byte, bool) {
	s := strconv.FormatInt(n, 10)
	if n < 0 || len(s) > width {
		return out, false
	}
	for range width - len(s) {
		out = append(out, '0')
	}
	return append(out, s...), true
}

func parse(in []byte) (n int64, ok bool) {
	for _, c := range in {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func allDigits(in []byte) bool { _, ok := parse(in); return ok }

func trim(in []byte) []byte {
	for len(in) > 0 && in[len(in)-1] == ' ' {
		in = in[:len(in)-1]
	}
	return in
}

// A Kind is what a transaction does to the money between acquirer and issuer.
type Kind byte

// The kinds.
const (
	Other      Kind = iota // moves nothing: a balance, a pre-authorisation
	Sale                   // 0200 or 0220, 00xxxx: the issuer pays
	Void                   // 0200, 20xxxx
	Refund                 // 0220, 20xxxx
	Reversal               // 0420: takes back what bears the same reference
	Chargeback             // 0422, 00xxxx: the issuer takes a sale back in a dispute (ISO 8583:1987: a chargeback advice of the card issuer)
	Presented              // 0422, 20xxxx: and the acquirer has it again
)

// Kind reads message type and processing code. A reversal of a void or refund
// gives the money back to the acquirer: see Fen.
func (r Record) Kind() Kind {
	switch sale, back := r.Processing[:min(2, len(r.Processing))] == "00", r.Processing[:min(2, len(r.Processing))] == "20"; {
	case r.MTI == "0420" && (sale || back):
		return Reversal
	case r.MTI == "0422" && sale:
		return Chargeback
	case r.MTI == "0422" && back:
		return Presented
	case (r.MTI == "0200" || r.MTI == "0220") && sale:
		return Sale
	case r.MTI == "0200" && back:
		return Void
	case r.MTI == "0220" && back:
		return Refund
	}
	return Other
}

// Fen is what the issuer owes the acquirer for r, before fees: negative when
// the acquirer pays.
func (r Record) Fen() int64 {
	back := len(r.Processing) > 1 && r.Processing[:2] == "20"
	switch k := r.Kind(); {
	case k == Other:
		return 0
	case (k == Reversal || k == Chargeback || k == Presented) != back:
		return -r.Amount
	}
	return r.Amount
}

// Fee is what the acquirer pays for r in all: to the issuer and to the switch,
// less what it receives.
func (r Record) Fee() int64 { return r.Payable - r.Receivable + r.SwitchFee }
