package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"koala/app"
	"koala/switching/pack"
)

// A terminal that is installed at the devices' door checks the house's parameter
// packs by the key that came with its master key. One whose file is older has
// none, asks for none and works.
func TestTerminalChecksPacks(t *testing.T) {
	r := newCounterRig(t)
	var want string
	r.with(func(h *app.House) error {
		keys, err := h.Keys.PublicKeys(t.Context(), pack.Label)
		for _, k := range keys {
			want += "signed " + strings.ToUpper(hex.EncodeToString(k)) + "\n"
		}
		return err
	})
	r.serve()
	tid, mid, _ := r.installed()
	tmk, flash := filepath.Join(r.dir, "till.tmk"), filepath.Join(r.dir, "till.flash")
	text, err := os.ReadFile(tmk)
	if err != nil {
		t.Fatal(err)
	}
	key, signed, _ := strings.Cut(string(text), "\n")
	if want == "" || signed != want {
		t.Fatalf("the installation's file ends with %q, want %q", signed, want)
	}
	signOn := func(file string, args ...string) (s terminalSaid, x said) {
		t.Helper()
		x = koala(t, "", slices.Concat([]string{"pos", "sign-on", "--connect", r.line, "--tid", tid, "--mid", mid, "--terminal", file, "--json"}, args)...)
		if x.code == exitFine {
			if err := json.Unmarshal([]byte(x.out), &s); err != nil {
				t.Fatal(err)
			}
		}
		return s, x
	}
	images := func(file string) (m map[string][]byte) {
		t.Helper()
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}

	// As it was before: the master key alone.
	r.write(filepath.Join(r.dir, "bare.tmk"), key+"\n")
	old := filepath.Join(r.dir, "old.flash")
	if s, x := signOn(old, "--tmk-file", filepath.Join(r.dir, "bare.tmk")); x.code != exitFine || !s.SignedOn || s.Pack != 0 {
		t.Errorf("without the key: %+v, %s", s, x.errs)
	}
	if images(old)[signedName] != nil {
		t.Error("a terminal without the key keeps one")
	}
	if s, x := signOn(old); x.code != exitFine || !s.SignedOn || s.Pack != 0 {
		t.Errorf("a file of before: %+v, %s", s, x.errs)
	}

	// The line "signed" is wrong, and the pack another's.
	r.write(filepath.Join(r.dir, "bent.tmk"), key+"\nsigned 00FF\n")
	if _, x := signOn(filepath.Join(r.dir, "bent.flash"), "--tmk-file", filepath.Join(r.dir, "bent.tmk")); x.code != exitRefused || !strings.Contains(x.errs, "64 hexadecimal digits") || strings.Contains(x.errs, key[:32]) {
		t.Errorf("%d %s", x.code, x.errs)
	}
	m := images(old)
	m[signedName] = make([]byte, 31)
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	r.write(old, string(raw))
	if _, x := signOn(old); x.code != exitRefused || !strings.Contains(x.errs, "cut off") {
		t.Errorf("%d %s", x.code, x.errs)
	}
	r.stop()

	// The house has the pack on its way to it once more: another terminal of the shop.
	r.write(r.till, r.koala("terminal", "add", "--trial", "Noodles", "--json", "--data", r.dir))
	if err := os.Remove(tmk); err != nil {
		t.Fatal(err)
	}
	r.serve()
	tid, mid, _ = r.installed()
	if s, x := signOn(flash, "--tmk-file", tmk); x.code != exitFine || s.Pack != 1 {
		t.Fatalf("with the key: %+v, %s", s, x.errs)
	}
	if s, x := signOn(flash); x.code != exitFine || s.Pack != 1 || len(images(flash)[signedName]) != 32 {
		t.Errorf("once more: %+v, %s", s, x.errs)
	}
	r.stop()
}
