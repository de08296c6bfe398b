package issuing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing/bin"
	"koala/issuing/rule"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/wallet"
)

// A Bank is the issuer's side of cards with keys of their own: it numbers,
// personalises, authorises and clears. Its methods ask the hsm first and then
// change rows in one unit; what may be called inside a unit is a function.
type Bank struct {
	store *db.Store
	keys  *hsm.HSM
	watch func(*db.Tx, Movement) error // tells whoever watches the store
	known [1 << 13]atomic.Pointer[knownCard]
	rules rule.Book
}

// NewBank makes the bank over a store that has this package's Schema, and an
// hsm that is provisioned for a bank.
func NewBank(store *db.Store, keys *hsm.HSM) *Bank {
	return &Bank{store: store, keys: keys, watch: tell}
}

// CreditAccount is the account of a credit card: below zero is what its holder
// owes.
func CreditAccount(id CardID) ledger.AccountID { return ledger.AccountID("credit." + string(id)) }

// codeCredit is the chart code of receivables from credit cards.
const codeCredit = "1310"

// maxPINTries is how often in a row a PIN may be wrong.
const maxPINTries = 3

// firstPSN is the sequence number (tag 5F34) of a card: no number is given twice.
const firstPSN = 1

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
	s := secret{card: c.ID, token: n.Token, sealed: n.Sealed, psn: firstPSN, alg: byte(d.alg()), dki: n.DKI, account: string(wallet.Account(c.Customer))}
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

