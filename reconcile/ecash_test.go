package reconcile

import (
	"errors"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

// TestFindings: what another desk found stands here once, is signed by two
// whatever it is of, books nothing, and ends by itself when it is found no more.
func TestFindings(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		all := []Type{ECashGap, ECashTwice, ECashProof, ECashUnknown, ECashDoubt, ECashWaits}
		var found []Finding
		for i, typ := range all {
			m := meaningOf[typ]
			if !typ.ECash() || m.Books || m.Next != Desk || m.DoEn == "" || m.DoZh == "" {
				t.Errorf("%s: %+v", typ, m)
			}
			found = append(found, Finding{Type: typ, Ref: "r1", Ours: Item{TID: "10000001", STAN: "7", Fen: int64(i), At: noon}})
		}
		h.must(func(tx *db.Tx) error { return Join(tx, Host{Name: ECashDesk, Bank: bank}) })
		tell := func(list ...Finding) {
			t.Helper()
			h.must(func(tx *db.Tx) error { return Findings(tx, all, list) })
			h.check()
		}
		for range 2 {
			tell(found...)
			if n := len(h.all()); n != len(all) {
				t.Fatalf("%d exceptions", n)
			}
		}
		for _, x := range h.all() {
			h.must(func(tx *db.Tx) error { _, err := Propose(tx, x.ID, "li", "look at it", ""); return err })
			if err := h.write(func(tx *db.Tx) error { _, err := Sign(tx, x.ID, "li", "seen"); return err }); !errors.Is(err, ErrFourEyes) {
				t.Errorf("%s of %d fen is signed by its proposer: %v", x.Type, x.Ours.Fen, err)
			}
			h.must(func(tx *db.Tx) error { _, err := Sign(tx, x.ID, "wang", "seen"); return err })
		}
		gap := h.only(ECashGap)
		h.must(func(tx *db.Tx) error { _, err := Close(tx, gap.ID, Nothing, "wang", "the till is broken"); return err })
		tell(found[:2]...)
		for _, x := range h.all() {
			open := x.Type == ECashTwice
			if (x.State != Closed) != open {
				t.Errorf("%s is %s", x.Type, x.State)
			}
			acts := h.acts(x.ID)
			if last := acts[len(acts)-1]; x.Type == ECashDoubt && (last.Who != System || last.Reason(true) != "电子现金台已了结") {
				t.Errorf("%+v", last)
			}
		}
		tell()
		if got := h.balance(Suspense(ECashDesk)); got != 0 {
			t.Errorf("%d fen were booked", got)
		}
	})
}

func (h *house) acts(id string) (out []Act) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { out, err = History(q, id); return err })
	return out
}
