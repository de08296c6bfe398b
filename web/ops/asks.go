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
	"koala/web/ops/lost"
	"koala/web/ops/shell"
)

// orderActs are what staff may do about an order as it stands.
func orderActs(o tsm.Order) (out []shell.Question) {
	if o.State.Over() {
		return nil
	}
	at := "/ops/orders/" + o.ID
	if o.State == tsm.Running || o.State == tsm.Unconfirmed {
		out = append(out, shell.Question{ID: "ask-verify", Action: at + "/verify", Open: words.DoVerify, Body: words.VerifyBody, Icon: "refresh-cw"})
	}
	if o.Desk {
		choices := []web.Option{{Value: string(tsm.TryAgain), Name: words.DecideAgain}}
		if o.Kind == tsm.TopUp {
			choices = append(choices, web.Option{Value: string(tsm.Happened), Name: words.DecideHappened.F(web.Yuan(o.Amount.Minor()))})
		}
		choices = append(choices, web.Option{Value: string(tsm.Nothing), Name: words.DecideNothing})
		out = append(out, shell.Question{ID: "ask-recover", Action: at + "/recover", Open: words.DoRecover, Body: words.RecoverBody, Icon: "wrench", Choices: choices})
	}
	if !o.Stop {
		out = append(out, shell.Question{ID: "ask-cancel", Action: at + "/cancel", Open: words.DoCancel, Body: words.CancelBody, Icon: "x", Danger: true})
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

func cardActs(v cardView) (out []shell.Question) {
	token := [][2]string{{"token", v.token}}
	switch v.card.State {
	case issuing.Active:
		out = append(out, shell.Question{ID: "ask-block", Action: v.path + "/block", Open: words.DoBlock, Body: words.BlockBody, Icon: "lock", Danger: true, Hidden: token})
	case issuing.Blocked:
		out = append(out, shell.Question{ID: "ask-unblock", Action: v.path + "/unblock", Open: words.DoUnblock, Body: words.UnblockBody, Icon: "lock-open", Hidden: token})
	}
	if v.card.Kind != issuing.Transit || v.card.State.Over() {
		return out // gates know transit purses only; other devices refuse by the loss of the band
	}
	if v.denied {
		return append(out, shell.Question{ID: "ask-allow", Action: v.path + "/allow", Open: words.DoAllow, Body: words.AllowBody, Icon: "check"})
	}
	return append(out, shell.Question{ID: "ask-deny", Action: v.path + "/deny", Open: words.DoDeny, Body: words.DenyBody, Icon: "ban", Danger: true})
}

// bandActs offers to suspend a band that holds cards.
func bandActs(v bandView) []shell.Question {
	if len(v.cards.Rows) == 0 {
		return nil
	}
	return []shell.Question{lost.SuspendAct(v.id)}
}

func usesName(v cardView) web.Text {
	if v.transit {
		return words.Journeys
	}
	return words.Payments
}

func customerActs(v customerView) []shell.Question {
	at := "/ops/customers/" + string(v.who.ID) + "/block"
	switch {
	case v.self:
		return nil
	case v.who.Blocked:
		return []shell.Question{{ID: "ask-open", Action: at, Open: words.DoOpenLogin, Body: words.OpenLoginBody, Icon: "lock-open", Hidden: [][2]string{{"shut", "0"}}}}
	}
	return []shell.Question{{ID: "ask-shut", Action: at, Open: words.DoShutLogin, Body: shutBody(v.who), Icon: "lock", Danger: true, Hidden: [][2]string{{"shut", "1"}}}}
}

func shutBody(c customer.Customer) web.Text { return words.ShutLoginBody.F(c.Name) }

func denyActs() []shell.Question {
	return []shell.Question{{ID: "ask-publish", Action: "/ops/deny/publish", Open: words.DoPublish, Body: words.PublishBody, Icon: "radio"}}
}

// journeyActs offers to take an exception off the desk.
func journeyActs(v journeyView) []shell.Question {
	if v.journey.Exception == transit.Fine || v.closed {
		return nil
	}
	return []shell.Question{{ID: "ask-close", Action: journeyPath(v.journey.ID) + "/close", Open: words.DoClose, Body: words.CloseBody, Icon: "check"}}
}

func repairActs(v journeyView) []shell.Question {
	if v.owner == "" {
		return nil
	}
	return []shell.Question{{ID: "ask-repair", Action: journeyPath(v.journey.ID) + "/repair", Open: words.DoRepair, Body: words.RepairBody, Icon: "wrench",
		Hidden: [][2]string{{"station", fmt.Sprintf("%d", v.repair.asked)}}, Amount: web.SignedYuan(-v.repair.more), Receiver: v.owner}}
}

func sealActs(day calendar.Date) []shell.Question {
	return []shell.Question{{ID: "ask-seal", Action: "/ops/books/seal", Open: words.DoSeal.F(day.String()), Body: words.SealBody, Icon: "shield-check", Hidden: [][2]string{{"day", day.String()}}}}
}

func settleActs(day calendar.Date) []shell.Question {
	return []shell.Question{{ID: "ask-settle", Action: "/ops/settlement/run", Open: words.DoSettle.F(day.String()), Body: words.SettleBody, Icon: "landmark"}}
}

func verdictFacts(r ledger.Report) []web.Fact {
	return []web.Fact{
		{Name: words.Records, Value: web.Number(int64(r.Records))}, {Name: words.Batches, Value: web.Number(int64(r.Batches))},
		{Name: words.Entries, Value: web.Number(int64(r.Entries))}, {Name: words.Accounts, Value: web.Number(int64(r.Accounts))},
		{Name: words.Holds, Value: web.Number(int64(r.Holds))}, {Name: words.ViewsCompared, Value: web.Number(int64(r.Viewed))},
		{Name: words.ChainHash, Value: r.Hash, Mono: true},
	}
}
