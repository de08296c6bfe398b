package merchant_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
)

var sixteenth = calendar.Of(noon, calendar.Beijing)

// chain is three agents above each other, and a shop that the lowest brought.
func (h *house) chain(points ...int64) (shop string) {
	h.Helper()
	h.do(func(tx *db.Tx) error {
		over := ""
		err := ledger.OpenAccount(tx, ledger.Account{ID: "bank.custody", Code: "1010", Currency: money.CNY})
		for i, p := range points {
			id := fmt.Sprint("agent", i)
			account := settlement.BankAccount{Bank: "ABC", Masked: "****" + fmt.Sprint(1000+i), Sealed: []byte("sealed")}
			err = errors.Join(err, merchant.OpenAgent(tx, merchant.Agent{ID: id, Name: id, Over: over}, account), merchant.SetRate(tx, id, sixteenth.AddDays(-100), p))
			over = id
		}
		return err
	})
	a := noodles(1)
	a.Agent = fmt.Sprint("agent", len(points)-1)
	return h.shop(h.apply(a).ID).ID
}

func (h *house) earn(c merchant.Charge) error {
	return h.try(func(tx *db.Tx) error { return merchant.EarnAll(tx, []merchant.Charge{c}) })
}

// given is what stands on an agent's account and what it was paid.
func (h *house) given(agent string) (owed, paid int64) {
	h.Helper()
	h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, settlement.Payable(merchant.Payee(agent)))
		p, err2 := settlement.Paid(tx, merchant.Payee(agent))
		owed, paid = b.Posted.Minor(), p.Minor()
		return errors.Join(err, err2)
	})
	return owed, paid
}

// TestChargesInAnyOrder draws charges, what undoes them (before them too),
// repetitions, two charges of one unit and nights of settlement: after each,
// every agent has the commission of what is left of each day, and rows, items
// and books agree.
func TestChargesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := open(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		var line []merchant.Share
		var points []int64
		left := int64(10_000)
		for i := range 3 {
			p := rapid.Int64Range(0, left).Draw(rt, "points")
			points, left = append(points, p), left-p
			line = append([]merchant.Share{{Agent: fmt.Sprint("agent", i), Points: p}}, line...) // the shop's own first
		}
		shop := h.chain(points...)
		net := map[calendar.Date]int64{}
		var came []merchant.Charge
		draw := func() merchant.Charge {
			c := merchant.Charge{Ref: fmt.Sprint("charge:", len(came)), Shop: shop, Day: sixteenth.AddDays(-rapid.IntRange(0, 2).Draw(rt, "day")),
				Net: money.Fen(rapid.OneOf(rapid.Int64Range(-300, 300), rapid.Int64Range(-1_000_000, 1_000_000)).Draw(rt, "net"))}
			came, net[c.Day] = append(came, c), net[c.Day]+c.Net.Minor()
			return c
		}
		for range rapid.IntRange(1, 12).Draw(rt, "acts") {
			switch rapid.SampledFrom([]string{"charge", "charge", "two", "again", "night"}).Draw(rt, "act") {
			case "charge":
				if err := h.earn(draw()); err != nil {
					rt.Fatal(err)
				}
			case "two":
				both := []merchant.Charge{draw(), draw()}
				h.do(func(tx *db.Tx) error { return merchant.EarnAll(tx, both) })
			case "again":
				if len(came) > 0 {
					if err := h.earn(rapid.SampledFrom(came).Draw(rt, "which")); err != nil {
						rt.Fatal(err)
					}
				}
			case "night":
				h.now.Advance(24 * time.Hour)
				if err := settlement.RunDue(context.Background(), h.store); err != nil {
					rt.Fatal(err)
				}
			}
			want := map[string]int64{}
			for _, n := range net {
				parts, err := merchant.Commission(line, money.Fen(max(0, n)))
				if err != nil {
					rt.Fatal(err)
				}
				for _, p := range parts {
					want[p.Agent] += p.Amount.Minor()
				}
			}
			for _, s := range line {
				if owed, paid := h.given(s.Agent); owed+paid != want[s.Agent] {
					rt.Fatalf("%s was given %d and %d, want %d of %v", s.Agent, paid, owed, want[s.Agent], net)
				}
			}
			h.proveAgents()
		}
	})
}

