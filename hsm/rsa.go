package hsm

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"

	"koala/internal/db"
	"koala/spec/emv"
	"koala/spec/pboc"
)

// Lengths of RSA moduli in bits. A card key of 1024 bits fits its signature
// into the answer to GET PROCESSING OPTIONS (CARD.md 1.3); each certificate
// fits under the key above it.
const (
	caBits     = 1408
	issuerBits = 1152
	iccBits    = 1024
	exponent   = 3
)

// scalarLen is the sealed form of an SM2 key, shorter than any RSA key's.
const scalarLen = 32

// pairOf makes a key pair of its sealed form: the private number of an SM2 key,
// or p | q of an RSA key in halves of equal length.
func pairOf(clear []byte) (*emv.PrivateKey, error) {
	if len(clear) == scalarLen {
		return emv.NewSM2Key(clear)
	}
	h := len(clear) / 2
	return emv.NewPrivateKey(clear[:h], clear[h:], []byte{exponent})
}

// drawRSA gives p | q of a new key, or of the next one in the fixed pool.
func (h *HSM) drawRSA(bits int) ([]byte, error) {
	if h.pool != nil {
		return h.pool.next(bits)
	}
	k, err := emv.GenerateKey(h.rand, bits, exponent)
	if err != nil {
		return nil, fmt.Errorf("making an RSA key of %d bits: %w", bits, err)
	}
	c := k.CRT()
	return append(bytes.Clone(c.P), c.Q...), nil
}

// drawSM2 gives the private number of a new SM2 key.
func (h *HSM) drawSM2(ctx context.Context) ([]byte, error) {
	b := make([]byte, scalarLen)
	for { // one in four thousand million is above the curve's order
		if err := h.Random(ctx, b); err != nil {
			return nil, err
		}
		if _, err := emv.NewSM2Key(b); err == nil {
			return b, nil
		}
	}
}

// primes is a fixed pool of RSA keys by bits.
type primes struct {
	mu   sync.Mutex
	keys map[int][][]byte
	at   map[int]int
}

// parsePrimes reads a pool file: a line per key, bits, p and q, the last two
// hexadecimal; lines that begin with # are comments.
func parsePrimes(file []byte) (*primes, error) {
	p := &primes{keys: map[int][][]byte{}, at: map[int]int{}}
	for i, line := range bytes.Split(file, []byte("\n")) {
		f := bytes.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("line %d: %w", i+1, ErrPrimes)
		}
		bits, err := strconv.Atoi(string(f[0]))
		halves := make([]byte, hex.DecodedLen(len(f[1])+len(f[2])))
		if err == nil {
			_, err = hex.Decode(halves, append(bytes.Clone(f[1]), f[2]...))
		}
		if err != nil || len(f[1]) != len(f[2]) || len(halves)*8 != bits {
			return nil, fmt.Errorf("line %d: %w", i+1, ErrPrimes)
		}
		if _, err := pairOf(halves); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, ErrPrimes)
		}
		p.keys[bits] = append(p.keys[bits], halves)
	}
	return p, nil
}

// next gives the pool's keys of one length in turn.
func (p *primes) next(bits int) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.keys[bits]
	if len(list) == 0 {
		return nil, fmt.Errorf("no key of %d bits: %w", bits, ErrPrimes)
	}
	k := list[p.at[bits]%len(list)]
	p.at[bits]++
	return bytes.Clone(k), nil
}

// An ICCKey is a card's key pair as it may be known: the private half leaves
// the pool once, into its card.
type ICCKey struct {
	ID     string // icc_…
	Public emv.PublicKey
}

// FillPool makes card keys ahead until n are ready, and tells how many it made.
// Each is kept as soon as it is there: it may be stopped at any time.
func (h *HSM) FillPool(ctx context.Context, n int) (made int, err error) {
	ready, err := h.PoolSize(ctx)
	for ; err == nil && ready < n; ready++ {
		if err = h.addICC(ctx); err == nil {
			made++
		}
	}
	if err != nil {
		return made, fmt.Errorf("filling the pool of card keys: %w", err)
	}
	return made, nil
}

func (h *HSM) addICC(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	halves, err := h.drawRSA(iccBits)
	if err != nil {
		return err
	}
	defer clear(halves)
	var nonce [nonceLen]byte
	if err := h.Random(ctx, nonce[:]); err != nil {
		return err
	}
	return h.store.Write(ctx, func(tx *db.Tx) error {
		id := tx.NewID("icc")
		return keepICC(tx, id, h.master.seal(nonce[:], halves, iccPlace(id)))
	})
}

