package ops

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/fare"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/report"
	"koala/transit"
	"koala/tsm"
	"koala/web"
	"koala/web/ops/shell"
)

// An overviewView is the house at a glance.
type overviewView struct {
	figures []web.Figure
	notices []notice
	due     []web.Figure
	books   []web.Fact
	acts    []web.Happening
}

// A notice is something that somebody should do now.
type notice struct {
	tone web.Tone
	text web.Text
	href string
}

// sparkHours is how far back the small lines of the overview reach.
const sparkHours = 24

func (p pages) overview(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	now := p.Store.Now()
	var v overviewView
	var totals report.Totals
	var due report.Due
	var devices []transit.Device
	var f fleet
	var clearing report.Tallies
	var waits int64
	var desks report.Desks
	sparks := map[report.Measure][]int64{}
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if totals, err = report.TotalsOf(q); err != nil {
			return err
		}
		if due, err = report.DueOf(q); err != nil {
			return err
		}
		if clearing, err = report.TalliesOf(q); err != nil {
			return err
		}
		if waits, err = report.TemplatesWaiting(q); err != nil {
			return err
		}
		if desks, err = report.DesksOf(q); err != nil {
			return err
		}
		for _, m := range []report.Measure{report.Taps, report.Fares, report.TopUps, report.Issued} {
			if sparks[m], err = report.Hours(q, m, now, sparkHours); err != nil {
				return err
			}
			if slices.Max(sparks[m]) == 0 {
				delete(sparks, m) // nothing to draw
			}
		}
		acts, err := report.Recent(q, now, 12)
		if err != nil {
			return err
		}
		v.acts = p.tellActs(acts)
		if f, err = p.fleet(q); err != nil {
			return err
		}
		devices, err = transit.Devices(q, "", 500)
		return err
	})
	if err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	trial := p.Book.TrialBalance()
	v.figures = houseFigures(totals, sparks)
	v.due, v.notices = dueFigures(due, f, devices), p.notices(due, trial.Balanced)
	v.due = append(v.due, tile(words.TemplatesDue, waits, web.Warn, "layers", "/ops/issuers?state=submitted"), tile(words.ClearingDue, clearing.Waiting+clearing.Odd, web.Warn, "coins", "/ops/ecash/suspense"),
		tile(words.ProposalsDue, desks.Proposals, web.Warn, "circle-check", proposalsAt[desks.Oldest]), tile(words.ExceptionsDue, desks.Exceptions, web.Warn, "scale", "/ops/recon/exceptions"),
		tile(words.DisputesDue, desks.Disputes, web.Warn, "circle-help", "/ops/disputes"), tile(words.SuspicionsDue, desks.Suspicions, web.Warn, "shield-check", "/ops/risk"),
		tile(words.ApplicationsDue, desks.Applications, web.Warn, "store", "/ops/merchants/desk"),
		tile(words.DoubtsDue, clearing.Doubts, web.Bad, "circle-help", "/ops/ecash/doubts"), tile(words.LoadsDue, clearing.Loads, web.Neutral, "wallet", "/ops/ecash/loads"))
	v.books = p.bookFacts(ctx, trial)
	return p.desk.Show(w, r, web.Page{Title: words.Overview, Lead: words.OverviewLead, Here: "/ops/"}, overviewPage(v))
}

// proposalsAt is where proposals of a kind are confirmed.
var proposalsAt = map[string]string{"route": "/ops/routes", "terms": "/ops/terms", "split": "/ops/terms", "once_wish": "/ops/terms", "payout_answer": "/ops/closings", "funding": "/ops/closings",
	"agent": "/ops/merchants/agents", "denial": "/ops/merchants/deny", "pack": "/ops/terminals/stages", "dispute": "/ops/disputes", "dispute-rule": "/ops/disputes/rules"}

