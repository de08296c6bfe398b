package catalog

import (
	"koala/card"
	"koala/card/directory"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// fixed are the instances that every element has: the payment directories and
// the contactless registry, which is allowed to activate applications.
var fixed = []card.Entry{
	{AID: directory.PPSEName, LoadFile: DirectoryLoadFile, Module: PPSEModule},
	{AID: directory.PSEName, LoadFile: DirectoryLoadFile, Module: PSEModule},
	{AID: Registry, LoadFile: RegistryLoadFile, Module: Registry,
		Privileges: gp.Privileges{}.With(gp.PrivContactlessActivate)},
}

// Generation counts the modules: a catalogue only grows, and an element of a
// smaller one is brought up to it when it is restored.
func (c *Catalog) Generation() uint16 { return uint16(len(c.modules)) }

// Stock enters the load files that the element does not know and the fixed
// instances that it lacks, each as a unit of its own.
func (c *Catalog) Stock(s *card.Session) iso7816.SW {
	r := s.Registry()
	issuer, _ := r.Domain()
	for _, f := range c.files {
		if _, known := r.Find(f.AID); known {
			continue
		}
		if _, sw := r.Add(card.Entry{Kind: card.LoadFile, State: gp.Loaded, AID: f.AID, Version: f.Version, Domain: issuer.AID}); !sw.OK() {
			return sw
		}
		if s.Commit() != nil {
			return iso7816.SWMemory
		}
	}
	for _, x := range fixed {
		if _, there := r.Find(x.AID); there {
			continue
		}
		x.Kind, x.State, x.Domain = card.Application, gp.Selectable, issuer.AID
		if _, sw := r.Install(x, nil); !sw.OK() {
			return sw
		}
		if s.Commit() != nil {
			return iso7816.SWMemory
		}
	}
	return iso7816.OK
}
