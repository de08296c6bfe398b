// Package db keeps everything koala must not lose. Changes are units of work
// queued for one writer, which makes the whole queue durable with one commit
// and only then answers; reads see committed rows only. The same SQL text runs
// on an embedded SQLite file and on PostgreSQL. Start at Open, Store.Write and
// Store.Read.
package db

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"koala/internal/clock"
	"koala/internal/fail"
)

// How the store fails. Each is wrapped with the file or the server it is about.
var (
	ErrNoRows   = fail.Define(fail.NotFound, "db.no_rows", "there is no such row")
	ErrBusy     = fail.Define(fail.Busy, "db.busy", "too much is waiting to be written; try again in a moment")
	ErrClosed   = fail.Define(fail.Busy, "db.closed", "the store is being closed")
	ErrInUse    = fail.Define(fail.Broken, "db.in_use", "the data file is in use by another process; stop it or name another file with --db")
	ErrLocked   = fail.Define(fail.Busy, "db.locked", "another program holds a lock on the data file; close it and try again")
	ErrFull     = fail.Define(fail.Broken, "db.full", "the disk is full; nothing of this was written: free some space and try again")
	ErrDisk     = fail.Define(fail.Broken, "db.disk", "the disk does not read or write the data file; check the disk and the permissions")
	ErrCorrupt  = fail.Define(fail.Broken, "db.corrupt", "the file is not a database or it is damaged; restore a backup or name another file with --db")
	ErrCannot   = fail.Define(fail.Broken, "db.cannot_open", "the data file cannot be opened; check that its directory exists and may be written")
	ErrServer   = fail.Define(fail.Busy, "db.unreachable", "the database server does not answer; check its address and that it runs")
	ErrLogin    = fail.Define(fail.Broken, "db.login", "the database server refuses the connection; check user, password and database name in the URL")
	ErrVersion  = fail.Define(fail.Broken, "db.version", "this version of the database server is too old; PostgreSQL 15 or later is needed")
	ErrTaken    = fail.Define(fail.Broken, "db.taken_over", "another process has taken over this database; this one has stopped writing: restart it if it should lead")
	ErrUnknown  = fail.Define(fail.Busy, "db.unknown_outcome", "the answer of the database was lost; the change may be in: ask again with the same reference")
	ErrNotSaved = fail.Define(fail.Busy, "db.not_saved", "the change could not be made durable and was undone; try again")
	ErrPanic    = fail.Define(fail.Broken, "db.panic", "a defect stopped this change; it was undone")
	ErrSQL      = fail.Define(fail.Broken, "db.statement", "the database refused a statement")
	ErrText     = fail.Define(fail.Invalid, "db.text", "text must be UTF-8 without zero characters")
	ErrValue    = fail.Define(fail.Broken, "db.value", "a value has a type the store does not keep")
	ErrNewer    = fail.Define(fail.Broken, "db.newer", "the database was made by a newer koala; use that version or a backup from before")
	ErrChanged  = fail.Define(fail.Broken, "db.changed_step", "a schema step that was already applied reads otherwise in this program")
	ErrNoBackup = fail.Define(fail.Invalid, "db.no_backup", "this store cannot be copied to a file here; PostgreSQL is backed up with pg_dump")
)

// defaultFile is the data file when the configuration names none.
const defaultFile = "koala.db"

// Config says where the data is. The zero value is an SQLite file named
// koala.db in the working directory with the system's clock and entropy.
type Config struct {
	// URL is a path of an SQLite file, or postgres://user@host/database.
	URL   string
	Clock clock.Clock
	Rand  io.Reader // feeds NewID
	// Inline runs each unit in its caller with a commit of its own and no
	// goroutine, so that a run with a virtual clock is deterministic.
	Inline bool
	// Rebuildable gives up durability for speed (synchronous=OFF): only for
	// data that can be built again from another store.
	Rebuildable bool
	// Queue is how many units may wait before Write answers ErrBusy; 0 is 16,384.
	Queue  int
	Faults Faults
}

// Faults breaks commits on purpose in tests and in the city; nil otherwise.
// Both are asked with the sequence of the batch. An error from BeforeCommit
// rolls the batch back; an error from AfterCommit loses the answer: the batch
// is in, and its callers see ErrUnknown.
type Faults interface {
	BeforeCommit(seq int64) error
	AfterCommit(seq int64) error
}

