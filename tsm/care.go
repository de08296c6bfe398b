package tsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
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

// Suspend reports a band lost, in one act: the house refuses its cards from now
// on, what had not begun is cancelled, and a block of every card waits for the
// element, should it ever be seen again. Again it changes nothing.
func (m *Manager) Suspend(tx *db.Tx, band string) ([]Order, error) {
	out, err := m.suspend(tx, band)
	if err != nil {
		return nil, fmt.Errorf("suspending band %s: %w", band, err)
	}
	return out, nil
}

func (m *Manager) suspend(tx *db.Tx, band string) (out []Order, err error) {
	b, err := BandOf(tx, band)
	if err != nil {
		return nil, err
	}
	if b.Lost.IsZero() {
		b.Lost = tx.Now()
		if err := errors.Join(setLost(tx, band, b.Lost), m.cancelUntouched(tx, band)); err != nil {
			return nil, err
		}
	}
	list, err := issuing.Suspend(tx, band)
	for _, c := range list {
		if err != nil || c.State == issuing.Blocked || c.State == issuing.Ordered {
			continue
		}
		var o Order
		o, err = m.place(tx, Request{Ref: lostRef(b, c.ID), Kind: Block, Band: band, Card: c.ID, behind: true})
		out = append(out, o)
	}
	return out, err
}

// lostRef names the block of a card for one loss of its band.
func lostRef(b Band, card issuing.CardID) string {
	return fmt.Sprintf("lost:%s:%d", card, b.Lost.UnixMilli())
}

// cancelUntouched cancels a band's orders of which nothing has left the house.
func (m *Manager) cancelUntouched(tx *db.Tx, band string) error {
	list, err := orders(tx, `band = $1 AND open AND kind <> $2 ORDER BY id`, band, Adopt)
	for _, o := range list {
		if err == nil && m.untouched(o) {
			_, err = m.Cancel(tx, o.ID)
		}
	}
	return err
}

// Restore takes a band back that was found: its cards may be used again. A block
// that has not begun is cancelled, one that has is undone by an order behind it.
func (m *Manager) Restore(tx *db.Tx, band string) ([]Order, error) {
	out, err := m.restore(tx, band)
	if err != nil {
		return nil, fmt.Errorf("restoring band %s: %w", band, err)
	}
	return out, nil
}

func (m *Manager) restore(tx *db.Tx, band string) (out []Order, err error) {
	b, err := BandOf(tx, band)
	if err != nil || b.Lost.IsZero() {
		return nil, err
	}
	list, err := issuing.Restore(tx, band)
	for _, c := range list {
		if err != nil {
			return nil, err
		}
		o, found := orderByRef(tx, lostRef(b, c.ID))
		switch {
		case errors.Is(found, ErrNotFound) || found == nil && (o.State == Failed || o.State == Cancelled):
		case found != nil:
			err = found
		case o.State == Placed:
			_, err = m.Cancel(tx, o.ID)
		default:
			o, err = m.place(tx, Request{Ref: "found:" + o.ID, Kind: Unblock, Band: band, Card: c.ID, behind: true})
			out = append(out, o)
		}
	}
	if err == nil {
		err = setLost(tx, band, time.Time{})
	}
	return out, err
}

// MoveTo orders the cards of a lost band for another one of the same owner:
// every card anew, as its product is today, in place of the old one. carry has
// what a transit card takes along beside its money. The money follows as the
// card proved it last, from the wallet: with the issue where the claim for it is
// due already, later by itself where terminals may still hand payments in (see
// issuing.Claim). Cut off or called again it orders nothing twice; where some
// cards cannot be moved, the error says why, and the others are ordered.
func (m *Manager) MoveTo(ctx context.Context, old, to string, carry map[issuing.CardID]issuing.Carry) ([]Order, error) {
	var list []issuing.Card
	err := m.store.Read(ctx, func(q *db.Query) error {
		from, err := BandOf(q, old)
		if err != nil {
			return err
		}
		next, err := BandOf(q, to)
		if err != nil {
			return err
		}
		if from.Lost.IsZero() || !next.Lost.IsZero() || next.Owner != from.Owner || old == to {
			return ErrState
		}
		list, err = issuing.InBand(q, old)
		return err
	})
	var out []Order
	for _, c := range list {
		if c.Suspended.IsZero() || c.State != issuing.Active && c.State != issuing.Blocked {
			continue
		}
		o, failed := m.moveCard(ctx, c, to, carry[c.ID]) // one that cannot go does not keep the others
		if failed == nil {
			out = append(out, o)
		}
		err = errors.Join(err, failed)
	}
	if err != nil {
		return out, fmt.Errorf("moving the cards of band %s to %s: %w", old, to, err)
	}
	return out, nil
}

