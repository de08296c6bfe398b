package issuing

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing/rule"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// An Online is a request for authorisation: of a chip (EMV), of a stripe
// (Track), or of a number that somebody read out (Number and Expiry).
type Online struct {
	EMV    []byte        // data objects as the terminal has them: 9F26 9F10 9F36 9F37 82 95 9A 9C 9F02 9F03 5F2A 9F1A, 57 or 5A, 5F34
	Track  string        // track 2: PAN D YYMM service code
	Number string        // PAN
	Expiry string        // YYMM
	Type   byte          // without EMV: purchase, pre-authorisation or inquiry
	Fen    money.Amount  // without EMV
	Voice  bool          // the number was approved by telephone: the card need not be there
	PIN    *hsm.PINBlock // nil: none was entered
	Payee  ledger.AccountID
	Text   string        // the shop, for statements
	Life   time.Duration // of the hold; zero: 30 days
	AtOnce bool          // the unit that decides it books it too
}

// An Answer goes back to the terminal.
type Answer struct {
	ARC  string // tag 8A
	Why  Reason
	EMV  []byte // 91, and 72 where there is a script; empty when the card is not known
	Card CardID // for the caller's records; empty when not known
	Load string // order that a load was bound to
}

// A Prepared is a request taken apart, with what the hsm says about it.
type Prepared struct {
	c      hsm.Cryptogram
	iad    pboc.IAD
	secret secret
	chip   bool
	typ    byte
	fen    money.Amount
	expiry string // of a stripe or a keyed number
	keyed  bool
	voice  bool
	pin    error // of the hsm's check; nil: right or none
	hasPIN bool
	payee  ledger.AccountID
	text   string
	life   time.Duration
	atOnce bool
	rules  *rule.Numbers
	why    Reason // it needs no unit: this is the answer
}

// Card is the house's name of the card, empty when it is not known.
func (p Prepared) Card() CardID { return p.secret.card }

// Account is the ledger account that pays.
func (p Prepared) Account() ledger.AccountID { return ledger.AccountID(p.secret.account) }

// A Decided is what a unit made of a request.
type Decided struct {
	Why      Reason
	Card     CardID
	Counter  int    // the card's own, 0 to 65535; above, a request without a chip
	Account  string // ledger account that pays
	Load     string // order that a load was bound to
	Replayed bool   // the answer of an earlier time: nothing was held now
	load     Load
}

