package desfire_test

import (
	"encoding/hex"
	"strings"

	"koala/card"
	"koala/card/cardtest"
	carddesfire "koala/card/desfire"
	"koala/spec/desfire"
)

const cardAID = card.AID("\xD2\x76\x00\x00\x85\x01\x00")

var uid = [7]byte{0x04, 0x78, 0x2E, 0x21, 0x80, 0x1D, 0x80}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

// A bench is an element with a DESFire card on it, and a reader.
type bench struct {
	t      cardtest.T
	e      *cardtest.Element
	h      *desfire.Host
	chance *cardtest.Chance
	self   card.ID
}

func newBench(t cardtest.T, apps ...desfire.Application) *bench {
	t.Helper()
	b := &bench{t: t, chance: &cardtest.Chance{}}
	b.e = cardtest.New(t, card.Config{UID: uid, Rand: b.chance}, cardtest.Modules{cardAID: carddesfire.Module()})
	b.self = b.e.Install(card.Entry{AID: cardAID})
	for _, a := range apps {
		data, err := a.Bytes()
		if err != nil {
			t.Fatalf("application: %v", err)
		}
		b.e.Store(b.self, desfire.DGIApplication, data)
	}
	b.tap()
	return b
}

// own gives the card a master key that the test knows, and all its settings.
func (b *bench) own() {
	b.t.Helper()
	b.e.Store(b.self, desfire.DGIMaster, desfire.Master{Settings: desfire.DefaultSettings, Key: sealed(masterKey)}.Bytes())
	b.tap()
}

// tap brings the card into the field and selects it.
func (b *bench) tap() {
	b.t.Helper()
	b.e.Power(card.Contactless)
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
	s, err := desfire.Seal(k, cardtest.Clear)
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
