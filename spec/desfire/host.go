package desfire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"koala/spec/iso7816"
)

// A Host is the reader's side of one card: native commands with whatever
// protection the session needs. An answer other than 9100 is a *Refusal, and
// ends the session; so does an answer whose MAC is wrong (ErrMAC).
type Host struct {
	send    iso7816.Transmit
	rand    io.Reader
	session *Session
	app     AID // the current one
}

// NewHost works over send; rand gives the reader's randoms.
func NewHost(send iso7816.Transmit, rand io.Reader) *Host { return &Host{send: send, rand: rand} }

// Session is the one an authentication made, nil without.
func (h *Host) Session() *Session { return h.session }

// Open selects the card by its ISO name.
func (h *Host) Open() error {
	h.session, h.app = nil, Card
	r, err := h.send(iso7816.Select(Name))
	switch {
	case err != nil:
		return fmt.Errorf("desfire: SELECT: %w", err)
	case !r.SW.OK():
		return &Refusal{iso7816.InsSelect, r.SW}
	}
	return nil
}

// exchange sends one frame.
func (h *Host) exchange(cmd, frame byte, data []byte) ([]byte, Status, error) {
	r, err := h.send(Wrap(frame, data))
	if err != nil {
		h.session = nil
		return nil, 0, fmt.Errorf("desfire: command %02X: %w", cmd, err)
	}
	st, ok := StatusOf(r.SW)
	if !ok || st != OK && st != More {
		if st != NoChange {
			h.session = nil
		}
		return nil, st, &Refusal{cmd, r.SW}
	}
	return r.Data, st, nil
}

// run sends a command in as many frames as it needs and collects the answer.
func (h *Host) run(cmd byte, data []byte) ([]byte, Status, error) {
	frame, part := cmd, data
	for {
		n := min(len(part), MaxCommandFrame)
		out, st, err := h.exchange(cmd, frame, part[:n])
		part, frame = part[n:], CmdMore
		switch {
		case err != nil:
			return nil, st, err
		case st == OK && len(part) > 0:
			h.session = nil
			return nil, st, fmt.Errorf("desfire: command %02X: answered before its end: %w", cmd, ErrLength)
		case len(part) == 0:
			return h.collect(cmd, out, st)
		}
	}
}

// maxAnswer bounds what a host collects, bytes.
const maxAnswer = 2 * MaxFileSize

func (h *Host) collect(cmd byte, all []byte, st Status) ([]byte, Status, error) {
	for st == More {
		out, next, err := h.exchange(cmd, CmdMore, nil)
		if err != nil {
			return nil, next, err
		}
		if all, st = append(all, out...), next; len(all) > maxAnswer {
			h.session = nil
			return nil, st, fmt.Errorf("desfire: command %02X: %w: endless answer", cmd, ErrLength)
		}
	}
	return all, st, nil
}

// command runs a command with plain header and protected data. n is the length
// of the answer's data, negative where it is not known; in is how they travel.
func (h *Host) command(cmd byte, header, data []byte, mode Mode, n int, in Mode) ([]byte, error) {
	body := append(append([]byte(nil), header...), data...)
	if h.session != nil {
		body = h.session.Command(cmd, header, data, mode)
	}
	out, _, err := h.run(cmd, body)
	if err != nil {
		return nil, err
	}
	return h.opened(cmd, out, n, in)
}

func (h *Host) opened(cmd byte, out []byte, n int, in Mode) ([]byte, error) {
	if h.session == nil {
		if n >= 0 && len(out) != n {
			return nil, fmt.Errorf("desfire: command %02X: %w: answer of %d bytes", cmd, ErrLength, len(out))
		}
		return out, nil
	}
	got, err := h.session.OpenAnswer(out, n, in)
	if err != nil {
		h.session = nil
		return nil, fmt.Errorf("command %02X: %w", cmd, err)
	}
	return got, nil
}

// plain runs a command whose data are all in the clear.
func (h *Host) plain(cmd byte, header []byte, n int) ([]byte, error) {
	return h.command(cmd, header, nil, Plain, n, Plain)
}

