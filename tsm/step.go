package tsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// A step is one command of a script as the house plans and remembers it.
type step struct {
	phase  Phase
	plain  iso7816.Command // what it says inside the channel; key material is never in it
	wire   []byte          // what goes out; equal to plain's bytes outside a channel
	expect []iso7816.SW    // the agent stops at anything else
	secret []string        // names of keys that the hsm put into the wire form only
}

// sent is a plain step: nothing is wrapped, only 9000 is expected unless said.
func sent(p Phase, c iso7816.Command, expect ...iso7816.SW) step {
	if len(expect) == 0 {
		expect = []iso7816.SW{iso7816.OK}
	}
	return step{phase: p, plain: c, wire: c.Bytes(), expect: expect}
}

func (s step) expects(sw iso7816.SW) bool {
	for _, e := range s.expect {
		if e == sw {
			return true
		}
	}
	return false
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
		s.Steps[i] = Command{APDU: st.wire, Expect: st.expect}
	}
	return s
}

// packVersion begins the stored form of steps.
const packVersion = 1

// maxSteps bounds a script.
const maxSteps = 128

var errPacked = errors.New("tsm: stored script is malformed")

// packSteps writes steps for the store: version, count, then per step phase,
// plain, wire (empty when equal to plain), expected words, names of secrets;
// every part behind its length as a varint.
func packSteps(steps []step) []byte {
	b := binary.AppendUvarint([]byte{packVersion}, uint64(len(steps)))
	for _, s := range steps {
		b = appendPart(b, []byte(s.phase))
		plain := s.plain.Bytes()
		b = appendPart(b, plain)
		if string(plain) == string(s.wire) {
			b = appendPart(b, nil)
		} else {
			b = appendPart(b, s.wire)
		}
		b = binary.AppendUvarint(b, uint64(len(s.expect)))
		for _, sw := range s.expect {
			b = binary.BigEndian.AppendUint16(b, uint16(sw))
		}
		b = binary.AppendUvarint(b, uint64(len(s.secret)))
		for _, k := range s.secret {
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

// parseSteps reads what packSteps wrote.
func parseSteps(b []byte) ([]step, error) {
	if len(b) == 0 || b[0] != packVersion {
		return nil, fmt.Errorf("%w: no version", errPacked)
	}
	p := &packed{b: b[1:]}
	steps := make([]step, p.number(maxSteps))
	for i := range steps {
		steps[i] = p.step()
	}
	if p.bad || len(p.b) > 0 {
		return nil, errPacked
	}
	return steps, nil
}

func (p *packed) step() step {
	s := step{phase: Phase(p.part())}
	plain := p.part()
	c, err := iso7816.ParseCommand(plain)
	if err != nil || string(c.Bytes()) != string(plain) {
		p.bad = true
		return s
	}
	s.plain = c
	if s.wire = p.part(); len(s.wire) == 0 {
		s.wire = plain
	} else if string(s.wire) == string(plain) {
		p.bad = true // has a shorter form
	}
	for range p.number(16) {
		if w := p.take(2); w != nil {
			s.expect = append(s.expect, iso7816.SW(binary.BigEndian.Uint16(w)))
		}
	}
	for range p.number(16) {
		s.secret = append(s.secret, string(p.part()))
	}
	return s
}

// packAnswers writes what came back, in order.
func packAnswers(answers [][]byte) []byte {
	b := binary.AppendUvarint([]byte{packVersion}, uint64(len(answers)))
	for _, a := range answers {
		b = appendPart(b, a)
	}
	return b
}

// parseAnswers reads what packAnswers wrote; nothing stored is no answers.
func parseAnswers(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != packVersion {
		return nil, fmt.Errorf("%w: no version", errPacked)
	}
	p := &packed{b: b[1:]}
	out := make([][]byte, p.number(MaxAnswers))
	for i := range out {
		out[i] = p.part()
	}
	if p.bad || len(p.b) > 0 {
		return nil, errPacked
	}
	return out, nil
}

// A heard is a script and what the element answered to it.
type heard struct {
	steps   []step
	answers []iso7816.Response // as many as arrived, at most len(steps)
	cut     bool               // the link was lost before the next answer
}

// hear checks a report against its script: not more answers than commands,
// and nothing after an unexpected status word, where the agent had to stop.
func hear(steps []step, raw [][]byte, cut bool) (heard, error) {
	h := heard{steps: steps, cut: cut}
	if len(raw) > len(steps) {
		return h, fmt.Errorf("%d answers to %d commands: %w", len(raw), len(steps), ErrAnswers)
	}
	for i, b := range raw {
		r, err := iso7816.ParseResponse(b)
		if err != nil || len(b) > maxAnswer {
			return h, fmt.Errorf("answer %d: %w", i, ErrAnswers)
		}
		if h.refused() {
			return h, fmt.Errorf("answer %d after a refusal: %w", i, ErrAnswers)
		}
		h.answers = append(h.answers, r)
	}
	return h, nil
}

// refused tells whether the last answer is one the script did not expect.
func (h heard) refused() bool {
	n := len(h.answers)
	return n > 0 && !h.steps[n-1].expects(h.answers[n-1].SW)
}

// complete tells whether every command was answered as expected.
func (h heard) complete() bool { return len(h.answers) == len(h.steps) && !h.refused() }

// good is the number of commands answered as expected.
func (h heard) good() int {
	n := len(h.answers)
	if h.refused() {
		n--
	}
	return n
}

// last is the phase of the last command answered as expected.
func (h heard) last() (Phase, bool) {
	if n := h.good(); n > 0 {
		return h.steps[n-1].phase, true
	}
	return "", false
}

// concealGroups is personalisation data as the log may have it: without the
// card number, which the certificate of a bank card's key holds too.
func concealGroups(groups []globalplatform.DGI) []globalplatform.DGI {
	out := make([]globalplatform.DGI, len(groups))
	for i, g := range groups {
		out[i] = globalplatform.DGI{ID: g.ID, Data: conceal(g.Data)}
	}
	return out
}

// concealAnswers does the same with what a bank card's records say.
func concealAnswers(steps []step, answers [][]byte) [][]byte {
	out := slices.Clone(answers)
	for i, a := range answers {
		c := steps[i].plain
		record := c.CLA == 0 && c.INS == iso7816.InsReadRecord && c.P2>>3 <= 10
		if options := c.CLA == 0x80 && c.INS == pboc.InsGPO; len(a) > 2 && (record || options) {
			out[i] = append(conceal(a[:len(a)-2]), a[len(a)-2:]...)
		}
	}
	return out
}

// conceal puts zeros for the digits of a card number but the first six and the
// last four, and for its certificate. Data that are no objects stay.
func conceal(in []byte) []byte {
	out := bytes.Clone(in)
	_ = tlv.Walk(out, func(_ int, tag tlv.Tag, v []byte) error {
		switch tag {
		case emv.TagPAN, emv.TagTrack2:
			concealDigits(v)
		case emv.TagICCCert:
			clear(v)
		}
		return nil
	})
	return out
}

func concealDigits(v []byte) {
	n := 0
	for n < 2*len(v) && v[n/2]>>(4*(1-n%2))&0x0F <= 9 {
		n++
	}
	for i := 6; i < n-4; i++ {
		v[i/2] &^= 0x0F << (4 * (1 - i%2))
	}
}
