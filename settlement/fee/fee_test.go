package fee_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/settlement/fee"
)

func on(t interface{ Fatal(...any) }, s string) calendar.Date {
	d, err := calendar.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The days around the changes of the rules.
const (
	first2013 = "2013-02-25"
	last2013  = "2016-09-05"
	first2016 = "2016-09-06"
	last78    = "2018-09-05"
	first2018 = "2018-09-06"
)

// TestExamples are the rules of DOMAIN.md part 3 in fen, on both sides of
// each change.
func TestExamples(t *testing.T) {
	s := fee.House()
	for _, tt := range []struct {
		day   string
		cat   fee.Category
		price string
		class fee.Class
		fen   int64
		want  fee.Parts // fee, issuer, network, acquirer
	}{
		// 2013: 1.25 % = 0.90 / 0.13 / 0.22, whatever the card.
		{first2013, fee.Dining, "", fee.Debit, 100_00, fee.Parts{125, 90, 13, 22}},
		{last2013, fee.Dining, "", fee.Credit, 100_00, fee.Parts{125, 90, 13, 22}},
		{last2013, fee.Dining, "", fee.Credit, 1000_00, fee.Parts{1250, 900, 130, 220}},
		{last2013, fee.Dining, "", fee.Credit, 10_00, fee.Parts{13, 9, 2, 2}}, // 12.5 rounds up; 1.3 has the largest remainder
		// 1.25 %, at most 80 yuan: from 6,400 yuan on.
		{last2013, fee.Property, "", fee.Credit, 6400_00, fee.Parts{8000, 5760, 832, 1408}},
		{last2013, fee.Property, "", fee.Credit, 500_000_00, fee.Parts{8000, 5760, 832, 1408}},
		{last2013, fee.Property, "", fee.Debit, 6399_00, fee.Parts{7999, 5759, 832, 1408}},
		// 0.78 % = 0.55 / 0.08 / 0.15.
		{last2013, fee.General, "", fee.Debit, 100_00, fee.Parts{78, 55, 8, 15}},
		{last2013, fee.General, "", fee.Debit, 12_34, fee.Parts{10, 7, 1, 2}},
		// 0.78 %, at most 26 yuan.
		{last2013, fee.Wholesale, "", fee.Debit, 3333_33, fee.Parts{2600, 1833, 267, 500}},
		{last2013, fee.Wholesale, "", fee.Debit, 100_000_00, fee.Parts{2600, 1833, 267, 500}},
		// 0.38 % = 0.26 / 0.04 / 0.08.
		{last2013, fee.Living, "", fee.ECash, 100_00, fee.Parts{38, 26, 4, 8}},
		{last2013, fee.Living, "", fee.Debit, 1_00, fee.Parts{}}, // 0.38 fen rounds to nothing
		{last2013, fee.Welfare, "", fee.Credit, 10_000_00, fee.Parts{}},
		// The acquirer's part may be a tenth lower: 1.228 %, at most 78.59.
		{last2013, fee.Dining, "favoured", fee.Credit, 1000_00, fee.Parts{1228, 900, 130, 198}},
		{last2013, fee.Property, "favoured", fee.Credit, 100_000_00, fee.Parts{7859, 5760, 832, 1267}},
		{last2013, fee.Wholesale, "favoured", fee.Credit, 100_000_00, fee.Parts{2550, 1833, 267, 450}},
		{first2016, fee.Dining, "favoured", fee.Debit, 1000_00, fee.Parts{450, 318, 65, 67}},
		// 2016: debit 0.5 % at most 20 yuan; issuer 0.35 % at most 13, less its half of the network's 0.065 %.
		{first2016, fee.Dining, "", fee.Debit, 1000_00, fee.Parts{500, 318, 65, 117}},
		{first2016, fee.Dining, "", fee.Debit, 10_000_00, fee.Parts{2000, 975, 650, 375}},
		{first2016, fee.Property, "", fee.Debit, 100_000_00, fee.Parts{2000, 975, 650, 375}}, // network 3.25 yuan a side
		{first2016, fee.General, "", fee.Prepaid, 1000_00, fee.Parts{500, 318, 65, 117}},
		// credit 0.6 %; issuer 0.45 % without a cap.
		{first2016, fee.Dining, "", fee.Credit, 1000_00, fee.Parts{600, 418, 65, 117}},
		{first2016, fee.Property, "", fee.Credit, 100_000_00, fee.Parts{60_000, 41_750, 6_500, 11_750}},
		// Costs at 78 % for two years: 0.273 % less 0.02535 %, 0.0507 %.
		{first2016, fee.Living, "", fee.Debit, 10_000, fee.Parts{50, 25, 5, 20}},
		{last78, fee.Living, "", fee.Debit, 10_000_00, fee.Parts{2000, 761, 507, 732}},
		{first2018, fee.Living, "", fee.Debit, 10_000_00, fee.Parts{2000, 975, 650, 375}},
		{first2016, fee.Welfare, "", fee.Credit, 10_000_00, fee.Parts{}},
		{first2016, fee.Dining, "", fee.None, 1000_00, fee.Parts{}},
	} {
		tariff, err := s.Tariff(on(t, tt.day), tt.cat, tt.price)
		if err != nil {
			t.Errorf("%s %s: %v", tt.day, tt.cat, err)
			continue
		}
		if got := tariff.Of(tt.fen, tt.class); got != tt.want {
			t.Errorf("%s, %s, %s, %d fen: %v, want %v", tt.day, tt.cat, tt.class, tt.fen, got, tt.want)
		}
		sum := int64(0)
		for i, l := range tariff.Explain(tt.fen, tt.cat, tt.class) {
			if l.EN == "" || l.ZH == "" {
				t.Errorf("line %d lacks words", i)
			}
			if i > 0 {
				sum += l.Fen.Minor()
			} else if l.Fen.Minor() != tt.want.Fee {
				t.Errorf("the first line says %s, the fee is %d", l.Fen, tt.want.Fee)
			}
		}
		if sum != tt.want.Fee {
			t.Errorf("the lines of the shares sum to %d, the fee is %d", sum, tt.want.Fee)
		}
	}
}

func TestTariffRefuses(t *testing.T) {
	s := fee.House()
	for _, tt := range []struct {
		name, day, price string
		cat              fee.Category
	}{
		{"before the rules", "2013-02-24", "", fee.Dining},
		{"no such category", first2016, "", "arms"},
		{"no such price", first2016, "cheap", fee.Dining},
	} {
		if _, err := s.Tariff(on(t, tt.day), tt.cat, tt.price); !errors.Is(err, fee.ErrTerms) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, price := range []string{"", "keep", "favoured"} {
		for _, cat := range fee.Categories {
			if err := s.Covers(on(t, first2013), cat, price); err != nil {
				t.Errorf("price %q: %v", price, err)
			}
		}
	}
	if err := s.Covers(on(t, "2013-02-24"), fee.Dining, ""); !errors.Is(err, fee.ErrTerms) {
		t.Errorf("before the rules: %v", err)
	}
	if s.Known("cheap") || !s.Known("") || !s.Known("keep") {
		t.Error("the price cards known are not those of price.csv")
	}
}

// A case drawn: rules of some day, and a sale.
type drawn struct {
	tariff fee.Tariff
	class  fee.Class
	fen    int64
}

func draw(t *rapid.T) drawn {
	s := fee.House()
	day := on(t, first2013).AddDays(rapid.IntRange(0, 2500).Draw(t, "day"))
	cat := rapid.SampledFrom(fee.Categories).Draw(t, "category")
	price := rapid.SampledFrom([]string{"", "keep", "favoured"}).Draw(t, "price")
	tariff, err := s.Tariff(day, cat, price)
	if err != nil {
		t.Fatal(err)
	}
	return drawn{tariff, rapid.SampledFrom(fee.Classes).Draw(t, "class"), rapid.OneOf(rapid.Int64Range(1, 10_000), rapid.Int64Range(1, fee.MaxSale)).Draw(t, "fen")}
}

// TestParts: parts sum to the fee, each part within a fen of its share, nothing
// negative at the prices of the house, and a larger sale never costs less.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		p := d.tariff.Of(d.fen, d.class)
		if p.Issuer+p.Network+p.Acquirer != p.Fee || p.Issuer < 0 || p.Network < 0 || p.Acquirer < 0 || p.Fee > d.fen {
			t.Fatalf("%d fen: %v", d.fen, p)
		}
		if more := d.tariff.Of(d.fen+rapid.Int64Range(0, 1_000_000).Draw(t, "more"), d.class); more.Fee < p.Fee {
			t.Fatalf("%v, and of more %v", p, more)
		}
		lo := rapid.Int64Range(0, d.fen).Draw(t, "lo")
		if sum := p.Slice(0, lo, d.fen).Plus(p.Slice(lo, d.fen, d.fen)); sum != p {
			t.Fatalf("slices sum to %v of %v", sum, p)
		}
	})
}

