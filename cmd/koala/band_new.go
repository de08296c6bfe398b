package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
)

func bandNewCommand() *cobra.Command {
	var f bandFlags
	var testCards bool
	var protocol string
	c := &cobra.Command{
		Use:   "new",
		Short: "Make a band, empty or with the published test cards",
		Long: `Makes a band with every application of the house ready to be installed, under the public
factory keys of its issuer domain (404142434445464748494A4B4C4D4E4F, key version FF).

With --test-cards it carries cards whose keys anybody may know, so that other people's
terminals and hosts can be tried on them. docs/test-cards.md lists numbers and keys.`,
		Example: "  koala band new --name blue --test-cards\n  koala band new --name old --scp 02",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.name == "" {
				f.name = "band-1"
			}
			path, err := f.path()
			if err != nil {
				return err
			}
			return f.make(cmd.OutOrStdout(), path, protocol, testCards)
		},
	}
	c.Flags().StringVar(&f.data, "data", "koala-data", "data folder; bands lie in its folder bands")
	c.Flags().StringVar(&f.name, "name", "", "name of the new band (default band-1)")
	c.Flags().BoolVar(&testCards, "test-cards", false, "put the published test cards on it")
	c.Flags().StringVar(&protocol, "scp", "03", "secure channel of the factory keys: 02 (3DES) or 03 (AES)")
	f.addJSON(c)
	return c
}

func (f *bandFlags) make(out io.Writer, path, protocol string, testCards bool) error {
	kind, ok := map[string]gp.KeyType{"02": gp.DES, "03": gp.AES}[protocol]
	if !ok {
		return errUsage{fmt.Errorf("--scp %q: 02 or 03", protocol)}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s exists already; choose another --name", path)
	}
	b, err := freshBand(f.name, kind, clock.Entropy())
	if err != nil {
		return err
	}
	if testCards {
		if err := writeTestCards(b.Element); err != nil {
			return err
		}
	}
	if err := saveBand(path, b); err != nil {
		return err
	}
	seen, err := lookAt(path, b)
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(out).Encode(seen)
	}
	return seen.print(out)
}

// freshBand makes a band as it leaves the factory.
func freshBand(name string, kind gp.KeyType, chance io.Reader) (*band.Band, error) {
	// The first byte of seven names the maker. Libraries take a DESFire card for
	// one only when it says NXP (04).
	uid := [7]byte{0x04}
	if _, err := io.ReadFull(chance, uid[1:]); err != nil {
		return nil, err
	}
	e, err := catalog.New(isd.Config{Type: kind}).NewElement(uid, chance)
	if err != nil {
		return nil, err
	}
	return band.New(name, e)
}

// Numbers that the issuer's domain of the published set tells (GET DATA 42, 45).
const (
	testIIN = "62280001"
	testCIN = "4B4F414C4100000001"
)

func writeTestIssuer(w *cardWriter) error {
	return w.send(gp.StoreTLVs(mustHex("4204" + testIIN + "4509" + testCIN)))
}

// writeTestCards puts the published test cards on an element with factory keys.
func writeTestCards(e *card.Element) error {
	for _, t := range testCards {
		w, err := openWriter(e)
		if err == nil {
			err = errors.Join(t.write(w), w.close())
		}
		if err != nil {
			return fmt.Errorf("test card %s: %w", t.name, err)
		}
	}
	return nil
}
