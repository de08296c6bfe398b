package market

import (
	"context"
	"errors"
	"fmt"

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
