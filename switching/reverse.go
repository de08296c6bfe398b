package switching

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
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
	var err error
	switch {
	case o.scanned():
		err = wallet.HoldAgain(tx, o.RRN)
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
		if _, err := w.h.enqueue(tx, t, queueAdvice, told); err != nil {
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
	case t.Host == "":
		moved, err = issuing.Book(tx, t.Card, t.Counter, t.Due, percent)
	default:
		e := ledger.Move("sale:"+t.RRN, Receivable(t.Host), settlement.Payable(t.Shop), t.Due)
		e.Kind, e.Text = "card.foreign", "card of another issuer"
		if err = openReceivable(tx, t.Host); err == nil {
			_, err = ledger.Post(tx, e)
		}
	}
	if err != nil || !moved { // a clearing record came before: its item stands
		return err
	}
	return settlement.Capture(tx, settlement.Item{Ref: "sale:" + t.RRN, Payee: t.Shop, Amount: t.Due, At: t.At, Kind: "sale", Card: fee.Class(t.Class), Issuer: t.Host})
}

// clearTxn makes an approved transaction's money the shop's.
func clearTxn(tx *db.Tx, t *Txn) error {
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
	case o.Host == "":
		err = issuing.GiveBack(tx, o.Card, o.Counter, ref, kind, fen)
	default:
		e := ledger.Move(ref, settlement.Payable(o.Shop), Receivable(o.Host), fen)
		e.Kind, e.Text = "card.foreign_back", "card of another issuer"
		_, err = ledger.Post(tx, e)
	}
	if err != nil {
		return err
	}
	what := "refund"
	if kind == issuing.KindReversal {
		what = "reversal"
	}
	return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: o.Shop, Amount: fen.Neg(), At: tx.Now(), Kind: what, Card: fee.Class(o.Class), Issuer: o.Host,
		SaleAt: o.At, Remains: remains})
}

// release gives an approval up that was not booked.
func release(tx *db.Tx, o *Txn) error {
	switch {
	case o.scanned():
		return wallet.ReleasePayment(tx, o.RRN)
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
	return issuing.Raise(tx, o.Card, o.Counter, ref, by)
}

// codeClass is the fee class of payments by code: a wallet is money that was
// paid in before, as a prepaid card's is.
const codeClass = "prepaid"

// scanned says that a sale was paid by code out of a wallet of the house.
func (t *Txn) scanned() bool {
	return t.Kind == "sale" && t.Host == "" && t.Card == "" && len(t.Entry) == 3 && t.Entry[:2] == "03"
}

// payer finds whose payment code was scanned.
func (h *Host) payer(ctx context.Context, w *work) (string, error) {
	var who customer.ID
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		who, err = wallet.PayerOf(q, w.code, w.now)
		return err
	})
	w.route = Route{Class: codeClass}
	if err == nil {
		w.token, err = h.keys.Token(ctx, "wallet:"+string(who))
		return "", err
	}
	var r refusal
	if err = domain(err); errors.As(err, &r) {
		return h.refused(ctx, w, r.code, r.why)
	}
	return "", err
}

// byCode holds a payment on the wallet of the customer who showed a code. The
// code is used up by the unit that keeps the approval; after a refusal it is
// good for what is left of its minute.
func (h *Host) byCode(ctx context.Context, w *work) (string, error) {
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		t := w.begin(tx)
		t.Masked = w.code[:6] + strings.Repeat("*", len(w.code)-10) + w.code[len(w.code)-4:]
		err := w.room(tx)
		if err == nil {
			_, err = wallet.PayByCode(tx, wallet.Payment{Ref: t.RRN, Code: w.code, Payee: settlement.Payable(t.Shop), Amount: t.Amount, Text: w.s.place.Name})
		}
		if err != nil {
			return domain(err)
		}
		if err := errors.Join(t.insert(tx), w.keepJudged(tx, t)); err != nil {
			return err
		}
		return tell(tx, "sale.approved", t)
	})
	var r refusal
	if errors.As(err, &r) {
		return h.refused(ctx, w, r.code, r.why)
	}
	return "00", err
}
