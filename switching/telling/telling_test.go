package telling

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		what, code string
		want       Verdict
	}{
		{Advice, "", Again}, {Advice, "91", Again}, {Advice, "96", Again}, {Advice, "A0", Again}, {Advice, "00", Taken}, {Advice, "51", Refused}, {Advice, "25", Refused},
		{Reversal, "98", Again}, {Reversal, "00", Taken}, {Reversal, "25", Taken}, {Reversal, "12", Taken}, {Reversal, "05", Refused}, {Notice, "68", Again}, {Notice, "05", Taken},
	} {
		if got := Read(tt.what, tt.code); got != tt.want {
			t.Errorf("%s answered %q: %d, want %d", tt.what, tt.code, got, tt.want)
		}
	}
}

// TestWait: it never falls, and never leaves a host alone for more than a quarter
// of an hour.
func TestWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1<<40).Draw(t, "attempts")
		if a, b := Wait(n), Wait(n+1); a < 30*time.Second || b < a || b > 15*time.Minute {
			t.Errorf("after %d attempts %v, then %v", n, a, b)
		}
	})
}
