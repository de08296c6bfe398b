package switching

import (
	"context"
	"errors"
	"strings"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/points"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/switching/field"
	"koala/switching/route"
	"koala/switching/telling"
	"koala/wallet"
)

// A refusal is a code that ends a unit: nothing of it stays, and the refusal is
// written down in a unit of its own.
type refusal struct{ code, why string }

// Error says the reason; it never leaves the package.
func (r refusal) Error() string { return "switching: refused " + r.code + " " + r.why }

func refuse(code, why string) error { return refusal{code, why} }

// transact answers a transaction.
func (h *Host) transact(ctx context.Context, w *work) (code string, err error) {
	m := &w.in
	w.kind = kindOf([]byte(m.MTI()), m.Get(3), m.Get(25), rest(m.Get(60), 0, 2))
	if w.kind == nil {
		return "40", nil
	}
	if err := h.read(ctx, w); err != nil || w.bad != 0 {
		return "30", err
	}
	if code, err := h.repeated(ctx, w); code != "" || err != nil {
		return code, err
	}
	switch p := w.s.place; {
	case w.again:
		return "A7", nil
	case len(m.Head()) == 11 && m.Head()[7]>>4 == 1: // a terminal in training moves no money
		return "58", nil
	case w.batch != w.next.batch, w.next.closed, w.s.full(w.fen):
		return "95", nil
	case w.kind.act == actRefund && w.number == "" && !strings.HasPrefix(m.Text(22), "03"):
		w.bad = 2
		return "30", nil
	case !p.Open && w.kind.act != actTap && (!w.kind.advice || w.kind.act == actRefund):
		return h.refused(ctx, w, "58", "the terminal, its shop or its merchant is closed")
	}
	if code, err := h.lead(ctx, w); code != "" || err != nil {
		return code, err
	}
	switch w.kind.act {
	case actAsk, actPay:
		return h.pay(ctx, w)
	case actTap:
		return h.tap(ctx, w)
	case actTapBack:
		return h.tapBack(ctx, w)
	case actLoad, actUnload:
		return h.load(ctx, w)
	}
	return h.follow(ctx, w)
}

// repeated answers a trace that was used before in its batch: the same message
// with the answer of then, another one with a refusal.
func (h *Host) repeated(ctx context.Context, w *work) (code string, err error) {
	if w.batch == w.next.batch && w.stan > w.s.top {
		return "", nil
	}
	var t Txn
	err = h.store.Read(ctx, func(q *db.Query) error {
		t, err = txnAt(q, w.next.tid, w.batch, w.stan)
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case t.hash == "": // it was reversed before it came
		return "12", h.unit(ctx, w, nil)
	case t.hash != w.hash:
		return "94", h.unit(ctx, w, nil)
	}
	if w.txn = &t; t.State == Reversed { // the answer of then would be an approval
		t.Auth = ""
		return "12", h.unit(ctx, w, nil)
	}
	w.field55 = t.reply
	switch t.Kind {
	case "balance":
		w.field54 = t.extra
	case "instalment":
		w.field62 = []byte(t.extra)
	}
	if t.State == Sent {
		t.Auth = ""
		return "98", nil
	}
	if t.Host == "" && w.chip.here && t.Counter >= 0 && t.Code != "94" {
		return t.Code, h.replay(ctx, w, &t)
	}
	return t.Code, nil
}

// replay makes the issuer's data for the chip again: the same as then.
func (h *Host) replay(ctx context.Context, w *work, t *Txn) error {
	var d issuing.Decided
	p, err := h.bank.Prepare(ctx, issuing.Online{EMV: w.chip.raw})
	if err != nil || p.Card() == "" {
		return err
	}
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		d, err = h.bank.Decide(tx, p)
		return err
	})
	if err == nil && d.Replayed {
		w.field55, err = h.bank.Reply(ctx, p, d)
	}
	return err
}

// ended gives the code of what ended so: what refused it is written down, any
// other error stays one.
func (h *Host) ended(ctx context.Context, w *work, code string, err error) (string, error) {
	var r refusal
	if errors.As(err, &r) {
		return h.refused(ctx, w, r.code, r.why)
	}
	if err != nil {
		return "", err
	}
	return code, nil
}

// refused writes a refusal down and gives its code.
func (h *Host) refused(ctx context.Context, w *work, code, why string) (string, error) {
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		t := w.begin(tx)
		t.decline(code, why)
		if err := errors.Join(t.insert(tx), w.keepJudged(tx, t)); err != nil {
			return err
		}
		return tell(tx, "sale.declined", t)
	})
	return code, err
}

