package market

import (
	"context"
	"fmt"
	"hash"
	"maps"
	"slices"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/reconcile"
	"koala/settlement"
	"koala/switching"
	"koala/terminal/unionpay"
)

// differs is a checker's finding.
func differs(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrWrong, fmt.Sprintf(format, args...))
}

// A key names a transaction of a terminal.
type key struct{ batch, stan uint32 }

// A Fact is what a terminal knows of a transaction: whether the shop gave, or
// gave back.
type Fact struct {
	Kind   unionpay.Kind
	Fen    int64
	Undone bool // voided, cancelled or completed
	Gone   bool // the switch did not take it
	RRN    string
	of     key // of a tip or adjustment
}

// Side is 1 for money that the shop gets, -1 for money that it gives back, and
// 0 for neither.
func (f Fact) Side() int64 {
	switch f.Kind {
	case unionpay.Sale, unionpay.Completion, unionpay.CompletionAdvice, unionpay.OfflineSale, unionpay.TapSale, unionpay.Instalment, unionpay.Points, unionpay.PhoneSale, unionpay.Reservation:
		return 1
	case unionpay.SaleVoid, unionpay.Refund, unionpay.CompletionCancel, unionpay.InstalmentVoid, unionpay.PointsVoid, unionpay.PhoneVoid, unionpay.ReservationCancel, unionpay.CashRefund:
		return -1
	}
	return 0
}

// note copies what the terminal's journal has of its open batch; its lock is
// held.
func (t *Till) note() {
	if t.dev == nil {
		return
	}
	refused := t.dev.Refused()
	for _, e := range t.dev.Entries() {
		_, gone := refused[e.Name()]
		f := Fact{Kind: e.Kind, Fen: int64(e.Fen()), Undone: t.dev.Undone(e), Gone: gone, RRN: e.Get(37)}
		if o, err := unionpay.ParseOriginal(e.Get(61)); err == nil {
			f.of = key{o.Batch, o.STAN}
		}
		t.facts[key{e.Batch, e.STAN}] = f
	}
}

// keys are the names of a till's facts in order.
func (t *Till) keys() []key {
	return slices.SortedFunc(maps.Keys(t.facts), func(a, b key) int {
		if a.batch != b.batch {
			return int(a.batch) - int(b.batch)
		}
		return int(a.stan) - int(b.stan)
	})
}

// fen is what a fact came to: with its tip.
func (t *Till) fen(k key) int64 {
	f := t.facts[k]
	for _, at := range t.keys() {
		if x := t.facts[at]; (x.Kind == unionpay.Tip || x.Kind == unionpay.Adjust) && x.of == k && !x.Gone {
			f.Fen = x.Fen
		}
	}
	return f.Fen
}

// gave says whether a terminal knows a sale: the goods went over its counter.
func (m *Market) gave(tid string, batch, stan int) bool {
	for _, t := range m.byID {
		if t.TID == tid {
			t.mu.Lock()
			defer t.mu.Unlock()
			f, ok := t.facts[key{uint32(batch), uint32(stan)}]
			return ok && !f.Gone && !f.Undone
		}
	}
	return false
}

// Facts are what a terminal has known, oldest first: for whoever plans a refund.
func (m *Market) Facts(id string) (out []Fact) {
	t, err := m.Till(id)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.keys() {
		out = append(out, t.facts[k])
	}
	return out
}

// rows are all the switch's transactions of a terminal, by their names.
func (m *Market) rows(q db.Reader, tid string) (map[key]switching.Txn, error) {
	out := map[key]switching.Txn{}
	for before := ""; ; {
		list, err := switching.Live(q, switching.Filter{TID: tid, Before: before, Limit: page})
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			k := key{uint32(t.Batch), uint32(t.STAN)}
			if _, twice := out[k]; twice {
				return nil, differs("terminal %s has %06d/%06d twice", tid, t.Batch, t.STAN)
			}
			out[k], before = t, t.RRN
		}
		if len(list) < page {
			return out, nil
		}
	}
}

