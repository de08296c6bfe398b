package device_test

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"koala/spec/purse"
)

// FuzzReport: no body makes the house break, and none changes anything but one
// that the script in the band's hands explains.
func FuzzReport(f *testing.F) {
	d := newDoor(f, "")
	for _, s := range []string{`{"script":"x","answers":["9000"],"cut":true}`, `{"script":"` + d.script + `","answers":["6A82"]}`, `{}`, `[]`,
		`{"script":"` + d.script + `","answers":["9000","` + strings.Repeat("00", 16) + `9000"]}`, `{"script":"\u0000","cut":true}`, `null`, `{"answers":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d.TB = t
		before := d.mark()
		w := d.report(string(body))
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if after := d.mark(); w.Code != http.StatusNoContent && !after.equal(before) || after.float != before.float {
			t.Fatalf("%d: before %+v, after %+v", w.Code, before, after)
		}
	})
}

// FuzzBatch: no bytes make the house break or book anything. With seal the
// checksum is made right, so that what lies behind it is reached too.
func FuzzBatch(f *testing.F) {
	d := newDoor(f, "")
	good := d.body(d.batch)
	f.Add(good[:len(good)-1], false)
	f.Add(flip(good, 20), true)
	f.Add(flip(good, 30), true)
	f.Add(flip(good, len(good)-10), true)
	f.Add([]byte("KDB\x01"), true)
	f.Fuzz(func(t *testing.T, body []byte, seal bool) {
		if seal {
			body = sealed(body)
		}
		d.TB = t
		before := d.mark()
		w := d.hand(body)
		if w.Code >= 500 {
			t.Fatalf("%d %s for %s", w.Code, w.Body, hex.EncodeToString(body))
		}
		after := d.mark()
		if w.Code != 200 && !after.equal(before) {
			t.Fatalf("%d: before %+v, after %+v", w.Code, before, after)
		}
		if b, err := purse.ParseBatch(body); w.Code == 200 && err != nil {
			t.Fatalf("taken though %v", err)
		} else if err == nil && after.tip != before.tip && !d.genuine(b) {
			t.Fatalf("booked: %+v", b)
		}
	})
}

// genuine says whether a batch has a debit that the card made.
func (d *door) genuine(b purse.Batch) bool {
	for _, x := range b.Debits {
		if d.h.Keys.CheckDebitTAC(ctx, x) == nil {
			return true
		}
	}
	return false
}
