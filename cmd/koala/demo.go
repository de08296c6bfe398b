package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/calendar"
	"koala/city"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/money"
	"koala/wallet"
	"koala/web"
)

// demoChunk is how many commands go over the air at once in the demo: few, so
// that people can watch a card being written.
const demoChunk = 3

// demoFund is what the simulated bank gives the demo's wearer to begin with.
var demoFund = money.Fen(100_00)

// A demoLogin is a login whose secret is printed.
type demoLogin struct {
	web.DemoUser
	phone string
	role  customer.Role
}

var demoLogins = []demoLogin{
	{web.DemoUser{Name: "lin", Password: "dongdan-2015", Shown: "林小雨", Home: "/my/",
		Hint: web.Text{ZH: "戴手环的人", EN: "wears a band"}}, "13800002015", customer.Wearer},
	{web.DemoUser{Name: "wang", Password: "zhakou-2015", Shown: "王芳", Home: "/ops/",
		Hint: web.Text{ZH: "运营人员", EN: "operations staff"}}, "13800000916", customer.Operator},
	{web.DemoUser{Name: "zhao", Password: "fuhe-2015", Shown: "赵磊", Home: "/ops/",
		Hint: web.Text{ZH: "运营人员，复核王芳提出的事项", EN: "operations staff, signs what wang proposes"}}, "13800000917", customer.Operator},
	{web.DemoUser{Name: "shen", Password: "shenji-2015", Shown: "沈明", Home: "/ops/",
		Hint: web.Text{ZH: "审计，只读", EN: "auditor, sees everything and changes nothing"}}, "13800001212", customer.Auditor},
}

// demoFlags are the flags of `koala demo`.
type demoFlags struct {
	houseFlags
	linkFlags
	listen string
	seed   uint64
	speed  int
	people int
}

func demoCommand() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "The house and a living city on the Beijing network",
		Long: `Starts a house with an embedded store in --data, wakes a small city on it and prints one
address with logins. The city's clock runs --speed times as fast as yours. Banks, the radio,
people, shops and trains are simulated; cards, gates, tills, keys, books and pages are the
real ones.

Terminals of shops dial --terminals (koala terminal, koala pos). Cards of other banks are decided
by simulated hosts of those banks, which the switch asks over TCP; --peer puts a real one in the
place of one of them.`,
		Example: "  koala demo\n  koala demo --listen 127.0.0.1:9000 --data /tmp/town --speed 10",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := f.start(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return d.serve(cmd.Context(), f.listen, cmd.OutOrStdout())
		},
	}
	f.houseFlags.add(c)
	f.linkFlags.add(c, "127.0.0.1:7583")
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8080", "address and port to listen on")
	c.Flags().Uint64Var(&f.seed, "seed", 1, "what the residents do follows from it")
	c.Flags().IntVar(&f.speed, "speed", 60, "city seconds per second: 0, 1, 10, 60 or 300")
	c.Flags().IntVar(&f.people, "people", city.DefaultResidents, "residents")
	return c
}

// A demo is a house with a city around it.
type demo struct {
	house     *app.House
	kit       *web.Kit
	city      *city.Live
	peers     *peers
	banks     *banks
	terminals *counter
	shops     *shops
	played    func() // ends the simulated banks
}

