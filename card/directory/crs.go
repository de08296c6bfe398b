package directory

import (
	"slices"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// crsVersion is that of Amendment C which the registry application speaks.
var crsVersion = [2]byte{1, 0}

// plainAnswer is the longest listing of one GET STATUS, bytes: clients ask for
// at most 256.
const plainAnswer = 250

// CRS is the module of the contactless registry application. Its instance needs
// the contactless activation privilege to move anything.
func CRS() card.Module {
	return card.Module{New: func() card.Applet { return &crs{} }, Shared: true, Always: true}
}

// A crs is one selection; list is what GET STATUS has not answered yet.
type crs struct{ list [][]byte }

// Select answers the FCI with version and global update counter.
func (*crs) Select(s *card.Session) iso7816.Response {
	x, _ := s.Registry().Entry(s.Self)
	return answer(info(s).FCI(gp.AID(x.AID)))
}

func info(s *card.Session) gp.RegistryInfo {
	return gp.RegistryInfo{Version: crsVersion, Counter: s.Registry().Counter()}
}

// Process answers GET DATA, GET STATUS and SET STATUS (CARD.md 3.6).
func (a *crs) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.INS != gp.InsGetStatus {
		a.list = nil
	}
	if c.CLA != gp.CLA {
		return status(iso7816.SWClass)
	}
	switch c.INS {
	case gp.InsGetData:
		if c.P1 != 0 || c.P2 != 0xA5 {
			return status(iso7816.SWReferenceNotFound)
		}
		return answer(info(s).Bytes())
	case gp.InsGetStatus:
		return a.getStatus(s, c)
	case gp.InsSetStatus:
		return setStatus(s, c)
	}
	return status(iso7816.SWInstruction)
}

// getStatus lists applications and supplementary domains, in the order in which
// readers get them, as many as fit; 6310 says that more follow.
func (a *crs) getStatus(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.P1 != byte(gp.Applications) || c.P2&^1 != 0 {
		return status(iso7816.SWP1P2)
	}
	q, err := gp.ParseContactlessQuery(c)
	switch {
	case err != nil:
		return status(iso7816.SWData)
	case !q.Next:
		a.list = entries(s, q)
	case a.list == nil:
		return status(iso7816.SWConditions)
	}
	if len(a.list) == 0 {
		a.list = nil
		return status(iso7816.SWReferenceNotFound)
	}
	var out []byte
	for len(a.list) > 0 && (out == nil || len(out)+len(a.list[0]) <= plainAnswer) {
		out, a.list = append(out, a.list[0]...), a.list[1:]
	}
	if len(a.list) > 0 {
		return iso7816.Response{Data: out, SW: gp.SWMore}
	}
	a.list = nil
	return answer(out)
}

func entries(s *card.Session, q gp.ContactlessQuery) (list [][]byte) {
	for i, x := range s.Registry().Ordered() {
		e := gp.ContactlessEntry{AID: gp.AID(x.AID), State: x.State, Availability: byte(x.Contactless.State),
			Counter: x.Contactless.Counter, Rank: byte(i + 1), Display: []byte{1}, Interaction: s.Registry().Interaction(x.ID)}
		if x.Contactless.Family != 0 {
			e.Family = []byte{0, x.Contactless.Family}
		}
		if x.Contactless.NeedsDisplay {
			e.Display[0] = 0
		}
		if !q.Matches(e) {
			continue
		}
		if line, ok := e.Append(nil, q.Tags); ok {
			list = append(list, line)
		}
	}
	return list
}

// setStatus activates, deactivates and orders applications. It is taken over
// contacts only, where the device itself speaks, after its own confirmation by
// the wearer: a reader in passing must not move cards (6982).
func setStatus(s *card.Session, c iso7816.Command) iso7816.Response {
	in, err := gp.ParseContactlessSet(c)
	switch in.Change {
	case gp.Activate, gp.Deactivate, gp.PutFirst, gp.MakeDefaults, gp.ForgetOrder:
	default:
		return status(iso7816.SWP1P2)
	}
	switch {
	case err != nil:
		return status(iso7816.SWData)
	case s.Interface != card.Contact:
		return status(iso7816.SWSecurity)
	case in.Change == gp.Activate || in.Change == gp.Deactivate:
		return move(s, in)
	}
	return status(order(s, in))
}

// move activates or deactivates each application; those that cannot be moved
// stay as they are and are named (6320). Without the privilege nothing moves.
func move(s *card.Session, in gp.ContactlessSet) iso7816.Response {
	var failed, conflicts []gp.AID
	for _, a := range in.Apps {
		x, ok := s.Registry().Find(card.AID(a))
		sw := iso7816.SWReferenceNotFound
		var against []card.Entry
		switch {
		case !ok:
		case in.Change == gp.Activate:
			against, sw = s.Activate(x.ID)
		default:
			sw = s.Deactivate(x.ID)
		}
		if sw == iso7816.SWSecurity {
			s.Rollback()
			return status(sw)
		}
		if !sw.OK() {
			failed = append(failed, a)
		}
		for _, y := range against {
			if n := gp.AID(y.AID); !slices.Contains(conflicts, n) {
				conflicts = append(conflicts, n)
			}
		}
	}
	if failed != nil {
		return iso7816.Response{Data: gp.Failures(failed, conflicts), SW: gp.SWSome}
	}
	return status(iso7816.OK)
}

// order changes what comes first: all of it or, when one application does not
// exist (6A88) or is not activated (6985), nothing.
func order(s *card.Session, in gp.ContactlessSet) iso7816.SW {
	r := s.Registry()
	if x, _ := r.Entry(s.Self); !gp.Privileges(x.Privileges).Has(gp.PrivContactlessActivate) {
		return iso7816.SWSecurity
	}
	var ids []card.ID
	for _, a := range in.Apps {
		x, ok := r.Find(card.AID(a))
		switch {
		case !ok || x.Kind != card.Application:
			return iso7816.SWReferenceNotFound
		case x.Contactless.State != card.Activated || slices.Contains(ids, x.ID):
			return iso7816.SWConditions
		}
		ids = append(ids, x.ID)
	}
	if in.Change == gp.MakeDefaults {
		return r.SetFirst(ids...)
	}
	r.Prefer(ids...)
	return iso7816.OK
}
