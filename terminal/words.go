package terminal

import (
	"fmt"

	"koala/spec/iso7816"
)

// Words is a text in English and in Chinese.
type Words [2]string

// In is the text, in Chinese if zh.
func (w Words) In(zh bool) string {
	if zh {
		return w[1]
	}
	return w[0]
}

// Line says what a tap came to in one line: the result, and if there is one the
// reason with the status word behind it; 0 is none.
func Line(result, reason string, sw iso7816.SW, zh bool) string {
	if reason == "" {
		return result
	}
	text := result + Words{": ", "："}.In(zh) + reason
	if sw != 0 {
		text += fmt.Sprintf(" (%04X %s)", uint16(sw), sw.Meaning(zh))
	}
	return text
}
