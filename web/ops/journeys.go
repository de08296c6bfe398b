package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/fare"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
	"koala/transit"
	"koala/wallet"
	"koala/web"
	"koala/web/ops/shell"
)

var journeyStates = []transit.State{transit.Open, transit.Closed, transit.Incomplete, transit.Repaired}

func journeyTone(j transit.Journey) web.Tone {
	switch j.State {
	case transit.Open:
		return web.Info
	case transit.Incomplete:
		return web.Warn
	}
	return web.Good
}

var exceptionWords = map[transit.Exception]web.Text{
	transit.FareDiffers: words.ExFare, transit.MonthDiffers: words.ExMonth, transit.Behind: words.ExBehind, transit.UnknownStation: words.ExStation,
	transit.UnknownDevice: words.ExDevice, transit.ClockWrong: words.ExClock, transit.FloatShort: words.ExFloat, transit.Overtaken: words.ExOvertaken,
}

var finishWords = map[transit.Finish]web.Text{transit.Inside: words.FinInside, transit.Left: words.FinLeft, transit.SameStation: words.FinSame,
	transit.MissingExit: words.FinNoExit, transit.MissingEntry: words.FinNoEntry, transit.SingleTap: words.FinSingle}

// journeys lists rides, newest first.
func (p pages) journeys(w http.ResponseWriter, r *http.Request) error {
	state := transit.State(r.FormValue("state"))
	if state != "" && !slices.Contains(journeyStates, state) {
		return fmt.Errorf("filter of journeys: %w", shell.ErrForm)
	}
	pg := web.PageOf(r, shell.Rows)
	var list []transit.Journey
	err := p.Store.Read(r.Context(), func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]transit.Journey, error) {
			return transit.Journeys(q, state, after, limit)
		}, journeyID, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("journeys: %w", err)
	}
	options := []web.Option{{Name: words.All}}
	for _, s := range journeyStates {
		options = append(options, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	v := shell.ListView{Table: p.journeyTable(r.Context(), list), Events: "journeys", Filter: []web.Field{{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(state)}}}
	v.Table.Next = shell.NextOf(r, list, pg, journeyID)
	return p.desk.List(w, r, web.Page{Title: words.Journeys, Lead: words.JourneysLead, Here: "/ops/journeys"}, v)
}

func journeyID(j transit.Journey) string { return j.ID }

func journeyPath(id string) string { return "/ops/journeys/" + id }

func (p pages) journeyTable(ctx context.Context, list []transit.Journey) web.Table {
	t := web.Table{ID: "journeys", Empty: words.NoJourneys, Head: []web.Column{{Name: words.Ride}, {Name: words.State}, {Name: words.Card},
		{Name: words.Charged, Num: true}, {Name: words.ByTariff, Num: true}, {Name: words.Exception}, {Name: words.Entered, Num: true}}}
	for _, j := range list {
		due := shell.None()
		if j.State != transit.Open {
			due = web.Money(j.Due.Minor())
		}
		exception := shell.None()
		if j.Exception != transit.Fine {
			exception = web.Status(ctx, web.Warn, exceptionWords[j.Exception])
		}
		t.Rows = append(t.Rows, web.Row{Href: journeyPath(j.ID), Cells: []web.Cell{shell.Short(p.way(j).In(ctx)), web.Status(ctx, journeyTone(j), shell.Both(j.State.Words)),
			web.Mono(shell.Masked(issuing.IDOf(j.Card))), web.Money(paid(j)), due, exception, web.When(started(j))}})
	}
	return t
}

func paid(j transit.Journey) int64 { return j.Charged.Add(j.Adjusted).Minor() }

func started(j transit.Journey) time.Time {
	if j.Entered.IsZero() {
		return j.Left
	}
	return j.Entered
}

// way names both ends of a ride.
func (p pages) way(j transit.Journey) web.Text {
	from, to := p.station(j.From), p.station(j.To)
	switch {
	case j.Mode == transit.Bus && j.From == 0:
		return words.BusRide
	case j.State == transit.Open:
		to = web.Same("…")
	case j.Finish == transit.SingleTap:
		return words.BusRide
	}
	return web.Text{ZH: from.ZH + " → " + to.ZH, EN: from.EN + " → " + to.EN}
}

// A journeyView is the trace of a ride.
type journeyView struct {
	journey  transit.Journey
	facts    []web.Fact
	lines    []web.Line
	route    []string
	taps     web.Table
	shares   web.Table
	fixes    []web.Happening
	postings []web.Row
	deeds    []web.Happening
	repair   repairView
	network  *web.Network
	owner    string // customer id; empty: a card of another house
	closed   bool   // somebody has looked at its exception
}

// A repairView is the offer to fill in the missing end.
type repairView struct {
	possible bool
	asked    fare.Code
	station  string // as typed
	problem  web.Text
	lines    []web.Line
	more     int64 // fen: the rider pays; negative: gets back
	names    []string
	refs     []string // of the entries of repairs made
}

// A tapRow is a debit with where and when.
type tapRow struct {
	debit  purse.Debit
	number uint32
	got    time.Time
	device transit.Device
}

func (p pages) journey(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var v journeyView
	var taps []tapRow
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.journey, err = transit.JourneyByID(q, r.PathValue("id")); err != nil {
			return err
		}
		if taps, err = tapsOf(q, v.journey); err != nil {
			return err
		}
		if err = p.moneyOf(ctx, q, &v); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: journeyPath(v.journey.ID)}, "", shell.Rows)
		if err != nil {
			return err
		}
		v.deeds = shell.Told(trail)
		v.closed = slices.ContainsFunc(trail, func(d shell.Deed) bool { return d.Act == shell.ActAcknowledge })
		c, err := issuing.Get(q, issuing.IDOf(v.journey.Card))
		if err != nil && !errors.Is(err, issuing.ErrNotFound) {
			return err
		}
		v.owner = string(c.Customer)
		v.repair, err = p.offer(ctx, q, r, v.journey)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a journey: %w", err)
	}
	j := v.journey
	v.facts, v.lines, v.route, v.network = p.journeyFacts(j, v.owner), fareLines(j), p.routeOf(j), p.Map
	if v.taps, err = p.tapTable(ctx, taps); err != nil {
		return err
	}
	if v.postings, err = p.postings(ctx, journeyRefs(v)); err != nil {
		return err
	}
	return p.desk.Show(w, r, web.Page{Title: p.way(j), Back: "/ops/journeys", Here: "/ops/journeys"}, journeyPage(v))
}

