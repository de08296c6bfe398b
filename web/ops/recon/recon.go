// Package recon is the reconciliation desk: days by hosts, each day's three
// records side by side, and what differs with a proposal that one person makes
// and another signs. Start at Routes.
package recon

import (
	"fmt"
	"net/http"
	"slices"

	"koala/calendar"
	"koala/internal/db"
	"koala/reconcile"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk  shell.Desk
	Inbox *reconcile.Inbox
}

const (
	here         = "/ops/recon"
	atExceptions = here + "/exceptions"
)

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.calendar)
	m.Handle("GET "+here+"/days/{host}/{day}", d.day)
	m.Handle("GET "+atFiles, d.files)
	m.Handle("POST "+atFiles, d.upload)
	m.Handle("POST "+atFiles+"/{key}/retry", d.retry)
	m.Handle("GET "+atExceptions, d.exceptions)
	m.Handle("GET "+atExceptions+"/{id}", d.exception)
	m.Handle("POST "+atExceptions+"/{id}/{act}", d.act)
}

// tabs are the three lists of the desk; here is the nth.
func tabs(here int) []shell.Tab {
	return []shell.Tab{{Href: "/ops/recon", Name: words.Calendar, Here: here == 0}, {Href: atExceptions, Name: words.Exceptions, Here: here == 1}, {Href: atFiles, Name: words.Files, Here: here == 2}}
}

// shown is how many days the calendar has.
const shown = 21

// A calendarView is days by hosts.
type calendarView struct {
	figures []web.Figure
	heat    web.HeatMap
	types   web.Parted
}

