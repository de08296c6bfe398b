package street

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/acquiring"
	"koala/calendar"
	"koala/card/catalog"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/desfire"
)

// The site of the office tower: its number, who owns it, and the names of its
// plan.
const (
	siteID     = "site_kesi"
	siteNumber = 1001
	employer   = "kesi"
	owner      = "operator"
	staff      = "city" // who approves what the shops hand in

	zoneLobby, zoneArchive = 1, 2
	always, officeHours    = 1, 2
)

// Codes of the cards that shops and the office tower hand out.
const (
	CanteenCard  = "canteen-kesi"
	DoorCard     = employer + "/door"
	BakeryCoupon = "maixiao/spring"
	BookStamps   = "sanwei/stamps"
)

// fundFen is what every firm has paid in for subsidies and coupons.
const fundFen = 100_000_00

// OpenShops registers the shops, their firms and the office tower with the
// house, hands in menu, plan and card templates, and puts the cards on sale. It
// may be called at every start: what is there stays.
func (s *Street) OpenShops(ctx context.Context) error {
	err := s.Insist(func() error { return s.House().Store.Write(ctx, openShops) })
	if err != nil {
		return fmt.Errorf("opening the city's shops: %w", err)
	}
	return nil
}

func openShops(tx *db.Tx) error {
	for _, f := range []acquiring.Firm{
		{ID: employer, NameEN: "Kesi Technology", NameZH: "科思科技"}, {ID: "maixiao", NameEN: "Maixiao Foods", NameZH: "麦小食品"},
		{ID: "sanwei", NameEN: "Sanwei Bookshops", NameZH: "三味书店"},
	} {
		if err := acquiring.AddFirm(tx, f); err != nil {
			return err
		}
		if err := acquiring.Fund(tx, "first:"+f.ID, f.ID, money.Fen(fundFen)); err != nil {
			return err
		}
	}
	_, err := acquiring.SiteOf(tx, siteID)
	fresh := errors.Is(err, acquiring.ErrNotFound)
	err = acquiring.AddSite(tx, acquiring.Site{ID: siteID, Number: siteNumber, Owner: owner, Firm: employer, NameEN: kesi.EN, NameZH: kesi.ZH})
	if err != nil {
		return err
	}
	for _, x := range Shops() {
		shop := acquiring.Shop{ID: x.Payee(), NameEN: x.EN, NameZH: x.ZH, MID: x.MID(), MCC: fmt.Sprintf("%04d", x.Category), City: "Beijing"}
		if x == kesi {
			shop.Site = siteID
		}
		if err := acquiring.AddShop(tx, shop); err != nil {
			return err
		}
	}
	for _, p := range posts {
		if err := acquiring.AddDevice(tx, p.device()); err != nil {
			return err
		}
	}
	if fresh { // what was changed since is kept
		if err := errors.Join(acquiring.SetMenu(tx, kesi.Payee(), menu()), acquiring.SetPlan(tx, siteID, plan())); err != nil {
			return err
		}
	}
	return sellCards(tx)
}

// Payee is the shop's name in the books.
func (s *Shop) Payee() string { return "shop_" + s.ID }

// MID is the shop's merchant number: institution 3, region 4, category 4 and
// its place in the list.
func (s *Shop) MID() string { return fmt.Sprintf("9001000%04d%04d", s.Category, s.number()) }

// device is how the acquirer knows the device of a post.
func (p Post) device() acquiring.Device {
	d := acquiring.Device{TID: p.TID(), Shop: p.Payee(), PlaceEN: p.EN, PlaceZH: p.ZH}
	switch p.Kind {
	case Till:
		d.Kind, d.MID = acquiring.POS, p.MID()
	case CanteenTill:
		d.Kind = acquiring.Canteen
	case CouponDesk:
		d.Kind = acquiring.Coupon
	default:
		d.Kind, d.Shop, d.Site = acquiring.Door, "", siteID
	}
	return d
}

// TID is the terminal number: kind 1, shop 4, device 3 digits.
func (p Post) TID() string {
	kind := map[Kind]int{Till: 1, CanteenTill: 2, Door: 3, CouponDesk: 4}[p.Kind]
	return fmt.Sprintf("%d%04d%03d", kind, p.number(), p.Number)
}

// number is the shop's place in the list, from 1.
func (s *Shop) number() int { return slices.Index(Shops(), s) + 1 }

