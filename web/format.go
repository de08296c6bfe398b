package web

import (
	"context"
	"encoding/csv"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// beijing is UTC+8 without summer time, the zone of every time on a page.
var beijing = time.FixedZone("CST", 8*3600)

// thin is U+2009: it groups thousands without looking like a decimal sign.
const thin = "\u2009"

// Yuan writes an amount in fen as ¥1 234.56, with a minus when negative. Both
// fen digits always stand there: an amount is never rounded on a page.
func Yuan(fen int64) string {
	sign, u := "", uint64(fen)
	if fen < 0 {
		sign, u = "\u2212", -u
	}
	return fmt.Sprintf("%s¥%s.%02d", sign, group(strconv.FormatUint(u/100, 10)), u%100)
}

// SignedYuan writes a change of a balance: + or − always in front.
func SignedYuan(fen int64) string {
	if fen > 0 {
		return "+" + Yuan(fen)
	}
	return Yuan(fen)
}

// Number writes a whole number with thin thousands.
func Number(n int64) string {
	if n < 0 {
		return "\u2212" + group(strconv.FormatUint(-uint64(n), 10))
	}
	return group(strconv.FormatInt(n, 10))
}

func group(digits string) string {
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString(thin)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Moment writes a time in Beijing to the second: 2015-09-15 08:01:30.
func Moment(t time.Time) string { return t.In(beijing).Format("2006-01-02 15:04:05") }

// Clock writes the time of day in Beijing: 08:01:30.
func Clock(t time.Time) string { return t.In(beijing).Format("15:04:05") }

// Day writes a date as people say it: 9月15日 周二, Tue 15 Sep.
func Day(ctx context.Context, t time.Time) string {
	t = t.In(beijing)
	if LangOf(ctx) == ZH {
		return fmt.Sprintf("%d月%d日 周%c", t.Month(), t.Day(), []rune("日一二三四五六")[t.Weekday()])
	}
	return t.Format("Mon 2 Jan")
}

// Tail is the end of a card number people know a card by.
func Tail(number string) string {
	if len(number) <= 4 {
		return number
	}
	return number[len(number)-4:]
}

// Metres writes a distance: 850 m, 12.3 km.
func Metres(ctx context.Context, m int64) string {
	if m < 1000 {
		return words.Metre.In(ctx, m)
	}
	return words.Kilometre.In(ctx, fmt.Sprintf("%d.%d", m/1000, m%1000/100))
}

// Hex writes bytes as people read APDUs: pairs with spaces.
func Hex(b []byte) string {
	var s strings.Builder
	for i, c := range b {
		if i > 0 {
			s.WriteByte(' ')
		}
		fmt.Fprintf(&s, "%02X", c)
	}
	return s.String()
}

// Paging is the keyset of a list: rows after this key, so many at most.
type Paging struct {
	After string
	Limit int
}

// PageOf reads ?after= with the limit a page shows; CSV takes more rows.
func PageOf(r *http.Request, limit int) Paging {
	if WantsCSV(r) {
		limit = csvRows
	}
	return Paging{After: r.FormValue("after"), Limit: limit}
}

const csvRows = 10_000

// NextURL is the address of the rows after key, the filter kept; empty when
// the list gave fewer rows than asked.
func NextURL(r *http.Request, got int, p Paging, key string) string {
	if got < p.Limit || key == "" {
		return ""
	}
	q := r.URL.Query()
	q.Set("after", key)
	return r.URL.Path + "?" + q.Encode()
}

// WantsCSV reports whether the table was asked for as a file (?as=csv).
func WantsCSV(r *http.Request) bool { return r.FormValue("as") == "csv" }

// csvURL is the address of the same table as a file.
func csvURL(ctx context.Context) string {
	u := viewOf(ctx).url
	q := u.Query()
	q.Del("after")
	q.Set("as", "csv")
	return u.Path + "?" + q.Encode()
}

// WriteCSV answers with t as a file, UTF-8 with a mark so that spreadsheets
// read Chinese; a cell that a spreadsheet would run as a formula is quoted.
func WriteCSV(w http.ResponseWriter, r *http.Request, t Table) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": t.ID + ".csv"}))
	if _, err := w.Write([]byte("\uFEFF")); err != nil {
		return nil
	}
	out := csv.NewWriter(w)
	line := make([]string, len(t.Head))
	for i, h := range t.Head {
		line[i] = h.Name.In(r.Context())
	}
	_ = out.Write(line)
	for _, row := range t.Rows {
		line = line[:0]
		for _, c := range row.Cells {
			line = append(line, harmless(c.file()))
		}
		_ = out.Write(line)
	}
	out.Flush()
	return nil
}

func harmless(s string) string {
	if s == "" || !strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return "'" + s
}

// plainYuan is an amount for files: 12.30, a minus sign that programs read.
func plainYuan(fen int64) string {
	sign, u := "", uint64(fen)
	if fen < 0 {
		sign, u = "-", -u
	}
	return fmt.Sprintf("%s%d.%02d", sign, u/100, u%100)
}

// sparkPath turns values into the points of a polyline in a w×h box.
func sparkPath(values []int64, w, h int) string {
	if len(values) < 2 {
		return ""
	}
	lo, hi := values[0], values[0]
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	span := float64(hi - lo)
	if span == 0 {
		span = 1
	}
	var b strings.Builder
	for i, v := range values {
		x := float64(i) * float64(w) / float64(len(values)-1)
		y := float64(h-2) - float64(v-lo)/span*float64(h-4)
		fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
	}
	return strings.TrimSpace(b.String())
}
