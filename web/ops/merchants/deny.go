package merchants

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/web"
	"koala/web/ops/shell"
)

const atDeny = here + "/deny"

// A denyChange adds entries to the deny list, or lifts one.
type denyChange struct {
	Lift  string      `json:",omitempty"` // key of an entry
	Shown string      `json:",omitempty"` // the entry, as it may be shown
	File  string      `json:",omitempty"` // name of a file; empty: entered by hand
	Lines []denyEntry `json:",omitempty"`
}

// A denyEntry is a line of a file with what came of it: an entry, or why not.
type denyEntry struct {
	Line   int
	Kind   string
	Shown  string // an identity number masked
	Entry  merchant.Denied
	Known  bool   `json:",omitempty"` // it was on the list
	Wrong  string `json:",omitempty"` // code of the failure
	Detail string `json:",omitempty"`
}

func (c denyChange) good() (n int) {
	for _, l := range c.Lines {
		if l.Wrong == "" {
			n++
		}
	}
	return n
}

// Deed is shell.Change's.
func (c denyChange) Deed(proposal.State) shell.Deed {
	return shell.Deed{Act: shell.ActDenial, Target: atDeny, What: c.Text(nil).EN}
}

// Text is shell.Change's.
func (c denyChange) Text(db.Reader) web.Text {
	switch {
	case c.Lift != "":
		return words.ChangeLift.F(c.Shown)
	case c.File != "":
		return words.ChangeImport.F(c.File, c.good(), len(c.Lines)-c.good())
	}
	return named(words.ChangeDeny, kindName(c.Lines[0].Kind), c.Lines[0].Shown)
}

// Holds is shell.Change's: Make says all there is to say against it.
func (c denyChange) Holds(db.Reader, time.Time) error { return nil }

// Make is shell.Change's.
func (c denyChange) Make(tx *db.Tx, p proposal.Proposal) error {
	if c.Lift != "" {
		return merchant.Lift(tx, c.Lift)
	}
	for _, l := range c.Lines {
		if l.Wrong != "" {
			continue
		}
		l.Entry.By = p.By + ", " + p.Decider
		if err := merchant.Deny(tx, l.Entry); err != nil {
			return fmt.Errorf("line %d: %w", l.Line, err)
		}
	}
	return nil
}

func kindName(kind string) web.Text {
	switch kind {
	case merchant.DenyName:
		return words.Name
	case merchant.DenyLicence:
		return words.Licence
	case merchant.DenyPerson:
		return words.Person
	}
	return web.Same(kind)
}

// shownValue is what may be shown of an entry: persons stand on the list by a
// token.
func shownValue(d merchant.Denial) string {
	if d.Kind() == merchant.DenyPerson && len(d.Value()) > 8 {
		return d.Value()[:8] + "…"
	}
	return d.Value()
}

// A denyView is the deny list.
type denyView struct {
	list    shell.ListView
	waiting waitingView
	file    bool // who looks may bring a file
}

func (d Deps) denials(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(x merchant.Denial) string { return x.Key }
	find := strings.TrimSpace(r.FormValue("find"))
	v := denyView{file: shell.MayChange(ctx)}
	var list []merchant.Denial
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]merchant.Denial, error) {
			return merchant.Denials(q, after, limit)
		}, key, func(x merchant.Denial) bool {
			return find == "" || strings.Contains(strings.ToLower(x.Value()+" "+x.Why+" "+x.Source), strings.ToLower(find))
		})
		if err != nil {
			return err
		}
		v.waiting.table, v.waiting.acts, err = two.Waiting(ctx, q, denyKind)
		return err
	})
	if err != nil {
		return fmt.Errorf("deny list: %w", err)
	}
	t := web.Table{ID: "denials", Empty: words.NoDenials, Head: []web.Column{{Name: words.Kind}, {Name: words.Who}, {Name: words.Reason}, {Name: words.Source}, {Name: words.By}, {Name: words.Since, Num: true}}}
	for _, x := range list {
		t.Rows = append(t.Rows, web.Row{Href: atDeny + "/entries/" + hex.EncodeToString([]byte(x.Key)), Cells: []web.Cell{web.Plain(kindName(x.Kind()).In(ctx)), shell.Written(shownValue(x)), shell.Written(x.Why), shell.Written(x.Source), web.Plain(x.By), shell.At(x.At)}})
	}
	t.Next = shell.NextOf(r, list, pg, key)
	v.list = shell.ListView{Table: t, Filter: []web.Field{{Name: "find", Label: words.Who, Type: "search", Value: find, Max: 60}}, Acts: []shell.Question{denyQuestion()}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, page(), denyPage(v))
}

