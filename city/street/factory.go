package street

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"koala/band"
	"koala/firmware"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/spec/purse"
	"koala/transit"
	"koala/tsm"
	"koala/web/device"
)

// A worn is one band of the street with the token its agent shows.
type worn struct {
	mu    sync.Mutex
	band  *band.Band
	token string
}

// uidOf makes the element's identifier of the band's or PSAM's name: the
// factory engraves one serial for both.
func uidOf(id string) (uid [7]byte) {
	sum := sha256.Sum256([]byte("koala element " + id))
	copy(uid[:], sum[:])
	uid[0] = 0x08
	return uid
}

// element makes one as it leaves the factory, with the public factory keys.
func (s *Street) element(id string) (*band.Band, error) {
	e, err := s.catalog.NewElement(uidOf(id), s.rand(id))
	if err != nil {
		return nil, err
	}
	return band.New(id, e)
}

// MakeBand makes a band and lays it on the street. The house does not know it
// yet: see tsm.Register. A band that is there stays.
func (s *Street) MakeBand(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bands[id] != nil {
		return nil
	}
	b, err := s.element(id)
	if err != nil {
		return fmt.Errorf("making band %s: %w", id, err)
	}
	w := &worn{band: b}
	s.bands[id] = w
	return s.keepBand(w)
}

// GiveBand makes a band for a customer who has none, registers it and lets its
// agent take the house's keys. It gives the band's name.
func (s *Street) GiveBand(ctx context.Context, owner, id string) error {
	if err := s.MakeBand(id); err != nil {
		return err
	}
	h := s.House()
	err := s.Insist(func() error {
		return h.Store.Write(ctx, func(tx *db.Tx) error { return h.TSM.Register(tx, id, owner) })
	})
	if err != nil {
		return fmt.Errorf("registering band %s: %w", id, err)
	}
	return s.RunAgent(ctx, id)
}

// MaxTries bounds how often a device or a clerk tries again at once.
const MaxTries = 20

// Insist repeats what failed for the moment: a broken commit, an answer that
// was lost. References make the repetition harmless.
func (s *Street) Insist(f func() error) (err error) {
	for range MaxTries {
		if err = f(); err == nil || !Passing(err) {
			return err
		}
	}
	return err
}

// Passing says that trying again may help.
func Passing(err error) bool {
	if errors.Is(err, ErrWire) || errors.Is(err, band.ErrLink) {
		return true
	}
	f := fail.Of(err)
	return f != nil && f.Kind == fail.Busy
}

// RunAgent lets a band's agent do what waits for it at the house.
func (s *Street) RunAgent(ctx context.Context, bandID string) error {
	return s.RunTorn(ctx, bandID, band.Fault{})
}

