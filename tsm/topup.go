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
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// keyIndex of every purse key this house writes.
const keyIndex = 0x01

// loadType is the transaction type of a load of the transit purse.
var loadType = purse.InitLoad{Purse: purse.EP}.Type()

// A terminal number of a load begins with the house's two bytes; the other four
// are drawn for each INITIALIZE FOR LOAD. MAC1 covers them, so an answer from
// another moment cannot be shown again.
var terminalPrefix = [2]byte{0x80, 0x01}

var topUpCourse = course{
	open: openTopUp,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageLoad: hearLoad, stageCredit: hearCredit, stageProve: hearProve,
	},
	end: endLoad,
}

// holdOf names the hold on the wallet that a top-up lives on.
func holdOf(o Order) string { return "topup:" + o.ID }

// holdMoney takes the amount out of the wallet's available balance.
func holdMoney(tx *db.Tx, o Order, c issuing.Card) error {
	_, err := ledger.Authorise(tx, ledger.Hold{Ref: holdOf(o), From: walletOf(c), To: issuing.Float(o.Card),
		Amount: o.Amount, Text: "top-up of " + o.Card.Masked()})
	return err
}

// openTopUp asks the card to prepare the load; when an earlier MAC2 may be out,
// it first asks what became of that one.
func openTopUp(m *Manager, ctx context.Context, o Order) (draft, error) {
	if o.seq < 0 {
		return m.draftLoad(ctx, o)
	}
	t, err := m.challenge(ctx)
	if err != nil {
		return draft{}, err
	}
	probe := purse.InitLoad{Purse: purse.EP, Key: keyIndex, Terminal: t} // no money: shows balance and sequence under MAC1
	return draft{stage: stageProve, keep: t[:], steps: []step{
		sent(PhaseInitLoad, iso7816.Select(purse.AIDTUnion)),
		sent(PhaseProve, purse.Prove{Type: loadType, Seq: uint16(o.seq)}.Command(), iso7816.OK, iso7816.SWPurseProve),
		sent(PhaseProve, probe.Command()),
	}}, nil
}

func (m *Manager) draftLoad(ctx context.Context, o Order) (draft, error) {
	t, err := m.challenge(ctx)
	if err != nil {
		return draft{}, err
	}
	x := purse.InitLoad{Purse: purse.EP, Key: keyIndex, Fen: uint32(o.Amount.Minor()), Terminal: t}
	return draft{stage: stageLoad, keep: t[:], steps: []step{
		sent(PhaseInitLoad, iso7816.Select(purse.AIDTUnion)),
		sent(PhaseInitLoad, x.Command()),
	}}, nil
}

// challenge draws a terminal number that was not there before.
func (m *Manager) challenge(ctx context.Context) (t purse.Terminal, err error) {
	var b [4]byte
	if err := m.hsm.Random(ctx, b[:]); err != nil {
		return t, fmt.Errorf("drawing a terminal number: %w", err)
	}
	copy(t[:], terminalPrefix[:])
	copy(t[2:], b[:])
	return t, nil
}

// hearLoad reads the answer to INITIALIZE FOR LOAD and, if the card, its limit
// and its MAC1 are right, binds the order to the card's sequence and prepares
// CREDIT FOR LOAD. MAC2 is made before the unit and leaves only after it.
func hearLoad(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	switch {
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case h.RefusedWith(iso7816.SWFileNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.RefusedWith(iso7816.SWData):
		return verdict{state: Failed, why: OverCardLimit}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return again(h), nil
	case !holds(h.Answers[0], o.Card.Purse()):
		return verdict{state: Failed, why: WrongCard}, nil
	}
	a, err := purse.ParseInitLoadAnswer(h.Answers[1].Data)
	if err != nil {
		return verdict{state: Failed, why: WrongProof}, nil
	}
	l := load{card: o.Card, seq: int(a.Seq), order: o.ID, fen: o.Amount.Minor(), balance: int64(a.Balance),
		terminal: purse.Terminal(keep), stamp: purse.StampOf(m.store.Now()), outcome: loadOpen}
	most, err := m.mostOn(ctx, o)
	switch {
	case err != nil:
		return verdict{}, err
	case l.balance+l.fen > most.Minor():
		return verdict{state: Failed, why: OverCardLimit}, nil
	}
	mac2, err := m.authorise(ctx, l, a)
	if errors.Is(err, errProof) {
		return verdict{state: Failed, why: WrongProof}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Running, next: &draft{stage: stageCredit, steps: []step{
		sent(PhaseCredit, purse.CreditCommand{Stamp: l.stamp, MAC2: mac2}.Command()),
		sent(PhaseCredit, purse.GetBalance{Purse: purse.EP, Part: purse.BalanceAll}.Command()),
	}},
		effect: func(tx *db.Tx) error { return bind(tx, l) },
		set:    func(o *Order) { o.seq = l.seq },
	}, nil
}

// mostOn is the balance limit of the order's card today.
func (m *Manager) mostOn(ctx context.Context, o Order) (most money.Amount, err error) {
	err = m.store.Read(ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, o.Card)
		if err != nil {
			return err
		}
		p, err := issuing.ProductOn(q, c.Product, m.store.Now())
		most = mostOf(c, p.MaxBalance)
		return err
	})
	return most, err
}

