package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"koala/card"
	"koala/pcsc"
)

// held serves a band as a virtual card that dials the till at address.
func held(t *testing.T, path, address, personality string) (stop func() said) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan said, 1)
	go func() {
		over <- koalaIn(ctx, "", "band", "serve", "--vpcd", address, "--band", path, "--personality", personality)
	}()
	t.Cleanup(cancel)
	return func() said {
		cancel()
		return <-over
	}
}

func saidOf(t *testing.T, s said) (v posSaid) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.out), &v); err != nil {
		t.Fatalf("%v: %+v", err, s)
	}
	return v
}

// A band pays at a till over the wire of the virtual reader: by tap and with
// both transports of contacts, offline, its chain and signature checked.
func TestPosTakesSale(t *testing.T) {
	path := newTestBand(t)
	till := filepath.Join(t.TempDir(), "till")
	for i, tt := range []struct{ personality, more string }{{"contactless", ""}, {"contact-t1", "--contact --pin 1234"}, {"contact-t0", "--contact --pin 1234"}} {
		address := fmt.Sprintf("127.0.0.1:%d", freePorts(t))
		stop := held(t, path, address, tt.personality)
		args := append([]string{"pos", "--listen", address, "--amount", "1250", "--test-keys", "--till", till, "--json", "--explain"}, strings.Fields(tt.more)...)
		s := koala(t, "", args...)
		if s.code != exitFine {
			t.Fatalf("%s: %+v", tt.personality, s)
		}
		v := saidOf(t, s)
		if v.Result != "approved" || v.STAN == 0 || v.Batch != 1 || strings.Contains(s.out, testPAN) || len(v.Dialogue) < 8 || v.TookMS < 50 {
			t.Errorf("%s: %+v", tt.personality, v)
		}
		for _, want := range []string{"approved", "TC ", "KOALA", "12.50"} {
			if !strings.Contains(strings.Join(v.Receipt, "\n"), want) {
				t.Errorf("%s: no %q on the receipt", tt.personality, want)
			}
		}
		checks := 0
		for _, l := range v.Dialogue {
			if l.Kind == "decision" {
				checks++
				if !strings.Contains(l.Text, "holds") {
					t.Errorf("%s: %+v", tt.personality, l)
				}
			}
		}
		if checks < 3 {
			t.Errorf("%s: %d certificates", tt.personality, checks)
		}
		stop()
		if got := *showBand(t, path).Cards[1].Fen; got != testCash-int64(i+1)*12_50 {
			t.Errorf("%s: %d fen are left", tt.personality, got)
		}
	}
	if info, err := os.Stat(till); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("till %v %v", info, err)
	}
}

// What does not hold is declined with exit code 1 and takes no money: an
// authority nobody vouches for, an amount beyond the card.
func TestPosDeclines(t *testing.T) {
	path := newTestBand(t)
	address := fmt.Sprintf("127.0.0.1:%d", freePorts(t))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan said, 1)
	go func() { over <- koalaIn(ctx, "", "band", "serve", "--listen", address, "--band", path) }()
	waitFor(t, address)
	for _, args := range []string{"--amount 100", "--amount 50000 --test-keys", "--amount 200000 --test-keys --lang zh"} {
		s := koala(t, "", append([]string{"pos", "--connect", address, "--json"}, strings.Fields(args)...)...)
		if v := saidOf(t, s); s.code != exitRefused || v.Result == "approved" || s.errs != "" {
			t.Errorf("%s: %+v", args, s)
		}
	}
	s := koala(t, "", "pos", "--connect", address, "--amount", "100", "--test-keys", "--explain", "--lang", "zh")
	if s.code != exitFine || !strings.Contains(s.out, "交易成功") || !strings.Contains(s.out, "脱机可用余额") || strings.Contains(s.out, testPAN) {
		t.Errorf("%+v", s)
	}
	if s := koala(t, "", "pos", "--connect", address, "--amount", "100", "--test-keys", "--contact"); s.code != exitMisused || !strings.Contains(s.errs, "leave --contact out") {
		t.Errorf("inserted into the field: %+v", s)
	}
	cancel()
	<-over
	if got := *showBand(t, path).Cards[1].Fen; got != testCash-1_00 {
		t.Errorf("%d fen are left", got)
	}
}

// The answer to reset tells the interface, of every personality.
func TestPosInterface(t *testing.T) {
	for _, p := range pcsc.Personalities() {
		for _, contact := range []bool{true, false} {
			err := rightInterface(p.ATR, contact)
			if fits := contact == (p.Interface == card.Contact); fits != (err == nil) {
				t.Errorf("%s, --contact=%v: %v", p.Name, contact, err)
			}
		}
	}
	path := newTestBand(t)
	address := fmt.Sprintf("127.0.0.1:%d", freePorts(t))
	stop := held(t, path, address, "contact-t0")
	if s := koala(t, "", "pos", "--listen", address, "--amount", "100", "--test-keys"); s.code != exitMisused || !strings.Contains(s.errs, "give --contact") || s.out != "" {
		t.Errorf("%+v", s)
	}
	stop()
}

func TestPosBadInput(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte(`{"sales":"AAAA"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"pos --amount 5", exitMisused, "where is the card?"},
		{"pos --reader x --listen 127.0.0.1:0", exitMisused, "where is the card?"},
		{"pos --connect nowhere", exitMisused, "--connect"},
		{"pos --listen 127.0.0.1:0 --amount 0", exitMisused, "--amount 0"},
		{"pos --listen 127.0.0.1:0 --amount 1000000000000", exitMisused, "--amount"},
		{"pos --listen 127.0.0.1:0 --lang fr", exitMisused, "fr"},
		{"pos --listen 127.0.0.1:0 --pin 1234", exitMisused, "--contact"},
		{"pos --connect 127.0.0.1:1", exitRefused, "127.0.0.1:1"},
		{"pos --connect 127.0.0.1:1 --ca /nonexistent", exitRefused, "/nonexistent"},
		{"pos --connect 127.0.0.1:1 --till " + bad, exitRefused, "is no till's"},
		{"pos --connect 127.0.0.1:1 extra", exitMisused, "extra"},
	} {
		s := koala(t, "", strings.Fields(tt.args)...)
		if s.code != tt.code || !strings.Contains(s.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q", tt.args, s.code, tt.code, s.errs)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s := koalaIn(ctx, "", "pos", "--listen", "127.0.0.1:0"); s.code != exitRefused || !strings.Contains(s.errs, "stopped") {
		t.Errorf("%+v", s)
	}
}
