package desfire_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

var factoryKey = desfire.DESKey([16]byte{})

// A fresh card is taken over by a tool that only knows DES: the master key
// becomes AES by each of the legacy and the ISO authentication.
func TestFactoryKeyBecomesAES(t *testing.T) {
	master := desfire.AESKey([16]byte{0: 7}, 0x42)
	for name, auth := range map[string]func(b *bench) error{
		"legacy": func(b *bench) error { return b.h.AuthenticateLegacy(0, factoryKey) },
		"ISO":    func(b *bench) error { return b.h.Authenticate(0, factoryKey) },
	} {
		b := newBench(t)
		b.ok(auth(b))
		b.ok(b.h.ChangeKey(0, master, nil))
		b.refused(b.h.AuthenticateLegacy(0, factoryKey), desfire.AuthError)
		b.ok(b.h.Authenticate(0, master))
		if v, err := b.h.KeyVersion(0); err != nil || v != 0x42 {
			t.Errorf("%s: version %02X %v", name, v, err)
		}
		if s, n, kind, err := b.h.KeySettings(); err != nil || s != desfire.DefaultSettings || n != 1 || kind != desfire.AES {
			t.Errorf("%s: %02X %d %02X %v", name, s, n, kind, err)
		}
		// And back to DES, then to 3K3DES.
		b.ok(b.h.ChangeKey(0, factoryKey, nil))
		b.ok(b.h.AuthenticateLegacy(0, factoryKey))
		three := desfire.NewKey(desfire.TDES, bytes.Repeat([]byte{2, 4, 6}, 8), 0)
		b.ok(b.h.Authenticate(0, factoryKey))
		b.ok(b.h.ChangeKey(0, three, nil))
		b.ok(b.h.Authenticate(0, three))
	}
}

// Value, data and records move in every mode under every kind of key and every
// authentication.
func TestEveryModeOfEverySession(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789ABCDEF"), 20)
	for _, kind := range []struct {
		name   string
		key    desfire.Key
		legacy bool
	}{
		{"AES", desfire.AESKey([16]byte{}, 0), false}, {"DES", factoryKey, false}, {"3K3DES", desfire.NewKey(desfire.TDES, make([]byte, 24), 0), false},
		{"legacy DES", factoryKey, true},
	} {
		for _, mode := range []desfire.Mode{desfire.Plain, desfire.MACed, desfire.Enciphered} {
			b := newBench(t)
			b.ok(b.h.CreateApplication(0xABCDEF, desfire.DefaultSettings, 2, kind.key.Kind))
			b.ok(b.h.Select(0xABCDEF))
			for i, s := range []desfire.FileSettings{
				{Type: desfire.StdFile, Size: 400}, {Type: desfire.BackupFile, Size: 400},
				{Type: desfire.ValueFile, Lower: -100, Upper: 1000, LimitedOn: true},
				{Type: desfire.LinearFile, Size: 60, Max: 3}, {Type: desfire.CyclicFile, Size: 60, Max: 3},
			} {
				s.Mode = mode
				b.ok(b.h.CreateFile(desfire.NewFile{No: byte(i), Settings: s, Value: 10}))
			}
			auth := b.h.Authenticate
			if kind.legacy {
				auth = b.h.AuthenticateLegacy
			}
			b.ok(auth(0, kind.key))
			for no := byte(0); no < 2; no++ {
				b.ok(b.h.WriteData(no, 7, long, mode))
			}
			b.ok(b.h.Debit(2, 60, mode))
			b.ok(b.h.WriteRecord(3, 1, long[:59], mode))
			b.ok(b.h.WriteRecord(4, 0, long[:60], mode))
			b.ok(b.h.Commit())
			b.ok(b.h.LimitedCredit(2, 25, mode))
			b.ok(b.h.Commit())
			for no := byte(0); no < 2; no++ {
				if got, err := b.h.ReadData(no, 7, len(long), mode); err != nil || !bytes.Equal(got, long) {
					t.Errorf("%s %v file %d: %X %v", kind.name, mode, no, got, err)
				}
				if got, err := b.h.ReadData(no, 0, 0, mode); err != nil || len(got) != 400 {
					t.Errorf("%s %v file %d: %d bytes %v", kind.name, mode, no, len(got), err)
				}
			}
			if v, err := b.h.Value(2, mode); err != nil || v != -25 {
				t.Errorf("%s %v: value %d %v", kind.name, mode, v, err)
			}
			for no := byte(3); no < 5; no++ {
				if list, err := b.h.ReadRecords(no, 0, 0, 60, mode); err != nil || len(list) != 1 || !bytes.Contains(list[0], long[:59]) {
					t.Errorf("%s %v file %d: %X %v", kind.name, mode, no, list, err)
				}
			}
			if kind.legacy {
				continue
			}
			b.ok(b.h.ChangeSettings(0x0B))
			b.ok(b.h.ChangeFile(0, desfire.Plain, desfire.Rights(desfire.Free, 1, 1, 0), true))
			other := desfire.NewKey(kind.key.Kind, bytes.Repeat([]byte{8}, kind.key.Kind.Size()), 9)
			b.ok(b.h.ChangeKey(1, other, &kind.key))
			b.ok(b.h.Authenticate(1, other))
		}
	}
}

