package shops

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"koala/acquiring"
	"koala/internal/db"
	"koala/issuing"
	"koala/web"
	"koala/web/ops/shell"
)

// passageRows is how many passages are shown for one reason; those before them
// need another.
const passageRows = 200

// A siteView is one place with doors.
type siteView struct {
	facts    []web.Fact
	grants   web.Table
	passages web.Table // empty ID: not opened
	acts     []shell.Question
	deeds    []web.Happening
}

func sitePath(id string) string { return here + "/sites/" + id }

// site shows who may pass the doors of a site; who passed is opened by
// passagesOf, with a reason.
func (d Deps) site(w http.ResponseWriter, r *http.Request) error {
	var s acquiring.Site
	var v siteView
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		if s, err = acquiring.SiteOf(q, r.PathValue("id")); err != nil {
			return err
		}
		at := sitePath(s.ID)
		v.facts = siteFacts(s)
		grants, err := acquiring.Grants(q, s.ID, "", 500)
		if err != nil {
			return err
		}
		v.grants = grantTable(grants)
		doors, err := doorCards(q)
		if err != nil {
			return err
		}
		v.acts = siteActs(at, grants, doors)
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a site: %w", err)
	}
	return d.Desk.Show(w, r, web.Page{Title: name(s.NameEN, s.NameZH), Lead: words.SiteLead, Back: here + "/sites", Here: here}, sitePage(v))
}

func siteFacts(s acquiring.Site) []web.Fact {
	return []web.Fact{{Name: words.Site, Value: s.ID, Mono: true}, {Name: words.Number, Value: web.Number(int64(s.Number))}, {Name: words.Owner, Value: s.Owner, Href: "/ops/customers/" + s.Owner, Mono: true},
		{Name: words.Firm, Value: s.Firm}, {Name: words.Keeps, Show: shell.Phrase(words.DaysOf.F(s.KeepDays))}, {Name: words.Since, Value: web.Moment(s.Made)}}
}

func grantTable(list []acquiring.Grant) web.Table {
	t := web.Table{ID: "grants", NoCSV: true, Empty: words.NoGrants, Head: []web.Column{{Name: words.Card}, {Name: words.Zone, Num: true}, {Name: words.Schedule, Num: true}}}
	for _, g := range list {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(shell.Masked(g.Card)), web.Count(int64(g.Zone)), web.Count(int64(g.Schedule))}})
	}
	return t
}

// doorCards are the door cards in use, of any site, by number.
func doorCards(q *db.Query) (out []web.Option, err error) {
	list, err := shell.Gather(web.Paging{Limit: 500}, func(after string, limit int) ([]issuing.Card, error) {
		return issuing.List(q, issuing.CardID(after), limit)
	},
		func(c issuing.Card) string { return string(c.ID) }, func(c issuing.Card) bool { return c.Kind == issuing.Door && !c.State.Over() })
	for _, c := range list {
		out = append(out, web.Option{Value: string(c.ID), Name: web.Same(shell.Masked(c.ID) + " · " + string(c.Customer))})
	}
	return out, err
}

func siteActs(at string, grants []acquiring.Grant, doors []web.Option) []shell.Question {
	out := []shell.Question{{ID: "ask-passages", Action: at + "/passages", Open: words.Passages, Body: words.PassagesBody, Icon: "door-open", Receiver: at[strings.LastIndex(at, "/")+1:], About: words.Site}}
	if len(doors) > 0 {
		out = append(out, shell.Question{ID: "ask-admit", Action: at + "/admit", Open: words.Admit, Body: words.AdmitBody, Icon: "check", Fields: []web.Field{
			{Name: "card", Label: words.Card, Type: "select", Options: doors, Required: true}, {Name: "zone", Label: words.Zone, Type: "number", Mode: "numeric", Required: true, Max: 5},
			{Name: "schedule", Label: words.Schedule, Type: "number", Mode: "numeric", Required: true, Max: 5}}})
	}
	var held []web.Option
	for _, g := range grants {
		if o := (web.Option{Value: string(g.Card), Name: web.Same(shell.Masked(g.Card))}); !slices.Contains(held, o) {
			held = append(held, o)
		}
	}
	if len(held) > 0 {
		out = append(out, shell.Question{ID: "ask-expel", Action: at + "/expel", Open: words.Expel, Body: words.ExpelBody, Icon: "ban", Danger: true, Choices: held})
	}
	return out
}

