package native_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"koala/hsm"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/tsm/native"
	"koala/tsm/script"
)

func FuzzParse(f *testing.F) {
	f.Add(native.Talk{}.Bytes())
	f.Add(native.Talk{NativeScript: hsm.NativeScript{CardApp: hsm.CardApp{UID: desfire.UID{4}, App: desfire.CanteenAID, Key: 2},
		Token: []byte{1}, Commands: []hsm.Native{native.GetValue()}, Answers: [][]byte{{2}}}, Newest: []byte{3}}.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		x, err := native.Parse(in)
		if err != nil {
			return
		}
		again, err := native.Parse(x.Bytes())
		if err != nil || !reflect.DeepEqual(x, again) {
			t.Errorf("%s reads as %+v, writes and reads as %+v: %v", in, x, again, err)
		}
	})
}

// TestFrames says and hears sessions of any commands: every answer comes back
// whole, however many frames it took.
func TestFrames(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := native.Talk{NativeScript: hsm.NativeScript{Token: make([]byte, 16)}}
		wire := []iso7816.Command{desfire.Wrap(desfire.CmdMore, make([]byte, 32))}
		var want [][]byte
		for range rapid.IntRange(1, 3).Draw(rt, "scripts") {
			for range rapid.IntRange(1, 3).Draw(rt, "commands") {
				c := native.ReadLog(rapid.IntRange(1, desfire.CanteenLogs-1).Draw(rt, "records"))
				x.Commands, wire = append(x.Commands, c), append(wire, desfire.Wrap(c.Cmd, c.Header))
			}
			first := len(x.Answers)
			var answers []iso7816.Response
			for _, s := range x.Steps("read", wire) {
				data := make([]byte, rapid.IntRange(1, desfire.MaxAnswerFrame).Draw(rt, "frame"))
				data[0] = byte(len(answers))
				answers = append(answers, iso7816.Response{Data: data, SW: s.Expect[0]})
				if s.Plain.INS != desfire.CmdMore || len(want) == 0 {
					want = append(want, nil)
				}
				want[len(want)-1] = append(want[len(want)-1], data...)
			}
			x.Hear(answers)
			for i := first; i < len(want); i++ {
				if !bytes.Equal(x.Answers[i], want[i]) {
					rt.Fatalf("answer %d: %X, want %X", i, x.Answers[i], want[i])
				}
			}
		}
		if len(x.Answers) != len(wire) {
			rt.Fatalf("%d answers to %d commands", len(x.Answers), len(wire))
		}
	})
}

func TestOpenWantsACard(t *testing.T) {
	steps := native.Begin("auth", desfire.Name, desfire.CanteenAID, desfire.CanteenHost)
	good := script.Heard{Steps: steps, Answers: []iso7816.Response{{}, {}, {Data: []byte{1}}, {Data: make([]byte, 16)}}}
	if x, err := native.Open(make([]byte, 7), desfire.CanteenAID, [16]byte{}, good); err != nil || x.Key != desfire.CanteenHost || x.Version != 1 {
		t.Errorf("%+v, %v", x, err)
	}
	for name, change := range map[string]func(uid *[]byte, h *script.Heard){
		"no uid":     func(uid *[]byte, _ *script.Heard) { *uid = nil },
		"no version": func(_ *[]byte, h *script.Heard) { h.Answers[2].Data = nil },
		"no token":   func(_ *[]byte, h *script.Heard) { h.Answers[3].Data = make([]byte, 8) },
	} {
		uid, h := make([]byte, 7), good
		h.Answers = append([]iso7816.Response(nil), good.Answers...)
		change(&uid, &h)
		if _, err := native.Open(uid, desfire.CanteenAID, [16]byte{}, h); !errors.Is(err, native.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRights(t *testing.T) {
	for _, app := range []desfire.AID{desfire.CanteenAID, desfire.DoorAID} {
		open, blocked := native.Rights(app, false), native.Rights(app, true)
		if open == blocked || blocked.Read() != desfire.Never || blocked.Write() != desfire.Never || blocked.Both() != desfire.Never || blocked.Change() != open.Change() {
			t.Errorf("%v: open %04X, blocked %04X", app, uint16(open), uint16(blocked))
		}
	}
}
