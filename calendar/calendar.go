// Package calendar has civil dates and the days that businesses count in. It
// knows no clock: a date is made of a time somebody else read.
package calendar

import (
	"fmt"
	"time"
)

// Beijing is the one civil time zone of the house: UTC+8 without daylight
// saving, which China has not used since 1991.
var Beijing = time.FixedZone("CST", 8*60*60)

// ServiceDayTurns is the hour, in Beijing, at which a transit day begins: the
// last trains of an evening still belong to it.
const ServiceDayTurns = 4

// A Date is a civil day. It is comparable and its zero value is no day.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// Of returns the day of t in loc.
func Of(t time.Time, loc *time.Location) Date {
	y, m, d := t.In(loc).Date()
	return Date{y, m, d}
}

// ServiceDay returns the transit day that t belongs to.
func ServiceDay(t time.Time) Date { return Of(t.Add(-ServiceDayTurns*time.Hour), Beijing) }

// Parse reads 2015-09-16.
func Parse(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("date %q: write it like 2015-09-16", s)
	}
	return Of(t, time.UTC), nil
}

// String writes 2015-09-16.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, int(d.Month), d.Day) }

// IsZero says whether d is no day.
func (d Date) IsZero() bool { return d == Date{} }

// Start returns the first moment of d in loc.
func (d Date) Start(loc *time.Location) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, loc)
}

// AddDays returns the day n days on.
func (d Date) AddDays(n int) Date { return Of(d.Start(time.UTC).AddDate(0, 0, n), time.UTC) }

// Before says whether d is an earlier day than e.
func (d Date) Before(e Date) bool { return d.Start(time.UTC).Before(e.Start(time.UTC)) }

// Weekday returns the day of the week.
func (d Date) Weekday() time.Weekday { return d.Start(time.UTC).Weekday() }

// Workday says whether d is Monday to Friday. Public holidays are the
// caller's data.
func (d Date) Workday() bool { return d.Weekday() != time.Saturday && d.Weekday() != time.Sunday }

// A Month is a calendar month, the period of the rail rebate.
type Month struct {
	Year  int
	Month time.Month
}

// MonthOf returns the Beijing calendar month of t.
func MonthOf(t time.Time) Month { return Of(t, Beijing).MonthOf() }

// MonthOf returns the month d lies in.
func (d Date) MonthOf() Month { return Month{d.Year, d.Month} }

// String writes 2015-09.
func (m Month) String() string { return fmt.Sprintf("%04d-%02d", m.Year, int(m.Month)) }
