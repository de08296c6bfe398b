package issuing_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/wallet"
)

const shop ledger.AccountID = "payable.shop"

// A bankHouse is a house with an issuing bank and a shop to be paid.
type bankHouse struct {
	*house
	keys *hsm.HSM
	bank *issuing.Bank
	book *ledger.Book
	now  *clock.Virtual
	n    int
}

func openBank(t tester, dir string) *bankHouse {
	t.Helper()
	return openBankOn(t, db.Config{URL: filepath.Join(dir, "koala.db")}, dir)
}

// primes are RSA keys made once: a test is about other things.
var primes = sync.OnceValue(func() []byte {
	b, err := os.ReadFile("../hsm/testdata/primes.txt")
	if err != nil {
		panic(err)
	}
	return b
})

func openBankOn(t tester, cfg db.Config, dir string) *bankHouse {
	t.Helper()
	cfg.Inline = true
	return openBankWith(t, cfg, dir)
}

// openBankWith leaves it to cfg whether units come together in batches.
func openBankWith(t tester, cfg db.Config, dir string) *bankHouse {
	t.Helper()
	ctx := context.Background()
	now := clock.NewVirtual(start)
	cfg.Clock, cfg.Rand, cfg.Rebuildable = now, clock.Random(5), true
	s, err := db.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, s, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); s.Close() })
	h := &bankHouse{house: &house{t, s}, now: now, book: book}
	if h.keys, err = hsm.Open(ctx, s, hsm.Config{KeyFile: filepath.Join(dir, "key"), Rand: clock.Random(6), Primes: primes()}); err == nil {
		_, err1 := h.keys.Import(ctx, hsm.LabelCardAC, hsm.CardRoot, rootAC[:])
		_, err2 := h.keys.Import(ctx, hsm.LabelCardMAC, hsm.CardRoot, rootMAC[:])
		err = errors.Join(err1, err2, h.keys.Provision(ctx), h.keys.ProvisionBank(ctx), s.Migrate(ctx, wallet.Schema, issuing.Schema))
	}
	if err != nil {
		t.Fatal(err)
	}
	h.bank = issuing.NewBank(s, h.keys)
	h.do(func(tx *db.Tx) error {
		err := errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), issuing.SeedBank(tx), wallet.Open(tx, lin),
			ledger.OpenAccount(tx, ledger.Account{ID: shop, Code: "2030", Name: "shop", Currency: money.CNY}))
		if err == nil {
			_, err = wallet.Fund(tx, "start", lin, money.Fen(2000_00))
		}
		return err
	})
	return h
}

// A chip is an issued card in its element.
type chip struct {
	h    *bankHouse
	e    *card.Element
	id   issuing.CardID
	aid  []byte
	term map[tlv.Tag][]byte
	fci  []byte
	stan uint32
}

