package market

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"koala/band"
	"koala/calendar"
	"koala/city/street"
	"koala/hsm"
	"koala/internal/db"
	"koala/merchant"
	"koala/spec/dukpt"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/poskey"
	"koala/switching/pack"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
	"koala/terminal/reader"
	"koala/terminal/unionpay"
)

// A Till is one terminal of a shop: on the counter, or a reader beside a phone.
type Till struct {
	*Shop
	ID  string // shop.number
	TID string
	m   *Market

	mu     sync.Mutex
	flash  map[string]*terminal.Flash // nil: not installed
	dev    *unionpay.Terminal         // nil without power
	app    *reader.App                // of a phone
	reader *reader.Reader
	bond   reader.Bond
	boots  int
	heeded calendar.Date // when it signed on last and did what the house wanted; zero: not since it has power
	ctx    context.Context

	pin  string           // typed by the cardholder of the order under way
	card reader.Presented // at the reader

	facts map[key]Fact
}

// sectors are the flashes of a terminal, in sectors of 4 KiB.
var sectors = map[string]int{"journal": 16, "state": 2, "packs": 16, "keys": 2, "sales": 8, "denied": 4, "till": 2, "vault": 2, "bonds": 2}

// number is the shop's place among all, from 1.
func (t *Till) number() int {
	return slices.IndexFunc(definitions, func(d Definition) bool { return d.ID == t.Shop.ID }) + 1
}

// serial is the device's, 8 characters.
func (t *Till) serial() string {
	n, _ := strconv.Atoi(t.ID[len(t.Shop.ID)+1:])
	return fmt.Sprintf("KM%03d%03d", t.number(), n)
}

// An Order is what a shopper and a cashier do together.
type Order struct {
	unionpay.Order
	Void   uint32     // trace of what is to be taken back whole; the rest is not looked at
	Band   string     // whose element is in the reader; empty: none
	Air    bool       // it is held to it, not inserted
	PIN    string     // what the cardholder types
	Fault  band.Fault // what the contact suffers
	Signed []byte     // picture of a signature, PNG; nil: none
}

// An Outcome is what came of it.
type Outcome struct {
	unionpay.Result
	Till    *Till
	Err     error // of line or device: what is open ends by itself
	Dark    bool  // the power failed
	Words   [2]string
	Receipt [2][]string
}

