package estate

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/spec/emv"
	"koala/switching/pack"
	"koala/switching/rollout"
	"koala/web"
	"koala/web/ops/shell"
)

// A packView is one pack.
type packView struct {
	facts   []web.Fact
	changes web.Table
	content web.Table
	keys    web.Table
	refused web.Table
}

// pack shows what a pack says, and which terminals refuse it.
func (d Deps) pack(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 32)
	if err != nil {
		return fmt.Errorf("pack %q: %w", r.PathValue("number"), rollout.ErrNotFound)
	}
	var v packView
	err = d.Desk.Store.Read(ctx, func(q *db.Query) error {
		p, err := rollout.Find(q, uint32(number))
		if err != nil {
			return err
		}
		content, err := p.Content()
		if err != nil {
			return err
		}
		tone, word := standing(p)
		v.facts = []web.Fact{{Name: words.Number, Value: fmt.Sprint(p.Number), Mono: true}, {Name: words.State, Show: web.Chip(tone, word)}, {Name: words.At, Value: web.Moment(p.Made)}, {Name: words.Moved, Value: web.Moment(p.Moved)},
			{Name: words.Signature, Value: fmt.Sprintf("%X…", p.Signed[len(p.Signed)-64:len(p.Signed)-48]), Mono: true}}
		if p.By != "" {
			v.facts = append(v.facts, web.Fact{Name: words.MadeBy, Value: p.By + " · " + p.Other})
		}
		v.content, v.keys = contentTable(ctx, content), keyTable(ctx, content)
		if before, err := rollout.Packs(q, p.Number, 1); err != nil {
			return err
		} else if len(before) > 0 {
			list, err := differences(before[0], p)
			if err != nil {
				return err
			}
			v.changes = diffTable(ctx, list)
		}
		list, err := rollout.Refusals(q, p.Number, pg.After, pg.Limit)
		v.refused = web.Table{ID: "refused", Empty: words.NoneRefuses, Head: []web.Column{{Name: words.Terminal}, {Name: words.Why}, {Name: words.HasPack, Num: true}, {Name: words.At, Num: true}},
			Next: shell.NextOf(r, list, pg, func(c rollout.Carrier) string { return c.TID })}
		for _, c := range list {
			v.refused.Rows = append(v.refused.Rows, web.Row{Href: here + "/" + c.TID, Cells: []web.Cell{web.Mono(c.TID), web.Plain(resultWords(c.Result).In(ctx)), web.Count(int64(c.Have)), shell.At(c.Told)}})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a pack: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.refused)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.PackNumber.F(number), Lead: words.PackLead, Here: here, Back: atStages}, packPage(v))
}

func resultWords(r pack.Result) web.Text {
	if text, ok := map[pack.Result]web.Text{pack.BadSign: words.WhySignature, pack.Unreadable: words.WhyUnreadable, pack.Outdated: words.WhyOld, pack.WontWork: words.WhyNotWork}[r]; ok {
		return text
	}
	return web.Same(r.String())
}

// A difference is one thing that two packs say differently; an empty side does
// not have it.
type difference struct {
	name          web.Text
	before, after web.Text
}

// differences are those between a pack and the one after it.
func differences(a, b rollout.Pack) ([]difference, error) {
	before, err := a.Content()
	if err != nil {
		return nil, err
	}
	after, err := b.Content()
	return diff(before, after), err
}

// setting is one of Settings as people read it.
type setting struct {
	name  web.Text
	value web.Text
}

func settingsTold(s rollout.Settings) []setting {
	off, black := words.No, web.Same("–")
	if s.SignOff {
		off = words.Yes
	}
	if s.Black > 0 {
		black = web.Same(fmt.Sprint(s.Black))
	}
	count, yuan := func(n int) web.Text { return web.Same(fmt.Sprint(n)) }, func(fen int64) web.Text { return web.Same(web.Yuan(fen)) }
	return []setting{{words.Wait, count(s.Wait)}, {words.Redial, count(s.Redial)}, {words.Resend, count(s.Resend)}, {words.SignOff, off},
		{words.TapLimit, yuan(s.Tap)}, {words.CVMLimit, yuan(s.CVM)}, {words.ECashLimit, yuan(s.ECash)}, {words.BlackFrom, black}}
}

