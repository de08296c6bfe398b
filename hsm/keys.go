package hsm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"koala/internal/db"
	"koala/spec/emv"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/purse"
)

// The limits of labels and versions. A version is one byte on the card.
const (
	maxLabel   = 64
	maxVersion = 127
)

// A key is one version of a key, unsealed and prepared for its use.
type key struct {
	info  KeyInfo
	clear []byte             // roots only
	root  *purse.Root        // PurseRoot
	sign  ed25519.PrivateKey // Signing
	seal  *sealer            // Sealing
	pair  *emv.PrivateKey    // CAKey, IssuerKey, CAKeySM, IssuerKeySM
}

// length is the length of a key in bytes.
func (u Usage) length() int {
	switch u {
	case PurseRoot, ChannelRoot, CardRoot, CardRootSM, AESRoot, ZoneKey, ReaderRoot:
		return 16
	case Signing, Sealing, HashKey, CAKeySM, IssuerKeySM:
		return 32
	case CAKey:
		return caBits / 8
	case IssuerKey:
		return issuerBits / 8
	}
	return 0
}

// check is the key check value: of Ed25519 the first bytes of the public key's
// SHA-256, of an RSA key those of the modulus's, of an SM2 key those of X | Y, of
// the others what is usual for the algorithm.
func (u Usage) check(clear []byte) (kcv [3]byte) {
	switch u {
	case PurseRoot, CardRoot, ZoneKey, ReaderRoot:
		return iso9797.KCVDES(clear)
	case CardRootSM:
		return pboc.KCV(pboc.SM4, [16]byte(clear))
	case HashKey:
		sum := sha256.Sum256(append([]byte("check value of a hash key: "), clear...))
		return [3]byte(sum[:])
	case CAKey, IssuerKey, CAKeySM, IssuerKeySM:
		if k, err := pairOf(clear); err == nil {
			sum := sha256.Sum256(k.Public().Modulus())
			return [3]byte(sum[:])
		}
		return kcv // no key; prepare refuses it
	case Signing:
		sum := sha256.Sum256(ed25519.NewKeyFromSeed(clear).Public().(ed25519.PublicKey))
		return [3]byte(sum[:])
	}
	return iso9797.KCVAES(clear)
}

// tripleDES tells whether keys of the usage are two-key 3DES.
func (u Usage) tripleDES() bool {
	return u == PurseRoot || u == CardRoot || u == ZoneKey || u == ReaderRoot
}

// prepare takes a copy of clear.
func prepare(info KeyInfo, clear []byte) (*key, error) {
	k := &key{info: info}
	switch info.Usage {
	case PurseRoot:
		k.clear = bytes.Clone(clear)
		k.root = purse.NewRoot([16]byte(clear))
	case ChannelRoot, CardRoot, CardRootSM, AESRoot, ZoneKey, ReaderRoot, HashKey:
		k.clear = bytes.Clone(clear)
	case CAKey, IssuerKey, CAKeySM, IssuerKeySM:
		var err error
		if k.pair, err = pairOf(clear); err != nil {
			return nil, fmt.Errorf("%s: %w", info.Usage, ErrWeak)
		}
	case Signing:
		k.sign = ed25519.NewKeyFromSeed(clear)
	case Sealing:
		k.seal = newSealer(clear)
	}
	return k, nil
}

// fit refuses keys of the wrong length, all equal bytes, and 3DES keys whose
// halves are equal, which are single DES.
func fit(u Usage, clear []byte) error {
	switch n := u.length(); {
	case n == 0:
		return fmt.Errorf("usage %q: %w", u, ErrUsage)
	case len(clear) != n:
		return fmt.Errorf("%d bytes for %s: %w", len(clear), u, ErrWeak)
	case bytes.Count(clear, clear[:1]) == n, u.tripleDES() && bytes.Equal(clear[:8], clear[8:]):
		return fmt.Errorf("%s: %w", u, ErrWeak)
	}
	return nil
}

// Generate makes the first version of a key.
func (h *HSM) Generate(ctx context.Context, label string, usage Usage) (KeyInfo, error) {
	list, err := h.add(ctx, []labelled{{label, usage}}, true, func(labelled) ([]byte, error) { return h.draw(ctx, usage) })
	if err != nil {
		return KeyInfo{}, fmt.Errorf("generating key %s: %w", label, err)
	}
	return list[0], nil
}

// Rotate makes the next version of each label, all or none. What was made under
// an older version goes on verifying; new cards get the new one. The three
// channel roots are rotated together.
func (h *HSM) Rotate(ctx context.Context, labels ...string) ([]KeyInfo, error) {
	var what []labelled
	for _, l := range labels {
		k, err := h.newest(l)
		if err != nil {
			return nil, fmt.Errorf("rotating: %w", err)
		}
		what = append(what, labelled{l, k.info.Usage})
	}
	list, err := h.add(ctx, what, false, func(l labelled) ([]byte, error) { return h.draw(ctx, l.usage) })
	if err != nil {
		return nil, fmt.Errorf("rotating %q: %w", labels, err)
	}
	return list, nil
}

