// Package closings is where staff see how shops are paid: what waits today,
// payouts by day and state with their files, what is held and why, and what the
// house lends for being paid at once. Start at Routes.
package closings

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/money"
	"koala/report"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk shell.Desk
}

const here = "/ops/closings"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.board)
	m.Handle("GET "+here+"/payouts", d.payouts)
	m.Handle("GET "+here+"/holds", d.holds)
	m.Handle("POST "+here+"/holds", d.hold)
	m.Handle("POST "+here+"/holds/{id}/release", d.release)
	m.Handle("POST "+here+"/funding", d.funding)
	m.Handle("POST "+here+"/payouts/{id}/answer", d.answer)
	m.Handle("POST "+here+"/proposals/{kind}/{id}/{act}", d.decide)
	m.Handle("GET "+here+"/express/{id}", d.express)
}

// AtTerms is where terms are looked at and changed; it is a tab of these pages.
const AtTerms = "/ops/terms"

// Tabs are the sections of the pages about paying shops; at is the one shown.
func Tabs(at string) []shell.Tab {
	var out []shell.Tab
	for _, t := range []struct {
		href string
		name web.Text
	}{{here, words.Board}, {here + "/payouts", words.Payouts}, {here + "/holds", words.Holds}, {AtTerms, words.Terms}} {
		out = append(out, shell.Tab{Href: t.href, Name: t.name, Here: t.href == at})
	}
	return out
}

func tabs(at string) []shell.Tab { return Tabs(here + at) }

func page() web.Page { return web.Page{Title: words.Title, Lead: words.Lead, Here: here} }

var stateWords = map[settlement.State]web.Text{settlement.Carried: words.Carried, settlement.Waiting: words.Waiting, settlement.Sent: words.Sent, settlement.Confirmed: words.Confirmed, settlement.Returned: words.Returned}

var stateTones = map[settlement.State]web.Tone{settlement.Waiting: web.Info, settlement.Sent: web.Info, settlement.Confirmed: web.Good, settlement.Returned: web.Bad}

var states = []settlement.State{settlement.Carried, settlement.Waiting, settlement.Sent, settlement.Confirmed, settlement.Returned}

// shown is how many days the board has.
const shown = 14

// A boardView is the days with their payouts.
type boardView struct {
	figures []web.Figure
	heat    web.HeatMap
	paid    web.BarChart
	open    web.Table
	files   web.Table
	acts    []shell.Question
	late    web.Table
	waiting waitingView
}

