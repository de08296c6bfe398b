package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/merkle"
)

// A loader makes a state from what is stored.
type loader struct {
	store    *db.Store
	cfg      Config
	fresh    bool   // from the first record, whatever snapshots there are
	upTo     uint64 // record to stop at, the end of a batch; 0: read all
	viewed   uint64 // how far the views are: references beyond stay in memory
	tip      tip
	epoch    int64
	snapshot uint64             // record of the snapshot it began with
	each     func(*batch) error // when set, sees every batch before it is applied
}

const (
	readBook = `SELECT epoch, last_seq, hash FROM ledger_book WHERE book = $1`
	readPage = `SELECT seq, n, prev_hash, hash, blob FROM ledger_journal
		WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT $3`
)

// load reads everything in one read transaction: snapshot, journal and the
// book's row are of the same moment.
func (l *loader) load(ctx context.Context) (*state, error) {
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
		var prev, hash []byte // a damaged row may have any length
		if err := rows.Scan(&b.seq, &b.n, &prev, &hash, &b.blob); err != nil {
			return nil, 0, err
		}
		copy(b.prev[:], prev)
		copy(b.hash[:], hash)
		size += len(b.blob)
		page = append(page, b)
	}
	return page, size, nil
}

func (l *loader) apply(pages <-chan []batch, s *state) error {
	var r record
	s.replays = true
	defer func() { s.replays = false }()
	for page := range pages {
		for i := range page {
			b := &page[i]
			if l.each != nil {
				if err := l.each(b); err != nil {
					return err
				}
			}
			err := b.each(&r, func(uint64, []byte) error { return s.replay(&r) })
			if err != nil {
				return fmt.Errorf("batch %d: %w", b.seq, err)
			}
			s.keys.turn(l.viewed)
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

// A snapshot is the state at the end of a batch, so that a start replays only
// what came after. It is made from the journal, not from memory: reading it
// again is a check of the books, and the writer does not wait for it.
const (
	readHead = `SELECT seq, parts, sum, hash FROM ledger_snapshot_head WHERE book = $1 ORDER BY seq DESC LIMIT 1`
	readPart = `SELECT blob FROM ledger_snapshot WHERE book = $1 AND seq = $2 AND part = $3`
	readHash = `SELECT hash FROM ledger_journal WHERE book = $1 AND seq = $2`
	putPart  = `INSERT INTO ledger_snapshot (book, seq, part, blob) VALUES ($1, $2, $3, $4)
		ON CONFLICT (book, seq, part) DO UPDATE SET blob = excluded.blob`
	putHead = `INSERT INTO ledger_snapshot_head (book, seq, parts, sum, hash) VALUES ($1, $2, $3, $4, $5)`

	dropHeads = `DELETE FROM ledger_snapshot_head WHERE book = $1 AND seq < $2`
	dropParts = `DELETE FROM ledger_snapshot WHERE book = $1 AND seq < $2`

	// partBytes is how much of a snapshot one unit writes: about a
	// millisecond of the writer.
	partBytes = 256 << 10
)

// Snapshot writes a snapshot of the last committed batch.
func (b *Book) Snapshot(ctx context.Context) error {
	l := loader{store: b.store, cfg: b.cfg, viewed: b.projected.Load()}
	s, err := l.load(ctx)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if s.seq == l.snapshot {
		return nil
	}
	if err := b.keepSnapshot(ctx, s.encode(nil), l.tip); err != nil {
		return fmt.Errorf("snapshot at record %d: %w", l.tip.seq, err)
	}
	b.snapped.Store(l.tip.seq)
	return nil
}

func (b *Book) keepSnapshot(ctx context.Context, blob []byte, at tip) error {
	parts := 0
	for part := range slices.Chunk(blob, partBytes) {
		err := b.store.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(putPart, b.cfg.Book, int64(at.seq), parts, part)
			return err
		})
		if err != nil {
			return err
		}
		parts++
	}
	sum := sha256.Sum256(blob)
	return b.store.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(putHead, b.cfg.Book, int64(at.seq), parts, sum[:], at.hash[:]); err != nil {
			return err
		}
		if _, err := tx.Exec(dropHeads, b.cfg.Book, int64(at.seq)); err != nil {
			return err
		}
		_, err := tx.Exec(dropParts, b.cfg.Book, int64(at.seq))
		return err
	})
}

