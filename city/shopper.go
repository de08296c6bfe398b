package city

import (
	"fmt"
	"hash"
	"maps"
	"slices"
	"time"

	"koala/acquiring"
	"koala/city/street"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/tsm"
)

// What a rider has beside the transit card, and what those cards truly did,
// whatever anybody heard of it.
type belongings struct {
	cash, debit, meals, pass, voucher issuing.CardID // empty: has none

	now      holding
	paid     map[uint16]int64 // e-cash payments by transaction counter, fen
	loaded   int64            // onto the e-cash, fen
	plate    int64            // on the canteen card, fen
	eaten    int64            // taken from it
	filled   int64            // loaded onto it
	uses     int              // left of the coupon
	redeemed int

	torn            int64 // e-cash that was paid at tills of shops while the till saw no payment
	cashIn, mealsIn int64 // fen of loads that the house knows to be on the cards
	goods           int64 // fen of what shops gave for the debit card, its bank asked
}

// look takes a new look at the cards: of what one contact can do, at most one
// payment and loads happened since the last.
func (b *belongings) look(s shadow, at *street.Street) error {
	if b.cash != "" {
		if h, ok := s.cash(cashName); ok {
			switch moved := h.fen - b.now.fen; {
			case moved != 0 && h.atc == b.now.atc:
				return fmt.Errorf("the e-cash moved by %d fen without a transaction", moved)
			case moved < 0:
				b.paid[h.atc] = -moved
			default:
				b.loaded += moved
			}
			b.now = h
		}
	}
	if key, ok := at.CanteenKey(); ok && b.meals != "" {
		if fen, ok := s.meals(key); ok {
			b.eaten += max(b.plate-fen, 0)
			b.filled += max(fen-b.plate, 0)
			b.plate = fen
		}
	}
	if b.voucher != "" {
		for _, c := range s.coupons() {
			if int(c.Uses) > b.uses && b.uses > 0 {
				return fmt.Errorf("a coupon has %d uses after %d", c.Uses, b.uses)
			}
			b.redeemed += max(b.uses-int(c.Uses), 0)
			b.uses = int(c.Uses)
		}
	}
	return nil
}

func (b *belongings) spent() (fen int64) {
	for _, n := range b.paid {
		fen += n
	}
	return fen
}

// cashName is the name readers select the e-cash card by.
var cashName = []byte("\xA0\x00\x00\x03\x33\x01\x01\x06")

// capturedOf is where the loads of a card are summed up.
func (r *rider) capturedOf(card issuing.CardID) *int64 {
	switch card {
	case r.more.cash:
		return &r.more.cashIn
	case r.more.meals:
		return &r.more.mealsIn
	}
	return &r.captured
}

// collect orders the n-th of the cards this rider wants beside the first one,
// and goes on to the next: one in four e-cash with money on it, one in six a
// canteen card, a pass of the office tower and a coupon.
func (r *rider) collect(n int) error {
	wants := []struct {
		one     int // in so many
		rest    int
		product string
		to      *issuing.CardID
		first   int64 // fen to load
	}{
		{4, 0, issuing.ECashCard, &r.more.cash, 60_00}, {6, 0, street.CanteenCard, &r.more.meals, 50_00},
		{6, 0, street.DoorCard, &r.more.pass, 0}, {6, 0, street.BakeryCoupon, &r.more.voucher, 0},
		{8, 1, issuing.DebitCard, &r.more.debit, 0},
	}
	if n == len(wants) || r.lost {
		r.busy = false
		return nil
	}
	w := wants[n]
	next := func() error { return r.collect(n + 1) }
	if r.n%w.one != w.rest {
		return next()
	}
	return r.obtain(w.product, w.to, func() error {
		if w.first == 0 {
			return next()
		}
		return r.load(*w.to, w.first, next)
	})
}

