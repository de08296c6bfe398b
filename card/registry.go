package card

import (
	"encoding/binary"
	"iter"
	"slices"

	"koala/spec/iso7816"
)

// A Kind is what an entry of the registry is.
type Kind byte

// Kinds of entries.
const (
	Domain      Kind = iota + 1 // the issuer security domain; its state is the card's life cycle
	Application                 // an applet instance or a supplementary security domain
	LoadFile                    // an executable load file
)

// Life cycle states (GPCS 11.1.1).
const (
	StateReady       byte = 0x01 // card: OP_READY; load file: LOADED
	StateInitialized byte = 0x07 // card
	StateSecured     byte = 0x0F // card
	StateLocked      byte = 0x7F // card: CARD_LOCKED
	StateTerminated  byte = 0xFF // card: TERMINATED
	StateInstalled   byte = 0x03 // application
	StateSelectable  byte = 0x07 // application; 0F and others above are its own
	LockedBit        byte = 0x80 // application: locked, the state before is kept below the bit
)

// PrivilegeDefault is the bit of privilege byte 1 that makes an application the
// default selected one (GPCS 6.6.1).
const PrivilegeDefault byte = 0x04

// An Entry is one line of the registry.
type Entry struct {
	ID         ID // given by the registry
	Kind       Kind
	State      byte
	Privileges [3]byte
	// Implicit is the implicit selection parameter (GPCS 11.1.7): bit 8
	// contactless, bit 7 contact, bits 5-1 the channel.
	Implicit byte
	Version  [2]byte // of a load file
	AID      AID
	LoadFile AID // of an instance
	Module   AID // of an instance
	Domain   AID // the associated security domain

	Contactless ContactlessData // of an application
	Quota       Quota           // of an application
}

func (x Entry) selectable() bool {
	return x.Kind == Domain || x.Kind == Application && x.State&LockedBit == 0 && x.State >= StateSelectable
}

// reachable tells an entry that SELECT finds over i: over the air only what is
// activated there.
func (x Entry) reachable(i Interface) bool {
	return x.selectable() && (x.Kind == Domain || i == Contact || x.Contactless.State == Activated)
}

func (x Entry) implicit(i Interface, channel int) bool {
	if x.Kind != Application {
		return false
	}
	bit := byte(0x80)
	if i == Contact {
		bit = 0x40
	}
	return x.Privileges[0]&PrivilegeDefault != 0 || x.Implicit&bit != 0 && int(x.Implicit&0x1F) == channel
}

// Layout of an entry's region: kind 1 | state 1 | privileges 3 | implicit 1 |
// version 2 | four times length 1 and 16 bytes: AID, load file, module, domain |
// contactless: state 1, flags 1 (bit 1 always on, bit 2 needs the display), order 2, counter 2, group 1,
// family 1 | quotas: own 4, granted 4, own volatile 4, granted volatile 4.
// Images of version 1 end their entries with the domain.
const (
	entryTag    = 0xFFFF
	entrySizeV1 = 8 + 4*17
	entrySize   = entrySizeV1 + 8 + 16

	flagAlways  = 0x01
	flagDisplay = 0x02

	// MaxEntries bounds the registry.
	MaxEntries = 64
)

// Registry is the list of entries in an element's memory. Changes are part of
// the command's unit.
type Registry struct{ e *Element }

func (e *Element) registry() Registry { return Registry{e} }

// rows yields the entries in the order they stand in memory, still coded.
func (r Registry) rows() iter.Seq2[ID, []byte] {
	return func(yield func(ID, []byte) bool) {
		m := r.e.mem
		for b, ok := m.first(); ok; b, ok = m.after(b) {
			if b.state != blockUsed || b.tag != entryTag || b.size != entrySize {
				continue
			}
			if !yield(b.owner, m.cells[b.at+blockHeader:b.next()]) {
				return
			}
		}
	}
}

// all yields the entries in the order they stand in memory.
func (r Registry) all() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for id, c := range r.rows() {
			if !yield(decodeEntry(id, c)) {
				return
			}
		}
	}
}

// named yields the coded entries whose AID begins with name.
func (r Registry) named(name string) iter.Seq2[ID, []byte] {
	return func(yield func(ID, []byte) bool) {
		for id, c := range r.rows() {
			n := int(c[8])
			if n <= 16 && n >= len(name) && string(c[9:9+len(name)]) == name && !yield(id, c) {
				return
			}
		}
	}
}

func decodeEntry(id ID, c []byte) Entry {
	name := func(i int) AID {
		f := c[8+17*i:]
		return AID(f[1 : 1+min(int(f[0]), 16)])
	}
	x := Entry{
		ID: id, Kind: Kind(c[0]), State: c[1], Privileges: [3]byte(c[2:5]), Implicit: c[5], Version: [2]byte(c[6:8]),
		AID: name(0), LoadFile: name(1), Module: name(2), Domain: name(3),
	}
	c = c[entrySizeV1:]
	x.Contactless = ContactlessData{State: Availability(c[0]), Always: c[1]&flagAlways != 0, NeedsDisplay: c[1]&flagDisplay != 0,
		Order: binary.BigEndian.Uint16(c[2:]), Counter: binary.BigEndian.Uint16(c[4:]), Group: c[6], Family: c[7]}
	for i, q := range []*uint32{&x.Quota.Own, &x.Quota.Granted, &x.Quota.OwnVolatile, &x.Quota.GrantedVolatile} {
		*q = binary.BigEndian.Uint32(c[8+4*i:])
	}
	return x
}

