package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/calendar"
	"koala/internal/clock"
	"koala/money"
	"koala/transit/network"
)

// fareFlags are the flags of `koala fare`.
type fareFlags struct {
	from, to, at, batch, concession string
	spent                           int64
	json                            bool
}

func fareCommand() *cobra.Command {
	var f fareFlags
	c := &cobra.Command{
		Use:   "fare --from STATION --to STATION | --batch FILE",
		Short: "What a ride on the Beijing network costs, and why",
		Long: `Prices a ride by the shortest distance under the tariff in force, with the rule
lines behind the price. Stations are given by Chinese or English name, slug or
six-digit code. Without --at the ride begins at noon of today.`,
		Example: `  koala fare --from 东单 --to 西单
  koala fare --from Dongdan --to 五道口 --month-spent 12000 --at 2015-09-16T08:10 --json
  koala fare --batch pairs.csv > priced.csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	c.Flags().StringVar(&f.from, "from", "", "station where the ride begins")
	c.Flags().StringVar(&f.to, "to", "", "station where it ends")
	c.Flags().Int64Var(&f.spent, "month-spent", 0, "rail spending of the card this month before the ride, in fen")
	c.Flags().StringVar(&f.at, "at", "", "tap in, Beijing time: 2015-09-16 or 2015-09-16T08:10")
	c.Flags().StringVar(&f.concession, "concession", "", "code of the rider's concession")
	c.Flags().StringVar(&f.batch, "batch", "", "CSV file with the columns from,to (- is standard input)")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object instead of text")
	return c
}

func (f fareFlags) run(cmd *cobra.Command) error {
	at, err := rideTime(f.at)
	if err != nil {
		return errUsage{err}
	}
	if f.batch != "" {
		if f.from != "" || f.to != "" || f.json {
			return errUsage{errors.New("--batch goes without --from, --to and --json")}
		}
		return f.priceBatch(cmd, at)
	}
	if f.from == "" || f.to == "" {
		return errUsage{errors.New("name both --from and --to, or a --batch file")}
	}
	if f.spent < 0 || f.spent > money.MaxMinor {
		return errUsage{fmt.Errorf("--month-spent %d is not an amount in fen", f.spent)}
	}
	a, err := network.Beijing().Fare(network.Question{
		From: f.from, To: f.to, At: at, MonthSpent: money.Fen(f.spent), Concession: f.concession})
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"from": a.Route.From.ZH, "to": a.Route.To.ZH, "distance_m": a.Route.Metres,
			"fen": a.Quote.Fen.Minor(), "rules": a.Quote.Rules(), "tariff": a.Quote.Tariff, "at": at.Format(time.RFC3339)})
	}
	return printFare(cmd.OutOrStdout(), a)
}

func printFare(w io.Writer, a network.Answer) error {
	_, err := fmt.Fprintf(w, "%s %s → %s %s: %d m, ¥%s\n", a.Route.From.ZH, a.Route.From.EN,
		a.Route.To.ZH, a.Route.To.EN, a.Route.Metres, a.Quote.Fen.Yuan())
	for _, leg := range a.Route.Legs {
		fmt.Fprintf(w, "  %-8s %s → %s, %d m\n", leg.Line.ZH, leg.From.ZH, leg.To.ZH, leg.Metres)
	}
	for _, l := range a.Quote.Lines {
		fmt.Fprintf(w, "  %8s  %s (%s)\n", money.Fen(l.Fen).Yuan(), l.EN, l.ZH)
	}
	return err
}

func (f fareFlags) priceBatch(cmd *cobra.Command, at time.Time) error {
	in := cmd.InOrStdin()
	if f.batch != "-" {
		file, err := os.Open(f.batch)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	report, err := network.Beijing().Batch(in, cmd.OutOrStdout(), at, nil)
	for _, bad := range report.Kept {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", f.batch, bad)
	}
	if err != nil {
		return err
	}
	if report.Bad > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d rows have no price\n", report.Bad, report.Rows)
		return errFoundWrong
	}
	return nil
}

// rideTime reads what a person typed as Beijing time; nothing is noon today.
func rideTime(s string) (time.Time, error) {
	if s == "" {
		return network.Noon(clock.System().Now()), nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, calendar.Beijing); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	day, err := calendar.Parse(strings.TrimSpace(s))
	if err != nil {
		return time.Time{}, fmt.Errorf("--at %q: write it like 2015-09-16 or 2015-09-16T08:10", s)
	}
	return network.Noon(day.Start(calendar.Beijing)), nil
}
