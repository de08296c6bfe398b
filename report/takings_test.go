package report_test

import (
	"slices"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/report"
	"koala/switching"
)

func TestTakings(t *testing.T) {
	s := dbtest.Open(t)
	if err := s.Migrate(t.Context(), proposal.Schema, switching.Schema); err != nil {
		t.Fatal(err)
	}
	day := time.Date(2015, 9, 16, 0, 0, 0, 0, calendar.Beijing)
	put := func(tx *db.Tx, n int, shop, state string, fen int64, at time.Time) error {
		_, err := tx.Exec(`INSERT INTO switching_txn (tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded, entry, auth, code, why, original,
			plan, standin, hash, reply, extra, at, changed) VALUES ('10000001', 1, $1, $2, 'sale', $3, '', $4, '', '', 0, '', '', 'debit', FALSE, $5, $5, 0, '', '', '', '', '', '', FALSE, '', $6, '', $7, $7)`,
			n, "rrn"+string(rune('a'+n)), state, shop, fen, []byte{}, at.UnixMicro())
		return err
	}
	err := s.Write(t.Context(), func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO switching_place (shop, tid) VALUES ('shop_1', '10000001'), ('shop_2', '10000001')`); err != nil {
			return err
		}
		for n, x := range []struct {
			shop, state string
			fen         int64
			at          time.Time
		}{{"shop_1", "approved", 12_50, day.Add(8 * time.Hour)}, {"shop_1", "approved", 7_50, day.Add(8*time.Hour + 59*time.Minute)}, {"shop_1", "cleared", 200_00, day.Add(23*time.Hour + 59*time.Minute)},
			{"shop_2", "approved", 1_00, day.Add(9 * time.Hour)}, {"shop_1", "approved", 1_00, day.Add(-time.Second)}, {"shop_1", "approved", 1_00, day.Add(24 * time.Hour)}} {
			if err := put(tx, n, x.shop, x.state, x.fen, x.at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []report.Taking
	err = s.Read(t.Context(), func(q *db.Query) (err error) {
		got, err = report.Takings(q, "shop_1", day, day.Add(24*time.Hour))
		return err
	})
	want := []report.Taking{{Kind: "sale", State: "approved", Class: "debit", Hour: 8, Count: 2, Fen: 20_00}, {Kind: "sale", State: "cleared", Class: "debit", Hour: 23, Round: true, Count: 1, Fen: 200_00}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
}
