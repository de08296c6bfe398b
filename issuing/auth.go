package issuing

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

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

// Transaction types (tag 9C): the first two digits of ISO 8583's processing
// code, those of e-cash loads as hosts code them (DOMAIN.md 6).
const (
	TypePurchase = 0x00
	TypeRefund   = 0x20 // goods came back, the card is there
	TypeInquiry  = 0x31 // moves nothing: the card is heard
	TypeLoad     = 0x60 // from the card's own account
	lastLoad     = 0x63
)

// An Online is a request for authorisation.
type Online struct {
	EMV   []byte           // data objects as the terminal has them: 9F26 9F10 9F36 9F37 82 95 9A 9C 9F02 9F03 5F2A 9F1A, 57 or 5A, 5F34
	PIN   *hsm.PINBlock    // nil: none was entered
	Payee ledger.AccountID // whom an approved payment is held for
	Text  string           // the shop, for statements
}

// An Answer goes back to the terminal.
type Answer struct {
	ARC  string // tag 8A
	Why  Reason
	EMV  []byte // 91, and 72 where there is a script; empty when the card is not known
	Card CardID // for the caller's records; empty when not known
	Load string // order that a load was bound to
}

// asked is a request taken apart, with what the hsm says about it.
type asked struct {
	c      hsm.Cryptogram
	iad    pboc.IAD
	secret secret
	typ    byte
	fen    money.Amount
	pin    error // of the hsm's check; nil: right or none
	hasPIN bool
	payee  ledger.AccountID
	text   string
}

