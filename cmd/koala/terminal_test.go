package main

import (
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"koala/app"
	"koala/hsm"
	"koala/spec/dukpt"
	"koala/switching"
)

// A terminal is installed once with a transport key, works from its first
// sign-on, and can be stopped and opened again by staff.
func TestTerminalLife(t *testing.T) {
	r := newCounterRig(t)
	life := func() string {
		t.Helper()
		var tid struct{ TID string }
		text, err := os.ReadFile(r.till)
		if err == nil {
			err = json.Unmarshal(text, &tid)
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(r.koala("terminal", "list", "--data", r.dir)) {
			if f := strings.Fields(line); f[0] == tid.TID {
				return f[3]
			}
		}
		return ""
	}
	refused := func(says string, args ...string) {
		t.Helper()
		if x := koala(t, "", args...); x.code != exitRefused || !strings.Contains(x.errs, says) {
			t.Errorf("koala %s: %d %s", strings.Join(args, " "), x.code, x.errs)
		}
	}
	if got := life(); got != "registered" {
		t.Errorf("it is %s", got)
	}
	r.serve()
	tid, mid, tmk := r.installed()
	refused("switching.no_transport", "terminal", "install", "--door", r.page, "--card", r.till, "--tmk-file", filepath.Join(r.dir, "second"))
	if _, err := os.Stat(filepath.Join(r.dir, "second")); err == nil {
		t.Error("a refused installation leaves a file")
	}
	r.stop()
	if got := life(); got != "injected" {
		t.Errorf("it is %s", got)
	}
	sell := func(tmk [16]byte) string {
		t.Helper()
		r.serve()
		defer r.stop()
		p := &foreignTerminal{t: t, address: r.line, tid: tid, mid: mid, tmk: tmk, trace: 100}
		p.signOn()
		return p.ask(p.swipe(1_00, r.card.number, r.card.expiry, paperPIN), true)
	}
	if got := sell(tmk); got != "00" {
		t.Errorf("the first sale is answered %s", got)
	}
	if got := life(); got != "active" {
		t.Errorf("it is %s", got)
	}
	refused("", "terminal", "suspend", tid, "--data", r.dir)
	r.koala("terminal", "suspend", tid, "--by", "wang", "--why", "stolen", "--data", r.dir)
	r.serve()
	p := &foreignTerminal{t: t, address: r.line, tid: tid, mid: mid, tmk: tmk, trace: 200}
	p.signOn()
	if got := p.ask(p.swipe(1_00, r.card.number, r.card.expiry, paperPIN), true); got != "58" {
		t.Errorf("a suspended terminal's sale is answered %s", got)
	}
	r.stop()
	r.write(r.till, r.koala("terminal", "transport", tid, "--by", "wang", "--why", "found again", "--json", "--data", r.dir))
	if err := os.Remove(filepath.Join(r.dir, "till.tmk")); err != nil {
		t.Fatal(err)
	}
	r.serve()
	_, _, again := r.installed()
	r.stop()
	if again == tmk {
		t.Error("another installation gives the same key")
	}
}

// A mobile reader gets its initial key and its serial number.
func TestReaderInstallation(t *testing.T) {
	r := newCounterRig(t)
	r.write(r.till, r.koala("terminal", "add", "--trial", "Noodles", "--kind", "reader", "--serial", "READER-1", "--json", "--data", r.dir))
	r.serve()
	tid, _, _ := r.installed()
	text, err := os.ReadFile(filepath.Join(r.dir, "till.tmk"))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(text))
	want := app.SerialOf(tid)
	if len(f) != 2 || !strings.EqualFold(f[1], want.String()) || !strings.HasPrefix(f[1], "FFFF") {
		t.Errorf("%q, want the serial number %s", f, want)
	}
	if ksn := app.SerialOf("ZZZZZZZZ"); ksn == app.SerialOf("ZZZZZZZY") || ksn.Same(app.SerialOf("ZZZZZZZY")) || ksn.Counter() != 0 {
		t.Errorf("%s", ksn)
	}
	if dukpt.KSN(want).Counter() != 0 {
		t.Error("a serial number begins at the counter 0")
	}
}

