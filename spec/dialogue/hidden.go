package dialogue

import (
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
