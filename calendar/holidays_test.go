package calendar_test

import (
	"testing"

	"koala/calendar"
)

func date(t *testing.T, s string) calendar.Date {
	t.Helper()
	d, err := calendar.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestBankDays(t *testing.T) {
	for _, tt := range []struct {
		day, next string // the first bank day after it
		bank      bool
	}{
		{"2015-09-16", "2015-09-17", true},  // a Wednesday
		{"2015-09-18", "2015-09-21", true},  // a Friday
		{"2015-09-19", "2015-09-21", false}, // a Saturday
		{"2015-09-03", "2015-09-06", false}, // Victory Day, a Thursday
		{"2015-09-06", "2015-09-07", true},  // a Sunday, worked for it
		{"2015-09-30", "2015-10-08", true},  // before the National Day week
		{"2015-10-10", "2015-10-12", true},  // a Saturday, worked for it
		{"2016-02-06", "2016-02-14", true},  // before the Spring Festival; the 14th is a Sunday
		{"2020-01-23", "2020-02-03", true},  // the festival that was made longer
		{"2012-10-01", "2012-10-02", true},  // no notice kept: a weekday
	} {
		d := date(t, tt.day)
		if d.BankDay() != tt.bank || d.NextBankDay().String() != tt.next {
			t.Errorf("%s: bank day %v, next %s; want %v, %s", d, d.BankDay(), d.NextBankDay(), tt.bank, tt.next)
		}
	}
}

// TestBankDaysOfYears: a swap takes as many days as it gives, so a year has its
// weekdays less the public holidays.
func TestBankDaysOfYears(t *testing.T) {
	for year, want := range map[int]int{2013: 250, 2014: 250, 2015: 249, 2016: 250, 2017: 249, 2018: 250, 2019: 250, 2020: 249} {
		n := 0
		for d := (calendar.Date{Year: year, Month: 1, Day: 1}); d.Year == year; d = d.AddDays(1) {
			if d.BankDay() {
				n++
			}
		}
		if n != want {
			t.Errorf("%d has %d bank days, want %d", year, n, want)
		}
	}
	if n := date(t, "2016-02-28").DaysUntil(date(t, "2016-03-01")); n != 2 {
		t.Errorf("%d days over the leap day", n)
	}
}
