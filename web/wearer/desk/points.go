package desk

import (
	"cmp"
	"context"
	"fmt"

	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/points"
	"koala/web"
	"koala/web/wearer"
)

// Points are those of one of the person's own cards.
func (h house) Points(ctx context.Context, who string, card issuing.CardID, limit int) (out wearer.Points, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, card)
		if err == nil && c.Customer != customer.ID(who) {
			err = issuing.ErrNotFound
		}
		if err != nil {
			return err
		}
		has, err := points.Of(q, string(card))
		if err != nil {
			return err
		}
		out = wearer.Points{Left: has.Left()}
		if rule, ok := points.RuleOn(h.store.Now()); ok {
			out.WorthFen, out.PerYuan = max(0, out.Left)/rule.Cost, rule.PerYuan
		}
		list, err := points.Movements(q, string(card), limit)
		for _, m := range list {
			out.Moves = append(out.Moves, wearer.PointMove{At: m.At, Points: m.Points, Spent: m.Ref != "", Where: web.Same(cmp.Or(m.Text, m.Ref))})
		}
		return err
	})
	if err != nil {
		return out, fmt.Errorf("points of card %s: %w", card.Masked(), err)
	}
	return out, nil
}
