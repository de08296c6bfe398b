package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/foreign"
	"koala/city/market"
	"koala/customer"
	"koala/dispute"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing/bin"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/reconcile"
	"koala/settlement"
	"koala/spec/pan"
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/web"
	"koala/web/merchant/shell"
)

// pastDays is how long the demo's shops have sold before the city wakes, so
// that payouts and statements have something to say.
const pastDays = 5

// A shopLogin is a printed login of somebody who works in a shop of the market.
type shopLogin struct {
	demoLogin
	shop string
	role shell.Role
}

var shopLogins = []shopLogin{
	{demoLogin{web.DemoUser{Name: "qian", Password: "jialian-2015", Shown: "钱多", Home: "/merchant/", Hint: web.Text{ZH: "家联超市的老板", EN: "owns Jialian Supermarket"}}, "13800003001", customer.Trader}, "jialian", shell.Owner},
	{demoLogin{web.DemoUser{Name: "sun", Password: "shouyin-2015", Shown: "孙丽", Home: "/merchant/", Hint: web.Text{ZH: "家联超市的收银员", EN: "cashier at Jialian Supermarket"}}, "13800003002", customer.Trader}, "jialian", shell.Cashier},
	{demoLogin{web.DemoUser{Name: "zhou", Password: "kuaiji-2015", Shown: "周账", Home: "/merchant/", Hint: web.Text{ZH: "家联超市的会计", EN: "accountant of Jialian Supermarket"}}, "13800003003", customer.Trader}, "jialian", shell.Accountant},
	{demoLogin{web.DemoUser{Name: "dong", Password: "pifa-2015", Shown: "董方", Home: "/merchant/", Hint: web.Text{ZH: "东方批发行的老板，可即时到账", EN: "owns Dongfang Wholesale, which is paid at once"}}, "13800003004", customer.Trader}, "dongfang", shell.Owner},
}

// A tender is a card of a simulated bank, known by its stripe.
type tender struct{ track, pin string }

// shops are the merchants of the demo, who take cards of the simulated banks
// over the switch.
type shops struct {
	m      *market.Market
	house  *app.House
	banks  *banks
	clock  *clock.Scaled
	cards  []tender
	tills  []*market.Till
	dice   *rand.Rand
	log    *slog.Logger
	closed calendar.Date // the last day whose tills were settled here
}

