package switching

import (
	"context"
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/issuing/points"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/switching/telling"
	"koala/wallet"
)

// reverse takes back what a terminal does not know the end of. Whatever comes
// to be, the answer is the same however often it is asked: undone, or never
// there (00), or not to be undone (12).
func (h *Host) reverse(ctx context.Context, w *work) (code string, err error) {
	m := &w.in
	w.kind = kindOf(nil, m.Get(3), m.Get(25), rest(m.Get(60), 0, 2))
	reason := m.Text(39)
	switch {
	case w.kind == nil || w.kind.advice || w.kind.act == actTap:
		return "40", nil
	case w.stan == 0 || w.batch == 0:
		w.bad = 11
		return "30", nil
	case w.again:
		return "A7", nil
	}
	w.fen, w.hash = int64(number(m.Get(4))), ""
	err = h.unit(ctx, w, func(tx *db.Tx) error {
		code = "00"
		t, err := txnAt(tx, w.next.tid, w.batch, w.stan)
		if errors.Is(err, ErrNotFound) {
			if err = w.openedBatch(tx); err == nil {
				err = w.forestall(tx, reason)
			}
			return err
		}
		same := false
		if err == nil {
			same, err = h.meant(ctx, w, &t)
		}
		if err != nil {
			return err
		}
		w.txn = &t
		switch {
		case !same:
			code, w.txn = "25", nil
			return nil
		case t.State != Approved && t.State != Cleared && t.State != Voided && t.State != Completed:
			return nil // nothing of it stands
		case t.State == Voided || t.State == Completed || w.batch != w.next.batch || w.next.closed:
			code = "12"
			return nil
		}
		was := t.State
		if err := w.undo(tx, &t, reason); err != nil {
			return err
		}
		t.Why = "reversed by the terminal: " + reason
		t.State = Reversed
		if err := requeue(tx, &t, telling.Reversal, ""); err != nil {
			return err
		}
		if err := t.update(tx, was); err != nil {
			return err
		}
		return tell(tx, "sale.reversed", &t)
	})
	var r refusal
	if errors.As(err, &r) {
		if r.code == "30" {
			w.bad = 11
		}
		w.note("reversal refused: %s", r.why)
		return r.code, h.unit(ctx, w, nil)
	}
	if w.txn != nil { // the answer names the transaction, not its authorisation
		shown := *w.txn
		shown.Auth = ""
		w.txn = &shown
	}
	return code, err
}

// openedBatch refuses a batch that the terminal has not had: its traces are not
// to be used up in advance.
func (w *work) openedBatch(tx *db.Tx) error {
	if w.batch == w.next.batch {
		return nil
	}
	known, err := hasBatch(tx, w.next.tid, w.batch)
	if err == nil && !known {
		err = refuse("30", "there was no such batch")
	}
	return err
}

// forestall writes down that what is reversed never came: should it come later,
// it is refused.
func (w *work) forestall(tx *db.Tx, reason string) error {
	t := w.begin(tx)
	t.State, t.Code, t.Why, t.Auth = Reversed, "12", "reversed before it came: "+reason, ""
	if err := t.put(tx); err != nil {
		return err
	}
	return tell(tx, "sale.reversed", t)
}

// undo takes back what t has done.
func (w *work) undo(tx *db.Tx, t *Txn, reason string) error {
	back := !t.Refunded.IsZero() || !t.Disputed.IsZero()
	switch w.kind.act {
	case actPay:
		if t.State == Cleared {
			return domain(giveBackRest(tx, t))
		}
		return domain(release(tx, t))
	case actVoid, actComplete:
		if back && w.kind.act == actComplete {
			return refuse("12", "part of it was given back before")
		}
		o, err := txnOf(tx, t.Original)
		if err != nil {
			return err
		}
		return domain(w.restore(tx, t, &o))
	case actLoad:
		return domain(w.unload(tx, t, reason))
	}
	return refuse("12", "a "+t.Kind+" is not reversed")
}

// giveBackRest takes a booked payment back as far as its holder has not got it
// back. Another issuer's host takes a whole payment back or none.
func giveBackRest(tx *db.Tx, t *Txn) error {
	left := t.Left()
	if left.Sign() <= 0 || left != t.Due && t.Host != "" {
		return fmt.Errorf("transaction %s, %s of it given back: %w", t.RRN, t.Due.Sub(left), ErrState)
	}
	return giveBack(tx, t, "reversal:"+t.RRN, issuing.KindReversal, left, left)
}

