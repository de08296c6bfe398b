package issuing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// Transaction types (tag 9C): the first two digits of ISO 8583's processing
// code, those of e-cash loads as hosts code them (DOMAIN.md 6).
const (
	TypePurchase = 0x00
	TypePreauth  = 0x03 // as a purchase, completed another day
	TypeRefund   = 0x20 // goods came back, the card is there
	TypeInquiry  = 0x31 // moves nothing: the card is heard
	TypeLoad     = 0x60 // from the card's own account
	lastLoad     = 0x63
)

// LoadState is where an e-cash load stands.
type LoadState string

// The states, and who acts next.
const (
	LoadHeld  LoadState = "held"  // the card: go online with a load; its holder: cancel
	LoadBound LoadState = "bound" // the card: say what became of the script (its answer, its load log, its next cryptogram)
	LoadPaid  LoadState = "paid"  // nobody: proven to be on the card
	LoadVoid  LoadState = "void"  // nobody: proven not to be, the money is back
)

var nextLoad = map[LoadState][]LoadState{LoadHeld: {LoadBound, LoadVoid}, LoadBound: {LoadPaid, LoadVoid}, LoadPaid: {}, LoadVoid: {}}

// May tells whether a load in state s may go to state to.
func (s LoadState) May(to LoadState) bool {
	for _, t := range nextLoad[s] {
		if t == to {
			return true
		}
	}
	return false
}

// A Load is one order to put money onto an e-cash card. It lives on a hold of
// the card's account, and is bound to one value of the card's transaction
// counter before the script leaves the house.
type Load struct {
	ID              string // ld_…
	Ref             string // names the wish: the same again is the same order
	Card            CardID
	Amount          money.Amount
	State           LoadState
	ATC             int          // bound to; -1 not bound
	Old             money.Amount // balance the card proved before
	Proof           string       // what decided it
	Placed, Changed time.Time
}

// New is the balance that the script sets.
func (l Load) New() money.Amount { return l.Old.Add(l.Amount) }

// PlaceLoad orders a load: the money is held from now on. A card has one load
// at a time. The same reference again gives the same order.
func PlaceLoad(tx *db.Tx, ref string, id CardID, amount money.Amount) (Load, error) {
	l, err := placeLoad(tx, ref, id, amount)
	if err != nil {
		return Load{}, fmt.Errorf("loading card %s: %w", id.Masked(), err)
	}
	return l, nil
}

func placeLoad(tx *db.Tx, ref string, id CardID, amount money.Amount) (Load, error) {
	if ref == "" || len(ref) > MaxRef {
		return Load{}, ErrBadInput
	}
	if l, err := loadWhere(tx, `ref = $1`, ref); err == nil {
		if l.Card != id || l.Amount.Cmp(amount) != 0 {
			return Load{}, ErrDiffers
		}
		return l, nil
	} else if !errors.Is(err, ErrNoLoad) {
		return Load{}, err
	}
	if err := mayLoad(tx, id, amount); err != nil {
		return Load{}, err
	}
	s, err := secretOf(tx, id)
	if err != nil {
		return Load{}, err
	}
	l := Load{ID: tx.NewID("ld"), Ref: ref, Card: id, Amount: amount, State: LoadHeld, ATC: -1, Old: money.Fen(0), Placed: tx.Now(), Changed: tx.Now()}
	_, err = ledger.Authorise(tx, ledger.Hold{Ref: l.hold(), From: ledger.AccountID(s.account), To: Float(id), Amount: amount, Text: "e-cash load"})
	if err != nil {
		return Load{}, err
	}
	_, err = tx.Exec(`INSERT INTO issuing_load (id, ref, card, fen, state, open, atc, old, proof, placed, changed)
		VALUES ($1, $2, $3, $4, $5, $6, -1, 0, '', $7, $7)`, l.ID, l.Ref, l.Card, amount.Minor(), l.State, true, tx.Now().UnixMicro())
	return l, err
}

// mayLoad applies the product's limits of today. What is on the card is
// checked when the card proves it.
func mayLoad(tx *db.Tx, id CardID, amount money.Amount) error {
	c, err := Get(tx, id)
	if err != nil {
		return err
	}
	d, p, err := bankDataOf(tx, c)
	switch {
	case err != nil:
		return err
	case !d.ECash:
		return ErrKind
	case !c.Suspended.IsZero():
		return ErrSuspended
	case c.State != Active:
		return ErrState
	case amount.Currency() != money.CNY || amount.Cmp(p.MinLoad) < 0 || amount.Cmp(p.MaxLoad) > 0 || amount.Cmp(p.MaxBalance) > 0:
		return ErrAmount
	}
	if _, err := openLoad(tx, id); !errors.Is(err, ErrNoLoad) {
		return errors.Join(err, ErrBusyLoad)
	}
	return nil
}

