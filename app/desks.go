package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"koala/dispute"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/reconcile"
	"koala/settlement"
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

// watchDesks has what follows from disputes and closings follow in their units.
func (h *House) watchDesks() {
	dispute.Watch(h.Store, disputeTakes)
	dispute.Collect(h.Store, issuing.TakeBack)
	settlement.Watch(h.Store, payAgents)
}

// disputeTakes tells the switch what disputes take of a sale, so that nobody
// refunds it again. More than refunds have left is no claim.
func disputeTakes(tx *db.Tx, rrn string, taken money.Amount) error {
	err := switching.Dispute(tx, rrn, taken)
	switch {
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

// payAgents accrues commissions: what the house keeps of the fees of each
// closing, by the day of the sale, has parts of the agents who brought the shop.
// What a refund gives back of a fee they give back; a chargeback gives back no
// fee.
func payAgents(tx *db.Tx, closed []settlement.Payout) error {
	first, last := closed[0].Payee, closed[0].Payee
	for _, p := range closed {
		first, last = min(first, p.Payee), max(last, p.Payee)
	}
	brought, err := merchant.Brought(tx, first, last)
	if err != nil {
		return err
	}
	for _, p := range closed {
		if !brought[p.Payee] {
			continue
		}
		keeps, err := settlement.Keeps(tx, p)
		if err != nil {
			return err
		}
		for _, k := range keeps {
			if _, err := merchant.Earn(tx, p.ID+":"+k.Day.String(), p.Payee, k.Day, money.Fen(k.Fen)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Schema is what the house itself keeps: what it has carried over from stores of
// before a domain watched another.
var Schema = db.Schema{Owner: "app", Steps: []string{
	// What disputes take of sales, for stores whose switch did not know it.
	`CREATE TABLE app_carried (
		what TEXT PRIMARY KEY,
		upto TEXT NOT NULL);         -- id of the last one that was seen; empty: all were
	UPDATE switching_txn SET disputed = (SELECT SUM(c.fen) FROM dispute_case c
		WHERE c.rrn = switching_txn.rrn AND (c.moves % 2 = 1 OR c.state IN ('represented', 'arbitration')))
	WHERE state = 'cleared' AND rrn IN (SELECT c.rrn FROM dispute_case c WHERE c.moves % 2 = 1 OR c.state IN ('represented', 'arbitration'))`,
}}

// oldClosings is what app_carried calls the closings of which agents were not
// told.
const oldClosings = "closings"

// carryClosings has agents paid for the closings of before closings were
// watched, newest first, a page of them in a unit that also keeps how far it
// came. What the watch told is younger than the table that it writes to.
func (h *House) carryClosings(ctx context.Context) error {
	for more := true; more; {
		err := h.Store.Write(ctx, func(tx *db.Tx) (err error) {
			more, err = carryPage(tx)
			return err
		})
		if err != nil {
			return fmt.Errorf("agents' parts of old closings: %w", err)
		}
	}
	return nil
}

func carryPage(tx *db.Tx) (more bool, err error) {
	at, known := "", true
	err = tx.QueryRow(`SELECT upto FROM app_carried WHERE what = $1`, oldClosings).Scan(&at)
	if errors.Is(err, db.ErrNoRows) {
		known, err = false, nil
	}
	if err != nil || known && at == "" {
		return false, err
	}
	step := 1 + slices.IndexFunc(merchant.Schema.Steps, func(s string) bool { return strings.Contains(s, "CREATE TABLE merchant_fee") })
	var watched int64
	if err := tx.QueryRow(`SELECT at FROM db_schema WHERE owner = $1 AND step = $2`, merchant.Schema.Owner, step).Scan(&watched); err != nil {
		return false, err
	}
	list, err := settlement.Closings(tx, "", at, deskChunk)
	if err != nil {
		return false, err
	}
	more, at = len(list) == deskChunk, ""
	if more {
		at = list[len(list)-1].ID
	}
	list = slices.DeleteFunc(list, func(p settlement.Payout) bool { return !p.At.Before(time.UnixMicro(watched)) })
	if len(list) > 0 {
		err = payAgents(tx, list)
	}
	if err == nil {
		_, err = tx.Exec(`INSERT INTO app_carried (what, upto) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET upto = excluded.upto`, oldClosings, at)
	}
	return more, err
}