func (d Deps) board(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	today := calendar.Of(now, calendar.Beijing)
	first := today.AddDays(-shown + 1)
	var v boardView
	var most, lent money.Amount
	var open []settlement.Payout
	var sums []report.PayoutSum
	var files []settlement.File
	var held []report.HeldPayee
	names := namer{}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if open, err = settlement.Open(q); err != nil {
			return err
		}
		if sums, err = report.PayoutSums(q, first.String()); err != nil {
			return err
		}
		if files, err = settlement.Days(q, shown); err != nil {
			return err
		}
		if held, err = report.HoldsInForce(q, 500); err != nil {
			return err
		}
		if most, lent, err = settlement.Funding(q, now); err != nil {
			return err
		}
		names = newNamer(q)
		v.open = openTable(ctx, names, open)
		slow, err := settlement.Overdue(q, now, shell.Rows)
		if err != nil {
			return err
		}
		v.late = lateTable(ctx, names, slow, now)
		v.waiting.table, v.waiting.acts, err = two.Waiting(ctx, q, fundingKind, answerKind)
		return err
	})
	if err != nil {
		return fmt.Errorf("closings: %w", err)
	}
	waits := int64(0)
	for _, p := range open {
		waits += p.Amount.Minor()
	}
	v.heat, v.paid = days(first, sums)
	v.files = web.Table{ID: "files", NoCSV: true, Empty: words.NoFiles, Head: []web.Column{{Name: words.Day}, {Name: words.Made, Num: true}, {Name: words.Hash}}}
	for _, f := range files {
		v.files.Rows = append(v.files.Rows, web.Row{Href: "/ops/settlement/days/" + f.Day.String(), Cells: []web.Cell{shell.Short(f.Day.String()), shell.At(f.At), web.Mono(f.Hash[:min(24, len(f.Hash))] + "…")}})
	}
	next := now.In(calendar.Beijing)
	v.figures = []web.Figure{{Name: words.WaitsNow, Value: web.Yuan(waits), Icon: "clock", DeltaText: words.Payees.F(len(open))}, {Name: words.Holds, Value: web.Number(int64(len(held))), Icon: "lock", Href: here + "/holds"},
		{Name: words.Lent, Value: web.Yuan(lent.Minor()), Icon: "zap", DeltaText: words.OfMost.F(web.Yuan(most.Minor()))}, {Name: words.BankDay, Value: dayWord(calendar.Of(next, calendar.Beijing)).In(ctx), Icon: "landmark", DeltaText: words.NextBankDay.F(web.Day(ctx, nextBank(today).Start(calendar.Beijing)))}}
	if len(held) > 0 {
		v.figures[1].Tone = web.Warn
	}
	v.acts = []shell.Question{{ID: "ask-funding", Action: here + "/funding", Open: words.SetFunding, Body: words.SetFundingBody, Icon: "sliders-horizontal", Receiver: web.Yuan(most.Minor()), About: words.NowIs, Hidden: [][2]string{{"was", most.Yuan()}},
		Fields: []web.Field{{Name: "amount", Label: words.Most, Mode: "decimal", Lead: "¥", Required: true, Max: 14}}}}
	return d.Desk.Show(w, r, page(), boardPage(v))
}

func dayWord(d calendar.Date) web.Text {
	if d.BankDay() {
		return words.Yes
	}
	return words.No
}

func nextBank(d calendar.Date) calendar.Date {
	for d = d.AddDays(1); !d.BankDay(); d = d.AddDays(1) {
	}
	return d
}

// days lays payouts out by day and state.
func days(first calendar.Date, sums []report.PayoutSum) (web.HeatMap, web.BarChart) {
	h := web.HeatMap{ID: "days", Of: words.State}
	c := web.BarChart{ID: "paid", Title: words.PaidByDay, What: words.Day, Of: words.Amount, Money: true, Every: 2}
	type key struct{ day, state string }
	by, paid := map[key]report.PayoutSum{}, map[string]int64{}
	for _, s := range sums {
		by[key{s.Day, s.State}] = s
		paid[s.Day] += s.Fen
	}
	for i := range shown {
		day := first.AddDays(i)
		h.Days = append(h.Days, web.Same(fmt.Sprint(day.Day)))
		c.Bars = append(c.Bars, web.Bar{Label: web.Same(fmt.Sprint(day.Day)), Full: web.Same(day.String()), Value: paid[day.String()], Now: i == shown-1, Href: "/ops/settlement/days/" + day.String()})
		if paid[day.String()] == 0 {
			c.Bars[i].Href = ""
		}
	}
	for _, s := range states {
		row := web.HeatRow{Name: stateWords[s], Href: here + "/payouts?state=" + string(s)}
		for i := range shown {
			day := first.AddDays(i).String()
			cell := web.HeatCell{}
			if x := by[key{day, string(s)}]; x.Count > 0 {
				cell = web.HeatCell{Tone: stateTones[s], Text: web.Same(web.Number(x.Count)), Title: words.CellIs.F(day, int(x.Count), web.Yuan(x.Fen)), Href: here + "/payouts?state=" + string(s)}
			}
			row.Cells = append(row.Cells, cell)
		}
		h.Rows = append(h.Rows, row)
	}
	return h, c
}

// A namer knows payees by name, each looked up once.
type namer struct {
	q     db.Reader
	known map[string]web.Text
}

func newNamer(q db.Reader) namer { return namer{q, map[string]web.Text{}} }

