package reconcile

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/settlement"
	"koala/spec/clearing"
)

// disputed is a line of the dispute file about a sale.
func disputed(flag, rrn string, fen int64) clearing.Dispute {
	r := record(rrn, fen, 0, 0)
	return clearing.Dispute{Flag: flag, Agent: r.Agent, Sender: "03080000", Trace: "000777", Sent: "0916101500", PAN: r.PAN, Amount: fen, MTI: "0422", Processing: "000000", MCC: r.MCC,
		Terminal: r.Terminal, RRN: rrn, FirstTrace: r.Trace, Response: "00", Reason: "4515", First: "0901123456", Cleared: "0901", Sold: fen, Merchant: r.Merchant}
}

// behind puts dispute lines behind a general file.
func behind(t testing.TB, general []byte, lines ...clearing.Dispute) []byte {
	t.Helper()
	for _, d := range lines {
		var err error
		if general, err = d.Append(general); err != nil {
			t.Fatal(err)
		}
		general = append(general, '\n')
	}
	return general
}

func (h *house) hear(day calendar.Date, ours []Item, text []byte, hear func(*db.Tx, []Notice) error) (Report, error) {
	return Run(context.Background(), h.store, Day{Host: host, Day: day, Ours: List(ours), File: bytes.NewReader(text), Name: "ERRA", Notices: hear})
}

// TestNoticesAreToldOnce: in the unit of the file, with what the line says; the
// same file again tells nothing, one that is refused never did.
func TestNoticesAreToldOnce(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		old := record("000000000009", 300, 0, 0)
		old.MTI = "0422"
		again := disputed(clearing.ChargedAgain, "000000000002", 200)
		again.MTI = "0420"
		text := behind(t, file(t, old), disputed(clearing.Requested, "000000000001", 100), again)
		var heard [][]Notice
		hear := func(_ *db.Tx, list []Notice) error { heard = append(heard, slices.Clone(list)); return nil }
		boom := errors.New("boom")
		for _, tt := range []struct {
			name string
			text []byte
			hear func(*db.Tx, []Notice) error
			fine bool
			told int
		}{
			{"an unknown flag behind them", behind(t, slices.Clone(text), disputed("E99", "1", 1)), hear, false, 0},
			{"a line cut off", text[:len(text)-30], hear, false, 0},
			{"nobody can keep them", text, func(*db.Tx, []Notice) error { return boom }, false, 0},
			{"taken", text, hear, true, 1},
			{"the same again", text, hear, true, 1},
			{"another file of the day", file(t, old), hear, false, 1},
		} {
			_, err := h.hear(testDay, nil, tt.text, tt.hear)
			if (err == nil) != tt.fine || len(heard) != tt.told {
				t.Errorf("%s: %v, told %d times, want %d", tt.name, err, len(heard), tt.told)
			}
			if n := len(h.all()); !tt.fine && tt.told == 0 && n > 0 {
				t.Errorf("%s: %d exceptions of a refused file", tt.name, n)
			}
		}
		if len(heard) != 1 || len(heard[0]) != 3 {
			t.Fatalf("%+v", heard)
		}
		a, b, c := heard[0][0], heard[0][1], heard[0][2]
		if a.Flag != clearing.ChargedBack || a.Number != "" || a.Reason != "" || a.Fen != 300 || a.Line != 1 {
			t.Errorf("of the general file: %+v", a)
		}
		if b.Flag != clearing.Requested || b.Number != "030800000007770916101500" || b.Reason != "4515" || b.RRN != "000000000001" || b.SoldOn != (calendar.Date{Year: 2015, Month: 9, Day: 1}) || b.Line != 2 || b.Undone {
			t.Errorf("request: %+v", b)
		}
		if !c.Undone || c.Flag != clearing.ChargedAgain || c.At.IsZero() {
			t.Errorf("taken back: %+v", c)
		}
		if strings.Contains(b.PAN.String(), string(b.PAN)) {
			t.Error("a notice shows its card")
		}
		// A request moves nothing; the chargeback and the one taken back do.
		if list := h.all(); len(list) != 2 || list[1].Theirs.Kind != Chargeback || list[1].Gross != -300 || list[0].Theirs.Kind != Presented || list[0].Gross != 200 {
			t.Errorf("%+v", list)
		}
		h.check()
	})
}

