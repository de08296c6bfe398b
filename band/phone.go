package band

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/spec/firmware"
	"koala/spec/iso7816"
)

// Pair is the phone's side of the pairing: confirm shows the digits and says
// whether the wearer found them equal. The phone's name is drawn from rand.
func Pair(conn io.ReadWriter, rand io.Reader, confirm func(digits string) bool) (Bond, error) {
	var bond Bond
	if _, err := io.ReadFull(rand, bond.Peer[:]); err != nil {
		return bond, fmt.Errorf("band: naming the phone: %w", err)
	}
	p, err := newPairing(rand)
	if err != nil {
		return bond, err
	}
	if err := writeFrame(conn, framePair, bond.Peer[:], p.public()); err != nil {
		return bond, err
	}
	hello, err := expect(conn, framePair|0x80, 7+64+16)
	if err != nil {
		return bond, err
	}
	if err := p.meet(hello[7:71]); err != nil {
		return bond, err
	}
	if err := writeFrame(conn, frameNonce, p.nonce[:]); err != nil {
		return bond, err
	}
	nb, err := expect(conn, frameNonce|0x80, 16)
	if err != nil {
		return bond, err
	}
	if commit := f4(p.peer, p.own, [16]byte(nb), 0); !same(commit[:], hello[71:]) {
		return bond, fmt.Errorf("%w: the band's commitment differs", ErrPairing)
	}
	if !confirm(digits(g2(p.own, p.peer, p.nonce, [16]byte(nb)))) {
		return bond, ErrRefused
	}
	ltk, ea, eb := p.keys(p.nonce, [16]byte(nb), address(bond.Peer[:6]), address(hello[1:7]))
	if err := writeFrame(conn, frameCheck, ea[:]); err != nil {
		return bond, err
	}
	check, err := expect(conn, frameCheck|0x80, 16)
	if err != nil {
		return bond, err
	}
	if !same(check, eb[:]) {
		return bond, fmt.Errorf("%w: the band's check differs", ErrPairing)
	}
	bond.LTK = ltk
	return bond, nil
}

// A Phone is an open session with a band.
type Phone struct {
	t   *tunnel
	seq uint16
}

// OpenPhone begins a session under a bond.
func OpenPhone(conn io.ReadWriter, bond Bond, rand io.Reader) (*Phone, error) {
	var na [16]byte
	if _, err := io.ReadFull(rand, na[:]); err != nil {
		return nil, fmt.Errorf("band: drawing a nonce: %w", err)
	}
	if err := writeFrame(conn, frameOpen, bond.Peer[:], na[:]); err != nil {
		return nil, err
	}
	body, err := expect(conn, frameOpen|0x80, 32)
	if err != nil {
		return nil, err
	}
	nb := [16]byte(body[:16])
	if check := openCheck(bond.LTK, na, nb); !same(check[:], body[16:]) {
		return nil, fmt.Errorf("%w: not the band of this bond", ErrPairing)
	}
	t, err := newTunnel(conn, bond.LTK, na, nb, true)
	return &Phone{t: t}, err
}

// ask makes one request and waits for its answer.
func (p *Phone) ask(op byte, body []byte) ([]byte, error) {
	p.seq++
	if err := p.t.send(append([]byte{op, byte(p.seq >> 8), byte(p.seq)}, body...)); err != nil {
		return nil, err
	}
	a, err := p.t.receive()
	switch {
	case err != nil:
		return nil, err
	case len(a) < 4 || a[0] != op|0x80 || a[1] != byte(p.seq>>8) || a[2] != byte(p.seq):
		return nil, fmt.Errorf("%w: an answer to another request", ErrFrame)
	case a[3] != 0:
		return nil, refusalOf(a[3:4])
	}
	return a[4:], nil
}

// A Status is how the band says it is.
type Status struct {
	ID                     string
	UID                    [7]byte
	Worn, Protected        bool
	Locked, Trial          bool
	Battery, Free, Arrived int // percent, bytes of the element, bytes of a release
	Policy                 Policy
	Firmware               uint32
}

// Status asks how the band is.
func (p *Phone) Status() (s Status, err error) {
	a, err := p.ask(askStatus, nil)
	if err != nil {
		return s, err
	}
	if len(a) < 21 {
		return s, fmt.Errorf("%w: a status of %d bytes", ErrFrame, len(a))
	}
	s = Status{UID: [7]byte(a[:7]), Battery: int(a[8]), Policy: policyOf(a[9]), Firmware: binary.BigEndian.Uint32(a[10:]),
		Free: int(binary.BigEndian.Uint32(a[14:])), Arrived: int(binary.BigEndian.Uint16(a[18:])), ID: string(a[20:])}
	s.Worn, s.Protected, s.Locked, s.Trial = a[7]&1 != 0, a[7]&2 != 0, a[7]&4 != 0, a[7]&8 != 0
	return s, nil
}

