package market

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/switching"
)

// A PaperFault is what happens to a line of a clearing file.
type PaperFault byte

// The faults.
const (
	AsItIs      PaperFault = iota
	LineTwice              // the host has it twice in the file
	LineForgot             // it is in the file of the next day
	WrongFee               // the host keeps a yuan more
	WrongAmount            // the host clears a yuan less
)

// Name says the fault, for counts.
func (f PaperFault) Name() string {
	return [...]string{"", "file line twice", "file line forgotten", "file fee wrong", "file amount wrong"}[f]
}

// Slips are lines that go wrong once in so many.
func Slips(dice Dice, oneIn int) func() PaperFault {
	return func() PaperFault {
		if dice.IntN(oneIn) > 0 {
			return AsItIs
		}
		return PaperFault(1 + dice.IntN(int(WrongAmount)))
	}
}

// yuan is what a line is wrong by, fen.
const yuan = 100

// Night closes a settlement day: for each institution its clearing file is
// compared with the switch, the bank writes its statement, and the desk works on
// what differs. Again it changes nothing.
func (m *Market) Night(ctx context.Context, day calendar.Date) error {
	for _, name := range m.names {
		if !m.cfg.Hosts && m.cfg.Files == nil || day.Before(m.nights.Since) {
			continue // the institutions are played elsewhere, or do not remember
		}
		if err := m.reconcile(ctx, m.abroad[name], day); err != nil {
			return err
		}
	}
	if err := m.payouts(ctx, day); err != nil {
		return err
	}
	if err := m.statement(ctx, day); err != nil {
		return err
	}
	if err := m.insist(ctx, "overdue", func() error { return reconcile.Tick(ctx, m.House().Store, m.House().Now()) }); err != nil {
		return err
	}
	if err := m.desk(ctx); err != nil {
		return err
	}
	if err := m.cases(ctx); err != nil {
		return err
	}
	return m.batches(ctx)
}

// Nights closes every day that is over and was not closed: one Night each.
func (m *Market) Nights(ctx context.Context) error {
	if m.nights.Closed == (calendar.Date{}) {
		m.nights.Closed = m.nights.Since.AddDays(-1)
	}
	today := calendar.Of(m.cfg.Clock.Now(), calendar.Beijing)
	for d := m.nights.Closed.AddDays(1); d.Before(today); d = d.AddDays(1) {
		if err := m.Night(ctx, d); err != nil {
			return fmt.Errorf("the night after %s: %w", d, err)
		}
		m.nights.Closed = d
		maps.DeleteFunc(m.nights.Through, func(string, bool) bool { return true }) // the day is over with everybody
		if err := m.keep(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Market) write(ctx context.Context, what string, f func(tx *db.Tx) error) error {
	return m.insist(ctx, what, func() error { return m.House().Store.Write(ctx, f) })
}

func (m *Market) read(ctx context.Context, f func(q *db.Query) error) error {
	return m.House().Store.Read(ctx, f)
}

// reconcile compares a day of an institution. Its file is the same however often
// it has to be given.
func (m *Market) reconcile(ctx context.Context, i *Institution, day calendar.Date) error {
	if m.nights.Through[i.Name+day.String()] {
		return nil
	}
	if f := m.nights.File; f == nil || f.Host != i.Name || f.Day != day {
		raw, err := m.fileOf(i, day)
		if errors.Is(err, ErrNoFile) {
			return nil
		}
		if err != nil {
			return err
		}
		m.nights.File = &paperwork{Host: i.Name, Day: day, Name: i.Name + " " + day.String(), Raw: append(i.carried, m.paper(i, raw)...)}
		i.carried, i.forgot = i.forgot, nil
		if err := m.keep(); err != nil {
			return err
		}
	}
	var r reconcile.Report
	err := m.insist(ctx, "reconciling", func() (err error) {
		r, err = m.House().CompareDay(ctx, i.Name, day, bytes.NewReader(m.nights.File.Raw), m.nights.File.Name)
		return err
	})
	if err != nil {
		return err
	}
	m.nights.Through[i.Name+day.String()], m.nights.File = true, nil
	m.count("files compared", 1)
	if net := r.Net(); net != 0 {
		m.nights.Bank.pay(m, fmt.Sprintf("clearing %s %s", i.Name, day), i.Name, net)
	}
	return m.keep()
}

// fileOf is an institution's clearing file as it made it.
func (m *Market) fileOf(i *Institution, day calendar.Date) ([]byte, error) {
	if m.cfg.Files != nil {
		return m.cfg.Files(i.Name, day)
	}
	return i.host.ClearingFile(day)
}

// paper bends lines of a file.
func (m *Market) paper(i *Institution, file []byte) (out []byte) {
	for _, line := range bytes.SplitAfter(file, []byte{'\n'}) {
		if len(line) == 0 {
			continue
		}
		fault := AsItIs
		if m.cfg.Faults.Paper != nil {
			fault = m.cfg.Faults.Paper()
		}
		r, ok := sale(line)
		if fault != AsItIs && (!ok || r.Amount < 10*yuan) {
			fault = AsItIs
		}
		if fault != AsItIs {
			m.note(fault.Name())
		}
		switch fault {
		case LineTwice:
			out = append(append(out, line...), line...)
		case LineForgot:
			i.forgot = append(i.forgot, line...)
		case WrongFee, WrongAmount:
			if r.Payable += yuan; fault == WrongAmount {
				r.Payable -= yuan
				r.Amount -= yuan
			}
			bent, err := r.Append(nil)
			if err != nil {
				bent = bytes.TrimRight(line, "\n")
			}
			out = append(append(out, bent...), '\n')
		default:
			out = append(out, line...)
		}
	}
	return out
}

const page = 500

// payouts has the bank carry out what it was ordered to pay.
func (m *Market) payouts(ctx context.Context, day calendar.Date) error {
	list, err := m.sent(ctx)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p settlement.Payout) bool { return m.nights.Bank.Ordered[p.ID] })
	slices.SortFunc(list, func(a, b settlement.Payout) int { return strings.Compare(a.ID, b.ID) })
	for _, p := range list {
		m.nights.Bank.order(m, p)
	}
	m.count("payouts", int64(len(list)))
	return m.keep()
}

