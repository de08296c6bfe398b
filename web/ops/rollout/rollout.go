// Package rollout is where staff bring new releases of the card catalogue to
// bands: publish, widen in stages, watch what bands keep, halt. Start at Routes.
package rollout

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"koala/firmware"
	"koala/internal/db"
	spec "koala/spec/firmware"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk shell.Desk
	// Catalog is the release that the house's card catalogue makes, without its
	// version; nil: nothing can be published from here.
	Catalog func() spec.Release
	// Publish signs a release and keeps it.
	Publish func(context.Context, spec.Release) error
}

const here = "/ops/firmware"

// stages are the shares of bands that a release is offered to, one after the
// other, in percent.
var stages = []int{1, 10, 50, 100}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("POST "+here, d.publish)
	m.Handle("GET "+here+"/{version}", d.one)
	m.Handle("POST "+here+"/{version}/{act}", d.act)
}

func (d Deps) read(ctx context.Context) (list []firmware.Rollout, err error) {
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = firmware.List(q)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("releases: %w", err)
	}
	return list, nil
}

func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	list, err := d.read(ctx)
	if err != nil {
		return err
	}
	t := web.Table{ID: "releases", Empty: words.NoReleases, Head: []web.Column{{Name: words.Version}, {Name: words.State}, {Name: words.News}, {Name: words.Stage, Num: true},
		{Name: words.Kept, Num: true}, {Name: words.Undone, Num: true}, {Name: words.Made, Num: true}}}
	for _, x := range list {
		tone, word := stateOf(x, list)
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + strconv.Itoa(int(x.Version)), Cells: []web.Cell{{Text: "v" + strconv.Itoa(int(x.Version))}, web.Status(ctx, tone, word),
			web.Plain(news(x).In(ctx)), shell.Short(strconv.Itoa(x.Percent) + " %"), web.Count(int64(x.Kept)), web.Count(int64(x.Undone)), shell.At(x.Made)}})
	}
	v := shell.ListView{Table: t}
	if d.Catalog != nil {
		next := d.next(list)
		v.Acts = []shell.Question{{ID: "ask-publish", Action: here, Open: words.Publish, Body: words.PublishBody.F(int(next.Version), len(next.Modules)), Icon: "plus",
			Fields: []web.Field{{Name: "zh", Label: words.NewsZH, Value: next.ZH, Required: true, Max: spec.MaxNotes / 4}, {Name: "en", Label: words.NewsEN, Value: next.EN, Required: true, Max: spec.MaxNotes / 2}}}}
	}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, v)
}

// next is the catalogue under the version after the newest.
func (d Deps) next(list []firmware.Rollout) spec.Release {
	rel := d.Catalog()
	rel.Version = 1
	if len(list) > 0 {
		rel.Version = list[0].Version + 1
	}
	return rel
}

func stateOf(x firmware.Rollout, list []firmware.Rollout) (web.Tone, web.Text) {
	switch {
	case x.Halted != "":
		return web.Bad, words.Halted
	case slices.ContainsFunc(list, func(y firmware.Rollout) bool { return y.Version > x.Version && y.Percent == 100 && y.Halted == "" }):
		return web.Neutral, words.Replaced
	case x.Percent == 0:
		return web.Neutral, words.NotOffered
	case x.Percent < 100:
		return web.Info, words.Rolling
	}
	return web.Good, words.Everywhere
}

// news says what is new, in the release's own words.
func news(x firmware.Rollout) web.Text {
	rel, err := spec.Parse(x.Signed)
	if err != nil {
		return web.Same("–")
	}
	return web.Text{ZH: rel.ZH, EN: rel.EN}
}

func (d Deps) publish(w http.ResponseWriter, r *http.Request) error {
	if d.Catalog == nil {
		return fmt.Errorf("publishing a release: %w", web.ErrNoPage)
	}
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, here, err)
	}
	list, err := d.read(r.Context())
	if err != nil {
		return err
	}
	rel := d.next(list)
	if rel.ZH, rel.EN = r.PostFormValue("zh"), r.PostFormValue("en"); rel.ZH == "" || rel.EN == "" || len(rel.ZH) > spec.MaxNotes || len(rel.EN) > spec.MaxNotes {
		return fmt.Errorf("news of a release: %w", shell.ErrForm)
	}
	if err := d.Publish(r.Context(), rel); err != nil {
		return shell.Sorry(w, r, here, err)
	}
	at := here + "/" + strconv.Itoa(int(rel.Version))
	err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActRelease, Target: at, What: fmt.Sprintf("v%d", rel.Version), Why: reason})
	})
	if err != nil {
		return err
	}
	return shell.Done(w, r, at, words.DidPublish)
}

