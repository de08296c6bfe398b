package estate

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/internal/db"
	"koala/switching"
	"koala/web"
	"koala/web/ops/shell"
)

// batches lists what terminals settled.
func (d Deps) batches(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var before time.Time
	if s := r.FormValue("after"); s != "" {
		us, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("page of batches: %w", shell.ErrForm)
		}
		before = db.Moment(us)
	}
	pg := web.PageOf(r, shell.Rows)
	var list []switching.Batch
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = switching.Batches(q, r.FormValue("shop"), before, pg.Limit)
		return err
	})
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	t := web.Table{ID: "batches", Empty: words.NoBatches, Head: []web.Column{{Name: words.Terminal}, {Name: words.Batch, Num: true}, {Name: words.Home}, {Name: words.Abroad}, {Name: words.Items, Num: true}, {Name: words.Totalled, Num: true}, {Name: words.Ended, Num: true}}}
	for _, b := range list {
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + b.TID, Cells: []web.Cell{web.Mono(b.TID), web.Count(int64(b.Number)), balanced(r, b.Home), balanced(r, b.Abroad), web.Count(int64(b.Items)), shell.At(b.Totalled), shell.At(b.Ended)}})
	}
	t.Next = shell.NextOf(r, list, pg, func(b switching.Batch) string { return strconv.FormatInt(b.Totalled.UnixMicro(), 10) })
	return d.Desk.List(w, r, page("/batches"), shell.ListView{Table: t, Tabs: tabs("/batches"), Filter: []web.Field{{Name: "shop", Label: words.ShopID, Type: "search", Value: r.FormValue("shop"), Max: 40}}})
}

func balanced(r *http.Request, result int) web.Cell {
	switch result {
	case switching.Balanced:
		return web.Status(r.Context(), web.Good, words.Balanced)
	case switching.NotBalanced:
		return web.Status(r.Context(), web.Bad, words.NotBalanced)
	}
	return web.Status(r.Context(), web.Warn, words.InError)
}

// mostActs bounds the questions of one page.
const mostActs = 8

// differences lists what a terminal and the switch do not agree on.
func (d Deps) differences(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, all := r.Context(), web.PageOf(r, shell.Rows), r.FormValue("all") != ""
	var list []switching.Difference
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = switching.Differences(q, !all, pg.After, pg.Limit)
		return err
	})
	if err != nil {
		return fmt.Errorf("differences: %w", err)
	}
	v := shell.ListView{Tabs: tabs("/differences"), Note: words.DifferNote, Tone: web.Info}
	t := web.Table{ID: "differences", Empty: words.NoDifferences, Head: []web.Column{{Name: words.Trace}, {Name: words.What}, {Name: words.Ours, Num: true}, {Name: words.Theirs, Num: true}, {Name: words.Card}, {Name: words.Since, Num: true}, {Name: words.Decided}}}
	for _, x := range list {
		decided := web.Status(ctx, web.Warn, words.Waits)
		if !x.Decided.IsZero() {
			decided = shell.Written(x.By + ": " + x.Note)
		}
		row := web.Row{Cells: []web.Cell{web.Mono(fmt.Sprintf("%s/%06d/%06d", x.TID, x.Batch, x.STAN)), web.Plain(shell.Both(x.Words).In(ctx)), web.Money(x.Ours.Minor()), web.Money(x.Theirs.Minor()), web.Mono(x.Masked), shell.At(x.At), decided}}
		if x.RRN != "" {
			row.Href, row.Drawer = "/ops/switch/transactions/"+x.RRN, true
		}
		t.Rows = append(t.Rows, row)
		if x.Decided.IsZero() && len(v.Acts) < mostActs {
			v.Acts = append(v.Acts, shell.Question{ID: "ask-" + x.ID, Action: here + "/differences/" + x.ID, Open: words.DecideOn.F(fmt.Sprintf("%s/%06d", x.TID, x.STAN)), Body: words.DecideBody, Icon: "scale",
				Amount: web.Yuan(max(x.Ours.Minor(), x.Theirs.Minor())), Receiver: x.TID, About: words.Terminal, Choices: []web.Option{{Value: "pay", Name: words.PayShop}, {Value: "drop", Name: words.GiveUp}}})
		}
	}
	t.Next = shell.NextOf(r, list, pg, func(x switching.Difference) string { return x.ID })
	shown := ""
	if all {
		shown = "1"
	}
	v.Table, v.Filter = t, []web.Field{{Name: "all", Label: words.Show, Type: "select", Options: []web.Option{{Name: words.OpenOnes}, {Value: "1", Name: words.All}}, Value: shown}}
	return d.Desk.List(w, r, page("/differences"), v)
}

func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	pay := r.PostFormValue("decision")
	if pay != "pay" && pay != "drop" {
		return fmt.Errorf("decision on a difference: %w", shell.ErrForm)
	}
	back := here + "/differences"
	u, _ := web.Who(r.Context())
	return d.Desk.Change(w, r, back, words.WasDecided, shell.Deed{Act: shell.ActBatchDiffer, Target: back, What: r.PathValue("id") + ": " + pay}, func(tx *db.Tx) error {
		why, err := shell.Why(r)
		if err != nil {
			return err
		}
		return switching.Resolve(tx, r.PathValue("id"), pay == "pay", u.Name, why)
	})
}