// bankDataOf reads the template of a bank card and its product of today.
func bankDataOf(q db.Reader, c Card) (d BankData, p Product, err error) {
	if !c.Kind.Bank() {
		return d, p, ErrKind
	}
	now := c.Opened
	if tx, ok := q.(*db.Tx); ok {
		now = tx.Now()
	}
	if p, err = ProductOn(q, c.Product, now); err != nil {
		return d, p, err
	}
	t, err := TemplateOf(q, p.Template)
	if err != nil {
		return d, p, err
	}
	d, err = read[BankData](t.Data)
	return d, p, err
}

// hold names the hold on the card's account that a load lives on.
func (l Load) hold() string { return "load:" + l.ID }

// CancelLoad gives a load up whose script has not left the house.
func CancelLoad(tx *db.Tx, id string) (Load, error) {
	l, err := loadWhere(tx, `id = $1`, id)
	if err == nil && l.State != LoadHeld && l.State != LoadVoid {
		err = ErrState
	}
	if err == nil && l.State == LoadHeld {
		err = l.end(tx, LoadVoid, "cancelled")
	}
	if err != nil {
		return Load{}, fmt.Errorf("cancelling load %s: %w", id, err)
	}
	return l, nil
}

// bindLoad binds the card's open load, or one made on the spot, to the counter
// of a verified ARQC that proves the balance.
func bindLoad(tx *db.Tx, a Prepared, c Card) (bound Load, why Reason, err error) {
	data, p, err := bankDataOf(tx, c)
	switch {
	case err != nil:
		return bound, "", err
	case !data.ECash || a.iad.Report != pboc.ReportBalance:
		return bound, NotOffered, nil
	}
	l, err := openLoad(tx, c.ID)
	if errors.Is(err, ErrNoLoad) {
		l, err = placeLoad(tx, fmt.Sprintf("atc:%s:%d", c.ID, a.c.ATC), c.ID, a.fen)
	}
	switch {
	case errors.Is(err, ledger.ErrInsufficient):
		return bound, NoMoney, nil
	case errors.Is(err, ErrAmount):
		return bound, OverLimit, nil
	case err != nil:
		return bound, "", err
	case l.State == LoadBound:
		return bound, InProgress, nil // and this cryptogram did not tell
	case l.Amount.Cmp(a.fen) != 0:
		return bound, OtherAmount, nil
	}
	l.Old = money.Fen(int64(a.iad.Amounts[0]))
	if l.New().Cmp(p.MaxBalance) > 0 {
		return bound, OverLimit, nil
	}
	l.State, l.ATC = LoadBound, int(a.c.ATC)
	n, err := tx.Exec(`UPDATE issuing_load SET state = $2, atc = $3, old = $4, changed = $5 WHERE id = $1 AND state = $6`,
		l.ID, l.State, l.ATC, l.Old.Minor(), tx.Now().UnixMicro(), LoadHeld)
	if err == nil && n == 0 {
		err = ErrState
	}
	return l, Approval, err
}

// A Proof is what a card said about itself at a later counter, verified by the
// hsm: its e-cash balance before it spent anything in that transaction, or its
// load log.
type Proof struct {
	ATC     int
	Balance money.Amount
	Log     *pboc.SignedLoadLog
	By      string
}

// Judge tells what a later proof says about a bound load: paid, void, or still
// bound when it says nothing. A proof of the load's own counter says nothing:
// the script could still be on its way in that transaction.
func (l Load) Judge(p Proof) LoadState {
	switch {
	case p.ATC <= l.ATC:
		return LoadBound
	case p.Log != nil:
		return l.judgeLog(*p.Log)
	case p.Balance.Cmp(l.Old) > 0:
		return LoadPaid // nothing else makes a balance grow
	case p.ATC == l.ATC+1 && p.Balance.Cmp(l.Old) == 0:
		return LoadVoid // nothing was spent in between
	}
	return LoadBound
}

func (l Load) judgeLog(log pboc.SignedLoadLog) LoadState {
	for _, e := range log.Entries {
		if int(e.ATC) == l.ATC && e.Tag == uint16(emv.TagECBalance) {
			return LoadPaid
		}
	}
	if n := len(log.Entries); n == pboc.LogRecords && int(log.Entries[n-1].ATC) > l.ATC {
		return LoadBound // the log has gone round since
	}
	return LoadVoid
}

// proveOpen applies a proof to the card's bound load, if there is one.
func proveOpen(tx *db.Tx, id CardID, p Proof) error {
	l, err := openLoad(tx, id)
	switch {
	case errors.Is(err, ErrNoLoad) || err == nil && l.State != LoadBound:
		return nil
	case err != nil:
		return err
	}
	if to := l.Judge(p); to != LoadBound {
		return l.end(tx, to, p.By)
	}
	return nil
}

