package terms

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

// A formView is the form of terms, and the preview of what it says.
type formView struct {
	groups  []group
	wrong   bool // something is, see its field
	preview bool
	changes web.Table
	trial   trial
	costs   web.Table
	note    web.Text
	later   calendar.Date // other terms end these; zero: none do
	ask     []shell.Question
}

// form asks for terms, filled with those of tomorrow; filled in it
// shows what they change and what the last closed day would have cost.
func (d Deps) form(w http.ResponseWriter, r *http.Request) error {
	ctx, payee, today := r.Context(), r.PathValue("payee"), d.today()
	var v formView
	var name web.Text
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		if known, err := isPayee(q, payee); err != nil || !known {
			return fmt.Errorf("terms of %.40q: %w", payee, orUnknown(err))
		}
		name = nameOf(q, payee)
		if r.FormValue("since") == "" {
			old, err := settlement.TermsOf(q, payee, today.AddDays(1))
			if err != nil {
				return err
			}
			a := agreedOf(old)
			if a.Since = today.AddDays(1); !a.Once {
				a.BPDay, a.Most, a.Promise = usualBPDay, usualMost, usualPromise
			}
			values := a.values()
			if r.FormValue("once") == "yes" { // a wish is being answered
				values.Set("once", "yes")
			}
			v.groups = fields(values, nil)
			return nil
		}
		a, wrong := readAgreed(r, payee, today)
		v.groups, v.wrong = fields(r.Form, wrong), len(wrong) > 0
		if v.wrong {
			return nil
		}
		return v.look(r, q, a, name)
	})
	if err != nil {
		return err
	}
	return d.Desk.Show(w, r, web.Page{Title: words.NewTerms, Lead: name, Back: at(payee), Here: "/ops/closings"}, formPage(v))
}

// What the form offers for being paid at once where nothing is agreed.
const (
	usualBPDay   = 5         // basis points
	usualMost    = 10_000_00 // fen
	usualPromise = 30        // minutes
)

// look fills the preview.
func (v *formView) look(r *http.Request, q db.Reader, a agreed, name web.Text) (err error) {
	ctx := r.Context()
	old, err := settlement.TermsOf(q, a.Payee, a.Since)
	if err != nil {
		return err
	}
	seen, err := base(q, a.Payee)
	if err != nil {
		return err
	}
	v.preview, v.changes = true, compared(ctx, agreedOf(old), a)
	if v.trial, err = try(q, a); err != nil {
		return err
	}
	v.costs = v.trial.table(ctx)
	all, err := settlement.AllTerms(q, a.Payee)
	if err != nil {
		return err
	}
	for _, t := range all {
		if v.later.IsZero() && a.Since.Before(t.Since) {
			v.later = t.Since
		}
	}
	switch {
	case v.trial.unpriced:
		v.note = words.Unpriced.F(v.trial.day.String())
	case v.trial.items >= mostItems:
		v.note = words.TrialPart.F(mostItems)
	}
	if a.same(agreedOf(old)) {
		return nil
	}
	v.ask = []shell.Question{{ID: "ask-propose", Action: at(a.Payee), Open: words.Propose, Body: words.ProposeBody, Icon: "check", Receiver: name.In(ctx), About: words.Payee, Hidden: hidden(a.values(), seen)}}
	return nil
}

func hidden(v url.Values, seen string) [][2]string {
	out := [][2]string{{"base", seen}}
	for name := range v {
		out = append(out, [2]string{name, v.Get(name)})
	}
	slices.SortFunc(out, func(a, b [2]string) int { return slices.Compare(a[:1], b[:1]) })
	return out
}

// proposeTerms keeps terms that another person confirms. What is wrong leads back
// to the form, which says it at the field.
func (d Deps) proposeTerms(w http.ResponseWriter, r *http.Request) error {
	payee := r.PathValue("payee")
	a, wrong := readAgreed(r, payee, d.today())
	back := at(payee) + "/new?" + filled(r.Form)
	if len(wrong) > 0 {
		return web.Redirect(w, r, back, web.Toast{Tone: web.Bad, Text: words.SomethingWrong.In(r.Context())})
	}
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		old, err := settlement.TermsOf(q, payee, a.Since)
		if err == nil && a.same(agreedOf(old)) {
			err = fmt.Errorf("terms of %s: %w", payee, ErrSame)
		}
		return err
	})
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	return two.Propose(d.Desk, w, r, back, termsKind+":"+payee, termsChange{Terms: a, Base: r.PostFormValue("base")})
}

// filled is a form as a part of an address, without what is not of it.
func filled(v url.Values) string {
	out := url.Values{}
	for name, list := range v {
		if name != "why" && name != "base" {
			out[name] = list
		}
	}
	return out.Encode()
}

// failureText puts a failure of the house into words.
func failureText(err error) web.Text {
	f := fail.Of(err)
	return web.FailureText(f.Code, f.Text)
}

// orUnknown is the first failure; none: the payee is not there.
func orUnknown(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return settlement.ErrNoPayee
}
