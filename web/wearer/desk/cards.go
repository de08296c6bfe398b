package desk

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
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
		for _, c := range list {
			if c.State.Over() {
				continue
			}
			card, err := cardOf(q, c, h.store.Now())
			if err != nil {
				return err
			}
			out = append(out, card)
		}
		return markDefault(q, who, out)
	})
	if err != nil {
		return nil, fmt.Errorf("cards of %s: %w", who, err)
	}
	for i := range out {
		if out[i].For == issuing.Credit {
			if b, err := h.book.Balance(issuing.CreditAccount(out[i].Number)); err == nil {
				out[i].OwesFen = max(0, -b.Posted.Minor())
			}
		}
	}
	return out, nil
}

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
	out.Space, out.Issuer = t.Space, issuerOf(p, t)
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
		out.Doors = words.DoorsOf.F(d.Site)
	case issuing.Coupon:
		var d issuing.CouponData
		if err := json.Unmarshal(t.Data, &d); err != nil {
			return fmt.Errorf("template %s: %w", t.ID, err)
		}
		out.Coupon = &wearer.Coupon{Gives: gives(d), Merchant: web.Same(d.Merchant), Uses: int(d.Uses), Left: int(d.Uses)}
	}
	return nil
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
		rule issuing.Rule
		name web.Text
	}{{issuing.RuleOnce, words.LimitOnce}, {issuing.RuleDay, words.LimitDay}} {
		if c.Kind == issuing.ECash {
			break // an e-cash card pays offline only
		}
		ruling, err := issuing.RuleOn(q, c, r.rule, now)
		if err != nil {
			return err
		}
		add(r.name, ruling.Value)
	}
	if d.ECash {
		add(words.LimitOffline, d.SingleLimit)
	}
	add(words.LimitPIN, d.CVMLimit)
	add(words.LimitCredit, d.CreditLimit)
	return nil
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
func issuerOf(p issuing.Product, t issuing.Template) web.Text {
	switch {
	case p.Kind == issuing.Transit:
		return words.TransitIssuer
	case t.Issuer == issuing.House:
		return words.BankIssuer
	default:
		return web.Same(t.Issuer)
	}
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
			x.Have = slices.ContainsFunc(have, func(c issuing.Card) bool {
				return c.Product == p.Code && !c.State.Over() && c.Suspended.IsZero()
			})
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
	x.Issuer, x.Space, x.Firm = issuerOf(p, t), t.Space, t.Issuer != issuing.House
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
