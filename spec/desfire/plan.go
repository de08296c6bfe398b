package desfire

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// A Plan says who may open which door of a site at what hour. Doors load it as
// a signed pack; a newer version replaces it whole.
type Plan struct {
	Version   uint32
	Site      uint32
	Made      time.Time // to the second
	Zones     []Zone    // in order of ID
	Schedules []Schedule
	Holidays  []Holiday // in order of day
	Grants    []Grant   // in order of person, zone, schedule
	Denied    []Denial  // in order of card
}

// A Zone is doors that are opened together.
type Zone struct {
	ID    uint16
	Doors []uint32 // rising
}

// A Schedule is hours of the week.
type Schedule struct {
	ID      uint16
	Windows []Window
}

// A Window is hours of some days: from a minute of the day up to and without
// another, 0-1440.
type Window struct {
	Days     Days
	From, To uint16
}

// Days are the days of a window: bits 0-6 Monday to Sunday. With Working the
// plan's holidays go before: a day off is none of them, a day worked is one.
type Days byte

// Days that have a name.
const (
	Weekdays Days = 0x1F
	EveryDay Days = 0x7F
	Working  Days = 0x80
)

// A Holiday is a day that is not what its weekday says: off, or worked instead
// of another.
type Holiday struct {
	Day    [4]byte // YYYYMMDD in BCD
	Worked bool
}

// A Grant lets a person through the doors of a zone in the hours of a schedule.
type Grant struct {
	Person         uint64
	Zone, Schedule uint16
}

// A Denial is a card that opens nothing, whoever carries it.
type Denial struct {
	Card   UID
	Reason byte // 01 lost, 02 forged, 03 withdrawn
}

// Limits of a plan.
const (
	MaxZones     = 256
	MaxZoneDoors = 1024
	MaxSchedules = 256
	MaxWindows   = 16
	MaxHolidays  = 200
	MaxGrants    = 50_000
	MaxDenials   = 50_000
)

var planMagic = [4]byte{'K', 'D', 'P', 0x01}

// Bytes codes the plan, big endian: magic 4 | version 4 | site 4 | made 8, Unix
// seconds | zones 2: ID 2, doors 2, each 4 | schedules 2: ID 2, windows 1, each
// days 1, from 2, to 2 | holidays 2: day 4, worked 1 | grants 4: person 8, zone
// 2, schedule 2 | denials 4: card 7, reason 1. It must hold what ParsePlan asks for.
func (p Plan) Bytes() ([]byte, error) {
	be := binary.BigEndian
	b := be.AppendUint32(append([]byte(nil), planMagic[:]...), p.Version)
	b = be.AppendUint64(be.AppendUint32(b, p.Site), uint64(p.Made.Unix()))
	b = be.AppendUint16(b, uint16(len(p.Zones)))
	for _, z := range p.Zones {
		b = be.AppendUint16(be.AppendUint16(b, z.ID), uint16(len(z.Doors)))
		for _, d := range z.Doors {
			b = be.AppendUint32(b, d)
		}
	}
	b = be.AppendUint16(b, uint16(len(p.Schedules)))
	for _, s := range p.Schedules {
		b = append(be.AppendUint16(b, s.ID), byte(len(s.Windows)))
		for _, w := range s.Windows {
			b = be.AppendUint16(be.AppendUint16(append(b, byte(w.Days)), w.From), w.To)
		}
	}
	b = be.AppendUint16(b, uint16(len(p.Holidays)))
	for _, h := range p.Holidays {
		b = append(append(b, h.Day[:]...), flag(h.Worked))
	}
	b = be.AppendUint32(b, uint32(len(p.Grants)))
	for _, g := range p.Grants {
		b = be.AppendUint16(be.AppendUint16(be.AppendUint64(b, g.Person), g.Zone), g.Schedule)
	}
	b = be.AppendUint32(b, uint32(len(p.Denied)))
	for _, d := range p.Denied {
		b = append(append(b, d.Card[:]...), d.Reason)
	}
	if _, err := ParsePlan(b); err != nil {
		return nil, err
	}
	return b, nil
}

// A cutter takes numbers from the front of bytes; once they run out it gives
// zeros and bad stays set.
type cutter struct {
	b   []byte
	bad bool
}

func (c *cutter) take(n int) []byte {
	if len(c.b) < n {
		c.b, c.bad = nil, true
		return make([]byte, n)
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cutter) u8() byte    { return c.take(1)[0] }
func (c *cutter) u16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cutter) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cutter) u64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

// count reads a number of things of at least size bytes; more than most, or
// more than there can be, is bad.
func (c *cutter) count(n, most, size int) int {
	if n > most || n*size > len(c.b) {
		c.bad = true
		return 0
	}
	return n
}

