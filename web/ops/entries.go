package ops

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/settlement"
	"koala/transit"
	"koala/web"
	"koala/web/ops/shell"
)

func query(s string) string { return url.QueryEscape(s) }

// entryPath is the page of a journal record.
func entryPath(seq uint64) string { return "/ops/books/entry?seq=" + strconv.FormatUint(seq, 10) }

// entries searches the journal, newest first.
func (p pages) entries(w http.ResponseWriter, r *http.Request) error {
	s := ledger.Search{Kind: strings.TrimSpace(r.FormValue("kind")), Ref: strings.TrimSpace(r.FormValue("ref")), Text: strings.TrimSpace(r.FormValue("text"))}
	from, to := r.FormValue("from"), r.FormValue("to")
	if from != "" {
		d, err := calendar.Parse(from)
		if err != nil {
			return fmt.Errorf("first day: %w", shell.ErrForm)
		}
		s.From = d.Start(calendar.Beijing)
	}
	if to != "" {
		d, err := calendar.Parse(to)
		if err != nil {
			return fmt.Errorf("last day: %w", shell.ErrForm)
		}
		s.To = d.AddDays(1).Start(calendar.Beijing)
	}
	pg := web.PageOf(r, shell.Rows)
	list, err := p.findEntries(r.Context(), s, pg)
	if err != nil {
		return err
	}
	t := p.entryTable(r.Context(), list)
	t.Next = shell.NextOf(r, list, pg, recordKey)
	v := shell.ListView{Table: t, Tabs: bookTabs("/ops/books/entries"), Events: "books", Filter: []web.Field{
		{Name: "kind", Label: words.Kind, Type: "search", Value: s.Kind, Max: ledger.MaxKind},
		{Name: "ref", Label: words.ReferenceBegins, Type: "search", Value: s.Ref, Max: ledger.MaxRef},
		{Name: "text", Label: words.TextHas, Type: "search", Value: s.Text, Max: ledger.MaxText},
		{Name: "from", Label: words.FirstDay, Type: "date", Value: from},
		{Name: "to", Label: words.LastDay, Type: "date", Value: to},
	}}
	return p.desk.List(w, r, web.Page{Title: words.Entries, Lead: words.EntriesLead, Here: "/ops/books"}, v)
}

func recordKey(rec ledger.Record) string { return strconv.FormatUint(rec.Seq, 10) }

func (p pages) findEntries(ctx context.Context, s ledger.Search, pg web.Paging) ([]ledger.Record, error) {
	return shell.Gather(pg, func(after string, limit int) ([]ledger.Record, error) {
		s.Before, s.Limit = 0, limit
		if after != "" {
			before, err := strconv.ParseUint(after, 10, 63)
			if err != nil || before == 0 {
				return nil, fmt.Errorf("record number: %w", shell.ErrForm)
			}
			s.Before = before
		}
		return p.Book.Entries(ctx, s)
	}, recordKey, nil)
}

func (p pages) entryTable(ctx context.Context, list []ledger.Record) web.Table {
	t := web.Table{ID: "entries", Empty: words.NoEntries, Head: entryHead()}
	for _, rec := range list {
		t.Rows = append(t.Rows, p.entryRow(ctx, rec))
	}
	return t
}

func entryHead() []web.Column {
	return []web.Column{{Name: words.Kind}, {Name: words.From}, {Name: words.To}, {Name: words.Amount, Num: true}, {Name: words.Reference}, {Name: words.Booked, Num: true}}
}

// entryRow is one record in a list: what went from where to where.
func (p pages) entryRow(ctx context.Context, rec ledger.Record) web.Row {
	from, to, fen := flow(rec)
	amount := web.Money(fen)
	if len(rec.Legs) == 0 {
		amount = shell.None()
	}
	kind := rec.Kind
	if rec.Type != "entry" && rec.Type != kind {
		kind = rec.Type + " " + kind
	}
	return web.Row{Href: entryPath(rec.Seq), Cells: []web.Cell{web.Mono(kind), orNone(from), orNone(to), amount, shell.Ident(rec.Ref), web.When(rec.Booked)}}
}

func orNone(id string) web.Cell {
	if id == "" {
		return shell.None()
	}
	return shell.Ident(id)
}

