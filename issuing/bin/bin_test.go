package bin_test

import (
	"strings"
	"testing"

	"koala/issuing/bin"
	"koala/spec/pan"
)

// TestOf: the longest prefix decides, of the number's own length before one of any.
func TestOf(t *testing.T) {
	for _, r := range []bin.Range{bin.Debit, bin.Credit, bin.ECash, bin.SM} {
		number, err := pan.Complete(r.Prefix + strings.Repeat("0", r.Length-1-len(r.Prefix)))
		if got, ok := bin.Of(number); err != nil || !ok || got != r || !got.House() {
			t.Errorf("%s: %+v %t (%v)", r.Prefix, got, ok, err)
		}
		if got, ok := bin.Of(number[:len(number)-1]); ok && got.House() {
			t.Errorf("%s with a digit less is the house's", r.Prefix)
		}
	}
	for _, p := range []pan.PAN{"", "6", "62", "0000000000000000"} {
		if got, ok := bin.Of(p); ok {
			t.Errorf("%q is %+v", string(p), got)
		}
	}
}

// TestAll: each range that is listed decides about a number of its own, unless a
// longer one within it does.
func TestAll(t *testing.T) {
	all := bin.All()
	if len(all) < 2_000 {
		t.Fatalf("%d ranges", len(all))
	}
	for i, r := range all {
		if i > 0 && (r.Prefix < all[i-1].Prefix || r.Prefix == all[i-1].Prefix && r.Length <= all[i-1].Length) {
			t.Errorf("%s of %d stands behind %s of %d", r.Prefix, r.Length, all[i-1].Prefix, all[i-1].Length)
		}
		if len(r.Prefix) < 3 || len(r.Prefix) > 10 || strings.Trim(r.Prefix, "0123456789") != "" || r.Words(true) == "" || r.Words(false) == "" {
			t.Errorf("%+v", r)
		}
		length := r.Length
		if length == 0 {
			length = 16
		}
		got, ok := bin.Of(pan.PAN(r.Prefix + strings.Repeat("0", length-len(r.Prefix))))
		if !ok || !strings.HasPrefix(got.Prefix, r.Prefix) || got.Prefix == r.Prefix && r.Length != 0 && got != r {
			t.Errorf("%s of %d is %+v", r.Prefix, r.Length, got)
		}
	}
}
