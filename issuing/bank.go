package issuing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/wallet"
)

// A Bank is the issuer's side of cards with keys of their own: it numbers,
// personalises, authorises and clears. Its methods ask the hsm first and then
// change rows in one unit; what may be called inside a unit is a function.
type Bank struct {
	store *db.Store
	keys  *hsm.HSM
}

// NewBank makes the bank over a store that has this package's Schema, and an
// hsm that is provisioned for a bank.
func NewBank(store *db.Store, keys *hsm.HSM) *Bank { return &Bank{store, keys} }

// CreditAccount is the account of a credit card: below zero is what its holder
// owes.
func CreditAccount(id CardID) ledger.AccountID { return ledger.AccountID("credit." + string(id)) }

// codeCredit is the chart code of receivables from credit cards.
const codeCredit = "1310"

// maxPINTries is how often in a row a PIN may be wrong.
const maxPINTries = 3

// openBank keeps the sealed number of a new bank card, and opens its account:
// a debit or e-cash card draws on its holder's wallet, a credit card on an
// account with a limit.
func openBank(tx *db.Tx, c Card, p Product, n *Numbered) error {
	if !c.Kind.Bank() {
		return nil
	}
	t, err := TemplateOf(tx, p.Template)
	if err != nil {
		return err
	}
	d, err := read[BankData](t.Data)
	if err != nil {
		return err
	}
	s := secret{card: c.ID, token: n.Token, sealed: n.Sealed, psn: max(n.PSN, 1), alg: byte(d.alg()), dki: n.DKI, account: string(wallet.Account(c.Customer))}
	if c.Kind == Credit {
		s.account = string(CreditAccount(c.ID))
		err = ledger.OpenAccount(tx, ledger.Account{ID: CreditAccount(c.ID), Code: codeCredit, Name: "credit card", Currency: money.CNY,
			Limits: ledger.Limits{Floor: ledger.AtLeast(0), CreditLimit: d.CreditLimit}})
		if err != nil {
			return err
		}
	}
	return insertSecret(tx, s)
}

func (d BankData) alg() pboc.Algorithm {
	if d.SM {
		return pboc.SM4
	}
	return pboc.TripleDES
}

// A Rule names a number of this package's that has dates.
type Rule string

// The rules. A card's own row goes before its product's, that before everybody's.
const (
	RuleOnce  Rule = "once"       // one online payment at most, fen
	RuleDay   Rule = "day"        // online payments of a Beijing day at most, fen
	RuleClaim Rule = "claim.days" // from the report of a loss to its payment, days
)

// A Ruling is a rule in a span of time.
type Ruling struct {
	Scope    string // a card, a product, or empty: everybody
	Rule     Rule
	From, To time.Time // from incl., to excl.; zero To: open
	Value    int64
	Source   string
}

// RuleOn is the rule in force for a card on a date.
func RuleOn(q db.Reader, c Card, r Rule, on time.Time) (out Ruling, err error) {
	for _, scope := range []string{string(c.ID), c.Product, ""} {
		var from, to int64
		out = Ruling{Scope: scope, Rule: r}
		err = q.QueryRow(`SELECT valid_from, valid_to, value, source FROM issuing_rule
			WHERE scope = $1 AND rule = $2 AND valid_from <= $3 AND (valid_to = 0 OR valid_to > $3)
			ORDER BY valid_from DESC LIMIT 1`, scope, string(r), on.UnixMicro()).Scan(&from, &to, &out.Value, &out.Source)
		if err == nil {
			out.From, out.To = db.Moment(from), db.Moment(to)
			return out, nil
		}
		if !errors.Is(err, db.ErrNoRows) {
			return out, err
		}
	}
	return out, fmt.Errorf("rule %s of card %s: %w", r, c.ID.Masked(), ErrNotFound)
}

