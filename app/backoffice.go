package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/switching"
)

// What follows at the back office: the risk desk judges what the switch is
// asked, files of hosts and of the bank are compared when they come, and
// disputes move on when their deadlines pass.

// riskHolds keeps a shop from being paid while its case is looked at.
type riskHolds struct{}

func riskHold(id string) string { return "hold_" + id }

// Hold puts a case's hold on all that the shop would be paid.
func (riskHolds) Hold(tx *db.Tx, id, shop, why string) error {
	_, err := settlement.PutHold(tx, settlement.Hold{ID: riskHold(id), Payee: shop, Reason: settlement.ForRisk, Text: why})
	return err
}

// Release ends it, if staff have not.
func (riskHolds) Release(tx *db.Tx, id string) error {
	if err := settlement.Release(tx, riskHold(id)); !errors.Is(err, settlement.ErrHold) {
		return err
	}
	return nil
}

// A watch judges the switch's transactions by the risk desk's rules. What it
// has to know of a terminal beside them comes when the switch looks it up.
type watch struct {
	engine *risk.Engine
	spots  sync.Map // TID to spot
}

// A spot is where a terminal stands, as rules ask for it.
type spot struct {
	agent string
	since time.Time
	here  risk.Place
	was   risk.Place // where the device stood before, if it was moved
	level risk.Level
}

// met remembers where a terminal stands.
func (w *watch) met(q db.Reader, s merchant.Standing) error {
	m, err := merchant.Of(q, s.Shop.Merchant)
	if err != nil {
		return err
	}
	x := spot{agent: m.Agent, since: s.Terminal.Made, here: placeOf(s.Shop), level: risk.NormalRisk}
	x.was = x.here
	if before, moved, err := merchant.MovedFrom(q, s.Terminal); err != nil {
		return err
	} else if moved {
		x.was = placeOf(before)
	}
	switch s.Risk {
	case merchant.RiskA:
		x.level = risk.LowRisk
	case merchant.RiskD:
		x.level = risk.HighRisk
	}
	w.spots.Store(s.Terminal.TID, x)
	return nil
}

var entries = map[string]risk.Entry{"01": risk.Manual, "02": risk.Stripe, "90": risk.Stripe, "03": risk.QR, "05": risk.Chip, "07": risk.Tap, "91": risk.Tap, "98": risk.Tap}

// factKind is what a kind of transaction is to the rules; empty: not judged.
func factKind(kind string) risk.Kind {
	k := switching.KindNamed(kind)
	switch {
	case k == nil:
		return ""
	case kind == "preauth":
		return risk.Preauth
	case kind == "refund":
		return risk.Refund
	case strings.HasSuffix(kind, "void"):
		return risk.Void
	case k.Side == switching.Debits && len(k.Of) == 0:
		return risk.Sale
	}
	return ""
}

// riskCode is what a terminal is answered: by the standard it is suspected
// fraud.
const riskCode = "59"

// Judge assesses a transaction.
func (w *watch) Judge(t switching.Txn, p switching.Place) switching.Judgement {
	f := risk.Fact{At: t.At, Kind: factKind(t.Kind), Card: t.Token, Class: t.Class, Shop: t.Shop, Terminal: t.TID, Category: p.Category, Fen: t.Amount.Minor(), Sale: t.Original}
	if f.Kind == "" || w.engine == nil {
		return switching.Judgement{}
	}
	if f.Entry = risk.Chip; len(t.Entry) >= 2 {
		f.Entry = entries[t.Entry[:2]]
	}
	if x, ok := w.spots.Load(t.TID); ok {
		x.(spot).tell(&f)
	}
	d := w.engine.Assess(f)
	j := switching.Judgement{Keep: func(tx *db.Tx, t switching.Txn) error {
		f.Ref, f.At, f.Declined = t.RRN, t.At, t.State == switching.Declined
		return w.engine.Keep(tx, f, d)
	}}
	if d.Action == risk.Refuse {
		j.Code, j.Why = riskCode, "risk"
		if len(d.Hits) > 0 {
			j.Why = "risk: " + d.Hits[0].En
		}
	}
	return j
}

// How long facts are kept for replays, and how much one tick does.
const (
	factLife  = 400 * 24 * time.Hour
	deskChunk = 500
)

// tickDesks does what has fallen due at the back office, each part whether or
// not the others could.
func (h *House) tickDesks(ctx context.Context, now time.Time) error {
	return errors.Join(
		named("reconciliation", reconcile.Tick(ctx, h.Store, now)),
		named("disputes", h.tickDisputes(ctx, now)),
		named("e-cash", h.tickECash(ctx)),
		named("old facts", h.Store.Write(ctx, func(tx *db.Tx) error {
			_, err := risk.Forget(tx, now.Add(-factLife), deskChunk)
			return err
		})),
		named("files that came", h.Inbox.Scan(ctx)))
}

