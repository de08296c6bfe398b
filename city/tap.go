package city

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/acquiring"
	"koala/band"
	"koala/card"
	"koala/city/street"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/coupon"
	"koala/spec/desfire"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit"
	"koala/web"
	"koala/web/home"
	"koala/web/wearer"
)

// keptTaps is how many taps of one person are remembered.
const keptTaps = 20

// A heldTap is a tap as its page shows it, and what finds its trip.
type heldTap struct {
	wearer.TapResult
	card   purse.Number
	seq    uint16
	reader string
	reason terminal.Reason
	visit  *street.Visit // at a shop or site
	rrn    string        // at a shop whose terminal asks the switch
	stan   uint32        // and its trace number there
}

// Tap holds the person's band to a gate. The same Ref again is the same tap.
func (l *Live) Tap(ctx context.Context, who string, a wearer.TapAct) error {
	if _, known := l.recallTap(who, a.Ref); known {
		return nil
	}
	if p, ok := street.PostOf(a.Gate); ok {
		return l.visit(ctx, who, a, p)
	}
	if t, err := l.market.Till(a.Gate); err == nil {
		return l.sell(ctx, who, a, t)
	}
	id, err := l.bandFor(ctx, who, bandStem(who))
	if err != nil {
		return err
	}
	p, err := l.pocketOf(id)
	if err != nil {
		return err
	}
	if issuing.IDOf(p.card) != a.Card && !p.blocked {
		return fmt.Errorf("tap at %s: %w", a.Gate, wearer.ErrNoCard)
	}
	reader, repair, err := l.walkTo(ctx, who, a.Gate, p)
	if err != nil {
		return err
	}
	o, err := l.street.Tap(ctx, id, reader.ID, street.Options{Talk: true, Fault: band.Fault{Lose: a.Pull}, Repair: repair})
	if err != nil {
		return err
	}
	l.tapped(o)
	if _, err := l.street.Collect(ctx, reader.ID); err != nil {
		l.log.Warn("a gate could not hand over", "gate", reader.ID, "err", err)
	}
	l.keepTap(who, l.resultOf(o, a))
	return nil
}

func (l *Live) keepTap(who string, t heldTap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := append(l.taps[who], t)
	l.taps[who] = kept[max(0, len(kept)-keptTaps):]
}

// walkTo chooses the reader at a place: at a station the exit gates for who is
// inside, the entry gates otherwise. Whoever left a reader's field too early
// tries the same one again, which alone can tell what the card did; whoever was
// sent to the self-service machine goes there. A bus stands where its timetable
// says.
func (l *Live) walkTo(ctx context.Context, who, place string, p pocket) (r *street.Reader, repair terminal.Reason, err error) {
	if line, ok := l.street.Bus(place); ok {
		if r, err = l.street.Reader(ctx, place); err != nil {
			return nil, 0, err
		}
		return r, 0, r.At(line.Where(l.clock.Now()))
	}
	name := place + ".in"
	if p.inside && !p.onBus {
		name = place + ".out"
	}
	switch last, ok := l.lastTap(who); {
	case !ok || last.Gate != place:
	case last.Kind == wearer.TapTorn:
		name = last.reader
	case last.reason == terminal.MissingExit || last.reason == terminal.MissingEntry:
		name, repair = place+".desk", last.reason
	}
	r, err = l.street.Reader(ctx, name)
	return r, repair, err
}

func (l *Live) lastTap(who string) (t heldTap, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.taps[who]); n > 0 {
		return l.taps[who][n-1], true
	}
	return t, false
}

func (l *Live) recallTap(who, ref string) (heldTap, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.taps[who] {
		if t.Ref == ref {
			return t, true
		}
	}
	return heldTap{}, false
}

// Tapped shows how a tap ended.
func (l *Live) Tapped(ctx context.Context, who, ref string) (_ wearer.TapResult, err error) {
	t, known := l.recallTap(who, ref)
	if !known {
		return wearer.TapResult{}, fmt.Errorf("tap %q: %w", ref, wearer.ErrNoTap)
	}
	if t.card == "" && t.visit == nil {
		t.Messages, err = l.messages(ctx, t.rrn)
		return t.TapResult, err
	}
	err = l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		switch {
		case t.visit == nil:
			t.Trip, err = journeyOf(q, t.card, t.seq)
		case t.visit.Passage != nil:
			t.Payment, err = passageOf(q, *t.visit, t.Card)
		default:
			t.Payment, err = recordOf(q, *t.visit)
		}
		return err
	})
	return t.TapResult, err
}

