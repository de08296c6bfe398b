package city

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/band"
	"koala/calendar"
	"koala/city/market"
	"koala/city/street"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/spec/purse"
	"koala/switching"
	"koala/terminal/kernel"
	"koala/terminal/unionpay"
	"koala/transit"
	"koala/tsm"
	"koala/web"
	"koala/web/home"
	"koala/web/wearer"
)

var (
	_ home.City     = (*Live)(nil)
	_ wearer.Street = (*Live)(nil)
)

// clearingAccount takes every fare that cards have paid.
const clearingAccount ledger.AccountID = "clearing.transit"

// Totals is what the city has done.
func (l *Live) Totals(context.Context) (home.Totals, error) {
	l.mu.Lock()
	t := home.Totals{Taps: l.seen.Taps, TopUps: l.seen.TopUps, Cards: l.seen.Cards, Riding: int64(len(l.inside)),
		SparkTaps: rises(l.spark.taps), SparkMoved: rises(l.spark.moved)}
	l.mu.Unlock()
	book := l.house.Book
	seq, _ := book.Tip()
	t.Entries = int64(seq)
	trial := book.TrialBalance()
	t.Balanced = trial.Balanced
	for _, a := range book.Accounts("2", "", 1<<30) { // what came onto accounts of people, cards and operators
		fen, err := strconv.ParseInt(a.Credit.String(), 10, 64)
		if err != nil {
			return t, fmt.Errorf("turnover of %s: %w", a.ID, err)
		}
		t.MovedFen += fen
		if a.ID == clearingAccount {
			t.FareFen = fen
		}
	}
	return t, nil
}

// rises are the differences between neighbouring points.
func rises(line []int64) []int64 {
	var out []int64
	for i := 1; i < len(line); i++ {
		out = append(out, line[i]-line[i-1])
	}
	return out
}

// Recent lists the last acts, newest first. A tap's trace is its journey,
// which is there once the gate has handed over.
func (l *Live) Recent(ctx context.Context, limit int) ([]home.Act, error) {
	l.mu.Lock()
	some := append([]act(nil), l.acts[max(0, len(l.acts)-limit):]...)
	l.mu.Unlock()
	out := make([]home.Act, 0, len(some))
	err := l.house.Store.Read(ctx, func(q *db.Query) error {
		for i := len(some) - 1; i >= 0; i-- {
			a := some[i]
			if a.Trace == "" && a.visit != nil {
				if id, err := recordOf(q, *a.visit); err == nil && id != "" {
					a.Trace = "/ops/ecash/records/" + id
				}
			}
			if a.Trace == "" && a.card != "" {
				if id, err := journeyOf(q, a.card, a.seq); err == nil && id != "" {
					a.Trace = "/ops/journeys/" + id
				}
			}
			out = append(out, a.Act)
		}
		return nil
	})
	return out, err
}

// journeyOf is the journey of a tap, empty when it is not known yet.
func journeyOf(q *db.Query, card purse.Number, seq uint16) (string, error) {
	list, err := transit.JourneysOfCard(q, card, int(seq)+1, 1)
	if err != nil || len(list) == 0 || list[0].Last < seq {
		return "", err
	}
	return list[0].ID, nil
}

// Time is the city's clock.
func (l *Live) Time() (time.Time, int) { return l.clock.Now(), int(l.clock.Speed()) }

// SetSpeed lets the city run faster, slower, or stand.
func (l *Live) SetSpeed(_ context.Context, speed int) error {
	if speed < 0 || speed > 3600 {
		return fmt.Errorf("speed %d: %w", speed, home.ErrSpeed)
	}
	l.clock.SetSpeed(float64(speed))
	return nil
}

