// Package apply is how somebody becomes a merchant: the application with what
// is wrong beside each field, and the page that says how far it is, what is
// missing, and takes papers. Start at Public and Routes.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/merchant"
	"koala/web"
	"koala/web/merchant/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk      shell.Desk
	People    *customer.Desk
	Merchants *merchant.Desk
	Seal      func(ctx context.Context, plain []byte) ([]byte, error)
}

// Public adds the application, which anybody may fill in.
func Public(m *web.Mux, d Deps) {
	m.Handle("GET /merchant/apply", d.form)
	m.Handle("POST /merchant/apply", d.apply)
}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	d.Desk.Route(m, "GET /merchant/status", shell.SeeStaff, d.status)
	d.Desk.Route(m, "POST /merchant/status/papers", shell.ChangeStaff, d.paper)
}

// The address of the status page.
const atStatus = "/merchant/status"

// A group is one part of the form.
type group struct {
	title  web.Text
	fields []web.Field
}

// names are the fields of the form, in order.
var names = []string{"form", "name", "licence", "legal", "id_number", "mobile", "shop_zh", "shop_en", "mcc", "city", "address", "bank", "holder", "account", "login", "person", "password"}

// values reads the form.
func values(r *http.Request) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		out[n] = strings.TrimSpace(r.PostFormValue(n))
	}
	out["password"] = r.PostFormValue("password")
	return out
}

// groups lays the form out with what is wrong beside each field. own leaves the
// login out: it is there already.
func groups(v map[string]string, wrong map[string]web.Text, own bool) []group {
	field := func(name string, label, hint web.Text, typ string) web.Field {
		return web.Field{Name: name, Label: label, Hint: hint, Type: typ, Value: v[name], Error: wrong[name], Required: true, Max: merchant.MaxName}
	}
	form := field("form", words.Form, words.FormHint, "select")
	for _, f := range []merchant.Form{merchant.Individual, merchant.Enterprise, merchant.Micro} {
		form.Options = append(form.Options, web.Option{Value: string(f), Name: shell.Both(f.Words)})
	}
	licence, address := field("licence", words.Licence, words.LicenceHint, ""), field("address", words.Address, words.AddressHint, "")
	licence.Required, licence.Max, address.Max = false, 18, merchant.MaxText/3
	mcc, city := field("mcc", words.Category, words.CategoryHint, ""), field("city", words.City, words.CityHint, "")
	mcc.List, city.List = "categories", "cities"
	mobile, account := field("mobile", words.Phone, words.PhoneHint, ""), field("account", words.Account, words.AccountHint, "")
	mobile.Mode, account.Mode, mobile.Max, account.Max = "numeric", "numeric", 11, 32
	id := field("id_number", words.IDNumber, words.IDHint, "")
	id.Max = 18
	out := []group{{words.PartFirm, []web.Field{form, field("name", words.Name, words.NameHint, ""), licence, field("legal", words.Legal, words.LegalHint, ""), id, mobile}},
		{words.PartShop, []web.Field{field("shop_zh", words.ShopZH, words.ShopHint, ""), field("shop_en", words.ShopEN, words.ShopENHint, ""), mcc, city, address}},
		{words.PartMoney, []web.Field{field("bank", words.Bank, words.BankHint, ""), field("holder", words.Holder, words.HolderHint, ""), account}}}
	if !own {
		secret := field("password", words.Password, words.PasswordHint, "password")
		secret.Value = ""
		out = append(out, group{words.PartLogin, []web.Field{field("person", words.Person, words.PersonHint, ""), field("login", words.Login, words.LoginHint, ""), secret}})
	}
	return out
}

// check looks at every field by itself, so that all that is wrong is said at
// once. What only the house knows, Apply says.
func check(v map[string]string, own bool) map[string]web.Text {
	wrong := map[string]web.Text{}
	say := func(name string, err error) {
		if err != nil {
			f := fail.Of(err)
			wrong[name] = web.FailureText(f.Code, f.Text)
		}
	}
	for _, n := range []string{"name", "legal", "shop_zh", "shop_en", "bank", "holder"} {
		if !named(v[n], merchant.MaxName) {
			say(n, merchant.ErrName)
		}
	}
	micro := v["form"] == string(merchant.Micro)
	switch {
	case micro && v["licence"] != "":
		wrong["licence"] = words.NoLicence
	case !micro:
		say("licence", merchant.CheckCredit(v["licence"]))
	}
	say("id_number", merchant.CheckIdentity(v["id_number"]))
	if _, err := merchant.CategoryOf(v["mcc"]); err != nil {
		say("mcc", err)
	}
	if _, err := merchant.FindCity(v["city"]); err != nil {
		say("city", err)
	}
	if len(v["mobile"]) != 11 || v["mobile"][0] != '1' || strings.Trim(v["mobile"], "0123456789") != "" {
		say("mobile", merchant.ErrPhone)
	}
	if n := len(v["account"]); n < 8 || n > 32 || strings.Trim(v["account"], "0123456789") != "" {
		say("account", merchant.ErrAccount)
	}
	if len(v["address"]) == 0 || len(v["address"]) > merchant.MaxText {
		wrong["address"] = words.BadAddress
	}
	if !own && (len(v["password"]) < customer.MinSecret || len(v["password"]) > customer.MaxSecret) {
		say("password", customer.ErrSecret)
	}
	return wrong
}

