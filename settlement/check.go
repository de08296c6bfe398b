package settlement

import (
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/ledger"
	"koala/settlement/split"
)

// Check proves, payee by payee, that every item is in one closing and no
// closing has another, prices all of them again, and follows what was kept and
// reserved from closing to closing. It lists what is wrong.
func Check(q db.Reader) (wrong []string, err error) {
	for s := (span{once: true}); ; {
		all, err := payeesOf(q, s)
		if err != nil || len(all) == 0 {
			parts, err2 := split.Check(q)
			return orphans(q, append(wrong, parts...), errors.Join(err, err2))
		}
		first, last := all[0].p.id, all[len(all)-1].p.id
		terms, err := termsAmong(q, first, last)
		if err != nil {
			return wrong, err
		}
		for i := range all {
			w, err := checkPayee(q, &all[i].p, terms[all[i].p.id])
			if err != nil {
				return wrong, err
			}
			wrong = append(wrong, w...)
		}
		s.after = last
	}
}

// orphans finds items and closings of payees that are not there.
func orphans(q db.Reader, wrong []string, err error) ([]string, error) {
	if err != nil {
		return wrong, err
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var what, payee string
		err := scan(&what, &payee)
		wrong = append(wrong, fmt.Sprintf("%s of payee %s, who is not there", what, payee))
		return err
	}, `SELECT 'capture' AS what, i.payee FROM settlement_item i LEFT JOIN settlement_payee p ON p.payee = i.payee WHERE p.payee IS NULL GROUP BY i.payee
		UNION ALL SELECT 'payout', o.payee FROM settlement_payout o LEFT JOIN settlement_payee p ON p.payee = o.payee WHERE p.payee IS NULL GROUP BY o.payee
		ORDER BY 1, 2`)
	return wrong, err
}

// checkPayee follows one payee from its first closing.
func checkPayee(q db.Reader, p *payee, terms []Terms) (wrong []string, err error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	pr := newPricer(q)
	pr.of(terms)
	at, kept, reserve := int64(0), int64(0), int64(0)
	some, err := inOrder(q, `payee = $1`, p.id)
	if err != nil {
		return wrong, err
	}
	for i := range some {
		o := &some[i]
		if o.after != at || o.upto < at {
			say("payout %s of %s has captures %d to %d, the one before ended at %d", o.ID, p.id, o.after, o.upto, at)
		}
		at = o.upto
		kept += o.Kept.Minor() - o.Brought.Minor() + o.Undone.Minor()
		if o.State == Returned {
			kept += o.Amount.Minor()
		}
		reserve += o.Reserved.Minor() - o.Released.Minor()
		w, err := checkPayout(q, o, pr)
		if err != nil {
			return wrong, err
		}
		wrong = append(wrong, w...)
	}
	if at != p.mark {
		say("payee %s is settled up to capture %d, its payouts up to %d", p.id, p.mark, at)
	}
	if kept != p.kept || reserve != p.reserve {
		say("payee %s has %d fen kept and %d reserved, its payouts say %d and %d", p.id, p.kept, p.reserve, kept, reserve)
	}
	var rows, held, stopped int64
	err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_reserve WHERE payee = $1`, p.id).Scan(&rows)
	if err == nil {
		err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT), COUNT(CASE WHEN fen = 0 THEN 1 END) FROM settlement_hold WHERE payee = $1 AND ended = 0`, p.id).Scan(&held, &stopped)
	}
	if rows != p.reserve || held != p.held || stopped != p.stopped {
		say("payee %s has a reserve of %d fen, holds of %d fen and %d of everything; their rows say %d, %d and %d", p.id, p.reserve, p.held, p.stopped, rows, held, stopped)
	}
	return wrong, err
}

// checkPayout adds a payout's items up and prices them again.
func checkPayout(q db.Reader, o *Payout, pr *pricer) (wrong []string, err error) {
	var s tally
	for at, n := o.after, pageItems; n == pageItems; {
		n = 0
		err := db.Each(q, func(scan func(...any) error) error {
			var r row
			if err := r.scan(scan); err != nil {
				return err
			}
			n, at = n+1, r.seq
			f, err := pr.price(&r)
			s.add(&r, f)
			return err
		}, `SELECT `+itemColumns+` FROM settlement_item WHERE payee = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4`, o.Payee, at, o.upto, pageItems)
		if err != nil {
			return nil, err
		}
	}
	if int(s.n) != o.Count || s.gross != o.Gross.Minor() || s.refunds != o.Refunds.Minor() || s.chargebacks != o.Chargebacks.Minor() {
		wrong = append(wrong, fmt.Sprintf("payout %s says %d captures, %d and %d fen taken back, its captures are %d, %d and %d fen taken back: %d against %d earned",
			o.ID, o.Count, o.Refunds.Minor(), o.Chargebacks.Minor(), s.n, s.refunds, s.chargebacks, o.Gross.Minor(), s.gross))
	}
	if s.fee != o.Fee || o.Fee.Issuer+o.Fee.Network+o.Fee.Acquirer != o.Fee.Fee {
		wrong = append(wrong, fmt.Sprintf("payout %s has fees %v, its captures priced again %v", o.ID, o.Fee, s.fee))
	}
	left := o.Brought.Minor() + o.Gross.Minor() + o.Refunds.Minor() + o.Chargebacks.Minor() - o.Fee.Fee - o.Reserved.Minor() + o.Released.Minor() - o.Advance.Minor()
	if left != o.Amount.Minor()+o.Kept.Minor() || o.Amount.Sign() < 0 {
		wrong = append(wrong, fmt.Sprintf("payout %s leaves %d fen, and pays %s and keeps %s", o.ID, left, o.Amount, o.Kept))
	}
	return wrong, nil
}

// CheckBooks proves that what stands on each payee's account in the books is
// its items that wait, what is kept and what is reserved.
func CheckBooks(tx *db.Tx) (wrong []string, err error) {
	err = db.Each(tx, func(scan func(...any) error) error {
		var id string
		var waits int64
		if err := scan(&id, &waits); err != nil {
			return err
		}
		b, err := ledger.BalanceOf(tx, Payable(id))
		if err == nil && b.Posted.Minor() != waits {
			wrong = append(wrong, fmt.Sprintf("payee account %s holds %s, what waits for it is %d fen", Payable(id), b.Posted, waits))
		}
		return err
	}, `SELECT p.payee, CAST(COALESCE(SUM(i.fen), 0) AS BIGINT) + p.kept + p.reserve
		FROM settlement_payee p LEFT JOIN settlement_item i ON i.payee = p.payee AND i.seq > p.mark
		GROUP BY p.payee, p.kept, p.reserve ORDER BY p.payee`)
	return wrong, err
}
