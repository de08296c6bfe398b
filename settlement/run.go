package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// LastDay is the newest settlement day that is over at now.
func LastDay(now time.Time) calendar.Date { return calendar.ServiceDay(now).AddDays(-1) }

// missedDays is how many days RunDue goes back: what waits from before is paid
// with the oldest of them.
const missedDays = 60

// RunDue closes every day that is over, oldest first, from the one behind the
// newest that has its file: a house that was down pays each missed day by
// itself. A house without any file begins with LastDay.
func RunDue(ctx context.Context, store *db.Store) error {
	last := LastDay(store.Now())
	day := last
	err := store.Read(ctx, func(q *db.Query) error {
		var newest string
		err := q.QueryRow(`SELECT COALESCE(MAX(day), '') FROM settlement_day WHERE day < $1`, last.String()).Scan(&newest)
		if err != nil || newest == "" {
			return err
		}
		closed, err := calendar.Parse(newest)
		day = closed.AddDays(1)
		return err
	})
	if err != nil {
		return err
	}
	if first := last.AddDays(1 - missedDays); day.Before(first) {
		day = first
	}
	for ; !last.Before(day); day = day.AddDays(1) {
		if _, err := Run(ctx, store, day); err != nil {
			return err // later days wait: what is due to a payee is paid in order
		}
	}
	return nil
}

// How much a unit closes and how many items are read at a time.
const (
	pagePayees = 1_024
	pageItems  = 20_000
)

// A span says which payees a page is of, and what of their items.
type span struct {
	day   calendar.Date
	now   time.Time
	after string // payees behind this one
	only  string // or this one alone
	once  bool   // up to now, instead of the day's end
}

// A page is some payees with what is due to them, netted, and the last of them.
type page struct {
	closings []closing
	last     string
	more     bool
}

// Run closes one day for every payee whose day is over: units of work of many
// payees, then one for the file, when the last payee's day is over. It may be
// run again at any time; what is done stays done. Items that come late wait
// for the next day. What nets to nothing or less is not paid but kept.
func Run(ctx context.Context, store *db.Store, day calendar.Date) (File, error) {
	now := store.Now()
	var file File
	due := false
	err := store.Read(ctx, func(q *db.Query) (err error) {
		if file, err = FileOf(q, day); err == nil || !errors.Is(err, ErrNoFile) {
			return err
		}
		file = File{Day: day}
		due, err = passDue(q, day, now)
		return err
	})
	if err != nil || file.Closed() {
		return file, err
	}
	if !due {
		return file, nil
	}
	if now.Before(day.Start(calendar.Beijing).Add(usualCutOff)) {
		return File{}, ErrTooEarly
	}
	if err := sweep(ctx, store, span{day: day, now: now}); err != nil {
		return File{}, fmt.Errorf("settling %s: %w", day, err)
	}
	err = store.Write(ctx, func(tx *db.Tx) (err error) {
		file, err = closeDay(tx, day, now)
		return err
	})
	if err != nil {
		return File{}, fmt.Errorf("closing %s: %w", day, err)
	}
	return file, nil
}

// passDue says whether some payee's day has ended since the last pass.
func passDue(q db.Reader, day calendar.Date, now time.Time) (bool, error) {
	done, err := passed(q, day)
	if err != nil || done == 0 {
		return true, err
	}
	var next int64
	err = q.QueryRow(`SELECT COALESCE(MIN(cut), 0) FROM settlement_terms WHERE cut > $1 AND cut > 1680`, done).Scan(&next)
	return next > 0 && next <= minutes(day, now), err
}

// passed is the minute of the day up to which a day's payees are through.
func passed(q db.Reader, day calendar.Date) (cut int64, err error) {
	err = q.QueryRow(`SELECT cut FROM settlement_pass WHERE day = $1`, day.String()).Scan(&cut)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return cut, err
}

func minutes(day calendar.Date, now time.Time) int64 {
	return int64(now.Sub(day.Start(calendar.Beijing)) / time.Minute)
}

