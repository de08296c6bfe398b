// Package desfire is a MIFARE DESFire EV1 card as an applet: one instance, named
// as the card is, holds all DESFire applications, the canteen and the door among
// them, with their files. Native commands come in their ISO 7816 dress only and
// only to the selected instance. What is on the wire is in spec/desfire; this
// package holds the rules and what the card remembers. Start with Process, then
// slots.go.
//
// What a reader changes in backup, value and record files waits in volatile
// memory and becomes one unit of the element at COMMIT TRANSACTION, all files
// together; everything that ends the session takes it back.
package desfire

import (
	"errors"

	"koala/card"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

// Module makes DESFire cards.
func Module() card.Module {
	return card.Module{New: func() card.Applet { return new(applet) }, Install: install}
}

// An applet is one selection of the card. All its fields are volatile.
type applet struct {
	picc  card.Region   // of the card itself
	slots []card.Region // of applications and files, see slots.go
	app   app           // the current application; absent at the card's level

	session   *desfire.Session
	challenge *desfire.Challenge // an authentication waits for the reader's proof
	in        *incoming          // a command waits for its further frames
	out       [][]byte           // frames the reader has not fetched yet
	tx        transaction
}

// An incoming is a command that comes in several frames.
type incoming struct {
	cmd   byte
	data  []byte
	whole int // bytes it will have
}

// An answer is what a command comes to.
type answer struct {
	status desfire.Status
	data   []byte
	mode   desfire.Mode // how the data travel in a session
	whole  bool         // the reader did not say how many it wants
	bare   bool         // no MAC: the session has just ended, or the command has none
	frames []int        // lengths of the first frames, where the command has its own
}

func says(st desfire.Status) answer { return answer{status: st} }

func gives(data []byte) answer { return answer{data: data} }

// A command is one native command whose data are all in the clear.
type command struct {
	least, most int // bytes of data
	run         func(a *applet, s *card.Session, in []byte) answer
}

var commands = map[byte]command{
	desfire.CmdKeyVersion:   {1, 1, (*applet).keyVersion},
	desfire.CmdKeySettings:  {0, 0, (*applet).keySettings},
	desfire.CmdSelect:       {3, 3, (*applet).selectApp},
	desfire.CmdCreateApp:    {5, 5 + 2 + maxName, (*applet).createApp},
	desfire.CmdDeleteApp:    {3, 3, (*applet).deleteApp},
	desfire.CmdApplications: {0, 0, (*applet).applications},
	desfire.CmdDFNames:      {0, 0, (*applet).dfNames},
	desfire.CmdVersion:      {0, 0, (*applet).version},
	desfire.CmdFreeMemory:   {0, 0, (*applet).freeMemory},
	desfire.CmdFormat:       {0, 0, (*applet).format},
	desfire.CmdUID:          {0, 0, (*applet).uid},
	desfire.CmdFiles:        {0, 0, (*applet).files},
	desfire.CmdISOFiles:     {0, 0, (*applet).isoFiles},
	desfire.CmdFileSettings: {1, 1, (*applet).fileSettings},
	desfire.CmdDeleteFile:   {1, 1, (*applet).deleteFile},
	desfire.CmdReadData:     {7, 7, (*applet).readData},
	desfire.CmdReadRecords:  {7, 7, (*applet).readRecords},
	desfire.CmdClearRecords: {1, 1, (*applet).clearRecords},
	desfire.CmdGetValue:     {1, 1, (*applet).getValue},
	desfire.CmdCommit:       {0, 0, (*applet).commit},
	desfire.CmdAbort:        {0, 0, (*applet).abort},
}

// Commands that carry protected data open them themselves.
var protected = map[byte]func(a *applet, s *card.Session, cmd byte, in []byte) answer{
	desfire.CmdChangeKey:      (*applet).changeKey,
	desfire.CmdChangeSettings: (*applet).changeSettings,
	desfire.CmdConfigure:      (*applet).configure,
	desfire.CmdChangeFile:     (*applet).changeFile,
	desfire.CmdCreateStd:      (*applet).createFile,
	desfire.CmdCreateBackup:   (*applet).createFile,
	desfire.CmdCreateValue:    (*applet).createFile,
	desfire.CmdCreateLinear:   (*applet).createFile,
	desfire.CmdCreateCyclic:   (*applet).createFile,
	desfire.CmdCredit:         (*applet).moveValue,
	desfire.CmdDebit:          (*applet).moveValue,
	desfire.CmdLimitedCredit:  (*applet).moveValue,
	desfire.CmdWriteData:      (*applet).write,
	desfire.CmdWriteRecord:    (*applet).write,
	desfire.CmdAuthLegacy:     (*applet).authenticate,
	desfire.CmdAuthISO:        (*applet).authenticate,
	desfire.CmdAuthAES:        (*applet).authenticate,
}

// Select opens the card at its own level.
func (a *applet) Select(s *card.Session) iso7816.Response {
	if !a.open(s) {
		return iso7816.Response{SW: iso7816.SWMemory}
	}
	return iso7816.Response{SW: iso7816.OK}
}

// Process answers one command.
func (a *applet) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.CLA != desfire.CLA {
		if c.CLA == 0 && c.INS == iso7816.InsSelect {
			return iso7816.Response{SW: iso7816.SWFileNotFound}
		}
		return iso7816.Response{SW: iso7816.SWClass}
	}
	if c.P1 != 0 || c.P2 != 0 {
		return iso7816.Response{SW: iso7816.SWP1P2}
	}
	if !a.open(s) {
		return iso7816.Response{SW: iso7816.SWMemory}
	}
	if c.INS == desfire.CmdMore {
		return a.more(s, c.Data)
	}
	if a.in != nil || len(a.out) > 0 {
		return a.finish(says(desfire.Aborted))
	}
	a.challenge = nil
	return a.finish(a.run(s, c.INS, c.Data))
}

