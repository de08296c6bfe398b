package ops_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/acquiring"
	"koala/calendar"
	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/customer"
	"koala/dispute"
	"koala/fare"
	"koala/firmware"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/spec/desfire"
	spec "koala/spec/firmware"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/transit"
	"koala/transit/network"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/home"
	"koala/web/open"
	"koala/web/ops"
)

var (
	ctx  = context.Background()
	nw   = network.Beijing()
	dtk  = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	day0 = time.Date(2015, 9, 16, 8, 0, 0, 0, calendar.Beijing)
)

const secret = "eucalyptus"

// elements is the catalogue of the test's band.
var elements = catalog.New(isd.Config{})

// primes are fixed RSA keys: making one takes longer than a test.
var primes = sync.OnceValue(func() []byte {
	b, err := os.ReadFile("../../hsm/testdata/primes.txt")
	if err != nil {
		panic(err)
	}
	return b
})

// A house is everything the console looks at, with a band that has a card.
type house struct {
	t       testing.TB
	now     *clock.Virtual
	store   *db.Store
	book    *ledger.Book
	keys    *hsm.HSM
	tsm     *tsm.Manager
	office  *transit.Office
	bank    *issuing.Bank
	shops   *acquiring.Office
	desk    *customer.Desk
	kit     *web.Kit
	server  *httptest.Server
	element *card.Element
	lin     customer.ID
	card    purse.Number
	refs    int
	rec     purse.Transit
	seq     uint16
	orders  []string
	gates   map[string]purse.Terminal
}

func openHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(day0), gates: map[string]purse.Terminal{}}
	h.store = dbtest.Open(t, func(c *db.Config) { c.Clock, c.Rand, c.Inline = h.now, clock.Random(7), true })
	h.must(h.store.Migrate(ctx, outbox.Schema, proposal.Schema, customer.Schema, wallet.Schema, settlement.Schema, merchant.Schema, reconcile.Schema, dispute.Schema, risk.Schema,
		issuing.Schema, tsm.Schema, acquiring.Schema, transit.Schema, firmware.Schema, open.Schema, ops.Schema))
	var err error
	h.book, err = ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	h.must(err)
	t.Cleanup(func() { h.book.Close() })
	h.keys, err = hsm.Open(ctx, h.store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(8), Primes: primes()})
	h.must(err)
	_, err = h.keys.Import(ctx, hsm.LabelDTK, hsm.PurseRoot, dtk[:])
	h.must(err)
	h.must(h.keys.Provision(ctx))
	h.must(h.keys.ProvisionBank(ctx))
	_, err = h.keys.Generate(ctx, firmware.Label, hsm.Signing)
	h.must(err)
	h.desk = &customer.Desk{Store: h.store, Seal: h.keys.Seal, Salt: clock.Random(9), Cost: 1}
	h.tsm = tsm.New(h.store, h.keys, tsm.Config{})
	h.office = transit.NewOffice(h.store, h.keys, nw)
	h.bank = issuing.NewBank(h.store, h.keys)
	h.shops = acquiring.NewOffice(h.store, h.keys, h.bank, acquiring.Elements{
		Cards: func(q db.Reader, uid desfire.UID) ([]issuing.CardID, error) { return nil, nil },
		UID:   func(q db.Reader, card issuing.CardID) (uid desfire.UID, ok bool, err error) { return uid, false, nil }})
	h.lin = h.person("lin", "林小雨", customer.Wearer).ID
	h.person("mei", "梅工", customer.Operator)
	h.person("shen", "沈审", customer.Auditor)
	h.do(func(tx *db.Tx) error {
		return errors.Join(wallet.OpenHouse(tx), wallet.Open(tx, h.lin), issuing.Seed(tx), issuing.SeedBank(tx), h.office.Books().SetUp(tx), h.tsm.Register(tx, "band_lin", string(h.lin)))
	})
	h.element, err = elements.NewElement([7]byte{4, 0, 0, 0, 0, 0, 1}, clock.Random(1))
	h.must(err)
	h.serve()
	return h
}

func (h *house) serve() {
	var err error
	h.kit, err = web.New(ctx, web.Config{Store: h.store, Accounts: accounts{h.desk, h.store}, Rand: clock.Random(10), Now: h.now.Now, Log: slog.New(slog.DiscardHandler)})
	h.must(err)
	staff := ops.New(ops.Deps{Kit: h.kit, Store: h.store, Book: h.book, Keys: h.keys, TSM: h.tsm, Transit: h.office.Books(), Office: h.shops, Publish: h.office.Publish, Catalog: catalogue,
		Network: nw, Map: home.Map(nw), Connect: func(context.Context, string) { h.work() }})
	mux := http.NewServeMux()
	mux.Handle("/ops", staff)
	mux.Handle("/ops/", staff)
	h.kit.SetDoors(web.Door{Href: "/ops/", Icon: "gauge", Audience: web.Staff, Name: web.Text{ZH: "运营", EN: "Operations"}, Lead: web.Same("…")})
	h.server = httptest.NewServer(h.kit.House(mux))
	h.t.Cleanup(h.server.Close)
}

