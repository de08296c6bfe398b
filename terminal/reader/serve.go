package reader

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"koala/spec/iso8583"
)

// Operations inside a session: operation 1 | body; the answer is reason 1 |
// body, where reason 0 is good.
const (
	opStatus = 0x01 // - | battery 1, limit of one sale 8, left today 8, key serial number 10, serial
	opRead   = 0x02 // processing code 6, fen 8 | see held
	opAnswer = 0x03 // approved 1, response code 2, field 55 | took it 1, field 55
	opSeal   = 0x04 // a message without fields 57 and 64 | the message with them
	opVerify = 0x05 // the answer to it | -
	opCancel = 0x06 // - | -
)

// Handle answers one frame of the phone.
func (r *Reader) Handle(frame []byte) []byte {
	if r.failure != nil || len(frame) == 0 || len(frame) > MaxFrame {
		return refusal(ErrFrame)
	}
	var answer []byte
	var err error
	switch body := frame[1:]; frame[0] {
	case framePair:
		answer, err = r.pair(body)
	case frameNonce:
		answer, err = r.reveal(body)
	case frameCheck:
		answer, err = r.bind(body)
	case frameOpen:
		answer, err = r.open(body)
	case frameSealed:
		return r.serve(frame)
	default:
		err = ErrFrame
	}
	if err != nil {
		r.pairing, r.session = nil, nil
		return r.refuse(err)
	}
	return append([]byte{frame[0] | frameAnswer}, answer...)
}

// refuse tells the phone why; an error of the device is also kept.
func (r *Reader) refuse(err error) []byte {
	if reasonOf(err) == 0 {
		r.failure = err
		err = ErrFrame
	}
	return refusal(err)
}

func refusal(err error) []byte { return []byte{frameRefused, reasonOf(err)} }

// reasonOf is the byte of a failure, 0 for one of the device.
func reasonOf(err error) byte {
	for i, e := range reasons {
		if i > 0 && errors.Is(err, e) {
			return byte(i)
		}
	}
	return 0
}

// pair begins a pairing.
func (r *Reader) pair(body []byte) ([]byte, error) {
	if len(body) != 8+publicLen {
		return nil, ErrFrame
	}
	if r.vault.wiped {
		return nil, ErrTampered
	}
	p, err := newPairing(r.cfg.Random)
	if err != nil {
		return nil, err
	}
	p.peer, p.phone, p.own = [8]byte(body), bytes.Clone(body[8:]), p.key.PublicKey().Bytes()
	if err := p.meet(p.phone); err != nil {
		return nil, err
	}
	r.pairing = p
	return append(bytes.Clone(p.own), p.commit(p.nonce)...), nil
}

// reveal gives the nonce and asks whether the digits are those of the phone.
func (r *Reader) reveal(body []byte) ([]byte, error) {
	p := r.pairing
	if p == nil || p.bond != nil || len(body) != nonceLen {
		return nil, ErrPairing
	}
	phone := [nonceLen]byte(body)
	if err := p.agree(phone, p.nonce); err != nil {
		return nil, err
	}
	if r.cfg.Confirm == nil || !r.cfg.Confirm(p.digits(phone, p.nonce)) {
		return nil, ErrDigits
	}
	return p.nonce[:], nil
}

// bind keeps the bond once the phone has shown that it has it too.
func (r *Reader) bind(body []byte) ([]byte, error) {
	p := r.pairing
	if r.pairing = nil; p == nil || p.bond == nil || !hmac.Equal(body, check(p.bond, []byte("phone"))) {
		return nil, ErrPairing
	}
	if err := r.book.remember(bond{p.peer, [16]byte(p.bond)}); err != nil {
		return nil, err
	}
	return check(p.bond, []byte("reader")), nil
}

// open begins a session with a phone that is paired.
func (r *Reader) open(body []byte) ([]byte, error) {
	if len(body) != 8+nonceLen {
		return nil, ErrFrame
	}
	b, ok := r.book.bond([8]byte(body))
	if !ok {
		return nil, ErrUnpaired
	}
	phone := [nonceLen]byte(body[8:])
	var own [nonceLen]byte
	if _, err := io.ReadFull(r.cfg.Random, own[:]); err != nil {
		return nil, fmt.Errorf("reader: chance: %w", err)
	}
	r.leave()
	var err error
	if r.session, err = newSession(b.key[:], phone, own, true); err != nil {
		return nil, err
	}
	return append(own[:], check(b.key[:], []byte("open"), phone[:], own[:])...), nil
}