// lead finds who decides about the card.
func (h *Host) lead(ctx context.Context, w *work) (code string, err error) {
	if w.code != "" {
		return h.payer(ctx, w)
	}
	if w.number == "" {
		return "", nil
	}
	var ok bool
	if w.route, ok = h.table.Load().Of(string(w.number)); !ok && w.kind.card && len(w.kind.Of) == 0 {
		return h.refused(ctx, w, "15", "no route for this card")
	}
	w.token, err = h.keys.Token(ctx, string(w.number))
	return "", err
}

// pay has the issuer asked for a payment, or for a balance.
func (h *Host) pay(ctx context.Context, w *work) (string, error) {
	entry := w.in.Text(22)
	switch {
	case w.fallback():
		return h.refused(ctx, w, "45", "the chip was not tried")
	case strings.HasPrefix(entry, "05") && !w.chip.here, strings.HasPrefix(entry, "07") && !w.chip.here:
		w.bad = 55
		return "30", nil
	case w.chip.here && w.kind.act == actPay && !w.asks():
		w.bad = 55
		return "30", nil
	case w.kind.Name == "offline" && len(w.in.Get(38)) != 6:
		w.bad = 38
		return "30", nil
	case w.kind.Name == "instalment" && !w.plan():
		w.bad = 62
		return "30", nil
	}
	if w.kind.act == actPay {
		if why := w.barred(); why != "" {
			return h.refused(ctx, w, "58", why)
		}
		if h.judge(w, nil); w.judged.Code != "" && !w.kind.advice {
			return h.refused(ctx, w, w.judged.Code, w.judged.Why)
		}
	}
	switch {
	case w.code != "":
		return h.byCode(ctx, w)
	case w.route.Host != "":
		return h.foreign(ctx, w, nil)
	}
	return h.house(ctx, w)
}

// barred says what the house does not let this shop do, empty when it may.
func (w *work) barred() string {
	b, p := w.s.place.Barred, w.s.place
	switch offline := w.kind.Name == "offline"; {
	case offline && b.Offline:
		return "the merchant may not sell offline"
	case offline && p.Floor > 0 && w.fen > p.Floor && w.route.Host != "": // our own bank holds the money
		return "above what the shop may sell offline"
	case !offline && b.Keyed && !w.chip.here && w.track == "" && w.number != "":
		return "the merchant may not key card numbers"
	case b.PreAuth && w.kind.Name == "preauth":
		return "the merchant may not hold amounts"
	case b.Credit && w.route.Class == "credit":
		return "no credit cards at this terminal"
	}
	return ""
}

// online is the request as the house's own bank takes it.
func (h *Host) online(ctx context.Context, w *work) (o issuing.Online, code string, err error) {
	o = issuing.Online{Fen: money.Fen(w.fen), Payee: settlement.Payable(w.s.place.Shop), Text: w.s.place.Name}
	switch {
	case w.chip.here:
		o.EMV = w.chip.raw
	case w.track != "":
		o.Track = w.track
	default:
		o.Number, o.Expiry = string(w.number), w.expiry
	}
	switch w.kind.Name {
	case "balance":
		o.Type = issuing.TypeInquiry
	case "preauth":
		o.Type, o.Life = issuing.TypePreauth, preauthLife
	}
	o.PIN, code, err = h.pinBlock(ctx, w, hsm.LabelZone)
	return o, code, err
}

// house has the house's own bank decide, in the unit that keeps the answer.
func (h *Host) house(ctx context.Context, w *work) (code string, err error) {
	switch {
	case w.kind.Name == "offline":
		return h.byVoice(ctx, w)
	case w.kind.Name == "instalment" && w.route.Class != "credit":
		return h.refused(ctx, w, "57", "the card does not offer this")
	}
	o, code, err := h.online(ctx, w)
	if err != nil {
		return "", err
	}
	if code != "" {
		return h.refused(ctx, w, code, "PIN block")
	}
	p, err := h.prepare(ctx, w, o)
	if err != nil {
		return "", err
	}
	var d issuing.Decided
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		t := w.begin(tx)
		if w.kind.act == actPay {
			err = w.room(tx)
		}
		if err == nil {
			d, err = h.decide(tx, w, t, p)
		}
		if err != nil {
			return err
		}
		return h.answered(tx, w, t, d)
	})
	if code, err := h.ended(ctx, w, "", err); code != "" || err != nil {
		return code, err
	}
	if w.kind.act == actAsk {
		w.field54 = w.txn.extra
	}
	if !d.Replayed {
		w.field55, err = h.bank.Reply(ctx, p, d)
	}
	return w.txn.Code, err
}

