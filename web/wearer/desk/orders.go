package desk

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/emv"
	"koala/tsm"
	"koala/web"
	"koala/web/open"
	"koala/web/wearer"
)

func (h house) TopUp(ctx context.Context, who, ref string, card issuing.CardID, fen int64) (string, error) {
	return h.place(ctx, who, ref, tsm.Request{Kind: tsm.TopUp, Card: card, Amount: money.Fen(fen)})
}

func (h house) Act(ctx context.Context, who, ref string, card issuing.CardID, kind wearer.OrderKind) (string, error) {
	return h.place(ctx, who, ref, tsm.Request{Kind: tsm.Kind(kind), Card: card})
}

// SetLimit changes what one offline payment of a card may be (9F78), up to the
// product's limit.
func (h house) SetLimit(ctx context.Context, who, ref string, card issuing.CardID, fen int64) (string, error) {
	cards, err := h.Cards(ctx, who)
	if err != nil {
		return "", err
	}
	for _, c := range cards {
		if c.Number != card {
			continue
		}
		if fen <= 0 || fen > c.OnceMaxFen {
			return "", fmt.Errorf("limit of card %s: %w", card.Masked(), wearer.ErrLimit)
		}
		return h.place(ctx, who, ref, tsm.Request{Kind: tsm.Update, Card: card,
			Update: &tsm.Change{Limits: []tsm.Limit{{Tag: uint16(emv.TagECAmountLimit), Fen: fen}}}})
	}
	return "", fmt.Errorf("limit of card %s: %w", card.Masked(), wearer.ErrNoCard)
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
			return wearer.ErrNoCard
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

func (h house) Orders(ctx context.Context, who string, card issuing.CardID, limit int) (out []wearer.Order, err error) {
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

func (h house) Order(ctx context.Context, who, id string) (out wearer.Order, err error) {
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
		if p, by, err := open.FirmOf(q, id); err != nil {
			return err
		} else if by {
			out.Firm = web.Text{ZH: p.NameZH, EN: p.NameEN}
		}
		for _, l := range log {
			if e, said := exchangeOf(l); said {
				out.Talk = append(out.Talk, e)
			}
		}
		return nil
	})
	return out, err
}

// own reads an order if it is who's; another person's does not exist.
func own(q db.Reader, who, id string) (tsm.Order, error) {
	o, err := tsm.OrderOf(q, id)
	if errors.Is(err, tsm.ErrNotFound) || err == nil && o.Customer != who {
		return tsm.Order{}, fmt.Errorf("order %q: %w", id, wearer.ErrNoOrder)
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
func orderOf(o tsm.Order) wearer.Order {
	out := wearer.Order{
		ID: o.ID, Kind: wearer.OrderKind(o.Kind), Card: o.Card, Name: web.Text{ZH: o.Kind.Words(true), EN: capital(o.Kind.Words(false))},
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

// capital begins an English phrase as a title does.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

var orderTones = map[tsm.State]web.Tone{tsm.Placed: web.Info, tsm.Running: web.Info, tsm.Unconfirmed: web.Warn,
	tsm.Done: web.Good, tsm.Failed: web.Bad, tsm.Cancelled: web.Neutral}

// exchangeOf shows a command that left the house and what came of it; one that
// still waits in a script has not been said yet.
func exchangeOf(l tsm.Line) (wearer.Exchange, bool) {
	if l.Answer == nil && !l.Cut {
		return wearer.Exchange{}, false
	}
	meaning := l.Meaning
	e := wearer.Exchange{Command: l.Plain.Bytes(), Told: &meaning}
	if l.Answer != nil {
		e.Answer = l.Answer.Bytes()
	}
	return e, true
}

// SetPIN gives a bank card its PIN at the bank, at once. The PIN is enciphered before it
// goes anywhere; nothing here keeps or logs it.
func (h house) SetPIN(ctx context.Context, who, _ string, card issuing.CardID, pin string) (order string, err error) {
	c, err := h.mine(ctx, who, card)
	if err == nil && !c.Kind.Bank() {
		err = issuing.ErrKind
	}
	if err != nil {
		return "", fmt.Errorf("PIN of card %s: %w", card.Masked(), err)
	}
	secret, err := h.bank.Keys(ctx, card)
	if err != nil {
		return "", fmt.Errorf("PIN: %w", err)
	}
	block, err := h.keys.EncipherPIN(ctx, secret.PAN, pin)
	if err != nil {
		return "", fmt.Errorf("PIN of card %s: %w", card.Masked(), err)
	}
	if err := h.bank.SetPIN(ctx, card, block); err != nil {
		return "", err
	}
	return "", nil // cards of the house have no PIN of their own to change: theirs is checked by the bank
}

// Repay pays a credit card's bill out of its holder's wallet.
func (h house) Repay(ctx context.Context, who, ref string, card issuing.CardID, fen int64) error {
	ref, err := refOf(who, ref)
	if err != nil {
		return err
	}
	if _, err := h.mine(ctx, who, card); err != nil {
		return err
	}
	return h.store.Write(ctx, func(tx *db.Tx) error {
		_, err := issuing.Repay(tx, ref, card, money.Fen(fen))
		return err
	})
}

// mine tells a person's card from another's.
func (h house) mine(ctx context.Context, who string, card issuing.CardID) (c issuing.Card, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		if c, err = issuing.Get(q, card); err == nil && string(c.Customer) != who {
			err = wearer.ErrNoCard
		}
		return err
	})
	return c, err
}
