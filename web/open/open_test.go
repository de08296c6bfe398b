package open_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/once"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/open"
)

var update = flag.Bool("update", false, "rewrite testdata")

var ctx = context.Background()

// A house is what the API stands on, with a partner and a wearer's band.
type house struct {
	t      *testing.T
	now    *clock.Virtual
	store  *db.Store
	tsm    *tsm.Manager
	server *httptest.Server
	keys   map[string]string // by partner and rights
	refs   int
}

func openHouse(t *testing.T) *house {
	t.Helper()
	return openOn(t, db.Config{URL: dbtest.File(t)})
}

// openOn is openHouse on a kind of store.
func openOn(t *testing.T, cfg db.Config) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC)), keys: map[string]string{}}
	cfg.Clock, cfg.Rand, cfg.Inline = h.now, clock.Random(7), true
	store, err := db.Open(ctx, cfg)
	h.must(err)
	t.Cleanup(func() { store.Close() })
	h.store = store
	h.must(h.store.Migrate(ctx, outbox.Schema, customer.Schema, wallet.Schema, issuing.Schema, tsm.Schema, once.Schema, open.Schema))
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	h.must(err)
	t.Cleanup(func() { book.Close() })
	keys, err := hsm.Open(ctx, h.store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(8)})
	h.must(err)
	h.must(keys.Provision(ctx))
	h.tsm = tsm.New(h.store, keys, tsm.Config{})
	h.do(func(tx *db.Tx) error {
		return errors.Join(wallet.OpenHouse(tx), wallet.Open(tx, "cust_lin"), issuing.Seed(tx), h.tsm.Register(tx, "band_lin", "cust_lin"))
	})
	kit, err := web.New(ctx, web.Config{Store: h.store, Rand: clock.Random(10), Now: h.now.Now, Log: slog.New(slog.DiscardHandler)})
	h.must(err)
	programs, people := open.New(open.Deps{Kit: kit, Store: h.store, TSM: h.tsm, Now: h.now.Now, Log: slog.New(slog.DiscardHandler),
		Ref: func() string { h.refs++; return fmt.Sprintf("%024d", h.refs) }})
	mux := http.NewServeMux()
	mux.Handle("/v1/", programs)
	mux.Handle("/developers", people)
	h.server = httptest.NewServer(kit.House(mux, "/v1/"))
	t.Cleanup(h.server.Close)
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) do(f func(*db.Tx) error) { h.t.Helper(); h.must(h.store.Write(ctx, f)) }

// key makes a partner's key.
func (h *house) key(partner string, scopes ...open.Scope) string {
	h.t.Helper()
	id := partner + fmt.Sprint(scopes)
	if text, ok := h.keys[id]; ok {
		return text
	}
	text := open.KeyText(bytes.Repeat([]byte{byte(len(h.keys) + 1)}, 24))
	h.do(func(tx *db.Tx) error {
		if err := open.AddPartner(tx, open.Partner{Code: partner, NameEN: partner, NameZH: partner}); err != nil {
			return err
		}
		_, err := open.AddKey(tx, open.Key{Partner: partner, Name: "test", Scopes: scopes, By: "mei"}, fmt.Sprint("form", len(h.keys)), text)
		return err
	})
	h.keys[id] = text
	return text
}

// An ask is a request.
type ask struct {
	method, path, key, idem, body string
	header                        map[string]string
}

// An answered is what came back.
type answered struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

func (a answered) text(field string) string { s, _ := a.json[field].(string); return s }

func (h *house) send(a ask) answered {
	h.t.Helper()
	req, err := http.NewRequest(a.method, h.server.URL+a.path, strings.NewReader(a.body))
	h.must(err)
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	if a.idem != "" {
		req.Header.Set("Idempotency-Key", a.idem)
	}
	if a.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range a.header {
		req.Header.Set(k, v)
	}
	rsp, err := http.DefaultClient.Do(req)
	h.must(err)
	defer rsp.Body.Close()
	out := answered{status: rsp.StatusCode, header: rsp.Header}
	out.body, err = io.ReadAll(rsp.Body)
	h.must(err)
	_ = json.Unmarshal(out.body, &out.json)
	return out
}

