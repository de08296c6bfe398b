package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/spec/firmware"
)

// patient is how long a test waits for a program to listen.
const patient = 5 * time.Second

// radioed serves a band for phones and gives the address; over brings the end.
func radioed(t *testing.T, path string, more ...string) (address string, stop func() said) {
	t.Helper()
	address = fmt.Sprintf("127.0.0.1:%d", freePorts(t))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan said, 1)
	go func() {
		over <- koalaIn(ctx, "", append([]string{"band", "serve", "--radio", address, "--band", path, "--yes"}, more...)...)
	}()
	waitFor(t, address)
	t.Cleanup(cancel)
	return address, func() said {
		cancel()
		return <-over
	}
}

// waitFor waits until somebody listens.
func waitFor(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(patient); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Anybody can be a phone: pair, look, set a passcode, read the purse. What was
// set survives the program, and the bond is its owner's alone.
func TestPhone(t *testing.T) {
	path := newTestBand(t)
	address, stop := radioed(t, path)
	bond := filepath.Join(t.TempDir(), "bond")
	ask := func(code int, says string, args ...string) said {
		t.Helper()
		s := koala(t, "2468\n", append([]string{"band", "phone", "--connect", address, "--bond", bond}, args...)...)
		if s.code != code || !strings.Contains(s.out+s.errs, says) {
			t.Errorf("%v: code %d, want %d; %q %q", args, s.code, code, s.out, s.errs)
		}
		return s
	}
	ask(exitRefused, "koala band pair", "status")
	if s := koala(t, "no\n", "band", "pair", "--connect", address, "--bond", bond); s.code != exitRefused || !strings.Contains(s.errs, "not confirmed") {
		t.Errorf("no: %+v", s)
	}
	if s := koala(t, "y\n", "band", "pair", "--connect", address, "--bond", bond); s.code != exitFine || !strings.Contains(s.errs, "Does the band show") {
		t.Fatalf("yes: %+v", s)
	}
	if info, err := os.Stat(bond); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("bond %v %v", info.Mode(), err)
	}
	if s := koala(t, "", "band", "pair", "--connect", address, "--bond", bond, "--yes"); s.code != exitRefused || !strings.Contains(s.errs, "exists already") {
		t.Errorf("again: %+v", s)
	}
	var v phoneStatus
	if s := ask(exitFine, "blue", "status", "--json"); json.Unmarshal([]byte(s.out), &v) != nil || !v.Worn || v.Protected || len(v.Policy) != 3 {
		t.Errorf("%+v", v)
	}
	ask(exitFine, "passcode is changed", "passcode", "-")
	ask(exitRefused, "wrong passcode", "passcode", "1111", "--old", "1234")
	ask(exitFine, "policy is set", "policy", "ride,pay")
	ask(exitFine, "40.96", "apdu", "00A4040008A000000632010105", "805C000204")
	ask(exitFine, "", "activity", "--days", "2")
	ask(exitRefused, "no such release", "rollback")
	if s := stop(); s.code != exitFine || !strings.Contains(s.out, "it must show") || strings.Contains(s.out, "2468") {
		t.Errorf("%+v", s)
	}

	for _, way := range []string{"off", "on"} {
		if s := koala(t, "", "band", "wear", way, "--band", path); s.code != exitFine || !strings.Contains(s.out, way+", locked") {
			t.Errorf("%+v", s)
		}
		if v := showBand(t, path); v.Worn != (way == "on") {
			t.Errorf("%s: worn %v", way, v.Worn)
		}
	}
	address, stop = radioed(t, path)
	ask(exitFine, "worn, locked", "status")
	ask(exitFine, "unlocked", "unlock", "2468")
	ask(exitFine, "ride, pay", "status")
	ask(exitFine, "forget", "forget")
	ask(exitRefused, "not paired", "status")
	stop()
}

