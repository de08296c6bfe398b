// Package rollout keeps the numbered packs that shop terminals are given, in
// which ring each terminal is, how far a pack has come, and what terminals said
// of it. A pack is made, brought to the next ring, stopped and gone back from by
// two people (internal/proposal). Start at Propose and Confirm.
package rollout

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/proposal"
	"koala/switching/pack"
)

// What can go wrong.
var (
	ErrNotFound = fail.Define(fail.NotFound, "rollout.not_found", "there is no parameter pack of this number")
	ErrState    = fail.Define(fail.Conflict, "rollout.state", "the packs stand otherwise by now: look at the page again and propose anew")
	ErrOnItsWay = fail.Define(fail.Conflict, "rollout.on_its_way", "a pack is on its way: bring it to all terminals or stop it before another is made")
	ErrSame     = fail.Define(fail.Conflict, "rollout.same", "the pack would say what the newest one says")
	ErrSettings = fail.Define(fail.Invalid, "rollout.settings", "wait 5 to 99 s, redial 0 to 9, resend 1 to 9; limits 0 to 5000 yuan, that of PIN or signature at most that of a tap")
	ErrRing     = fail.Define(fail.Invalid, "rollout.ring", "there is no such ring")
)

// An Act is what people do with packs.
type Act string

// The acts.
const (
	Bring Act = "make" // a new pack goes to ring 0
	On    Act = "on"   // the newest goes to one more ring; one that was stopped goes on where it was
	Stop  Act = "stop" // the newest spreads no further
	Back  Act = "back" // the content before the newest comes again, under a higher number, to the rings that the newest has reached
)

// Kind is that of proposals about packs; there is one open at a time.
const (
	Kind  = "pack"
	About = Kind + ":terminals"
)

// A Change is what is proposed.
type Change struct {
	Act     Act
	Number  uint32 // the newest pack afterwards
	Ring    int    // that it has reached then
	Content []byte `json:",omitempty"` // Pack.Bytes of a new pack: what is confirmed is what was seen
	Of      uint32 `json:",omitempty"` // of Back: whose content it is
}

// Pack reads the pack of a change that makes one.
func (c Change) Pack() (pack.Pack, error) {
	return pack.Parse(append(bytes.Clone(c.Content), make([]byte, ed25519.SignatureSize)...))
}

// A Pack is one as it is kept.
type Pack struct {
	Number    uint32
	Signed    []byte
	Of        uint32 // whose content it has again; 0: its own
	Ring      int    // that it has reached
	Halted    bool
	Word      string // why the switch halted it by itself; empty: people did
	By, Other string // who proposed it and who confirmed it; empty: the switch
	Made      time.Time
	Moved     time.Time // when its ring, or that it is halted, changed last
}

// Content reads what the pack says.
func (p Pack) Content() (pack.Pack, error) {
	out, err := pack.Parse(p.Signed)
	if err != nil {
		err = fmt.Errorf("kept pack %d: %w", p.Number, err)
	}
	return out, err
}

// OnItsWay says whether it has rings to go to.
func (p Pack) OnItsWay() bool { return !p.Halted && p.Ring < pack.Last }

// Step is what this package keeps, a step of the switch's schema.
const Step = `CREATE TABLE switching_pack (
	number BIGINT PRIMARY KEY, signed BYTEA NOT NULL, hash TEXT NOT NULL, of_number BIGINT NOT NULL,
	ring BIGINT NOT NULL, halted BOOLEAN NOT NULL, word TEXT NOT NULL, by_whom TEXT NOT NULL, other TEXT NOT NULL, made BIGINT NOT NULL, moved BIGINT NOT NULL);
	CREATE TABLE switching_ring (
		tid TEXT NOT NULL, since BIGINT NOT NULL, ring BIGINT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (tid, since));
	CREATE TABLE switching_carrier (
		tid TEXT PRIMARY KEY, ring BIGINT NOT NULL, -- by its number
		have BIGINT NOT NULL, giving BIGINT NOT NULL, parts BIGINT NOT NULL, refused BIGINT NOT NULL, result BIGINT NOT NULL,
		told BIGINT NOT NULL, seen BIGINT NOT NULL);
	CREATE INDEX switching_carrier_refused ON switching_carrier (refused, tid) WHERE refused > 0`

