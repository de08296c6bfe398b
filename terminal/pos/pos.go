// Package pos is a shop's till: it sells by tapped and inserted cards, with
// and without a host, keeps every approval in flash until the batch is
// settled, and tells the host of each card that paid for nothing. The rules of
// the cards are in terminal/kernel. Start with New and Till.Tap.
package pos

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/kernel"
)

// Failures of a till.
var (
	ErrNoSale   = errors.New("pos: no such sale in the batch")
	ErrReversed = errors.New("pos: this sale is taken back already")
	ErrOpen     = errors.New("pos: the batch is open: close it first")
)

// DefaultAgain is how long a sale that was torn waits for its card to come
// back. After it, or for another amount, the card's money goes back.
const DefaultAgain = 10 * time.Minute

// A Config is a till's. Zero durations, rate and costs take their defaults.
type Config struct {
	Kernel kernel.Config
	Clock  terminal.Clock
	Random io.Reader         // for unpredictable numbers and random selection
	Key    ed25519.PublicKey // of exception lists

	Sales, Denied, State *terminal.Flash // sales at least 4 sectors, the others 2

	Issuer    kernel.Issuer                            // nil: the till has no line
	PIN       func(tries int) (string, bool)           // checked by the card
	OnlinePIN func(pan string) (block []byte, ok bool) // checked by the host
	Choose    func([]kernel.Candidate) int

	Again  time.Duration
	Rate   terminal.Rate
	Costs  terminal.Costs
	Record bool // keep every dialogue
}

// A Till is one device. After an error wrapping terminal.ErrPower it is dead:
// give its flash power and make a new one over it.
type Till struct {
	cfg   Config
	k     *kernel.Kernel
	shelf *terminal.Shelf
	deny  *terminal.DenyList
	book  *book
	meter terminal.Meter
}

// New starts a till over what its flash holds. What a power failure left half
// done is finished: a host that may have approved what was never given is told.
func New(cfg Config) (*Till, error) {
	cfg.Again = cmp.Or(cfg.Again, DefaultAgain)
	k, err := kernel.New(cfg.Kernel)
	if err != nil {
		return nil, fmt.Errorf("pos: %w", err)
	}
	t := &Till{cfg: cfg, k: k, meter: terminal.NewMeter(cfg.Rate, cfg.Costs, costs(), cfg.Record)}
	if t.shelf, err = terminal.OpenShelf(cfg.Sales, pboc.MaxClearingLen, keyOf); err != nil {
		return nil, t.failed(err)
	}
	if t.deny, err = terminal.OpenDenyList(cfg.Denied, cfg.Key); err != nil {
		return nil, t.failed(err)
	}
	if t.book, err = openBook(cfg.State); err != nil {
		return nil, t.failed(err)
	}
	if err := t.finishOld(); err != nil {
		return nil, t.failed(err)
	}
	return t, nil
}

// keyOf names a clearing record on the shelf.
func keyOf(wire []byte) (string, error) {
	c, err := pboc.ParseClearing(wire)
	if err != nil {
		return "", err
	}
	return c.Key(), nil
}

// costs are what a card's work takes in the model: a contactless card signs
// in GET PROCESSING OPTIONS, a contact one in INTERNAL AUTHENTICATE.
func costs() terminal.Costs {
	c := terminal.DefaultCosts()
	c.Process = map[byte]terminal.Work{
		pboc.InsGPO:                     {Blocks: 16, Pages: 2, Signatures: 1},
		pboc.InsGenerateAC:              {Blocks: 16, Pages: 2},
		iso7816.InsInternalAuthenticate: {Signatures: 1},
		iso7816.InsPutData:              {Blocks: 4, Pages: 3},
	}
	return c
}

// QuickPass is UnionPay's application as a small shop accepts it: e-cash up to
// 1000 yuan by tap, a signature from 300 on, the host from 500 on. A card on
// the exception list is declined, one that fails authentication is declined
// without a host.
func QuickPass() kernel.Application {
	return kernel.Application{
		AID: []byte(pboc.RID), Scheme: kernel.QuickPass, Version: [2]byte{0x00, 0x30},
		TapLimit: 1000_00, FloorLimit: 500_00, CVMLimit: 300_00, ContactFloor: 500_00,
		TACDefault: [5]byte{0xD8, 0x40, 0x00, 0xA8, 0x00}, TACDenial: [5]byte{0x10, 0x10, 0x00, 0x00, 0x00},
		TACOnline: [5]byte{0xC8, 0x40, 0x04, 0xF8, 0x00}, DDOL: []byte{0x9F, 0x37, 0x04}, ECash: true,
	}
}

// A Shop is whom a till stands for.
type Shop struct {
	TID, MID string // 8 and 15 characters, the acquirer's
	Name     string // at most 20 bytes, as cards log it
	Category uint16 // merchant category code
	Serial   string // 8 characters, the device's
}

// Beijing is the kernel configuration of an attended till there: yuan, offline
// with a line, PIN pad, signature, all three ways of authentication by contact,
// and both versions of fDDA by tap. Keys are the CA keys it knows, the
// schemes' (emv.CAKeys) and the house's own.
func Beijing(s Shop, keys []emv.CAKey) kernel.Config {
	return kernel.Config{
		Applications: []kernel.Application{QuickPass()}, Keys: keys,
		Country: 156, Currency: 156, Exponent: 2, Type: 0x22,
		Capabilities: [3]byte{0xE0, 0xE8, 0xC8}, MoreCapabilities: [5]byte{0x60, 0x00, 0xF0, 0xA0, 0x01},
		TTQ: [4]byte{0x36, 0x00, 0x40, 0x80}, TerminalID: s.TID, MerchantID: s.MID, MerchantName: s.Name, Category: s.Category, Serial: s.Serial,
	}
}

// commitPages is what a card writes when an offline approval commits: journal
// and data of balance, counters, log and the copy of the last record.
const commitPages = 6

// Deny is the till's exception list. PANs stand in it as 20 digits, zeros in
// front.
func (t *Till) Deny() *terminal.DenyList { return t.deny }

// Dialogue is the last transaction's, if the Config asked to keep it.
func (t *Till) Dialogue() []terminal.Exchange { return t.meter.Dialogue }

// listed looks a card up in the exception list.
func (t *Till) listed(pan string, _ byte) bool {
	n, err := purse.ParseNumber(pan)
	return err == nil && t.deny.Reason(n) != purse.Allowed
}