func tapsOf(q *db.Query, j transit.Journey) (out []tapRow, err error) {
	for _, seq := range j.Taps {
		var t tapRow
		if t.debit, t.number, t.got, err = transit.TapOf(q, j.Card, seq); err != nil {
			return nil, err
		}
		t.device, err = transit.DeviceOf(q, t.debit.Terminal)
		if err != nil && !errors.Is(err, transit.ErrNoDevice) {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// moneyOf reads who got what, and what repairs did.
func (p pages) moneyOf(ctx context.Context, q *db.Query, v *journeyView) error {
	shares, err := transit.SharesOf(q, v.journey)
	if err != nil {
		return err
	}
	v.shares = web.Table{ID: "shares", NoCSV: true, Empty: words.NoShares, Head: []web.Column{{Name: words.Line}, {Name: words.Operator}, {Name: words.Metres, Num: true}, {Name: words.Amount, Num: true}}}
	for _, s := range shares {
		v.shares.Rows = append(v.shares.Rows, web.Row{Cells: []web.Cell{p.lineCell(ctx, s.Line), web.Plain(p.operator(s.Operator).In(ctx)),
			{Text: web.Metres(ctx, int64(s.Metres)), CSV: strconv.Itoa(s.Metres)}, web.Money(s.Fen.Minor())}})
	}
	fixes, err := transit.Fixes(q, v.journey.ID)
	for _, f := range fixes {
		v.fixes = append(v.fixes, web.Happening{At: f.At, Who: f.Who, Icon: "wrench", Tone: web.Warn,
			What:   web.Text{ZH: finishWords[f.Missing].ZH + " → " + p.station(f.Station).ZH, EN: finishWords[f.Missing].EN + " → " + p.station(f.Station).EN},
			Detail: web.SignedYuan(-f.Fen.Minor()) + " · " + f.Reason})
	}
	return err
}

// operator names a payee of settlement.
func (p pages) operator(id string) web.Text {
	for _, o := range p.Network.OperatorIDs() {
		if o.ID == id {
			return web.Text{ZH: o.ZH, EN: o.EN}
		}
	}
	return web.Same(id)
}

// lineCell shows a line by its badge where there is one.
func (p pages) lineCell(ctx context.Context, id string) web.Cell {
	if l, ok := p.Network.Line(id); ok {
		c := web.Cell{Text: web.Text{ZH: l.ZH, EN: l.EN}.In(ctx)}
		if p.Map != nil {
			if ml, ok := p.Map.Line(id); ok {
				c.Show = web.LineBadge(ml)
			}
		}
		return c
	}
	return shell.Short(id)
}

func (p pages) journeyFacts(j transit.Journey, owner string) []web.Fact {
	card := web.Fact{Name: words.Card, Value: shell.Masked(issuing.IDOf(j.Card)), Mono: true}
	if owner != "" {
		card.Href = cardPath(owner, issuing.IDOf(j.Card))
	}
	facts := []web.Fact{
		{Name: words.State, Show: web.Chip(journeyTone(j), shell.Both(j.State.Words))},
		{Name: words.Ending, Show: shell.Phrase(finishWords[j.Finish])},
		card,
		{Name: words.Charged, Value: web.Yuan(j.Charged.Minor())},
	}
	if !j.Adjusted.IsZero() {
		facts = append(facts, web.Fact{Name: words.Adjusted, Value: web.SignedYuan(j.Adjusted.Minor())})
	}
	if j.State != transit.Open {
		facts = append(facts, web.Fact{Name: words.ByTariff, Value: web.Yuan(j.Due.Minor())})
	}
	if j.Exception != transit.Fine {
		facts = append(facts, web.Fact{Name: words.Exception, Show: web.Chip(web.Warn, exceptionWords[j.Exception])})
	}
	if j.Metres > 0 {
		facts = append(facts, web.Fact{Name: words.Distance, Show: metres(j.Metres)})
	}
	if j.Tariff != "" {
		facts = append(facts, web.Fact{Name: words.Tariff, Value: j.Tariff, Mono: true})
	}
	for _, x := range []struct {
		name web.Text
		at   time.Time
	}{{words.Entered, j.Entered}, {words.LeftAt, j.Left}, {words.Deadline, j.Deadline}, {words.Changed, j.Changed}} {
		if !x.at.IsZero() {
			facts = append(facts, web.Fact{Name: x.name, Value: web.Moment(x.at)})
		}
	}
	return append(facts, web.Fact{Name: words.Journey, Value: j.ID, Mono: true})
}

// fareLines are the rules behind the price, and the sum that the tariff asks.
func fareLines(j transit.Journey) []web.Line {
	return priceLines(j.Lines, j.Due)
}

func priceLines(lines []fare.Line, due money.Amount) []web.Line {
	var out []web.Line
	for _, l := range lines {
		out = append(out, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.SignedYuan(l.Fen)})
	}
	if len(out) > 0 {
		out = append(out, web.Line{Text: words.ByTariff, Value: web.Yuan(due.Minor()), Total: true})
	}
	return out
}

// routeOf lists the stations of the shortest way, for the map.
func (p pages) routeOf(j transit.Journey) (ids []string) {
	a, ok1 := p.Network.ByCode(j.From)
	b, ok2 := p.Network.ByCode(j.To)
	if j.Mode != transit.Rail || !ok1 || !ok2 {
		if ok1 && j.Mode == transit.Rail {
			return []string{a.ID}
		}
		return nil
	}
	route, err := p.Network.Route(a, b)
	if err != nil {
		return nil
	}
	for _, leg := range route.Legs {
		for _, s := range leg.Via {
			if len(ids) == 0 || ids[len(ids)-1] != s.ID {
				ids = append(ids, s.ID)
			}
		}
	}
	return ids
}

// tapTable shows the debits behind a ride; each TAC is checked again here.
func (p pages) tapTable(ctx context.Context, taps []tapRow) (web.Table, error) {
	t := web.Table{ID: "taps", NoCSV: true, Empty: words.NoTaps, Head: []web.Column{{Name: words.TapAt}, {Name: words.Place}, {Name: words.Amount, Num: true},
		{Name: words.BalanceAfter, Num: true}, {Name: words.TAC}, {Name: words.Sequence, Num: true}, {Name: words.CameIn, Num: true}}}
	for _, x := range taps {
		at := shell.None()
		if m, err := x.debit.At.Moment(); err == nil {
			at = shell.At(m)
		}
		place := web.Same(x.debit.Terminal.String())
		if x.device.Kind != "" {
			place = p.deviceplace(x.device)
			kind := deviceKinds[x.device.Kind]
			place = web.Text{ZH: place.ZH + " · " + kind.ZH, EN: place.EN + " · " + kind.EN}
		}
		tone, word := web.Good, words.TACok
		if err := p.Keys.CheckDebitTAC(ctx, x.debit); err != nil {
			if ctx.Err() != nil {
				return t, err
			}
			tone, word = web.Bad, words.TACbad
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{at, {Text: place.In(ctx), Show: shell.Link("/ops/gates/"+x.debit.Terminal.String(), place)}, web.Money(int64(x.debit.Fen)),
			web.Money(int64(x.debit.Balance)), {Text: word.In(ctx), Show: tac(tone, word, fmt.Sprintf("%X", x.debit.TAC))}, web.Count(int64(x.debit.Seq)), web.When(x.got)}})
	}
	return t, nil
}

// journeyRefs are the references under which a ride may have posted.
func journeyRefs(v journeyView) (refs []string) {
	for _, seq := range v.journey.Pays {
		ref := fmt.Sprintf("transit:%s/%d", v.journey.Card, seq)
		refs = append(refs, ref, ref+":shares", ref+":shares:2", ref+":shares:3")
	}
	return append(refs, v.repair.refs...)
}

// offer prices the ride with the station that staff name.
func (p pages) offer(ctx context.Context, q *db.Query, r *http.Request, j transit.Journey) (v repairView, err error) {
	fixes, err := transit.Fixes(q, j.ID)
	for _, f := range fixes {
		v.refs = append(v.refs, "transit:"+f.ID)
	}
	if err != nil || j.State != transit.Incomplete || j.Mode != transit.Rail {
		return v, err
	}
	v.possible, v.station = true, strings.TrimSpace(r.FormValue("station"))
	for _, s := range p.Network.Stations {
		v.names = append(v.names, web.Text{ZH: s.ZH, EN: s.EN}.In(ctx))
	}
	if v.station == "" {
		return v, nil
	}
	s, err := p.Network.Find(v.station)
	if err != nil {
		v.problem = words.NoStation
		return v, nil
	}
	quote, more, err := p.Transit.RepairQuote(q, j.ID, s.Code())
	if err != nil {
		v.problem = words.NoQuote
		return v, nil
	}
	v.asked, v.lines, v.more = s.Code(), priceLines(quote.Lines, quote.Fen), more.Minor()
	return v, nil
}

// repair fills in the missing end on a rider's word; the difference goes
// through the rider's wallet.
func (p pages) repair(w http.ResponseWriter, r *http.Request) error {
	back := journeyPath(r.PathValue("id"))
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	code, err := strconv.ParseUint(r.PostFormValue("station"), 10, 32)
	if err != nil {
		return fmt.Errorf("station of a repair: %w", shell.ErrForm)
	}
	u, _ := web.Who(r.Context())
	err = p.Store.Write(r.Context(), func(tx *db.Tx) error {
		card, err := cardOfJourney(tx, r.PathValue("id"))
		if err != nil {
			return err
		}
		j, err := p.Transit.Repair(tx, transit.Repair{Journey: r.PathValue("id"), Station: fare.Code(code), Reason: reason, Who: u.Name, Account: wallet.Account(card.Customer)})
		if err != nil {
			return err
		}
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActRepair, Target: back, What: shell.Masked(card.ID) + " " + p.way(j).ZH, Why: reason})
	})
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	return shell.Done(w, r, back, words.DidRepair)
}

