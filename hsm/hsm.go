// Package hsm keeps the keys that never leave: roots of purse and channel keys,
// signing keys, the key of data at rest. They are sealed in the store under a
// key file and used here only; no function returns one. Start at Open and
// Provision; the work is in CheckDebitTAC, AuthoriseLoad and WrapScript. What
// stands behind this interface is software; a PKCS#11 module could.
package hsm

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/fail"
)

// How the hsm refuses. ErrTAC, ErrMAC1 and ErrCryptogram say that a proof made
// by a card does not verify.
var (
	ErrTAC        = fail.Define(fail.Refused, "hsm.tac", "the card's proof of the transaction (TAC) does not verify")
	ErrMAC1       = fail.Define(fail.Refused, "hsm.mac1", "the card's proof of its balance (MAC1) does not verify")
	ErrCryptogram = fail.Define(fail.Refused, "hsm.cryptogram", "the element's cryptogram does not verify; it is another element or has other keys")
	ErrAnswer     = fail.Define(fail.Refused, "hsm.answer", "the element's answer to INITIALIZE UPDATE cannot be read")
	ErrScript     = fail.Define(fail.Broken, "hsm.script", "a command of the script does not fit the secure channel")
	ErrNoKey      = fail.Define(fail.NotFound, "hsm.no_key", "there is no such key")
	ErrExists     = fail.Define(fail.Conflict, "hsm.exists", "there is a key with this label; rotate it instead")
	ErrUsage      = fail.Define(fail.Invalid, "hsm.usage", "the key is not for this use")
	ErrWeak       = fail.Define(fail.Invalid, "hsm.weak", "the key has a wrong length or is weak")
	ErrCheck      = fail.Define(fail.Invalid, "hsm.check_value", "the check value does not match what was entered")
	ErrCustodian  = fail.Define(fail.Forbidden, "hsm.custodian", "each part comes from another custodian")
	ErrParts      = fail.Define(fail.Invalid, "hsm.parts", "a key comes in two or three parts, all of them")
	ErrAC         = fail.Define(fail.Refused, "hsm.ac", "the card's cryptogram does not verify")
	ErrBalance    = fail.Define(fail.Refused, "hsm.balance", "the card's proof of its balance does not verify")
	ErrMAC        = fail.Define(fail.Refused, "hsm.mac", "the MAC of the message does not verify")
	ErrPIN        = fail.Define(fail.Refused, "hsm.pin", "the PIN is wrong")
	ErrPINBlock   = fail.Define(fail.Invalid, "hsm.pin_block", "the PIN block cannot be read under this zone's key")
	ErrPool       = fail.Define(fail.Busy, "hsm.pool", "no card key is ready; fill the pool")
	ErrPrimes     = fail.Define(fail.Broken, "hsm.primes", "the file of RSA keys cannot be read")
	ErrSignature  = fail.Define(fail.Refused, "hsm.signature", "the signature does not verify")
	ErrForm       = fail.Define(fail.Invalid, "hsm.form", "this is no form of a transport key")
	ErrTransport  = fail.Define(fail.Conflict, "hsm.dead_transport", "the installer's transport key is not the last one drawn for the device; nothing was handed out")
	ErrBlock      = fail.Define(fail.Invalid, "hsm.key_block", "the key block was altered, or is for another device, another use or another transport key")
	ErrSealed     = fail.Define(fail.Broken, "hsm.sealed", "sealed data is damaged or was sealed under another key")
	ErrKeyFile    = fail.Define(fail.Broken, "hsm.key_file", "the key file cannot be used")
	ErrNoKeyFile  = fail.Define(fail.Broken, "hsm.no_key_file", "the key file is missing and the database has keys sealed under it; put the file back from its backup")
	ErrWrongFile  = fail.Define(fail.Broken, "hsm.wrong_key_file", "the key file is not the one the keys in this database are sealed under; name the right file")
	ErrOpenFile   = fail.Define(fail.Broken, "hsm.readable_key_file", "others may read the key file; take their permission away (chmod 600)")
)

// Config says where the key file is; it is made at the first start.
type Config struct {
	KeyFile string    // "" is koala.key in the working directory
	Rand    io.Reader // nil is the system's entropy
	// Primes is a fixed pool of RSA keys (ParsePrimes) that is drawn from
	// instead of making keys: for deterministic runs and tests. Its keys are
	// not secret. When it is used up it begins again.
	Primes []byte
}

const defaultKeyFile = "koala.key"

// An HSM is safe for concurrent use.
type HSM struct {
	store  *db.Store
	rand   io.Reader
	master *sealer // under the key file
	mu     sync.RWMutex
	keys   map[string][]*key // by label; version v is at v-1
	pool   *primes           // fixed RSA keys; nil: they are made
	recent recent            // terminals' keys ready for use
	cards  recent            // cards' keys
	certs  certificates      // issuers' certificates that were made
}

