package app

import (
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/settlement/fee"
	"koala/switching"
)

// estate shows the merchants' terminals to the switch.
type estate struct {
	now   func() time.Time
	watch *watch
}

// Place is where a terminal stands and whether it may trade there.
func (e estate) Place(q db.Reader, tid string) (switching.Place, error) {
	s, err := merchant.StandingOf(q, tid)
	if errors.Is(err, merchant.ErrNotFound) {
		return switching.Place{}, fmt.Errorf("terminal %s: %w", tid, switching.ErrNotFound)
	}
	if err != nil {
		return switching.Place{}, err
	}
	if err := e.watch.met(q, s); err != nil {
		return switching.Place{}, err
	}
	l, err := merchant.LimitsOf(q, s, "debit")
	if err != nil {
		return switching.Place{}, err
	}
	p := switching.Place{TID: tid, MID: s.Shop.MID, Shop: s.Shop.ID, Name: s.Shop.NameEN, Category: s.Shop.MCC, Open: s.MayTrade() == nil,
		Single: l.Single.Minor(), Daily: l.Daily.Minor()}
	if merchant.FeeCategory(s.Shop.MCC, calendar.Of(e.now(), calendar.Beijing)) == fee.Dining {
		p.Tips = mostTip
	}
	return p, nil
}

// mostTip is how much a tip may add to a sale, per cent.
const mostTip = 20

// SignedOn notes that a terminal spoke; the first time puts it to use.
func (estate) SignedOn(tx *db.Tx, tid string) error {
	t, err := merchant.TerminalOf(tx, tid)
	if err == nil && t.Life == merchant.Injected {
		err = merchant.Live(tx, tid, merchant.InUse, "", "")
	}
	if err != nil {
		return err
	}
	return merchant.Saw(tx, tid, "")
}
