package till

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/spec/iso8583"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
	"koala/web/paper"
)

// A saleView is one transaction with everything behind it.
type saleView struct {
	txn      switching.Txn
	facts    []web.Fact
	why      []web.Line // of its fee
	share    web.Parted
	others   web.Table // what refers to it
	messages []exchange
	postings web.Table
	slip     paper.View
	hasSlip  bool // printed when it was answered
	disputes []dispute.Case
	left     int64 // that may be given back, fen
	mayGive  bool
	trail    []web.Happening
	signed   bool // a picture of the signature is there
}

// An exchange is one message of the log in words.
type exchange struct {
	n     int
	at    string
	title web.Text
	way   web.Text
	code  string
	head  string
	lines []iso8583.Line
	tone  web.Tone
}

func (d Deps) sale(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx := r.Context()
	v, err := d.readSale(ctx, s, r.PathValue("rrn"))
	if err != nil {
		return fmt.Errorf("page of a sale: %w", err)
	}
	return d.Desk.Show(w, r, s, web.Page{Title: kindText(v.txn.Kind), Lead: web.Same(v.txn.RRN), Back: atSales, Here: atSales}, salePage(v))
}

// txnOf reads a transaction of the shop that is looked at.
func txnOf(q *db.Query, s shell.Seat, rrn string) (switching.Txn, error) {
	t, err := switching.Transaction(q, rrn)
	if err == nil && (s.Shop.ID == "" || t.Shop != s.Shop.ID) {
		err = fmt.Errorf("transaction %s of another shop: %w", rrn, switching.ErrNotFound)
	}
	return t, err
}

func (d Deps) readSale(ctx context.Context, s shell.Seat, rrn string) (v saleView, err error) {
	var others []switching.Txn
	var said []switching.Message
	var terms settlement.Terms
	var deeds []shell.Deed
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.txn, err = txnOf(q, s, rrn); err != nil {
			return err
		}
		if others, err = switching.Transactions(q, v.txn); err != nil {
			return err
		}
		if said, err = switching.Messages(q, v.txn); err != nil {
			return err
		}
		if v.disputes, err = dispute.OfSale(q, rrn); err != nil {
			return err
		}
		if deeds, err = shell.Deeds(q, s.Merchant.ID, salePath(rrn), "", 20); err != nil {
			return err
		}
		terms, err = settlement.TermsOf(q, s.Shop.ID, calendar.Of(v.txn.At, calendar.Beijing))
		return err
	})
	if err != nil {
		return v, err
	}
	v.others, v.trail = saleTable(ctx, others), shell.Trail(ctx, deeds)
	v.others.ID, v.others.NoCSV = "others", true
	v.left = leftOf(v.txn)
	v.mayGive = s.May(shell.GiveBack) && v.left > 0
	v.facts = saleFacts(ctx, v.txn)
	if err := v.priced(terms); err != nil {
		return v, err
	}
	if v.postings, err = d.postings(ctx, s, v.txn); err != nil {
		return v, err
	}
	if v.messages, err = d.exchanges(ctx, said); err != nil {
		return v, err
	}
	_, err = d.Switch.Signature(ctx, v.txn)
	v.signed = err == nil
	if errors.Is(err, switching.ErrNotFound) {
		err = nil
	}
	if err == nil {
		v.slip, v.hasSlip, err = d.slipOf(ctx, rrn)
	}
	if v.signed && v.hasSlip {
		v.slip.Picture = salePath(rrn) + "/signature"
	}
	return v, err
}

// signature is the picture that the cardholder drew at the terminal.
func (d Deps) signature(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	var t switching.Txn
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		t, err = txnOf(q, s, r.PathValue("rrn"))
		return err
	})
	if err != nil {
		return err
	}
	picture, err := d.Switch.Signature(r.Context(), t)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(picture) // the reader hung up: nothing is left to tell it
	return nil
}

// leftOf is what may still be given back of a sale, fen.
func leftOf(t switching.Txn) int64 {
	if !stands(t.State) || !refundable(t.Kind) {
		return 0
	}
	return max(0, t.Due.Sub(t.Refunded).Minor())
}

// refundable says whether a kind is one that refunds refer to.
func refundable(kind string) bool {
	for _, of := range switching.KindNamed("refund").Of {
		if of == kind {
			return true
		}
	}
	return false
}

func saleFacts(ctx context.Context, t switching.Txn) []web.Fact {
	where := t.TID
	if t.Batch == 0 {
		where = words.Console.In(ctx)
	}
	issuer := words.OwnBank.In(ctx)
	if t.Host != "" {
		issuer = words.OtherBank.In(ctx, t.Host)
	}
	out := []web.Fact{{Name: words.Amount, Show: parts.Strong(web.Yuan(Signed(t)))}, {Name: words.State, Show: web.Chip(stateTones[t.State], shell.Both(t.State.Words))},
		{Name: words.At, Value: web.Moment(t.At)}, {Name: words.Card, Value: shown(t.Masked), Mono: true}, {Name: words.CardKind, Value: classWords[fee.Class(t.Class)].In(ctx)},
		{Name: words.Issuer, Value: issuer}, {Name: words.Entry, Show: parts.Phrase(paper.Entry(t.Entry))}, {Name: words.Terminal, Value: where, Mono: true}, {Name: words.BatchTrace, Value: fmt.Sprintf("%06d / %06d", t.Batch, t.STAN), Mono: true},
		{Name: words.Reference, Value: t.RRN, Mono: true}}
	if t.Auth != "" {
		out = append(out, web.Fact{Name: words.Authorisation, Value: t.Auth, Mono: true})
	}
	if said := words.IssuerWaits; t.StandIn && t.State == switching.Approved {
		if t.Why != "" {
			said = words.IssuerRefused
		}
		out = append(out, web.Fact{Name: words.IssuerSays, Show: parts.Phrase(said)})
	}
	if t.State == switching.Declined {
		out = append(out, web.Fact{Name: words.AnswerCode, Value: t.Code, Mono: true})
	}
	if t.Refunded.Sign() > 0 {
		out = append(out, web.Fact{Name: words.Refunded, Value: web.Yuan(-t.Refunded.Minor())})
	}
	if t.Original != "" {
		out = append(out, web.Fact{Name: words.OfSale, Value: t.Original, Href: salePath(t.Original), Mono: true})
	}
	return out
}

