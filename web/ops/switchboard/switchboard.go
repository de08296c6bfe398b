// Package switchboard is where staff watch the acquirer's switch: transactions
// as they come with every byte of theirs, where a card number would be sent and
// why, and how the issuers' hosts do. Start at Routes.
package switchboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
	"koala/merchant"
	"koala/switching"
	"koala/switching/pulse"
	"koala/web"
	"koala/web/merchant/till"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Book   *ledger.Book
	Switch *switching.Host
}

const (
	atSwitch = "/ops/switch"
	atRoutes = "/ops/routes"
	atHosts  = "/ops/hosts"
	atCalls  = "/ops/switch/calls"
	atMAC    = "/ops/switch/mac"
)

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+atSwitch, d.live)
	m.Handle("GET "+atSwitch+"/transactions", d.transactions)
	m.Handle("GET "+atSwitch+"/transactions/{rrn}", d.transaction)
	m.Handle("GET "+atRoutes, d.routes)
	m.Handle("POST "+atRoutes, d.propose)
	m.Handle("POST "+atRoutes+"/proposals/{id}/{act}", d.decide)
	m.Handle("GET "+atMAC, d.macs)
	m.Handle("POST "+atMAC, d.mac)
	m.Handle("GET "+atCalls, d.calls)
	m.Handle("POST "+atCalls, d.call)
	m.Handle("POST "+atCalls+"/{id}/withdraw", d.withdraw)
	m.Handle("GET "+atHosts, d.hosts)
	m.Handle("POST "+atHosts+"/queue/{id}/resend", d.resend)
}

func tabs(here string) []shell.Tab {
	out := []shell.Tab{{Href: atSwitch, Name: words.Live}, {Href: atSwitch + "/transactions", Name: words.AllOfThem}, {Href: atCalls, Name: words.Calls}, {Href: atMAC, Name: web.Same("MAC")}}
	for i := range out {
		out[i].Here = out[i].Href == here
	}
	return out
}

// window is how far back the live page's figures look.
const window = 30 * time.Minute

// A liveView is the switch as it runs.
type liveView struct {
	figures []web.Figure
	minutes web.BarChart
	hosts   web.Parted
	kinds   web.Parted
	feed    web.Table
	still   bool // nothing was answered lately
}

func (d Deps) live(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	beats := d.Switch.Beats(now.Add(-window))
	v := liveView{minutes: byMinute(beats, now), hosts: parted(words.ByHost, beats, hostText), kinds: parted(words.ByKind, beats, func(b pulse.Beat) web.Text { return till.Kind(b.Kind) })}
	var queue []switching.Queued
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := switching.Live(q, switching.Filter{Limit: 20})
		if err != nil {
			return err
		}
		if v.feed, err = txnTable(ctx, q, list); err != nil {
			return err
		}
		queue, err = switching.Queue(q, 0, shell.Rows)
		return err
	})
	if err != nil {
		return fmt.Errorf("the switch, live: %w", err)
	}
	v.feed.NoCSV, v.still = true, len(beats) == 0
	v.figures = figures(beats, now, len(queue))
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: atSwitch}, livePage(v))
}

func approved(code string) bool { return code == "00" || code == "10" || code == "11" }

// figures sums up what was answered lately.
func figures(beats []pulse.Beat, now time.Time, waits int) []web.Figure {
	var last, good int64
	var took []time.Duration
	for _, b := range beats {
		if now.Sub(b.At) <= time.Minute {
			last++
		}
		if approved(b.Code) {
			good++
		}
		took = append(took, b.Took)
	}
	slices.Sort(took)
	rate, tone := words.NothingLately, web.Neutral
	share := "–"
	if len(beats) > 0 {
		tenths := good * 1000 / int64(len(beats))
		share = fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
		if rate = words.OfThose.F(len(beats)); tenths < 800 {
			tone = web.Warn
		}
	}
	out := []web.Figure{{Name: words.PerSecond, Value: fmt.Sprintf("%d.%02d", last/60, last%60*100/60), Icon: "activity", DeltaText: words.LastMinute.F(int(last))},
		{Name: words.Approval, Value: share, Icon: "circle-check", DeltaText: rate, Tone: tone},
		{Name: words.Median, Value: millis(took, 50), Icon: "clock", DeltaText: words.HalfFaster},
		{Name: words.Slowest, Value: millis(took, 99), Icon: "zap", DeltaText: words.OneInHundred},
		{Name: words.Waits, Value: web.Number(int64(waits)), Icon: "history", DeltaText: words.WaitsNote, Href: atHosts}}
	if waits > 0 {
		out[4].Tone = web.Warn
	}
	return out
}

