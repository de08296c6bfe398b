package desk_test

import (
	"errors"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/points"
	"koala/web/wearer"
)

// TestPoints: what a card's payments earned and a sale cost, for its holder alone.
func TestPoints(t *testing.T) {
	h := open(t)
	card := h.add(issuing.DebitCard).Number
	has := func() wearer.Points {
		t.Helper()
		p, err := h.desk.Points(t.Context(), ann, card, 10)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := has(); p.Left != 0 || p.WorthFen != 0 || p.PerYuan != 1 || len(p.Moves) != 0 {
		t.Errorf("a new card: %+v", p)
	}
	h.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at, paid) VALUES ($1, 7, $2, 'pay', '2015-09-16', 60050, -1, '00', 'paid', 'shop', 'WOK', $3, 60050)`,
			card, []byte{}, tx.Now().UnixMicro())
		return err
	})
	h.now.Advance(time.Minute)
	h.do(func(tx *db.Tx) error { return points.Spend(tx, "0000002T0001", string(card), 500) })
	p := has()
	if p.Left != 100 || p.WorthFen != 100 || len(p.Moves) != 2 || p.Moves[0].Points != -500 || !p.Moves[0].Spent || p.Moves[0].Where.EN != "0000002T0001" ||
		p.Moves[1].Points != 600 || p.Moves[1].Spent || p.Moves[1].Where.EN != "WOK" {
		t.Errorf("%+v", p)
	}
	h.do(func(tx *db.Tx) error { _, err := tx.Exec(`UPDATE issuing_auth SET paid = 10000`); return err })
	if p := has(); p.Left != -400 || p.WorthFen != 0 {
		t.Errorf("what earned them went back: %+v", p)
	}
	if _, err := h.desk.Points(t.Context(), bob, card, 10); !errors.Is(err, issuing.ErrNotFound) {
		t.Errorf("somebody else's: %v", err)
	}
}