func (x Entry) encode() []byte {
	c := make([]byte, entrySize)
	c[0], c[1], c[5] = byte(x.Kind), x.State, x.Implicit
	copy(c[2:], x.Privileges[:])
	copy(c[6:], x.Version[:])
	for i, a := range []AID{x.AID, x.LoadFile, x.Module, x.Domain} {
		c[8+17*i] = byte(len(a))
		copy(c[9+17*i:], a)
	}
	t := c[entrySizeV1:]
	t[0], t[6], t[7] = byte(x.Contactless.State), x.Contactless.Group, x.Contactless.Family
	if x.Contactless.Always {
		t[1] |= flagAlways
	}
	if x.Contactless.NeedsDisplay {
		t[1] |= flagDisplay
	}
	binary.BigEndian.PutUint16(t[2:], x.Contactless.Order)
	binary.BigEndian.PutUint16(t[4:], x.Contactless.Counter)
	for i, q := range []uint32{x.Quota.Own, x.Quota.Granted, x.Quota.OwnVolatile, x.Quota.GrantedVolatile} {
		binary.BigEndian.PutUint32(t[8+4*i:], q)
	}
	return c
}

// Entries lists the registry.
func (r Registry) Entries() []Entry {
	var list []Entry
	for x := range r.all() {
		list = append(list, x)
	}
	return list
}

// Entry finds an entry by number.
func (r Registry) Entry(id ID) (Entry, bool) {
	g := r.e.mem.Region(id, entryTag)
	if g.Size() != entrySize {
		return Entry{}, false
	}
	return decodeEntry(id, g.Bytes()), true
}

// Find finds an entry by its whole AID.
func (r Registry) Find(a AID) (Entry, bool) {
	for id, c := range r.named(string(a)) {
		if int(c[8]) == len(a) {
			return decodeEntry(id, c), true
		}
	}
	return Entry{}, false
}

// Domain is the issuer security domain.
func (r Registry) Domain() (Entry, bool) {
	for id, c := range r.rows() {
		if Kind(c[0]) == Domain {
			return decodeEntry(id, c), true
		}
	}
	return Entry{}, false
}

// Add writes a new entry (a load file; an instance comes by Install). The AID
// must be new: 6985. A full registry or memory is 6A84.
func (r Registry) Add(x Entry) (ID, iso7816.SW) {
	n, last, order := 0, ID(0), uint16(0)
	for y := range r.all() {
		if y.AID == x.AID {
			return 0, iso7816.SWConditions
		}
		n, last, order = n+1, max(last, y.ID), max(order, y.Contactless.Order)
	}
	if n == MaxEntries || last == 0xFFFF {
		return 0, iso7816.SWNoSpace
	}
	if x.Kind == Application && x.Contactless.Order == 0 {
		x.Contactless.Order = order + 1
	}
	if x.selectable() {
		x = r.started(x)
	}
	g, err := r.e.mem.Allocate(last+1, entryTag, entrySize)
	if err != nil {
		r.e.mem.Rollback()
		return 0, swOf(err)
	}
	x.ID = last + 1
	g.Write(0, x.encode())
	if x.Kind == Application {
		r.count()
	}
	if !r.within(x) {
		r.e.mem.Rollback()
		return 0, iso7816.SWNoSpace
	}
	return x.ID, iso7816.OK
}

// Update rewrites an entry in place. It keeps its number.
func (r Registry) Update(x Entry) iso7816.SW {
	g := r.e.mem.Region(x.ID, entryTag)
	if g.Size() != entrySize {
		return iso7816.SWReferenceNotFound
	}
	g.Write(0, x.encode())
	return iso7816.OK
}

// Install adds an instance and lets its module allocate what it needs. When the
// module refuses nothing remains of it.
func (r Registry) Install(x Entry, params []byte) (ID, iso7816.SW) {
	mod, ok := r.e.catalog.Module(x.LoadFile, x.Module)
	if !ok || !r.e.guard.allows(x.LoadFile, x.Module) {
		return 0, iso7816.SWReferenceNotFound
	}
	if mod.Always {
		x.Contactless.State, x.Contactless.Always = Activated, true
	}
	id, sw := r.Add(x)
	if !sw.OK() || mod.Install == nil {
		return id, sw
	}
	if sw := mod.Install(&Session{e: r.e, Self: id, Interface: r.e.iface}, params); !sw.OK() {
		r.e.mem.Rollback()
		return 0, sw
	}
	if err := r.e.mem.failed; err != nil {
		r.e.mem.Rollback()
		return 0, swOf(err)
	}
	return id, iso7816.OK
}

// Delete removes an entry and releases its memory. 6985 while it is selected on
// some channel; the issuer security domain cannot be deleted.
func (r Registry) Delete(id ID) iso7816.SW {
	x, ok := r.Entry(id)
	if !ok {
		return iso7816.SWReferenceNotFound
	}
	if x.Kind == Domain || r.selected(id) {
		return iso7816.SWConditions
	}
	r.e.mem.Release(id)
	if x.Kind == Application {
		r.count()
		r.Prefer(slices.DeleteFunc(r.Preferred(), func(p ID) bool { return p == id })...)
	}
	return iso7816.OK
}

// selected tells whether an instance is the current one of some channel.
func (r Registry) selected(id ID) bool {
	for i := range r.e.channels {
		if ch := &r.e.channels[i]; ch.open && ch.applet != nil && ch.session.Self == id {
			return true
		}
	}
	return false
}