// Do has a terminal carry out an order. One that nobody has used yet is
// installed first. The error is of the simulation; what goes wrong in it is in
// the outcome.
func (m *Market) Do(ctx context.Context, id string, o Order) (Outcome, error) {
	t, err := m.Till(id)
	if err != nil {
		return Outcome{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.on(ctx); err != nil {
		return Outcome{}, fmt.Errorf("till %s: %w", id, err)
	}
	out := Outcome{Till: t}
	t.ctx, t.pin = ctx, o.PIN
	defer func() { t.pin, t.card = "", reader.Presented{} }()
	t.begin()
	t.cut()
	if o.Band == "" {
		out.Result, out.Err = t.serve(o, nil)
	} else {
		err := m.street.Load().Contact(o.Band, !o.Air, o.Fault, func(card iso7816.Transmit) error {
			out.Result, out.Err = t.serve(o, card)
			return nil
		})
		if err != nil {
			return out, fmt.Errorf("till %s: %w", id, err)
		}
	}
	t.say(&out, o)
	if err := t.after(out.Err); err != nil {
		return out, err
	}
	out.Dark = t.dev == nil
	if f := m.watch.Load(); f != nil {
		(*f)(out)
	}
	return out, nil
}

// serve is the terminal's part.
func (t *Till) serve(o Order, card iso7816.Transmit) (unionpay.Result, error) {
	if t.Mobile {
		t.card = reader.Presented{Track2: o.Card.Track2, Chip: card, Air: o.Air}
		if o.Void != 0 {
			return t.app.Void(o.Void)
		}
		if o.Kind == unionpay.Sale || o.Kind == unionpay.PreAuth || o.Kind == unionpay.Balance {
			o.Card = unionpay.Card{}
			return t.app.Sell(o.Order)
		}
	}
	switch {
	case o.Void != 0:
		return t.dev.Void(o.Void)
	case card == nil:
		return t.dev.Do(o.Order)
	case o.Air:
		return t.dev.Tap(card, o.Order)
	}
	return t.dev.Insert(card, o.Order)
}

// say puts the outcome into words and prints the slip.
func (t *Till) say(out *Outcome, o Order) {
	if t.dead(out.Err) {
		out.Words = [2]string{"out of service", "暂停服务"}
		return
	}
	switch {
	case errors.Is(out.Err, unionpay.ErrLimit):
		out.Words = [2]string{"not taken at this till", "本机不受理"}
	case out.Err != nil && out.Entry == nil:
		out.Words = [2]string{"no answer from the host: try again", "主机无应答，请重试"}
	case out.Err != nil:
		out.Words = [2]string{"no answer: the sale is taken back", "无应答，交易将自动冲正"}
	default:
		out.Words = [2]string{out.Result.Words(false), out.Result.Words(true)}
	}
	if out.Approved && out.Entry != nil {
		if o.Signed != nil && unionpay.NeedsSignature(out.Entry) {
			_ = t.dev.Sign(out.Entry.STAN, o.Signed) // a signature that does not fit is not kept, and the slip says so
		}
		out.Receipt = [2][]string{t.dev.Receipt(out.Entry, false, false), t.dev.Receipt(out.Entry, false, true)}
	}
}

// Sign has the cardholder sign on the terminal's pad, for a transaction of its
// open batch: the picture, PNG, is on the slip and goes to the acquirer before
// the batch is settled. It gives the slip, English and Chinese.
func (m *Market) Sign(ctx context.Context, id string, stan uint32, picture []byte) (slip [2][]string, err error) {
	t, err := m.Till(id)
	if err != nil {
		return slip, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.on(ctx); err != nil {
		return slip, fmt.Errorf("till %s: %w", id, err)
	}
	t.ctx = ctx
	wrong := t.dev.Sign(stan, picture)
	if err := t.after(wrong); err != nil {
		return slip, err
	}
	e, known := (*unionpay.Entry)(nil), false
	if t.dev != nil {
		e, known = t.dev.Entry(stan)
	}
	if wrong != nil || !known {
		return slip, fmt.Errorf("till %s, %06d: %w", id, stan, errors.Join(ErrUnsigned, wrong))
	}
	return [2][]string{t.dev.Receipt(e, false, false), t.dev.Receipt(e, false, true)}, nil
}

// cut has the power fail at a write of what comes, if it is to.
func (t *Till) cut() {
	if t.m.cfg.Faults.Power == nil {
		return
	}
	if n := t.m.cfg.Faults.Power(); n > 0 {
		t.m.note("till power cut")
		t.flash["journal"].CutAfter(n)
	}
}

// dead says whether the device is without power.
func (t *Till) dead(err error) bool {
	failed := errors.Is(err, terminal.ErrPower)
	for _, f := range t.flash {
		failed = failed || f.Failed()
	}
	return failed
}

// after notes what the terminal holds, and takes away a cut that did not
// happen.
func (t *Till) after(err error) error {
	if t.dead(err) {
		t.dev, t.app = nil, nil
		return t.keep()
	}
	t.flash["journal"].CutAfter(0)
	t.note()
	return t.keep()
}

// on makes sure that the terminal is installed and has power.
func (t *Till) on(ctx context.Context) error {
	if t.flash == nil {
		if err := t.load(); err != nil {
			return err
		}
	}
	if t.flash == nil {
		return t.install(ctx)
	}
	if t.dev == nil {
		return t.boot(ctx)
	}
	return nil
}

// install has the house give the terminal its key.
func (t *Till) install(ctx context.Context) error {
	t.flash = map[string]*terminal.Flash{}
	for n, size := range sectors {
		t.flash[n] = terminal.NewFlash(size)
	}
	err := t.m.insist(ctx, "key", func() error { return t.inject(ctx) })
	if err != nil {
		t.flash = nil
		return err
	}
	if err := t.boot(ctx); err != nil {
		return err
	}
	if t.Mobile {
		err = t.pair(ctx)
	}
	return errors.Join(err, t.keep())
}

// ksn is the serial number of a reader's keys, its counter 0.
func (t *Till) ksn() dukpt.KSN {
	return dukpt.KSN{0xFF, 0xFF, 0x98, 0x76, 0x54, byte(t.number()), 0x10, 0xE0, 0, 0}
}

// inject takes the terminal's key from the house, under a transport key.
func (t *Till) inject(ctx context.Context) error {
	h := t.m.House()
	form, sealed, err := h.Keys.NewTransport(ctx, t.TID)
	if err != nil {
		return err
	}
	transport, err := form.Key()
	if err != nil {
		return err
	}
	var in hsm.Injected
	use := hsm.TerminalMaster
	if t.Mobile {
		use = hsm.ReaderInitial
		in, err = h.Switch.InstallReader(ctx, t.TID, t.ksn(), sealed)
	} else {
		in, err = h.Switch.Install(ctx, t.TID, sealed)
	}
	if err != nil {
		return err
	}
	k, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: use, TID: t.TID}, transport, in.Block)
	if err != nil {
		return err
	}
	if t.Mobile {
		if err := t.bootReader(); err != nil {
			return err
		}
		err = t.reader.Inject(dukpt.Key(k), t.ksn())
	} else {
		check := poskey.KCV(k)
		err = unionpay.OpenKeystore(t.flash["keys"]).Inject(k[:], check[:])
	}
	if err != nil {
		return err
	}
	return h.Store.Write(ctx, func(tx *db.Tx) error {
		x, err := merchant.TerminalOf(tx, t.TID)
		if err != nil || x.Life != merchant.Registered {
			return err
		}
		return merchant.Live(tx, t.TID, merchant.Injected, "", "")
	})
}

// kernel is what the terminal reads cards with.
func (t *Till) kernel(ctx context.Context) (kernel.Config, error) {
	own, err := t.m.House().Bank.CAKeys(ctx)
	mcc, _ := strconv.Atoi(t.MCC)
	return pos.Beijing(pos.Shop{TID: t.TID, MID: t.MID, Name: t.Slip, Category: uint16(mcc), Serial: t.serial()}, append(emv.CAKeys(), own...)), err
}

// boot gives the terminal power.
func (t *Till) boot(ctx context.Context) error {
	for _, f := range t.flash {
		f.PowerOn()
	}
	k, err := t.kernel(ctx)
	if err != nil {
		return err
	}
	lists, err := t.m.House().Keys.PublicKey(ctx, hsm.LabelPack)
	if err != nil {
		return err
	}
	signers, err := t.m.House().Keys.PublicKeys(ctx, pack.Label)
	if err != nil {
		return err
	}
	t.boots, t.heeded = t.boots+1, calendar.Date{}
	t.ctx = ctx
	cfg := unionpay.Config{
		Till: pos.Config{Kernel: k, Clock: t.m.cfg.Clock, Random: t.m.cfg.Rand(fmt.Sprintf("till/%s/%d/%d", t.ID, t.boots, t.flash["state"].Writes())), Key: lists,
			Sales: t.flash["sales"], Denied: t.flash["denied"], State: t.flash["till"], PIN: func(int) (string, bool) { return t.pin, t.pin != "" }},
		Line: tillLine{t}, Journal: t.flash["journal"], State: t.flash["state"], Packs: t.flash["packs"], Signed: signers,
		PIN: func(uint64) (string, bool) { return t.pin, t.pin != "" },
	}
	if !t.Mobile {
		cfg.Keys = unionpay.OpenKeystore(t.flash["keys"])
		t.dev, err = unionpay.New(cfg)
		return err
	}
	if err := t.bootReader(); err != nil {
		return err
	}
	if t.bond == (reader.Bond{}) {
		return nil // to be paired
	}
	if t.app, err = reader.NewApp(cfg, radio{t}, t.bond); err == nil {
		t.dev = t.app.Terminal
	}
	return err
}

// tillLine is the terminal's line, with the context of what it does.
type tillLine struct{ t *Till }

// Exchange carries a request.
func (l tillLine) Exchange(request []byte) ([]byte, error) {
	return (&line{l.t.m, l.t.ctx}).Exchange(request)
}

func (t *Till) bootReader() error {
	t.flash["vault"].PowerOn()
	t.flash["bonds"].PowerOn()
	k, err := t.kernel(context.Background())
	if err != nil {
		return err
	}
	t.reader, err = reader.New(reader.Config{Serial: t.serial()[:7], Kernel: k, Clock: t.m.cfg.Clock,
		Random: t.m.cfg.Rand(fmt.Sprintf("reader/%s/%d", t.ID, t.flash["vault"].Writes())), Vault: t.flash["vault"], State: t.flash["bonds"],
		Slot: func(string, uint64) (reader.Presented, bool) {
			return t.card, t.card.Track2 != "" || t.card.Chip != nil
		},
		PIN:     func(uint64) (string, bool) { return t.pin, t.pin != "" },
		Confirm: func(string) bool { return true }})
	return err
}

// radio is the phone's link to the reader.
type radio struct{ t *Till }

// Exchange carries a frame.
func (r radio) Exchange(frame []byte) ([]byte, error) {
	a := r.t.reader.Handle(frame)
	return a, r.t.reader.Failure()
}

// pair makes phone and reader known to each other.
func (t *Till) pair(ctx context.Context) (err error) {
	if t.bond, err = reader.Pair(radio{t}, t.m.cfg.Rand("phone/"+t.ID), func(string) bool { return true }); err != nil {
		return err
	}
	return t.boot(ctx)
}

// kept is a terminal's image.
type kept struct {
	Flash map[string][]byte `json:"flash"`
	Peer  [8]byte           `json:"peer"`
	Bond  [16]byte          `json:"bond"`
	Facts []remembered      `json:"facts,omitempty"`
}

func (t *Till) file() string { return filepath.Join(t.m.cfg.Dir, "tills", t.ID+".json") }

// keep writes the terminal's image.
func (t *Till) keep() error {
	if t.m.cfg.Dir == "" {
		return nil
	}
	k := kept{Flash: map[string][]byte{}, Peer: t.bond.Peer, Bond: t.bond.Key, Facts: t.lately()}
	for n, f := range t.flash {
		k.Flash[n] = f.Image()
	}
	raw, err := json.Marshal(k)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(t.file()), 0o700)
	}
	if err != nil {
		return fmt.Errorf("keeping till %s: %w", t.ID, err)
	}
	return street.WriteFile(t.file(), raw)
}

// load reads it; without one the terminal is not installed.
func (t *Till) load() error {
	if t.m.cfg.Dir == "" {
		return nil
	}
	raw, err := os.ReadFile(t.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	flash := map[string]*terminal.Flash{}
	for n := range sectors {
		if err == nil {
			flash[n], err = terminal.RestoreFlash(k.Flash[n])
		}
	}
	if err != nil {
		return fmt.Errorf("image of till %s: %w", t.ID, err)
	}
	t.flash, t.bond = flash, reader.Bond{Peer: k.Peer, Key: k.Bond}
	t.relearn(k.Facts)
	return nil
}
