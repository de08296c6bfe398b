// Package partner is where staff keep the firms that use the open API: their
// keys, each shown once, and what they asked for. Start at Routes.
package partner

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/web"
	"koala/web/open"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Random func(context.Context, []byte) error // of the hsm
}

const here = "/ops/partners"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("POST "+here, d.add)
	m.Handle("GET "+here+"/{code}", d.one)
	m.Handle("POST "+here+"/{code}/keys", d.makeKey)
	m.Handle("POST "+here+"/{code}/revoke", d.revoke)
	m.Handle("POST "+here+"/{code}/space", d.space)
}

// rights are the sets of rights that staff give.
var rights = []struct {
	value  string
	name   web.Text
	scopes []open.Scope
}{
	{"all", words.RightsAll, open.Scopes},
	{"cards", words.RightsCards, []open.Scope{open.ReadCards, open.WriteCards}},
	{"read", words.RightsRead, []open.Scope{open.ReadTemplates, open.ReadCards}},
}

func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(p open.Partner) string { return p.Code }
	var list []open.Partner
	keys := map[string][]open.Key{}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]open.Partner, error) { return open.Partners(q, after, limit) }, key, nil)
		for _, p := range list {
			if err == nil {
				keys[p.Code], err = open.KeysOf(q, p.Code)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("partners: %w", err)
	}
	t := web.Table{ID: "partners", Empty: words.NoPartners, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Partner}, {Name: words.Code},
		{Name: words.LivingKeys, Num: true}, {Name: words.LastUsed, Num: true}, {Name: words.Since, Num: true}}}
	for _, p := range list {
		living, used := 0, time.Time{}
		for _, k := range keys[p.Code] {
			if k.Revoked.IsZero() {
				living++
			}
			if k.Used.After(used) {
				used = k.Used
			}
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + p.Code, Cells: []web.Cell{web.Plain(nameOf(p).In(ctx)), web.Mono(p.Code), web.Count(int64(living)),
			{Text: shell.Ago(d.Desk.Store.Now(), used).In(ctx), CSV: web.When(used).Text}, shell.At(p.Made)}})
	}
	add := shell.Question{ID: "ask-partner", Action: here, Open: words.Add, Body: words.AddBody, Icon: "plus", Fields: []web.Field{
		{Name: "code", Label: words.Code, Hint: words.CodeHint, Required: true, Max: open.MaxCode},
		{Name: "zh", Label: words.NameZH, Required: true, Max: open.MaxName}, {Name: "en", Label: words.NameEN, Required: true, Max: open.MaxName}}}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, shell.ListView{Table: t, Acts: []shell.Question{add}})
}

func nameOf(p open.Partner) web.Text { return web.Text{ZH: p.NameZH, EN: p.NameEN} }

func (d Deps) add(w http.ResponseWriter, r *http.Request) error {
	p := open.Partner{Code: field(r, "code"), NameZH: field(r, "zh"), NameEN: field(r, "en")}
	return d.Desk.Change(w, r, here, words.Added, shell.Deed{Act: shell.ActPartner, Target: here + "/" + p.Code, What: p.Code},
		func(tx *db.Tx) error { return open.AddPartner(tx, p) })
}

func field(r *http.Request, name string) string {
	return strings.Join(strings.Fields(r.PostFormValue(name)), " ")
}

// A view is one partner.
type view struct {
	facts    []web.Fact
	keys     web.Table
	consents web.Table // cards that wearers agreed to
	requests web.Table
	acts     []shell.Question
	deeds    []web.Happening
}

