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
	"koala/spec/tlv"
	"koala/tsm/online"
	"koala/tsm/script"
)

// deal draws up a transaction of now with a fresh unpredictable number.
func (m *Manager) deal(ctx context.Context, kind byte, fen int64) (online.Deal, error) {
	d := online.Deal{Fen: uint64(fen), Type: kind, At: m.store.Now()}
	if err := m.hsm.Random(ctx, d.UN[:]); err != nil {
		return d, fmt.Errorf("drawing an unpredictable number: %w", err)
	}
	return d, nil
}

// bankProofs are the commands by which a new bank card proves itself. The
// unpredictable number is the session's second challenge.
func (m *Manager) bankProofs(d issuing.Personalisation, k channelKeep) []step {
	c, err := online.CardOf([]byte(d.Instance), d.Groups)
	if err != nil {
		panic("tsm: " + err.Error()) // the dossier is issuing's own
	}
	var out []step
	for _, cmd := range c.Proof(online.Deal{Type: online.TypeInquiry, UN: [4]byte(k.fresh[:]), At: m.store.Now()}) {
		out = append(out, sent(PhaseReadBack, cmd))
	}
	return out
}

// bankProven checks them: records, certificates, signature and cryptogram.
func (m *Manager) bankProven(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, h heard) (issuing.Counters, error) {
	c, err := online.CardOf([]byte(d.Instance), d.Groups)
	if err != nil {
		return issuing.Counters{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	ca, err := m.bank.CAKey(ctx)
	if err != nil {
		return issuing.Counters{}, err
	}
	key, err := m.bank.Keys(ctx, o.Card)
	if err != nil {
		return issuing.Counters{}, err
	}
	answers := make([][]byte, len(h.Answers))
	for i, r := range h.Answers {
		answers[i] = r.Data
	}
	if err := c.Check(ca, key.PAN, answers, k.fresh[:4]); err != nil {
		return issuing.Counters{}, proofOf(err)
	}
	at := c.Signed() + 1
	x, err := online.Hear(key, answers[2], answers[at], c.Lists.CDOL1, h.Steps[at].Plain.Data)
	if err != nil {
		return issuing.Counters{}, proofOf(err)
	}
	return m.cashCounters(ctx, x)
}

// cashCounters verifies a cryptogram and reads counter and balance from it.
func (m *Manager) cashCounters(ctx context.Context, x online.Heard) (issuing.Counters, error) {
	iad, err := m.hsm.CheckAC(ctx, x.Cryptogram)
	if err != nil {
		return issuing.Counters{}, proofOf(err)
	}
	k := issuing.Counters{Balance: money.Fen(0), Online: int(x.ATC), Offline: int(x.ATC)}
	if iad.Report == pboc.ReportBalance {
		k.Balance = money.Fen(int64(iad.Amounts[0]))
	}
	return k, nil
}

// heardOnline reads GET PROCESSING OPTIONS and GENERATE AC, the last two of a
// script; keep holds the card's lists.
func (m *Manager) heardOnline(ctx context.Context, o Order, h heard, keep []byte) (x online.Heard, l online.Lists, err error) {
	if l, err = online.ParseLists(keep, keep); err != nil {
		return x, l, fmt.Errorf("order %s: %w", o.ID, script.ErrStored)
	}
	key, err := m.bank.Keys(ctx, o.Card)
	if err != nil {
		return x, l, err
	}
	n := len(h.Answers)
	x, err = online.Hear(key, h.Answers[n-2].Data, h.Answers[n-1].Data, l.CDOL1, h.Steps[n-1].Plain.Data)
	return x, l, proofOf(err)
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

func (m *Manager) selectCard(ctx context.Context, o Order, p Phase) (draft, error) {
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return draft{}, err
	}
	return draft{stage: stageSelect, steps: []step{sent(p, iso7816.Select(c.Instance)), sent(p, online.ReadLists())}}, nil
}

// selected is the verdict on a script of selectCard that did not get through;
// bound says that money may have moved. A zero verdict is none: go on.
func (o Order) selected(h heard, bound bool) verdict {
	switch {
	case o.Stop && !bound:
		return verdict{state: Cancelled, why: Given}
	case h.RefusedWith(iso7816.SWFileNotFound) && !bound:
		return verdict{state: Failed, why: NotThere}
	case h.Refused() && o.Stalled+1 >= maxStalled && bound:
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}
	case !h.Complete() && bound:
		return lost(h)
	case !h.Complete():
		return again(h)
	}
	return verdict{}
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

// hearReturnCard goes on to a declined cryptogram, which proves the balance and
// moves nothing.
func hearReturnCard(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case !h.Complete():
		return m.stalled(o, h), nil
	case o.Stop:
		return verdict{state: Cancelled, why: Given}, nil
	}
	l, err := online.ParseLists(h.Answers[0].Data, h.Answers[1].Data)
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
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	x, _, err := m.heardOnline(ctx, o, h, keep)
	var seen issuing.Counters
	if err == nil {
		seen, err = m.cashCounters(ctx, x)
	}
	return m.balanceProven(ctx, o, seen, err, workRemove)
}
