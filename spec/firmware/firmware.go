// Package firmware is the signed release of a band's card catalogue: which
// modules its element may install. The house signs one, the band checks and
// tries it (docs/band-protocol.md). Start at Release.
package firmware

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Limits of a release.
const (
	MaxModules = 32
	MaxSize    = 4 << 10 // bytes, signature included
	MaxNotes   = 200     // bytes a language
)

// ErrRelease says that bytes are no release.
var ErrRelease = errors.New("firmware: not a release of the card catalogue")

// A Module is one line of a release: what may be installed, and its version.
type Module struct {
	LoadFile, Module string // raw bytes
	Version          [2]byte
}

// A Release says what an element may install under it.
type Release struct {
	Version uint32
	Modules []Module
	EN, ZH  string // what is new, for the wearer
}

// Sign writes a release down and signs it:
//
//	"koala release" 13 | format 1 | version 4 | n 1 | n × (load file, module:
//	length 1 and bytes; version 2) | notes EN, ZH: length 1 and bytes | Ed25519 64
func (r Release) Sign(sign func([]byte) ([]byte, error)) ([]byte, error) {
	if len(r.Modules) > MaxModules || len(r.EN) > MaxNotes || len(r.ZH) > MaxNotes || r.Version == 0 {
		return nil, fmt.Errorf("release %d: %w", r.Version, ErrRelease)
	}
	b := append([]byte(magic), format)
	b = append(binary.BigEndian.AppendUint32(b, r.Version), byte(len(r.Modules)))
	for _, m := range r.Modules {
		b = append(append(b, byte(len(m.LoadFile))), m.LoadFile...)
		b = append(append(append(b, byte(len(m.Module))), m.Module...), m.Version[:]...)
	}
	b = append(append(b, byte(len(r.EN))), r.EN...)
	b = append(append(b, byte(len(r.ZH))), r.ZH...)
	sig, err := sign(b)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("signing release %d: %w", r.Version, errors.Join(ErrRelease, err))
	}
	return append(b, sig...), nil
}

const (
	magic  = "koala release"
	format = 1
)

// Parse reads a release. Its signature is checked by the band that
// installs it.
func Parse(signed []byte) (r Release, err error) {
	head := len(magic) + 1
	if len(signed) > MaxSize || len(signed) < head+ed25519.SignatureSize || !bytes.HasPrefix(signed, []byte(magic)) || signed[head-1] != format {
		return r, fmt.Errorf("%w: %d bytes without its header", ErrRelease, len(signed))
	}
	p := reader{rest: signed[head : len(signed)-ed25519.SignatureSize]}
	r.Version = p.number(4)
	for n := p.number(1); n > 0 && !p.bad; n-- {
		m := Module{LoadFile: string(p.take(int(p.number(1)))), Module: string(p.take(int(p.number(1))))}
		copy(m.Version[:], p.take(2))
		r.Modules = append(r.Modules, m)
	}
	r.EN, r.ZH = string(p.take(int(p.number(1)))), string(p.take(int(p.number(1))))
	if p.bad || len(p.rest) > 0 || r.Version == 0 || len(r.Modules) > MaxModules || len(r.EN) > MaxNotes || len(r.ZH) > MaxNotes {
		return Release{}, fmt.Errorf("%w: its parts do not fit", ErrRelease)
	}
	return r, nil
}

// Allows tells whether a module may be installed under the release.
func (r Release) Allows(loadFile, module string) bool {
	return slices.ContainsFunc(r.Modules, func(m Module) bool { return m.LoadFile == loadFile && m.Module == module })
}

// A reader takes a release apart; the first failure sticks.
type reader struct {
	rest []byte
	bad  bool
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
