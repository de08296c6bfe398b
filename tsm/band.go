package tsm

import (
	"context"
	"slices"

	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// The default card is chosen in the contactless registry of the element, as a
// wallet would: readers get the payment cards in its order.
var defaultCourse = course{
	open: openDefault,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){stageDefault: hearDefault},
}

func openDefault(m *Manager, ctx context.Context, o Order) (draft, error) {
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return draft{}, err
	}
	set := globalplatform.ContactlessSet{Change: globalplatform.MakeDefaults, Apps: []globalplatform.AID{globalplatform.AID(c.Instance)}}
	ask := globalplatform.ContactlessQuery{Prefix: pboc.RID}
	return draft{stage: stageDefault, steps: []step{
		sent(PhaseDefault, iso7816.Select([]byte(globalplatform.ContactlessAID))),
		sent(PhaseDefault, set.Command()),
		sent(PhaseReadBack, ask.Command(), iso7816.OK, globalplatform.SWMore),
	}}, nil
}

// hearDefault wants the card first among the payment cards. Choosing it again
// changes nothing, so a session whose end was lost is repeated.
func hearDefault(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.refusedWith(iso7816.SWReferenceNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.complete():
		return again(h), nil
	}
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	list, err := globalplatform.ParseContactlessStatus(h.answers[2].Data)
	if err != nil || len(list) == 0 || list[0].AID != globalplatform.AID(c.Instance) || !slices.Contains(paying, o.CardKind) {
		return verdict{state: Running, why: WrongProof, refuse: true}, nil
	}
	return verdict{state: Done}, nil
}

// paying are the kinds that payment directories list.
var paying = []issuing.Kind{issuing.ECash, issuing.Debit, issuing.Credit}
