package issuing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/customer"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/purse"
	"koala/wallet"
)

// Chart codes of the accounts this package opens.
const (
	codeFloat   = "2020"
	codeDeposit = "2040"
)

// Float is the account of a card's money: loaded less spent and booked.
func Float(n CardID) ledger.AccountID { return ledger.AccountID("float." + string(n)) }

// DepositAccount holds the deposit of a card.
func DepositAccount(n CardID) ledger.AccountID {
	return ledger.AccountID("deposit." + string(n))
}

// Open makes a card on paper: its number, its accounts, its deposit out of the
// wallet. The same reference again gives the same card. One band holds at most
// one living card per instance name, because readers select by that name.
func Open(tx *db.Tx, a Application) (Card, error) {
	if a.Ref == "" || len(a.Ref) > MaxRef || a.Customer == "" || a.Band == "" || len(a.Band) > MaxBand || a.Product == "" {
		return Card{}, fmt.Errorf("application %q: %w", a.Ref, ErrBadInput)
	}
	if c, err := byRef(tx, a.Ref); err == nil {
		if c.Customer != a.Customer || c.Band != a.Band || c.Product != a.Product {
			return Card{}, fmt.Errorf("application %s: %w", a.Ref, ErrDiffers)
		}
		return c, nil
	} else if !errors.Is(err, ErrNotFound) {
		return Card{}, err
	}
	p, err := ProductOn(tx, a.Product, tx.Now())
	if err != nil {
		return Card{}, fmt.Errorf("application %s: %w", a.Ref, err)
	}
	if taken, err := bandHolds(tx, a.Band, p); err != nil || taken {
		if err == nil {
			err = ErrHasCard
		}
		return Card{}, fmt.Errorf("application %s, band %s: %w", a.Ref, a.Band, err)
	}
	today := calendar.Of(tx.Now(), calendar.Beijing)
	c := Card{
		Kind: p.Kind, Customer: a.Customer, Band: a.Band, Product: p.Code, Instance: p.Instance, State: Ordered, Deposit: p.Deposit,
		Replaces: a.Replaces, Carry: a.Carry,
		From: today.Start(calendar.Beijing).UTC(), To: today.Start(calendar.Beijing).AddDate(p.Years, 0, 0).UTC(),
		Opened: tx.Now(), Changed: tx.Now(), Known: Counters{Balance: money.Fen(0), Online: -1, Offline: -1},
	}
	for _, step := range []func() error{
		func() error { return inherit(tx, c) },
		func() error { return name(tx, &c, p, a.PAN) },
		func() error { return insertCard(tx, a.Ref, c) },
		func() error { return openAccounts(tx, c) },
		func() error { return openBank(tx, c, p, a.PAN) },
	} {
		if err := step(); err != nil {
			return Card{}, fmt.Errorf("application %s: %w", a.Ref, err)
		}
	}
	return c, nil
}

// inherit checks the card that a new one is made in place of: a lost one of the
// same kind and holder, that no other card replaces.
func inherit(tx *db.Tx, c Card) error {
	if c.Replaces == "" {
		return nil
	}
	old, err := Get(tx, c.Replaces)
	if err != nil {
		return err
	}
	if heir, err := heirOf(tx, old.ID); err != nil || heir != "" {
		return errors.Join(err, ErrNotHeir)
	}
	if old.Customer != c.Customer || old.Kind != c.Kind || old.Suspended.IsZero() || old.State.Over() {
		return ErrNotHeir
	}
	return nil
}

// heirOf is the living card made in place of another, empty for none.
func heirOf(q db.Reader, old CardID) (heir CardID, err error) {
	err = q.QueryRow(`SELECT id FROM issuing_card WHERE replaces = $1 AND state NOT IN ($2, $3) ORDER BY id LIMIT 1`, old, Abandoned, Closed).Scan(&heir)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return heir, err
}

