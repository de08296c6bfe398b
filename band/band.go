// Package band is the wristband: a secure element behind a contactless front
// end that locks when it is taken off (wear.go, front.go), a battery, what the
// accelerometer counts (activity.go), a firmware of three slots (firmware.go),
// and the agent that lets the house write to the element over the air
// (agent.go). A reader sees only the element (Field); the house sees only the
// agent (Run); a paired phone speaks the radio protocol of
// docs/band-protocol.md (pairing.go, frame.go, radio.go, phone.go). Start with
// Band.
package band

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/card"
	"koala/spec/firmware"
	"koala/spec/iso7816"
)

// MaxIDLen bounds a band's id, bytes.
const MaxIDLen = 64

var (
	// ErrImage says that bytes are no image of a band, or a damaged one.
	ErrImage = errors.New("band: not an intact image of a band")
	// ErrFlat says that the battery cannot carry a session over the air. Taps
	// still work: the reader's field powers them.
	ErrFlat = errors.New("band: battery too low for a session over the air")
	// ErrID says that an id is empty or too long.
	ErrID = errors.New("band: bad id")
)

// minBattery is the charge below which the agent starts no session, percent.
const minBattery = 3

// A Band is one wristband. It belongs to one goroutine.
type Band struct {
	ID      string
	Element *card.Element
	Battery int    // percent
	Policy  Policy // of a locked band

	worn   bool
	lock   lock
	fw     slots
	bonds  []Bond
	hours  []Hour
	synced time.Time // start of the last hour handed over; volatile: telling again changes nothing
	told   told      // what the agent still has to tell
}

// New makes a band around an element: worn, fully charged.
func New(id string, e *card.Element) (*Band, error) {
	if len(id) == 0 || len(id) > MaxIDLen {
		return nil, fmt.Errorf("%w: %d bytes", ErrID, len(id))
	}
	return &Band{ID: id, Element: e, Battery: 100, Policy: DefaultPolicy, worn: true}, nil
}

// Field holds the band to a reader and gives the reader's end of the contact.
// It interrupts a session of the agent, as a real field does. When the
// recovery at power-on is itself cut, the error wraps iso7816.ErrTorn.
func (b *Band) Field() (iso7816.Transmit, error) {
	if err := b.Element.PowerOn(card.Contactless); err != nil {
		return nil, fmt.Errorf("band %s: %w", b.ID, err)
	}
	b.verify()
	return b.routed(), nil
}

// verify tells the element whether the band vouches for who wears it: only a
// band with power, on the wrist since a right passcode.
func (b *Band) verify() {
	b.Element.Vouch(b.lock.set && b.lock.open && b.worn && b.Battery > 0)
}

// Leave takes the band out of the field.
func (b *Band) Leave() { b.Element.PowerOff() }

// A Fault is what the next contact will suffer. The zero Fault is none.
type Fault struct {
	Cut  int // the field goes at this physical write, 1 the next
	Keep int // bytes of that write which still land
	Lose int // this answer is lost after the work is done, 1 the next
}

// Suffer arms a fault and disarms an earlier one.
func (b *Band) Suffer(f Fault) {
	b.Element.Memory().CutAt(f.Cut, f.Keep)
	b.Element.LoseAnswer(f.Lose)
}

// An image is all a band remembers:
//
//	"koala band" 10 | version 1 | id length 1, id | worn 1 | battery 1 | told
//	(length 4) | element's image (length 4) | since version 2, each behind its
//	length 4: policy 1 and lock 58; active, spare and arriving release and
//	flags 1 (bit 1 trial, bit 2 spare is meant); bonds (8 and 16 each); hours
//	| SHA-256 32 of all before
const (
	imageMagic   = "koala band"
	imageVersion = 2
)