// end settles a load, once: the money goes onto the float, or back.
func (l *Load) end(tx *db.Tx, to LoadState, proof string) error {
	if l.State == to {
		return nil
	}
	if !l.State.May(to) {
		return fmt.Errorf("load %s from %s to %s: %w", l.ID, l.State, to, ErrState)
	}
	if _, err := ledger.Void(tx, l.hold(), "end:"+l.ID); err != nil {
		return err
	}
	if to == LoadPaid {
		s, err := secretOf(tx, l.Card)
		if err != nil {
			return err
		}
		e := ledger.Move("loaded:"+l.ID, ledger.AccountID(s.account), Float(l.Card), l.Amount)
		e.Kind, e.Text = KindLoad, "e-cash load"
		if _, err := ledger.Post(tx, e); err != nil {
			return err
		}
		if err := See(tx, l.Card, Counters{Balance: l.New(), Online: l.ATC, Offline: l.ATC, At: tx.Now(), By: l.ID}); err != nil {
			return err
		}
	}
	n, err := tx.Exec(`UPDATE issuing_load SET state = $2, open = $3, proof = $4, changed = $5 WHERE id = $1 AND state = $6`,
		l.ID, to, false, proof, tx.Now().UnixMicro(), l.State)
	if err == nil && n == 0 {
		err = ErrState
	}
	l.State, l.Proof = to, proof
	if err == nil {
		err = endLoadDoubt(tx, l.Card, l.ATC, to == LoadPaid, proof)
	}
	return err
}

// ReportScript takes the card's answer to the script. 9000 settles the load:
// whoever says so pays. Anything else proves nothing: the card has to.
func ReportScript(tx *db.Tx, id string, sw iso7816.SW) (Load, error) {
	l, err := loadWhere(tx, `id = $1`, id)
	if err == nil && sw.OK() && l.State == LoadBound {
		err = l.end(tx, LoadPaid, "script")
	}
	if err != nil {
		return Load{}, fmt.Errorf("result of load %s: %w", id, err)
	}
	return l, nil
}

// ReportLog takes the card's signed load log (READ RECORD with P1 00, CARD.md
// 1.8), read in a transaction after the load's.
func (b *Bank) ReportLog(ctx context.Context, id CardID, raw []byte) error {
	card, err := b.Keys(ctx, id)
	if err != nil {
		return fmt.Errorf("load log: %w", err)
	}
	log, err := b.keys.CheckLoadLog(ctx, card, raw)
	if err != nil {
		return fmt.Errorf("load log of card %s: %w", id.Masked(), err)
	}
	return b.store.Write(ctx, func(tx *db.Tx) error {
		return proveOpen(tx, id, Proof{ATC: int(log.ATC), Log: &log, By: "log"})
	})
}

// RuleLoad is the decision of staff on a bound load that no proof decides. The
// caller keeps who, why and on what evidence.
func RuleLoad(tx *db.Tx, id string, paid bool) (Load, error) {
	l, err := loadWhere(tx, `id = $1`, id)
	if err == nil {
		to := LoadVoid
		if paid {
			to = LoadPaid
		}
		err = l.end(tx, to, "staff")
	}
	if err != nil {
		return Load{}, fmt.Errorf("ruling load %s: %w", id, err)
	}
	return l, nil
}

const loadColumns = `id, ref, card, fen, state, atc, old, proof, placed, changed`

func scanLoad(scan func(...any) error) (l Load, err error) {
	var fen, old, placed, changed int64
	err = scan(&l.ID, &l.Ref, &l.Card, &fen, &l.State, &l.ATC, &old, &l.Proof, &placed, &changed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoLoad
	}
	l.Amount, l.Old, l.Placed, l.Changed = money.Fen(fen), money.Fen(old), db.Moment(placed), db.Moment(changed)
	return l, err
}

func loadWhere(q db.Reader, where string, args ...any) (Load, error) {
	return scanLoad(q.QueryRow(`SELECT `+loadColumns+` FROM issuing_load WHERE `+where, args...).Scan)
}

func openLoad(q db.Reader, id CardID) (Load, error) { return loadWhere(q, `card = $1 AND open`, id) }

func loadAt(q db.Reader, id CardID, atc int) (Load, error) {
	return loadWhere(q, `card = $1 AND atc = $2`, id, atc)
}

// LoadOf reads one load.
func LoadOf(q db.Reader, id string) (Load, error) {
	l, err := loadWhere(q, `id = $1`, id)
	if err != nil {
		return Load{}, fmt.Errorf("load %s: %w", id, err)
	}
	return l, nil
}