// Codes of the house's bank products.
const (
	ECashCard   = "ecash-koala"
	ECashCardSM = "ecash-koala-sm" // its chain and keys also in SM2 and SM4
	DebitCard   = "debit-koala"
	CreditCard  = "credit-koala"
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
		{Product{Code: ECashCard, Kind: ECash, NameEN: "E-cash card", NameZH: bin.ECash.Name, Art: "ecash", Prefix: bin.ECash.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC ECASH", Priority: 1, ECash: true, Years: 5, SingleLimit: 1000_00, CVMLimit: 1000_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
		{Product{Code: DebitCard, Kind: Debit, NameEN: "Debit card", NameZH: "借记卡", Art: "debit", Prefix: bin.Debit.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC DEBIT", Priority: 2, ECash: true, Years: 10, SingleLimit: 1000_00, ResetThreshold: 0, CVMLimit: 300_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
		{Product{Code: CreditCard, Kind: Credit, NameEN: "Credit card", NameZH: "信用卡", Art: "credit", Prefix: bin.Credit.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC CREDIT", Priority: 3, Years: 5, CVMLimit: 300_00, CreditLimit: 5000_00,
				Processing: uint32(pboc.ProcNewCard | pboc.ProcPINTries | pboc.ProcNoForeign | pboc.ProcOnlinePIN | pboc.ProcSignature)}},
		{Product{Code: ECashCardSM, Kind: ECash, NameEN: "E-cash card (SM2/SM4)", NameZH: bin.SM.Name, Art: "ecash", Prefix: bin.SM.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC ECASH", Priority: 1, SM: true, ECash: true, Years: 5, SingleLimit: 1000_00, CVMLimit: 1000_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
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

// CAKey is the house's certification authority key of the RSA chain, which every
// card has and terminals need to accept it (koala card ca).
func (b *Bank) CAKey(ctx context.Context) (emv.CAKey, error) { return b.keys.CAKey(ctx, emv.RSA, 0) }

// CAKeys are those of both chains. A terminal that is given the SM2 one asks
// cards for their SM2 chain where they have it (BankData.SM).
func (b *Bank) CAKeys(ctx context.Context) ([]emv.CAKey, error) {
	rsa, err := b.keys.CAKey(ctx, emv.RSA, 0)
	if err != nil {
		return nil, err
	}
	sm2, err := b.keys.CAKey(ctx, emv.SM2, 0)
	if err != nil {
		return nil, err
	}
	return []emv.CAKey{rsa, sm2}, nil
}

// SetPIN gives a card its PIN for online use, and its tries back. Of a card that
// is not written yet and checks its PIN by itself (BankData.OfflinePIN) the PIN
// is also kept, sealed, until it is: it has to be set before the card is
// personalised. The PIN of one that is written changes by script
// (hsm.PINChange, pboc.PINUnblock).
func (b *Bank) SetPIN(ctx context.Context, id CardID, block hsm.PINBlock) error {
	p, err := b.PIN(ctx, id, block)
	if err != nil {
		return err
	}
	return b.store.Write(ctx, func(tx *db.Tx) error { return KeepPIN(tx, p) })
}

// PIN takes a PIN apart for KeepPIN, which may stand in the unit that ends its
// script.
func (b *Bank) PIN(ctx context.Context, id CardID, block hsm.PINBlock) (p NewPIN, err error) {
	card, err := b.Keys(ctx, id)
	if err != nil {
		return p, fmt.Errorf("PIN: %w", err)
	}
	p.card = id
	if p.reference, err = b.keys.PINReference(ctx, card.PAN, block); err == nil {
		p.sealed, err = b.keys.SealPIN(ctx, card.PAN, block)
	}
	if err != nil {
		return NewPIN{}, fmt.Errorf("PIN of card %s: %w", id.Masked(), err)
	}
	return p, nil
}

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

// A Numbered is a PAN made ready for Open: drawn, sealed, and with the token it
// is found by.
type Numbered struct {
	Prefix string
	Tail   string
	Token  string
	Sealed []byte
	DKI    byte // version of the issuer's keys the card will have
}

// Number draws the next PAN of a product and seals it. It has a unit of its own
// because sealing is the hsm's: a number whose card is not opened afterwards is
// never used.
func (b *Bank) Number(ctx context.Context, product string) (n Numbered, err error) {
	var p pan.PAN
	var data BankData
	err = b.store.Write(ctx, func(tx *db.Tx) error {
		prod, err := ProductOn(tx, product, tx.Now())
		if err != nil {
			return err
		}
		if !prod.Kind.Bank() {
			return ErrKind
		}
		t, err := TemplateOf(tx, prod.Template)
		if err != nil {
			return err
		}
		if data, err = read[BankData](t.Data); err != nil {
			return err
		}
		serial, digits, err := nextSerial(tx, prod.Prefix)
		if err != nil {
			return err
		}
		n.Prefix = prod.Prefix
		p, err = pan.Complete(fmt.Sprintf("%s%0*d", prod.Prefix, digits, serial))
		return err
	})
	if err == nil {
		n.Tail = p.Tail()
		n.Token, err = b.keys.Token(ctx, string(p))
	}
	if err == nil {
		n.DKI, err = b.keys.Dispersal(ctx, data.alg())
	}
	if err == nil {
		n.Sealed, err = b.keys.Seal(ctx, []byte(string(p)))
	}
	if err != nil {
		return Numbered{}, fmt.Errorf("numbering a card of %s: %w", product, err)
	}
	return n, nil
}

// rangeOf is how many digits a product's serials have.
func rangeOf(p Product) int {
	switch {
	case p.Kind == Transit:
		return 20 - len(p.Prefix)
	case p.Kind.Bank():
		return panDigits(p.Kind) - 1 - len(p.Prefix)
	}
	return 0
}

// CardOf finds the card that carries a PAN with a sequence number; empty when
// the house has none.
func (b *Bank) CardOf(ctx context.Context, number string, psn byte) (id CardID, err error) {
	token, err := b.keys.Token(ctx, number)
	if err != nil {
		return "", err
	}
	err = b.store.Read(ctx, func(q *db.Query) error {
		s, err := byToken(q, token, psn)
		id = s.card
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return id, err
}

// panOf unseals a card's number for those who must have it: personalisation,
// the keys of its cryptograms. It is never to be shown or stored.
func (b *Bank) panOf(ctx context.Context, s secret) (pan.PAN, error) {
	raw, err := b.keys.Unseal(ctx, s.sealed)
	if err != nil {
		return "", fmt.Errorf("number of card %s: %w", s.card.Masked(), err)
	}
	p, err := pan.Parse(string(raw))
	if err != nil {
		return "", fmt.Errorf("number of card %s: %w", s.card.Masked(), hsm.ErrSealed)
	}
	return p, nil
}

// Keys names the keys of a bank card for the hsm. It carries the card's number:
// it is not to be stored, and no form of printing shows it.
func (b *Bank) Keys(ctx context.Context, id CardID) (hsm.BankCard, error) {
	var s secret
	err := b.store.Read(ctx, func(q *db.Query) (err error) {
		s, err = secretOf(q, id)
		return err
	})
	if err != nil {
		return hsm.BankCard{}, fmt.Errorf("keys of card %s: %w", id.Masked(), err)
	}
	number, err := b.panOf(ctx, s)
	return hsm.BankCard{PAN: string(number), PSN: s.psn, Alg: pboc.Algorithm(s.alg), DKI: s.dki}, err
}

// draw takes the next number of a purse product's range. A number is drawn
// once: the range only counts up, in the same unit that writes the card, and
// the card's row, which is never removed, has the number as its key.
func draw(tx *db.Tx, p Product) (purse.Number, error) {
	serial, digits, err := nextSerial(tx, p.Prefix)
	if err != nil {
		return "", err
	}
	return purse.ParseNumber(fmt.Sprintf("%s%0*d", p.Prefix, digits, serial))
}

// widen lets a held payment be of more, and count as that in the card's day.
func widen(tx *db.Tx, id CardID, counter int, day string, by int64) error {
	_, err := tx.Exec(`UPDATE issuing_auth SET fen = fen + $3 WHERE card = $1 AND atc = $2`, id, counter, by)
	return errors.Join(err, recount(tx, id, day, by))
}

// reopen has an ended payment held again: it counts in the card's day again.
func reopen(tx *db.Tx, id CardID, counter int, day string, fen int64) error {
	_, err := tx.Exec(`UPDATE issuing_auth SET state = $3, paid = 0, again = again + 1 WHERE card = $1 AND atc = $2`, id, counter, authHeld)
	return errors.Join(err, recount(tx, id, day, fen))
}

// A NewPIN is a PIN in the forms that are kept: nothing shows it.
type NewPIN struct {
	card              CardID
	reference, sealed []byte
}

// String leaves the PIN out.
func (p NewPIN) String() string { return "PIN of card " + p.card.Masked() }

// GoString is String.
func (p NewPIN) GoString() string { return p.String() }

// KeepPIN makes a PIN the card's, with all its tries.
func KeepPIN(tx *db.Tx, p NewPIN) error {
	c, err := Get(tx, p.card)
	if err == nil {
		_, err = tx.Exec(`UPDATE issuing_bank SET pin = $2 WHERE card = $1`, p.card, p.reference)
		tx.After(func() { pinChanges.Add(1) })
	}
	if err == nil {
		err = giveTries(tx, p.card)
	}
	if err != nil || c.State != Ordered && c.State != Personalising {
		return err
	}
	if d, _, err := bankDataOf(tx, c); err != nil || !d.OfflinePIN {
		return err
	}
	_, err = tx.Exec(`INSERT INTO issuing_pin (card, sealed) VALUES ($1, $2) ON CONFLICT (card) DO UPDATE SET sealed = excluded.sealed`, p.card, p.sealed)
	return err
}

// ResetPINTries gives a card's PIN its tries back at the bank, as PIN UNBLOCK
// does on the card.
func ResetPINTries(tx *db.Tx, id CardID) error {
	if _, err := secretOf(tx, id); err != nil {
		return err
	}
	return giveTries(tx, id)
}

func giveTries(tx *db.Tx, id CardID) error {
	u, err := useOf(tx, id)
	if err != nil {
		return err
	}
	u.tries = maxPINTries
	return u.keep(tx, id)
}

// freshPIN is the sealed PIN of a card that is being written; nil for none.
func freshPIN(q db.Reader, id CardID) (sealed []byte, err error) {
	err = q.QueryRow(`SELECT sealed FROM issuing_pin WHERE card = $1`, id).Scan(&sealed)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return sealed, err
}

// A use is what a bank card has had: what every request of it changes.
type use struct {
	tries int // of the PIN, left
	atc   int // highest of a verified cryptogram, -1 none
	ac    []byte
	arc   string // the answer to it
	day   string // Beijing
	spent int64  // on that day, fen
	next  int64  // counter of a request without a chip: above every chip's
}

// freshUse is that of a card that never asked.
var freshUse = use{tries: maxPINTries, atc: -1, next: 1 << 16}

const useColumns = `card, tries, atc, ac, arc, day, spent, upcoming`

// useOf reads the use of a card, of one that never asked too.
func useOf(tx *db.Tx, id CardID) (u use, err error) {
	if u.kept(tx, id) {
		return u, nil
	}
	err = tx.QueryRow(`SELECT tries, atc, ac, arc, day, spent, upcoming FROM issuing_use WHERE card = $1`, id).
		Scan(&u.tries, &u.atc, &u.ac, &u.arc, &u.day, &u.spent, &u.next)
	if errors.Is(err, db.ErrNoRows) {
		return freshUse, nil
	}
	return u, err
}

// kept reads what an earlier unit of the batch has kept.
func (u *use) kept(tx *db.Tx, id CardID) bool {
	v, ok := tx.Kept("issuing_use", useColumns, string(id))
	if ok {
		u.tries, u.atc, u.ac, u.arc = int(v[0].(int64)), int(v[1].(int64)), v[2].([]byte), v[3].(string)
		u.day, u.spent, u.next = v[4].(string), v[5].(int64), v[6].(int64)
	}
	return ok
}

func (u use) keep(tx *db.Tx, id CardID) error {
	return tx.Keep("issuing_use", useColumns, string(id), u.tries, u.atc, append([]byte{}, u.ac...), u.arc, u.day, u.spent, u.next)
}

// Inquiry is the request as one that holds no money: card, PIN and counter are
// looked at all the same.
func (p Prepared) Inquiry() Prepared {
	p.typ = TypeInquiry
	return p
}
