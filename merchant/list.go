package merchant

import (
	"time"

	"koala/internal/db"
)

// An Event is one thing in a merchant's life.
type Event struct {
	Seq      int64
	Merchant string
	About    string // merchant, shop or terminal
	What     string // applied, checking, shop.approved, terminal.injected…
	From, To string // states or numbers; empty: none
	By       string // empty: the house's own program
	Why      string
	At       time.Time
}

const eventColumns = `merchant, seq, about, what, was, is_now, who, why, at`

func (e Event) row() []any {
	return []any{e.Merchant, e.Seq, e.About, e.What, e.From, e.To, e.By, e.Why, micros(e.At)}
}

// tell keeps an event.
func tell(tx *db.Tx, e Event) error {
	e.Seq, e.At = tx.NewSeq(), tx.Now()
	return insert(tx, "merchant_event", eventColumns, e.row())
}
