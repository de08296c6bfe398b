package issuing

import (
	"errors"
	"fmt"
	"strconv"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/pboc"
)

// A Movement is money that went to a payee's account, or back from it, by a
// card's payment.
type Movement struct {
	Ref   string // of the ledger entry
	Card  CardID
	ATC   uint16
	Payee ledger.AccountID
	Fen   money.Amount // below zero: the payee gave it back
}

// Watch has f told of every movement of clearing, in the unit that makes it:
// records may book what others waited for, and doubts end by themselves, so the
// caller of Clear does not see them all. It is for all banks over the same store
// and set before they are used.
func (b *Bank) Watch(f func(*db.Tx, Movement) error) { b.store.Provide(watchKey{}, f) }

type watchKey struct{}

// tell hands a movement to whoever watches.
func tell(tx *db.Tx, m Movement) error {
	if f, ok := tx.Provided(watchKey{}).(func(*db.Tx, Movement) error); ok {
		return f(tx, m)
	}
	return nil
}

// Tell is tell for the packages below this one.
func Tell(tx *db.Tx, m Movement) error { return tell(tx, m) }

// authorised is what became of an online request at one counter.
type authorised struct {
	kind, state    string
	payee, account ledger.AccountID
	text, day      string
	fen, paid      int64
	again          int // how often it was taken up again after it had ended
}

// What an online request asked for.
const (
	askPay    = "pay"
	askLoad   = "load"
	askRefund = "refund"
	askOther  = "other" // nothing that moves money
)

// askOf sorts transaction types (tag 9C).
func askOf(typ byte) string {
	switch {
	case typ == TypePurchase:
		return askPay
	case typ == TypeRefund:
		return askRefund
	case typ >= TypeLoad && typ <= lastLoad:
		return askLoad
	}
	return askOther
}

func authAt(q db.Reader, id CardID, atc int) (a authorised, found bool, err error) {
	err = q.QueryRow(`SELECT a.kind, a.state, a.payee, a.text, a.day, a.fen, a.paid, a.again, b.account FROM issuing_auth a JOIN issuing_bank b ON b.card = a.card
		WHERE a.card = $1 AND a.atc = $2`, id, atc).Scan(&a.kind, &a.state, &a.payee, &a.text, &a.day, &a.fen, &a.paid, &a.again, &a.account)
	if errors.Is(err, db.ErrNoRows) {
		return a, false, q.Written("issuing_auth", id, atc)
	}
	return a, err == nil, err
}

// setAuth says what became of a request: come to nothing, it leaves the card's day.
func setAuth(tx *db.Tx, id CardID, atc int, state string, paid int64) error {
	_, err := tx.Exec(`UPDATE issuing_auth SET state = $3, paid = $4 WHERE card = $1 AND atc = $2`, id, atc, state, paid)
	if err != nil || state != authReleased && state != authReturned {
		return err
	}
	a, _, err := authAt(tx, id, atc)
	if err != nil || a.kind != askPay {
		return err
	}
	return recount(tx, id, a.day, -a.fen)
}

// Complete books an authorised payment, of fen or less than was authorised,
// and releases the rest: what a terminal does once the goods are given. The
// same again changes nothing.
func Complete(tx *db.Tx, id CardID, atc int, fen money.Amount) error {
	_, err := finish(tx, id, atc, authPaid, fen, 100)
	return err
}

// Release gives an authorised payment up.
func Release(tx *db.Tx, id CardID, counter int) error {
	_, err := finish(tx, id, counter, authReleased, money.Fen(0), 100)
	return err
}

// finish ends a hold one way or the other, of at most so many per cent of what
// was authorised. The hold is voided and the payment posted in the same unit, so
// that the statement names it for what it is.
func finish(tx *db.Tx, id CardID, atc int, to string, fen money.Amount, percent int64) (moved bool, err error) {
	a, found, err := authAt(tx, id, atc)
	switch {
	case err != nil:
	case !found || a.kind != askPay:
		err = ErrNoAuth
	case a.state == to:
		return false, nil
	case a.state != authHeld:
		err = ErrState
	case to == authPaid && (fen.Sign() <= 0 || fen.Minor() > a.fen*percent/100):
		err = ErrAmount
	}
	if err == nil {
		ref := holdRef(id, atc, a.again)
		_, err = ledger.Void(tx, ref, "end:"+ref)
		if errors.Is(err, ledger.ErrHoldEnded) {
			err = nil // its time was over; what is due is due all the same
		}
	}
	if err == nil && to == authPaid {
		e := ledger.Move(payRef(id, atc)+again(a.again), a.account, a.payee, fen)
		e.Kind, e.Text = KindPayment, a.text
		_, err = ledger.Post(tx, e)
	}
	if err == nil {
		err = setAuth(tx, id, atc, to, fen.Minor())
	}
	if err != nil {
		return false, fmt.Errorf("payment %d of card %s: %w", atc, id.Masked(), err)
	}
	return true, nil
}

