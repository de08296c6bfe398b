package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/settlement"
)

// A Payout is an order to pay a shop that the statement has to show.
type Payout struct {
	ID    string
	Payee string
	Fen   int64
	Day   calendar.Date // ordered for
}

// Expect makes payouts known; the same again changes nothing. Each is due on the
// statement two days after its day.
func Expect(tx *db.Tx, payouts ...Payout) error {
	for _, p := range payouts {
		if p.ID == "" || p.Payee == "" || p.Fen <= 0 || p.Day.IsZero() {
			return fmt.Errorf("payout %q: %w", p.ID, ErrPayout)
		}
		_, err := tx.Exec(`INSERT INTO reconcile_payout (id, payee, fen, due, paid, seen) VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT (id) DO NOTHING`,
			p.ID, p.Payee, p.Fen, p.Day.AddDays(3).Start(calendar.Beijing).UnixMicro())
		if err != nil {
			return err
		}
	}
	return nil
}

// Import takes a statement: each line is booked once, whatever file brings it.
// fresh is how many lines were new. Lines of a day that is not reconciled yet
// wait for it.
func Import(ctx context.Context, store *db.Store, s Statement, name string) (fresh int, err error) {
	err = store.Write(ctx, func(tx *db.Tx) error {
		fresh = 0
		desk, err := HostOf(tx, BankDesk)
		if err != nil {
			return err
		}
		again, err := takeFile(tx, s.Hash, "statement", s.Account, name)
		if err != nil || again {
			return err
		}
		for _, l := range s.Lines {
			is, err := takeLine(tx, desk, s.Account, l)
			if err != nil {
				return fmt.Errorf("line %s: %w", l.Ref, err)
			}
			if is {
				fresh++
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("statement of %s: %w", s.Account, err)
	}
	return fresh, nil
}

func takeLine(tx *db.Tx, desk Host, account string, l StatementLine) (fresh bool, err error) {
	p := purposeOf(l.Reference)
	day := ""
	if p.what == "clearing" {
		if _, err := HostOf(tx, p.host); errors.Is(err, ErrHost) {
			p = purpose{}
		} else if err != nil {
			return false, err
		} else {
			day = p.day.String()
		}
	}
	n, err := tx.Exec(`INSERT INTO reconcile_line (account, ref, fen, booked, reference, party, host, day, waits)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (account, ref) DO NOTHING`,
		account, l.Ref, l.Fen, l.Booked.UnixMicro(), l.Reference, l.Party, p.host, day, p.what == "clearing")
	if err != nil {
		return false, err
	}
	if n == 0 {
		var fen int64
		err := tx.QueryRow(`SELECT fen FROM reconcile_line WHERE account = $1 AND ref = $2`, account, l.Ref).Scan(&fen)
		if err == nil && fen != l.Fen {
			err = ErrLine
		}
		return false, err
	}
	b := bankLine{account, l}
	switch p.what {
	case "clearing":
		r, err := ReportOf(tx, p.host, p.day)
		if errors.Is(err, ErrNoRun) {
			return true, nil // it waits
		}
		if err != nil {
			return true, err
		}
		h, err := HostOf(tx, p.host)
		if err != nil {
			return true, err
		}
		return true, settleWaiting(tx, h, r)
	case "payout":
		return true, b.payout(tx, desk, p.id)
	case "return":
		return true, b.returned(tx, desk, p.id)
	}
	return true, b.unknown(tx, desk)
}

type bankLine struct {
	account string
	StatementLine
}

func (b bankLine) ref() string { return b.account + "/" + b.Ref }

// unknown puts a line nobody expects on suspense.
func (b bankLine) unknown(tx *db.Tx, h Host) error {
	return b.hold(tx, h, Exception{Type: UnknownCredit, Ref: string(UnknownCredit) + "/" + b.ref()})
}

// hold books a line between bank and suspense and makes it an exception.
func (b bankLine) hold(tx *db.Tx, h Host, x Exception) error {
	if err := move(tx, "reconcile:line:"+b.ref(), b.Reference, h.Bank, Suspense(h.Name), b.Fen); err != nil {
		return err
	}
	x.Host, x.Day, x.Held = h.Name, calendar.Of(b.Booked, calendar.Beijing), b.Fen
	return raise(tx, x)
}

// raise keeps an exception of the bank's side; one that is there stays.
func raise(tx *db.Tx, x Exception) error {
	x.ID, x.Next = tx.NewID("rexc"), x.Type.Next()
	fresh, err := insertException(tx, x)
	if err != nil || !fresh {
		return err
	}
	x.State = Open
	if err := tell(tx, x); err != nil {
		return err
	}
	return audit(tx, x.ID, System, "", Open, whyOnPaper)
}

// payout is the line of a payout: the books had it leave the bank when it was
// ordered, so only a difference is booked.
func (b bankLine) payout(tx *db.Tx, h Host, id string) error {
	var payee string
	var fen, seen int64
	err := tx.QueryRow(`SELECT payee, fen, seen FROM reconcile_payout WHERE id = $1`, id).Scan(&payee, &fen, &seen)
	if errors.Is(err, db.ErrNoRows) || err == nil && seen != 0 {
		return b.unknown(tx, h) // not ordered, or paid twice
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE reconcile_payout SET paid = $2, seen = $3 WHERE id = $1`, id, -b.Fen, tx.Now().UnixMicro()); err != nil {
		return err
	}
	if err := closeRef(tx, string(PayoutMissing)+"/"+id, whyPaid); err != nil {
		return err
	}
	if err := confirm(tx, id); err != nil {
		return err
	}
	over := fen + b.Fen // above zero: less went out than the books say
	if over == 0 {
		return nil
	}
	if err := move(tx, "reconcile:line:"+b.ref(), b.Reference, h.Bank, Suspense(h.Name), over); err != nil {
		return err
	}
	return raise(tx, Exception{Host: h.Name, Day: calendar.Of(b.Booked, calendar.Beijing), Type: PayoutDiffers, Held: over, Payee: payee, Ref: string(PayoutDiffers) + "/" + id})
}

func (b bankLine) returned(tx *db.Tx, h Host, id string) error {
	var payee string
	err := tx.QueryRow(`SELECT payee FROM reconcile_payout WHERE id = $1`, id).Scan(&payee)
	if errors.Is(err, db.ErrNoRows) || err == nil && b.Fen < 0 {
		return b.unknown(tx, h)
	}
	if err == nil {
		_, err = byRef(tx, returned(id))
	}
	switch {
	case errors.Is(err, ErrNone):
		return b.hold(tx, h, Exception{Type: PayoutReturned, Payee: payee, Ref: returned(id)})
	case err == nil: // it came back before
		return b.unknown(tx, h)
	}
	return err
}

// returned is what the return of a payout is about.
func returned(id string) string { return string(PayoutReturned) + "/" + id }

// confirm tells settlement that the bank has paid, if the payout is one of its.
func confirm(tx *db.Tx, id string) error {
	p, err := settlement.PayoutOf(tx, id)
	switch {
	case errors.Is(err, settlement.ErrNoPayout):
		return nil
	case err == nil && p.State == settlement.Sent:
		return settlement.Confirm(tx, id)
	}
	return err
}

// closeRef closes an exception by what it is about, if it is there and open.
func closeRef(tx *db.Tx, ref, why string) error {
	x, err := byRef(tx, ref)
	if errors.Is(err, ErrNone) || err == nil && x.State == Closed {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = step(tx, x, Closed, System, why)
	return err
}

// settleWaiting books the bank's lines that wait for a run. The first one takes
// the file's debt off receivable and fee account; what it is short of goes to
// suspense, where later lines of the day make up for it. A file that nets to
// nothing needs no line.
func settleWaiting(tx *db.Tx, h Host, r Report) error {
	type waiting struct {
		account, ref string
		fen          int64
	}
	var lines []waiting
	err := db.Each(tx, func(scan func(...any) error) error {
		var w waiting
		err := scan(&w.account, &w.ref, &w.fen)
		lines = append(lines, w)
		return err
	}, `SELECT account, ref, fen FROM reconcile_line WHERE host = $1 AND day = $2 AND waits = $3 ORDER BY account, ref`, h.Name, r.Day.String(), true)
	if err != nil {
		return err
	}
	if r.Banked.IsZero() && (len(lines) > 0 || r.Net() == 0) {
		if err := clear(tx, h, &r); err != nil {
			return err
		}
	}
	for _, l := range lines {
		if err := receive(tx, h, &r, l.account+"/"+l.ref, l.fen); err != nil {
			return err
		}
	}
	_, err = tx.Exec(`UPDATE reconcile_line SET waits = $3 WHERE host = $1 AND day = $2`, h.Name, r.Day.String(), false)
	if err == nil {
		err = weigh(tx, h, r)
	}
	return err
}

// clear books that the host owes its net on suspense and no longer on
// receivable: the file is the host's word.
func clear(tx *db.Tx, h Host, r *Report) error {
	ref := "reconcile:clearing:" + h.Name + ":" + r.Day.String()
	err := post(tx, ref, "clearing file of "+r.Day.String(), leg{h.Receivable, r.Theirs.Fen}, leg{h.Fees, -r.Theirs.Fee}, leg{h.Network, -r.Theirs.Network}, leg{Suspense(h.Name), -r.Net()})
	if err != nil {
		return err
	}
	r.Banked = tx.Now()
	_, err = tx.Exec(`UPDATE reconcile_run SET banked = $3 WHERE host = $1 AND day = $2`, h.Name, r.Day.String(), r.Banked.UnixMicro())
	return err
}

func receive(tx *db.Tx, h Host, r *Report, line string, fen int64) error {
	if err := move(tx, "reconcile:line:"+line, "clearing of "+r.Day.String(), h.Bank, Suspense(h.Name), fen); err != nil {
		return err
	}
	r.Received += fen
	_, err := tx.Exec(`UPDATE reconcile_run SET received = $3 WHERE host = $1 AND day = $2`, h.Name, r.Day.String(), r.Received)
	return err
}

// weigh compares what came with the file's net, and lets the exceptions say so.
func weigh(tx *db.Tx, h Host, r Report) error {
	if r.Banked.IsZero() {
		return nil
	}
	of := "/" + h.Name + "/" + r.Day.String()
	if err := closeRef(tx, string(StatementMissing)+of, whyLineIn); err != nil {
		return err
	}
	rest := r.Received - r.Net() - r.Released // on suspense for this day
	for _, t := range []Type{StatementShort, UnknownCredit} {
		held := rest
		if (t == StatementShort) != (rest < 0) {
			held = 0
		}
		if err := adjust(tx, Exception{Host: h.Name, Day: r.Day, Type: t, Held: held}); err != nil {
			return err
		}
	}
	return nil
}

// adjust brings an exception of the statement to what is now held for it.
func adjust(tx *db.Tx, want Exception) error {
	open, err := exceptions(tx, `host = $1 AND day = $2 AND type = $3 AND state <> $4 ORDER BY id`, want.Host, want.Day.String(), string(want.Type), string(Closed))
	switch {
	case err != nil || len(open) == 0 && want.Held == 0:
		return err
	case len(open) == 0:
		want.Ref = string(want.Type) + "/" + tx.NewID("day")
		return raise(tx, want)
	case open[0].Held == want.Held:
		return nil
	}
	x := open[0]
	x.Held = want.Held
	if x.Held == 0 {
		_, err = step(tx, x, Closed, System, whyMadeUp)
		return err
	}
	if err := updateException(tx, x.State, x); err != nil {
		return err
	}
	return audit(tx, x.ID, System, x.State, x.State, whyLine)
}

// Tick raises what is overdue at now: bank lines of files and payouts that no
// statement has shown. Each has a unit of its own: one that cannot be written
// down keeps no other from it.
func Tick(ctx context.Context, store *db.Store, now time.Time) error {
	var late []Exception
	err := store.Read(ctx, func(q *db.Query) (err error) {
		late, err = overdue(q, now)
		return err
	})
	failed := []error{err}
	for _, x := range late {
		if err := store.Write(ctx, func(tx *db.Tx) error { return raise(tx, x) }); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", x.Ref, err))
		}
	}
	return errors.Join(failed...)
}

// overdue lists what Tick has not raised yet.
func overdue(q db.Reader, now time.Time) (out []Exception, err error) {
	late, err := runs(q, `banked = 0 AND due <= $1 AND NOT EXISTS (SELECT 1 FROM reconcile_exception e
		WHERE e.ref = $2 || reconcile_run.host || '/' || reconcile_run.day) ORDER BY host, day LIMIT 1000`, now.UnixMicro(), string(StatementMissing)+"/")
	if err != nil {
		return nil, err
	}
	for _, r := range late {
		out = append(out, Exception{Host: r.Host, Day: r.Day, Type: StatementMissing, Ref: string(StatementMissing) + "/" + r.Host + "/" + r.Day.String()})
	}
	err = db.Each(q, func(scan func(...any) error) error {
		x := Exception{Host: BankDesk, Type: PayoutMissing, Day: calendar.Of(now, calendar.Beijing)}
		var id string
		err := scan(&id, &x.Payee)
		x.Ref = string(PayoutMissing) + "/" + id
		out = append(out, x)
		return err
	}, `SELECT id, payee FROM reconcile_payout p WHERE seen = 0 AND due <= $1
		AND NOT EXISTS (SELECT 1 FROM reconcile_exception e WHERE e.ref = $2 || p.id) ORDER BY id LIMIT 1000`, now.UnixMicro(), string(PayoutMissing)+"/")
	return out, err
}