// resultOf puts a tap's outcome into the page's words.
func (l *Live) resultOf(o street.Outcome, a wearer.TapAct) heldTap {
	r := o.Reader
	en, zh := o.Words()
	t := heldTap{TapResult: wearer.TapResult{Ref: a.Ref, Gate: a.Gate, Station: l.placeOf(r), At: o.At, Reason: web.Text{ZH: zh, EN: en},
		Fen: int64(o.Fen), BalanceFen: int64(o.Balance), Total: o.Took}, reader: r.ID, reason: o.Reason}
	if s, ok := l.house.Network.ByID(t.Station); ok {
		t.Place = web.Text{ZH: s.ZH, EN: s.EN}
	}
	if r.Kind == transit.Machine {
		t.Place = web.Text{ZH: t.Place.ZH + " · 自助补票机", EN: t.Place.EN + ", self-service machine"}
	}
	if line, ok := l.street.Bus(r.ID); ok {
		t.Place = web.Text{ZH: line.ZH + " · " + t.Place.ZH, EN: line.EN + " at " + t.Place.EN}
	}
	switch {
	case o.Result == terminal.TryAgain:
		t.Kind = wearer.TapTorn
	case o.Result != terminal.Opened:
		t.Kind = wearer.TapRefused
	case r.Kind == transit.OnBus:
		t.Kind = wearer.TapBus
	case r.Kind == transit.ExitGate:
		t.Kind = wearer.TapOut
	default:
		t.Kind = wearer.TapIn
	}
	if o.Stored != nil {
		t.card, t.seq = o.Stored.Debit.Card, o.Stored.Debit.Seq
	}
	t.Parts, t.Talk = parts(o.Time, o.Took), exchanges(o.Talk)
	return t
}

// parts tells what a tap's time went into. What a chip does after its last
// answer, the pages of a payment's commit, is in the whole alone: it is the
// chip's.
func parts(t street.Timing, whole time.Duration) []wearer.TapPart {
	seen := terminal.Activation(terminal.Kbit106) + t.Air106 + t.PSAM + t.Chip
	t.Chip += max(0, whole-seen)
	out := []wearer.TapPart{
		{Name: web.Text{ZH: "激活", EN: "Activation"}, Took: terminal.Activation(terminal.Kbit106)},
		{Name: web.Text{ZH: "空中传输（106 kbit/s）", EN: "On the air (106 kbit/s)"}, Took: t.Air106},
		{Name: web.Text{ZH: "安全模块触点", EN: "PSAM contacts"}, Took: t.PSAM},
		{Name: web.Text{ZH: "芯片计算与写入", EN: "Chips computing and writing"}, Took: t.Chip},
	}
	if t.PSAM == 0 {
		out = slices.Delete(out, 2, 3)
	}
	return out
}

func exchanges(talk []street.Exchange) (out []wearer.Exchange) {
	for _, x := range talk {
		e := wearer.Exchange{Command: x.Command.Bytes(), Air: x.Air106, Told: &x.Told}
		if !x.Torn {
			e.Answer = x.Response.Bytes()
		}
		out = append(out, e)
	}
	return out
}

// readerKinds are the pages' words for the devices of shops and sites.
var readerKinds = map[street.Kind]wearer.ReaderKind{street.Till: wearer.ReaderTill, street.CanteenTill: wearer.ReaderCanteen,
	street.Door: wearer.ReaderDoor, street.CouponDesk: wearer.ReaderCoupon}

// tapKinds are the pages' words for the ends of visits.
var tapKinds = map[street.End]wearer.TapKind{street.Paid: wearer.TapPaid, street.Online: wearer.TapOnline, street.Returned: wearer.TapReturned,
	street.Served: wearer.TapServed, street.Passed: wearer.TapOpened, street.Redeemed: wearer.TapRedeemed, street.Again: wearer.TapTorn}

// shopGates lists the devices of shops and sites as places to hold a band to.
func (l *Live) shopGates(ctx context.Context) ([]wearer.Gate, error) {
	var menu desfire.Menu
	err := l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		menu, err = acquiring.MenuOf(q, street.Canteen().Payee())
		return err
	})
	if err != nil {
		return nil, err
	}
	meal, serving := menu.At(l.clock.Now())
	var out []wearer.Gate
	for _, p := range street.Posts() {
		at, err := p.At(l.house.Network)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.ID, err)
		}
		shop := web.Text{ZH: p.Shop.ZH, EN: p.Shop.EN}
		g := wearer.Gate{ID: p.ID, Station: at.ID, Kind: readerKinds[p.Kind], Shop: shop, Name: web.Text{ZH: p.Shop.ZH + " · " + p.ZH, EN: p.Shop.EN + ", " + p.EN}}
		switch p.Kind {
		case street.Till:
			g.MaxFen = 1000_00
		case street.CanteenTill:
			g.Note = web.Text{ZH: "现在不供餐", EN: "no meal is served now"}
			if serving {
				g.Note = web.Text{ZH: meal.ZH, EN: meal.EN}
				for _, d := range meal.Dishes {
					g.Dishes = append(g.Dishes, wearer.Dish{No: d.ID, Name: web.Text{ZH: d.ZH, EN: d.EN}, Fen: int64(d.Fen)})
				}
			}
		case street.Door:
			g.Note = web.Text{ZH: p.HoursZH, EN: p.HoursEN}
		}
		out = append(out, g)
	}
	return out, nil
}

