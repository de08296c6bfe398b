package issuing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/issuing/rule"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/pboc"
)

// DoubtState is where the case of a transaction without a known end stands.
type DoubtState string

// The states, and who acts next.
const (
	DoubtWaiting DoubtState = "waiting" // the card: be heard again; else staff: RuleDoubt
	DoubtRecord  DoubtState = "record"  // nobody: the terminal's record came after all
	DoubtPaid    DoubtState = "paid"    // nobody: the card paid, or has the load
	DoubtUnpaid  DoubtState = "unpaid"  // nobody: it did not, or has not
)

// Words says the state for people, in Chinese if zh.
func (s DoubtState) Words(zh bool) string {
	w, ok := doubtWords[s]
	switch {
	case !ok:
		return string(s)
	case zh:
		return w[1]
	}
	return w[0]
}

var doubtWords = map[DoubtState][2]string{
	DoubtWaiting: {"waits for the card", "待卡片证明"}, DoubtRecord: {"its record came", "已补送记录"},
	DoubtPaid: {"the card paid", "卡片已扣款"}, DoubtUnpaid: {"the card did not pay", "卡片未扣款"},
}

// Evidence is what decided a doubt: two balances that the card itself proved,
// and what is booked between them; or a member of staff.
type Evidence struct {
	After   int    `json:"after,omitempty"`   // counter of the first balance
	Had     int64  `json:"had,omitempty"`     // fen
	Before  int    `json:"before,omitempty"`  // counter of the second
	Left    int64  `json:"left,omitempty"`    // fen
	Booked  int64  `json:"booked,omitempty"`  // spent less loaded between them, as booked, fen
	Missing int64  `json:"missing,omitempty"` // left the card between them and was not booked, fen
	Whole   bool   `json:"whole,omitempty"`   // every counter between them is accounted for
	By      string `json:"by,omitempty"`      // staff, or what told of a load
	Why     string `json:"why,omitempty"`
}

// Words says the evidence for people, in Chinese if zh.
func (e Evidence) Words(zh bool) string {
	switch {
	case e == (Evidence{}):
		return ""
	case e.By != "" && e.Why != "":
		return e.By + ": " + e.Why
	case e.By != "":
		return e.By
	}
	form := "counter %d: %s; counter %d: %s; booked between them %s, not accounted for %s"
	if zh {
		form = "计数器 %d 余额 %s；计数器 %d 余额 %s；其间已入账 %s，未入账 %s"
	}
	yuan := func(fen int64) string { return money.Fen(fen).Yuan() }
	return fmt.Sprintf(form, e.After, yuan(e.Had), e.Before, yuan(e.Left), yuan(e.Booked), yuan(e.Missing))
}

// A Doubt is a transaction whose end its terminal does not know: the card left
// while it was about to pay, or with the script of a load.
type Doubt struct {
	ID       string // dbt_…
	Card     CardID
	ATC      uint16
	Kind     pboc.ClearingKind // ClearReversal: the goods were not given
	Type     byte              // 9C
	Fen      money.Amount
	Payee    ledger.AccountID
	Terminal string
	Paid     bool // the terminal saw the payment in the card's log; its cryptogram is lost
	State    DoubtState
	Evidence Evidence
	At       time.Time
	Decided  time.Time // zero: not yet
	balance  int64     // e-cash before it, -1 not known
}

// given says that the customer has the goods. A sale that was torn and whose
// card never came back gave nothing.
func (d Doubt) given() bool { return d.Paid && d.Kind == pboc.ClearSale }

