// Package cases is the disputes desk: what cardholders' banks say against sales,
// by when it has to be answered, and the evidence from tap to receipt. Start at
// Routes.
package cases

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"koala/dispute"
	"koala/internal/db"
	"koala/web"
	"koala/web/course"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk    shell.Desk
	Seal    dispute.Sealer
	Sources []dispute.Source
	Find    dispute.Finder
}

const here = "/ops/disputes"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("GET "+here+"/new", d.fresh)
	m.Handle("GET "+here+"/records", d.records)
	m.Handle("POST "+here+"/records/{key}/{act}", d.record)
	m.Handle("GET "+atRules, d.rules)
	m.Handle("POST "+atRules, d.proposeRule)
	m.Handle("POST "+atRules+"/{id}/{act}", d.decideRule)
	m.Handle("POST "+here+"/notices", d.enter)
	m.Handle("POST "+here+"/notices/confirm", d.confirm)
	m.Handle("POST "+here+"/notices/drop", d.drop)
	m.Handle("GET "+here+"/{id}", d.kase)
	m.Handle("GET "+here+"/{id}/pack", d.pack)
	m.Handle("POST "+here+"/{id}/{act}", d.act)
}

// tabs are the lists of this subject.
func tabs(at string) []shell.Tab {
	out := []shell.Tab{{Href: here, Name: words.Cases}, {Href: here + "/records", Name: words.Records}, {Href: atRules, Name: words.Rules}}
	for i := range out {
		out[i].Here = out[i].Href == at
	}
	return out
}

var stateTones = map[dispute.State]web.Tone{dispute.Requested: web.Warn, dispute.Charged: web.Bad, dispute.Again: web.Bad, dispute.Missed: web.Bad, dispute.Answered: web.Info, dispute.Presented: web.Info, dispute.Arbitration: web.Info,
	dispute.Won: web.Good, dispute.Lost: web.Neutral, dispute.Accepted: web.Neutral, dispute.Withdrawn: web.Good, dispute.Resting: web.Good}

// soon is when a deadline stands out.
const soon = 3 * 24 * time.Hour

// A listView is the desk at a glance and its cases.
type listView struct {
	figures []web.Figure
	states  web.Parted
	list    shell.ListView
	waits   web.Table
	steps   web.Table // that a second person confirms
	stray   int       // records of files that wait for a person
	acts    []shell.Question
}

func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, now := r.Context(), web.PageOf(r, shell.Rows), d.Desk.Store.Now()
	if rrn := r.FormValue("rrn"); rrn != "" { // a page of a sale leads here
		http.Redirect(w, r, here+"/new?rrn="+url.QueryEscape(rrn), http.StatusSeeOther)
		return nil
	}
	all := r.FormValue("all") != ""
	key := func(c dispute.Case) string { return c.ID }
	v := listView{states: web.Parted{Title: words.ByState}}
	t := web.Table{ID: "disputes", Empty: words.NoCases, Head: []web.Column{{Name: words.Case}, {Name: words.State}, {Name: words.Turn}, {Name: words.Due}, {Name: words.Shop}, {Name: words.Reason}, {Name: words.Amount, Num: true}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := shell.Gather(pg, func(after string, limit int) ([]dispute.Case, error) {
			return dispute.OfPayee(q, r.FormValue("shop"), !all, after, limit)
		}, key, nil)
		if err != nil {
			return err
		}
		t.Next = shell.NextOf(r, list, pg, key)
		for _, c := range list {
			t.Rows = append(t.Rows, web.Row{Href: here + "/" + c.ID, Cells: []web.Cell{web.Mono(c.Ref), web.Status(ctx, stateTones[c.State], shell.Both(c.State.Words)), shell.Short(shell.Both(c.State.Next().Words).In(ctx)), dueCell(ctx, c, now),
				web.Plain(shell.ShopName(q, c.Sale.Payee).In(ctx)), web.Plain(reasonText(c.Reason).In(ctx)), web.Money(c.Amount.Minor())}})
		}
		due, err := dispute.DueBy(q, now.Add(soon), 500)
		if err != nil {
			return err
		}
		tallies, err := dispute.Count(q, "")
		if err != nil {
			return err
		}
		v.sums(tallies, due)
		v.waits, v.acts, err = waiting(ctx, q)
		if err != nil {
			return err
		}
		if v.steps, err = proposedSteps(ctx, q); err != nil {
			return err
		}
		stray, err := dispute.Records(q, dispute.RecordWaits, "", shell.Rows)
		v.stray = len(stray)
		return err
	})
	if err != nil {
		return fmt.Errorf("disputes: %w", err)
	}
	shown := ""
	if all {
		shown = "1"
	}
	v.list = shell.ListView{Table: t, Filter: []web.Field{{Name: "all", Label: words.Show, Type: "select", Options: []web.Option{{Name: words.OpenOnes}, {Value: "1", Name: words.All}}, Value: shown}, {Name: "shop", Label: words.ShopID, Type: "search", Value: r.FormValue("shop"), Max: 40}}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, listPage(v))
}

