package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/internal/clock"
)

// phonePatience bounds how long a phone waits for the connection.
const phonePatience = 10 * time.Second

// phoneFlags are what every command of a phone takes.
type phoneFlags struct {
	connect, bond string
	json          bool
}

func (f *phoneFlags) add(c *cobra.Command) {
	c.PersistentFlags().StringVar(&f.connect, "connect", "127.0.0.1:7415", "address and port of the band's radio (koala band serve --radio)")
	c.PersistentFlags().StringVar(&f.bond, "bond", "phone.bond", "file of the bond, readable by its owner alone")
	c.PersistentFlags().BoolVar(&f.json, "json", false, "one JSON object instead of text")
}

func (f *phoneFlags) dial(ctx context.Context) (net.Conn, error) {
	if _, _, err := net.SplitHostPort(f.connect); err != nil {
		return nil, errUsage{fmt.Errorf("--connect %q: %w", f.connect, err)}
	}
	d := net.Dialer{Timeout: phonePatience}
	conn, err := d.DialContext(ctx, "tcp", f.connect)
	if err != nil {
		return nil, fmt.Errorf("is the band there? %w", err)
	}
	return conn, nil
}

// A bondFile is what a phone keeps of a band. Whoever has it is that phone.
type bondFile struct {
	Peer string `json:"peer"` // the phone's name, 8 bytes
	LTK  string `json:"ltk"`  // long-term key, 16 bytes
}

// saveBond writes a new file that only its owner reads.
func saveBond(path string, b band.Bond) error {
	raw, err := json.Marshal(bondFile{upper(b.Peer[:]), upper(b.LTK[:])})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	return errors.Join(err, f.Close())
}

func loadBond(path string) (b band.Bond, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return b, fmt.Errorf("there is no bond %s; pair with koala band pair", path)
	}
	if err != nil {
		return b, err
	}
	var kept bondFile
	if err := json.Unmarshal(raw, &kept); err != nil {
		return b, fmt.Errorf("%s is no bond", path) // without its words: a key may be among them
	}
	peer, err1 := hex.DecodeString(kept.Peer)
	ltk, err2 := hex.DecodeString(kept.LTK)
	if err1 != nil || err2 != nil || len(peer) != len(b.Peer) || len(ltk) != len(b.LTK) {
		return b, fmt.Errorf("%s is no bond", path)
	}
	return band.Bond{Peer: [8]byte(peer), LTK: [16]byte(ltk)}, nil
}

func bandPairCommand() *cobra.Command {
	var f phoneFlags
	var yes bool
	c := &cobra.Command{
		Use:   "pair",
		Short: "Be a phone and pair with a served band",
		Long: `Speaks docs/band-protocol.md with a band that koala band serve --radio serves: P-256, a
commitment, six digits on both ends. Say yes on both only when they are equal. What
is agreed goes into a new file that only its owner can read; whoever has it is this phone.`,
		Example: "  koala band pair --connect 127.0.0.1:7415 --bond phone.bond\n  koala band pair --bond phone.bond --yes --json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.pair(cmd, yes) },
	}
	f.add(c)
	c.Flags().BoolVar(&yes, "yes", false, "take the digits for equal without asking, for scripts")
	return c
}

func (f *phoneFlags) pair(cmd *cobra.Command, yes bool) error {
	if _, err := os.Stat(f.bond); err == nil {
		return fmt.Errorf("%s exists already: a bond is not written over", f.bond)
	}
	conn, err := f.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(cmd.Context(), func() { conn.Close() })()
	shown := ""
	b, err := band.Pair(conn, clock.Entropy(), func(digits string) bool {
		shown = digits
		if yes {
			return true
		}
		return asksYes(bufio.NewReader(cmd.InOrStdin()), cmd.ErrOrStderr(), "Does the band show "+digits+"? [y/N] ")
	})
	if err != nil {
		return err
	}
	if err := saveBond(f.bond, b); err != nil {
		return err
	}
	return f.tell(cmd.OutOrStdout(), map[string]any{"paired": true, "digits": shown, "phone": upper(b.Peer[:]), "bond": f.bond},
		fmt.Sprintf("paired as phone %s; the bond is in %s", upper(b.Peer[:]), f.bond))
}

// tell prints an answer as the flags want it.
func (f *phoneFlags) tell(out io.Writer, object any, text string) error {
	if f.json {
		return json.NewEncoder(out).Encode(object)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

func bandPhoneCommand() *cobra.Command {
	var f phoneFlags
	c := &cobra.Command{
		Use:   "phone",
		Short: "Be the phone of a served band: state, passcode, orders, releases",
		Long: `Opens a session under the bond of koala band pair and makes one request of
docs/band-protocol.md. The band is served by koala band serve --radio.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(c)
	c.AddCommand(f.statusCommand(), f.unlockCommand(), f.passcodeCommand(), f.policyCommand(), f.activityCommand(), f.updateCommand(),
		f.apduCommand(), f.runCommand(),
		f.simpleCommand("keep", "End the trial of a release: it stays", (*band.Phone).Keep),
		f.simpleCommand("rollback", "Go back to the release before the active one", (*band.Phone).Rollback),
		f.simpleCommand("forget", "End the bond on the band's side", (*band.Phone).Forget))
	return c
}

// with opens a session, lets do work in it and ends it.
func (f *phoneFlags) with(cmd *cobra.Command, do func(*band.Phone) error) error {
	bond, err := loadBond(f.bond)
	if err != nil {
		return err
	}
	conn, err := f.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(cmd.Context(), func() { conn.Close() })()
	p, err := band.OpenPhone(conn, bond, clock.Entropy())
	if err != nil {
		return err
	}
	return do(p)
}

// secretFrom gives an argument, or the first line of the input for "-": what
// stands on a command line can be seen by others on the machine.
func secretFrom(cmd *cobra.Command, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 256)).ReadString('\n')
	if err != nil && line == "" {
		return "", errUsage{errors.New("a passcode was to come from the input, and nothing came")}
	}
	return strings.TrimRight(line, "\r\n"), nil
}
