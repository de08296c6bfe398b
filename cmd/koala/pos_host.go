package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/hostlink"
	"koala/internal/clock"
	"koala/spec/poskey"
	"koala/terminal"
	"koala/terminal/pos"
	"koala/terminal/unionpay"
)

// hostFlags are those of a terminal that speaks to an acquirer.
type hostFlags struct {
	posFlags
	host, tid, mid, name string
	tmk, file            string
	wait                 time.Duration
	single, hide         bool
}

// bind declares the flags that every command of such a terminal has.
func (f *hostFlags) bind(c *cobra.Command) {
	c.Flags().StringVar(&f.host, "connect", "", "address and port of the acquirer's host")
	c.Flags().StringVar(&f.tid, "tid", "", "terminal number, 8 characters")
	c.Flags().StringVar(&f.mid, "mid", "", "merchant number, 15 characters")
	c.Flags().StringVar(&f.name, "name", "KOALA", "the shop's name, at most 20 bytes")
	c.Flags().StringVar(&f.file, "terminal", "", "file in which the terminal keeps its flash: keys, journal, counters")
	c.Flags().StringVar(&f.tmk, "tmk-file", "", "file with the clear master key, 32 hexadecimal digits and optionally its check value, and lines \"signed\" with a public key of parameter packs each: once, at installation")
	c.Flags().BoolVar(&f.single, "single-keys", false, "sign on for keys of single length (weak): staff have to let this terminal have them")
	c.Flags().BoolVar(&f.hide, "seal-tracks", false, "send tracks with eight bytes under the track key")
	c.Flags().DurationVar(&f.wait, "timeout", 60*time.Second, "how long to wait for an answer")
	c.Flags().StringVar(&f.lang, "lang", "en", "language of receipts: en or zh")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object instead of text")
}

// missing names every flag at once that the command cannot do without and was
// not given. more are those of the command itself.
func (f *hostFlags) missing(online bool, more ...flagGiven) error {
	all := append(more, flagGiven{"--tid", f.tid != ""}, flagGiven{"--mid", f.mid != ""}, flagGiven{"--terminal", f.file != ""})
	if online {
		all = append(all, flagGiven{"--connect", f.host != ""})
	}
	return missingFlags(all...)
}

// A flagGiven is a flag that is needed, and whether it is there.
type flagGiven struct {
	name  string
	given bool
}

// missingFlags is nil when none is missing.
func missingFlags(all ...flagGiven) error {
	var names []string
	for _, x := range all {
		if !x.given {
			names = append(names, x.name)
		}
	}
	switch len(names) {
	case 0:
		return nil
	case 1:
		return errUsage{fmt.Errorf("%s is missing", names[0])}
	}
	last := len(names) - 1
	return errUsage{fmt.Errorf("%s and %s are missing", strings.Join(names[:last], ", "), names[last])}
}

func (f *hostFlags) checkHost(online bool) error {
	if err := f.missing(online); err != nil {
		return err
	}
	switch {
	case len(f.tid) != 8:
		return errUsage{fmt.Errorf("--tid %q: a terminal number has 8 characters", f.tid)}
	case len(f.mid) != 15:
		return errUsage{fmt.Errorf("--mid %q: a merchant number has 15 characters", f.mid)}
	case len(f.name) > 20:
		return errUsage{fmt.Errorf("--name %q has %d bytes, at most 20 (a Chinese character has 3)", f.name, len(f.name))}
	case f.lang != "en" && f.lang != "zh":
		return errUsage{fmt.Errorf("--lang %q is not en or zh", f.lang)}
	case f.wait <= 0:
		return errUsage{fmt.Errorf("--timeout %v: longer than 0, such as 30s", f.wait)}
	}
	if _, _, err := net.SplitHostPort(f.host); err != nil && (online || f.host != "") {
		return errUsage{fmt.Errorf("--connect %q: %w", f.host, err)}
	}
	return nil
}

// A terminalFile is a terminal's flash in a file.
type terminalFile struct {
	path   string
	unlock func()
	flash  map[string]*terminal.Flash
	signed []ed25519.PublicKey // of parameter packs; none: it asks for none
}

// signedName is where the file has the public keys of parameter packs, one behind
// the other. A file of before them lacks it.
const signedName = "signed"

// terminalSectors are the flashes of 4 KB sectors each.
var terminalSectors = map[string]int{"journal": 64, "state": 2, "packs": 32, "keys": 2, "sales": salesSectors, "denied": 4, "till": 2}

// openTerminalFile reads the file; one that is not there yet is an erased device.
func openTerminalFile(path string) (*terminalFile, error) {
	t := &terminalFile{path: path, flash: map[string]*terminal.Flash{}}
	for name, n := range terminalSectors {
		t.flash[name] = terminal.NewFlash(n)
	}
	var err error
	if t.unlock, err = lockFile(path, "used"); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	var images map[string][]byte
	if err == nil {
		err = json.Unmarshal(raw, &images)
	}
	for name := range terminalSectors {
		if err == nil {
			t.flash[name], err = terminal.RestoreFlash(images[name])
		}
	}
	if len(images[signedName])%ed25519.PublicKeySize != 0 {
		err = errors.Join(err, errors.New("its public keys of parameter packs are cut off"))
	}
	if err != nil {
		t.unlock()
		return nil, fmt.Errorf("%s is no terminal's: %w", path, err)
	}
	for k := range slices.Chunk(images[signedName], ed25519.PublicKeySize) {
		t.signed = append(t.signed, k)
	}
	return t, nil
}

