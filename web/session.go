package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
)

// A Role is what a login may be.
type Role string

// The roles. An auditor sees what operators see and changes nothing.
const (
	Wearer   Role = "wearer"
	Operator Role = "operator"
	Auditor  Role = "auditor"
	Trader   Role = "trader" // staff of a merchant; what it may do there is its role at the merchant
)

// An Audience is a group of pages with one set of rights.
type Audience string

// The audiences of this house.
const (
	Public Audience = "public" // everybody, logged in or not
	Person Audience = "person" // my band
	Staff  Audience = "staff"  // operations
	Trade  Audience = "trade"  // staff of a merchant
)

// rights is the one place that says who may see and who may change what.
var rights = map[Audience]map[Role]struct{ see, change bool }{
	Person: {Wearer: {true, true}},
	Staff:  {Operator: {true, true}, Auditor: {true, false}},
	Trade:  {Trader: {true, true}},
}

// Allowed reports whether role r may use audience a with an HTTP method.
func Allowed(a Audience, r Role, method string) bool {
	if a == Public {
		return true
	}
	right := rights[a][r]
	if method == http.MethodGet || method == http.MethodHead {
		return right.see
	}
	return right.change
}

// A User is who is logged in.
type User struct {
	Name     string // the login name
	Subject  string // whom it stands for: a customer id
	Shown    string // the name the top bar shows
	Roles    []Role
	Merchant string // of a Trader: whose staff it is
}

// May reports whether u may use audience a with an HTTP method.
func (u User) May(a Audience, method string) bool {
	return a == Public || slices.ContainsFunc(u.Roles, func(r Role) bool { return Allowed(a, r, method) })
}

// Accounts knows who may log in. app implements it over customer.Desk.
type Accounts interface {
	// Login checks a secret and limits guessing. A failure of kind Forbidden
	// or Refused is told to the person; its text must not say whether the
	// name exists.
	Login(ctx context.Context, name, secret string) (User, error)
	// User reads a login as it is now, so that a right taken away is gone at
	// the next request. A blocked or unknown one is not found.
	User(ctx context.Context, subject string) (u User, found bool, err error)
}

// A DemoUser is a login the login page prints. It is real: only its secret is
// public.
type DemoUser struct {
	Name, Password string
	Shown          string
	Hint           Text   // what one can do with it
	Home           string // where it lands
}

const (
	cookieName  = "koala_session"
	sessionLife = 7 * 24 * time.Hour
	maxLogin    = 4096 // bytes of a login form
)

func (k *Kit) loginPage(w http.ResponseWriter, r *http.Request) error {
	return k.Page(w, r, Page{Title: words.LogIn, Plain: true}, loginView(loginForm{Back: localPath(r.FormValue("back")), Demo: k.cfg.Demo}))
}

func (k *Kit) login(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	name, back := strings.TrimSpace(r.PostFormValue("name")), localPath(r.PostFormValue("back"))
	u, err := k.cfg.Accounts.Login(r.Context(), name, r.PostFormValue("password"))
	if err != nil {
		return k.loginAgain(w, r, loginForm{Name: name, Back: back, Demo: k.cfg.Demo}, err)
	}
	if err := k.start(w, r, u); err != nil {
		return err
	}
	if back == "/" {
		back = k.homeOf(u)
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
	return nil
}

// loginAgain shows the form with what was wrong; other failures pass through.
func (k *Kit) loginAgain(w http.ResponseWriter, r *http.Request, form loginForm, err error) error {
	f := fail.Of(err)
	if f.Kind != fail.Forbidden && f.Kind != fail.Refused {
		return fmt.Errorf("login: %w", err)
	}
	note(r, err)
	form.Error = FailureText(f.Code, f.Text)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusUnprocessableEntity)
	return k.render(w, r, Page{Title: words.LogIn, Plain: true}, loginView(form))
}

// homeOf is the first console a user may see.
func (k *Kit) homeOf(u User) string {
	for _, d := range k.links {
		if d.Audience != Public && u.May(d.Audience, http.MethodGet) {
			return d.Href
		}
	}
	return "/"
}

// start opens a session for u and hands its cookie out.
func (k *Kit) start(w http.ResponseWriter, r *http.Request, u User) error {
	var id [16]byte
	if _, err := io.ReadFull(k.cfg.Rand, id[:]); err != nil {
		return fmt.Errorf("session of %s: %w", u.Name, err)
	}
	now := k.cfg.Now()
	if err := k.putSession(r.Context(), sha256.Sum256(id[:]), u.Subject, now, now.Add(sessionLife)); err != nil {
		return fmt.Errorf("session of %s: %w", u.Name, err)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: k.sign(id), Path: "/", MaxAge: int(sessionLife / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil})
	return nil
}

