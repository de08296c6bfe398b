package tsm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/iso7816"
	"koala/tsm/script"
)

// A Manager carries orders out. It keeps nothing between calls: everything it
// knows is in the store, so several may run and any may die at any moment.
type Manager struct {
	store *db.Store
	hsm   *hsm.HSM
	bank  *issuing.Bank
	cfg   Config
}

// Config tunes a manager; the zero value is right for real use.
type Config struct {
	// Chunk is the most commands one script has; 0 is as many as there are. A
	// small number lets people watch a card being written command by command.
	Chunk int
	// Partners bounds the space that firms' cards of before each had its own domain
	// take of one element together, bytes; 0 is 48 KB.
	Partners uint32
	// Changed is told of every change of an order in its unit of work, for live
	// pages; Done of those that have ended, for what others do then.
	Changed, Done func(tx *db.Tx, o Order) error
}

// New makes a manager over a store that has this package's Schema.
func New(store *db.Store, h *hsm.HSM, cfg Config) *Manager {
	return &Manager{store: store, hsm: h, bank: issuing.NewBank(store, h), cfg: cfg}
}

// A stage says what a script is for; with the order's kind it picks who reads
// the answers.
type stage string

const (
	stageSelect  stage = "select"  // SELECT of a bank card and its lists
	stageOpen    stage = "open"    // SELECT the security domain, INITIALIZE UPDATE
	stageDomain  stage = "domain"  // a firm's domain gets what it lacks; INITIALIZE UPDATE of it
	stageLook    stage = "look"    // EXTERNAL AUTHENTICATE, GET STATUS
	stageWork    stage = "work"    // what the order is about, under the channel
	stageLoad    stage = "load"    // INITIALIZE FOR LOAD
	stageCredit  stage = "credit"  // CREDIT FOR LOAD
	stageProve   stage = "prove"   // GET TRANSACTION PROVE and a fresh INITIALIZE FOR LOAD
	stageAsk     stage = "ask"     // GET CHALLENGE
	stageLock    stage = "lock"    // APPLICATION BLOCK or UNBLOCK
	stageBalance stage = "balance" // the card proves its balance before it goes
	stageAuth    stage = "auth"    // SELECT of a DESFire application, AUTHENTICATE AES
	stageProven  stage = "proven"  // the card's proof and what its main file holds
	stageLog     stage = "log"     // the card's proof and the size of its log
	stageRecords stage = "records" // the log
	stageScript  stage = "script"  // the bank's commands
	stageDefault stage = "default" // SET STATUS of the contactless registry
)

// A step is one command of a script, a heard is what came back.
type (
	step  = script.Step
	heard = script.Heard
)

// sent is a plain step: nothing is wrapped, only 9000 is expected unless said.
func sent(p Phase, c iso7816.Command, expect ...iso7816.SW) step {
	return script.Sent(string(p), c, expect...)
}

// A Command is one step as the band's agent sees it.
type Command struct {
	APDU   []byte
	Expect []iso7816.SW // stop at anything else
}

// A Script is what an agent runs in one go. Done says that there is nothing to
// do: come back later.
type Script struct {
	ID    string
	Order string
	Steps []Command
	Done  bool
}

func scriptOf(id, order string, steps []step) Script {
	s := Script{ID: id, Order: order, Steps: make([]Command, len(steps))}
	for i, st := range steps {
		s.Steps[i] = Command{APDU: st.Wire, Expect: st.Expect}
	}
	return s
}

// A draft is a script about to be made.
type draft struct {
	stage stage
	steps []step
	keep  []byte // what reading the answers needs
	data  []byte // the order's working data from now on; nil leaves it
}

// A verdict is what a report, or the clock, means for an order.
type verdict struct {
	state  State
	why    Reason
	next   *draft             // goes on in the same session
	refuse bool               // the element refused: counts towards maxStalled
	desk   bool               // only staff can go on
	effect func(*db.Tx) error // in the same unit
	set    func(*Order)       // changes to the order itself, after the effect
	until  time.Duration      // deadline from now; 0 picks the usual one
}

// A course is how one kind of order is carried out: how a session begins, and
// for each stage how its answers are read.
type course struct {
	open func(*Manager, context.Context, Order) (draft, error)
	hear map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error)
	// end runs in the unit in which the order ends without success.
	end func(*db.Tx, Order) error
}

func courseOf(o Order) course {
	if c, ok := coursesOf[o.CardKind][o.Kind]; ok {
		return c
	}
	switch o.Kind {
	case TopUp:
		return topUpCourse
	case Block, Unblock:
		return lockCourse
	case Delete:
		return deleteCourse
	case Adopt:
		return adoptCourse
	case Default:
		return defaultCourse
	case Update:
		return updateCourse
	case Issue, SAM:
		return issueCourse
	}
	panic("tsm: unknown kind " + string(o.Kind))
}

