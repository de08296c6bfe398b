package shell

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"koala/internal/db"
	"koala/internal/proposal"
	"koala/web"
)

// A Change is what one person proposes and another confirms. It lies as JSON in
// its proposal.
type Change interface {
	// Text says what it does; names are looked up in q.
	Text(q db.Reader) web.Text
	// Deed is its row in the trail when it comes to a state: act, page, and what
	// it is in words. Who brought it there is led to that page.
	Deed(to proposal.State) Deed
	// Holds says what speaks against it now.
	Holds(q db.Reader, now time.Time) error
	// Make makes it, in the unit that confirms p.
	Make(tx *db.Tx, p proposal.Proposal) error
}

// A Prepared change needs something before it is confirmed that no unit of work
// can wait for, such as a signature. A cut behind Prepare leaves the proposal
// open: what it makes has to be good for nothing else.
type Prepared interface {
	Change
	Prepare(ctx context.Context) error
}

// Two is how the pages of a subject have two persons change something.
type Two struct {
	Kinds map[string]func() Change                   // a pointer to read a proposal of the kind into
	Path  string                                     // Path + "/confirm" or "/undo" decides; %[1]s is the kind, %[2]s the proposal
	More  func(p proposal.Proposal, c Change) string // the page with all of it; empty: the page of its deed
	Words TwoWords
}

// TwoWords are what the pages say. Confirm and TakeBack may name the proposal:
// Waiting gives the number of its row.
type TwoWords struct {
	Proposed, Done, Undone                       web.Text // what was done
	Confirm, ConfirmBody, TakeBack, TakeBackBody web.Text // buttons, and what they do
	Change, Proposer, Reason, Since              web.Text // columns
}

// Read reads what is proposed.
func (t Two) Read(p proposal.Proposal) (Change, error) {
	made := t.Kinds[p.Kind()]
	if made == nil {
		return nil, fmt.Errorf("proposals of kind %q: %w", p.Kind(), web.ErrNoPage)
	}
	c := made()
	if err := p.Read(c); err != nil {
		return nil, fmt.Errorf("proposal %s: %w", p.ID, err)
	}
	return c, nil
}

// errTried ends a unit that was only tried.
var errTried = errors.New("tried")

// Propose keeps a change for another person, about "kind:thing". Before, it is
// made in a unit that is given up: whoever proposes hears at once, back on the
// form, what speaks against it.
func (t Two) Propose(d Desk, w http.ResponseWriter, r *http.Request, back, about string, c Change) error {
	u, _ := web.Who(r.Context())
	why, err := Why(r)
	if err == nil {
		err = d.Store.Write(r.Context(), func(tx *db.Tx) error {
			if err := c.Holds(tx, tx.Now()); err != nil {
				return err
			}
			if err := c.Make(tx, proposal.Proposal{About: about, By: u.Name, Why: why, Decider: u.Name}); err != nil {
				return err
			}
			return errTried
		})
	}
	if !errors.Is(err, errTried) {
		return Sorry(w, r, back, err)
	}
	return t.change(d, w, r, c, proposal.Open, t.Words.Proposed, func(tx *db.Tx) error {
		_, err := proposal.Make(tx, about, c, u.Name, why)
		return err
	})
}

