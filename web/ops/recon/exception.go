package recon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/internal/db"
	"koala/reconcile"
	"koala/web"
	"koala/web/ops/shell"
)

// An exceptionView is one thing that does not agree.
type exceptionView struct {
	facts        []web.Fact
	ours, theirs []web.Fact
	proposal     web.Text
	waits        web.Text // what the house waits for; empty when it is staff's turn
	acts         []shell.Question
	trail        []web.Happening
}

func (d Deps) exception(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var x reconcile.Exception
	var h reconcile.Host
	var acts []reconcile.Act
	var others []reconcile.Exception
	var shop web.Text
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if x, err = reconcile.ExceptionOf(q, r.PathValue("id")); err != nil {
			return err
		}
		if h, err = reconcile.HostOf(q, x.Host); err != nil {
			return err
		}
		if acts, err = reconcile.History(q, x.ID); err != nil {
			return err
		}
		shop = shell.ShopName(q, x.Payee)
		if x.Held != 0 && x.State != reconcile.Closed {
			open, err := all(q, "")
			if err != nil {
				return err
			}
			for _, y := range open {
				if y.ID != x.ID && y.Held == -x.Held && len(others) < 10 {
					others = append(others, y)
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("page of an exception: %w", err)
	}
	v := exceptionView{ours: itemFacts(ctx, x.Ours), theirs: itemFacts(ctx, x.Theirs), proposal: sentence(shell.Both(x.Type.Proposal)), acts: questions(ctx, x, h, others)}
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(stateTones[x.State], shell.Both(x.State.Words))}, {Name: words.Next, Show: shell.Phrase(shell.Both(x.Next.Words))}, {Name: words.Host, Show: shell.Phrase(hostText(x.Host))},
		{Name: words.Day, Value: x.Day.String()}, {Name: words.Reference, Value: x.Ref, Mono: true}, {Name: words.Difference, Show: shell.Strong(web.SignedYuan(x.Gross - x.Fee - x.Network))}, {Name: words.Held, Value: web.Yuan(x.Held)}}
	if at := ecashPath(x); at != "" {
		v.facts = append(v.facts, web.Fact{Name: words.AtECash, Value: words.ECash.In(ctx), Href: at})
	}
	if x.Payee != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Shop, Value: shop.In(ctx), Href: "/ops/merchants/shops/" + x.Payee})
	}
	if x.Ours != nil && x.Ours.RRN != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Transaction, Value: x.Ours.RRN, Href: "/ops/switch/transactions/" + x.Ours.RRN, Mono: true})
	}
	if x.Proposer != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Proposer, Value: x.Proposer})
	}
	if x.Signer != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Signer, Value: x.Signer})
	}
	if x.State == reconcile.Proposed && x.Weight() > h.FourEyes {
		v.waits = words.NeedsAnother.F(web.Yuan(h.FourEyes), x.Proposer)
	}
	for _, a := range slices.Backward(acts) {
		what := shell.Both(a.Became.Words)
		icon, tone, who := "user", web.Info, a.Who
		if a.Who == reconcile.System {
			icon, who = "cpu", words.TheSystem.In(ctx)
		}
		if a.Became == reconcile.Closed {
			tone = web.Good
		}
		v.trail = append(v.trail, web.Happening{At: a.At, Who: who, What: what, Detail: shell.Both(a.Reason).In(ctx), Icon: icon, Tone: tone})
	}
	return d.Desk.Show(w, r, web.Page{Title: headline(shell.Both(x.Type.Words)), Lead: hostText(x.Host), Back: atExceptions, Here: here}, exceptionPage(v))
}

// ecashPath is where the e-cash desk has what an exception is about.
func ecashPath(x reconcile.Exception) string {
	_, id, _ := strings.Cut(x.Ref, "/")
	switch {
	case !x.Type.ECash():
		return ""
	case x.Type == reconcile.ECashGap:
		return "/ops/ecash/gaps"
	case x.Type == reconcile.ECashDoubt:
		return "/ops/ecash/doubts/" + id
	case strings.HasPrefix(id, "sale_"):
		return "/ops/ecash/records/" + id
	case strings.HasPrefix(id, "odd_"):
		return "/ops/ecash/odd"
	}
	return "/ops/ecash/suspense"
}

// headline is a phrase as the title of a page.
func headline(t web.Text) web.Text {
	if t.EN != "" {
		t.EN = strings.ToUpper(t.EN[:1]) + t.EN[1:]
	}
	return t
}

// sentence is a phrase as a sentence.
func sentence(t web.Text) web.Text {
	t = headline(t)
	return web.Text{ZH: t.ZH + "。", EN: t.EN + "."}
}

