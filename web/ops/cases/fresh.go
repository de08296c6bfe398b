package cases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
	"koala/web"
	"koala/web/ops/shell"
)

// A freshView is the search for a sale and, when one is chosen, the form of a
// notice about it.
type freshView struct {
	filter []web.Field
	note   web.Text
	tone   web.Tone
	sales  web.Table
	sale   []web.Fact
	acts   []shell.Question
	asked  bool
}

// traceOf reads what staff know of a sale.
func traceOf(r *http.Request) (t dispute.Trace, err error) {
	t = dispute.Trace{RRN: strings.ToUpper(strings.TrimSpace(r.FormValue("rrn"))), Terminal: strings.TrimSpace(r.FormValue("terminal")), Tail: strings.TrimSpace(r.FormValue("tail"))}
	if strings.ContainsFunc(t.Tail, func(c rune) bool { return !unicode.IsDigit(c) }) || t.Tail != "" && len(t.Tail) != 4 {
		return t, fmt.Errorf("the end of a card number: %w", shell.ErrForm)
	}
	if s := r.FormValue("day"); s != "" {
		if t.Day, err = calendar.Parse(s); err != nil {
			return t, fmt.Errorf("day of a sale: %w: %w", shell.ErrForm, err)
		}
	}
	if s := strings.TrimSpace(r.FormValue("sum")); s != "" {
		a, err := money.ParseYuan(s)
		if err != nil || a.Sign() <= 0 {
			return t, fmt.Errorf("amount of a sale: %w", shell.ErrForm)
		}
		t.Fen = a.Minor()
	}
	return t, nil
}

