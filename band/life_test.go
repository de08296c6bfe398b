package band_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/band"
	"koala/card"
	"koala/card/cardtest"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	"koala/spec/firmware"
	"koala/spec/iso7816"
)

var noon = time.Date(2015, 9, 16, 4, 0, 0, 0, time.UTC)

// found says what a reader gets for a name.
func found(t *testing.T, b *band.Band, name string) bool {
	t.Helper()
	send, err := b.Field()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Leave()
	r, err := send(iso7816.Select([]byte(name)))
	if err != nil {
		t.Fatal(err)
	}
	return r.SW.OK()
}

func TestALockedBandKeepsItsPolicy(t *testing.T) {
	b := newBand(t)
	if b.Protected() || b.Locked() || !found(t, b, string(purseAID)) {
		t.Fatal("a new band has no passcode and is open")
	}
	if err := b.SetPasscode("", "123", new(cardtest.Chance), noon); !errors.Is(err, band.ErrDigits) {
		t.Fatalf("three digits: %v", err)
	}
	if err := b.SetPasscode("", "1234", new(cardtest.Chance), noon); err != nil || b.Locked() {
		t.Fatalf("set on the wrist: %v, locked %v", err, b.Locked())
	}
	b.Wear(false)
	b.Wear(true)
	if !b.Locked() {
		t.Fatal("one passcode is good for one wearing")
	}
	for _, tt := range []struct {
		name   string
		policy band.Policy
		aid    string
		want   bool
	}{
		{"transit by default", band.DefaultPolicy, string(purseAID), true},
		{"transit switched off", band.Policy{}, string(purseAID), false},
		{"transit switched off, by a partial name", band.Policy{}, string(purseAID[:6]), false},
		{"management is not a card", band.Policy{}, string(cardtest.Domain), true},
	} {
		b.Policy = tt.policy
		if got := found(t, b, tt.aid); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if err := b.Unlock("1234", noon); err != nil || !found(t, b, string(purseAID)) {
		t.Errorf("unlocked: %v", err)
	}
}

func TestWrongPasscodesCostTime(t *testing.T) {
	b := newBand(t)
	if err := b.SetPasscode("", "2580", new(cardtest.Chance), noon); err != nil {
		t.Fatal(err)
	}
	b.Wear(false)
	if err := b.Unlock("2580", noon); !errors.Is(err, band.ErrNotWorn) {
		t.Fatalf("off the wrist: %v", err)
	}
	b.Wear(true)
	now := noon
	for range 4 {
		if err := b.Unlock("0000", now); !errors.Is(err, band.ErrPasscode) {
			t.Fatal(err)
		}
	}
	wait := time.Minute
	for i := range 9 {
		if err := b.Unlock("0000", now); !errors.Is(err, band.ErrPasscode) {
			t.Fatalf("try %d: %v", i, err)
		}
		if until := b.Waits(now); !until.Equal(now.Add(wait)) {
			t.Fatalf("try %d: waits until %v, want %v", i, until, now.Add(wait))
		}
		b = restarted(t, b) // a restart does not forgive
		if err := b.Unlock("2580", now.Add(wait-time.Second)); !errors.Is(err, band.ErrWait) {
			t.Fatalf("within the wait: %v", err)
		}
		now, wait = now.Add(wait), min(2*wait, time.Hour)
	}
	if err := b.Unlock("2580", now); err != nil || b.Locked() {
		t.Fatalf("after the wait: %v", err)
	}
	if !restarted(t, b).Locked() {
		t.Error("a band without power comes back locked")
	}
}

func restarted(t *testing.T, b *band.Band) *band.Band {
	t.Helper()
	back, err := band.Load(b.Image(), modules, new(cardtest.Chance))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// version1.band was written by the program before the image had a version 2.
func TestLoadsTheVersionBefore(t *testing.T) {
	image, err := os.ReadFile("testdata/version1.band")
	if err != nil {
		t.Fatal(err)
	}
	b, err := band.Load(image, catalog.New(isd.Config{}), new(cardtest.Chance))
	if err != nil {
		t.Fatal(err)
	}
	if b.ID != "band_old" || b.Worn() || b.Battery != 42 || b.Protected() || b.Policy != band.DefaultPolicy {
		t.Errorf("%+v", b)
	}
	if again, err := band.Load(b.Image(), catalog.New(isd.Config{}), new(cardtest.Chance)); err != nil || !bytes.Equal(again.Image(), b.Image()) {
		t.Errorf("written anew: %v", err)
	}
}

// releases of the test: one that allows all the element has, one that does not.
func release(t *testing.T, version uint32, modules ...firmware.Module) ([]byte, ed25519.PublicKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	signed, err := firmware.Release{Version: version, Modules: modules, EN: "more cards", ZH: "更多卡种"}.
		Sign(func(b []byte) ([]byte, error) { return ed25519.Sign(key, b), nil })
	if err != nil {
		t.Fatal(err)
	}
	return signed, key.Public().(ed25519.PublicKey)
}

var purseModule = firmware.Module{Module: string(purseAID)}

func install(b *band.Band, signed []byte, maker ed25519.PublicKey) error {
	for at := 0; at < len(signed); at += 40 {
		if err := b.Receive(at, signed[at:min(at+40, len(signed))]); err != nil {
			return err
		}
	}
	return b.Install(maker)
}

func TestReleases(t *testing.T) {
	b := newBand(t)
	two, maker := release(t, 2, purseModule)
	one, _ := release(t, 1, purseModule)
	without, _ := release(t, 9)
	forged := bytes.Clone(two)
	forged[len(forged)-66] ^= 1
	for _, tt := range []struct {
		name    string
		signed  []byte
		battery int
		want    error
		version uint32
		trial   bool
	}{
		{"battery too low", two, 10, band.ErrFlat, 0, false},
		{"forged", forged, 90, band.ErrSignature, 0, false},
		{"leaves a card without code", without, 90, band.ErrSelfTest, 0, false},
		{"good", two, 90, nil, 2, true},
		{"older", one, 90, band.ErrOldRelease, 2, true},
		{"the same again", two, 90, band.ErrOldRelease, 2, true},
		{"nonsense", []byte("hello"), 90, firmware.ErrRelease, 2, true},
	} {
		b.Battery = tt.battery
		if err := install(b, tt.signed, maker); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if v, trial := b.Firmware(); v != tt.version || trial != tt.trial {
			t.Errorf("%s: runs %d, on trial %v", tt.name, v, trial)
		}
	}
	if v, _ := restarted(t, b).Firmware(); v != 0 {
		t.Errorf("a restart on trial keeps %d", v)
	}
	b.Keep()
	if v, trial := restarted(t, b).Firmware(); v != 2 || trial {
		t.Errorf("kept: %d, %v", v, trial)
	}
	if err := b.Rollback(); err != nil {
		t.Fatal(err)
	}
	if v, _ := b.Firmware(); v != 0 || !errors.Is(b.Rollback(), band.ErrNothing) {
		t.Errorf("rolled back to %d", v)
	}
	if err := b.Receive(7, []byte{1}); !errors.Is(err, band.ErrPiece) {
		t.Errorf("a gap: %v", err)
	}
}

func TestAReleaseNamesWhatMayBeInstalled(t *testing.T) {
	b := newBand(t)
	other := firmware.Module{LoadFile: "\x01\x02\x03\x04\x05", Module: "\x01\x02\x03\x04\x05\x06"}
	signed, maker := release(t, 3, purseModule, other)
	if err := install(b, signed, maker); err != nil {
		t.Fatal(err)
	}
	try := func(module card.AID) (sw iso7816.SW) {
		_, err := b.Element.Factory(func(s *card.Session) iso7816.SW {
			_, sw = s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable, AID: module + "x", Module: module}, nil)
			return iso7816.SWConditions // taken back
		})
		if err != nil {
			t.Fatal(err)
		}
		return sw
	}
	if sw := try(purseAID); !sw.OK() {
		t.Errorf("named: %v", sw)
	}
	if sw := try(cardtest.Domain); sw != iso7816.SWReferenceNotFound {
		t.Errorf("not named: %v", sw)
	}
}

