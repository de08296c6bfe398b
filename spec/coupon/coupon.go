// Package coupon is the discount card of this house: one application that holds
// many coupons of many merchants. No standard has such a card, so everything
// here is this house's own, in the manner of its purse: an early refusal, a
// challenge from both sides, one command that changes the card, a proof that can
// be asked for again. It moves bytes and does no I/O. Start at Coupon for what a
// card holds and at Session for a redemption.
//
// # Commands, CLA 80
//
//	READ    80 B2 n 00             the n-th coupon, 1 first
//	READ    80 B2 00 01 | id 8     the coupon of that id
//	BEGIN   80 50 op 00 | id 8 | terminal 8 | challenge 8 | fen 4 | stamp 7
//	        answer: holder 8 | key version 1 | counter 2 | reduction 4 | challenge 8
//	COMMIT  80 52 00 00 | MAC1 8
//	        answer: counter 2 | reduction 4 | proof 8 | MAC2 8
//	PROVE   80 5A 00 00 | challenge 8 of the terminal
//	        answer: as to the COMMIT of that challenge
//
// Numbers are most significant byte first, amounts are fen, dates BCD. BEGIN
// checks everything and changes nothing; COMMIT takes one use, or gives one
// stamp, exactly once; when its answer is lost PROVE gives it again, or says
// 6A88: nothing has happened.
//
// # Keys (AES-128)
//
// A merchant's terminals hold the merchant's root, a card the key that CardKey
// derives from it for this holder. Session key = CMAC(card key, 02 | card
// challenge | terminal challenge | counter). MAC1 and MAC2 are the first eight
// bytes of CMACs under it: the card knows that a terminal of the merchant asks,
// the terminal that the card is genuine. The proof is for whoever pays for the
// reduction: a CMAC under the coupon issuer's key, which no merchant has.
//
// # Status words
//
//	9000 done                      6700 wrong length        6A86 wrong P1 P2
//	6A80 the operation does not suit the coupon             6A83 no n-th coupon
//	6A88 no such coupon or proof   6982 MAC1 wrong          6983 key locked after 15 wrong MAC1
//	6984 used up                   6985 COMMIT without BEGIN, not personalised
//	9E01 not valid on this date    9E02 below the minimum spend
//	9E03 stamps are missing        9E04 the stamp card is full
//
// BEGIN also answers 6985 to a terminal challenge that has carried something
// out already: the terminal must ask PROVE, or choose another.
package coupon

import (
	"encoding/binary"
	"errors"
	"fmt"

	"koala/spec/iso7816"
)

// Status words of the discount card's own.
const (
	SWDate    iso7816.SW = 0x9E01 // not valid on this date
	SWMinimum iso7816.SW = 0x9E02 // the purchase is below the minimum spend
	SWStamps  iso7816.SW = 0x9E03 // stamps are missing
	SWFull    iso7816.SW = 0x9E04 // the stamp card is full
)

// What can be wrong with bytes that should be something of a discount card.
var (
	ErrLength  = errors.New("coupon: wrong length")
	ErrCommand = errors.New("coupon: not this command")
	ErrCoupon  = errors.New("coupon: not a coupon that can be")
	ErrMAC     = errors.New("coupon: MAC does not match")
)

// An ID names a coupon, a card's holder number, a merchant, an issuer or a
// terminal: eight bytes that mean nothing else.
type ID [8]byte

// String gives it in hexadecimal.
func (id ID) String() string { return fmt.Sprintf("%X", id[:]) }

// A Kind is what a coupon gives.
type Kind byte

// The kinds of coupons.
const (
	AmountOff   Kind = 1 // Value fen off the purchase
	PercentOff  Kind = 2 // Value hundredths of a percent off, at most Ceiling fen
	StampCard   Kind = 3 // Value fen off, or a thing when it is 0, for Needed stamps
	Entitlement Kind = 4 // a thing to be had; its price does not matter
)

