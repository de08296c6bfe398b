package reader

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/terminal/kernel"
)

// A held card is one that was read and whose answer is due. On the radio it is
// mode 3 (F22) | sequence number 3 (F23, blanks without a chip) | chip 1 | and
// behind a length of 2 each: masked number, F55, F59, F52.
type held struct {
	process string
	fen     uint64
	key     *used // nil once a message was sealed with it
	mode    string
	psn     string
	masked  string
	chip    []byte
	data    []byte
	pin     []byte

	tap    *kernel.Outcome    // a contactless card: it has left
	answer chan kernel.Answer // an inserted card waits
	result chan kernel.Outcome
	err    error // of the kernel, once result has come
}

// leave lets go of the card that was read last.
func (r *Reader) leave() {
	if h := r.held; h != nil && h.answer != nil {
		close(h.answer)
		<-h.result
	}
	r.held = nil
}

// shown are the processing codes a reader takes a card for: sale, void,
// pre-authorisation, balance.
var shown = map[string]bool{"000000": true, processVoid: true, "030000": true, "310000": true}

// read shows what is to be paid, waits for a card, reads it and enciphers it.
func (r *Reader) read(process string, fen uint64) ([]byte, error) {
	if !shown[process] || (fen == 0) != (process == "310000") || fen > 999_999_999_999 {
		return nil, ErrFrame
	}
	if err := r.usable(); err != nil {
		return nil, err
	}
	if process[:2] == "00" || process[:2] == "03" {
		if err := r.within(fen); err != nil {
			return nil, err
		}
	}
	p, ok := r.cfg.Slot(process, fen)
	if !ok || p.Track2 == "" && p.Chip == nil {
		return nil, ErrCard
	}
	key, err := r.next()
	if err != nil {
		return nil, err
	}
	h := &held{process: process, fen: fen, key: key}
	r.held = h
	if p.Track2 != "" {
		err = r.swiped(h, p.Track2)
	} else {
		err = r.chipped(h, p.Chip, p.Air)
	}
	if err != nil {
		r.leave()
		return nil, err
	}
	return h.bytes(), nil
}

func (h *held) bytes() []byte {
	chip := byte(0)
	if h.chip != nil {
		chip = 1
	}
	out := append([]byte(h.mode+fmt.Sprintf("%3s", h.psn)), chip)
	for _, v := range [][]byte{[]byte(h.masked), h.chip, h.data, h.pin} {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(v))), v...)
	}
	return out
}

// fits says whether a message is for the card and what was shown.
func (h *held) fits(m *iso8583.Message) bool {
	fen := ""
	if h.fen > 0 {
		fen = fmt.Sprintf("%012d", h.fen)
	}
	return !m.Has(2) && !m.Has(14) && !m.Has(35) && m.Text(3) == h.process && m.Text(4) == fen && bytes.Equal(m.Get(fieldCard), h.data) && bytes.Equal(m.Get(52), h.pin)
}

// swiped takes track 2. A card with a chip is to be inserted.
func (r *Reader) swiped(h *held, track string) error {
	track = strings.ReplaceAll(track, "=", "D")
	pan, rest, ok := strings.Cut(track, "D")
	if !ok || len(track) > 37 || len(pan) < 13 || len(pan) > 19 || len(rest) < 7 || strings.Trim(pan+rest, "0123456789") != "" {
		return ErrCard
	}
	if rest[4] == '2' || rest[4] == '6' { // ISO/IEC 7813: a chip
		return ErrCard
	}
	h.mode = "022"
	if err := r.enter(h, pan); err != nil {
		return err
	}
	return h.seal(track, pan)
}

// enter takes the PIN on the reader's pad.
func (r *Reader) enter(h *held, pan string) error {
	if r.cfg.PIN == nil || h.process == processVoid {
		return nil
	}
	digits, ok := r.cfg.PIN(h.fen)
	if !ok {
		return ErrPIN
	}
	block, err := poskey.PINBlock(poskey.WithPAN, digits, pan)
	if err != nil {
		return ErrPIN
	}
	variant := h.key.key.PIN()
	iso9797.NewTDES(variant[:]).EncryptBlock(block[:], block[:])
	h.pin, h.mode = block[:], h.mode[:2]+"1"
	return nil
}

// seal enciphers track 2 for field 59: digits two a byte, filled with F to whole
// blocks, CBC under the key for request data.
func (h *held) seal(track, pan string) error {
	for len(track)%16 != 0 {
		track += "F"
	}
	packed, err := hex.DecodeString(track)
	if err != nil {
		return ErrCard
	}
	key := h.key.key.DataRequest()
	h.data, h.masked = iso9797.TDESEncryptCBC(key[:], make([]byte, 8), packed), pboc.MaskPAN(pan)
	return nil
}

