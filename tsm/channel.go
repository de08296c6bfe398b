package tsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm/domain"
	"koala/tsm/native"
	"koala/tsm/online"
	"koala/tsm/script"
)

// A work says what a session under the secure channel is to do, bit by bit, in
// this order.
type work uint16

const (
	workLook    work = 1 << iota // GET STATUS of the instance, then decide
	workKeys                     // PUT KEY: the band's own keys
	workUnlock                   // SET STATUS without the lock: to prove a balance, or with workConfirm for good
	workRemove                   // DELETE of the instance
	workTakeOut                  // STORE DATA that takes the card out of a shared instance
	workDomain                   // INSTALL of the partners' security domain
	workInstall
	workExtradite // the instance goes to the partners' domain
	workPersonalise
	workActivate
	workRead    // plain read-back after the channel
	workLock    // SET STATUS with the lock
	workPutBack // STORE DATA of what a block took out
	workConfirm // GET STATUS once more

	// Before any of it, of a card in a firm's domain:
	workAuthority // into the issuer's domain the keys of delegated management, below it the firm's domain
	workFirmKeys  // into the firm's domain its own keys

	workWrite = workPersonalise | workActivate | workRead
	workAll   = workInstall | workWrite
)

// A channelKeep is what the scripts of one session under the channel share: all
// commands are derived from it again, so nothing secret is kept.
type channelKeep struct {
	work   work
	host   [8]byte            // challenge of INITIALIZE UPDATE
	fresh  [8]byte            // second challenge: of the read-back
	term   purse.Terminal     // terminal number of the read-back's INITIALIZE FOR LOAD
	space  uint32             // quota of the partners' domain, bytes
	from   int                // number of the first command in this script
	answer []byte             // of INITIALIZE UPDATE; empty before
	domain globalplatform.AID // of the firm whose cards share the instance; empty: the issuer's manages it
}

const keepVersion = 3 // 2 had no domain

func (k channelKeep) bytes() []byte {
	b := binary.BigEndian.AppendUint16([]byte{keepVersion}, uint16(k.work))
	b = append(append(append(b, k.host[:]...), k.fresh[:]...), k.term[:]...)
	b = binary.BigEndian.AppendUint32(b, k.space)
	b = append(binary.BigEndian.AppendUint16(b, uint16(k.from)), byte(len(k.domain)))
	return append(append(b, k.domain...), k.answer...)
}

func parseChannelKeep(b []byte) (k channelKeep, err error) {
	const head = 3 + 8 + 8 + 6 + 4 + 2
	if len(b) < head || b[0] != keepVersion && b[0] != keepVersion-1 {
		return k, script.ErrStored
	}
	rest := b[head:]
	if b[0] == keepVersion {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return k, script.ErrStored
		}
		k.domain, rest = globalplatform.AID(rest[1:1+rest[0]]), rest[1+rest[0]:]
	}
	k = channelKeep{domain: k.domain, work: work(binary.BigEndian.Uint16(b[1:])), host: [8]byte(b[3:]), fresh: [8]byte(b[11:]), term: purse.Terminal(b[19:25]),
		space: binary.BigEndian.Uint32(b[25:]), from: int(binary.BigEndian.Uint16(b[29:])), answer: rest}
	return k, nil
}

// uid is the element's, which its key data end with.
func (k channelKeep) uid() ([]byte, error) {
	a, err := globalplatform.ParseInitAnswer(k.answer)
	return a.KDD[3:], err
}

// openChannel begins a session with the domain that manages the order's card:
// the issuer's, or for firms' cards the firm's. A session that follows refusals
// goes through the issuer's in any case: the keys there may be of before a
// rotation, or the quota of before the firm got more.
func (m *Manager) openChannel(ctx context.Context, o Order, w work) (draft, error) {
	k := channelKeep{work: w, space: m.cfg.Partners, domain: issuing.DomainOf(o.instance)}
	if k.space == 0 {
		k.space = domain.PartnersSpace
	}
	if k.domain != "" && (o.Stalled > 1 || o.Stalled == 1 && !o.Stop) {
		k.work |= workAuthority
	}
	return m.begin(ctx, k)
}

// begin draws the challenges of a session.
func (m *Manager) begin(ctx context.Context, k channelKeep) (draft, error) {
	var random [16]byte
	if err := m.hsm.Random(ctx, random[:]); err != nil {
		return draft{}, fmt.Errorf("drawing a host challenge: %w", err)
	}
	k.host, k.fresh = [8]byte(random[:8]), [8]byte(random[8:])
	var err error
	if k.term, err = m.challenge(ctx); err != nil {
		return draft{}, err
	}
	return draft{stage: stageOpen, keep: k.bytes(), steps: k.opening(k.manager(), k.host)}, nil
}

