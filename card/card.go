// Package card is a secure element as a plain value: EEPROM whose units survive
// a power failure at any write, a registry of applet instances, logical
// channels, SELECT and command dispatch (ISO 7816-4, GlobalPlatform Card 2.3).
// It does no I/O, keeps no clock and takes chance from its Config. Start at
// Element; Memory is what it remembers.
//
// # How an applet plugs in
//
// A Module (found by load file and module AID in the Catalog) makes applet
// objects. An object is one selection: it is made when its instance is selected
// on a channel and dropped at the next selection, channel close, reset or power
// off, so whatever it keeps in Go fields is volatile by construction (session
// keys, challenges, VERIFY). What must last lives in Regions, which the module's
// Install allocates and Session.Region finds again.
//
// A command is one unit: all writes that Process, Select or StoreData make are
// committed together after it returns and before its answer leaves, whatever
// the status word says; Session.Rollback takes them back, Session.Commit makes
// the writes so far a unit of their own. An applet therefore checks first and
// writes after, and needs no care for power failures.
//
// Over the air the registry says which applications are activated, which cannot
// be together, and in which order readers get them (contactless.go); payment
// directories show those that are a Lister. Quotas bound what an application and
// a domain with all that belongs to it may take (quota.go).
//
// The issuer security domain is an applet like any other; its session reaches
// the registry (Session.Registry), installs and deletes instances and hands
// personalisation data to an applet that is a Personaliser.
package card

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"koala/spec/iso7816"
)

// An ID numbers an entry of the registry; it owns the entry's regions.
type ID uint16

// An AID is an application identifier: 5 to 16 raw bytes (ISO 7816-5).
type AID string

// String writes the AID in hexadecimal.
func (a AID) String() string { return strings.ToUpper(hex.EncodeToString([]byte(a))) }

// Interface is how the element is powered.
type Interface byte

// The interfaces of a dual-interface element.
const (
	Contactless Interface = iota
	Contact
)

// An Applet is one selection of one instance on one channel.
type Applet interface {
	// Select answers the SELECT that made the object. Status word 6999 refuses
	// the selection; every other one, warnings included, leaves it selected.
	Select(s *Session) iso7816.Response
	// Process answers one command. CLA comes without its channel number.
	Process(s *Session, c iso7816.Command) iso7816.Response
}

// Directories is an applet with named directories inside (ISO 7816-4, 5.3.1): a
// SELECT by a name that no application has is offered to the selected one. The
// data is the directory's FCI; ok is false for a name it does not have.
type Directories interface {
	SelectDirectory(s *Session, name string) (data []byte, ok bool)
}

// A Personaliser takes the STORE DATA of its security domain: one data grouping
// at a time, key parts still encrypted (Session.DecryptKey opens them).
type Personaliser interface {
	StoreData(s *Session, dgi uint16, data []byte) iso7816.SW
}

// A Module is what INSTALL makes instances of.
type Module struct {
	// New makes the object of one selection. It must not read memory.
	New func() Applet
	// Install allocates and fills the regions of a new instance; params is the
	// value of tag C9 of the INSTALL parameters. Nil when there is nothing to do.
	Install func(s *Session, params []byte) iso7816.SW
	// Shared instances may be selected on several channels at once.
	Shared bool
	// Always makes instances that stay activated over the air whatever a wallet
	// says: transit, and the directories themselves.
	Always bool
}

// A Catalog knows the modules that can be installed.
type Catalog interface {
	Module(loadFile, module AID) (Module, bool)
}

// A Stocker is a catalogue that keeps the elements it is given up to date. New
// and Restore call Stock when the registry was last brought up to an earlier
// generation than the catalogue's. Stock enters what is missing, load files and
// fixed instances; it may commit as it goes and must bear being called again.
type Stocker interface {
	Catalog
	Generation() uint16
	Stock(s *Session) iso7816.SW
}

// A Config is a new element's.
type Config struct {
	UID      [7]byte
	Rand     io.Reader // challenges and card randoms
	Capacity int       // bytes of EEPROM; 0 is DefaultCapacity
	Catalog  Catalog
	// The issuer security domain, which the factory installs as entry 1.
	Domain                       AID
	DomainLoadFile, DomainModule AID
}

var (
	// ErrPower says that a cut hit the recovery at power-on: the element is off.
	ErrPower = fmt.Errorf("card: power failed during power-on: %w", iso7816.ErrTorn)
	// ErrModule says that the catalog lacks the module of an instance.
	ErrModule = errors.New("card: no such module in the catalog")
	// ErrStock says that a catalogue could not bring an element up to itself.
	ErrStock = errors.New("card: the catalogue does not fit the element")
)

const (
	channels = 4
	domainID = ID(1) // the issuer security domain is the first entry
)

// An Element is the secure element. It belongs to one goroutine.
type Element struct {
	uid     [7]byte
	mem     *Memory
	rand    io.Reader
	catalog Catalog

	powered   bool
	iface     Interface
	channels  [channels]channel
	domainKey func(in []byte) ([]byte, error) // of the STORE DATA in progress

	guard   guard
	swallow int // the swallow-th answer from now is lost after the work is done

	preferred []ID // volatile order over the air (Registry.Prefer)
}

// A channel is a logical channel's volatile state.
type channel struct {
	open    bool
	applet  Applet
	session Session
}

