package unionpay_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"koala/terminal/unionpay"
)

// Whatever a shop does in whatever order over whatever line, its totals and the
// host's are the same once everything has been told, and the batch balances.
func TestTotalsAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newShop(t)
		s.host.fault = func(n int, _, answer []byte) ([]byte, error) {
			switch {
			case n > 2 && rapid.IntRange(0, 9).Draw(rt, "lost") == 0:
				return nil, errSilent
			case n < -2 && rapid.IntRange(0, 9).Draw(rt, "answer lost") == 0:
				return nil, errSilent
			}
			return answer, nil
		}
		var traces []uint32
		note := func(r unionpay.Result, err error) {
			if !allowed(err) {
				for _, e := range []error{unionpay.ErrOriginal, unionpay.ErrUndone, unionpay.ErrLimit} {
					if errors.Is(err, e) {
						return
					}
				}
				rt.Fatal(err)
			}
			if err == nil && r.Approved {
				traces = append(traces, r.STAN)
			}
		}
		pick := func() uint32 {
			if len(traces) == 0 {
				return 0
			}
			return rapid.SampledFrom(traces).Draw(rt, "trace")
		}
		for range rapid.IntRange(1, 12).Draw(rt, "orders") {
			fen := rapid.Uint64Range(1, 10_000).Draw(rt, "fen")
			card := unionpay.Card{Track2: stripe}
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0, 1:
				note(s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: card}))
			case 2:
				note(s.pos.Do(unionpay.Order{Kind: unionpay.OfflineSale, Fen: fen, Card: card, Auth: "V00001"}))
			case 3:
				note(s.pos.Void(pick()))
			case 4:
				if stan := pick(); stan != 0 {
					note(s.pos.Do(unionpay.Order{Kind: unionpay.Tip, STAN: stan, Fen: fen}))
				}
			case 5:
				note(s.pos.Do(unionpay.Order{Kind: unionpay.Refund, Fen: fen, Card: card, Original: unionpay.Original{Batch: 1, STAN: 1, Date: "0228"}}))
			case 6:
				s.boot()
			}
		}
		s.host.fault = nil
		s.equal("rapid")
		if x := s.settle(); !x.Balanced {
			rt.Fatalf("%+v", x)
		}
	})
}

// A tip keeps between the sale and a fifth more, whatever the sale.
func TestTipBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newShop(t)
		fen := rapid.Uint64Range(1, 1_000_000).Draw(rt, "sale")
		tip := rapid.Uint64Range(0, 2_000_000).Draw(rt, "with tip")
		r := s.sell(fen)
		_, err := s.pos.Do(unionpay.Order{Kind: unionpay.Tip, STAN: r.STAN, Fen: tip})
		if fits := tip >= fen && tip*100 <= fen*120; fits != (err == nil) {
			rt.Fatalf("%d with tip %d: %v", fen, tip, err)
		}
	})
}

func FuzzOriginal(f *testing.F) {
	f.Add("0000070000170916")
	f.Add("000007000017")
	f.Fuzz(func(t *testing.T, in string) {
		if o, err := unionpay.ParseOriginal(in); err == nil && o.String() != in {
			t.Errorf("%q writes back %q", in, o)
		}
	})
}

// Whatever is downloaded, the terminal still starts with it.
func FuzzDownload(f *testing.F) {
	s := newShop(f)
	f.Add([]byte("12301802206"))
	f.Add(append([]byte{'1'}, object(0x9F06, 0xA0, 0, 0, 3, 0x33)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 900 {
			return
		}
		s.t, s.host.t = t, t
		for _, code := range []string{"360", "372", "370", "382", "380", "390"} {
			s.host.fetch[code] = func([]byte) []byte { return in }
		}
		for _, w := range []unionpay.Want{unionpay.WantParameters, unionpay.WantCAKeys, unionpay.WantAIDs, unionpay.WantBlackList} {
			_ = s.pos.Download(w)
		}
		s.boot()
	})
}
