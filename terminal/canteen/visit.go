package canteen

import (
	"koala/spec/desfire"
	"koala/terminal"
)

// A visit is one card at the till.
type visit struct {
	t     *Till
	h     *desfire.Host
	o     Outcome
	stamp desfire.Stamp
	log   []desfire.Log // of the card, newest first
	value int32

	recovered *desfire.Sale // a sale in doubt that the card had paid after all
}

// begin identifies the card, authenticates it, reads value and log, and settles
// what is in doubt with it.
func (v *visit) begin() error {
	if err := stored(v.t.shelf.Room()); err != nil {
		return err
	}
	if err := v.h.Open(); err != nil {
		return because(NoCard, err)
	}
	version, err := v.h.Version()
	if err != nil {
		return because(NoCard, err)
	}
	v.o.Card = version.UID
	if err := v.h.Select(desfire.CanteenAID); err != nil {
		return because(NoPurse, err)
	}
	key := desfire.CardKey(v.t.cfg.Cards, version.UID, desfire.CanteenAID, desfire.CanteenSystem)
	if err := v.h.Authenticate(desfire.CanteenTill, key); err != nil {
		return because(NotGenuine, err)
	}
	if err := v.read(); err != nil {
		return err
	}
	if err := v.settle(); err != nil {
		return err
	}
	if _, denied := v.t.menu.Deny(version.UID); denied {
		return refuse(Denied)
	}
	return nil
}

// stored is the stop for a store without room; any other error is the till's own.
func stored(err error) error {
	if terminal.NoRoom(err) {
		return &stop{result: OutOfService, reason: StoreFull}
	}
	return err
}

// read takes value and log from the card. The settings say how many records
// there are: to read an empty file would end the session.
func (v *visit) read() error {
	var err error
	if v.value, err = v.h.Value(desfire.CanteenValue, desfire.Enciphered); err != nil {
		return because(CardRefused, err)
	}
	v.o.Balance = v.value
	f, err := v.h.FileSettings(desfire.CanteenLog)
	if err != nil || f.Now == 0 {
		return because(CardRefused, err)
	}
	records, err := v.h.ReadRecords(desfire.CanteenLog, 0, f.Now, desfire.LogLen, desfire.Enciphered)
	if err != nil {
		return because(CardRefused, err)
	}
	for i := len(records) - 1; i >= 0; i-- {
		l, err := desfire.ParseLog(records[i])
		if err != nil {
			return because(CardRefused, err)
		}
		v.log = append(v.log, l)
	}
	return nil
}

// settle asks the card's log how sales in doubt with this card ended.
func (v *visit) settle() error {
	doubts, err := v.t.Doubts()
	if err != nil {
		return err
	}
	for _, s := range doubts {
		if s.Card != v.o.Card {
			continue
		}
		paid, known := v.logged(s)
		if !known {
			continue // the log has moved on: the host must find out
		}
		if err := v.t.keep(s, paid); err != nil {
			return err
		}
		if paid {
			v.recovered = &s
		}
	}
	return nil
}

// logged says whether the card's log has a sale. What is older than everything
// in a full log may have been in it.
func (v *visit) logged(s desfire.Sale) (paid, known bool) {
	want := s.Log()
	for _, l := range v.log {
		if l == want {
			return true, true
		}
	}
	full := len(v.log) >= desfire.CanteenLogs-1
	if !full {
		return false, true
	}
	oldest := v.log[len(v.log)-1].At
	return false, string(oldest[:]) < string(s.At[:])
}

// sell takes fen from the card, less what the employer pays.
func (v *visit) sell(fen uint32, meal desfire.Meal) error {
	if v.t.menu.Version == 0 {
		return &stop{result: OutOfService, reason: NoMenu}
	}
	if r := v.recovered; r != nil && r.Kind == desfire.Purchase && r.Meal == meal.ID && r.Fen+r.Subsidy == fen && v.recent(r.At, false) {
		v.o.Result, v.o.Reason, v.o.Sale, v.o.Fen, v.o.Subsidy = Served, Recovered, r, r.Fen, r.Subsidy
		return nil
	}
	s := v.sale(desfire.Purchase)
	s.Meal, s.Fen = meal.ID, fen
	if meal.ID != 0 && !v.hadMeal(meal) {
		s.Subsidy = meal.Share(fen)
		s.Fen -= s.Subsidy
	}
	if int64(v.value) < int64(s.Fen) {
		return refuse(NoMoney)
	}
	s.After = v.value - int32(s.Fen)
	return v.move(s)
}

