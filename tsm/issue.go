package tsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/coupon"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm/script"
)

var issueCourse = course{
	open: openIssue,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
		stageLoad: hearLoad, stageCredit: hearCredit, stageProve: hearProve,
	},
	end: endIssue,
}

var adoptCourse = course{
	open: func(m *Manager, ctx context.Context, o Order) (draft, error) { return m.openChannel(ctx, o, workKeys) },
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageOpen: hearFactory, stageWork: hearWork,
	},
}

// endIssue gives a card up that never came to life. One that lives keeps its
// number; only the money that was to follow it stays where it was.
func endIssue(tx *db.Tx, o Order) error {
	if o.Kind != Issue {
		return nil
	}
	c, err := issuing.Get(tx, o.Card)
	if err != nil {
		return err
	}
	born := c.State != issuing.Ordered && c.State != issuing.Personalising
	if !o.Amount.IsZero() {
		if !born {
			o.data = nil // not a load of the bank's yet
		}
		if err := endLoad(tx, o); err != nil {
			return err
		}
	}
	if born {
		return nil
	}
	return issuing.Abandon(tx, o.Card, string(o.Why))
}

// passToBank turns the hold on the money that goes with a new bank card into a
// load order of its bank.
func passToBank(tx *db.Tx, o Order) ([]byte, error) {
	if _, err := ledger.Void(tx, holdOf(o), "pass:"+o.ID); err != nil {
		return nil, err
	}
	l, err := issuing.PlaceLoad(tx, o.ID, o.Card, o.Amount)
	return []byte(l.ID), err
}

// openIssue seals what the element will be personalised with, at the first
// session, and begins: with everything when the element has seen nothing of
// this order, with a look at it otherwise, and where other cards may have made
// the instance.
func openIssue(m *Manager, ctx context.Context, o Order) (draft, error) {
	if o.Session > 0 {
		switch alive, err := m.isAlive(ctx, o); {
		case err != nil:
			return draft{}, err
		case alive:
			return openLoad(m, ctx, o)
		}
		return m.openChannel(ctx, o, workLook)
	}
	dossier, err := m.newDossier(ctx, o)
	if err != nil {
		return draft{}, err
	}
	begin := workAll
	if dossier.Shared {
		begin = workLook
	}
	d, err := m.openChannel(ctx, o, begin)
	if err != nil {
		return draft{}, err
	}
	if d.data, err = m.hsm.Seal(ctx, dossier.Bytes()); err != nil {
		return draft{}, fmt.Errorf("sealing personalisation data: %w", err)
	}
	return d, nil
}

// isAlive tells whether an issue has proved its card, so that only its money is
// left.
func (m *Manager) isAlive(ctx context.Context, o Order) (bool, error) {
	if o.Kind != Issue || o.Amount.IsZero() {
		return false, nil
	}
	c, err := m.cardOf(ctx, o)
	return c.State == issuing.Active, err
}

// newDossier draws up what a new card or SAM is to hold.
func (m *Manager) newDossier(ctx context.Context, o Order) (issuing.Personalisation, error) {
	if o.Kind == SAM {
		s, err := parseSAMData(o.data)
		return samDossier(s), err
	}
	return m.bank.Personalise(ctx, o.Card)
}

// dossierOf is what a session of the order works with: the sealed data of an
// issue, of other orders what names the card, nothing of an adoption.
func (m *Manager) dossierOf(ctx context.Context, o Order) (issuing.Personalisation, error) {
	switch o.Kind {
	case Adopt:
		return issuing.Personalisation{}, nil
	case Issue, SAM:
		b, err := m.hsm.Unseal(ctx, o.data)
		if err != nil {
			return issuing.Personalisation{}, fmt.Errorf("personalisation data of order %s: %w", o.ID, err)
		}
		return issuing.ParsePersonalisation(b)
	}
	if o.CardKind.Shared() {
		return m.sharedDossier(ctx, o)
	}
	c, err := m.cardOf(ctx, o)
	return issuing.Personalisation{Instance: globalplatform.AID(c.Instance), Card: o.Card}, err
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

func (m *Manager) cardOf(ctx context.Context, o Order) (c issuing.Card, err error) {
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		c, err = issuing.Get(q, o.Card)
		return err
	})
	return c, err
}