func (d Deps) calendar(w http.ResponseWriter, r *http.Request) error {
	today := calendar.Of(d.Desk.Store.Now(), calendar.Beijing)
	v := calendarView{heat: web.HeatMap{ID: "days", Of: words.Host}, types: web.Parted{Title: words.OpenByType}}
	first := today.AddDays(-shown + 1)
	for i := range shown {
		v.heat.Days = append(v.heat.Days, web.Same(fmt.Sprint(first.AddDays(i).Day)))
	}
	var open, held, compared, agreed int64
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		hosts, err := reconcile.Hosts(q)
		if err != nil {
			return err
		}
		byType := map[reconcile.Type]int64{}
		for _, h := range hosts {
			list, err := all(q, h.Name)
			if err != nil {
				return err
			}
			waits := map[calendar.Date]int64{}
			for _, x := range list {
				open, held, waits[x.Day] = open+1, held+max(x.Held, -x.Held), waits[x.Day]+1
				byType[x.Type]++
			}
			reports, err := reconcile.Reports(q, h.Name, shown)
			if err != nil {
				return err
			}
			row := heatRow(h, first, reports, waits)
			for _, x := range reports {
				if compared++; x.Differs == 0 {
					agreed++
				}
			}
			if len(reports) > 0 || len(list) > 0 {
				v.heat.Rows = append(v.heat.Rows, row)
			}
		}
		for _, m := range reconcile.Meanings {
			if byType[m.Type] > 0 {
				v.types.Parts = append(v.types.Parts, web.Slice{Name: shell.Both(m.Type.Words), Value: byType[m.Type]})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reconciliation: %w", err)
	}
	v.figures = []web.Figure{{Name: words.OpenExceptions, Value: web.Number(open), Icon: "triangle-alert", Href: atExceptions}, {Name: words.OnSuspense, Value: web.Yuan(held), Icon: "lock", DeltaText: words.BothWays},
		{Name: words.Compared, Value: web.Number(compared), Icon: "scale", DeltaText: words.HostDays}, {Name: words.Agreed, Value: web.Number(agreed), Icon: "circle-check", Tone: web.Good}}
	if open > 0 {
		v.figures[0].Tone = web.Warn
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, calendarPage(v))
}

// all reads the exceptions of a host (empty: of all) that are not closed.
func all(q db.Reader, host string) (out []reconcile.Exception, err error) {
	const chunk = 500
	for after := ""; ; {
		list, err := reconcile.Exceptions(q, host, "", after, chunk)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if len(list) < chunk || len(out) >= reconcile.MaxExceptions {
			return out, nil
		}
		after = list[len(list)-1].ID
	}
}

func hostText(name string) web.Text {
	switch name {
	case reconcile.BankDesk:
		return words.TheBank
	case reconcile.ECashDesk:
		return words.ECash
	}
	return web.Same(name)
}

func dayPath(host string, day calendar.Date) string {
	return here + "/days/" + host + "/" + day.String()
}

func heatRow(h reconcile.Host, first calendar.Date, reports []reconcile.Report, waits map[calendar.Date]int64) web.HeatRow {
	row := web.HeatRow{Name: hostText(h.Name), Href: atExceptions + "?host=" + h.Name}
	by := map[calendar.Date]reconcile.Report{}
	for _, x := range reports {
		by[x.Day] = x
	}
	for i := range shown {
		day := first.AddDays(i)
		x, ran := by[day]
		c := web.HeatCell{}
		switch n := waits[day]; {
		case n > 0:
			c = web.HeatCell{Tone: web.Bad, Text: web.Same(fmt.Sprint(n)), Title: words.CellOpen.F(day.String(), int(n))}
		case ran && x.Differs > 0:
			c = web.HeatCell{Tone: web.Warn, Text: web.Same("✓"), Title: words.CellSolved.F(day.String(), int(x.Differs))}
		case ran && x.Banked.IsZero() && x.Net() != 0:
			c = web.HeatCell{Tone: web.Info, Text: web.Same("…"), Title: words.CellUnpaid.F(day.String())}
		case ran:
			c = web.HeatCell{Tone: web.Good, Text: web.Same("✓"), Title: words.CellGood.F(day.String())}
		}
		if ran || waits[day] > 0 {
			if c.Href = atExceptions + "?host=" + h.Name; ran {
				c.Href = dayPath(h.Name, day)
			}
		}
		row.Cells = append(row.Cells, c)
	}
	return row
}

// A dayView is one day of a host: its three records.
type dayView struct {
	columns    []column
	facts      []web.Fact
	exceptions web.Table
}

// A column is one of the three records.
type column struct {
	name web.Text
	icon string
	sum  []web.Line
	tone web.Tone
	word web.Text
}

func (d Deps) day(w http.ResponseWriter, r *http.Request) error {
	ctx, host := r.Context(), r.PathValue("host")
	day, err := calendar.Parse(r.PathValue("day"))
	if err != nil {
		return fmt.Errorf("day %q: %w", r.PathValue("day"), reconcile.ErrNoRun)
	}
	var x reconcile.Report
	var list []reconcile.Exception
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if x, err = reconcile.ReportOf(q, host, day); err != nil {
			return err
		}
		list, err = reconcile.OfDay(q, host, day)
		return err
	})
	if err != nil {
		return fmt.Errorf("a reconciled day: %w", err)
	}
	v := dayView{exceptions: exceptionTable(r, list)}
	sum := func(s reconcile.Sum) []web.Line {
		return []web.Line{{Text: words.Number, Value: web.Number(s.Count)}, {Text: words.Gross, Value: web.Yuan(s.Fen)}, {Text: words.IssuerFee, Value: web.Yuan(-s.Fee)}, {Text: words.NetworkFee, Value: web.Yuan(-s.Network)}, {Text: words.Net, Value: web.Yuan(s.Net()), Total: true}}
	}
	ours := column{name: words.Switch, icon: "activity", sum: sum(x.Ours), tone: web.Good, word: words.Agrees}
	if by := x.Theirs.Fen - x.Ours.Fen; by != 0 {
		ours.tone, ours.word = web.Bad, words.FileHasMore.F(web.SignedYuan(by))
	}
	theirs := column{name: words.ClearingFile, icon: "scroll-text", sum: sum(x.Theirs), tone: web.Good, word: words.MatchedOf.F(int(x.Matched.Count), int(x.Theirs.Count))}
	if x.Differs > 0 {
		theirs.tone, theirs.word = web.Warn, words.Differences.F(int(x.Differs))
	}
	bank := column{name: words.TheBank, icon: "landmark", sum: []web.Line{{Text: words.DueNet, Value: web.Yuan(x.Net())}, {Text: words.Received, Value: web.Yuan(x.Received)}, {Text: words.Difference, Value: web.SignedYuan(x.Received - x.Net()), Total: true}}, tone: web.Good, word: words.Agrees}
	switch {
	case x.Banked.IsZero() && x.Net() != 0:
		bank.tone, bank.word = web.Info, words.DueOn.F(web.Day(ctx, x.Due))
	case x.Received != x.Net() && x.Received+x.Released != x.Net():
		bank.tone, bank.word = web.Bad, words.Short
	}
	v.columns = []column{ours, theirs, bank}
	v.facts = []web.Fact{{Name: words.Host, Show: shell.Phrase(hostText(host))}, {Name: words.Day, Value: day.String()}, {Name: words.FileHash, Value: x.Hash, Mono: true}, {Name: words.ComparedAt, Value: web.Moment(x.At)}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.exceptions)
	}
	return d.Desk.Show(w, r, web.Page{Title: web.Text{ZH: hostText(host).ZH + " " + day.String(), EN: hostText(host).EN + ", " + day.String()}, Back: here, Here: here}, dayPage(v))
}

