package issuing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/wallet"
)

// doubt hands a doubt over.
func (h *bankHouse) doubt(c pboc.Clearing, paid bool) issuing.Doubt {
	h.t.Helper()
	d, err := h.bank.TakeDoubt(context.Background(), c, paid, shop)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

func (p *paper) doubts() (out []issuing.Doubt) {
	p.h.t.Helper()
	p.h.do(func(tx *db.Tx) (err error) { out, err = issuing.DoubtsOf(tx, p.id); return err })
	return out
}

// torn is a sale whose end the till does not know: the card has paid or not.
// blind: the cryptogram left with the card.
func (p *paper) torn(fen int64, paid, blind bool) pboc.Clearing {
	c := p.tc(fen)
	if !paid {
		p.fen += fen
	}
	if blind {
		c.AC, c.IAD = [8]byte{}, []byte{0}
	}
	return c
}

// One line per doubt: what the card did, what the till saw, who has the money
// once the card has been heard.
func TestDoubts(t *testing.T) {
	const fen = 8_00
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		h.rich()
		for i, tt := range []struct {
			name  string
			paid  bool // by the card
			blind bool
			seen  bool // the till found it in the card's log
			kind  pboc.ClearingKind
			state issuing.DoubtState
			shop  int64
			mine  int64
		}{
			{"torn, unpaid", false, false, false, pboc.ClearSale, issuing.DoubtUnpaid, 0, 0},
			{"torn, paid", true, false, false, pboc.ClearSale, issuing.DoubtPaid, 0, fen},
			{"torn by contact, paid", true, true, false, pboc.ClearSale, issuing.DoubtPaid, 0, fen},
			{"torn by contact, unpaid", false, true, false, pboc.ClearSale, issuing.DoubtUnpaid, 0, 0},
			{"in the log, goods given", true, true, true, pboc.ClearSale, issuing.DoubtPaid, fen, 0},
			{"in the log, nothing given", true, true, true, pboc.ClearReversal, issuing.DoubtPaid, 0, fen},
			{"told to be in the log, and is not", false, true, true, pboc.ClearSale, issuing.DoubtUnpaid, 0, 0},
		} {
			p := h.paper(issuing.DebitCard, fmt.Sprintf("band_%d", i), 50_00)
			before := p.tc(1_00)
			c := as(p.torn(fen, tt.paid, tt.blind), tt.kind)
			if d := h.doubt(c, tt.seen); d.State != issuing.DoubtWaiting || d.Card != p.id || d.Fen.Minor() != fen {
				t.Errorf("%s: %+v", tt.name, d)
			}
			was, mine := h.available(shop), h.available(wallet.Account(lin))
			h.clear(before)
			p.show()
			d := h.doubt(c, tt.seen) // the same again
			if d.State != tt.state || len(p.doubts()) != 1 {
				t.Errorf("%s: %s, %+v", tt.name, d.State, p.doubts())
			}
			if e := d.Evidence; e.Words(false) == "" || e.Words(true) == "" || e.Missing != map[bool]int64{true: fen}[tt.paid] {
				t.Errorf("%s: evidence %+v", tt.name, e)
			}
			h.want(tt.name, map[ledger.AccountID]int64{shop: was + 1_00 + tt.shop, wallet.Account(lin): mine + tt.mine, issuing.Float(p.id): p.fen})
			if got := h.doubt(c, tt.seen); got.State != tt.state {
				t.Errorf("%s: after its end %s", tt.name, got.State)
			}
		}
	})
}

// A record that comes after all goes before what balances said.
func TestRecordAfterDoubt(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.rich()
	for i, late := range []bool{false, true} {
		p := h.paper(issuing.DebitCard, fmt.Sprintf("band_%d", i), 50_00)
		was := h.available(shop)
		c := p.torn(9_00, true, false)
		h.doubt(c, false)
		if late {
			p.show()
			if d := p.doubts()[0]; d.State != issuing.DoubtPaid {
				t.Errorf("%+v", d)
			}
		}
		h.clear(c) // the card came back: the sale was made
		h.want("late", map[ledger.AccountID]int64{shop: was + 9_00, issuing.Float(p.id): 41_00})
		if d := p.doubts()[0]; !late && d.State != issuing.DoubtRecord {
			t.Errorf("%+v", d)
		}
		h.clear(as(c, pboc.ClearReversal))
		h.want("reversed", map[ledger.AccountID]int64{shop: was, issuing.Float(p.id): 41_00})
	}
}

