package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"koala/firmware"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	spec "koala/spec/firmware"
)

func open(t *testing.T, s *db.Store) *hsm.HSM {
	t.Helper()
	ctx := context.Background()
	if err := s.Migrate(ctx, firmware.Schema); err != nil {
		t.Fatal(err)
	}
	h, err := hsm.Open(ctx, s, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Generate(ctx, firmware.Label, hsm.Signing); err != nil {
		t.Fatal(err)
	}
	return h
}

// offered counts the bands of a hundred that are offered a version.
func offered(t *testing.T, s *db.Store, have uint32) (n int) {
	t.Helper()
	err := s.Read(context.Background(), func(q *db.Query) error {
		for i := range 1000 {
			signed, err := firmware.Offer(q, fmt.Sprintf("band_%d", i), have)
			if err != nil {
				return err
			}
			if signed != nil {
				n++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		ctx := context.Background()
		h := open(t, s)
		if err := firmware.Publish(ctx, s, h, spec.Release{Version: 2}); err != nil {
			t.Fatal(err)
		}
		if err := firmware.Publish(ctx, s, h, spec.Release{Version: 2}); !errors.Is(err, firmware.ErrVersion) {
			t.Errorf("the same version again: %v", err)
		}
		if n := offered(t, s, 0); n != 0 {
			t.Errorf("unstaged, offered to %d", n)
		}
		stage := func(p int) error {
			return s.Write(ctx, func(tx *db.Tx) error { return firmware.Stage(tx, 2, p) })
		}
		if err := stage(10); err != nil {
			t.Fatal(err)
		}
		if n := offered(t, s, 0); n < 60 || n > 140 {
			t.Errorf("10 %% of 1000 is %d", n)
		}
		if err := stage(5); !errors.Is(err, firmware.ErrStage) {
			t.Errorf("shrinking: %v", err)
		}
		if err := stage(100); err != nil || offered(t, s, 0) != 1000 || offered(t, s, 2) != 0 {
			t.Errorf("everybody: %v", err)
		}
		tell := func(band string, o firmware.Outcome) error {
			return s.Write(ctx, func(tx *db.Tx) error { return firmware.Tell(tx, band, 2, o) })
		}
		for i := range 40 {
			if err := tell(fmt.Sprintf("band_%d", i), firmware.Kept); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			if n := offered(t, s, 0); n != 1000-i {
				t.Errorf("after %d went back, offered to %d", i, n)
			}
			if err := errors.Join(tell(fmt.Sprintf("band_%d", i+100), firmware.Undone), tell(fmt.Sprintf("band_%d", i+100), firmware.Undone)); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Read(ctx, func(q *db.Query) error {
			r, err := firmware.Get(q, 2)
			if err == nil && (r.Kept != 40 || r.Undone != 3 || r.Halted == "") {
				t.Errorf("%+v", r)
			}
			return err
		})
		if err != nil || offered(t, s, 0) != 0 {
			t.Errorf("halted by itself: %v", err)
		}
		if err := tell("band_1", "lost"); !errors.Is(err, firmware.ErrOutcome) {
			t.Errorf("an outcome that is none: %v", err)
		}
	})
}
