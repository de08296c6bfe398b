package split_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"koala/money"
	"koala/settlement/split"
)

func draw(t *rapid.T) (s split.Split) {
	left := int64(10_000)
	for i := range rapid.IntRange(1, 6).Draw(t, "receivers") {
		x := split.Share{Payee: fmt.Sprint("r", i)}
		if n := rapid.Int64Range(0, left).Draw(t, "bp"); n > 0 {
			x.BP, left = n, left-n
		} else {
			x.Fixed = money.Fen(rapid.Int64Range(1, 1_000).Draw(t, "fixed"))
		}
		s.Shares = append(s.Shares, x)
	}
	s.Bearer = rapid.SampledFrom([]string{"", "shop", "r0"}).Draw(t, "bearer")
	return s
}

// TestMoves: of any sale, also one smaller than what is fixed, the parts sum to
// the whole; what is taken back and given again stays within what each got; and
// back to nothing or to the whole, each is there to the fen.
func TestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		if err := s.Standing("shop"); err != nil {
			t.Fatal(err)
		}
		sale := rapid.OneOf(rapid.Int64Range(1, 20), rapid.Int64Range(1, 1_000_000_000)).Draw(t, "sale")
		d := split.New("sale", "shop", s, money.Fen(sale))
		if d.Sum() != sale || d.Parts[len(d.Parts)-1].Payee != "shop" {
			t.Fatalf("%d is divided into %+v", sale, d)
		}
		for left := sale; ; {
			fen := rapid.Int64Range(-left, sale-left).Draw(t, "moved")
			if fen == 0 {
				break
			}
			m, err := d.Move("move", fen)
			if err != nil || m.Sum() != fen || m.Sale != "sale" {
				t.Fatalf("%d of %d left: %+v, %v", fen, left, m, err)
			}
			left += fen
			for i := range d.Parts {
				p := &d.Parts[i]
				if p.Rest += m.Parts[i].Fen; p.Rest < 0 || p.Rest > p.Fen || left == sale && p.Rest != p.Fen || left == 0 && p.Rest != 0 {
					t.Fatalf("%d of %d left: part %d of %+v", left, sale, i+1, d.Parts)
				}
			}
			if _, err := d.Move("move", sale-left+1); !errors.Is(err, split.ErrSplit) {
				t.Fatalf("more is given again than was taken: %v", err)
			}
		}
	})
}
