package isd

import (
	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// An entry is one line of a listing that did not fit yet.
type entry []byte

// plainAnswer is the longest answer of a session without protection: clients
// ask for at most 256 bytes.
const plainAnswer = 250

// getStatus lists a part of the registry, as much as fits; 6310 says that more
// follows with the next occurrence (GPCS 11.4).
func (d *domain) getStatus(s *card.Session, c iso7816.Command) iso7816.Response {
	g, err := gp.ParseGetStatus(c)
	if err != nil {
		if c.P2&^0x01 != 0x02 {
			return status(iso7816.SWP1P2)
		}
		return status(iso7816.SWData)
	}
	switch {
	case !g.Next:
		d.list = d.entries(s, g)
	case d.list == nil:
		return status(iso7816.SWConditions)
	}
	if len(d.list) == 0 {
		return status(iso7816.SWReferenceNotFound)
	}
	limit := min(plainAnswer, d.channel.MaxAnswer())
	var out []byte
	for len(d.list) > 0 && (out == nil || len(out)+len(d.list[0]) <= limit) {
		out, d.list = append(out, d.list[0]...), d.list[1:]
	}
	if len(d.list) > 0 {
		return iso7816.Response{Data: out, SW: gp.SWMore}
	}
	d.list = nil
	return answer(out)
}

// entries codes every line that the request wants and the domain may see.
func (d *domain) entries(s *card.Session, g gp.GetStatus) (list []entry) {
	self, _ := s.Registry().Entry(s.Self)
	for _, x := range s.Registry().Entries() {
		if !inPart(x, g.Part) || !sees(self, x) || len(x.AID) < len(g.Prefix) || string(x.AID[:len(g.Prefix)]) != string(g.Prefix) {
			continue
		}
		e := gp.Entry{AID: gp.AID(x.AID), State: x.State, Privileges: x.Privileges}
		switch x.Kind {
		case card.Application:
			e.LoadFile, e.Domain = gp.AID(x.LoadFile), gp.AID(x.Domain)
			if x.Implicit != 0 {
				e.Implicit = []byte{x.Implicit}
			}
		case card.LoadFile:
			e.Domain, e.Version = gp.AID(x.Domain), x.Version[:]
			e.Modules = d.modules(x.AID)
		}
		list = append(list, e.Append(nil, g.Part, g.Tags))
	}
	return list
}

func (d *domain) modules(file card.AID) (list []gp.AID) {
	for _, f := range d.files() {
		if f.AID != file {
			continue
		}
		for _, m := range f.Modules {
			list = append(list, gp.AID(m))
		}
	}
	return list
}

// sees says whether GET STATUS shows y to the domain x.
func sees(x, y card.Entry) bool {
	return owns(x, y) || gp.Privileges(x.Privileges).Has(gp.PrivGlobalRegistry)
}

// locks says whether the domain x may make that change of y: its own business,
// with global lock also the lock of any other. A domain may lock itself, but to
// unlock itself would be to have no lock at all (GPCS 5.3.2.4).
func locks(x, y card.Entry, in gp.SetStatus) bool {
	unlocks := y.State&gp.LockBit != 0 && in.State&gp.LockBit == 0
	switch {
	case x.ID == y.ID:
		return !unlocks
	case owns(x, y):
		return true
	}
	return gp.Privileges(x.Privileges).Has(gp.PrivGlobalLock) && (unlocks || in.State&gp.LockBit != 0)
}

func inPart(x card.Entry, p gp.Part) bool {
	switch x.Kind {
	case card.Domain:
		return p == gp.IssuerDomainPart
	case card.Application:
		return p == gp.Applications
	}
	return p == gp.LoadFiles || p == gp.LoadFilesModules
}

// setStatus moves a life cycle: of the card, of an application, or the lock of
// a domain with all that is associated with it (GPCS 11.10).
func (d *domain) setStatus(s *card.Session, c iso7816.Command) iso7816.Response {
	in, err := gp.ParseSetStatus(c)
	if err != nil {
		return status(iso7816.SWData)
	}
	self, _ := s.Registry().Entry(s.Self)
	if in.Part == gp.IssuerDomainPart {
		return status(setCardState(s, self, in.State))
	}
	x, ok := s.Registry().Find(card.AID(in.App))
	switch {
	case !ok || x.Kind == card.LoadFile:
		return status(iso7816.SWReferenceNotFound)
	case !locks(self, x, in) || x.Kind == card.Domain:
		return status(iso7816.SWConditions)
	}
	sw := setState(s, x, in.State)
	if in.Part != gp.DomainAndApps || !sw.OK() {
		return status(sw)
	}
	if !isDomain(x) {
		return status(iso7816.SWConditions)
	}
	for _, y := range s.Registry().Entries() {
		// What already stands as asked is left; the order is about the lock only.
		if y.Kind != card.Application || y.Domain != x.AID || (y.State^in.State)&gp.LockBit == 0 {
			continue
		}
		if sw := setState(s, y, in.State); !sw.OK() {
			return status(sw)
		}
	}
	return status(iso7816.OK)
}

// setState locks and unlocks an application, or moves it on among its own
// states. Bit 8 locks, whatever stands below it; without it a locked application
// gets the state back that it had.
func setState(s *card.Session, x card.Entry, to byte) iso7816.SW {
	lock, locked := to&gp.LockBit != 0, x.State&gp.LockBit != 0
	switch {
	case lock && locked:
		return iso7816.OK
	case lock:
		x.State |= gp.LockBit
	case locked:
		x.State &^= gp.LockBit
	case to == x.State:
		return iso7816.OK
	case x.State < gp.Selectable || to&gp.Selectable != gp.Selectable || to < x.State:
		return iso7816.SWConditions
	default:
		x.State = to
	}
	return s.Registry().Update(x)
}

// setCardState moves the card's life cycle: forward to SECURED, between SECURED
// and CARD_LOCKED, and to TERMINATED for good (GPCS 5.1.1). A card may be locked
// before it is SECURED, too, since one may be lost on its way to its holder; it
// comes back SECURED.
func setCardState(s *card.Session, self card.Entry, to byte) iso7816.SW {
	x, _ := s.Registry().Domain()
	p := gp.Privileges(self.Privileges)
	allowed := false
	switch to {
	case gp.CardInitialized:
		allowed = x.State == gp.CardReady && self.Kind == card.Domain
	case gp.CardSecured:
		allowed = self.Kind == card.Domain && (x.State == gp.CardReady || x.State == gp.CardInitialized || x.State == gp.CardLocked)
	case gp.CardLocked:
		allowed = x.State <= gp.CardSecured && p.Has(gp.PrivCardLock)
	case gp.CardTerminated:
		allowed = p.Has(gp.PrivCardTerminate)
	}
	if !allowed {
		return iso7816.SWConditions
	}
	x.State = to
	return s.Registry().Update(x)
}
