package hsm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/poskey"
)

// A PINBlock is a PIN on its way, enciphered under a zone's key (ISO 9564-1,
// one block of 3DES). Format 0 is bound to the PAN, format 2 is not.
type PINBlock struct {
	Zone   string // label of the zone's key; "": LabelZone
	Format byte   // 0 or 2
	Block  [8]byte
}

// open gives the PIN's digits.
func (h *HSM) open(pan string, b PINBlock) (string, error) {
	zone := b.Zone
	if zone == "" {
		zone = LabelZone
	}
	k, err := h.key(zone, ZoneKey, 0)
	if err != nil {
		return "", err
	}
	clear8, err := pboc.NewKey(pboc.TripleDES, [16]byte(k.clear)).Decrypt(b.Block[:])
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPINBlock, err)
	}
	switch b.Format {
	case 0:
		pin, err := poskey.ParsePIN(poskey.WithPAN, [8]byte(clear8), pan)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrPINBlock, err)
		}
		return pin, nil
	case 2:
	default:
		return "", fmt.Errorf("format %d: %w", b.Format, ErrPINBlock)
	}
	pin, err := emv.ParsePINBlock([8]byte(clear8))
	if err != nil {
		return "", ErrPINBlock
	}
	return pin, nil
}

// EncipherPIN makes the block of format 0 that a device of the house's own zone
// sends: for virtual devices, and for the tests of those that are not.
func (h *HSM) EncipherPIN(ctx context.Context, pan, pin string) (b PINBlock, err error) {
	if err := ctx.Err(); err != nil {
		return b, err
	}
	return h.encipher(pan, pin, "")
}

// referenceForm begins a PIN's reference: form 1 | key version 1 | HMAC 16.
const referenceForm = 1

// PINReference is what is kept to compare a card's PIN with: a keyed hash over
// PAN and PIN, worthless without the key. The PIN itself is not kept.
func (h *HSM) PINReference(ctx context.Context, pan string, b PINBlock) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pin, err := h.open(pan, b)
	if err != nil {
		return nil, err
	}
	return h.reference(pan, pin, 0)
}

func (h *HSM) reference(pan, pin string, version byte) ([]byte, error) {
	k, err := h.key(LabelPIN, HashKey, version)
	if err != nil {
		return nil, err
	}
	sum := hash(k, "pin", pan, pin)
	return append([]byte{referenceForm, k.info.Version}, sum[:16]...), nil
}

// CheckPIN compares a PIN with a reference: ErrPIN when it is another.
func (h *HSM) CheckPIN(ctx context.Context, pan string, b PINBlock, reference []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(reference) != 18 || reference[0] != referenceForm || reference[1] == 0 {
		return fmt.Errorf("reference of %d bytes: %w", len(reference), ErrSealed)
	}
	pin, err := h.open(pan, b)
	if err != nil {
		return err
	}
	want, err := h.reference(pan, pin, reference[1])
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, reference) != 1 {
		return ErrPIN
	}
	return nil
}

// SealPIN turns a PIN into the sealed form that a PINGroup is personalised
// from. It is to be kept no longer than until the card is written.
func (h *HSM) SealPIN(ctx context.Context, pan string, b PINBlock) ([]byte, error) {
	pin, err := h.open(pan, b)
	if err != nil {
		return nil, err
	}
	clear8, err := emv.PINBlock(pin)
	if err != nil {
		return nil, ErrPINBlock
	}
	return h.Seal(ctx, clear8[:])
}

// PINChange is the script that gives a card a new PIN, with its MAC, in the
// transaction whose first cryptogram is c.
func (h *HSM) PINChange(ctx context.Context, c Cryptogram, b PINBlock) (out iso7816.Command, err error) {
	card, _, err := c.card()
	if err != nil {
		return out, err
	}
	pin, err := h.open(c.PAN, b)
	if err != nil {
		return out, err
	}
	enc, clear16, err := h.cardKey(LabelCardENC, card)
	if err != nil {
		return out, err
	}
	s, err := pboc.PINChange(enc.Session(c.ATC), clear16, pin, "")
	if err != nil {
		return out, ErrPINBlock
	}
	list, err := h.ProtectScript(ctx, c, s)
	if err != nil {
		return out, err
	}
	return list[0], nil
}

// Token is the keyed hash by which a secret number is found again: the same
// number always gives the same 32 hexadecimal digits, and nobody without the
// key can try numbers out.
func (h *HSM) Token(ctx context.Context, number string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	k, err := h.key(LabelToken, HashKey, 1) // a token is looked up for ever: rotation does not change it
	if err != nil {
		return "", err
	}
	sum := hash(k, "token", number)
	return hex.EncodeToString(sum[:16]), nil
}

// hash is HMAC-SHA-256 over the parts, each behind its length.
func hash(k *key, parts ...string) []byte {
	m := hmac.New(sha256.New, k.clear)
	for _, p := range parts {
		fmt.Fprintf(m, "%d %s", len(p), p)
	}
	return m.Sum(nil)
}
