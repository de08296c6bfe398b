package open

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"koala/internal/db"
	"koala/web"
)

// A call is one request on its way: who makes it, and what its row will say.
type call struct {
	id       string
	key      Key
	code     string
	replayed bool
	err      error // what the house is to blame for
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return &call{} // nobody: every right is refused
	}
	return c
}

// partner is who asks.
func partner(ctx context.Context) string { return callOf(ctx).key.Partner }

// A bucket is what a key has left to ask, refilled with time.
type bucket struct {
	left float64
	at   time.Time
}

// A limiter keeps a bucket for each key.
type limiter struct {
	mu     sync.Mutex
	rate   float64 // requests a second
	burst  float64
	bucket map[string]bucket
}

// take counts a request; it says what is left, and how long to wait when that
// is nothing.
func (l *limiter) take(key string, now time.Time) (left int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.bucket[key]
	if !known {
		b = bucket{l.burst, now}
	}
	b.left, b.at = min(l.burst, b.left+max(0, now.Sub(b.at).Seconds())*l.rate), now
	if b.left < 1 {
		wait = time.Duration((1 - b.left) / l.rate * float64(time.Second))
	} else {
		b.left--
	}
	l.bucket[key] = b
	return int(b.left), wait
}

// guard lets in who brings a living key and still has requests left, and keeps
// a row of each request. The description of the API is everybody's.
func (a *api) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == docPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			next.ServeHTTP(w, r)
			return
		}
		start := a.Now()
		c := &call{id: "req_" + a.Ref()}
		w.Header().Set("X-Request-Id", c.id)
		rec := &answer{ResponseWriter: w}
		if err := a.admit(rec, r, c, start); err != nil {
			a.refuse(rec, c, err)
		} else {
			a.serve(rec, r.WithContext(context.WithValue(r.Context(), callKey{}, c)), next)
		}
		a.log(r, c, rec.code(), a.Now().Sub(start))
	})
}

func (a *api) admit(w http.ResponseWriter, r *http.Request, c *call, now time.Time) error {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || text == "" || len(text) > 200 {
		return ErrKey
	}
	err := a.Store.Read(r.Context(), func(q *db.Query) (err error) {
		c.key, err = keyBy(q, strings.TrimSpace(text))
		return err
	})
	if err != nil {
		c.key = Key{}
		return err
	}
	left, wait := a.limit.take(c.key.ID, now)
	w.Header().Set("RateLimit-Limit", strconv.Itoa(int(a.limit.burst)))
	w.Header().Set("RateLimit-Remaining", strconv.Itoa(left))
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		return ErrRate
	}
	return nil
}

// serve hands a request on; addresses that nothing answers become problems.
func (a *api) serve(w *answer, r *http.Request, next http.Handler) {
	_, pattern := a.mux.Handler(r)
	switch {
	case pattern != "":
		next.ServeHTTP(w, r)
	case a.known(r.URL.Path):
		a.refuse(w, callOf(r.Context()), web.ErrMethod)
	default:
		a.refuse(w, callOf(r.Context()), web.ErrNoPage)
	}
}

// known tells whether another method would be answered at a path.
func (a *api) known(path string) bool {
	return slices.ContainsFunc([]string{http.MethodGet, http.MethodPost}, func(m string) bool {
		r, err := http.NewRequest(m, path, nil)
		if err != nil {
			return false
		}
		_, pattern := a.mux.Handler(r)
		return pattern != ""
	})
}

func (a *api) refuse(w http.ResponseWriter, c *call, err error) {
	p := problemOf(err)
	c.note(p, err)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="koala"`)
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller hung up: nothing is left to tell it
}

// note keeps what a request ended with for its row, and names the request in
// the problem.
func (c *call) note(p *Problem, err error) {
	p.RequestID, c.code = c.id, p.Code
	if p.Status >= http.StatusInternalServerError {
		c.err = err
	}
}

// log keeps the row of a request. Who brings no key leaves a line in the
// house's log only: strangers do not fill tables.
func (a *api) log(r *http.Request, c *call, status int, took time.Duration) {
	if c.err != nil {
		a.Log.LogAttrs(r.Context(), slog.LevelError, "partner's request", slog.String("request", c.id), slog.String("path", r.URL.Path),
			slog.Int("status", status), slog.String("error", c.err.Error()))
	}
	if c.key.ID == "" {
		return
	}
	row := Logged{ID: c.id, Partner: c.key.Partner, Key: c.key.ID, Method: r.Method, Path: cut(r.URL.Path), Status: status, Code: c.code, Took: took, Replayed: c.replayed}
	if err := a.Store.Write(context.WithoutCancel(r.Context()), func(tx *db.Tx) error { return keepRequest(tx, row) }); err != nil {
		a.Log.LogAttrs(r.Context(), slog.LevelWarn, "partner's request not logged", slog.String("request", c.id), slog.String("error", err.Error()))
	}
}

// cut bounds what a stranger's path may fill, and keeps it text.
func cut(path string) string {
	const most = 120
	path = string(bytes.ToValidUTF8([]byte(strings.ReplaceAll(path, "\x00", "")), nil))
	if len(path) > most {
		return strings.ToValidUTF8(path[:most], "") + "…"
	}
	return path
}

// answer remembers the status that went out, and finds in a problem that the
// library wrote what the row is to say.
type answer struct {
	http.ResponseWriter
	status int
}

func (w *answer) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *answer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *answer) code() int { return max(w.status, 0) }
