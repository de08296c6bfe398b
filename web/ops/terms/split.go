package terms

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/money"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

// shares is a standing split as a proposal keeps it.
type shares struct {
	List   []share
	Bearer string // empty: the fee is divided
}

// A share is fixed fen of each sale, or basis points of what the fixed ones leave.
type share struct {
	Payee   string
	Fen, BP int64
}

func sharesOf(s settlement.Split) shares {
	out := shares{Bearer: s.Bearer}
	for _, x := range s.Shares {
		out.List = append(out.List, share{x.Payee, x.Fixed.Minor(), x.BP})
	}
	return out
}

func (s shares) split() settlement.Split {
	out := settlement.Split{Bearer: s.Bearer}
	for _, x := range s.List {
		out.Shares = append(out.Shares, settlement.Share{Payee: x.Payee, Fixed: money.Fen(x.Fen), BP: x.BP})
	}
	return out
}

func (x share) size() string {
	if x.Fen > 0 {
		return web.Yuan(x.Fen)
	}
	return percent(x.BP) + " %"
}

// text says the shares, with names if there is where to look them up.
func (s shares) text(q db.Reader) web.Text {
	if len(s.List) == 0 {
		return words.NoSplit
	}
	var zh, en []string
	for _, x := range s.List {
		name := web.Same(x.Payee)
		if q != nil {
			name = nameOf(q, x.Payee)
		}
		zh, en = append(zh, name.ZH+" "+x.size()), append(en, name.EN+" "+x.size())
	}
	return web.Text{ZH: strings.Join(zh, "，"), EN: strings.Join(en, ", ")}
}

func (s shares) bearer(q db.Reader) web.Text {
	if s.Bearer == "" {
		return words.FeeDivided
	}
	return nameOf(q, s.Bearer)
}

// A splitChange is a standing split that is proposed.
type splitChange struct {
	Payee string
	Since calendar.Date
	Split shares
	Base  string
}

func (c splitChange) payee() string { return c.Payee }

// Deed is shell.Change's.
func (c splitChange) Deed(proposal.State) shell.Deed { return deedOf(c) }

// Holds is shell.Change's.
func (c splitChange) Holds(q db.Reader, now time.Time) error {
	return holds(q, c.Payee, c.Base, c.Since, now)
}

// Make is shell.Change's.
func (c splitChange) Make(tx *db.Tx, _ proposal.Proposal) error {
	return settlement.SetSplit(tx, c.Payee, c.Since, c.Split.split())
}

// Text is shell.Change's.
func (c splitChange) Text(db.Reader) web.Text {
	t := c.Split.text(nil)
	return web.Text{ZH: words.SplitFrom.To(web.ZH, c.Since.String(), t.ZH), EN: words.SplitFrom.To(web.EN, c.Since.String(), t.EN)}
}

func (c splitChange) changes(ctx context.Context, q db.Reader) (web.Table, error) {
	old, err := settlement.SplitOn(q, c.Payee, c.Since)
	return c.compared(ctx, q, sharesOf(old)), err
}

// compared shows who gets what of a sale of 100 yuan, before and from then on.
func (c splitChange) compared(ctx context.Context, q db.Reader, old shares) web.Table {
	t := web.Table{ID: "split-changes", NoCSV: true, Empty: words.NoChange, Head: []web.Column{{Name: words.Receiver}, {Name: words.Until, Num: true}, {Name: words.FromThen, Num: true}, {Name: words.OfHundred, Num: true}}}
	was, now := map[string]string{}, map[string]string{}
	var order []string
	for i, list := range [][]share{old.List, c.Split.List} {
		for _, x := range list {
			if was[x.Payee] == "" && now[x.Payee] == "" {
				order = append(order, x.Payee)
			}
			if i == 0 {
				was[x.Payee] = x.size()
			} else {
				now[x.Payee] = x.size()
			}
		}
	}
	got := c.of(exampleSale)
	for _, id := range append(order, c.Payee) {
		a, b := shell.None(), shell.None()
		if was[id] != "" {
			a = shell.Short(was[id])
		}
		if now[id] != "" {
			b = shell.Short(now[id])
		}
		if id == c.Payee {
			a, b = web.Plain(words.TheRest.In(ctx)), web.Plain(words.TheRest.In(ctx))
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(nameOf(q, id).In(ctx)), a, b, web.Money(got[id])}})
	}
	return t
}

// exampleSale is divided to show what a split does, fen.
const exampleSale = 100_00

