package switching_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/switching"
	"koala/switching/pack"
	"koala/switching/route"
	"koala/wallet"
)

var (
	ctx     = context.Background()
	start   = time.Date(2015, 9, 16, 2, 0, 0, 0, time.UTC)
	rootAC  = [16]byte{0xF0, 0xC3, 0x48, 0x81, 0x24, 0xCE, 0xE0, 0xA9, 0x1A, 0x0B, 0x03, 0x4A, 0xA9, 0x7D, 0x6E, 0xAC}
	rootMAC = [16]byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}
	primes  = sync.OnceValue(func() []byte {
		b, err := os.ReadFile("../hsm/testdata/primes.txt")
		if err != nil {
			panic(err)
		}
		return b
	})
)

const (
	shop   = "shop_1"
	mid    = "898110058120001"
	holder = customer.ID("cust_lin")
)

// estate knows the terminals of tests: all of one shop.
type estate struct {
	mu     sync.Mutex
	closed map[string]bool
	single int64
	daily  int64
	more   func(*switching.Place)

	version string // that a terminal signed on with last
}

func (e *estate) Place(_ db.Reader, tid string) (switching.Place, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if tid[0] != '1' {
		return switching.Place{}, switching.ErrNotFound
	}
	p := switching.Place{TID: tid, MID: mid, Shop: shop, Name: "NOODLES", Category: "5812", Open: !e.closed[tid], Tips: 20,
		Limits: map[string]switching.Limit{"debit": {Single: e.single, Daily: e.daily}}}
	if e.more != nil {
		e.more(&p)
	}
	return p, nil
}

func (e *estate) SignedOn(_ *db.Tx, _, version string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version = version
	return nil
}

// A house is the switch with all that stands behind it.
type house struct {
	t      testing.TB
	dir    string
	store  *db.Store
	book   *ledger.Book
	keys   *hsm.HSM
	bank   *issuing.Bank
	host   *switching.Host
	estate *estate
	now    *clock.Virtual
	peers  map[string]switching.Peer
	n      int
	line   line
}

// A line loses the answer to one commit when it is told to.
type line struct{ lose bool }

func (l *line) BeforeCommit(int64) error { return nil }

func (l *line) AfterCommit(int64) error {
	if !l.lose {
		return nil
	}
	l.lose = false
	return errors.New("lost")
}

func open(t testing.TB, inline bool, peers map[string]switching.Peer) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), estate: &estate{closed: map[string]bool{}}, now: clock.NewVirtual(start), peers: peers}
	h.connect(inline)
	h.do(func(tx *db.Tx) error {
		err := errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), wallet.Open(tx, holder), settlement.Join(tx, shop, "Noodles"),
			route.Seed(tx), route.Set(tx, route.Route{Prefix: "622588", Length: 16, Host: "FAR", Class: "debit", StandIn: 100_00}))
		if err == nil {
			_, err = wallet.Fund(tx, "start", holder, money.Fen(5000_00))
		}
		return err
	})
	h.boot()
	return h
}

// connect opens the store and what stands on it.
func (h *house) connect(inline bool) {
	h.t.Helper()
	s, err := db.Open(ctx, db.Config{URL: filepath.Join(h.dir, "koala.db"), Clock: h.now, Rand: clock.Random(5), Inline: inline, Rebuildable: inline, Faults: &h.line})
	if err != nil {
		h.t.Fatal(err)
	}
	book, err := ledger.Open(ctx, s, ledger.Config{Inline: inline})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { book.Close(); s.Close() })
	h.store, h.book = s, book
	outbox.Open(s)
	fresh := true
	if _, err := os.Stat(filepath.Join(h.dir, "key")); err == nil {
		fresh = false
	}
	if h.keys, err = hsm.Open(ctx, s, hsm.Config{KeyFile: filepath.Join(h.dir, "key"), Rand: clock.Random(6), Primes: primes()}); err != nil {
		h.t.Fatal(err)
	}
	if fresh {
		pin, mac := switching.ZoneLabels("FAR")
		_, err1 := h.keys.Import(ctx, hsm.LabelCardAC, hsm.CardRoot, rootAC[:])
		_, err2 := h.keys.Import(ctx, hsm.LabelCardMAC, hsm.CardRoot, rootMAC[:])
		_, err3 := h.keys.Import(ctx, pin, hsm.ZoneKey, zonePIN[:])
		_, err4 := h.keys.Import(ctx, mac, hsm.ZoneKey, zoneMAC[:])
		_, err5 := h.keys.Generate(ctx, pack.Label, hsm.Signing)
		if err := errors.Join(err1, err2, err3, err4, err5, h.keys.Provision(ctx), h.keys.ProvisionBank(ctx),
			s.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, issuing.Schema, proposal.Schema, switching.Schema)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.bank = issuing.NewBank(s, h.keys)
}

