package app

import (
	"testing"
	"time"

	"koala/risk"
	"koala/switching"
)

// TestWhatIsCompared: neither the second copy of a tap nor what waits for people
// is in the books that a host's file is compared with.
func TestWhatIsCompared(t *testing.T) {
	waits := map[string]bool{"2": true}
	for _, tt := range []struct {
		t    switching.Txn
		want bool
	}{
		{switching.Txn{RRN: "1", Kind: "tap", State: switching.Noted}, false},
		{switching.Txn{RRN: "1", Kind: "sale", State: switching.Approved}, true}, // cleared at the cut-off
		{switching.Txn{RRN: "2", Kind: "sale", State: switching.Approved}, false},
		{switching.Txn{RRN: "2", Kind: "sale", State: switching.Cleared}, true}, // decided
		{switching.Txn{RRN: "3", Kind: "sale", State: switching.Declined}, true},
	} {
		if got := booked(tt.t, waits); got != tt.want {
			t.Errorf("%s %s %s: %v", tt.t.RRN, tt.t.Kind, tt.t.State, got)
		}
	}
}

// TestMovedDeviceIsFelt: for thirty days a device that came from another shop is
// away from where it was.
func TestMovedDeviceIsFelt(t *testing.T) {
	set := risk.House()
	now := time.Date(2015, 9, 16, 10, 0, 0, 0, time.UTC)
	s := spot{since: now, here: risk.Place{Lat: 39_9000, Lon: 116_4000}, was: risk.Place{Lat: 40_1000, Lon: 116_4000}, level: risk.NormalRisk}
	for after, want := range map[time.Duration]bool{time.Hour: true, movedTime - time.Second: true, movedTime: false} {
		f := risk.Fact{Ref: "1", At: now.Add(after), Kind: risk.Sale, Shop: "shop_1", Terminal: "10000001", Category: "5411", Fen: 12_34, Entry: risk.Chip}
		s.tell(&f)
		got := false
		for _, h := range risk.Evaluate(&set, &f, &risk.Window{}).Hits {
			got = got || h.Rule == risk.MovedTerminal
		}
		if got != want {
			t.Errorf("%v after the move: %v", after, got)
		}
	}
}
