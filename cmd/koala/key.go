package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/calendar"
	"koala/hsm"
	"koala/switching"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "key",
		Short:   "The key store: list check values, enter keys shared with other hosts",
		Example: "  koala key list\n  koala key enter --host ICBC --use pin < sheets.txt",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(keyListCommand(), keyEnterCommand())
	return c
}

func keyListCommand() *cobra.Command {
	var f houseFlags
	c := &cobra.Command{
		Use:     "list",
		Short:   "Every version of every key by its check value",
		Example: "  koala key list --data koala-data",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				list, err := h.Keys.List(ctx)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "label\tversion\tusage\tcheck value\tsince")
				for _, k := range list {
					fmt.Fprintf(w, "%s\t%d\t%s\t%X\t%s\n", k.Label, k.Version, k.Usage, k.KCV, k.At.In(calendar.Beijing).Format("2006-01-02 15:04"))
				}
				return w.Flush()
			})
		},
	}
	f.add(c)
	return c
}

func keyEnterCommand() *cobra.Command {
	var f houseFlags
	var host, use string
	c := &cobra.Command{
		Use:   "enter",
		Short: "Enter a key that an issuer's host shares with this house, in parts",
		Long: `Brings in the zone key of PIN blocks (--use pin) or of MACs (--use mac) of an issuer's host under
split custody. The input has one line for each of two or three custodians, and one for the whole:

  NAME  PART   CHECK    name of the custodian, 32 hexadecimal digits, 6 of the part's check value
  CHECK                 6 digits of the whole key's check value

The key is the exclusive or of the parts; check values are the first three bytes of eight 00 under
the key (3DES). A new key takes the place of the one before at once.`,
		Example: "  koala key enter --host ICBC --use pin < sheets.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pin, mac := switching.ZoneLabels(host)
			label := map[string]string{"pin": pin, "mac": mac}[use]
			if err := missingFlags(flagGiven{"--host (a host's name, as routes call it)", host != ""}, flagGiven{"--use (pin or mac)", use != ""}); err != nil {
				return err
			}
			if label == "" {
				return errUsage{fmt.Errorf("--use %q is not pin or mac", use)}
			}
			sheets, check, err := readSheets(cmd)
			if err != nil {
				return err
			}
			return f.newHouse(cmd, func(ctx context.Context, h *app.House) error {
				k, err := enterParts(ctx, h, label, sheets, check)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s version %d, check value %X\n", k.Label, k.Version, k.KCV)
				}
				return err
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&host, "host", "", "name of the issuer's host")
	c.Flags().StringVar(&use, "use", "", "pin or mac")
	return c
}

// A sheet is what one custodian enters.
type sheet struct {
	name  string
	part  []byte
	check [3]byte
}

// readSheets reads the input of koala key enter. What is wrong is named by its
// line: no part of a key may stand in an error.
func readSheets(cmd *cobra.Command) (sheets []sheet, whole [3]byte, err error) {
	in := bufio.NewScanner(cmd.InOrStdin())
	ended := false
	for n := 1; in.Scan(); n++ {
		words := strings.Fields(in.Text())
		if len(words) == 0 {
			continue
		}
		var s sheet
		check, bad := hex.DecodeString(words[len(words)-1])
		if len(words) == 3 {
			s.name = words[0]
			part, wrong := hex.DecodeString(words[1])
			s.part, bad = part, errors.Join(bad, wrong)
		}
		if bad != nil || len(check) != 3 || ended || len(words) != 1 && len(words) != 3 {
			return nil, whole, errUsage{fmt.Errorf("line %d of the input is not as --help says", n)}
		}
		if len(words) == 1 {
			whole, ended = [3]byte(check), true
			continue
		}
		s.check = [3]byte(check)
		sheets = append(sheets, s)
	}
	if err = in.Err(); err == nil && !ended {
		err = errUsage{errors.New("the input ends without the whole key's check value")}
	}
	return sheets, whole, err
}

func enterParts(ctx context.Context, h *app.House, label string, sheets []sheet, whole [3]byte) (hsm.KeyInfo, error) {
	c, err := h.Keys.Begin(label, hsm.ZoneKey, len(sheets))
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	defer c.Abandon()
	for _, s := range sheets {
		if err := c.Enter(s.name, s.part, s.check); err != nil {
			return hsm.KeyInfo{}, err
		}
	}
	return c.Finish(ctx, whole)
}
