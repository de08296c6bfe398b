package ledger

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/internal/db"
	"koala/money"
)

// A Record is one act as it stands in the journal.
type Record struct {
	Seq      uint64
	Type     string // entry, hold, capture, account…
	Ref      string // of an account: its id
	Kind     string
	Text     string
	Original string // what a reversal reverses
	Hold     string // what a raise, capture, void or expiry is about
	Booked   time.Time
	Value    time.Time
	Adjusts  time.Time // zero: no adjustment
	Num, Den int64     // rate of an exchange
	Amount   int64     // of a hold's act and of a reversal, minor units
	Legs     []RecordLeg
	books    bool
}

// Books says whether the legs change balances; those of a hold do not.
func (r *Record) Books() bool { return r.books }

// A RecordLeg is one leg with what it left on its account.
type RecordLeg struct {
	Account AccountID
	Code    string
	Amount  money.Amount
	Balance money.Amount
	Nth     uint64
}

// decode makes a Record of r; the caller holds mu.
func (b *Book) decode(seq uint64, r *record) (Record, error) {
	kind, reverses, text := r.describe()
	out := Record{Seq: seq, Type: r.typ.String(), Ref: string(r.ref()), Kind: kind, Text: text, Original: reverses,
		Booked: time.UnixMicro(r.booked).UTC(), Value: time.UnixMicro(r.value).UTC(), books: r.books()}
	switch r.typ {
	case recEntry:
		out.Adjusts = moment(r.words[0])
	case recExchange:
		out.Num, out.Den = r.words[0], r.words[1]
	case recReversal:
		out.Amount = r.words[0]
	case recRaise, recCapture, recVoid, recExpire:
		out.Hold, out.Amount = string(r.strs[1]), r.words[wAmount]
	case recHold:
		out.Amount = r.words[wAmount]
	}
	for _, l := range r.legs {
		if int(l.slot) >= len(b.pub.accounts) {
			return Record{}, fmt.Errorf("record %d names account %d: %w", seq, l.slot, ErrDamaged)
		}
		a := &b.pub.accounts[l.slot]
		out.Legs = append(out.Legs, RecordLeg{a.ID, a.Code, money.Of(l.amount, a.Currency), money.Of(l.after, a.Currency), l.nth})
	}
	return out, nil
}

