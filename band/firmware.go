package band

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"koala/card"
	"koala/spec/iso7816"
)

// A band runs one release of its firmware's card catalogue, keeps the one
// before it, and can hold a third one that is still arriving. A release is
// signed as a whole; it is tried before it is kept:
//
//	Receive (pieces, any number of sessions) → Install (signature, battery,
//	self-test; the old release moves to the spare slot) → Keep (after the band
//	has spoken with the house under it)
//
// A restart before Keep, or Rollback at any time, brings the spare slot back.

// Limits of a release.
const (
	MaxModules  = 32
	MaxRelease  = 4 << 10 // bytes, signature included
	maxNotes    = 200     // bytes a language
	firmwareMin = 20      // percent of battery that an installation needs
)

var (
	// ErrRelease says that bytes are no release.
	ErrRelease = errors.New("band: not a release of the card catalogue")
	// ErrSignature says that a release is not signed by the band's maker.
	ErrSignature = errors.New("band: the release's signature does not verify")
	// ErrOldRelease says that a release is not newer than what the band runs.
	ErrOldRelease = errors.New("band: the release is not newer than what the band runs")
	// ErrSelfTest says that the band does not work under a release and has gone
	// back to the one before.
	ErrSelfTest = errors.New("band: self-test under the new release failed, the old one is back")
	// ErrNothing says that there is no release to go back to, or none received.
	ErrNothing = errors.New("band: no such release on the band")
	// ErrPiece says that a piece of a release does not follow the last one.
	ErrPiece = errors.New("band: a piece of the release is missing before this one")
)

// A Module is one line of a release: what may be installed, and its version.
type Module struct {
	LoadFile, Module card.AID
	Version          [2]byte
}

// A Release says what the element may install under it.
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
	if len(r.Modules) > MaxModules || len(r.EN) > maxNotes || len(r.ZH) > maxNotes || r.Version == 0 {
		return nil, fmt.Errorf("release %d: %w", r.Version, ErrRelease)
	}
	b := append([]byte(releaseMagic), releaseFormat)
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
	releaseMagic  = "koala release"
	releaseFormat = 1
)

// ParseRelease reads a release. Its signature is checked by the band that
// installs it.
func ParseRelease(signed []byte) (r Release, err error) {
	head := len(releaseMagic) + 1
	if len(signed) > MaxRelease || len(signed) < head+ed25519.SignatureSize || !bytes.HasPrefix(signed, []byte(releaseMagic)) || signed[head-1] != releaseFormat {
		return r, fmt.Errorf("%w: %d bytes without its header", ErrRelease, len(signed))
	}
	p := reader{rest: signed[head : len(signed)-ed25519.SignatureSize]}
	r.Version = p.number(4)
	for n := p.number(1); n > 0 && !p.bad; n-- {
		m := Module{LoadFile: card.AID(p.take(int(p.number(1)))), Module: card.AID(p.take(int(p.number(1))))}
		copy(m.Version[:], p.take(2))
		r.Modules = append(r.Modules, m)
	}
	r.EN, r.ZH = string(p.take(int(p.number(1)))), string(p.take(int(p.number(1))))
	if p.bad || len(p.rest) > 0 || r.Version == 0 || len(r.Modules) > MaxModules || len(r.EN) > maxNotes || len(r.ZH) > maxNotes {
		return Release{}, fmt.Errorf("%w: its parts do not fit", ErrRelease)
	}
	return r, nil
}

func (r Release) allows(loadFile, module card.AID) bool {
	return slices.ContainsFunc(r.Modules, func(m Module) bool { return m.LoadFile == loadFile && m.Module == module })
}

// A firmware is the three slots. Empty active is the factory's: everything the
// element was built with.
type firmware struct {
	active, spare, arriving []byte
	trial                   bool // active is not kept yet
	hadSpare                bool // spare is meant, even where it is the factory's
}

// Firmware is the version the band runs, 0 the factory's, and whether it is
// still on trial.
func (b *Band) Firmware() (version uint32, trial bool) {
	if len(b.fw.active) == 0 {
		return 0, b.fw.trial
	}
	r, err := ParseRelease(b.fw.active)
	if err != nil {
		panic("band: the active release was checked when it was installed: " + err.Error())
	}
	return r.Version, b.fw.trial
}

// Received is how many bytes of an arriving release the band has.
func (b *Band) Received() int { return len(b.fw.arriving) }

// Receive takes a piece of a release that begins at byte at. A piece the band
// already has changes nothing; at 0 begins anew.
func (b *Band) Receive(at int, piece []byte) error {
	switch have := len(b.fw.arriving); {
	case at == 0:
		b.fw.arriving = b.fw.arriving[:0:0]
	case at > have:
		return fmt.Errorf("%w: at %d, have %d", ErrPiece, at, have)
	case at+len(piece) <= have:
		return nil
	}
	if at+len(piece) > MaxRelease {
		return fmt.Errorf("%w: longer than %d bytes", ErrRelease, MaxRelease)
	}
	b.fw.arriving = append(b.fw.arriving[:at:at], piece...)
	return nil
}

// Install puts the release that has arrived in force, on trial. What is not
// right with it leaves the band as it was.
func (b *Band) Install(maker ed25519.PublicKey) error {
	signed := b.fw.arriving
	r, err := ParseRelease(signed)
	if err != nil {
		return err
	}
	now, trial := b.Firmware()
	at := len(signed) - ed25519.SignatureSize
	switch {
	case len(maker) != ed25519.PublicKeySize || !ed25519.Verify(maker, signed[:at], signed[at:]):
		b.fw.arriving = nil
		return ErrSignature
	case r.Version <= now:
		b.fw.arriving = nil
		return fmt.Errorf("%w: %d, runs %d", ErrOldRelease, r.Version, now)
	case b.Battery < firmwareMin:
		return fmt.Errorf("band %s at %d %%: %w", b.ID, b.Battery, ErrFlat)
	}
	if !trial { // a release on trial is replaced, not kept as something to go back to
		b.fw.spare, b.fw.hadSpare = b.fw.active, true
	}
	b.fw.active, b.fw.arriving, b.fw.trial = signed, nil, true
	b.restrict()
	if !b.selfTest(r) {
		return errors.Join(ErrSelfTest, b.Rollback())
	}
	return nil
}

// selfTest: the element starts, its security domain answers, and nothing that
// lives on it is left without code.
func (b *Band) selfTest(r Release) bool {
	if b.Element.PowerOn(card.Contact) != nil {
		return false
	}
	defer b.Element.PowerOff()
	if a, err := b.Element.Transmit(iso7816.Select(nil)); err != nil || !a.SW.OK() {
		return false
	}
	for _, x := range b.Element.Entries() {
		if x.Kind == card.Application && !r.allows(x.LoadFile, x.Module) {
			return false
		}
	}
	return true
}

// Keep ends the trial.
func (b *Band) Keep() { b.fw.trial = false }

// Rollback brings the release before the active one back.
func (b *Band) Rollback() error {
	if !b.fw.hadSpare {
		return ErrNothing
	}
	b.fw.active, b.fw.spare, b.fw.trial, b.fw.hadSpare = b.fw.spare, nil, false, false
	b.restrict()
	return nil
}

// restrict tells the element what the active release lets in.
func (b *Band) restrict() {
	if len(b.fw.active) == 0 {
		b.Element.Restrict(nil)
		return
	}
	r, err := ParseRelease(b.fw.active)
	if err != nil {
		panic("band: the active release was checked when it was installed: " + err.Error())
	}
	b.Element.Restrict(r.allows)
}
