package switching_test

import (
	"errors"
	"reflect"
	"testing"

	"koala/internal/db"
	"koala/internal/proposal"
	"koala/switching/route"
)

// TestRouteProposal: a route changes when two people have said so, once.
func TestRouteProposal(t *testing.T) {
	h := open(t, true, nil)
	want := route.Route{Prefix: "99887766", Class: "debit", StandIn: 10_00, Source: "staff"}
	var p proposal.Proposal
	unit := func(f func(tx *db.Tx) error) error { return h.store.Write(ctx, f) }
	propose := func() error {
		return unit(func(tx *db.Tx) (err error) {
			made, err := proposal.Make(tx, want.About(), want, "lin", "a new range")
			if err == nil {
				p = made
			}
			return err
		})
	}
	confirm := func(by string) error {
		return unit(func(tx *db.Tx) error {
			p, err := proposal.Confirm(tx, route.Kind, p.ID, by)
			var r route.Route
			if err == nil {
				err = p.Read(&r)
			}
			if err == nil {
				err = route.Set(tx, r)
			}
			return err
		})
	}
	there := func() (yes bool) {
		h.read(func(q *db.Query) error {
			list, err := route.List(q, "9988776", 1)
			yes = len(list) == 1 && reflect.DeepEqual(list[0], want)
			return err
		})
		return yes
	}
	if err := propose(); err != nil || there() {
		t.Fatalf("proposed: %v, there %v", err, there())
	}
	if err := propose(); !errors.Is(err, proposal.ErrSame) {
		t.Errorf("twice: %v", err)
	}
	if err := confirm("lin"); !errors.Is(err, proposal.ErrSelf) || there() {
		t.Errorf("by oneself: %v", err)
	}
	if err := unit(func(tx *db.Tx) error { _, err := proposal.Undo(tx, route.Kind, p.ID, "lin"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := confirm("wang"); !errors.Is(err, proposal.ErrState) || there() {
		t.Errorf("taken back: %v", err)
	}
	if err := propose(); err != nil {
		t.Fatal(err)
	}
	if err := confirm("wang"); err != nil || !there() {
		t.Errorf("confirmed: %v, there %v", err, there())
	}
	if err := confirm("zhou"); !errors.Is(err, proposal.ErrState) {
		t.Errorf("twice: %v", err)
	}
	p.ID = "prop_none"
	if err := confirm("wang"); !errors.Is(err, proposal.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	want.Prefix = "x"
	if err := unit(func(tx *db.Tx) error { return route.Set(tx, want) }); !errors.Is(err, route.ErrRoute) {
		t.Errorf("no route: %v", err)
	}
}