// fromSnapshot returns the newest snapshot, or s when there is none. One that
// does not fit the journal is an error: nothing but damage makes such.
func (l *loader) fromSnapshot(q *db.Query, s *state) (*state, error) {
	var at, own tip
	var parts int
	var sum [32]byte
	err := q.QueryRow(readHead, l.cfg.Book).Scan(&at.seq, &parts, &sum, &at.hash)
	if errors.Is(err, db.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	var blob []byte
	for n := range parts {
		var part []byte
		if err := q.QueryRow(readPart, l.cfg.Book, int64(at.seq), n).Scan(&part); err != nil {
			return nil, fmt.Errorf("part %d of snapshot %d: %w: %w", n, at.seq, ErrDamaged, err)
		}
		blob = append(blob, part...)
	}
	if sha256.Sum256(blob) != sum {
		return nil, fmt.Errorf("snapshot %d does not have the hash written with it: %w", at.seq, ErrDamaged)
	}
	if err := q.QueryRow(readHash, l.cfg.Book, int64(at.seq)).Scan(&own.hash); err != nil {
		return nil, fmt.Errorf("journal at snapshot %d: %w: %w", at.seq, ErrDamaged, err)
	}
	if own.hash != at.hash {
		return nil, fmt.Errorf("snapshot %d is of another journal: %w", at.seq, ErrDamaged)
	}
	if err := s.decode(blob); err != nil {
		return nil, fmt.Errorf("snapshot %d: %w", at.seq, err)
	}
	if s.seq != at.seq || s.book != l.cfg.Book {
		return nil, fmt.Errorf("snapshot %d is of record %d of book %d: %w", at.seq, s.seq, s.book, ErrDamaged)
	}
	l.tip, l.snapshot = at, at.seq
	return s, nil
}

// A Seal fixes the batches that ended on one booking day in Beijing: one that
// goes over midnight belongs to the next. Root is the Merkle root over them.
type Seal struct {
	Book        int64
	Day         calendar.Date
	First, Last uint64   // records; Last is First-1 on a day without any
	Hash        [32]byte // of the last batch: the chain up to here
	Root        [32]byte
	Signature   []byte
}

// Message is what is signed.
func (s *Seal) Message() []byte {
	return fmt.Appendf(nil, "koala ledger seal 1\nbook %d\nday %s\nrecords %d-%d\nhash %x\nroot %x\n",
		s.Book, s.Day, s.First, s.Last, s.Hash, s.Root)
}

const (
	lastSeal = `SELECT day, first_seq, last_seq, hash, root, signature FROM ledger_seal
		WHERE book = $1 ORDER BY day DESC LIMIT 1`
	sealOf = `SELECT day, first_seq, last_seq, hash, root, signature FROM ledger_seal
		WHERE book = $1 AND first_seq <= $2 AND last_seq >= $2 ORDER BY day LIMIT 1`
	putSeal = `INSERT INTO ledger_seal (book, day, first_seq, last_seq, hash, root, signature)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (book, day) DO NOTHING`
)

// scan reads a seal; one that is not there stays zero.
func (s *Seal) scan(book int64, row db.Row) error {
	var day string
	err := row.Scan(&day, &s.First, &s.Last, &s.Hash, &s.Root, &s.Signature)
	if errors.Is(err, db.ErrNoRows) {
		return nil
	}
	if err == nil {
		s.Day, err = calendar.Parse(day)
	}
	s.Book = book
	return err
}

// SealDay seals a day that is over and everything before it that is not sealed
// yet, and keeps the seal. sign is given the message; the key stays where it
// is. A day that is sealed, or lies before one that is, changes nothing.
func (b *Book) SealDay(ctx context.Context, day calendar.Date, sign func(message []byte) ([]byte, error)) (Seal, error) {
	end := day.AddDays(1).Start(calendar.Beijing)
	if b.store.Now().Before(end) {
		return Seal{}, fmt.Errorf("seal of %s, which is not over: %w", day, ErrShape)
	}
	var last Seal
	next := Seal{Book: b.cfg.Book, Day: day}
	err := b.store.Read(ctx, func(q *db.Query) error {
		if err := last.scan(b.cfg.Book, q.QueryRow(lastSeal, b.cfg.Book)); err != nil {
			return err
		}
		next.First, next.Last, next.Hash = last.Last+1, last.Last, last.Hash
		var t merkle.Tree
		err := b.eachBatch(q, last.Last, func(row *batch, root [32]byte, booked int64) bool {
			if booked >= end.UnixMicro() {
				return false
			}
			t.Add(batchLeaf(row, root))
			next.Last, next.Hash = row.seq, row.hash
			return true
		})
		next.Root = t.Root()
		return err
	})
	if err != nil {
		return Seal{}, fmt.Errorf("seal of %s: %w", day, err)
	}
	if !last.Day.IsZero() && !last.Day.Before(day) {
		return last, nil
	}
	if next.Signature, err = sign(next.Message()); err != nil {
		return Seal{}, fmt.Errorf("signing the seal of %s: %w", day, err)
	}
	err = b.store.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(putSeal, b.cfg.Book, day.String(), int64(next.First), int64(next.Last), next.Hash[:], next.Root[:], next.Signature)
		return err
	})
	return next, err
}

