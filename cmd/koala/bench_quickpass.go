package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"koala/card"
	"koala/internal/clock"
	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// quickpassBudget is what a payment may take in the field.
const quickpassBudget = 500 * time.Millisecond

// How the payments come: so many into one batch of the till, and so many by one
// card, whose e-cash of 1,000 yuan goes down by one fen each time.
const (
	salesPerBatch = 200
	salesPerCard  = 50_000
)

// benchQuickpass pays at a till again and again: the whole payment of card,
// kernel and store, with every certificate and signature checked.
func (f benchFlags) benchQuickpass(ctx context.Context, p *benchProgress) ([]figure, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	now := clock.NewVirtual(morning.AddDate(10, 0, 0))
	till, err := benchTill(now, terminal.Kbit106, false)
	if err != nil {
		return nil, err
	}
	p.step("payments", f.seconds)
	watch := newStopwatch(1 << 18)
	var payer *card.Element
	sold, cards := 0, 0
	for watch.Wall.Seconds() < f.seconds && ctx.Err() == nil {
		if sold%salesPerCard == 0 {
			if payer, err = benchPayer(); err != nil {
				return nil, err
			}
			cards++
		}
		watch.start()
		for n := 0; n < salesPerBatch && (n == 0 || watch.Wall+watch.now()-watch.began < time.Duration(f.seconds*float64(time.Second))); n++ {
			began := watch.now()
			if _, err := payFen(till, payer); err != nil {
				return nil, err
			}
			watch.times = append(watch.times, watch.now()-began)
			now.Advance(time.Minute)
			sold++
		}
		watch.stop()
		if err := cleared(till); err != nil {
			return nil, err
		}
	}
	x := watch.figure("tap", "flash", 1)
	x.Params["card"], x.Params["cards"], x.Params["key_bits"] = "quickpass", cards, 1024
	return []figure{x}, quickpassModel(&x)
}

// benchPayer is the published bank card, filled up.
func benchPayer() (*card.Element, error) {
	b, err := freshBand("bench", gp.AES, clock.Random(11))
	if err != nil {
		return nil, err
	}
	w, err := openWriter(b.Element)
	if err != nil {
		return nil, err
	}
	err = writeBankCard(w, pboc.AIDDebit, func(c *pboc.Card) { c.Balance, c.TotalLimit = 1000_00, 0 })
	w.close()
	return b.Element, err
}

// benchTill is a shop's till that knows the published authority.
func benchTill(now *clock.Virtual, rate terminal.Rate, record bool) (*pos.Till, error) {
	ca, err := testAuthority()
	if err != nil {
		return nil, err
	}
	return pos.New(pos.Config{Kernel: pos.Beijing(posShop, append(emv.CAKeys(), ca)), Clock: now, Random: clock.Random(12),
		Sales: terminal.NewFlash(64), Denied: terminal.NewFlash(4), State: terminal.NewFlash(2), Rate: rate, Record: record})
}

// payFen pays one fen, which must be approved offline.
func payFen(till *pos.Till, payer *card.Element) (pos.Result, error) {
	if err := payer.PowerOn(card.Contactless); err != nil {
		return pos.Result{}, err
	}
	r, err := till.Tap(payer.Transmit, pos.Sale{Fen: 1})
	payer.PowerOff()
	if err == nil && (r.Outcome.Result != kernel.Approved || r.Outcome.Online) {
		err = fmt.Errorf("the till did not approve offline: %s", r.Outcome)
	}
	return r, err
}

// cleared closes the till's batch and checks every cryptogram in it: payments
// that no issuer would take would make the figure a lie.
func cleared(till *pos.Till) error {
	if _, _, err := till.Close(); err != nil {
		return err
	}
	waiting := till.Waiting()
	batch := till.Batch(waiting)
	if len(batch.Records) != waiting {
		return fmt.Errorf("a batch of %d holds %d records", waiting, len(batch.Records))
	}
	for _, c := range batch.Records {
		if err := checkTC(c); err != nil {
			return err
		}
	}
	return till.Release(batch.First + uint32(waiting) - 1)
}

// checkTC makes a record's cryptogram again with the published card's key.
func checkTC(c pboc.Clearing) error {
	data, err := c.ACData()
	if err != nil {
		return err
	}
	key := pboc.NewKey(pboc.TripleDES, [16]byte(mustHex(testMasterAC)))
	if key.Session(c.ATC).MAC(nil, data) != c.AC {
		return fmt.Errorf("%s: the cryptogram is not the card's", c)
	}
	return nil
}

// quickpassModel adds what a payment takes in the field by the model.
func quickpassModel(x *figure) error {
	rates := map[string]tapTime{}
	for _, rate := range []terminal.Rate{terminal.Kbit106, terminal.Kbit424} {
		till, err := benchTill(clock.NewVirtual(morning.AddDate(10, 0, 0)), rate, true)
		if err != nil {
			return err
		}
		payer, err := benchPayer()
		if err != nil {
			return err
		}
		r, err := payFen(till, payer)
		if err != nil {
			return err
		}
		t := fieldTime(r.Took, till.Dialogue(), rate)
		rates[fmt.Sprintf("%d_kbit", rate)] = t
		x.notes = append(x.notes, fmt.Sprintf("payment at %d kbit/s by the model: %.0f ms (activation %.0f, air %.0f, chip %.0f), budget %d ms",
			rate, t.Total, t.Activation, t.Air, t.Compute, quickpassBudget.Milliseconds()))
	}
	x.Params["model"], x.Params["budget_ms"] = rates, quickpassBudget.Milliseconds()
	return nil
}

// fieldTime sums a till's dialogue up by where the time goes.
func fieldTime(took time.Duration, talk []terminal.Exchange, rate terminal.Rate) tapTime {
	var air time.Duration
	for _, x := range talk {
		air += terminal.Air{Rate: rate}.Takes(x.Command, x.Response)
	}
	activation := terminal.Activation(rate)
	return tapTime{Total: inMillis(took), Activation: inMillis(activation), Air: inMillis(air), Compute: inMillis(took - activation - air),
		InTime: took <= quickpassBudget}
}