// sent are the payouts that the bank was ordered and has not confirmed.
func (m *Market) sent(ctx context.Context) (out []settlement.Payout, err error) {
	err = m.read(ctx, func(q *db.Query) error {
		for before := ""; ; {
			list, err := settlement.Payouts(q, "", before, page)
			if err != nil {
				return err
			}
			for _, p := range list {
				if before = p.ID; p.State == settlement.Sent {
					out = append(out, p)
				}
			}
			if len(list) < page {
				return nil
			}
		}
	})
	return out, err
}

// statement is what the bank wrote since the last one: it comes every day. One
// that a restart interrupted comes again first.
func (m *Market) statement(ctx context.Context, day calendar.Date) error {
	if m.nights.Slip != nil {
		if err := m.hand(ctx); err != nil {
			return err
		}
	}
	now := m.cfg.Clock.Now()
	lines := m.nights.Bank.due(now)
	m.nights.Slip = &paperwork{Day: day, Name: "statement " + now.In(calendar.Beijing).Format(time.DateTime),
		Raw: reconcile.AppendStatement(nil, reconcile.Statement{Account: account, From: day, To: calendar.Of(now, calendar.Beijing), Lines: lines})}
	if err := m.keep(); err != nil {
		return err
	}
	return m.hand(ctx)
}

// hand gives the house the statement under way.
func (m *Market) hand(ctx context.Context) error {
	err := m.insist(ctx, "statement", func() error {
		_, err := m.House().TakeStatement(ctx, m.nights.Slip.Raw, m.nights.Slip.Name)
		return err
	})
	if err != nil {
		return err
	}
	m.nights.Slip = nil
	return m.keep()
}

// desk works on every exception as people would: one proposes, another signs,
// what a later line paid for is set off against it, and for the rest the bank
// moves the money that is owed.
func (m *Market) desk(ctx context.Context) error {
	list, err := m.exceptions(ctx)
	if err != nil {
		return err
	}
	left := m.cfg.Leave
	for _, x := range list {
		if x.State != reconcile.Open || x.Type == reconcile.Late {
			continue
		}
		if left--; left >= 0 {
			continue
		}
		m.count("exception "+string(x.Type), 1)
		if err := m.write(ctx, "proposal", func(tx *db.Tx) error { return m.sign(tx, x) }); err != nil {
			return fmt.Errorf("exception %s of %s: %w", x.Type, x.Host, err)
		}
	}
	if list, err = m.exceptions(ctx); err != nil {
		return err
	}
	gone := map[string]bool{}
	for n, x := range list {
		if x.Held == 0 || gone[x.ID] {
			continue
		}
		for _, y := range list[n+1:] {
			if gone[x.ID] || gone[y.ID] || x.Held+y.Held != 0 || x.Held == 0 || !oneSale(x, y) {
				continue
			}
			if err := m.write(ctx, "offset", func(tx *db.Tx) error { return reconcile.Offset(tx, x.ID, y.ID, second+"-2", "they are one payment") }); err != nil {
				return fmt.Errorf("exceptions %s and %s: %w", x.Type, y.Type, err)
			}
			gone[x.ID], gone[y.ID] = true, true
		}
	}
	for _, x := range list {
		if gone[x.ID] {
			continue
		}
		if err := m.end(ctx, x); err != nil {
			return fmt.Errorf("exception %s of %s: %w", x.Type, x.Host, err)
		}
	}
	return m.keep()
}

// oneSale tells whether two exceptions may be about the same sale: those of the
// bank's lines name none.
func oneSale(x, y reconcile.Exception) bool {
	a, b := rrnOf(x), rrnOf(y)
	return a == b || a == "" || b == ""
}

