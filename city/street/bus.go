package street

import (
	"fmt"
	"math"
	"time"

	"koala/fare"
	"koala/transit"
	"koala/transit/network"
)

// RideTime is how long the train takes between two stations, waiting and
// changing included: 34 km/h, a train every three minutes.
func RideTime(route network.Route) time.Duration {
	const metresPerSecond = 9.5
	legs := max(len(route.Legs), 1)
	return time.Duration(float64(route.Metres)/metresPerSecond)*time.Second + time.Duration(legs)*90*time.Second + time.Duration(legs-1)*3*time.Minute
}

// busOperator is the payee of what buses take.
const busOperator = "bjbus"

// PerStop is how long a bus takes from one stop to the next.
const PerStop = 4 * time.Minute

// A BusLine is one vehicle that drives to and fro between its stops, which lie
// at stations. Vehicle and timetable are simulated.
type BusLine struct {
	ID       string // bus.1
	ZH, EN   string
	Route    transit.Route
	Stations []*network.Station
}

// busPlans: the lines of the city's buses, by the stations they pass. Line
// 104 has a flat fare, the others charge by distance.
var busPlans = []struct {
	line  uint16
	flat  int64
	along []string
}{
	{1, 0, []string{"公主坟", "军事博物馆", "南礼士路", "西单", "天安门东", "东单", "国贸"}},
	{44, 0, []string{"西直门", "积水潭", "安定门", "雍和宫", "东直门", "东四十条", "朝阳门"}},
	{104, 2_00, []string{"北京站", "崇文门", "东单", "灯市口", "东四", "张自忠路"}},
}

// busLines makes the lines; a stop's distance is the straight one between
// stations and a third for the way streets go.
func busLines(n *network.Network) (out []BusLine, err error) {
	for _, p := range busPlans {
		l := BusLine{ID: fmt.Sprintf("bus.%d", p.line), ZH: fmt.Sprintf("%d路公交车", p.line), EN: fmt.Sprintf("bus %d", p.line),
			Route: transit.Route{Line: p.line, FlatFen: p.flat}}
		metres := 0
		for i, name := range p.along {
			s, err := n.Find(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.ID, err)
			}
			if k := len(l.Stations); k > 0 {
				metres += max(Apart(l.Stations[k-1], s)*4/3, 100)
			}
			l.Stations = append(l.Stations, s)
			l.Route.Stops = append(l.Route.Stops, transit.Stop{Code: fare.Code(950_000 + int(p.line)*100 + i), Metres: metres})
		}
		out = append(out, l)
	}
	return out, nil
}

// Apart is the distance between two stations in metres, on a plane: they are
// near enough to each other.
func Apart(a, b *network.Station) int {
	const perDegree = 111_320.0
	north := (a.Lat - b.Lat) * perDegree
	east := (a.Lon - b.Lon) * perDegree * math.Cos(a.Lat*math.Pi/180)
	return int(math.Hypot(north, east))
}

// Next is when the vehicle is at a stop, at or after t. It starts its run at
// the first stop every full period since midnight UTC.
func (l BusLine) Next(stop int, t time.Time) time.Time {
	n := len(l.Route.Stops) - 1
	period := time.Duration(2*n) * PerStop
	start := t.Truncate(period)
	for ; ; start = start.Add(period) {
		for _, at := range []time.Time{start.Add(time.Duration(stop) * PerStop), start.Add(time.Duration(2*n-stop) * PerStop)} {
			if !at.Before(t) {
				return at
			}
		}
	}
}

// Where is the stop at which the vehicle stands, or which it left last.
func (l BusLine) Where(t time.Time) int {
	n := len(l.Route.Stops) - 1
	k := int(t.Sub(t.Truncate(time.Duration(2*n)*PerStop)) / PerStop)
	if k > n {
		k = 2*n - k
	}
	return k
}
