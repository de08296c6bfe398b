package merchants

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"koala/internal/db"
	"koala/internal/proposal"
	"koala/web"
	"koala/web/ops/shell"
)

// Agents and the deny list are changed by two people: one proposes, another
// confirms, and the change is made in the unit that confirms it.

// A change is what is proposed; it lies in the proposal as JSON.
type change interface {
	text() web.Text
	page() string // where it is seen
	apply(tx *db.Tx, by string) error
}

// The kinds of proposals of these pages.
const (
	agentKind = "agent"
	denyKind  = "denial"
)

// changeOf reads what is proposed.
func changeOf(kind string, p proposal.Proposal) (c change, err error) {
	switch kind {
	case agentKind:
		var x agentChange
		err = p.Read(&x)
		c = x
	case denyKind:
		var x denyChange
		err = p.Read(&x)
		c = x
	default:
		return nil, fmt.Errorf("proposals of kind %q: %w", kind, web.ErrNoPage)
	}
	if err != nil {
		err = fmt.Errorf("proposal %s: %w", p.ID, err)
	}
	return c, err
}

// propose keeps a change that another person confirms, if it could be made now.
func (d Deps) propose(w http.ResponseWriter, r *http.Request, back, about string, c change) error {
	reason, err := shell.Why(r)
	if err == nil {
		err = d.tried(r.Context(), c)
	}
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	u, _ := web.Who(r.Context())
	return d.Desk.Change(w, r, back, words.Proposed, shell.Deed{Act: shell.ActMerchant, Target: c.page(), What: "proposed: " + c.text().EN}, func(tx *db.Tx) error {
		_, err := proposal.Make(tx, about, c, u.Name, reason)
		return err
	})
}

// errTried ends a unit that was only tried.
var errTried = errors.New("tried")

// tried makes a change in a unit that is given up: whoever proposes hears at once
// what speaks against it.
func (d Deps) tried(ctx context.Context, c change) error {
	err := d.Desk.Store.Write(ctx, func(tx *db.Tx) error {
		if err := c.apply(tx, "nobody"); err != nil {
			return err
		}
		return errTried
	})
	if errors.Is(err, errTried) {
		return nil
	}
	return err
}

// decide confirms a proposal or takes it back.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	kind, id, act := r.PathValue("kind"), r.PathValue("id"), r.PathValue("act")
	u, _ := web.Who(r.Context())
	var c change
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		p, err := proposal.Of(q, kind, id)
		if err == nil {
			c, err = changeOf(kind, p)
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("deciding a proposal: %w", err)
	case act == "undo":
		return d.Desk.Change(w, r, c.page(), words.Undone, shell.Deed{Act: shell.ActMerchant, Target: c.page(), What: "taken back: " + c.text().EN}, func(tx *db.Tx) error {
			_, err := proposal.Undo(tx, kind, id, u.Name)
			return err
		})
	case act != "confirm":
		return fmt.Errorf("act %q on a proposal: %w", act, web.ErrNoPage)
	}
	return d.Desk.Change(w, r, c.page(), words.Changed, shell.Deed{Act: shell.ActMerchant, Target: c.page(), What: "confirmed: " + c.text().EN}, func(tx *db.Tx) error {
		p, err := proposal.Confirm(tx, kind, id, u.Name)
		if err != nil {
			return err
		}
		return c.apply(tx, p.By+", "+u.Name)
	})
}

// A waitingView is what waits for another person.
type waitingView struct {
	table web.Table
	acts  []shell.Question
}

// mostActs is for how many proposals a page has buttons: the oldest.
const mostActs = 6

// waiting shows proposals, and what who looks may do about them.
func waiting(ctx context.Context, kind string, list []proposal.Proposal) (v waitingView, err error) {
	v.table = web.Table{ID: "proposals", NoCSV: true, Head: []web.Column{{Name: words.Change}, {Name: words.Proposer}, {Name: words.Reason}, {Name: words.Since, Num: true}}}
	u, _ := web.Who(ctx)
	for i, p := range list {
		c, err := changeOf(kind, p)
		if err != nil {
			return v, err
		}
		v.table.Rows = append(v.table.Rows, web.Row{Href: pageOfProposal(kind, p), Cells: []web.Cell{web.Plain(c.text().In(ctx)), web.Plain(p.By), shell.Written(p.Why), shell.At(p.At)}})
		if i >= mostActs {
			continue
		}
		at := here + "/proposals/" + kind + "/" + p.ID
		if p.By != u.Name {
			v.acts = append(v.acts, shell.Question{ID: "ask-confirm-" + p.ID, Action: at + "/confirm", Open: words.Confirm.F(i + 1), Body: words.ConfirmBody, Icon: "check", Receiver: c.text().In(ctx), About: words.Change})
		}
		v.acts = append(v.acts, shell.Question{ID: "ask-undo-" + p.ID, Action: at + "/undo", Open: words.TakeBack.F(i + 1), Body: words.TakeBackBody, Icon: "x", Receiver: c.text().In(ctx), About: words.Change})
	}
	return v, nil
}

// pageOfProposal is where more of a proposal is seen than its line.
func pageOfProposal(kind string, p proposal.Proposal) string {
	if kind == denyKind {
		return here + "/deny/proposals/" + p.ID
	}
	return ""
}