// Import brings in the next version of a key in clear, as test keys and keys
// from another system come. Roots of a real scheme come through a Ceremony.
func (h *HSM) Import(ctx context.Context, label string, usage Usage, clear []byte) (KeyInfo, error) {
	if err := fit(usage, clear); err != nil {
		return KeyInfo{}, fmt.Errorf("importing key %s: %w", label, err)
	}
	list, err := h.add(ctx, []labelled{{label, usage}}, false, func(labelled) ([]byte, error) { return bytes.Clone(clear), nil })
	if err != nil {
		return KeyInfo{}, fmt.Errorf("importing key %s: %w", label, err)
	}
	return list[0], nil
}

// List lists every version of every key by label.
func (h *HSM) List(ctx context.Context) ([]KeyInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	var list []KeyInfo
	for _, versions := range h.keys {
		for _, k := range versions {
			list = append(list, k.info)
		}
	}
	slices.SortFunc(list, func(a, b KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(a.Version, b.Version))
	})
	return list, nil
}

type labelled struct {
	label string
	usage Usage
}

func (h *HSM) draw(ctx context.Context, u Usage) ([]byte, error) {
	switch u {
	case CAKey, IssuerKey:
		return h.drawRSA(u.length() * 8)
	case CAKeySM, IssuerKeySM:
		return h.drawSM2(ctx)
	}
	b := make([]byte, max(u.length(), 1))
	if err := h.Random(ctx, b); err != nil {
		return nil, err
	}
	return b, fit(u, b)
}

// add keeps the next version of each key in one unit. The keys and the nonces
// that seal them are drawn before it: a unit may run twice.
func (h *HSM) add(ctx context.Context, what []labelled, first bool, draw func(labelled) ([]byte, error)) ([]KeyInfo, error) {
	fresh := make([]*key, len(what))
	values := make([][]byte, len(what))
	for i, l := range what {
		if l.label == "" || len(l.label) > maxLabel {
			return nil, fmt.Errorf("label of %d characters: %w", len(l.label), ErrUsage)
		}
		clear, err := draw(l)
		if err != nil {
			return nil, err
		}
		values[i] = clear
		if fresh[i], err = prepare(KeyInfo{Label: l.label, Usage: l.usage, KCV: l.usage.check(clear)}, clear); err != nil {
			return nil, err
		}
	}
	nonces := make([]byte, nonceLen*len(what))
	if err := h.Random(ctx, nonces); err != nil {
		return nil, err
	}
	err := h.store.Write(ctx, func(tx *db.Tx) error {
		for i, k := range fresh {
			if err := h.next(tx, k, first); err != nil {
				return err
			}
			sealed := h.master.seal(nonces[i*nonceLen:], values[i], place(k.info))
			if err := keepKey(tx, sealedKey{k.info, sealed}); err != nil {
				return err
			}
		}
		tx.After(func() { h.remember(fresh) })
		return nil
	})
	for _, v := range values {
		clear(v)
	}
	if err != nil {
		return nil, err
	}
	infos := make([]KeyInfo, len(fresh))
	for i, k := range fresh {
		infos[i] = k.info
	}
	return infos, nil
}

// next gives k its version.
func (*HSM) next(tx *db.Tx, k *key, first bool) error {
	last, usage, err := newestRow(tx, k.info.Label)
	switch {
	case err != nil:
		return err
	case first && last > 0:
		return ErrExists
	case last > 0 && usage != k.info.Usage:
		return fmt.Errorf("%s is not a %s: %w", k.info.Label, k.info.Usage, ErrUsage)
	case last == maxVersion:
		return fmt.Errorf("%s has had %d versions: %w", k.info.Label, maxVersion, ErrUsage)
	}
	k.info.Version, k.info.At = last+1, tx.Now()
	return nil
}

func (h *HSM) remember(fresh []*key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range fresh {
		h.keys[k.info.Label] = append(h.keys[k.info.Label], k)
	}
}

// place binds a sealed key to its row: label, version and usage cannot be
// exchanged in the database.
func place(i KeyInfo) []byte { return fmt.Appendf(nil, "key %s %d %s", i.Label, i.Version, i.Usage) }

// load unseals all keys.
func (h *HSM) load(ctx context.Context) error {
	var rows []sealedKey
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		rows, err = readKeys(q)
		return err
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range rows {
		clear, err := h.master.open(r.sealed, place(r.info))
		if err != nil {
			return fmt.Errorf("key %s version %d: %w", r.info.Label, r.info.Version, err)
		}
		if int(r.info.Version) != len(h.keys[r.info.Label])+1 || len(clear) != r.info.Usage.length() ||
			r.info.Usage.check(clear) != r.info.KCV {
			return fmt.Errorf("key %s version %d: %w", r.info.Label, r.info.Version, ErrSealed)
		}
		k, err := prepare(r.info, clear)
		if err != nil {
			return fmt.Errorf("key %s version %d: %w", r.info.Label, r.info.Version, err)
		}
		h.keys[r.info.Label] = append(h.keys[r.info.Label], k)
	}
	return nil
}