// A wrong MAC, a wrong checksum and a repeated command end the session and
// change nothing.
func TestMessagingIsHeld(t *testing.T) {
	for name, spoil := range map[string]func(c *iso7816.Command){
		"MAC":    func(c *iso7816.Command) { c.Data[len(c.Data)-1] ^= 1 },
		"amount": func(c *iso7816.Command) { c.Data[1] ^= 1 },
		"file":   func(c *iso7816.Command) { c.Data[0] ^= 2 },
		"short":  func(c *iso7816.Command) { c.Data = c.Data[:len(c.Data)-1] },
	} {
		for _, mode := range []desfire.Mode{desfire.MACed, desfire.Enciphered} {
			app := publicApp()
			app.Files = []desfire.InitialFile{valueFile(1, mode, 50), valueFile(3, mode, 50)}
			b := newBench(t, app)
			spoiling := true
			b.h = desfire.NewHost(func(c iso7816.Command) (iso7816.Response, error) {
				if c.INS == desfire.CmdCredit && spoiling {
					spoil(&c)
				}
				return b.e.Transmit(c)
			}, b.chance)
			b.ok(b.h.Select(app.AID))
			b.ok(b.h.Authenticate(0, zeroKey))
			err := b.h.Credit(1, 5, mode)
			if st, ok := desfire.Refused(err); !ok || st != desfire.Integrity && st != desfire.WrongLength {
				t.Errorf("%s %v: %v", name, mode, err)
			}
			if b.h.Session() != nil {
				t.Errorf("%s: the session lives on", name)
			}
			b.refused(b.h.Commit(), desfire.NoChange)
			b.ok(b.h.Authenticate(0, zeroKey))
			spoiling = false
			b.ok(b.h.Credit(1, 5, mode))
			b.ok(b.h.Commit())
		}
	}
	b := newBench(t, publicApp())
	var last iso7816.Command
	b.h = desfire.NewHost(func(c iso7816.Command) (iso7816.Response, error) { last = c; return b.e.Transmit(c) }, b.chance)
	b.ok(b.h.Select(0x112233))
	b.ok(b.h.Authenticate(0, zeroKey))
	b.ok(b.h.Debit(1, 5, desfire.MACed))
	if r, _ := b.e.Transmit(last); r.SW != desfire.Integrity.SW() {
		t.Errorf("the same debit again: %v", r.SW)
	}
}

