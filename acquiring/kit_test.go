package acquiring_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"koala/acquiring"
	"koala/calendar"
	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/spec/desfire"
	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/canteen"
	couponDesk "koala/terminal/coupon"
	"koala/terminal/door"
	"koala/terminal/kernel"
	"koala/terminal/pos"
	"koala/wallet"
)

const lin customer.ID = "cust_lin"

var (
	ctx  = context.Background()
	noon = time.Date(2015, 9, 21, 12, 0, 0, 0, calendar.Beijing) // a Monday
	// hostRoot stands in for the top-up host, which is package tsm's work.
	hostRoot = [16]byte{0xD2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
)

// The shops of the tests.
const (
	tea, kitchen = "shop_tea", "shop_kitchen"
	employer     = "firm_yard"
	teaTill      = "30008900"
	teaDesk      = "TEADESK1"
	lunchTill    = "10010007"
	gateDoor     = "00000305"
	merchantID   = "898110058120001"
	yard         = "site_yard"
)

// A tester is a test or one run of a property.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// A house has a bank, an office, a tea shop, and a yard with a canteen and a
// door.
type house struct {
	t      tester
	now    *clock.Virtual
	store  *db.Store
	book   *ledger.Book
	keys   *hsm.HSM
	bank   *issuing.Bank
	office *acquiring.Office
	chips  map[issuing.CardID]desfire.UID
	packs  ed25519.PublicKey

	masters map[string][]byte // by till, as the hsm sealed them
}

// primes are RSA keys made once for all houses of the tests: of the CA, of the
// issuer, and of a few cards.
var primes = sync.OnceValue(func() []byte {
	var out []byte
	random := clock.Random(7)
	for _, bits := range []int{1408, 1152, 1024, 1024, 1024} {
		k, err := emv.GenerateKey(random, bits, 3)
		if err != nil {
			panic(err)
		}
		out = fmt.Appendf(out, "%d %x %x\n", bits, k.CRT().P, k.CRT().Q)
	}
	return out
})

func open(t tester, dir string) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(noon), chips: map[issuing.CardID]desfire.UID{}}
	var err error
	if h.store, err = db.Open(ctx, db.Config{URL: filepath.Join(dir, "koala.db"), Clock: h.now, Rand: clock.Random(5), Inline: true}); err != nil {
		t.Fatal(err)
	}
	if h.book, err = ledger.Open(ctx, h.store, ledger.Config{Inline: true}); err != nil {
		t.Fatal(err)
	}
	if h.keys, err = hsm.Open(ctx, h.store, hsm.Config{KeyFile: filepath.Join(dir, "key"), Rand: clock.Random(6), Primes: primes()}); err != nil {
		t.Fatal(err)
	}
	_, err = h.keys.Import(ctx, hsm.LabelCanteen+".2", hsm.AESRoot, hostRoot[:])
	h.must(errors.Join(err, h.keys.Provision(ctx), h.keys.ProvisionBank(ctx),
		h.store.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, merchant.Schema, issuing.Schema, acquiring.Schema)))
	h.bank = issuing.NewBank(h.store, h.keys)
	h.office = acquiring.NewOffice(h.store, h.keys, h.bank, acquiring.Elements{Cards: h.cardsIn, UID: h.uidOf})
	h.masters = map[string][]byte{}
	h.office.GiveMasters(h.master)
	h.packs, err = h.keys.PublicKey(ctx, hsm.LabelPack)
	h.must(err)
	h.do(h.furnish)
	return h
}

func (h *house) close() { h.book.Close(); h.store.Close() }

func (h *house) cardsIn(_ db.Reader, uid desfire.UID) (out []issuing.CardID, err error) {
	for id, u := range h.chips {
		if u == uid {
			out = append(out, id)
		}
	}
	return out, nil
}

func (h *house) uidOf(_ db.Reader, id issuing.CardID) (desfire.UID, bool, error) {
	u, ok := h.chips[id]
	return u, ok, nil
}