// Where another terminal may have what is missing, nothing is decided before all
// have handed in.
func TestDoubtsThatBalancesDoNotDecide(t *testing.T) {
	ctx := context.Background()
	h := openBank(t, t.TempDir())
	h.rich()
	ripe := func() {
		if err := h.bank.RipenDoubts(ctx); err != nil {
			t.Fatal(err)
		}
	}
	state := func(p *paper, i int) issuing.DoubtState { return p.doubts()[i].State }

	t.Run("another till has it", func(t *testing.T) {
		p := h.paper(issuing.DebitCard, "band_1", 50_00)
		other := p.tc(5_00)
		d := p.torn(5_00, false, true)
		h.doubt(d, false)
		p.show()
		if ripe(); state(p, 0) != issuing.DoubtWaiting {
			t.Errorf("%+v", p.doubts())
		}
		h.clear(other)
		if state(p, 0) != issuing.DoubtUnpaid {
			t.Errorf("%+v", p.doubts())
		}
	})
	t.Run("nobody has it", func(t *testing.T) {
		p := h.paper(issuing.DebitCard, "band_2", 50_00)
		p.atc++ // begun somewhere, and nothing came of it
		h.doubt(p.torn(5_00, true, true), false)
		p.show()
		if ripe(); state(p, 0) != issuing.DoubtWaiting {
			t.Errorf("%+v", p.doubts())
		}
		h.now.Advance(8 * 24 * time.Hour)
		if ripe(); state(p, 0) != issuing.DoubtPaid {
			t.Errorf("%+v", p.doubts())
		}
		h.want("ripe", map[ledger.AccountID]int64{issuing.Float(p.id): p.fen})
	})
	t.Run("two, and the card paid one", func(t *testing.T) {
		p := h.paper(issuing.DebitCard, "band_3", 50_00)
		h.doubt(p.torn(5_00, true, true), false)
		h.doubt(p.torn(5_00, false, true), true)
		p.show()
		id := p.doubts()[0].ID
		rule := func(paid bool, by, why string) error {
			return h.try(func(tx *db.Tx) error { _, err := h.bank.RuleDoubt(tx, id, paid, by, why); return err })
		}
		if state(p, 0) != issuing.DoubtWaiting || state(p, 1) != issuing.DoubtWaiting {
			t.Errorf("%+v", p.doubts())
		}
		if err := rule(true, "", "because"); !errors.Is(err, issuing.ErrBadInput) {
			t.Errorf("without a name: %v", err)
		}
		if err := rule(true, "staff", "the till's journal"); err != nil {
			t.Error(err)
		}
		if err := rule(false, "staff", "again"); !errors.Is(err, issuing.ErrState) {
			t.Errorf("ruled twice: %v", err)
		}
		if d := p.doubts()[0]; d.State != issuing.DoubtPaid || d.Evidence.Words(false) != "staff: the till's journal" {
			t.Errorf("%+v", d)
		}
		p.show() // and that tells of the other
		if state(p, 1) != issuing.DoubtUnpaid {
			t.Errorf("%+v", p.doubts())
		}
		h.want("ruled", map[ledger.AccountID]int64{issuing.Float(p.id): p.fen})
	})
	t.Run("a stranger's card, and another amount", func(t *testing.T) {
		p := h.paper(issuing.DebitCard, "band_4", 50_00)
		c := p.torn(5_00, false, true)
		h.doubt(c, false)
		c.Fen++
		if _, err := h.bank.TakeDoubt(ctx, c, false, shop); !errors.Is(err, issuing.ErrDiffers) {
			t.Errorf("another amount: %v", err)
		}
		c.PAN = "6228480402564890018"
		if _, err := h.bank.TakeDoubt(ctx, c, false, shop); !errors.Is(err, issuing.ErrNotFound) || strings.Contains(err.Error(), c.PAN) {
			t.Errorf("a stranger: %v", err)
		}
		h.do(func(tx *db.Tx) error {
			list, err := issuing.Doubts(tx, issuing.DoubtWaiting, "", 10)
			if len(list) != 1 || list[0].ATC != c.ATC {
				t.Errorf("waiting: %+v", list)
			}
			return err
		})
	})
}

