package ops

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/ledger"
	"koala/money"
	"koala/web"
	"koala/web/ops/shell"
)

// bookTabs are the lists of the books, with the one shown marked.
func bookTabs(here string) []shell.Tab {
	all := []shell.Tab{{Href: "/ops/books", Name: words.Trial}, {Href: "/ops/books/accounts", Name: words.Accounts},
		{Href: "/ops/books/entries", Name: words.Entries}, {Href: "/ops/books/holds", Name: words.Holds},
		{Href: "/ops/books/proof", Name: words.Proof}}
	for i := range all {
		all[i].Here = all[i].Href == here
	}
	return all
}

// classes are the chart's classes in words.
var classes = map[byte]web.Text{'1': words.Assets, '2': words.Liabilities, '3': words.Equity, '4': words.Income, '5': words.Expenses, '9': words.OffBooks}

// chart names the house's own codes.
var chart = map[string]web.Text{"1010": words.CodeCustody, "2010": words.CodeWallets, "2020": words.CodeFloats, "2030": words.CodePayables,
	"2040": words.CodeDeposits, "2050": words.CodeClearing, "4010": words.CodeFees, "9020": words.CodePeople, "5010": words.CodeRebates, "5020": words.CodePoints, "9010": words.CodeOutside}

func classOf(code string) web.Text {
	if code == "" {
		return web.Text{}
	}
	return classes[code[0]]
}

func chartName(code string) web.Text {
	if t, ok := chart[code]; ok {
		return t
	}
	return classOf(code)
}

// trial is the chart of accounts with its trial balance, now or at the end of
// a day.
func (p pages) trial(w http.ResponseWriter, r *http.Request) error {
	var t ledger.Trial
	day := r.FormValue("day")
	if day == "" {
		t = p.Book.TrialBalance()
	} else {
		d, err := calendar.Parse(day)
		if err != nil {
			return fmt.Errorf("day of a trial balance: %w", shell.ErrForm)
		}
		if t, err = p.Book.TrialBalanceAt(r.Context(), d); err != nil {
			return err
		}
	}
	v := shell.ListView{Table: trialTable(r.Context(), t), Tabs: bookTabs("/ops/books"), Events: "books",
		Filter: []web.Field{{Name: "day", Label: words.EndOfDay, Type: "date", Value: day}}, Note: words.Balanced, Tone: web.Good}
	if !t.Balanced {
		v.Note, v.Tone = words.Unbalanced, web.Bad
	}
	return p.desk.List(w, r, web.Page{Title: words.Books, Lead: words.BooksLead, Here: "/ops/books"}, v)
}

func trialTable(ctx context.Context, t ledger.Trial) web.Table {
	out := web.Table{ID: "trial", Caption: words.Trial, Empty: words.NoEntries, Head: []web.Column{{Name: words.Code}, {Name: words.Account},
		{Name: words.Class}, {Name: words.Number, Num: true}, {Name: words.Debit, Num: true}, {Name: words.Credit, Num: true}}}
	for _, row := range t.Rows {
		out.Rows = append(out.Rows, web.Row{Href: "/ops/books/accounts?code=" + row.Code, Cells: []web.Cell{
			web.Mono(row.Code), web.Plain(chartName(row.Code).In(ctx)), shell.Short(classOf(row.Code).In(ctx)),
			web.Count(int64(row.Accounts)), total(row.Debit), total(row.Credit)}})
	}
	var currencies []money.Currency
	for _, row := range t.Rows {
		if !slices.Contains(currencies, row.Currency) {
			currencies = append(currencies, row.Currency)
		}
	}
	for _, c := range currencies {
		out.Rows = append(out.Rows, web.Row{Cells: []web.Cell{shell.None(), strongCell(words.Sum.In(ctx) + " " + string(c)), shell.None(), shell.None(),
			strongTotal(t.Debit[c]), strongTotal(t.Credit[c])}})
	}
	return out
}

// total is a cell of an exact total in fen.
func total(t ledger.Total) web.Cell {
	fen, err := strconv.ParseInt(t.String(), 10, 64)
	switch {
	case err != nil: // beyond what one account may hold: the exact fen
		return web.Plain(t.String())
	case fen == 0:
		return web.Cell{Text: "–", CSV: "0.00"}
	}
	return web.Money(fen)
}

func strongTotal(t ledger.Total) web.Cell {
	c := total(t)
	c.Show = shell.Strong(c.Text)
	return c
}

