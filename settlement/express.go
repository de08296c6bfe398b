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
	"koala/settlement/fee"
	"koala/settlement/limit"
)

// An Offer is what a payee would get if it were paid now, with the price,
// before it says yes.
type Offer struct {
	Payout           // as it would be; ID and At are empty
	Days       int   // that the house lends for
	BP         int64 // price of what is lent, basis points for all days; 0 when Free
	Free       bool  // an earlier one was late
	Left       money.Amount
	Limit      limit.Limit // of the day, all payouts at once together, with its factors in words
	Refusal    error       // why it cannot be taken now; nil: it can
	PromisedBy time.Time
}

// SetFunding says how much the house lends at most, all payees together, until
// the network's money is there. Without it nothing is paid at once.
func SetFunding(tx *db.Tx, most money.Amount) error {
	if most.Sign() < 0 {
		return fmt.Errorf("funding of %s: %w", most, ErrTerms)
	}
	_, err := tx.Exec(`INSERT INTO settlement_funding (id, fen) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET fen = excluded.fen`, most.Minor())
	return err
}

// Funding reads the limit and what of it is lent now.
func Funding(q db.Reader, now time.Time) (most, lent money.Amount, err error) {
	var m, l int64
	err = q.QueryRow(`SELECT fen FROM settlement_funding WHERE id = 1`).Scan(&m)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	if err == nil {
		err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_payout WHERE kind = 'd0' AND arrives > $1 AND state <> 'returned'`,
			calendar.Of(now, calendar.Beijing).String()).Scan(&l)
	}
	return money.Fen(m), money.Fen(l), err
}

// Standing is what the house knows about a payee beside its sales: since when
// its shop is there, and how far it is trusted.
type Standing struct {
	Opened calendar.Date
	Risk   limit.Risk
}

// SetStanding keeps what is known about a payee. From then on its payouts at
// once have a limit that follows from it and from its sales (settlement/limit),
// and what its terms say is the most it can be; before, it is what they say.
func SetStanding(tx *db.Tx, payee string, s Standing) error {
	if _, err := payeeOf(tx, payee); err != nil {
		return err
	}
	if s.Opened.IsZero() || s.Risk == "" || len(s.Risk) > maxRisk {
		return fmt.Errorf("standing of %s: %w", payee, ErrTerms)
	}
	_, err := tx.Exec(`INSERT INTO settlement_standing (payee, opened, risk) VALUES ($1, $2, $3)
		ON CONFLICT (payee) DO UPDATE SET opened = excluded.opened, risk = excluded.risk`, payee, s.Opened.String(), string(s.Risk))
	return err
}

// SetTrust changes how far a payee is trusted whose standing is known: of another
// nothing is kept.
func SetTrust(tx *db.Tx, payee string, risk limit.Risk) error {
	if risk == "" || len(risk) > maxRisk {
		return fmt.Errorf("trust %.20q: %w", risk, ErrTerms)
	}
	_, err := tx.Exec(`UPDATE settlement_standing SET risk = $2 WHERE payee = $1`, payee, string(risk))
	return err
}

// maxRisk bounds the name of a level, bytes.
const maxRisk = 8

// limits are the rows that come with the program.
var limits = limit.House()

// FactsOf is what a payee's limit of payouts at once follows from on a day: its
// closings of the 90 days before, and its standing; false: that is not known.
func FactsOf(q db.Reader, payee string, day calendar.Date) (f limit.Facts, known bool, err error) {
	var opened, name string
	err = q.QueryRow(`SELECT opened, risk FROM settlement_standing WHERE payee = $1`, payee).Scan(&opened, &name)
	if errors.Is(err, db.ErrNoRows) {
		return f, false, nil
	}
	if err == nil {
		err = q.QueryRow(`SELECT CAST(COALESCE(SUM(CASE WHEN day >= $1 THEN gross ELSE 0 END), 0) AS BIGINT), CAST(COALESCE(SUM(gross), 0) AS BIGINT),
			CAST(COALESCE(SUM(-refunds), 0) AS BIGINT), CAST(COALESCE(SUM(-chargebacks), 0) AS BIGINT)
			FROM settlement_payout WHERE payee = $2 AND day >= $3 AND day < $4`,
			day.AddDays(-30).String(), payee, day.AddDays(-90).String(), day.String()).Scan(&f.Taken30, &f.Taken90, &f.Refunds, &f.Charged)
	}
	if err != nil {
		return f, false, fmt.Errorf("limit of %s: %w", payee, err)
	}
	since, err := calendar.Parse(opened)
	f.Age, f.Risk = max(0, since.DaysUntil(day)), limit.Risk(name)
	return f, true, err
}

// limitOf is how much of a payee may be paid out at once on a day.
func limitOf(q db.Reader, payee string, day calendar.Date, agreed money.Amount) (limit.Limit, error) {
	f, known, err := FactsOf(q, payee, day)
	if err != nil || known {
		return limits.Of(day, f, agreed), err
	}
	return limit.Limit{Most: agreed, Lines: []fee.Line{{EN: "As agreed", ZH: "按约定", Fen: agreed}}}, nil
}

// OfferNow says what a payee would get now and what that costs.
func OfferNow(q db.Reader, id string, now time.Time) (Offer, error) {
	_, o, err := offer(q, id, now)
	return o, err
}

func offer(q db.Reader, id string, now time.Time) (c closing, o Offer, err error) {
	today := calendar.Of(now, calendar.Beijing)
	page, err := pageOf(q, span{day: today, now: now, only: id, once: true})
	if err != nil {
		return c, o, err
	}
	c = page.closings[0]
	late, err := overdue(q, id, now)
	if err != nil {
		return c, o, err
	}
	for _, p := range late { // free since then, whether or not Tick has been there
		c.p.free, c.p.kept = c.p.free+1, c.p.kept+p.Advance.Sub(p.Undone).Minor()
	}
	t := &c.terms
	day := t.today(now)
	arrives := t.soon(day) // the network's money: a month is not lent
	o.Days = max(1, today.DaysUntil(arrives))
	o.Free = c.p.free > 0
	if !o.Free {
		o.BP = t.Once.BPDay * int64(o.Days)
	}
	var used int64
	err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen + advance), 0) AS BIGINT) FROM settlement_payout
		WHERE payee = $1 AND kind = 'd0' AND at >= $2 AND state <> 'returned'`, id, today.Start(calendar.Beijing).UnixMicro()).Scan(&used)
	if err != nil {
		return c, o, err
	}
	most, lent, err := Funding(q, now)
	if err != nil {
		return c, o, err
	}
	if o.Limit, err = limitOf(q, id, today, t.Once.Most); err != nil {
		return c, o, err
	}
	left := max(0, o.Limit.Most.Minor()-used)
	ours := max(0, c.p.kept+c.p.released) // arrived before: it is not lent
	cut := false
	something := c.net(func(pay int64) (int64, int64) {
		cut = pay > left
		pay = min(pay, left)
		return pay, money.Fen(max(0, pay-ours)).Portion(o.BP, 10_000, money.HalfUp).Minor()
	})
	o.Left = money.Fen(left)
	c.payout.Day, c.payout.Kind, c.payout.State, c.payout.Arrives = day, AtOnce, Waiting, arrives
	c.payout.Promised = now.Add(t.Once.Promise)
	switch pay := c.payout.Amount; {
	case !t.Once.Agreed:
		o.Refusal = ErrAtOnce
	case (!something || pay.Sign() <= 0) && cut:
		o.Refusal = ErrLimit
	case !something || pay.Sign() <= 0:
		o.Refusal = ErrNothing
	case lent.Add(pay).Cmp(most) > 0:
		o.Refusal = ErrFunding
	}
	o.Payout, o.PromisedBy = c.payout, c.payout.Promised
	return c, o, nil
}