// A load that nobody saw arrive is decided by the card's next word; staff can.
func TestDoubtfulLoads(t *testing.T) {
	h := openBank(t, t.TempDir())
	for i, tt := range []struct {
		name string
		end  func(p *paper, d issuing.Doubt)
		want issuing.DoubtState
		fen  int64
	}{
		{"the card has it", func(p *paper, _ issuing.Doubt) { p.fen += 30_00; p.show() }, issuing.DoubtPaid, 30_00},
		{"it has not", func(p *paper, _ issuing.Doubt) { p.show() }, issuing.DoubtUnpaid, 0},
		{"its tap tells", func(p *paper, _ issuing.Doubt) { p.fen += 30_00; h.clear(p.tc(10_00)) }, issuing.DoubtPaid, 20_00},
		{"staff say yes", func(p *paper, d issuing.Doubt) {
			p.fen += 30_00
			h.do(func(tx *db.Tx) error {
				_, err := h.bank.RuleDoubt(tx, d.ID, true, "staff", "log read at the desk")
				return err
			})
		}, issuing.DoubtPaid, 30_00},
		{"the script's answer", func(p *paper, _ issuing.Doubt) {
			p.fen += 30_00
			h.do(func(tx *db.Tx) error {
				list, err := issuing.LoadsOf(tx, p.id, 1)
				if err == nil {
					_, err = issuing.ReportScript(tx, list[0].ID, iso7816.OK)
				}
				return err
			})
		}, issuing.DoubtPaid, 30_00},
	} {
		p := h.paper(issuing.DebitCard, fmt.Sprintf("band_%d", i), 0)
		r := p.arqc(issuing.TypeLoad, 30_00)
		p.ask(r)
		d := h.doubt(r, false)
		if d.State != issuing.DoubtWaiting {
			t.Errorf("%s: %+v", tt.name, d)
		}
		tt.end(p, d)
		if got := p.doubts()[0]; got.State != tt.want || got.Evidence.Words(true) == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
		h.want(tt.name, map[ledger.AccountID]int64{issuing.Float(p.id): tt.fen})
	}
	p := h.paper(issuing.DebitCard, "band_9", 0)
	if d := h.doubt(p.arqc(issuing.TypeLoad, 1_00), false); d.State != issuing.DoubtUnpaid || d.Evidence.By == "" {
		t.Errorf("never asked for: %+v", d)
	}
}

// A claim waits for staff where a shop gave something, and for nobody else.
func TestClaimAndDoubts(t *testing.T) {
	h := openBank(t, t.TempDir())
	p := h.paper(issuing.DebitCard, "band_1", 50_00)
	h.doubt(p.torn(5_00, true, true), false)
	given := h.doubt(p.torn(6_00, true, true), true)
	h.do(func(tx *db.Tx) error { _, err := issuing.Suspend(tx, "band_1"); return err })
	h.now.Advance(8 * 24 * time.Hour)
	refund := func() error {
		return h.try(func(tx *db.Tx) error { _, err := issuing.Refund(tx, p.id); return err })
	}
	if err := refund(); !errors.Is(err, issuing.ErrDoubt) {
		t.Errorf("with a shop that waits: %v", err)
	}
	h.do(func(tx *db.Tx) error {
		_, err := h.bank.RuleDoubt(tx, given.ID, true, "staff", "the shop's receipt")
		return err
	})
	if err := refund(); err != nil {
		t.Error(err)
	}
	h.want("paid", map[ledger.AccountID]int64{shop: 6_00, issuing.Float(p.id): 0, wallet.Account(lin): 2000_00 - 6_00})
}

