package city

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/band"
	"koala/city/street"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/spec/purse"
	"koala/terminal"
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

// Band is a customer's band; who has none is given one.
func (l *Live) Band(ctx context.Context, who string) (wearer.BandView, error) {
	id, err := l.bandFor(ctx, who, bandStem(who))
	if err != nil {
		return wearer.BandView{}, err
	}
	v := wearer.BandView{ID: id, Fen: map[issuing.CardID]int64{}}
	err = l.street.Look(id, func(b *band.Band) error {
		v.Battery, v.Worn = b.Battery, b.Worn()
		p, err := peek(l.street.Catalog(), b)
		if err == nil && p.card != "" {
			v.Fen[issuing.IDOf(p.card)] = int64(p.fen)
		}
		return err
	})
	return v, err
}

// bandStem names a customer's bands by the end of the customer's id.
func bandStem(who string) string { return "band-" + who[max(0, len(who)-8):] }

// Gates lists where a band can be held: every station, where the person walks
// to the gate that fits, and the buses.
func (l *Live) Gates(context.Context) ([]wearer.Gate, error) {
	var out []wearer.Gate
	for _, s := range l.house.Network.Stations {
		out = append(out, wearer.Gate{ID: s.ID, Station: s.ID, Name: web.Text{ZH: s.ZH, EN: s.EN}})
	}
	for _, b := range l.street.Lines() {
		out = append(out, wearer.Gate{ID: b.ID, Bus: true, Name: web.Text{ZH: b.ZH, EN: b.EN}})
	}
	return out, nil
}

// keptTaps is how many taps of one person are remembered.
const keptTaps = 20

// A heldTap is a tap as its page shows it, and what finds its trip.
type heldTap struct {
	wearer.TapResult
	card   purse.Number
	seq    uint16
	reader string
	reason terminal.Reason
}

// Tap holds the person's band to a gate. The same Ref again is the same tap.
func (l *Live) Tap(ctx context.Context, who string, a wearer.TapAct) error {
	if _, known := l.recallTap(who, a.Ref); known {
		return nil
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
	t := l.resultOf(o, a)
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := append(l.taps[who], t)
	l.taps[who] = kept[max(0, len(kept)-keptTaps):]
	return nil
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
func (l *Live) Tapped(ctx context.Context, who, ref string) (wearer.TapResult, error) {
	t, known := l.recallTap(who, ref)
	if !known {
		return wearer.TapResult{}, fmt.Errorf("tap %q: %w", ref, wearer.ErrNoTap)
	}
	if t.card == "" {
		return t.TapResult, nil
	}
	err := l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		t.Trip, err = journeyOf(q, t.card, t.seq)
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
	t.Parts = []wearer.TapPart{
		{Name: web.Text{ZH: "激活", EN: "Activation"}, Took: terminal.Activation(terminal.Kbit106)},
		{Name: web.Text{ZH: "空中传输（106 kbit/s）", EN: "On the air (106 kbit/s)"}, Took: o.Time.Air106},
		{Name: web.Text{ZH: "安全模块触点", EN: "PSAM contacts"}, Took: o.Time.PSAM},
		{Name: web.Text{ZH: "芯片计算与写入", EN: "Chips computing and writing"}, Took: o.Time.Chip},
	}
	for _, x := range o.Talk {
		e := wearer.Exchange{Command: x.Command.Bytes(), Air: x.Air106, Told: &x.Told}
		if !x.Torn {
			e.Answer = x.Response.Bytes()
		}
		t.Talk = append(t.Talk, e)
	}
	return t
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
		l.endOf(ctx, who)
	})
}

// carry runs the agent over the phone's slow line.
func (l *Live) carry(ctx context.Context, id string) error {
	return l.street.RunOver(ctx, id, func(line http.RoundTripper) http.RoundTripper { return paced{line} })
}

// endOf tells the feed of a person's last order if it has just ended.
func (l *Live) endOf(ctx context.Context, who string) {
	var list []tsm.Order
	err := l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = tsm.Orders(q, tsm.Filter{Customer: who, Limit: 1})
		return err
	})
	if err == nil && len(list) == 1 && list[0].State == tsm.Done {
		l.ordered(list[0])
	}
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
	l.happened(act{Act: home.Act{Kind: kind, Who: "…" + tail(o.Card.Purse()), Fen: o.Amount.Minor(), Trace: "/ops/orders/" + o.ID}})
}

// bandFor gives a customer's band: the one there is, or a new one that is
// registered and takes the house's keys over the air. A band whose element is
// not on this street (its image was removed) is passed over.
func (l *Live) bandFor(ctx context.Context, owner, stem string) (string, error) {
	l.giving.Lock()
	defer l.giving.Unlock()
	var known []tsm.Band
	err := l.house.Store.Read(ctx, func(q *db.Query) (err error) {
		known, err = tsm.BandsOf(q, owner)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("bands of %s: %w", owner, err)
	}
	for _, b := range known {
		if l.street.HasBand(b.ID) {
			return b.ID, nil
		}
	}
	for k := len(known) + 1; k < len(known)+100; k++ {
		id := fmt.Sprintf("%s-%d", stem, k)
		if l.street.HasBand(id) {
			continue // of another house's time
		}
		return id, l.street.GiveBand(ctx, owner, id)
	}
	return "", fmt.Errorf("band for %s: %w", owner, street.ErrNoBand)
}

// pocketOf reads a band's purse.
func (l *Live) pocketOf(id string) (p pocket, err error) {
	err = l.street.Look(id, func(b *band.Band) error {
		p, err = peek(l.street.Catalog(), b)
		return err
	})
	return p, err
}
