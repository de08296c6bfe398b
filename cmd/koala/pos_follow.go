package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"koala/terminal/unionpay"
)

// followKinds are what --kind of a follow-up takes.
var followKinds = map[string]unionpay.Kind{"completion": unionpay.Completion, "completion-advice": unionpay.CompletionAdvice, "tip": unionpay.Tip,
	"adjustment": unionpay.Adjust, "e-cash-refund": unionpay.CashRefund}

func posFollowCommand() *cobra.Command {
	var f hostFlags
	var o unionpay.Order
	var kind string
	c := &cobra.Command{
		Use:   "follow-up",
		Short: "Complete a pre-authorisation, add a tip, adjust an offline sale, refund a tap",
		Long: `Carries on a transaction of the open batch by its trace number: completion books a pre-authorisation, at most
115 % of it; tip and adjustment give the new amount, at most 120 %; e-cash-refund gives a tap back to the card's
account, or --amount of it. The card is not needed.

Exit code 0: approved; 1: not, or no answer; 2: misused.`,
		Example: "  koala pos follow-up " + terminalExample + " --kind completion --trace 17 --amount 23000\n" +
			"  koala pos follow-up " + terminalExample + " --kind tip --trace 18 --amount 11000",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known := false
			o.Kind, known = followKinds[kind]
			switch {
			case !known:
				return errUsage{fmt.Errorf("--kind %q is none of completion, completion-advice, tip, adjustment, e-cash-refund", kind)}
			}
			if err := f.missing(true, flagGiven{"--trace", cmd.Flags().Changed("trace")}, flagGiven{"--amount", cmd.Flags().Changed("amount") || o.Kind == unionpay.CashRefund}); err != nil {
				return err
			}
			switch {
			case o.STAN == 0 || o.STAN > 999_999:
				return errUsage{fmt.Errorf("--trace %d: 1 to 999999, as the receipt has it", o.STAN)}
			case f.amount < 0 || f.amount > maxAmount || f.amount == 0 && o.Kind != unionpay.CashRefund:
				return errUsage{fmt.Errorf("--amount %d: 1 to %d fen; without, what is left of a tap", f.amount, int64(maxAmount))}
			}
			o.Fen = uint64(f.amount)
			return f.with(cmd, true, func(t *unionpay.Terminal) error {
				res, err := t.Do(o)
				return f.tellResult(cmd.OutOrStdout(), t, res, err)
			})
		},
	}
	f.bind(c)
	c.Flags().StringVar(&kind, "kind", "completion", "completion, completion-advice, tip, adjustment or e-cash-refund")
	c.Flags().Uint32Var(&o.STAN, "trace", 0, "trace number of the transaction")
	c.Flags().Int64Var(&f.amount, "amount", 0, "new amount, or what is given back of a tap, in fen")
	return c
}

func posProveCommand() *cobra.Command {
	var f hostFlags
	c := &cobra.Command{
		Use:   "prove",
		Short: "Have a card decide a load that nobody saw arrive",
		Long: `Reads the card's own log of loads: a load that was cut off is then final, or reversed by the next message.
Loads of other cards stay as they are.

Exit code 0: a load was decided; 1: none was; 2: misused.`,
		Example: "  koala pos prove " + terminalExample + " --reader ACR122 --contact",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := 0
			for _, v := range []string{f.reader, f.listen, f.posFlags.connect} {
				if v != "" {
					given++
				}
			}
			if err := f.missing(false, flagGiven{"a card (--reader, --listen or --card)", given > 0}); err != nil {
				return err
			}
			if given != 1 {
				return errUsage{errors.New("where is the card? only one of --reader, --listen and --card")}
			}
			return f.with(cmd, false, func(t *unionpay.Terminal) error { return f.prove(cmd, t) })
		},
	}
	f.bind(c)
	f.bindSlot(c)
	return c
}

func (f *hostFlags) prove(cmd *cobra.Command, t *unionpay.Terminal) error {
	slot, err := f.slot(cmd)
	if err != nil {
		return err
	}
	defer slot.close()
	contact, err := slot.present(cmd.Context())
	if err != nil {
		return err
	}
	decided, err := t.Prove(contact)
	slot.leave()
	if err != nil {
		return err
	}
	lines, said := []string{}, []dealSaid{}
	for _, e := range decided {
		lines = append(lines, t.Receipt(e, true, f.lang == "zh")...)
		said = append(said, dealOf(e, f.lang == "zh"))
	}
	if len(decided) == 0 {
		lines = append(lines, "no load of this card is open")
	}
	if err := f.tellLines(cmd.OutOrStdout(), lines, map[string]any{"decided": said}); err != nil {
		return err
	}
	if len(decided) == 0 {
		return errFoundWrong
	}
	return nil
}
