package merchant

import (
	"embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
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
	category  fee.Category
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
		feeRules = append(feeRules, feeRule{r[0], r[1], r[2], fee.Category(r[3])})
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

// FeeCategory is the fee category of a merchant category on a day. Before the
// first price order it is that of the first.
func FeeCategory(mcc string, day calendar.Date) fee.Category {
	on := feeRules[0].from
	for _, r := range feeRules {
		if r.from <= day.String() {
			on = max(on, r.from)
		}
	}
	best := feeRule{low: "", high: "~", category: fee.General}
	for _, r := range feeRules {
		if r.from == on && r.low <= mcc && mcc <= r.high && r.low >= best.low && r.high <= best.high {
			best = r
		}
	}
	return best.category
}

// nightTrades close their day at five in the morning (house rule).
var nightTrades = []string{"5813", "7911", "7297", "7993", "7994"}

// termsOf are a new shop's terms with settlement: its fee category from day on,
// and what it changes to with each later price order.
func termsOf(s Shop, day calendar.Date) []settlement.Terms {
	t := settlement.Terms{Since: day, Category: FeeCategory(s.MCC, day), CutOff: settlement.ShopCutOff, Least: money.Fen(0)}
	if slices.Contains(nightTrades, s.MCC) {
		t.CutOff = settlement.NightCutOff
	}
	out := []settlement.Terms{t}
	for _, r := range feeRules {
		since, err := calendar.Parse(r.from)
		if err == nil && t.Since.Before(since) && FeeCategory(s.MCC, since) != t.Category {
			t.Since, t.Category = since, FeeCategory(s.MCC, since)
			out = append(out, t)
		}
	}
	return out
}

// creditDigits are the 31 characters of a unified social credit code: digits
// and capitals without I, O, S, V, Z (GB 32100-2015, 4).
const creditDigits = "0123456789ABCDEFGHJKLMNPQRTUWXY"

// CreditCheck computes the 18th character of a unified social credit code from
// its first 17: weights are the powers of three modulo 31 (GB 32100-2015, annex
// A). False: a character that such codes do not have.
func CreditCheck(first17 string) (byte, bool) {
	if len(first17) != 17 {
		return 0, false
	}
	sum, weight := 0, 1
	for i := range first17 {
		v := strings.IndexByte(creditDigits, first17[i])
		if v < 0 {
			return 0, false
		}
		sum += v * weight
		weight = weight * 3 % 31
	}
	return creditDigits[(31-sum%31)%31], true
}

// CheckCredit tells whether a unified social credit code is well formed: 18
// characters, the administrative division at 3 to 8 in digits, the check
// character right. Nothing says that it was ever given out.
func CheckCredit(code string) error {
	if len(code) != 18 || strings.Trim(code[2:8], "0123456789") != "" {
		return ErrLicence
	}
	if c, ok := CreditCheck(code[:17]); !ok || c != code[17] {
		return ErrLicence
	}
	return nil
}

// IdentityCheck computes the 18th character of a citizen's identity number from
// its first 17 digits (GB 11643-1999, ISO 7064 MOD 11-2).
func IdentityCheck(first17 string) (byte, bool) {
	if len(first17) != 17 {
		return 0, false
	}
	m := 0
	for i := range first17 {
		if first17[i] < '0' || first17[i] > '9' {
			return 0, false
		}
		m = (m + int(first17[i]-'0')) * 2 % 11
	}
	return "10X98765432"[m], true
}

// CheckIdentity tells whether an identity number is well formed: 18
// characters, a date of birth that a calendar has, the check character right.
func CheckIdentity(number string) error {
	if len(number) != 18 {
		return ErrIDNumber
	}
	if c, ok := IdentityCheck(number[:17]); !ok || c != number[17] {
		return ErrIDNumber
	}
	if d, ok := birth(number); !ok || d.Year < 1900 {
		return ErrIDNumber
	}
	return nil
}

// Institution is the house's code as an acquirer, the first digits of its
// merchant numbers. Codes from 8 on are of payment firms; no published list
// names this one.
const Institution = "890"

// A MID is a merchant number taken apart: 15 characters, of the acquiring
// institution 3, the region 4 (the first of GB/T 2260, as identity numbers
// begin), the category 4, and a sequence of 4 that only tells apart.
type MID struct {
	Institution string
	Region      string
	MCC         string
	Sequence    string // 0001 to 9999, then A000 to ZZZZ in digits and capitals
}

// ParseMID takes a merchant number apart.
func ParseMID(s string) (MID, error) {
	if len(s) != 15 || strings.Trim(s[:11], "0123456789") != "" || strings.ContainsFunc(s[11:], func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z')
	}) {
		return MID{}, ErrMID
	}
	return MID{s[:3], s[3:7], s[7:11], s[11:]}, nil
}

