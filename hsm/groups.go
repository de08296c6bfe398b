package hsm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/purse"
)

// A Form says what a key group of a STORE DATA looks like and how its keys are
// made.
type Form byte

// The forms. Secret parts are enciphered under the element's DEK.
const (
	PurseKey   Form = iota // purse.KeyRecord: one key with its check value, dispersed by the card's number
	CardKeys               // AC | MAC | ENC of a bank card, 48 secret bytes (CARD.md 1.14)
	CardChecks             // their check values, 3 each
	RSAPart                // the part of an ICC key that the DGI names, 8201 to 8205, padded, secret
	PINGroup               // offline PIN block, padded to 16, secret; Data is SealPIN's
	OpenKeys               // opening keys of industry files, 16 each, secret; Data is one byte per file
	OpenChecks             // their check values, 3 each
	Industry               // an industry record behind its key, which is secret; Data is the record
	AESApp                 // desfire.Application; Data is it without its keys, their masters are Label.0, .1, ...; a door's credential gets its MAC
	AESMaster              // desfire.Master; Data is its settings byte
	CouponKey              // coupon.KeyRecord; Data is its use 1 | owner 8 | holder 8
	SM2Part                // the part of an SM2 card key that the DGI names, 8501 or 8502, padded, secret
)

// A KeyRef names key material of a card: the data grouping it goes into, and
// what it is made from.
type KeyRef struct {
	DGI   uint16
	Form  Form
	Label string // of the root
	// Card is what the root is dispersed by: a purse's number (empty for a SAM,
	// which gets the root), BankCard.Ref; of an RSAPart or SM2Part the ICCKey's id. The AES
	// forms go by the element's UID and need none.
	Card  string
	Kind  purse.KeyKind // of a PurseKey
	Index byte          // of a PurseKey, 0: 1; of a CouponKey
	Data  []byte        // what the form says
}

// Ref names the card in a KeyRef. It holds the PAN: seal what it is kept with.
func (c BankCard) Ref() string {
	return fmt.Sprintf("%s/%d/%d/%d", c.PAN, c.PSN, c.Alg, c.DKI)
}

func parseBankCard(s string) (c BankCard, err error) {
	f := strings.Split(s, "/")
	if len(f) != 4 {
		return c, ErrUsage
	}
	var n [3]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(f[i+1], 10, 8); err != nil {
			return c, ErrUsage
		}
	}
	return BankCard{PAN: f[0], PSN: byte(n[0]), Alg: pboc.Algorithm(n[1]), DKI: byte(n[2])}, nil
}

// Size is how long the data grouping is at most, with its header.
func (r KeyRef) Size() int {
	const head = 3
	switch r.Form {
	case CardKeys:
		return head + 48
	case CardChecks:
		return head + 9
	case RSAPart:
		return head + iccBits/16 + 16
	case SM2Part:
		return head + 80
	case PINGroup:
		return head + 16
	case OpenKeys, OpenChecks:
		return head + 16*len(r.Data)
	case Industry:
		return head + 16 + len(r.Data)
	case AESApp:
		return head + len(r.Data)
	case AESMaster:
		return head + 22
	case CouponKey:
		return head + coupon.KeyRecordLen
	}
	return head + purse.KeyRecordLen
}

// group makes the data grouping for the element behind host.
func (h *HSM) group(ctx context.Context, host *globalplatform.Host, kdd [10]byte, r KeyRef) (g globalplatform.DGI, err error) {
	g.ID = r.DGI
	switch r.Form {
	case PurseKey:
		rec, err := h.record(host, r)
		g.Data = rec.Bytes()
		return g, err
	case RSAPart, SM2Part:
		g.Data, err = h.keyPart(ctx, host, r)
	case PINGroup:
		g.Data, err = h.pinGroup(ctx, host, r)
	case AESApp, AESMaster:
		g.Data, err = h.aesGroup(host, uidOf(kdd), r)
	case CouponKey:
		g.Data, err = h.couponKey(host, r)
	default:
		g.Data, err = h.bankGroup(host, r)
	}
	if err != nil {
		return g, fmt.Errorf("key group %04X: %w", r.DGI, err)
	}
	return g, nil
}

// bankGroup makes the groups that come from the roots of card keys.
func (h *HSM) bankGroup(host *globalplatform.Host, r KeyRef) ([]byte, error) {
	card, err := parseBankCard(r.Card)
	if err != nil {
		return nil, err
	}
	var roots []string
	switch r.Form {
	case CardKeys, CardChecks:
		roots = []string{LabelCardAC, LabelCardMAC, LabelCardENC}
	case OpenKeys, OpenChecks:
		for range r.Data {
			roots = append(roots, LabelOpen)
		}
	case Industry:
		roots = []string{LabelCAPP}
	default:
		return nil, fmt.Errorf("form %d: %w", r.Form, ErrUsage)
	}
	keys, checks := make([]byte, 0, 16*len(roots)), []byte(nil)
	defer func() { clear(keys) }()
	for _, root := range roots {
		k, mk, err := h.cardKey(root, card)
		if err != nil {
			return nil, err
		}
		kcv := k.KCV()
		keys, checks = append(keys, mk[:]...), append(checks, kcv[:]...)
	}
	if r.Form == CardChecks || r.Form == OpenChecks {
		return checks, nil
	}
	sealed, err := host.EncryptKey(keys)
	if r.Form == Industry {
		sealed = append(sealed, r.Data...)
	}
	return sealed, err
}

