package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// shown is the committed state that readers see.
type shown struct {
	tip      tip
	clock    int64 // booking time of the last record
	closed   int64
	ids      map[AccountID]uint32
	accounts []shownAccount
	holds    map[uint32]map[key]shownHold // open ones by account
	moved    chan struct{}                // closed at the next commit; nil: nobody waits
}

type shownAccount struct {
	*account      // only what never changes may be read through it
	debit, credit Total
	balance, held int64
	count         uint64
	soonest       int64
	limits        Limits
}

type shownHold struct {
	Held
	expires, remaining int64
}

func (p *shown) reset(s *state, t tip) {
	p.tip, p.clock, p.closed, p.ids = t, s.clock, s.closed, s.ids
	p.accounts = make([]shownAccount, len(s.accounts))
	p.holds = map[uint32]map[key]shownHold{}
	for i, a := range s.accounts {
		p.accounts[i] = a.published()
	}
	for _, h := range s.holds {
		p.put(s, h)
	}
	p.wake()
}

func (p *shown) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

func (a *account) published() shownAccount {
	return shownAccount{a, a.totals.debit, a.totals.credit, a.totals.balance, a.totals.held, a.totals.count,
		a.soonest, a.totals.limits}
}

// put shows h as it is now: open or ended.
func (p *shown) put(s *state, h *hold) {
	if s.holds[h.ref] != h {
		delete(p.holds[h.from], h.ref)
		return
	}
	if p.holds[h.from] == nil {
		p.holds[h.from] = map[key]shownHold{}
	}
	p.holds[h.from][h.ref] = shownHold{s.shown(h), h.expires, h.remaining}
}

// publish shows readers what the batch changed.
func (b *Book) publish() {
	s := b.state
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &b.pub
	for id, slot := range s.fresh {
		s.ids[id] = slot
	}
	clear(s.fresh)
	for _, a := range s.accounts[len(p.accounts):] {
		p.accounts = append(p.accounts, a.published())
		a.dirty = false
	}
	for _, slot := range b.touched {
		a := s.accounts[slot]
		p.accounts[slot] = a.published()
		a.dirty = false
	}
	for i, h := range b.ended {
		p.put(s, h)
		b.ended[i] = nil
	}
	b.touched, b.ended = b.touched[:0], b.ended[:0]
	p.tip, p.clock, p.closed = b.tip, s.clock, s.closed
	p.wake()
}

// lookup returns a committed account; the caller holds mu.
func (b *Book) lookup(id AccountID) (*shownAccount, error) {
	slot, ok := b.pub.ids[id]
	if !ok {
		return nil, fmt.Errorf("account %s: %w", id, ErrNoAccount)
	}
	return &b.pub.accounts[slot], nil
}

// lapsed sums what holds that have expired by now still count on a.
func (p *shown) lapsed(a *shownAccount, now int64) (sum int64) {
	if a.soonest == 0 || now < a.soonest {
		return 0
	}
	for _, h := range p.holds[a.slot] {
		if h.expires != 0 && h.expires <= now {
			sum += h.remaining
		}
	}
	return sum
}

// Balance returns the committed balance of an account at this moment.
func (b *Book) Balance(id AccountID) (Balance, error) {
	now := b.store.Now().UnixMicro()
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.lookup(id)
	if err != nil {
		return Balance{}, err
	}
	held := a.held - b.pub.lapsed(a, max(now, b.pub.clock))
	return Balance{money.Of(a.balance, a.Currency), money.Of(held, a.Currency), available(a.balance, held, a.Currency)}, nil
}

// AccountOf returns an account with its present limits.
func (b *Book) AccountOf(id AccountID) (Account, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.lookup(id)
	if err != nil {
		return Account{}, err
	}
	out := a.Account
	out.Limits = a.limits
	return out, nil
}

// An AccountLine is an account in a list, with its committed balance.
type AccountLine struct {
	Account
	Balance       money.Amount
	Debit, Credit Total // turnover since it was opened
}

// Accounts lists at most limit accounts whose chart code begins with code,
// by id, after the given one.
func (b *Book) Accounts(code string, after AccountID, limit int) []AccountLine {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var all []AccountLine
	for i := range b.pub.accounts {
		a := &b.pub.accounts[i]
		if a.ID > after && len(a.Code) >= len(code) && a.Code[:len(code)] == code {
			line := AccountLine{a.Account, money.Of(a.balance, a.Currency), a.debit, a.credit}
			line.Limits = a.limits
			all = append(all, line)
		}
	}
	slices.SortFunc(all, func(x, y AccountLine) int { return cmp.Compare(x.ID, y.ID) })
	return all[:min(len(all), limit)]
}

// Holds lists the open holds on an account by reference, without those that
// have expired.
func (b *Book) Holds(id AccountID) ([]Held, error) {
	now := b.store.Now().UnixMicro()
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.lookup(id)
	if err != nil {
		return nil, err
	}
	all := []Held{}
	for _, h := range b.pub.holds[a.slot] {
		if h.expires == 0 || h.expires > max(now, b.pub.clock) {
			all = append(all, h.Held)
		}
	}
	slices.SortFunc(all, func(x, y Held) int { return cmp.Compare(x.Ref, y.Ref) })
	return all, nil
}

