package desfire_test

import (
	"encoding/hex"
	"math/bits"
	"strings"

	"koala/card"
	carddesfire "koala/card/desfire"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

const (
	cardAID   = card.AID("\xD2\x76\x00\x00\x85\x01\x00")
	domainAID = card.AID("\xA0\x00\x00\x01\x51\x00\x00\x00")
)

var uid = [7]byte{0x04, 0x78, 0x2E, 0x21, 0x80, 0x1D, 0x80}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

// domain stands in for the security domain.
type domain struct{}

func (domain) Select(*card.Session) iso7816.Response { return iso7816.Response{SW: iso7816.OK} }
func (domain) Process(*card.Session, iso7816.Command) iso7816.Response {
	return iso7816.Response{SW: iso7816.SWInstruction}
}

type catalog struct{}

func (catalog) Module(_, module card.AID) (card.Module, bool) {
	if module == cardAID {
		return carddesfire.Module(), true
	}
	return card.Module{New: func() card.Applet { return domain{} }, Shared: true}, module == domainAID
}

// chance gives the bytes of next, then a plain sequence.
type chance struct {
	next []byte
	n    uint64
}

func (c *chance) Read(b []byte) (int, error) {
	for i := range b {
		if len(c.next) > 0 {
			b[i], c.next = c.next[0], c.next[1:]
			continue
		}
		c.n++
		b[i] = byte(bits.Reverse64(c.n*0x9E3779B97F4A7C15) >> 7)
	}
	return len(b), nil
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// A bench is an element with a DESFire card on it, and a reader.
type bench struct {
	t      failer
	e      *card.Element
	h      *desfire.Host
	chance *chance
	self   card.ID
}

func clear(in []byte) ([]byte, error) { return append([]byte(nil), in...), nil }

func newBench(t failer, apps ...desfire.Application) *bench {
	t.Helper()
	b := &bench{t: t, chance: &chance{}}
	var err error
	b.e, err = card.New(card.Config{UID: uid, Rand: b.chance, Catalog: catalog{}, Domain: domainAID, DomainModule: domainAID})
	if err != nil {
		t.Fatalf("new element: %v", err)
	}
	b.factory(func(s *card.Session) iso7816.SW {
		id, sw := s.Registry().Install(card.Entry{
			Kind: card.Application, State: card.StateSelectable, AID: cardAID, Module: cardAID, Domain: domainAID,
		}, nil)
		b.self = id
		return sw
	})
	for _, a := range apps {
		data, err := a.Bytes()
		if err != nil {
			t.Fatalf("application: %v", err)
		}
		b.store(desfire.DGIApplication, data)
	}
	b.tap()
	return b
}

func (b *bench) factory(work func(s *card.Session) iso7816.SW) {
	b.t.Helper()
	b.e.PowerOff()
	if sw, err := b.e.Factory(work); err != nil || !sw.OK() {
		b.t.Fatalf("factory: %v %v", sw, err)
	}
}

func (b *bench) store(dgi uint16, data []byte) {
	b.t.Helper()
	b.factory(func(s *card.Session) iso7816.SW { return s.Personalise(b.self, dgi, data, clear) })
}

// own gives the card a master key that the test knows, and all its settings.
func (b *bench) own() {
	b.t.Helper()
	b.store(desfire.DGIMaster, desfire.Master{Settings: desfire.DefaultSettings, Key: sealed(masterKey)}.Bytes())
	b.tap()
}

// tap brings the card into the field and selects it.
func (b *bench) tap() {
	b.t.Helper()
	if err := b.e.PowerOn(card.Contactless); err != nil {
		b.t.Fatalf("power on: %v", err)
	}
	b.h = desfire.NewHost(b.e.Transmit, b.chance)
	b.ok(b.h.Open())
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("%v", err)
	}
}

// refused wants a native status.
func (b *bench) refused(err error, want desfire.Status) {
	b.t.Helper()
	if st, ok := desfire.Refused(err); !ok || st != want {
		b.t.Fatalf("%v, want status %02X", err, byte(want))
	}
}

// run plays a script: "command > answer" per line.
func (b *bench) run(script string) {
	b.t.Helper()
	for line := range strings.Lines(script) {
		cmd, want, ok := strings.Cut(strings.TrimSpace(line), ">")
		if !ok {
			continue
		}
		raw, err := b.e.TransmitRaw(unhex(cmd))
		if got := strings.ToUpper(hex.EncodeToString(raw)); err != nil || got != strings.ReplaceAll(strings.TrimSpace(want), " ", "") {
			b.t.Fatalf("%s: %s %v, want %s", cmd, got, err, want)
		}
	}
}

var zeroKey = desfire.AESKey([16]byte{}, 0)

func sealed(k desfire.Key) desfire.SealedKey {
	s, err := desfire.Seal(k, clear)
	if err != nil {
		panic(err)
	}
	return s
}

// valueFile is a value file with the access all to key 0.
func valueFile(no byte, mode desfire.Mode, value int32) desfire.InitialFile {
	return desfire.InitialFile{NewFile: desfire.NewFile{No: no, Value: value, Settings: desfire.FileSettings{
		Type: desfire.ValueFile, Mode: mode, Upper: 0x7FFFFFFF,
	}}}
}

// publicApp is the application of the public exchange: AES keys of zeros, one
// value file per mode.
func publicApp() desfire.Application {
	return desfire.Application{
		AID: 0x112233, Settings: desfire.DefaultSettings, Keys: []desfire.SealedKey{sealed(zeroKey)},
		Files: []desfire.InitialFile{
			valueFile(0, desfire.Plain, 5000), valueFile(1, desfire.MACed, 5800), valueFile(3, desfire.Enciphered, 6600),
		},
	}
}
