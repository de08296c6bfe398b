package hsm

import (
	"context"
	"crypto/aes"
	"crypto/subtle"
	"fmt"

	"koala/spec/desfire"
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

// A CardApp is an application of a DESFire card, with the key that opens it.
type CardApp struct {
	UID     desfire.UID
	App     desfire.AID
	Key     byte // its number
	Version byte // of the root, as GET KEY VERSION tells; 0: the newest
}

// A Native is one command of a session with such an application, before
// protection.
type Native struct {
	Cmd    byte
	Header []byte // goes in the clear
	Data   []byte // goes as Mode says
	Mode   desfire.Mode
	Answer int          // bytes of data in the answer, -1: not known
	In     desfire.Mode // how they come
}

// A NativeScript is a session with a DESFire application from its beginning:
// the card's token, which it answered to AUTHENTICATE AES, the reader's random,
// and everything said in it. The same script gives the same commands every
// time: nothing is kept between calls.
type NativeScript struct {
	CardApp
	RndA     [16]byte
	Token    []byte
	Commands []Native
	Answers  [][]byte // data of the answers there are: the card's proof, then one per command
}

// RunNative gives the commands on the wire, the reader's proof first, and what
// the answers say, verified; an answer that is not the card's is ErrCryptogram.
// A command that follows an answer with data needs that answer; one without
// data is foreseen.
func (h *HSM) RunNative(ctx context.Context, s NativeScript) (wire []iso7816.Command, heard [][]byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	session, proof, own, err := h.openNative(s)
	if err != nil {
		return nil, nil, err
	}
	if len(s.Answers) > 0 && subtle.ConstantTimeCompare(s.Answers[0], own) != 1 {
		return nil, nil, fmt.Errorf("application %s: %w", s.App, ErrCryptogram)
	}
	wire = append(wire, desfire.Wrap(desfire.CmdMore, proof))
	for i, c := range s.Commands {
		wire = append(wire, desfire.Wrap(c.Cmd, session.Command(c.Cmd, c.Header, c.Data, c.Mode)))
		switch {
		case i+1 < len(s.Answers):
			data, err := session.OpenAnswer(s.Answers[i+1], c.Answer, c.In)
			if err != nil {
				return nil, nil, fmt.Errorf("answer to %02X: %w: %w", c.Cmd, ErrCryptogram, err)
			}
			heard = append(heard, data)
		case c.Answer == 0:
			session.Answer(nil, c.In, false) // as the card will make it
		case i+1 < len(s.Commands):
			return nil, nil, fmt.Errorf("command %d waits for an answer: %w", i+2, ErrScript)
		}
	}
	return wire, heard, nil
}

// openNative is the session that the token and the reader's random make, with
// both proofs. The hsm has the card's key and stands in for the card.
func (h *HSM) openNative(s NativeScript) (session *desfire.Session, proof, own []byte, err error) {
	name, ok := map[desfire.AID]string{desfire.CanteenAID: LabelCanteen, desfire.DoorAID: LabelDoor}[s.App]
	if !ok || len(s.Token) != aes.BlockSize {
		return nil, nil, nil, fmt.Errorf("application %s: %w", s.App, ErrScript)
	}
	k, err := h.key(fmt.Sprintf("%s.%d", name, s.Key), AESRoot, s.Version)
	if err != nil {
		return nil, nil, nil, err
	}
	key := desfire.CardKey(desfire.AESKey([16]byte(k.clear), k.info.Version), s.UID, s.App, systems[s.App])
	if _, proof, err = desfire.Prove(desfire.CmdAuthAES, s.Key, key, s.Token, s.RndA[:]); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrScript, err)
	}
	block, err := aes.NewCipher(key.Bytes())
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrScript, err)
	}
	var rndB [aes.BlockSize]byte
	block.Decrypt(rndB[:], s.Token) // one block, vector zero
	c, _, err := desfire.NewChallenge(desfire.CmdAuthAES, s.Key, key, rndB[:])
	if err == nil {
		own, session, err = c.Verify(proof)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrScript, err)
	}
	return session, proof, own, nil
}
