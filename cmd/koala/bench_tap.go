package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"koala/card"
	"koala/internal/clock"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/gate"
)

// A tap bench's load: how many rides one card makes before the next one comes,
// and what the clock of the city does between its taps.
const (
	ridesPerCard = 300
	rideTakes    = 21 * time.Minute
	nextRide     = 40 * time.Minute
)

// The cards that benches know.
const (
	cardPurse     = "purse"
	cardQuickpass = "quickpass"
)

func benchTapCommand() *cobra.Command {
	var f benchFlags
	var kind string
	c := &cobra.Command{
		Use:   "tap",
		Short: "Complete gate purchases, or Quickpass payments, a second on one core",
		Long: `A personalised card enters at 东单 and leaves at 西单, again and again: the element's
power comes on, the gate reads the card, prices the ride with its station's table,
the PSAM makes MAC1, the card pays and writes its records, the PSAM checks MAC2 and
the debit goes into the gate's flash. Everything runs on one core. What such a tap
would take in the field is computed by the gate's time model, not measured.

With --card quickpass a bank card pays at a shop's till instead, offline: payment
directory, GET PROCESSING OPTIONS with the card's 1024-bit signature, records,
issuer's and card's certificates recovered, the signature checked, the approval in
the till's flash. Every cryptogram is made again afterwards, outside the time.`,
		Example: "  koala bench tap\n  koala bench tap --card quickpass --seconds 10 --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch kind {
			case cardPurse:
				return f.measure(cmd, f.benchTap)
			case cardQuickpass:
				return f.measure(cmd, f.benchQuickpass)
			}
			return errUsage{fmt.Errorf("--card %q: %s or %s", kind, cardPurse, cardQuickpass)}
		},
	}
	f.add(c)
	c.Flags().StringVar(&kind, "card", cardPurse, "which card taps: "+cardPurse+" or "+cardQuickpass)
	return c
}

func (f benchFlags) benchTap(ctx context.Context, p *benchProgress) ([]figure, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	shop, err := newWorkshop()
	if err != nil {
		return nil, err
	}
	line, err := shop.open(terminal.Kbit106)
	if err != nil {
		return nil, err
	}
	p.step("taps", f.seconds)
	watch := newStopwatch(1 << 20)
	for watch.Wall.Seconds() < f.seconds && ctx.Err() == nil {
		rider, err := shop.card(shop.next())
		if err != nil {
			return nil, err
		}
		runtime.GC()
		watch.start()
		err = line.ride(rider, watch, f.seconds)
		watch.stop()
		if err != nil {
			return nil, err
		}
		if err := shop.collect(line); err != nil {
			return nil, err
		}
	}
	x := watch.figure("tap", "flash", 1)
	if line.collected != x.Ops {
		return nil, fmt.Errorf("%d taps left %d debits in the gates", x.Ops, line.collected)
	}
	x.Params["cards"], x.Params["fen_collected"] = shop.made, line.fen
	x.Params["page_writes_per_tap"] = rounded(line.writes/max(1, float64(x.Ops)), 1)
	return []figure{x}, shop.model(&x)
}

// ride lets a card ride until its money is nearly spent or time is up.
func (l *line) ride(rider *card.Element, watch *stopwatch, seconds float64) error {
	writes := rider.Memory().Writes()
	end := watch.began + time.Duration(seconds*float64(time.Second)) - watch.Wall
	for range ridesPerCard {
		for _, g := range []*turnstile{l.in, l.out} {
			began := watch.now()
			if _, err := g.tap(rider); err != nil {
				return err
			}
			watch.times = append(watch.times, watch.now()-began)
			l.clock.Advance(rideTakes)
		}
		l.clock.Advance(nextRide - rideTakes)
		if watch.now() > end {
			break
		}
	}
	l.writes += float64(rider.Memory().Writes() - writes)
	return nil
}

