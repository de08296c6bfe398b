package hsm

import (
	"context"
	"errors"
	"fmt"

	"koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// The limits of a script.
const (
	maxScript      = 1_000 // commands
	firstOwnSet    = 0x30  // key version number of version 1 of the channel roots on an element
	lastOwnSet     = 0x3F  // (GPCS: 30..3F are sets of SCP03)
	channelVersion = firstOwnSet - 1
)

// A Script is all that is left to say to one element in one secure channel.
// The same script gives the same commands every time: nothing is kept between
// calls.
type Script struct {
	KDD           []byte             // the element's key data as it is known, 10 bytes; nil: as it says itself
	Domain        globalplatform.AID // a firm's security domain; empty: the issuer's
	HostChallenge [8]byte
	InitAnswer    []byte // to INITIALIZE UPDATE
	Level         globalplatform.Level
	Commands      []Plain
}

// A Plain is a command before it is wrapped.
type Plain struct {
	Command iso7816.Command
	// Keys are added to the data of a STORE DATA as data groupings.
	Keys []KeyRef
	// PutKeys replaces Command by the PUT KEY that brings in the element's own
	// channel keys of the newest version.
	PutKeys bool
	// Bring replaces it by the PUT KEY of other keys.
	Bring Bring
}

// WrapScript verifies the element's cryptogram and returns EXTERNAL
// AUTHENTICATE followed by the commands, wrapped. An element fresh from the
// factory (key version FF) has public keys; every other one has those that
// PutKeys gave it.
func (h *HSM) WrapScript(ctx context.Context, s Script) ([]iso7816.Command, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(s.Commands) > maxScript {
		return nil, fmt.Errorf("%d commands: %w", len(s.Commands), ErrScript)
	}
	a, err := globalplatform.ParseInitAnswer(s.InitAnswer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if s.KDD != nil && string(s.KDD) != string(a.KDD[:]) {
		return nil, fmt.Errorf("key data %X instead of %X: %w", a.KDD, s.KDD, ErrCryptogram)
	}
	set, err := h.keysOf(s.Domain, a)
	if err != nil {
		return nil, err
	}
	host, auth, err := globalplatform.NewHost(set, s.HostChallenge, a, s.Level)
	switch {
	case errors.Is(err, globalplatform.ErrCryptogram):
		return nil, fmt.Errorf("%w: %w", ErrCryptogram, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrScript, err)
	}
	out := append(make([]iso7816.Command, 0, 1+len(s.Commands)), auth)
	for i, p := range s.Commands {
		c, err := h.fill(ctx, host, a, p)
		if err == nil {
			c, err = host.Wrap(c)
		}
		if err != nil {
			return nil, fmt.Errorf("command %d: %w: %w", i+1, ErrScript, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// elementKeys are the keys the element opens the channel with.
func (h *HSM) elementKeys(a globalplatform.InitAnswer) (globalplatform.KeySet, error) {
	if a.Version == globalplatform.FactoryVersion {
		return globalplatform.FactoryKeys(), nil
	}
	if a.Version < firstOwnSet || a.Version > lastOwnSet {
		return globalplatform.KeySet{}, fmt.Errorf("key set %02X of the element: %w", a.Version, ErrNoKey)
	}
	return h.ownKeys(a.KDD, a.Version-channelVersion)
}

// ownKeys are an element's own keys under a version of the roots; 0 is the
// newest that all three have.
func (h *HSM) ownKeys(kdd [10]byte, version byte) (set globalplatform.KeySet, err error) {
	var roots [3]*key
	for i, label := range [3]string{LabelENC, LabelMAC, LabelDEK} {
		if roots[i], err = h.key(label, ChannelRoot, version); err != nil {
			return set, err
		}
		if i > 0 && roots[i].info.Version != roots[0].info.Version {
			return set, fmt.Errorf("%s has version %d and %s %d, rotate them together: %w", LabelENC,
				roots[0].info.Version, label, roots[i].info.Version, ErrUsage)
		}
	}
	v := roots[0].info.Version
	if v > lastOwnSet-channelVersion {
		return set, fmt.Errorf("version %d of the channel roots has no number on elements: %w", v, ErrUsage)
	}
	master := globalplatform.KeySet{Version: channelVersion + v, ENC: roots[0].clear, MAC: roots[1].clear, DEK: roots[2].clear}
	return globalplatform.DiversifyKDF(master, kdd), nil
}

// fill puts the keys into a command.
func (h *HSM) fill(ctx context.Context, host *globalplatform.Host, a globalplatform.InitAnswer, p Plain) (iso7816.Command, error) {
	if p.PutKeys {
		set, err := h.ownKeys(a.KDD, 0)
		if err != nil {
			return iso7816.Command{}, err
		}
		replaces := a.Version
		if replaces == globalplatform.FactoryVersion {
			replaces = 0 // the first set of its own replaces the factory's anyway
		}
		return host.PutKey(replaces, set, globalplatform.BareKeys)
	}
	if p.Bring.Key != 0 {
		return h.bring(host, a, p.Bring)
	}
	c := p.Command
	if len(p.Keys) == 0 {
		return c, nil
	}
	data := append([]byte(nil), c.Data...)
	for _, r := range p.Keys {
		g, err := h.group(ctx, host, a.KDD, r)
		if err != nil {
			return c, err
		}
		data = g.Append(data)
	}
	if len(data) > host.MaxData() {
		return c, fmt.Errorf("%d bytes with %d keys: %w", len(data), len(p.Keys), globalplatform.ErrTooLong)
	}
	c.Data = data
	return c, nil
}