// After returns committed records behind seq in journal order, at most limit.
// Whoever follows the journal keeps the Seq of the last record it has dealt
// with, and resumes there.
func (b *Book) After(ctx context.Context, seq uint64, limit int) ([]Record, error) {
	rows, err := b.batches(ctx, seq, page(limit))
	if err != nil {
		return nil, fmt.Errorf("records behind %d: %w", seq, err)
	}
	var out []Record
	var r record
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i := range rows {
		err := rows[i].each(&r, func(at uint64, _ []byte) error {
			if at <= seq || len(out) >= page(limit) {
				return nil
			}
			rec, err := b.decode(at, &r)
			out = append(out, rec)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Follow hands every committed record behind seq to f, in order and once, and
// waits for more until ctx ends or f fails.
func (b *Book) Follow(ctx context.Context, seq uint64, f func(Record) error) error {
	for {
		records, err := b.After(ctx, seq, maxPage)
		if err != nil {
			return err
		}
		for _, rec := range records {
			if err := f(rec); err != nil {
				return fmt.Errorf("record %d: %w", rec.Seq, err)
			}
			seq = rec.Seq
		}
		if len(records) == 0 {
			if err := b.await(ctx, seq); err != nil {
				return err
			}
		}
	}
}

// await returns when there are committed records behind seq.
func (b *Book) await(ctx context.Context, seq uint64) error {
	for {
		b.mu.Lock()
		if b.pub.tip.seq > seq {
			b.mu.Unlock()
			return nil
		}
		if b.pub.moved == nil {
			b.pub.moved = make(chan struct{})
		}
		moved := b.pub.moved
		b.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A Search narrows Entries. Empty fields do not narrow.
type Search struct {
	Kind   string
	Ref    string    // beginning of the reference
	Text   string    // anywhere in the text
	From   time.Time // booked from
	To     time.Time // and before
	Before uint64    // keyset: older than this record; 0: the newest
	Limit  int
}

// Entries lists records, newest first.
func (b *Book) Entries(ctx context.Context, s Search) ([]Record, error) {
	if err := b.fresh(ctx); err != nil {
		return nil, err
	}
	where, args := s.where(b.cfg.Book)
	var out []Record
	err := b.views.Read(ctx, func(q *db.Query) error {
		rows, err := q.Rows(`SELECT seq, raw FROM ledger_view_entry WHERE `+where, args...)
		if err != nil {
			return err
		}
		b.mu.RLock()
		defer b.mu.RUnlock()
		for rows.Next() {
			rec, err := b.scanRecord(rows.Scan)
			if err != nil {
				return err
			}
			out = append(out, rec)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("entries: %w", err)
	}
	return out, nil
}

func (s Search) where(book int64) (string, []any) {
	args := []any{book, int64(1<<63 - 1)}
	if s.Before != 0 {
		args[1] = int64(s.Before)
	}
	where := "book = $1 AND seq < $2"
	add := func(cond string, arg any) {
		args = append(args, arg)
		where += " AND " + strings.ReplaceAll(cond, "?", "$"+strconv.Itoa(len(args)))
	}
	if s.Kind != "" {
		add("kind = ?", s.Kind)
	}
	if s.Ref != "" {
		add("SUBSTR(ref, 1, LENGTH(?)) = ?", s.Ref)
	}
	if s.Text != "" {
		add("REPLACE(text, ?, '') <> text", s.Text)
	}
	if !s.From.IsZero() {
		add("booked >= ?", s.From.UnixMicro())
	}
	if !s.To.IsZero() {
		add("booked < ?", s.To.UnixMicro())
	}
	args = append(args, page(s.Limit))
	return where + " ORDER BY seq DESC LIMIT $" + strconv.Itoa(len(args)), args
}

// scanRecord reads seq and raw of a row; the caller holds mu.
func (b *Book) scanRecord(scan func(...any) error) (Record, error) {
	var seq uint64
	var raw []byte
	if err := scan(&seq, &raw); err != nil {
		return Record{}, err
	}
	var r record
	if _, err := r.parse(raw); err != nil {
		return Record{}, fmt.Errorf("record %d in the views: %w", seq, err)
	}
	return b.decode(seq, &r)
}

// Entry returns the record under a reference, or else the opening of the
// account of that id.
func (b *Book) Entry(ctx context.Context, ref string) (Record, error) {
	return b.oneEntry(ctx, ref, `SELECT seq, raw FROM ledger_view_entry WHERE ref = $2 AND book + 0 = $1 ORDER BY type DESC LIMIT 1`, ref)
}

// EntryAt returns the record with a sequence.
func (b *Book) EntryAt(ctx context.Context, seq uint64) (Record, error) {
	return b.oneEntry(ctx, strconv.FormatUint(seq, 10), `SELECT seq, raw FROM ledger_view_entry WHERE book = $1 AND seq = $2`, int64(seq))
}

func (b *Book) oneEntry(ctx context.Context, name, statement string, arg any) (rec Record, err error) {
	if err := b.fresh(ctx); err != nil {
		return Record{}, err
	}
	err = b.views.Read(ctx, func(q *db.Query) (err error) {
		row := q.QueryRow(statement, b.cfg.Book, arg)
		b.mu.RLock()
		defer b.mu.RUnlock()
		rec, err = b.scanRecord(row.Scan)
		return err
	})
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoEntry
	}
	if err != nil {
		return Record{}, fmt.Errorf("entry %s: %w", name, err)
	}
	return rec, nil
}

// exportHeader names the columns of the general ledger export. Amounts are in
// minor units; balances are credits minus debits.
var exportHeader = []string{"seq", "booked", "value", "ref", "kind", "account", "code", "currency", "debit", "credit", "balance", "text"}

// Export writes the general ledger as CSV, one line per leg in journal order,
// of what was booked from from until before to.
func (b *Book) Export(ctx context.Context, w io.Writer, from, to time.Time) error {
	out := csv.NewWriter(w)
	if err := out.Write(exportHeader); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for after := uint64(0); ; {
		batch, err := b.After(ctx, after, maxPage)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		for _, rec := range batch {
			after = rec.Seq
			if rec.Booked.Before(from) || !rec.Booked.Before(to) || !rec.Books() {
				continue
			}
			if err := b.exportRecord(out, rec); err != nil {
				return fmt.Errorf("export of record %d: %w", rec.Seq, err)
			}
		}
		if len(batch) == 0 {
			out.Flush()
			return out.Error()
		}
	}
}

func (b *Book) exportRecord(out *csv.Writer, rec Record) error {
	for _, l := range rec.Legs {
		debit, credit := "", ""
		if l.Amount.Sign() < 0 {
			debit = strconv.FormatInt(-l.Amount.Minor(), 10)
		} else {
			credit = strconv.FormatInt(l.Amount.Minor(), 10)
		}
		err := out.Write([]string{strconv.FormatUint(rec.Seq, 10), rec.Booked.Format(time.RFC3339Nano), rec.Value.Format(time.RFC3339Nano),
			rec.Ref, rec.Kind, string(l.Account), l.Code, string(l.Amount.Currency()), debit, credit,
			strconv.FormatInt(l.Balance.Minor(), 10), rec.Text})
		if err != nil {
			return err
		}
	}
	return nil
}

// Old is a set of books kept elsewhere until now.
type Old struct {
	Accounts []Account
	Entries  []OldEntry
	// Closing is what each account must have at the end, minor units; an
	// account that is not named is not compared.
	Closing map[AccountID]int64
}

// An OldEntry is an entry with the time it was booked then.
type OldEntry struct {
	Entry
	Booked time.Time
}

// importGroup is how many old entries go into one unit.
const importGroup = 1_000

// Import takes old books over, in whatever order they come: entries are sorted
// by booking time, value date and reference, their value dates are kept, and
// limits are not applied to the past. It is for a book without newer records
// and may be run again after an interruption: what is in is not booked twice.
// Everything is checked before the first entry is booked.
func Import(ctx context.Context, store *db.Store, old Old) error {
	entries, err := old.sorted()
	if err != nil {
		return err
	}
	err = store.Write(ctx, func(tx *db.Tx) error {
		b, err := at(tx)
		if err != nil {
			return err
		}
		for _, a := range old.Accounts { // at the book's own clock: their entries are older than now
			if err := b.state.open(a); err != nil {
				return fmt.Errorf("opening account %s: %w", a.ID, err)
			}
		}
		return nil
	})
	for group := range slices.Chunk(entries, importGroup) {
		if err != nil {
			break
		}
		err = store.Write(ctx, func(tx *db.Tx) error { return importEntries(tx, group) })
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

func importEntries(tx *db.Tx, group []OldEntry) error {
	b, err := at(tx)
	if err != nil {
		return err
	}
	s := b.state
	for i := range group {
		e := &group[i]
		r := &s.scratch
		r.reset(recEntry, e.Ref, e.Kind, e.Text)
		r.words = append(r.words, micros(e.Adjusts))
		r.flags = flagImported
		if k, err := s.newRef(e.Ref); err != nil {
			return err
		} else if seq, err := s.find(k, e.Ref, false); err != nil {
			return err
		} else if at := e.Booked.UnixMicro(); seq == 0 && at < s.clock {
			return fmt.Errorf("entry %s was booked before entries that are in the book: %w", e.Ref, ErrImport)
		} else if seq == 0 {
			s.at(at)
		}
		if _, err := s.book1(r, &e.Entry, false); err != nil {
			return fmt.Errorf("entry %s: %w", e.Ref, err)
		}
	}
	return nil
}

// sorted orders the entries and checks them as a whole: references once,
// accounts known, sums zero, closing balances reached.
func (o *Old) sorted() ([]OldEntry, error) {
	currencies := map[AccountID]money.Currency{}
	for _, a := range o.Accounts {
		currencies[a.ID] = a.Currency
	}
	refs := make(map[string]bool, len(o.Entries))
	balances := map[AccountID]int64{}
	for i := range o.Entries {
		e := &o.Entries[i]
		if refs[e.Ref] {
			return nil, fmt.Errorf("reference %s stands twice: %w", e.Ref, ErrImport)
		}
		refs[e.Ref] = true
		if e.Booked.IsZero() {
			return nil, fmt.Errorf("entry %s has no booking time: %w", e.Ref, ErrImport)
		}
		sums := map[money.Currency]int64{}
		for _, l := range e.Legs {
			if c, known := currencies[l.Account]; !known || c != l.Amount.Currency() {
				return nil, fmt.Errorf("entry %s moves %s on account %s: %w", e.Ref, l.Amount, l.Account, ErrImport)
			}
			sums[l.Amount.Currency()] += l.Amount.Minor()
			balances[l.Account] += l.Amount.Minor()
		}
		for c, sum := range sums {
			if sum != 0 {
				return nil, fmt.Errorf("entry %s leaves %d %s over: %w", e.Ref, sum, c, ErrImport)
			}
		}
	}
	for id, want := range o.Closing {
		if balances[id] != want {
			return nil, fmt.Errorf("account %s comes to %d, its closing balance is %d: %w", id, balances[id], want, ErrImport)
		}
	}
	entries := slices.Clone(o.Entries)
	slices.SortFunc(entries, func(x, y OldEntry) int {
		return cmp.Or(x.Booked.Compare(y.Booked), x.Value.Compare(y.Value), cmp.Compare(x.Ref, y.Ref))
	})
	return entries, nil
}
