// Package transit is the back office of metro and buses: it collects what
// gates took from cards, makes journeys of it, checks every fare against the
// tariff, shares it among the operators of the lines ridden, and looks after
// gates, tariff packs, the deny list and repairs.
//
// Start with Office.Collect (a gate's batch), Fold (taps to journeys, pure)
// and Repair. The network and its shortest distances are in transit/network,
// prices in fare.
package transit

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
	"koala/spec/purse"
	"koala/transit/network"
)

// The failures of this package.
var (
	ErrBatch      = fail.Define(fail.Invalid, "transit.batch", "this is not a batch of taps")
	ErrForked     = fail.Define(fail.Conflict, "transit.forked", "the card has two different payments under one sequence number")
	ErrNoJourney  = fail.Define(fail.NotFound, "transit.no_journey", "there is no such journey")
	ErrNoDevice   = fail.Define(fail.NotFound, "transit.no_device", "there is no such gate or bus")
	ErrDevice     = fail.Define(fail.Invalid, "transit.device", "a device needs a terminal number, a kind, an operator, and a station or a route")
	ErrState      = fail.Define(fail.Broken, "transit.state", "a journey was about to take a step that its table does not allow")
	ErrNotMissing = fail.Define(fail.Refused, "transit.nothing_to_repair", "this journey lacks neither entry nor exit")
	ErrRepairs    = fail.Define(fail.Refused, "transit.repair_limit", "no more repairs this month; please ask at a service desk")
	ErrTooLate    = fail.Define(fail.Refused, "transit.repair_too_late", "this journey is too old to be repaired here")
	ErrReason     = fail.Define(fail.Invalid, "transit.repair_reason", "a repair needs a station, a reason and an account")
	ErrDeny       = fail.Define(fail.Invalid, "transit.deny", "this change of the deny list is not possible")
	ErrRules      = fail.Define(fail.NotFound, "transit.no_rules", "no transit rules are in force on that day")
)

// The limits of this package.
const (
	MaxReason = 200 // bytes of a repair's reason
	maxPage   = 500
	label     = "pack.sign" // the key of tariff packs and deny lists
)

// A State is where a journey is.
type State string

// The states, and who acts next.
const (
	Open       State = "open"       // the rider: leave; or the clock
	Closed     State = "closed"     // nobody
	Incomplete State = "incomplete" // the rider: repair; or a late tap
	Repaired   State = "repaired"   // nobody; a late tap may still prove what happened
)

// next is the table of transitions. Taps arrive in any order, so what was
// closed may turn out to be two rides, and what was missing may come.
var next = map[State][]State{
	"":         {Open, Closed, Incomplete},
	Open:       {Closed, Incomplete},
	Closed:     {Incomplete}, // a tap that lay between its two arrived late
	Incomplete: {Closed, Repaired},
	Repaired:   {Closed},
}

// May says whether a journey may go from s to to.
func (s State) May(to State) bool {
	for _, t := range next[s] {
		if t == to {
			return true
		}
	}
	return s == to
}

// Transitions is the table, for pages and tests.
func Transitions() map[State][]State {
	out := map[State][]State{}
	for s, to := range next {
		out[s] = append([]State(nil), to...)
	}
	return out
}

// Words names the state, in Chinese if zh.
func (s State) Words(zh bool) string {
	w := map[State][2]string{
		Open: {"inside", "乘车中"}, Closed: {"complete", "已完成"}, Incomplete: {"a tap is missing", "行程不完整"}, Repaired: {"repaired", "已补登"},
	}[s]
	if zh {
		return w[1]
	}
	return w[0]
}

// A Finish says how a journey ended.
type Finish string

// The finishes.
const (
	Inside       Finish = ""              // not yet
	Left         Finish = "left"          // at another station
	SameStation  Finish = "same-station"  // where entered
	MissingExit  Finish = "missing-exit"  // nobody saw the rider leave
	MissingEntry Finish = "missing-entry" // nobody saw the rider enter
	SingleTap    Finish = "single"        // one tap pays: flat bus
)

// A Mode is what the rider rode.
type Mode string

// The modes.
const (
	Rail Mode = "rail"
	Bus  Mode = "bus"
)

// An Exception is why staff should look at a journey or a tap.
type Exception string

// The exceptions.
const (
	Fine           Exception = ""
	FareDiffers    Exception = "fare-differs"    // the gate took another price than the tariff
	MonthDiffers   Exception = "month-differs"   // explained by another monthly total on the card
	Behind         Exception = "behind"          // the same, and taps before it are still missing
	UnknownStation Exception = "unknown-station" // a code that the network does not have
	UnknownDevice  Exception = "unknown-device"  // a terminal that is not registered
	ClockWrong     Exception = "clock"           // stamped in the future, long ago, or not readable
	FloatShort     Exception = "float-short"     // booked from suspense: the card's float lacks the money
	Overtaken      Exception = "overtaken"       // a tap came after the repair and tells otherwise
)

// A Journey is one ride as the taps known so far tell it.
type Journey struct {
	ID            string
	Card          purse.Number
	First, Last   uint16 // card sequences of its first and last tap
	Mode          Mode
	State         State
	Finish        Finish
	From, To      fare.Code // 0 unknown; on buses the stops' codes
	Entered, Left time.Time // zero unknown
	Metres        int       // shortest distance, all regions
	Charged       money.Amount
	Due           money.Amount // by the tariff
	Adjusted      money.Amount // by repairs: what the rider paid more (or got back, negative)
	Counts        money.Amount // towards the card's monthly total
	Month         string       // 2015-09, of the payment
	Tariff        string
	Lines         []fare.Line // why Due
	Exception     Exception
	Device        purse.Terminal // of the last tap
	Taps          []uint16       // card sequences, rising
	Pays          []uint16       // those whose money is for this journey
	Deadline      time.Time      // when an open journey counts as incomplete
	Changed       time.Time
}

// Keys is what transit asks of the key store.
type Keys interface {
	CheckDebitTAC(ctx context.Context, d purse.Debit) error
	Sign(ctx context.Context, label string, data []byte) ([]byte, error)
}

// An Office does what has to wait for the key store around units of work. It
// is what devices talk to.
type Office struct {
	store *db.Store
	keys  Keys
	Net   *network.Network
}

// Books is what units of work of this package need to know: its methods take
// a *db.Tx and cannot wait.
type Books struct{ Net *network.Network }

// NewOffice returns the office over store, whose Schema is in place.
func NewOffice(store *db.Store, keys Keys, net *network.Network) *Office {
	return &Office{store: store, keys: keys, Net: net}
}

// Books gives the units of work.
func (o *Office) Books() Books { return Books{o.Net} }

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
