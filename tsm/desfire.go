package tsm

import (
	"context"
	"encoding/binary"
	"encoding/json"
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
)

// A talk is a session with a DESFire application as its scripts share it. It is
// kept sealed: the reader's random is half of the session key.
type talk struct {
	hsm.NativeScript
	Newest []byte // the last record of the log that was read; nil: it is empty
}

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
	key := desfire.CanteenHost
	if o.CardKind == issuing.Door {
		key = desfire.DoorReader
	}
	return beginTalk(p, o, key)
}

func beginTalk(p Phase, o Order, key byte) []step {
	app := application(o.CardKind).Bytes()
	return []step{
		sent(p, iso7816.Select(desfire.Name)),
		sent(p, desfire.Wrap(desfire.CmdSelect, app[:]), desfire.OK.SW()),
		sent(p, desfire.Wrap(desfire.CmdKeyVersion, []byte{key}), desfire.OK.SW()),
		sent(p, desfire.Wrap(desfire.CmdAuthAES, []byte{key}), desfire.More.SW()),
	}
}

// talk takes up an authentication that the card has answered with its token.
func (m *Manager) talk(ctx context.Context, o Order, h heard, uid []byte) (t talk, err error) {
	version, token, key := h.answers[2].Data, h.answers[3].Data, h.steps[3].plain.Data
	if len(uid) != len(t.UID) || len(version) != 1 || len(token) != 16 {
		return t, errProof
	}
	t.CardApp = hsm.CardApp{UID: desfire.UID(uid), App: application(o.CardKind), Key: key[0], Version: version[0]}
	t.Token = token
	if err := m.hsm.Random(ctx, t.RndA[:]); err != nil {
		return t, fmt.Errorf("drawing a reader's random: %w", err)
	}
	return t, nil
}

// say makes the script of the next commands in a session. Only the last may
// have data in its answer.
func (m *Manager) say(ctx context.Context, t talk, st stage, p Phase, next ...hsm.Native) (*draft, error) {
	first := len(t.Commands) + 1
	if len(t.Answers) == 0 {
		first = 0 // the reader's proof
	}
	t.Commands = append(t.Commands, next...)
	wire, _, err := m.hsm.RunNative(ctx, t.NativeScript)
	if err != nil {
		return nil, proofOf(err)
	}
	d := &draft{stage: st}
	for i := first; i < len(wire); i++ {
		frames := 1
		if i > 0 {
			frames = framesOf(t.Commands[i-1])
		}
		for n := range frames {
			c, expect := wire[i], desfire.OK.SW()
			if n > 0 {
				c = desfire.Wrap(desfire.CmdMore, nil)
			}
			if n < frames-1 {
				expect = desfire.More.SW()
			}
			d.steps = append(d.steps, sent(p, c, expect))
		}
	}
	body, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("keeping a session: %w", err)
	}
	if d.keep, err = m.hsm.Seal(ctx, body); err != nil {
		return nil, fmt.Errorf("sealing a session: %w", err)
	}
	return d, nil
}

// framesOf is in how many frames the answer to a command comes.
func framesOf(c hsm.Native) int {
	n := c.Answer + 8 // with a MAC
	if c.In == desfire.Enciphered {
		n = (c.Answer + 4 + 15) / 16 * 16 // with a checksum, in blocks
	}
	return (n + desfire.MaxAnswerFrame - 1) / desfire.MaxAnswerFrame
}

// listen reads the answers to a complete script of say and gives the data of
// the last command's.
func (m *Manager) listen(ctx context.Context, o Order, h heard, keep []byte) (t talk, last []byte, err error) {
	body, err := m.hsm.Unseal(ctx, keep)
	if err != nil {
		return t, nil, fmt.Errorf("session of order %s: %w", o.ID, err)
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return t, nil, fmt.Errorf("session of order %s: %w", o.ID, errPacked)
	}
	left := h.answers
	take := func(n int) (all []byte) {
		for ; n > 0 && len(left) > 0; n-- {
			all, left = append(all, left[0].Data...), left[1:]
		}
		return all
	}
	if len(t.Answers) == 0 {
		t.Answers = append(t.Answers, take(1))
	}
	for len(t.Answers) <= len(t.Commands) {
		t.Answers = append(t.Answers, take(framesOf(t.Commands[len(t.Answers)-1])))
	}
	_, data, err := m.hsm.RunNative(ctx, t.NativeScript)
	if err != nil {
		return t, nil, proofOf(err)
	}
	return t, data[len(data)-1], nil
}

