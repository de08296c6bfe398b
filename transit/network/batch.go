package network

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/fail"
)

// ErrBatch is a batch file that cannot be read on.
var ErrBatch = fail.Define(fail.Invalid, "network.batch", "the batch is not a CSV file with the columns from,to")

// The limits of a batch.
const (
	MaxBatchRows   = 2_000_000
	maxBadRowsKept = 50
)

// A BadRow is a row of a batch that has no price.
type BadRow struct {
	Line int // in the file, from 1
	Err  error
}

func (b BadRow) String() string { return fmt.Sprintf("line %d: %v", b.Line, b.Err) }

// A BatchReport says how a batch went.
type BatchReport struct {
	Rows int      // rows read, the header not counted
	Bad  int      // rows without a price
	Kept []BadRow // the first of them
}

// Noon is the time that fares without a time of their own are asked for: past
// every early-bird limit, on the Beijing day of t.
func Noon(t time.Time) time.Time {
	return calendar.Of(t, calendar.Beijing).Start(calendar.Beijing).Add(12 * time.Hour)
}

// Batch prices every from,to row of in at at and writes
// from,to,distance_m,fen to out. A header that names the columns is optional;
// with one, other columns and any order are accepted. A bad row keeps its
// place with two empty cells and stands in the report with its line number; an
// unreadable file is an error. progress, if not nil, hears the rows done.
func (n *Network) Batch(in io.Reader, out io.Writer, at time.Time, progress func(rows int)) (BatchReport, error) {
	r, w := csv.NewReader(in), csv.NewWriter(out)
	r.FieldsPerRecord, r.ReuseRecord, r.TrimLeadingSpace = -1, true, true
	if err := w.Write([]string{"from", "to", "distance_m", "fen"}); err != nil {
		return BatchReport{}, fmt.Errorf("batch: %w", err)
	}
	var report BatchReport
	from, to := 0, 1
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return report, errors.Join(fmt.Errorf("batch: %w: %w", ErrBatch, err), flushed(w))
		}
		if first {
			row[0] = strings.TrimPrefix(row[0], "\ufeff")
			if f, t, ok := header(row); ok {
				from, to = f, t
				continue
			}
		}
		if report.Rows++; report.Rows > MaxBatchRows {
			return report, errors.Join(fmt.Errorf("batch: more than %d rows: %w", MaxBatchRows, ErrBatch), flushed(w))
		}
		line, _ := r.FieldPos(0)
		if err := w.Write(n.batchRow(row, from, to, at, line, &report)); err != nil {
			return report, fmt.Errorf("batch: %w", err)
		}
		if progress != nil {
			progress(report.Rows)
		}
	}
	return report, flushed(w)
}

func flushed(w *csv.Writer) error {
	w.Flush()
	return w.Error()
}

// header finds the columns in a first row that names them.
func header(row []string) (from, to int, ok bool) {
	is := func(name string) func(string) bool {
		return func(cell string) bool { return strings.EqualFold(strings.TrimSpace(cell), name) }
	}
	from, to = slices.IndexFunc(row, is("from")), slices.IndexFunc(row, is("to"))
	return from, to, from >= 0 && to >= 0
}

func (n *Network) batchRow(row []string, from, to int, at time.Time, line int, report *BatchReport) []string {
	bad := func(err error, a, b string) []string {
		report.Bad++
		if len(report.Kept) < maxBadRowsKept {
			report.Kept = append(report.Kept, BadRow{line, err})
		}
		return []string{a, b, "", ""}
	}
	if len(row) <= max(from, to) {
		return bad(fmt.Errorf("%w: %d columns", ErrBatch, len(row)), row[0], "")
	}
	a, b := strings.TrimSpace(row[from]), strings.TrimSpace(row[to])
	answer, err := n.Fare(Question{From: a, To: b, At: at})
	if err != nil {
		return bad(err, a, b)
	}
	return []string{a, b, strconv.Itoa(answer.Route.Metres), strconv.FormatInt(answer.Quote.Fen.Minor(), 10)}
}
