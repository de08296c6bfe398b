package iso8583

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// demonstration is the message of TestMACOfADemonstration, sealed; its card
// number is 6324392260009942 in track 2.
func demonstration(t testing.TB, k *Key) *Message {
	t.Helper()
	body := "0200302004C020C0981100000000000000005100183402100006324392260009942820D1312101120084393136363838303134303030303030303030303030303030313536ACF46E73838A82F92600000000000000000822000001"
	m := new(Message)
	if err := m.Unpack(UnionPayPOS(), append(unhex(t, posHead+body), "00000000"...)); err != nil {
		t.Fatal(err)
	}
	sealed, err := m.Seal(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unpack(UnionPayPOS(), sealed); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestExplainsPublishedVector: solo123/pgate, as in TestMACVectors. The sum is
// the two blocks XORed, by hand.
func TestExplainsPublishedVector(t *testing.T) {
	x := MACExplanation{Rule: UnionPayPOS().MAC, Blocks: []MACBlock{{Data: [8]byte(unhex(t, "1234567890ABCDEF"))}, {Data: [8]byte(unhex(t, "ABCDEF1234567890"))}}}
	x.retrace(key(t, "2222222222222222"))
	if want := "B9F9B96AA4FDB57F"; string(x.Halves[:]) != want {
		t.Errorf("halves %s, want %s", x.Halves, want)
	}
	if !bytes.Equal(x.Full[:], unhex(t, "E267B6E21913D339")) || string(x.Computed[:]) != "E267B6E2" {
		t.Errorf("%X, %s", x.Full, x.Computed)
	}
}

func TestExplainsAMessage(t *testing.T) {
	k := key(t, "C24A8FB57AA20123")
	m := demonstration(t, k)
	x, err := ExplainMAC(m, k, m.Spec().MAC)
	if err != nil || x.Computed != x.Carried || x.Field != 64 || (len(x.Covered)+x.Filling)%8 != 0 || len(x.Blocks)*8 != len(x.Covered)+x.Filling {
		t.Fatalf("%+v, %v", x, err)
	}
	for _, s := range x.Steps(true) {
		if s.Secret || strings.Contains(s.Value, "XX") || s.EN == "" || s.ZH == "" {
			t.Errorf("shown: %+v", s)
		}
	}
	without, err := ExplainMAC(m, nil, m.Spec().MAC)
	if err != nil || without.Sum != x.Sum || without.Keyed || without.Full != [8]byte{} {
		t.Errorf("without a key: %+v, %v", without, err)
	}
	m.Delete(64)
	if _, err := ExplainMAC(m, k, m.Spec().MAC); err != ErrNoMAC {
		t.Errorf("without the field: %v", err)
	}
}

// TestExplanationMasks: neither the card number nor the sums that give it back.
func TestExplanationMasks(t *testing.T) {
	k := key(t, "C24A8FB57AA20123")
	m := demonstration(t, k)
	x, _ := ExplainMAC(m, k, m.Spec().MAC)
	for _, s := range x.Steps(false) {
		for _, part := range []string{"63243922", "60009942", "ACF46E73838A82F9"} {
			if strings.Contains(s.Value, part) {
				t.Errorf("%s shows %s", s.EN, part)
			}
		}
		if s.EN == "all blocks XORed" && (!s.Secret || s.Value != "XXXXXXXXXXXXXXXX") {
			t.Errorf("a track stands in every column, the sum is %s", s.Value)
		}
	}
}

// TestColumnsGiveNothingBack: what differs only in masked bytes is explained
// alike, but for what is enciphered.
func TestColumnsGiveNothingBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "bytes")
		hidden := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "hidden")
		one := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "one")
		two := bytes.Clone(one)
		for i, h := range hidden {
			if h {
				two[i] = rapid.Byte().Draw(t, "other")
			}
		}
		steps := func(covered []byte) []MACStep {
			x := MACExplanation{Rule: UnionPayPOS().MAC, Covered: covered, hidden: hidden, Filling: (8 - n%8) % 8}
			for whole := append(bytes.Clone(covered), make([]byte, x.Filling)...); len(whole) > 0; whole = whole[8:] {
				x.Blocks = append(x.Blocks, MACBlock{Data: [8]byte(whole)})
			}
			x.retrace(nil)
			return x.Steps(false)
		}
		a, b := steps(one), steps(two)
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("%+v, %+v", a[i], b[i])
			}
		}
	})
}

// TestExplainsEveryDialect by what Seal has computed, and under every algorithm.
func TestExplainsEveryDialect(t *testing.T) {
	for _, raw := range []string{"0123456789ABCDEF", "0123456789ABCDEFFEDCBA9876543210"} {
		k := key(t, raw)
		for _, s := range Specs() {
			for _, a := range algorithmNames {
				var m, again Message
				m.Reset(s, "0200")
				if s.Head == POSHead {
					m.SetHead(unhex(t, posHead))
				}
				m.SetText(2, "6224242000000021")
				m.SetText(4, "10000")
				if s.Head == InterchangeHead {
					m.SetText(100, "03050001")
				}
				rule := s.MAC
				rule.Algorithm = a
				sealed, err := m.SealBy(nil, k, rule)
				if err != nil || again.Unpack(s, sealed) != nil {
					t.Fatalf("%s: %v", s.Name, err)
				}
				x, err := ExplainMAC(&again, k, rule)
				if err != nil || x.Computed != x.Carried {
					t.Errorf("%s by %v: %q, carried %q, %v", s.Name, a, x.Computed, x.Carried, err)
				}
				for _, st := range x.Steps(false) {
					if strings.Contains(st.Value, "6224242000000021") || strings.Contains(st.Value, hexOf("6224242000000021")) {
						t.Errorf("%s: %s shows the card number", s.Name, st.EN)
					}
				}
			}
		}
	}
}

// FuzzExplainMAC: what Unpack takes is explained without a panic, and a card
// number that stands in the message does not stand in the blocks.
func FuzzExplainMAC(f *testing.F) {
	k := key(f, "C24A8FB57AA20123")
	m := demonstration(f, k)
	f.Add(m.wire)
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, s := range Specs() {
			var m Message
			if m.Unpack(s, in) != nil {
				continue
			}
			x, err := ExplainMAC(&m, k, s.MAC)
			if err != nil {
				continue
			}
			if _, computed, _ := m.MACBy(k, s.MAC); computed != x.Computed {
				t.Fatalf("%X, %X", computed, x.Computed)
			}
			x.Steps(false)
		}
	})
}
