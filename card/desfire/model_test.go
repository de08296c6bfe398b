package desfire_test

import (
	"testing"

	"koala/spec/desfire"
	"pgregory.net/rapid"
)

// Any order of credits, debits, limited credits, commits, aborts, power losses
// and cuts agrees with integers.
func TestValueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, mixedApp())
		b.enter(1, tillKey)
		value, limited := int64(5000), int64(0)
		debits, credits, back := int64(0), int64(0), int64(0)
		touched := false
		forget := func() { debits, credits, back, touched = 0, 0, 0, false }
		again := func() {
			forget()
			b.tap()
			b.enter(1, tillKey)
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			n := rapid.Int64Range(0, 30_000).Draw(t, "fen")
			switch act := rapid.IntRange(0, 7).Draw(t, "act"); act {
			case 0, 1:
				fits := value+credits+n <= 50_000
				if err := b.h.Credit(0, int32(n), desfire.Enciphered); (err == nil) != fits {
					t.Fatalf("credit %d at %d+%d: %v", n, value, credits, err)
				} else if fits {
					credits, touched = credits+n, true
				} else {
					again()
				}
			case 2, 3:
				fits := value-debits-n >= 0
				if err := b.h.Debit(0, int32(n), desfire.Enciphered); (err == nil) != fits {
					t.Fatalf("debit %d at %d-%d: %v", n, value, debits, err)
				} else if fits {
					debits, touched = debits+n, true
				} else {
					again()
				}
			case 4:
				n %= 3000
				fits := back+n <= limited && value+credits+n <= 50_000
				if err := b.h.LimitedCredit(0, int32(n), desfire.Enciphered); (err == nil) != fits {
					t.Fatalf("limited credit %d of %d: %v", n, limited, err)
				} else if fits {
					credits, back, touched = credits+n, back+n, true
				} else {
					again()
				}
			case 5:
				err := b.h.Commit()
				if st, _ := desfire.Refused(err); !touched && st != desfire.NoChange || touched && err != nil {
					t.Fatalf("commit: %v", err)
				}
				value += credits - debits
				if limited -= back; debits > 0 {
					limited = debits
				}
				forget()
			case 6:
				again()
			case 7:
				b.e.Memory().CutAt(rapid.IntRange(1, 8).Draw(t, "cut"), rapid.IntRange(0, 64).Draw(t, "keep"))
				err := b.h.Commit()
				b.e.Memory().CutAt(0, 0)
				moved, left := credits-debits, limited-back
				if debits > 0 {
					left = debits
				}
				done := touched && err == nil
				again()
				v, verr := b.h.Value(0, desfire.Enciphered)
				s, serr := b.h.FileSettings(0)
				if verr != nil || serr != nil {
					t.Fatalf("%v %v", verr, serr)
				}
				was, is := int64(v) == value && int64(s.Limited) == limited, int64(v) == value+moved && int64(s.Limited) == left
				if done && !is || !was && !is {
					t.Fatalf("after a cut: %d limited %d, from %d %d by %d %d", v, s.Limited, value, limited, moved, left)
				}
				value, limited = int64(v), int64(s.Limited)
			}
			v, err := b.h.Value(0, desfire.Enciphered)
			if err != nil || int64(v) != value {
				t.Fatalf("value %d %v, want %d", v, err, value)
			}
		}
	})
}

// FuzzAPDUs: any bytes as commands never panic, and no money moves without keys.
func FuzzAPDUs(f *testing.F) {
	for _, seed := range []string{
		"09 905A000003104C4B00 07 90AA0000010100 05 90AF000000 07 90F50000010000",
		"09 905A000003104C4B00 0B 900C000005 00E803000000 05 90C7000000",
		"05 9060000000 05 90AF000000 05 906A000000 05 90FC000000 09 90DA000003104C4B00",
		"0B 90CA000005 030201 0F 81 00 09 905A000003 010203 00 0D 90CD000007 00 00 EEEE 100000 00 0F 903D000009 00 000000 020000 AABB 00",
		"05 FF60000000 03 905A00 06 90600000 0100",
	} {
		f.Add(unhex(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b := newBench(t, mixedApp(), publicApp())
		before := b.state()
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			if _, err := b.e.TransmitRaw(in[1 : 1+n]); err != nil {
				t.Fatalf("%X: %v", in[1:1+n], err)
			}
			in = in[1+n:]
		}
		if after := b.state(); after != before {
			t.Fatalf("changed from %v to %v", before, after)
		}
	})
}
