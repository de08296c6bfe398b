// Package slip keeps the slips of terminals' sales as they were on the day: the
// bytes of each are frozen when the sale is answered, chained by terminal, and
// signed, so that a slip is printed again as it was and anybody can check it.
// A follower of the sales' events writes them (Desk.Catch): a sale does not wait
// for its slip. Start at Slip and Desk.
package slip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/fail"
	"koala/money"
)

// How slips are refused.
var (
	ErrNotFound = fail.Define(fail.NotFound, "slip.not_found", "there is no such slip")
	ErrBody     = fail.Define(fail.Invalid, "slip.body", "these are not the bytes of a slip")
	ErrProof    = fail.Define(fail.Broken, "slip.proof", "the slip is not what was signed, or is not in its terminal's chain")
	ErrBusy     = fail.Define(fail.Busy, "slip.busy", "slips were written by another process meanwhile; ask again")
)

// Label is the label of the key that signs slips, and nothing else.
const Label = "slip.sign"

// A Slip is what a sale's slip says.
type Slip struct {
	ShopZH, ShopEN string // the shop's name on that day
	MID, TID       string
	Number         int64  // of the terminal's slips, from 1
	Kind           string // of switching.Kinds
	Card           string // first six and last four digits; empty where there was none
	Entry          string // field 22
	Amount         money.Amount
	At             time.Time // to the second
	Batch, STAN    int
	RRN            string
	Auth           string // field 38
	Original       string // reference number of what it refers to
	AID            string // of the chip's application, hexadecimal; empty without a chip
	Cryptogram     string // TC or ARQC, and the value, hexadecimal
	ATC            string // hexadecimal
	Prev           [32]byte
	Key            string // id of the key that signs
}

const (
	head     = "koala slip 1"
	atLayout = "2006-01-02 15:04:05"
	maxBody  = 4 << 10
)

// A line of the body: its name, and the part of a slip it says. What may be left
// out is left out when it is empty.
type line struct {
	name string
	may  bool
	get  func(*Slip) string
	set  func(*Slip, string) error
}

func text(name string, may bool, part func(*Slip) *string) line {
	return line{name, may, func(s *Slip) string { return *part(s) }, func(s *Slip, v string) error { *part(s) = v; return nil }}
}

func number(name string, digits int, part func(*Slip) *int) line {
	return line{name, false, func(s *Slip) string { return fmt.Sprintf("%0*d", digits, *part(s)) },
		func(s *Slip, v string) (err error) { *part(s), err = strconv.Atoi(v); return err }}
}

// lines is the form of a body.
var lines = []line{
	text("shop", true, func(s *Slip) *string { return &s.ShopZH }), text("shop.en", true, func(s *Slip) *string { return &s.ShopEN }),
	text("merchant", false, func(s *Slip) *string { return &s.MID }), text("terminal", false, func(s *Slip) *string { return &s.TID }),
	{"number", false, func(s *Slip) string { return strconv.FormatInt(s.Number, 10) },
		func(s *Slip, v string) (err error) { s.Number, err = strconv.ParseInt(v, 10, 64); return err }},
	text("kind", false, func(s *Slip) *string { return &s.Kind }), text("card", true, func(s *Slip) *string { return &s.Card }),
	text("entry", true, func(s *Slip) *string { return &s.Entry }),
	{"amount", false, func(s *Slip) string { return "CNY " + s.Amount.Yuan() }, func(s *Slip, v string) (err error) {
		s.Amount, err = money.ParseYuan(strings.TrimPrefix(v, "CNY "))
		return err
	}},
	{"time", false, func(s *Slip) string { return s.At.In(calendar.Beijing).Format(atLayout) }, func(s *Slip, v string) (err error) {
		s.At, err = time.ParseInLocation(atLayout, v, calendar.Beijing)
		s.At = s.At.UTC()
		return err
	}},
	number("batch", 6, func(s *Slip) *int { return &s.Batch }), number("trace", 6, func(s *Slip) *int { return &s.STAN }),
	text("reference", false, func(s *Slip) *string { return &s.RRN }), text("authorisation", true, func(s *Slip) *string { return &s.Auth }),
	text("original", true, func(s *Slip) *string { return &s.Original }), text("application", true, func(s *Slip) *string { return &s.AID }),
	text("cryptogram", true, func(s *Slip) *string { return &s.Cryptogram }), text("counter", true, func(s *Slip) *string { return &s.ATC }),
	{"previous", false, func(s *Slip) string { return hex.EncodeToString(s.Prev[:]) }, func(s *Slip, v string) error {
		n, err := hex.Decode(s.Prev[:], []byte(v[:min(len(v), 2*len(s.Prev))]))
		if err == nil && n != len(s.Prev) {
			err = ErrBody
		}
		return err
	}},
	text("key", false, func(s *Slip) *string { return &s.Key }),
}