func (d Deps) one(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	at := here + "/" + r.PathValue("code")
	key := func(l open.Logged) string { return l.ID }
	var p open.Partner
	var keys []open.Key
	var rows []open.Logged
	var agreed []open.Consent
	var firm issuing.Firm
	var v view
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if p, err = open.PartnerOf(q, r.PathValue("code")); err != nil {
			return err
		}
		if keys, err = open.KeysOf(q, p.Code); err != nil {
			return err
		}
		if firm, err = issuing.FirmOf(q, p.Code); err != nil {
			return err
		}
		if agreed, err = open.ConsentsUsedBy(q, p.Code, shell.Rows); err != nil {
			return err
		}
		rows, err = shell.Gather(pg, func(after string, limit int) ([]open.Logged, error) {
			return open.RequestsOf(q, p.Code, after, limit)
		}, key, nil)
		if err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a partner: %w", err)
	}
	v.requests = requestTable(ctx, rows)
	v.requests.Next = shell.NextOf(r, rows, pg, key)
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.requests)
	}
	v.keys = keyTable(ctx, d.Desk.Store.Now(), keys)
	v.consents = consentTable(agreed)
	v.facts = []web.Fact{{Name: words.Code, Value: p.Code, Mono: true}, {Name: words.Since, Value: web.Moment(p.Made)},
		{Name: words.Templates, Show: shell.Link("/ops/issuers?issuer="+p.Code, words.ItsTemplates)}, {Name: words.Reference, Show: shell.Link("/developers", words.ToReference)},
		{Name: words.Space, Value: web.Number(int64(firm.Space))}}
	if firm.Number != 0 {
		v.facts = append(v.facts, web.Fact{Name: words.Domain, Value: fmt.Sprintf("%X", string(firm.Domain())), Mono: true})
	}
	if v.acts, err = d.acts(ctx, p, keys); err != nil {
		return err
	}
	v.acts = append(v.acts, shell.Question{ID: "ask-space", Action: at + "/space", Open: words.ChangeSpace, Body: words.SpaceBody, Icon: "cpu",
		Fields: []web.Field{{Name: "space", Label: words.Space, Type: "number", Mode: "numeric", Required: true, Max: 5, Value: strconv.Itoa(firm.Space)}}})
	return d.Desk.Show(w, r, web.Page{Title: nameOf(p), Lead: words.PartnerLead, Back: here, Here: here}, partnerPage(v))
}

// acts offers a new key, and to take living ones back. The form has a name of
// its own, so that sending it twice makes one key.
func (d Deps) acts(ctx context.Context, p open.Partner, keys []open.Key) ([]shell.Question, error) {
	var form [12]byte
	if err := d.Random(ctx, form[:]); err != nil {
		return nil, err
	}
	options := make([]web.Option, len(rights))
	for i, x := range rights {
		options[i] = web.Option{Value: x.value, Name: x.name}
	}
	at := here + "/" + p.Code
	out := []shell.Question{{ID: "ask-key", Action: at + "/keys", Open: words.MakeKey, Body: words.MakeKeyBody.F(p.Code), Icon: "key-round", Hidden: [][2]string{{"form", fmt.Sprintf("%x", form)}},
		Fields: []web.Field{{Name: "name", Label: words.KeyName, Hint: words.KeyNameHint, Required: true, Max: open.MaxName},
			{Name: "rights", Label: words.Rights, Type: "select", Options: options, Value: "all"}}}}
	var living []web.Option
	for _, k := range keys {
		if k.Revoked.IsZero() {
			living = append(living, web.Option{Value: k.ID, Name: web.Same(k.Head + "… · " + k.Name)})
		}
	}
	if len(living) > 0 {
		out = append(out, shell.Question{ID: "ask-revoke", Action: at + "/revoke", Open: words.Revoke, Body: words.RevokeBody, Icon: "ban", Danger: true, Choices: living})
	}
	return out, nil
}

func keyTable(ctx context.Context, now time.Time, keys []open.Key) web.Table {
	t := web.Table{ID: "keys", NoCSV: true, Empty: words.NoKeys, Head: []web.Column{{Name: words.Key}, {Name: words.KeyName}, {Name: words.State}, {Name: words.Rights},
		{Name: words.LastUsed, Num: true}, {Name: words.MadeBy}, {Name: words.Since, Num: true}}}
	for _, k := range keys {
		tone, word := web.Good, words.Living
		if !k.Revoked.IsZero() {
			tone, word = web.Bad, words.Revoked
		}
		scopes := make([]string, len(k.Scopes))
		for i, s := range k.Scopes {
			scopes[i] = string(s)
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(k.Head + "…"), web.Plain(k.Name), web.Status(ctx, tone, word), {Text: rightsOf(k).In(ctx), CSV: strings.Join(scopes, " ")},
			shell.Short(shell.Ago(now, k.Used).In(ctx)), web.Plain(k.By), shell.Short(web.Day(ctx, k.Made))}})
	}
	return t
}