func denyQuestion() shell.Question {
	kinds := []web.Option{{Value: merchant.DenyName, Name: words.Name}, {Value: merchant.DenyLicence, Name: words.Licence}, {Value: merchant.DenyPerson, Name: words.Person}}
	return shell.Question{ID: "ask-deny", Action: atDeny, Open: words.AddDenial, Body: words.AddDenialBody, Icon: "plus",
		Fields: []web.Field{{Name: "kind", Label: words.Kind, Type: "select", Options: kinds}, {Name: "value", Label: words.Who, Required: true, Max: merchant.MaxName},
			{Name: "source", Label: words.Source, Hint: words.SourceHint, Required: true, Max: 60}}}
}

// denial shows one entry, which may be lifted.
func (d Deps) denial(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	x, err := d.entry(r)
	if err != nil {
		return err
	}
	facts := []web.Fact{{Name: words.Kind, Show: shell.Phrase(kindName(x.Kind()))}, {Name: words.Who, Show: web.AsWritten(shownValue(x))}, {Name: words.Reason, Show: web.AsWritten(x.Why)},
		{Name: words.Source, Show: web.AsWritten(x.Source)}, {Name: words.By, Value: x.By}, {Name: words.Since, Value: web.Moment(x.At)}}
	acts := []shell.Question{{ID: "ask-lift", Action: r.URL.Path, Open: words.LiftIt, Body: words.LiftBody, Icon: "check", Receiver: shownValue(x), About: kindName(x.Kind())}}
	return d.Desk.Show(w, r, web.Page{Title: web.Same(shownValue(x)), Lead: words.DenyList, Back: atDeny, Here: here}, factsPage(facts, acts, kindName(x.Kind()).In(ctx)))
}

func (d Deps) entry(r *http.Request) (x merchant.Denial, err error) {
	key, err := hex.DecodeString(r.PathValue("key"))
	if err != nil {
		return x, fmt.Errorf("entry of the deny list: %w", web.ErrNoPage)
	}
	err = d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		x, err = merchant.DenialOf(q, string(key))
		return err
	})
	return x, err
}

// lift proposes to take an entry off the list.
func (d Deps) lift(w http.ResponseWriter, r *http.Request) error {
	x, err := d.entry(r)
	if err != nil {
		return err
	}
	return two.Propose(d.Desk, w, r, atDeny, denyKind+":"+x.Key, denyChange{Lift: x.Key, Shown: shownValue(x)})
}

// deny proposes an entry that is made by hand.
func (d Deps) deny(w http.ResponseWriter, r *http.Request) error {
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, atDeny, err)
	}
	l := merchant.DenyLine{Kind: r.PostFormValue("kind"), Value: strings.TrimSpace(r.PostFormValue("value")), Why: reason, Source: strings.TrimSpace(r.PostFormValue("source"))}
	e, err := d.entryOf(r.Context(), l)
	if err != nil {
		return err
	}
	return two.Propose(d.Desk, w, r, atDeny, denyKind+":"+e.Entry.Key(), denyChange{Lines: []denyEntry{e}})
}

// entryOf makes a line what a proposal keeps of it: never an identity number.
func (d Deps) entryOf(ctx context.Context, l merchant.DenyLine) (e denyEntry, err error) {
	e = denyEntry{Line: l.Line, Kind: l.Kind, Shown: l.Value}
	if e.Entry, err = d.Merchants.Denied(ctx, l); err != nil {
		return e, err
	}
	if l.Kind == merchant.DenyPerson {
		e.Shown = l.Value[:6] + "********" + l.Value[14:]
	}
	return e, nil
}