// Keys shared with another host come in parts, and no part that is wrong.
func TestKeyEnter(t *testing.T) {
	dir := t.TempDir()
	a, b := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, [16]byte{0xA1, 0x35, 0x7C, 4, 0x99, 6, 7, 0x42, 0x13, 10, 0xD5, 12, 13, 0x8E, 15, 16}
	var whole [16]byte
	for i := range whole {
		whole[i] = a[i] ^ b[i]
	}
	check := func(k [16]byte) string {
		c, err := des.NewTripleDESCipher(append(k[:], k[:8]...))
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 8)
		c.Encrypt(out, out)
		return hex.EncodeToString(out[:3])
	}
	sheets := func(first, last string) string {
		return "chen " + hex.EncodeToString(a[:]) + " " + first + "\nwu " + hex.EncodeToString(b[:]) + " " + check(b) + "\n" + last + "\n"
	}
	enter := []string{"key", "enter", "--host", "ICBC", "--use", "mac", "--data", dir}
	if x := koala(t, sheets(check(a), check(whole)), enter...); x.code != exitFine || !strings.Contains(x.out, strings.ToUpper(check(whole))) {
		t.Fatalf("%d %s %s", x.code, x.out, x.errs)
	}
	for what, in := range map[string]string{"a part's check value": sheets("000000", check(whole)), "the key's check value": sheets(check(a), "000000")} {
		if x := koala(t, in, enter...); x.code != exitRefused || strings.Contains(x.errs, hex.EncodeToString(a[:])) {
			t.Errorf("%s wrong: %d %s", what, x.code, x.errs)
		}
	}
	for _, in := range []string{"", "chen 00\n", sheets(check(a), check(whole)) + "more\n", "zz " + hex.EncodeToString(a[:15]) + "ZZ 123456\n123456\n"} {
		if x := koala(t, in, enter...); x.code != exitMisused || strings.Contains(x.errs, hex.EncodeToString(a[:15])) {
			t.Errorf("%q: %d %s", in, x.code, x.errs)
		}
	}
	if x := koala(t, "", "key", "enter", "--host", "ICBC", "--use", "tea", "--data", dir); x.code != exitMisused {
		t.Errorf("%d %s", x.code, x.errs)
	}
	_, mac := switching.ZoneLabels("ICBC")
	if x := koala(t, "", "key", "list", "--data", dir); !strings.Contains(x.out, mac) || !strings.Contains(x.out, string(hsm.ZoneKey)) {
		t.Errorf("%s", x.out)
	}
}

func TestLinksMisused(t *testing.T) {
	for _, args := range []string{"serve --peer ICBC", "serve --peer ICBC=nowhere", "serve --peer =127.0.0.1:1", "serve --peer A=127.0.0.1:1 --peer A=127.0.0.1:2",
		"terminal add", "terminal add --trial A --shop b", "terminal install", "bench auth --terminals 0", "bench auth --chip 101"} {
		if x := koala(t, "", append(strings.Fields(args), "--help=false")...); x.code != exitMisused {
			t.Errorf("koala %s: %d %s", args, x.code, x.errs)
		}
	}
}

