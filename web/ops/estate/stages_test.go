package estate_test

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
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
	"koala/switching"
	"koala/switching/pack"
	"koala/switching/rollout"
	"koala/wallet"
	"koala/web"
	"koala/web/ops/estate"
	"koala/web/ops/shell"
)

// staff logs everybody in who says their name.
type staff struct{}

func (staff) Login(_ context.Context, name, _ string) (web.User, error) {
	return web.User{Name: name, Subject: name, Shown: name, Roles: []web.Role{web.Operator}}, nil
}

func (s staff) User(ctx context.Context, subject string) (web.User, bool, error) {
	u, err := s.Login(ctx, subject, "")
	return u, true, err
}

// An office is the console's pages of terminals over a real switch.
type office struct {
	testing.TB
	store  *db.Store
	host   *switching.Host
	server *httptest.Server
}

func open(t testing.TB, store *db.Store) *office {
	ctx := t.Context()
	o := &office{TB: t, store: store}
	book, err := ledger.Open(ctx, store, ledger.Config{Inline: true})
	o.must(err)
	t.Cleanup(func() { book.Close() })
	keys, err := hsm.Open(ctx, store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(6)})
	o.must(err)
	_, err = keys.Generate(ctx, pack.Label, hsm.Signing)
	o.must(errors.Join(err, store.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, merchant.Schema, issuing.Schema, proposal.Schema, switching.Schema, shell.Schema)))
	o.host = switching.New(store, keys, issuing.NewBank(store, keys), nil, switching.Config{})
	kit, err := web.New(ctx, web.Config{Store: store, Accounts: staff{}, Rand: clock.Random(10), Now: store.Now, Log: slog.New(slog.DiscardHandler)})
	o.must(err)
	m := kit.Mux(web.Staff)
	estate.Routes(m, estate.Deps{Desk: shell.Desk{Kit: kit, Store: store}, Switch: o.host})
	mux := http.NewServeMux()
	mux.Handle("/ops/", m)
	o.server = httptest.NewServer(kit.House(mux))
	t.Cleanup(o.server.Close)
	return o
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

// A browser is somebody at the console.
type browser struct {
	*office
	client *http.Client
}

func (o *office) as(name string) browser {
	jar, err := cookiejar.New(nil)
	o.must(err)
	b := browser{o, &http.Client{Jar: jar}}
	b.send("POST", "/login", url.Values{"name": {name}, "password": {"x"}, "back": {"/ops/terminals/stages"}})
	return b
}

func (b browser) send(method, path string, form url.Values) (int, string) {
	b.Helper()
	req, err := http.NewRequest(method, b.server.URL+path, strings.NewReader(form.Encode()))
	b.must(err)
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", "en")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	rsp, err := b.client.Do(req)
	b.must(err)
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	b.must(err)
	return rsp.StatusCode, string(body)
}

func (b browser) page(path string) string {
	b.Helper()
	code, body := b.send("GET", path, nil)
	if code != http.StatusOK {
		b.Fatalf("%s: %d\n%.400s", path, code, body)
	}
	return body
}

const stages = "/ops/terminals/stages"

var proposalID = regexp.MustCompile(`proposals/(prop_\w+)/`)

func settings(wait string) url.Values {
	return url.Values{"wait": {wait}, "redial": {"3"}, "resend": {"3"}, "signoff": {"0"}, "tap": {"1000"}, "cvm": {"300"}, "ecash": {"1000"}, "black": {"0"}, "why": {"a reason"}}
}

// standing is the newest pack, and the acts that were kept.
func (o *office) standing() (p rollout.Pack, deeds int) {
	o.must(o.store.Read(context.Background(), func(q *db.Query) error {
		list, err := rollout.Packs(q, 0, 1)
		if err != nil {
			return err
		}
		p = list[0]
		trail, err := shell.Deeds(q, shell.Deed{Target: stages}, "", 50)
		deeds = len(trail)
		return err
	}))
	return p, deeds
}

