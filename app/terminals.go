package app

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/big"

	"koala/acquiring"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/merchant"
	"koala/spec/dukpt"
	"koala/switching/pack"
	"koala/switching/rollout"
	"koala/web/device"
)

// ErrRegistered is a serial number that another registration has: a second one
// must not take the transport key of the first away.
var ErrRegistered = fail.Define(fail.Conflict, "app.registered", "this device is registered already; open its terminal for another installation, with koala terminal transport or on its page")

// NewTerminal registers a device in a merchant's shop and draws the transport
// key for its installation, which the installer brings to it. A device that is
// registered is ErrRegistered, and keeps what it has.
func (h *House) NewTerminal(ctx context.Context, t merchant.Terminal) (merchant.Terminal, hsm.TransportForm, error) {
	err := h.Store.Write(ctx, func(tx *db.Tx) (err error) {
		if there, err := merchant.BySerial(tx, t.Serial); !errors.Is(err, merchant.ErrNotFound) {
			return cmp.Or(err, fmt.Errorf("serial number %s is terminal %s: %w", t.Serial, there.TID, ErrRegistered))
		}
		t, err = merchant.AddTerminal(tx, t)
		return err
	})
	if err != nil {
		return t, hsm.TransportForm{}, err
	}
	form, err := h.OpenTerminal(ctx, t.TID, "", "")
	return t, form, err
}

// OpenTerminal draws the transport key for a terminal's installation. One that
// has been installed is opened for another one: by whom, and why. What it had
// before goes on working until it is installed.
func (h *House) OpenTerminal(ctx context.Context, tid, by, why string) (hsm.TransportForm, error) {
	t, err := h.Switch.DrawTransport(ctx, tid)
	if err != nil {
		return hsm.TransportForm{}, err
	}
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		if err := merchant.Live(tx, tid, merchant.Registered, by, why); err != nil {
			return err
		}
		h.Switch.Forget(tx, tid)
		return t.Keep(tx)
	})
	return t.Form, err
}

// MoveTerminal suspends a terminal, lets it work again or retires it. The rings of
// parameter packs forget a retired one in the same unit, so that none waits for it.
func (h *House) MoveTerminal(ctx context.Context, tid string, to merchant.Life, by, why string) error {
	return h.Store.Write(ctx, func(tx *db.Tx) error {
		h.Switch.Forget(tx, tid)
		if to == merchant.Retired {
			if err := rollout.Forget(tx, tid); err != nil {
				return err
			}
		}
		return merchant.Live(tx, tid, to, by, why)
	})
}

// counters are the merchants' terminals at the devices' door.
type counters struct{ house *House }

// Install hands a merchant's terminal its keys, once. A device that hands its
// records over to acquiring is installed there.
func (c counters) Install(ctx context.Context, tid string, proof []byte) (f device.Fitting, ok bool, err error) {
	h := c.house
	var s merchant.Standing
	err = h.Store.Read(ctx, func(q *db.Query) (err error) {
		if _, err := acquiring.DeviceOf(q, tid); !errors.Is(err, acquiring.ErrNotFound) {
			return cmp.Or(err, error(merchant.ErrNotFound))
		}
		s, err = merchant.StandingOf(q, tid)
		return err
	})
	if errors.Is(err, merchant.ErrNotFound) {
		return f, false, nil
	}
	if err == nil && proof != nil {
		err = h.Switch.CheckProof(ctx, tid, proof)
	}
	if err == nil {
		f, err = h.fitting(ctx, s)
	}
	if err != nil {
		return f, true, fmt.Errorf("installing terminal %s: %w", tid, err)
	}
	return f, true, nil
}

// Signers are the keys that sign parameter packs.
func (c counters) Signers(ctx context.Context) ([]ed25519.PublicKey, error) {
	return c.house.Keys.PublicKeys(ctx, pack.Label)
}

// fitting draws what a terminal is installed with. The public parts come first:
// once its transport key is used there is no second try.
func (h *House) fitting(ctx context.Context, s merchant.Standing) (f device.Fitting, err error) {
	t := s.Terminal
	f = device.Fitting{Kind: string(t.Kind), MID: s.Shop.MID, MCC: s.Shop.MCC, NameEN: s.Shop.NameEN, NameZH: s.Shop.NameZH, PlaceEN: t.PlaceEN, PlaceZH: t.PlaceZH}
	if f.Packs, err = h.Keys.PublicKey(ctx, hsm.LabelPack); err != nil {
		return f, err
	}
	if f.CA, err = h.Bank.CAKeys(ctx); err != nil {
		return f, err
	}
	var serial *dukpt.KSN
	if t.Kind == merchant.Reader {
		k := SerialOf(t.TID)
		serial, f.Serial = &k, k.String()
	}
	in, err := h.Switch.InstallOnce(ctx, t.TID, serial, func(tx *db.Tx) error { return merchant.Live(tx, t.TID, merchant.Injected, "", "") })
	f.Use, f.Version, f.KCV, f.Block = string(in.Use), in.Version, in.KCV, in.Block
	return f, err
}

// readerSet is how the serial numbers of this house's readers begin: 16 bits of
// their 59.
const readerSet = 0xFFFF

// SerialOf is the key serial number of a reader, its counter 0: FFFF, then its
// terminal number as a number of base 36 in 43 bits.
func SerialOf(tid string) (k dukpt.KSN) {
	n, ok := new(big.Int).SetString(tid, 36)
	if !ok {
		return k // merchant takes digits and capital letters only
	}
	n.Add(n, new(big.Int).Lsh(big.NewInt(readerSet), 43))
	n.Lsh(n, 21).FillBytes(k[:])
	return k
}
