package fee_test

import (
	"fmt"
	"strings"
	"testing"

	"koala/settlement/fee"
)

// The sales of the matrix: one that no cap touches, and one above all caps.
const (
	small = 1_000_00
	large = 20_000_00
)

// all are all classes of card, likeDebit those that pay as debit cards do since 2016.
const (
	all       = "debit credit prepaid ecash"
	likeDebit = "debit prepaid ecash"
)

// matrix is every category and class of card under every price card before and
// after 6 September 2016, and on both sides of the end of the discounts on 6
// September 2018. Its fen were computed by hand from DOMAIN.md part 3, each as
// fee, issuer, network, acquirer:
//
//	2013  the rate of the sale, at most the cap; shares in proportion of
//	      0.90/0.13/0.22, 0.55/0.08/0.15, 0.26/0.04/0.08 of a percent, rounded
//	      to the fen by largest remainder; tolerance: the acquirer's part, and
//	      it alone, a tenth lower or higher, also of a cap (14.08 of 80 yuan,
//	      5.00 of 26)
//	2016  debit 0.5 %, at most 20 yuan, credit 0.6 %; issuer 0.35 %, at most 13
//	      yuan, or 0.45 %, less its side of the network's 2 x 0.0325 %, at most
//	      3.25 a side of debit; these 78 % of it for living; the rest is the acquirer's
var matrix = []struct {
	days, price string
	cat         fee.Category
	classes     string
	small       fee.Parts
	large       fee.Parts
}{
	{"2013-02-25 2016-09-05", "standard", fee.Dining, all, fee.Parts{1250, 900, 130, 220}, fee.Parts{25000, 18000, 2600, 4400}},
	{"2013-02-25 2016-09-05", "standard", fee.Property, all, fee.Parts{1250, 900, 130, 220}, fee.Parts{8000, 5760, 832, 1408}},
	{"2013-02-25 2016-09-05", "standard", fee.General, all, fee.Parts{780, 550, 80, 150}, fee.Parts{15600, 11000, 1600, 3000}},
	{"2013-02-25 2016-09-05", "standard", fee.Wholesale, all, fee.Parts{780, 550, 80, 150}, fee.Parts{2600, 1833, 267, 500}},
	{"2013-02-25 2016-09-05", "standard", fee.Living, all, fee.Parts{380, 260, 40, 80}, fee.Parts{7600, 5200, 800, 1600}},
	{"2013-02-25 2016-09-05", "standard", fee.Welfare, all, fee.Parts{}, fee.Parts{}},

	{"2013-02-25 2016-09-05", "favoured", fee.Dining, all, fee.Parts{1228, 900, 130, 198}, fee.Parts{24560, 18000, 2600, 3960}},
	{"2013-02-25 2016-09-05", "favoured", fee.Property, all, fee.Parts{1228, 900, 130, 198}, fee.Parts{7859, 5760, 832, 1267}},
	{"2013-02-25 2016-09-05", "favoured", fee.General, all, fee.Parts{765, 550, 80, 135}, fee.Parts{15300, 11000, 1600, 2700}},
	{"2013-02-25 2016-09-05", "favoured", fee.Wholesale, all, fee.Parts{765, 550, 80, 135}, fee.Parts{2550, 1833, 267, 450}},
	{"2013-02-25 2016-09-05", "favoured", fee.Living, all, fee.Parts{372, 260, 40, 72}, fee.Parts{7440, 5200, 800, 1440}},
	{"2013-02-25 2016-09-05", "favoured", fee.Welfare, all, fee.Parts{}, fee.Parts{}},

	{"2013-02-25 2016-09-05", "raised", fee.Dining, all, fee.Parts{1272, 900, 130, 242}, fee.Parts{25440, 18000, 2600, 4840}},
	{"2013-02-25 2016-09-05", "raised", fee.Property, all, fee.Parts{1272, 900, 130, 242}, fee.Parts{8141, 5760, 832, 1549}},
	{"2013-02-25 2016-09-05", "raised", fee.General, all, fee.Parts{795, 550, 80, 165}, fee.Parts{15900, 11000, 1600, 3300}},
	{"2013-02-25 2016-09-05", "raised", fee.Wholesale, all, fee.Parts{795, 550, 80, 165}, fee.Parts{2650, 1833, 267, 550}},
	{"2013-02-25 2016-09-05", "raised", fee.Living, all, fee.Parts{388, 260, 40, 88}, fee.Parts{7760, 5200, 800, 1760}},
	{"2013-02-25 2016-09-05", "raised", fee.Welfare, all, fee.Parts{}, fee.Parts{}},

	// 3.50 less 0.325 is 3.175, and 0.65; 13.00 less 3.25 and 6.50. 4.50 less 0.325; 90.00 less 6.50 and 13.00.
	{"2016-09-06 2018-09-06", "standard", fee.Dining, likeDebit, fee.Parts{500, 318, 65, 117}, fee.Parts{2000, 975, 650, 375}},
	{"2016-09-06 2018-09-06", "standard", fee.Dining, "credit", fee.Parts{600, 418, 65, 117}, fee.Parts{12000, 8350, 1300, 2350}},
	{"2016-09-06 2018-09-06", "standard", fee.Property, likeDebit, fee.Parts{500, 318, 65, 117}, fee.Parts{2000, 975, 650, 375}},
	{"2016-09-06 2018-09-06", "standard", fee.Property, "credit", fee.Parts{600, 418, 65, 117}, fee.Parts{12000, 8350, 1300, 2350}},
	{"2016-09-06 2018-09-06", "standard", fee.General, likeDebit, fee.Parts{500, 318, 65, 117}, fee.Parts{2000, 975, 650, 375}},
	{"2016-09-06 2018-09-06", "standard", fee.General, "credit", fee.Parts{600, 418, 65, 117}, fee.Parts{12000, 8350, 1300, 2350}},
	{"2016-09-06 2018-09-06", "standard", fee.Wholesale, likeDebit, fee.Parts{500, 318, 65, 117}, fee.Parts{2000, 975, 650, 375}},
	{"2016-09-06 2018-09-06", "standard", fee.Wholesale, "credit", fee.Parts{600, 418, 65, 117}, fee.Parts{12000, 8350, 1300, 2350}},
	{"2016-09-06 2018-09-06", "standard", fee.Welfare, all, fee.Parts{}, fee.Parts{}},
	// 2.73 less 0.2535 is 2.4765, and 0.507; 10.14 less 2.535 is 7.605, and 5.07. 3.51 less 0.2535; 70.20 less 5.07 and 10.14.
	{"2016-09-06 2018-09-05", "standard", fee.Living, likeDebit, fee.Parts{500, 248, 51, 201}, fee.Parts{2000, 761, 507, 732}},
	{"2016-09-06 2018-09-05", "standard", fee.Living, "credit", fee.Parts{600, 326, 51, 223}, fee.Parts{12000, 6513, 1014, 4473}},
	{"2018-09-06", "standard", fee.Living, likeDebit, fee.Parts{500, 318, 65, 117}, fee.Parts{2000, 975, 650, 375}},
	{"2018-09-06", "standard", fee.Living, "credit", fee.Parts{600, 418, 65, 117}, fee.Parts{12000, 8350, 1300, 2350}},

	{"2016-09-06 2018-09-06", "favoured", fee.Dining, likeDebit, fee.Parts{450, 318, 65, 67}, fee.Parts{1800, 975, 650, 175}},
	{"2016-09-06 2018-09-06", "favoured", fee.Dining, "credit", fee.Parts{550, 418, 65, 67}, fee.Parts{11000, 8350, 1300, 1350}},
	{"2016-09-06 2018-09-06", "favoured", fee.Property, likeDebit, fee.Parts{450, 318, 65, 67}, fee.Parts{1800, 975, 650, 175}},
	{"2016-09-06 2018-09-06", "favoured", fee.Property, "credit", fee.Parts{550, 418, 65, 67}, fee.Parts{11000, 8350, 1300, 1350}},
	{"2016-09-06 2018-09-06", "favoured", fee.General, likeDebit, fee.Parts{450, 318, 65, 67}, fee.Parts{1800, 975, 650, 175}},
	{"2016-09-06 2018-09-06", "favoured", fee.General, "credit", fee.Parts{550, 418, 65, 67}, fee.Parts{11000, 8350, 1300, 1350}},
	{"2016-09-06 2018-09-06", "favoured", fee.Wholesale, likeDebit, fee.Parts{450, 318, 65, 67}, fee.Parts{1800, 975, 650, 175}},
	{"2016-09-06 2018-09-06", "favoured", fee.Wholesale, "credit", fee.Parts{550, 418, 65, 67}, fee.Parts{11000, 8350, 1300, 1350}},
	{"2016-09-06 2018-09-06", "favoured", fee.Welfare, all, fee.Parts{}, fee.Parts{}},
	{"2016-09-06 2018-09-05", "favoured", fee.Living, likeDebit, fee.Parts{450, 248, 51, 151}, fee.Parts{1800, 761, 507, 532}},
	{"2016-09-06 2018-09-05", "favoured", fee.Living, "credit", fee.Parts{550, 326, 51, 173}, fee.Parts{11000, 6513, 1014, 3473}},
	{"2018-09-06", "favoured", fee.Living, likeDebit, fee.Parts{450, 318, 65, 67}, fee.Parts{1800, 975, 650, 175}},
	{"2018-09-06", "favoured", fee.Living, "credit", fee.Parts{550, 418, 65, 67}, fee.Parts{11000, 8350, 1300, 1350}},

	{"2016-09-06 2018-09-06", "raised", fee.Dining, likeDebit, fee.Parts{550, 318, 65, 167}, fee.Parts{2200, 975, 650, 575}},
	{"2016-09-06 2018-09-06", "raised", fee.Dining, "credit", fee.Parts{650, 418, 65, 167}, fee.Parts{13000, 8350, 1300, 3350}},
	{"2016-09-06 2018-09-06", "raised", fee.Property, likeDebit, fee.Parts{550, 318, 65, 167}, fee.Parts{2200, 975, 650, 575}},
	{"2016-09-06 2018-09-06", "raised", fee.Property, "credit", fee.Parts{650, 418, 65, 167}, fee.Parts{13000, 8350, 1300, 3350}},
	{"2016-09-06 2018-09-06", "raised", fee.General, likeDebit, fee.Parts{550, 318, 65, 167}, fee.Parts{2200, 975, 650, 575}},
	{"2016-09-06 2018-09-06", "raised", fee.General, "credit", fee.Parts{650, 418, 65, 167}, fee.Parts{13000, 8350, 1300, 3350}},
	{"2016-09-06 2018-09-06", "raised", fee.Wholesale, likeDebit, fee.Parts{550, 318, 65, 167}, fee.Parts{2200, 975, 650, 575}},
	{"2016-09-06 2018-09-06", "raised", fee.Wholesale, "credit", fee.Parts{650, 418, 65, 167}, fee.Parts{13000, 8350, 1300, 3350}},
	{"2016-09-06 2018-09-06", "raised", fee.Welfare, all, fee.Parts{}, fee.Parts{}},
	{"2016-09-06 2018-09-05", "raised", fee.Living, likeDebit, fee.Parts{550, 248, 51, 251}, fee.Parts{2200, 761, 507, 932}},
	{"2016-09-06 2018-09-05", "raised", fee.Living, "credit", fee.Parts{650, 326, 51, 273}, fee.Parts{13000, 6513, 1014, 5473}},
	{"2018-09-06", "raised", fee.Living, likeDebit, fee.Parts{550, 318, 65, 167}, fee.Parts{2200, 975, 650, 575}},
	{"2018-09-06", "raised", fee.Living, "credit", fee.Parts{650, 418, 65, 167}, fee.Parts{13000, 8350, 1300, 3350}},
}