func unhexed(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func fen12(fen int64) []byte {
	b := pboc.Amount(uint64(fen))
	return b[:]
}

// element is a fresh one with the house's catalogue.
func (h *bankHouse) element(uid byte) *card.Element {
	h.t.Helper()
	e, err := card.New(card.Config{UID: [7]byte{4, 1, 2, 3, 4, 5, uid}, Rand: clock.Random(uint64(uid)), Catalog: catalog.New(isd.Config{}),
		Domain: catalog.IssuerDomain, DomainLoadFile: catalog.DomainLoadFile, DomainModule: catalog.DomainModule})
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// open makes a card of a product on paper.
func (h *bankHouse) open(product, band string) issuing.Card {
	h.t.Helper()
	h.n++
	a := issuing.Application{Ref: product + band, Customer: lin, Band: band, Product: product}
	var p issuing.Product
	h.do(func(tx *db.Tx) (err error) { p, err = issuing.ProductOn(tx, product, tx.Now()); return err })
	if p.Kind.Bank() {
		n, err := h.bank.Number(context.Background(), product)
		if err != nil {
			h.t.Fatal(err)
		}
		a.PAN = &n
	}
	var c issuing.Card
	h.do(func(tx *db.Tx) (err error) { c, err = issuing.Open(tx, a); return err })
	return c
}

// issue writes a card into an element, as tsm does, and activates it.
func (h *bankHouse) issue(product, band string) *chip {
	h.t.Helper()
	c := h.open(product, band)
	e := h.element(byte(h.n))
	h.write(e, c.ID)
	h.do(func(tx *db.Tx) error {
		err := issuing.Begin(tx, c.ID)
		if err == nil {
			err = issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"})
		}
		return err
	})
	k := &chip{h: h, e: e, id: c.ID, aid: c.Instance, term: map[tlv.Tag][]byte{
		emv.TagTTQ: unhexed("26000080"), emv.TagAmountOther: fen12(0), emv.TagTerminalCountry: unhexed("0156"), emv.TagTVR: make([]byte, 5),
		emv.TagCurrency: unhexed("0156"), emv.TagDate: unhexed("150916"), emv.TagTime: unhexed("120000"), emv.TagType: {0},
		emv.TagUN: unhexed("1E78EEBC"), emv.TagMerchantName: []byte("NOODLES             "), emv.TagARC: []byte("00"),
	}}
	return k
}

// write personalises over the secure channel of the issuer's domain.
func (h *bankHouse) write(e *card.Element, id issuing.CardID) {
	h.t.Helper()
	ctx := context.Background()
	p, err := h.bank.Personalise(ctx, id)
	if err != nil {
		h.t.Fatal(err)
	}
	if again, err := h.bank.Personalise(ctx, id); err != nil || !bytes.Equal(again.Bytes(), p.Bytes()) {
		h.t.Errorf("drawn up otherwise the second time: %v", err)
	}
	if back, err := issuing.ParsePersonalisation(p.Bytes()); err != nil || !bytes.Equal(back.Bytes(), p.Bytes()) {
		h.t.Errorf("does not come back from its stored form: %v", err)
	}
	if err := e.PowerOn(card.Contactless); err != nil {
		h.t.Fatal(err)
	}
	send := func(c iso7816.Command) iso7816.Response {
		r, err := e.Transmit(c)
		if err != nil || !r.SW.OK() {
			h.t.Fatalf("%X: %v %v", c.Bytes(), r.SW, err)
		}
		return r
	}
	host := [8]byte{9, 8, 7}
	send(iso7816.Select([]byte(gp.IssuerDomain)))
	answer := send(gp.InitializeUpdate(0, host))
	script := hsm.Script{HostChallenge: host, InitAnswer: answer.Data, Level: gp.CMAC | gp.CENC, Commands: []hsm.Plain{
		{Command: gp.InstallApplet(p.LoadFile, p.Module, p.Instance, gp.Privileges{}, p.Install).Command()},
		{Command: gp.Personalize(p.Instance).Command()}}}
	blocks, err := gp.StoreData(p.Groups, 239)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, b := range blocks {
		b.P1 &^= gp.StoreLast
		script.Commands = append(script.Commands, hsm.Plain{Command: b})
	}
	for i, k := range p.Keys {
		c := iso7816.Command{CLA: gp.CLA, INS: gp.InsStoreData, P1: gp.StoreDGI, P2: byte(len(blocks) + i), Le: iso7816.NoLe}
		if i == len(p.Keys)-1 {
			c.P1 |= gp.StoreLast
		}
		script.Commands = append(script.Commands, hsm.Plain{Command: c, Keys: []hsm.KeyRef{k}})
	}
	script.Commands = append(script.Commands, hsm.Plain{Command: gp.SetStatus{Part: gp.Applications, State: gp.Personalized, App: p.Instance}.Command()})
	list, err := h.keys.WrapScript(ctx, script)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range list {
		send(c)
	}
}

func (k *chip) send(c iso7816.Command) iso7816.Response {
	k.h.t.Helper()
	r, err := k.e.Transmit(c)
	if err != nil || !r.SW.OK() {
		k.h.t.Fatalf("%X: %v %v", c.Bytes(), r.SW, err)
	}
	return r
}

func (k *chip) list(raw []byte) []byte {
	list, err := emv.ParseDOL(raw)
	if err != nil {
		k.h.t.Fatal(err)
	}
	return list.Append(nil, func(tag tlv.Tag) []byte { return k.term[tag] })
}

// begin selects the card on an interface and gets its processing options.
func (k *chip) begin(on card.Interface, fen int64) iso7816.Response {
	k.h.t.Helper()
	k.e.PowerOff()
	if err := k.e.PowerOn(on); err != nil {
		k.h.t.Fatal(err)
	}
	k.term[emv.TagAmount] = fen12(fen)
	k.fci = k.send(iso7816.Select(k.aid)).Data
	dol, _ := tlv.Find(k.fci, emv.TagPDOL)
	return k.send(iso7816.Command{CLA: 0x80, INS: pboc.InsGPO, Data: tlv.Append(nil, emv.TagCommand, k.list(dol))})
}

func find(data []byte, tag tlv.Tag) []byte {
	v, _ := tlv.Find(data, tag)
	return v
}

// pay taps for an offline payment and returns the record for clearing.
func (k *chip) pay(fen int64) pboc.Clearing {
	k.h.t.Helper()
	r := k.begin(card.Contactless, fen)
	iad, err := pboc.ParseIAD(find(r.Data, emv.TagIAD))
	if err != nil || iad.CVR.First() != pboc.TC {
		k.h.t.Fatalf("the card did not approve %d fen: %v %v", fen, iad, err)
	}
	k.read(find(r.Data, emv.TagAFL))
	return k.record(r.Data, fen)
}

func (k *chip) read(raw []byte) (out []emv.Record) {
	k.h.t.Helper()
	afl, err := emv.ParseAFL(raw)
	if err != nil {
		k.h.t.Fatal(err)
	}
	for _, r := range afl.Records() {
		out = append(out, emv.Record{RecordID: r, Data: k.send(iso7816.ReadRecord(r.Number, r.SFI, 0)).Data})
	}
	return out
}

// pan reads the card's number off it.
func (k *chip) pan() string {
	k.h.t.Helper()
	k.e.PowerOff()
	if err := k.e.PowerOn(card.Contactless); err != nil {
		k.h.t.Fatal(err)
	}
	k.send(iso7816.Select(k.aid))
	return strings.TrimRight(strings.ToUpper(hex.EncodeToString(find(k.send(iso7816.ReadRecord(1, 2, 0)).Data, emv.TagPAN))), "F")
}

func (k *chip) record(data []byte, fen int64) pboc.Clearing {
	k.stan++
	un := [4]byte(k.term[emv.TagUN])
	return pboc.Clearing{Kind: pboc.ClearSale, PAN: k.pan(), PSN: 1, AID: k.aid, AC: [8]byte(find(data, emv.TagAC)), IAD: find(data, emv.TagIAD),
		ATC: binary.BigEndian.Uint16(find(data, emv.TagATC)), AIP: [2]byte(find(data, emv.TagAIP)), UN: un, Fen: uint64(fen), Currency: 156, Country: 156,
		Date: [3]byte(k.term[emv.TagDate]), Time: [3]byte(k.term[emv.TagTime]), STAN: k.stan, Batch: 1, TID: "POS00001", MID: "MERCHANT0000001", Serial: "SERIAL01"}
}

// ask goes online by contact and returns the request.
func (k *chip) ask(typ byte, fen int64) issuing.Online {
	k.h.t.Helper()
	k.term[emv.TagType] = []byte{typ}
	defer func() { k.term[emv.TagType] = []byte{0} }()
	r := k.begin(card.Contact, fen)
	_, options, _, err := tlv.Next(r.Data)
	if err != nil {
		k.h.t.Fatal(err)
	}
	lists := k.send(iso7816.ReadRecord(1, 5, 0)).Data
	a := k.send(iso7816.Command{CLA: 0x80, INS: pboc.InsGenerateAC, P1: emv.ARQC, Data: k.list(find(lists, emv.TagCDOL1))})
	_, v, _, err := tlv.Next(a.Data)
	if err != nil || v[0] != emv.ARQC {
		k.h.t.Fatalf("first GENERATE AC: %X", a.Data)
	}
	number := k.send(iso7816.ReadRecord(1, 2, 0)).Data
	var out []byte
	for _, o := range []struct {
		tag tlv.Tag
		v   []byte
	}{
		{emv.TagAC, v[3:11]}, {emv.TagATC, v[1:3]}, {emv.TagIAD, v[11:]}, {emv.TagAIP, options[:2]}, {emv.TagUN, k.term[emv.TagUN]},
		{emv.TagTVR, k.term[emv.TagTVR]}, {emv.TagDate, k.term[emv.TagDate]}, {emv.TagType, []byte{typ}}, {emv.TagAmount, fen12(fen)},
		{emv.TagAmountOther, fen12(0)}, {emv.TagCurrency, k.term[emv.TagCurrency]}, {emv.TagTerminalCountry, k.term[emv.TagTerminalCountry]},
		{emv.TagPAN, find(number, emv.TagPAN)}, {emv.TagPSN, []byte{1}},
	} {
		out = tlv.Append(out, o.tag, o.v)
	}
	return issuing.Online{EMV: out, Payee: shop, Text: "NOODLES"}
}

// finish gives the card the issuer's answer and runs its script; the status
// word is of the script's last command.
func (k *chip) finish(a issuing.Answer) iso7816.SW {
	k.h.t.Helper()
	k.send(iso7816.Command{INS: iso7816.InsExternalAuthenticate, Data: find(a.EMV, emv.TagIssuerAuth), Le: iso7816.NoLe})
	lists := k.send(iso7816.ReadRecord(1, 5, 0)).Data
	k.send(iso7816.Command{CLA: 0x80, INS: pboc.InsGenerateAC, P1: emv.TC, Data: k.list(find(lists, emv.TagCDOL2))})
	sw := iso7816.OK
	for in := find(a.EMV, emv.TagScript2); len(in) > 0; {
		tag, v, rest, err := tlv.Next(in)
		if err != nil || tag != emv.TagScriptCommand {
			k.h.t.Fatalf("script %X: %v", in, err)
		}
		c, err := iso7816.ParseCommand(v)
		if err != nil {
			k.h.t.Fatal(err)
		}
		r, err := k.e.Transmit(c)
		if err != nil {
			k.h.t.Fatal(err)
		}
		sw, in = r.SW, rest
	}
	return sw
}

// finishing does the same and makes a clearing record of the second cryptogram.
func (k *chip) finishing(a issuing.Answer, typ byte, fen int64) pboc.Clearing {
	k.h.t.Helper()
	k.term[emv.TagType] = []byte{typ}
	defer func() { k.term[emv.TagType] = []byte{0} }()
	k.send(iso7816.Command{INS: iso7816.InsExternalAuthenticate, Data: find(a.EMV, emv.TagIssuerAuth), Le: iso7816.NoLe})
	lists := k.send(iso7816.ReadRecord(1, 5, 0)).Data
	_, v, _, err := tlv.Next(k.send(iso7816.Command{CLA: 0x80, INS: pboc.InsGenerateAC, P1: emv.TC, Data: k.list(find(lists, emv.TagCDOL2))}).Data)
	if err != nil || v[0] != emv.TC {
		k.h.t.Fatalf("second GENERATE AC: %X %v", v, err)
	}
	_, script, _, err := tlv.Next(find(a.EMV, emv.TagScript2))
	if err != nil {
		k.h.t.Fatal(err)
	}
	c, err := iso7816.ParseCommand(script)
	if err != nil {
		k.h.t.Fatal(err)
	}
	k.send(c)
	k.stan++
	return pboc.Clearing{Kind: pboc.ClearSale, PAN: k.pan(), PSN: 1, AID: k.aid, AC: [8]byte(v[3:]), IAD: v[11:], ATC: binary.BigEndian.Uint16(v[1:]),
		AIP: [2]byte{0x3C}, UN: [4]byte(k.term[emv.TagUN]), Fen: uint64(fen), Currency: 156, Country: 156, Type: typ, Date: [3]byte(k.term[emv.TagDate]),
		Time: [3]byte(k.term[emv.TagTime]), STAN: k.stan, Batch: 1, TID: "POS00001", MID: "MERCHANT0000001", Serial: "SERIAL01"}
}

func (k *chip) authorise(r issuing.Online) issuing.Answer {
	k.h.t.Helper()
	a, err := k.h.bank.Authorise(context.Background(), r)
	if err != nil {
		k.h.t.Fatal(err)
	}
	return a
}

// load puts money onto the card end to end.
func (k *chip) load(fen int64) {
	k.h.t.Helper()
	a := k.authorise(k.ask(issuing.TypeLoad, fen))
	if a.Why != issuing.Approval {
		k.h.t.Fatalf("load of %d: %s", fen, a.Why)
	}
	if sw := k.finish(a); !sw.OK() {
		k.h.t.Fatalf("script: %v", sw)
	}
	k.h.do(func(tx *db.Tx) error { _, err := issuing.ReportScript(tx, a.Load, iso7816.OK); return err })
}

// balance is what the card itself says.
func (k *chip) balance() int64 {
	k.h.t.Helper()
	k.e.PowerOff()
	if err := k.e.PowerOn(card.Contactless); err != nil {
		k.h.t.Fatal(err)
	}
	k.send(iso7816.Select(k.aid))
	fen, err := pboc.ParseAmount(find(k.send(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x79}).Data, emv.TagECBalance))
	if err != nil {
		k.h.t.Fatal(err)
	}
	return int64(fen)
}

func (k *chip) clear(records ...pboc.Clearing) []issuing.Fate {
	k.h.t.Helper()
	out, err := k.h.bank.Clear(context.Background(), records, shop)
	if err != nil {
		k.h.t.Fatal(err)
	}
	return out
}

func (h *bankHouse) want(what string, of map[ledger.AccountID]int64) {
	h.t.Helper()
	for id, fen := range of {
		if got := h.balance(id); got != fen {
			h.t.Errorf("%s: %s has %d, want %d", what, strings.SplitN(string(id), ".", 2)[0], got, fen)
		}
	}
}

// TestQuickpass: a debit card is written over the air, loaded, taps offline; a
// terminal that knows our CA key accepts it; the shop is paid once.
func TestQuickpass(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		k := h.issue(issuing.DebitCard, "band_1")
		k.load(100_00)
		h.want("loaded", map[ledger.AccountID]int64{wallet.Account(lin): 1900_00, issuing.Float(k.id): 100_00})
		r := k.begin(card.Contactless, 12_50)
		records := k.read(find(r.Data, emv.TagAFL))
		k.oda(r.Data, records)
		tc := k.record(r.Data, 12_50)
		if got := k.balance(); got != 87_50 {
			t.Errorf("the card has %d", got)
		}
		if f := k.clear(tc, tc); f[0] != issuing.Cleared || f[1] != issuing.Known {
			t.Errorf("fates %v", f)
		}
		h.want("cleared", map[ledger.AccountID]int64{issuing.Float(k.id): 87_50, shop: 12_50})
		h.do(func(tx *db.Tx) error {
			c, err := issuing.Get(tx, k.id)
			if c.Known.Balance.Minor() != 87_50 {
				t.Errorf("known %+v", c.Known)
			}
			return err
		})
		back := tc
		back.Kind, back.Fen, back.STAN = pboc.ClearRefund, 5_00, 77
		_ = back // a refund's cryptogram covers another amount: the record does not verify
		if f := k.clear(back); f[0] != issuing.Suspense {
			t.Errorf("a refund nobody proved: %v", f)
		}
	})
}