// flow names the first account on each side and sums what moved.
func flow(rec ledger.Record) (from, to string, fen int64) {
	givers, takers := 0, 0
	for _, l := range rec.Legs {
		if l.Amount.Minor() < 0 {
			if givers++; givers == 1 {
				from = string(l.Account)
			}
			continue
		}
		if takers++; takers == 1 {
			to = string(l.Account)
		}
		fen += l.Amount.Minor()
	}
	if givers > 1 {
		from += fmt.Sprintf(" +%d", givers-1)
	}
	if takers > 1 {
		to += fmt.Sprintf(" +%d", takers-1)
	}
	return from, to, fen
}

// An entryView is one record of the journal.
type entryView struct {
	facts []web.Fact
	legs  web.Table
	links []web.Happening
	proof proofView
}

func (p pages) entry(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	rec, err := p.findEntry(r)
	if err != nil {
		return fmt.Errorf("page of an entry: %w", err)
	}
	v := entryView{facts: entryFacts(rec), legs: legTable(rec)}
	if v.links, err = p.relations(ctx, rec); err != nil {
		return err
	}
	if v.proof, err = p.inclusion(ctx, rec); err != nil {
		return err
	}
	title := words.EntryNo.F(int(rec.Seq))
	return p.desk.Show(w, r, web.Page{Title: title, Lead: web.Same(shell.Hushed(rec.Text)), Back: "/ops/books/entries", Here: "/ops/books"}, entryPage(v))
}

// findEntry reads the record by ?seq= or ?ref=.
func (p pages) findEntry(r *http.Request) (ledger.Record, error) {
	if ref := r.FormValue("ref"); ref != "" {
		return p.Book.Entry(r.Context(), ref)
	}
	seq, err := strconv.ParseUint(r.FormValue("seq"), 10, 63)
	if err != nil {
		return ledger.Record{}, fmt.Errorf("record number: %w", ledger.ErrNoEntry)
	}
	return p.Book.EntryAt(r.Context(), seq)
}

func entryFacts(rec ledger.Record) []web.Fact {
	facts := []web.Fact{
		{Name: words.Reference, Value: shell.Hushed(rec.Ref), Mono: true},
		{Name: words.Kind, Value: strings.TrimSpace(rec.Type + " " + strings.TrimPrefix(rec.Kind, rec.Type)), Mono: true},
		{Name: words.Booked, Value: web.Moment(rec.Booked)},
		{Name: words.ValueDate, Value: web.Moment(rec.Value)},
	}
	if rec.Type == "account" {
		facts = append(facts, web.Fact{Name: words.Account, Value: shell.Hushed(rec.Ref), Href: accountPath(ledger.AccountID(rec.Ref)), Mono: true})
	}
	if !rec.Adjusts.IsZero() {
		facts = append(facts, web.Fact{Name: words.Adjusts, Value: web.Moment(rec.Adjusts)})
	}
	if rec.Den != 0 {
		facts = append(facts, web.Fact{Name: words.Rate, Value: fmt.Sprintf("%d/%d", rec.Num, rec.Den)})
	}
	return facts
}