// stroll makes the history of a card and gives what tills hand in of it.
func (p *paper) stroll(script []int, amounts []int64) (out []func(h *bankHouse)) {
	hand := func(c pboc.Clearing) { out = append(out, func(h *bankHouse) { h.clear(c) }) }
	doubt := func(c pboc.Clearing, paid bool) { out = append(out, func(h *bankHouse) { h.doubt(c, paid) }) }
	var kept int64 // by the shop for good: what refunds may give back
	for i, what := range script {
		fen := amounts[i]
		switch what {
		case 0:
			hand(p.tc(fen))
			kept += fen
		case 1, 2: // reversed, goods came back
			c := p.tc(fen)
			hand(c)
			hand(as(c, pboc.ClearReversal+pboc.ClearingKind(what-1)))
		case 3:
			hand(as(p.tc(fen), pboc.ClearReversal))
		case 4, 5, 6: // online: done, given up, done and taken back
			c := p.arqc(issuing.TypePurchase, fen)
			p.ask(c)
			if what != 5 {
				hand(c)
			}
			if what != 4 {
				hand(as(c, pboc.ClearCancel))
			}
		case 7:
			if fen = min(fen, kept); fen > 0 {
				c := p.arqc(issuing.TypeRefund, fen)
				p.ask(c)
				hand(as(c, pboc.ClearRefund))
				kept -= fen
			}
		case 8:
			c := p.arqc(issuing.TypeLoad, fen)
			if a := p.ask(c); a.Why == issuing.Approval {
				p.fen += fen
				hand(c)
			}
		case 9, 10: // torn, with its cryptogram: paid or not
			doubt(p.torn(fen, what == 9, false), false)
		case 11, 12: // found in the log, goods given or not
			doubt(as(p.torn(fen, true, true), pboc.ClearingKind(what-10)), true)
		case 13, 14: // inserted, not from the e-cash; given back
			c := p.inserted(fen)
			hand(c)
			if what == 14 {
				hand(as(c, pboc.ClearReversal))
			} else {
				kept += fen
			}
		}
	}
	return out
}

// The model: what tills hand in, in the order of the card, gives one state of
// the books; any order with any repetition gives the same, and it is the card's.
func TestAnyOrderGivesTheSameBooks(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.rich()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		script := rapid.SliceOfN(rapid.IntRange(0, 14), 1, 5).Draw(t, "script")
		amounts := rapid.SliceOfN(rapid.Int64Range(1, 9_00), len(script), len(script)).Draw(t, "amounts")
		books := func(order func(int) []int) string {
			n++
			p := h.paper(issuing.DebitCard, fmt.Sprintf("band_%d", n), 200_00)
			mine, theirs := h.available(wallet.Account(lin)), h.available(shop)
			deeds := p.stroll(script, amounts)
			for _, i := range order(len(deeds)) {
				deeds[i](h)
			}
			p.show()
			h.clear() // nothing more
			waiting := 0
			for _, d := range p.doubts() {
				if d.State == issuing.DoubtWaiting {
					waiting++
				}
			}
			float := h.available(issuing.Float(p.id))
			if waiting == 0 && float != p.fen {
				t.Fatalf("the card has %d, the books %d; %v", p.fen, float, h.waits(p.id))
			}
			if sum := float + h.available(wallet.Account(lin)) - mine + h.available(shop) - theirs; sum != 200_00 {
				t.Fatalf("200 yuan became %v", money.Fen(sum))
			}
			return fmt.Sprintf("float %d, shop %d, account %d, %v, %d doubts", float, h.available(shop)-theirs, h.available(wallet.Account(lin))-mine, h.waits(p.id), waiting)
		}
		straight := books(func(n int) (out []int) {
			for i := range n {
				out = append(out, i)
			}
			return out
		})
		mixed := books(func(n int) []int {
			if n == 0 {
				return nil
			}
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			order := rapid.Permutation(all).Draw(t, "order")
			return append(order, rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 4).Draw(t, "again")...)
		})
		if straight != mixed {
			t.Fatalf("in order: %s\nmixed up: %s", straight, mixed)
		}
	})
}
