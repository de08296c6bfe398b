package ops

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/settlement"
	"koala/transit"
	"koala/web"
)

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
	tabs    []tab
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
		{Name: words.StoredAt, Show: phrase(p.storeKind())},
	}
	if t := p.Book.ClosedThrough(); !t.IsZero() {
		v.facts = append(v.facts, web.Fact{Name: words.ClosedThrough, Value: web.Moment(t)})
	}
	if err := p.Book.Trouble(); err != nil {
		v.trouble = words.ViewsStuck.In(ctx)
	}
	return p.show(w, r, web.Page{Title: words.Proof, Lead: words.ProofLead, Here: "/ops/books"}, proofPage(v))
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
		v.problems = append(v.problems, web.Line{Text: web.Same(hushed(x.Where)), Value: hushed(x.What)})
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
			v.problems = append(v.problems, web.Line{Text: words.Settlement, Value: hushed(s)})
		}
		for _, s := range shares {
			v.problems = append(v.problems, web.Line{Text: words.Clearing, Value: hushed(s)})
		}
		return nil
	})
	return v, err
}

// seal fixes a day under the house's signature.
func (p pages) seal(w http.ResponseWriter, r *http.Request) error {
	const back = "/ops/books/proof"
	reason, err := why(r)
	if err != nil {
		return sorry(w, r, back, err)
	}
	day, err := calendar.Parse(r.PostFormValue("day"))
	if err != nil {
		return fmt.Errorf("day to seal: %w", ErrForm)
	}
	ctx := r.Context()
	s, err := p.Book.SealDay(ctx, day, func(message []byte) ([]byte, error) { return p.Keys.Sign(ctx, p.SealKey, message) })
	if err != nil {
		return sorry(w, r, back, err)
	}
	err = p.Store.Write(ctx, func(tx *db.Tx) error {
		return keep(tx, r, Deed{Act: ActSeal, Target: back, What: s.Day.String() + " " + hex.EncodeToString(s.Root[:8]), Why: reason})
	})
	if err != nil {
		return err
	}
	return done(w, r, back, words.DidSeal.F(s.Day.String()))
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
