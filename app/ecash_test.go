package app_test

import (
	"strings"
	"testing"

	"koala/acquiring"
	"koala/internal/db"
	"koala/reconcile"
	"koala/spec/pboc"
)

// TestECashIsSignedAtTheDesk: what a till hands over of a card that nobody knows
// stands at the reconciliation desk with its name and proposal, in both
// languages; one proposes and another signs, and what has an end closes itself.
func TestECashIsSignedAtTheDesk(t *testing.T) {
	o := openOffice(t)
	shop := o.m.Shops()[0]
	o.must(o.write(func(tx *db.Tx) error {
		err := acquiring.AddDevice(tx, acquiring.Device{TID: "20990001", Kind: acquiring.POS, MID: shop.MID, Shop: shop.Payee})
		if err == nil {
			_, err = tx.Exec(`UPDATE acquiring_device SET state = 'active', seen = 1 WHERE tid = '20990001'`)
		}
		return err
	}))
	if _, err := o.h.Acquiring.KeepDoubt(ctx, "20990001", pboc.Clearing{TID: "20990001", MID: shop.MID, PAN: "6225880000000015", ATC: 7, Fen: 12_00, AID: []byte{0xA0, 0, 0, 3, 0x33, 1, 1}, Currency: 156, Country: 156, Date: [3]byte{0x15, 9, 0x16}, STAN: 1, Batch: 1, Serial: "00000001", IAD: []byte{7, 1, 1, 3, 0, 0, 0, 1}, Kind: pboc.ClearSale}, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o.must(o.h.Tick(ctx))
	}
	list := o.exceptions(reconcile.ECashDesk)
	if len(list) != 1 || list[0].Type != reconcile.ECashUnknown || list[0].Next != reconcile.Desk {
		t.Fatalf("%+v", list)
	}
	at := "/ops/recon/exceptions/" + list[0].ID
	wang, zhao := o.as("wang", "en"), o.as("zhao", "zh")
	for _, tt := range []struct {
		c     colleague
		words []string
	}{{wang, []string{"A card that is not known here", "Ask whose card it is", "E-cash desk", "20990001"}}, {zhao, []string{"未知卡片", "核实卡片归属", "电子现金台"}}} {
		for _, path := range []string{at, "/ops/recon", "/ops/recon/exceptions?host=ecash"} {
			code, body := tt.c.get(path)
			for _, w := range tt.words[:1] {
				if code != 200 || path != "/ops/recon" && !strings.Contains(strings.ToLower(body), strings.ToLower(w)) {
					t.Errorf("%s: %d, without %s", path, code, w)
				}
			}
		}
		_, body := tt.c.get(at)
		for _, w := range tt.words {
			if !strings.Contains(body, w) {
				t.Errorf("the page lacks %s", w)
			}
		}
	}
	state := func() reconcile.ExceptionState {
		var x reconcile.Exception
		o.read(func(q *db.Query) (err error) { x, err = reconcile.ExceptionOf(q, list[0].ID); return err })
		return x.State
	}
	wang.post(at+"/propose", why(), "")
	wang.post(at+"/sign", why(), "")
	if got := state(); got != reconcile.Proposed {
		t.Errorf("signed by its proposer: %s", got)
	}
	zhao.post(at+"/sign", why(), "")
	if got := state(); got != reconcile.Signed {
		t.Errorf("signed by another: %s", got)
	}
	green(t, o.h)
	o.must(o.write(func(tx *db.Tx) error { _, err := tx.Exec(`DELETE FROM acquiring_odd`); return err }))
	o.must(o.h.Tick(ctx))
	if got := state(); got != reconcile.Closed {
		t.Errorf("it has an end, and is %s", got)
	}
}

func (o *office) exceptions(host string) (out []reconcile.Exception) {
	o.Helper()
	o.read(func(q *db.Query) (err error) { out, err = reconcile.Exceptions(q, host, "", "", 50); return err })
	return out
}
