package pack

import "hash/fnv"

// Rings are the shares of the estate that get a pack one after the other, per
// cent: ring 0 is the first one in a hundred.
var Rings = [...]int{1, 10, 50, 100}

// Last is the ring that everybody is in.
const Last = len(Rings) - 1

// Share is where a terminal falls, 0 to 99: always the same, so that a wider
// share has every terminal of the narrower.
func Share(tid string) int {
	h := fnv.New32a()
	h.Write([]byte(tid))
	return int(h.Sum32() % 100)
}

// Ring is the ring of a terminal that nobody has put into another.
func Ring(tid string) int {
	at := Share(tid)
	for i, percent := range Rings {
		if at < percent {
			return i
		}
	}
	return Last
}

// A Stage is how far a pack has come.
type Stage struct {
	Number uint32
	Ring   int // that it has reached
	Halted bool
}

// For is the number of the pack that a terminal of a ring is given, which has
// one already; 0: none. Stages are in any order. A halted pack spreads to no
// terminal that has not got it, and is taken from none: numbers only rise, going
// back is a new pack.
func For(stages []Stage, ring int, have uint32) uint32 {
	for _, s := range stages {
		if !s.Halted && ring <= s.Ring && s.Number > have {
			have = s.Number
		}
	}
	return have
}

// The bound of failures: a ring is not halted by a few broken terminals, and
// not saved by its size.
const (
	leastFailures = 3
	mostFailures  = 2 // per cent of those that tried
)

// Exceeded says whether a ring's failures halt it, of so many terminals that
// told how the pack went.
func Exceeded(told, failed int64) bool {
	return failed >= leastFailures && failed*100 > told*mostFailures
}
