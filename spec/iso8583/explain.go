package iso8583

import (
	"fmt"
	"strings"
)

// A MACBlock is one block of 8 bytes that a MAC is made of.
type MACBlock struct {
	Data [8]byte
	// After is what the chain holds behind the block: under ECB the exclusive or
	// so far, under the others the enciphered block, which needs the key.
	After [8]byte
}

// A MACExplanation is how the MAC of a message comes about, every value between
// the message and its field 64 or 128. It holds no key. Without one it ends where
// the first encipherment would begin.
type MACExplanation struct {
	Rule    MACRule
	Field   int    // that carries the MAC
	Covered []byte // what is covered, without filling
	Filling int    // bytes 00 that fill the last block
	Blocks  []MACBlock
	Keyed   bool // First, Mixed, Full, Computed and a chain's After are there

	Sum    [8]byte  // ECB: all blocks XORed
	Halves [16]byte // ECB: Sum in hexadecimal characters
	First  [8]byte  // ECB: the first eight characters enciphered
	Mixed  [8]byte  // ECB: First XORed with the other eight
	Full   [8]byte  // enciphered once more (ECB), or the chain's last block

	Computed [8]byte // as the field carries it
	Carried  [8]byte

	hidden []bool // of Covered: what Describe masks
}

// ExplainMAC retraces the MAC of a message that Unpack has read, by rule r. With
// no key (nil) it gives what needs none. It is ErrNoMAC when the message carries
// no MAC.
func ExplainMAC(m *Message, k *Key, r MACRule) (MACExplanation, error) {
	n := m.MACField()
	if m.wire == nil || !m.Has(n) || m.last() != n {
		return MACExplanation{}, ErrNoMAC
	}
	x := MACExplanation{Rule: r, Field: n, Carried: [8]byte(m.values[n])}
	x.Covered = append(x.Covered, m.covered(m.wire, r, func(field, from, to int) {
		for secret := m.secret(field); len(x.hidden) < to; {
			x.hidden = append(x.hidden, secret && len(x.hidden) > from) // not the blank before it
		}
	})...)
	x.hidden = append(x.hidden, make([]bool, len(x.Covered)-len(x.hidden))...)
	if !r.Chosen {
		m.hide(x.hidden)
	}
	x.Filling = (8 - len(x.Covered)%8) % 8
	whole := append(append([]byte{}, x.Covered...), make([]byte, x.Filling)...)
	for ; len(whole) > 0; whole = whole[8:] {
		x.Blocks = append(x.Blocks, MACBlock{Data: [8]byte(whole)})
	}
	x.retrace(k)
	return x, nil
}

// retrace computes the values between, each from what stands before it.
func (x *MACExplanation) retrace(k *Key) {
	x.Keyed = k != nil
	if x.Rule.Algorithm == ECB {
		for i := range x.Blocks {
			for j, b := range x.Blocks[i].Data {
				x.Sum[j] ^= b
			}
			x.Blocks[i].After = x.Sum
		}
		for i, b := range x.Sum {
			copy(x.Halves[2*i:], pairs[b][:])
		}
	}
	if k == nil {
		return
	}
	if x.Rule.Algorithm == ECB {
		x.First = [8]byte(x.Halves[:])
		k.encrypt(x.First[:])
		for i, b := range x.Halves[8:] {
			x.Mixed[i] = x.First[i] ^ b
		}
		x.Full = x.Mixed
		k.encrypt(x.Full[:])
	} else {
		for i := range x.Blocks {
			for j, b := range x.Blocks[i].Data {
				x.Full[j] ^= b
			}
			if x.Rule.Algorithm == X919 && i < len(x.Blocks)-1 {
				k.single.EncryptBlock(x.Full[:], x.Full[:])
			} else {
				k.encrypt(x.Full[:])
			}
			x.Blocks[i].After = x.Full
		}
	}
	x.Computed = x.Rule.text(x.Full)
}

// secret says that Describe masks something of a field.
func (m *Message) secret(n int) bool {
	for _, l := range m.describe(n, m.values[n], Options{}) {
		if l.Secret {
			return true
		}
	}
	return false
}

