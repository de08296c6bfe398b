package settlement_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/settlement"
)

func TestBills(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		ctx := context.Background()
		private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		sign := func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }
		check := func(m, sig []byte) error {
			if !ed25519.Verify(private.Public().(ed25519.PublicKey), m, sig) {
				return errors.New("the signature is not ours")
			}
			return nil
		}
		h := open(t, cfg)
		h.shop("wok", nil)
		if _, err := settlement.DayBill(ctx, h.store, "wok", day, sign); !errors.Is(err, settlement.ErrTooEarly) {
			t.Fatalf("a day that runs: %v", err)
		}
		var bills []settlement.Bill
		for i := range 3 {
			d := day.AddDays(i)
			h.sale(fmt.Sprint("s", i), "wok", 100_00+int64(i))
			h.back(fmt.Sprint("r", i), "wok", "refund", 10_00, 100_00)
			h.morning(d)
			b, err := settlement.DayBill(ctx, h.store, "wok", d, sign)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := settlement.DayBill(ctx, h.store, "wok", d, sign); err != nil || again.Hash != b.Hash || again.No != b.No {
				t.Errorf("made twice: %v", err)
			}
			bills = append(bills, b)
		}
		if got := string(bills[0].CSV); !strings.HasSuffix(got, "total,,,,,9000,113,81,12,20,8887\n") || strings.Count(got, "\n") != 4 {
			t.Errorf("bill:\n%s", got)
		}
		month := calendar.Month{Year: 2015, Month: time.September}
		if _, err := settlement.MonthBill(ctx, h.store, "wok", month, sign); !errors.Is(err, settlement.ErrTooEarly) {
			t.Errorf("a month that runs: %v", err)
		}
		h.morning(calendar.Date{Year: 2015, Month: time.September, Day: 30})
		b, err := settlement.MonthBill(ctx, h.store, "wok", month, sign)
		if err != nil || !strings.Contains(string(b.CSV), "total,,,,,,30003,-3000,0,339,0,0,0,0,0,26664\n") {
			t.Errorf("%v, statement:\n%s", err, b.CSV)
		}
		bills = append(bills, b)
		if err := settlement.VerifyBills(bills, [32]byte{}, check); err != nil {
			t.Error(err)
		}
		for _, tt := range []struct {
			name  string
			spoil func(b []settlement.Bill) []settlement.Bill
		}{
			{"one left out", func(b []settlement.Bill) []settlement.Bill { return append(b[:1:1], b[2:]...) }},
			{"two changed places", func(b []settlement.Bill) []settlement.Bill { b[0], b[1] = b[1], b[0]; return b }},
			{"an amount", func(b []settlement.Bill) []settlement.Bill {
				b[1].CSV = []byte(strings.Replace(string(b[1].CSV), "10001", "10002", 1))
				return b
			}},
			{"a signature", func(b []settlement.Bill) []settlement.Bill { b[2].Signature = make([]byte, 64); return b }},
			{"another payee's", func(b []settlement.Bill) []settlement.Bill { b[0].Payee = "pan"; return b }},
		} {
			spoiled := tt.spoil(append([]settlement.Bill{}, bills...))
			if err := settlement.VerifyBills(spoiled, [32]byte{}, check); !errors.Is(err, settlement.ErrBill) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	})
}
