package customer_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
)

func newDesk(t *testing.T, s *db.Store) *customer.Desk {
	t.Helper()
	if err := s.Migrate(context.Background(), customer.Schema); err != nil {
		t.Fatal(err)
	}
	seal := func(_ context.Context, plain []byte) ([]byte, error) { return append([]byte("sealed:"), plain...), nil }
	return &customer.Desk{Store: s, Seal: seal, Salt: clock.Random(1), Cost: 2}
}

func lin() customer.Application {
	return customer.Application{Login: "Lin", Name: "林晓", Phone: "13812345678", Secret: "dongdan-2015"}
}

func TestRegisterChecksWhatPeopleSay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		desk := newDesk(t, s)
		for _, tt := range []struct {
			name   string
			change func(*customer.Application)
			want   error
		}{
			{"as it should be", func(*customer.Application) {}, nil},
			{"login taken, other case", func(a *customer.Application) { a.Login = "LIN" }, customer.ErrTaken},
			{"login with a space", func(a *customer.Application) { a.Login = "lin x" }, customer.ErrLogin},
			{"login too long", func(a *customer.Application) { a.Login = strings.Repeat("a", 33) }, customer.ErrLogin},
			{"no name", func(a *customer.Application) { a.Login, a.Name = "b1", "" }, customer.ErrName},
			{"name with control character", func(a *customer.Application) { a.Login, a.Name = "b2", "a\x07b" }, customer.ErrName},
			{"name not UTF-8", func(a *customer.Application) { a.Login, a.Name = "b3", "\xff\xfe" }, customer.ErrName},
			{"name of 41", func(a *customer.Application) { a.Login, a.Name = "b4", strings.Repeat("名", 41) }, customer.ErrName},
			{"name of 40", func(a *customer.Application) { a.Login, a.Name = "b5", strings.Repeat("名", 40) }, nil},
			{"short phone", func(a *customer.Application) { a.Login, a.Phone = "b6", "1381234567" }, customer.ErrPhone},
			{"phone with letters", func(a *customer.Application) { a.Login, a.Phone = "b7", "1381234567x" }, customer.ErrPhone},
			{"secret too short", func(a *customer.Application) { a.Login, a.Secret = "b8", "12345" }, customer.ErrSecret},
			{"secret too long", func(a *customer.Application) { a.Login, a.Secret = "b9", strings.Repeat("x", 73) }, customer.ErrSecret},
			{"unknown role", func(a *customer.Application) { a.Login, a.Roles = "c1", []customer.Role{"king"} }, customer.ErrRole},
		} {
			a := lin()
			tt.change(&a)
			if _, err := desk.Register(context.Background(), a); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
	})
}

func TestPhoneIsSealedAndMasked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		ctx := context.Background()
		c, err := newDesk(t, s).Register(ctx, lin())
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(ctx, func(q *db.Query) error {
			got, err := customer.Get(q, c.ID)
			if err != nil || got.Phone != "138****5678" || !got.Has(customer.Wearer) || got.Has(customer.Operator) {
				t.Errorf("Get gives %+v, %v", got, err)
			}
			sealed, err := customer.Sealed(q, c.ID)
			if err != nil || !bytes.Equal(sealed, []byte("sealed:13812345678")) {
				t.Errorf("sealed phone is %q, %v", sealed, err)
			}
			list, err := customer.List(q, "", 10)
			if err != nil || len(list) != 1 || list[0].ID != c.ID {
				t.Errorf("List gives %v, %v", list, err)
			}
			if _, err := customer.Get(q, "cust_nobody"); !errors.Is(err, customer.ErrNotFound) {
				t.Errorf("Get of nobody: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestLogin(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		ctx := context.Background()
		now := clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC))
		cfg.Clock = now
		s, err := db.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		desk := newDesk(t, s)
		c, err := desk.Register(ctx, lin())
		if err != nil {
			t.Fatal(err)
		}
		block := func(b bool) func() {
			return func() {
				if err := s.Write(ctx, func(tx *db.Tx) error { return customer.SetBlocked(tx, c.ID, b) }); err != nil {
					t.Fatal(err)
				}
			}
		}
		const right, wrong = "dongdan-2015", "xidan-2015"
		for i, tt := range []struct {
			before func()
			login  string
			secret string
			want   error
		}{
			{nil, "lin", right, nil},
			{nil, "LIN", right, nil},
			{nil, "nobody", right, customer.ErrDenied},
			{nil, "lin", strings.Repeat("x", 1000), customer.ErrDenied},
			{nil, "lin", wrong, customer.ErrDenied},
			{nil, "lin", right, nil}, // clears the count
			{nil, "lin", wrong, customer.ErrDenied},
			{nil, "lin", wrong, customer.ErrDenied},
			{nil, "lin", wrong, customer.ErrDenied},
			{nil, "lin", wrong, customer.ErrDenied},
			{nil, "lin", wrong, customer.ErrDenied},
			{nil, "lin", right, customer.ErrLocked},
			{func() { now.Advance(customer.LockFor) }, "lin", right, nil},
			{block(true), "lin", right, customer.ErrBlocked},
			{block(false), "lin", right, nil},
		} {
			if tt.before != nil {
				tt.before()
			}
			if _, err := desk.Login(ctx, tt.login, tt.secret); !errors.Is(err, tt.want) {
				t.Fatalf("login %d as %s: %v, want %v", i, tt.login, err, tt.want)
			}
		}
	})
}

func TestMaskPhone(t *testing.T) {
	for in, want := range map[string]string{"13812345678": "138****5678", "": "", "12345": "*****"} {
		if got := customer.MaskPhone(in); got != want {
			t.Errorf("MaskPhone(%q) = %q, want %q", in, got, want)
		}
	}
}