func catalogue() spec.Release {
	return spec.Release{EN: "New cards", ZH: "新卡种", Modules: []spec.Module{{LoadFile: "\xA0\x00\x00\x03\x33", Module: "\xA0\x00\x00\x03\x33\x01"}}}
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

func (h *house) person(login, name string, role customer.Role) customer.Customer {
	h.t.Helper()
	c, err := h.desk.Register(ctx, customer.Application{Login: login, Name: name, Phone: "13800138000", Secret: secret, Roles: []customer.Role{role}})
	h.must(err)
	return c
}

// accounts shows customers to the kit as logins.
type accounts struct {
	desk  *customer.Desk
	store *db.Store
}

func (a accounts) Login(ctx context.Context, name, secret string) (web.User, error) {
	c, err := a.desk.Login(ctx, name, secret)
	return userOf(c), err
}

func (a accounts) User(ctx context.Context, subject string) (u web.User, found bool, err error) {
	err = a.store.Read(ctx, func(q *db.Query) error {
		c, err := customer.Get(q, customer.ID(subject))
		u, found = userOf(c), err == nil && !c.Blocked
		if errors.Is(err, customer.ErrNotFound) {
			return nil
		}
		return err
	})
	return u, found, err
}

func userOf(c customer.Customer) web.User {
	u := web.User{Name: c.Login, Subject: string(c.ID), Shown: c.Name}
	for _, r := range c.Roles {
		u.Roles = append(u.Roles, web.Role(r))
	}
	return u
}

// order places an order for Lin's card.
func (h *house) order(k tsm.Kind, fen int64) (o tsm.Order) {
	h.t.Helper()
	h.refs++
	h.do(func(tx *db.Tx) (err error) {
		r := tsm.Request{Ref: fmt.Sprint(k, h.refs), Kind: k, Band: "band_lin", Card: issuing.IDOf(h.card), Customer: string(h.lin)}
		if k == tsm.TopUp {
			r.Amount = money.Fen(fen)
		}
		if k == tsm.Issue {
			c, err := issuing.Open(tx, issuing.Application{Ref: r.Ref, Customer: h.lin, Band: "band_lin", Product: issuing.TransitBJ})
			if err != nil {
				return err
			}
			r.Card, h.card = c.ID, c.ID.Purse()
		}
		o, err = h.tsm.Place(tx, r)
		return err
	})
	h.orders = append(h.orders, o.ID)
	return o
}

// work lets the band run everything that waits for it.
func (h *house) work() {
	for range 60 {
		s, err := h.tsm.Next(ctx, "band_lin")
		h.must(err)
		if s.Done {
			return
		}
		for !h.element.Powered() {
			_ = h.element.PowerOn(card.Contact)
		}
		var answers [][]byte
		for _, c := range s.Steps {
			raw, err := h.element.TransmitRaw(c.APDU)
			h.must(err)
			answers = append(answers, raw)
			rsp, err := iso7816.ParseResponse(raw)
			h.must(err)
			if !slices.Contains(c.Expect, rsp.SW) {
				break
			}
		}
		h.must(h.tsm.Report(ctx, "band_lin", s.ID, answers, false))
	}
}

// story gives the house a past: a card issued, 50 yuan on it, a ride, a bus, a
// ride without its exit, and a day that is settled.
func (h *house) story() {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, "start", h.lin, money.Fen(300_00))
		return err
	})
	h.order(tsm.Issue, 0)
	h.work()
	h.order(tsm.TopUp, 50_00)
	h.work()
	h.rec = purse.NewTransit(h.card)
	h.enter("西直门")
	h.now.Advance(24 * time.Minute)
	h.leave("东单", 0)
	h.now.Advance(10 * time.Minute)
	h.book1(h.tap(h.gate(transit.OnBus, ""), 100, false))
	h.now.Set(day0.Add(30 * time.Hour))
	h.enter("东单")
	h.now.Advance(30 * time.Minute)
	h.leave("国贸", 77) // the gate takes another fare than the tariff
	h.now.Advance(time.Hour)
	h.enter("国贸")
	h.now.Advance(40 * time.Hour)
	h.must(h.office.Tick(ctx, h.now.Now()))
	_, err := settlement.Run(ctx, h.store, calendar.ServiceDay(day0))
	h.must(err)
	h.order(tsm.TopUp, 20_00) // waits for the band
	h.must(h.book.Project(ctx))
}

func (h *house) gate(kind transit.DeviceKind, station string) purse.Terminal {
	h.t.Helper()
	key := string(kind) + station
	if t, ok := h.gates[key]; ok {
		return t
	}
	t := purse.Terminal{0x30, 0, 0, 0, 0, byte(len(h.gates) + 1)}
	h.gates[key] = t
	d := transit.Device{Terminal: t, Kind: kind, Operator: "bjbus", Route: transit.Route{Line: 52, FlatFen: 200}}
	if kind != transit.OnBus {
		s, err := nw.Find(station)
		h.must(err)
		d = transit.Device{Terminal: t, Kind: kind, Station: s.Code()}
	}
	h.do(func(tx *db.Tx) error { return h.office.Books().Register(tx, d) })
	return t
}

