// Package counter is where a merchant sees the terminals in its shops, what
// they may take, and how its sales look beside its trade's. Start at Routes.
package counter

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/report"
	"koala/settlement/fee"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
	"koala/web/merchant/till"
	parts "koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk shell.Desk
}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	d.Desk.Route(m, "GET /merchant/terminals", shell.SeeTerminals, d.terminals)
	d.Desk.Route(m, "GET /merchant/terminals/{tid}", shell.SeeTerminals, d.terminal)
	d.Desk.Route(m, "POST /merchant/terminals/{tid}/stop", shell.AskTerminals, d.stop)
	d.Desk.Route(m, "GET /merchant/limits", shell.SeeTerminals, d.limits)
}

const (
	atTerminals = "/merchant/terminals"
	atLimits    = "/merchant/limits"
)

func terminalPath(tid string) string { return atTerminals + "/" + tid }

var lifeTones = map[merchant.Life]web.Tone{merchant.Registered: web.Neutral, merchant.Injected: web.Info, merchant.InUse: web.Good, merchant.Stopped: web.Warn, merchant.Retired: web.Neutral}

// A stand is one terminal with what the switch knows of it.
type stand struct {
	merchant.Terminal
	seen   time.Time
	batch  int
	signed bool
	open   int64 // sum of what the open batch holds, fen
	count  int   // transactions in it
	said   string
	told   time.Time // status report
}

// health says how a terminal is, by when it last spoke.
func (s stand) health(now time.Time) (web.Tone, web.Text) {
	switch {
	case s.Life != merchant.InUse:
		return lifeTones[s.Life], shell.Both(s.Life.Words)
	case now.Sub(s.seen) < till.OnlineFor:
		return web.Good, words.Online
	}
	return web.Warn, words.Silent
}

func standOf(q *db.Query, t merchant.Terminal) (s stand, err error) {
	s.Terminal = t
	if s.seen, err = till.SeenAt(q, t); err != nil {
		return s, err
	}
	known, err := switching.TerminalOf(q, t.TID)
	if err != nil {
		return s, notYet(err)
	}
	s.batch, s.signed, s.said, s.told = known.Batch, known.Signed, known.Status, known.Reported
	if known.Seen.After(s.seen) {
		s.seen = known.Seen
	}
	list, err := switching.Live(q, switching.Filter{TID: t.TID, Limit: maxBatch})
	for _, x := range list {
		if x.Batch != s.batch {
			continue
		}
		if k := switching.KindNamed(x.Kind); k != nil && (x.State == switching.Approved || x.State == switching.Cleared) && k.Side != switching.Uncounted {
			s.open, s.count = s.open+int64(k.Side)*x.Due.Minor(), s.count+1
		}
	}
	return s, err
}

// maxBatch is how many transactions are looked through for the open batch.
const maxBatch = 500