// TakeDoubt takes a terminal's doubt over: the case is kept once per card and
// counter, and is decided as soon as the card tells, by a cryptogram, its
// balance or its log, or at once if it has told already. Then an offline payment
// is booked to the payee if the goods were given, and else back to the holder.
// The same again changes nothing. A card that is not the house's is ErrNotFound.
func (b *Bank) TakeDoubt(ctx context.Context, c pboc.Clearing, paid bool, payee ledger.AccountID) (d Doubt, err error) {
	token, err := b.keys.Token(ctx, c.PAN)
	if err != nil {
		return d, err
	}
	d = Doubt{ATC: c.ATC, Kind: c.Kind, Type: c.Type, Fen: money.Fen(int64(c.Fen)), Payee: payee, Terminal: c.TID, Paid: paid, State: DoubtWaiting, balance: -1}
	err = b.store.Read(ctx, func(q *db.Query) error {
		s, err := byToken(q, token, c.PSN)
		d.Card = s.card
		return err
	})
	if err == nil && (payee == "" || c.Fen > pboc.MaxFen || c.Kind != pboc.ClearSale && c.Kind != pboc.ClearReversal && c.Kind != pboc.ClearOnline) {
		err = ErrBadInput
	}
	if err != nil {
		return Doubt{}, fmt.Errorf("doubt of terminal %s: %w", c.TID, err)
	}
	// A cryptogram that the card gave before it left tells what it held then.
	if iad, err := b.keys.CheckClearing(ctx, c); err == nil && c.Kind == pboc.ClearSale && iad.CVR.First() == pboc.TC && iad.Report == pboc.ReportBalance {
		d.balance = int64(iad.Amounts[0] + c.Fen)
	}
	err = b.store.Write(ctx, func(tx *db.Tx) error { return d.take(tx, b.watch) })
	if err != nil {
		return Doubt{}, fmt.Errorf("doubt of terminal %s, card %s, ATC %d: %w", c.TID, d.Card.Masked(), c.ATC, err)
	}
	return d, nil
}

func (d *Doubt) take(tx *db.Tx, watch func(*db.Tx, Movement) error) error {
	old, err := doubtAt(tx, d.Card, d.ATC)
	switch {
	case err == nil && (old.Fen.Cmp(d.Fen) != 0 || old.Payee != d.Payee || old.Type != d.Type):
		return ErrDiffers
	case err == nil && old.State == DoubtWaiting && d.Paid && !old.Paid: // it has learned more since
		_, err = tx.Exec(`UPDATE issuing_doubt SET paid = $2, kind = $3 WHERE id = $1`, old.ID, true, byte(d.Kind))
	case errors.Is(err, ErrNoDoubt):
		_, err = tx.Exec(`INSERT INTO issuing_doubt (id, card, atc, kind, typ, fen, payee, terminal, paid, balance, state, evidence, at, decided)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '{}', $12, 0)`, tx.NewID("dbt"), d.Card, int64(d.ATC), byte(d.Kind), d.Type,
			d.Fen.Minor(), string(d.Payee), d.Terminal, d.Paid, d.balance, DoubtWaiting, tx.Now().UnixMicro())
	}
	if err != nil {
		return err
	}
	kinds, err := kindsAt(tx, d.Card, d.ATC)
	if err == nil && len(kinds) > 0 {
		err = endDoubt(tx, d.Card, d.ATC)
	}
	if err == nil && askOf(d.Type) == askLoad {
		err = d.askLoad(tx)
	}
	if err == nil {
		err = weighDoubts(tx, d.Card, watch)
	}
	if err == nil {
		*d, err = doubtAt(tx, d.Card, d.ATC)
	}
	return err
}

// askLoad ends the doubt of a load that has ended, or never came here.
func (d Doubt) askLoad(tx *db.Tx) error {
	l, err := loadAt(tx, d.Card, int(d.ATC))
	switch {
	case errors.Is(err, ErrNoLoad):
		return endLoadDoubt(tx, d.Card, int(d.ATC), false, "never asked for")
	case err == nil && (l.State == LoadPaid || l.State == LoadVoid):
		return endLoadDoubt(tx, d.Card, int(d.ATC), l.State == LoadPaid, l.Proof)
	}
	return err
}