const columns = `number, signed, of_number, ring, halted, word, by_whom, other, made, moved`

// Packs lists them, newest first, from below a number (0: from the newest).
func Packs(q db.Reader, below uint32, limit int) (out []Pack, err error) {
	if below == 0 {
		below = 1<<32 - 1
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var p Pack
		var made, moved int64
		err := scan(&p.Number, &p.Signed, &p.Of, &p.Ring, &p.Halted, &p.Word, &p.By, &p.Other, &made, &moved)
		p.Made, p.Moved = db.Moment(made), db.Moment(moved)
		out = append(out, p)
		return err
	}, `SELECT `+columns+` FROM switching_pack WHERE number < $1 ORDER BY number DESC LIMIT $2`, below, limit)
	if err != nil {
		return nil, fmt.Errorf("packs: %w", err)
	}
	return out, nil
}

// Find reads one.
func Find(q db.Reader, number uint32) (Pack, error) {
	list, err := Packs(q, number+1, 1)
	if err == nil && (len(list) == 0 || list[0].Number != number) {
		err = fmt.Errorf("pack %d: %w", number, ErrNotFound)
	}
	if err != nil {
		return Pack{}, err
	}
	return list[0], nil
}

// newest is the newest pack; number 0: there is none.
func newest(q db.Reader) (Pack, error) {
	list, err := Packs(q, 0, 1)
	if err != nil || len(list) == 0 {
		return Pack{}, err
	}
	return list[0], nil
}

// keep keeps a signed pack under its number, once.
func (p Pack) keep(tx *db.Tx) error {
	content, err := p.Content()
	if err != nil {
		return err
	}
	hash, err := content.Content()
	if err != nil {
		return err
	}
	n, err := tx.Exec(`INSERT INTO switching_pack (`+columns+`, hash) VALUES ($1, $2, $3, $4, FALSE, '', $5, $6, $7, $7, $8) ON CONFLICT (number) DO NOTHING`,
		p.Number, p.Signed, p.Of, p.Ring, p.By, p.Other, tx.Now().UnixMicro(), hex.EncodeToString(hash[:]))
	if err == nil && n == 0 {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("pack %d: %w", p.Number, err)
	}
	return nil
}

// First keeps the first pack of a house, which every terminal is given. Where
// there is one already nothing changes.
func First(tx *db.Tx, signed []byte) error {
	p := Pack{Number: 1, Signed: signed, Ring: pack.Last}
	err := p.keep(tx)
	if errors.Is(err, ErrState) {
		return nil
	}
	return err
}

// Plan is the change that an act would make as the packs stand. content is what
// a new pack says, its number is set here; nil for the other acts.
func Plan(q db.Reader, act Act, content *pack.Pack) (Change, error) {
	last, err := newest(q)
	if err != nil {
		return Change{}, err
	}
	c := Change{Act: act, Number: last.Number, Ring: last.Ring}
	switch act {
	case Bring:
		return c.make(last, content)
	case Back:
		return c.back(q, last)
	case On:
		if last.Halted {
			return c, nil
		}
		c.Ring++
	case Stop:
	default:
		return c, fmt.Errorf("act %q on packs: %w", act, ErrState)
	}
	if !last.OnItsWay() {
		err = fmt.Errorf("%s of pack %d: %w", act, last.Number, ErrState)
	}
	return c, err
}

