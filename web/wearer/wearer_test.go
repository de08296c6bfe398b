package wearer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/fare"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/transit"
	"koala/transit/network"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/home"
	partners "koala/web/open"
	"koala/web/wearer"
	"koala/web/wearer/desk"
)

// people logs anybody in whose name is her customer id without the prefix.
type people struct{}

func (people) Login(_ context.Context, name, _ string) (web.User, error) {
	return web.User{Name: name, Subject: "cust_" + name, Shown: name, Roles: []web.Role{web.Wearer}}, nil
}

func (p people) User(ctx context.Context, subject string) (web.User, bool, error) {
	u, err := p.Login(ctx, strings.TrimPrefix(subject, "cust_"), "")
	return u, true, err
}

// street is Ann's wrist: a real band whose agent works when told to, and a
// gate whose answers are written down beforehand.
type street struct {
	band  *band.Band
	tsm   *tsm.Manager
	taps  map[string]wearer.TapResult
	acts  []wearer.TapAct
	rides []wearer.Trip
}

func (s *street) Band(context.Context, string) (wearer.BandView, error) {
	return wearer.BandView{ID: s.band.ID, Battery: s.band.Battery, Worn: s.band.Worn()}, nil
}

func (s *street) Gates(context.Context) ([]wearer.Gate, error) {
	return []wearer.Gate{{ID: "g1", Station: "dongdan", Name: web.Text{ZH: "东单", EN: "Dongdan"}},
		{ID: "b1", Name: web.Text{ZH: "1 路", EN: "Bus 1"}, Bus: true}}, nil
}

func (s *street) Tap(_ context.Context, _ string, a wearer.TapAct) error {
	s.acts = append(s.acts, a)
	s.taps[a.Ref] = wearer.TapResult{Ref: a.Ref, Gate: a.Gate, Place: web.Text{ZH: "东单", EN: "Dongdan"}, Kind: wearer.TapTorn, BalanceFen: 46_00,
		Total: 182 * time.Millisecond, Parts: []wearer.TapPart{{Name: web.Same("air"), Took: 182 * time.Millisecond}},
		Talk: []wearer.Exchange{{Command: iso7816.Select(purse.AIDTUnion).Bytes()}}}
	return nil
}

func (s *street) Tapped(_ context.Context, _, ref string) (wearer.TapResult, error) {
	t, ok := s.taps[ref]
	if !ok {
		return t, wearer.ErrNoTap
	}
	return t, nil
}

func (s *street) Sign(_ context.Context, _, ref string, picture []byte) error {
	t, ok := s.taps[ref]
	if !ok {
		return wearer.ErrNoTap
	}
	t.Unsigned, t.Signature = false, picture
	s.taps[ref] = t
	return nil
}
func (s *street) Connect(ctx context.Context, _ string) {
	if err := s.band.Run(ctx, link{s.tsm}); err != nil {
		panic(err)
	}
}

// link is the band's way to the house without a network between.
type link struct{ tsm *tsm.Manager }

func (l link) Next(ctx context.Context, id string, _ band.Hello) (band.Script, error) {
	s, err := l.tsm.Next(ctx, id)
	out := band.Script{ID: s.ID, Order: s.Order, Done: s.Done}
	for _, c := range s.Steps {
		out.Steps = append(out.Steps, band.Step{APDU: c.APDU, Expect: c.Expect})
	}
	return out, err
}

func (l link) Report(ctx context.Context, id, script string, answers [][]byte, cut bool) error {
	return l.tsm.Report(ctx, id, script, answers, cut)
}

// A site is the house with Ann's and Bob's wallets, and a browser.
type site struct {
	t       *testing.T
	url     string
	browser *http.Client
	street  *street
	refs    int
}