const coupon = `{"code": "lunch-club", "kind": "coupon", "name_en": "Lunch club", "name_zh": "午餐会",
 "coupon": {"gives": "amount", "value": 500, "minimum_fen": 2000, "uses": 10, "days": 90}}`

// wish is the body that orders a card.
func wish(template, reference, code string) string {
	return fmt.Sprintf(`{"template": %q, "reference": %q, "consent": %q}`, template, reference, code)
}

// agree is a code that the band's wearer makes for a firm, or for any.
func (h *house) agree(firm string) (code string) {
	h.t.Helper()
	_, code = h.consent("band_lin", "cust_lin", firm)
	return code
}

func (h *house) consent(band, owner, firm string) (c open.Consent, code string) {
	h.t.Helper()
	h.refs++
	chance := make([]byte, 8)
	_, _ = clock.Random(uint64(h.refs)).Read(chance)
	h.do(func(tx *db.Tx) (err error) {
		c, code, err = open.Agree(tx, h.now.Now(), owner, band, firm, fmt.Sprint("form ", h.refs), chance)
		return err
	})
	return c, code
}

// approved describes a template of a partner and takes it all the way.
func (h *house) approved(key, body string) string {
	h.t.Helper()
	h.refs++
	id := h.send(ask{"POST", "/v1/card-templates", key, fmt.Sprint("a", h.refs), body, nil}).text("id")
	h.send(ask{"POST", "/v1/card-templates/" + id + "/submit", key, fmt.Sprint("b", h.refs), "", nil})
	h.do(func(tx *db.Tx) error {
		list, err := issuing.Templates(tx, "", 1)
		if err == nil {
			_, err = issuing.Approve(tx, list[0].ID, "mei")
		}
		return err
	})
	return id
}

func TestFromTemplateToCard(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) { fromTemplateToCard(t, openOn(t, cfg)) })
}

func fromTemplateToCard(t *testing.T, h *house) {
	key := h.key("jiahe", open.Scopes...)
	made := h.send(ask{"POST", "/v1/card-templates", key, "k1", coupon, nil})
	id := made.text("id")
	if made.status != 201 || made.text("state") != "draft" || made.header.Get("Location") != "/v1/card-templates/"+id {
		t.Fatalf("draft: %d %s", made.status, made.body)
	}
	early := h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "k2", wish(id, "m1", h.agree("")), nil})
	if early.status != 409 || early.text("code") != "open.not_on_sale" {
		t.Errorf("a card of a draft: %d %s", early.status, early.body)
	}
	if got := h.send(ask{"POST", "/v1/card-templates/" + id + "/submit", key, "k3", "", nil}); got.status != 200 || got.text("state") != "submitted" {
		t.Fatalf("submitted: %d %s", got.status, got.body)
	}
	h.do(func(tx *db.Tx) error {
		list, err := issuing.Templates(tx, "jiahe", 1)
		if err == nil {
			_, err = issuing.Approve(tx, list[0].ID, "mei")
		}
		return err
	})
	if got := h.send(ask{"GET", "/v1/card-templates/" + id, key, "", "", nil}); got.text("state") != "approved" || got.json["version"] != 1.0 {
		t.Errorf("approved: %s", got.body)
	}
	ordered := h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "k4", wish(id, "m1", h.agree("")), nil})
	order := ordered.text("id")
	if ordered.status != 202 || ordered.text("state") != "waiting" || ordered.header.Get("Location") != "/v1/orders/"+order {
		t.Fatalf("ordered: %d %s", ordered.status, ordered.body)
	}
	again := h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "k5", wish(id, "m1", h.agree("")), nil})
	if again.status != 202 || again.text("id") != order {
		t.Errorf("the same reference under another key: %d %s", again.status, again.body)
	}
	if got := h.send(ask{"GET", "/v1/orders/" + order, key, "", "", nil}); got.text("card") != ordered.text("card") || got.json["steps"].(float64) < 3 {
		t.Errorf("order: %s", got.body)
	}
	card := h.send(ask{"GET", "/v1/cards/" + ordered.text("card"), key, "", "", nil})
	if card.text("state") != "ordered" || card.text("reference") != "m1" || strings.Contains(string(card.body), "cust_") {
		t.Errorf("card: %s", card.body)
	}
}

