// Package activity keeps how a wearer moved and slept, hour by hour, as the
// band told it: for the wearer's own page and for nobody else. It is kept out
// of credit by rule: no package that scores, lends or judges risk may import
// it (floors.txt; a test of the house holds that).
//
// Start with Keep, which takes what a band tells, and Days.
package activity

import (
	"fmt"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/fail"
)

// MaxHours is how many hours a band may tell at once: 31 days and the hour
// that runs.
const MaxHours = 31*24 + 1

// ErrHours says that a band told hours that cannot be.
var ErrHours = fail.Define(fail.Invalid, "activity.bad_hours", "an hour begins on the hour, lies in the past, and has at most 60 minutes of sleep")

// An Hour is one hour of one wearer.
type Hour struct {
	Start  time.Time // UTC, on the hour
	Steps  int64
	Asleep int64 // minutes, 0-60
}

// maxSteps is more than anybody walks in an hour.
const maxSteps = 1 << 20

// Schema is what this package keeps.
var Schema = db.Schema{Owner: "activity", Steps: []string{
	`CREATE TABLE activity_hour (
		customer TEXT NOT NULL,
		start BIGINT NOT NULL,   -- microseconds
		steps BIGINT NOT NULL,
		asleep BIGINT NOT NULL,  -- minutes
		PRIMARY KEY (customer, start))`,
}}

// Keep takes hours as a band tells them. An hour told again, as the one that
// runs is, only grows: a late repetition of an earlier telling changes nothing.
func Keep(tx *db.Tx, who customer.ID, hours []Hour) error {
	if len(hours) > MaxHours {
		return fmt.Errorf("%d hours of %s: %w", len(hours), who, ErrHours)
	}
	for _, h := range hours {
		if !h.Start.Equal(h.Start.Truncate(time.Hour)) || h.Start.After(tx.Now()) || h.Steps < 0 || h.Steps > maxSteps || h.Asleep < 0 || h.Asleep > 60 {
			return fmt.Errorf("hour %s of %s: %w", h.Start.Format(time.RFC3339), who, ErrHours)
		}
		_, err := tx.Exec(`INSERT INTO activity_hour (customer, start, steps, asleep) VALUES ($1, $2, $3, $4)
			ON CONFLICT (customer, start) DO UPDATE SET
				steps = CASE WHEN excluded.steps > activity_hour.steps THEN excluded.steps ELSE activity_hour.steps END,
				asleep = CASE WHEN excluded.asleep > activity_hour.asleep THEN excluded.asleep ELSE activity_hour.asleep END`,
			string(who), h.Start.UnixMicro(), h.Steps, h.Asleep)
		if err != nil {
			return fmt.Errorf("hour of %s: %w", who, err)
		}
	}
	return nil
}

// Hours reads the hours of a wearer in [from, to), oldest first.
func Hours(q db.Reader, who customer.ID, from, to time.Time) (out []Hour, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var h Hour
		var start int64
		err := scan(&start, &h.Steps, &h.Asleep)
		h.Start = db.Moment(start)
		out = append(out, h)
		return err
	}, `SELECT start, steps, asleep FROM activity_hour WHERE customer = $1 AND start >= $2 AND start < $3 ORDER BY start`,
		string(who), from.UnixMicro(), to.UnixMicro())
	return out, err
}

// A Day is one civil day of a wearer.
type Day struct {
	Start  time.Time // its midnight
	Steps  int64
	Asleep int64 // minutes
}

// Days adds up the n civil days that end with the one of now, in the zone of
// now, oldest first; a day without a record is there with zeros.
func Days(q db.Reader, who customer.ID, now time.Time, n int) ([]Day, error) {
	y, m, d := now.Date()
	midnight := func(back int) time.Time { return time.Date(y, m, d-back, 0, 0, 0, 0, now.Location()) }
	hours, err := Hours(q, who, midnight(n-1), midnight(-1))
	if err != nil {
		return nil, fmt.Errorf("days of %s: %w", who, err)
	}
	out := make([]Day, n)
	for i := range out {
		out[i].Start = midnight(n - 1 - i)
		for _, h := range hours {
			if !h.Start.Before(out[i].Start) && h.Start.Before(midnight(n-2-i)) {
				out[i].Steps += h.Steps
				out[i].Asleep += h.Asleep
			}
		}
	}
	return out, nil
}

// Forget removes everything of a wearer, as the wearer may ask at any time.
func Forget(tx *db.Tx, who customer.ID) error {
	_, err := tx.Exec(`DELETE FROM activity_hour WHERE customer = $1`, string(who))
	return err
}
