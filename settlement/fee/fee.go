// Package fee prices a card sale: what the merchant pays and how the card's
// issuer, the network and the acquirer share it. The rules are rows with the
// day they come into force and a source (cost.csv, price.csv); the row is
// picked by the day of the sale. It knows no store and no payee.
//
// Start with Statutes.Tariff, then Tariff.Of and Tariff.Back.
package fee

import (
	_ "embed" // the rows
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"koala/calendar"
	"koala/internal/fail"
	"koala/money"
)

// A Class is the kind of card a sale was paid with.
type Class string

// The classes. None is a sale without a fee, as a ride of a transit card is.
const (
	None    Class = ""
	Debit   Class = "debit"
	Credit  Class = "credit"
	Prepaid Class = "prepaid"
	ECash   Class = "ecash"
)

// Classes are the classes that have fees.
var Classes = []Class{Debit, Credit, Prepaid, ECash}

// In is the class of a sale that the issuer spreads over so many parts: "credit"
// in 12 is "credit:12". No parts leave the class.
func (c Class) In(parts int) Class {
	if parts == 0 {
		return c
	}
	return c + Class(":"+strconv.Itoa(parts))
}

// Split is what In has put together.
func (c Class) Split() (card Class, parts int) {
	name, text, _ := strings.Cut(string(c), ":")
	parts, _ = strconv.Atoi(text)
	return Class(name), parts
}

// Valid says whether c is a class, or none.
func (c Class) Valid() bool {
	card, parts := c.Split()
	return c == None || c.at() >= 0 && card.In(parts) == c
}

func (c Class) at() int {
	card, _ := c.Split()
	for i, x := range Classes {
		if card == x {
			return i
		}
	}
	return -1
}

// A Category is a merchant's line of business as fee rules know it.
type Category string

// The categories of the rules of 2013; those of 2016 know living and welfare,
// all others are alike.
const (
	Dining    Category = "dining"    // and entertainment, jewellery, art
	Property  Category = "property"  // and cars
	General   Category = "general"   // department stores and what is not named
	Wholesale Category = "wholesale" // by quantity
	Living    Category = "living"    // supermarket, utility, fuel, transport
	Welfare   Category = "welfare"   // non-profit hospital, school, charity
)

// Categories are all of them.
var Categories = []Category{Dining, Property, General, Wholesale, Living, Welfare}

// Valid says whether c is a category.
func (c Category) Valid() bool {
	for _, x := range Categories {
		if c == x {
			return true
		}
	}
	return false
}

// Statute says who sets the price of a sale.
type statute byte

const (
	fixed  statute = iota // 2013: the price and its shares are laid down
	market                // 2016: costs have ceilings, the price is agreed
)

// Limits of what is priced: their product times a percentage fits 63 bits.
const (
	MaxRate = 40_000            // ppm
	MaxSale = 1_000_000_000_000 // fen
)

// million is what a rate in ppm (hundredths of a basis point) is a part of.
const million = 1_000_000

// A Cost is one row of what issuer and network ask. Rates are ppm of the
// amount, caps fen (0: none), Percent scales rates and caps of issuer and
// network (the discount of 2016).
type Cost struct {
	From                calendar.Date
	Category            Category // "*": every one not named
	Class               Class    // "*": every one not named
	Issuer, IssuerCap   int64
	Network, NetworkCap int64 // market: of each side, issuer's and acquirer's
	Acquirer            int64 // fixed only
	Cap                 int64 // of the whole fee, fixed only
	Percent             int64
	Source              string
	rule                statute
}

// A Price is one row of what a payee agreed to pay. Rate -1 is the statutory
// price of the category.
type Price struct {
	From     calendar.Date
	Name     string
	Category Category
	Class    Class
	Rate     int64 // ppm
	Cap      int64 // fen; 0: none
	Returned bool  // a refund gives its part of the fee back
	Source   string
}

// An Instalment is one row of what a shop pays on top for a sale that is spread
// over so many parts: all of it goes to the card's issuer, who waits.
type Instalment struct {
	From   calendar.Date
	Parts  int
	Rate   int64 // ppm of the sale
	Source string
}

// Statutes are all rows.
type Statutes struct {
	Costs       []Cost
	Prices      []Price
	Instalments []Instalment
}

// ErrRows is a table of rules that does not read.
var ErrRows = fail.Define(fail.Broken, "settlement.fee_rows", "the table of fee rules is malformed")

// ErrTerms asks for a price that no row has.
var ErrTerms = fail.Define(fail.Invalid, "settlement.fee_unknown", "no fee rule covers this category, card and day")

//go:embed cost.csv
var costRows string

//go:embed price.csv
var priceRows string

//go:embed instalment.csv
var instalmentRows string

// House reads the rows that come with the program.
func House() *Statutes {
	s, err := Read(strings.NewReader(costRows), strings.NewReader(priceRows))
	if err == nil {
		err = s.ReadInstalments(strings.NewReader(instalmentRows))
	}
	if err != nil {
		panic(err) // a defect of this package, found by its first test
	}
	return s
}

