package estate

import (
	"fmt"
	"net/http"
	"strconv"

	"koala/internal/db"
	"koala/merchant"
	"koala/switching"
	"koala/switching/rollout"
	"koala/switching/single"
	"koala/web"
	"koala/web/merchant/till"
	"koala/web/ops/shell"
)

// A terminalView is one terminal.
type terminalView struct {
	facts []web.Fact
	keys  []web.Fact
	acts  []shell.Question
	asks  []shell.Question
	last  web.Table
	deeds []web.Happening
}

func (d Deps) terminal(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	at := here + "/" + r.PathValue("tid")
	var s stood
	var v terminalView
	var risk merchant.Standing
	var carrier rollout.Carrier
	weak := false
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if risk, err = merchant.StandingOf(q, r.PathValue("tid")); err != nil {
			return err
		}
		if s, err = (finder{q, map[string]merchant.Shop{}}).of(risk.Terminal); err != nil {
			return err
		}
		if weak, err = single.Allowed(q, s.TID); err != nil {
			return err
		}
		if carrier, err = rollout.CarrierOf(q, s.TID, now); err != nil {
			return err
		}
		list, err := switching.Live(q, switching.Filter{TID: s.TID, Limit: 10})
		if err != nil {
			return err
		}
		v.last = web.Table{ID: "last", NoCSV: true, Empty: words.NothingSold, Head: []web.Column{{Name: words.At}, {Name: words.What}, {Name: words.State}, {Name: words.Trace}, {Name: words.Amount, Num: true}}}
		for _, t := range list {
			v.last.Rows = append(v.last.Rows, web.Row{Href: "/ops/switch/transactions/" + t.RRN, Drawer: true, Cells: []web.Cell{{Text: web.Moment(t.At), Show: shell.Tight(web.Moment(t.At))}, web.Plain(till.Kind(t.Kind).In(ctx)), till.State(ctx, t.State),
				web.Mono(fmt.Sprintf("%06d/%06d", t.Batch, t.STAN)), web.Money(till.Signed(t))}})
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a terminal: %w", err)
	}
	tone, word := s.health(now)
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}, {Name: words.Life, Show: shell.Phrase(shell.Both(s.Life.Words))}, {Name: words.Kind, Show: shell.Phrase(shell.Both(s.Kind.Words))},
		{Name: words.Terminal, Value: s.TID, Mono: true}, {Name: words.Serial, Value: s.Serial, Mono: true}, {Name: words.Shop, Value: shopName(s.shop).In(ctx), Href: "/ops/merchants/shops/" + s.shop.ID},
		{Name: words.City, Show: shell.Phrase(cityName(s.shop.Place()))}, {Name: words.Place, Show: shell.Phrase(web.Text{ZH: s.PlaceZH, EN: s.PlaceEN})}, {Name: words.LastSpoke, Show: shell.Phrase(shell.Ago(now, s.seen()))},
		{Name: words.Batch, Value: strconv.Itoa(s.at.Batch)}, {Name: words.Moves, Value: strconv.Itoa(s.Moves)}}
	if s.Version != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Version, Value: s.Version, Mono: true})
	}
	if err := risk.MayTrade(); err != nil {
		v.facts = append(v.facts, web.Fact{Name: words.MayTrade, Show: web.Chip(web.Warn, words.No)})
	}
	if s.at.Status != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Status, Value: s.at.Status + " · " + web.Moment(s.at.Reported), Mono: true})
	}
	v.keys = keyFacts(s)
	v.acts, v.asks = append(lifeActs(s, at), singleActs(s, weak, at)...), askActs(s, at)
	if s.Kind != merchant.Reader { // readers load nothing
		v.facts, v.asks = append(v.facts, packFacts(carrier)...), append(v.asks, ringQuestion(carrier, at))
	}
	if weak {
		v.keys = append(v.keys, web.Fact{Name: words.Single, Show: web.Chip(web.Warn, words.SingleAllowed)})
	}
	return d.Desk.Show(w, r, web.Page{Title: web.Same(s.TID), Lead: shopName(s.shop), Back: here, Here: here}, terminalPage(v))
}

