package reconcile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"koala/calendar"
	"koala/money"
	"koala/spec/clearing"
	"koala/spec/pan"
)

// A FormatError says where a file is not what it should be.
type FormatError struct {
	Line, Column int // from 1; column 0: the whole line
	Need         string
}

// Error names the place and what to do.
func (e *FormatError) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Need)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Need)
}

// Unwrap returns ErrFormat.
func (e *FormatError) Unwrap() error { return ErrFormat }

// A ClassOf tells the kind of a card by its number (debit, credit, prepaid;
// empty: not known): the clearing file has no column for it.
type ClassOf func(pan.PAN) string

// ReadClearing reads the lines of a clearing file (spec/clearing) as items of
// the settlement day. Lines that move no money are left out. class may be nil.
// Lines of the dispute file (clearing.Dispute) may stand among them, as behind
// one another. It stops at the first line that cannot be read, with a
// *FormatError.
func ReadClearing(r io.Reader, day calendar.Date, class ClassOf) iter.Seq2[Item, error] {
	return readClearing(r, day, class, nil)
}

// readClearing adds what lines say in disputes to told, if there is one.
func readClearing(r io.Reader, day calendar.Date, class ClassOf, told *[]Notice) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		in := bufio.NewScanner(r)
		in.Buffer(make([]byte, 0, 1<<16), clearing.MaxLine+2)
		line := 0
		for in.Scan() {
			line++
			text := bytes.TrimSuffix(in.Bytes(), []byte{'\r'})
			if len(text) == 0 {
				continue
			}
			item, moves, said, err := readLine(text, day, class)
			item.Line = line
			if told != nil && err == nil && said.Flag != "" {
				if said.Line = line; len(*told) == MaxNotices {
					err = ErrMany
				}
				*told = append(*told, said)
			}
			if err != nil {
				yield(Item{}, placed(err, line))
				return
			}
			if moves && !yield(item, nil) {
				return
			}
		}
		switch err := in.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(Item{}, &FormatError{line + 1, clearing.MaxLine, "the line is too long: is this a clearing file?"})
		case err != nil:
			yield(Item{}, fmt.Errorf("reading the clearing file behind line %d: %w", line, err))
		}
	}
}

// placed puts the line to an error of one.
func placed(err error, line int) error {
	var e *clearing.Error
	if errors.As(err, &e) {
		return &FormatError{line, e.Column, e.Field + " needs " + e.Need}
	}
	var f *FormatError
	if errors.As(err, &f) {
		f.Line = line
	}
	return err
}

func readLine(text []byte, day calendar.Date, class ClassOf) (x Item, moves bool, said Notice, err error) {
	if clearing.IsDispute(text) {
		x, said, err = readDispute(text, day, class)
		return x, x.Fen != 0 || x.Fee != 0, said, err
	}
	r, err := clearing.Parse(text)
	if err != nil {
		return x, false, said, err
	}
	kind := map[clearing.Kind]Kind{clearing.Sale: Sale, clearing.Void: Void, clearing.Refund: Refund, clearing.Reversal: Reversal,
		clearing.Chargeback: Chargeback, clearing.Presented: Presented}[r.Kind()]
	if kind == "" {
		return x, false, said, nil
	}
	if kind == Sale && r.Condition == "06" {
		kind = Completion
	}
	at, err := sent(r.Sent, day)
	if err != nil {
		return x, false, said, err
	}
	said, _ = noticeOf(r, at)
	x = Item{RRN: r.RRN, Acquirer: r.Agent, TID: r.Terminal, STAN: r.Trace, Date: calendar.Of(at, calendar.Beijing), Kind: kind, State: Cleared,
		Fen: r.Fen(), Fee: r.Payable - r.Receivable, Network: r.SwitchFee, Currency: currencyOf(r.Currency()), At: at}
	if class != nil {
		x.Class = class(r.PAN)
	}
	return x, true, said, nil
}

// currencyOf is the currency of three digits of ISO 4217. The network's own money
// needs none; one that the house does not keep stays as digits, which is as good
// to tell it from ours.
func currencyOf(digits string) money.Currency {
	switch digits {
	case "", "000", "156":
		return money.CNY
	}
	return money.Currency(digits)
}

// sent reads MMDDhhmmss of Beijing: the last such moment before the end of the
// day after the settlement day, for the file has no year.
func sent(s string, day calendar.Date) (time.Time, error) {
	if len(s) != 10 || strings.Trim(s, "0123456789") != "" {
		return time.Time{}, &FormatError{0, 0, "a moment needs ten digits, MMDDhhmmss"}
	}
	two := func(i int) int { return int(s[i]-'0')*10 + int(s[i+1]-'0') }
	month, dom, hour, minute, second := two(0), two(2), two(4), two(6), two(8)
	end := day.AddDays(2).Start(calendar.Beijing)
	for year := day.Year + 1; year > day.Year-4 && hour < 24 && minute < 60 && second < 60; year-- { // to the last leap year
		t := time.Date(year, time.Month(month), dom, hour, minute, second, 0, calendar.Beijing)
		if t.Before(end) && int(t.Month()) == month && t.Day() == dom {
			return t.UTC(), nil
		}
	}
	return time.Time{}, &FormatError{0, 31, "sent needs a moment as MMDDhhmmss"}
}