// PayNow pays a payee what is due to it now. seen is the offer it said yes to:
// sales that came since are paid too, but a higher price is ErrDiffers.
func PayNow(tx *db.Tx, id string, seen Offer) (Payout, error) {
	late, err := overdue(tx, id, tx.Now())
	if err != nil {
		return Payout{}, err
	}
	for _, p := range late {
		if err := free(tx, p); err != nil {
			return Payout{}, err
		}
	}
	c, o, err := offer(tx, id, tx.Now())
	if err != nil {
		return Payout{}, err
	}
	if o.Refusal != nil {
		return Payout{}, fmt.Errorf("paying %s now: %w", id, o.Refusal)
	}
	if o.BP > seen.BP {
		return Payout{}, fmt.Errorf("paying %s now at %d basis points, offered at %d: %w", id, o.BP, seen.BP, ErrDiffers)
	}
	if o.Free {
		c.p.free--
	}
	if err := OpenHouse(tx); err != nil {
		return Payout{}, err
	}
	page := []closing{c}
	if err := closePage(tx, calendar.Of(tx.Now(), calendar.Beijing), page); err != nil {
		return Payout{}, err
	}
	return page[0].payout, nil
}

// maxAuto bounds how many payees are read at a time.
const maxAuto = 200

// Tick does what has become due about payouts at once: those made unasked,
// their files, and those that are late. It may be called at any time. Each payee
// has a unit of its own: one that cannot be paid keeps nobody else from it.
func Tick(ctx context.Context, store *db.Store) error {
	var failed []error
	fail := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	fail("payouts unasked", eachAlone(ctx, store, payOneUnasked, `SELECT payee FROM settlement_payee WHERE auto > 0 AND auto <= $1 AND payee > $2 ORDER BY payee LIMIT $3`))
	for n := maxExpress; n == maxExpress; {
		err := store.Write(ctx, func(tx *db.Tx) (err error) {
			n, err = sendExpress(tx)
			return err
		})
		if fail("files", err); err != nil {
			break
		}
	}
	for _, state := range []State{Waiting, Sent} {
		fail("late payouts", eachAlone(ctx, store, forgive, `SELECT id FROM settlement_payout WHERE kind = 'd0' AND state = '`+string(state)+`' AND late = 0 AND promised < $1 AND id > $2 ORDER BY id LIMIT $3`))
	}
	return errors.Join(failed...)
}

