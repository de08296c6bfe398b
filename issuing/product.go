package issuing

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/spec/purse"
)

// TransitBJ is the product code of the Beijing T-Union purse.
const TransitBJ = "transit-bj"

const productColumns = `code, valid_from, valid_to, name_en, name_zh, art, package, module, instance, issuer,
	prefix, province, city, years, deposit, min_load, max_load, max_balance, source, kind, template`

func scanProduct(scan func(...any) error) (p Product, err error) {
	var from, to, deposit, minLoad, maxLoad, maxBalance int64
	var pkg, module, instance, issuer, province, city string
	err = scan(&p.Code, &from, &to, &p.NameEN, &p.NameZH, &p.Art, &pkg, &module, &instance, &issuer,
		&p.Prefix, &province, &city, &p.Years, &deposit, &minLoad, &maxLoad, &maxBalance, &p.Source, &p.Kind, &p.Template)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrProduct
	}
	if err != nil {
		return Product{}, err
	}
	p.From, p.To = db.Moment(from), db.Moment(to)
	p.Deposit, p.MinLoad, p.MaxLoad, p.MaxBalance = money.Fen(deposit), money.Fen(minLoad), money.Fen(maxLoad), money.Fen(maxBalance)
	for _, f := range []struct {
		text string
		put  func([]byte)
	}{
		{pkg, func(b []byte) { p.Package = b }}, {module, func(b []byte) { p.Module = b }},
		{instance, func(b []byte) { p.Instance = b }}, {issuer, func(b []byte) { copy(p.Issuer[:], b) }},
		{province, func(b []byte) { copy(p.Province[:], b) }}, {city, func(b []byte) { copy(p.City[:], b) }},
	} {
		b, err := hex.DecodeString(f.text)
		if err != nil {
			return Product{}, fmt.Errorf("product %s: %w", p.Code, err)
		}
		f.put(b)
	}
	return p, nil
}

// ProductOn reads a product as it was on a date: the version that began last.
func ProductOn(q db.Reader, code string, on time.Time) (Product, error) {
	p, err := scanProduct(q.QueryRow(`SELECT `+productColumns+` FROM issuing_product
		WHERE code = $1 AND valid_from <= $2 AND (valid_to = 0 OR valid_to > $2)
		ORDER BY valid_from DESC LIMIT 1`, code, on.UnixMicro()).Scan)
	if err != nil {
		return Product{}, fmt.Errorf("product %q on %s: %w", code, on.Format(time.DateOnly), err)
	}
	return p, nil
}

// Products reads what is on sale on a date.
func Products(q db.Reader, on time.Time) (out []Product, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanProduct(scan)
		if n := len(out); err == nil && n > 0 && out[n-1].Code == p.Code {
			return nil // an older version that has no end of its own
		}
		out = append(out, p)
		return err
	}, `SELECT `+productColumns+` FROM issuing_product
		WHERE valid_from <= $1 AND (valid_to = 0 OR valid_to > $1) ORDER BY code, valid_from DESC`, on.UnixMicro())
	return out, err
}

// SetProduct adds a version of a product, valid from p.From on, and a number
// range for its prefix when there is none, where cards of the kind have numbers.
func SetProduct(tx *db.Tx, p Product) error {
	numbered := p.Kind == Transit || p.Kind.Bank()
	digits := rangeOf(p)
	if p.Code == "" || len(p.Instance) == 0 || p.Years < 1 || numbered && (len(p.Prefix) < 8 || digits < 4 || p.MaxLoad.Sign() <= 0) ||
		p.Kind != Transit && p.Template == "" {
		return fmt.Errorf("product %q: %w", p.Code, ErrProduct)
	}
	var to int64
	if !p.To.IsZero() {
		to = p.To.UnixMicro()
	}
	_, err := tx.Exec(`INSERT INTO issuing_product (`+productColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
		ON CONFLICT (code, valid_from) DO NOTHING`,
		p.Code, p.From.UnixMicro(), to, p.NameEN, p.NameZH, p.Art, hex.EncodeToString(p.Package), hex.EncodeToString(p.Module),
		hex.EncodeToString(p.Instance), hex.EncodeToString(p.Issuer[:]), p.Prefix, hex.EncodeToString(p.Province[:]),
		hex.EncodeToString(p.City[:]), p.Years, p.Deposit.Minor(), p.MinLoad.Minor(), p.MaxLoad.Minor(), p.MaxBalance.Minor(), p.Source, p.Kind, p.Template)
	if err != nil {
		return fmt.Errorf("product %s: %w", p.Code, err)
	}
	if !numbered {
		return nil
	}
	last := int64(1)
	for range digits {
		last *= 10
	}
	_, err = tx.Exec(`INSERT INTO issuing_range (prefix, digits, upcoming, last) VALUES ($1, $2, 1, $3)
		ON CONFLICT (prefix) DO NOTHING`, p.Prefix, digits, last-1)
	return err
}

// Seed puts the house's first products on sale. It may be called at every
// start: what is there stays.
func Seed(tx *db.Tx) error {
	return SetProduct(tx, beijing())
}

// beijing is the T-Union purse of Beijing. One top-up is at most 500 yuan and
// a card holds at most 1,000 (DOMAIN.md 2); issuer and number layout follow the
// card read in CARD.md 6.7, region codes its file 17; the load file and module
// are those of the element's catalogue.
func beijing() Product {
	aid := []byte{0xA0, 0x00, 0x00, 0x06, 0x32, 0x01, 0x01, 0x05}
	return Product{
		Code: TransitBJ, Kind: Transit, From: time.Date(2014, 12, 28, 0, 0, 0, 0, calendar.Beijing).UTC(),
		NameEN: "Beijing transit card", NameZH: "北京市政交通一卡通", Art: "transit-bj",
		Package: aid[:7], Module: aid, Instance: purse.AIDTUnion,
		Issuer: [8]byte{0x01, 0x01, 0x10, 0x00, 0xFF, 0xFF, 0xFF, 0xFF}, Prefix: "0310517007",
		Province: [2]byte{0x10, 0x00}, City: [2]byte{0x10, 0x00}, Years: 20,
		Deposit: money.Fen(20_00), MinLoad: money.Fen(1), MaxLoad: money.Fen(500_00), MaxBalance: money.Fen(1000_00),
		Source: "card service terms of 28 December 2014; 1,000 yuan: State Council opinion of 2011 on prepaid cards",
	}
}