// Check proves what holds at any time: each transaction of a terminal is there
// once, the books balance, and every message that waits for an issuer's host is
// of a transaction that exists.
func (m *Market) Check(ctx context.Context) error {
	if !m.House().Book.TrialBalance().Balanced {
		return differs("the trial balance does not balance")
	}
	return m.read(ctx, func(q *db.Query) error {
		all := map[string]map[key]switching.Txn{}
		for _, t := range m.Tills() {
			rows, err := m.rows(q, t.TID)
			if err != nil {
				return err
			}
			all[t.TID] = rows
		}
		queue, err := switching.Queue(q, 0, page)
		for _, x := range queue {
			if _, known := all[x.TID][key{uint32(x.Batch), uint32(x.STAN)}]; !known && all[x.TID] != nil {
				return differs("%s waits to be told of %s %06d/%06d, which does not exist", x.Host, x.TID, x.Batch, x.STAN)
			}
		}
		return err
	})
}

// End proves what holds when every batch was settled and every night is over.
func (m *Market) End(ctx context.Context) error {
	err := m.read(ctx, func(q *db.Query) error {
		for _, f := range []func(q db.Reader) error{m.nothingOpen, m.equal, m.issuers, m.earned} {
			if err := f(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = m.wallets(ctx)
	}
	if err != nil {
		return err
	}
	for _, name := range append([]string{reconcile.BankDesk}, m.names...) {
		accounts := []ledger.AccountID{reconcile.Suspense(name)}
		if name != reconcile.BankDesk {
			accounts = append(accounts, switching.Receivable(name))
		}
		for _, a := range accounts {
			b, err := m.House().Book.Balance(a)
			if err != nil {
				return err
			}
			if !b.Posted.IsZero() || !b.Held.IsZero() {
				return differs("%s has %s at the end", a, b.Posted)
			}
		}
	}
	return nil
}

// Open says whether something still waits for another night.
func (m *Market) Waits(ctx context.Context) (bool, error) {
	list, err := m.exceptions(ctx)
	if err != nil || len(list) > 0 || len(m.nights.Bank.Waiting) > 0 {
		return true, err
	}
	for _, name := range m.names {
		if i := m.abroad[name]; len(i.carried)+len(i.forgot) > 0 {
			return true, nil
		}
	}
	sent, err := m.sent(ctx)
	return len(sent) > 0, err
}

// nothingOpen: terminals and switch wait for nothing, people have decided all.
func (m *Market) nothingOpen(q db.Reader) error {
	queue, err := switching.Queue(q, 0, 1)
	if err == nil && len(queue) > 0 {
		err = differs("%s has still to be told of %s %06d/%06d: %s", queue[0].Host, queue[0].TID, queue[0].Batch, queue[0].STAN, queue[0].Last)
	}
	if err != nil {
		return err
	}
	open, err := switching.Differences(q, true, "", 1)
	if err == nil && len(open) > 0 {
		err = differs("nobody decided about %s of %s", open[0].What, open[0].TID)
	}
	if err != nil {
		return err
	}
	left, err := reconcile.Exceptions(q, "", "", "", 1)
	if err == nil && len(left) > 0 {
		err = differs("exception %s of %s on %s is %s", left[0].Type, left[0].Host, left[0].Day, left[0].State)
	}
	return err
}

// equal: what shops gave is what the switch cleared, each transaction once.
func (m *Market) equal(q db.Reader) error {
	decided := map[string]bool{}
	for after := ""; ; {
		list, err := switching.Differences(q, false, after, page)
		if err != nil {
			return err
		}
		for _, d := range list {
			decided[fmt.Sprintf("%s/%d/%d", d.TID, d.Batch, d.STAN)], after = true, d.ID
		}
		if len(list) < page {
			break
		}
	}
	for _, t := range m.Tills() {
		rows, err := m.rows(q, t.TID)
		if err != nil {
			return err
		}
		for _, k := range t.keys() {
			if err := t.compare(k, rows[k], decided[fmt.Sprintf("%s/%d/%d", t.TID, k.batch, k.stan)]); err != nil {
				return err
			}
		}
		for k, x := range rows {
			if x.State == switching.Declined && x.Why == "" {
				return differs("%s: why %06d/%06d, a %s, was declined with %s is not kept", t.ID, k.batch, k.stan, x.Kind, x.Code)
			}
			if x.Code == "58" {
				m.count("not allowed: "+x.Why, 1)
			}
			if x.State == switching.Sent || x.State == switching.Approved && x.Kind != "preauth" {
				return differs("%s %06d/%06d is %s at the end", t.ID, k.batch, k.stan, x.State)
			}
			if _, known := t.facts[k]; !known && x.Batch > 0 && x.State == switching.Cleared && switching.KindNamed(x.Kind).Side != switching.Uncounted {
				return differs("%s: the switch cleared %06d/%06d, a %s of %s, and the shop gave nothing for it", t.ID, k.batch, k.stan, x.Kind, x.Due)
			}
		}
	}
	return nil
}

// compare holds a fact against its row.
func (t *Till) compare(k key, x switching.Txn, decided bool) error {
	f := t.facts[k]
	if f.Side() == 0 || f.Gone {
		return nil
	}
	ends := map[switching.State]bool{switching.Cleared: true}
	if f.Undone {
		ends = map[switching.State]bool{switching.Voided: true}
	}
	if !ends[x.State] && !decided {
		return differs("%s: %s %06d/%06d of %d fen, reference %s, is %q at the switch (%s)", t.ID, f.Kind, k.batch, k.stan, f.Fen, f.RRN, x.State, x.Why)
	}
	if due := x.Due.Minor(); due != t.fen(k) && !decided {
		return differs("%s: %s %06d/%06d came to %d fen at the shop and %d at the switch", t.ID, f.Kind, k.batch, k.stan, t.fen(k), due)
	}
	return nil
}

// issuers: what each card of another institution paid by its own issuer's books
// is what the switch cleared of it, one by one and in all.
func (m *Market) issuers(q db.Reader) error {
	booked, sums := map[string]map[string]int64{}, map[string]int64{}
	for _, name := range m.names {
		booked[name] = m.abroad[name].host.Booked()
	}
	for _, t := range m.Tills() {
		rows, err := m.rows(q, t.TID)
		if err != nil {
			return err
		}
		for _, x := range rows {
			if m.abroad[x.Host] == nil {
				continue
			}
			var fen int64
			switch side := int64(switching.KindNamed(x.Kind).Side); {
			case x.State == switching.Cleared && (side > 0 || x.Kind == "refund"):
				fen = side * x.Due.Minor()
			}
			got := booked[x.Host][x.RRN]
			if x.Kind == "preauth" {
				fen = got // what an issuer holds is no payment: it lets it go by itself
			}
			if got != fen {
				return differs("%s of card %s, reference %s, is %d fen at %s and %s with %d fen at the switch (%s)", x.Kind, x.Masked, x.RRN, got, x.Host, x.State, fen, x.Why)
			}
			sums[x.Host] += fen
		}
	}
	for _, name := range m.names {
		if got := m.abroad[name].paid(); got != sums[name] {
			return differs("the cards of %s paid %d fen, the shops got %d", name, got, sums[name])
		}
	}
	return nil
}

// earned: what each shop was paid, what it was charged and what stands for it is
// what went over its counters.
func (m *Market) earned(q db.Reader) error {
	for _, s := range m.shops {
		var gave int64
		for _, t := range s.Tills {
			rows, err := m.rows(q, t.TID)
			if err != nil {
				return err
			}
			for _, x := range rows {
				if x.State == switching.Cleared || x.State == switching.Voided {
					gave += int64(switching.KindNamed(x.Kind).Side) * x.Due.Minor()
				}
			}
		}
		paid, err := settlement.Paid(q, s.Payee)
		if err != nil {
			return err
		}
		charged, err := settlement.Charged(q, s.Payee)
		if err != nil {
			return err
		}
		b, err := m.House().Book.Balance(settlement.Payable(s.Payee))
		if err != nil {
			return err
		}
		if b.Posted.Sign() > 0 {
			return differs("%s is not paid %s at the end", s.ID, b.Posted)
		}
		got := paid.Add(charged).Add(b.Posted)
		if want := money.Fen(gave + m.disputed[s.Payee]); got != want {
			return differs("%s gave goods of %s; it was paid %s, charged %s and has %s", s.ID, want, paid, charged, b.Posted)
		}
	}
	return nil
}

// Sum adds the market to a hash of a run: terminals, facts and institutions.
func (m *Market) Sum(sum hash.Hash) {
	for _, t := range m.Tills() {
		fmt.Fprintf(sum, "terminal %s %s %s\n", t.ID, t.TID, t.MID)
		for _, k := range t.keys() {
			f := t.facts[k]
			// The reference number itself counts commits, which a store may need more of.
			fmt.Fprintf(sum, "%d/%d %d %d %v %v %v\n", k.batch, k.stan, f.Kind, f.Fen, f.Undone, f.Gone, f.RRN != "")
		}
	}
	for _, i := range m.Institutions() {
		fmt.Fprintf(sum, "institution %s %d\n", i.Name, i.paid())
	}
}