// A Usage is what a key may do.
type Usage string

// The usages.
const (
	PurseRoot   Usage = "purse-root"   // two-key 3DES, dispersed by card number (JR/T 0025.1)
	ChannelRoot Usage = "channel-root" // AES-128, diversified by an element's key data
	Signing     Usage = "signing"      // Ed25519
	Sealing     Usage = "sealing"      // AES-256-GCM
	CardRoot    Usage = "card-root"    // two-key 3DES, dispersed by PAN and sequence number (EMV 4.4 Book 2, A1.4 option A)
	CardRootSM  Usage = "card-root-sm" // SM4, dispersed the same way (JR/T 0025.17)
	AESRoot     Usage = "aes-root"     // AES-128, dispersed by UID and application (AN10922)
	ReaderRoot  Usage = "reader-root"  // two-key 3DES, base key of readers with a key per transaction (ANSI X9.24-1)
	ZoneKey     Usage = "zone"         // two-key 3DES over PIN blocks between an acquirer and this house
	HashKey     Usage = "hash"         // HMAC-SHA-256: lookup tokens, references of PINs
	CAKey       Usage = "rsa-ca"       // RSA 1408 bit, exponent 3: certifies issuers
	IssuerKey   Usage = "rsa-issuer"   // RSA 1152 bit, exponent 3: certifies cards
	CAKeySM     Usage = "sm2-ca"       // SM2: certifies issuers in the second chain (JR/T 0025.17)
	IssuerKeySM Usage = "sm2-issuer"   // SM2: certifies cards in it
)

// Labels of the keys that a house needs.
const (
	LabelDPK  = "transit.DPK"  // purchase
	LabelDLK  = "transit.DLK"  // load
	LabelDTK  = "transit.DTK"  // TAC
	LabelDAMK = "transit.DAMK" // application maintenance
	LabelENC  = "isd.ENC"
	LabelMAC  = "isd.MAC"
	LabelDEK  = "isd.DEK"
	LabelPack = "pack.sign" // deny lists and tariff packs for gates

	LabelCardAC  = "bank.AC"   // application cryptograms
	LabelCardMAC = "bank.MAC"  // issuer scripts, balances
	LabelCardENC = "bank.ENC"  // PINs in scripts
	LabelCAPP    = "bank.CAPP" // industry records, JR/T 0025.14
	LabelOpen    = "bank.open" // opening of industry files
	LabelSM      = ".SM4"      // ends the labels of the same roots under SM4
	LabelCA      = "bank.CA"
	LabelIssuer  = "bank.issuer"
	LabelSM2     = ".SM2"       // ends the labels of both in the SM2 chain
	LabelZone    = "zone.PIN"   // PIN blocks of the house's own devices
	LabelReader  = "reader.BDK" // readers' initial keys; made with the first of them
	LabelPIN     = "pin.verify" // references of PINs
	LabelToken   = "pan.token"  // lookup tokens of PANs

	// LabelCanteen and LabelDoor with a dot and the number of the key behind
	// them are the masters of DESFire keys.
	LabelCanteen  = "card.canteen"
	LabelDoor     = "card.door"
	LabelDoorHost = "card.door.host" // credentials
	LabelPICC     = "card.picc"      // master key of the whole DESFire card
	LabelTill     = "card.till"      // sales of canteen tills
	LabelCoupon   = "card.coupon"

	labelSeal = "data.seal" // personalisation data and PANs at rest
)

var houseKeys = []labelled{
	{LabelDPK, PurseRoot}, {LabelDLK, PurseRoot}, {LabelDTK, PurseRoot}, {LabelDAMK, PurseRoot},
	{LabelENC, ChannelRoot}, {LabelMAC, ChannelRoot}, {LabelDEK, ChannelRoot},
	{LabelPack, Signing},
}

// bankKeys are what an issuing bank needs beside them.
var bankKeys = []labelled{
	{LabelCardAC, CardRoot}, {LabelCardMAC, CardRoot}, {LabelCardENC, CardRoot}, {LabelCAPP, CardRoot}, {LabelOpen, CardRoot},
	{LabelCardAC + LabelSM, CardRootSM}, {LabelCardMAC + LabelSM, CardRootSM}, {LabelCardENC + LabelSM, CardRootSM},
	{LabelCA, CAKey}, {LabelIssuer, IssuerKey}, {LabelZone, ZoneKey}, {LabelPIN, HashKey}, {LabelToken, HashKey},
	{LabelCanteen + ".0", AESRoot}, {LabelCanteen + ".1", AESRoot}, {LabelCanteen + ".2", AESRoot},
	{LabelDoor + ".0", AESRoot}, {LabelDoor + ".1", AESRoot}, {LabelDoorHost, AESRoot}, {LabelPICC, AESRoot},
	{LabelTill, AESRoot}, {LabelCoupon, AESRoot},
	{LabelCA + LabelSM2, CAKeySM}, {LabelIssuer + LabelSM2, IssuerKeySM},
}

