package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"koala/money"
	"koala/spec/iso7816"
	"koala/terminal/kernel"
	"koala/terminal/unionpay"
)

// posHostCommands are what a terminal does with an acquirer's host.
func posHostCommands() []*cobra.Command {
	return []*cobra.Command{posSignOnCommand(), posSaleCommand(), posVoidCommand(), posRefundCommand(), posFollowCommand(), posProveCommand(), posSettleCommand(), posStatusCommand()}
}

// terminalExample are the flags that the examples share.
const terminalExample = "--connect 127.0.0.1:7583 --tid 10010001 --mid 898110058120001 --terminal till.flash"

func posSignOnCommand() *cobra.Command {
	var f hostFlags
	var off, echo bool
	c := &cobra.Command{
		Use:   "sign-on",
		Short: "Get working keys, batch and time from the host",
		Long: `Signs the terminal on: the host sends working keys under the master key, the open batch and the time;
what it then asks for (parameters, CA keys, AID parameters, black list, status) is done at once. The master key goes in once, with --tmk-file. Every other command signs on by itself where that is due.

Exit code 0: done; 1: refused or no answer; 2: misused.`,
		Example: "  koala pos sign-on " + terminalExample + " --tmk-file tmk.hex\n  koala pos sign-on --off " + terminalExample,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, true, func(t *unionpay.Terminal) error {
				act := t.SignOn
				switch {
				case off && echo:
					return errUsage{errors.New("--off and --echo are two acts: give one of them")}
				case off:
					act = t.SignOff
				case echo:
					act = t.Echo
				}
				err := act()
				if err == nil && !off && !echo { // what the host wants of a terminal that starts its day
					err = t.Obey("koala pos")
				}
				if err != nil {
					return err
				}
				return f.tellStatus(cmd.OutOrStdout(), t)
			})
		},
	}
	f.bind(c)
	c.Flags().BoolVar(&off, "off", false, "sign off instead")
	c.Flags().BoolVar(&echo, "echo", false, "only ask whether the host is there")
	return c
}

// saleKinds are what --kind takes.
var saleKinds = map[string]unionpay.Kind{"sale": unionpay.Sale, "balance": unionpay.Balance, "pre-authorisation": unionpay.PreAuth, "load": unionpay.Load,
	"offline": unionpay.OfflineSale, "phone": unionpay.PhoneSale, "reservation": unionpay.Reservation, "points": unionpay.Points, "instalment": unionpay.Instalment}

func posSaleCommand() *cobra.Command {
	var f hostFlags
	var o unionpay.Order
	var kind string
	c := &cobra.Command{
		Use:   "sale",
		Short: "Take a card: online by the host, or offline from its e-cash",
		Long: `Takes one card. It is in a PC/SC reader (--reader), it is a virtual card that dials this terminal
(--listen: koala band serve --vpcd) or waits for one (--card: koala band serve --listen), it was swiped
(--track2), keyed (--pan and --expiry), or a payment code was scanned (--code).

A tap pays from the card's e-cash without the host where it can; --kind says what else it is for.
What nobody knows the end of is reversed before anything new, by this command or the next.

Exit code 0: approved; 1: not, or no answer; 2: misused.`,
		Example: "  koala pos sale " + terminalExample + " --reader ACR122 --amount 1250\n" +
			"  koala pos sale " + terminalExample + " --track2 6228880100000000178=2509101000000000 --amount 20000 --pin -\n" +
			"  koala pos sale " + terminalExample + " --listen 127.0.0.1:35963 --contact --kind load --amount 5000 --test-keys",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known := false
			if o.Kind, known = saleKinds[kind]; !known {
				return errUsage{fmt.Errorf("--kind %q is none of sale, balance, pre-authorisation, load, offline, phone, reservation, points, instalment", kind)}
			}
			if err := f.missing(true, f.cardGiven(&o)...); err != nil {
				return err
			}
			if err := f.checkCard(&o); err != nil {
				return err
			}
			return f.with(cmd, true, func(t *unionpay.Terminal) error {
				res, err := f.take(cmd, t, o)
				return f.tellResult(cmd.OutOrStdout(), t, res, err)
			})
		},
	}
	f.bind(c)
	f.bindSlot(c)
	c.Flags().StringVar(&o.Card.Track2, "track2", "", "what the stripe says: number, = and the rest")
	c.Flags().StringVar(&o.Card.PAN, "pan", "", "card number that was keyed; with --expiry")
	c.Flags().StringVar(&o.Card.Expiry, "expiry", "", "of a keyed card, YYMM")
	c.Flags().StringVar(&o.Card.Code, "code", "", "payment code that was scanned")
	c.Flags().StringVar(&kind, "kind", "sale", "sale, balance, pre-authorisation, load, offline, phone, reservation, points or instalment")
	c.Flags().StringVar(&o.Auth, "authorisation", "", "authorisation that was given by voice, 6 characters")
	c.Flags().IntVar(&o.Terms.Parts, "parts", 0, "number of instalments: 3, 6, 9, 12, 18 or 24")
	c.Flags().Int64Var(&f.amount, "amount", 0, "what is to be paid, in fen")
	c.Flags().StringVar(&f.pin, "pin", "", "PIN for the host or the card; - reads it from the input")
	c.Flags().StringSliceVar(&f.ca, "ca", nil, "file with CA keys, as koala card ca export writes them (json or csv)")
	c.Flags().BoolVar(&f.testKeys, "test-keys", false, "also trust published test keys")
	return c
}