// moveCard opens the card that takes c's place and orders its issue.
func (m *Manager) moveCard(ctx context.Context, c issuing.Card, to string, carry issuing.Carry) (o Order, err error) {
	ref := "move:" + string(c.ID)
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		o, err = orderByRef(q, ref)
		return err
	})
	if !errors.Is(err, ErrNotFound) {
		return o, err
	}
	var number *issuing.Numbered
	if c.Kind.Bank() {
		n, err := m.bank.Number(ctx, c.Product)
		if err != nil {
			return o, err
		}
		number = &n
	}
	err = m.store.Write(ctx, func(tx *db.Tx) error {
		heir, err := issuing.Open(tx, issuing.Application{Ref: ref, Customer: c.Customer, Band: to, Product: c.Product, PAN: number, Replaces: c.ID, Carry: carry})
		if err != nil {
			return err
		}
		amount, due, err := claimed(tx, c.ID, heir.ID)
		if err != nil {
			return err
		}
		if !due.IsZero() {
			if err := insertMove(tx, c.ID, heir.ID, due); err != nil {
				return err
			}
		}
		o, err = m.place(tx, Request{Ref: ref, Kind: Issue, Band: to, Card: heir.ID, Customer: string(c.Customer), Amount: amount})
		return err
	})
	return o, err
}

// claimed pays the claim for a lost card to its holder's wallet, to go on to the
// heir. Where it is not due yet, nothing is paid and due says when it will be.
func claimed(tx *db.Tx, old, heir issuing.CardID) (fen money.Amount, due time.Time, err error) {
	k, err := issuing.ClaimOf(tx, old)
	switch {
	case errors.Is(err, issuing.ErrNoClaim):
		return money.Fen(0), due, nil // a card without money
	case err == nil && tx.Now().Before(k.Due):
		return money.Fen(0), k.Due, nil
	case err == nil:
		k, err = issuing.Move(tx, old, heir)
	}
	return k.Fen, due, err
}

// followMoves lets the money of lost cards follow to the cards in their place
// whose claims have become due.
func (m *Manager) followMoves(ctx context.Context, now time.Time) error {
	var list []move
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = movesDue(q, now)
		return err
	})
	for _, v := range list {
		if err == nil {
			err = m.store.Write(ctx, func(tx *db.Tx) error { return m.follow(tx, v) })
		}
	}
	if err != nil {
		return fmt.Errorf("money of lost cards: %w", err)
	}
	return nil
}

// follow pays one claim and orders the top-up with it. What cannot be loaded
// stays in the wallet; what cannot be paid yet is looked at again.
func (m *Manager) follow(tx *db.Tx, v move) error {
	c, err := issuing.Get(tx, v.to)
	switch {
	case err != nil:
		return err
	case c.State.Over():
		return endMove(tx, v.from, "no card") // the claim stays with its holder
	case c.State != issuing.Active:
		return nil
	}
	fen, due, err := claimed(tx, v.from, v.to)
	switch {
	case errors.Is(err, issuing.ErrState) || errors.Is(err, issuing.ErrBusyLoad):
		return endMove(tx, v.from, "not moved") // found again, or at the desk
	case err != nil || !due.IsZero():
		return err
	case fen.IsZero():
		return endMove(tx, v.from, "nothing")
	}
	o, err := m.place(tx, Request{Ref: "follow:" + string(v.from), Kind: TopUp, Band: c.Band, Card: c.ID, Amount: fen, follows: true})
	if errors.Is(err, ledger.ErrInsufficient) || errors.Is(err, ErrOverCard) || errors.Is(err, ErrAmount) {
		return endMove(tx, v.from, "stays in the wallet")
	}
	if err != nil {
		return err
	}
	return endMove(tx, v.from, o.ID)
}