// millis is a percentile of sorted durations.
func millis(took []time.Duration, percent int) string {
	if len(took) == 0 {
		return "–"
	}
	d := took[min(len(took)-1, len(took)*percent/100)]
	return fmt.Sprintf("%d.%d ms", d.Milliseconds(), d.Microseconds()%1000/100)
}

func byMinute(beats []pulse.Beat, now time.Time) web.BarChart {
	c := web.BarChart{ID: "by-minute", Title: words.ByMinute, What: words.Minute, Of: words.Count, Every: 5}
	first := now.Truncate(time.Minute).Add(-window + time.Minute)
	counts := make([]int64, int(window/time.Minute))
	for _, b := range beats {
		if i := int(b.At.Sub(first) / time.Minute); i >= 0 && i < len(counts) && !b.At.Before(first) {
			counts[i]++
		}
	}
	for i, n := range counts {
		at := first.Add(time.Duration(i) * time.Minute).In(calendar.Beijing).Format("15:04")
		c.Bars = append(c.Bars, web.Bar{Label: web.Same(at), Value: n, Now: i == len(counts)-1})
	}
	return c
}

func hostText(b pulse.Beat) web.Text { return hostName(b.Host) }

func hostName(host string) web.Text {
	if host == "" {
		return words.OwnBank
	}
	return web.Same(host)
}

// mostParts is how many parts a whole shows; the rest is summed up.
const mostParts = 6

func parted(title web.Text, beats []pulse.Beat, of func(pulse.Beat) web.Text) web.Parted {
	p := web.Parted{Title: title}
	at := map[web.Text]int{}
	for _, b := range beats {
		name := of(b)
		i, ok := at[name]
		if !ok {
			i = len(p.Parts)
			at[name] = i
			p.Parts = append(p.Parts, web.Slice{Name: name})
		}
		p.Parts[i].Value++
	}
	slices.SortStableFunc(p.Parts, func(a, b web.Slice) int { return int(b.Value - a.Value) })
	if len(p.Parts) > mostParts {
		rest := web.Slice{Name: words.Others}
		for _, x := range p.Parts[mostParts-1:] {
			rest.Value += x.Value
		}
		p.Parts = append(p.Parts[:mostParts-1], rest)
	}
	return p
}

// shortAt is a time without its year, Beijing.
func shortAt(t time.Time) string { return t.In(calendar.Beijing).Format("01-02 15:04:05") }

// txnTable lists transactions with their shops.
func txnTable(ctx context.Context, q db.Reader, list []switching.Txn) (web.Table, error) {
	t := web.Table{ID: "transactions", Empty: words.NoTransactions, Head: []web.Column{{Name: words.At}, {Name: words.Kind}, {Name: words.State}, {Name: words.Card}, {Name: words.Host},
		{Name: words.Shop}, {Name: words.Terminal}, {Name: words.Amount, Num: true}}}
	names := map[string]web.Text{}
	for _, x := range list {
		name, known := names[x.Shop]
		if !known {
			s, err := merchant.ShopOf(q, x.Shop)
			if name = (web.Text{ZH: s.NameZH, EN: s.NameEN}); err != nil {
				name = web.Same(x.Shop)
			}
			names[x.Shop] = name
		}
		masked := x.Masked
		if masked == "" {
			masked = "–"
		}
		t.Rows = append(t.Rows, web.Row{Href: atSwitch + "/transactions/" + x.RRN, Drawer: true, Cells: []web.Cell{{Text: shortAt(x.At), CSV: web.Moment(x.At), Show: unbroken(shortAt(x.At))}, shell.Short(till.Kind(x.Kind).In(ctx)),
			answered(ctx, x), web.Mono(masked), inWords(hostName(x.Host).In(ctx)), inWords(name.In(ctx)), web.Mono(x.TID), web.Money(till.Signed(x))}})
	}
	return t, nil
}

// inWords is a cell that breaks between words only: this table is full.
func inWords(s string) web.Cell { return web.Cell{Text: s, Show: unbroken(s)} }

// answered is the state of a transaction, with the answer code (field 39) where
// the issuer said anything but yes.
func answered(ctx context.Context, t switching.Txn) web.Cell {
	c := till.State(ctx, t.State)
	if t.Code == "" || approved(t.Code) {
		return c
	}
	return web.Cell{Text: c.Text, CSV: c.Text + " " + t.Code, Show: withCode(c, t.Code)}
}

var states = []switching.State{switching.Sent, switching.Approved, switching.Cleared, switching.Declined, switching.Unknown, switching.Reversed, switching.Voided, switching.Completed, switching.Expired, switching.Noted}

