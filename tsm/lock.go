package tsm

import (
	"context"
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm/domain"
	"koala/tsm/native"
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
	case h.RefusedWith(iso7816.SWFileNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return again(h), nil
	case !holds(h.Answers[0], o.Card.Purse()):
		return verdict{state: Failed, why: WrongCard}, nil
	case blockedNow(h.Answers[0]) == (o.Kind == Block):
		return locked(o), nil // an earlier session did it, its answer was lost
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case len(h.Answers[1].Data) != 8:
		return again(h), nil
	}
	c, err := m.maintain(ctx, o, h.Answers[1].Data)
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
	if h.Good() == 0 || h.Refused() {
		if h.Refused() && o.Stalled+1 >= maxStalled {
			return verdict{state: Failed, why: CardRefused, refuse: true}, nil
		}
		return lost(h), nil
	}
	return locked(o), nil
}

func blockedNow(selected iso7816.Response) bool { return selected.SW == iso7816.SWSelectedBlocked }

func locked(o Order) verdict {
	to := issuing.Active
	if o.Kind == Block {
		to = issuing.Blocked
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		c, err := issuing.Get(tx, o.Card)
		switch {
		case err != nil:
			return err
		case !c.State.May(to):
			return nil // an order behind others, for a card that has ended since
		case o.Kind == Block:
			return issuing.Block(tx, o.Card, "blocked over the air")
		}
		return issuing.Unblock(tx, o.Card)
	}}
}

// The lock of a bank card is the security domain's: its instance is there, but
// nobody can select it.
var channelLockCourse = course{
	open: func(m *Manager, ctx context.Context, o Order) (draft, error) { return m.openChannel(ctx, o, workLook) },
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
}

// The block of a coupon takes it out of its card, and keeps it as it was: with
// the uses and stamps that it had left it comes back.
var couponLockCourse = course{
	open: openCoupon,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageAsk: hearCoupon, stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
}

func openCoupon(m *Manager, ctx context.Context, o Order) (draft, error) {
	if o.Kind == Unblock {
		return m.openChannel(ctx, o, workLook)
	}
	d, err := m.sharedDossier(ctx, o)
	if err != nil {
		return draft{}, err
	}
	return draft{stage: stageAsk, steps: readCoupon(PhaseBalance, d, iso7816.OK, iso7816.SWReferenceNotFound)}, nil
}

// readCoupon asks the discount card for the order's coupon.
func readCoupon(p Phase, d issuing.Personalisation, expect ...iso7816.SW) []step {
	offer, _ := groupOf(d, coupon.DGICoupon)
	c, _ := coupon.Parse(offer)
	return []step{sent(p, iso7816.Select([]byte(d.Instance))), sent(p, coupon.Read{ID: c.ID}.Command(), expect...)}
}

