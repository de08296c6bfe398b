package pcsc_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/pcsc"
	"koala/spec/iso7816"
)

// A slot is the reader driver's end: what runs inside pcscd.
type slot struct {
	t    *testing.T
	conn net.Conn
}

func (s *slot) send(body string) {
	s.t.Helper()
	raw := unhex(s.t, body)
	// Length and body in two writes, as the packaged driver does it.
	if _, err := s.conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(raw)))); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.conn.Write(raw); err != nil {
		s.t.Fatal(err)
	}
}

func (s *slot) receive() string {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	var length [2]byte
	if _, err := io.ReadFull(s.conn, length[:]); err != nil {
		s.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(s.conn, body); err != nil {
		s.t.Fatal(err)
	}
	return strings.ToUpper(hex.EncodeToString(body))
}

func (s *slot) ask(body string) string {
	s.t.Helper()
	s.send(body)
	return s.receive()
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A stub is a card that remembers what was done to it. INS 01 answers the
// command's data, 02 so many bytes as P1 P2 say, 03 how often it was powered
// since the last command, 04 tears.
type stub struct {
	on     bool
	i      card.Interface
	powers int
	refuse bool // power does not come on
	names  []string
}

func (s *stub) UID() [7]byte { return [7]byte{8, 1, 2, 3, 4, 5, 6} }

func (s *stub) PowerOn(i card.Interface) error {
	if s.refuse {
		return card.ErrPower
	}
	s.on, s.i = true, i
	s.powers++
	return nil
}

func (s *stub) PowerOff() { s.on = false }

func (s *stub) Transmit(c iso7816.Command) (iso7816.Response, error) {
	switch {
	case !s.on || c.INS == 4:
		return iso7816.Response{}, iso7816.ErrTorn
	case c.INS == iso7816.InsSelect:
		s.names = append(s.names, string(c.Data))
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	case c.CLA == 0xFF:
		return iso7816.Response{SW: iso7816.SWClass}, nil
	case c.INS == 1:
		return iso7816.Response{Data: c.Data, SW: iso7816.OK}, nil
	case c.INS == 2:
		return iso7816.Response{Data: make([]byte, int(c.P1)<<8|int(c.P2)), SW: iso7816.OK}, nil
	case c.INS == 3:
		n := byte(s.powers)
		s.powers = 0
		return iso7816.Response{Data: []byte{n}, SW: iso7816.OK}, nil
	}
	return iso7816.Response{SW: iso7816.SWInstruction}, nil
}

// insert puts a card into a slot and gives the events it heard when it is over.
func insert(t *testing.T, p pcsc.Personality, c pcsc.Card) (*slot, func() ([]pcsc.Kind, error)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var kinds []pcsc.Kind
	r := &pcsc.Reader{Card: c, Personality: p, Hear: func(e pcsc.Event) { kinds = append(kinds, e.Kind) }}
	over := make(chan error, 1)
	go func() {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			err = r.Serve(ctx, conn)
		}
		over <- err
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); cancel() })
	return &slot{t, conn}, func() ([]pcsc.Kind, error) {
		conn.Close()
		err := <-over
		cancel()
		return kinds, err
	}
}

func TestControls(t *testing.T) {
	c := &stub{}
	s, end := insert(t, pcsc.Contactless, c)
	if got := s.ask("04"); got != "3B80800101" {
		t.Errorf("ATR %s", got)
	}
	s.send("01")
	if got := s.ask("0003000001"); got != "019000" {
		t.Errorf("powered %s times", got)
	}
	s.send("02")
	s.send("02")
	if got := s.ask("0003000001"); got != "029000" {
		t.Errorf("reset %s times", got)
	}
	s.send("00")
	s.send("00")
	s.send("07") // of a later driver
	s.send("")
	s.ask("04")
	if c.on {
		t.Error("power is still on")
	}
	if got := s.ask("0003000001"); got != "019000" {
		t.Errorf("a command without power: %s", got)
	}
	kinds, err := end()
	want := []pcsc.Kind{pcsc.Connected, pcsc.PowerOn, pcsc.APDU, pcsc.ResetCard, pcsc.ResetCard, pcsc.APDU, pcsc.PowerOff, pcsc.PowerOn, pcsc.APDU, pcsc.Disconnected}
	if !slices.Equal(kinds, want) || !pcsc.Lost(err) {
		t.Errorf("heard %v, %v", kinds, err)
	}
	if c.on {
		t.Error("the socket is gone and power is still on")
	}
}

