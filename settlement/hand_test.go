package settlement_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/settlement"
)

// TestByHand: persons answer for the bank, and what they answer is kept with who
// and why; the money of what came back is the payee's again once, whatever the
// bank says besides.
func TestByHand(t *testing.T) {
	confirm := func(by, why string) func(*db.Tx, string) error {
		return func(tx *db.Tx, id string) error { return settlement.ConfirmByHand(tx, id, by, why) }
	}
	back := func(by, why string) func(*db.Tx, string) error {
		return func(tx *db.Tx, id string) error { return settlement.ReturnByHand(tx, id, by, why) }
	}
	bank := func(tx *db.Tx, id string) error { return settlement.Return(tx, id, "no such account") }
	for _, tt := range []struct {
		name    string
		acts    []func(*db.Tx, string) error
		want    []error
		state   settlement.State
		owed    int64
		answers string
	}{
		{"confirmed, twice", []func(*db.Tx, string) error{confirm("li", "a letter"), confirm("wang", "a call")}, []error{nil, nil}, settlement.Confirmed, 0, "confirmed li a letter"},
		{"the bank confirms later", []func(*db.Tx, string) error{confirm("li", "a letter"), settlement.Confirm}, []error{nil, nil}, settlement.Confirmed, 0, "confirmed li a letter"},
		{"the bank confirmed before", []func(*db.Tx, string) error{settlement.Confirm, confirm("li", "a letter")}, []error{nil, nil}, settlement.Confirmed, 0, ""},
		{"returned, twice", []func(*db.Tx, string) error{back("li", "a letter"), back("li", "a letter")}, []error{nil, nil}, settlement.Returned, 100_00, "returned li a letter"},
		{"the bank returns it later", []func(*db.Tx, string) error{back("li", "a letter"), bank}, []error{nil, nil}, settlement.Returned, 100_00, "returned li a letter"},
		{"the bank returned it before", []func(*db.Tx, string) error{bank, back("li", "a letter")}, []error{nil, nil}, settlement.Returned, 100_00, ""},
		{"confirmed, then returned", []func(*db.Tx, string) error{confirm("li", "a letter"), back("wang", "a call")}, []error{nil, nil}, settlement.Returned, 100_00, "confirmed li a letter; returned wang a call"},
		{"returned, then confirmed", []func(*db.Tx, string) error{back("li", "a letter"), confirm("li", "a letter")}, []error{nil, settlement.ErrState}, settlement.Returned, 100_00, "returned li a letter"},
		{"nobody", []func(*db.Tx, string) error{confirm("", "a letter"), back("li", "")}, []error{settlement.ErrByHand, settlement.ErrByHand}, settlement.Sent, 0, ""},
		{"a novel", []func(*db.Tx, string) error{back("li", strings.Repeat("x", 1001))}, []error{settlement.ErrByHand}, settlement.Sent, 0, ""},
	} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		h.shop("wok", func(t *settlement.Terms) { t.Category = "" })
		h.sale("s1", "wok", 100_00)
		h.morning(day)
		id := h.last("wok").ID
		for i, act := range tt.acts {
			err := h.store.Write(context.Background(), func(tx *db.Tx) error { return act(tx, id) })
			if !errors.Is(err, tt.want[i]) {
				t.Errorf("%s: act %d: %v, want %v", tt.name, i+1, err, tt.want[i])
			}
			h.now.Advance(time.Minute)
		}
		var answers []string
		h.do(func(tx *db.Tx) error {
			all, err := settlement.AnswersOf(tx, id)
			answers = nil
			for _, a := range all {
				if a.At.IsZero() {
					t.Errorf("%s: no time", tt.name)
				}
				answers = append(answers, string(a.State)+" "+a.By+" "+a.Why)
			}
			return err
		})
		if got := strings.Join(answers, "; "); got != tt.answers || h.last("wok").State != tt.state || h.owed("wok") != tt.owed {
			t.Errorf("%s: %s, %d owed, answers %q; want %s, %d, %q", tt.name, h.last("wok").State, h.owed("wok"), got, tt.state, tt.owed, tt.answers)
		}
		h.check()
	}
}

// TestByHandPaidAgain: what came back by hand is paid once more when the account
// is mended; what waits for its file or paid nothing has no answer.
func TestByHandPaidAgain(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openAt(t, cfg, 9)
		if err := h.store.Migrate(context.Background(), settlement.Schema); err != nil {
			t.Fatal(err)
		}
		h.shop("wok", func(t *settlement.Terms) { t.Category = "" })
		h.sale("s1", "wok", 100_00)
		h.morning(day)
		id := h.last("wok").ID
		h.do(func(tx *db.Tx) error { return settlement.ReturnByHand(tx, id, "li", "a letter") })
		h.sale("s2", "wok", 1_00)
		h.morning(day.AddDays(1))
		h.want("held", "wok", 0, 0, 101_00)
		carried := h.last("wok").ID
		for _, f := range []func(*db.Tx, string, string, string) error{settlement.ConfirmByHand, settlement.ReturnByHand} {
			err := h.store.Write(context.Background(), func(tx *db.Tx) error { return f(tx, carried, "li", "a call") })
			if !errors.Is(err, settlement.ErrState) {
				t.Errorf("a closing that paid nothing: %v", err)
			}
		}
		h.do(func(tx *db.Tx) error { return settlement.SetAccount(tx, "wok", settlement.BankAccount{Masked: "1"}) })
		h.at(day.AddDays(2), 12*time.Hour)
		h.morning(day.AddDays(2))
		h.want("mended", "wok", 101_00, 0, 0)
		h.check()
	})
}
