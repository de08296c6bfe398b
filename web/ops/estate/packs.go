package estate

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"koala/internal/db"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/money"
	"koala/report"
	"koala/switching/pack"
	"koala/switching/rollout"
	"koala/web"
	"koala/web/ops/shell"
)

const atStages = here + "/stages"

// A stagesView is what is on its way to the terminals.
type stagesView struct {
	figures []web.Figure
	halted  bool
	word    string // why the switch halted the newest pack
	newest  uint32
	rings   []ring
	counts  web.Table
	acts    []shell.Question // about packs
	waiting []proposed
	packs   web.Table
	asked   web.Parted
	asks    []shell.Question
	deeds   []web.Happening
}

// A ring is how far one ring has come with the newest pack.
type ring struct {
	name      web.Text
	have, all int64
	refused   int64
	reached   bool
}

// A proposed is a change that another person has to confirm.
type proposed struct {
	p     proposal.Proposal
	what  web.Text
	diff  web.Table
	acts  []shell.Question
	empty bool // it makes no pack
}

var ringNames = [len(pack.Rings)]web.Text{words.RingFew, words.RingTenth, words.RingHalf, words.RingAll}

func (d Deps) stages(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	if _, err := d.Switch.Packs().Target(ctx, rollout.Carrier{}); err != nil { // the first pack of a new house
		return fmt.Errorf("stages: %w", err)
	}
	var v stagesView
	var inUse int64
	var asking map[int]int64
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		packs, err := rollout.Packs(q, 0, shell.Rows)
		if err != nil {
			return err
		}
		if err := v.show(ctx, q, packs, now); err != nil {
			return err
		}
		waits, err := proposal.Waiting(q, rollout.Kind, 1)
		if err == nil {
			err = v.wait(ctx, q, d.two(), waits)
		}
		if err != nil {
			return err
		}
		parts, err := report.Lives(q)
		for _, p := range parts {
			if p.Name == string(merchant.InUse) {
				inUse = p.Count
			}
		}
		if err != nil {
			return err
		}
		if asking, err = rollout.Asking(q); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: atStages}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("stages: %w", err)
	}
	v.figures = append([]web.Figure{{Name: words.InUse, Value: web.Number(inUse), Icon: "tablet-smartphone"}}, v.figures...)
	v.asked = web.Parted{Title: words.OnItsWay}
	for _, o := range manyOptions() {
		n, _ := strconv.Atoi(o.Value) // one of ours
		v.asked.Parts = append(v.asked.Parts, web.Slice{Name: o.Name, Value: asking[n]})
	}
	rings := ringOptions()
	v.asks = []shell.Question{{ID: "ask-stage", Action: atStages, Open: words.Bring, Body: words.BringBody, Icon: "radio", Receiver: web.Number(inUse), About: words.InUse, Choices: manyOptions(),
		Fields: []web.Field{{Name: "ring", Label: words.UpToRing, Hint: words.UpToRingHint, Type: "select", Options: rings}}}}
	return d.Desk.Show(w, r, page("/stages"), stagesPage(v))
}

func ringOptions() (out []web.Option) {
	for i, name := range ringNames {
		out = append(out, web.Option{Value: strconv.Itoa(i), Name: name})
	}
	return out
}

// manyOptions are what many terminals can be asked for together: what a pack
// brings comes by packs.
func manyOptions() (out []web.Option) {
	for _, n := range []int{2, 3, 7} {
		out = append(out, web.Option{Value: strconv.Itoa(n), Name: demandWords[n]})
	}
	return out
}