// visit holds the person's band to a device of a shop or site.
func (l *Live) visit(ctx context.Context, who string, a wearer.TapAct, p street.Post) error {
	id, err := l.bandFor(ctx, who, bandStem(who))
	if err != nil {
		return err
	}
	var cards []issuing.Card
	err = l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		cards, err = issuing.InBand(q, id)
		return err
	})
	if err != nil {
		return err
	}
	w := street.Wish{Fen: uint64(max(a.Fen, 0)), Contact: a.Contact, PIN: a.PIN, Dishes: a.Dishes}
	if w.Coupon, err = couponOf(a, p, cards); err != nil {
		return err
	}
	if p.Kind == street.CouponDesk {
		if w.Stamp, err = l.wantsStamp(id, p, w.Coupon); err != nil {
			return err
		}
	}
	if chosen, ok := find(cards, a.Card); ok && p.Kind == street.Till && chosen.Kind.Bank() {
		if w.AID = chosen.Instance; !a.Contact {
			if err := l.putFirst(id, chosen.Instance); err != nil {
				return err
			}
		}
	}
	if p.Kind == street.Door {
		l.endOf(ctx, who) // a pass written this moment: its phone may not have said so yet
	}
	v, err := l.street.Present(ctx, id, p.ID, w, street.Options{Talk: true, Fault: band.Fault{Lose: a.Pull}})
	if err != nil {
		return err
	}
	l.visited(v)
	if _, err := l.street.HandIn(ctx, p.ID); err != nil {
		l.log.Warn("a shop could not hand in", "device", p.ID, "err", err)
	}
	l.keepTap(who, l.visitResult(v, a, cards))
	return nil
}

func find(cards []issuing.Card, id issuing.CardID) (issuing.Card, bool) {
	for _, c := range cards {
		if c.ID == id && id != "" {
			return c, true
		}
	}
	return issuing.Card{}, false
}

// couponOf reads which coupon is meant: its number, or that of the card chosen.
func couponOf(a wearer.TapAct, p street.Post, cards []issuing.Card) (id coupon.ID, err error) {
	text := a.Coupon
	if c, ok := find(cards, a.Card); ok && text == "" && c.Kind == issuing.Coupon {
		text, _ = issuing.CouponName(c, p.Payee())
	}
	if text == "" || p.Kind != street.CouponDesk {
		return id, nil
	}
	if c, ok := find(cards, issuing.CardID(text)); ok {
		text, _ = issuing.CouponName(c, p.Payee())
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("coupon %q: %w", text, wearer.ErrNoCard)
	}
	return coupon.ID(b), nil
}

// wantsStamp says whether the cashier stamps instead of redeeming: a stamp card
// of the shop that is not full yet, the one chosen or the only one there is.
func (l *Live) wantsStamp(bandID string, p street.Post, id coupon.ID) (stamp bool, err error) {
	shop := acquiring.Shop{ID: p.Payee()}.Merchant()
	err = l.street.Look(bandID, func(b *band.Band) error {
		s, err := shadowOf(l.street.Catalog(), b)
		if err != nil {
			return err
		}
		for _, c := range s.coupons() {
			if c.Merchant == shop && (c.ID == id || id == coupon.ID{}) {
				stamp = c.Kind == coupon.StampCard && c.Stamps < c.Needed
			}
		}
		return nil
	})
	return stamp, err
}

// putFirst makes the card on the band's display the one that readers get, as
// the band itself does in the registry of its element.
func (l *Live) putFirst(bandID string, instance []byte) error {
	return l.street.Change(bandID, func(b *band.Band) error {
		if err := b.Element.PowerOn(card.Contact); err != nil {
			return err
		}
		defer b.Element.PowerOff()
		for _, c := range []iso7816.Command{iso7816.Select([]byte(gp.ContactlessAID)),
			gp.ContactlessSet{Change: gp.PutFirst, Apps: []gp.AID{gp.AID(instance)}}.Command()} {
			if r, err := b.Element.Transmit(c); err != nil || !r.SW.OK() {
				return errors.Join(fmt.Errorf("choosing a card: %v: %w", r.SW, errPeek), err)
			}
		}
		return nil
	})
}