// chipped runs a chip up to its request. A contactless card has then done its
// part; an inserted one waits for the host's answer.
func (r *Reader) chipped(h *held, card iso7816.Transmit, air bool) error {
	tx, err := r.transaction(h)
	if err != nil {
		return err
	}
	h.mode = "052"
	if air {
		h.mode = "072"
		o, err := r.k.Tap(card, tx, kernel.Seams{OnlinePIN: r.pinFor(h)})
		if err != nil {
			return err
		}
		if o.Result != kernel.OnlineRequest {
			return ErrCard
		}
		h.tap = &o
		return r.request(h, o.Request())
	}
	ask := make(chan []byte)
	h.answer, h.result = make(chan kernel.Answer), make(chan kernel.Outcome, 1)
	go func() {
		defer close(ask)
		o, err := r.k.Insert(card, tx, kernel.Seams{OnlinePIN: r.pinFor(h), Issuer: func(request []byte) (kernel.Answer, error) {
			ask <- request
			a, ok := <-h.answer
			if !ok {
				return a, kernel.ErrNoHost
			}
			return a, nil
		}})
		h.err = err
		h.result <- o
	}()
	request, ok := <-ask
	if !ok { // it ended without the host
		h.answer = nil
		return ErrCard
	}
	return r.request(h, request)
}

// pinFor is the seam by which a chip asks for the host's PIN.
func (r *Reader) pinFor(h *held) func(string) ([]byte, bool) {
	return func(pan string) ([]byte, bool) {
		if err := r.enter(h, pan); err != nil || h.pin == nil {
			return nil, false
		}
		return h.pin, true
	}
}

func zoneOf(c kernel.Config) *time.Location {
	if c.Zone == nil {
		return time.FixedZone("CST", 8*3600)
	}
	return c.Zone
}

// transaction draws what the kernel needs. The sequence number is the counter
// of the key.
func (r *Reader) transaction(h *held) (kernel.Transaction, error) {
	var chance [5]byte
	if _, err := io.ReadFull(r.cfg.Random, chance[:]); err != nil {
		return kernel.Transaction{}, fmt.Errorf("reader: chance: %w", err)
	}
	process, _ := hex.DecodeString(h.process[:2]) // two digits: see shown
	if h.process == "030000" {
		process[0] = 0 // a pre-authorisation may say so, and cards know goods
	}
	return kernel.Transaction{Fen: h.fen, Type: process[0], At: r.cfg.Clock.Now(), Unpredictable: [4]byte(chance[:4]), Random: chance[4] % 100,
		Sequence: h.key.ksn.Counter()%999_999 + 1, ForceOnline: true}, nil
}

// outside are the objects of field 55 that may leave the reader: none names the card.
var outside = []tlv.Tag{
	emv.TagAC, emv.TagCID, emv.TagIAD, emv.TagUN, emv.TagATC, emv.TagTVR, emv.TagDate, emv.TagType, emv.TagAmount, emv.TagCurrency, emv.TagAIP,
	emv.TagTerminalCountry, emv.TagAmountOther, emv.TagCapabilities, emv.TagCVMResults, emv.TagTerminalType, emv.TagDeviceSerial, emv.TagDFName,
	emv.TagTerminalVersion, emv.TagSequence,
}

// request enciphers what the kernel asks the host.
func (r *Reader) request(h *held, request []byte) error {
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(request, tag); return v }
	track := strings.TrimRight(strings.ToUpper(hex.EncodeToString(get(emv.TagTrack2))), "F")
	pan, _, ok := strings.Cut(track, "D")
	if !ok || len(pan) < 13 || len(track) > 37 {
		return ErrCard
	}
	h.psn = "000"
	if v := get(emv.TagPSN); len(v) == 1 {
		h.psn = fmt.Sprintf("%03X", v[0])
	}
	h.chip = []byte{}
	for _, tag := range outside {
		if v := get(tag); v != nil {
			h.chip = tlv.Append(h.chip, tag, v)
		}
	}
	return h.seal(track, pan)
}

// answer gives the host's answer to the card that waits: approved 1 | response
// code 2 | issuer's objects of field 55.
func (r *Reader) answer(body []byte) ([]byte, error) {
	h := r.held
	if h == nil || h.chip == nil || len(body) < 3 || h.key != nil {
		return nil, ErrBusy // or the host has not been asked
	}
	r.held = nil
	if h.tap != nil {
		took := h.tap
		took.Answered(kernel.Answer{ARC: string(body[1:3])}, nil)
		return final(h, took), nil
	}
	h.answer <- kernel.Answer{ARC: string(body[1:3]), Data: bytes.Clone(body[3:])}
	o := <-h.result
	if h.err != nil {
		return nil, h.err
	}
	return final(h, &o), nil
}

// final is took it 1 | field 55 after the card's last word.
func final(h *held, o *kernel.Outcome) []byte {
	out := []byte{0}
	if o.Result == kernel.Approved {
		out[0] = 1
	}
	for _, tag := range append(append([]tlv.Tag{}, outside...), emv.TagTSI, emv.TagLabel) {
		v := o.Get(tag)
		switch tag {
		case emv.TagTVR:
			v = o.TVR[:]
		case emv.TagTSI:
			v = o.TSI[:]
		case emv.TagCID:
			if v == nil {
				v = []byte{o.CID}
			}
		}
		if v != nil {
			out = tlv.Append(out, tag, v)
		}
	}
	return out
}