// tap makes a debit as the card would, with a TAC that verifies.
func (h *house) tap(t purse.Terminal, fen int64, record bool) purse.Debit {
	d := purse.Debit{Card: h.card, Seq: h.seq, Fen: uint32(fen), Type: purse.CAPP, Terminal: t, TSeq: uint32(h.seq) + 1, At: purse.StampOf(h.now.Now())}
	d.TAC = purse.PurchaseTAC(purse.TACKey(purse.Disperse(dtk, h.card.Factor())), d.Fen, d.Type, d.Terminal, d.TSeq, d.At)
	if record {
		d.Record = h.rec.Bytes()
	}
	h.seq++
	return d
}

func (h *house) book1(d purse.Debit) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error { _, err := h.office.Books().Book(tx, d, 0); return err })
}

func (h *house) touch() {
	h.rec.LastAt, h.rec.State, h.rec.Flags[0] = purse.StampOf(h.now.Now()), 0x55, purse.IndustryMetro
}

func (h *house) enter(name string) {
	h.t.Helper()
	s, err := nw.Find(name)
	h.must(err)
	h.touch()
	h.rec.Status, h.rec.EntryStation, h.rec.EntryAt = purse.Entered, purse.StationBytes(uint32(s.Code())), purse.StampOf(h.now.Now())
	h.book1(h.tap(h.gate(transit.EntryGate, name), 0, true))
}

// leave takes the tariff's fare and more on top.
func (h *house) leave(name string, more int64) {
	h.t.Helper()
	s, err := nw.Find(name)
	h.must(err)
	tariff, err := fare.At(h.now.Now())
	h.must(err)
	table, err := nw.Table(s, tariff, 1, tariff.From, tariff.To)
	h.must(err)
	code, _ := purse.StationCode(h.rec.EntryStation)
	in, _ := h.rec.EntryAt.Moment()
	q, err := table.Price(fare.Tap{Entry: fare.Code(code), Entered: in, Left: h.now.Now(), MonthSpent: money.Fen(int64(h.rec.Accumulated))})
	h.must(err)
	h.touch()
	h.rec.Status, h.rec.ExitStation, h.rec.ExitAt = purse.Left, purse.StationBytes(uint32(s.Code())), purse.StampOf(h.now.Now())
	h.rec.Accumulated += uint32(q.Counts.Minor())
	h.book1(h.tap(h.gate(transit.ExitGate, name), q.Fen.Minor()+more, true))
}

// journeys gives the ids of the rides, newest first.
func (h *house) journeys() (ids []string) {
	h.read(func(q *db.Query) error {
		list, err := transit.Journeys(q, "", "", 50)
		for _, j := range list {
			ids = append(ids, j.ID)
		}
		return err
	})
	return ids
}

// A browser is somebody at the console.
type browser struct {
	h      *house
	client *http.Client
	lang   web.Lang
}

func (h *house) login(name string, lang web.Lang) *browser {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	h.must(err)
	b := &browser{h, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, lang}
	if name == "" {
		return b
	}
	if status, _ := b.send("POST", "/login", url.Values{"name": {name}, "password": {secret}, "back": {"/ops/"}}, nil); status != http.StatusSeeOther {
		h.t.Fatalf("login of %s: status %d", name, status)
	}
	return b
}

// send sends a request as a page would and gives status and body.
func (b *browser) send(method, path string, form url.Values, header map[string]string) (int, string) {
	b.h.t.Helper()
	req, err := http.NewRequest(method, b.h.server.URL+path, strings.NewReader(form.Encode()))
	b.h.must(err)
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", string(b.lang))
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	rsp, err := b.client.Do(req)
	b.h.must(err)
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	b.h.must(err)
	if to := rsp.Header.Get("Location"); to != "" {
		return rsp.StatusCode, to
	}
	return rsp.StatusCode, string(body)
}

func (b *browser) get(path string) (int, string) { return b.send("GET", path, nil, nil) }

// page reads a page that must be there.
func (b *browser) page(path string) string {
	b.h.t.Helper()
	status, body := b.get(path)
	if status != http.StatusOK {
		b.h.t.Fatalf("GET %s: status %d\n%s", path, status, body)
	}
	return body
}

// post sends a form that must be taken and gives where it leads.
func (b *browser) post(path string, form url.Values) string {
	b.h.t.Helper()
	status, to := b.send("POST", path, form, nil)
	if status != http.StatusSeeOther {
		b.h.t.Fatalf("POST %s: status %d\n%s", path, status, to)
	}
	return to
}

func (h *house) yuan(n int64) money.Amount { return money.Fen(n * 100) }
