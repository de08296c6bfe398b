// Package catalog is what can be installed on an element of this house: native
// modules by load file and module AID, the security domain first. An element
// takes its catalog at birth and at every restore; the registry on it names what
// of it may be instantiated. Start at New.
package catalog

import (
	"fmt"
	"io"

	"koala/card"
	"koala/card/coupon"
	"koala/card/desfire"
	"koala/card/directory"
	"koala/card/isd"
	"koala/card/psam"
	"koala/card/purse"
	"koala/card/qpboc"
	gp "koala/spec/globalplatform"
)

// The load files and modules. The transit purse stands under T-Union's own
// prefix; the PSAM, which never leaves its gate, under an unregistered one
// (ISO 7816-5, 8.3: F and "koala").
const (
	PurseLoadFile card.AID = "\xA0\x00\x00\x06\x32\x01\x01"
	PurseModule   card.AID = "\xA0\x00\x00\x06\x32\x01\x01\x05"
	PSAMLoadFile  card.AID = "\xF0koala\x02"
	PSAMModule    card.AID = "\xF0koala\x02\x01"

	DESFireLoadFile card.AID = "\xF0koala\x03"
	DESFireModule   card.AID = "\xF0koala\x03\x01"
	DESFireInstance card.AID = "\xD2\x76\x00\x00\x85\x01\x00" // the ISO name of a DESFire card

	CouponLoadFile card.AID = "\xF0koala\x04"
	CouponModule   card.AID = "\xF0koala\x04\x01"
	CouponInstance card.AID = "\xF0koala\x04\x10" // the discount card, one for all coupons

	// Payment cards: one module, one instance a card, pboc.AIDDebit and its sisters.
	PaymentLoadFile card.AID = "\xA0\x00\x00\x03\x33\x01"
	PaymentModule   card.AID = "\xA0\x00\x00\x03\x33\x01\x01"

	DirectoryLoadFile card.AID = "\xF0koala\x05"
	PPSEModule        card.AID = "\xF0koala\x05\x01"
	PSEModule         card.AID = "\xF0koala\x05\x02"
	RegistryLoadFile  card.AID = "\xA0\x00\x00\x01\x51\x43\x52\x53"
	Registry          card.AID = card.AID(gp.ContactlessAID) // module and instance

	DomainLoadFile = card.AID(gp.DomainLoadFile)
	DomainModule   = card.AID(gp.DomainModule)
	IssuerDomain   = card.AID(gp.IssuerDomain)
)

var version = [2]byte{1, 0}

// A Catalog knows modules. It is built once, before its first element, and only
// read afterwards: many elements and goroutines may share it.
type Catalog struct {
	files   []isd.LoadFile
	modules map[name]card.Module
}

type name struct{ file, module card.AID }

// New makes the catalog of the house. The config is of the issuer's domain; its
// zero value has the public factory keys for SCP03.
func New(cfg isd.Config) *Catalog {
	c := &Catalog{modules: make(map[name]card.Module)}
	c.Add(DomainLoadFile, DomainModule, isd.Module(cfg, c.LoadFiles))
	c.Add(PurseLoadFile, PurseModule, purse.Module())
	c.Add(PSAMLoadFile, PSAMModule, psam.Module())
	c.Add(DESFireLoadFile, DESFireModule, desfire.Module())
	c.Add(CouponLoadFile, CouponModule, coupon.Module())
	c.Add(PaymentLoadFile, PaymentModule, qpboc.Module())
	c.Add(DirectoryLoadFile, PPSEModule, directory.PPSE())
	c.Add(DirectoryLoadFile, PSEModule, directory.PSE())
	c.Add(RegistryLoadFile, Registry, directory.CRS())
	return c
}

// Add brings a module in, and its load file with it. Adding the same pair twice
// is a defect and panics.
func (c *Catalog) Add(file, module card.AID, m card.Module) {
	key := name{file, module}
	if _, twice := c.modules[key]; twice {
		panic(fmt.Sprintf("catalog: module %v of %v twice", module, file))
	}
	c.modules[key] = m
	for i := range c.files {
		if c.files[i].AID == file {
			c.files[i].Modules = append(c.files[i].Modules, module)
			return
		}
	}
	c.files = append(c.files, isd.LoadFile{AID: file, Version: version, Modules: []card.AID{module}})
}

// Module finds a module for the element.
func (c *Catalog) Module(file, module card.AID) (card.Module, bool) {
	m, ok := c.modules[name{file, module}]
	return m, ok
}

// LoadFiles lists the load files in the order they were added.
func (c *Catalog) LoadFiles() []isd.LoadFile { return c.files }

// Config is that of a new element with this catalog.
func (c *Catalog) Config(uid [7]byte, rand io.Reader) card.Config {
	return card.Config{UID: uid, Rand: rand, Catalog: c,
		Domain: IssuerDomain, DomainLoadFile: DomainLoadFile, DomainModule: DomainModule}
}

// NewElement makes an element fresh from the factory.
func (c *Catalog) NewElement(uid [7]byte, rand io.Reader) (*card.Element, error) {
	e, err := card.New(c.Config(uid, rand))
	if err != nil {
		return nil, fmt.Errorf("new element %X: %w", uid, err)
	}
	return e, nil
}

// Restore makes the element of an image that Image has written.
func (c *Catalog) Restore(image []byte, rand io.Reader) (*card.Element, error) {
	e, err := card.Restore(image, c, rand)
	if err != nil {
		return nil, fmt.Errorf("restoring an element: %w", err)
	}
	return e, nil
}
