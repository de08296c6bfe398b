package city

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"koala/band"
	"koala/city/street"
	"koala/internal/db"
	"koala/issuing"
	"koala/merchant"
	"koala/settlement"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit"
	"koala/tsm"
	"koala/wallet"
)

// differs is a checker's finding.
func differs(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProof, fmt.Sprintf(format, args...))
}

// checkTap holds the reader's outcome against what the element did.
func (s *sim) checkTap(r *rider, before pocket, o street.Outcome) error {
	after := s.cards[r.band].now
	moved := after.offline - before.offline
	switch {
	case o.Result == terminal.Opened && o.Reason == terminal.NoReason:
		if o.Stored == nil || moved != 1 || before.fen-after.fen != o.Fen || after.fen != o.Balance {
			return differs("rider %d at %s: opened for %d fen, balance %d; the element moved %d from %d to %d fen", r.n, o.Reader.ID, o.Fen, o.Balance, moved, before.fen, after.fen)
		}
	case o.Result == terminal.Opened, o.Result == terminal.Refused:
		if moved != 0 || before.fen != after.fen {
			return differs("rider %d at %s: %s, and yet the element moved %d from %d to %d fen", r.n, o.Reader.ID, o.Outcome.Words(false), moved, before.fen, after.fen)
		}
	}
	if s.steps%64 == 0 {
		return s.checkRider(r)
	}
	return nil
}