// Select makes an application current; it ends the session. A secure element may
// have a card per issuer, all of names that begin with Name: an application that
// is not in the one that is selected is looked for in each (ISO 7816-4, first and
// next occurrence).
func (h *Host) Select(a AID) error {
	err := h.choose(a)
	var no *Refusal
	next := iso7816.Select(Name)
	for n := 0; n < maxCards && errors.As(err, &no) && no.SW == NoApplication.SW(); n++ {
		r, sent := h.send(next)
		switch {
		case sent != nil:
			return fmt.Errorf("desfire: SELECT: %w", sent)
		case !r.SW.OK():
			return err // the answer of the last card there is
		}
		err, next.P2 = h.choose(a), 0x02
	}
	return err
}

// maxCards bounds the cards of one element that an application is looked for in.
const maxCards = 16

func (h *Host) choose(a AID) error {
	h.session = nil
	b := a.Bytes()
	_, _, err := h.run(CmdSelect, b[:])
	if err == nil {
		h.app = a
	}
	return err
}

// Authenticate proves key number no both ways, by the command of its kind: AA
// for AES, 1A for the others.
func (h *Host) Authenticate(no byte, key Key) error {
	if key.Kind == AES {
		return h.authenticate(CmdAuthAES, no, key)
	}
	return h.authenticate(CmdAuthISO, no, key)
}

// AuthenticateLegacy proves a DES key as the first DESFire did (0A).
func (h *Host) AuthenticateLegacy(no byte, key Key) error {
	return h.authenticate(CmdAuthLegacy, no, key)
}

func (h *Host) authenticate(cmd, no byte, key Key) error {
	h.session = nil
	token, st, err := h.exchange(cmd, cmd, []byte{no})
	if err != nil {
		return err
	}
	rndA := make([]byte, key.randomSize())
	if _, err := io.ReadFull(h.rand, rndA); err != nil {
		return fmt.Errorf("desfire: random: %w", err)
	}
	p, out, err := Prove(cmd, no, key, token, rndA)
	if err != nil || st != More {
		return fmt.Errorf("key %d: %w", no, ErrAuth)
	}
	answer, st, err := h.exchange(cmd, CmdMore, out)
	if err != nil {
		return err
	}
	s, err := p.Finish(answer)
	if err != nil || st != OK {
		return fmt.Errorf("key %d: %w", no, ErrAuth)
	}
	h.session = s
	return nil
}

// Version asks for hardware, software and UID.
func (h *Host) Version() (Version, error) {
	b, err := h.plain(CmdVersion, nil, VersionLen)
	if err != nil {
		return Version{}, err
	}
	return ParseVersion(b)
}

// UID asks for the real identifier, enciphered; the session must be there.
func (h *Host) UID() (UID, error) {
	b, err := h.command(CmdUID, nil, nil, Plain, len(UID{}), Enciphered)
	if err != nil {
		return UID{}, err
	}
	return UID(b), nil
}

// FreeMemory is the bytes left on the card.
func (h *Host) FreeMemory() (int, error) {
	b, err := h.plain(CmdFreeMemory, nil, 3)
	if err != nil {
		return 0, err
	}
	return uint24(b), nil
}

// Applications lists the applications of the card.
func (h *Host) Applications() ([]AID, error) {
	b, err := h.plain(CmdApplications, nil, -1)
	if err != nil {
		return nil, err
	}
	if len(b)%3 != 0 {
		return nil, fmt.Errorf("list of applications: %w: %d bytes", ErrLength, len(b))
	}
	var list []AID
	for ; len(b) > 0; b = b[3:] {
		list = append(list, AIDFrom([3]byte(b[:3])))
	}
	return list, nil
}

// A DFName is the ISO identifier and name of an application.
type DFName struct {
	AID  AID
	ISO  uint16
	Name []byte
}

