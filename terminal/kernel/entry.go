package kernel

import (
	"errors"

	"koala/spec/emv"
	"koala/spec/iso7816"
)

// A combination is an application with the qualifiers that this amount gives
// it, or the reason why it is out.
type combination struct {
	app Application
	ttq emv.TTQ
	out Reason
}

// preprocess holds the amount against each application's limits before a card
// is there (EMV Contactless Book B, 3.1).
func (k *Kernel) preprocess(tx Transaction) []combination {
	all := make([]combination, 0, len(k.cfg.Applications))
	for _, app := range k.cfg.Applications {
		c := combination{app: app, ttq: k.cfg.TTQ}
		c.ttq[1] &^= 0xC0 // the amount decides 2.8 and 2.7
		offline := c.ttq.Has(emv.TTQOfflineOnly)
		if tx.ForceOnline || app.FloorLimit > 0 && tx.Fen > app.FloorLimit || tx.Fen == 0 && app.ZeroOnline {
			c.ttq.Set(emv.TTQOnline)
		}
		if app.CVMLimit > 0 && tx.Fen >= app.CVMLimit {
			c.ttq.Set(emv.TTQCVM)
		}
		switch {
		case tx.Fen == 0 && (!app.ZeroOnline || offline):
			c.out = AmountZero
		case app.TapLimit > 0 && tx.Fen >= app.TapLimit, offline && c.ttq.Has(emv.TTQOnline):
			c.out = AmountTooHigh
		}
		all = append(all, c)
	}
	return all
}

// Tap runs a contactless transaction, from the first command to the outcome.
// OnlineRequest is the device's to finish: send Outcome.Request to the host
// and give its answer to Outcome.Answered. The error is the device's own, from
// a Seam; of the card there are only outcomes.
func (k *Kernel) Tap(card iso7816.Transmit, tx Transaction, s Seams) (Outcome, error) {
	var open []combination
	refused := NoApplication
	for _, c := range k.preprocess(tx) {
		if c.out == NoReason {
			open = append(open, c)
		} else {
			refused = c.out
		}
	}
	if len(open) == 0 {
		result := OtherInterface
		if refused != AmountTooHigh || !k.contact() {
			result = EndApplication
		}
		return Outcome{Result: result, Reason: refused}, nil
	}
	card = complete(card)
	found, err := k.paymentSystem(card, open)
	if err != nil {
		r := k.newRun(card, tx, s, open[0], false)
		return r.finish(err)
	}
	return k.tryEach(found, tx, func(c Candidate) *run { return k.newRun(card, tx, s, c.combination, false) }, (*run).tap)
}

// contact says whether the terminal has contacts to change to.
func (k *Kernel) contact() bool { return emv.TTQ(k.cfg.TTQ).Has(emv.TTQContact) }

// tryEach goes through the candidates until one comes to an end that counts.
func (k *Kernel) tryEach(found []Candidate, tx Transaction, begin func(Candidate) *run, serve func(*run) error) (Outcome, error) {
	last := Outcome{Result: EndApplication, Reason: NoApplication}
	for _, c := range found {
		r := begin(c)
		r.serve = serve
		err := r.open(c.AID)
		if err == nil {
			err = serve(r)
		}
		o, err := r.finish(err)
		if err != nil || o.Result != SelectNext {
			return o, err
		}
		last = o
		last.Result = EndApplication
	}
	return last, nil
}

// open selects an application and takes its file control information.
func (r *run) open(aid []byte) error {
	data, err := r.ask(iso7816.Select(aid), SelectNext)
	if err != nil {
		var s *stop
		if errors.As(err, &s) && (s.SW == iso7816.SWSelectedBlocked || s.SW == iso7816.SWFunction) {
			s.Reason = CardBlocked
		}
		return err
	}
	if err := r.takeFCI(data); err != nil {
		return end(SelectNext, CardError)
	}
	return nil
}
