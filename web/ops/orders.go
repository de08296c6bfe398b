package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/tsm"
	"koala/web"
	"koala/web/ops/shell"
)

var orderStates = []tsm.State{tsm.Placed, tsm.Running, tsm.Unconfirmed, tsm.Done, tsm.Failed, tsm.Cancelled}

var orderKinds = []tsm.Kind{tsm.Issue, tsm.TopUp, tsm.Block, tsm.Unblock, tsm.Delete, tsm.Default, tsm.Update, tsm.Adopt, tsm.SAM}

// orders lists orders over the air, newest first.
func (p pages) orders(w http.ResponseWriter, r *http.Request) error {
	f := tsm.Filter{State: tsm.State(r.FormValue("state")), Customer: r.FormValue("customer"), Band: r.FormValue("band"), Desk: r.FormValue("desk") != ""}
	kind, card := tsm.Kind(r.FormValue("kind")), issuing.Kind(r.FormValue("card"))
	if f.State != "" && !slices.Contains(orderStates, f.State) || kind != "" && !slices.Contains(orderKinds, kind) || card != "" && !slices.Contains(cardKinds, card) {
		return fmt.Errorf("filter of orders: %w", shell.ErrForm)
	}
	pg := web.PageOf(r, shell.Rows)
	list, err := p.findOrders(r.Context(), f, kind, card, pg)
	if err != nil {
		return err
	}
	v := shell.ListView{Table: p.orderTable(r, list), Events: "orders", Filter: orderFilter(f, kind, card)}
	v.Table.Next = shell.NextOf(r, list, pg, orderID)
	return p.desk.List(w, r, web.Page{Title: words.Orders, Lead: words.OrdersLead, Here: "/ops/orders"}, v)
}

func orderID(o tsm.Order) string { return o.ID }

func (p pages) findOrders(ctx context.Context, f tsm.Filter, kind tsm.Kind, card issuing.Kind, pg web.Paging) (list []tsm.Order, err error) {
	var keepKind func(tsm.Order) bool
	if kind != "" || card != "" {
		keepKind = func(o tsm.Order) bool { return (kind == "" || o.Kind == kind) && (card == "" || o.CardKind == card) }
	}
	err = p.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]tsm.Order, error) {
			f.Before, f.Limit = after, limit
			return tsm.Orders(q, f)
		}, orderID, keepKind)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	return list, nil
}