// An inner is one command for the channel before it is wrapped.
type inner struct {
	phase  Phase
	c      iso7816.Command
	show   []byte       // its data as the log has them, where that differs
	keys   []hsm.KeyRef // groups the hsm adds to the end of a STORE DATA
	put    bool         // PUT KEY: made by the hsm whole
	bring  hsm.Bring    // of other keys
	expect []iso7816.SW
}

func under(p Phase, c iso7816.Command, expect ...iso7816.SW) inner {
	if len(expect) == 0 {
		expect = []iso7816.SW{iso7816.OK}
	}
	return inner{phase: p, c: c, expect: expect}
}

// inners lists the commands of a session in order. The first ones are the same
// whatever a look has found, so that a session can go on after it.
func (k channelKeep) inners(d issuing.Personalisation) []inner {
	var out []inner
	add := func(w work, list ...inner) {
		if k.work&w != 0 {
			out = append(out, list...)
		}
	}
	look := globalplatform.GetStatus{Part: globalplatform.Applications, Prefix: d.Instance}.Command()
	state := func(s byte) iso7816.Command {
		return globalplatform.SetStatus{Part: globalplatform.Applications, State: s, App: d.Instance}.Command()
	}
	pass := under(PhasePersonalise, globalplatform.Personalize(d.Instance).Command())
	add(workLook, under(PhaseLook, look, iso7816.OK, globalplatform.SWMore, iso7816.SWReferenceNotFound))
	if d.Shared && k.domain == "" {
		partners := globalplatform.GetStatus{Part: globalplatform.Applications, Prefix: domain.Partners}.Command()
		add(workLook, under(PhaseLook, partners, iso7816.OK, globalplatform.SWMore, iso7816.SWReferenceNotFound))
	}
	add(workKeys, inner{phase: PhaseKeys, put: true, expect: []iso7816.SW{iso7816.OK}})
	unlock := PhaseBalance
	if k.work&workConfirm != 0 {
		unlock = PhaseLock
	}
	add(workUnlock, under(unlock, state(globalplatform.Personalized)))
	add(workRemove, under(PhaseRemove, globalplatform.Delete{App: d.Instance}.Command(), iso7816.OK, iso7816.SWReferenceNotFound))
	if k.work&workTakeOut != 0 {
		out = append(out, pass.in(PhaseRemove))
		out = append(out, store(PhaseRemove, d.Remove, nil)...)
	}
	add(workDomain, under(PhaseInstall, domain.Install(domain.Partners, k.space, false).Command()))
	add(workInstall, under(PhaseInstall, globalplatform.InstallApplet(d.LoadFile, d.Module, d.Instance, globalplatform.Privileges{}, d.Install).Command()))
	add(workExtradite, under(PhaseInstall, globalplatform.Install{For: globalplatform.ForExtradition, App: d.Instance, Domain: domain.Partners}.Command()))
	if k.work&workPersonalise != 0 {
		out = append(append(out, pass), store(PhasePersonalise, d.Groups, d.Keys)...)
	}
	add(workActivate, under(PhaseActivate, state(globalplatform.Personalized)))
	add(workLock, under(PhaseLock, state(globalplatform.LockBit|globalplatform.Personalized)))
	if k.work&workPutBack != 0 {
		out = append(append(out, pass.in(PhaseLock)), store(PhaseLock, d.Groups, d.Keys)...)
	}
	add(workConfirm, under(PhaseReadBack, look, iso7816.OK, iso7816.SWReferenceNotFound))
	return out
}

func (in inner) in(p Phase) inner {
	in.phase = p
	return in
}

// store lists the STORE DATA commands of a dossier: files first, then keys, as
// many groups in a command as fit.
func store(p Phase, groups []globalplatform.DGI, keys []hsm.KeyRef) []inner {
	blocks, err := globalplatform.StoreData(groups, maxPlain)
	shown, err2 := globalplatform.StoreData(script.Conceal(groups), maxPlain)
	if err != nil || err2 != nil {
		panic("tsm: a dossier is at most some kilobytes")
	}
	var out []inner
	for i, c := range blocks {
		in := under(p, c)
		in.show = shown[i].Data
		out = append(out, in)
	}
	for at := 0; at < len(keys); {
		to, size := at, 0
		for to < len(keys) && (to == at || size+keys[to].Size() <= maxPlain) {
			size += keys[to].Size()
			to++
		}
		in := under(p, iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsStoreData, Le: iso7816.NoLe})
		in.keys, at = keys[at:to], to
		out = append(out, in)
	}
	for i := range out {
		out[i].c.P1, out[i].c.P2 = globalplatform.StoreDGI, byte(i)
	}
	out[len(out)-1].c.P1 |= globalplatform.StoreLast
	return out
}

// maxPlain is the longest plain data of a command under C-MAC and C-ENC.
const maxPlain = 239