func (h *House) tickDisputes(ctx context.Context, now time.Time) error {
	_, err := dispute.Tick(ctx, h.Store, now)
	_, said := dispute.HeedKept(ctx, h.Store, findSales)
	return errors.Join(err, said)
}

// CompareDay reconciles one settlement day of a host with its clearing file.
func (h *House) CompareDay(ctx context.Context, host string, day calendar.Date, file io.Reader, name string) (reconcile.Report, error) {
	var ours, more []reconcile.Item
	err := h.Store.Read(ctx, func(q *db.Query) error {
		x, err := reconcile.HostOf(q, host)
		if err != nil {
			return err
		}
		from, to := x.Span(day)
		if ours, err = switched(q, host, from, to); err != nil {
			return err
		}
		more, err = disputed(q, host, from, to)
		return err
	})
	if err != nil {
		return reconcile.Report{}, fmt.Errorf("the switch's day %s with %s: %w", day, host, err)
	}
	r, err := reconcile.Run(ctx, h.Store, reconcile.Day{Host: host, Day: day, Ours: reconcile.List(append(ours, more...)), File: file, Name: name, Class: cardClass, Notices: told(host)})
	if err == nil {
		err = h.heedTold(ctx, host, day)
	}
	if err == nil {
		err = h.learnCosts(ctx)
	}
	return r, err
}

// TakeStatement takes a bank statement (reconcile.Statement): payouts ordered
// by its last day are expected on it.
func (h *House) TakeStatement(ctx context.Context, raw []byte, name string) (fresh int, err error) {
	s, err := reconcile.ParseStatement(raw)
	if err != nil {
		return 0, err
	}
	err = h.Store.Write(ctx, func(tx *db.Tx) error { return expect(tx, s.To) })
	if err != nil {
		return 0, fmt.Errorf("payouts that %s should show: %w", name, err)
	}
	return reconcile.Import(ctx, h.Store, s, name)
}

// expect makes the payouts that were ordered until a day known to the desk.
func expect(tx *db.Tx, until calendar.Date) error {
	for before := ""; ; {
		list, err := settlement.Payouts(tx, "", before, deskChunk)
		if err != nil {
			return err
		}
		for _, p := range list {
			before = p.ID
			day := calendar.Of(p.At, calendar.Beijing)
			if p.State != settlement.Sent || until.Before(day) {
				continue
			}
			if err := reconcile.Expect(tx, reconcile.Payout{ID: p.ID, Payee: p.Payee, Fen: p.Amount.Minor(), Day: day}); err != nil {
				return err
			}
		}
		if len(list) < deskChunk {
			return nil
		}
	}
}

// openInbox is the folder of files from outside: what is put into clearing/in is
// taken at the next tick and moved to clearing/done, or, with the reason beside it,
// to clearing/refused.
func (h *House) openInbox() {
	h.Inbox = &reconcile.Inbox{Store: h.Store, Dir: filepath.Join(h.Config.Data, "clearing"), Take: h.takeFile,
		Tell: func(name string, wrong error) { h.Config.Log.Error("a file was refused", "file", name, "error", wrong) }}
}

// maxStatement bounds a bank statement: the longest has as many lines, bytes.
const maxStatement = 64 << 20

// takeFile takes a clearing file, or a bank statement, by its name.
func (h *House) takeFile(ctx context.Context, name string, file io.Reader) error {
	host, day, err := reconcile.ParseName(name)
	switch {
	case err != nil:
		return err
	case host != "":
		_, err = h.CompareDay(ctx, host, day, file, name)
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxStatement))
	if err == nil {
		_, err = h.TakeStatement(ctx, raw, name)
	}
	return err
}

// switched is what the switch has of a settlement day of a host
// (reconcile.Host.Span).
func switched(q db.Reader, host string, from, to time.Time) (out []reconcile.Item, err error) {
	waits, err := undecided(q)
	if err != nil {
		return nil, err
	}
	for before := ""; ; {
		list, err := switching.Live(q, switching.Filter{Host: host, Before: before, Limit: deskChunk})
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			before = t.RRN
			if t.At.Before(from) {
				return out, nil
			}
			k := switching.KindNamed(t.Kind)
			if !t.At.Before(to) || k == nil || k.Side == switching.Uncounted || !booked(t, waits) {
				continue
			}
			x := itemOf(t, k.Side)
			if x.Fee, x.Network, err = pricedAt(q, t, x.Fen); err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		if len(list) < deskChunk {
			return out, nil
		}
	}
}

// undecided are the approved sales that their terminals do not know: they are
// not booked before people have decided.
func undecided(q db.Reader) (map[string]bool, error) {
	out := map[string]bool{}
	for after := ""; ; {
		list, err := switching.Differences(q, true, after, deskChunk)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			after = d.ID
			out[d.RRN] = out[d.RRN] || d.What == switching.MissingAtTerminal
		}
		if len(list) < deskChunk {
			return out, nil
		}
	}
}