// LoadsOf reads a card's loads, newest first.
func LoadsOf(q db.Reader, id CardID, limit int) ([]Load, error) {
	return loads(q, `card = $1 ORDER BY id DESC LIMIT $2`, id, min(max(limit, 1), maxPage))
}

func loads(q db.Reader, where string, args ...any) (out []Load, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		l, err := scanLoad(scan)
		out = append(out, l)
		return err
	}, `SELECT `+loadColumns+` FROM issuing_load WHERE `+where, args...)
	return out, err
}

// Book completes an approved payment for its acquirer: fen may be up to percent
// of what was authorised. It is false when it was booked before, and nothing
// moved.
func Book(tx *db.Tx, id CardID, counter int, fen money.Amount, percent int64) (bool, error) {
	return finish(tx, id, counter, authPaid, fen, percent)
}

// Raise makes an approved payment, which is not booked yet, one of a larger
// amount. What is held already, of a voice code say, is not held twice.
func Raise(tx *db.Tx, id CardID, counter int, ref string, to money.Amount) error {
	a, found, err := authAt(tx, id, counter)
	switch {
	case err != nil:
	case !found || a.kind != askPay:
		err = ErrNoAuth
	case a.state != authHeld:
		err = ErrState
	case to.Minor() > a.fen:
		if _, err = ledger.Raise(tx, holdRef(id, counter, a.again), ref, money.Fen(to.Minor()-a.fen)); err == nil {
			err = widen(tx, id, counter, a.day, to.Minor()-a.fen)
		}
	}
	if err != nil {
		return fmt.Errorf("raising payment %d of card %s: %w", counter, id.Masked(), err)
	}
	return nil
}

// GiveBack pays part or all of a booked payment back from its payee to the
// card's account, under a reference of its own and never more than was paid.
// Kind is KindReversal or KindReturned.
func GiveBack(tx *db.Tx, id CardID, counter int, ref, kind string, fen money.Amount) error {
	a, found, err := authAt(tx, id, counter)
	covered := true
	if err == nil && kind == KindReturned {
		covered, err = Covers(tx, id, a.payee, fen)
	}
	switch {
	case err != nil:
	case !found || a.kind != askPay:
		err = ErrNoAuth
	case a.state != authPaid:
		err = ErrState
	case fen.Sign() <= 0 || fen.Minor() > a.paid || !covered:
		err = ErrAmount
	default:
		e := ledger.Move(ref, a.payee, a.account, fen)
		e.Kind = kind
		e.Text, _ = KindWords(kind, false)
		if _, err = ledger.Post(tx, e); err == nil {
			state := authPaid
			if a.paid == fen.Minor() {
				state = authReturned
			}
			err = setAuth(tx, id, counter, state, a.paid-fen.Minor())
		}
	}
	if err != nil {
		return fmt.Errorf("giving back payment %d of card %s: %w", counter, id.Masked(), err)
	}
	return nil
}

// UndoLoad ends a bound load whose script never reached the card: its terminal
// had no answer.
func UndoLoad(tx *db.Tx, id CardID, counter int) error {
	l, err := loadAt(tx, id, counter)
	if err == nil && l.State != LoadVoid {
		err = l.end(tx, LoadVoid, "terminal")
	}
	if err != nil {
		return fmt.Errorf("undoing a load of card %s: %w", id.Masked(), err)
	}
	return nil
}

// LoadAt reads the load that a counter of the card is bound to.
func LoadAt(q db.Reader, id CardID, counter int) (Load, error) { return loadAt(q, id, counter) }

// Rehold takes an ended payment up again, when what ended it was taken back:
// the money is held anew, if it is there.
func Rehold(tx *db.Tx, id CardID, counter int) error {
	a, found, err := authAt(tx, id, counter)
	switch {
	case err != nil:
	case !found || a.kind != askPay:
		err = ErrNoAuth
	case a.state != authReleased && a.state != authReturned:
		err = ErrState
	default:
		_, err = ledger.Authorise(tx, ledger.Hold{Ref: holdRef(id, counter, a.again+1), From: a.account, To: a.payee, Amount: money.Fen(a.fen),
			Expires: tx.Now().Add(holdTime), Text: a.text})
		if err == nil {
			err = reopen(tx, id, counter, a.day, a.fen)
		}
	}
	if err != nil {
		return fmt.Errorf("taking payment %d of card %s up again: %w", counter, id.Masked(), err)
	}
	return nil
}

// AccountOf is the ledger account that a bank card's payments and loads come
// from.
func AccountOf(q db.Reader, id CardID) (ledger.AccountID, error) {
	s, err := secretOf(q, id)
	return ledger.AccountID(s.account), err
}