func TestActivity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, _ := band.New("b", cardtest.New(t, card.Config{}, modules).Element)
		sum, inside := uint32(0), 0
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			at := noon.Add(time.Duration(rapid.IntRange(0, 30*24*60-1).Draw(t, "minute")) * time.Minute)
			steps := uint32(rapid.IntRange(0, 500).Draw(t, "steps"))
			on := rapid.Bool().Draw(t, "worn")
			b.Wear(on)
			b.Walk(at, steps)
			b.Sleep(at, 10)
			if on {
				sum += steps
				inside++
			}
		}
		got := uint32(0)
		hours := b.Activity(time.Time{})
		for i, h := range hours {
			got += h.Steps
			if h.Asleep > 60 || i > 0 && !hours[i-1].Start.Before(h.Start) {
				t.Fatalf("hour %d: %+v", i, h)
			}
		}
		if got != sum {
			t.Fatalf("%d steps, want %d in %d walks", got, sum, inside)
		}
		if back := b.Activity(noon.AddDate(0, 0, 31)); len(back) != 0 {
			t.Fatalf("%d hours in the future", len(back))
		}
	})
}

// A pair of ends over a pipe.
type ends struct {
	t     *testing.T
	radio *band.Radio
	mu    sync.Mutex // the band's
	lines []net.Conn
	all   sync.WaitGroup
	saves int

	ask   sync.Mutex
	yes   bool
	shown string
}

