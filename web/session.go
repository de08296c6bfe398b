package web

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
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
)

// An Audience is a group of pages with one set of rights.
type Audience string

// The audiences of this house.
const (
	Public Audience = "public" // everybody, logged in or not
	Person Audience = "person" // my band
	Staff  Audience = "staff"  // operations
)

// rights is the one place that says who may see and who may change what.
var rights = map[Audience]map[Role]struct{ see, change bool }{
	Person: {Wearer: {true, true}},
	Staff:  {Operator: {true, true}, Auditor: {true, false}},
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
	Name    string // the login name
	Subject string // whom it stands for: a customer id, a staff id
	Shown   string // the name the top bar shows
	Role    Role
}

// A DemoUser is a login the login page prints.
type DemoUser struct {
	User
	Password string
	Hint     Text   // what one can do with it
	Home     string // where it lands
}

const (
	cookieName   = "koala_session"
	sessionLife  = 7 * 24 * time.Hour
	rounds       = 210_000 // PBKDF2-HMAC-SHA-512, OWASP's figure of 2023
	maxPassword  = 128     // bytes; longer input would only burn processor time
	minPassword  = 8
	maxLoginName = 64
)

// AddLogin makes a login or gives it a new password.
func (k *Kit) AddLogin(ctx context.Context, u User, password string) error {
	if u.Name == "" || len(u.Name) > maxLoginName || len(password) < minPassword || len(password) > maxPassword {
		return fmt.Errorf("login %q: %w", u.Name, ErrLogins)
	}
	row := loginRow{user: u, salt: make([]byte, 16)}
	if _, err := io.ReadFull(k.cfg.Rand, row.salt); err != nil {
		return fmt.Errorf("login %q: %w", u.Name, err)
	}
	var err error
	if row.hash, err = stretch(password, row.salt); err != nil {
		return fmt.Errorf("login %q: %w", u.Name, err)
	}
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error { return putLogin(tx, row) })
}

func stretch(password string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha512.New, password, salt, rounds, 32)
}

// check finds the user a name and password stand for. An unknown name costs
// the same time as a wrong password, so names cannot be probed.
func (k *Kit) check(ctx context.Context, name, password string) (User, error) {
	if len(password) > maxPassword || len(name) > maxLoginName {
		return User{}, ErrPassword
	}
	row, found, err := k.readLogin(ctx, name)
	if err != nil {
		return User{}, err
	}
	if !found {
		row.salt, row.hash = make([]byte, 16), make([]byte, 32)
	}
	got, err := stretch(password, row.salt)
	if err != nil {
		return User{}, err
	}
	if subtle.ConstantTimeCompare(got, row.hash) != 1 || !found {
		return User{}, ErrPassword
	}
	return row.user, nil
}

// doors limits guessing: after maxWrong wrong passwords a name waits.
type doors struct {
	mu    sync.Mutex
	wrong map[string]attempts
}

type attempts struct {
	n     int
	until time.Time
}

const (
	maxWrong  = 8
	wrongWait = 10 * time.Minute
	maxDoors  = 10_000 // names remembered; beyond it old ones are forgotten
)

func newDoors() *doors { return &doors{wrong: map[string]attempts{}} }

func (d *doors) closed(name string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.wrong[name]
	return a.n >= maxWrong && now.Before(a.until)
}

func (d *doors) record(name string, ok bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.wrong[name]
	if ok || !now.Before(a.until) {
		delete(d.wrong, name)
		a = attempts{}
	}
	if ok {
		return
	}
	if len(d.wrong) >= maxDoors {
		clear(d.wrong)
	}
	d.wrong[name] = attempts{a.n + 1, now.Add(wrongWait)}
}

func (k *Kit) loginPage(w http.ResponseWriter, r *http.Request) error {
	return k.Page(w, r, Page{Title: words.LogIn, Plain: true}, loginView(loginForm{Back: localPath(r.FormValue("back")), Demo: k.cfg.Demo}))
}

func (k *Kit) login(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	name, now := strings.TrimSpace(r.PostFormValue("name")), k.cfg.Now()
	u, err := User{}, error(ErrTooMany)
	if !k.doors.closed(name, now) {
		u, err = k.check(r.Context(), name, r.PostFormValue("password"))
		k.doors.record(name, err == nil, now)
	}
	back := localPath(r.PostFormValue("back"))
	if errors.Is(err, ErrPassword) || errors.Is(err, ErrTooMany) {
		note(r, err)
		w.WriteHeader(http.StatusUnprocessableEntity)
		form := loginForm{Name: name, Back: back, Demo: k.cfg.Demo, Error: words.WrongPassword}
		if errors.Is(err, ErrTooMany) {
			form.Error = words.TooMany
		}
		return k.Page(w, r, Page{Title: words.LogIn, Plain: true}, loginView(form))
	}
	if err != nil {
		return err
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

// homeOf is the first console a user may see.
func (k *Kit) homeOf(u User) string {
	for _, d := range k.links {
		if d.Audience != Public && Allowed(d.Audience, u.Role, http.MethodGet) {
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
	if err := k.putSession(r.Context(), sha256.Sum256(id[:]), u.Name, now, now.Add(sessionLife)); err != nil {
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
	u, ok, err := k.readSession(r.Context(), sha256.Sum256(id[:]), k.cfg.Now())
	if err != nil {
		note(r, fmt.Errorf("session: %w", err))
		return User{}, false
	}
	return u, ok
}

func (m *Mux) admit(r *http.Request) error {
	v := viewOf(r.Context())
	switch {
	case m.audience == Public:
		return nil
	case !v.In:
		return ErrLogin
	case !Allowed(m.audience, v.Who.Role, r.Method):
		return fmt.Errorf("%s at %s: %w", v.Who.Role, m.audience, ErrRight)
	}
	return nil
}

// turnAway sends a person without a session to the login page and back here
// afterwards; programs get the problem.
func (k *Kit) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	if fail.Of(err) != ErrLogin || !wantsPage(r) {
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
