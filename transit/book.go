package transit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/purse"
	"koala/transit/network"
)

// suspense holds what cards paid until it is shared among the operators, and
// lends when a card's float lacks money that the card has truly spent.
const suspense ledger.AccountID = "clearing.transit"

func openSuspense(tx *db.Tx) error {
	return ledger.OpenAccount(tx, ledger.Account{ID: suspense, Code: "2050", Name: "transit clearing", Currency: money.CNY})
}

// refOf names the ledger entry of a debit.
func refOf(card purse.Number, seq uint16) string { return fmt.Sprintf("transit:%s/%d", card, seq) }

// takeMoney books what the card paid: from its float to the clearing account.
// The card has proved the payment, so it is booked whatever the float says: a
// debit that the float cannot pay, or of a card that is not ours, is covered
// by the clearing account until the money is there.
func takeMoney(tx *db.Tx, d purse.Debit) error {
	if d.Fen == 0 {
		return nil
	}
	e := ledger.Move(refOf(d.Card, d.Seq), issuing.Float(issuing.IDOf(d.Card)), suspense, money.Fen(int64(d.Fen)))
	e.Kind, e.Text = "transit.debit", fmt.Sprintf("tap at %s", d.Terminal)
	_, err := ledger.Post(tx, e)
	if errors.Is(err, ledger.ErrInsufficient) || errors.Is(err, ledger.ErrNoAccount) {
		return setFunded(tx, d.Card, d.Seq, false)
	}
	return err
}

// fund tries again to take what earlier debits of a card could not.
func fund(tx *db.Tx, card purse.Number) error {
	var late []purse.Debit
	err := db.Each(tx, func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		d, err := purse.ParseDebit(body)
		late = append(late, d)
		return err
	}, `SELECT body FROM transit_debit WHERE card = $1 AND NOT funded ORDER BY seq`, string(card))
	if err != nil {
		return err
	}
	for _, d := range late {
		if err := setFunded(tx, card, d.Seq, true); err != nil {
			return err
		}
		if err := takeMoney(tx, d); err != nil {
			return err
		}
	}
	return nil
}

// refold reads the card's taps again around seq and puts journeys, monthly
// totals and operators' shares right. It returns the journey of that tap.
func (b Books) refold(tx *db.Tx, r Rules, card purse.Number, seq uint16) (Journey, error) {
	lead, from, err := foldFrom(tx, card, seq)
	if err != nil {
		return Journey{}, err
	}
	debits, err := debitsFrom(tx, card, lead)
	if err != nil {
		return Journey{}, err
	}
	past, err := b.past(tx, card, from)
	if err != nil {
		return Journey{}, err
	}
	taps := make([]Tap, len(debits))
	was := map[uint16]string{}
	for i, k := range debits {
		device, err := deviceOr(tx, k.debit.Terminal)
		if err != nil {
			return Journey{}, err
		}
		taps[i] = ReadTap(k.debit, device, k.got, r)
		was[k.debit.Seq] = k.journey
	}
	old, err := journeys(tx, `WHERE card = $1 AND first >= $2 ORDER BY first`, string(card), int64(from))
	if err != nil {
		return Journey{}, err
	}
	now := Fold(b.Net, r, past, taps, tx.Now())
	if err := b.write(tx, old, now, was); err != nil {
		return Journey{}, err
	}
	for _, j := range now {
		if slices.Contains(j.Taps, seq) {
			return j, nil
		}
	}
	return Journey{}, fmt.Errorf("tap %d belongs to no journey: %w", seq, ErrState)
}

func (b Books) past(tx *db.Tx, card purse.Number, from uint16) (Past, error) {
	months, err := monthsBefore(tx, card, from)
	if err != nil {
		return Past{}, err
	}
	open, err := gapsOfCard(tx, card)
	if err != nil {
		return Past{}, err
	}
	return Past{Card: card, From: from, Months: months, Gap: func(seq uint16) bool {
		return len(open) > 0 && open[0].Low < int64(seq)
	}}, nil
}

