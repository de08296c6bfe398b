package band

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"koala/card"
	"koala/spec/iso7816"
)

// Limits of a session over the air.
const (
	MaxSteps   = 256 // commands of one script
	MaxScripts = 256 // scripts of one run; the rest waits for the next
)

var (
	// ErrScript says that the house sent a script the agent cannot run.
	ErrScript = errors.New("band: malformed script")
	// ErrRun says that a run reached MaxScripts.
	ErrRun = errors.New("band: too many scripts in one run")
)

// Hello is what the agent says of the band when it asks for work.
type Hello struct {
	UID     [7]byte
	Worn    bool
	Battery int // percent
	Free    int // bytes of the element that can still be allocated
}

// A Step is one command of a script. Any status word outside Expect stops the
// script; no Expect at all means 9000 only.
type Step struct {
	APDU   []byte
	Expect []iso7816.SW
}

func (s Step) expects(sw iso7816.SW) bool {
	if len(s.Expect) == 0 {
		return sw.OK()
	}
	return slices.Contains(s.Expect, sw)
}

// A Script is what the agent runs in one go. Its id is its own for ever: an id
// that comes again is the same script, whose answers did not arrive. Done says
// that there is nothing to do.
type Script struct {
	ID    string
	Order string
	Steps []Step
	Done  bool
}

// A Link is the agent's way to the house.
type Link interface {
	Next(ctx context.Context, bandID string, hello Hello) (Script, error)
	// Report tells what the element answered: whole answers with status words,
	// as many as there were. cut says that the contact was lost after them.
	// Reporting a script again must change nothing.
	Report(ctx context.Context, bandID, scriptID string, answers [][]byte, cut bool) error
}

// told is what the last script brought. It is kept until a later script, so
// that a report the link lost is made again and the script is not run twice.
type told struct {
	script  string
	answers [][]byte
	cut     bool
	due     bool // the report has not got through yet
}

// Run fetches scripts, runs them and reports, until there is nothing to do. It
// begins with a report that did not get through last time. A torn contact is
// reported as cut and the run goes on; an error of the link ends the run, and
// the next one goes on where it stood.
func (b *Band) Run(ctx context.Context, link Link) error {
	if b.Battery < minBattery {
		return fmt.Errorf("band %s at %d %%: %w", b.ID, b.Battery, ErrFlat)
	}
	defer b.Element.PowerOff()
	for range MaxScripts {
		if err := b.report(ctx, link); err != nil {
			return err
		}
		s, err := link.Next(ctx, b.ID, b.hello())
		if err != nil {
			return fmt.Errorf("band %s: asking for work: %w", b.ID, err)
		}
		if s.Done {
			return nil
		}
		if s.ID == "" || len(s.Steps) > MaxSteps {
			return fmt.Errorf("band %s: script %q of %d steps: %w", b.ID, s.ID, len(s.Steps), ErrScript)
		}
		if _, _, err := b.Play(s); err != nil {
			return err
		}
		b.told.due = true
	}
	return errors.Join(b.report(ctx, link), fmt.Errorf("band %s: %w", b.ID, ErrRun))
}

// Play runs a script and remembers what it brought. The script that the band
// ran last is not run again: its answers are told once more.
func (b *Band) Play(s Script) (answers [][]byte, cut bool, err error) {
	if s.ID != b.told.script {
		answers, cut, err := b.play(s)
		if err != nil {
			return nil, false, err
		}
		b.told = told{script: s.ID, answers: answers, cut: cut}
	}
	return b.told.answers, b.told.cut, nil
}

func (b *Band) report(ctx context.Context, link Link) error {
	if !b.told.due {
		return nil
	}
	if err := link.Report(ctx, b.ID, b.told.script, b.told.answers, b.told.cut); err != nil {
		return fmt.Errorf("band %s: reporting script %s: %w", b.ID, b.told.script, err)
	}
	b.told.due = false
	return nil
}

func (b *Band) hello() Hello {
	return Hello{UID: b.Element.UID(), Worn: b.worn, Battery: b.Battery, Free: b.Element.Memory().Free()}
}

// play sends the commands of one script over the wired interface. The element
// stays powered between the scripts of a run, so that a secure channel may span
// them; when it is off, power comes on first.
func (b *Band) play(s Script) (answers [][]byte, cut bool, err error) {
	for i, step := range s.Steps {
		if _, err := iso7816.ParseCommand(step.APDU); err != nil {
			return nil, false, fmt.Errorf("band %s: script %s step %d: %w: %w", b.ID, s.ID, i+1, ErrScript, err)
		}
	}
	if !b.Element.Powered() {
		if b.Element.PowerOn(card.Contact) != nil {
			return nil, true, nil
		}
	}
	for _, step := range s.Steps {
		raw, err := b.Element.TransmitRaw(step.APDU)
		if err != nil {
			return answers, true, nil
		}
		answers = append(answers, raw)
		if !step.expects(iso7816.SW(binary.BigEndian.Uint16(raw[len(raw)-2:]))) {
			break
		}
	}
	return answers, false, nil
}

// bytes writes the agent's last words for the band's image: flags 1 (bit 1 cut,
// bit 2 due) | script | every answer, each behind its length 4.
func (t told) bytes() []byte {
	flags := byte(0)
	if t.cut {
		flags |= 1
	}
	if t.due {
		flags |= 2
	}
	b := appendPart([]byte{flags}, []byte(t.script))
	for _, a := range t.answers {
		b = appendPart(b, a)
	}
	return b
}

func parseTold(b []byte) (t told, ok bool) {
	r := reader{rest: b}
	flags := r.number(1)
	t.script = string(r.part())
	for !r.bad && len(r.rest) > 0 {
		t.answers = append(t.answers, r.part())
	}
	t.cut, t.due = flags&1 != 0, flags&2 != 0
	return t, !r.bad && flags < 4
}