// Who may do what: keys of the nibbles, free and never, levels and settings.
func TestRights(t *testing.T) {
	b := newBench(t, mixedApp())
	// Without authentication.
	b.ok(b.h.Select(mixedApp().AID))
	_, err := b.h.Value(0, desfire.Plain)
	b.refused(err, desfire.AuthError)
	b.refused(b.h.WriteData(4, 0, []byte{1}, desfire.Plain), desfire.AuthError)
	if list, err := b.h.Files(); err != nil || !bytes.Equal(list, []byte{0, 1, 2, 3, 4}) {
		t.Errorf("files %X %v", list, err)
	}
	// With another key.
	b.enter(2, hostKey)
	_, err = b.h.Value(0, desfire.Enciphered)
	b.refused(err, desfire.Permission)
	b.enter(2, hostKey)
	b.refused(b.h.ChangeKey(1, zeroKey, &tillKey), desfire.Permission)
	b.enter(1, tillKey)
	b.refused(b.h.ChangeSettings(0), desfire.Permission)
	b.enter(1, tillKey)
	b.refused(b.h.ChangeFile(0, desfire.Plain, 0, true), desfire.Permission)
	b.enter(1, tillKey)
	b.refused(b.h.CreateApplication(5, 0x0F, 1, desfire.AES), desfire.Permission)
	b.refused(b.h.Authenticate(3, hostKey), desfire.NoSuchKey)
	b.refused(b.h.Select(0x999999), desfire.NoApplication)
	// The master freezes what can be frozen.
	b.enter(0, masterKey)
	b.ok(b.h.ChangeFile(2, desfire.Plain, desfire.Rights(desfire.Free, desfire.Never, desfire.Never, desfire.Never), true))
	b.ok(b.h.ChangeSettings(0xF0))
	b.refused(b.h.ChangeFile(2, desfire.Plain, 0, true), desfire.Permission)
	b.enter(0, masterKey)
	b.refused(b.h.ChangeKey(1, zeroKey, &tillKey), desfire.Permission)
	b.enter(0, masterKey)
	b.refused(b.h.ChangeKey(0, zeroKey, nil), desfire.Permission)
	b.enter(0, masterKey)
	b.refused(b.h.ChangeSettings(0x0F), desfire.Permission)
	b.ok(b.h.Select(mixedApp().AID))
	_, err = b.h.Files()
	b.refused(err, desfire.AuthError)
	if data, err := b.h.ReadData(2, 0, 20, desfire.Plain); err != nil || string(data) != "the backup as it was" {
		t.Errorf("%q %v", data, err)
	}
	b.refused(b.h.WriteData(2, 0, []byte{1}, desfire.Plain), desfire.Permission)
	// An answer of a free file in a session is plain, and has a MAC.
	b.enter(1, tillKey)
	if _, err := b.h.ReadData(2, 0, 20, desfire.Plain); err != nil {
		t.Error(err)
	}
}

// What is no proper command of a file.
func TestBoundaries(t *testing.T) {
	b := newBench(t, mixedApp())
	for name, tt := range map[string]struct {
		do   func() error
		want desfire.Status
	}{
		"read past the end":    {func() error { _, err := b.h.ReadData(2, 60, 5, desfire.MACed); return err }, desfire.Boundary},
		"read from the end":    {func() error { _, err := b.h.ReadData(2, 64, 0, desfire.MACed); return err }, desfire.Boundary},
		"write past the end":   {func() error { return b.h.WriteData(2, 60, make([]byte, 5), desfire.MACed) }, desfire.Boundary},
		"data of a value":      {func() error { _, err := b.h.ReadData(0, 0, 1, desfire.Enciphered); return err }, desfire.Parameter},
		"value of data":        {func() error { _, err := b.h.Value(2, desfire.MACed); return err }, desfire.Parameter},
		"records of data":      {func() error { _, err := b.h.ReadRecords(2, 0, 1, 1, desfire.MACed); return err }, desfire.Parameter},
		"no records":           {func() error { _, err := b.h.ReadRecords(3, 0, 0, 8, desfire.Plain); return err }, desfire.Boundary},
		"too many records":     {func() error { _, err := b.h.ReadRecords(1, 0, 2, 17, desfire.Enciphered); return err }, desfire.Boundary},
		"record too long":      {func() error { return b.h.WriteRecord(3, 4, make([]byte, 5), desfire.Plain) }, desfire.Boundary},
		"negative debit":       {func() error { return b.h.Debit(0, -1, desfire.Enciphered) }, desfire.Parameter},
		"over the limit":       {func() error { return b.h.Credit(0, 45_001, desfire.Enciphered) }, desfire.Boundary},
		"limited without":      {func() error { return b.h.LimitedCredit(0, 1, desfire.Enciphered) }, desfire.Boundary},
		"nothing to commit":    {func() error { return b.h.Commit() }, desfire.NoChange},
		"no such file":         {func() error { return b.h.DeleteFile(7) }, desfire.NoFile},
		"file twice":           {func() error { return b.h.CreateFile(mixedApp().Files[0].NewFile) }, desfire.Duplicate},
		"cyclic of one record": {func() error { return b.h.CreateFile(newCyclic(9, 8, 1)) }, desfire.Parameter},
		"transaction too large": {func() error {
			for range 40 {
				if err := b.h.WriteData(2, 0, make([]byte, 64), desfire.MACed); err != nil {
					return err
				}
			}
			return nil
		}, desfire.OutOfMemory},
	} {
		b.enter(1, tillKey)
		if st, ok := desfire.Refused(tt.do()); !ok || st != tt.want {
			t.Errorf("%s: %02X", name, byte(st))
		}
	}
}