// A view is one release.
type view struct {
	facts   []web.Fact
	steps   []web.Step
	kept    int // of bands that tried it
	undone  int
	halted  string
	modules web.Table
	acts    []shell.Question
	deeds   []web.Happening
}

func version(r *http.Request) (uint32, error) {
	n, err := strconv.ParseUint(r.PathValue("version"), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("release %q: %w", r.PathValue("version"), firmware.ErrNotFound)
	}
	return uint32(n), nil
}

func (d Deps) one(w http.ResponseWriter, r *http.Request) error {
	n, err := version(r)
	if err != nil {
		return err
	}
	ctx, at := r.Context(), here+"/"+strconv.Itoa(int(n))
	var x firmware.Rollout
	var list []firmware.Rollout
	var v view
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if x, err = firmware.Get(q, n); err != nil {
			return err
		}
		if list, err = firmware.List(q); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a release: %w", err)
	}
	tone, word := stateOf(x, list)
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}, {Name: words.News, Show: shell.Phrase(news(x))}, {Name: words.Stage, Value: strconv.Itoa(x.Percent) + " %"},
		{Name: words.Signed, Value: web.Number(int64(len(x.Signed)))}, {Name: words.Made, Value: web.Moment(x.Made)}}
	v.kept, v.undone, v.halted = x.Kept, x.Undone, x.Halted
	v.steps, v.acts, v.modules = steps(x), acts(x, at), modules(x)
	return d.Desk.Show(w, r, web.Page{Title: words.Release.F(int(n)), Lead: words.ReleaseLead, Back: here, Here: here}, releasePage(v))
}

// steps shows how far a release is.
func steps(x firmware.Rollout) []web.Step {
	var out []web.Step
	now := false
	for _, s := range stages {
		step := web.Step{Name: words.ToShare.F(s), State: web.StepTodo}
		switch {
		case x.Percent >= s:
			step.State = web.StepDone
		case !now && x.Halted != "":
			step.State, now = web.StepFailed, true
		case !now:
			step.State, now = web.StepNow, true
		}
		out = append(out, step)
	}
	return out
}

func modules(x firmware.Rollout) web.Table {
	t := web.Table{ID: "modules", NoCSV: true, Empty: words.NoModules, Head: []web.Column{{Name: words.LoadFile}, {Name: words.Module}}}
	rel, err := spec.Parse(x.Signed)
	if err != nil {
		return t
	}
	for _, m := range rel.Modules {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(web.Hex([]byte(m.LoadFile))), web.Mono(web.Hex([]byte(m.Module)))}})
	}
	return t
}

func acts(x firmware.Rollout, at string) []shell.Question {
	if x.Halted != "" {
		return nil
	}
	var out []shell.Question
	var options []web.Option
	for _, s := range stages {
		if s > x.Percent {
			options = append(options, web.Option{Value: strconv.Itoa(s), Name: words.ToShare.F(s)})
		}
	}
	what := "v" + strconv.Itoa(int(x.Version))
	if len(options) > 0 {
		out = append(out, shell.Question{ID: "ask-stage", Action: at + "/stage", Open: words.Widen, Body: words.WidenBody, Icon: "arrow-up-right", Choices: options, Receiver: what, About: words.Version})
	}
	return append(out, shell.Question{ID: "ask-halt", Action: at + "/halt", Open: words.Halt, Body: words.HaltBody, Icon: "pause", Danger: true, Receiver: what, About: words.Version})
}

func (d Deps) act(w http.ResponseWriter, r *http.Request) error {
	n, err := version(r)
	if err != nil {
		return err
	}
	at := here + "/" + strconv.Itoa(int(n))
	switch r.PathValue("act") {
	case "stage":
		percent, err := strconv.Atoi(r.PostFormValue("decision"))
		if err != nil || !slices.Contains(stages, percent) {
			return fmt.Errorf("stage of release %d: %w", n, shell.ErrForm)
		}
		return d.Desk.Change(w, r, at, words.DidWiden, shell.Deed{Act: shell.ActStage, Target: at, What: fmt.Sprintf("v%d %d %%", n, percent)},
			func(tx *db.Tx) error { return firmware.Stage(tx, n, percent) })
	case "halt":
		reason, err := shell.Why(r)
		if err != nil {
			return shell.Sorry(w, r, at, err)
		}
		return d.Desk.Change(w, r, at, words.DidHalt, shell.Deed{Act: shell.ActHalt, Target: at, What: fmt.Sprintf("v%d", n)},
			func(tx *db.Tx) error { return firmware.Halt(tx, n, reason) })
	}
	return fmt.Errorf("act %q on a release: %w", r.PathValue("act"), web.ErrNoPage)
}
