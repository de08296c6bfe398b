package rollout

import (
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/switching/pack"
)

// The parts of a pack that a terminal loads one by one, as bits: parameters, CA
// keys, AID parameters.
const (
	Parameters = 1 << iota
	Keys
	Applications
	allParts = Parameters | Keys | Applications
)

// A Carrier is a terminal with what it has of packs.
type Carrier struct {
	TID     string
	Ring    int
	Have    uint32 // the pack in use; 0: none that has a number
	Giving  uint32 // the pack whose Parts it has loaded
	Parts   int
	Refused uint32 // the pack that it would not take; 0: none
	Result  pack.Result
	Asked   int       // the task that many were asked for together; 0: none
	Did     int       // that it has done with this message
	Told    time.Time // when it said so, or had all its parts
	Seen    time.Time // its last sign-on
}

// CarrierOf reads a terminal; one that has never signed on has nothing.
func CarrierOf(q db.Reader, tid string, now time.Time) (c Carrier, err error) {
	var told, seen int64
	c = Carrier{TID: tid}
	err = q.QueryRow(`SELECT have, giving, parts, refused, result, asked, told, seen FROM switching_carrier WHERE tid = $1`, tid).
		Scan(&c.Have, &c.Giving, &c.Parts, &c.Refused, &c.Result, &c.Asked, &told, &seen)
	if err == nil || errors.Is(err, db.ErrNoRows) {
		c.Told, c.Seen = db.Moment(told), db.Moment(seen)
		c.Ring, err = ringOf(q, tid, now)
	}
	if err != nil {
		return c, fmt.Errorf("packs of terminal %s: %w", tid, err)
	}
	return c, nil
}

// Next is the part of a pack that a terminal has to load next, as the number of
// the task (docs/terminal-protocol.md, State); 0: it has all, or will not have it.
func (c Carrier) Next(target uint32) int {
	if target <= c.Have || target == c.Refused {
		return 0
	}
	for _, p := range []struct{ part, task int }{{Parameters, 1}, {Keys, 4}, {Applications, 5}} {
		if c.Giving != target || c.Parts&p.part == 0 {
			return p.task
		}
	}
	return 0
}

// Loaded notes that a terminal has loaded a part of a pack to its end. One that
// knows nothing of packs has the pack with its last part.
func (c *Carrier) Loaded(number uint32, part int, now time.Time) {
	if c.Giving != number {
		c.Giving, c.Parts = number, 0
	}
	if c.Parts |= part; c.Parts == allParts && number > c.Have {
		c.Have, c.Told = number, now
	}
}

// Says notes what a terminal that checks packs says of one.
func (c *Carrier) Says(number uint32, r pack.Result, now time.Time) {
	c.Told, c.Result = now, r
	if r == pack.InUse {
		c.Have, c.Giving, c.Parts, c.Refused = number, number, allParts, 0
		return
	}
	c.Refused = number
}