func (v *listView) sums(tallies []dispute.Tally, due []dispute.Case) {
	var open, fen, won, ended int64
	for _, t := range tallies {
		v.states.Parts = append(v.states.Parts, web.Slice{Name: shell.Both(t.State.Words), Value: t.Count, Note: web.Yuan(t.Fen)})
		if !t.State.Final() {
			open, fen = open+t.Count, fen+t.Fen
			continue
		}
		ended += t.Count
		if t.State == dispute.Won || t.State == dispute.Withdrawn || t.State == dispute.Resting {
			won += t.Count
		}
	}
	v.figures = []web.Figure{{Name: words.Open, Value: web.Number(open), Icon: "circle-help"}, {Name: words.Disputed, Value: web.Yuan(fen), Icon: "coins"}, {Name: words.DueSoon, Value: web.Number(int64(len(due))), Icon: "clock"}, {Name: words.Kept, Value: fmt.Sprintf("%d / %d", won, ended), Icon: "circle-check", DeltaText: words.OfEnded}}
	if len(due) > 0 {
		v.figures[2].Tone = web.Warn
	}
}

func dueCell(ctx context.Context, c dispute.Case, now time.Time) web.Cell {
	if c.Due.IsZero() || c.State.Final() {
		return shell.None()
	}
	day := lastDay(ctx, c.Due)
	switch left := c.Due.Sub(now); {
	case left < 0:
		return web.Status(ctx, web.Bad, words.Over)
	case left < soon:
		return web.Status(ctx, web.Warn, words.InHours.F(int(left/time.Hour), day))
	}
	return shell.Short(day)
}

func reasonText(code string) web.Text {
	x, ok := dispute.ReasonOf(code)
	if !ok {
		return web.Same(code)
	}
	t := shell.Both(x.Words)
	return web.Text{ZH: code + " " + t.ZH, EN: code + " " + t.EN}
}

// A caseView is one dispute.
type caseView struct {
	facts     []web.Fact
	due       web.Text
	tone      web.Tone
	wants     []web.Step
	packText  string
	packHref  string
	course    course.Picture
	alone     web.Text // up to how much one person may
	proposed  web.Text // the step that waits
	documents web.Table
	acts      []shell.Question
	trail     []web.Happening
}

func (d Deps) kase(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	var c dispute.Case
	var v caseView
	var name web.Text
	var second pending
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = dispute.Get(q, r.PathValue("id")); err != nil {
			return err
		}
		name = shell.ShopName(q, c.Sale.Payee)
		papers, err := dispute.Documents(q, c.ID)
		if err != nil {
			return err
		}
		v.documents = web.Table{ID: "documents", NoCSV: true, Empty: words.NoDocuments, Head: []web.Column{{Name: words.Document}, {Name: words.By}, {Name: words.Bytes, Num: true}, {Name: words.Hash}, {Name: words.At, Num: true}}}
		for _, x := range papers {
			v.documents.Rows = append(v.documents.Rows, web.Row{Cells: []web.Cell{shell.Written(x.Name), web.Plain(x.Who), web.Count(x.Size), web.Mono(x.Hash[:min(16, len(x.Hash))] + "…"), shell.At(x.At)}})
		}
		events, err := dispute.History(q, c.ID)
		for _, e := range slices.Backward(events) {
			v.trail = append(v.trail, happened(ctx, e))
		}
		if err != nil {
			return err
		}
		v.course = course.Of(c, events, now)
		second, err = pendingOf(q, c, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a dispute: %w", err)
	}
	who := words.TheShop
	if c.WithIssuer() {
		who = words.TheHolder
	}
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(stateTones[c.State], shell.Both(c.State.Words))}, {Name: words.Turn, Show: shell.Phrase(shell.Both(c.State.Next().Words))}, {Name: words.Amount, Show: shell.Strong(web.Yuan(c.Amount.Minor()))}, {Name: words.MoneyWith, Show: shell.Phrase(who)},
		{Name: words.Reason, Show: shell.Phrase(reasonText(c.Reason))}, {Name: words.Shop, Value: name.In(ctx), Href: "/ops/merchants/shops/" + c.Sale.Payee}, {Name: words.Sale, Value: c.Sale.RRN, Href: "/ops/switch/transactions/" + c.Sale.RRN, Mono: true},
		{Name: words.Opened, Value: web.Moment(c.Opened)}}
	if c.Pack != "" {
		v.facts = append(v.facts, web.Fact{Name: words.PackHash, Value: c.Pack, Mono: true})
	}
	if !c.Due.IsZero() && !c.State.Final() {
		v.tone, v.due = web.Info, words.DueIs.F(shell.Both(c.State.Next().Words).In(ctx), lastDay(ctx, c.Due))
		if c.Due.Sub(now) < soon {
			v.tone = web.Warn
		}
	}
	if err := d.evidence(ctx, c, &v); err != nil {
		return err
	}
	v.second(ctx, c, second)
	v.acts = questions(ctx, c, v.packText != "", second)
	return d.Desk.Show(w, r, web.Page{Title: words.CaseNo.F(c.Ref), Lead: reasonText(c.Reason), Back: here, Here: here}, casePage(v))
}