// PaymentRef is the reference of the entry that a payment is booked under.
func PaymentRef(id CardID, counter int) string { return payRef(id, counter) }

func payRef(id CardID, counter int) string {
	return "pay:" + string(id) + ":" + strconv.Itoa(counter)
}

// book moves the money of a record, by what is known of its counter. A counter
// that the house was asked about is never an offline payment, whatever the
// record says.
func (k Checked) book(tx *db.Tx) (Flaw, error) {
	c, err := Get(tx, k.secret.card)
	if err != nil {
		return "", err
	}
	d, _, err := bankDataOf(tx, c)
	if err != nil {
		return "", err
	}
	if err := k.learn(tx, c, d); err != nil {
		return "", err
	}
	a, found, err := authAt(tx, c.ID, int(k.record.ATC))
	if err != nil {
		return "", err
	}
	ask := askOf(k.record.Type)
	switch {
	case ask == askOther, found && a.kind != ask:
		return FlawNotDue, nil
	case !found && k.record.Kind == pboc.ClearCancel:
		return NoFlaw, k.forestall(tx)
	case ask == askLoad:
		return k.loading(tx)
	case !found && (k.record.Kind == pboc.ClearOnline || ask == askRefund):
		return FlawNoAuth, nil
	case ask == askRefund:
		return k.refunding(tx, a)
	case found:
		return k.online(tx, a)
	}
	return k.offline(tx, d)
}