func newCyclic(no byte, size, most int) desfire.NewFile {
	return desfire.NewFile{No: no, Settings: desfire.FileSettings{Type: desfire.CyclicFile, Size: size, Max: most}}
}

// Record files keep the newest, in order, and are cleared by a commit.
func TestRecords(t *testing.T) {
	b := newBench(t, mixedApp())
	b.enter(1, tillKey)
	for i := range 9 {
		b.ok(b.h.WriteRecord(1, 0, fmt.Appendf(nil, "record %2d         ", i)[:17], desfire.Enciphered))
		b.ok(b.h.WriteRecord(3, 0, fmt.Appendf(nil, "lin %d   ", i)[:8], desfire.Plain))
		b.ok(b.h.Commit())
		list, err := b.h.ReadRecords(1, 0, 0, 17, desfire.Enciphered)
		if want := min(i+2, 3); err != nil || len(list) != want || !bytes.HasPrefix(list[want-1], fmt.Appendf(nil, "record %2d", i)) {
			t.Fatalf("%d: %q %v", i, list, err)
		}
		if list, err = b.h.ReadRecords(3, min(i, 1), 1, 8, desfire.Plain); err != nil || string(list[0][:5]) != fmt.Sprintf("lin %d", max(i-1, 0)) {
			t.Fatalf("%d: %q %v", i, list, err)
		}
	}
	b.ok(b.h.WriteRecord(3, 0, make([]byte, 8), desfire.Plain))
	b.ok(b.h.Commit())
	b.refused(b.h.WriteRecord(3, 0, make([]byte, 8), desfire.Plain), desfire.Boundary)
	b.enter(1, tillKey)
	b.ok(b.h.ClearRecords(3))
	b.ok(b.h.ClearRecords(1))
	b.ok(b.h.Commit())
	s, err := b.h.FileSettings(3)
	if err != nil || s.Now != 0 || s.Max != 10 {
		t.Errorf("%+v %v", s, err)
	}
	b.ok(b.h.WriteRecord(3, 0, []byte("anew"), desfire.Plain))
	b.ok(b.h.Commit())
}