// answered keeps what the house's bank has decided.
func (h *Host) answered(tx *db.Tx, w *work, t *Txn, d issuing.Decided) error {
	t.Card, t.Counter = d.Card, d.Counter
	name := "sale.approved"
	switch {
	case d.Replayed: // the cryptogram asked before, under another trace
		t.decline("94", "the card's counter was used before")
		t.Counter = -1
	case d.Why != issuing.Approval:
		t.decline(d.Why.Code(), string(d.Why))
	case w.kind.act == actAsk:
		b, err := ledger.BalanceOf(tx, ledger.AccountID(d.Account))
		if err != nil {
			return err
		}
		t.State, t.extra = Noted, field.Balance(b.Available)
		name = "balance.asked"
	case w.kind.Name == "instalment":
		t.Plan, t.extra = string(w.in.Get(62)), string(w.field62)
	}
	if t.State == Declined {
		w.field62, name = nil, "sale.declined"
	}
	if err := errors.Join(t.insert(tx), w.keepJudged(tx, t)); err != nil {
		return err
	}
	return tell(tx, name, t)
}

// originalOf finds what a message refers to: by field 61 here, or by field 37 in the shop.
func (h *Host) originalOf(q db.Reader, w *work) (o Txn, err error) {
	f61, f37, f38 := w.in.Get(61), w.in.Text(37), w.in.Text(38)
	switch {
	case f37 != "" && (w.kind.act == actRefund || w.kind.act == actTapBack || len(f61) < 12):
		o, err = txnOf(q, f37)
	case len(f61) >= 12:
		o, err = txnAt(q, w.next.tid, number(f61[:6]), number(f61[6:12]))
	default:
		err = refuse("30", "no reference to the original")
	}
	if errors.Is(err, ErrNotFound) {
		return o, refuse("25", "the original was not found")
	}
	if err != nil {
		return o, err
	}
	same := o.TID == w.next.tid && o.Batch == w.batch
	switch k := w.kind; {
	case o.Shop != w.s.place.Shop, f37 != "" && f37 != o.RRN, f38 != "" && f38 != o.Auth, w.number != "" && w.token != o.Token, w.number == "" && k.card && !o.scanned():
		return o, refuse("25", "the original is another one")
	case !k.refersTo(o.Kind):
		return o, refuse("40", "a "+o.Kind+" has no "+k.Name)
	case !same && (k.act == actVoid && k.Name != "preauth.cancel" || k.act == actAdjust || k.act == actUnload):
		return o, refuse("25", "the original is not of this batch")
	}
	return o, nil
}

// follow does what changes an earlier transaction.
func (h *Host) follow(ctx context.Context, w *work) (string, error) {
	var o Txn
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		o, err = h.originalOf(q, w)
		return err
	})
	if err == nil {
		w.adopt(&o)
		h.judge(w, &o)
	}
	if err == nil && o.Host != "" && !w.kind.advice {
		if err = w.check(&o); err == nil {
			return h.foreign(ctx, w, &o)
		}
	}
	if err == nil {
		var told []byte
		if o.Host != "" {
			if told, err = h.advice(ctx, w, &o); err != nil {
				return "", err
			}
		}
		err = h.unit(ctx, w, func(tx *db.Tx) error {
			o, err := txnOf(tx, o.RRN)
			if err != nil {
				return err
			}
			if err := w.check(&o); err != nil {
				return err
			}
			t := w.begin(tx)
			if err := w.apply(tx, t, &o); err != nil {
				return err
			}
			if told != nil {
				if _, err := h.enqueue(tx, t, telling.Advice, told); err != nil {
					return err
				}
			}
			if err := errors.Join(t.insert(tx), w.keepJudged(tx, t)); err != nil {
				return err
			}
			return tell(tx, "sale."+happened[w.kind.act], t)
		})
	}
	return h.ended(ctx, w, "00", err)
}

// happened names events.
var happened = map[act]string{actVoid: "voided", actComplete: "completed", actRefund: "refunded", actAdjust: "adjusted", actPay: "approved", actAsk: "asked"}

