package city

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/city/street"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
)

// rerun runs a city and fails the test when its proof does.
func rerun(t *testing.T, cfg Config) Result {
	t.Helper()
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Proof != "ok" || len(r.Hash) != 64 || r.Steps == 0 {
		t.Fatalf("%+v", r)
	}
	return r
}

// TestSameSeedSameHash: the same seed comes to the same end, here with much
// going wrong; another seed does not.
func TestSameSeedSameHash(t *testing.T) {
	cfg := Config{People: 40, Seed: 7, Faults: Many}
	first := rerun(t, cfg)
	if again := rerun(t, cfg); again.Hash != first.Hash || again.Steps != first.Steps {
		t.Errorf("step %d, hash %s; again step %d, hash %s", first.Steps, first.Hash, again.Steps, again.Hash)
	}
	cfg.Seed = 8
	if other := rerun(t, cfg); other.Hash == first.Hash {
		t.Error("two seeds came to the same hash")
	}
	for _, fault := range []string{"request lost", "answer lost", "request doubled", "request late", "write torn", "contact lost",
		"power cut", "commit failed", "commit answer lost", "restart", "crash"} {
		if first.Injected[fault] == 0 {
			t.Errorf("%q never happened", fault)
		}
	}
	for _, act := range []string{"cards", "topups", "entries", "exits", "bus taps", "repairs", "collected", "taps again",
		"more cards", "handed in", "visits paid", "visits online", "visits served", "visits passed", "visits redeemed"} {
		if first.Counts[act] == 0 {
			t.Errorf("no %s", act)
		}
	}
}

// TestSameHashOnPostgreSQL: where the books are kept changes nothing.
func TestSameHashOnPostgreSQL(t *testing.T) {
	url := dbtest.Postgres(t)
	cfg := Config{People: 25, Seed: 3, Faults: Many}
	lite := rerun(t, cfg)
	cfg.DB = url
	if pg := rerun(t, cfg); pg.Hash != lite.Hash || pg.Steps != lite.Steps {
		t.Errorf("SQLite %d steps %s, PostgreSQL %d steps %s", lite.Steps, lite.Hash, pg.Steps, pg.Hash)
	}
}

func TestQuietDays(t *testing.T) {
	r := rerun(t, Config{People: 15, Days: 2, Seed: 11})
	if n := len(r.Injected); n != 0 {
		t.Errorf("%d kinds of faults in a city without: %v", n, r.Injected)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(b), `{"seed":11,"days":2,"people":15,"steps":`) || !strings.Contains(string(b), `"faults":"none","proof":"ok","hash":"`) {
		t.Errorf("JSON %s", b)
	}
}

// TestCheckersFindWhatIsSpoiled: each row spoils one thing at noon; the run
// must end with a finding that says so.
func TestCheckersFindWhatIsSpoiled(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*sim) error
		want  string
	}{
		{"the float loses money", func(s *sim) error {
			return s.write(func(tx *db.Tx) error {
				_, err := ledger.Post(tx, ledger.Move("thief:1", issuing.Float(issuing.IDOf(s.people[0].card)), "clearing.transit", money.Fen(100)))
				return err
			})
		}, "fen booked"},
		{"the float gains money", func(s *sim) error {
			return s.write(func(tx *db.Tx) error {
				_, err := ledger.Post(tx, ledger.Move("thief:2", "clearing.transit", issuing.Float(issuing.IDOf(s.people[0].card)), money.Fen(100_00)))
				return err
			})
		}, "fen booked"},
		{"a reader forgets its debits", func(s *sim) error {
			for _, r := range s.street.Readers() {
				if h, err := r.Held(); err != nil {
					return err
				} else if len(h.Debits) > 0 {
					return r.Swap()
				}
			}
			return errors.New("no reader holds anything")
		}, "neither booked nor kept"},
		{"a till forgets its sales", func(s *sim) error {
			for _, a := range s.street.Acceptors() {
				if n, _, err := a.Keeps(); err != nil {
					return err
				} else if n > 0 && a.Kind == street.Till {
					return a.Swap()
				}
			}
			return errors.New("no till holds anything")
		}, "its float"},
		{"the float of an e-cash card loses money", func(s *sim) error {
			return s.write(func(tx *db.Tx) error {
				_, err := ledger.Post(tx, ledger.Move("thief:3", issuing.Float(s.people[3].more.cash), "clearing.transit", money.Fen(100)))
				return err
			})
		}, "the books know"},
		{"a coupon is used and nobody hands it in", func(s *sim) error {
			s.people[5].more.redeemed++
			return nil
		}, "a coupon was used"},
		{"the element gains money", func(s *sim) error {
			s.cards[s.people[0].band].now.fen += 100
			return nil
		}, "the element"},
		{"a load nobody made", func(s *sim) error {
			h := s.cards[s.people[0].band]
			h.loads[99] = 500
			return nil
		}, "loaded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Run(context.Background(), Config{People: 12, Seed: 5, sabotage: func(s *sim) error {
				if err := tt.spoil(s); err != nil {
					return fmt.Errorf("spoiling: %w", err)
				}
				return nil
			}})
			if !errors.Is(err, ErrProof) && err == nil {
				t.Fatalf("nothing found: %+v", r)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "seed 5, step ") {
				t.Errorf("found %v, want %q", err, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{Faults: "lots"}, {Days: -1}, {People: MaxPeople + 1}, {Days: MaxDays + 1}} {
		if _, err := Run(context.Background(), cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
