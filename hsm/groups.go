package hsm

import (
	"context"
	"fmt"

	"koala/spec/globalplatform"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

// A Form says what a key group of a STORE DATA looks like and how its keys are
// made.
type Form byte

// The forms.
const (
	PurseKey Form = iota // purse.KeyRecord: one key with its check value
)

// A KeyRef names key material of a card: the data grouping it goes into, and
// what it is made from. Nothing in it is secret.
type KeyRef struct {
	DGI   uint16
	Form  Form
	Label string        // of the root
	Card  string        // what the root is dispersed by (a purse's number); empty for a SAM, which gets the root
	Kind  purse.KeyKind // of a PurseKey
	Index byte          // of a PurseKey; 0: 1
}

// Size is how long the data grouping is at most, with its header.
func (r KeyRef) Size() int { return 3 + purse.KeyRecordLen }

// group makes the data grouping for the element behind host.
func (h *HSM) group(_ context.Context, host *globalplatform.Host, r KeyRef) (g globalplatform.DGI, err error) {
	g.ID = r.DGI
	switch r.Form {
	case PurseKey:
		rec, err := h.record(host, r)
		g.Data = rec.Bytes()
		return g, err
	}
	return g, fmt.Errorf("key group %04X: form %d: %w", r.DGI, r.Form, ErrUsage)
}

// record is one purse key enciphered under the element's DEK, with the check
// value of the clear key. Its version on the card is that of the root.
func (h *HSM) record(host *globalplatform.Host, r KeyRef) (rec purse.KeyRecord, err error) {
	k, err := h.key(r.Label, PurseRoot, 0)
	if err != nil {
		return rec, err
	}
	clear16 := [16]byte(k.clear)
	if r.Card != "" {
		n, err := purse.ParseNumber(r.Card)
		if err != nil {
			return rec, fmt.Errorf("key group %04X: %w", r.DGI, ErrUsage)
		}
		clear16 = k.root.Disperse(n.Factor())
	}
	defer clear(clear16[:])
	sealed, err := host.EncryptKey(clear16[:])
	if err != nil {
		return rec, err
	}
	if len(sealed) != len(rec.Key) {
		return rec, fmt.Errorf("enciphered key of %d bytes: %w", len(sealed), globalplatform.ErrKey)
	}
	return purse.KeyRecord{Kind: r.Kind, Index: max(r.Index, 1), Version: k.info.Version, Alg: purse.Alg3DES,
		Key: [16]byte(sealed), KCV: iso9797.KCVDES(clear16[:])}, nil
}
