package foreign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"koala/calendar"
)

// stands is all that can be seen of a host's books.
func stands(t *testing.T, h *Host) string {
	t.Helper()
	out := fmt.Sprint(h.Balance(number1), h.cards[number1].lost)
	for n := range 3 {
		file, err := h.ClearingFile(calendar.Of(noon, calendar.Beijing).AddDays(n))
		if err != nil {
			t.Fatal(err)
		}
		out += "\n" + string(file)
	}
	booked := h.Booked()
	for _, rrn := range slices.Sorted(func(yield func(string) bool) {
		for k := range booked {
			if !yield(k) {
				return
			}
		}
	}) {
		out += fmt.Sprintf("%s %d\n", rrn, booked[rrn])
	}
	return out
}

// kept is a desk whose host keeps its books in a file.
func kept(t *testing.T, path string) (*desk, error) {
	d := open(t, nil)
	cfg := d.h.cfg
	cfg.Books = path
	h, err := New(cfg)
	d.h = h
	if err == nil {
		t.Cleanup(func() { h.Close() })
	}
	return d, err
}

// A host that is killed at any byte of its file stands, when it is played again,
// as it stood after the last message that it answered: the same question gets
// the same answer, and what is taken back then is taken back of what was booked
// before.
func TestBooks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "books")
	d, err := kept(t, path)
	if err != nil {
		t.Fatal(err)
	}
	type point struct {
		size   int64
		stands string
	}
	var points []point
	mark := func() {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, point{info.Size(), stands(t, d.h)})
	}
	do := func(want, mti, processing, condition string, fen int64, set map[int]string) asked {
		t.Helper()
		a, code := d.do(mti, processing, condition, fen, set)
		if code != want {
			t.Fatalf("%s %s: %s, not %s", mti, processing, code, want)
		}
		mark()
		return a
	}
	mark()
	sale := do("00", "0200", "000000", "00", 100_00, nil)
	gone := do("00", "0200", "000000", "00", 70_00, nil)
	do("00", "0200", "200000", "00", 70_00, map[int]string{90: gone.original()})
	tip := do("00", "0200", "000000", "00", 30_00, nil)
	do("00", "0220", "000000", "00", 33_00, map[int]string{90: tip.original()})
	held := do("00", "0100", "030000", "06", 50_00, nil)
	done := do("00", "0200", "000000", "06", 55_00, map[int]string{90: held.original()})
	do("00", "0420", "000000", "06", 55_00, map[int]string{90: done.original()})
	do("00", "0220", "200000", "00", 20_00, map[int]string{90: sale.original()})
	late := d.build("0200", "000000", "00", 5_00, nil)
	do("25", "0420", "000000", "00", 5_00, map[int]string{90: late.original()})
	do("51", "0200", "000000", "00", 1_000_000_00, nil)
	if code := d.send(late).Text(39); code != "40" {
		t.Errorf("what was given up before it came: %s", code)
	}
	for i, fen := range []int64{-10_00, 10_00, -10_00} {
		if err := d.h.Dispute(fmt.Sprint("case/", i), d.h.order[0].record.RRN, fen, noon.AddDate(0, 0, 1)); err != nil {
			t.Fatal(err)
		}
		mark()
	}
	if d.h.Correct(d.h.order[4].record.RRN); d.h.Dispute("case/9", "000000000000", -1, noon) == nil {
		t.Error("a dispute about nothing")
	}
	d.h.Report(number1, true)
	mark()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.h.Handle(t.Context(), d.build("0200", "000000", "00", 1, nil).raw); err == nil {
		t.Error("a closed host answers what it cannot keep")
	}
	for n := 0; n <= len(whole); n += 23 {
		want := "" // of a file that was never begun: nothing stands
		for _, p := range points {
			if int64(n) >= p.size || want == "" {
				want = p.stands
			}
		}
		cut := filepath.Join(dir, "cut")
		if err := os.WriteFile(cut, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := kept(t, cut)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if got := stands(t, again.h); got != want && int64(n) < points[len(points)-2].size { // the last step wrote two lines
			t.Fatalf("cut at %d:\n%s\nnot\n%s", n, got, want)
		}
	}
	again, err := kept(t, path)
	if err != nil || stands(t, again.h) != points[len(points)-1].stands {
		t.Fatal("the whole file", err)
	}
	again.h.Report(number1, false)
	if code := again.send(sale).Text(39); code != "00" {
		t.Errorf("the same question gets %s", code)
	}
	again.n = 100
	before := again.h.Balance(number1)
	if _, code := again.do("0420", "000000", "00", 33_00, map[int]string{90: tip.original()}); code != "00" || again.h.Balance(number1) != before+33_00 {
		t.Errorf("an earlier sale is taken back: %s, %d", code, again.h.Balance(number1)-before)
	}
	if err := again.h.Dispute("case/0", "000000"+sale.trace, -10_00, noon); err != nil || again.h.Balance(number1) != before+33_00 {
		t.Error("a dispute moves twice", err)
	}
}

// Another institution's file and a line that somebody touched are refused.
func TestForeignBooks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books")
	d, err := kept(t, path)
	if err != nil {
		t.Fatal(err)
	}
	d.do("0200", "000000", "00", 100_00, nil)
	d.h.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(b []byte){func(b []byte) { b[7] ^= 1 }, func(b []byte) { b[len(b)-20] ^= 1 }, func(b []byte) { b[len(d.h.head())] = 'x' }} {
		bent := slices.Clone(text)
		change(bent)
		if err := os.WriteFile(path, bent, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := kept(t, path); !errors.Is(err, ErrBooks) {
			t.Errorf("change %d: %v", i, err)
		}
	}
}

// FuzzBooks: no file of any kind crashes the host that opens it.
func FuzzBooks(f *testing.F) {
	f.Add([]byte("koala: books"))
	f.Add([]byte("00000000 {}\n"))
	f.Add([]byte("a3a6bf43 {}\n00000000 {\"acts\":[{\"key\":\"a\",\"of\":\"b\"}]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d := open(t, nil)
		d.h.cfg.Books = filepath.Join(t.TempDir(), "books")
		if err := os.WriteFile(d.h.cfg.Books, append(d.h.head(), text...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.h.recall(); err == nil {
			_, _ = d.h.ClearingFile(calendar.Of(noon, calendar.Beijing))
			d.do("0200", "000000", "00", 1_00, nil)
			d.h.Close()
		} else if !errors.Is(err, ErrBooks) {
			t.Error(err)
		}
	})
}