var stateTones = map[reconcile.ExceptionState]web.Tone{reconcile.Open: web.Bad, reconcile.Proposed: web.Warn, reconcile.Rejected: web.Bad, reconcile.Signed: web.Info, reconcile.Booked: web.Info, reconcile.Closed: web.Good}

// exceptionTable lists exceptions; a file has what each is about, too, which the
// page has no room for.
func exceptionTable(r *http.Request, list []reconcile.Exception) web.Table {
	ctx, file := r.Context(), web.WantsCSV(r)
	t := web.Table{ID: "exceptions", Empty: words.NoExceptions, Head: []web.Column{{Name: words.Type, Wide: true}, {Name: words.State}, {Name: words.Host}, {Name: words.Day}, {Name: words.Difference, Num: true}, {Name: words.Held, Num: true}, {Name: words.Next}}}
	if file {
		t.Head = append(t.Head, web.Column{Name: words.Reference})
	}
	for _, x := range list {
		row := web.Row{Href: atExceptions + "/" + x.ID, Cells: []web.Cell{web.Plain(shell.Both(x.Type.Words).In(ctx)), web.Status(ctx, stateTones[x.State], shell.Both(x.State.Words)), shell.Short(hostText(x.Host).In(ctx)),
			shell.Short(x.Day.String()), web.Money(x.Gross - x.Fee - x.Network), web.Money(x.Held), shell.Short(shell.Both(x.Next.Words).In(ctx))}}
		if file {
			row.Cells = append(row.Cells, shell.Ident(x.Ref))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

var states = []reconcile.ExceptionState{reconcile.Open, reconcile.Proposed, reconcile.Rejected, reconcile.Signed, reconcile.Booked, reconcile.Closed}

// exceptions lists what differs.
func (d Deps) exceptions(w http.ResponseWriter, r *http.Request) error {
	pg := web.PageOf(r, shell.Rows)
	state, host, kind := reconcile.ExceptionState(r.FormValue("state")), r.FormValue("host"), reconcile.Type(r.FormValue("type"))
	if state != "" && !slices.Contains(states, state) || kind != "" && kind.Next() == "" {
		return fmt.Errorf("filter of exceptions: %w", shell.ErrForm)
	}
	key := func(x reconcile.Exception) string { return x.ID }
	var keep func(reconcile.Exception) bool
	if kind != "" {
		keep = func(x reconcile.Exception) bool { return x.Type == kind }
	}
	var list []reconcile.Exception
	var hosts []reconcile.Host
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		if hosts, err = reconcile.Hosts(q); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]reconcile.Exception, error) {
			return reconcile.Exceptions(q, host, state, after, limit)
		}, key, keep)
		return err
	})
	if err != nil {
		return fmt.Errorf("exceptions: %w", err)
	}
	t := exceptionTable(r, list)
	t.Next = shell.NextOf(r, list, pg, key)
	stateOptions, hostOptions, typeOptions := []web.Option{{Name: words.NotClosed}}, []web.Option{{Name: words.All}}, []web.Option{{Name: words.All}}
	for _, s := range states {
		stateOptions = append(stateOptions, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	for _, h := range hosts {
		hostOptions = append(hostOptions, web.Option{Value: h.Name, Name: hostText(h.Name)})
	}
	for _, m := range reconcile.Meanings {
		typeOptions = append(typeOptions, web.Option{Value: string(m.Type), Name: shell.Both(m.Type.Words)})
	}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, shell.ListView{Table: t, Tabs: tabs(1), Filter: []web.Field{{Name: "state", Label: words.State, Type: "select", Options: stateOptions, Value: string(state)},
		{Name: "host", Label: words.Host, Type: "select", Options: hostOptions, Value: host}, {Name: "type", Label: words.Type, Type: "select", Options: typeOptions, Value: string(kind)}}})
}
