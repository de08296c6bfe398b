package tsm

import (
	"context"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm/native"
)

// application is the one that a card of the kind is.
func application(k issuing.Kind) desfire.AID {
	if k == issuing.Door {
		return desfire.DoorAID
	}
	return desfire.CanteenAID
}

// openApplication selects the application of the order's card and begins to
// authenticate, with the key that shows most: of a canteen the top-up host's,
// of a door the doors'.
func openApplication(p Phase, o Order) []step {
	if o.CardKind == issuing.Door {
		return beginTalk(p, o, desfire.DoorReader)
	}
	return beginTalk(p, o, desfire.CanteenHost)
}

func beginTalk(p Phase, o Order, key byte) []step {
	name := o.instance
	if len(name) == 0 { // an order of before each firm had its own
		name = desfire.Name
	}
	return native.Begin(string(p), name, application(o.CardKind), key)
}

// talk takes up an authentication that the card has answered with its token.
func (m *Manager) talk(ctx context.Context, o Order, h heard, uid []byte) (native.Talk, error) {
	var random [16]byte
	if err := m.hsm.Random(ctx, random[:]); err != nil {
		return native.Talk{}, fmt.Errorf("drawing a reader's random: %w", err)
	}
	t, err := native.Open(uid, application(o.CardKind), random, h)
	return t, proofOf(err)
}

// talkWith is talk with the card in the element it was written into.
func (m *Manager) talkWith(ctx context.Context, o Order, h heard) (native.Talk, error) {
	var uid []byte
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		uid, _, err = placeOf(q, o.Card)
		return err
	})
	if err != nil {
		return native.Talk{}, fmt.Errorf("element of card %s: %w", o.Card.Masked(), err)
	}
	return m.talk(ctx, o, h, uid)
}

// say makes the script of the next commands in a session. Only the last may
// have data in its answer.
func (m *Manager) say(ctx context.Context, t native.Talk, st stage, p Phase, next ...hsm.Native) (*draft, error) {
	t.Commands = append(t.Commands, next...)
	wire, _, err := m.hsm.RunNative(ctx, t.NativeScript)
	if err != nil {
		return nil, proofOf(err)
	}
	keep, err := m.hsm.Seal(ctx, t.Bytes())
	if err != nil {
		return nil, fmt.Errorf("sealing a session: %w", err)
	}
	return &draft{stage: st, steps: t.Steps(string(p), wire), keep: keep}, nil
}

// listen reads the answers to a complete script of say and gives the data of
// the last command's.
func (m *Manager) listen(ctx context.Context, o Order, h heard, keep []byte) (t native.Talk, last []byte, err error) {
	body, err := m.hsm.Unseal(ctx, keep)
	if err == nil {
		t, err = native.Parse(body)
	}
	if err != nil {
		return t, nil, fmt.Errorf("session of order %s: %w", o.ID, err)
	}
	t.Hear(h.Answers)
	_, data, err := m.hsm.RunNative(ctx, t.NativeScript)
	if err != nil {
		return t, nil, proofOf(err)
	}
	return t, data[len(data)-1], nil
}

// proveApplication goes on with the read-back of a new card: its value, which
// must be none, or its credential.
func (m *Manager) proveApplication(ctx context.Context, o Order, k channelKeep, h heard) (verdict, error) {
	uid, err := k.uid()
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	t, err := m.talk(ctx, o, h, uid)
	if err != nil {
		return verdict{}, err
	}
	c := native.GetValue()
	if o.CardKind == issuing.Door {
		c = native.ReadCredential()
	}
	next, err := m.say(ctx, t, stageProven, PhaseAuthenticate, c)
	return verdict{state: Running, next: next}, err
}

// hearApplication ends the read-back.
func hearApplication(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	d, err := m.dossierOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	t, data, err := m.listen(ctx, o, h, keep)
	seen := noCounters
	if err == nil && o.CardKind == issuing.Door {
		err = credentialProven(d, data)
	} else if err == nil && native.Value(data) != 0 {
		err = errProof
	} else if err == nil {
		seen.Online = 0
	}
	switch {
	case errors.Is(err, errProof):
		return m.writeAgain(ctx, o, d)
	case err != nil:
		return verdict{}, err
	}
	return m.alive(ctx, o, t.UID[:], seen)
}