// Dispute sets how much of a booked sale its holder has by disputes: it cannot be
// refunded again. A dispute that the shop wins sets it lower. ErrTooMuch: it would
// be more than is left beside refunds.
func Dispute(tx *db.Tx, rrn string, amount money.Amount) error {
	t, err := txnOf(tx, rrn)
	has := t.Due.Sub(t.Refunded)
	if err == nil && t.Host == "" && t.Card != "" && !t.byPoints() { // a record may have taken it back at the bank
		has, err = issuing.Has(tx, t.Card, t.Counter, settlement.Payable(t.Shop))
	}
	switch {
	case err != nil:
	case t.State != Cleared || amount.Sign() < 0 || t.byPoints() && !amount.IsZero(): // of points there is nothing to have back but by a refund
		err = ErrState
	case amount.Cmp(t.Disputed) > 0 && amount.Minor() > min(has.Minor(), t.Due.Sub(t.Refunded).Minor()):
		err = ErrTooMuch
	default:
		t.Disputed = amount
		err = t.update(tx, Cleared)
	}
	if err != nil {
		return fmt.Errorf("dispute of %s: %w", rrn, err)
	}
	return nil
}

// Disputed reads the transactions of which holders have something by disputes,
// by reference number, from the one after the given.
func Disputed(q db.Reader, after string, limit int) ([]Txn, error) {
	return txns(q, `rrn > $1 AND disputed <> 0 ORDER BY rrn LIMIT $2`, after, min(max(limit, 1), maxPage))
}

// restore brings the original back to where it was before a void, a cancel or a
// completion that is taken back.
func (w *work) restore(tx *db.Tx, t, o *Txn) error {
	was := o.State
	if w.kind.act == actComplete {
		if err := giveBack(tx, t, "reversal:"+t.RRN, issuing.KindReversal, t.Due, t.Due); err != nil {
			return err
		}
	}
	if t.extra == wasBooked || !was.May(Approved) {
		return refuse("12", "the original was booked before")
	}
	var err error
	switch {
	case o.scanned():
		err = wallet.HoldAgain(tx, o.RRN)
	case o.byPoints():
		err = points.Again(tx, o.RRN)
	case o.Host == "":
		err = issuing.Rehold(tx, o.Card, o.Counter)
	}
	if err != nil {
		return err
	}
	o.State = Approved
	return o.update(tx, was)
}

// wasBooked marks a void whose original was the shop's already.
const wasBooked = "booked"

// What can go wrong with a refund that no terminal asks for.
var (
	ErrTooMuch = fail.Define(fail.Refused, "switching.too_much", "this is more than is left of the sale")
	ErrDiffers = fail.Define(fail.Conflict, "switching.differs", "this refund was asked for before with other content")
)

// A GiveBack is a refund that a shop's people ask for at the house, without a
// terminal and without the card.
type GiveBack struct {
	RRN    string // of the sale
	Shop   string // whose sale it must be
	Amount money.Amount
	Key    string                       // idempotency key of the caller, any text
	Also   func(tx *db.Tx, t Txn) error // done in the same unit, the first time only; may be nil
}

// GiveBack refunds part of a sale as a terminal's refund does: once for each
// key. Its row stands under the sale's terminal in batch 0, which no terminal
// has, so it is in no settlement's totals.
func (h *Host) GiveBack(ctx context.Context, g GiveBack) (out Txn, err error) {
	wrap := func(err error) (Txn, error) { return Txn{}, fmt.Errorf("refund of %s: %w", g.RRN, err) }
	var o Txn
	err = h.store.Read(ctx, func(q *db.Query) (err error) {
		o, err = txnOf(q, g.RRN)
		return err
	})
	if err == nil && o.Shop != g.Shop {
		err = ErrNotFound
	}
	if err != nil {
		return wrap(err)
	}
	w := &work{h: h, s: &session{place: Place{TID: o.TID, MID: o.MID, Shop: o.Shop}}, now: h.store.Now(), next: terminalRow{tid: o.TID}}
	w.kind, w.fen, w.hash = KindNamed("refund"), g.Amount.Minor(), hashOf([]byte("console "+g.Key))
	w.adopt(&o)
	var told []byte
	if o.Host != "" {
		w.in.Reset(h.spec, "0220")
		for n, v := range map[int]string{3: w.kind.Process, 4: fmt.Sprintf("%012d", w.fen), 22: "012", 25: w.kind.Point, 41: o.TID, 42: o.MID, 49: "156"} {
			w.in.SetText(n, v)
		}
		if told, err = h.advice(ctx, w, &o); err != nil {
			return wrap(err)
		}
	}
	err = h.store.Write(ctx, func(tx *db.Tx) (err error) {
		out, err = w.giveBack(tx, g, told)
		return err
	})
	var r refusal
	switch {
	case errors.As(err, &r) && r.code == "64":
		err = ErrTooMuch
	case errors.As(err, &r):
		err = ErrState
	}
	if err != nil {
		return wrap(err)
	}
	return out, nil
}

