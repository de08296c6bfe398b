package app_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"koala/app"
	"koala/internal/db"
	"koala/issuing"
)

func TestVerifyOfALivedHouse(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w, r := lived(t, cfg)
		p := green(t, w.h)
		if p.Books != 1 || p.Entries == 0 || p.Batches == 0 || len(p.Hash) != 64 {
			t.Errorf("%+v", p)
		}
		b, err := w.h.Book.Balance(issuing.Float(issuing.IDOf(r.card)))
		if err != nil || b.Posted.Minor() != 100_00-3*3_00 {
			t.Errorf("float %v, %v", b.Posted, err)
		}
		w.h.Close()
		h := open(t, cfg)
		if again := green(t, h); again.Hash != p.Hash || again.Entries != p.Entries {
			t.Errorf("before the restart %+v, after %+v", p, again)
		}
	})
}

// TestVerifyFindsWhatWasSpoiled: each row changes the store behind the house's
// back; the proof fails and says where.
func TestVerifyFindsWhatWasSpoiled(t *testing.T) {
	for _, tt := range []struct{ name, sql, where string }{
		{"a byte of the journal", flipped("ledger_journal", "blob", "seq = (SELECT MAX(seq) FROM ledger_journal)"), "batch "},
		{"a hash of the journal", flipped("ledger_journal", "hash", "seq = (SELECT MAX(seq) FROM ledger_journal)"), "batch "},
		{"a journal row gone", `DELETE FROM ledger_journal WHERE seq = (SELECT seq FROM ledger_journal ORDER BY seq DESC LIMIT 1 OFFSET 2)`, "batch "},
		{"the last journal row gone", `DELETE FROM ledger_journal WHERE seq = (SELECT MAX(seq) FROM ledger_journal)`, "memory"},
		{"a debit's amount", `UPDATE transit_debit SET fen = fen + 100 WHERE fen > 0 AND seq = (SELECT MIN(seq) FROM transit_debit WHERE fen > 0)`, "tap "},
		{"a share's amount", `UPDATE transit_share SET fen = fen - 1 WHERE ref = (SELECT MIN(ref) FROM transit_share)`, "tap "},
		{"a settled capture's amount", `UPDATE settlement_item SET fen = fen + 1 WHERE ref = (SELECT MIN(i.ref) FROM settlement_item i JOIN settlement_payee p ON p.payee = i.payee WHERE i.seq <= p.mark)`, "payout "},
		{"a settled capture gone", `DELETE FROM settlement_item WHERE ref = (SELECT MIN(i.ref) FROM settlement_item i JOIN settlement_payee p ON p.payee = i.payee WHERE i.seq <= p.mark)`, "payout "},
		{"a payout gone", `DELETE FROM settlement_payout WHERE id = (SELECT MIN(id) FROM settlement_payout)`, "capture "},
		{"a waiting capture's amount", `UPDATE settlement_item SET fen = fen + 1 WHERE ref = (SELECT MIN(i.ref) FROM settlement_item i JOIN settlement_payee p ON p.payee = i.payee WHERE i.seq > p.mark)`, "payee "},
		{"a waiting capture gone", `DELETE FROM settlement_item WHERE ref = (SELECT MIN(i.ref) FROM settlement_item i JOIN settlement_payee p ON p.payee = i.payee WHERE i.seq > p.mark)`, "payee "},
		{"a card's row gone", `DELETE FROM issuing_card`, "no such card"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, cfg app.Config) {
				w, _ := lived(t, cfg)
				green(t, w.h)
				w.write(func(tx *db.Tx) error { return changes(tx, tt.sql) })
				found(t, w.h, tt.where)
			})
		})
	}
}

// flipped changes the lowest bit of the first byte of a BYTEA column, in the
// words that both stores know.
func flipped(table, column, where string) string {
	return "flip|" + table + "|" + column + "|" + where
}

