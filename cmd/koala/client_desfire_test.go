package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"koala/internal/clock"
	"koala/spec/desfire"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// libfreefare at a PC/SC reader: nfc-tools/libfreefare, libfreefare/freefare.c,
// mifare_desfire.c, mifare_desfire_crypto.c, test/test_mifare_desfire*.c;
// nfc-tools/libnfc, libnfc/drivers/pcsc.c. What it sends to a fresh card was
// recorded once: card/desfire/testdata/libfreefare.trace.

// libnfc takes a target for DESFire when the reader's ATR names a card of type A
// with one historical byte 80, whose UID has 4 bytes or 7 that begin with 04;
// libfreefare then asks for nothing before its own commands, which travel wrapped.
func TestClientLibfreefare(t *testing.T) {
	g := plugIn(t, "desfire", gp.AES)
	atr := unhexed(g.ask("04"))
	if len(atr) < 5 || atr[0] != 0x3B || int(atr[1]) != 0x80|len(atr)-5 || !bytes.Equal(atr[2:4], []byte{0x80, 1}) || upper(atr[4:len(atr)-1]) != "80" {
		t.Fatalf("ATR %X", atr)
	}
	if ats := g.ok("FFCA010000"); len(ats) < 5 {
		t.Errorf("ATS %X", ats)
	}
	uid := g.ok("FFCA000000")
	if len(uid) != 7 || uid[0] != 0x04 {
		t.Fatalf("UID %X", uid)
	}
	h := g.desfire()
	v, err := h.Version()
	if err != nil || v.Hardware[0] != 4 || v.Hardware[3] < 1 || v.Software[3] < 1 || !bytes.Equal(v.UID[:], uid) {
		t.Fatalf("version %+v %v", v, err)
	}
	steps(t, func() error { return h.Select(0) })
	apps, err := h.Applications()
	if err != nil || fmt.Sprint(apps) != fmt.Sprint([]desfire.AID{desfire.CanteenAID, desfire.DoorAID, testModes}) {
		t.Errorf("applications %v %v", apps, err)
	}
	if free, err := h.FreeMemory(); err != nil || free < 1024 {
		t.Errorf("free %d %v", free, err)
	}
	if s, n, kind, err := h.KeySettings(); err != nil || s != desfire.DefaultSettings || n != 1 || kind != desfire.DES {
		t.Errorf("master: settings %02X, %d keys of kind %02X, %v", byte(s), n, byte(kind), err)
	}
	g.values(h)
	g.owned(h)
	if v := g.look(); v.Cards[2].Fen != nil && *v.Cards[2].Fen != testCanteenFen {
		t.Errorf("the canteen holds %d", *v.Cards[2].Fen)
	}
}

// desfire is a host behind the reader.
func (g *plug) desfire() *desfire.Host {
	return desfire.NewHost(func(c iso7816.Command) (iso7816.Response, error) {
		raw := unhexed(g.ask(upper(c.Bytes())))
		if len(raw) < 2 {
			return iso7816.Response{}, errors.New("no answer")
		}
		return iso7816.ParseResponse(raw)
	}, clock.Random(3))
}

func steps(t *testing.T, list ...func() error) {
	t.Helper()
	for n, step := range list {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
	}
}

// values are the three value files of the application for libraries: money in,
// out and back in each mode, taken back before it counts, and what no mode moves.
func (g *plug) values(h *desfire.Host) {
	g.t.Helper()
	zeros := desfire.AESKey([16]byte{}, 0)
	steps(g.t, func() error { return h.Select(testModes) }, func() error { return h.Authenticate(0, zeros) })
	for _, mode := range []desfire.Mode{desfire.Plain, desfire.MACed, desfire.Enciphered} {
		no := byte(mode)
		if s, err := h.FileSettings(no); err != nil || s.Type != desfire.ValueFile || s.Mode != mode {
			g.t.Fatalf("file %d: %+v %v", no, s, err)
		}
		holds := func(want int32) {
			g.t.Helper()
			if got, err := h.Value(no, mode); err != nil || got != want {
				g.t.Errorf("file %d holds %d, want %d: %v", no, got, want, err)
			}
		}
		holds(testModesFen)
		steps(g.t, func() error { return h.Credit(no, 100, mode) }, h.Abort)
		holds(testModesFen)
		steps(g.t, func() error { return h.Credit(no, 100, mode) }, h.Commit)
		holds(testModesFen + 100)
		steps(g.t, func() error { return h.Debit(no, 300, mode) }, h.Commit)
		holds(testModesFen - 200)
		if err := h.Debit(no, testModesFen, mode); err == nil {
			g.t.Errorf("file %d: more taken than there is", no)
		}
		steps(g.t, func() error { return h.Authenticate(0, zeros) })
		holds(testModesFen - 200)
		if v, err := h.KeyVersion(0); err != nil || v != 0 {
			g.t.Errorf("key version %d %v", v, err)
		}
	}
}

// owned is an application of the library's own: made with the factory's key,
// filled, its key changed, deleted.
func (g *plug) owned(h *desfire.Host) {
	g.t.Helper()
	const own desfire.AID = 0x445566
	zeros, other := desfire.AESKey([16]byte{}, 0), desfire.AESKey([16]byte{1, 2, 3}, 7)
	file := desfire.NewFile{No: 1, Value: 1000, Settings: desfire.FileSettings{Type: desfire.ValueFile, Mode: desfire.Enciphered, Upper: 5000}}
	data := desfire.NewFile{No: 2, Settings: desfire.FileSettings{Type: desfire.StdFile, Mode: desfire.MACed, Size: 100}}
	long := bytes.Repeat([]byte{0x5A}, 100)
	steps(g.t,
		func() error { return h.Select(0) },
		func() error { return h.AuthenticateLegacy(0, desfire.DESKey([16]byte{})) },
		func() error { return h.CreateApplication(own, desfire.DefaultSettings, 2, desfire.AES) },
		func() error { return h.Select(own) },
		func() error { return h.Authenticate(0, zeros) },
		func() error { return h.CreateFile(file) },
		func() error { return h.CreateFile(data) },
		func() error { return h.WriteData(2, 0, long, desfire.MACed) },
		func() error { return h.ChangeKey(0, other, nil) },
		func() error { return h.Authenticate(0, other) },
	)
	if got, err := h.ReadData(2, 0, 0, desfire.MACed); err != nil || !bytes.Equal(got, long) {
		g.t.Errorf("read %X %v", got, err)
	}
	if v, err := h.KeyVersion(0); err != nil || v != 7 {
		g.t.Errorf("version %d %v", v, err)
	}
	steps(g.t,
		func() error { return h.Select(0) },
		func() error { return h.Authenticate(0, desfire.DESKey([16]byte{})) },
		func() error { return h.DeleteApplication(own) },
	)
	if err := h.Select(own); err == nil {
		g.t.Error("a deleted application can be selected")
	}
}
