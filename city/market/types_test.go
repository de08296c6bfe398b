package market_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"koala/calendar"
	"koala/city/foreign"
	"koala/city/market"
	"koala/internal/db"
	"koala/issuing/bin"
	"koala/ledger"
	"koala/reconcile"
	"koala/settlement"
	"koala/spec/clearing"
	"koala/spec/pan"
	"koala/switching"
	"koala/terminal/unionpay"
)

// A bend is one thing that is wrong with a day's paper, and how it ends.
type bend struct {
	file func(w *evening, in []clearing.Record) []clearing.Record                 // of the first host
	next func(w *evening, in []clearing.Record) []clearing.Record                 // its file of the day after
	bank func(w *evening, in []reconcile.StatementLine) []reconcile.StatementLine // the first statement
	wait int                                                                      // days until it is overdue
	end  func(w *evening, x reconcile.Exception)
}

// bends are the sixteen types.
var bends = map[reconcile.Type]bend{
	reconcile.MissingAtNetwork: {file: without, next: func(w *evening, in []clearing.Record) []clearing.Record { return append(in, w.line) }, end: (*evening).tomorrow},
	reconcile.MissingHere: {file: func(w *evening, in []clearing.Record) []clearing.Record {
		r := w.line
		r.RRN, r.Trace = "999999999999", "999999"
		return append(in, r)
	}, end: (*evening).corrected},
	reconcile.AmountDiffers: {file: edited(func(r *clearing.Record) { r.Amount += 7_00 }), end: (*evening).corrected},
	reconcile.FeeDiffers:    {file: edited(func(r *clearing.Record) { r.Payable += 11 }), end: (*evening).lost},
	reconcile.DuplicateInFile: {file: func(w *evening, in []clearing.Record) []clearing.Record { return append(in, w.line) },
		end: (*evening).corrected},
	reconcile.Late: {file: func(w *evening, in []clearing.Record) []clearing.Record { w.rrn = w.late; return without(w, in) },
		next: func(w *evening, in []clearing.Record) []clearing.Record { return append(in, w.line) }, end: (*evening).tomorrow},
	reconcile.ReversedCleared: {file: func(w *evening, in []clearing.Record) []clearing.Record {
		return slices.DeleteFunc(in, func(r clearing.Record) bool { return r.RRN == w.undone && r.Kind() == clearing.Reversal })
	}, end: (*evening).corrected},
	reconcile.DeclinedCleared: {file: func(w *evening, in []clearing.Record) []clearing.Record {
		r := w.line
		r.RRN, r.Trace, r.PAN = w.refused.RRN, fmt.Sprintf("%06d", w.refused.STAN), pan.PAN(w.m.Institutions()[w.host].Cards[2].Number)
		r.Amount = w.refused.Amount.Minor()
		return append(in, r)
	}, end: (*evening).corrected},
	reconcile.CurrencyDiffers: {file: edited(func(r *clearing.Record) { r.SetCurrency("344") }), end: (*evening).corrected},
	reconcile.ClassDiffers: {file: edited(func(r *clearing.Record) { // it took the card for one of another kind, with its fee
		r.PAN = creditCard()
		r.Payable += 9
	}), end: (*evening).lost},
	reconcile.StatementShort: {bank: paid("clearing", -10), end: func(w *evening, x reconcile.Exception) {
		w.statement(reconcile.StatementLine{Fen: 10, Reference: "clearing " + w.name() + " " + w.day.String()})
	}},
	reconcile.StatementMissing: {bank: unpaid("clearing"), wait: 2, end: (*evening).atLast},
	reconcile.UnknownCredit: {bank: func(w *evening, in []reconcile.StatementLine) []reconcile.StatementLine {
		return append(in, reconcile.StatementLine{Fen: 1234_00, Reference: "somebody's rent"})
	}, end: (*evening).corrected},
	reconcile.PayoutReturned: {bank: func(w *evening, in []reconcile.StatementLine) []reconcile.StatementLine {
		p := in[w.of("payout", in)]
		p.Fen, p.Reference = -p.Fen, "return "+p.Reference[len("payout "):]
		return append(in, p)
	}, end: (*evening).closed},
	reconcile.PayoutMissing: {bank: unpaid("payout"), wait: 3, end: (*evening).atLast},
	reconcile.PayoutDiffers: {bank: paid("payout", -10), end: (*evening).corrected},
}

