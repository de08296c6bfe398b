// Package unionpay is a shop's terminal that speaks the UnionPay POS dialect to
// an acquirer, as docs/terminal-protocol.md writes it down: sign-on and working
// keys, every kind of transaction by chip, tap, stripe, number and code,
// reversals, settlement, downloads, receipts and signatures. Chip cards are
// served by terminal/pos below it. All that must outlive a power failure is in
// flash: whenever power goes, shop and cardholder end equal, because a request
// is kept before it is sent and reversed unless its answer is kept too.
// Start with New and Terminal.Do.
package unionpay

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"koala/spec/iso8583"
	"koala/terminal"
	"koala/terminal/pos"
)

// Failures of a terminal. A decline is none: see Result.
var (
	ErrNotSent  = errors.New("unionpay: the request was not sent")
	ErrNoAnswer = errors.New("unionpay: no answer from the host")
	ErrAnswer   = errors.New("unionpay: the host's answer does not belong to the request")
	ErrMAC      = errors.New("unionpay: the MAC of the answer is wrong")
	ErrReversal = errors.New("unionpay: a reversal is waiting: nothing new until the host has it")
	ErrSettle   = errors.New("unionpay: the batch is being settled: finish that first")
	ErrRefused  = errors.New("unionpay: the host refused")
	ErrOriginal = errors.New("unionpay: no such transaction in the batch")
	ErrUndone   = errors.New("unionpay: this transaction is taken back already")
	ErrOrder    = errors.New("unionpay: the transaction lacks something, or has what it may not have")
	ErrUseChip  = errors.New("unionpay: the card has a chip: insert it")
	ErrLimit    = errors.New("unionpay: above what this terminal may take")
	ErrFull     = errors.New("unionpay: the journal is full: settle")
)

// A Line carries one request at a time to the host and its answer back, both
// without their length. An error that wraps ErrNotSent says that nothing of the
// request left; after any other the host may have it.
type Line interface {
	Exchange(request []byte) (answer []byte, err error)
}

// DefaultResend is how often a reversal goes without an answer before the
// terminal prints it for a person. It is kept and repeated all the same.
const DefaultResend = 3

// DefaultHeader is the transport address and header of a terminal's requests.
var DefaultHeader = iso8583.POSHeader{Destination: 0x0003, Application: 0x60, Version: 0x31, State: 0x00, Rest: [3]byte{0x31, 0x13, 0x12}}

// A Config is a terminal's.
type Config struct {
	// Till is what serves chip cards: its clock, chance and flashes are the
	// terminal's too. Issuer and OnlinePIN are set by New, CA keys and AID
	// parameters that were downloaded are added.
	Till pos.Config
	Line Line
	Keys Module

	Journal *terminal.Flash // the open batch, at least 6 sectors
	State   *terminal.Flash // counters, at least 2 sectors
	Packs   *terminal.Flash // what is downloaded, at least 16 sectors

	// Signed are the public keys under which a pack of parameters, CA keys and AID
	// parameters has to be signed; none: they are taken as they come.
	Signed []ed25519.PublicKey

	PIN      func(fen uint64) (digits string, ok bool) // the pad, for PINs that the host checks; nil: none
	Operator string                                    // three digits; empty: 001
	Header   iso8583.POSHeader                         // zero: DefaultHeader

	Single     bool // signs on for keys of single length (001): the host has to be told to give such
	SealTracks bool // sends tracks with eight bytes under the track key
}

// A Terminal is one device. After an error wrapping terminal.ErrPower it is
// dead: give its flashes power and make a new one over them.
type Terminal struct {
	cfg     Config
	till    *pos.Till
	journal *journal
	book    *book
	packs   *packs
	zone    *time.Location

	act      *act     // of the chip card being served
	answered []byte   // field 55 of the last answer
	fallback bool     // the last chip reading failed
	wrong    int      // answers A0 in a row
	wants    byte     // what the host asked for in its last header
	refused  []string // CA keys of the last download
}

