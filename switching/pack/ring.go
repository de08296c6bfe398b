package pack

import "hash/fnv"

// Rings are the shares of the estate that get a pack one after the other, per
// cent.
var Rings = [...]int{1, 10, 50, 100}

// Share is where a terminal falls, 0 to 99: always the same, so that a wider
// ring has every terminal of the narrower.
func Share(tid string) int {
	h := fnv.New32a()
	h.Write([]byte(tid))
	return int(h.Sum32() % 100)
}

// A Rollout is how far a pack has come.
type Rollout struct {
	Base, Next uint32 // numbers of the pack everybody had before, and of the new one
	Percent    int    // 0 to 100: the ring the new one has reached
	Halted     bool
}

// For is the number of the pack that a terminal is given, which has one
// already. A halted roll-out spreads to no terminal that has not got it, and
// takes it from none: numbers only rise, a roll-back is a new pack.
func (r Rollout) For(tid string, have uint32) uint32 {
	if r.Next > r.Base && !r.Halted && Share(tid) < r.Percent {
		return max(r.Next, have)
	}
	return max(r.Base, have)
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
