package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
)

// PaperState is where a file from outside stands.
type PaperState string

// The states.
const (
	PaperWaits   PaperState = "waits"   // whole in the folder: taken at the next tick
	PaperTaken   PaperState = "taken"   // once, and never again
	PaperRefused PaperState = "refused" // nothing of it was taken; people may have it tried again
)

var paperWords = map[PaperState][2]string{PaperWaits: {"waiting", "等待处理"}, PaperTaken: {"taken", "已导入"}, PaperRefused: {"refused", "已拒绝"}}

// Words says the state for people, in Chinese if zh.
func (s PaperState) Words(zh bool) string { return pick(paperWords, s, zh) }

// A Paper is a clearing file or a bank statement that came.
type Paper struct {
	Key          string // SHA-256 of its bytes; of an empty file, of its name
	Name         string
	Size         int64
	State        PaperState
	Code, Need   string // why it was refused: the failure, and what its place needs
	Line, Column int    // 0: of no place
	Who          string // brought it; FromFolder: nobody of the console
	At, Changed  time.Time
}

// FromFolder is who brought what was put into the folder.
const FromFolder = "folder"

// Bounds of files.
const (
	MaxFile  = 4 << 30 // bytes
	maxNamed = 80
)

// What is wrong with a file before it is read.
var (
	ErrName  = fail.Define(fail.Invalid, "reconcile.name", "name the file <host>-<day>.clr, as CMB-2015-09-16.clr, or statement-<anything>.csv, in letters, digits, dots and dashes")
	ErrSame  = fail.Define(fail.Conflict, "reconcile.same_file", "this is a file that came before: nothing of it is taken twice")
	ErrWaits = fail.Define(fail.Conflict, "reconcile.name_waits", "another file of this name waits: let it be taken first")
	ErrLarge = fail.Define(fail.Invalid, "reconcile.file_large", "the file is larger than 4 GiB: it is no day's file")
	ErrPaper = fail.Define(fail.NotFound, "reconcile.no_file", "there is no such file")
)

const statementName = "statement-"

// ParseName tells what a file is by its name: a host's of a day, or with an empty
// host a statement.
func ParseName(name string) (host string, day calendar.Date, err error) {
	const date, ext = len("2015-09-16"), ".clr"
	fine := len(name) <= maxNamed && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == "" && !strings.HasPrefix(name, ".")
	if fine && strings.HasPrefix(name, statementName) && strings.HasSuffix(name, ".csv") {
		return "", day, nil
	}
	at := len(name) - len(ext) - date
	if !fine || at < 2 || !strings.HasSuffix(name, ext) || name[at-1] != '-' {
		return "", day, ErrName
	}
	if day, err = calendar.Parse(name[at : at+date]); err != nil {
		return "", day, ErrName
	}
	return name[:at-1], day, nil
}

// An Inbox is the folder that files come into, from outside or over a page: in,
// from where they are taken, done and refused. What is known of them is kept in
// the store. A file is whole in the folder before anybody reads it.
type Inbox struct {
	Store *db.Store
	Dir   string
	Take  func(ctx context.Context, name string, file io.Reader) error // whole or not at all, once
	Tell  func(name string, wrong error)                               // of refusals; may be nil

	mu  sync.Mutex
	now Reading
}

// A Reading is how far the file that is being taken was read, in bytes.
type Reading struct {
	Name       string
	Read, Size int64
}

// Reading tells what is being taken now; an empty name: nothing.
func (b *Inbox) Reading() Reading {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *Inbox) path(folder, name string) string { return filepath.Join(b.Dir, folder, name) }

// Put keeps a file that somebody brings, whole, to be taken at the next tick. One
// that came before is ErrSame, unless it was refused. Cut before the rename
// nothing is there but a hidden part; cut behind it Scan finds the file.
func (b *Inbox) Put(ctx context.Context, name, who string, file io.Reader, with func(*db.Tx) error) (p Paper, err error) {
	if _, _, err := ParseName(name); err != nil {
		return p, fmt.Errorf("file %q: %w", name, err)
	}
	if err := os.MkdirAll(b.path("in", ""), 0o700); err != nil {
		return p, err
	}
	part, err := os.CreateTemp(b.path("in", ""), ".part-*")
	if err != nil {
		return p, err
	}
	defer os.Remove(part.Name())
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(part, hash), io.LimitReader(file, MaxFile+1))
	if err == nil && n > MaxFile {
		err = ErrLarge
	}
	if err = errors.Join(err, part.Sync(), part.Close()); err != nil {
		return p, fmt.Errorf("file %s: %w", name, err)
	}
	p = Paper{Key: keyOfFile(hash.Sum(nil), name, n), Name: name, Size: n, State: PaperWaits, Who: who}
	err = b.Store.Write(ctx, func(tx *db.Tx) error {
		was, err := PaperOf(tx, p.Key)
		switch {
		case err == nil && was.State != PaperRefused:
			return fmt.Errorf("%s, %s: %w", was.Name, was.State, ErrSame)
		case err != nil && !errors.Is(err, ErrPaper):
			return err
		}
		if _, err := os.Stat(b.path("in", name)); err == nil {
			return ErrWaits
		}
		if err := with(tx); err != nil {
			return err
		}
		if err := keepPaper(tx, p); err != nil {
			return err
		}
		return os.Rename(part.Name(), b.path("in", name))
	})
	if err != nil {
		return p, fmt.Errorf("file %s: %w", name, err)
	}
	return p, nil
}

func keyOfFile(sum []byte, name string, size int64) string {
	if size == 0 { // two days without sales have the same file
		empty := sha256.Sum256([]byte("empty\n" + name))
		sum = empty[:]
	}
	return hex.EncodeToString(sum)
}

