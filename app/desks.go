package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/reconcile"
	"koala/settlement"
	"koala/spec/pan"
	"koala/switching"
	"koala/wallet"
)

// fourEyes is from how much on two people sign at the reconciliation desk, fen
// (house rule).
const fourEyes = 50_00

// openDesks makes the custody bank and the issuers' hosts that the switch can
// reach known to settlement and to the reconciliation desk.
func (h *House) openDesks(tx *db.Tx) error {
	err := reconcile.Join(tx, reconcile.Host{Name: reconcile.BankDesk, Bank: wallet.Custody, FourEyes: fourEyes})
	if err == nil { // nothing is booked there, so two people sign whatever it is
		err = reconcile.Join(tx, reconcile.Host{Name: reconcile.ECashDesk, Bank: wallet.Custody})
	}
	for _, name := range slices.Sorted(maps.Keys(h.Config.Peers)) {
		if err == nil {
			err = settlement.OpenIssuer(tx, name, "owed to "+name)
		}
		if err == nil {
			err = reconcile.Join(tx, reconcile.Host{Name: name, Receivable: switching.Receivable(name), Fees: settlement.IssuerAccount(name), Network: settlement.Network,
				Bank: ledger.AccountID(wallet.Custody), CutOff: switching.CutOff, DueDays: 1, FourEyes: fourEyes})
		}
	}
	return err
}

// cardClass is the kind of a card by the published ranges, as the switch's routes
// have it; empty where they do not know.
func cardClass(p pan.PAN) string {
	b, _ := bin.Of(p)
	return map[string]string{"DC": "debit", "CC": "credit", "SCC": "credit", "PC": "prepaid"}[b.Type]
}

// watchDesks has what follows from disputes and closings follow in their units.
func (h *House) watchDesks() {
	dispute.Watch(h.Store, disputeTakes)
	dispute.Collect(h.Store, issuing.TakeBack)
	settlement.Watch(h.Store, payAgents)
}

// disputeTakes tells the switch what disputes take of a sale, so that nobody
// refunds it again, and has agents give back their parts of it. More than refunds
// have left is no claim.
func disputeTakes(tx *db.Tx, rrn string, taken money.Amount) error {
	sale, err := switching.Transaction(tx, rrn)
	if err == nil {
		err = switching.Dispute(tx, rrn, taken)
	}
	switch {
	case err == nil:
		return agentsOf(tx, sale, taken)
	case errors.Is(err, switching.ErrNotFound): // the sale of another office
		return nil
	case errors.Is(err, switching.ErrState) && taken.IsZero(): // undone meanwhile: nothing is taken of nothing
		return nil
	case errors.Is(err, switching.ErrTooMuch), errors.Is(err, switching.ErrState):
		return fmt.Errorf("%w: %w", dispute.ErrClaim, err)
	}
	return err
}

// checkTaken proves that the switch knows of each booked sale what disputes take
// of it, no more and no less, and that so much is left beside refunds: else it
// would be given back twice.
func checkTaken(tx *db.Tx, wrong *[]string) error {
	takes := map[string]int64{}
	for after := ""; ; {
		list, err := dispute.Takes(tx, after, deskChunk)
		if err != nil {
			return err
		}
		for _, x := range list {
			after, takes[x.RRN] = x.RRN, x.Fen
		}
		if len(list) < deskChunk {
			break
		}
	}
	knows := func(t switching.Txn) {
		if has, is := t.Disputed.Minor(), takes[t.RRN]; has != is && t.State == switching.Cleared {
			*wrong = append(*wrong, fmt.Sprintf("sale %s: its disputes take %d fen, the switch has %d of it", t.RRN, is, has))
		}
		if t.Left().Sign() < 0 && t.State == switching.Cleared {
			*wrong = append(*wrong, fmt.Sprintf("sale %s: %s and disputes of %s are more than %s", t.RRN, t.Refunded, t.Disputed, t.Due))
		}
		delete(takes, t.RRN)
	}
	for after := ""; ; {
		list, err := switching.Disputed(tx, after, deskChunk)
		if err != nil {
			return err
		}
		for _, t := range list {
			after = t.RRN
			knows(t)
		}
		if len(list) < deskChunk {
			break
		}
	}
	for _, rrn := range slices.Sorted(maps.Keys(takes)) { // of which the switch has nothing
		t, err := switching.Transaction(tx, rrn)
		if errors.Is(err, switching.ErrNotFound) { // the sale of another office
			continue
		}
		if err != nil {
			return err
		}
		knows(t)
	}
	return nil
}

