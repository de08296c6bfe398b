// Package people is where an owner says who works for the merchant and as
// what: invitations with a code that is shown once, roles, and the trail of
// what staff did. It also is the page on which an invited person joins. Start
// at Routes and Public.
package people

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	People *customer.Desk
	Random func(ctx context.Context, b []byte) error // fills b: for codes
}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	d.Desk.Route(m, "GET /merchant/staff", shell.SeeStaff, d.staff)
	d.Desk.Route(m, "POST /merchant/staff", shell.ChangeStaff, d.invite)
	d.Desk.Route(m, "POST /merchant/staff/{id}/role", shell.ChangeStaff, d.promote)
	d.Desk.Route(m, "POST /merchant/staff/{id}/remove", shell.ChangeStaff, d.remove)
	d.Desk.Route(m, "GET /merchant/staff/acts", shell.SeeStaff, d.acts)
}

// Public adds the page on which an invited person joins.
func Public(m *web.Mux, d Deps) {
	m.Handle("GET /merchant/join", d.join)
	m.Handle("POST /merchant/join", d.joined)
}

const atStaff = "/merchant/staff"

// A person is one member of staff with a name.
type person struct {
	shell.Member
	who  customer.Customer
	self bool
}

// A staffView lists who works here.
type staffView struct {
	people    []person
	invited   web.Table
	rights    web.Table
	form      []web.Field
	mayChange bool
	trail     []web.Happening
}

func (d Deps) staff(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	v, err := d.read(r.Context(), s)
	if err != nil {
		return err
	}
	return d.Desk.Show(w, r, s, web.Page{Title: words.Staff, Lead: words.StaffLead, Here: atStaff}, staffPage(v))
}

func (d Deps) read(ctx context.Context, s shell.Seat) (v staffView, err error) {
	var invited []shell.Invitation
	var deeds []shell.Deed
	err = d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := shell.StaffOf(q, s.Merchant.ID)
		if err != nil {
			return err
		}
		for _, m := range list {
			if !m.Left.IsZero() {
				continue
			}
			c, err := customer.Get(q, m.Customer)
			if err != nil {
				return err
			}
			v.people = append(v.people, person{m, c, m.Customer == s.Member.Customer})
		}
		if invited, err = shell.Invitations(q, s.Merchant.ID, d.Desk.Store.Now()); err != nil {
			return err
		}
		deeds, err = shell.Deeds(q, s.Merchant.ID, "", "", 10)
		return err
	})
	if err != nil {
		return v, fmt.Errorf("staff of %s: %w", s.Merchant.ID, err)
	}
	v.mayChange, v.trail = s.May(shell.ChangeStaff), shell.Trail(ctx, deeds)
	v.invited = web.Table{ID: "invited", NoCSV: true, Empty: words.NoInvited, Head: []web.Column{{Name: words.Name}, {Name: words.Role}, {Name: words.By}, {Name: words.Until, Num: true}}}
	for _, i := range invited {
		v.invited.Rows = append(v.invited.Rows, web.Row{Cells: []web.Cell{web.Plain(i.Name), web.Plain(shell.Both(i.Role.Words).In(ctx)), web.Mono(i.By), parts.At(i.Expires)}})
	}
	v.rights = rightsTable(ctx)
	v.form = inviteForm("", shell.Cashier, web.Text{})
	return v, nil
}

func roleOptions() (out []web.Option) {
	for _, r := range shell.Roles {
		out = append(out, web.Option{Value: string(r), Name: shell.Both(r.Words)})
	}
	return out
}

func inviteForm(name string, role shell.Role, wrong web.Text) []web.Field {
	return []web.Field{{Name: "name", Label: words.Name, Value: name, Required: true, Max: customer.MaxName, Hint: words.NameHint, Error: wrong}, {Name: "role", Label: words.Role, Type: "select", Options: roleOptions(), Value: string(role)}}
}