// finished reads the last script of a session.
func (m *Manager) finished(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, h heard) (verdict, error) {
	switch {
	case o.Kind == Adopt:
		return m.adopted(ctx, o, k, h)
	case o.Kind == Block || o.Kind == Unblock:
		return m.lockConfirmed(ctx, o, d, h)
	case o.Kind == Delete && k.work&workUnlock != 0:
		return m.unlockedToProve(ctx, o)
	case o.Kind == Delete:
		return m.gone(o)
	case k.work&workRead == 0:
		return stopped(o), nil // the traces of an issue that was given up are gone
	case o.Kind == SAM:
		return m.samWritten(ctx, o, d, h)
	}
	return m.written(ctx, o, d, k, h)
}

// tail is what follows the channel in plain: proof that the work was done.
func (m *Manager) tail(o Order, d issuing.Personalisation, k channelKeep) []step {
	switch {
	case k.work&workKeys != 0:
		return []step{
			sent(PhaseReadBack, iso7816.Select([]byte(globalplatform.IssuerDomain))),
			sent(PhaseReadBack, globalplatform.InitializeUpdate(0, k.fresh)),
		}
	case k.work&workTakeOut != 0 && o.Kind == Block:
		return readCoupon(PhaseLock, d, iso7816.SWReferenceNotFound)
	case k.work&workPutBack != 0:
		return readCoupon(PhaseLock, d)
	case k.work&workRead == 0:
		return nil
	case o.Kind == SAM:
		return []step{
			sent(PhaseReadBack, iso7816.Select([]byte(d.Instance))),
			sent(PhaseReadBack, iso7816.ReadBinarySFI(purse.SFISAMTerminal, 0, len(purse.Terminal{}))),
		}
	case o.CardKind.Bank():
		return m.bankProofs(d, k)
	case o.CardKind == issuing.Canteen || o.CardKind == issuing.Door:
		return openApplication(PhaseReadBack, o)
	case o.CardKind == issuing.Coupon:
		return readCoupon(PhaseReadBack, d)
	}
	return append([]step{sent(PhaseReadBack, iso7816.Select([]byte(d.Instance)))}, proofs(PhaseReadBack, k.term)...)
}

// groupOf finds a group of a dossier.
func groupOf(d issuing.Personalisation, id uint16) ([]byte, bool) {
	for _, g := range d.Groups {
		if g.ID == id {
			return g.Data, true
		}
	}
	return nil, false
}

// written holds the read-back of a new card against what was ordered. Anything
// else under this name is some older card: it is removed, or in a shared
// instance written over, and the issue begins again.
func (m *Manager) written(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, h heard) (verdict, error) {
	n := len(m.tail(o, d, k))
	back := heard{Steps: h.Steps[len(h.Steps)-n:], Answers: h.Answers[len(h.Answers)-n:]}
	var seen issuing.Counters
	var err error
	switch {
	case o.CardKind.Bank():
		seen, err = m.bankProven(ctx, o, d, k, back)
	case o.CardKind == issuing.Canteen || o.CardKind == issuing.Door:
		return m.proveApplication(ctx, o, k, back)
	case o.CardKind == issuing.Coupon:
		seen, err = noCounters, couponProven(d, back.Answers[1].Data)
	default:
		seen, err = m.purseProven(ctx, d, k, back)
	}
	switch {
	case errors.Is(err, errProof):
		return m.writeAgain(ctx, o, d)
	case err != nil:
		return verdict{}, err
	}
	uid, err := k.uid()
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	return m.alive(ctx, o, uid, seen)
}

// writeAgain begins an issue anew whose card did not prove itself.
func (m *Manager) writeAgain(ctx context.Context, o Order, d issuing.Personalisation) (verdict, error) {
	again := workRemove | workAll
	if d.Shared {
		again = workWrite
	}
	next, err := m.openChannel(ctx, o, again)
	if err != nil {
		return verdict{}, err
	}
	v := m.stalled(o, heard{Steps: []step{sent(PhaseReadBack, iso7816.Command{})}, Answers: []iso7816.Response{{SW: iso7816.SWUnknown}}})
	v.why = WrongProof
	if v.set == nil && !v.desk {
		v.state, v.next = Running, &next
	}
	return v, nil
}

