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
		sign := settlement.Signer{Key: "0123456789abcdef", Sign: func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }}
		check := func(form int, key string, m, sig []byte) error {
			if form == settlement.NewForm && key != sign.Key {
				return errors.New("the key is not ours")
			}
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
			{"a key", func(b []settlement.Bill) []settlement.Bill { b[2].Key = "fedcba9876543210"; return b }},
			{"a signature", func(b []settlement.Bill) []settlement.Bill { b[2].Signature = make([]byte, 64); return b }},
			{"another payee's", func(b []settlement.Bill) []settlement.Bill { b[0].Payee = "pan"; return b }},
		} {
			spoiled := tt.spoil(append([]settlement.Bill{}, bills...))
			if err := settlement.VerifyBills(spoiled, [32]byte{}, check); !errors.Is(err, settlement.ErrBill) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		proveKept(t, h, private, bills, check)
		for _, b := range bills {
			back, err := settlement.ParseBill(b.CSV, b.SignatureFile(""))
			if err != nil || back.Hash != b.Hash || back.No != b.No || back.Key != b.Key || string(back.Message()) != string(b.Message()) {
				t.Errorf("read back from files: %v, %+v", err, back)
			}
		}
		if _, err := settlement.ParseBill(bills[0].CSV, bills[1].SignatureFile("")); !errors.Is(err, settlement.ErrBill) {
			t.Errorf("another day's file: %v", err)
		}
	})
}

// proveKept makes the first bill one of the old form, as houses have them, and
// proves the chain as it is kept; then it breaks it in the ways that rows can.
func proveKept(t *testing.T, h *house, private ed25519.PrivateKey, bills []settlement.Bill, check settlement.BillCheck) {
	t.Helper()
	ctx := context.Background()
	exec := func(text string, args ...any) {
		t.Helper()
		if err := h.store.Write(ctx, func(tx *db.Tx) error { _, err := tx.Exec(text, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	wrong := func() (out []string, old bool) {
		t.Helper()
		err := h.store.Read(ctx, func(q *db.Query) (err error) {
			if out, err = settlement.ProveBills(q, check); err == nil {
				old, err = settlement.OldBills(q)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out, old
	}
	if got, old := wrong(); len(got) != 0 || old {
		t.Errorf("proof: %v, old %v", got, old)
	}
	first := bills[0]
	first.Form, first.Key = settlement.OldForm, ""
	exec(`UPDATE settlement_bill SET sign_key = '', signature = $1 WHERE no = 1`, ed25519.Sign(private, first.Message()))
	if got, old := wrong(); len(got) != 0 || !old {
		t.Errorf("proof with an old bill: %v, old %v", got, old)
	}
	back, err := settlement.ParseBill(first.CSV, first.SignatureFile("0011223344556677"))
	if err != nil || back.Key != "0011223344556677" || back.Form != settlement.OldForm || string(back.Message()) != string(first.Message()) {
		t.Errorf("old bill from files: %v", err)
	}
	for _, tt := range []struct{ do, undo string }{
		{`UPDATE settlement_bill SET sign_key = '' WHERE no = 3`, `UPDATE settlement_bill SET sign_key = '0123456789abcdef' WHERE no = 3`},
		{`UPDATE settlement_bill SET period = '2015-01-01' WHERE no = 3`, `UPDATE settlement_bill SET period = '` + bills[2].Period + `' WHERE no = 3`},
		{`UPDATE settlement_bill SET no = 12 WHERE no = 2`, `UPDATE settlement_bill SET no = 2 WHERE no = 12`},
		{`UPDATE settlement_bill SET no = no + 10`, `UPDATE settlement_bill SET no = no - 10`},
	} {
		exec(tt.do)
		if got, _ := wrong(); len(got) != 1 {
			t.Errorf("%s: %v", tt.do, got)
		}
		exec(tt.undo)
	}
	if got, _ := wrong(); len(got) != 0 {
		t.Errorf("proof in the end: %v", got)
	}
}

func FuzzParseBill(f *testing.F) {
	b := settlement.Bill{Payee: "wok", Period: "2015-09-16", No: 3, CSV: []byte("a_fen\n1\n1\n"), Form: settlement.NewForm, Key: "0123456789abcdef", Signature: make([]byte, 64)}
	f.Add(b.CSV, b.SignatureFile(""))
	b.Form = settlement.OldForm
	f.Add(b.CSV, b.SignatureFile("0123456789abcdef"))
	f.Add([]byte{}, []byte("koala bill 2\n"))
	f.Fuzz(func(t *testing.T, file, signature []byte) {
		b, err := settlement.ParseBill(file, signature)
		if err == nil && string(b.SignatureFile(b.Key)) != string(signature) {
			t.Errorf("written back:\n%s", b.SignatureFile(b.Key))
		}
	})
}
