package dialogue

import (
	"fmt"
	"strings"

	"koala/spec/iso7816"
)

// filled sets the bits that were not written down.
func filled(raw, mask []byte) []byte {
	if mask == nil {
		return raw
	}
	out := make([]byte, len(raw))
	for i := range raw {
		out[i] = raw[i] | mask[i]
	}
	return out
}

// merged keeps what a line says whatever the digits are that were not written
// down; hexadecimal that differs gets X for the digits that do.
func merged(a, b Line) Line {
	if a.Explanation.EN != b.Explanation.EN {
		a.Explanation.EN, a.Explanation.ZH = common(a.Explanation.EN, b.Explanation.EN), common(a.Explanation.ZH, b.Explanation.ZH)
	}
	a.Explanation.Fields = mergedFields(a.Explanation.Fields, b.Explanation.Fields)
	n := min(len(a.Objects), len(b.Objects))
	for i := range n {
		x, y := &a.Objects[i], b.Objects[i]
		if x.Tag != y.Tag || x.Depth != y.Depth {
			n = i
			break
		}
		x.Value = unsureHex(x.Value, y.Value)
		if x.Text != y.Text {
			x.Text, x.TextZH = "", ""
		}
	}
	a.Objects = a.Objects[:n]
	a.Known = a.Known && b.Known
	return a
}

// common is what two titles begin with alike, at least the command's name.
func common(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	cut := strings.TrimRight(strings.ToValidUTF8(a[:n], ""), " :：,，(（")
	if cut == "" {
		return "…"
	}
	return cut + "…"
}

func mergedFields(a, b []iso7816.Field) []iso7816.Field {
	var out []iso7816.Field
	for i := range min(len(a), len(b)) {
		if a[i].Name != b[i].Name {
			break
		}
		f := a[i]
		f.Value = unsureHex(f.Value, b[i].Value)
		out = append(out, f)
	}
	return out
}

// unsureHex is a where both agree. Digits that differ in two hexadecimal texts
// of one length become X, other texts "not written down".
func unsureHex(a, b string) string {
	switch {
	case a == b:
		return a
	case len(a) != len(b) || !isHex(a) || !isHex(b):
		return "?"
	}
	out := []byte(a)
	for i := range out {
		if a[i] != b[i] {
			out[i] = 'X'
		}
	}
	return string(out)
}

// A hiding says why a digit is not shown.
type hiding byte

const (
	open     hiding = iota
	personal        // names a person; shown when the options say so
	secret          // a key, a PIN, personalisation data; never shown
)

// shown is raw in hexadecimal, X for digits that are not known or, unless the
// options say otherwise, name a person.
func (s *Session) shown(raw, mask []byte, hide []hiding) string {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, 2*len(raw))
	for i, b := range raw {
		for half, d := range [2]byte{b >> 4, b & 0x0F} {
			switch {
			case mask != nil && mask[i]>>(4*(1-half))&0x0F != 0,
				2*i+half < len(hide) && (hide[2*i+half] == secret || hide[2*i+half] == personal && !s.options.Clear):
				out = append(out, 'X')
			default:
				out = append(out, digits[d])
			}
		}
	}
	return string(out)
}

// Hex reads hexadecimal with or without spaces, colons, commas and 0x. A digit
// written as ".", "X", "*" or "?" is not known: its bits are set in mask and
// zero in raw; mask is nil when everything is known.
func Hex(s string) (raw, mask []byte, err error) {
	hidden := false
	var digits, masks []byte
	for _, token := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n:,-_|", r) }) {
		if len(token) > 2 && token[0] == '0' && (token[1] == 'x' || token[1] == 'X') && len(token)%2 == 0 && isHex(token[2:]) {
			token = token[2:]
		}
		if len(token) == 1 { // tools that print a byte below 10 as one digit
			token = "0" + token
		}
		for _, r := range token {
			d, ok := digit(r)
			if !ok {
				return nil, nil, fmt.Errorf("%w: %q", ErrHex, r)
			}
			if d == unknownDigit {
				hidden = true
				digits, masks = append(digits, 0), append(masks, 0x0F)
				continue
			}
			digits, masks = append(digits, d), append(masks, 0)
		}
	}
	if len(digits)%2 != 0 {
		return nil, nil, fmt.Errorf("%w: %d digits", ErrHex, len(digits))
	}
	for i := 0; i < len(digits); i += 2 {
		raw = append(raw, digits[i]<<4|digits[i+1])
		mask = append(mask, masks[i]<<4|masks[i+1])
	}
	if !hidden {
		mask = nil
	}
	return raw, mask, nil
}

const unknownDigit = 0x10

func isHex(s string) bool {
	for _, r := range s {
		if d, ok := digit(r); !ok || d == unknownDigit {
			return false
		}
	}
	return true
}

func digit(r rune) (byte, bool) {
	switch {
	case r >= '0' && r <= '9':
		return byte(r - '0'), true
	case r >= 'a' && r <= 'f':
		return byte(r-'a') + 10, true
	case r >= 'A' && r <= 'F':
		return byte(r-'A') + 10, true
	case strings.ContainsRune(".xX*?•", r):
		return unknownDigit, true
	}
	return 0, false
}
