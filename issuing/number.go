package issuing

import (
	"context"
	_ "embed" // card_bins.csv
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"koala/hsm"
	"koala/internal/db"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/purse"
)

// HouseBIN begins every PAN of the house's own bank. No published list names a
// card under 6288; it is this house's test range and no assignment of UnionPay.
const HouseBIN = "628888"

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
	for _, b := range []BIN{
		{HouseBIN + "01", 19, "KOALA", "考拉（测试号段）", "考拉借记卡", "DC"},
		{HouseBIN + "02", 16, "KOALA", "考拉（测试号段）", "考拉信用卡", "CC"},
		{HouseBIN + "06", 19, "KOALA", "考拉（测试号段）", "考拉电子现金卡", "PC"},
	} {
		out[binKey{b.Prefix, b.Length}] = b
	}
	return out
})

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
	PSN    byte // sequence number of the card; 0: 1
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
	case p.Kind == Credit:
		return 16 - 1 - len(p.Prefix)
	case p.Kind.Bank():
		return 19 - 1 - len(p.Prefix)
	}
	return 0
}

// A secret is what the house knows of a bank card beside Card: one row.
type secret struct {
	card    CardID
	token   string
	sealed  []byte
	psn     byte
	alg     byte // pboc.Algorithm
	dki     byte // version of the issuer's keys it has
	pin     []byte
	tries   int    // of the PIN that are left
	atc     int    // of the last cryptogram that verified, -1 none
	account string // ledger account that online payments and loads come from
}

const secretColumns = `card, token, sealed, psn, alg, dki, pin, tries, atc, account`

func scanSecret(scan func(...any) error) (s secret, err error) {
	err = scan(&s.card, &s.token, &s.sealed, &s.psn, &s.alg, &s.dki, &s.pin, &s.tries, &s.atc, &s.account)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return s, err
}

func insertSecret(tx *db.Tx, s secret) error {
	if _, err := byToken(tx, s.token, s.psn); !errors.Is(err, ErrNotFound) {
		return errors.Join(err, ErrReused)
	}
	n, err := tx.Exec(`INSERT INTO issuing_bank (`+secretColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, -1, $9)
		ON CONFLICT (card) DO NOTHING`, s.card, s.token, s.sealed, s.psn, s.alg, s.dki, []byte{}, maxPINTries, s.account)
	if err == nil && n == 0 {
		err = ErrReused
	}
	return err
}

func secretOf(q db.Reader, id CardID) (secret, error) {
	return scanSecret(q.QueryRow(`SELECT `+secretColumns+` FROM issuing_bank WHERE card = $1`, id).Scan)
}

// byToken finds the card that carries a PAN: of a renewed number the one with
// the sequence number.
func byToken(q db.Reader, token string, psn byte) (secret, error) {
	return scanSecret(q.QueryRow(`SELECT `+secretColumns+` FROM issuing_bank WHERE token = $1 AND psn = $2`, token, psn).Scan)
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
