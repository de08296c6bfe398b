package once_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
	"koala/internal/once"
)

var ctx = context.Background()

func TestDo(t *testing.T) {
	refused := fail.Define(fail.Refused, "oncetest.refused", "no")
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(ctx, once.Schema); err != nil {
			t.Fatal(err)
		}
		acts := 0
		for _, tt := range []struct {
			name, scope, key, body string
			fails                  error
			want                   error
			again                  bool
			acts                   int // afterwards
		}{
			{"first", "ann", "k1", "pay 5", nil, nil, false, 1},
			{"same again", "ann", "k1", "pay 5", nil, nil, true, 1},
			{"other body", "ann", "k1", "pay 6", nil, once.ErrDiffers, false, 1},
			{"other scope", "bob", "k1", "pay 6", nil, nil, false, 2},
			{"fails", "ann", "k2", "pay 7", refused, refused, false, 3},
			{"after a failure", "ann", "k2", "pay 8", nil, nil, false, 4},
			{"no key", "ann", "", "x", nil, once.ErrKey, false, 4},
			{"blank in key", "ann", "a b", "x", nil, once.ErrKey, false, 4},
			{"key too long", "ann", strings.Repeat("k", once.MaxKey+1), "x", nil, once.ErrKey, false, 4},
		} {
			var a once.Answer
			var again bool
			r := once.Request{Scope: tt.scope, Key: tt.key, Body: []byte(tt.body)}
			err := s.Write(ctx, func(tx *db.Tx) (err error) {
				a, again, err = once.Do(tx, r, func() (once.Answer, error) {
					acts++
					return once.Answer{Status: 201, Type: "text/plain", Body: []byte("did " + tt.body)}, tt.fails
				})
				return err
			})
			if !errors.Is(err, tt.want) || again != tt.again || acts != tt.acts {
				t.Errorf("%s: %v again %v acts %d; want %v %v %d", tt.name, err, again, acts, tt.want, tt.again, tt.acts)
			}
			if err == nil && (a.Status != 201 || string(a.Body) != "did "+tt.body) {
				t.Errorf("%s: answer %d %q", tt.name, a.Status, a.Body)
			}
		}
	})
}

func TestForgetAndFind(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(ctx, once.Schema); err != nil {
			t.Fatal(err)
		}
		r := once.Request{Scope: "ann", Key: "k", Body: []byte("x")}
		found := func() (ok bool) {
			err := s.Read(ctx, func(q *db.Query) (err error) {
				_, ok, err = once.Find(q, r)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if found() {
			t.Error("found before it was made")
		}
		err := s.Write(ctx, func(tx *db.Tx) error {
			_, _, err := once.Do(tx, r, func() (once.Answer, error) { return once.Answer{Status: 204}, nil })
			return err
		})
		if err != nil || !found() {
			t.Fatalf("not kept: %v", err)
		}
		err = s.Write(ctx, func(tx *db.Tx) error {
			n, err := once.Forget(tx, tx.Now().Add(time.Microsecond))
			if n != 1 {
				t.Errorf("%d answers forgotten", n)
			}
			return err
		})
		if err != nil || found() {
			t.Errorf("still there: %v", err)
		}
	})
}
