package hsm_test

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"koala/hsm"
	"koala/internal/db/dbtest"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

// A native is a canteen card as far as one session goes: it has the key of the
// application and one value.
type native struct {
	session *desfire.Session
	value   int32
	pending int32
}

// answer is what the card says to a command of the session.
func (c *native) answer(t *testing.T, cmd iso7816.Command) []byte {
	t.Helper()
	header := 1
	if cmd.INS == desfire.CmdCommit {
		header = 0
	}
	n, mode := 0, desfire.Plain
	if cmd.INS == desfire.CmdCredit {
		n, mode = 4, desfire.Enciphered
	}
	data, err := c.session.OpenCommand(cmd.INS, cmd.Data[:header], cmd.Data[header:], n, mode)
	if err != nil {
		t.Fatalf("the card refuses %02X: %v", cmd.INS, err)
	}
	switch cmd.INS {
	case desfire.CmdCredit:
		c.pending = int32(binary.LittleEndian.Uint32(data))
	case desfire.CmdCommit:
		c.value += c.pending
	case desfire.CmdGetValue:
		return c.session.Answer(binary.LittleEndian.AppendUint32(nil, uint32(c.value)), desfire.Enciphered, false)
	}
	return c.session.Answer(nil, desfire.Plain, false)
}

var (
	getValue = hsm.Native{Cmd: desfire.CmdGetValue, Header: []byte{0}, Answer: 4, In: desfire.Enciphered}
	commit   = hsm.Native{Cmd: desfire.CmdCommit}
)

func credit(fen uint32) hsm.Native {
	return hsm.Native{Cmd: desfire.CmdCredit, Header: []byte{0}, Data: binary.LittleEndian.AppendUint32(nil, fen), Mode: desfire.Enciphered}
}

// TestRunNative loads a card in a session whose commands are all made before
// the card has answered any but the first of them.
func TestRunNative(t *testing.T) {
	h := bank(t)
	s := hsm.NativeScript{CardApp: hsm.CardApp{UID: desfire.UID{4, 1, 2, 3, 4, 5, 6}, App: desfire.CanteenAID, Key: desfire.CanteenHost}, RndA: [16]byte{7}, Token: make([]byte, 16)}
	for i := range s.Token {
		s.Token[i] = byte(i * 11)
	}
	s.Commands = []hsm.Native{credit(500), commit, getValue}
	wire, _, err := h.RunNative(ctx, s)
	if err != nil || len(wire) != 4 || wire[0].INS != desfire.CmdMore {
		t.Fatalf("%v, %v", wire, err)
	}
	again, _, err := h.RunNative(ctx, s)
	if err != nil || string(again[3].Bytes()) != string(wire[3].Bytes()) {
		t.Errorf("the same script gives other commands: %v", err)
	}
	for name, change := range map[string]func(*hsm.NativeScript){
		"an application nobody knows":          func(s *hsm.NativeScript) { s.App = 0x123456 },
		"a short token":                        func(s *hsm.NativeScript) { s.Token = s.Token[:8] },
		"a command behind an answer with data": func(s *hsm.NativeScript) { s.Commands = append([]hsm.Native{getValue}, s.Commands...) },
	} {
		bad := s
		change(&bad)
		if _, _, err := h.RunNative(ctx, bad); !errors.Is(err, hsm.ErrScript) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := s
	bad.Key = 9
	if _, _, err := h.RunNative(ctx, bad); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("a key nobody has: %v", err)
	}
	bad = s
	bad.Answers = [][]byte{make([]byte, 16)}
	if _, _, err := h.RunNative(ctx, bad); !errors.Is(err, hsm.ErrCryptogram) {
		t.Errorf("a card that does not prove itself: %v", err)
	}
}

// TestNativeAnswers verifies a whole session against a card that has the key,
// and none in which an answer is altered.
func TestNativeAnswers(t *testing.T) {
	root := [16]byte{1, 2, 3}
	h := open(t, dbtest.Open(t), filepath.Join(t.TempDir(), "koala.key"))
	if _, err := h.Import(ctx, hsm.LabelCanteen+".2", hsm.AESRoot, root[:]); err != nil {
		t.Fatal(err)
	}
	uid := desfire.UID{4, 1, 2, 3, 4, 5, 6}
	key := desfire.CardKey(desfire.AESKey(root, 1), uid, desfire.CanteenAID, desfire.CanteenSystem)
	challenge, token, err := desfire.NewChallenge(desfire.CmdAuthAES, desfire.CanteenHost, key, []byte("sixteen randoms."))
	if err != nil {
		t.Fatal(err)
	}
	s := hsm.NativeScript{CardApp: hsm.CardApp{UID: uid, App: desfire.CanteenAID, Key: desfire.CanteenHost, Version: 1}, RndA: [16]byte{7}, Token: token,
		Commands: []hsm.Native{getValue}}
	wire, _, err := h.RunNative(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	proof, session, err := challenge.Verify(wire[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	card := &native{session: session, value: 300}
	s.Answers = [][]byte{proof, card.answer(t, wire[1])}
	s.Commands = append(s.Commands, credit(500), commit, getValue)
	wire, heard, err := h.RunNative(ctx, s)
	if err != nil || binary.LittleEndian.Uint32(heard[0]) != 300 {
		t.Fatalf("%X, %v", heard, err)
	}
	for _, c := range wire[2:] {
		s.Answers = append(s.Answers, card.answer(t, c))
	}
	_, heard, err = h.RunNative(ctx, s)
	if err != nil || binary.LittleEndian.Uint32(heard[3]) != 800 {
		t.Fatalf("%X, %v", heard, err)
	}
	for i := range s.Answers {
		bad := s
		bad.Answers = append([][]byte(nil), s.Answers...)
		bad.Answers[i] = append([]byte(nil), s.Answers[i]...)
		bad.Answers[i][0] ^= 1
		if _, _, err := h.RunNative(ctx, bad); !errors.Is(err, hsm.ErrCryptogram) {
			t.Errorf("answer %d altered: %v", i, err)
		}
	}
}