// rightsTable is the one table of roles, for people.
func rightsTable(ctx context.Context) web.Table {
	t := web.Table{ID: "rights", NoCSV: true, Head: []web.Column{{Name: words.Right}}}
	for _, r := range shell.Roles {
		t.Head = append(t.Head, web.Column{Name: shell.Both(r.Words)})
	}
	for _, x := range shell.Rights {
		row := web.Row{Cells: []web.Cell{web.Plain(shell.Both(x.Words).In(ctx))}}
		for _, r := range shell.Roles {
			cell := parts.None()
			if r.May(x) {
				cell = web.Status(ctx, web.Good, words.Yes)
			}
			if fen, bounded := r.RefundMost(); x == shell.GiveBack && bounded && fen > 0 {
				cell = web.Status(ctx, web.Good, words.UpTo.F(web.Yuan(fen)))
			}
			row.Cells = append(row.Cells, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// codeBytes make a code of 16 letters and digits.
const codeBytes = 10

// invite makes an invitation; its code is shown once and kept as a hash.
func (d Deps) invite(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	name, role := strings.TrimSpace(r.PostFormValue("name")), shell.Role(r.PostFormValue("role"))
	if n := len([]rune(name)); n < 1 || n > customer.MaxName {
		v, err := d.read(r.Context(), s)
		if err != nil {
			return err
		}
		v.form = inviteForm(name, role, words.BadName)
		w.WriteHeader(http.StatusUnprocessableEntity)
		return d.Desk.Show(w, r, s, web.Page{Title: words.Staff, Lead: words.StaffLead, Here: atStaff}, staffPage(v))
	}
	var raw [codeBytes]byte
	if err := d.Random(r.Context(), raw[:]); err != nil {
		return fmt.Errorf("draw a code: %w", err)
	}
	code := base32.StdEncoding.EncodeToString(raw[:])
	err := d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
		if err := shell.Invite(tx, shell.HashCode(code), shell.Invitation{Merchant: s.Merchant.ID, Name: name, Role: role, By: s.Login}); err != nil {
			return err
		}
		return shell.Keep(tx, s.Deed(shell.ActInvite, atStaff, name+" · "+string(role)))
	})
	if err != nil {
		return shell.Sorry(w, r, atStaff, err)
	}
	shown := code[:4] + "-" + code[4:8] + "-" + code[8:12] + "-" + code[12:]
	return d.Desk.Show(w, r, s, web.Page{Title: words.CodeTitle, Lead: words.CodeLead.F(name), Back: atStaff, Here: atStaff}, codePage(shown))
}

func (d Deps) promote(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	id, role := customer.ID(r.PathValue("id")), shell.Role(r.PostFormValue("role"))
	return d.Desk.Do(w, r, atStaff, words.RoleChanged, s.Deed(shell.ActPromote, atStaff, d.nameOf(r, id)+" · "+string(role)), func(tx *db.Tx) error {
		return shell.Promote(tx, id, s.Merchant.ID, role)
	})
}

func (d Deps) remove(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	id := customer.ID(r.PathValue("id"))
	return d.Desk.Do(w, r, atStaff, words.Removed, s.Deed(shell.ActLet, atStaff, d.nameOf(r, id)), func(tx *db.Tx) error {
		return shell.Let(tx, id, s.Merchant.ID)
	})
}

// nameOf is the login of a person, for the trail.
func (d Deps) nameOf(r *http.Request, id customer.ID) string {
	var c customer.Customer
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		c, err = customer.Get(q, id)
		return err
	})
	if err != nil {
		return string(id)
	}
	return c.Login
}

// acts is the trail, all of it.
func (d Deps) acts(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, pg := r.Context(), web.PageOf(r, parts.Rows)
	key := func(x shell.Deed) string { return x.ID }
	var list []shell.Deed
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = parts.Gather(pg, func(before string, limit int) ([]shell.Deed, error) {
			return shell.Deeds(q, s.Merchant.ID, "", before, limit)
		}, key, nil)
		return err
	})
	if err != nil {
		return err
	}
	t := web.Table{ID: "acts", Empty: words.NoActs, Next: parts.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.At}, {Name: words.By}, {Name: words.Act}, {Name: words.What}}}
	for _, x := range list {
		t.Rows = append(t.Rows, web.Row{Href: x.Target, Cells: []web.Cell{{Text: web.Moment(x.At), Show: parts.Tight(web.Moment(x.At))}, web.Mono(x.Who), {Text: shell.Both(x.Act.Words).In(ctx), CSV: string(x.Act)}, web.Plain(x.What)}})
	}
	return d.Desk.List(w, r, s, web.Page{Title: words.Acts, Lead: words.ActsLead, Back: atStaff, Here: atStaff}, t, web.DataTable(t))
}

