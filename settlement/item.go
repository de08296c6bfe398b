package settlement

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement/fee"
	"koala/settlement/split"
)

// Capture keeps c: once, however often it is delivered. Another body under a
// known reference is ErrDiffers.
func Capture(tx *db.Tx, c Item) error { return CaptureAll(tx, []Item{c}) }

// CaptureAll keeps items as Capture does, all or none; many take one statement
// together. What a payee with a standing split sells is divided (SetSplit).
func CaptureAll(tx *db.Tx, items []Item) error {
	having, err := split.Having(tx)
	if err != nil {
		return err
	}
	whole, has := items, false
	for i := range items {
		c := &items[i]
		if i == 0 || items[i-1].Payee != c.Payee {
			if has, err = having(c.Payee); err != nil {
				return err
			}
		}
		parted := false
		if has {
			if err = c.check(); err == nil {
				parted, err = divided(tx, *c)
			}
		}
		switch {
		case err != nil:
			return err
		case parted && len(whole) == len(items):
			whole = append([]Item{}, items[:i]...)
		case !parted && len(whole) < len(items):
			whole = append(whole, *c)
		}
	}
	return captureWhole(tx, whole)
}

// captureWhole keeps items that are not divided, or are parts.
func captureWhole(tx *db.Tx, items []Item) error {
	var joined []any
	rows := make([]any, 0, len(items)*itemWidth)
	for i := range items {
		c := &items[i]
		if err := c.check(); err != nil {
			return err
		}
		if c.At.IsZero() {
			c.At = tx.Now()
		}
		rows = append(rows, c.Payee, tx.NewSeq(), c.Ref, c.Kind, string(c.Card), c.Issuer, c.Amount.Minor(), c.At.UnixMicro(),
			tx.Now().UnixMicro(), micros(c.SaleAt), c.Remains.Minor(), c.whole, c.lo, c.share, c.priced)
		if i == 0 || items[i-1].Payee != c.Payee || items[i-1].Issuer != c.Issuer {
			if err := c.accounts(tx); err != nil {
				return err
			}
			joined = append(joined, c.Payee, 0, "", 0, 0, 0, 0, 0, 0, 0)
		}
	}
	if _, err := insertRows(tx, intoPayee, payeeWidth, ` ON CONFLICT (payee) DO NOTHING`, joined); err != nil {
		return err
	}
	n, err := insertRows(tx, intoItem, itemWidth, ` ON CONFLICT (ref) DO NOTHING`, rows)
	if err != nil || n == int64(len(items)) {
		return err
	}
	for i := range items {
		if err := items[i].same(tx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Item) check() error {
	back := c.Amount.Sign() < 0
	switch {
	case c.Ref == "", len(c.Ref) > MaxRef, c.Payee == "", len(c.Payee) > MaxPayee, c.Amount.IsZero(), c.Amount.Currency() != money.CNY,
		max(c.Amount.Minor(), -c.Amount.Minor()) > fee.MaxSale, !c.Card.Valid(), len(c.Issuer) > MaxPayee, len(c.Sale) > MaxRef,
		!back && (!c.SaleAt.IsZero() || !c.Remains.IsZero()),
		back && !c.Remains.IsZero() && c.Remains.Minor() < max(-c.Amount.Minor(), c.whole), c.Remains.Minor() > fee.MaxSale:
		return fmt.Errorf("capture %q: %w", c.Ref, ErrItem)
	}
	return nil
}

// accounts refuses an item that no run could book, or it would keep
// everybody's money back. An issuer's account is opened with its first item.
func (c *Item) accounts(tx *db.Tx) error {
	if _, err := ledger.BalanceOf(tx, Payable(c.Payee)); err != nil {
		return fmt.Errorf("capture %s: %w", c.Ref, err)
	}
	if c.Issuer == "" {
		return nil // opened with the first terms that have fees
	}
	return OpenIssuer(tx, c.Issuer, "fees owed to "+c.Issuer)
}

// same compares what was captured under a reference before.
func (c *Item) same(tx *db.Tx) error {
	known, err := item(tx, c.Ref)
	if err != nil {
		return fmt.Errorf("capture %s: %w", c.Ref, err)
	}
	if known.Payee != c.Payee || known.Kind != c.Kind || known.Amount != c.Amount || known.Card != c.Card || known.Issuer != c.Issuer ||
		known.Remains.Minor() != c.Remains.Minor() || known.whole != c.whole || known.lo != c.lo || known.share != c.share || known.priced != c.priced {
		return fmt.Errorf("capture %s: %w", c.Ref, ErrDiffers)
	}
	return nil
}

// Payable is the account on which a payee's earnings wait.
func Payable(payee string) ledger.AccountID { return ledger.AccountID("payable." + payee) }

// A Share is what one receiver gets of a split sale; a Split is all of them.
type (
	Share = split.Share
	Split = split.Split
)

// DatedSplit is a standing split from a day on; one without shares ends another.
type DatedSplit = split.Dated

// SetSplit keeps a standing split that begins today or on a day to come: every
// sale that a payee has from then on is divided when it is captured, of the
// receivers each its share, and what they leave stays with the payee. The fee is
// that of the whole, by the terms of the payee; it is divided too, or has a
// bearer. A split without shares ends the one before.
func SetSplit(tx *db.Tx, payee string, since calendar.Date, s Split) error {
	if since.Before(calendar.Of(tx.Now(), calendar.Beijing)) {
		return fmt.Errorf("standing split of %s from %s: %w", payee, since, ErrSplit)
	}
	if _, err := payeeOf(tx, payee); err != nil {
		return err
	}
	for _, x := range s.Shares {
		if _, err := payeeOf(tx, x.Payee); err != nil {
			return fmt.Errorf("standing split of %s: %w", payee, err)
		}
	}
	return split.Set(tx, DatedSplit{Payee: payee, Since: since, Split: s})
}

// Splits reads the standing splits of a payee, oldest first.
func Splits(q db.Reader, payee string) ([]DatedSplit, error) { return split.All(q, payee) }

// SplitOn is the standing split of a payee on a day; no shares: there is none.
func SplitOn(q db.Reader, payee string, day calendar.Date) (Split, error) {
	return split.On(q, payee, day)
}

// RememberSplits has the units of a store know in memory who has a standing
// split, so that a sale of the others asks nothing. It is set before they run.
func RememberSplits(store *db.Store) { split.Remember(store) }

// divided captures an item of a payee that has a standing split as its parts.
// false: it is not to be divided. What was captured under its reference before,
// whole or divided, decides first, so that a cut or a second delivery never
// divides anew.
func divided(tx *db.Tx, c Item) (bool, error) {
	d, err := split.Read(tx, c.Ref)
	if err == nil && len(d.Parts) == 0 {
		if d, err = divide(tx, c); err == nil && len(d.Parts) > 0 {
			err = split.Keep(tx, d)
		}
	}
	if err != nil || len(d.Parts) == 0 {
		return false, err
	}
	if d.Sum() != c.Amount.Minor() || d.Shop != c.Payee {
		return false, fmt.Errorf("capture %s: %w", c.Ref, ErrDiffers)
	}
	c.priced = c.Payee
	sign := int64(1)
	if c.Amount.Sign() < 0 {
		if sign = -1; c.Remains.IsZero() {
			c.Remains = money.Fen(d.Before)
		}
	}
	s, parts := d.Shares()
	_, err = captureParts(tx, c, s, parts, sign)
	return true, err
}

// divide is the division of an item that is new: what takes a sale back or gives
// it again goes by what the sale was divided into, a sale by the split of its
// day. No parts: it stays whole, as what goes beyond its sale does; how much may
// come back is its booker's matter, and here no refund fails for a receiver.
func divide(tx *db.Tx, c Item) (d split.Division, err error) {
	back := c.Sale != ""
	if !back && (c.Kind != Sale || c.Amount.Sign() < 0) {
		return d, nil
	}
	if _, err := item(tx, c.Ref); !errors.Is(err, ErrItem) { // it was captured whole
		return d, err
	}
	if back {
		sale, err := split.Read(tx, c.Sale)
		if err != nil || len(sale.Parts) == 0 || sale.Shop != c.Payee {
			return d, err
		}
		if d, err = sale.Move(c.Ref, c.Amount.Minor()); errors.Is(err, ErrSplit) {
			return split.Division{}, nil
		}
		return d, err
	}
	at := c.At // a clock that is ahead gets no split that is still to come
	if now := tx.Now(); at.IsZero() || at.After(now) {
		at = now
	}
	s, err := split.On(tx, c.Payee, calendar.Of(at, calendar.Beijing))
	if err == nil && len(s.Shares) > 0 {
		d = split.New(c.Ref, c.Payee, s, c.Amount)
	}
	return d, err
}

// CaptureSplit captures a sale as one item per receiver and moves their shares
// from the account of the sale's own payee, on which the whole stands. It
// returns the items.
func CaptureSplit(tx *db.Tx, sale Item, s Split) ([]Item, error) {
	parts, err := s.Divide(sale.Amount)
	if err != nil {
		return nil, err
	}
	return captureParts(tx, sale, s, parts, 1)
}

// RefundSplit takes part of a split sale back from its receivers; left is what
// each has left of it, at first what Divide gave. refund.Amount is negative.
func RefundSplit(tx *db.Tx, refund Item, left []money.Amount, s Split) ([]Item, error) {
	parts, err := s.Undo(left, refund.Amount.Neg())
	if err != nil {
		return nil, err
	}
	refund.Remains = money.Fen(0)
	for _, n := range left {
		refund.Remains = refund.Remains.Add(n)
	}
	return captureParts(tx, refund, s, parts, -1)
}

func captureParts(tx *db.Tx, whole Item, s Split, parts []money.Amount, sign int64) ([]Item, error) {
	e := ledger.Entry{Ref: "split:" + whole.Ref, Kind: "split", Text: "shares of " + whole.Ref}
	var items []Item
	moved, before, size := money.Fen(0), int64(0), max(whole.Amount.Minor(), -whole.Amount.Minor())
	for i, x := range s.Shares {
		part := parts[i]
		c := whole
		c.Ref, c.Payee, c.Amount = fmt.Sprintf("%s#%d", whole.Ref, i+1), x.Payee, money.Fen(sign*part.Minor())
		c.whole, c.lo, c.share = size, before, part.Minor()
		before += part.Minor()
		if c.priced == c.Payee {
			c.priced = ""
		}
		switch s.Bearer {
		case "":
		case x.Payee:
			c.lo, c.share = 0, size
		default:
			c.Card, c.whole, c.lo, c.share = fee.None, 0, 0, 0
		}
		if part.IsZero() {
			if c.share != 0 && c.Card != fee.None {
				return nil, fmt.Errorf("share %d of %s is nothing: %w", i+1, whole.Ref, ErrSplit)
			}
			continue
		}
		items = append(items, c)
		if x.Payee != whole.Payee {
			e.Legs = append(e.Legs, ledger.Leg{Account: Payable(x.Payee), Amount: c.Amount})
			moved = moved.Add(c.Amount)
		}
	}
	if !moved.IsZero() {
		e.Legs = append(e.Legs, ledger.Leg{Account: Payable(whole.Payee), Amount: moved.Neg()})
		if _, err := ledger.Post(tx, e); err != nil {
			return nil, err
		}
	}
	return items, captureWhole(tx, items)
}

// Statements that add rows, and how wide those are.
const (
	itemColumns  = `payee, seq, ref, kind, card, issuer, fen, at, booked, sale_at, remains, whole, lo, share, priced`
	itemWidth    = 15
	intoItem     = `INSERT INTO settlement_item (` + itemColumns + `) VALUES `
	payeeColumns = `payee, mark, day, kept, reserve, held, stopped, free, auto, v`
	payeeWidth   = 10
	intoPayee    = `INSERT INTO settlement_payee (` + payeeColumns + `) VALUES `
)

func ensure(tx *db.Tx, payee string) error {
	_, err := insertRows(tx, intoPayee, payeeWidth, ` ON CONFLICT (payee) DO NOTHING`, []any{payee, 0, "", 0, 0, 0, 0, 0, 0, 0})
	return err
}

// manyValues is about how many values one statement takes: filling in places
// costs the driver the more the more a statement has.
const manyValues = 90

// insertRows runs an INSERT of many rows and says how many it wrote. Unlike
// appended rows they are seen by the unit at once, so that no later number can
// be seen without an earlier one.
func insertRows(tx *db.Tx, into string, width int, end string, vals []any) (n int64, err error) {
	for _, rows := range [...]int{max(2, manyValues/width), 1} {
		text := ""
		for step := rows * width; len(vals) >= step; vals = vals[step:] {
			if text == "" {
				text = into + places(rows, width) + end
			}
			k, err := tx.Exec(text, vals[:step]...)
			if err != nil {
				return n, err
			}
			n += k
		}
	}
	return n, nil
}

// places writes ($1, $2), ($3, $4).
func places(rows, width int) string {
	var b strings.Builder
	for i := range rows * width {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%width == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String() + ")"
}

// A row is an item as the run reads it.
type row struct {
	payee, kind, card, issuer, ref    string
	priced                            string // whose terms price it; empty: the payee's
	seq, fen, at, booked              int64
	saleAt, remains, whole, lo, share int64
}

func (r *row) scan(scan func(...any) error) error {
	return scan(&r.payee, &r.seq, &r.ref, &r.kind, &r.card, &r.issuer, &r.fen, &r.at, &r.booked, &r.saleAt, &r.remains, &r.whole, &r.lo, &r.share, &r.priced)
}

func (r *row) item() Item {
	return Item{Ref: r.ref, Payee: r.payee, Amount: money.Fen(r.fen), At: db.Moment(r.at), Kind: r.kind, Card: fee.Class(r.card), Issuer: r.issuer,
		SaleAt: db.Moment(r.saleAt), Remains: money.Fen(r.remains), whole: r.whole, lo: r.lo, share: r.share, priced: r.priced}
}

func item(q db.Reader, ref string) (Item, error) {
	var r row
	err := r.scan(q.QueryRow(`SELECT `+itemColumns+` FROM settlement_item WHERE ref = $1`, ref).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrItem
	}
	return r.item(), err
}

// micros is a time as columns keep it.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