// of divides a sale as settlement does: the fen of each receiver.
func (c splitChange) of(fen int64) map[string]int64 {
	out := map[string]int64{}
	all, parts := c.Split.split().Of(c.Payee, money.Fen(fen))
	for i, x := range all.Shares {
		out[x.Payee] += parts[i].Minor()
	}
	return out
}

// rows of the form: as many as are there and some more, within what a split has.
const (
	moreRows = 3
	mostRows = 19
)

// A splitView is the form of a standing split with its preview.
type splitView struct {
	head    []web.Field
	rows    [][]web.Field
	wrong   bool
	preview bool
	changes web.Table
	day     calendar.Date
	divided web.Table
	ask     []shell.Question
}

// splitForm asks for a standing split, and shows what it would do.
func (d Deps) splitForm(w http.ResponseWriter, r *http.Request) error {
	ctx, payee, today := r.Context(), r.PathValue("payee"), d.today()
	var v splitView
	var name web.Text
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		if known, err := isPayee(q, payee); err != nil || !known {
			return fmt.Errorf("split of %.40q: %w", payee, orUnknown(err))
		}
		name = nameOf(q, payee)
		old, err := settlement.SplitOn(q, payee, today.AddDays(farDays))
		if err != nil {
			return err
		}
		if r.FormValue("since") == "" {
			v.fields(splitValues(sharesOf(old), today.AddDays(1)), nil)
			return nil
		}
		c, wrong, err := readSplit(r, q, payee, today)
		if err != nil {
			return err
		}
		v.fields(r.Form, wrong)
		if v.wrong = len(wrong) > 0; v.wrong {
			return nil
		}
		return v.look(r, q, c, name)
	})
	if err != nil {
		return err
	}
	return d.Desk.Show(w, r, web.Page{Title: words.NewSplit, Lead: name, Back: at(payee), Here: "/ops/closings"}, splitPage(v))
}

// splitValues is the form filled with a split.
func splitValues(s shares, since calendar.Date) url.Values {
	v := url.Values{"since": {since.String()}, "bearer": {s.Bearer}}
	for i, x := range s.List {
		v.Set(fmt.Sprint("payee", i+1), x.Payee)
		if x.Fen > 0 {
			v.Set(fmt.Sprint("fixed", i+1), money.Fen(x.Fen).Yuan())
		} else {
			v.Set(fmt.Sprint("share", i+1), percent(x.BP))
		}
	}
	return v
}

// fields are the form with its values and what is wrong with them.
func (v *splitView) fields(values url.Values, wrong map[string]web.Text) {
	n := 0
	for i := range mostRows {
		if values.Get(fmt.Sprint("payee", i+1)) != "" {
			n = i + 1
		}
	}
	field := func(f web.Field) web.Field {
		f.Value, f.Error = values.Get(f.Name), wrong[f.Name]
		return f
	}
	v.head = []web.Field{field(web.Field{Name: "since", Label: words.FromDay, Hint: words.FromHint, Type: "date", Required: true}), field(web.Field{Name: "bearer", Label: words.Bearer, Hint: words.BearerHint, Max: 64})}
	for i := range min(n+moreRows, mostRows) {
		no := fmt.Sprint(i + 1)
		v.rows = append(v.rows, []web.Field{field(web.Field{Name: "payee" + no, Label: words.ReceiverNo.F(i + 1), Max: 64}), field(web.Field{Name: "share" + no, Label: words.SharePercent, Mode: "decimal", Max: 6}), field(web.Field{Name: "fixed" + no, Label: words.ShareFixed, Lead: "¥", Mode: "decimal", Max: 12})})
	}
}