// sweep closes all payees, page by page; while one is written, the next is
// read and priced.
func sweep(ctx context.Context, store *db.Store, s span) error {
	type read struct {
		page page
		err  error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	pages := make(chan read)
	go func() {
		defer close(pages)
		for at := s; ; {
			p, err := readPage(ctx, store, at)
			select {
			case pages <- read{p, err}:
			case <-ctx.Done():
				return
			}
			if at.after = p.last; err != nil || !p.more {
				return
			}
		}
	}()
	for r := range pages {
		if r.err != nil {
			return r.err
		}
		from := s.after
		if err := writePage(ctx, store, s, r.page, from); err != nil {
			return err
		}
		s.after = r.page.last
	}
	return ctx.Err()
}

// writePage closes the payees of a page. If one was changed since, they are
// read again by the units that close them, in as many pages as they now take:
// payees may have joined.
func writePage(ctx context.Context, store *db.Store, s span, p page, after string) error {
	if len(p.closings) == 0 {
		return nil
	}
	err := store.Write(ctx, func(tx *db.Tx) error { return closePage(tx, s.day, p.closings) })
	if !errors.Is(err, errStale) {
		return err
	}
	for s.after = after; s.after < p.last; {
		var again page
		err := store.Write(ctx, func(tx *db.Tx) (err error) {
			if again, err = pageOf(tx, s); err != nil {
				return err
			}
			again.keepThrough(p.last)
			return closePage(tx, s.day, again.closings)
		})
		if err != nil {
			return err
		}
		if s.after = again.last; !again.more {
			return nil
		}
	}
	return nil
}

// keepThrough drops payees behind one: they belong to the page read ahead.
func (p *page) keepThrough(last string) {
	for i := range p.closings {
		if p.closings[i].p.id > last {
			p.closings = p.closings[:i]
			return
		}
	}
}

func readPage(ctx context.Context, store *db.Store, s span) (p page, err error) {
	err = store.Read(ctx, func(q *db.Query) error {
		p, err = pageOf(q, s)
		return err
	})
	return p, err
}

// pageOf reads and nets some payees. All of its rows are of one moment, and
// the closing holds only if the payee's row is still the same.
func pageOf(q db.Reader, s span) (p page, err error) {
	all, err := payeesOf(q, s)
	if err != nil || len(all) == 0 {
		return p, err
	}
	first, last := all[0].p.id, all[len(all)-1].p.id
	due := make(map[string]int, len(all))
	p.last, p.more = last, len(all) == pagePayees && s.only == ""
	terms, err := termsAmong(q, first, last)
	if err != nil {
		return p, err
	}
	for i := range all {
		c := &all[i]
		c.terms, c.until = inForce(terms[c.p.id], s.day), s.day
		if s.once || s.due(c) {
			due[c.p.id] = i
		}
	}
	if err := reservesDue(q, s.day, first, last, due, all); err != nil {
		return p, err
	}
	if err := tallyItems(q, s, first, last, due, all, terms); err != nil {
		return p, err
	}
	for i := range all {
		if _, ok := due[all[i].p.id]; ok && (s.once || all[i].finish(s)) {
			p.closings = append(p.closings, all[i])
		}
	}
	return p, nil
}

func payeesOf(q db.Reader, s span) (all []closing, err error) {
	if s.only != "" {
		p, err := payeeOf(q, s.only)
		return []closing{{p: p}}, err
	}
	all = make([]closing, 0, pagePayees)
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanPayee(scan)
		all = append(all, closing{p: p})
		return err
	}, `SELECT `+payeeColumns+` FROM settlement_payee WHERE payee > $1 ORDER BY payee LIMIT $2`, s.after, pagePayees)
	return all, err
}

// due says whether a payee's day is over and can be closed.
func (s *span) due(c *closing) bool {
	t, next := &c.terms, s.day.AddDays(1)
	if c.p.day >= s.day.String() || s.now.Before(t.ends(s.day)) {
		return false
	}
	if t.Monthly {
		return s.monthly(c, next)
	}
	return t.Holidays || next.BankDay()
}

