package pack

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"koala/spec/emv"
)

// Parse reads a pack without its signature's check, for those who show one; a
// terminal uses Open.
func Parse(signed []byte) (Pack, error) {
	n := len(signed) - ed25519.SignatureSize
	if len(signed) > MaxSize || n < head || !bytes.HasPrefix(signed, []byte(magic)) || signed[len(magic)] != format {
		return Pack{}, fmt.Errorf("%w: %d bytes without its header", ErrPack, len(signed))
	}
	r := reader{rest: bytes.Clone(signed[len(magic)+1 : n])}
	p := Pack{Number: r.number(4), Black: r.number(4)}
	for n := r.number(1); n > 0 && !r.bad; n-- {
		p.Parameters = append(p.Parameters, Parameter{byte(r.number(1)), string(r.sized(1))})
	}
	for n := r.number(1); n > 0 && !r.bad; n-- {
		p.Applications = append(p.Applications, Application{r.sized(1), r.sized(2)})
	}
	for n := r.number(1); n > 0 && !r.bad; n-- {
		k, err := r.key()
		if err != nil {
			return Pack{}, err
		}
		p.Keys = append(p.Keys, k)
	}
	if r.bad || len(r.rest) > 0 {
		return Pack{}, fmt.Errorf("%w: its parts do not fit", ErrPack)
	}
	if err := p.check(); err != nil {
		return Pack{}, err
	}
	return p, nil
}

// key reads one CA key.
func (r *reader) key() (emv.CAKey, error) {
	rid, index, alg, last := r.take(5), r.number(1), emv.KeyAlgorithm(r.number(1)), string(r.take(8))
	k := emv.CAKey{Algorithm: alg, Modulus: r.sized(2), Exponent: r.sized(1)}
	if r.bad || alg == 0 {
		return emv.CAKey{}, fmt.Errorf("%w: a CA key does not fit", ErrPack)
	}
	public, err := k.Public()
	if err != nil {
		return emv.CAKey{}, fmt.Errorf("%w: CA key %X/%02X: %w", ErrPack, rid, index, err)
	}
	k = emv.NewCAKey([5]byte(rid), byte(index), public)
	k.Last = last
	return k, r.same(k, alg)
}

// A reader takes a pack apart; the first failure sticks.
type reader struct {
	rest []byte
	bad  bool
	last [2][]byte // of sized, to hold a key against what it was read from
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) number(n int) (v uint32) {
	for _, b := range r.take(n) {
		v = v<<8 | uint32(b)
	}
	return v
}

// sized reads a length of n bytes and what it measures.
func (r *reader) sized(n int) []byte {
	out := r.take(int(r.number(n)))
	r.last[0], r.last[1] = r.last[1], out
	return out
}

// same refuses a key that would be written otherwise than it was read.
func (r *reader) same(k emv.CAKey, alg emv.KeyAlgorithm) error {
	if algorithm(k.Algorithm) != alg || !bytes.Equal(k.Modulus, r.last[0]) || !bytes.Equal(k.Exponent, r.last[1]) {
		return fmt.Errorf("%w: CA key %X/%02X has another form", ErrPack, k.RID, k.Index)
	}
	return nil
}