// show puts the packs and the newest one's rings into the view.
func (v *stagesView) show(ctx context.Context, q db.Reader, packs []rollout.Pack, now time.Time) error {
	v.packs = web.Table{ID: "packs", NoCSV: true, Empty: words.NoPacks, Head: []web.Column{{Name: words.Number, Num: true}, {Name: words.State}, {Name: words.Changes, Wide: true}, {Name: words.MadeBy}, {Name: words.At, Num: true}}}
	for i, p := range packs {
		text := words.FirstPack
		if i+1 < len(packs) {
			list, err := differences(packs[i+1], p)
			if err != nil {
				return err
			}
			text = brief(list)
		}
		if p.Of > 0 {
			text = say(words.AgainOf.F(p.Of), text)
		}
		tone, word := standing(p)
		by := shell.Written(p.By + " · " + p.Other)
		if p.By == "" {
			by = web.Plain(words.TheSwitch.In(ctx))
		}
		v.packs.Rows = append(v.packs.Rows, web.Row{Href: fmt.Sprintf("%s/%d", atStages, p.Number), Cells: []web.Cell{web.Count(int64(p.Number)), web.Status(ctx, tone, word), web.Plain(text.In(ctx)), by, shell.At(p.Made)}})
	}
	if len(packs) == 0 {
		return nil
	}
	newest := packs[0]
	v.newest, v.halted, v.word = newest.Number, newest.Halted, newest.Word
	counts, err := rollout.Counts(q, newest.Number, now)
	if err != nil {
		return err
	}
	v.ringTable(ctx, newest, counts)
	var settings rollout.Settings
	content, err := newest.Content()
	if err != nil {
		return err
	}
	settings = rollout.Of(content)
	v.acts = packActs(newest, settings)
	return nil
}

// standing says where a pack stands.
func standing(p rollout.Pack) (web.Tone, web.Text) {
	switch {
	case p.Halted:
		return web.Bad, words.Halted
	case p.OnItsWay():
		return web.Info, words.InRing.F(p.Ring+1, len(pack.Rings))
	}
	return web.Good, words.ForAll
}

func (v *stagesView) ringTable(ctx context.Context, newest rollout.Pack, counts []rollout.Count) {
	var have, all, refused int64
	v.counts = web.Table{ID: "rings", NoCSV: true, Head: []web.Column{{Name: words.Ring}, {Name: words.State}, {Name: words.HaveIt, Num: true}, {Name: words.NotYet, Num: true}, {Name: words.SilentWeek, Num: true}, {Name: words.Refused, Num: true}}}
	for i, c := range counts {
		reached := i <= newest.Ring
		v.rings = append(v.rings, ring{ringNames[i], c.Have, c.All(), c.Refused, reached})
		have, all, refused = have+c.Have, all+c.All(), refused+c.Refused
		tone, word := web.Neutral, words.Later
		switch {
		case c.All() == 0:
			word = words.Nobody
		case reached && newest.Halted:
			tone, word = web.Bad, words.Halted
		case reached && c.Have == c.All():
			tone, word = web.Good, words.Complete
		case reached:
			tone, word = web.Info, words.UnderWay
		}
		v.counts.Rows = append(v.counts.Rows, web.Row{Cells: []web.Cell{web.Plain(ringNames[i].In(ctx)), web.Status(ctx, tone, word), web.Count(c.Have), web.Count(c.Not), web.Count(c.Silent), web.Count(c.Refused)}})
	}
	tone := web.Good
	if refused > 0 {
		tone = web.Bad
	}
	v.figures = []web.Figure{{Name: words.NewestPack, Value: web.Number(int64(newest.Number)), Icon: "layers", Href: fmt.Sprintf("%s/%d", atStages, newest.Number)},
		{Name: words.HaveIt, Value: web.Number(have) + " / " + web.Number(all), Icon: "check"}, {Name: words.Refused, Value: web.Number(refused), Icon: "x", Tone: tone}}
}