func TestOncePerKey(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	first := h.send(ask{"POST", "/v1/card-templates", key, "same", coupon, nil})
	second := h.send(ask{"POST", "/v1/card-templates", key, "same", coupon, nil})
	if second.status != 201 || second.text("id") != first.text("id") || second.header.Get("Idempotent-Replayed") != "true" || second.header.Get("Location") == "" {
		t.Errorf("again: %d %s %v", second.status, second.body, second.header)
	}
	if first.header.Get("Idempotent-Replayed") != "" {
		t.Error("the first answer says that it is old")
	}
	third := h.send(ask{"POST", "/v1/card-templates", key, "same", strings.Replace(coupon, "500", "600", 1), nil})
	if third.status != 409 || third.text("code") != "once.differs" {
		t.Errorf("another request: %d %s", third.status, third.body)
	}
	other := h.send(ask{"POST", "/v1/card-templates", h.key("other", open.Scopes...), "same", coupon, nil})
	if other.status != 201 || other.text("id") == first.text("id") {
		t.Errorf("another partner's key: %d %s", other.status, other.body)
	}
	if list := h.send(ask{"GET", "/v1/card-templates", key, "", "", nil}); len(list.json["data"].([]any)) != 1 {
		t.Errorf("list: %s", list.body)
	}
}

func TestAReferenceNamesOneOrder(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	a := h.approved(key, coupon)
	b := h.approved(key, strings.Replace(coupon, "lunch-club", "tea-club", 1))
	h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "1", wish(a, "m1", h.agree("")), nil})
	got := h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "2", wish(b, "m1", h.agree("")), nil})
	if got.status != 409 || got.text("code") != "open.reference" {
		t.Errorf("the reference again for another card: %d %s", got.status, got.body)
	}
	got = h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "3", wish(a, "m2", h.agree("")), nil})
	if got.status != 409 || got.text("code") != "issuing.band_has_card" {
		t.Errorf("a second card of the kind: %d %s", got.status, got.body)
	}
}