// Tip returns the last committed record and the hash of the journal there.
func (b *Book) Tip() (seq uint64, hash [32]byte) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.pub.tip.seq, b.pub.tip.hash
}

// ClosedThrough returns the last closed value date, zero when none is.
func (b *Book) ClosedThrough() time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return moment(b.pub.closed)
}

// A TrialRow is one line of the trial balance: all accounts of a chart code in
// one currency. A balance stands on the side where it is.
type TrialRow struct {
	Code          string
	Currency      money.Currency
	Accounts      int
	Normal        Side
	Debit, Credit Total // minor units
}

// A Trial is a trial balance. The books balance when debits equal credits in
// every currency.
type Trial struct {
	Rows     []TrialRow
	Debit    map[money.Currency]Total
	Credit   map[money.Currency]Total
	Balanced bool
}

// TrialBalance sums the committed balances of all accounts.
func (b *Book) TrialBalance() Trial {
	b.mu.RLock()
	defer b.mu.RUnlock()
	t := newTrial()
	for i := range b.pub.accounts {
		t.add(&b.pub.accounts[i].Account, b.pub.accounts[i].balance)
	}
	return t.done()
}

type trial struct {
	Trial
	rows map[string]*TrialRow
}

func newTrial() *trial {
	return &trial{Trial{Debit: map[money.Currency]Total{}, Credit: map[money.Currency]Total{}}, map[string]*TrialRow{}}
}

func (t *trial) add(a *Account, balance int64) {
	at := a.Code + " " + string(a.Currency)
	row := t.rows[at]
	if row == nil {
		row = &TrialRow{Code: a.Code, Currency: a.Currency, Normal: a.Normal}
		t.rows[at] = row
	}
	row.Accounts++
	if balance < 0 {
		row.Debit = row.Debit.plus(uint64(-balance))
		t.Debit[a.Currency] = t.Debit[a.Currency].plus(uint64(-balance))
	} else {
		row.Credit = row.Credit.plus(uint64(balance))
		t.Credit[a.Currency] = t.Credit[a.Currency].plus(uint64(balance))
	}
}

func (t *trial) done() Trial {
	for _, row := range t.rows {
		t.Rows = append(t.Rows, *row)
	}
	slices.SortFunc(t.Rows, func(x, y TrialRow) int {
		return cmp.Or(cmp.Compare(x.Code, y.Code), cmp.Compare(x.Currency, y.Currency))
	})
	t.Balanced = true
	for _, row := range t.Rows {
		t.Balanced = t.Balanced && t.Debit[row.Currency] == t.Credit[row.Currency]
	}
	return t.Trial
}