// checkRider holds the books of one person against the element: what the
// house took off the float was spent, what it put on was loaded, and nobody is
// below the floor.
func (s *sim) checkRider(r *rider) error {
	h := s.cards[r.band]
	if int64(h.now.fen) != h.loaded()-h.spent()-int64(h.returned) {
		return differs("rider %d: the element holds %d fen, loaded %d, spent %d, returned %d", r.n, h.now.fen, h.loaded(), h.spent(), h.returned)
	}
	float, err := s.house.Book.Balance(issuing.Float(issuing.IDOf(r.card)))
	if err != nil {
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	own, err := s.house.Book.Balance(wallet.Account(r.who))
	if err != nil {
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	if float.Posted.Sign() < 0 || own.Available.Sign() < 0 {
		return differs("rider %d: float %s, wallet %s available", r.n, float.Posted, own.Available)
	}
	if err := r.checkMore(); err != nil {
		return err
	}
	if booked := r.captured - r.refunded - float.Posted.Minor(); r.captured > h.loaded() || booked < 0 || booked > h.spent() {
		return differs("rider %d: %d fen loaded by the books and %d by the card; %d fen booked, %d spent", r.n, r.captured, h.loaded(), booked, h.spent())
	}
	return nil
}

// checkAll is the full set of checkers.
func (s *sim) checkAll() error {
	if !s.house.Book.TrialBalance().Balanced {
		return differs("the trial balance does not balance")
	}
	held, err := s.held()
	if err != nil {
		return err
	}
	terms := map[string]string{} // terminal and its transaction number to card and sequence
	for _, r := range s.people {
		if r.card == "" || r.who == "" {
			continue
		}
		if err := s.checkRider(r); err != nil {
			return err
		}
		if err := s.checkDebits(r, held, terms); err != nil {
			return err
		}
	}
	return s.house.Store.Read(s.ctx, func(q *db.Query) error {
		wrong, err := settlement.Check(q)
		if err != nil {
			return err
		}
		more, err := transit.Check(q)
		if err != nil {
			return err
		}
		if wrong = append(wrong, more...); len(wrong) > 0 {
			return differs("%d findings, the first: %s", len(wrong), wrong[0])
		}
		odd, err := transit.OddTaps(q, "", 1)
		if err == nil && len(odd) > 0 {
			return differs("a tap was not booked: %s, card …%s sequence %d", odd[0].Why, tail(odd[0].Debit.Card), odd[0].Debit.Seq)
		}
		return err
	})
}

// A tapID names one purchase of one card.
type tapID struct {
	card purse.Number
	seq  uint16
}

// held is every purchase that some reader still keeps or doubts.
func (s *sim) held() (map[tapID]bool, error) {
	out := map[tapID]bool{}
	for _, r := range s.street.Readers() {
		h, err := r.Held()
		if err != nil {
			return nil, err
		}
		for _, d := range h.Debits {
			out[tapID{d.Debit.Card, d.Debit.Seq}] = true
		}
		for _, d := range h.Doubts {
			out[tapID{d.Intent.Card, d.Intent.Seq}] = true
		}
	}
	return out, nil
}

// checkDebits proves that every purchase of a card is either booked as it
// happened or still kept by a reader, and that what the float paid is their sum.
func (s *sim) checkDebits(r *rider, held map[tapID]bool, terms map[string]string) error {
	var booked int64
	err := s.house.Store.Read(s.ctx, func(q *db.Query) error {
		for seq, fen := range s.cards[r.band].debits {
			d, _, _, err := transit.TapOf(q, r.card, seq)
			switch {
			case errors.Is(err, transit.ErrNoJourney) && held[tapID{r.card, seq}]:
				continue
			case errors.Is(err, transit.ErrNoJourney):
				return differs("rider %d: purchase %d of %d fen is neither booked nor kept by a reader", r.n, seq, fen)
			case err != nil:
				return err
			case d.Fen != fen:
				return differs("rider %d: purchase %d took %d fen, booked are %d", r.n, seq, fen, d.Fen)
			}
			id, at := fmt.Sprintf("%s/%d", r.card, seq), fmt.Sprintf("%s/%d", d.Terminal, d.TSeq)
			if other, taken := terms[at]; taken && other != id {
				return differs("terminal transaction %s is booked for %s and for %s", at, other, id)
			}
			terms[at] = id
			booked += int64(fen)
		}
		return nil
	})
	if err != nil {
		return err
	}
	o, err := r.order()
	if err != nil || !o.State.Over() {
		return err // money may be under way
	}
	b, err := s.house.Book.Balance(issuing.Float(issuing.IDOf(r.card)))
	if err == nil && b.Posted.Minor() != r.captured-r.refunded-booked {
		return differs("rider %d: the float holds %d fen, loaded %d, refunded %d, booked %d", r.n, b.Posted.Minor(), r.captured, r.refunded, booked)
	}
	return err
}

// closing ends the run: no more faults, every order ends, every reader hands
// over, two days are settled, and then everything is proved.
func (s *sim) closing() error {
	s.calm = true
	s.breaker.arm(0, false)
	s.street.Wire.Flush()
	if err := s.endOrders(); err != nil {
		return err
	}
	if err := s.endDoubts(); err != nil {
		return err
	}
	if err := s.collectAll(); err != nil {
		return err
	}
	if err := s.handInAll(); err != nil {
		return err
	}
	if err := s.syncAll(); err != nil {
		return err
	}
	if err := s.market.Rest(s.ctx, s.pass); err != nil {
		return err
	}
	for range 2 { // what was booked after a cut-off is paid with the next day
		s.clock.Advance(24 * time.Hour)
		if err := s.house.Tick(s.ctx); err != nil {
			return fmt.Errorf("settling: %w", err)
		}
	}
	if err := s.checkAll(); err != nil {
		return err
	}
	if err := errors.Join(s.checkEnd(), s.market.End(s.ctx)); err != nil {
		return err
	}
	fees, err := s.market.Fees(s.ctx)
	if err != nil {
		return err
	}
	s.count("shops, fees in fen", fees)
	p, err := s.house.Verify(s.ctx)
	if err != nil {
		return fmt.Errorf("verifying: %w", err)
	}
	if !p.OK {
		return differs("verify: %d problems, the first: %s", len(p.Problems), p.Problems[0])
	}
	s.counts["ledger entries"], s.counts["ledger batches"] = int64(p.Entries), int64(p.Batches)
	return nil
}

// endOrders brings every band to a phone until nothing waits for it.
func (s *sim) endOrders() error {
	for _, r := range s.people {
		if len(r.orders) == 0 {
			continue
		}
		for n := 0; ; n++ {
			o, err := r.order()
			if err != nil {
				return err
			}
			if o.State.Over() {
				break
			}
			if n > maxVisits {
				return differs("rider %d: order %s does not end", r.n, o.ID)
			}
			s.clock.Advance(3 * time.Minute)
			if err := s.house.Tick(s.ctx); err != nil {
				return fmt.Errorf("tick: %w", err)
			}
			if err := s.street.RunAgent(s.ctx, r.band); err != nil {
				return fmt.Errorf("rider %d: %w", r.n, err)
			}
			if err := r.look(); err != nil {
				return err
			}
		}
	}
	return nil
}

// endDoubts brings a card whose tap has no known end back to the reader.
func (s *sim) endDoubts() error {
	byCard := map[purse.Number]*rider{}
	for _, r := range s.people {
		byCard[r.card] = r
	}
	for _, at := range s.street.Readers() {
		h, err := at.Held()
		if err != nil {
			return err
		}
		for _, d := range h.Doubts {
			r := byCard[d.Intent.Card]
			s.count("doubts at the end", 1)
			if _, err := s.street.Tap(s.ctx, r.band, at.ID, street.Options{}); err != nil {
				return err
			}
			if err := r.look(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkEnd is what holds when everything was collected and settled.
func (s *sim) checkEnd() error {
	held, err := s.held()
	if err != nil || len(held) > 0 {
		return errors.Join(err, differsIf(len(held) > 0, "readers still keep or doubt %d taps", len(held)))
	}
	for _, r := range s.people {
		if r.card == "" {
			continue
		}
		b, err := s.house.Book.Balance(issuing.Float(issuing.IDOf(r.card)))
		if err != nil {
			return err
		}
		if now := s.cards[r.band].now; b.Posted.Minor() != int64(now.fen) {
			return differs("rider %d: the element holds %d fen, the float %d", r.n, now.fen, b.Posted.Minor())
		}
	}
	return s.house.Store.Read(s.ctx, func(q *db.Query) error {
		for _, cards := range []bool{false, true} {
			gaps, err := transit.Gaps(q, cards, time.Time{}, 1)
			if err != nil {
				return err
			}
			if len(gaps) > 0 {
				return differs("numbers %d to %d of %s %s never arrived", gaps[0].Low, gaps[0].High, gaps[0].Kind, gaps[0].Name)
			}
		}
		counts, err := tsm.Counts(q)
		if err != nil {
			return err
		}
		for state, n := range counts {
			if !state.Over() {
				return differs("%d orders are %s", n, state)
			}
		}
		if err := s.endShops(q); err != nil {
			return err
		}
		if err := s.checkFares(q); err != nil {
			return err
		}
		open, err := settlement.Open(q)
		for _, p := range open {
			agent := strings.HasPrefix(p.Payee, merchant.Payee("")) // is given its part by the closing that has just been: it waits for the next
			if p.Amount.Sign() > 0 && !agent {
				return differs("%s of %s is captured and not settled", p.Amount, p.Payee)
			}
		}
		return err
	})
}

// checkFares counts what staff should look at. What a gate took and what the
// tariff asks must agree, and every device and station must be known.
func (s *sim) checkFares(q *db.Query) error {
	for before := ""; ; {
		some, err := transit.Exceptions(q, before, 500)
		if err != nil {
			return err
		}
		for _, j := range some {
			s.count("exceptions "+string(j.Exception), 1)
			if j.Exception == transit.FareDiffers || j.Exception == transit.UnknownStation || j.Exception == transit.UnknownDevice {
				return differs("journey %s of card …%s: %s: charged %s, due %s", j.ID, tail(j.Card), j.Exception, j.Charged, j.Due)
			}
			before = j.ID
		}
		if len(some) < 500 {
			return nil
		}
	}
}

func differsIf(bad bool, format string, args ...any) error {
	if bad {
		return differs(format, args...)
	}
	return nil
}

// hash sums up books, cards, journeys and devices. It is the same for the
// same seed wherever the books are kept.
func (s *sim) hash() (string, error) {
	sum := sha256.New()
	for _, a := range s.house.Book.Accounts("", "", 1<<30) {
		b, err := s.house.Book.Balance(a.ID)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "account %s %s %d %d\n", a.ID, a.Code, b.Posted.Minor(), b.Held.Minor())
	}
	for _, r := range s.people {
		if r.card == "" {
			continue
		}
		if err := s.hashRider(sum, r); err != nil {
			return "", err
		}
	}
	for _, r := range s.street.Readers() {
		h, err := r.Held()
		if err != nil {
			return "", err
		}
		table, deny := r.Versions()
		fmt.Fprintf(sum, "reader %s %s table %d deny %d %s\n", r.ID, r.Terminal, table, deny, h.Bytes())
	}
	s.market.Sum(sum)
	for _, a := range s.street.Acceptors() {
		pack, err := a.Pack()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "device %s %s pack %d\n", a.ID, a.TID(), pack)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (s *sim) hashRider(sum hash.Hash, r *rider) error {
	err := s.house.Store.Read(s.ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, issuing.IDOf(r.card))
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "card %s %s %s %d %d %d\n", c.ID, c.Customer, c.State, c.Known.Balance.Minor(), c.Known.Online, c.Known.Offline)
		journeys, err := allJourneys(q, r.card)
		for _, j := range journeys {
			fmt.Fprintf(sum, "journey %s %d-%d %s %s %s %s>%s %d %d %d %d %s\n", j.Card, j.First, j.Last, j.Mode, j.State, j.Finish,
				j.From, j.To, j.Metres, j.Charged.Minor(), j.Due.Minor(), j.Adjusted.Minor(), j.Exception)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.street.Look(r.band, func(b *band.Band) error {
		now := s.cards[r.band].now
		r.hashMore(sum)
		fmt.Fprintf(sum, "band %s %d %d %d %v %x\n", r.band, now.fen, now.offline, now.online, now.blocked, sha256.Sum256(b.Image()))
		return nil
	})
}

// allJourneys reads a card's journeys, newest first.
func allJourneys(q *db.Query, card purse.Number) (out []transit.Journey, err error) {
	const page = 500
	for before := -1; ; {
		some, err := transit.JourneysOfCard(q, card, before, page)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
		if len(some) < page {
			return out, nil
		}
		before = int(some[page-1].First)
	}
}

// result sums the run up.
func (s *sim) result() Result {
	out := Result{Seed: s.cfg.Seed, Days: s.cfg.Days, People: s.cfg.People, Steps: s.steps, Faults: s.cfg.Faults, Proof: "ok",
		Store: "sqlite", Counts: s.counts, Injected: s.injected}
	for name, n := range s.market.Counts() {
		s.count("shops, "+name, n)
	}
	if s.cfg.DB != "" {
		out.Store = "postgres"
	}
	if s.breaker.before > 0 {
		s.injected["commit failed"] = int64(s.breaker.before)
	}
	if s.breaker.later > 0 {
		s.injected["commit answer lost"] = int64(s.breaker.later)
	}
	return out
}
