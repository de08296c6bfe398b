package merchant

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/internal/outbox"
	"koala/money"
	"koala/settlement"
	"koala/settlement/limit"
)

// A Kind is what a terminal is.
type Kind string

// The kinds of terminals.
const (
	POS    Kind = "pos"    // on the counter: chip, tap, stripe, printer
	Reader Kind = "reader" // a mobile card reader beside a phone
	Kiosk  Kind = "kiosk"  // a machine without a person
)

var kindWords = map[Kind][2]string{POS: {"till", "收银机"}, Reader: {"mobile reader", "手机刷卡器"}, Kiosk: {"kiosk", "自助终端"}}

// Words says the kind for people, in Chinese if zh.
func (k Kind) Words(zh bool) string { return pick(kindWords[k], string(k), zh) }

// A Life is where a terminal is in its life.
type Life string

// The lives, and who acts next.
const (
	Registered Life = "registered" // the installer: inject keys
	Injected   Life = "injected"   // the terminal: sign on for the first time
	InUse      Life = "active"     // the shop
	Stopped    Life = "suspended"  // staff; what it holds is still taken
	Retired    Life = "retired"    // nobody; what it holds is still taken
)

var nextLife = map[Life][]Life{
	Registered: {Injected, Retired},
	Injected:   {Registered, InUse, Retired},   // Registered: keys in doubt
	InUse:      {Registered, Stopped, Retired}, // as above
	Stopped:    {Registered, InUse, Retired},
	Retired:    {},
}

// May tells whether a terminal in life l may go to life to.
func (l Life) May(to Life) bool {
	for _, t := range nextLife[l] {
		if t == to && t != l {
			return true
		}
	}
	return false
}

var lifeWords = map[Life][2]string{Registered: {"not installed", "待装机"}, Injected: {"keys injected", "已灌密钥"}, InUse: {"in use", "使用中"},
	Stopped: {"suspended", "已停用"}, Retired: {"retired", "已撤机"}}

// Words says the life for people, in Chinese if zh.
func (l Life) Words(zh bool) string { return pick(lifeWords[l], string(l), zh) }

// A Terminal stands in one shop for ever: a device that moves gets another
// number there, so that what was sold under the old one stays where it was.
type Terminal struct {
	TID              string // 8 letters or digits
	Serial           string // of the device; it is in use under one number only
	Kind             Kind
	Shop             string
	PlaceEN, PlaceZH string // where in the shop
	Life             Life
	Version          string // of its software; empty: it has not said
	Seen             time.Time
	Made             time.Time
	Moves            int // how often the device was moved between shops before it came here
}

// A Standing is all that the switch must know before a sale, read at once.
type Standing struct {
	Terminal Terminal
	Shop     Shop
	Merchant State
	Risk     Risk
}

// MayTrade tells whether the terminal may take a card: terminal, shop and
// merchant must all be open (ErrStopped).
func (s Standing) MayTrade() error {
	switch {
	case s.Terminal.Life != InUse:
		return fmt.Errorf("terminal %s is %s: %w", s.Terminal.TID, s.Terminal.Life, ErrStopped)
	case !s.Shop.State.Trades():
		return fmt.Errorf("shop %s is %s: %w", s.Shop.ID, s.Shop.State, ErrStopped)
	case !s.Merchant.Trades():
		return fmt.Errorf("merchant %s is %s: %w", s.Shop.Merchant, s.Merchant, ErrStopped)
	}
	return nil
}

