package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/pcsc"
	"koala/spec/desfire"
	"koala/spec/dialogue"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// newTestBand makes a band with the published cards and gives its file.
func newTestBand(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if s := koala(t, "", "band", "new", "--data", dir, "--name", "blue", "--test-cards"); s.code != exitFine {
		t.Fatal(s.errs)
	}
	return filepath.Join(dir, bandFolder, "blue"+bandSuffix)
}

func showBand(t *testing.T, path string) (v bandView) {
	t.Helper()
	s := koala(t, "", "band", "show", "--band", path, "--json")
	if err := json.Unmarshal([]byte(s.out), &v); err != nil || s.code != exitFine {
		t.Fatalf("code %d: %v %s", s.code, err, s.errs)
	}
	return v
}

func TestBandNewListShow(t *testing.T) {
	path := newTestBand(t)
	v := showBand(t, path)
	if v.Band != "blue" || v.UID[:2] != "04" || v.State != "01" || len(v.Cards) != 4 {
		t.Errorf("%+v", v)
	}
	for i, want := range []string{"t-union", "qpboc", "desfire", "coupon"} {
		if v.Cards[i].Kind != want || v.Cards[i].Status != "" {
			t.Errorf("card %d: %+v", i, v.Cards[i])
		}
	}
	if b := v.Cards[1]; *b.Fen != testCash || *b.Counter != 0 {
		t.Errorf("%+v", b)
	}
	if d, k := v.Cards[2], v.Cards[3]; len(d.Notes) != 3 || len(k.Coupons) != len(testCoupons()) {
		t.Errorf("%+v %+v", d, k)
	}
	c := v.Cards[0]
	if c.Kind != "t-union" || c.Number != "3105170070104791381" || c.Fen == nil || *c.Fen != testFen || c.From != "2019-07-18" || c.To != "2040-12-31" || *c.Counter != 0 {
		t.Errorf("%+v", c)
	}
	dir := filepath.Dir(filepath.Dir(path))
	if s := koala(t, "", "band", "list", "--data", dir); !strings.HasPrefix(s.out, "blue") || !strings.Contains(s.out, "40.96") {
		t.Errorf("%+v", s)
	}
	before, _ := os.ReadFile(path)
	if s := koala(t, "", "band", "show", "--data", dir); s.code != exitFine || !strings.Contains(s.out, "3105170070104791381 40.96") {
		t.Errorf("%+v", s)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("show has changed the band")
	}
	if s := koala(t, "", "band", "new", "--data", dir, "--name", "old", "--scp", "02"); s.code != exitFine {
		t.Errorf("%+v", s)
	}
	if s := koala(t, "", "band", "show", "--data", dir); s.code != exitMisused || !strings.Contains(s.errs, "--name blue, --name old") {
		t.Errorf("which of two: %+v", s)
	}
}

func TestBandBadInput(t *testing.T) {
	path := newTestBand(t)
	dir := filepath.Dir(filepath.Dir(path))
	damaged := filepath.Join(dir, "damaged.band")
	image, _ := os.ReadFile(path)
	image[100] ^= 1
	if err := os.WriteFile(damaged, image, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"band new --data " + dir + " --name blue", exitRefused, "exists already"},
		{"band new --data " + dir + " --name ../x", exitMisused, `"../x"`},
		{"band new --data " + dir + " --name x --scp 01", exitMisused, `--scp "01"`},
		{"band list --data " + dir + " extra", exitMisused, "extra"},
		{"band show --data " + dir + " --name none", exitRefused, "there is no band"},
		{"band show --data /nonexistent", exitRefused, "there is no band in /nonexistent"},
		{"band show --band x --name y", exitMisused, "--band and --name"},
		{"band show --band " + damaged, exitRefused, "not an intact image"},
		{"band serve --band " + path + " --personality magnetic", exitMisused, "magnetic"},
		{"band serve --band " + path + " --vpcd nowhere", exitMisused, "nowhere"},
		{"band serve --band " + damaged, exitRefused, "not an intact image"},
		{"band log --band " + path, exitRefused, "serve --log"},
		{"band log --band " + path + " --last -1", exitMisused, "--last -1"},
		{"band log --band " + path + " --lang fr", exitMisused, `--lang "fr"`},
	} {
		s := koala(t, "", strings.Fields(tt.args)...)
		if s.code != tt.code || !strings.Contains(s.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q", tt.args, s.code, tt.code, s.errs)
		}
	}
}