// coursesOf has the courses of cards that go another way than a transit card.
var coursesOf = map[issuing.Kind]map[Kind]course{
	issuing.ECash: bankCourses, issuing.Debit: bankCourses, issuing.Credit: bankCourses,
	issuing.Canteen: {Issue: issueOf(canteenHear), TopUp: canteenCourse, Block: desfireLockCourse, Unblock: desfireLockCourse, Delete: canteenReturnCourse},
	issuing.Door:    {Issue: issueOf(nil), Block: desfireLockCourse, Unblock: desfireLockCourse, Delete: plainReturnCourse},
	issuing.Coupon:  {Issue: issueOf(nil), Block: couponLockCourse, Unblock: couponLockCourse, Delete: plainReturnCourse},
}

var bankCourses = map[Kind]course{
	Issue: issueOf(cashHear), TopUp: cashCourse, Block: channelLockCourse, Unblock: channelLockCourse, Delete: bankReturnCourse,
}

// issueOf is the issue of a card that is loaded in the given way.
func issueOf(load map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error)) course {
	c := course{open: openIssue, end: endIssue, hear: maps.Clone(load)}
	if c.hear == nil {
		c.hear = map[stage]func(*Manager, context.Context, Order, heard, []byte) (verdict, error){}
	}
	c.hear[stageOpen], c.hear[stageLook], c.hear[stageWork], c.hear[stageProven] = hearOpen, hearLook, hearWork, hearApplication
	return c
}

// maxRaces bounds how often a call starts over because the order moved.
const maxRaces = 8

// Next gives a band its script: the one it has in its hands, so that a lost
// answer costs nothing, or the first of a new session with its oldest order.
// Done means that there is nothing to do.
func (m *Manager) Next(ctx context.Context, band string) (Script, error) {
	for range maxRaces {
		s, err := m.next(ctx, band)
		if !errors.Is(err, ErrMoved) {
			return s, err
		}
	}
	return Script{}, fmt.Errorf("band %s: %w", band, ErrMoved)
}

func (m *Manager) next(ctx context.Context, band string) (Script, error) {
	var o Order
	var row scriptRow
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		if o, err = nextOf(q, band); err != nil || o.script == "" {
			return err
		}
		row, err = scriptByID(q, o.script)
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return Script{Done: true}, m.seen(ctx, band)
	case err != nil:
		return Script{}, fmt.Errorf("next script of band %s: %w", band, err)
	case o.script != "":
		return scriptOf(row.id, o.ID, row.steps), nil
	}
	d, err := courseOf(o).open(m, ctx, o)
	if errors.Is(err, issuing.ErrNoPIN) {
		return Script{Done: true}, m.withoutPIN(ctx, o)
	}
	if err != nil {
		return Script{}, fmt.Errorf("opening a session for order %s: %w", o.ID, err)
	}
	var out Script
	err = m.store.Write(ctx, func(tx *db.Tx) error {
		o := o
		o.Session++
		if !o.State.May(Running) {
			return ErrMoved
		}
		if o.Kind == Issue && o.State == Placed {
			if err := issuing.Begin(tx, o.Card); err != nil {
				return err
			}
		}
		if d.data != nil {
			o.data = d.data
		}
		if o.State != Unconfirmed || o.seq < 0 {
			o.State = Running
		}
		if o.Why == NoPIN {
			o.Why = NoReason
		}
		o.Deadline = tx.Now().Add(scriptTime)
		if err := setSeen(tx, band); err != nil {
			return err
		}
		id, err := m.hand(tx, &o, d)
		if err != nil {
			return err
		}
		out = scriptOf(id, o.ID, d.steps)
		return m.save(tx, &o)
	})
	if err != nil {
		return Script{}, fmt.Errorf("opening a session for order %s: %w", o.ID, err)
	}
	return out, nil
}

// withoutPIN says in an order that its card cannot be written before its PIN is
// set, and lets the band's other orders go first. When it is set, the next
// session begins.
func (m *Manager) withoutPIN(ctx context.Context, o Order) error {
	if o.Why == NoPIN {
		return nil
	}
	o.Why = NoPIN
	if err := m.store.Write(ctx, func(tx *db.Tx) error { o := o; return m.save(tx, &o) }); err != nil {
		return fmt.Errorf("order %s without a PIN: %w", o.ID, err)
	}
	return ErrMoved
}

// seen refuses a band that nobody registered.
func (m *Manager) seen(ctx context.Context, band string) error {
	return m.store.Read(ctx, func(q *db.Query) error {
		_, err := BandOf(q, band)
		return err
	})
}

// hand makes a draft the script in the band's hands.
func (m *Manager) hand(tx *db.Tx, o *Order, d draft) (string, error) {
	id := tx.NewID("scr")
	o.script = id
	return id, appendScript(tx, scriptRow{id: id, order: o.ID, n: o.version, stage: d.stage, steps: d.steps, keep: d.keep})
}