// Authorise answers an online request: it verifies cryptogram and PIN, then in
// one unit applies the rules, holds the money and keeps the answer under card
// and counter, so that the same request again gets the same answer and nothing
// twice. A request of a load type is a load (see PlaceLoad).
func (b *Bank) Authorise(ctx context.Context, r Online) (Answer, error) {
	a, why, err := b.ask(ctx, r)
	if err != nil {
		return Answer{}, fmt.Errorf("authorising: %w", err)
	}
	if why != Approval {
		return Answer{ARC: why.Code(), Why: why, Card: a.secret.card}, nil
	}
	var d decision
	err = b.store.Write(ctx, func(tx *db.Tx) (err error) {
		d, err = settle(tx, a, b.watch)
		return err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("authorising card %s: %w", a.secret.card.Masked(), err)
	}
	out := Answer{ARC: d.why.Code(), Why: d.why, Card: a.secret.card, Load: d.load.ID}
	out.EMV, err = b.reply(ctx, a, d)
	return out, err
}

// reply makes tag 91, and the script: the new balance of a load, or the block
// of a card that was reported lost.
func (b *Bank) reply(ctx context.Context, a asked, d decision) ([]byte, error) {
	auth, err := b.keys.ARPC(ctx, a.c, [2]byte([]byte(d.why.Code())))
	if err != nil {
		return nil, err
	}
	out := tlv.Append(nil, emv.TagIssuerAuth, auth)
	var script []pboc.Script
	switch {
	case d.why == Lost:
		script = append(script, pboc.AppBlock())
	case d.why == Approval && d.load.State == LoadBound:
		script = append(script, pboc.PutBalance(uint64(d.load.New().Minor())))
	}
	commands, err := b.keys.ProtectScript(ctx, a.c, script...)
	if err != nil || len(commands) == 0 {
		return out, err
	}
	var body []byte
	for _, c := range commands {
		body = tlv.Append(body, emv.TagScriptCommand, c.Bytes())
	}
	return tlv.Append(out, emv.TagScript2, body), nil
}

// ask takes a request apart and has the hsm look at it.
func (b *Bank) ask(ctx context.Context, r Online) (a asked, why Reason, err error) {
	a.payee, a.text = r.Payee, r.Text
	if err := a.parse(r.EMV); err != nil {
		return a, Malformed, nil
	}
	token, err := b.keys.Token(ctx, a.c.PAN)
	if err != nil {
		return a, "", err
	}
	err = b.store.Read(ctx, func(q *db.Query) (err error) {
		a.secret, err = byToken(q, token, a.c.PSN)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return a, UnknownCard, nil
	}
	if err != nil {
		return a, "", err
	}
	a.iad, err = b.keys.CheckAC(ctx, a.c)
	switch {
	case errors.Is(err, hsm.ErrAC), errors.Is(err, hsm.ErrBalance), errors.Is(err, hsm.ErrNoKey):
		return a, BadCryptogram, nil
	case err != nil:
		return a, "", err
	case byte(a.iad.Alg) != a.secret.alg || max(a.iad.DKI, 1) != a.secret.dki:
		return a, BadCryptogram, nil // keys that this card was never given
	case a.iad.CVR.First() != pboc.ARQC:
		return a, CardDeclined, nil
	}
	if r.PIN != nil {
		a.hasPIN = true
		if a.pin = ErrNoPIN; len(a.secret.pin) > 0 {
			a.pin = b.keys.CheckPIN(ctx, a.c.PAN, *r.PIN, a.secret.pin)
		}
		if a.pin != nil && !errors.Is(a.pin, hsm.ErrPIN) && !errors.Is(a.pin, hsm.ErrPINBlock) && !errors.Is(a.pin, ErrNoPIN) {
			return a, "", a.pin
		}
	}
	return a, Approval, nil
}

// parse reads the data objects. Each may stand there once.
func (a *asked) parse(raw []byte) error {
	have := map[tlv.Tag][]byte{}
	for in := raw; len(in) > 0; {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return err
		}
		if _, twice := have[tag]; twice {
			return errMissing
		}
		have[tag], in = v, rest
	}
	t := &a.c.Data
	var ac [8]byte
	var atc, aip, psn [2]byte
	for _, f := range []struct {
		tag tlv.Tag
		to  []byte
	}{
		{emv.TagAC, ac[:]}, {emv.TagATC, atc[:]}, {emv.TagAIP, aip[:]}, {emv.TagUN, t.Unpredictable[:]}, {emv.TagTVR, t.TVR[:]},
		{emv.TagDate, t.Date[:]}, {emv.TagAmount, t.Amount[:]}, {emv.TagAmountOther, t.Other[:]}, {emv.TagCurrency, t.Currency[:]},
		{emv.TagTerminalCountry, t.Country[:]},
	} {
		if len(have[f.tag]) != len(f.to) {
			return errMissing
		}
		copy(f.to, have[f.tag])
	}
	if v, ok := have[emv.TagPSN]; ok && copy(psn[:], v) != 1 || len(have[emv.TagType]) != 1 || len(have[emv.TagIAD]) == 0 {
		return errMissing
	}
	number, err := numberIn(have)
	if err != nil {
		return err
	}
	fen, err := pboc.ParseAmount(t.Amount[:])
	if err != nil {
		return err
	}
	t.Type, a.typ, a.fen = have[emv.TagType][0], have[emv.TagType][0], money.Fen(int64(fen))
	a.c.PAN, a.c.PSN, a.c.AC, a.c.ATC, a.c.AIP, a.c.IAD = string(number), psn[0]>>4*10+psn[0]&0x0F, ac, binary.BigEndian.Uint16(atc[:]), aip, have[emv.TagIAD]
	return nil
}

var errMissing = errors.New("issuing: a data object is missing, twice there or too long")

// numberIn reads the PAN of tag 5A, or of track 2 in tag 57.
func numberIn(have map[tlv.Tag][]byte) (pan.PAN, error) {
	digits := strings.TrimRight(strings.ToUpper(hex.EncodeToString(have[emv.TagPAN])), "F")
	if v := have[emv.TagTrack2]; digits == "" && v != nil {
		digits, _, _ = strings.Cut(strings.ToUpper(hex.EncodeToString(v)), "D")
	}
	return pan.Parse(digits)
}

// A decision is what a unit made of a request.
type decision struct {
	why  Reason
	load Load // bound to this counter
}

// settle decides a request and keeps the answer; of one that was answered
// before it gives the answer of then.
func settle(tx *db.Tx, a asked, watch func(*db.Tx, Movement) error) (d decision, err error) {
	id := a.secret.card
	if d, known, err := answered(tx, a); err != nil || known {
		return d, err
	}
	c, err := Get(tx, id)
	if err != nil {
		return d, err
	}
	if err := a.learn(tx, c); err != nil {
		return d, err
	}
	if d.why, err = a.judgePIN(tx, c); err != nil {
		return d, err
	}
	state := authDeclined
	if d.why == Approval {
		switch a.typ {
		case TypeLoad:
			d, err = bindLoad(tx, a, c)
			state = string(LoadBound)
		case TypeInquiry:
			state = authReleased
		case TypeRefund:
			d.why, err = takeBack(tx, a, c)
			state = authHeld
		default:
			d.why, err = pay(tx, a, c)
			state = authHeld
		}
	}
	if err != nil {
		return d, err
	}
	if d.why != Approval {
		state = authDeclined
	}
	if err := a.keep(tx, d, state); err != nil {
		return d, err
	}
	return d, weighDoubts(tx, id, watch)
}

// What became of an online request.
const (
	authDeclined = "declined"
	authHeld     = "held"     // approved; the terminal has not said how it went
	authPaid     = "paid"     // completed
	authReleased = "released" // given up
	authReturned = "returned" // completed, and the money went back
)

// answered finds the answer to a counter that was used before.
func answered(tx *db.Tx, a asked) (d decision, known bool, err error) {
	var ac []byte
	var arc string
	err = tx.QueryRow(`SELECT ac, arc FROM issuing_auth WHERE card = $1 AND atc = $2`, a.secret.card, int64(a.c.ATC)).Scan(&ac, &arc)
	if errors.Is(err, db.ErrNoRows) {
		kinds, err := kindsAt(tx, a.secret.card, a.c.ATC)
		return decision{why: Repeated}, len(kinds) > 0, err // the card has paid offline with it
	}
	if err != nil {
		return d, false, err
	}
	if !bytes.Equal(ac, a.c.AC[:]) {
		return decision{why: Repeated}, true, nil
	}
	d.why = reasonOf(arc)
	d.load, err = loadAt(tx, a.secret.card, int(a.c.ATC))
	if errors.Is(err, ErrNoLoad) {
		err = nil
	}
	return d, true, err
}

// learn keeps what a verified cryptogram says about the card.
func (a asked) learn(tx *db.Tx, c Card) error {
	if _, err := tx.Exec(`UPDATE issuing_bank SET atc = $2 WHERE card = $1 AND atc < $2`, c.ID, int64(a.c.ATC)); err != nil {
		return err
	}
	if a.iad.Report != pboc.ReportBalance {
		return nil
	}
	proof := Proof{ATC: int(a.c.ATC), Balance: money.Fen(int64(a.iad.Amounts[0])), By: "cryptogram"}
	if err := proveOpen(tx, c.ID, proof); err != nil {
		return err
	}
	return See(tx, c.ID, Counters{Balance: proof.Balance, Online: proof.ATC, Offline: proof.ATC, At: tx.Now(), By: "authorisation"})
}

// judgePIN applies the rules that every request has to pass, and counts PIN
// tries.
func (a asked) judgePIN(tx *db.Tx, c Card) (Reason, error) {
	var tries int
	if err := tx.QueryRow(`SELECT tries FROM issuing_bank WHERE card = $1`, c.ID).Scan(&tries); err != nil {
		return "", err
	}
	switch {
	case !c.Suspended.IsZero() || c.State == Replaced:
		return Lost, nil
	case c.State != Active:
		return NotActive, nil
	case !c.Valid(tx.Now()):
		return Expired, nil
	case a.c.Data.Currency != china:
		return NotOffered, nil
	case a.hasPIN && tries == 0:
		return NoTries, nil
	case !a.hasPIN:
		return Approval, nil
	}
	left, why := maxPINTries, Approval
	if a.pin != nil {
		left, why = tries-1, WrongPIN
	}
	_, err := tx.Exec(`UPDATE issuing_bank SET tries = $2 WHERE card = $1`, c.ID, left)
	return why, err
}

// takeBack approves a refund: nothing moves until the terminal clears it.
func takeBack(tx *db.Tx, a asked, c Card) (Reason, error) {
	switch {
	case a.payee == "":
		return NotOffered, nil
	case a.fen.Sign() <= 0:
		return OtherAmount, nil
	}
	once, err := RuleOn(tx, c, RuleOnce, tx.Now())
	if err == nil && a.fen.Minor() > once.Value {
		return OverLimit, nil
	}
	return Approval, err
}

// pay holds a payment on the card's account for the payee.
func pay(tx *db.Tx, a asked, c Card) (Reason, error) {
	switch {
	case c.Kind == ECash || a.typ != TypePurchase || a.payee == "":
		return NotOffered, nil
	case a.fen.Sign() <= 0:
		return OtherAmount, nil
	}
	over, err := overLimit(tx, c, a.fen)
	if err != nil || over {
		return OverLimit, err
	}
	_, err = ledger.Authorise(tx, ledger.Hold{Ref: holdRef(c.ID, a.c.ATC), From: ledger.AccountID(a.secret.account), To: a.payee, Amount: a.fen,
		Expires: tx.Now().Add(holdTime), Text: a.text})
	if errors.Is(err, ledger.ErrInsufficient) || errors.Is(err, ledger.ErrVelocity) {
		return NoMoney, nil
	}
	return Approval, err
}

// holdTime is how long an authorised payment waits for its clearing.
const holdTime = 30 * 24 * time.Hour

func holdRef(id CardID, atc uint16) string { return fmt.Sprintf("auth:%s:%d", id, atc) }

// overLimit applies the limits of a payment and of a day.
func overLimit(tx *db.Tx, c Card, fen money.Amount) (bool, error) {
	once, err := RuleOn(tx, c, RuleOnce, tx.Now())
	if err != nil || fen.Minor() > once.Value {
		return true, err
	}
	day, err := RuleOn(tx, c, RuleDay, tx.Now())
	if err != nil {
		return true, err
	}
	var sum int64
	err = tx.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM issuing_auth WHERE card = $1 AND day = $2 AND kind = 'pay' AND state IN ($3, $4)`,
		c.ID, calendar.Of(tx.Now(), calendar.Beijing).String(), authHeld, authPaid).Scan(&sum)
	return sum+fen.Minor() > day.Value, err
}

// keep writes the answer down under card and counter.
func (a asked) keep(tx *db.Tx, d decision, state string) error {
	balance := int64(-1)
	if a.iad.Report == pboc.ReportBalance {
		balance = int64(a.iad.Amounts[0])
	}
	n, err := tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (card, atc) DO NOTHING`,
		a.secret.card, int64(a.c.ATC), a.c.AC[:], askOf(a.typ), calendar.Of(tx.Now(), calendar.Beijing).String(), a.fen.Minor(), balance,
		d.why.Code(), state, string(a.payee), a.text, tx.Now().UnixMicro())
	if err == nil && n == 0 {
		err = ErrReused
	}
	return err
}