// KeyInfo is what may be known of a key.
type KeyInfo struct {
	Label   string
	Usage   Usage
	Version byte // from 1
	KCV     [3]byte
	At      time.Time
}

// Open opens the hsm of a store. The first time it makes the key file, readable
// by its owner only.
func Open(ctx context.Context, store *db.Store, cfg Config) (*HSM, error) {
	h := &HSM{store: store, rand: cfg.Rand, keys: map[string][]*key{}}
	if h.rand == nil {
		h.rand = clock.Entropy()
	}
	if cfg.Primes != nil {
		var err error
		if h.pool, err = parsePrimes(cfg.Primes); err != nil {
			return nil, fmt.Errorf("opening the hsm: %w", err)
		}
	}
	file := cfg.KeyFile
	if file == "" {
		file = defaultKeyFile
	}
	if err := store.Migrate(ctx, schema); err != nil {
		return nil, fmt.Errorf("opening the hsm: %w", err)
	}
	if err := h.unlock(ctx, file); err != nil {
		return nil, fmt.Errorf("opening the hsm with key file %s: %w", file, err)
	}
	if err := h.load(ctx); err != nil {
		return nil, fmt.Errorf("opening the hsm with key file %s: %w", file, err)
	}
	if len(h.keys[labelSeal]) == 0 {
		if _, err := h.Generate(ctx, labelSeal, Sealing); err != nil {
			return nil, fmt.Errorf("opening the hsm: %w", err)
		}
	}
	return h, nil
}

// Provision generates those keys of a house that are missing: after it, cards
// can be issued. Roots of a real scheme are imported before.
func (h *HSM) Provision(ctx context.Context) error { return h.provision(ctx, houseKeys) }

// ProvisionBank does the same for an issuing bank: roots of card keys, the CA
// and the issuer key under it, keys of PINs and tokens.
func (h *HSM) ProvisionBank(ctx context.Context) error { return h.provision(ctx, bankKeys) }

func (h *HSM) provision(ctx context.Context, keys []labelled) error {
	for _, k := range keys {
		if _, err := h.key(k.label, k.usage, 0); err == nil {
			continue
		}
		if _, err := h.Generate(ctx, k.label, k.usage); err != nil {
			return fmt.Errorf("provisioning: %w", err)
		}
	}
	return nil
}

// Random fills b.
func (h *HSM) Random(ctx context.Context, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := io.ReadFull(h.rand, b); err != nil {
		return fmt.Errorf("drawing %d random bytes: %w", len(b), err)
	}
	return nil
}

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

// PublicKeys are those of every version of a signing key, oldest first.
func (h *HSM) PublicKeys(ctx context.Context, label string) (out []ed25519.PublicKey, err error) {
	newest, err := h.key(label, Signing, 0)
	for v := byte(1); err == nil && v <= newest.info.Version; v++ {
		var k *key
		if k, err = h.key(label, Signing, v); err == nil {
			out = append(out, k.sign.Public().(ed25519.PublicKey))
			err = ctx.Err()
		}
	}
	return out, err
}

// sealedForm is the version of the form of sealed data: form | key version |
// nonce 12 | AES-256-GCM.
const sealedForm = 1

// Seal encrypts data for keeping it at rest.
func (h *HSM) Seal(ctx context.Context, clear []byte) ([]byte, error) {
	return h.sealAt(ctx, clear, nil)
}

// sealAt is Seal of data that is bound to its place.
func (h *HSM) sealAt(ctx context.Context, clear, place []byte) ([]byte, error) {
	k, err := h.key(labelSeal, Sealing, 0)
	if err != nil {
		return nil, err
	}
	var nonce [nonceLen]byte
	if err := h.Random(ctx, nonce[:]); err != nil {
		return nil, err
	}
	head := []byte{sealedForm, k.info.Version}
	return append(head, k.seal.seal(nonce[:], clear, slices.Concat(head, place))...), nil
}

// Unseal opens what Seal made.
func (h *HSM) Unseal(ctx context.Context, sealed []byte) ([]byte, error) {
	return h.unsealAt(ctx, sealed, nil)
}

// unsealAt opens what sealAt made for the same place.
func (h *HSM) unsealAt(ctx context.Context, sealed, place []byte) ([]byte, error) {
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
	return k.seal.open(sealed[2:], slices.Concat(sealed[:2], place))
}
