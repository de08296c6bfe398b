// Package city is a town around a house of koala: people with bands who ride,
// pay, eat, open doors and use coupons, and everything that goes wrong between
// them and the devices of the town (package city/street). It has two uses.
//
// Run is the headless city: one goroutine, a queue of (time, sequence, actor),
// a virtual clock and chance from one seed, against the same house that
// production runs. Faults are injected at the seams only: a band torn from the
// field at an EEPROM write, a device's power cut at a flash write, a request or
// an answer lost, doubled or late, a commit that fails before or after it is
// durable, a restart, a crash. Checkers compare the books with what the
// elements truly did. The same seed gives the same hash, on SQLite and on
// PostgreSQL.
//
// Live is the same town on a scaled clock beside real web traffic, for the
// demo. Street is the physical world that both share.
package city

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/street"
	"koala/internal/clock"
)

// Faults is how much goes wrong.
type Faults string

// The levels.
const (
	None Faults = "none"
	Some Faults = "some"
	Many Faults = "many"
)

// Limits of a run.
const (
	MaxDays   = 400
	MaxPeople = 100_000
)

// Config says what city to run. The zero value is a day of 100 people without
// faults in a folder that is removed afterwards.
type Config struct {
	Days   int
	People int
	Seed   uint64
	Faults Faults
	DB     string    // postgres://… of an empty database or schema; empty is SQLite in Data
	Data   string    // folder; empty is a temporary one
	Start  time.Time // the first morning; zero is 16 September 2015
	Log    *slog.Logger
	// Progress is told of every simulated hour; nil tells nobody.
	Progress func(at time.Time, done, all time.Duration)

	sabotage func(*sim) error // tests: spoil something at noon
}

// ErrConfig is a city that cannot be run.
var ErrConfig = errors.New("city: bad configuration")

// ErrProof says that a checker found something wrong. Its text names the
// seed, the step and what differs; the same seed runs into it again.
var ErrProof = errors.New("city: the proof failed")

func (c Config) filled() (Config, error) {
	if c.Days == 0 {
		c.Days = 1
	}
	if c.People == 0 {
		c.People = 100
	}
	if c.Faults == "" {
		c.Faults = None
	}
	if c.Start.IsZero() {
		c.Start = time.Date(2015, 9, 16, 4, 30, 0, 0, calendar.Beijing) // the day of the first tap, before the first train
	}
	if c.Days < 0 || c.Days > MaxDays || c.People < 0 || c.People > MaxPeople {
		return c, fmt.Errorf("%d days of %d people: %w", c.Days, c.People, ErrConfig)
	}
	if _, ok := rates[c.Faults]; !ok {
		return c, fmt.Errorf("faults %q, not none, some or many: %w", c.Faults, ErrConfig)
	}
	return c, nil
}

// A Result is what a run came to. Its JSON is a contract: fields are added,
// never renamed.
type Result struct {
	Seed     uint64           `json:"seed"`
	Days     int              `json:"days"`
	People   int              `json:"people"`
	Steps    int              `json:"steps"`
	Faults   Faults           `json:"faults"`
	Proof    string           `json:"proof"` // ok, or what differs
	Hash     string           `json:"hash"`  // of books, cards, journeys and devices at the end
	Seconds  float64          `json:"seconds"`
	Store    string           `json:"store"` // sqlite or postgres
	Counts   map[string]int64 `json:"counts"`
	Injected map[string]int64 `json:"injected"` // faults by name
}

// Run runs a city to its end. An error that wraps ErrProof comes with a result
// that says what was wrong.
func Run(ctx context.Context, cfg Config) (Result, error) {
	began := time.Now()
	cfg, err := cfg.filled()
	if err != nil {
		return Result{}, err
	}
	if cfg.Data == "" {
		if cfg.Data, err = os.MkdirTemp("", "koala-city-"); err != nil {
			return Result{}, fmt.Errorf("a folder for the city: %w", err)
		}
		defer os.RemoveAll(cfg.Data)
	}
	s, err := newSim(ctx, cfg)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	err = s.run()
	out := s.result()
	if err == nil {
		out.Hash, err = s.hash()
	}
	out.Seconds = time.Since(began).Seconds()
	if err != nil {
		out.Proof = err.Error()
		return out, fmt.Errorf("seed %d, step %d (%s at %s): %w", cfg.Seed, s.steps, s.doing, s.clock.Now().In(calendar.Beijing).Format(time.DateTime), err)
	}
	return out, nil
}

// primes is a fixed pool of RSA keys: to make them takes longer than a day of
// the city, and never takes the same chance twice.
//
//go:embed primes.txt
var primes []byte

// houseConfig is the house of a run. Every restart uses the same source of
// chance, which goes on where it stood.
func (s *sim) houseConfig(data string) app.Config {
	return app.Config{Data: data, DB: s.cfg.DB, KeyFile: filepath.Join(data, "koala.key"), Clock: s.clock, Rand: s.chance, Primes: primes,
		Inline: true, Faults: &s.breaker, Log: s.cfg.Log, Peers: s.market.Peers()}
}

func newSim(ctx context.Context, cfg Config) (*sim, error) {
	s := &sim{
		ctx: ctx, cfg: cfg, rate: rates[cfg.Faults], clock: clock.NewVirtual(cfg.Start), chance: clock.Random(cfg.Seed),
		dice: dice(cfg.Seed), counts: map[string]int64{}, injected: map[string]int64{}, cards: map[string]*history{},
	}
	var err error
	if s.data, err = s.freshFolder(); err != nil {
		return nil, err
	}
	if err := s.openMarket(); err != nil {
		return nil, err
	}
	if s.house, err = app.New(ctx, s.houseConfig(s.data)); err != nil {
		return nil, fmt.Errorf("opening the house of the city: %w", err)
	}
	s.street, err = street.New(s.house, street.Config{Rand: street.Chance(cfg.Seed, clock.Random)})
	if err != nil {
		s.house.Close()
		return nil, err
	}
	s.market.Move(s.house, s.street)
	if err := errors.Join(openShops(ctx, s.street), s.market.Open(ctx)); err != nil {
		s.house.Close()
		return nil, err
	}
	s.street.Wire.Faults = s.wireFault
	s.people, err = s.populate()
	if err != nil {
		s.house.Close()
		return nil, err
	}
	return s, nil
}

// openShops registers the city's shops and installs the canteen, with whose key
// canteen cards are looked at.
func openShops(ctx context.Context, s *street.Street) error {
	if err := s.OpenShops(ctx); err != nil {
		return err
	}
	_, err := s.Acceptor(ctx, "kesi.canteen")
	return err
}
