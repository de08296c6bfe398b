package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// A Report is what a check of the books found.
type Report struct {
	Book     int64
	Batches  uint64
	Records  uint64
	Entries  uint64 // records that change balances
	Accounts int
	Holds    int    // open at the end
	Viewed   uint64 // records that the views had and that were compared
	Hash     string // of the last batch, hex: who knows it knows the whole journal
	Problems []Problem
}

// A Problem is one place where the books do not agree with themselves.
type Problem struct {
	Where string // batch 17, record 1204, account float:…, views
	What  string
}

// OK says whether nothing was found.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// maxProblems bounds a report: the first tell what happened.
const maxProblems = 100

func (r *Report) add(where, format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(format, args...)})
	}
}

// Audit checks a journal by itself, also one that Open refuses: every hash and
// link, every record's form and zero sum, every written balance against a
// replay from nothing, and the book's row against the end of the journal.
func Audit(ctx context.Context, store *db.Store, book int64) (Report, error) {
	a := newAuditor(Config{Book: book}.filled())
	err := store.Read(ctx, func(q *db.Query) error {
		if err := a.walk(q, 0); err != nil {
			return err
		}
		return a.end(q)
	})
	if err != nil {
		return Report{}, fmt.Errorf("audit of book %d: %w", book, err)
	}
	return a.done(), nil
}