// Authorise answers an online request: it verifies cryptogram and PIN, then in
// one unit applies the rules, holds the money and keeps the answer under card
// and counter, so that the same request again gets the same answer and nothing
// twice. A request of a load type is a load (see PlaceLoad). Who has a unit of
// his own calls its parts: Prepare, Decide, Reply.
func (b *Bank) Authorise(ctx context.Context, r Online) (Answer, error) {
	p, err := b.Prepare(ctx, r)
	if err != nil {
		return Answer{}, fmt.Errorf("authorising: %w", err)
	}
	if p.why != Approval {
		return Answer{ARC: p.why.Code(), Why: p.why, Card: p.secret.card}, nil
	}
	var d Decided
	err = b.store.Write(ctx, func(tx *db.Tx) (err error) {
		d, err = b.Decide(tx, p)
		return err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("authorising card %s: %w", p.secret.card.Masked(), err)
	}
	out := Answer{ARC: d.Why.Code(), Why: d.Why, Card: p.secret.card, Load: d.load.ID}
	out.EMV, err = b.Reply(ctx, p, d)
	return out, err
}

// Reply makes what goes back to the chip: tag 91, and the script: the new
// balance of a load, or the block of a card that was reported lost. It is empty
// for a request without a chip and for one that was refused before its unit.
func (b *Bank) Reply(ctx context.Context, p Prepared, d Decided) ([]byte, error) {
	if !p.chip || p.why != Approval {
		return nil, nil
	}
	auth, err := b.keys.ARPC(ctx, p.c, [2]byte([]byte(d.Why.Code())))
	if err != nil {
		return nil, err
	}
	out := tlv.Append(nil, emv.TagIssuerAuth, auth)
	var script []pboc.Script
	switch {
	case d.Why == Lost:
		script = append(script, pboc.AppBlock())
	case d.Why == Approval && d.load.State == LoadBound:
		script = append(script, pboc.PutBalance(uint64(d.load.New().Minor())))
	default:
		return out, nil
	}
	commands, err := b.keys.ProtectScript(ctx, p.c, script...)
	if err != nil || len(commands) == 0 {
		return out, err
	}
	var body []byte
	for _, c := range commands {
		body = tlv.Append(body, emv.TagScriptCommand, c.Bytes())
	}
	return tlv.Append(out, emv.TagScript2, body), nil
}

// Prepare takes a request apart and has the hsm look at it.
func (b *Bank) Prepare(ctx context.Context, r Online) (p Prepared, err error) {
	p = Prepared{payee: r.Payee, text: r.Text, life: r.Life, voice: r.Voice, atOnce: r.AtOnce, chip: len(r.EMV) > 0}
	if p.chip {
		err = p.parse(r.EMV)
	} else {
		err = p.read(r)
	}
	if err != nil {
		p.why = Malformed
		return p, nil
	}
	if p.rules, err = b.rules.Numbers(ctx, b.store); err != nil {
		return p, err
	}
	token, err := b.keys.Token(ctx, p.c.PAN)
	if err != nil {
		return p, err
	}
	p.secret, err = b.cardBy(ctx, token, p.c.PSN, p.chip)
	if errors.Is(err, ErrNotFound) {
		p.why = UnknownCard
		return p, nil
	}
	if err == nil && p.chip {
		err = b.checkAC(ctx, &p)
	}
	if err == nil && p.why == Approval && r.PIN != nil {
		p.hasPIN = true
		if p.pin = ErrNoPIN; len(p.secret.pin) > 0 {
			p.pin = b.keys.CheckPIN(ctx, p.c.PAN, *r.PIN, p.secret.pin)
		}
		if p.pin != nil && !errors.Is(p.pin, hsm.ErrPIN) && !errors.Is(p.pin, hsm.ErrPINBlock) && !errors.Is(p.pin, ErrNoPIN) {
			return p, p.pin
		}
	}
	return p, err
}

// checkAC has the hsm verify the cryptogram.
func (b *Bank) checkAC(ctx context.Context, p *Prepared) (err error) {
	p.iad, err = b.keys.CheckAC(ctx, p.c)
	switch {
	case errors.Is(err, hsm.ErrAC), errors.Is(err, hsm.ErrBalance), errors.Is(err, hsm.ErrNoKey):
		p.why = BadCryptogram
	case err != nil:
		return err
	case byte(p.iad.Alg) != p.secret.alg || max(p.iad.DKI, 1) != p.secret.dki:
		p.why = BadCryptogram // keys that this card was never given
	case p.iad.CVR.First() != pboc.ARQC:
		p.why = CardDeclined
	}
	return nil
}

// read takes a stripe or a keyed number apart.
func (p *Prepared) read(r Online) error {
	number, expiry := r.Number, r.Expiry
	if r.Track != "" {
		var rest string
		if number, rest, _ = strings.Cut(r.Track, "D"); len(rest) < 4 {
			return errMissing
		}
		expiry = rest[:4]
	}
	pn, err := pan.Parse(number)
	p.c.PAN, p.expiry, p.keyed, p.typ, p.fen = string(pn), expiry, r.Track == "", r.Type, r.Fen
	return err
}

// parse reads the data objects. Each may stand there once.
func (p *Prepared) parse(raw []byte) error {
	t := &p.c.Data
	var atc, psn [2]byte
	var typ [1]byte
	fixed := [...]struct {
		tag tlv.Tag
		to  []byte
	}{
		{emv.TagAC, p.c.AC[:]}, {emv.TagATC, atc[:]}, {emv.TagAIP, p.c.AIP[:]}, {emv.TagUN, t.Unpredictable[:]}, {emv.TagTVR, t.TVR[:]},
		{emv.TagDate, t.Date[:]}, {emv.TagAmount, t.Amount[:]}, {emv.TagAmountOther, t.Other[:]}, {emv.TagCurrency, t.Currency[:]},
		{emv.TagTerminalCountry, t.Country[:]}, {emv.TagType, typ[:]},
	}
	var seen [maxObjects]tlv.Tag
	var number, track []byte
	found := 0
	for in, n := raw, 0; len(in) > 0; n++ {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return err
		}
		if n == maxObjects || slices.Contains(seen[:n], tag) {
			return errMissing
		}
		seen[n], in = tag, rest
		switch tag {
		case emv.TagPAN:
			number = v
		case emv.TagTrack2:
			track = v
		case emv.TagIAD:
			p.c.IAD = v
		case emv.TagPSN:
			if copy(psn[:], v) != 1 {
				return errMissing
			}
		}
		for _, f := range fixed {
			if f.tag == tag && copy(f.to, v) == len(v) && len(v) == len(f.to) {
				found++
			}
		}
	}
	if found != len(fixed) || len(p.c.IAD) == 0 {
		return errMissing
	}
	pn, err := numberIn(number, track)
	if err != nil {
		return err
	}
	fen, err := pboc.ParseAmount(t.Amount[:])
	if err != nil {
		return err
	}
	t.Type, p.typ, p.fen = typ[0], typ[0], money.Fen(int64(fen))
	p.c.PAN, p.c.PSN, p.c.ATC = string(pn), psn[0]>>4*10+psn[0]&0x0F, binary.BigEndian.Uint16(atc[:])
	return nil
}

