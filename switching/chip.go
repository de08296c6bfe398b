package switching

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/refund"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/switching/telling"
)

// clearing reads field 55 as the record of an approval that it is.
func (w *work) clearing(kind pboc.ClearingKind) (c pboc.Clearing, ok bool) {
	c = pboc.Clearing{Kind: kind, PAN: string(w.number), TID: w.next.tid, MID: w.s.place.MID, Serial: "00000000", Batch: uint32(w.batch), STAN: uint32(w.stan)}
	if psn := w.in.Get(23); len(psn) == 3 {
		c.PSN = byte(number(psn))
	}
	if v, err := hex.DecodeString(w.in.Text(12)); err == nil && len(v) == 3 {
		c.Time = [3]byte(v)
	}
	var amount, other, currency, country [6]byte
	got := 0
	for in := w.in.Get(55); len(in) > 0; {
		tag, v, after, err := tlv.Next(in)
		if err != nil {
			return c, false
		}
		in = after
		switch tag {
		case emv.TagAC:
			got += copy(c.AC[:], v)
		case emv.TagIAD:
			c.IAD = v
		case emv.TagATC:
			if len(v) == 2 {
				c.ATC = binary.BigEndian.Uint16(v)
			}
		case emv.TagAIP:
			got += copy(c.AIP[:], v)
		case emv.TagUN:
			got += copy(c.UN[:], v)
		case emv.TagTVR:
			got += copy(c.TVR[:], v)
		case emv.TagType:
			c.Type = first(v)
		case emv.TagAmount:
			got += copy(amount[:], v)
		case emv.TagAmountOther:
			copy(other[:], v)
		case emv.TagCurrency:
			got += copy(currency[:], v)
		case emv.TagTerminalCountry:
			got += copy(country[:], v)
		case emv.TagDate:
			got += copy(c.Date[:], v)
		case emv.TagTime:
			copy(c.Time[:], v)
		case emv.TagCapabilities:
			copy(c.Capabilities[:], v)
		case emv.TagCVMResults:
			copy(c.CVMResults[:], v)
		case emv.TagDFName:
			c.AID = v
		case emv.TagDeviceSerial:
			c.Serial = string(v)
		case emv.TagProduct:
			c.Product = v
		case emv.TagECIssuerCode:
			c.IssuerCode = v
		case emv.TagPSN:
			if len(v) == 1 {
				c.PSN = v[0]>>4*10 + v[0]&15
			}
		}
	}
	fen, err1 := pboc.ParseAmount(amount[:])
	more, err2 := pboc.ParseAmount(other[:])
	c.Fen, c.Other = fen, more
	c.Currency, c.Country = bcd3(currency[:2]), bcd3(country[:2])
	const whole = 8 + 2 + 4 + 5 + 6 + 2 + 2 + 3
	return c, got == whole && errors.Join(err1, err2) == nil && int64(c.Fen) == w.fen && c.Validate() == nil
}

// bcd3 reads three digits out of two bytes.
func bcd3(v []byte) uint16 {
	return uint16(v[0]&15)*100 + uint16(v[1]>>4)*10 + uint16(v[1]&15)
}

// tap books what a card paid offline.
func (h *Host) tap(ctx context.Context, w *work) (string, error) {
	c, ok := w.clearing(pboc.ClearSale)
	if !ok {
		w.bad = 55
		return "30", nil
	}
	w.route.Class = "ecash"
	if w.route.Host != "" {
		return h.tapAbroad(ctx, w)
	}
	k, err := h.bank.Check(ctx, c, settlement.Payable(w.s.place.Shop))
	if err != nil {
		return "", err
	}
	var fate issuing.Fate
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		t := w.begin(tx)
		t.Card, t.Counter, t.Auth = k.Card(), int(c.ATC), ""
		var flaw issuing.Flaw
		if fate, flaw, err = issuing.ClearTC(tx, k); err != nil {
			return err
		}
		t.Why = string(flaw)
		switch fate {
		case issuing.Cleared:
			t.State = Cleared
		case issuing.Known:
			t.State, t.Why = Noted, "the bank has booked it before"
		}
		if err := t.insert(tx); err != nil {
			return err
		}
		return tell(tx, "sale.collected", t)
	})
	code, err := h.ended(ctx, w, "00", err)
	if err == nil && fate == issuing.Cleared {
		err = h.bank.RetryCard(ctx, k.Card())
	}
	return code, err
}

