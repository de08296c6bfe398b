package shops

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"koala/acquiring"
	"koala/internal/db"
	"koala/web"
	"koala/web/ops/shell"
)

// quietAfter is how long a device may be silent before it stands out.
const quietAfter = 24 * time.Hour

// health is the worst that is to be said of a device.
func health(x acquiring.Device, missing int64, now time.Time) (web.Tone, web.Text) {
	switch {
	case x.State == acquiring.Suspended:
		return web.Bad, shell.Both(x.State.Words)
	case x.State != acquiring.Active:
		return web.Neutral, shell.Both(x.State.Words)
	case missing > 0:
		return web.Bad, words.NumbersMissing.F(int(missing))
	case x.Seen.IsZero():
		return web.Neutral, words.NeverSeen
	case now.Sub(x.Seen) > quietAfter:
		return web.Warn, words.Quiet
	}
	return web.Good, words.Well
}

func missingOf(gaps []acquiring.Gap) map[string]int64 {
	out := map[string]int64{}
	for _, g := range gaps {
		out[g.TID] += int64(g.High) - int64(g.Low) + 1
	}
	return out
}

var kinds = []acquiring.Kind{acquiring.POS, acquiring.Canteen, acquiring.Door, acquiring.Coupon}

// devices lists every till, door and coupon till with how it is.
func (d Deps) devices(w http.ResponseWriter, r *http.Request) error {
	kind := acquiring.Kind(r.FormValue("kind"))
	if kind != "" && !slices.Contains(kinds, kind) {
		return fmt.Errorf("filter of devices: %w", shell.ErrForm)
	}
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	var list []acquiring.Device
	var gaps []acquiring.Gap
	var keep func(acquiring.Device) bool
	if kind != "" {
		keep = func(x acquiring.Device) bool { return x.Kind == kind }
	}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if gaps, err = acquiring.Gaps(q, "", 500); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Device, error) {
			return acquiring.Devices(q, r.FormValue("shop"), after, limit)
		}, number, keep)
		return err
	})
	if err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	options := []web.Option{{Name: words.All}}
	for _, k := range kinds {
		options = append(options, web.Option{Value: string(k), Name: shell.Both(k.Words)})
	}
	v := shell.ListView{Table: deviceTable(ctx, list, missingOf(gaps), d.Desk.Store.Now()), Filter: []web.Field{{Name: "kind", Label: words.Kind, Type: "select", Options: options, Value: string(kind)},
		{Name: "shop", Label: words.Shop, Type: "search", Value: r.FormValue("shop"), Max: acquiring.MaxID}}}
	v.Table.Next = shell.NextOf(r, list, pg, number)
	return d.show(w, r, "/devices", v)
}

func number(x acquiring.Device) string { return x.TID }

func deviceTable(ctx context.Context, list []acquiring.Device, missing map[string]int64, now time.Time) web.Table {
	t := web.Table{ID: "devices", Empty: words.NoDevices, Head: []web.Column{{Name: words.Device}, {Name: words.Kind}, {Name: words.Health}, {Name: words.Place}, {Name: words.Shop},
		{Name: words.LastSeen, Num: true}, {Name: words.LastNumber, Num: true}, {Name: words.Gap, Num: true}}}
	for _, x := range list {
		tone, word := health(x, missing[x.TID], now)
		at := x.Shop
		if at == "" {
			at = x.Site
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/devices/" + x.TID, Cells: []web.Cell{web.Mono(x.TID), shell.Short(shell.Both(x.Kind.Words).In(ctx)), web.Status(ctx, tone, word),
			web.Plain(name(x.PlaceEN, x.PlaceZH).In(ctx)), web.Plain(at), {Text: shell.Ago(now, x.Seen).In(ctx), CSV: web.When(x.Seen).Text}, web.Count(int64(x.Next) - 1), web.Count(missing[x.TID])}})
	}
	return t
}

// A deviceView is one device.
type deviceView struct {
	facts []web.Fact
	gaps  web.Table
	last  web.Table
	acts  []shell.Question
	deeds []web.Happening
}

func (d Deps) device(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	at := here + "/devices/" + r.PathValue("tid")
	var x acquiring.Device
	var v deviceView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if x, err = acquiring.DeviceOf(q, r.PathValue("tid")); err != nil {
			return err
		}
		gaps, err := acquiring.Gaps(q, x.TID, 500)
		if err != nil {
			return err
		}
		v.facts, v.gaps = d.deviceFacts(x, gaps), gapTable(gaps)
		if v.last, err = lastOf(ctx, q, acquiring.Filter{TID: x.TID, Limit: 20}, x.Kind); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a device: %w", err)
	}
	v.acts = deviceActs(x, at)
	return d.Desk.Show(w, r, web.Page{Title: name(x.PlaceEN, x.PlaceZH), Lead: shell.Both(x.Kind.Words), Back: here + "/devices", Here: here}, devicePage(v))
}

