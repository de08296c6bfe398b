package wearer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
)

// house is the desk over the house's own domains.
type house struct {
	store *db.Store
	book  *ledger.Book
	tsm   *tsm.Manager
}

// NewDesk is the desk over issuing, tsm, wallet and the books.
func NewDesk(store *db.Store, book *ledger.Book, m *tsm.Manager) Desk { return house{store, book, m} }

const (
	statementLines = 40
	maxFormRef     = 40 // bytes of a form's reference
)

// refOf keeps two people's forms apart whatever they send. Place and Open
// recognise the same reference, so a form sent twice acts once.
func refOf(who, ref string) (string, error) {
	if len(ref) < 8 || len(ref) > maxFormRef {
		return "", fmt.Errorf("reference of a form: %w", web.ErrForm)
	}
	return who + ":" + ref, nil
}

func (h house) Wallet(ctx context.Context, who string) (Wallet, error) {
	id := customer.ID(who)
	mine, err := h.book.Balance(wallet.Account(id))
	if err != nil {
		return Wallet{}, fmt.Errorf("wallet of %s: %w", who, err)
	}
	bank, err := h.book.Balance(wallet.BankAccount(id))
	if err != nil {
		return Wallet{}, fmt.Errorf("bank account of %s: %w", who, err)
	}
	w := Wallet{Fen: mine.Available.Minor(), HeldFen: mine.Held.Minor(), BankFen: bank.Available.Minor()}
	lines, err := h.book.Recent(ctx, wallet.Account(id), 0, statementLines)
	if err != nil {
		return Wallet{}, fmt.Errorf("statement of %s: %w", who, err)
	}
	for _, l := range lines {
		w.Lines = append(w.Lines, WalletLine{At: l.Booked, What: lineWords(l), Fen: l.Amount.Minor(), After: l.Balance.Minor()})
	}
	return w, nil
}

// lineWords says a posting by the kind its owner gave it.
func lineWords(l ledger.Line) web.Text {
	switch {
	case l.Kind == "wallet.fund":
		return words.LineFund
	case l.Kind == "wallet.withdraw":
		return words.LineWithdraw
	case l.Kind == "card.deposit":
		return words.LineDeposit
	case l.Kind == "card.deposit_back":
		return words.LineDepositBack
	case l.Kind == "card.refund":
		return words.LineRefund
	case strings.HasPrefix(l.Ref, "load:"):
		return words.LineLoad
	case l.Text != "":
		return web.Same(l.Text)
	default:
		return web.Same(l.Kind)
	}
}

func (h house) Fund(ctx context.Context, who, ref string, fen int64) error {
	ref, err := refOf(who, ref)
	if err != nil {
		return err
	}
	return h.store.Write(ctx, func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, ref, customer.ID(who), money.Fen(fen))
		return err
	})
}

func (h house) Cards(ctx context.Context, who string) (out []Card, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		list, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.State.Over() {
				continue
			}
			p, err := issuing.ProductOn(q, c.Product, c.Opened)
			if err != nil {
				return err
			}
			out = append(out, cardOf(c, p))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cards of %s: %w", who, err)
	}
	return out, nil
}

func cardOf(c issuing.Card, p issuing.Product) Card {
	return Card{
		Number: c.ID, Kind: artOf(p.Art), Name: web.Text{ZH: p.NameZH, EN: p.NameEN}, Issuer: words.TransitIssuer,
		Fen: c.Known.Balance.Minor(), Seen: c.Known.At, State: web.Text{ZH: c.State.Words(true), EN: c.State.Words(false)},
		Tone: cardTones[c.State], Usable: c.State == issuing.Active, Blocked: c.State == issuing.Blocked,
		MinLoadFen: p.MinLoad.Minor(), MaxLoadFen: p.MaxLoad.Minor(), MaxFen: p.MaxBalance.Minor(),
		DepositFen: c.Deposit.Minor(), To: c.To,
	}
}

var cardTones = map[issuing.State]web.Tone{issuing.Ordered: web.Info, issuing.Personalising: web.Info, issuing.Active: web.Good,
	issuing.Blocked: web.Warn, issuing.Closing: web.Info}

// artOf picks a card's picture by the first word of its art key.
func artOf(key string) web.CardKind {
	kind, _, _ := strings.Cut(key, "-")
	return web.CardKind(kind)
}

func (h house) Products(ctx context.Context, who string) (out []Product, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		have, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		list, err := issuing.Products(q, h.store.Now())
		if err != nil {
			return err
		}
		for _, p := range list {
			out = append(out, Product{Code: p.Code, Kind: artOf(p.Art), Name: web.Text{ZH: p.NameZH, EN: p.NameEN}, Issuer: words.TransitIssuer,
				DepositFen: p.Deposit.Minor(), MaxFen: p.MaxBalance.Minor(),
				Have: slices.ContainsFunc(have, func(c issuing.Card) bool { return c.Product == p.Code && !c.State.Over() })})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("products: %w", err)
	}
	return out, nil
}

// Apply makes the card on paper and orders its writing, in one unit: there is
// never a card nobody writes.
func (h house) Apply(ctx context.Context, who, ref, product string) (order string, err error) {
	if ref, err = refOf(who, ref); err != nil {
		return "", err
	}
	err = h.store.Write(ctx, func(tx *db.Tx) error {
		bands, err := tsm.BandsOf(tx, who)
		if err != nil {
			return err
		}
		if len(bands) == 0 {
			return tsm.ErrBand
		}
		c, err := issuing.Open(tx, issuing.Application{Ref: ref, Customer: customer.ID(who), Band: bands[0].ID, Product: product})
		if err != nil {
			return err
		}
		o, err := h.tsm.Place(tx, tsm.Request{Ref: ref, Kind: tsm.Issue, Band: c.Band, Card: c.ID, Customer: who})
		order = o.ID
		return err
	})
	if err != nil {
		return "", fmt.Errorf("adding %s for %s: %w", product, who, err)
	}
	return order, nil
}

