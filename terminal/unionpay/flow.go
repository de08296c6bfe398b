package unionpay

import (
	"errors"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// tagScriptResult is what became of issuer scripts, five bytes each.
const tagScriptResult tlv.Tag = 0xDF31

// ready makes the terminal fit for something new. What is pending goes to the
// host before; online says that the host is about to be asked.
func (t *Terminal) ready(online bool) error {
	if t.book.phase != trading {
		return ErrSettle
	}
	if err := t.journal.shelf.Room(); err != nil {
		if terminal.NoRoom(err) {
			return ErrFull
		}
		return err
	}
	if !online && t.book.batch == 0 {
		return t.signOn()
	}
	if !online {
		return nil
	}
	if err := t.clear(); !errors.Is(err, ErrReversal) || t.book.signedOn {
		return err
	}
	return t.clear() // the keys were not the host's any more: once again with new ones
}

// clear signs on where that is due, then sends what goes before anything new:
// reversals, open refunds, script notices.
func (t *Terminal) clear() error {
	if !t.SignedOn() {
		if err := t.signOn(); err != nil {
			return err
		}
	}
	list, err := t.journal.intents()
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := t.finish(e); err != nil {
			return err
		}
	}
	for _, e := range t.journal.list {
		f := t.journal.by[e.key()]
		if f.script || e.script() == nil {
			continue
		}
		if err := t.notice(f); err != nil {
			return err
		}
	}
	return nil
}

// finish brings an intent to its end, if it can be brought to one.
func (t *Terminal) finish(e *Entry) error {
	if e.State == Open {
		_, err := t.repeat(e)
		return err
	}
	if e.Kind.load() && e.State == Asked && e.Get(38) != "" {
		switch fate, err := t.loadFate(e); {
		case err != nil:
			return err
		case fate == loadUnsure:
			return nil // the card has the last word
		case fate == loadArrived:
			return t.loaded(e, scriptDone)
		}
	}
	return t.reverse(e)
}

// ask keeps a request, sends it and takes the answer. Approved or not, the
// caller says what comes of it: approve or undo. A request that ended unknown
// is left to be reversed.
func (t *Terminal) ask(e *Entry, s secret) (approved bool, err error) {
	if err := t.journal.begin(e); err != nil {
		return false, full(err)
	}
	a, err := t.exchange(t.request(e, s), true)
	switch {
	case errors.Is(err, ErrNotSent):
		if d := t.journal.drop(e); d != nil {
			return false, d
		}
		return false, err
	case errors.Is(err, terminal.ErrPower):
		return false, err
	case err != nil:
		if reason := reasonOf(err); reason != "98" { // which is what a request without more is reversed for
			return false, errors.Join(err, t.undo(e, reason))
		}
		return false, err
	}
	t.learn(e, a)
	if !Approves(e.Get(39)) {
		return false, t.decline(e)
	}
	return true, nil
}

