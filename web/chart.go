package web

import "strconv"

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
		v = max(v, b.Value)
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