// TestLineMovesItsCase: a chargeback that nobody knew before its file came moves
// its case behind the comparison. The exception ends then, or a day later when
// nobody said so, and the movement is compared with no second line.
func TestLineMovesItsCase(t *testing.T) {
	for _, tt := range []struct{ found, signed bool }{{true, false}, {true, true}, {false, false}, {false, true}} {
		dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
			h := open(t, cfg)
			text := behind(t, nil, disputed(clearing.ChargedBack, "000000000001", 10_000))
			if _, err := h.hear(testDay, nil, text, func(*db.Tx, []Notice) error { return nil }); err != nil {
				t.Fatal(err)
			}
			h.check()
			h.take(line("1", -10_000, "clearing unionpay 2015-09-16"))
			h.check()
			x := h.only(MissingHere)
			if tt.signed {
				h.must(func(tx *db.Tx) error {
					_, err := Propose(tx, x.ID, "li", "what is it", "")
					if err == nil {
						_, err = Sign(tx, x.ID, "wang", "hold it")
					}
					return err
				})
				h.check()
			}
			moved := Item{RRN: "000000000001", Kind: Chargeback, State: Cleared, Fen: -10_000, At: noon.Add(17 * time.Hour), Payee: "shop_1"}
			h.must(func(tx *db.Tx) error {
				return post(tx, "dispute:1", "dispute", leg{receivable, 10_000}, leg{settlement.Payable("shop_1"), -10_000})
			})
			for range 2 {
				if tt.found {
					h.must(func(tx *db.Tx) error { return Found(tx, host, []Item{moved}) })
					h.check()
				}
			}
			r, err := h.hear(testDay.AddDays(1), []Item{moved}, nil, nil)
			if err != nil || r.Differs != 0 || (r.Ours.Count == 0) != tt.found {
				t.Errorf("%+v: the day after: %v, %+v", tt, err, r)
			}
			h.check()
			if x, err := h.state(x.ID), error(nil); err != nil || x.State != Closed {
				t.Errorf("%+v: %+v", tt, x)
			}
			if got := h.balance(receivable) | h.balance(Suspense(host)); got != 0 {
				t.Errorf("%+v: something is left", tt)
			}
			// A second chargeback of the sale is another one, though its movement looks alike.
			more := moved
			more.At = more.At.Add(24 * time.Hour)
			if r, err := h.hear(testDay.AddDays(2), []Item{more}, nil, nil); err != nil || r.Differs != 1 {
				t.Errorf("%+v: another movement: %v, %+v", tt, err, r)
			}
		})
	}
}

func (h *house) state(id string) (x Exception) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { x, err = ExceptionOf(q, id); return err })
	return x
}

// TestDisputeLinesBesideSales: our claim in the dispute file is the sale that the
// general file forgot, and what it says is compared by reference like any line.
func TestDisputeLinesBesideSales(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 10_000)
	h.clear(a)
	if _, err := h.run(testDay, []Item{a}, nil); err != nil {
		t.Fatal(err)
	}
	h.only(MissingAtNetwork)
	claim := disputed(clearing.Claimed, a.RRN, 10_000)
	claim.Payable, claim.Owed = 5, 1 // the switch's charge stands among what is paid
	r, err := h.run(testDay.AddDays(1), nil, behind(t, nil, claim, disputed(clearing.Replied, "000000000007", 20)))
	if err != nil || r.Theirs.Net() != 10_000-6+20 {
		t.Fatalf("%v %+v", err, r)
	}
	h.check()
	if x := h.only(MissingHere); x.Theirs.Kind != Copy || x.Gross != 20 {
		t.Errorf("%+v", x)
	}
}