// booked tells whether the books have a transaction, or will have it without
// anybody's doing: the second copy of a tap never, nor what waits for people.
func booked(t switching.Txn, waits map[string]bool) bool {
	return t.State != switching.Noted && (t.State != switching.Approved || !waits[t.RRN])
}

// itemOf is a transaction as the desk compares it.
func itemOf(t switching.Txn, side switching.Side) reconcile.Item {
	x := reconcile.Item{RRN: t.RRN, TID: t.TID, STAN: fmt.Sprintf("%06d", t.STAN), Date: calendar.Of(t.At, calendar.Beijing), Kind: reconcile.Sale, State: reconcile.Cleared,
		Fen: t.Due.Minor(), Currency: money.CNY, Class: t.Class, At: t.At, Payee: t.Shop}
	switch {
	case t.Kind == "completion" || t.Kind == "advice":
		x.Kind = reconcile.Completion
	case t.Kind == "refund":
		x.Kind = reconcile.Refund
	case side == switching.Credits:
		x.Kind = reconcile.Void
	}
	if side == switching.Credits {
		x.Fen = -x.Fen
	}
	switch t.State {
	case switching.Declined:
		x.State = reconcile.Declined
	case switching.Reversed, switching.Unknown, switching.Sent:
		x.State = reconcile.Reversed
	}
	return x
}

// pricedAt is what issuer and network keep of a transaction by the house's own
// price card, below zero where it is given back.
func pricedAt(q db.Reader, t switching.Txn, fen int64) (issuer, network int64, err error) {
	terms, err := settlement.AllTerms(q, t.Shop)
	if err != nil {
		return 0, 0, err
	}
	i := settlement.Item{Ref: t.RRN, Payee: t.Shop, Amount: money.Fen(fen), At: t.At, Kind: "sale", Card: t.FeeClass(), Issuer: t.Host}
	if fen < 0 {
		o, err := switching.Transaction(q, t.Original)
		if errors.Is(err, switching.ErrNotFound) {
			return 0, 0, nil // it was declined
		}
		if err != nil {
			return 0, 0, err
		}
		all, err := switching.Transactions(q, o)
		if err != nil {
			return 0, 0, err
		}
		i.SaleAt, i.Remains = o.At, o.Due
		for _, x := range all { // what other refunds took before
			if x.Kind == "refund" && x.State == switching.Cleared && x.RRN < t.RRN {
				i.Remains = i.Remains.Sub(x.Due)
			}
		}
	}
	p, _, err := settlement.Price(i, terms)
	return p.Issuer, p.Network, err
}

// checkDesks proves what the desks stand for: merchants by their own counts,
// what terminals sold by settlement's items, on
// each suspense account what its exceptions hold, and for each case of risk
// that holds a shop's money a hold in force.
func (h *House) checkDesks(ctx context.Context) (wrong []string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		if wrong, err = merchant.Prove(tx); err != nil {
			return err
		}
		sold, err := switching.Prove(tx)
		if err != nil {
			return err
		}
		wrong = append(wrong, sold...)
		hosts, err := reconcile.Hosts(tx)
		for _, x := range hosts {
			if err == nil {
				err = checkSuspense(tx, x.Name, &wrong)
			}
		}
		if err == nil {
			err = checkTaken(tx, &wrong)
		}
		if err == nil {
			err = checkRiskHolds(tx, &wrong)
		}
		return err
	})
	return wrong, err
}

func checkSuspense(tx *db.Tx, host string, wrong *[]string) error {
	var held int64
	for after := ""; ; {
		list, err := reconcile.Exceptions(tx, host, "", after, deskChunk)
		if err != nil {
			return err
		}
		for _, x := range list {
			after, held = x.ID, held+x.Held
		}
		if len(list) < deskChunk {
			break
		}
	}
	b, err := ledger.BalanceOf(tx, reconcile.Suspense(host))
	if n := b.Posted.Minor(); err == nil && n != held {
		*wrong = append(*wrong, fmt.Sprintf("the suspense account of %s has %d fen, its exceptions hold %d", host, n, held))
	}
	return err
}

func checkRiskHolds(tx *db.Tx, wrong *[]string) error {
	for before := ""; ; {
		list, err := risk.Cases(tx, "", "", before, deskChunk)
		if err != nil {
			return err
		}
		for _, c := range list {
			before = c.ID
			if !c.Holding {
				continue
			}
			if x, err := settlement.HoldOf(tx, riskHold(c.ID)); err != nil || !x.Ended.IsZero() {
				*wrong = append(*wrong, fmt.Sprintf("case %s holds shop %s, but no hold is in force", c.ID, c.Shop))
			}
		}
		if len(list) < deskChunk {
			return nil
		}
	}
}