// Decide confirms a proposal of a kind, which makes the change, or takes it back;
// act is confirm or undo. A second click finds it decided. Decision, change and
// deed are one unit: a cut leaves all or none.
func (t Two) Decide(d Desk, w http.ResponseWriter, r *http.Request, kind, id, act string) error {
	u, _ := web.Who(r.Context())
	var p proposal.Proposal
	var c Change
	err := d.Store.Read(r.Context(), func(q *db.Query) (err error) {
		if p, err = proposal.Of(q, kind, id); err == nil {
			c, err = t.Read(p)
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("deciding a proposal: %w", err)
	case act == "undo":
		return t.change(d, w, r, c, proposal.Undone, t.Words.Undone, func(tx *db.Tx) error {
			_, err := proposal.Undo(tx, kind, id, u.Name)
			return err
		})
	case act != "confirm":
		return fmt.Errorf("act %q on a proposal: %w", act, web.ErrNoPage)
	}
	if x, is := c.(Prepared); is && p.State == proposal.Open && p.By != u.Name { // of others nothing is prepared: Confirm refuses them
		if err := x.Prepare(r.Context()); err != nil {
			return fmt.Errorf("proposal %s: %w", id, err)
		}
	}
	return t.change(d, w, r, c, proposal.Confirmed, t.Words.Done, func(tx *db.Tx) error {
		p, err := proposal.Confirm(tx, kind, id, u.Name)
		if err == nil {
			err = c.Holds(tx, tx.Now())
		}
		if err != nil {
			return err
		}
		return c.Make(tx, p)
	})
}

// steps say in the trail where a proposal came to.
var steps = map[proposal.State]string{proposal.Open: "proposed: ", proposal.Confirmed: "confirmed: ", proposal.Undone: "taken back: "}

// change brings a change to a state, with its deed.
func (t Two) change(d Desk, w http.ResponseWriter, r *http.Request, c Change, to proposal.State, said web.Text, do func(*db.Tx) error) error {
	deed := c.Deed(to)
	deed.What = steps[to] + deed.What
	return d.Change(w, r, deed.Target, said, deed, do)
}

// mostAsked is about how many proposals a page asks: the oldest.
const mostAsked = 8

// Waiting shows what of some kinds waits for another person, and what who looks
// may do about it.
func (t Two) Waiting(ctx context.Context, q db.Reader, kinds ...string) (web.Table, []Question, error) {
	var all []proposal.Proposal
	for _, kind := range kinds {
		list, err := proposal.Waiting(q, kind, Rows)
		if err != nil {
			return web.Table{}, nil, err
		}
		all = append(all, list...)
	}
	return t.Show(ctx, q, all)
}

// Show is Waiting about some proposals, which are open.
func (t Two) Show(ctx context.Context, q db.Reader, list []proposal.Proposal) (table web.Table, ask []Question, err error) {
	table = web.Table{ID: "proposals", NoCSV: true, Head: []web.Column{{Name: t.Words.Change, Wide: true}, {Name: t.Words.Proposer}, {Name: t.Words.Reason}, {Name: t.Words.Since, Num: true}}}
	for i, p := range list {
		c, err := t.Read(p)
		if err != nil {
			return table, nil, err
		}
		href, text := c.Deed(p.State).Target, c.Text(q).In(ctx)
		if t.More != nil {
			href = t.More(p, c)
		}
		table.Rows = append(table.Rows, web.Row{Href: href, Cells: []web.Cell{web.Plain(text), web.Plain(p.By), Written(p.Why), At(p.At)}})
		if i < mostAsked {
			ask = append(ask, t.Ask(ctx, p, text, i+1)...)
		}
	}
	return table, ask, nil
}

// Ask is what who looks may do about an open proposal: anybody takes it back, and
// who did not propose it confirms it. text says what it does, name is for the
// buttons.
func (t Two) Ask(ctx context.Context, p proposal.Proposal, text string, name any) (ask []Question) {
	u, _ := web.Who(ctx)
	at := fmt.Sprintf(t.Path, p.Kind(), p.ID)
	if p.By != u.Name {
		ask = append(ask, Question{ID: "ask-confirm-" + p.ID, Action: at + "/confirm", Open: t.Words.Confirm.F(name), Body: t.Words.ConfirmBody, Icon: "check", Receiver: text, About: t.Words.Change})
	}
	return append(ask, Question{ID: "ask-undo-" + p.ID, Action: at + "/undo", Open: t.Words.TakeBack.F(name), Body: t.Words.TakeBackBody, Icon: "x", Receiver: text, About: t.Words.Change})
}
