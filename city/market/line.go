package market

import (
	"context"
	"errors"
	"fmt"

	"koala/calendar"
	"koala/terminal/unionpay"
)

// A LineFault is what happens to one message of a terminal.
type LineFault byte

// The faults.
const (
	Delivered    LineFault = iota
	Unsent                 // the line is down: nothing leaves
	QuestionLost           // the switch never hears it
	AnswerLost             // the switch acts, the terminal never hears
	AnswerLate             // the terminal gives up; the switch hears the question later
	Doubled                // the switch hears it twice, the second answer arrives
	Garbled                // the answer arrives with a wrong bit
	Noise                  // the switch hears something that is no message
)

// Name says the fault, for counts.
func (f LineFault) Name() string {
	return [...]string{"", "line down", "question lost", "answer lost", "question late", "question doubled", "answer garbled", "noise on the line"}[f]
}

var errLine = errors.New("market: no answer came over the line (simulated)")

// delayed is a message on a detour.
type delayed struct{ message []byte }

// A line is the way between a terminal and the switch, in the same process.
type line struct {
	m   *Market
	ctx context.Context
}

var _ unionpay.Line = (*line)(nil)

// Exchange carries a request to the switch, or does not.
func (l *line) Exchange(request []byte) ([]byte, error) {
	fault := Delivered
	if l.m.cfg.Faults.Line != nil {
		if fault = l.m.cfg.Faults.Line(); fault != Delivered {
			l.m.note(fault.Name())
		}
	}
	switch fault {
	case Unsent:
		return nil, fmt.Errorf("%w: %w", unionpay.ErrNotSent, errLine)
	case QuestionLost:
		return nil, errLine
	case AnswerLate:
		l.m.mu.Lock()
		l.m.late = append(l.m.late, delayed{append([]byte(nil), request...)})
		l.m.mu.Unlock()
		return nil, errLine
	case Noise:
		_, _ = l.m.House().Switch.Handle(l.ctx, []byte("\x60\x00noise"))
		return nil, errLine
	case Doubled:
		if _, err := l.m.House().Switch.Handle(l.ctx, append([]byte(nil), request...)); err != nil {
			return nil, fmt.Errorf("%w: %w", errLine, err)
		}
	}
	answer, err := l.m.House().Switch.Handle(l.ctx, request)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errLine, err)
	case fault == AnswerLost || len(answer) == 0:
		return nil, errLine
	case fault == Garbled:
		answer[len(answer)-1] ^= 1
	}
	return answer, nil
}

// Flush delivers what was on a detour, the newest first. Nobody waits for the
// answers any more.
func (m *Market) Flush(ctx context.Context) int {
	m.mu.Lock()
	late := m.late
	m.late = nil
	m.mu.Unlock()
	for i := len(late) - 1; i >= 0; i-- {
		_, _ = m.House().Switch.Handle(ctx, late[i].message)
	}
	return len(late)
}

// begin signs the terminal on for its day, as a cashier does who comes in, and has
// it heed the house. What the line loses is made up for at the next sale.
func (t *Till) begin() {
	if t.heeded == t.m.today() || t.Mobile || t.dev.Settling() {
		return
	}
	if err := t.dev.SignOn(); err == nil {
		t.heed()
	}
}

// Ready has a terminal that takes its first order of a day begin it now: what it
// loads may take longer than the minute that a payment code lives.
func (m *Market) Ready(ctx context.Context, id string) error {
	t, err := m.Till(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.on(ctx); err != nil {
		return fmt.Errorf("till %s: %w", id, err)
	}
	t.ctx = ctx
	t.begin()
	return t.after(nil)
}

// heed does what the house wants of the terminal: parameters, keys, AIDs, black
// list, and the pack of its ring. A reader beside a phone is asked for none.
func (t *Till) heed() {
	had := t.dev.Pack()
	err := t.dev.Obey(fmt.Sprintf("koala city, pack %d", had))
	if t.heeded = t.m.today(); err != nil {
		t.heeded = calendar.Date{}
	}
	if errors.Is(err, unionpay.ErrSigned) {
		t.m.count("packs refused", 1)
	}
	if t.dev.Pack() != had {
		t.m.count("packs taken", 1)
	}
}

// Settle closes the terminal's day: what the switch was not told, totals, items
// where they differ. false: it did not come to its end and is tried again.
func (m *Market) Settle(ctx context.Context, id string) (s unionpay.Settlement, done bool, err error) {
	t, err := m.Till(id)
	if err != nil {
		return s, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.on(ctx); err != nil {
		return s, false, fmt.Errorf("till %s: %w", id, err)
	}
	t.ctx = ctx
	t.cut()
	var wrong error
	if !t.dev.Settling() {
		if _, _, wrong = t.dev.Flush(); wrong == nil {
			t.note()
		}
	}
	if wrong == nil {
		s, wrong = t.dev.Settle()
	}
	if wrong == nil { // the day ends with what the house wants, too
		if t.begin(); t.dev.Wants() != unionpay.WantNothing {
			t.heed()
		}
	}
	if err := t.after(wrong); err != nil {
		return s, false, err
	}
	if wrong == nil {
		m.count("batches", 1)
		if !s.Balanced {
			m.count("batches item by item", 1)
		}
	}
	return s, wrong == nil, nil
}

// Clean has the terminal tell the switch what it was not told, and take back
// what waits for it. false: not all of it.
func (m *Market) Clean(ctx context.Context, id string) (clean bool, err error) {
	t, err := m.Till(id)
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flash == nil && t.m.cfg.Dir == "" {
		return true, nil // nobody has used it
	}
	if err := t.on(ctx); err != nil {
		return false, err
	}
	t.ctx = ctx
	var wrong error
	if t.dev.Settling() {
		_, wrong = t.dev.Settle()
	}
	if wrong == nil {
		_, _, wrong = t.dev.Flush()
	}
	pending, perr := 0, error(nil)
	if wrong == nil {
		var list []*unionpay.Entry
		list, perr = t.dev.Pending()
		pending = len(list)
	}
	if err := t.after(wrong); err != nil {
		return false, err
	}
	return wrong == nil && perr == nil && pending == 0, nil
}