// TestAgentsArePaidMonthly: nothing is paid within the month; on the first bank
// day of the next all of the month is, and a debt is carried over.
func TestAgentsArePaidMonthly(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		shop := h.chain(1_000, 5_000)
		if err := h.earn(merchant.Charge{Ref: "a", Shop: shop, Day: sixteenth, Net: fen(1_000)}); err != nil {
			t.Fatal(err)
		}
		until := func(day calendar.Date) {
			t.Helper()
			for h.now.Now().Before(day.Start(calendar.Beijing).Add(6 * time.Hour)) {
				h.now.Advance(24 * time.Hour)
				if err := settlement.RunDue(context.Background(), h.store); err != nil {
					t.Fatal(err)
				}
			}
			h.proveAgents()
		}
		has := func(what string, owed, paid int64) {
			t.Helper()
			if o, p := h.given("agent1"); o != owed || p != paid {
				t.Errorf("%s: %d owed and %d paid, want %d and %d", what, o, p, owed, paid)
			}
		}
		until(calendar.Date{Year: 2015, Month: 9, Day: 30})
		has("in its month", 500, 0)
		until(settlement.Payday(calendar.Month{Year: 2015, Month: 10}).AddDays(1))
		has("after payday", 0, 500)
		if err := h.earn(merchant.Charge{Ref: "b", Shop: shop, Day: sixteenth, Net: fen(-800)}); err != nil {
			t.Fatal(err)
		}
		has("four fifths undone", -400, 500)
		until(settlement.Payday(calendar.Month{Year: 2015, Month: 11}).AddDays(1))
		has("a debt is carried", -400, 500)
		if err := h.earn(merchant.Charge{Ref: "c", Shop: shop, Day: sixteenth.AddDays(30), Net: fen(2_000)}); err != nil {
			t.Fatal(err)
		}
		until(settlement.Payday(calendar.Month{Year: 2015, Month: 12}).AddDays(1))
		has("and made up for", 0, 1_100)
	})
}

// TestAgentWithoutAccountWaits: what an agent earns whose bank account is not
// known is paid when it is.
func TestAgentWithoutAccountWaits(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.do(func(tx *db.Tx) error {
		return errors.Join(merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "王记"}), merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "王记"}))
	})
	holds := func(want int) {
		t.Helper()
		h.read(func(q *db.Query) error {
			list, err := settlement.Holds(q, merchant.Payee("wang"))
			if len(list) != want || want > 0 && list[0].Reason != settlement.ForAccount {
				t.Errorf("%v", list)
			}
			return err
		})
	}
	holds(1)
	h.do(func(tx *db.Tx) error {
		return settlement.SetAccount(tx, merchant.Payee("wang"), settlement.BankAccount{Bank: "ABC", Masked: "****1234"})
	})
	holds(0)
	for _, id := range []string{"", "a b", "a/b", "代理", strings.Repeat("a", 41)} {
		if err := h.try(func(tx *db.Tx) error { return merchant.AddAgent(tx, merchant.Agent{ID: id, Name: "x"}) }); !errors.Is(err, merchant.ErrAgent) {
			t.Errorf("agent %q: %v", id, err)
		}
	}
}

// before is the schema of the version whose agents were no payees.
var before = db.Schema{Owner: "merchant", Steps: merchant.Schema.Steps[:5]}