func keyFacts(s stood) []web.Fact {
	kind := words.MasterKeys
	if s.Kind == merchant.Reader {
		kind = words.DUKPT
	}
	signed := words.No
	if s.at.Signed {
		signed = words.Yes
	}
	out := []web.Fact{{Name: words.KeyKind, Show: shell.Phrase(kind)}, {Name: words.SignedOn, Show: shell.Phrase(signed)}}
	if s.at.Checks != "" {
		out = append(out, web.Fact{Name: words.CheckValues, Value: s.at.Checks, Mono: true})
	}
	if !s.at.Keyed.IsZero() {
		out = append(out, web.Fact{Name: words.KeysSince, Value: web.Moment(s.at.Keyed)})
	}
	if w, ok := demandWords[s.at.Demand]; ok {
		out = append(out, web.Fact{Name: words.AskedFor, Show: web.Chip(web.Info, w)})
	}
	return out
}

// moves are the changes of a terminal's life that staff make.
var moves = []struct {
	act        string
	to         merchant.Life
	open, body web.Text
	icon       string
	danger     bool
}{
	{"suspend", merchant.Stopped, words.Suspend, words.SuspendBody, "pause", true}, {"resume", merchant.InUse, words.Resume, words.ResumeBody, "play", false},
	{"reinstall", merchant.Registered, words.Reinstall, words.ReinstallBody, "wrench", false}, {"retire", merchant.Retired, words.Retire, words.RetireBody, "trash-2", true},
}

// allowed says whether staff may make a move: only its keys make a registered
// terminal work, and what waits for them may get another transport key.
func allowed(l, to merchant.Life) bool {
	switch to {
	case merchant.Registered:
		return l == to || l.May(to)
	case merchant.InUse:
		return l == merchant.Stopped
	}
	return l.May(to)
}

func lifeActs(s stood, at string) (out []shell.Question) {
	for _, m := range moves {
		if allowed(s.Life, m.to) {
			out = append(out, shell.Question{ID: "ask-" + m.act, Action: at + "/" + m.act, Open: m.open, Body: m.body, Icon: m.icon, Danger: m.danger, Receiver: s.TID, About: words.Terminal})
		}
	}
	return out
}

// demandWords are what the switch can ask of a terminal.
var demandWords = map[int]web.Text{1: words.AskParameters, 2: words.AskStatus, 3: words.AskSignOn, 4: words.AskCAKeys, 5: words.AskAIDs, 7: words.AskBlackList}

func demandOptions() (out []web.Option) {
	for _, n := range []int{3, 2, 1, 4, 5, 7} {
		out = append(out, web.Option{Value: strconv.Itoa(n), Name: demandWords[n]})
	}
	return out
}

func askActs(s stood, at string) []shell.Question {
	if s.Life != merchant.InUse && s.Life != merchant.Stopped {
		return nil
	}
	return []shell.Question{{ID: "ask-demand", Action: at + "/demand", Open: words.AskIt, Body: words.AskItBody, Icon: "radio", Receiver: s.TID, About: words.Terminal, Choices: demandOptions()}}
}

func (d Deps) act(w http.ResponseWriter, r *http.Request) error {
	tid, act := r.PathValue("tid"), r.PathValue("act")
	at := here + "/" + tid
	switch act {
	case "demand":
		return d.demand(w, r, tid, at)
	case "ring":
		return d.assign(w, r, tid, at)
	case "single", "double":
		return d.single(w, r, tid, at, act == "single")
	}
	for _, m := range moves {
		if m.act != act {
			continue
		}
		if m.to == merchant.Registered {
			return d.reinstall(w, r, tid, at)
		}
		return d.Desk.Change(w, r, at, words.Changed, shell.Deed{Act: shell.ActTerminal, Target: at, What: tid + ": " + string(m.to)}, func(tx *db.Tx) error {
			t, err := merchant.TerminalOf(tx, tid)
			if err == nil && !allowed(t.Life, m.to) {
				err = fmt.Errorf("terminal %s: %w", tid, merchant.ErrState)
			}
			if err != nil {
				return err
			}
			return d.live(tx, r, tid, m.to)
		})
	}
	return fmt.Errorf("act %q on a terminal: %w", act, web.ErrNoPage)
}

