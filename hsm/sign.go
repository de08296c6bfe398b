package hsm

import (
	"context"
	"crypto/ed25519"
	"fmt"
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