// name gives a new card its id and tail: a purse the next number of its range,
// every other card a token.
func name(tx *db.Tx, c *Card, p Product, n *Numbered) error {
	switch {
	case p.Kind == Transit:
		number, err := draw(tx, p)
		if err != nil {
			return err
		}
		c.ID, c.Tail = IDOf(number), string(number[len(number)-4:])
		return nil
	case p.Kind.Bank() && (n == nil || n.Prefix != p.Prefix || n.Token == "" || len(n.Sealed) == 0):
		return ErrNoNumber
	case p.Kind.Bank():
		c.Tail = n.Tail
	}
	c.ID = CardID(tx.NewID("card"))
	return nil
}

// openAccounts opens what the card's money stands on: of a card that holds
// money a float, of one with a deposit that.
func openAccounts(tx *db.Tx, c Card) error {
	var err error
	if c.Kind.Money() {
		err = openFloat(tx, c)
	}
	if err != nil || c.Deposit.IsZero() {
		return err
	}
	err = ledger.OpenAccount(tx, ledger.Account{ID: DepositAccount(c.ID), Code: codeDeposit, Name: "card deposit", Currency: money.CNY, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}})
	if err != nil {
		return err
	}
	e := ledger.Move("deposit:"+string(c.ID), wallet.Account(c.Customer), DepositAccount(c.ID), c.Deposit)
	e.Kind, e.Text = "card.deposit", "card deposit"
	_, err = ledger.Post(tx, e)
	return err
}

func openFloat(tx *db.Tx, c Card) error {
	return ledger.OpenAccount(tx, ledger.Account{ID: Float(c.ID), Code: codeFloat, Name: "money on a card", Currency: money.CNY, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}})
}

// returnDeposit gives the deposit back to the wallet, once.
func returnDeposit(tx *db.Tx, c Card) error {
	if c.Deposit.IsZero() {
		return nil
	}
	e := ledger.Move("deposit-back:"+string(c.ID), DepositAccount(c.ID), wallet.Account(c.Customer), c.Deposit)
	e.Kind, e.Text = "card.deposit_back", "card deposit returned"
	_, err := ledger.Post(tx, e)
	return err
}

// Begin says that personalisation data of the card has been sealed and its
// first script prepared.
func Begin(tx *db.Tx, n CardID) error { return move(tx, n, Personalising, "", nil) }

// Activate says that the element holds the card and answered correctly.
func Activate(tx *db.Tx, n CardID, seen Counters) error {
	return move(tx, n, Active, "", func(c Card) error { return See(tx, n, seen) })
}

// Abandon gives an unfinished card up: the deposit goes back, the number is
// never used again.
func Abandon(tx *db.Tx, n CardID, why string) error {
	return move(tx, n, Abandoned, why, func(c Card) error { return returnDeposit(tx, c) })
}

// Block says that the element has blocked the card.
func Block(tx *db.Tx, n CardID, why string) error { return move(tx, n, Blocked, why, nil) }

// Unblock says that the element has unblocked it.
func Unblock(tx *db.Tx, n CardID) error { return move(tx, n, Active, "", nil) }

// BeginReturn stops everything new for the card while its element is asked for
// the last balance.
func BeginReturn(tx *db.Tx, n CardID) error {
	return move(tx, n, Closing, "", func(c Card) error { return setBefore(tx, n, c.State) })
}

// GiveUpReturn puts a card whose return failed back to what it was.
func GiveUpReturn(tx *db.Tx, n CardID) error {
	c, err := Get(tx, n)
	if err != nil {
		return err
	}
	return move(tx, n, c.Before, "", nil)
}