func (d Deps) terminals(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	var stands []stand
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := merchant.TerminalsOf(q, s.Shop.ID, "", merchant.MaxPage)
		for _, t := range list {
			if err != nil || s.Shop.ID == "" {
				break
			}
			var x stand
			if x, err = standOf(q, t); err == nil {
				stands = append(stands, x)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("terminals of %s: %w", s.Shop.ID, err)
	}
	t := web.Table{ID: "terminals", Empty: words.NoTerminals, Head: []web.Column{{Name: words.Terminal}, {Name: words.Place}, {Name: words.Kind}, {Name: words.State}, {Name: words.LastSpoke}, {Name: words.Software}, {Name: words.Batch, Num: true}, {Name: words.OpenTotal, Num: true}}}
	for _, x := range stands {
		tone, word := x.health(now)
		version := x.Version
		if version == "" {
			version = "–"
		}
		t.Rows = append(t.Rows, web.Row{Href: terminalPath(x.TID), Cells: []web.Cell{web.Mono(x.TID), web.Plain(place(x.Terminal).In(ctx)), web.Plain(shell.Both(x.Kind.Words).In(ctx)), web.Status(ctx, tone, word),
			{Text: shell.Ago(now, x.seen).In(ctx), CSV: web.Moment(x.seen)}, web.Mono(version), web.Count(int64(x.batch)), web.Money(x.open)}})
	}
	return d.Desk.List(w, r, s, web.Page{Title: words.Terminals, Lead: words.TerminalsLead, Here: atTerminals}, t, terminalsPage(t))
}

func place(t merchant.Terminal) web.Text {
	if t.PlaceEN == "" && t.PlaceZH == "" {
		return web.Same("–")
	}
	return web.Text{ZH: t.PlaceZH, EN: t.PlaceEN}
}

// A terminalView is one terminal.
type terminalView struct {
	facts   []web.Fact
	last    web.Table
	batches web.Table
	mayStop bool
	asked   bool
	tid     string
	trail   []web.Happening
}

// terminalOf reads a terminal of the shop that is looked at.
func terminalOf(q *db.Query, s shell.Seat, tid string) (merchant.Terminal, error) {
	t, err := merchant.TerminalOf(q, tid)
	if err == nil && t.Shop != s.Shop.ID {
		err = fmt.Errorf("terminal %s of another shop: %w", tid, merchant.ErrNotFound)
	}
	return t, err
}

func (d Deps) terminal(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, now, tid := r.Context(), d.Desk.Store.Now(), r.PathValue("tid")
	var x stand
	var last []switching.Txn
	var batches []switching.Batch
	var deeds []shell.Deed
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		t, err := terminalOf(q, s, tid)
		if err != nil {
			return err
		}
		if x, err = standOf(q, t); err != nil {
			return err
		}
		if last, err = switching.Live(q, switching.Filter{TID: tid, Limit: 15}); err != nil {
			return err
		}
		if batches, err = switching.Batches(q, s.Shop.ID, time.Time{}, 100); err != nil {
			return err
		}
		deeds, err = shell.Deeds(q, s.Merchant.ID, terminalPath(tid), "", 20)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a terminal: %w", err)
	}
	tone, word := x.health(now)
	v := terminalView{tid: tid, trail: shell.Trail(ctx, deeds), mayStop: s.May(shell.AskTerminals) && x.Life == merchant.InUse}
	v.asked = len(deeds) > 0 && deeds[0].Act == shell.ActStop && x.Life == merchant.InUse
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}, {Name: words.Place, Show: parts.Phrase(place(x.Terminal))}, {Name: words.Kind, Show: parts.Phrase(shell.Both(x.Kind.Words))}, {Name: words.Serial, Value: x.Serial, Mono: true},
		{Name: words.LastSpoke, Show: parts.Phrase(shell.Ago(now, x.seen))}, {Name: words.Software, Value: orDash(x.Version), Mono: true}, {Name: words.Status, Value: orDash(x.said), Mono: true},
		{Name: words.Batch, Value: fmt.Sprintf("%06d", x.batch), Mono: true}, {Name: words.OpenTotal, Value: web.Yuan(x.open)}, {Name: words.InBatch, Value: web.Number(int64(x.count))}}
	v.last, v.batches = lastTable(ctx, last), batchTable(ctx, batches, tid)
	return d.Desk.Show(w, r, s, web.Page{Title: words.TerminalNo.F(tid), Lead: place(x.Terminal), Back: atTerminals, Here: atTerminals}, terminalPage(v))
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func lastTable(ctx context.Context, list []switching.Txn) web.Table {
	t := web.Table{ID: "last", NoCSV: true, Empty: words.NothingSold, Head: []web.Column{{Name: words.At}, {Name: words.Kind}, {Name: words.State}, {Name: words.Batch, Num: true}, {Name: words.Amount, Num: true}}}
	for _, x := range list {
		kind := web.Same(x.Kind)
		if k := switching.KindNamed(x.Kind); k != nil {
			kind = shell.Both(k.Words)
		}
		t.Rows = append(t.Rows, web.Row{Href: "/merchant/sales/" + x.RRN, Drawer: true, Cells: []web.Cell{{Text: web.Moment(x.At), Show: parts.Tight(web.Moment(x.At))}, web.Plain(kind.In(ctx)), web.Plain(shell.Both(x.State.Words).In(ctx)), batchCell(x.Batch), web.Money(till.Signed(x))}})
	}
	return t
}

// batchCell is a batch's number; what was done at the house is in none.
func batchCell(n int) web.Cell {
	if n == 0 {
		return parts.None()
	}
	return web.Count(int64(n))
}

// batchTable lists the batches of one terminal that were settled.
func batchTable(ctx context.Context, list []switching.Batch, tid string) web.Table {
	t := web.Table{ID: "batches", NoCSV: true, Empty: words.NoBatches, Head: []web.Column{{Name: words.Batch}, {Name: words.Result}, {Name: words.SettledAt, Num: true}}}
	for _, b := range list {
		if b.TID != tid {
			continue
		}
		cell := web.Status(ctx, web.Good, words.Balanced)
		if b.Home != switching.Balanced || b.Abroad != switching.Balanced {
			cell = web.Status(ctx, web.Warn, words.NotBalanced)
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(fmt.Sprintf("%06d", b.Number)), cell, parts.At(b.Totalled)}})
	}
	return t
}