// passagesOf opens the log of a site's doors at its owner's request: passages are
// personal, so that the reason is kept in the unit that reads them.
func (d Deps) passagesOf(w http.ResponseWriter, r *http.Request) error {
	ctx, at, before := r.Context(), sitePath(r.PathValue("id")), r.PostFormValue("before")
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	var s acquiring.Site
	var list []acquiring.Passage
	err = d.Desk.Store.Write(ctx, func(tx *db.Tx) (err error) {
		if s, err = acquiring.SiteOf(tx, r.PathValue("id")); err != nil {
			return err
		}
		if list, err = acquiring.PassagesAt(tx, s.ID, s.Owner, before, passageRows); err != nil {
			return err
		}
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActPassages, Target: at, What: fmt.Sprintf("%s: %d", s.ID, len(list)), Why: reason})
	})
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	v := siteView{facts: siteFacts(s), passages: passageTable(ctx, list)}
	if len(list) == passageRows {
		v.acts = []shell.Question{{ID: "ask-older", Action: at + "/passages", Open: words.Older, Body: words.PassagesBody, Icon: "door-open", Hidden: [][2]string{{"before", list[len(list)-1].ID}}, Receiver: s.ID, About: words.Site}}
	}
	w.Header().Set("Cache-Control", "no-store")
	return d.Desk.Show(w, r, web.Page{Title: words.Passages, Lead: name(s.NameEN, s.NameZH), Back: at, Here: here}, sitePage(v))
}

func passageTable(ctx context.Context, list []acquiring.Passage) web.Table {
	t := web.Table{ID: "passages", NoCSV: true, Empty: words.NoPassages, Head: []web.Column{{Name: words.PassedAt, Num: true}, {Name: words.Door}, {Name: words.Card}, {Name: words.State}}}
	for _, p := range list {
		state, card := web.Status(ctx, web.Good, words.Opened), shell.None()
		if !p.Opened {
			state = web.Status(ctx, web.Warn, words.Refused.F(int(p.Reason)))
		}
		if p.Card != "" {
			card = web.Mono(shell.Masked(p.Card))
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{shell.At(p.At), web.Mono(p.TID), card, state}})
	}
	return t
}

// admit gives a door card a grant.
func (d Deps) admit(w http.ResponseWriter, r *http.Request) error {
	id, card := r.PathValue("id"), issuing.CardID(r.PostFormValue("card"))
	zone, err1 := strconv.ParseUint(r.PostFormValue("zone"), 10, 16)
	schedule, err2 := strconv.ParseUint(r.PostFormValue("schedule"), 10, 16)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("zone or schedule of a grant: %w", shell.ErrForm)
	}
	what := fmt.Sprintf("%s: zone %d, schedule %d", shell.Masked(card), zone, schedule)
	return d.Desk.Change(w, r, sitePath(id), words.Changed, shell.Deed{Act: shell.ActAdmit, Target: sitePath(id), What: what}, func(tx *db.Tx) error {
		if _, err := acquiring.SiteOf(tx, id); err != nil {
			return err
		}
		return acquiring.Admit(tx, acquiring.Grant{Site: id, Card: card, Zone: uint16(zone), Schedule: uint16(schedule)})
	})
}

// expel takes a card's grants away; its doors know with their next plan.
func (d Deps) expel(w http.ResponseWriter, r *http.Request) error {
	id, card := r.PathValue("id"), issuing.CardID(r.PostFormValue("decision"))
	return d.Desk.Change(w, r, sitePath(id), words.Changed, shell.Deed{Act: shell.ActExpel, Target: sitePath(id), What: shell.Masked(card)}, func(tx *db.Tx) error {
		grants, err := acquiring.Grants(tx, id, "", 500)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(grants, func(g acquiring.Grant) bool { return g.Card == card }) {
			return fmt.Errorf("grants of card %s at site %s: %w", shell.Masked(card), id, acquiring.ErrNotFound)
		}
		return acquiring.Expel(tx, id, card)
	})
}

// cities are those that the house's shops stand in, as the data names them.
var cities = map[string]web.Text{"Beijing": {ZH: "北京", EN: "Beijing"}}

// city names a shop's city in both languages; one that is not listed stands as it
// was registered.
func city(s string) web.Text {
	if t, ok := cities[s]; ok {
		return t
	}
	return web.Same(s)
}