// AddTerminal registers a device in a shop that has its merchant number. A
// terminal without number gets the next one. The same again changes nothing; a
// device that is in use elsewhere is ErrBound.
func AddTerminal(tx *db.Tx, t Terminal) (Terminal, error) {
	bad := func(err error) (Terminal, error) { return Terminal{}, fmt.Errorf("terminal %q: %w", t.TID, err) }
	if _, known := kindWords[t.Kind]; !known || !plainNumber(t.Serial, 32, true) || len(t.PlaceEN) > MaxText || len(t.PlaceZH) > MaxText {
		return bad(ErrTerminal)
	}
	s, err := ShopOf(tx, t.Shop)
	if err != nil {
		return bad(err)
	}
	if s.MID == "" || s.State == Closed {
		return bad(fmt.Errorf("shop %s is %s: %w", s.ID, s.State, ErrState))
	}
	switch there, err := BySerial(tx, t.Serial); {
	case err == nil && there.Shop == t.Shop && there.Kind == t.Kind && (t.TID == "" || t.TID == there.TID):
		return there, nil
	case err == nil:
		return bad(fmt.Errorf("it is %s in shop %s: %w", there.TID, there.Shop, ErrBound))
	case !errors.Is(err, ErrNotFound):
		return bad(err)
	}
	if t.TID == "" {
		if t.TID, err = newTID(tx); err != nil {
			return bad(err)
		}
	} else if len(t.TID) != 8 || !plainNumber(t.TID, 8, false) {
		return bad(ErrTID)
	}
	t.Life, t.Seen, t.Version, t.Made = Registered, time.Time{}, "", tx.Now()
	if fresh, err := insertTerminal(tx, t); err != nil || !fresh {
		return bad(errors.Join(err, notFresh(fresh)))
	}
	return t, tell(tx, Event{Merchant: s.Merchant, About: t.TID, What: "terminal.registered", To: string(t.Life)})
}

