package street

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// A WireFault is what one request of a device suffers on its way.
type WireFault byte

// The faults of the wire.
const (
	Delivered   WireFault = iota
	LostRequest           // the house never hears of it
	LostAnswer            // the house acts, the device never hears
	Doubled               // the house hears it twice; the second answer arrives
	Late                  // the device gives up; the house hears it later
)

// ErrWire says that the device got no answer.
var ErrWire = errors.New("street: no answer came over the wire (simulated)")

// maxLate bounds the requests that are on a detour at once.
const maxLate = 64

// A Wire carries the requests of devices to the house in the same process:
// no socket, the same handlers. Faults, when set, is asked for every request.
type Wire struct {
	Faults func(r *http.Request) WireFault

	door atomic.Pointer[http.Handler]
	mu   sync.Mutex
	late []*parcel
	hits map[WireFault]int
}

// A parcel is a request with its body read.
type parcel struct {
	req  *http.Request
	body []byte
}

// RoundTrip implements http.RoundTripper.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	p := &parcel{req: r}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("reading a request: %w", err)
		}
		p.body = body
	}
	fault := Delivered
	if w.Faults != nil {
		if fault = w.Faults(r); fault != Delivered {
			w.count(fault)
		}
	}
	switch fault {
	case LostRequest:
		return nil, fmt.Errorf("%s %s lost: %w", r.Method, r.URL.Path, ErrWire)
	case LostAnswer:
		w.deliver(p)
		return nil, fmt.Errorf("answer to %s %s lost: %w", r.Method, r.URL.Path, ErrWire)
	case Doubled:
		w.deliver(p)
	case Late:
		w.hold(p)
		return nil, fmt.Errorf("%s %s delayed: %w", r.Method, r.URL.Path, ErrWire)
	}
	return w.deliver(p), nil
}

func (w *Wire) count(f WireFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hits == nil {
		w.hits = map[WireFault]int{}
	}
	w.hits[f]++
}

func (w *Wire) hold(p *parcel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.late) < maxLate {
		w.late = append(w.late, p)
	}
}

// Flush delivers what was on a detour, the newest first: out of order. Nobody
// waits for the answers any more.
func (w *Wire) Flush() int {
	w.mu.Lock()
	late := w.late
	w.late = nil
	w.mu.Unlock()
	for i := len(late) - 1; i >= 0; i-- {
		w.deliver(late[i])
	}
	return len(late)
}

// deliver calls the house's handler as its server would.
func (w *Wire) deliver(p *parcel) *http.Response {
	r := p.req.Clone(p.req.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(p.body)), int64(len(p.body))
	r.RequestURI, r.RemoteAddr, r.Host = r.URL.RequestURI(), "device", r.URL.Host
	a := &answer{code: http.StatusOK, head: http.Header{}}
	(*w.door.Load()).ServeHTTP(a, r)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.code, http.StatusText(a.code)), StatusCode: a.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.head, Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: p.req,
	}
}

// An answer keeps what a handler writes.
type answer struct {
	code  int
	wrote bool
	head  http.Header
	body  bytes.Buffer
}

func (a *answer) Header() http.Header { return a.head }

func (a *answer) WriteHeader(code int) {
	if !a.wrote {
		a.code, a.wrote = code, true
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}
