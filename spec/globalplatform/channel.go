package globalplatform

import (
	"crypto/subtle"
	"fmt"

	"koala/spec/iso7816"
)

// A mark is what the answer to one command has to be protected with.
type mark struct {
	command iso7816.Command // in plain; SCP02 signs it again with the answer
	chain   [16]byte        // SCP03: the command's MAC chaining value
	counter uint64          // SCP03: the command's number
}

// channel is one secure channel protocol, seen from either end.
type channel interface {
	protocol() byte
	cryptograms() (card, host [8]byte)
	commandMAC(c iso7816.Command) [8]byte
	open(l Level, firstMAC [8]byte)
	wrap(c iso7816.Command) (iso7816.Command, mark, error)
	unwrap(c iso7816.Command) (iso7816.Command, mark, error)
	seal(m mark, r iso7816.Response) iso7816.Response
	unseal(m mark, r iso7816.Response) (iso7816.Response, error)
	encryptKey(data []byte) ([]byte, error)
	decryptKey(data []byte) ([]byte, error)
}

// bare says whether an answer goes without protection: every status word but
// 9000 and the warnings 62xx, 63xx (Amendment D, 6.2.5).
func bare(sw iso7816.SW) bool {
	return sw != iso7816.OK && sw>>8 != 0x62 && sw>>8 != 0x63
}

// appendLc codes the length of command data in a MAC as it stands on the wire:
// one byte, or extended 00 and two. Hosts here send short commands only; a card
// takes the long ones in which others put RSA keys.
func appendLc(dst []byte, n int) []byte {
	if n > maxShort {
		return append(dst, 0, byte(n>>8), byte(n))
	}
	return append(dst, byte(n))
}

// InitializeUpdate starts a session with the key set version (00: the card's
// choice) and the host's challenge (GPCS D.4.1, Amendment D 7.1.1).
func InitializeUpdate(version byte, host [8]byte) iso7816.Command {
	return plain(InsInitializeUpdate, version, 0x00, host[:])
}

// ParseInitializeUpdate reads the command on the card's side.
func ParseInitializeUpdate(c iso7816.Command) (version byte, host [8]byte, err error) {
	if err := expect(c, InsInitializeUpdate); err != nil {
		return 0, host, err
	}
	if len(c.Data) != 8 {
		return 0, host, fmt.Errorf("%w: host challenge of %d bytes", ErrCommand, len(c.Data))
	}
	return c.P1, [8]byte(c.Data), nil
}

// An InitAnswer is the answer to INITIALIZE UPDATE: key data 10 | key version |
// protocol | SCP02: sequence 2, random 6; SCP03: i, challenge 8 | cryptogram 8
// [| sequence 3 with a pseudo-random challenge].
type InitAnswer struct {
	KDD        [10]byte // key diversification data
	Version    byte     // of the key set
	Protocol   byte     // 2 or 3
	Option     byte     // i of SCP03; SCP02 does not tell it here
	Sequence   uint32   // 2 bytes in SCP02, 3 in SCP03
	Random     [8]byte  // SCP02: 6 bytes
	Cryptogram [8]byte  // the card's
}

// Bytes codes the answer.
func (a InitAnswer) Bytes() []byte {
	out := append(a.KDD[:len(a.KDD):len(a.KDD)], a.Version, a.Protocol)
	if a.Protocol == 2 {
		out = append(out, byte(a.Sequence>>8), byte(a.Sequence))
		out = append(out, a.Random[:6]...)
		return append(out, a.Cryptogram[:]...)
	}
	out = append(append(out, a.Option), a.Random[:]...)
	out = append(out, a.Cryptogram[:]...)
	if a.Option&0x10 != 0 {
		out = append(out, byte(a.Sequence>>16), byte(a.Sequence>>8), byte(a.Sequence))
	}
	return out
}

// ParseInitAnswer reads the answer on the host's side.
func ParseInitAnswer(data []byte) (InitAnswer, error) {
	bad := fmt.Errorf("%w: INITIALIZE UPDATE, %d bytes", ErrAnswer, len(data))
	if len(data) < 28 {
		return InitAnswer{}, bad
	}
	a := InitAnswer{KDD: [10]byte(data), Version: data[10], Protocol: data[11]}
	rest := data[12:]
	switch {
	case a.Protocol == 2 && len(rest) == 16:
		a.Sequence = uint32(rest[0])<<8 | uint32(rest[1])
		copy(a.Random[:], rest[2:8])
		a.Cryptogram = [8]byte(rest[8:])
		return a, nil
	case a.Protocol != 3 || len(rest) < 17:
		return InitAnswer{}, bad
	}
	a.Option, a.Random, a.Cryptogram = rest[0], [8]byte(rest[1:]), [8]byte(rest[9:])
	switch rest = rest[17:]; {
	case a.Option&0x10 != 0 && len(rest) == 3:
		a.Sequence = uint32(rest[0])<<16 | uint32(rest[1])<<8 | uint32(rest[2])
	case a.Option&0x10 != 0 || len(rest) != 0:
		return InitAnswer{}, bad
	}
	return a, nil
}