// fresh is the page of a new case: the sale is found first, then what the issuer
// says of it is entered.
func (d Deps) fresh(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	t, err := traceOf(r)
	if err != nil {
		return err
	}
	v := freshView{asked: t != dispute.Trace{}, filter: []web.Field{{Name: "rrn", Label: words.Sale, Type: "search", Value: t.RRN, Max: 12}, {Name: "tail", Label: words.Tail, Type: "search", Mode: "numeric", Value: t.Tail, Max: 4},
		{Name: "day", Label: words.SoldOn, Type: "date", Value: r.FormValue("day")}, {Name: "sum", Label: words.Sold, Lead: "¥", Type: "search", Mode: "decimal", Value: r.FormValue("sum"), Max: 14},
		{Name: "terminal", Label: words.Terminal, Type: "search", Value: t.Terminal, Max: 8}}}
	v.note, v.tone = words.FindHint, web.Info
	v.sales = web.Table{ID: "sales", NoCSV: true, Empty: words.NoSale, Head: []web.Column{{Name: words.Sale}, {Name: words.At}, {Name: words.Shop}, {Name: words.Terminal}, {Name: words.Card}, {Name: words.Sold, Num: true}, {Name: words.LeftOf, Num: true}}}
	err = d.Desk.Store.Read(ctx, func(q *db.Query) error {
		if !t.Enough() {
			return nil
		}
		list, err := d.Find(q, t)
		if errors.Is(err, dispute.ErrBroad) {
			f := fail.Of(err)
			v.note, v.tone, v.asked = web.FailureText(f.Code, f.Text), web.Warn, false
			return nil
		}
		for _, l := range list {
			v.sales.Rows = append(v.sales.Rows, web.Row{Href: here + "/new?rrn=" + l.Sale.RRN, Cells: []web.Cell{web.Mono(l.Sale.RRN), shell.At(l.Sale.At), web.Plain(shell.ShopName(q, l.Sale.Payee).In(ctx)),
				web.Mono(l.Terminal), web.Mono(l.Masked), web.Money(l.Fen), web.Money(l.Sale.Amount.Minor())}})
		}
		if err == nil && len(list) == 1 && t.RRN != "" {
			err = v.choose(ctx, q, list[0])
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for a sale: %w", err)
	}
	v.asked = v.asked && t.Enough()
	return d.Desk.Show(w, r, web.Page{Title: words.NewCase, Lead: words.NewCaseLead, Back: here, Here: here}, freshPage(v))
}

// choose shows the sale that was found, the cases it has already, and what may be
// entered of it.
func (v *freshView) choose(ctx context.Context, q db.Reader, l dispute.Lead) error {
	v.note = web.Text{}
	v.sale = []web.Fact{{Name: words.Sale, Value: l.Sale.RRN, Href: "/ops/switch/transactions/" + l.Sale.RRN, Mono: true}, {Name: words.Sold, Show: shell.Strong(web.Yuan(l.Fen))}, {Name: words.LeftOf, Value: web.Yuan(l.Sale.Amount.Minor())},
		{Name: words.At, Value: web.Moment(l.Sale.At)}, {Name: words.Shop, Value: shell.ShopName(q, l.Sale.Payee).In(ctx), Href: "/ops/merchants/shops/" + l.Sale.Payee}, {Name: words.Terminal, Value: l.Terminal, Mono: true}, {Name: words.Card, Value: l.Masked, Mono: true}}
	known, err := dispute.OfSale(q, l.Sale.RRN)
	for _, c := range known {
		v.sale = append(v.sale, web.Fact{Name: words.HasCase, Value: c.Ref + " · " + shell.Both(c.State.Words).In(ctx), Href: here + "/" + c.ID})
	}
	v.acts = []shell.Question{noticeQuestion(dispute.Case{}, l.Sale.RRN)}
	return err
}

// A recordsView is what clearing files said, by what became of it.
type recordsView struct {
	tabs []shell.Tab
	list web.Table
	acts []shell.Question
}

var recordStates = []dispute.RecordState{dispute.RecordWaits, dispute.RecordEntered, dispute.RecordHeeded, dispute.RecordDropped}

// mostActs bounds the questions of a page.
const mostActs = 10

// records lists what files said; those that wait are completed or set aside.
func (d Deps) records(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	state := dispute.RecordState(cmp.Or(r.FormValue("state"), string(dispute.RecordWaits)))
	var v recordsView
	known := false
	for _, s := range recordStates {
		v.tabs = append(v.tabs, shell.Tab{Href: here + "/records?state=" + string(s), Name: shell.Both(s.Words), Here: s == state})
		known = known || s == state
	}
	if !known {
		return fmt.Errorf("records in state %q: %w", state, shell.ErrForm)
	}
	key := func(k dispute.Kept) string { return k.Key }
	v.list = web.Table{ID: "records", Empty: words.NoRecords, Head: []web.Column{{Name: words.Case}, {Name: words.Step}, {Name: words.Host}, {Name: words.Sale}, {Name: words.Reason}, {Name: words.Amount, Num: true}, {Name: words.At, Num: true}, {Name: words.WhyWaits}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := shell.Gather(pg, func(after string, limit int) ([]dispute.Kept, error) { return dispute.Records(q, state, after, limit) }, key, nil)
		v.list.Next = shell.NextOf(r, list, pg, key)
		for _, k := range list {
			why := k.Note
			if k.Code != "" {
				why = web.FailureText(k.Code, k.Code).In(ctx)
			}
			row := web.Row{Cells: []web.Cell{web.Mono(cmp.Or(k.Ref, "–")), shell.Short(stepText(k).In(ctx)), web.Plain(k.Host), web.Plain(soldText(k.Sale)), web.Plain(reasonText(k.Reason).In(ctx)), web.Plain(k.Amount.Yuan()), shell.At(k.At), shell.Written(why)}}
			if k.Case != "" {
				row.Href = here + "/" + k.Case
			}
			v.list.Rows = append(v.list.Rows, row)
			if state == dispute.RecordWaits && len(v.acts) < 2*mostActs {
				v.acts = append(v.acts, recordQuestions(ctx, k)...)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("records of files: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.list)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Records, Lead: words.RecordsLead, Here: here}, recordsPage(v))
}

// stepText is what a record says.
func stepText(k dispute.Kept) web.Text {
	t := shell.Both(k.Said.Words)
	if k.Undone {
		return web.Text{ZH: words.Undone.To(web.ZH, t.ZH), EN: words.Undone.To(web.EN, t.EN)}
	}
	return t
}

// soldText is what a file tells of a sale, in one line.
func soldText(t dispute.Trace) string {
	var out []string
	if t.RRN != "" {
		out = append(out, t.RRN)
	}
	if t.Tail != "" {
		out = append(out, "*"+t.Tail)
	}
	if !t.Day.IsZero() {
		out = append(out, t.Day.String())
	}
	if t.Terminal != "" {
		out = append(out, t.Terminal)
	}
	if t.Fen != 0 {
		out = append(out, web.Yuan(t.Fen))
	}
	return strings.Join(out, " · ")
}

func recordQuestions(ctx context.Context, k dispute.Kept) []shell.Question {
	at, name := here+"/records/"+k.Key, cmp.Or(k.Ref, soldText(k.Sale))
	reasons := []web.Option{}
	for _, x := range dispute.Reasons {
		reasons = append(reasons, web.Option{Value: x.Code, Name: reasonText(x.Code)})
	}
	about := stepText(k).In(ctx) + " · " + soldText(k.Sale)
	return []shell.Question{
		{ID: "ask-complete-" + k.Key, Action: at + "/complete", Open: words.CompleteNo.F(name), Body: words.CompleteBody, Icon: "wrench", Amount: web.Yuan(k.Amount.Minor()), Receiver: about, About: words.Step,
			Fields: []web.Field{{Name: "ref", Label: words.Case, Value: k.Ref, Required: true, Max: dispute.MaxRef}, {Name: "rrn", Label: words.Sale, Value: k.Sale.RRN, Required: true, Max: 12}, {Name: "reason", Label: words.Reason, Type: "select", Options: reasons, Value: k.Reason}}},
		{ID: "ask-aside-" + k.Key, Action: at + "/aside", Open: words.AsideNo.F(name), Body: words.AsideBody, Icon: "x", Danger: true, Amount: web.Yuan(k.Amount.Minor()), Receiver: about, About: words.Step}}
}

// record does what staff decided about what a file says.
func (d Deps) record(w http.ResponseWriter, r *http.Request) error {
	key, act, back := r.PathValue("key"), r.PathValue("act"), here+"/records"
	u, _ := web.Who(r.Context())
	why, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	deed := shell.Deed{Act: shell.ActRecord, Target: back, What: key + ": " + act}
	switch act {
	case "complete":
		rrn := strings.ToUpper(strings.TrimSpace(r.PostFormValue("rrn")))
		return d.Desk.Change(w, r, here, words.Entered, deed, func(tx *db.Tx) error {
			if _, err := d.Find.One(tx, rrn); err != nil {
				return err
			}
			return dispute.Complete(tx, key, strings.TrimSpace(r.PostFormValue("ref")), rrn, r.PostFormValue("reason"), u.Name, why)
		})
	case "aside":
		return d.Desk.Change(w, r, back, words.Done, deed, func(tx *db.Tx) error { return dispute.SetAside(tx, key, u.Name, why) })
	}
	return fmt.Errorf("act %q on a record: %w", act, web.ErrNoPage)
}
