package issuing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
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
	KindOwed     = "card.owed"      // the holder pays what the account had lacked
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
	KindRepaid: {"card bill paid", "信用卡还款"}, KindOwed: {"owed of an offline payment", "脱机消费欠款追偿"},
	"capture": {"top-up", "充值"}, "card.deposit": {"card deposit", "卡押金"}, "card.deposit_back": {"card deposit returned", "退还卡押金"},
	"card.refund": {"balance of a returned card", "退卡余额"}, "transit.debit": {"ride", "乘车"},
	"chargeback": {"disputed payment given back", "争议款退回"}, "chargeback_returned": {"dispute lost, payment taken again", "争议败诉扣回"},
	"canteen.purchase": {"meal", "就餐"}, "canteen.refund": {"meal taken back", "就餐退款"}, "canteen.subsidy": {"meal subsidy", "餐补"},
}

// A Line is one line of a card's statement in people's words.
type Line struct {
	ledger.Line
	EN, ZH string
}

// Statement reads the lines of a card's own account, oldest first, from line
// from on (1 is the first): of a credit card what it owes, of every other what
// stands on it offline.
func Statement(ctx context.Context, book *ledger.Book, c Card, from uint64, limit int) ([]Line, error) {
	id := Float(c.ID)
	if c.Kind == Credit {
		id = CreditAccount(c.ID)
	}
	lines, err := book.Statement(ctx, id, from, limit)
	if err != nil {
		return nil, fmt.Errorf("statement of card %s: %w", c.ID.Masked(), err)
	}
	out := make([]Line, len(lines))
	for i, l := range lines {
		out[i] = Line{l, l.Text, l.Text}
		if w, ok := entryWords[l.Kind]; ok {
			out[i].EN, out[i].ZH = w[0], w[1]
		}
	}
	return out, nil
}

// A Request is an online request of a card as its holder's pages show it.
type Request struct {
	ATC   int    // the card's counter; above 65535 without a chip
	Type  string // pay, load, refund, other
	Fen   money.Amount
	Paid  money.Amount // completed or given back in the end
	State string       // held, paid, released, returned, declined, bound
	Why   Reason       // it was declined
	Text  string       // the shop
	At    time.Time
}

// Words says what became of the request, in Chinese if zh.
func (r Request) Words(zh bool) string {
	if r.Why != Approval {
		return r.Why.Words(zh)
	}
	w, ok := requestWords[r.State]
	switch {
	case !ok:
		return r.State
	case zh:
		return w[1]
	}
	return w[0]
}

var requestWords = map[string][2]string{
	authHeld: {"approved, not yet paid", "已授权，未入账"}, authPaid: {"paid", "已入账"}, authReleased: {"given up", "已撤销"},
	authReturned: {"paid and given back", "已退回"}, authDeclined: {"declined", "已拒绝"}, string(LoadBound): {"load on its way", "圈存中"},
}

// Requests reads a card's online requests, newest first, from the counter before
// the given on; 0 is from the newest.
func Requests(q db.Reader, id CardID, before, limit int) (out []Request, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var r Request
		var fen, paid, at int64
		var arc string
		err := scan(&r.ATC, &r.Type, &fen, &paid, &r.State, &arc, &r.Text, &at)
		r.Fen, r.Paid, r.At = money.Fen(fen), money.Fen(paid), db.Moment(at)
		r.Why = reasonOf(arc)
		out = append(out, r)
		return err
	}, `SELECT atc, kind, fen, paid, state, arc, text, at FROM issuing_auth WHERE card = $1 AND (atc < $2 OR $2 = 0) ORDER BY atc DESC LIMIT $3`,
		id, before, min(max(limit, 1), maxPage))
	return out, err
}

// reasonOf is the reason that a response code stands for.
func reasonOf(arc string) Reason {
	for why, code := range codes {
		if code == arc {
			return why
		}
	}
	return Approval
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
	FlawNotDue    Flaw = "not_due"    // an online payment was declined, given up or for less; a record that does not fit its request
	FlawNoAuth    Flaw = "no_request" // an online payment, load or refund that the house was never asked for
	FlawOver      Flaw = "over"       // a load or refund that has ended the other way
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
	FlawNotDue: {"the online payment was not approved for it", "联机未批准"}, FlawNoAuth: {"nobody asked the house for it", "未曾联机请求"},
	FlawOver: {"it has ended the other way", "已按相反结果处理"}, FlawNoAccount: {"no account to pay", "无收款账户"},
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
	balance int64 // as the card reports it: after an offline payment, before anything else; -1 not
	alone   bool  // the card's first word was its approval
	watch   func(*db.Tx, Movement) error
}

// A knownCard is what is kept of a card that asked lately: nothing of it changes
// but the PIN, whose changes make all of it worthless.
type knownCard struct {
	secret secret
	pins   int64
	newest bool  // it has the highest sequence number of its account number
	made   int64 // cardsMade then: a newer one may have been opened
}

// pinChanges counts the PINs that were changed, cardsMade the cards that were
// opened, of all banks.
var pinChanges, cardsMade atomic.Int64

