package issuing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/pboc"
)

// Kinds of entries that this package books, as statements name them.
const (
	KindPayment  = "card.payment"   // an online payment
	KindOffline  = "card.offline"   // an offline payment, out of the e-cash balance
	KindLoad     = "card.load"      // onto the e-cash balance
	KindReversal = "card.reversal"  // a payment that gave nothing is given back
	KindReturned = "card.returned"  // goods came back
	KindMoved    = "card.moved"     // what was left on a lost card
	KindRepaid   = "card.repayment" // a credit card's holder pays
)

// KindWords says an entry of this package for people, in Chinese if zh.
func KindWords(kind string, zh bool) (string, bool) {
	w, ok := entryWords[kind]
	if zh {
		return w[1], ok
	}
	return w[0], ok
}

var entryWords = map[string][2]string{
	KindPayment: {"card payment", "刷卡消费"}, KindOffline: {"Quickpass payment", "闪付消费"}, KindLoad: {"e-cash load", "电子现金圈存"},
	KindReversal: {"payment reversed", "消费冲正"}, KindReturned: {"goods returned", "退货"}, KindMoved: {"balance of a lost card", "挂失卡余额转出"},
	KindRepaid: {"card bill paid", "信用卡还款"},
	"capture":  {"top-up", "充值"}, "card.deposit": {"card deposit", "卡押金"}, "card.deposit_back": {"card deposit returned", "退还卡押金"},
	"card.refund": {"balance of a returned card", "退卡余额"},
}

// A Fate is what became of a clearing record.
type Fate string

// The fates.
const (
	Cleared  Fate = "cleared"  // booked now
	Known    Fate = "known"    // it was booked before: nothing moved
	Suspense Fate = "suspense" // not booked; it waits with its reason
)

// A Flaw is why a clearing record stands in suspense.
type Flaw string

// The flaws.
const (
	NoFlaw        Flaw = ""
	FlawUnknown   Flaw = "unknown_card"
	FlawProof     Flaw = "cryptogram" // it does not verify, or is not one that approves
	FlawCurrency  Flaw = "currency"
	FlawShort     Flaw = "short"      // the books hold less for the card than it spent
	FlawDiffers   Flaw = "differs"    // the counter was booked with another amount or payee
	FlawNoSale    Flaw = "no_sale"    // a refund of what was not sold, or of more
	FlawNotDue    Flaw = "not_due"    // an online payment was declined, given up or for less; a load
	FlawNoAccount Flaw = "no_account" // nobody to pay
)

// Words says the flaw for people, in Chinese if zh.
func (f Flaw) Words(zh bool) string {
	w, ok := flawWords[f]
	switch {
	case !ok:
		return string(f)
	case zh:
		return w[1]
	}
	return w[0]
}

var flawWords = map[Flaw][2]string{
	FlawUnknown: {"no card of this house", "非本行卡"}, FlawProof: {"the cryptogram does not verify", "密文验证不通过"},
	FlawCurrency: {"another currency", "币种不符"}, FlawShort: {"the books hold less for the card", "账上余额不足"},
	FlawDiffers: {"the counter was booked otherwise", "同一计数器内容不一致"}, FlawNoSale: {"no sale it belongs to", "无对应消费"},
	FlawNotDue: {"the online payment was not approved for it", "联机未批准"}, FlawNoAccount: {"no account to pay", "无收款账户"},
}

// A Checked is a clearing record after the hsm looked at it. Its record stays
// inside, so that nothing prints it.
type Checked struct {
	record  pboc.Clearing
	payee   ledger.AccountID
	id      string // the hsm's hash of the record
	sealed  []byte
	secret  secret
	flaw    Flaw
	balance int64 // reported after the transaction, -1 not
}

// Check has the hsm verify a record that a terminal handed in for a payee.
func (b *Bank) Check(ctx context.Context, c pboc.Clearing, payee ledger.AccountID) (k Checked, err error) {
	k = Checked{record: c, payee: payee, balance: -1}
	wire, err := c.MarshalBinary()
	if err != nil {
		return k, fmt.Errorf("clearing: %w", errors.Join(ErrBadInput, err))
	}
	token, err := b.keys.Token(ctx, c.PAN)
	if err == nil {
		k.id, err = b.keys.Token(ctx, string(wire)+"|"+string(payee))
	}
	if err == nil {
		k.sealed, err = b.keys.Seal(ctx, wire)
	}
	if err == nil {
		err = b.store.Read(ctx, func(q *db.Query) (err error) {
			if k.secret, err = byToken(q, token, c.PSN); errors.Is(err, ErrNotFound) {
				k.flaw, err = FlawUnknown, nil
			}
			return err
		})
	}
	if err != nil || k.flaw != NoFlaw {
		return k, err
	}
	iad, err := b.keys.CheckClearing(ctx, c)
	switch {
	case errors.Is(err, hsm.ErrAC), errors.Is(err, hsm.ErrBalance), errors.Is(err, hsm.ErrNoKey):
		k.flaw = FlawProof
	case err != nil:
		return k, fmt.Errorf("clearing: %w", err)
	case byte(iad.Alg) != k.secret.alg || max(iad.DKI, 1) != k.secret.dki:
		k.flaw = FlawProof
	case c.Currency != 156:
		k.flaw = FlawCurrency
	case payee == "":
		k.flaw = FlawNoAccount
	case iad.Report == pboc.ReportBalance:
		k.balance = int64(iad.Amounts[0])
	}
	return k, nil
}