// hearCredit takes the TAC as proof that the money is on the card. Without a
// TAC that verifies nothing is known, and the card will be asked.
func hearCredit(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	if h.Good() == 0 {
		return lost(h), nil
	}
	a, err := purse.ParseCreditAnswer(h.Answers[0].Data)
	if err != nil {
		return verdict{state: Unconfirmed, why: WrongProof}, nil
	}
	return m.paid(ctx, o, a.TAC)
}

// paid ends a top-up whose TAC verifies: the hold is captured, wallet to float.
func (m *Manager) paid(ctx context.Context, o Order, tac [4]byte) (verdict, error) {
	l, err := m.loadOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	if err := m.checkTAC(ctx, l, tac); err != nil {
		if errors.Is(err, errProof) {
			return verdict{state: Unconfirmed, why: WrongProof, refuse: true}, nil
		}
		return verdict{}, err
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		if err := settleLoad(tx, l.card, l.seq, o.ID, loadPaid, tac[:]); err != nil {
			return fmt.Errorf("load of order %s: %w", o.ID, err)
		}
		if _, err := ledger.Capture(tx, holdOf(o), "load:"+o.ID, o.Amount, true); err != nil {
			return err
		}
		return issuing.See(tx, o.Card, issuing.Counters{Balance: money.Fen(l.balance + l.fen),
			Online: l.seq + 1, Offline: -1, At: tx.Now(), By: o.ID})
	}}, nil
}

// hearProve decides by what the card proves. MAC1 over this session's own
// terminal number shows which sequence comes next: the bound one again means
// that nothing was credited, and since asking has disarmed the card, the MAC2
// that was out is dead. A higher one needs the TAC of the bound sequence.
func hearProve(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	switch {
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}, nil
	case !h.Complete():
		return lost(h), nil
	case !holds(h.Answers[0], o.Card.Purse()):
		return verdict{state: Unconfirmed, why: WrongCard, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	}
	a, err := purse.ParseInitLoadAnswer(h.Answers[2].Data)
	if err == nil {
		err = m.checkMAC1(ctx, o.Card.Purse(), a, 0, purse.Terminal(keep))
	}
	if err != nil && !errors.Is(err, errProof) && !errors.Is(err, purse.ErrLength) {
		return verdict{}, err
	}
	switch {
	case err != nil || int(a.Seq) < o.seq:
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	case int(a.Seq) == o.seq:
		return m.unused(ctx, o)
	case !h.Answers[1].SW.OK():
		return verdict{state: Unconfirmed, why: OtherLoad, desk: true}, nil
	}
	p, err := purse.ParseProveAnswer(h.Answers[1].Data)
	if err != nil {
		return verdict{state: Unconfirmed, why: WrongProof, desk: true}, nil
	}
	v, err := m.paid(ctx, o, p.TAC)
	if err == nil && v.state != Done {
		v.why, v.desk = OtherLoad, true
	}
	return v, err
}

// unused frees the sequence and tries again, or ends the order when the
// customer gave it up or the card has refused too often.
func (m *Manager) unused(ctx context.Context, o Order) (verdict, error) {
	v := verdict{
		effect: func(tx *db.Tx) error { return settleLoad(tx, o.Card, o.seq, o.ID, loadUnused, nil) },
		set:    func(o *Order) { o.seq = -1 },
	}
	switch {
	case o.Stop:
		v.state, v.why = Cancelled, Given
	case o.Stalled >= maxStalled:
		v.state, v.why = Failed, KeepsFailing
	default:
		d, err := m.draftLoad(ctx, o)
		if err != nil {
			return verdict{}, err
		}
		v.state, v.next = Running, &d
	}
	return v, nil
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