// decided writes a doubt's end down.
func (d Doubt) decided(tx *db.Tx, state DoubtState, e Evidence) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE issuing_doubt SET state = $2, evidence = $3, decided = $4 WHERE id = $1 AND state = $5`,
		d.ID, state, string(text), tx.Now().UnixMicro(), DoubtWaiting)
	return err
}

// endDoubt closes the case of a counter whose record came.
func endDoubt(tx *db.Tx, id CardID, atc uint16) error {
	_, err := tx.Exec(`UPDATE issuing_doubt SET state = $3, decided = $4 WHERE card = $1 AND atc = $2 AND state = $5`,
		id, int64(atc), DoubtRecord, tx.Now().UnixMicro(), DoubtWaiting)
	return err
}

// endLoadDoubt closes the case of a load that has ended.
func endLoadDoubt(tx *db.Tx, id CardID, atc int, paid bool, by string) error {
	if atc < 0 {
		return nil
	}
	d, err := doubtAt(tx, id, uint16(atc))
	if errors.Is(err, ErrNoDoubt) || err == nil && askOf(d.Type) != askLoad {
		return nil
	}
	state := DoubtUnpaid
	if paid {
		state = DoubtPaid
	}
	if err == nil {
		err = d.decided(tx, state, Evidence{By: by})
	}
	return err
}

// rule books what a doubt was decided to be.
func (d Doubt) rule(tx *db.Tx, paid bool, e Evidence, watch func(*db.Tx, Movement) error) (Flaw, error) {
	if !paid {
		return NoFlaw, d.decided(tx, DoubtUnpaid, e)
	}
	c, err := Get(tx, d.Card)
	if err != nil {
		return "", err
	}
	data, _, err := bankDataOf(tx, c)
	if err != nil {
		return "", err
	}
	s, err := secretOf(tx, d.Card)
	if err != nil {
		return "", err
	}
	x := spent{secret: s, source: sourceOf(s, data), atc: d.ATC, fen: d.Fen, payee: d.Payee}
	if flaw, err := x.read(tx); err != nil || flaw != NoFlaw {
		return flaw, err
	}
	x.proved, x.given = true, d.given()
	if flaw, err := x.settle(tx, watch); err != nil || flaw != NoFlaw {
		return flaw, err
	}
	return NoFlaw, d.decided(tx, DoubtPaid, e)
}

// weighDoubts decides what a card's balances decide.
func weighDoubts(tx *db.Tx, id CardID, watch func(*db.Tx, Movement) error) error {
	open, err := doubts(tx, `card = $1 AND state = $2 AND kind IN ($3, $4) ORDER BY atc`, id, DoubtWaiting, byte(pboc.ClearSale), byte(pboc.ClearReversal))
	if err != nil || len(open) == 0 {
		return err
	}
	c, err := Get(tx, id)
	if err != nil {
		return err
	}
	if d, _, err := bankDataOf(tx, c); err != nil || d.Support != 0 {
		return err // a fare may stand owing: the balance alone does not tell
	}
	wait, err := rule.On(tx, string(c.ID), c.Product, rule.Claim, tx.Now())
	if err != nil {
		return err
	}
	h, err := historyOf(tx, id)
	if err != nil {
		return err
	}
	for i, v := range h.weigh(open, tx.Now().AddDate(0, 0, -int(wait.Value))) {
		if v.state == DoubtWaiting {
			continue
		}
		if _, err := open[i].rule(tx, v.state == DoubtPaid, v.evidence, watch); err != nil {
			return err
		}
	}
	return nil
}

// RipenDoubts decides the doubts whose waiting time (rule.Claim) is over and that
// explain what a card lacks: by then every terminal has handed in. It may be
// called at any time.
func (b *Bank) RipenDoubts(ctx context.Context) error {
	var ids []CardID
	err := b.store.Read(ctx, func(q *db.Query) error {
		return db.Each(q, func(scan func(...any) error) error {
			var id CardID
			err := scan(&id)
			ids = append(ids, id)
			return err
		}, `SELECT DISTINCT card FROM issuing_doubt WHERE state = $1 ORDER BY card LIMIT $2`, DoubtWaiting, maxPage)
	})
	for _, id := range ids {
		if err == nil {
			err = b.store.Write(ctx, func(tx *db.Tx) error { return weighDoubts(tx, id, b.watch) })
		}
	}
	if err != nil {
		return fmt.Errorf("doubts: %w", err)
	}
	return nil
}

// RuleDoubt is the decision of staff on a doubt that nothing else decides: paid
// says that the card paid, or has the load.
func (b *Bank) RuleDoubt(tx *db.Tx, id string, paid bool, by, why string) (d Doubt, err error) {
	list, err := doubts(tx, `id = $1`, id)
	switch {
	case err == nil && len(list) == 0:
		err = ErrNoDoubt
	case err == nil && (by == "" || len(by) > MaxBand || why == "" || len(why) > maxWhy):
		err = ErrBadInput
	case err == nil && list[0].State != DoubtWaiting:
		err = ErrState
	}
	if err != nil {
		return d, fmt.Errorf("doubt %s: %w", id, err)
	}
	d = list[0]
	e := Evidence{By: by, Why: why}
	flaw := NoFlaw
	switch {
	case d.Kind != pboc.ClearOnline:
		flaw, err = d.rule(tx, paid, e, b.watch)
	case askOf(d.Type) == askLoad:
		var l Load
		if err = d.decided(tx, map[bool]DoubtState{true: DoubtPaid, false: DoubtUnpaid}[paid], e); err == nil {
			l, err = loadAt(tx, d.Card, int(d.ATC))
		}
		if err == nil {
			_, err = RuleLoad(tx, l.ID, paid)
		}
	default:
		err = ErrState // the terminal cancels it at its next start
	}
	switch {
	case err == nil && flaw == FlawShort:
		err = ErrShort
	case err == nil && flaw != NoFlaw:
		err = ErrDiffers
	}
	if err != nil {
		return Doubt{}, fmt.Errorf("doubt %s: %w", id, err)
	}
	return doubtAt(tx, d.Card, d.ATC)
}

const maxWhy = 200

// Doubts reads the doubts in a state, or all for "", by id, from the one after
// the given.
func Doubts(q db.Reader, state DoubtState, after string, limit int) ([]Doubt, error) {
	return doubts(q, `(state = $1 OR $1 = '') AND id > $2 ORDER BY id LIMIT $3`, state, after, min(max(limit, 1), maxPage))
}

// DoubtOf reads one doubt.
func DoubtOf(q db.Reader, id string) (Doubt, error) {
	list, err := doubts(q, `id = $1`, id)
	if err == nil && len(list) == 0 {
		err = ErrNoDoubt
	}
	if err != nil {
		return Doubt{}, fmt.Errorf("doubt %s: %w", id, err)
	}
	return list[0], nil
}

// DoubtsOf reads a card's doubts, oldest counter first.
func DoubtsOf(q db.Reader, id CardID) ([]Doubt, error) {
	return doubts(q, `card = $1 ORDER BY atc`, id)
}

func doubtAt(q db.Reader, id CardID, atc uint16) (Doubt, error) {
	list, err := doubts(q, `card = $1 AND atc = $2`, id, int64(atc))
	if err == nil && len(list) == 0 {
		err = ErrNoDoubt
	}
	if err != nil {
		return Doubt{}, err
	}
	return list[0], nil
}

func doubts(q db.Reader, where string, args ...any) (out []Doubt, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Doubt
		var fen, at, decided int64
		var evidence string
		err := scan(&d.ID, &d.Card, &d.ATC, &d.Kind, &d.Type, &fen, &d.Payee, &d.Terminal, &d.Paid, &d.balance, &d.State, &evidence, &at, &decided)
		if err == nil {
			err = json.Unmarshal([]byte(evidence), &d.Evidence)
		}
		d.Fen, d.At, d.Decided = money.Fen(fen), db.Moment(at), db.Moment(decided)
		out = append(out, d)
		return err
	}, `SELECT id, card, atc, kind, typ, fen, payee, terminal, paid, balance, state, evidence, at, decided FROM issuing_doubt WHERE `+where, args...)
	return out, err
}

// A Reason says why an online request was answered as it was.
type Reason string

// The reasons, with the response codes (tag 8A, ISO 8583 field 39) they give.
const (
	Approval      Reason = ""             // 00
	CardDeclined  Reason = "card"         // 05: the cryptogram is no ARQC
	InProgress    Reason = "in_progress"  // 09: what became of an earlier load is not known yet
	OtherAmount   Reason = "amount"       // 13: the load was ordered with another amount
	UnknownCard   Reason = "unknown"      // 14
	Malformed     Reason = "malformed"    // 30
	GivenUp       Reason = "given_up"     // 40: the terminal took it back before it came
	Lost          Reason = "lost"         // 41: the card is suspended or replaced
	NoMoney       Reason = "no_money"     // 51
	Expired       Reason = "expired"      // 54
	WrongPIN      Reason = "wrong_pin"    // 55
	NotOffered    Reason = "not_offered"  // 57: the card does not pay that way, or in that currency
	OverLimit     Reason = "over_limit"   // 61
	NotActive     Reason = "not_active"   // 62
	BadCryptogram Reason = "cryptogram"   // 63
	NoTries       Reason = "no_pin_tries" // 75
	Repeated      Reason = "repeated"     // 94: the counter was used with another cryptogram
)

var codes = map[Reason]string{Approval: "00", CardDeclined: "05", InProgress: "09", OtherAmount: "13", UnknownCard: "14", Malformed: "30", GivenUp: "40", Lost: "41",
	NoMoney: "51", Expired: "54", WrongPIN: "55", NotOffered: "57", OverLimit: "61", NotActive: "62", BadCryptogram: "63", NoTries: "75", Repeated: "94"}

// Code is the response code, two characters.
func (r Reason) Code() string { return codes[r] }

// Words says the reason for people, in Chinese if zh.
func (r Reason) Words(zh bool) string {
	w, ok := reasonWords[r]
	switch {
	case !ok:
		return string(r)
	case zh:
		return w[1]
	}
	return w[0]
}

var reasonWords = map[Reason][2]string{
	Approval: {"approved", "已批准"}, CardDeclined: {"the card declined", "卡片拒绝"}, InProgress: {"an earlier load is being looked into", "上一笔圈存待确认"},
	OtherAmount: {"another amount was ordered", "金额与订单不符"}, UnknownCard: {"no such card", "无此卡"}, Malformed: {"the request is incomplete", "报文不完整"},
	GivenUp: {"the terminal took it back", "终端已撤销"}, Lost: {"the card was reported lost", "卡片已挂失"}, NoMoney: {"not enough money", "余额不足"}, Expired: {"the card has expired", "卡片已过期"},
	WrongPIN: {"wrong PIN", "密码错误"}, NotOffered: {"the card does not offer this", "卡片不支持此交易"}, OverLimit: {"above a limit", "超出限额"},
	NotActive: {"the card is not active", "卡片未启用"}, BadCryptogram: {"the cryptogram does not verify", "密文验证不通过"},
	NoTries: {"no PIN tries left", "密码已锁定"}, Repeated: {"the counter was used before", "计数器重复"},
}

// sourceOf is where an offline payment of the card comes from.
func sourceOf(s secret, d BankData) ledger.AccountID {
	if d.ECash {
		return Float(s.card)
	}
	return ledger.AccountID(s.account)
}

// atAccount tells whether a card that approved by itself did so as a debit or
// credit card and not out of its e-cash: it was inserted, and the record that
// ends the e-cash's list (9F74) was not read. The house's lists of methods ask
// "if supported" everywhere, and readers of a tap write down "always" (9F34).
func atAccount(r pboc.Clearing) bool {
	cvm := emv.CVMResults(r.CVMResults)
	inserted := cvm.Rule().Method() == emv.CVMNotPerformed || cvm.Rule().Condition == emv.CVMIfSupported
	return r.Kind != pboc.ClearOnline && inserted && r.IssuerCode == nil
}

// Owed is the house's claim on the holder of a card's account: what the account
// lacked when a card had approved a payment by itself. A shop is paid for such
// an approval whatever stands on the account. Below zero: so much is owed.
func Owed(account ledger.AccountID) ledger.AccountID { return "owed." + account }

// codeOwed is the chart code of such claims.
const codeOwed = "1320"

// lend pays the payee what the account has, and the rest of the house's money.
func (x spent) lend(tx *db.Tx, e ledger.Entry) (Flaw, error) {
	account := ledger.AccountID(x.secret.account)
	b, err := ledger.BalanceOf(tx, account)
	if err != nil {
		return "", err
	}
	own := min(max(b.Available.Minor()+x.credit, 0), x.fen.Minor())
	rest := x.fen.Sub(money.Fen(own))
	err = ledger.OpenAccount(tx, ledger.Account{ID: Owed(account), Code: codeOwed, Name: "owed by cardholder", Currency: money.CNY,
		Limits: ledger.Limits{Ceiling: ledger.AtLeast(0)}})
	if err != nil {
		return "", err
	}
	e.Legs = []ledger.Leg{{Account: Owed(account), Amount: rest.Neg()}, {Account: x.payee, Amount: x.fen}}
	if own > 0 {
		e.Legs = append(e.Legs, ledger.Leg{Account: account, Amount: money.Fen(-own)})
	}
	if flaw, err := post(tx, e, cmp.Or(e.Kind, KindPayment)); err != nil || flaw != NoFlaw {
		return flaw, err
	}
	_, err = tx.Exec(`INSERT INTO issuing_owed (account, fen, credit, paid) VALUES ($1, $2, $3, 0)
		ON CONFLICT (account) DO UPDATE SET fen = issuing_owed.fen + excluded.fen, credit = CASE WHEN excluded.credit > 0 THEN excluded.credit ELSE issuing_owed.credit END`, string(account), rest.Minor(), x.credit)
	return NoFlaw, err
}