// TestMatrix prices the matrix, and proves that it leaves nothing out.
func TestMatrix(t *testing.T) {
	s := fee.House()
	priced := map[string]bool{}
	for _, tt := range matrix {
		for _, day := range strings.Fields(tt.days) {
			for _, class := range strings.Fields(tt.classes) {
				priced[fmt.Sprint(day < first2016, tt.price, tt.cat, class)] = true
				for fen, want := range map[int64]fee.Parts{small: tt.small, large: tt.large} {
					for _, price := range cards(tt.price) {
						tariff, err := s.Tariff(on(t, day), tt.cat, price)
						if err != nil {
							t.Fatal(err)
						}
						if got := tariff.Of(fen, fee.Class(class)); got != want {
							t.Errorf("%s, %s, %q, %s card, %d fen: %v, want %v", day, tt.cat, price, class, fen, got, want)
						}
						back := tariff.Back(fen, fen, fee.Class(class))
						if price == "keep" {
							want = fee.Parts{}
						}
						if back != want {
							t.Errorf("%s, %s, %q, %s card: a refund of all gives %v back, want %v", day, tt.cat, price, class, back, want)
						}
					}
				}
			}
		}
	}
	for _, before := range []bool{true, false} {
		for _, price := range []string{"standard", "favoured", "raised"} {
			for _, cat := range fee.Categories {
				for _, class := range fee.Classes {
					if !priced[fmt.Sprint(before, price, cat, class)] {
						t.Errorf("the matrix lacks %s, %s, %s, before 6 September 2016: %v", price, cat, class, before)
					}
				}
			}
		}
	}
}

