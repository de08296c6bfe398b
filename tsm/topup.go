package tsm

import (
	"context"
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/tsm/online"
	"koala/tsm/script"
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

var cashCourse = course{
	open: openCash,
	hear: cashHear,
	end:  endLoad,
}

var cashHear = map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
	stageSelect: hearCard, stageLoad: hearRequest, stageCredit: hearCash, stageProve: hearCashProof,
}

// openCash selects the card and reads its lists, which says nothing yet about
// what the session is for.
func openCash(m *Manager, ctx context.Context, o Order) (draft, error) {
	return m.selectCard(ctx, o, PhaseInitLoad)
}

// hearCard goes on to the load, or when an earlier script may have done it to
// the card's own word about that.
func hearCard(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	bound := o.seq >= 0
	if v := o.selected(h, bound); v.state != "" {
		return v, nil
	}
	l, err := online.ParseLists(h.Answers[0].Data, h.Answers[1].Data)
	if err != nil && bound {
		return unproven(o), nil
	}
	if err != nil {
		return verdict{state: Failed, why: WrongCard}, nil
	}
	d, err := m.deal(ctx, issuing.TypeLoad, o.Amount.Minor())
	if err != nil {
		return verdict{}, err
	}
	if bound {
		return verdict{state: Unconfirmed, next: &draft{stage: stageProve, steps: []step{
			sent(PhaseProve, d.Options(l.PDOL)),
			sent(PhaseProve, pboc.ReadSignedLoadLog(pboc.LoadLogSFI)),
		}}}, nil
	}
	return verdict{state: Running, next: &draft{stage: stageLoad, keep: l.Bytes(), steps: []step{
		sent(PhaseCryptogram, d.Options(l.PDOL)),
		sent(PhaseCryptogram, d.GenerateAC(pboc.ARQC, l.CDOL1)),
	}}}, nil
}

// hearRequest takes the card's cryptogram to the bank. The bank binds the load
// to the card's transaction counter and answers; the script leaves the house
// only with the unit that keeps the counter in the order.
func hearRequest(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	switch {
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return again(h), nil
	}
	x, l, err := m.heardOnline(ctx, o, h, keep)
	if errors.Is(err, errProof) {
		return verdict{state: Failed, why: WrongProof}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	a, err := m.bank.Authorise(ctx, issuing.Online{EMV: x.Request(), Text: "e-cash load over the air"})
	switch {
	case err != nil:
		return verdict{}, err
	case a.Why == issuing.InProgress:
		return m.boundBefore(ctx, o)
	case a.Why != issuing.Approval || a.Card != o.Card:
		return verdict{state: Failed, why: declined(a.Why)}, nil
	}
	auth, _ := tlv.Find(a.EMV, emv.TagIssuerAuth)
	raw, _ := tlv.Find(a.EMV, emv.TagScriptCommand)
	load, err := iso7816.ParseCommand(raw)
	if err != nil || len(auth) != 10 {
		return verdict{}, fmt.Errorf("order %s: the bank's answer: %w", o.ID, script.ErrStored)
	}
	second := x.Second(l.CDOL2, auth)
	return verdict{state: Running, next: &draft{stage: stageCredit, steps: []step{
		sent(PhaseCredit, second[0]), sent(PhaseCredit, second[1]), sent(PhaseCredit, load),
		sent(PhaseCredit, pboc.ReadSignedLoadLog(pboc.LoadLogSFI)),
	}}, set: func(o *Order) { o.seq, o.data = int(x.ATC), []byte(a.Load) }}, nil
}

// boundBefore takes up a load that the bank bound to an earlier counter when the
// house died before its script was made: the card has to tell.
func (m *Manager) boundBefore(ctx context.Context, o Order) (verdict, error) {
	var list []issuing.Load
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = issuing.LoadsOf(q, o.Card, 1)
		return err
	})
	if err != nil {
		return verdict{}, err
	}
	if len(list) == 0 || list[0].State != issuing.LoadBound {
		return verdict{state: Running, why: BankRefused, refuse: true}, nil // it is settled meanwhile
	}
	next, err := openCash(m, ctx, o)
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Unconfirmed, next: &next, set: func(o *Order) { o.seq, o.data = list[0].ATC, []byte(list[0].ID) }}, nil
}

// declined says why the bank would not load.
func declined(r issuing.Reason) Reason {
	switch r {
	case issuing.OverLimit:
		return OverCardLimit
	case issuing.NoMoney:
		return NoMoney
	case issuing.BadCryptogram, issuing.UnknownCard:
		return WrongProof
	}
	return BankRefused
}

