package band

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"koala/spec/iso7816"
)

// maxBody bounds what the agent reads of one answer of the house, bytes.
const maxBody = 1 << 20

// ErrLink says that the house could not be reached or answered with a failure.
var ErrLink = errors.New("band: the house did not answer as agreed")

// HTTPLink is the way to the house over HTTP with JSON bodies:
//
//	POST {Base}/bands/{id}/next     HelloJSON  → ScriptJSON
//	POST {Base}/bands/{id}/report   ReportJSON → 204
//	GET  {Base}/bands/{id}/firmware?have=N      → a signed release, or 204
//	POST {Base}/bands/{id}/firmware OutcomeJSON → 204
//	POST {Base}/bands/{id}/activity [HourJSON…] → 204
//
// The client's timeout bounds every call.
type HTTPLink struct {
	Base   string // for example http://127.0.0.1:8080/device
	Token  string // sent as bearer token when not empty
	Client *http.Client
}

// HelloJSON is Hello on the wire; UID in hexadecimal.
type HelloJSON struct {
	UID     string `json:"uid"`
	Worn    bool   `json:"worn"`
	Battery int    `json:"battery"`
	Free    int    `json:"free"`
}

// StepJSON is Step on the wire: hexadecimal command and status words.
type StepJSON struct {
	APDU   string   `json:"apdu"`
	Expect []string `json:"expect,omitempty"`
}

// ScriptJSON is Script on the wire.
type ScriptJSON struct {
	ID    string     `json:"id,omitempty"`
	Order string     `json:"order,omitempty"`
	Steps []StepJSON `json:"steps,omitempty"`
	Done  bool       `json:"done,omitempty"`
}

// ReportJSON is a report on the wire; answers in hexadecimal.
type ReportJSON struct {
	Script  string   `json:"script"`
	Answers []string `json:"answers"`
	Cut     bool     `json:"cut,omitempty"`
}

// Next asks for a script.
func (l *HTTPLink) Next(ctx context.Context, bandID string, h Hello) (Script, error) {
	var out ScriptJSON
	in := HelloJSON{UID: upperHex(h.UID[:]), Worn: h.Worn, Battery: h.Battery, Free: h.Free}
	if err := l.post(ctx, bandID, "next", in, &out); err != nil {
		return Script{}, err
	}
	return out.script()
}

// Report tells what became of a script.
func (l *HTTPLink) Report(ctx context.Context, bandID, scriptID string, answers [][]byte, cut bool) error {
	in := ReportJSON{Script: scriptID, Answers: make([]string, len(answers)), Cut: cut}
	for i, a := range answers {
		in.Answers[i] = upperHex(a)
	}
	return l.post(ctx, bandID, "report", in, nil)
}

// OutcomeJSON is what became of a release, on the wire: kept or undone.
type OutcomeJSON struct {
	Version uint32 `json:"version"`
	Outcome string `json:"outcome"`
}

// HourJSON is Hour on the wire; start in RFC 3339, UTC.
type HourJSON struct {
	Start  time.Time `json:"start"`
	Steps  uint32    `json:"steps"`
	Asleep byte      `json:"asleep"`
}

// Release asks for a newer release.
func (l *HTTPLink) Release(ctx context.Context, bandID string, have uint32) ([]byte, error) {
	raw, err := l.do(ctx, http.MethodGet, bandID, fmt.Sprintf("firmware?have=%d", have), nil)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return raw, nil
}

// Outcome tells what became of a release.
func (l *HTTPLink) Outcome(ctx context.Context, bandID string, version uint32, kept bool) error {
	out := OutcomeJSON{Version: version, Outcome: "undone"}
	if kept {
		out.Outcome = "kept"
	}
	return l.post(ctx, bandID, "firmware", out, nil)
}

// Activity hands hours over, in pieces the house takes.
func (l *HTTPLink) Activity(ctx context.Context, bandID string, hours []Hour) error {
	out := make([]HourJSON, len(hours))
	for i, h := range hours {
		out[i] = HourJSON(h)
	}
	return l.post(ctx, bandID, "activity", out, nil)
}

func (l *HTTPLink) post(ctx context.Context, bandID, verb string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("writing %s: %w", verb, err)
	}
	raw, err := l.do(ctx, http.MethodPost, bandID, verb, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%w: %w", ErrLink, err)
	}
	return nil
}

// do makes one request and gives its answer's body.
func (l *HTTPLink) do(ctx context.Context, method, bandID, verb string, body []byte) ([]byte, error) {
	at := strings.TrimRight(l.Base, "/") + "/bands/" + url.PathEscape(bandID) + "/" + verb
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLink, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if l.Token != "" {
		req.Header.Set("Authorization", "Bearer "+l.Token)
	}
	client := l.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLink, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%w: %s of band %s: %s", ErrLink, verb, bandID, res.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrLink, err)
	case len(raw) > maxBody:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrLink, maxBody)
	}
	return raw, nil
}

// script reads the wire form.
func (s ScriptJSON) script() (Script, error) {
	out := Script{ID: s.ID, Order: s.Order, Done: s.Done}
	for i, step := range s.Steps {
		apdu, err := hex.DecodeString(step.APDU)
		if err != nil {
			return Script{}, fmt.Errorf("step %d: %w: %w", i+1, ErrScript, err)
		}
		x := Step{APDU: apdu}
		for _, e := range step.Expect {
			sw, err := strconv.ParseUint(e, 16, 16)
			if err != nil {
				return Script{}, fmt.Errorf("step %d: %w: %w", i+1, ErrScript, err)
			}
			x.Expect = append(x.Expect, iso7816.SW(sw))
		}
		out.Steps = append(out.Steps, x)
	}
	return out, nil
}

// JSON writes a script's wire form, for the other end.
func (s Script) JSON() ScriptJSON {
	out := ScriptJSON{ID: s.ID, Order: s.Order, Done: s.Done}
	for _, step := range s.Steps {
		x := StepJSON{APDU: upperHex(step.APDU)}
		for _, sw := range step.Expect {
			x.Expect = append(x.Expect, fmt.Sprintf("%04X", uint16(sw)))
		}
		out.Steps = append(out.Steps, x)
	}
	return out
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
