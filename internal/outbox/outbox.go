// Package outbox keeps what happened, in the unit of work in which it
// happened, and hands it on after the commit in the order of the commits: to
// live listeners at once, to everybody else by asking for what came after a
// sequence. Start at Put and Outbox.Follow.
package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
)

// How events are refused.
var (
	ErrEvent = fail.Define(fail.Broken, "outbox.event", "an event has a name, a subject and data that JSON can say")
	ErrLimit = fail.Define(fail.Invalid, "outbox.limit", "ask for 1 to 1000 events at a time")
)

// The limits: events asked for at once, bytes of one event's data, events a
// live listener may be behind.
const (
	MaxPage = 1000
	MaxData = 64 << 10
	backlog = 256
)

// Schema is the table of events.
var Schema = db.Schema{Owner: "outbox", Steps: []string{
	`CREATE TABLE outbox_event (
		seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, data TEXT NOT NULL)`,
}}

// An Event is something that happened: a name of the form noun.past, the id it
// happened to, and data as JSON.
type Event struct {
	Seq     int64 // rising in the order of the commits, with gaps
	At      time.Time
	Name    string
	Subject string
	Data    any             // given to Put
	JSON    json.RawMessage // Data as it was kept, in events that come out
}

// An Outbox hands events on.
type Outbox struct {
	store *db.Store
	mu    sync.Mutex
	live  map[*Listener]struct{}
}

type key struct{}

// Open makes the outbox of a store whose Schema is in place.
func Open(s *db.Store) *Outbox {
	o := &Outbox{store: s, live: map[*Listener]struct{}{}}
	s.Provide(key{}, o)
	return o
}

// Put keeps e in the unit of work; once that is durable, live listeners get it.
func Put(tx *db.Tx, e Event) error {
	data, err := json.Marshal(e.Data)
	if err != nil || e.Name == "" || e.Subject == "" || len(data) > MaxData {
		return fmt.Errorf("event %q of %q, %d bytes: %w", e.Name, e.Subject, len(data), ErrEvent)
	}
	e.Seq, e.At, e.Data, e.JSON = tx.NewSeq(), tx.Now(), nil, data
	err = tx.Append("outbox_event", "seq, at, name, subject, data", e.Seq, e.At.UnixMicro(), e.Name, e.Subject, string(data))
	if err != nil {
		return fmt.Errorf("event %s of %s: %w", e.Name, e.Subject, err)
	}
	if o, ok := tx.Provided(key{}).(*Outbox); ok {
		tx.After(func() { o.publish(e) })
	}
	return nil
}

// After returns up to limit events that follow seq, in order.
func (o *Outbox) After(ctx context.Context, seq int64, limit int) (list []Event, err error) {
	err = o.store.Read(ctx, func(q *db.Query) error {
		list, err = After(q, seq, limit)
		return err
	})
	return list, err
}

// After is Outbox.After within a read.
func After(q *db.Query, seq int64, limit int) ([]Event, error) {
	if limit < 1 || limit > MaxPage {
		return nil, fmt.Errorf("%d events: %w", limit, ErrLimit)
	}
	rows, err := q.Rows(`SELECT seq, at, name, subject, data FROM outbox_event WHERE seq > $1 ORDER BY seq LIMIT $2`, seq, limit)
	if err != nil {
		return nil, fmt.Errorf("events after %d: %w", seq, err)
	}
	list := make([]Event, 0, rows.Len())
	for rows.Next() {
		var e Event
		var at int64
		var data string
		if err := rows.Scan(&e.Seq, &at, &e.Name, &e.Subject, &data); err != nil {
			return nil, fmt.Errorf("events after %d: %w", seq, err)
		}
		e.At, e.JSON = time.UnixMicro(at).UTC(), json.RawMessage(data)
		list = append(list, e)
	}
	return list, rows.Err()
}

// Last is the sequence of the newest event, 0 when there is none.
func (o *Outbox) Last(ctx context.Context) (seq int64, err error) {
	err = o.store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT COALESCE(MAX(seq), 0) FROM outbox_event`).Scan(&seq)
	})
	return seq, err
}

// Trim drops the events that happened before t, and says how many.
func Trim(tx *db.Tx, t time.Time) (int64, error) {
	return tx.Exec(`DELETE FROM outbox_event WHERE at < $1`, t.UnixMicro())
}
