package tsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/desfire"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/tsm/online"
)

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
	open: func(m *Manager, ctx context.Context, _ Order) (draft, error) { return m.openChannel(ctx, workLook) },
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
	open: func(m *Manager, ctx context.Context, _ Order) (draft, error) { return m.openChannel(ctx, workLook) },
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
		return m.openChannel(ctx, workLook)
	}
	return openLock(m, ctx, o)
}

// hearReturn goes on to the proof of the balance; a blocked purse proves
// nothing, so it is unblocked first.
func hearReturn(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.refusedWith(iso7816.SWFileNotFound):
		return missing, nil
	case !h.complete():
		return m.stalled(o, h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case !holds(h.answers[0], o.Card.Purse()):
		return verdict{state: Unconfirmed, why: WrongCard, desk: true}, nil
	}
	var steps []step
	if blockedNow(h.answers[0]) {
		c, err := m.maintain(ctx, o, h.answers[1].Data)
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
	if !h.complete() {
		return m.stalled(o, h), nil
	}
	n := len(h.answers)
	seen, err := m.proven(ctx, o.Card.Purse(), purse.Terminal(keep), h.answers[n-2], h.answers[n-1])
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
	next, err := m.openChannel(ctx, w)
	return verdict{state: Running, next: &next, set: func(o *Order) { o.data = packCounters(seen) }}, err
}

// hearReturnCard goes on to a declined cryptogram, which proves the balance and
// moves nothing.
func hearReturnCard(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case !h.complete():
		return m.stalled(o, h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	l, err := online.ParseLists(h.answers[0].Data, h.answers[1].Data)
	if err != nil {
		return unproven(o), nil
	}
	d, err := m.deal(ctx, online.TypeInquiry, 0)
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Running, next: &draft{stage: stageBalance, keep: l.Bytes(), steps: []step{
		sent(PhaseBalance, d.Options(l.PDOL)),
		sent(PhaseBalance, d.GenerateAC(pboc.AAC, l.CDOL1)),
	}}}, nil
}

func hearReturnProof(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
		return m.stalled(o, h), nil
	}
	x, _, err := m.heardOnline(ctx, o, h, keep)
	var seen issuing.Counters
	if err == nil {
		seen, err = m.cashCounters(ctx, x)
	}
	return m.balanceProven(ctx, o, seen, err, workRemove)
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
	gone := h.refusedWith(iso7816.SWFileNotFound) || h.refusedWith(desfire.NoApplication.SW())
	switch {
	case gone && len(o.data) > 0:
		return m.gone(o)
	case gone:
		return missing, nil
	case !h.complete():
		return m.stalled(o, h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	t, err := m.talkWith(ctx, o, h)
	if err != nil {
		return o.disproved(err)
	}
	st, say := stageBalance, getValue()
	if t.Key == desfire.CanteenMaster {
		next, err := m.say(ctx, t, stageLock, PhaseBalance, setRights(o.CardKind, false)...)
		return verdict{state: Running, next: next}, err
	}
	next, err := m.say(ctx, t, st, PhaseBalance, say)
	return verdict{state: Running, next: next}, err
}

// hearOpened goes on with the top-up host's key.
func hearOpened(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
		return m.stalled(o, h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	if f, err := desfire.ParseFileSettings(data); err != nil || f.Access != rightsOf(o.CardKind, false) {
		return unproven(o), nil
	}
	return verdict{state: Running, next: &draft{stage: stageAuth, steps: beginTalk(PhaseBalance, o, desfire.CanteenHost)}}, nil
}

func hearCanteenBalance(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
		return m.stalled(o, h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	seen := issuing.Counters{Balance: money.Fen(0)}
	if err == nil {
		seen.Balance = money.Fen(valueOf(data))
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
	case life == absent && (proven || !o.CardKind.Money()):
		return m.gone(o)
	case life == absent:
		return missing, nil
	case o.CardKind == issuing.Transit:
		return m.stillThere(ctx, o)
	case o.Stop:
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
	return m.goOn(ctx, o, d, k)
}

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

// packCounters codes a proof: version 1 | balance in fen 8 | online 4 | offline 4.
func packCounters(k issuing.Counters) []byte {
	b := binary.BigEndian.AppendUint64([]byte{packVersion}, uint64(k.Balance.Minor()))
	b = binary.BigEndian.AppendUint32(b, uint32(k.Online))
	return binary.BigEndian.AppendUint32(b, uint32(k.Offline))
}

func parseCounters(b []byte) (k issuing.Counters, err error) {
	if len(b) != 17 || b[0] != packVersion {
		return k, errPacked
	}
	fen := int64(binary.BigEndian.Uint64(b[1:]))
	if fen < 0 || fen > money.MaxMinor {
		return k, errPacked
	}
	k.Balance = money.Fen(fen)
	k.Online, k.Offline = int(binary.BigEndian.Uint32(b[9:])), int(binary.BigEndian.Uint32(b[13:]))
	return k, nil
}