// draftWork wraps the session's commands and makes a script of them from number
// k.from on: up to the end of a look, or up to cfg.Chunk, or all. What follows
// the channel always stays together.
func (m *Manager) draftWork(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep) (draft, error) {
	steps, err := m.wrap(ctx, k, d, k.inners(d))
	if err != nil {
		return draft{}, err
	}
	channel := len(steps)
	st := stageWork
	if k.work == workLook {
		st = stageLook
	} else {
		steps = append(steps, m.tail(o, d, k)...)
	}
	to := len(steps)
	if n := m.cfg.Chunk; st == stageWork && n > 0 && k.from+n < channel {
		to = k.from + n
	}
	return draft{stage: st, steps: steps[k.from:to], keep: k.bytes()}, nil
}

// hearOpen takes the answer to INITIALIZE UPDATE and prepares the rest.
func hearOpen(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	k, err := parseChannelKeep(keep)
	switch {
	case err != nil:
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	case len(h.Answers) == 1 && h.RefusedWith(iso7816.SWFileNotFound) && k.manager() == k.domain:
		return m.homeless(ctx, o, k)
	case h.Refused() && o.Stalled+1 >= maxStalled:
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}, nil
	case !h.Complete():
		return again(h), nil
	}
	k.answer = h.Answers[1].Data
	return m.opened(ctx, o, k)
}

// opened goes on with a session whose domain has answered: what a firm's domain
// lacks comes first.
func (m *Manager) opened(ctx context.Context, o Order, k channelKeep) (verdict, error) {
	if k.domain != "" {
		a, err := globalplatform.ParseInitAnswer(k.answer)
		switch {
		case err != nil:
			return unproven(o), nil
		case k.work&workAuthority == 0 && !hsm.OwnDomainKeys(a):
			k.work |= workFirmKeys
		}
		if k.work&(workAuthority|workFirmKeys) != 0 {
			return m.prepare(ctx, o, k)
		}
	}
	d, err := m.dossierOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	return m.goOn(ctx, o, d, k)
}

// goOn makes the next script of a session. An element whose cryptogram does not
// verify is not the band's, or has other keys.
func (m *Manager) goOn(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep) (verdict, error) {
	next, err := m.draftWork(ctx, o, d, k)
	switch {
	case errors.Is(err, errProof):
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true, desk: o.Stalled+1 >= maxStalled}, nil
	case err != nil:
		return verdict{}, err
	}
	return verdict{state: Running, next: &next}, nil
}

// hearLook reads GET STATUS: whether the instance is there and how far it is.
func hearLook(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	d, err := m.dossierOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	k.from = len(h.Steps)
	l, err := domain.Looked(d.Instance, h.Answers[1:])
	if err != nil {
		return verdict{state: Unconfirmed, why: WrongProof, refuse: true}, nil
	}
	return m.found(ctx, o, d, k, l)
}

// found goes on at the first phase that is missing.
func (m *Manager) found(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, l domain.Look) (verdict, error) {
	switch {
	case o.Kind == Block || o.Kind == Unblock:
		return m.foundToLock(ctx, o, d, k, l)
	case o.Kind == Delete:
		return m.foundToRemove(ctx, o, d, k, l.Life)
	case o.Stop && l.Life == domain.Absent:
		return stopped(o), nil
	case o.Stop:
		w, err := m.removal(ctx, o, d)
		if err != nil {
			return verdict{}, err
		}
		k.work |= w
	case l.Life&globalplatform.LockBit != 0 && !d.Shared:
		k.work |= workRemove | workAll // of some older card
	case l.Life == globalplatform.Personalized && !d.Shared:
		k.work |= workRead
	default:
		k.work |= k.place(d, l) | workWrite
	}
	return m.goOn(ctx, o, d, k)
}

// stopped ends an issue whose traces are out of the element.
func stopped(o Order) verdict {
	if o.Why == Given || o.Why == NoReason {
		return verdict{state: Cancelled, why: Given}
	}
	return verdict{state: Failed, why: o.Why}
}

// stalled is the verdict on a session under the channel that did not get
// through. An issue that the element keeps refusing is taken back; if even that
// does not work, staff must look.
func (m *Manager) stalled(o Order, h heard) verdict {
	v := lost(h)
	switch {
	case h.RefusedWith(iso7816.SWNoSpace) && issuing.DomainOf(o.instance) != "" && o.Stalled == 0: // the firm may have got more since
	case h.RefusedWith(iso7816.SWNoSpace) && (o.Kind == Issue || o.Kind == SAM) && !o.Stop:
		v.set = func(o *Order) { o.Stop, o.Why, o.Stalled = true, NoSpace, 0 }
	case !h.Refused() || o.Stalled+1 < maxStalled:
	case (o.Kind == Issue || o.Kind == SAM) && !o.Stop:
		v.set = func(o *Order) { o.Stop, o.Why, o.Stalled = true, KeepsFailing, 0 }
	default:
		v.desk = true
	}
	return v
}