// iccPlace binds a sealed card key to its row.
func iccPlace(id string) []byte { return []byte("card key " + id) }

// PoolSize tells how many card keys are ready.
func (h *HSM) PoolSize(ctx context.Context) (n int, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT COUNT(*) FROM hsm_icc WHERE taken = ''`).Scan(&n)
	})
	return n, err
}

// TakeICCKey takes the oldest key out of the pool for the card or order that
// ref names; the same ref again gets the same key, no other ever does. With an
// empty pool a key is made on the spot.
func (h *HSM) TakeICCKey(ctx context.Context, ref string) (ICCKey, error) {
	for range 2 {
		var row iccRow
		err := h.store.Write(ctx, func(tx *db.Tx) (err error) {
			row, err = takeICC(tx, ref)
			return err
		})
		if err != nil {
			return ICCKey{}, fmt.Errorf("taking a card key: %w", err)
		}
		if row.id == "" {
			if err := h.addICC(ctx); err != nil {
				return ICCKey{}, fmt.Errorf("taking a card key: %w", err)
			}
			continue
		}
		k, err := h.openICC(row)
		if err != nil {
			return ICCKey{}, err
		}
		return ICCKey{ID: row.id, Public: k.Public()}, nil
	}
	return ICCKey{}, ErrPool
}

// TakeSM2Key makes the SM2 key of the card that ref names; the same ref again
// gets the same key. It needs no pool: a key costs one random number.
func (h *HSM) TakeSM2Key(ctx context.Context, ref string) (ICCKey, error) {
	if ref == "" {
		return ICCKey{}, ErrUsage
	}
	scalar, err := h.drawSM2(ctx)
	if err != nil {
		return ICCKey{}, fmt.Errorf("making an SM2 key: %w", err)
	}
	defer clear(scalar)
	var nonce [nonceLen]byte
	if err := h.Random(ctx, nonce[:]); err != nil {
		return ICCKey{}, err
	}
	var row iccRow
	err = h.store.Write(ctx, func(tx *db.Tx) (err error) {
		if row, err = takenICC(tx, ref+LabelSM2); err != nil || row.id != "" {
			return err
		}
		row.id = tx.NewID("icc")
		row.sealed = h.master.seal(nonce[:], scalar, iccPlace(row.id))
		return keepTaken(tx, row, ref+LabelSM2)
	})
	if err != nil {
		return ICCKey{}, fmt.Errorf("making an SM2 key: %w", err)
	}
	k, err := h.openICC(row)
	if err != nil {
		return ICCKey{}, err
	}
	return ICCKey{ID: row.id, Public: k.Public()}, nil
}

func (h *HSM) openICC(r iccRow) (*emv.PrivateKey, error) {
	halves, err := h.master.open(r.sealed, iccPlace(r.id))
	if err != nil {
		return nil, fmt.Errorf("card key %s: %w", r.id, err)
	}
	defer clear(halves)
	k, err := pairOf(halves)
	if err != nil {
		return nil, fmt.Errorf("card key %s: %w", r.id, ErrSealed)
	}
	return k, nil
}

// icc finds a card key that was taken.
func (h *HSM) icc(ctx context.Context, id string) (*emv.PrivateKey, error) {
	var row iccRow
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		row, err = readICC(q, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("card key %s: %w", id, err)
	}
	return h.openICC(row)
}

// The indices (tag 8F) of version 1 of the house's CA keys under UnionPay's RID.
// UnionPay's published keys end below 20 and its published test keys below D0,
// so that no terminal mistakes ours for one of them. The two chains never share
// an index: it tells a terminal which one a card's certificates are of.
const (
	firstIndex   = 0xE0 // to FE
	firstIndexSM = 0xD0 // to DF
)

// A chain is the labels and uses of the keys that certify cards.
type chain struct {
	ca, issuer           string
	caUsage, issuerUsage Usage
}

var (
	rsaChain = chain{LabelCA, LabelIssuer, CAKey, IssuerKey}
	sm2Chain = chain{LabelCA + LabelSM2, LabelIssuer + LabelSM2, CAKeySM, IssuerKeySM}
)

// chainOf is the one of an algorithm.
func chainOf(a emv.KeyAlgorithm) chain {
	if a == emv.SM2 {
		return sm2Chain
	}
	return rsaChain
}

// CAKey is the house's certification authority key of a chain as terminals keep
// it; version 0 is the newest. It is no UnionPay key: only terminals that were
// given it accept the house's cards.
func (h *HSM) CAKey(ctx context.Context, a emv.KeyAlgorithm, version byte) (emv.CAKey, error) {
	if err := ctx.Err(); err != nil {
		return emv.CAKey{}, err
	}
	c := chainOf(a)
	k, err := h.key(c.ca, c.caUsage, version)
	if err != nil {
		return emv.CAKey{}, err
	}
	out := emv.NewCAKey([5]byte([]byte(pboc.RID)), caIndex(k), k.pair.Public())
	out.Scheme, out.Environment = "koala", "test"
	return out, nil
}

func caIndex(k *key) byte {
	if k.info.Usage == CAKeySM {
		return firstIndexSM + (k.info.Version-1)%0x10
	}
	return firstIndex + (k.info.Version-1)%0x1F
}

// IssuerCertificate is the certificate of a chain's newest issuer key under its
// newest CA key (tags 90, 92, 9F32) and that CA key's index (8F). owner is the
// first 3 to 8 digits of the PANs it is for, expiry MMYY in BCD. The same
// arguments give the same bytes.
func (h *HSM) IssuerCertificate(ctx context.Context, a emv.KeyAlgorithm, owner string, expiry [2]byte) (c emv.Certificate, index byte, err error) {
	if err := ctx.Err(); err != nil {
		return c, 0, err
	}
	keys := chainOf(a)
	ca, err := h.key(keys.ca, keys.caUsage, 0)
	if err != nil {
		return c, 0, err
	}
	issuer, err := h.key(keys.issuer, keys.issuerUsage, 0)
	if err != nil {
		return c, 0, err
	}
	name := certified{a, owner, expiry, ca.info.Version, issuer.info.Version}
	if c, ok := h.certs.get(name); ok {
		return c, caIndex(ca), nil
	}
	c, err = emv.MakeIssuerCertificate(ca.pair, emv.KeyInfo{Owner: owner, Expiry: expiry,
		Serial: [3]byte{0, ca.info.Version, issuer.info.Version}, Key: issuer.pair.Public()})
	if err != nil {
		return c, 0, fmt.Errorf("issuer certificate: %w", err)
	}
	h.certs.put(name, c)
	return c, caIndex(ca), nil
}

// certified names an issuer's certificate by all that goes into it: after a new key
// of either side it is another one.
type certified struct {
	algorithm  emv.KeyAlgorithm
	owner      string
	expiry     [2]byte
	ca, issuer byte // versions of their keys
}

// certificates keeps those that were made: all cards of a range and a year carry
// the same one. It is emptied when it has grown to maxCertificates.
type certificates struct {
	mu  sync.Mutex
	all map[certified]emv.Certificate
}

const maxCertificates = 256

func (s *certificates) get(name certified) (emv.Certificate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.all[name]
	return emv.Certificate{Certificate: bytes.Clone(c.Certificate), Remainder: bytes.Clone(c.Remainder), Exponent: bytes.Clone(c.Exponent)}, ok
}

func (s *certificates) put(name certified, c emv.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil || len(s.all) >= maxCertificates {
		s.all = map[certified]emv.Certificate{}
	}
	s.all[name] = emv.Certificate{Certificate: bytes.Clone(c.Certificate), Remainder: bytes.Clone(c.Remainder), Exponent: bytes.Clone(c.Exponent)}
}

// ICCCertificate certifies a card key (tags 9F46, 9F48, 9F47) under the newest
// issuer key of the key's algorithm. info's Owner is the PAN; static is the data
// that the signature also covers (emv.StaticData).
func (h *HSM) ICCCertificate(ctx context.Context, info emv.KeyInfo, static []byte) (c emv.Certificate, err error) {
	issuer, err := h.issuerKey(ctx, info.Key.Algorithm())
	if err != nil {
		return c, err
	}
	if c, err = emv.MakeICCCertificate(issuer.pair, info, static); err != nil {
		return c, fmt.Errorf("card certificate: %w", err)
	}
	return c, nil
}

// SignStatic is tag 93, the signature of a chain's issuer over a card's static
// data.
func (h *HSM) SignStatic(ctx context.Context, a emv.KeyAlgorithm, dac [2]byte, static []byte) ([]byte, error) {
	issuer, err := h.issuerKey(ctx, a)
	if err != nil {
		return nil, err
	}
	return issuer.pair.SignStatic(dac, static)
}

func (h *HSM) issuerKey(ctx context.Context, a emv.KeyAlgorithm) (*key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := chainOf(a)
	return h.key(c.issuer, c.issuerUsage, 0)
}