// Close ends a card whose element proved its last balance and no longer holds
// it. The proven balance and the deposit go back to the wallet. What stays on
// the float account belongs to taps that gates have not handed in yet.
func Close(tx *db.Tx, n CardID, last Counters) error {
	return move(tx, n, Closed, "returned", func(c Card) error {
		if err := See(tx, n, last); err != nil {
			return err
		}
		if !c.Kind.Money() {
			return returnDeposit(tx, c)
		}
		b, err := ledger.BalanceOf(tx, Float(n))
		if err != nil {
			return err
		}
		if last.Balance.Cmp(b.Posted) > 0 {
			return fmt.Errorf("%s proven, %s booked: %w", last.Balance, b.Posted, ErrShort)
		}
		if last.Balance.Sign() > 0 {
			e := ledger.Move("refund:"+string(n), Float(n), wallet.Account(c.Customer), last.Balance)
			e.Kind, e.Text = "card.refund", fmt.Sprintf("balance of a returned card, proven at load sequence %d", last.Online)
			if _, err := ledger.Post(tx, e); err != nil {
				return err
			}
		}
		return returnDeposit(tx, c)
	})
}

// move changes the state of a card if its table allows it, after also ran. A
// card that is there already stays as it is: the same news twice is no news.
func move(tx *db.Tx, n CardID, to State, why string, also func(Card) error) error {
	c, err := Get(tx, n)
	if err != nil {
		return err
	}
	if c.State == to {
		return nil
	}
	if !c.State.May(to) {
		return fmt.Errorf("card %s from %s to %s: %w", n.Masked(), c.State, to, ErrState)
	}
	if also != nil {
		if err := also(c); err != nil {
			return fmt.Errorf("card %s to %s: %w", n.Masked(), to, err)
		}
	}
	return setState(tx, n, c.State, to, why)
}

// See keeps what an element proved about itself, unless something later is
// known already: sequences only count up.
func See(tx *db.Tx, n CardID, seen Counters) error {
	c, err := Get(tx, n)
	if err != nil {
		return err
	}
	k := c.Known
	if seen.Online >= 0 && seen.Online < k.Online || seen.Offline >= 0 && seen.Offline < k.Offline ||
		(seen.Online < 0 || seen.Offline < 0) && seen.At.Before(k.At) {
		return nil
	}
	seen.Online, seen.Offline = max(seen.Online, k.Online), max(seen.Offline, k.Offline)
	return setCounters(tx, n, seen)
}

// FileOf is file 15 of the card.
func FileOf(c Card, p Product) purse.File15 {
	return purse.File15{Issuer: p.Issuer, AppType: 0x02, Version: 0x01, Number: c.ID.Purse(),
		From: purse.StampOf(c.From).Date, To: purse.StampOf(c.To).Date, CardType: purse.CardOrdinary}
}

// RegionOf is file 17 of the card: China, the product's province and city,
// valid in other cities too.
func RegionOf(p Product) purse.File17 {
	return purse.File17{Country: [4]byte{0x00, 0x00, 0x01, 0x56}, Province: p.Province, City: p.City,
		Interop: [2]byte{0x00, 0x01}, CardType: purse.CardOrdinary, Rest: make([]byte, purse.File17Len-purse.File17Head)}
}

// HeldBy tells whether the card lives in that band and is that customer's.
func (c Card) HeldBy(band string, who customer.ID) bool { return c.Band == band && c.Customer == who }

// Valid tells whether the card may be used on the day of t.
func (c Card) Valid(t time.Time) bool { return !t.Before(c.From) && t.Before(c.To) }

// A Line is one line of a card's statement in people's words.
type Line struct {
	ledger.Line
	EN, ZH string
}

// Statement reads the lines of a card's own account, oldest first, from line
// from on (1 is the first): of a credit card what it owes, of every other what
// stands on it offline.
func Statement(ctx context.Context, book *ledger.Book, c Card, from uint64, limit int) ([]Line, error) {
	id := Float(c.ID)
	if c.Kind == Credit {
		id = CreditAccount(c.ID)
	}
	lines, err := book.Statement(ctx, id, from, limit)
	if err != nil {
		return nil, fmt.Errorf("statement of card %s: %w", c.ID.Masked(), err)
	}
	out := make([]Line, len(lines))
	for i, l := range lines {
		out[i] = Line{l, l.Text, l.Text}
		if w, ok := entryWords[l.Kind]; ok {
			out[i].EN, out[i].ZH = w[0], w[1]
		}
	}
	return out, nil
}