// Live moves a terminal on in its life: Injected when its keys are in it, InUse
// with its first sign-on, Stopped, Retired. by and why are asked of staff who
// stop, reopen or retire it; the machine's own steps leave them empty.
func Live(tx *db.Tx, tid string, to Life, by, why string) error {
	t, err := TerminalOf(tx, tid)
	if err != nil || t.Life == to {
		return err
	}
	if !t.Life.May(to) {
		return fmt.Errorf("terminal %s from %s to %s: %w", tid, t.Life, to, ErrState)
	}
	own := to == Injected || to == InUse && t.Life == Injected
	if !own && (by == "" || why == "" || len(why) > MaxWhy) {
		return fmt.Errorf("terminal %s to %s: %w", tid, to, ErrStaff)
	}
	s, err := ShopOf(tx, t.Shop)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE merchant_terminal SET life = $2 WHERE tid = $1`, tid, to); err != nil {
		return err
	}
	if err := tell(tx, Event{Merchant: s.Merchant, About: tid, What: "terminal." + string(to), From: string(t.Life), To: string(to), By: by, Why: why}); err != nil {
		return err
	}
	if to != InUse {
		return nil
	}
	return firstTrade(tx, s)
}

// firstTrade makes a shop and its merchant active when the first terminal is.
func firstTrade(tx *db.Tx, s Shop) error {
	if s.State == Approved {
		if err := moveShop(tx, s, Active, "", ""); err != nil {
			return err
		}
	}
	m, err := Of(tx, s.Merchant)
	if err != nil || m.State != Approved {
		return err
	}
	return move(tx, m, Active, "", "")
}

// Move takes a device to another shop: the old number retires, and the device
// gets a number of the new shop and must be injected again. Moved terminals
// are an old fraud, so it needs the name of who decides, and a reason.
func Move(tx *db.Tx, tid, shop, by, why string) (Terminal, error) {
	bad := func(err error) (Terminal, error) {
		return Terminal{}, fmt.Errorf("moving terminal %s to %s: %w", tid, shop, err)
	}
	if by == "" || why == "" || len(why) > MaxWhy {
		return bad(ErrStaff)
	}
	t, err := TerminalOf(tx, tid)
	if err != nil {
		return bad(err)
	}
	if t.Life == Retired || t.Shop == shop {
		return bad(ErrState)
	}
	if err := Live(tx, tid, Retired, by, why); err != nil {
		return bad(err)
	}
	fresh, err := AddTerminal(tx, Terminal{Serial: t.Serial, Kind: t.Kind, Shop: shop, Moves: t.Moves + 1})
	if err != nil {
		return bad(err)
	}
	to, err := ShopOf(tx, shop)
	if err != nil {
		return bad(err)
	}
	err = tell(tx, Event{Merchant: to.Merchant, About: fresh.TID, What: "terminal.moved", From: tid, To: fresh.TID, By: by, Why: why})
	return fresh, err
}

// MovedFrom is the shop that a device was moved from when it got this number;
// false: it came from no other.
func MovedFrom(q db.Reader, t Terminal) (Shop, bool, error) {
	if t.Moves == 0 {
		return Shop{}, false, nil
	}
	here, err := ShopOf(q, t.Shop)
	if err != nil {
		return Shop{}, false, err
	}
	var was string
	err = q.QueryRow(`SELECT was FROM merchant_event WHERE merchant = $1 AND about = $2 AND what = 'terminal.moved' ORDER BY seq DESC LIMIT 1`, here.Merchant, t.TID).Scan(&was)
	if errors.Is(err, db.ErrNoRows) {
		return Shop{}, false, nil
	}
	if err != nil {
		return Shop{}, false, err
	}
	old, err := TerminalOf(q, was)
	if err != nil {
		return Shop{}, false, err
	}
	s, err := ShopOf(q, old.Shop)
	return s, err == nil, err
}

// Saw notes that a terminal spoke, and with which software.
func Saw(tx *db.Tx, tid, version string) error {
	if len(version) > 32 {
		return fmt.Errorf("terminal %s: %w", tid, ErrTerminal)
	}
	n, err := tx.Exec(`UPDATE merchant_terminal SET seen = $2, version = CASE WHEN $3 = '' THEN version ELSE $3 END WHERE tid = $1`,
		tid, micros(tx.Now()), version)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("terminal %s: %w", tid, err)
	}
	return nil
}

func notFresh(fresh bool) error {
	if fresh {
		return nil
	}
	return ErrDiffers
}

// A Wish is what a shop asks of staff: to stop a terminal.
type Wish struct {
	TID      string
	Shop     string
	By       string // login of the shop's person
	At       time.Time
	Granted  bool
	Decider  string    // staff
	Why      string    // of the answer
	Answered time.Time // zero: it waits
}

// AskStop keeps the wish of a shop to have a terminal stopped: a merchant does not
// stop it itself, for what it holds has to be settled first. While a wish waits,
// another one changes nothing.
func AskStop(tx *db.Tx, tid, by string) error {
	t, err := TerminalOf(tx, tid)
	if err == nil && t.Life != InUse {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("stopping terminal %s: %w", tid, err)
	}
	_, err = tx.Exec(`INSERT INTO merchant_wish (tid, seq, shop, who, at, granted, decider, why, answered) VALUES ($1, $2, $3, $4, $5, $6, '', '', 0) ON CONFLICT DO NOTHING`,
		tid, tx.NewSeq(), t.Shop, by, micros(tx.Now()), false)
	return err
}

// AnswerStop grants or declines the wish that waits for a terminal. Granted, the
// terminal is stopped.
func AnswerStop(tx *db.Tx, tid string, grant bool, by, why string) error {
	if by == "" || why == "" || len(why) > MaxWhy {
		return fmt.Errorf("wish for terminal %s: %w", tid, ErrStaff)
	}
	n, err := tx.Exec(`UPDATE merchant_wish SET granted = $2, decider = $3, why = $4, answered = $5 WHERE tid = $1 AND answered = 0`, tid, grant, by, why, micros(tx.Now()))
	if err == nil && n == 0 {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("wish for terminal %s: %w", tid, err)
	}
	if !grant {
		return nil
	}
	return Live(tx, tid, Stopped, by, why)
}

// Wishes reads the wishes that wait, oldest first, or those that were answered,
// newest first.
func Wishes(q db.Reader, answered bool, limit int) (out []Wish, err error) {
	where := `WHERE answered = 0 ORDER BY at, tid LIMIT $1`
	if answered {
		where = `WHERE answered > 0 ORDER BY answered DESC, tid LIMIT $1`
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var w Wish
		var at, done int64
		err := scan(&w.TID, &w.Shop, &w.By, &at, &w.Granted, &w.Decider, &w.Why, &done)
		w.At, w.Answered = db.Moment(at), db.Moment(done)
		out = append(out, w)
		return err
	}, `SELECT tid, shop, who, at, granted, decider, why, answered FROM merchant_wish `+where, limited(limit))
	return out, err
}

// A Risk is how far the house trusts a merchant: A most, D least.
type Risk string

// The levels.
const (
	RiskA Risk = "A" // years of trading without a case
	RiskB Risk = "B" // papers complete, an enterprise
	RiskC Risk = "C" // new, or a person
	RiskD Risk = "D" // under watch
)

// riskAtStart is the level of a new merchant (house rule).
func riskAtStart(f Form) Risk {
	if f == Enterprise {
		return RiskB
	}
	return RiskC
}

// Allowed is what a level lets a merchant do beside plain sales.
type Allowed struct {
	Keyed    bool // card numbers entered by hand
	Offline  bool // sales without asking the issuer
	PreAuth  bool // amounts held for later
	AtOnce   bool // payout on the same day
	Credit   bool // credit cards on mobile readers
	FreeHand bool // refunds of more than a day's takings without staff
}

// allowed is the house's rule: each level loses what the one above has.
var allowed = map[Risk]Allowed{
	RiskA: {Keyed: true, Offline: true, PreAuth: true, AtOnce: true, Credit: true, FreeHand: true},
	RiskB: {Offline: true, PreAuth: true, AtOnce: true, Credit: true},
	RiskC: {PreAuth: true, AtOnce: true},
	RiskD: {},
}

// Allows is what the level lets a merchant do.
func (r Risk) Allows() Allowed { return allowed[r] }

// SetRisk moves a merchant to another level by a decision of staff or of the
// risk rules, which give their name.
func SetRisk(tx *db.Tx, merchant string, to Risk, by, why string) error {
	bad := func(err error) error { return fmt.Errorf("risk of %s to %q: %w", merchant, to, err) }
	if _, known := allowed[to]; !known || by == "" || why == "" || len(why) > MaxWhy {
		return bad(ErrStaff)
	}
	m, err := Of(tx, merchant)
	if err != nil || m.Risk == to {
		return err
	}
	if _, err := tx.Exec(`UPDATE merchant_party SET risk = $2 WHERE id = $1`, merchant, to); err != nil {
		return bad(err)
	}
	shops, err := ShopsOf(tx, merchant)
	if err != nil {
		return bad(err)
	}
	for _, s := range shops { // how much they are lent follows
		if err := settlement.SetTrust(tx, s.ID, limit.Risk(to)); err != nil {
			return bad(err)
		}
	}
	return cmp.Or(tell(tx, Event{Merchant: merchant, About: merchant, What: "risk", From: string(m.Risk), To: string(to), By: by, Why: why}), outbox.Put(tx, outbox.Event{Name: "merchant.rated", Subject: merchant, Data: map[string]string{"was": string(m.Risk), "is": string(to), "by": by}}))
}

// Limits bound what one shop takes on cards of one class.
type Limits struct {
	Single  money.Amount // one sale
	Daily   money.Amount // a Beijing day
	Monthly money.Amount // a calendar month
}

// The card classes that limits differ by; they are settlement's fee classes.
var cardClasses = map[string]int64{"debit": 100, "credit": 50, "prepaid": 10, "ecash": 10} // percent of the level's limit

// kindShare is how much of a level's limit a kind of terminal has, percent. A
// mobile reader is easily carried to where nothing is sold.
var kindShare = map[Kind]int64{POS: 100, Kiosk: 20, Reader: 10}

// levelLimits are those of a till and debit cards (house rule).
var levelLimits = map[Risk]Limits{
	RiskA: {money.Fen(500_000_00), money.Fen(5_000_000_00), money.Fen(100_000_000_00)},
	RiskB: {money.Fen(100_000_00), money.Fen(500_000_00), money.Fen(10_000_000_00)},
	RiskC: {money.Fen(50_000_00), money.Fen(200_000_00), money.Fen(2_000_000_00)},
	RiskD: {money.Fen(5_000_00), money.Fen(20_000_00), money.Fen(200_000_00)},
}

// DefaultLimits are the limits of a kind of terminal at a merchant of a level
// for a card class (debit, credit, prepaid, ecash); false: no such thing.
func DefaultLimits(k Kind, r Risk, class string) (Limits, bool) {
	l, ok := levelLimits[r]
	share := kindShare[k] * cardClasses[class]
	if !ok || share == 0 {
		return Limits{}, false
	}
	return Limits{l.Single.Portion(share, 10_000, money.Down), l.Daily.Portion(share, 10_000, money.Down), l.Monthly.Portion(share, 10_000, money.Down)}, true
}

// Check tells whether a sale of amount may be taken when the shop has taken
// day and month on cards of this class so far (ErrLimit).
func (l Limits) Check(amount, day, month money.Amount) error {
	switch {
	case amount.Cmp(l.Single) > 0:
		return fmt.Errorf("one sale of at most %s: %w", l.Single, ErrLimit)
	case day.Add(amount).Cmp(l.Daily) > 0:
		return fmt.Errorf("%s a day: %w", l.Daily, ErrLimit)
	case month.Add(amount).Cmp(l.Monthly) > 0:
		return fmt.Errorf("%s a month: %w", l.Monthly, ErrLimit)
	}
	return nil
}

// least is the lower of both in each bound.
func (l Limits) least(o Limits) Limits {
	low := func(a, b money.Amount) money.Amount {
		if a.Cmp(b) < 0 {
			return a
		}
		return b
	}
	return Limits{low(l.Single, o.Single), low(l.Daily, o.Daily), low(l.Monthly, o.Monthly)}
}

// LimitsOf reads the limits of a sale: the shop's own where staff set some,
// otherwise those of the level; a mobile reader never has more than its share.
func LimitsOf(q db.Reader, s Standing, class string) (Limits, error) {
	def, ok := DefaultLimits(s.Terminal.Kind, s.Risk, class)
	if !ok {
		return Limits{}, fmt.Errorf("limits of %s for %q: %w", s.Terminal.TID, class, ErrLimit)
	}
	var single, daily, monthly int64
	err := q.QueryRow(`SELECT single, daily, monthly FROM merchant_limit WHERE shop = $1 AND class = $2`, s.Shop.ID, class).Scan(&single, &daily, &monthly)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return def, nil
	case err != nil:
		return Limits{}, fmt.Errorf("limits of %s: %w", s.Shop.ID, err)
	}
	own := Limits{money.Fen(single), money.Fen(daily), money.Fen(monthly)}
	if s.Terminal.Kind == Reader {
		return own.least(def), nil
	}
	return own, nil
}

// SetLimits gives a shop limits of its own for a card class.
func SetLimits(tx *db.Tx, shop, class string, l Limits, by, why string) error {
	bad := func(err error) error { return fmt.Errorf("limits of %s for %q: %w", shop, class, err) }
	s, err := ShopOf(tx, shop)
	if err != nil {
		return bad(err)
	}
	if by == "" || why == "" || len(why) > MaxWhy {
		return bad(ErrStaff)
	}
	if cardClasses[class] == 0 || l.Single.Sign() < 0 || l.Daily.Cmp(l.Single) < 0 || l.Monthly.Cmp(l.Daily) < 0 {
		return bad(ErrLimit)
	}
	_, err = tx.Exec(`INSERT INTO merchant_limit (shop, class, single, daily, monthly, who, why, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (shop, class) DO UPDATE SET single = excluded.single, daily = excluded.daily, monthly = excluded.monthly,
			who = excluded.who, why = excluded.why, at = excluded.at`,
		shop, class, l.Single.Minor(), l.Daily.Minor(), l.Monthly.Minor(), by, why, micros(tx.Now()))
	if err != nil {
		return bad(err)
	}
	return tell(tx, Event{Merchant: s.Merchant, About: shop, What: "limits", To: class + " " + l.Single.Yuan() + "/" + l.Daily.Yuan() + "/" + l.Monthly.Yuan(), By: by, Why: why})
}
