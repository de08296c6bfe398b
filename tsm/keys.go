package tsm

import (
	"context"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// errProof says that something the element should have made with its keys was
// not made with them. It is an answer, not a failure of the house.
var errProof = errors.New("tsm: the element's proof does not verify")

// proofOf turns the hsm's ways to say "this is not its key" into errProof.
func proofOf(err error) error {
	for _, no := range []error{hsm.ErrTAC, hsm.ErrMAC1, hsm.ErrCryptogram, hsm.ErrAnswer, hsm.ErrNoKey} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", errProof, err)
		}
	}
	return err
}

// authorise checks MAC1 and makes MAC2: the order to the card to take money.
func (m *Manager) authorise(ctx context.Context, l load, a purse.InitLoadAnswer) ([4]byte, error) {
	mac2, err := m.hsm.AuthoriseLoad(ctx, hsm.Load{Card: l.card.Purse(), Answer: a, Type: loadType, Fen: uint32(l.fen), Terminal: l.terminal, At: l.stamp})
	return mac2, proofOf(err)
}

// checkMAC1 checks what a card said about its balance and load sequence when it
// was asked with fen and terminal number t.
func (m *Manager) checkMAC1(ctx context.Context, n purse.Number, a purse.InitLoadAnswer, fen uint32, t purse.Terminal) error {
	return proofOf(m.hsm.CheckMAC1(ctx, hsm.Load{Card: n, Answer: a, Type: loadType, Fen: fen, Terminal: t}))
}

// checkTAC checks the card's proof that it took the money of l.
func (m *Manager) checkTAC(ctx context.Context, l load, tac [4]byte) error {
	return proofOf(m.hsm.CheckLoadTAC(ctx, hsm.LoadProof{Card: l.card.Purse(), Balance: uint32(l.balance + l.fen), Seq: uint16(l.seq),
		Fen: uint32(l.fen), Type: loadType, Terminal: l.terminal, At: l.stamp, TAC: tac}))
}

// protect puts the MAC under the card's maintenance key onto a command.
func (m *Manager) protect(ctx context.Context, n purse.Number, challenge []byte, c iso7816.Command) (iso7816.Command, error) {
	return m.hsm.Protect(ctx, n, 0, challenge, c)
}

// wrap makes the whole session's commands again from its beginning: EXTERNAL
// AUTHENTICATE and every inner command under the channel. It gives the same
// bytes each time, so a session can go on after a look without anybody keeping
// session keys.
func (m *Manager) wrap(ctx context.Context, k channelKeep, d issuing.Personalisation, list []inner) ([]step, error) {
	s := hsm.Script{HostChallenge: k.host, InitAnswer: k.answer, Level: globalplatform.CMAC | globalplatform.CENC}
	for _, in := range list {
		p := hsm.Plain{Command: in.c, Keys: in.keys, PutKeys: in.put}
		s.Commands = append(s.Commands, p)
	}
	wrapped, err := m.hsm.WrapScript(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("wrapping a script: %w", proofOf(err))
	}
	out := make([]step, len(wrapped))
	out[0] = step{phase: PhaseChannel, plain: wrapped[0], wire: wrapped[0].Bytes(), expect: []iso7816.SW{iso7816.OK}}
	for i, in := range list {
		out[i+1] = step{phase: in.phase, plain: in.shown(), wire: wrapped[i+1].Bytes(), expect: in.expect, secret: in.names()}
	}
	return out, nil
}

// shown is the command for the log: key material is not in it, only its place.
func (in inner) shown() iso7816.Command {
	if in.put {
		return iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsPutKey, P2: 0x81, Le: iso7816.NoLe}
	}
	return in.c
}

func (in inner) names() (out []string) {
	if in.put {
		return []string{hsm.LabelENC, hsm.LabelMAC, hsm.LabelDEK}
	}
	for _, k := range in.keys {
		out = append(out, k.Label)
	}
	return out
}