func (c Change) make(last Pack, content *pack.Pack) (Change, error) {
	if last.OnItsWay() {
		return c, fmt.Errorf("pack %d: %w", last.Number, ErrOnItsWay)
	}
	next := *content
	next.Number = last.Number + 1
	if last.Number > 0 {
		before, err := last.Content()
		if err != nil {
			return c, err
		}
		a, err1 := before.Content()
		b, err2 := next.Content()
		if err := errors.Join(err1, err2); err != nil {
			return c, err
		}
		if a == b {
			return c, fmt.Errorf("pack %d: %w", next.Number, ErrSame)
		}
	}
	var err error
	c.Number, c.Ring = next.Number, 0
	c.Content, err = next.Bytes()
	return c, err
}

// back looks for the newest pack before the last that spread and says something
// else.
func (c Change) back(q db.Reader, last Pack) (Change, error) {
	if last.Number == 0 {
		return c, fmt.Errorf("going back: %w", ErrState)
	}
	now, err := last.Content()
	if err != nil {
		return c, err
	}
	hash, err := now.Content()
	if err != nil {
		return c, err
	}
	for below := last.Number; ; {
		list, err := Packs(q, below, 1)
		if err != nil {
			return c, err
		}
		if len(list) == 0 {
			return c, fmt.Errorf("nothing is before pack %d: %w", last.Number, ErrState)
		}
		below = list[0].Number
		content, err := list[0].Content()
		if err != nil {
			return c, err
		}
		if h, err := content.Content(); err != nil || h == hash || list[0].Halted {
			continue
		}
		again, err := content.Again(last.Number+1, last.Number)
		if err != nil {
			return c, err
		}
		c.Number, c.Of = again.Number, below
		c.Content, err = again.Bytes()
		return c, err
	}
}

// Propose has one person propose a change, which has to be the Plan of now.
func Propose(tx *db.Tx, c Change, by, why string) (proposal.Proposal, error) {
	return proposal.Make(tx, About, c, by, why)
}

// Confirm has another person confirm a change, which is made in the same unit.
func Confirm(tx *db.Tx, id, by string, signed []byte) (Change, error) {
	var c Change
	p, err := proposal.Confirm(tx, Kind, id, by)
	if err == nil {
		err = p.Read(&c)
	}
	if err == nil {
		err = c.Make(tx, p.By, by, signed)
	}
	return c, err
}

// Make makes a change that by has proposed and other confirmed. signed is the
// pack of a change that makes one, signed before: a unit of work cannot wait for
// an HSM. A change that was planned when the packs stood otherwise is ErrState.
func (c Change) Make(tx *db.Tx, by, other string, signed []byte) error {
	last, err := newest(tx)
	if err != nil {
		return err
	}
	n := len(signed) - ed25519.SignatureSize
	if c.Content != nil {
		if n < 0 || !bytes.Equal(signed[:n], c.Content) || last.Number+1 != c.Number || c.Act == Bring && last.OnItsWay() {
			return fmt.Errorf("pack %d: %w", c.Number, ErrState)
		}
		if c.Act == Back {
			if err := move(tx, last.Number, last.Ring, true, ""); err != nil {
				return err
			}
			c.Ring = last.Ring // it may have gone on since
		}
		return Pack{Number: c.Number, Signed: signed, Of: c.Of, Ring: c.Ring, By: by, Other: other}.keep(tx)
	}
	again, err := Plan(tx, c.Act, nil)
	if err != nil || again.Number != c.Number || again.Ring != c.Ring {
		return errors.Join(err, fmt.Errorf("%s of pack %d: %w", c.Act, c.Number, ErrState))
	}
	return move(tx, c.Number, c.Ring, c.Act == Stop, "")
}

// move sets how far a pack has come.
func move(tx *db.Tx, number uint32, ring int, halted bool, word string) error {
	_, err := tx.Exec(`UPDATE switching_pack SET ring = $2, halted = $3, word = $4, moved = $5 WHERE number = $1`, number, ring, halted, word, tx.Now().UnixMicro())
	if err != nil {
		return fmt.Errorf("pack %d: %w", number, err)
	}
	return nil
}