// Clear checks and books records of one payee, each in a unit of its own, and
// tells what became of each. They may be handed in again at any time.
func (b *Bank) Clear(ctx context.Context, records []pboc.Clearing, payee ledger.AccountID) ([]Fate, error) {
	out := make([]Fate, 0, len(records))
	for _, r := range records {
		k, err := b.Check(ctx, r, payee)
		if err != nil {
			return out, err
		}
		var f Fate
		if err := b.store.Write(ctx, func(tx *db.Tx) (err error) {
			f, _, err = ClearTC(tx, k)
			return err
		}); err != nil {
			return out, err
		}
		out = append(out, f)
	}
	return out, nil
}

// ClearTC books a checked record once by card, counter and kind: an offline
// payment from the card's float to the payee, an online one out of its hold, a
// reversal or a refund back to the card's account. What cannot be booked goes
// to suspense with its reason and may be tried again (Retry).
func ClearTC(tx *db.Tx, k Checked) (Fate, Flaw, error) {
	if k.flaw == NoFlaw {
		known, flaw, err := booked(tx, k)
		if err != nil || known && flaw == NoFlaw {
			return Known, NoFlaw, err
		}
		k.flaw = flaw
	}
	if k.flaw == NoFlaw {
		flaw, err := k.book(tx)
		if err != nil {
			return "", "", fmt.Errorf("clearing ATC %d of card %s: %w", k.record.ATC, k.secret.card.Masked(), err)
		}
		k.flaw = flaw
	}
	if k.flaw != NoFlaw {
		return Suspense, k.flaw, k.suspend(tx)
	}
	return Cleared, NoFlaw, k.keep(tx)
}

// booked tells whether the counter has been cleared, and whether as the same.
func booked(tx *db.Tx, k Checked) (known bool, flaw Flaw, err error) {
	var fen int64
	var payee string
	err = tx.QueryRow(`SELECT fen, payee FROM issuing_clearing WHERE card = $1 AND atc = $2 AND kind = $3`,
		k.secret.card, int64(k.record.ATC), byte(k.record.Kind)).Scan(&fen, &payee)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return false, NoFlaw, nil
	case err == nil && (fen != int64(k.record.Fen) || payee != string(k.payee)):
		return true, FlawDiffers, nil
	}
	return err == nil, NoFlaw, err
}

// book moves the money.
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
	switch k.record.Kind {
	case pboc.ClearOnline:
		if k.record.Type == TypeLoad {
			return k.loaded(tx)
		}
		return k.sale(tx, d)
	case pboc.ClearSale:
		return k.sale(tx, d)
	case pboc.ClearReversal:
		return k.reversal(tx, d)
	case pboc.ClearCancel:
		return k.cancel(tx)
	}
	return k.refund(tx)
}

func (k Checked) fen() money.Amount { return money.Fen(int64(k.record.Fen)) }

// source is where an offline payment of the card comes from.
func (k Checked) source(d BankData) ledger.AccountID {
	if d.ECash {
		return Float(k.secret.card)
	}
	return ledger.AccountID(k.secret.account)
}

func (k Checked) post(tx *db.Tx, kind string, from, to ledger.AccountID) (Flaw, error) {
	e := ledger.Move(fmt.Sprintf("tc:%s:%d:%d", k.secret.card, k.record.ATC, k.record.Kind), from, to, k.fen())
	e.Kind = kind
	e.Text, _ = KindWords(kind, false)
	_, err := ledger.Post(tx, e)
	switch {
	case errors.Is(err, ledger.ErrInsufficient):
		return FlawShort, nil
	case errors.Is(err, ledger.ErrNoAccount):
		return FlawNoAccount, nil
	}
	return NoFlaw, err
}

