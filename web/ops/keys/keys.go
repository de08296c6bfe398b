// Package keys is where staff see the house's keys: labels, uses, versions and
// check values, and how many card keys are ready. No function of the house gives
// a key away, so there is nothing more to show. Start at Routes.
package keys

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/hsm"
	"koala/internal/db"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk shell.Desk
	HSM  *hsm.HSM
}

const here = "/ops/keys"

// The pool of card keys: below low the page warns, one order to fill makes up
// to full.
const (
	low  = 20
	fill = 50
)

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("POST "+here+"/rotate", d.rotate)
	m.Handle("POST "+here+"/fill", d.fill)
}

func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	list, err := d.HSM.List(ctx)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	ready, err := d.HSM.PoolSize(ctx)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	hosts, find, pg := r.FormValue("of") == "hosts", strings.TrimSpace(r.FormValue("label")), web.PageOf(r, shell.Rows)
	whole := list
	list = slices.DeleteFunc(slices.Clone(list), func(k hsm.KeyInfo) bool {
		return shared(k.Label) != hosts || !strings.Contains(strings.ToLower(k.Label), strings.ToLower(find)) || pg.After != "" && k.Label <= pg.After
	})
	slices.SortStableFunc(list, func(a, b hsm.KeyInfo) int { return strings.Compare(a.Label, b.Label) })
	if len(list) > pg.Limit && hosts { // those of other banks are many
		list = list[:pg.Limit]
	}
	newest := map[string]byte{}
	for _, k := range whole {
		newest[k.Label] = max(newest[k.Label], k.Version)
	}
	t := web.Table{ID: "keys", Empty: words.NoKeys, Head: []web.Column{{Name: words.Label}, {Name: words.Purpose}, {Name: words.Use}, {Name: words.Version, Num: true}, {Name: words.State}, {Name: words.KCV}, {Name: words.Made, Num: true}}}
	for _, k := range list {
		tone, word := web.Good, words.Newest
		if k.Version < newest[k.Label] {
			tone, word = web.Neutral, words.Older
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(k.Label), web.Plain(purposeOf(k).In(ctx)), web.Mono(string(k.Usage)),
			web.Count(int64(k.Version)), web.Status(ctx, tone, word), web.Mono(fmt.Sprintf("%X", k.KCV)), shell.At(k.At)}})
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	t.Next = ""
	if hosts && len(list) == pg.Limit {
		t.Next = shell.NextOf(r, list, pg, func(k hsm.KeyInfo) string { return k.Label })
	}
	v := view{table: t, acts: questions(whole), tabs: []shell.Tab{{Href: here, Name: words.OfTheHouse, Here: !hosts}, {Href: here + "?of=hosts", Name: words.WithHosts, Here: hosts}, {Href: "/ops/terminals/keys", Name: words.OfTerminals}}}
	if hosts {
		v.acts = nil
		v.filter = []web.Field{{Name: "of", Value: "hosts", Type: "hidden"}, {Name: "label", Label: words.Label, Type: "search", Value: find, Max: 60}}
	}
	v.pool = web.Figure{Name: words.Pool, Value: web.Number(int64(ready)), Icon: "key-round", DeltaText: words.PoolNote}
	if ready < low {
		v.pool.Tone, v.warning = web.Warn, words.PoolLow.F(ready)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, keysPage(v))
}

// zone begins the labels of the keys that the house shares with an issuer's
// host.
const zone = "zone."

func shared(label string) bool { return strings.HasPrefix(label, zone) && label != hsm.LabelZone }

type view struct {
	tabs    []shell.Tab
	filter  []web.Field
	pool    web.Figure
	warning web.Text
	table   web.Table
	acts    []shell.Question
}

// sets are the keys that staff rotate, those together that belong together:
// elements and bank cards name the version they were made under. Keys that
// devices outside hold too (purse roots in gates' modules, the key of packs, PIN
// zone, CA), and those that kept data needs in one version, are not offered.
var sets = []struct {
	value  string
	name   web.Text
	labels []string
}{
	{"channel", words.SetChannel, []string{hsm.LabelENC, hsm.LabelMAC, hsm.LabelDEK}},
	{"bank", words.SetBank, []string{hsm.LabelCardAC, hsm.LabelCardMAC, hsm.LabelCardENC}},
}

func has(list []hsm.KeyInfo, labels []string) bool {
	for _, l := range labels {
		if !slices.ContainsFunc(list, func(k hsm.KeyInfo) bool { return k.Label == l }) {
			return false
		}
	}
	return true
}

func questions(list []hsm.KeyInfo) []shell.Question {
	var options []web.Option
	for _, s := range sets {
		if has(list, s.labels) {
			options = append(options, web.Option{Value: s.value, Name: s.name})
		}
	}
	out := []shell.Question{{ID: "ask-fill", Action: here + "/fill", Open: words.Fill, Body: words.FillBody.F(fill), Icon: "plus"}}
	if len(options) > 0 {
		out = append(out, shell.Question{ID: "ask-rotate", Action: here + "/rotate", Open: words.Rotate, Body: words.RotateBody, Icon: "refresh-cw", Danger: true, Choices: options})
	}
	return out
}

// rotate makes the next version of a set of keys. The hsm has done it before
// the row of the trail is written; should that fail, the error says so.
func (d Deps) rotate(w http.ResponseWriter, r *http.Request) error {
	i := slices.IndexFunc(sets, func(s struct {
		value  string
		name   web.Text
		labels []string
	}) bool {
		return s.value == r.PostFormValue("decision")
	})
	if i < 0 {
		return fmt.Errorf("keys to rotate: %w", shell.ErrForm)
	}
	return d.act(w, r, shell.ActRotate, words.DidRotate, func(ctx context.Context) (string, error) {
		made, err := d.HSM.Rotate(ctx, sets[i].labels...)
		what := ""
		for _, k := range made {
			what += fmt.Sprintf("%s v%d %X ", k.Label, k.Version, k.KCV)
		}
		return what, err
	})
}

func (d Deps) fill(w http.ResponseWriter, r *http.Request) error {
	return d.act(w, r, shell.ActFill, words.DidFill, func(ctx context.Context) (string, error) {
		made, err := d.HSM.FillPool(ctx, fill)
		return fmt.Sprintf("%d card keys", made), err
	})
}

// act has the hsm do something and keeps the deed.
func (d Deps) act(w http.ResponseWriter, r *http.Request, act shell.Act, said web.Text, do func(context.Context) (string, error)) error {
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, here, err)
	}
	what, err := do(r.Context())
	if err != nil {
		return shell.Sorry(w, r, here, err)
	}
	err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: act, Target: here, What: what, Why: reason})
	})
	if err != nil {
		return err
	}
	return shell.Done(w, r, here, said)
}
