// Package quarrel is where a merchant sees what issuers say against its sales,
// answers with its words and documents before the deadline, and takes the
// evidence away with it. Start at Routes.
package quarrel

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"koala/dispute"
	"koala/internal/db"
	"koala/money"
	"koala/web"
	"koala/web/course"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk    shell.Desk
	Seal    dispute.Sealer
	Sources []dispute.Source // what the house knows of a sale
}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	d.Desk.Route(m, "GET /merchant/disputes", shell.SeeDisputes, d.list)
	d.Desk.Route(m, "GET /merchant/disputes/{id}", shell.SeeDisputes, d.show)
	d.Desk.Route(m, "POST /merchant/disputes/{id}/answer", shell.Dispute, d.answer)
	d.Desk.Route(m, "POST /merchant/disputes/{id}/accept", shell.Dispute, d.accept)
	d.Desk.Route(m, "GET /merchant/disputes/{id}/documents/{hash}", shell.SeeDisputes, d.document)
	d.Desk.Route(m, "GET /merchant/disputes/{id}/pack", shell.SeeDisputes, d.pack)
}

const at = "/merchant/disputes"

func casePath(id string) string { return at + "/" + id }

func tone(c dispute.Case) web.Tone {
	switch c.State {
	case dispute.Won, dispute.Withdrawn, dispute.Resting:
		return web.Good
	case dispute.Lost, dispute.Accepted:
		return web.Bad
	}
	if c.State.Next() == dispute.Shop {
		return web.Warn
	}
	return web.Info
}

func reasonText(code string) web.Text {
	if r, ok := dispute.ReasonOf(code); ok {
		return shell.Both(r.Words)
	}
	return web.Same(code)
}

// dueText says how long is left until a deadline.
func dueText(now, due time.Time) (web.Tone, web.Text) {
	if due.IsZero() || due.Unix() <= 0 {
		return web.Neutral, words.NoDeadline
	}
	left := due.Sub(now)
	switch {
	case left < 0:
		return web.Bad, words.Overdue
	case left < 72*time.Hour:
		return web.Bad, words.HoursLeft.F(int(left / time.Hour))
	}
	return web.Neutral, words.DaysLeft.F(int(left / (24 * time.Hour)))
}

func (d Deps) list(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, pg, now := r.Context(), web.PageOf(r, parts.Rows), d.Desk.Store.Now()
	all := r.FormValue("all") != ""
	key := func(c dispute.Case) string { return c.ID }
	var list []dispute.Case
	var tally []dispute.Tally
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if s.Shop.ID == "" {
			return nil
		}
		list, err = parts.Gather(pg, func(before string, limit int) ([]dispute.Case, error) {
			return dispute.OfPayee(q, s.Shop.ID, !all, before, limit)
		}, key, nil)
		if err == nil {
			tally, err = dispute.Count(q, s.Shop.ID)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("disputes of %s: %w", s.Shop.ID, err)
	}
	t := web.Table{ID: "disputes", Empty: words.NoneOpen, Next: parts.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Number}, {Name: words.Reason}, {Name: words.State}, {Name: words.Turn}, {Name: words.Deadline}, {Name: words.Amount, Num: true}, {Name: words.Opened, Num: true}}}
	for _, c := range list {
		dueTone, due := dueText(now, c.Due)
		t.Rows = append(t.Rows, web.Row{Href: casePath(c.ID), Cells: []web.Cell{web.Mono(c.Ref), web.Plain(reasonText(c.Reason).In(ctx)), web.Status(ctx, tone(c), shell.Both(c.State.Words)), web.Plain(shell.Both(c.State.Next().Words).In(ctx)),
			web.Status(ctx, dueTone, due), web.Money(c.Amount.Minor()), parts.At(c.Opened)}})
	}
	tabs := []parts.Tab{{Href: at, Name: words.OnlyOpen, Here: !all}, {Href: at + "?all=1", Name: words.AlsoClosed, Here: all}}
	return d.Desk.List(w, r, s, web.Page{Title: words.Disputes, Lead: words.Lead, Here: at}, t, listPage(t, tabs, figures(tally)))
}