func houseFigures(t report.Totals, sparks map[report.Measure][]int64) []web.Figure {
	return []web.Figure{
		{Name: words.Taps, Value: web.Number(t.Taps), Icon: "nfc", Spark: sparks[report.Taps], Href: "/ops/journeys"},
		{Name: words.Riding, Value: web.Number(t.Riding), Icon: "train-front", Href: "/ops/journeys?state=open"},
		{Name: words.FareMoney, Value: web.Yuan(t.Fares.Minor()), Icon: "ticket", Spark: sparks[report.Fares]},
		{Name: words.TopUps, Value: web.Number(t.TopUps), Icon: "wallet", Spark: sparks[report.TopUps], Delta: web.Yuan(t.Loaded.Minor()), Href: "/ops/orders?kind=topup"},
		{Name: words.LivingCards, Value: web.Number(t.Cards), Icon: "credit-card", Spark: sparks[report.Issued], Href: "/ops/cards"},
		{Name: words.PaidOut, Value: web.Yuan(t.Paid.Minor()), Icon: "landmark", DeltaText: words.PayoutCount.F(int(t.Payouts)), Href: "/ops/settlement"},
	}
}

func dueFigures(d report.Due, f fleet, devices []transit.Device) []web.Figure {
	silent := int64(0)
	for _, x := range devices {
		if tone, _ := f.health(x); tone == web.Warn || tone == web.Bad {
			silent++
		}
	}
	return []web.Figure{
		tile(words.OpenOrders, d.OpenOrders, web.Neutral, "radio", "/ops/orders"),
		tile(words.AtTheDesk, d.Desk, web.Bad, "user", "/ops/orders?desk=1"),
		tile(words.UnconfirmedOrders, d.Unconfirmed, web.Warn, "circle-help", "/ops/orders?state=unconfirmed"),
		tile(words.IncompleteRides, d.Incomplete, web.Warn, "wrench", "/ops/journeys?state=incomplete"),
		tile(words.Exceptions, d.Exceptions+d.Odd, web.Warn, "triangle-alert", "/ops/exceptions"),
		tile(words.SickDevices, silent, web.Warn, "door-open", "/ops/gates"),
		tile(words.MissingTaps, d.DeviceGaps, web.Warn, "wifi-off", "/ops/gates"),
		{Name: words.Unpaid, Value: web.Yuan(d.Unpaid.Minor()), Icon: "scale", Href: "/ops/settlement"},
	}
}

// tile is a count that takes its tone only when there is something.
func tile(name web.Text, n int64, tone web.Tone, icon, href string) web.Figure {
	if n == 0 {
		tone = web.Neutral
	}
	return web.Figure{Name: name, Value: web.Number(n), Tone: tone, Icon: icon, Href: href}
}

func (p pages) notices(d report.Due, balanced bool) (out []notice) {
	if !balanced {
		out = append(out, notice{web.Bad, words.Unbalanced, "/ops/books"})
	}
	if p.Book.Trouble() != nil {
		out = append(out, notice{web.Bad, words.ViewsStuck, "/ops/books/proof"})
	}
	if d.Desk > 0 {
		out = append(out, notice{web.Warn, words.DeskWaits.F(int(d.Desk)), "/ops/orders?desk=1"})
	}
	if d.Unfunded > 0 {
		out = append(out, notice{web.Warn, words.UnfundedTaps.F(int(d.Unfunded)), "/ops/exceptions"})
	}
	return out
}

func (p pages) bookFacts(ctx context.Context, t ledger.Trial) []web.Fact {
	state := web.Chip(web.Good, words.Balanced)
	if !t.Balanced {
		state = web.Chip(web.Bad, words.Unbalanced)
	}
	seq, hash := p.Book.Tip()
	accounts := 0
	for _, row := range t.Rows {
		accounts += row.Accounts
	}
	facts := []web.Fact{{Name: words.Books, Show: state}, {Name: words.Records, Value: web.Number(int64(seq)), Href: "/ops/books/entries"},
		{Name: words.Accounts, Value: web.Number(int64(accounts)), Href: "/ops/books/accounts"}, {Name: words.Lag, Value: web.Number(int64(p.Book.Lag()))},
		{Name: words.ChainHash, Value: fmt.Sprintf("%x…", hash[:8]), Mono: true, Href: "/ops/books/proof"}}
	for _, c := range []struct {
		code string
		name web.Text
	}{{"2010", words.CodeWallets}, {"2020", words.CodeFloats}, {"2030", words.CodePayables}} {
		for _, row := range t.Rows {
			if row.Code == c.code {
				facts = append(facts, web.Fact{Name: c.name, Value: total(row.Credit).Text, Href: "/ops/books/accounts?code=" + c.code})
			}
		}
	}
	return facts
}

