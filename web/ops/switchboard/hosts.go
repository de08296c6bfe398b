package switchboard

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/internal/db"
	"koala/switching"
	"koala/switching/route"
	"koala/web"
	"koala/web/merchant/till"
	"koala/web/ops/shell"
)

// A hostsView is how the issuers' hosts do, and what waits for them.
type hostsView struct {
	figures []web.Figure
	hosts   web.Table
	costs   web.Table
	queue   web.Table
	acts    []shell.Question
}

func (d Deps) hosts(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	var queue []switching.Queued
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		queue, err = switching.Queue(q, 0, shell.Rows)
		return err
	})
	if err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	waits := map[string]int64{}
	for _, x := range queue {
		waits[x.Host]++
	}
	var v hostsView
	peers := d.Switch.Peers()
	v.hosts = web.Table{ID: "hosts", Empty: words.NoHosts, Head: []web.Column{{Name: words.Host}, {Name: words.State}, {Name: words.Asked, Num: true}, {Name: words.Answered, Num: true}, {Name: words.Silent, Num: true},
		{Name: words.Unreached, Num: true}, {Name: words.Lies, Num: true}, {Name: words.LastTook, Num: true}, {Name: words.Queued, Num: true}, {Name: words.LastAnswer, Num: true}}}
	up, used := int64(0), int64(0)
	for _, p := range peers {
		tone, word := hostHealth(p, now)
		if tone == web.Good {
			up++
		}
		if p.Asked == 0 && waits[p.Host] == 0 {
			continue
		}
		used++
		took := shell.None()
		if p.Answered > 0 {
			took = shell.Short(fmt.Sprintf("%d ms", p.Last.Milliseconds()))
		}
		v.hosts.Rows = append(v.hosts.Rows, web.Row{Href: atSwitch + "/transactions?host=" + p.Host, Cells: []web.Cell{web.Mono(p.Host), web.Status(ctx, tone, word), web.Count(p.Asked), web.Count(p.Answered), web.Count(p.Silent), web.Count(p.Down), web.Count(p.Lies),
			took, web.Count(waits[p.Host]), {Text: shell.Ago(now, p.Since).In(ctx), CSV: web.When(p.Since).Text}}})
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.hosts)
	}
	v.figures = []web.Figure{{Name: words.Ways, Value: web.Number(int64(len(peers))), Icon: "landmark", DeltaText: words.WaysNote}, {Name: words.Used, Value: web.Number(used), Icon: "arrow-left-right", DeltaText: words.UsedNote},
		{Name: words.Up, Value: web.Number(up), Icon: "circle-check", Tone: web.Good}, {Name: words.Waits, Value: web.Number(int64(len(queue))), Icon: "history", DeltaText: words.WaitsNote}}
	if len(queue) > 0 {
		v.figures[3].Tone = web.Warn
	}
	v.costs = costTable(ctx, d.Switch.Costs())
	v.queue = web.Table{ID: "queue", NoCSV: true, Empty: words.NothingWaits, Head: []web.Column{{Name: words.Transaction}, {Name: words.Host}, {Name: words.What}, {Name: words.Attempts, Num: true}, {Name: words.NextTry, Num: true}, {Name: words.LastTry}, {Name: words.Since, Num: true}}}
	for _, x := range queue {
		word := map[string]web.Text{"reversal": words.Reversal, "advice": words.Advice, "notice": words.Notice}[x.What]
		v.queue.Rows = append(v.queue.Rows, web.Row{Cells: []web.Cell{web.Mono(fmt.Sprintf("%s/%06d/%06d", x.TID, x.Batch, x.STAN)), web.Plain(x.Host), web.Plain(word.In(ctx)), web.Count(int64(x.Attempts)), shell.At(x.Due), web.Plain(x.Last), shell.At(x.At)}})
		if len(v.acts) < mostActs {
			v.acts = append(v.acts, shell.Question{ID: "ask-send-" + strconv.FormatInt(x.ID, 10), Action: fmt.Sprintf("%s/queue/%d/resend", atHosts, x.ID), Open: words.SendNow.F(fmt.Sprintf("%s/%06d", x.TID, x.STAN)),
				Body: words.SendNowBody, Icon: "refresh-cw", Receiver: x.Host, About: words.Host})
		}
	}
	return d.Desk.Show(w, r, web.Page{Title: words.HostsTitle, Lead: words.HostsLead, Here: atHosts}, hostsPage(v))
}

// costTable is what hosts keep of sales by kind of card and size.
func costTable(ctx context.Context, list route.Costs) web.Table {
	t := web.Table{ID: "costs", NoCSV: true, Empty: words.NoCosts, Head: []web.Column{{Name: words.Host}, {Name: words.Class}, {Name: words.Size, Num: true}, {Name: words.Count, Num: true}, {Name: words.Amount, Num: true}, {Name: words.Kept, Num: true}, {Name: words.Cost, Num: true}}}
	for _, x := range list {
		size := web.Plain(words.AnyAbove.In(ctx))
		if x.Upto > 0 {
			size = web.Plain("≤ " + web.Yuan(x.Upto))
		}
		cost := web.Plain(words.CostUnknown.In(ctx))
		if ppm, known := (route.Costs{x}).Of(x.Host, x.Class, max(x.Upto, 1)); known {
			cost = shell.Short(percent(ppm))
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(x.Host), web.Plain(till.Class(x.Class).In(ctx)), size, web.Count(x.Count), web.Money(x.Fen), web.Money(x.Fee), cost}})
	}
	return t
}

// mostActs bounds the questions of one page.
const mostActs = 6

// quiet is how long ago a host's last answer may be.
const quiet = 10 * time.Minute

func hostHealth(p switching.Health, now time.Time) (web.Tone, web.Text) {
	switch {
	case p.Asked == 0:
		return web.Neutral, words.NeverAsked
	case p.Answered == 0:
		return web.Bad, words.NoAnswers
	case p.Lies > 0:
		return web.Bad, words.WrongAnswers
	case (p.Silent+p.Down)*20 > p.Asked:
		return web.Warn, words.OftenSilent
	case now.Sub(p.Since) > quiet:
		return web.Neutral, words.Quiet
	}
	return web.Good, words.Fine
}

// resend has one message sent at the next tick.
func (d Deps) resend(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fmt.Errorf("queue %q: %w", r.PathValue("id"), switching.ErrNotFound)
	}
	return d.Desk.Change(w, r, atHosts, words.WillSend, shell.Deed{Act: shell.ActResend, Target: atHosts, What: r.PathValue("id")}, func(tx *db.Tx) error { return switching.Resend(tx, id) })
}
