package money_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"koala/money"
)

func anyAmount(t *rapid.T, label string) money.Amount {
	return money.Fen(rapid.Int64Range(-money.MaxMinor, money.MaxMinor).Draw(t, label))
}

func TestSplitKeepsEveryFen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := anyAmount(t, "fen")
		parts := whole.Split(rapid.IntRange(1, 480).Draw(t, "n"))
		sum := money.Fen(0)
		for _, p := range parts {
			sum = sum.Add(p)
			if d := p.Minor() - parts[0].Minor(); d < -1 || d > 1 {
				t.Fatalf("uneven: %v and %v", parts[0], p)
			}
		}
		if sum != whole {
			t.Fatalf("parts sum to %v, want %v", sum, whole)
		}
	})
}

func TestApportionKeepsEveryFen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := anyAmount(t, "fen")
		weights := rapid.SliceOfN(rapid.Int64Range(0, 1_000_000), 1, 30).Draw(t, "weights")
		weights[0]++
		sum := money.Fen(0)
		for i, p := range whole.Apportion(weights) {
			sum = sum.Add(p)
			if exact := whole.Portion(weights[i], total(weights), money.Down); p.Sub(exact).Minor() > 1 || p.Sub(exact).Minor() < -1 {
				t.Fatalf("part %d is %v, its exact share %v", i, p, exact)
			}
		}
		if sum != whole {
			t.Fatalf("parts sum to %v, want %v", sum, whole)
		}
	})
}

func total(weights []int64) (sum int64) {
	for _, w := range weights {
		sum += w
	}
	return sum
}

func TestPortion(t *testing.T) {
	for _, tt := range []struct {
		fen, num, den int64
		r             money.Rounding
		want          int64
	}{
		{500, 8, 10, money.Down, 400},
		{333, 1, 2, money.Down, 166},
		{333, 1, 2, money.Up, 167},
		{333, 1, 2, money.HalfUp, 167},
		{-333, 1, 2, money.HalfUp, -167},
		{332, 1, 3, money.HalfUp, 111},
		{money.MaxMinor, 7, 7, money.Down, money.MaxMinor},
	} {
		if got := money.Fen(tt.fen).Portion(tt.num, tt.den, tt.r); got.Minor() != tt.want {
			t.Errorf("%d * %d/%d = %d, want %d", tt.fen, tt.num, tt.den, got.Minor(), tt.want)
		}
	}
}

func TestCheckedAdd(t *testing.T) {
	if _, err := money.CheckedAdd(money.Fen(1), money.Of(1, "USD")); !errors.Is(err, money.ErrCurrency) {
		t.Errorf("fen + cents: %v, want ErrCurrency", err)
	}
	if _, err := money.CheckedAdd(money.Fen(money.MaxMinor), money.Fen(1)); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("beyond the range: %v, want ErrOverflow", err)
	}
}

func TestParseYuan(t *testing.T) {
	for _, tt := range []struct {
		in   string
		fen  int64
		want error
	}{
		{"12", 1200, nil},
		{" 12.3 ", 1230, nil},
		{"12.30", 1230, nil},
		{"0.01", 1, nil},
		{"12.345", 0, money.ErrSyntax},
		{"-5", 0, money.ErrSyntax},
		{"", 0, money.ErrSyntax},
		{".5", 0, money.ErrSyntax},
		{"1e3", 0, money.ErrSyntax},
		{"99999999999999999999", 0, money.ErrOverflow},
	} {
		got, err := money.ParseYuan(tt.in)
		if !errors.Is(err, tt.want) || got.Minor() != tt.fen {
			t.Errorf("ParseYuan(%q) = %v, %v; want %d fen, %v", tt.in, got, err, tt.fen, tt.want)
		}
	}
}

func FuzzParseYuan(f *testing.F) {
	f.Add("12.30")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := money.ParseYuan(in)
		if err != nil {
			return
		}
		if again, err := money.ParseYuan(a.Yuan()); err != nil || again != a {
			t.Errorf("%q reads as %v, which reads as %v, %v", in, a, again, err)
		}
	})
}
