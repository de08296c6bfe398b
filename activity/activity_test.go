package activity_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"koala/activity"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
)

var noon = time.Date(2015, 9, 16, 4, 0, 0, 0, time.UTC) // 12:00 in Beijing

func TestKeep(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		cfg.Clock = clock.NewVirtual(noon.Add(30 * time.Minute))
		s, err := db.Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx := context.Background()
		if err := s.Migrate(ctx, activity.Schema); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name string
			hour activity.Hour
			want error
		}{
			{"an hour that runs", activity.Hour{Start: noon, Steps: 100, Asleep: 0}, nil},
			{"told again, grown", activity.Hour{Start: noon, Steps: 250}, nil},
			{"an old telling, late", activity.Hour{Start: noon, Steps: 100}, nil},
			{"the night", activity.Hour{Start: noon.Add(-10 * time.Hour), Asleep: 60}, nil},
			{"the evening before", activity.Hour{Start: noon.Add(-13 * time.Hour), Steps: 9}, nil},
			{"not on the hour", activity.Hour{Start: noon.Add(time.Minute)}, activity.ErrHours},
			{"in the future", activity.Hour{Start: noon.Add(time.Hour)}, activity.ErrHours},
			{"negative steps", activity.Hour{Start: noon, Steps: -1}, activity.ErrHours},
			{"61 minutes", activity.Hour{Start: noon, Asleep: 61}, activity.ErrHours},
		} {
			err := s.Write(ctx, func(tx *db.Tx) error { return activity.Keep(tx, "cust_1", []activity.Hour{tt.hour}) })
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		beijing := time.FixedZone("CST", 8*3600)
		err = s.Read(ctx, func(q *db.Query) error {
			days, err := activity.Days(q, "cust_1", noon.In(beijing), 3)
			if err != nil {
				return err
			}
			want := []activity.Day{{Steps: 0}, {Steps: 9}, {Steps: 250, Asleep: 60}}
			for i, d := range days {
				if d.Steps != want[i].Steps || d.Asleep != want[i].Asleep {
					t.Errorf("day %d: %+v, want %+v", i, d, want[i])
				}
			}
			if other, _ := activity.Hours(q, "cust_2", time.Time{}, noon.Add(time.Hour)); len(other) != 0 {
				t.Errorf("somebody else's: %v", other)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(ctx, func(tx *db.Tx) error { return activity.Forget(tx, "cust_1") }); err != nil {
			t.Fatal(err)
		}
		s.Read(ctx, func(q *db.Query) error {
			if h, err := activity.Hours(q, "cust_1", time.Time{}, noon.Add(time.Hour)); err != nil || len(h) != 0 {
				t.Errorf("forgotten: %v %v", h, err)
			}
			return nil
		})
	})
}