// New starts a terminal over what its flashes hold. A batch whose end was
// answered is forgotten; chip approvals that the journal lacks are taken over.
func New(cfg Config) (*Terminal, error) {
	if cfg.Header == (iso8583.POSHeader{}) {
		cfg.Header = DefaultHeader
	}
	if cfg.Operator == "" {
		cfg.Operator = "001"
	}
	t := &Terminal{cfg: cfg, zone: cfg.Till.Kernel.Zone}
	if t.zone == nil {
		t.zone = time.FixedZone("CST", 8*3600)
	}
	var err error
	if t.journal, err = openJournal(cfg.Journal); err != nil {
		return nil, t.failed(err)
	}
	if t.book, err = openBook(cfg.State); err != nil {
		return nil, t.failed(err)
	}
	if t.packs, err = openPacks(cfg.Packs); err != nil {
		return nil, t.failed(err)
	}
	if err := t.openTill(); err != nil {
		return nil, t.failed(err)
	}
	if err := t.recover(); err != nil {
		return nil, t.failed(err)
	}
	return t, nil
}

// openTill makes the part that serves chip cards, by what is downloaded.
func (t *Terminal) openTill() error {
	cfg := t.cfg.Till
	cfg.Clock = shifted{t}
	cfg.Issuer = t.issuer
	cfg.OnlinePIN = t.onlinePIN
	if err := t.packs.apply(&cfg.Kernel); err != nil {
		return err
	}
	till, err := pos.New(cfg)
	if err != nil {
		return err
	}
	t.till = till
	return nil
}

// recover finishes at a start what a power failure cut off.
func (t *Terminal) recover() error {
	if t.book.phase == closed {
		return t.forget()
	}
	for _, e := range t.journal.list { // left of a batch that is over
		if e.Batch != t.book.batch {
			if err := t.journal.release(); err != nil {
				return err
			}
			break
		}
	}
	return t.absorb()
}

func (t *Terminal) failed(err error) error {
	return fmt.Errorf("unionpay %s: %w", t.cfg.Till.Kernel.TerminalID, err)
}

// shifted is the terminal's clock, set by the host.
type shifted struct{ t *Terminal }

// Now is the host's time as far as it has been told.
func (s shifted) Now() time.Time {
	return s.t.cfg.Till.Clock.Now().Add(time.Duration(s.t.book.shift) * time.Second)
}

// Now is the terminal's time, set by the answer to its last sign-on.
func (t *Terminal) Now() time.Time { return shifted{t}.Now().In(t.zone) }

// Batch is the number of the open batch, STAN the trace of the next request.
func (t *Terminal) Batch() uint32 { return t.book.batch }

// SignedOn says that the host's keys are there and count.
func (t *Terminal) SignedOn() bool { return t.book.signedOn && t.cfg.Keys.Ready() }

// Settling says that the batch's totals were sent: it is to be settled to its
// end before anything else.
func (t *Terminal) Settling() bool { return t.book.phase != trading }

// Totals are those of the open batch.
func (t *Terminal) Totals() Totals { return t.journal.totals() }

// Entries are the transactions of the open batch in the order they came.
func (t *Terminal) Entries() []*Entry {
	out := make([]*Entry, 0, len(t.journal.list))
	for _, e := range t.journal.list {
		out = append(out, e.copy())
	}
	return out
}

// Pending are the transactions that wait: for their reversal, for the host's
// answer, or for the card that left with a load.
func (t *Terminal) Pending() ([]*Entry, error) {
	list, err := t.journal.intents()
	for _, e := range list {
		if _, ok := t.doubt(e); ok && e.Kind.load() && e.Get(38) != "" {
			e.State = Unsure
		}
	}
	return list, err
}

// Undone says whether an entry of the batch was voided or cancelled.
func (t *Terminal) Undone(e *Entry) bool {
	f := t.journal.by[e.key()]
	return f != nil && f.gone()
}

// A Want is what the host asks the terminal to do next, in the header of its
// answers.
type Want byte

// What a host can want.
const (
	WantNothing    Want = 0
	WantParameters Want = 1
	WantStatus     Want = 2
	WantSignOn     Want = 3
	WantCAKeys     Want = 4
	WantAIDs       Want = 5
	WantBlackList  Want = 7
)

// Wants is what the last answer asked for.
func (t *Terminal) Wants() Want { return Want(t.wants) }

// Till is the part that serves chip cards, for its exception list and balance.
func (t *Terminal) Till() *pos.Till { return t.till }

// Parameters are those the host has set.
func (t *Terminal) Parameters() Parameters { return t.packs.parameters }