// giveBack is the unit of GiveBack.
func (w *work) giveBack(tx *db.Tx, g GiveBack, told []byte) (Txn, error) {
	known, err := scanTxn(tx.QueryRow(`SELECT `+txnColumns+` FROM switching_txn WHERE tid = $1 AND batch = 0 AND hash = $2`, w.next.tid, w.hash).Scan)
	if err == nil {
		if known.Original != g.RRN || known.Amount != g.Amount {
			err = ErrDiffers
		}
		return known, err
	}
	if !errors.Is(err, ErrNotFound) {
		return Txn{}, err
	}
	o, err := txnOf(tx, g.RRN)
	if err != nil {
		return Txn{}, err
	}
	if w.fen <= 0 || !w.kind.refersTo(o.Kind) {
		return Txn{}, ErrState
	}
	if err := w.check(&o); err != nil {
		return Txn{}, err
	}
	if err := tx.QueryRow(`SELECT COALESCE(MAX(stan), 0) + 1 FROM switching_txn WHERE tid = $1 AND batch = 0`, w.next.tid).Scan(&w.stan); err != nil {
		return Txn{}, err
	}
	t := w.begin(tx)
	if err := w.apply(tx, t, &o); err != nil {
		return Txn{}, err
	}
	if told != nil {
		if _, err := w.h.enqueue(tx, t, telling.Advice, told); err != nil {
			return Txn{}, err
		}
	}
	if err := t.put(tx); err != nil {
		return Txn{}, err
	}
	if g.Also != nil {
		if err := g.Also(tx, *t); err != nil {
			return Txn{}, err
		}
	}
	return *t, tell(tx, "sale.refunded", t)
}

// book moves what a transaction is due to its shop: the hold of an own card, or
// what an issuer's host owes.
func book(tx *db.Tx, t *Txn, percent int64) error {
	moved := true
	var err error
	switch {
	case t.scanned():
		moved, err = wallet.BookPayment(tx, t.RRN, t.Due, percent)
	case t.Host == "" && !t.byPoints():
		moved, err = issuing.Book(tx, t.Card, t.Counter, t.Due, percent)
	default:
		from, kind, text := t.debtor()
		e := ledger.Move("sale:"+t.RRN, from, settlement.Payable(t.Shop), t.Due)
		e.Kind, e.Text = kind, text
		if err = openDebtor(tx, t); err == nil {
			_, err = ledger.Post(tx, e)
		}
	}
	if err != nil || !moved { // a clearing record came before: its item stands
		return err
	}
	return settlement.Capture(tx, settlement.Item{Ref: "sale:" + t.RRN, Payee: t.Shop, Amount: t.Due, At: t.At, Kind: "sale", Card: t.FeeClass(), Issuer: t.Host})
}

// clearTxn makes an approved transaction's money the shop's.
func clearTxn(tx *db.Tx, t *Txn) error {
	if t.Kind == "offline" && t.Host != "" { // its issuer first
		if waits, err := t.waits(tx); err != nil || waits {
			return errors.Join(err, ErrState)
		}
	}
	if err := book(tx, t, adjustPercent); err != nil {
		return err
	}
	t.State = Cleared
	if err := t.update(tx, Approved); err != nil {
		return err
	}
	return tell(tx, "sale.cleared", t)
}

