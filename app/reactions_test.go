package app_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"koala/app"
	"koala/city/street"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit"
	"koala/tsm"
)

// listed is a card's entry on the deny list as it will be published.
func (w *town) listed(card purse.Number) (d transit.Denied, ok bool) {
	w.Helper()
	w.read(func(q *db.Query) error {
		list, err := transit.DenyList(q, "", 100)
		if i := slices.IndexFunc(list, func(d transit.Denied) bool { return d.Card == card }); i >= 0 {
			d, ok = list[i], true
		}
		return err
	})
	return d, ok
}

func (w *town) wantListed(card purse.Number, reason purse.DenyReason) {
	w.Helper()
	if d, ok := w.listed(card); ok != (reason != purse.Allowed) || d.Reason != reason {
		w.Errorf("on the list: %v, %s; want %s", ok, d.Reason.Words(false), reason.Words(false))
	}
}

// told are the events after seq whose name begins with prefix, as "name
// subject".
func (w *town) told(seq int64, prefix string) (out []string) {
	w.Helper()
	list, err := w.h.Outbox.After(ctx, seq, outbox.MaxPage)
	w.must(err)
	for _, e := range list {
		if strings.HasPrefix(e.Name, prefix) {
			out = append(out, e.Name+" "+e.Subject)
		}
	}
	return out
}

func (w *town) last() int64 {
	w.Helper()
	seq, err := w.h.Outbox.Last(ctx)
	w.must(err)
	return seq
}

// TestBlockedCardIsRefusedAtTheGates: from the order on by the list, later by
// the element; after the unblocking by neither.
func TestBlockedCardIsRefusedAtTheGates(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		r := w.issue("band-1")
		w.carryOut(r, tsm.TopUp, 50_00)
		w.ride(r, "dongdan", "xidan")
		at := func(want terminal.Result, why terminal.Reason) {
			t.Helper()
			w.must(w.h.Tick(ctx)) // publishes the list
			w.must(w.street.Sync(ctx, "dongdan.in"))
			o, err := w.street.Tap(ctx, r.band, "dongdan.in", street.Options{})
			if err != nil || o.Result != want || o.Reason != why {
				t.Fatalf("%s, %v", o.Outcome.Words(false), err)
			}
		}
		o := w.place(r, tsm.Block, 0)
		w.wantListed(r.card, purse.DenyLost)
		at(terminal.Refused, terminal.OnDenyList)
		w.must(w.street.RunAgent(ctx, r.band))
		if o = w.order(o.ID); o.State != tsm.Done {
			t.Fatal(o.State)
		}
		w.wantListed(r.card, purse.DenyLost)
		u := w.place(r, tsm.Unblock, 0)
		w.wantListed(r.card, purse.DenyLost)
		w.must(w.street.RunAgent(ctx, r.band))
		if u = w.order(u.ID); u.State != tsm.Done {
			t.Fatal(u.State)
		}
		w.wantListed(r.card, purse.Allowed)
		at(terminal.Opened, terminal.NoReason)
		w.collect()
		green(t, w.h)
	})
}

// TestBlockGivenUp: a block that was cancelled before the band came leaves the
// card as it was.
func TestBlockGivenUp(t *testing.T) {
	w := newTown(t, config(t))
	r := w.issue("band-1")
	o := w.place(r, tsm.Block, 0)
	w.wantListed(r.card, purse.DenyLost)
	w.write(func(tx *db.Tx) error { _, err := w.h.TSM.Cancel(tx, o.ID); return err })
	w.wantListed(r.card, purse.Allowed)
}