// bindSlot declares where a card can be.
func (f *hostFlags) bindSlot(c *cobra.Command) {
	c.Flags().StringVar(&f.reader, "reader", "", "PC/SC reader by any part of its name; needs pcscd")
	c.Flags().StringVar(&f.listen, "listen", "", "address and port on which to wait for a virtual card")
	c.Flags().StringVar(&f.posFlags.connect, "card", "", "address and port of a virtual card that waits for a reader")
	c.Flags().BoolVar(&f.contact, "contact", false, "the card is inserted, not tapped")
}

// cardGiven says whether there is a card, and an amount where the kind has one.
func (f *hostFlags) cardGiven(o *unionpay.Order) []flagGiven {
	where, names := []string{o.Card.Track2, o.Card.PAN}, "--track2 (or --pan with --expiry)"
	if o.Kind != unionpay.Refund {
		where = append(where, f.reader, f.listen, f.posFlags.connect, o.Card.Code)
		names = "a card (--reader, --listen, --card, --track2, --pan or --code)"
	}
	return []flagGiven{{names, strings.Join(where, "") != ""}, {"--amount", f.amount != 0 || o.Kind == unionpay.Balance}}
}

// checkCard wants one card, and an amount where the kind has one.
func (f *hostFlags) checkCard(o *unionpay.Order) error {
	given := 0
	for _, v := range []string{f.reader, f.listen, f.posFlags.connect, o.Card.Track2, o.Card.PAN, o.Card.Code} {
		if v != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return errUsage{errors.New("where is the card? only one of --reader, --listen, --card, --track2, --pan and --code")}
	case o.Kind == unionpay.Balance && f.amount != 0:
		return errUsage{errors.New("--amount: a balance inquiry has none")}
	case o.Kind != unionpay.Balance && (f.amount < 1 || f.amount > maxAmount):
		return errUsage{fmt.Errorf("--amount %d: 1 to %d fen", f.amount, int64(maxAmount))}
	}
	o.Fen = uint64(f.amount)
	return nil
}

// take serves a card: with its chip where it is in a reader.
func (f *hostFlags) take(cmd *cobra.Command, t *unionpay.Terminal, o unionpay.Order) (unionpay.Result, error) {
	if f.reader == "" && f.listen == "" && f.posFlags.connect == "" {
		return t.Do(o)
	}
	slot, err := f.slot(cmd)
	if err != nil {
		return unionpay.Result{}, err
	}
	defer slot.close()
	serve := t.Tap
	if f.contact {
		serve = t.Insert
	}
	for n := 1; ; n++ {
		if isScreen(cmd.ErrOrStderr()) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s yuan: present the card\n", money.Fen(f.amount).Yuan())
		}
		var contact iso7816.Transmit
		if contact, err = slot.present(cmd.Context()); err != nil {
			return unionpay.Result{}, err
		}
		res, err := serve(contact, o)
		slot.leave()
		if err != nil || res.Chip == nil || res.Chip.Outcome.Result != kernel.TryAgain || n == maxPresent {
			return res, err
		}
	}
}

func posVoidCommand() *cobra.Command {
	var f hostFlags
	var trace uint32
	c := &cobra.Command{
		Use:   "void",
		Short: "Take back a transaction of the open batch, whole",
		Long: `Takes back a sale, pre-authorisation, completion or reservation of the open batch by its trace number.
The card is not needed.

Exit code 0: approved; 1: not, or no answer; 2: misused.`,
		Example: "  koala pos void " + terminalExample + " --trace 17",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.missing(true, flagGiven{"--trace", cmd.Flags().Changed("trace")}); err != nil {
				return err
			}
			if trace == 0 || trace > 999_999 {
				return errUsage{fmt.Errorf("--trace %d: 1 to 999999, as the receipt has it", trace)}
			}
			return f.with(cmd, true, func(t *unionpay.Terminal) error {
				res, err := t.Void(trace)
				return f.tellResult(cmd.OutOrStdout(), t, res, err)
			})
		},
	}
	f.bind(c)
	c.Flags().Uint32Var(&trace, "trace", 0, "trace number of the transaction")
	return c
}