func named(s string, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// owner is who applies: somebody logged in who works for nobody yet. found is
// false for who has to make a login first.
func (d Deps) owner(r *http.Request) (id customer.ID, login string, found bool, err error) {
	u, in := web.Who(r.Context())
	if !in || !u.May(web.Trade, http.MethodPost) {
		return "", "", false, nil
	}
	err = d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		_, works, err := shell.MemberOf(q, customer.ID(u.Subject))
		if works {
			err = shell.ErrElsewhere
		}
		return err
	})
	return customer.ID(u.Subject), u.Name, err == nil, err
}

func (d Deps) form(w http.ResponseWriter, r *http.Request) error {
	_, _, own, err := d.owner(r)
	if errors.Is(err, shell.ErrElsewhere) {
		return web.Redirect(w, r, atStatus, web.Toast{})
	}
	if err != nil {
		return err
	}
	return d.show(w, r, groups(map[string]string{}, nil, own), web.Text{})
}

func (d Deps) show(w http.ResponseWriter, r *http.Request, g []group, top web.Text) error {
	return d.Desk.Kit.Page(w, r, web.Page{Title: words.Apply, Lead: words.ApplyLead}, applyPage(g, top))
}

// apply takes an application: the login first, then the merchant with its
// checks, then the first owner. A login whose application failed may apply
// again.
func (d Deps) apply(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	ctx := r.Context()
	id, login, own, err := d.owner(r)
	if err != nil {
		return err
	}
	v := values(r)
	wrong := check(v, own)
	if len(wrong) == 0 && !own {
		var c customer.Customer
		c, err = d.People.Register(ctx, customer.Application{Login: v["login"], Name: v["person"], Phone: v["mobile"], Secret: v["password"], Roles: []customer.Role{customer.Trader}})
		id, login = c.ID, c.Login
	}
	var m merchant.Merchant
	if len(wrong) == 0 && err == nil {
		m, err = d.Merchants.Apply(ctx, application(v))
	}
	if err != nil {
		field, known := fieldOf(err)
		if !known {
			return err
		}
		f := fail.Of(err)
		wrong[field] = web.FailureText(f.Code, f.Text)
	}
	if len(wrong) > 0 {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return d.show(w, r, groups(v, wrong, own), words.SomeWrong.F(len(wrong)))
	}
	err = d.Desk.Store.Write(ctx, func(tx *db.Tx) error {
		if err := shell.Hire(tx, id, m.ID, shell.Owner); err != nil {
			return err
		}
		return shell.Keep(tx, shell.Deed{Merchant: m.ID, Who: login, Act: shell.ActApply, Target: atStatus, What: m.Name})
	})
	if err != nil {
		return err
	}
	to := "/login?back=" + atStatus
	if own {
		to = atStatus
	}
	return web.Redirect(w, r, to, web.Toast{Tone: web.Good, Text: words.Applied.In(ctx)})
}

func application(v map[string]string) merchant.Application {
	city, _ := merchant.FindCity(v["city"]) // it was looked at
	return merchant.Application{Form: merchant.Form(v["form"]), Name: v["name"], Licence: v["licence"], Legal: v["legal"], IDNumber: v["id_number"], Phone: v["mobile"],
		Bank: v["bank"], Holder: v["holder"], Account: v["account"], City: city.Code, Shop: merchant.Shop{NameEN: v["shop_en"], NameZH: v["shop_zh"], MCC: v["mcc"], City: city.Code, Address: v["address"]}}
}

// fieldOf says which field a failure of the house is about.
func fieldOf(err error) (string, bool) {
	for _, x := range []struct {
		err   error
		field string
	}{{customer.ErrTaken, "login"}, {customer.ErrLogin, "login"}, {customer.ErrName, "person"}, {customer.ErrSecret, "password"}, {customer.ErrPhone, "mobile"}, {merchant.ErrForm, "form"}, {merchant.ErrLicence, "licence"},
		{merchant.ErrIDNumber, "id_number"}, {merchant.ErrPhone, "mobile"}, {merchant.ErrAccount, "account"}, {merchant.ErrCategory, "mcc"}, {merchant.ErrCity, "city"}, {merchant.ErrName, "name"}} {
		if errors.Is(err, x.err) {
			return x.field, true
		}
	}
	return "", false
}