// maxObjects bounds the data objects of one request.
const maxObjects = 48

var errMissing = errors.New("issuing: a data object is missing, twice there or too long")

// numberIn reads the PAN of tag 5A, or of track 2 in tag 57.
func numberIn(number, track []byte) (pan.PAN, error) {
	digits := strings.TrimRight(strings.ToUpper(hex.EncodeToString(number)), "F")
	if digits == "" && track != nil {
		digits, _, _ = strings.Cut(strings.ToUpper(hex.EncodeToString(track)), "D")
	}
	return pan.Parse(digits)
}

// Decide decides a request and keeps the answer; of one that was answered
// before it gives the answer of then.
func (b *Bank) Decide(tx *db.Tx, p Prepared) (d Decided, err error) {
	d = Decided{Why: p.why, Card: p.secret.card, Counter: int(p.c.ATC), Account: p.secret.account}
	if p.why != Approval {
		return d, nil
	}
	f, err := p.look(tx)
	if err != nil {
		return d, err
	}
	switch {
	case !p.chip:
		d.Counter = int(f.use.next)
	case f.same == 1:
		d.Why, d.Replayed = reasonOf(f.arc), true
		d.load, err = loadAt(tx, d.Card, d.Counter)
		if errors.Is(err, ErrNoLoad) {
			err = nil
		}
		return d, err
	case f.same == 2, f.cleared > 0: // the card has paid offline with it
		d.Why, d.Replayed = Repeated, true
		return d, nil
	}
	if err := p.learn(tx, f); err != nil {
		return d, err
	}
	if d.Why = p.judge(tx, f); d.Why == Approval {
		err = p.move(tx, f, &d)
	}
	if err == nil {
		err = p.keep(tx, f, d)
	}
	if err == nil && f.doubts > 0 {
		err = weighDoubts(tx, d.Card, b.watch)
	}
	d.Load = d.load.ID
	return d, err
}

// move does what an approval is about.
func (p Prepared) move(tx *db.Tx, f facts, d *Decided) (err error) {
	switch {
	case p.asks() == askLoad && !p.chip:
		d.Why = NotOffered
	case p.asks() == askLoad:
		var c Card
		if c, err = Get(tx, d.Card); err == nil {
			d.load, d.Why, err = bindLoad(tx, p, c)
		}
	case p.typ == TypeInquiry:
	case p.typ == TypeRefund:
		d.Why = p.takeBack(f)
	default:
		d.Why, err = p.pay(tx, f, d.Counter)
	}
	return err
}

// state is what becomes of the request's row.
func (p Prepared) state(d Decided) string {
	switch {
	case d.Why != Approval:
		return authDeclined
	case p.asks() == askLoad:
		return string(LoadBound)
	case p.typ == TypeInquiry:
		return authReleased
	}
	return authHeld
}

// What became of an online request.
const (
	authDeclined = "declined"
	authHeld     = "held"     // approved; the terminal has not said how it went
	authPaid     = "paid"     // completed
	authReleased = "released" // given up
	authReturned = "returned" // completed, and the money went back
)

// learn keeps what a verified cryptogram says about the card.
func (p Prepared) learn(tx *db.Tx, f facts) error {
	if !p.chip || p.iad.Report != pboc.ReportBalance {
		return nil
	}
	proof := Proof{ATC: int(p.c.ATC), Balance: money.Fen(int64(p.iad.Amounts[0])), By: "cryptogram"}
	if f.loads > 0 {
		if err := proveOpen(tx, f.c.ID, proof); err != nil {
			return err
		}
	} else if f.c.Known.Balance.Cmp(proof.Balance) == 0 {
		return nil
	}
	return See(tx, f.c.ID, Counters{Balance: proof.Balance, Online: proof.ATC, Offline: proof.ATC, At: tx.Now(), By: "authorisation"})
}