// eachBatch gives f the batches behind a record, with their Merkle root and
// the booking time of their last record, until f says no.
func (b *Book) eachBatch(q *db.Query, after uint64, f func(row *batch, root [32]byte, booked int64) bool) error {
	var r record
	for {
		page, _, err := readRows(q, b.cfg.Book, after, firstPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			var t merkle.Tree
			err := page[i].each(&r, func(_ uint64, raw []byte) error {
				t.Add(merkle.Leaf(raw))
				return nil
			})
			if err != nil {
				return err
			}
			if !f(&page[i], t.Root(), r.booked) {
				return nil
			}
			after = page[i].seq
		}
	}
}

// A Proof shows that a record is in a sealed day, to anybody who trusts the
// signature and has nothing else of the book.
type Proof struct {
	Seq      uint64
	Record   []byte // as in the journal
	InBatch  []merkle.Step
	BatchSeq uint64
	BatchN   int
	Batch    [32]byte // hash of the batch in the chain
	InDay    []merkle.Step
	Seal     Seal
}

// Prove makes the proof for the record under a reference, once its day is
// sealed.
func (b *Book) Prove(ctx context.Context, ref string) (Proof, error) {
	rec, err := b.Entry(ctx, ref)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Seq: rec.Seq}
	err = b.store.Read(ctx, func(q *db.Query) error {
		if err := p.Seal.scan(b.cfg.Book, q.QueryRow(sealOf, b.cfg.Book, int64(p.Seq))); err != nil {
			return err
		}
		if p.Seal.Day.IsZero() {
			return fmt.Errorf("its day is not sealed yet: %w", ErrSeal)
		}
		var day merkle.Tree
		err := b.eachBatch(q, p.Seal.First-1, func(row *batch, root [32]byte, _ int64) bool {
			if row.seq > p.Seal.Last {
				return false
			}
			if row.first() <= p.Seq && p.Seq <= row.seq {
				day.Mark()
				p.batch(row)
			}
			day.Add(batchLeaf(row, root))
			return true
		})
		if err == nil && (day.Root() != p.Seal.Root || p.Record == nil) {
			err = fmt.Errorf("the journal of %s no longer has the sealed root: %w", p.Seal.Day, ErrSeal)
		}
		p.InDay = day.Path()
		return err
	})
	if err != nil {
		return Proof{}, fmt.Errorf("proof of %s: %w", ref, err)
	}
	return p, nil
}

// batch fills in the way from the record to the root of its batch, which has
// been read without an error before.
func (p *Proof) batch(row *batch) {
	p.BatchSeq, p.BatchN, p.Batch = row.seq, row.n, row.hash
	var t merkle.Tree
	var r record
	_ = row.each(&r, func(seq uint64, raw []byte) error {
		if seq == p.Seq {
			p.Record = slices.Clone(raw)
			t.Mark()
		}
		t.Add(merkle.Leaf(raw))
		return nil
	})
	t.Root()
	p.InBatch = t.Path()
}

// Check follows the proof to the sealed root and lets check, which knows the
// public key, decide on the signature.
func (p *Proof) Check(check func(message, signature []byte) error) error {
	root := merkle.Climb(merkle.Leaf(p.Record), p.InBatch)
	row := batch{seq: p.BatchSeq, n: p.BatchN, hash: p.Batch}
	if merkle.Climb(batchLeaf(&row, root), p.InDay) != p.Seal.Root {
		return fmt.Errorf("record %d does not lead to the sealed root: %w", p.Seq, ErrSeal)
	}
	if err := check(p.Seal.Message(), p.Seal.Signature); err != nil {
		return fmt.Errorf("seal of %s: %w: %w", p.Seal.Day, ErrSeal, err)
	}
	return nil
}

// batchLeaf is a batch in its day's tree: sequence, count, chain hash and root.
func batchLeaf(b *batch, root [32]byte) [32]byte {
	data := binary.LittleEndian.AppendUint64(nil, b.seq)
	data = binary.LittleEndian.AppendUint32(data, uint32(b.n))
	return merkle.Leaf(append(append(data, b.hash[:]...), root[:]...))
}
