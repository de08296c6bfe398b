package web

import (
	"fmt"
	"math"
	"strings"
)

// A Network is what the map draws: lines in their official colours, stations
// where they lie.
type Network struct {
	Lines    []MapLine
	Stations []MapStation
	byID     map[string]int
	lineByID map[string]int
}

// A MapLine is one line; Stops are station ids in order. A loop closes itself.
type MapLine struct {
	ID    string
	Name  Text
	Short Text   // what its badge says: 1, 10, 昌平
	Color string // official, #RRGGBB
	Loop  bool
	Stops []string
}

// A MapStation is one station with its WGS-84 position in degrees.
type MapStation struct {
	ID       string
	Name     Text
	Lat, Lon float64
	Lines    []string // ids
	x, y     float64  // on the map's canvas
}

// The map's canvas, in SVG units. Its shape suits the network.
const (
	mapWidth  = 1000.0
	mapHeight = 860.0
	mapMargin = 26.0
)

// Tiananmen, the middle of the map: the city's own zero point.
const centreLat, centreLon = 39.9075, 116.3972

// bulge < 1 widens the crowded middle and draws the suburbs in: a station at
// distance r from the centre is drawn at r^bulge. The network is taller than
// wide, so it is also stretched eastwards to fill the canvas.
const bulge, stretch = 0.6, 1.22

// NewNetwork places the stations. Lines that name an unknown station are a
// defect of the caller's data and panic.
func NewNetwork(lines []MapLine, stations []MapStation) *Network {
	n := &Network{Lines: lines, Stations: append([]MapStation(nil), stations...), byID: map[string]int{}, lineByID: map[string]int{}}
	minX, minY, maxX, maxY := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for i := range n.Stations {
		s := &n.Stations[i]
		n.byID[s.ID] = i
		s.x, s.y = project(s.Lat, s.Lon)
		minX, maxX = min(minX, s.x), max(maxX, s.x)
		minY, maxY = min(minY, s.y), max(maxY, s.y)
	}
	scale := min((mapWidth-2*mapMargin)/max(maxX-minX, 1e-9), (mapHeight-2*mapMargin)/max(maxY-minY, 1e-9))
	padX, padY := (mapWidth-(maxX-minX)*scale)/2, (mapHeight-(maxY-minY)*scale)/2
	for i := range n.Stations {
		s := &n.Stations[i]
		s.x, s.y = (s.x-minX)*scale+padX, (s.y-minY)*scale+padY
	}
	for i, l := range lines {
		n.lineByID[l.ID] = i
		for _, id := range l.Stops {
			if _, ok := n.byID[id]; !ok {
				panic("web: line " + l.ID + " names unknown station " + id)
			}
		}
	}
	return n
}

// project gives kilometres east and south of the centre, bulged.
func project(lat, lon float64) (x, y float64) {
	const kmPerDegree = 111.32
	x = (lon - centreLon) * kmPerDegree * math.Cos(centreLat*math.Pi/180)
	y = (centreLat - lat) * kmPerDegree
	r := math.Hypot(x, y)
	if r == 0 {
		return 0, 0
	}
	k := math.Pow(r, bulge) / r
	return x * k * stretch, y * k
}

// Station finds a station by id.
func (n *Network) Station(id string) (MapStation, bool) {
	i, ok := n.byID[id]
	if !ok {
		return MapStation{}, false
	}
	return n.Stations[i], true
}

// Line finds a line by id.
func (n *Network) Line(id string) (MapLine, bool) {
	i, ok := n.lineByID[id]
	if !ok {
		return MapLine{}, false
	}
	return n.Lines[i], true
}

// A MapView is what a page wants of the map.
type MapView struct {
	Live  bool                // pulse at live "tap" events, move trains at "train" events
	Href  func(string) string // a station leads there; nil: stations are not links
	Route []string            // stations of a ride: drawn strong, the rest pale
	Label []string            // stations named even when zoomed out
	Quiet bool                // no list of stations behind it: the page has its own
}

// defaultLabels are stations people orient themselves by.
var defaultLabels = []string{"dongdan", "xizhimen", "wangjing", "changping", "songjiazhuang", "pingguoyuan"}

func (n *Network) polyline(l MapLine) string { return n.points(l.Stops, l.Loop) }

func (n *Network) points(stops []string, loop bool) string {
	var b strings.Builder
	for _, id := range stops {
		if i, ok := n.byID[id]; ok {
			fmt.Fprintf(&b, "%.1f,%.1f ", n.Stations[i].x, n.Stations[i].y)
		}
	}
	if i, ok := n.byID[first(stops)]; ok && loop {
		fmt.Fprintf(&b, "%.1f,%.1f", n.Stations[i].x, n.Stations[i].y)
	}
	return strings.TrimSpace(b.String())
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// ends gives a ride's first and last station.
func (n *Network) ends(route []string) []MapStation {
	var out []MapStation
	if len(route) > 0 {
		for _, id := range []string{route[0], route[len(route)-1]} {
			if s, ok := n.Station(id); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// box is the part of the canvas a page starts with: the ride with some air
// around it, else everything.
func (n *Network) box(route []string) string {
	if len(route) == 0 {
		return fmt.Sprintf("0 0 %.0f %.0f", mapWidth, mapHeight)
	}
	minX, minY, maxX, maxY := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, id := range route {
		if s, ok := n.Station(id); ok {
			minX, maxX = min(minX, s.x), max(maxX, s.x)
			minY, maxY = min(minY, s.y), max(maxY, s.y)
		}
	}
	if minX > maxX {
		return n.box(nil)
	}
	const air, least = 50.0, 260.0
	w := max(maxX-minX+2*air, least, (maxY-minY+2*air)*mapWidth/mapHeight)
	h := w * mapHeight / mapWidth
	return fmt.Sprintf("%.1f %.1f %.1f %.1f", (minX+maxX-w)/2, (minY+maxY-h)/2, w, h)
}

func coord(f float64) string { return fmt.Sprintf("%.1f", f) }

// inkOn says whether dark or white letters stand out on a line's colour, by
// its relative luminance (WCAG 2, 1.4.3).
func inkOn(color string) string {
	var r, g, b int
	if n, err := fmt.Sscanf(color, "#%02x%02x%02x", &r, &g, &b); n != 3 || err != nil {
		return "#1D2421"
	}
	lin := func(c int) float64 {
		v := float64(c) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	if 0.2126*lin(r)+0.7152*lin(g)+0.0722*lin(b) > 0.24 {
		return "#1D2421"
	}
	return "#FFFFFF"
}

// side puts the names of the map's right third to the left of their stations.
// A ride's two ends lie near the edges of its part of the map: a long ride's
// names point inwards, a short one's apart from each other.
func (n *Network) side(v MapView, s MapStation) string {
	west, east := "start", "end"
	middle := mapWidth * 0.66
	if ends := n.ends(v.Route); len(ends) == 2 {
		const long = 200.0
		middle = (ends[0].x + ends[1].x) / 2
		if math.Abs(ends[0].x-ends[1].x) < long {
			west, east = east, west
		}
	}
	if s.x > middle {
		return east
	}
	return west
}
