package shell_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/web"
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

// A door is a change of a test: one whose number is above nine cannot be made.
type door struct {
	Number int
	house  *house
	ready  bool // prepared
}

func (c door) Text(db.Reader) web.Text { return web.Same(fmt.Sprintf("door %d", c.Number)) }

func (c door) Deed(proposal.State) shell.Deed {
	return shell.Deed{Act: shell.ActDoubt, Target: "/ops/doors", What: c.Text(nil).EN}
}

func (c door) Holds(db.Reader, time.Time) error {
	if c.house.shut {
		return proposal.ErrState
	}
	return nil
}

func (c *door) Prepare(context.Context) error {
	c.ready = true
	return nil
}

func (c door) Make(tx *db.Tx, p proposal.Proposal) error {
	if c.Number > 9 {
		return proposal.ErrSame
	}
	tx.After(func() { c.house.made = append(c.house.made, fmt.Sprint(p.By, " ", p.Decider, " ", c.ready)) })
	return nil
}

// A house is what was made of its doors.
type house struct {
	shut bool // no change holds
	made []string
}

// TestTwo: what one proposes another confirms, once; nothing is made before, and
// each step that came about has its deed.
func TestTwo(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(s.Migrate(t.Context(), proposal.Schema, shell.Schema))
		kit, err := web.New(t.Context(), web.Config{Store: s, Accounts: staff{}, Rand: clock.Random(10), Now: s.Now, Log: slog.New(slog.DiscardHandler)})
		must(err)
		h, desk := &house{}, shell.Desk{Kit: kit, Store: s}
		two := shell.Two{Path: "/ops/doors/%[1]s/%[2]s", Kinds: map[string]func() shell.Change{"door": func() shell.Change { return &door{house: h} }}}
		m := kit.Mux(web.Staff)
		m.Handle("GET /ops/doors", func(w http.ResponseWriter, r *http.Request) error {
			return s.Read(r.Context(), func(q *db.Query) error {
				table, ask, err := two.Waiting(r.Context(), q, "door")
				for _, row := range table.Rows {
					fmt.Fprintln(w, row.Cells[0].Text)
				}
				for _, x := range ask {
					fmt.Fprintln(w, x.Action)
				}
				return err
			})
		})
		m.Handle("POST /ops/doors/{kind}/{id}/{act}", func(w http.ResponseWriter, r *http.Request) error {
			return two.Decide(desk, w, r, r.PathValue("kind"), r.PathValue("id"), r.PathValue("act"))
		})
		m.Handle("POST /ops/doors", func(w http.ResponseWriter, r *http.Request) error {
			c := door{Number: len(r.FormValue("number")), house: h}
			return two.Propose(desk, w, r, "/ops/doors?form", fmt.Sprint("door:", c.Number), c)
		})
		mux := http.NewServeMux()
		mux.Handle("/ops/", m)
		server := httptest.NewServer(kit.House(mux))
		defer server.Close()
		as := func(name string) func(method, path string, form url.Values) (int, string) {
			jar, err := cookiejar.New(nil)
			must(err)
			client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			send := func(method, path string, form url.Values) (int, string) {
				t.Helper()
				req, err := http.NewRequest(method, server.URL+path, strings.NewReader(form.Encode()))
				must(err)
				req.Header.Set("Sec-Fetch-Site", "same-origin")
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				resp, err := client.Do(req)
				must(err)
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				must(err)
				return resp.StatusCode, string(body) + resp.Header.Get("Location")
			}
			send("POST", "/login", url.Values{"name": {name}, "password": {"x"}, "back": {"/ops/doors"}})
			return send
		}
		lin, wang := as("lin"), as("wang")
		form := func(number int) url.Values {
			return url.Values{"why": {"a reason"}, "number": {strings.Repeat("x", number)}}
		}
		id := func() string {
			t.Helper()
			var list []proposal.Proposal
			must(s.Read(t.Context(), func(q *db.Query) (err error) { list, err = proposal.Waiting(q, "door", 9); return err }))
			if len(list) != 1 {
				t.Fatalf("%d wait", len(list))
			}
			return "/ops/doors/door/" + list[0].ID
		}
		if code, to := lin("POST", "/ops/doors", form(10)); code != 303 || to != "/ops/doors?form" {
			t.Errorf("what cannot be made: %d %s", code, to)
		}
		if code, to := lin("POST", "/ops/doors", url.Values{"number": {"x"}}); code != 303 || to != "/ops/doors?form" {
			t.Errorf("without a reason: %d %s", code, to)
		}
		if code, to := lin("POST", "/ops/doors", form(1)); code != 303 || to != "/ops/doors" || len(h.made) != 0 {
			t.Errorf("proposed: %d %s, made %v", code, to, h.made)
		}
		at := id()
		if _, page := lin("GET", "/ops/doors", nil); page != "door 1\n"+at+"/undo\n" {
			t.Errorf("who proposed may %s", page)
		}
		if _, page := wang("GET", "/ops/doors", nil); page != "door 1\n"+at+"/confirm\n"+at+"/undo\n" {
			t.Errorf("another may %s", page)
		}
		if code, _ := wang("POST", at+"/burn", form(0)); code != http.StatusNotFound {
			t.Errorf("another act: %d", code)
		}
		if code, _ := wang("POST", strings.Replace(at, "door/", "gate/", 1)+"/confirm", form(0)); code != http.StatusNotFound {
			t.Errorf("another kind: %d", code)
		}
		lin("POST", at+"/confirm", form(0))
		h.shut = true
		wang("POST", at+"/confirm", form(0))
		h.shut = false
		if len(h.made) != 0 || id() != at {
			t.Errorf("made by one, or what does not hold: %v", h.made)
		}
		wang("POST", at+"/confirm", form(0))
		wang("POST", at+"/confirm", form(0))
		if !slices.Equal(h.made, []string{"lin wang true"}) {
			t.Errorf("made: %v", h.made)
		}
		lin("POST", "/ops/doors", form(2))
		lin("POST", id()+"/undo", form(0))
		var told []string
		must(s.Read(t.Context(), func(q *db.Query) error {
			list, err := shell.Deeds(q, shell.Deed{}, "", 9)
			for _, d := range list {
				told = append(told, d.Who+" "+d.What)
			}
			return err
		}))
		if want := []string{"lin taken back: door 2", "lin proposed: door 2", "wang confirmed: door 1", "lin proposed: door 1"}; !slices.Equal(told, want) {
			t.Errorf("the trail: %q", told)
		}
	})
}
