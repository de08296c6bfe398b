package report_test

import (
	"slices"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/report"
	"koala/risk"
	"koala/settlement"
	"koala/switching"
)

// TestEstate: the shops' side counted across packages.
func TestEstate(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		now := time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)
		s, err := db.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if err := s.Migrate(t.Context(), settlement.Schema, merchant.Schema, proposal.Schema, switching.Schema, risk.Schema); err != nil {
			t.Fatal(err)
		}
		book, err := ledger.Open(t.Context(), s, ledger.Config{Inline: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { book.Close() })
		err = s.Write(t.Context(), func(tx *db.Tx) error {
			for _, text := range []string{
				`INSERT INTO merchant_shop (id, merchant, mid, name_en, name_zh, mcc, city, address, state, made) VALUES ('shop_1', 'm', '', 'A', '甲', '5411', '110000', '', 'active', 0)`,
				`INSERT INTO merchant_terminal (tid, serial, kind, shop, place_en, place_zh, life, version, seen, made, moves) VALUES ('10000001', 'a', 'pos', 'shop_1', '', '', 'active', '1.0', 0, 0, 0), ('10000002', 'b', 'pos', 'shop_1', '', '', 'retired', '0.9', 0, 0, 0)`,
				`INSERT INTO settlement_payout (id, day, payee, kind, state, n, fen, at, after, upto, gross, refunds, chargebacks, fee, issuer, network, acquirer, reserved, released, advance, undone, brought, kept, arrives, promised, answered, late, file)
					VALUES ('po_1', '2015-09-15', 'shop_1', 't1', 'sent', 3, 500, 0, 0, 3, 500, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '2015-09-16', 0, 0, 0, '')`,
			} {
				if _, err := tx.Exec(text); err != nil {
					return err
				}
			}
			if err := settlement.OpenHouse(tx); err != nil {
				return err
			}
			if err := settlement.Join(tx, "shop_1", "A"); err != nil {
				return err
			}
			_, err := settlement.PutHold(tx, settlement.Hold{ID: "hold_1", Payee: "shop_1", Reason: settlement.ForStaff, Amount: money.Fen(7_00), Text: "why"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(t.Context(), func(q *db.Query) error {
			lives, err := report.Lives(q)
			if want := []report.Part{{Name: "active", Count: 1}, {Name: "retired", Count: 1}}; err != nil || !slices.Equal(lives, want) {
				t.Errorf("lives %v, %v", lives, err)
			}
			versions, err := report.Versions(q)
			if want := []report.Part{{Name: "1.0", Count: 1}}; err != nil || !slices.Equal(versions, want) {
				t.Errorf("versions %v, %v", versions, err)
			}
			sums, err := report.PayoutSums(q, "2015-09-01")
			if want := []report.PayoutSum{{Day: "2015-09-15", State: "sent", Count: 1, Fen: 500}}; err != nil || !slices.Equal(sums, want) {
				t.Errorf("payouts %v, %v", sums, err)
			}
			holds, err := report.HoldsInForce(q, 10)
			if err != nil || len(holds) != 1 || holds[0].Payee != "shop_1" || holds[0].Fen != 7_00 || holds[0].Reason != "staff" {
				t.Errorf("holds %+v, %v", holds, err)
			}
			for name, f := range map[string]func() (int, error){
				"demands": func() (int, error) { x, err := report.Demands(q); return len(x), err },
				"cities":  func() (int, error) { x, err := report.CityTakings(q, now.Add(-time.Hour), now); return len(x), err },
				"cases":   func() (int, error) { x, err := report.Cases(q); return len(x), err },
				"actions": func() (int, error) { x, err := report.Actions(q, now); return len(x), err },
			} {
				if n, err := f(); err != nil || n != 0 {
					t.Errorf("%s of nothing: %d, %v", name, n, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