// Band is the band on a customer's wrist; who has none is given one. Of a lost
// band the name is told and nothing else.
func (l *Live) Band(ctx context.Context, who string) (wearer.BandView, error) {
	id, err := l.bandFor(ctx, who, bandStem(who))
	if errors.Is(err, ErrLost) {
		known, err := l.bandsOf(ctx, who)
		return wearer.BandView{ID: known[len(known)-1], Fen: map[issuing.CardID]int64{}}, err
	}
	if err != nil {
		return wearer.BandView{}, err
	}
	var cards []issuing.Card
	err = l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		cards, err = issuing.InBand(q, id)
		return err
	})
	if err != nil {
		return wearer.BandView{}, err
	}
	v := wearer.BandView{ID: id}
	now := l.clock.Now()
	err = l.street.Look(id, func(b *band.Band) (err error) {
		v.Battery, v.Worn, v.Protected, v.Locked, v.Waits = b.Battery, b.Worn(), b.Protected(), b.Locked(), b.Waits(now)
		v.Policy = wearer.Policy(b.Policy)
		v.Firmware, v.Trial = b.Firmware()
		v.Size, v.Free = b.Element.Memory().Capacity(), b.Element.Memory().Free()
		for _, peer := range b.Bonds() {
			v.Phones = append(v.Phones, fmt.Sprintf("%X", peer))
		}
		for _, h := range b.Activity(calendar.Of(now, calendar.Beijing).Start(calendar.Beijing)) {
			v.Steps += int64(h.Steps)
		}
		v.Fen, err = l.balances(b, cards)
		return err
	})
	return v, err
}

// balances reads what the cards in a band hold from a copy of its element.
func (l *Live) balances(b *band.Band, cards []issuing.Card) (map[issuing.CardID]int64, error) {
	out := map[issuing.CardID]int64{}
	p, err := peek(l.street.Catalog(), b)
	if err == nil && p.card != "" {
		out[issuing.IDOf(p.card)] = int64(p.fen)
	}
	if err != nil {
		return nil, err
	}
	s, err := shadowOf(l.street.Catalog(), b)
	if err != nil {
		return nil, err
	}
	for _, c := range cards {
		switch {
		case c.Kind.Bank():
			if h, ok := s.cash(c.Instance); ok {
				out[c.ID] = h.fen
			}
		case c.Kind == issuing.Canteen:
			if key, ok := l.street.CanteenKey(); ok {
				if fen, ok := s.meals(key); ok {
					out[c.ID] = fen
				}
			}
		}
	}
	return out, nil
}

// bandStem names a customer's bands by the end of the customer's id.
func bandStem(who string) string { return "band-" + who[max(0, len(who)-8):] }

// Gates lists where a band can be held: every station, where the person walks
// to the gate that fits, the buses, and the devices of shops and sites.
func (l *Live) Gates(ctx context.Context) ([]wearer.Gate, error) {
	var out []wearer.Gate
	for _, s := range l.house.Network.Stations {
		out = append(out, wearer.Gate{ID: s.ID, Station: s.ID, Name: web.Text{ZH: s.ZH, EN: s.EN}})
	}
	for _, b := range l.street.Lines() {
		out = append(out, wearer.Gate{ID: b.ID, Bus: true, Name: web.Text{ZH: b.ZH, EN: b.EN}})
	}
	shops, err := l.shopGates(ctx)
	return append(append(out, shops...), l.tillGates()...), err
}

// phonePace is what one request over a phone's line takes in real time, so
// that people can follow a card being written. The line is simulated.
const phonePace = 90 * time.Millisecond

// paced is a slow line.
type paced struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p paced) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(phonePace):
	}
	return p.RoundTripper.RoundTrip(r)
}

// connectTries bounds how often a phone comes back by itself.
const connectTries = 5

// Connect lets the person's phone carry what waits for the band.
func (l *Live) Connect(ctx context.Context, who string) {
	ctx = context.WithoutCancel(ctx)
	l.pending.Go(func() {
		id, err := l.bandFor(ctx, who, bandStem(who))
		for range connectTries {
			if err == nil {
				err = l.carry(ctx, id)
			}
			if err == nil || !street.Passing(err) {
				break
			}
			time.Sleep(time.Second)
		}
		if err != nil {
			l.log.Warn("a phone could not reach the house", "band", id, "err", err)
		}
		if err == nil {
			if err = l.street.Tend(ctx, id); err != nil {
				l.log.Warn("a band could not look after itself", "band", id, "err", err)
			}
		}
		l.endOf(ctx, who)
	})
}

// carry runs the agent over the phone's slow line.
func (l *Live) carry(ctx context.Context, id string) error {
	return l.street.RunOver(ctx, id, func(line http.RoundTripper) http.RoundTripper { return paced{line} })
}