func full(err error) error {
	if terminal.NoRoom(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// decline drops what the host declined: nothing came of it, in no state.
func (t *Terminal) decline(e *Entry) error {
	err := t.journal.drop(e)
	e.State = 0
	return err
}

// approve makes a transaction final.
func (t *Terminal) approve(e *Entry) (Result, error) {
	e.State = Done
	if err := t.journal.keep(e); err != nil {
		return Result{Entry: e}, err
	}
	return Result{Entry: e, Approved: true, Code: e.Get(39)}, nil
}

// undo has an approved or unknown request reversed for a reason. Where the
// journal has no room for the reason it is reversed for no answer.
func (t *Terminal) undo(e *Entry, reason string) error {
	e.State, e.Reason = Undoing, reason
	if err := t.journal.begin(e); err != nil && !terminal.NoRoom(err) {
		return err
	}
	return nil
}

// inquire asks without keeping anything: without an answer nothing is amiss.
func (t *Terminal) inquire(e *Entry, s secret) (Result, error) {
	a, err := t.exchange(t.request(e, s), true)
	if err != nil {
		return Result{Entry: e}, err
	}
	t.learn(e, a)
	if e.State = 0; Approves(e.Get(39)) {
		e.State = Done
	}
	return Result{Entry: e, Approved: e.State == Done, Code: e.Get(39)}, nil
}

// heldBack says that a code is no word about the transaction: the message was
// not taken, and goes again.
func heldBack(code string) bool {
	return code == "77" || code == "A0" || code == "96" || code == "97" || code == "A7"
}

// repeat sends an open advice until the host has answered it.
func (t *Terminal) repeat(e *Entry) (Result, error) { return t.tell(e, secret{}) }

// tell is the same with what is said the first time only: a reader's card.
func (t *Terminal) tell(e *Entry, s secret) (Result, error) {
	a, err := t.exchange(t.request(e, s), true)
	if err == nil && heldBack(a.Text(39)) {
		err = fmt.Errorf("%w: %s", ErrRefused, a.Text(39))
	}
	if err != nil {
		return Result{Entry: e}, err // it stays, and goes again before anything new
	}
	t.learn(e, a)
	if !Approves(e.Get(39)) {
		return Result{Entry: e, Code: e.Get(39)}, t.decline(e)
	}
	return t.approve(e)
}

// reversed are the fields of a request that its reversal repeats.
var reversed = []int{2, 4, 14, 22, 23, 38, 61}

// reverse sends the reversal of a request. With any answer it is over; the
// codes that mean the message was not taken are none.
func (t *Terminal) reverse(e *Entry) error {
	m := t.message("0400", e.STAN, e.fields[55] != nil)
	r := table[e.Kind]
	m.SetText(3, r.process)
	m.SetText(25, r.condition)
	m.SetText(49, "156")
	for _, n := range reversed {
		if v := e.Get(n); v != "" {
			m.SetText(n, v)
		}
	}
	reason := e.Reason
	if reason == "" {
		reason = "98"
	}
	m.SetText(39, reason)
	if chip := pick(e.fields[55], chipReversal); chip != nil {
		m.Set(55, chip)
	}
	m.SetText(60, t.kindField(e, "000", e.Get(22)))
	a, err := t.exchange(m, true)
	if err == nil && heldBack(a.Text(39)) {
		err = fmt.Errorf("%w: %s", ErrRefused, a.Text(39))
	}
	switch {
	case errors.Is(err, terminal.ErrPower):
		return err
	case errors.Is(err, ErrNotSent):
		return fmt.Errorf("%w: %w", ErrReversal, err)
	case err != nil:
		if e.Tries < 255 {
			e.Tries++
		}
		if d := t.journal.begin(e); d != nil && !terminal.NoRoom(d) {
			return d
		}
		return fmt.Errorf("%w: %w", ErrReversal, err)
	}
	if err := t.forgetDoubt(e); err != nil {
		return err
	}
	return t.journal.drop(e)
}

// NeedsHelp says that a reversal has gone without an answer as often as the
// parameters say: it is to be printed for a person, and goes on being sent.
func (t *Terminal) NeedsHelp(e *Entry) bool { return int(e.Tries) >= t.packs.parameters.resend() }

// script is what became of the issuer's scripts, nil when none came.
func (e *Entry) script() []byte {
	v, _ := tlv.Find(e.fields[55], tagScriptResult)
	return v
}

// notice tells the host what became of a script (0620).
func (t *Terminal) notice(f *fate) error {
	stan, err := t.book.stan()
	if err != nil {
		return err
	}
	e := f.entry
	m := t.message("0620", stan, true)
	m.SetText(3, table[e.Kind].process)
	m.SetText(25, table[e.Kind].condition)
	m.SetText(49, "156")
	for _, n := range []int{2, 4, 22, 23, 37, 38} {
		if v := e.Get(n); v != "" {
			m.SetText(n, v)
		}
	}
	m.Set(55, pick(e.fields[55], chipScript))
	m.SetText(60, t.kindField(e, "000", e.Get(22)))
	m.SetText(61, Original{Batch: e.Batch, STAN: e.STAN}.String())
	a, err := t.exchange(m, true)
	if err == nil && heldBack(a.Text(39)) {
		err = fmt.Errorf("%w: %s", ErrRefused, a.Text(39))
	}
	if err != nil {
		return fmt.Errorf("script notice: %w", err)
	}
	return t.journal.note(note{mark: markScript, batch: e.Batch, stan: e.STAN, piece: -1})
}

// Flush sends what was decided here and the host has not been told: taps,
// offline sales, tips, adjustments, advices. It gives how many the host took
// and how many it refused.
func (t *Terminal) Flush() (taken, refused int, err error) {
	if err := t.ready(true); err != nil && !errors.Is(err, ErrFull) {
		return 0, 0, t.failed(err)
	}
	taken, refused, err = t.flush()
	if err != nil {
		err = t.failed(err)
	}
	return taken, refused, err
}

func (t *Terminal) flush() (taken, refused int, err error) {
	for _, f := range t.journal.waiting() {
		e := f.entry
		a, err := t.exchange(t.request(e, secret{}), true)
		if err == nil && heldBack(a.Text(39)) {
			err = fmt.Errorf("%w: %s", ErrRefused, a.Text(39))
		}
		if err != nil {
			return taken, refused, err
		}
		code := a.Text(39)
		if err := t.journal.note(note{mark: markTold, batch: e.Batch, stan: e.STAN, piece: -1, data: []byte(code)}); err != nil {
			return taken, refused, err
		}
		if Approves(code) {
			taken++
		} else {
			refused++
		}
	}
	return taken, refused, nil
}

// Refused are the stored transactions of the batch that the host did not take,
// with its code: the shop is not paid for them.
func (t *Terminal) Refused() map[string]string {
	out := map[string]string{}
	for _, e := range t.journal.list {
		if f := t.journal.by[e.key()]; f.refused() {
			out[e.Name()] = f.told
		}
	}
	return out
}

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