func legTable(rec ledger.Record) web.Table {
	t := web.Table{ID: "legs", Caption: words.Legs, NoCSV: true, Empty: words.NoLegs, Head: []web.Column{{Name: words.Account},
		{Name: words.Code}, {Name: words.Debit, Num: true}, {Name: words.Credit, Num: true}}}
	if rec.Books() {
		t.Head = append(t.Head, web.Column{Name: words.BalanceAfter, Num: true})
	}
	for _, l := range rec.Legs {
		debit, credit := sides(l.Amount.Minor())
		row := web.Row{Href: accountPath(l.Account), Cells: []web.Cell{web.Mono(shell.Hushed(string(l.Account))), web.Mono(l.Code), debit, credit}}
		if rec.Books() {
			a := ledger.Account{Code: l.Code}
			if c, ok := ledger.ClassOf(l.Code); ok {
				a.Normal = c.Normal
			}
			row.Cells = append(row.Cells, onSide(a, l.Balance.Minor()))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// relations links a record with what it belongs to: the act it was posted
// for, the entry it reverses and those that reverse it, the hold it is about.
func (p pages) relations(ctx context.Context, rec ledger.Record) ([]web.Happening, error) {
	var out []web.Happening
	if h, ok, err := p.traceOf(ctx, rec); err != nil {
		return nil, err
	} else if ok {
		out = append(out, h)
	}
	for _, x := range []struct {
		what web.Text
		ref  string
		icon string
	}{{words.Reverses, rec.Original, "history"}, {words.AboutHold, rec.Hold, "lock"}} {
		if x.ref == "" {
			continue
		}
		of, err := p.Book.Entry(ctx, x.ref)
		if errors.Is(err, ledger.ErrNoEntry) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, web.Happening{At: of.Booked, What: x.what, Detail: shell.Hushed(x.ref), Href: entryPath(of.Seq), Icon: x.icon})
	}
	followers, err := p.followers(ctx, rec)
	return append(out, followers...), err
}

// followers finds the reversals of an entry and the acts on a hold among the
// records after it. The journal is asked a bounded part of them.
func (p pages) followers(ctx context.Context, rec ledger.Record) ([]web.Happening, error) {
	const most = 2_000
	if rec.Type != "hold" && !rec.Books() {
		return nil, nil
	}
	var out []web.Happening
	next, err := p.Book.After(ctx, rec.Seq, most)
	if err != nil {
		return nil, err
	}
	for _, f := range next {
		switch {
		case f.Original == rec.Ref && f.Original != "":
			out = append(out, web.Happening{At: f.Booked, What: words.ReversedBy, Detail: shell.Hushed(f.Ref), Href: entryPath(f.Seq), Icon: "history", Tone: web.Warn})
		case f.Hold == rec.Ref && f.Hold != "":
			out = append(out, web.Happening{At: f.Booked, What: words.HoldAct.F(f.Type), Detail: shell.Hushed(f.Ref), Href: entryPath(f.Seq), Icon: "lock-open"})
		}
	}
	return out, nil
}

// traceOf leads from a posting to the act it was made for, by its reference.
func (p pages) traceOf(ctx context.Context, rec ledger.Record) (h web.Happening, ok bool, err error) {
	kind, rest, _ := strings.Cut(rec.Ref, ":")
	h = web.Happening{At: rec.Booked, What: words.Trace, Icon: "eye", Tone: web.Info}
	switch kind {
	case "load", "loaded", "end":
		h.Href, h.Detail = "/ops/orders/"+rest, rest
		if strings.HasPrefix(rest, "ld_") { // of an e-cash card
			h.Href = "/ops/ecash/loads/" + rest
		}
	case "topup", "void":
		h.Href, h.Detail = "/ops/orders/"+rest, rest
	case "tc", "pay", "auth":
		h.Href, err = p.pathOfRecord(ctx, rest)
	case "claim":
		h.Href, err = p.pathOfLoss(ctx, issuing.CardID(rest))
	case "deposit", "deposit-back", "refund":
		h.Href, err = p.pathOfCard(ctx, issuing.CardID(rest))
		h.Detail = shell.Hushed(rest)
	case "payout":
		day, _, _ := strings.Cut(rest, ":")
		h.Href, h.Detail = "/ops/settlement/days/"+day, day
	case "transit":
		h.Href, h.Detail, err = p.pathOfRide(ctx, rest)
	}
	return h, h.Href != "", err
}

// pathOfCard is the page of a card by its number; empty when there is none.
func (p pages) pathOfCard(ctx context.Context, n issuing.CardID) (path string, err error) {
	err = p.Store.Read(ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, n)
		path = cardPath(string(c.Customer), n)
		return err
	})
	if errors.Is(err, issuing.ErrNotFound) {
		return "", nil
	}
	return path, err
}

// A verdict is what a check of everything found: the books by themselves and
// against their views, every payout against its captures, every debit against
// the shares of its operators.
type verdict struct {
	asked    bool
	report   ledger.Report
	problems []web.Line
}

// A proofPage is how the books stand and what was checked.
type proofPageView struct {
	tabs    []shell.Tab
	facts   []web.Fact
	trouble string
	verdict verdict
	day     calendar.Date // the newest day that can be sealed
}

// proof shows the state of the journal, and with ?run=now checks everything.
// It reads only, so auditors may ask for it too.
func (p pages) proof(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := proofPageView{tabs: bookTabs("/ops/books/proof"), day: yesterday(p.Store.Now())}
	if r.FormValue("run") != "" {
		var err error
		if v.verdict, err = p.check(ctx); err != nil {
			return err
		}
	}
	seq, hash := p.Book.Tip()
	v.facts = []web.Fact{
		{Name: words.Records, Value: web.Number(int64(seq))},
		{Name: words.ChainHash, Value: hex.EncodeToString(hash[:]), Mono: true},
		{Name: words.Lag, Value: web.Number(int64(p.Book.Lag()))},
		{Name: words.StoredAt, Show: shell.Phrase(p.storeKind())},
	}
	if t := p.Book.ClosedThrough(); !t.IsZero() {
		v.facts = append(v.facts, web.Fact{Name: words.ClosedThrough, Value: web.Moment(t)})
	}
	if err := p.Book.Trouble(); err != nil {
		v.trouble = words.ViewsStuck.In(ctx)
	}
	return p.desk.Show(w, r, web.Page{Title: words.Proof, Lead: words.ProofLead, Here: "/ops/books"}, proofPage(v))
}