func (m MID) String() string { return m.Institution + m.Region + m.MCC + m.Sequence }

const base36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// sequence writes the n-th number, from 1: four digits as long as they
// suffice, then a letter in front; field 42 takes letters (ISO 8583, ans 15).
func sequence(n int64) (string, bool) {
	if n < 1 {
		return "", false
	}
	if n <= 9999 {
		return fmt.Sprintf("%04d", n), true
	}
	n += 10*36*36*36 - 10000
	if n >= 36*36*36*36 {
		return "", false
	}
	var b [4]byte
	for i := 3; i >= 0; i-- {
		b[i] = base36[n%36]
		n /= 36
	}
	return string(b[:]), true
}

// takeNumbers reserves n numbers of a row of numbers and returns the first.
func takeNumbers(tx *db.Tx, row string, n int64) (first int64, err error) {
	err = tx.QueryRow(`INSERT INTO merchant_sequence (name, next) VALUES ($1, 1 + $2)
		ON CONFLICT (name) DO UPDATE SET next = merchant_sequence.next + $2 RETURNING next - $2`, row, n).Scan(&first)
	return first, err
}

// newMID gives the next merchant number of a city and category.
func newMID(tx *db.Tx, city, mcc string) (string, error) {
	for {
		n, err := takeNumbers(tx, "mid:"+city[:4]+mcc, 1)
		if err != nil {
			return "", err
		}
		mid, err := midOf(city, mcc, n)
		if err != nil {
			return "", err
		}
		if taken, err := exists(tx, `SELECT COUNT(*) FROM merchant_shop WHERE mid = $1 AND mid <> ''`, mid); err != nil || !taken {
			return mid, err
		}
	}
}

func midOf(city, mcc string, n int64) (string, error) {
	seq, ok := sequence(n)
	if !ok {
		return "", fmt.Errorf("region %s, category %s: %w", city[:4], mcc, ErrFull)
	}
	return Institution + city[:4] + mcc + seq, nil
}

// firstTID is the first terminal number that the house gives out; those below
// are for numbers that others chose.
const firstTID = 20_000_000

// newTID gives the next terminal number: eight digits.
func newTID(tx *db.Tx) (string, error) {
	for {
		n, err := takeNumbers(tx, "tid", 1)
		if err != nil {
			return "", err
		}
		tid, err := tidOf(n)
		if err != nil {
			return "", err
		}
		if taken, err := exists(tx, `SELECT COUNT(*) FROM merchant_terminal WHERE tid = $1`, tid); err != nil || !taken {
			return tid, err
		}
	}
}

func tidOf(n int64) (string, error) {
	if n += firstTID - 1; n > 99_999_999 {
		return "", fmt.Errorf("terminal numbers: %w", ErrFull)
	}
	return fmt.Sprintf("%08d", n), nil
}

func exists(q db.Reader, count string, args ...any) (bool, error) {
	var n int64
	err := q.QueryRow(count, args...).Scan(&n)
	return n > 0, err
}

// plainNumber tells whether s is of capitals and digits (and dashes where dash
// is set), at most max of them.
func plainNumber(s string, max int, dash bool) bool {
	return s != "" && len(s) <= max && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (!dash || r != '-')
	})
}