// openShops makes the merchants and their people; on a fresh house the shops
// sell for some days first.
func openShops(ctx context.Context, d *demo, now *clock.Scaled, f demoFlags, log *slog.Logger) (*shops, error) {
	slips := rand.New(rand.NewPCG(f.seed, 3))
	s := &shops{house: d.house, banks: d.banks, clock: now, dice: rand.New(rand.NewPCG(f.seed, 2)), log: log}
	m, err := market.New(market.Config{Clock: now, Dir: filepath.Join(f.data, "devices"), Files: s.file, Leave: 2, Faults: market.Faults{Paper: market.Slips(slips, 40)}})
	if err != nil {
		return nil, err
	}
	s.m = m
	m.Move(d.house, nil)
	fresh, err := s.fresh(ctx)
	if err == nil {
		err = m.Open(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, x := range m.Shops() {
		if slices.ContainsFunc(shopLogins, func(l shopLogin) bool { return l.shop == x.ID }) {
			s.tills = append(s.tills, x.Tills...)
		}
	}
	if err := s.staff(ctx); err != nil {
		return nil, err
	}
	s.cards = tenders(d.banks)
	(&banks{names: demoBanks}).share(ctx, d.house.Keys, log)
	if fresh {
		err = s.past(ctx)
	}
	return s, err
}

// fresh tells whether the house knows no merchant of the market yet.
func (s *shops) fresh(ctx context.Context) (fresh bool, err error) {
	err = s.house.Store.Read(ctx, func(q *db.Query) error {
		list, err := merchant.List(q, merchant.Filter{Limit: 1})
		fresh = len(list) == 0
		return err
	})
	return fresh, err
}

// demoBanks are those whose cards are in the shops.
var demoBanks = []string{"CMB", "ICBC", "CCB"}

// cardsEach is how many cards of each range people carry.
const cardsEach = 12

// tenders are cards of the simulated banks: of two ranges of debit and two of
// credit each.
func tenders(b *banks) (out []tender) {
	taken := map[string]int{}
	for _, r := range bin.All() {
		if !slices.Contains(demoBanks, r.Bank) || r.Length < 16 || !strings.HasPrefix(r.Prefix, "62") || r.Type != "DC" && r.Type != "CC" || taken[r.Bank+r.Type] == 2 {
			continue
		}
		var list []tender
		for n := range cardsEach {
			number := cardNumber(r, n)
			if p, err := pan.Parse(number); err != nil || !sameBank(p, r) {
				continue
			}
			list = append(list, tender{number + "=2912101", b.pin(number)})
		}
		if len(list) > 0 {
			taken[r.Bank+r.Type]++
			out = append(out, list...)
		}
	}
	return out
}

func sameBank(p pan.PAN, r bin.Range) bool {
	found, ok := bin.Of(p)
	return ok && found.Bank == r.Bank
}

// cardNumber is the nth number of a range, its check digit right.
func cardNumber(r bin.Range, n int) string {
	body := r.Prefix + fmt.Sprintf("%0*d", r.Length-len(r.Prefix)-1, 7+n*13)
	for d := '0'; d <= '9'; d++ {
		if _, err := pan.Parse(body + string(d)); err == nil {
			return body + string(d)
		}
	}
	return body
}

// staff hires the people whose logins are printed.
func (s *shops) staff(ctx context.Context) error {
	for _, l := range shopLogins {
		i := slices.IndexFunc(s.m.Shops(), func(x *market.Shop) bool { return x.ID == l.shop })
		if i < 0 {
			continue
		}
		c, err := register(ctx, s.house, customer.Application{Login: l.Name, Name: l.Shown, Phone: l.phone, Secret: l.Password, Roles: []customer.Role{l.demoLogin.role}})
		if errors.Is(err, customer.ErrTaken) {
			continue
		}
		if err == nil {
			err = s.house.Store.Write(ctx, func(tx *db.Tx) error { return shell.Hire(tx, c.ID, s.m.Shops()[i].Merchant, l.role) })
		}
		if err != nil {
			return fmt.Errorf("hiring %s: %w", l.Name, err)
		}
	}
	return nil
}

// past lets the shops sell for some days: the clock stands, and is moved from
// sale to sale.
func (s *shops) past(ctx context.Context) error {
	speed := s.clock.Speed()
	s.clock.SetSpeed(0)
	defer s.clock.SetSpeed(speed)
	first := calendar.Of(s.clock.Now(), calendar.Beijing)
	for n := range pastDays {
		day := first.AddDays(n).Start(calendar.Beijing)
		for _, minute := range s.minutes() {
			s.clock.Jump(day.Add(time.Duration(minute) * time.Minute))
			if err := s.sell(ctx); err != nil {
				return err
			}
		}
		s.clock.Jump(day.Add(22*time.Hour + 40*time.Minute))
		if n == pastDays-1 {
			if err := s.quarrels(ctx); err != nil {
				return err
			}
		}
		if err := s.close(ctx); err != nil {
			return err
		}
		s.clock.Jump(day.Add(31 * time.Hour))
		if err := s.morning(ctx); err != nil {
			return err
		}
	}
	return nil
}

// salesADay is how many sales all shops together make on a day of the past.
const salesADay = 36

// minutes are when on a day something is sold: most at noon and in the evening.
func (s *shops) minutes() []int {
	out := make([]int, salesADay)
	for i := range out {
		peak := []float64{10, 12.3, 12.6, 15, 18, 18.6, 20}[s.dice.IntN(7)]
		out[i] = int(min(22.5, max(8, peak+s.dice.NormFloat64()*0.9)) * 60)
	}
	slices.Sort(out)
	return out
}

// amount is what a sale at a till comes to, fen.
func (s *shops) amount(t *market.Till) uint64 {
	low, high := t.Low*100, t.High*100
	n := low + int(float64(high-low)*s.dice.Float64()*s.dice.Float64())
	return uint64(max(1, n-n%[]int{1, 10, 50, 100}[s.dice.IntN(4)]))
}

// sell takes one card at one till: mostly a plain sale, now and then one that is
// taken back at once.
func (s *shops) sell(ctx context.Context) error {
	t, c := s.tills[s.dice.IntN(len(s.tills))], s.cards[s.dice.IntN(len(s.cards))]
	o := market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: s.amount(t), Card: unionpay.Card{Track2: c.track}}, PIN: c.pin, Signed: scribble(s.dice)}
	if s.dice.IntN(25) == 0 {
		o.PIN = "000000" // mistyped: the bank declines
	}
	out, err := s.m.Do(ctx, t.ID, o)
	if err == nil && !out.Approved && out.Entry == nil { // its keys were old: it has signed on
		out, err = s.m.Do(ctx, t.ID, o)
	}
	if err != nil {
		return fmt.Errorf("a sale at %s: %w", t.ID, err)
	}
	if out.Approved && out.Entry != nil && s.dice.IntN(18) == 0 {
		_, err = s.m.Do(ctx, t.ID, market.Order{Void: out.Entry.STAN})
	}
	return err
}