// ParsePlan reads a plan and nothing after it.
func ParsePlan(b []byte) (p Plan, err error) {
	c := &cutter{b: b}
	if [4]byte(c.take(4)) != planMagic {
		return p, fmt.Errorf("plan: %w", ErrVersion)
	}
	p.Version, p.Site = c.u32(), c.u32()
	seconds := c.u64()
	p.Made = time.Unix(int64(seconds), 0).UTC()
	for range c.count(int(c.u16()), MaxZones, 4) {
		z := Zone{ID: c.u16()}
		for range c.count(int(c.u16()), MaxZoneDoors, 4) {
			z.Doors = append(z.Doors, c.u32())
		}
		p.Zones = append(p.Zones, z)
	}
	for range c.count(int(c.u16()), MaxSchedules, 3) {
		s := Schedule{ID: c.u16()}
		for range c.count(int(c.u8()), MaxWindows, 5) {
			s.Windows = append(s.Windows, Window{Days(c.u8()), c.u16(), c.u16()})
		}
		p.Schedules = append(p.Schedules, s)
	}
	for range c.count(int(c.u16()), MaxHolidays, 5) {
		h := Holiday{Day: [4]byte(c.take(4))}
		worked := c.u8()
		h.Worked, c.bad = worked == 1, c.bad || worked > 1
		p.Holidays = append(p.Holidays, h)
	}
	for range c.count(int(c.u32()), MaxGrants, 12) {
		p.Grants = append(p.Grants, Grant{c.u64(), c.u16(), c.u16()})
	}
	for range c.count(int(c.u32()), MaxDenials, 8) {
		p.Denied = append(p.Denied, Denial{UID(c.take(7)), c.u8()})
	}
	if c.bad || len(c.b) != 0 {
		return Plan{}, fmt.Errorf("plan: %w", ErrLength)
	}
	if err := p.check(); err != nil {
		return Plan{}, fmt.Errorf("plan %d: %w", p.Version, err)
	}
	return p, nil
}

// check says whether everything is in order and refers to what is there.
func (p Plan) check() error {
	bad := func(what string) error { return fmt.Errorf("%s: %w", what, ErrSettings) }
	zone := func(a, b Zone) int { return cmp.Compare(a.ID, b.ID) }
	schedule := func(a, b Schedule) int { return cmp.Compare(a.ID, b.ID) }
	switch {
	case !rising(p.Zones, zone):
		return bad("zones")
	case !rising(p.Schedules, schedule):
		return bad("schedules")
	case !rising(p.Holidays, func(a, b Holiday) int { return bytes.Compare(a.Day[:], b.Day[:]) }):
		return bad("holidays")
	case !rising(p.Grants, compareGrants):
		return bad("grants")
	case !rising(p.Denied, func(a, b Denial) int { return bytes.Compare(a.Card[:], b.Card[:]) }):
		return bad("denied cards")
	}
	for _, z := range p.Zones {
		if !rising(z.Doors, cmp.Compare[uint32]) {
			return bad("doors of a zone")
		}
	}
	for _, s := range p.Schedules {
		for _, w := range s.Windows {
			if w.From >= w.To || w.To > 24*60 || w.Days == 0 {
				return bad("window of a schedule")
			}
		}
	}
	for _, g := range p.Grants {
		_, z := slices.BinarySearchFunc(p.Zones, Zone{ID: g.Zone}, zone)
		_, s := slices.BinarySearchFunc(p.Schedules, Schedule{ID: g.Schedule}, schedule)
		if !z || !s {
			return bad("grant of an unknown zone or schedule")
		}
	}
	return nil
}

func rising[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

func compareGrants(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Person, b.Person), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Schedule, b.Schedule))
}

// Sign codes the plan and puts the Ed25519 signature of 64 bytes behind it.
func (p Plan) Sign(key ed25519.PrivateKey) ([]byte, error) {
	b, err := p.Bytes()
	if err != nil {
		return nil, err
	}
	return append(b, ed25519.Sign(key, b)...), nil
}

// OpenPlan reads a signed pack. Nothing of a pack that key did not sign is used.
func OpenPlan(key ed25519.PublicKey, pack []byte) (Plan, error) {
	n := len(pack) - ed25519.SignatureSize
	if len(key) != ed25519.PublicKeySize || n < 0 || !ed25519.Verify(key, pack[:n], pack[n:]) {
		return Plan{}, fmt.Errorf("plan: signature: %w", ErrMAC)
	}
	return ParsePlan(pack[:n])
}

// Admits says whether a person may pass a door at all, and whether now.
func (p Plan) Admits(person uint64, door uint32, at time.Time) (ever, now bool) {
	i, _ := slices.BinarySearchFunc(p.Grants, person, func(g Grant, person uint64) int { return cmp.Compare(g.Person, person) })
	for ; i < len(p.Grants) && p.Grants[i].Person == person; i++ {
		if g := p.Grants[i]; p.leads(g.Zone, door) {
			ever = true
			now = now || p.open(g.Schedule, at)
		}
	}
	return ever, now
}

// leads says whether a door belongs to a zone.
func (p Plan) leads(zone uint16, door uint32) bool {
	i, ok := slices.BinarySearchFunc(p.Zones, zone, func(z Zone, id uint16) int { return cmp.Compare(z.ID, id) })
	if ok {
		_, ok = slices.BinarySearch(p.Zones[i].Doors, door)
	}
	return ok
}

