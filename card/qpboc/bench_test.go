package qpboc

import (
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
)

// BenchmarkOffline is the card's side of an offline payment with a 1024-bit key:
// SELECT, GPO and the records.
func BenchmarkOffline(b *testing.B) {
	k := newBench(b, issued())
	k.set(emv.TagAmount, amount(0))
	gpo := k.gpoCommand()
	commands := []iso7816.Command{iso7816.Select([]byte(debitAID)), gpo,
		iso7816.ReadRecord(1, 2, 0), iso7816.ReadRecord(1, 3, 0), iso7816.ReadRecord(2, 3, 0), iso7816.ReadRecord(1, 8, 0)}
	for i := range b.N {
		if i%60000 == 0 { // the transaction counter ends
			b.StopTimer()
			k = newBench(b, issued())
			b.StartTimer()
		}
		_ = k.e.PowerOn(card.Contactless)
		for _, c := range commands {
			if r, err := k.e.Transmit(c); err != nil || !r.SW.OK() {
				b.Fatalf("%v: %v %v", c, r.SW, err)
			}
		}
	}
}

// One element with the card is small, so that a band of six stays below 200 KB.
func TestMemory(t *testing.T) {
	b := newBench(t, issued())
	if n := len(b.e.Image()); n > 12<<10 {
		t.Errorf("an element with one card has %d bytes", n)
	} else {
		t.Logf("%d bytes with one card", n)
	}
}