// tapBack gives back part or all of what a card paid offline, to its account: as
// often as there is something left, any day. The card's data, where the terminal
// still has them, have to be those of the payment.
func (h *Host) tapBack(ctx context.Context, w *work) (string, error) {
	var o Txn
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		o, err = h.originalOf(q, w)
		return err
	})
	if err == nil && w.chip.here && w.chip.atc != o.Counter {
		err = refuse("25", "the card's data are another payment's")
	}
	if err == nil {
		w.adopt(&o)
		err = h.unit(ctx, w, func(tx *db.Tx) error { return w.tapReturned(tx, o.RRN) })
	}
	return h.ended(ctx, w, "00", err)
}

// tapReturned is the unit of tapBack.
func (w *work) tapReturned(tx *db.Tx, rrn string) error {
	o, err := txnOf(tx, rrn)
	switch {
	case err != nil:
		return err
	case o.State != Cleared: // it waits for what is missing at the bank
		return refuse("12", "the tap is "+string(o.State))
	case o.Left().Sign() <= 0:
		return refuse("12", "the tap was given back before")
	case w.fen > o.Left().Minor():
		return refuse("64", "more than is left of the tap")
	}
	t := w.begin(tx)
	t.Card, t.Counter, t.Original, t.Masked, t.State, t.Auth = o.Card, o.Counter, o.RRN, o.Masked, Cleared, ""
	if ref := "refund:" + t.RRN; o.Host == "" {
		err = refund.Offline(tx, refund.Part{Ref: ref, Card: o.Card, Counter: o.Counter, Payee: settlement.Payable(o.Shop), Amount: t.Amount})
	} else {
		err = giveBack(tx, &o, ref, issuing.KindReturned, t.Amount, o.Left())
	}
	if err != nil {
		return domain(err)
	}
	o.Refunded = o.Refunded.Add(t.Amount)
	if err := o.update(tx, Cleared); err != nil {
		return err
	}
	if err := t.put(tx); err != nil {
		return err
	}
	return tell(tx, "sale.refunded", t)
}

// tapAbroad books a tap of another issuer's card: its host pays for it. The house
// has no key to prove the card's approval with, so what it takes on trust is
// bounded by shop and day.
func (h *Host) tapAbroad(ctx context.Context, w *work) (string, error) {
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		t := w.begin(tx)
		t.Counter = w.chip.atc
		var n int
		err := tx.QueryRow(`SELECT COUNT(*) FROM switching_txn WHERE kind = 'tap' AND token = $1 AND counter = $2 AND state = 'cleared'`,
			t.Token, t.Counter).Scan(&n)
		switch {
		case err != nil:
			return err
		case n > 0:
			t.State, t.Why = Noted, "the same tap was booked before"
		default:
			if err = w.trust(tx, t); err == nil {
				err = book(tx, t, 100)
			}
			t.State = Cleared
		}
		if err == nil {
			err = t.put(tx)
		}
		if err == nil {
			err = tell(tx, "sale.collected", t)
		}
		return err
	})
	return h.ended(ctx, w, "00", err)
}

// takeChip keeps a chip item of a closed batch; an offline approval that has
// not come yet is booked, a payment for nothing goes back to the holder.
func (h *Host) takeChip(ctx context.Context, w *work, stan int) (string, error) {
	m := &w.in
	w.kind, w.stan = kindNames["tap"], stan
	if err := h.read(ctx, w); err != nil || w.bad != 0 {
		return "30", err
	}
	code := "00"
	var err error
	if w.token, err = h.keys.Token(ctx, string(w.number)); err != nil {
		return "", err
	}
	w.route, _ = h.table.Load().Of(string(w.number))
	if w.net == "203" && string(m.Get(60)[:2]) == w.kind.Type {
		if code, err = h.repeated(ctx, w); err == nil && code == "" {
			code, err = h.tap(ctx, w)
		}
		if err != nil || code != "00" {
			return code, err
		}
	}
	var failed *issuing.Checked
	if w.net == "204" && w.route.Host == "" { // another issuer's host was never asked for it
		c, ok := w.clearing(pboc.ClearReversal)
		if !ok {
			w.bad = 55
			return "30", nil
		}
		k, err := h.bank.Check(ctx, c, settlement.Payable(w.s.place.Shop))
		if err != nil {
			return "", err
		}
		failed = &k
	}
	it := item{kind: string(m.Get(60)[:2]), stan: stan, token: w.token, masked: w.masked(), fen: w.fen}
	w.txn = nil
	var fate issuing.Fate
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		if failed != nil {
			fate, err = w.clearFailed(tx, *failed)
		}
		return errors.Join(err, keepItem(tx, w, it, w.net, m.Get(55)))
	})
	if err == nil && fate == issuing.Cleared {
		err = h.bank.RetryCard(ctx, failed.Card())
	}
	return code, err
}

