package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"koala/internal/db"
)

// Config of a book. The zero value is book 1 with its views beside the data
// file.
type Config struct {
	// Book is the number of the book in the store; 0 is 1.
	Book int64
	// Views is where the views are kept: a file, or a postgres:// URL, in
	// which they get a schema of their own. Empty: a file beside that of an
	// embedded store, or else the store itself.
	Views string
	// Inline keeps the book from having a goroutine: its owner calls Project
	// and Snapshot, and a run with a virtual clock is deterministic.
	Inline bool
	// Window is how many of the latest references are kept in memory; 0 is
	// 1,048,576, about 40 MB. Older ones are looked up in the views.
	Window int
	// SnapshotEvery is how many records a start replays at most, roughly; 0
	// is 4,000,000.
	SnapshotEvery uint64
	// MaxLag is how many references beyond the window may wait in memory for
	// the views to have them before acts are refused with ErrBehind; 0 is
	// 8,000,000.
	MaxLag uint64
}

func (c Config) filled() Config {
	if c.Book == 0 {
		c.Book = 1
	}
	if c.Window == 0 {
		c.Window = 1 << 20
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = 4_000_000
	}
	if c.MaxLag == 0 {
		c.MaxLag = 8_000_000
	}
	return c
}

// A Book is one set of accounts attached to a store. What it has as methods
// reads committed state and may be called from anywhere; units of work use the
// functions that take a *db.Tx.
type Book struct {
	store *db.Store
	views *db.Store // may be store
	cfg   Config

	// What follows belongs to the writer.
	state   *state
	tx      *db.Tx // the unit in progress, for looking up old records
	epoch   int64  // of the book's row as loaded
	mine    bool   // the epoch is this process's own
	tip     tip    // the last durable batch
	unit    mark
	staged  []batch // flushed, not yet committed
	recent  recent
	touched []uint32 // accounts to publish
	ended   []*hold  // holds to publish
	down    error    // why there is no state

	projected atomic.Uint64 // last record in the views

	mu   sync.RWMutex // guards pub
	pub  shown
	stop context.CancelFunc
	done chan struct{}

	projecting sync.Mutex
	ahead      []batch       // read for the projector, not all written yet
	snapped    atomic.Uint64 // record of the newest snapshot
	trouble    atomic.Pointer[error]
}

// Schema is the ledger's tables in the store. The journal is the book; all
// else can be made from it.
var Schema = db.Schema{Owner: "ledger", Steps: []string{`
	CREATE TABLE ledger_book (
		book BIGINT PRIMARY KEY, epoch BIGINT NOT NULL, last_seq BIGINT NOT NULL, hash BYTEA NOT NULL);
	CREATE TABLE ledger_journal (
		book BIGINT NOT NULL, seq BIGINT NOT NULL, n BIGINT NOT NULL,
		prev_hash BYTEA NOT NULL, hash BYTEA NOT NULL, blob BYTEA NOT NULL, PRIMARY KEY (book, seq));
	CREATE TABLE ledger_snapshot (
		book BIGINT NOT NULL, seq BIGINT NOT NULL, part BIGINT NOT NULL, blob BYTEA NOT NULL,
		PRIMARY KEY (book, seq, part));
	CREATE TABLE ledger_snapshot_head (
		book BIGINT NOT NULL, seq BIGINT NOT NULL, parts BIGINT NOT NULL, sum BYTEA NOT NULL,
		hash BYTEA NOT NULL, PRIMARY KEY (book, seq));
	CREATE TABLE ledger_seal (
		book BIGINT NOT NULL, day TEXT NOT NULL, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
		hash BYTEA NOT NULL, root BYTEA NOT NULL, signature BYTEA NOT NULL, PRIMARY KEY (book, day));`}}