// TestTwoPeople: a pack is made, widened, stopped and gone back from by one who
// proposes and another who confirms; what is refused leaves neither act nor
// deed.
func TestTwoPeople(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		o := open(t, s)
		lin, wang := o.as("lin"), o.as("wang")
		if p := lin.page(stages); !strings.Contains(p, "the first pack") || proposalID.MatchString(p) {
			t.Errorf("%.2000s", p)
		}
		why := url.Values{"why": {"a reason"}}
		deeds := 0
		for _, step := range []struct {
			act    string
			form   url.Values
			number uint32
			ring   int
			halted bool
		}{
			{"make", settings("45"), 2, 0, false}, {"on", why, 2, 1, false}, {"stop", why, 2, 1, true}, {"back", why, 3, 1, false}, {"on", why, 3, 2, false},
		} {
			lin.send("POST", stages+"/propose/"+step.act, step.form)
			id := proposalID.FindStringSubmatch(wang.page(stages))
			if id == nil {
				t.Fatalf("%s is not proposed", step.act)
			}
			before, _ := o.standing()
			lin.send("POST", stages+"/proposals/"+id[1]+"/confirm", why) // not by oneself
			if p, n := o.standing(); p.Number != before.Number || p.Ring != before.Ring || p.Halted != before.Halted || n != deeds+1 {
				t.Errorf("%s by oneself: %+v, %d deeds", step.act, p, n)
			}
			if p := lin.page(stages); strings.Contains(p, id[1]+"/confirm") || !strings.Contains(p, id[1]+"/undo") {
				t.Errorf("%s: who proposed may confirm, or not take it back", step.act)
			}
			wang.send("POST", stages+"/proposals/"+id[1]+"/confirm", why)
			wang.send("POST", stages+"/proposals/"+id[1]+"/confirm", why) // once
			p, n := o.standing()
			if deeds += 2; p.Number != step.number || p.Ring != step.ring || p.Halted != step.halted || n != deeds {
				t.Errorf("%s: %d in ring %d, halted %v, %d deeds, want %+v and %d", step.act, p.Number, p.Ring, p.Halted, n, step, deeds)
			}
		}
		if p := wang.page(stages + "/2"); !strings.Contains(p, "Seconds to wait") || !strings.Contains(p, ">45<") {
			t.Error("the page of pack 2 does not say what changed")
		}
		if p := wang.page(stages); !strings.Contains(p, "as number 1 again") {
			t.Error("going back is not said")
		}
		for _, bad := range []url.Values{settings("3"), settings("x"), {"why": {"a reason"}}} {
			lin.send("POST", stages+"/propose/make", bad)
		}
		lin.send("POST", stages+"/propose/sell", why)
		lin.send("POST", stages+"/propose/on", nil) // without a reason
		if _, n := o.standing(); n != deeds || proposalID.MatchString(lin.page(stages)) {
			t.Errorf("%d deeds, want %d", n, deeds)
		}
		if code, _ := wang.send("GET", stages+"/9", nil); code != http.StatusNotFound {
			t.Error(code)
		}
	})
}

// TestWholeEstate: more terminals than any page are counted and asked at once.
func TestWholeEstate(t *testing.T) {
	o := open(t, dbtest.Open(t, func(*db.Config) {}))
	const all = 20_500
	now := o.store.Now()
	o.must(o.store.Write(t.Context(), func(tx *db.Tx) error {
		for n := range all {
			if _, err := (rollout.Carrier{TID: fmt.Sprintf("%08d", n), Seen: now.Add(-time.Hour)}).Keep(tx); err != nil {
				return err
			}
		}
		return nil
	}))
	lin := o.as("lin")
	if p := lin.page(stages); !strings.Contains(p, "0 / 20") {
		t.Error("not all are counted")
	}
	lin.send("POST", stages, url.Values{"decision": {"2"}, "ring": {"3"}, "why": {"a reason"}})
	lin.send("POST", stages, url.Values{"decision": {"1"}, "ring": {"3"}, "why": {"a reason"}}) // that comes by packs
	o.must(o.store.Read(t.Context(), func(q *db.Query) error {
		n, err := rollout.Asking(q)
		if n[2] != all || len(n) != 1 {
			t.Errorf("%v are asked", n)
		}
		return err
	}))
	if _, deeds := o.standing(); deeds != 1 {
		t.Errorf("%d deeds", deeds)
	}
}
