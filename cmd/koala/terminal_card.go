package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/calendar"
	"koala/customer"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/wallet"
)

// stripeService is the service code on a trial card's stripe (ISO/IEC 7813): of a
// card without a chip, good everywhere, the issuer is asked and the PIN entered.
const stripeService = "120"

// trialFlags are what koala terminal card takes.
type trialFlags struct {
	houseFlags
	login, pin string
	fund       int64 // fen
	json       bool
}

func terminalCardCommand() *cobra.Command {
	var f trialFlags
	c := &cobra.Command{
		Use:   "card",
		Short: "Make a trial card of the house's own bank, with stripe and PIN",
		Long: `Opens a debit card of the house's bank for a registered person and prints what would be embossed,
encoded and mailed: number, expiry, track 2 and PIN, once. It has a stripe and no chip, no band
holds it, and it draws on the person's wallet, into which the simulated bank pays --fund first.
Its number, account and PIN are as those of any card of the house, and so is what becomes of its
payments in the books. For trials, never for money.`,
		Example: "  koala terminal card --login lin\n  koala terminal card --login lin --pin 246813 --fund 50000 --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.login == "" {
				return errUsage{errors.New("--login is missing: whose card? the login of a person (koala person)")}
			}
			if f.fund < 0 {
				return errUsage{fmt.Errorf("--fund %d: 0 or more fen", f.fund)}
			}
			if f.pin != "" && (len(f.pin) != 6 || strings.Trim(f.pin, "0123456789") != "") {
				return errUsage{fmt.Errorf("--pin has 6 digits, %d characters are given", len(f.pin))}
			}
			return f.with(cmd, func(ctx context.Context, h *app.House) error { return f.make(ctx, h, cmd.OutOrStdout()) })
		},
	}
	f.add(c)
	c.Flags().StringVar(&f.login, "login", "", "login of the cardholder (koala person)")
	c.Flags().StringVar(&f.pin, "pin", "", "PIN, 6 digits; empty: drawn")
	c.Flags().Int64Var(&f.fund, "fund", 1000_00, "fen that the simulated bank pays into the wallet; 0: none")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object instead of text")
	return c
}

func (f *trialFlags) make(ctx context.Context, h *app.House, out io.Writer) error {
	if f.pin == "" {
		n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
		if err != nil {
			return err
		}
		f.pin = fmt.Sprintf("%06d", n)
	}
	var a issuing.Application
	err := h.Store.Write(ctx, func(tx *db.Tx) error {
		who, err := customer.ByLogin(tx, f.login)
		if err != nil {
			return fmt.Errorf("the cardholder %q: %w", f.login, err)
		}
		ref := tx.NewID("trial")
		a = issuing.Application{Ref: ref, Customer: who.ID, Band: ref, Product: issuing.DebitCard}
		if f.fund > 0 {
			_, err = wallet.Fund(tx, ref, who.ID, money.Fen(f.fund))
		}
		return err
	})
	if err != nil {
		return err
	}
	p, err := openPaper(ctx, h, a, f.pin)
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(out).Encode(map[string]string{"number": p.number, "expiry": p.expiry, "track2": p.stripe(), "pin": f.pin, "holder": f.login})
	}
	_, err = fmt.Fprintf(out, "trial card of %s\nnumber   %s\nexpiry   %s\ntrack 2  %s\nPIN      %s\n", f.login, p.number, p.expiry, p.stripe(), f.pin)
	return err
}

// A paper is a card of the house's bank that no element holds.
type paper struct {
	hsm.BankCard
	number, expiry string // expiry YYMM, the last month it is good in
}

// stripe is its track 2 (ISO/IEC 7813) without sentinels: number, =, expiry,
// service code. The bank checks no discretionary data, so there is none.
func (p paper) stripe() string { return p.number + "=" + p.expiry + stripeService }

// openPaper opens a bank card that has no chip to be written: it is active at
// once.
func openPaper(ctx context.Context, h *app.House, a issuing.Application, pin string) (p paper, err error) {
	n, err := h.Bank.Number(ctx, a.Product)
	if err != nil {
		return p, err
	}
	a.PAN = &n
	var c issuing.Card
	err = h.Store.Write(ctx, func(tx *db.Tx) (err error) {
		if c, err = issuing.Open(tx, a); err != nil {
			return err
		}
		return errors.Join(issuing.Begin(tx, c.ID), issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "stripe"}))
	})
	if err != nil {
		return p, err
	}
	if p.BankCard, err = h.Bank.Keys(ctx, c.ID); err != nil {
		return p, err
	}
	p.number, p.expiry = p.PAN, c.To.AddDate(0, 0, -1).In(calendar.Beijing).Format("0601")
	block, err := h.Keys.EncipherPIN(ctx, p.PAN, pin)
	if err != nil {
		return p, err
	}
	return p, h.Bank.SetPIN(ctx, c.ID, block)
}
