package tsm

import (
	"context"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/tsm/domain"
)

// A firm's cards live in a security domain of its own, which the house makes with
// the first of them and manages under the domain's own keys. It has no authority:
// every INSTALL and DELETE in it carries the house's token, and is answered with
// the element's receipt (GPCS 9.1.3.3).

// manager is the domain that the session speaks to.
func (k channelKeep) manager() globalplatform.AID {
	if k.domain == "" || k.work&workAuthority != 0 {
		return globalplatform.IssuerDomain
	}
	return k.domain
}

func (k channelKeep) opening(to globalplatform.AID, challenge [8]byte) []step {
	return []step{sent(PhaseChannel, iso7816.Select([]byte(to))), sent(PhaseChannel, globalplatform.InitializeUpdate(0, challenge))}
}

// place is the work that puts an instance where it belongs, as far as it is not
// there.
func (k channelKeep) place(d issuing.Personalisation, l domain.Look) (w work) {
	if l.Life == domain.Absent {
		w = workInstall
	}
	if d.Shared && k.domain == "" && !l.Partners {
		w |= workDomain
	}
	if d.Shared && k.domain == "" && !l.Apart {
		w |= workExtradite
	}
	return w
}

// homeless goes on in an element without the firm's domain: what writes cards
// makes it, everything else finds the card gone.
func (m *Manager) homeless(ctx context.Context, o Order, k channelKeep) (verdict, error) {
	switch {
	case o.Kind == Issue && !o.Stop, o.Kind == Unblock:
		k.work |= workAuthority
		next, err := m.begin(ctx, k)
		return verdict{state: Running, next: &next}, err
	case o.Kind == Block:
		return verdict{state: Failed, why: NotThere}, nil
	}
	d, err := m.dossierOf(ctx, o)
	if err != nil {
		return verdict{}, err
	}
	return m.found(ctx, o, d, k, domain.Look{})
}

// prepare is the script that gives an element the keys of delegated management
// and the firm's domain, or that domain its keys. It ends where the session with
// the domain begins.
func (m *Manager) prepare(ctx context.Context, o Order, k channelKeep) (verdict, error) {
	list := []inner{bringing(hsm.Bring{Key: hsm.DomainKeys, Domain: k.domain}, iso7816.OK)}
	if k.work&workAuthority != 0 {
		if err := m.hsm.ProvisionDomains(ctx); err != nil {
			return verdict{}, err
		}
		space, err := m.grantOf(ctx, k.domain)
		if err != nil {
			return verdict{}, err
		}
		list = append(fresh(hsm.TokenKey), fresh(hsm.ReceiptKey)...)
		list = append(list, under(PhaseInstall, domain.Install(k.domain, space, true).Command(), iso7816.OK, iso7816.SWConditions),
			under(PhaseInstall, domain.Grant(k.domain, space).Command(), iso7816.OK, iso7816.SWNoSpace))
	}
	steps, err := m.wrap(ctx, k, issuing.Personalisation{}, list)
	switch {
	case errors.Is(err, errProof):
		return unproven(o), nil
	case err != nil:
		return verdict{}, err
	}
	next := draft{stage: stageDomain, steps: append(steps, k.opening(k.domain, k.fresh)...), keep: k.bytes()}
	return verdict{state: Running, next: &next}, nil
}

// fresh brings in the newest version of a key: over the one that is there, or if
// there was none as the first.
func fresh(key hsm.Brought) []inner {
	return []inner{bringing(hsm.Bring{Key: key, Replace: true}, iso7816.OK, iso7816.SWReferenceNotFound),
		bringing(hsm.Bring{Key: key}, iso7816.OK, iso7816.SWData)}
}

func bringing(b hsm.Bring, expect ...iso7816.SW) inner {
	return inner{phase: PhaseInstall, bring: b, expect: expect}
}

// grantOf is the quota of a firm's domain: its cards' and what the domain takes.
func (m *Manager) grantOf(ctx context.Context, aid globalplatform.AID) (uint32, error) {
	var f issuing.Firm
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		f, err = issuing.FirmAt(q, aid)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("firm of domain %X: %w", string(aid), err)
	}
	return uint32(f.Space) + domain.Overhead, nil
}