// Words says the kind, in Chinese if zh.
func (k Kind) Words(zh bool) string {
	w, ok := kindWords[k]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(k))
	case zh:
		return w[1]
	}
	return w[0]
}

var kindWords = map[Kind][2]string{
	AmountOff: {"amount off", "满减券"}, PercentOff: {"percent off", "折扣券"},
	StampCard: {"stamp card", "集点卡"}, Entitlement: {"entitlement", "兑换券"},
}

// A Date is a day, YYYYMMDD in BCD: comparing bytes compares days.
type Date [4]byte

// String gives it as 2015-09-16.
func (d Date) String() string { return fmt.Sprintf("%02X%02X-%02X-%02X", d[0], d[1], d[2], d[3]) }

func (d Date) before(e Date) bool {
	return binary.BigEndian.Uint32(d[:]) < binary.BigEndian.Uint32(e[:])
}

// A Stamp is a terminal's wall clock, YYYYMMDDhhmmss in BCD.
type Stamp [7]byte

// Date is its day.
func (s Stamp) Date() Date { return Date(s[:4]) }

// A Coupon is one line of a discount card.
type Coupon struct {
	ID       ID
	Issuer   ID // who pays for the reduction; its key makes the proof
	Merchant ID // whose terminals may redeem it
	Kind     Kind
	Key      byte   // index of the merchant's key on the card
	Value    uint32 // see Kind
	Ceiling  uint32 // fen; of PercentOff, 0 none
	Minimum  uint32 // spend in fen below which it gives nothing
	From, To Date   // both days included
	Uses     uint16 // left
	Stamps   byte   // collected
	Needed   byte   // stamps for one redemption; 0 unless a StampCard
	Counter  uint16 // redemptions and stamps so far
}

// Len is the length of a coupon in bytes.
const Len = 52

// MaxFen bounds amounts of a discount card, fen.
const MaxFen = 1<<31 - 1

// Bytes codes the coupon: id 8 | issuer 8 | merchant 8 | kind 1 | key 1 |
// value 4 | ceiling 4 | minimum 4 | from 4 | to 4 | uses 2 | stamps 1 |
// needed 1 | counter 2.
func (c Coupon) Bytes() []byte {
	b := make([]byte, 0, Len)
	for _, id := range []ID{c.ID, c.Issuer, c.Merchant} {
		b = append(b, id[:]...)
	}
	b = append(b, byte(c.Kind), c.Key)
	for _, v := range []uint32{c.Value, c.Ceiling, c.Minimum} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = append(append(b, c.From[:]...), c.To[:]...)
	b = append(binary.BigEndian.AppendUint16(b, c.Uses), c.Stamps, c.Needed)
	return binary.BigEndian.AppendUint16(b, c.Counter)
}

// Parse reads a coupon. One whose rules contradict each other is refused.
func Parse(b []byte) (c Coupon, err error) {
	if len(b) != Len {
		return c, fmt.Errorf("coupon: %w: %d bytes", ErrLength, len(b))
	}
	c = Coupon{ID: ID(b), Issuer: ID(b[8:]), Merchant: ID(b[16:]), Kind: Kind(b[24]), Key: b[25],
		Value: binary.BigEndian.Uint32(b[26:]), Ceiling: binary.BigEndian.Uint32(b[30:]), Minimum: binary.BigEndian.Uint32(b[34:]),
		From: Date(b[38:]), To: Date(b[42:]), Uses: binary.BigEndian.Uint16(b[46:]), Stamps: b[48], Needed: b[49],
		Counter: binary.BigEndian.Uint16(b[50:])}
	return c, c.check()
}

const wholePercent = 100_00 // hundredths of a percent