// agentsOf has agents give back their parts of what disputes take of a sale now,
// beyond what they took before, or gives them again (docs/decisions/2026-12-01-agents-are-payees.md).
// The reference needs no more than to be new: the switch's row says what was
// taken before and changes in the same unit, so the same again is nothing.
func agentsOf(tx *db.Tx, sale switching.Txn, taken money.Amount) error {
	if sale.Disputed.Minor() == taken.Minor() {
		return nil
	}
	terms, err := settlement.AllTerms(tx, sale.Shop)
	if err != nil {
		return err
	}
	keeps := func(gone money.Amount) (int64, error) { // by the house, of the fee of what is left
		left := sale.Due.Sub(sale.Refunded).Sub(gone)
		if left.Sign() <= 0 {
			return 0, nil
		}
		f, _, err := settlement.Price(settlement.Item{Kind: "sale", Amount: left, At: sale.At, Card: sale.FeeClass()}, terms)
		return f.Acquirer, err
	}
	was, err := keeps(sale.Disputed)
	if err != nil {
		return err
	}
	is, err := keeps(taken)
	if err != nil || is == was {
		return err
	}
	err = merchant.Earn(tx, fmt.Sprintf("taken:%s:%d", sale.RRN, tx.NewSeq()), sale.Shop, calendar.Of(sale.At, calendar.Beijing), money.Fen(is-was))
	if errors.Is(err, merchant.ErrNotFound) { // the shop of an office without a register
		return nil
	}
	return err
}

// payAgents gives agents their commissions: of what the house keeps of the fees
// of each closing, by the day of the sale, the agents who brought the shop have
// parts. What a refund gives back of a fee they give back.
func payAgents(tx *db.Tx, closed []settlement.Payout) error {
	first, last := closed[0].Payee, closed[0].Payee
	for _, p := range closed {
		first, last = min(first, p.Payee), max(last, p.Payee)
	}
	brought, err := merchant.Brought(tx, first, last)
	if err != nil {
		return err
	}
	var charges []merchant.Charge
	for _, p := range closed {
		if !brought[p.Payee] {
			continue
		}
		keeps, err := settlement.Keeps(tx, p)
		if err != nil {
			return err
		}
		for _, k := range keeps {
			charges = append(charges, merchant.Charge{Ref: p.ID + ":" + k.Day.String(), Shop: p.Payee, Day: k.Day, Net: money.Fen(k.Fen)})
		}
	}
	return merchant.EarnAll(tx, charges)
}

// Schema is what the house itself keeps: how far it has carried over what stores
// of before have, from when a domain did not watch another yet.
var Schema = db.Schema{Owner: "app", Steps: []string{
	`CREATE TABLE app_carried (
		what TEXT PRIMARY KEY,
		upto TEXT NOT NULL)          -- id of the last one that was seen; empty: all were`,
}}

// A carrying goes over what an old store has, a page at a time: it says from
// where the next page goes on; empty: there is none.
type carrying func(tx *db.Tx, at string) (next string, err error)

// carryOver brings an old store up to what watches keep in newer ones, once. A
// page and how far it came are one unit.
func (h *House) carryOver(ctx context.Context) error {
	for _, x := range []struct {
		what string
		page carrying
	}{{"disputes", carryTaken}, {"closings", carryClosings}, {"agents", carryAgents}} {
		for more := true; more; {
			err := h.Store.Write(ctx, func(tx *db.Tx) (err error) {
				more, err = x.page.once(tx, x.what)
				return err
			})
			if err != nil {
				return fmt.Errorf("carrying %s over: %w", x.what, err)
			}
		}
	}
	return nil
}

func (c carrying) once(tx *db.Tx, what string) (more bool, err error) {
	at, begun := "", true
	err = tx.QueryRow(`SELECT upto FROM app_carried WHERE what = $1`, what).Scan(&at)
	if errors.Is(err, db.ErrNoRows) {
		begun, err = false, nil
	}
	if err != nil || begun && at == "" {
		return false, err
	}
	if at, err = c(tx, at); err == nil {
		_, err = tx.Exec(`INSERT INTO app_carried (what, upto) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET upto = excluded.upto`, what, at)
	}
	return at != "", err
}