func (f demoFlags) start(ctx context.Context, errs io.Writer) (*demo, error) {
	if !slices.Contains([]int{0, 1, 10, 60, 300}, f.speed) {
		return nil, errUsage{fmt.Errorf("--speed %d: choose 0, 1, 10, 60 or 300", f.speed)}
	}
	begin, err := f.clockOf()
	if err != nil {
		return nil, err
	}
	cfg := f.config(errs)
	now := clock.NewScaled(begin, float64(f.speed))
	if f.first() { // the shops' past
		now = clock.NewScaled(begin.AddDate(0, 0, -pastDays), 0)
	}
	cfg.Clock, cfg.Chunk = now, demoChunk
	d := &demo{}
	if d.peers, err = f.dial(); err != nil {
		return nil, err
	}
	if d.banks, err = openBanks(now, filepath.Join(f.data, "simulated-banks"), d.peers); err != nil {
		return nil, err
	}
	playing, stop := context.WithCancel(ctx)
	wait := d.banks.run(playing, cfg.Log)
	d.played = func() { stop(); wait(); d.banks.close() }
	cfg.Peers = d.peers.ways
	if d.house, err = app.New(ctx, cfg); err == nil {
		err = f.wake(ctx, d, now, begin, cfg.Log)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// close gives back what start opened.
func (d *demo) close() {
	if d.terminals != nil {
		d.terminals.l.Close()
	}
	d.peers.close()
	d.played()
	if d.house != nil {
		d.house.Close()
	}
}

// first tells whether this is a folder's first run.
func (f demoFlags) first() bool {
	_, noClock := os.Stat(f.clockFile())
	_, noBooks := os.Stat(filepath.Join(f.data, "koala.db"))
	return f.db == "" && errors.Is(noClock, os.ErrNotExist) && errors.Is(noBooks, os.ErrNotExist)
}

func (f demoFlags) wake(ctx context.Context, d *demo, now *clock.Scaled, begin time.Time, log *slog.Logger) (err error) {
	if err := d.enrol(ctx); err != nil {
		return err
	}
	d.peers.host.Store(d.house.Switch)
	if d.shops, err = openShops(ctx, d, now, f, log); err != nil {
		return fmt.Errorf("opening the shops: %w", err)
	}
	now.Jump(begin)
	now.SetSpeed(float64(f.speed))
	users := make([]web.DemoUser, 0, len(demoLogins)+len(shopLogins))
	for _, l := range demoLogins {
		users = append(users, l.DemoUser)
	}
	for _, l := range shopLogins {
		users = append(users, l.DemoUser)
	}
	if d.kit, err = d.house.NewKit(ctx, clock.System().Now, users); err != nil {
		return err
	}
	people := f.people
	if people == 0 {
		people = -1
	}
	d.city, err = city.NewLive(d.house, city.LiveConfig{People: people, Seed: f.seed, Clock: now, Hub: d.kit.Hub,
		Dir: filepath.Join(f.data, "devices"), Log: log, Market: d.shops.m})
	if err == nil {
		d.terminals, err = openCounter(f.terminals, d.house.Switch, log)
	}
	return err
}

// clockOf is where the city's clock begins: in the morning of today, or where
// the house of an earlier run stopped, whichever is later. A store never goes
// back in time.
func (f demoFlags) clockOf() (time.Time, error) {
	today := calendar.Of(clock.System().Now(), calendar.Beijing).Start(calendar.Beijing).Add(7 * time.Hour)
	text, err := os.ReadFile(f.clockFile())
	if errors.Is(err, os.ErrNotExist) {
		return today, nil
	}
	if err != nil {
		return today, err
	}
	left, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return today, fmt.Errorf("%s does not hold a time: %w; delete the folder to start anew", f.clockFile(), err)
	}
	if left.After(today) {
		return left, nil
	}
	return today, nil
}

func (f demoFlags) clockFile() string { return filepath.Join(f.data, "city.clock") }

// keepClock writes the city's time down, ahead of it by what may pass until
// the next time, so that a run cut off is never behind its own store.
func (d *demo) keepClock(ctx context.Context, file string) {
	const every = 5 * time.Second
	for ctx.Err() == nil {
		ahead := d.house.Now().Add(every * 300)
		if err := street.WriteFile(file, []byte(ahead.Format(time.RFC3339))); err != nil { // whole, whenever it is cut off
			d.house.Config.Log.Error("the city's clock", "error", err)
		}
		pause(ctx, every)
	}
}

// enrol registers the demo's people; the second time they are there.
func (d *demo) enrol(ctx context.Context) error {
	for _, l := range demoLogins {
		c, err := register(ctx, d.house, customer.Application{Login: l.Name, Name: l.Shown, Phone: l.phone,
			Secret: l.Password, Roles: []customer.Role{l.role}})
		if errors.Is(err, customer.ErrTaken) {
			continue
		}
		if err == nil && l.role == customer.Wearer {
			err = d.house.Store.Write(ctx, func(tx *db.Tx) error {
				_, err := wallet.Fund(tx, "demo:"+l.Name, c.ID, demoFund)
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("registering %s: %w", l.Name, err)
		}
	}
	return nil
}

func (d *demo) serve(ctx context.Context, listen string, out io.Writer) error {
	defer d.close()
	run, stop := context.WithCancel(ctx)
	log := d.house.Config.Log
	answered := d.terminals.run(run, log)
	go d.banks.share(run, d.house.Keys, log)
	stopped := make(chan error, 1)
	go func() { stopped <- d.city.Run(run) }()
	selling := make(chan struct{})
	go func() { d.shops.run(run); close(selling) }()
	go d.keepClock(run, filepath.Join(d.house.Config.Data, "city.clock"))
	go follow(run, func() error { return d.house.Announce(run, d.kit.Hub) })
	err := listenAndServe(ctx, listen, d.house.Handler(d.kit, app.Pages{City: d.city, Street: d.city, Wrist: d.city}),
		func(url string) { d.welcome(out, url) })
	stop()
	answered()
	<-selling
	if ended := <-stopped; err == nil && !errors.Is(ended, context.Canceled) {
		err = ended
	}
	return err
}

func (d *demo) welcome(out io.Writer, url string) {
	fmt.Fprintf(out, "\nkoala is at %s\n\n", url)
	for _, l := range demoLogins {
		fmt.Fprintf(out, "  %-5s %-14s %s, %s\n", l.Name, l.Password, l.Shown, l.Hint.EN)
	}
	for _, l := range shopLogins {
		fmt.Fprintf(out, "  %-5s %-14s %s, %s\n", l.Name, l.Password, l.Shown, l.Hint.EN)
	}
	if d.terminals != nil {
		number := d.banks.sample()
		fmt.Fprintf(out, "\nTerminals dial %s. A card of a simulated bank: koala pos sale --track2 %s=3012101 --pin %s\n",
			d.terminals.where(), number, d.banks.pin(number))
	}
	fmt.Fprintf(out, "\nBooks in %s. It is %s in the city. Stop with Ctrl-C.\n", d.house.Store.Place(),
		d.house.Now().In(calendar.Beijing).Format("2006-01-02 15:04"))
}
