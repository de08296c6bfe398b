// Package limit says how much a payee may be paid out at once on a day, from
// what is known about it: what it sold, how much of that came back, how old it
// is and how far it is trusted. The factors are rows with the day they come into
// force and a source (limit.csv). It knows no store.
//
// Start with Table.Of.
package limit

import (
	_ "embed" // the rows
	"encoding/csv"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"koala/calendar"
	"koala/internal/fail"
	"koala/money"
	"koala/settlement/fee"
)

// Facts are what is known about a payee on a day.
type Facts struct {
	Taken30, Taken90 int64 // sales of the last 30 and 90 days, fen
	Refunds, Charged int64 // of the last 90 days, refunded and charged back, fen, at least zero
	Age              int   // of the shop, days
	Risk             Risk
}

// A Risk is how far a payee is trusted: A most, D least, as merchants have it.
// One that the table does not name is as its last.
type Risk string

// A Limit is how much may be paid out at once on a day, and how that comes
// about: each line has what is left of the limit when it is heeded.
type Limit struct {
	Most  money.Amount
	Lines []fee.Line
}

// The factors of the table, in the order in which they are heeded.
const (
	takings     = "takings"     // percent of an average day's sales
	age         = "age"         // percent below so many days
	refunds     = "refunds"     // percent up to so many basis points of sales
	chargebacks = "chargebacks" // likewise
	risk        = "risk"        // percent of a level
)

var factors = []string{takings, age, refunds, chargebacks, risk}

// A row is one line of the table.
type row struct {
	from    calendar.Date
	factor  string
	key     string // risk
	upto    int64  // others; open: no limit
	percent int64
	source  string
}

// open is the key of the last row of a factor.
const open = int64(1) << 62

// A Table is all rows.
type Table struct{ rows []row }

// ErrRows is a table that does not read, or by which a worse shop gets more.
var ErrRows = fail.Define(fail.Broken, "settlement.limit_rows", "the table of limits of payouts at once is malformed")

//go:embed limit.csv
var houseRows string

// House reads the rows that come with the program.
func House() *Table {
	t, err := Read(strings.NewReader(houseRows))
	if err != nil {
		panic(err) // a defect of this package, found by its first test
	}
	return t
}

// maxPercent bounds a factor.
const maxPercent = 1_000

// Read reads a table with a head line. Rows of a factor that begin on one day
// stand in the order of their keys, the last one open; an older shop never gets
// less, one with more refunds, chargebacks or risk never more.
func Read(in io.Reader) (*Table, error) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = 5
	all, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRows, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrRows)
	}
	t := &Table{}
	for i, f := range all[1:] {
		x := row{factor: f[1], key: f[2], upto: open, source: f[4]}
		x.from, err = calendar.Parse(f[0])
		if err == nil && x.factor != risk && x.key != "" {
			x.upto, err = strconv.ParseInt(x.key, 10, 64)
		}
		if err == nil {
			x.percent, err = strconv.ParseInt(f[3], 10, 64)
		}
		if err == nil {
			err = t.add(x)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: row %d: %w", ErrRows, i+1, err)
		}
	}
	for _, x := range t.rows {
		if day := t.of(x.factor, x.from); x.factor != risk && day[len(day)-1].upto != open {
			return nil, fmt.Errorf("%w: %s of %s does not end", ErrRows, x.factor, x.from)
		}
	}
	return t, nil
}

// add puts a row behind the others.
func (t *Table) add(x row) error {
	known := false
	for _, f := range factors {
		known = known || f == x.factor
	}
	most := int64(100)
	if x.factor == takings {
		most = maxPercent
	}
	if !known || x.percent < 0 || x.percent > most || x.upto < 0 || (x.factor == risk) != (x.key != "" && x.upto == open) {
		return fmt.Errorf("%s %q of %d %%", x.factor, x.key, x.percent)
	}
	if n := len(t.rows); n > 0 && t.rows[n-1].factor == x.factor && t.rows[n-1].from == x.from {
		before := t.rows[n-1]
		better := x.percent > before.percent
		if x.factor == takings || x.factor != risk && x.upto <= before.upto || better != (x.factor == age) && x.percent != before.percent {
			return fmt.Errorf("%s %q of %d %% behind %q of %d %%", x.factor, x.key, x.percent, before.key, before.percent)
		}
	} else if len(t.of(x.factor, x.from)) > 0 && t.of(x.factor, x.from)[0].from == x.from {
		return fmt.Errorf("%s of %s is in two places", x.factor, x.from)
	}
	t.rows = append(t.rows, x)
	return nil
}

