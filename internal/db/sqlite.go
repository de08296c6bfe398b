package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"modernc.org/sqlite"
)

// SQLite's primary result codes that say more than "statement refused".
const (
	liteBusy     = 5
	liteLocked   = 6
	liteNoMem    = 7
	liteReadOnly = 8
	liteIOErr    = 10
	liteCorrupt  = 11
	liteFull     = 13
	liteCannot   = 14
	liteNotADB   = 26
	liteNotNull  = 1299 // SQLITE_CONSTRAINT_NOTNULL
)

// When the writer copies the write-ahead log into the file: after about so many
// pages, of which the last time says how many a batch has, and at the latest
// after so many batches. Small steps keep the longest wait of a caller short,
// and a log that starts over early is written where it was before: a page there
// costs a third of one that makes the file longer. Above restartFrames pages
// readers are waited for.
const (
	checkpointFrames  = 1_536
	checkpointBatches = 256
	leastBatches      = 8
	restartFrames     = 16_384
)

// pageSize is that of a new file. Each page of a commit costs two calls of the
// system; with rows of some hundred bytes 8 KiB measured 8 % faster than 4 and
// than 16.
const pageSize = "page_size(8192)"

// sqliteEngine is one SQLite file in write-ahead mode.
type sqliteEngine struct {
	file    string
	sync    string
	lock    *liteConn    // holds the lock of the side file as long as the process lives
	batches atomic.Int64 // since the last checkpoint; a migration's too, on its own connection
	due     atomic.Int64 // batches to the next, 0: not known yet
}

func newSQLite(ctx context.Context, cfg Config) (*sqliteEngine, error) {
	file := strings.TrimPrefix(strings.TrimPrefix(cfg.URL, "sqlite:"), "file:")
	e := &sqliteEngine{file: file, sync: "FULL"}
	if cfg.Rebuildable {
		e.sync = "OFF"
	}
	if err := private(file); err != nil {
		return nil, err
	}
	// The lock is on a file of its own: it is held for the whole life of the
	// process, and the system drops it however the process ends.
	lock, err := e.open(file+".lock", "busy_timeout(0)")
	if err != nil {
		return nil, err
	}
	if _, err := lock.exec("BEGIN EXCLUSIVE", nil); err != nil {
		lock.close()
		if primary(err) == liteBusy {
			return nil, fmt.Errorf("%s: %w", file, ErrInUse)
		}
		return nil, lock.place(err)
	}
	e.lock = lock
	return e, nil
}

// private makes a new file readable by its owner only; SQLite gives its log the
// same permissions.
func private(file string) error {
	f, err := os.OpenFile(file, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannot, err) // it names the file
	}
	return f.Close()
}

func (e *sqliteEngine) place() string { return e.file }

func (e *sqliteEngine) close() error { return e.lock.close() }

func (e *sqliteEngine) open(file string, pragmas ...string) (*liteConn, error) {
	q := url.Values{"_pragma": pragmas}
	c := &liteConn{eng: e, file: file, stmts: map[string]*liteStmt{}}
	d, err := (&sqlite.Driver{}).Open("file:" + (&url.URL{Path: file}).EscapedPath() + "?" + q.Encode())
	if err != nil {
		return nil, c.place(err)
	}
	c.c = d.(liteDriver)
	return c, nil
}

func (e *sqliteEngine) connect(ctx context.Context, r role) (conn, error) {
	if r == reading {
		c, err := e.open(e.file, "busy_timeout(5000)", "query_only(1)", "temp_store(MEMORY)")
		if err != nil {
			return nil, err
		}
		c.beginSQL = "BEGIN"
		return c, nil
	}
	c, err := e.open(e.file, "busy_timeout(5000)", pageSize, "journal_mode(WAL)", "synchronous("+e.sync+")",
		"wal_autocheckpoint(0)", "auto_vacuum(NONE)", "foreign_keys(1)", "cache_size(-32768)", "temp_store(MEMORY)")
	if err != nil {
		return nil, err
	}
	c.beginSQL = "BEGIN IMMEDIATE"
	var mode string
	if err := firstRow(c.query(ctx, "PRAGMA journal_mode", nil)).Scan(&mode); err != nil {
		c.close()
		return nil, c.place(err)
	}
	if mode != "wal" {
		c.close()
		return nil, fmt.Errorf("%s: the file system does not allow write-ahead logging: %w", e.file, ErrCannot)
	}
	return c, nil
}