// accounts lists accounts of a part of the chart with their balances.
func (p pages) accounts(w http.ResponseWriter, r *http.Request) error {
	code := strings.TrimSpace(r.FormValue("code"))
	pg := web.PageOf(r, shell.Rows)
	list, err := shell.Gather(pg, func(after string, limit int) ([]ledger.AccountLine, error) {
		return p.Book.Accounts(code, ledger.AccountID(after), limit), nil
	}, accountKey, nil)
	if err != nil {
		return err
	}
	ctx := r.Context()
	t := web.Table{ID: "accounts", Empty: words.NoAccounts, Next: shell.NextOf(r, list, pg, accountKey), Head: []web.Column{{Name: words.Account},
		{Name: words.Code}, {Name: words.Name}, {Name: words.Debit, Num: true}, {Name: words.Credit, Num: true}, {Name: words.Balance, Num: true}}}
	for _, a := range list {
		t.Rows = append(t.Rows, web.Row{Href: accountPath(a.ID), Cells: []web.Cell{shell.Ident(string(a.ID)), web.Mono(a.Code),
			web.Plain(accountName(ctx, a.Account)), total(a.Debit), total(a.Credit), onSide(a.Account, a.Balance.Minor())}})
	}
	v := shell.ListView{Table: t, Tabs: bookTabs("/ops/books/accounts"), Events: "books",
		Filter: []web.Field{{Name: "code", Label: words.Code, Type: "search", Mode: "numeric", Value: code, Max: ledger.MaxKind}}}
	return p.desk.List(w, r, web.Page{Title: words.Accounts, Lead: words.AccountsLead, Here: "/ops/books"}, v)
}

func accountKey(a ledger.AccountLine) string { return string(a.ID) }

// accountName says an account's own name in the chart's words where it has no
// better one.
func accountName(ctx context.Context, a ledger.Account) string {
	if t, ok := chart[a.Code]; ok && web.LangOf(ctx) == web.ZH {
		return t.ZH
	}
	return a.Name
}

// accountPath is the page of an account. Its id stands in the query, which the
// request log leaves out: it may hold a card number.
func accountPath(id ledger.AccountID) string {
	return "/ops/books/account?id=" + query(string(id))
}

// onSide shows a balance as the account's normal side has it: assets and
// expenses are positive in debit.
func onSide(a ledger.Account, fen int64) web.Cell {
	if a.Normal == ledger.Debit {
		fen = -fen
	}
	return web.Money(fen)
}

// An accountView is one account.
type accountView struct {
	facts     []web.Fact
	past      string // answer to the shell.Question about a past time; empty: not asked
	at, by    web.Field
	id        string
	statement web.Table
	holds     web.Table
}

func (p pages) account(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	a, err := p.Book.AccountOf(ledger.AccountID(r.FormValue("id")))
	if err != nil {
		return fmt.Errorf("page of an account: %w", err)
	}
	v := accountView{id: string(a.ID)}
	if v.statement, err = p.statement(r, a); err != nil {
		return err
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.statement)
	}
	if v.facts, err = p.accountFacts(ctx, a); err != nil {
		return err
	}
	if err = p.pastBalance(r, a, &v); err != nil {
		return err
	}
	open, err := p.Book.Holds(a.ID)
	if err != nil {
		return err
	}
	v.holds = holdTable(ctx, open)
	return p.desk.Show(w, r, web.Page{Title: web.Same(shell.Hushed(string(a.ID))), Lead: web.Same(accountName(ctx, a)), Back: "/ops/books/accounts?code=" + query(a.Code), Here: "/ops/books"}, accountPage(v))
}

func (p pages) accountFacts(ctx context.Context, a ledger.Account) ([]web.Fact, error) {
	b, err := p.Book.Balance(a.ID)
	if err != nil {
		return nil, err
	}
	side := words.Credit
	if a.Normal == ledger.Debit {
		side = words.Debit
	}
	facts := []web.Fact{
		{Name: words.Balance, Show: shell.Strong(onSide(a, b.Posted.Minor()).Text)},
		{Name: words.Held, Value: web.Yuan(b.Held.Minor())},
		{Name: words.Available, Value: onSide(a, b.Available.Minor()).Text},
		{Name: words.Code, Value: a.Code + " " + chartName(a.Code).In(ctx), Href: "/ops/books/accounts?code=" + query(a.Code)},
		{Name: words.NormalSide, Show: shell.Phrase(side)},
		{Name: words.Currency, Value: string(a.Currency)},
	}
	if a.Floor != nil {
		facts = append(facts, web.Fact{Name: words.Floor, Value: web.Yuan(*a.Floor)})
	}
	if a.Ceiling != nil {
		facts = append(facts, web.Fact{Name: words.Ceiling, Value: web.Yuan(*a.Ceiling)})
	}
	if a.CreditLimit != 0 {
		facts = append(facts, web.Fact{Name: words.CreditLimit, Value: web.Yuan(a.CreditLimit)})
	}
	if owner := strings.TrimPrefix(string(a.ID), "wallet."); owner != string(a.ID) {
		facts = append(facts, web.Fact{Name: words.Customer, Value: owner, Href: "/ops/customers/" + owner, Mono: true})
	}
	if string(a.ID) == "bank.custody" || strings.HasPrefix(string(a.ID), "bank.") {
		facts = append(facts, web.Fact{Name: words.Bank, Show: web.SimulatedTag()})
	}
	return facts, nil
}

