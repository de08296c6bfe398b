package desfire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// A Menu is the canteen's price list: meals with their hours, dishes, and what
// the employer pays. Tills load it as a signed pack; a newer version replaces it
// whole.
type Menu struct {
	Version uint32
	Made    time.Time // to the second
	Meals   []Meal    // in order of time, not overlapping
	Denied  []Denial  // in order of card
}

// A Meal is served from a minute of the day up to and without another, Beijing
// time. The employer pays Percent of the price, at most Subsidy, once per meal
// and card.
type Meal struct {
	ID       byte // 1-255
	From, To uint16
	Percent  byte   // 0-100
	Subsidy  uint32 // fen
	EN, ZH   string
	Dishes   []Dish // in order of ID
}

// A Dish has a price.
type Dish struct {
	ID     byte
	Fen    uint32
	EN, ZH string
}

// Limits of a menu.
const (
	MaxMeals    = 16
	MaxDishes   = 64
	MaxDishName = 60     // bytes
	MaxDishFen  = 20_000 // dearest dish, fen
)

var menuMagic = [4]byte{'K', 'D', 'M', 0x01}

// Bytes codes the menu, big endian: magic 4 | version 4 | made 8, Unix seconds |
// meals 1: ID 1, from 2, to 2, percent 1, subsidy 4, names, dishes 1: ID 1, price
// 4, names | denials 4: card 7, reason 1. A name is its length 1 and UTF-8;
// English first. It must hold what ParseMenu asks for.
func (m Menu) Bytes() ([]byte, error) {
	be := binary.BigEndian
	b := be.AppendUint32(append([]byte(nil), menuMagic[:]...), m.Version)
	b = append(be.AppendUint64(b, uint64(m.Made.Unix())), byte(len(m.Meals)))
	for _, x := range m.Meals {
		b = be.AppendUint16(be.AppendUint16(append(b, x.ID), x.From), x.To)
		b = appendNames(be.AppendUint32(append(b, x.Percent), x.Subsidy), x.EN, x.ZH)
		b = append(b, byte(len(x.Dishes)))
		for _, d := range x.Dishes {
			b = appendNames(be.AppendUint32(append(b, d.ID), d.Fen), d.EN, d.ZH)
		}
	}
	b = be.AppendUint32(b, uint32(len(m.Denied)))
	for _, d := range m.Denied {
		b = append(append(b, d.Card[:]...), d.Reason)
	}
	if _, err := ParseMenu(b); err != nil {
		return nil, err
	}
	return b, nil
}

func appendNames(b []byte, en, zh string) []byte {
	b = append(append(b, byte(len(en))), en...)
	return append(append(b, byte(len(zh))), zh...)
}

func (c *cutter) name() string { return string(c.take(c.count(int(c.u8()), MaxDishName, 1))) }

// ParseMenu reads a menu and nothing after it.
func ParseMenu(b []byte) (m Menu, err error) {
	c := &cutter{b: b}
	if [4]byte(c.take(4)) != menuMagic {
		return m, fmt.Errorf("menu: %w", ErrVersion)
	}
	m.Version = c.u32()
	seconds := c.u64()
	m.Made = time.Unix(int64(seconds), 0).UTC()
	for range c.count(int(c.u8()), MaxMeals, 13) {
		x := Meal{ID: c.u8(), From: c.u16(), To: c.u16(), Percent: c.u8(), Subsidy: c.u32(), EN: c.name(), ZH: c.name()}
		for range c.count(int(c.u8()), MaxDishes, 7) {
			x.Dishes = append(x.Dishes, Dish{ID: c.u8(), Fen: c.u32(), EN: c.name(), ZH: c.name()})
		}
		m.Meals = append(m.Meals, x)
	}
	for range c.count(int(c.u32()), MaxDenials, 8) {
		m.Denied = append(m.Denied, Denial{UID(c.take(7)), c.u8()})
	}
	if c.bad || len(c.b) != 0 {
		return Menu{}, fmt.Errorf("menu: %w", ErrLength)
	}
	if err := m.check(); err != nil {
		return Menu{}, fmt.Errorf("menu %d: %w", m.Version, err)
	}
	return m, nil
}

func (m Menu) check() error {
	end, seen := uint16(0), map[byte]bool{}
	for _, x := range m.Meals {
		if x.ID == 0 || seen[x.ID] || x.From < end || x.From >= x.To || x.To > 24*60 || x.Percent > 100 {
			return fmt.Errorf("meal %d: %w", x.ID, ErrSettings)
		}
		end, seen[x.ID] = x.To, true
		for i, d := range x.Dishes {
			if d.Fen == 0 || d.Fen > MaxDishFen || i > 0 && x.Dishes[i-1].ID >= d.ID {
				return fmt.Errorf("meal %d, dish %d: %w", x.ID, d.ID, ErrSettings)
			}
		}
	}
	if !rising(m.Denied, func(a, b Denial) int { return bytes.Compare(a.Card[:], b.Card[:]) }) {
		return fmt.Errorf("denied cards: %w", ErrSettings)
	}
	return nil
}

// Sign codes the menu and puts the Ed25519 signature of 64 bytes behind it.
func (m Menu) Sign(key ed25519.PrivateKey) ([]byte, error) {
	b, err := m.Bytes()
	if err != nil {
		return nil, err
	}
	return append(b, ed25519.Sign(key, b)...), nil
}

// OpenMenu reads a signed pack. Nothing of a pack that key did not sign is used.
func OpenMenu(key ed25519.PublicKey, pack []byte) (Menu, error) {
	n := len(pack) - ed25519.SignatureSize
	if len(key) != ed25519.PublicKeySize || n < 0 || !ed25519.Verify(key, pack[:n], pack[n:]) {
		return Menu{}, fmt.Errorf("menu: signature: %w", ErrMAC)
	}
	return ParseMenu(pack[:n])
}

// At is the meal served at a moment, Beijing time.
func (m Menu) At(t time.Time) (Meal, bool) {
	local := t.In(beijing)
	minute := uint16(local.Hour()*60 + local.Minute())
	for _, x := range m.Meals {
		if x.From <= minute && minute < x.To {
			return x, true
		}
	}
	return Meal{}, false
}

// Holds says whether a stamp lies in the meal's hours on the day of another.
func (x Meal) Holds(s, day Stamp) bool {
	t, err := s.Moment()
	if err != nil || !bytes.Equal(s[:4], day[:4]) {
		return false
	}
	minute := uint16(t.Hour()*60 + t.Minute())
	return x.From <= minute && minute < x.To
}

// Dish finds a dish of the meal.
func (x Meal) Dish(id byte) (Dish, bool) {
	i, ok := slices.BinarySearchFunc(x.Dishes, id, func(d Dish, id byte) int { return int(d.ID) - int(id) })
	if !ok {
		return Dish{}, false
	}
	return x.Dishes[i], true
}

// Share is what the employer pays of a price, in whole fen, rounded down.
func (x Meal) Share(fen uint32) uint32 {
	return min(uint32(uint64(fen)*uint64(x.Percent)/100), x.Subsidy)
}

// Deny says why a card pays nothing here; false when it is not on the list.
func (m Menu) Deny(card UID) (reason byte, denied bool) { return Plan{Denied: m.Denied}.Deny(card) }