// monthly says it of a payee that is paid once a month. On the eve of its payday
// the month that is over is paid; what was earned since waits, so the days from
// the end of the month to that eve are closed with the day after it.
func (s *span) monthly(c *closing, next calendar.Date) bool {
	payday := Payday(next.MonthOf())
	over := calendar.Date{Year: next.Year, Month: next.Month, Day: 1}.AddDays(-1)
	if c.carry = next != payday; !c.carry {
		c.until = over
		return true
	}
	between := over.Before(s.day) && s.day.Before(payday)
	return !between && (c.terms.Holidays || next.BankDay())
}

// finish nets a closing for the next bank day.
func (c *closing) finish(s span) bool {
	if !c.net(nil) {
		return false
	}
	o := &c.payout
	o.Day, o.Kind, o.State, o.File = s.day, NextDay, Sent, s.day.String()
	if o.Amount.IsZero() {
		o.State, o.File = Carried, ""
	}
	o.Arrives = c.terms.arrives(c.until)
	if last := LastDay(s.now); s.day.Before(last) { // paid late
		if soon := c.terms.soon(last); o.Arrives.Before(soon) {
			o.Arrives = soon
		}
	}
	c.p.day = s.day.String()
	return true
}

// reservesDue sums the reserves that are to be given back.
func reservesDue(q db.Reader, day calendar.Date, first, last string, due map[string]int, all []closing) error {
	var earlier []*closing
	err := db.Each(q, func(scan func(...any) error) error {
		var id string
		var fen int64
		err := scan(&id, &fen)
		if i, ok := due[id]; ok && all[i].until == day {
			all[i].p.released = fen
		} else if ok {
			earlier = append(earlier, &all[i])
		}
		return err
	}, `SELECT payee, CAST(SUM(fen) AS BIGINT) FROM settlement_reserve WHERE payee >= $1 AND payee <= $2 AND due <= $3 GROUP BY payee ORDER BY payee`,
		first, last, day.String())
	for _, c := range earlier {
		if err == nil {
			err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_reserve WHERE payee = $1 AND due <= $2`, c.p.id, c.until.String()).Scan(&c.p.released)
		}
	}
	return err
}

// itemsFrom reads the items of payees behind their marks, in their order; the
// first payee's behind the number the last read ended at.
const itemsFrom = `SELECT i.payee, i.seq, '', i.kind, i.card, i.issuer, i.fen, i.at, i.booked, i.sale_at, i.remains, i.whole, i.lo, i.share, i.priced
	FROM settlement_payee p JOIN settlement_item i ON i.payee = p.payee AND i.seq > CASE WHEN p.payee = $1 AND p.mark < $2 THEN $2 ELSE p.mark END
	WHERE p.payee >= $1 AND p.payee <= $3 ORDER BY p.payee, i.seq LIMIT $4`

// cut is when the last day of a closing ends, by the terms of that day, in
// microseconds.
func (c *closing) cut(all []Terms) int64 {
	t := c.terms
	if c.until.Before(t.Since) {
		t = inForce(all, c.until)
	}
	return t.ends(c.until).UnixMicro()
}

func tallyItems(q db.Reader, s span, first, last string, due map[string]int, all []closing, terms map[string][]Terms) error {
	pr := newPricer(q)
	from, seq := first, int64(0)
	var c *closing
	var r row
	cut := int64(0)
	for {
		rows, err := q.Rows(itemsFrom, from, seq, last, pageItems)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := r.scan(rows.Scan); err != nil {
				return err
			}
			if r.payee != from || c == nil {
				c = nil
				if i, ok := due[r.payee]; ok {
					c = &all[i]
					pr.of(terms[r.payee])
					cut = c.cut(terms[r.payee])
				}
			}
			from, seq = r.payee, r.seq
			if c == nil || c.sum.full {
				continue
			}
			if !s.once && r.booked >= cut { // later numbers wait too, so that a closing is a range
				c.sum.full = true
				continue
			}
			f, err := pr.price(&r)
			if err != nil {
				return fmt.Errorf("pricing an item of %s: %w", r.payee, err)
			}
			c.sum.add(&r, f)
		}
		if rows.Len() < pageItems {
			return nil
		}
	}
}

// closePage books the closings of a page: all of them or none.
func closePage(tx *db.Tx, day calendar.Date, all []closing) error {
	payees := make([]payee, len(all))
	payouts := make([]any, 0, len(all)*payoutWidth)
	reserves := []any{}
	entries := make([]ledger.Entry, 0, len(all))
	for i := range all {
		c := &all[i]
		c.payout.ID, c.payout.At = tx.NewID("payout"), tx.Now()
		payees[i] = c.p
		payouts = append(payouts, c.payout.row()...)
		if !c.payout.Reserved.IsZero() {
			reserves = append(reserves, c.p.id, day.AddDays(c.terms.ReserveDays).String(), c.payout.ID, c.payout.Reserved.Minor())
		}
		if e, ok := c.entry(); ok {
			entries = append(entries, e)
		}
	}
	if err := save(tx, payees); err != nil {
		return err
	}
	if err := releaseReserves(tx, all); err != nil {
		return err
	}
	if _, err := insertRows(tx, intoPayout, payoutWidth, "", payouts); err != nil {
		return err
	}
	if _, err := insertRows(tx, `INSERT INTO settlement_reserve (payee, due, payout, fen) VALUES `, 4, "", reserves); err != nil {
		return err
	}
	if err := filePart(tx, day, all); err != nil {
		return err
	}
	if _, err := ledger.PostAll(tx, entries); err != nil {
		return err
	}
	return tell(tx, all)
}

// releaseReserves forgets the reserves that the closings gave back.
func releaseReserves(tx *db.Tx, all []closing) error {
	for i := range all {
		if all[i].p.released == 0 {
			continue
		}
		if _, err := tx.Exec(`DELETE FROM settlement_reserve WHERE payee = $1 AND due <= $2`, all[i].p.id, all[i].until.String()); err != nil {
			return err
		}
	}
	return nil
}

const (
	payoutColumns = `id, day, payee, kind, state, n, fen, at, after, upto, gross, refunds, chargebacks, fee, issuer, network, acquirer,
		reserved, released, advance, undone, brought, kept, arrives, promised, answered, late, file`
	payoutWidth = 28
	intoPayout  = `INSERT INTO settlement_payout (` + payoutColumns + `) VALUES `
)

func (p *Payout) row() []any {
	return []any{p.ID, p.Day.String(), p.Payee, string(p.Kind), string(p.State), p.Count, p.Amount.Minor(), p.At.UnixMicro(), p.after, p.upto,
		p.Gross.Minor(), p.Refunds.Minor(), p.Chargebacks.Minor(), p.Fee.Fee, p.Fee.Issuer, p.Fee.Network, p.Fee.Acquirer,
		p.Reserved.Minor(), p.Released.Minor(), p.Advance.Minor(), p.Undone.Minor(), p.Brought.Minor(), p.Kept.Minor(),
		p.Arrives.String(), micros(p.Promised), micros(p.Answered), p.late, p.File}
}

func scanPayout(scan func(...any) error) (p Payout, err error) {
	var day, kind, state, arrives string
	var fen, at, gross, refunds, chargebacks, reserved, released, advance, undone, brought, kept, promised, answered int64
	f := &p.Fee
	err = scan(&p.ID, &day, &p.Payee, &kind, &state, &p.Count, &fen, &at, &p.after, &p.upto, &gross, &refunds, &chargebacks,
		&f.Fee, &f.Issuer, &f.Network, &f.Acquirer, &reserved, &released, &advance, &undone, &brought, &kept, &arrives, &promised, &answered, &p.late, &p.File)
	if err != nil {
		return p, err
	}
	p.Kind, p.State, p.Amount, p.At = Kind(kind), State(state), money.Fen(fen), db.Moment(at)
	p.Gross, p.Refunds, p.Chargebacks = money.Fen(gross), money.Fen(refunds), money.Fen(chargebacks)
	p.Reserved, p.Released, p.Advance, p.Undone = money.Fen(reserved), money.Fen(released), money.Fen(advance), money.Fen(undone)
	p.Brought, p.Kept, p.Promised, p.Answered = money.Fen(brought), money.Fen(kept), db.Moment(promised), db.Moment(answered)
	if p.Arrives, err = calendar.Parse(arrives); err == nil {
		p.Day, err = calendar.Parse(day)
	}
	return p, err
}
