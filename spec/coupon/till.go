package coupon

import (
	"errors"
	"fmt"

	"koala/spec/iso7816"
)

// What a till finds wrong with a card.
var (
	ErrMerchant = errors.New("coupon: another merchant's")
	ErrDiffers  = errors.New("coupon: the card reckons otherwise than its own coupon says")
	ErrCard     = errors.New("coupon: another card")
	// ErrForgotten says that nobody but the issuer knows the outcome.
	ErrForgotten = errors.New("coupon: the card no longer knows")
)

// A Refusal is a card's answer other than 9000.
type Refusal struct {
	INS byte
	SW  iso7816.SW
}

// Error says what was asked and why not.
func (r Refusal) Error() string {
	why := r.SW.Meaning(false)
	if w, own := swWords[r.SW]; own {
		why = w[0]
	}
	return fmt.Sprintf("coupon: instruction %02X is answered %04X: %s", r.INS, uint16(r.SW), why)
}

// A Till is a merchant's terminal at a card. One contact is: Open, then any of
// Redeem and Settle.
type Till struct {
	Merchant, Terminal ID
	Root               [16]byte // of the merchant's keys
	Send               iso7816.Transmit

	holder ID // of the card that Open found
}

func (t *Till) ask(c iso7816.Command) ([]byte, error) {
	r, err := t.Send(c)
	if err == nil && !r.SW.OK() {
		err = Refusal{c.INS, r.SW}
	}
	return r.Data, err
}

func refusedWith(err error, sw iso7816.SW) bool {
	var r Refusal
	return errors.As(err, &r) && r.SW == sw
}

// Open selects the discount card of that name and lists its coupons, other
// merchants' too.
func (t *Till) Open(aid []byte) (holder ID, list []Coupon, err error) {
	return t.open(iso7816.Select(aid))
}

// OpenNext goes on to the next discount card whose name begins so: an element may
// have one per issuer (ISO 7816-4, next occurrence). After the last a Refusal
// with 6A82.
func (t *Till) OpenNext(aid []byte) (holder ID, list []Coupon, err error) {
	c := iso7816.Select(aid)
	c.P2 = 0x02
	return t.open(c)
}

func (t *Till) open(c iso7816.Command) (holder ID, list []Coupon, err error) {
	raw, err := t.ask(c)
	if err != nil {
		return ID{}, nil, err
	}
	f, err := ParseFCI(raw)
	if err != nil {
		return ID{}, nil, err
	}
	t.holder = f.Holder
	for n := 1; n <= int(f.Count); n++ {
		raw, err := t.ask(Read{N: byte(n)}.Command())
		if err != nil {
			return ID{}, nil, err
		}
		c, err := Parse(raw)
		if err != nil {
			return ID{}, nil, err
		}
		list = append(list, c)
	}
	return f.Holder, list, nil
}

// A Pending is an operation whose COMMIT is about to go out. The till keeps it
// until Redeem or Settle has told the outcome.
type Pending struct {
	Begin  Begin
	Said   BeginAnswer
	Coupon Coupon
}

const pendingLen = 1 + beginLen + beginAnswerLen + Len

// Bytes codes what is kept: op 1 | data of BEGIN 35 | its answer 23 | coupon 52.
func (p Pending) Bytes() []byte {
	b := append([]byte{byte(p.Begin.Op)}, p.Begin.data()...)
	return append(append(b, p.Said.Bytes()...), p.Coupon.Bytes()...)
}

// ParsePending reads it.
func ParsePending(b []byte) (p Pending, err error) {
	if len(b) != pendingLen {
		return p, fmt.Errorf("pending coupon: %w: %d bytes", ErrLength, len(b))
	}
	if p.Begin, err = ParseBegin(iso7816.Command{INS: InsBegin, P1: b[0], Data: b[1 : 1+beginLen]}); err != nil {
		return p, err
	}
	b = b[1+beginLen:]
	if p.Said, err = ParseBeginAnswer(b[:beginAnswerLen]); err != nil {
		return p, err
	}
	p.Coupon, err = Parse(b[beginAnswerLen:])
	return p, err
}

func (t *Till) session(p Pending) *Session {
	return NewSession(CardKey(t.Root, p.Said.Holder, p.Coupon.Merchant), p.Begin, p.Said)
}

// Redeem carries an operation out on the card that Open has found. The challenge
// is the caller's and must never have been used; the terminal's name is filled
// in. keep is called before the card can change: when it fails, or was never
// called, nothing has happened. After any later error the outcome is open until
// Settle tells it.
func (t *Till) Redeem(x Begin, keep func(Pending) error) (Redemption, error) {
	x.Terminal = t.Terminal
	raw, err := t.ask(Read{ID: x.Coupon}.Command())
	if err != nil {
		return Redemption{}, err
	}
	c, err := Parse(raw)
	if err != nil {
		return Redemption{}, err
	}
	if c.Merchant != t.Merchant {
		return Redemption{}, fmt.Errorf("coupon %v: %w", c.ID, ErrMerchant)
	}
	if raw, err = t.ask(x.Command()); err != nil {
		return Redemption{}, err
	}
	said, err := ParseBeginAnswer(raw)
	if err != nil {
		return Redemption{}, err
	}
	if c.ID != x.Coupon || said.Holder != t.holder || said.Counter != c.Counter || said.Reduction != c.Off(x.Op, x.Fen) {
		return Redemption{}, fmt.Errorf("coupon %v: %w", x.Coupon, ErrDiffers)
	}
	p := Pending{x, said, c}
	if err := keep(p); err != nil {
		return Redemption{}, fmt.Errorf("coupon %v: keeping it: %w", x.Coupon, err)
	}
	s := t.session(p)
	if raw, err = t.ask(s.Commit().Command()); err != nil {
		return Redemption{}, err
	}
	return accepted(s, raw, c)
}

func accepted(s *Session, raw []byte, c Coupon) (Redemption, error) {
	d, err := ParseDone(raw)
	if err != nil {
		return Redemption{}, err
	}
	return s.Accept(d, c)
}

// Settle asks the card, which Open has found again, what became of a pending
// operation: carried out, with its record, or not (false) and never to be.
// ErrForgotten says that the card cannot tell any more, because others have used
// it since: the issuer knows, who has the records of all terminals.
func (t *Till) Settle(p Pending) (r Redemption, done bool, err error) {
	if t.holder != p.Said.Holder {
		return r, false, fmt.Errorf("holder %v: %w", t.holder, ErrCard)
	}
	raw, err := t.ask(Prove{p.Begin.Challenge}.Command())
	if refusedWith(err, iso7816.SWReferenceNotFound) {
		return r, false, t.untouched(p)
	}
	if err != nil {
		return r, false, err
	}
	r, err = accepted(t.session(p), raw, p.Coupon)
	return r, err == nil, err
}

// untouched makes sure that the coupon stands where it stood before the
// operation.
func (t *Till) untouched(p Pending) error {
	raw, err := t.ask(Read{ID: p.Coupon.ID}.Command())
	if refusedWith(err, iso7816.SWReferenceNotFound) {
		return fmt.Errorf("coupon %v: %w", p.Coupon.ID, ErrForgotten)
	}
	if err != nil {
		return err
	}
	now, err := Parse(raw)
	if err == nil && now.Counter != p.Said.Counter {
		err = fmt.Errorf("coupon %v, counter %d and then %d: %w", p.Coupon.ID, p.Said.Counter, now.Counter, ErrForgotten)
	}
	return err
}