func posRefundCommand() *cobra.Command {
	var f hostFlags
	o := unionpay.Order{Kind: unionpay.Refund}
	var of string
	var tap bool
	c := &cobra.Command{
		Use:   "refund",
		Short: "Give back a sale or a part of it, of any day",
		Long: `Gives money back for a sale of this terminal or another one of the shop, by its batch, trace and date as the
receipt has them (--of BATCH/TRACE/MMDD), or by its reference number (--reference). The card is swiped or keyed. --e-cash: the sale was a tap that the card paid offline.

Exit code 0: approved; 1: not, or no answer; 2: misused.`,
		Example: "  koala pos refund " + terminalExample + " --of 000007/000017/0916 --track2 6228880100000000178=2509101000000000 --amount 3000",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			needed := append([]flagGiven{{"--of (or --reference)", of != "" || o.RRN != ""}}, f.cardGiven(&o)...)
			if err := f.missing(true, needed...); err != nil {
				return err
			}
			if of != "" {
				var err error
				if o.Original, err = unionpay.ParseOriginal(strings.ReplaceAll(of, "/", "")); err != nil || o.Original.Date == "" {
					return errUsage{fmt.Errorf("--of %q is not BATCH/TRACE/MMDD", of)}
				}
			} else if len(o.RRN) != 12 {
				return errUsage{fmt.Errorf("--reference %q has %d characters, 12 are right; or --of BATCH/TRACE/MMDD", o.RRN, len(o.RRN))}
			}
			if err := f.checkCard(&o); err != nil {
				return err
			}
			if tap {
				o.Kind = unionpay.CashRefund
			}
			return f.with(cmd, true, func(t *unionpay.Terminal) error {
				res, err := t.Do(o)
				return f.tellResult(cmd.OutOrStdout(), t, res, err)
			})
		},
	}
	f.bind(c)
	c.Flags().StringVar(&of, "of", "", "the sale: BATCH/TRACE/MMDD")
	c.Flags().StringVar(&o.RRN, "reference", "", "the sale's reference number, 12 characters")
	c.Flags().StringVar(&o.Card.Track2, "track2", "", "what the stripe says")
	c.Flags().StringVar(&o.Card.PAN, "pan", "", "card number that was keyed")
	c.Flags().StringVar(&o.Card.Expiry, "expiry", "", "of a keyed card, YYMM")
	c.Flags().Int64Var(&f.amount, "amount", 0, "what is given back, in fen")
	c.Flags().BoolVar(&tap, "e-cash", false, "of a tap")
	return c
}

func posSettleCommand() *cobra.Command {
	var f hostFlags
	c := &cobra.Command{
		Use:   "settle",
		Short: "End the batch: totals, items where they differ, the next batch",
		Long: `Sends what the host has not been told, compares totals, uploads every item where they differ, and goes on
with the next batch. After a failure it is simply called again.

Exit code 0: balanced; 1: not, or no answer; 2: misused.`,
		Example: "  koala pos settle " + terminalExample,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, true, func(t *unionpay.Terminal) error {
				s, err := t.Settle()
				if err != nil {
					return err
				}
				slip := t.TotalsSlip(s, f.lang == "zh")
				if err := f.tellLines(cmd.OutOrStdout(), slip, map[string]any{"batch": s.Batch, "balanced": s.Balanced, "items": s.Items, "next_batch": s.Next,
					"net_fen": s.Totals.Net(), "slip": slip}); err != nil {
					return err
				}
				if !s.Balanced {
					return errFoundWrong
				}
				return nil
			})
		},
	}
	f.bind(c)
	return c
}

func posStatusCommand() *cobra.Command {
	var f hostFlags
	var tail string
	c := &cobra.Command{
		Use:   "status",
		Short: "What the terminal holds: keys, batch, transactions, what waits",
		Long: `Shows the open batch and what waits for the host, without asking it. With --card-tail the receipt of the
latest transaction of a card is printed again.

Exit code 0: shown; 1: the file does not read, or no such card; 2: misused.`,
		Example: "  koala pos status --tid 10010001 --mid 898110058120001 --terminal till.flash --json\n" +
			"  koala pos status --tid 10010001 --mid 898110058120001 --terminal till.flash --card-tail 0178",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, false, func(t *unionpay.Terminal) error {
				if tail == "" {
					return f.tellStatus(cmd.OutOrStdout(), t)
				}
				e, ok := t.Find(tail)
				if !ok {
					return fmt.Errorf("no transaction of a card that ends with %q in the batch", tail)
				}
				again := t.Receipt(e, true, f.lang == "zh")
				return f.tellLines(cmd.OutOrStdout(), again, map[string]any{"receipt": again})
			})
		},
	}
	f.bind(c)
	c.Flags().StringVar(&tail, "card-tail", "", "print the receipt of the card with these last digits again, at least four")
	return c
}