// Commands and answers of every length that a frame can hold.
func TestLengths(t *testing.T) {
	s, _ := insert(t, pcsc.ContactT1, &stub{})
	s.send("01")
	for _, n := range []int{0, 1, 255, 256, 1000, 30000, 65000} {
		raw := iso7816.Command{INS: 1, Data: make([]byte, n), Le: iso7816.NoLe, Extended: n > 255}.Bytes()
		if got := s.ask(hex.EncodeToString(raw)); len(got) != 2*n+4 || !strings.HasSuffix(got, "9000") {
			t.Errorf("%d bytes there and back: %d digits", n, len(got))
		}
	}
	if got := s.ask("0002FFFD00 0000"); len(got) != 2*0xFFFF {
		t.Errorf("the longest answer: %d digits", len(got))
	}
	for _, bad := range []string{"0002FFFE00 0000", "0001", "000100", "00010000 05 01", "00010000 00"} {
		if got := s.ask(bad); got != "6700" && bad != "00010000 00" {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

func TestPseudoCommands(t *testing.T) {
	for _, tt := range []struct {
		p         pcsc.Personality
		cmd, want string
	}{
		{pcsc.Contactless, "FFCA000000", "080102030405069000"},
		{pcsc.Contactless, "FFCA000007", "080102030405069000"},
		{pcsc.Contactless, "FFCA000004", "6C07"},
		{pcsc.Contactless, "FFCA00000A", "080102030405066282"},
		{pcsc.Contactless, "FFCA0000", "6700"},
		{pcsc.Contactless, "FFCA010000", "05787781029000"},
		{pcsc.DESFire, "FFCA010000", "0675778102809000"},
		{pcsc.DESFire, "FFCA000000", "080102030405069000"},
		{pcsc.Contactless, "FFCA020000", "6A81"},
		{pcsc.Contactless, "FFCA000100", "6A86"},
		{pcsc.Contactless, "FF82000006FFFFFFFFFFFF", "6D00"},
		{pcsc.Contactless, "FFCA", "6700"},
		{pcsc.ContactT1, "FFCA000000", "6E00"},
		{pcsc.ContactT1, "FFCA010000", "6E00"},
		{pcsc.ContactT0, "FFCA000000", "6E00"},
	} {
		s, _ := insert(t, tt.p, &stub{})
		if got := s.ask(tt.cmd); got != tt.want {
			t.Errorf("%s: %s: %s, want %s", tt.p.Name, tt.cmd, got, tt.want)
		}
	}
}

// Under T=0 an answer to data is announced and fetched; what a reset has
// interrupted is gone.
func TestT0(t *testing.T) {
	s, _ := insert(t, pcsc.ContactT0, &stub{})
	for _, x := range [][2]string{
		{"0001000003AABBCC", "6103"}, {"00C0000003", "AABBCC9000"}, {"00C0000003", "6985"},
		{"0002000405", "6C04"}, {"0002000404", "000000009000"},
		{"0001000000 0003 AABBCC", "6700"}, // extended: not under T=0
		{"0001000003AABBCC", "6103"},
	} {
		if got := s.ask(x[0]); got != x[1] {
			t.Errorf("%s: %s, want %s", x[0], got, x[1])
		}
	}
	s.send("02")
	if got := s.ask("00C0000003"); got != "6985" {
		t.Errorf("after a reset: %s", got)
	}
}

// A card that tears leaves the reader: the socket closes, no answer comes.
func TestTear(t *testing.T) {
	for name, c := range map[string]*stub{"in a command": {}, "at power-on": {refuse: true}} {
		s, end := insert(t, pcsc.Contactless, c)
		s.send("0004000000")
		var b [1]byte
		if n, err := s.conn.Read(b[:]); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		kinds, err := end()
		if !slices.Contains(kinds, pcsc.Torn) || c.on || pcsc.Lost(err) {
			t.Errorf("%s: %v, %v", name, kinds, err)
		}
	}
}

// The DESFire personality has its application current from the start.
func TestPreselect(t *testing.T) {
	c := &stub{}
	s, _ := insert(t, pcsc.DESFire, c)
	s.send("01")
	s.send("02")
	s.ask("04")
	if want := []string{"\xD2\x76\x00\x00\x85\x01\x00", "\xD2\x76\x00\x00\x85\x01\x00"}; !slices.Equal(c.names, want) {
		t.Errorf("selected %X", c.names)
	}
}

// The reader driver goes away and comes back; the context ends it all.
func TestRunDialsAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	c := &stub{}
	r := &pcsc.Reader{Card: c, Personality: pcsc.Contactless}
	go func() { over <- r.Run(ctx, l.Addr().String()) }()
	for range 3 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s := &slot{t, conn}
		s.send("01")
		if got := s.ask("0003000001"); got != "019000" {
			t.Errorf("powered %s times", got)
		}
		conn.Close()
	}
	cancel()
	if err := <-over; err != nil || c.on {
		t.Errorf("%v, power %v", err, c.on)
	}
}

// Nobody there: the wait ends with the context, not with a thousand dials.
func TestRunWithoutAReader(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := (&pcsc.Reader{Card: &stub{}}).Run(ctx, "127.0.0.1:1"); err != nil {
		t.Error(err)
	}
}

var errDisk = errors.New("disk")

type broken struct{ stub }

func (b *broken) Transmit(iso7816.Command) (iso7816.Response, error) {
	return iso7816.Response{}, errDisk
}

// An error of the card that Stop knows ends the run.
func TestStop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	over := make(chan error, 1)
	r := &pcsc.Reader{Card: &broken{}, Personality: pcsc.Contactless, Stop: func(err error) bool { return errors.Is(err, errDisk) }}
	go func() { over <- r.Run(t.Context(), l.Addr().String()) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	(&slot{t, conn}).send("0003000001")
	if err := <-over; !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

// Every ATR has the structure and check byte of ISO 7816-3.
func TestATRs(t *testing.T) {
	for _, p := range pcsc.Personalities() {
		a := p.ATR
		at, historical, sum := 2, int(a[1]&0x0F), false
		for y := a[1]; ; {
			td := byte(0)
			for bit := byte(0x10); bit != 0; bit <<= 1 {
				if y&bit != 0 {
					td = a[at]
					at++
				}
			}
			if y&0x80 == 0 {
				break
			}
			sum = sum || td&0x0F != 0
			y = td
		}
		at += historical
		if sum {
			x := byte(0)
			for _, b := range a[1:] {
				x ^= b
			}
			if at++; x != 0 {
				t.Errorf("%s: check byte of %X", p.Name, a)
			}
		}
		if at != len(a) {
			t.Errorf("%s: %X has %d bytes, its structure %d", p.Name, a, len(a), at)
		}
		if q, err := pcsc.PersonalityNamed(p.Name); err != nil || q.Name != p.Name {
			t.Error(err)
		}
		if p.ATS != nil && int(p.ATS[0]) != len(p.ATS) {
			t.Errorf("%s: ATS %X", p.Name, p.ATS)
		}
	}
	if _, err := pcsc.PersonalityNamed("magnetic"); err == nil {
		t.Error("a magnetic stripe")
	}
}

// Whatever a reader driver sends, the card's end neither panics nor hangs, and
// every frame longer than a control is answered or ends in a closed socket.
func FuzzServe(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 1, 4, 0, 5, 0xFF, 0xCA, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 4, 0, 4, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := net.Pipe()
		over := make(chan error, 1)
		c := &stub{}
		r := &pcsc.Reader{Card: c, Personality: pcsc.ContactT0}
		go func() { over <- r.Serve(t.Context(), ours) }()
		go func() { _, _ = theirs.Write(in); theirs.Close() }()
		_, _ = io.Copy(io.Discard, theirs)
		if err := <-over; err == nil || c.on {
			t.Errorf("%v, power %v", err, c.on)
		}
	})
}