// credentialProven checks that a door card says what was ordered, signed.
func credentialProven(d issuing.Personalisation, data []byte) error {
	got, err := desfire.ParseCredential(data)
	if err != nil || got.MAC == [8]byte{} {
		return errProof
	}
	got.MAC = [8]byte{}
	for _, k := range d.Keys {
		app, err := desfire.ParseApplication(k.Data)
		if k.Form != hsm.AESApp || err != nil || len(app.Files) == 0 {
			continue
		}
		if want, err := desfire.ParseCredential(app.Files[0].Content); err == nil && want == got {
			return nil
		}
	}
	return errProof
}

var canteenCourse = course{open: openCanteen, hear: canteenHear, end: endLoad}

var canteenHear = map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
	stageAuth: hearCanteen, stageLog: hearLogSize, stageRecords: hearRecords, stageLoad: hearValue, stageCredit: hearCredited,
}

// openCanteen begins a session of the top-up host with the card. Every session
// reads the log first: what an earlier script did stands there.
func openCanteen(_ *Manager, _ context.Context, o Order) (draft, error) {
	return draft{stage: stageAuth, steps: openApplication(PhaseAuthenticate, o)}, nil
}

// unheard is the verdict on a script of the load that did not get through; a
// zero verdict is none.
func (o Order) unheard(h heard) verdict {
	bound := o.seq >= 0
	if h.RefusedWith(desfire.NoApplication.SW()) && !bound {
		return verdict{state: Failed, why: NotThere}
	}
	return o.selected(h, bound)
}

func hearCanteen(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	if v := o.unheard(h); v.state != "" {
		return v, nil
	}
	t, err := m.talkWith(ctx, o, h)
	if err != nil {
		return o.disproved(err)
	}
	return m.goOnTalking(ctx, o, t, stageLog, native.LogSize())
}

// disproved is the verdict on a session in which the card did not prove itself.
// Another session may do better: a script that an agent runs twice leaves the
// card behind the house's back.
func (o Order) disproved(err error) (verdict, error) {
	switch {
	case !errors.Is(err, errProof):
		return verdict{}, err
	case o.seq >= 0 || o.Kind != TopUp:
		return unproven(o), nil
	case o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: WrongProof, refuse: true}, nil
	}
	return verdict{state: Running, why: WrongProof, refuse: true}, nil
}

func (m *Manager) goOnTalking(ctx context.Context, o Order, t native.Talk, st stage, c ...hsm.Native) (verdict, error) {
	p := PhaseAuthenticate
	if st == stageCredit {
		p = PhaseCredit
	}
	next, err := m.say(ctx, t, st, p, c...)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{state: Running, next: next}
	if o.seq >= 0 {
		v.state = Unconfirmed
	}
	return v, nil
}

func hearLogSize(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if v := o.unheard(h); v.state != "" {
		return v, nil
	}
	t, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	f, err := desfire.ParseFileSettings(data)
	switch {
	case err != nil || f.Size != desfire.LogLen || f.Now >= desfire.CanteenLogs:
		return o.disproved(errProof)
	case f.Now == 0:
		return m.logRead(ctx, o, t, nil)
	}
	return m.goOnTalking(ctx, o, t, stageRecords, native.ReadLog(f.Now))
}

func hearRecords(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if v := o.unheard(h); v.state != "" {
		return v, nil
	}
	t, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	return m.logRead(ctx, o, t, data)
}

// houseTill is the till number of the house in a canteen card's log.
var houseTill = desfire.Till{0x80, 0x01, 0x00, 0x00}

// line is the record that a load leaves in the card's log. Its number, which
// counts the card's loads, and its moment make it like no other.
func (l load) line() desfire.Log {
	at := l.stamp.Bytes()
	return desfire.Log{Fen: -int32(l.fen), Till: houseTill, At: desfire.Stamp(at), Seq: uint16(l.seq)}
}

// logRead decides by the card's log, oldest record first, what became of a load
// that is bound: its own line is the proof that it happened. No line proves that
// it did not only if the log reaches back to what stood last in it before, or
// has not gone round. What was out is dead with the session it was made for.
func (m *Manager) logRead(ctx context.Context, o Order, t native.Talk, records []byte) (verdict, error) {
	if o.seq < 0 {
		return m.askValue(ctx, o, t, records)
	}
	l, err := m.loadOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	reaches := len(l.mark) == 0 && len(records) < (desfire.CanteenLogs-1)*desfire.LogLen
	for rest := records; len(rest) > 0; rest = rest[desfire.LogLen:] {
		one := rest[:desfire.LogLen]
		if string(one) == string(l.line().Bytes()) {
			return canteenPaid(o, l), nil
		}
		reaches = reaches || string(one) == string(l.mark)
	}
	if !reaches {
		return verdict{state: Unconfirmed, why: OtherLoad, desk: true}, nil
	}
	free := o
	free.seq = -1
	v := verdict{state: Cancelled, why: Given}
	switch {
	case o.Stop:
	case o.Stalled >= maxStalled:
		v.state, v.why = Failed, KeepsFailing
	default:
		if v, err = m.askValue(ctx, free, t, records); err != nil {
			return verdict{}, err
		}
	}
	v.effect = func(tx *db.Tx) error { return settleLoad(tx, o.Card, o.seq, o.ID, loadUnused, nil) }
	v.set = func(o *Order) { o.seq = -1 }
	return v, nil
}

