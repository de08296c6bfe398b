package card

import (
	"fmt"
	"io"

	"koala/spec/iso7816"
)

// A Session is what an applet has in hand while it is selected on a channel.
type Session struct {
	e         *Element
	Self      ID // the applet's own entry, owner of its regions
	Channel   byte
	Interface Interface
	// Level is the security level of the secure channel of a security domain,
	// in its own coding; the domain sets it and it dies with the selection.
	Level byte
}

// Region finds the applet's region with tag; absent if never allocated.
func (s *Session) Region(tag uint16) Region { return s.e.mem.Region(s.Self, tag) }

// Allocate gives the applet size zeroed bytes under tag. ErrFull also when a
// quota stands against it; the unit can then only be rolled back.
func (s *Session) Allocate(tag uint16, size int) (Region, error) {
	g, err := s.e.mem.Allocate(s.Self, tag, size)
	if err != nil {
		return g, err
	}
	if x, ok := s.Registry().Entry(s.Self); ok && !s.Registry().within(x) {
		s.e.mem.failed = ErrFull
		return Region{}, ErrFull
	}
	return g, nil
}

// Random fills b from the element's generator.
func (s *Session) Random(b []byte) {
	if _, err := io.ReadFull(s.e.rand, b); err != nil {
		panic(fmt.Errorf("card: the random source ended: %w", err))
	}
}

// UID is the element's identifier.
func (s *Session) UID() [7]byte { return s.e.uid }

// Free counts the bytes of memory that can still be allocated.
func (s *Session) Free() int { return s.e.mem.Free() }

// Rollback forgets what the command has written so far.
func (s *Session) Rollback() { s.e.mem.Rollback() }

// Commit makes what the command has written so far a unit of its own. When
// power fails in it the element is dead: the caller stops at an error.
func (s *Session) Commit() error { return s.e.mem.Commit() }

// DecryptKey opens a key of the STORE DATA in progress under the security
// domain's data encryption key. Outside personalisation it refuses.
func (s *Session) DecryptKey(in []byte) ([]byte, error) {
	if s.e.domainKey == nil {
		return nil, ErrNoDomain
	}
	return s.e.domainKey(in)
}

// ErrNoDomain says that no security domain stands behind the command.
var ErrNoDomain = fmt.Errorf("card: no security domain is personalising")

// Registry is the element's list of what is installed, for a security domain.
func (s *Session) Registry() Registry { return Registry{s.e} }

// Personalise hands one data grouping to the instance target, as its security
// domain does between INSTALL [for personalization] and the last STORE DATA
// (GPCS 11.11.3.2). 6985 while the instance is selected somewhere. decrypt opens key parts under the domain's key.
func (s *Session) Personalise(target ID, dgi uint16, data []byte, decrypt func(in []byte) ([]byte, error)) iso7816.SW {
	x, ok := s.Registry().Entry(target)
	if !ok {
		return iso7816.SWReferenceNotFound
	}
	mod, ok := s.e.catalog.Module(x.LoadFile, x.Module)
	if !ok {
		return iso7816.SWReferenceNotFound
	}
	if s.Registry().selected(target) {
		return iso7816.SWConditions
	}
	applet, ok := mod.New().(Personaliser)
	if !ok {
		return iso7816.SWConditions
	}
	s.e.domainKey = decrypt
	defer func() { s.e.domainKey = nil }()
	return applet.StoreData(&Session{e: s.e, Self: target, Interface: s.Interface, Channel: s.Channel, Level: s.Level}, dgi, data)
}