// keep writes the file.
func (t *terminalFile) keep() error {
	images := map[string][]byte{}
	for name, f := range t.flash {
		images[name] = f.Image()
	}
	if len(t.signed) > 0 {
		images[signedName] = slices.Concat(t.signed...)
	}
	raw, err := json.Marshal(images)
	if err != nil {
		return err
	}
	return replaceFile(t.path, raw)
}

// A keptLine keeps the terminal's file before anything is sent: a request that
// this process does not live to see answered is reversed by the next one.
type keptLine struct {
	line hostlink.Line
	file *terminalFile
}

// Exchange is hostlink's, with the terminal's own words for what went wrong.
func (k *keptLine) Exchange(request []byte) ([]byte, error) {
	if err := k.file.keep(); err != nil {
		return nil, fmt.Errorf("%w: %w", unionpay.ErrNotSent, err)
	}
	answer, err := k.line.Exchange(request)
	if errors.Is(err, hostlink.ErrNotSent) {
		err = fmt.Errorf("%w: %w", unionpay.ErrNotSent, err)
	}
	return answer, err
}

// start makes the terminal out of its file. The master key goes in when it is
// given.
func (f *hostFlags) start(ctx context.Context) (*unionpay.Terminal, *terminalFile, error) {
	keys, err := f.keys()
	if err != nil {
		return nil, nil, err
	}
	file, err := openTerminalFile(f.file)
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*unionpay.Terminal, *terminalFile, error) {
		file.unlock()
		return nil, nil, err
	}
	store := unionpay.OpenKeystore(file.flash["keys"])
	if f.tmk != "" {
		if err := file.inject(store, f.tmk); err != nil {
			return fail(err)
		}
	}
	dial := func() (net.Conn, error) { return (&net.Dialer{Timeout: f.wait}).DialContext(ctx, "tcp", f.host) }
	shop := pos.Shop{TID: f.tid, MID: f.mid, Name: f.name, Category: posShop.Category, Serial: posShop.Serial}
	t, err := unionpay.New(unionpay.Config{
		Till: pos.Config{Kernel: pos.Beijing(shop, keys), Clock: clock.System(), Random: clock.Entropy(),
			Sales: file.flash["sales"], Denied: file.flash["denied"], State: file.flash["till"], Record: true,
			PIN: func(int) (string, bool) { return f.pin, f.pin != "" }},
		Line: &keptLine{hostlink.Line{Dial: dial, Answer: f.wait}, file}, Keys: store,
		Journal: file.flash["journal"], State: file.flash["state"], Packs: file.flash["packs"], Signed: file.signed,
		PIN: func(uint64) (string, bool) { return f.pin, f.pin != "" }, Single: f.single, SealTracks: f.hide,
	})
	if err != nil {
		return fail(err)
	}
	return t, file, nil
}

// signedWord begins a line of an installation's file that has a public key of
// parameter packs.
const signedWord = "signed"

// inject reads what the terminal was installed with: a master key of 32
// hexadecimal digits, optionally 6 or 8 of its check value behind them, and lines
// with public keys of parameter packs. They take the place of those of before.
func (t *terminalFile) inject(store *unionpay.Keystore, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var digits string
	var signed []ed25519.PublicKey
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != signedWord {
			digits += strings.Join(words, "")
			continue
		}
		key, err := hex.DecodeString(strings.Join(words[1:], ""))
		if err != nil || len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("%s: behind %q there are 64 hexadecimal digits", path, signedWord)
		}
		signed = append(signed, key)
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 16 && len(b) != 19 && len(b) != 20 {
		return fmt.Errorf("%s: a master key is 32 hexadecimal digits, with 6 or 8 of its check value behind them", path)
	}
	check := b[16:]
	if len(check) == 0 {
		kcv := poskey.KCV([16]byte(b))
		check = kcv[:]
	}
	if err := store.Inject(b[:16], check); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	t.signed = signed
	return nil
}

// with runs one act of the terminal and keeps its file whatever came of it.
func (f *hostFlags) with(cmd *cobra.Command, online bool, act func(t *unionpay.Terminal) error) error {
	if err := f.checkHost(online); err != nil {
		return err
	}
	if f.pin == "-" {
		var err error
		if f.pin, err = secretFrom(cmd, f.pin); err != nil {
			return err
		}
	}
	t, file, err := f.start(cmd.Context())
	if err != nil {
		return err
	}
	defer file.unlock()
	err = act(t)
	if keep := file.keep(); keep != nil {
		return errors.Join(err, keep)
	}
	return err
}