// cardBy finds a card by token and, where its chip said it, sequence number.
func (b *Bank) cardBy(ctx context.Context, token string, psn byte, chip bool) (s secret, err error) {
	at, _ := strconv.ParseUint(token[:4], 16, 16)
	slot, pins, made := &b.known[int(at)%len(b.known)], pinChanges.Load(), cardsMade.Load()
	if k := slot.Load(); k != nil && k.secret.token == token && k.pins == pins && (chip && k.secret.psn == psn || !chip && k.newest && k.made == made) {
		return k.secret, nil
	}
	err = b.store.Read(ctx, func(q *db.Query) (err error) {
		if chip {
			s, err = byToken(q, token, psn)
		} else {
			s, err = byNumber(q, token)
		}
		return err
	})
	if err == nil {
		slot.Store(&knownCard{secret: s, pins: pins, newest: !chip, made: made})
	}
	return s, err
}

// Check has the hsm verify a record that a terminal handed in for a payee.
func (b *Bank) Check(ctx context.Context, c pboc.Clearing, payee ledger.AccountID) (k Checked, err error) {
	k = Checked{record: c, payee: payee, balance: -1, watch: b.watch}
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
	k.alone = iad.CVR.First() == pboc.TC
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
// tells what became of each. They may be handed in again at any time and in any
// order: what waited for one of them is booked with it.
func (b *Bank) Clear(ctx context.Context, records []pboc.Clearing, payee ledger.AccountID) ([]Fate, error) {
	out := make([]Fate, 0, len(records))
	booked := map[CardID]bool{}
	for _, r := range records {
		k, err := b.Check(ctx, r, payee)
		if err != nil {
			return out, err
		}
		f, err := b.clear(ctx, k)
		if err != nil {
			return out, err
		}
		out = append(out, f)
		booked[k.Card()] = booked[k.Card()] || f == Cleared
	}
	for id, some := range booked {
		if some && id != "" {
			if err := b.RetryCard(ctx, id); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func (b *Bank) clear(ctx context.Context, k Checked) (f Fate, err error) {
	err = b.store.Write(ctx, func(tx *db.Tx) (err error) {
		f, _, err = ClearTC(tx, k)
		return err
	})
	return f, err
}

// RetryCard tries a card's records in suspense again until none can be booked.
func (b *Bank) RetryCard(ctx context.Context, id CardID) error {
	for again := true; again; {
		again = false
		var list []Suspended
		err := b.store.Read(ctx, func(q *db.Query) (err error) {
			list, err = suspended(q, `settled = 0 AND card = $1 ORDER BY id LIMIT $2`, id, maxPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, s := range list {
			f, err := b.Retry(ctx, s.ID)
			if err != nil {
				return err
			}
			again = again || f == Cleared
		}
	}
	return nil
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
	if err := k.keep(tx); err != nil {
		return "", "", err
	}
	if err := endDoubt(tx, k.secret.card, k.record.ATC); err != nil {
		return "", "", err
	}
	return Cleared, NoFlaw, weighDoubts(tx, k.secret.card, k.watch)
}

// booked tells whether the record has been booked. Records of one counter are
// of one amount and payee: the cryptogram is over both.
func booked(tx *db.Tx, k Checked) (known bool, flaw Flaw, err error) {
	err = db.Each(tx, func(scan func(...any) error) error {
		var kind byte
		var fen int64
		var payee string
		err := scan(&kind, &fen, &payee)
		if fen != int64(k.record.Fen) || payee != string(k.payee) {
			flaw = FlawDiffers
		}
		known = known || pboc.ClearingKind(kind) == k.record.Kind
		return err
	}, `SELECT kind, fen, payee FROM issuing_clearing WHERE card = $1 AND atc = $2`, k.secret.card, int64(k.record.ATC))
	return known, flaw, err
}

func (k Checked) fen() money.Amount { return money.Fen(int64(k.record.Fen)) }

// learn keeps what the record proves about the card: its counter, its balance,
// and with them what became of a load.
func (k Checked) learn(tx *db.Tx, c Card, d BankData) error {
	atc := int(k.record.ATC)
	if err := heard(tx, c.ID, atc); err != nil {
		return err
	}
	if k.balance < 0 {
		return nil
	}
	before := money.Fen(k.balance)
	if k.alone && !atAccount(k.record) && (k.balance > 0 || d.Support == 0) { // otherwise part of the fare may stand owing
		before = before.Add(k.fen())
	}
	if err := proveOpen(tx, c.ID, Proof{ATC: atc, Balance: before, By: "clearing"}); err != nil {
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
	_, err = tx.Exec(`INSERT INTO issuing_clearing (card, atc, kind, fen, balance, payee, terminal, stan, done, at, account)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		k.secret.card, int64(r.ATC), byte(r.Kind), int64(r.Fen), k.balance, string(k.payee), r.TID, int64(r.STAN), micros(done), tx.Now().UnixMicro(), atAccount(r))
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
func InSuspense(q db.Reader, after string, limit int) ([]Suspended, error) {
	return suspended(q, `settled = 0 AND id > $1 ORDER BY id LIMIT $2`, after, min(max(limit, 1), maxPage))
}

func suspended(q db.Reader, where string, args ...any) (out []Suspended, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s Suspended
		var fen, at int64
		err := scan(&s.ID, &s.Card, &s.ATC, &fen, &s.Payee, &s.Terminal, &s.Why, &at)
		s.Fen, s.At = money.Fen(fen), db.Moment(at)
		out = append(out, s)
		return err
	}, `SELECT id, card, atc, fen, payee, terminal, why, at FROM issuing_suspense WHERE `+where, args...)
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
	return b.clear(ctx, k)
}

// Card is whose record it is; empty when the house has no such card.
func (k Checked) Card() CardID { return k.secret.card }

// ID names the record for ever: the hsm's hash of it and its payee.
func (k Checked) ID() string { return k.id }
