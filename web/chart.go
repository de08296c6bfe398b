package web

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// A BarChart shows amounts or counts side by side. Its numbers stand in a
// table behind it, which reads the same without seeing the picture.
type BarChart struct {
	ID    string
	Title Text
	What  Text // head of the table's first column
	Of    Text // head of its second column
	Money bool // values are fen
	Bars  []Bar
	Every int // label every so many bars; 0 labels all
}

// A Bar is one value of a chart.
type Bar struct {
	Label Text  // below the bar, short
	Full  Text  // in the table; empty: Label
	Value int64 // below zero is drawn as nothing and stands in the table
	Ghost int64 // what it is compared with, drawn behind; Note says it
	Note  Text  // third column of the table, for charts whose bars have notes
	Now   bool  // the one that still grows
	Href  string
}

func (b Bar) full() Text {
	if b.Full.Empty() {
		return b.Label
	}
	return b.Full
}

func (c BarChart) say(v int64) string {
	if c.Money {
		return Yuan(v)
	}
	return Number(v)
}

// most is the highest bar.
func (c BarChart) most() (v int64) {
	for _, b := range c.Bars {
		v = max(v, b.Value, b.Ghost)
	}
	return v
}

func (c BarChart) noted() bool {
	for _, b := range c.Bars {
		if !b.Note.Empty() {
			return true
		}
	}
	return false
}

func (c BarChart) labelled(i int) bool { return c.Every <= 1 || i%c.Every == 0 }

// barHeight is a bar's height in a box of 100; what is not nothing shows.
func (c BarChart) barHeight(v int64) string {
	top := c.most()
	if top == 0 || v <= 0 {
		return "0"
	}
	return strconv.FormatFloat(max(1.5, float64(v)/float64(top)*100), 'f', 1, 64)
}

func (c BarChart) barTop(v int64) string {
	h, _ := strconv.ParseFloat(c.barHeight(v), 64)
	return strconv.FormatFloat(100-h, 'f', 1, 64)
}

// A Slice is one part of a whole.
type Slice struct {
	Name  Text
	Value int64
	Note  string // beside the value; may be empty
}

// A Parted is a whole in parts: one bar, with its parts listed below.
type Parted struct {
	Title Text
	Money bool
	Parts []Slice
}

// A span is a part's place in a bar that is 1000 wide.
type span struct{ x, width string }

func (p Parted) whole() (sum int64) {
	for _, s := range p.Parts {
		sum += max(0, s.Value)
	}
	return sum
}

func (p Parted) spans() []span {
	whole, at := p.whole(), int64(0)
	out := make([]span, len(p.Parts))
	for i, s := range p.Parts {
		v := max(0, s.Value)
		if whole > 0 {
			from, to := at*1000/whole, (at+v)*1000/whole
			out[i] = span{strconv.FormatInt(from, 10), strconv.FormatInt(to-from, 10)}
		}
		at += v
	}
	return out
}

// percent is a part's share of the whole, to a tenth.
func (p Parted) percent(v int64) string {
	whole := p.whole()
	if whole == 0 || v <= 0 {
		return "0 %"
	}
	tenths := (v*1000 + whole/2) / whole
	return strconv.FormatInt(tenths/10, 10) + "." + strconv.FormatInt(tenths%10, 10) + " %"
}

func (p Parted) say(v int64) string { return BarChart{Money: p.Money}.say(v) }

func shareClass(i int) string { return "share-" + strconv.Itoa(i%5) }

// A HeatMap is a table whose cells are coloured by how they are: it is its own
// table behind.
type HeatMap struct {
	ID   string
	Of   Text   // what the rows are
	Days []Text // heads of the columns, short
	Rows []HeatRow
}

// A HeatRow is one row.
type HeatRow struct {
	Name  Text
	Href  string // may be empty
	Cells []HeatCell
}

// A HeatCell is how one thing was on one day. A cell without words is empty.
type HeatCell struct {
	Tone  Tone
	Text  Text // short: a number, a sign
	Title Text // in full
	Href  string
}

// A GeoMap shows places of China in a plain projection, the larger the number
// the larger the circle. Bare places show where there is nothing.
type GeoMap struct {
	Title  Text
	Money  bool // values are fen
	Places []GeoPlace
	Names  int // how many of the largest are named on the map
}

// A GeoPlace is one place, degrees WGS-84.
type GeoPlace struct {
	Name     Text
	Lat, Lon float64
	Value    int64
	Note     Text // in the tip; may be empty
	Href     string
}

// The part of the world that a GeoMap shows, and what a degree of latitude is in
// its units; one of longitude is shorter, as at 36 degrees north.
const (
	geoWest, geoEast   = 73.0, 135.5
	geoSouth, geoNorth = 17.5, 54.0
	geoDegree          = 20.0
)

var geoNarrow = math.Cos(36 * math.Pi / 180)

func geoX(lon float64) float64 { return (lon - geoWest) * geoDegree * geoNarrow }
func geoY(lat float64) float64 { return (geoNorth - lat) * geoDegree }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

func geoBox() string { return "0 0 " + decimal(geoX(geoEast)) + " " + decimal(geoY(geoSouth)) }

// geoLines are the meridians and parallels at whole tens of degrees.
func geoLines() (out [][4]string) {
	for lon := 80.0; lon < geoEast; lon += 10 {
		out = append(out, [4]string{decimal(geoX(lon)), "0", decimal(geoX(lon)), decimal(geoY(geoSouth))})
	}
	for lat := 20.0; lat < geoNorth; lat += 10 {
		out = append(out, [4]string{"0", decimal(geoY(lat)), decimal(geoX(geoEast)), decimal(geoY(lat))})
	}
	return out
}

// drawn are the places with something, largest first, so that small ones lie on
// top.
func (g GeoMap) drawn() (out []GeoPlace) {
	for _, p := range g.Places {
		if p.Value > 0 {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b GeoPlace) int { return cmp.Compare(b.Value, a.Value) })
	return out
}

// radius has a circle's area follow the value.
func (g GeoMap) radius(v int64) string {
	top := int64(1)
	for _, p := range g.Places {
		top = max(top, p.Value)
	}
	const least, most = 5, 34
	return decimal(least + (most-least)*math.Sqrt(float64(v)/float64(top)))
}

func (g GeoMap) say(p GeoPlace) Text {
	n := BarChart{Money: g.Money}.say(p.Value)
	out := Text{ZH: p.Name.ZH + " · " + n, EN: p.Name.EN + " · " + n}
	if !p.Note.Empty() {
		out.ZH, out.EN = out.ZH+" · "+p.Note.ZH, out.EN+" · "+p.Note.EN
	}
	return out
}

// geoSide puts names near the right edge to the left of their place.
func geoSide(p GeoPlace) string {
	if p.Lon > 122 {
		return "end"
	}
	return "start"
}

func (g GeoMap) beside(p GeoPlace) string {
	r, _ := strconv.ParseFloat(g.radius(p.Value), 64)
	if geoSide(p) == "end" {
		return decimal(geoX(p.Lon) - r - 4)
	}
	return decimal(geoX(p.Lon) + r + 4)
}
