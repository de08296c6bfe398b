package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/hsm"
	"koala/internal/db"
	"koala/merchant"
	"koala/switching"
)

func terminalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "terminal",
		Short: "Terminals of merchants' shops: register, install, suspend",
		Long: `Registers terminals that speak docs/terminal-protocol.md and opens them for installation. A
terminal gets its keys at the devices' door (docs/device-door.md), under a transport key that is
shown once; koala terminal install does that for one and writes its master key into a file, for
koala pos or for a terminal of your own. While koala serve runs on an embedded store, staff use
the pages instead.`,
		Example: "  koala terminal add --trial Noodles\n  koala terminal list\n  koala terminal suspend 10000001 --by wang --why \"reported stolen\"",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(terminalAddCommand(), terminalCardCommand(), terminalListCommand(), terminalOpenCommand(), terminalInstallCommand(),
		terminalMoveCommand("suspend", "Let a terminal take no more cards; what it holds is still taken", merchant.Stopped),
		terminalMoveCommand("resume", "Let a suspended terminal work again", merchant.InUse),
		terminalMoveCommand("retire", "End a terminal for ever", merchant.Retired))
	return c
}

// newHouse runs do on a house, which is made when there is none.
func (f houseFlags) newHouse(cmd *cobra.Command, do func(context.Context, *app.House) error) error {
	h, err := app.New(cmd.Context(), f.config(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	err = do(cmd.Context(), h)
	return errors.Join(err, h.Close())
}

// A terminalCard is what an installer takes along.
type terminalCard struct {
	TID       string `json:"tid"`
	MID       string `json:"mid"`
	Shop      string `json:"shop"`
	Token     string `json:"token"`
	Transport string `json:"transport"`
}

func terminalAddCommand() *cobra.Command {
	var f houseFlags
	var t merchant.Terminal
	var kind, trial string
	var asJSON bool
	c := &cobra.Command{
		Use:   "add",
		Short: "Register a terminal and draw its transport key",
		Long: `Registers a device in a shop and prints what its installer takes along: its numbers, its token for
the devices' door and its transport key, which is not shown again. --trial makes a merchant with
one shop first, its papers invented: for trials, never for money. A serial number that is registered
already is refused: koala terminal transport opens that terminal for another installation.`,
		Example: "  koala terminal add --trial Noodles\n  koala terminal add --shop shop_0f3a --serial PX7-00042 --place-en \"till 2\" --place-zh 2号收银台",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case t.Shop == "" && trial == "":
				return errUsage{errors.New("in which shop? --shop with its id (koala terminal list shows them), or --trial with a name for trials")}
			case t.Shop != "" && trial != "":
				return errUsage{fmt.Errorf("in which shop? --shop %q and --trial %q are both given", t.Shop, trial)}
			}
			t.Kind = merchant.Kind(kind)
			return f.newHouse(cmd, func(ctx context.Context, h *app.House) (err error) {
				if trial != "" {
					if t.Shop, err = trialShop(ctx, h, trial); err != nil {
						return err
					}
				}
				if t.Serial == "" {
					t.Serial = "TRIAL-" + rand.Text()[:16]
				}
				t, form, err := h.NewTerminal(ctx, t)
				if err != nil {
					return err
				}
				return tellTerminal(ctx, cmd.OutOrStdout(), h, t, form, asJSON)
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&t.Shop, "shop", "", "the shop's id")
	c.Flags().StringVar(&trial, "trial", "", "name of a merchant for trials, made when there is none of that name")
	c.Flags().StringVar(&t.TID, "tid", "", "terminal number, 8 digits or capital letters; empty: the next one")
	c.Flags().StringVar(&t.Serial, "serial", "", "the device's serial number; empty: drawn")
	c.Flags().StringVar(&kind, "kind", string(merchant.POS), "pos, reader or kiosk")
	c.Flags().StringVar(&t.PlaceEN, "place-en", "", "where in the shop, in English")
	c.Flags().StringVar(&t.PlaceZH, "place-zh", "", "where in the shop, in Chinese")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of text")
	return c
}

// tellTerminal prints what the installer takes along.
func tellTerminal(ctx context.Context, out io.Writer, h *app.House, t merchant.Terminal, form hsm.TransportForm, asJSON bool) error {
	var s merchant.Shop
	err := h.Store.Read(ctx, func(q *db.Query) (err error) {
		s, err = merchant.ShopOf(q, t.Shop)
		return err
	})
	card := terminalCard{TID: t.TID, MID: s.MID, Shop: s.ID, Transport: form.Text()}
	if err == nil {
		card.Token, err = h.DeviceToken(ctx, kindTill, t.TID)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(out).Encode(card)
	}
	_, err = fmt.Fprintf(out, "terminal   %s\nmerchant   %s\nshop       %s\ntoken      %s\ntransport  %s\n", card.TID, card.MID, card.Shop, card.Token, card.Transport)
	return err
}

func terminalListCommand() *cobra.Command {
	var f houseFlags
	var shop string
	c := &cobra.Command{
		Use:   "list",
		Short: "List terminals with their life and their keys' check values",
		Long: `Lists the terminals of every merchant, in the order of their numbers. --trial registers its merchant
with a first terminal, which is never installed; a folder of koala demo has the tills of its
simulated shops too. keys are the check values of the working keys; there are none before the
first sign-on. batch is the open one.`,
		Example: "  koala terminal list\n  koala terminal list --shop shop_0f3a",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				return h.Store.Read(ctx, func(q *db.Query) error { return listTerminals(cmd.OutOrStdout(), q, shop) })
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&shop, "shop", "", "only of this shop")
	return c
}

func listTerminals(out io.Writer, q db.Reader, shop string) error {
	const page = 500
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "terminal\tshop\tkind\tlife\tbatch\tkeys")
	for after, more := "", true; more; {
		list, err := merchant.TerminalsOf(q, shop, after, page)
		if err != nil {
			return err
		}
		for _, t := range list {
			s, err := switching.TerminalOf(q, t.TID)
			if err != nil && !errors.Is(err, switching.ErrNotFound) {
				return err
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%06d\t%s\n", t.TID, t.Shop, t.Kind, t.Life, s.Batch, s.Checks)
			after = t.TID
		}
		more = len(list) == page
	}
	return w.Flush()
}

func terminalOpenCommand() *cobra.Command {
	var f houseFlags
	var by, why string
	var asJSON bool
	c := &cobra.Command{
		Use:   "transport TID",
		Short: "Open a terminal for another installation and draw its transport key",
		Long: `For a terminal whose installation went wrong, or whose keys may be known: it gets another transport
key, shown once, and works again after another installation.`,
		Example: "  koala terminal transport 10000001 --by wang --why \"the answer was lost\"",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				form, err := h.OpenTerminal(ctx, args[0], by, why)
				if err != nil {
					return err
				}
				var t merchant.Terminal
				err = h.Store.Read(ctx, func(q *db.Query) (err error) {
					t, err = merchant.TerminalOf(q, args[0])
					return err
				})
				if err != nil {
					return err
				}
				return tellTerminal(ctx, cmd.OutOrStdout(), h, t, form, asJSON)
			})
		},
	}
	f.add(c)
	signedBy(c, &by, &why)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of text")
	return c
}

func signedBy(c *cobra.Command, by, why *string) {
	c.Flags().StringVar(by, "by", "", "who decides, a login of staff")
	c.Flags().StringVar(why, "why", "", "the reason, for the terminal's history")
}

func terminalMoveCommand(name, short string, to merchant.Life) *cobra.Command {
	var f houseFlags
	var by, why string
	c := &cobra.Command{
		Use:     name + " TID",
		Short:   short,
		Example: "  koala terminal " + name + " 10000001 --by wang --why \"as the shop asked\"",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				if err := h.MoveTerminal(ctx, args[0], to, by, why); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "terminal %s is %s\n", args[0], to)
				return err
			})
		},
	}
	f.add(c)
	signedBy(c, &by, &why)
	return c
}
