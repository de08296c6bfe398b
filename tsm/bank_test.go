package tsm_test

import (
	"errors"
	"testing"

	"koala/issuing"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/tsm"
)

// bankHouse is a house that issues bank cards.
func bankHouse(t *testing.T) *house {
	t.Helper()
	h := plain(t)
	h.openBank()
	h.product = issuing.ECashCard
	return h
}

func (h *house) openBank() {
	h.t.Helper()
	if err := errors.Join(h.keys.ProvisionBank(ctx), h.try(issuing.SeedBank)); err != nil {
		h.t.Fatal(err)
	}
}

// TestECash writes an e-cash card, loads it twice and reads what it holds.
func TestECash(t *testing.T) {
	h := bankHouse(t)
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	h.settle(h.place(tsm.TopUp, 100_00), tsm.Done)
	h.settle(h.place(tsm.TopUp, 50_00), tsm.Done)
	if v := h.money(); v.wallet != funds-150_00 || v.float != 150_00 || v.held != 0 {
		t.Errorf("money: %+v", v)
	}
	if on := h.band.cash(pboc.AIDECash); on != 150_00 {
		t.Errorf("the card holds %d, want 15000", on)
	}
}

// cash is what an e-cash card in the element says it holds.
func (b *band) cash(aid string) int64 {
	b.t.Helper()
	if r := b.ask(iso7816.Select([]byte(aid))); !r.SW.OK() {
		b.t.Fatalf("SELECT: %v", r.SW)
	}
	r := b.ask(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x79})
	if len(r.Data) != 9 {
		b.t.Fatalf("balance: %v", r)
	}
	fen, err := pboc.ParseAmount(r.Data[3:])
	if err != nil {
		b.t.Fatal(err)
	}
	return int64(fen)
}