func itemFacts(ctx context.Context, x *reconcile.Item) []web.Fact {
	if x == nil {
		return nil
	}
	out := []web.Fact{{Name: words.Reference, Value: x.RRN, Mono: true}, {Name: words.Terminal, Value: x.TID, Mono: true}, {Name: words.Trace, Value: x.STAN, Mono: true}, {Name: words.Day, Value: x.Date.String()},
		{Name: words.Gross, Value: web.Yuan(x.Fen)}, {Name: words.IssuerFee, Value: web.Yuan(x.Fee)}, {Name: words.NetworkFee, Value: web.Yuan(x.Network)}}
	if x.Line > 0 {
		out = append(out, web.Fact{Name: words.FileLine, Value: web.Number(int64(x.Line))})
	}
	if !x.At.IsZero() {
		out = append(out, web.Fact{Name: words.At, Value: web.Moment(x.At)})
	}
	return out
}

// questions are what staff may do now.
func questions(ctx context.Context, x reconcile.Exception, h reconcile.Host, others []reconcile.Exception) (out []shell.Question) {
	u, _ := web.Who(ctx)
	at, amount := atExceptions+"/"+x.ID, web.Yuan(x.Weight())
	ask := func(act string, open, body web.Text, icon string, danger bool) *shell.Question {
		out = append(out, shell.Question{ID: "ask-" + act, Action: at + "/" + act, Open: open, Body: body, Icon: icon, Danger: danger, Amount: amount, Receiver: hostText(x.Host).In(ctx), About: words.Host})
		return &out[len(out)-1]
	}
	switch x.State {
	case reconcile.Open, reconcile.Rejected:
		if x.Type != reconcile.Late {
			q := ask("propose", words.Propose, sentence(shell.Both(x.Type.Proposal)), "check", false)
			if x.Payee == "" {
				q.Fields = []web.Field{{Name: "payee", Label: words.Shop, Hint: words.ShopHint, Max: 40}}
			}
		}
	case reconcile.Proposed:
		if x.Weight() <= h.FourEyes || u.Name != x.Proposer {
			ask("sign", words.Sign, words.SignBody, "check", false)
			ask("reject", words.Reject, words.RejectBody, "x", true)
		}
	case reconcile.Signed, reconcile.Booked:
		q := ask("close", words.Close, words.CloseBody, "lock", false)
		for _, o := range reconcile.Outcomes {
			if (o == reconcile.Nothing) == (x.Held == 0) && (o != reconcile.ToShop || x.Payee != "") {
				q.Choices = append(q.Choices, web.Option{Value: string(o), Name: shell.Both(o.Words)})
			}
		}
		if len(others) > 0 {
			q := ask("offset", words.Offset, words.OffsetBody, "arrow-left-right", false)
			for _, y := range others {
				q.Choices = append(q.Choices, web.Option{Value: y.ID, Name: web.Text{ZH: y.Type.Words(true) + " " + y.Day.String() + " " + web.Yuan(y.Held), EN: y.Type.Words(false) + ", " + y.Day.String() + ", " + web.Yuan(y.Held)}})
			}
		}
	}
	return out
}

// act does what staff decided about an exception.
func (d Deps) act(w http.ResponseWriter, r *http.Request) error {
	id, act, choice := r.PathValue("id"), r.PathValue("act"), r.PostFormValue("decision")
	at := atExceptions + "/" + id
	u, _ := web.Who(r.Context())
	why, _ := shell.Why(r) // Change says what is wrong with it
	deeds := map[string]shell.Act{"propose": shell.ActPropose, "sign": shell.ActSign, "reject": shell.ActReject, "close": shell.ActAcknowledge, "offset": shell.ActOffset}
	deed, known := deeds[act]
	if !known {
		return fmt.Errorf("act %q on an exception: %w", act, web.ErrNoPage)
	}
	if act == "close" && !slices.Contains(reconcile.Outcomes, reconcile.Outcome(choice)) {
		return fmt.Errorf("outcome of an exception: %w", shell.ErrForm)
	}
	return d.Desk.Change(w, r, at, words.Done, shell.Deed{Act: deed, Target: at, What: id + " " + choice}, func(tx *db.Tx) (err error) {
		switch act {
		case "propose":
			_, err = reconcile.Propose(tx, id, u.Name, why, r.PostFormValue("payee"))
		case "sign":
			_, err = reconcile.Sign(tx, id, u.Name, why)
		case "reject":
			_, err = reconcile.Reject(tx, id, u.Name, why)
		case "close":
			_, err = reconcile.Close(tx, id, reconcile.Outcome(choice), u.Name, why)
		case "offset":
			err = reconcile.Offset(tx, id, choice, u.Name, why)
		}
		return err
	})
}
