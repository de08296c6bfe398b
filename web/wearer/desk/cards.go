package desk

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/acquiring"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/rule"
	"koala/ledger"
	"koala/spec/emv"
	"koala/spec/tlv"
	"koala/tsm"
	"koala/web"
	"koala/web/wearer"
)

// Cards lists who's living cards, those of a band reported lost included.
func (h house) Cards(ctx context.Context, who string) (out []wearer.Card, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		list, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		slices.SortStableFunc(list, func(a, b issuing.Card) int { return a.Opened.Compare(b.Opened) })
		for _, c := range list {
			if _, moved := heirOf(list, c.ID); c.State.Over() || moved && !c.Suspended.IsZero() {
				continue // given back, or another card took its place
			}
			card, err := cardOf(q, c, h.store.Now())
			if err != nil {
				return err
			}
			out = append(out, card)
		}
		return markDefault(q, out)
	})
	if err != nil {
		return nil, fmt.Errorf("cards of %s: %w", who, err)
	}
	for i := range out {
		if err := h.inBooks(&out[i]); err != nil {
			return nil, fmt.Errorf("cards of %s: %w", who, err)
		}
	}
	return out, nil
}

// inBooks adds what the books hold for a card, or against it.
func (h house) inBooks(c *wearer.Card) error {
	account := issuing.Float(c.Number)
	if c.For == issuing.Credit {
		account = issuing.CreditAccount(c.Number)
	} else if !c.Worth() {
		return nil
	}
	b, err := h.book.Balance(account)
	if errors.Is(err, ledger.ErrNoAccount) {
		return nil // a card that is still on its way
	}
	if c.BookFen = b.Posted.Minor(); c.For == issuing.Credit {
		c.BookFen, c.OwesFen = 0, max(0, -c.BookFen)
	}
	return err
}

// markDefault finds the payment card that readers get first: the one the last
// order put there, as long as it works, or else the first by its priority.
func markDefault(q *db.Query, cards []wearer.Card) error {
	best, when := -1, time.Time{}
	for i, c := range cards {
		if !c.Pays() || !c.Usable {
			continue
		}
		list, err := tsm.Orders(q, tsm.Filter{Card: c.Number, Limit: 50})
		if err != nil {
			return err
		}
		for _, o := range list {
			if o.Kind == tsm.Default && o.State == tsm.Done && o.Changed.After(when) {
				best, when = i, o.Changed
			}
		}
		if best < 0 || when.IsZero() && priority[c.For] < priority[cards[best].For] {
			best = i
		}
	}
	if best >= 0 {
		cards[best].Default = true
	}
	return nil
}

// priority is the order of payment cards in their templates (tag 87).
var priority = map[issuing.Kind]int{issuing.ECash: 1, issuing.Debit: 2, issuing.Credit: 3}

// cardOf reads what a card's page shows beside its own row.
func cardOf(q db.Reader, c issuing.Card, now time.Time) (wearer.Card, error) {
	p, err := issuing.ProductOn(q, c.Product, c.Opened)
	if err != nil {
		return wearer.Card{}, err
	}
	out := wearer.Card{
		Number: c.ID, For: c.Kind, Kind: artOf(p), Tail: c.Tail, Name: web.Text{ZH: p.NameZH, EN: p.NameEN}, Issuer: words.TransitIssuer,
		Fen: c.Known.Balance.Minor(), Seen: c.Known.At, State: web.Text{ZH: c.State.Words(true), EN: c.State.Words(false)},
		Tone: cardTones[c.State], Usable: c.State == issuing.Active, Blocked: c.State == issuing.Blocked,
		MinLoadFen: p.MinLoad.Minor(), MaxLoadFen: p.MaxLoad.Minor(), MaxFen: p.MaxBalance.Minor(),
		DepositFen: c.Deposit.Minor(), To: c.To, Loads: c.Kind == issuing.Transit || c.Kind == issuing.Canteen,
	}
	if !c.Suspended.IsZero() {
		out.Lost, out.Usable, out.State, out.Tone = true, false, words.Suspended, web.Bad
	}
	if c.Carry.Rides > 0 {
		out.Was = join(words.CarriedRides.F(c.Carry.Rides), words.CarriedFen.F(web.Yuan(c.Carry.Spent.Minor())))
	}
	if p.Template == "" {
		out.Space = transitSpace
		return out, nil
	}
	t, err := issuing.TemplateOf(q, p.Template)
	if err != nil {
		return out, err
	}
	out.Space = t.Space
	if out.Issuer, err = issuerOf(q, p, t); err != nil {
		return out, err
	}
	return out, kindPart(q, c, t, now, &out)
}