// hearDomain goes on when the firm's domain has what it lacked.
func hearDomain(m *Manager, ctx context.Context, o Order, h heard, keep []byte) (verdict, error) {
	if !h.Complete() {
		return m.stalled(o, h), nil
	}
	k, err := parseChannelKeep(keep)
	if err != nil {
		return verdict{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	gave := k.work & workFirmKeys
	k.work &^= workAuthority | workFirmKeys
	k.host, k.answer = k.fresh, h.Answers[len(h.Answers)-1].Data
	a, err := globalplatform.ParseInitAnswer(k.answer)
	if err != nil || gave != 0 && !hsm.OwnDomainKeys(a) {
		return unproven(o), nil
	}
	if err := m.hsm.Random(ctx, k.fresh[:]); err != nil {
		return verdict{}, fmt.Errorf("drawing a host challenge: %w", err)
	}
	return m.opened(ctx, o, k)
}

// needsToken tells whether a delegated domain carries a command out by token
// only.
func needsToken(c iso7816.Command) bool {
	return c.INS == globalplatform.InsDelete || c.INS == globalplatform.InsInstall && globalplatform.InstallFor(c.P1) != globalplatform.ForPersonalization
}

// A Receipt is an element's confirmation that a firm's domain did what the house
// had signed a token for. It was verified before it was kept.
type Receipt struct {
	UID     []byte // of the element
	Counter int    // of its receipts
	Domain  globalplatform.AID
	Said    iso7816.Command // in plain, with the token
	Answer  globalplatform.Confirmation

	raw []byte
}

// receipts verifies what a firm's domain confirmed in a script. One that is
// missing, wrong, or of another order is errProof.
func (m *Manager) receipts(ctx context.Context, o Order, k channelKeep, h heard) (out []Receipt, err error) {
	if k.domain == "" || k.manager() != k.domain {
		return nil, nil
	}
	a, err := globalplatform.ParseInitAnswer(k.answer)
	if err != nil {
		return nil, fmt.Errorf("order %s: %w", o.ID, err)
	}
	for i, s := range h.Steps[:h.Good()] {
		if !h.Answers[i].SW.OK() || !needsToken(s.Plain) || string(s.Wire) == string(s.Plain.Bytes()) {
			continue
		}
		r := Receipt{UID: a.KDD[3:], Domain: k.domain, Said: s.Plain, raw: h.Answers[i].Data}
		if r.Answer, err = m.hsm.CheckReceipt(ctx, hsm.Receipt{KDD: a.KDD, Answer: r.raw, Said: r.Said, Domain: k.domain}); err != nil {
			return nil, fmt.Errorf("receipt of order %s: %w", o.ID, proofOf(err))
		}
		r.Counter = int(r.Answer.Counter)
		var of string
		err = m.store.Read(ctx, func(q *db.Query) error {
			return q.QueryRow(`SELECT ord FROM tsm_receipt WHERE uid = $1 AND counter = $2`, r.UID, r.Counter).Scan(&of)
		})
		switch {
		case err == nil && of != o.ID:
			return nil, fmt.Errorf("receipt of order %s, given for %s: %w", o.ID, of, errProof)
		case err != nil && !errors.Is(err, db.ErrNoRows):
			return nil, fmt.Errorf("receipts: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

func keepReceipts(tx *db.Tx, o Order, list []Receipt) error {
	for _, r := range list {
		_, err := tx.Exec(`INSERT INTO tsm_receipt (uid, counter, ord, domain, said, answer, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (uid, counter) DO NOTHING`, r.UID, r.Counter, o.ID, []byte(r.Domain), r.Said.Bytes(), r.raw, tx.Now().UnixMicro())
		if err != nil {
			return fmt.Errorf("receipt %d of order %s: %w", r.Counter, o.ID, err)
		}
	}
	return nil
}

// ReceiptsOf reads what elements confirmed of an order.
func ReceiptsOf(q db.Reader, order string) (out []Receipt, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var r Receipt
		var name, said []byte
		err := scan(&r.UID, &r.Counter, &name, &said, &r.raw)
		if err == nil {
			r.Said, err = iso7816.ParseCommand(said)
		}
		if err == nil {
			r.Answer, err = globalplatform.ParseConfirmation(r.raw)
		}
		r.Domain = globalplatform.AID(name)
		out = append(out, r)
		return err
	}, `SELECT uid, counter, domain, said, answer FROM tsm_receipt WHERE ord = $1 ORDER BY counter`, order)
	if err != nil {
		return nil, fmt.Errorf("receipts of order %s: %w", order, err)
	}
	return out, nil
}