// Verify checks the journal as Audit does, and that memory and views equal it.
// Work goes on meanwhile; the projector waits.
func (b *Book) Verify(ctx context.Context) (Report, error) {
	b.projecting.Lock()
	defer b.projecting.Unlock()
	a := newAuditor(b.cfg)
	at, err := b.viewState(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	err = b.views.Read(ctx, func(v *db.Query) error {
		a.views = &viewAudit{q: v, upTo: at.seq, sums: map[uint32]*sums{}}
		seq, _ := b.Tip()
		return b.store.Read(ctx, func(q *db.Query) error { return a.walk(q, seq) })
	})
	if err == nil {
		err = b.compare(ctx, a)
	}
	if err == nil {
		err = b.views.Read(ctx, func(v *db.Query) error {
			a.views.q = v
			return a.lines()
		})
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	return a.done(), nil
}

// compareTries is how often the memory may have moved on while the journal was
// read, before it is made to wait.
const compareTries = 3

// compare reads the journal up to what readers see and compares the two.
func (b *Book) compare(ctx context.Context, a *auditor) error {
	for try := 0; ; try++ {
		b.mu.RLock()
		seq := b.pub.tip.seq
		if a.tip.seq == seq || a.lost {
			a.memory(&b.pub)
			b.mu.RUnlock()
			return nil
		}
		if try < compareTries {
			b.mu.RUnlock()
		}
		err := b.store.Read(ctx, func(q *db.Query) error { return a.walk(q, seq) })
		if try >= compareTries { // the writer waited at its next publication
			if err == nil {
				a.memory(&b.pub)
			}
			b.mu.RUnlock()
			return err
		}
		if err != nil {
			return err
		}
	}
}

type auditor struct {
	Report
	cfg   Config
	state *state
	tip   tip
	lost  bool // a record could not be applied: balances behind it say nothing
	r     record
	views *viewAudit // nil: journal only
}

func newAuditor(cfg Config) *auditor {
	a := &auditor{cfg: cfg, state: newState(cfg.Book, 1)}
	a.Book = cfg.Book
	a.state.replays, a.state.keys = true, keys{}
	return a
}

// walk reads the journal behind the tip, up to a record (0: to its end). What
// is wrong goes to the report; the walk goes on with what was written.
func (a *auditor) walk(q *db.Query, upTo uint64) error {
	for limit := firstPage; upTo == 0 || a.tip.seq < upTo; {
		page, size, err := readRows(q, a.cfg.Book, a.tip.seq, limit)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if upTo != 0 && page[i].seq > upTo {
				return nil
			}
			if err := a.batch(&page[i]); err != nil {
				return err
			}
		}
		if size < pageBytes && limit < lastPage {
			limit *= 2
		}
	}
	return nil
}

func (a *auditor) batch(b *batch) error {
	where := fmt.Sprintf("batch %d", b.seq)
	next := a.tip
	if err := next.follow(a.cfg.Book, b); err != nil {
		a.add(where, "%v", err)
	}
	a.tip = tip{b.seq, b.hash}
	a.Batches++
	var fatal error
	err := b.each(&a.r, func(seq uint64, raw []byte) error {
		a.Records++
		fatal = a.record(seq, raw)
		return fatal
	})
	if fatal != nil {
		return fatal
	}
	if err != nil {
		a.add(where, "%v", err)
		a.lost = true
	}
	return nil
}

func (a *auditor) record(seq uint64, raw []byte) error {
	where := fmt.Sprintf("record %d", seq)
	if a.r.books() {
		a.Entries++
	}
	if !a.lost {
		a.state.seq = seq - 1
		if err := a.state.replay(&a.r); err != nil {
			a.add(where, "%v", err)
			a.lost = true
		} else if err := a.state.balanced(a.r.legs); err != nil && a.r.typ != recHold {
			a.add(where, "%v", err)
		}
	}
	if a.views == nil || seq > a.views.upTo {
		return nil
	}
	return a.viewed(where, seq, raw)
}

// end compares the book's row with where the journal ended.
func (a *auditor) end(q *db.Query) error {
	var epoch int64
	var row tip
	err := q.QueryRow(readBook, a.cfg.Book).Scan(&epoch, &row.seq, &row.hash)
	switch {
	case errors.Is(err, db.ErrNoRows) && a.tip.seq == 0:
	case errors.Is(err, db.ErrNoRows):
		a.add("book", "its row is missing")
	case err != nil:
		return err
	case row != a.tip:
		a.add("book", "the journal ends with record %d, the book says %d, or their hashes differ", a.tip.seq, row.seq)
	}
	return nil
}

func (a *auditor) done() Report {
	a.Accounts, a.Holds = len(a.state.accounts), len(a.state.holds)
	a.Hash = hex.EncodeToString(a.tip.hash[:])
	sums := map[money.Currency]int64{} // wraps, and comes to zero all the same
	for _, acc := range a.state.accounts {
		sums[acc.Currency] += acc.balance
	}
	for c, sum := range sums {
		if sum != 0 {
			a.add("book", "the balances in %s sum to %d", c, sum)
		}
	}
	return a.Report
}

// memory compares the replayed state with what readers see.
func (a *auditor) memory(p *shown) {
	if a.lost {
		a.add("memory", "not compared: the journal could not be replayed")
		return
	}
	if len(p.accounts) != len(a.state.accounts) || p.tip != a.tip {
		a.add("memory", "%d accounts at record %d, in the journal %d at %d", len(p.accounts), p.tip.seq, len(a.state.accounts), a.tip.seq)
		return
	}
	open := 0
	for i, acc := range a.state.accounts {
		m := &p.accounts[i]
		if m.ID != acc.ID || m.balance != acc.balance || m.held != acc.held || m.count != acc.count ||
			m.debit != acc.debit || m.credit != acc.credit || !m.limits.equal(acc.totals.limits) {
			a.add("account "+string(acc.ID), "memory has %d (%d held, %d legs), the journal %d (%d held, %d legs)",
				m.balance, m.held, m.count, acc.balance, acc.held, acc.count)
		}
		open += len(p.holds[uint32(i)])
	}
	for k, h := range a.state.holds {
		if m, ok := p.holds[h.from][k]; !ok || m.remaining != h.remaining || m.expires != h.expires {
			a.add("hold "+h.name, "memory has %d until %d, the journal %d until %d", m.remaining, m.expires, h.remaining, h.expires)
		}
	}
	if open != len(a.state.holds) {
		a.add("memory", "%d open holds, in the journal %d", open, len(a.state.holds))
	}
}

// viewAudit compares the views with the journal as it is walked.
type viewAudit struct {
	q    *db.Query
	upTo uint64
	page *db.Rows
	last uint64 // of the rows read
	sums map[uint32]*sums
}

// sums fingerprint the lines and closings of one account, whatever their order.
type sums struct{ lines, days uint64 }

const (
	auditEntries = `SELECT seq, type, kind, ref, reverses, text, booked, raw FROM ledger_view_entry
		WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT 500`
	auditLines = `SELECT account, nth, seq, booked, value, amount, balance FROM ledger_view_line
		WHERE book = $1 AND (account, nth) > ($2, $3) ORDER BY account, nth LIMIT 1000`
	auditDays = `SELECT account, day, nth, balance FROM ledger_view_day
		WHERE book = $1 AND (account, day) > ($2, $3) ORDER BY account, day LIMIT 1000`
)

// viewed compares the record in a.r with its row.
func (a *auditor) viewed(where string, seq uint64, raw []byte) error {
	v := a.views
	a.Viewed++
	if a.r.books() {
		for i := range a.r.legs {
			l := &a.r.legs[i]
			v.of(l.slot).lines += fingerprint(int64(l.nth), int64(seq), a.r.booked, a.r.value, l.amount, l.after)
		}
	}
	if v.page == nil || !v.page.Next() {
		rows, err := v.q.Rows(auditEntries, a.cfg.Book, int64(v.last))
		if err != nil {
			return err
		}
		if v.page = rows; !rows.Next() {
			a.add(where, "it is missing in the views")
			return nil
		}
	}
	var at, typ, booked int64
	var kind, ref, reverses, text string
	var kept []byte
	if err := v.page.Scan(&at, &typ, &kind, &ref, &reverses, &text, &booked, &kept); err != nil {
		return err
	}
	v.last = uint64(at)
	wantKind, wantReverses, wantText := a.r.describe()
	if uint64(at) != seq || recType(typ) != a.r.typ || kind != wantKind || ref != string(a.r.ref()) ||
		reverses != wantReverses || text != wantText || booked != a.r.booked || !bytes.Equal(kept, raw) {
		a.add(where, "the views have another record %d in its place", at)
		if uint64(at) != seq { // read on behind this record
			v.page, v.last = nil, seq
		}
	}
	return nil
}

func (v *viewAudit) of(slot uint32) *sums {
	s := v.sums[slot]
	if s == nil {
		s = &sums{}
		v.sums[slot] = s
	}
	return s
}

func fingerprint(ns ...int64) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for _, n := range ns {
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	return h.Sum64()
}

// lines compares the statement lines with the journal's legs, and the daily
// closings with the lines.
func (a *auditor) lines() error {
	v := a.views
	found, days := map[uint32]*sums{}, map[uint32]*sums{}
	of := func(m map[uint32]*sums, slot int64) *sums {
		if m[uint32(slot)] == nil {
			m[uint32(slot)] = &sums{}
		}
		return m[uint32(slot)]
	}
	var last struct {
		slot, nth, balance int64
		day                calendar.Date
	}
	last.slot = -1
	closeDay := func() {
		if last.slot >= 0 {
			of(found, last.slot).days += fingerprint(int64(dayNumber(last.day)), last.nth, last.balance)
		}
	}
	err := pages(v.q, auditLines, a.cfg.Book, int64(-1), int64(0), func(rows *db.Rows) (any, any, error) {
		var slot, nth, seq, booked, value, amount, balance int64
		err := rows.Scan(&slot, &nth, &seq, &booked, &value, &amount, &balance)
		day := calendar.Of(time.UnixMicro(booked), calendar.Beijing)
		if slot != last.slot || day != last.day {
			closeDay()
		}
		last.slot, last.nth, last.balance, last.day = slot, nth, balance, day
		of(found, slot).lines += fingerprint(nth, seq, booked, value, amount, balance)
		return slot, nth, err
	})
	closeDay()
	if err != nil {
		return err
	}
	err = pages(v.q, auditDays, a.cfg.Book, int64(-1), "", func(rows *db.Rows) (any, any, error) {
		var slot, nth, balance int64
		var day string
		if err := rows.Scan(&slot, &day, &nth, &balance); err != nil {
			return nil, nil, err
		}
		d, err := calendar.Parse(day)
		of(days, slot).days += fingerprint(int64(dayNumber(d)), nth, balance)
		return slot, day, err
	})
	for i, acc := range a.state.accounts {
		slot := int64(i)
		switch {
		case v.of(acc.slot).lines != of(found, slot).lines:
			a.add("account "+string(acc.ID), "its statement lines in the views differ from the journal")
		case of(found, slot).days != of(days, slot).days:
			a.add("account "+string(acc.ID), "its daily closing balances in the views differ from its lines")
		}
	}
	return err
}

func dayNumber(d calendar.Date) int { return (d.Year*12+int(d.Month))*31 + d.Day }

// pages runs a keyset query from a first key to its end; f reads one row and
// returns its key.
func pages(q *db.Query, statement string, book int64, k1, k2 any, f func(*db.Rows) (any, any, error)) error {
	for {
		rows, err := q.Rows(statement, book, k1, k2)
		if err != nil {
			return err
		}
		n := 0
		for ; rows.Next(); n++ {
			if k1, k2, err = f(rows); err != nil {
				return err
			}
		}
		if n == 0 {
			return nil
		}
	}
}