// The card level: many applications, ISO names, deletion, formatting, memory
// that comes back.
func TestCardLevel(t *testing.T) {
	b := newBench(t)
	b.ok(b.h.Authenticate(0, factoryKey))
	for i := range desfire.MaxApplications {
		b.ok(b.h.CreateApplication(desfire.AID(i+1), 0x0F, 3, desfire.AES))
	}
	free, err := b.h.FreeMemory()
	b.ok(err)
	list, err := b.h.Applications()
	if err != nil || len(list) != desfire.MaxApplications || list[27] != 28 {
		t.Fatalf("%v %v", list, err)
	}
	b.refused(b.h.CreateApplication(99, 0x0F, 1, desfire.AES), desfire.TooMany)
	b.ok(b.h.Authenticate(0, factoryKey))
	b.ok(b.h.DeleteApplication(5))
	b.refused(b.h.CreateApplication(6, 0x0F, 1, desfire.AES), desfire.Duplicate)
	b.ok(b.h.CreateApplication(100, 0x0F, 3, desfire.AES))
	if again, err := b.h.FreeMemory(); err != nil || again != free {
		t.Errorf("free %d after %d", again, free)
	}
	// An application may delete itself where creating is free.
	b.ok(b.h.Select(100))
	b.ok(b.h.Authenticate(0, zeroKey))
	b.ok(b.h.DeleteApplication(100))
	b.refused(b.h.Select(100), desfire.NoApplication)
	b.ok(b.h.Authenticate(0, factoryKey))
	b.ok(b.h.Format())
	if list, err := b.h.Applications(); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	b.run(`
		90CA000005 010203 0F 11 00 > 919E
		90CA000005 010203 0F 8F 00 > 919E
		90CA000006 010203 0F A1 10 00 > 919E
		90CA000009 010203 0F A1 10E1 4142 00 > 9100
		90CA00000A 010204 0F A1 11E1 414243 00 > 9100
		90CA000009 010205 0F A1 10E1 4144 00 > 91DE
		906D000000 > 010203 10E1 4142 91AF
		90AF000000 > 010204 11E1 414243 9100
		905A000003 010203 00 > 9100
		90CD000009 01 02E1 00 EEEE 100000 00 > 9100
		9061000000 > 02E1 9100
	`)
	b.tap()
	for range 2 { // without a session and within one
		if list, err := b.h.DFNames(); err != nil || len(list) != 2 || list[1].ISO != 0xE111 || string(list[1].Name) != "ABC" {
			t.Errorf("%+v %v", list, err)
		}
		b.ok(b.h.Authenticate(0, factoryKey))
	}
}

// The master forbids formatting and sets the key of new applications.
func TestConfiguration(t *testing.T) {
	b := newBench(t)
	b.ok(b.h.Authenticate(0, factoryKey))
	value := bytes.Repeat([]byte{0x5A}, 16)
	b.ok(b.h.Configure(desfire.OptionDefaultKey, append(append(value, make([]byte, 8)...), 0x33)))
	b.ok(b.h.CreateApplication(7, 0x0F, 1, desfire.AES))
	b.refused(b.h.Configure(desfire.OptionFormat, []byte{2}), desfire.Parameter)
	b.ok(b.h.Authenticate(0, factoryKey))
	b.ok(b.h.Configure(desfire.OptionFormat, []byte{desfire.ForbidFormat}))
	b.refused(b.h.Format(), desfire.Permission)
	b.ok(b.h.Select(7))
	b.ok(b.h.Authenticate(0, desfire.AESKey([16]byte(value), 0x33)))
}

// Applications come over the air: again, replaced, deleted, refused when
// malformed, when a key does not open or when there is no room.
func TestPersonalisation(t *testing.T) {
	b := newBench(t, mixedApp(), publicApp(), mixedApp())
	if list, err := b.h.Applications(); err != nil || len(list) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	_ = b.state()
	b.e.Store(b.self, desfire.DGIMaster, desfire.Master{Settings: 0x09, Key: sealed(masterKey)}.Bytes())
	b.tap()
	b.refused(b.h.CreateApplication(9, 0x0F, 1, desfire.AES), desfire.AuthError)
	b.ok(b.h.Authenticate(0, masterKey))
	b.ok(b.h.CreateApplication(9, 0x0F, 1, desfire.AES))
	b.e.Store(b.self, desfire.DGIDelete, desfire.Deletion(9))
	b.e.Store(b.self, desfire.DGIDelete, desfire.Deletion(9))
	b.tap()
	b.refused(b.h.Select(9), desfire.NoApplication)

	good, err := mixedApp().Bytes()
	b.ok(err)
	wrongKey := bytes.Clone(good)
	wrongKey[8] ^= 1
	big := desfire.Application{AID: 77, Keys: []desfire.SealedKey{sealed(zeroKey)}}
	for i := range byte(20) {
		big.Files = append(big.Files, desfire.InitialFile{NewFile: desfire.NewFile{No: i, Settings: desfire.FileSettings{Size: desfire.MaxFileSize}}})
	}
	tooBig, err := big.Bytes()
	b.ok(err)
	before := b.state()
	for name, tt := range map[string]struct {
		dgi  uint16
		data []byte
		want iso7816.SW
	}{
		"cut off":     {desfire.DGIApplication, good[:40], iso7816.SWData},
		"version":     {desfire.DGIApplication, append([]byte{2}, good[1:]...), iso7816.SWData},
		"wrong key":   {desfire.DGIApplication, wrongKey, iso7816.SWData},
		"no room":     {desfire.DGIApplication, tooBig, iso7816.SWNoSpace},
		"unknown DGI": {0x8D77, good, iso7816.SWReferenceNotFound},
	} {
		b.e.PowerOff()
		sw, err := b.e.Factory(func(s *card.Session) iso7816.SW { return s.Personalise(b.self, tt.dgi, tt.data, cardtest.Clear) })
		if err != nil || sw != tt.want {
			t.Errorf("%s: %v %v", name, sw, err)
		}
	}
	if after := b.state(); after != before {
		t.Errorf("from %s to %s", before, after)
	}
	b.e.PowerOff()
	if sw, _ := b.e.Factory(func(s *card.Session) iso7816.SW {
		return s.Personalise(b.self, desfire.DGIMaster, desfire.Master{Key: sealed(zeroKey)}.Bytes(), func([]byte) ([]byte, error) { return nil, errors.New("closed") })
	}); sw != iso7816.SWData {
		t.Errorf("%v", sw)
	}
}

