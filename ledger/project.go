package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
)

// viewSchema is the tables that answer questions. All of it is made from the
// journal and may be thrown away.
var viewSchema = db.Schema{Owner: "ledger_view", Steps: []string{`
	CREATE TABLE ledger_view_state (
		book BIGINT PRIMARY KEY, seq BIGINT NOT NULL, batch BIGINT NOT NULL, hash BYTEA NOT NULL);
	CREATE TABLE ledger_view_entry (
		book BIGINT NOT NULL, seq BIGINT NOT NULL, type BIGINT NOT NULL, kind TEXT NOT NULL, ref TEXT NOT NULL,
		reverses TEXT NOT NULL, text TEXT NOT NULL, booked BIGINT NOT NULL, raw BYTEA NOT NULL,
		PRIMARY KEY (book, seq)) /*without rowid*/;
	CREATE INDEX ledger_view_entry_ref ON ledger_view_entry (ref, book);
	CREATE INDEX ledger_view_entry_reverses ON ledger_view_entry (reverses, book) WHERE reverses <> '';
	CREATE TABLE ledger_view_line (
		book BIGINT NOT NULL, account BIGINT NOT NULL, nth BIGINT NOT NULL, seq BIGINT NOT NULL,
		booked BIGINT NOT NULL, value BIGINT NOT NULL, amount BIGINT NOT NULL, balance BIGINT NOT NULL,
		PRIMARY KEY (book, account, nth)) /*without rowid*/;
	CREATE INDEX ledger_view_line_dated ON ledger_view_line (account, book) WHERE value <> booked;
	CREATE TABLE ledger_view_day (
		book BIGINT NOT NULL, account BIGINT NOT NULL, day TEXT NOT NULL, nth BIGINT NOT NULL, balance BIGINT NOT NULL,
		PRIMARY KEY (book, account, day)) /*without rowid*/;`}}

const (
	entryTable = "ledger_view_entry"
	entryCols  = "book, seq, type, kind, ref, reverses, text, booked, raw"
	lineTable  = "ledger_view_line"
	lineCols   = "book, account, nth, seq, booked, value, amount, balance"

	putDay = `INSERT INTO ledger_view_day (book, account, day, nth, balance) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (book, account, day) DO UPDATE SET nth = excluded.nth, balance = excluded.balance`
	putState = `INSERT INTO ledger_view_state (book, seq, batch, hash) VALUES ($1, $2, $3, $4)
		ON CONFLICT (book) DO UPDATE SET seq = excluded.seq, batch = excluded.batch, hash = excluded.hash`
	readState = `SELECT seq, batch, hash FROM ledger_view_state WHERE book = $1`

	// book + 0 keeps SQLite from taking the primary key, which begins with the
	// book, for the better index. Type 1 is the opening of an account, whose
	// ref is its id.
	seekRef      = `SELECT COALESCE(MAX(seq), 0) FROM ledger_view_entry WHERE ref = $2 AND book + 0 = $1 AND type <> 1`
	seekReversal = `SELECT COALESCE(MAX(seq), 0) FROM ledger_view_entry WHERE reverses = $2 AND reverses <> '' AND book + 0 = $1`

	readClosings = `SELECT d.account, d.balance FROM ledger_view_day d
		JOIN (SELECT account, MAX(day) AS day FROM ledger_view_day WHERE book = $1 AND day <= $2 GROUP BY account) m
		ON d.account = m.account AND d.day = m.day WHERE d.book = $1 ORDER BY d.account`
)

// The size of one step of the projector, in records: small while the writer
// works, so that it never waits long for the processor.
const (
	idleStep = 4_096
	busyStep = 256
	// busyPause is what the projector leaves the writer after a step during
	// which more than busyRecords were committed: about 20,000 a second.
	busyPause   = 150 * time.Millisecond
	busyRecords = 250
	// freshLimit is how many records a question brings into the views itself
	// before it answers; beyond that it answers from what they have.
	freshLimit = 20_000
)