const atFormat = "2006-01-02T15:04"

// pastBalance answers "what did it have then": by value date with what is
// known now, or as the books stood at that moment.
func (p pages) pastBalance(r *http.Request, a ledger.Account, v *accountView) error {
	v.at = web.Field{Name: "at", Label: words.BalanceAt, Type: "datetime-local", Value: r.FormValue("at"), Hint: words.BeijingTime}
	v.by = web.Field{Name: "by", Label: words.CountedBy, Type: "select", Value: r.FormValue("by"),
		Options: []web.Option{{Value: "value", Name: words.ByValue}, {Value: "booked", Name: words.ByBooked}}}
	if v.at.Value == "" {
		return nil
	}
	at, err := time.ParseInLocation(atFormat, v.at.Value, calendar.Beijing)
	if err != nil {
		v.at.Error = words.BadTime
		return nil
	}
	ask := p.Book.BalanceAt
	if v.by.Value == "booked" {
		ask = p.Book.BookedAt
	}
	fen, err := ask(r.Context(), a.ID, at)
	if err != nil {
		return err
	}
	v.past = onSide(a, fen.Minor()).Text
	return nil
}

// statement is an account's lines, newest first, with the balance each left.
func (p pages) statement(r *http.Request, a ledger.Account) (web.Table, error) {
	pg := web.PageOf(r, shell.Rows)
	lines, err := shell.Gather(pg, func(after string, limit int) ([]ledger.Line, error) {
		before := uint64(0)
		if after != "" {
			var err error
			if before, err = strconv.ParseUint(after, 10, 63); err != nil || before == 0 {
				return nil, fmt.Errorf("line number: %w", shell.ErrForm)
			}
			if before == 1 {
				return nil, nil
			}
		}
		return p.Book.Recent(r.Context(), a.ID, before, limit)
	}, lineKey, nil)
	if err != nil {
		return web.Table{}, err
	}
	t := web.Table{ID: "statement", Caption: words.Statement, Empty: words.NoLines, Next: shell.NextOf(r, lines, pg, lineKey), Head: []web.Column{{Name: words.Booked},
		{Name: words.Kind}, {Name: words.Text}, {Name: words.Debit, Num: true}, {Name: words.Credit, Num: true}, {Name: words.Balance, Num: true}}}
	for _, l := range lines {
		debit, credit := sides(l.Amount.Minor())
		t.Rows = append(t.Rows, web.Row{Href: entryPath(l.Seq), Cells: []web.Cell{shell.At(l.Booked), web.Mono(l.Kind),
			web.Plain(shell.Hushed(l.Text)), debit, credit, onSide(a, l.Balance.Minor())}})
	}
	return t, nil
}

func lineKey(l ledger.Line) string { return strconv.FormatUint(l.Nth, 10) }

// sides puts an amount into the column it belongs to.
func sides(fen int64) (debit, credit web.Cell) {
	if fen < 0 {
		return web.Money(-fen), shell.None()
	}
	return shell.None(), web.Money(fen)
}

// holds lists everything that is authorised and not yet captured.
func (p pages) holds(w http.ResponseWriter, r *http.Request) error {
	var open []ledger.Held
	for after := ledger.AccountID(""); ; {
		list := p.Book.Accounts("", after, 1000)
		for _, a := range list {
			held, err := p.Book.Holds(a.ID)
			if err != nil {
				return err
			}
			open = append(open, held...)
		}
		if len(list) < 1000 {
			break
		}
		after = list[len(list)-1].ID
	}
	v := shell.ListView{Table: holdTable(r.Context(), open), Tabs: bookTabs("/ops/books/holds"), Events: "books orders"}
	return p.desk.List(w, r, web.Page{Title: words.Holds, Lead: words.HoldsLead, Here: "/ops/books"}, v)
}

func holdTable(ctx context.Context, open []ledger.Held) web.Table {
	t := web.Table{ID: "holds", Empty: words.NoHolds, Head: []web.Column{{Name: words.Reference}, {Name: words.From}, {Name: words.To},
		{Name: words.Amount, Num: true}, {Name: words.Remaining, Num: true}, {Name: words.Expires, Num: true}}}
	for _, h := range open {
		expires := web.Cell{Text: words.Never.In(ctx)}
		if !h.Expires.IsZero() {
			expires = web.When(h.Expires)
		}
		t.Rows = append(t.Rows, web.Row{Href: "/ops/books/entry?ref=" + query(h.Ref), Cells: []web.Cell{shell.Ident(h.Ref),
			shell.Ident(string(h.From)), shell.Ident(string(h.To)), web.Money(h.Amount.Minor()), web.Money(h.Remaining.Minor()), expires}})
	}
	return t
}