// oda is offline data authentication as a terminal does it.
func (k *chip) oda(gpo []byte, records []emv.Record) {
	k.h.t.Helper()
	ca, err := k.h.bank.CAKey(context.Background())
	if err != nil {
		k.h.t.Fatal(err)
	}
	objects := map[tlv.Tag][]byte{}
	for _, r := range records {
		_, in, _, _ := tlv.Next(r.Data)
		for len(in) > 0 {
			tag, v, rest, err := tlv.Next(in)
			if err != nil {
				k.h.t.Fatal(err)
			}
			objects[tag], in = v, rest
		}
	}
	if objects[emv.TagCAIndex][0] != ca.Index {
		k.h.t.Errorf("CA index %X", objects[emv.TagCAIndex])
	}
	check := emv.Check{PAN: k.pan(), Date: [3]byte{0x15, 0x09, 0x16}}
	issuer, err := emv.RecoverIssuer(ca, emv.Certificate{Certificate: objects[emv.TagIssuerCert], Remainder: objects[emv.TagIssuerRemainder], Exponent: objects[emv.TagIssuerExponent]}, check)
	if err != nil {
		k.h.t.Fatal(err)
	}
	static, err := emv.StaticData(records, objects[emv.TagSDATagList], find(gpo, emv.TagAIP))
	if err != nil {
		k.h.t.Fatal(err)
	}
	icc, err := emv.RecoverICC(issuer.Key, emv.Certificate{Certificate: objects[emv.TagICCCert], Remainder: objects[emv.TagICCRemainder], Exponent: objects[emv.TagICCExponent]}, static, check)
	if err != nil {
		k.h.t.Fatal(err)
	}
	f := emv.FastDDA{Version: 1, UN: [4]byte(k.term[emv.TagUN]), Amount: [6]byte(k.term[emv.TagAmount]), Currency: [2]byte(k.term[emv.TagCurrency]), CardAuth: objects[emv.TagCardAuth]}
	if _, err := emv.VerifyFastDDA(icc.Key, find(gpo, emv.TagSDAD), f, find(gpo, emv.TagATC)); err != nil {
		k.h.t.Errorf("fDDA: %v", err)
	}
}

