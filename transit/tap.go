package transit

import (
	"time"

	"koala/fare"
	"koala/money"
	"koala/spec/purse"
)

// A TapKind says what a tap did to the card.
type TapKind byte

// The kinds. A machine that repairs a ride writes the rail record with state
// 66: it ends a ride without exit or begins one without entry.
const (
	Enter TapKind = iota + 1
	Leave
	RepairedExit  // pays a ride that was never closed
	RepairedEntry // pays for leaving without entry
	Board
	Alight
	Single // flat bus: leaves the rail record alone
	Odd    // a purchase at a gate without a readable record
)

// stateRepaired is the rail record's mark of a self-service machine.
const stateRepaired = 0x66

// A Tap is one collected debit with what its record and its terminal tell.
type Tap struct {
	Seq       uint16
	Fen       money.Amount
	At        time.Time // the terminal's clock; when it cannot be read, when it was collected
	ClockOff  bool
	Kind      TapKind
	Device    Device // Kind empty: not registered
	Entry     fare.Code
	Exit      fare.Code
	EnteredAt time.Time    // from the record, zero unknown
	Counted   money.Amount // the card's monthly total after the tap
	HasRecord bool
}

// ReadTap reads a debit that arrived at got.
func ReadTap(d purse.Debit, device Device, got time.Time, r Rules) Tap {
	t := Tap{Seq: d.Seq, Fen: money.Fen(int64(d.Fen)), Device: device, At: got, Kind: Odd, ClockOff: true, Counted: money.Fen(0)}
	if at, err := d.At.Moment(); err == nil {
		t.At = at.UTC()
		t.ClockOff = at.After(got.Add(time.Duration(r.FutureMinutes)*time.Minute)) || at.Before(got.AddDate(0, 0, -r.OldestDays))
	}
	rec, err := purse.ParseTransit(d.Record)
	switch {
	case err != nil && device.Kind == OnBus:
		t.Kind = Single
		return t
	case err != nil && device.Kind == EntryGate:
		t.Kind, t.Entry, t.EnteredAt = Enter, device.Station, t.At
		return t
	case err != nil && device.Kind == ExitGate:
		t.Kind, t.Exit = Leave, device.Station
		return t
	case err != nil:
		return t
	}
	t.HasRecord = true
	t.Kind = kindOf(rec)
	t.Entry, t.Exit = code(rec.EntryStation), code(rec.ExitStation)
	if at, err := rec.EntryAt.Moment(); err == nil {
		t.EnteredAt = at.UTC()
	}
	t.Counted = money.Fen(int64(rec.Accumulated))
	return t
}

func kindOf(r purse.Transit) TapKind {
	bus, repaired := r.Flags[0] == purse.IndustryBus, r.State == stateRepaired
	switch {
	case r.Status == purse.Entered && bus:
		return Board
	case r.Status == purse.Left && bus:
		return Alight
	case r.Status == purse.Entered && repaired:
		return RepairedEntry
	case r.Status == purse.Left && repaired:
		return RepairedExit
	case r.Status == purse.Entered:
		return Enter
	case r.Status == purse.Left:
		return Leave
	}
	return Odd
}

func code(b [8]byte) fare.Code {
	c, ok := purse.StationCode(b)
	if !ok {
		return 0
	}
	return fare.Code(c)
}
