package app

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"koala/dispute"
	"koala/internal/db"
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
