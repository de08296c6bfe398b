package isd

import (
	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// Limits of the sequence counters; a set that has reached its own is used up.
const (
	maxSequence02 = 0xFFFF
	maxSequence03 = 0xFFFFFF
)

// close forgets the secure channel and everything begun in it.
func (d *domain) close(s *card.Session) {
	*d = domain{files: d.files}
	s.Level = 0
}

// keyOwner is the session of the domain whose keys speak for this one: its own,
// or while it has no complete set its associated domain's (GPCS 7.5.2).
func keyOwner(s *card.Session) *card.Session {
	if _, ok := tableOf(s).set(0); ok {
		return s
	}
	x, _ := s.Registry().Entry(s.Self)
	parent, ok := s.Registry().Find(x.Domain)
	if !ok || parent.ID == s.Self {
		return s
	}
	o := *s
	o.Self = parent.ID
	return &o
}

// keyData is the key diversification data: three zeros and the UID, whose last
// six bytes tell bands apart, as the EMV CPS derivation needs it.
func keyData(uid [7]byte) (kdd [10]byte) {
	copy(kdd[3:], uid[:])
	return kdd
}

// initializeUpdate begins a session, ending one that was open. The counter of
// SCP03 moves here, because the challenge is made of it (Amendment D, 6.2.2.1).
func (d *domain) initializeUpdate(s *card.Session, c iso7816.Command) iso7816.Response {
	d.close(s)
	version, host, err := gp.ParseInitializeUpdate(c)
	if err != nil {
		return status(iso7816.SWLength)
	}
	if c.P2 != 0 {
		return status(iso7816.SWP1P2)
	}
	o := keyOwner(s)
	t := tableOf(o)
	set, ok := t.set(version)
	if !ok {
		return status(iso7816.SWReferenceNotFound)
	}
	x, _ := s.Registry().Entry(s.Self)
	var a gp.InitAnswer
	switch {
	case set.kind == gp.DES && set.sequence < maxSequence02:
		var random [6]byte
		s.Random(random[:])
		d.channel, a, err = gp.NewCard02(set.KeySet, keyData(s.UID()), uint16(set.sequence), random, host)
	case set.kind == gp.AES && set.sequence < maxSequence03:
		t.count(set.Version, set.sequence+1)
		d.channel, a, err = gp.NewCard03(set.KeySet, keyData(s.UID()), set.sequence+1, gp.AID(x.AID), host)
	default:
		return status(iso7816.SWConditions)
	}
	if err != nil {
		s.Rollback()
		return status(iso7816.SWConditions)
	}
	d.version, d.keys = set.Version, o.Self
	return answer(a.Bytes())
}

// externalAuthenticate opens the session. The counter of SCP02 moves here
// (GPCS D.1.7).
func (d *domain) externalAuthenticate(s *card.Session, c iso7816.Command) iso7816.Response {
	if d.channel == nil || d.channel.Authenticated() {
		d.close(s)
		return status(iso7816.SWConditions)
	}
	if len(c.Data) != 16 {
		d.close(s)
		return status(iso7816.SWLength)
	}
	if err := d.channel.Authenticate(c); err != nil {
		d.close(s)
		return status(iso7816.SWWarning)
	}
	if d.channel.Protocol() == 2 {
		o := *s
		o.Self = d.keys
		t := tableOf(&o)
		if set, ok := t.set(d.version); ok {
			t.count(d.version, set.sequence+1)
		}
	}
	s.Level = byte(d.channel.Level())
	return status(iso7816.OK)
}
