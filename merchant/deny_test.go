package merchant_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/merchant"
)

// TestDenyListKeepsOut: what stands on the list fails the next application's
// check, and what is lifted does not.
func TestDenyListKeepsOut(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		ctx := context.Background()
		var keys []string
		for _, l := range []merchant.DenyLine{{Kind: "name", Value: "北京面馆1", Why: "bust-out", Source: "desk"}, {Kind: "licence", Value: licence(2), Why: "forged", Source: "court"}, {Kind: "person", Value: identity(3), Why: "wanted", Source: "police"}} {
			d, err := h.desk.Denied(ctx, l)
			if err != nil {
				t.Fatal(err)
			}
			d.By = "chen"
			h.do(func(tx *db.Tx) error { return errors.Join(merchant.Deny(tx, d), merchant.Deny(tx, d)) })
			keys = append(keys, d.Key())
			if strings.Contains(d.Key(), identity(3)) {
				t.Error("an identity number stands on the list")
			}
		}
		h.read(func(q *db.Query) error {
			list, err := merchant.Denials(q, "", 2)
			more, err2 := merchant.Denials(q, list[len(list)-1].Key, 2)
			if len(list) != 2 || len(more) != 1 || list[0].Kind() != "licence" || list[0].Value() != licence(2) || list[0].Source != "court" || list[0].By != "chen" {
				t.Errorf("%+v %+v", list, more)
			}
			return errors.Join(err, err2)
		})
		denied := func(n int) (out bool) {
			m := h.apply(noodles(n))
			h.read(func(q *db.Query) error {
				all, err := merchant.ChecksOf(q, m.ID)
				for _, c := range all {
					out = out || c.What == merchant.CheckDeny && c.Result == merchant.Fail
				}
				return err
			})
			return out
		}
		for n := 1; n <= 4; n++ {
			if got := denied(n); got != (n < 4) {
				t.Errorf("application %d: denied is %t", n, got)
			}
		}
		h.do(func(tx *db.Tx) error { return merchant.Lift(tx, keys[0]) })
		if err := h.try(func(tx *db.Tx) error { return merchant.Lift(tx, keys[0]) }); !errors.Is(err, merchant.ErrNotFound) {
			t.Errorf("lifted again: %v", err)
		}
		if denied(1) {
			t.Error("a lifted name is denied")
		}
	})
}

