package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"koala/pcsc"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// pcscEnv holds the path of pcscd; without it the tests skip. The reader driver
// of vsmartcard, opensc-tool, pcsc_scan and scriptor must be installed too.
const pcscEnv = "KOALA_TEST_PCSC"

// vpcdDriver is where the Debian package puts the reader driver.
const vpcdDriver = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"

// The reader's name in these tests.
const rigReader = "Koala band 00 00"

// A rig is a pcscd of its own: in a private mount namespace, with a private
// run directory and one virtual reader on a free port.
type rig struct {
	t      *testing.T
	dir    string
	port   int
	daemon *exec.Cmd
}

func newRig(t *testing.T) *rig {
	t.Helper()
	path := os.Getenv(pcscEnv)
	if path == "" {
		t.Skipf("%s does not hold the path of pcscd", pcscEnv)
	}
	r := &rig{t: t, dir: t.TempDir(), port: freePorts(t)}
	conf := filepath.Join(r.dir, "reader.conf.d")
	text := fmt.Sprintf("FRIENDLYNAME \"Koala band\"\nDEVICENAME /dev/null:0x%X\nLIBPATH %s\nCHANNELID 0x%X\n", r.port, vpcdDriver, r.port)
	if err := errors.Join(os.Mkdir(conf, 0o755), os.WriteFile(filepath.Join(conf, "koala"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

// freePorts finds two free ports in a row: the driver listens on both.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		n := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf(":%d", n+1))
		l.Close()
		if err == nil {
			next.Close()
			return n
		}
	}
	t.Fatal("no two free ports")
	return 0
}

func (r *rig) start() {
	r.t.Helper()
	how := []string{"-m"}
	if os.Geteuid() != 0 {
		how = []string{"-r", "-m"}
	}
	script := `mount -t tmpfs none /run && mkdir /run/pcscd && exec "$0" --foreground --config "$1"`
	r.daemon = exec.Command("unshare", append(how, "sh", "-c", script, os.Getenv(pcscEnv), filepath.Join(r.dir, "reader.conf.d"))...)
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.until("pcscd listens", func() bool { _, err := os.Stat(r.socket()); return err == nil })
}

func (r *rig) stop() {
	_ = r.daemon.Process.Kill()
	_ = r.daemon.Wait()
}

// socket is pcscd's, seen from outside its mount namespace.
func (r *rig) socket() string {
	return fmt.Sprintf("/proc/%d/root/run/pcscd/pcscd.comm", r.daemon.Process.Pid)
}

func (r *rig) until(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// serve holds the band in file to the reader until the returned stop.
func (r *rig) serve(file, personality string) (stop func() said) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	over := make(chan said, 1)
	go func() {
		over <- koalaIn(ctx, "", "band", "serve", "--vpcd", fmt.Sprintf("127.0.0.1:%d", r.port), "--personality", personality, "--band", file, "--log", "--json")
	}()
	c := r.client()
	if _, err := c.WaitCard(r.within(patience), rigReader); err != nil {
		r.t.Fatal(err)
	}
	return func() said {
		cancel()
		s := <-over
		r.until("the card is out", func() bool {
			list, err := c.Readers()
			return err != nil || !slices.ContainsFunc(list, func(x pcsc.ReaderState) bool { return x.Present })
		})
		return s
	}
}

func (r *rig) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *rig) client() *pcsc.Client {
	r.t.Helper()
	c, err := pcsc.Dial(r.t.Context(), r.socket())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// tool runs somebody else's program against the rig's pcscd.
func (r *rig) tool(name string, args ...string) string {
	r.t.Helper()
	c := exec.CommandContext(r.within(patience), name, args...)
	c.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+r.socket())
	out, err := c.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (r *rig) band() string {
	r.t.Helper()
	if s := koala(r.t, "", "band", "new", "--data", r.dir, "--name", "rig", "--test-cards"); s.code != exitFine {
		r.t.Fatal(s.errs)
	}
	return filepath.Join(r.dir, bandFolder, "rig"+bandSuffix)
}

func (r *rig) connect(exclusive bool) *pcsc.Connection {
	r.t.Helper()
	k, err := r.client().Connect(rigReader, exclusive)
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

// does sends a command given in hexadecimal and wants this status word.
func (r *rig) does(k *pcsc.Connection, command string, sw iso7816.SW) []byte {
	r.t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := iso7816.ParseCommand(raw)
	if err != nil {
		r.t.Fatal(err)
	}
	a, err := k.Transmit(c)
	if err != nil || a.SW != sw {
		r.t.Fatalf("%s: %v %v, want %v", command, a, err, sw)
	}
	return a.Data
}

const selectPurse = "00A4040008A000000632010105"

// Programs that know nothing of this house find the reader, the card in it,
// its ATR, and read the transit purse to the fen.
func TestStrangersReadThePurse(t *testing.T) {
	r := newRig(t)
	stop := r.serve(r.band(), "contactless")
	if out := r.tool("opensc-tool", "-l"); !strings.Contains(out, "Yes") || !strings.Contains(out, rigReader) {
		t.Errorf("opensc-tool -l:\n%s", out)
	}
	if out := r.tool("opensc-tool", "-r", "0", "-a"); !strings.Contains(out, "3b:80:80:01:01") {
		t.Errorf("opensc-tool -a:\n%s", out)
	}
	out := r.tool("opensc-tool", "-r", "0", "-s", selectPurse, "-s", "00B095001E", "-s", "00B097000B", "-s", "805C000204", "-s", "00B201C417")
	for _, want := range []string{"SW1=0x90, SW2=0x00", "01 01 10 00 FF FF FF FF 02 01 03 10 51 70 07 01", "04 79 13 81 20 19 07 18 20 40 12 31",
		"00 00 01 56 58 00 58 40 00 01 01", "00 00 10 00", "00 00 00 00 00 00 00 10 00 02"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	var seen []byte
	for wait := 2 * time.Second; wait < patience && !bytes.Contains(seen, []byte("3B 80 80 01 01")); wait *= 2 {
		scan := exec.CommandContext(r.within(wait), "pcsc_scan", "-n")
		scan.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+r.socket())
		seen, _ = scan.CombinedOutput() // it goes on until it is stopped
	}
	if !bytes.Contains(seen, []byte("Card inserted")) || !bytes.Contains(seen, []byte("3B 80 80 01 01")) {
		t.Errorf("pcsc_scan:\n%s", seen)
	}
	if s := stop(); s.code != exitFine || s.errs != "" {
		t.Errorf("serve ended with %d: %s", s.code, s.errs)
	}
	r.told()
}

// told reads the log that serve kept.
func (r *rig) told() {
	r.t.Helper()
	s := koala(r.t, "", "band", "log", "--data", r.dir, "--name", "rig", "--json")
	found := false
	for line := range strings.Lines(s.out) {
		var l talkLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			r.t.Fatalf("%s: %v", line, err)
		}
		found = found || l.Command == "805C000204" && l.Answer == "000010009000" && strings.Contains(l.Text, "BALANCE")
	}
	if s.code != exitFine || !found {
		r.t.Errorf("band log: code %d, %s, %d bytes", s.code, s.errs, len(s.out))
	}
}

// scriptor plays dialogue files line by line: the transit purse by contact, a
// payment over the air from the directory to the last record.
func TestScriptor(t *testing.T) {
	r := newRig(t)
	band := r.band()
	for _, tt := range []struct {
		personality, script string
		wants               []string
	}{
		{"contact-t1", "reset\n" + selectPurse + "\n80 5C 00 02 04\n00 A4 04 00 07 F0 00 00 00 00 00 00\n", []string{"00 00 10 00 90 00", "6A 82"}},
		{"contactless", "reset\n00A404000E325041592E5359532E444446303100\n00A4040008A00000033301010100\n" + strings.ReplaceAll(payOne, " ", "") +
			"\n00B2011400\n00B2011C00\n00B2021C00\n00B2014400\n80CA9F7900\n80CA9F3600\n", []string{
			"A0 00 00 03 33 01 01 01", // in the directory and in the FCI
			"77 81", "9F 26 08", "9F 36 02 00 01", "9F 4B 81 80", "5A 08 62 28 00 01 00 00 11 17", "8F 01 F0", "9F 46 81 90",
			"9F 79 06 00 00 00 00 99 00 90 00", "9F 36 02 00 01 90 00",
		}},
	} {
		stop := r.serve(band, tt.personality)
		script := filepath.Join(r.dir, "dialogue-"+tt.personality)
		if err := os.WriteFile(script, []byte(tt.script), 0o644); err != nil {
			t.Fatal(err)
		}
		out := strings.Join(strings.Fields(r.tool("scriptor", "-r", rigReader, script)), " ")
		for _, want := range tt.wants {
			if !strings.Contains(out, strings.TrimSpace(want)) {
				t.Errorf("%s: no %q in\n%s", tt.personality, want, out)
			}
		}
		stop()
	}
}

// Each personality answers as its kind of card does.
func TestPersonalities(t *testing.T) {
	r := newRig(t)
	band := r.band()
	for _, p := range pcsc.Personalities() {
		stop := r.serve(band, p.Name)
		k := r.connect(true)
		if k.T0() != p.T0 {
			t.Errorf("%s: T=0 %v", p.Name, k.T0())
		}
		r.does(k, selectPurse+"00", iso7816.OK)
		if got := r.does(k, "00B095001E", iso7816.OK); !bytes.Contains(got, unhexed("03105170070104791381")) {
			t.Errorf("%s: file 15 %X", p.Name, got)
		}
		if p.ATS != nil {
			if got := r.does(k, "FFCA000000", iso7816.OK); len(got) != 7 {
				t.Errorf("%s: UID %X", p.Name, got)
			}
		} else {
			r.does(k, "FFCA000000", iso7816.SWClass)
		}
		if without := map[string]string{"desfire": "9060000000", "beijing": "00B0840020"}[p.Name]; without != "" { // a SELECT
			if err := k.Reset(); err != nil {
				t.Fatal(err)
			}
			r.does(k, without, map[string]iso7816.SW{"desfire": 0x91AF, "beijing": iso7816.OK}[p.Name])
			r.does(k, selectPurse+"00", iso7816.OK)
		}
		if !p.T0 {
			long := iso7816.Command{INS: 0xCA, P1: 0x01, Data: bytes.Repeat([]byte{0x55}, 1000), Le: 0, Extended: true}
			a, err := k.Transmit(long)
			if err != nil || a.SW == 0 || a.SW.OK() {
				t.Errorf("%s: 1000 bytes: %v %v", p.Name, a, err)
			}
		}
		r.does(k, "805C000204", iso7816.OK)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		stop()
	}
}

func unhexed(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}

// Reset, power and the reader's own death are moments at which the card forgets
// what is volatile and nothing else.
func TestTearPoints(t *testing.T) {
	r := newRig(t)
	band := r.band()
	r.serve(band, "contact-t0")
	begin := strings.ToUpper(hex.EncodeToString(purse.InitPurchase{Purse: purse.EP, Key: 1, Fen: 100, Terminal: purse.Terminal{1}}.Command().Bytes()))
	debit := "805401000F 00000001 20241229 141740 00000000 08"
	k := r.connect(false)
	for name, tear := range map[string]func() error{"reset": k.Reset, "power": k.Repower} {
		r.does(k, selectPurse, iso7816.OK)
		first := r.does(k, begin, iso7816.OK)
		if err := tear(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.does(k, selectPurse, iso7816.OK)
		r.does(k, debit, iso7816.SWConditions)
		if again := r.does(k, begin, iso7816.OK); bytes.Equal(first, again) || !bytes.Equal(first[:6], again[:6]) {
			t.Errorf("%s: %X and then %X", name, first, again)
		}
		r.does(k, debit, iso7816.SWPurseMAC)
	}
	before := koala(t, "", "band", "show", "--band", band, "--json").out
	r.stop()
	r.start()
	if _, err := r.client().WaitCard(r.within(patience), rigReader); err != nil {
		t.Fatal(err)
	}
	k = r.connect(false)
	r.does(k, selectPurse, iso7816.OK)
	if got := r.does(k, "805C000204", iso7816.OK); !bytes.Equal(got, []byte{0, 0, 0x10, 0}) {
		t.Errorf("balance %X", got)
	}
	if after := koala(t, "", "band", "show", "--band", band, "--json").out; after != before {
		t.Errorf("the band on the disk was\n%s\nand is\n%s", before, after)
	}
}

// The round trip is measured in batches, and the best one counts: other tests
// that run at the same time can only make it longer.
const (
	rounds  = 200
	batches = 20
)

// A SELECT there and back through pcscd stays under half a millisecond.
func TestRoundTrip(t *testing.T) {
	r := newRig(t)
	r.serve(r.band(), "contactless")
	k := r.connect(true)
	command := unhexed(selectPurse + "00")
	best := time.Hour
	for batch := 0; batch < batches && (batch < 5 || best >= 500*time.Microsecond); batch++ {
		took := make([]time.Duration, rounds)
		for i := range took {
			begin := time.Now()
			if _, err := k.Raw(command); err != nil {
				t.Fatal(err)
			}
			took[i] = time.Since(begin)
		}
		slices.Sort(took)
		best = min(best, took[rounds/2])
		t.Logf("median %v, 95 %% %v, worst %v", took[rounds/2], took[rounds*95/100], took[rounds-1])
	}
	if best >= 500*time.Microsecond {
		t.Errorf("median %v", best)
	}
}
