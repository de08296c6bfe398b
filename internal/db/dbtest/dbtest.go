// Package dbtest opens stores for tests: SQLite always, PostgreSQL when
// KOALA_TEST_PG names a server.
package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"koala/internal/db"
)

// Environment names the variable with the postgres:// URL of a server whose
// tests may make and drop schemas.
const Environment = "KOALA_TEST_PG"

// Each runs f as a subtest on every kind of store at hand, each empty.
func Each(t *testing.T, f func(t *testing.T, s *db.Store)) {
	t.Helper()
	EachConfig(t, func(t *testing.T, cfg db.Config) { f(t, open(t, cfg)) })
}

// EachConfig runs f as a subtest with a configuration of every kind of store
// at hand, for tests that open the same store several times.
func EachConfig(t *testing.T, f func(t *testing.T, cfg db.Config)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, db.Config{URL: File(t)}) })
	t.Run("postgres", func(t *testing.T) { f(t, db.Config{URL: Postgres(t)}) })
}

// Open opens an empty SQLite store, with the configuration changed by mods,
// and closes it after the test.
func Open(t testing.TB, mods ...func(*db.Config)) *db.Store {
	t.Helper()
	cfg := db.Config{URL: File(t)}
	for _, m := range mods {
		m(&cfg)
	}
	return open(t, cfg)
}

func open(t testing.TB, cfg db.Config) *db.Store {
	t.Helper()
	s, err := db.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

// File names a data file that does not exist yet in a directory that goes
// with the test.
func File(t testing.TB) string { return filepath.Join(t.TempDir(), "koala.db") }

var schemas atomic.Int64

// Postgres returns the URL of a fresh schema that is dropped after the test,
// and skips the test when there is no server.
func Postgres(t testing.TB) string {
	t.Helper()
	base := os.Getenv(Environment)
	if base == "" {
		t.Skip(Environment + " is not set")
	}
	schema := fmt.Sprintf("test_%d_%d", os.Getpid(), schemas.Add(1))
	script(t, base, "DROP SCHEMA IF EXISTS "+schema+" CASCADE; CREATE SCHEMA "+schema)
	t.Cleanup(func() { script(t, base, "SET client_min_messages = error; DROP SCHEMA "+schema+" CASCADE") })
	return WithParam(base, "search_path", schema)
}

// WithParam adds a connection parameter to a postgres:// URL.
func WithParam(base, name, value string) string {
	sep := "?"
	if strings.Contains(base, "?") {
		sep = "&"
	}
	return base + sep + name + "=" + url.QueryEscape(value)
}

func script(t testing.TB, base, sql string) {
	t.Helper()
	ctx := context.Background()
	c, err := pgconn.Connect(ctx, base)
	if err != nil {
		t.Fatalf("connecting to the test server: %v", err)
	}
	defer c.Close(ctx)
	if err := c.Exec(ctx, sql).Close(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