// forestall writes down that a request which never came is not to be approved
// any more: the terminal has given it up.
func (k Checked) forestall(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at)
		VALUES ($1, $2, $3, $4, $5, $6, -1, $7, $8, $9, '', $10)`, k.secret.card, int64(k.record.ATC), k.record.AC[:], askOf(k.record.Type),
		calendar.Of(tx.Now(), calendar.Beijing).String(), int64(k.record.Fen), GivenUp.Code(), authReleased, string(k.payee), tx.Now().UnixMicro())
	return err
}

// online books a record of a payment that the house was asked for. What it
// comes to does not depend on the order of the records.
func (k Checked) online(tx *db.Tx, a authorised) (Flaw, error) {
	if a.payee != k.payee {
		return FlawNotDue, nil
	}
	kinds, err := kindsAt(tx, k.secret.card, k.record.ATC)
	if err != nil {
		return "", err
	}
	cancelled, returned := kinds[pboc.ClearCancel] || kinds[pboc.ClearReversal], kinds[pboc.ClearRefund]
	switch k.record.Kind {
	case pboc.ClearSale, pboc.ClearOnline:
		switch {
		case a.state == authPaid, a.state == authReturned, a.state == authReleased && cancelled:
			return NoFlaw, nil // the record only says so again, or it was taken back before
		case a.state != authHeld || int64(k.record.Fen) > a.fen:
			return FlawNotDue, nil
		}
		err := Complete(tx, k.secret.card, int(k.record.ATC), k.fen())
		if flaw := flawOf(err); flaw != NoFlaw || err != nil {
			return flaw, unless(flaw, err)
		}
		return NoFlaw, k.tell(tx, payRef(k.secret.card, int(k.record.ATC)), k.fen())
	case pboc.ClearCancel, pboc.ClearReversal:
		switch {
		case a.state == authHeld:
			return NoFlaw, Release(tx, k.secret.card, int(k.record.ATC))
		case returned:
			return FlawNoSale, nil
		case a.state == authPaid:
			return k.give(tx, KindReversal, money.Fen(a.paid), authReturned)
		}
		return NoFlaw, nil
	}
	if a.state != authPaid || int64(k.record.Fen) > a.paid {
		return FlawNoSale, nil
	}
	return k.give(tx, KindReturned, k.fen(), authReturned)
}

// refunding books a refund that the card was there for (9C 20): a transaction
// of its own, so what it gives back for is not named. It is bounded by what the
// payee still has of the card's money.
func (k Checked) refunding(tx *db.Tx, a authorised) (Flaw, error) {
	switch {
	case k.record.Kind == pboc.ClearCancel && a.state == authPaid:
		return FlawOver, nil
	case k.record.Kind == pboc.ClearCancel:
		return NoFlaw, setAuth(tx, k.secret.card, int(k.record.ATC), authReleased, 0)
	case k.record.Kind != pboc.ClearRefund || a.payee != k.payee || int64(k.record.Fen) != a.fen:
		return FlawNotDue, nil
	case a.state == authReleased:
		return FlawOver, nil
	case a.state != authHeld:
		return FlawNotDue, nil
	}
	return k.give(tx, KindReturned, k.fen(), authPaid)
}

// Covers tells whether a payee still has so much of a card's money: whatever a
// shop gives back, by whichever record, is no more than it was paid.
func Covers(q db.Reader, id CardID, payee ledger.AccountID, fen money.Amount) (bool, error) {
	var has int64
	err := q.QueryRow(`SELECT CAST(
			(SELECT COALESCE(SUM(fen), 0) FROM issuing_spent WHERE card = $1 AND payee = $2 AND place = $3) +
			(SELECT COALESCE(SUM(CASE WHEN kind = $4 THEN paid ELSE -paid END), 0) FROM issuing_auth
				WHERE card = $1 AND payee = $2 AND state = $5 AND kind IN ($4, $6)) AS BIGINT)`,
		id, string(payee), withPayee, askPay, authPaid, askRefund).Scan(&has)
	return err == nil && fen.Minor() <= has, err
}

// give pays money of an online transaction back from the payee to the card's
// account.
func (k Checked) give(tx *db.Tx, kind string, fen money.Amount, state string) (Flaw, error) {
	if ok, err := Covers(tx, k.secret.card, k.payee, fen); err != nil || !ok {
		return FlawNoSale, err
	}
	e := ledger.Move(fmt.Sprintf("tc:%s:%d:%d", k.secret.card, k.record.ATC, k.record.Kind), k.payee, ledger.AccountID(k.secret.account), fen)
	if flaw, err := post(tx, e, kind); err != nil || flaw != NoFlaw {
		return flaw, err
	}
	if err := k.tell(tx, e.Ref, fen.Neg()); err != nil {
		return "", err
	}
	return NoFlaw, setAuth(tx, k.secret.card, int(k.record.ATC), state, fen.Minor())
}

func (k Checked) tell(tx *db.Tx, ref string, fen money.Amount) error {
	return tell(tx, Movement{Ref: ref, Card: k.secret.card, ATC: k.record.ATC, Payee: k.payee, Fen: fen})
}

// post books an entry of clearing.
func post(tx *db.Tx, e ledger.Entry, kind string) (Flaw, error) {
	e.Kind = kind
	e.Text, _ = KindWords(kind, false)
	_, err := ledger.Post(tx, e)
	flaw := flawOf(err)
	return flaw, unless(flaw, err)
}

// flawOf is the flaw that a refusal of the ledger comes to.
func flawOf(err error) Flaw {
	switch {
	case errors.Is(err, ledger.ErrInsufficient):
		return FlawShort
	case errors.Is(err, ledger.ErrNoAccount):
		return FlawNoAccount
	}
	return NoFlaw
}

// unless drops an error that a flaw says.
func unless(flaw Flaw, err error) error {
	if flaw != NoFlaw {
		return nil
	}
	return err
}

// loading takes a terminal's word on a load: the card took the script, or does
// not have it and cannot take it any more. A load pays nobody.
func (k Checked) loading(tx *db.Tx) (Flaw, error) {
	l, err := loadAt(tx, k.secret.card, int(k.record.ATC))
	confirms, cancels := k.record.Kind == pboc.ClearOnline, k.record.Kind == pboc.ClearCancel
	switch {
	case !confirms && !cancels:
		return FlawNotDue, nil
	case errors.Is(err, ErrNoLoad) && cancels:
		return NoFlaw, nil // it was declined
	case errors.Is(err, ErrNoLoad):
		return FlawNoAuth, nil
	case err != nil:
		return "", err
	case l.Amount.Cmp(k.fen()) != 0:
		return FlawDiffers, nil
	case confirms && l.State == LoadVoid, cancels && l.State == LoadPaid:
		return FlawOver, nil
	case cancels:
		return NoFlaw, l.end(tx, LoadVoid, "terminal")
	}
	return NoFlaw, l.end(tx, LoadPaid, "terminal")
}

// kindsAt lists what records of a counter have been booked.
func kindsAt(q db.Reader, id CardID, atc uint16) (map[pboc.ClearingKind]bool, error) {
	out := map[pboc.ClearingKind]bool{}
	err := db.Each(q, func(scan func(...any) error) error {
		var kind byte
		err := scan(&kind)
		out[pboc.ClearingKind(kind)] = true
		return err
	}, `SELECT kind FROM issuing_clearing WHERE card = $1 AND atc = $2`, id, int64(atc))
	return out, err
}

// Collected tells whether an offline payment at a counter is booked.
func Collected(q db.Reader, id CardID, counter int) (bool, error) {
	kinds, err := kindsAt(q, id, uint16(counter))
	return kinds[pboc.ClearSale], err
}

// Where the money of an offline payment stands. Before anything is known it is
// on the card's float.
const (
	withPayee  = "payee"
	withHolder = "holder" // back on the account
)

// spent is what is known of an offline payment at one counter.
type spent struct {
	secret                   secret
	source                   ledger.AccountID // where offline payments of the card come from
	credit                   int64            // how far below zero the card's account may go
	atc                      uint16
	fen                      money.Amount
	payee                    ledger.AccountID
	sold, reversed, returned bool // by records
	proved, given            bool // by a doubt that was decided: the card paid, the goods were given
	place                    string
	moves                    int64
}

// offline books a record of a payment that the card approved by itself.
func (k Checked) offline(tx *db.Tx, d BankData) (Flaw, error) {
	x := spent{secret: k.secret, source: sourceOf(k.secret, d), credit: d.CreditLimit, atc: k.record.ATC, fen: k.fen(), payee: k.payee}
	if atAccount(k.record) {
		x.source = ledger.AccountID(k.secret.account)
	}
	if flaw, err := x.read(tx); err != nil || flaw != NoFlaw {
		return flaw, err
	}
	switch {
	case k.record.Kind == pboc.ClearSale:
		x.sold = true
	case k.record.Kind == pboc.ClearReversal && !x.returned:
		x.reversed = true
	case k.record.Kind == pboc.ClearRefund && x.sold && !x.reversed:
		x.returned = true
	default:
		return FlawNoSale, nil
	}
	return x.settle(tx, k.watch)
}

// read takes what is known of the counter from the books.
func (x *spent) read(q db.Reader) (Flaw, error) {
	kinds, err := kindsAt(q, x.secret.card, x.atc)
	if err != nil {
		return "", err
	}
	x.sold, x.reversed, x.returned = kinds[pboc.ClearSale], kinds[pboc.ClearReversal], kinds[pboc.ClearRefund]
	d, err := doubtAt(q, x.secret.card, x.atc)
	if err == nil {
		x.proved, x.given = d.State == DoubtPaid, d.given()
	} else if !errors.Is(err, ErrNoDoubt) {
		return "", err
	}
	var fen int64
	var payee string
	err = q.QueryRow(`SELECT fen, payee, place, moves FROM issuing_spent WHERE card = $1 AND atc = $2`, x.secret.card, int64(x.atc)).
		Scan(&fen, &payee, &x.place, &x.moves)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return NoFlaw, nil
	case err == nil && (fen != x.fen.Minor() || payee != string(x.payee)):
		return FlawDiffers, nil
	}
	return NoFlaw, err
}

// target is where the money belongs by what is known. Any order of records and
// doubts comes to the same.
func (x spent) target() string {
	switch {
	case x.sold && !x.reversed && !x.returned:
		return withPayee
	case x.sold || x.reversed:
		return withHolder
	case x.proved && x.given:
		return withPayee
	case x.proved:
		return withHolder
	}
	return ""
}

func (x spent) account(place string) ledger.AccountID {
	switch place {
	case withPayee:
		return x.payee
	case withHolder:
		return ledger.AccountID(x.secret.account)
	}
	return x.source
}

// settle moves the money from where it stands to where it belongs.
func (x spent) settle(tx *db.Tx, watch func(*db.Tx, Movement) error) (Flaw, error) {
	to := x.target()
	if to == x.place {
		return NoFlaw, nil
	}
	if x.place == withPayee {
		if ok, err := Covers(tx, x.secret.card, x.payee, x.fen); err != nil || !ok {
			return FlawNoSale, err
		}
	}
	kind := KindReversal
	switch {
	case to == withPayee && x.account(x.place) != x.account(withHolder):
		kind = KindOffline
	case to == withPayee:
		kind = KindPayment
	case x.returned:
		kind = KindReturned
	}
	e := ledger.Move(fmt.Sprintf("off:%s:%d:%d", x.secret.card, x.atc, x.moves+1), x.account(x.place), x.account(to), x.fen)
	if x.account(x.place) != x.account(to) {
		flaw, err := post(tx, e, kind)
		if flaw == FlawShort && kind == KindPayment {
			flaw, err = x.lend(tx, e)
		}
		if err != nil || flaw != NoFlaw {
			return flaw, err
		}
	}
	moved := x.fen
	if x.place == withPayee {
		moved = x.fen.Neg()
	}
	if watch != nil && (to == withPayee || x.place == withPayee) {
		if err := watch(tx, Movement{Ref: e.Ref, Card: x.secret.card, ATC: x.atc, Payee: x.payee, Fen: moved}); err != nil {
			return "", err
		}
	}
	_, err := tx.Exec(`INSERT INTO issuing_spent (card, atc, fen, payee, place, moves) VALUES ($1, $2, $3, $4, $5, 1)
		ON CONFLICT (card, atc) DO UPDATE SET place = excluded.place, moves = issuing_spent.moves + 1`,
		x.secret.card, int64(x.atc), x.fen.Minor(), string(x.payee), to)
	return NoFlaw, err
}