// A driver is the reader's end, as vpcd is inside pcscd.
type driver struct {
	t    *testing.T
	l    net.Listener
	conn net.Conn
}

func newDriver(t *testing.T) *driver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, l: l}
	t.Cleanup(func() {
		l.Close()
		if d.conn != nil {
			d.conn.Close()
		}
	})
	return d
}

func (d *driver) accept() {
	d.t.Helper()
	var err error
	if d.conn, err = d.l.Accept(); err != nil {
		d.t.Fatal(err)
	}
}

// ask sends a frame and reads the answer; "" when the socket closed instead.
func (d *driver) ask(body string) string {
	d.t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)); err != nil {
		d.t.Fatal(err)
	}
	if len(raw) == 1 && raw[0] != 4 {
		return ""
	}
	var length [2]byte
	if _, err := io.ReadFull(d.conn, length[:]); err != nil {
		return ""
	}
	out := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(d.conn, out); err != nil {
		d.t.Fatal(err)
	}
	return upper(out)
}

func (d *driver) serve(ctx context.Context, path string) <-chan said {
	over := make(chan said, 1)
	go func() {
		over <- koalaIn(ctx, "", "band", "serve", "--vpcd", d.l.Addr().String(), "--band", path, "--log")
	}()
	d.accept()
	return over
}

// Every state that a reader has been answered about is on the disk: an
// interrupted program loses nothing. A SELECT of the domain and INITIALIZE
// UPDATE move the channel's sequence counter.
func TestServeKeepsWhatItAnswered(t *testing.T) {
	path := newTestBand(t)
	d := newDriver(t)
	ctx, cancel := context.WithCancel(t.Context())
	over := d.serve(ctx, path)
	d.ask("01")
	d.ask("00A4040000")
	first := d.ask("80500000081122334455667788 00")
	stateAfter, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := koala(t, "", "band", "serve", "--band", path); s.code != exitRefused || !strings.Contains(s.errs, "another process") {
		t.Errorf("a second serve: %+v", s)
	}
	cancel()
	if s := <-over; s.code != exitFine {
		t.Errorf("%+v", s)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, stateAfter) {
		t.Error("the end has changed the band")
	}
	ctx, cancel = context.WithCancel(t.Context())
	over = d.serve(ctx, path)
	d.ask("01")
	d.ask("00A4040000")
	second := d.ask("80500000081122334455667788 00")
	cancel()
	<-over
	if !strings.HasSuffix(first, "9000") || len(first) != len(second) || first == second {
		t.Errorf("%s and then %s", first, second)
	}
}

// A state that cannot be kept is not answered: the card leaves and the program
// ends with the reason.
func TestServeEndsWhenItCannotKeep(t *testing.T) {
	path := newTestBand(t)
	d := newDriver(t)
	over := d.serve(t.Context(), path)
	d.ask("01")
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	d.ask("00A4040000")
	if a := d.ask("80500000081122334455667788 00"); a != "" {
		t.Errorf("answered %s", a)
	}
	if s := <-over; s.code != exitRefused || !strings.Contains(s.errs, "cannot be kept") {
		t.Errorf("%+v", s)
	}
}