func (c Coupon) check() error {
	switch {
	case c.ID == ID{} || c.Merchant == ID{} || c.Issuer == ID{}:
		return fmt.Errorf("%w: it lacks a name", ErrCoupon)
	case kindWords[c.Kind][0] == "":
		return fmt.Errorf("%w: kind %02X", ErrCoupon, byte(c.Kind))
	case (c.Kind == AmountOff || c.Kind == PercentOff) && c.Value == 0, c.Kind == PercentOff && c.Value > wholePercent:
		return fmt.Errorf("%w: value %d", ErrCoupon, c.Value)
	case (c.Kind == StampCard) != (c.Needed > 0) || c.Stamps > c.Needed:
		return fmt.Errorf("%w: %d stamps of %d", ErrCoupon, c.Stamps, c.Needed)
	case c.Ceiling != 0 && c.Kind != PercentOff:
		return fmt.Errorf("%w: a ceiling without a percentage", ErrCoupon)
	case max(c.Value, c.Ceiling, c.Minimum) > MaxFen:
		return fmt.Errorf("%w: amounts", ErrCoupon)
	case c.To.before(c.From) || !digits(c.From[:]) || !digits(c.To[:]):
		return fmt.Errorf("%w: from %v to %v", ErrCoupon, c.From, c.To)
	}
	return nil
}

func digits(bcd []byte) bool {
	for _, b := range bcd {
		if b>>4 > 9 || b&0x0F > 9 {
			return false
		}
	}
	return true
}

// Reduction is what the coupon takes off a purchase of fen, fen: never more
// than the purchase, a percentage rounded down.
func (c Coupon) Reduction(fen uint32) uint32 {
	switch c.Kind {
	case AmountOff, StampCard:
		return min(c.Value, fen)
	case PercentOff:
		off := uint32(min(uint64(fen)*uint64(c.Value)/wholePercent, uint64(fen)))
		if c.Ceiling != 0 {
			off = min(off, c.Ceiling)
		}
		return off
	}
	return 0
}

// An Op is what a terminal wants of a coupon.
type Op byte

// The operations.
const (
	Redeem    Op = 1 // take one use, and the stamps of a stamp card
	GiveStamp Op = 2 // put one stamp on a stamp card
)

// Words says the operation, in Chinese if zh.
func (o Op) Words(zh bool) string {
	w := map[Op][2]string{Redeem: {"redeem", "核销"}, GiveStamp: {"give a stamp", "盖章"}}[o]
	switch {
	case w[0] == "":
		return fmt.Sprintf("%02X", byte(o))
	case zh:
		return w[1]
	}
	return w[0]
}

// May says whether an operation can be done on a purchase of fen at a moment:
// 9000, or why not. Card and terminal ask the same rules.
func (c Coupon) May(op Op, fen uint32, at Stamp) iso7816.SW {
	today := at.Date()
	switch {
	case op != Redeem && (op != GiveStamp || c.Kind != StampCard) || fen > MaxFen || !digits(at[:]):
		return iso7816.SWData
	case c.Uses == 0 || c.Counter == 0xFFFF:
		return iso7816.SWReferenceInvalid
	case today.before(c.From) || c.To.before(today):
		return SWDate
	case fen < c.Minimum && (op == GiveStamp || c.Kind != StampCard):
		return SWMinimum
	case op == GiveStamp && c.Stamps == c.Needed:
		return SWFull
	case op == Redeem && c.Stamps < c.Needed:
		return SWStamps
	}
	return iso7816.OK
}

// After is the coupon after an operation that May has allowed.
func (c Coupon) After(op Op) Coupon {
	c.Counter++
	if op == GiveStamp {
		c.Stamps++
		return c
	}
	c.Uses--
	c.Stamps = 0
	return c
}

// Off is what an operation takes off a purchase: nothing when it gives a stamp.
func (c Coupon) Off(op Op, fen uint32) uint32 {
	if op != Redeem {
		return 0
	}
	return c.Reduction(fen)
}

// SameOffer says whether two coupons are one as it was issued: all but what
// using it changes.
func (c Coupon) SameOffer(d Coupon) bool {
	c.Uses, c.Stamps, c.Counter = d.Uses, d.Stamps, d.Counter
	return c == d
}
