package purse

import (
	"testing"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"pgregory.net/rapid"
)

// Any order of loads, purchases, wrong MACs, probes, tears and lost answers
// conserves money, and both sequences only grow, by one per transaction.
func TestMoneyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, holds(1000, 0, 0))
		want, online, offline := uint32(1000), uint16(0), uint16(0)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			fen := rapid.Uint32Range(0, 3000).Draw(t, "fen")
			load, right := rapid.Bool().Draw(t, "load"), rapid.IntRange(0, 4).Draw(t, "right") > 0
			var c iso7816.Command
			var sw iso7816.SW
			if load {
				var a purse.InitLoadAnswer
				a, sw = b.initLoad(fen)
				x := creditOf(a, purse.LoadEP, fen)
				if !right {
					x.MAC2[0] ^= 1
				}
				c = x.Command()
			} else {
				var a purse.InitPurchaseAnswer
				a, sw = b.initPurchase(purse.InitPurchase{Purse: purse.EP, Fen: fen})
				x := debitOf(a, purse.PurchaseEP, fen, rapid.Uint32().Draw(t, "tseq"))
				if !right {
					x.MAC1[3] ^= 0x80
				}
				c = x.Command()
			}
			switch {
			case load && want+fen > DefaultMaxBalance, !load && fen > want:
				if sw.OK() {
					t.Fatalf("took %d at %d", fen, want)
				}
				continue
			case sw == iso7816.SWBlocked:
				continue // too many wrong MACs
			case !sw.OK():
				t.Fatalf("init: %v", sw)
			case rapid.IntRange(0, 5).Draw(t, "leave") == 0:
				b.tap()
				continue
			}
			b.e.Memory().CutAt(rapid.IntRange(0, 20).Draw(t, "cut"), rapid.IntRange(0, 64).Draw(t, "keep"))
			_, err := b.e.Transmit(c)
			b.e.Memory().CutAt(0, 0)
			if err != nil {
				b.tap()
			}
			moved := b.balance() != want
			if fen == 0 || err == nil {
				moved = err == nil && right
			}
			if moved && !right {
				t.Fatalf("a wrong MAC moved money")
			}
			a, _ := b.initPurchase(purse.InitPurchase{Purse: purse.EP})
			l, _ := b.initLoad(0)
			if fen == 0 && err != nil { // the sequence alone tells
				moved = l.Seq != online && load || a.Seq != offline && !load
			}
			if moved && load {
				want, online = want+fen, online+1
			} else if moved {
				want, offline = want-fen, offline+1
			}
			if b.balance() != want {
				t.Fatalf("balance %d, want %d", b.balance(), want)
			}
			if a.Rnd != [4]byte{} && a.Seq != offline || l.Rnd != [4]byte{} && l.Seq != online {
				t.Fatalf("sequences %d %d, want %d %d", l.Seq, a.Seq, online, offline)
			}
		}
	})
}

// FuzzAPDUs: any bytes as commands never panic, and money moves only by a
// completed CREDIT or DEBIT, which nobody without the keys can complete.
func FuzzAPDUs(f *testing.F) {
	for _, seed := range []string{
		"05 00B095001E 0B 805000020B 01 00000001 800100000001",
		"10 805003020B 01 00000000 300089000340 06 80DC27D001 27 14 805401000F 00000001 20241229 141740 00000000",
		"05 0084000008 09 841E000004 00000000 0D 00A4040008 A000000632010105",
		"05 0070000001 05 01A4040000 06 04D6950005 FF",
	} {
		f.Add(unhex(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b := newBench(t, holds(4321, 5, 6), store(purse.DGIBeijing, file04))
		before := regionState(b)
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			if _, err := b.e.TransmitRaw(in[1 : 1+n]); err != nil {
				t.Fatalf("%X: %v", in[1:1+n], err)
			}
			in = in[1+n:]
		}
		b.tap()
		if after := regionState(b); after != before {
			t.Fatalf("money moved from %v to %v", before, after)
		}
	})
}

func regionState(b *bench) (w side) {
	b.e.PowerOff()
	if _, err := b.e.Factory(func(s *card.Session) iso7816.SW {
		w = (&applet{cells: regionOf(s, b.self)}).side(purse.EP)
		return iso7816.OK
	}); err != nil {
		b.t.Fatalf("%v", err)
	}
	b.tap()
	return w
}