// recent says whether a stamp lies within the time of the same order again, or,
// for refunds, of the refund.
func (v *visit) recent(at desfire.Stamp, refund bool) bool {
	then, err := at.Moment()
	within := v.t.cfg.Again
	if refund {
		within = v.t.cfg.Refund
	}
	age := v.o.At.Sub(then)
	return err == nil && age < within && age > -within
}

// hadMeal says whether the card's log shows this meal of today as paid and not
// given back whole. A refund stands right after its purchase; other credits are
// top-ups.
func (v *visit) hadMeal(meal desfire.Meal) bool {
	for i := 0; i < len(v.log); i++ {
		l := v.log[i]
		switch {
		case l.Fen < 0 && i+1 < len(v.log) && v.log[i+1].Till == l.Till && v.log[i+1].Fen == -l.Fen:
			i++ // the purchase it gave back
		case l.Fen > 0 && meal.Holds(l.At, v.stamp):
			return true
		}
	}
	return false
}

func (v *visit) sale(kind desfire.SaleKind) desfire.Sale {
	return desfire.Sale{
		Card: v.o.Card, App: desfire.CanteenAID, Till: v.t.cfg.Till, Seq: v.t.nextSeq(), Kind: kind,
		Before: v.value, After: v.value, At: v.stamp,
	}
}

// refund gives back what the newest record of the card's log took here. The card
// itself allows no more than the last transaction took.
func (v *visit) refund(fen uint32) error {
	if r := v.recovered; r != nil && r.Kind == desfire.Refund && v.recent(r.At, false) {
		v.o.Result, v.o.Reason, v.o.Sale, v.o.Fen = Served, Recovered, r, r.Fen
		return nil
	}
	if len(v.log) == 0 || v.log[0].Fen <= 0 || v.log[0].Till != v.t.cfg.Till || !v.recent(v.log[0].At, true) {
		return refuse(NoPurchase)
	}
	last := v.log[0]
	if fen == 0 {
		fen = uint32(last.Fen)
	}
	if fen > uint32(last.Fen) {
		return refuse(BadAmount)
	}
	s := v.sale(desfire.Refund)
	s.Fen, s.After = fen, v.value+int32(fen)
	s.Of = s.Seq - 1 - uint32(uint16(s.Seq-1)-last.Seq) // the last number with that low half
	return v.move(s)
}

// move changes value and log in one commit. The intent is in the store before
// the card is told to commit; what fails before that has changed nothing.
func (v *visit) move(s desfire.Sale) error {
	if err := stored(v.t.shelf.Begin(s.Bytes())); err != nil {
		return err
	}
	err := v.prepare(s)
	if err != nil {
		return v.void(s, err)
	}
	if err = v.h.Commit(); err != nil {
		if _, refused := desfire.Refused(err); refused {
			return v.void(s, err)
		}
		return because(Torn, err) // nothing is known: the intent stays
	}
	if err := v.t.keep(s, true); err != nil {
		return err
	}
	v.o.Result, v.o.Fen, v.o.Subsidy, v.o.Balance = Served, s.Fen, s.Subsidy, s.After
	signed := s.Sign(v.t.cfg.Sales)
	v.o.Sale = &signed
	return nil
}

func (v *visit) prepare(s desfire.Sale) error {
	change := v.h.Debit
	if s.Kind == desfire.Refund {
		change = v.h.LimitedCredit
	}
	if err := change(desfire.CanteenValue, int32(s.Fen), desfire.Enciphered); err != nil {
		return err
	}
	return v.h.WriteRecord(desfire.CanteenLog, 0, s.Log().Bytes(), desfire.Enciphered)
}

// void ends a sale that changed nothing on the card.
func (v *visit) void(s desfire.Sale, why error) error {
	if err := v.t.keep(s, false); err != nil {
		return err
	}
	if st, ok := desfire.Refused(why); ok && st == desfire.Boundary {
		if s.Kind == desfire.Refund {
			return refuse(NoPurchase)
		}
		return refuse(NoMoney)
	}
	return because(CardRefused, why)
}
