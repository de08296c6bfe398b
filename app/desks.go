package app

import (
	"maps"
	"slices"

	"koala/internal/db"
	"koala/ledger"
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