// obtain opens a card of a product and has it written over the air.
func (r *rider) obtain(product string, to *issuing.CardID, then func() error) error {
	s := r.s
	a := issuing.Application{Ref: "card:" + r.band + ":" + product, Customer: r.who, Band: r.band, Product: product}
	if product == issuing.ECashCard || product == issuing.DebitCard {
		err := s.street.Insist(func() error {
			n, err := s.house.Bank.Number(s.ctx, product)
			a.PAN = &n
			return err
		})
		if err != nil {
			return fmt.Errorf("rider %d: a number: %w", r.n, err)
		}
	}
	var id string
	var card issuing.Card
	err := s.write(func(tx *db.Tx) (err error) {
		if card, err = issuing.Open(tx, a); err != nil {
			return err
		}
		if err := s.street.Admit(tx, card); err != nil {
			return err
		}
		o, err := s.house.TSM.Place(tx, tsm.Request{Ref: "issue:" + r.band + ":" + product, Kind: tsm.Issue, Band: r.band, Card: card.ID, Customer: string(r.who)})
		id = o.ID
		return err
	})
	if err != nil {
		return fmt.Errorf("rider %d applies for %s: %w", r.n, product, err)
	}
	*to = card.ID
	if r.more.paid == nil {
		r.more.paid = map[uint16]int64{}
	}
	r.orders = append(r.orders, id)
	s.count("more cards", 1)
	return r.fetch(then)
}

// planShopping lays out what a rider does at shops and in the office.
func (r *rider) planShopping(day func(hour float64, spread time.Duration) time.Time) {
	s := r.s
	tills := []string{"haolin.till", "maixiao.till", "sanwei.till", "tongan.till"}
	if r.n%4 == 0 {
		for range 1 + s.dice.IntN(3) {
			fen, id := uint64(3_00+s.dice.IntN(37_00)), tills[s.dice.IntN(len(tills))]
			s.at(day(9, 12*time.Hour), "shop", func() error { return r.buy(id, fen, 0) })
		}
	}
	if r.n%8 == 1 {
		for range 1 + s.dice.IntN(2) {
			fen, id := uint64(3_00+s.dice.IntN(27_00)), tills[s.dice.IntN(len(tills))]
			s.at(day(9, 12*time.Hour), "shop online", func() error { return r.hold(id, street.Wish{Fen: fen, Online: true}, r.more.debit, 0) })
		}
	}
	if r.n%6 == 0 {
		door := []string{"kesi.lobby", "kesi.archive"}[s.dice.IntN(2)]
		s.at(day(8.5, 9*time.Hour), "door", func() error { return r.hold(door, street.Wish{}, r.more.pass, 0) })
		s.at(day(11, 150*time.Minute), "lunch", func() error { return r.lunch(0) })
	}
	if r.n%6 == 0 && s.dice.IntN(2) == 0 {
		fen := uint64(15_00 + s.dice.IntN(30_00))
		s.at(day(15, 4*time.Hour), "coupon", func() error { return r.hold("maixiao.coupon", street.Wish{Fen: fen}, r.more.voucher, 0) })
	}
}

// maxWaits bounds how often a busy rider puts something off.
const maxWaits = 8

// wait puts something off while the rider is under way; true: not now.
func (r *rider) wait(n int, what string, again func() error) bool {
	if r.joined && !r.busy && !r.lost {
		return false
	}
	if n < maxWaits && !r.lost {
		r.s.in(15*time.Minute, what+" waits", again)
	}
	return true
}

// buy pays at a till; who has too little on the e-cash loads it first.
func (r *rider) buy(id string, fen uint64, n int) error {
	if r.wait(n, "shop", func() error { return r.buy(id, fen, n+1) }) || r.more.cash == "" {
		return nil
	}
	pay := func() error { return r.hold(id, street.Wish{Fen: fen}, r.more.cash, 0) }
	if r.more.now.fen >= int64(fen) {
		return pay()
	}
	r.busy = true
	return r.load(r.more.cash, 50_00, func() error { r.busy = false; return pay() })
}

// lunch is what the canteen serves, by dish or by price.
func (r *rider) lunch(n int) error {
	if r.wait(n, "lunch", func() error { return r.lunch(n + 1) }) || r.more.meals == "" {
		return nil
	}
	eat := func() error {
		return r.hold("kesi.canteen", street.Wish{Fen: uint64(8_00 + r.s.dice.IntN(12_00))}, r.more.meals, 0)
	}
	if r.more.plate >= 25_00 {
		return eat()
	}
	r.busy = true
	return r.load(r.more.meals, 60_00, func() error { r.busy = false; return eat() })
}