// SetRule adds a dated rule.
func SetRule(tx *db.Tx, r Ruling) error {
	if r.Value < 0 || r.Source == "" || r.Rule != RuleOnce && r.Rule != RuleDay && r.Rule != RuleClaim {
		return fmt.Errorf("rule %s: %w", r.Rule, ErrBadInput)
	}
	_, err := tx.Exec(`INSERT INTO issuing_rule (scope, rule, valid_from, valid_to, value, source) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (scope, rule, valid_from) DO UPDATE SET valid_to = excluded.valid_to, value = excluded.value, source = excluded.source`,
		r.Scope, string(r.Rule), micros(r.From), micros(r.To), r.Value, r.Source)
	return err
}

// Codes of the house's bank products.
const (
	ECashCard  = "ecash-koala"
	DebitCard  = "debit-koala"
	CreditCard = "credit-koala"
)

// Where cards live in an element: load files and modules of its catalogue, and
// the names readers select.
var (
	bankFile, bankModule       = "\xA0\x00\x00\x03\x33\x01", "\xA0\x00\x00\x03\x33\x01\x01"
	desfireFile, desfireModule = "\xF0koala\x03", "\xF0koala\x03\x01"
	desfireName                = "\xD2\x76\x00\x00\x85\x01\x00"
	couponFile, couponModule   = "\xF0koala\x04", "\xF0koala\x04\x01"
	couponName                 = "\xF0koala\x04\x10"
)

// placed fills in where cards of the product's kind live.
func placed(p Product) (Product, error) {
	put := func(file, module, name string) {
		p.Package, p.Module, p.Instance = []byte(file), []byte(module), []byte(name)
	}
	switch p.Kind {
	case ECash:
		put(bankFile, bankModule, pboc.AIDECash)
	case Debit:
		put(bankFile, bankModule, pboc.AIDDebit)
	case Credit:
		put(bankFile, bankModule, pboc.AIDCredit)
	case Canteen, Door:
		put(desfireFile, desfireModule, desfireName)
	case Coupon:
		put(couponFile, couponModule, couponName)
	default:
		return p, fmt.Errorf("product %s of kind %s: %w", p.Code, p.Kind, ErrKind)
	}
	return p, nil
}

