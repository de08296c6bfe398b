package merchant

import (
	"embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"koala/calendar"
)

//go:embed data/*.csv
var files embed.FS

// A Category is one merchant category code (ISO 18245).
type Category struct {
	MCC            string // four digits
	NameEN, NameZH string // one may be empty: UnionPay's own codes have no English name
	Group          string // range of the standard
}

// Name is the category's name, in Chinese if zh and there is one.
func (c Category) Name(zh bool) string {
	if zh && c.NameZH != "" || c.NameEN == "" {
		return c.NameZH
	}
	return c.NameEN
}

// A City is one prefecture-level unit of the mainland (GB/T 2260).
type City struct {
	Code           string // six digits
	NameEN, NameZH string
	ProvinceZH     string
	Lat, Lon       float64 // WGS-84, degrees: for maps only
	Weight         int64   // inhabitants of the urban area, 2012, rough; 0: not known
}

// Name is the city's name, in Chinese without 市 if zh.
func (c City) Name(zh bool) string {
	if zh {
		return strings.TrimSuffix(c.NameZH, "市")
	}
	return c.NameEN
}

// A feeRule says which fee category a range of codes has since a day.
type feeRule struct {
	from      string // civil date
	low, high string // codes, inclusive
	category  string
}

var (
	categoryOf = map[string]Category{}
	cityOf     = map[string]City{}
	cityNames  = map[string]string{} // lower case name to code
	cities     []City                // by code
	feeRules   []feeRule
)

func init() { // the tables are part of the program: a damaged one must not start
	for _, r := range table("mcc.csv", 4) {
		categoryOf[r[0]] = Category{MCC: r[0], NameEN: r[1], NameZH: r[2], Group: r[3]}
	}
	for _, r := range table("cities.csv", 9) {
		c := City{Code: r[0], NameZH: r[1], NameEN: r[2], ProvinceZH: r[4]}
		c.Lat, _ = strconv.ParseFloat(r[5], 64)
		c.Lon, _ = strconv.ParseFloat(r[6], 64)
		c.Weight, _ = strconv.ParseInt(r[8], 10, 64)
		cityOf[c.Code] = c
		cities = append(cities, c)
		for _, name := range []string{c.NameEN, c.NameZH, c.Name(true)} {
			if _, taken := cityNames[strings.ToLower(name)]; !taken {
				cityNames[strings.ToLower(name)] = c.Code
			}
		}
	}
	slices.SortFunc(cities, func(a, b City) int { return strings.Compare(a.Code, b.Code) })
	for _, r := range table("fees.csv", 5) {
		feeRules = append(feeRules, feeRule{r[0], r[1], r[2], r[3]})
	}
}

// table reads the rows of one embedded file without its heading.
func table(name string, columns int) [][]string {
	f, err := files.Open("data/" + name)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = columns
	all, err := r.ReadAll()
	if err != nil || len(all) < 2 {
		panic(fmt.Sprintf("merchant: table %s: %v", name, err))
	}
	return all[1:]
}

// CategoryOf finds a category by its code.
func CategoryOf(mcc string) (Category, error) {
	c, ok := categoryOf[mcc]
	if !ok {
		return Category{}, fmt.Errorf("category %q: %w", mcc, ErrCategory)
	}
	return c, nil
}

// Categories lists every category by its code.
func Categories() []Category {
	out := make([]Category, 0, len(categoryOf))
	for _, c := range categoryOf {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Category) int { return strings.Compare(a.MCC, b.MCC) })
	return out
}

// FindCity finds a city by its code of six digits or by its name in either
// language, with or without 市.
func FindCity(name string) (City, error) {
	if c, ok := cityOf[name]; ok {
		return c, nil
	}
	if code, ok := cityNames[strings.ToLower(name)]; ok {
		return cityOf[code], nil
	}
	return City{}, fmt.Errorf("city %q: %w", name, ErrCity)
}

// Cities lists every city by its code.
func Cities() []City { return slices.Clone(cities) }

// The fee categories: what settlement prices a payee by.
const (
	FeeDining    = "dining"    // dining, lodging, entertainment, jewellery, art
	FeeProperty  = "property"  // property and vehicles, with a cap
	FeeGeneral   = "general"   // everything not named
	FeeWholesale = "wholesale" // with a cap
	FeeLiving    = "living"    // supermarkets, utilities, fuel, transport
	FeeWelfare   = "welfare"   // hospitals, schools, charity: free
)

// FeeCategory is the fee category of a merchant category on a day. Before the
// first price order it is that of the first.
func FeeCategory(mcc string, day calendar.Date) string {
	on := feeRules[0].from
	for _, r := range feeRules {
		if r.from <= day.String() {
			on = max(on, r.from)
		}
	}
	best := feeRule{low: "", high: "~", category: FeeGeneral}
	for _, r := range feeRules {
		if r.from == on && r.low <= mcc && mcc <= r.high && r.low >= best.low && r.high <= best.high {
			best = r
		}
	}
	return best.category
}