// TestStaffsRefusalStays: what staff put on the list for a reason of their own
// is not taken off by the customer who blocks and unblocks the card.
func TestStaffsRefusalStays(t *testing.T) {
	for _, reason := range []purse.DenyReason{purse.DenyLost, purse.DenyForged, purse.DenyDebt} {
		w := newTown(t, config(t))
		r := w.issue("band-1")
		w.write(func(tx *db.Tx) error { return w.h.Transit.Books().Deny(tx, r.card, reason, "staff say so") })
		o := w.place(r, tsm.Block, 0)
		w.wantListed(r.card, reason)
		w.write(func(tx *db.Tx) error { _, err := w.h.TSM.Cancel(tx, o.ID); return err })
		w.wantListed(r.card, reason)
		w.carryOut(r, tsm.Block, 0)
		w.carryOut(r, tsm.Unblock, 0)
		w.wantListed(r.card, reason)
		if d, _ := w.listed(r.card); d.Why != "staff say so" {
			t.Errorf("the entry says %q", d.Why)
		}
	}
}

// TestReturnedCardIsClosed: a copy of it, wherever it turns up, is refused.
func TestReturnedCardIsClosed(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		r := w.issue("band-1")
		w.carryOut(r, tsm.TopUp, 50_00)
		w.carryOut(r, tsm.Delete, 0)
		w.wantListed(r.card, purse.DenyClosed)
		green(t, w.h)
	})
}

// TestOrderEvents: every change of an order is told once, its end as its end,
// with the last four digits of the card only.
func TestOrderEvents(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		r := w.issue("band-1")
		from := w.last()
		o := w.carryOut(r, tsm.TopUp, 50_00)
		got := w.told(from, "order.")
		if len(got) < 3 || got[0] != "order.changed "+o.ID || got[len(got)-1] != "order.ended "+o.ID {
			t.Errorf("%q", got)
		}
		if n := len(got); slices.Contains(got[:n-1], "order.ended "+o.ID) {
			t.Errorf("it ends more than once: %q", got)
		}
		list, err := w.h.Outbox.After(ctx, 0, outbox.MaxPage)
		w.must(err)
		for _, e := range list {
			if text := string(e.JSON) + e.Subject; strings.Contains(text, string(r.card)) || strings.Contains(text, string(r.card[1:])) {
				t.Errorf("%s tells the card number", e.Name)
			}
		}
		var data struct {
			Kind, State, Band, Card, Owner string
			Fen                            int64
		}
		w.must(json.Unmarshal(list[len(list)-1].JSON, &data))
		if data.Kind != "topup" || data.State != "done" || data.Band != r.band || data.Owner != string(w.who) || data.Fen != 50_00 ||
			data.Card != string(r.card[len(r.card)-4:]) {
			t.Errorf("%s", list[len(list)-1].JSON)
		}
	})
}

var errAfterwards = errors.New("the unit fails afterwards")

// TestFailedUnitLeavesNothing: neither order nor event nor list entry nor hold.
func TestFailedUnitLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		r := w.issue("band-1")
		from := w.last()
		tip, _ := w.h.Book.Tip()
		for _, kind := range []tsm.Kind{tsm.Block, tsm.TopUp, tsm.Delete} {
			req := tsm.Request{Ref: "x:" + string(kind), Kind: kind, Band: r.band, Card: issuing.IDOf(r.card), Customer: string(w.who)}
			if kind == tsm.TopUp {
				req.Amount = money.Fen(50_00)
			}
			err := w.h.Store.Write(ctx, func(tx *db.Tx) error {
				if _, err := w.h.TSM.Place(tx, req); err != nil {
					return err
				}
				return errAfterwards
			})
			if !errors.Is(err, errAfterwards) {
				t.Fatal(err)
			}
		}
		w.wantListed(r.card, purse.Allowed)
		if got := w.told(from, ""); len(got) > 0 {
			t.Errorf("events of what never happened: %q", got)
		}
		if now, _ := w.h.Book.Tip(); now != tip {
			t.Errorf("the journal went from %d to %d", tip, now)
		}
		w.carryOut(r, tsm.TopUp, 50_00) // the card is not busy
		green(t, w.h)
	})
}
