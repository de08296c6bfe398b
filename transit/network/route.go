package network

import (
	"container/heap"
	"fmt"
	"slices"

	"koala/fare"
)

type edge struct {
	to     int // station index
	metres int
	line   *Line
}

// A hop is the last step of the shortest path to a station.
type hop struct {
	dist int // metres from the root, unreached when negative
	from int // station index, -1 at the root
	line *Line
}

// A treeKey names a shortest-path tree: its root and the region it stays in,
// empty for all.
type treeKey struct {
	root   int
	region fare.Region
}

// A Leg is a stretch on one line.
type Leg struct {
	Line     *Line
	From, To *Station
	Via      []*Station // every station from From to To, both included
	Metres   int
}

// A Route is the shortest way between two stations.
type Route struct {
	From, To *Station
	Metres   int
	Legs     []Leg
}

// Parts sums the route by region in riding order, as fares are charged. A
// route from a station to itself has one part of no length.
func (r Route) Parts() []fare.Part {
	var parts []fare.Part
	for _, leg := range r.Legs {
		i := slices.IndexFunc(parts, func(p fare.Part) bool { return p.Region == leg.Line.Region })
		if i < 0 {
			parts, i = append(parts, fare.Part{Region: leg.Line.Region}), len(parts)
		}
		parts[i].Metres += leg.Metres
	}
	if parts == nil {
		parts = []fare.Part{{Region: r.From.region()}}
	}
	return parts
}

// region is the one a rider pays for who leaves where he entered.
func (s *Station) region() fare.Region {
	if s.On(fare.Network) {
		return fare.Network
	}
	return s.Lines[0].Region
}

// Route returns the shortest way. Two stations of one region are joined
// inside it, the metro first: nobody pays the airport line between two metro
// stations. Only in-station interchanges count. Of two ways of equal length
// the one that the search meets first is taken; it goes by distance and then
// by the order of the files, so the result never depends on the run.
func (n *Network) Route(from, to *Station) (Route, error) {
	tree := n.tree(treeKey{from.index, sharedRegion(from, to)})
	if tree[to.index].dist < 0 {
		return Route{}, fmt.Errorf("%s to %s: %w", from.ZH, to.ZH, ErrNoRoute)
	}
	r := Route{From: from, To: to, Metres: tree[to.index].dist}
	for at := to.index; at != from.index; at = tree[at].from {
		h, s, prev := tree[at], n.Stations[at], n.Stations[tree[at].from]
		metres := h.dist - tree[h.from].dist
		if last := len(r.Legs) - 1; last >= 0 && r.Legs[last].Line == h.line {
			r.Legs[last].From, r.Legs[last].Metres = prev, r.Legs[last].Metres+metres
			r.Legs[last].Via = append(r.Legs[last].Via, prev)
			continue
		}
		r.Legs = append(r.Legs, Leg{Line: h.line, From: prev, To: s, Via: []*Station{s, prev}, Metres: metres})
	}
	slices.Reverse(r.Legs)
	for _, leg := range r.Legs {
		slices.Reverse(leg.Via)
	}
	return r, nil
}

// sharedRegion is the region both stations are in, the metro if possible;
// empty when a ride has to cross regions.
func sharedRegion(a, b *Station) fare.Region {
	if a.On(fare.Network) && b.On(fare.Network) {
		return fare.Network
	}
	for _, l := range a.Lines {
		if b.On(l.Region) {
			return l.Region
		}
	}
	return ""
}

// tree returns the shortest-path tree of key (Dijkstra), computed once.
func (n *Network) tree(key treeKey) []hop {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, ok := n.trees[key]; ok {
		return t
	}
	t := n.grow(key)
	n.trees[key] = t
	return t
}

func (n *Network) grow(key treeKey) []hop {
	tree := make([]hop, len(n.Stations))
	for i := range tree {
		tree[i] = hop{dist: -1, from: -1}
	}
	tree[key.root].dist = 0
	done := make([]bool, len(n.Stations))
	queue := &frontier{{0, key.root}}
	for queue.Len() > 0 {
		at := heap.Pop(queue).(reached)
		if done[at.station] {
			continue
		}
		done[at.station] = true
		for _, e := range n.edges[at.station] {
			if key.region != "" && e.line.Region != key.region {
				continue
			}
			old, next := tree[e.to], hop{at.dist + e.metres, at.station, e.line}
			if old.dist < 0 || next.dist < old.dist {
				tree[e.to] = next
				heap.Push(queue, reached{next.dist, e.to})
			}
		}
	}
	return tree
}

type reached struct{ dist, station int }

// A frontier is the queue of Dijkstra's search, nearest first, then file order.
type frontier []reached

func (f frontier) Len() int { return len(f) }
func (f frontier) Less(i, j int) bool {
	return f[i].dist < f[j].dist || f[i].dist == f[j].dist && f[i].station < f[j].station
}
func (f frontier) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *frontier) Push(x any)   { *f = append(*f, x.(reached)) }
func (f *frontier) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}