// giveBack moves part of a booked transaction back to where it came from.
func giveBack(tx *db.Tx, o *Txn, ref, kind string, fen, remains money.Amount) error {
	var err error
	switch {
	case o.scanned():
		err = wallet.ReturnPayment(tx, o.RRN, ref, kind == issuing.KindReturned, fen)
	case o.Host == "" && !o.byPoints():
		err = issuing.GiveBack(tx, o.Card, o.Counter, ref, kind, fen)
	default:
		to, kind, text := o.debtor()
		e := ledger.Move(ref, settlement.Payable(o.Shop), to, fen)
		e.Kind, e.Text = kind+"_back", text
		if _, err = ledger.Post(tx, e); err == nil && o.byPoints() {
			err = points.GiveBack(tx, o.RRN, fen.Minor())
		}
	}
	if err != nil {
		return err
	}
	what := "refund"
	if kind == issuing.KindReversal {
		what = "reversal"
	}
	return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: o.Shop, Amount: fen.Neg(), At: tx.Now(), Kind: what, Card: o.FeeClass(), Issuer: o.Host,
		SaleAt: o.At, Remains: remains, Sale: "sale:" + o.RRN})
}

// release gives an approval up that was not booked.
func release(tx *db.Tx, o *Txn) error {
	switch {
	case o.scanned():
		return wallet.ReleasePayment(tx, o.RRN)
	case o.byPoints():
		return points.Release(tx, o.RRN)
	case o.Host != "" || o.Card == "":
		return nil
	}
	return issuing.Release(tx, o.Card, o.Counter)
}

// raise makes an approval that was not booked one of a larger amount. Another
// issuer's host is told when it is.
func raise(tx *db.Tx, o *Txn, ref string, by money.Amount) error {
	switch {
	case o.scanned():
		return wallet.RaisePayment(tx, o.RRN, ref, by)
	case o.Host != "":
		return nil
	}
	return issuing.Raise(tx, o.Card, o.Counter, ref, o.Due.Add(by))
}

// Resolve ends a case: a payment that the terminal does not know, or of which its
// issuer would not hear, is booked, or given up, whether or not it was booked
// meanwhile; of the others only the decision is kept.
func Resolve(tx *db.Tx, id string, pay bool, by, note string) error {
	var d Difference
	var decided, theirs int64
	err := tx.QueryRow(`SELECT rrn, what, decided, theirs FROM switching_difference WHERE id = $1`, id).Scan(&d.RRN, &d.What, &decided, &theirs)
	d.Theirs = money.Fen(theirs)
	switch {
	case errors.Is(err, db.ErrNoRows):
		err = ErrNotFound
	case err == nil && decided != 0:
		err = ErrState
	case err == nil && d.What == MissingAtTerminal, err == nil && d.What == DeclinedAdvice:
		err = settleCase(tx, d, pay)
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE switching_difference SET decided = $2, by_whom = $3, note = $4 WHERE id = $1`, id, tx.Now().UnixMicro(), by, note)
	}
	if err != nil {
		return fmt.Errorf("difference %s: %w", id, err)
	}
	return nil
}

// settleCase does with a payment what was decided. Where nothing of it stands
// any more it can only be given up.
func settleCase(tx *db.Tx, d Difference, pay bool) error {
	t, err := txnOf(tx, d.RRN)
	if err != nil {
		return err
	}
	if k := kindNames[t.Kind]; k.act != actPay && k.act != actComplete {
		return nil
	}
	was := t.State
	switch standing := was == Approved || was == Cleared; {
	case pay && was == Approved:
		return clearTxn(tx, &t)
	case pay && was == Cleared, !pay && !standing && was != Sent:
		return nil
	case !standing:
		return ErrState
	case d.What == DeclinedAdvice && (!t.StandIn || d.Theirs.Sign() > 0) && t.Due.Sub(t.Amount).Sign() > 0:
		return withoutTip(tx, &t)
	case was == Cleared:
		err = giveBackRest(tx, &t)
	default:
		err = release(tx, &t)
	}
	if err != nil {
		return err
	}
	if t.Why = "its issuer would not hear of it"; d.What == MissingAtTerminal {
		t.Why = "the terminal did not know it"
		if err := requeue(tx, &t, telling.Reversal, ""); err != nil {
			return err
		}
	}
	t.State = Reversed
	if err := t.update(tx, was); err != nil {
		return err
	}
	return tell(tx, "sale.reversed", &t)
}

// withoutTip makes a sale the shop's without what was added to it afterwards.
func withoutTip(tx *db.Tx, t *Txn) error {
	if t.State == Approved {
		t.Due = t.Amount
		return clearTxn(tx, t)
	}
	more := t.Due.Sub(t.Amount)
	if more.Minor() > t.Left().Minor() {
		return ErrState
	}
	if err := giveBack(tx, t, "declined:"+t.RRN, issuing.KindReversal, more, t.Left()); err != nil {
		return err
	}
	t.Refunded = t.Refunded.Add(more)
	return t.update(tx, Cleared)
}