func TestRefusals(t *testing.T) {
	h := openHouse(t)
	all, reads := h.key("jiahe", open.Scopes...), h.key("jiahe", open.ReadTemplates)
	mine := h.approved(all, coupon)
	order := h.send(ask{"POST", "/v1/bands/band_lin/cards", all, "o", wish(mine, "m1", h.agree("")), nil})
	stranger := h.key("other", open.Scopes...)
	revoked := h.key("third", open.Scopes...)
	h.do(func(tx *db.Tx) error {
		list, err := open.KeysOf(tx, "third")
		return errors.Join(err, open.Revoke(tx, "third", list[0].ID))
	})
	door := `{"code": "site", "kind": "door", "name_en": "Site", "name_zh": "门禁", "door": {"site": 7, "days": 30}}`
	for _, tt := range []struct {
		name   string
		ask    ask
		status int
		code   string
	}{
		{"no key", ask{"GET", "/v1/card-templates", "", "", "", nil}, 401, "open.key"},
		{"unknown key", ask{"GET", "/v1/card-templates", "koala_" + strings.Repeat("0", 48), "", "", nil}, 401, "open.key"},
		{"revoked key", ask{"GET", "/v1/card-templates", revoked, "", "", nil}, 401, "open.key"},
		{"basic", ask{"GET", "/v1/card-templates", "", "", "", map[string]string{"Authorization": "Basic " + all}}, 401, "open.key"},
		{"no right", ask{"POST", "/v1/card-templates", reads, "k", coupon, nil}, 403, "open.scope"},
		{"no idempotency key", ask{"POST", "/v1/card-templates", all, "", coupon, nil}, 422, "open.request"},
		{"key with a space", ask{"POST", "/v1/card-templates", all, "a b", coupon, nil}, 422, "open.request"},
		{"no JSON", ask{"POST", "/v1/card-templates", all, "k", "{", nil}, 400, "open.request"},
		{"unknown field", ask{"POST", "/v1/card-templates", all, "k", strings.Replace(coupon, `"kind"`, `"pin": "4711", "kind"`, 1), nil}, 422, "open.request"},
		{"bad code", ask{"POST", "/v1/card-templates", all, "k", strings.Replace(coupon, "lunch-club", "Lunch Club", 1), nil}, 422, "open.request"},
		{"bank card", ask{"POST", "/v1/card-templates", all, "k", strings.Replace(coupon, `"coupon", "name`, `"debit", "name`, 1), nil}, 422, "open.request"},
		{"two kinds", ask{"POST", "/v1/card-templates", all, "k", strings.Replace(door, `"door": {`, `"canteen": {"site": "x"}, "door": {`, 1), nil}, 422, "open.request"},
		{"too long", ask{"POST", "/v1/card-templates", all, "k", `{"code":"` + strings.Repeat("a", 64<<10), nil}, 413, "open.request"},
		{"another partner's template", ask{"GET", "/v1/card-templates/" + mine, stranger, "", "", nil}, 404, "open.not_found"},
		{"another partner's order", ask{"GET", "/v1/orders/" + order.text("id"), stranger, "", "", nil}, 404, "open.not_found"},
		{"another partner's card", ask{"GET", "/v1/cards/" + order.text("card"), stranger, "", "", nil}, 404, "open.not_found"},
		{"another partner's template for a card", ask{"POST", "/v1/bands/band_lin/cards", stranger, "k", wish(mine, "x", "ABCD-EFGH"), nil}, 404, "open.not_found"},
		{"no band", ask{"POST", "/v1/bands/band_no/cards", all, "k", wish(mine, "x", "ABCD-EFGH"), nil}, 404, "tsm.band_not_found"},
		{"no such thing", ask{"GET", "/v1/wishes", all, "", "", nil}, 404, "web.no_page"},
		{"method", ask{"DELETE", "/v1/card-templates", all, "", "", nil}, 405, "web.method"},
		{"limit", ask{"GET", "/v1/card-templates?limit=1000", all, "", "", nil}, 422, "open.request"},
	} {
		h.now.Advance(time.Second)
		got := h.send(tt.ask)
		if got.status != tt.status || got.text("code") != tt.code || got.header.Get("Content-Type") != "application/problem+json" ||
			got.text("type") != "/developers#"+tt.code || got.json["status"] != float64(tt.status) || got.text("request_id") != got.header.Get("X-Request-Id") {
			t.Errorf("%s: %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
		if strings.Contains(string(got.body), "4711") || strings.Contains(string(got.body), "koala_0") || strings.Contains(string(got.body), "Lunch Club") {
			t.Errorf("%s: the answer repeats what was sent: %s", tt.name, got.body)
		}
	}
}

func TestAWrongTemplateSaysWhat(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	id := h.send(ask{"POST", "/v1/card-templates", key, "1", strings.Replace(coupon, `"amount", "value": 500`, `"stamps", "value": 0`, 1), nil}).text("id")
	got := h.send(ask{"POST", "/v1/card-templates/" + id + "/submit", key, "2", "", nil})
	if got.status != 422 || got.text("code") != "issuing.template" || len(got.text("detail")) <= len(issuing.ErrTemplate.Text)+2 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestPagesOfTemplates(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	for i := range 5 {
		h.send(ask{"POST", "/v1/card-templates", key, fmt.Sprint(i), strings.Replace(coupon, "lunch", fmt.Sprint("lunch", i), 1), nil})
	}
	seen, path := map[string]bool{}, "/v1/card-templates?limit=2"
	for range 5 {
		page := h.send(ask{"GET", path, key, "", "", nil})
		for _, x := range page.json["data"].([]any) {
			seen[x.(map[string]any)["id"].(string)] = true
		}
		if page.text("next") == "" {
			break
		}
		path = "/v1/card-templates?limit=2&after=" + page.text("next")
	}
	if len(seen) != 5 {
		t.Errorf("saw %d of 5", len(seen))
	}
}

func TestTooManyRequests(t *testing.T) {
	h := openHouse(t)
	key, other := h.key("jiahe", open.Scopes...), h.key("other", open.Scopes...)
	for i := range 40 {
		if got := h.send(ask{"GET", "/v1/card-templates", key, "", "", nil}); got.status != 200 || got.header.Get("RateLimit-Remaining") != fmt.Sprint(39-i) {
			t.Fatalf("request %d: %d %v", i, got.status, got.header)
		}
	}
	got := h.send(ask{"GET", "/v1/card-templates", key, "", "", nil})
	if got.status != 429 || got.text("code") != "open.rate" || got.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s %v", got.status, got.body, got.header)
	}
	if got := h.send(ask{"GET", "/v1/card-templates", other, "", "", nil}); got.status != 200 {
		t.Errorf("another key: %d", got.status)
	}
	h.now.Advance(time.Second)
	if got := h.send(ask{"GET", "/v1/card-templates", key, "", "", nil}); got.status != 200 {
		t.Errorf("a second later: %d", got.status)
	}
}

func TestEveryRequestHasItsRow(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) { everyRequestHasItsRow(t, openOn(t, cfg)) })
}