// With koala serve alone a trial card of the house's own bank pays, by what the
// commands print and nothing else.
func TestTrialCard(t *testing.T) {
	r := newCounterRig(t)
	if x := koala(t, "a long secret\n", "person", "--login", "lin", "--name", "林", "--phone", "13800001234", "--data", r.dir); x.code != exitFine {
		t.Fatalf("%d %s", x.code, x.errs)
	}
	for _, args := range [][]string{{"--login", "lin", "--pin", "12"}, {"--login", "lin", "--pin", "12345x"}, {}, {"--login", "lin", "--fund", "-1"}} {
		if x := koala(t, "", append([]string{"terminal", "card", "--data", r.dir}, args...)...); x.code != exitMisused {
			t.Errorf("%v: %d %s", args, x.code, x.errs)
		}
	}
	if x := koala(t, "", "terminal", "card", "--login", "nobody", "--data", r.dir); x.code != exitRefused || !strings.Contains(x.errs, "customer.not_found") {
		t.Errorf("%d %s", x.code, x.errs)
	}
	var card, other struct{ Number, Expiry, Track2, PIN string }
	for _, c := range []any{&card, &other} {
		if err := json.Unmarshal([]byte(r.koala("terminal", "card", "--login", "lin", "--fund", "20000", "--json", "--data", r.dir)), c); err != nil {
			t.Fatal(err)
		}
	}
	if card.Number == other.Number || len(card.PIN) != 6 || card.Track2 != card.Number+"="+card.Expiry+"120" {
		t.Errorf("%+v and %+v", card, other)
	}
	r.serve()
	tid, mid, _ := r.installed()
	line := []string{"--connect", r.line, "--tid", tid, "--mid", mid, "--terminal", filepath.Join(r.dir, "till.flash")}
	pos := func(kind string, args ...string) (int, string) {
		x := koala(t, "", slices.Concat([]string{"pos", kind}, line, args)...)
		return x.code, x.out + x.errs
	}
	if code, says := pos("sign-on", "--tmk-file", filepath.Join(r.dir, "till.tmk")); code != exitFine {
		t.Fatal(says)
	}
	wrong := string('0'+(card.PIN[0]-'0'+1)%10) + card.PIN[1:]
	for _, sale := range []struct {
		fen, pin string
		code     int
	}{{"15000", card.PIN, exitFine}, {"100", wrong, exitRefused}, {"40000", card.PIN, exitRefused}} {
		if code, says := pos("sale", "--track2", card.Track2, "--pin", sale.pin, "--amount", sale.fen); code != sale.code {
			t.Errorf("a sale over %s fen: %d %s", sale.fen, code, says)
		}
	}
	if code, says := pos("settle"); code != exitFine || !strings.Contains(says, "balanced with the host") {
		t.Errorf("%d %s", code, says)
	}
	r.stop()
	if x := koala(t, "", "verify", "--data", r.dir); x.code != exitFine {
		t.Errorf("%s %s", x.out, x.errs)
	}
}

// A second registration never takes the first one's transport key away, and an
// installation with a key that is not the last says what to do.
func TestTransportKeys(t *testing.T) {
	r := newCounterRig(t)
	first := r.koala("terminal", "add", "--trial", "Noodles", "--serial", "PX7-1", "--json", "--data", r.dir)
	if x := koala(t, "", "terminal", "add", "--trial", "Noodles", "--serial", "PX7-1", "--json", "--data", r.dir); x.code != exitRefused || x.out != "" || !strings.Contains(x.errs, "koala terminal transport") {
		t.Errorf("%d %s %s", x.code, x.out, x.errs)
	}
	var a, b terminalCard
	if err := json.Unmarshal([]byte(first), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.koala("terminal", "add", "--trial", "Noodles", "--json", "--data", r.dir)), &b); err != nil || a.TID == b.TID {
		t.Errorf("%s, %s, %v", a.TID, b.TID, err)
	}
	second := r.koala("terminal", "transport", a.TID, "--by", "wang", "--why", "lost", "--json", "--data", r.dir)
	mixed := b
	mixed.Transport = a.Transport
	text, err := json.Marshal(mixed)
	if err != nil {
		t.Fatal(err)
	}
	r.serve()
	for name, bad := range map[string]struct{ card, says string }{"dead": {first, "koala terminal transport " + a.TID}, "mixed": {string(text), "the transport key is of terminal " + a.TID}} {
		path := filepath.Join(r.dir, name)
		r.write(path, bad.card)
		x := koala(t, "", "terminal", "install", "--door", r.page, "--card", path, "--tmk-file", path+".tmk")
		if x.code != exitRefused || !strings.Contains(x.errs, bad.says) {
			t.Errorf("%s: %d %s", name, x.code, x.errs)
		}
		if _, err := os.Stat(path + ".tmk"); err == nil {
			t.Errorf("%s: a file is left", name)
		}
	}
	// Neither has spent the installation.
	path := filepath.Join(r.dir, "second")
	r.write(path, second)
	if x := koala(t, "", "terminal", "install", "--door", r.page, "--card", path, "--tmk-file", path+".tmk"); x.code != exitFine {
		t.Errorf("the key that is not dead: %d %s", x.code, x.errs)
	}
}
