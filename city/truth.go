package city

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"koala/band"
	"koala/card"
	"koala/card/catalog"
	"koala/internal/clock"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/terminal"
)

// A pocket is what a purse says about itself when nobody else is looking.
type pocket struct {
	card    purse.Number
	present bool // the purse is in the element
	blocked bool
	fen     uint32
	offline uint16 // sequence of the next purchase
	online  uint16 // and of the next load
	inside  bool   // the rail record says that its owner is on the way
	onBus   bool   // and that it is by bus
}

var errPeek = errors.New("city: the element answers otherwise than it should")

// peek reads the purse of a copy of the element, so that the element itself,
// with a journal still to recover and a sequence of chances, stays untouched.
func peek(c *catalog.Catalog, b *band.Band) (pocket, error) {
	s, err := shadowOf(c, b)
	if err != nil {
		return pocket{}, err
	}
	return s.purse(b.ID)
}

// purse reads the transit purse of the band with that name.
func (s shadow) purse(band string) (p pocket, err error) {
	e := s.e
	ask := func(c iso7816.Command) (out []byte) {
		r, aerr := e.Transmit(c)
		if err == nil && (aerr != nil || !r.SW.OK()) {
			err = fmt.Errorf("band %s: %02X answers %v: %w", band, c.INS, r.SW, errPeek)
		}
		return r.Data
	}
	switch r, terr := e.Transmit(iso7816.Select(purse.AIDTUnion)); {
	case terr != nil:
		return p, fmt.Errorf("band %s: %w", band, terr)
	case r.SW == iso7816.SWFileNotFound:
		return p, nil
	case !r.SW.OK():
		return pocket{present: true, blocked: true}, nil
	}
	p.present = true
	first := purse.InitPurchase{CAPP: true, Purse: purse.EP, Key: 1, Terminal: purse.Terminal{1}}.Command()
	if r, terr := e.Transmit(first); terr == nil && r.SW == iso7816.SWPurseKey {
		return pocket{}, nil // written half: no keys yet
	}
	file := ask(iso7816.ReadBinarySFI(purse.SFIPublic, 0, purse.File15Len))
	rail := ask(iso7816.ReadRecordByID(purse.RailID>>8, purse.SFITransit, purse.TransitLen))
	buy := ask(first)
	load := ask(purse.InitLoad{Purse: purse.EP, Key: 1, Terminal: purse.Terminal{1}}.Command())
	if err != nil {
		return p, err
	}
	f, err1 := purse.ParseFile15(file)
	t, err2 := purse.ParseTransit(rail)
	x, err3 := purse.ParseInitPurchaseAnswer(buy)
	y, err4 := purse.ParseInitLoadAnswer(load)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return p, fmt.Errorf("band %s: %w", band, err)
	}
	p.card, p.fen, p.offline, p.online = f.Number, x.Balance, x.Seq, y.Seq
	p.inside, p.onBus = t.Status == purse.Entered, terminal.OnBus(t)
	if y.Balance != x.Balance {
		return p, fmt.Errorf("band %s: two balances, %d and %d: %w", band, x.Balance, y.Balance, errPeek)
	}
	return p, nil
}

// A history is what a card truly did, whatever anybody heard of it: every
// purchase and every load by its sequence, fen.
type history struct {
	now      pocket
	debits   map[uint16]uint32
	loads    map[uint16]uint32
	leaving  bool   // its owner gives the card back: it may go from the element
	returned uint32 // what it held when it went, fen
}

func newHistory() *history { return &history{debits: map[uint16]uint32{}, loads: map[uint16]uint32{}} }

// note takes a new look at the card: of what one act can do, at most one
// purchase and one load happened since the last. It checks that the balance
// moved with the sequences and no other way.
func (h *history) note(p pocket) error {
	old := h.now
	if old.present && !p.present && h.leaving {
		h.returned, h.now = old.fen, pocket{card: old.card}
		return nil
	}
	if old.present && !p.present {
		return fmt.Errorf("card …%s is gone from its element", tail(old.card))
	}
	if !p.present || p.blocked {
		h.now.blocked = p.blocked
		return nil
	}
	h.now = p
	bought, loaded := p.offline-old.offline, p.online-old.online
	if !old.present {
		bought, loaded = p.offline, p.online
	}
	switch moved := int64(p.fen) - int64(old.fen); {
	case bought == 0 && loaded == 0 && moved == 0:
	case bought == 1 && loaded == 0 && moved <= 0:
		h.debits[p.offline-1] = uint32(-moved)
	case bought == 0 && loaded == 1 && moved > 0:
		h.loads[p.online-1] = uint32(moved)
	default:
		return fmt.Errorf("card …%s: %d purchases and %d loads moved its balance by %d fen", tail(p.card), bought, loaded, moved)
	}
	return nil
}

// spent sums the purchases.
func (h *history) spent() (fen int64) {
	for _, n := range h.debits {
		fen += int64(n)
	}
	return fen
}

// loaded sums the loads.
func (h *history) loaded() (fen int64) {
	for _, n := range h.loads {
		fen += int64(n)
	}
	return fen
}

// tail is what of a card number may be shown.
func tail(n purse.Number) string { return string(n[max(0, len(n)-4):]) }

// A holding is what a payment card says about itself when nobody else is
// looking.
type holding struct {
	fen int64  // e-cash
	atc uint16 // of its last transaction
}

// A shadow is a copy of a band's element in a field of its own: what is asked
// of it changes nothing on the band.
type shadow struct{ e *card.Element }

func shadowOf(c *catalog.Catalog, b *band.Band) (shadow, error) {
	e, err := c.Restore(b.Element.Image(), clock.Random(1))
	if err == nil {
		err = e.PowerOn(card.Contactless)
	}
	if err != nil {
		return shadow{}, fmt.Errorf("band %s: %w", b.ID, err)
	}
	return shadow{e}, nil
}

// object asks the selected application for a data object; nil when it has none.
func (s shadow) object(tag tlv.Tag) []byte {
	r, err := s.e.Transmit(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: byte(tag >> 8), P2: byte(tag)})
	if err != nil || !r.SW.OK() {
		return nil
	}
	v, _ := tlv.Find(r.Data, tag)
	return v
}

// cash reads the e-cash of the payment card with that name; false when there is
// none, or it is not written yet.
func (s shadow) cash(aid []byte) (h holding, ok bool) {
	if r, err := s.e.Transmit(iso7816.Select(aid)); err != nil || !r.SW.OK() && r.SW != iso7816.SWSelectedBlocked {
		return h, false
	}
	fen, err := strconv.ParseInt(hex.EncodeToString(s.object(emv.TagECBalance)), 10, 64)
	atc := s.object(emv.TagATC)
	if err != nil || len(atc) != 2 {
		return h, false
	}
	return holding{fen, uint16(atc[0])<<8 | uint16(atc[1])}, true
}

// meals reads the value of the canteen card with a key that the canteens have;
// false when there is none.
func (s shadow) meals(tills desfire.Key) (fen int64, ok bool) {
	h := desfire.NewHost(s.e.Transmit, clock.Random(2))
	if h.Open() != nil {
		return 0, false
	}
	v, err := h.Version()
	if err != nil || h.Select(desfire.CanteenAID) != nil {
		return 0, false
	}
	if h.Authenticate(desfire.CanteenTill, desfire.CardKey(tills, v.UID, desfire.CanteenAID, desfire.CanteenSystem)) != nil {
		return 0, false
	}
	n, err := h.Value(desfire.CanteenValue, desfire.Enciphered)
	return int64(n), err == nil
}

// coupons lists the discount cards, one per issuer.
func (s shadow) coupons() (all []coupon.Coupon) {
	t := coupon.Till{Send: s.e.Transmit}
	_, list, err := t.Open([]byte(catalog.CouponInstance))
	for err == nil {
		all = append(all, list...)
		_, list, err = t.OpenNext([]byte(catalog.CouponInstance))
	}
	return all
}
