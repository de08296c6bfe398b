package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/band"
	"koala/calendar"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
	"koala/tsm"
	"koala/wallet"
)

// maxCut bounds --cut: no act traced here writes so many pages.
const maxCut = 10_000

// traceFlags are what `koala trace` takes.
type traceFlags struct {
	lang     string
	json     bool
	from, to string
	amount   int64
	cut      int
	card     string
	online   bool
}

func traceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trace",
		Short: "One act from the first command to the last posting, explained line by line",
		Long: `Makes a house, a person, a band and real gates in a folder that is removed afterwards, lets
one act happen and tells everything about it: each command and answer with every field named,
what was decided and why, what went over the wire, rows, postings and the journal's hash. Clock
and chance are fixed: the same command prints the same bytes each time. PANs are masked; the
number of a transit card stands in full: it is printed on the card and is no PAN.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(traceTapCommand(), traceQuickpassCommand(), traceSaleCommand(), traceIssueCommand(), traceTopUpCommand(), traceLoadCommand(),
		traceMealCommand(), traceDoorCommand(), traceCouponCommand())
	return c
}

func traceTapCommand() *cobra.Command {
	var f traceFlags
	c := f.command("tap", "A ride: in at one gate, out at another, booked, shared, paid out",
		"  koala trace tap\n  koala trace tap --from 西直门 --to 东单 --lang zh\n  koala trace tap --cut 6", (*scene).tap)
	c.Flags().StringVar(&f.from, "from", "苹果园", "station where the ride begins")
	c.Flags().StringVar(&f.to, "to", "东单", "station where it ends")
	return c
}

func traceIssueCommand() *cobra.Command {
	var f traceFlags
	c := f.command("issue", "A card is written into a band over the air",
		"  koala trace issue\n  koala trace issue --cut 9 --json\n  koala trace issue --card quickpass", (*scene).issue)
	c.Flags().StringVar(&f.card, "card", cardPurse, "which card: "+strings.Join(traceCards(), ", "))
	return c
}

// traceProducts are the cards that can be written, by the names of --card.
var traceProducts = map[string]string{
	cardPurse: issuing.TransitBJ, cardQuickpass: issuing.ECashCard, "debit": issuing.DebitCard, "credit": issuing.CreditCard,
	"canteen": street.CanteenCard, "door": street.DoorCard, "coupon": street.BakeryCoupon,
}

func traceCards() []string { return slices.Sorted(maps.Keys(traceProducts)) }

func traceTopUpCommand() *cobra.Command {
	var f traceFlags
	c := f.command("topup", "Money goes from the wallet onto the card over the air",
		"  koala trace topup --amount 5000\n  koala trace topup --cut 1", (*scene).topUp)
	c.Flags().Int64Var(&f.amount, "amount", 50_00, "fen to load")
	return c
}

func (f *traceFlags) command(use, short, example string, act func(*scene, *traceFlags) error) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Example: example, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, act) },
	}
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object per line instead of text")
	c.Flags().StringVar(&f.lang, "lang", "en", "language of the explanation: en or zh")
	c.Flags().IntVar(&f.cut, "cut", 0, "the band leaves the field at its n-th EEPROM write of the act; 0 is never")
	return c
}

func (f *traceFlags) run(cmd *cobra.Command, act func(*scene, *traceFlags) error) error {
	switch {
	case f.lang != "en" && f.lang != "zh":
		return errUsage{fmt.Errorf("--lang %q is not en or zh", f.lang)}
	case f.card != "" && traceProducts[f.card] == "":
		return errUsage{fmt.Errorf("--card %q is not one of %s", f.card, strings.Join(traceCards(), ", "))}
	case f.cut < 0 || f.cut > maxCut:
		return errUsage{fmt.Errorf("--cut %d is not a number of a write, 1 to %d", f.cut, maxCut)}
	case f.amount < 0 || f.amount > money.MaxMinor || f.amount == 0 && cmd.Flags().Lookup("amount") != nil:
		return errUsage{fmt.Errorf("--amount %d is not an amount in fen", f.amount)}
	}
	dir, err := os.MkdirTemp("", "koala-trace-")
	if err != nil {
		return fmt.Errorf("a folder for the trace: %w", err)
	}
	defer os.RemoveAll(dir)
	page := &tracePage{out: cmd.OutOrStdout(), zh: f.lang == "zh", json: f.json}
	s, err := newScene(cmd.Context(), dir, page)
	if err != nil {
		return err
	}
	err = act(s, f)
	return errors.Join(err, s.house.Close(), page.err)
}

// The kinds of devices that a token is for, and where the house is on the wire
// inside this process.
const (
	kindBand, kindTerminal, kindTill = "band", "terminal", "till"
	houseAddress                     = "http://house.koala.internal"
)

// The world of a trace: the morning of the first tap, and where chance begins.
const (
	traceSeed = 20150916
	traceBand = "band-1"
	traceFund = 800_00 // fen that the person moves from the bank into the wallet
)

var traceStart = time.Date(2015, 9, 16, 8, 1, 0, 0, calendar.Beijing)

// A scene is one house with one person and one band, and the page on which
// what happens is told.
type scene struct {
	*tracePage
	ctx    context.Context
	clock  *clock.Virtual
	house  *app.House
	street *street.Street
	who    customer.ID

	product string         // of the card under way
	id      issuing.CardID // of it
	card    purse.Number   // its number, of a transit card
	sent    *http.Request  // the last request of a gate or till that hands over
	body    []byte         // its body
	asked   []byte         // the last request to a card's issuer
	post    string         // the device of a shop or site that is told about

	record uint64 // last record of the journal that was told
	hash   [32]byte
	event  int64 // last event that was told
}

func newScene(ctx context.Context, dir string, page *tracePage) (*scene, error) {
	s := &scene{tracePage: page, ctx: ctx, clock: clock.NewVirtual(traceStart), product: issuing.TransitBJ}
	var err error
	s.house, err = app.New(ctx, app.Config{Data: dir, KeyFile: filepath.Join(dir, "koala.key"), Clock: s.clock,
		Rand: clock.Random(traceSeed), Inline: true})
	if err != nil {
		return nil, err
	}
	s.street, err = street.New(s.house, street.Config{Rand: func(id string) io.Reader {
		sum := sha256.Sum256([]byte("koala trace " + id))
		return clock.Random(binary.BigEndian.Uint64(sum[:]))
	}})
	if err == nil {
		err = s.join()
	}
	if err != nil {
		return nil, errors.Join(err, s.house.Close())
	}
	return s, nil
}

// join makes the person: a record, a wallet with money, and a band that the
// house does not know yet. Nobody logs in, so the secret's hash is cheap.
func (s *scene) join() error {
	desk := &customer.Desk{Store: s.house.Store, Seal: s.house.Keys.Seal, Salt: s.house.Config.Rand, Cost: 1}
	c, err := desk.Register(s.ctx, customer.Application{Login: "lin", Name: "林", Phone: "13900000001", Secret: "not used here"})
	if err != nil {
		return err
	}
	s.who = c.ID
	if err := s.street.MakeBand(traceBand); err != nil {
		return err
	}
	return s.write(func(tx *db.Tx) error {
		if err := wallet.Open(tx, s.who); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "first", s.who, money.Fen(traceFund))
		return err
	})
}

func (s *scene) write(f func(tx *db.Tx) error) error { return s.house.Store.Write(s.ctx, f) }

func (s *scene) read(f func(q *db.Query) error) error { return s.house.Store.Read(s.ctx, f) }

// registered tells the house of the band, which orders that its factory keys
// be replaced.
func (s *scene) registered() error {
	return s.write(func(tx *db.Tx) error { return s.house.TSM.Register(tx, traceBand, string(s.who)) })
}

// ordered opens a card on paper and places the order to write it, in one unit.
// A bank card's number is drawn and sealed before.
func (s *scene) ordered() (o tsm.Order, err error) {
	number, err := s.number()
	if err != nil {
		return o, err
	}
	err = s.write(func(tx *db.Tx) error {
		c, err := issuing.Open(tx, issuing.Application{Ref: "card", Customer: s.who, Band: traceBand, Product: s.product, PAN: number})
		if err != nil {
			return err
		}
		s.id, s.card = c.ID, c.ID.Purse()
		if err := s.street.Admit(tx, c); err != nil {
			return err
		}
		o, err = s.house.TSM.Place(tx, tsm.Request{Ref: "issue", Kind: tsm.Issue, Band: traceBand, Card: c.ID, Customer: string(s.who)})
		return err
	})
	return o, err
}

// number draws the number of a bank card; other cards need none.
func (s *scene) number() (*issuing.Numbered, error) {
	var p issuing.Product
	err := s.read(func(q *db.Query) (err error) {
		p, err = issuing.ProductOn(q, s.product, s.clock.Now())
		return err
	})
	if err != nil || !p.Kind.Bank() {
		return nil, err
	}
	n, err := s.house.Bank.Number(s.ctx, s.product)
	if err != nil {
		return nil, err
	}
	clear, err := s.house.Keys.Unseal(s.ctx, n.Sealed)
	s.pan = string(clear)
	return &n, err
}

// wish places a top-up.
func (s *scene) wish(ref string, fen int64) (o tsm.Order, err error) {
	err = s.write(func(tx *db.Tx) error {
		o, err = s.house.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.TopUp, Band: traceBand, Card: s.id, Customer: string(s.who), Amount: money.Fen(fen)})
		return err
	})
	return o, err
}

// carry gives the person a card with money on it (none when fen is 0), untold.
func (s *scene) carry(fen int64) error {
	if err := s.registered(); err != nil {
		return err
	}
	o, err := s.ordered()
	if err == nil && fen > 0 {
		err = s.finish(o.ID)
		if err == nil {
			o, err = s.wish("first load", fen)
		}
	}
	if err != nil {
		return err
	}
	return s.finish(o.ID)
}

// finish lets the band's agent do what waits for it and makes sure that the
// order is done.
func (s *scene) finish(order string) error {
	if err := s.street.RunAgent(s.ctx, traceBand); err != nil {
		return err
	}
	o, err := s.orderNow(order)
	if err == nil && o.State != tsm.Done {
		err = fmt.Errorf("order %s is %s: %s", o.ID, o.State, o.Why.Words(false))
	}
	return err
}

func (s *scene) orderNow(id string) (o tsm.Order, err error) {
	err = s.read(func(q *db.Query) error {
		o, err = tsm.OrderOf(q, id)
		return err
	})
	return o, err
}

// overAir runs the band's agent and tells every message and command of one
// order as it happens.
func (s *scene) overAir(order string, fault band.Fault) error {
	token, err := s.house.DeviceToken(s.ctx, kindBand, traceBand)
	if err != nil {
		return err
	}
	l := &listener{scene: s, order: order}
	return s.street.Look(traceBand, func(b *band.Band) error {
		b.Suffer(fault)
		defer b.Suffer(band.Fault{})
		return b.Run(s.ctx, &band.HTTPLink{Base: houseAddress + "/device", Token: token, Client: l.client()})
	})
}
