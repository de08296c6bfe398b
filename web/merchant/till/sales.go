package till

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/settlement/fee"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// A wanted is the filter of the list of sales, as its address says it.
type wanted struct {
	day      calendar.Date
	kind     string
	state    switching.State
	class    fee.Class
	text     string // end of the card number, terminal or reference number
	dayText  string
	wrongDay bool
}

func readWanted(r *http.Request) wanted {
	f := wanted{kind: r.FormValue("kind"), state: switching.State(r.FormValue("state")), class: fee.Class(r.FormValue("card")), text: strings.ToUpper(strings.TrimSpace(r.FormValue("q"))), dayText: r.FormValue("day")}
	if f.dayText != "" {
		day, err := calendar.Parse(f.dayText)
		f.day, f.wrongDay = day, err != nil
	}
	return f
}

// keeps says whether a transaction is wanted.
func (f wanted) keeps(t switching.Txn) bool {
	return (f.kind == "" || t.Kind == f.kind) && (f.class == "" || t.Class == string(f.class)) && (f.day.IsZero() || calendar.Of(t.At, calendar.Beijing) == f.day) &&
		(f.text == "" || t.RRN == f.text || t.TID == f.text || strings.HasSuffix(t.Masked, f.text) || t.Auth == f.text)
}

func (f wanted) plain() bool { return f.kind == "" && f.class == "" && f.day.IsZero() && f.text == "" }

var states = []switching.State{switching.Approved, switching.Cleared, switching.Declined, switching.Voided, switching.Reversed, switching.Unknown, switching.Completed, switching.Expired}

func (f wanted) form() []web.Field {
	kinds, stateList, classes := []web.Option{{Name: words.All}}, []web.Option{{Name: words.All}}, []web.Option{{Name: words.All}}
	seen := map[string]bool{}
	for _, k := range switching.Kinds() {
		if k.Side != switching.Uncounted || k.Name == "preauth" {
			name := kindText(k.Name)
			if !seen[name.EN] {
				seen[name.EN] = true
				kinds = append(kinds, web.Option{Value: k.Name, Name: name})
			}
		}
	}
	for _, s := range states {
		stateList = append(stateList, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	for _, c := range fee.Classes {
		classes = append(classes, web.Option{Value: string(c), Name: classWords[c]})
	}
	day := web.Field{Name: "day", Label: words.Day, Type: "date", Value: f.dayText}
	if f.wrongDay {
		day.Error = words.BadDay
	}
	return []web.Field{day, {Name: "kind", Label: words.Kind, Type: "select", Options: kinds, Value: f.kind}, {Name: "state", Label: words.State, Type: "select", Options: stateList, Value: string(f.state)},
		{Name: "card", Label: words.CardKind, Type: "select", Options: classes, Value: string(f.class)}, {Name: "q", Label: words.Find, Type: "search", Value: f.text, Max: 19}}
}

func rrnOf(t switching.Txn) string { return t.RRN }

// find reads transactions of a shop that are wanted, newest first.
func find(q *db.Query, pg web.Paging, shop string, state switching.State, plain bool, keep func(switching.Txn) bool) ([]switching.Txn, error) {
	if plain {
		keep = nil
	}
	return parts.Gather(pg, func(before string, limit int) ([]switching.Txn, error) {
		return switching.Live(q, switching.Filter{Shop: shop, State: state, Before: before, Limit: limit})
	}, rrnOf, keep)
}

func (d Deps) sales(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, pg, f := r.Context(), web.PageOf(r, parts.Rows), readWanted(r)
	if f.state != "" && !slices.Contains(states, f.state) || f.kind != "" && switching.KindNamed(f.kind) == nil || !f.class.Valid() {
		return fmt.Errorf("filter of sales: %w", shell.ErrForm)
	}
	var list []switching.Txn
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = find(q, pg, s.Shop.ID, f.state, f.plain(), f.keeps)
		return err
	})
	if err != nil {
		return fmt.Errorf("sales of %s: %w", s.Shop.ID, err)
	}
	t := saleTable(ctx, list)
	t.Next = parts.NextOf(r, list, pg, rrnOf)
	if len(list) == 0 && (!f.plain() || f.state != "") {
		t.Empty, t.EmptyDo = words.NoneFound, &web.Link{Href: atSales, Name: words.ShowAll}
	}
	return d.Desk.List(w, r, s, web.Page{Title: words.Sales, Lead: words.SalesLead, Here: atSales}, t, salesPage(t, f.form()))
}

// refunds lists what was given back.
func (d Deps) refunds(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, pg := r.Context(), web.PageOf(r, parts.Rows)
	var list []switching.Txn
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = find(q, pg, s.Shop.ID, "", false, func(t switching.Txn) bool { return isRefund(t.Kind) })
		return err
	})
	if err != nil {
		return fmt.Errorf("refunds of %s: %w", s.Shop.ID, err)
	}
	t := web.Table{ID: "refunds", Empty: words.NoRefunds, EmptyDo: &web.Link{Href: atSales, Name: words.ToSales}, Next: parts.NextOf(r, list, pg, rrnOf), Head: []web.Column{{Name: words.At}, {Name: words.Card}, {Name: words.State}, {Name: words.Where}, {Name: words.OfSale}, {Name: words.Amount, Num: true}}}
	for _, x := range list {
		where := web.Mono(x.TID)
		if x.Batch == 0 {
			where = web.Plain(words.Console.In(ctx))
		}
		t.Rows = append(t.Rows, web.Row{Href: salePath(x.RRN), Drawer: true, Cells: []web.Cell{{Text: web.Moment(x.At), Show: parts.Tight(web.Moment(x.At))}, web.Mono(shown(x.Masked)), stateCell(ctx, x.State), where, web.Mono(x.Original), web.Money(Signed(x))}})
	}
	page := web.Page{Title: words.Refunds, Lead: words.RefundsLead, Here: atRefunds}
	return d.Desk.List(w, r, s, page, t, refundsPage(t, limitText(s.Member.Role)))
}

// limitText says what a role may give back at once.
func limitText(r shell.Role) web.Text {
	if !r.May(shell.GiveBack) {
		return words.MayNotRefund
	}
	if fen, bounded := r.RefundMost(); bounded {
		return words.MayRefundTo.F(web.Yuan(fen))
	}
	return words.MayRefundAll
}
