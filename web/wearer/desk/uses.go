package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/acquiring"
	"koala/calendar"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/spec/desfire"
	"koala/spec/pboc"
	"koala/web"
	"koala/web/wearer"
)

// uses is wearer.Uses over what devices of shops and sites handed in.
type uses struct {
	store  *db.Store
	book   *ledger.Book
	office *acquiring.Office
}

// NewUses is payments, meals, passages and redemptions as acquiring keeps them.
func NewUses(store *db.Store, book *ledger.Book, office *acquiring.Office) wearer.Uses {
	return uses{store, book, office}
}

// Uses merges what a person's cards did, those of earlier bands too.
func (u uses) Uses(ctx context.Context, who string, card issuing.CardID, limit int) (out []wearer.Use, err error) {
	err = u.store.Read(ctx, func(q *db.Query) error {
		cards, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		for _, c := range cards {
			if card != "" && c.ID != card {
				continue
			}
			some, err := usesOf(q, c, "", limit)
			if err != nil {
				return err
			}
			out = append(out, some...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("uses of %s: %w", who, err)
	}
	slices.SortStableFunc(out, func(a, b wearer.Use) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.ID, a.ID)) })
	return out[:min(limit, len(out))], nil
}

// usesOf reads what one card did, newest first, from the one before the given
// (empty: from the newest).
func usesOf(q db.Reader, c issuing.Card, before string, limit int) (out []wearer.Use, err error) {
	f := acquiring.Filter{Card: c.ID, Before: before, Limit: limit}
	switch {
	case c.Kind.Bank():
		return each(q, acquiring.Sales, f, saleUse)
	case c.Kind == issuing.Canteen:
		return each(q, acquiring.Meals, f, mealUse)
	case c.Kind == issuing.Coupon:
		return each(q, acquiring.Redemptions, f, func(q db.Reader, r acquiring.Redemption) (wearer.Use, error) { return redemptionUse(q, r, c.ID) })
	case c.Kind == issuing.Door:
		return each(q, func(q db.Reader, f acquiring.Filter) ([]acquiring.Passage, error) {
			return acquiring.PassagesOf(q, f.Card, f.Before, f.Limit)
		}, f, passageUse)
	}
	return nil, nil
}

// each reads a list and turns every line of it into a use.
func each[T any](q db.Reader, list func(db.Reader, acquiring.Filter) ([]T, error), f acquiring.Filter, use func(db.Reader, T) (wearer.Use, error)) (out []wearer.Use, err error) {
	lines, err := list(q, f)
	for _, x := range lines {
		var u wearer.Use
		if err == nil {
			u, err = use(q, x)
		}
		out = append(out, u)
	}
	return out, err
}

// fated says what became of something that was handed in.
func fated(u *wearer.Use, f acquiring.Fate, why acquiring.Why) {
	u.State, u.Tone = web.Text{ZH: f.Words(true), EN: f.Words(false)}, web.Good
	if f == acquiring.Suspense || f == acquiring.Odd {
		u.Tone, u.Waiting = web.Warn, true
		u.State = web.Text{ZH: u.State.ZH + "：" + whyWords(why, true), EN: u.State.EN + ": " + whyWords(why, false)}
	}
}

// whyWords says a reason of this side of the house or of the bank's.
func whyWords(w acquiring.Why, zh bool) string {
	return cmp.Or(w.Words(zh), issuing.Flaw(w).Words(zh), string(w))
}

func saleUse(q db.Reader, s acquiring.Sale) (u wearer.Use, err error) {
	u = wearer.Use{ID: s.ID, Kind: wearer.UsePayment, Card: s.Card, At: s.At, Fen: s.Fen}
	switch s.Kind {
	case pboc.ClearReversal, pboc.ClearRefund, pboc.ClearCancel:
		u.Fen = -s.Fen
	}
	u.What = saleWords[s.Kind]
	if fated(&u, s.Fate, s.Why); s.Fate == acquiring.Booked || s.Fate == acquiring.Known {
		u.State = words.Cleared
	}
	if s.At.IsZero() {
		u.At = s.Got
	}
	u.Where, err = shopName(q, s.Shop)
	return u, err
}

var saleWords = map[pboc.ClearingKind]web.Text{pboc.ClearSale: words.SaleOffline, pboc.ClearOnline: words.SaleOnline,
	pboc.ClearReversal: words.SaleBack, pboc.ClearRefund: words.SaleBack, pboc.ClearCancel: words.SaleGivenUp}

