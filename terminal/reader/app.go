package reader

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"koala/spec/dukpt"
	"koala/spec/iso8583"
	"koala/terminal/kernel"
	"koala/terminal/unionpay"
)

// A Link carries one frame to the reader and its answer back: the radio.
type Link interface {
	Exchange(frame []byte) (answer []byte, err error)
}

// A Bond is what a phone remembers of a reader.
type Bond struct {
	Peer [8]byte // the phone's own name
	Key  [16]byte
}

// String shows no key.
func (b Bond) String() string { return fmt.Sprintf("bond of %X", b.Peer) }

// GoString is String.
func (b Bond) GoString() string { return b.String() }

// Pair pairs a phone with a reader: confirm shows six digits and waits for yes.
func Pair(link Link, random io.Reader, confirm func(digits string) bool) (Bond, error) {
	p, err := newPairing(random)
	if err != nil {
		return Bond{}, err
	}
	if _, err := io.ReadFull(random, p.peer[:]); err != nil {
		return Bond{}, fmt.Errorf("reader: chance: %w", err)
	}
	p.phone = p.key.PublicKey().Bytes()
	a, err := plain(link, framePair, append(p.peer[:], p.phone...), publicLen+32)
	if err != nil {
		return Bond{}, err
	}
	p.own = bytes.Clone(a[:publicLen])
	if err := p.meet(p.own); err != nil {
		return Bond{}, err
	}
	promise := a[publicLen:]
	if a, err = plain(link, frameNonce, p.nonce[:], nonceLen); err != nil {
		return Bond{}, err
	}
	nonce := [nonceLen]byte(a)
	if !hmac.Equal(promise, p.commit(nonce)) {
		return Bond{}, ErrPairing
	}
	if err := p.agree(p.nonce, nonce); err != nil {
		return Bond{}, err
	}
	if !confirm(p.digits(p.nonce, nonce)) {
		return Bond{}, ErrDigits
	}
	if a, err = plain(link, frameCheck, check(p.bond, []byte("phone")), 32); err != nil {
		return Bond{}, err
	}
	if !hmac.Equal(a, check(p.bond, []byte("reader"))) {
		return Bond{}, ErrPairing
	}
	return Bond{p.peer, [16]byte(p.bond)}, nil
}

// plain sends a frame outside of a session and wants an answer of n bytes.
func plain(link Link, kind byte, body []byte, n int) ([]byte, error) {
	a, err := link.Exchange(append([]byte{kind}, body...))
	switch {
	case err != nil:
		return nil, err
	case len(a) == 2 && a[0] == frameRefused:
		return nil, failure(a[1])
	case len(a) != 1+n || a[0] != kind|frameAnswer:
		return nil, ErrFrame
	}
	return a[1:], nil
}

// failure is the error of a reason.
func failure(reason byte) error {
	if int(reason) < len(reasons) && reason != 0 {
		return reasons[reason]
	}
	return ErrFrame
}

// A remote is the reader from the phone's side; it is the terminal's keys.
type remote struct {
	link    Link
	bond    Bond
	random  io.Reader
	session *session
}

// open begins a session.
func (x *remote) open() error {
	var nonce [nonceLen]byte
	if _, err := io.ReadFull(x.random, nonce[:]); err != nil {
		return fmt.Errorf("reader: chance: %w", err)
	}
	a, err := plain(x.link, frameOpen, append(x.bond.Peer[:], nonce[:]...), nonceLen+32)
	if err != nil {
		return err
	}
	own := [nonceLen]byte(a)
	if !hmac.Equal(a[nonceLen:], check(x.bond.Key[:], []byte("open"), nonce[:], own[:])) {
		return ErrUnpaired
	}
	x.session, err = newSession(x.bond.Key[:], nonce, own, false)
	return err
}

// ask sends one request of a session. A radio that failed begins a new one the
// next time.
func (x *remote) ask(op byte, body []byte) ([]byte, error) {
	if x.session == nil {
		if err := x.open(); err != nil {
			return nil, err
		}
	}
	frame := x.session.seal(append([]byte{op}, body...))
	a, err := x.link.Exchange(frame)
	if err == nil && len(a) == 2 && a[0] == frameRefused {
		err = failure(a[1])
	}
	if err == nil {
		a, err = x.session.open(a)
	}
	if err == nil && len(a) == 0 {
		err = ErrFrame
	}
	if err != nil {
		x.session = nil
		return nil, err
	}
	if a[0] != 0 {
		return nil, failure(a[0])
	}
	return a[1:], nil
}

// Injected, Ready and SealsSignOn say what the reader is: see unionpay.Module.
func (x *remote) Injected() bool    { return true }
func (x *remote) Ready() bool       { return true }
func (x *remote) SealsSignOn() bool { return true }

// Accept takes no keys: there is one for each request.
func (x *remote) Accept([]byte) error { return nil }

// PINBlock makes none: a PIN is entered on the reader only.
func (x *remote) PINBlock(string, string) ([]byte, error) { return nil, ErrPIN }

// Seal has the reader put its serial number and the MAC on a message.
func (x *remote) Seal(m *iso8583.Message) ([]byte, error) {
	wire, err := m.AppendTo(nil)
	if err != nil {
		return nil, err
	}
	return x.ask(opSeal, wire)
}

