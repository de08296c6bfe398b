package iso8583

import (
	"fmt"
	"strings"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// hidden stands for what may not be shown at all.
const hidden = "****"

// mask gives what may be shown of a field; secret is false when that is all of
// it.
func (m *Message) mask(f Field, v []byte) (shown string, secret bool) {
	switch f.Secrecy {
	case SecretPAN:
		return maskPAN(string(v)), true
	case SecretTrack:
		return maskTrack(string(v)), true
	case SecretAll:
		return hidden, len(v) > 0
	case SecretBatch:
		if m.IsMTI("0320") && len(v) > 0 {
			return hidden, true // card numbers of the items
		}
	case SecretKeys:
		if m.carriesKeys() && len(v) > 0 {
			return hidden, true
		}
	}
	if f.Number == chipField {
		return maskChip(v, m.spec.PBOCChip)
	}
	return "", false
}

// carriesKeys says that field 62 may hold encrypted keys: it is the answer to a
// sign-on, or to a network code that is not one of the known downloads.
func (m *Message) carriesKeys() bool {
	if !m.IsMTI("0810") {
		return false
	}
	code := part(m.Get(60), 8, 11)
	return code == "" || code[0] != '3' || wordTable()["network "+code][0] == ""
}

// maskPAN shows the first six and the last four digits of 13 or more, as many
// stars as digits between them.
func maskPAN(digits string) string {
	if len(digits) < 13 {
		return hidden
	}
	return digits[:6] + strings.Repeat("*", len(digits)-10) + digits[len(digits)-4:]
}

func maskTrack(track string) string {
	end := strings.IndexAny(track, "D=")
	if end < 0 {
		return hidden
	}
	return maskPAN(track[:end]) + track[end:end+1] + hidden
}

// maskChip is chip data in hexadecimal with X for the digits of secret objects
// and of what is no object.
func maskChip(v []byte, pboc bool) (string, bool) {
	var out strings.Builder
	secret := false
	for rest := v; len(rest) > 0; {
		if rest[0] == 0x00 {
			out.WriteString("00")
			rest = rest[1:]
			continue
		}
		tag, val, after, err := tlv.Next(rest)
		if err != nil {
			out.WriteString(strings.Repeat("X", 2*len(rest)))
			return out.String(), true
		}
		whole := rest[:len(rest)-len(after)]
		fmt.Fprintf(&out, "%X", whole[:len(whole)-len(val)])
		shown, hides := fmt.Sprintf("%X", val), false
		if tag.Constructed() {
			if inner, inside := maskChip(val, pboc); inside {
				shown, hides = inner, true
			}
		} else if emv.ExplainTLV(whole, pboc)[0].Secret {
			shown, hides = strings.Repeat("X", 2*len(val)), true
		}
		out.WriteString(shown)
		secret = secret || hides
		rest = after
	}
	return out.String(), secret
}

// chipField is the field of chip data.
const chipField = 55

// chipLines are the objects of chip data.
func chipLines(v []byte, pboc, clear bool) []Line {
	read := emv.ExplainTLV
	if clear {
		read = emv.ShowTLV
	}
	var lines []Line
	for _, x := range read(v, pboc) {
		l := Line{Depth: 1 + x.Depth, Field: chipField, Key: x.Tag.String(), EN: x.EN, ZH: x.ZH, Value: x.Value, Meaning: x.Meaning, MeaningZH: x.MeaningZH, Secret: x.Secret}
		if x.Tag == 0 {
			l.Key = ""
			if !clear {
				l.Value, l.Secret = hidden, true // bytes that are no object may be anything
			}
		}
		lines = append(lines, l)
	}
	return lines
}
