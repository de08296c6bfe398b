// Package native is a session that the house has over the air with an
// application of a DESFire card (CARD.md 4): the scripts it takes, and what the
// answers in them are. The hsm holds the keys and speaks for the house; a Talk is
// what the scripts of one session share. Start with Begin.
package native

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/tsm/script"
)

// ErrAnswer says that a card did not answer what a card of the house answers.
var ErrAnswer = errors.New("native: not the answer of such a card")

// Begin selects an application of the card with that name and begins to
// authenticate with a key of it.
func Begin(phase string, name []byte, app desfire.AID, key byte) []script.Step {
	a := app.Bytes()
	return []script.Step{
		script.Sent(phase, iso7816.Select(name)),
		script.Sent(phase, desfire.Wrap(desfire.CmdSelect, a[:]), desfire.OK.SW()),
		script.Sent(phase, desfire.Wrap(desfire.CmdKeyVersion, []byte{key}), desfire.OK.SW()),
		script.Sent(phase, desfire.Wrap(desfire.CmdAuthAES, []byte{key}), desfire.More.SW()),
	}
}

// A Talk is a session so far. It is to be kept sealed: the reader's random is
// half of the session key.
type Talk struct {
	hsm.NativeScript
	Newest []byte // the last record of the log that was read; nil: it is empty
}

// Open takes up what Begin has begun with the card in the element uid; random
// is the reader's, fresh.
func Open(uid []byte, app desfire.AID, random [16]byte, h script.Heard) (t Talk, err error) {
	version, token := h.Answers[2].Data, h.Answers[3].Data
	if len(uid) != len(t.UID) || len(version) != 1 || len(token) != 16 {
		return t, fmt.Errorf("%w: AUTHENTICATE", ErrAnswer)
	}
	t.CardApp = hsm.CardApp{UID: desfire.UID(uid), App: app, Key: h.Steps[3].Plain.Data[0], Version: version[0]}
	t.Token, t.RndA = token, random
	return t, nil
}

// Bytes codes the session for sealing.
func (t Talk) Bytes() []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic("native: " + err.Error())
	}
	return b
}

// Parse reads what Bytes wrote.
func Parse(b []byte) (t Talk, err error) {
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("%w: %w", script.ErrStored, err)
	}
	return t, nil
}

// Steps are the commands of the session that have not been answered: wire is
// what the hsm made of all of them, the reader's proof first.
func (t Talk) Steps(phase string, wire []iso7816.Command) (out []script.Step) {
	for i := len(t.Answers); i < len(wire); i++ {
		n := 1
		if i > 0 {
			n = frames(t.Commands[i-1])
		}
		for at := range n {
			c, expect := wire[i], desfire.OK.SW()
			if at > 0 {
				c = desfire.Wrap(desfire.CmdMore, nil)
			}
			if at < n-1 {
				expect = desfire.More.SW()
			}
			out = append(out, script.Sent(phase, c, expect))
		}
	}
	return out
}

// Hear takes the answers to a complete script of Steps.
func (t *Talk) Hear(answers []iso7816.Response) {
	take := func(n int) (all []byte) {
		for ; n > 0 && len(answers) > 0; n-- {
			all, answers = append(all, answers[0].Data...), answers[1:]
		}
		return all
	}
	if len(t.Answers) == 0 {
		t.Answers = append(t.Answers, take(1))
	}
	for len(t.Answers) <= len(t.Commands) {
		t.Answers = append(t.Answers, take(frames(t.Commands[len(t.Answers)-1])))
	}
}

// frames is in how many frames the answer to a command comes.
func frames(c hsm.Native) int {
	n := c.Answer + 8 // with a MAC
	if c.In == desfire.Enciphered {
		n = (c.Answer + 4 + 15) / 16 * 16 // with a checksum, in blocks
	}
	return (n + desfire.MaxAnswerFrame - 1) / desfire.MaxAnswerFrame
}

// GetValue reads the canteen's value.
func GetValue() hsm.Native {
	return hsm.Native{Cmd: desfire.CmdGetValue, Header: []byte{desfire.CanteenValue}, Answer: 4, In: desfire.Enciphered}
}

// Value reads the answer to GetValue, fen.
func Value(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }

// LogSize asks how many records the canteen's log has.
func LogSize() hsm.Native { return settings(desfire.CanteenLog, 13) }

// ReadLog reads n records of the log, oldest first.
func ReadLog(n int) hsm.Native {
	return hsm.Native{Cmd: desfire.CmdReadRecords, Header: part(desfire.CanteenLog, n), Answer: n * desfire.LogLen, In: desfire.Enciphered}
}

// Credit is a load with its line in the log, committed together, and the value
// afterwards.
func Credit(fen int64, line desfire.Log) []hsm.Native {
	return []hsm.Native{
		{Cmd: desfire.CmdCredit, Header: []byte{desfire.CanteenValue}, Data: binary.LittleEndian.AppendUint32(nil, uint32(fen)), Mode: desfire.Enciphered},
		{Cmd: desfire.CmdWriteRecord, Header: part(desfire.CanteenLog, desfire.LogLen), Data: line.Bytes(), Mode: desfire.Enciphered},
		{Cmd: desfire.CmdCommit}, GetValue(),
	}
}

// ReadCredential reads a door card.
func ReadCredential() hsm.Native {
	return hsm.Native{Cmd: desfire.CmdReadData, Header: part(desfire.DoorCredential, desfire.CredentialLen), Answer: desfire.CredentialLen, In: desfire.Enciphered}
}

func settings(file byte, n int) hsm.Native {
	return hsm.Native{Cmd: desfire.CmdFileSettings, Header: []byte{file}, Answer: n}
}

// part is the header of commands for part of a file: number 1 | offset 3 |
// length 3, or of records how many to leave out and to read.
func part(file byte, n int) []byte {
	return []byte{file, 0, 0, 0, byte(n), byte(n >> 8), byte(n >> 16)}
}

// mainFile is the file that an application is about, as it is issued: number 0.
func mainFile(app desfire.AID) desfire.FileSettings {
	if app == desfire.DoorAID {
		return desfire.Door([2]desfire.SealedKey{}, desfire.Credential{}).Files[0].Settings
	}
	return desfire.Canteen([3]desfire.SealedKey{}).Files[0].Settings
}

// Rights are those of the main file: as issued, or blocked, when no key but the
// master may do anything with it.
func Rights(app desfire.AID, blocked bool) desfire.Access {
	a := mainFile(app).Access
	if blocked {
		return desfire.Rights(desfire.Never, desfire.Never, desfire.Never, a.Change())
	}
	return a
}

// SetRights changes them and, with its last command, reads them back.
func SetRights(app desfire.AID, blocked bool) []hsm.Native {
	f, n := mainFile(app), 17
	if app == desfire.DoorAID {
		n = 7
	}
	data := binary.LittleEndian.AppendUint16([]byte{byte(f.Mode)}, uint16(Rights(app, blocked)))
	return []hsm.Native{{Cmd: desfire.CmdChangeFile, Header: []byte{0}, Data: data, Mode: desfire.Enciphered}, settings(0, n)}
}