// Verify has the reader check an answer.
func (x *remote) Verify(a *iso8583.Message) error {
	wire, err := a.AppendTo(nil)
	if err == nil {
		_, err = x.ask(opVerify, wire)
	}
	return err
}

// An App is the phone's part: a terminal whose keys and cards are the reader's.
// What it does beside selling (settlement, receipts, reprints, signatures) is
// unionpay.Terminal's.
type App struct {
	*unionpay.Terminal
	reader *remote
}

// NewApp starts the phone's part over what its flashes hold. Keys and PIN of the
// Config are set here.
func NewApp(cfg unionpay.Config, link Link, bond Bond) (*App, error) {
	x := &remote{link: link, bond: bond, random: cfg.Till.Random}
	cfg.Keys, cfg.PIN = x, nil
	t, err := unionpay.New(cfg)
	if err != nil {
		return nil, err
	}
	return &App{t, x}, nil
}

// A Status is a reader as the phone shows it.
type Status struct {
	Battery      int // per cent
	Single, Left uint64
	Next         dukpt.KSN // of the next request
	Serial       string
}

// Status asks the reader.
func (a *App) Status() (s Status, err error) {
	b, err := a.reader.ask(opStatus, nil)
	if err != nil {
		return s, err
	}
	if len(b) < 27 {
		return s, ErrFrame
	}
	return Status{int(b[0]), binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:]), dukpt.KSN(b[17:]), string(b[27:])}, nil
}

// processes are what a reader shows by kind.
var processes = map[unionpay.Kind]string{unionpay.Sale: "000000", unionpay.PreAuth: "030000", unionpay.Balance: "310000"}

// Sell takes a card on the reader for a sale, a pre-authorisation or a balance
// inquiry.
func (a *App) Sell(o unionpay.Order) (unionpay.Result, error) {
	process, ok := processes[o.Kind]
	if !ok || o.STAN != 0 {
		return unionpay.Result{}, unionpay.ErrOrder
	}
	return a.take(process, o.Fen, o)
}

// voids are the kinds that take back others.
var voids = map[unionpay.Kind]unionpay.Kind{unionpay.Sale: unionpay.SaleVoid, unionpay.PreAuth: unionpay.PreAuthCancel}

// Void takes back a transaction of the open batch: the card is presented again.
func (a *App) Void(stan uint32) (unionpay.Result, error) {
	e, ok := a.Entry(stan)
	if !ok || voids[e.Kind] == unionpay.NoKind {
		return unionpay.Result{}, unionpay.ErrOriginal
	}
	return a.take(processVoid, e.Fen(), unionpay.Order{Kind: voids[e.Kind], STAN: stan})
}

// Refund gives back part or all of a sale of any day to the card that paid: it
// is presented again. rrn is the sale's reference, field 37.
func (a *App) Refund(rrn string, fen uint64) (unionpay.Result, error) {
	if rrn == "" || fen == 0 {
		return unionpay.Result{}, unionpay.ErrOrder
	}
	return a.take(processVoid, fen, unionpay.Order{Kind: unionpay.Refund, Fen: fen, RRN: rrn})
}

func (a *App) take(process string, fen uint64, o unionpay.Order) (unionpay.Result, error) {
	if err := a.Ready(); err != nil { // serial numbers only rise: nothing may go between the card and its request
		return unionpay.Result{}, err
	}
	b, err := a.reader.ask(opRead, binary.BigEndian.AppendUint64([]byte(process), fen))
	if err != nil {
		return unionpay.Result{}, err
	}
	if o.Sealed, err = parseHeld(b); err != nil {
		return unionpay.Result{}, err
	}
	if len(o.Sealed.Chip) > 0 && process != processVoid { // a void needs no word of the card
		o.Sealed.Finish = a.finish
	}
	res, err := a.Do(o)
	if o.Sealed.Chip != nil && (err != nil || !res.Approved || process == processVoid) {
		_, _ = a.reader.ask(opCancel, nil) // the card need not wait; if the radio is gone neither does it
	}
	return res, err
}

// processVoid is the processing code of what takes back.
const processVoid = "200000"

// finish gives the host's approval to the chip that waits in the reader.
func (a *App) finish(h kernel.Answer) (chip []byte, took bool) {
	approved := byte(0)
	if h.Approves() {
		approved = 1
	}
	b, err := a.reader.ask(opAnswer, append(append([]byte{approved}, h.ARC...), h.Data...))
	if err != nil || len(b) == 0 {
		return nil, false
	}
	return b[1:], b[0] == 1
}

// parseHeld reads a card as the reader hands it on.
func parseHeld(b []byte) (*unionpay.Sealed, error) {
	if len(b) < 7 {
		return nil, ErrFrame
	}
	s := &unionpay.Sealed{Mode: string(b[:3]), PSN: strings.TrimSpace(string(b[3:6]))}
	rest := b[7:]
	var parts [4][]byte
	for i := range parts {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, ErrFrame
		}
		n := int(binary.BigEndian.Uint16(rest))
		parts[i], rest = rest[2:2+n], rest[2+n:]
	}
	if len(rest) != 0 {
		return nil, ErrFrame
	}
	s.Masked, s.Chip, s.Data = string(parts[0]), parts[1], parts[2]
	if len(parts[3]) > 0 {
		s.PIN = parts[3]
	}
	return s, nil
}