// scriptAt is the place of PUT DATA in the crediting script.
const scriptAt = 2

// hearCash believes the card's signed log only: the status word of the script
// is nobody's signature.
func hearCash(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	if !h.Complete() {
		v := lost(h)
		if h.RefusedWith(iso7816.SWData) && h.Good() == scriptAt {
			v.why = OverCardLimit
		}
		return v, nil
	}
	entry, _, err := m.loadLog(ctx, o, h.Answers[scriptAt+1].Data)
	switch {
	case errors.Is(err, errProof), err == nil && entry == nil:
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true}, nil
	case err != nil:
		return verdict{}, err
	}
	return cashPaid(o, *entry), nil
}

// loadLog verifies a signed load log and finds the order's load in it.
func (m *Manager) loadLog(ctx context.Context, o Order, raw []byte) (*pboc.LoadEntry, pboc.SignedLoadLog, error) {
	key, err := m.bank.Keys(ctx, o.Card)
	if err != nil {
		return nil, pboc.SignedLoadLog{}, err
	}
	log, err := m.hsm.CheckLoadLog(ctx, key, raw)
	if err != nil {
		return nil, log, proofOf(err)
	}
	for i, e := range log.Entries {
		if int(e.ATC) == o.seq && e.Tag == uint16(emv.TagECBalance) {
			return &log.Entries[i], log, nil
		}
	}
	return nil, log, nil
}

// cashPaid ends a load whose line in the card's log verifies.
func cashPaid(o Order, e pboc.LoadEntry) verdict {
	return verdict{state: Done, effect: func(tx *db.Tx) error {
		if _, err := issuing.ReportScript(tx, string(o.data), iso7816.OK); err != nil {
			return err
		}
		return issuing.See(tx, o.Card, issuing.Counters{Balance: money.Fen(int64(e.New)), Online: o.seq, Offline: o.seq, At: tx.Now(), By: o.ID})
	}}
}

// hearCashProof decides by the card's log, read in a later transaction: the
// script that was out is dead with the transaction it was made for. A line of
// the bound counter is the load; none in a log that reaches back so far means
// that nothing was credited.
func hearCashProof(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}, nil
	case !h.Complete():
		return lost(h), nil
	}
	entry, log, err := m.loadLog(ctx, o, h.Answers[1].Data)
	switch {
	case errors.Is(err, errProof), err == nil && entry == nil && int(log.ATC) <= o.seq:
		return unproven(o), nil
	case err != nil:
		return verdict{}, err
	case entry != nil:
		return cashPaid(o, *entry), nil
	}
	l, err := m.loadOrder(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	if l.State == issuing.LoadBound && l.Judge(issuing.Proof{ATC: int(log.ATC), Log: &log}) != issuing.LoadVoid {
		return verdict{state: Unconfirmed, why: OtherLoad, desk: true}, nil
	}
	if err := m.bank.ReportLog(ctx, o.Card, h.Answers[1].Data); err != nil {
		return verdict{}, err
	}
	return m.cashUnused(ctx, o)
}

func (m *Manager) loadOrder(ctx context.Context, o Order) (l issuing.Load, err error) {
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		l, err = issuing.LoadOf(q, string(o.data))
		return err
	})
	return l, err
}

// cashUnused goes on after the proof that nothing was credited. The bank has
// given the money back, and holds it anew with the card's next request.
func (m *Manager) cashUnused(ctx context.Context, o Order) (verdict, error) {
	v := verdict{set: func(o *Order) { o.seq = -1 }}
	switch {
	case o.Stop:
		v.state, v.why = Cancelled, Given
		return v, nil
	case o.Stalled >= maxStalled:
		v.state, v.why = Failed, KeepsFailing
		return v, nil
	}
	next, err := openCash(m, ctx, o)
	v.state, v.next = Running, &next
	return v, err
}

// endLoad lets the money of an order go that is in no card.
func endLoad(tx *db.Tx, o Order) error {
	if o.seq >= 0 {
		return fmt.Errorf("order %s: load %d is bound: %w", o.ID, o.seq, ErrState)
	}
	if o.CardKind.Bank() && len(o.data) > 0 {
		l, err := issuing.LoadOf(tx, string(o.data))
		switch {
		case err != nil:
		case l.State == issuing.LoadBound: // by the bank, but its script never left
			_, err = issuing.RuleLoad(tx, l.ID, false)
		default:
			_, err = issuing.CancelLoad(tx, l.ID)
		}
		return err
	}
	_, err := ledger.Void(tx, holdOf(o), "void:"+o.ID)
	return err
}
