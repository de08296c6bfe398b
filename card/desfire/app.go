package desfire

import (
	"bytes"
	"encoding/binary"

	"koala/card"
	"koala/spec/desfire"
)

// selectApp is SELECT APPLICATION: it ends the session, and 000000 is the card.
func (a *applet) selectApp(_ *card.Session, in []byte) answer {
	a.end()
	aid := desfire.AIDFrom([3]byte(in))
	x := a.find(aid)
	if aid != desfire.Card && !x.Present() {
		return says(desfire.NoApplication)
	}
	a.app = x
	return gives(nil)
}

// A newApp is an application to be made.
type newApp struct {
	aid      desfire.AID
	settings desfire.KeySettings
	keys     byte // number and kind
	iso      uint16
	name     []byte
}

// parseNewApp reads CREATE APPLICATION: AID 3 | settings 1 | keys 1 [| ISO
// identifier 2 | name 0-16], which the bit 20 of keys announces.
func parseNewApp(in []byte) (x newApp, ok bool) {
	const withISO = 0x20
	x = newApp{aid: desfire.AIDFrom([3]byte(in)), settings: desfire.KeySettings(in[3]), keys: in[4] &^ withISO}
	if in[4]&withISO == 0 && len(in) > 5 || len(in) == 6 {
		return x, false
	}
	if len(in) > 5 {
		x.iso, x.name = binary.LittleEndian.Uint16(in[5:]), in[7:]
	}
	n := int(x.keys & 0x0F)
	return x, x.aid != desfire.Card && x.keys&0x10 == 0 && n >= 1 && n <= desfire.MaxKeys && desfire.KeyKind(x.keys&0xC0).Size() != 0
}

func (a *applet) createApp(s *card.Session, in []byte) answer {
	if !a.level() {
		return says(desfire.Permission)
	}
	if st := a.may(desfire.FreeCreate); st != desfire.OK {
		return says(st)
	}
	x, ok := parseNewApp(in)
	if !ok {
		return says(desfire.Parameter)
	}
	_, st := a.makeApp(s, x)
	return says(st)
}

// makeApp writes a new application with all keys at the default.
func (a *applet) makeApp(s *card.Session, x newApp) (app, desfire.Status) {
	list := a.apps()
	if len(list) >= desfire.MaxApplications {
		return app{}, desfire.TooMany
	}
	for _, y := range list {
		if y.aid() == x.aid || x.iso != 0 && y.iso() == x.iso || len(x.name) > 0 && bytes.Equal(y.name(), x.name) {
			return app{}, desfire.Duplicate
		}
	}
	n, kind := int(x.keys&0x0F), desfire.KeyKind(x.keys&0xC0)
	g, ok := a.take(s, atKeyValues+n*(1+kind.Size()))
	number := a.picc.Uint32(atNext)
	if !ok || number == 0xFFFFFFFF {
		return app{}, desfire.OutOfMemory
	}
	aid := x.aid.Bytes()
	head := binary.BigEndian.AppendUint32([]byte{slotApp}, number)
	head = append(append(head, aid[:]...), byte(x.settings), x.keys)
	head = append(binary.BigEndian.AppendUint16(head, x.iso), byte(len(x.name)))
	g.Write(0, append(head, x.name...))
	a.picc.WriteUint32(atNext, number+1)
	made := app{g}
	for i := range n {
		made.setKey(i, a.defaultKey(kind))
	}
	return made, desfire.OK
}

// deleteApp is DELETE APPLICATION: by the card's master key, or, where creating
// is free, by the application's own, which leaves the card's level current.
func (a *applet) deleteApp(s *card.Session, in []byte) answer {
	x := a.find(desfire.AIDFrom([3]byte(in)))
	free := desfire.KeySettings(a.picc.Bytes()[atSettings])&desfire.FreeCreate != 0
	switch own := !a.level(); {
	case !x.Present():
		return says(desfire.NoApplication)
	case !a.asMaster(), own && (x.aid() != a.app.aid() || !free):
		return says(a.refusal())
	case own:
		a.end()
		a.app = app{}
		a.remove(x.Region)
		return a.settled(s, answer{bare: true})
	}
	a.remove(x.Region)
	return a.settled(s, gives(nil))
}

// remove makes a slot unreachable.
func (a *applet) remove(g card.Region) { g.WriteUint32(atNumber, 0) }

func (a *applet) applications(*card.Session, []byte) answer {
	if st := a.listing(); st != desfire.OK {
		return says(st)
	}
	var out []byte
	for _, x := range a.apps() {
		aid := x.aid().Bytes()
		out = append(out, aid[:]...)
	}
	return gives(out)
}

// listing checks the right to list at the card's level.
func (a *applet) listing() desfire.Status {
	if !a.level() {
		return desfire.Permission
	}
	return a.may(desfire.FreeListing)
}

// dfNames is GET DF NAMES: one frame per application with an ISO identifier, and
// no MAC, which readers would take for a part of the last name.
func (a *applet) dfNames(*card.Session, []byte) answer {
	if st := a.listing(); st != desfire.OK {
		return says(st)
	}
	r := answer{bare: true}
	for _, x := range a.apps() {
		if x.iso() == 0 {
			continue
		}
		aid := x.aid().Bytes()
		one := append(binary.LittleEndian.AppendUint16(aid[:], x.iso()), x.name()...)
		r.data, r.frames = append(r.data, one...), append(r.frames, len(one))
	}
	if n := len(r.frames); n > 0 {
		r.frames = r.frames[:n-1] // the last frame is what remains
	}
	return r
}

func (a *applet) version(s *card.Session, _ []byte) answer {
	f := desfire.EV1(s.UID()).Frames()
	return answer{data: bytes.Join(f[:], nil), frames: []int{len(f[0]), len(f[1])}}
}

func (a *applet) freeMemory(s *card.Session, _ []byte) answer {
	n := min(a.unused(s), 0xFFFFFF)
	return gives([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
}

// uid is GET CARD UID: the real one, enciphered.
func (a *applet) uid(s *card.Session, _ []byte) answer {
	if a.session == nil {
		return says(desfire.AuthError)
	}
	id := s.UID()
	return answer{data: id[:], mode: desfire.Enciphered}
}

// format is FORMAT PICC: all applications go at once, keys and settings of the
// card stay. The session ends after the answer.
func (a *applet) format(s *card.Session, _ []byte) answer {
	switch {
	case !a.level() || !a.asMaster():
		return says(a.refusal())
	case a.picc.Bytes()[atConfig]&desfire.ForbidFormat != 0:
		return says(desfire.Permission)
	}
	a.picc.WriteUint32(atFloor, a.picc.Uint32(atNext))
	done := a.settled(s, answer{bare: true})
	if done.status == desfire.OK {
		done.data = a.session.Answer(nil, desfire.Plain, false)
		a.end()
	}
	return done
}
