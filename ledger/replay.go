package ledger

import (
	"context"
	"errors"
	"fmt"

	"koala/internal/db"
)

// A loader makes a state from what is stored.
type loader struct {
	store    *db.Store
	cfg      Config
	fresh    bool // from the first record, whatever snapshots there are
	upTo     uint64
	tip      tip
	epoch    int64
	snapshot uint64 // record of the snapshot it began with

	// each, when set, sees every batch before it is applied; what is wrong
	// with one goes to problem instead of ending the load.
	each func(batch) error
}

const (
	readBook = `SELECT epoch, last_seq, hash FROM ledger_book WHERE book = $1`
	makeBook = `INSERT INTO ledger_book (book, epoch, last_seq, hash) VALUES ($1, 0, 0, $2) ON CONFLICT (book) DO NOTHING`
	readPage = `SELECT seq, n, prev_hash, hash, blob FROM ledger_journal
		WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT $3`
)

// load reads everything in one read transaction: snapshot, journal and the
// book's row are of the same moment.
func (l *loader) load(ctx context.Context) (*state, error) {
	if err := l.ensure(ctx); err != nil {
		return nil, fmt.Errorf("book %d: %w", l.cfg.Book, err)
	}
	var s *state
	err := l.store.Read(ctx, func(q *db.Query) (err error) {
		s = newState(l.cfg.Book, l.cfg.Window)
		var end tip
		if err := q.QueryRow(readBook, l.cfg.Book).Scan(&l.epoch, &end.seq, &end.hash); err != nil {
			return err
		}
		if !l.fresh {
			if s, err = l.fromSnapshot(q, s); err != nil {
				return err
			}
		}
		if err := l.replay(q, s); err != nil {
			return err
		}
		if l.upTo == 0 && l.tip != end {
			return fmt.Errorf("the journal ends with batch %d, the book says %d: %w", l.tip.seq, end.seq, ErrDamaged)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("book %d: %w", l.cfg.Book, err)
	}
	s.settleAll()
	return s, nil
}

// ensure makes the book's row when there is none, with a unit that has no act.
func (l *loader) ensure(ctx context.Context) error {
	var epoch int64
	err := l.store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT epoch FROM ledger_book WHERE book = $1`, l.cfg.Book).Scan(&epoch)
	})
	if !errors.Is(err, db.ErrNoRows) {
		return err
	}
	return l.store.Write(ctx, func(tx *db.Tx) error {
		var zero [32]byte
		_, err := tx.Exec(makeBook, l.cfg.Book, zero[:])
		return err
	})
}

// replay applies the journal behind the loader's tip. Reading and hashing run
// beside applying.
func (l *loader) replay(q *db.Query, s *state) error {
	pages := make(chan []batch, 2)
	failed := make(chan struct{})
	applied := make(chan error, 1)
	go func() {
		err := l.apply(pages, s)
		if err != nil {
			close(failed)
		}
		applied <- err
	}()
	err := l.read(q, pages, failed)
	close(pages)
	if e := <-applied; e != nil {
		return e
	}
	return err
}

// The size of a page adapts to the batches: rows until one holds about a
// megabyte.
const (
	firstPage = 64
	lastPage  = 8_192
	pageBytes = 1 << 20
)

// read sends the journal behind the tip page by page, its chain checked.
func (l *loader) read(q *db.Query, pages chan<- []batch, failed <-chan struct{}) error {
	for limit := firstPage; ; {
		page, size, err := readRows(q, l.cfg.Book, l.tip.seq, limit)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if l.upTo != 0 && page[i].seq > l.upTo {
				page = page[:i]
				break
			}
			if err := l.tip.follow(l.cfg.Book, &page[i]); err != nil {
				return err
			}
		}
		select {
		case pages <- page:
		case <-failed:
			return nil
		}
		if l.upTo != 0 && l.tip.seq >= l.upTo || len(page) == 0 {
			return nil
		}
		switch {
		case size < pageBytes && limit < lastPage:
			limit *= 2
		case size > 4*pageBytes && limit > 1:
			limit /= 2
		}
	}
}

func readRows(q *db.Query, book int64, after uint64, limit int) (page []batch, size int, err error) {
	rows, err := q.Rows(readPage, book, int64(after), limit)
	if err != nil {
		return nil, 0, err
	}
	for rows.Next() {
		var b batch
		if err := rows.Scan(&b.seq, &b.n, &b.prev, &b.hash, &b.blob); err != nil {
			return nil, 0, err
		}
		size += len(b.blob)
		page = append(page, b)
	}
	return page, size, nil
}

// follow checks that b is the batch behind t, and moves t to it.
func (t *tip) follow(book int64, b *batch) error {
	switch {
	case b.n < 1 || b.first() != t.seq+1:
		return fmt.Errorf("batch %d has %d records behind record %d: a batch is missing: %w", b.seq, b.n, t.seq, ErrDamaged)
	case b.prev != t.hash:
		return fmt.Errorf("batch %d does not follow the one before it: the chain is broken: %w", b.seq, ErrDamaged)
	case b.hash != chain(b.prev, book, b.seq, b.n, b.blob):
		return fmt.Errorf("batch %d does not have the hash written with it: %w", b.seq, ErrDamaged)
	}
	*t = tip{b.seq, b.hash}
	return nil
}

func (l *loader) apply(pages <-chan []batch, s *state) error {
	var r record
	s.replays = true
	defer func() { s.replays = false }()
	for page := range pages {
		for i := range page {
			b := &page[i]
			if l.each != nil {
				if err := l.each(*b); err != nil {
					return err
				}
			}
			err := b.each(&r, func(uint64, []byte) error { return s.replay(&r) })
			if err != nil {
				return fmt.Errorf("batch %d: %w", b.seq, err)
			}
			s.keys.projected = s.seq // on replay the window only moves; the views are checked on use
			s.keys.turn()
		}
	}
	return nil
}

// settleAll makes accounts opened by replay known to readers.
func (s *state) settleAll() {
	for id, slot := range s.fresh {
		s.ids[id] = slot
	}
	clear(s.fresh)
	for _, a := range s.accounts {
		a.dirty = false
	}
	s.settle()
}

func (b *Book) snapshotIfDue(ctx context.Context) error              { return nil }
func (l *loader) fromSnapshot(q *db.Query, s *state) (*state, error) { return s, nil }
