package calendar_test

import (
	"testing"
	"time"

	"koala/calendar"
)

func TestServiceDayTurnsAtFour(t *testing.T) {
	for _, tt := range []struct{ at, want string }{
		{"2015-09-16T03:59:59+08:00", "2015-09-15"},
		{"2015-09-16T04:00:00+08:00", "2015-09-16"},
		{"2015-09-16T23:59:59+08:00", "2015-09-16"},
		{"2015-09-16T19:30:00Z", "2015-09-16"}, // 03:30 on the 17th in Beijing
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := calendar.ServiceDay(at).String(); got != tt.want {
			t.Errorf("service day of %s is %s, want %s", tt.at, got, tt.want)
		}
	}
}

func TestParseWritesBack(t *testing.T) {
	for _, s := range []string{"2015-09-16", "2016-02-29", "1999-12-31"} {
		if d, err := calendar.Parse(s); err != nil || d.String() != s {
			t.Errorf("Parse(%q) = %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "2015-9-16", "2015-02-29", "16.09.2015"} {
		if d, err := calendar.Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, d)
		}
	}
}

func TestAddDaysCrossesMonths(t *testing.T) {
	d := calendar.Date{Year: 2016, Month: time.February, Day: 28}
	if got := d.AddDays(2).String(); got != "2016-03-01" {
		t.Errorf("two days after %v is %s", d, got)
	}
	if !d.Before(d.AddDays(1)) || d.Before(d) {
		t.Error("Before is not the order of days")
	}
	if got := calendar.MonthOf(d.Start(calendar.Beijing)).String(); got != "2016-02" {
		t.Errorf("month is %s", got)
	}
}
