package app

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/switching"
)

// ErrConfig is a configuration that means nothing.
var ErrConfig = fail.Define(fail.Invalid, "app.config", "the configuration is not usable")

// Config says what house to wire. The zero value is a house in ./koala-data
// on the system's clock.
type Config struct {
	Data    string                    // folder of the data file, the key file and device images; empty is koala-data
	DB      string                    // postgres://… ; empty is the embedded store in Data
	KeyFile string                    // empty is Data/koala.key
	Clock   clock.Clock               // nil is the system's
	Rand    io.Reader                 // nil is the system's entropy
	Inline  bool                      // no goroutine of its own: the city's deterministic runs
	Chunk   int                       // most commands in one script to a band; 0 is all (tsm.Config)
	Primes  []byte                    // a fixed pool of RSA keys, not secret (hsm.Config): deterministic runs; nil makes keys
	Peers   map[string]switching.Peer // the ways to other issuers' hosts, by the names routes give them
	Faults  db.Faults                 // the city's and the tests' seam; nil in real use
	Demo    bool                      // print the demo's logins on the login page
	Log     *slog.Logger
}

func (c Config) filled() (Config, error) {
	if c.Data == "" {
		c.Data = "koala-data"
	}
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(c.Data, "koala.key")
	}
	if c.DB == "" {
		c.DB = filepath.Join(c.Data, "koala.db")
	}
	if c.Clock == nil {
		c.Clock = clock.System()
	}
	if c.Rand == nil {
		c.Rand = clock.Entropy()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Chunk < 0 {
		return c, fmt.Errorf("chunk of %d commands: %w", c.Chunk, ErrConfig)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return c, fmt.Errorf("data folder %s cannot be made: %w: %w", c.Data, ErrConfig, err)
	}
	return c, nil
}