// RunTorn is RunAgent with a contact that suffers.
func (s *Street) RunTorn(ctx context.Context, bandID string, f band.Fault) error {
	w, err := s.band(bandID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.token == "" {
		if w.token, err = s.House().DeviceToken(ctx, device.KindBand, bandID); err != nil {
			return err
		}
	}
	w.band.Suffer(f)
	err = s.agent(ctx, w.band, w.token)
	w.band.Suffer(band.Fault{})
	return errors.Join(err, s.keepBand(w))
}

// RunOver is RunAgent over another line than the street's own: slow makes the
// line of it.
func (s *Street) RunOver(ctx context.Context, bandID string, slow func(http.RoundTripper) http.RoundTripper) error {
	w, err := s.band(bandID)
	if err != nil {
		return err
	}
	token, err := s.House().DeviceToken(ctx, device.KindBand, bandID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.band.Run(ctx, &band.HTTPLink{Base: base, Token: token, Client: &http.Client{Transport: slow(s.Wire)}})
	return errors.Join(err, s.keepBand(w))
}

// Tend lets a band look after itself: releases of its firmware, what it counted.
func (s *Street) Tend(ctx context.Context, bandID string) error {
	w, err := s.band(bandID)
	if err != nil {
		return err
	}
	h := s.House()
	maker, err := h.Keys.PublicKey(ctx, firmware.Label)
	if err != nil {
		return err
	}
	token, err := h.DeviceToken(ctx, device.KindBand, bandID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.band.Tend(ctx, &band.HTTPLink{Base: base, Token: token, Client: s.client}, maker)
	return errors.Join(err, s.keepBand(w))
}

// HasBand tells whether a band is on the street.
func (s *Street) HasBand(id string) bool {
	_, err := s.band(id)
	return err == nil
}

// Change does something to a band under its lock and keeps what it became.
func (s *Street) Change(bandID string, f func(b *band.Band) error) error {
	w, err := s.band(bandID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(f(w.band), s.keepBand(w))
}

// Look shows a band under its lock.
func (s *Street) Look(bandID string, f func(b *band.Band) error) error {
	w, err := s.band(bandID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return f(w.band)
}

// install makes a reader: a PSAM is made, registered and written over the air
// like a card, the device gets its number, boots and fetches its packs.
func (s *Street) install(ctx context.Context, r *Reader) error {
	id := "psam-" + strings.ToLower(r.Terminal.String())
	sam, err := s.element(id)
	if err != nil {
		return fmt.Errorf("installing %s: %w", r.ID, err)
	}
	r.sam, r.flash = sam, newFlashes()
	h := s.House()
	var order tsm.Order
	err = s.Insist(func() error {
		return h.Store.Write(ctx, func(tx *db.Tx) (err error) {
			if err := h.TSM.Register(tx, id, "operator"); err != nil {
				return err
			}
			if err := h.Transit.Books().Register(tx, s.deviceOf(r)); err != nil {
				return err
			}
			order, err = h.TSM.Place(tx, tsm.Request{Ref: "sam:" + id, Kind: tsm.SAM, Band: id, Customer: "operator",
				SAM: &tsm.SAMData{Serial: serialOf(r.Terminal), Terminal: r.Terminal}})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("installing %s: %w", r.ID, err)
	}
	if err := s.Insist(func() error { return s.agent(ctx, sam, "") }); err != nil {
		return fmt.Errorf("installing %s: %w", r.ID, err)
	}
	err = h.Store.Read(ctx, func(q *db.Query) (err error) {
		order, err = tsm.OrderOf(q, order.ID)
		return err
	})
	if err == nil && order.State != tsm.Done {
		err = fmt.Errorf("PSAM order %s is %s: %s", order.ID, order.State, order.Why)
	}
	if err != nil {
		return fmt.Errorf("installing %s: %w", r.ID, err)
	}
	if err := r.boot(); err != nil {
		return err
	}
	return s.Insist(func() error { return s.sync(ctx, r) })
}

func (s *Street) deviceOf(r *Reader) transit.Device {
	d := transit.Device{Terminal: r.Terminal, Kind: r.Kind, Route: r.Route, Operator: r.Operator}
	if r.Station != nil {
		d.Station = r.Station.Code()
	}
	return d
}

// serialOf is the PSAM's number: the terminal's, marked as ours.
func serialOf(t purse.Terminal) (n [10]byte) {
	copy(n[:], []byte{0x01, 0x00, 0x00, 0x00})
	copy(n[4:], t[:])
	return n
}

// agent runs a band's or PSAM's agent against the house until there is
// nothing to do. An empty token is fetched first.
func (s *Street) agent(ctx context.Context, b *band.Band, token string) error {
	if token == "" {
		var err error
		if token, err = s.House().DeviceToken(ctx, device.KindBand, b.ID); err != nil {
			return err
		}
	}
	return b.Run(ctx, &band.HTTPLink{Base: base, Token: token, Client: s.client})
}

// Chance gives every element its own stream, so that what one draws does not
// depend on what others do.
func Chance(seed uint64, random func(seed uint64) io.Reader) func(id string) io.Reader {
	return func(id string) io.Reader {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(id), seed))
		return random(binary.BigEndian.Uint64(sum[:]))
	}
}