// TestAccrualsOfBeforeAreCarriedOnce: a store whose agents only had rows gives
// each its sum as a first item, however often it is opened; what is undone
// later is taken of those rows.
func TestAccrualsOfBeforeAreCarriedOnce(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openWith(t, cfg, before)
		h.do(func(tx *db.Tx) error {
			var failed error
			for _, x := range []string{
				`INSERT INTO merchant_agent (id, name, over, made) VALUES ('north', 'north', '', 1), ('wang', 'wang', 'north', 1), ('idle', 'idle', '', 1)`,
				`INSERT INTO merchant_rate (agent, since, points) VALUES ('north', '2015-01-01', 1000), ('wang', '2015-01-01', 5000)`,
				`INSERT INTO merchant_accrual (ref, agent, month, shop, fen, at) VALUES ('payout_1:2015-09-10', 'north', '2015-09', 'shop_1', 10, 1), ('payout_1:2015-09-10', 'wang', '2015-09', 'shop_1', 50, 1),
					('payout_2:2015-09-11', 'north', '2015-09', 'shop_1', 3, 1), ('payout_2:2015-09-11', 'wang', '2015-09', 'shop_1', 15, 1), ('odd', 'wang', '2015-09', 'shop_1', 7, 1)`,
				`INSERT INTO merchant_month (month, agent, n, fen) VALUES ('2015-09', 'north', 2, 13), ('2015-09', 'wang', 3, 72)`,
				`INSERT INTO merchant_fee (shop, day, fen) VALUES ('shop_1', '2015-09-10', 100), ('shop_1', '2015-09-11', 30)`,
				`INSERT INTO merchant_party (id, form, name, licence, ident, legal, id_mask, phone, bank, holder, account_mask, account, sealed, city, agent, state, risk, made, changed)
					VALUES ('merchant_1', 'micro', 'x', '', '', '', '', '', '', '', '', '', '', '110000', 'wang', 'active', 'C', 1, 1)`,
				`INSERT INTO merchant_count (city, state, n) VALUES ('110000', 'active', 1)`,
				`INSERT INTO merchant_shop (id, merchant, mid, name_en, name_zh, mcc, city, address, state, made) VALUES ('shop_1', 'merchant_1', '123', '', '', '5812', '110000', '', 'active', 1)`,
			} {
				_, err := tx.Exec(x)
				failed = errors.Join(failed, err)
			}
			return failed
		})
		for range 2 {
			if err := h.store.Migrate(context.Background(), merchant.Schema); err != nil {
				t.Fatal(err)
			}
		}
		h.do(func(tx *db.Tx) error {
			wrong, err := merchant.ProveAgents(tx)
			if len(wrong) != 3 {
				t.Errorf("agents that are no payees: %v", wrong)
			}
			return err
		})
		// A charge that comes before the carrying opens the agents of its line.
		back := merchant.Charge{Ref: "payout_3:2015-09-10", Shop: "shop_1", Day: calendar.Date{Year: 2015, Month: 9, Day: 10}, Net: fen(-100)}
		if err := errors.Join(h.earn(back), h.earn(back)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			h.do(func(tx *db.Tx) error {
				next, err := merchant.OpenAgents(tx, "", 2)
				if err == nil && next != "north" {
					t.Errorf("the page ends at %q", next)
				}
				if err == nil {
					next, err = merchant.OpenAgents(tx, next, 2)
				}
				if next != "" {
					t.Errorf("and goes on at %q", next)
				}
				return err
			})
			for agent, want := range map[string]int64{"north": 3, "wang": 22, "idle": 0} {
				if owed, _ := h.given(agent); owed != want {
					t.Errorf("%s has %d, want %d", agent, owed, want)
				}
			}
			h.proveAgents()
		}
	})
}

// torn breaks commits at chosen batches.
type torn struct {
	n             int
	before, after map[int]bool
}

func (f *torn) BeforeCommit(int64) error { f.n++; return broken(f.before[f.n]) }
func (f *torn) AfterCommit(int64) error  { return broken(f.after[f.n]) }

func broken(yes bool) error {
	if yes {
		return errors.New("torn")
	}
	return nil
}

// TestCutBetweenAccrualAndItem: a unit that fails after the row of accrual and
// before the item, before the commit, or behind it without an answer, and is
// tried again, gives each its part once.
func TestCutBetweenAccrualAndItem(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		f := &torn{before: map[int]bool{}, after: map[int]bool{}}
		cfg.Faults = f
		h := open(t, cfg)
		shop := h.chain(1_000, 5_000)
		c := merchant.Charge{Ref: "a", Shop: shop, Day: sixteenth, Net: fen(100)}
		nothing := func(when string) {
			t.Helper()
			h.dues(sixteenth.MonthOf(), map[string]int64{})
			h.proveAgents()
			if owed, _ := h.given("agent0"); owed != 0 {
				t.Errorf("%s: %d", when, owed)
			}
		}
		// The item cannot be kept: another stands under its name.
		inTheWay := settlement.Item{Ref: "share:a/agent0", Payee: merchant.Payee("agent0"), Amount: fen(1), Kind: "other"}
		err := h.try(func(tx *db.Tx) error {
			if err := settlement.Capture(tx, inTheWay); err != nil {
				return err
			}
			return merchant.EarnAll(tx, []merchant.Charge{c})
		})
		if !errors.Is(err, settlement.ErrDiffers) {
			t.Fatal(err)
		}
		nothing("between row and item")
		f.before[f.n+1] = true
		if err := h.earn(c); !errors.Is(err, db.ErrNotSaved) {
			t.Fatal(err)
		}
		nothing("before the commit")
		f.after[f.n+1] = true
		if err := h.earn(c); !errors.Is(err, db.ErrUnknown) {
			t.Fatal(err)
		}
		if err := h.earn(c); err != nil {
			t.Fatal(err)
		}
		h.dues(sixteenth.MonthOf(), map[string]int64{"agent0": 10, "agent1": 50})
		h.proveAgents()
	})
}