// SeedBank puts the house's bank cards on sale. It may be called at every
// start: what is there stays. An e-cash balance is at most 1,000 yuan (JR/T
// 0025.13; DOMAIN.md 2); limits and prices are the house's own.
func SeedBank(tx *db.Tx) error {
	start := time.Date(2015, 9, 16, 0, 0, 0, 0, calendar.Beijing).UTC()
	offline := uint32(pboc.ProcECash | pboc.ProcNewCard | pboc.ProcPINTries | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcNoForeign |
		pboc.ProcOnlinePIN | pboc.ProcSignature)
	for _, s := range []struct {
		p Product
		d BankData
	}{
		{Product{Code: ECashCard, Kind: ECash, NameEN: "E-cash card", NameZH: "中银通电子现金卡", Art: "ecash", Prefix: HouseBIN + "06",
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC ECASH", Priority: 1, ECash: true, Years: 5, SingleLimit: 1000_00, CVMLimit: 1000_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
		{Product{Code: DebitCard, Kind: Debit, NameEN: "Debit card", NameZH: "借记卡", Art: "debit", Prefix: HouseBIN + "01",
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC DEBIT", Priority: 2, ECash: true, Years: 10, SingleLimit: 1000_00, ResetThreshold: 0, CVMLimit: 300_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
		{Product{Code: CreditCard, Kind: Credit, NameEN: "Credit card", NameZH: "信用卡", Art: "credit", Prefix: HouseBIN + "02",
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC CREDIT", Priority: 3, Years: 5, CVMLimit: 300_00, CreditLimit: 5000_00,
				Processing: uint32(pboc.ProcNewCard | pboc.ProcPINTries | pboc.ProcNoForeign | pboc.ProcOnlinePIN | pboc.ProcSignature)}},
	} {
		s.d.Service, s.d.CVN, s.d.FastDDA1 = "220", pboc.CVN01, true
		data, err := json.Marshal(s.d)
		if err != nil {
			return err
		}
		t, err := Submit(tx, Template{Issuer: House, Code: s.p.Code, Kind: s.p.Kind, NameEN: s.p.NameEN, NameZH: s.p.NameZH, Art: s.p.Art, Space: 12 << 10, Data: data})
		if err == nil {
			t, err = Approve(tx, t.ID, House)
		}
		if err != nil {
			return fmt.Errorf("seeding %s: %w", s.p.Code, err)
		}
		s.p.Template, s.p.From, s.p.Years, s.p.Source = t.ID, start, s.d.Years, "house rule; e-cash cap of 1,000 yuan: JR/T 0025.13"
		if s.p, err = placed(s.p); err != nil {
			return err
		}
		if err := SetProduct(tx, s.p); err != nil {
			return err
		}
	}
	return nil
}

// CAKey is the house's certification authority key, which terminals need to
// accept its cards (koala card ca).
func (b *Bank) CAKey(ctx context.Context) (emv.CAKey, error) { return b.keys.CAKey(ctx, 0) }

// SetPIN gives a card its PIN for online use, and its tries back.
func (b *Bank) SetPIN(ctx context.Context, id CardID, block hsm.PINBlock) error {
	card, err := b.Keys(ctx, id)
	if err != nil {
		return fmt.Errorf("PIN: %w", err)
	}
	ref, err := b.keys.PINReference(ctx, card.PAN, block)
	if err != nil {
		return fmt.Errorf("PIN of card %s: %w", id.Masked(), err)
	}
	return b.store.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE issuing_bank SET pin = $2, tries = $3 WHERE card = $1`, id, ref, maxPINTries)
		return err
	})
}

// Renew gives the number of a card that has ended to its successor: the same
// PAN with the next sequence number, for Open.
func (b *Bank) Renew(ctx context.Context, old CardID) (n Numbered, err error) {
	var c Card
	var p Product
	var s secret
	var data BankData
	err = b.store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = Get(q, old); err != nil {
			return err
		}
		if s, err = secretOf(q, old); err != nil {
			return err
		}
		data, p, err = bankDataOf(q, c)
		return err
	})
	switch {
	case err != nil:
	case !c.State.Over() || s.psn >= maxPSN:
		err = ErrState
	default:
		n = Numbered{Prefix: p.Prefix, Tail: c.Tail, Token: s.token, Sealed: s.sealed, PSN: s.psn + 1}
		n.DKI, err = b.keys.Dispersal(ctx, data.alg())
	}
	if err != nil {
		return Numbered{}, fmt.Errorf("renewing card %s: %w", old.Masked(), err)
	}
	return n, nil
}

// maxPSN is the highest sequence number given (tag 5F34 has two digits; one is
// plenty).
const maxPSN = 9

// Repay pays a credit card's bill out of its holder's wallet, at most what is
// owed. The same reference again changes nothing.
func Repay(tx *db.Tx, ref string, id CardID, amount money.Amount) (ledger.Posted, error) {
	c, err := Get(tx, id)
	if err != nil {
		return ledger.Posted{}, err
	}
	if c.Kind != Credit {
		return ledger.Posted{}, fmt.Errorf("card %s: %w", id.Masked(), ErrKind)
	}
	e := ledger.Move("repay:"+ref, wallet.Account(c.Customer), CreditAccount(id), amount)
	e.Kind, e.Text = KindRepaid, "card bill paid"
	if known, err := ledger.EntryOf(tx, e.Ref); err == nil {
		return known, nil
	}
	owed, err := ledger.BalanceOf(tx, CreditAccount(id))
	if err != nil {
		return ledger.Posted{}, err
	}
	if amount.Sign() <= 0 || amount.Cmp(owed.Posted.Neg()) > 0 {
		return ledger.Posted{}, fmt.Errorf("card %s: %w", id.Masked(), ErrAmount)
	}
	return ledger.Post(tx, e)
}