// DFNames lists the applications that have an ISO identifier, one frame each.
// The answer carries no MAC.
func (h *Host) DFNames() ([]DFName, error) {
	if h.session != nil {
		h.session.Command(CmdDFNames, nil, nil, Plain)
	}
	var list []DFName
	for frame, st := byte(CmdDFNames), More; st == More; frame = CmdMore {
		out, next, err := h.exchange(CmdDFNames, frame, nil)
		if err != nil {
			return nil, err
		}
		switch st = next; {
		case len(out) == 0 && st == OK:
		case len(out) < 5 || len(list) == MaxApplications:
			return nil, fmt.Errorf("DF name: %w: %d bytes", ErrLength, len(out))
		default:
			list = append(list, DFName{AIDFrom([3]byte(out[:3])), binary.LittleEndian.Uint16(out[3:]), out[5:]})
		}
	}
	return list, nil
}

// Configure is SET CONFIGURATION with one of the options.
func (h *Host) Configure(option byte, data []byte) error {
	_, err := h.command(CmdConfigure, []byte{option}, data, Enciphered, 0, Plain)
	return err
}

// Files lists the file numbers of the current application.
func (h *Host) Files() ([]byte, error) { return h.plain(CmdFiles, nil, -1) }

// FileSettings asks for a file's settings.
func (h *Host) FileSettings(no byte) (FileSettings, error) {
	b, err := h.plain(CmdFileSettings, []byte{no}, -1)
	if err != nil {
		return FileSettings{}, err
	}
	return ParseFileSettings(b)
}

// KeySettings asks for the settings of the current level, the number of keys
// and their kind.
func (h *Host) KeySettings() (KeySettings, int, KeyKind, error) {
	b, err := h.plain(CmdKeySettings, nil, 2)
	if err != nil {
		return 0, 0, 0, err
	}
	return KeySettings(b[0]), int(b[1] & 0x0F), KeyKind(b[1] & kindMask), nil
}

