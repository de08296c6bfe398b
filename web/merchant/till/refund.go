package till

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"koala/internal/db"
	"koala/money"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
)

// A refundView asks how much to give back, and then whether it shall be.
type refundView struct {
	txn    switching.Txn
	left   int64
	limit  web.Text
	form   []web.Field
	amount int64 // asked for and allowed, fen; 0: the form is shown
	why    string
	key    string
}

// Bounds of a refund's reason, in characters.
const (
	minWhy = 2
	maxWhy = 100
)

// askRefund shows the form; with an amount that is allowed it names amount and
// receiver and asks for the last word.
func (d Deps) askRefund(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	t, err := d.saleFor(r, s)
	if err != nil {
		return err
	}
	v := refundView{txn: t, left: leftOf(t), limit: limitText(s.Member.Role)}
	most := v.left
	if bound, bounded := s.Member.Role.RefundMost(); bounded {
		most = min(most, bound)
	}
	amount := web.Field{Name: "amount", Label: words.Amount, Lead: "¥", Mode: "decimal", Required: true, Max: 16, Value: money.Fen(most).Yuan(), Hint: words.AtMost.F(web.Yuan(most))}
	why := web.Field{Name: "why", Label: words.Reason, Required: true, Max: maxWhy, Hint: words.ReasonHint}
	if r.URL.Query().Has("amount") {
		var fen int64
		amount.Value, why.Value = r.FormValue("amount"), r.FormValue("why")
		fen, amount.Error = readAmount(amount.Value, v.left, s.Member.Role)
		v.why, why.Error = readWhy(why.Value)
		if amount.Error.Empty() && why.Error.Empty() {
			v.amount, v.key = fen, d.Ref()
		}
	}
	v.form = []web.Field{amount, why}
	return d.Desk.Show(w, r, s, web.Page{Title: words.RefundTitle, Lead: words.RefundLead, Back: salePath(t.RRN), Here: atSales}, refundPage(v))
}

// saleFor reads the sale of the address.
func (d Deps) saleFor(r *http.Request, s shell.Seat) (t switching.Txn, err error) {
	err = d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		t, err = txnOf(q, s, r.PathValue("rrn"))
		return err
	})
	return t, err
}

// readAmount reads what shall be given back: of a sale with so much left, by
// somebody of a role.
func readAmount(text string, left int64, role shell.Role) (fen int64, wrong web.Text) {
	m, err := money.ParseYuan(strings.TrimSpace(text))
	bound, bounded := role.RefundMost()
	switch {
	case err != nil || m.Sign() <= 0:
		return 0, words.BadAmount
	case m.Minor() > left:
		return 0, words.MoreThanLeft.F(web.Yuan(left))
	case bounded && m.Minor() > bound:
		return 0, words.MoreThanRole.F(web.Yuan(bound))
	}
	return m.Minor(), web.Text{}
}

func readWhy(text string) (string, web.Text) {
	s := strings.Join(strings.Fields(text), " ")
	if n := len([]rune(s)); n < minWhy || n > maxWhy {
		return "", words.BadReason
	}
	return s, web.Text{}
}

// refund gives money back: the switch looks at the sale again, and does it once
// for each key.
func (d Deps) refund(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	rrn := r.PathValue("rrn")
	t, err := d.saleFor(r, s)
	if err != nil {
		return err
	}
	key := r.PostFormValue("key")
	why, badWhy := readWhy(r.PostFormValue("why"))
	m, err := money.ParseYuan(r.PostFormValue("amount"))
	if len(key) < 8 || len(key) > 64 || !badWhy.Empty() || err != nil || m.Sign() <= 0 {
		return fmt.Errorf("refund of %s: %w", rrn, shell.ErrForm)
	}
	if bound, bounded := s.Member.Role.RefundMost(); bounded && m.Minor() > bound {
		return fmt.Errorf("refund of %s by a %s: %w", rrn, s.Member.Role, shell.ErrMayNot)
	}
	done, err := d.Switch.GiveBack(r.Context(), switching.GiveBack{RRN: rrn, Shop: s.Shop.ID, Amount: m, Key: s.Merchant.ID + " " + key,
		Also: func(tx *db.Tx, back switching.Txn) error {
			return shell.Keep(tx, s.Deed(shell.ActRefund, salePath(rrn), web.Yuan(m.Minor())+" · "+back.RRN+" · "+why))
		}})
	if errors.Is(err, switching.ErrTooMuch) || errors.Is(err, switching.ErrState) || errors.Is(err, switching.ErrDiffers) {
		return shell.Sorry(w, r, salePath(rrn), err)
	}
	if err != nil {
		return err
	}
	return web.Redirect(w, r, salePath(rrn), web.Toast{Tone: web.Good, Text: words.RefundDone.In(r.Context(), web.Yuan(done.Amount.Minor()), shown(t.Masked))})
}
