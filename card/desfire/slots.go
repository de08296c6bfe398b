package desfire

import (
	"koala/card"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

// Regions of an instance: one of the card itself, and slots. A slot holds an
// application or a file, or is free and all zeros, to be used again by what fits
// into it: the element gives no single region back.
//
// The card: settings 1 | configuration 1 | lowest number of a living application
// 4 | next number 4 | slots 2 | master key 26 | default key 26. A key is kind 1,
// version 1, value 24.
const (
	tagCard = 0x0001
	tagSlot = 0x0100 // and up

	atSettings = 0
	atConfig   = 1
	atFloor    = 2
	atNext     = 6
	atSlots    = 10
	atMaster   = 12
	atDefault  = 38
	cardSize   = 64
)

// maxSlots is what all applications and files can take.
const maxSlots = 256

// A slot begins with its kind 1 and the number 4 of the application it is or
// belongs to. Numbers are never given twice; formatting the card raises the
// lowest living one, so that all applications go in one write.
const (
	atKind   = 0
	atNumber = 1

	slotFree = 0x00
	slotApp  = 0x01
	slotFile = 0x02
)

// An application: AID 3 | settings 1 | keys and their kind 1 | ISO identifier 2
// | length of its name 1 | name 16 | per key version 1 and value.
const (
	atAID         = 5
	atAppSettings = 8
	atKeys        = 9
	atISO         = 10
	atNameLen     = 12
	atName        = 13
	atKeyValues   = 29

	maxName = 16
)

type app struct{ card.Region }

func (x app) number() uint32                { return x.Uint32(atNumber) }
func (x app) aid() desfire.AID              { return desfire.AIDFrom([3]byte(x.Bytes()[atAID:])) }
func (x app) settings() desfire.KeySettings { return desfire.KeySettings(x.Bytes()[atAppSettings]) }
func (x app) keys() int                     { return int(x.Bytes()[atKeys] & 0x0F) }
func (x app) kind() desfire.KeyKind         { return desfire.KeyKind(x.Bytes()[atKeys] & 0xC0) }
func (x app) iso() uint16                   { return x.Uint16(atISO) }
func (x app) name() []byte                  { return x.Bytes()[atName : atName+int(x.Bytes()[atNameLen])] }

func (x app) keyAt(no int) int { return atKeyValues + no*(1+x.kind().Size()) }

func (x app) key(no int) desfire.Key {
	b := x.Bytes()[x.keyAt(no):]
	return desfire.NewKey(x.kind(), b[1:1+x.kind().Size()], b[0])
}

func (x app) setKey(no int, k desfire.Key) {
	x.Write(x.keyAt(no), append([]byte{k.Version}, k.Bytes()...))
}

func install(s *card.Session, _ []byte) iso7816.SW {
	g, err := s.Allocate(tagCard, cardSize)
	if err != nil {
		return iso7816.SWNoSpace
	}
	g.Write(atSettings, []byte{byte(desfire.DefaultSettings)})
	g.WriteUint32(atFloor, 1)
	g.WriteUint32(atNext, 1)
	return iso7816.OK
}

// open finds the regions once per selection, and finishes the wiping that a
// power failure may have interrupted.
func (a *applet) open(s *card.Session) bool {
	if a.picc.Present() {
		return true
	}
	a.picc = s.Region(tagCard)
	for i := range int(a.picc.Uint16(atSlots)) {
		a.slots = append(a.slots, s.Region(tagSlot+uint16(i)))
	}
	return a.sweep(s)
}

func (a *applet) master() desfire.Key { return storedKey(a.picc.Bytes()[atMaster:]) }

func storedKey(b []byte) desfire.Key {
	kind := desfire.KeyKind(b[0])
	return desfire.NewKey(kind, b[2:2+kind.Size()], b[1])
}

func (a *applet) setMaster(k desfire.Key) {
	a.picc.Write(atMaster, append([]byte{byte(k.Kind), k.Version}, k.Value[:]...))
}

// defaultKey is what the keys of a new application are.
func (a *applet) defaultKey(kind desfire.KeyKind) desfire.Key {
	b := a.picc.Bytes()[atDefault:]
	return desfire.NewKey(kind, b[2:2+kind.Size()], b[1])
}

func (a *applet) living(g card.Region) bool { return g.Uint32(atNumber) >= a.picc.Uint32(atFloor) }

// apps lists the living applications.
func (a *applet) apps() (list []app) {
	for _, g := range a.slots {
		if g.Bytes()[atKind] == slotApp && a.living(g) {
			list = append(list, app{g})
		}
	}
	return list
}

// find finds an application; absent if there is none.
func (a *applet) find(aid desfire.AID) app {
	for _, x := range a.apps() {
		if x.aid() == aid {
			return x
		}
	}
	return app{}
}

// filesOf lists the files of an application.
func (a *applet) filesOf(x app) (list []file) {
	for _, g := range a.slots {
		if g.Bytes()[atKind] == slotFile && g.Uint32(atNumber) == x.number() {
			list = append(list, file{g})
		}
	}
	return list
}

// take finds size zeroed bytes: the smallest free slot that has them, or a new
// one.
func (a *applet) take(s *card.Session, size int) (card.Region, bool) {
	best := card.Region{}
	for _, g := range a.slots {
		if g.Bytes()[atKind] == slotFree && g.Size() >= size && (!best.Present() || g.Size() < best.Size()) {
			best = g
		}
	}
	if best.Present() {
		return best, true
	}
	n := len(a.slots)
	if n == maxSlots {
		return card.Region{}, false
	}
	g, err := s.Allocate(tagSlot+uint16(n), size)
	if err != nil {
		s.Rollback()
		return card.Region{}, false
	}
	a.slots = append(a.slots, g)
	a.picc.WriteUint16(atSlots, uint16(n+1))
	return g, true
}

// wipePart is how many bytes one unit of the wiping zeroes.
const wipePart = 1024

// sweep wipes the slots of what has been deleted and makes them free, each in
// units of its own: they are unreachable already. False means that power fails.
func (a *applet) sweep(s *card.Session) bool {
	alive := map[uint32]bool{}
	for _, x := range a.apps() {
		alive[x.number()] = true
	}
	zero := make([]byte, wipePart)
	for _, g := range a.slots {
		if kind := g.Bytes()[atKind]; kind == slotFree || alive[g.Uint32(atNumber)] {
			continue
		}
		for end := g.Size(); end > 0; end -= wipePart {
			from := max(0, end-wipePart) // the kind goes last
			g.Write(from, zero[:end-from])
			if s.Commit() != nil {
				return false
			}
		}
	}
	return true
}

// settled makes what a command has deleted permanent and wipes it.
func (a *applet) settled(s *card.Session, done answer) answer {
	if s.Commit() != nil || !a.sweep(s) {
		return says(desfire.MemoryError)
	}
	return done
}

// unused is the memory that new applications and files can have.
func (a *applet) unused(s *card.Session) int {
	n := s.Free()
	for _, g := range a.slots {
		if g.Bytes()[atKind] == slotFree {
			n += g.Size()
		}
	}
	return n
}
