package street

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"koala/band"
	"koala/terminal"
)

// Images of devices: bands/ID.band is a band's own image; gates/ID.flash holds
// PSAM and flashes of a reader, shops/ID.flash what the house told a shop's
// device and its flashes: parts behind their length 4, SHA-256 32.
const (
	bandDir, gateDir, shopDir = "bands", "gates", "shops"
	bandExt, gateExt          = ".band", ".flash"
)

func (s *Street) keepBand(w *worn) error {
	if s.dir == "" {
		return nil
	}
	return WriteFile(filepath.Join(s.dir, bandDir, w.band.ID+bandExt), w.band.Image())
}

func (s *Street) keepReader(r *Reader) error {
	if s.dir == "" {
		return nil
	}
	image := joinImage([][]byte{r.sam.Image(), r.flash.Debits.Image(), r.flash.Denied.Image(), r.flash.Tariff.Image()})
	return WriteFile(filepath.Join(s.dir, gateDir, r.ID+gateExt), image)
}

func joinImage(parts [][]byte) (out []byte) {
	for _, part := range parts {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(part))), part...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// WriteFile replaces a file by writing beside it and renaming.
func WriteFile(file string, image []byte) error {
	tmp := file + ".tmp"
	if err := os.WriteFile(tmp, image, 0o600); err != nil {
		return fmt.Errorf("keeping a device: %w", err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("keeping a device: %w", err)
	}
	return nil
}

// loadBand reads a band's image; nil when there is none.
func (s *Street) loadBand(id string) (*worn, error) {
	if s.dir == "" {
		return nil, nil
	}
	image, err := os.ReadFile(filepath.Join(s.dir, bandDir, id+bandExt))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("band %s: %w", id, err)
	}
	b, err := band.Load(image, s.catalog, s.rand(id))
	if err != nil {
		return nil, fmt.Errorf("band %s: %w", id, err)
	}
	return &worn{band: b}, nil
}

var errReaderImage = errors.New("street: not an intact image of a reader")

// loadReader reads a reader's image into r; false when there is none.
func (s *Street) loadReader(r *Reader) (bool, error) {
	if s.dir == "" {
		return false, nil
	}
	image, err := os.ReadFile(filepath.Join(s.dir, gateDir, r.ID+gateExt))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	parts, err := splitImage(image, 4)
	if err != nil {
		return false, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	if r.sam, err = band.Load(parts[0], s.catalog, s.rand(r.ID)); err != nil {
		return false, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	for i, to := range []**terminal.Flash{&r.flash.Debits, &r.flash.Denied, &r.flash.Tariff} {
		if *to, err = terminal.RestoreFlash(parts[i+1]); err != nil {
			return false, fmt.Errorf("reader %s: %w", r.ID, err)
		}
	}
	return true, r.boot()
}

// splitImage reads an image of n parts.
func splitImage(image []byte, n int) (parts [][]byte, err error) {
	end := len(image) - sha256.Size
	if end < 0 {
		return nil, errReaderImage
	}
	if sum := sha256.Sum256(image[:end]); !bytes.Equal(sum[:], image[end:]) {
		return nil, errReaderImage
	}
	rest := image[:end]
	for range n {
		if len(rest) < 4 || int(binary.BigEndian.Uint32(rest)) > len(rest)-4 {
			return nil, errReaderImage
		}
		size := int(binary.BigEndian.Uint32(rest))
		parts, rest = append(parts, rest[4:4+size]), rest[4+size:]
	}
	if len(rest) > 0 {
		return nil, errReaderImage
	}
	return parts, nil
}

func (s *Street) keepAcceptor(a *Acceptor) error {
	if s.dir == "" {
		return nil
	}
	told, err := json.Marshal(a.setup)
	if err != nil {
		return fmt.Errorf("%s: %w", a.ID, err)
	}
	parts := [][]byte{told}
	for _, f := range a.flash {
		parts = append(parts, f.Image())
	}
	return WriteFile(filepath.Join(s.dir, shopDir, a.ID+gateExt), joinImage(parts))
}

// loadAcceptor reads a device's image into a; false when there is none.
func (s *Street) loadAcceptor(a *Acceptor) (bool, error) {
	if s.dir == "" {
		return false, nil
	}
	image, err := os.ReadFile(filepath.Join(s.dir, shopDir, a.ID+gateExt))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	bad := func(err error) (bool, error) { return false, fmt.Errorf("%s: %w", a.ID, err) }
	if err != nil {
		return bad(err)
	}
	parts, err := splitImage(image, 1+len(sectors[a.Kind]))
	if err != nil {
		return bad(err)
	}
	if err := json.Unmarshal(parts[0], &a.setup); err != nil {
		return bad(err)
	}
	a.flash = nil
	for _, part := range parts[1:] {
		f, err := terminal.RestoreFlash(part)
		if err != nil {
			return bad(err)
		}
		a.flash = append(a.flash, f)
	}
	return true, a.boot()
}

// makeDirs prepares the folder of images.
func makeDirs(dir string) error {
	for _, d := range []string{bandDir, gateDir, shopDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return fmt.Errorf("folder of devices: %w", err)
		}
	}
	return nil
}