// consentTable lists the cards that wearers gave the partner leave for. A code
// is not in it: only its hash is kept.
func consentTable(list []open.Consent) web.Table {
	t := web.Table{ID: "consents", NoCSV: true, Empty: words.NoConsents, Head: []web.Column{{Name: words.Consent}, {Name: words.Order}, {Name: words.Band}, {Name: words.For}, {Name: words.Agreed, Num: true}, {Name: words.Used, Num: true}}}
	for _, c := range list {
		whom := words.ForAny
		if c.Partner != "" {
			whom = words.ForThis
		}
		t.Rows = append(t.Rows, web.Row{Href: "/ops/orders/" + c.Order, Cells: []web.Cell{shell.Ident(c.ID), shell.Ident(c.Order), shell.Ident(c.Band),
			{Show: shell.Phrase(whom)}, shell.At(c.Made), shell.At(c.Ended)}})
	}
	return t
}

// rightsOf names the set of rights of a key.
func rightsOf(k open.Key) web.Text {
	for _, x := range rights {
		if slices.Equal(x.scopes, k.Scopes) {
			return x.name
		}
	}
	return words.Rights
}

// briefPath leaves the middle of identifiers in an address out.
func briefPath(path string) string {
	const most, head, tail = 16, 8, 4
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) > most && strings.Contains(p, "_") {
			parts[i] = p[:head] + "…" + p[len(p)-tail:]
		}
	}
	return strings.Join(parts, "/")
}

func requestTable(ctx context.Context, rows []open.Logged) web.Table {
	t := web.Table{ID: "requests", Empty: words.NoRequests, Head: []web.Column{{Name: words.Request}, {Name: words.Status},
		{Name: words.LogName}, {Name: words.Took, Num: true}, {Name: words.At, Num: true}}}
	for _, l := range rows {
		tone := web.Good
		switch {
		case l.Status >= 500:
			tone = web.Bad
		case l.Status >= 400:
			tone = web.Warn
		}
		status := web.Same(strconv.Itoa(l.Status))
		if l.Replayed {
			status = words.Replayed.F(l.Status)
		}
		if l.Code != "" {
			status = web.Same(strconv.Itoa(l.Status) + " " + l.Code)
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{{Text: l.Method + " " + briefPath(l.Path), CSV: l.ID + " " + l.Method + " " + l.Path, Mono: true}, web.Status(ctx, tone, status),
			shell.Ident(l.ID), shell.Short(fmt.Sprintf("%.1f ms", float64(l.Took.Microseconds())/1000)), shell.At(l.At)}})
	}
	return t
}

// makeKey makes a key and shows it, this once: it is not kept.
func (d Deps) makeKey(w http.ResponseWriter, r *http.Request) error {
	at := here + "/" + r.PathValue("code")
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	i := slices.IndexFunc(rights, func(x struct {
		value  string
		name   web.Text
		scopes []open.Scope
	}) bool {
		return x.value == r.PostFormValue("rights")
	})
	if i < 0 {
		return fmt.Errorf("rights of a key: %w", shell.ErrForm)
	}
	var chance [24]byte
	if err := d.Random(r.Context(), chance[:]); err != nil {
		return err
	}
	u, _ := web.Who(r.Context())
	k := open.Key{Partner: r.PathValue("code"), Name: field(r, "name"), Scopes: rights[i].scopes, By: u.Name}
	text := open.KeyText(chance[:])
	err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) (err error) {
		if k, err = open.AddKey(tx, k, r.PostFormValue("form"), text); err != nil {
			return err
		}
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActKey, Target: at, What: k.Head + "… " + k.Name, Why: reason})
	})
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.NewKey, Lead: words.NewKeyLead, Back: at, Here: here}, keyPage(text, at))
}

// space changes what the firm's cards may take of one band's element.
func (d Deps) space(w http.ResponseWriter, r *http.Request) error {
	at, code := here+"/"+r.PathValue("code"), r.PathValue("code")
	n, err := strconv.Atoi(field(r, "space"))
	if err != nil {
		return shell.Sorry(w, r, at, fmt.Errorf("space of a partner: %w", issuing.ErrSpace))
	}
	return d.Desk.Change(w, r, at, words.SpaceChanged, shell.Deed{Act: shell.ActSpace, Target: at, What: code + " " + strconv.Itoa(n)}, func(tx *db.Tx) error {
		if _, err := open.PartnerOf(tx, code); err != nil {
			return err
		}
		return issuing.SetFirmSpace(tx, code, n)
	})
}

func (d Deps) revoke(w http.ResponseWriter, r *http.Request) error {
	at, id := here+"/"+r.PathValue("code"), r.PostFormValue("decision")
	return d.Desk.Change(w, r, at, words.DidRevoke, shell.Deed{Act: shell.ActRevoke, Target: at, What: id},
		func(tx *db.Tx) error { return open.Revoke(tx, r.PathValue("code"), id) })
}