// sale books a payment: an online one if the counter was authorised.
func (k Checked) sale(tx *db.Tx, d BankData) (Flaw, error) {
	var kind, state, payee string
	var fen int64
	err := tx.QueryRow(`SELECT kind, state, payee, fen FROM issuing_auth WHERE card = $1 AND atc = $2`,
		k.secret.card, int64(k.record.ATC)).Scan(&kind, &state, &payee, &fen)
	switch {
	case k.record.Type == TypeLoad || err == nil && kind != "pay":
		return FlawNotDue, nil // a load pays nobody
	case errors.Is(err, db.ErrNoRows) && k.record.Kind == pboc.ClearOnline:
		return FlawNotDue, nil
	case errors.Is(err, db.ErrNoRows):
		if _, given, err := k.sold(tx); err != nil || given > 0 {
			return NoFlaw, err // its reversal came first and has given the money back
		}
		return k.post(tx, KindOffline, k.source(d), k.payee)
	case err != nil:
		return "", err
	case state == authPaid && payee == string(k.payee):
		return NoFlaw, nil // completed before, the record only says so again
	case state != authHeld || payee != string(k.payee) || int64(k.record.Fen) > fen:
		return FlawNotDue, nil
	}
	return NoFlaw, Complete(tx, k.secret.card, k.record.ATC, k.fen())
}

// loaded settles a load whose script a terminal saw the card take.
func (k Checked) loaded(tx *db.Tx) (Flaw, error) {
	l, err := loadAt(tx, k.secret.card, int(k.record.ATC))
	switch {
	case errors.Is(err, ErrNoLoad), err == nil && l.State == LoadVoid:
		return FlawNotDue, nil
	case err != nil:
		return "", err
	case l.Amount.Cmp(k.fen()) != 0:
		return FlawDiffers, nil
	}
	return NoFlaw, l.end(tx, LoadPaid, "terminal")
}

// cancel releases what may have been approved and gave nothing; what has been
// completed meanwhile goes back. Of a load it says nothing: the card has to.
func (k Checked) cancel(tx *db.Tx) (Flaw, error) {
	var state, payee string
	err := tx.QueryRow(`SELECT state, payee FROM issuing_auth WHERE card = $1 AND atc = $2 AND kind = 'pay'`,
		k.secret.card, int64(k.record.ATC)).Scan(&state, &payee)
	switch {
	case errors.Is(err, db.ErrNoRows): // it never came here, or was a load
		return NoFlaw, nil
	case err != nil:
		return "", err
	case payee != string(k.payee):
		return FlawNotDue, nil
	case state == authHeld:
		return NoFlaw, Release(tx, k.secret.card, k.record.ATC)
	case state != authPaid:
		return NoFlaw, nil
	}
	sold, given, err := k.sold(tx)
	if err != nil || given+int64(k.record.Fen) > sold {
		return FlawNoSale, err
	}
	return k.post(tx, KindReversal, k.payee, ledger.AccountID(k.secret.account))
}

// reversal gives the card's money back on its account: the card itself has paid
// and cannot be told.
func (k Checked) reversal(tx *db.Tx, d BankData) (Flaw, error) {
	sold, given, err := k.sold(tx)
	switch {
	case err != nil:
		return "", err
	case sold < 0 && !d.ECash:
		return NoFlaw, nil // nothing was booked, nothing is to be taken back
	case sold < 0:
		return k.post(tx, KindReversal, k.source(d), ledger.AccountID(k.secret.account))
	case given+int64(k.record.Fen) > sold:
		return FlawNoSale, nil
	}
	return k.post(tx, KindReversal, k.payee, ledger.AccountID(k.secret.account))
}

// refund gives back what was sold, or a part of it, from the payee.
func (k Checked) refund(tx *db.Tx) (Flaw, error) {
	sold, given, err := k.sold(tx)
	if err != nil || given+int64(k.record.Fen) > sold {
		return FlawNoSale, err
	}
	return k.post(tx, KindReturned, k.payee, ledger.AccountID(k.secret.account))
}

// sold is what was booked as sold at the counter to the same payee, -1 for
// nothing, and what of it was given back already.
func (k Checked) sold(tx *db.Tx) (sold, given int64, err error) {
	sold = -1
	err = db.Each(tx, func(scan func(...any) error) error {
		var kind, fen int64
		if err := scan(&kind, &fen); err != nil {
			return err
		}
		switch pboc.ClearingKind(kind) {
		case pboc.ClearSale, pboc.ClearOnline:
			sold = fen
		default:
			given += fen
		}
		return nil
	}, `SELECT kind, fen FROM issuing_clearing WHERE card = $1 AND atc = $2 AND payee = $3`, k.secret.card, int64(k.record.ATC), string(k.payee))
	return sold, given, err
}