// diff is what two packs say differently, for people.
func diff(a, b pack.Pack) (out []difference) {
	old, next := settingsTold(rollout.Of(a)), settingsTold(rollout.Of(b))
	for i := range old {
		if old[i].value != next[i].value {
			out = append(out, difference{old[i].name, old[i].value, next[i].value})
		}
	}
	out = append(out, diffKeys(a.Keys, b.Keys)...)
	data := func(list []pack.Application, aid []byte) (string, bool) {
		for _, x := range list {
			if bytes.Equal(x.AID, aid) {
				return fmt.Sprintf("%X", x.Data), true
			}
		}
		return "", false
	}
	for _, x := range a.Applications {
		if _, there := data(b.Applications, x.AID); !there {
			out = append(out, difference{words.AID.F(fmt.Sprintf("%X", x.AID)), words.There, web.Text{}})
		}
	}
	for _, x := range b.Applications {
		was, there := data(a.Applications, x.AID)
		switch now := fmt.Sprintf("%X", x.Data); {
		case !there:
			out = append(out, difference{words.AID.F(fmt.Sprintf("%X", x.AID)), web.Text{}, words.There})
		case was != now && len(out) == 0: // something that no setting says
			out = append(out, difference{words.AID.F(fmt.Sprintf("%X", x.AID)), web.Same(was), web.Same(now)})
		}
	}
	return out
}

func keyText(k emv.CAKey) web.Text { return words.CAKey.F(fmt.Sprintf("%X/%02X", k.RID, k.Index)) }

func day(yyyymmdd string) string {
	if len(yyyymmdd) != 8 {
		return yyyymmdd
	}
	return yyyymmdd[:4] + "-" + yyyymmdd[4:6] + "-" + yyyymmdd[6:]
}

// until is a key's last day, as differences say it.
func until(k emv.CAKey) web.Text { return web.Same("→ " + day(k.Last)) }

func diffKeys(a, b []emv.CAKey) (out []difference) {
	find := func(list []emv.CAKey, k emv.CAKey) int {
		return slices.IndexFunc(list, func(x emv.CAKey) bool { return x.RID == k.RID && x.Index == k.Index })
	}
	for _, k := range a {
		if find(b, k) < 0 {
			out = append(out, difference{keyText(k), until(k), web.Text{}})
		}
	}
	for _, k := range b {
		switch i := find(a, k); {
		case i < 0:
			out = append(out, difference{keyText(k), web.Text{}, until(k)})
		case !bytes.Equal(a[i].Modulus, k.Modulus):
			out = append(out, difference{keyText(k), web.Same(fmt.Sprintf("%X…", a[i].Hash[:4])), web.Same(fmt.Sprintf("%X…", k.Hash[:4]))})
		case a[i].Last != k.Last:
			out = append(out, difference{keyText(k), until(a[i]), until(k)})
		}
	}
	return out
}

// mostBrief is how many differences a line names.
const mostBrief = 3

// brief says differences in a line.
func brief(list []difference) web.Text {
	var zh, en []string
	for i, x := range list {
		if i == mostBrief {
			more := words.AndMore.F(len(list) - i)
			zh, en = append(zh, more.ZH), append(en, more.EN)
			break
		}
		zh, en = append(zh, x.name.ZH+" "+step(x.before.ZH, x.after.ZH)), append(en, x.name.EN+" "+step(x.before.EN, x.after.EN))
	}
	if len(list) == 0 {
		return words.NoChange
	}
	return web.Text{ZH: strings.Join(zh, "；"), EN: strings.Join(en, "; ")}
}

// step is how one value became another, in a line.
func step(before, after string) string {
	switch {
	case before == "":
		return "+ " + strings.TrimPrefix(after, "→ ")
	case after == "":
		return "− " + strings.TrimPrefix(before, "→ ")
	}
	return before + " → " + after
}