// transitSpace is what the T-Union purse takes of an element: its files, logs
// and registry entry, bytes.
const transitSpace = 4 << 10

// kindPart fills in what the kind's template says.
func kindPart(q db.Reader, c issuing.Card, t issuing.Template, now time.Time, out *wearer.Card) error {
	switch c.Kind {
	case issuing.ECash, issuing.Debit, issuing.Credit:
		return bankPart(q, c, t, now, out)
	case issuing.Door:
		var d issuing.DoorData
		if err := json.Unmarshal(t.Data, &d); err != nil {
			return fmt.Errorf("template %s: %w", t.ID, err)
		}
		site, err := siteName(q, d.Site)
		out.Doors = site
		return err
	case issuing.Coupon:
		return couponPart(q, c, out)
	}
	return nil
}

// couponPart tells what a coupon gives as it was given out, whatever is given today.
func couponPart(q db.Reader, c issuing.Card, out *wearer.Card) error {
	g, err := issuing.GrantOf(q, c.ID)
	if err != nil {
		return err
	}
	shop, err := shopName(q, g.Data.Merchant)
	if err != nil {
		return err
	}
	used, err := acquiring.Used(q, c)
	out.Coupon = &wearer.Coupon{Gives: gives(g.Data), Merchant: shop, Uses: int(g.Data.Uses), Left: g.Left(used)}
	if c.Carry.Used > 0 {
		out.Was = words.CarriedUses.F(g.Left(c.Carry.Used), g.Data.Uses)
	}
	return err
}

// siteName names the doors of a site by its number; one that is not registered
// keeps the number.
func siteName(q db.Reader, number uint32) (web.Text, error) {
	sites, err := acquiring.Sites(q, "", 1000)
	for _, s := range sites {
		if s.Number == number {
			return web.Text{ZH: words.DoorsAt.To(web.ZH, s.NameZH), EN: words.DoorsAt.To(web.EN, s.NameEN)}, err
		}
	}
	return words.DoorsOf.F(number), err
}

func bankPart(q db.Reader, c issuing.Card, t issuing.Template, now time.Time, out *wearer.Card) error {
	var d issuing.BankData
	if err := json.Unmarshal(t.Data, &d); err != nil {
		return fmt.Errorf("template %s: %w", t.ID, err)
	}
	out.Loads, out.CreditFen = d.ECash, d.CreditLimit
	add := func(name web.Text, fen int64) {
		if fen > 0 {
			out.Limits = append(out.Limits, web.Fact{Name: name, Value: web.Yuan(fen)})
		}
	}
	for _, r := range []struct {
		rule rule.Name
		name web.Text
	}{{rule.Once, words.LimitOnce}, {rule.Day, words.LimitDay}} {
		if c.Kind == issuing.ECash {
			break // an e-cash card pays offline only
		}
		ruling, err := rule.On(q, string(c.ID), c.Product, r.rule, now)
		if err != nil {
			return err
		}
		add(r.name, ruling.Value)
	}
	if d.ECash {
		if err := offlinePart(q, c, d.SingleLimit, out); err != nil {
			return err
		}
	}
	add(words.LimitPIN, d.CVMLimit)
	add(words.LimitCredit, d.CreditLimit)
	return nil
}

// offlinePart is the limit of one offline payment (9F78): the product's, or what
// the card itself read back after the last update of it.
func offlinePart(q db.Reader, c issuing.Card, most int64, out *wearer.Card) error {
	if most <= 0 {
		return nil
	}
	out.OnceFen, out.OnceMaxFen = most, most
	orders, err := tsm.Orders(q, tsm.Filter{Card: c.ID, Limit: 100})
	if err != nil {
		return err
	}
	for _, o := range orders {
		if o.Kind != tsm.Update || o.State != tsm.Done {
			continue
		}
		fen, found, err := readBack(q, o.ID, emv.TagECAmountLimit)
		if err != nil {
			return err
		}
		if found {
			out.OnceFen = fen
			break
		}
	}
	value := web.Text{ZH: web.Yuan(out.OnceFen), EN: web.Yuan(out.OnceFen)}
	if out.OnceFen != most {
		value = words.LimitLowered.F(web.Yuan(out.OnceFen), web.Yuan(most))
	}
	out.Limits = append(out.Limits, web.Fact{Name: words.LimitOffline, Show: web.Say(value)})
	return nil
}

