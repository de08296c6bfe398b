package card

import (
	"cmp"
	"slices"

	"koala/spec/iso7816"
)

// A Lister is an applet that payment directories list. Directory is the value
// of its 61 template (4F, 50, 87 and what else its scheme wants; EMV book 1,
// 12.2.3, CARD.md 1.1); nil while it is not personalised. s is a session of the
// instance, which need not be selected.
type Lister interface {
	Directory(s *Session) []byte
}

// An Availability is the contactless activation state of an application, coded
// as the second byte of 9F70 (Amendment C, 3.6 of CARD.md).
type Availability byte

// Contactless activation states. An application that is not activated cannot be
// selected over the air; contacts do not ask.
const (
	Deactivated    Availability = 0x00
	Activated      Availability = 0x01
	NonActivatable Availability = 0x80
)

// ContactlessData is what the registry keeps of an application for the contactless
// interface.
type ContactlessData struct {
	State Availability
	// Always is set for applications that no one may deactivate: transit.
	Always bool
	// Order is the place in the persistent order of preference, 1 first; the
	// registry gives the next free one to a new entry.
	Order uint16
	// Counter counts the changes of this application's contactless data.
	Counter uint16
	// Group names what only one activated application at a time can have, such
	// as a UID or a protocol parameter; 0 is no such thing.
	Group byte
	// Family is the application family (AFI of ISO 14443-3), 0 when not told.
	Family byte
	// NeedsDisplay is set for an application that does not work while the
	// device's display is off.
	NeedsDisplay bool
}

// Layout of the element's own region (owner 1): global update counter 2 |
// generation of the catalogue that the registry was last brought up to 2.
const (
	globalTag    = 0xFFFD
	globalSize   = 4
	atCounter    = 0
	atGeneration = 2

	interactionTag = 0xFFFC

	// Privilege byte 3 (GPCS 11.1.2).
	privilegeActivation     = 0x20
	privilegeSelfActivation = 0x10
)

func (r Registry) global() Region { return r.e.mem.Region(domainID, globalTag) }

// Counter is the global update counter: it moves with every change of any
// application's contactless data, with every new application and every one that
// goes, and wraps.
func (r Registry) Counter() uint16 { return r.number(atCounter) }

// Generation is the generation of the catalogue whose load files and instances
// the registry was last brought up to; 0 for an element of before generations.
func (r Registry) Generation() uint16 { return r.number(atGeneration) }

func (r Registry) number(at int) uint16 {
	g := r.global()
	if g.Size() != globalSize {
		return 0
	}
	return g.Uint16(at)
}

func (r Registry) setNumber(at int, n uint16) {
	if g := r.global(); g.Size() == globalSize {
		g.WriteUint16(at, n)
	}
}

// Listed is the 61 template's value of an instance (Lister); nil if its applet
// is none, or has nothing to show.
func (r Registry) Listed(x Entry) []byte {
	mod, ok := r.e.catalog.Module(x.LoadFile, x.Module)
	if !ok || x.Kind != Application {
		return nil
	}
	l, ok := mod.New().(Lister)
	if !ok {
		return nil
	}
	return l.Directory(&Session{e: r.e, Self: x.ID, Interface: r.e.iface})
}

// Ordered lists the applications in the order of preference: those preferred
// for now first (Prefer), then by their persistent order.
func (r Registry) Ordered() []Entry {
	var list []Entry
	for x := range r.all() {
		if x.Kind == Application {
			list = append(list, x)
		}
	}
	place := func(x Entry) int {
		if i := slices.Index(r.e.preferred, x.ID); i >= 0 {
			return i
		}
		return len(r.e.preferred) + int(x.Contactless.Order)
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(place(a), place(b)) })
	return list
}

// Activate makes an application selectable over the air. When activated ones of
// its group stand against it nothing changes: 6985 and the entries in the way.
// 6985 alone when it is not activatable. Nothing happens to an activated one.
func (r Registry) Activate(id ID) (conflicts []Entry, sw iso7816.SW) {
	x, ok := r.Entry(id)
	switch {
	case !ok || x.Kind != Application:
		return nil, iso7816.SWReferenceNotFound
	case x.Contactless.State == Activated:
		return nil, iso7816.OK
	case x.Contactless.State == NonActivatable || !x.selectable():
		return nil, iso7816.SWConditions
	}
	if conflicts = r.conflicts(x); conflicts != nil {
		return conflicts, iso7816.SWConditions
	}
	x.Contactless.State = Activated
	return nil, r.touch(x)
}

// conflicts lists the activated applications of x's group.
func (r Registry) conflicts(x Entry) (list []Entry) {
	if x.Contactless.Group == 0 {
		return nil
	}
	for y := range r.all() {
		if y.Kind == Application && y.ID != x.ID && y.Contactless.State == Activated && y.Contactless.Group == x.Contactless.Group {
			list = append(list, y)
		}
	}
	return list
}