// load puts money onto an e-cash card of the house, or undoes that.
func (h *Host) load(ctx context.Context, w *work) (string, error) {
	if w.kind.act == actUnload {
		return h.undoLoad(ctx, w)
	}
	var payer *issuing.Prepared
	if !w.chip.here || !w.asks() {
		w.bad = 55
		return "30", nil
	}
	o := issuing.Online{EMV: w.chip.raw, Text: w.s.place.Name}
	if w.kind.Name == "load.other" {
		number, err := pan.Parse(strings.TrimRight(w.in.Text(62), " "))
		if err != nil {
			w.bad = 62
			return "30", nil
		}
		paying := w.number
		w.number = number
		w.readChip(w.in.Get(55)) // the chip is the other card's
		w.number, o.EMV = paying, w.chip.raw
	}
	if r, ok := h.table.Load().Of(string(w.number)); !ok || r.Host != "" {
		return h.refused(ctx, w, "57", "not a card of the house")
	}
	pin, code, err := h.pinBlock(ctx, w, hsm.LabelZone)
	if err != nil {
		return "", err
	}
	if code != "" {
		return h.refused(ctx, w, code, "PIN block")
	}
	if w.kind.Name != "load.other" {
		o.PIN = pin
	}
	p, err := h.bank.Prepare(ctx, o)
	if err == nil && w.kind.Name == "load.other" {
		var x issuing.Prepared
		x, err = h.bank.Prepare(ctx, issuing.Online{Track: w.track, Number: string(w.number), Expiry: w.expiry, Voice: w.track == "", PIN: pin, Fen: money.Fen(w.fen),
			Payee: p.Account(), Text: "e-cash load", AtOnce: true})
		payer = &x
	}
	if err != nil {
		return "", err
	}
	var d issuing.Decided
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		t := w.begin(tx)
		if err := h.fund(tx, w, t, p, payer); err != nil {
			return err
		}
		if d, err = h.bank.Decide(tx, p); err != nil {
			return err
		}
		switch funded := w.kind.Name != "load"; { // what funded it goes back with the unit
		case funded && d.Replayed:
			return refuse("94", "the card's counter was used before")
		case funded && d.Why != issuing.Approval:
			return refuse(d.Why.Code(), string(d.Why))
		}
		return h.answered(tx, w, t, d)
	})
	if err != nil {
		return h.loadRefused(ctx, w, err, p, payer)
	}
	if !d.Replayed {
		w.field55, err = h.bank.Reply(ctx, p, d)
	}
	return w.txn.Code, err
}

// fund brings the money of a load to the account that it is taken from: cash
// that the shop took, or what another card pays.
func (h *Host) fund(tx *db.Tx, w *work, t *Txn, p issuing.Prepared, payer *issuing.Prepared) error {
	switch {
	case w.kind.Name == "load.cash":
		if p.Account() == "" {
			return nil // the bank knows no such card and says so
		}
		return h.cash(tx, t, "cash:"+t.RRN, settlement.Payable(t.Shop), p.Account(), t.Amount.Neg())
	case payer != nil:
		d, err := h.bank.Decide(tx, *payer)
		if err != nil {
			return err
		}
		switch {
		case d.Replayed:
			return refuse("94", "the payer's card said this before")
		case d.Why != issuing.Approval:
			return refuse(d.Why.Code(), string(d.Why))
		}
		_, err = issuing.Book(tx, d.Card, d.Counter, t.Amount, 100)
		t.Plan = string(d.Card)
		return domain(err)
	}
	return nil
}