func (a *applet) run(s *card.Session, cmd byte, in []byte) answer {
	if run, ok := protected[cmd]; ok {
		return run(a, s, cmd, in)
	}
	c, ok := commands[cmd]
	switch {
	case !ok:
		return says(desfire.IllegalCommand)
	case len(in) < c.least || len(in) > c.most:
		return says(desfire.WrongLength)
	}
	if _, st := a.opened(cmd, in, nil, 0, desfire.Plain); st != desfire.OK {
		return says(st)
	}
	return c.run(a, s, in)
}

// opened takes a command's n bytes of data out of their protection.
func (a *applet) opened(cmd byte, header, body []byte, n int, mode desfire.Mode) ([]byte, desfire.Status) {
	if a.session == nil {
		if len(body) != n {
			return nil, desfire.WrongLength
		}
		return body, desfire.OK
	}
	data, err := a.session.OpenCommand(cmd, header, body, n, mode)
	return data, statusOf(err)
}

// statusOf is the status of what spec/desfire could not read.
func statusOf(err error) desfire.Status {
	switch {
	case err == nil:
		return desfire.OK
	case errors.Is(err, desfire.ErrLength):
		return desfire.WrongLength
	case errors.Is(err, desfire.ErrMAC):
		return desfire.Integrity
	case errors.Is(err, desfire.ErrAuth):
		return desfire.AuthError
	}
	return desfire.Parameter
}

// more is 91AF's other side: the reader sends or fetches the next frame.
func (a *applet) more(s *card.Session, data []byte) iso7816.Response {
	switch {
	case a.challenge != nil:
		return a.prove(data)
	case a.in != nil:
		in := a.in
		in.data = append(in.data, data...)
		switch {
		case len(in.data) > in.whole || len(data) == 0:
			return a.finish(says(desfire.WrongLength))
		case len(in.data) < in.whole:
			return iso7816.Response{SW: desfire.More.SW()}
		}
		a.in = nil
		return a.finish(a.run(s, in.cmd, in.data))
	case len(a.out) > 0 && len(data) == 0:
		return a.frame()
	}
	return a.finish(says(desfire.IllegalCommand))
}

// finish protects an answer and sends its first frame. An error ends session
// and transaction.
func (a *applet) finish(r answer) iso7816.Response {
	switch r.status {
	case desfire.OK:
	case desfire.NoChange:
		return iso7816.Response{SW: r.status.SW()}
	case desfire.More:
		return iso7816.Response{Data: r.data, SW: r.status.SW()}
	default:
		a.end()
		return iso7816.Response{SW: r.status.SW()}
	}
	body := r.data
	if a.session != nil && !r.bare {
		body = a.session.Answer(r.data, r.mode, r.whole)
	}
	for _, n := range r.frames {
		a.out, body = append(a.out, body[:n]), body[n:]
	}
	for len(body) > desfire.MaxAnswerFrame {
		a.out, body = append(a.out, body[:desfire.MaxAnswerFrame]), body[desfire.MaxAnswerFrame:]
	}
	a.out = append(a.out, body)
	return a.frame()
}

func (a *applet) frame() iso7816.Response {
	f := a.out[0]
	if a.out = a.out[1:]; len(a.out) > 0 {
		return iso7816.Response{Data: f, SW: desfire.More.SW()}
	}
	return iso7816.Response{Data: f, SW: desfire.OK.SW()}
}

// end forgets everything volatile but the current application.
func (a *applet) end() {
	a.session, a.challenge, a.in, a.out, a.tx = nil, nil, nil, nil, nil
}