// furnish puts in people, shops and devices; it may run again.
func (h *house) furnish(tx *db.Tx) error {
	err := errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), wallet.Open(tx, lin),
		acquiring.AddFirm(tx, acquiring.Firm{ID: employer, NameEN: "Yard Works", NameZH: "大院工厂"}),
		acquiring.AddSite(tx, acquiring.Site{ID: yard, Number: 7, Owner: "cust_boss", Firm: employer, NameEN: "The Yard", NameZH: "大院"}),
		acquiring.AddShop(tx, acquiring.Shop{ID: tea, NameEN: "Tea House", NameZH: "茶馆", MID: merchantID, MCC: "5812", City: "Beijing"}),
		acquiring.AddShop(tx, acquiring.Shop{ID: kitchen, NameEN: "Yard Canteen", NameZH: "大院食堂", MCC: "5814", City: "Beijing", Site: yard}),
		acquiring.AddDevice(tx, acquiring.Device{TID: teaTill, Kind: acquiring.POS, MID: merchantID, Shop: tea, PlaceEN: "counter", PlaceZH: "柜台"}),
		acquiring.AddDevice(tx, acquiring.Device{TID: teaDesk, Kind: acquiring.Coupon, Shop: tea}),
		acquiring.AddDevice(tx, acquiring.Device{TID: lunchTill, Kind: acquiring.Canteen, Shop: kitchen}),
		acquiring.AddDevice(tx, acquiring.Device{TID: gateDoor, Kind: acquiring.Door, Site: yard}),
		acquiring.Fund(tx, "first", employer, money.Fen(1000_00)))
	if err == nil {
		_, err = wallet.Fund(tx, "start", lin, money.Fen(2000_00))
	}
	return err
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	h.must(h.store.Write(ctx, f))
}

func (h *house) read(f func(*db.Query) error) {
	h.t.Helper()
	h.must(h.store.Read(ctx, f))
}

func (h *house) balance(id ledger.AccountID) int64 {
	h.t.Helper()
	b, err := h.book.Balance(id)
	h.must(err)
	return b.Posted.Minor()
}

func (h *house) want(what string, of map[ledger.AccountID]int64) {
	h.t.Helper()
	for id, fen := range of {
		if got := h.balance(id); got != fen {
			h.t.Errorf("%s: %s has %d, want %d", what, id, got, fen)
		}
	}
	h.sound(what)
}

// sound checks what must hold at all times: debits are credits, and what shops
// are owed and were paid is what was handed over.
func (h *house) sound(what string) {
	h.t.Helper()
	if b := h.book.TrialBalance(); !b.Balanced {
		h.t.Errorf("%s: debits %v, credits %v", what, b.Debit, b.Credit)
	}
	h.read(func(q *db.Query) error {
		earned, err := acquiring.Earned(q)
		if err != nil {
			return err
		}
		waits := map[string]int64{}
		open, err := settlement.Open(q)
		for _, p := range open {
			waits[p.Payee] = p.Amount.Minor()
		}
		for shop, fen := range earned {
			paid := int64(0)
			ps, err := settlement.Payouts(q, shop, "", 100)
			if err != nil {
				return err
			}
			for _, p := range ps {
				paid += p.Amount.Minor()
			}
			if owed := h.balance(settlement.Payable(shop)); owed+paid != fen || waits[shop] != owed {
				h.t.Errorf("%s: %s is owed %d with %d captured, was paid %d, earned %d", what, shop, owed, waits[shop], paid, fen)
			}
		}
		return err
	})
}

// A chip is one card in an element of its own.
type chip struct {
	h   *house
	e   *card.Element
	id  issuing.CardID
	uid desfire.UID
}

// product puts a template of the yard's firm on sale.
func (h *house) product(kind issuing.Kind, code string, data any) string {
	h.t.Helper()
	raw, err := json.Marshal(data)
	h.must(err)
	h.do(func(tx *db.Tx) error {
		t, err := issuing.Submit(tx, issuing.Template{Issuer: employer, Code: code, Kind: kind, NameEN: code, NameZH: code, Art: code, Space: 4 << 10, Data: raw})
		if err == nil {
			_, err = issuing.Approve(tx, t.ID, "staff")
		}
		return err
	})
	return employer + "/" + code
}

// issue writes a card into a new element, as tsm does.
func (h *house) issue(product string) *chip { return h.issueFor(product, "", issuing.Carry{}) }