func orderFilter(f tsm.Filter, kind tsm.Kind, card issuing.Kind) []web.Field {
	states, kinds, cards := []web.Option{{Name: words.All}}, []web.Option{{Name: words.All}}, []web.Option{{Name: words.All}}
	for _, s := range orderStates {
		states = append(states, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	for _, k := range orderKinds {
		kinds = append(kinds, web.Option{Value: string(k), Name: shell.Both(k.Words)})
	}
	for _, k := range cardKinds {
		cards = append(cards, web.Option{Value: string(k), Name: shell.Both(k.Words)})
	}
	desk := ""
	if f.Desk {
		desk = "1"
	}
	return []web.Field{
		{Name: "state", Label: words.State, Type: "select", Options: states, Value: string(f.State)},
		{Name: "kind", Label: words.Kind, Type: "select", Options: kinds, Value: string(kind)},
		{Name: "card", Label: words.KindOfCard, Type: "select", Options: cards, Value: string(card)},
		{Name: "desk", Label: words.Waits, Type: "select", Value: desk, Options: []web.Option{{Name: words.Anybody}, {Value: "1", Name: words.ForStaff}}},
		{Name: "band", Label: words.Band, Type: "search", Value: f.Band, Max: tsm.MaxBand},
	}
}

func (p pages) orderTable(r *http.Request, list []tsm.Order) web.Table {
	t := web.Table{ID: "orders", Empty: words.NoOrders, Head: []web.Column{{Name: words.Order}, {Name: words.State}, {Name: words.Card},
		{Name: words.Band}, {Name: words.Amount, Num: true}, {Name: words.Phase}, {Name: words.Changed, Num: true}}}
	for _, o := range list {
		amount := shell.None()
		if o.Kind == tsm.TopUp {
			amount = web.Money(o.Amount.Minor())
		}
		t.Rows = append(t.Rows, web.Row{Href: "/ops/orders/" + o.ID, Cells: []web.Cell{
			{Text: shell.Both(o.Kind.Words).In(r.Context()), CSV: o.ID + " " + string(o.Kind), Show: shell.Tight(shell.Both(o.Kind.Words).In(r.Context()))},
			web.Status(r.Context(), orderTone(o), shell.Both(o.State.Words)),
			maskedCell(o.Card), shell.Ident(o.Band), amount,
			shell.Short(shell.Both(o.Phase.Words).In(r.Context())), web.When(o.Changed),
		}})
	}
	return t
}

// orderTone colours an order: what waits for staff stands out.
func orderTone(o tsm.Order) web.Tone {
	switch {
	case o.Desk:
		return web.Bad
	case o.State == tsm.Done:
		return web.Good
	case o.State == tsm.Failed, o.State == tsm.Unconfirmed:
		return web.Warn
	case o.State == tsm.Running:
		return web.Info
	}
	return web.Neutral
}

// actsNext says whose move it is.
func actsNext(o tsm.Order) web.Text {
	switch {
	case o.State.Over():
		return words.NextNobody
	case o.Desk:
		return words.NextStaff
	case o.State == tsm.Placed:
		return words.NextFetch
	case o.State == tsm.Running:
		return words.NextReport
	default:
		return words.NextBack
	}
}

// An orderView is the trace of an order.
type orderView struct {
	order    tsm.Order
	now      time.Time
	facts    []web.Fact
	story    []web.Happening
	steps    []web.Step
	talk     []web.Exchange
	postings []web.Row
	deeds    []web.Happening
}

func (p pages) order(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := orderView{now: p.Store.Now()}
	var lines []tsm.Line
	var trail []shell.Deed
	var refs []string
	var proofs []tsm.Receipt
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.order, err = tsm.OrderOf(q, r.PathValue("id")); err != nil {
			return err
		}
		if lines, err = tsm.Log(q, v.order.ID); err != nil {
			return err
		}
		if refs, err = orderRefs(q, v.order); err != nil {
			return err
		}
		if proofs, err = tsm.ReceiptsOf(q, v.order.ID); err != nil {
			return err
		}
		trail, err = shell.Deeds(q, shell.Deed{Target: r.URL.Path}, "", shell.Rows)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of an order: %w", err)
	}
	v.facts, v.steps, v.talk = p.orderFacts(v.order), progress(v.order), exchanges(web.LangOf(ctx), v.order.Card, lines)
	v.facts = append(v.facts, receiptFacts(proofs)...)
	v.story, v.deeds = orderStory(v.order, lines), shell.Told(trail)
	if v.postings, err = p.postings(ctx, refs); err != nil {
		return err
	}
	title := shell.Both(v.order.Kind.Words)
	return p.desk.Show(w, r, web.Page{Title: title, Back: "/ops/orders", Here: "/ops/orders"}, orderPage(v))
}

func (p pages) orderFacts(o tsm.Order) []web.Fact {
	facts := []web.Fact{
		{Name: words.State, Show: web.Chip(orderTone(o), shell.Both(o.State.Words))},
		{Name: words.ActsNext, Show: shell.Phrase(actsNext(o))},
		{Name: words.Order, Value: o.ID, Mono: true},
		{Name: words.Band, Value: o.Band, Href: "/ops/bands/" + o.Band, Mono: true},
	}
	if o.Card != "" {
		facts = append(facts, web.Fact{Name: words.Card, Value: shell.Masked(o.Card), Href: cardPath(o.Customer, o.Card), Mono: true})
	}
	if o.Kind == tsm.TopUp {
		facts = append(facts, web.Fact{Name: words.Amount, Value: web.Yuan(o.Amount.Minor())})
	}
	if isCustomer(o.Customer) {
		facts = append(facts, web.Fact{Name: words.Customer, Value: o.Customer, Href: "/ops/customers/" + o.Customer, Mono: true})
	}
	if o.Why != tsm.NoReason {
		facts = append(facts, web.Fact{Name: words.Reason, Show: shell.Phrase(shell.Both(o.Why.Words))})
	}
	facts = append(facts, web.Fact{Name: words.Placed, Value: web.Moment(o.Placed)}, web.Fact{Name: words.Changed, Value: web.Moment(o.Changed)})
	if !o.State.Over() {
		facts = append(facts, web.Fact{Name: words.Deadline, Value: web.Moment(o.Deadline)})
	}
	return append(facts, web.Fact{Name: words.Sessions, Value: web.Number(int64(o.Session))}, web.Fact{Name: words.Reference, Value: shell.Hushed(o.Ref), Mono: true})
}

// receiptFacts lists what the element confirmed: which domain did what, under
// which number of the element's, each verified when it came.
func receiptFacts(list []tsm.Receipt) (out []web.Fact) {
	for _, r := range list {
		out = append(out, web.Fact{Name: words.ElementReceipt.F(r.Counter), Mono: true,
			Value: fmt.Sprintf("%s %X %X", map[byte]string{gp.InsInstall: "INSTALL", gp.InsDelete: "DELETE"}[r.Said.INS], string(r.Domain), r.Answer.Receipt)})
	}
	return out
}

func progress(o tsm.Order) []web.Step {
	var out []web.Step
	now := false // an order that waits for the band is in one phase, not two
	for _, s := range o.Progress() {
		step := web.Step{Name: web.Text{ZH: s.ZH, EN: s.EN}, State: web.StepTodo}
		switch {
		case s.Done:
			step.State = web.StepDone
		case s.Now && !now:
			step.State, now = web.StepNow, true
		}
		out = append(out, step)
	}
	if o.State == tsm.Failed || o.State == tsm.Cancelled {
		for i := range out {
			if out[i].State != web.StepDone {
				out[i].State = web.StepFailed
				break
			}
		}
	}
	return out
}

// refusedWith says a status word that the order's script did not expect.
func refusedWith(sw iso7816.SW) web.Text {
	said := func(l web.Lang) string {
		return words.StoryRefused.To(l, fmt.Sprintf("%04X %s", uint16(sw), sw.Meaning(l == web.ZH)))
	}
	return web.Text{ZH: said(web.ZH), EN: said(web.EN)}
}

// orderStory tells an order as it happened: placed, each phase when it was
// first asked for, cuts, the end.
func orderStory(o tsm.Order, lines []tsm.Line) []web.Happening {
	out := []web.Happening{{At: o.Placed, What: words.StoryPlaced, Icon: "plus", Tone: web.Info}}
	script, phase := "", tsm.Phase("")
	for _, l := range lines {
		if l.Script != script || l.Phase != phase {
			out = append(out, web.Happening{At: l.Asked, What: shell.Both(l.Phase.Words), Icon: "radio"})
			script, phase = l.Script, l.Phase
		}
		switch {
		case l.Cut:
			out = append(out, web.Happening{At: l.Heard, What: words.StoryCut, Icon: "wifi-off", Tone: web.Warn})
		case l.Answer != nil && !l.Good:
			out = append(out, web.Happening{At: l.Heard, What: refusedWith(l.Answer.SW), Icon: "circle-alert", Tone: web.Warn})
		}
	}
	if o.State.Over() {
		h := web.Happening{At: o.Changed, What: shell.Both(o.State.Words), Icon: "check", Tone: orderTone(o)}
		if o.Why != tsm.NoReason {
			h.What = web.Text{ZH: o.State.Words(true) + "：" + o.Why.Words(true), EN: o.State.Words(false) + ": " + o.Why.Words(false)}
		}
		out = append(out, h)
	}
	return out
}

// exchanges shows the log: the plain command, since it is what was meant, and
// the bytes that went over the air where they differ.
func exchanges(lang web.Lang, card issuing.CardID, lines []tsm.Line) []web.Exchange {
	var out []web.Exchange
	for i, l := range lines {
		e := web.Exchange{N: i + 1, Command: l.Plain.Bytes(), Means: web.Text{ZH: l.Meaning.ZH, EN: l.Meaning.EN}, Tone: web.Good}
		if e.Means.ZH == "" {
			e.Means.ZH = e.Means.EN
		}
		switch {
		case l.Answer != nil:
			e.Answer, e.Status = l.Answer.Bytes(), l.Answer.SW.String()
			if l.Answer.SW.OK() {
				e.Status = "9000"
			}
			if !l.Good {
				e.Tone = web.Warn
			}
		case l.Cut:
			e.Status, e.Tone = words.LinkLost.To(lang), web.Bad
		default:
			e.Status, e.Tone = words.NoAnswer.To(lang), web.Neutral
		}
		for _, f := range l.Meaning.Fields {
			e.Fields = append(e.Fields, fieldOf(lang, card, f))
		}
		if wire := web.Hex(l.Wire); len(l.Wire) > 0 && wire != web.Hex(e.Command) {
			e.Fields = append(e.Fields, web.ExchangeField{Name: words.OnTheWire.To(lang), Value: wire})
		}
		out = append(out, e)
	}
	return out
}

// fieldOf shows a field without the card's number, also where it stands among
// other bytes.
func fieldOf(lang web.Lang, card issuing.CardID, f iso7816.Field) web.ExchangeField {
	x := web.ExchangeField{Name: f.Name, Value: f.Value, Secret: f.Secret && f.Value == ""}
	if strings.Contains(f.Name, "number") { // other values of twenty digits are no card numbers
		x.Value = shell.Hushed(f.Value)
	}
	if card.Purse() != "" {
		x.Value = strings.ReplaceAll(x.Value, string(card), shell.Masked(card))
	}
	if lang == web.ZH && f.NameZH != "" {
		x.Name = f.NameZH
	}
	return x
}

// orderRefs are the references under which an order may have posted. The load
// of a bank card is its issuer's, under the order's name.
func orderRefs(q *db.Query, o tsm.Order) (refs []string, err error) {
	switch o.Kind {
	case tsm.TopUp:
		refs = []string{"topup:" + o.ID, "load:" + o.ID, "void:" + o.ID}
	case tsm.Issue:
		refs = []string{"deposit:" + string(o.Card), "deposit-back:" + string(o.Card)}
	case tsm.Delete:
		return []string{"refund:" + string(o.Card), "deposit-back:" + string(o.Card)}, nil
	}
	if !o.CardKind.Bank() {
		return refs, nil
	}
	list, err := issuing.LoadsOf(q, o.Card, 50)
	for _, l := range list {
		if l.Ref == o.ID {
			refs = append(refs, "load:"+l.ID, "loaded:"+l.ID, "end:"+l.ID)
		}
	}
	return refs, err
}

// postings finds what stands in the books under some references; those that
// are not there are left out.
func (p pages) postings(ctx context.Context, refs []string) ([]web.Row, error) {
	var out []web.Row
	for _, ref := range refs {
		rec, err := p.Book.Entry(ctx, ref)
		if errors.Is(err, ledger.ErrNoEntry) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p.entryRow(ctx, rec))
	}
	return out, nil
}