// keyPart is one part of a card's private key.
func (h *HSM) keyPart(ctx context.Context, host *globalplatform.Host, r KeyRef) ([]byte, error) {
	k, err := h.icc(ctx, r.Card)
	if err != nil {
		return nil, err
	}
	c := k.CRT()
	parts, n := [][]byte{c.QInv, c.DQ, c.DP, c.Q, c.P}, int(r.DGI)-pboc.DGICoefficient
	if r.Form == SM2Part {
		parts, n = [][]byte{k.Scalar(), k.Public().Modulus()}, int(r.DGI)-pboc.DGIScalarSM
	}
	if n < 0 || n >= len(parts) || (k.Public().Algorithm() == emv.SM2) != (r.Form == SM2Part) {
		return nil, ErrUsage
	}
	return host.EncryptKey(iso9797.Pad2(parts[n], 16))
}

func (h *HSM) pinGroup(ctx context.Context, host *globalplatform.Host, r KeyRef) ([]byte, error) {
	block, err := h.Unseal(ctx, r.Data)
	if err != nil {
		return nil, err
	}
	defer clear(block)
	return host.EncryptKey(iso9797.Pad2(block, 16))
}

// uidOf reads the UID out of an element's key data: three zeros before it.
func uidOf(kdd [10]byte) desfire.UID { return desfire.UID(kdd[3:]) }

// aesGroup diversifies the masters by UID and application (AN10922).
func (h *HSM) aesGroup(host *globalplatform.Host, uid desfire.UID, r KeyRef) ([]byte, error) {
	if r.Form == AESMaster {
		if len(r.Data) != 1 {
			return nil, ErrUsage
		}
		k, err := h.aesKey(host, r.Label, uid, desfire.Card, piccSystem)
		return desfire.Master{Settings: desfire.KeySettings(r.Data[0]), Key: k}.Bytes(), err
	}
	app, err := desfire.ParseApplication(r.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrScript, err)
	}
	system, ok := systems[app.AID]
	if !ok {
		return nil, fmt.Errorf("application %s: %w", app.AID, ErrUsage)
	}
	for i := range app.Keys {
		if app.Keys[i], err = h.aesKey(host, fmt.Sprintf("%s.%d", r.Label, i), uid, app.AID, system); err != nil {
			return nil, err
		}
	}
	if app.AID == desfire.DoorAID {
		if err := h.signDoor(&app, uid); err != nil {
			return nil, err
		}
	}
	return app.Bytes()
}

// systems diversify the keys of the house's applications (AN10922).
var systems = map[desfire.AID]string{desfire.CanteenAID: desfire.CanteenSystem, desfire.DoorAID: desfire.DoorSystem}

// piccSystem diversifies the master key of the whole card.
const piccSystem = "KOALA PICC"

// signDoor puts the access host's MAC onto the credential in the application.
func (h *HSM) signDoor(app *desfire.Application, uid desfire.UID) error {
	k, err := h.key(LabelDoorHost, AESRoot, 0)
	if err != nil {
		return err
	}
	for i := range app.Files {
		if app.Files[i].No != desfire.DoorCredential {
			continue
		}
		c, err := desfire.ParseCredential(app.Files[i].Content)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrScript, err)
		}
		app.Files[i].Content = c.Sign([16]byte(k.clear), uid).Bytes()
	}
	return nil
}

// couponRoot is the root of one owner's keys: a merchant's or an issuer's.
func (h *HSM) couponRoot(label string, version byte, use coupon.KeyUse, owner coupon.ID) (root [16]byte, k *key, err error) {
	if k, err = h.key(label, AESRoot, version); err != nil {
		return root, nil, err
	}
	return iso9797.CMAC(k.clear, append([]byte{byte(use)}, owner[:]...)), k, nil
}

func (h *HSM) couponKey(host *globalplatform.Host, r KeyRef) ([]byte, error) {
	if len(r.Data) != 17 {
		return nil, ErrUsage
	}
	use, owner, holder := coupon.KeyUse(r.Data[0]), coupon.ID(r.Data[1:9]), coupon.ID(r.Data[9:])
	root, k, err := h.couponRoot(r.Label, 0, use, owner)
	if err != nil {
		return nil, err
	}
	own := coupon.CardKey(root, holder, owner)
	sealed, err := host.EncryptKey(own[:])
	if err != nil || len(sealed) != len(own) {
		return nil, errors.Join(err, globalplatform.ErrKey)
	}
	return coupon.KeyRecord{Index: r.Index, Use: use, Version: k.info.Version, Owner: owner, Key: [16]byte(sealed),
		KCV: iso9797.KCVAES(own[:])}.Bytes(), nil
}

// CheckRedemption verifies a card's proof that its coupon was redeemed, under
// any version of the root.
func (h *HSM) CheckRedemption(ctx context.Context, r coupon.Redemption) error {
	newest, err := h.key(LabelCoupon, AESRoot, 0)
	if err != nil {
		return err
	}
	for v := newest.info.Version; v >= 1; v-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		root, _, err := h.couponRoot(LabelCoupon, v, coupon.IssuerKey, r.Issuer)
		if err == nil && r.Verify(root) == nil {
			return nil
		}
	}
	return fmt.Errorf("redemption: %w", ErrAC)
}

func (h *HSM) aesKey(host *globalplatform.Host, label string, uid desfire.UID, app desfire.AID, system string) (desfire.SealedKey, error) {
	k, err := h.key(label, AESRoot, 0)
	if err != nil {
		return desfire.SealedKey{}, err
	}
	own := desfire.CardKey(desfire.AESKey([16]byte(k.clear), k.info.Version), uid, app, system)
	return desfire.Seal(own, host.EncryptKey)
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
