package ops

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"koala/fare"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/purse"
	"koala/transit"
	"koala/web"
	"koala/web/ops/shell"
)

func (p pages) transitRoutes(m *web.Mux) {
	m.Handle("GET /ops/gates", p.gates)
	m.Handle("GET /ops/gates/{terminal}", p.gate)
	m.Handle("GET /ops/journeys", p.journeys)
	m.Handle("GET /ops/journeys/{id}", p.journey)
	m.Handle("POST /ops/journeys/{id}/repair", p.repair)
	m.Handle("POST /ops/journeys/{id}/close", p.acknowledge)
	m.Handle("GET /ops/exceptions", p.exceptions)
	m.Handle("GET /ops/deny", p.denyList)
	m.Handle("POST /ops/deny/publish", p.publishDeny)
}

var deviceKinds = map[transit.DeviceKind]web.Text{transit.EntryGate: words.EntryGate, transit.ExitGate: words.ExitGate, transit.Machine: words.Machine, transit.OnBus: words.BusDevice}

// quietAfter is how long a device may be silent before it stands out.
const quietAfter = time.Hour

// A fleet is what judges devices: the newest deny list and the rules.
type fleet struct {
	now     time.Time
	version uint32
	stale   time.Duration
	missing map[string]int64 // numbers that have not arrived, by terminal
}

func (p pages) fleet(q *db.Query) (fleet, error) {
	f := fleet{now: p.Store.Now(), missing: map[string]int64{}}
	var err error
	if f.version, _, err = transit.DenyVersion(q); err != nil {
		return f, err
	}
	rules, err := transit.RulesAt(f.now)
	if err != nil {
		return f, err
	}
	f.stale = time.Duration(rules.DenyDays) * 24 * time.Hour
	gaps, err := transit.Gaps(q, false, time.Time{}, gapRows)
	for _, g := range gaps {
		f.missing[g.Name] += g.High - g.Low + 1
	}
	return f, err
}

// gapRows is how many gaps a page reads.
const gapRows = 500

// health is the worst that is to be said of a device.
func (f fleet) health(d transit.Device) (web.Tone, web.Text) {
	switch {
	case d.Seen.IsZero():
		return web.Neutral, words.NeverSeen
	case f.missing[d.Terminal.String()] > 0:
		return web.Bad, words.TapsMissing.F(int(f.missing[d.Terminal.String()]))
	case f.now.Sub(d.Seen) > quietAfter:
		return web.Warn, words.Quiet
	case d.DenyVersion < f.version && !d.DenyAt.IsZero() && f.now.Sub(d.DenyAt) > f.stale:
		return web.Warn, words.DenyOld
	case d.DenyVersion < f.version:
		return web.Info, words.DenyBehind.F(int(f.version - d.DenyVersion))
	}
	return web.Good, words.Well
}

func (p pages) readDevices(ctx context.Context, pg web.Paging, keepDevice func(transit.Device) bool) (list []transit.Device, f fleet, err error) {
	err = p.Store.Read(ctx, func(q *db.Query) (err error) {
		if f, err = p.fleet(q); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]transit.Device, error) {
			return transit.Devices(q, after, limit)
		}, deviceKey, keepDevice)
		return err
	})
	return list, f, err
}

func deviceKey(d transit.Device) string { return d.Terminal.String() }

// gates lists every gate, machine and bus with how it is.
func (p pages) gates(w http.ResponseWriter, r *http.Request) error {
	kind, place := transit.DeviceKind(r.FormValue("kind")), strings.TrimSpace(r.FormValue("place"))
	if _, ok := deviceKinds[kind]; kind != "" && !ok {
		return fmt.Errorf("filter of devices: %w", shell.ErrForm)
	}
	var keepDevice func(transit.Device) bool
	if kind != "" || place != "" {
		keepDevice = func(d transit.Device) bool {
			name := p.deviceplace(d)
			return (kind == "" || d.Kind == kind) && (strings.Contains(name.ZH, place) || strings.Contains(strings.ToLower(name.EN), strings.ToLower(place)))
		}
	}
	pg := web.PageOf(r, shell.Rows)
	list, f, err := p.readDevices(r.Context(), pg, keepDevice)
	if err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	ctx := r.Context()
	t := web.Table{ID: "gates", Empty: words.NoDevices, Next: shell.NextOf(r, list, pg, deviceKey), Head: []web.Column{{Name: words.Place}, {Name: words.Kind},
		{Name: words.Health}, {Name: words.LastSeen, Num: true}, {Name: words.LastNumber, Num: true}, {Name: words.Deny, Num: true}, {Name: words.Pack, Num: true}, {Name: words.Terminal}}}
	for _, d := range list {
		tone, word := f.health(d)
		t.Rows = append(t.Rows, web.Row{Href: "/ops/gates/" + d.Terminal.String(), Cells: []web.Cell{web.Plain(p.deviceplace(d).In(ctx)),
			shell.Short(deviceKinds[d.Kind].In(ctx)), web.Status(ctx, tone, word), {Text: shell.Ago(f.now, d.Seen).In(ctx), CSV: web.When(d.Seen).Text},
			web.Count(int64(d.Number)), version(d.DenyVersion), version(d.PackVersion), web.Mono(d.Terminal.String())}})
	}
	options := []web.Option{{Name: words.All}}
	for _, k := range []transit.DeviceKind{transit.EntryGate, transit.ExitGate, transit.Machine, transit.OnBus} {
		options = append(options, web.Option{Value: string(k), Name: deviceKinds[k]})
	}
	v := shell.ListView{Table: t, Events: "gates", Filter: []web.Field{{Name: "kind", Label: words.Kind, Type: "select", Options: options, Value: string(kind)},
		{Name: "place", Label: words.Place, Type: "search", Value: place, Max: 60}}}
	return p.desk.List(w, r, web.Page{Title: words.Gates, Lead: words.GatesLead, Here: "/ops/gates"}, v)
}

