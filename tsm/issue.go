package tsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

var issueCourse = course{
	open: openIssue,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
	end: func(tx *db.Tx, o Order) error {
		if o.Kind != Issue {
			return nil
		}
		return issuing.Abandon(tx, o.Card, string(o.Why))
	},
}

var adoptCourse = course{
	open: func(m *Manager, ctx context.Context, _ Order) (draft, error) { return m.openChannel(ctx, workKeys) },
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageOpen: hearFactory, stageWork: hearWork,
	},
}

// openIssue seals what the element will be personalised with, at the first
// session, and begins: with everything when the element has seen nothing of
// this order, with a look at it otherwise.
func openIssue(m *Manager, ctx context.Context, o Order) (draft, error) {
	if o.Session > 0 {
		return m.openChannel(ctx, workLook)
	}
	dossier, err := m.newDossier(ctx, o)
	if err != nil {
		return draft{}, err
	}
	d, err := m.openChannel(ctx, workAll)
	if err != nil {
		return draft{}, err
	}
	if d.data, err = m.hsm.Seal(ctx, dossier.Bytes()); err != nil {
		return draft{}, fmt.Errorf("sealing personalisation data: %w", err)
	}
	return d, nil
}

// newDossier draws up what a new card or SAM is to hold.
func (m *Manager) newDossier(ctx context.Context, o Order) (d issuing.Personalisation, err error) {
	if o.Kind == SAM {
		s, err := parseSAMData(o.data)
		return samDossier(s), err
	}
	err = m.store.Read(ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, o.Card)
		if err != nil {
			return err
		}
		p, err := issuing.ProductOn(q, c.Product, c.Opened)
		d = issuing.TransitPersonalisation(c, p)
		return err
	})
	return d, err
}

// dossierOf is what a session of the order works with: the sealed data of an
// issue, only the instance's name of a return, nothing of an adoption.
func (m *Manager) dossierOf(ctx context.Context, o Order) (issuing.Personalisation, error) {
	switch o.Kind {
	case Adopt:
		return issuing.Personalisation{}, nil
	case Delete:
		return issuing.Personalisation{Instance: globalplatform.AID(purse.AIDTUnion)}, nil
	}
	b, err := m.hsm.Unseal(ctx, o.data)
	if err != nil {
		return issuing.Personalisation{}, fmt.Errorf("personalisation data of order %s: %w", o.ID, err)
	}
	return issuing.ParsePersonalisation(b)
}

// finished reads the last script of a session.
func (m *Manager) finished(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, h heard) (verdict, error) {
	switch {
	case o.Kind == Adopt:
		return m.adopted(ctx, o, k, h)
	case o.Kind == Delete:
		return m.gone(o)
	case k.work&workRead == 0:
		return stopped(o), nil // the traces of an issue that was given up are gone
	case o.Kind == SAM:
		return m.samWritten(ctx, o, d, h)
	}
	return m.written(ctx, o, d, k, h)
}

// written compares the read-back of a new card: its number, no money, sequence
// zero, and a MAC1 that shows that its load key arrived. Anything else under
// this name is some older card: it is removed and the issue begins again.
func (m *Manager) written(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, h heard) (verdict, error) {
	n := len(h.answers)
	seen, err := m.proven(ctx, d.Card.Purse(), k.term, h.answers[n-2], h.answers[n-1])
	if err != nil && !errors.Is(err, errProof) {
		return verdict{}, err
	}
	if err != nil || !holds(h.answers[n-3], d.Card.Purse()) || !seen.Balance.IsZero() {
		next, err := m.openChannel(ctx, workRemove|workAll)
		if err != nil {
			return verdict{}, err
		}
		v := m.stalled(o, heard{steps: h.steps[:1], answers: []iso7816.Response{{SW: iso7816.SWUnknown}}})
		v.why = WrongProof
		if v.set == nil && !v.desk {
			v.state, v.next = Running, &next
		}
		return v, nil
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		seen.By, seen.At = o.ID, tx.Now()
		return issuing.Activate(tx, o.Card, seen)
	}}, nil
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

func (m *Manager) samWritten(_ context.Context, o Order, d issuing.Personalisation, h heard) (verdict, error) {
	if got := h.answers[len(h.answers)-1].Data; string(got) != string(d.Groups[1].Data) {
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	}
	return verdict{state: Done}, nil
}

// hearFactory sees which keys the element has: those of the factory are
// replaced, the band's own mean that an earlier session did it.
func hearFactory(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
		return again(h), nil
	}
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	k.answer = h.answers[1].Data
	a, err := globalplatform.ParseInitAnswer(k.answer)
	if err != nil {
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	}
	if a.Version != globalplatform.FactoryVersion {
		return m.adoptedBy(ctx, o, k.host, k.answer)
	}
	return m.goOn(ctx, o, issuing.Personalisation{}, k)
}

// adopted checks the cryptogram that the element made with its new keys.
func (m *Manager) adopted(ctx context.Context, o Order, k channelKeep, h heard) (verdict, error) {
	return m.adoptedBy(ctx, o, k.fresh, h.answers[len(h.answers)-1].Data)
}

func (m *Manager) adoptedBy(ctx context.Context, o Order, host [8]byte, answer []byte) (verdict, error) {
	_, err := m.wrap(ctx, channelKeep{host: host, answer: answer}, issuing.Personalisation{}, nil)
	switch {
	case errors.Is(err, errProof):
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	case err != nil:
		return verdict{}, err
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error { return setAdopted(tx, o.Band) }}, nil
}

// The return of a card: it proves its balance and both sequences, then the
// instance is deleted, then the money goes back.
var deleteCourse = course{
	open: openReturn,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageAsk: hearReturn, stageBalance: hearBalance, stageOpen: hearOpen, stageLook: hearLook, stageWork: hearWork,
	},
	end: func(tx *db.Tx, o Order) error {
		if err := issuing.GiveUpReturn(tx, o.Card); err != nil {
			return err
		}
		c, err := issuing.Get(tx, o.Card)
		if err == nil && c.State == issuing.Blocked && rank(Delete, o.Phase) >= rank(Delete, PhaseBalance) {
			return issuing.Unblock(tx, o.Card) // the element was unblocked to prove its balance
		}
		return err
	},
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
		return verdict{state: Unconfirmed, why: NotThere, desk: true}, nil
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

// hearBalance keeps the proof with the order before DELETE goes out.
func hearBalance(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.complete() {
		return m.stalled(o, h), nil
	}
	n := len(h.answers)
	seen, err := m.proven(ctx, o.Card.Purse(), purse.Terminal(keep), h.answers[n-2], h.answers[n-1])
	switch {
	case errors.Is(err, errProof):
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	case err != nil:
		return verdict{}, err
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	next, err := m.openChannel(ctx, workRemove)
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Running, next: &next, set: func(o *Order) { o.data = packCounters(seen) }}, nil
}

// gone ends a return: the proven balance goes back to the wallet.
func (m *Manager) gone(o Order) (verdict, error) {
	seen, err := parseCounters(o.data)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
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
