package pos_test

import (
	"testing"

	"koala/card"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// BenchmarkQuickpass is a whole offline payment: the card with its 1024-bit
// signature, the kernel, authentication of the whole chain, and the store.
func BenchmarkQuickpass(b *testing.B) {
	s := newShop(b, func(c *pos.Config) { c.Sales = terminal.NewFlash(64) })
	p := issue(b, func(c *pboc.Card) { c.Balance, c.BalanceLimit = 900_000_00, 999_999_99 })
	b.ResetTimer()
	for i := range b.N {
		r := s.tap(p, 1)
		if r.Outcome.Result != kernel.Approved {
			b.Fatal(r.Outcome)
		}
		if i%100 == 99 {
			b.StopTimer()
			if _, _, err := s.till.Close(); err != nil {
				b.Fatal(err)
			}
			if err := s.till.Release(s.till.Batch(1).First + uint32(s.till.Waiting()) - 1); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if i%60000 == 59999 { // its counter ends
			p = issue(b)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "taps/s")
}

// BenchmarkKernel is the same without a till around it.
func BenchmarkKernel(b *testing.B) {
	s := newShop(b)
	k := must(kernel.New(s.cfg.Kernel))
	p := issue(b, func(c *pboc.Card) { c.Balance, c.BalanceLimit = 900_000_00, 999_999_99 })
	b.ResetTimer()
	for range b.N {
		o, err := k.Tap(p.present(card.Contactless), kernel.Transaction{Fen: 1, At: noon, Unpredictable: [4]byte{1}, Sequence: 1}, kernel.Seams{})
		if err != nil || o.Result != kernel.Approved {
			b.Fatal(o, err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "taps/s")
}