// learn keeps what the record proves about the card: its counter, its balance,
// and with them what became of a load.
func (k Checked) learn(tx *db.Tx, c Card, d BankData) error {
	atc := int64(k.record.ATC)
	if _, err := tx.Exec(`UPDATE issuing_bank SET atc = $2 WHERE card = $1 AND atc < $2`, c.ID, atc); err != nil {
		return err
	}
	if k.balance < 0 || k.record.Type == TypeLoad {
		return nil
	}
	offline := k.record.Kind == pboc.ClearSale || k.record.Kind == pboc.ClearReversal
	before := money.Fen(k.balance)
	if offline && (k.balance > 0 || d.Support == 0) { // otherwise part of the fare may stand owing
		before = before.Add(k.fen())
	}
	if err := proveOpen(tx, c.ID, Proof{ATC: int(atc), Balance: before, By: "clearing"}); err != nil {
		return err
	}
	return See(tx, c.ID, Counters{Balance: money.Fen(k.balance), Online: int(atc), Offline: int(atc), At: tx.Now(), By: "clearing"})
}

func (k Checked) keep(tx *db.Tx) error {
	r := k.record
	done, err := r.Moment(calendar.Beijing)
	if err != nil {
		done = time.Time{}
	}
	_, err = tx.Exec(`INSERT INTO issuing_clearing (card, atc, kind, fen, balance, payee, terminal, stan, done, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		k.secret.card, int64(r.ATC), byte(r.Kind), int64(r.Fen), k.balance, string(k.payee), r.TID, int64(r.STAN), micros(done), tx.Now().UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE issuing_suspense SET settled = $2 WHERE id = $1 AND settled = 0`, k.id, tx.Now().UnixMicro())
	return err
}

func (k Checked) suspend(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO issuing_suspense (id, card, atc, fen, payee, terminal, why, sealed, at, settled)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)
		ON CONFLICT (id) DO UPDATE SET why = excluded.why WHERE issuing_suspense.settled = 0`,
		k.id, k.secret.card, int64(k.record.ATC), int64(k.record.Fen), string(k.payee), k.record.TID, k.flaw, k.sealed, tx.Now().UnixMicro())
	return err
}

// A Suspended is a clearing record that waits.
type Suspended struct {
	ID       string
	Card     CardID // empty: not known
	ATC      uint16
	Fen      money.Amount
	Payee    ledger.AccountID
	Terminal string
	Why      Flaw
	At       time.Time
}

// InSuspense reads what waits, oldest first, from the one after the given.
func InSuspense(q db.Reader, after string, limit int) (out []Suspended, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s Suspended
		var fen, at int64
		err := scan(&s.ID, &s.Card, &s.ATC, &fen, &s.Payee, &s.Terminal, &s.Why, &at)
		s.Fen, s.At = money.Fen(fen), db.Moment(at)
		out = append(out, s)
		return err
	}, `SELECT id, card, atc, fen, payee, terminal, why, at FROM issuing_suspense WHERE settled = 0 AND id > $1 ORDER BY id LIMIT $2`,
		after, min(max(limit, 1), maxPage))
	return out, err
}

// Recheck has the hsm look at a record in suspense again; ClearTC books it.
func (b *Bank) Recheck(ctx context.Context, id string) (Checked, error) {
	var sealed []byte
	var payee string
	err := b.store.Read(ctx, func(q *db.Query) error {
		err := q.QueryRow(`SELECT sealed, payee FROM issuing_suspense WHERE id = $1`, id).Scan(&sealed, &payee)
		if errors.Is(err, db.ErrNoRows) {
			err = ErrNotFound
		}
		return err
	})
	var wire []byte
	if err == nil {
		wire, err = b.keys.Unseal(ctx, sealed)
	}
	if err != nil {
		return Checked{}, fmt.Errorf("record %s in suspense: %w", id, err)
	}
	r, err := pboc.ParseClearing(wire)
	if err != nil {
		return Checked{}, fmt.Errorf("record %s in suspense: %w", id, errors.Join(hsm.ErrSealed, err))
	}
	return b.Check(ctx, r, ledger.AccountID(payee))
}

// Retry looks at a record in suspense again and books it if it can be.
func (b *Bank) Retry(ctx context.Context, id string) (f Fate, err error) {
	k, err := b.Recheck(ctx, id)
	if err != nil {
		return "", err
	}
	err = b.store.Write(ctx, func(tx *db.Tx) (err error) {
		f, _, err = ClearTC(tx, k)
		return err
	})
	return f, err
}

// Card is whose record it is; empty when the house has no such card.
func (k Checked) Card() CardID { return k.secret.card }

// ID names the record for ever: the hsm's hash of it and its payee.
func (k Checked) ID() string { return k.id }
