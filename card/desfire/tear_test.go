package desfire_test

import (
	"errors"
	"fmt"
	"testing"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

var (
	masterKey = desfire.AESKey([16]byte{0: 0x10}, 1)
	tillKey   = desfire.AESKey([16]byte{0: 0x11}, 2)
	hostKey   = desfire.AESKey([16]byte{0: 0x12}, 3)
)

// mixedApp has a file of every kind, for key 1 to read and write.
func mixedApp() desfire.Application {
	all := desfire.Rights(1, 1, 1, 0)
	file := func(no byte, s desfire.FileSettings, value int32, content string) desfire.InitialFile {
		s.Access = all
		return desfire.InitialFile{NewFile: desfire.NewFile{No: no, Settings: s, Value: value}, Content: []byte(content)}
	}
	return desfire.Application{
		AID: 0x4B4C10, Settings: desfire.DefaultSettings, Keys: []desfire.SealedKey{sealed(masterKey), sealed(tillKey), sealed(hostKey)},
		Files: []desfire.InitialFile{
			file(0, desfire.FileSettings{Type: desfire.ValueFile, Mode: desfire.Enciphered, Upper: 50_000, LimitedOn: true}, 5000, ""),
			file(1, desfire.FileSettings{Type: desfire.CyclicFile, Mode: desfire.Enciphered, Size: 17, Max: 4, Now: 1}, 0, "seventeen letters"),
			file(2, desfire.FileSettings{Type: desfire.BackupFile, Mode: desfire.MACed, Size: 64}, 0, "the backup as it was"),
			file(3, desfire.FileSettings{Type: desfire.LinearFile, Mode: desfire.Plain, Size: 8, Max: 10}, 0, ""),
			file(4, desfire.FileSettings{Type: desfire.StdFile, Mode: desfire.Enciphered, Size: 200}, 0, "standard"),
		},
	}
}

// enter authenticates in the mixed application.
func (b *bench) enter(no byte, key desfire.Key) {
	b.t.Helper()
	b.ok(b.h.Select(mixedApp().AID))
	b.ok(b.h.Authenticate(no, key))
}

// state is everything the mixed application shows.
func (b *bench) state() string {
	b.t.Helper()
	b.tap()
	b.enter(1, tillKey)
	out := ""
	v, err := b.h.Value(0, desfire.Enciphered)
	b.ok(err)
	s, err := b.h.FileSettings(0)
	b.ok(err)
	out += fmt.Sprintf("value %d limited %d;", v, s.Limited)
	for _, no := range []byte{1, 3} {
		s, err := b.h.FileSettings(no)
		b.ok(err)
		if s.Now > 0 {
			list, err := b.h.ReadRecords(no, 0, s.Now, s.Size, s.Mode)
			b.ok(err)
			out += fmt.Sprintf(" file %d %q;", no, list)
		}
	}
	for _, no := range []byte{2, 4} {
		data, err := b.h.ReadData(no, 0, 64, map[byte]desfire.Mode{2: desfire.MACed, 4: desfire.Enciphered}[no])
		b.ok(err)
		out += fmt.Sprintf(" file %d %q;", no, data)
	}
	return out
}

// prepare puts a change in every file with backup.
func (b *bench) prepare() {
	b.t.Helper()
	b.tap()
	b.enter(1, tillKey)
	b.ok(b.h.Debit(0, 700, desfire.Enciphered))
	b.ok(b.h.WriteRecord(1, 0, []byte("another 17 bytes."), desfire.Enciphered))
	b.ok(b.h.WriteData(2, 4, []byte("changed"), desfire.MACed))
	b.ok(b.h.WriteRecord(3, 2, []byte("linear"), desfire.Plain))
}

// Power fails at every physical write of the commit, with nothing, a part or all
// of the write landed, and then at every write of the recovery: all files are as
// before, or all are as after.
func TestCommitIsCutAtEveryWrite(t *testing.T) {
	done := newBench(t, mixedApp())
	before := done.state()
	done.prepare()
	w := done.e.Memory().Writes()
	done.ok(done.h.Commit())
	writes := done.e.Memory().Writes() - w
	after := done.state()
	if before == after || writes < 4 {
		t.Fatalf("%d writes, %s", writes, after)
	}
	seen := map[string]int{}
	for n := 1; n <= writes; n++ {
		for _, keep := range []int{0, 1, 31, 63, 64} {
			b := newBench(t, mixedApp())
			b.prepare()
			b.e.Memory().CutAt(n, keep)
			if err := b.h.Commit(); !errors.Is(err, iso7816.ErrTorn) {
				t.Fatalf("cut %d: %v", n, err)
			}
			for k := 1; ; k++ {
				b.e.Memory().CutAt(k, keep)
				err := b.e.PowerOn(card.Contactless)
				b.e.Memory().CutAt(0, 0)
				if err == nil {
					break
				}
			}
			got := b.state()
			if got != before && got != after {
				t.Fatalf("cut %d keeping %d: %s", n, keep, got)
			}
			seen[got]++
		}
	}
	if seen[before] == 0 || seen[after] == 0 {
		t.Errorf("both ends should be seen: %d before, %d after", seen[before], seen[after])
	}
	t.Logf("%d physical writes", writes)
}

// Everything that ends a session before the commit takes the changes back; a
// lost answer of the commit does not.
func TestUncommittedIsTakenBack(t *testing.T) {
	before := newBench(t, mixedApp()).state()
	for name, leave := range map[string]func(b *bench){
		"power off":         func(b *bench) { b.e.PowerOff() },
		"select":            func(b *bench) { b.ok(b.h.Select(mixedApp().AID)) },
		"authentication":    func(b *bench) { b.ok(b.h.Authenticate(1, tillKey)) },
		"error":             func(b *bench) { b.refused(b.h.Debit(9, 1, desfire.Enciphered), desfire.NoFile) },
		"abort":             func(b *bench) { b.ok(b.h.Abort()) },
		"too little money":  func(b *bench) { b.refused(b.h.Debit(0, 4301, desfire.Enciphered), desfire.Boundary) },
		"unknown command":   func(b *bench) { _, _ = b.e.TransmitRaw(unhex("9077000000")) },
		"ISO selection":     func(b *bench) { b.ok(b.h.Open()) },
		"half an AES proof": func(b *bench) { _, _ = b.e.TransmitRaw(unhex("90AA0000010100")) },
	} {
		b := newBench(t, mixedApp())
		b.prepare()
		leave(b)
		if name != "power off" {
			_, _ = b.e.TransmitRaw(unhex("90C7000000"))
		}
		if got := b.state(); got != before {
			t.Errorf("%s: %s", name, got)
		}
	}
	b := newBench(t, mixedApp())
	b.prepare()
	b.e.LoseAnswer(1)
	if err := b.h.Commit(); !errors.Is(err, iso7816.ErrTorn) {
		t.Fatal(err)
	}
	if got := b.state(); got == before {
		t.Error("the answer was lost, and the commit with it")
	}
}

// Personalisation, deletion and formatting are cut at every write: the
// application is whole or not there.
func TestApplicationIsCutAtEveryWrite(t *testing.T) {
	data, err := mixedApp().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, act := range map[string]func(b *bench) error{
		"store": func(b *bench) error {
			b.e.PowerOff()
			_, err := b.e.Factory(func(s *card.Session) iso7816.SW {
				return s.Personalise(b.self, desfire.DGIApplication, data, cardtest.Clear)
			})
			return err
		},
		"delete": func(b *bench) error { return b.h.DeleteApplication(mixedApp().AID) },
		"format": func(b *bench) error { return b.h.Format() },
	} {
		for n := 1; n < 200; n++ {
			b := newBench(t, publicApp())
			if name != "store" {
				b = newBench(t, publicApp(), mixedApp())
				b.own()
				b.ok(b.h.Authenticate(0, masterKey))
			}
			b.e.Memory().CutAfter(n)
			err := act(b)
			b.e.Memory().CutAfter(0)
			b.tap()
			list, lerr := b.h.Applications()
			b.ok(lerr)
			whole := len(list) == 2
			if whole {
				b.state()
			}
			if name == "format" && len(list) == 1 || len(list) > 2 {
				t.Fatalf("%s, cut %d: %v", name, n, list)
			}
			// The card works on: the application can be made again.
			b.e.Store(b.self, desfire.DGIApplication, data)
			b.state()
			if err == nil {
				if whole != (name == "store") {
					t.Fatalf("%s: %v", name, list)
				}
				t.Logf("%s: %d physical writes", name, n-1)
				break
			}
		}
	}
}