func everyRequestHasItsRow(t *testing.T, h *house) {
	key := h.key("jiahe", open.Scopes...)
	h.send(ask{"POST", "/v1/card-templates", key, "k", coupon, nil})
	h.send(ask{"POST", "/v1/card-templates", key, "k", coupon, nil})
	bad := h.send(ask{"GET", "/v1/orders/none", key, "", "", nil})
	h.must(h.store.Read(ctx, func(q *db.Query) error {
		rows, err := open.RequestsOf(q, "jiahe", "", 10)
		if err != nil || len(rows) != 3 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		if r := rows[0]; r.ID != bad.header.Get("X-Request-Id") || r.Status != 404 || r.Code != "open.not_found" || r.Path != "/v1/orders/none" {
			t.Errorf("row %+v", r)
		}
		if !rows[1].Replayed || rows[2].Replayed || rows[2].Status != 201 {
			t.Errorf("rows %+v", rows)
		}
		keys, err := open.KeysOf(q, "jiahe")
		if !keys[0].Used.Equal(h.now.Now()) || strings.Contains(fmt.Sprintf("%+v", keys), key) {
			t.Errorf("keys %+v", keys)
		}
		return err
	}))
	h.now.Advance(40 * 24 * time.Hour)
	h.do(open.Forget)
	h.must(h.store.Read(ctx, func(q *db.Query) error {
		rows, err := open.RequestsOf(q, "jiahe", "", 10)
		if len(rows) != 0 {
			t.Error("old rows stay")
		}
		return err
	}))
}

func TestPartnersAndKeys(t *testing.T) {
	h := openHouse(t)
	for _, p := range []open.Partner{{Code: "koala", NameEN: "a", NameZH: "b"}, {Code: "Big", NameEN: "a", NameZH: "b"}, {Code: "-x", NameEN: "a", NameZH: "b"}, {Code: "x", NameZH: "b"}} {
		if err := h.store.Write(ctx, func(tx *db.Tx) error { return open.AddPartner(tx, p) }); !errors.Is(err, open.ErrPartner) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	h.key("jiahe", open.Scopes...)
	text := open.KeyText(bytes.Repeat([]byte{9}, 24))
	for _, tt := range []struct {
		key  open.Key
		form string
		want error
	}{
		{open.Key{Partner: "none", Name: "x", Scopes: open.Scopes}, "f", open.ErrNoPartner}, {open.Key{Partner: "jiahe", Name: "x"}, "f", open.ErrPartner},
		{open.Key{Partner: "jiahe", Name: "x", Scopes: []open.Scope{"all"}}, "f", open.ErrPartner}, {open.Key{Partner: "jiahe", Name: "x", Scopes: open.Scopes}, "form0", open.ErrShown},
	} {
		err := h.store.Write(ctx, func(tx *db.Tx) error { _, err := open.AddKey(tx, tt.key, tt.form, text); return err })
		if !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.key, err, tt.want)
		}
	}
	if err := h.store.Write(ctx, func(tx *db.Tx) error { return open.Revoke(tx, "other", "key_1") }); !errors.Is(err, open.ErrNoPartner) {
		t.Errorf("revoking nothing: %v", err)
	}
}