// openViews opens the views and says how far they are.
func (b *Book) openViews(ctx context.Context) (at viewPoint, err error) {
	if err := b.connectViews(ctx); err != nil {
		return at, fmt.Errorf("views: %w", err)
	}
	if err := b.views.Migrate(ctx, viewSchema); err != nil {
		return at, fmt.Errorf("views: %w", err)
	}
	if at, err = b.viewState(ctx); err != nil {
		return at, fmt.Errorf("views: %w", err)
	}
	b.projected.Store(at.seq)
	return at, nil
}

// matchViews empties views that were not made from this journal.
func (b *Book) matchViews(ctx context.Context, at viewPoint) error {
	if ok, err := b.belongs(ctx, at); err != nil || ok {
		return err
	}
	return b.clearViews(ctx)
}

func (b *Book) connectViews(ctx context.Context) (err error) {
	place := b.cfg.Views
	switch {
	case place == "" && !b.store.Embedded():
		b.views = b.store
		return nil
	case place == "":
		place = b.store.Place() + ".views"
	case strings.HasPrefix(place, "postgres://") || strings.HasPrefix(place, "postgresql://"):
		if place, err = b.ownSchema(ctx, place); err != nil {
			return err
		}
	}
	open := func() error {
		b.views, err = db.Open(ctx, db.Config{URL: place, Inline: b.cfg.Inline, Rebuildable: true})
		return err
	}
	if err := open(); err == nil || !errors.Is(err, db.ErrCorrupt) {
		return err
	}
	// A power failure may leave a file behind that is none: it holds nothing
	// that the journal does not, so it goes and is built again.
	for _, tail := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(place + tail); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing damaged views: %w", err)
		}
	}
	return open()
}

// ownSchema makes the schema for the views beside the one of the store: their
// writer has a fence of its own.
func (b *Book) ownSchema(ctx context.Context, place string) (string, error) {
	schema := "views"
	err := b.store.Read(ctx, func(q *db.Query) error {
		var own string
		err := q.QueryRow(`SELECT current_schema()`).Scan(&own)
		if own != "public" {
			schema = own + "_views"
		}
		return err
	})
	if err == nil {
		err = b.store.Migrate(ctx, db.Schema{Owner: "ledger_schema", Steps: []string{`CREATE SCHEMA IF NOT EXISTS ` + schema}})
	}
	if err != nil {
		return "", fmt.Errorf("schema %s: %w", schema, err)
	}
	u, err := url.Parse(place)
	if err != nil {
		return "", fmt.Errorf("the address of the views is not a URL: %w", ErrShape)
	}
	params := u.Query()
	params.Set("search_path", schema)
	u.RawQuery = params.Encode()
	return u.String(), nil
}

// viewPoint is how far the views are: seq is the last record, batch and hash
// the last whole batch.
type viewPoint struct {
	seq   uint64
	batch tip
}

func (b *Book) viewState(ctx context.Context) (at viewPoint, err error) {
	err = b.views.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(readState, b.cfg.Book).Scan(&at.seq, &at.batch.seq, &at.batch.hash)
	})
	if errors.Is(err, db.ErrNoRows) {
		return viewPoint{}, nil
	}
	return at, err
}

// belongs says whether the views were made from this journal.
func (b *Book) belongs(ctx context.Context, at viewPoint) (bool, error) {
	if at.seq > b.tip.seq {
		return false, nil
	}
	if at.batch.seq == 0 {
		return at.batch.hash == [32]byte{}, nil
	}
	var row batch
	err := b.store.Read(ctx, func(q *db.Query) error {
		return row.scan(q.QueryRow(findBatch, b.cfg.Book, int64(at.batch.seq)))
	})
	if errors.Is(err, db.ErrNoRows) {
		return false, nil
	}
	return row.seq == at.batch.seq && row.hash == at.batch.hash, err
}