func TestTalkIsMaskedAndExplained(t *testing.T) {
	path := newTestBand(t)
	d := newDriver(t)
	ctx, cancel := context.WithCancel(t.Context())
	over := d.serve(ctx, path)
	d.ask("01")
	d.ask("00A4040008A000000632010105")
	d.ask("805C000204")
	d.ask("0020000003123456")
	d.ask("FFCA000000")
	cancel()
	<-over
	kept, err := os.ReadFile(path + talkSuffix)
	if err != nil || bytes.Contains(kept, []byte("123456")) || !bytes.Contains(kept, []byte("0020000003XXXXXX")) {
		t.Errorf("%v: %s", err, kept)
	}
	s := koala(t, "", "band", "log", "--band", path)
	for _, want := range []string{"SELECT", "GET BALANCE", "40.96", "power on", "the card's UID"} {
		if !strings.Contains(s.out, want) {
			t.Errorf("no %q in\n%s", want, s.out)
		}
	}
	if s := koala(t, "", "band", "log", "--band", path, "--last", "1", "--lang", "zh"); strings.Count(s.out, "\n") != 1 || !strings.Contains(s.out, "读卡器已断开") {
		t.Errorf("the last: %q", s.out)
	}
}

// A dialogue file cut off in its last line is read; damage elsewhere is told.
func TestReadTalk(t *testing.T) {
	good := `{"time":"2026-01-01T00:00:00Z","kind":"power-on"}` + "\n"
	for in, want := range map[string]int{"": 0, good: 1, good + `{"time":"20`: 1, good + good: 2} {
		if l, err := readTalk(strings.NewReader(in)); err != nil || len(l) != want {
			t.Errorf("%q: %d lines, %v", in, len(l), err)
		}
	}
	if _, err := readTalk(strings.NewReader("x\n" + good)); err == nil {
		t.Error("damage in the middle")
	}
}

// A full dialogue takes no more; the next one begins anew.
func TestTalkIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(path+talkSuffix, make([]byte, maxTalk+1), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openTalk(path, true)
	if err != nil {
		t.Fatal(err)
	}
	l.size = maxTalk + 1
	if err := errors.Join(l.write(time.Now(), pcsc.Event{Kind: pcsc.PowerOn}), l.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path + talkSuffix); err != nil || len(b) != 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// testUN and the PDOL data of a contactless payment of 1.00 yuan, as the lists
// of the house's cards want them.
const payOne = "80A800003A 8338 26000080 000000000100 000000000000 0156 0000000000 0156 240615 00 11223344 120000" +
	"4B4F414C41000000000000000000000000000000 00"

// Through the reader the published bank card pays a yuan offline, its chain
// recovers to the published authority, and its signature and balance hold.
func TestPublishedBankCardPays(t *testing.T) {
	path := newTestBand(t)
	d := newDriver(t)
	ctx, cancel := context.WithCancel(t.Context())
	over := d.serve(ctx, path)
	d.ask("01")
	ca, err := testAuthority()
	if err != nil || !ca.Valid() {
		t.Fatal(err)
	}
	talk := dialogue.NewSession(dialogue.Options{CAs: []emv.CAKey{ca}})
	for _, c := range []string{"00A404000E325041592E5359532E444446303100", "00A4040008A00000033301010100", payOne,
		"00B2011400", "00B2011C00", "00B2021C00", "00B2014400"} {
		raw := unhexed(strings.ReplaceAll(c, " ", ""))
		a := d.ask(c)
		if !strings.HasSuffix(a, "9000") {
			t.Fatalf("%s: %s", c, a)
		}
		talk.Say(dialogue.Exchange{Command: raw, Response: unhexed(a)})
	}
	cancel()
	<-over
	r := talk.Report()
	seen := map[dialogue.CertificateKind]bool{}
	for _, c := range r.Certificates {
		if seen[c.Kind] = true; !c.OK {
			t.Errorf("%+v", c)
		}
	}
	if len(seen) < 3 {
		t.Errorf("certificates %v", seen)
	}
	if v := showBand(t, path); *v.Cards[1].Fen != testCash-1_00 || *v.Cards[1].Counter != 1 {
		t.Errorf("%+v", v.Cards[1])
	}
}

// docs/test-cards.md says what is written on the cards.
func TestTestCardsAreWrittenDown(t *testing.T) {
	text, err := os.ReadFile("../../docs/test-cards.md")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := testAuthority()
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(string(text)), "")
	for _, want := range []string{testNumber, testFile15, testFile17, testFile04, testIIN, testCIN, testModes.String(),
		testPAN, testMasterAC, testMasterMA, testMasterEN, upper(ca.Modulus), upper(ca.Hash[:]),
		testHolder.String(), testShop.String(), testBrand.String(), upper(testMerchantRoot[:]), upper(testIssuerRoot[:])} {
		if !strings.Contains(flat, want) {
			t.Errorf("%s is not in it", want)
		}
	}
	for _, r := range testRoots {
		if key := testKey(r.kind); !strings.Contains(flat, r.root) || r.kind != purse.DAMK && !strings.Contains(flat, upper(key[:])) {
			t.Errorf("root %s is not in it", r.root)
		}
	}
}