// TrialBalanceAt is the trial balance at the end of a booking day in Beijing,
// from the views.
func (b *Book) TrialBalanceAt(ctx context.Context, day calendar.Date) (Trial, error) {
	if err := b.fresh(ctx); err != nil {
		return Trial{}, err
	}
	closing := map[int64]int64{}
	err := b.views.Read(ctx, func(q *db.Query) error {
		rows, err := q.Rows(readClosings, b.cfg.Book, day.String())
		if err != nil {
			return err
		}
		for rows.Next() {
			var slot, balance int64
			if err := rows.Scan(&slot, &balance); err != nil {
				return err
			}
			closing[slot] = balance
		}
		return nil
	})
	if err != nil {
		return Trial{}, fmt.Errorf("trial balance of %s: %w", day, err)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	t := newTrial()
	for i := range b.pub.accounts {
		if balance, moved := closing[int64(i)]; moved {
			t.add(&b.pub.accounts[i].Account, balance)
		}
	}
	return t.done(), nil
}

// A Line is one leg in an account's statement.
type Line struct {
	Nth     uint64 // in the account, from 1
	Seq     uint64 // of the entry
	Ref     string
	Kind    string
	Text    string
	Booked  time.Time
	Value   time.Time
	Amount  money.Amount
	Balance money.Amount // after it
}

// maxPage bounds every list; one without a limit gets usualPage.
const (
	maxPage   = 1_000
	usualPage = 100
)

const lineColumns = `SELECT l.nth, l.seq, e.ref, e.kind, e.text, l.booked, l.value, l.amount, l.balance
	FROM ledger_view_line l JOIN ledger_view_entry e ON e.book = l.book AND e.seq = l.seq
	WHERE l.book = $1 AND l.account = $2 AND `

const (
	readForward  = lineColumns + `l.nth >= $3 ORDER BY l.nth LIMIT $4`
	readBackward = lineColumns + `l.nth < $3 ORDER BY l.nth DESC LIMIT $4`
)

// Statement returns lines of an account, oldest first, from line number from
// (1 is the first). The next page begins behind the last line's Nth.
func (b *Book) Statement(ctx context.Context, id AccountID, from uint64, limit int) ([]Line, error) {
	return b.lines(ctx, id, readForward, from, limit)
}

// Recent returns lines of an account, newest first, before line number before
// (0: from the end). The next page begins before the last line's Nth.
func (b *Book) Recent(ctx context.Context, id AccountID, before uint64, limit int) ([]Line, error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	return b.lines(ctx, id, readBackward, before, limit)
}

func (b *Book) lines(ctx context.Context, id AccountID, statement string, at uint64, limit int) ([]Line, error) {
	a, err := b.viewed(ctx, id)
	if err != nil {
		return nil, err
	}
	lines := []Line{}
	err = b.views.Read(ctx, func(q *db.Query) error {
		rows, err := q.Rows(statement, b.cfg.Book, a.slot, int64(at), page(limit))
		if err != nil {
			return err
		}
		for rows.Next() {
			var l Line
			var booked, value, amount, balance int64
			if err := rows.Scan(&l.Nth, &l.Seq, &l.Ref, &l.Kind, &l.Text, &booked, &value, &amount, &balance); err != nil {
				return err
			}
			l.Booked, l.Value = time.UnixMicro(booked).UTC(), time.UnixMicro(value).UTC()
			l.Amount, l.Balance = money.Of(amount, a.Currency), money.Of(balance, a.Currency)
			lines = append(lines, l)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("statement of %s: %w", id, err)
	}
	return lines, nil
}

func page(limit int) int {
	if limit <= 0 {
		return usualPage
	}
	return min(limit, maxPage)
}

// viewed brings the views up to date and finds an account.
func (b *Book) viewed(ctx context.Context, id AccountID) (*account, error) {
	if err := b.fresh(ctx); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.lookup(id)
	if err != nil {
		return nil, err
	}
	return a.account, nil
}

const (
	readNth      = `SELECT booked, balance FROM ledger_view_line WHERE book = $1 AND account = $2 AND nth = $3`
	readBackDate = `SELECT booked, value, amount FROM ledger_view_line
		WHERE account = $2 AND value <> booked AND book + 0 = $1`
)

// BookedAt returns the posted balance as it stood in the books at t.
func (b *Book) BookedAt(ctx context.Context, id AccountID, t time.Time) (money.Amount, error) {
	return b.past(ctx, id, t, false)
}

// BalanceAt returns the posted balance at t by value date, with what was
// booked since: what the account had then, as is known now.
func (b *Book) BalanceAt(ctx context.Context, id AccountID, t time.Time) (money.Amount, error) {
	return b.past(ctx, id, t, true)
}

func (b *Book) past(ctx context.Context, id AccountID, t time.Time, byValue bool) (money.Amount, error) {
	a, err := b.viewed(ctx, id)
	if err != nil {
		return money.Amount{}, err
	}
	b.mu.RLock()
	count := b.pub.accounts[a.slot].count
	b.mu.RUnlock()
	var balance int64
	err = b.views.Read(ctx, func(q *db.Query) (err error) {
		if balance, err = bookedBalance(q, b.cfg.Book, a.slot, count, t.UnixMicro()); err == nil && byValue {
			balance, err = shifted(q, b.cfg.Book, a.slot, balance, t.UnixMicro())
		}
		return err
	})
	if err != nil {
		return money.Amount{}, fmt.Errorf("balance of %s at %s: %w", id, t.UTC().Format(time.DateTime), err)
	}
	return money.Of(max(-money.MaxMinor, min(balance, money.MaxMinor)), a.Currency), nil
}

// bookedBalance finds the last line booked by t: lines are in booking order,
// so their numbers can be halved without an index on time. Lines that the
// views lack are newer than all they have.
func bookedBalance(q *db.Query, book int64, slot uint32, count uint64, t int64) (int64, error) {
	found := int64(0)
	lo, hi := uint64(1), count+1 // the answer is before hi, everything before lo is booked by t
	for lo < hi {
		mid := (lo + hi) / 2
		var booked, balance int64
		err := q.QueryRow(readNth, book, slot, int64(mid)).Scan(&booked, &balance)
		if err != nil && !errors.Is(err, db.ErrNoRows) {
			return 0, err
		}
		if err != nil || booked > t {
			hi = mid
			continue
		}
		found, lo = balance, mid+1
	}
	return found, nil
}

// shifted corrects a booked balance for lines whose value date is another: a
// partial index holds just those.
func shifted(q *db.Query, book int64, slot uint32, balance, t int64) (int64, error) {
	rows, err := q.Rows(readBackDate, book, slot)
	if err != nil {
		return 0, err
	}
	for rows.Next() {
		var booked, value, amount int64
		if err := rows.Scan(&booked, &value, &amount); err != nil {
			return 0, err
		}
		switch {
		case booked <= t && value > t:
			balance -= amount
		case booked > t && value <= t:
			balance += amount
		}
	}
	return balance, nil
}
