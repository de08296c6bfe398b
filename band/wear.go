package band

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sizes of a passcode, in digits, and the patience with wrong ones.
const (
	MinPasscode = 4
	MaxPasscode = 8
	// freeTries wrong passcodes in a row cost nothing; each one after doubles a
	// wait that begins with firstWait and ends at longestWait.
	freeTries   = 4
	firstWait   = time.Minute
	longestWait = time.Hour
	// rounds of PBKDF2 over a few digits keep nobody out who has the memory of
	// the band; they keep the digits out of a copy of it that is only glanced at.
	rounds = 4096
)

var (
	// ErrPasscode says that the passcode is wrong.
	ErrPasscode = errors.New("band: wrong passcode")
	// ErrWait says that too many passcodes were wrong: see Band.Waits.
	ErrWait = errors.New("band: too many wrong passcodes, wait")
	// ErrDigits says that a new passcode is not 4 to 8 digits.
	ErrDigits = errors.New("band: a passcode has 4 to 8 digits")
	// ErrNotWorn says that a band off the wrist is not unlocked.
	ErrNotWorn = errors.New("band: put the band on before you unlock it")
)

// A Policy says what a locked band still does at a reader. What it leaves out
// is not found there: the reader sees a band without that card.
type Policy struct {
	Ride  bool // transit purses: gates, buses, their machines
	Enter bool // DESFire: doors and canteens
	Pay   bool // payment cards, each up to its own limit without verification (9F6B)
	Offer bool // discount cards
}

// DefaultPolicy lets a locked band ride, open doors and show coupons, not pay.
var DefaultPolicy = Policy{Ride: true, Enter: true, Offer: true}

func (p Policy) byte() (b byte) {
	for i, on := range []bool{p.Ride, p.Enter, p.Pay, p.Offer} {
		if on {
			b |= 1 << i
		}
	}
	return b
}

func policyOf(b byte) Policy {
	return Policy{Ride: b&1 != 0, Enter: b&2 != 0, Pay: b&4 != 0, Offer: b&8 != 0}
}

// A lock is the passcode of a band and how far somebody is with guessing it.
// Whether it is open is volatile: a band without power comes back locked.
type lock struct {
	salt  [16]byte
	hash  [32]byte
	set   bool
	tries int // wrong in a row
	until time.Time
	open  bool // opened since the band was put on
}

func (l *lock) digest(code string) [32]byte {
	h, err := pbkdf2.Key(sha256.New, code, l.salt[:], rounds, 32)
	if err != nil {
		panic("band: PBKDF2 with constant parameters: " + err.Error())
	}
	return [32]byte(h)
}

func (l *lock) fits(code string) bool {
	d := l.digest(code)
	return subtle.ConstantTimeCompare(d[:], l.hash[:]) == 1
}

// Worn tells whether the band is on a wrist.
func (b *Band) Worn() bool { return b.worn }

// Wear puts the band on or takes it off. Taking it off locks it: one passcode
// is good for one wearing.
func (b *Band) Wear(on bool) {
	if b.worn = on; !on {
		b.lock.open = false
	}
	b.verify()
}

// Protected tells whether the band has a passcode at all. Without one it is
// never locked, and vouches for nobody.
func (b *Band) Protected() bool { return b.lock.set }

// Locked tells whether the band waits for its passcode.
func (b *Band) Locked() bool { return b.lock.set && !(b.worn && b.lock.open) }

// Waits is until when no passcode is taken; zero when it is now.
func (b *Band) Waits(now time.Time) time.Time {
	if now.Before(b.lock.until) {
		return b.lock.until
	}
	return time.Time{}
}

// Unlock opens the band for this wearing. Wrong passcodes cost waiting time
// after the fourth in a row.
func (b *Band) Unlock(code string, now time.Time) error {
	switch {
	case !b.lock.set:
		return nil
	case !b.worn:
		return ErrNotWorn
	}
	if err := b.try(code, now); err != nil {
		return err
	}
	b.lock.open = true
	b.verify()
	return nil
}

// try compares a passcode and counts.
func (b *Band) try(code string, now time.Time) error {
	l := &b.lock
	if now.Before(l.until) {
		return fmt.Errorf("%w until %s", ErrWait, l.until.UTC().Format(time.TimeOnly))
	}
	if l.fits(code) {
		l.tries, l.until = 0, time.Time{}
		return nil
	}
	if l.tries++; l.tries > freeTries {
		l.until = now.Add(min(firstWait<<min(l.tries-freeTries-1, 10), longestWait))
	}
	return ErrPasscode
}

// SetPasscode gives the band a passcode, or another one after the old one was
// right, or none when code is empty. The band stays open for this wearing.
func (b *Band) SetPasscode(old, code string, salt io.Reader, now time.Time) error {
	if b.lock.set {
		if err := b.try(old, now); err != nil {
			return err
		}
	}
	if code == "" {
		b.lock = lock{}
		b.verify()
		return nil
	}
	if len(code) < MinPasscode || len(code) > MaxPasscode {
		return ErrDigits
	}
	for _, c := range code {
		if c < '0' || c > '9' {
			return ErrDigits
		}
	}
	l := lock{set: true, open: b.worn}
	if _, err := io.ReadFull(salt, l.salt[:]); err != nil {
		return fmt.Errorf("band: salt of a passcode: %w", err)
	}
	l.hash = l.digest(code)
	b.lock = l
	b.verify()
	return nil
}

// bytes writes the lock for the image: set 1 | salt 16 | hash 32 | tries 1 |
// until (microseconds) 8. An open lock is not remembered.
func (l *lock) bytes() []byte {
	out := make([]byte, 1+16+32+1+8)
	if l.set {
		out[0] = 1
	}
	copy(out[1:], l.salt[:])
	copy(out[17:], l.hash[:])
	out[49] = byte(min(l.tries, 255))
	until := uint64(0)
	if !l.until.IsZero() {
		until = uint64(l.until.UnixMicro())
	}
	for i := range 8 {
		out[50+i] = byte(until >> (56 - 8*i))
	}
	return out
}

func parseLock(b []byte) (l lock, ok bool) {
	if len(b) != 58 || b[0] > 1 {
		return l, false
	}
	l.set, l.tries = b[0] == 1, int(b[49])
	copy(l.salt[:], b[1:])
	copy(l.hash[:], b[17:])
	until := int64(0)
	for _, c := range b[50:] {
		until = until<<8 | int64(c)
	}
	if until != 0 {
		l.until = time.UnixMicro(until).UTC()
	}
	return l, true
}
