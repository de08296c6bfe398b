package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Event is one live message: its topic decides who hears it, its name is
// the DOM event it becomes, its data is JSON for islands. Pages that show more
// than numbers fetch the changed part again: only so do language, rights and
// the table's filter stay right.
type Event struct {
	Seq   uint64
	Topic string
	Name  string
	Data  json.RawMessage
}

const (
	ringSize   = 256 // events kept per topic for readers that come back
	queueSize  = 128 // events a reader may lag behind before it is dropped
	maxTopics  = 4096
	maxReaders = 2048
	heartbeat  = 15 * time.Second
)

// A Hub passes events to the pages that show their topics. Publishing never
// waits: a reader that cannot keep up is cut off, comes back with
// Last-Event-ID, and is served from the ring or told to start over.
type Hub struct {
	mu      sync.Mutex
	epoch   string // differs from start to start, so old ids are recognised
	seq     uint64
	rings   map[string]*ring
	readers map[*reader]struct{}
}

type ring struct {
	events [ringSize]Event
	n      uint64 // events ever put in
}

type reader struct {
	topics map[string]bool
	queue  chan Event
	lost   bool
}

// NewHub gives an empty hub. The epoch must differ between two starts and
// hold no dash.
func NewHub(epoch string) *Hub {
	return &Hub{epoch: epoch, rings: map[string]*ring{}, readers: map[*reader]struct{}{}}
}

// Publish sends data, as JSON, to everyone who shows topic. Topics are "city"
// (public), "ops" or "ops:…" (staff), "my:SUBJECT" (that person alone) and
// "trade:MERCHANT" (that merchant's staff).
func (h *Hub) Publish(topic, name string, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("web: event %s cannot be JSON: %v", name, err)) // a defect of the caller's type
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e := Event{Seq: h.seq, Topic: topic, Name: name, Data: body}
	h.keep(e)
	for r := range h.readers {
		if !r.topics[topic] || r.lost {
			continue
		}
		select {
		case r.queue <- e:
		default:
			r.lost = true
			close(r.queue)
			delete(h.readers, r)
		}
	}
}

// keep puts e into its topic's ring. Personal topics come and go; when there
// are too many the rings of all are dropped and late readers start over.
func (h *Hub) keep(e Event) {
	g := h.rings[e.Topic]
	if g == nil {
		if len(h.rings) >= maxTopics {
			clear(h.rings)
		}
		g = &ring{}
		h.rings[e.Topic] = g
	}
	g.events[g.n%ringSize] = e
	g.n++
}

// join subscribes to topics. With last, the id a reader saw last, it gives
// what was missed; whole is false when that is no longer all in the rings.
func (h *Hub) join(topics []string, last string) (r *reader, missed []Event, whole bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.readers) >= maxReaders {
		return nil, nil, false
	}
	r = &reader{topics: map[string]bool{}, queue: make(chan Event, queueSize)}
	for _, t := range topics {
		r.topics[t] = true
	}
	h.readers[r] = struct{}{}
	if last == "" {
		return r, nil, true
	}
	seq, known := h.parseID(last)
	if !known {
		return r, nil, false
	}
	whole = true
	for _, t := range topics {
		g := h.rings[t]
		if g == nil {
			continue
		}
		from := uint64(0)
		if g.n > ringSize {
			from = g.n - ringSize
			whole = whole && g.events[from%ringSize].Seq <= seq+1
		}
		for i := from; i < g.n; i++ {
			if e := g.events[i%ringSize]; e.Seq > seq {
				missed = append(missed, e)
			}
		}
	}
	sort.Slice(missed, func(i, j int) bool { return missed[i].Seq < missed[j].Seq })
	return r, missed, whole
}

func (h *Hub) leave(r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.readers, r)
}

func (h *Hub) id(e Event) string { return h.epoch + "-" + strconv.FormatUint(e.Seq, 10) }

func (h *Hub) parseID(s string) (uint64, bool) {
	epoch, n, ok := strings.Cut(s, "-")
	seq, err := strconv.ParseUint(n, 10, 64)
	return seq, ok && err == nil && epoch == h.epoch && seq <= h.seq
}

// mayHear is the one place that says who may listen to what.
func mayHear(v *View, topic string) bool {
	kind, rest, _ := strings.Cut(topic, ":")
	switch kind {
	case "city":
		return true
	case "ops":
		return v.In && v.Who.May(Staff, http.MethodGet)
	case "my":
		return v.In && rest != "" && rest == v.Who.Subject
	case "trade":
		return v.In && rest != "" && rest == v.Who.Merchant && v.Who.May(Trade, http.MethodGet)
	}
	return false
}

// events streams the topics a page shows: GET /events?topic=city&topic=….
func (k *Kit) events(w http.ResponseWriter, r *http.Request) error {
	v := viewOf(r.Context())
	topics := r.URL.Query()["topic"]
	if len(topics) == 0 || len(topics) > 8 {
		return fmt.Errorf("%d topics: %w", len(topics), ErrForm)
	}
	for _, t := range topics {
		if !mayHear(v, t) {
			return fmt.Errorf("topic %q: %w", t, ErrRight)
		}
	}
	rd, missed, whole := k.Hub.join(topics, r.Header.Get("Last-Event-ID"))
	if rd == nil {
		return fmt.Errorf("live readers: %w", ErrTooMany)
	}
	defer k.Hub.leave(rd)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // a stream outlives the server's write limit
	if !whole {
		missed = append([]Event{{Name: "koala.reset", Data: json.RawMessage("{}")}}, missed...)
	}
	if _, err := fmt.Fprint(w, "retry: 1000\n\n"); err != nil {
		return nil
	}
	for _, e := range missed {
		if k.send(w, e) != nil {
			return nil
		}
	}
	k.pump(w, rc, r, rd)
	return nil
}

// pump writes events as they come, and a comment when none did for a while,
// which keeps proxies from closing the line.
func (k *Kit) pump(w http.ResponseWriter, rc *http.ResponseController, r *http.Request, rd *reader) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if rc.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case e, open := <-rd.queue:
			if !open || k.send(w, e) != nil {
				return
			}
			for range len(rd.queue) { // what is waiting goes out in one flush
				if e, open = <-rd.queue; !open || k.send(w, e) != nil {
					return
				}
			}
		case <-beat.C:
			if _, err := fmt.Fprint(w, ":\n\n"); err != nil {
				return
			}
		}
	}
}

func (k *Kit) send(w http.ResponseWriter, e Event) error {
	_, err := fmt.Fprintf(w, "id: %s\ndata: {\"name\":%q,\"data\":%s}\n\n", k.Hub.id(e), e.Name, e.Data)
	return err
}
