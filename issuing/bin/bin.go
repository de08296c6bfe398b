// Package bin knows the issuer identification numbers that card numbers begin
// with: ranges as community lists have them, and the house's own. Start at Of.
package bin

import (
	"cmp"
	_ "embed" // card_bins.csv
	"encoding/csv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"koala/spec/pan"
)

// HousePrefix begins every PAN of the house's own bank. No published list names a
// card under 6288; it is this house's test range and no assignment of UnionPay.
const HousePrefix = "628888"

// houseBank is the code of the house's own ranges in the table.
const houseBank = "KOALA"

// The house's own ranges. Its products take their prefixes from here, and the
// table has them beside the published ones.
var (
	Debit  = Range{HousePrefix + "01", 19, houseBank, "考拉（测试号段）", "考拉借记卡", "DC"}
	Credit = Range{HousePrefix + "02", 16, houseBank, "考拉（测试号段）", "考拉信用卡", "CC"}
	ECash  = Range{HousePrefix + "06", 19, houseBank, "考拉（测试号段）", "考拉电子现金卡", "PC"}
	SM     = Range{HousePrefix + "08", 19, houseBank, "考拉（测试号段）", "考拉电子现金卡（国密）", "PC"}
	own    = []Range{Debit, Credit, ECash, SM}
)

// A Range is one issuer identification number range as community lists name it:
// partly old, not authoritative (NOTICE).
type Range struct {
	Prefix   string // digits
	Length   int    // of the PAN; 0: not known
	Bank     string // code, as ABC
	BankName string // Chinese
	Name     string // of the card, Chinese
	Type     string // DC debit, CC credit, SCC semi-credit, PC prepaid, "" not known
}

// Words says the type for people, in Chinese if zh.
func (b Range) Words(zh bool) string {
	w, ok := map[string][2]string{"DC": {"debit card", "借记卡"}, "CC": {"credit card", "贷记卡"},
		"SCC": {"quasi-credit card", "准贷记卡"}, "PC": {"prepaid card", "预付费卡"}}[b.Type]
	switch {
	case !ok && zh:
		return "未知"
	case !ok:
		return "not known"
	case zh:
		return w[1]
	}
	return w[0]
}

//go:embed card_bins.csv
var file string

type key struct {
	prefix string
	length int
}

// table is the table by prefix and length; the house's own range stands in it.
var table = sync.OnceValue(func() map[key]Range {
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	if err != nil {
		panic("bin: card_bins.csv: " + err.Error())
	}
	out := make(map[key]Range, len(rows))
	for _, r := range rows[1:] {
		n := 0
		if r[1] != "" {
			if n, err = strconv.Atoi(r[1]); err != nil {
				panic("bin: card_bins.csv: length " + r[1])
			}
		}
		out[key{r[0], n}] = Range{Prefix: r[0], Length: n, Bank: r[2], BankName: r[3], Name: r[4], Type: r[5]}
	}
	for _, b := range own {
		out[key{b.Prefix, b.Length}] = b
	}
	return out
})

// All lists all ranges, by prefix and length.
func All() []Range {
	out := slices.Collect(maps.Values(table()))
	slices.SortFunc(out, func(a, b Range) int {
		return cmp.Or(strings.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Length, b.Length))
	})
	return out
}

// House says whether the range is the house's own.
func (b Range) House() bool { return b.Bank == houseBank }

// Of finds the range of a PAN: the longest prefix that is listed with the
// PAN's length or none.
func Of(p pan.PAN) (Range, bool) {
	for n := min(len(p), 10); n >= 3; n-- {
		for _, length := range []int{len(p), 0} {
			if b, ok := table()[key{string(p[:n]), length}]; ok {
				return b, true
			}
		}
	}
	return Range{}, false
}