// stop asks the house's staff to suspend a terminal. A merchant does not do it
// itself: what the terminal holds has to be settled first.
func (d Deps) stop(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	tid := r.PathValue("tid")
	return d.Desk.Do(w, r, terminalPath(tid), words.StopAsked, s.Deed(shell.ActStop, terminalPath(tid), tid), func(tx *db.Tx) error {
		t, err := merchant.TerminalOf(tx, tid)
		if err == nil && t.Shop != s.Shop.ID {
			err = merchant.ErrNotFound
		}
		if err == nil {
			err = merchant.AskStop(tx, tid, s.Login)
		}
		return err
	})
}

// A limitsView is what a shop may take, and how it sells.
type limitsView struct {
	limits   web.Table
	facts    []web.Fact
	hours    web.BarChart
	report   web.Text
	findings []finding
	few      bool
}

// A finding is one thing in which the shop's sales are not those of its trade.
type finding struct {
	text            web.Text
	is, low, high   string
	least, most, at int64 // of a meter, all in one unit
}

// lookBack is how many days of sales a shop's behaviour is read from.
const lookBack = 30

func (d Deps) limits(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	if s.Shop.MID == "" {
		return fmt.Errorf("merchant %s: %w", s.Merchant.ID, shell.ErrNoShop)
	}
	today := calendar.Of(now, calendar.Beijing)
	var v limitsView
	var takings merchant.Takings
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := report.Takings(q, s.Shop.ID, today.AddDays(-lookBack).Start(calendar.Beijing), now.Add(time.Second))
		if err != nil {
			return err
		}
		takings = behaviourOf(list)
		v.limits, err = limitTable(ctx, q, s, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("limits of %s: %w", s.Shop.ID, err)
	}
	told, err := merchant.Behave(s.Shop.MCC, today, takings)
	if err != nil {
		return err
	}
	v.tell(s, told, takings)
	return d.Desk.List(w, r, s, web.Page{Title: words.Limits, Lead: words.LimitsLead, Here: atLimits}, v.limits, limitsPage(v))
}

// behaviourOf sums up sales as the plausibility of a category is judged by.
func behaviourOf(list []report.Taking) (t merchant.Takings) {
	sum := int64(0)
	for _, x := range list {
		k := switching.KindNamed(x.Kind)
		if s := switching.State(x.State); k == nil || k.Side != switching.Debits || s != switching.Approved && s != switching.Cleared {
			continue
		}
		t.Hours[x.Hour] += x.Count
		sum += x.Fen
		if x.Class == string(fee.Credit) {
			t.Credit += x.Count
		}
		if x.Round {
			t.Round += x.Count
		}
	}
	t.Sum = fen(sum)
	return t
}

func (v *limitsView) tell(s shell.Seat, told merchant.Report, t merchant.Takings) {
	c := s.Shop.Category()
	v.facts = []web.Fact{{Name: words.Category, Value: s.Shop.MCC, Mono: true}, {Name: words.Trade, Show: parts.Phrase(shell.Both(c.Name))}, {Name: words.Risk, Value: string(s.Merchant.Risk)}}
	allowed := s.Merchant.Risk.Allows()
	for _, x := range []struct {
		name web.Text
		yes  bool
	}{{words.MayKey, allowed.Keyed}, {words.MayOffline, allowed.Offline}, {words.MayHold, allowed.PreAuth}, {words.MayAtOnce, allowed.AtOnce}} {
		chip := web.Chip(web.Neutral, words.No)
		if x.yes {
			chip = web.Chip(web.Good, words.Yes)
		}
		v.facts = append(v.facts, web.Fact{Name: x.name, Show: chip})
	}
	v.few = t.Count() == 0
	v.hours = web.BarChart{ID: "hours", Title: words.SalesByHour, What: words.Hour, Of: words.Count, Every: 3}
	for h, n := range t.Hours {
		v.hours.Bars = append(v.hours.Bars, web.Bar{Label: web.Same(fmt.Sprintf("%02d", h)), Full: web.Same(fmt.Sprintf("%02d:00", h)), Value: n})
	}
	v.report = shell.Both(told.Words)
	for _, f := range told.Findings {
		x := finding{text: web.Text{ZH: f.ZH, EN: f.EN}, is: measure(f.What, f.Is), low: measure(f.What, f.Low), high: measure(f.What, f.High)}
		x.least, x.most, x.at = f.Low, max(f.High, f.Is), f.Is
		v.findings = append(v.findings, x)
	}
}

// measure writes what a finding counts: fen for the average, parts of 10,000
// otherwise.
func measure(what string, n int64) string {
	if what == "average" {
		return web.Yuan(n)
	}
	return fmt.Sprintf("%d.%02d %%", n/100, n%100)
}
