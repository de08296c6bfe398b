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
	"koala/money"
	"koala/spec/emv"
	"koala/spec/globalplatform"
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

// The default card is chosen in the contactless registry of the element, as a
// wallet would: readers get the payment cards in its order.
var defaultCourse = course{
	open: openDefault,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){stageDefault: hearDefault},
}

func openDefault(m *Manager, ctx context.Context, o Order) (draft, error) {
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return draft{}, err
	}
	set := globalplatform.ContactlessSet{Change: globalplatform.MakeDefaults, Apps: []globalplatform.AID{globalplatform.AID(c.Instance)}}
	ask := globalplatform.ContactlessQuery{Prefix: pboc.RID}
	return draft{stage: stageDefault, steps: []step{
		sent(PhaseDefault, iso7816.Select([]byte(globalplatform.ContactlessAID))),
		sent(PhaseDefault, globalplatform.ContactlessSet{Change: globalplatform.ForgetOrder}.Command()), // a card put first for now
		sent(PhaseDefault, set.Command()),
		sent(PhaseReadBack, ask.Command(), iso7816.OK, globalplatform.SWMore),
	}}, nil
}

// hearDefault wants the card first among the payment cards. Choosing it again
// changes nothing, so a session whose end was lost is repeated.
func hearDefault(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	switch {
	case h.RefusedWith(iso7816.SWReferenceNotFound):
		return verdict{state: Failed, why: NotThere}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return again(h), nil
	}
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	list, err := globalplatform.ParseContactlessStatus(h.Answers[3].Data)
	if err != nil || len(list) == 0 || list[0].AID != globalplatform.AID(c.Instance) || !slices.Contains(paying, o.CardKind) {
		v := verdict{state: Running, why: WrongProof, refuse: true}
		if o.Stalled+1 >= maxStalled { // locked meanwhile, say: it will not come first by asking again
			v.state = Failed
		}
		return v, nil
	}
	return verdict{state: Done}, nil
}

// paying are the kinds that payment directories list.
var paying = []issuing.Kind{issuing.ECash, issuing.Debit, issuing.Credit}

// A Limit is one limit of a bank card, as PUT DATA sets it.
type Limit struct {
	Tag uint16 // 9F77, 9F78, 9F6B, 9F6D, 9F54 or 9F5C
	Fen int64
}

// A Change is what an Update does to a bank card. PIN and Tries concern cards
// that check their PIN by themselves (issuing.BankData.OfflinePIN), and each is
// an order of its own: the card counts the commands it carried out and does not
// name them, so the one of the count of one has to be that one.
type Change struct {
	Limits []Limit
	PIN    *hsm.PINBlock // the new PIN, with all its tries
	Tries  bool          // the PIN's tries are given back
	Open   bool          // a block of the application by script is lifted
}

// told tells whether the bank keeps what the change brings, so that its end has
// to be proven.
func (c Change) told() bool { return c.PIN != nil || c.Tries }

// updatable are the limits that an issuer script may set, n12.
var updatable = []tlv.Tag{emv.TagECBalanceLimit, emv.TagECAmountLimit, emv.TagCardCVMLimit, emv.TagECReset, emv.TagCTTALimit, emv.TagCTTAUpper}

