// Package reader is a mobile card reader for a small shop, and the phone that
// goes with it. The reader reads stripes and chips, takes the PIN on its own
// pad and has one key for each request (DUKPT): what it hands to the phone is
// cipher text, and the phone, which speaks to the acquirer, never sees a card.
// Start with New and Reader.Handle on one side, NewApp and App.Sell on the
// other; docs/terminal-protocol.md section 13 is what the host sees.
package reader

import (
	"errors"
	"fmt"
	"io"

	"koala/spec/dukpt"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/kernel"
)

// Failures of a reader. On the radio each is one byte, its place in reasons.
var (
	ErrFrame    = errors.New("reader: not a frame of the protocol")
	ErrUnpaired = errors.New("reader: not paired")
	ErrPairing  = errors.New("reader: pairing failed")
	ErrDigits   = errors.New("reader: the six digits were not confirmed")
	ErrTampered = errors.New("reader: it was opened, its keys are gone")
	ErrKeys     = errors.New("reader: no key is left")
	ErrBattery  = errors.New("reader: battery too low")
	ErrLimit    = errors.New("reader: above what it may take")
	ErrCard     = errors.New("reader: no card that could be read")
	ErrPIN      = errors.New("reader: the PIN is entered on the reader, and was not")
	ErrMessage  = errors.New("reader: it does not seal this message")
	ErrAnswer   = errors.New("reader: the answer's MAC is wrong")
	ErrBusy     = errors.New("reader: no card is waiting for an answer")
)

// reasons are the bytes of failures; 0 is none.
var reasons = []error{nil, ErrFrame, ErrUnpaired, ErrPairing, ErrDigits, ErrTampered, ErrKeys, ErrBattery, ErrLimit, ErrCard, ErrPIN, ErrMessage, ErrAnswer, ErrBusy}

// Limits of a small shop, fen, and the battery below which nothing is read, per
// cent.
const (
	DefaultSingle = 5_000_00
	DefaultDaily  = 20_000_00
	lowBattery    = 5
)

// A Presented is a card at the reader: one of the two.
type Presented struct {
	Track2 string // swiped
	Chip   iso7816.Transmit
	Air    bool // held to it, not inserted
}

// A Config is a reader's.
type Config struct {
	Serial string // 7 characters
	Kernel kernel.Config
	Clock  terminal.Clock
	Random io.Reader

	Vault *terminal.Flash // keys, 2 sectors; erased when the reader is opened
	State *terminal.Flash // bonds and the day's sum, 2 sectors

	Slot    func(process string, fen uint64) (Presented, bool) // shows what is to be paid and waits for the card
	PIN     func(fen uint64) (digits string, ok bool)          // the reader's own pad; there is no other way for a PIN
	Confirm func(digits string) bool                           // shows six digits and waits for yes
	Battery func() int                                         // per cent; nil: on a cable
	Single  uint64                                             // largest sale, fen; 0: DefaultSingle
	Daily   uint64                                             // of one day, fen; 0: DefaultDaily
}

// A Reader is one device. After an error wrapping terminal.ErrPower it is dead:
// give its flashes power and make a new one over them.
type Reader struct {
	cfg     Config
	k       *kernel.Kernel
	vault   *vault
	book    *book
	pairing *pairing
	session *session
	held    *held // the card that was read last
	sealed  *used // the request that was sealed last
	failure error // of the device, after which it is dead
}

// A used is the key of a request, for its answer.
type used struct {
	key dukpt.Key
	ksn dukpt.KSN
}

// New starts a reader over what its flashes hold.
func New(cfg Config) (*Reader, error) {
	if cfg.Single == 0 {
		cfg.Single = DefaultSingle
	}
	if cfg.Daily == 0 {
		cfg.Daily = DefaultDaily
	}
	k, err := kernel.New(cfg.Kernel)
	if err != nil {
		return nil, fmt.Errorf("reader: %w", err)
	}
	r := &Reader{cfg: cfg, k: k}
	if r.vault, err = openVault(cfg.Vault); err != nil {
		return nil, err
	}
	if r.book, err = openBook(cfg.State); err != nil {
		return nil, err
	}
	return r, nil
}

// Inject loads the initial key, as the acquirer's loader does.
func (r *Reader) Inject(initial dukpt.Key, ksn dukpt.KSN) error {
	return r.vault.put(dukpt.NewReader(initial, ksn))
}

// Tamper is what happens when the case is opened: keys and bonds go.
func (r *Reader) Tamper() error {
	r.leave()
	r.session, r.pairing, r.sealed = nil, nil, nil
	if err := r.vault.wipe(); err != nil {
		return err
	}
	return r.book.change(func(p *page) { p.bonds = nil })
}

// Failure is what the device died of, nil while it lives.
func (r *Reader) Failure() error { return r.failure }

// usable says whether the reader may take a card now.
func (r *Reader) usable() error {
	switch {
	case r.vault.wiped:
		return ErrTampered
	case r.vault.keys == nil:
		return ErrKeys
	case r.cfg.Battery != nil && r.cfg.Battery() < lowBattery:
		return ErrBattery
	}
	return nil
}

// next takes the key of a request. It is gone from flash before it is used.
func (r *Reader) next() (*used, error) {
	if err := r.vault.usable(); err != nil {
		return nil, err
	}
	key, ksn, err := r.vault.keys.Next()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	if err := r.vault.put(r.vault.keys); err != nil {
		return nil, err
	}
	return &used{key, ksn}, nil
}
