package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/switching"
	"koala/switching/route"
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
	day := calendar.Of(e.now(), calendar.Beijing)
	terms, err := settlement.TermsOf(q, s.Shop.ID, day)
	if err != nil {
		return switching.Place{}, err
	}
	p := switching.Place{TID: tid, MID: s.Shop.MID, Shop: s.Shop.ID, Name: s.Shop.NameEN, Category: s.Shop.MCC, Open: s.MayTrade() == nil,
		Limits: map[string]switching.Limit{}, Floor: offlineFloor, CutOff: terms.CutOff}
	if terms.Since.IsZero() {
		p.CutOff = 0
	}
	for _, class := range []string{"debit", "credit", "prepaid"} {
		l, err := merchant.LimitsOf(q, s, class)
		if err != nil {
			return switching.Place{}, err
		}
		p.Limits[class] = switching.Limit{Single: l.Single.Minor(), Daily: l.Daily.Minor(), Monthly: l.Monthly.Minor()}
	}
	may := s.Risk.Allows()
	p.Barred = switching.Barred{Keyed: !may.Keyed, Offline: !may.Offline, PreAuth: !may.PreAuth, Credit: !may.Credit && s.Terminal.Kind == merchant.Reader}
	if merchant.FeeCategory(s.Shop.MCC, day) == fee.Dining {
		p.Tips = mostTip
	}
	return p, nil
}

// offlineFloor is the largest sale that nobody is asked about, fen (house rule):
// its approval was said on the telephone.
const offlineFloor = 1000_00

// mostTip is how much a tip may add to a sale, per cent.
const mostTip = 20

// SignedOn notes that a terminal spoke; the first time puts it to use.
func (estate) SignedOn(tx *db.Tx, tid, version string) error {
	t, err := merchant.TerminalOf(tx, tid)
	if err == nil && t.Life == merchant.Injected {
		err = merchant.Live(tx, tid, merchant.InUse, "", "")
	}
	if err != nil {
		return err
	}
	return merchant.Saw(tx, tid, version)
}

// movedTime is how long a device that came from another shop counts as moved
// (house rule): terminals do not say where they are, so this is what is known.
const movedTime = 30 * 24 * time.Hour

func placeOf(s merchant.Shop) risk.Place {
	const perDegree = 10_000
	c := s.Place()
	return risk.Place{Lat: int32(c.Lat * perDegree), Lon: int32(c.Lon * perDegree)}
}

// tell puts what is known of the terminal into a fact.
func (s spot) tell(f *risk.Fact) {
	f.Agent, f.Since, f.Place, f.Home, f.Level = s.agent, s.since, s.here, s.here, s.level
	if f.At.Before(s.since.Add(movedTime)) {
		f.Home = s.was
	}
}

// costDays is how long what a host kept counts for what it costs.
const costDays = 30

// learnCosts tells the switch what the ways to issuers cost, by their files.
func (h *House) learnCosts(ctx context.Context) error {
	var known route.Costs
	err := h.Store.Read(ctx, func(q *db.Query) error {
		list, err := reconcile.CostsSince(q, calendar.Of(h.Store.Now(), calendar.Beijing).AddDays(-costDays))
		for _, x := range list {
			known = append(known, route.Cost(x))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("what the ways to issuers cost: %w", err)
	}
	h.Switch.SetCosts(known)
	return nil
}
