package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/customer"
	"koala/fare"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/settlement"
	"koala/spec/purse"
	"koala/transit"
	"koala/transit/network"
	"koala/wallet"
	"koala/web"
	"koala/web/wearer"
)

// A Repairer fills in the missing end of a journey; transit.Books is one.
type Repairer interface {
	Repair(tx *db.Tx, r transit.Repair) (transit.Journey, error)
}

// journeys is wearer.Trips over transit and the books.
type journeys struct {
	store *db.Store
	book  *ledger.Book
	net   *network.Network
	fix   Repairer
}

// NewTrips is the rides as transit keeps them, with their postings.
func NewTrips(store *db.Store, book *ledger.Book, net *network.Network, fix Repairer) wearer.Trips {
	return journeys{store, book, net, fix}
}

const (
	journeyPage = 100  // journeys read of one card at a time
	cardDepth   = 5000 // and at most, looking for the page's begin
	selfRepair  = "completed on the rider's own page"
)

// Trips merges the rides of all cards a person ever had, newest first. after
// is the id of the last trip of the page before.
func (t journeys) Trips(ctx context.Context, who, after string, limit int) (out []wearer.Trip, err error) {
	err = t.store.Read(ctx, func(q *db.Query) error {
		cards, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		var last transit.Journey
		if after != "" {
			if last, err = t.mine(q, who, after); err != nil {
				return err
			}
		}
		var all []transit.Journey
		for _, c := range cards {
			some, err := olderThan(q, c.ID.Purse(), last, limit)
			if err != nil {
				return err
			}
			all = append(all, some...)
		}
		slices.SortFunc(all, newestFirst)
		for _, j := range all[:min(limit, len(all))] {
			trip, err := t.tripOf(q, j)
			if err != nil {
				return err
			}
			out = append(out, trip)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("trips of %s: %w", who, err)
	}
	return out, nil
}

// olderThan reads up to limit journeys of a card that come after last on the
// list; the zero journey stands before all.
func olderThan(q *db.Query, card purse.Number, last transit.Journey, limit int) (out []transit.Journey, err error) {
	before := -1
	for read := 0; read < cardDepth && len(out) < limit; read += journeyPage {
		some, err := transit.JourneysOfCard(q, card, before, journeyPage)
		if err != nil {
			return nil, err
		}
		for _, j := range some {
			if last.ID == "" || newestFirst(last, j) < 0 {
				out = append(out, j)
			}
			before = int(j.First)
		}
		if len(some) < journeyPage {
			break
		}
	}
	return out, nil
}

func newestFirst(a, b transit.Journey) int {
	return cmp.Or(lastSeen(b).Compare(lastSeen(a)), strings.Compare(b.ID, a.ID))
}

// lastSeen is when a journey was last at a gate.
func lastSeen(j transit.Journey) time.Time {
	if j.Left.IsZero() {
		return j.Entered
	}
	return j.Left
}

// mine reads a journey of one of who's cards; another person's does not exist.
func (t journeys) mine(q db.Reader, who, id string) (transit.Journey, error) {
	j, err := transit.JourneyByID(q, id)
	if errors.Is(err, transit.ErrNoJourney) {
		return j, fmt.Errorf("trip %q: %w", id, wearer.ErrNoTrip)
	}
	if err != nil {
		return j, err
	}
	c, err := issuing.Get(q, issuing.IDOf(j.Card))
	if errors.Is(err, issuing.ErrNotFound) || err == nil && string(c.Customer) != who {
		return j, fmt.Errorf("trip %q: %w", id, wearer.ErrNoTrip)
	}
	return j, err
}

func (t journeys) Trip(ctx context.Context, who, id string) (trip wearer.Trip, err error) {
	var j transit.Journey
	err = t.store.Read(ctx, func(q *db.Query) (err error) {
		if j, err = t.mine(q, who, id); err != nil {
			return err
		}
		if trip, err = t.tripOf(q, j); err != nil {
			return err
		}
		trip.Trace, err = t.trace(q, j)
		return err
	})
	if err != nil {
		return wearer.Trip{}, err
	}
	trip.Postings, err = t.postings(ctx, j)
	return trip, err
}

// Repair fills the missing station in; money goes over the wallet.
func (t journeys) Repair(ctx context.Context, who, id, station string) error {
	s, ok := t.net.ByID(station)
	if !ok {
		return fmt.Errorf("repair of %q at %q: %w", id, station, network.ErrUnknown)
	}
	return t.store.Write(ctx, func(tx *db.Tx) error {
		if _, err := t.mine(tx, who, id); err != nil {
			return err
		}
		_, err := t.fix.Repair(tx, transit.Repair{Journey: id, Station: s.Code(), Reason: selfRepair, Who: who,
			Account: wallet.Account(customer.ID(who))})
		return err
	})
}

// tripOf turns a journey into what pages show.
func (t journeys) tripOf(q *db.Query, j transit.Journey) (wearer.Trip, error) {
	trip := wearer.Trip{ID: j.ID, Card: issuing.IDOf(j.Card), Bus: j.Mode == transit.Bus, Open: j.State == transit.Open,
		State: web.Text{ZH: j.State.Words(true), EN: j.State.Words(false)}, Tone: tripTones[j.State],
		Missing: j.State == transit.Incomplete && j.Mode == transit.Rail && (j.Finish == transit.MissingEntry || j.Finish == transit.MissingExit),
		Fen:     j.Charged.Add(j.Adjusted).Minor(), Metres: int64(j.Metres), Lines: j.Lines}
	if trip.Bus {
		d, err := transit.DeviceOf(q, j.Device)
		if err != nil {
			return trip, err
		}
		at := j.Entered
		if at.IsZero() {
			at = j.Left
		}
		trip.In = &wearer.Place{Name: words.BusLine.F(d.Route.Line), At: at}
		return trip, nil
	}
	trip.In, trip.Out = t.place(j.From, j.Entered), t.place(j.To, j.Left)
	trip.Route = t.route(j)
	return trip, nil
}

var tripTones = map[transit.State]web.Tone{transit.Open: web.Info, transit.Closed: web.Good, transit.Incomplete: web.Warn, transit.Repaired: web.Good}

func (t journeys) place(code fare.Code, at time.Time) *wearer.Place {
	if s, ok := t.net.ByCode(code); ok && !at.IsZero() {
		return &wearer.Place{Station: s.ID, Name: web.Text{ZH: s.ZH, EN: s.EN}, At: at}
	}
	return nil
}

// route lists the stations of the shortest way, the one the fare goes by.
func (t journeys) route(j transit.Journey) (out []string) {
	a, ok1 := t.net.ByCode(j.From)
	z, ok2 := t.net.ByCode(j.To)
	if !ok1 || !ok2 || a == z {
		return nil
	}
	r, err := t.net.Route(a, z)
	if err != nil {
		return nil // the map is left out; the fare lines say why
	}
	for _, leg := range r.Legs {
		for _, s := range leg.Via {
			if len(out) == 0 || out[len(out)-1] != s.ID {
				out = append(out, s.ID)
			}
		}
	}
	return out
}

// trace tells a journey from the gates to the books.
func (t journeys) trace(q *db.Query, j transit.Journey) (out []web.Happening, err error) {
	for _, seq := range j.Taps {
		d, number, got, err := transit.TapOf(q, j.Card, seq)
		if err != nil {
			return nil, err
		}
		at, err := d.At.Moment()
		if err != nil {
			at = got // the gate's clock cannot be read
		}
		out = append(out,
			web.Happening{At: at, What: words.TraceTap.F(d.Terminal, web.Yuan(int64(d.Fen))), Icon: "nfc",
				Detail: fmt.Sprintf("#%d · TAC %X", d.Seq, d.TAC)},
			web.Happening{At: got, What: words.TraceBooked, Icon: "shield-check", Tone: web.Good,
				Detail: "#" + strconv.FormatUint(uint64(number), 10)})
	}
	fixes, err := transit.Fixes(q, j.ID)
	if err != nil {
		return nil, err
	}
	for _, f := range fixes {
		name := web.Same(f.Station.String())
		if s, ok := t.net.ByCode(f.Station); ok {
			name = web.Text{ZH: s.ZH, EN: s.EN}
		}
		out = append(out, web.Happening{At: f.At, Icon: "wrench", Tone: web.Info, Detail: web.SignedYuan(-f.Fen.Minor()),
			What: web.Text{ZH: words.TraceFixed.To(web.ZH, name.ZH), EN: words.TraceFixed.To(web.EN, name.EN)}})
	}
	slices.SortStableFunc(out, func(a, b web.Happening) int { return a.At.Compare(b.At) })
	return out, nil
}

// postings reads the ledger entries a journey's money made. A tap that cost
// nothing made none.
func (t journeys) postings(ctx context.Context, j transit.Journey) (out []wearer.Posting, err error) {
	for _, seq := range j.Pays {
		for _, tail := range []string{"", ":shares"} {
			rec, err := t.book.Entry(ctx, fmt.Sprintf("transit:%s/%d%s", j.Card, seq, tail))
			if errors.Is(err, ledger.ErrNoEntry) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("postings of trip %s: %w", j.ID, err)
			}
			out = append(out, pairs(rec, fmt.Sprintf("transit:…%s/%d%s", web.Tail(string(j.Card)), seq, tail), t.accountWords)...)
		}
	}
	return out, nil
}

// pairs turns an entry's givers and takers into one line per taker.
func pairs(rec ledger.Record, ref string, name func(ledger.AccountID) web.Text) (out []wearer.Posting) {
	var from web.Text
	for _, l := range rec.Legs {
		if l.Amount.Sign() < 0 {
			from = name(l.Account)
		}
	}
	for _, l := range rec.Legs {
		if l.Amount.Sign() > 0 {
			out = append(out, wearer.Posting{Ref: ref, From: from, To: name(l.Account), Fen: l.Amount.Minor(), At: rec.Booked})
		}
	}
	return out
}

// accountWords names an account for its customer; operators have names.
func (t journeys) accountWords(id ledger.AccountID) web.Text {
	for _, o := range t.net.OperatorIDs() {
		if id == settlement.Payable(o.ID) {
			return web.Text{ZH: o.ZH, EN: o.EN}
		}
	}
	return accountName(id, web.Same(string(id)))
}

// accountName names an account for its customer; shop is who is paid.
func accountName(id ledger.AccountID, shop web.Text) web.Text {
	kind, rest, _ := strings.Cut(string(id), ".")
	switch kind {
	case "float":
		return words.AccountFloat
	case "clearing":
		return words.AccountClearing
	case "wallet":
		return words.YourWallet
	case "credit":
		return words.AccountCredit
	case "payable":
		return shop
	case "funding":
		return words.AccountFirm
	case "bank":
		if strings.HasPrefix(rest, "person.") {
			return words.YourBank
		}
	}
	return web.Same(string(id))
}