// clearViews empties the views of this book.
func (b *Book) clearViews(ctx context.Context) error {
	b.projected.Store(0)
	err := b.views.Write(ctx, func(tx *db.Tx) error {
		for _, table := range []string{"state", "entry", "line", "day"} {
			if _, err := tx.Exec(`DELETE FROM ledger_view_`+table+` WHERE book = $1`, b.cfg.Book); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("emptying the views: %w", err)
	}
	return nil
}

// Rebuild throws the views away and makes them again from the journal.
func (b *Book) Rebuild(ctx context.Context) error {
	b.projecting.Lock()
	err := b.clearViews(ctx)
	b.projecting.Unlock()
	if err != nil {
		return err
	}
	return b.Project(ctx)
}

// Project brings the views up to the last committed record.
func (b *Book) Project(ctx context.Context) error {
	for {
		more, err := b.step(ctx, idleStep)
		if err != nil || !more {
			return err
		}
	}
}

// Lag returns how many committed records the views do not have yet.
func (b *Book) Lag() uint64 {
	seq, _ := b.Tip()
	return seq - min(seq, b.projected.Load())
}

// Trouble is why the projector does not get on, nil when it does.
func (b *Book) Trouble() error {
	if p := b.trouble.Load(); p != nil {
		return *p
	}
	return nil
}

// fresh brings a small lag up to date before a question.
func (b *Book) fresh(ctx context.Context) error {
	if lag := b.Lag(); lag == 0 || lag > freshLimit {
		return nil
	}
	return b.Project(ctx)
}

// follow is the projector: it works in small steps with pauses while the
// writer is at work, and makes a snapshot when it is time.
func (b *Book) follow(ctx context.Context) {
	defer close(b.done)
	for {
		seen, _ := b.Tip()
		more, err := b.step(ctx, b.stepSize())
		if err == nil {
			err = b.snapshotIfDue(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		b.trouble.Store(&err)
		pause := time.Duration(0)
		if now, _ := b.Tip(); now-seen > busyRecords && b.stepSize() == busyStep {
			pause = busyPause
		}
		if err != nil {
			pause = time.Second
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		if !more && err == nil && b.await(ctx, b.projected.Load()) != nil {
			return
		}
	}
}

func (b *Book) snapshotIfDue(ctx context.Context) error {
	if seq, _ := b.Tip(); seq < b.snapped.Load()+b.cfg.SnapshotEvery {
		return nil
	}
	return b.Snapshot(ctx)
}

// stepSize grows once half of what may wait is waiting: then the views come
// before speed.
func (b *Book) stepSize() int {
	if b.Lag() > b.cfg.MaxLag/2 {
		return idleStep
	}
	return busyStep
}

// step projects about limit records; more says whether others wait.
func (b *Book) step(ctx context.Context, limit int) (more bool, err error) {
	b.projecting.Lock()
	defer b.projecting.Unlock()
	if b.Lag() == 0 {
		return false, nil
	}
	at, err := b.viewState(ctx)
	if err != nil {
		return false, fmt.Errorf("projecting: %w", err)
	}
	if err := b.readAhead(ctx, at.seq, limit); err != nil {
		return false, fmt.Errorf("projecting behind record %d: %w", at.seq, err)
	}
	next := at
	err = b.views.Write(ctx, func(tx *db.Tx) error {
		next = at
		return b.write(tx, b.ahead, &next, limit)
	})
	if err != nil {
		return false, fmt.Errorf("projecting behind record %d: %w", at.seq, err)
	}
	b.projected.Store(next.seq)
	return b.Lag() > 0, nil
}

// readAhead makes b.ahead hold at least limit records behind after, if there
// are so many. What a step leaves over is kept for the next: a large batch is
// read once.
func (b *Book) readAhead(ctx context.Context, after uint64, limit int) error {
	kept := b.ahead[:0]
	for _, row := range b.ahead {
		if row.seq > after && (len(kept) > 0 || row.first() <= after+1) {
			kept = append(kept, row)
		}
	}
	clear(b.ahead[len(kept):])
	b.ahead = kept
	last := after
	if len(kept) > 0 {
		last = kept[len(kept)-1].seq
	}
	if last >= after+uint64(limit) {
		return nil
	}
	more, err := b.batches(ctx, last, int(after+uint64(limit)-last))
	b.ahead = append(b.ahead, more...)
	return err
}

// batches reads committed batches with records behind after: at least limit
// records if there are so many, never more than the committed tip.
func (b *Book) batches(ctx context.Context, after uint64, limit int) (all []batch, err error) {
	seq, _ := b.Tip()
	last := after
	err = b.store.Read(ctx, func(q *db.Query) error {
		for rows := 4; last < min(seq, after+uint64(limit)); rows *= 2 {
			page, _, err := readRows(q, b.cfg.Book, last, min(rows, limit))
			if err != nil || len(page) == 0 {
				return err
			}
			for i := range page {
				if page[i].seq > seq {
					return nil
				}
				all = append(all, page[i])
				last = page[i].seq
			}
		}
		return nil
	})
	return all, err
}

// dayKey is one account on one booking day.
type dayKey struct {
	slot uint32
	day  calendar.Date
}

// write adds the records behind at to the views, up to limit, and moves at.
func (b *Book) write(tx *db.Tx, rows []batch, at *viewPoint, limit int) error {
	var r record
	closing := map[dayKey]leg{}
	var order []dayKey
	full := errors.New("enough for one step")
	for i := range rows {
		err := rows[i].each(&r, func(seq uint64, raw []byte) error {
			if seq <= at.seq {
				return nil
			}
			if limit--; limit < 0 {
				return full
			}
			at.seq = seq
			if err := b.writeRecord(tx, seq, &r, raw); err != nil || !r.books() {
				return err
			}
			day := calendar.Of(time.UnixMicro(r.booked), calendar.Beijing)
			for _, l := range r.legs {
				k := dayKey{l.slot, day}
				if _, seen := closing[k]; !seen {
					order = append(order, k)
				}
				closing[k] = l
			}
			return nil
		})
		if err != nil && !errors.Is(err, full) {
			return err
		}
		if err == nil {
			at.batch = tip{rows[i].seq, rows[i].hash}
		}
	}
	for _, k := range order {
		l := closing[k]
		if _, err := tx.Exec(putDay, b.cfg.Book, k.slot, k.day.String(), int64(l.nth), l.after); err != nil {
			return err
		}
	}
	_, err := tx.Exec(putState, b.cfg.Book, int64(at.seq), int64(at.batch.seq), at.batch.hash[:])
	return err
}

// books says whether the legs of r change balances.
func (r *record) books() bool {
	return r.typ == recEntry || r.typ == recExchange || r.typ == recReversal || r.typ == recCapture
}

func (b *Book) writeRecord(tx *db.Tx, seq uint64, r *record, raw []byte) error {
	kind, reverses, text := r.describe()
	err := tx.Append(entryTable, entryCols, b.cfg.Book, int64(seq), int64(r.typ), kind, string(r.ref()), reverses, text, r.booked, raw)
	if err != nil || !r.books() {
		return err
	}
	for _, l := range r.legs {
		err := tx.Append(lineTable, lineCols, b.cfg.Book, l.slot, int64(l.nth), int64(seq), r.booked, r.value, l.amount, l.after)
		if err != nil {
			return err
		}
	}
	return nil
}

// describe returns the kind, what it reverses and the text of r for lists.
func (r *record) describe() (kind, reverses, text string) {
	switch r.typ {
	case recEntry, recExchange:
		return string(r.strs[1]), "", string(r.strs[2])
	case recReversal:
		return string(r.strs[1]), string(r.strs[3]), string(r.strs[2])
	case recHold, recLimits, recAccount:
		return r.typ.String(), "", string(r.strs[1])
	case recRaise, recCapture, recVoid, recExpire:
		return r.typ.String(), "", "hold " + string(r.strs[1])
	}
	return r.typ.String(), "", ""
}