// Deactivate takes an application off the air, out of the volatile preference
// too; its place in the persistent order stays. 6985 for one that is always on.
func (r Registry) Deactivate(id ID) iso7816.SW {
	x, ok := r.Entry(id)
	switch {
	case !ok || x.Kind != Application:
		return iso7816.SWReferenceNotFound
	case x.Contactless.State == Deactivated:
		return iso7816.OK
	case x.Contactless.Always || x.Contactless.State == NonActivatable:
		return iso7816.SWConditions
	}
	x.Contactless.State = Deactivated
	r.Prefer(slices.DeleteFunc(r.Preferred(), func(p ID) bool { return p == id })...)
	return r.touch(x)
}

// MakeSelectable moves an application from INSTALLED to SELECTABLE. It starts
// activated over the air, or deactivated where off says so or another of its
// group is there already; Activate and Deactivate move it afterwards.
func (r Registry) MakeSelectable(id ID, off bool) iso7816.SW {
	x, ok := r.Entry(id)
	if !ok || x.Kind != Application || x.State != StateInstalled {
		return iso7816.SWConditions
	}
	x.State = StateSelectable
	if !off {
		x = r.started(x)
	}
	return r.touch(x)
}

// started is an application that has just become selectable, activated if that
// can be.
func (r Registry) started(x Entry) Entry {
	if x.Kind == Application && x.Contactless.State == Deactivated && r.conflicts(x) == nil {
		x.Contactless.State = Activated
	}
	return x
}

// Prefer puts applications first until it is called again without one of them.
// The preference is in working memory, which the band's battery keeps over taps:
// it is not part of the image.
func (r Registry) Prefer(ids ...ID) { r.e.preferred = slices.Clone(ids) }

// Preferred lists what Prefer put first.
func (r Registry) Preferred() []ID { return slices.Clone(r.e.preferred) }

// SetFirst puts applications first in the persistent order, as given; the others
// follow as they stood. Only entries that move are written and counted.
func (r Registry) SetFirst(ids ...ID) iso7816.SW {
	list := slices.DeleteFunc(r.persistent(), func(x Entry) bool { return slices.Contains(ids, x.ID) })
	front := make([]Entry, 0, len(ids)+len(list))
	for _, id := range ids {
		x, ok := r.Entry(id)
		if !ok || x.Kind != Application {
			return iso7816.SWReferenceNotFound
		}
		front = append(front, x)
	}
	for i, x := range append(front, list...) {
		if x.Contactless.Order == uint16(i+1) {
			continue
		}
		x.Contactless.Order = uint16(i + 1)
		if sw := r.touch(x); !sw.OK() {
			return sw
		}
	}
	return iso7816.OK
}

func (r Registry) persistent() []Entry {
	var list []Entry
	for x := range r.all() {
		if x.Kind == Application {
			list = append(list, x)
		}
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(a.Contactless.Order, b.Contactless.Order) })
	return list
}

// Activate is Registry.Activate with the rights of the applet: it needs the
// contactless activation privilege, or for itself contactless self-activation;
// 6982 without.
func (s *Session) Activate(id ID) (conflicts []Entry, sw iso7816.SW) {
	if x, _ := s.Registry().Entry(s.Self); x.Privileges[2]&privilegeActivation == 0 &&
		(id != s.Self || x.Privileges[2]&privilegeSelfActivation == 0) {
		return nil, iso7816.SWSecurity
	}
	return s.Registry().Activate(id)
}

// Deactivate is Registry.Deactivate with the rights of the applet, which may
// always take itself off the air.
func (s *Session) Deactivate(id ID) iso7816.SW {
	if x, _ := s.Registry().Entry(s.Self); x.Privileges[2]&privilegeActivation == 0 && id != s.Self {
		return iso7816.SWSecurity
	}
	return s.Registry().Deactivate(id)
}

// Interaction is what a wallet is to show of an application: the objects that
// its installer gave.
func (r Registry) Interaction(id ID) []byte {
	return r.e.mem.Region(id, interactionTag).Bytes()
}

// SetInteraction keeps them, once for an application. 6A84 when full.
func (r Registry) SetInteraction(id ID, objects []byte) iso7816.SW {
	s := Session{e: r.e, Self: id}
	g, err := s.Allocate(interactionTag, len(objects))
	if err != nil {
		return swOf(err)
	}
	g.Write(0, objects)
	return iso7816.OK
}

// touch writes an entry whose contactless data has changed, and counts.
func (r Registry) touch(x Entry) iso7816.SW {
	x.Contactless.Counter++
	r.count()
	return r.Update(x)
}

func (r Registry) count() { r.setNumber(atCounter, r.number(atCounter)+1) }