// readBack is an amount that a card gave in an order's last reading of it.
func readBack(q db.Reader, order string, tag tlv.Tag) (fen int64, found bool, err error) {
	log, err := tsm.Log(q, order)
	for _, l := range slices.Backward(log) {
		if l.Phase != tsm.PhaseReadBack || l.Answer == nil {
			continue
		}
		if v, ok := tlv.Find(l.Answer.Data, tag); ok && len(v) == 6 {
			fen, err := strconv.ParseInt(hex.EncodeToString(v), 10, 64) // n12
			return fen, err == nil, nil
		}
	}
	return 0, false, err
}

// gives says what a coupon is worth.
func gives(d issuing.CouponData) (t web.Text) {
	switch d.Gives {
	case "amount":
		t = words.GivesAmount.F(web.Yuan(int64(d.Value)))
	case "percent":
		t = words.GivesPercent.F(strings.TrimSuffix(strings.TrimSuffix(strconv.FormatFloat(float64(d.Value)/100, 'f', 2, 64), "0"), ".0"))
	case "stamps":
		t = words.GivesStamps.F(d.Needed)
	default:
		t = words.GivesThing
	}
	if d.Minimum > 0 {
		from := web.Yuan(int64(d.Minimum))
		t = web.Text{ZH: words.GivesOver.To(web.ZH, t.ZH, from), EN: words.GivesOver.To(web.EN, t.EN, from)}
	}
	return t
}

func join(a, b web.Text) web.Text { return web.Text{ZH: a.ZH + "，" + b.ZH, EN: a.EN + ", " + b.EN} }

var cardTones = map[issuing.State]web.Tone{issuing.Ordered: web.Info, issuing.Personalising: web.Info, issuing.Active: web.Good,
	issuing.Blocked: web.Warn, issuing.Closing: web.Info}

var artOfKind = map[issuing.Kind]web.CardKind{issuing.Transit: web.CardTransit, issuing.ECash: web.CardCash, issuing.Debit: web.CardDebit,
	issuing.Credit: web.CardCredit, issuing.Canteen: web.CardCanteen, issuing.Door: web.CardDoor, issuing.Coupon: web.CardCoupon}

// artOf picks a card's picture: that of its kind.
func artOf(p issuing.Product) web.CardKind { return artOfKind[p.Kind] }

// issuerOf names who answers for a card.
func issuerOf(q db.Reader, p issuing.Product, t issuing.Template) (web.Text, error) {
	switch {
	case p.Kind == issuing.Transit:
		return words.TransitIssuer, nil
	case t.Issuer == issuing.House && !p.Kind.Bank():
		return words.HouseIssuer, nil
	case t.Issuer == issuing.House:
		return words.BankIssuer, nil
	default:
		return firmName(q, t.Issuer)
	}
}

// firmName names a firm on the platform; one that is not registered keeps its id.
func firmName(q db.Reader, id string) (web.Text, error) {
	f, err := acquiring.FirmOf(q, id)
	if errors.Is(err, acquiring.ErrNotFound) {
		return web.Same(id), nil
	}
	return web.Text{ZH: f.NameZH, EN: f.NameEN}, err
}

