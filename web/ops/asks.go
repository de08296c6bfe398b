package ops

import (
	"fmt"

	"koala/calendar"
	"koala/customer"
	"koala/issuing"
	"koala/ledger"
	"koala/transit"
	"koala/tsm"
	"koala/web"
)

// A question is a change that staff may make, with what it does in words.
type question struct {
	id, action       string
	open, body       web.Text
	icon             string
	danger           bool
	hidden           [][2]string
	choices          []web.Option
	amount, receiver string // where money moves
}

// orderActs are what staff may do about an order as it stands.
func orderActs(o tsm.Order) (out []question) {
	if o.State.Over() {
		return nil
	}
	at := "/ops/orders/" + o.ID
	if o.State == tsm.Running || o.State == tsm.Unconfirmed {
		out = append(out, question{id: "ask-verify", action: at + "/verify", open: words.DoVerify, body: words.VerifyBody, icon: "refresh-cw"})
	}
	if o.Desk {
		choices := []web.Option{{Value: string(tsm.TryAgain), Name: words.DecideAgain}}
		if o.Kind == tsm.TopUp {
			choices = append(choices, web.Option{Value: string(tsm.Happened), Name: words.DecideHappened.F(web.Yuan(o.Amount.Minor()))})
		}
		choices = append(choices, web.Option{Value: string(tsm.Nothing), Name: words.DecideNothing})
		out = append(out, question{id: "ask-recover", action: at + "/recover", open: words.DoRecover, body: words.RecoverBody, icon: "wrench", choices: choices})
	}
	if !o.Stop {
		out = append(out, question{id: "ask-cancel", action: at + "/cancel", open: words.DoCancel, body: words.CancelBody, icon: "x", danger: true})
	}
	return out
}

// orderEvents is what an order's page listens to: one that has ended stays.
func orderEvents(o tsm.Order) string {
	if o.State.Over() {
		return ""
	}
	return "orders"
}

func cardActs(v cardView) (out []question) {
	token := [][2]string{{"token", v.token}}
	switch v.card.State {
	case issuing.Active:
		out = append(out, question{id: "ask-block", action: v.path + "/block", open: words.DoBlock, body: words.BlockBody, icon: "lock", danger: true, hidden: token})
	case issuing.Blocked:
		out = append(out, question{id: "ask-unblock", action: v.path + "/unblock", open: words.DoUnblock, body: words.UnblockBody, icon: "lock-open", hidden: token})
	}
	if v.denied {
		return append(out, question{id: "ask-allow", action: v.path + "/allow", open: words.DoAllow, body: words.AllowBody, icon: "check"})
	}
	return append(out, question{id: "ask-deny", action: v.path + "/deny", open: words.DoDeny, body: words.DenyBody, icon: "ban", danger: true})
}

func customerActs(v customerView) []question {
	at := "/ops/customers/" + string(v.who.ID) + "/block"
	switch {
	case v.self:
		return nil
	case v.who.Blocked:
		return []question{{id: "ask-open", action: at, open: words.DoOpenLogin, body: words.OpenLoginBody, icon: "lock-open", hidden: [][2]string{{"shut", "0"}}}}
	}
	return []question{{id: "ask-shut", action: at, open: words.DoShutLogin, body: shutBody(v.who), icon: "lock", danger: true, hidden: [][2]string{{"shut", "1"}}}}
}

func shutBody(c customer.Customer) web.Text { return words.ShutLoginBody.F(c.Name) }

func denyActs() []question {
	return []question{{id: "ask-publish", action: "/ops/deny/publish", open: words.DoPublish, body: words.PublishBody, icon: "radio"}}
}

// journeyActs offers to take an exception off the desk.
func journeyActs(v journeyView) []question {
	if v.journey.Exception == transit.Fine || v.closed {
		return nil
	}
	return []question{{id: "ask-close", action: journeyPath(v.journey.ID) + "/close", open: words.DoClose, body: words.CloseBody, icon: "check"}}
}

func repairActs(v journeyView) []question {
	if v.owner == "" {
		return nil
	}
	return []question{{id: "ask-repair", action: journeyPath(v.journey.ID) + "/repair", open: words.DoRepair, body: words.RepairBody, icon: "wrench",
		hidden: [][2]string{{"station", fmt.Sprintf("%d", v.repair.asked)}}, amount: web.SignedYuan(-v.repair.more), receiver: v.owner}}
}

func sealActs(day calendar.Date) []question {
	return []question{{id: "ask-seal", action: "/ops/books/seal", open: words.DoSeal.F(day.String()), body: words.SealBody, icon: "shield-check", hidden: [][2]string{{"day", day.String()}}}}
}

func settleActs(day calendar.Date) []question {
	return []question{{id: "ask-settle", action: "/ops/settlement/run", open: words.DoSettle.F(day.String()), body: words.SettleBody, icon: "landmark"}}
}

func verdictFacts(r ledger.Report) []web.Fact {
	return []web.Fact{
		{Name: words.Records, Value: web.Number(int64(r.Records))}, {Name: words.Batches, Value: web.Number(int64(r.Batches))},
		{Name: words.Entries, Value: web.Number(int64(r.Entries))}, {Name: words.Accounts, Value: web.Number(int64(r.Accounts))},
		{Name: words.Holds, Value: web.Number(int64(r.Holds))}, {Name: words.ViewsCompared, Value: web.Number(int64(r.Viewed))},
		{Name: words.ChainHash, Value: r.Hash, Mono: true},
	}
}

func noteTone(t web.Text) web.Tone {
	if t == words.Unbalanced {
		return web.Bad
	}
	return web.Good
}

func currentTab(t tab) string {
	if t.here {
		return "page"
	}
	return "false"
}

func anyValue(fields []web.Field) bool {
	for _, f := range fields {
		if f.Value != "" {
			return true
		}
	}
	return false
}

func noFile(t web.Table) web.Table {
	t.NoCSV = true
	return t
}