// Keep writes a terminal's row. A refusal that is one too many halts its pack in
// the same unit; halted says so.
func (c Carrier) Keep(tx *db.Tx) (halted bool, err error) {
	_, err = tx.Exec(`INSERT INTO switching_carrier (tid, ring, have, giving, parts, refused, result, told, seen) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (tid) DO UPDATE SET have = excluded.have, giving = excluded.giving, parts = excluded.parts, refused = excluded.refused, result = excluded.result,
		told = excluded.told, seen = excluded.seen`,
		c.TID, pack.Ring(c.TID), c.Have, c.Giving, c.Parts, c.Refused, c.Result, micros(c.Told), micros(c.Seen))
	if err == nil && c.Did != 0 { // unless it is asked for something else meanwhile
		_, err = tx.Exec(`UPDATE switching_carrier SET asked = 0 WHERE tid = $1 AND asked = $2`, c.TID, c.Did)
	}
	if err == nil && c.Refused > 0 {
		halted, err = halt(tx, c.Refused)
	}
	if err != nil {
		return false, fmt.Errorf("packs of terminal %s: %w", c.TID, err)
	}
	return halted, nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// halt stops the newest pack when too many of those that told refused it. One
// that all have reached is stopped too: nobody else takes it. The first pack is
// not: without it new terminals would have nothing.
func halt(tx *db.Tx, number uint32) (bool, error) {
	last, err := newest(tx)
	if err != nil || last.Number != number || last.Halted || number == 1 {
		return false, err
	}
	var has, failed int64
	err = tx.QueryRow(`SELECT COALESCE(SUM(CASE WHEN have = $1 THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN refused = $1 THEN 1 ELSE 0 END), 0)
		FROM switching_carrier WHERE have = $1 OR refused = $1`, number).Scan(&has, &failed)
	if err != nil || !pack.Exceeded(has+failed, failed) {
		return false, err
	}
	return true, move(tx, number, last.Ring, true, fmt.Sprintf("%d/%d", failed, has+failed))
}

// AskStep is the step of the switch's schema for what many terminals are asked
// for together.
const AskStep = `ALTER TABLE switching_carrier ADD COLUMN asked BIGINT NOT NULL DEFAULT 0`

// AskAll has every terminal up to a ring do a task at its next message, by one
// statement; it gives how many. Shelf.Reload makes the switch see it.
func AskAll(tx *db.Tx, ring, task int) (int64, error) {
	n, err := tx.Exec(`UPDATE switching_carrier SET asked = $1 WHERE COALESCE((SELECT r.ring FROM switching_ring r
		WHERE r.tid = switching_carrier.tid AND r.since <= $3 ORDER BY r.since DESC LIMIT 1), ring) <= $2`, task, ring, tx.Now().UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("asking terminals: %w", err)
	}
	return n, nil
}

// Asking counts the terminals that were asked together and have not done it yet,
// by task.
func Asking(q db.Reader) (map[int]int64, error) {
	out := map[int]int64{}
	err := db.Each(q, func(scan func(...any) error) error {
		var task int
		var n int64
		err := scan(&task, &n)
		out[task] = n
		return err
	}, `SELECT asked, COUNT(*) FROM switching_carrier WHERE asked > 0 GROUP BY asked`)
	if err != nil {
		return nil, fmt.Errorf("asking terminals: %w", err)
	}
	return out, nil
}

// Forget drops a terminal that has left the estate.
func Forget(tx *db.Tx, tid string) error {
	if _, err := tx.Exec(`DELETE FROM switching_carrier WHERE tid = $1`, tid); err != nil {
		return fmt.Errorf("packs of terminal %s: %w", tid, err)
	}
	return nil
}

// Stages are how far all packs have come.
func Stages(q db.Reader) (out []pack.Stage, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s pack.Stage
		err := scan(&s.Number, &s.Ring, &s.Halted)
		out = append(out, s)
		return err
	}, `SELECT number, ring, halted FROM switching_pack ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("stages of packs: %w", err)
	}
	return out, nil
}

// Assign puts a terminal into a ring from a moment on; the same moment again
// changes it.
func Assign(tx *db.Tx, tid string, ring int, since time.Time, by, why string) error {
	if ring < 0 || ring > pack.Last {
		return fmt.Errorf("terminal %s: %w", tid, ErrRing)
	}
	_, err := tx.Exec(`INSERT INTO switching_ring (tid, since, ring, by_whom, why, at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (tid, since) DO UPDATE SET ring = excluded.ring, by_whom = excluded.by_whom, why = excluded.why, at = excluded.at`,
		tid, since.UnixMicro(), ring, by, why, tx.Now().UnixMicro())
	if err != nil {
		return fmt.Errorf("ring of terminal %s: %w", tid, err)
	}
	return nil
}

func ringOf(q db.Reader, tid string, now time.Time) (ring int, err error) {
	err = q.QueryRow(`SELECT ring FROM switching_ring WHERE tid = $1 AND since <= $2 ORDER BY since DESC LIMIT 1`, tid, now.UnixMicro()).Scan(&ring)
	if errors.Is(err, db.ErrNoRows) {
		return pack.Ring(tid), nil
	}
	return ring, err
}

// SilentAfter is how long a terminal may not sign on before it is counted apart.
const SilentAfter = 7 * 24 * time.Hour

// A Count is how a ring stands to a pack.
type Count struct {
	Ring                       int
	Have, Refused, Not, Silent int64 // Not: has it not yet, and spoke within SilentAfter
}

// All is the number of the ring's terminals.
func (c Count) All() int64 { return c.Have + c.Refused + c.Not + c.Silent }

// Counts counts every ring of the terminals that have ever signed on. Who has a
// later pack has this one behind it.
func Counts(q db.Reader, number uint32, now time.Time) (out []Count, err error) {
	out = make([]Count, len(pack.Rings))
	for i := range out {
		out[i].Ring = i
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var c Count
		if err := scan(&c.Ring, &c.Have, &c.Refused, &c.Silent, &c.Not); err != nil {
			return err
		}
		if c.Ring >= 0 && c.Ring < len(out) {
			out[c.Ring] = c
		}
		return nil
	}, `SELECT ring, CAST(SUM(CASE WHEN state = 0 THEN 1 ELSE 0 END) AS BIGINT), CAST(SUM(CASE WHEN state = 1 THEN 1 ELSE 0 END) AS BIGINT),
			CAST(SUM(CASE WHEN state = 2 THEN 1 ELSE 0 END) AS BIGINT), CAST(SUM(CASE WHEN state = 3 THEN 1 ELSE 0 END) AS BIGINT)
		FROM (SELECT COALESCE((SELECT r.ring FROM switching_ring r WHERE r.tid = c.tid AND r.since <= $2 ORDER BY r.since DESC LIMIT 1), c.ring) AS ring,
			CASE WHEN have >= $1 THEN 0 WHEN refused = $1 THEN 1 WHEN seen < $3 THEN 2 ELSE 3 END AS state FROM switching_carrier c) x GROUP BY ring`,
		number, now.UnixMicro(), now.Add(-SilentAfter).UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("counts of pack %d: %w", number, err)
	}
	return out, nil
}

// Refusals lists terminals that refuse a pack, by number from the one after the
// given.
func Refusals(q db.Reader, number uint32, after string, limit int) (out []Carrier, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var c Carrier
		var told int64
		err := scan(&c.TID, &c.Have, &c.Refused, &c.Result, &told)
		c.Told = db.Moment(told)
		out = append(out, c)
		return err
	}, `SELECT tid, have, refused, result, told FROM switching_carrier WHERE refused > 0 AND refused = $1 AND tid > $2 ORDER BY tid LIMIT $3`, number, after, limit)
	if err != nil {
		return nil, fmt.Errorf("refusals of pack %d: %w", number, err)
	}
	return out, nil
}
