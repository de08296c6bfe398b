package db_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

// TestCopyBesideAnOpenStore: a backup is taken by somebody who does not hold
// the store, while its owner goes on writing.
func TestCopyBesideAnOpenStore(t *testing.T) {
	ctx := context.Background()
	from := filepath.Join(t.TempDir(), "koala.db")
	s, err := db.Open(ctx, db.Config{URL: from})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(ctx, db.Schema{Owner: "copytest", Steps: []string{`CREATE TABLE copytest_row (n BIGINT PRIMARY KEY)`}}); err != nil {
		t.Fatal(err)
	}
	put := func(n int64) error {
		return s.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO copytest_row (n) VALUES ($1)`, n)
			return err
		})
	}
	if err := put(1); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := db.Copy(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	if err := put(2); err != nil {
		t.Fatalf("the owner cannot go on: %v", err)
	}
	var n int64
	copied := dbtest.Open(t, func(c *db.Config) { c.URL = to })
	err = copied.Read(ctx, func(q *db.Query) error { return q.QueryRow(`SELECT COUNT(*) FROM copytest_row`).Scan(&n) })
	if err != nil || n != 1 {
		t.Errorf("the copy has %d rows, %v; want 1", n, err)
	}
	if err := db.Copy(ctx, filepath.Join(t.TempDir(), "nothing.db"), to+"2"); !errors.Is(err, db.ErrCannot) {
		t.Errorf("copy of nothing: %v, want ErrCannot", err)
	}
}
