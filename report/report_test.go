package report_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/money"
	"koala/report"
	"koala/settlement"
	"koala/transit"
	"koala/tsm"
)

var ctx = context.Background()

// noon is the moment the questions are asked at.
var noon = time.Date(2015, 9, 16, 4, 30, 0, 0, time.UTC)

// fill makes the tables and a small history in them.
func fill(t *testing.T, s *db.Store) {
	t.Helper()
	if err := s.Migrate(ctx, customer.Schema, issuing.Schema, tsm.Schema, settlement.Schema, transit.Schema); err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) int64 { return noon.Add(d).UnixMicro() }
	const card = "03104870512345678901"
	rows := []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO transit_debit (card, seq, fen, terminal, number, at, got, body, funded, journey) VALUES ($1, $2, $3, 'T', $4, $5, $5, $6, $7, 'jrny_1')`, []any{card, 1, 0, 1, at(-3 * time.Hour), []byte{1}, true}},
		{`INSERT INTO transit_debit (card, seq, fen, terminal, number, at, got, body, funded, journey) VALUES ($1, $2, $3, 'T', $4, $5, $5, $6, $7, 'jrny_1')`, []any{card, 2, 400, 2, at(-2 * time.Hour), []byte{2}, true}},
		{`INSERT INTO transit_debit (card, seq, fen, terminal, number, at, got, body, funded, journey) VALUES ($1, $2, $3, 'T', $4, $5, $5, $6, $7, 'jrny_2')`, []any{card, 3, 0, 3, at(-time.Minute), []byte{3}, false}},
		{`INSERT INTO transit_journey (id, card, first, last, mode, state, finish, origin, target, entered, gone, month, counts, exception, deadline, changed, body)
			VALUES ('jrny_1', $1, 1, 2, 'rail', 'closed', 'left', 150998, 150995, $2, $3, '2015-09', 400, 'fare-differs', 0, $3, '{}')`, []any{card, at(-3 * time.Hour), at(-2 * time.Hour)}},
		{`INSERT INTO transit_journey (id, card, first, last, mode, state, finish, origin, target, entered, gone, month, counts, exception, deadline, changed, body)
			VALUES ('jrny_2', $1, 3, 3, 'rail', 'open', '', 150995, 0, $2, 0, '', 0, '', 0, $2, '{}')`, []any{card, at(-time.Minute)}},
		{`INSERT INTO transit_repair (id, journey, card, at, who, missing, station, reason, fen, account) VALUES ('rep_1', 'jrny_1', $1, $2, 'staff', 'missing-exit', 150995, 'gate out of order', 100, 'wallet')`, []any{card, at(-time.Hour)}},
		{`INSERT INTO settlement_payout (id, day, payee, kind, state, n, fen, at, after, upto, gross, refunds, chargebacks, fee, issuer, network, acquirer, reserved, released, advance, undone, brought, kept, arrives, promised, answered, late, file)
			VALUES ('pay_1', '2015-09-15', 'bjsubway', 't1', 'sent', 1, 400, $1, 0, 1, 400, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '2015-09-16', 0, 0, 0, '2015-09-15')`, []any{at(-90 * time.Minute)}},
		{`INSERT INTO settlement_payee (payee, mark, day, kept, reserve, held, stopped, free, auto, v) VALUES ('bjsubway', 1, '2015-09-15', 0, 0, 0, 0, 0, 0, 1)`, nil},
		{`INSERT INTO settlement_item (payee, seq, ref, kind, card, issuer, fen, at, booked, sale_at, remains, whole, lo, share) VALUES ('bjsubway', 2, 'c1', 'ride', '', '', 250, $1, $1, 0, 0, 0, 0, 0)`, []any{at(0)}},
		{`INSERT INTO tsm_band (id, owner, adopted, placed, seen) VALUES ('band_1', 'cust_1', $1, 0, 0)`, []any{true}},
	}
	for i, o := range []struct {
		id, kind, state string
		open, desk      bool
		fen             int64
		ago             time.Duration
	}{
		{"ord_1", "topup", "done", false, false, 5000, 2*time.Hour + 10*time.Minute},
		{"ord_2", "issue", "unconfirmed", true, true, 0, 20 * time.Minute},
		{"ord_3", "topup", "failed", false, false, 7000, 10 * time.Minute},
	} {
		rows = append(rows, struct {
			sql  string
			args []any
		}{`INSERT INTO tsm_order (id, ref, kind, band, card, customer, fen, state, open, phase, session, stalled, desk, stop, why, placed, changed, deadline, script, seq, version, data)
			VALUES ($1, $2, $3, 'band_1', $4, 'cust_1', $5, $6, $7, 'wait', 0, 0, $8, $9, '', $10, $10, 0, '', -1, 1, $11)`,
			[]any{o.id, o.id, o.kind, card, o.fen, o.state, o.open, o.desk, false, at(-o.ago), []byte{byte(i)}}})
	}
	err := s.Write(ctx, func(tx *db.Tx) error {
		for _, r := range rows {
			if _, err := tx.Exec(r.sql, r.args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ask(t *testing.T, s *db.Store, f func(q *db.Query) error) {
	t.Helper()
	if err := s.Read(ctx, f); err != nil {
		t.Fatal(err)
	}
}

func TestTotalsAndDue(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		fill(t, s)
		ask(t, s, func(q *db.Query) error {
			got, err := report.TotalsOf(q)
			want := report.Totals{Taps: 3, Fares: money.Fen(400), TopUps: 1, Loaded: money.Fen(5000), Payouts: 1, Paid: money.Fen(400), Bands: 1, Riding: 1, Journeys: 2}
			if err == nil && got != want {
				t.Errorf("totals %+v, want %+v", got, want)
			}
			if moved := got.Moved(); moved != money.Fen(5800) {
				t.Errorf("moved %v", moved)
			}
			return err
		})
		ask(t, s, func(q *db.Query) error {
			got, err := report.DueOf(q)
			want := report.Due{OpenOrders: 1, Unconfirmed: 1, Desk: 1, Exceptions: 1, Unfunded: 1, Unpaid: money.Fen(250)}
			if err == nil && got != want {
				t.Errorf("due %+v, want %+v", got, want)
			}
			return err
		})
	})
}

func TestEmptyHouse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(ctx, customer.Schema, issuing.Schema, tsm.Schema, settlement.Schema, transit.Schema); err != nil {
			t.Fatal(err)
		}
		ask(t, s, func(q *db.Query) error {
			totals, err := report.TotalsOf(q)
			if err == nil && totals != (report.Totals{Fares: money.Fen(0), Loaded: money.Fen(0), Paid: money.Fen(0)}) {
				t.Errorf("totals of nothing: %+v", totals)
			}
			return err
		})
		ask(t, s, func(q *db.Query) error {
			acts, err := report.Recent(q, noon, 10)
			if len(acts) != 0 {
				t.Errorf("acts of nothing: %v", acts)
			}
			return err
		})
	})
}

func TestHours(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		fill(t, s)
		for _, tt := range []struct {
			m    report.Measure
			n    int
			want []int64
		}{
			{report.Taps, 4, []int64{1, 1, 0, 1}},
			{report.Fares, 4, []int64{0, 400, 0, 0}},
			{report.TopUps, 4, []int64{0, 1, 0, 0}},
			{report.Loaded, 3, []int64{5000, 0, 0}},
			{report.Issued, 2, []int64{0, 0}},
			{report.Taps, 0, []int64{1}},
		} {
			ask(t, s, func(q *db.Query) error {
				got, err := report.Hours(q, tt.m, noon, tt.n)
				if err == nil && !slices.Equal(got, tt.want) {
					t.Errorf("%s over %d hours: %v, want %v", tt.m, tt.n, got, tt.want)
				}
				return err
			})
		}
	})
}

func TestRecentNewestFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		fill(t, s)
		ask(t, s, func(q *db.Query) error {
			got, err := report.Recent(q, noon, 6)
			if err != nil {
				return err
			}
			var kinds []report.Kind
			for _, a := range got {
				kinds = append(kinds, a.Kind)
			}
			want := []report.Kind{report.TapIn, report.TopUp, report.Issue, report.Repair, report.Payout, report.TapOut}
			if !slices.Equal(kinds, want) {
				t.Fatalf("acts %v, want %v", kinds, want)
			}
			if in, out := got[0], got[5]; in.Station != 150995 || in.Tail != "8901" || in.Journey != "jrny_2" || out.Station != 150995 || out.Money != money.Fen(400) {
				t.Errorf("taps read as %+v and %+v", in, out)
			}
			if got[1].Order != "ord_3" || got[4].Day != "2015-09-15" {
				t.Errorf("traces: %+v, %+v", got[1], got[4])
			}
			return nil
		})
	})
}

var writing = regexp.MustCompile("(?i)`[^`]*\\b(INSERT|UPDATE|DELETE|CREATE|DROP|ALTER)\\b")

// TestOnlySelects holds the package to its charter.
func TestOnlySelects(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if matched, _ := filepath.Match("*_test.go", f); matched {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if m := writing.Find(text); m != nil {
			t.Errorf("%s writes: %s", f, m)
		}
	}
}