// open says whether a moment lies in the hours of a schedule, Beijing time.
func (p Plan) open(schedule uint16, at time.Time) bool {
	i, ok := slices.BinarySearchFunc(p.Schedules, schedule, func(s Schedule, id uint16) int { return cmp.Compare(s.ID, id) })
	if !ok {
		return false
	}
	local := at.In(beijing)
	minute := uint16(local.Hour()*60 + local.Minute())
	today := Days(1) << ((local.Weekday() + 6) % 7)
	day := StampOf(at)
	h, special := slices.BinarySearchFunc(p.Holidays, day[:4], func(h Holiday, d []byte) int { return bytes.Compare(h.Day[:], d) })
	for _, w := range p.Schedules[i].Windows {
		is := w.Days&today != 0
		if special && w.Days&Working != 0 {
			is = p.Holidays[h].Worked
		}
		if is && w.From <= minute && minute < w.To {
			return true
		}
	}
	return false
}

// Deny says why a card opens nothing; false when it is not on the list.
func (p Plan) Deny(card UID) (reason byte, denied bool) {
	i, ok := slices.BinarySearchFunc(p.Denied, card, func(d Denial, c UID) int { return bytes.Compare(d.Card[:], c[:]) })
	if !ok {
		return 0, false
	}
	return p.Denied[i].Reason, true
}

// A Passage is one card at a door, as the door's log keeps it.
type Passage struct {
	Card   UID
	Person uint64 // 0 when the credential was not read
	Door   uint32
	At     Stamp
	Opened bool
	Reason byte // the door's reason
}

// PassageLen is the length of a passage in bytes.
const PassageLen = 29

const passageVersion = 0x01

// Bytes codes the passage, big endian: version 1, card 7, person 8, door 4, time
// 7, opened 1, reason 1.
func (p Passage) Bytes() []byte {
	b := append(append(make([]byte, 0, PassageLen), passageVersion), p.Card[:]...)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, p.Person), p.Door)
	return append(append(b, p.At[:]...), flag(p.Opened), p.Reason)
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// ParsePassage reads one passage.
func ParsePassage(b []byte) (p Passage, err error) {
	if err := exactly("passage", b, PassageLen); err != nil {
		return p, err
	}
	if b[0] != passageVersion || b[27] > 1 {
		return p, fmt.Errorf("passage: %w: %02X", ErrVersion, b[0])
	}
	return Passage{
		Card: UID(b[1:8]), Person: binary.BigEndian.Uint64(b[8:]), Door: binary.BigEndian.Uint32(b[16:]), At: Stamp(b[20:27]),
		Opened: b[27] == 1, Reason: b[28],
	}, nil
}

// A PassageBatch is what a door hands over at once: passages with the places
// First, First+1, … in its log.
type PassageBatch struct {
	Door     uint32
	First    uint32
	Passages []Passage
}

// MaxPassageBatch bounds one batch.
const MaxPassageBatch = 1000

var passageBatchMagic = [4]byte{'K', 'D', 'L', 0x01}

// Bytes codes the batch: magic 4, door 4, first 4, count 2, the passages, CRC-32
// (IEEE) 4 over all of it, big endian.
func (b PassageBatch) Bytes() ([]byte, error) {
	if len(b.Passages) > MaxPassageBatch {
		return nil, fmt.Errorf("batch of %d passages: %w", len(b.Passages), ErrLength)
	}
	out := binary.BigEndian.AppendUint32(append([]byte(nil), passageBatchMagic[:]...), b.Door)
	out = binary.BigEndian.AppendUint32(out, b.First)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.Passages)))
	for _, p := range b.Passages {
		out = append(out, p.Bytes()...)
	}
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out)), nil
}

// ParsePassageBatch reads one batch and nothing after it.
func ParsePassageBatch(in []byte) (b PassageBatch, err error) {
	const head, sum = 14, 4
	if len(in) < head+sum || [4]byte(in[:4]) != passageBatchMagic {
		return b, fmt.Errorf("passage batch: %w: %d bytes", ErrLength, len(in))
	}
	body := in[:len(in)-sum]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(in[len(body):]) {
		return b, fmt.Errorf("passage batch: %w", ErrMAC)
	}
	n := int(binary.BigEndian.Uint16(in[12:]))
	if n > MaxPassageBatch || len(body) != head+n*PassageLen {
		return b, fmt.Errorf("passage batch: %w: %d passages in %d bytes", ErrLength, n, len(in))
	}
	b.Door, b.First = binary.BigEndian.Uint32(in[4:]), binary.BigEndian.Uint32(in[8:])
	for rest := body[head:]; len(rest) > 0; rest = rest[PassageLen:] {
		p, err := ParsePassage(rest[:PassageLen])
		if err != nil {
			return PassageBatch{}, err
		}
		b.Passages = append(b.Passages, p)
	}
	return b, nil
}
