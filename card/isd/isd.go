// Package isd is the security domain of a secure element: the issuer's, which
// owns the card's life cycle, and supplementary ones, which use their issuer's
// keys until they have their own (GlobalPlatform Card Specification 2.3.1). It
// speaks SCP02 (i = 15) with 3DES key sets and SCP03 (i = 70) with AES sets and
// manages native applets: list, load, install, personalise, lock, delete, keys.
// A supplementary domain with delegated management does so by tokens of the card
// issuer and answers with receipts (delegated.go). What is on the wire is in
// spec/globalplatform. Start with Process.
//
// A command that ends in an error changes nothing; one that ends well is one
// unit of the element, whatever it touched.
package isd

import (
	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// A LoadFile is code that the element was built with: what an executable load
// file is to a Java Card.
type LoadFile struct {
	AID     card.AID
	Version [2]byte
	Modules []card.AID
}

// A Config is what the issuer's domain is born with.
type Config struct {
	// Keys is the factory set; the zero KeySet is 40..4F under version FF.
	Keys gp.KeySet
	// Type is its algorithm, and so its protocol; zero is AES for SCP03.
	Type gp.KeyType
}

// Module makes security domains. files lists the code of the element, which the
// issuer's domain enters into the registry when it is made.
func Module(cfg Config, files func() []LoadFile) card.Module {
	if cfg.Keys.ENC == nil {
		cfg.Keys = gp.FactoryKeys()
	}
	if cfg.Type == 0 {
		cfg.Type = gp.AES
	}
	return card.Module{
		New:     func() card.Applet { return &domain{files: files} },
		Install: func(s *card.Session, _ []byte) iso7816.SW { return install(s, cfg, files) },
		Shared:  true,
	}
}

// A domain is one selection of a security domain. Everything in it is volatile:
// the secure channel and what a chain of commands has begun.
type domain struct {
	files   func() []LoadFile
	channel *gp.Card // nil without INITIALIZE UPDATE
	version byte     // of the key set of the channel
	keys    card.ID  // the domain that owns that set

	chain  []byte  // INSTALL in parts
	load   *load   // between INSTALL [for load] and the last LOAD
	target card.ID // of STORE DATA; 0 the domain itself
	carry  []byte  // of a data grouping that goes on in the next STORE DATA
	list   []entry // GET STATUS: what the next occurrence begins with
}

// install makes the regions of a new domain. The issuer's gets the factory keys
// and the registry of the code the element was built with.
func install(s *card.Session, cfg Config, files func() []LoadFile) iso7816.SW {
	if _, err := s.Allocate(keysTag, keySlots*slotSize); err != nil {
		return iso7816.SWNoSpace
	}
	data, err := s.Allocate(dataTag, dataSize)
	if err != nil {
		return iso7816.SWNoSpace
	}
	x, _ := s.Registry().Entry(s.Self)
	if x.Kind != card.Domain {
		return iso7816.OK
	}
	data.Write(atCPLC, productionData(s.UID()))
	t := tableOf(s)
	for i, key := range [][]byte{cfg.Keys.ENC, cfg.Keys.MAC, cfg.Keys.DEK} {
		t.put(i, slot{version: cfg.Keys.Version, id: byte(i + 1), kind: cfg.Type, key: key})
	}
	for _, f := range files() {
		_, sw := s.Registry().Add(card.Entry{Kind: card.LoadFile, State: gp.Loaded, AID: f.AID, Version: f.Version, Domain: x.AID})
		if !sw.OK() {
			return sw
		}
	}
	return iso7816.OK
}

// Select answers the FCI; with a warning while the card is locked.
func (d *domain) Select(s *card.Session) iso7816.Response {
	x, _ := s.Registry().Entry(s.Self)
	r := answer(gp.FCI(gp.AID(x.AID)))
	if x.Kind == card.Domain && x.State == card.StateLocked {
		r.SW = iso7816.SWSelectedBlocked
	}
	return r
}

// Process answers one command: the few that need no secure channel, then those
// that come through it.
func (d *domain) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.CLA&^gp.CLASecure != 0 {
		return status(iso7816.SWClass)
	}
	if issuer, ok := s.Registry().Domain(); ok && issuer.State == card.StateTerminated && c.INS != gp.InsGetData {
		return status(iso7816.SWConditions)
	}
	switch {
	case c.INS == gp.InsGetData && !iso7816.Secure(c.CLA):
		return d.getData(s, c)
	case c.INS == gp.InsInitializeUpdate && c.CLA == gp.CLA:
		return d.initializeUpdate(s, c)
	case c.INS == gp.InsExternalAuth && c.CLA == gp.CLASecure:
		return d.externalAuthenticate(s, c)
	}
	switch c.INS {
	case gp.InsGetData, gp.InsPutKey, gp.InsStoreData, gp.InsDelete, gp.InsInstall, gp.InsLoad, gp.InsSetStatus, gp.InsGetStatus:
	default:
		return status(iso7816.SWInstruction)
	}
	if iso7816.Base(c.CLA) != gp.CLA {
		return status(iso7816.SWClass)
	}
	return d.secured(s, c)
}