// edited changes the record of the sale that the row is about.
func edited(f func(*clearing.Record)) func(*evening, []clearing.Record) []clearing.Record {
	return func(w *evening, in []clearing.Record) []clearing.Record {
		f(&in[w.at(in)])
		return in
	}
}

// creditCard is a number of the published credit ranges.
func creditCard() pan.PAN {
	for _, b := range bin.All() {
		if b.Type == "CC" && b.Length == 16 && len(b.Prefix) == 6 {
			if p, err := pan.Complete(b.Prefix + "100000012"); err == nil {
				return p
			}
		}
	}
	panic("no credit range")
}

func without(w *evening, in []clearing.Record) []clearing.Record {
	n := w.at(in)
	w.line = in[n]
	return slices.Delete(in, n, n+1)
}

// paid has the first line for something differ by fen.
func paid(what string, fen int64) func(*evening, []reconcile.StatementLine) []reconcile.StatementLine {
	return func(w *evening, in []reconcile.StatementLine) []reconcile.StatementLine {
		in[w.of(what, in)].Fen += fen
		return in
	}
}

// unpaid leaves it out until atLast.
func unpaid(what string) func(*evening, []reconcile.StatementLine) []reconcile.StatementLine {
	return func(w *evening, in []reconcile.StatementLine) []reconcile.StatementLine {
		n := w.of(what, in)
		w.held = in[n]
		return slices.Delete(in, n, n+1)
	}
}

// An evening is a day of the market whose paper is still to come.
type evening struct {
	*town
	host    int // the first institution by name
	day     calendar.Date
	rrn     string // of the sale that is bent
	late    string // of one just before the cut-off
	undone  string // of one that was reversed
	refused switching.Txn
	line    clearing.Record // of rrn, as the host wrote it
	held    reconcile.StatementLine
	next    func(*evening, []clearing.Record) []clearing.Record
	seq     int
}

func (w *evening) name() string { return w.m.Institutions()[w.host].Name }

// sells makes a day: sales with cards of every institution, one that the host
// books without answering and that is taken back, one that it refuses.
func sells(t *testing.T) *evening {
	t.Helper()
	fault := foreign.None
	w := &evening{town: open(t, market.Faults{Host: func() foreign.Fault { f := fault; fault = foreign.None; return f }})}
	w.day = calendar.Of(w.now.Now(), calendar.Beijing)
	order := func(i, n int, fen uint64) market.Order {
		c := w.m.Institutions()[i].Cards[n]
		return market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN}
	}
	w.rrn = w.do("jialian.1", order(0, 0, 123_45)).Get(37)
	w.do("jialian.2", order(1, 0, 80_00))
	w.do("hubin.1", order(2, 0, 300_00))
	fault = foreign.Silent
	if _, err := w.m.Do(ctx, "jialian.1", order(0, 1, 99_00)); err != nil {
		t.Fatal(err)
	}
	wrong := order(0, 2, 77_00)
	wrong.PIN = "000000"
	if out, err := w.m.Do(ctx, "jialian.1", wrong); err != nil || out.Approved {
		t.Fatalf("the wrong PIN: %v %v", out.Words, err)
	}
	w.now.Set(w.day.Start(calendar.Beijing).Add(22*time.Hour + 49*time.Minute))
	w.late = w.do("jialian.1", order(0, 3, 66_00)).Get(37)
	w.settle()
	w.at5()
	err := w.h.Store.Read(ctx, func(q *db.Query) error {
		list, err := switching.Live(q, switching.Filter{Limit: 100})
		for _, x := range list {
			switch {
			case x.State == switching.Declined:
				w.refused = x
			case x.State == switching.Unknown: // taken back by the switch
				w.undone = x.RRN
			}
		}
		return err
	})
	if err != nil || w.undone == "" || w.refused.RRN == "" {
		t.Fatalf("the day lacks something: %v, %q, %q", err, w.undone, w.refused.RRN)
	}
	return w
}