func (c Change) check() error {
	for _, l := range c.Limits {
		if l.Fen < 0 || l.Fen > pboc.MaxFen || !slices.Contains(updatable, tlv.Tag(l.Tag)) {
			return ErrRequest
		}
	}
	others := len(c.Limits) > 0 || c.Open
	if c.PIN != nil && c.Tries || c.told() == others {
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

// An update that the bank is told of is bound, like a load, to the transaction
// counter that its script was made for (Order.seq), before the script leaves.
// From then on it ends well with a proof, or at the desk, and in no other way:
// the bank keeps the old PIN and the order the new one until it is known which
// of them the card has.
var updateCourse = course{
	open: openUpdate,
	hear: map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){
		stageSelect: hearToUpdate, stageLoad: hearUpdateRequest, stageScript: hearUpdated, stageProve: hearUpdateProof,
	},
}

func openUpdate(m *Manager, ctx context.Context, o Order) (draft, error) {
	d, err := m.selectCard(ctx, o, PhaseCryptogram)
	if err == nil { // the answer of a blocked application is as good
		d.steps[0].Expect = append(d.steps[0].Expect, iso7816.SWSelectedBlocked)
	}
	return d, err
}

func (o Order) change() (c Change, err error) {
	if err := json.Unmarshal(o.data, &c); err != nil {
		return c, fmt.Errorf("order %s: %w", o.ID, script.ErrStored)
	}
	return c, nil
}

// hearToUpdate asks the card for a cryptogram: for the script, or, when one is
// out, a declined one that says what became of it.
func hearToUpdate(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	bound := o.seq >= 0
	if v := o.selected(h, bound); v.state != "" {
		return v, nil
	}
	c, err := o.change()
	if err != nil {
		return verdict{}, err
	}
	l, err := online.ParseLists(h.Answers[0].Data, h.Answers[1].Data)
	switch {
	case err != nil && bound:
		return unproven(o), nil
	case err != nil:
		return verdict{state: Failed, why: WrongCard}, nil
	case c.told() && !bound && blockedNow(h.Answers[0]): // it would not count the script
		return verdict{state: Failed, why: CardRefused}, nil
	}
	if bound {
		return m.askForUpdate(ctx, Unconfirmed, stageProve, pboc.AAC, l)
	}
	return m.askForUpdate(ctx, Running, stageLoad, pboc.ARQC, l)
}

func (m *Manager) askForUpdate(ctx context.Context, to State, st stage, want pboc.Cryptogram, l online.Lists) (verdict, error) {
	d, err := m.deal(ctx, online.TypeInquiry, 0)
	if err != nil {
		return verdict{}, err
	}
	p := PhaseCryptogram
	if st == stageProve {
		p = PhaseReadBack
	}
	return verdict{state: to, next: &draft{stage: st, keep: l.Bytes(), steps: []step{
		sent(p, d.Options(l.PDOL)), sent(p, d.GenerateAC(want, l.CDOL1)),
	}}}, nil
}

// hearUpdateRequest answers the card's cryptogram with the bank's commands. A
// card that declines, blocked or out of tries, takes them all the same.
func hearUpdateRequest(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	bound := o.seq >= 0
	if v := o.selected(h, bound); v.state != "" {
		return v, nil
	}
	x, l, err := m.heardOnline(ctx, o, h, keep)
	if err == nil {
		_, err = m.cashCounters(ctx, x)
	}
	switch {
	case errors.Is(err, errProof) && bound:
		return unproven(o), nil
	case errors.Is(err, errProof):
		return verdict{state: Failed, why: WrongProof}, nil
	case err != nil:
		return verdict{}, err
	}
	c, err := o.change()
	if err != nil {
		return verdict{}, err
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
	commands, err := m.scriptOf(ctx, x, c)
	if err != nil {
		return verdict{}, err
	}
	for _, s := range commands {
		steps = append(steps, sent(PhaseScript, s))
	}
	for _, l := range c.Limits {
		steps = append(steps, sent(PhaseReadBack, online.GetData(tlv.Tag(l.Tag))))
	}
	v := verdict{state: Running, next: &draft{stage: stageScript, steps: steps}}
	if c.told() {
		v.set = func(o *Order) { o.seq = int(x.ATC) }
	}
	return v, nil
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

// hearUpdated compares the limits that the card gives, or of what the bank is
// told goes on to the proof. Everything an update does may be done again, so a
// session whose end was lost is simply repeated.
func hearUpdated(m *Manager, ctx context.Context, o Order, h heard, _ []byte) (verdict, error) {
	c, err := o.change()
	switch {
	case err != nil:
		return verdict{}, err
	case h.Refused() && o.Stalled+1 >= maxStalled && c.told():
		return verdict{state: Unconfirmed, why: CardRefused, refuse: true, desk: true}, nil
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Failed, why: CardRefused, refuse: true}, nil
	case !h.Complete():
		return lost(h), nil
	case c.told():
		next, err := openUpdate(m, ctx, o)
		return verdict{state: Unconfirmed, next: &next}, err
	}
	back := h.Answers[len(h.Answers)-len(c.Limits):]
	for i, l := range c.Limits {
		want := pboc.Amount(uint64(l.Fen))
		if got, ok := tlv.Find(back[i].Data, tlv.Tag(l.Tag)); !ok || string(got) != string(want[:]) {
			return unproven(o), nil
		}
	}
	return verdict{state: Done}, nil
}

// hearUpdateProof reads in the cryptogram of the transaction right after the
// script's what the card did with it: the bank proved itself, one command was
// carried out, none was refused. Anything else, and any transaction in between,
// proves nothing either way, and the script is made anew.
func hearUpdateProof(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if v := o.selected(h, true); v.state != "" {
		return v, nil
	}
	x, l, err := m.heardOnline(ctx, o, h, keep)
	var iad pboc.IAD
	if err == nil {
		iad, err = m.hsm.CheckAC(ctx, x.Cryptogram)
		err = proofOf(err)
	}
	switch {
	case errors.Is(err, errProof):
		return unproven(o), nil
	case err != nil:
		return verdict{}, err
	}
	const undone = pboc.CVRLastOnlineOpen | pboc.CVRLastIssuerAuthFailed | pboc.CVRNoIssuerAuth | pboc.CVRScriptFailed
	if int(x.ATC) == o.seq+1 && iad.CVR&undone == 0 && iad.CVR.Scripts() == 1 {
		return m.updateProven(ctx, o)
	}
	if o.Stalled+1 >= maxStalled {
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}, nil
	}
	c, err := m.cardOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	v, err := m.askForUpdate(ctx, Unconfirmed, stageLoad, pboc.ARQC, l)
	if err == nil { // a selection has one transaction
		v.next.steps = append([]step{sent(PhaseCryptogram, iso7816.Select(c.Instance))}, v.next.steps...)
	}
	v.why, v.refuse = LinkLost, true
	return v, err
}

// updateProven tells the bank what the card has, in the unit that ends the order.
func (m *Manager) updateProven(ctx context.Context, o Order) (verdict, error) {
	c, err := o.change()
	if err != nil {
		return verdict{}, err
	}
	if c.PIN == nil {
		return verdict{state: Done, effect: func(tx *db.Tx) error { return issuing.ResetPINTries(tx, o.Card) }}, nil
	}
	p, err := m.bank.PIN(ctx, o.Card, *c.PIN)
	if err != nil {
		return verdict{}, err
	}
	return verdict{state: Done, effect: func(tx *db.Tx) error { return issuing.KeepPIN(tx, p) }}, nil
}