var (
	zonePIN = [16]byte{0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18, 0x29, 0x3A, 0x4B, 0x5C, 0x6D, 0x7E, 0x8F, 0x91}
	zoneMAC = [16]byte{0x51, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18, 0x29, 0x3A, 0x4B, 0x5C, 0x6D, 0x7E, 0x8F, 0x92}
)

// boot starts the switch, again after a crash.
func (h *house) boot() {
	h.t.Helper()
	h.host = switching.New(h.store, h.keys, h.bank, h.estate, switching.Config{Peers: h.peers, Wait: 200 * time.Millisecond})
	if err := h.host.Start(ctx); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.store.Write(ctx, f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) read(f func(*db.Query) error) {
	h.t.Helper()
	if err := h.store.Read(ctx, f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) balance(id ledger.AccountID) (b ledger.Balance) {
	h.t.Helper()
	h.do(func(tx *db.Tx) (err error) { b, err = ledger.BalanceOf(tx, id); return err })
	return b
}

func (h *house) want(what string, posted, held, payable int64) {
	h.t.Helper()
	b, p := h.balance(wallet.Account(holder)), h.balance(settlement.Payable(shop))
	if b.Posted.Minor() != posted || b.Held.Minor() != held || p.Posted.Minor() != payable {
		h.t.Errorf("%s: holder %d held %d, shop %d; want %d, %d, %d", what, b.Posted.Minor(), b.Held.Minor(), p.Posted.Minor(), posted, held, payable)
	}
}

// A card is one of the house's, on paper.
type card struct {
	h       *house
	id      issuing.CardID
	number  string
	expiry  string
	ac, mac *pboc.Key
	atc     uint16
	fen     int64 // e-cash
	report  bool
}

func (h *house) card(product string) *card {
	h.t.Helper()
	h.n++
	n, err := h.bank.Number(ctx, product)
	if err != nil {
		h.t.Fatal(err)
	}
	var c issuing.Card
	name := fmt.Sprint("band_", h.n)
	h.do(func(tx *db.Tx) (err error) {
		c, err = issuing.Open(tx, issuing.Application{Ref: product + name, Customer: holder, Band: name, Product: product, PAN: &n})
		if err == nil {
			err = errors.Join(issuing.Begin(tx, c.ID), issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"}))
		}
		return err
	})
	keys, err := h.bank.Keys(ctx, c.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	own := func(root [16]byte) *pboc.Key {
		mk, err := emv.CardKey(root[:], keys.PAN, keys.PSN, emv.OptionA)
		if err != nil {
			h.t.Fatal(err)
		}
		return pboc.NewKey(pboc.TripleDES, [16]byte(mk))
	}
	block, err := h.keys.EncipherPIN(ctx, keys.PAN, "123456")
	if err == nil {
		err = h.bank.SetPIN(ctx, c.ID, block)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return &card{h: h, id: c.ID, number: keys.PAN, expiry: c.To.AddDate(0, 0, -1).Add(8 * time.Hour).Format("0601"), ac: own(rootAC), mac: own(rootMAC),
		report: product != issuing.CreditCard}
}

func (c *card) track() string { return c.number + "D" + c.expiry + "220" }

// says is field 55 of the card's next transaction.
func (c *card) says(typ byte, fen int64, first pboc.Cryptogram) []byte {
	c.atc++
	iad := pboc.IAD{DKI: 1, CVN: pboc.CVN01, CVR: pboc.NewCVR(first, pboc.NotRequested), Alg: pboc.TripleDES}
	if c.report {
		iad.Report, iad.Amounts = pboc.ReportBalance, [2]uint64{uint64(c.fen)}
		iad.Sign(c.mac.Session(c.atc), c.atc)
	}
	t := pboc.Transaction{Amount: pboc.Amount(uint64(fen)), Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, Date: [3]byte{0x15, 0x09, 0x16}, Type: typ, Unpredictable: [4]byte{1, 2, 3, 4}}
	aip := [2]byte{0x7C}
	data, err := pboc.ACData(iad.CVN, t, aip, c.atc, iad.CVR)
	if err != nil {
		c.h.t.Fatal(err)
	}
	ac := c.ac.Session(c.atc).MAC(nil, data)
	var out []byte
	for _, o := range []struct {
		tag tlv.Tag
		v   []byte
	}{{emv.TagAC, ac[:]}, {emv.TagCID, []byte{first.CID()}}, {emv.TagIAD, iad.Bytes()}, {emv.TagUN, t.Unpredictable[:]}, {emv.TagATC, []byte{byte(c.atc >> 8), byte(c.atc)}},
		{emv.TagTVR, t.TVR[:]}, {emv.TagDate, t.Date[:]}, {emv.TagType, []byte{typ}}, {emv.TagAmount, t.Amount[:]}, {emv.TagCurrency, t.Currency[:]}, {emv.TagAIP, aip[:]},
		{emv.TagTerminalCountry, t.Country[:]}, {emv.TagAmountOther, t.Other[:]}, {emv.TagCapabilities, []byte{0xE0, 0xE8, 0xC8}}, {emv.TagCVMResults, []byte{0, 0, 0}},
		{emv.TagDeviceSerial, []byte("SERIAL01")}, {emv.TagDFName, []byte(pboc.AIDDebit)}} {
		out = tlv.Append(out, o.tag, o.v)
	}
	return out
}

// A terminal speaks docs/terminal-protocol.md: nothing here is the switch's code.
type terminal struct {
	h        *house
	tid      string
	tmk      [16]byte
	pik, mak [16]byte
	key      *iso8583.Key
	batch    int
	stan     int
	in       iso8583.Message
	sent     []byte
}

func (h *house) terminal(tid string) *terminal {
	h.t.Helper()
	p := &terminal{h: h, tid: tid}
	form, sealed, err := h.keys.NewTransport(ctx, tid)
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := form.Key()
	if err != nil {
		h.t.Fatal(err)
	}
	in, err := h.host.Install(ctx, tid, sealed)
	if err != nil {
		h.t.Fatal(err)
	}
	if p.tmk, _, err = hsm.OpenInjected(hsm.TerminalKey{Use: hsm.TerminalMaster, TID: tid}, key, in.Block); err != nil {
		h.t.Fatal(err)
	}
	p.signOn()
	return p
}

type fields map[int]string

// message is a request without its MAC.
func (p *terminal) message(mti string, f fields) *iso8583.Message {
	m := new(iso8583.Message)
	m.Reset(iso8583.UnionPayPOS(), mti)
	m.SetHead([]byte{0x60, 0, 3, 0, 0, 0x61, 0x31, 0, 0x31, 0x13, 0x12})
	m.SetText(41, p.tid)
	m.SetText(42, mid)
	for n, v := range f {
		m.SetText(n, v)
	}
	return m
}

func (p *terminal) signOn() {
	p.h.t.Helper()
	p.stan++
	wire, err := p.message("0800", fields{11: fmt.Sprintf("%06d", p.stan), 60: "00" + "000001" + "003", 63: "01 "}).AppendTo(nil)
	if err != nil {
		p.h.t.Fatal(err)
	}
	p.take(p.exchange(wire))
	if got := p.in.Text(39); got != "00" {
		p.h.t.Fatalf("sign-on: %s", got)
	}
	blocks, err := poskey.ParseField(p.in.Get(62))
	if err != nil {
		p.h.t.Fatal(err)
	}
	p.pik, _ = blocks[0].Open(p.tmk)
	p.mak, err = blocks[1].Open(p.tmk)
	if err != nil {
		p.h.t.Fatal(err)
	}
	p.key, _ = iso8583.NewKey(p.mak[:])
	fmt.Sscanf(p.in.Text(60)[2:8], "%d", &p.batch)
}

func (p *terminal) exchange(wire []byte) []byte {
	p.h.t.Helper()
	answer, err := p.h.host.Handle(ctx, wire)
	if err != nil {
		p.h.t.Fatalf("Handle: %v", err)
	}
	return answer
}

func (p *terminal) take(answer []byte) {
	p.h.t.Helper()
	if err := p.in.Unpack(iso8583.UnionPayPOS(), answer); err != nil {
		p.h.t.Fatal(err)
	}
}

// say seals a request, sends it and gives the answer's code.
func (p *terminal) say(mti string, f fields) string {
	p.h.t.Helper()
	wire, err := p.message(mti, f).Seal(nil, p.key)
	if err != nil {
		p.h.t.Fatal(err)
	}
	return p.repeat(wire)
}

func (p *terminal) repeat(wire []byte) string {
	p.h.t.Helper()
	p.sent = wire
	p.take(p.exchange(wire))
	if err := p.in.Verify(p.key); err != nil {
		p.h.t.Fatalf("answer %s: %v", p.in.Text(39), err)
	}
	return p.in.Text(39)
}

func (p *terminal) next() string {
	p.stan++
	return fmt.Sprintf("%06d", p.stan)
}

// ask is a transaction of a kind.
func (p *terminal) ask(kind string, fen int64, more fields) string {
	p.h.t.Helper()
	k := switching.KindNamed(kind)
	f := fields{3: k.Process, 11: p.next(), 22: "021", 25: k.Point, 49: "156", 60: fmt.Sprintf("%s%06d00060", k.Type, p.batch)}
	if fen > 0 {
		f[4] = fmt.Sprintf("%012d", fen)
	}
	for n, v := range more {
		f[n] = v
	}
	return p.say(k.MTI, f)
}

// chip is what a chip adds to a request.
func (c *card) chip(typ byte, fen int64, first pboc.Cryptogram) fields {
	return fields{2: c.number, 22: "051", 23: "001", 12: "100000", 13: "0916", 55: string(c.says(typ, fen, first))}
}

// swipe is what a stripe with a PIN adds.
func (p *terminal) swipe(c *card, pin string) fields {
	f := fields{2: c.number, 35: c.track(), 60: fmt.Sprintf("22%06d00020", p.batch)}
	return p.pin(f, c.number, pin)
}

func (p *terminal) pin(f fields, number, pin string) fields {
	p.h.t.Helper()
	b, err := poskey.PINBlock(poskey.WithPAN, pin, number)
	if err != nil {
		p.h.t.Fatal(err)
	}
	k := pboc.NewKey(pboc.TripleDES, p.pik)
	f[52], f[53], f[26] = string(k.Encrypt(b[:])), "2600000000000000", "12"
	return f
}

// of refers to an original.
func (p *terminal) of(stan int) fields { return fields{61: fmt.Sprintf("%06d%06d", p.batch, stan)} }

// reverse takes a transaction back.
func (p *terminal) reverse(kind string, stan int, fen int64, reason string) string {
	p.h.t.Helper()
	k := switching.KindNamed(kind)
	return p.say("0400", fields{3: k.Process, 4: fmt.Sprintf("%012d", fen), 11: fmt.Sprintf("%06d", stan), 25: k.Point, 39: reason, 49: "156",
		60: fmt.Sprintf("%s%06d00060", k.Type, p.batch)})
}

// settle sends totals and says the results.
func (p *terminal) settle(debits int64, dn int, credits int64, cn int) string {
	p.h.t.Helper()
	f48 := fmt.Sprintf("%012d%03d%012d%03d0%012d%03d%012d%03d0", debits, dn, credits, cn, 0, 0, 0, 0)
	if code := p.say("0500", fields{11: p.next(), 48: f48, 49: "156", 60: fmt.Sprintf("00%06d201", p.batch), 63: "01 "}); code != "00" {
		return code
	}
	v := p.in.Text(48)
	return v[30:31] + v[61:62]
}

func (p *terminal) end(code string, items int) string {
	p.h.t.Helper()
	got := p.say("0320", fields{11: p.next(), 48: fmt.Sprintf("%04d", items), 60: fmt.Sprintf("00%06d%s", p.batch, code)})
	if got == "00" {
		fmt.Sscanf(p.in.Text(60)[2:8], "%d", &p.batch)
	}
	return got
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func find(v []byte, tag tlv.Tag) []byte { x, _ := tlv.Find(v, tag); return x }