// A Host is the off-card end of an open session.
type Host struct {
	ch      channel
	level   Level
	pending []mark // commands under R-MAC whose answers have not been unwrapped
}

// NewHost checks the card's cryptogram, opens the session in the protocol the
// card chose and gives the EXTERNAL AUTHENTICATE that asks for level. Commands
// may be wrapped before its answer has come.
func NewHost(keys KeySet, host [8]byte, a InitAnswer, level Level) (*Host, iso7816.Command, error) {
	ch, err := hostChannel(keys, host, a)
	if err != nil {
		return nil, iso7816.Command{}, err
	}
	if !level.exists(a.Protocol) {
		return nil, iso7816.Command{}, fmt.Errorf("SCP%02d level %02X: %w", a.Protocol, byte(level), ErrLevel)
	}
	card, proof := ch.cryptograms()
	if subtle.ConstantTimeCompare(card[:], a.Cryptogram[:]) != 1 {
		return nil, iso7816.Command{}, fmt.Errorf("card of key set %02X: %w", a.Version, ErrCryptogram)
	}
	c := iso7816.Command{CLA: CLASecure, INS: InsExternalAuth, P1: byte(level), Data: proof[:], Le: iso7816.NoLe}
	mac := ch.commandMAC(c)
	c.Data = append(proof[:], mac[:]...)
	ch.open(level, mac)
	return &Host{ch: ch, level: level}, c, nil
}

func hostChannel(keys KeySet, host [8]byte, a InitAnswer) (channel, error) {
	if a.Protocol == 2 {
		return newSCP02(keys, uint16(a.Sequence), [6]byte(a.Random[:6]), host)
	}
	return newSCP03(keys, host, a.Random)
}

// NewHost02 is NewHost for a card that must speak SCP02.
func NewHost02(keys KeySet, host [8]byte, a InitAnswer, level Level) (*Host, iso7816.Command, error) {
	if a.Protocol != 2 {
		return nil, iso7816.Command{}, fmt.Errorf("card speaks SCP%02d: %w", a.Protocol, ErrProtocol)
	}
	return NewHost(keys, host, a, level)
}

// NewHost03 is NewHost for a card that must speak SCP03.
func NewHost03(keys KeySet, host [8]byte, a InitAnswer, level Level) (*Host, iso7816.Command, error) {
	if a.Protocol != 3 {
		return nil, iso7816.Command{}, fmt.Errorf("card speaks SCP%02d: %w", a.Protocol, ErrProtocol)
	}
	return NewHost(keys, host, a, level)
}

// Level is the session's security level.
func (h *Host) Level() Level { return h.level }

// MaxData is the longest plain command data that still fits one command.
func (h *Host) MaxData() int {
	switch {
	case h.level&CENC != 0:
		return 239 // padded to 240, and the MAC
	case h.level&CMAC != 0:
		return maxShort - 8
	}
	return maxShort
}

// Wrap protects a command. The card must receive wrapped commands in order and
// without a gap.
func (h *Host) Wrap(c iso7816.Command) (iso7816.Command, error) {
	w, m, err := h.ch.wrap(c)
	if err == nil && h.level&RMAC != 0 {
		h.pending = append(h.pending, m)
	}
	return w, err
}

// Unwrap takes the protection off the answer to the earliest wrapped command
// that has none yet.
func (h *Host) Unwrap(r iso7816.Response) (iso7816.Response, error) {
	if h.level&RMAC == 0 {
		return r, nil
	}
	if len(h.pending) == 0 {
		return r, fmt.Errorf("%w: no command waits for it", ErrAnswer)
	}
	m := h.pending[0]
	h.pending = h.pending[1:]
	return h.ch.unseal(m, r)
}

// EncryptKey enciphers key material for PUT KEY or STORE DATA: SCP02 wants
// whole blocks of 8 bytes, SCP03 fills to 16 with zeros.
func (h *Host) EncryptKey(data []byte) ([]byte, error) { return h.ch.encryptKey(data) }