// issueFor does so in place of another card, with what goes along.
func (h *house) issueFor(product string, old issuing.CardID, along issuing.Carry) *chip {
	h.t.Helper()
	n := byte(len(h.chips) + 1)
	a := issuing.Application{Ref: fmt.Sprint(product, n), Customer: lin, Band: fmt.Sprint("band-", n), Product: product, Replaces: old, Carry: along}
	var p issuing.Product
	h.do(func(tx *db.Tx) (err error) { p, err = issuing.ProductOn(tx, product, tx.Now()); return err })
	if p.Kind.Bank() {
		number, err := h.bank.Number(ctx, product)
		h.must(err)
		a.PAN = &number
	}
	k := &chip{h: h, uid: desfire.UID{4, 1, 2, 3, 4, 5, n}}
	h.do(func(tx *db.Tx) error {
		c, err := issuing.Open(tx, a)
		k.id = c.ID
		return err
	})
	var err error
	k.e, err = card.New(card.Config{UID: k.uid, Rand: clock.Random(uint64(n)), Catalog: catalog.New(isd.Config{}),
		Domain: catalog.IssuerDomain, DomainLoadFile: catalog.DomainLoadFile, DomainModule: catalog.DomainModule})
	h.must(err)
	k.write()
	h.chips[k.id] = k.uid
	h.do(func(tx *db.Tx) error {
		err := issuing.Begin(tx, k.id)
		if err == nil {
			err = issuing.Activate(tx, k.id, issuing.Counters{Balance: money.Fen(0), Online: -1, Offline: -1, At: tx.Now(), By: "test"})
		}
		return err
	})
	return k
}

// write personalises over the secure channel of the issuer's domain.
func (k *chip) write() {
	h := k.h
	h.t.Helper()
	p, err := h.bank.Personalise(ctx, k.id)
	h.must(err)
	h.must(k.e.PowerOn(card.Contactless))
	send := func(c iso7816.Command) iso7816.Response {
		r, err := k.e.Transmit(c)
		if err != nil || !r.SW.OK() {
			h.t.Fatalf("%X: %v %v", c.Bytes(), r.SW, err)
		}
		return r
	}
	host := [8]byte{9, 8, 7}
	send(iso7816.Select([]byte(gp.IssuerDomain)))
	script := hsm.Script{HostChallenge: host, InitAnswer: send(gp.InitializeUpdate(0, host)).Data, Level: gp.CMAC | gp.CENC, Commands: []hsm.Plain{
		{Command: gp.InstallApplet(p.LoadFile, p.Module, p.Instance, gp.Privileges{}, p.Install).Command()},
		{Command: gp.Personalize(p.Instance).Command()}}}
	var blocks []iso7816.Command
	if len(p.Groups) > 0 {
		blocks, err = gp.StoreData(p.Groups, 239)
		h.must(err)
	}
	for _, b := range blocks {
		b.P1 &^= gp.StoreLast
		script.Commands = append(script.Commands, hsm.Plain{Command: b})
	}
	for i, key := range p.Keys {
		c := iso7816.Command{CLA: gp.CLA, INS: gp.InsStoreData, P1: gp.StoreDGI, P2: byte(len(blocks) + i), Le: iso7816.NoLe}
		if i == len(p.Keys)-1 {
			c.P1 |= gp.StoreLast
		}
		script.Commands = append(script.Commands, hsm.Plain{Command: c, Keys: []hsm.KeyRef{key}})
	}
	script.Commands = append(script.Commands, hsm.Plain{Command: gp.SetStatus{Part: gp.Applications, State: gp.Personalized, App: p.Instance}.Command()})
	list, err := h.keys.WrapScript(ctx, script)
	h.must(err)
	for _, c := range list {
		send(c)
	}
	k.e.PowerOff()
}

// present holds the card to a reader.
func (k *chip) present(i card.Interface) iso7816.Transmit {
	if err := k.e.PowerOn(i); err != nil {
		return func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn }
	}
	return k.e.Transmit
}

// feed puts money onto a canteen card and into its float, as tsm does.
func (k *chip) feed(fen int32) {
	h := k.h
	h.t.Helper()
	host := desfire.NewHost(k.present(card.Contactless), clock.Random(77))
	h.must(errors.Join(host.Open(), host.Select(desfire.CanteenAID),
		host.Authenticate(desfire.CanteenHost, desfire.CardKey(desfire.AESKey(hostRoot, 1), k.uid, desfire.CanteenAID, desfire.CanteenSystem)),
		host.Credit(desfire.CanteenValue, fen, desfire.Enciphered), host.Commit()))
	k.e.PowerOff()
	k.fund(int64(fen))
}

// fund books a top-up without the card.
func (k *chip) fund(fen int64) {
	k.h.t.Helper()
	k.h.do(func(tx *db.Tx) error {
		_, err := ledger.Post(tx, ledger.Move(tx.NewID("feed"), wallet.Account(lin), issuing.Float(k.id), money.Fen(fen)))
		return err
	})
}

