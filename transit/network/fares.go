package network

import (
	"fmt"
	"slices"
	"time"

	"koala/fare"
	"koala/money"
)

// A Question is what `koala fare` is asked.
type Question struct {
	From, To   string // names, slugs or codes
	At         time.Time
	Stay       time.Duration // inside; zero takes no time
	MonthSpent money.Amount
	Concession string
}

// An Answer is the priced route.
type Answer struct {
	Route Route
	Quote fare.Quote
}

// Fare prices a ride between two named stations that begins at q.At.
func (n *Network) Fare(q Question) (Answer, error) {
	from, err := n.Find(q.From)
	if err != nil {
		return Answer{}, fmt.Errorf("from: %w", err)
	}
	to, err := n.Find(q.To)
	if err != nil {
		return Answer{}, fmt.Errorf("to: %w", err)
	}
	r, err := n.Route(from, to)
	if err != nil {
		return Answer{}, err
	}
	t, err := fare.At(q.At)
	if err != nil {
		return Answer{}, err
	}
	ride := n.Ride(r)
	ride.Entered, ride.Left = q.At, q.At.Add(q.Stay)
	ride.MonthSpent, ride.Concession = q.MonthSpent, q.Concession
	quote, err := fare.Price(t, ride)
	return Answer{r, quote}, err
}

// Ride returns what Price needs to know of a route.
func (n *Network) Ride(r Route) fare.Ride {
	ride := fare.Ride{Parts: r.Parts(), EarlyStation: n.early[r.From]}
	if r.From == r.To {
		ride.Case = fare.SameStation
	}
	return ride
}

// Early says whether s is on the early-bird list.
func (n *Network) Early(s *Station) bool { return n.early[s] }

// Table makes the fare table of the gates at s: the shortest ride from every
// entry code under tariff t.
func (n *Network) Table(s *Station, t fare.Tariff, version uint32, from, to fare.Day) (*fare.Table, error) {
	tb := &fare.Table{Station: s.Code(), Version: version, From: from, To: to, Tariff: t}
	for _, entry := range n.Stations {
		r, err := n.Route(entry, s)
		if err != nil {
			return nil, err
		}
		for _, code := range entry.Codes {
			tb.Entries = append(tb.Entries, fare.Entry{Code: code, Same: entry == s, Early: n.early[entry], Parts: r.Parts()})
		}
	}
	slices.SortFunc(tb.Entries, func(a, b fare.Entry) int { return int(a.Code) - int(b.Code) })
	return tb, nil
}

// Farthest returns the longest ride to s inside its own region, the measure
// of the highest fare sold there; the same as the table's.
func (n *Network) Farthest(s *Station) []fare.Part {
	own := s.region()
	far := fare.Part{Region: own}
	for _, entry := range n.Stations {
		r, err := n.Route(entry, s)
		if err != nil {
			continue
		}
		if parts := r.Parts(); len(parts) == 1 && parts[0].Region == own && parts[0].Metres > far.Metres {
			far = parts[0]
		}
	}
	return []fare.Part{far}
}