// A statusView is how far a merchant is.
type statusView struct {
	steps     []web.Step
	facts     []web.Fact
	checks    web.Table
	shops     web.Table
	papers    []paper
	timeline  []web.Happening
	mayBring  bool
	wrong     web.Text
	wrongKind merchant.DocKind
}

// A paper is one document that is needed or there.
type paper struct {
	kind   merchant.DocKind
	name   web.Text
	needed bool
	have   []merchant.Document
}

func (d Deps) status(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	return d.statusWith(w, r, s, "", web.Text{})
}

func (d Deps) statusWith(w http.ResponseWriter, r *http.Request, s shell.Seat, kind merchant.DocKind, wrong web.Text) error {
	var x merchant.Detail
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		x, err = merchant.DetailOf(q, s.Merchant.ID, d.Desk.Store.Now())
		return err
	})
	if err != nil {
		return fmt.Errorf("status of %s: %w", s.Merchant.ID, err)
	}
	v := statusView{steps: steps(x), facts: facts(x.Merchant), papers: papersOf(x), mayBring: s.May(shell.ChangeStaff) && x.Merchant.State != merchant.Closed, wrong: wrong, wrongKind: kind}
	v.tables(r.Context(), x)
	return d.Desk.Show(w, r, s, web.Page{Title: words.Status, Lead: words.StatusLead, Here: atStatus}, statusPage(v))
}

// steps are the way from the application to the first sale.
func steps(x merchant.Detail) []web.Step {
	out := []web.Step{{Name: words.StepApplied, State: web.StepDone, Detail: web.Moment(x.Merchant.Made)}, {Name: words.StepPapers}, {Name: words.StepChecked}, {Name: words.StepApproved}, {Name: words.StepTerminal}, {Name: words.StepSelling}}
	papers, open := false, len(x.Open) > 0
	for _, o := range x.Open {
		papers = papers || o == merchant.CheckPapers
	}
	done := 1
	if !papers {
		done = 2
	}
	if !papers && !open {
		done = 3
	}
	switch x.Merchant.State {
	case merchant.Approved:
		done = 4
	case merchant.Active, merchant.Suspended:
		done = 6
	}
	for i := range out {
		switch {
		case i < done:
			out[i].State = web.StepDone
		case i == done:
			out[i].State = web.StepNow
		default:
			out[i].State = web.StepTodo
		}
	}
	if x.Merchant.State == merchant.Refused || x.Merchant.State == merchant.Closed {
		out[min(done, 5)].State = web.StepFailed
	}
	return out
}