// packActs are what can be proposed as the packs stand.
func packActs(p rollout.Pack, s rollout.Settings) (out []shell.Question) {
	at := atStages + "/propose/"
	number := fmt.Sprint(p.Number)
	q := func(act rollout.Act, open, body web.Text, icon string) shell.Question {
		return shell.Question{ID: "ask-" + string(act), Action: at + string(act), Open: open, Body: body, Icon: icon, Receiver: number, About: words.Pack}
	}
	switch {
	case p.Halted:
		out = append(out, q(rollout.On, words.Resume2, words.Resume2Body, "play"))
	case p.OnItsWay():
		out = append(out, q(rollout.On, say(words.GoOn, ringNames[p.Ring+1]), words.GoOnBody, "play"))
		stop := q(rollout.Stop, words.StopIt, words.StopBody, "pause")
		stop.Danger = true
		out = append(out, stop)
	}
	if p.Number > 1 {
		out = append(out, q(rollout.Back, words.GoBack, words.GoBackBody, "undo-2"))
	}
	if !p.OnItsWay() {
		fen := func(v int64) string { return fmt.Sprintf("%d.%02d", v/100, v%100) }
		off := "0"
		if s.SignOff {
			off = "1"
		}
		make := q(rollout.Bring, words.MakePack, words.MakePackBody, "plus")
		make.Fields = []web.Field{
			{Name: "wait", Label: words.Wait, Mode: "numeric", Value: strconv.Itoa(s.Wait), Max: 2, Required: true}, {Name: "redial", Label: words.Redial, Mode: "numeric", Value: strconv.Itoa(s.Redial), Max: 1, Required: true},
			{Name: "resend", Label: words.Resend, Mode: "numeric", Value: strconv.Itoa(s.Resend), Max: 1, Required: true},
			{Name: "signoff", Label: words.SignOff, Type: "select", Value: off, Options: []web.Option{{Value: "0", Name: words.No}, {Value: "1", Name: words.Yes}}},
			{Name: "tap", Label: words.TapLimit, Mode: "decimal", Lead: "¥", Value: fen(s.Tap), Max: 9, Required: true}, {Name: "cvm", Label: words.CVMLimit, Mode: "decimal", Lead: "¥", Value: fen(s.CVM), Max: 9, Required: true},
			{Name: "ecash", Label: words.ECashLimit, Mode: "decimal", Lead: "¥", Value: fen(s.ECash), Max: 9, Required: true},
			{Name: "black", Label: words.BlackFrom, Hint: words.BlackFromHint, Mode: "numeric", Value: fmt.Sprint(s.Black), Max: 9}}
		out = append(out, make)
	}
	return out
}

// settingsOf reads the form of a new pack.
func settingsOf(r *http.Request) (s rollout.Settings, err error) {
	number := func(name string) int {
		n, bad := strconv.Atoi(cmp.Or(r.PostFormValue(name), "0"))
		if bad != nil || n < 0 {
			err = fmt.Errorf("%s of a pack: %w", name, shell.ErrForm)
		}
		return n
	}
	fen := func(name string) int64 {
		a, bad := money.ParseYuan(r.PostFormValue(name))
		if bad != nil {
			err = fmt.Errorf("%s of a pack: %w", name, shell.ErrForm)
		}
		return a.Minor()
	}
	s = rollout.Settings{Wait: number("wait"), Redial: number("redial"), Resend: number("resend"), SignOff: r.PostFormValue("signoff") == "1",
		Tap: fen("tap"), CVM: fen("cvm"), ECash: fen("ecash"), Black: uint32(number("black"))}
	return s, errors.Join(err, s.Check())
}

// propose has another person confirm what is to become of packs.
func (d Deps) propose(w http.ResponseWriter, r *http.Request) error {
	act := rollout.Act(r.PathValue("act"))
	_, err := shell.Why(r)
	var content *pack.Pack
	if err == nil && act == rollout.Bring {
		var s rollout.Settings
		if s, err = settingsOf(r); err == nil {
			var p pack.Pack
			p, err = d.Switch.Packs().Draft(r.Context(), s)
			content = &p
		}
	}
	var c rollout.Change
	if err == nil {
		err = d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
			c, err = rollout.Plan(q, act, content)
			return err
		})
	}
	if err != nil {
		return shell.Sorry(w, r, atStages, err)
	}
	unsigned := append(slices.Clone(c.Content), make([]byte, ed25519.SignatureSize)...) // it is only tried
	return d.two().Propose(d.Desk, w, r, atStages, rollout.About, packChange{Change: c, packs: d.Switch.Packs(), signed: unsigned})
}

// say puts one text behind another.
func say(a, b web.Text) web.Text { return web.Text{ZH: a.ZH + b.ZH, EN: a.EN + b.EN} }

// changeWords says what a change does.
func changeWords(c rollout.Change) web.Text {
	ring := ringNames[max(0, min(c.Ring, pack.Last))]
	switch c.Act {
	case rollout.Bring:
		return words.WillMake.F(c.Number)
	case rollout.On:
		return say(words.WillGoOn.F(c.Number), ring)
	case rollout.Stop:
		return words.WillStop.F(c.Number)
	}
	return words.WillGoBack.F(c.Number, c.Of)
}

