package merchant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/settlement"
)

// MaxBulk is how many merchants one call of Bulk takes: its unit holds the
// writer up for a fraction of a second. About 500 is cheapest on SQLite.
const MaxBulk = 2_000

// An Import is a merchant that comes with a register: one shop, one terminal.
type Import struct {
	Application
	Serial string // of the device that stands there
	Kind   Kind
}

// An Imported is what became of one line of a register. Err is set when the
// line could not be kept at all, Failed when a check stands open: the merchant
// is Checking then and has neither number nor terminal.
type Imported struct {
	Merchant, Shop, MID, TID string
	Failed                   []Check
	Err                      error
}

// entry is an import on its way into the store.
type entry struct {
	drawn
	line   int // in the register, from 1
	serial string
	kind   Kind
	m      Merchant
	s      Shop
	tid    string
	known  known
	checks []Check
	failed []Check
	out    *Imported
}

// Bulk takes up to MaxBulk merchants of a register in one unit of work, with
// the checks of Apply. by signs that the papers were looked at, why names the
// register. Lines whose checks all pass are approved at once, with merchant
// number, account and a terminal not yet injected. Answers are in the order of
// the lines.
func (d *Desk) Bulk(ctx context.Context, by, why string, list []Import) ([]Imported, error) {
	if by == "" || why == "" || len(why) > MaxWhy || len(list) > MaxBulk {
		return nil, fmt.Errorf("register of %d lines: %w", len(list), ErrStaff)
	}
	out := make([]Imported, len(list))
	entries := make([]*entry, 0, len(list))
	for i, in := range list {
		if err := in.shape(); err != nil {
			out[i].Err = fmt.Errorf("line %d: %w", i+1, err)
			continue
		}
		if _, ok := kindWords[in.Kind]; !ok || !plainNumber(in.Serial, 32, true) {
			out[i].Err = fmt.Errorf("line %d: %w", i+1, ErrTerminal)
			continue
		}
		x, err := d.draw(ctx, in.Application)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		entries = append(entries, &entry{drawn: x, line: i + 1, serial: in.Serial, kind: in.Kind, m: x.merchant(), out: &out[i]})
	}
	err := d.Store.Write(ctx, func(tx *db.Tx) error { return bulk(tx, by, why, entries) })
	if err != nil {
		return nil, fmt.Errorf("register %q: %w", why, err)
	}
	return out, nil
}

// bulk is the unit: look everything up, decide, number, write.
func bulk(tx *db.Tx, by, why string, entries []*entry) error {
	if len(entries) == 0 {
		return nil
	}
	entries, err := lookUp(tx, entries)
	if err != nil {
		return err
	}
	var passed []*entry
	for _, e := range entries {
		e.m.ID, e.m.Made, e.m.Changed, e.m.State = tx.NewID("merchant"), tx.Now(), tx.Now(), Checking
		e.s = e.Shop
		e.s.ID, e.s.Merchant, e.s.MID, e.s.State, e.s.Made = tx.NewID("shop"), e.m.ID, "", Applied, tx.Now()
		e.failed, e.tid = nil, ""
		e.checks = append(e.examine(e.known, tx.Now()), Check{What: CheckSeen, Result: Pass})
		for _, c := range e.checks {
			if c.Result != Pass {
				e.failed = append(e.failed, c)
			}
		}
		if e.failed == nil {
			e.m.State, e.s.State = Approved, Approved
			passed = append(passed, e)
		}
	}
	if err := number(tx, passed); err != nil {
		return err
	}
	if err := writeRows(tx, by, why, entries); err != nil {
		return err
	}
	payees := make([]settlement.Opening, len(passed))
	terms := map[string][]settlement.Terms{} // by category
	for i, e := range passed {
		if terms[e.s.MCC] == nil {
			terms[e.s.MCC] = termsOf(e.s, calendar.Of(tx.Now(), calendar.Beijing))
		}
		payees[i] = e.m.opening(e.s, e.sealed, terms[e.s.MCC])
	}
	if err := settlement.OpenAll(tx, payees); err != nil {
		return err
	}
	for _, e := range entries {
		*e.out = Imported{Merchant: e.m.ID, Shop: e.s.ID, MID: e.s.MID, TID: e.tid, Failed: e.failed}
	}
	return outbox.Put(tx, outbox.Event{Name: "merchant.imported", Subject: why, Data: map[string]any{"by": by, "lines": len(entries), "approved": len(passed)}})
}