// hangUp closes every session and waits for the band's ends of them.
func (e *ends) hangUp() {
	for _, c := range e.lines {
		c.Close()
	}
	e.lines = nil
	e.all.Wait()
}

func newEnds(t *testing.T, b *band.Band, maker ed25519.PublicKey) *ends {
	e := &ends{t: t, yes: true}
	c := clock.Random(9)
	e.radio = &band.Radio{Band: b, Lock: &e.mu, Rand: c, Maker: maker, Now: func() time.Time { return noon },
		Confirm: func(d string) bool {
			e.ask.Lock()
			defer e.ask.Unlock()
			e.shown = d
			return e.yes
		},
		Saved: func() error { e.saves++; return nil }}
	if t != nil {
		t.Cleanup(e.hangUp)
	}
	return e
}

func (e *ends) dial() net.Conn {
	e.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		e.t.Fatal(err)
	}
	e.lines = append(e.lines, near)
	e.all.Go(func() { e.radio.Serve(context.Background(), far) })
	return near
}

func (e *ends) pair() band.Bond {
	e.t.Helper()
	c := clock.Random(77)
	var shown string
	bond, err := band.Pair(e.dial(), c, func(d string) bool { shown = d; return true })
	if err != nil {
		e.t.Fatal(err)
	}
	e.ask.Lock()
	defer e.ask.Unlock()
	if len(shown) != 6 || shown != e.shown {
		e.t.Fatalf("the phone shows %q, the band %q", shown, e.shown)
	}
	return bond
}

func (e *ends) open(bond band.Bond) *band.Phone {
	e.t.Helper()
	c := clock.Random(5)
	p, err := band.OpenPhone(e.dial(), bond, c)
	if err != nil {
		e.t.Fatal(err)
	}
	return p
}

func TestPhone(t *testing.T) {
	b := newBand(t)
	signed, maker := release(t, 4, purseModule)
	e := newEnds(t, b, maker)
	p := e.open(e.pair())
	s, err := p.Status()
	if err != nil || s.ID != b.ID || s.UID != b.Element.UID() || s.Battery != 100 || !s.Worn || s.Locked || s.Policy != band.DefaultPolicy {
		t.Fatalf("%+v, %v", s, err)
	}
	if r, err := p.Transmit(iso7816.Select([]byte(purseAID))); err != nil || !r.SW.OK() {
		t.Fatalf("select: %v %v", r, err)
	}
	steps := []error{p.SetPasscode("", "4711"), p.SetPolicy(band.Policy{Pay: true}), p.Unlock("4711"), p.Update(signed), p.Keep()}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	if err := p.Unlock("9999"); !errors.Is(err, band.ErrPasscode) {
		t.Errorf("wrong passcode: %v", err)
	}
	e.mu.Lock()
	b.Walk(noon, 1234)
	e.mu.Unlock()
	hours, err := p.Activity(noon)
	if err != nil || len(hours) != 1 || hours[0].Steps != 1234 {
		t.Errorf("activity: %v %v", hours, err)
	}
	if s, err = p.Status(); err != nil || s.Firmware != 4 || s.Trial || !s.Protected || s.Policy != (band.Policy{Pay: true}) {
		t.Errorf("%+v, %v", s, err)
	}
	if err := errors.Join(p.Rollback(), p.Forget()); err != nil {
		t.Errorf("roll back, forget: %v", err)
	}
	e.hangUp()
	if e.saves == 0 || len(b.Bonds()) != 0 {
		t.Errorf("kept %d times, %d bonds", e.saves, len(b.Bonds()))
	}
}