// scribble is the picture of a signature: a stroke that wavers to the right.
func scribble(dice *rand.Rand) []byte {
	const wide, high = 240, 90
	img := image.NewPaletted(image.Rect(0, 0, wide, high), color.Palette{color.White, color.Black})
	y, slope := high/2.0, 0.0
	for x := 20.0; x < wide-20; x += 0.25 {
		slope = max(-4, min(4, slope+dice.NormFloat64()*0.5-(y-high/2)*0.012))
		y = max(8, min(high-8, y+slope*0.25))
		for d := range 2 {
			img.SetColorIndex(int(x), int(y)+d, 1)
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		panic(err) // into memory
	}
	return out.Bytes()
}

// close settles the tills at the end of a day.
func (s *shops) close(ctx context.Context) error {
	for _, t := range s.tills {
		if _, _, err := s.m.Settle(ctx, t.ID); err != nil {
			return fmt.Errorf("settling %s: %w", t.ID, err)
		}
	}
	s.closed = calendar.Of(s.clock.Now(), calendar.Beijing)
	return nil
}

// morning pays the day before out; the bank (simulated) has paid by then.
func (s *shops) morning(ctx context.Context) error {
	now := s.clock.Now()
	if err := s.house.Switch.Tick(ctx, now); err != nil {
		return err
	}
	if err := settlement.Tick(ctx, s.house.Store); err != nil {
		return err
	}
	last := settlement.LastDay(now)
	if _, err := settlement.Run(ctx, s.house.Store, last); err != nil {
		return err
	}
	return settlement.ConfirmDay(ctx, s.house.Store, last.AddDays(-1))
}

// quarrels has something to see on the pages of refunds and disputes: money
// given back for one sale, and a bank that asks about another.
func (s *shops) quarrels(ctx context.Context) error {
	for _, x := range s.m.Shops() {
		if x.ID != "jialian" {
			continue
		}
		var list []switching.Txn
		err := s.house.Store.Read(ctx, func(q *db.Query) (err error) {
			list, err = switching.Live(q, switching.Filter{Shop: x.Payee, State: switching.Cleared, Limit: 40})
			return err
		})
		list = slices.DeleteFunc(list, func(t switching.Txn) bool { return t.Kind != "sale" || t.Host == "" })
		if err != nil || len(list) < 8 {
			return err
		}
		back, asked, charged := list[2], list[4], list[7]
		_, err = s.house.Switch.GiveBack(ctx, switching.GiveBack{RRN: back.RRN, Shop: x.Payee, Amount: money.Fen(back.Due.Minor() / 2), Key: "demo"})
		if err == nil {
			err = s.house.Switch.Tick(ctx, s.clock.Now()) // the bank hears of it before its day ends
		}
		if err != nil {
			return err
		}
		return s.house.Store.Write(ctx, func(tx *db.Tx) error {
			for _, c := range []struct {
				t      switching.Txn
				reason string
				money  bool
			}{{asked, "H301", false}, {charged, "4515", true}} {
				_, err := dispute.Open(tx, dispute.Claim{Ref: "CUP" + strings.TrimLeft(c.t.RRN, "0"), Amount: c.t.Due, Reason: c.reason, Money: c.money, At: tx.Now(),
					Sale: dispute.Sale{RRN: c.t.RRN, Payee: c.t.Shop, Counter: ledger.AccountID(switching.Receivable(c.t.Host)), Issuer: c.t.Host, Class: c.t.Class, Amount: c.t.Due, At: c.t.At}})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return nil
}

// file is the clearing file of a bank that is played here. What disputes moved
// on the day is told to the bank first, as the network would, so that its file
// has lines for it.
func (s *shops) file(name string, day calendar.Date) ([]byte, error) {
	if !slices.Contains(s.banks.names, name) {
		return nil, market.ErrNoFile
	}
	h, err := s.banks.host(name)
	if err != nil {
		return nil, err
	}
	var moved []dispute.Movement
	err = s.house.Store.Read(context.Background(), func(q *db.Query) error {
		x, err := reconcile.HostOf(q, name)
		if err != nil {
			return err
		}
		from, to := x.Span(day)
		moved, err = dispute.Movements(q, name, from, to)
		return err
	})
	for _, m := range moved {
		if err == nil {
			err = h.Dispute(fmt.Sprintf("%s/%d", m.Case, m.At.UnixMicro()), m.RRN, m.Fen, m.At)
		}
		if errors.Is(err, foreign.ErrNoSale) { // it was sold before the bank kept its books: the desk has it
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	return h.ClearingFile(day)
}

// sellEvery is how often something may be sold while the city lives, in its time.
const sellEvery = 4 * time.Minute

// run sells while the city lives, and settles at night.
func (s *shops) run(ctx context.Context) {
	for ctx.Err() == nil {
		speed := s.clock.Speed()
		if speed == 0 {
			pause(ctx, time.Second)
			continue
		}
		pause(ctx, max(500*time.Millisecond, time.Duration(float64(sellEvery)/speed)))
		if err := s.step(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the shops stumble", "err", err)
		}
	}
}

// step is what has become due in the shops.
func (s *shops) step(ctx context.Context) error {
	now := s.clock.Now().In(calendar.Beijing)
	today := calendar.Of(now, calendar.Beijing)
	switch hour := now.Hour(); {
	case hour >= 8 && hour < 22:
		return s.sell(ctx)
	case hour >= 22 && s.closed != today:
		return s.close(ctx)
	}
	return nil
}