// install installs a device as its installer does, and unwraps its keys.
func (h *house) install(tid string) (in acquiring.Installation, key func(hsm.TerminalUse) desfire.Key) {
	h.t.Helper()
	form, err := h.office.Transport(ctx, tid)
	h.must(err)
	transport, err := form.Key()
	h.must(err)
	in, err = h.office.InstallProven(ctx, tid, transport.Proof(tid))
	h.must(err)
	return in, func(use hsm.TerminalUse) desfire.Key {
		h.t.Helper()
		name := hsm.TerminalKey{Use: use, TID: tid}
		if use == hsm.CouponMerchant {
			name.Merchant = in.Shop.Merchant()
		}
		i := slices.IndexFunc(in.Keys, func(k hsm.Injected) bool { return k.Use == use })
		if i < 0 {
			h.t.Fatalf("%s was given no %s", tid, use)
		}
		k, version, err := hsm.OpenInjected(name, transport, in.Keys[i].Block)
		h.must(err)
		return desfire.AESKey(k, version)
	}
}

// master draws a till's master key as the switch does.
func (h *house) master(ctx context.Context, tid string, transport []byte) (hsm.Injected, error) {
	in, master, err := h.keys.NewMaster(ctx, tid, transport)
	h.masters[tid] = master.Sealed
	return in, err
}

// A till is the tea shop's, with its flash.
type till struct {
	h   *house
	cfg pos.Config
	*pos.Till
	offline bool
	over    *issuing.Bank // asked instead of the office, as over the air
	answers []acquiring.Answer
}

func (h *house) till() *till {
	h.t.Helper()
	in, _ := h.install(teaTill)
	t := &till{h: h}
	t.cfg = pos.Config{
		Kernel: kernel.Config{Applications: []kernel.Application{pos.QuickPass()}, Keys: in.CA, Country: 156, Currency: 156, Exponent: 2, Type: 0x22,
			Capabilities: [3]byte{0xE0, 0xF8, 0xC8}, MoreCapabilities: [5]byte{0x60, 0, 0xF0, 0xA0, 1}, TTQ: [4]byte{0x36, 0, 0, 0x80},
			TerminalID: teaTill, MerchantID: in.Device.MID, MerchantName: in.Shop.NameEN, Category: 5812, Serial: "KOALA001"},
		Clock: h.now, Random: clock.Random(5), Key: in.Packs, Issuer: t.ask,
		Sales: terminal.NewFlash(8), Denied: terminal.NewFlash(2), State: terminal.NewFlash(2),
	}
	t.boot()
	return t
}

func (t *till) boot() {
	t.h.t.Helper()
	for _, f := range []*terminal.Flash{t.cfg.Sales, t.cfg.Denied, t.cfg.State} {
		f.PowerOn()
	}
	var err error
	t.Till, err = pos.New(t.cfg)
	t.h.must(err)
}

func (t *till) ask(request []byte) (kernel.Answer, error) {
	if t.offline {
		return kernel.Answer{}, kernel.ErrNoHost
	}
	if t.over != nil {
		a, err := t.over.Authorise(ctx, issuing.Online{EMV: request})
		return kernel.Answer{ARC: a.ARC, Data: a.EMV}, err
	}
	a, err := t.h.office.Authorise(ctx, teaTill, request)
	t.answers = append(t.answers, a)
	return kernel.Answer{ARC: a.ARC, Data: a.EMV}, err
}

// load puts e-cash onto a card at the till.
func (t *till) load(k *chip, fen uint64) {
	t.h.t.Helper()
	r, err := t.Load(k.present(card.Contactless), fen)
	k.e.PowerOff()
	if err != nil || r.State != pos.Loaded {
		t.h.t.Fatalf("load: %v %v %+v %v", r.State.Words(false), r.Outcome, t.answers, err)
	}
}

func (t *till) tap(k *chip, fen uint64) pos.Result {
	t.h.t.Helper()
	r, err := t.Tap(k.present(card.Contactless), pos.Sale{Fen: fen})
	t.h.must(err)
	k.e.PowerOff()
	return r
}

func (t *till) buy(k *chip, fen uint64) pos.Result {
	t.h.t.Helper()
	r := t.tap(k, fen)
	if r.Outcome.Result != kernel.Approved {
		t.h.t.Fatalf("%d fen: %v", fen, r.Outcome)
	}
	return r
}

// batch closes the till's batch and gives what it holds, over the wire.
func (t *till) batch() pboc.ClearingBatch {
	t.h.t.Helper()
	_, _, err := t.Close()
	t.h.must(err)
	wire, err := t.Batch(pboc.MaxClearingBatch).MarshalBinary()
	t.h.must(err)
	b, err := pboc.ParseClearingBatch(wire)
	t.h.must(err)
	return b
}