// transactions lists everything, filtered.
func (d Deps) transactions(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	f := switching.Filter{TID: r.FormValue("tid"), Host: r.FormValue("host"), Shop: r.FormValue("shop"), State: switching.State(r.FormValue("state"))}
	if f.State != "" && !slices.Contains(states, f.State) {
		return fmt.Errorf("filter of transactions: %w", shell.ErrForm)
	}
	key := func(t switching.Txn) string { return t.RRN }
	var v shell.ListView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := shell.Gather(pg, func(after string, limit int) ([]switching.Txn, error) {
			f.Before, f.Limit = after, limit
			return switching.Live(q, f)
		}, key, nil)
		if err != nil {
			return err
		}
		if v.Table, err = txnTable(ctx, q, list); err != nil {
			return err
		}
		v.Table.Next = shell.NextOf(r, list, pg, key)
		return nil
	})
	if err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	options := []web.Option{{Name: words.Any}}
	for _, s := range states {
		options = append(options, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	v.Tabs, v.Events = tabs(atSwitch+"/transactions"), "switch"
	v.Filter = []web.Field{{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(f.State)}, {Name: "tid", Label: words.Terminal, Type: "search", Value: f.TID, Max: 8},
		{Name: "host", Label: words.Host, Type: "search", Value: f.Host, Max: 32}, {Name: "shop", Label: words.ShopID, Type: "search", Value: f.Shop, Max: 40}}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: atSwitch}, v)
}

// A txnView is one transaction: its whole trace.
type txnView struct {
	facts    []web.Fact
	why      string
	macs     string // address of the page that explains its MACs
	others   web.Table
	postings web.Table
	said     []switching.Message
}

func (d Deps) transaction(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var t switching.Txn
	var shop web.Text
	var v txnView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if t, err = switching.Transaction(q, r.PathValue("rrn")); err != nil {
			return err
		}
		if v.said, err = switching.Messages(q, t); err != nil {
			return err
		}
		all, err := switching.Transactions(q, t)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(x switching.Txn) bool { return x.RRN == t.RRN })
		shop = shell.ShopName(q, t.Shop)
		v.others, err = txnTable(ctx, q, all)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a transaction: %w", err)
	}
	v.others.ID, v.others.NoCSV = "others", true
	v.facts = append(till.Facts(ctx, t), web.Fact{Name: words.Shop, Value: shop.In(ctx), Href: "/ops/merchants/shops/" + t.Shop}, web.Fact{Name: words.Route, Value: hostName(t.Host).In(ctx), Href: atHosts})
	if t.StandIn {
		v.facts = append(v.facts, web.Fact{Name: words.StandIn, Show: web.Chip(web.Warn, words.StoodIn)})
	}
	if k := switching.KindNamed(t.Kind); k != nil && k.Side == switching.Debits && t.State == switching.Cleared {
		v.facts = append(v.facts, web.Fact{Name: words.Quarrel, Value: words.SaySo.In(ctx), Href: "/ops/disputes?rrn=" + t.RRN})
	}
	v.why, v.macs = t.Why, atMAC+"?rrn="+t.RRN
	if v.postings, err = d.postings(ctx, t); err != nil {
		return err
	}
	dialogue, err := till.Deps{Switch: d.Switch}.Dialogue(ctx, v.said)
	if err != nil {
		return err
	}
	return d.Desk.Show(w, r, web.Page{Title: numbered(till.Kind(t.Kind), t.RRN), Back: atSwitch, Here: atSwitch}, txnPage(v, dialogue))
}

// numbered is the heading of a transaction: its kind and its reference.
func numbered(kind web.Text, rrn string) web.Text {
	return web.Text{ZH: kind.ZH + " " + rrn, EN: strings.ToUpper(kind.EN[:1]) + kind.EN[1:] + " " + rrn}
}

// postings are the entries that a transaction made in the books.
func (d Deps) postings(ctx context.Context, t switching.Txn) (web.Table, error) {
	out := web.Table{ID: "postings", NoCSV: true, Empty: words.NoPostings, Head: []web.Column{{Name: words.Entry}, {Name: words.Account}, {Name: words.Amount, Num: true}, {Name: words.At, Num: true}}}
	if t.State == switching.Approved {
		out.Empty = words.NotBookedYet
	}
	for _, ref := range t.Postings() {
		rec, err := d.Book.Entry(ctx, ref)
		if errors.Is(err, ledger.ErrNoEntry) || err != nil && fail.Of(err).Kind == fail.NotFound {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("postings of %s: %w", t.RRN, err)
		}
		for _, l := range rec.Legs {
			out.Rows = append(out.Rows, web.Row{Href: fmt.Sprintf("/ops/books/entry?seq=%d", rec.Seq), Cells: []web.Cell{shell.Ident(rec.Ref), shell.Ident(string(l.Account)), web.Money(l.Amount.Minor()), shell.At(rec.Booked)}})
		}
	}
	return out, nil
}