// endOf tells the feed of a person's last order if it has just ended, and lets
// a door card in that was just written.
func (l *Live) endOf(ctx context.Context, who string) {
	var list []tsm.Order
	err := l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = tsm.Orders(q, tsm.Filter{Customer: who, Limit: 20})
		return err
	})
	for _, o := range list {
		if err == nil && o.State == tsm.Done && o.Kind == tsm.Issue && o.CardKind == issuing.Door {
			err = l.admit(ctx, o.Card)
		}
	}
	if err != nil {
		l.log.Warn("after an order", "err", err)
	}
	if len(list) > 0 && list[0].State == tsm.Done {
		l.ordered(list[0])
	}
}

// admit gives a door card its rights at the tower; its doors hear of it at
// once.
func (l *Live) admit(ctx context.Context, id issuing.CardID) error {
	err := l.house.Store.Write(ctx, func(tx *db.Tx) error {
		c, err := issuing.Get(tx, id)
		if err != nil {
			return err
		}
		return l.street.Admit(tx, c)
	})
	for _, a := range l.street.Acceptors() {
		if err == nil && a.Kind == street.Door {
			err = l.street.Refresh(ctx, a.ID)
		}
	}
	return err
}

// orderActs are the kinds of orders that the feed tells of.
var orderActs = map[tsm.Kind]home.Kind{tsm.Issue: home.Issue, tsm.TopUp: home.TopUp, tsm.Block: home.Block}

func (l *Live) ordered(o tsm.Order) {
	kind, told := orderActs[o.Kind]
	if !told {
		return
	}
	l.mu.Lock()
	for _, a := range l.acts {
		if a.Trace == "/ops/orders/"+o.ID {
			l.mu.Unlock()
			return
		}
	}
	l.mu.Unlock()
	l.happened(act{Act: home.Act{Kind: kind, Who: "…" + l.tailOf(o.Card), Fen: o.Amount.Minor(), Trace: "/ops/orders/" + o.ID}})
}

// pocketOf reads a band's purse.
func (l *Live) pocketOf(id string) (p pocket, err error) {
	err = l.street.Look(id, func(b *band.Band) error {
		p, err = peek(l.street.Catalog(), b)
		return err
	})
	return p, err
}

// tailOf is what of a card's number may be shown.
func (l *Live) tailOf(id issuing.CardID) string {
	var card issuing.Card
	err := l.house.Store.Read(context.Background(), func(q *db.Query) (err error) {
		card, err = issuing.Get(q, id)
		return err
	})
	if err != nil || card.Tail == "" {
		return string(id[max(0, len(id)-4):])
	}
	return card.Tail
}

// tillGates are the terminals of shops that ask the switch, as places to hold a
// band to.
func (l *Live) tillGates() (out []wearer.Gate) {
	for _, s := range l.market.Shops() {
		at, err := l.house.Network.Find(s.Near)
		if s.Near == "" || err != nil {
			continue // in another city
		}
		g := wearer.Gate{ID: s.Tills[0].ID, Station: at.ID, Kind: wearer.ReaderTill, Online: true, MaxFen: 50_000_00, Shop: web.Text{ZH: s.ZH, EN: s.EN},
			Name: web.Text{ZH: s.ZH + " · 收银台", EN: s.EN + ", till"}}
		if s.Mobile {
			g.Kind, g.MaxFen, g.Name = wearer.ReaderPhone, 5_000_00, web.Text{ZH: s.ZH + " · 手机刷卡器", EN: s.EN + ", phone with a reader"}
		}
		out = append(out, g)
	}
	return out
}