func open(t *testing.T) *site {
	t.Helper()
	ctx, now := t.Context(), clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC))
	store, err := db.Open(ctx, db.Config{URL: dbtest.File(t), Clock: now, Rand: clock.Random(7), Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); store.Close() })
	keys, err := hsm.Open(ctx, store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(8)})
	if err != nil {
		t.Fatal(err)
	}
	manager := tsm.New(store, keys, tsm.Config{})
	err = errors.Join(store.Migrate(ctx, wallet.Schema, issuing.Schema, tsm.Schema, transit.Schema, partners.Schema), keys.Provision(ctx),
		store.Write(ctx, func(tx *db.Tx) error {
			return errors.Join(issuing.Seed(tx), wallet.Open(tx, "cust_ann"), wallet.Open(tx, "cust_bob"),
				manager.Register(tx, "band_1", "cust_ann"))
		}))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, street: &street{tsm: manager, taps: map[string]wearer.TapResult{}}}
	element, err := catalog.New(isd.Config{}).NewElement([7]byte{4, 1, 2, 3, 4, 5, 6}, clock.Random(9))
	if err != nil {
		t.Fatal(err)
	}
	if s.street.band, err = band.New("band_1", element); err != nil {
		t.Fatal(err)
	}
	kit, err := web.New(ctx, web.Config{Store: store, Accounts: people{}, Rand: clock.Random(10), Now: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	net := network.Beijing()
	rides := &written{real: desk.NewTrips(store, book, net, nil), street: s.street}
	server := httptest.NewServer(kit.House(wearer.New(wearer.Deps{Kit: kit, Desk: desk.New(store, book, keys, manager), Trips: rides,
		Street: s.street, Network: home.Map(net), Now: now.Now, Ref: s.ref})))
	t.Cleanup(server.Close)
	s.url = server.URL
	s.login("ann")
	return s
}

// written shows rides written down in the test before those of transit.
type written struct {
	real   wearer.Trips
	street *street
}

func (w *written) Trips(ctx context.Context, who, after string, limit int) ([]wearer.Trip, error) {
	return w.real.Trips(ctx, who, after, limit)
}

func (w *written) Repair(ctx context.Context, who, id, station string) error {
	return w.real.Repair(ctx, who, id, station)
}

func (w *written) Trip(ctx context.Context, who, id string) (wearer.Trip, error) {
	for _, t := range w.street.rides {
		if t.ID == id && who == "cust_ann" {
			return t, nil
		}
	}
	return w.real.Trip(ctx, who, id)
}

func (s *site) ref() string { s.refs++; return fmt.Sprintf("form-%05d", s.refs) }

func (s *site) login(name string) {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar}
	s.post("/login", url.Values{"name": {name}, "password": {"x"}, "back": {"/my/"}})
}

func (s *site) get(path string) string { s.t.Helper(); _, body := s.do("GET", path, nil); return body }

func (s *site) post(path string, form url.Values) string {
	s.t.Helper()
	_, body := s.do("POST", path, form)
	return body
}

func (s *site) do(method, path string, form url.Values) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", "en")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.browser.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// wants checks that a page says all of these.
func wants(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page does not say %q:\n%s", text, page)
		}
	}
}

func find(t *testing.T, page, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no %s on the page:\n%s", pattern, page)
	}
	return m[1]
}

func TestACardFromCatalogueToBlocked(t *testing.T) {
	s := open(t)
	wants(t, s.get("/my/"), "No card yet", "Add a card")
	wants(t, s.get("/my/add"), "Beijing transit card", "deposit ¥20.00", "does not cover the deposit")
	wants(t, s.post("/my/add", url.Values{"ref": {"form-add-0"}, "product": {issuing.TransitBJ}}), "the balance is too low")
	fund := url.Values{"ref": {"form-fund-1"}, "amount": {"200"}}
	s.post("/my/wallet/fund", fund)
	wants(t, s.post("/my/wallet/fund", fund), "¥200.00", "From my bank (simulated)", "simulated")
	wants(t, s.post("/my/add", url.Values{"ref": {"form-add-1"}, "product": {issuing.TransitBJ}}), "The card is in your band", "What happened in bytes", "install and make selectable")
	key := find(t, s.get("/my/"), `href="/my/cards/([0-9a-f]{10})"`)
	page := s.get("/my/cards/" + key)
	wants(t, page, "¥0.00", "ready", "Top up", "¥20.00")
	if strings.Contains(page, "03105170") {
		t.Error("the number stands there with the padding of its file")
	}
	top := url.Values{"ref": {"form-top-1"}, "amount": {"50"}}
	done := s.post("/my/cards/"+key+"/topup", top)
	wants(t, done, "¥50.00 is on the card", "Receipt", "CREDIT FOR LOAD")
	order := find(t, done, `(ord_[0-9a-z]+)`)
	wants(t, s.post("/my/cards/"+key+"/topup", top), order)
	wants(t, s.get("/my/wallet"), "¥130.00", "Top-up to a card", "Card deposit")
	wants(t, s.post("/my/cards/"+key+"/topup", url.Values{"ref": {"form-top-2"}, "other": {"5000"}}), "one top-up may not be that large")
	wants(t, s.post("/my/cards/"+key+"/topup", url.Values{"ref": {"form-top-3"}, "other": {"-5"}}), "this is not an amount")
	wants(t, s.post("/my/cards/"+key+"/block", url.Values{"ref": {"form-block"}}), "Block the card · Done")
	wants(t, s.get("/my/cards/"+key), "This card is blocked", "Unblock", "¥50.00")
	wants(t, s.get("/my/tap"), "no card to tap with")
	wants(t, s.post("/my/cards/"+key+"/unblock", url.Values{"ref": {"form-unblock"}}), "Done")
	wants(t, s.post("/my/cards/"+key+"/return", url.Values{"ref": {"form-return"}}), "Done")
	wants(t, s.get("/my/wallet"), "¥200.00", "Deposit returned")

	s.login("bob")
	for _, path := range []string{"/my/orders/" + order, "/my/cards/" + key, "/my/trips/none", "/my/taps/none"} {
		if status, _ := s.do("GET", path, nil); status != http.StatusNotFound {
			t.Errorf("somebody else's %s answers %d", path, status)
		}
	}
	if status, _ := s.do("POST", "/my/orders/"+order+"/cancel", url.Values{}); status != http.StatusNotFound {
		t.Errorf("somebody else's order can be cancelled: %d", status)
	}
}

