package merchant

import (
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
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