// eachAlone does something to all rows that are due by now, each in a unit of
// its own. due selects ids by the time, from the one behind the given.
func eachAlone(ctx context.Context, store *db.Store, do func(tx *db.Tx, id string) error, due string) error {
	var failed []error
	now := store.Now().UnixMicro()
	for last := ""; ; {
		var ids []string
		err := store.Read(ctx, func(q *db.Query) error {
			return db.Each(q, func(scan func(...any) error) error {
				var id string
				err := scan(&id)
				ids = append(ids, id)
				return err
			}, due, now, last, maxAuto)
		})
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		for _, last = range ids {
			if err := store.Write(ctx, func(tx *db.Tx) error { return do(tx, last) }); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", last, err))
			}
		}
		if len(ids) < maxAuto {
			return errors.Join(failed...)
		}
	}
}

// payOneUnasked pays a payee whose time has come what it sold since, if another
// run has not.
func payOneUnasked(tx *db.Tx, id string) error {
	if p, err := payeeOf(tx, id); err != nil || p.auto == 0 || p.auto > tx.Now().UnixMicro() {
		return err
	}
	_, o, err := offer(tx, id, tx.Now())
	if err == nil && o.Refusal == nil && o.Count > 0 { // a price given back alone waits: it would use up the next free one
		_, err = PayNow(tx, id, o)
	}
	if err != nil {
		return err
	}
	p, err := payeeOf(tx, id)
	if err != nil {
		return err
	}
	t, err := TermsOf(tx, id, calendar.Of(tx.Now(), calendar.Beijing))
	if err != nil {
		return err
	}
	p.auto = 0
	if t.Once.Agreed && t.Once.Every > 0 {
		p.auto = tx.Now().Add(t.Once.Every).UnixMicro()
	}
	return p.save(tx)
}

// overdue reads the payouts at once of a payee whose time has passed without the
// bank's confirmation, and that are not free yet.
func overdue(q db.Reader, payee string, now time.Time) ([]Payout, error) {
	return inOrder(q, `payee = $1 AND kind = 'd0' AND state IN ('waiting', 'sent') AND late = 0 AND promised < $2`, payee, now.UnixMicro())
}

// Overdue reads payouts at once whose time has passed without the bank's answer,
// the longest first.
func Overdue(q db.Reader, now time.Time, limit int) ([]Payout, error) {
	return payouts(q, `kind = 'd0' AND state IN ('waiting', 'sent') AND promised < $1 ORDER BY promised, id LIMIT $2`, now.UnixMicro(), min(max(limit, 1), maxPage))
}

// forgive frees a payout at once that the bank has not confirmed in time. The
// clock alone decides: no statement has to come, and one that does changes it no
// more. Cut before its unit commits the next Tick finds it again; after, it is
// late, and only its state is still open.
func forgive(tx *db.Tx, id string) error {
	o, err := PayoutOf(tx, id)
	if err != nil || !o.overdue(tx.Now()) {
		return err
	}
	return free(tx, o)
}

// overdue says that the bank's answer was promised earlier and is not there.
func (p *Payout) overdue(now time.Time) bool {
	return p.Kind == AtOnce && (p.State == Waiting || p.State == Sent) && now.After(p.Promised)
}

// free keeps the promise "late is free": the price is given back and the next
// payout at once costs nothing. Once for each payout.
func free(tx *db.Tx, o Payout) error {
	n, err := tx.Exec(`UPDATE settlement_payout SET late = 1, undone = advance WHERE id = $1 AND late = 0`, o.ID)
	if err != nil || n == 0 {
		return err
	}
	p, err := payeeOf(tx, o.Payee)
	if err != nil {
		return err
	}
	p.free++
	if back := o.Advance.Sub(o.Undone); back.Sign() > 0 {
		e := ledger.Move("late:"+o.ID, ForAdvances, Payable(o.Payee), back)
		e.Kind, e.Text = "late is free", "price of "+o.ID+" given back"
		if _, err := ledger.Post(tx, e); err != nil {
			return err
		}
		p.kept += back.Minor()
	}
	return p.save(tx)
}
