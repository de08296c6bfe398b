package unionpay

import (
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// load puts e-cash on a card: the host's answer carries a script that the card
// must take. What the card took is approved, what it did not take is reversed,
// and what nobody saw waits for the card (Prove).
func (t *Terminal) load(card iso7816.Transmit) (Result, error) {
	lr, err := t.till.Load(card, t.act.order.Fen)
	if err != nil {
		return Result{}, err
	}
	e := t.act.entry
	if e == nil {
		return Result{Entry: t.tapEntry(lr.Result), Chip: &lr.Result}, t.act.err
	}
	res := Result{Entry: e, Code: e.Get(39), Chip: &lr.Result}
	e.CVM = lr.Outcome.CVM
	if t.act.err != nil || !Approves(res.Code) {
		return res, t.act.err
	}
	switch lr.State {
	case pos.Loaded:
		e.fields[55] = t.final(e, &lr.Outcome)
		done, err := t.approve(e)
		done.Chip = &lr.Result
		return done, err
	case pos.Unknown:
		e.State = Unsure // the journal has it as asked, with its authorisation
		return res, nil
	}
	e.fields[55] = t.final(e, &lr.Outcome)
	return res, t.undo(e, "06")
}

// A fateOf a load is where its money is.
type fateOf byte

const (
	loadMissed  fateOf = iota // the card has not got it
	loadArrived               // it has
	loadUnsure                // only the card knows
)

// loadFate asks the till, which keeps what the card said.
func (t *Terminal) loadFate(e *Entry) (fateOf, error) {
	for _, c := range t.till.Batch(pboc.MaxClearingBatch).Records {
		if c.Type == pos.Load && c.STAN == e.Till && c.Kind == pboc.ClearOnline {
			return loadArrived, nil
		}
	}
	if _, ok := t.doubt(e); ok {
		return loadUnsure, nil
	}
	return loadMissed, nil
}

// doubt is the till's record of a load without a known end.
func (t *Terminal) doubt(e *Entry) (pos.Doubt, bool) {
	for _, d := range t.till.Doubts() {
		if d.Type == pos.Load && d.STAN == e.Till {
			return d, true
		}
	}
	return pos.Doubt{}, false
}

// forgetDoubt takes a load off the till's list of doubts: it is decided.
func (t *Terminal) forgetDoubt(e *Entry) error {
	if d, ok := t.doubt(e); ok && e.Kind.load() {
		return t.till.Settle(d)
	}
	return nil
}

// loaded makes a load final whose script the card took.
func (t *Terminal) loaded(e *Entry, result []byte) error {
	chip := e.fields[55]
	if e.script() == nil {
		chip = tlv.Append(append([]byte(nil), chip...), tagScriptResult, result)
	}
	if len(chip) <= fieldMax[55] {
		e.fields[55] = chip
	}
	if _, err := t.approve(e); err != nil {
		return err
	}
	return t.forgetDoubt(e)
}

// Prove has a card decide the loads that nobody saw arrive: its signed log has
// the load or has not. Loads of other cards stay as they are. It gives those
// that are decided now.
func (t *Terminal) Prove(card iso7816.Transmit) (decided []*Entry, err error) {
	list, err := t.journal.intents()
	if err != nil {
		return nil, t.failed(err)
	}
	pan, h, o, err := t.till.Identify(card)
	if err != nil {
		return nil, t.failed(err)
	}
	log, bad := pboc.ParseSignedLoadLog(h.LoadLog)
	if o.Result != kernel.Approved || pan == "" || bad != nil {
		return nil, nil
	}
	for _, e := range list {
		d, ok := t.doubt(e)
		if !ok || !e.Kind.load() || d.PAN != pan {
			continue
		}
		arrived := false
		for _, x := range log.Entries {
			arrived = arrived || x.ATC == d.ATC && x.New == x.Old+e.Fen()
		}
		if arrived {
			err = t.loaded(e, scriptDone)
		} else if err = t.undo(e, "06"); err == nil {
			err = t.forgetDoubt(e)
		}
		if err != nil {
			return decided, t.failed(err)
		}
		decided = append(decided, e)
	}
	return decided, nil
}