func (h *house) collect(b pboc.ClearingBatch) acquiring.Handed {
	h.t.Helper()
	got, err := h.office.CollectSales(ctx, teaTill, b)
	h.must(err)
	h.sound("collected")
	return got
}

// fates are the fates of a batch in order, with their reasons.
func fates(h acquiring.Handed) (out []string) {
	for _, r := range h.Results {
		s := string(r.Fate)
		if r.Why != acquiring.Fine {
			s += " " + string(r.Why)
		}
		out = append(out, s)
	}
	return out
}

// A counter is the canteen's till, with its menu.
type counter struct {
	h *house
	*canteen.Till
	own [16]byte
}

func menu() desfire.Menu {
	return desfire.Menu{Meals: []desfire.Meal{{ID: 2, From: 660, To: 810, Percent: 50, Subsidy: 800, EN: "lunch", ZH: "午餐",
		Dishes: []desfire.Dish{{ID: 1, Fen: 1200, EN: "noodles", ZH: "面条"}, {ID: 2, Fen: 301, EN: "soup", ZH: "汤"}}}}}
}

var lunch = canteen.Order{Dishes: []byte{1, 2}} // 15.01 yuan, the employer pays 7.50

func (h *house) counter() *counter {
	h.t.Helper()
	h.do(func(tx *db.Tx) error { return acquiring.SetMenu(tx, kitchen, menu()) })
	in, key := h.install(lunchTill)
	c, err := canteen.New(canteen.Config{Till: desfire.Till{0x10, 0x01, 0, 7}, Clock: h.now, Rand: clock.Random(8), Menus: in.Packs,
		Cards: key(hsm.TillCards), Sales: [16]byte(key(hsm.TillSales).Bytes()), Store: terminal.NewFlash(4), Menu: terminal.NewFlash(2)})
	h.must(err)
	out := &counter{h, c, [16]byte(key(hsm.TillSales).Bytes())}
	out.update()
	return out
}

func (c *counter) update() {
	c.h.t.Helper()
	pack, err := c.h.office.MenuPack(ctx, lunchTill, c.Menu().Version)
	c.h.must(err)
	if pack != nil {
		c.h.must(c.Load(pack))
	}
}

func (c *counter) sell(k *chip, o canteen.Order) canteen.Outcome {
	c.h.t.Helper()
	out, err := c.Sell(k.present(card.Contactless), o)
	c.h.must(err)
	k.e.PowerOff()
	return out
}

func (c *counter) refund(k *chip, fen uint32) canteen.Outcome {
	c.h.t.Helper()
	out, err := c.Refund(k.present(card.Contactless), fen)
	c.h.must(err)
	k.e.PowerOff()
	return out
}

func (c *counter) batch() desfire.SaleBatch {
	c.h.t.Helper()
	b, err := c.Batch(desfire.MaxSaleBatch)
	c.h.must(err)
	wire, err := b.Bytes()
	c.h.must(err)
	b, err = desfire.ParseSaleBatch(wire)
	c.h.must(err)
	return b
}

func (h *house) eat(b desfire.SaleBatch) acquiring.Handed {
	h.t.Helper()
	got, err := h.office.CollectMeals(ctx, lunchTill, b)
	h.must(err)
	h.sound("eaten")
	return got
}

func (h *house) door() *door.Door {
	h.t.Helper()
	in, key := h.install(gateDoor)
	d, err := door.New(door.Config{Door: acquiring.DoorNumber(gateDoor), Site: in.Site.Number, Clock: h.now, Rand: clock.Random(9), Plans: in.Packs,
		Reader: key(hsm.DoorReader), Credentials: [16]byte(key(hsm.DoorHost).Bytes()), Plan: terminal.NewFlash(2), Log: terminal.NewFlash(4)})
	h.must(err)
	return d
}

func (h *house) desk() *couponDesk.Desk {
	h.t.Helper()
	in, key := h.install(teaDesk)
	d, err := couponDesk.New(couponDesk.Config{Merchant: in.Shop.Merchant(), Terminal: acquiring.TerminalID(teaDesk), Root: [16]byte(key(hsm.CouponMerchant).Bytes()),
		Clock: h.now, Rand: clock.Random(10), Store: terminal.NewFlash(4)})
	h.must(err)
	return d
}

// settle lets the day end and pays the shops.
func (h *house) settle() {
	h.t.Helper()
	day := calendar.ServiceDay(h.store.Now())
	h.now.Set(day.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff + time.Minute))
	_, err := settlement.Run(ctx, h.store, day)
	h.must(err)
	h.sound("settled")
}
