package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"koala/hostlink"
	"koala/spec/iso8583"
	"koala/spec/poskey"
)

const hostStripe = "6228880100000000178=2509101000000000"

var (
	hostTMK = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	hostMAK = [16]byte{9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6}
)

// An acquirer approves everything, written from docs/terminal-protocol.md.
type acquirer struct {
	mu     sync.Mutex
	batch  int
	n      int
	silent bool
	code   string
	list   []string
}

func (a *acquirer) Handle(_ context.Context, message []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, out := new(iso8583.Message), new(iso8583.Message)
	if err := m.Unpack(iso8583.UnionPayPOS(), message); err != nil {
		return nil, err
	}
	a.n++
	a.list = append(a.list, m.MTI()+" "+m.Text(60)[:2])
	key, err := iso8583.NewKey(hostMAK[:])
	if err != nil || a.silent && !m.IsMTI("0800") {
		return nil, err
	}
	code := "00"
	if a.code != "" && m.IsMTI("0200") {
		code = a.code
	}
	if err := out.AnswerTo(m, code); err != nil {
		return nil, err
	}
	net := m.Text(60)[8:11]
	out.SetText(12, "120000")
	out.SetText(13, "0916")
	out.SetText(37, fmt.Sprintf("%012d", a.n))
	switch {
	case m.IsMTI("0800"):
		out.SetText(60, fmt.Sprintf("00%06d%s", a.batch, net))
		var keys []byte
		for range 3 {
			keys = poskey.Wrap(hostTMK, hostMAK).Append(keys)
		}
		out.Set(62, keys)
		return out.AppendTo(nil)
	case net == "301":
		return out.AppendTo(nil)
	case m.IsMTI("0500"):
		out.SetText(48, m.Text(48)[:30]+"1"+m.Text(48)[31:61]+"1")
	case net == "207":
		a.batch++
		out.SetText(60, fmt.Sprintf("00%06d%s", a.batch, net))
	case m.IsMTI("0200") && code == "00":
		out.SetText(38, "A00001")
	}
	return out.Seal(nil, key)
}

// acquire serves an acquirer and gives the flags of a terminal that is its.
func acquire(t *testing.T) (a *acquirer, flags []string) {
	t.Helper()
	a = &acquirer{batch: 5}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- (&hostlink.Server{Handler: a}).Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-over })
	dir := t.TempDir()
	tmk := filepath.Join(dir, "tmk")
	check := poskey.KCV(hostTMK)
	if err := os.WriteFile(tmk, fmt.Appendf(nil, "%X\n%X\n", hostTMK, check), 0o600); err != nil {
		t.Fatal(err)
	}
	flags = []string{"--connect", l.Addr().String(), "--tid", "10010001", "--mid", "898110058120001", "--terminal", filepath.Join(dir, "flash"), "--timeout", "2s", "--json"}
	if s := koala(t, "", append([]string{"pos", "sign-on", "--tmk-file", tmk}, flags...)...); s.code != exitFine || !strings.Contains(s.out, `"signed_on":true,"batch":5`) {
		t.Fatalf("%+v", s)
	}
	return a, flags
}

// A terminal's day over TCP: every command is a process of its own.
func TestPosSpeaksToHost(t *testing.T) {
	a, flags := acquire(t)
	do := func(want int, args string) (v dealSaid) {
		t.Helper()
		s := koala(t, "", append(append([]string{"pos"}, strings.Fields(args)...), flags...)...)
		if s.code != want || strings.Contains(s.out+s.errs, "6228880100000000178") {
			t.Fatalf("%s: %+v", args, s)
		}
		_ = json.Unmarshal([]byte(s.out), &v) // of a settlement other fields
		return v
	}
	first := do(exitFine, "sale --track2 "+hostStripe+" --amount 20000 --pin 1234")
	if first.Result != "approved" || first.Fen != 200_00 || first.Auth != "A00001" || first.Batch != 5 || len(first.Receipt) < 8 {
		t.Errorf("%+v", first)
	}
	do(exitFine, "sale --pan 6228880100000000178 --expiry 2509 --amount 100")
	a.code = "51"
	if v := do(exitRefused, "sale --track2 "+hostStripe+" --amount 1"); v.Result != "declined" || v.Text != "insufficient funds" {
		t.Errorf("%+v", v)
	}
	a.code = ""
	if v := do(exitFine, fmt.Sprint("void --trace ", first.Trace)); v.Kind != "void" || v.Fen != 200_00 {
		t.Errorf("%+v", v)
	}
	do(exitFine, "refund --of 000004/000017/0901 --track2 "+hostStripe+" --amount 100")
	auth := do(exitFine, "sale --kind pre-authorisation --track2 "+hostStripe+" --amount 10000")
	if v := do(exitFine, fmt.Sprint("follow-up --trace ", auth.Trace, " --amount 11500")); v.Kind != "completion" || v.Fen != 115_00 {
		t.Errorf("%+v", v)
	}
	a.silent = true
	do(exitRefused, "sale --track2 "+hostStripe+" --amount 7")
	var st terminalSaid
	s := koala(t, "", append([]string{"pos", "status"}, flags...)...)
	if err := json.Unmarshal([]byte(s.out), &st); err != nil || len(st.Pending) != 1 || len(st.Deals) != 6 || st.Net != 115_00 {
		t.Errorf("%v %+v", err, st)
	}
	a.silent = false
	do(exitFine, "settle")
	if got := strings.Join(a.list, ","); !strings.Contains(got, "0400 22,0500 00,0320 00") {
		t.Error(got)
	}
	if s := koala(t, "", append([]string{"pos", "status"}, flags...)...); !strings.Contains(s.out, `"batch":6`) {
		t.Errorf("%+v", s)
	}
}