// TestNoPANInAnyRow looks through the database file after a life of a card.
func TestNoPANInAnyRow(t *testing.T) {
	dir := t.TempDir()
	h := openBank(t, dir)
	k := h.issue(issuing.DebitCard, "band_1")
	k.load(50_00)
	number := k.pan()
	if len(number) != 19 || !strings.HasPrefix(number, bin.HousePrefix+"01") {
		t.Fatalf("number of %d digits", len(number))
	}
	tc := k.pay(3_00)
	k.clear(tc)
	bad := tc
	bad.ATC++
	k.clear(bad)
	k.authorise(k.ask(issuing.TypePurchase, 20_00))
	bcd := unhexed(number + "F")
	files, err := filepath.Glob(filepath.Join(dir, "koala.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(number)) || bytes.Contains(b, bcd) || bytes.Contains(b, bcd[:9]) {
			t.Errorf("%s holds the PAN in clear", filepath.Base(f))
		}
		if !bytes.Contains(b, []byte(number[15:])) && strings.HasSuffix(f, ".db-wal") {
			t.Logf("%s does not even hold the last four digits", filepath.Base(f))
		}
	}
}

func TestOnlineAnswers(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		debit, credit, ecash := h.issue(issuing.DebitCard, "band_1"), h.issue(issuing.CreditCard, "band_1"), h.issue(issuing.ECashCard, "band_1")
		number := debit.pan()
		pin := func(s string) *hsm.PINBlock {
			b, err := h.keys.EncipherPIN(context.Background(), number, s)
			if err != nil {
				t.Fatal(err)
			}
			return &b
		}
		if err := h.bank.SetPIN(context.Background(), debit.id, *pin("135790")); err != nil {
			t.Fatal(err)
		}
		with := func(k *chip, fen int64, change func(*issuing.Online)) issuing.Online {
			r := k.ask(issuing.TypePurchase, fen)
			if change != nil {
				change(&r)
			}
			return r
		}
		for _, tt := range []struct {
			name string
			r    issuing.Online
			want issuing.Reason
		}{
			{"debit", with(debit, 100_00, nil), issuing.Approval},
			{"right PIN", with(debit, 1_00, func(r *issuing.Online) { r.PIN = pin("135790") }), issuing.Approval},
			{"wrong PIN", with(debit, 1_00, func(r *issuing.Online) { r.PIN = pin("135791") }), issuing.WrongPIN},
			{"more than the wallet has", with(debit, 3000_00, nil), issuing.NoMoney},
			{"over the limit of one payment", with(debit, 5000_01, nil), issuing.OverLimit},
			{"nothing", with(debit, 0, nil), issuing.OtherAmount},
			{"another amount than the card's", with(debit, 1_00, func(r *issuing.Online) {
				r.EMV = bytes.Replace(r.EMV, fen12(1_00), fen12(2_00), 1)
			}), issuing.BadCryptogram},
			{"cut off", with(debit, 1_00, func(r *issuing.Online) { r.EMV = r.EMV[:20] }), issuing.Malformed},
			{"object missing", with(debit, 1_00, func(r *issuing.Online) { r.EMV = nil }), issuing.Malformed},
			{"unknown card", with(debit, 1_00, func(r *issuing.Online) {
				r.EMV = bytes.Replace(r.EMV, unhexed(number+"F"), unhexed("6228480402564890018F"), 1)
			}), issuing.UnknownCard},
			{"credit", with(credit, 4000_00, nil), issuing.Approval},
			{"credit above its line", with(credit, 1000_01, nil), issuing.NoMoney},
			{"e-cash card online", with(ecash, 1_00, nil), issuing.NotOffered},
		} {
			a, err := h.bank.Authorise(context.Background(), tt.r)
			if err != nil || a.Why != tt.want || a.ARC != tt.want.Code() {
				t.Errorf("%s: %q %s, %v, want %q", tt.name, a.Why, a.ARC, err, tt.want)
			}
		}
		for range 2 {
			debit.authorise(with(debit, 1_00, func(r *issuing.Online) { r.PIN = pin("0000") }))
		}
		if a := debit.authorise(with(debit, 1_00, func(r *issuing.Online) { r.PIN = pin("135790") })); a.Why != issuing.NoTries {
			t.Errorf("after three wrong ones: %q", a.Why)
		}
	})
}