func figures(list []dispute.Tally) []web.Figure {
	var yours, open, won, lost web.Figure
	yours, open = web.Figure{Name: words.YourTurn, Icon: "clock"}, web.Figure{Name: words.OpenNow, Icon: "circle-help"}
	won, lost = web.Figure{Name: words.Won, Icon: "check"}, web.Figure{Name: words.LostAll, Icon: "x"}
	var sums [4]struct{ n, fen int64 }
	for _, t := range list {
		i := 1
		switch {
		case t.State == dispute.Lost || t.State == dispute.Accepted:
			i = 3
		case t.State.Final():
			i = 2
		case t.State.Next() == dispute.Shop:
			i = 0
		}
		sums[i].n, sums[i].fen = sums[i].n+t.Count, sums[i].fen+t.Fen
	}
	out := []web.Figure{yours, open, won, lost}
	for i := range out {
		out[i].Value, out[i].Delta = web.Number(sums[i].n), web.Yuan(sums[i].fen)
	}
	if sums[0].n > 0 {
		out[0].Tone = web.Warn
	}
	return out
}

// A caseView is one dispute.
type caseView struct {
	id        string
	facts     []web.Fact
	timeline  []web.Happening
	documents web.Table
	wants     []web.Line
	turn      bool // the shop may answer
	may       bool
	amount    money.Amount
	ref       string
	text      string
	wrong     web.Text
	packed    bool
	course    course.Picture
	todo      []web.Line // what to do by when
	notice    web.Text
	tone      web.Tone
}

// caseOf reads a case of the shop that is looked at.
func caseOf(q *db.Query, s shell.Seat, id string) (dispute.Case, error) {
	c, err := dispute.Get(q, id)
	if err == nil && c.Sale.Payee != s.Shop.ID {
		err = fmt.Errorf("dispute %s of another shop: %w", id, dispute.ErrNone)
	}
	return c, err
}

func (d Deps) show(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	return d.showWith(w, r, s, "", web.Text{})
}

func (d Deps) showWith(w http.ResponseWriter, r *http.Request, s shell.Seat, text string, wrong web.Text) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	var c dispute.Case
	var history []dispute.Event
	var documents []dispute.Document
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = caseOf(q, s, r.PathValue("id")); err != nil {
			return err
		}
		if history, err = dispute.History(q, c.ID); err != nil {
			return err
		}
		documents, err = dispute.Documents(q, c.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a dispute: %w", err)
	}
	v := caseView{id: c.ID, text: text, wrong: wrong, amount: c.Amount, ref: c.Ref, packed: c.Pack != "", turn: !c.State.Final(), may: s.May(shell.Dispute)}
	v.course = course.Of(c, history, now)
	for _, e := range history {
		what := words.Said
		if e.Was != e.Is {
			what = shell.Both(e.Is.Words)
		}
		v.timeline = append([]web.Happening{{At: e.At, Who: web.Day(ctx, e.At) + " · " + whoText(e.Who).In(ctx), What: what, Detail: shell.Both(e.Reason).In(ctx), Icon: "circle-dot"}}, v.timeline...)
	}
	v.tell(ctx, c, now)
	v.documents = web.Table{ID: "documents", NoCSV: true, Empty: words.NoDocuments, Head: []web.Column{{Name: words.File}, {Name: words.Size, Num: true}, {Name: words.By}, {Name: words.At, Num: true}}}
	for _, x := range documents {
		v.documents.Rows = append(v.documents.Rows, web.Row{Href: casePath(c.ID) + "/documents/" + x.Hash, Cells: []web.Cell{web.Plain(x.Name), web.Count(x.Size), web.Mono(x.Who), parts.At(x.At)}})
	}
	v.todos(ctx, c, now)
	return d.Desk.Show(w, r, s, web.Page{Title: words.Case.F(c.Ref), Lead: reasonText(c.Reason), Back: at, Here: at}, casePage(v))
}

