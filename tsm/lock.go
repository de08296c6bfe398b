package tsm

import (
	"context"
	"encoding/binary"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/globalplatform"
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

// The lock of a bank card is the security domain's: its instance is there, but
// nobody can select it.
var channelLockCourse = course{
	open: func(m *Manager, ctx context.Context, _ Order) (draft, error) { return m.openChannel(ctx, workLook) },
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
		return m.openChannel(ctx, workLook)
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
	case h.refusedWith(iso7816.SWFileNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.complete():
		return again(h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case !h.answers[1].SW.OK():
		return locked(o), nil
	}
	if _, err := coupon.Parse(h.answers[1].Data); err != nil {
		return unproven(o), nil
	}
	next, err := m.openChannel(ctx, workLook)
	return verdict{state: Running, next: &next, effect: func(tx *db.Tx) error { return keepCoupon(tx, o.Card, h.answers[1].Data) }}, err
}

// foundToLock goes on after a look at the instance.
func (m *Manager) foundToLock(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, life byte) (verdict, error) {
	isLocked := life&globalplatform.LockBit != 0
	switch {
	case d.Shared && o.Kind == Block:
		k.work |= workTakeOut
	case d.Shared && life == absent:
		k.work |= workInstall | workPutBack
	case d.Shared:
		k.work |= workPutBack
	case life == absent:
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
	life, err := lifeOf(h.answers[len(h.answers)-1].Data, d.Instance)
	if err != nil || life == absent || (life&globalplatform.LockBit != 0) != (o.Kind == Block) {
		return unproven(o), nil
	}
	return locked(o), nil
}

// sharedDossier is what names a card within an instance that it shares. A
// coupon that a block has taken out is in it as it was then.
func (m *Manager) sharedDossier(ctx context.Context, o Order) (issuing.Personalisation, error) {
	d, err := m.bank.Personalise(ctx, o.Card)
	if err != nil || o.CardKind != issuing.Coupon || o.Kind != Unblock {
		return d, err
	}
	var kept []byte
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		_, kept, err = placeOf(q, o.Card)
		return err
	})
	for i := range d.Groups {
		if d.Groups[i].ID == coupon.DGICoupon && len(kept) > 0 {
			d.Groups[i].Data = kept
		}
	}
	return d, err
}

// The lock of a DESFire application is in the rights of its file: while it is
// blocked no key but the master may do anything with it.
var desfireLockCourse = course{
	open: openRights,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageAuth: hearMaster, stageLock: hearRights,
	},
}

func openRights(_ *Manager, _ context.Context, o Order) (draft, error) {
	return draft{stage: stageAuth, steps: beginTalk(PhaseAuthenticate, o, desfire.CanteenMaster)}, nil
}

// mainFile is the file that a card of the kind is about, as it is issued.
func mainFile(k issuing.Kind) desfire.FileSettings {
	if k == issuing.Door {
		return desfire.Door([2]desfire.SealedKey{}, desfire.Credential{}).Files[0].Settings
	}
	return desfire.Canteen([3]desfire.SealedKey{}).Files[0].Settings
}

// rightsOf are those of the main file, open or blocked.
func rightsOf(k issuing.Kind, blocked bool) desfire.Access {
	a := mainFile(k).Access
	if blocked {
		return desfire.Rights(desfire.Never, desfire.Never, desfire.Never, a.Change())
	}
	return a
}

// setRights changes them and reads them back.
func setRights(k issuing.Kind, blocked bool) []hsm.Native {
	f, n := mainFile(k), valueSettings
	if k == issuing.Door {
		n = dataSettings
	}
	data := binary.LittleEndian.AppendUint16([]byte{byte(f.Mode)}, uint16(rightsOf(k, blocked)))
	return []hsm.Native{{Cmd: desfire.CmdChangeFile, Header: []byte{0}, Data: data, Mode: desfire.Enciphered}, fileSettings(0, n)}
}

func hearMaster(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.refusedWith(iso7816.SWFileNotFound), h.refusedWith(desfire.NoApplication.SW()):
		return verdict{state: Failed, why: NotThere}, nil
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.complete():
		return again(h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	t, err := m.talkWith(ctx, o, h)
	if err != nil {
		return o.disproved(err)
	}
	next, err := m.say(ctx, t, stageLock, PhaseLock, setRights(o.CardKind, o.Kind == Block)...)
	return verdict{state: Running, next: next}, err
}

// hearRights reads the rights as the card has them now, under its MAC.
func hearRights(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
		if h.refused() && o.Stalled+1 >= maxStalled {
			return verdict{state: Failed, why: CardRefused, refuse: true}, nil
		}
		return lost(h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	if f, err := desfire.ParseFileSettings(data); err != nil || f.Access != rightsOf(o.CardKind, o.Kind == Block) {
		return unproven(o), nil
	}
	return locked(o), nil
}