func TestAuthorisedOnceAndCompleted(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.DebitCard, "band_1")
	r := k.ask(issuing.TypePurchase, 80_00)
	a, again := k.authorise(r), k.authorise(r)
	if a.Why != issuing.Approval || !bytes.Equal(a.EMV, again.EMV) {
		t.Errorf("%+v then %+v", a, again)
	}
	if sw := k.finish(a); !sw.OK() {
		t.Errorf("the card says %v", sw)
	}
	atc := uint16(1)
	for _, tt := range []struct {
		name string
		act  func(*db.Tx) error
		want error
	}{
		{"more than held", func(tx *db.Tx) error { return issuing.Complete(tx, k.id, int(atc), money.Fen(80_01)) }, issuing.ErrAmount},
		{"less", func(tx *db.Tx) error { return issuing.Complete(tx, k.id, int(atc), money.Fen(75_00)) }, nil},
		{"again", func(tx *db.Tx) error { return issuing.Complete(tx, k.id, int(atc), money.Fen(75_00)) }, nil},
		{"give up what is paid", func(tx *db.Tx) error { return issuing.Release(tx, k.id, int(atc)) }, issuing.ErrState},
		{"no such", func(tx *db.Tx) error { return issuing.Release(tx, k.id, 99) }, issuing.ErrNoAuth},
	} {
		if err := h.try(tt.act); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	h.want("paid", map[ledger.AccountID]int64{wallet.Account(lin): 2000_00 - 75_00, shop: 75_00})
	a = k.authorise(k.ask(issuing.TypePurchase, 10_00))
	h.do(func(tx *db.Tx) error { return issuing.Release(tx, a.Card, 2) })
	h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, wallet.Account(lin))
		if b.Held.Minor() != 0 {
			t.Errorf("%v held", b.Held)
		}
		return err
	})
}

