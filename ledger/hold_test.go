package ledger_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

var shop = ledger.Account{ID: "shop", Code: "2030", Name: "payable to a shop", Currency: money.CNY}

// act is one line of a script: authorise, raise, capture, last, void, expire,
// post (from ann to shop) or wait, with a reference, the hold and fen or hours.
type act struct {
	do, ref, hold string
	n             int64
	want          error
	ann           [3]int64 // posted, held, available
	shop          int64
}

func (h *house) act(a act) error {
	if a.do == "wait" {
		h.clock.Advance(time.Duration(a.n) * time.Hour)
		return nil
	}
	return h.write(func(tx *db.Tx) (err error) {
		switch a.do {
		case "authorise":
			_, err = ledger.Authorise(tx, ledger.Hold{Ref: a.ref, From: "ann", To: "shop", Amount: money.Fen(a.n), Expires: start.Add(24 * time.Hour)})
		case "generous":
			_, err = ledger.Authorise(tx, ledger.Hold{Ref: a.ref, From: "ann", To: "shop", Amount: money.Fen(a.n), OverBP: 2_000})
		case "raise":
			_, err = ledger.Raise(tx, a.hold, a.ref, money.Fen(a.n))
		case "capture", "last":
			_, err = ledger.Capture(tx, a.hold, a.ref, money.Fen(a.n), a.do == "last")
		case "void":
			_, err = ledger.Void(tx, a.hold, a.ref)
		case "expire":
			var n int
			if n, err = ledger.ExpireHolds(tx, 100); err == nil && int64(n) != a.n {
				err = fmt.Errorf("%d holds expired", n)
			}
		case "post":
			_, err = ledger.Post(tx, ledger.Move(a.ref, "ann", "shop", money.Fen(a.n)))
		}
		return err
	})
}