// New makes an element as it leaves the factory: an issuer security domain,
// nothing else, power off.
func New(cfg Config) (*Element, error) {
	e := &Element{uid: cfg.UID, mem: newMemory(cfg.Capacity), rand: cfg.Rand, catalog: cfg.Catalog}
	s := &Session{e: e, Interface: Contact}
	_, sw := s.Registry().Install(Entry{
		Kind: Domain, AID: cfg.Domain, State: StateReady, Privileges: [3]byte{0x9E, 0xFE, 0x80},
		LoadFile: cfg.DomainLoadFile, Module: cfg.DomainModule, Domain: cfg.Domain,
	}, nil)
	if !sw.OK() {
		return nil, ErrModule
	}
	if _, err := e.mem.Allocate(domainID, globalTag, globalSize); err != nil {
		return nil, err
	}
	if err := e.mem.Commit(); err != nil {
		return nil, err
	}
	return e, e.stock()
}

// stock lets a catalogue of a later generation bring the registry up to it. An
// element that is too full stays at its own and works on.
func (e *Element) stock() error {
	c, ok := e.catalog.(Stocker)
	r := e.registry()
	if !ok || r.Generation() >= c.Generation() {
		return nil
	}
	// What a cut has left half done comes first: stocking writes units of its own.
	if err := e.mem.recover(); err != nil {
		return err
	}
	switch sw := c.Stock(&Session{e: e, Self: domainID, Interface: Contact}); {
	case sw == iso7816.SWNoSpace:
		e.mem.Rollback()
		return nil
	case !sw.OK():
		e.mem.Rollback()
		return fmt.Errorf("%w: generation %d refused with %v", ErrStock, c.Generation(), sw)
	}
	r.setNumber(atGeneration, c.Generation())
	return e.settle()
}

// Factory lets the maker work before delivery, with the registry in hand and no
// secure channel: pre-installed applets, terminal modules. It is one unit. It is
// refused (6985) while power is on and once the card is SECURED. What work
// answers other than 9000 is taken back.
func (e *Element) Factory(work func(s *Session) iso7816.SW) (iso7816.SW, error) {
	if x, ok := e.registry().Domain(); e.powered || !ok || x.State >= StateSecured {
		return iso7816.SWConditions, nil
	}
	if err := e.mem.recover(); err != nil {
		return 0, ErrPower
	}
	sw := work(&Session{e: e, Self: domainID, Interface: Contact})
	if !sw.OK() {
		e.mem.Rollback()
		return sw, nil
	}
	if err := e.settle(); errors.Is(err, errCut) {
		return 0, ErrPower
	} else if err != nil {
		return swOf(err), nil
	}
	return sw, nil
}

// UID is the identifier the element answers in anticollision.
func (e *Element) UID() [7]byte { return e.uid }

// Memory is the EEPROM, for its wear and its faults.
func (e *Element) Memory() *Memory { return e.mem }

// Powered tells whether the element is in a field or on contacts.
func (e *Element) Powered() bool { return e.powered }

// LoseAnswer lets the n-th answer from now (n >= 1) never reach the reader: the
// work is done, power goes right after. Zero takes the fault back.
func (e *Element) LoseAnswer(n int) { e.swallow = n }

// PowerOn powers the element: recovery first, then the default selected
// application on channel 0. ErrPower means the recovery itself was cut.
func (e *Element) PowerOn(i Interface) error {
	e.PowerOff()
	if err := e.mem.recover(); err != nil {
		return ErrPower
	}
	e.powered, e.iface = true, i
	e.channels[0].open = true
	e.channels[0].session = Session{e: e, Interface: i}
	e.selectDefault(0)
	if err := e.settle(); err != nil {
		return ErrPower
	}
	return nil
}

// PowerOff takes the element out of the field. Everything volatile dies.
func (e *Element) PowerOff() {
	e.mem.Rollback()
	e.powered = false
	e.channels = [channels]channel{}
	e.domainKey = nil
}

// Reset is power off and on again without leaving the reader.
func (e *Element) Reset() error { return e.PowerOn(e.iface) }

// Transmit answers one command. The error is iso7816.ErrTorn: power failed
// before the answer left, and the element is off.
func (e *Element) Transmit(c iso7816.Command) (iso7816.Response, error) {
	if !e.powered {
		return iso7816.Response{}, iso7816.ErrTorn
	}
	r := e.dispatch(c)
	if err := e.settle(); err != nil {
		if errors.Is(err, errCut) {
			e.PowerOff()
			return iso7816.Response{}, iso7816.ErrTorn
		}
		r = iso7816.Response{SW: swOf(err)}
	}
	if e.swallow > 0 {
		if e.swallow--; e.swallow == 0 {
			e.PowerOff()
			return iso7816.Response{}, iso7816.ErrTorn
		}
	}
	return r, nil
}

// TransmitRaw answers a command as it came over the air; what is no command is
// answered 6700.
func (e *Element) TransmitRaw(raw []byte) ([]byte, error) {
	c, err := iso7816.ParseCommand(raw)
	if err != nil {
		if !e.powered {
			return nil, iso7816.ErrTorn
		}
		return iso7816.Response{SW: iso7816.SWLength}.Bytes(), nil
	}
	r, err := e.Transmit(c)
	if err != nil {
		return nil, err
	}
	return r.Bytes(), nil
}

// settle ends the unit of a command and wipes what it released.
func (e *Element) settle() error {
	if !e.mem.pending() {
		return nil
	}
	if err := e.mem.Commit(); err != nil {
		return err
	}
	return e.mem.sweep()
}

// swOf is the status word of a unit that could not be kept.
func swOf(err error) iso7816.SW {
	if errors.Is(err, ErrFull) {
		return iso7816.SWNoSpace
	}
	return iso7816.SWMemory
}
