package transit

import (
	"fmt"
	"time"

	"koala/fare"
	"koala/money"
	"koala/transit/network"
)

// A pricer recomputes the fare of journeys in the order of the card.
type pricer struct {
	net    *network.Network
	past   Past
	taps   map[uint16]Tap
	months map[string]money.Amount
}

// price sets what the tariff asks for j, why, and whether the gate agrees.
func (p *pricer) price(j *Journey) {
	j.Month = monthOf(j)
	last := p.taps[j.Last]
	if j.State == Open {
		return
	}
	var err error
	switch {
	case last.Device.Kind == "":
		j.Due, j.Exception = j.Charged, UnknownDevice
		j.Lines = []fare.Line{{Rule: "unpriced", EN: "the device is not registered: as charged", ZH: "设备未登记:按已扣金额", Fen: j.Charged.Minor()}}
	case j.Mode == Bus:
		err = p.bus(j)
	case j.Finish == SingleTap:
		err = errNoRecord
	default:
		err = p.rail(j)
	}
	if err != nil {
		j.Due, j.Exception = j.Charged, UnknownStation
		j.Lines = []fare.Line{{Rule: "unpriced", EN: "not priced, as charged: " + err.Error(), ZH: "无法计价,按已扣金额", Fen: j.Charged.Minor()}}
	}
	p.months[j.Month] = p.spent(j.Month).Add(j.Counts)
	if j.Exception == Fine {
		for _, seq := range j.Taps {
			if p.taps[seq].ClockOff {
				j.Exception = ClockWrong
			}
		}
	}
}

func (p *pricer) spent(month string) money.Amount { return money.Fen(0).Add(p.months[month]) }

var errNoRecord = fmt.Errorf("tap without a record: %w", ErrBatch)

// ride is what the tariff wants to know of a rail journey.
func (p *pricer) ride(j *Journey) (fare.Ride, error) {
	r := fare.Ride{Entered: j.Entered, Left: j.Left}
	known := j.To
	switch j.Finish {
	case MissingExit:
		r.Case, known = fare.MissingExit, j.From
		r.Left = j.Entered
	case MissingEntry:
		r.Case, r.Entered = fare.MissingEntry, time.Time{}
	}
	if r.Case != fare.Complete {
		s, ok := p.net.ByCode(known)
		if !ok {
			return r, fmt.Errorf("station %s: %w", known, network.ErrUnknown)
		}
		r.Parts = p.net.Farthest(s)
		return r, nil
	}
	route, err := routeOf(p.net, j)
	if err != nil {
		return r, err
	}
	way := p.net.Ride(route)
	r.Case, r.Parts, r.EarlyStation = way.Case, way.Parts, way.EarlyStation
	j.Metres = route.Metres
	if r.Case == fare.SameStation {
		j.Finish = SameStation
	}
	return r, nil
}

// routeOf is the route that a rail journey's fare is made of and shared by;
// with one end known it has no length.
func routeOf(net *network.Network, j *Journey) (network.Route, error) {
	from, to := j.From, j.To
	switch j.Finish {
	case MissingExit:
		to = from
	case MissingEntry:
		from = to
	}
	a, ok1 := net.ByCode(from)
	b, ok2 := net.ByCode(to)
	if !ok1 || !ok2 {
		return network.Route{}, fmt.Errorf("station %s or %s: %w", from, to, network.ErrUnknown)
	}
	return net.Route(a, b)
}

func (p *pricer) rail(j *Journey) error {
	r, err := p.ride(j)
	if err != nil {
		return err
	}
	at := r.Left
	if at.IsZero() {
		at = r.Entered
	}
	t, err := fare.At(at)
	if err != nil {
		return err
	}
	r.MonthSpent = p.spent(j.Month)
	q, err := fare.Price(t, r)
	if err != nil {
		return err
	}
	if other, ok := p.explain(t, r, j, q); ok {
		q = other
	}
	j.accept(q)
	return nil
}

// accept makes q the journey's due.
func (j *Journey) accept(q fare.Quote) {
	j.Due, j.Counts, j.Tariff, j.Lines = q.Fen, q.Counts, q.Tariff, q.Lines
	paid := len(j.Pays) > 0 || j.Finish != MissingExit
	if j.Exception == Fine && q.Fen != j.Charged && paid {
		j.Exception = FareDiffers
	}
}

// explain looks for what could make the gate take another price than q: a
// concession of the card, or another monthly total on it (taps that have not
// come in yet, or a total that was moved). It keeps the office's own price
// and counts, unless the card's concession explains the difference.
func (p *pricer) explain(t fare.Tariff, r fare.Ride, j *Journey, q fare.Quote) (fare.Quote, bool) {
	if q.Fen == j.Charged || r.Case == fare.MissingExit {
		return q, false
	}
	for _, c := range t.Concessions {
		with := r
		with.Concession = c.Code
		if other, err := fare.Price(t, with); err == nil && other.Fen == j.Charged {
			return other, true
		}
	}
	counted := p.taps[j.Last].Counted
	for _, step := range t.Rebate {
		with := r
		with.MonthSpent = money.Fen(step.FromFen)
		other, err := fare.Price(t, with)
		if err != nil || other.Fen != j.Charged || counted.Cmp(other.Counts) < 0 {
			continue
		}
		with.MonthSpent = counted.Sub(other.Counts)
		if other, err = fare.Price(t, with); err == nil && other.Fen == j.Charged {
			j.Exception = MonthDiffers
			if p.past.Gap != nil && p.past.Gap(j.First) {
				j.Exception = Behind
			}
			return fare.Quote{}, false
		}
	}
	return q, false
}

// bus prices a bus journey by the device's route. Cards do not send their
// holder's class, so the concession that fits what was charged is taken.
func (p *pricer) bus(j *Journey) error {
	t, err := fare.At(j.Entered)
	if err != nil {
		return err
	}
	device := p.taps[j.First].Device
	ride := fare.BusRide{Card: true, At: j.Entered, Flat: money.Fen(device.Route.FlatFen)}
	if device.Route.FlatFen == 0 {
		if ride.Metres, err = device.Route.metres(j); err != nil {
			return err
		}
	}
	j.Metres = ride.Metres
	q, err := fare.PriceBus(t, ride)
	if err != nil {
		return err
	}
	for _, c := range t.Concessions {
		if q.Fen == j.Charged {
			break
		}
		with := ride
		with.Concession = c.Code
		if other, err := fare.PriceBus(t, with); err == nil && other.Fen == j.Charged {
			q = other
		}
	}
	j.accept(q)
	return nil
}