// hold presents the band at a device for a card it has.
func (r *rider) hold(id string, w street.Wish, card issuing.CardID, n int) error {
	if r.wait(n, "visit", func() error { return r.hold(id, w, card, n+1) }) || card == "" {
		return nil
	}
	r.busy = true
	return r.present(id, w, 0, func(v street.Visit) error {
		r.busy = false
		if v.End == street.Online {
			r.more.goods += v.Fen
		}
		if v.End == street.Refused && !r.mayRefuse(v) {
			return differs("rider %d at %s: %s", r.n, id, v.Words[0])
		}
		return nil
	})
}

// mayRefuse says whether a device had a right to refuse: a coupon below its
// minimum, a door outside its hours or whose plan is older than the card, a bank
// that does not answer or an account without money.
func (r *rider) mayRefuse(v street.Visit) bool {
	switch v.At.Kind {
	case street.CouponDesk, street.Door:
		return true
	}
	return r.lost || r.more.debit != ""
}

// present holds the band to a device until it gives a final answer.
func (r *rider) present(id string, w street.Wish, n int, then func(street.Visit) error) error {
	s := r.s
	if n > tries {
		return fmt.Errorf("rider %d: device %s gives no final answer: %w", r.n, id, ErrProof)
	}
	again := func(after time.Duration) error {
		s.in(after, "present again", func() error { return r.present(id, w, n+1, then) })
		return nil
	}
	var opt street.Options
	if n < tries/2 { // nobody is torn away for ever
		opt.Fault, opt.PowerCut = s.contact(), s.darkness()
	}
	v, err := s.street.Present(s.ctx, r.band, id, w, opt)
	if err != nil && s.transient(err) {
		return again(20 * time.Second)
	}
	if err != nil {
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	s.count("visits", 1)
	if err := r.look(); err != nil {
		return err
	}
	switch v.End {
	case street.Again, street.Dark:
		s.count("visits again", 1)
		if v.End == street.Dark { // perhaps it is full
			if _, err := s.street.HandIn(s.ctx, id); err != nil && !s.transient(err) {
				return err
			}
		}
		return again(time.Duration(2+s.dice.IntN(3)) * time.Second)
	}
	s.count("visits "+string(v.End), 1)
	return then(v)
}

// checkMore holds the books of a rider's other cards against the element.
func (r *rider) checkMore() error {
	b := &r.more
	if b.now.fen != b.loaded-b.spent() || b.plate != b.filled-b.eaten {
		return differs("rider %d: e-cash %d fen, loaded %d, spent %d; canteen %d fen, loaded %d, spent %d", r.n, b.now.fen, b.loaded, b.spent(), b.plate, b.filled, b.eaten)
	}
	for _, x := range []struct {
		card           issuing.CardID
		in, put, spent int64
	}{{b.cash, b.cashIn, b.loaded, b.spent()}, {b.meals, b.mealsIn, b.filled, b.eaten}} {
		if x.card == "" {
			continue
		}
		float, err := r.s.house.Book.Balance(issuing.Float(x.card))
		if err != nil {
			return fmt.Errorf("rider %d: %w", r.n, err)
		}
		if booked := x.in - float.Posted.Minor(); x.in > x.put || float.Posted.Sign() < 0 || booked < 0 || booked > x.spent {
			return differs("rider %d, card %s: the books know %d of %d fen loaded and %d of %d spent", r.n, x.card.Masked(), x.in, x.put, booked, x.spent)
		}
	}
	return nil
}

// endMore is what holds of the other cards when everything was handed in: every
// payment is booked once, as it happened, and the floats are what the cards hold.
// What was paid while a shop's till saw no payment and nobody held the card there
// again stays in the float, and the house sees it as a gap of counters.
func (r *rider) endMore(q *db.Query) error {
	b := &r.more
	for _, x := range []struct {
		card issuing.CardID
		fen  int64
	}{{b.cash, b.now.fen}, {b.meals, b.plate}} {
		if x.card == "" {
			continue
		}
		float, err := r.s.house.Book.Balance(issuing.Float(x.card))
		if err != nil {
			return err
		}
		missing, err := r.gaps(q, x.card)
		if err != nil {
			return err
		}
		if float.Posted.Cmp(money.Fen(x.fen+missing)) != 0 || missing < 0 || missing > b.torn || missing > 0 && x.card != b.cash {
			return differs("rider %d: card %s holds %d fen, its float %s", r.n, x.card.Masked(), x.fen, float.Posted)
		}
	}
	return r.endSales(q)
}

// endSales compares what was cleared with what the e-cash paid, counter by
// counter, and redemptions with the coupon's uses.
// gaps is what the house misses records of, by a card's counters.
func (r *rider) gaps(q *db.Query, card issuing.CardID) (fen int64, err error) {
	list, err := issuing.Gaps(q, card)
	for _, g := range list {
		fen += g.Fen.Minor()
	}
	return fen, err
}

func (r *rider) endSales(q *db.Query) error {
	if r.more.cash != "" {
		sales, err := acquiring.Sales(q, acquiring.Filter{Card: r.more.cash, Limit: 500})
		if err != nil {
			return err
		}
		booked := map[uint16]int64{}
		for _, x := range sales {
			if x.Fate == acquiring.Booked && x.Moved > 0 {
				if booked[x.ATC] != 0 {
					return differs("rider %d: transaction %d is booked twice", r.n, x.ATC)
				}
				booked[x.ATC] = x.Moved
			}
		}
		for _, atc := range slices.Sorted(maps.Keys(booked)) {
			if r.more.paid[atc] != booked[atc] {
				return differs("rider %d: transaction %d took %d fen, booked are %d", r.n, atc, r.more.paid[atc], booked[atc])
			}
		}
	}
	if r.more.debit != "" {
		sales, err := acquiring.Sales(q, acquiring.Filter{Card: r.more.debit, Limit: 500})
		if err != nil {
			return err
		}
		var got int64
		for _, x := range sales {
			got += x.Moved
		}
		if got != r.more.goods {
			return differs("rider %d: shops gave goods of %d fen for the debit card and got %d", r.n, r.more.goods, got)
		}
	}
	if r.more.voucher == "" {
		return nil
	}
	card, err := issuing.Get(q, r.more.voucher)
	if err != nil {
		return err
	}
	list, err := acquiring.Redemptions(q, acquiring.Filter{Card: card.ID, Limit: 500})
	if err == nil && len(list) != r.more.redeemed {
		return differs("rider %d: a coupon was used %d times, handed in were %d", r.n, r.more.redeemed, len(list))
	}
	return err
}

// endShops is what holds of shops and sites at the end: nothing is kept,
// doubted, missing, waiting or odd.
func (s *sim) endShops(q *db.Query) error {
	for _, a := range s.street.Acceptors() {
		waiting, doubts, err := a.Keeps()
		if err != nil {
			return err
		}
		if waiting+doubts > 0 {
			return differs("%s keeps %d records and doubts %d", a.ID, waiting, doubts)
		}
	}
	gaps, err := acquiring.Gaps(q, "", 1)
	if err != nil || len(gaps) > 0 {
		return orDiffers(err, "records %v never arrived", gaps)
	}
	for _, list := range []func(db.Reader, string, int) ([]acquiring.Waiting, error){acquiring.InSuspense, acquiring.OddOnes} {
		left, err := list(q, "", 1)
		if err != nil || len(left) > 0 {
			return orDiffers(err, "something waits: %+v", left)
		}
	}
	for _, r := range s.people {
		if err := r.endMore(q); err != nil {
			return err
		}
	}
	return nil
}

func orDiffers(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return differs(format, args...)
}

// hashMore adds a rider's other cards to the hash of a run.
func (r *rider) hashMore(sum hash.Hash) {
	b := &r.more
	fmt.Fprintf(sum, "more %d %d %d %d %d %d %d", b.now.fen, b.now.atc, b.loaded, b.plate, b.filled, b.uses, b.goods)
	for _, atc := range slices.Sorted(maps.Keys(b.paid)) {
		fmt.Fprintf(sum, " %d:%d", atc, b.paid[atc])
	}
	fmt.Fprintln(sum)
}
