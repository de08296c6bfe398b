package hsm

import (
	"context"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

// CheckDebitTAC verifies a card's proof of a purchase. The debit does not say
// under which version of the root its card was issued: the newest is tried
// first.
func (h *HSM) CheckDebitTAC(ctx context.Context, d purse.Debit) error {
	return h.checkTAC(ctx, d.Card, d.TAC, func(s *purse.Session) [4]byte {
		return s.PurchaseTAC(d.Fen, d.Type, d.Terminal, d.TSeq, d.At)
	})
}

// A LoadProof is a load as the card proves it afterwards with its TAC.
type LoadProof struct {
	Card     purse.Number
	Balance  uint32     // after the load, fen
	Seq      uint16     // online sequence before it
	Fen      uint32     // what was loaded
	Type     purse.Type // 0: LoadEP
	Terminal purse.Terminal
	At       purse.Stamp
	TAC      [4]byte
}

// CheckLoadTAC verifies a card's proof of a load.
func (h *HSM) CheckLoadTAC(ctx context.Context, p LoadProof) error {
	return h.checkTAC(ctx, p.Card, p.TAC, func(s *purse.Session) [4]byte {
		return s.LoadTAC(p.Balance, p.Seq, p.Fen, loadType(p.Type), p.Terminal, p.At)
	})
}

func (h *HSM) checkTAC(ctx context.Context, card purse.Number, tac [4]byte, want func(*purse.Session) [4]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	newest, err := h.key(LabelDTK, PurseRoot, 0)
	if err != nil {
		return err
	}
	factor := card.Factor()
	for v := newest.info.Version; v >= 1; v-- {
		k, err := h.key(LabelDTK, PurseRoot, v)
		if err != nil {
			return err
		}
		if purse.Equal(want(purse.NewSession(purse.TACKey(k.root.Disperse(factor)))), tac) {
			return nil
		}
	}
	return ErrTAC
}

// A Load is a card that asks to be loaded: what INITIALIZE FOR LOAD said, and
// what it was asked with.
type Load struct {
	Card     purse.Number
	Answer   purse.InitLoadAnswer
	Fen      uint32
	Type     purse.Type // 0: LoadEP
	Terminal purse.Terminal
	At       purse.Stamp // for MAC2
}

// CheckMAC1 verifies that the card itself named its balance and online
// sequence.
func (h *HSM) CheckMAC1(ctx context.Context, l Load) error {
	_, err := h.loadSession(ctx, l)
	return err
}

// AuthoriseLoad makes MAC2, with which the card credits the amount, after MAC1
// has verified. The card takes MAC2 once: with its next load the sequence moves.
func (h *HSM) AuthoriseLoad(ctx context.Context, l Load) (mac2 [4]byte, err error) {
	s, err := h.loadSession(ctx, l)
	if err != nil {
		return mac2, err
	}
	return s.LoadMAC2(l.Fen, loadType(l.Type), l.Terminal, l.At), nil
}

// loadSession is the session of a load whose MAC1 verifies. The card says which
// version of the load key it has.
func (h *HSM) loadSession(ctx context.Context, l Load) (*purse.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.Answer.Alg != purse.Alg3DES || l.Answer.KeyVersion == 0 {
		return nil, fmt.Errorf("load key version %02X algorithm %02X: %w", l.Answer.KeyVersion, l.Answer.Alg, ErrNoKey)
	}
	k, err := h.key(LabelDLK, PurseRoot, l.Answer.KeyVersion)
	if err != nil {
		return nil, err
	}
	dlk := purse.NewRoot(k.root.Disperse(l.Card.Factor()))
	s := purse.NewSession(dlk.LoadSession(l.Answer.Rnd, l.Answer.Seq))
	if !purse.Equal(s.LoadMAC1(l.Answer.Balance, l.Fen, loadType(l.Type), l.Terminal), l.Answer.MAC1) {
		return nil, fmt.Errorf("online sequence %d: %w", l.Answer.Seq, ErrMAC1)
	}
	return s, nil
}

func loadType(t purse.Type) purse.Type {
	if t == 0 {
		return purse.LoadEP
	}
	return t
}

// Protect turns a maintenance command (APPLICATION BLOCK, UNBLOCK, an update)
// into its form with MAC under the card's DAMK. version is that of the root the
// card was issued under, 0 the newest; challenge is the card's, 4 or 8 bytes.
func (h *HSM) Protect(ctx context.Context, card purse.Number, version byte, challenge []byte, c iso7816.Command) (iso7816.Command, error) {
	damk, err := h.damk(ctx, card, version, challenge)
	if err != nil {
		return c, err
	}
	defer clear(damk[:])
	return purse.Protect(damk, challenge, c), nil
}

// BlockMAC is the MAC of Protect alone, under the newest root: data is the
// command's header with Lc counting the MAC, and its data.
func (h *HSM) BlockMAC(ctx context.Context, card purse.Number, challenge, data []byte) (mac [4]byte, err error) {
	damk, err := h.damk(ctx, card, 0, challenge)
	if err != nil {
		return mac, err
	}
	defer clear(damk[:])
	return purse.ScriptMAC(damk, challenge, data), nil
}

func (h *HSM) damk(ctx context.Context, card purse.Number, version byte, challenge []byte) (damk [16]byte, err error) {
	if err := ctx.Err(); err != nil {
		return damk, err
	}
	if len(challenge) != 4 && len(challenge) != 8 {
		return damk, fmt.Errorf("challenge of %d bytes: %w", len(challenge), ErrScript)
	}
	k, err := h.key(LabelDAMK, PurseRoot, version)
	if err != nil {
		return damk, err
	}
	return k.root.Disperse(card.Factor()), nil
}
