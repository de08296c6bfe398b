// Package cardtest makes secure elements for tests of applets and of terminals:
// instances are installed and personalised in the factory, with keys in clear,
// under a domain that only holds the place of one. Start with New.
package cardtest

import (
	"bytes"
	"math/bits"

	"koala/card"
	"koala/spec/iso7816"
)

// Domain is the name and the module of the issuer security domain.
const Domain = card.AID("\xA0\x00\x00\x01\x51\x00\x00\x00")

// A T is what tests, benchmarks, fuzzers and the checks of rapid share.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Modules is a catalog of the modules under test. It has the domain too.
type Modules map[card.AID]card.Module

// Module finds a module by its name, whatever its load file.
func (m Modules) Module(_, module card.AID) (card.Module, bool) {
	if module == Domain {
		return card.Module{New: func() card.Applet { return domain{} }, Shared: true}, true
	}
	x, ok := m[module]
	return x, ok
}

// domain has no command: what it would do is done in the factory.
type domain struct{}

func (domain) Select(*card.Session) iso7816.Response { return iso7816.Response{SW: iso7816.OK} }
func (domain) Process(*card.Session, iso7816.Command) iso7816.Response {
	return iso7816.Response{SW: iso7816.SWInstruction}
}

// A Chance gives the bytes of Next, then a sequence that is always the same.
type Chance struct {
	Next []byte
	n    uint64
}

// Read fills b.
func (c *Chance) Read(b []byte) (int, error) {
	k := copy(b, c.Next)
	c.Next = c.Next[k:]
	for i := k; i < len(b); i++ {
		c.n++
		b[i] = byte(bits.Reverse64(c.n*0x9E3779B97F4A7C15) >> 7)
	}
	return len(b), nil
}

// Clear is a domain's key that enciphers nothing.
func Clear(in []byte) ([]byte, error) { return bytes.Clone(in), nil }

// An Element is a secure element whose maker is the test.
type Element struct {
	*card.Element
	t T
}

// New makes an element with its domain alone. cfg needs no more than what the
// test wants otherwise: UID, Rand, Capacity.
func New(t T, cfg card.Config, modules Modules) *Element {
	t.Helper()
	cfg.Catalog, cfg.Domain, cfg.DomainModule = modules, Domain, Domain
	if cfg.Rand == nil {
		cfg.Rand = new(Chance)
	}
	e, err := card.New(cfg)
	if err != nil {
		t.Fatalf("new element: %v", err)
	}
	return &Element{e, t}
}

// Work does what the maker does at an element without power, as one unit.
func (e *Element) Work(do func(s *card.Session) iso7816.SW) {
	e.t.Helper()
	e.PowerOff()
	if sw, err := e.Factory(do); err != nil || !sw.OK() {
		e.t.Fatalf("factory: %v %v", sw, err)
	}
}

// Install makes an instance. x needs its AID and what is not usual: a module of
// another name, privileges.
func (e *Element) Install(x card.Entry, params ...byte) (id card.ID) {
	e.t.Helper()
	x.Kind, x.State, x.Domain = card.Application, card.StateSelectable, Domain
	if x.Module == "" {
		x.Module = x.AID
	}
	e.Work(func(s *card.Session) (sw iso7816.SW) {
		id, sw = s.Registry().Install(x, params)
		return sw
	})
	return id
}

// Find is the instance under a name.
func (e *Element) Find(aid card.AID) (id card.ID) {
	e.t.Helper()
	e.Work(func(s *card.Session) iso7816.SW {
		x, _ := s.Registry().Find(aid)
		id = x.ID
		return iso7816.OK
	})
	return id
}

// Store personalises an instance with one data grouping.
func (e *Element) Store(id card.ID, dgi uint16, data []byte) {
	e.t.Helper()
	if sw := e.Personalise(id, dgi, data); !sw.OK() {
		e.t.Fatalf("DGI %04X: %v", dgi, sw)
	}
}

// Personalise is Store for groupings that the instance may refuse.
func (e *Element) Personalise(id card.ID, dgi uint16, data []byte) iso7816.SW {
	e.t.Helper()
	e.PowerOff()
	sw, err := e.Factory(func(s *card.Session) iso7816.SW { return s.Personalise(id, dgi, data, Clear) })
	if err != nil {
		e.t.Fatalf("DGI %04X: %v", dgi, err)
	}
	return sw
}

// Power brings the element to a reader.
func (e *Element) Power(i card.Interface) {
	e.t.Helper()
	if err := e.PowerOn(i); err != nil {
		e.t.Fatalf("power: %v", err)
	}
}

// Send gives the answer to a command, whatever its status.
func (e *Element) Send(c iso7816.Command) iso7816.Response {
	e.t.Helper()
	r, err := e.Transmit(c)
	if err != nil {
		e.t.Fatalf("%v: %v", c, err)
	}
	return r
}

// Ask gives the data of an answer that must be 9000.
func (e *Element) Ask(c iso7816.Command) []byte {
	e.t.Helper()
	r := e.Send(c)
	if !r.SW.OK() {
		e.t.Fatalf("%v: %v", c, r.SW)
	}
	return r.Data
}

// Mend takes back every cut and lost answer that was still to come.
func (e *Element) Mend() {
	e.Memory().CutAt(0, 0)
	e.LoseAnswer(0)
}