func (p pages) verifyOrder(w http.ResponseWriter, r *http.Request) error {
	return p.moveOrder(w, r, shell.ActVerify, words.DidVerify, func(tx *db.Tx, id string) (tsm.Order, error) { return p.TSM.Verify(tx, id) })
}

func (p pages) cancelOrder(w http.ResponseWriter, r *http.Request) error {
	return p.moveOrder(w, r, shell.ActCancel, words.DidCancel, func(tx *db.Tx, id string) (tsm.Order, error) { return p.TSM.Cancel(tx, id) })
}

// recoverOrder carries out what staff decide about an order that cannot go on.
func (p pages) recoverOrder(w http.ResponseWriter, r *http.Request) error {
	d := tsm.Decision(r.PostFormValue("decision"))
	if d != tsm.TryAgain && d != tsm.Happened && d != tsm.Nothing {
		return fmt.Errorf("decision: %w", shell.ErrForm)
	}
	return p.moveOrder(w, r, shell.ActRecover, words.DidRecover, func(tx *db.Tx, id string) (tsm.Order, error) { return p.TSM.Recover(tx, id, d) })
}

// moveOrder changes an order with its audit row in one unit.
func (p pages) moveOrder(w http.ResponseWriter, r *http.Request, act shell.Act, said web.Text, move func(*db.Tx, string) (tsm.Order, error)) error {
	back := "/ops/orders/" + r.PathValue("id")
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	var o tsm.Order
	err = p.Store.Write(r.Context(), func(tx *db.Tx) (err error) {
		if o, err = move(tx, r.PathValue("id")); err != nil {
			return err
		}
		what := string(o.Kind) + " " + shell.Masked(o.Card)
		if act == shell.ActRecover {
			what += ": " + r.PostFormValue("decision")
		}
		return shell.Keep(tx, r, shell.Deed{Act: act, Target: back, What: what, Why: reason})
	})
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	if p.Connect != nil {
		p.Connect(r.Context(), o.Band)
	}
	return shell.Done(w, r, back, said)
}

func maskedCell(n issuing.CardID) web.Cell {
	if n == "" {
		return shell.None()
	}
	return web.Mono(shell.Masked(n))
}