func (n namer) of(payee string) web.Text {
	t, ok := n.known[payee]
	if !ok {
		if t = shell.ShopName(n.q, payee); t.Empty() {
			t = web.Same(payee) // an operator of transit
		}
		if id, is := strings.CutPrefix(payee, merchant.Payee("")); is {
			if a, err := merchant.AgentOf(n.q, id); err == nil {
				t = web.Same(a.Name)
			}
		}
		n.known[payee] = t
	}
	return t
}

func openTable(ctx context.Context, names namer, list []settlement.Payout) web.Table {
	t := web.Table{ID: "open", NoCSV: true, Empty: words.NothingWaits, Head: []web.Column{{Name: words.Payee}, {Name: words.Items, Num: true}, {Name: words.Amount, Num: true}}}
	for _, p := range list[:min(len(list), shell.Rows)] {
		t.Rows = append(t.Rows, web.Row{Href: "/ops/books/account?id=" + string(settlement.Payable(p.Payee)), Cells: []web.Cell{web.Plain(names.of(p.Payee).In(ctx)), web.Count(int64(p.Count)), web.Money(p.Amount.Minor())}})
	}
	return t
}

// pastPromise chooses payouts at once that are late, of whatever state.
const pastPromise settlement.State = "late"

// payouts lists payouts by state.
func (d Deps) payouts(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, now := r.Context(), web.PageOf(r, shell.Rows), d.Desk.Store.Now()
	state, payee := settlement.State(r.FormValue("state")), r.FormValue("payee")
	if _, known := stateWords[state]; state != "" && state != pastPromise && !known {
		return fmt.Errorf("filter of payouts: %w", shell.ErrForm)
	}
	key := func(p settlement.Payout) string { return p.ID }
	var keep func(settlement.Payout) bool
	switch state {
	case "":
	case pastPromise:
		keep = func(p settlement.Payout) bool { return late(&p, now) }
	default:
		keep = func(p settlement.Payout) bool { return p.State == state }
	}
	t := web.Table{ID: "payouts", Empty: words.NoPayouts, Head: []web.Column{{Name: words.Day}, {Name: words.Payee}, {Name: words.State}, {Name: words.Kind}, {Name: words.Items, Num: true}, {Name: words.Gross, Num: true}, {Name: words.Fee, Num: true}, {Name: words.Amount, Num: true}, {Name: words.Arrives, Num: true}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := shell.Gather(pg, func(after string, limit int) ([]settlement.Payout, error) {
			return settlement.Closings(q, payee, after, limit)
		}, key, keep)
		names := newNamer(q)
		for _, p := range list {
			kind := words.NextDay
			if p.Kind != settlement.NextDay {
				kind = words.AtOnce
			}
			state := web.Status(ctx, stateTones[p.State], stateWords[p.State])
			if late(&p, now) {
				state = web.Status(ctx, web.Bad, words.Late)
			}
			row := web.Row{Href: "/ops/settlement/payouts/" + p.ID, Cells: []web.Cell{shell.Short(p.Day.String()), web.Plain(names.of(p.Payee).In(ctx)), state, web.Plain(kind.In(ctx)), web.Count(int64(p.Count)),
				web.Money(p.Gross.Minor()), web.Money(-p.Fee.Fee), web.Money(p.Amount.Minor()), shell.Short(p.Arrives.String())}}
			t.Rows = append(t.Rows, row)
		}
		t.Next = shell.NextOf(r, list, pg, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("payouts: %w", err)
	}
	options := []web.Option{{Name: words.All}}
	for _, s := range states {
		options = append(options, web.Option{Value: string(s), Name: stateWords[s]})
	}
	options = append(options, web.Option{Value: string(pastPromise), Name: words.LatePayouts})
	return d.Desk.List(w, r, page(), shell.ListView{Table: t, Tabs: tabs("/payouts"), Filter: []web.Field{{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(state)}, {Name: "payee", Label: words.PayeeID, Type: "search", Value: payee, Max: 40}}})
}

var reasonWords = map[string]web.Text{string(settlement.ForRisk): words.ForRisk, string(settlement.ForDispute): words.ForDispute, string(settlement.ForAccount): words.ForAccount, string(settlement.ForStaff): words.ForStaff}

// mostActs bounds the questions of one page.
const mostActs = 8

// holds lists what is kept from being paid.
func (d Deps) holds(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := shell.ListView{Tabs: tabs("/holds"), Table: web.Table{ID: "holds", Empty: words.NoHolds, Head: []web.Column{{Name: words.Payee}, {Name: words.Reason}, {Name: words.Amount, Num: true}, {Name: words.Text, Wide: true}, {Name: words.Since, Num: true}}}}
	v.Acts = []shell.Question{{ID: "ask-hold", Action: here + "/holds", Open: words.PutHold, Body: words.PutHoldBody, Icon: "lock", Danger: true, Receiver: "–", About: words.Payee,
		Fields: []web.Field{{Name: "payee", Label: words.PayeeID, Required: true, Max: 40}, {Name: "amount", Label: words.Amount, Hint: words.EmptyAll, Mode: "decimal", Lead: "¥", Max: 14}}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := report.HoldsInForce(q, 500)
		names := newNamer(q)
		for _, h := range list {
			amount, said := web.Cell{Text: words.Everything.In(ctx)}, words.Everything.In(ctx)
			if h.Fen > 0 {
				amount, said = web.Money(h.Fen), web.Yuan(h.Fen)
			}
			row := web.Row{Cells: []web.Cell{web.Plain(names.of(h.Payee).In(ctx)), web.Plain(reasonWords[h.Reason].In(ctx)), amount, shell.Written(h.Text), shell.At(h.At)}}
			v.Table.Rows = append(v.Table.Rows, row)
			if h.Reason == string(settlement.ForStaff) && len(v.Acts) < mostActs {
				v.Acts = append(v.Acts, shell.Question{ID: "ask-" + h.ID, Action: here + "/holds/" + h.ID + "/release", Open: words.Release.F(names.of(h.Payee).In(ctx)), Body: words.ReleaseBody, Icon: "lock-open", Amount: said, Receiver: h.Payee, About: words.Payee})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("holds: %w", err)
	}
	v.Note, v.Tone = words.HoldsNote, web.Info
	return d.Desk.List(w, r, page(), v)
}

func (d Deps) hold(w http.ResponseWriter, r *http.Request) error {
	h := settlement.Hold{Payee: r.PostFormValue("payee"), Reason: settlement.ForStaff, Amount: money.Fen(0)}
	if s := r.PostFormValue("amount"); s != "" {
		a, err := money.ParseYuan(s)
		if err != nil || a.Sign() <= 0 {
			return fmt.Errorf("amount of a hold: %w", shell.ErrForm)
		}
		h.Amount = a
	}
	if h.Payee == "" {
		return fmt.Errorf("payee of a hold: %w", shell.ErrForm)
	}
	h.Text, _ = shell.Why(r)
	back := here + "/holds"
	return d.Desk.Change(w, r, back, words.Done, shell.Deed{Act: shell.ActHold, Target: back, What: h.Payee + " " + web.Yuan(h.Amount.Minor())}, func(tx *db.Tx) error {
		_, err := settlement.PutHold(tx, h)
		return err
	})
}

// release ends a hold that staff put: those of cases end with their case.
func (d Deps) release(w http.ResponseWriter, r *http.Request) error {
	id, back := r.PathValue("id"), here+"/holds"
	return d.Desk.Change(w, r, back, words.Done, shell.Deed{Act: shell.ActFree, Target: back, What: id}, func(tx *db.Tx) error {
		h, err := settlement.HoldOf(tx, id)
		if err == nil && h.Reason != settlement.ForStaff {
			err = fmt.Errorf("hold %s is a case's: %w", id, settlement.ErrHold)
		}
		if err != nil {
			return err
		}
		return settlement.Release(tx, id)
	})
}

// express gives a payout file of those who are paid at once.
func (d Deps) express(w http.ResponseWriter, r *http.Request) error {
	var f settlement.Express
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		f, err = settlement.ExpressFile(q, r.PathValue("id"))
		return err
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.ID + ".csv"}))
	_, err = w.Write(f.CSV)
	return err
}
