// Package domain is what security domains that other firms' cards live in are
// made with, and what an element says of them and of an instance. It knows no
// orders. Start with Install and Looked.
package domain

import (
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Partners is the one domain that all firms' cards lived in before each firm had
// its own. Cards that are there stay there.
const (
	Partners      globalplatform.AID = "\xF0koala\x06"
	PartnersSpace                    = 48 << 10 // bytes, all of them together
)

// Overhead is what a firm's domain takes itself, bytes: its line in the registry
// and its keys. It is granted beside the space of the firm's cards.
const Overhead = 1280

// Install is the INSTALL of a domain with its quota: SCP03 as the issuer's. A
// delegated one manages its content by tokens of the card issuer.
func Install(aid globalplatform.AID, granted uint32, delegated bool) globalplatform.Install {
	scp := tlv.Append(nil, 0x81, []byte{0x03, globalplatform.OptionSCP03})
	params := tlv.Append(nil, globalplatform.TagParams, scp)
	p := globalplatform.Privileges{}.With(globalplatform.PrivSecurityDomain)
	if delegated {
		p = p.With(globalplatform.PrivDelegated)
	}
	return globalplatform.Install{For: globalplatform.ForInstallSelect, LoadFile: globalplatform.DomainLoadFile, Module: globalplatform.DomainModule,
		App: aid, Privileges: p, Params: globalplatform.SystemParams{Granted: granted}.Append(params)}
}

// Grant changes the quota of a domain that is there.
func Grant(aid globalplatform.AID, granted uint32) globalplatform.Install {
	return globalplatform.Install{For: globalplatform.ForRegistryUpdate, App: aid, Keep: true, Params: globalplatform.SystemParams{Granted: granted}.Append(nil)}
}

// A Look is what GET STATUS said of an instance and of Partners.
type Look struct {
	Life     byte // of the instance; Absent
	Apart    bool // it belongs to Partners
	Partners bool // which is there
}

// Absent is the life cycle of an instance that is not in the element.
const Absent byte = 0

// Looked reads the answers to GET STATUS.
func Looked(instance globalplatform.AID, answers []iso7816.Response) (l Look, err error) {
	for _, r := range answers {
		if !r.SW.OK() && r.SW != globalplatform.SWMore {
			continue
		}
		list, err := globalplatform.ParseStatus(r.Data)
		if err != nil {
			return l, err
		}
		for _, e := range list {
			switch e.AID {
			case instance:
				l.Life, l.Apart = e.State, e.Domain == Partners
			case Partners:
				l.Partners = true
			}
		}
	}
	return l, nil
}

// LifeOf reads the life cycle of an instance from one answer to GET STATUS.
func LifeOf(data []byte, instance globalplatform.AID) (byte, error) {
	l, err := Looked(instance, []iso7816.Response{{Data: data, SW: iso7816.OK}})
	return l.Life, err
}
