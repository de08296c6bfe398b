package main

import (
	"strings"
	"testing"
)

// A till takes a sale through pcscd, from the air and from contacts under both
// transports, and the band has paid.
func TestPosThroughReader(t *testing.T) {
	r := newRig(t)
	band := r.band()
	t.Setenv("PCSCLITE_CSOCK_NAME", r.socket())
	for i, tt := range []struct{ personality, more string }{{"contactless", ""}, {"contact-t0", "--contact"}, {"contact-t1", "--contact"}} {
		stop := r.serve(band, tt.personality)
		s := koala(t, "", append(strings.Fields("pos --reader Koala --amount 100 --test-keys --json"), strings.Fields(tt.more)...)...)
		if v := saidOf(t, s); s.code != exitFine || v.Result != "approved" {
			t.Errorf("%s: %+v", tt.personality, s)
		}
		stop()
		if got := *showBand(t, band).Cards[1].Fen; got != testCash-int64(i+1)*1_00 {
			t.Errorf("%s: %d fen are left", tt.personality, got)
		}
	}
}