// A band taps at a terminal: offline from its e-cash, sent up at the settlement,
// and online where it has not enough.
func TestPosHostTakesBand(t *testing.T) {
	a, flags := acquire(t)
	path := newTestBand(t)
	for i, amount := range []string{"1250", "29900"} {
		address := fmt.Sprintf("127.0.0.1:%d", freePorts(t))
		stop := held(t, path, address, "contactless")
		s := koala(t, "", append([]string{"pos", "sale", "--listen", address, "--amount", amount, "--test-keys"}, flags...)...)
		stop()
		var v dealSaid
		if err := json.Unmarshal([]byte(s.out), &v); err != nil || s.code != exitFine || v.Result != "approved" || v.Kind != []string{"e-cash sale", "sale"}[i] || strings.Contains(s.out, testPAN) {
			t.Fatalf("%v %+v", err, s)
		}
	}
	if s := koala(t, "", append([]string{"pos", "settle"}, flags...)...); s.code != exitFine || !strings.Contains(strings.Join(a.list, ","), "0200 36") {
		t.Errorf("%+v %v", s, a.list)
	}
}

func TestPosHostBadInput(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := " --connect 127.0.0.1:1 --tid 10010001 --mid 898110058120001 --terminal " + filepath.Join(t.TempDir(), "x")
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"pos sign-on", exitMisused, "--tid"},
		{"pos sign-on --tid 10010001 --mid 1 --terminal x --connect 127.0.0.1:1", exitMisused, `--mid "1": a merchant number has 15`},
		{"pos sign-on --tid 10010001 --mid 898110058120001", exitMisused, "--terminal"},
		{"pos sign-on --tid 10010001 --mid 898110058120001 --terminal x", exitMisused, "--connect"},
		{"pos sign-on" + good, exitRefused, "no keys"},
		{"pos sign-on --off --echo" + good, exitMisused, "--echo"},
		{"pos sign-on --tmk-file " + bad + good, exitRefused, "32 hexadecimal digits"},
		{"pos sign-on --connect 127.0.0.1:1 --tid 10010001 --mid 898110058120001 --terminal " + bad, exitRefused, "is no terminal's"},
		{"pos sale" + good, exitMisused, "a card (--reader, --listen, --card, --track2, --pan or --code) and --amount are missing"},
		{"pos void", exitMisused, "--trace, --tid, --mid, --terminal and --connect are missing"},
		{"pos void --trace 17" + strings.Replace(good, "--tid", "--name", 1), exitMisused, "koala: --tid is missing"},
		{"pos void --trace 1000000" + good, exitMisused, "--trace 1000000: 1 to 999999"},
		{"pos refund", exitMisused, "--of (or --reference), --track2 (or --pan with --expiry), --amount, --tid, --mid, --terminal and --connect are missing"},
		{"pos follow-up --kind tip" + good, exitMisused, "--trace and --amount are missing"},
		{"pos status", exitMisused, "--tid, --mid and --terminal are missing"},
		{"pos sale --track2 1=2" + good, exitMisused, "--amount"},
		{"pos sale --track2 1=2 --kind gift --amount 1" + good, exitMisused, "gift"},
		{"pos sale --kind balance --track2 1=2 --amount 1" + good, exitMisused, "--amount"},
		{"pos void" + good, exitMisused, "--trace"},
		{"pos refund --amount 1 --pan 1" + good, exitMisused, "--reference"},
		{"pos refund --amount 1 --pan 1 --of 1/2/3" + good, exitMisused, "--of"},
		{"pos follow-up --trace 1 --kind gift" + good, exitMisused, "gift"},
		{"pos follow-up --amount 1" + good, exitMisused, "--trace"},
		{"pos follow-up --trace 1" + good, exitMisused, "--amount"},
		{"pos prove" + good, exitMisused, "a card (--reader, --listen or --card) is missing"},
		{"pos status --card-tail 1111" + good, exitRefused, "1111"},
		{"pos status extra" + good, exitMisused, "extra"},
	} {
		s := koala(t, "", strings.Fields(tt.args)...)
		if s.code != tt.code || !strings.Contains(s.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q", tt.args, s.code, tt.code, s.errs)
		}
	}
}
