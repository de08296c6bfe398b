package transit

import (
	"slices"
	"time"

	"koala/calendar"
	"koala/money"
	"koala/spec/purse"
	"koala/transit/network"
)

// A Past is what a fold must know of the card before its first tap.
type Past struct {
	Card   purse.Number
	From   uint16                  // journeys that begin before it are only there to be paid for
	Months map[string]money.Amount // counted per month (2015-09) by journeys before From
	Gap    func(seq uint16) bool   // says whether a tap before seq is missing
}

// Fold makes journeys of one card's taps, which are in rising order of their
// sequence, as they are to be seen at now. It is the journey machine: what it
// returns depends on the taps and on nothing else, so it is the same whatever
// order they arrived in. No journey may be open before the first tap; journeys
// that begin before past.From are not returned.
func Fold(net *network.Network, r Rules, past Past, taps []Tap, now time.Time) []Journey {
	f := &fold{card: past.Card}
	for _, t := range taps {
		f.take(t)
	}
	if f.open != nil {
		if now.After(f.open.Entered.Add(time.Duration(r.OpenHours) * time.Hour)) {
			f.end(MissingExit)
		} else {
			f.open.Deadline = f.open.Entered.Add(time.Duration(r.OpenHours) * time.Hour)
			f.done = append(f.done, *f.open)
		}
	}
	f.done = slices.DeleteFunc(f.done, func(j Journey) bool { return j.First < past.From })
	p := pricer{net: net, past: past, taps: map[uint16]Tap{}, months: map[string]money.Amount{}}
	for m, fen := range past.Months {
		p.months[m] = fen
	}
	for _, t := range taps {
		p.taps[t.Seq] = t
	}
	for i := range f.done {
		p.price(&f.done[i])
	}
	return f.done
}

// A fold is the machine's memory: at most one journey is open, since the card
// keeps one rail record.
type fold struct {
	card purse.Number
	open *Journey
	done []Journey
}

func (f *fold) take(t Tap) {
	switch t.Kind {
	case Enter, Board, RepairedEntry:
		f.begin(t)
	case Leave, Alight:
		f.leave(t)
	case RepairedExit:
		f.match(t)
		f.add(t, true)
		f.end(MissingExit)
	case Single, Odd:
		f.single(t)
	}
}

// begin opens a journey. One still open has lost its exit; if this tap took
// money, it is for a bus ride that was not closed (a gate lets nobody in who
// has an open metro ride).
func (f *fold) begin(t Tap) {
	paysLast := t.Kind != RepairedEntry && !t.Fen.IsZero()
	if f.open != nil {
		if paysLast && f.open.Mode == Bus {
			f.open.Charged, f.open.Pays = f.open.Charged.Add(t.Fen), append(f.open.Pays, t.Seq)
			paysLast = false
		}
		f.end(MissingExit)
	}
	j := f.newJourney(t)
	j.From, j.Entered = t.Entry, t.At
	if t.Kind == Board {
		j.Mode = Bus
	}
	if t.Kind == RepairedEntry {
		j.Finish, j.From = MissingEntry, 0
		j.To, j.Left = t.Entry, t.At
	}
	f.open = &j
	// Money for a ride whose taps are not here yet goes with this journey
	// until they are.
	f.add(t, paysLast || t.Kind == RepairedEntry)
}

func (f *fold) newJourney(t Tap) Journey {
	return Journey{Card: f.card, First: t.Seq, Mode: Rail, State: Open, Charged: money.Fen(0), Due: money.Fen(0), Adjusted: money.Fen(0), Counts: money.Fen(0)}
}

// add makes t the open journey's last tap, and its money the journey's.
func (f *fold) add(t Tap, pays bool) {
	j := f.open
	j.Last, j.Device, j.Taps = t.Seq, t.Device.Terminal, append(j.Taps, t.Seq)
	if pays && !t.Fen.IsZero() {
		j.Charged, j.Pays = j.Charged.Add(t.Fen), append(j.Pays, t.Seq)
	}
}

// match makes the journey that t ends the open one: the open one if the
// record on the card tells of the same entry, else one made of the record.
func (f *fold) match(t Tap) {
	if f.open != nil {
		same := f.open.From == t.Entry && f.open.Entered.Equal(t.EnteredAt) || f.open.Finish == MissingEntry && f.open.To == t.Entry
		if same || !t.HasRecord {
			return
		}
		f.end(MissingExit)
	}
	j := f.newJourney(t)
	j.From, j.Entered = t.Entry, t.EnteredAt
	if t.Kind == Alight {
		j.Mode = Bus
	}
	f.open = &j
}

func (f *fold) leave(t Tap) {
	f.match(t)
	f.add(t, true)
	j := f.open
	exit := t.Exit
	if t.Device.Kind != "" && t.Kind == Leave && t.Device.Station != 0 {
		exit = t.Device.Station // the registry, not the card, says where a gate stands
	}
	switch {
	case j.Finish == MissingEntry: // the machine was paid; the gate let out
	case j.From == 0:
		j.To, j.Left = exit, t.At
	default:
		j.To, j.Left = exit, t.At
		f.end(Left)
		return
	}
	f.end(MissingEntry)
}

func (f *fold) single(t Tap) {
	j := f.newJourney(t)
	j.Mode, j.From, j.Entered, j.Left = Bus, t.Device.Station, t.At, t.At
	if t.Kind == Odd {
		j.Mode = Rail
	}
	keep := f.open
	f.open = &j
	f.add(t, true)
	f.end(SingleTap)
	f.open = keep
}

// end closes the open journey.
func (f *fold) end(how Finish) {
	j := f.open
	f.open = nil
	if j.Finish == MissingEntry { // as the machine began it
		how = MissingEntry
	}
	j.Finish = how
	switch how {
	case MissingExit, MissingEntry:
		j.State = Incomplete
		if how == MissingEntry {
			j.From, j.Entered = 0, time.Time{}
		}
	default:
		j.State = Closed
	}
	f.done = append(f.done, *j)
}

// monthOf is the month a journey counts for: that of its payment.
func monthOf(j *Journey) string {
	at := j.Left
	if at.IsZero() {
		at = j.Entered
	}
	return calendar.MonthOf(at).String()
}
