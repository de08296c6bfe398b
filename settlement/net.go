package settlement

import (
	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement/fee"
)

// A pricer prices items of one payee after another, and keeps the tariffs it
// has picked.
type pricer struct {
	tariffs map[tariffKey]*fee.Tariff
	terms   []Terms
	first   int64 // when the first of terms begin, microseconds
	last    tariffKey
	tariff  *fee.Tariff // of last; nil: no fees

	load   func(payee string) ([]Terms, error) // of those who divide their sales
	others map[string]*pricer
}

type tariffKey struct {
	day   int64 // since 1970, in Beijing
	cat   fee.Category
	price string
}

func newPricer(q db.Reader) *pricer {
	return &pricer{tariffs: map[tariffKey]*fee.Tariff{}, others: map[string]*pricer{}, load: func(payee string) ([]Terms, error) { return AllTerms(q, payee) }}
}

// maxOthers bounds the payees whose terms are kept for parts of their sales.
const maxOthers = 1_024

// other prices by the terms of another payee.
func (p *pricer) other(payee string) (*pricer, error) {
	if known := p.others[payee]; known != nil {
		return known, nil
	}
	terms, err := p.load(payee)
	if err != nil {
		return nil, err
	}
	if len(p.others) == maxOthers {
		clear(p.others)
	}
	x := &pricer{tariffs: p.tariffs}
	x.of(terms)
	p.others[payee] = x
	return x, nil
}

// of turns to the next payee.
func (p *pricer) of(terms []Terms) {
	p.terms, p.last, p.tariff = terms, tariffKey{day: -1 << 40}, nil
	if len(terms) > 0 {
		p.first = terms[0].Since.Start(calendar.Beijing).UnixMicro()
	}
}

const (
	dayMicros     = 24 * 60 * 60 * 1_000_000
	beijingMicros = 8 * 60 * 60 * 1_000_000
)

// on picks the tariff for a moment in microseconds.
func (p *pricer) on(us int64) (*fee.Tariff, error) {
	n := (us + beijingMicros) / dayMicros
	if n == p.last.day {
		return p.tariff, nil
	}
	day := calendar.Date{Year: 1970, Month: 1, Day: 1}.AddDays(int(n))
	t := inForce(p.terms, day)
	k := tariffKey{n, t.Category, t.Price}
	tariff := p.tariffs[k]
	if tariff == nil && t.Category != "" {
		made, err := house.Tariff(day, t.Category, t.Price)
		if err != nil {
			return nil, err
		}
		tariff = &made
		p.tariffs[k] = tariff
	}
	p.last, p.tariff = k, tariff
	return tariff, nil
}

// price is the fee of an item; what it gives back is below zero. The rules are
// those of the sale's day, and no later than when it was captured: terms that
// begin afterwards cannot change it. A clock that is behind the first terms
// does not make a sale free that was captured under them.
func (p *pricer) price(r *row) (fee.Parts, error) {
	if r.card == "" {
		return fee.Parts{}, nil
	}
	if r.priced != "" {
		other, err := p.other(r.priced)
		if err != nil {
			return fee.Parts{}, err
		}
		p = other
	}
	if len(p.terms) == 0 {
		return fee.Parts{}, nil
	}
	at := r.saleAt
	if at == 0 {
		at = max(r.at, p.first)
	}
	t, err := p.on(min(at, r.booked))
	if err != nil || t == nil {
		return fee.Parts{}, err
	}
	whole, class := r.whole, fee.Class(r.card)
	if whole == 0 {
		whole = max(r.fen, -r.fen)
	}
	var f fee.Parts
	if r.fen > 0 {
		f = t.Of(whole, class)
	} else {
		left := r.remains
		if left == 0 {
			left = whole
		}
		f = fee.Parts{}.Minus(t.Back(whole, left, class))
	}
	if r.share == 0 || r.share == whole {
		return f, nil
	}
	return f.Slice(r.lo, r.lo+r.share, whole), nil
}

// A tally is the sum of a payee's items.
type tally struct {
	n, upto                     int64
	gross, refunds, chargebacks int64
	fee                         fee.Parts
	own                         int64      // of fee.Issuer, to our own bank
	hosts                       []hostPart // and to foreign issuers
	full                        bool       // an item behind the cut-off was seen
}