func TestLostBand(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		k := h.issue(issuing.DebitCard, "band_1")
		k.load(100_00)
		tc := k.pay(30_00)
		var list []issuing.Card
		h.do(func(tx *db.Tx) (err error) { list, err = issuing.Suspend(tx, "band_1"); return err })
		if len(list) != 1 || list[0].Suspended.IsZero() {
			t.Fatalf("suspended %+v", list)
		}
		r := k.ask(issuing.TypePurchase, 1_00)
		a := k.authorise(r)
		if a.Why != issuing.Lost || len(find(a.EMV, emv.TagScript2)) == 0 {
			t.Errorf("a lost card got %q", a.Why)
		}
		k.finish(a) // the script blocks it
		k.e.PowerOff()
		if err := k.e.PowerOn(card.Contactless); err != nil {
			t.Fatal(err)
		}
		if r, err := k.e.Transmit(iso7816.Select(k.aid)); err != nil || r.SW != iso7816.SWSelectedBlocked {
			t.Errorf("the card is not blocked: %v %v", r.SW, err)
		}
		if err := h.try(func(tx *db.Tx) error { _, err := issuing.Refund(tx, k.id); return err }); !errors.Is(err, issuing.ErrNotDue) {
			t.Errorf("too early: %v", err)
		}
		k.clear(tc)
		h.now.Advance(7 * 24 * time.Hour)
		var n issuing.Numbered
		var err error
		if n, err = h.bank.Number(context.Background(), issuing.DebitCard); err != nil {
			t.Fatal(err)
		}
		var heir issuing.Card
		h.do(func(tx *db.Tx) (err error) {
			heir, err = issuing.Open(tx, issuing.Application{Ref: "heir", Customer: lin, Band: "band_2", Product: issuing.DebitCard, PAN: &n, Replaces: k.id})
			return err
		})
		if err := h.try(func(tx *db.Tx) error {
			_, err := issuing.Open(tx, issuing.Application{Ref: "second heir", Customer: lin, Band: "band_3", Product: issuing.DebitCard, PAN: &n, Replaces: k.id})
			return err
		}); !errors.Is(err, issuing.ErrNotHeir) {
			t.Errorf("a second heir: %v", err)
		}
		for range 2 {
			h.do(func(tx *db.Tx) error {
				c, err := issuing.Move(tx, k.id, heir.ID)
				if c.Fen.Minor() != 70_00 || c.Rule.Value != 7 || c.Rule.Source == "" {
					t.Errorf("claim %+v", c)
				}
				return err
			})
		}
		h.want("moved", map[ledger.AccountID]int64{issuing.Float(k.id): 0, wallet.Account(lin): 2000_00 - 30_00, shop: 30_00})
		h.do(func(tx *db.Tx) error {
			old, err := issuing.Get(tx, k.id)
			line, err2 := issuing.Lineage(tx, heir.ID)
			if old.State != issuing.Replaced || len(line) != 2 || line[1] != k.id {
				t.Errorf("old %s, line %v", old.State, line)
			}
			back, err3 := issuing.Restore(tx, "band_1")
			if len(back) != 0 {
				t.Errorf("restored %v", back)
			}
			return errors.Join(err, err2, err3)
		})
		if a := k.authorise(r); a.Why != issuing.Lost {
			t.Errorf("a replaced card got %q", a.Why)
		}
	})
}