// Products lists what may be added, the kinds in the order people think of them.
func (h house) Products(ctx context.Context, who string) (out []wearer.Product, err error) {
	err = h.store.Read(ctx, func(q *db.Query) error {
		have, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		list, err := issuing.Products(q, h.store.Now())
		if err != nil {
			return err
		}
		for _, p := range list {
			x, err := productOf(q, p)
			if err != nil {
				return err
			}
			for _, c := range have {
				switch {
				case c.State.Over() || !c.Suspended.IsZero():
				case c.Product == p.Code:
					x.Have = true
				case !p.Kind.Shared() && bytes.Equal(c.Instance, p.Instance): // readers select by that name
					in, err := issuing.ProductOn(q, c.Product, c.Opened)
					if err != nil {
						return err
					}
					x.Instead = web.Text{ZH: in.NameZH, EN: in.NameEN}
				}
			}
			out = append(out, x)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("products: %w", err)
	}
	return out, nil
}

func productOf(q db.Reader, p issuing.Product) (wearer.Product, error) {
	x := wearer.Product{Code: p.Code, For: p.Kind, Kind: artOf(p), Name: web.Text{ZH: p.NameZH, EN: p.NameEN}, Issuer: words.TransitIssuer,
		DepositFen: p.Deposit.Minor(), MaxFen: p.MaxBalance.Minor(), Space: transitSpace, Note: words.TransitNote}
	if p.Template == "" {
		return x, nil
	}
	t, err := issuing.TemplateOf(q, p.Template)
	if err != nil {
		return x, err
	}
	x.Space, x.Firm = t.Space, t.Issuer != issuing.House
	if x.Issuer, err = issuerOf(q, p, t); err != nil {
		return x, err
	}
	x.Note, err = noteOf(p, t)
	return x, err
}

// noteOf is what a card is good for, in a line.
func noteOf(p issuing.Product, t issuing.Template) (web.Text, error) {
	var err error
	switch p.Kind {
	case issuing.ECash:
		return words.ECashNote.F(web.Yuan(p.MaxBalance.Minor())), nil
	case issuing.Debit:
		return words.DebitNote, nil
	case issuing.Credit:
		var d issuing.BankData
		err = json.Unmarshal(t.Data, &d)
		return words.CreditNote.F(web.Yuan(d.CreditLimit)), err
	case issuing.Canteen:
		return words.CanteenNote, nil
	case issuing.Door:
		var d issuing.DoorData
		err = json.Unmarshal(t.Data, &d)
		return words.DoorNote.F(d.Days), err
	case issuing.Coupon:
		var d issuing.CouponData
		err = json.Unmarshal(t.Data, &d)
		return gives(d), err
	}
	return words.TransitNote, nil
}

// Apply makes the card on paper and orders its writing, in one unit: there is
// never a card nobody writes. A bank card's number is drawn before; one that is
// not used is never given again.
func (h house) Apply(ctx context.Context, who, ref, product string) (order string, err error) {
	if ref, err = refOf(who, ref); err != nil {
		return "", err
	}
	number, err := h.numberFor(ctx, product)
	if err != nil {
		return "", fmt.Errorf("adding %s for %s: %w", product, who, err)
	}
	err = h.store.Write(ctx, func(tx *db.Tx) error {
		band, err := bandOf(tx, who)
		if err != nil {
			return err
		}
		c, err := issuing.Open(tx, issuing.Application{Ref: ref, Customer: customer.ID(who), Band: band, Product: product, PAN: number})
		if err != nil {
			return err
		}
		o, err := h.tsm.Place(tx, tsm.Request{Ref: ref, Kind: tsm.Issue, Band: c.Band, Card: c.ID, Customer: who})
		order = o.ID
		return err
	})
	if err != nil {
		return "", fmt.Errorf("adding %s for %s: %w", product, who, err)
	}
	return order, nil
}

// numberFor draws the number of a bank card; other cards need none.
func (h house) numberFor(ctx context.Context, product string) (*issuing.Numbered, error) {
	var p issuing.Product
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		p, err = issuing.ProductOn(q, product, h.store.Now())
		return err
	})
	if err != nil || !p.Kind.Bank() {
		return nil, err
	}
	n, err := h.bank.Number(ctx, product)
	return &n, err
}

// Room adds up what the living cards of the newest band take.
func (h house) Room(ctx context.Context, who string) (room wearer.Room, err error) {
	cards, err := h.Cards(ctx, who)
	if err != nil {
		return room, err
	}
	room.Size = elementRoom
	for _, c := range cards {
		if c.Lost {
			continue
		}
		i := slices.IndexFunc(room.Issuers, func(r wearer.RoomOf) bool { return r.Issuer == c.Issuer })
		if i < 0 {
			i, room.Issuers = len(room.Issuers), append(room.Issuers, wearer.RoomOf{Issuer: c.Issuer})
		}
		room.Issuers[i].Used += c.Space
		room.Issuers[i].Cards++
	}
	return room, nil
}

// elementRoom is the memory of a band's element, bytes.
const elementRoom = 128 << 10