func TestACutTopUpIsVerified(t *testing.T) {
	s := open(t)
	s.post("/my/wallet/fund", url.Values{"ref": {"form-fund-1"}, "amount": {"200"}})
	s.post("/my/add", url.Values{"ref": {"form-add-1"}, "product": {issuing.TransitBJ}})
	key := find(t, s.get("/my/"), `href="/my/cards/([0-9a-f]{10})"`)
	s.street.band.Suffer(band.Fault{Lose: 3}) // SELECT, INITIALIZE FOR LOAD, then CREDIT FOR LOAD's answer
	page := s.post("/my/cards/"+key+"/topup", url.Values{"ref": {"form-top-1"}, "amount": {"50"}})
	order := find(t, page, `(ord_[0-9a-z]+)`)
	if strings.Contains(page, "not confirmed") {
		wants(t, page, "The line broke at the decisive step", "Verify")
		page = s.post("/my/orders/"+order+"/verify", url.Values{})
	}
	wants(t, page, "¥50.00 is on the card", "✕")
	wants(t, s.get("/my/wallet"), "¥130.00")
}

func TestTapping(t *testing.T) {
	s := open(t)
	s.post("/my/wallet/fund", url.Values{"ref": {"form-fund-1"}, "amount": {"200"}})
	s.post("/my/add", url.Values{"ref": {"form-add-1"}, "product": {issuing.TransitBJ}})
	key := find(t, s.get("/my/"), `href="/my/cards/([0-9a-f]{10})"`)
	wants(t, s.get("/my/tap"), `href="/my/tap?at=dongdan"`, "Bus 1", "List of stations", "simulated")
	for _, at := range []string{"dongdan", "Dongdan", "东单", "g1"} {
		wants(t, s.get("/my/tap?at="+url.QueryEscape(at)), "Hold the band here", `value="g1"`, "Line 5")
	}
	form := url.Values{"ref": {"tap-00001"}, "gate": {"g1"}, "card": {key}, "early": {"1"}, "pull": {"6"}}
	wants(t, s.post("/my/tap", form), "The band left too early", "182 ms", "within 300 ms", "✕")
	if len(s.street.acts) != 1 || s.street.acts[0].Pull != 6 || s.street.acts[0].Gate != "g1" {
		t.Errorf("the street was told %+v", s.street.acts)
	}
	form.Set("pull", "99")
	if status, _ := s.do("POST", "/my/tap", form); status != http.StatusUnprocessableEntity {
		t.Errorf("pulled away in command 99: %d", status)
	}
}

func TestTrips(t *testing.T) {
	s := open(t)
	wants(t, s.get("/my/trips"), "No trips yet")
	at := func(id, zh, en string) *wearer.Place {
		return &wearer.Place{Station: id, Name: web.Text{ZH: zh, EN: en}, At: time.Date(2015, 9, 15, 0, 1, 0, 0, time.UTC)}
	}
	s.street.rides = []wearer.Trip{
		{ID: "jny_1", In: at("xidan", "西单", "Xidan"), Out: at("dongdan", "东单", "Dongdan"), Fen: 300, Metres: 3300, Route: []string{"xidan", "dongdan"},
			State: web.Same("closed"), Lines: []fare.Line{{EN: "up to 6 km", ZH: "6 公里内", Fen: 300}}},
		{ID: "jny_2", In: at("xidan", "西单", "Xidan"), Missing: true, State: web.Same("incomplete")},
	}
	wants(t, s.get("/my/trips/jny_1"), "Xidan → Dongdan", "up to 6 km", "+¥3.00", "You paid", "3.3 km", `class="route"`, "2015-09-15 08:01:00")
	wants(t, s.get("/my/trips/jny_2"), "Where did you leave?", "no exit on record", `value="dongdan"`)
}