// lookUp finds what the checks must know of the store and of the lines before:
// other merchants under the same ident or account, and the deny list. Lines
// with an agent or device that cannot be are answered and go.
func lookUp(tx *db.Tx, entries []*entry) ([]*entry, error) {
	deny, err := denyList(tx)
	if err != nil {
		return nil, err
	}
	denied := func(name string) (string, bool) { why, bad := deny[name]; return why, bad }
	idents, err := whoHas(tx, "ident", entries, func(e *entry) string { return e.m.ident })
	if err != nil {
		return nil, err
	}
	accounts, err := whoHas(tx, "account", entries, func(e *entry) string { return e.m.token })
	if err != nil {
		return nil, err
	}
	serials, err := usedSerials(tx, entries)
	if err != nil {
		return nil, err
	}
	agents := map[string]error{"": nil}
	kept := entries[:0:0]
	for _, e := range entries {
		agent, asked := agents[e.Agent]
		if !asked {
			agent = mayBring(tx, e.Agent)
			agents[e.Agent] = agent
		}
		line := fmt.Sprintf("line %d of the register", e.line)
		switch shop, used := serials[e.serial]; {
		case agent != nil:
			e.out.Err = agent
			continue
		case used:
			e.out.Err = fmt.Errorf("serial %s is in use in %s: %w", e.serial, shop, ErrBound)
			continue
		}
		serials[e.serial] = line
		e.known = known{denied: denied}
		if o, ok := idents[e.m.ident]; ok {
			e.known.again = o.who
		} else {
			idents[e.m.ident] = owner{line + " " + e.Name, e.Holder}
		}
		if o, ok := accounts[e.m.token]; ok && o.holder != e.Holder {
			e.known.account = o.who
		} else if !ok {
			accounts[e.m.token] = owner{line + " " + e.Name, e.Holder}
		}
		kept = append(kept, e)
	}
	return kept, nil
}

type owner struct{ who, holder string }

// whoHas finds merchants of the store by one of the columns that duplicates are
// found by.
func whoHas(tx *db.Tx, column string, entries []*entry, value func(*entry) string) (map[string]owner, error) {
	out := map[string]owner{}
	return out, inGroups(entries, value, func(marks string, args []any) error {
		return db.Each(tx, func(scan func(...any) error) error {
			var v, id, name, holder string
			err := scan(&v, &id, &name, &holder)
			if _, first := out[v]; !first {
				out[v] = owner{id + " " + name, holder}
			}
			return err
		}, `SELECT `+column+`, id, name, holder FROM merchant_party WHERE `+column+` IN (`+marks+`) AND state NOT IN ('refused', 'closed') ORDER BY id`, args...)
	})
}

func usedSerials(tx *db.Tx, entries []*entry) (map[string]string, error) {
	out := map[string]string{}
	return out, inGroups(entries, func(e *entry) string { return e.serial }, func(marks string, args []any) error {
		return db.Each(tx, func(scan func(...any) error) error {
			var serial, shop string
			err := scan(&serial, &shop)
			out[serial] = shop
			return err
		}, `SELECT serial, shop FROM merchant_terminal WHERE serial IN (`+marks+`) AND life <> 'retired' ORDER BY serial`, args...)
	})
}

// groupSize is how many values one statement looks for.
const groupSize = 50

