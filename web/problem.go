package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"koala/internal/fail"
)

// Failures of the kit itself.
var (
	ErrNoPage  = fail.Define(fail.NotFound, "web.no_page", "there is no page at this address")
	ErrMethod  = fail.Define(fail.Invalid, "web.method", "this address does not take that method")
	ErrLogin   = fail.Define(fail.Forbidden, "web.login", "please log in first")
	ErrRight   = fail.Define(fail.Forbidden, "web.right", "your login has no right to this page")
	ErrTooMany = fail.Define(fail.Busy, "web.too_many", "too many pages are open at once, try again in a moment")
	ErrForm    = fail.Define(fail.Invalid, "web.form", "the form cannot be read")
)

// A Problem is the body of an error answer to programs (RFC 9457, 3.1). Detail
// is the failure's public text, never the wrapped error.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code"`
	// Fields names what is wrong with single inputs, by name; never their values.
	Fields map[string]string `json:"fields,omitempty"`
}

// StatusOf maps a kind of failure to its HTTP status.
func StatusOf(k fail.Kind) int {
	switch k {
	case fail.Invalid:
		return http.StatusUnprocessableEntity
	case fail.NotFound:
		return http.StatusNotFound
	case fail.Refused, fail.Conflict:
		return http.StatusConflict
	case fail.Busy:
		return http.StatusServiceUnavailable
	case fail.Forbidden:
		return http.StatusForbidden
	default:
		return http.StatusInternalServerError
	}
}

// ProblemOf says err to a program: title and code of its declared failure.
func ProblemOf(err error) Problem {
	f := fail.Of(err)
	status := StatusOf(f.Kind)
	return Problem{
		Type:   "about:blank",
		Title:  http.StatusText(status),
		Status: status,
		Detail: f.Text,
		Code:   f.Code,
	}
}

// WriteProblem answers a program with err.
func WriteProblem(w http.ResponseWriter, p Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the reader hung up: nothing is left to tell it
}

// Fail answers err: a page to people, a problem document to programs. What
// was wrapped around the declared failure goes to the log only.
func (k *Kit) Fail(w http.ResponseWriter, r *http.Request, err error) {
	k.failAs(w, r, StatusOf(fail.Of(err).Kind), err)
}

func (k *Kit) failAs(w http.ResponseWriter, r *http.Request, status int, err error) {
	note(r, err)
	p := ProblemOf(err)
	p.Status, p.Title = status, http.StatusText(status)
	if !wantsPage(r) {
		WriteProblem(w, p)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	page := Page{Title: troubleTitle(status)}
	if renderErr := k.render(w, r, page, Trouble(p)); renderErr != nil {
		note(r, fmt.Errorf("error page: %w", renderErr))
	}
}

// wantsPage tells a browser from a program by what it accepts.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html") || r.Header.Get("HX-Request") == "true"
}

// requestNote collects for the log line what a handler met.
type requestNote struct{ err error }

type noteKey struct{}

func note(r *http.Request, err error) {
	if n, ok := r.Context().Value(noteKey{}).(*requestNote); ok && n.err == nil && err != nil {
		n.err = err
	}
}

// logged writes one line per request: method, path without its query (which
// may hold names), status, duration; the error when the house is to blame.
func (k *Kit) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := &requestNote{}
		rec := &recorder{ResponseWriter: w}
		start := k.cfg.Now()
		next.ServeHTTP(rec, r.WithContext(withNote(r.Context(), n)))
		level := slog.LevelDebug
		attrs := []slog.Attr{
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", rec.code()),
			slog.Duration("took", k.cfg.Now().Sub(start).Round(10*time.Microsecond)), slog.Int64("bytes", rec.bytes),
		}
		if n.err != nil {
			attrs = append(attrs, slog.String("code", fail.Of(n.err).Code))
		}
		left := r.Context().Err() != nil && errors.Is(n.err, context.Canceled) // the browser went away meanwhile: nobody's fault
		if rec.code() >= http.StatusInternalServerError && !left {
			level = slog.LevelError
			if n.err != nil {
				attrs = append(attrs, slog.String("error", n.err.Error()))
			}
		}
		k.cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
	})
}

// recorder remembers the status and size that went out.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(code int) {
	if r.status == 0 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}
