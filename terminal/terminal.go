// Package terminal is what accepting devices share. For all of them: what
// survives power loss (Flash, and on it a Bank for one signed pack and a Shelf
// for what was collected), a model of how long a tap takes (Meter), and words for
// a display (Words, Line). For those of transit besides: the purchase with a PSAM
// and its recovery (Collector, Store), deny lists (DenyList), and the outcome a
// rider sees (Outcome). The devices themselves are the packages below it. A
// device knows no host: what it collects waits until it is released.
//
// Clocks, flash and keys come from outside. A device belongs to one goroutine.
package terminal

import (
	"errors"
	"time"
)

// The failures of a device. Those of one card are Outcomes.
var (
	ErrPower    = errors.New("terminal: power failed")
	ErrFull     = errors.New("terminal: the store is full: send a batch first")
	ErrDoubts   = errors.New("terminal: too many taps without a known end: send a batch first")
	ErrRelease  = errors.New("terminal: cannot release what was never stored")
	ErrGap      = errors.New("terminal: a version is missing before this one")
	ErrOld      = errors.New("terminal: not newer than what the device has")
	ErrTooLarge = errors.New("terminal: larger than the device's memory for it")
	ErrSAM      = errors.New("terminal: the PSAM does not work")
	ErrRecord   = errors.New("terminal: not a record of this store")
)

// A Clock tells the device's time.
type Clock interface{ Now() time.Time }