func (h *HSM) newest(label string) (*key, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	versions := h.keys[label]
	if len(versions) == 0 {
		return nil, fmt.Errorf("key %s: %w", label, ErrNoKey)
	}
	return versions[len(versions)-1], nil
}

// key finds a version of a key for a use; version 0 is the newest.
func (h *HSM) key(label string, usage Usage, version byte) (*key, error) {
	k, err := h.newest(label)
	if err != nil {
		return nil, err
	}
	if version != 0 {
		h.mu.RLock()
		versions := h.keys[label]
		h.mu.RUnlock()
		if int(version) > len(versions) {
			return nil, fmt.Errorf("key %s version %d: %w", label, version, ErrNoKey)
		}
		k = versions[version-1]
	}
	if k.info.Usage != usage {
		return nil, fmt.Errorf("key %s: %w", label, ErrUsage)
	}
	return k, nil
}

const nonceLen = 12

// A sealer encrypts at rest: nonce 12 | AES-256-GCM of the data with its place.
type sealer struct{ gcm cipher.AEAD }

func newSealer(key []byte) *sealer {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the length is fixed
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &sealer{gcm}
}

func (s *sealer) seal(nonce, clear, place []byte) []byte {
	out := append(make([]byte, 0, nonceLen+len(clear)+s.gcm.Overhead()), nonce[:nonceLen]...)
	return s.gcm.Seal(out, nonce[:nonceLen], clear, place)
}

func (s *sealer) open(sealed, place []byte) ([]byte, error) {
	if len(sealed) < nonceLen {
		return nil, ErrSealed
	}
	clear, err := s.gcm.Open(nil, sealed[:nonceLen], sealed[nonceLen:], place)
	if err != nil {
		return nil, ErrSealed
	}
	return clear, nil
}

// The parts a key comes in.
const (
	minParts = 2
	maxParts = 3
)

// A Ceremony brings in a root, or a key shared with another institution, under split custody: each custodian enters one
// part with its check value, nobody sees the whole, and the key is the exclusive
// or of the parts. The parts stay in memory until Finish or Abandon.
type Ceremony struct {
	h          *HSM
	label      string
	usage      Usage
	parts      int
	mu         sync.Mutex
	custodians []string
	sum        []byte
}

// Begin starts a ceremony for the next version of label in two or three parts.
func (h *HSM) Begin(label string, usage Usage, parts int) (*Ceremony, error) {
	if parts < minParts || parts > maxParts {
		return nil, fmt.Errorf("%s in %d parts: %w", label, parts, ErrParts)
	}
	if usage != PurseRoot && usage != ChannelRoot && usage != ZoneKey {
		return nil, fmt.Errorf("%s as %s: %w", label, usage, ErrUsage)
	}
	return &Ceremony{h: h, label: label, usage: usage, parts: parts, sum: make([]byte, usage.length())}, nil
}

// Enter takes a custodian's part and compares the check value on their sheet.
// After a wrong one the same custodian enters it again. part is cleared.
func (c *Ceremony) Enter(custodian string, part []byte, kcv [3]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer clear(part)
	switch {
	case c.sum == nil || len(c.custodians) == c.parts:
		return fmt.Errorf("key %s: %w", c.label, ErrParts)
	case custodian == "":
		return fmt.Errorf("key %s: %w", c.label, ErrCustodian)
	case len(part) != len(c.sum):
		return fmt.Errorf("part of %d bytes: %w", len(part), ErrWeak)
	case c.usage.check(part) != kcv:
		return fmt.Errorf("part %d of key %s: %w", len(c.custodians)+1, c.label, ErrCheck)
	}
	for _, before := range c.custodians {
		if before == custodian {
			return fmt.Errorf("part %d of key %s: %w", len(c.custodians)+1, c.label, ErrCustodian)
		}
	}
	for i, b := range part {
		c.sum[i] ^= b
	}
	c.custodians = append(c.custodians, custodian)
	return nil
}

// Finish compares the whole key's check value and keeps the key. Whether it
// succeeds or not, the parts are gone.
func (c *Ceremony) Finish(ctx context.Context, kcv [3]byte) (KeyInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := bytes.Clone(c.sum)
	entered := len(c.custodians)
	c.abandon()
	defer clear(whole)
	if whole == nil || entered != c.parts {
		return KeyInfo{}, fmt.Errorf("key %s after %d of %d parts: %w", c.label, entered, c.parts, ErrParts)
	}
	if c.usage.check(whole) != kcv {
		return KeyInfo{}, fmt.Errorf("key %s: %w", c.label, ErrCheck)
	}
	return c.h.Import(ctx, c.label, c.usage, whole)
}

// Abandon forgets the parts.
func (c *Ceremony) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandon()
}

func (c *Ceremony) abandon() {
	clear(c.sum)
	c.sum, c.custodians = nil, nil
}