// whoText names who acted.
func whoText(who string) web.Text {
	if who == dispute.System {
		return words.ByItself
	}
	for _, a := range []dispute.Actor{dispute.Issuer, dispute.Arbiter, dispute.Desk, dispute.Shop} {
		if who == string(a) {
			return shell.Both(a.Words)
		}
	}
	return web.Same(who)
}

func (v *caseView) tell(ctx context.Context, c dispute.Case, now time.Time) {
	dueTone, due := dueText(now, c.Due)
	v.facts = []web.Fact{{Name: words.Amount, Show: parts.Strong(web.Yuan(c.Amount.Minor()))}, {Name: words.State, Show: web.Chip(tone(c), shell.Both(c.State.Words))},
		{Name: words.Turn, Show: parts.Phrase(shell.Both(c.State.Next().Words))}, {Name: words.Deadline, Show: web.Chip(dueTone, due)},
		{Name: words.Sale, Value: c.Sale.RRN, Href: "/merchant/sales/" + c.Sale.RRN, Mono: true}, {Name: words.SaleAmount, Value: web.Yuan(c.Sale.Amount.Minor())}, {Name: words.SaleAt, Value: web.Moment(c.Sale.At)}}
	if !c.Due.IsZero() && c.Due.Unix() > 0 {
		v.facts = append(v.facts, web.Fact{Name: words.AnswerBy, Value: web.Day(ctx, c.Due.Add(-time.Second))})
	}
	where := words.WithShop
	switch {
	case c.WithIssuer():
		where = words.WithIssuer
	case c.Held:
		where = words.WithHold
	}
	v.facts = append(v.facts, web.Fact{Name: words.MoneyIs, Show: parts.Phrase(where)})
	switch {
	case c.State.Final():
		v.notice, v.tone = words.IsOver, web.Info
	case c.State.Next() == dispute.Shop:
		v.notice, v.tone = words.PleaseAnswer, web.Warn
	default:
		v.notice, v.tone = words.Waits, web.Info
	}
	if reason, ok := dispute.ReasonOf(c.Reason); ok {
		for _, k := range reason.Wants {
			who := words.HouseHas
			if k == dispute.Delivery || k == dispute.Statement {
				who = words.YouHave
			}
			v.wants = append(v.wants, web.Line{Text: shell.Both(k.Words), Value: who.In(ctx)})
		}
	}
}

// todos says what the shop has to do and by when, in order; nothing while it is
// nobody's turn here.
func (v *caseView) todos(ctx context.Context, c dispute.Case, now time.Time) {
	if c.State.Next() != dispute.Shop || c.Due.IsZero() {
		return
	}
	last := c.Due.Add(-time.Second) // a deadline is the first moment too late
	by := words.ByDay.F(web.Day(ctx, last))
	if !now.Before(c.Due) {
		by = words.Overdue
	}
	does := words.DoCharged
	if c.State == dispute.Requested {
		does = words.DoRequested
	}
	v.todo = []web.Line{{Text: words.DoSay, Value: by.In(ctx)}}
	if len(v.documents.Rows) == 0 {
		v.todo = append(v.todo, web.Line{Text: words.DoAdd, Value: by.In(ctx)})
	}
	v.todo = append(v.todo, web.Line{Text: does, Value: words.HouseDoes.In(ctx)}, web.Line{Text: words.DoNothing, Value: shell.Both(c.Lapses().Words).In(ctx), Total: true})
}

// maxForm bounds an answer with its document.
const maxForm = dispute.MaxDocument + 1<<16