func facts(m merchant.Merchant) []web.Fact {
	return []web.Fact{{Name: words.State, Show: web.Chip(stateTone(m.State), shell.Both(m.State.Words))}, {Name: words.Name, Show: web.Quote("zh", m.Name)}, {Name: words.Form, Show: web.Say(shell.Both(m.Form.Words))}, {Name: words.Licence, Value: orDash(m.Licence), Mono: true},
		{Name: words.Legal, Show: web.Quote("zh", m.Legal)}, {Name: words.IDNumber, Value: m.IDMask, Mono: true}, {Name: words.Phone, Value: m.Phone}, {Name: words.Account, Show: web.Quote("zh", m.Bank+" "+m.AccountMask)}, {Name: words.Holder, Show: web.Quote("zh", m.Holder)}, {Name: words.Level, Value: string(m.Risk)}}
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func stateTone(s merchant.State) web.Tone {
	switch s {
	case merchant.Active, merchant.Approved:
		return web.Good
	case merchant.Refused, merchant.Closed:
		return web.Bad
	case merchant.Suspended:
		return web.Warn
	}
	return web.Info
}

func (v *statusView) tables(ctx context.Context, x merchant.Detail) {
	v.checks = web.Table{ID: "checks", NoCSV: true, Empty: words.NoChecks, Head: []web.Column{{Name: words.What}, {Name: words.Result}, {Name: words.Note}}}
	last, order := map[merchant.What]merchant.Check{}, []merchant.What{}
	for _, c := range x.Checks {
		if _, known := last[c.What]; !known {
			order = append(order, c.What)
		}
		last[c.What] = c
	}
	for _, what := range order {
		c := last[what]
		tone := map[merchant.Result]web.Tone{merchant.Pass: web.Good, merchant.Fail: web.Warn, merchant.Waived: web.Info}[c.Result]
		v.checks.Rows = append(v.checks.Rows, web.Row{Cells: []web.Cell{web.Plain(shell.Both(what.Words).In(ctx)), web.Status(ctx, tone, shell.Both(c.Result.Words)), web.Plain(advice(c).In(ctx))}})
	}
	v.shops = web.Table{ID: "shops", NoCSV: true, Empty: words.NoShops, Head: []web.Column{{Name: words.Shop}, {Name: words.MID}, {Name: words.Category}, {Name: words.City}, {Name: words.State}}}
	for _, s := range x.Shops {
		v.shops.Rows = append(v.shops.Rows, web.Row{Cells: []web.Cell{web.Plain(shell.ShopName(s).In(ctx)), web.Mono(orDash(s.MID)), web.Mono(s.MCC), web.Plain(shell.Both(s.Place().Name).In(ctx)), web.Status(ctx, stateTone(s.State), shell.Both(s.State.Words))}})
	}
	for i := len(x.Timeline) - 1; i >= 0; i-- {
		e := x.Timeline[i]
		about := e.About
		if about == x.Merchant.ID {
			about = ""
		}
		v.timeline = append(v.timeline, web.Happening{At: e.At, Who: web.Day(ctx, e.At), What: eventText(e), Detail: about, Icon: "circle-dot"})
	}
}

// eventText says what happened: to the merchant, a shop or a terminal.
func eventText(e merchant.Event) web.Text {
	noun, verb, found := strings.Cut(e.What, ".")
	if !found {
		noun, verb = "", e.What
	}
	said := web.Same(strings.ReplaceAll(verb, "_", " "))
	for _, s := range merchant.States {
		if verb == string(s) {
			said = shell.Both(s.Words)
		}
	}
	if noun == "terminal" {
		if l := merchant.Life(verb); l.Words(false) != verb || l.Words(true) != verb {
			said = shell.Both(l.Words)
		}
	}
	what, known := map[string]web.Text{"": words.Business, "shop": words.Shop, "terminal": words.Terminal, "document": words.Papers}[noun]
	if !known {
		what = words.Business
	}
	return web.Text{ZH: what.ZH + "：" + said.ZH, EN: what.EN + ": " + said.EN}
}

// advice says what an applicant does about a check. Its note is for staff: it
// may name another merchant.
func advice(c merchant.Check) web.Text {
	switch {
	case c.Result != merchant.Fail:
		return web.Same("")
	case c.What == merchant.CheckPapers:
		return words.AdvisePapers
	}
	return words.AdviseCall
}

// papersOf lists what is needed, and what else is there.
func papersOf(x merchant.Detail) (out []paper) {
	needed := merchant.Papers(x.Merchant.Form)
	for _, k := range []merchant.DocKind{merchant.DocLicence, merchant.DocIDFront, merchant.DocIDBack, merchant.DocAccount, merchant.DocDoor, merchant.DocInside, merchant.DocContract} {
		p := paper{kind: k, name: shell.Both(k.Words)}
		for _, n := range needed {
			p.needed = p.needed || n == k
		}
		for _, h := range x.Documents {
			if h.Kind == k {
				p.have = append(p.have, h)
			}
		}
		if p.needed || len(p.have) > 0 || k == merchant.DocInside {
			out = append(out, p)
		}
	}
	return out
}

// maxPaper bounds one document, bytes.
const maxPaper = 4 << 20

// paper takes a document: sealed here, its hash with the merchant.
func (d Deps) paper(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxPaper+1<<16)
	ctx := r.Context()
	kind := merchant.DocKind("")
	again := func(wrong web.Text) error {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return d.statusWith(w, r, s, kind, wrong)
	}
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		return again(words.TooLarge)
	}
	kind = merchant.DocKind(r.PostFormValue("kind"))
	f, _, err := r.FormFile("file")
	if err != nil {
		return again(words.ChooseFile)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPaper+1))
	if err != nil || len(data) == 0 || len(data) > maxPaper {
		return again(words.TooLarge)
	}
	media := http.DetectContentType(data)
	if !strings.HasPrefix(media, "image/") && media != "application/pdf" {
		return again(words.NoPicture)
	}
	sealed, err := d.Seal(ctx, data)
	if err != nil {
		return fmt.Errorf("sealing a paper: %w", err)
	}
	doc := merchant.Document{Kind: kind, Hash: sha256.Sum256(data), Size: int64(len(data)), Media: media}
	return d.Desk.Do(w, r, atStatus, words.PaperKept, s.Deed(shell.ActPapers, atStatus, string(kind)), func(tx *db.Tx) error {
		if err := shell.KeepPaper(tx, s.Merchant.ID, hex.EncodeToString(doc.Hash[:]), media, sealed); err != nil {
			return err
		}
		return merchant.AddDocument(tx, s.Merchant.ID, s.Login, doc)
	})
}

// categoryName is a category's name in the page's language; some have none.
func categoryName(ctx context.Context, c merchant.Category) string {
	if web.LangOf(ctx) == web.ZH {
		return c.NameZH
	}
	return c.NameEN
}