func TestHolds(t *testing.T) {
	for _, tt := range []struct {
		name string
		acts []act
	}{
		{"captured in several parts", []act{
			{"authorise", "h", "", 60, nil, [3]int64{100, 60, 40}, 0},
			{"authorise", "h", "", 60, nil, [3]int64{100, 60, 40}, 0},
			{"authorise", "h", "", 61, ledger.ErrDiffers, [3]int64{100, 60, 40}, 0},
			{"capture", "c1", "h", 20, nil, [3]int64{80, 40, 40}, 20},
			{"capture", "c1", "h", 20, nil, [3]int64{80, 40, 40}, 20},
			{"capture", "c1", "h", 21, ledger.ErrDiffers, [3]int64{80, 40, 40}, 20},
			{"capture", "c2", "h", 41, ledger.ErrOverCapture, [3]int64{80, 40, 40}, 20},
			{"last", "c2", "h", 30, nil, [3]int64{50, 0, 50}, 50},
			{"capture", "c3", "h", 1, ledger.ErrHoldEnded, [3]int64{50, 0, 50}, 50},
			{"last", "c2", "h", 30, nil, [3]int64{50, 0, 50}, 50},
		}},
		{"captured exactly ends it", []act{
			{"authorise", "h", "", 60, nil, [3]int64{100, 60, 40}, 0},
			{"capture", "c1", "h", 60, nil, [3]int64{40, 0, 40}, 60},
			{"void", "v", "h", 0, ledger.ErrHoldEnded, [3]int64{40, 0, 40}, 60},
		}},
		{"holds cannot be oversubscribed", []act{
			{"authorise", "h1", "", 60, nil, [3]int64{100, 60, 40}, 0},
			{"authorise", "h2", "", 41, ledger.ErrInsufficient, [3]int64{100, 60, 40}, 0},
			{"post", "p", "", 41, ledger.ErrInsufficient, [3]int64{100, 60, 40}, 0},
			{"authorise", "h2", "", 40, nil, [3]int64{100, 100, 0}, 0},
			{"raise", "r", "h2", 1, ledger.ErrInsufficient, [3]int64{100, 100, 0}, 0},
			{"void", "v", "h1", 0, nil, [3]int64{100, 40, 60}, 0},
			{"raise", "r", "h2", 1, nil, [3]int64{100, 41, 59}, 0},
			{"raise", "r", "h2", 1, nil, [3]int64{100, 41, 59}, 0},
			{"last", "c", "h2", 41, nil, [3]int64{59, 0, 59}, 41},
		}},
		{"more than held, within the allowance", []act{
			{"generous", "h", "", 50, nil, [3]int64{100, 50, 50}, 0},
			{"capture", "c1", "h", 61, ledger.ErrOverCapture, [3]int64{100, 50, 50}, 0},
			{"capture", "c1", "h", 55, nil, [3]int64{45, 0, 45}, 55},
			{"capture", "c2", "h", 6, ledger.ErrOverCapture, [3]int64{45, 0, 45}, 55},
			{"capture", "c2", "h", 5, nil, [3]int64{40, 0, 40}, 60},
			{"capture", "c3", "h", 1, ledger.ErrHoldEnded, [3]int64{40, 0, 40}, 60},
		}},
		{"expiry is exact, whoever writes it down", []act{
			{"authorise", "h", "", 60, nil, [3]int64{100, 60, 40}, 0},
			{"wait", "", "", 23, nil, [3]int64{100, 60, 40}, 0},
			{"expire", "", "", 0, nil, [3]int64{100, 60, 40}, 0},
			{"wait", "", "", 1, nil, [3]int64{100, 0, 100}, 0},
			{"capture", "c", "h", 1, ledger.ErrHoldEnded, [3]int64{100, 0, 100}, 0},
			{"post", "p", "", 100, nil, [3]int64{0, 0, 0}, 100},
			{"expire", "", "", 0, nil, [3]int64{0, 0, 0}, 100},
		}},
		{"expiry by the sweep", []act{
			{"authorise", "h1", "", 10, nil, [3]int64{100, 10, 90}, 0},
			{"authorise", "h2", "", 10, nil, [3]int64{100, 20, 80}, 0},
			{"last", "c", "h1", 10, nil, [3]int64{90, 10, 80}, 10},
			{"wait", "", "", 24, nil, [3]int64{90, 0, 90}, 10},
			{"expire", "", "", 1, nil, [3]int64{90, 0, 90}, 10},
			{"void", "v", "h2", 0, ledger.ErrHoldEnded, [3]int64{90, 0, 90}, 10},
		}},
		{"nothing to act on", []act{
			{"capture", "c", "none", 1, ledger.ErrNoHold, [3]int64{100, 0, 100}, 0},
			{"capture", "c", "fill", 1, ledger.ErrNoHold, [3]int64{100, 0, 100}, 0},
			{"authorise", "h", "", -5, ledger.ErrShape, [3]int64{100, 0, 100}, 0},
			{"authorise", "fill", "", 5, ledger.ErrDiffers, [3]int64{100, 0, 100}, 0},
			{"wait", "", "", 25, nil, [3]int64{100, 0, 100}, 0},
			{"authorise", "h", "", 5, ledger.ErrShape, [3]int64{100, 0, 100}, 0},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, h *house) {
				h.openAccounts(bank, wallet("ann"), shop)
				if _, err := h.post(ledger.Move("fill", "bank", "ann", money.Fen(100))); err != nil {
					t.Fatal(err)
				}
				for i, a := range tt.acts {
					if err := h.act(a); !errors.Is(err, a.want) {
						t.Fatalf("line %d, %s %s: error %v, want %v", i+1, a.do, a.ref, err, a.want)
					}
					if got := h.fen("ann"); got != a.ann {
						t.Fatalf("line %d, %s %s: ann has %v, want %v", i+1, a.do, a.ref, got, a.ann)
					}
					if got := h.fen("shop")[0]; got != a.shop {
						t.Fatalf("line %d, %s %s: the shop has %d, want %d", i+1, a.do, a.ref, got, a.shop)
					}
					h.again() // every line stands after a restart
				}
				h.green()
			})
		})
	}
}