// carryTaken tells the switch what disputes take, by sale. What was refunded
// beside a dispute, before anybody watched, stays as it is: see checkTaken.
func carryTaken(tx *db.Tx, at string) (next string, err error) {
	list, err := dispute.Takes(tx, at, deskChunk)
	for _, x := range list {
		if err != nil {
			return "", err
		}
		if err = disputeTakes(tx, x.RRN, money.Fen(x.Fen)); errors.Is(err, dispute.ErrClaim) {
			err = nil
		}
	}
	if len(list) == deskChunk {
		next = list[len(list)-1].RRN
	}
	return next, err
}

// carryClosings has agents paid for closings that they were not told of, newest
// first.
func carryClosings(tx *db.Tx, at string) (next string, err error) {
	list, err := settlement.Closings(tx, "", at, deskChunk)
	if err != nil || len(list) == 0 {
		return "", err
	}
	if len(list) == deskChunk {
		next = list[len(list)-1].ID
	}
	list = slices.DeleteFunc(list, func(p settlement.Payout) bool {
		told := false
		if err == nil {
			told, err = merchant.Accrued(tx, p.ID)
		}
		return told
	})
	if err == nil && len(list) > 0 {
		err = payAgents(tx, list)
	}
	return next, err
}

// carryAgents makes agents payees, with what they had accrued when nobody paid
// them.
func carryAgents(tx *db.Tx, at string) (next string, err error) {
	return merchant.OpenAgents(tx, at, deskChunk)
}

// findSales is the dispute desk's finder: the cleared sales that all of a trace
// fits.
func findSales(q db.Reader, t dispute.Trace) (out []dispute.Lead, err error) {
	var list []switching.Txn
	if t.RRN != "" {
		x, err := switching.Transaction(q, t.RRN)
		if errors.Is(err, switching.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	} else if list, err = soldOn(q, t.Day, t.Terminal); err != nil {
		return nil, err
	}
	for _, x := range list {
		k := switching.KindNamed(x.Kind)
		sold := k != nil && k.Side == switching.Debits && x.State == switching.Cleared // else the shop has no money of it
		if !sold || t.Tail != "" && t.Tail != dispute.Tail(x.Masked) || t.Terminal != "" && t.Terminal != x.TID || !t.Day.IsZero() && t.Day != calendar.Of(x.At, calendar.Beijing) ||
			t.Fen != 0 && t.Fen != x.Amount.Minor() && t.Fen != x.Due.Minor() {
			continue
		}
		counter := switching.Receivable(x.Host)
		if x.Host == "" && x.Card == "" { // paid by a wallet's code: there is no card to take it back for
			continue
		}
		if x.Host == "" {
			if counter, err = issuing.AccountOf(q, x.Card); err != nil {
				return nil, err
			}
		}
		out = append(out, dispute.Lead{Terminal: x.TID, Masked: x.Masked, Fen: x.Due.Minor(),
			Sale: dispute.Sale{RRN: x.RRN, Payee: x.Shop, Counter: counter, Issuer: x.Host, Class: x.Class, Amount: x.Due.Sub(x.Refunded), At: x.At}})
	}
	return out, nil
}

// Bounds of a search by day.
const (
	mostSold  = 100_000   // transactions looked through
	sideways  = time.Hour // how far the order of reference numbers may be from that of time
	reference = 60        // bits of a reference number, five a character
)

// soldOn reads the transactions of a day, Beijing, of one terminal or of all,
// newest first. Reference numbers rise with time, so the day's end is found by
// halving.
func soldOn(q db.Reader, day calendar.Date, tid string) (out []switching.Txn, err error) {
	from, to := day.Start(calendar.Beijing), day.AddDays(1).Start(calendar.Beijing)
	low, high := uint64(0), uint64(1)<<reference-1
	for low < high && err == nil {
		mid := low + (high-low)/2
		var last []switching.Txn
		last, err = switching.Live(q, switching.Filter{Before: referenceOf(mid), Limit: 1})
		if len(last) > 0 && !last[0].At.Before(to.Add(sideways)) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	for before := referenceOf(high); err == nil; {
		var list []switching.Txn
		list, err = switching.Live(q, switching.Filter{TID: tid, Before: before, Limit: deskChunk})
		for _, x := range list {
			before = x.RRN
			if x.At.Before(from.Add(-sideways)) {
				return out, err
			}
			if out = append(out, x); len(out) > mostSold {
				return nil, fmt.Errorf("sales of %s: %w", day, dispute.ErrBroad)
			}
		}
		if len(list) < deskChunk {
			return out, err
		}
	}
	return nil, err
}

// referenceOf writes a number as a reference number of the switch, which are in
// order as texts.
func referenceOf(n uint64) string {
	const signs = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [reference / 5]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i], n = signs[n%32], n/32
	}
	return string(b[:])
}