// tellLines writes text, or what JSON says of it.
func (f *hostFlags) tellLines(out io.Writer, lines []string, said any) error {
	if f.json {
		return json.NewEncoder(out).Encode(said)
	}
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// A dealSaid is a transaction in JSON: fields may be added, none renamed.
type dealSaid struct {
	Result  string   `json:"result"` // approved, declined
	Code    string   `json:"code,omitempty"`
	Text    string   `json:"text"`
	Kind    string   `json:"kind"`
	Fen     uint64   `json:"amount_fen"`
	Balance *int64   `json:"balance_fen,omitempty"`
	Card    string   `json:"card,omitempty"` // masked
	Batch   uint32   `json:"batch"`
	Trace   uint32   `json:"trace"`
	RRN     string   `json:"reference,omitempty"`
	Auth    string   `json:"authorisation,omitempty"`
	State   string   `json:"state,omitempty"`
	Receipt []string `json:"receipt,omitempty"`
}

// dealOf is an entry of the journal for a program.
func dealOf(e *unionpay.Entry, zh bool) dealSaid {
	return dealSaid{Kind: e.Kind.Words(zh), Fen: e.Fen(), Card: e.Card(), Batch: e.Batch, Trace: e.STAN, RRN: e.Get(37), Auth: e.Get(38), State: e.State.Words(zh)}
}

// tellResult says what a transaction came to; a decline is exit code 1.
func (f *hostFlags) tellResult(out io.Writer, t *unionpay.Terminal, res unionpay.Result, err error) error {
	if err != nil || res.Entry == nil {
		return err
	}
	zh := f.lang == "zh"
	s := dealOf(res.Entry, zh)
	s.Result, s.Code, s.Text = "declined", res.Code, res.Words(zh)
	lines := []string{s.Text}
	if res.Approved {
		s.Result, s.Receipt = "approved", t.Receipt(res.Entry, false, zh)
		lines = s.Receipt
	}
	if fen, ok := res.Balance(); ok {
		s.Balance = &fen
		lines = append(lines, money.Fen(fen).Yuan())
	}
	if err := f.tellLines(out, lines, s); err != nil {
		return err
	}
	if !res.Approved {
		return errFoundWrong
	}
	return nil
}

// A terminalSaid is a terminal in JSON.
type terminalSaid struct {
	SignedOn bool       `json:"signed_on"`
	Batch    uint32     `json:"batch"`
	Settling bool       `json:"settling"`
	Net      int64      `json:"net_fen"`
	Pack     uint32     `json:"pack,omitempty"` // signed parameter pack in use
	Deals    []dealSaid `json:"transactions"`
	Pending  []dealSaid `json:"pending"`
}

func (f *hostFlags) tellStatus(out io.Writer, t *unionpay.Terminal) error {
	zh := f.lang == "zh"
	pending, err := t.Pending()
	if err != nil {
		return err
	}
	s := terminalSaid{SignedOn: t.SignedOn(), Batch: t.Batch(), Settling: t.Settling(), Net: t.Totals().Net(), Pack: t.Pack(), Deals: []dealSaid{}, Pending: []dealSaid{}}
	lines := []string{fmt.Sprintf("batch %06d, signed on: %v, net %s yuan", s.Batch, s.SignedOn, money.Fen(s.Net).Yuan())}
	if s.Pack > 0 {
		lines[0] += fmt.Sprintf(", pack %d", s.Pack)
	}
	for _, list := range []struct {
		of []*unionpay.Entry
		to *[]dealSaid
	}{{t.Entries(), &s.Deals}, {pending, &s.Pending}} {
		for _, e := range list.of {
			d := dealOf(e, zh)
			*list.to = append(*list.to, d)
			lines = append(lines, fmt.Sprintf("%06d  %s  %s  %s  %s", d.Trace, d.Kind, money.Fen(int64(d.Fen)).Yuan(), d.Card, d.State))
			if t.NeedsHelp(e) { // the slip for a person
				lines = append(lines, t.Receipt(e, false, zh)...)
			}
		}
	}
	return f.tellLines(out, lines, s)
}
