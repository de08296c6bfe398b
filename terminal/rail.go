package terminal

import (
	"time"

	"koala/calendar"
	"koala/spec/purse"
)

// States of the rail record as this house writes them; no public text says
// what the two values mean elsewhere.
const (
	StateNormal   = 0x55
	StateRepaired = 0x66 // written by a self-service machine
)

// maxAccumulated is what three bytes on the card hold, fen.
const maxAccumulated = 1<<24 - 1

// OnBus says that the record's last ride was on a bus: buses that price by
// distance share the rail record, and mark it.
func OnBus(r purse.Transit) bool { return r.Flags[0] == purse.IndustryBus }

// Within says whether a stamp and the tap are no further apart than limit,
// whichever clock is ahead.
func (t *Tap) Within(s purse.Stamp, limit time.Duration) bool {
	at, err := s.Moment()
	return err == nil && t.At.Sub(at) <= limit && at.Sub(t.At) <= limit
}

// Device is the terminal number in the eight bytes of records.
func (c *Collector) Device() (d [8]byte) {
	copy(d[2:], c.Terminal[:])
	return d
}

// Touched is the card's rail record with this device and moment as the last,
// and the monthly totals set back in a new month. Count spent with Spend.
func (t *Tap) Touched(industry byte) purse.Transit {
	r := t.Rail
	at, err := r.LastAt.Moment()
	if err != nil || calendar.MonthOf(at) != calendar.MonthOf(t.At) {
		r.Accumulated, r.Count = 0, 0
	}
	r.LastAt, r.LastDevice = t.Stamp, [4]byte(t.c.Terminal[2:])
	r.Flags[0], r.State = industry, StateNormal
	return r
}

// Spend adds a ride to the monthly totals.
func Spend(r *purse.Transit, fen uint32) {
	r.Accumulated = min(r.Accumulated+fen, maxAccumulated)
	if r.Count < 0xFFFF {
		r.Count++
	}
}

// TwoDigits is n modulo 100 in BCD.
func TwoDigits(n uint32) byte { return byte(n/10%10<<4 | n%10) }

// ConcessionOf is the tariff's concession code for a card type, empty for
// none. Tariffs name their concessions by these words.
func ConcessionOf(t purse.CardType) string {
	switch t {
	case purse.CardStudent:
		return "student"
	case purse.CardSenior:
		return "senior"
	default:
		return ""
	}
}