func TestTopUpThroughThePhoneIsPaidOnce(t *testing.T) {
	h := newHouse(5000)
	b := newBand(t)
	e := newEnds(t, b, nil)
	bond := e.pair()
	for range 12 { // the line is cut again and again, at another place each time
		p := e.open(bond)
		if p.Run(context.Background(), &flaky{Link: h}) == nil {
			break
		}
		e.hangUp()
	}
	e.hangUp()
	if got := balanceOf(t, b); got != 5000 {
		t.Errorf("balance %d, want 5000", got)
	}
}

// flaky loses every second report.
type flaky struct {
	band.Link
	n int
}

func (f *flaky) Report(ctx context.Context, id, script string, answers [][]byte, cut bool) error {
	if f.n++; f.n%2 == 0 {
		return band.ErrLink
	}
	return f.Link.Report(ctx, id, script, answers, cut)
}

func TestStrangersAndLiars(t *testing.T) {
	b := newBand(t)
	e := newEnds(t, b, nil)
	bond := e.pair()
	c := clock.Random(1)
	wrong := bond
	wrong.LTK[0] ^= 1
	if _, err := band.OpenPhone(e.dial(), wrong, c); !errors.Is(err, band.ErrPairing) {
		t.Errorf("a bond with another key: %v", err)
	}
	if _, err := band.OpenPhone(e.dial(), band.Bond{}, c); !errors.Is(err, band.ErrUnpaired) {
		t.Errorf("a stranger: %v", err)
	}
	e.hangUp()
	e.yes = false
	if _, err := band.Pair(e.dial(), c, func(string) bool { return true }); !errors.Is(err, band.ErrRefused) {
		t.Errorf("not confirmed: %v", err)
	}
	if n := len(b.Bonds()); n != 1 {
		t.Errorf("%d bonds", n)
	}
	conn := e.dial()
	if _, err := conn.Write([]byte{0, 3, 9, 9, 9}); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if n, _ := conn.Read(answer); n != 4 || answer[2] != 0xFF {
		t.Errorf("nonsense is answered %x", answer[:n])
	}
}

// A recorded frame that comes again ends the session.
func TestReplayIsRefused(t *testing.T) {
	b := newBand(t)
	e := newEnds(t, b, nil)
	rec := &recorder{Conn: nil}
	bond := e.pair()
	rec.Conn = e.dial()
	c := clock.Random(5)
	p, err := band.OpenPhone(rec, bond, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Status(); err != nil {
		t.Fatal(err)
	}
	if _, err := rec.Conn.Write(rec.last); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if n, _ := rec.Conn.Read(answer); n != 4 || answer[2] != 0xFF {
		t.Errorf("a replay is answered %x", answer[:n])
	}
}

type recorder struct {
	net.Conn
	last []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.last = bytes.Clone(b)
	return r.Conn.Write(b)
}

func FuzzRadio(f *testing.F) {
	f.Add([]byte{0, 73, 1})
	f.Add([]byte{0, 25, 4})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4096 {
			return
		}
		e := newEnds(t, newBand(t), nil)
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- e.radio.Serve(context.Background(), far) }()
		go func() {
			buf := make([]byte, 512)
			for {
				if _, err := near.Read(buf); err != nil {
					return
				}
			}
		}()
		near.Write(in)
		near.Close()
		<-done
		if len(e.radio.Band.Bonds()) != 0 {
			t.Error("random bytes made a bond")
		}
	})
}
