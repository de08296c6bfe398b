package hsm

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"koala/spec/coupon"
	"koala/spec/desfire"
)

// Sign signs data, as gates want their deny lists and tariff packs, with the
// newest version of a key.
func (h *HSM) Sign(ctx context.Context, label string, data []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err := h.key(label, Signing, 0)
	if err != nil {
		return nil, err
	}
	return ed25519.Sign(k.sign, data), nil
}

// Verify checks a signature under any version of the key.
func (h *HSM) Verify(ctx context.Context, label string, data, signature []byte) error {
	newest, err := h.key(label, Signing, 0)
	if err != nil {
		return err
	}
	for v := newest.info.Version; v >= 1; v-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := h.key(label, Signing, v)
		if err != nil {
			return err
		}
		if ed25519.Verify(k.sign.Public().(ed25519.PublicKey), data, signature) {
			return nil
		}
	}
	return fmt.Errorf("under %s: %w", label, ErrSignature)
}

// PublicKey is what devices verify the newest version's signatures with.
func (h *HSM) PublicKey(ctx context.Context, label string) (ed25519.PublicKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err := h.key(label, Signing, 0)
	if err != nil {
		return nil, err
	}
	return k.sign.Public().(ed25519.PublicKey), nil
}

// sealedForm is the version of the form of sealed data: form | key version |
// nonce 12 | AES-256-GCM.
const sealedForm = 1

// Seal encrypts data for keeping it at rest.
func (h *HSM) Seal(ctx context.Context, clear []byte) ([]byte, error) {
	k, err := h.key(labelSeal, Sealing, 0)
	if err != nil {
		return nil, err
	}
	var nonce [nonceLen]byte
	if err := h.Random(ctx, nonce[:]); err != nil {
		return nil, err
	}
	head := []byte{sealedForm, k.info.Version}
	return append(head, k.seal.seal(nonce[:], clear, head)...), nil
}

// Unseal opens what Seal made.
func (h *HSM) Unseal(ctx context.Context, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(sealed) < 2+nonceLen || sealed[0] != sealedForm || sealed[1] == 0 {
		return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrSealed)
	}
	k, err := h.key(labelSeal, Sealing, sealed[1])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return k.seal.open(sealed[2:], sealed[:2])
}

// A TerminalKey names a key that a door, a till or a shop's terminal works
// with.
type TerminalKey struct {
	Use      TerminalUse
	Till     desfire.Till // of a TillSales key
	Merchant coupon.ID    // of a CouponMerchant key
}

// A TerminalUse is what the key is for.
type TerminalUse string

// The uses.
const (
	DoorReader     TerminalUse = "door.reader"     // master of key 1 of door cards
	DoorHost       TerminalUse = "door.host"       // MAC of credentials
	TillCards      TerminalUse = "till.cards"      // master of key 1 of canteen cards
	TillSales      TerminalUse = "till.sales"      // one till's own key for its sales
	CouponMerchant TerminalUse = "coupon.merchant" // root of one merchant's keys on discount cards
)

// place binds an injected key to what it is for.
func (k TerminalKey) place() []byte {
	return fmt.Appendf(nil, "terminal key %s %X %X", k.Use, k.Till[:], k.Merchant[:])
}

// Inject enciphers a terminal's key under the transport key that its maker put
// into it: version 1 | nonce 12 | AES-256-GCM of the key. It is for a secure
// memory to open (OpenInjected); no other form of the key leaves.
func (h *HSM) Inject(ctx context.Context, k TerminalKey, transport [32]byte) ([]byte, error) {
	label := map[TerminalUse]string{DoorReader: LabelDoor + ".1", DoorHost: LabelDoorHost, TillCards: LabelCanteen + ".1",
		TillSales: LabelTill, CouponMerchant: LabelCoupon}[k.Use]
	if label == "" {
		return nil, fmt.Errorf("terminal key %q: %w", k.Use, ErrUsage)
	}
	root, err := h.key(label, AESRoot, 0)
	if err != nil {
		return nil, err
	}
	value := [16]byte(root.clear)
	switch k.Use {
	case TillSales:
		value = k.Till.Key(value)
	case CouponMerchant:
		if value, _, err = h.couponRoot(LabelCoupon, 0, coupon.MerchantKey, k.Merchant); err != nil {
			return nil, err
		}
	}
	defer clear(value[:])
	var nonce [nonceLen]byte
	if err := h.Random(ctx, nonce[:]); err != nil {
		return nil, err
	}
	return append([]byte{root.info.Version}, newSealer(transport[:]).seal(nonce[:], value[:], k.place())...), nil
}

// OpenInjected is the terminal's side of Inject.
func OpenInjected(k TerminalKey, transport [32]byte, wrapped []byte) (key [16]byte, version byte, err error) {
	if len(wrapped) < 1 {
		return key, 0, ErrSealed
	}
	b, err := newSealer(transport[:]).open(wrapped[1:], k.place())
	if err != nil || len(b) != len(key) {
		return key, 0, ErrSealed
	}
	return [16]byte(b), wrapped[0], nil
}
