package rule_test

import (
	"errors"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/issuing/rule"
)

// TestBook: numbers in memory are what the store says at every moment, also
// after a change, and for cards with rulings of their own.
func TestBook(t *testing.T) {
	s := dbtest.Open(t)
	if err := s.Migrate(t.Context(), issuing.Schema); err != nil {
		t.Fatal(err)
	}
	var b rule.Book
	at := time.Date(2015, 8, 30, 0, 0, 0, 0, time.UTC)
	same := func(what string) {
		t.Helper()
		n, err := b.Numbers(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(t.Context(), func(q *db.Query) error {
			for _, card := range []string{"card_1", "card_2"} {
				for _, product := range []string{"p", "other"} {
					for _, name := range []rule.Name{rule.Once, rule.Day, rule.Claim, "unheard"} {
						for _, day := range []int{-1, 0, 1, 9} {
							when := at.AddDate(0, 0, day)
							want, wrong := rule.On(q, card, product, name, when)
							got, err := n.Value(q, card, product, name, when)
							if got != want.Value || errors.Is(err, rule.ErrNone) != errors.Is(wrong, rule.ErrNone) {
								t.Errorf("%s: %s of %s, %s on %s is %d (%v), want %d (%v)", what, name, card, product, when, got, err, want.Value, wrong)
							}
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	same("as made")
	for _, r := range []rule.Ruling{
		{Name: rule.Once, From: at, To: at.AddDate(0, 0, 2), Value: 7},
		{Scope: "p", Name: rule.Once, From: at.AddDate(0, 0, 1), Value: 8},
		{Scope: "p", Name: rule.Day, Value: 9},
		{Scope: "p", Name: rule.Day, Value: 10}, // over the one before
		{Scope: "card_1", Name: rule.Day, From: at, Value: 11},
	} {
		err := s.Write(t.Context(), func(tx *db.Tx) error {
			if _, err := tx.Exec(`INSERT INTO issuing_product (code, valid_from, valid_to, name_en, name_zh, art, package, module, instance, issuer, prefix, province, city, years, deposit, min_load, max_load,
				max_balance, source) VALUES ('p', 0, 0, '', '', '', '', '', '', '', '', '', '', 1, 0, 0, 0, 0, '') ON CONFLICT DO NOTHING`); err != nil {
				return err
			}
			return rule.Set(tx, r)
		})
		if err != nil {
			t.Fatal(err)
		}
		same(r.Scope + " " + string(r.Name))
	}
}
