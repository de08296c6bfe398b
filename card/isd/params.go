package isd

import (
	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// grantable refuses privileges that this card does not have or that do not go
// together (GPCS 6.6): those of domains need a domain, delegated management goes
// without authorized management. Verification of load file DAPs and ciphered
// load files are not offered: code that comes over the air is never run here.
func grantable(p gp.Privileges) bool {
	const noDAP, mandated gp.Privilege = 0x040, 0x001
	if p.Has(noDAP) || p.Has(mandated) || p.Has(gp.PrivCipheredLoad) {
		return false
	}
	delegated := p[0]&byte(gp.PrivDelegated)&^byte(gp.PrivSecurityDomain) != 0
	if delegated && p.Has(gp.PrivAuthorizedMgmt) {
		return false
	}
	if p.Has(gp.PrivSecurityDomain) {
		return true
	}
	return !delegated && !p.Has(gp.PrivAuthorizedMgmt) && !p.Has(gp.PrivTokenVerification) && !p.Has(gp.PrivReceiptGeneration)
}

// knownProtocols refuses a domain that is to speak what this card does not: the
// protocols in tag 81 of a domain's parameters (GPCS table 11-?), two bytes each.
func knownProtocols(params []byte) bool {
	v, ok := tlv.Find(params, 0x81)
	if !ok {
		return true
	}
	for ; len(v) >= 2; v = v[2:] {
		if !(v[0] == 2 && v[1] == gp.OptionSCP02) && !(v[0] == 3 && v[1] == gp.OptionSCP03) {
			return false
		}
	}
	return len(v) == 0
}

// quota is what INSTALL's parameters bound.
func quota(p gp.SystemParams) card.Quota {
	return card.Quota{Own: p.NonVolatile, Granted: p.Granted, OwnVolatile: p.Volatile, GrantedVolatile: p.GrantedVolatile}
}

// requota changes the bounds that parameters name; the others stay.
func requota(x *card.Entry, p gp.SystemParams) {
	q := quota(p)
	for _, n := range []struct {
		to   *uint32
		from uint32
	}{{&x.Quota.Own, q.Own}, {&x.Quota.Granted, q.Granted}, {&x.Quota.OwnVolatile, q.OwnVolatile}, {&x.Quota.GrantedVolatile, q.GrantedVolatile}} {
		if n.from != 0 {
			*n.to = n.from
		}
	}
}

// contactless puts INSTALL's contactless parameters into an entry.
func contactless(x *card.Entry, c *gp.ContactlessParams) {
	if c == nil {
		return
	}
	x.Contactless.Group, x.Contactless.Family, x.Contactless.NeedsDisplay = c.Group, c.Family, c.NeedsDisplay
	if c.Initial == gp.NonActivatable {
		x.Contactless.State = card.NonActivatable
	}
}

// settleContactless ends the installation of an application: what a wallet is to
// show of it is kept, and it stays off the air where INSTALL says so.
func settleContactless(s *card.Session, id card.ID, c *gp.ContactlessParams) iso7816.SW {
	if c == nil {
		return iso7816.OK
	}
	if len(c.Interaction) > 0 {
		if sw := s.Registry().SetInteraction(id, c.Interaction); !sw.OK() {
			return sw
		}
	}
	if c.Initial == gp.Deactivated {
		return s.Registry().Deactivate(id)
	}
	return iso7816.OK
}

// move activates or deactivates an application by INSTALL [for registry update].
// What stands against it is 6985.
func move(s *card.Session, x card.Entry, c *gp.ContactlessParams) iso7816.SW {
	if c == nil || x.Kind != card.Application {
		return iso7816.OK
	}
	if c.Initial == gp.Activated {
		_, sw := s.Registry().Activate(x.ID)
		return sw
	}
	return s.Registry().Deactivate(x.ID)
}