// alive is the verdict on a card that proved itself: it is active, and one that
// takes the place of another goes on to get its money.
func (m *Manager) alive(ctx context.Context, o Order, uid []byte, seen issuing.Counters) (verdict, error) {
	v := verdict{state: Done, effect: func(tx *db.Tx) error {
		seen.By, seen.At = o.ID, tx.Now()
		if err := keepPlace(tx, o.Card, uid); err != nil {
			return err
		}
		if err := issuing.Activate(tx, o.Card, seen); err != nil {
			return err
		}
		return replaced(tx, o)
	}}
	if o.Amount.IsZero() {
		return v, nil
	}
	next, err := openLoad(m, ctx, o)
	if err != nil {
		return verdict{}, err
	}
	var load []byte
	if activate := v.effect; o.CardKind.Bank() {
		v.effect = func(tx *db.Tx) error {
			if err := activate(tx); err != nil {
				return err
			}
			load, err = passToBank(tx, o)
			return err
		}
	}
	v.state, v.next, v.set = Running, &next, func(o *Order) { o.data = load }
	return v, nil
}

// noCounters is what a card without money has.
var noCounters = issuing.Counters{Balance: money.Fen(0), Online: -1, Offline: -1}

// purseProven checks number, empty balance, and a MAC1 that shows that the load
// key arrived.
func (m *Manager) purseProven(ctx context.Context, d issuing.Personalisation, k channelKeep, h heard) (issuing.Counters, error) {
	seen, err := m.proven(ctx, d.Card.Purse(), k.term, h.Answers[1], h.Answers[2])
	if err == nil && (!holds(h.Answers[0], d.Card.Purse()) || !seen.Balance.IsZero()) {
		err = errProof
	}
	return seen, err
}

// couponProven checks that the card lists the coupon, unused.
func couponProven(d issuing.Personalisation, answer []byte) error {
	offer, _ := groupOf(d, coupon.DGICoupon)
	if len(offer) == 0 || !bytes.Equal(offer, answer) {
		return errProof
	}
	return nil
}

// proven reads the answers to proofs: counters, the balance under MAC1.
func (m *Manager) proven(ctx context.Context, n purse.Number, t purse.Terminal, buy, load iso7816.Response) (issuing.Counters, error) {
	p, err := purse.ParseInitPurchaseAnswer(buy.Data)
	if err != nil {
		return issuing.Counters{}, fmt.Errorf("%w: %w", errProof, err)
	}
	l, err := purse.ParseInitLoadAnswer(load.Data)
	if err != nil {
		return issuing.Counters{}, fmt.Errorf("%w: %w", errProof, err)
	}
	if err := m.checkMAC1(ctx, n, l, 0, t); err != nil {
		return issuing.Counters{}, err
	}
	return issuing.Counters{Balance: money.Fen(int64(l.Balance)), Online: int(l.Seq), Offline: int(p.Seq)}, nil
}

// holds tells whether the answer to SELECT is that of the card with number n:
// its FCI carries file 15.
func holds(r iso7816.Response, n purse.Number) bool {
	f, err := purse.ParseFCI(r.Data)
	if err != nil {
		return false
	}
	p, err := purse.ParseFile15(f.Public)
	return err == nil && p.Number == n
}

// authorise checks MAC1 and makes MAC2: the order to the card to take money.
func (m *Manager) authorise(ctx context.Context, l load, a purse.InitLoadAnswer) ([4]byte, error) {
	mac2, err := m.hsm.AuthoriseLoad(ctx, hsm.Load{Card: l.card.Purse(), Answer: a, Type: loadType, Fen: uint32(l.fen), Terminal: l.terminal, At: l.stamp})
	return mac2, proofOf(err)
}

// checkMAC1 checks what a card said about its balance and load sequence when it
// was asked with fen and terminal number t.
func (m *Manager) checkMAC1(ctx context.Context, n purse.Number, a purse.InitLoadAnswer, fen uint32, t purse.Terminal) error {
	return proofOf(m.hsm.CheckMAC1(ctx, hsm.Load{Card: n, Answer: a, Type: loadType, Fen: fen, Terminal: t}))
}