// menu is the canteen's. Prices and shares are invented.
func menu() desfire.Menu {
	return desfire.Menu{Meals: []desfire.Meal{
		{ID: 1, From: 6*60 + 30, To: 10 * 60, EN: "breakfast", ZH: "早餐", Dishes: []desfire.Dish{
			{ID: 1, Fen: 3_00, EN: "soy milk", ZH: "豆浆"}, {ID: 2, Fen: 2_00, EN: "fried dough", ZH: "油条"}, {ID: 3, Fen: 4_50, EN: "egg pancake", ZH: "鸡蛋饼"}}},
		{ID: 2, From: 10*60 + 30, To: 14 * 60, Percent: 50, Subsidy: 10_00, EN: "lunch", ZH: "午餐", Dishes: []desfire.Dish{
			{ID: 1, Fen: 12_00, EN: "noodles with soybean paste", ZH: "炸酱面"}, {ID: 2, Fen: 15_00, EN: "kung pao chicken", ZH: "宫保鸡丁"},
			{ID: 3, Fen: 9_00, EN: "tomato and egg", ZH: "西红柿炒鸡蛋"}, {ID: 4, Fen: 2_00, EN: "rice", ZH: "米饭"}}},
		{ID: 3, From: 16 * 60, To: 21 * 60, EN: "dinner", ZH: "晚餐", Dishes: []desfire.Dish{
			{ID: 1, Fen: 14_00, EN: "dumplings", ZH: "水饺"}, {ID: 2, Fen: 16_00, EN: "braised pork", ZH: "红烧肉"}, {ID: 3, Fen: 2_00, EN: "rice", ZH: "米饭"}}},
	}}
}

// plan is the office tower's: the lobby at any hour, the archive in office
// hours.
func plan() desfire.Plan {
	var lobby, archive []uint32
	for _, p := range posts {
		switch p.ID {
		case "kesi.lobby":
			lobby = append(lobby, acquiring.DoorNumber(p.TID()))
		case "kesi.archive":
			archive = append(archive, acquiring.DoorNumber(p.TID()))
		}
	}
	return desfire.Plan{
		Zones: []desfire.Zone{{ID: zoneLobby, Doors: lobby}, {ID: zoneArchive, Doors: archive}},
		Schedules: []desfire.Schedule{{ID: always, Windows: []desfire.Window{{Days: desfire.EveryDay, From: 0, To: 1440}}},
			{ID: officeHours, Windows: []desfire.Window{{Days: desfire.Weekdays, From: 8 * 60, To: 19 * 60}}}},
	}
}

// Admit lets a door card of the tower through its doors, as its owner does with
// the card of somebody who works there. A card of another kind is let be.
func (s *Street) Admit(tx *db.Tx, card issuing.Card) error {
	if card.Kind != issuing.Door || card.Product != DoorCard {
		return nil
	}
	for _, g := range []acquiring.Grant{{Site: siteID, Card: card.ID, Zone: zoneLobby, Schedule: always}, {Site: siteID, Card: card.ID, Zone: zoneArchive, Schedule: officeHours}} {
		if err := acquiring.Admit(tx, g); err != nil {
			return err
		}
	}
	return nil
}

// sellCards hands the templates in, has them approved and puts the cards on
// sale.
func sellCards(tx *db.Tx) error {
	for _, x := range []struct {
		issuer, code string
		kind         issuing.Kind
		en, zh, art  string
		data         any
	}{
		{issuing.House, CanteenCard, issuing.Canteen, "Kesi canteen", "科思餐卡", "canteen", issuing.CanteenData{Site: siteID}},
		{employer, "door", issuing.Door, "Kesi Tower pass", "科思门禁卡", "door", issuing.DoorData{Site: siteNumber, Days: 730}},
		{"maixiao", "spring", issuing.Coupon, "Maixiao: 5 off 20", "麦小满20减5", "coupon", issuing.CouponData{Merchant: maixiao.Payee(), Gives: "amount", Value: 5_00, Minimum: 20_00, Uses: 3, Days: 90}},
		{"sanwei", "stamps", issuing.Coupon, "Sanwei stamp card", "三味集章卡", "coupon", issuing.CouponData{Merchant: sanwei.Payee(), Gives: "stamps", Value: 15_00, Minimum: 10_00, Uses: 5, Needed: 4, Days: 365}},
	} {
		data, err := json.Marshal(x.data)
		if err != nil {
			return err
		}
		t, err := issuing.Submit(tx, issuing.Template{Issuer: x.issuer, Code: x.code, Kind: x.kind, NameEN: x.en, NameZH: x.zh, Art: x.art, Space: 2 << 10, Data: data})
		if err == nil && t.State == issuing.Submitted {
			t, err = issuing.Approve(tx, t.ID, staff)
		}
		if err == nil && x.issuer == issuing.House {
			err = sellCanteen(tx, t)
		}
		if err != nil {
			return fmt.Errorf("card %s/%s: %w", x.issuer, x.code, err)
		}
	}
	return nil
}

// sellCanteen puts the canteen's card on sale with what it may hold.
func sellCanteen(tx *db.Tx, t issuing.Template) error {
	return issuing.SetProduct(tx, issuing.Product{Code: t.Code, Kind: t.Kind, Template: t.ID, From: time.Date(2015, 9, 1, 0, 0, 0, 0, calendar.Beijing),
		NameEN: t.NameEN, NameZH: t.NameZH, Art: t.Art, Package: []byte(catalog.DESFireLoadFile), Module: []byte(catalog.DESFireModule),
		Instance: []byte(catalog.DESFireInstance), Years: 5, Deposit: money.Fen(0), MinLoad: money.Fen(1_00), MaxLoad: money.Fen(500_00),
		MaxBalance: money.Fen(desfire.CanteenLimit), Source: "the city's canteen"})
}