// judge applies the rules that every request has to pass.
func (p Prepared) judge(tx *db.Tx, f facts) Reason {
	c := f.c
	switch {
	case !c.Suspended.IsZero() || c.State == Replaced:
		return Lost
	case c.State != Active:
		return NotActive
	case !c.Valid(tx.Now()), !p.chip && p.expiry != c.To.AddDate(0, 0, -1).In(calendar.Beijing).Format("0601"):
		return Expired
	case p.chip && p.c.Data.Currency != china, p.keyed && !p.chip && c.Kind != Credit && !p.voice:
		return NotOffered
	case p.hasPIN && f.use.tries == 0:
		return NoTries
	case p.hasPIN && p.pin != nil, !p.hasPIN && !p.chip && !p.keyed && c.Kind != Credit:
		return WrongPIN
	}
	return Approval
}

// takeBack approves a refund: nothing moves until the terminal clears it.
func (p Prepared) takeBack(f facts) Reason {
	switch {
	case p.payee == "":
		return NotOffered
	case p.fen.Sign() <= 0:
		return OtherAmount
	case p.fen.Minor() > f.once:
		return OverLimit
	}
	return Approval
}

// pay holds a payment on the card's account for the payee.
func (p Prepared) pay(tx *db.Tx, f facts, counter int) (Reason, error) {
	switch {
	case f.c.Kind == ECash || p.typ != TypePurchase && p.typ != TypePreauth || p.payee == "":
		return NotOffered, nil
	case p.fen.Sign() <= 0:
		return OtherAmount, nil
	case p.fen.Minor() > f.once || f.spent+p.fen.Minor() > f.daily:
		return OverLimit, nil
	}
	life := cmp.Or(p.life, holdTime)
	_, err := ledger.Authorise(tx, ledger.Hold{Ref: holdRef(f.c.ID, counter, 0), From: ledger.AccountID(p.secret.account), To: p.payee, Amount: p.fen,
		Expires: tx.Now().Add(life), Text: p.text})
	if errors.Is(err, ledger.ErrInsufficient) || errors.Is(err, ledger.ErrVelocity) {
		return NoMoney, nil
	}
	return Approval, err
}

// holdTime is how long an authorised payment waits for its clearing.
const holdTime = 30 * 24 * time.Hour

// keep writes the answer down under card and counter, and what the card has
// had of its day, its counter and its PIN tries.
func (p Prepared) keep(tx *db.Tx, f facts, d Decided) error {
	balance := int64(-1)
	if p.chip && p.iad.Report == pboc.ReportBalance {
		balance = int64(p.iad.Amounts[0])
	}
	row := []any{d.Card, d.Counter, p.c.AC[:], p.asks(), f.day, p.fen.Minor(), balance, d.Why.Code(), p.state(d), string(p.payee), p.text, tx.Now().UnixMicro()}
	u, fresh := f.use, true
	switch {
	case !p.chip:
		u.next++
	case int(p.c.ATC) > u.atc:
		u.atc, u.ac, u.arc = int(p.c.ATC), p.c.AC[:], d.Why.Code()
	default:
		fresh = false
	}
	if p.hasPIN && u.tries > 0 && (d.Why == WrongPIN || p.pin == nil && d.Why != Lost && d.Why != NotActive && d.Why != Expired) {
		if u.tries--; p.pin == nil {
			u.tries = maxPINTries
		}
	}
	u.day, u.spent = f.day, f.spent
	if p.asks() == askPay && p.state(d) == authHeld {
		u.spent += p.fen.Minor()
	}
	if err := u.keep(tx, d.Card); err != nil {
		return err
	}
	if fresh && !p.atOnce && f.loads+f.doubts == 0 && p.asks() == askPay { // this unit does not read it, and the use keeps others from its key
		return tx.Append("issuing_auth", authColumns, row...)
	}
	n, err := tx.Exec(`INSERT INTO issuing_auth (`+authColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (card, atc) DO NOTHING`, row...)
	if err == nil && n == 0 {
		err = ErrReused
	}
	return err
}

const authColumns = `card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at`

// asks sorts the request.
func (p Prepared) asks() string {
	if p.typ == TypePreauth {
		return askPay
	}
	return askOf(p.typ)
}