func cardOfJourney(tx *db.Tx, id string) (issuing.Card, error) {
	j, err := transit.JourneyByID(tx, id)
	if err != nil {
		return issuing.Card{}, err
	}
	return issuing.Get(tx, issuing.IDOf(j.Card))
}

// ridesOf is the last journeys of a card.
func (p pages) ridesOf(ctx context.Context, q *db.Query, n purse.Number) (web.Table, error) {
	list, err := transit.JourneysOfCard(q, n, -1, 20)
	t := p.journeyTable(ctx, list)
	t.NoCSV = true
	return t, err
}

// pathOfRide leads from the reference of a posting, card/sequence or the id
// of a repair, to the journey.
func (p pages) pathOfRide(ctx context.Context, rest string) (path, detail string, err error) {
	card, tail, tap := strings.Cut(rest, "/")
	if !tap {
		return "", "", nil
	}
	number, _, _ := strings.Cut(tail, ":")
	seq, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return "", "", nil
	}
	err = p.Store.Read(ctx, func(q *db.Query) error {
		for before := int(seq) + 1; ; {
			list, err := transit.JourneysOfCard(q, purse.Number(card), before, 8)
			if err != nil || len(list) == 0 {
				return err
			}
			for _, j := range list {
				if slices.Contains(j.Taps, uint16(seq)) {
					path = journeyPath(j.ID)
					return nil
				}
				before = int(j.First)
			}
		}
	})
	return path, shell.Hushed(rest), err
}