// at5 lets the night pass until five in the morning.
func (w *evening) at5() {
	w.Helper()
	w.now.Set(calendar.Of(w.now.Now(), calendar.Beijing).AddDays(1).Start(calendar.Beijing).Add(5 * time.Hour))
	w.tick()
}

func (w *evening) tick() {
	w.Helper()
	if err := w.h.Tick(ctx); err != nil {
		w.Fatal(err)
	}
}

// at finds the sale that the row is about.
func (w *evening) at(in []clearing.Record) int {
	w.Helper()
	n := slices.IndexFunc(in, func(r clearing.Record) bool { return r.RRN == w.rrn && r.Kind() == clearing.Sale })
	if n < 0 {
		w.Fatalf("the file has no line of %s", w.rrn)
	}
	return n
}

// of finds the bank's first line for something.
func (w *evening) of(what string, in []reconcile.StatementLine) int {
	w.Helper()
	if what == "clearing" {
		what += " " + w.name()
	}
	n := slices.IndexFunc(in, func(l reconcile.StatementLine) bool {
		return len(l.Reference) > len(what) && l.Reference[:len(what)] == what
	})
	if n < 0 {
		w.Fatalf("the statement has no line for %s", what)
	}
	return n
}

// paper writes what every host says of a day, the first one's bent, and what the
// bank says of it, into the folder that the house looks into.
func (w *evening) paper(day calendar.Date, file func(*evening, []clearing.Record) []clearing.Record, bank func(*evening, []reconcile.StatementLine) []reconcile.StatementLine) {
	w.Helper()
	var lines []reconcile.StatementLine
	for i, host := range w.m.Institutions() {
		raw, err := w.m.FileOf(host.Name, day)
		if err != nil {
			w.Fatal(err)
		}
		records := w.records(raw)
		if n := slices.IndexFunc(records, func(r clearing.Record) bool { return r.RRN == w.rrn }); i == w.host && n >= 0 {
			w.line = records[n]
		}
		if i == w.host && file != nil {
			records = file(w, records)
		}
		var net int64
		for _, r := range records {
			if r.Currency() == "" { // other money is paid elsewhere
				net += r.Fen() - r.Fee()
			}
		}
		w.put(host.Name+"-"+day.String()+".clr", w.written(records))
		if net != 0 {
			lines = append(lines, reconcile.StatementLine{Fen: net, Reference: "clearing " + host.Name + " " + day.String()})
		}
	}
	err := w.h.Store.Read(ctx, func(q *db.Query) error {
		list, err := settlement.Payouts(q, "", "", 100)
		for _, p := range list {
			if p.State == settlement.Sent && day == w.day {
				lines = append(lines, reconcile.StatementLine{Fen: -p.Amount.Minor(), Reference: "payout " + p.ID})
			}
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	if bank != nil {
		lines = bank(w, lines)
	}
	w.statement(lines...)
}

func (w *evening) records(raw []byte) (out []clearing.Record) {
	w.Helper()
	for line := range bytes.Lines(raw) {
		r, err := clearing.Parse(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			w.Fatal(err)
		}
		out = append(out, r)
	}
	if !bytes.Equal(w.written(out), raw) {
		w.Error("the host's file reads and writes as another")
	}
	return out
}

func (w *evening) written(records []clearing.Record) (out []byte) {
	w.Helper()
	for _, r := range records {
		var err error
		if out, err = r.Append(out); err != nil {
			w.Fatal(err)
		}
		out = append(out, '\n')
	}
	return out
}

// statement has the bank write lines, with the total and the hash that belong to
// them, and the house take all that lies there.
func (w *evening) statement(lines ...reconcile.StatementLine) {
	w.Helper()
	now := w.now.Now()
	for i := range lines {
		w.seq++
		lines[i].Ref, lines[i].Booked, lines[i].Party = fmt.Sprintf("B%04d", w.seq), now, "bank"
	}
	w.put(fmt.Sprintf("statement-%04d.csv", w.seq), reconcile.AppendStatement(nil, reconcile.Statement{Account: "custody", From: w.day, To: calendar.Of(now, calendar.Beijing), Lines: lines}))
	w.tick()
	if list, err := os.ReadDir(w.folder("refused")); err == nil && len(list) > 0 {
		why, _ := os.ReadFile(filepath.Join(w.folder("refused"), list[0].Name()+".why"))
		w.Fatalf("%s was refused: %s", list[0].Name(), why)
	}
}

func (w *evening) folder(name string) string {
	return filepath.Join(w.h.Config.Data, "clearing", name)
}

func (w *evening) put(name string, raw []byte) {
	w.Helper()
	err := os.MkdirAll(w.folder("in"), 0o700)
	if err = errors.Join(err, os.WriteFile(filepath.Join(w.folder("in"), name), raw, 0o600)); err != nil {
		w.Fatal(err)
	}
}

// open are the exceptions that are not closed.
func (w *evening) open() (out []reconcile.Exception) {
	w.Helper()
	err := w.h.Store.Read(ctx, func(q *db.Query) (err error) { out, err = reconcile.Exceptions(q, "", "", "", 100); return err })
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// sign has one person propose and a second sign; alone nobody can.
func (w *evening) sign(x reconcile.Exception) reconcile.Exception {
	w.Helper()
	err := w.h.Store.Write(ctx, func(tx *db.Tx) error {
		_, err := reconcile.Propose(tx, x.ID, "li", "as the type proposes", "")
		return err
	})
	if alone := w.h.Store.Write(ctx, func(tx *db.Tx) error { _, err := reconcile.Sign(tx, x.ID, "li", "seen"); return err }); x.Weight() > 50_00 && !errors.Is(alone, reconcile.ErrFourEyes) {
		w.Errorf("signed by its proposer: %v", alone)
	} else if alone == nil {
		return w.again(x)
	}
	if err == nil {
		err = w.h.Store.Write(ctx, func(tx *db.Tx) error { _, err := reconcile.Sign(tx, x.ID, "wang", "seen"); return err })
	}
	if err != nil {
		w.Fatal(err)
	}
	return w.again(x)
}

func (w *evening) again(x reconcile.Exception) reconcile.Exception {
	w.Helper()
	err := w.h.Store.Read(ctx, func(q *db.Query) (err error) { x, err = reconcile.ExceptionOf(q, x.ID); return err })
	if err != nil {
		w.Fatal(err)
	}
	return x
}

// explained: what hosts owe is what is late or whose bank line is out, what is
// on suspense is what exceptions hold, and the house's own proof is green.
func (w *evening) explained(owed int64) {
	w.Helper()
	held := map[string]int64{}
	for _, x := range w.open() {
		held[x.Host] += x.Held
	}
	for _, i := range append([]string{reconcile.BankDesk}, names(w)...) {
		if got := w.balance(reconcile.Suspense(i)); got != held[i] {
			w.Errorf("suspense of %s has %d fen, its exceptions hold %d", i, got, held[i])
		}
		if i == reconcile.BankDesk {
			continue
		}
		want := int64(0)
		if i == w.name() {
			want = -owed
		}
		if got := w.balance(switching.Receivable(i)); got != want {
			w.Errorf("%s owes %d fen, want %d", i, -got, -want)
		}
	}
	if proof, err := w.h.Verify(ctx); err != nil || !proof.OK {
		w.Errorf("%v %v", err, proof.Problems)
	}
}

func names(w *evening) (out []string) {
	for _, i := range w.m.Institutions() {
		out = append(out, i.Name)
	}
	return out
}

func (w *evening) balance(id ledger.AccountID) int64 {
	w.Helper()
	b, err := w.h.Book.Balance(id)
	if err != nil {
		w.Fatal(err)
	}
	return b.Posted.Minor()
}

// The ends.

// tomorrow: the other half is in the next file.
func (w *evening) tomorrow(reconcile.Exception) {
	w.at5()
	w.paper(w.day.AddDays(1), w.next, nil)
}

// atLast: the bank's line comes after all.
func (w *evening) atLast(reconcile.Exception) { w.statement(w.held) }

// corrected: the bank moves what is held, and both exceptions end together.
func (w *evening) corrected(x reconcile.Exception) {
	w.Helper()
	w.statement(reconcile.StatementLine{Fen: -x.Held, Reference: "correction " + x.ID})
	list := slices.DeleteFunc(w.open(), func(y reconcile.Exception) bool { return y.ID == x.ID })
	if len(list) != 1 || list[0].Type != reconcile.UnknownCredit {
		w.Fatalf("the correction brings %+v", list)
	}
	y := w.sign(list[0])
	if err := w.h.Store.Write(ctx, func(tx *db.Tx) error { return reconcile.Offset(tx, x.ID, y.ID, "zhao", "they are one payment") }); err != nil {
		w.Fatal(err)
	}
}

func (w *evening) close(x reconcile.Exception, o reconcile.Outcome) {
	w.Helper()
	if err := w.h.Store.Write(ctx, func(tx *db.Tx) error { _, err := reconcile.Close(tx, x.ID, o, "zhao", "dealt with"); return err }); err != nil {
		w.Fatal(err)
	}
}

// lost: the house bears it. closed: nothing is held.
func (w *evening) lost(x reconcile.Exception)   { w.close(x, reconcile.ToLoss) }
func (w *evening) closed(x reconcile.Exception) { w.close(x, reconcile.Nothing) }

// TestUntouchedPaper: files and statements as hosts and bank make them bring no
// exception, on that day or the next.
func TestUntouchedPaper(t *testing.T) {
	w := sells(t)
	w.paper(w.day, nil, nil)
	w.explained(0)
	w.at5()
	w.paper(w.day.AddDays(1), nil, nil)
	w.at5()
	if list := w.open(); len(list) > 0 {
		t.Errorf("%+v", list)
	}
	w.explained(0)
}

// TestEveryType: a real day, its paper bent in one way, and the house taking it
// from its folder: the exception of the type and no other, signed by two, the
// books equal at every step, and nothing left in the end.
func TestEveryType(t *testing.T) {
	rows := 0
	for _, m := range reconcile.Meanings {
		if m.Type.ECash() { // of no file
			continue
		}
		rows++
		t.Run(string(m.Type), func(t *testing.T) {
			b := bends[m.Type]
			w := sells(t)
			w.next = b.next
			w.paper(w.day, b.file, b.bank)
			for range b.wait {
				w.at5()
			}
			list := w.open()
			if len(list) != 1 || list[0].Type != m.Type {
				t.Fatalf("%d exceptions: %+v", len(list), list)
			}
			x := list[0]
			if x.Next != m.Next || x.State != reconcile.Open {
				t.Errorf("%s, next %s", x.State, x.Next)
			}
			if m.Type != reconcile.Late { // nobody has to sign it: the next file ends it
				x = w.sign(x)
			}
			if m.Books && m.Type != reconcile.PayoutReturned && (x.State != reconcile.Booked || x.Held == 0) {
				t.Errorf("signed: %s, %d held", x.State, x.Held)
			}
			w.explained(w.owed(m.Type))
			b.end(w, x)
			if list := w.open(); len(list) > 0 {
				t.Errorf("left open: %+v", list)
			}
			w.explained(0)
			for _, i := range append([]string{reconcile.BankDesk}, names(w)...) {
				if got := w.balance(reconcile.Suspense(i)); got != 0 {
					t.Errorf("%d fen are left on suspense of %s", got, i)
				}
			}
		})
	}
	if rows != len(bends) {
		t.Errorf("%d types, %d rows", rows, len(bends))
	}
}

// owed is what the first host still owes while the exception stands: a late sale,
// or the whole day.
func (w *evening) owed(of reconcile.Type) int64 {
	w.Helper()
	switch of {
	case reconcile.Late:
		return 66_00
	case reconcile.StatementMissing:
		return 123_45 + 66_00
	}
	return 0
}