// Play has the band run a script, or tell what it brought when the band has
// run it before: the same id is never run twice.
func (p *Phone) Play(s Script) (answers [][]byte, cut bool, err error) {
	body := append([]byte{byte(len(s.ID))}, s.ID...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(s.Steps)))
	for _, st := range s.Steps {
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(st.APDU))), st.APDU...)
		body = append(body, byte(len(st.Expect)))
		for _, sw := range st.Expect {
			body = binary.BigEndian.AppendUint16(body, uint16(sw))
		}
	}
	a, err := p.ask(askScript, body)
	if err != nil {
		return nil, false, err
	}
	r := reader{rest: a}
	cut = r.number(1) == 1
	for !r.bad && len(r.rest) > 0 {
		answers = append(answers, r.take(int(r.number(2))))
	}
	if r.bad {
		return nil, false, fmt.Errorf("%w: answers that do not fit", ErrFrame)
	}
	return answers, cut, nil
}

// Run is the companion's work: fetch a script from the house, have the band
// run it, report, until there is nothing to do. Whatever is lost on either side
// is asked for again and done once.
func (p *Phone) Run(ctx context.Context, link Link) error {
	for range MaxScripts {
		s, err := p.Status()
		if err != nil {
			return err
		}
		script, err := link.Next(ctx, s.ID, Hello{UID: s.UID, Worn: s.Worn, Battery: s.Battery, Free: s.Free})
		if err != nil || script.Done {
			return err
		}
		answers, cut, err := p.Play(script)
		if err != nil {
			return err
		}
		if err := link.Report(ctx, s.ID, script.ID, answers, cut); err != nil {
			return fmt.Errorf("band %s: reporting script %s: %w", s.ID, script.ID, err)
		}
	}
	return ErrRun
}

// Transmit is the element behind the band's wires, for reading.
func (p *Phone) Transmit(c iso7816.Command) (iso7816.Response, error) {
	a, err := p.ask(askAPDU, c.Bytes())
	if err != nil {
		return iso7816.Response{}, err
	}
	if len(a) == 0 {
		return iso7816.Response{}, iso7816.ErrTorn
	}
	return iso7816.ParseResponse(a)
}

// Unlock opens the band for this wearing.
func (p *Phone) Unlock(code string) error {
	_, err := p.ask(askUnlock, []byte(code))
	return err
}

// SetPasscode sets, changes or (code empty) removes the passcode.
func (p *Phone) SetPasscode(old, code string) error {
	_, err := p.ask(askPasscode, append(append([]byte{byte(len(old))}, old...), code...))
	return err
}

// SetPolicy says what the band does while it is locked.
func (p *Phone) SetPolicy(policy Policy) error {
	_, err := p.ask(askPolicy, []byte{policy.byte()})
	return err
}

// Activity fetches the hours from since on.
func (p *Phone) Activity(since time.Time) ([]Hour, error) {
	a, err := p.ask(askActivity, binary.BigEndian.AppendUint32(nil, uint32(max(since.Unix(), 0))))
	if err != nil {
		return nil, err
	}
	hours, ok := parseHours(a)
	if !ok {
		return nil, fmt.Errorf("%w: hours that do not fit", ErrFrame)
	}
	return hours, nil
}

// piece is how much of a release goes in one request.
const piece = 512

// Update brings a release over, from where an earlier session stopped, and
// installs it on trial.
func (p *Phone) Update(release []byte) error {
	s, err := p.Status()
	if err != nil {
		return err
	}
	from := min(s.Arrived, len(release))
	err = p.bring(release, from)
	if from > 0 && (errors.Is(err, ErrSignature) || errors.Is(err, firmware.ErrRelease)) {
		return p.bring(release, 0) // what had arrived was of another release
	}
	return err
}

func (p *Phone) bring(release []byte, from int) error {
	for at := from; at < len(release); {
		end := min(at+piece, len(release))
		body := append(binary.BigEndian.AppendUint16(nil, uint16(at)), release[at:end]...)
		if _, err := p.ask(askReceive, body); err != nil {
			return err
		}
		at = end
	}
	_, err := p.ask(askInstall, nil)
	return err
}

// Keep ends the trial of a release; Rollback goes back to the one before.
func (p *Phone) Keep() error {
	_, err := p.ask(askKeep, nil)
	return err
}

// Rollback goes back to the release before the active one.
func (p *Phone) Rollback() error {
	_, err := p.ask(askRollback, nil)
	return err
}

// Forget ends the bond on the band's side.
func (p *Phone) Forget() error {
	_, err := p.ask(askForget, nil)
	return err
}