func version(n uint32) web.Cell {
	if n == 0 {
		return shell.None()
	}
	return web.Cell{Text: fmt.Sprintf("v%d", n)}
}

// deviceplace says where a device stands or what it drives.
func (p pages) deviceplace(d transit.Device) web.Text {
	if d.Kind == transit.OnBus {
		return words.BusLine.F(int(d.Route.Line))
	}
	return p.station(d.Station)
}

// station names a station code.
func (p pages) station(c fare.Code) web.Text {
	if c == 0 {
		return words.Unknown
	}
	if s, ok := p.Network.ByCode(c); ok {
		return web.Text{ZH: s.ZH, EN: s.EN}
	}
	return web.Same(c.String())
}

// A gateView is one device.
type gateView struct {
	facts []web.Fact
	gaps  web.Table
	route []web.Line
}

func (p pages) gate(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	terminal, err := purse.ParseTerminal(r.PathValue("terminal"))
	if err != nil {
		return fmt.Errorf("terminal %q: %w", r.PathValue("terminal"), transit.ErrNoDevice)
	}
	var d transit.Device
	var f fleet
	var gaps []transit.Gap
	err = p.Store.Read(ctx, func(q *db.Query) (err error) {
		if d, err = transit.DeviceOf(q, terminal); err != nil {
			return err
		}
		if f, err = p.fleet(q); err != nil {
			return err
		}
		gaps, err = transit.Gaps(q, false, time.Time{}, gapRows)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a device: %w", err)
	}
	gaps = slices.DeleteFunc(gaps, func(g transit.Gap) bool { return g.Name != terminal.String() })
	v := gateView{facts: p.gateFacts(d, f), gaps: gapTable(gaps)}
	for _, s := range d.Route.Stops {
		v.route = append(v.route, web.Line{Text: p.station(s.Code), Value: web.Metres(ctx, int64(s.Metres))})
	}
	return p.desk.Show(w, r, web.Page{Title: p.deviceplace(d), Lead: deviceKinds[d.Kind], Back: "/ops/gates", Here: "/ops/gates"}, gatePage(v))
}

func (p pages) gateFacts(d transit.Device, f fleet) []web.Fact {
	tone, word := f.health(d)
	facts := []web.Fact{
		{Name: words.Health, Show: web.Chip(tone, word)},
		{Name: words.Terminal, Value: d.Terminal.String(), Mono: true},
		{Name: words.Operator, Value: d.Operator, Href: accountPath(payable(d.Operator))},
		{Name: words.LastSeen, Show: shell.Phrase(shell.Ago(f.now, d.Seen))},
		{Name: words.LastNumber, Value: web.Number(int64(d.Number))},
		{Name: words.Deny, Show: shell.Phrase(denyWords(d, f))},
	}
	if !d.DenyAt.IsZero() {
		facts = append(facts, web.Fact{Name: words.DenyMade, Value: web.Moment(d.DenyAt)})
	}
	facts = append(facts, web.Fact{Name: words.Pack, Show: cellBody(version(d.PackVersion))})
	if d.Kind == transit.OnBus && d.Route.FlatFen > 0 {
		facts = append(facts, web.Fact{Name: words.FlatFare, Value: web.Yuan(d.Route.FlatFen)})
	}
	return facts
}

func denyWords(d transit.Device, f fleet) web.Text {
	if f.version == 0 {
		return words.NeverPublished
	}
	return words.VersionOf.F(int(d.DenyVersion), int(f.version))
}

func cellBody(c web.Cell) templ.Component {
	if c.Show != nil {
		return c.Show
	}
	return shell.Phrase(web.Same(c.Text))
}

func gapTable(gaps []transit.Gap) web.Table {
	t := web.Table{ID: "gaps", NoCSV: true, Empty: words.NoGaps, Head: []web.Column{{Name: words.FromNumber, Num: true}, {Name: words.ToNumber, Num: true}, {Name: words.MissingSince, Num: true}}}
	for _, g := range gaps {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Count(g.Low), web.Count(g.High), web.When(g.Opened)}})
	}
	return t
}

