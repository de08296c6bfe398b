package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"koala/app/papers"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/dispute"
	"koala/internal/db"
	"koala/spec/emv"
	"koala/spec/firmware"
	"koala/transit"
	"koala/tsm"
	"koala/web"
	"koala/web/home"
	trade "koala/web/merchant"
	trading "koala/web/merchant/shell"
	"koala/web/merchant/till"
	"koala/web/open"
	"koala/web/ops"
	"koala/web/wearer"
	"koala/web/wearer/desk"
)

// Pages is what the consoles need beyond the house itself. The zero value is
// a house without a city: no gates to walk to, bands bring their own agents.
type Pages struct {
	City   home.City
	Street wearer.Street
	Wrist  wearer.Wrist
}

// NewKit makes the web kit of this house. Sessions live by wall time, which
// must not be a city's clock.
func (h *House) NewKit(ctx context.Context, wall func() time.Time, demo []web.DemoUser) (*web.Kit, error) {
	return web.New(ctx, web.Config{Store: h.Store, Accounts: accounts{h.Desk, h.Store}, Rand: h.Config.Rand,
		Now: wall, Log: h.Config.Log, Demo: demo})
}

// Handler is the front door: every console, and the devices' door.
func (h *House) Handler(kit *web.Kit, p Pages) http.Handler {
	if p.Street == nil {
		p.Street = elsewhere{h}
	}
	network := home.Map(h.Network)
	mux := http.NewServeMux()
	mux.Handle("/device/", h.DeviceHandler())
	mux.Handle("/", home.New(home.Deps{Kit: kit, City: p.City, Network: network, Keys: h.papers().List, Store: h.Store, Slips: h.Slips}))
	my := wearer.New(wearer.Deps{Kit: kit, Network: network, Street: p.Street, Wrist: p.Wrist,
		Desk:  desk.New(h.Store, h.Book, h.Keys, h.TSM),
		Trips: desk.NewTrips(h.Store, h.Book, h.Network, h.Transit.Books()),
		Uses:  desk.NewUses(h.Store, h.Book, h.Acquiring), Losses: desk.NewLosses(h.Store, h.TSM), Body: desk.NewBody(h.Store), CAs: h.authorities,
		Notes: desk.NewNotes(h.Store), Firms: desk.NewFirms(h.Store, h.Keys, kit.Now),
		Ref: h.newRef, Now: h.Now})
	mux.Handle("/my", my)
	mux.Handle("/my/", my)
	staff := ops.New(ops.Deps{Kit: kit, Store: h.Store, Book: h.Book, Keys: h.Keys, TSM: h.TSM,
		Transit: h.Transit.Books(), Office: h.Acquiring, Publish: h.Transit.Publish, Network: h.Network, Map: network, Catalog: catalogue,
		Connect: func(ctx context.Context, band string) { h.connect(ctx, p.Street, band) },
		Switch:  h.Switch, Risk: h.Risk, Sales: findSales, Inbox: h.Inbox, Sources: []dispute.Source{till.Deps{Desk: trading.Desk{Kit: kit, Store: h.Store}, Book: h.Book, Switch: h.Switch, Slips: h.Slips}}})
	mux.Handle("/ops", staff)
	mux.Handle("/ops/", staff)
	shops := trade.New(trade.Deps{Kit: kit, Store: h.Store, Book: h.Book, Switch: h.Switch, Merchants: h.Merchants, People: h.Desk, Keys: h.Keys, Bills: h.papers(), Slips: h.Slips, Ref: h.newRef})
	mux.Handle("/merchant", shops)
	mux.Handle("/merchant/", shops)
	programs, developers := open.New(open.Deps{Kit: kit, Store: h.Store, TSM: h.TSM, Now: kit.Now, Ref: h.newRef, Log: h.Config.Log,
		Connect: func(ctx context.Context, band string) { h.connect(ctx, p.Street, band) }})
	mux.Handle("/v1/", programs)
	mux.Handle("/developers", developers)
	kit.SetDoors(doors...)
	return kit.House(mux, "/device/", "/v1/")
}