// singleActs offers to let a terminal have keys of single length, or no more.
func singleActs(s stood, weak bool, at string) []shell.Question {
	q := shell.Question{ID: "ask-double", Action: at + "/double", Open: words.DoDouble, Body: words.DoubleBody, Icon: "key-round", Receiver: s.TID, About: words.Terminal}
	switch {
	case weak:
	case s.Kind == merchant.Reader || s.Life != merchant.InUse:
		return nil
	default:
		q.ID, q.Action, q.Open, q.Body, q.Danger = "ask-single", at+"/single", words.DoSingle, words.SingleBody, true
	}
	return []shell.Question{q}
}

// single lets a terminal sign on for keys of single length, or lets it no more.
func (d Deps) single(w http.ResponseWriter, r *http.Request, tid, at string, allow bool) error {
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	what := tid + ": DES"
	if !allow {
		what = tid + ": 3DES"
	}
	u, _ := web.Who(r.Context())
	return d.Desk.Change(w, r, at, words.Changed, shell.Deed{Act: shell.ActTerminal, Target: at, What: what}, func(tx *db.Tx) error {
		t, err := merchant.TerminalOf(tx, tid)
		if err == nil && allow && (t.Kind == merchant.Reader || t.Life != merchant.InUse) {
			err = fmt.Errorf("terminal %s: %w", tid, merchant.ErrState)
		}
		if err != nil {
			return err
		}
		return single.Allow(tx, tid, allow, u.Name, reason)
	})
}

// live moves a terminal on by a decision of who looks at the page.
func (d Deps) live(tx *db.Tx, r *http.Request, tid string, to merchant.Life) error {
	reason, err := shell.Why(r)
	if err != nil {
		return err
	}
	u, _ := web.Who(r.Context())
	d.Switch.Forget(tx, tid)
	if to == merchant.Retired { // no ring waits for it
		if err := rollout.Forget(tx, tid); err != nil {
			return err
		}
	}
	return merchant.Live(tx, tid, to, u.Name, reason)
}

// reinstall opens a terminal for installation and shows the transport key that
// its installer carries there, this once: it is not kept.
func (d Deps) reinstall(w http.ResponseWriter, r *http.Request, tid, at string) error {
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	err = d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		t, err := merchant.TerminalOf(q, tid)
		if err == nil && !allowed(t.Life, merchant.Registered) {
			err = fmt.Errorf("terminal %s: %w", tid, merchant.ErrState)
		}
		return err
	})
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	t, err := d.Switch.DrawTransport(r.Context(), tid)
	if err == nil {
		err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
			if err := d.live(tx, r, tid, merchant.Registered); err != nil {
				return err
			}
			if err := t.Keep(tx); err != nil {
				return err
			}
			return shell.Keep(tx, r, shell.Deed{Act: shell.ActTerminal, Target: at, What: fmt.Sprintf("%s: %s, %X", tid, merchant.Registered, t.Form.KCV), Why: reason})
		})
	}
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	f := t.Form
	facts := []web.Fact{{Name: words.Terminal, Value: f.TID, Mono: true},
		{Name: words.ComponentA, Value: fmt.Sprintf("%X", f.Parts[0][:]), Mono: true}, {Name: words.CheckA, Value: fmt.Sprintf("%X", f.Checks[0]), Mono: true},
		{Name: words.ComponentB, Value: fmt.Sprintf("%X", f.Parts[1][:]), Mono: true}, {Name: words.CheckB, Value: fmt.Sprintf("%X", f.Checks[1]), Mono: true},
		{Name: words.CheckKey, Value: fmt.Sprintf("%X", f.KCV), Mono: true}}
	return d.Desk.Show(w, r, web.Page{Title: words.Transport, Lead: words.TransportLead, Back: at, Here: here}, transportPage(facts, f.Text(), at))
}

// demand has the switch ask something of a terminal at its next message.
func (d Deps) demand(w http.ResponseWriter, r *http.Request, tid, at string) error {
	what, err := strconv.Atoi(r.PostFormValue("decision"))
	if _, known := demandWords[what]; err != nil || !known {
		return fmt.Errorf("what to ask of a terminal: %w", shell.ErrForm)
	}
	why, err := shell.Why(r)
	if err == nil {
		deed := shell.Deed{Act: shell.ActDemand, Target: at, What: tid + ": " + demandWords[what].EN, Why: why}
		err = d.Switch.Demand(r.Context(), tid, what, func(tx *db.Tx) error { return shell.Keep(tx, r, deed) })
	}
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	return shell.Done(w, r, at, words.WillAsk)
}