// priced explains the sale's fee, as settlement would.
func (v *saleView) priced(terms settlement.Terms) error {
	t := v.txn
	if k := switching.KindNamed(t.Kind); terms.Category == "" || t.Class == "" || k == nil || k.Side != switching.Debits || !stands(t.State) {
		return nil
	}
	tariff, err := settlement.Statutes().Tariff(calendar.Of(t.At, calendar.Beijing), terms.Category, terms.Price)
	if err != nil {
		return err
	}
	cost := tariff.Of(t.Due.Minor(), fee.Class(t.Class))
	for _, l := range tariff.Explain(t.Due.Minor(), terms.Category, fee.Class(t.Class)) {
		v.why = append(v.why, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.Yuan(l.Fen.Minor())})
	}
	if cost.Fee > 0 {
		v.share = web.Parted{Title: words.FeeIs, Money: true, Parts: []web.Slice{{Name: words.Issuer, Value: cost.Issuer}, {Name: words.Network, Value: cost.Network}, {Name: words.Acquirer, Value: cost.Acquirer}}}
	}
	return nil
}

// postings are the entries that a transaction made in the books.
func (d Deps) postings(ctx context.Context, s shell.Seat, t switching.Txn) (web.Table, error) {
	out := web.Table{ID: "postings", NoCSV: true, Empty: words.NoPostings, Head: []web.Column{{Name: words.EntryRef}, {Name: words.Account}, {Name: words.Amount, Num: true}, {Name: words.At, Num: true}}}
	for _, ref := range t.Postings() {
		rec, err := d.Book.Entry(ctx, ref)
		if errors.Is(err, ledger.ErrNoEntry) || err != nil && fail.Of(err).Kind == fail.NotFound {
			continue
		}
		if err != nil {
			return out, err
		}
		for _, l := range rec.Legs {
			out.Rows = append(out.Rows, web.Row{Cells: []web.Cell{parts.Ident(rec.Ref), {Text: accountText(s, l.Account).In(ctx)}, web.Money(l.Amount.Minor()), parts.At(rec.Booked)}})
		}
	}
	return out, nil
}

// accountText names an account of the books for a shop: whose wallet it is, is
// none of the shop's business.
func accountText(s shell.Seat, id ledger.AccountID) web.Text {
	switch name := string(id); {
	case id == settlement.Payable(s.Shop.ID):
		return words.YourAccount
	case strings.HasPrefix(name, "receivable."):
		return words.IssuerOwes
	case strings.HasPrefix(name, "income."), strings.HasPrefix(name, "payable."):
		return words.FeeAccount
	}
	return words.HolderAccount
}

// exchanges puts the log of a transaction into words, secrets masked.
func (d Deps) exchanges(ctx context.Context, said []switching.Message) (out []exchange, err error) {
	begun := 0 // where what belongs to the terminal's next message begins
	for _, m := range said {
		message, answer, err := d.Switch.Open(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", m.Seq, err)
		}
		at := web.Clock(m.At)
		switch host, back := strings.CutSuffix(m.Way, "<"); {
		case m.Way == "terminal":
			// It is written down with its answer, after what was asked meanwhile.
			out = slices.Insert(out, begun, exchange{at: at, way: words.WayIn}.of(iso8583.UnionPayPOS(), message))
			if len(answer) > 0 {
				out = append(out, exchange{at: at, way: words.WayOut}.of(iso8583.UnionPayPOS(), answer))
			}
			begun = len(out)
		case len(message) == 0:
			out = append(out, exchange{at: at, way: words.WayNote, title: web.Same(m.Note), tone: web.Info})
		case back:
			out = append(out, exchange{at: at, way: words.WayFrom.F(host)}.of(iso8583.UnionPayInterchange(), message))
		default:
			out = append(out, exchange{at: at, way: words.WayTo.F(strings.TrimSuffix(m.Way, ">"))}.of(iso8583.UnionPayInterchange(), message))
		}
	}
	for i := range out {
		out[i].n = i + 1
	}
	return out, nil
}

// of fills in what a message says; one that does not read stays without words.
func (x exchange) of(spec *iso8583.Spec, wire []byte) exchange {
	var m iso8583.Message
	if m.Unpack(spec, wire) != nil {
		x.title, x.tone = words.Unreadable.F(len(wire)), web.Warn
		return x
	}
	told := iso8583.Describe(&m, iso8583.Options{})
	x.title, x.lines, x.head = web.Text{ZH: m.MTI() + " " + told.ZH, EN: m.MTI() + " " + told.EN}, told.Lines, strings.TrimSpace(told.TPDU+" "+told.Head)
	if x.code = m.Text(39); x.code != "" && x.code != "00" {
		x.tone = web.Warn
	}
	return x
}

// fieldName is the number or tag of a part of a message.
func fieldName(l iso8583.Line) string { return strings.Repeat("· ", l.Depth) + l.Key }

func fieldText(l iso8583.Line) web.Text { return web.Text{ZH: l.ZH, EN: l.EN} }

func fieldMeaning(l iso8583.Line) web.Text { return web.Text{ZH: l.MeaningZH, EN: l.Meaning} }