// A Store is one database with its writer and its readers. It is safe for
// concurrent use.
type Store struct {
	cfg      Config
	eng      engine
	readers  *pool
	w        *writer
	provided sync.Map
}

// An engine makes connections to one kind of database.
type engine interface {
	connect(ctx context.Context, role role) (conn, error)
	place() string // the file or server, without a password: for messages
	tend(c conn)   // called by the writer between batches
	close() error
}

// A role is what a connection is for.
type role int

const (
	writing role = iota
	reading
)

// A conn is one connection with at most one transaction in progress.
type conn interface {
	// later runs a statement whose count nobody needs, at the latest with the
	// next statement that answers: on PostgreSQL it saves the round trip.
	later(sql string, args []any) error
	exec(sql string, args []any) (int64, error)
	query(ctx context.Context, sql string, args []any) (*result, error)
	script(ctx context.Context, sql string) error // several statements, no arguments
	begin() error
	commit() error
	rollback() error
	place(err error) error // names err and where it happened
	lost() bool            // it is closed
	fresh() bool           // idle for a while, it still answers
	close() error
}

// A result is the rows of a query, read completely; row n is
// vals[n*width:(n+1)*width] with values of int64, string, []byte, bool,
// float64 or nil.
type result struct {
	width int
	vals  []any
}

// Open opens the store, and makes the SQLite file if there is none.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.URL == "" {
		cfg.URL = defaultFile
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System()
	}
	if cfg.Rand == nil {
		cfg.Rand = clock.Entropy()
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	eng, err := openEngine(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	s := &Store{cfg: cfg, eng: eng, readers: newPool(eng)}
	if s.w, err = newWriter(ctx, s); err != nil {
		eng.close()
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	return s, nil
}

func openEngine(ctx context.Context, cfg Config) (engine, error) {
	if strings.HasPrefix(cfg.URL, "postgres://") || strings.HasPrefix(cfg.URL, "postgresql://") {
		return newPostgres(cfg)
	}
	return newSQLite(ctx, cfg)
}

// Close lets the writer finish what is queued, refuses the rest and closes the
// files. The last error is not lost work: everything answered is durable.
func (s *Store) Close() error {
	err := s.w.close()
	s.readers.close()
	if e := s.eng.close(); err == nil {
		err = e
	}
	return err
}

// Place names the file or the server, for messages and status pages.
func (s *Store) Place() string { return s.eng.place() }

// Embedded says whether the store is an SQLite file.
func (s *Store) Embedded() bool {
	_, lite := s.eng.(*sqliteEngine)
	return lite
}

// Now is the store's clock, for code around units of work.
func (s *Store) Now() time.Time { return s.cfg.Clock.Now() }

// Attach makes p take part in every batch from now on. It is called once,
// before the first Write that needs it.
func (s *Store) Attach(p Participant) { s.w.attach(p) }

// Provide makes v known to units under key, a value of the caller's own type.
func (s *Store) Provide(key, v any) { s.provided.Store(key, v) }

// Backup writes a consistent copy of an SQLite store to file, which must not
// exist yet. Writing goes on meanwhile.
func (s *Store) Backup(ctx context.Context, file string) error {
	lite, ok := s.eng.(*sqliteEngine)
	if !ok {
		return fmt.Errorf("backup of %s: %w", s.Place(), ErrNoBackup)
	}
	return lite.copyTo(ctx, file)
}

// Copy writes a consistent copy of the SQLite store in file from to file to,
// which must not exist yet. Another process may have the store open and go on
// writing.
func Copy(ctx context.Context, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("backup of %s: %w: %w", from, ErrCannot, err)
	}
	return (&sqliteEngine{file: from, sync: "FULL"}).copyTo(ctx, to)
}

func (e *sqliteEngine) copyTo(ctx context.Context, file string) error {
	c, err := e.connect(ctx, writing)
	if err != nil {
		return fmt.Errorf("backup of %s: %w", e.file, err)
	}
	defer c.close()
	if _, err := c.exec(`VACUUM INTO $1`, []any{file}); err != nil {
		return fmt.Errorf("backup of %s to %s: %w", e.file, file, c.place(err))
	}
	return nil
}
