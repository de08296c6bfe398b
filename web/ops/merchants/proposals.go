package merchants

import (
	"net/http"

	"koala/internal/proposal"
	"koala/web"
	"koala/web/ops/shell"
)

// The kinds of proposals of these pages: agents and the deny list are changed by
// two people.
const (
	agentKind = "agent"
	denyKind  = "denial"
)

// two is how two people change agents and the deny list.
var two = shell.Two{Path: here + "/proposals/%[1]s/%[2]s", More: pageOfProposal,
	Kinds: map[string]func() shell.Change{agentKind: func() shell.Change { return new(agentChange) }, denyKind: func() shell.Change { return new(denyChange) }},
	Words: shell.TwoWords{Proposed: words.Proposed, Done: words.Changed, Undone: words.Undone, Confirm: words.Confirm, ConfirmBody: words.ConfirmBody, TakeBack: words.TakeBack, TakeBackBody: words.TakeBackBody,
		Change: words.Change, Proposer: words.Proposer, Reason: words.Reason, Since: words.Since}}

// decide confirms a proposal or takes it back.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	return two.Decide(d.Desk, w, r, r.PathValue("kind"), r.PathValue("id"), r.PathValue("act"))
}

// A waitingView is what waits for another person.
type waitingView struct {
	table web.Table
	acts  []shell.Question
}

// mostActs is about how many wishes a page asks: the oldest.
const mostActs = 6

// pageOfProposal is where more of a proposal is seen than its line.
func pageOfProposal(p proposal.Proposal, _ shell.Change) string {
	if p.Kind() == denyKind {
		return here + "/deny/proposals/" + p.ID
	}
	return ""
}
