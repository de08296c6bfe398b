package desfire

import (
	"koala/card"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

// level says whether the card itself is current, not an application.
func (a *applet) level() bool { return !a.app.Present() }

func (a *applet) settings() desfire.KeySettings {
	if a.level() {
		return desfire.KeySettings(a.picc.Bytes()[atSettings])
	}
	return a.app.settings()
}

// key finds a key of the current level.
func (a *applet) key(no byte) (desfire.Key, bool) {
	switch {
	case a.level():
		return a.master(), no == 0
	case int(no) >= a.app.keys():
		return desfire.Key{}, false
	}
	return a.app.key(int(no)), true
}

// asMaster says that the master key of the current level is authenticated.
func (a *applet) asMaster() bool { return a.session != nil && a.session.KeyNo == 0 }

// may checks that a bit of the key settings gives for free what else needs the
// master key.
func (a *applet) may(bit desfire.KeySettings) desfire.Status {
	if a.settings()&bit != 0 || a.asMaster() {
		return desfire.OK
	}
	return a.refusal()
}

// refusal is the status of a missing right: without a session authentication
// would help, with one it is the wrong key.
func (a *applet) refusal() desfire.Status {
	if a.session == nil {
		return desfire.AuthError
	}
	return desfire.Permission
}

// authenticate begins an authentication; it ends the session there was.
func (a *applet) authenticate(s *card.Session, cmd byte, in []byte) answer {
	a.end()
	if len(in) != 1 {
		return says(desfire.WrongLength)
	}
	key, ok := a.key(in[0])
	if !ok {
		return says(desfire.NoSuchKey)
	}
	rndB := make([]byte, key.RandomSize())
	s.Random(rndB)
	c, token, err := desfire.NewChallenge(cmd, in[0], key, rndB)
	if err != nil {
		return says(desfire.AuthError)
	}
	a.challenge = c
	return answer{status: desfire.More, data: token}
}

// prove ends it.
func (a *applet) prove(proof []byte) iso7816.Response {
	out, session, err := a.challenge.Verify(proof)
	a.challenge = nil
	if err != nil {
		return a.finish(says(statusOf(err)))
	}
	a.session = session
	return iso7816.Response{Data: out, SW: desfire.OK.SW()}
}

func (a *applet) keySettings(*card.Session, []byte) answer {
	if st := a.may(desfire.FreeListing); st != desfire.OK {
		return says(st)
	}
	keys := byte(1) | byte(a.master().Kind)
	if !a.level() {
		keys = a.app.Bytes()[atKeys]
	}
	return gives([]byte{byte(a.settings()), keys})
}

func (a *applet) keyVersion(_ *card.Session, in []byte) answer {
	key, ok := a.key(in[0])
	if !ok {
		return says(desfire.NoSuchKey)
	}
	return gives([]byte{key.Version})
}

// changeSettings is CHANGE KEY SETTINGS: one byte, enciphered.
func (a *applet) changeSettings(_ *card.Session, cmd byte, in []byte) answer {
	switch {
	case !a.asMaster():
		return says(a.refusal())
	case a.settings()&desfire.ChangeSettings == 0:
		return says(desfire.Permission)
	}
	data, st := a.opened(cmd, nil, in, 1, desfire.Enciphered)
	switch {
	case st != desfire.OK:
		return says(st)
	case a.level():
		a.picc.Write(atSettings, data)
		return gives(nil)
	}
	if k := int(desfire.KeySettings(data[0]).ChangeKey()); k >= a.app.keys() && k < int(desfire.Free) {
		return says(desfire.NoSuchKey)
	}
	a.app.Write(atAppSettings, data)
	return gives(nil)
}

// configure is SET CONFIGURATION: whether the card may be formatted, and the
// default key of new applications. A random UID and an own ATS belong to the
// element, not to one of its applets: 9E.
func (a *applet) configure(_ *card.Session, cmd byte, in []byte) answer {
	switch {
	case len(in) < 1:
		return says(desfire.WrongLength)
	case !a.level() || !a.asMaster():
		return says(a.refusal())
	}
	n := map[byte]int{desfire.OptionFormat: 1, desfire.OptionDefaultKey: desfire.MaxKeySize + 1}[in[0]]
	if n == 0 {
		return says(desfire.Parameter)
	}
	data, st := a.opened(cmd, in[:1], in[1:], n, desfire.Enciphered)
	switch {
	case st != desfire.OK:
		return says(st)
	case in[0] == desfire.OptionDefaultKey:
		a.picc.Write(atDefault, append([]byte{0, data[n-1]}, data[:n-1]...))
		return gives(nil)
	case data[0]&^desfire.ForbidFormat != 0:
		return says(desfire.Parameter)
	}
	// What is forbidden once stays forbidden.
	a.picc.Write(atConfig, []byte{a.picc.Bytes()[atConfig] | data[0]})
	return gives(nil)
}

// mayChange says whether the session's key may change key number no.
func (a *applet) mayChange(no byte) desfire.Status {
	by := byte(0)
	if !a.level() {
		by = a.settings().ChangeKey()
	}
	switch {
	case a.session == nil:
		return desfire.AuthError
	case no == 0 && a.settings()&desfire.ChangeMaster == 0:
		return desfire.Permission
	case no == 0, no == by: // the key that changes others is changed by the master
		by = 0
	case by == desfire.Free:
		by = no
	case by == desfire.Never:
		return desfire.Permission
	}
	if a.session.KeyNo != by {
		return desfire.Permission
	}
	return desfire.OK
}

// changeKey is CHANGE KEY. At the card's level the bits of the key number say
// what kind the master key becomes.
func (a *applet) changeKey(_ *card.Session, cmd byte, in []byte) answer {
	if len(in) < 1 {
		return says(desfire.WrongLength)
	}
	no, kind := in[0], desfire.KeyKind(0)
	if a.level() {
		no, kind = in[0]&0x0F, desfire.KeyKind(in[0]&0xF0)
	} else {
		kind = a.app.kind()
	}
	old, ok := a.key(no)
	if !ok || kind.Size() == 0 {
		return says(desfire.NoSuchKey)
	}
	if st := a.mayChange(no); st != desfire.OK {
		return says(st)
	}
	before := &old
	if no == a.session.KeyNo {
		before = nil
	}
	key, err := a.session.OpenKey(in[0], kind, in[1:], before)
	if err != nil {
		return says(statusOf(err))
	}
	if a.level() {
		a.setMaster(key)
	} else {
		a.app.setKey(int(no), key)
	}
	if before != nil {
		return gives(nil)
	}
	a.end()
	return answer{bare: true}
}
