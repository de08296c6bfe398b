package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"koala/calendar"
	"koala/card"
	"koala/card/catalog"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

// A testCard is one card of the published set. docs/test-cards.md tells the
// world what these functions write.
type testCard struct {
	name  string
	write func(*cardWriter) error
}

var testCards = []testCard{
	{"issuer domain", writeTestIssuer}, {"transit purse", writeTestPurse}, {"bank card", writeTestBankCard}, {"DESFire card", writeTestDESFire}, {"discount card", writeTestCoupons},
}

// A cardWriter personalises cards over a secure channel with factory keys.
type cardWriter struct {
	e    *card.Element
	host *gp.Host
}

func openWriter(e *card.Element) (*cardWriter, error) {
	if err := e.PowerOn(card.Contact); err != nil {
		return nil, err
	}
	host, err := openChannel(e)
	return &cardWriter{e, host}, err
}

func (w *cardWriter) close() error {
	w.e.PowerOff()
	return nil
}

// send puts commands through the channel; each must end well.
func (w *cardWriter) send(list ...iso7816.Command) error {
	for _, c := range list {
		wrapped, err := w.host.Wrap(c)
		if err != nil {
			return err
		}
		if _, err := demand(w.e, wrapped); err != nil {
			return err
		}
	}
	return nil
}

// key enciphers a key for a data grouping.
func (w *cardWriter) key(key []byte) ([]byte, error) { return w.host.EncryptKey(key) }

// install makes an instance and fills it.
func (w *cardWriter) install(file, module, instance card.AID, params []byte, groups []gp.DGI) error {
	aid := gp.AID(instance)
	list, err := gp.StoreData(groups, w.host.MaxData())
	if err != nil {
		return err
	}
	in := gp.InstallApplet(gp.AID(file), gp.AID(module), aid, gp.Privileges{}, params)
	list = append([]iso7816.Command{in.Command(), gp.Personalize(aid).Command()}, list...)
	return w.send(append(list, gp.SetStatus{Part: gp.Applications, State: gp.Personalized, App: aid}.Command())...)
}

// The published transit card: number and validity as reader programs have them
// in their tests, roots as in published vectors of the purse's keys.
const (
	testNumber = "03105170070104791381"
	testFile15 = "01011000FFFFFFFF0201" + testNumber + "20190718" + "20401231" + "0000"
	testFile17 = "0000015658005840000101"
	testFile04 = "1000751517007010" + "010200" + "30000000000000000000000000" + "20190718" + "20401231" // of a Beijing card
	testFen    = 0x1000                                                                                 // 40.96 yuan
)

var testRoots = []struct {
	kind purse.KeyKind
	root string
}{
	{purse.DPK, "11223344556677888877665544332211"},
	{purse.DLK, "404142434445464748494A4B4C4D4E4F"},
	{purse.DTK, "0123456789ABCDEFFEDCBA9876543210"},
	{purse.DAMK, "505152535455565758595A5B5C5D5E5F"},
}

// testKey is a key of the test card: its root dispersed with the card's number.
func testKey(kind purse.KeyKind) (key [16]byte) {
	for _, r := range testRoots {
		if r.kind == kind {
			return purse.Disperse([16]byte(mustHex(r.root)), purse.Number(testNumber).Factor())
		}
	}
	panic("no test root of this kind")
}

// mustHex reads a constant of this program.
func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func writeTestPurse(w *cardWriter) error {
	region := append(mustHex(testFile17), make([]byte, purse.File17Len-len(testFile17)/2)...)
	groups := []gp.DGI{
		{ID: purse.DGIBeijing, Data: mustHex(testFile04)},
		{ID: purse.DGIPublic, Data: mustHex(testFile15)},
		{ID: purse.DGIRegion, Data: region},
		{ID: purse.DGITransit, Data: purse.NewTransit(testNumber).Bytes()},
		{ID: purse.DGILimits, Data: purse.Limits{MaxBalance: 1000_00}.Bytes()},
	}
	for i, r := range testRoots {
		key := testKey(r.kind)
		sealed, err := w.key(key[:])
		if err != nil {
			return err
		}
		record := purse.KeyRecord{Kind: r.kind, Index: 1, Version: 1, Key: [16]byte(sealed), KCV: iso9797.KCVDES(key[:])}
		groups = append(groups, gp.DGI{ID: purse.DGIKeyFirst + uint16(i), Data: record.Bytes()})
	}
	if err := w.install(catalog.PurseLoadFile, catalog.PurseModule, catalog.PurseModule, nil, groups); err != nil {
		return err
	}
	return loadTestPurse(w.e)
}

// loadTestPurse puts the published balance on the test card, as its issuer's
// host does.
func loadTestPurse(e *card.Element) error {
	if _, err := demand(e, iso7816.Select(purse.AIDTUnion)); err != nil {
		return err
	}
	x := purse.InitLoad{Purse: purse.EP, Key: 1, Fen: testFen, Terminal: purse.Terminal{0x80, 1, 0, 0, 0, 1}}
	raw, err := demand(e, x.Command())
	if err != nil {
		return err
	}
	a, err := purse.ParseInitLoadAnswer(raw)
	if err != nil {
		return err
	}
	key := purse.LoadSession(testKey(purse.DLK), a.Rnd, a.Seq)
	if purse.LoadMAC1(key, a.Balance, x.Fen, x.Type(), x.Terminal) != a.MAC1 {
		return fmt.Errorf("the purse has another load key: %w", purse.ErrMAC)
	}
	at := purse.StampOf(time.Date(2024, 12, 1, 8, 0, 0, 0, calendar.Beijing))
	_, err = demand(e, purse.CreditCommand{Stamp: at, MAC2: purse.LoadMAC2(key, x.Fen, x.Type(), x.Terminal, at)}.Command())
	return err
}