func mealUse(q db.Reader, m acquiring.Meal) (u wearer.Use, err error) {
	u = wearer.Use{ID: m.ID, Kind: wearer.UseMeal, Card: m.Card, At: m.At, Fen: m.Fen, What: words.Meal}
	if m.Kind == desfire.Refund {
		u.Fen, u.What = -m.Fen, words.SaleBack
	}
	if m.Subsidy != 0 {
		u.What = join(u.What, words.Subsidy.F(web.Yuan(m.Subsidy)))
	}
	fated(&u, m.Fate(), m.Why)
	u.Where, err = shopName(q, m.Shop)
	return u, err
}

func redemptionUse(q db.Reader, r acquiring.Redemption, card issuing.CardID) (u wearer.Use, err error) {
	u = wearer.Use{ID: r.ID, Kind: wearer.UseRedemption, Card: card, At: r.At, What: web.Text{ZH: r.Op.Words(true), EN: r.Op.Words(false)}}
	if r.Reduction > 0 {
		u.What = words.TakenOff.F(web.Yuan(r.Reduction))
	}
	fated(&u, r.Fate(), r.Why)
	u.Where, err = shopName(q, r.Shop)
	return u, err
}

func passageUse(q db.Reader, p acquiring.Passage) (wearer.Use, error) {
	u := wearer.Use{ID: p.ID, Kind: wearer.UsePassage, Card: p.Card, At: p.At, State: words.DoorOpened, Tone: web.Good}
	if !p.Opened {
		u.State, u.Tone = words.DoorStayed, web.Warn
	}
	d, err := acquiring.DeviceOf(q, p.TID)
	if err != nil {
		return u, err
	}
	u.Where = web.Text{ZH: d.PlaceZH, EN: d.PlaceEN}
	site, err := acquiring.SiteOf(q, p.Site)
	u.What = web.Text{ZH: site.NameZH, EN: site.NameEN}
	return u, err
}

// shopName names a shop; one that is not registered keeps its id.
func shopName(q db.Reader, id string) (web.Text, error) {
	s, err := acquiring.ShopOf(q, id)
	if errors.Is(err, acquiring.ErrNotFound) {
		return web.Same(id), nil
	}
	return web.Text{ZH: s.NameZH, EN: s.NameEN}, err
}

// Use reads one use of one of who's cards; another person's does not exist.
func (u uses) Use(ctx context.Context, who, id string) (out wearer.Use, err error) {
	var shop web.Text
	err = u.store.Read(ctx, func(q *db.Query) error {
		cards, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		for _, c := range cards {
			list, err := usesOf(q, c, id+"~", 1) // behind the id itself
			if err != nil {
				return err
			}
			if len(list) == 1 && list[0].ID == id {
				out, shop = list[0], list[0].Where
				return nil
			}
		}
		return wearer.ErrNoUse
	})
	if err != nil {
		return wearer.Use{}, fmt.Errorf("use %q: %w", id, err)
	}
	if out.Kind == wearer.UsePassage {
		return out, nil // it moved no money: what there is to tell is on its line
	}
	t, err := u.office.TraceOf(ctx, id)
	if err != nil {
		return wearer.Use{}, fmt.Errorf("use %q: %w", id, err)
	}
	err = u.tell(ctx, &out, t, shop)
	return out, err
}

// tell fills in the way from the reader to the books.
func (u uses) tell(ctx context.Context, out *wearer.Use, t acquiring.Trace, shop web.Text) error {
	for _, f := range t.Message {
		out.Message = append(out.Message, web.Fact{Name: web.Text{ZH: f.ZH, EN: f.EN}, Value: f.Value, Mono: true})
	}
	out.Trace = []web.Happening{
		{At: out.At, What: words.TraceProof, Icon: "nfc", Detail: t.TID},
		{At: t.Got, What: words.TraceHanded, Icon: "shield-check", Tone: out.Tone, Detail: "#" + t.ID},
	}
	day := time.Time{}
	for _, ref := range t.Postings {
		rec, err := u.book.Entry(ctx, ref)
		if errors.Is(err, ledger.ErrNoEntry) {
			continue
		}
		if err != nil {
			return fmt.Errorf("postings of %s: %w", t.ID, err)
		}
		out.Postings = append(out.Postings, pairs(rec, masked(rec.Ref), func(a ledger.AccountID) web.Text { return accountName(a, shop) })...)
		day = rec.Booked
	}
	if day.IsZero() || out.Waiting {
		return nil
	}
	paid := calendar.ServiceDay(day).AddDays(1)
	out.Trace = append(out.Trace, web.Happening{At: day, What: words.TraceCleared, Icon: "book-open", Tone: web.Good})
	out.Facts = append(out.Facts, web.Fact{Name: words.PaidOut, Value: paid.String()})
	return nil
}

// masked keeps card numbers and tokens out of a reference on a page.
func masked(ref string) string {
	if len(ref) > 18 {
		return ref[:5] + "…" + ref[len(ref)-8:]
	}
	return ref
}