// The bank card's keys are those of its roots and its number.
func TestTestBankCardKeys(t *testing.T) {
	for root, want := range map[string]string{"F0C34A8124CEE0A91A0B034AA97D6EAC": testMasterAC, "12B1AC4AF070CC35612BFE2D30AB600D": testMasterMA,
		"D30F45EABC12AC3EF56B0C0D7F8654DE": testMasterEN} {
		key, err := emv.CardKey(unhexed(root), testPAN, 1, emv.OptionA)
		if err != nil || upper(key) != want {
			t.Errorf("%s: %X %v", root, key, err)
		}
	}
}

// A stranger's tool that tries every instruction on every card, in every class
// and with data of many lengths, gets an answer each time and changes nothing
// that can be seen: no balance, no counter, no entry of the registry.
func TestProbingChangesNothing(t *testing.T) {
	path := newTestBand(t)
	b, err := loadBand(path)
	if err != nil {
		t.Fatal(err)
	}
	before, err := lookAt(path, b)
	if err != nil {
		t.Fatal(err)
	}
	e := b.Element
	for _, x := range e.Entries() {
		if x.Kind == card.LoadFile {
			continue
		}
		if err := e.PowerOn(card.Contact); err != nil {
			t.Fatal(err)
		}
		for _, cla := range []byte{0x00, 0x80, 0x84, 0x90, 0xA0, 0xFF} {
			if _, err := e.Transmit(iso7816.Select([]byte(x.AID))); err != nil {
				t.Fatal(err)
			}
			probe(t, e, cla)
		}
		e.PowerOff()
	}
	after, err := lookAt(path, b)
	if err != nil {
		t.Fatal(err)
	}
	before.Writes, before.Used = after.Writes, after.Used
	if want, got := asJSON(t, before), asJSON(t, after); got != want {
		t.Errorf("before %s\nafter  %s", want, got)
	}
}

func asJSON(t *testing.T, v bandView) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func probe(t *testing.T, e *card.Element, cla byte) {
	t.Helper()
	for ins := range 256 {
		if cla == desfire.CLA && ins == desfire.CmdCreateApp {
			continue // free to everybody on a DESFire card with factory settings
		}
		for _, p := range [][2]byte{{0, 0}, {1, 0}, {0x80, 0}, {0, 1}, {0xFF, 0xFF}} {
			for _, n := range []int{-1, 0, 1, 3, 5, 8, 16, 35} {
				c := iso7816.Command{CLA: cla, INS: byte(ins), P1: p[0], P2: p[1], Le: iso7816.NoLe}
				if n >= 0 {
					c.Data, c.Le = bytes.Repeat([]byte{byte(n)}, n), 0
				}
				if r, err := e.Transmit(c); err != nil || r.SW == 0 {
					t.Fatalf("%v: %v %v", c, r, err)
				}
			}
		}
	}
}