// secured takes a command out of the secure channel, has it carried out and
// protects its answer.
func (d *domain) secured(s *card.Session, c iso7816.Command) iso7816.Response {
	if d.channel == nil || !d.channel.Authenticated() {
		return status(iso7816.SWSecurity)
	}
	if d.channel.Level()&gp.CMAC != 0 && !iso7816.Secure(c.CLA) {
		return status(iso7816.SWSecurity)
	}
	plain, err := d.channel.Open(c)
	if err != nil {
		d.close(s)
		return status(iso7816.SWSecurity)
	}
	plain.CLA = gp.CLA
	r := d.managed(s, plain)
	if failed(r.SW) {
		s.Rollback()
		d.chain, d.carry, d.list = nil, nil, nil
	}
	return d.channel.Seal(r)
}

// failed says whether a status word is an error and not a warning.
func failed(sw iso7816.SW) bool { return !sw.OK() && sw>>8 != 0x62 && sw>>8 != 0x63 }

// managed carries out a command of card content management. A locked card only
// tells and changes its state (GPCS 5.1.1.4).
func (d *domain) managed(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.INS != gp.InsGetStatus {
		d.list = nil
	}
	if c.INS != gp.InsInstall {
		d.chain = nil
	}
	issuer, _ := s.Registry().Domain()
	locked := issuer.State == card.StateLocked
	switch c.INS {
	case gp.InsGetData:
		return d.getData(s, c)
	case gp.InsGetStatus:
		return d.getStatus(s, c)
	case gp.InsSetStatus:
		return d.setStatus(s, c)
	}
	if locked {
		return status(iso7816.SWConditions)
	}
	switch c.INS {
	case gp.InsPutKey:
		return d.putKey(s, c)
	case gp.InsStoreData:
		return d.storeData(s, c)
	case gp.InsDelete:
		return d.delete(s, c)
	case gp.InsInstall:
		return d.install(s, c)
	}
	return d.loadBlock(s, c)
}

// manages says whether the domain may change the registry at all: the issuer's
// may, and one with authorized management (GPCS 9.1.3).
func manages(x card.Entry) bool {
	return x.Kind == card.Domain || gp.Privileges(x.Privileges).Has(gp.PrivAuthorizedMgmt)
}

// owns says whether y is the domain's own business: the issuer's domain reaches
// everything, another one what is associated with it, and itself.
func owns(x, y card.Entry) bool {
	return x.Kind == card.Domain || y.Domain == x.AID || y.ID == x.ID
}

func isDomain(x card.Entry) bool {
	return x.Kind == card.Domain || x.Kind == card.Application && gp.Privileges(x.Privileges).Has(gp.PrivSecurityDomain)
}

func status(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }

func answer(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }

// confirmed is the answer to INSTALL, LOAD and DELETE: an empty confirmation
// and its length (GPCS 11.1.6).
func confirmed() iso7816.Response { return answer([]byte{0}) }
