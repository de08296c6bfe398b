package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
)

var ctx = context.Background()

func open(t *testing.T, s *db.Store) *outbox.Outbox {
	t.Helper()
	if err := s.Migrate(ctx, outbox.Schema); err != nil {
		t.Fatal(err)
	}
	return outbox.Open(s)
}

func put(s *db.Store, name, subject string, data any) error {
	return s.Write(ctx, func(tx *db.Tx) error {
		return outbox.Put(tx, outbox.Event{Name: name, Subject: subject, Data: data})
	})
}

func TestEventsComeOutInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		o := open(t, s)
		l := o.Listen()
		defer l.Close()
		for i := range 5 {
			if err := put(s, "card.issued", fmt.Sprint("c", i), map[string]int{"fen": i}); err != nil {
				t.Fatal(err)
			}
		}
		refused := errors.New("refused")
		err := s.Write(ctx, func(tx *db.Tx) error {
			if err := outbox.Put(tx, outbox.Event{Name: "card.issued", Subject: "never", Data: 1}); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		list, err := o.After(ctx, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 5 {
			t.Fatalf("%d events", len(list))
		}
		last := int64(0)
		for i, e := range list {
			if e.Seq <= last || e.Subject != fmt.Sprint("c", i) || string(e.JSON) != fmt.Sprintf(`{"fen":%d}`, i) {
				t.Errorf("event %d is %+v", i, e)
			}
			if live := <-l.C; live.Seq != e.Seq || string(live.JSON) != string(e.JSON) || !live.At.Equal(e.At) {
				t.Errorf("live event %d is %+v, want %+v", i, live, e)
			}
			last = e.Seq
		}
		if rest, err := o.After(ctx, list[2].Seq, 1); err != nil || len(rest) != 1 || rest[0].Seq != list[3].Seq {
			t.Errorf("after the third: %v %v", rest, err)
		}
		if seq, err := o.Last(ctx); err != nil || seq != last {
			t.Errorf("last is %d %v, want %d", seq, err, last)
		}
		for _, n := range []int{0, outbox.MaxPage + 1} {
			if _, err := o.After(ctx, 0, n); !errors.Is(err, outbox.ErrLimit) {
				t.Errorf("%d events: %v", n, err)
			}
		}
		err = s.Write(ctx, func(tx *db.Tx) error {
			n, err := outbox.Trim(tx, tx.Now().Add(time.Microsecond))
			if n != 5 {
				t.Errorf("%d events dropped", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestPutRefuses(t *testing.T) {
	s := dbtest.Open(t)
	open(t, s)
	for _, e := range []outbox.Event{
		{Subject: "c", Data: 1},
		{Name: "card.issued", Data: 1},
		{Name: "card.issued", Subject: "c", Data: func() {}},
		{Name: "card.issued", Subject: "c", Data: strings.Repeat("x", outbox.MaxData)},
	} {
		err := s.Write(ctx, func(tx *db.Tx) error { return outbox.Put(tx, e) })
		if !errors.Is(err, outbox.ErrEvent) {
			t.Errorf("%s of %q: %v", e.Name, e.Subject, err)
		}
	}
}

// TestFollowHasNoGap: a follower that starts in the middle and is slower than
// the writers sees every event once, in order.
func TestFollowHasNoGap(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		o := open(t, s)
		const writers, each = 8, 150
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := put(s, "tap.collected", fmt.Sprintf("%d/%d", w, i), i); err != nil {
						t.Error(err)
					}
				}
			})
		}
		seen := map[string]bool{}
		last := int64(0)
		full := errors.New("all there")
		err := o.Follow(ctx, 0, func(e outbox.Event) error {
			if e.Seq <= last || seen[e.Subject] {
				t.Errorf("%s with %d after %d", e.Subject, e.Seq, last)
			}
			last, seen[e.Subject] = e.Seq, true
			if len(seen) == writers*each {
				return full
			}
			return nil
		})
		wg.Wait()
		if !errors.Is(err, full) {
			t.Errorf("%d events, %v", len(seen), err)
		}
	})
}

func TestSlowListenerIsDropped(t *testing.T) {
	s := dbtest.Open(t)
	o := open(t, s)
	l := o.Listen()
	for i := range 400 {
		if err := put(s, "tap.collected", "x", i); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for range l.C {
		n++
	}
	if n == 0 || n == 400 {
		t.Errorf("%d events before the end", n)
	}
	l.Close()
}

func TestFollowEndsWithItsContext(t *testing.T) {
	s := dbtest.Open(t)
	o := open(t, s)
	c, cancel := context.WithCancel(ctx)
	cancel()
	if err := o.Follow(c, 0, func(outbox.Event) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