// denyList shows the cards that gates refuse, and how far the fleet is.
func (p pages) denyList(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	pg := web.PageOf(r, shell.Rows)
	v := denyView{now: p.Store.Now()}
	var list []transit.Denied
	versions := map[uint32]int{}
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.version, v.made, err = transit.DenyVersion(q); err != nil {
			return err
		}
		if list, err = shell.Gather(pg, func(after string, limit int) ([]transit.Denied, error) {
			return transit.DenyList(q, purse.Number(after), limit)
		}, deniedKey, nil); err != nil {
			return err
		}
		fleet, err := shell.Gather(web.Paging{Limit: 20_000}, func(after string, limit int) ([]transit.Device, error) {
			return transit.Devices(q, after, limit)
		}, deviceKey, nil)
		for _, d := range fleet {
			versions[d.DenyVersion]++
		}
		v.devices = len(fleet)
		return err
	})
	if err != nil {
		return fmt.Errorf("deny list: %w", err)
	}
	v.table = denyTable(ctx, list)
	v.table.Next = shell.NextOf(r, list, pg, deniedKey)
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.table)
	}
	for _, d := range list {
		v.waiting = v.waiting || d.Version == 0
	}
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(versions))) {
		line := web.Line{Text: words.DevicesAt.F(int(n)), Value: web.Number(int64(versions[n]))}
		if n == 0 {
			line.Text = words.NoListYet
		}
		v.fleet = append(v.fleet, line)
	}
	return p.desk.Show(w, r, web.Page{Title: words.Deny, Lead: words.DenyLead, Here: "/ops/deny"}, denyPage(v))
}

// A denyView is the deny list.
type denyView struct {
	now     time.Time
	version uint32
	made    time.Time
	devices int
	fleet   []web.Line
	table   web.Table
	waiting bool // changes that no version has yet
}

func deniedKey(d transit.Denied) string { return string(d.Card) }

func denyTable(ctx context.Context, list []transit.Denied) web.Table {
	t := web.Table{ID: "deny", Empty: words.NobodyDenied, Head: []web.Column{{Name: words.Card}, {Name: words.Reason}, {Name: words.Why}, {Name: words.Version, Num: true}, {Name: words.Since, Num: true}}}
	for _, d := range list {
		at := version(d.Version)
		if d.Version == 0 {
			at = web.Status(ctx, web.Info, words.WithNext)
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(shell.Masked(issuing.IDOf(d.Card))), web.Plain(shell.Both(d.Reason.Words).In(ctx)), web.Plain(d.Why), at, web.When(d.At)}})
	}
	return t
}

// publishDeny makes the next version now instead of at the next tick.
func (p pages) publishDeny(w http.ResponseWriter, r *http.Request) error {
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, "/ops/deny", err)
	}
	if err := p.Publish(r.Context()); err != nil {
		return shell.Sorry(w, r, "/ops/deny", err)
	}
	err = p.Store.Write(r.Context(), func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActPublish, Target: "/ops/deny", What: "deny list", Why: reason})
	})
	if err != nil {
		return err
	}
	return shell.Done(w, r, "/ops/deny", words.DidPublish)
}

// isDenied looks a card up: the first entry from just before its number on.
func isDenied(q *db.Query, n purse.Number) (bool, error) {
	list, err := transit.DenyList(q, before(n), 1)
	return err == nil && len(list) > 0 && list[0].Card == n, err
}

// before is the largest number below n of the same length.
func before(n purse.Number) purse.Number {
	b := []byte(n)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] > '0' {
			b[i]--
			break
		}
		b[i] = '9'
	}
	return purse.Number(b)
}

// denied puts a card on the list, or takes it off, with the next version.
func (p pages) deny(n purse.Number, reason string) func(*db.Tx) error {
	return func(tx *db.Tx) error { return p.Transit.Deny(tx, n, purse.DenyLost, reason) }
}

func (p pages) allow(n purse.Number) func(*db.Tx) error {
	return func(tx *db.Tx) error { return p.Transit.Deny(tx, n, purse.Allowed, "") }
}