func (p pages) storeKind() web.Text {
	if p.Store.Embedded() {
		return words.StoreFile
	}
	return words.StoreServer
}

// yesterday is the newest booking day that is over.
func yesterday(now time.Time) calendar.Date {
	return calendar.Of(now, calendar.Beijing).AddDays(-1)
}

func (p pages) check(ctx context.Context) (v verdict, err error) {
	v.asked = true
	if v.report, err = p.Book.Verify(ctx); err != nil {
		return v, err
	}
	for _, x := range v.report.Problems {
		v.problems = append(v.problems, web.Line{Text: web.Same(shell.Hushed(x.Where)), Value: shell.Hushed(x.What)})
	}
	err = p.Store.Read(ctx, func(q *db.Query) error {
		payouts, err := settlement.Check(q)
		if err != nil {
			return err
		}
		shares, err := transit.Check(q)
		if err != nil {
			return err
		}
		for _, s := range payouts {
			v.problems = append(v.problems, web.Line{Text: words.Settlement, Value: shell.Hushed(s)})
		}
		for _, s := range shares {
			v.problems = append(v.problems, web.Line{Text: words.Clearing, Value: shell.Hushed(s)})
		}
		return nil
	})
	return v, err
}

// seal fixes a day under the house's signature.
func (p pages) seal(w http.ResponseWriter, r *http.Request) error {
	const back = "/ops/books/proof"
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	day, err := calendar.Parse(r.PostFormValue("day"))
	if err != nil {
		return fmt.Errorf("day to seal: %w", shell.ErrForm)
	}
	ctx := r.Context()
	s, err := p.Book.SealDay(ctx, day, func(message []byte) ([]byte, error) { return p.Keys.Sign(ctx, p.SealKey, message) })
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	err = p.Store.Write(ctx, func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActSeal, Target: back, What: s.Day.String() + " " + hex.EncodeToString(s.Root[:8]), Why: reason})
	})
	if err != nil {
		return err
	}
	return shell.Done(w, r, back, words.DidSeal.F(s.Day.String()))
}

// A proofView is how one record hangs in its sealed day.
type proofView struct {
	sealed bool
	ok     bool
	facts  []web.Fact
	path   string // the hashes from the record to the root
}

// inclusion proves a record and checks its own proof. A day that is not
// sealed yet has none.
func (p pages) inclusion(ctx context.Context, rec ledger.Record) (proofView, error) {
	if rec.Ref == "" {
		return proofView{}, nil
	}
	proof, err := p.Book.Prove(ctx, rec.Ref)
	if errors.Is(err, ledger.ErrSeal) && proof.Seal.Day.IsZero() {
		return proofView{}, nil
	}
	if err != nil {
		return proofView{}, err
	}
	v := proofView{sealed: true}
	v.ok = proof.Check(func(message, signature []byte) error { return p.Keys.Verify(ctx, p.SealKey, message, signature) }) == nil
	short := func(h [32]byte) string { return hex.EncodeToString(h[:]) }
	v.facts = []web.Fact{
		{Name: words.SealedDay, Value: proof.Seal.Day.String()},
		{Name: words.Batch, Value: words.BatchOf.In(ctx, proof.BatchN, int(proof.BatchSeq))},
		{Name: words.BatchHash, Value: short(proof.Batch), Mono: true},
		{Name: words.DayRoot, Value: short(proof.Seal.Root), Mono: true},
		{Name: words.Signature, Value: hex.EncodeToString(proof.Seal.Signature[:min(16, len(proof.Seal.Signature))]) + "…", Mono: true},
	}
	var b strings.Builder
	fmt.Fprintf(&b, "record %d  %d bytes\n", proof.Seq, len(proof.Record))
	for _, s := range proof.InBatch {
		fmt.Fprintf(&b, "%s %s\n", sideOf(s.Left), short(s.Hash))
	}
	fmt.Fprintf(&b, "batch  %s\n", short(proof.Batch))
	for _, s := range proof.InDay {
		fmt.Fprintf(&b, "%s %s\n", sideOf(s.Left), short(s.Hash))
	}
	fmt.Fprintf(&b, "root   %s", short(proof.Seal.Root))
	v.path = b.String()
	return v, nil
}

func sideOf(left bool) string {
	if left {
		return "left  "
	}
	return "right "
}
