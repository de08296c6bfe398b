// Package tally counts in memory what shops have taken on cards, by class, on
// this day and in this month. It is told of a shop's past when it is first met
// and follows what units of work do: what is added counts at once, what is taken
// back when that is durable, so that it is never less than what is booked. Start
// at Tally.
package tally

import (
	"sync"

	"koala/calendar"
)

// A Change is what one transaction adds to what its shop has taken, in fen;
// below zero it takes back.
type Change struct {
	Shop, Class string
	Fen         int64
	Day         calendar.Date // of the transaction, Beijing
}

// A Tally is safe for concurrent use.
type Tally struct {
	mu      sync.Mutex
	shops   map[string]*takings
	running *[]Change // where the unit under way notes what it added; units come one after the other
}

// takings are a shop's.
type takings struct {
	day    calendar.Date
	months map[string]int64 // by class
	days   map[string]int64
}

// New makes an empty tally.
func New() *Tally { return &Tally{shops: map[string]*takings{}} }

// Begin says which unit runs now, by where its changes are noted; what an
// earlier run of it added is out. Nil: none runs.
func (y *Tally) Begin(noted *[]Change) {
	y.mu.Lock()
	y.running = noted
	y.mu.Unlock()
	if noted != nil {
		y.End(noted, false)
	}
}

// End keeps or forgets what a unit added.
func (y *Tally) End(noted *[]Change, ok bool) {
	if len(*noted) == 0 {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, x := range *noted {
		if x.Fen = -x.Fen; !ok {
			y.add(x)
		}
	}
	*noted = (*noted)[:0]
}

// Count adds x to a shop that was met, and notes it for the unit under way.
func (y *Tally) Count(x Change) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.add(x)
	if y.running != nil {
		*y.running = append(*y.running, x)
	}
}

// TakeBack adds a change that is durable.
func (y *Tally) TakeBack(x Change) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.add(x)
}

func (y *Tally) add(x Change) {
	if k := y.shops[x.Shop]; k != nil {
		k.add(x)
	}
}

func (k *takings) add(x Change) {
	k.turn(x.Day)
	if x.Day.MonthOf() == k.day.MonthOf() {
		k.months[x.Class] += x.Fen
	}
	if x.Day == k.day {
		k.days[x.Class] += x.Fen
	}
}

// turn begins a new day.
func (k *takings) turn(day calendar.Date) {
	if !k.day.Before(day) {
		return
	}
	if day.MonthOf() != k.day.MonthOf() {
		clear(k.months)
	}
	clear(k.days)
	k.day = day
}

// Met says whether the shop's past is known.
func (y *Tally) Met(shop string) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.shops[shop] != nil
}

// Meet tells a shop's past, all of the month's changes, as of a day.
func (y *Tally) Meet(shop string, day calendar.Date, past []Change) {
	k := &takings{day: day, months: map[string]int64{}, days: map[string]int64{}}
	for _, x := range past {
		k.add(x)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.shops[shop] = k
}

// Taken is what a shop that was met has taken on cards of a class, on a day and
// in its month, in fen.
func (y *Tally) Taken(shop, class string, day calendar.Date) (daily, monthly int64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	k := y.shops[shop]
	if k == nil {
		return 0, 0
	}
	k.turn(day)
	return k.days[class], k.months[class]
}