// KeyVersion asks for the version of a key.
func (h *Host) KeyVersion(no byte) (byte, error) {
	b, err := h.plain(CmdKeyVersion, []byte{no}, 1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// CreateApplication makes an application with keys all at the default.
func (h *Host) CreateApplication(a AID, settings KeySettings, keys int, kind KeyKind) error {
	b := a.Bytes()
	_, err := h.plain(CmdCreateApp, append(b[:], byte(settings), byte(keys)|byte(kind)), 0)
	return err
}

// DeleteApplication removes one. Deleting the current one ends the session: the
// answer has no MAC, and the card's own level is current.
func (h *Host) DeleteApplication(a AID) error {
	b := a.Bytes()
	if a != h.app || h.session == nil {
		_, err := h.plain(CmdDeleteApp, b[:], 0)
		return err
	}
	_, _, err := h.run(CmdDeleteApp, h.session.Command(CmdDeleteApp, b[:], nil, Plain))
	if err == nil {
		h.session, h.app = nil, Card
	}
	return err
}

// CreateFile makes a file in the current application.
func (h *Host) CreateFile(f NewFile) error {
	cmd, data := f.Command()
	_, err := h.plain(cmd, data, 0)
	return err
}

// DeleteFile removes a file.
func (h *Host) DeleteFile(no byte) error {
	_, err := h.plain(CmdDeleteFile, []byte{no}, 0)
	return err
}

// ChangeFile sets mode and access of a file; sealed unless the change is free.
func (h *Host) ChangeFile(no byte, mode Mode, access Access, sealed bool) error {
	data := binary.LittleEndian.AppendUint16([]byte{byte(mode)}, uint16(access))
	how := Plain
	if sealed {
		how = Enciphered
	}
	_, err := h.command(CmdChangeFile, []byte{no}, data, how, 0, Plain)
	return err
}

// ChangeSettings sets the key settings of the current level.
func (h *Host) ChangeSettings(k KeySettings) error {
	_, err := h.command(CmdChangeSettings, nil, []byte{byte(k)}, Enciphered, 0, Plain)
	return err
}

// ChangeKey replaces key number no of the current level. old is nil when it is
// the key of the session, which ends the session.
func (h *Host) ChangeKey(no byte, key Key, old *Key) error {
	if h.session == nil {
		return fmt.Errorf("CHANGE KEY: %w", ErrAuth)
	}
	ends := no == h.session.KeyNo
	if h.app == Card {
		no |= byte(key.Kind)
	}
	out, _, err := h.run(CmdChangeKey, append([]byte{no}, h.session.SealKey(no, key, old)...))
	if err != nil {
		return err
	}
	if ends {
		h.session = nil
	}
	_, err = h.opened(CmdChangeKey, out, 0, Plain)
	return err
}

// Format deletes every application; it ends the session.
func (h *Host) Format() error {
	_, err := h.plain(CmdFormat, nil, 0)
	h.session = nil
	return err
}

// place is the header of commands for a part of a file.
func place(no byte, off, n int) []byte { return put24(put24([]byte{no}, off), n) }

// ReadData reads n bytes from off; 0 bytes means all from there on.
func (h *Host) ReadData(no byte, off, n int, mode Mode) ([]byte, error) {
	want := n
	if n == 0 {
		want = -1
	}
	return h.command(CmdReadData, place(no, off, n), nil, Plain, want, mode)
}

// WriteData writes at off. What a backup file takes waits for Commit.
func (h *Host) WriteData(no byte, off int, data []byte, mode Mode) error {
	_, err := h.command(CmdWriteData, place(no, off, len(data)), data, mode, 0, Plain)
	return err
}

// ReadRecords reads n records of size bytes, oldest first, leaving out the
// newest skip; 0 records means all. The list is empty when the file is.
func (h *Host) ReadRecords(no byte, skip, n, size int, mode Mode) ([][]byte, error) {
	want := n * size
	if n == 0 {
		want = -1
	}
	b, err := h.command(CmdReadRecords, place(no, skip, n), nil, Plain, want, mode)
	if err != nil {
		return nil, err
	}
	if size < 1 || len(b)%size != 0 {
		return nil, fmt.Errorf("records: %w: %d bytes", ErrLength, len(b))
	}
	var list [][]byte
	for ; len(b) > 0; b = b[size:] {
		list = append(list, b[:size])
	}
	return list, nil
}

// WriteRecord writes into the record that the next Commit adds.
func (h *Host) WriteRecord(no byte, off int, data []byte, mode Mode) error {
	_, err := h.command(CmdWriteRecord, place(no, off, len(data)), data, mode, 0, Plain)
	return err
}

// ClearRecords empties a record file at the next Commit.
func (h *Host) ClearRecords(no byte) error {
	_, err := h.plain(CmdClearRecords, []byte{no}, 0)
	return err
}

// Value reads a value file.
func (h *Host) Value(no byte, mode Mode) (int32, error) {
	b, err := h.command(CmdGetValue, []byte{no}, nil, Plain, 4, mode)
	if err != nil {
		return 0, err
	}
	return int32At(b), nil
}

// Credit adds to a value file at the next Commit.
func (h *Host) Credit(no byte, v int32, mode Mode) error { return h.move(CmdCredit, no, v, mode) }

// Debit takes from a value file at the next Commit.
func (h *Host) Debit(no byte, v int32, mode Mode) error { return h.move(CmdDebit, no, v, mode) }

// LimitedCredit gives back, at most what the last commit took.
func (h *Host) LimitedCredit(no byte, v int32, mode Mode) error {
	return h.move(CmdLimitedCredit, no, v, mode)
}

func (h *Host) move(cmd, no byte, v int32, mode Mode) error {
	_, err := h.command(cmd, []byte{no}, binary.LittleEndian.AppendUint32(nil, uint32(v)), mode, 0, Plain)
	return err
}

// Commit makes all changes since the last one permanent, together.
func (h *Host) Commit() error {
	_, err := h.plain(CmdCommit, nil, 0)
	return err
}

// Abort takes the changes back.
func (h *Host) Abort() error {
	_, err := h.plain(CmdAbort, nil, 0)
	return err
}

// Refused is the native status in err, if a card refused.
func Refused(err error) (Status, bool) {
	var r *Refusal
	if !errors.As(err, &r) {
		return 0, false
	}
	return r.Status()
}
