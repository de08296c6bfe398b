package tsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// A work says what a session under the secure channel is to do, bit by bit, in
// this order.
type work byte

const (
	workLook work = 1 << iota // GET STATUS of the instance, then decide
	workKeys                  // PUT KEY: the band's own keys
	workRemove
	workInstall
	workPersonalise
	workActivate
	workRead // plain read-back after the channel

	workAll = workInstall | workPersonalise | workActivate | workRead
)

// A channelKeep is what the scripts of one session under the channel share: all
// commands are derived from it again, so nothing secret is kept.
type channelKeep struct {
	work   work
	host   [8]byte        // challenge of INITIALIZE UPDATE
	fresh  [8]byte        // second challenge: of the read-back
	term   purse.Terminal // terminal number of the read-back's INITIALIZE FOR LOAD
	from   int            // number of the first command in this script
	answer []byte         // of INITIALIZE UPDATE; empty before
}

func (k channelKeep) bytes() []byte {
	b := append([]byte{packVersion, byte(k.work)}, k.host[:]...)
	b = append(append(b, k.fresh[:]...), k.term[:]...)
	return append(binary.BigEndian.AppendUint16(b, uint16(k.from)), k.answer...)
}

func parseChannelKeep(b []byte) (k channelKeep, err error) {
	const head = 2 + 8 + 8 + 6 + 2
	if len(b) < head || b[0] != packVersion {
		return k, errPacked
	}
	k = channelKeep{work: work(b[1]), host: [8]byte(b[2:]), fresh: [8]byte(b[10:]), term: purse.Terminal(b[18:24]),
		from: int(binary.BigEndian.Uint16(b[24:])), answer: b[head:]}
	return k, nil
}

// openChannel begins a session with the issuer security domain.
func (m *Manager) openChannel(ctx context.Context, w work) (draft, error) {
	k := channelKeep{work: w}
	var random [16]byte
	if err := m.hsm.Random(ctx, random[:]); err != nil {
		return draft{}, fmt.Errorf("drawing a host challenge: %w", err)
	}
	k.host, k.fresh = [8]byte(random[:8]), [8]byte(random[8:])
	var err error
	if k.term, err = m.challenge(ctx); err != nil {
		return draft{}, err
	}
	return draft{stage: stageOpen, keep: k.bytes(), steps: []step{
		sent(PhaseChannel, iso7816.Select([]byte(globalplatform.IssuerDomain))),
		sent(PhaseChannel, globalplatform.InitializeUpdate(0, k.host)),
	}}, nil
}

// An inner is one command for the channel before it is wrapped.
type inner struct {
	phase  Phase
	c      iso7816.Command
	keys   []hsm.KeyRef // groups the hsm adds to the end of a STORE DATA
	put    bool         // PUT KEY: made by the hsm whole
	expect []iso7816.SW
}

func under(p Phase, c iso7816.Command, expect ...iso7816.SW) inner {
	if len(expect) == 0 {
		expect = []iso7816.SW{iso7816.OK}
	}
	return inner{phase: p, c: c, expect: expect}
}

// maxKeysPerBlock keeps a STORE DATA with key groups within one command.
const maxKeysPerBlock = 4

// inners lists the commands of a session in order. The first ones are the same
// whatever a look has found, so that a session can go on after it.
func (k channelKeep) inners(d issuing.Personalisation) []inner {
	var out []inner
	if k.work&workLook != 0 {
		get := globalplatform.GetStatus{Part: globalplatform.Applications, Prefix: d.Instance}
		out = append(out, under(PhaseLook, get.Command(), iso7816.OK, iso7816.SWReferenceNotFound))
	}
	if k.work&workKeys != 0 {
		out = append(out, inner{phase: PhaseKeys, put: true, expect: []iso7816.SW{iso7816.OK}})
	}
	if k.work&workRemove != 0 {
		out = append(out, under(PhaseRemove, globalplatform.Delete{App: d.Instance}.Command(), iso7816.OK, iso7816.SWReferenceNotFound))
	}
	if k.work&workInstall != 0 {
		in := globalplatform.InstallApplet(d.LoadFile, d.Module, d.Instance, globalplatform.Privileges{}, nil)
		out = append(out, under(PhaseInstall, in.Command()))
	}
	if k.work&workPersonalise != 0 {
		out = append(out, under(PhasePersonalise, globalplatform.Personalize(d.Instance).Command()))
		out = append(out, store(d)...)
	}
	if k.work&workActivate != 0 {
		set := globalplatform.SetStatus{Part: globalplatform.Applications, State: globalplatform.Personalized, App: d.Instance}
		out = append(out, under(PhaseActivate, set.Command()))
	}
	return out
}

