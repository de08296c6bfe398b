package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/internal/clock"
	"koala/spec/dialogue"
	"koala/spec/firmware"
	"koala/spec/iso7816"
)

// houseTimeout bounds one call of the phone to the house.
const houseTimeout = 30 * time.Second

// A phoneStatus is `koala band phone status --json`: fields may be added, none renamed.
type phoneStatus struct {
	Band      string   `json:"band"`
	UID       string   `json:"uid"`
	Worn      bool     `json:"worn"`
	Protected bool     `json:"passcode"`
	Locked    bool     `json:"locked"`
	Battery   int      `json:"battery"` // percent
	Free      int      `json:"free_bytes"`
	Policy    []string `json:"while_locked"`
	Release   uint32   `json:"release"`
	Trial     bool     `json:"on_trial"`
	Arrived   int      `json:"arrived_bytes"` // of a release under way
}

func (f *phoneFlags) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "How the band is",
		Example: "  koala band phone status --bond phone.bond --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(p *band.Phone) error {
				s, err := p.Status()
				if err != nil {
					return err
				}
				v := phoneStatus{s.ID, upper(s.UID[:]), s.Worn, s.Protected, s.Locked, s.Battery, s.Free, policyNames(s.Policy), s.Firmware, s.Trial, s.Arrived}
				return f.tell(cmd.OutOrStdout(), v, v.text())
			})
		},
	}
}

func (v phoneStatus) text() string {
	which := func(on bool, yes, no string) string {
		if on {
			return yes
		}
		return no
	}
	lock := "no passcode"
	if v.Protected {
		lock = which(v.Locked, "locked", "unlocked")
	}
	release := "factory release"
	if v.Release > 0 {
		release = fmt.Sprintf("release %d%s", v.Release, which(v.Trial, " on trial", ""))
	}
	return fmt.Sprintf("band %s, element %s: %s, %s, battery %d %%, %d bytes free, %s; while locked it may %s", v.Band, v.UID,
		which(v.Worn, "worn", "not worn"), lock, v.Battery, v.Free, release, which(len(v.Policy) > 0, strings.Join(v.Policy, ", "), "do nothing"))
}

// policyWords are what a locked band may be left free to do.
var policyWords = []struct {
	name string
	of   func(*band.Policy) *bool
}{
	{"ride", func(p *band.Policy) *bool { return &p.Ride }}, {"enter", func(p *band.Policy) *bool { return &p.Enter }},
	{"pay", func(p *band.Policy) *bool { return &p.Pay }}, {"offer", func(p *band.Policy) *bool { return &p.Offer }},
}

func policyNames(p band.Policy) []string {
	names := []string{}
	for _, w := range policyWords {
		if *w.of(&p) {
			names = append(names, w.name)
		}
	}
	return names
}

func policyFrom(text string) (p band.Policy, err error) {
	if text == "none" {
		return p, nil
	}
next:
	for _, name := range strings.Split(text, ",") {
		for _, w := range policyWords {
			if w.name == name {
				*w.of(&p) = true
				continue next
			}
		}
		return p, errUsage{fmt.Errorf("policy %q: none, or some of ride,enter,pay,offer", text)}
	}
	return p, nil
}

func (f *phoneFlags) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unlock PASSCODE|-",
		Short:   "Open the band for this wearing",
		Example: "  koala band phone unlock 2468\n  koala band phone unlock - < passcode",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := secretFrom(cmd, args[0])
			if err != nil {
				return err
			}
			return f.done(cmd, "unlocked", func(p *band.Phone) error { return p.Unlock(code) })
		},
	}
}

func (f *phoneFlags) passcodeCommand() *cobra.Command {
	var old string
	c := &cobra.Command{
		Use:     "passcode NEW|-|none",
		Short:   "Set, change or remove the passcode",
		Example: "  koala band phone passcode 2468\n  koala band phone passcode none --old 2468",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := secretFrom(cmd, args[0])
			if err != nil {
				return err
			}
			if code == "none" {
				code = ""
			}
			return f.done(cmd, "the passcode is changed", func(p *band.Phone) error { return p.SetPasscode(old, code) })
		},
	}
	c.Flags().StringVar(&old, "old", "", "the passcode it has")
	return c
}

func (f *phoneFlags) policyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "policy ride,enter,pay,offer|none",
		Short:   "Say what the band still does at readers while it is locked",
		Example: "  koala band phone policy ride,enter\n  koala band phone policy none",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := policyFrom(args[0])
			if err != nil {
				return err
			}
			return f.done(cmd, "the policy is set", func(p *band.Phone) error { return p.SetPolicy(policy) })
		},
	}
}

// done makes a request that has no answer but that it was done.
func (f *phoneFlags) done(cmd *cobra.Command, text string, ask func(*band.Phone) error) error {
	return f.with(cmd, func(p *band.Phone) error {
		if err := ask(p); err != nil {
			return err
		}
		return f.tell(cmd.OutOrStdout(), map[string]any{"done": cmd.Name()}, text)
	})
}