// changes runs a statement that must hit exactly one row or more.
func changes(tx *db.Tx, sql string) error {
	args := []any{}
	if f := strings.Split(sql, "|"); len(f) == 4 && f[0] == "flip" {
		var raw []byte
		if err := tx.QueryRow(`SELECT ` + f[2] + ` FROM ` + f[1] + ` WHERE ` + f[3]).Scan(&raw); err != nil {
			return err
		}
		raw = append([]byte(nil), raw...)
		raw[len(raw)/2] ^= 1
		sql, args = `UPDATE `+f[1]+` SET `+f[2]+` = $1 WHERE `+f[3], append(args, raw)
	}
	n, err := tx.Exec(sql, args...)
	if err == nil && n == 0 {
		err = db.ErrNoRows
	}
	return err
}

// found fails the test unless the proof fails and names where.
func found(t *testing.T, h *app.House, where string) {
	t.Helper()
	p, err := h.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if p.OK || len(p.Problems) == 0 {
		t.Fatal("nothing found")
	}
	for _, x := range p.Problems {
		if strings.Contains(x, where) {
			return
		}
	}
	t.Errorf("no problem names %q: %q", where, p.Problems)
}

// TestVerifyFindsSpoiledViews: and building them again heals them.
func TestVerifyFindsSpoiledViews(t *testing.T) {
	for _, tt := range []struct{ name, sql, where string }{
		{"a statement line", `UPDATE ledger_view_line SET amount = amount + 1 WHERE account = (SELECT MAX(account) FROM ledger_view_line)`, "account "},
		{"an entry's text", `UPDATE ledger_view_entry SET text = 'gift' WHERE seq = (SELECT MAX(seq) FROM ledger_view_entry)`, "record "},
		{"an entry gone", `DELETE FROM ledger_view_entry WHERE seq = 3`, "record 3"},
		{"a closing balance", `UPDATE ledger_view_day SET balance = balance + 1`, "account "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, cfg app.Config) {
				w, _ := lived(t, cfg)
				green(t, w.h)
				spoilViews(t, w.h, cfg, tt.sql)
				h := open(t, cfg)
				found(t, h, tt.where)
				if err := h.Book.Rebuild(ctx); err != nil {
					t.Fatal(err)
				}
				green(t, h)
			})
		})
	}
}

// spoilViews closes the house and changes its views.
func spoilViews(t *testing.T, h *app.House, cfg app.Config, sql string) {
	t.Helper()
	place := cfg.DB
	if place != "" { // the views have a schema of their own beside the house's
		u, err := url.Parse(place)
		if err != nil {
			t.Fatal(err)
		}
		params := u.Query()
		params.Set("search_path", params.Get("search_path")+"_views")
		u.RawQuery = params.Encode()
		place = u.String()
	} else {
		place = filepath.Join(cfg.Data, "koala.db.views")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := db.Open(ctx, db.Config{URL: place})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Write(ctx, func(tx *db.Tx) error { return changes(tx, sql) }); err != nil {
		t.Fatal(err)
	}
}

// TestBackupIsTheSameHouse: a copy taken while the house works opens with the
// key file, proves the same books, and goes on by itself.
func TestBackupIsTheSameHouse(t *testing.T) {
	w, r := lived(t, config(t))
	p := green(t, w.h)
	copied := config(t)
	copied.Clock = w.clock
	if err := os.MkdirAll(copied.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	copied.KeyFile = filepath.Join(w.h.Config.Data, "koala.key")
	if err := w.h.Store.Backup(ctx, filepath.Join(copied.Data, "koala.db")); err != nil {
		t.Fatal(err)
	}
	w.h.Close()
	h := open(t, copied)
	if q := green(t, h); q.Hash != p.Hash {
		t.Errorf("the house %+v, its copy %+v", p, q)
	}
	w.h = h
	w.street.Move(h)
	w.ride(r, "dongdan", "xidan")
	if n := w.collect(); n != 2 {
		t.Errorf("%d debits collected", n)
	}
	green(t, h)
}
