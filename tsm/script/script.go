// Package script is the form in which a script for a card is remembered: its
// commands as they were planned, as they went out, and what came back. It knows
// no orders; what a script is for is the business of package tsm. Stored rows
// hold no key material and no whole card number. Start with Step.
package script

import (
	"encoding/binary"
	"errors"
	"fmt"

	"koala/spec/iso7816"
)

// Limits.
const (
	MaxAnswers = 256 // answers in one report
	maxAnswer  = 258 // bytes of one answer, data and status word
	maxSteps   = 128 // commands of a script
)

// ErrAnswers says that a report does not fit its script.
var ErrAnswers = errors.New("script: the answers do not fit")

// A Step is one command of a script as the house plans and remembers it.
type Step struct {
	Phase  string          // what people see of it
	Plain  iso7816.Command // what it says inside a channel; key material is never in it
	Wire   []byte          // what goes out; equal to Plain's bytes outside a channel
	Expect []iso7816.SW    // the agent stops at anything else
	Secret []string        // names of keys that the hsm put into the wire form only
}

// Sent is a plain step: nothing is wrapped, only 9000 is expected unless said.
func Sent(phase string, c iso7816.Command, expect ...iso7816.SW) Step {
	if len(expect) == 0 {
		expect = []iso7816.SW{iso7816.OK}
	}
	return Step{Phase: phase, Plain: c, Wire: c.Bytes(), Expect: expect}
}

// Expects tells whether the agent goes on after a status word.
func (s Step) Expects(sw iso7816.SW) bool {
	for _, e := range s.Expect {
		if e == sw {
			return true
		}
	}
	return false
}

// packVersion begins the stored forms.
const packVersion = 1

// ErrStored says that a stored form is malformed.
var ErrStored = errors.New("script: stored script is malformed")

// PackSteps writes steps for the store: version, count, then per step phase,
// plain, wire (empty when equal to plain), expected words, names of secrets;
// every part behind its length as a varint.
func PackSteps(steps []Step) []byte {
	b := binary.AppendUvarint([]byte{packVersion}, uint64(len(steps)))
	for _, s := range steps {
		b = appendPart(b, []byte(s.Phase))
		plain := s.Plain.Bytes()
		b = appendPart(b, plain)
		if string(plain) == string(s.Wire) {
			b = appendPart(b, nil)
		} else {
			b = appendPart(b, s.Wire)
		}
		b = binary.AppendUvarint(b, uint64(len(s.Expect)))
		for _, sw := range s.Expect {
			b = binary.BigEndian.AppendUint16(b, uint16(sw))
		}
		b = binary.AppendUvarint(b, uint64(len(s.Secret)))
		for _, k := range s.Secret {
			b = appendPart(b, []byte(k))
		}
	}
	return b
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// A packed is a cursor over a stored form; the first failure sticks.
type packed struct {
	b   []byte
	bad bool
}

func (p *packed) number(limit int) int {
	v, n := binary.Uvarint(p.b)
	if n <= 0 || v > uint64(limit) || n > 1 && p.b[n-1] == 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[n:]
	return int(v)
}

func (p *packed) take(n int) []byte {
	if p.bad || len(p.b) < n {
		p.bad = true
		return nil
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *packed) part() []byte { return p.take(p.number(1 << 16)) }

// ParseSteps reads what PackSteps wrote.
func ParseSteps(b []byte) ([]Step, error) {
	if len(b) == 0 || b[0] != packVersion {
		return nil, fmt.Errorf("%w: no version", ErrStored)
	}
	p := &packed{b: b[1:]}
	steps := make([]Step, p.number(maxSteps))
	for i := range steps {
		steps[i] = p.step()
	}
	if p.bad || len(p.b) > 0 {
		return nil, ErrStored
	}
	return steps, nil
}

func (p *packed) step() Step {
	s := Step{Phase: string(p.part())}
	plain := p.part()
	c, err := iso7816.ParseCommand(plain)
	if err != nil || string(c.Bytes()) != string(plain) {
		p.bad = true
		return s
	}
	s.Plain = c
	if s.Wire = p.part(); len(s.Wire) == 0 {
		s.Wire = plain
	} else if string(s.Wire) == string(plain) {
		p.bad = true // has a shorter form
	}
	for range p.number(16) {
		if w := p.take(2); w != nil {
			s.Expect = append(s.Expect, iso7816.SW(binary.BigEndian.Uint16(w)))
		}
	}
	for range p.number(16) {
		s.Secret = append(s.Secret, string(p.part()))
	}
	return s
}

// PackAnswers writes what came back, in order.
func PackAnswers(answers [][]byte) []byte {
	b := binary.AppendUvarint([]byte{packVersion}, uint64(len(answers)))
	for _, a := range answers {
		b = appendPart(b, a)
	}
	return b
}

// ParseAnswers reads what PackAnswers wrote; nothing stored is no answers.
func ParseAnswers(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != packVersion {
		return nil, fmt.Errorf("%w: no version", ErrStored)
	}
	p := &packed{b: b[1:]}
	out := make([][]byte, p.number(MaxAnswers))
	for i := range out {
		out[i] = p.part()
	}
	if p.bad || len(p.b) > 0 {
		return nil, ErrStored
	}
	return out, nil
}

// A Heard is a script and what the element answered to it.
type Heard struct {
	Steps   []Step
	Answers []iso7816.Response // as many as arrived, at most len(Steps)
	Cut     bool               // the link was lost before the next answer
}

// Hear checks a report against its script: not more answers than commands,
// and nothing after an unexpected status word, where the agent had to stop.
func Hear(steps []Step, raw [][]byte, cut bool) (Heard, error) {
	h := Heard{Steps: steps, Cut: cut}
	if len(raw) > len(steps) {
		return h, fmt.Errorf("%d answers to %d commands: %w", len(raw), len(steps), ErrAnswers)
	}
	for i, b := range raw {
		r, err := iso7816.ParseResponse(b)
		if err != nil || len(b) > maxAnswer {
			return h, fmt.Errorf("answer %d: %w", i, ErrAnswers)
		}
		if h.Refused() {
			return h, fmt.Errorf("answer %d after a refusal: %w", i, ErrAnswers)
		}
		h.Answers = append(h.Answers, r)
	}
	return h, nil
}

// Refused tells whether the last answer is one the script did not expect.
func (h Heard) Refused() bool {
	n := len(h.Answers)
	return n > 0 && !h.Steps[n-1].Expects(h.Answers[n-1].SW)
}

// Complete tells whether every command was answered as expected.
func (h Heard) Complete() bool { return len(h.Answers) == len(h.Steps) && !h.Refused() }

// Good is the number of commands answered as expected.
func (h Heard) Good() int {
	n := len(h.Answers)
	if h.Refused() {
		n--
	}
	return n
}

// Last is the phase of the last command answered as expected.
func (h Heard) Last() (string, bool) {
	if n := h.Good(); n > 0 {
		return h.Steps[n-1].Phase, true
	}
	return "", false
}

// RefusedWith tells the status word of a refusal.
func (h Heard) RefusedWith(sw iso7816.SW) bool {
	return h.Refused() && h.Answers[len(h.Answers)-1].SW == sw
}