func (h house) TopUp(ctx context.Context, who, ref string, card issuing.CardID, fen int64) (string, error) {
	return h.place(ctx, who, ref, tsm.Request{Kind: tsm.TopUp, Card: card, Amount: money.Fen(fen)})
}

func (h house) Act(ctx context.Context, who, ref string, card issuing.CardID, kind OrderKind) (string, error) {
	return h.place(ctx, who, ref, tsm.Request{Kind: tsm.Kind(kind), Card: card})
}

// place puts an order for a card of who into the books.
func (h house) place(ctx context.Context, who, ref string, r tsm.Request) (order string, err error) {
	if r.Ref, err = refOf(who, ref); err != nil {
		return "", err
	}
	err = h.store.Write(ctx, func(tx *db.Tx) error {
		c, err := issuing.Get(tx, r.Card)
		if err != nil {
			return err
		}
		if string(c.Customer) != who {
			return ErrNoCard
		}
		r.Band, r.Customer = c.Band, who
		o, err := h.tsm.Place(tx, r)
		order = o.ID
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s for %s: %w", r.Kind, who, err)
	}
	return order, nil
}

func (h house) Orders(ctx context.Context, who string, card issuing.CardID, limit int) (out []Order, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		list, err := tsm.Orders(q, tsm.Filter{Customer: who, Card: card, Limit: limit})
		for _, o := range list {
			if o.Customer == who { // an empty filter would show everybody's
				out = append(out, orderOf(o))
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("orders of %s: %w", who, err)
	}
	return out, nil
}

func (h house) Order(ctx context.Context, who, id string) (out Order, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		o, err := own(q, who, id)
		if err != nil {
			return err
		}
		log, err := tsm.Log(q, id)
		if err != nil {
			return err
		}
		out = orderOf(o)
		for _, l := range log {
			if e, said := exchangeOf(l); said {
				out.Talk = append(out.Talk, e)
			}
		}
		return nil
	})
	return out, err
}

type orderReader interface {
	QueryRow(sql string, args ...any) db.Row
	Rows(sql string, args ...any) (*db.Rows, error)
}

// own reads an order if it is who's; another person's does not exist.
func own(q orderReader, who, id string) (tsm.Order, error) {
	o, err := tsm.OrderOf(q, id)
	if errors.Is(err, tsm.ErrNotFound) || err == nil && o.Customer != who {
		return tsm.Order{}, fmt.Errorf("order %q: %w", id, ErrNoOrder)
	}
	return o, err
}

func (h house) Cancel(ctx context.Context, who, id string) error {
	return h.change(ctx, who, id, h.tsm.Cancel)
}

func (h house) Verify(ctx context.Context, who, id string) error {
	return h.change(ctx, who, id, h.tsm.Verify)
}

func (h house) change(ctx context.Context, who, id string, act func(*db.Tx, string) (tsm.Order, error)) error {
	return h.store.Write(ctx, func(tx *db.Tx) error {
		if _, err := own(tx, who, id); err != nil {
			return err
		}
		_, err := act(tx, id)
		return err
	})
}

// orderOf turns an order into what its page shows.
func orderOf(o tsm.Order) Order {
	out := Order{
		ID: o.ID, Kind: OrderKind(o.Kind), Card: o.Card, Name: web.Text{ZH: o.Kind.Words(true), EN: o.Kind.Words(false)},
		State: web.Text{ZH: o.State.Words(true), EN: o.State.Words(false)}, Tone: orderTones[o.State],
		Over: o.State.Over(), Good: o.State == tsm.Done, Unsure: o.State == tsm.Unconfirmed,
		MayCancel: !o.State.Over() && !o.Stop && o.Kind != tsm.Adopt, At: o.Placed, Changed: o.Changed,
	}
	if o.Kind == tsm.TopUp {
		out.Fen = o.Amount.Minor()
	}
	if o.Why != tsm.NoReason {
		out.Why = web.Text{ZH: o.Why.Words(true), EN: o.Why.Words(false)}
	}
	stuck := o.State == tsm.Failed || o.State == tsm.Cancelled
	for _, s := range o.Progress() {
		step := web.Step{Name: web.Text{ZH: s.ZH, EN: s.EN}, State: web.StepTodo}
		switch {
		case s.Done:
			step.State = web.StepDone
		case stuck:
			step.State, stuck = web.StepFailed, false
		case s.Now:
			step.State = web.StepNow
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

var orderTones = map[tsm.State]web.Tone{tsm.Placed: web.Info, tsm.Running: web.Info, tsm.Unconfirmed: web.Warn,
	tsm.Done: web.Good, tsm.Failed: web.Bad, tsm.Cancelled: web.Neutral}

// exchangeOf shows a command that left the house and what came of it; one that
// still waits in a script has not been said yet.
func exchangeOf(l tsm.Line) (Exchange, bool) {
	if l.Answer == nil && !l.Cut {
		return Exchange{}, false
	}
	meaning := l.Meaning
	e := Exchange{Command: l.Plain.Bytes(), Told: &meaning}
	if l.Answer != nil {
		e.Answer = l.Answer.Bytes()
	}
	return e, true
}