// A release of the maker is installed on trial, one of anybody else's is not.
func TestPhoneBringsRelease(t *testing.T) {
	path := newTestBand(t)
	public, private, err := ed25519.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bond, file := filepath.Join(dir, "bond"), filepath.Join(dir, "release")
	release := firmware.Release{Version: 2, EN: "test", ZH: "测试"}
	for _, f := range catalog.New(isd.Config{}).LoadFiles() {
		for _, m := range f.Modules {
			release.Modules = append(release.Modules, firmware.Module{LoadFile: string(f.AID), Module: string(m), Version: [2]byte{1, 0}})
		}
	}
	signed, err := release.Sign(func(b []byte) ([]byte, error) { return ed25519.Sign(private, b), nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, signed, 0o600); err != nil {
		t.Fatal(err)
	}
	for maker, want := range map[string]string{upper(public): "on trial", strings.Repeat("00", 32): "signature"} {
		address, stop := radioed(t, path, "--maker", maker)
		os.Remove(bond)
		if s := koala(t, "", "band", "pair", "--connect", address, "--bond", bond, "--yes"); s.code != exitFine {
			t.Fatal(s.errs)
		}
		if s := koala(t, "", "band", "phone", "--connect", address, "--bond", bond, "update", file); !strings.Contains(s.out+s.errs, want) {
			t.Errorf("%s: %+v", maker, s)
		}
		stop()
	}
}

func TestRadioBadInput(t *testing.T) {
	path := newTestBand(t)
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte(`{"peer":"00","ltk":"11"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"band serve --radio nowhere --band " + path, exitMisused, "--radio"},
		{"band serve --radio 127.0.0.1:0 --maker 12 --band " + path, exitMisused, "--maker"},
		{"band pair --connect 127.0.0.1:1 --bond /nonexistent/x", exitRefused, "127.0.0.1:1"},
		{"band pair --connect x --bond /nonexistent/x", exitMisused, "--connect"},
		{"band phone status --bond /nonexistent/x", exitRefused, "koala band pair"},
		{"band phone status --bond " + bad, exitRefused, "is no bond"},
		{"band phone policy fly", exitMisused, "fly"},
		{"band phone apdu", exitMisused, "at least one"},
		{"band phone apdu 00A", exitMisused, "00A"},
		{"band phone activity --days 40", exitMisused, "--days 40"},
		{"band phone update /nonexistent", exitRefused, "/nonexistent"},
		{"band phone run --house nowhere", exitMisused, "nowhere"},
		{"band phone unlock -", exitMisused, "nothing came"},
		{"band phone dance", exitMisused, "dance"},
		{"band wear out --band " + path, exitMisused, "out"},
		{"band wear --band " + path, exitMisused, "arg"},
	} {
		s := koala(t, "", strings.Fields(tt.args)...)
		if s.code != tt.code || !strings.Contains(s.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q", tt.args, s.code, tt.code, s.errs)
		}
	}
}

// The companion carries a house's scripts to the band and the answers back.
func TestPhoneRuns(t *testing.T) {
	path := newTestBand(t)
	address, stop := radioed(t, path)
	defer stop()
	bond := filepath.Join(t.TempDir(), "bond")
	if s := koala(t, "", "band", "pair", "--connect", address, "--bond", bond, "--yes"); s.code != exitFine {
		t.Fatal(s.errs)
	}
	var reports []band.ReportJSON
	house := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/device/bands/blue/next" && len(reports) == 0:
			_ = json.NewEncoder(w).Encode(band.ScriptJSON{ID: "s1", Order: "o1", Steps: []band.StepJSON{{APDU: "00A4040000"}}})
		case r.URL.Path == "/device/bands/blue/next":
			_ = json.NewEncoder(w).Encode(band.ScriptJSON{Done: true})
		case r.URL.Path == "/device/bands/blue/report":
			var x band.ReportJSON
			_ = json.NewDecoder(r.Body).Decode(&x)
			reports = append(reports, x)
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer house.Close()
	run := func(in string) said {
		return koala(t, in, "band", "phone", "run", "--connect", address, "--bond", bond, "--house", house.URL+"/")
	}
	if s := run("wrong\n"); s.code != exitRefused || strings.Contains(s.errs, "wrong\"") {
		t.Errorf("%+v", s)
	}
	if s := run("secret\n"); s.code != exitFine || len(reports) != 1 || reports[0].Script != "s1" || !strings.HasSuffix(reports[0].Answers[0], "9000") {
		t.Errorf("%+v %+v", s, reports)
	}
}

// A stranger's band joins a real house over the radio: registered, paired, its
// factory keys replaced through the phone; the books hold.
func TestBandJoinsHouse(t *testing.T) {
	dir := t.TempDir()
	must := func(in string, args ...string) string {
		t.Helper()
		s := koala(t, in, args...)
		if s.code != exitFine {
			t.Fatalf("%v: %+v", args, s)
		}
		return s.out
	}
	must("a secret of lin\n", "person", "--data", dir, "--login", "lin", "--name", "林", "--phone", "13900000001")
	token := must("", "band", "register", "--data", dir, "--login", "lin", "--name", "blue")
	if again := must("", "band", "register", "--data", dir, "--login", "lin", "--name", "blue"); again != token {
		t.Errorf("%q and then %q", token, again)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan said, 1)
	at := fmt.Sprintf("127.0.0.1:%d", freePorts(t))
	go func() { over <- koalaIn(ctx, "", "serve", "--data", dir, "--listen", at) }()
	waitFor(t, at)

	wrist := t.TempDir()
	must("", "band", "new", "--data", wrist, "--name", "blue")
	path := filepath.Join(wrist, bandFolder, "blue"+bandSuffix)
	address, stop := radioed(t, path)
	bond := filepath.Join(wrist, "bond")
	must("", "band", "pair", "--connect", address, "--bond", bond, "--yes")
	must(token, "band", "phone", "run", "--connect", address, "--bond", bond, "--house", "http://"+at)
	out := must("", "band", "phone", "apdu", "00A4040000", "8050000008112233445566778800", "--connect", address, "--bond", bond)
	if !strings.Contains(out, "key version                    30") {
		t.Errorf("the factory's keys are still there:\n%s", out)
	}
	stop()
	cancel()
	if s := <-over; s.code != exitFine {
		t.Errorf("%+v", s)
	}
	must("", "verify", "--data", dir)
	for _, args := range [][]string{{"--name", "x"}, {"--name", "../x", "--login", "lin"}} {
		if s := koala(t, "", append([]string{"band", "register", "--data", dir}, args...)...); s.code != exitMisused {
			t.Errorf("%v: %+v", args, s)
		}
	}
	if s := koala(t, "", "band", "register", "--data", dir, "--name", "x", "--login", "nobody"); s.code != exitRefused {
		t.Errorf("%+v", s)
	}
}

// A reader and a phone use one band at the same time: neither sees half of what
// the other does, and a passcode set over the radio locks the cards that pay
// at the reader.
func TestReaderBesidePhone(t *testing.T) {
	path := newTestBand(t)
	d := newDriver(t)
	address := fmt.Sprintf("127.0.0.1:%d", freePorts(t))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan said, 1)
	go func() {
		over <- koalaIn(ctx, "", "band", "serve", "--vpcd", d.l.Addr().String(), "--radio", address, "--band", path, "--yes", "--json")
	}()
	d.accept()
	waitFor(t, address)
	bond := filepath.Join(t.TempDir(), "bond")
	if s := koala(t, "", "band", "pair", "--connect", address, "--bond", bond, "--yes"); s.code != exitFine {
		t.Fatal(s.errs)
	}
	phone := func(args ...string) said {
		return koala(t, "", append([]string{"band", "phone", "--connect", address, "--bond", bond}, args...)...)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 10 {
			if s := phone("status", "--json"); s.code != exitFine {
				t.Errorf("%+v", s)
			}
		}
	}()
	for range 50 {
		d.ask("02")
		if a := d.ask("00A4040008A000000632010105"); !strings.HasSuffix(a, "9000") {
			t.Errorf("purse: %s", a)
		}
	}
	<-done
	const payments = "00A404000E325041592E5359532E444446303100"
	d.ask("02")
	if a := d.ask(payments); !strings.HasSuffix(a, "9000") {
		t.Errorf("open: %s", a)
	}
	if s := phone("passcode", "2468"); s.code != exitFine {
		t.Errorf("%+v", s)
	}
	cancel()
	if s := <-over; s.code != exitFine {
		t.Errorf("%+v", s)
	}
	ctx, cancel = context.WithCancel(t.Context()) // a restart locks
	defer cancel()
	again := d.serve(ctx, path)
	d.ask("01")
	if a := d.ask(payments); a != "6A82" {
		t.Errorf("locked: %s", a)
	}
	if a := d.ask("00A4040008A000000632010105"); !strings.HasSuffix(a, "9000") {
		t.Errorf("purse of a locked band: %s", a)
	}
	cancel()
	<-again
}
