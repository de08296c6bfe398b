package switching

import (
	"context"
	"errors"

	"koala/internal/db"
	"koala/issuing"
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
	case w.stan == 0 || w.batch == 0 || w.batch > w.next.batch:
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
			return w.forestall(tx, reason)
		}
		if err != nil {
			return err
		}
		w.txn = &t
		switch {
		case t.Kind != w.kind.Name || t.Amount.Minor() != w.fen && w.fen != 0:
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
		if err := requeue(tx, &t, queueReversal, ""); err != nil {
			return err
		}
		if err := t.update(tx, was); err != nil {
			return err
		}
		return tell(tx, "sale.reversed", &t)
	})
	var r refusal
	if errors.As(err, &r) {
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
	switch w.kind.act {
	case actPay:
		if t.State == Cleared {
			return domain(giveBack(tx, t, "reversal:"+t.RRN, issuing.KindReversal, t.Due.Sub(t.Refunded), t.Due.Sub(t.Refunded)))
		}
		return domain(release(tx, t))
	case actVoid, actComplete:
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
	if o.Host == "" {
		if err := issuing.Rehold(tx, o.Card, o.Counter); err != nil {
			return err
		}
	}
	o.State = Approved
	return o.update(tx, was)
}

// wasBooked marks a void whose original was the shop's already.
const wasBooked = "booked"