// two is how two people change what becomes of packs.
func (d Deps) two() shell.Two {
	return shell.Two{Path: atStages + "/proposals/%[2]s",
		Kinds: map[string]func() shell.Change{rollout.Kind: func() shell.Change { return &packChange{packs: d.Switch.Packs()} }},
		Words: shell.TwoWords{Proposed: words.Proposed, Done: words.IsMade, Undone: words.TakenBack, Confirm: words.Confirm, ConfirmBody: words.ConfirmBody, TakeBack: words.UndoIt, TakeBackBody: words.UndoBody, Change: words.What}}
}

// decidePack confirms a change, which is made at once, or takes it back.
func (d Deps) decidePack(w http.ResponseWriter, r *http.Request) error {
	return d.two().Decide(d.Desk, w, r, rollout.Kind, r.PathValue("id"), r.PathValue("act"))
}

// A packChange is a change of packs that is proposed.
type packChange struct {
	rollout.Change
	packs  *rollout.Shelf
	signed []byte // its pack, see Prepare
}

// Text is shell.Change's.
func (c packChange) Text(db.Reader) web.Text { return changeWords(c.Change) }

// Deed is shell.Change's.
func (c packChange) Deed(proposal.State) shell.Deed {
	return shell.Deed{Act: shell.ActParameters, Target: atStages, What: changeWords(c.Change).EN}
}

// Prepare is shell.Prepared's: it signs the pack. A cut behind the signature
// leaves one that nobody has: the proposal is still open, and signs the same
// bytes again (Ed25519 is deterministic).
func (c *packChange) Prepare(ctx context.Context) (err error) {
	if c.signed, err = c.packs.Sign(ctx, c.Change); err != nil {
		err = fmt.Errorf("signing pack %d: %w", c.Number, err)
	}
	return err
}

// Holds is shell.Change's: Make says all there is to say against it.
func (c packChange) Holds(db.Reader, time.Time) error { return nil }

// Make is shell.Change's: terminals then get what it says.
func (c packChange) Make(tx *db.Tx, p proposal.Proposal) error {
	tx.After(c.packs.Reload)
	return c.Change.Make(tx, p.By, p.Decider, c.signed)
}

// wait shows a proposal with what it would change, and what who looks may do.
func (v *stagesView) wait(ctx context.Context, q db.Reader, two shell.Two, list []proposal.Proposal) error {
	for _, p := range list {
		var c rollout.Change
		if err := p.Read(&c); err != nil {
			return fmt.Errorf("proposal %s: %w", p.ID, err)
		}
		x := proposed{p: p, what: changeWords(c), empty: c.Content == nil}
		if c.Content != nil {
			before, err := rollout.Find(q, v.newest)
			if err != nil {
				return err
			}
			old, err1 := before.Content()
			next, err2 := c.Pack()
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			x.diff = diffTable(ctx, diff(old, next))
		}
		x.acts = two.Ask(ctx, p, x.what.In(ctx), "")
		v.waiting = append(v.waiting, x)
	}
	return nil
}

// stage has the switch ask the terminals up to a ring for something, all of them
// in the unit that keeps the deed.
func (d Deps) stage(w http.ResponseWriter, r *http.Request) error {
	what, err := strconv.Atoi(r.PostFormValue("decision"))
	ring, err2 := strconv.Atoi(r.PostFormValue("ring"))
	if err != nil || err2 != nil || what != 2 && what != 3 && what != 7 || ring < 0 || ring > pack.Last {
		return fmt.Errorf("a stage: %w", shell.ErrForm)
	}
	deed := shell.Deed{Act: shell.ActStageEstate, Target: atStages, What: fmt.Sprintf("%s: %s", demandWords[what].EN, ringNames[ring].EN)}
	return d.Desk.Change(w, r, atStages, words.WereAsked, deed, func(tx *db.Tx) error {
		tx.After(d.Switch.Packs().Reload)
		_, err := rollout.AskAll(tx, ring, what)
		return err
	})
}
