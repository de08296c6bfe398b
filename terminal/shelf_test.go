package terminal_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"koala/terminal"
)

var errNotOurs = errors.New("not ours")

// shelf keeps records that begin with their one-byte key.
func shelf(t interface{ Fatal(...any) }, f *terminal.Flash) *terminal.Shelf {
	s, err := terminal.OpenShelf(f, 64, func(wire []byte) (string, error) {
		if len(wire) == 0 || wire[0] == 0xFF {
			return "", errNotOurs
		}
		return string(wire[:1]), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShelf(t *testing.T) {
	f := terminal.NewFlash(4)
	s := shelf(t, f)
	for _, bad := range [][]byte{nil, {0xFF}, make([]byte, 65)} {
		if err := s.Begin(bad); err == nil {
			t.Errorf("begun %X", bad)
		}
		if _, err := s.Keep(bad); err == nil {
			t.Errorf("kept %X", bad)
		}
	}
	if err := s.Begin([]byte{7, 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Keep([]byte{7, 2}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := s.Keep([]byte{7, 3}); n != 1 || err != nil || !bytes.Equal(s.Batch(9)[0].Wire, []byte{7, 2}) {
		t.Errorf("the same key again: %d %v", n, err)
	}
	if n, ok := s.Kept("\x07"); n != 1 || !ok || len(s.Unsettled()) != 0 {
		t.Errorf("%d %v, unsettled %v", n, ok, s.Unsettled())
	}
	s = shelf(t, f)
	if n, ok := s.Kept("\x07"); n != 1 || !ok || s.Waiting() != 1 {
		t.Errorf("after power: %d %v", n, ok)
	}
	if err := s.Release(1); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Kept("\x07"); ok || s.Next() != 2 {
		t.Error("released, and still there")
	}
}

// Whatever is done, and wherever power fails: what was acknowledged is there
// afterwards, and nothing that was not begun.
func TestShelfSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := terminal.NewFlash(4)
		s := shelf(t, f)
		kept, open := map[byte]bool{}, map[byte]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "acts") {
			key := rapid.ByteRange(1, 9).Draw(t, "key")
			wire := append([]byte{key}, bytes.Repeat([]byte{key}, rapid.IntRange(0, 60).Draw(t, "length"))...)
			f.CutAfter(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "cut"))
			var err error
			switch rapid.IntRange(0, 3).Draw(t, "act") {
			case 0:
				if err = s.Begin(wire); err == nil {
					open[key] = true
				}
			case 1:
				if _, err = s.Keep(wire); err == nil {
					kept[key] = true
					delete(open, key)
				}
			case 2:
				if err = s.Settle(string(key)); err == nil {
					delete(open, key)
				}
			case 3:
				if n := s.Next() - 1; n > 0 {
					if err = s.Release(n); err == nil {
						clear(kept)
					}
				}
			}
			if f.CutAfter(0); err == nil {
				continue
			}
			if !errors.Is(err, terminal.ErrPower) {
				t.Fatal(err)
			}
			f.PowerOn()
			s = shelf(t, f) // the act that was cut may have happened or not
			for k := range kept {
				if _, ok := s.Kept(string(k)); !ok && k != key && s.Waiting() > 0 {
					t.Fatalf("item %d is gone", k)
				}
			}
			kept, open = map[byte]bool{}, map[byte]bool{}
			for _, i := range s.Batch(100) {
				kept[i.Wire[0]] = true
			}
			for _, u := range s.Unsettled() {
				open[u.Wire[0]] = true
			}
		}
		s = shelf(t, f)
		if len(s.Unsettled()) != len(open) || s.Waiting() != len(kept) {
			t.Fatalf("%d open, want %d; %d kept, want %d", len(s.Unsettled()), len(open), s.Waiting(), len(kept))
		}
	})
}