// groupMarks are the places of one group's values; a short group is filled up
// with its last.
var groupMarks = func() string {
	var b strings.Builder
	for i := range groupSize {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String()
}()

func inGroups(entries []*entry, value func(*entry) string, ask func(marks string, args []any) error) error {
	for from := 0; from < len(entries); from += groupSize {
		args := make([]any, groupSize)
		for i := range args {
			args[i] = value(entries[min(from+i, len(entries)-1)])
		}
		if err := ask(groupMarks, args); err != nil {
			return err
		}
	}
	return nil
}

func denyList(q db.Reader) (map[string]string, error) {
	out := map[string]string{}
	return out, db.Each(q, func(scan func(...any) error) error {
		var name, why string
		err := scan(&name, &why)
		out[name] = why
		return err
	}, `SELECT name, why FROM merchant_deny ORDER BY name`)
}

// number gives merchant and terminal numbers in rows: one reservation for the
// terminals, one for each region and category.
func number(tx *db.Tx, passed []*entry) error {
	if len(passed) == 0 {
		return nil
	}
	tids, err := reserve(tx, "tid", len(passed), "SELECT COUNT(*) FROM merchant_terminal WHERE tid BETWEEN $1 AND $2", tidOf)
	if err != nil {
		return err
	}
	rows, order := map[string][]*entry{}, []string{}
	for i, e := range passed {
		e.tid = tids[i]
		row := e.s.City[:4] + e.s.MCC
		if rows[row] == nil {
			order = append(order, row)
		}
		rows[row] = append(rows[row], e)
	}
	for _, row := range order {
		mids, err := reserve(tx, "mid:"+row, len(rows[row]), "SELECT COUNT(*) FROM merchant_shop WHERE mid BETWEEN $1 AND $2 AND mid <> ''",
			func(n int64) (string, error) { return midOf(row[:4], row[4:], n) })
		if err != nil {
			return err
		}
		for i, e := range rows[row] {
			e.s.MID = mids[i]
		}
	}
	return nil
}

// reserve takes n numbers in a row of which none is in use.
func reserve(tx *db.Tx, row string, n int, used string, write func(int64) (string, error)) ([]string, error) {
	out := make([]string, n)
	for {
		first, err := takeNumbers(tx, row, int64(n))
		if err != nil {
			return nil, err
		}
		for i := range out {
			if out[i], err = write(first + int64(i)); err != nil {
				return nil, err
			}
		}
		if taken, err := exists(tx, used, out[0], out[n-1]); err != nil || !taken {
			return out, err
		}
	}
}

// writeRows writes the lines, table by table.
func writeRows(tx *db.Tx, by, why string, entries []*entry) error {
	var parties, shops, terminals, events, checks, docs [][]any
	type key struct {
		city  string
		state State
	}
	counts := map[key]int64{}
	var order []key
	for _, e := range entries {
		parties = append(parties, e.m.row(e.sealed))
		shops = append(shops, e.s.row())
		if e.tid != "" {
			terminals = append(terminals, Terminal{TID: e.tid, Serial: e.serial, Kind: e.kind, Shop: e.s.ID, Life: Registered, Made: tx.Now()}.row())
		}
		k := key{e.m.City, e.m.State}
		if counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
		ev := Event{Seq: tx.NewSeq(), Merchant: e.m.ID, About: e.s.ID, What: "imported", To: string(e.m.State), By: by, Why: why, At: tx.Now()}
		events = append(events, ev.row())
		checks = append(checks, checkRow(tx, e.m.ID, by, e.checks))
		if len(e.Documents) > 0 {
			docs = append(docs, docRow(tx, e.m.ID, by, e.Documents))
		}
	}
	for _, k := range order {
		if err := count(tx, k.city, k.state, counts[k]); err != nil {
			return err
		}
	}
	for _, w := range []struct {
		sheet sheet
		rows  [][]any
	}{{partySheet, parties}, {shopSheet, shops}, {termSheet, terminals}, {eventSheet, events}, {checkSheet, checks}, {docSheet, docs}} {
		if err := w.sheet.insert(tx, w.rows...); err != nil {
			return err
		}
	}
	return nil
}

// MaxAdopted is how many bytes a name of an adopted shop has at most.
const MaxAdopted = 80

// Adopt takes in a shop that the house has kept without papers, with the id
// that its money waits under: it becomes the only shop of a merchant of its own
// whose checks all stand open. It gets the given merchant number, or the next
// one. The same again changes nothing; other content under its id is
// ErrDiffers. It is paid at the times it was, and has the fee category of its
// trade.
func Adopt(tx *db.Tx, s Shop, by, why string) (Shop, error) {
	bad := func(err error) (Shop, error) { return Shop{}, fmt.Errorf("adopting shop %q: %w", s.ID, err) }
	switch {
	case by == "" || why == "" || len(why) > MaxWhy:
		return bad(ErrStaff)
	case s.NameEN == "" || s.NameZH == "" || len(s.NameEN) > MaxAdopted || len(s.NameZH) > MaxAdopted:
		return bad(ErrName)
	case categoryOf[s.MCC].MCC == "":
		return bad(ErrCategory)
	case cityOf[s.City].Code == "":
		return bad(ErrCity)
	}
	known, err := ShopOf(tx, s.ID)
	if err == nil {
		if known.NameEN != s.NameEN || known.NameZH != s.NameZH || known.MCC != s.MCC || known.City != s.City || s.MID != "" && known.MID != s.MID {
			return bad(ErrDiffers)
		}
		return known, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return bad(err)
	}
	if s.MID, err = givenMID(tx, s); err != nil {
		return bad(err)
	}
	m := Merchant{ID: tx.NewID("merchant"), Form: Adopted, Name: s.NameZH, City: s.City, State: Approved, Risk: RiskB, Made: tx.Now(), Changed: tx.Now(),
		ident: "adopted:" + s.ID, token: "adopted:" + s.ID}
	s.Merchant, s.State, s.Made = m.ID, Approved, tx.Now()
	if err := partySheet.insert(tx, m.row([]byte{})); err != nil {
		return bad(err)
	}
	if err := shopSheet.insert(tx, s.row()); err != nil {
		return bad(err)
	}
	if err := count(tx, m.City, m.State, 1); err != nil {
		return bad(err)
	}
	if err := tell(tx, Event{Merchant: m.ID, About: s.ID, What: "adopted", To: string(m.State), By: by, Why: why}); err != nil {
		return bad(err)
	}
	if err := adoptedPayee(tx, s); err != nil {
		return bad(err)
	}
	return s, nil
}

// givenMID is the number a shop brings, if it can be, or the next one.
func givenMID(tx *db.Tx, s Shop) (string, error) {
	if s.MID == "" {
		return newMID(tx, s.City, s.MCC)
	}
	if _, err := ParseMID(s.MID); err != nil {
		return "", err
	}
	taken, err := exists(tx, `SELECT COUNT(*) FROM merchant_shop WHERE mid = $1 AND mid <> ''`, s.MID)
	if err == nil && taken {
		err = ErrDiffers
	}
	return s.MID, err
}

// adoptedPayee makes the shop a payee that is paid as one without terms; days
// that were closed stay as they are.
func adoptedPayee(tx *db.Tx, s Shop) error {
	since := calendar.Of(tx.Now(), calendar.Beijing)
	closed, err := settlement.Closings(tx, s.ID, "", 1)
	if err != nil {
		return err
	}
	if len(closed) > 0 {
		since = since.AddDays(1)
	}
	terms := termsOf(s, since)
	for i := range terms {
		terms[i].CutOff, terms[i].Holidays = 24*time.Hour+settlement.CutOff, true
	}
	return settlement.OpenAll(tx, []settlement.Opening{{Payee: s.ID, Name: s.NameEN, Terms: terms}})
}

// AdoptTerminal takes in a terminal of an adopted shop in the life it is in;
// what it was before is not told.
func AdoptTerminal(tx *db.Tx, t Terminal, by, why string) error {
	life := t.Life
	if _, err := AddTerminal(tx, t); err != nil {
		return err
	}
	way := map[Life][]Life{Injected: {Injected}, InUse: {Injected, InUse}, Stopped: {Injected, InUse, Stopped}, Retired: {Retired}}
	for _, l := range way[life] {
		if err := Live(tx, t.TID, l, by, why); err != nil {
			return err
		}
	}
	return nil
}