// hearWork reads a script of the channel's work: more of it, or the proof. What
// a firm's domain confirmed in it is kept.
func hearWork(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	kept, err := m.receipts(ctx, o, k, h)
	switch {
	case errors.Is(err, errProof):
		return unproven(o), nil
	case err != nil:
		return verdict{}, err
	}
	v, err := m.heardWork(ctx, o, k, h)
	if len(kept) > 0 {
		effect := v.effect
		v.effect = func(tx *db.Tx) error {
			if err := keepReceipts(tx, o, kept); err != nil || effect == nil {
				return err
			}
			return effect(tx)
		}
	}
	return v, err
}

func (m *Manager) heardWork(ctx context.Context, o Order, k channelKeep, h heard) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	d, err := m.dossierOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	k.from += len(h.Steps)
	if total := 1 + len(k.inners(d)) + len(m.tail(o, d, k)); k.from < total {
		return m.goOn(ctx, o, d, k)
	}
	return m.finished(ctx, o, d, k, h)
}

// errProof says that something the element should have made with its keys was
// not made with them. It is an answer, not a failure of the house.
var errProof = errors.New("tsm: the element's proof does not verify")

// proofOf turns the hsm's ways to say "this is not its key" into errProof.
func proofOf(err error) error {
	for _, no := range []error{hsm.ErrTAC, hsm.ErrMAC1, hsm.ErrCryptogram, hsm.ErrAnswer, hsm.ErrNoKey, hsm.ErrAC, hsm.ErrBalance, hsm.ErrReceipt, online.ErrAnswer, native.ErrAnswer} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", errProof, err)
		}
	}
	return err
}

// wrap makes the whole session's commands again from its beginning: EXTERNAL
// AUTHENTICATE and every inner command under the channel. It gives the same
// bytes each time, so a session can go on after a look without anybody keeping
// session keys.
func (m *Manager) wrap(ctx context.Context, k channelKeep, d issuing.Personalisation, list []inner) ([]step, error) {
	s := hsm.Script{HostChallenge: k.host, InitAnswer: k.answer, Level: globalplatform.CMAC | globalplatform.CENC}
	if k.manager() == k.domain {
		s.Domain = k.domain
	}
	for i, in := range list {
		if s.Domain != "" && needsToken(in.c) {
			var err error
			if in.c, err = m.hsm.SignToken(ctx, in.c); err != nil {
				return nil, fmt.Errorf("signing a token: %w", err)
			}
			list[i] = in
		}
		s.Commands = append(s.Commands, hsm.Plain{Command: in.c, Keys: in.keys, PutKeys: in.put, Bring: in.bring})
	}
	wrapped, err := m.hsm.WrapScript(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("wrapping a script: %w", proofOf(err))
	}
	out := make([]step, len(wrapped))
	out[0] = step{Phase: string(PhaseChannel), Plain: wrapped[0], Wire: wrapped[0].Bytes(), Expect: []iso7816.SW{iso7816.OK}}
	for i, in := range list {
		out[i+1] = step{Phase: string(in.phase), Plain: in.shown(), Wire: wrapped[i+1].Bytes(), Expect: in.expect, Secret: in.names()}
	}
	return out, nil
}

// shown is the command for the log: key material is not in it, only its place.
func (in inner) shown() iso7816.Command {
	c := in.c
	if in.put || in.bring.Key == hsm.DomainKeys {
		return iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsPutKey, P2: 0x81, Le: iso7816.NoLe}
	}
	if in.bring.Key != 0 {
		return iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsPutKey, P2: 0x01, Le: iso7816.NoLe}
	}
	if in.show != nil {
		c.Data = in.show
	}
	return c
}

func (in inner) names() (out []string) {
	if in.put {
		return []string{hsm.LabelENC, hsm.LabelMAC, hsm.LabelDEK}
	}
	switch in.bring.Key {
	case hsm.TokenKey:
		out = []string{hsm.LabelInstallToken}
	case hsm.ReceiptKey:
		out = []string{hsm.LabelReceipt}
	case hsm.DomainKeys:
		out = []string{hsm.LabelDomainENC, hsm.LabelDomainMAC, hsm.LabelDomainDEK}
	}
	for _, k := range in.keys {
		out = append(out, k.Label)
	}
	return out
}

// proofs are the two commands by which a purse shows both its sequences, and
// its balance under MAC1. Neither changes anything.
func proofs(p Phase, t purse.Terminal) []step {
	return []step{
		sent(p, purse.InitPurchase{Purse: purse.EP, Key: keyIndex, Terminal: t}.Command()),
		sent(p, purse.InitLoad{Purse: purse.EP, Key: keyIndex, Terminal: t}.Command()),
	}
}