// sell has a shop's terminal take a sale: by the person's band, or by a card of
// another bank that lies beside it.
func (l *Live) sell(ctx context.Context, who string, a wearer.TapAct, t *market.Till) error {
	o := market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: uint64(max(a.Fen, 0))}, PIN: a.PIN, Air: !a.Contact, Fault: band.Fault{Lose: a.Pull}}
	switch {
	case a.Scan:
		if err := l.market.Ready(ctx, t.ID); err != nil { // a code is shown to a till that is ready
			return err
		}
		code, err := l.market.Code(ctx, customer.ID(who))
		if err != nil {
			return err
		}
		o.Card, o.PIN, o.Air = unionpay.Card{Code: code.Digits}, "", false
	case a.Swipe:
		c := l.market.Institutions()[1].Cards[0]
		o.Card, o.PIN, o.Air = unionpay.Card{Track2: c.Track2}, c.PIN, false
	default:
		var err error
		if o.Band, err = l.bandFor(ctx, who, bandStem(who)); err != nil {
			return err
		}
		var cards []issuing.Card
		err = l.house.Store.Read(ctx, func(q *db.Query) (err error) {
			cards, err = issuing.InBand(q, o.Band)
			return err
		})
		if err != nil {
			return err
		}
		if chosen, ok := find(cards, a.Card); ok && chosen.Kind.Bank() {
			if err := l.putFirst(o.Band, chosen.Instance); err != nil {
				return err
			}
		}
	}
	out, err := l.market.Do(ctx, t.ID, o)
	if err != nil {
		return err
	}
	l.keepTap(who, l.saleResult(out, a))
	l.cfg.Hub.Publish("my:"+who, "payment.changed", struct{}{})
	return nil
}

// saleResult puts a sale into the page's words.
func (l *Live) saleResult(out market.Outcome, a wearer.TapAct) heldTap {
	t := out.Till
	r := heldTap{TapResult: wearer.TapResult{Ref: a.Ref, Gate: a.Gate, Reader: wearer.ReaderTill, Card: a.Card, Place: web.Text{ZH: t.ZH, EN: t.EN}, At: l.clock.Now(),
		Kind: wearer.TapRefused, Reason: web.Text{ZH: out.Words[1], EN: out.Words[0]}, BalanceFen: -1, Receipt: out.Receipt[0], ReceiptZH: out.Receipt[1]}}
	if t.Mobile {
		r.Reader = wearer.ReaderPhone
	}
	if a.Swipe || a.Scan {
		r.Card = ""
	}
	if out.Chip != nil {
		r.Total = out.Chip.Took
		if out.Chip.Outcome.Available != nil {
			r.BalanceFen = int64(*out.Chip.Outcome.Available)
		}
	}
	if out.Entry != nil {
		r.rrn, r.stan = out.Get(37), out.STAN
		r.Unsigned = out.Approved && unionpay.NeedsSignature(out.Entry)
	}
	switch {
	case out.Approved && (out.Entry.Kind == unionpay.TapSale || a.Scan): // no other bank has a part in it
		r.Kind, r.Fen = wearer.TapPaid, int64(out.Fen())
	case out.Approved:
		r.Kind, r.Fen = wearer.TapOnline, int64(out.Fen())
	case out.Chip != nil && out.Chip.Outcome.Result == kernel.TryAgain:
		r.Kind = wearer.TapTorn
	}
	return r
}

// sold tells the feed of a sale.
func (l *Live) sold(out market.Outcome) {
	if !out.Approved || out.Entry == nil || out.Entry.Kind != unionpay.Sale && out.Entry.Kind != unionpay.TapSale && out.Entry.Kind != unionpay.Completion {
		return
	}
	number := out.Entry.Card()
	a := act{Act: home.Act{Kind: home.Sale, Who: "…" + number[max(0, len(number)-4):], Fen: int64(out.Fen()), Shop: web.Text{ZH: out.Till.ZH, EN: out.Till.EN}}}
	if out.Chip == nil && (out.Get(22) == "" || out.Get(22)[:2] == "02" || out.Get(22)[:2] == "01") {
		a.Kind = home.Swiped
	}
	if rrn := out.Get(37); rrn != "" {
		a.Trace = "/ops/switch/transactions/" + rrn
	}
	if at, err := l.house.Network.Find(out.Till.Near); err == nil && out.Till.Near != "" {
		a.Station = at.ID
		l.cfg.Hub.Publish("city", "tap", map[string]string{"station": a.Station, "kind": "out"})
	}
	l.happened(a)
}

// messages are what terminal, switch and issuer said to each other about a sale.
func (l *Live) messages(ctx context.Context, rrn string) (out []wearer.Message, err error) {
	if rrn == "" {
		return nil, nil
	}
	err = l.house.Store.Read(ctx, func(q *db.Query) error {
		t, err := switching.Transaction(q, rrn)
		if errors.Is(err, switching.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		list, err := switching.Messages(q, t)
		for _, m := range list {
			out = append(out, wearer.Message{At: m.At, Way: m.Way, MTI: m.MTI, Note: m.Note})
		}
		return err
	})
	return out, err
}