// Image writes the band down: the element's memory and the band's own.
func (b *Band) Image() []byte {
	out := append([]byte(imageMagic), imageVersion, byte(len(b.ID)))
	out = append(out, b.ID...)
	worn := byte(0)
	if b.worn {
		worn = 1
	}
	out = append(out, worn, byte(min(max(b.Battery, 0), 100)))
	out = appendPart(out, b.told.bytes())
	out = appendPart(out, b.Element.Image())
	out = appendPart(out, append([]byte{b.Policy.byte()}, b.lock.bytes()...))
	flags := byte(0)
	if b.fw.trial {
		flags |= 1
	}
	if b.fw.hadSpare {
		flags |= 2
	}
	for _, part := range [][]byte{b.fw.active, b.fw.spare, b.fw.arriving, {flags}} {
		out = appendPart(out, part)
	}
	var bonds []byte
	for _, n := range b.bonds {
		bonds = append(append(bonds, n.Peer[:]...), n.LTK[:]...)
	}
	out = appendPart(appendPart(out, bonds), appendHours(nil, b.hours))
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// Load makes the band of an image. Its element is off, and a band with a
// passcode is locked. A release that was still on trial is rolled back: the band
// restarted before it had shown that it works.
func Load(image []byte, catalog card.Catalog, rand io.Reader) (*Band, error) {
	if !bytes.HasPrefix(image, []byte(imageMagic)) || len(image) < len(imageMagic)+1+sha256.Size {
		return nil, fmt.Errorf("%w: %d bytes without its header", ErrImage, len(image))
	}
	version := image[len(imageMagic)]
	if version < 1 || version > imageVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads 1 to %d", ErrImage, version, imageVersion)
	}
	body, sum := image[:len(image)-sha256.Size], image[len(image)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: checksum differs", ErrImage)
	}
	r := reader{rest: body[len(imageMagic)+1:]}
	b := &Band{ID: string(r.take(int(r.number(1)))), Policy: DefaultPolicy}
	b.worn, b.Battery = r.number(1) == 1, int(r.number(1))
	t, ok := parseTold(r.part())
	b.told = t
	element := r.part()
	if version >= 2 {
		ok = b.parseOwn(&r) && ok
	}
	if r.bad || !ok || len(r.rest) != 0 || b.ID == "" || b.Battery > 100 {
		return nil, fmt.Errorf("%w: its parts do not fit", ErrImage)
	}
	var err error
	if b.Element, err = card.Restore(element, catalog, rand); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	if b.fw.trial {
		if err := b.Rollback(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrImage, err)
		}
	}
	b.restrict()
	return b, nil
}

// parseOwn reads what version 2 added.
func (b *Band) parseOwn(r *reader) (ok bool) {
	own := r.part()
	if len(own) == 0 || own[0] > 0x0F {
		return false
	}
	b.Policy = policyOf(own[0])
	if b.lock, ok = parseLock(own[1:]); !ok {
		return false
	}
	for _, slot := range []*[]byte{&b.fw.active, &b.fw.spare, &b.fw.arriving} {
		*slot = bytes.Clone(r.part())
	}
	for _, slot := range [][]byte{b.fw.active, b.fw.spare} {
		if _, err := firmware.Parse(slot); len(slot) > 0 && err != nil {
			return false
		}
	}
	flags := r.part()
	if len(flags) != 1 || flags[0] > 3 || len(b.fw.arriving) > firmware.MaxSize {
		return false
	}
	b.fw.trial, b.fw.hadSpare = flags[0]&1 != 0, flags[0]&2 != 0
	bonds := r.part()
	if len(bonds)%24 != 0 || len(bonds)/24 > MaxBonds {
		return false
	}
	for ; len(bonds) > 0; bonds = bonds[24:] {
		b.bonds = append(b.bonds, Bond{Peer: [8]byte(bonds), LTK: [16]byte(bonds[8:])})
	}
	b.hours, ok = parseHours(r.part())
	return ok
}

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

// A reader takes an image apart; the first failure sticks.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.rest) {
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

func (r *reader) part() []byte { return r.take(int(r.number(4))) }