// visitResult puts a visit into the page's words.
func (l *Live) visitResult(v street.Visit, a wearer.TapAct, cards []issuing.Card) heldTap {
	p := v.At.Post
	kind, known := tapKinds[v.End]
	if !known {
		kind = wearer.TapRefused
	}
	t := heldTap{TapResult: wearer.TapResult{Ref: a.Ref, Gate: a.Gate, Reader: readerKinds[p.Kind], At: v.When, Kind: kind,
		Place: web.Text{ZH: p.Shop.ZH + " · " + p.ZH, EN: p.Shop.EN + ", " + p.EN}, Reason: web.Text{EN: v.Words[0], ZH: v.Words[1]},
		Fen: v.Fen, BalanceFen: v.Balance, Total: v.Took, Receipt: v.Receipt[0], ReceiptZH: v.Receipt[1], Card: answered(v, cards),
		Parts: parts(v.Time, v.Took), Talk: exchanges(v.Talk)}, reader: p.ID, visit: &v}
	if at, err := p.At(l.house.Network); err == nil {
		t.Station = at.ID
	}
	return t
}

// answered is which card of the band a device saw.
func answered(v street.Visit, cards []issuing.Card) issuing.CardID {
	if v.Card == "" || v.Card == string(make([]byte, len(v.Card))) {
		return ""
	}
	for _, c := range cards {
		name, _ := issuing.CouponName(c, v.At.Payee())
		switch v.At.Kind {
		case street.Till:
			if c.Kind.Bank() && strings.HasSuffix(v.Card, c.Tail) {
				return c.ID
			}
		case street.CanteenTill:
			if c.Kind == issuing.Canteen {
				return c.ID
			}
		case street.Door:
			if c.Kind == issuing.Door {
				return c.ID
			}
		default:
			if r := v.Redemption.Redemption; c.Kind == issuing.Coupon && r != nil && strings.EqualFold(r.Coupon.String(), name) {
				return c.ID
			}
		}
	}
	return ""
}

// recordOf is what the house calls the record of a visit; empty until it was
// handed in.
func recordOf(q *db.Query, v street.Visit) (string, error) {
	f := acquiring.Filter{TID: v.At.TID(), Limit: keptTaps}
	switch {
	case v.Sale != nil && v.Sale.Record != nil:
		list, err := acquiring.Sales(q, f)
		for _, s := range list {
			if s.Number == v.Sale.Record.Number {
				return s.ID, err
			}
		}
		return "", err
	case v.Meal != nil && v.Meal.Sale != nil:
		list, err := acquiring.Meals(q, f)
		for _, m := range list {
			if m.Seq == v.Meal.Sale.Seq {
				return m.ID, err
			}
		}
		return "", err
	case v.Redemption != nil && v.Redemption.Redemption != nil:
		list, err := acquiring.Redemptions(q, f)
		for _, x := range list {
			if r := v.Redemption.Redemption; x.Coupon == r.Coupon && x.Counter == r.Counter {
				return x.ID, err
			}
		}
		return "", err
	}
	return "", nil
}

// passageOf is what the house calls a passage of a card; empty until then.
func passageOf(q *db.Query, v street.Visit, id issuing.CardID) (string, error) {
	list, err := acquiring.PassagesOf(q, id, "", keptTaps)
	for _, p := range list {
		if p.TID == v.At.TID() && p.At.Equal(v.Passage.At.Truncate(time.Second)) {
			return p.ID, err
		}
	}
	return "", err
}

// visitActs are the ends of visits that the feed tells of.
var visitActs = map[street.Kind]home.Kind{street.Till: home.Sale, street.CanteenTill: home.Meal, street.Door: home.Door, street.CouponDesk: home.Coupon}

// visited tells the map and the feed of a visit.
func (l *Live) visited(v street.Visit) {
	p := v.At.Post
	who := v.Band
	switch {
	case v.Card == "":
	case p.Kind == street.Till:
		who = v.Card
	default:
		who = fmt.Sprintf("%X", v.Card)
	}
	a := act{Act: home.Act{Who: "…" + who[max(0, len(who)-4):], Fen: v.Fen, Shop: web.Text{ZH: p.Shop.ZH, EN: p.Shop.EN}, Kind: visitActs[p.Kind]}, visit: &v}
	if at, err := p.At(l.house.Network); err == nil {
		a.Station = at.ID
	}
	switch v.End {
	case street.Again:
		a.Kind = home.Torn
	case street.Refused, street.Dark:
		return
	default:
		l.mu.Lock()
		l.seen.Taps++
		l.mu.Unlock()
	}
	l.cfg.Hub.Publish("city", "tap", map[string]string{"station": a.Station, "kind": "out"})
	l.happened(a)
}