// Where the policy allows it, a kiosk reads the canteen's balance without a key,
// and the till goes on enciphered.
func TestOpenBalance(t *testing.T) {
	keys := [3]desfire.SealedKey{sealed(masterKey), sealed(tillKey), sealed(hostKey)}
	for _, open := range []bool{true, false} {
		app := desfire.Canteen(keys)
		if open {
			app = app.OpenBalance()
		}
		b := newBench(t, app)
		b.ok(b.h.Select(desfire.CanteenAID))
		if _, err := b.h.Value(desfire.CanteenValue, desfire.Plain); (err == nil) != open {
			t.Errorf("open %v: %v", open, err)
		}
		b.ok(b.h.Authenticate(desfire.CanteenTill, tillKey))
		if _, err := b.h.Value(desfire.CanteenValue, desfire.Enciphered); err != nil {
			t.Error(err)
		}
	}
}

// What is deleted is wiped: no byte of a key or file stays in the memory.
func TestDeletedIsWiped(t *testing.T) {
	secret := desfire.AESKey([16]byte(bytes.Repeat([]byte{0xC5, 0x3A}, 8)), 1)
	app := desfire.Application{AID: 3, Settings: desfire.DefaultSettings, Keys: []desfire.SealedKey{sealed(secret)}}
	app.Files = []desfire.InitialFile{{
		NewFile: desfire.NewFile{Settings: desfire.FileSettings{Size: 3000, Access: desfire.Rights(desfire.Free, desfire.Free, desfire.Free, 0)}},
		Content: bytes.Repeat([]byte("secret!"), 40),
	}}
	holds := func(b *bench) bool {
		b.e.PowerOff()
		image := b.e.Image()
		return bytes.Contains(image, secret.Bytes()) || bytes.Contains(image, []byte("secret!secret!"))
	}
	for name, act := range map[string]func(b *bench){
		"application": func(b *bench) { b.ok(b.h.Authenticate(0, masterKey)); b.ok(b.h.DeleteApplication(3)) },
		"format":      func(b *bench) { b.ok(b.h.Authenticate(0, masterKey)); b.ok(b.h.Format()) },
	} {
		b := newBench(t, app)
		if !holds(b) {
			t.Fatal("not there to begin with")
		}
		b.own()
		act(b)
		// The journal keeps what was not written over: a large unit goes over it.
		b.ok(b.h.CreateApplication(8, 0x0F, 1, desfire.AES))
		b.ok(b.h.Select(8))
		b.ok(b.h.CreateFile(desfire.NewFile{Settings: desfire.FileSettings{Size: 1400, Access: 0xEEEE}}))
		b.ok(b.h.WriteData(0, 0, bytes.Repeat([]byte("x"), 1400), desfire.Plain))
		if holds(b) {
			t.Errorf("%s: still there", name)
		}
	}
}