// Open loads the newest snapshot, replays the journal behind it with all
// hashes checked, and attaches the book to the store. Close it before the
// store.
func Open(ctx context.Context, store *db.Store, cfg Config) (*Book, error) {
	b := &Book{store: store, cfg: cfg.filled(), done: make(chan struct{})}
	close(b.done)
	if err := store.Migrate(ctx, Schema); err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	if err := b.ensure(ctx); err != nil {
		return nil, fmt.Errorf("opening the ledger: book %d: %w", b.cfg.Book, err)
	}
	at, err := b.openViews(ctx)
	if err == nil {
		err = b.load(ctx)
	}
	if err == nil {
		err = b.matchViews(ctx, at)
	}
	if err != nil {
		if b.views != nil && b.views != store {
			b.views.Close()
		}
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	store.Attach(b)
	if !b.cfg.Inline {
		run, stop := context.WithCancel(context.Background())
		b.stop, b.done = stop, make(chan struct{})
		go b.follow(run)
	}
	return b, nil
}

const (
	anyBook  = `SELECT epoch FROM ledger_book WHERE book = $1`
	makeBook = `INSERT INTO ledger_book (book, epoch, last_seq, hash) VALUES ($1, 0, 0, $2) ON CONFLICT (book) DO NOTHING`
)

// ensure makes the book's row when there is none.
func (b *Book) ensure(ctx context.Context) error {
	var epoch int64
	err := b.store.Read(ctx, func(q *db.Query) error { return q.QueryRow(anyBook, b.cfg.Book).Scan(&epoch) })
	if !errors.Is(err, db.ErrNoRows) {
		return err
	}
	return b.store.Write(ctx, func(tx *db.Tx) error {
		var zero [32]byte
		_, err := tx.Exec(makeBook, b.cfg.Book, zero[:])
		return err
	})
}

// Close ends the projector and closes the views.
func (b *Book) Close() error {
	if b.stop != nil {
		b.stop()
	}
	<-b.done
	if b.views != b.store {
		return b.views.Close()
	}
	return nil
}

// at returns the book that takes part in tx, ready for an act.
func at(tx *db.Tx) (*Book, error) {
	b, ok := tx.Ledger().(*Book)
	if !ok {
		return nil, ErrDetached
	}
	if b.down != nil {
		return nil, b.down
	}
	if k := &b.state.keys; uint64(len(k.young)+len(k.old)) > uint64(b.cfg.Window)+b.cfg.MaxLag {
		return nil, ErrBehind
	}
	b.tx = tx
	return b, nil
}

// BeginUnit, EndUnit, Flush, Committed, Aborted and Dirty make the book a
// db.Participant.
func (b *Book) BeginUnit() {
	if k := &b.state.keys; len(k.young) >= k.half {
		k.turn(b.projected.Load())
	}
	b.unit = b.state.mark()
}

// EndUnit keeps what the unit did, or takes it back.
func (b *Book) EndUnit(ok bool) {
	s := b.state
	if !ok {
		s.back(b.unit)
		b.tx = nil
		return
	}
	for i := range s.undo.totals {
		if a := s.accounts[s.undo.totals[i].slot]; !a.dirty {
			a.dirty = true
			b.touched = append(b.touched, a.slot)
		}
	}
	for i := range s.undo.holds {
		b.ended = append(b.ended, s.undo.holds[i].h)
	}
	s.settle()
	b.tx = nil
}

// Dirty says whether the batch added to the journal.
func (b *Book) Dirty() bool { return len(b.state.pending.ends) > 0 }

const (
	insertJournal = `INSERT INTO ledger_journal (book, seq, n, prev_hash, hash, blob) VALUES ($1, $2, $3, $4, $5, $6)`
	// The fence writes NULL, which the column refuses, when the row is not
	// where this process left it: another one keeps the book now.
	moveBook = `UPDATE ledger_book SET hash = $6, epoch = $2,
		last_seq = CASE WHEN epoch = $3 AND last_seq = $4 THEN CAST($5 AS BIGINT) ELSE NULL END
		WHERE book = $1`
)

// Flush writes the batch's records as journal rows and moves the fence.
func (b *Book) Flush(exec db.Exec) error {
	p := &b.state.pending
	if len(p.ends) == 0 {
		return nil
	}
	b.staged = b.staged[:0]
	at, from, first := b.tip, 0, 0
	for i, end := range p.ends {
		if i+1 < len(p.ends) && p.ends[i+1]-from <= maxBlob {
			continue
		}
		n := i + 1 - first
		row := batch{seq: at.seq + uint64(n), n: n, prev: at.hash, blob: bytes.Clone(p.blob[from:end])}
		row.hash = chain(row.prev, b.cfg.Book, row.seq, row.n, row.blob)
		if err := exec(insertJournal, b.cfg.Book, int64(row.seq), row.n, row.prev[:], row.hash[:], row.blob); err != nil {
			return fmt.Errorf("journal batch %d: %w", row.seq, err)
		}
		b.staged = append(b.staged, row)
		at, from, first = tip{row.seq, row.hash}, end, i+1
	}
	mine := b.epoch
	if !b.mine {
		mine++
	}
	if err := exec(moveBook, b.cfg.Book, mine, b.epoch, int64(b.tip.seq), int64(at.seq), at.hash[:]); err != nil {
		return fmt.Errorf("book %d after batch %d: %w", b.cfg.Book, at.seq, err)
	}
	return nil
}

// Committed publishes the batch to readers and followers.
func (b *Book) Committed() {
	s := b.state
	if len(b.staged) > 0 {
		if !b.mine {
			b.epoch, b.mine = b.epoch+1, true
		}
		last := &b.staged[len(b.staged)-1]
		b.tip = tip{last.seq, last.hash}
		for _, row := range b.staged {
			b.recent.add(row)
		}
	}
	b.staged = b.staged[:0]
	s.pending.blob, s.pending.ends = s.pending.blob[:0], s.pending.ends[:0]
	b.publish()
}

// Aborted drops the memory and loads it again: after a commit that failed,
// nobody can say that memory and journal agree.
func (b *Book) Aborted() error {
	b.staged, b.touched, b.ended = b.staged[:0], b.touched[:0], b.ended[:0]
	if err := b.load(context.Background()); err != nil {
		b.down = fmt.Errorf("%w: %w", ErrDown, err)
		b.state = newState(b.cfg.Book, b.cfg.Window)
		return b.down
	}
	b.down = nil
	return nil
}

// load makes the state from snapshot and journal and publishes it.
func (b *Book) load(ctx context.Context) error {
	l := loader{store: b.store, cfg: b.cfg, viewed: b.projected.Load()}
	s, err := l.load(ctx)
	if err != nil {
		return err
	}
	s.fetch, s.seek = b.fetch, b.seek
	b.recent = recent{}
	b.state, b.tip, b.epoch, b.mine = s, l.tip, l.epoch, false
	b.snapped.Store(l.snapshot)
	b.mu.Lock()
	b.pub.reset(s, b.tip)
	b.mu.Unlock()
	return nil
}

// recent keeps the last batches in memory, for repeated references.
type recent struct {
	rows []batch
	size int
}

// recentBytes bounds them.
const recentBytes = 8 << 20

func (r *recent) add(row batch) {
	r.rows = append(r.rows, row)
	r.size += len(row.blob)
	drop := 0
	for r.size > recentBytes {
		r.size -= len(r.rows[drop].blob)
		r.rows[drop].blob = nil
		drop++
	}
	r.rows = r.rows[drop:]
}

func (r *recent) find(seq uint64) *batch {
	lo, hi := 0, len(r.rows)
	for lo < hi {
		if mid := (lo + hi) / 2; r.rows[mid].seq < seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(r.rows) && r.rows[lo].first() <= seq {
		return &r.rows[lo]
	}
	return nil
}

// record cuts one record out of the batch that has it.
func (b *batch) record(seq uint64) ([]byte, error) {
	var r record
	in := b.blob
	for at := b.first(); at <= b.seq; at++ {
		rest, err := r.parse(in)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", at, err)
		}
		if at == seq {
			return in[:len(in)-len(rest)], nil
		}
		in = rest
	}
	return nil, fmt.Errorf("record %d is not in batch %d: %w", seq, b.seq, ErrDamaged)
}

const findBatch = `SELECT seq, n, prev_hash, hash, blob FROM ledger_journal
	WHERE book = $1 AND seq >= $2 ORDER BY seq LIMIT 1`

// fetch reads a durable record for the unit in progress.
func (b *Book) fetch(seq uint64) ([]byte, error) {
	if row := b.recent.find(seq); row != nil {
		return row.record(seq)
	}
	var row batch
	if err := row.scan(b.tx.QueryRow(findBatch, b.cfg.Book, int64(seq))); err != nil {
		return nil, fmt.Errorf("record %d: %w", seq, err)
	}
	return row.record(seq)
}

func (b *batch) scan(row db.Row) error {
	return row.Scan(&b.seq, &b.n, &b.prev, &b.hash, &b.blob)
}

// seek finds an old reference in the views.
func (b *Book) seek(ref string, reversal bool) (seq uint64, err error) {
	if b.projected.Load() < b.state.keys.dropped {
		return 0, ErrBehind // the views are being built again
	}
	statement := seekRef
	if reversal {
		statement = seekReversal
	}
	err = b.views.Read(context.Background(), func(q *db.Query) error {
		return q.QueryRow(statement, b.cfg.Book, ref).Scan(&seq)
	})
	if err != nil {
		return 0, fmt.Errorf("reference %s in the views: %w", ref, err)
	}
	return seq, nil
}
