package pcsc

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/spec/iso7816"
)

// A service is pcscd as far as these tests need it: one minor version, two
// readers, a T=0 card in the first that answers from a script.
type service struct {
	t        *testing.T
	path     string
	minor    uint32
	protocol uint32

	mu       sync.Mutex
	answers  map[string]string // hexadecimal command to answer; "!xxxxxxxx" is a result
	versions []uint32          // asked for
	hold     bool              // never answer a transmit
}

func newService(t *testing.T, minor, protocol uint32) *service {
	s := &service{t: t, path: filepath.Join(t.TempDir(), "comm"), minor: minor, protocol: protocol, answers: map[string]string{}}
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(conn)
		}
	}()
	return s
}

func (s *service) talk(conn net.Conn) {
	defer conn.Close()
	for {
		h, err := receive(conn, 8)
		if err != nil {
			return
		}
		body, err := receive(conn, int(h.at(0)))
		if err != nil {
			return
		}
		var extra []byte
		if body, extra = s.answer(conn, h.at(1), body); body == nil {
			return
		}
		if _, err := conn.Write(append(body, extra...)); err != nil {
			return
		}
	}
}

func (s *service) answer(conn net.Conn, command uint32, b structure) (structure, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch command {
	case cmdVersion:
		s.versions = append(s.versions, b.at(1))
		if b.at(1) != s.minor {
			return numbers(4, s.minor, uint32(resultStopped)), nil
		}
		return numbers(4, s.minor, 0), nil
	case cmdEstablish:
		return numbers(2, 77, 0), nil
	case cmdReaderStates:
		return s.table(), nil
	case cmdConnect:
		out := append(structure{}, b...)
		name := strings.TrimRight(string(b[4:4+nameSize]), "\x00")
		tail := numbers(5, s.protocol, 0)
		if name != "Koala 0" {
			tail = numbers(0, 0, uint32(resultNoCard))
		}
		copy(out[len(out)-12:], tail)
		return out, nil
	case cmdReconnect:
		return numbers(b.at(0), b.at(1), b.at(2), b.at(3), s.protocol, 0), nil
	case cmdTransmit:
		in, err := receive(conn, int(b.at(3)))
		if err != nil || s.hold {
			_, _ = io.Copy(io.Discard, conn)
			return nil, nil
		}
		a := s.answers[strings.ToUpper(hex.EncodeToString(in))]
		if strings.HasPrefix(a, "!") {
			x, _ := hex.DecodeString(a[1:])
			return numbers(b.at(0), 0, 0, 0, 0, 0, 0, uint32(x[0])<<24|uint32(x[1])<<16|uint32(x[2])<<8|uint32(x[3])), nil
		}
		out, _ := hex.DecodeString(a)
		return numbers(b.at(0), 0, 0, 0, 0, 0, uint32(len(out)), 0), out
	}
	return b, nil
}

func (s *service) table() structure {
	table := make([]byte, maxReaders*stateSize)
	copy(table, "Koala 0")
	copy(table[nameSize+4:], numbers(0x34))
	copy(table[nameSize+12:], "\x3B\x60\x00\x00")
	copy(table[nameSize+12+atrSize+3:], numbers(4))
	copy(table[stateSize:], "Koala 1")
	copy(table[stateSize+nameSize+4:], numbers(0x02))
	return table
}