// cash books cash that a shop took or gave out: it owes what it took.
func (h *Host) cash(tx *db.Tx, t *Txn, ref string, from, to ledger.AccountID, item money.Amount) error {
	e := ledger.Move(ref, from, to, t.Amount)
	e.Kind, e.Text = "card.cash", "cash for an e-cash load"
	if _, err := ledger.Post(tx, e); err != nil {
		return domain(err)
	}
	return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: t.Shop, Amount: item, At: tx.Now(), Kind: "cash"})
}

// undoLoad takes a cash load back whose script never reached the card.
func (h *Host) undoLoad(ctx context.Context, w *work) (string, error) {
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		o, err := h.originalOf(tx, w)
		if err == nil {
			err = w.check(&o)
		}
		if err != nil {
			return err
		}
		was := o.State
		t := w.begin(tx)
		t.Card, t.Counter, t.Original, t.Masked, t.Token = o.Card, o.Counter, o.RRN, o.Masked, o.Token
		if err := domain(h.unwind(tx, &o)); err != nil {
			return err
		}
		t.State, o.State = Cleared, Voided
		if err := o.update(tx, was); err != nil {
			return err
		}
		if err := t.insert(tx); err != nil {
			return err
		}
		return tell(tx, "load.undone", t)
	})
	return h.ended(ctx, w, "00", err)
}

// unwind ends a load that did not reach the card, and gives back what funded it.
func (h *Host) unwind(tx *db.Tx, t *Txn) error {
	l, err := issuing.LoadAt(tx, t.Card, t.Counter)
	if err != nil {
		return err
	}
	if l.State == issuing.LoadPaid {
		return refuse("12", "the card has it")
	}
	if err := issuing.UndoLoad(tx, t.Card, t.Counter); err != nil {
		return err
	}
	if t.Kind != "load.cash" {
		return nil // another card's money stays on the linked account
	}
	from, err := issuing.AccountOf(tx, t.Card)
	if err != nil {
		return err
	}
	return h.cash(tx, t, "cash-back:"+t.RRN, from, settlement.Payable(t.Shop), t.Amount)
}

// unload undoes a load that the terminal takes back. It had no answer, or the
// script failed before the card took it; otherwise the card itself has to say.
func (w *work) unload(tx *db.Tx, t *Txn, reason string) error {
	script := object(w.in.Get(55), tagScriptResult)
	if reason == "06" && (len(script) == 0 || script[0]>>4 == 2) {
		return refuse("12", "the card may have it: its next transaction tells")
	}
	return w.h.unwind(tx, t)
}

// notice takes what became of an issuer's script.
func (h *Host) notice(ctx context.Context, w *work) (string, error) {
	f61 := w.in.Get(61)
	script := object(w.in.Get(55), tagScriptResult)
	if len(f61) < 12 || len(script) == 0 {
		w.bad = 61
		return "30", nil
	}
	var told []byte
	var o Txn
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		o, err = txnAt(q, w.next.tid, number(f61[:6]), number(f61[6:12]))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return "25", h.unit(ctx, w, nil)
	}
	if err == nil && o.Host != "" {
		w.adopt(&o)
		w.fen, w.chip.here = o.Amount.Minor(), true
		told, _, err = h.template(ctx, w, "0620", &o)
	}
	if err != nil {
		return "", err
	}
	w.stan = 0
	ran := script[0]>>4 == 2
	return "00", h.unit(ctx, w, func(tx *db.Tx) error {
		o, err := txnOf(tx, o.RRN)
		if err != nil {
			return err
		}
		if told != nil {
			_, err := h.enqueue(tx, &o, telling.Notice, told)
			return err
		}
		k := kindNames[o.Kind]
		if k.act != actLoad || o.State != Approved || !ran {
			return nil
		}
		l, err := issuing.LoadAt(tx, o.Card, o.Counter)
		if err == nil {
			_, err = issuing.ReportScript(tx, l.ID, iso7816.OK)
		}
		if err == nil {
			o.State = Cleared
			err = o.update(tx, Approved)
		}
		if err != nil {
			return err
		}
		return tell(tx, "load.confirmed", &o)
	})
}