func diffTable(ctx context.Context, list []difference) web.Table {
	t := web.Table{ID: "changes", NoCSV: true, Empty: words.NoChange, Head: []web.Column{{Name: words.What}, {Name: words.Before, Num: true}, {Name: words.After, Num: true}}}
	cell := func(t web.Text) web.Cell {
		if t.Empty() {
			return shell.None()
		}
		return web.Mono(strings.TrimPrefix(t.In(ctx), "→ "))
	}
	for _, x := range list {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(x.name.In(ctx)), cell(x.before), cell(x.after)}})
	}
	return t
}

func contentTable(ctx context.Context, p pack.Pack) web.Table {
	t := web.Table{ID: "settings", NoCSV: true, Head: []web.Column{{Name: words.What}, {Name: words.Value, Num: true}}}
	for _, x := range settingsTold(rollout.Of(p)) {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(x.name.In(ctx)), web.Mono(x.value.In(ctx))}})
	}
	return t
}

func keyTable(ctx context.Context, p pack.Pack) web.Table {
	t := web.Table{ID: "ca-keys", NoCSV: true, Empty: words.NoCAKeys, Head: []web.Column{{Name: words.CAKeyName}, {Name: words.Algorithm}, {Name: words.LastDay, Num: true}, {Name: words.CheckValues}}}
	for _, k := range p.Keys {
		kind := fmt.Sprintf("RSA %d", len(k.Modulus)*8)
		if k.Algorithm == emv.SM2 {
			kind = "SM2"
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(fmt.Sprintf("%X/%02X", k.RID, k.Index)), web.Plain(kind), web.Mono(day(k.Last)), web.Mono(fmt.Sprintf("%X…", k.Hash[:4]))}})
	}
	return t
}

// assign puts a terminal into a ring from a day on.
func (d Deps) assign(w http.ResponseWriter, r *http.Request, tid, at string) error {
	ring, err := strconv.Atoi(r.PostFormValue("ring"))
	if err != nil || ring < 0 || ring > pack.Last {
		return fmt.Errorf("ring of terminal %s: %w", tid, shell.ErrForm)
	}
	since := d.Desk.Store.Now()
	if s := r.PostFormValue("since"); s != "" {
		at, err := time.ParseInLocation("2006-01-02", s, calendar.Beijing)
		if err != nil {
			return fmt.Errorf("ring of terminal %s: %w", tid, shell.ErrForm)
		}
		since = at
	}
	u, _ := web.Who(r.Context())
	deed := shell.Deed{Act: shell.ActTerminal, Target: at, What: fmt.Sprintf("%s: %s, %s", tid, ringNames[ring].EN, web.Moment(since)[:10])}
	return d.Desk.Change(w, r, at, words.Changed, deed, func(tx *db.Tx) error {
		why, err := shell.Why(r)
		if err == nil {
			_, err = merchant.TerminalOf(tx, tid)
		}
		if err != nil {
			return err
		}
		tx.After(d.Switch.Packs().Reload)
		return rollout.Assign(tx, tid, ring, since, u.Name, why)
	})
}

// ringQuestion offers another ring for a terminal.
func ringQuestion(c rollout.Carrier, at string) shell.Question {
	return shell.Question{ID: "ask-ring", Action: at + "/ring", Open: words.SetRing, Body: words.SetRingBody, Icon: "layers", Receiver: c.TID, About: words.Terminal,
		Fields: []web.Field{{Name: "ring", Label: words.Ring, Type: "select", Value: strconv.Itoa(c.Ring), Options: ringOptions()}, {Name: "since", Label: words.FromDay, Hint: words.FromDayHint, Type: "date"}}}
}

// packFacts are what a terminal has of packs.
func packFacts(c rollout.Carrier) []web.Fact {
	has := web.Fact{Name: words.HasPack, Value: fmt.Sprint(c.Have), Mono: true}
	if c.Have == 0 {
		has = web.Fact{Name: words.HasPack, Show: shell.Phrase(words.NoneYet)}
	}
	out := []web.Fact{{Name: words.Ring, Show: shell.Phrase(ringNames[c.Ring])}, has}
	if c.Refused > c.Have {
		text := resultWords(c.Result)
		out = append(out, web.Fact{Name: words.RefusedPack.F(c.Refused), Show: web.Chip(web.Bad, text)})
	}
	return out
}