// A joinView is the form of an invited person.
type joinView struct {
	form []web.Field
	top  web.Text // what was wrong with all of it
}

var joinNames = []string{"code", "login", "name", "phone", "password"}

func joinForm(values map[string]string, wrong map[string]web.Text) (v joinView) {
	label := map[string]web.Text{"code": words.Code, "login": words.Login, "name": words.Name, "phone": words.Phone, "password": words.Password}
	hint := map[string]web.Text{"code": words.CodeHint, "login": words.LoginHint, "phone": words.PhoneHint, "password": words.PasswordHint}
	for _, n := range joinNames {
		f := web.Field{Name: n, Label: label[n], Hint: hint[n], Error: wrong[n], Value: values[n], Required: true, Max: 72}
		if n == "password" {
			f.Type, f.Value = "password", ""
		}
		v.form = append(v.form, f)
	}
	v.top = wrong[""]
	return v
}

func (d Deps) join(w http.ResponseWriter, r *http.Request) error {
	return d.Desk.Kit.Page(w, r, web.Page{Title: words.Join, Lead: words.JoinLead}, joinPage(joinForm(map[string]string{"code": r.FormValue("code")}, nil)))
}

// joined makes a login for who has a code. The code is looked at before the
// login is made, and used in a unit of its own: a login without a job can
// still be used with the next code.
func (d Deps) joined(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	ctx, values := r.Context(), map[string]string{}
	for _, n := range joinNames {
		values[n] = strings.TrimSpace(r.PostFormValue(n))
	}
	a := customer.Application{Login: values["login"], Name: values["name"], Phone: values["phone"], Secret: r.PostFormValue("password"), Roles: []customer.Role{customer.Trader}}
	var i shell.Invitation
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		i, err = shell.InvitationOf(q, values["code"], d.Desk.Store.Now())
		return err
	})
	var c customer.Customer
	if err == nil {
		c, err = d.People.Register(ctx, a)
	}
	if err == nil {
		err = d.Desk.Store.Write(ctx, func(tx *db.Tx) error {
			if _, err := shell.Accept(tx, values["code"], c.ID); err != nil {
				return err
			}
			return shell.Keep(tx, shell.Deed{Merchant: i.Merchant, Who: c.Login, Act: shell.ActJoin, Target: atStaff, What: i.Name + " · " + string(i.Role)})
		})
	}
	if err != nil {
		field, known := FieldOf(err)
		if !known {
			return err
		}
		f := fail.Of(err)
		w.WriteHeader(http.StatusUnprocessableEntity)
		return d.Desk.Kit.Page(w, r, web.Page{Title: words.Join, Lead: words.JoinLead}, joinPage(joinForm(values, map[string]web.Text{field: web.FailureText(f.Code, f.Text)})))
	}
	return web.Redirect(w, r, "/login?back="+shell.Home, web.Toast{Tone: web.Good, Text: words.Joined.In(ctx)})
}

// FieldOf says which field of a form about a person a failure is about; known
// is false for failures that are no fault of the form.
func FieldOf(err error) (field string, known bool) {
	for _, x := range []struct {
		err   error
		field string
	}{{shell.ErrCode, "code"}, {customer.ErrTaken, "login"}, {customer.ErrLogin, "login"}, {customer.ErrName, "name"}, {customer.ErrPhone, "phone"}, {customer.ErrSecret, "password"}} {
		if errors.Is(err, x.err) {
			return x.field, true
		}
	}
	return "", false
}