// TestRefundsUndo: refunds that undo a sale give its fee back to the fen, in
// however many parts; a price card that keeps the fee gives none.
func TestRefundsUndo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		sum, left := fee.Parts{}, d.fen
		for left > 0 {
			back := left
			if rapid.Bool().Draw(t, "partly") {
				back = rapid.Int64Range(1, left).Draw(t, "back")
			}
			b := d.tariff.Back(back, left, d.class)
			if b.Fee < 0 {
				t.Fatalf("a refund of %d of %d costs %v", back, left, b)
			}
			sum, left = sum.Plus(b), left-back
		}
		if want := d.tariff.Of(d.fen, d.class); sum != want && sum != (fee.Parts{}) {
			t.Fatalf("given back %v of %v", sum, want)
		}
	})
	s := fee.House()
	for price, want := range map[string]int64{"": 500, "keep": 0} {
		tariff, err := s.Tariff(on(t, first2016), fee.Dining, price)
		if got := tariff.Back(1000_00, 1000_00, fee.Debit).Fee; err != nil || got != want {
			t.Errorf("price %q gives %d back, want %d (%v)", price, got, want, err)
		}
	}
}

// TestInstalments: a sale in parts costs its card's fee and the row of the parts
// on top, which the issuer gets; a refund gives its part of both back.
func TestInstalments(t *testing.T) {
	s := fee.House()
	for _, tt := range []struct {
		day   string
		parts int
		fen   int64
		want  fee.Parts
	}{
		{"2015-08-30", 0, 1_000_00, fee.Parts{Fee: 7_80, Issuer: 5_50, Network: 80, Acquirer: 1_50}},
		{"2015-08-30", 3, 1_000_00, fee.Parts{Fee: 7_80 + 19_50, Issuer: 5_50 + 19_50, Network: 80, Acquirer: 1_50}},
		{"2015-08-30", 12, 1_000_00, fee.Parts{Fee: 7_80 + 54_00, Issuer: 5_50 + 54_00, Network: 80, Acquirer: 1_50}},
		{"2015-08-30", 24, 1, fee.Parts{Fee: 0, Issuer: 0}},
		{"2015-08-30", 24, 6, fee.Parts{Fee: 1, Issuer: 1}}, // 0.576 fen
		{"2013-02-24", 12, 1_000_00, fee.Parts{}},
	} {
		tariff, err := s.Tariff(on(t, tt.day), fee.General, "")
		if tt.day < "2013-02-25" {
			if err == nil {
				t.Errorf("%s is priced", tt.day)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		class := fee.Credit.In(tt.parts)
		if got := tariff.Of(tt.fen, class); got != tt.want {
			t.Errorf("%s, %d fen in %d: %+v, want %+v", tt.day, tt.fen, tt.parts, got, tt.want)
		}
		third := tt.fen / 3
		back := tariff.Back(third, tt.fen, class).Plus(tariff.Back(tt.fen-third, tt.fen-third, class))
		if back != tt.want {
			t.Errorf("%s, %d fen in %d: %+v came back, want %+v", tt.day, tt.fen, tt.parts, back, tt.want)
		}
	}
	for c, ok := range map[fee.Class]bool{"credit:12": true, "credit:x": false, "credit:": false, "credit:012": false, "gold:3": false, "credit": true, "credit:0": false} {
		if c.Valid() != ok {
			t.Errorf("class %q valid: %t", c, c.Valid())
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("from,category,class,rule,issuer_ppm,issuer_cap,network_ppm,network_cap,acquirer_ppm,fee_cap,percent,source\n2013-02-25,dining,*,statute,9000,0,1300,0,2200,0,100,x\n",
		"from,price,category,class,ppm,cap,returned,source\n2016-09-06,standard,*,debit,5000,2000,true,x\n")
	f.Fuzz(func(t *testing.T, costs, prices string) {
		s, err := fee.Read(strings.NewReader(costs), strings.NewReader(prices))
		if err != nil {
			return
		}
		tariff, err := s.Tariff(calendar.Date{Year: 2016, Month: time.September, Day: 6}, fee.Dining, "")
		if err != nil {
			return
		}
		if p := tariff.Of(100_00, fee.Debit); p.Issuer+p.Network+p.Acquirer != p.Fee {
			t.Errorf("%v", p)
		}
	})
}