func TestHeldAnswers(t *testing.T) {
	h := newHouse(t, db.Config{URL: t.TempDir() + "/koala.db"}, ledger.Config{Inline: true})
	h.openAccounts(bank, wallet("ann"), ledger.Account{ID: "fuel", Code: "2030", Currency: money.CNY,
		Limits: ledger.Limits{OverCapture: 1_000}})
	until := start.Add(time.Hour)
	h.must(func(tx *db.Tx) error {
		if _, err := ledger.Post(tx, ledger.Move("fill", "bank", "ann", money.Fen(500))); err != nil {
			return err
		}
		_, err := ledger.Authorise(tx, ledger.Hold{Ref: "h", From: "ann", To: "fuel", Amount: money.Fen(100), Expires: until})
		return err
	})
	want := ledger.Held{Ref: "h", From: "ann", To: "fuel", Amount: money.Fen(100), Remaining: money.Fen(10), Captured: money.Fen(90),
		Expires: until, Open: true, Balance: money.Fen(410)}
	for _, replayed := range []bool{false, true, true} {
		var got ledger.Held
		h.must(func(tx *db.Tx) (err error) {
			got, err = ledger.Capture(tx, "h", "c", money.Fen(90), false)
			return err
		})
		want.Seq, want.Replayed = got.Seq, replayed
		if got != want {
			t.Errorf("captured %+v, want %+v", got, want)
		}
		h.again()
	}
	holds, err := h.book.Holds("ann")
	want.Seq, want.Replayed = 0, false
	if err != nil || len(holds) != 1 || holds[0] != want {
		t.Errorf("holds %+v, %v; want %+v", holds, err, want)
	}
	// The receiver's allowance of ten per cent goes beyond what was held.
	h.must(func(tx *db.Tx) error {
		_, err := ledger.Capture(tx, "h", "c2", money.Fen(20), true)
		return err
	})
	if got := h.fen("fuel")[0]; got != 110 {
		t.Errorf("fuel has %d, want 110", got)
	}
}

func TestVelocity(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := wallet("ann")
		ann.Velocity = ledger.Velocity{Limit: 50, Window: 24 * time.Hour} // a Beijing day; now is 09:00
		h.openAccounts(bank, ann, shop)
		if _, err := h.post(ledger.Move("fill", "bank", "ann", money.Fen(1_000))); err != nil {
			t.Fatal(err)
		}
		for i, a := range []act{
			{"post", "p1", "", 30, nil, [3]int64{970, 0, 970}, 30},
			{"authorise", "h1", "", 21, ledger.ErrVelocity, [3]int64{970, 0, 970}, 30},
			{"authorise", "h1", "", 20, nil, [3]int64{970, 20, 950}, 30},
			{"post", "p2", "", 1, ledger.ErrVelocity, [3]int64{970, 20, 950}, 30},
			{"last", "c1", "h1", 15, nil, [3]int64{955, 0, 955}, 45}, // the capture was charged when it was held
			{"post", "p2", "", 6, ledger.ErrVelocity, [3]int64{955, 0, 955}, 45},
			{"post", "p2", "", 5, nil, [3]int64{950, 0, 950}, 50}, // what the hold did not take
			{"wait", "", "", 14, nil, [3]int64{950, 0, 950}, 50},  // 23:00
			{"post", "p3", "", 1, ledger.ErrVelocity, [3]int64{950, 0, 950}, 50},
			{"wait", "", "", 1, nil, [3]int64{950, 0, 950}, 50}, // midnight
			{"post", "p3", "", 50, nil, [3]int64{900, 0, 900}, 100},
		} {
			if err := h.act(a); !errors.Is(err, a.want) {
				t.Fatalf("line %d, %s %s: error %v, want %v", i+1, a.do, a.ref, err, a.want)
			}
			if got := h.fen("ann"); got != a.ann {
				t.Fatalf("line %d, %s %s: ann has %v, want %v", i+1, a.do, a.ref, got, a.ann)
			}
			h.again()
		}
		h.green()
	})
}