func (f *phoneFlags) simpleCommand(use, short string, ask func(*band.Phone) error) *cobra.Command {
	return &cobra.Command{
		Use:     use,
		Short:   short,
		Example: "  koala band phone " + use + " --bond phone.bond",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.done(cmd, "done: "+use, ask) },
	}
}

func (f *phoneFlags) activityCommand() *cobra.Command {
	var days int
	c := &cobra.Command{
		Use:     "activity",
		Short:   "Steps and sleep by the hour; they go nowhere else",
		Example: "  koala band phone activity --days 7 --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 || days > 31 {
				return errUsage{fmt.Errorf("--days %d: between 1 and 31", days)}
			}
			return f.with(cmd, func(p *band.Phone) error {
				hours, err := p.Activity(clock.System().Now().AddDate(0, 0, -days))
				if err != nil {
					return err
				}
				for _, h := range hours {
					text := fmt.Sprintf("%s  %6d steps  %2d min asleep", h.Start.Local().Format("2006-01-02 15:04"), h.Steps, h.Asleep)
					if err := f.tell(cmd.OutOrStdout(), band.HourJSON(h), text); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().IntVar(&days, "days", 1, "how far back, 1 to 31")
	return c
}

func (f *phoneFlags) updateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "update FILE",
		Short:   "Bring a signed release over and install it on trial",
		Long:    "Goes on where an earlier session stopped. The release stays when koala band phone keep\nfollows; a restart of the band before that brings the old one back.",
		Example: "  koala band phone update release.bin",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := os.Stat(args[0])
			if err == nil && info.Size() > firmware.MaxSize {
				err = fmt.Errorf("%s: %d bytes, a release has at most %d", args[0], info.Size(), firmware.MaxSize)
			}
			if err != nil {
				return err
			}
			release, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return f.done(cmd, "installed on trial; koala band phone keep makes it stay", func(p *band.Phone) error { return p.Update(release) })
		},
	}
}

func (f *phoneFlags) apduCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "apdu HEX...",
		Short:   "Send commands to the element behind the band, each explained",
		Example: "  koala band phone apdu 00A4040008A000000632010105 805C000204",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errUsage{errors.New("at least one command, in hexadecimal")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			list := make([]iso7816.Command, len(args))
			for i, a := range args {
				raw, err := hex.DecodeString(strings.ReplaceAll(a, " ", ""))
				if err == nil {
					list[i], err = iso7816.ParseCommand(raw)
				}
				if err != nil {
					return errUsage{fmt.Errorf("command %q: %w", a, err)}
				}
			}
			return f.with(cmd, func(p *band.Phone) error { return f.commands(cmd, p, list) })
		},
	}
}

// commands sends commands and explains them; a refusal of the card is an answer
// like any other.
func (f *phoneFlags) commands(cmd *cobra.Command, p *band.Phone, list []iso7816.Command) error {
	page := &tracePage{out: cmd.OutOrStdout()}
	talk := dialogue.NewSession(dialogue.Options{})
	for _, c := range list {
		r, err := p.Transmit(c)
		if err != nil && !errors.Is(err, iso7816.ErrTorn) {
			return err
		}
		torn := err != nil
		e := talk.Exchange(c, r)
		line := traceLine{Kind: "apdu", Where: "band", Text: page.both(say{e.EN, e.ZH}), Command: upper(c.Bytes()), Torn: torn, Fields: page.fields(e.Fields)}
		if !torn {
			line.Answer = upper(r.Bytes())
		}
		if f.json {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(line)
		} else {
			page.put(line)
			err = page.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *phoneFlags) runCommand() *cobra.Command {
	var house, token string
	c := &cobra.Command{
		Use:   "run",
		Short: "Be the companion: fetch scripts of a house, have the band run them, report",
		Long: `Works off the orders that wait for this band in a house (koala serve, koala demo). The token
is the band's own; - reads it from the input.`,
		Example: "  koala band phone run --house http://127.0.0.1:8080 --token - < token",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := url.Parse(house)
			if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
				return errUsage{fmt.Errorf("--house %q: http://HOST:PORT", house)}
			}
			secret, err := secretFrom(cmd, token)
			if err != nil {
				return err
			}
			link := &band.HTTPLink{Base: strings.TrimRight(base.String(), "/") + "/device", Token: secret, Client: &http.Client{Timeout: houseTimeout}}
			return f.done(cmd, "nothing more to do", func(p *band.Phone) error { return p.Run(cmd.Context(), link) })
		},
	}
	c.Flags().StringVar(&house, "house", "http://127.0.0.1:8080", "address of the house")
	c.Flags().StringVar(&token, "token", "-", "the band's token; - reads it from the input")
	return c
}