// serve answers one request of a session.
func (r *Reader) serve(frame []byte) []byte {
	if r.session == nil {
		return refusal(ErrUnpaired)
	}
	request, err := r.session.open(frame)
	if err != nil || len(request) == 0 {
		r.leave()
		r.session = nil
		return refusal(ErrFrame)
	}
	answer, err := r.operate(request[0], request[1:])
	if err != nil {
		if reasonOf(err) == 0 {
			return r.refuse(err)
		}
		return r.session.seal([]byte{reasonOf(err)})
	}
	return r.session.seal(append([]byte{0}, answer...))
}

func (r *Reader) operate(op byte, body []byte) ([]byte, error) {
	if op != opAnswer && op != opSeal && op != opVerify && op != opStatus {
		r.leave() // a card that waited for an answer waits no more
	}
	switch op {
	case opStatus:
		return r.status()
	case opRead:
		if len(body) != 14 {
			return nil, ErrFrame
		}
		return r.read(string(body[:6]), binary.BigEndian.Uint64(body[6:]))
	case opAnswer:
		return r.answer(body)
	case opSeal:
		return r.seal(body)
	case opVerify:
		return nil, r.verify(body)
	case opCancel:
		return nil, nil
	}
	return nil, ErrFrame
}

// status is the reader as a phone shows it.
func (r *Reader) status() ([]byte, error) {
	if err := r.vault.usable(); err != nil {
		return nil, err
	}
	battery := 100
	if r.cfg.Battery != nil {
		battery = r.cfg.Battery()
	}
	spent := r.book.spent
	if r.book.day != r.today() {
		spent = 0
	}
	ksn := r.vault.keys.KSN()
	out := binary.BigEndian.AppendUint64([]byte{byte(battery)}, r.cfg.Single)
	out = binary.BigEndian.AppendUint64(out, r.cfg.Daily-min(spent, r.cfg.Daily))
	return append(append(out, ksn[:]...), r.cfg.Serial...), nil
}

// Fields the reader sees to itself.
const (
	fieldKSN  = 57
	fieldCard = 59
)

// seal puts the key's serial number and the MAC on a message. One with a card
// must be for what the reader showed; money without a card it does not seal.
func (r *Reader) seal(wire []byte) ([]byte, error) {
	m := new(iso8583.Message)
	if err := m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(wire)); err != nil || m.Has(fieldKSN) || m.Has(64) {
		return nil, ErrMessage
	}
	key, err := r.keyFor(m)
	if err != nil {
		return nil, err
	}
	variant := key.key.MACRequest()
	mac, err := iso8583.NewKey(variant[:])
	if err != nil {
		return nil, err
	}
	m.SetText(fieldKSN, "KSN"+string(key.ksn[:]))
	out, err := m.Seal(nil, mac)
	if err != nil {
		return nil, ErrMessage
	}
	r.sealed = key
	return out, nil
}

// keyFor is the key a message is sealed with: that of the card it carries, once,
// or a new one.
func (r *Reader) keyFor(m *iso8583.Message) (*used, error) {
	switch m.MTI() {
	case "0100", "0200", "0220":
		if m.IsMTI("0220") && m.Text(3) == processVoid && !m.Has(fieldCard) && !m.Has(52) && !m.Has(2) && !m.Has(35) {
			return r.next() // a refund again: a host that has not seen its card refuses it
		}
	case "0320", "0400", "0500", "0620", "0800", "0820", "0920":
		if m.Has(fieldCard) || m.Has(52) || m.Has(2) || m.Has(35) {
			return nil, ErrMessage
		}
		return r.next()
	default:
		return nil, ErrMessage
	}
	h := r.held
	if h == nil || h.key == nil || !h.fits(m) {
		return nil, ErrMessage
	}
	key := h.key
	h.key = nil
	if h.process[:2] == "00" || h.process[:2] == "03" {
		if err := r.count(h.fen); err != nil {
			return nil, err
		}
	}
	return key, nil
}

// verify checks the MAC of the answer to the message that was sealed last.
func (r *Reader) verify(wire []byte) error {
	m := new(iso8583.Message)
	if r.sealed == nil || m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(wire)) != nil || m.Text(fieldKSN) != "KSN"+string(r.sealed.ksn[:]) {
		return ErrAnswer
	}
	variant := r.sealed.key.MACResponse()
	mac, err := iso8583.NewKey(variant[:])
	if err != nil {
		return err
	}
	if m.Verify(mac) != nil {
		return ErrAnswer
	}
	return nil
}
