package issuing

import (
	"cmp"
	"context"
	_ "embed" // card_bins.csv
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
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
		{Product{Code: ECashCard, Kind: ECash, NameEN: "E-cash card", NameZH: binECash.Name, Art: "ecash", Prefix: binECash.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC ECASH", Priority: 1, ECash: true, Years: 5, SingleLimit: 1000_00, CVMLimit: 1000_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
		{Product{Code: DebitCard, Kind: Debit, NameEN: "Debit card", NameZH: "借记卡", Art: "debit", Prefix: binDebit.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC DEBIT", Priority: 2, ECash: true, Years: 10, SingleLimit: 1000_00, ResetThreshold: 0, CVMLimit: 300_00, Processing: offline &^ uint32(pboc.ProcNewCard)}},
		{Product{Code: CreditCard, Kind: Credit, NameEN: "Credit card", NameZH: "信用卡", Art: "credit", Prefix: binCredit.Prefix,
			Deposit: money.Fen(0), MinLoad: money.Fen(1), MaxLoad: money.Fen(1000_00), MaxBalance: money.Fen(1000_00)},
			BankData{Label: "PBOC CREDIT", Priority: 3, Years: 5, CVMLimit: 300_00, CreditLimit: 5000_00,
				Processing: uint32(pboc.ProcNewCard | pboc.ProcPINTries | pboc.ProcNoForeign | pboc.ProcOnlinePIN | pboc.ProcSignature)}},
		{Product{Code: ECashCardSM, Kind: ECash, NameEN: "E-cash card (SM2/SM4)", NameZH: binSM.Name, Art: "ecash", Prefix: binSM.Prefix,
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

// HouseBIN begins every PAN of the house's own bank. No published list names a
// card under 6288; it is this house's test range and no assignment of UnionPay.
const HouseBIN = "628888"

// houseBank is the code of the house's own ranges in the table.
const houseBank = "KOALA"

// The house's own ranges. Its products take their prefixes from here, and the
// table has them beside the published ones.
var (
	binDebit  = BIN{HouseBIN + "01", 19, houseBank, "考拉（测试号段）", "考拉借记卡", "DC"}
	binCredit = BIN{HouseBIN + "02", 16, houseBank, "考拉（测试号段）", "考拉信用卡", "CC"}
	binECash  = BIN{HouseBIN + "06", 19, houseBank, "考拉（测试号段）", "考拉电子现金卡", "PC"}
	binSM     = BIN{HouseBIN + "08", 19, houseBank, "考拉（测试号段）", "考拉电子现金卡（国密）", "PC"}
	houseBINs = []BIN{binDebit, binCredit, binECash, binSM}
)

// A BIN is one issuer identification number range as community lists name it:
// partly old, not authoritative (NOTICE).
type BIN struct {
	Prefix   string // digits
	Length   int    // of the PAN; 0: not known
	Bank     string // code, as ABC
	BankName string // Chinese
	Name     string // of the card, Chinese
	Type     string // DC debit, CC credit, SCC semi-credit, PC prepaid, "" not known
}

// Words says the type for people, in Chinese if zh.
func (b BIN) Words(zh bool) string {
	w, ok := map[string][2]string{"DC": {"debit card", "借记卡"}, "CC": {"credit card", "贷记卡"},
		"SCC": {"quasi-credit card", "准贷记卡"}, "PC": {"prepaid card", "预付费卡"}}[b.Type]
	switch {
	case !ok && zh:
		return "未知"
	case !ok:
		return "not known"
	case zh:
		return w[1]
	}
	return w[0]
}

//go:embed card_bins.csv
var binFile string

type binKey struct {
	prefix string
	length int
}

// bins is the table by prefix and length; the house's own range stands in it.
var bins = sync.OnceValue(func() map[binKey]BIN {
	rows, err := csv.NewReader(strings.NewReader(binFile)).ReadAll()
	if err != nil {
		panic("issuing: card_bins.csv: " + err.Error())
	}
	out := make(map[binKey]BIN, len(rows))
	for _, r := range rows[1:] {
		n := 0
		if r[1] != "" {
			if n, err = strconv.Atoi(r[1]); err != nil {
				panic("issuing: card_bins.csv: length " + r[1])
			}
		}
		out[binKey{r[0], n}] = BIN{Prefix: r[0], Length: n, Bank: r[2], BankName: r[3], Name: r[4], Type: r[5]}
	}
	for _, b := range houseBINs {
		out[binKey{b.Prefix, b.Length}] = b
	}
	return out
})

// BINs lists all ranges, by prefix and length.
func BINs() []BIN {
	out := slices.Collect(maps.Values(bins()))
	slices.SortFunc(out, func(a, b BIN) int {
		return cmp.Or(strings.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Length, b.Length))
	})
	return out
}

// House says whether the range is the house's own.
func (b BIN) House() bool { return b.Bank == houseBank }

// BINOf finds the range of a PAN: the longest prefix that is listed with the
// PAN's length or none.
func BINOf(p pan.PAN) (BIN, bool) {
	for n := min(len(p), 10); n >= 3; n-- {
		for _, length := range []int{len(p), 0} {
			if b, ok := bins()[binKey{string(p[:n]), length}]; ok {
				return b, true
			}
		}
	}
	return BIN{}, false
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
func widen(tx *db.Tx, id CardID, counter int, by int64) error {
	_, err := tx.Exec(`UPDATE issuing_auth SET fen = fen + $3 WHERE card = $1 AND atc = $2`, id, counter, by)
	return errors.Join(err, recount(tx, id, counter, by))
}

// reopen has an ended payment held again: it counts in the card's day again.
func reopen(tx *db.Tx, id CardID, counter int, fen int64) error {
	_, err := tx.Exec(`UPDATE issuing_auth SET state = $3, paid = 0, again = again + 1 WHERE card = $1 AND atc = $2`, id, counter, authHeld)
	return errors.Join(err, recount(tx, id, counter, fen))
}

// recount is what setAuth takes off, added: nothing once the payment's day is
// not the card's any more.
func recount(tx *db.Tx, id CardID, counter int, fen int64) error {
	_, err := tx.Exec(`UPDATE issuing_bank SET spent = spent + $3 WHERE card = $1 AND spent_day = (SELECT a.day FROM issuing_auth a WHERE a.card = $1 AND a.atc = $2)`, id, counter, fen)
	return err
}
