// Package device is the door for machines: bands ask for their scripts and
// report what the element answered; gates and buses hand over debits and
// fetch tariff packs and deny lists. Bodies are JSON for bands and the
// devices' own binary forms for terminals; a device proves itself with the
// bearer token it was given when it was registered. Start at New.
package device

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"koala/acquiring"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/tsm"
	"koala/web"
)

// The failures of this package.
var (
	ErrToken = fail.Define(fail.Forbidden, "device.token", "this device is not known here, or its token is another device's")
	ErrBody  = fail.Define(fail.Invalid, "device.body", "the body is not what this address takes")
	ErrPath  = fail.Define(fail.NotFound, "device.no_address", "there is no such address for devices")
)

// maxBody bounds what a device may send at once, in bytes.
const maxBody = 1 << 20

// A Registry knows which token belongs to which device.
type Registry interface {
	CheckDevice(ctx context.Context, kind, id, token string) error
}

// Deps is what the door is made of.
type Deps struct {
	Store     *db.Store // of firmware and activity
	TSM       *tsm.Manager
	Terminals Terminals
	Office    *acquiring.Office // of tills, doors and coupon desks
	Merchants Merchants         // of terminals that speak to the switch; nil: there are none
	Devices   Registry
	Log       *slog.Logger // of what the house is to blame for; nil keeps none
}

// The kinds of devices a token is for.
const (
	KindBand     = "band"
	KindTerminal = "terminal"
)

// New gives the handler of /device/.
func New(d Deps) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /device/bands/{id}/next", d.band(d.next))
	m.HandleFunc("POST /device/bands/{id}/report", d.band(d.report))
	m.HandleFunc("GET /device/bands/{id}/firmware", d.band(d.release))
	m.HandleFunc("POST /device/bands/{id}/firmware", d.band(d.outcome))
	m.HandleFunc("POST /device/bands/{id}/activity", d.band(d.activity))
	m.HandleFunc("POST /device/terminals/{id}/debits", d.terminal(d.debits))
	m.HandleFunc("GET /device/terminals/{id}/tariff", d.terminal(d.tariff))
	m.HandleFunc("GET /device/terminals/{id}/deny", d.terminal(d.deny))
	d.tills(m)
	m.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		web.WriteProblem(w, web.ProblemOf(ErrPath))
	})
	return m
}

type handler func(w http.ResponseWriter, r *http.Request, id string) error

func (d Deps) band(h handler) http.HandlerFunc     { return d.guard(KindBand, h) }
func (d Deps) terminal(h handler) http.HandlerFunc { return d.guard(KindTerminal, h) }

func (d Deps) guard(kind string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		id := r.PathValue("id")
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		err := d.Devices.CheckDevice(r.Context(), kind, id, token)
		if err == nil {
			err = h(w, r, id)
		}
		if err != nil {
			d.fail(w, r, err)
		}
	}
}

// fail answers err. What was wrapped goes to the log when the house is to
// blame, and to nobody else.
func (d Deps) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := web.ProblemOf(err)
	if d.Log != nil && p.Status >= http.StatusInternalServerError {
		d.Log.LogAttrs(r.Context(), slog.LevelError, "device", slog.String("path", r.URL.Path),
			slog.String("code", p.Code), slog.String("error", err.Error()))
	}
	web.WriteProblem(w, p)
}

// The bodies of bands. APDUs, answers and status words are hexadecimal.
type (
	step struct {
		APDU   string   `json:"apdu"`
		Expect []string `json:"expect,omitempty"`
	}
	script struct {
		ID    string `json:"id,omitempty"`
		Order string `json:"order,omitempty"`
		Steps []step `json:"steps,omitempty"`
		Done  bool   `json:"done,omitempty"`
	}
	report struct {
		Script  string   `json:"script"`
		Answers []string `json:"answers"`
		Cut     bool     `json:"cut"`
	}
)

func (d Deps) next(w http.ResponseWriter, r *http.Request, id string) error {
	s, err := d.TSM.Next(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, scriptOf(s))
}

func scriptOf(s tsm.Script) script {
	out := script{ID: s.ID, Order: s.Order, Done: s.Done}
	for _, c := range s.Steps {
		x := step{APDU: strings.ToUpper(hex.EncodeToString(c.APDU))}
		for _, sw := range c.Expect {
			x.Expect = append(x.Expect, fmt.Sprintf("%04X", uint16(sw)))
		}
		out.Steps = append(out.Steps, x)
	}
	return out
}

func (d Deps) report(w http.ResponseWriter, r *http.Request, id string) error {
	var in report
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if strings.ContainsRune(in.Script, 0) { // which no database takes as text
		return fmt.Errorf("script %q: %w", in.Script, ErrBody)
	}
	if len(in.Answers) > tsm.MaxAnswers {
		return fmt.Errorf("%d answers: %w", len(in.Answers), ErrBody)
	}
	answers := make([][]byte, len(in.Answers))
	for i, a := range in.Answers {
		raw, err := hex.DecodeString(a)
		if err != nil {
			return fmt.Errorf("answer %d: %w: %w", i+1, ErrBody, err)
		}
		answers[i] = raw
	}
	if err := d.TSM.Report(r.Context(), id, in.Script, answers, in.Cut); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func readJSON(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more than one value: %w", ErrBody)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}
