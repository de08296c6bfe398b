package calendar

import (
	_ "embed" // the rows
	"strings"
	"time"
)

// holidayRows are the notices of the State Council, year by year: a public
// holiday from one day to another, or a weekend day that is worked for it.
//
//go:embed holidays.csv
var holidayRows string

// special are the days that differ from their weekday: true is worked.
var special = readHolidays(holidayRows)

func readHolidays(rows string) map[Date]bool {
	all := map[Date]bool{}
	for line := range strings.Lines(rows) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if f[0] == "from" {
			continue
		}
		from, err := Parse(f[0])
		to, err2 := Parse(f[1])
		if err != nil || err2 != nil || to.Before(from) || f[2] != "off" && f[2] != "work" {
			panic("calendar: holidays.csv: " + line) // a defect of this package, found by its first test
		}
		for d := from; !to.Before(d); d = d.AddDays(1) {
			all[d] = f[2] == "work"
		}
	}
	return all
}

// BankDay says whether banks settle on d: Monday to Friday without the public
// holidays of mainland China, and the weekend days worked in exchange. Years
// outside the notices that are kept (2013 to 2020) know only weekdays.
func (d Date) BankDay() bool {
	if worked, ok := special[d]; ok {
		return worked
	}
	return d.Workday()
}

// NextBankDay is the first bank day after d.
func (d Date) NextBankDay() Date {
	for d = d.AddDays(1); !d.BankDay(); d = d.AddDays(1) {
	}
	return d
}

// DaysUntil counts the days from d to e; below zero when e is earlier.
func (d Date) DaysUntil(e Date) int {
	const hours = 24
	return int(e.Start(time.UTC).Sub(d.Start(time.UTC)).Hours()) / hours
}
