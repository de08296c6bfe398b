package transit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/outbox"
	"koala/spec/purse"
)

// A TapEvent is the data of tap.collected and journey.* events: names of
// things, never a whole card number.
type TapEvent struct {
	Card    string `json:"card"` // last four digits
	Device  string `json:"device"`
	Station string `json:"station,omitempty"`
	Kind    string `json:"kind"` // in, out, bus, repair
	Fen     int64  `json:"fen"`
	Journey string `json:"journey,omitempty"`
}

// Collect takes a terminal's batch and returns the number up to which the
// terminal may forget. Every TAC is verified first; then each debit is booked
// in a unit of its own. Taps known before, in any order, with gaps between
// them are all welcome. A debit whose TAC is wrong, or that differs from one
// known under its sequence, is kept for the operator and not booked. An error
// means that nothing after the returned number was taken.
func (o *Office) Collect(ctx context.Context, batch purse.Batch) (release uint32, err error) {
	if batch.First > 0 {
		release = batch.First - 1
	}
	terminal := batch.Terminal
	for i, debit := range batch.Debits {
		number := batch.First + uint32(i)
		if debit.Terminal != terminal {
			return release, fmt.Errorf("number %d of terminal %s is of terminal %s: %w", number, terminal, debit.Terminal, ErrBatch)
		}
		if err := o.take(ctx, debit, number); err != nil {
			return release, fmt.Errorf("number %d of terminal %s: %w", number, terminal, err)
		}
		release = number
	}
	return release, nil
}

// take verifies and books one debit.
func (o *Office) take(ctx context.Context, debit purse.Debit, number uint32) error {
	err := o.keys.CheckDebitTAC(ctx, debit)
	if err != nil {
		if fail.Of(err).Kind != fail.Refused {
			return err // the key store does not work: the terminal keeps it
		}
		return o.store.Write(ctx, func(tx *db.Tx) error { return o.Books().refuse(tx, "tac", debit, number) })
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		_, err := o.Books().Book(tx, debit, number)
		return err
	})
	if errors.Is(err, ErrForked) {
		return o.store.Write(ctx, func(tx *db.Tx) error { return o.Books().refuse(tx, "fork", debit, number) })
	}
	return err
}

func (b Books) refuse(tx *db.Tx, why string, d purse.Debit, number uint32) error {
	body, err := d.MarshalBinary()
	if err != nil {
		return err
	}
	if err := keepOdd(tx, why, d, number, body); err != nil {
		return err
	}
	return numbered(tx, d.Terminal, number)
}

// Book books a debit whose TAC has been verified, once, and returns the
// journey it belongs to. The same again changes nothing; another debit under
// a used sequence is ErrForked.
func (b Books) Book(tx *db.Tx, d purse.Debit, number uint32) (Journey, error) {
	body, err := d.MarshalBinary()
	if err != nil {
		return Journey{}, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	r, err := RulesAt(tx.Now())
	if err != nil {
		return Journey{}, err
	}
	device, err := deviceOr(tx, d.Terminal)
	if err != nil {
		return Journey{}, err
	}
	t := ReadTap(d, device, tx.Now(), r)
	fresh, err := insertDebit(tx, d, number, body, t.At)
	if err != nil {
		return Journey{}, err
	}
	if err := numbered(tx, d.Terminal, number); err != nil {
		return Journey{}, err
	}
	if !fresh {
		return b.again(tx, d, body)
	}
	if err := arrived(tx, ofCard, string(d.Card), int64(d.Seq)); err != nil {
		return Journey{}, err
	}
	if err := takeMoney(tx, d); err != nil {
		return Journey{}, err
	}
	j, err := b.refold(tx, r, d.Card, d.Seq)
	if err != nil {
		return Journey{}, fmt.Errorf("tap %d: %w", d.Seq, err)
	}
	return j, b.tell(tx, t, d, j)
}

// numbered enters the terminal's running number in the gap register.
func numbered(tx *db.Tx, t purse.Terminal, number uint32) error {
	if number == 0 {
		return nil // a device without numbers
	}
	if err := arrived(tx, ofTerminal, t.String(), int64(number)); err != nil {
		return err
	}
	return heardDebit(tx, t, number)
}

func (b Books) again(tx *db.Tx, d purse.Debit, body []byte) (Journey, error) {
	known, err := debitBody(tx, d.Card, d.Seq)
	if err != nil {
		return Journey{}, err
	}
	if !bytes.Equal(known, body) {
		return Journey{}, fmt.Errorf("sequence %d: %w", d.Seq, ErrForked)
	}
	return journeyOfTap(tx, d.Card, d.Seq)
}

func (b Books) tell(tx *db.Tx, t Tap, d purse.Debit, j Journey) error {
	e := TapEvent{Card: tail(d.Card), Device: d.Terminal.String(), Kind: "repair", Fen: int64(d.Fen), Journey: j.ID}
	switch t.Kind {
	case Enter:
		e.Kind = "in"
	case Leave:
		e.Kind = "out"
	case Board, Alight, Single:
		e.Kind = "bus"
	}
	if s, ok := b.Net.ByCode(t.Device.Station); ok {
		e.Station = s.ID
	}
	return outbox.Put(tx, outbox.Event{Name: "tap.collected", Subject: fmt.Sprintf("%s/%d", tail(d.Card), d.Seq), Data: e})
}

// tail is what of a card number may be shown.
func tail(n purse.Number) string { return string(n[max(0, len(n)-4):]) }