// Report takes what the element answered to a script: whole answers with
// status words, in order, as many as there were; cut says that the link was
// lost before the next one came. Only the first report of the script in the
// band's hands counts.
func (m *Manager) Report(ctx context.Context, band, id string, answers [][]byte, cut bool) error {
	for range maxRaces {
		err := m.report(ctx, band, id, answers, cut)
		if !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return fmt.Errorf("report on script %s: %w", id, ErrMoved)
}

func (m *Manager) report(ctx context.Context, band, id string, answers [][]byte, cut bool) error {
	var o Order
	var row scriptRow
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		if row, err = scriptByID(q, id); err != nil {
			return err
		}
		o, err = orderByID(q, row.order)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("report on script %s: %w", id, err)
	case o.Band != band:
		return fmt.Errorf("report on script %s from band %s: %w", id, band, ErrScript)
	case o.script != id:
		return nil // told before, or given up meanwhile: changes nothing
	}
	h, err := script.Hear(row.steps, answers, cut)
	if err != nil {
		return fmt.Errorf("report on script %s: %w: %w", id, ErrAnswers, err)
	}
	v, err := m.judge(ctx, o, row, h)
	if err != nil {
		return fmt.Errorf("report on script %s: %w", id, err)
	}
	if o.CardKind.Bank() {
		answers = script.ConcealAnswers(row.steps, answers)
	}
	err = m.store.Write(ctx, func(tx *db.Tx) error {
		if fresh, err := saveAnswers(tx, id, answers, cut); err != nil || !fresh {
			return err
		}
		o := o
		o.script = ""
		if p, ok := h.Last(); ok {
			o.Phase = o.reached(Phase(p))
		}
		return m.apply(tx, o, v)
	})
	if err != nil {
		return fmt.Errorf("report on script %s: %w", id, err)
	}
	return nil
}

// judge asks the order's course what the answers mean.
func (m *Manager) judge(ctx context.Context, o Order, row scriptRow, h heard) (verdict, error) {
	read, ok := courseOf(o).hear[row.stage]
	if row.stage == stageDomain {
		read, ok = hearDomain, true
	}
	if !ok {
		return verdict{}, fmt.Errorf("order %s, stage %q: %w", o.ID, row.stage, script.ErrStored)
	}
	return read(m, ctx, o, h, row.keep)
}

// apply changes an order as a verdict says and saves it, all in one unit.
func (m *Manager) apply(tx *db.Tx, o Order, v verdict) error {
	if !o.State.May(v.state) {
		return fmt.Errorf("order %s from %s to %s: %w", o.ID, o.State, v.state, ErrState)
	}
	if v.effect != nil {
		if err := v.effect(tx); err != nil {
			return err
		}
	}
	if v.set != nil {
		v.set(&o)
	}
	if v.refuse {
		o.Stalled++
	}
	o.State, o.Desk = v.state, v.desk
	if o.why(v.why); o.State == Done {
		o.Why = NoReason
	}
	o.Deadline = tx.Now().Add(usualTime(o, v))
	if v.next != nil {
		if _, err := m.hand(tx, &o, *v.next); err != nil {
			return err
		}
	}
	if o.State == Failed || o.State == Cancelled {
		if end := courseOf(o).end; end != nil {
			if err := end(tx, o); err != nil {
				return err
			}
		}
	}
	if o.State.Over() {
		o.data, o.Deadline = nil, tx.Now()
	}
	return m.save(tx, &o)
}

// save writes a changed order and tells who wants to know.
func (m *Manager) save(tx *db.Tx, o *Order) error {
	if err := saveOrder(tx, o); err != nil {
		return err
	}
	return m.tell(tx, *o)
}

func (m *Manager) tell(tx *db.Tx, o Order) error {
	if m.cfg.Changed != nil {
		if err := m.cfg.Changed(tx, o); err != nil {
			return err
		}
	}
	if m.cfg.Done != nil && o.State.Over() {
		return m.cfg.Done(tx, o)
	}
	return nil
}

// why keeps the first reason of a stop that is being carried out.
func (o *Order) why(r Reason) {
	if r != NoReason && !(o.Stop && o.Why != NoReason) {
		o.Why = r
	}
}

func usualTime(o Order, v verdict) time.Duration {
	switch {
	case v.until > 0:
		return v.until
	case v.next != nil:
		return scriptTime
	case o.State == Unconfirmed:
		return verifyTime
	}
	return waitOf(o.Kind)
}

// lost is the verdict on a link that broke or an element that refused in a
// stage after which the element must be read.
func lost(h heard) verdict {
	if h.Refused() {
		return verdict{state: Unconfirmed, why: CardRefused, refuse: true}
	}
	return verdict{state: Unconfirmed, why: LinkLost}
}

// again is the verdict on a link that broke before anything could change.
func again(h heard) verdict {
	v := lost(h)
	v.state = Running
	return v
}