// collect takes the debits off the gates and checks every one's TAC: taps that
// had not paid would make the figure a lie.
func (w *workshop) collect(l *line) error {
	for _, g := range []*turnstile{l.in, l.out} {
		for _, x := range g.gate.Store().Batch(2 * ridesPerCard) {
			d := x.Debit
			key := purse.TACKey(purse.Disperse(w.roots[purse.DTK], d.Card.Factor()))
			if d.TAC != purse.PurchaseTAC(key, d.Fen, d.Type, d.Terminal, d.TSeq, d.At) {
				return fmt.Errorf("gate %s: debit %d has a wrong TAC", g.gate.Terminal(), x.Number)
			}
			l.collected++
			l.fen += int64(d.Fen)
		}
		if err := g.gate.Store().Release(g.gate.Store().Next() - 1); err != nil {
			return fmt.Errorf("collecting at %s: %w", g.gate.Terminal(), err)
		}
	}
	return nil
}

// A tapTime is what a tap takes in the field by the gate's model, milliseconds.
type tapTime struct {
	Total      float64 `json:"total_ms"`
	Activation float64 `json:"activation_ms"`
	Air        float64 `json:"air_ms"`
	PSAM       float64 `json:"psam_ms"`  // the PSAM's contacts
	Compute    float64 `json:"chips_ms"` // both chips computing and writing
	InTime     bool    `json:"in_time"`
}

// model adds what the time model says at both rates to the figure.
func (w *workshop) model(x *figure) error {
	rates := map[string]map[string]tapTime{}
	for _, rate := range []terminal.Rate{terminal.Kbit106, terminal.Kbit424} {
		line, err := w.open(rate)
		if err != nil {
			return err
		}
		rider, err := w.card(w.next())
		if err != nil {
			return err
		}
		told := map[string]tapTime{}
		if told["entry"], err = line.in.told(rider, rate); err != nil {
			return err
		}
		line.clock.Advance(rideTakes)
		if told["exit"], err = line.out.told(rider, rate); err != nil {
			return err
		}
		rates[fmt.Sprintf("%d_kbit", rate)] = told
		for _, name := range []string{"entry", "exit"} {
			t := told[name]
			x.notes = append(x.notes, fmt.Sprintf("%s at %d kbit/s by the model: %.0f ms (activation %.0f, air %.0f, PSAM link %.0f, chips %.0f), budget %d ms",
				name, rate, t.Total, t.Activation, t.Air, t.PSAM, t.Compute, terminal.Budget.Milliseconds()))
		}
	}
	x.Params["model"], x.Params["budget_ms"] = rates, terminal.Budget.Milliseconds()
	return nil
}

// told taps and sums the dialogue up by where the time goes.
func (g *turnstile) told(rider *card.Element, rate terminal.Rate) (tapTime, error) {
	o, err := g.tap(rider)
	if err != nil {
		return tapTime{}, err
	}
	var air, psam, chips time.Duration
	for _, x := range g.gate.Dialogue() {
		link := terminal.Air{Rate: rate}.Takes(x.Command, x.Response)
		if x.Where == "PSAM" {
			link = terminal.T0{Baud: gate.DefaultSAMBaud}.Takes(x.Command, x.Response)
			psam += link
		} else {
			air += link
		}
		chips += x.Took - link
	}
	return tapTime{Total: inMillis(o.Took), Activation: inMillis(terminal.Activation(rate)), Air: inMillis(air), PSAM: inMillis(psam),
		Compute: inMillis(chips), InTime: o.InTime()}, nil
}

// tap holds a card to the gate, wants it to open, and takes the card away.
func (g *turnstile) tap(rider *card.Element) (terminal.Outcome, error) {
	if err := rider.PowerOn(card.Contactless); err != nil {
		return terminal.Outcome{}, err
	}
	o, err := g.gate.Tap(rider.Transmit, g.contact)
	rider.PowerOff()
	if err == nil && o.Result != terminal.Opened {
		err = fmt.Errorf("the gate at %s did not open: %s", g.gate.Table().Station, o.Words(false))
	}
	return o, err
}

// A line is two stations' gates and the time of day.
type line struct {
	clock   *clock.Virtual
	in, out *turnstile

	collected, fen int64   // debits and what they sum to
	writes         float64 // pages that cards wrote
}