// adopt has the message's row stand where its original stands.
func (w *work) adopt(o *Txn) {
	w.route = route.Route{Host: o.Host, Class: o.Class, Foreign: o.Foreign}
	w.token = o.Token
}

// check says whether the original allows what the message asks for.
func (w *work) check(o *Txn) error {
	left := o.Left().Minor()
	open := o.State == Approved || o.State == Cleared
	switch k := w.kind; {
	case k.act == actVoid && w.fen != o.Due.Minor(), k.act == actUnload && w.fen != o.Due.Minor():
		return refuse("64", "another amount than the original's")
	case k.act == actVoid && k.Name == "preauth.cancel" && o.State != Approved, !open, k.act == actVoid && o.Left() != o.Due:
		return refuse("12", "the original is "+string(o.State))
	case k.act == actComplete && (o.State != Approved || w.now.Sub(o.At) > preauthLife):
		return refuse("12", "the pre-authorisation is over")
	case k.act == actComplete && w.fen > o.Amount.Minor()*completionPercent/100:
		return refuse("61", "more than 115 % of the pre-authorisation")
	case k.act == actRefund && w.fen > left:
		return refuse("64", "more than is left of the sale")
	case k.Name == "tip" && w.s.place.Tips == 0:
		return refuse("58", "this shop takes no tips")
	case k.act == actAdjust && o.State != Approved:
		return refuse("12", "the sale is booked")
	case k.act == actAdjust && (w.fen > o.Amount.Minor()*adjustPercent/100 || k.Name == "tip" && w.fen < o.Amount.Minor()):
		return refuse("61", "beyond what an adjustment may be")
	}
	return nil
}

// How far an amount may go beyond what was approved, per cent.
const (
	completionPercent = 115
	adjustPercent     = 120
)

// apply books what the message asks of its original, at the house.
func (w *work) apply(tx *db.Tx, t, o *Txn) error {
	was := o.State
	t.Card, t.Counter, t.Original, t.Masked, t.Plan = o.Card, o.Counter, o.RRN, o.Masked, o.Plan
	var err error
	switch w.kind.act {
	case actVoid:
		if was == Approved {
			err = release(tx, o)
		} else {
			t.extra = wasBooked
			err = giveBack(tx, o, "void:"+t.RRN, issuing.KindReversal, o.Due, o.Due)
		}
		o.State, t.State = Voided, Cleared
	case actComplete:
		o.State, t.State = Completed, Approved
		if err = book(tx, t, completionPercent); err == nil {
			t.State = Cleared
		}
	case actRefund:
		if was == Approved {
			if err = clearTxn(tx, o); err != nil {
				return domain(err)
			}
			was = Cleared
		}
		if err = giveBack(tx, o, "refund:"+t.RRN, issuing.KindReturned, t.Amount, o.Left()); err == nil {
			o.Refunded = o.Refunded.Add(t.Amount)
		}
		t.State = Cleared
	case actAdjust:
		if by := t.Amount.Sub(o.Due); by.Sign() > 0 {
			err = raise(tx, o, "tip:"+t.RRN, by)
		}
		o.Due, t.State = t.Amount, Noted
	}
	if err == nil {
		err = o.update(tx, was)
	}
	return domain(err)
}

// domain turns what the bank's books refuse into a refusal.
func domain(err error) error {
	switch {
	case errors.Is(err, ledger.ErrInsufficient), errors.Is(err, ledger.ErrVelocity), errors.Is(err, points.ErrTooFew):
		return refuse("51", "not enough money")
	case errors.Is(err, issuing.ErrAmount), errors.Is(err, wallet.ErrOverPaid), errors.Is(err, wallet.ErrOverOnce), errors.Is(err, wallet.ErrOverDay):
		return refuse("61", "more than was authorised")
	case errors.Is(err, issuing.ErrNoAuth), errors.Is(err, issuing.ErrState), errors.Is(err, ErrState),
		errors.Is(err, wallet.ErrPayment), errors.Is(err, wallet.ErrNoPayment):
		return refuse("12", "its state does not allow it")
	case errors.Is(err, wallet.ErrCode), errors.Is(err, wallet.ErrNoWallet):
		return refuse("14", "no such payment code")
	case errors.Is(err, wallet.ErrCodeOver):
		return refuse("54", "the payment code is used or over")
	}
	return err
}
