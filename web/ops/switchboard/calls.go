package switchboard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/merchant"
	"koala/money"
	"koala/switching/referral"
	"koala/web"
	"koala/web/ops/shell"
)

// calls lists the calls of shops and offers to take one.
func (d Deps) calls(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	v := shell.ListView{Tabs: tabs(atCalls), Acts: []shell.Question{callQuestion(ctx, now)}}
	v.Table = web.Table{ID: "calls", Empty: words.NoCalls, Head: []web.Column{{Name: words.At}, {Name: words.VoiceCode}, {Name: words.State}, {Name: words.Card}, {Name: words.Amount, Num: true},
		{Name: words.Shop}, {Name: words.Terminal}, {Name: words.GoodUntil, Num: true}, {Name: words.Operator}, {Name: words.Note}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := referral.List(q, "", 0, shell.Rows)
		for _, x := range list {
			name := web.Same(x.Shop)
			if s, err := merchant.ShopOf(q, x.Shop); err == nil {
				name = web.Text{ZH: s.NameZH, EN: s.NameEN}
			}
			v.Table.Rows = append(v.Table.Rows, callRow(ctx, x, name))
			if x.State == referral.Held && len(v.Acts) <= mostActs {
				v.Acts = append(v.Acts, shell.Question{ID: "ask-back-" + x.ID, Action: atCalls + "/" + x.ID + "/withdraw", Open: words.TakeBack.F(x.Code), Body: words.TakeBackBody, Icon: "x", Danger: true,
					Amount: web.Yuan(x.Amount.Minor()), Receiver: x.Masked, About: words.Card})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("calls of shops: %w", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return d.Desk.List(w, r, web.Page{Title: words.Calls, Lead: words.CallsLead, Back: atSwitch, Here: atSwitch}, v)
}

func callRow(ctx context.Context, x referral.Referral, shop web.Text) web.Row {
	tone := map[referral.State]web.Tone{referral.Held: web.Info, referral.Used: web.Good, referral.Refused: web.Bad}[x.State]
	state, code, until, href := shell.Both(x.State.Words), x.Code, shell.At(x.Until), ""
	if x.State == referral.Refused {
		state, code, until = shell.Both(x.Why.Words), "–", shell.None()
	}
	if x.Sale != "" {
		href = atSwitch + "/transactions/" + x.Sale
	}
	return web.Row{Href: href, Drawer: href != "", Cells: []web.Cell{{Text: shortAt(x.At), CSV: web.Moment(x.At), Show: shell.Tight(shortAt(x.At))}, web.Mono(code), web.Status(ctx, tone, state), web.Mono(x.Masked), web.Money(x.Amount.Minor()),
		shell.Short(shop.In(ctx)), web.Mono(x.TID), until, web.Plain(x.By), shell.Written(x.Note)}}
}

// callQuestion is the form of one call. Its name makes a form that is sent twice
// one call.
func callQuestion(ctx context.Context, now time.Time) shell.Question {
	u, _ := web.Who(ctx)
	name := fmt.Sprintf("call_%x", sha256.Sum256(fmt.Appendf(nil, "%s %d", u.Name, now.UnixNano())))[:29]
	return shell.Question{ID: "ask-call", Action: atCalls, Open: words.TakeCall, Body: words.TakeCallBody, Icon: "plus", Hidden: [][2]string{{"call", name}}, Receiver: words.OwnBank.In(ctx), About: words.Host,
		Fields: []web.Field{{Name: "tid", Label: words.Terminal, Mode: "numeric", Required: true, Max: 8}, {Name: "number", Label: words.TypeNumber, Mode: "numeric", Required: true, Max: 23},
			{Name: "expiry", Label: words.Expiry, Hint: words.ExpiryHint, Mode: "numeric", Required: true, Max: 4}, {Name: "amount", Label: words.Amount, Mode: "decimal", Lead: "¥", Required: true, Max: 10}}}
}

// call has the bank decide what a shop asks by telephone.
func (d Deps) call(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, atCalls, err)
	}
	u, _ := web.Who(ctx)
	amount, err := money.ParseYuan(r.PostFormValue("amount"))
	if err != nil {
		return shell.Sorry(w, r, atCalls, referral.ErrCall)
	}
	c := referral.Call{ID: r.PostFormValue("call"), TID: r.PostFormValue("tid"), Number: digits(r.PostFormValue("number")), Expiry: r.PostFormValue("expiry"), Amount: amount, By: u.Name, Note: reason}
	err = d.Desk.Store.Read(ctx, func(q *db.Query) error {
		s, err := merchant.StandingOf(q, c.TID)
		if err == nil {
			c.Shop, c.Name = s.Shop.ID, s.Shop.NameZH
			err = s.MayTrade()
		}
		return err
	})
	if reason := fail.Of(err); err != nil && reason.Kind == fail.NotFound {
		// A number heard wrongly is said beside the form; it is no missing page.
		return web.Redirect(w, r, atCalls, web.Toast{Tone: web.Bad, Text: web.FailureText(reason.Code, reason.Text).In(ctx)})
	}
	if err != nil {
		return shell.Sorry(w, r, atCalls, err)
	}
	desk := d.Switch.Desk()
	heard, err := desk.Hear(ctx, c)
	if err != nil {
		return shell.Sorry(w, r, atCalls, err)
	}
	deed := shell.Deed{Act: shell.ActCall, Target: atCalls, What: fmt.Sprintf("%s, %s, %s", c.TID, heard.Masked(), web.Yuan(amount.Minor())), Why: reason}
	var x referral.Referral
	err = d.Desk.Store.Write(ctx, func(tx *db.Tx) (err error) {
		if x, err = desk.Decide(tx, heard); err != nil {
			return err
		}
		return shell.Keep(tx, r, deed)
	})
	switch {
	case err != nil:
		return shell.Sorry(w, r, atCalls, err)
	case x.State == referral.Refused:
		return web.Redirect(w, r, atCalls, web.Toast{Tone: web.Bad, Text: words.BadCall.In(ctx)})
	}
	return shell.Done(w, r, atCalls, words.CallDecided)
}

// withdraw takes a code back that was given.
func (d Deps) withdraw(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	return d.Desk.Change(w, r, atCalls, words.TakenBack, shell.Deed{Act: shell.ActCallBack, Target: atCalls, What: id}, func(tx *db.Tx) error { return referral.Withdraw(tx, id) })
}