// denyFile proposes the good lines of a file; the report says what is wrong with
// the others.
func (d Deps) denyFile(w http.ResponseWriter, r *http.Request) error {
	const form = 64 << 10 // of the other fields
	ctx := r.Context()
	r.Body = http.MaxBytesReader(w, r.Body, merchant.MaxDenyBytes+form)
	if err := r.ParseMultipartForm(merchant.MaxDenyBytes + form); err != nil {
		return fmt.Errorf("file of denials: %w: %w", merchant.ErrDeny, err)
	}
	f, head, err := r.FormFile("file")
	if err != nil {
		return fmt.Errorf("file of denials: %w", merchant.ErrDeny)
	}
	defer f.Close()
	list, err := merchant.ReadDenials(f)
	if err != nil {
		return err
	}
	c := denyChange{File: head.Filename}
	if len(c.File) > 60 || strings.ContainsAny(c.File, "\r\n") {
		c.File = "denials.csv"
	}
	sum := sha256.New()
	for _, l := range list {
		e, err := denyEntry{Line: l.Line, Kind: l.Kind}, l.Err
		if err == nil {
			e, err = d.entryOf(ctx, l)
		}
		if err != nil {
			e.Entry, e.Wrong, e.Detail = merchant.Denied{Why: l.Why, Source: l.Source}, fail.Of(err).Code, fail.Of(err).Text
			if e.Shown = l.Value; l.Kind != merchant.DenyName && l.Kind != merchant.DenyLicence { // it may be an identity number with a slip
				e.Shown = ""
			}
		}
		fmt.Fprintln(sum, e.Entry.Key(), e.Entry.Why, e.Entry.Source)
		c.Lines = append(c.Lines, e)
	}
	if c.good() == 0 {
		return d.Desk.Show(w, r, web.Page{Title: web.Same(c.File), Lead: words.NothingGood, Back: atDeny, Here: here}, importPage(importOf(ctx, c, waitingView{})))
	}
	if err := d.known(ctx, c.Lines); err != nil {
		return err
	}
	return two.Propose(d.Desk, w, r, atDeny, denyKind+":file "+hex.EncodeToString(sum.Sum(nil)[:16]), c)
}

// known marks lines that are on the list already.
func (d Deps) known(ctx context.Context, lines []denyEntry) error {
	return d.Desk.Store.Read(ctx, func(q *db.Query) error {
		for i, l := range lines {
			if l.Wrong != "" {
				continue
			}
			_, err := merchant.DenialOf(q, l.Entry.Key())
			if err != nil && !errors.Is(err, merchant.ErrNotFound) {
				return err
			}
			lines[i].Known = err == nil
		}
		return nil
	})
}

// An importView is the report of a file, or of one entry that is proposed.
type importView struct {
	facts   []web.Fact
	lines   web.Table
	waiting waitingView
}

func importOf(ctx context.Context, c denyChange, waits waitingView) importView {
	v := importView{waiting: waits, facts: []web.Fact{{Name: words.Lines, Value: web.Number(int64(len(c.Lines)))}, {Name: words.GoodLines, Value: web.Number(int64(c.good()))}, {Name: words.BadLines, Value: web.Number(int64(len(c.Lines) - c.good()))}}}
	v.lines = web.Table{ID: "lines", Empty: words.NoDenials, Head: []web.Column{{Name: words.LineNo, Num: true}, {Name: words.Kind}, {Name: words.Who}, {Name: words.Reason}, {Name: words.Source}, {Name: words.Result}}}
	for _, l := range c.Lines {
		result := web.Status(ctx, web.Good, words.LineGood)
		switch {
		case l.Wrong != "":
			result = web.Plain(words.LineWrong.F(web.FailureText(l.Wrong, l.Detail).In(ctx)).In(ctx))
		case l.Known:
			result = web.Status(ctx, web.Info, words.LineKnown)
		}
		v.lines.Rows = append(v.lines.Rows, web.Row{Cells: []web.Cell{web.Count(int64(l.Line)), web.Plain(kindName(l.Kind).In(ctx)), shell.Written(l.Shown), shell.Written(l.Entry.Why), shell.Written(l.Entry.Source), result}})
	}
	return v
}

// denyProposal shows what is proposed of the deny list, line by line.
func (d Deps) denyProposal(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var p proposal.Proposal
	var c denyChange
	var waits waitingView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if p, err = proposal.Of(q, denyKind, r.PathValue("id")); err == nil {
			err = p.Read(&c)
		}
		if err == nil && p.State == proposal.Open {
			waits.table, waits.acts, err = two.Show(ctx, q, []proposal.Proposal{p})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("proposal about the deny list: %w", err)
	}
	v := importOf(ctx, c, waits)
	if c.Lift != "" {
		v = importView{waiting: waits}
	}
	v.facts = append([]web.Fact{{Name: words.State, Show: shell.Phrase(shell.Both(p.State.Words))}, {Name: words.Proposer, Value: p.By}, {Name: words.Reason, Show: web.AsWritten(p.Why)}}, v.facts...)
	if p.Decider != "" {
		v.facts = append(v.facts, web.Fact{Name: words.By, Value: p.Decider})
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.lines)
	}
	return d.Desk.Show(w, r, web.Page{Title: c.Text(nil), Lead: words.DenyList, Back: atDeny, Here: here}, importPage(v))
}
