package band

import (
	"strings"

	"koala/spec/iso7816"
)

// The contactless front end routes a SELECT to the element by the name in it,
// as the routing tables of NFC controllers do (NCI 2.0, 6.3: one power state
// per name). While the band is locked some names are not routed.

// A use is what a name is for.
type use byte

const (
	useOther use = iota // management, unknown names: the element answers for itself
	useRide
	useEnter
	usePay
	useOffer
)

// routes lists the beginnings of names. The first that fits counts.
var routes = []struct {
	name string
	use  use
}{
	{"\xA0\x00\x00\x06\x32\x01\x01", useRide},     // T-Union
	{"\xA0\x00\x00\x00\x03\x86\x98\x07", useRide}, // City-Union
	{"2PAY.SYS.DDF01", usePay},                    // PPSE
	{"1PAY.SYS.DDF01", usePay},                    // PSE
	{"\xA0\x00\x00\x03\x33", usePay},              // UnionPay
	{"\xD2\x76\x00\x00\x85\x01\x00", useEnter},    // DESFire
	{"\xF0koala\x04", useOffer},                   // coupons of this house
}

func useOf(name []byte) use {
	for _, r := range routes {
		n := min(len(name), len(r.name))
		// A partial name that may end up at a routed card is that card's.
		if n >= 5 && strings.HasPrefix(r.name, string(name[:n])) || strings.HasPrefix(string(name), r.name) {
			return r.use
		}
	}
	return useOther
}

func (p Policy) allows(u use) bool {
	switch u {
	case useRide:
		return p.Ride
	case useEnter:
		return p.Enter
	case usePay:
		return p.Pay
	case useOffer:
		return p.Offer
	}
	return true
}

// routed is the reader's contact through the front end. A band that is not
// locked is the element itself.
func (b *Band) routed() iso7816.Transmit {
	if !b.Locked() {
		return b.Element.Transmit
	}
	policy := b.Policy
	return func(c iso7816.Command) (iso7816.Response, error) {
		if c.INS == iso7816.InsSelect && c.P1 == 0x04 && !policy.allows(useOf(c.Data)) {
			if !b.Element.Powered() {
				return iso7816.Response{}, iso7816.ErrTorn
			}
			return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
		}
		return b.Element.Transmit(c)
	}
}
