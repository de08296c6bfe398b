package catalog_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/card/cardtest"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/card/psam"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Card-level keys of the constructed golden trace, CARD 6.3.
var (
	dlk  = [16]byte(unhex("C8772AF7DC2C96F6E65C4FE641A843C0"))
	dtk  = [16]byte(unhex("4515223C1E1EABB0E457FDD02769ACA8"))
	dpk  = [16]byte(unhex("85B3F8D3A5E6E6A4BEBC4306CAAB53B4"))
	damk = [16]byte(unhex("505152535455565758595A5B5C5D5E5F"))
)

const (
	file15 = "01011000FFFFFFFF020103105170070104791381" + "20190718" + "20401231" + "0000"
	file17 = "0000015658005840000101"
)

// A trusted service manager's side, one card.
type manager struct {
	t testing.TB
	e *card.Element
	h *gp.Host
}

func (m *manager) transmit(c iso7816.Command) iso7816.Response {
	m.t.Helper()
	r, err := m.e.Transmit(c)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func (m *manager) open(level gp.Level) {
	m.t.Helper()
	m.h = cardtest.OpenChannel(m.t, m.e, level)
}

// run sends plain commands through the session until power fails.
func (m *manager) run(list []iso7816.Command) error {
	m.t.Helper()
	return cardtest.Manage(m.t, m.e, m.h, list...)
}

func (m *manager) key(kind purse.KeyKind, key [16]byte) purse.KeyRecord {
	m.t.Helper()
	cipher, err := m.h.EncryptKey(key[:])
	if err != nil {
		m.t.Fatal(err)
	}
	return purse.KeyRecord{Kind: kind, Index: 1, Version: 1, Key: [16]byte(cipher), KCV: iso9797.KCVDES(key[:])}
}

// issue is a whole purse: installed, personalised, put to its own state.
func (m *manager) issue(instance gp.AID) []iso7816.Command {
	m.t.Helper()
	groups := []gp.DGI{{ID: purse.DGIPublic, Data: unhex(file15)}, {ID: purse.DGIRegion, Data: append(unhex(file17), make([]byte, 49)...)},
		{ID: purse.DGITransit, Data: make([]byte, purse.TransitLen)}, {ID: purse.DGILimits, Data: purse.Limits{MaxBalance: 1000_00}.Bytes()}}
	for i, k := range []purse.KeyRecord{m.key(purse.DPK, dpk), m.key(purse.DLK, dlk), m.key(purse.DTK, dtk), m.key(purse.DAMK, damk)} {
		groups = append(groups, gp.DGI{ID: purse.DGIKeyFirst + uint16(i), Data: k.Bytes()})
	}
	store, err := gp.StoreData(groups, m.h.MaxData())
	if err != nil {
		m.t.Fatal(err)
	}
	list := []iso7816.Command{
		gp.InstallApplet(gp.AID(catalog.PurseLoadFile), gp.AID(catalog.PurseModule), instance, gp.Privileges{}, nil).Command(),
		gp.Personalize(instance).Command(),
	}
	list = append(list, store...)
	return append(list, gp.SetStatus{Part: gp.Applications, State: gp.Personalized, App: instance}.Command())
}

func newManager(t testing.TB, kind gp.KeyType) *manager {
	t.Helper()
	e, err := catalog.New(isd.Config{Type: kind}).NewElement([7]byte{4, 9, 9, 9, 9, 9, 9}, clock.Random(3))
	if err != nil {
		t.Fatal(err)
	}
	return &manager{t: t, e: e}
}

// load tops the purse up as an issuer's host does and gives the new balance.
func (m *manager) load(aid gp.AID, fen uint32) uint32 {
	m.t.Helper()
	if r := m.transmit(iso7816.Select([]byte(aid))); !r.SW.OK() {
		m.t.Fatal(r.SW)
	}
	term := purse.Terminal{0x80, 0x01, 0, 0, 0, 1}
	in := purse.InitLoad{Purse: purse.EP, Key: 1, Fen: fen, Terminal: term}
	a, err := purse.ParseInitLoadAnswer(m.transmit(in.Command()).Data)
	if err != nil {
		m.t.Fatal(err)
	}
	sk := purse.LoadSession(dlk, a.Rnd, a.Seq)
	if purse.LoadMAC1(sk, a.Balance, fen, in.Type(), term) != a.MAC1 {
		m.t.Fatal("the purse does not hold the load key it was given")
	}
	at := purse.StampOf(time.Date(2025, 1, 2, 8, 9, 10, 0, time.UTC))
	c := purse.CreditCommand{Stamp: at, MAC2: purse.LoadMAC2(sk, fen, in.Type(), term, at)}
	ans, err := purse.ParseCreditAnswer(m.transmit(c.Command()).Data)
	if err != nil || ans.TAC != purse.LoadTAC(purse.TACKey(dtk), a.Balance+fen, a.Seq, fen, in.Type(), term, at) {
		m.t.Fatalf("TAC: %v", err)
	}
	return a.Balance + fen
}

// A purse comes over the air through either protocol and holds money.
func TestIssueAPurse(t *testing.T) {
	for kind, levels := range map[gp.KeyType][]gp.Level{gp.DES: {0x01, 0x03, 0x13}, gp.AES: {0x01, 0x03, 0x11, 0x13, 0x33}} {
		for _, level := range levels {
			m := newManager(t, kind)
			m.open(level)
			if err := m.run(m.issue(gp.AID(catalog.PurseModule))); err != nil {
				t.Fatal(err)
			}
			if got := m.load(gp.AID(catalog.PurseModule), 50_00); got != 50_00 {
				t.Errorf("%v level %02X: balance %d", kind, byte(level), got)
			}
			r := m.transmit(iso7816.ReadBinarySFI(0x15, 0, 30))
			if hex.EncodeToString(r.Data) != strings.ToLower(file15) {
				t.Errorf("%v level %02X: file 15 is %v", kind, byte(level), r)
			}
		}
	}
}

// Power fails at every write of an issue. The next session finds out from GET
// STATUS what is there, does the rest again, and the purse is whole.
func TestIssueResumesAfterAnyCut(t *testing.T) {
	aid := gp.AID(catalog.PurseModule)
	for n := 1; ; n++ {
		m := newManager(t, gp.AES)
		m.open(0x03)
		m.e.Memory().CutAfter(n)
		err := m.run(m.issue(aid))
		m.e.Memory().CutAfter(0)
		if err == nil {
			if n < 10 {
				t.Fatalf("an issue of %d writes", n)
			}
			return
		}
		if !errors.Is(err, iso7816.ErrTorn) {
			t.Fatal(err)
		}
		m.open(0x03)
		w, _ := m.h.Wrap(gp.GetStatus{Part: gp.Applications, Prefix: aid}.Command())
		list, err := gp.ParseStatus(m.transmit(w).Data)
		if err != nil || len(list) > 1 {
			t.Fatalf("write %d: registry %v %v", n, list, err)
		}
		todo := m.issue(aid)
		if len(list) == 1 {
			todo = todo[1:]
		}
		if err := m.run(todo); err != nil {
			t.Fatal(err)
		}
		if got := m.load(aid, 1_00); got != 1_00 {
			t.Fatalf("write %d: balance %d", n, got)
		}
	}
}

func TestIssueAPSAM(t *testing.T) {
	m := newManager(t, gp.AES)
	m.open(0x03)
	aid := gp.AID(catalog.PSAMModule)
	store, err := gp.StoreData([]gp.DGI{
		{ID: purse.DGIPublic, Data: unhex("2301010100000021224101010101")}, {ID: purse.DGIHolder, Data: unhex("012300033D11")},
		{ID: psam.DGISettings, Data: psam.Settings{Levels: 1, Tries: 3, TSeq: 0x102A}.Bytes()},
		{ID: purse.DGIKeyFirst, Data: m.key(purse.DPK, dpk).Bytes()},
	}, m.h.MaxData())
	if err != nil {
		t.Fatal(err)
	}
	list := append([]iso7816.Command{gp.InstallApplet(gp.AID(catalog.PSAMLoadFile), aid, aid, gp.Privileges{}, nil).Command(),
		gp.Personalize(aid).Command()}, store...)
	if err := m.run(list); err != nil {
		t.Fatal(err)
	}
	m.transmit(iso7816.Select([]byte(aid)))
	if r := m.transmit(iso7816.ReadBinarySFI(0x16, 0, 6)); hex.EncodeToString(r.Data) != "012300033d11" {
		t.Errorf("terminal number %v", r)
	}
}

// A band with six cards stays small enough to have millions of.
func TestSixCardsAreSmall(t *testing.T) {
	m := newManager(t, gp.AES)
	m.open(0x03)
	for i := range 6 {
		if err := m.run(m.issue(gp.AID(catalog.PurseModule) + gp.AID([]byte{byte(i)}))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.e.Image()); n > 64<<10 {
		t.Errorf("six purses take %d bytes", n)
	}
	every, _ := full(t)
	if n := len(every.Image()); n > 200<<10 {
		t.Errorf("an element with every module takes %d bytes", n)
	} else {
		t.Logf("six purses %d bytes, every module once %d bytes", len(m.e.Image()), n)
	}
}

func TestCatalogIsOpen(t *testing.T) {
	c := catalog.New(isd.Config{})
	if n := len(c.LoadFiles()); n < 5 {
		t.Fatalf("%d load files", n)
	}
	c.Add(catalog.PurseLoadFile, "\xA0\x00\x00\x06\x32\x01\x01\x06", card.Module{})
	if f := c.LoadFiles()[1]; f.AID != catalog.PurseLoadFile || len(f.Modules) != 2 {
		t.Errorf("load file %+v", f)
	}
	if _, ok := c.Module(catalog.PurseLoadFile, catalog.PSAMModule); ok {
		t.Error("a module of another load file")
	}
	defer func() {
		if recover() == nil {
			t.Error("the same module twice")
		}
	}()
	c.Add(catalog.PurseLoadFile, catalog.PurseModule, card.Module{})
}

func TestRestore(t *testing.T) {
	c := catalog.New(isd.Config{})
	e, err := c.NewElement([7]byte{1}, clock.Random(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Restore(e.Image(), clock.Random(1)); err != nil {
		t.Error(err)
	}
	if _, err := c.Restore(e.Image()[1:], clock.Random(1)); !errors.Is(err, card.ErrImage) {
		t.Errorf("a damaged image: %v", err)
	}
}

// BenchmarkIssue is one whole card: session, install, personalisation.
func BenchmarkIssue(b *testing.B) {
	c := catalog.New(isd.Config{})
	for b.Loop() {
		e, err := c.NewElement([7]byte{1}, clock.Random(1))
		if err != nil {
			b.Fatal(err)
		}
		m := &manager{t: b, e: e}
		m.open(0x03)
		if err := m.run(m.issue(gp.AID(catalog.PurseModule))); err != nil {
			b.Fatal(err)
		}
	}
}