// answer keeps the shop's words, and a document where one came with them.
func (d Deps) answer(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	ctx, id := r.Context(), r.PathValue("id")
	again := func(wrong web.Text) error {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return d.showWith(w, r, s, r.PostFormValue("text"), wrong)
	}
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		return again(words.TooLarge)
	}
	text := strings.TrimSpace(r.PostFormValue("text"))
	name, media, data, err := fileOf(r)
	switch {
	case err != nil:
		return again(words.TooLarge)
	case text == "" && data == nil:
		return again(words.SaySomething)
	case len(text) > dispute.MaxWhy:
		return again(words.TooLong)
	}
	if err := d.Desk.Store.Read(ctx, func(q *db.Query) error { _, err := caseOf(q, s, id); return err }); err != nil {
		return err
	}
	if data != nil {
		if _, err := dispute.Upload(ctx, d.Desk.Store, d.Seal, id, s.Login, name, media, data); err != nil {
			return shell.Sorry(w, r, casePath(id), err)
		}
	}
	deed := s.Deed(shell.ActAnswer, casePath(id), text)
	if text == "" {
		deed = s.Deed(shell.ActPaper, casePath(id), name)
	}
	return d.Desk.Do(w, r, casePath(id), words.Kept, deed, func(tx *db.Tx) error {
		if text == "" {
			return nil
		}
		return dispute.Answer(tx, id, s.Login, text)
	})
}

// fileOf reads the file of a form; no data when none was chosen.
func fileOf(r *http.Request) (name, media string, data []byte, err error) {
	f, head, err := r.FormFile("file")
	if err != nil {
		return "", "", nil, nil //nolint: no file was chosen
	}
	defer f.Close()
	if data, err = io.ReadAll(io.LimitReader(f, dispute.MaxDocument+1)); err != nil || len(data) > dispute.MaxDocument || len(data) == 0 {
		return "", "", nil, dispute.ErrDocument
	}
	media, _, _ = mime.ParseMediaType(head.Header.Get("Content-Type"))
	if media == "" {
		media = http.DetectContentType(data)
	}
	return filepath.Base(head.Filename), media, data, nil
}

// accept gives the money to the cardholder.
func (d Deps) accept(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	id := r.PathValue("id")
	return d.Desk.Do(w, r, casePath(id), words.AcceptDone, s.Deed(shell.ActAccept, casePath(id), id), func(tx *db.Tx) error {
		c, err := dispute.Get(tx, id)
		if err == nil && c.Sale.Payee != s.Shop.ID {
			err = dispute.ErrNone
		}
		if err == nil {
			_, err = dispute.Accept(tx, id, s.Login, "the shop accepts")
		}
		return err
	})
}

// document gives a file back as it was uploaded, to be saved: it is somebody's,
// and never shown inside the house's pages.
func (d Deps) document(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, id, hash := r.Context(), r.PathValue("id"), r.PathValue("hash")
	name := "document"
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		if _, err := caseOf(q, s, id); err != nil {
			return err
		}
		list, err := dispute.Documents(q, id)
		for _, x := range list {
			if x.Hash == hash {
				name = x.Name
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	data, err := dispute.DocumentData(ctx, d.Desk.Store, d.Seal, id, hash)
	if err != nil {
		return err
	}
	return shell.Download(w, name, "application/octet-stream", data)
}

// pack gathers the evidence as it is now and gives it as a text for printing,
// or as JSON with every piece.
func (d Deps) pack(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, id := r.Context(), r.PathValue("id")
	if err := d.Desk.Store.Read(ctx, func(q *db.Query) error { _, err := caseOf(q, s, id); return err }); err != nil {
		return err
	}
	p, err := dispute.Gather(ctx, d.Desk.Store, d.Seal, id, s.Login, d.Sources...)
	if err != nil {
		return shell.Sorry(w, r, casePath(id), err)
	}
	if r.FormValue("as") == "json" {
		return shell.Download(w, "evidence-"+id+".json", "application/json", p.JSON)
	}
	return shell.Download(w, "evidence-"+id+".txt", "text/plain; charset=utf-8", []byte(p.Text))
}