// tend copies the write-ahead log into the file now and then, so that a commit
// never has to.
func (e *sqliteEngine) tend(c conn) {
	n := e.batches.Load()
	if due := e.due.Load(); n < due || due == 0 && n < leastBatches {
		return
	}
	e.batches.Store(0)
	// An error here loses nothing: the log stays as it is, and a full disk shows
	// at a commit.
	var busy, frames, done int64
	err := firstRow(c.query(background, "PRAGMA wal_checkpoint(PASSIVE)", nil)).Scan(&busy, &frames, &done)
	if err != nil || frames < 1 {
		return
	}
	e.due.Store(min(max(checkpointFrames*n/frames, leastBatches), checkpointBatches))
	if frames > restartFrames { // a long reader keeps the log from starting over
		_, _ = c.query(background, "PRAGMA wal_checkpoint(RESTART)", nil)
	}
}

// liteDriver is what the driver's connection can do.
type liteDriver interface {
	driver.Conn
	driver.ExecerContext
	driver.ConnPrepareContext
}

type liteDriverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type liteStmt struct {
	liteDriverStmt
	params int
}

// liteConn is one connection with its prepared statements.
type liteConn struct {
	eng      *sqliteEngine
	file     string
	c        liteDriver
	beginSQL string
	stmts    map[string]*liteStmt
	args     []driver.NamedValue // reused
	row      []driver.Value      // reused
	closed   bool
}

// maxStatements bounds the prepared statements of a connection; above it all
// are dropped, which only texts built at run time can bring about.
const maxStatements = 1_000

func (c *liteConn) stmt(sql string, args []any) (*liteStmt, error) {
	s := c.stmts[sql]
	if s == nil {
		if len(c.stmts) >= maxStatements {
			c.finalize()
		}
		text, params := numbered(sql)
		d, err := c.c.PrepareContext(background, text)
		if err != nil {
			return nil, err
		}
		s = &liteStmt{liteDriverStmt: d.(liteDriverStmt), params: params}
		c.stmts[sql] = s
	}
	if err := counted(sql, s.params, len(args)); err != nil {
		return nil, err
	}
	c.args = c.args[:0]
	for i, a := range args {
		v, err := plain(a)
		if err != nil {
			return nil, fmt.Errorf("argument %d of %.60q: %w", i+1, sql, err)
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s, nil
}

func (c *liteConn) later(sql string, args []any) error {
	_, err := c.exec(sql, args)
	return err
}

func (c *liteConn) exec(sql string, args []any) (int64, error) {
	s, err := c.stmt(sql, args)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(background, c.args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c *liteConn) query(ctx context.Context, sql string, args []any) (*result, error) {
	s, err := c.stmt(sql, args)
	if err != nil {
		return nil, err
	}
	rows, err := s.QueryContext(ctx, c.args)
	if err != nil {
		return nil, err
	}
	res := &result{width: len(rows.Columns())}
	if cap(c.row) < res.width {
		c.row = make([]driver.Value, res.width)
	}
	row := c.row[:res.width]
	for {
		if err = rows.Next(row); err != nil {
			break
		}
		if err = ctx.Err(); err != nil {
			break
		}
		for _, v := range row {
			res.vals = append(res.vals, v)
		}
	}
	if e := rows.Close(); err == io.EOF {
		err = e
	}
	return res, err
}

func (c *liteConn) script(ctx context.Context, sql string) error {
	_, err := c.c.ExecContext(ctx, sql, nil)
	return err
}

func (c *liteConn) begin() error {
	_, err := c.exec(c.beginSQL, nil)
	return err
}

func (c *liteConn) commit() error {
	_, err := c.exec("COMMIT", nil)
	c.eng.batches.Add(1)
	return err
}

// rollback ends the transaction; after some errors SQLite has done it already.
func (c *liteConn) rollback() error {
	_, err := c.exec("ROLLBACK", nil)
	if err != nil && strings.Contains(err.Error(), "no transaction is active") {
		return nil
	}
	return err
}

func (c *liteConn) lost() bool { return c.closed }

func (c *liteConn) fresh() bool { return true }

func (c *liteConn) finalize() {
	for sql, s := range c.stmts {
		s.Close()
		delete(c.stmts, sql)
	}
}

func (c *liteConn) close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.finalize()
	return c.c.Close()
}

// primary is the primary result code in err, or 0.
func primary(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func (c *liteConn) place(err error) error {
	if placed(err) {
		return err
	}
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == liteNotNull && strings.Contains(e.Error(), "db_writer.last_seq") {
		return fmt.Errorf("%s: %w", c.file, ErrTaken)
	}
	kind := ErrSQL
	switch primary(err) {
	case liteBusy, liteLocked:
		kind = ErrLocked
	case liteNoMem: // SQLite may have ended the transaction with the statement
		kind = ErrNotSaved
	case liteFull:
		kind = ErrFull
	case liteIOErr, liteReadOnly:
		kind = ErrDisk
	case liteCorrupt, liteNotADB:
		kind = ErrCorrupt
	case liteCannot:
		kind = ErrCannot
	}
	return fmt.Errorf("%s: %w: %w", c.file, kind, err)
}