var actWords = map[report.Kind]struct {
	what web.Text
	icon string
	tone web.Tone
}{
	report.TapIn: {words.ActIn, "arrow-down-left", web.Neutral}, report.TapOut: {words.ActOut, "arrow-up-right", web.Good},
	report.TapBus: {words.ActBus, "bus", web.Neutral}, report.Repair: {words.ActRepaired, "wrench", web.Warn}, report.Payout: {words.ActPaid, "landmark", web.Good},
}

var orderIcons = map[tsm.Kind]string{tsm.Issue: "credit-card", tsm.TopUp: "wallet", tsm.Block: "lock", tsm.Unblock: "lock-open", tsm.Delete: "trash-2", tsm.Adopt: "watch", tsm.SAM: "cpu"}

// tellActs puts acts into words, each with the way to its trace.
func (p pages) tellActs(acts []report.Act) []web.Happening {
	var out []web.Happening
	for _, a := range acts {
		h := web.Happening{At: a.At, Who: a.Tail}
		if !a.Money.IsZero() {
			h.Detail = web.Yuan(a.Money.Minor())
		}
		if w, ok := actWords[a.Kind]; ok {
			place := p.station(fare.Code(a.Station))
			h.What, h.Icon, h.Tone = web.Text{ZH: w.what.To(web.ZH, place.ZH), EN: w.what.To(web.EN, place.EN)}, w.icon, w.tone
		}
		switch {
		case a.Order != "":
			o := tsm.Order{Kind: tsm.Kind(a.Kind), State: tsm.State(a.State)}
			h.What = web.Text{ZH: o.Kind.Words(true) + "：" + o.State.Words(true), EN: o.Kind.Words(false) + ": " + o.State.Words(false)}
			h.Icon, h.Tone, h.Href = orderIcons[o.Kind], orderTone(o), "/ops/orders/"+a.Order
		case a.Journey != "":
			h.Href = journeyPath(a.Journey)
		case a.Payout != "":
			operator := p.operator(a.Payee)
			h.What = web.Text{ZH: words.ActPaid.To(web.ZH, operator.ZH), EN: words.ActPaid.To(web.EN, operator.EN)}
			h.Href = "/ops/settlement/payouts/" + a.Payout
		}
		out = append(out, h)
	}
	return out
}

// exceptions is the desk for what does not explain itself: journeys whose fare
// or taps are odd, and debits that were not booked.
func (p pages) exceptions(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	all := r.FormValue("all") != ""
	pg := web.PageOf(r, shell.Rows)
	var v exceptionsView
	var list []transit.Journey
	var odd []transit.OddTap
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]transit.Journey, error) {
			return transit.Exceptions(q, after, limit)
		}, journeyID, func(j transit.Journey) bool {
			seen, readErr := shell.Deeds(q, shell.Deed{Act: shell.ActAcknowledge, Target: journeyPath(j.ID)}, "", 1)
			if readErr != nil {
				err = readErr
			}
			return all || len(seen) == 0
		})
		if err != nil {
			return err
		}
		odd, err = transit.OddTaps(q, "", shell.Rows)
		return err
	})
	if err != nil {
		return fmt.Errorf("exceptions: %w", err)
	}
	v.rides = p.journeyTable(ctx, list)
	v.rides.ID, v.rides.Empty, v.rides.Next = "exceptions", words.NoExceptions, shell.NextOf(r, list, pg, journeyID)
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.rides)
	}
	v.odd = oddTable(ctx, odd)
	value := ""
	if all {
		value = "1"
	}
	v.filter = []web.Field{{Name: "all", Label: words.Show, Type: "select", Value: value, Options: []web.Option{{Name: words.OnlyOpen}, {Value: "1", Name: words.AlsoClosed}}}}
	return p.desk.Show(w, r, web.Page{Title: words.Exceptions, Lead: words.ExceptionsLead, Here: "/ops/exceptions"}, exceptionsPage(v))
}