// store lists the STORE DATA commands of a dossier: files first, keys last.
func store(d issuing.Personalisation) []inner {
	blocks, err := globalplatform.StoreData(d.Groups, maxPlain)
	if err != nil {
		panic(err) // a dossier is a few hundred bytes
	}
	var out []inner
	for _, c := range blocks {
		out = append(out, under(PhasePersonalise, c))
	}
	for at := 0; at < len(d.Keys); at += maxKeysPerBlock {
		in := under(PhasePersonalise, iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsStoreData, Le: iso7816.NoLe})
		in.keys = d.Keys[at:min(at+maxKeysPerBlock, len(d.Keys))]
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

// tail is what follows the channel in plain: proof that the work was done.
func (k channelKeep) tail(o Order, d issuing.Personalisation) []step {
	switch {
	case k.work&workKeys != 0:
		return []step{
			sent(PhaseReadBack, iso7816.Select([]byte(globalplatform.IssuerDomain))),
			sent(PhaseReadBack, globalplatform.InitializeUpdate(0, k.fresh)),
		}
	case k.work&workRead == 0:
		return nil
	case o.Kind == SAM:
		return []step{
			sent(PhaseReadBack, iso7816.Select([]byte(d.Instance))),
			sent(PhaseReadBack, iso7816.ReadBinarySFI(purse.SFISAMTerminal, 0, len(purse.Terminal{}))),
		}
	}
	return append([]step{sent(PhaseReadBack, iso7816.Select([]byte(d.Instance)))}, proofs(PhaseReadBack, k.term)...)
}

// proofs are the two commands by which a purse shows both its sequences, and
// its balance under MAC1. Neither changes anything.
func proofs(p Phase, t purse.Terminal) []step {
	return []step{
		sent(p, purse.InitPurchase{Purse: purse.EP, Key: keyIndex, Terminal: t}.Command()),
		sent(p, purse.InitLoad{Purse: purse.EP, Key: keyIndex, Terminal: t}.Command()),
	}
}

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
		steps = append(steps, k.tail(o, d)...)
	}
	to := len(steps)
	if n := m.cfg.Chunk; st == stageWork && n > 0 && k.from+n < channel {
		to = k.from + n
	}
	return draft{stage: st, steps: steps[k.from:to], keep: k.bytes()}, nil
}

// hearOpen takes the answer to INITIALIZE UPDATE and prepares the rest.
func hearOpen(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if h.refused() && o.Stalled+1 >= maxStalled {
		return verdict{state: Unconfirmed, why: KeepsFailing, refuse: true, desk: true}, nil
	}
	if !h.complete() {
		return again(h), nil
	}
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	k.answer = h.answers[1].Data
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
	if !h.complete() {
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
	found := absent
	if r := h.answers[1]; r.SW.OK() {
		if found, err = lifeOf(r.Data, d.Instance); err != nil {
			return verdict{state: Unconfirmed, why: WrongProof, refuse: true}, nil
		}
	}
	return m.found(ctx, o, d, k, found)
}

// absent is the life cycle of an instance that is not in the element.
const absent byte = 0

func lifeOf(data []byte, app globalplatform.AID) (byte, error) {
	list, err := globalplatform.ParseStatus(data)
	if err != nil {
		return absent, err
	}
	for _, e := range list {
		if e.AID == app {
			return e.State, nil
		}
	}
	return absent, nil
}

// found goes on at the first phase that is missing.
func (m *Manager) found(ctx context.Context, o Order, d issuing.Personalisation, k channelKeep, life byte) (verdict, error) {
	k.from = 2 // after EXTERNAL AUTHENTICATE and GET STATUS
	switch {
	case o.Kind == Delete && life == absent:
		return m.gone(o)
	case o.Kind == Delete:
		return m.stillThere(ctx, o)
	case o.Stop && life == absent:
		return stopped(o), nil
	case o.Stop:
		k.work |= workRemove
	case life == absent:
		k.work |= workAll
	case life == globalplatform.Personalized:
		k.work |= workRead
	default:
		k.work |= workPersonalise | workActivate | workRead
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
	case !h.refused() || o.Stalled+1 < maxStalled:
	case (o.Kind == Issue || o.Kind == SAM) && !o.Stop:
		v.set = func(o *Order) { o.Stop, o.Why, o.Stalled = true, KeepsFailing, 0 }
	default:
		v.desk = true
	}
	return v
}

// hearWork reads a script of the channel's work: more of it, or the proof.
func hearWork(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	if !h.complete() {
		return m.stalled(o, h), nil
	}
	d, err := m.dossierOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	k.from += len(h.steps)
	if total := 1 + len(k.inners(d)) + len(k.tail(o, d)); k.from < total {
		return m.goOn(ctx, o, d, k)
	}
	return m.finished(ctx, o, d, k, h)
}
