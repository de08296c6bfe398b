package isd

import (
	"slices"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// maxInstall bounds an INSTALL that comes in parts, bytes.
const maxInstall = 1024

// install collects the parts of INSTALL and carries out the whole (GPCS 11.5).
func (d *domain) install(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.P2 != 0 && c.P2 != 0x01 && c.P2 != 0x03 {
		return status(iso7816.SWP1P2)
	}
	d.chain = append(d.chain, c.Data...)
	if len(d.chain) > maxInstall {
		return status(iso7816.SWLength)
	}
	if c.P1&gp.MoreInstall != 0 {
		return status(iso7816.OK)
	}
	c.Data, d.chain = d.chain, nil
	in, err := gp.ParseInstall(c)
	if err != nil {
		return status(iso7816.SWData)
	}
	params, err := in.System()
	if err != nil {
		return status(iso7816.SWData)
	}
	self, _ := s.Registry().Entry(s.Self)
	from := self.AID // the domain an extradited application leaves
	if x, ok := s.Registry().Find(card.AID(in.App)); ok {
		from = x.Domain
	}
	if in.For != gp.ForPersonalization {
		if sw := authorised(s, self, c); !sw.OK() {
			return status(sw)
		}
	}
	var sw iso7816.SW
	switch in.For {
	case gp.ForLoad:
		sw = d.startLoad(s, self, in, params)
	case gp.ForInstall, gp.ForInstallSelect:
		sw = d.newInstance(s, self, in, params)
	case gp.ForSelectable:
		sw = makeSelectable(s, self, in, params)
	case gp.ForExtradition:
		sw = extradite(s, self, in)
	case gp.ForPersonalization:
		sw = d.personalise(s, self, in)
	case gp.ForRegistryUpdate:
		sw = updateEntry(s, self, in, params)
	}
	switch {
	case !sw.OK():
		return status(sw)
	case in.For == gp.ForPersonalization || in.For == gp.ForLoad: // the load's receipt comes with its last block
		return confirmed()
	}
	return confirm(s, self, in.About(gp.AID(from))...)
}

// newInstance makes an instance of a module whose load file is registered. Code
// that came over the air was thrown away: its instances stand in the registry,
// to be listed, locked and deleted, and cannot be selected.
func (d *domain) newInstance(s *card.Session, self card.Entry, in gp.Install, params gp.SystemParams) iso7816.SW {
	file, ok := s.Registry().Find(card.AID(in.LoadFile))
	if !ok || file.Kind != card.LoadFile {
		return iso7816.SWReferenceNotFound
	}
	isDomainModule := in.LoadFile == gp.DomainLoadFile
	switch {
	case in.Privileges.Has(gp.PrivSecurityDomain) != isDomainModule || !grantable(in.Privileges),
		isDomainModule && !knownProtocols(in.AppParams()), len(params.Implicit) > 1:
		return iso7816.SWData
	}
	if in.Privileges.Has(gp.PrivDefaultSelected) && defaultTaken(s, 0) {
		return iso7816.SWConditions
	}
	x := card.Entry{
		Kind: card.Application, State: gp.Installed, Privileges: in.Privileges, Quota: quota(params),
		AID: card.AID(in.App), LoadFile: card.AID(in.LoadFile), Module: card.AID(in.Module), Domain: self.AID,
	}
	if len(params.Implicit) == 1 {
		x.Implicit = params.Implicit[0]
	}
	if in.For == gp.ForInstallSelect {
		x.State = gp.Selectable
	}
	contactless(&x, params.Contactless)
	if !d.native(x.LoadFile) {
		x.Contactless.State = card.NonActivatable
		_, sw := s.Registry().Add(x)
		return sw
	}
	id, sw := s.Registry().Install(x, in.AppParams())
	if !sw.OK() {
		return sw
	}
	return settleContactless(s, id, params.Contactless)
}

// native says whether the element was built with the code of a load file.
func (d *domain) native(file card.AID) bool {
	return slices.ContainsFunc(d.files(), func(f LoadFile) bool { return f.AID == file })
}

// defaultTaken says whether an application other than except is the default
// selected one; there is only one on a card (GPCS 6.6.2).
func defaultTaken(s *card.Session, except card.ID) bool {
	for _, x := range s.Registry().Entries() {
		if x.Kind == card.Application && x.ID != except && gp.Privileges(x.Privileges).Has(gp.PrivDefaultSelected) {
			return true
		}
	}
	return false
}

// named finds the application an INSTALL is about, if the domain may touch it.
func named(s *card.Session, self card.Entry, in gp.Install) (card.Entry, iso7816.SW) {
	x, ok := s.Registry().Find(card.AID(in.App))
	switch {
	case !ok:
		return x, iso7816.SWReferenceNotFound
	case !owns(self, x):
		return x, iso7816.SWConditions
	}
	return x, iso7816.OK
}

func makeSelectable(s *card.Session, self card.Entry, in gp.Install, params gp.SystemParams) iso7816.SW {
	x, sw := named(s, self, in)
	if !sw.OK() {
		return sw
	}
	if x.Kind != card.Application || x.State != gp.Installed {
		return iso7816.SWConditions
	}
	if in.Privileges.Has(gp.PrivDefaultSelected) {
		if defaultTaken(s, x.ID) {
			return iso7816.SWConditions
		}
		x.Privileges = gp.Privileges(x.Privileges).With(gp.PrivDefaultSelected)
	}
	c := params.Contactless
	contactless(&x, c)
	if sw := s.Registry().Update(x); !sw.OK() {
		return sw
	}
	return s.Registry().MakeSelectable(x.ID, c != nil && c.Initial == gp.Deactivated)
}

// extradite hands an application or load file to another security domain.
func extradite(s *card.Session, self card.Entry, in gp.Install) iso7816.SW {
	x, sw := named(s, self, in)
	if !sw.OK() {
		return sw
	}
	to, ok := s.Registry().Find(card.AID(in.Domain))
	switch {
	case !ok:
		return iso7816.SWReferenceNotFound
	case !isDomain(to) || x.Kind == card.Domain || x.ID == to.ID || to.State&gp.LockBit != 0 && to.Kind != card.Domain:
		return iso7816.SWConditions
	}
	return associate(s, x, to)
}

// associate gives x another domain: not one below itself, and not past the
// quotas above it.
func associate(s *card.Session, x, to card.Entry) iso7816.SW {
	up, ok := to, true
	for n := 0; ok && up.Kind != card.Domain; n++ {
		if up.Domain == x.AID || n == card.MaxEntries {
			return iso7816.SWConditions
		}
		up, ok = s.Registry().Find(up.Domain)
	}
	x.Domain = to.AID
	if sw := s.Registry().Update(x); !sw.OK() {
		return sw
	}
	if !s.Registry().Within(x.ID) {
		return iso7816.SWNoSpace
	}
	return iso7816.OK
}

// updateEntry changes privileges, quotas, implicit selection and the domain of an
// application (GPCS 11.5.2.3.4). What makes a domain a domain stays.
func updateEntry(s *card.Session, self card.Entry, in gp.Install, params gp.SystemParams) iso7816.SW {
	if in.App == "" {
		in.App = gp.AID(self.AID)
	}
	x, sw := named(s, self, in)
	if !sw.OK() {
		return sw
	}
	if x.Kind == card.LoadFile {
		return iso7816.SWConditions
	}
	if !in.Keep {
		if in.Privileges.Has(gp.PrivSecurityDomain) != gp.Privileges(x.Privileges).Has(gp.PrivSecurityDomain) {
			return iso7816.SWConditions
		}
		if !grantable(in.Privileges) {
			return iso7816.SWData
		}
		if in.Privileges.Has(gp.PrivDefaultSelected) && defaultTaken(s, x.ID) {
			return iso7816.SWConditions
		}
		x.Privileges = in.Privileges
	}
	if len(params.Implicit) == 1 {
		x.Implicit = params.Implicit[0]
	}
	old := x.Quota
	requota(&x, params)
	if sw := s.Registry().Update(x); !sw.OK() {
		return sw
	}
	if x.Quota != old && !s.Registry().Within(x.ID) {
		return iso7816.SWNoSpace
	}
	if sw := move(s, x, params.Contactless); !sw.OK() || in.Domain == "" || card.AID(in.Domain) == x.Domain {
		return sw
	}
	x, _ = s.Registry().Entry(x.ID)
	to, ok := s.Registry().Find(card.AID(in.Domain))
	if !ok || !isDomain(to) || to.ID == x.ID || x.Kind == card.Domain {
		return iso7816.SWConditions
	}
	return associate(s, x, to)
}

// A load is a load file on its way. Its code is counted and thrown away: the
// modules of this element are native, and one it does not know stays unknown.
type load struct {
	file, domain card.AID
	next         byte // number of the next block
	head         []byte
	left         int // bytes of code still to come; -1 until C4 has been read
}

// maxLoadHead bounds what may stand before the code: DAP blocks.
const maxLoadHead = 512

func (d *domain) startLoad(s *card.Session, self card.Entry, in gp.Install, params gp.SystemParams) iso7816.SW {
	d.load = nil
	if in.Domain == "" {
		in.Domain = gp.AID(self.AID)
	}
	to, ok := s.Registry().Find(card.AID(in.Domain))
	if !ok || !isDomain(to) {
		return iso7816.SWReferenceNotFound
	}
	_, taken := s.Registry().Find(card.AID(in.LoadFile))
	switch {
	case taken || !owns(self, to):
		return iso7816.SWConditions
	case int(params.Code) > s.Free():
		return iso7816.SWNoSpace
	}
	d.load = &load{file: card.AID(in.LoadFile), domain: to.AID, left: -1}
	return iso7816.OK
}

// loadBlock takes one LOAD. The last one enters the load file (GPCS 11.6).
func (d *domain) loadBlock(s *card.Session, c iso7816.Command) iso7816.Response {
	l := d.load
	d.load = nil // a refused block ends the load
	block, n, last, err := gp.ParseLoad(c)
	switch {
	case l == nil:
		return status(iso7816.SWConditions)
	case err != nil:
		return status(iso7816.SWData)
	case n != l.next:
		return status(iso7816.SWP1P2)
	case !l.take(block), last && l.left != 0, !last && n == 0xFF:
		return status(iso7816.SWData)
	}
	l.next++
	if !last {
		d.load = l
		return confirmed()
	}
	entry := card.Entry{Kind: card.LoadFile, State: gp.Loaded, AID: l.file, Domain: l.domain}
	for _, f := range d.files() {
		if f.AID == l.file {
			entry.Version = f.Version
		}
	}
	if _, sw := s.Registry().Add(entry); !sw.OK() {
		return status(sw)
	}
	self, _ := s.Registry().Entry(s.Self)
	return confirm(s, self, []byte(l.file), []byte(l.domain))
}

// take follows the structure of the load file: DAP blocks E2, then the code in
// C4. It says false when the bytes are not that or too many.
func (l *load) take(block []byte) bool {
	if l.left >= 0 {
		l.left -= len(block)
		return l.left >= 0
	}
	l.head = append(l.head, block...)
	for len(l.head) > 0 && l.head[0] == 0xE2 {
		_, _, rest, err := tlv.Next(l.head)
		if err != nil {
			return len(l.head) <= maxLoadHead
		}
		l.head = rest
	}
	size, head, ok := loadHeader(l.head)
	if !ok {
		return len(l.head) < 5
	}
	l.left = size - (len(l.head) - head)
	l.head = nil
	return l.left >= 0
}

// loadHeader reads tag C4 and its length without needing the value.
func loadHeader(in []byte) (size, head int, ok bool) {
	if len(in) < 2 || in[0] != 0xC4 {
		return 0, 0, false
	}
	n := int(in[1])
	if n < 0x80 {
		return n, 2, true
	}
	k := n & 0x7F
	if k == 0 || k > 3 || len(in) < 2+k {
		return 0, 0, false
	}
	for _, b := range in[2 : 2+k] {
		size = size<<8 | int(b)
	}
	return size, 2 + k, true
}

// delete removes keys, an application, or a load file, with P2 80 together with
// its instances (GPCS 11.2). What others depend on stays.
func (d *domain) delete(s *card.Session, c iso7816.Command) iso7816.Response {
	in, err := gp.ParseDelete(c)
	if err != nil {
		return status(iso7816.SWData)
	}
	if in.App == "" {
		return d.deleteKeys(s, in.KeyVersion, in.KeyID)
	}
	self, _ := s.Registry().Entry(s.Self)
	x, ok := s.Registry().Find(card.AID(in.App))
	switch {
	case !ok:
		return status(iso7816.SWReferenceNotFound)
	case !owns(self, x) && !gp.Privileges(self.Privileges).Has(gp.PrivGlobalDelete) || x.ID == self.ID:
		return status(iso7816.SWConditions)
	}
	if sw := authorised(s, self, c); !sw.OK() {
		return status(sw)
	}
	for _, y := range s.Registry().Entries() {
		switch {
		case y.ID == x.ID || y.LoadFile != x.AID && y.Domain != x.AID:
		case y.LoadFile == x.AID && in.Related && x.Kind == card.LoadFile:
			if heir(s, y) || !owns(self, y) {
				return status(iso7816.SWConditions)
			}
			if sw := s.Registry().Delete(y.ID); !sw.OK() {
				return status(sw)
			}
		default:
			return status(iso7816.SWConditions)
		}
	}
	if sw := s.Registry().Delete(x.ID); !sw.OK() {
		return status(sw)
	}
	if d.target == x.ID {
		d.target = 0
	}
	return confirm(s, self, in.About()...)
}

// heir says whether anything is associated with the security domain x.
func heir(s *card.Session, x card.Entry) bool {
	for _, y := range s.Registry().Entries() {
		if y.ID != x.ID && y.Domain == x.AID {
			return true
		}
	}
	return false
}