// Read reads tables of costs and prices, each with a head line.
func Read(costs, prices io.Reader) (*Statutes, error) {
	s := &Statutes{}
	err := rows(costs, 12, func(f []string, n func(int) int64) (err error) {
		c := Cost{Category: Category(f[1]), Class: Class(f[2]), Issuer: n(4), IssuerCap: n(5), Network: n(6), NetworkCap: n(7),
			Acquirer: n(8), Cap: n(9), Percent: n(10), Source: f[11]}
		switch f[3] {
		case "statute":
		case "market":
			c.rule = market
		default:
			return fmt.Errorf("rule %q", f[3])
		}
		if c.Percent < 1 || c.Percent > 100 || c.Issuer < 0 || c.Network < 0 || c.Acquirer < 0 {
			return fmt.Errorf("a rate or percentage out of range")
		}
		c.From, err = calendar.Parse(f[0])
		s.Costs = append(s.Costs, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("costs: %w", err)
	}
	err = rows(prices, 8, func(f []string, n func(int) int64) (err error) {
		p := Price{Name: f[1], Category: Category(f[2]), Class: Class(f[3]), Rate: n(4), Cap: n(5), Returned: f[6] == "true", Source: f[7]}
		if p.Name == "" || p.Rate < -1 || p.Rate > MaxRate {
			return fmt.Errorf("price %q of %d ppm", p.Name, p.Rate)
		}
		p.From, err = calendar.Parse(f[0])
		s.Prices = append(s.Prices, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	return s, nil
}

// ReadInstalments reads the table of instalments.
func (s *Statutes) ReadInstalments(in io.Reader) error {
	err := rows(in, 4, func(f []string, n func(int) int64) (err error) {
		x := Instalment{Parts: int(n(1)), Rate: n(2), Source: f[3]}
		if x.Parts < 2 || x.Rate < 0 || x.Rate > million {
			return fmt.Errorf("%d parts at %d ppm", x.Parts, x.Rate)
		}
		x.From, err = calendar.Parse(f[0])
		s.Instalments = append(s.Instalments, x)
		return err
	})
	if err != nil {
		return fmt.Errorf("instalments: %w", err)
	}
	return nil
}

// rows reads a CSV table; n gives a field as a number.
func rows(in io.Reader, width int, row func(f []string, n func(int) int64) error) error {
	r := csv.NewReader(in)
	r.FieldsPerRecord = width
	all, err := r.ReadAll()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRows, err)
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: it is empty", ErrRows)
	}
	for i, f := range all[1:] {
		var bad error
		err := row(f, func(k int) int64 {
			v, err := strconv.ParseInt(f[k], 10, 64)
			if err != nil || v > money.MaxMinor {
				bad = fmt.Errorf("column %d: %q", k+1, f[k])
			}
			return v
		})
		if bad != nil {
			err = bad
		}
		if err != nil {
			return fmt.Errorf("%w: row %d: %w", ErrRows, i+1, err)
		}
	}
	return nil
}

// cost picks the row in force on a day: the newest of the most precise ones.
func (s *Statutes) cost(day calendar.Date, cat Category, class Class) (best Cost, ok bool) {
	newest := s.inForce(day)
	for _, c := range s.Costs {
		if day.Before(c.From) || c.From.Before(newest) || !fits(c.Category, cat) || !fits(c.Class, class) {
			continue
		}
		if !ok || precise(c.Category, c.Class) > precise(best.Category, best.Class) ||
			precise(c.Category, c.Class) == precise(best.Category, best.Class) && best.From.Before(c.From) {
			best, ok = c, true
		}
	}
	return best, ok
}

// inForce is the day of the last change of system: rows of the one before are
// void even where the new one is less precise.
func (s *Statutes) inForce(day calendar.Date) (at calendar.Date) {
	for _, c := range s.Costs {
		if !day.Before(c.From) && c.rule == market && (at.IsZero() || c.From.Before(at)) {
			at = c.From
		}
	}
	return at
}

// price picks the row of a price card in the same way.
func (s *Statutes) price(day calendar.Date, name string, cat Category, class Class) (best Price, ok bool) {
	for _, p := range s.Prices {
		if p.Name != name || day.Before(p.From) || !fits(p.Category, cat) || !fits(p.Class, class) {
			continue
		}
		if !ok || best.From.Before(p.From) || best.From == p.From && precise(p.Category, p.Class) > precise(best.Category, best.Class) {
			best, ok = p, true
		}
	}
	return best, ok
}

// instalments picks the rows in force on a day: of each number of parts the
// newest.
func (s *Statutes) instalments(day calendar.Date) map[int]Instalment {
	out := map[int]Instalment{}
	for _, x := range s.Instalments {
		if at, known := out[x.Parts]; !day.Before(x.From) && (!known || at.From.Before(x.From)) {
			out[x.Parts] = x
		}
	}
	return out
}

func fits[T ~string](rule, asked T) bool { return rule == "*" || rule == asked }

func precise(cat Category, class Class) (n int) {
	if cat != "*" {
		n += 2
	}
	if class != "*" {
		n++
	}
	return n
}