func (d Deps) deviceFacts(x acquiring.Device, gaps []acquiring.Gap) []web.Fact {
	tone, word := health(x, missingOf(gaps)[x.TID], d.Desk.Store.Now())
	facts := []web.Fact{{Name: words.Health, Show: web.Chip(tone, word)}, {Name: words.State, Show: shell.Phrase(shell.Both(x.State.Words))}, {Name: words.Device, Value: x.TID, Mono: true}}
	if x.MID != "" {
		facts = append(facts, web.Fact{Name: words.MID, Value: x.MID, Mono: true})
	}
	if x.Shop != "" {
		facts = append(facts, web.Fact{Name: words.Shop, Value: x.Shop, Href: here + "/" + x.Shop})
	}
	if x.Site != "" {
		facts = append(facts, web.Fact{Name: words.Site, Value: x.Site, Href: sitePath(x.Site)})
	}
	return append(facts, web.Fact{Name: words.LastSeen, Show: shell.Phrase(shell.Ago(d.Desk.Store.Now(), x.Seen))}, web.Fact{Name: words.LastNumber, Value: web.Number(int64(x.Next) - 1)})
}

func gapTable(gaps []acquiring.Gap) web.Table {
	t := web.Table{ID: "gaps", NoCSV: true, Empty: words.NoGaps, Head: []web.Column{{Name: words.FromNumber, Num: true}, {Name: words.ToNumber, Num: true}, {Name: words.Since, Num: true}}}
	for _, g := range gaps {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Count(int64(g.Low)), web.Count(int64(g.High)), shell.At(g.Opened)}})
	}
	return t
}

// moves are the changes of a device's state that staff make.
var moves = []struct {
	act        string
	to         acquiring.State
	open, body web.Text
	icon       string
	danger     bool
}{
	{"suspend", acquiring.Suspended, words.Suspend, words.SuspendBody, "pause", true}, {"resume", acquiring.Active, words.Resume, words.ResumeBody, "play", false},
	{"reinstall", acquiring.Registered, words.Reinstall, words.ReinstallBody, "wrench", false}, {"retire", acquiring.Retired, words.Retire, words.RetireBody, "trash-2", true},
}

// allowed tells whether staff may make a move: only an installation makes a
// registered device work, and what waits for one may get another transport key.
func allowed(x acquiring.Device, to acquiring.State) bool {
	return x.State == to && to == acquiring.Registered || x.State.May(to) && (to != acquiring.Active || x.State != acquiring.Registered)
}

func deviceActs(x acquiring.Device, at string) (out []shell.Question) {
	for _, a := range moves {
		if allowed(x, a.to) {
			out = append(out, shell.Question{ID: "ask-" + a.act, Action: at + "/" + a.act, Open: a.open, Body: a.body, Icon: a.icon, Danger: a.danger, Receiver: x.TID, About: words.Device})
		}
	}
	return out
}

func (d Deps) setState(w http.ResponseWriter, r *http.Request) error {
	tid, act := r.PathValue("tid"), r.PathValue("act")
	at := here + "/devices/" + tid
	for _, a := range moves {
		if a.act != act {
			continue
		}
		if a.to == acquiring.Registered {
			return d.reinstall(w, r, tid, at)
		}
		return d.Desk.Change(w, r, at, words.Changed, shell.Deed{Act: shell.ActDevice, Target: at, What: tid + ": " + string(a.to)}, func(tx *db.Tx) error {
			x, err := acquiring.DeviceOf(tx, tid)
			if err == nil && !allowed(x, a.to) {
				err = fmt.Errorf("device %s: %w", tid, acquiring.ErrState)
			}
			if err != nil {
				return err
			}
			return setState(tx, r, tid, a.to)
		})
	}
	return fmt.Errorf("act %q on a device: %w", act, web.ErrNoPage)
}

// setState moves a device on by a decision of who looks at the page.
func setState(tx *db.Tx, r *http.Request, tid string, to acquiring.State) error {
	reason, err := shell.Why(r)
	if err != nil {
		return err
	}
	u, _ := web.Who(r.Context())
	return acquiring.SetState(tx, tid, to, u.Name, reason)
}

// reinstall opens a device for installation and shows the transport key that its
// installer carries there, this once: it is not kept.
func (d Deps) reinstall(w http.ResponseWriter, r *http.Request, tid, at string) error {
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	t, err := d.Office.DrawTransport(r.Context(), tid)
	if err == nil {
		err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
			if err := setState(tx, r, tid, acquiring.Registered); err != nil {
				return err
			}
			if err := t.Keep(tx); err != nil {
				return err
			}
			return shell.Keep(tx, r, shell.Deed{Act: shell.ActDevice, Target: at, What: fmt.Sprintf("%s: %s, %X", tid, acquiring.Registered, t.Form.KCV), Why: reason})
		})
	}
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return d.Desk.Show(w, r, web.Page{Title: words.Transport, Lead: words.TransportLead, Back: at, Here: here}, transportPage(t, at))
}

// formFacts are the form's two components with their check values.
func formFacts(t acquiring.Transport) []web.Fact {
	f := t.Form
	return []web.Fact{{Name: words.Device, Value: f.TID, Mono: true},
		{Name: words.ComponentA, Value: fmt.Sprintf("%X", f.Parts[0][:]), Mono: true}, {Name: words.CheckA, Value: fmt.Sprintf("%X", f.Checks[0]), Mono: true},
		{Name: words.ComponentB, Value: fmt.Sprintf("%X", f.Parts[1][:]), Mono: true}, {Name: words.CheckB, Value: fmt.Sprintf("%X", f.Checks[1]), Mono: true},
		{Name: words.CheckKey, Value: fmt.Sprintf("%X", f.KCV), Mono: true}}
}
