// Package network is the rail network as data: lines, stations, segments and
// interchanges, embedded in the program, with the shortest distances that
// fares are made of. It is pure; the sources stand in data/README.md. Start at
// Beijing, then Find and Route.
package network

import (
	"sync"

	"koala/fare"
	"koala/internal/fail"
)

// The failures of this package.
var (
	ErrData      = fail.Define(fail.Broken, "network.data", "the network data is not consistent")
	ErrUnknown   = fail.Define(fail.NotFound, "network.unknown_station", "no such station")
	ErrAmbiguous = fail.Define(fail.Invalid, "network.ambiguous_station", "more than one station has that name")
	ErrClosed    = fail.Define(fail.NotFound, "network.closed_station", "that station is closed")
	ErrNoRoute   = fail.Define(fail.NotFound, "network.no_route", "there is no way between these stations")
	ErrOperator  = fail.Define(fail.NotFound, "network.no_operator", "nobody runs that line on that day")
)

// A Line is one line with its stations in running order.
type Line struct {
	ID     string      `json:"id"` // 1, 10, CP, CAE
	ZH     string      `json:"zh"`
	EN     string      `json:"en"`
	Color  string      `json:"color"` // #RRGGBB, the operator's
	Loop   bool        `json:"loop"`
	Metres int         `json:"metres"`
	Region fare.Region `json:"region"`
	Stops  []Stop      `json:"stops"`
}

// A Stop is one line's platforms at a station.
type Stop struct {
	Station  *Station  `json:"-"`
	Code     fare.Code `json:"code"`
	Official bool      `json:"official"` // the operator's code; else one of ours beginning with 99
	Lat      float64   `json:"lat"`      // WGS-84; the station's where the line's own is not known
	Lon      float64   `json:"lon"`
}

// A Station is where riders enter and leave. Stations that share a name and
// not a fare area (大钟寺 of lines 12 and 13) are two.
type Station struct {
	ID       string      `json:"id"` // slug: dongdan
	ZH       string      `json:"zh"`
	EN       string      `json:"en"`
	Aliases  []string    `json:"aliases,omitempty"`
	Lat      float64     `json:"lat"`
	Lon      float64     `json:"lon"`
	District string      `json:"district"` // GB/T 2260
	Lines    []*Line     `json:"-"`
	Codes    []fare.Code `json:"codes"` // one per line, in the order of Lines
	index    int
}

// Code is the station's first code, the one its gates price by.
func (s *Station) Code() fare.Code { return s.Codes[0] }

// On says whether the station has platforms in region r.
func (s *Station) On(r fare.Region) bool {
	for _, l := range s.Lines {
		if l.Region == r {
			return true
		}
	}
	return false
}

// A Segment joins two neighbouring stations of a line.
type Segment struct {
	Line     *Line
	From, To *Station
	Metres   int
	OneWay   bool // only From to To: the airport line's terminal loop
}

// A Closed station is not in the network, but people ask for it.
type Closed struct {
	ZH, EN   string
	Line     *Line
	From, To *Station // it lies between them
	Note     string
}

// A Network is immutable once loaded and safe for all.
type Network struct {
	Lines     []*Line
	Stations  []*Station
	Segments  []Segment
	Closed    []Closed
	Operators []Operator

	byLine map[string]*Line
	byID   map[string]*Station
	byCode map[fare.Code]*Station
	names  map[string][]*Station // folded name to stations
	edges  [][]edge              // by station index
	early  map[*Station]bool     // entry stations of the early-bird rule

	mu    sync.Mutex
	trees map[treeKey][]hop // shortest-path trees, kept once computed
}

// Beijing returns the embedded network.
func Beijing() *Network { return beijing() }

var beijing = sync.OnceValue(func() *Network {
	n, err := load(files)
	if err != nil {
		panic(err) // the embedded data is part of the program
	}
	return n
})

// Line returns the line with that id.
func (n *Network) Line(id string) (*Line, bool) {
	l, ok := n.byLine[id]
	return l, ok
}

// ByCode returns the station that has platforms with that code.
func (n *Network) ByCode(c fare.Code) (*Station, bool) {
	s, ok := n.byCode[c]
	return s, ok
}

// ByID returns the station with that slug.
func (n *Network) ByID(id string) (*Station, bool) {
	s, ok := n.byID[id]
	return s, ok
}
