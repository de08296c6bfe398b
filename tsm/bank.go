package tsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/tsm/online"
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
	answers := make([][]byte, len(h.answers))
	for i, r := range h.answers {
		answers[i] = r.Data
	}
	if err := c.Check(ca, key.PAN, answers, k.fresh[:4]); err != nil {
		return issuing.Counters{}, proofOf(err)
	}
	at := c.Signed() + 1
	x, err := online.Hear(key, answers[2], answers[at], c.Lists.CDOL1, h.steps[at].plain.Data)
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

// heardOnline reads GET PROCESSING OPTIONS and GENERATE AC, the first two of a
// script; keep holds the card's lists.
func (m *Manager) heardOnline(ctx context.Context, o Order, h heard, keep []byte) (x online.Heard, l online.Lists, err error) {
	if l, err = online.ParseLists(keep, keep); err != nil {
		return x, l, fmt.Errorf("order %s: %w", o.ID, errPacked)
	}
	key, err := m.bank.Keys(ctx, o.Card)
	if err != nil {
		return x, l, err
	}
	x, err = online.Hear(key, h.answers[0].Data, h.answers[1].Data, l.CDOL1, h.steps[1].plain.Data)
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
	case h.refusedWith(iso7816.SWFileNotFound) && !bound:
		return verdict{state: Failed, why: NotThere}
	case h.refused() && o.Stalled+1 >= maxStalled && bound:
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}
	case !h.complete() && bound:
		return lost(h)
	case !h.complete():
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
	l, err := online.ParseLists(h.answers[0].Data, h.answers[1].Data)
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
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.complete():
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
	script, err := iso7816.ParseCommand(raw)
	if err != nil || len(auth) != 10 {
		return verdict{}, fmt.Errorf("order %s: the bank's answer: %w", o.ID, errPacked)
	}
	second := x.Second(l.CDOL2, auth)
	return verdict{state: Running, next: &draft{stage: stageCredit, steps: []step{
		sent(PhaseCredit, second[0]), sent(PhaseCredit, second[1]), sent(PhaseCredit, script),
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
	if !h.complete() {
		v := lost(h)
		if h.refusedWith(iso7816.SWData) && h.good() == scriptAt {
			v.why = OverCardLimit
		}
		return v, nil
	}
	entry, _, err := m.loadLog(ctx, o, h.answers[scriptAt+1].Data)
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
	case h.refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}, nil
	case !h.complete():
		return lost(h), nil
	}
	entry, log, err := m.loadLog(ctx, o, h.answers[1].Data)
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
	if err := m.bank.ReportLog(ctx, o.Card, h.answers[1].Data); err != nil {
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

// A Limit is one limit of a bank card, as PUT DATA sets it.
type Limit struct {
	Tag uint16 // 9F77, 9F78, 9F6B, 9F6D, 9F54 or 9F5C
	Fen int64
}

// A Change is what an Update does to a bank card.
type Change struct {
	Limits []Limit
	PIN    *hsm.PINBlock // the new PIN
	Tries  bool          // the PIN's tries are given back
	Open   bool          // a block of the application by script is lifted
}

// updatable are the limits that an issuer script may set, n12.
var updatable = []tlv.Tag{emv.TagECBalanceLimit, emv.TagECAmountLimit, emv.TagCardCVMLimit, emv.TagECReset, emv.TagCTTALimit, emv.TagCTTAUpper}

func (c Change) check() error {
	for _, l := range c.Limits {
		if l.Fen < 0 || l.Fen > pboc.MaxFen || !slices.Contains(updatable, tlv.Tag(l.Tag)) {
			return ErrRequest
		}
	}
	if len(c.Limits) == 0 && c.PIN == nil && !c.Tries && !c.Open {
		return ErrRequest
	}
	return nil
}

func (c Change) bytes() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("tsm: " + err.Error())
	}
	return b
}

