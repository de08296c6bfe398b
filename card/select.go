package card

import "koala/spec/iso7816"

const (
	insManageChannel = 0x70
	insSelect        = 0xA4
	claUnknown       = 0xFF // PC/SC pseudo commands and the invalid class
)

// swRefused (6999) is how an applet refuses its own selection.
const swRefused iso7816.SW = 0x6999

// dispatch finds the channel, does what the element itself does and leaves the
// rest to the selected applet.
func (e *Element) dispatch(c iso7816.Command) iso7816.Response {
	if c.CLA == claUnknown {
		return status(iso7816.SWClass)
	}
	if c.CLA&0x40 != 0 {
		return status(iso7816.SWNoChannel) // channels 4 to 19 (ISO 7816-4, 5.4.1)
	}
	n := int(c.CLA & 0x03)
	if !e.channels[n].open {
		return status(iso7816.SWNoChannel)
	}
	c.CLA &^= 0x03
	switch {
	case c.INS == insManageChannel && c.CLA == 0:
		return e.manageChannel(n, c)
	case c.INS == insSelect && c.P1 == 0x04 && c.CLA&^0x04 == 0:
		return e.selectName(n, c)
	}
	ch := &e.channels[n]
	if ch.applet == nil {
		return status(iso7816.SWNoFile)
	}
	return ch.applet.Process(&ch.session, c)
}

// manageChannel opens and closes channels 1 to 3 (ISO 7816-4, 7.1.2). The new
// channel gets the default selected application.
func (e *Element) manageChannel(from int, c iso7816.Command) iso7816.Response {
	switch {
	case c.P1 == 0x80 && len(c.Data) == 0:
		n := int(c.P2)
		if n == 0 {
			n = from
		}
		if n == 0 || n >= channels {
			return status(iso7816.SWP1P2)
		}
		if !e.channels[n].open {
			return status(0x6200)
		}
		e.channels[n] = channel{}
		return status(iso7816.OK)
	case c.P1 != 0 || len(c.Data) != 0 || c.P2 >= channels:
		return status(iso7816.SWP1P2)
	}
	n := int(c.P2)
	for n == 0 || e.channels[n].open {
		if c.P2 != 0 {
			return status(iso7816.SWP1P2)
		}
		if n++; n == channels {
			return status(iso7816.SWNoChannel)
		}
	}
	e.channels[n].open = true
	e.channels[n].session = Session{e: e, Interface: e.iface, Channel: byte(n)}
	e.selectDefault(n)
	if c.P2 != 0 {
		return status(iso7816.OK)
	}
	return iso7816.Response{Data: []byte{byte(n)}, SW: iso7816.OK}
}

// selectDefault makes the default selected application current without a
// SELECT: the one with the privilege or an implicit selection for the interface
// (GPCS 6.6.1, 6.4.1.1), otherwise the issuer security domain.
func (e *Element) selectDefault(n int) {
	domain := Entry{}
	chosen := Entry{}
	for x := range e.registry().all() {
		switch {
		case x.Kind == Domain:
			domain = x
		case chosen.ID == 0 && x.reachable(e.iface) && x.implicit(e.iface, n):
			chosen = x
		}
	}
	if domain.State == StateLocked || domain.State == StateTerminated {
		chosen = Entry{}
	}
	if chosen.ID != 0 && e.enter(n, chosen).SW != swRefused {
		return
	}
	e.enter(n, domain)
}

// selectName is SELECT by name: whole or leading bytes of the AID, first or
// next occurrence. No name is the issuer security domain (GPCS 6.4.1.1.2).
// A SELECT that finds nothing leaves the current selection alone.
func (e *Element) selectName(n int, c iso7816.Command) iso7816.Response {
	if c.P2&^0x0E != 0 || len(c.Data) > 16 {
		return status(iso7816.SWP1P2)
	}
	domain, _ := e.registry().Domain()
	if domain.State == StateTerminated {
		return status(iso7816.SWFunction)
	}
	x, ok := domain, true
	if len(c.Data) > 0 {
		x, ok = e.find(n, string(c.Data), c.P2&0x02 != 0)
	}
	switch {
	case !ok:
		return e.selectDirectory(n, c)
	case domain.State == StateLocked && x.ID != domain.ID:
		return status(iso7816.SWFileNotFound)
	case e.busy(n, x):
		return status(iso7816.SWConditions)
	}
	r := e.enter(n, x)
	if r.SW == swRefused {
		return status(iso7816.SWFileNotFound)
	}
	if c.P2&0x0C == 0x0C && r.SW.OK() {
		r.Data = nil
	}
	return r
}

// selectDirectory leaves a name that is no application's to the selected one,
// where it has directories of its own.
func (e *Element) selectDirectory(n int, c iso7816.Command) iso7816.Response {
	ch := &e.channels[n]
	if d, ok := ch.applet.(Directories); ok && c.P2&0x02 == 0 {
		if data, ok := d.SelectDirectory(&ch.session, string(c.Data)); ok {
			return iso7816.Response{Data: data, SW: iso7816.OK}
		}
	}
	return status(iso7816.SWFileNotFound)
}

// find looks an application up by the leading bytes of its name. The whole name
// wins over a longer one that begins with it. Several that begin with it come in
// the order of preference, the domain first; "next" goes on behind the current
// selection of the channel.
func (e *Element) find(n int, name string, next bool) (Entry, bool) {
	r := e.registry()
	if !next {
		for id, c := range r.named(name) {
			if int(c[8]) != len(name) {
				continue
			}
			if x := decodeEntry(id, c); x.reachable(e.iface) {
				return x, true
			}
		}
	}
	list := r.Ordered()
	if domain, ok := r.Domain(); ok {
		list = append([]Entry{domain}, list...)
	}
	current, passed := e.channels[n].session.Self, !next
	for _, x := range list {
		if next && x.ID == current {
			passed = true
			continue
		}
		if passed && x.reachable(e.iface) && len(x.AID) >= len(name) && string(x.AID[:len(name)]) == name {
			return x, true
		}
	}
	return Entry{}, false
}

// busy tells whether another channel has the instance selected and it is not
// one for several channels.
func (e *Element) busy(n int, x Entry) bool {
	for i := range e.channels {
		if ch := &e.channels[i]; i != n && ch.open && ch.applet != nil && ch.session.Self == x.ID {
			mod, ok := e.catalog.Module(x.LoadFile, x.Module)
			return !ok || !mod.Shared
		}
	}
	return false
}

// enter makes x current on channel n. The previous applet object is dropped
// only when the new one accepts.
func (e *Element) enter(n int, x Entry) iso7816.Response {
	mod, ok := e.catalog.Module(x.LoadFile, x.Module)
	if !ok || e.busy(n, x) {
		return status(swRefused)
	}
	s := Session{e: e, Interface: e.iface, Channel: byte(n), Self: x.ID}
	applet := mod.New()
	ch := &e.channels[n]
	before := *ch
	ch.session, ch.applet = s, applet
	r := applet.Select(&ch.session)
	if r.SW == swRefused {
		ch.session, ch.applet = before.session, before.applet
	}
	return r
}

func status(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }
