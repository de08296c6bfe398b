package street

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"koala/band"
	"koala/card"
	"koala/spec/coupon"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/canteen"
	coupondesk "koala/terminal/coupon"
	"koala/terminal/door"
	"koala/terminal/pos"
)

// A Kind is what a device of a shop or a site is for.
type Kind string

// The kinds.
const (
	Till        Kind = "till"    // a shop's: e-cash and bank cards
	CanteenTill Kind = "canteen" // meals, from DESFire cards
	Door        Kind = "door"    // opens, by DESFire cards
	CouponDesk  Kind = "coupon"  // takes coupons of discount cards
)

// A Wish is what is asked of such a device when a card is held to it.
type Wish struct {
	Fen     uint64    // price, at a till, canteen or coupon desk
	Refund  bool      // give back: a till's card credit, a canteen's last purchase
	Contact bool      // the card is inserted, at a till
	Online  bool      // the cashier asks the host
	AID     []byte    // application the customer chose, inserted cards only
	PIN     string    // typed by the customer
	Dishes  []byte    // of the canteen's menu
	Coupon  coupon.ID // zero: the one that takes most off
	Stamp   bool      // a stamp instead of a redemption
}

// An End is how a visit ended.
type End string

// The ends.
const (
	Paid     End = "paid"     // approved offline by the card
	Online   End = "online"   // approved by the issuer
	Returned End = "returned" // money back
	Served   End = "served"   // a meal
	Passed   End = "passed"   // the door opened
	Redeemed End = "redeemed" // coupon taken, or stamped
	Refused  End = "refused"
	Again    End = "again" // the card left too early
	Dark     End = "dark"  // the device takes no cards: no power, full, no packs
)

// A Visit is what a card came to at such a device. Of Sale, Meal, Passage and
// Redemption the one of the device's kind is set.
type Visit struct {
	At      *Acceptor
	Band    string
	When    time.Time
	End     End
	Words   [2]string // of the display, English and Chinese
	Receipt [2][]string
	Card    string // as the device names it: PAN, UID or holder, for looking it up; never shown
	Fen     int64  // moved; of a coupon, what it takes off
	Balance int64  // on the card now; -1 when the device does not know
	Took    time.Duration
	Time    Timing
	Talk    []Exchange

	Sale       *pos.Result
	Meal       *canteen.Outcome
	Passage    *door.Outcome
	Redemption *coupondesk.Outcome
}

// An appliance is the working device inside an Acceptor.
type appliance interface {
	// visit serves a card. Its error is the device's own.
	visit(ctx context.Context, card iso7816.Transmit, w Wish) (Visit, error)
	dialogue() []terminal.Exchange
	waiting() int
	// batch is the oldest records as the house takes them, its bytes.
	batch() ([]byte, error)
	release(upto uint32) error
	pack() (have uint32, load func([]byte) error) // of list, menu or plan; nil: it needs none
	doubts() (int, error)                         // acts whose end is not known
}

// An Acceptor is one device of a shop or site that takes cards without a PSAM.
type Acceptor struct {
	Post // where it stands and for whom

	ready atomic.Bool // installed

	mu    sync.Mutex
	setup setup // what the house told it at installation
	flash []*terminal.Flash
	dev   appliance // nil without power
	token string
	s     *Street
}

// sectors are the sizes of a kind's flashes, in sectors of 4 KiB: the store of
// what it collected first.
var sectors = map[Kind][]int{Till: {16, 4, 4}, CanteenTill: {8, 4}, Door: {8, 4}, CouponDesk: {8}}

func (a *Acceptor) blank() {
	a.flash = nil
	for _, n := range sectors[a.Kind] {
		a.flash = append(a.flash, terminal.NewFlash(n))
	}
}

// boot gives the device power.
func (a *Acceptor) boot() (err error) {
	for _, f := range a.flash {
		f.PowerOn()
	}
	switch a.Kind {
	case Till:
		a.dev, err = newTill(a)
	case CanteenTill:
		a.dev, err = newCanteen(a)
	case Door:
		a.dev, err = newDoor(a)
	default:
		a.dev, err = newDesk(a)
	}
	if err != nil {
		a.dev = nil
		return fmt.Errorf("%s: %w", a.ID, err)
	}
	return nil
}

// on makes sure that the device has power; its lock is held.
func (a *Acceptor) on() error {
	if a.dev != nil {
		return nil
	}
	return a.boot()
}

// Swap puts blank flash into the device, as a technician does with one that is
// damaged: what was not handed over is lost.
func (a *Acceptor) Swap() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blank()
	return a.boot()
}

// Keeps tells how many records the device has not handed over, and of how many
// acts it does not know the end.
func (a *Acceptor) Keeps() (waiting, doubts int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.on(); err != nil {
		return 0, 0, err
	}
	doubts, err = a.dev.doubts()
	return a.dev.waiting(), doubts, err
}

// Pack is the version of the list, menu or plan in use, 0 for none.
func (a *Acceptor) Pack() (uint32, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.on(); err != nil {
		return 0, err
	}
	version, _ := a.dev.pack()
	return version, nil
}

// Acceptor gives the device with a name (Posts lists them). One that nobody has
// used yet is installed first.
func (s *Street) Acceptor(ctx context.Context, id string) (*Acceptor, error) {
	a, err := s.acceptor(id)
	if err != nil {
		return nil, err
	}
	if a.ready.Load() {
		return a, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready.Load() {
		return a, nil
	}
	found, err := s.loadAcceptor(a)
	if err == nil && !found {
		if err = s.equip(ctx, a); err == nil {
			err = s.keepAcceptor(a)
		}
	}
	if err != nil {
		a.dev = nil
		return nil, err
	}
	a.ready.Store(true)
	return a, nil
}

func (s *Street) acceptor(id string) (*Acceptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.acceptors[id]; a != nil {
		return a, nil
	}
	p, ok := PostOf(id)
	if !ok {
		return nil, fmt.Errorf("device %q: %w", id, ErrNoReader)
	}
	a := &Acceptor{Post: p, s: s}
	s.acceptors[id] = a
	return a, nil
}

// Acceptors lists the devices of shops and sites that are installed, by name.
func (s *Street) Acceptors() []*Acceptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Acceptor, 0, len(s.acceptors))
	for _, a := range s.acceptors {
		if a.ready.Load() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *Acceptor) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Present holds a band to a device of a shop or site.
func (s *Street) Present(ctx context.Context, bandID, id string, w Wish, opt Options) (Visit, error) {
	held, err := s.band(bandID)
	if err != nil {
		return Visit{}, err
	}
	a, err := s.Acceptor(ctx, id)
	if err != nil {
		return Visit{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	held.mu.Lock()
	defer held.mu.Unlock()
	if err := a.on(); err != nil {
		return Visit{}, err
	}
	v, err := a.meet(ctx, held.band, w, opt)
	v.At, v.Band = a, bandID
	if err != nil {
		return v, fmt.Errorf("band %s at %s: %w", bandID, id, err)
	}
	return v, errors.Join(s.keepBand(held), s.keepAcceptor(a))
}

// meet is the contact itself. A power failure in the middle is no error here:
// the device is dark, and the customer sees that.
func (a *Acceptor) meet(ctx context.Context, b *band.Band, w Wish, opt Options) (Visit, error) {
	b.Suffer(opt.Fault)
	defer b.Suffer(band.Fault{})
	if opt.PowerCut > 0 {
		a.flash[0].CutAfter(opt.PowerCut)
		defer func() {
			if !a.flash[0].Failed() {
				a.flash[0].CutAfter(0)
			}
		}()
	}
	now := a.s.clock.Now()
	if w.Contact && b.Locked() {
		return Visit{When: now, End: Refused, Balance: -1, Words: [2]string{"unlock the band first", "请先解锁手环"}}, nil
	}
	field, err := reach(b, w.Contact)
	if err != nil { // the element's own recovery was cut
		return Visit{When: now, End: Again, Balance: -1, Words: torn}, nil
	}
	defer b.Leave()
	dev := a.dev
	v, err := dev.visit(ctx, field, w)
	v.When = now
	if errors.Is(err, terminal.ErrPower) {
		a.dev = nil
		v.End, v.Words, err = Dark, [2]string{"out of service", "暂停服务"}, nil
	}
	if err != nil {
		return v, err
	}
	talk := dev.dialogue()
	if v.Time = timing(talk); opt.Talk {
		v.Talk = told(talk, a.s.House().Network)
	}
	return v, nil
}

var torn = [2]string{"present the card again: the card left too early", "请重新刷卡：刷卡过快"}

// reach is the contact to the element: through the band's antenna, or by
// contacts, as a dual-interface card would be inserted.
func reach(b *band.Band, contact bool) (iso7816.Transmit, error) {
	if !contact {
		return b.Field()
	}
	if err := b.Element.PowerOn(card.Contact); err != nil {
		return nil, err
	}
	return b.Element.Transmit, nil
}

// chance is what the device draws from, anew after every start.
func (a *Acceptor) chance() io.Reader {
	return a.s.rand(fmt.Sprintf("%s/%d", a.ID, a.flash[0].Writes()))
}

// Contact brings a band to a reader that is not one of the street's own devices:
// serve has the contact while it lasts. inserted is by contacts, as a
// dual-interface card is.
func (s *Street) Contact(bandID string, inserted bool, f band.Fault, serve func(card iso7816.Transmit) error) error {
	held, err := s.band(bandID)
	if err != nil {
		return err
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	b := held.band
	b.Suffer(f)
	defer b.Suffer(band.Fault{})
	field, err := reach(b, inserted)
	if err != nil { // the element's own recovery was cut: there is nothing to read
		field = func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn }
	}
	defer b.Leave()
	return errors.Join(serve(field), s.keepBand(held))
}
