package home

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/openkey"
	"koala/money"
	"koala/slip"
	"koala/switching"
	"koala/web"
	"koala/web/paper"
)

// ErrOften is somebody who looks up too many slips.
var ErrOften = fail.Define(fail.Busy, "home.often", "too many slips were looked up from here; wait a minute")

// Slips is what the pages ask of the desk for slips.
type Slips interface {
	Next(ctx context.Context) error
	List(ctx context.Context) (openkey.Book, error)
}

const atSlips = "/slips"

func (d Deps) slipPages(m *web.Mux) {
	asked := new(limiter)
	limited := func(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error {
			if !asked.may(r, d.Kit.Now()) {
				return ErrOften
			}
			return f(w, r)
		}
	}
	m.Handle("GET /slips", d.askSlip)
	m.Handle("POST /slips", limited(d.findSlip))
	m.Handle("GET /slips/{id}", limited(d.checkSlip))
	m.Handle("GET /slips/{id}/file", limited(d.slipFile))
}

// A slipForm is what a holder reads off a slip, or knows.
type slipForm struct {
	tid, day, amount, tail string
	wrong                  map[string]web.Text
	asked                  bool
	found                  []slip.Kept
}

func (f slipForm) fields() []web.Field {
	return []web.Field{
		{Name: "terminal", Label: words.SlipTID, Hint: words.SlipTIDHint, Value: f.tid, Error: f.wrong["terminal"], Max: 8, Required: true},
		{Name: "day", Label: words.SlipDay, Type: "date", Value: f.day, Error: f.wrong["day"], Required: true},
		{Name: "amount", Label: words.SlipAmount, Mode: "decimal", Lead: "¥", Value: f.amount, Error: f.wrong["amount"], Max: 12, Required: true},
		{Name: "tail", Label: words.SlipTail, Hint: words.SlipTailHint, Mode: "numeric", Value: f.tail, Error: f.wrong["tail"], Max: 4, Required: true},
	}
}

func (d Deps) askSlip(w http.ResponseWriter, r *http.Request) error {
	return d.Kit.Page(w, r, web.Page{Title: words.Slips, Lead: words.SlipsLead, Back: "/"}, slipFormPage(slipForm{}))
}

// findSlip looks for what the form says. What is wrong with it is said of the
// form alone: which of the four was not a slip's, nobody is told.
func (d Deps) findSlip(w http.ResponseWriter, r *http.Request) error {
	f := slipForm{tid: strings.TrimSpace(r.PostFormValue("terminal")), day: r.PostFormValue("day"), amount: strings.TrimSpace(r.PostFormValue("amount")),
		tail: strings.TrimSpace(r.PostFormValue("tail")), wrong: map[string]web.Text{}}
	day, err := calendar.Parse(f.day)
	if err != nil {
		f.wrong["day"] = words.SlipBadDay
	}
	amount, err := money.ParseYuan(f.amount)
	if err != nil || amount.Sign() <= 0 {
		f.wrong["amount"] = words.SlipBadAmount
	}
	if len(f.tid) != 8 {
		f.wrong["terminal"] = words.SlipBadTID
	}
	if len(f.tail) != 4 || strings.Trim(f.tail, "0123456789") != "" {
		f.wrong["tail"] = words.SlipBadTail
	}
	if len(f.wrong) == 0 {
		f.asked = true
		if err := d.Slips.Next(r.Context()); err != nil && !errors.Is(err, slip.ErrBusy) {
			return err
		}
		err := d.Store.Read(r.Context(), func(q *db.Query) (err error) {
			f.found, err = slip.Find(q, f.tid, day, amount, f.tail)
			return err
		})
		if err != nil {
			return fmt.Errorf("looking a slip up: %w", err)
		}
	}
	if len(f.found) == 1 {
		return web.Redirect(w, r, paper.At(&f.found[0]), web.Toast{})
	}
	return d.Kit.Page(w, r, web.Page{Title: words.Slips, Lead: words.SlipsLead, Back: "/"}, slipFormPage(f))
}

// A slipView is a slip that is checked.
type slipView struct {
	paper paper.View
	good  bool
	state switching.State
	left  string // given back since, yuan; empty: nothing
	facts []web.Fact
	file  string
}

func (d Deps) readSlip(r *http.Request) (v slipView, err error) {
	ctx := r.Context()
	err = d.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.paper.Slip, err = slip.ByID(q, r.PathValue("id")); err != nil {
			return err
		}
		t, err := switching.Transaction(q, v.paper.Slip.RRN)
		if v.state = t.State; err == nil && t.Refunded.Sign() > 0 {
			v.left = web.Yuan(t.Refunded.Minor())
		}
		return err
	})
	if err != nil {
		return v, fmt.Errorf("slip to check: %w", err)
	}
	book, err := d.Slips.List(ctx)
	if err != nil {
		return v, err
	}
	k := &v.paper.Slip
	v.good, v.file = k.Check(book) == nil, paper.At(k)+"/file"
	v.facts = []web.Fact{{Name: words.SlipHash, Value: fmt.Sprintf("%x", k.Hash), Mono: true}}
	if k.Prev != [32]byte{} { // the terminal's first has none before it
		v.facts = append(v.facts, web.Fact{Name: words.SlipPrev, Value: fmt.Sprintf("%x", k.Prev), Mono: true})
	}
	v.facts = append(v.facts, web.Fact{Name: words.SlipKey, Value: k.Key, Href: "/keys", Mono: true}, web.Fact{Name: words.SlipWritten, Value: web.Moment(k.Written)})
	if k.Signed.Key != "" {
		v.facts = append(v.facts, web.Fact{Name: words.SlipPicture, Value: fmt.Sprintf("%x", k.Signed.Picture), Mono: true})
	}
	return v, nil
}

func (d Deps) checkSlip(w http.ResponseWriter, r *http.Request) error {
	v, err := d.readSlip(r)
	if err != nil {
		return err
	}
	v.paper.Address = paper.Address(r, &v.paper.Slip)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	p := web.Page{Title: words.SlipCheck, Back: atSlips}
	if v.good {
		p.Lead = words.SlipCheckLead
	}
	return d.Kit.Page(w, r, p, slipPage(v))
}

// slipFile is what is signed, and the signature, for openssl.
func (d Deps) slipFile(w http.ResponseWriter, r *http.Request) error {
	v, err := d.readSlip(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="slip-`+v.paper.Slip.RRN+`.txt"`)
	_, _ = w.Write(v.paper.Slip.File()) // the reader hung up: nothing is left to tell it
	return nil
}

// slipCommands check a slip's file without this house.
func slipCommands(k *slip.Kept) string {
	name := "slip-" + k.RRN + ".txt"
	return fmt.Sprintf(`grep -v '^signature: ' %[1]s > message
sed -n 's/^signature: //p' %[1]s | openssl base64 -d -A > signature
openssl dgst -sha256 message
openssl pkeyutl -verify -pubin -inkey %[2]s.pem -rawin -in message -sigfile signature`, name, k.Key)
}

// stateNote says what became of a sale whose slip still reads as on the day.
func stateNote(s switching.State) web.Text {
	switch s {
	case switching.Reversed, switching.Voided, switching.Expired, switching.Declined, switching.Unknown:
		return web.Text{ZH: words.SlipSince.To(web.ZH, s.Words(true)), EN: words.SlipSince.To(web.EN, s.Words(false))}
	}
	return web.Text{}
}