// sellSM puts a debit card of the SM variant on sale: SM4 keys, and an SM2 chain
// beside the RSA one.
func (h *bankHouse) sellSM() {
	h.do(func(tx *db.Tx) error {
		p, err := issuing.ProductOn(tx, issuing.DebitCard, tx.Now())
		if err != nil {
			return err
		}
		tpl, err := issuing.TemplateOf(tx, p.Template)
		if err != nil {
			return err
		}
		tpl.Code, tpl.Data = "debit-sm", bytes.Replace(tpl.Data, []byte(`"ecash"`), []byte(`"sm":true,"ecash"`), 1)
		if tpl, err = issuing.Submit(tx, tpl); err == nil {
			tpl, err = issuing.Approve(tx, tpl.ID, "staff")
		}
		if err != nil {
			return err
		}
		p.Code, p.Template, p.Prefix = "debit-sm", tpl.ID, bin.HousePrefix+"91"
		return issuing.SetProduct(tx, p)
	})
}

// TestSM: the same life under SM4.
func TestSM(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.sellSM()
	k := h.issue("debit-sm", "band_1")
	k.load(40_00)
	if f := k.clear(k.pay(15_00)); f[0] != issuing.Cleared {
		t.Errorf("fate %v", f)
	}
	h.want("paid", map[ledger.AccountID]int64{issuing.Float(k.id): 25_00, shop: 15_00})
	if keys, err := h.bank.Keys(context.Background(), k.id); err != nil || keys.Alg != pboc.SM4 || keys.PSN != 1 {
		t.Errorf("keys of algorithm %v, sequence number %d: %v", keys.Alg, keys.PSN, err)
	}
}

