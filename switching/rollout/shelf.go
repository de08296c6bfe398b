package rollout

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/spec/emv"
	"koala/switching/pack"
)

// A Shelf has the packs in memory as the switch gives them out. It is safe for
// concurrent use; Reload makes it see what a unit has changed.
type Shelf struct {
	store *db.Store
	keys  *hsm.HSM

	mu     sync.RWMutex
	read   bool
	turn   int // of Reload: what was read before one does not count
	stages []pack.Stage
	packs  map[uint32]*Given
}

// A Given is a pack as terminals get it.
type Given struct {
	Content   pack.Pack
	Signature []byte
}

// NewShelf is empty until it is asked.
func NewShelf(store *db.Store, keys *hsm.HSM) *Shelf { return &Shelf{store: store, keys: keys} }

// Reload has the shelf read again what the packs are.
func (s *Shelf) Reload() {
	s.mu.Lock()
	s.read, s.packs, s.turn = false, nil, s.turn+1
	s.mu.Unlock()
}

// Turn counts what Reload was called for: what was read of terminals in another
// turn is read again.
func (s *Shelf) Turn() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.turn
}

// Target is the number of the pack that a terminal is to have; 0: the house has
// none. The first one is made when somebody first asks, if the house has its key.
func (s *Shelf) Target(ctx context.Context, c Carrier) (uint32, error) {
	s.mu.RLock()
	read, stages, turn := s.read, s.stages, s.turn
	s.mu.RUnlock()
	if !read {
		var err error
		if stages, err = s.load(ctx, turn); err != nil {
			return 0, err
		}
	}
	return pack.For(stages, c.Ring, c.Have), nil
}

// load reads the stages. Two that make the first pack at once make one: it is
// kept under its number once, and what is kept is read again.
func (s *Shelf) load(ctx context.Context, turn int) (stages []pack.Stage, err error) {
	read := func() error {
		return s.store.Read(ctx, func(q *db.Query) (err error) {
			stages, err = Stages(q)
			return err
		})
	}
	if err = read(); err == nil && len(stages) == 0 {
		if _, none := s.keys.PublicKey(ctx, pack.Label); errors.Is(none, hsm.ErrNoKey) {
			return nil, nil
		}
		if err = s.first(ctx); err == nil {
			err = read()
		}
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.turn == turn {
		s.read, s.stages = true, stages
	}
	s.mu.Unlock()
	return stages, nil
}

// first makes the first pack of the house.
func (s *Shelf) first(ctx context.Context) error {
	p, err := s.Draft(ctx, Usual)
	if err != nil {
		return err
	}
	p.Number = 1
	signed, err := s.sign(ctx, p)
	if err != nil {
		return err
	}
	return s.store.Write(ctx, func(tx *db.Tx) error { return First(tx, signed) })
}

// Draft is what a pack of these settings would say today. Its number is that of
// no pack yet.
func (s *Shelf) Draft(ctx context.Context, set Settings) (pack.Pack, error) {
	keys, err := s.authorities(ctx)
	if err != nil {
		return pack.Pack{}, err
	}
	day := calendar.Of(s.store.Now(), calendar.Beijing)
	return Make(1, set, append(keys, Published()...), fmt.Sprintf("%04d%02d%02d", day.Year, int(day.Month), day.Day))
}

// Sign signs what a change would make; nil for one that makes no pack.
func (s *Shelf) Sign(ctx context.Context, c Change) ([]byte, error) {
	if c.Content == nil {
		return nil, nil
	}
	p, err := c.Pack()
	if err != nil {
		return nil, err
	}
	return s.sign(ctx, p)
}

func (s *Shelf) sign(ctx context.Context, p pack.Pack) ([]byte, error) {
	return p.Sign(func(b []byte) ([]byte, error) { return s.keys.Sign(ctx, pack.Label, b) })
}

// Give is a pack by its number, nil: there is none.
func (s *Shelf) Give(ctx context.Context, number uint32) (*Given, error) {
	s.mu.RLock()
	g := s.packs[number]
	s.mu.RUnlock()
	if g != nil || number == 0 {
		return g, nil
	}
	var p Pack
	err := s.store.Read(ctx, func(q *db.Query) (err error) {
		p, err = Find(q, number)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	g = &Given{}
	if err == nil {
		g.Content, err = p.Content()
	}
	if err != nil {
		return nil, err
	}
	g.Signature = p.Signed[len(p.Signed)-ed25519.SignatureSize:]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packs == nil {
		s.packs = map[uint32]*Given{}
	}
	s.packs[number] = g
	return g, nil
}

// keyLife is how long a CA key of the house proves cards (house rule): to the
// end of the 15th year after the one in which it was made.
const keyLife = 15

// authorities are the house's CA keys of both chains, all versions, newest first:
// cards under an older one are about until they expire.
func (s *Shelf) authorities(ctx context.Context) (out []emv.CAKey, err error) {
	list, err := s.keys.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("CA keys of the house: %w", err)
	}
	for i := len(list) - 1; i >= 0; i-- { // List has versions rising
		info, algorithm := list[i], emv.RSA
		switch info.Label {
		case hsm.LabelCA:
		case hsm.LabelCA + hsm.LabelSM2:
			algorithm = emv.SM2
		default:
			continue
		}
		k, err := s.keys.CAKey(ctx, algorithm, info.Version)
		if err != nil {
			return nil, fmt.Errorf("CA keys of the house: %w", err)
		}
		if k.Last == "" {
			k.Last = lastDay(info.At)
		}
		out = append(out, k)
	}
	return out, nil
}

func lastDay(made time.Time) string {
	return fmt.Sprintf("%04d1231", made.In(calendar.Beijing).Year()+keyLife)
}