// PutKey builds, in plain, the PUT KEY that brings in a whole set of the
// protocol's algorithm; replaces is the version it takes the place of, or 00.
func (h *Host) PutKey(replaces byte, keys KeySet, coding KeyCoding) (iso7816.Command, error) {
	t := AES
	if h.ch.protocol() == 2 {
		t = DES
	}
	if !keys.Fits(t) {
		return iso7816.Command{}, fmt.Errorf("PUT KEY %02X: %w", keys.Version, ErrProtocol)
	}
	p := PutKey{Replaces: replaces, First: KeyENC, NewVersion: keys.Version}
	for _, key := range keys.keys() {
		cipher, err := h.EncryptKey(key)
		if err != nil {
			return iso7816.Command{}, fmt.Errorf("PUT KEY %02X: %w", keys.Version, err)
		}
		kcv := t.Check(key)
		p.Keys = append(p.Keys, KeyField{Type: t, Length: len(key), Cipher: cipher, Check: kcv[:]})
	}
	return p.Command(coding), nil
}

// A Card is the card's end of a session: made by INITIALIZE UPDATE, opened by
// EXTERNAL AUTHENTICATE. After any error it must be dropped.
type Card struct {
	ch    channel
	level Level
	open  bool
	last  mark
}

// NewCard02 answers INITIALIZE UPDATE with a 3DES set.
func NewCard02(keys KeySet, kdd [10]byte, seq uint16, random [6]byte, host [8]byte) (*Card, InitAnswer, error) {
	ch, err := newSCP02(keys, seq, random, host)
	if err != nil {
		return nil, InitAnswer{}, err
	}
	a := InitAnswer{KDD: kdd, Version: keys.Version, Protocol: 2, Sequence: uint32(seq)}
	copy(a.Random[:], random[:])
	a.Cryptogram, _ = ch.cryptograms()
	return &Card{ch: ch}, a, nil
}

// NewCard03 answers INITIALIZE UPDATE with an AES set; seq is the set's
// sequence counter and domain the AID of the selected security domain.
func NewCard03(keys KeySet, kdd [10]byte, seq uint32, domain AID, host [8]byte) (*Card, InitAnswer, error) {
	if !keys.Fits(AES) {
		return nil, InitAnswer{}, fmt.Errorf("SCP03: %w", ErrProtocol)
	}
	a := InitAnswer{KDD: kdd, Version: keys.Version, Protocol: 3, Option: OptionSCP03, Sequence: seq & 0xFFFFFF,
		Random: Challenge03(keys.ENC, seq, domain)}
	ch, err := newSCP03(keys, host, a.Random)
	if err != nil {
		return nil, InitAnswer{}, err
	}
	a.Cryptogram, _ = ch.cryptograms()
	return &Card{ch: ch}, a, nil
}

// Authenticate checks EXTERNAL AUTHENTICATE and opens the session at its level.
func (k *Card) Authenticate(c iso7816.Command) error {
	level := Level(c.P1)
	switch {
	case k.open || c.INS != InsExternalAuth || len(c.Data) != 16 || c.CLA&0x04 == 0:
		return fmt.Errorf("%w: EXTERNAL AUTHENTICATE", ErrCommand)
	case !level.exists(k.ch.protocol()):
		return ErrLevel
	}
	_, want := k.ch.cryptograms()
	bare := c
	bare.Data = c.Data[:8]
	mac := k.ch.commandMAC(bare)
	okCrypt := subtle.ConstantTimeCompare(want[:], c.Data[:8])
	okMAC := subtle.ConstantTimeCompare(mac[:], c.Data[8:])
	if okCrypt != 1 {
		return ErrCryptogram
	}
	if okMAC != 1 {
		return ErrMAC
	}
	k.level, k.open = level, true
	k.ch.open(level, mac)
	return nil
}

// Authenticated says whether the session is open.
func (k *Card) Authenticated() bool { return k.open }

// Level is the level of the open session.
func (k *Card) Level() Level { return k.level }

// Protocol is 2 or 3.
func (k *Card) Protocol() byte { return k.ch.protocol() }

// Open takes the protection off a command. ErrMAC ends the session.
func (k *Card) Open(c iso7816.Command) (iso7816.Command, error) {
	opened, m, err := k.ch.unwrap(c)
	k.last = m
	return opened, err
}

// Seal protects the answer to the command opened last. Errors leave as they are.
func (k *Card) Seal(r iso7816.Response) iso7816.Response { return k.ch.seal(k.last, r) }

// MaxAnswer is the longest answer data that Seal still fits into 256 bytes.
func (k *Card) MaxAnswer() int {
	switch {
	case k.level&RENC != 0:
		return 239
	case k.level&RMAC != 0:
		return iso7816.MaxShortLe - 8
	}
	return iso7816.MaxShortLe
}

// DecryptKey opens key material that came in PUT KEY or STORE DATA.
func (k *Card) DecryptKey(data []byte) ([]byte, error) { return k.ch.decryptKey(data) }