// TestContract holds the description: what programs were written to stays.
func TestContract(t *testing.T) {
	h := openHouse(t)
	got := h.send(ask{"GET", "/v1/openapi.json", "", "", "", nil})
	if got.status != 200 || got.text("openapi") != "3.1.0" {
		t.Fatalf("%d %.80s", got.status, got.body)
	}
	const file = "testdata/openapi.json"
	if *update {
		h.must(os.WriteFile(file, got.body, 0o644))
	}
	want, err := os.ReadFile(file)
	h.must(err)
	if !bytes.Equal(got.body, want) {
		t.Error("the description differs from testdata/openapi.json: fields may be added, none renamed; -update rewrites it")
	}
}

// TestAnswersAreAsDescribed validates real answers against the description.
func TestAnswersAreAsDescribed(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	id := h.approved(key, coupon)
	order := h.send(ask{"POST", "/v1/bands/band_lin/cards", key, "o", wish(id, "m1", h.agree("")), nil})
	for schema, a := range map[string]answered{
		"CardTemplate": h.send(ask{"GET", "/v1/card-templates/" + id, key, "", "", nil}),
		"TemplatePage": h.send(ask{"GET", "/v1/card-templates", key, "", "", nil}),
		"Order":        h.send(ask{"GET", "/v1/orders/" + order.text("id"), key, "", "", nil}),
		"Card":         h.send(ask{"GET", "/v1/cards/" + order.text("card"), key, "", "", nil}),
		"Problem":      h.send(ask{"GET", "/v1/orders/none", key, "", "", nil}),
	} {
		h.described(schema, a.body)
	}
	for id, body := range open.Bodies() {
		h.described(map[string]string{"create-card-template": "NewTemplate", "issue-card": "NewCard"}[id], []byte(body))
	}
}

func (h *house) described(schema string, body []byte) {
	h.t.Helper()
	reg := open.Schemas()
	s := reg.Map()[schema]
	if s == nil {
		h.t.Fatalf("no schema %s", schema)
	}
	var v any
	h.must(json.Unmarshal(body, &v))
	res := &huma.ValidateResult{}
	huma.Validate(reg, s, huma.NewPathBuffer([]byte{}, 0), huma.ModeReadFromServer, v, res)
	for _, err := range res.Errors {
		h.t.Errorf("%s: %v\n%s", schema, err, body)
	}
}

func TestDevelopersInBothLanguages(t *testing.T) {
	h := openHouse(t)
	han := regexp.MustCompile(`>[^<]*\p{Han}[^<]*<`)
	for _, lang := range []string{"zh", "en"} {
		got := h.send(ask{"GET", "/developers", "", "", "", map[string]string{"Accept": "text/html", "Accept-Language": lang}})
		body := string(got.body)
		if got.status != 200 || !strings.Contains(body, "/v1/bands/{band}/cards") || !strings.Contains(body, "Idempotency-Key") || strings.Contains(body, "%!") {
			t.Errorf("%s: %d", lang, got.status)
		}
		if lang == "en" {
			for _, m := range han.FindAllString(body, -1) {
				if !strings.Contains(m, "午餐会") && !strings.Contains(m, "中文") {
					t.Errorf("English says %q", m)
				}
			}
		}
	}
}
