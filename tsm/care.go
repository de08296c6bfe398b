package tsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"koala/hsm"
	"koala/issuing"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/tsm/online"
	"koala/tsm/script"
)

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
	list, err := globalplatform.ParseContactlessStatus(h.Answers[2].Data)
	if err != nil || len(list) == 0 || list[0].AID != globalplatform.AID(c.Instance) || !slices.Contains(paying, o.CardKind) {
		return verdict{state: Running, why: WrongProof, refuse: true}, nil
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
			d.steps[0].Expect = append(d.steps[0].Expect, iso7816.SWSelectedBlocked)
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
	l, err := online.ParseLists(h.Answers[0].Data, h.Answers[1].Data)
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
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, script.ErrStored)
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
	if !h.Complete() {
		if h.Refused() && o.Stalled+1 >= maxStalled {
			return verdict{state: Failed, why: CardRefused, refuse: true}, nil
		}
		return lost(h), nil
	}
	var c Change
	if err := json.Unmarshal(o.data, &c); err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, script.ErrStored)
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
