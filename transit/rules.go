package transit

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
)

// Rules are the office's own parameters, dated.
type Rules struct {
	From            fare.Day `json:"from"`
	To              fare.Day `json:"to,omitzero"`
	OpenHours       int      `json:"open_hours"`        // an entry without exit counts as missing after this
	RepairsPerMonth int      `json:"repairs_per_month"` // by the rider, per card
	RepairDays      int      `json:"repair_days"`       // how old a journey may be
	FutureMinutes   int      `json:"future_minutes"`    // a gate's clock may be ahead by this
	OldestDays      int      `json:"oldest_days"`       // older taps are booked and looked at
	K               int      `json:"k"`                 // smallest group of cards that a passenger flow shows
	DenyDays        int      `json:"deny_days"`         // a gate whose deny list is older shows a warning
	Source          string   `json:"source"`
}

//go:embed rules.json
var rulesJSON []byte

var rules = func() []Rules {
	var all []Rules
	if err := json.Unmarshal(rulesJSON, &all); err != nil {
		panic(err) // the embedded data is part of the program
	}
	return all
}()

// RulesAt returns the rules of the service day of t.
func RulesAt(t time.Time) (Rules, error) {
	d := calendar.ServiceDay(t)
	for _, r := range rules {
		if !d.Before(r.From.Date) && (r.To.IsZero() || !r.To.Before(d)) {
			return r, nil
		}
	}
	return Rules{}, fmt.Errorf("rules of %s: %w", d, ErrRules)
}