// Body is what is signed: one line for each part, in a fixed order.
func (s *Slip) Body() []byte {
	var b bytes.Buffer
	b.WriteString(head + "\n")
	for _, l := range lines {
		if v := l.get(s); v != "" || !l.may {
			fmt.Fprintf(&b, "%s: %s\n", l.name, plain(v))
		}
	}
	return b.Bytes()
}

// plain is a value that stays in its line.
func plain(v string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, v)
}

// Parse reads a body. What it takes, Body writes back the same.
func Parse(body []byte) (s Slip, err error) {
	bad := func(what string) (Slip, error) { return Slip{}, fmt.Errorf("%s: %w", what, ErrBody) }
	said := strings.Split(string(body), "\n")
	if len(body) > maxBody || said[0] != head || said[len(said)-1] != "" {
		return bad("it does not begin or end as one")
	}
	said = said[1 : len(said)-1]
	for _, l := range lines {
		value, ok := "", false
		if len(said) > 0 {
			value, ok = strings.CutPrefix(said[0], l.name+": ")
		}
		switch {
		case ok:
			said = said[1:]
		case l.may:
			continue
		default:
			return bad("line " + l.name + " is missing")
		}
		if l.set(&s, value) != nil {
			return bad("line " + l.name + " does not read")
		}
	}
	if len(said) > 0 || !bytes.Equal(s.Body(), body) {
		return bad("it is not written as a slip is")
	}
	return s, nil
}

// A Kept is a slip as it is kept.
type Kept struct {
	Slip
	Bytes     []byte // Body
	Hash      [32]byte
	Signature []byte // of Bytes
	Signed    Signed // by the cardholder, zero while there is none
	Written   time.Time
	misfiled  bool // its row says another terminal, number, day, amount or card than its bytes
}

// A Signed says which picture a cardholder's signature is. It comes after the
// slip, and is signed with the slip's hash: a picture belongs to one slip.
type Signed struct {
	Picture   [32]byte // SHA-256
	Key       string
	Signature []byte // of Kept.SignedMessage
}

// SignedMessage is what is signed of a cardholder's signature.
func (k *Kept) SignedMessage() []byte {
	return fmt.Appendf(nil, "koala slip signature 1\nslip: %x\npicture: %x\nkey: %s\n", k.Hash, k.Signed.Picture, k.Signed.Key)
}

// idLen is the length of what goes behind the reference number in an id.
const idLen = 24

// ID names a slip for whoever has it: its reference number and the beginning of
// its hash, which nobody knows who has not seen it.
func (k *Kept) ID() string { return k.RRN + "-" + hex.EncodeToString(k.Hash[:idLen/2]) }

// File is the slip as it is checked elsewhere: the body, and behind it a line
// with the signature in base64.
func (k *Kept) File() []byte { return appendSignature(bytes.Clone(k.Bytes), k.Signature) }

// Tail is the last four digits of the card.
func (s *Slip) Tail() string { return tailOf(s.Card) }

func tailOf(masked string) string { return masked[max(0, len(masked)-4):] }

func dayOf(at time.Time) string { return calendar.Of(at, calendar.Beijing).String() }

// chained is the hash of a body.
func chained(body []byte) [32]byte { return sha256.Sum256(body) }
