package band

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"koala/card"
	"koala/spec/firmware"
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

// firmwareMin is the percent of battery that an installation needs.
const firmwareMin = 20

var (
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

// slots hold releases. Empty active is the factory's: everything the element
// was built with.
type slots struct {
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
	r, err := firmware.Parse(b.fw.active)
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
	if at+len(piece) > firmware.MaxSize {
		return fmt.Errorf("%w: longer than %d bytes", firmware.ErrRelease, firmware.MaxSize)
	}
	b.fw.arriving = append(b.fw.arriving[:at:at], piece...)
	return nil
}

// Install puts the release that has arrived in force, on trial. What is not
// right with it leaves the band as it was.
func (b *Band) Install(maker ed25519.PublicKey) error {
	signed := b.fw.arriving
	r, err := firmware.Parse(signed)
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
func (b *Band) selfTest(r firmware.Release) bool {
	if b.Element.PowerOn(card.Contact) != nil {
		return false
	}
	defer b.Element.PowerOff()
	if a, err := b.Element.Transmit(iso7816.Select(nil)); err != nil || !a.SW.OK() {
		return false
	}
	for _, x := range b.Element.Entries() {
		if x.Kind == card.Application && !r.Allows(string(x.LoadFile), string(x.Module)) {
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
	r, err := firmware.Parse(b.fw.active)
	if err != nil {
		panic("band: the active release was checked when it was installed: " + err.Error())
	}
	b.Element.Restrict(func(file, module card.AID) bool { return r.Allows(string(file), string(module)) })
}