// hearCoupon keeps the coupon as it is before it is taken out. One that is not
// there any more was taken out by a session whose end was lost.
func hearCoupon(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.RefusedWith(iso7816.SWFileNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return again(h), nil
	case !h.Answers[1].SW.OK():
		return locked(o), nil // also when it was given up since
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	if _, err := coupon.Parse(h.Answers[1].Data); err != nil {
		return unproven(o), nil
	}
	next, err := m.openChannel(ctx, o, workLook)
	return verdict{state: Running, next: &next, effect: func(tx *db.Tx) error { return keepCoupon(tx, o.Card, h.Answers[1].Data) }}, err
}

// foundToLock goes on after a look at the instance.
func (m *Manager) foundToLock(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, l domain.Look) (verdict, error) {
	isLocked := l.Life&globalplatform.LockBit != 0
	switch {
	case d.Shared && o.Kind == Block:
		k.work |= workTakeOut
	case d.Shared:
		k.work |= k.place(d, l) | workPutBack
	case l.Life == domain.Absent:
		return verdict{state: Failed, why: NotThere}, nil
	case isLocked == (o.Kind == Block):
		return locked(o), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case o.Kind == Block:
		k.work |= workLock | workConfirm
	default:
		k.work |= workUnlock | workConfirm
	}
	return m.goOn(ctx, o, d, k)
}

// lockConfirmed reads what the element says after the change.
func (m *Manager) lockConfirmed(_ context.Context, o Order, d issuing.Personalisation, h heard) (verdict, error) {
	if d.Shared {
		return locked(o), nil // the coupon was asked for once more
	}
	life, err := domain.LifeOf(h.Answers[len(h.Answers)-1].Data, d.Instance)
	if err != nil || life == domain.Absent || (life&globalplatform.LockBit != 0) != (o.Kind == Block) {
		return unproven(o), nil
	}
	return locked(o), nil
}

// The return of a card: it proves its balance and its counters, then it is
// removed from the element, then the money goes back.
var deleteCourse = course{
	open: openReturn,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageAsk: hearReturn, stageBalance: hearBalance, stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
	end: endReturn,
}

var bankReturnCourse = course{
	open: func(m *Manager, ctx context.Context, o Order) (draft, error) { return m.openChannel(ctx, o, workLook) },
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageSelect: hearReturnCard, stageBalance: hearReturnProof, stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
	end: endReturn,
}

var canteenReturnCourse = course{
	open: openCanteenReturn,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageAuth: hearCanteenReturn, stageLock: hearOpened, stageBalance: hearCanteenBalance,
		stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
	end: endReturn,
}

// Cards without money are only looked for and removed.
var plainReturnCourse = course{
	open: func(m *Manager, ctx context.Context, o Order) (draft, error) { return m.openChannel(ctx, o, workLook) },
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
	end: endReturn,
}

// endReturn puts a card back whose return was given up. To prove its balance
// the element has unblocked it.
func endReturn(tx *db.Tx, o Order) error {
	if err := issuing.GiveUpReturn(tx, o.Card); err != nil {
		return err
	}
	c, err := issuing.Get(tx, o.Card)
	if at := o.rank(PhaseBalance); err == nil && c.State == issuing.Blocked && at > 0 && o.rank(o.Phase) >= at {
		return issuing.Unblock(tx, o.Card)
	}
	return err
}

// openReturn asks for the balance, or, when DELETE may have happened, looks.
func openReturn(m *Manager, ctx context.Context, o Order) (draft, error) {
	if len(o.data) > 0 {
		return m.openChannel(ctx, o, workLook)
	}
	return openLock(m, ctx, o)
}

// hearReturn goes on to the proof of the balance; a blocked purse proves
// nothing, so it is unblocked first.
func hearReturn(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.RefusedWith(iso7816.SWFileNotFound):
		return missing, nil
	case !h.Complete():
		return m.stalled(o, h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case !holds(h.Answers[0], o.Card.Purse()):
		return verdict{state: Unconfirmed, why: WrongCard, desk: true}, nil
	}
	var steps []step
	if blockedNow(h.Answers[0]) {
		c, err := m.maintain(ctx, o, h.Answers[1].Data)
		if err != nil {
			return verdict{}, err
		}
		steps = append(steps, sent(PhaseBalance, c))
	}
	t, err := m.challenge(ctx)
	if err != nil {
		return verdict{}, err
	}
	steps = append(steps, proofs(PhaseBalance, t)...)
	return verdict{state: Running, next: &draft{stage: stageBalance, steps: steps, keep: t[:]}}, nil
}

// missing is the verdict on a card that is not in the element while its balance
// is wanted: staff must look.
var missing = verdict{state: Unconfirmed, why: NotThere, desk: true}

// hearBalance keeps the proof with the order before DELETE goes out.
func hearBalance(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	n := len(h.Answers)
	seen, err := m.proven(ctx, o.Card.Purse(), purse.Terminal(keep), h.Answers[n-2], h.Answers[n-1])
	return m.balanceProven(ctx, o, seen, err, workRemove)
}

// balanceProven goes on to the removal with a proof, or without one asks again.
func (m *Manager) balanceProven(ctx context.Context, o Order, seen issuing.Counters, err error, w work) (verdict, error) {
	switch {
	case errors.Is(err, errProof):
		return unproven(o), nil
	case err != nil:
		return verdict{}, err
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	next, err := m.openChannel(ctx, o, w)
	return verdict{state: Running, next: &next, set: func(o *Order) { o.data = packCounters(seen) }}, err
}

// unlockedToProve goes on after the instance of a blocked card was unlocked.
func (m *Manager) unlockedToProve(ctx context.Context, o Order) (verdict, error) {
	next, err := m.selectCard(ctx, o, PhaseBalance)
	return verdict{state: Running, next: &next, set: func(o *Order) { o.data = nil }}, err
}

// openCanteenReturn begins with the top-up host's key, which may read the value;
// of a blocked card with the master's, to open it first.
func openCanteenReturn(m *Manager, ctx context.Context, o Order) (draft, error) {
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return draft{}, err
	}
	key := desfire.CanteenHost
	if c.Before == issuing.Blocked {
		key = desfire.CanteenMaster
	}
	return draft{stage: stageAuth, steps: beginTalk(PhaseBalance, o, key)}, nil
}

// hearCanteenReturn: an application that is gone after its value was proven was
// removed by a session whose end was lost.
func hearCanteenReturn(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	gone := h.RefusedWith(iso7816.SWFileNotFound) || h.RefusedWith(desfire.NoApplication.SW())
	switch {
	case gone && len(o.data) > 0:
		return m.gone(o)
	case gone:
		return missing, nil
	case !h.Complete():
		return m.stalled(o, h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	t, err := m.talkWith(ctx, o, h)
	if err != nil {
		return o.disproved(err)
	}
	st, say := stageBalance, native.GetValue()
	if t.Key == desfire.CanteenMaster {
		next, err := m.say(ctx, t, stageLock, PhaseBalance, native.SetRights(t.App, false)...)
		return verdict{state: Running, next: next}, err
	}
	next, err := m.say(ctx, t, st, PhaseBalance, say)
	return verdict{state: Running, next: next}, err
}

// hearOpened goes on with the top-up host's key.
func hearOpened(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	if f, err := desfire.ParseFileSettings(data); err != nil || f.Access != native.Rights(desfire.CanteenAID, false) {
		return unproven(o), nil
	}
	return verdict{state: Running, next: &draft{stage: stageAuth, steps: beginTalk(PhaseBalance, o, desfire.CanteenHost)}}, nil
}

func hearCanteenBalance(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	seen := issuing.Counters{Balance: money.Fen(0)}
	if err == nil {
		seen.Balance = money.Fen(native.Value(data))
		err = m.store.Read(ctx, func(q *db.Query) (err error) {
			seen.Online, err = nextLoad(q, o.Card)
			return err
		})
	}
	d := issuing.Personalisation{Shared: true, Card: o.Card}
	if err == nil {
		d, err = m.sharedDossier(ctx, o)
	}
	w := workRemove
	if err == nil {
		w, err = m.removal(ctx, o, d)
	}
	return m.balanceProven(ctx, o, seen, err, w)
}

// removal is how a card leaves the element: with its instance, or out of one
// that others still live in.
func (m *Manager) removal(ctx context.Context, o Order, d issuing.Personalisation) (w work, err error) {
	if !d.Shared {
		return workRemove, nil
	}
	err = m.store.Read(ctx, func(q *db.Query) error {
		list, err := issuing.InBand(q, o.Band)
		w = workRemove
		for _, c := range list {
			if c.ID != o.Card && globalplatform.AID(c.Instance) == d.Instance && c.State != issuing.Ordered {
				w = workTakeOut
			}
		}
		return err
	})
	return w, err
}

// foundToRemove goes on after a look at the instance.
func (m *Manager) foundToRemove(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, life byte) (verdict, error) {
	proven := len(o.data) > 0
	switch {
	case life == domain.Absent && (proven || !o.CardKind.Money()):
		return m.gone(o)
	case life == domain.Absent:
		return missing, nil
	case o.CardKind == issuing.Transit:
		return m.stillThere(ctx, o)
	case o.Stop && !(d.Shared && proven):
		return verdict{state: Cancelled, why: Given}, nil
	case o.CardKind.Bank() && life&globalplatform.LockBit == 0:
		return m.unlockedToProve(ctx, o) // a new proof: it may have been used since the last
	case o.CardKind.Bank():
		k.work |= workUnlock
	default:
		w, err := m.removal(ctx, o, d)
		if err != nil {
			return verdict{}, err
		}
		k.work |= w
	}
	v, err := m.goOn(ctx, o, d, k)
	if d.Shared && !o.CardKind.Money() {
		v.set = func(o *Order) { o.data = removing }
	}
	return v, err
}

// removing is the working data of a return whose removal may have left the
// house. From an instance that others share no look tells whether the card is
// out: from then on the return is carried through, even if it was given up.
var removing = []byte{1}

// gone ends a return: the proven balance goes back to the wallet.
func (m *Manager) gone(o Order) (verdict, error) {
	seen := noCounters
	if o.CardKind.Money() {
		var err error
		if seen, err = parseCounters(o.data); err != nil {
			return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
		}
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		seen.By, seen.At = o.ID, tx.Now()
		return issuing.Close(tx, o.Card, seen)
	}}, nil
}

// stillThere asks for a new proof: the card may have been used since the last.
func (m *Manager) stillThere(ctx context.Context, o Order) (verdict, error) {
	if o.Stop {
		return verdict{state: Cancelled, why: Given}, nil
	}
	next, err := openLock(m, ctx, o)
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Running, next: &next, set: func(o *Order) { o.data = nil }}, nil
}
