package tsm

import (
	"context"
	"fmt"

	"koala/internal/db"
	"koala/issuing"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

var lockCourse = course{
	open: openLock,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageAsk: hearAsk, stageLock: hearLock,
	},
}

// openLock selects the purse, whose status word tells whether it is blocked
// already, and asks for the challenge that the MAC begins with.
func openLock(*Manager, context.Context, Order) (draft, error) {
	return draft{stage: stageAsk, steps: []step{
		sent(PhaseChallenge, iso7816.Select(purse.AIDTUnion), iso7816.OK, iso7816.SWSelectedBlocked),
		sent(PhaseChallenge, iso7816.GetChallenge(8)),
	}}, nil
}

func hearAsk(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.refusedWith(iso7816.SWFileNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.complete():
		return again(h), nil
	case !holds(h.answers[0], o.Card.Purse()):
		return verdict{state: Failed, why: WrongCard}, nil
	case blockedNow(h.answers[0]) == (o.Kind == Block):
		return locked(o), nil // an earlier session did it, its answer was lost
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case len(h.answers[1].Data) != 8:
		return again(h), nil
	}
	c, err := m.maintain(ctx, o, h.answers[1].Data)
	if err != nil {
		return verdict{}, err
	}
	after := iso7816.OK
	if o.Kind == Block {
		after = iso7816.SWSelectedBlocked
	}
	return verdict{state: Running, next: &draft{stage: stageLock, steps: []step{
		sent(PhaseLock, c),
		sent(PhaseReadBack, iso7816.Select(purse.AIDTUnion), after),
	}}}, nil
}

// maintain makes APPLICATION BLOCK or UNBLOCK with its MAC.
func (m *Manager) maintain(ctx context.Context, o Order, challenge []byte) (iso7816.Command, error) {
	c := purse.AppUnblock()
	if o.Kind == Block {
		c = purse.AppBlock(false)
	}
	out, err := m.protect(ctx, o.Card.Purse(), challenge, c)
	if err != nil {
		return c, fmt.Errorf("%s of card %s: %w", o.Kind, o.Card.Masked(), err)
	}
	return out, nil
}

func hearLock(_ *Manager, _ context.Context, o Order, h heard, _ []byte) (verdict, error) {
	if h.good() == 0 || h.refused() {
		if h.refused() && o.Stalled+1 >= maxStalled {
			return verdict{state: Failed, why: CardRefused, refuse: true}, nil
		}
		return lost(h), nil
	}
	return locked(o), nil
}

func blockedNow(selected iso7816.Response) bool { return selected.SW == iso7816.SWSelectedBlocked }

func locked(o Order) verdict {
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		if o.Kind == Block {
			return issuing.Block(tx, o.Card, "blocked over the air")
		}
		return issuing.Unblock(tx, o.Card)
	}}
}