type exceptionsView struct {
	filter []web.Field
	rides  web.Table
	odd    web.Table
}

func oddTable(ctx context.Context, list []transit.OddTap) web.Table {
	t := web.Table{ID: "odd", NoCSV: true, Empty: words.NoOdd, Head: []web.Column{{Name: words.Reason}, {Name: words.Card}, {Name: words.Terminal}, {Name: words.Sequence, Num: true},
		{Name: words.Amount, Num: true}, {Name: words.TAC}, {Name: words.CameIn, Num: true}}}
	for _, o := range list {
		word := words.OddTAC
		if o.Why == "fork" {
			word = words.OddFork
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Status(ctx, web.Bad, word), web.Mono(shell.Masked(issuing.IDOf(o.Debit.Card))), web.Mono(o.Debit.Terminal.String()),
			web.Count(int64(o.Debit.Seq)), web.Money(int64(o.Debit.Fen)), web.Mono(fmt.Sprintf("%X", o.Debit.TAC)), web.When(o.Got)}})
	}
	return t
}

// acknowledge takes a journey off the desk: somebody looked and says why it
// may stay. What the journey says is not changed.
func (p pages) acknowledge(w http.ResponseWriter, r *http.Request) error {
	back := journeyPath(r.PathValue("id"))
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	err = p.Store.Write(r.Context(), func(tx *db.Tx) error {
		j, err := transit.JourneyByID(tx, r.PathValue("id"))
		if err != nil {
			return err
		}
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActAcknowledge, Target: back, What: shell.Masked(issuing.IDOf(j.Card)) + " " + string(j.Exception), Why: reason})
	})
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	return shell.Done(w, r, "/ops/exceptions", words.DidClose)
}

// audit lists what staff did.
func (p pages) audit(w http.ResponseWriter, r *http.Request) error {
	f := shell.Deed{Act: shell.Act(r.FormValue("act")), Who: strings.TrimSpace(r.FormValue("who"))}
	if f.Act != "" && !slices.Contains(shell.Acts, f.Act) {
		return fmt.Errorf("filter of the audit trail: %w", shell.ErrForm)
	}
	pg := web.PageOf(r, shell.Rows)
	key := func(d shell.Deed) string { return d.ID }
	var list []shell.Deed
	err := p.Store.Read(r.Context(), func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]shell.Deed, error) { return shell.Deeds(q, f, after, limit) }, key, nil)
		return err
	})
	if err != nil {
		return err
	}
	ctx := r.Context()
	t := web.Table{ID: "audit", Empty: words.NoDeeds, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Act}, {Name: words.Who}, {Name: words.What}, {Name: words.Why}, {Name: words.At, Num: true}}}
	for _, d := range list {
		t.Rows = append(t.Rows, web.Row{Href: d.Target, Cells: []web.Cell{{Text: d.Act.Words().In(ctx), CSV: string(d.Act), Show: shell.Tight(d.Act.Words().In(ctx))}, web.Mono(d.Who), web.Plain(shell.Hushed(d.What)), web.Plain(d.Why), web.When(d.At)}})
	}
	options := []web.Option{{Name: words.All}}
	for _, a := range shell.Acts {
		options = append(options, web.Option{Value: string(a), Name: a.Words()})
	}
	v := shell.ListView{Table: t, Filter: []web.Field{{Name: "act", Label: words.Act, Type: "select", Options: options, Value: string(f.Act)}, {Name: "who", Label: words.Who, Type: "search", Value: f.Who, Max: 32}}}
	return p.desk.List(w, r, web.Page{Title: words.Audit, Lead: words.AuditLead, Here: "/ops/audit"}, v)
}
