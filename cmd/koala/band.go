package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
)

// Where band images lie in a data folder: as the house's street keeps them, so
// that a band of the demo can be shown and served once the demo has stopped.
const (
	bandFolder = "bands"
	bandSuffix = ".band"
	lockSuffix = ".lock"
	talkSuffix = ".dialogue"
)

var bandName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$`)

func bandCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "band",
		Short: "A band: make it, look at it, hold it to anybody's card reader",
		Long: `A band is one file: the secure element's memory and what its agent still has to tell. It can
be served as a card in the virtual PC/SC reader of the vsmartcard project, where other
people's card programs work with it, and to phones over the radio protocol.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(bandNewCommand(), bandListCommand(), bandShowCommand(), bandServeCommand(), bandLogCommand(), bandPairCommand(), bandPhoneCommand(),
		bandRegisterCommand(), bandWearCommand())
	return c
}

// bandFlags say which band a command works on.
type bandFlags struct {
	data, name, file string
	json             bool
}

func (f *bandFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.data, "data", "koala-data", "data folder; bands lie in its folder bands")
	c.Flags().StringVar(&f.name, "name", "", "name of the band; may be left out when there is only one")
	c.Flags().StringVar(&f.file, "band", "", "a band's file instead of --data and --name")
	f.addJSON(c)
}

func (f *bandFlags) addJSON(c *cobra.Command) {
	c.Flags().BoolVar(&f.json, "json", false, "JSON, one object per line, instead of text")
}

// path finds the band's file.
func (f *bandFlags) path() (string, error) {
	switch {
	case f.file != "" && f.name != "":
		return "", errUsage{errors.New("--band and --name are two ways to say the same: give one")}
	case f.file != "":
		return f.file, nil
	case f.name != "":
		return f.named(f.name)
	}
	names, err := f.names()
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", fmt.Errorf("there is no band in %s; make one with koala band new", filepath.Join(f.data, bandFolder))
	case len(names) > 1:
		return "", errUsage{fmt.Errorf("which band? --name %s", strings.Join(names, ", --name "))}
	}
	return f.named(names[0])
}

func (f *bandFlags) named(name string) (string, error) {
	if !bandName.MatchString(name) {
		return "", errUsage{fmt.Errorf("--name %q: letters, digits, dot, hyphen and underscore, 1 to 48", name)}
	}
	return filepath.Join(f.data, bandFolder, name+bandSuffix), nil
}

// names lists the bands of the data folder, sorted.
func (f *bandFlags) names() (names []string, err error) {
	list, err := os.ReadDir(filepath.Join(f.data, bandFolder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if name, ok := strings.CutSuffix(e.Name(), bandSuffix); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// loadBand reads a band's file.
func loadBand(path string) (*band.Band, error) {
	image, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no band %s; make one with koala band new", path)
	}
	if err != nil {
		return nil, err
	}
	b, err := band.Load(image, catalog.New(isd.Config{}), clock.Entropy())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// errSave ends a program that cannot keep a band.
var errSave = errors.New("the band cannot be kept")

// saveBand writes a band's file.
func saveBand(path string, b *band.Band) error {
	if err := replaceFile(path, b.Image()); err != nil {
		return fmt.Errorf("%w: %w", errSave, err)
	}
	return nil
}

// replaceFile writes a file that its owner alone reads so that whatever fails,
// it is either the old or the new one, on the disk: written beside, synced,
// renamed, folder synced.
func replaceFile(path string, image []byte) error {
	beside := path + ".new"
	f, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(image)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(beside, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// lockBand keeps other commands from writing the band until unlock.
func lockBand(path string) (unlock func(), err error) { return lockFile(path, "being served") }

// lockFile keeps a file to this process until unlock. The lock dies with the
// process.
func lockFile(path, how string) (unlock func(), err error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is %s by another process; stop it first", path, how)
	}
	return func() { f.Close() }, nil
}
