package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"koala/acquiring"
	"koala/firmware"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/settlement"
	"koala/slip"
	"koala/spec/desfire"
	"koala/spec/purse"
	"koala/switching/pack"
	"koala/tsm"
	"koala/web/device"
)

// deviceKey signs the tokens of devices: a token is the signature over what
// kind of device it is and which, so nothing has to be kept to check one.
const deviceKey = "device.sign"

// provision makes the keys that a new house lacks.
func (h *House) provision(ctx context.Context) error {
	if err := errors.Join(h.Keys.Provision(ctx), h.Keys.ProvisionBank(ctx)); err != nil {
		return err
	}
	for _, label := range []string{deviceKey, firmware.Label, settlement.BillLabel, slip.Label, pack.Label} {
		if _, err := h.Keys.PublicKey(ctx, label); err == nil {
			continue
		}
		if _, err := h.Keys.Generate(ctx, label, hsm.Signing); err != nil {
			return err
		}
	}
	return nil
}

// DeviceToken is the bearer token of a device, given to it when it is
// installed.
func (h *House) DeviceToken(ctx context.Context, kind, id string) (string, error) {
	sig, err := h.Keys.Sign(ctx, deviceKey, tokenText(kind, id))
	if err != nil {
		return "", fmt.Errorf("token of %s %s: %w", kind, id, err)
	}
	return hex.EncodeToString(sig), nil
}

func tokenText(kind, id string) []byte { return fmt.Appendf(nil, "koala device 1|%s|%s", kind, id) }

// CheckDevice refuses a token that is not this device's.
func (h *House) CheckDevice(ctx context.Context, kind, id, token string) error {
	sig, err := hex.DecodeString(token)
	if err == nil {
		err = h.Keys.Verify(ctx, deviceKey, tokenText(kind, id), sig)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, id, device.ErrToken)
	}
	return nil
}

// terminals is the back office of transit as gates and buses reach it. A
// terminal's id is its number in hexadecimal.
type terminals struct{ house *House }

var errTerminal = errors.New("a terminal's number has 12 hexadecimal digits")

func terminalOf(id string) (t purse.Terminal, err error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(t) {
		return t, fmt.Errorf("terminal %q: %w: %w", id, device.ErrPath, errTerminal)
	}
	return purse.Terminal(raw), nil
}

// Collect books a terminal's batch.
func (t terminals) Collect(ctx context.Context, id string, b purse.Batch) (uint32, error) {
	term, err := terminalOf(id)
	if err != nil {
		return 0, err
	}
	if b.Terminal != term {
		return 0, fmt.Errorf("terminal %s sent a batch of %s: %w", id, b.Terminal, device.ErrBody)
	}
	return t.house.Transit.Collect(ctx, b)
}

// TariffPack is the signed fare table of the terminal's station.
func (t terminals) TariffPack(ctx context.Context, id string, have uint32) ([]byte, error) {
	term, err := terminalOf(id)
	if err != nil {
		return nil, err
	}
	d, err := t.house.Transit.HasPack(ctx, term, have)
	if err != nil || d.Station == 0 {
		return nil, err
	}
	return t.house.Transit.Pack(ctx, d.Station, have)
}

// DenyPack is the signed deny list delta that follows version have.
func (t terminals) DenyPack(ctx context.Context, id string, have uint32) ([]byte, error) {
	term, err := terminalOf(id)
	if err != nil {
		return nil, err
	}
	if _, err := t.house.Transit.HasDeny(ctx, term, have); err != nil {
		return nil, err
	}
	return t.house.Transit.DenyPack(ctx, have)
}

// elements tells the shops' side which cards live in which chip: what the tsm
// wrote where.
var elements = acquiring.Elements{
	Cards: func(q db.Reader, uid desfire.UID) ([]issuing.CardID, error) { return tsm.CardsIn(q, uid[:]) },
	UID: func(q db.Reader, card issuing.CardID) (uid desfire.UID, ok bool, err error) {
		raw, err := tsm.ElementOf(q, card)
		n := copy(uid[:], raw)
		return uid, n == len(uid), err
	},
}

func newDeviceDoor(h *House) http.Handler {
	return device.New(device.Deps{Store: h.Store, TSM: h.TSM, Terminals: terminals{h}, Office: h.Acquiring, Merchants: counters{h}, Devices: h, Log: h.Config.Log})
}