func (k *Kit) logout(w http.ResponseWriter, r *http.Request) error {
	if c, err := r.Cookie(cookieName); err == nil {
		if id, ok := k.verify(c.Value); ok {
			if err := k.dropSession(r.Context(), sha256.Sum256(id[:])); err != nil {
				return err
			}
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true})
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// sign gives the cookie of a session: its id and the house's mark on it, so
// that made-up cookies are refused without asking the database.
func (k *Kit) sign(id [16]byte) string {
	return base64.RawURLEncoding.EncodeToString(append(id[:], k.mark(id)...))
}

func (k *Kit) mark(id [16]byte) []byte {
	m := hmac.New(sha256.New, k.secret[:])
	m.Write(id[:])
	return m.Sum(nil)[:16]
}

func (k *Kit) verify(cookie string) (id [16]byte, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || len(raw) != 32 {
		return id, false
	}
	copy(id[:], raw)
	return id, hmac.Equal(raw[16:], k.mark(id))
}

// whoIs reads the session a request brings.
func (k *Kit) whoIs(r *http.Request) (User, bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return User{}, false
	}
	id, ok := k.verify(c.Value)
	if !ok {
		return User{}, false
	}
	subject, ok, err := k.readSession(r.Context(), sha256.Sum256(id[:]), k.cfg.Now())
	if err != nil || !ok {
		note(r, err)
		return User{}, false
	}
	u, ok, err := k.cfg.Accounts.User(r.Context(), subject)
	note(r, err)
	return u, ok && err == nil
}

func (m *Mux) admit(r *http.Request) error {
	v := viewOf(r.Context())
	switch {
	case m.audience == Public:
		return nil
	case !v.In:
		return ErrLogin
	case !v.Who.May(m.audience, r.Method):
		return fmt.Errorf("%s at %s: %w", v.Who.Name, m.audience, ErrRight)
	}
	return nil
}

// turnAway sends a person without a session to the login page and back here
// afterwards; programs get the problem.
func (k *Kit) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	if !errors.Is(err, ErrLogin) || !wantsPage(r) {
		k.Fail(w, r, err)
		return
	}
	to := "/login"
	if r.Method == http.MethodGet && r.Header.Get("HX-Request") == "" {
		to += "?back=" + queryEscape(r.URL.RequestURI())
	}
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to) // a redirect would be swapped into a part of the page
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// The kit's tables. A session's id is kept as its SHA-256 only: whoever reads
// the table cannot log in with it.
var schema = db.Schema{Owner: "web", Steps: []string{
	`CREATE TABLE web_secret (name TEXT PRIMARY KEY, value BYTEA NOT NULL)`,
	`CREATE TABLE web_session (
		id BYTEA PRIMARY KEY, subject TEXT NOT NULL, since BIGINT NOT NULL, expires BIGINT NOT NULL)`,
	`CREATE INDEX web_session_expires ON web_session (expires)`,
}}

// loadSecret reads the cookie signing key, drawing it at the first start.
func (k *Kit) loadSecret(ctx context.Context) error {
	var fresh [32]byte
	if _, err := io.ReadFull(k.cfg.Rand, fresh[:]); err != nil {
		return fmt.Errorf("draw the session secret: %w", err)
	}
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO web_secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
			"session", fresh[:]); err != nil {
			return err
		}
		var kept []byte
		if err := tx.QueryRow(`SELECT value FROM web_secret WHERE name = $1`, "session").Scan(&kept); err != nil {
			return err
		}
		if len(kept) != len(k.secret) {
			return fmt.Errorf("session secret is %d bytes: %w", len(kept), ErrForm)
		}
		copy(k.secret[:], kept)
		return nil
	})
}

func (k *Kit) putSession(ctx context.Context, id [32]byte, subject string, since, expires time.Time) error {
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM web_session WHERE expires < $1`, since.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO web_session (id, subject, since, expires) VALUES ($1, $2, $3, $4)`,
			id[:], subject, since.UnixMicro(), expires.UnixMicro())
		return err
	})
}

func (k *Kit) dropSession(ctx context.Context, id [32]byte) error {
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM web_session WHERE id = $1`, id[:])
		return err
	})
}

// readSession gives whom a living session belongs to.
func (k *Kit) readSession(ctx context.Context, id [32]byte, now time.Time) (subject string, found bool, err error) {
	err = k.cfg.Store.Read(ctx, func(q *db.Query) error {
		err := q.QueryRow(`SELECT subject FROM web_session WHERE id = $1 AND expires > $2`, id[:], now.UnixMicro()).Scan(&subject)
		if errors.Is(err, db.ErrNoRows) {
			return nil
		}
		found = err == nil
		return err
	})
	return subject, found, err
}