// readSplit reads a split from the form. No receivers at all end the one before.
func readSplit(r *http.Request, q db.Reader, payee string, today calendar.Date) (c splitChange, wrong map[string]web.Text, err error) {
	x := read(r)
	c = splitChange{Payee: payee, Since: x.day("since", today), Split: shares{Bearer: x.text("bearer")}}
	seen, sum, bears := map[string]bool{payee: true}, int64(0), c.Split.Bearer == "" || c.Split.Bearer == payee
	for i := range mostRows {
		no := fmt.Sprint(i + 1)
		s := share{Payee: x.text("payee" + no)}
		part, fixed := x.text("share"+no), x.text("fixed"+no)
		if s.Payee == "" {
			if part+fixed != "" {
				x.fail("payee"+no, words.WhoGets)
			}
			continue
		}
		known, err := isPayee(q, s.Payee)
		switch {
		case err != nil:
			return c, nil, err
		case !known:
			x.fail("payee"+no, words.NoSuchPayee)
		case seen[s.Payee]:
			x.fail("payee"+no, words.TwiceThere)
		}
		seen[s.Payee], bears = true, bears || s.Payee == c.Split.Bearer
		switch {
		case (part == "") == (fixed == ""):
			x.fail("share"+no, words.OneOfBoth)
		case part != "":
			if s.BP = x.hundredths("share"+no, 10_000, words.BadPercent); s.BP == 0 && x.wrong["share"+no].Empty() {
				x.fail("share"+no, words.BadPercent)
			}
			if sum += s.BP; sum > 10_000 {
				x.fail("share"+no, words.TooMuch.F(percent(sum)))
			}
		default:
			if s.Fen = x.hundredths("fixed"+no, mostLeast*100, words.BadAmount); s.Fen == 0 && x.wrong["fixed"+no].Empty() {
				x.fail("fixed"+no, words.BadAmount)
			}
		}
		c.Split.List = append(c.Split.List, s)
	}
	if !bears || c.Split.Bearer != "" && len(c.Split.List) == 0 {
		x.fail("bearer", words.BearerNot)
	}
	return c, x.wrong, nil
}

// look fills the preview: what changes, and how the sales of the last closed day
// would have been divided.
func (v *splitView) look(r *http.Request, q db.Reader, c splitChange, name web.Text) error {
	ctx := r.Context()
	old, err := settlement.SplitOn(q, c.Payee, c.Since)
	if err != nil {
		return err
	}
	if c.Base, err = base(q, c.Payee); err != nil {
		return err
	}
	v.preview, v.changes = true, c.compared(ctx, q, sharesOf(old))
	if err := v.again(ctx, q, c); err != nil {
		return err
	}
	if sameShares(sharesOf(old), c.Split) {
		v.changes.Rows = nil
		return nil
	}
	hide := hidden(url.Values{}, c.Base)
	for name := range r.Form {
		if name != "base" && name != "why" {
			hide = append(hide, [2]string{name, r.Form.Get(name)})
		}
	}
	v.ask = []shell.Question{{ID: "ask-propose", Action: at(c.Payee) + "/split", Open: words.Propose, Body: words.ProposeSplitBody, Icon: "check", Receiver: name.In(ctx), About: words.Payee, Hidden: hide}}
	return nil
}

func (v *splitView) again(ctx context.Context, q db.Reader, c splitChange) (err error) {
	v.divided = web.Table{ID: "divided", NoCSV: true, Empty: words.NoTrial, Head: []web.Column{{Name: words.Receiver}, {Name: words.Amount, Num: true}}}
	if v.day, err = lastClosed(q, c.Payee); err != nil || v.day.IsZero() {
		return err
	}
	items, err := itemsOf(q, c.Payee, v.day)
	if err != nil {
		return err
	}
	got := map[string]int64{}
	for _, i := range items {
		if i.Kind != settlement.Sale || i.Amount.Sign() <= 0 {
			continue
		}
		for id, fen := range c.of(i.Amount.Minor()) {
			got[id] += fen
		}
	}
	for _, x := range append(c.Split.List, share{Payee: c.Payee}) {
		v.divided.Rows = append(v.divided.Rows, web.Row{Cells: []web.Cell{web.Plain(nameOf(q, x.Payee).In(ctx)), web.Money(got[x.Payee])}})
	}
	return nil
}

func sameShares(a, b shares) bool {
	if a.Bearer != b.Bearer || len(a.List) != len(b.List) {
		return false
	}
	for i := range a.List {
		if a.List[i] != b.List[i] {
			return false
		}
	}
	return true
}

// proposeSplit keeps a standing split that another person confirms.
func (d Deps) proposeSplit(w http.ResponseWriter, r *http.Request) error {
	payee := r.PathValue("payee")
	var c splitChange
	var wrong map[string]web.Text
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		if c, wrong, err = readSplit(r, q, payee, d.today()); err != nil || len(wrong) > 0 {
			return err
		}
		old, err := settlement.SplitOn(q, payee, c.Since)
		if err == nil && sameShares(sharesOf(old), c.Split) {
			err = fmt.Errorf("split of %s: %w", payee, ErrSame)
		}
		return err
	})
	back := at(payee) + "/split?" + filled(r.Form)
	switch {
	case err != nil:
		return shell.Sorry(w, r, back, err)
	case len(wrong) > 0:
		return web.Redirect(w, r, back, web.Toast{Tone: web.Bad, Text: words.SomethingWrong.In(r.Context())})
	}
	c.Base = r.PostFormValue("base")
	return two.Propose(d.Desk, w, r, back, splitKind+":"+payee, c)
}