// hide marks what is secret in a message as it is on the wire, from its type on:
// of chip data the objects that are, of other fields the whole with its length.
func (m *Message) hide(hidden []bool) {
	var again Message // reads the lengths and leaves m as it is
	again.clear(m.spec)
	in := m.wire[len(m.head):]
	at, err1 := again.unpackMTI(in)
	n, err2 := again.unpackBitmap(in[at:])
	at += n
	for field, v := range m.Fields() {
		if at >= len(hidden) {
			return // the MAC
		}
		n, err := again.unpackField(field, in[at:])
		if err1 != nil || err2 != nil || err != nil { // fields were changed since: all that is left may be anything
			n = len(hidden) - at
			for i := range hidden[at:] {
				hidden[at+i] = true
			}
		} else if m.secret(field) {
			part := hidden[at:min(at+n, len(hidden))]
			shown, _ := m.mask(m.spec.fields[field], v)
			precise := field == chipField && len(shown) == 2*len(v) && len(v) <= len(part)
			for i := range part {
				j := i - (len(part) - len(v)) // the value ends the field
				part[i] = !precise || j >= 0 && shown[2*j] == 'X'
			}
		}
		at += n
	}
}

// A MACStep is one line of an explanation.
type MACStep struct {
	EN, ZH string
	Value  string // bytes in hexadecimal, XX for a byte that is masked
	Secret bool   // something of Value is masked
}

// Steps are the explanation in words. Unless all is to be shown, what Describe
// masks is masked, and so is every value from which it could be worked out: of
// an exclusive or, the columns that a masked byte stands in.
func (x *MACExplanation) Steps(all bool) []MACStep {
	hidden := x.hidden
	if all {
		hidden = make([]bool, len(x.Covered))
	}
	var columns [8]bool
	for i, h := range hidden {
		columns[i&7] = columns[i&7] || h
	}
	out := []MACStep{x.coveredStep(hidden),
		{EN: "bytes 00 that fill the last block of 8", ZH: "末块补 00 的字节数", Value: fmt.Sprint(x.Filling)}}
	for i, b := range x.Blocks {
		part := append(hidden[8*i:min(8*i+8, len(hidden)):min(8*i+8, len(hidden))], make([]bool, max(0, 8*i+8-len(hidden)))...)
		s := step(fmt.Sprintf("block %d", i+1), fmt.Sprintf("第 %d 块", i+1), b.Data[:], part)
		out = append(out, s)
		if x.Rule.Algorithm != ECB && x.Keyed {
			out = append(out, step("XORed with the one before and enciphered", "与前一结果异或后加密", b.After[:], nil))
		}
	}
	if x.Rule.Algorithm == ECB {
		out = append(out, x.ecbSteps(columns)...)
	}
	if x.Keyed {
		out = append(out, MACStep{EN: "the MAC, as the field carries it", ZH: "MAC（按域内格式）", Value: x.macText(x.Computed)})
	}
	return append(out, MACStep{EN: fmt.Sprintf("field %d of the message", x.Field), ZH: fmt.Sprintf("报文第 %d 域", x.Field), Value: x.macText(x.Carried)})
}

func (x *MACExplanation) coveredStep(hidden []bool) MACStep {
	en, zh := "covered: from the message type to the last field before the MAC", "参与计算：从消息类型到 MAC 前最后一个域"
	if x.Rule.Chosen {
		en, zh = "covered: the message type and the chosen fields, joined by blanks", "参与计算：消息类型及所选域，以空格连接"
	}
	return step(fmt.Sprintf("%s, %d bytes", en, len(x.Covered)), fmt.Sprintf("%s，共 %d 字节", zh, len(x.Covered)), x.Covered, hidden)
}

// ecbSteps are those of UnionPay's algorithm behind the blocks.
func (x *MACExplanation) ecbSteps(columns [8]bool) []MACStep {
	var twice [16]bool // a byte is two characters
	for i := range twice {
		twice[i] = columns[i/2]
	}
	out := []MACStep{step("all blocks XORed", "各块逐块异或", x.Sum[:], columns[:]),
		step("that in hexadecimal characters: the first eight", "转为十六进制字符：前 8 个", x.Halves[:8], twice[:8]),
		step("and the other eight", "后 8 个", x.Halves[8:], twice[8:])}
	if !x.Keyed {
		return out
	}
	return append(out, step("the first eight enciphered", "前 8 个字符加密", x.First[:], nil),
		step("XORed with the other eight", "与后 8 个字符异或", x.Mixed[:], twice[8:]),
		step("enciphered again", "再次加密", x.Full[:], nil))
}

func (x *MACExplanation) macText(mac [8]byte) string {
	if x.Rule.Hex {
		if _, ok := printed(mac[:]); ok {
			return string(mac[:])
		}
	}
	return fmt.Sprintf("%X", mac)
}

// step writes bytes, those that are hidden as XX.
func step(en, zh string, v []byte, hidden []bool) MACStep {
	s := MACStep{EN: en, ZH: zh}
	var out strings.Builder
	for i, b := range v {
		if hidden != nil && hidden[i] {
			out.WriteString("XX")
			s.Secret = true
			continue
		}
		fmt.Fprintf(&out, "%02X", b)
	}
	s.Value = out.String()
	return s
}