// of is the rows of a factor in force on a day.
func (t *Table) of(factor string, day calendar.Date) (out []row) {
	for _, x := range t.rows {
		switch {
		case x.factor != factor || day.Before(x.from):
		case len(out) > 0 && out[0].from == x.from:
			out = append(out, x)
		case len(out) == 0 || out[0].from.Before(x.from):
			out = append(out[:0], x)
		}
	}
	return out
}

// maxDay bounds an average day, fen.
const maxDay = 100_000_000_000

// Of is the limit of a payee on a day: an average day's sales, of the last 30 or
// 90 days, whichever are less, times the factors, and never above what was
// agreed. A table without rows for the day lets nothing be paid out at once.
func (t *Table) Of(day calendar.Date, f Facts, agreed money.Amount) Limit {
	fen := max(0, min(f.Taken30/30, f.Taken90/90, maxDay))
	var l Limit
	say := func(en, zh string) { l.Lines = append(l.Lines, fee.Line{EN: en, ZH: zh, Fen: money.Fen(fen)}) }
	say("Sold on an average day, of the last 30 or 90 days whichever are less", "近30天与近90天日均交易额中较低者")
	for _, name := range factors {
		p := percent(t.of(name, day), name, f)
		fen = fen * p / 100
		switch name {
		case takings:
			say(fmt.Sprintf("%d %% of an average day", p), fmt.Sprintf("日均交易额的%d%%", p))
		case age:
			say(fmt.Sprintf("Open for %d days: %d %%", f.Age, p), fmt.Sprintf("入网%d天：%d%%", f.Age, p))
		case refunds:
			say(fmt.Sprintf("Refunds are %s of sales: %d %%", rate(f.Refunds, f.Taken90), p), fmt.Sprintf("退款率%s：%d%%", rate(f.Refunds, f.Taken90), p))
		case chargebacks:
			say(fmt.Sprintf("Chargebacks are %s of sales: %d %%", rate(f.Charged, f.Taken90), p), fmt.Sprintf("拒付率%s：%d%%", rate(f.Charged, f.Taken90), p))
		case risk:
			say(fmt.Sprintf("Risk level %s: %d %%", f.Risk, p), fmt.Sprintf("风险等级%s：%d%%", f.Risk, p))
		}
	}
	if fen > agreed.Minor() {
		fen = max(0, agreed.Minor())
		say("At most what was agreed", "不超过约定上限")
	}
	l.Most = money.Fen(fen)
	return l
}

// percent is what a factor's rows say.
func percent(rows []row, name string, f Facts) int64 {
	n := int64(f.Age) + 1 // a row of 30 days is for those below
	switch name {
	case takings:
		n = 0
	case refunds:
		n = points(f.Refunds, f.Taken90)
	case chargebacks:
		n = points(f.Charged, f.Taken90)
	}
	for i, x := range rows {
		if name == risk && (x.key == string(f.Risk) || i == len(rows)-1) || name != risk && n <= x.upto {
			return x.percent
		}
	}
	return 0
}

// points is a part of what was sold in basis points, upwards.
func points(part, sold int64) int64 {
	switch {
	case part <= 0:
		return 0
	case sold <= 0 || part >= sold:
		return 10_000
	}
	hi, lo := bits.Mul64(uint64(part), 10_000)
	q, rest := bits.Div64(hi, lo, uint64(sold))
	if rest > 0 {
		q++
	}
	return int64(q)
}

// rate writes a part of what was sold as per cent.
func rate(part, sold int64) string {
	bp := points(part, sold)
	return fmt.Sprintf("%d.%02d%%", bp/100, bp%100)
}