// Retry has a refused file tried again at the next tick.
func (b *Inbox) Retry(tx *db.Tx, key, who string) error {
	p, err := PaperOf(tx, key)
	if err == nil && p.State != PaperRefused {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", key, err)
	}
	if _, err := os.Stat(b.path("in", p.Name)); err == nil {
		return fmt.Errorf("file %s: %w", p.Name, ErrWaits)
	}
	p.State, p.Code, p.Need, p.Line, p.Column, p.Who = PaperWaits, "", "", 0, 0, who
	if err := keepPaper(tx, p); err != nil {
		return err
	}
	return os.Rename(b.path("refused", p.Name), b.path("in", p.Name))
}

// Scan takes what lies in the folder, by name: a host's days come in order, and
// statements behind most. One that cannot be taken now, for a reason of the
// house's own, stays.
func (b *Inbox) Scan(ctx context.Context) error {
	list, err := os.ReadDir(b.path("in", ""))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, f := range list {
		if ctx.Err() == nil && f.Type().IsRegular() && !strings.HasPrefix(f.Name(), ".") {
			err = errors.Join(err, b.scan(ctx, f.Name()))
		}
	}
	return err
}

// scan takes one file. Cut anywhere: the file lies in the folder until its end is
// kept, and is taken again, which changes nothing.
func (b *Inbox) scan(ctx context.Context, name string) error {
	defer b.reading(Reading{})
	p, err := b.weigh(name)
	if err != nil {
		return err
	}
	err = b.Store.Read(ctx, func(q *db.Query) error {
		was, err := PaperOf(q, p.Key)
		switch {
		case errors.Is(err, ErrPaper):
			return nil
		case err == nil && was.State == PaperTaken && was.Name != name:
			return fmt.Errorf("%s: %w", was.Name, ErrSame)
		}
		p.Who = was.Who
		return err
	})
	same := errors.Is(err, ErrSame)
	if err == nil {
		err = b.open(ctx, p)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	to := "done"
	if p.State = PaperTaken; err != nil {
		if fail.Of(err).Kind == fail.Broken {
			return fmt.Errorf("file %s: %w", name, err)
		}
		to, p.State = "refused", PaperRefused
		p.Code, p.Line, p.Column, p.Need = placeOf(err)
		if b.Tell != nil {
			b.Tell(name, err)
		}
	}
	if !same { // else the file's own row says that it was taken
		if err := b.Store.Write(ctx, func(tx *db.Tx) error { return keepPaper(tx, p) }); err != nil {
			return err
		}
	}
	if why := err; to == "refused" {
		if err = os.MkdirAll(b.path(to, ""), 0o700); err == nil {
			err = os.WriteFile(b.path(to, name+".why"), []byte(why.Error()+"\n"), 0o600)
		}
	} else {
		err = os.MkdirAll(b.path(to, ""), 0o700)
	}
	if err == nil {
		err = os.Rename(b.path("in", name), b.path(to, name))
	}
	return err
}

func placeOf(err error) (code string, line, column int, need string) {
	code = fail.Of(err).Code
	if f := (*FormatError)(nil); errors.As(err, &f) {
		line, column, need = f.Line, f.Column, f.Need
	}
	return code, line, column, need
}

// weigh reads a file once to know it by its hash.
func (b *Inbox) weigh(name string) (p Paper, err error) {
	f, err := os.Open(b.path("in", name))
	if err != nil {
		return p, err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, f)
	return Paper{Key: keyOfFile(hash.Sum(nil), name, n), Name: name, Size: n, Who: FromFolder}, err
}

func (b *Inbox) open(ctx context.Context, p Paper) error {
	f, err := os.Open(b.path("in", p.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	return b.Take(ctx, p.Name, &counted{f, b, Reading{Name: p.Name, Size: p.Size}})
}

func (b *Inbox) reading(r Reading) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = r
}

// A counted file tells how far it was read.
type counted struct {
	io.Reader
	b *Inbox
	Reading
}

// Read reads on.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.Reading.Read += int64(n)
	c.b.reading(c.Reading)
	return n, err
}

const paperColumns = `hash, name, size, state, code, line, col, need, who, at, changed`

func keepPaper(tx *db.Tx, p Paper) error {
	_, err := tx.Exec(`INSERT INTO reconcile_paper (`+paperColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) ON CONFLICT (hash) DO UPDATE SET
		name = excluded.name, state = excluded.state, code = excluded.code, line = excluded.line, col = excluded.col, need = excluded.need, who = excluded.who, changed = excluded.changed`,
		p.Key, p.Name, p.Size, string(p.State), p.Code, p.Line, p.Column, p.Need, p.Who, tx.Now().UnixMicro())
	return err
}

func papers(q db.Reader, where string, args ...any) (out []Paper, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Paper
		var at, changed int64
		err := scan(&p.Key, &p.Name, &p.Size, &p.State, &p.Code, &p.Line, &p.Column, &p.Need, &p.Who, &at, &changed)
		p.At, p.Changed = db.Moment(at), db.Moment(changed)
		out = append(out, p)
		return err
	}, `SELECT `+paperColumns+` FROM reconcile_paper `+where, args...)
	return out, err
}

// PaperOf reads one file's row.
func PaperOf(q db.Reader, key string) (Paper, error) {
	list, err := papers(q, `WHERE hash = $1`, key)
	if err == nil && len(list) == 0 {
		err = ErrPaper
	}
	if err != nil {
		return Paper{}, err
	}
	return list[0], nil
}

// Papers reads the files that came, what moved last first.
func Papers(q db.Reader, limit int) ([]Paper, error) {
	return papers(q, `ORDER BY changed DESC, hash LIMIT $1`, page(limit))
}