var updateCourse = course{
	open: func(m *Manager, ctx context.Context, o Order) (draft, error) {
		d, err := m.selectCard(ctx, o, PhaseCryptogram)
		if err == nil { // the answer of a blocked application is as good
			d.steps[0].expect = append(d.steps[0].expect, iso7816.SWSelectedBlocked)
		}
		return d, err
	},
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageSelect: hearToUpdate, stageLoad: hearUpdateRequest, stageScript: hearUpdated,
	},
}

func hearToUpdate(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	if v := o.selected(h, false); v.state != "" {
		return v, nil
	}
	l, err := online.ParseLists(h.answers[0].Data, h.answers[1].Data)
	if err != nil {
		return verdict{state: Failed, why: WrongCard}, nil
	}
	d, err := m.deal(ctx, online.TypeInquiry, 0)
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Running, next: &draft{stage: stageLoad, keep: l.Bytes(), steps: []step{
		sent(PhaseCryptogram, d.Options(l.PDOL)),
		sent(PhaseCryptogram, d.GenerateAC(pboc.ARQC, l.CDOL1)),
	}}}, nil
}

// hearUpdateRequest answers the card's cryptogram with the bank's commands. A
// blocked application declines, and takes them all the same.
func hearUpdateRequest(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if v := o.selected(h, false); v.state != "" {
		return v, nil
	}
	x, l, err := m.heardOnline(ctx, o, h, keep)
	if err == nil {
		_, err = m.cashCounters(ctx, x)
	}
	if errors.Is(err, errProof) {
		return verdict{state: Failed, why: WrongProof}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	var c Change
	if err := json.Unmarshal(o.data, &c); err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, errPacked)
	}
	var steps []step
	if x.CID == pboc.ARQC.CID() {
		auth, err := m.hsm.ARPC(ctx, x.Cryptogram, online.Approved)
		if err != nil {
			return verdict{}, proofOf(err)
		}
		for _, s := range x.Second(l.CDOL2, auth) {
			steps = append(steps, sent(PhaseScript, s))
		}
	}
	script, err := m.scriptOf(ctx, x, c)
	if err != nil {
		return verdict{}, err
	}
	for _, s := range script {
		steps = append(steps, sent(PhaseScript, s))
	}
	for _, l := range c.Limits {
		steps = append(steps, sent(PhaseReadBack, online.GetData(tlv.Tag(l.Tag))))
	}
	return verdict{state: Running, next: &draft{stage: stageScript, steps: steps}}, nil
}

// scriptOf makes the bank's commands with their MACs.
func (m *Manager) scriptOf(ctx context.Context, x online.Heard, c Change) ([]iso7816.Command, error) {
	var plain []pboc.Script
	if c.Open {
		plain = append(plain, pboc.AppUnblock())
	}
	for _, l := range c.Limits {
		v := pboc.Amount(uint64(l.Fen))
		plain = append(plain, pboc.PutData(l.Tag, v[:]))
	}
	if c.Tries {
		plain = append(plain, pboc.PINUnblock())
	}
	out, err := m.hsm.ProtectScript(ctx, x.Cryptogram, plain...)
	if err != nil || c.PIN == nil {
		return out, err
	}
	pin, err := m.hsm.PINChange(ctx, x.Cryptogram, *c.PIN)
	return append(out, pin), err
}

// hearUpdated compares the limits that the card gives. Everything an update does
// may be done again, so a session whose end was lost is simply repeated.
func hearUpdated(_ *Manager, _ context.Context, o Order, h heard, _ []byte) (verdict, error) {
	if !h.complete() {
		if h.refused() && o.Stalled+1 >= maxStalled {
			return verdict{state: Failed, why: CardRefused, refuse: true}, nil
		}
		return lost(h), nil
	}
	var c Change
	if err := json.Unmarshal(o.data, &c); err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, errPacked)
	}
	back := h.answers[len(h.answers)-len(c.Limits):]
	for i, l := range c.Limits {
		want := pboc.Amount(uint64(l.Fen))
		if got, ok := tlv.Find(back[i].Data, tlv.Tag(l.Tag)); !ok || string(got) != string(want[:]) {
			return unproven(o), nil
		}
	}
	return verdict{state: Done}, nil
}