// cards are the price cards that cost the same.
func cards(price string) []string {
	if price == "standard" {
		return []string{"", price, "keep"}
	}
	return []string{price}
}

// TestEdges: the fen around each cap and each half fen, by hand.
func TestEdges(t *testing.T) {
	s := fee.House()
	for _, tt := range []struct {
		day   string
		cat   fee.Category
		class fee.Class
		fen   int64
		want  fee.Parts
	}{
		// 1.25 % of 0.39 yuan is 0.4875 fen; the one fen of 0.40 is the issuer's.
		{last2013, fee.Dining, fee.Credit, 39, fee.Parts{}},
		{last2013, fee.Dining, fee.Credit, 40, fee.Parts{1, 1, 0, 0}},
		// 0.78 % of 0.64 yuan is 0.4992 fen, of 0.65 0.507.
		{last2013, fee.General, fee.Debit, 64, fee.Parts{}},
		{last2013, fee.General, fee.Debit, 65, fee.Parts{1, 1, 0, 0}},
		// 0.38 % of 1.31 yuan is 0.4978 fen, of 1.32 0.5016.
		{last2013, fee.Living, fee.Debit, 131, fee.Parts{}},
		{last2013, fee.Living, fee.Debit, 132, fee.Parts{1, 1, 0, 0}},
		// 80 yuan are reached at 6,400: 1.25 % of 6,399.59 is 7,999.4875 fen.
		{last2013, fee.Property, fee.Credit, 6_399_59, fee.Parts{7999, 5759, 832, 1408}},
		{last2013, fee.Property, fee.Credit, 6_400_00, fee.Parts{8000, 5760, 832, 1408}},
		{last2013, fee.Property, fee.Credit, 6_400_01, fee.Parts{8000, 5760, 832, 1408}},
		// 26 yuan at 3,333.34: 0.78 % of 3,332.69 is 2,599.4982 fen.
		{last2013, fee.Wholesale, fee.Debit, 3_332_69, fee.Parts{2599, 1833, 266, 500}},
		{last2013, fee.Wholesale, fee.Debit, 3_333_34, fee.Parts{2600, 1833, 267, 500}},
		// Neither has a cap a day later, and both one of 20 yuan for debit.
		{first2016, fee.Property, fee.Credit, 6_400_00, fee.Parts{3840, 2672, 416, 752}},
		{first2016, fee.Wholesale, fee.Credit, 10_000_00, fee.Parts{6000, 4175, 650, 1175}},
		// 20 yuan at 4,000; the issuer's 13 at 3,714.29; the network's 3.25 a side at 10,000.
		{first2016, fee.General, fee.Debit, 3_998_00, fee.Parts{1999, 1170, 260, 569}}, // 1,999.00; 1,300 - 129.935; 259.87
		{first2016, fee.General, fee.Debit, 4_000_00, fee.Parts{2000, 1170, 260, 570}},
		{first2016, fee.General, fee.Debit, 10_000_00, fee.Parts{2000, 975, 650, 375}},
		{first2016, fee.General, fee.Debit, 10_000_01, fee.Parts{2000, 975, 650, 375}},
		// 0.5 % of 0.99 yuan is 0.495 fen.
		{first2016, fee.General, fee.Debit, 99, fee.Parts{}},
		{first2016, fee.General, fee.Debit, 100, fee.Parts{1, 1, 0, 0}},
	} {
		tariff, err := s.Tariff(on(t, tt.day), tt.cat, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := tariff.Of(tt.fen, tt.class); got != tt.want {
			t.Errorf("%s, %s, %s card, %d fen: %v, want %v", tt.day, tt.cat, tt.class, tt.fen, got, tt.want)
		}
	}
}

// TestTolerance: no price card of the statutory years moves anything but the
// acquirer's part, and that by a tenth at most.
func TestTolerance(t *testing.T) {
	acquirer := map[fee.Category]int64{fee.Dining: 2200, fee.Property: 2200, fee.General: 1500, fee.Wholesale: 1500, fee.Living: 800}
	whole := map[fee.Category]int64{fee.Dining: 12500, fee.Property: 12500, fee.General: 7800, fee.Wholesale: 7800, fee.Living: 3800}
	caps := map[fee.Category][2]int64{fee.Property: {8000 - 141, 8000 + 141}, fee.Wholesale: {2600 - 50, 2600 + 50}} // a tenth of 1,408 and of 500 fen
	n := 0
	for _, p := range fee.House().Prices {
		if p.From == on(t, first2016) || p.Rate < 0 {
			continue
		}
		n++
		if d := p.Rate - whole[p.Category]; 10*max(d, -d) > acquirer[p.Category] {
			t.Errorf("%s of %s: %d ppm, %d ppm are laid down", p.Name, p.Category, p.Rate, whole[p.Category])
		}
		if c := caps[p.Category]; p.Cap < c[0] || p.Cap > c[1] {
			t.Errorf("%s of %s: a cap of %d, between %d and %d are laid down", p.Name, p.Category, p.Cap, c[0], c[1])
		}
	}
	if n != 12 {
		t.Errorf("%d rows", n)
	}
}