// papers are the keys that the house signs papers with.
func (h *House) papers() papers.Desk { return papers.Desk{Store: h.Store, Keys: h.Keys} }

// catalogue is what the elements of this program can have installed, as a
// release of bands.
func catalogue() firmware.Release {
	r := firmware.Release{EN: "New kinds of cards", ZH: "新卡种"}
	for _, f := range catalog.New(isd.Config{}).LoadFiles() {
		for _, m := range f.Modules {
			r.Modules = append(r.Modules, firmware.Module{LoadFile: string(f.AID), Module: string(m), Version: f.Version})
		}
	}
	return r
}

var doors = []web.Door{
	{Href: "/my/", Icon: "watch", Audience: web.Person,
		Name: web.Text{ZH: "我的手环", EN: "My band"},
		Lead: web.Text{ZH: "空中开卡、充值、刷闸、看每一笔票价怎么来", EN: "Add a card over the air, top up, tap a gate, see where each fare comes from"}},
	{Href: "/merchant/", Icon: "store", Audience: web.Trade,
		Name: web.Text{ZH: "商户", EN: "Shop"},
		Lead: web.Text{ZH: "今天收了多少、何时到账、为什么收这个手续费", EN: "What came in today, when it arrives, and why a fee is what it is"}},
	{Href: "/ops/", Icon: "gauge", Audience: web.Staff,
		Name: web.Text{ZH: "运营", EN: "Operations"},
		Lead: web.Text{ZH: "订单与指令、闸机、行程、账簿、清算", EN: "Orders and APDUs, gates, journeys, books, settlement"}},
	{Href: "/developers", Icon: "binary", Audience: web.Public,
		Name: web.Text{ZH: "开放接口", EN: "Developers"},
		Lead: web.Text{ZH: "用接口描述卡片模板，空中发卡到手环", EN: "Describe card templates by an API and issue cards to bands"}},
}

// authorities are the keys under which the house's own bank cards hold.
func (h *House) authorities(ctx context.Context) ([]emv.CAKey, error) { return h.Bank.CAKeys(ctx) }

// elsewhere is the street of a house without a city: bands and gates are real,
// come by the devices' door, and nothing can be held to anything from a page.
type elsewhere struct{ h *House }

// Band is the person's newest band, as far as the house knows it.
func (e elsewhere) Band(ctx context.Context, who string) (v wearer.BandView, err error) {
	err = e.h.Store.Read(ctx, func(q *db.Query) error {
		bands, err := tsm.BandsOf(q, who)
		if n := len(bands); n > 0 {
			v.ID = bands[n-1].ID
		}
		return err
	})
	return v, err
}

// Gates are none.
func (elsewhere) Gates(context.Context) ([]wearer.Gate, error) { return nil, nil }

// Tap finds no gate.
func (elsewhere) Tap(_ context.Context, _ string, a wearer.TapAct) error {
	return fmt.Errorf("gate %q: %w", a.Gate, transit.ErrNoDevice)
}

// Tapped finds no tap.
func (elsewhere) Tapped(context.Context, string, string) (wearer.TapResult, error) {
	return wearer.TapResult{}, wearer.ErrNoTap
}

// Sign finds no slip.
func (elsewhere) Sign(context.Context, string, string, []byte) error { return wearer.ErrNoTap }

// Connect leaves it to the band's own agent.
func (elsewhere) Connect(context.Context, string) {}

// newRef names a form, so that sending it twice is one act.
func (h *House) newRef() string {
	b := make([]byte, 12)
	if _, err := io.ReadFull(h.Config.Rand, b); err != nil {
		panic("app: no randomness: " + err.Error())
	}
	return hex.EncodeToString(b)
}

// DeviceHandler is the machines' door alone, for a city without pages.
func (h *House) DeviceHandler() http.Handler { return newDeviceDoor(h) }