func dialTest(t *testing.T, s *service) *Client {
	t.Helper()
	c, err := Dial(t.Context(), s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestVersions(t *testing.T) {
	for minor, asked := range map[uint32]int{5: 1, 4: 2, 3: 3} {
		s := newService(t, minor, protocolT1)
		if c := dialTest(t, s); c.minor != minor || c.context != 77 || len(s.versions) != asked {
			t.Errorf("4:%d: %d, asked %v", minor, c.minor, s.versions)
		}
	}
	if _, err := Dial(t.Context(), newService(t, 1, protocolT1).path); !errors.Is(err, ErrService) {
		t.Errorf("4:1: %v", err)
	}
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("nobody there")
	}
}

func TestReaders(t *testing.T) {
	c := dialTest(t, newService(t, 4, protocolT0))
	list, err := c.Readers()
	if err != nil || len(list) != 2 || list[0].Name != "Koala 0" || !list[0].Present || string(list[0].ATR) != "\x3B\x60\x00\x00" || list[1].Present {
		t.Fatalf("%+v %v", list, err)
	}
	if r, err := c.WaitCard(t.Context(), "Koala"); err != nil || r.Name != "Koala 0" {
		t.Errorf("%+v %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.WaitCard(ctx, "Koala 1"); !errors.Is(err, ErrNoCard) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := c.Connect("Koala 1", false); !errors.Is(err, ErrNoCard) {
		t.Error(err)
	}
	if _, err := c.Connect(strings.Repeat("x", 128), false); !errors.Is(err, ErrNoCard) {
		t.Error(err)
	}
}

func TestTransmit(t *testing.T) {
	for _, tt := range []struct {
		name     string
		protocol uint32
		script   map[string]string
		c        iso7816.Command
		want     string
		torn     bool
	}{
		{"T=1", protocolT1, map[string]string{"00A4040005F00000000100": "AABB9000"},
			iso7816.Command{INS: 0xA4, P1: 4, Data: []byte{0xF0, 0, 0, 0, 1}}, "AABB9000", false},
		{"T=0 without Le", protocolT0, map[string]string{"00A4040005F000000001": "6102", "00C0000002": "AABB9000"},
			iso7816.Command{INS: 0xA4, P1: 4, Data: []byte{0xF0, 0, 0, 0, 1}}, "AABB9000", false},
		{"T=0 in two parts, on channel 1", protocolT0, map[string]string{"81A4040001F0": "6102", "01C0000002": "AABB6101", "01C0000001": "CC9000"},
			iso7816.Command{CLA: 0x81, INS: 0xA4, P1: 4, Data: []byte{0xF0}}, "AABBCC9000", false},
		{"T=0 exact", protocolT0, map[string]string{"00B0950000": "6C02", "00B0950002": "AABB9000"},
			iso7816.Command{INS: 0xB0, P1: 0x95}, "AABB9000", false},
		{"T=0 for ever", protocolT0, map[string]string{"00B0950000": "6102", "00C0000002": "6102"},
			iso7816.Command{INS: 0xB0, P1: 0x95}, "6102", false},
		{"reset by another program", protocolT1, map[string]string{"00B0950000": "!80100068"}, iso7816.Command{INS: 0xB0, P1: 0x95}, "", true},
		{"taken out", protocolT1, map[string]string{"00B0950000": "!80100069"}, iso7816.Command{INS: 0xB0, P1: 0x95}, "", true},
		{"invalid handle", protocolT1, map[string]string{"00B0950000": "!80100003"}, iso7816.Command{INS: 0xB0, P1: 0x95}, "", false},
		{"an answer of one byte", protocolT1, map[string]string{"00B0950000": "90"}, iso7816.Command{INS: 0xB0, P1: 0x95}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, 4, tt.protocol)
			s.answers = tt.script
			k, err := dialTest(t, s).Connect("Koala 0", true)
			if err != nil || k.T0() != (tt.protocol == protocolT0) {
				t.Fatal(err)
			}
			r, err := k.Transmit(tt.c)
			if tt.want == "" {
				if err == nil || errors.Is(err, iso7816.ErrTorn) != tt.torn {
					t.Errorf("%v %v", r, err)
				}
				return
			}
			if err != nil || strings.ToUpper(hex.EncodeToString(r.Bytes())) != tt.want {
				t.Errorf("%v %v, want %s", r, err, tt.want)
			}
		})
	}
}

func TestConnection(t *testing.T) {
	s := newService(t, 5, protocolT1)
	c := dialTest(t, s)
	k, err := c.Connect("Koala 0", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{k.Begin, k.Reset, k.Repower, k.End, k.Close, c.Close} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
}

// A service that never answers is waited for no longer than the context.
func TestContextEndsATransmit(t *testing.T) {
	s := newService(t, 4, protocolT1)
	s.hold = true
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	c, err := Dial(ctx, s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := c.Connect("Koala 0", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Transmit(iso7816.Command{INS: 0xB0}); !errors.Is(err, iso7816.ErrTorn) {
		t.Error(err)
	}
}

func FuzzParseStates(f *testing.F) {
	f.Add([]byte((&service{}).table()))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, r := range parseStates(in) {
			if r.Name == "" || len(r.Name) > nameSize || len(r.ATR) > atrSize || !r.Present && r.ATR != nil {
				t.Errorf("%+v", r)
			}
		}
	})
}