func TestReadDenials(t *testing.T) {
	head := "kind,value,reason,source\n"
	for _, tt := range []struct {
		name, file string
		want       string // line:error of each
	}{
		{"one of each", "\uFEFF" + head + "name, 北京面馆,a,b\nlicence," + licence(1) + ",a,b\nperson," + identity(1) + ",a,b\n", "2:<nil> 3:<nil> 4:<nil>"},
		{"bad ones beside a good one", head + "name,x,,b\nlicence,123,a,b\n\nperson,1,a,b\nshop,x,a,b\nname,x\nname,\"x\"y,a,b\nname,x,a,b\n", "2:deny 3:licence 5:id_number 6:deny 7:deny 8:deny 9:<nil>"},
		{"nothing", head, ""},
	} {
		list, err := merchant.ReadDenials(strings.NewReader(tt.file))
		got := []string{}
		for _, l := range list {
			code := "<nil>"
			for _, e := range []struct {
				err  error
				name string
			}{{merchant.ErrDeny, "deny"}, {merchant.ErrLicence, "licence"}, {merchant.ErrIDNumber, "id_number"}} {
				if errors.Is(l.Err, e.err) {
					code = e.name
				}
			}
			got = append(got, fmt.Sprint(l.Line, ":", code))
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "a,b\n", "name,x,a,b\n", head + strings.Repeat("name,x,a,b\n", merchant.MaxDenials+1), head + strings.Repeat("x", merchant.MaxDenyBytes)} {
		if _, err := merchant.ReadDenials(strings.NewReader(bad)); !errors.Is(err, merchant.ErrDeny) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// FuzzReadDenials: a good line written again reads the same, and nothing panics.
func FuzzReadDenials(f *testing.F) {
	f.Add([]byte("kind,value,reason,source\nname,北京面馆,a,b\n"))
	f.Add([]byte("kind,value,reason,source\nlicence,\"92110105MA0000001\n\",a,b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := merchant.ReadDenials(bytes.NewReader(in))
		if err != nil {
			return
		}
		for _, l := range list {
			if l.Err != nil {
				continue
			}
			var b bytes.Buffer
			w := csv.NewWriter(&b)
			_ = w.WriteAll([][]string{{"kind", "value", "reason", "source"}, {l.Kind, l.Value, l.Why, l.Source}})
			again, err := merchant.ReadDenials(&b)
			if want := l; err != nil || len(again) != 1 || again[0].Kind != want.Kind || again[0].Value != want.Value || again[0].Why != want.Why || again[0].Source != want.Source || again[0].Err != nil {
				t.Fatalf("%+v reads again as %+v, %v", l, again, err)
			}
		}
	})
}

// TestWishesToStop: a shop asks once, staff answer once, and a wish that is
// granted stops the terminal.
func TestWishesToStop(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		_, s := h.approved(1)
		var tids []string
		h.do(func(tx *db.Tx) error {
			for i := range 3 {
				x, err := merchant.AddTerminal(tx, merchant.Terminal{Serial: fmt.Sprint("SN-", i), Kind: merchant.POS, Shop: s.ID})
				if err != nil {
					return err
				}
				if tids = append(tids, x.TID); i == 2 {
					break // not installed
				}
				if err := errors.Join(merchant.Live(tx, x.TID, merchant.Injected, "", ""), merchant.Live(tx, x.TID, merchant.InUse, "", "")); err != nil {
					return err
				}
			}
			return nil
		})
		ask := func(tid string) error {
			return h.try(func(tx *db.Tx) error { return merchant.AskStop(tx, tid, "mei") })
		}
		answer := func(tid string, yes bool, why string) error {
			return h.try(func(tx *db.Tx) error { return merchant.AnswerStop(tx, tid, yes, "chen", why) })
		}
		if err := errors.Join(ask(tids[0]), ask(tids[0]), ask(tids[1])); err != nil {
			t.Fatal(err)
		}
		if err := ask(tids[2]); !errors.Is(err, merchant.ErrState) {
			t.Errorf("a terminal that is not in use: %v", err)
		}
		if err := answer(tids[0], true, ""); !errors.Is(err, merchant.ErrStaff) {
			t.Errorf("without a reason: %v", err)
		}
		waits := func(answered bool, want string) {
			t.Helper()
			h.read(func(q *db.Query) error {
				list, err := merchant.Wishes(q, answered, 10)
				got := []string{}
				for _, w := range list {
					got = append(got, fmt.Sprint(w.TID == tids[0], w.By, w.Granted, w.Decider))
				}
				if s := strings.Join(got, "; "); s != want {
					t.Errorf("%s, want %s", s, want)
				}
				return err
			})
		}
		waits(false, "truemeifalse; falsemeifalse")
		if err := errors.Join(answer(tids[0], true, "settled"), answer(tids[1], false, "still needed")); err != nil {
			t.Fatal(err)
		}
		if err := answer(tids[0], true, "settled"); !errors.Is(err, merchant.ErrState) {
			t.Errorf("answered again: %v", err)
		}
		waits(false, "")
		waits(true, "truemeitruechen; falsemeifalsechen")
		h.read(func(q *db.Query) error {
			a, err := merchant.TerminalOf(q, tids[0])
			b, err2 := merchant.TerminalOf(q, tids[1])
			if a.Life != merchant.Stopped || b.Life != merchant.InUse {
				t.Errorf("%s and %s", a.Life, b.Life)
			}
			return errors.Join(err, err2)
		})
		if err := ask(tids[1]); err != nil {
			t.Errorf("asked again: %v", err)
		}
	})
}