// write replaces old journeys by now. A journey keeps its id as long as it
// has its first tap, or else any tap it had.
func (b Books) write(tx *db.Tx, old, now []Journey, was map[uint16]string) error {
	byID := map[string]Journey{}
	for _, j := range old {
		byID[j.ID] = j
	}
	taken := map[string]bool{}
	for i := range now {
		for _, seq := range now[i].Taps {
			if id := was[seq]; id != "" && !taken[id] {
				now[i].ID, taken[id] = id, true
				break
			}
		}
	}
	for i := range now {
		j := &now[i]
		if j.ID == "" {
			j.ID = tx.NewID("jrny")
		}
		before := byID[j.ID]
		if err := b.settle(tx, before, j); err != nil {
			return err
		}
		for _, seq := range j.Taps {
			if was[seq] != j.ID {
				if err := setJourney(tx, j.Card, seq, j.ID); err != nil {
					return err
				}
			}
		}
		if err := b.share(tx, before, *j); err != nil {
			return err
		}
	}
	for _, j := range old {
		if !taken[j.ID] {
			if err := dropJourney(tx, j.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle writes j if it is not what it was, keeps what a repair did to it,
// checks the step against the table, and tells the world.
func (b Books) settle(tx *db.Tx, before Journey, j *Journey) error {
	j.Changed = before.Changed
	if before.State == Repaired {
		if err := b.keepRepair(tx, before, j); err != nil {
			return err
		}
	}
	if reflect.DeepEqual(before, *j) {
		return nil
	}
	if !before.State.May(j.State) {
		return fmt.Errorf("journey %s from %q to %q: %w", j.ID, before.State, j.State, ErrState)
	}
	j.Changed = tx.Now()
	if err := putJourney(tx, *j); err != nil {
		return err
	}
	name := "journey.corrected"
	if before.State != j.State {
		name = map[State]string{Open: "journey.opened", Closed: "journey.closed", Incomplete: "journey.incomplete", Repaired: "journey.repaired"}[j.State]
	}
	return outbox.Put(tx, outbox.Event{Name: name, Subject: j.ID, Data: b.event(*j)})
}

func (b Books) event(j Journey) TapEvent {
	e := TapEvent{Card: tail(j.Card), Device: j.Device.String(), Kind: string(j.Mode), Fen: j.Charged.Add(j.Adjusted).Minor(), Journey: j.ID}
	if s, ok := b.Net.ByCode(j.To); ok && j.Mode == Rail {
		e.Station = s.ID
	}
	return e
}

// share brings the operators' parts of the journey's money to what its route
// asks for now: the first time by the whole, later by the difference.
func (b Books) share(tx *db.Tx, before, j Journey) error {
	same := before.From == j.From && before.To == j.To && before.Finish == j.Finish && slices.Equal(before.Pays, j.Pays)
	if same || len(j.Pays) == 0 {
		return nil
	}
	for _, seq := range j.Pays {
		fen, terminal, err := paidAt(tx, j.Card, seq)
		if err != nil {
			return err
		}
		want, err := b.parts(tx, j, fen, terminal)
		if err != nil {
			return err
		}
		have, version, err := sharesOf(tx, j.Card, seq)
		if err != nil {
			return err
		}
		ref := refOf(j.Card, seq) + ":shares"
		if version > 0 {
			ref = fmt.Sprintf("%s:%d", ref, version+1)
		}
		if err := b.post(tx, ref, j.Card, int64(seq), suspense, minus(want, have)); err != nil {
			return err
		}
	}
	return nil
}

// parts shares money of a journey by its route; what has no route goes to the
// operator of the device.
func (b Books) parts(tx *db.Tx, j Journey, fen money.Amount, terminal purse.Terminal) ([]network.Share, error) {
	device, err := deviceOr(tx, terminal)
	if err != nil {
		return nil, err
	}
	if j.Mode == Rail && j.Finish != SingleTap {
		at := j.Left
		if at.IsZero() {
			at = j.Entered
		}
		if route, err := routeOf(b.Net, &j); err == nil {
			return b.Net.Split(route, calendar.ServiceDay(at), fen)
		}
	}
	if device.Kind == "" {
		return nil, nil // stays on the clearing account until staff know whose it is
	}
	line := "device"
	if device.Kind == OnBus {
		line = fmt.Sprintf("bus %d", device.Route.Line)
	}
	return []network.Share{{Line: line, Operator: device.Operator, Metres: j.Metres, Fen: fen}}, nil
}

// minus is want less have by line and operator, in a fixed order, zeros left
// out.
func minus(want, have []network.Share) []network.Share {
	type key struct{ line, operator string }
	sum := map[key]network.Share{}
	add := func(s network.Share, sign int) {
		k := key{s.Line, s.Operator}
		t, ok := sum[k]
		if !ok {
			t = network.Share{Line: s.Line, Operator: s.Operator, Fen: money.Fen(0)}
		}
		t.Metres += sign * s.Metres
		if sign < 0 {
			s.Fen = s.Fen.Neg()
		}
		t.Fen = t.Fen.Add(s.Fen)
		sum[k] = t
	}
	for _, s := range want {
		add(s, 1)
	}
	for _, s := range have {
		add(s, -1)
	}
	out := make([]network.Share, 0, len(sum))
	for _, s := range sum {
		if !s.Fen.IsZero() || s.Metres != 0 {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b network.Share) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Line, b.Line))
	})
	return out
}

// post pays shares out of an account and captures them for settlement, one
// capture for each operator. Shares that take back pay into the account.
func (b Books) post(tx *db.Tx, ref string, card purse.Number, seq int64, from ledger.AccountID, shares []network.Share) error {
	var operators []string
	sums := map[string]money.Amount{}
	for _, s := range shares {
		if err := insertShare(tx, ref, card, seq, s); err != nil {
			return err
		}
		if _, ok := sums[s.Operator]; !ok {
			operators = append(operators, s.Operator)
		}
		sums[s.Operator] = money.Fen(0).Add(sums[s.Operator]).Add(s.Fen)
	}
	e := ledger.Entry{Ref: ref, Kind: "transit.share", Text: "shared by line kilometres"}
	left := money.Fen(0)
	for _, o := range operators {
		if sums[o].IsZero() {
			continue
		}
		e.Legs = append(e.Legs, ledger.Leg{Account: settlement.Payable(o), Amount: sums[o]})
		left = left.Sub(sums[o])
		item := settlement.Item{Ref: ref + ":" + o, Payee: o, Amount: sums[o], At: tx.Now(), Kind: "ride"}
		if err := settlement.Capture(tx, item); err != nil {
			return err
		}
	}
	if len(e.Legs) == 0 {
		return nil
	}
	if !left.IsZero() {
		e.Legs = append(e.Legs, ledger.Leg{Account: from, Amount: left})
	}
	_, err := ledger.Post(tx, e)
	return err
}

// Tick closes the wait for exits that are overdue and takes from floats what
// was covered meanwhile.
func (o *Office) Tick(ctx context.Context, now time.Time) error {
	var cards []purse.Number
	var unfunded []purse.Number
	err := o.store.Read(ctx, func(q *db.Query) (err error) {
		if cards, err = cardsOf(q, `SELECT DISTINCT card FROM transit_journey WHERE deadline > 0 AND deadline < $1 ORDER BY card LIMIT $2`, micros(now), maxPage); err != nil {
			return err
		}
		unfunded, err = cardsOf(q, `SELECT DISTINCT card FROM transit_debit WHERE NOT funded ORDER BY card LIMIT $1`, maxPage)
		return err
	})
	if err != nil {
		return fmt.Errorf("transit: %w", err)
	}
	for _, card := range cards {
		if err := o.store.Write(ctx, func(tx *db.Tx) error { return o.Books().expire(tx, card) }); err != nil {
			return fmt.Errorf("transit, overdue journeys: %w", err)
		}
	}
	for _, card := range unfunded {
		if err := o.store.Write(ctx, func(tx *db.Tx) error { return fund(tx, card) }); err != nil {
			return fmt.Errorf("transit, floats: %w", err)
		}
	}
	return o.Publish(ctx)
}

func (b Books) expire(tx *db.Tx, card purse.Number) error {
	open, err := journeys(tx, `WHERE card = $1 AND deadline > 0 AND deadline < $2 ORDER BY first`, string(card), micros(tx.Now()))
	if err != nil {
		return err
	}
	r, err := RulesAt(tx.Now())
	if err != nil {
		return err
	}
	for _, j := range open {
		if _, err := b.refold(tx, r, card, j.First); err != nil {
			return err
		}
	}
	return nil
}