// happened is one step of a case with its day, for cases last for weeks; a
// word of the shop's changes no state.
func happened(ctx context.Context, e dispute.Event) web.Happening {
	h := web.Happening{At: e.At, Who: e.Who, What: shell.Both(e.Is.Words), Detail: web.Day(ctx, e.At), Icon: "user", Tone: stateTones[e.Is]}
	if why := shell.Both(e.Reason).In(ctx); why != "" {
		h.Detail += " · " + why
	}
	switch e.Who {
	case dispute.System:
		h.Who, h.Icon = words.TheSystem.In(ctx), "cpu"
	case string(dispute.Issuer):
		h.Who, h.Icon = words.TheIssuer.In(ctx), "landmark"
	case string(dispute.Arbiter):
		h.Who, h.Icon = words.TheArbiter.In(ctx), "scale"
	}
	if e.Was == e.Is {
		h.What = words.Said
	}
	return h
}

// evidence shows the pack that was gathered, and what it lacks.
func (d Deps) evidence(ctx context.Context, c dispute.Case, v *caseView) error {
	reason, _ := dispute.ReasonOf(c.Reason)
	p, err := dispute.PackOf(ctx, d.Desk.Store, d.Seal, c.ID)
	if err != nil && !errors.Is(err, dispute.ErrEvidence) {
		return fmt.Errorf("evidence of %s: %w", c.ID, err)
	}
	if err == nil {
		v.packText, v.packHref = p.Text, here+"/"+c.ID+"/pack"
	}
	for _, k := range reason.Wants {
		s := web.Step{Name: shell.Both(k.Words), State: web.StepTodo}
		if err == nil {
			if s.State = web.StepDone; slices.Contains(p.Lacks, k) {
				s.State = web.StepFailed
			}
		}
		v.wants = append(v.wants, s)
	}
	return nil
}

// pack gives the evidence as a file, with everything or for printing.
func (d Deps) pack(w http.ResponseWriter, r *http.Request) error {
	p, err := dispute.PackOf(r.Context(), d.Desk.Store, d.Seal, r.PathValue("id"))
	if err != nil {
		return err
	}
	kind, ext, body := "application/json", ".json", p.JSON
	if r.FormValue("as") == "text" {
		kind, ext, body = "text/plain; charset=utf-8", ".txt", []byte(p.Text)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "evidence-" + r.PathValue("id") + ext}))
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(body)
	return err
}

func questions(ctx context.Context, c dispute.Case, packed bool, second pending) (out []shell.Question) {
	at := here + "/" + c.ID
	ask := func(act string, open, body web.Text, icon string, danger bool, receiver web.Text) {
		out = append(out, shell.Question{ID: "ask-" + act, Action: at + "/" + act, Open: open, Body: body, Icon: icon, Danger: danger, Amount: web.Yuan(c.Amount.Minor()), Receiver: receiver.In(ctx), About: words.Receiver})
	}
	if c.State.Final() {
		return nil
	}
	if second.has {
		u, _ := web.Who(ctx)
		name := shell.Both(second.step.Step.Words)
		if second.step.By != u.Name && !second.step.Stale(c) {
			ask("confirm", with(words.ConfirmNo, name), words.ConfirmStepBody, "circle-check", false, name)
		}
		ask("undo", with(words.UndoNo, name), words.UndoBody, "x", false, name)
	}
	open := !second.has || second.step.Stale(c)
	ask("gather", words.Gather, words.GatherBody, "layers", false, words.TheDesk)
	if packed && c.State.May(dispute.Answered) {
		ask("send", words.Send, words.SendBody, "arrow-up-right", false, words.TheIssuer)
	}
	if open && packed && c.State.May(dispute.Presented) {
		ask("represent", words.Represent, words.RepresentBody, "arrow-up-right", false, words.TheShop)
	}
	if open && c.State.May(dispute.Arbitration) && c.State == dispute.Again {
		ask("file", words.File, words.FileBody, "scale", false, words.TheArbiter)
	}
	if open && c.State.May(dispute.Accepted) {
		ask("accept", words.Accept, words.AcceptBody, "x", true, words.TheHolder)
	}
	return append(out, noticeQuestion(c, ""))
}

// act does what staff decided about a dispute.
func (d Deps) act(w http.ResponseWriter, r *http.Request) error {
	id, act := r.PathValue("id"), r.PathValue("act")
	at := here + "/" + id
	u, _ := web.Who(r.Context())
	why, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	deed := shell.Deed{Act: shell.ActDispute, Target: at, What: id + ": " + act}
	if act == "gather" {
		p, err := dispute.Gather(r.Context(), d.Desk.Store, d.Seal, id, u.Name, d.Sources...)
		if err != nil {
			return shell.Sorry(w, r, at, err)
		}
		deed.Act, deed.What = shell.ActPack, id+": "+p.Hash[:min(16, len(p.Hash))]
		return d.Desk.Change(w, r, at, words.Gathered, deed, func(*db.Tx) error { return nil })
	}
	step, said, err := d.stepOf(r, id, act)
	if err != nil {
		return err
	}
	return d.Desk.Change(w, r, at, said, deed, func(tx *db.Tx) error { return step(tx, u.Name, why) })
}