// askValue asks for the balance; what stands last in the log goes along.
func (m *Manager) askValue(ctx context.Context, o Order, t native.Talk, records []byte) (verdict, error) {
	if n := len(records); n > 0 {
		t.Newest = records[n-desfire.LogLen:]
	}
	return m.goOnTalking(ctx, o, t, stageLoad, native.GetValue())
}

// hearValue binds the load to its line in the log and prepares credit, line and
// commit, which the card carries out together.
func hearValue(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if v := o.unheard(h); v.state != "" {
		return v, nil
	}
	t, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	l := load{card: o.Card, order: o.ID, fen: o.Amount.Minor(), balance: native.Value(data), stamp: purse.StampOf(m.store.Now()), outcome: loadOpen, mark: t.Newest}
	most, err := m.mostOn(ctx, o)
	switch {
	case err != nil:
		return verdict{}, err
	case l.balance+l.fen > most.Minor():
		return verdict{state: Failed, why: OverCardLimit}, nil
	}
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		l.seq, err = nextLoad(q, o.Card)
		return err
	})
	if err != nil {
		return verdict{}, err
	}
	v, err := m.goOnTalking(ctx, o, t, stageCredit, native.Credit(l.fen, l.line())...)
	if err != nil {
		return o.disproved(err)
	}
	v.effect = func(tx *db.Tx) error { return bind(tx, l) }
	v.set = func(o *Order) { o.seq = l.seq }
	return v, nil
}

// hearCredited takes the value that the card gives after the commit as proof:
// under the session's key, and only this load was in the session.
func hearCredited(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return lost(h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	if errors.Is(err, errProof) {
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	l, err := m.loadOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	if native.Value(data) != l.balance+l.fen {
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true}, nil
	}
	return canteenPaid(o, l), nil
}

// canteenPaid ends a load that is proven to be on the card.
func canteenPaid(o Order, l load) verdict {
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		line := l.line()
		if err := settleLoad(tx, l.card, l.seq, o.ID, loadPaid, line.Bytes()); err != nil {
			return fmt.Errorf("load of order %s: %w", o.ID, err)
		}
		if _, err := ledger.Capture(tx, holdOf(o), "load:"+o.ID, o.Amount, true); err != nil {
			return err
		}
		return issuing.See(tx, o.Card, issuing.Counters{Balance: money.Fen(l.balance + l.fen), Online: l.seq + 1, Offline: -1, At: tx.Now(), By: o.ID})
	}}
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

func hearMaster(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.RefusedWith(iso7816.SWFileNotFound), h.RefusedWith(desfire.NoApplication.SW()):
		return verdict{state: Failed, why: NotThere}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return again(h), nil
	}
	t, err := m.talkWith(ctx, o, h)
	if err != nil {
		return o.disproved(err)
	}
	say, p := native.SetRights(t.App, o.Kind == Block), PhaseLock
	if o.Stop { // an earlier session may have set them: only the card knows
		say, p = say[len(say)-1:], PhaseAuthenticate
	}
	next, err := m.say(ctx, t, stageLock, p, say...)
	return verdict{state: Running, next: next}, err
}

// hearRights reads the rights as the card has them now, under its MAC. An order
// that was given up ends with what they are.
func hearRights(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		if h.Refused() && o.Stalled+1 >= maxStalled {
			return verdict{state: Failed, why: CardRefused, refuse: true}, nil
		}
		return lost(h), nil
	}
	_, data, err := m.listen(ctx, o, h, keep)
	if err != nil {
		return o.disproved(err)
	}
	f, err := desfire.ParseFileSettings(data)
	app := application(o.CardKind)
	switch {
	case err == nil && f.Access == native.Rights(app, o.Kind == Block):
		return locked(o), nil
	case err == nil && o.Stop && f.Access == native.Rights(app, o.Kind != Block):
		return verdict{state: Cancelled, why: Given}, nil
	}
	return unproven(o), nil
}