// checkTAC checks the card's proof that it took the money of l.
func (m *Manager) checkTAC(ctx context.Context, l load, tac [4]byte) error {
	return proofOf(m.hsm.CheckLoadTAC(ctx, hsm.LoadProof{Card: l.card.Purse(), Balance: uint32(l.balance + l.fen), Seq: uint16(l.seq),
		Fen: uint32(l.fen), Type: loadType, Terminal: l.terminal, At: l.stamp, TAC: tac}))
}

// protect puts the MAC under the card's maintenance key onto a command.
func (m *Manager) protect(ctx context.Context, n purse.Number, challenge []byte, c iso7816.Command) (iso7816.Command, error) {
	return m.hsm.Protect(ctx, n, 0, challenge, c)
}

func (m *Manager) samWritten(_ context.Context, o Order, d issuing.Personalisation, h heard) (verdict, error) {
	if got := h.Answers[len(h.Answers)-1].Data; string(got) != string(d.Groups[1].Data) {
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	}
	return verdict{state: Done}, nil
}

// hearFactory sees which keys the element has: those of the factory are
// replaced, the band's own mean that an earlier session did it.
func hearFactory(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return again(h), nil
	}
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	k.answer = h.Answers[1].Data
	a, err := globalplatform.ParseInitAnswer(k.answer)
	if err != nil {
		return unproven(o), nil
	}
	if a.Version != globalplatform.FactoryVersion {
		return m.adoptedBy(ctx, o, k.host, k.answer)
	}
	return m.goOn(ctx, o, issuing.Personalisation{}, k)
}

// unproven is the verdict on a proof that does not verify: asked again, and in
// the end by people.
func unproven(o Order) verdict {
	return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}
}

// adopted checks the cryptogram that the element made with its new keys.
func (m *Manager) adopted(ctx context.Context, o Order, k channelKeep, h heard) (verdict, error) {
	return m.adoptedBy(ctx, o, k.fresh, h.Answers[len(h.Answers)-1].Data)
}

func (m *Manager) adoptedBy(ctx context.Context, o Order, host [8]byte, answer []byte) (verdict, error) {
	_, err := m.wrap(ctx, channelKeep{host: host, answer: answer}, issuing.Personalisation{}, nil)
	switch {
	case errors.Is(err, errProof):
		return unproven(o), nil
	case err != nil:
		return verdict{}, err
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error { return setAdopted(tx, o.Band) }}, nil
}

// openLoad begins a session that loads money, in the way of the order's card.
func openLoad(m *Manager, ctx context.Context, o Order) (draft, error) {
	switch {
	case o.CardKind.Bank():
		return openCash(m, ctx, o)
	case o.CardKind == issuing.Canteen:
		return openCanteen(m, ctx, o)
	}
	return openTopUp(m, ctx, o)
}

// samDossier is a gate's PSAM: its number, its terminal number, and the root of
// the purchase keys, undispersed: the PSAM disperses it for every card it meets.
func samDossier(s SAMData) issuing.Personalisation {
	public := append(s.Serial[:len(s.Serial):len(s.Serial)], 0x01, 0x01, 0x00, 0x00) // version, key set, reserved
	return issuing.Personalisation{
		LoadFile: samLoadFile, Module: samModule, Instance: samModule,
		Groups: []globalplatform.DGI{
			{ID: purse.DGIPublic, Data: public},
			{ID: purse.DGIHolder, Data: s.Terminal[:]},
		},
		Keys: []hsm.KeyRef{{DGI: purse.DGIKeyFirst, Kind: purse.DPK, Index: keyIndex, Label: hsm.LabelDPK}},
	}
}

// What a PSAM is made of, in the catalogue of every element of this house; an
// unregistered name (ISO 7816-5, 8.3), because it never leaves its gate.
const (
	samLoadFile globalplatform.AID = "\xF0koala\x02"
	samModule   globalplatform.AID = "\xF0koala\x02\x01"
)

func (s SAMData) bytes() []byte {
	return append(s.Serial[:len(s.Serial):len(s.Serial)], s.Terminal[:]...)
}

func parseSAMData(b []byte) (s SAMData, err error) {
	if len(b) != len(s.Serial)+len(s.Terminal) {
		return s, script.ErrStored
	}
	copy(s.Serial[:], b)
	copy(s.Terminal[:], b[len(s.Serial):])
	return s, nil
}
