package issuing

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/calendar"
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
	instance, err := lodge(tx, a.Band, p)
	if err != nil {
		return Card{}, fmt.Errorf("application %s, band %s: %w", a.Ref, a.Band, err)
	}
	today := calendar.Of(tx.Now(), calendar.Beijing)
	c := Card{
		Kind: p.Kind, Customer: a.Customer, Band: a.Band, Product: p.Code, Instance: instance, State: Ordered, Deposit: p.Deposit,
		Replaces: a.Replaces, Carry: a.Carry,
		From: today.Start(calendar.Beijing).UTC(), To: today.Start(calendar.Beijing).AddDate(p.Years, 0, 0).UTC(),
		Opened: tx.Now(), Changed: tx.Now(), Known: Counters{Balance: money.Fen(0), Online: -1, Offline: -1},
	}
	for _, step := range []func() error{
		func() error { return inherit(tx, c) },
		func() error { return name(tx, &c, p, a.PAN) },
		func() error { return insertCard(tx, a.Ref, c) },
		func() error { return nameCoupon(tx, c) },
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

// Valid tells whether the card may be used on the day of t.
func (c Card) Valid(t time.Time) bool { return !t.Before(c.From) && t.Before(c.To) }

// A Gap is money that left a card between two counters and was not handed in.
type Gap struct {
	After, Before uint16 // counters that are known
	Fen           money.Amount
}

// Gaps compares the balances a card reported with what was booked between
// them. Counters alone tell nothing: they move with every transaction that was
// begun.
func Gaps(q db.Reader, id CardID) (out []Gap, err error) {
	h, err := historyOf(q, id)
	for i := 1; i < len(h.balances); i++ {
		if e := h.between(h.balances[i-1], h.balances[i]); e.Missing > 0 {
			out = append(out, Gap{uint16(e.After), uint16(e.Before), money.Fen(e.Missing)})
		}
	}
	return out, err
}

// A history is what the books know of a card's e-cash, by its counter. A
// position is three times the counter; a balance stands there if it is of
// before the transaction and two further on if of after it, what the
// transaction moved between them.
type history struct {
	balances []balance     // that the card proved, by position
	moves    map[int]int64 // by counter: spent, or below zero loaded
	known    map[int]bool  // counters that are accounted for
	bound    []int         // counters of loads without a known end
}

type balance struct {
	at  int
	fen int64
}

// historyOf reads a card's history. It begins empty: cards are written without
// money.
func historyOf(q db.Reader, id CardID) (h history, err error) {
	h = history{balances: []balance{{2, 0}}, moves: map[int]int64{}, known: map[int]bool{}}
	proved := func(atc int, before, after int64) {
		h.balances = append(h.balances, balance{3 * atc, before})
		if after >= 0 {
			h.balances = append(h.balances, balance{3*atc + 2, after})
		}
	}
	for _, part := range []struct {
		sql  string
		take func(atc int, fen, balance int64, what string)
	}{
		{`SELECT atc, fen, -1, CASE WHEN state = 'paid' THEN 'paid' ELSE '' END FROM issuing_doubt WHERE card = $1 AND state IN ('paid', 'unpaid') AND kind < 3`,
			func(atc int, fen, _ int64, what string) {
				if what == "paid" {
					h.moves[atc] = fen
				}
			}},
		{`SELECT atc, MAX(fen), MAX(balance), MAX(CASE WHEN account THEN 'account' ELSE '' END) FROM issuing_clearing c WHERE card = $1 AND kind < 3
			AND NOT EXISTS (SELECT 1 FROM issuing_auth x WHERE x.card = c.card AND x.atc = c.atc) GROUP BY atc`,
			func(atc int, fen, balance int64, what string) {
				if what == "account" {
					fen = 0 // it was not paid out of the e-cash
				}
				if h.moves[atc] = fen; balance >= 0 {
					proved(atc, balance+fen, balance)
				}
			}},
		{`SELECT atc, 0, balance, '' FROM issuing_auth WHERE card = $1`, func(atc int, _, balance int64, _ string) {
			if balance >= 0 {
				proved(atc, balance, -1)
			}
		}},
		{`SELECT atc, fen, -1, state FROM issuing_load WHERE card = $1 AND atc >= 0 AND state IN ('paid', 'bound')`, func(atc int, fen, _ int64, state string) {
			if LoadState(state) == LoadPaid {
				h.moves[atc] = -fen
			} else {
				h.bound = append(h.bound, atc)
			}
		}},
	} {
		if err == nil {
			err = db.Each(q, func(scan func(...any) error) error {
				var atc, fen, balance int64
				var what string
				err := scan(&atc, &fen, &balance, &what)
				h.known[int(atc)] = true
				part.take(int(atc), fen, balance, what)
				return err
			}, part.sql, id)
		}
	}
	h.sort()
	return h, err
}

func (h *history) sort() {
	slices.SortFunc(h.balances, func(a, b balance) int { return cmp.Compare(a.at, b.at) })
}

// between compares two balances with what was booked between them.
func (h history) between(low, high balance) Evidence {
	e := Evidence{After: low.at / 3, Had: low.fen, Before: high.at / 3, Left: high.fen, Whole: true}
	for atc := (low.at + 1) / 3; 3*atc+1 < high.at; atc++ {
		if 3*atc+1 > low.at {
			e.Booked += h.moves[atc]
			e.Whole = e.Whole && h.known[atc]
		}
	}
	e.Missing = e.Had - e.Left - e.Booked
	return e
}

// A verdict is what balances say of a doubt.
type verdict struct {
	state    DoubtState
	evidence Evidence
}

// weigh decides doubts by the balances around them. One that is above what is
// missing there was not paid. Those that make exactly what is missing were, if
// nothing else can have been: every other counter is accounted for, or all
// terminals have handed in (doubts from before ripe).
func (h history) weigh(open []Doubt, ripe time.Time) []verdict {
	for _, d := range open {
		if h.known[int(d.ATC)] = true; d.balance >= 0 {
			h.balances = append(h.balances, balance{3 * int(d.ATC), d.balance})
		}
	}
	h.sort()
	out := make([]verdict, len(open))
	groups := map[[2]int][]int{}
	for i, d := range open {
		out[i].state = DoubtWaiting
		at := 3*int(d.ATC) + 1
		high := slices.IndexFunc(h.balances, func(b balance) bool { return b.at > at })
		if high > 0 {
			key := [2]int{high - 1, high}
			groups[key] = append(groups[key], i)
		}
	}
	for key, group := range groups {
		low, high := h.balances[key[0]], h.balances[key[1]]
		if !slices.ContainsFunc(h.bound, func(atc int) bool { return low.at < 3*atc+1 && 3*atc+1 < high.at }) {
			judge(out, open, group, h.between(low, high), ripe)
		}
	}
	return out
}

// judge decides the doubts between two balances.
func judge(out []verdict, open []Doubt, group []int, e Evidence, ripe time.Time) {
	var sum int64
	whole, late := e.Whole, true
	var left []int
	for _, i := range group {
		switch fen := open[i].Fen.Minor(); {
		case e.Missing < 0: // the books are behind the card
		case fen > e.Missing:
			out[i] = verdict{DoubtUnpaid, e}
		default:
			left, sum, late = append(left, i), sum+fen, late && open[i].At.Before(ripe)
		}
	}
	if sum == e.Missing && whole || sum <= e.Missing && late {
		for _, i := range left {
			out[i] = verdict{DoubtPaid, e}
		}
	}
}

// facts are what the books know of a card and a request.
type facts struct {
	c                      Card // what deciding needs of it
	use                    use
	day                    string // Beijing
	once, daily, spent     int64  // limits of a payment and of a day, what the day has had
	same                   int64  // 0 the counter is fresh, 1 used by this cryptogram, 2 by another one
	arc                    string // answer of then
	cleared, loads, doubts int64  // records at the counter; open loads and doubts of the card
}

const factsQuery = `SELECT c.kind, c.product, c.state, c.suspended, c.valid_from, c.valid_to, c.balance,
	COALESCE(u.tries, -1), COALESCE(u.atc, -1), COALESCE(u.ac, ''), COALESCE(u.arc, ''), COALESCE(u.day, ''), COALESCE(u.spent, 0), COALESCE(u.upcoming, 0),
	(SELECT COUNT(*) FROM issuing_load l WHERE l.card = c.id AND l.open), (SELECT COUNT(*) FROM issuing_doubt d WHERE d.card = c.id AND d.state = 'waiting')
	FROM issuing_card c LEFT JOIN issuing_use u ON u.card = c.id WHERE c.id = $1`

// look reads the facts.
func (p Prepared) look(tx *db.Tx) (f facts, err error) {
	f.day, f.c.ID = calendar.Of(tx.Now(), calendar.Beijing).String(), p.secret.card
	var suspended, from, to, balance int64
	u := &f.use
	err = tx.QueryRow(factsQuery, f.c.ID).Scan(&f.c.Kind, &f.c.Product, &f.c.State, &suspended, &from, &to, &balance,
		&u.tries, &u.atc, &u.ac, &u.arc, &u.day, &u.spent, &u.next, &f.loads, &f.doubts)
	f.c.Suspended, f.c.From, f.c.To, f.c.Known.Balance = db.Moment(suspended), db.Moment(from), db.Moment(to), money.Fen(balance)
	if !u.kept(tx, f.c.ID) && u.tries < 0 {
		*u = freshUse
	}
	if u.day == f.day {
		f.spent = u.spent
	}
	if err == nil {
		f.once, f.daily, err = p.rules.Limits(tx, string(f.c.ID), f.c.Product, tx.Now())
	}
	switch {
	case err != nil, !p.chip || int(p.c.ATC) > u.atc:
	case int(p.c.ATC) == u.atc && bytes.Equal(u.ac, p.c.AC[:]):
		f.same, f.arc = 1, u.arc
	case int(p.c.ATC) == u.atc && len(u.ac) > 0:
		f.same = 2
	default:
		err = tx.QueryRow(`SELECT CASE WHEN x.ac IS NULL THEN 0 WHEN x.ac = $3 THEN 1 ELSE 2 END, COALESCE(x.arc, ''),
			(SELECT COUNT(*) FROM issuing_clearing k WHERE k.card = b.card AND k.atc = $2)
			FROM issuing_bank b LEFT JOIN issuing_auth x ON x.card = b.card AND x.atc = $2 WHERE b.card = $1`, f.c.ID, int(p.c.ATC), p.c.AC[:]).
			Scan(&f.same, &f.arc, &f.cleared)
		err = cmp.Or(err, tx.Written("issuing_auth", f.c.ID, int(p.c.ATC)))
	}
	return f, err
}