type hostPart struct {
	host string
	fen  int64
}

func (t *tally) add(r *row, f fee.Parts) {
	t.n++
	t.upto = r.seq
	switch {
	case r.fen > 0:
		t.gross += r.fen
	case r.kind == Chargeback:
		t.chargebacks += r.fen
	default:
		t.refunds += r.fen
	}
	if f == (fee.Parts{}) {
		return
	}
	t.fee = t.fee.Plus(f)
	if r.issuer == "" {
		t.own += f.Issuer
		return
	}
	for i := range t.hosts {
		if t.hosts[i].host == r.issuer {
			t.hosts[i].fen += f.Issuer
			return
		}
	}
	t.hosts = append(t.hosts, hostPart{r.issuer, f.Issuer})
}

// A closing is one payee with what is netted for it.
type closing struct {
	p      payee
	terms  Terms
	sum    tally
	payout Payout
	until  calendar.Date // it takes items and reserves up to the end of this day
	carry  bool          // and pays nothing: it is not the payee's payday
}

// net makes the payout of what was tallied: it changes the payee's state and
// says whether anything came of it. price is what paying at once costs, of the
// amount due; it may lower that. nil for the next bank day.
func (c *closing) net(price func(pay int64) (int64, int64)) bool {
	p, s, o := &c.p, &c.sum, &c.payout
	have := p.kept + s.gross + s.refunds + s.chargebacks - s.fee.Fee + p.released
	reserved := int64(0)
	if s.gross > 0 && c.terms.ReserveBP > 0 { // never of what is not there
		reserved = min(money.Fen(s.gross).Portion(c.terms.ReserveBP, 10_000, money.Down).Minor(), max(0, have))
	}
	have -= reserved
	pay, advance := int64(0), int64(0)
	if p.stopped == 0 {
		pay = max(0, have-p.held)
	}
	if c.carry || pay < c.terms.Least.Minor() {
		pay = 0
	}
	if price != nil {
		pay, advance = price(pay)
		pay -= advance
	}
	if s.n == 0 && p.released == 0 && pay == 0 {
		return false
	}
	o.Payee, o.Count, o.after, o.upto = p.id, int(s.n), p.mark, max(p.mark, s.upto)
	o.Amount, o.Advance, o.Gross, o.Refunds, o.Chargebacks = money.Fen(pay), money.Fen(advance), money.Fen(s.gross), money.Fen(s.refunds), money.Fen(s.chargebacks)
	o.Reserved, o.Released, o.Brought, o.Undone, o.Fee = money.Fen(reserved), money.Fen(p.released), money.Fen(p.kept), money.Fen(0), s.fee
	p.kept = have - pay - advance
	p.reserve += reserved - p.released
	p.mark = o.upto
	o.Kept = money.Fen(p.kept)
	return true
}

// Entry is the reference of the payout's entry in the books.
func (p *Payout) Entry() string {
	if p.Kind == AtOnce {
		return "payout:" + p.ID
	}
	return "payout:" + p.Day.String() + ":" + p.Payee
}

// entry is what is posted: the house owes the payee less by what is paid and
// what it pays for; false when nothing moves.
func (c *closing) entry() (ledger.Entry, bool) {
	o, s := &c.payout, &c.sum
	e := ledger.Entry{Ref: o.Entry(), Kind: "payout", Text: "settlement of " + o.Day.String(), Legs: make([]ledger.Leg, 0, 6)}
	leg := func(a ledger.AccountID, fen int64) {
		if fen != 0 {
			e.Legs = append(e.Legs, ledger.Leg{Account: a, Amount: money.Fen(fen)})
		}
	}
	leg(Payable(o.Payee), -o.Amount.Minor()-o.Advance.Minor()-s.fee.Fee)
	leg(custody, o.Amount.Minor())
	leg(ForAdvances, o.Advance.Minor())
	leg(OwnIssuer, s.own)
	for _, h := range s.hosts {
		leg(IssuerAccount(h.host), h.fen)
	}
	leg(Network, s.fee.Network)
	leg(Acquirer, s.fee.Acquirer)
	return e, len(e.Legs) > 0
}