func TestStatement(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.DebitCard, "band_1")
	k.load(50_00)
	k.clear(k.pay(9_00))
	ctx := context.Background()
	if err := h.book.Project(ctx); err != nil {
		t.Fatal(err)
	}
	var c issuing.Card
	h.do(func(tx *db.Tx) (err error) { c, err = issuing.Get(tx, k.id); return err })
	lines, err := issuing.Statement(ctx, h.book, c, 1, 10)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for i, want := range []struct {
		en, zh  string
		balance int64
	}{{"e-cash load", "电子现金圈存", 50_00}, {"Quickpass payment", "闪付消费", 41_00}} {
		if l := lines[i]; l.EN != want.en || l.ZH != want.zh || l.Balance.Minor() != want.balance {
			t.Errorf("line %d: %s %s %v", i+1, l.EN, l.ZH, l.Balance)
		}
	}
}

func TestRepay(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.CreditCard, "band_1")
	k.authorise(k.ask(issuing.TypePurchase, 300_00))
	h.do(func(tx *db.Tx) error { return issuing.Complete(tx, k.id, 1, money.Fen(300_00)) })
	repay := func(ref string, fen int64) error {
		return h.try(func(tx *db.Tx) error { _, err := issuing.Repay(tx, ref, k.id, money.Fen(fen)); return err })
	}
	if err := errors.Join(repay("a", 200_00), repay("a", 200_00)); err != nil {
		t.Error(err)
	}
	if err := repay("b", 100_01); !errors.Is(err, issuing.ErrAmount) {
		t.Errorf("more than is owed: %v", err)
	}
	h.want("repaid", map[ledger.AccountID]int64{issuing.CreditAccount(k.id): -100_00, wallet.Account(lin): 1800_00, shop: 300_00})
}

func TestFoundAgain(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.DebitCard, "band_1")
	for range 2 {
		h.do(func(tx *db.Tx) error { _, err := issuing.Suspend(tx, "band_1"); return err })
	}
	h.do(func(tx *db.Tx) error {
		list, err := issuing.Restore(tx, "band_1")
		if len(list) != 1 {
			t.Errorf("restored %v", list)
		}
		return err
	})
	if a := k.authorise(k.ask(issuing.TypePurchase, 1_00)); a.Why != issuing.Approval {
		t.Errorf("got %q", a.Why)
	}
	h.now.Advance(8 * 24 * time.Hour)
	if err := h.try(func(tx *db.Tx) error { _, err := issuing.Refund(tx, k.id); return err }); !errors.Is(err, issuing.ErrState) {
		t.Errorf("a claim that was withdrawn: %v", err)
	}
}

// BenchmarkPersonalise draws a bank card up and wraps it: what the house does
// for a card over the air, keys from the pool, without rows of orders.
func BenchmarkPersonalise(b *testing.B) {
	h := openBank(b, b.TempDir())
	ctx := context.Background()
	if _, err := h.keys.FillPool(ctx, b.N); err != nil {
		b.Fatal(err)
	}
	e := h.element(1)
	if err := e.PowerOn(card.Contactless); err != nil {
		b.Fatal(err)
	}
	if _, err := e.Transmit(iso7816.Select([]byte(gp.IssuerDomain))); err != nil {
		b.Fatal(err)
	}
	host := [8]byte{1}
	answer, err := e.Transmit(gp.InitializeUpdate(0, host))
	if err != nil {
		b.Fatal(err)
	}
	cards := make([]issuing.CardID, b.N)
	for i := range cards {
		n, err := h.bank.Number(ctx, issuing.DebitCard)
		if err != nil {
			b.Fatal(err)
		}
		h.do(func(tx *db.Tx) error {
			c, err := issuing.Open(tx, issuing.Application{Ref: n.Token, Customer: lin, Band: n.Token, Product: issuing.DebitCard, PAN: &n})
			cards[i] = c.ID
			return err
		})
	}
	b.ResetTimer()
	for _, id := range cards {
		p, err := h.bank.Personalise(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		blocks, err := gp.StoreData(p.Groups, 239)
		if err != nil {
			b.Fatal(err)
		}
		s := hsm.Script{HostChallenge: host, InitAnswer: answer.Data, Level: gp.CMAC | gp.CENC}
		for _, c := range blocks {
			s.Commands = append(s.Commands, hsm.Plain{Command: c})
		}
		for _, k := range p.Keys {
			s.Commands = append(s.Commands, hsm.Plain{Command: blocks[0], Keys: []hsm.KeyRef{k}})
			s.Commands[len(s.Commands)-1].Command.Data = nil
		}
		if _, err := h.keys.WrapScript(ctx, s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cards/s")
}
