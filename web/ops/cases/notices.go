package cases

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"koala/dispute"
	"koala/internal/db"
	"koala/money"
	"koala/web"
	"koala/web/ops/shell"
)

// said is what may be entered, in the order of a case.
var said = []dispute.Said{dispute.SaidRetrieval, dispute.SaidChargeback, dispute.SaidAgain, dispute.SaidFiled, dispute.SaidShop, dispute.SaidHolder, dispute.SaidWithdrawn}

// noticeQuestion asks for what an issuer or the arbiter said on paper. Of an
// open case only what may follow is offered; c without number opens one, about
// the sale rrn if the page came from one.
func noticeQuestion(c dispute.Case, rrn string) shell.Question {
	q := shell.Question{ID: "ask-notice", Action: here + "/notices", Open: words.Enter, Body: words.EnterBody, Icon: "plus"}
	steps, reasons := []web.Option{}, []web.Option{}
	for _, s := range said {
		if c.ID == "" && (s == dispute.SaidRetrieval || s == dispute.SaidChargeback) || c.ID != "" && c.State.May(s.To()) {
			steps = append(steps, web.Option{Value: string(s), Name: shell.Both(s.Words)})
		}
	}
	for _, r := range dispute.Reasons {
		reasons = append(reasons, web.Option{Value: r.Code, Name: reasonText(r.Code)})
	}
	if c.ID != "" {
		q.Hidden = [][2]string{{"ref", c.Ref}, {"rrn", c.Sale.RRN}, {"amount", fmt.Sprintf("%d.%02d", c.Amount.Minor()/100, c.Amount.Minor()%100)}}
	} else {
		q.Fields = []web.Field{{Name: "ref", Label: words.Case, Required: true, Max: dispute.MaxRef}, {Name: "rrn", Label: words.Sale, Value: rrn, Required: true, Max: 12},
			{Name: "amount", Label: words.Amount, Lead: "¥", Mode: "decimal", Required: true, Max: 14}}
	}
	q.Fields = append(q.Fields, web.Field{Name: "said", Label: words.Step, Type: "select", Options: steps}, web.Field{Name: "reason", Label: words.Reason, Type: "select", Options: reasons, Value: c.Reason})
	return q
}

// waiting is what a second person has not seen yet, and how to say yes or no.
func waiting(ctx context.Context, q db.Reader) (t web.Table, acts []shell.Question, err error) {
	t = web.Table{ID: "notices", NoCSV: true, Empty: words.NoneWaits, Head: []web.Column{{Name: words.Case}, {Name: words.Step}, {Name: words.Sale}, {Name: words.Reason}, {Name: words.By}, {Name: words.Amount, Num: true}}}
	all, err := dispute.Unconfirmed(q)
	u, _ := web.Who(ctx)
	for i, n := range all {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(n.Ref), shell.Short(shell.Both(n.Said.Words).In(ctx)), web.Mono(n.RRN), web.Plain(reasonText(n.Reason).In(ctx)), web.Plain(n.Who), web.Money(n.Amount.Minor())}})
		hidden := [][2]string{{"ref", n.Ref}, {"said", string(n.Said)}}
		if u.Name != n.Who {
			seen := append(hidden[:2:2], [2]string{"mark", n.Mark()})
			acts = append(acts, shell.Question{ID: fmt.Sprint("ask-confirm-", i), Action: here + "/notices/confirm", Open: words.ConfirmNo.F(n.Ref), Body: words.ConfirmBody, Icon: "circle-check", Hidden: seen, Amount: web.Yuan(n.Amount.Minor()), Receiver: shell.Both(n.Said.Words).In(ctx), About: words.Step})
		}
		acts = append(acts, shell.Question{ID: fmt.Sprint("ask-drop-", i), Action: here + "/notices/drop", Open: words.DropNo.F(n.Ref), Body: words.DropBody, Icon: "x", Danger: true, Hidden: hidden})
	}
	return t, acts, err
}

// enter keeps a notice for a second person.
func (d Deps) enter(w http.ResponseWriter, r *http.Request) error {
	u, _ := web.Who(r.Context())
	why, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, here, err)
	}
	amount, err := money.ParseYuan(strings.TrimSpace(r.PostFormValue("amount")))
	if err != nil {
		return shell.Sorry(w, r, here, dispute.ErrNotice)
	}
	n := dispute.Notice{Ref: strings.TrimSpace(r.PostFormValue("ref")), Said: dispute.Said(r.PostFormValue("said")), RRN: strings.TrimSpace(r.PostFormValue("rrn")), Amount: amount, Reason: r.PostFormValue("reason"), Why: why}
	deed := shell.Deed{Act: shell.ActNotice, Target: here, What: n.Ref + ": " + string(n.Said) + "?"}
	return d.Desk.Change(w, r, here, words.Entered, deed, func(tx *db.Tx) error {
		n.At = tx.Now()
		if _, err := d.Find.One(tx, n.RRN); err != nil {
			return err
		}
		return dispute.Enter(tx, n, u.Name)
	})
}

// confirm is the second person's yes.
func (d Deps) confirm(w http.ResponseWriter, r *http.Request) error {
	u, _ := web.Who(r.Context())
	ref, step := r.PostFormValue("ref"), dispute.Said(r.PostFormValue("said"))
	return d.Desk.Change(w, r, here, words.Done, shell.Deed{Act: shell.ActNotice, Target: here, What: ref + ": " + string(step)}, func(tx *db.Tx) error {
		_, err := dispute.Confirm(tx, ref, step, r.PostFormValue("mark"), u.Name, d.Find.One)
		return err
	})
}

// drop gives up what was entered.
func (d Deps) drop(w http.ResponseWriter, r *http.Request) error {
	ref, step := r.PostFormValue("ref"), dispute.Said(r.PostFormValue("said"))
	return d.Desk.Change(w, r, here, words.Dropped, shell.Deed{Act: shell.ActNotice, Target: here, What: ref + ": " + string(step) + " ×"}, func(tx *db.Tx) error {
		return dispute.Drop(tx, ref, step)
	})
}