// earner makes the test binary a process that earns until it is killed: store
// and shop, separated by a newline.
const earner = "KOALA_MERCHANTTEST_EARNER"

func TestMain(m *testing.M) {
	if what := os.Getenv(earner); what != "" {
		at, shop, _ := strings.Cut(what, "\n")
		fmt.Println("error", earnFor(at, shop))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func charges(shop string, i int) []merchant.Charge {
	c := merchant.Charge{Ref: fmt.Sprint("charge:", i), Shop: shop, Day: sixteenth, Net: fen(int64(100 + i%7))}
	if i%3 == 2 {
		c.Net = c.Net.Neg()
	}
	return []merchant.Charge{c}
}

// earnFor says the number of each charge when its unit has returned. It begins
// with the first: those that are in change nothing.
func earnFor(at, shop string) error {
	store, err := db.Open(context.Background(), db.Config{URL: at, Clock: clock.NewVirtual(noon)})
	if err != nil {
		return err
	}
	if _, err := ledger.Open(context.Background(), store, ledger.Config{}); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := store.Write(context.Background(), func(tx *db.Tx) error { return merchant.EarnAll(tx, charges(shop, i)) }); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKilledEarnerGivesOnce kills a process that earns, where chance has it:
// what it answered is there, everything is there once, and books and items agree.
func TestKilledEarnerGivesOnce(t *testing.T) {
	file := dbtest.File(t)
	h := open(t, db.Config{URL: file})
	shop := h.chain(1_000, 5_000)
	h.close()
	answered := 0
	for round := range 5 {
		answered = max(answered, killed(t, file+"\n"+shop, 10+13*round))
		h := open(t, db.Config{URL: file})
		h.proveAgents()
		for i := range answered {
			if err := h.try(func(tx *db.Tx) error { return merchant.EarnAll(tx, charges(shop, i)) }); err != nil {
				t.Fatal(err)
			}
		}
		h.proveAgents()
		h.close()
	}
	h = open(t, db.Config{URL: file})
	all, sum := 0, int64(0)
	h.read(func(q *db.Query) error {
		for after := ""; ; {
			list, err := merchant.Statement(q, "agent1", sixteenth.MonthOf(), after, 100)
			for _, a := range list {
				after, all, sum = a.Ref, all+1, sum+a.Net.Minor()
			}
			if err != nil || len(list) == 0 {
				return err
			}
		}
	})
	owed, _ := h.given("agent1")
	if parts, _ := merchant.Commission([]merchant.Share{{"agent1", 5_000}, {"agent0", 1_000}}, fen(sum)); all < answered || owed != parts[0].Amount.Minor() {
		t.Errorf("%d of %d charges, %d of %d fen", all, answered, owed, sum)
	}
}

// killed runs an earner until it has answered so often, kills it and says how
// many it answered.
func killed(t *testing.T, what string, most int) (answered int) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), earner+"="+what)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for answered < most && lines.Scan() {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Fatal(lines.Text())
		}
		answered++
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	return answered
}

// openWith opens a house whose merchant tables are those of a schema.
func openWith(t tester, cfg db.Config, schema db.Schema) *house {
	h := openBare(t, cfg)
	if err := h.store.Migrate(context.Background(), outbox.Schema, settlement.Schema, schema); err != nil {
		t.Fatal(err)
	}
	return h
}