func rrnOf(x reconcile.Exception) string {
	switch {
	case x.Ours != nil:
		return x.Ours.RRN
	case x.Theirs != nil:
		return x.Theirs.RRN
	}
	return ""
}

// sign has one person propose and another sign. The payout that came back goes
// to an account that was mended.
func (m *Market) sign(tx *db.Tx, x reconcile.Exception) error {
	now, err := reconcile.ExceptionOf(tx, x.ID)
	if err != nil || now.State != reconcile.Open {
		return err
	}
	if _, err = reconcile.Propose(tx, x.ID, staff, "as the type proposes", ""); err != nil {
		return err
	}
	if _, err = reconcile.Sign(tx, x.ID, second, "seen"); err != nil || x.Type != reconcile.PayoutReturned {
		return err
	}
	a, err := settlement.AccountOf(tx, x.Payee)
	if err == nil {
		err = settlement.SetAccount(tx, x.Payee, a)
	}
	return err
}

// end closes what holds nothing, and has the bank move what is held.
func (m *Market) end(ctx context.Context, x reconcile.Exception) error {
	switch {
	case x.Type == reconcile.Late, x.Type == reconcile.StatementMissing, x.Type == reconcile.PayoutMissing:
		return nil // the other half ends it
	case x.State == reconcile.Open, x.State == reconcile.Proposed, x.State == reconcile.Rejected:
		return nil // somebody else is at it
	case x.Held == 0:
		return m.write(ctx, "closing", func(tx *db.Tx) error {
			_, err := reconcile.Close(tx, x.ID, reconcile.Nothing, second, "nothing is held for it")
			return err
		})
	case m.nights.Bank.Asked[x.ID]:
		return nil
	case x.Type == reconcile.MissingAtNetwork && x.Ours != nil:
		if m.cfg.Clock.Now().Sub(x.At) < 36*time.Hour {
			return nil // the file of the next day may have it
		}
	}
	m.nights.Bank.correct(m, x)
	if i := m.abroad[x.Host]; i != nil {
		rrn, err := m.unbooked(ctx, x)
		if err != nil {
			return err
		}
		if rrn != "" {
			i.host.Correct(rrn)
		}
	}
	return nil
}

// unbooked names a transaction that an institution has booked and the house has
// not, whether its line came on its day or later; empty: none.
func (m *Market) unbooked(ctx context.Context, x reconcile.Exception) (rrn string, err error) {
	switch {
	case x.Ours != nil && (x.Type == reconcile.DeclinedCleared || x.Type == reconcile.ReversedCleared):
		return x.Ours.RRN, nil
	case x.Theirs == nil || x.Type != reconcile.MissingHere:
		return "", nil
	}
	err = m.read(ctx, func(q *db.Query) error {
		t, err := switching.Transaction(q, x.Theirs.RRN)
		if err == nil && (t.State == switching.Declined || t.State == switching.Reversed) {
			rrn = t.RRN
		}
		if errors.Is(err, switching.ErrNotFound) {
			err = nil
		}
		return err
	})
	return rrn, err
}

// exceptions are those that are not closed.
func (m *Market) exceptions(ctx context.Context) (out []reconcile.Exception, err error) {
	err = m.read(ctx, func(q *db.Query) error {
		for after := ""; ; {
			list, err := reconcile.Exceptions(q, "", "", after, page)
			if err != nil {
				return err
			}
			out = append(out, list...)
			if len(list) < page {
				return nil
			}
			after = list[len(list)-1].ID
		}
	})
	return out, err
}

// batches decides what terminals and switch do not agree on: the shop is paid
// for what it gave.
func (m *Market) batches(ctx context.Context) error {
	var list []switching.Difference
	err := m.read(ctx, func(q *db.Query) (err error) {
		list, err = switching.Differences(q, true, "", page)
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range list {
		m.count("difference "+d.What, 1)
		pay := m.gave(d.TID, d.Batch, d.STAN)
		if err := m.write(ctx, "difference", func(tx *db.Tx) error { return switching.Resolve(tx, d.ID, pay, staff, "by the terminal's own journal") }); err != nil {
			return err
		}
	}
	return nil
}

// cases has a clerk look at what the risk rules found: in the city nobody
// cheats. Where something is left for people, these are too.
func (m *Market) cases(ctx context.Context) error {
	if m.cfg.Leave > 0 {
		return nil
	}
	var list []risk.Case
	err := m.read(ctx, func(q *db.Query) (err error) {
		list, err = risk.Cases(q, risk.Opened, "", "", page)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range list {
		m.count("risk cases", 1)
		err := m.write(ctx, "risk case", func(tx *db.Tx) error {
			if now, err := risk.CaseOf(tx, c.ID); err != nil || now.State != risk.Opened {
				return err
			}
			_, err := risk.Take(tx, c.ID, staff, "looking at it")
			if err == nil {
				_, err = m.House().Risk.Decide(tx, c.ID, staff, false, "the sales were what the shop sells")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
