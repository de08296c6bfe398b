// Package macs explains the MACs of messages between terminals and the switch to
// the people who look for why one is refused.
package macs

import (
	"context"
	"errors"

	"koala/hsm"
	"koala/spec/iso8583"
)

// A Report is how a message's MAC comes about, as far as the house tells: the
// values made with the key only of a MAC that is right, for whoever could ask
// what the right one would be could make messages.
type Report struct {
	TID string // field 41
	iso8583.MACExplanation
	Fit   Fit
	Other iso8583.MACRule // of Other
}

// A Fit says under which keys a MAC is right.
type Fit string

// The fits.
const (
	None   Fit = "none"    // under no key that the house has of the terminal today
	InUse  Fit = "in use"  // under the working keys in use
	Fresh  Fit = "fresh"   // under those of the last sign-on, which were not used yet
	Other  Fit = "other"   // under a key of the terminal's, but by another algorithm or written another way
	NoKeys Fit = "no keys" // the terminal has none
)

// Explain explains the MAC of m. inUse and fresh are MAC keys as they are kept;
// empty: there is none. It is iso8583.ErrNoMAC when the message carries none.
func Explain(ctx context.Context, keys *hsm.HSM, m *iso8583.Message, inUse, fresh []byte) (Report, error) {
	rule := m.Spec().MAC
	x := Report{TID: m.Text(41), Fit: NoKeys}
	var err error
	if x.MACExplanation, err = iso8583.ExplainMAC(m, nil, rule); err != nil {
		return x, err
	}
	binary, x919, cbc := rule, rule, rule
	binary.Hex, x919.Algorithm, cbc.Algorithm = !rule.Hex, iso8583.X919, iso8583.CBC
	for _, k := range []struct {
		sealed []byte
		fit    Fit
	}{{inUse, InUse}, {fresh, Fresh}} {
		if len(k.sealed) == 0 {
			continue
		}
		for _, by := range []iso8583.MACRule{rule, binary, x919, cbc} {
			keyed, err := keys.ExplainMAC(ctx, hsm.Under{TID: x.TID, Sealed: k.sealed}, m, by)
			switch {
			case errors.Is(err, hsm.ErrMAC):
				x.Fit = None
				continue
			case err != nil:
				return x, err
			}
			if x.MACExplanation, x.Fit = keyed, k.fit; by != rule {
				x.Fit, x.Other = Other, by
			}
			return x, nil
		}
	}
	return x, nil
}