// The commands that the house says.
func getValue() hsm.Native {
	return hsm.Native{Cmd: desfire.CmdGetValue, Header: []byte{desfire.CanteenValue}, Answer: 4, In: desfire.Enciphered}
}

func fileSettings(file byte, n int) hsm.Native {
	return hsm.Native{Cmd: desfire.CmdFileSettings, Header: []byte{file}, Answer: n}
}

// Lengths of file settings.
const (
	dataSettings   = 7
	valueSettings  = 17
	recordSettings = 13
)

// part is the header of commands for part of a file: number 1 | offset 3 |
// length 3, or of records how many to leave out and to read.
func part(file byte, n int) []byte {
	return []byte{file, 0, 0, 0, byte(n), byte(n >> 8), byte(n >> 16)}
}

func valueOf(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }

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
	c := getValue()
	if o.CardKind == issuing.Door {
		c = hsm.Native{Cmd: desfire.CmdReadData, Header: part(desfire.DoorCredential, desfire.CredentialLen), Answer: desfire.CredentialLen, In: desfire.Enciphered}
	}
	next, err := m.say(ctx, t, stageProven, PhaseAuthenticate, c)
	return verdict{state: Running, next: next}, err
}

// hearApplication ends the read-back.
func hearApplication(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
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
	} else if err == nil && valueOf(data) != 0 {
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
	if h.refusedWith(desfire.NoApplication.SW()) && !bound {
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
	return m.goOnTalking(ctx, o, t, stageLog, fileSettings(desfire.CanteenLog, recordSettings))
}

// talkWith is talk with the card in the element it was written into.
func (m *Manager) talkWith(ctx context.Context, o Order, h heard) (talk, error) {
	var uid []byte
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		uid, _, err = placeOf(q, o.Card)
		return err
	})
	if err != nil {
		return talk{}, fmt.Errorf("element of card %s: %w", o.Card.Masked(), err)
	}
	return m.talk(ctx, o, h, uid)
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

func (m *Manager) goOnTalking(ctx context.Context, o Order, t talk, st stage, c ...hsm.Native) (verdict, error) {
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
	return m.goOnTalking(ctx, o, t, stageRecords, hsm.Native{Cmd: desfire.CmdReadRecords, Header: part(desfire.CanteenLog, f.Now),
		Answer: f.Now * desfire.LogLen, In: desfire.Enciphered})
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
func (m *Manager) logRead(ctx context.Context, o Order, t talk, records []byte) (verdict, error) {
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
func (m *Manager) askValue(ctx context.Context, o Order, t talk, records []byte) (verdict, error) {
	if n := len(records); n > 0 {
		t.Newest = records[n-desfire.LogLen:]
	}
	return m.goOnTalking(ctx, o, t, stageLoad, getValue())
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
	l := load{card: o.Card, order: o.ID, fen: o.Amount.Minor(), balance: valueOf(data), stamp: purse.StampOf(m.store.Now()), outcome: loadOpen, mark: t.Newest}
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
	credit := binary.LittleEndian.AppendUint32(nil, uint32(l.fen))
	v, err := m.goOnTalking(ctx, o, t, stageCredit,
		hsm.Native{Cmd: desfire.CmdCredit, Header: []byte{desfire.CanteenValue}, Data: credit, Mode: desfire.Enciphered},
		hsm.Native{Cmd: desfire.CmdWriteRecord, Header: part(desfire.CanteenLog, desfire.LogLen), Data: l.line().Bytes(), Mode: desfire.Enciphered},
		hsm.Native{Cmd: desfire.CmdCommit}, getValue())
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
	if !h.complete() {
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
	if valueOf(data) != l.balance+l.fen {
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
