package settlement

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/settlement/fee"
)

// Payouts reads the payouts of one payee (empty: of all), newest first, from
// the one before the given id (empty: from the newest). Closings that paid
// nothing are not among them.
func Payouts(q db.Reader, payee, before string, limit int) ([]Payout, error) {
	return closings(q, payee, before, 1, limit)
}

// Closings reads all closings of a payee, also those that paid nothing.
func Closings(q db.Reader, payee, before string, limit int) ([]Payout, error) {
	return closings(q, payee, before, 0, limit)
}

func closings(q db.Reader, payee, before string, least int64, limit int) (out []Payout, err error) {
	if before == "" {
		before = "~" // after every id
	}
	where, args := `WHERE id < $1 AND fen >= $2`, []any{before, least, min(max(limit, 1), maxPage)}
	if payee != "" {
		where, args = where+` AND payee = $4`, append(args, payee)
	}
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanPayout(scan)
		out = append(out, p)
		return err
	}, `SELECT `+payoutColumns+` FROM settlement_payout `+where+` ORDER BY id DESC LIMIT $3`, args...)
	return out, err
}

// ofDay reads the closings of a payee's days.
func ofDay(q db.Reader, payee string, first, last calendar.Date) ([]Payout, error) {
	return inOrder(q, `payee = $1 AND day >= $2 AND day <= $3`, payee, first.String(), last.String())
}

// inOrder reads closings of one payee in the order of their items.
func inOrder(q db.Reader, where string, args ...any) ([]Payout, error) {
	return payouts(q, where+` ORDER BY upto, after, id`, args...)
}

func payouts(q db.Reader, where string, args ...any) (out []Payout, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanPayout(scan)
		out = append(out, p)
		return err
	}, `SELECT `+payoutColumns+` FROM settlement_payout WHERE `+where, args...)
	return out, err
}

// PayoutOf reads one payout.
func PayoutOf(q db.Reader, id string) (Payout, error) {
	p, err := scanPayout(q.QueryRow(`SELECT `+payoutColumns+` FROM settlement_payout WHERE id = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoPayout
	}
	if err != nil {
		return Payout{}, fmt.Errorf("payout %s: %w", id, err)
	}
	return p, nil
}

// Paid sums what a payee was paid and what did not come back.
func Paid(q db.Reader, payee string) (money.Amount, error) {
	var fen int64
	err := q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_payout WHERE payee = $1 AND state <> 'returned'`, payee).Scan(&fen)
	return money.Fen(fen), err
}

// Charged sums the fees a payee paid, with the price of payouts at once less
// what of it was given back. Earned = Paid + Charged + what stands on Payable.
func Charged(q db.Reader, payee string) (money.Amount, error) {
	var fen int64
	err := q.QueryRow(`SELECT CAST(COALESCE(SUM(fee + advance - undone), 0) AS BIGINT) FROM settlement_payout WHERE payee = $1`, payee).Scan(&fen)
	return money.Fen(fen), err
}

// ItemsOf reads the items of one payout (empty: all that wait) in the order of
// their references, from the one after the given.
func ItemsOf(q db.Reader, payout, after string, limit int) (out []Item, err error) {
	from, args := `settlement_payee p JOIN settlement_item i ON i.payee = p.payee AND i.seq > p.mark WHERE i.ref > $1`, []any{after, min(max(limit, 1), maxPage)}
	if payout != "" {
		p, err := PayoutOf(q, payout)
		if errors.Is(err, ErrNoPayout) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		from = `settlement_item i WHERE i.ref > $1 AND i.payee = $3 AND i.seq > $4 AND i.seq <= $5`
		args = append(args, p.Payee, p.after, p.upto)
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var r row
		err := r.scan(scan)
		out = append(out, r.item())
		return err
	}, `SELECT i.payee, i.seq, i.ref, i.kind, i.card, i.issuer, i.fen, i.at, i.booked, i.sale_at, i.remains, i.whole, i.lo, i.share, i.priced
		FROM `+from+` ORDER BY i.ref LIMIT $2`, args...)
	return out, err
}

// A Priced is an item with its fee; below zero where it is given back.
type Priced struct {
	Item
	Seq    int64 // its place in the payee's list
	Booked time.Time
	Fee    fee.Parts
}

// itemsBetween reads items of a payee by number, oldest first, with fees.
func itemsBetween(q db.Reader, payee string, after, upto int64, limit int) (out []Priced, err error) {
	terms, err := termsAmong(q, payee, payee)
	if err != nil {
		return nil, err
	}
	pr := newPricer(q)
	pr.of(terms[payee])
	err = db.Each(q, func(scan func(...any) error) error {
		var r row
		if err := r.scan(scan); err != nil {
			return err
		}
		f, err := pr.price(&r)
		out = append(out, Priced{r.item(), r.seq, db.Moment(r.booked), f})
		return err
	}, `SELECT `+itemColumns+` FROM settlement_item WHERE payee = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4`, payee, after, upto, limit)
	return out, err
}

// A DayFee is what of a closing's fees the acquirer keeps, of the sales of one
// day; below zero: what it gave back of them.
type DayFee struct {
	Day calendar.Date // of the sale, Beijing
	Fen int64
}

// Keeps sums what the acquirer keeps of a closing's fees by the day of the sale,
// oldest first.
func Keeps(q db.Reader, p Payout) (out []DayFee, err error) {
	sums := map[calendar.Date]int64{}
	for at, n := p.after, pageItems; n == pageItems; {
		list, err := itemsBetween(q, p.Payee, at, p.upto, pageItems)
		if err != nil {
			return nil, err
		}
		n = len(list)
		for _, x := range list {
			sold := x.SaleAt
			if at = x.Seq; sold.IsZero() {
				sold = x.At
			}
			if x.Fee.Acquirer != 0 {
				sums[calendar.Of(sold, calendar.Beijing)] += x.Fee.Acquirer
			}
		}
	}
	for day, fen := range sums {
		out = append(out, DayFee{day, fen})
	}
	slices.SortFunc(out, func(a, b DayFee) int { return strings.Compare(a.Day.String(), b.Day.String()) })
	return out, nil
}

// lastSeq is above every item's number.
const lastSeq = int64(1) << 62

// ItemsOn reads the items of a payee's settlement day in the order they came,
// with their fees, from the one after the given place (0: from the first): those
// that were closed with it, and those of it that wait.
func ItemsOn(q db.Reader, payee string, day calendar.Date, after int64, limit int) (out []Priced, err error) {
	limit = min(max(limit, 1), maxPage)
	closed, err := ofDay(q, payee, day, day)
	if err != nil {
		return nil, err
	}
	p, err := payeeOf(q, payee)
	if err != nil {
		return nil, err
	}
	if n := len(closed); n > 0 && after < closed[n-1].upto {
		out, err = itemsBetween(q, payee, max(after, closed[0].after), closed[n-1].upto, limit)
	}
	all, err2 := AllTerms(q, payee)
	if err = errors.Join(err, err2); err != nil {
		return nil, err
	}
	for at := max(after, p.mark); len(out) < limit; {
		some, err := itemsBetween(q, payee, at, lastSeq, limit)
		if err != nil || len(some) == 0 {
			return out, err
		}
		for _, i := range some {
			at = i.Seq
			t := inForce(all, calendar.Of(i.Booked, calendar.Beijing))
			if of := t.today(i.Booked); day.Before(of) {
				return out, nil
			} else if of == day && len(out) < limit {
				out = append(out, i)
			}
		}
	}
	return out, nil
}

// Price is the fee of an item by terms, oldest first, of the payee it is PricedBy,
// with its explanation; below zero where it is given back. It is pure: the run
// prices in the same way.
func Price(i Item, terms []Terms) (fee.Parts, []fee.Line, error) {
	pr := newPricer(nil)
	pr.of(terms)
	r := row{kind: i.Kind, card: string(i.Card), fen: i.Amount.Minor(), at: i.At.UnixMicro(), booked: lastSeq, saleAt: micros(i.SaleAt),
		remains: i.Remains.Minor(), whole: i.whole, lo: i.lo, share: i.share}
	f, err := pr.price(&r)
	if err != nil || pr.tariff == nil {
		return f, []fee.Line{{EN: "No card fee", ZH: "不收手续费", Fen: money.Fen(0)}}, err
	}
	whole := max(r.fen, -r.fen, r.whole)
	lines := pr.tariff.Explain(whole, pr.last.cat, i.Card)
	if r.fen < 0 {
		left := max(whole, r.remains)
		still := pr.tariff.Of(left-whole, i.Card).Fee
		lines = append(pr.tariff.Explain(left, pr.last.cat, i.Card)[:1],
			fee.Line{EN: "Fee of what is left of the sale", ZH: "剩余交易金额的手续费", Fen: money.Fen(still)},
			fee.Line{EN: "Given back", ZH: "退还手续费", Fen: money.Fen(-f.Fee)})
	}
	if r.share != 0 && r.share != whole {
		lines = append(lines, fee.Line{EN: "of it this share", ZH: "其中：本方份额", Fen: money.Fen(f.Fee)})
	}
	return f, lines, nil
}

// Explain reads an item with its fee and how that comes about.
func Explain(q db.Reader, ref string) (Priced, []fee.Line, error) {
	var r row
	err := r.scan(q.QueryRow(`SELECT `+itemColumns+` FROM settlement_item WHERE ref = $1`, ref).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrItem
	}
	if err != nil {
		return Priced{}, nil, fmt.Errorf("item %s: %w", ref, err)
	}
	terms, err := AllTerms(q, cmp.Or(r.priced, r.payee))
	if err != nil {
		return Priced{}, nil, err
	}
	i := r.item()
	if i.At.After(db.Moment(r.booked)) {
		i.At = db.Moment(r.booked)
	}
	f, lines, err := Price(i, terms)
	return Priced{r.item(), r.seq, db.Moment(r.booked), f}, lines, err
}

// Open reads what stands on each payee's account: items that wait, what was
// kept and what is reserved; Count is the items. Payees with nothing are left
// out.
func Open(q db.Reader) (out []Payout, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Payout
		var waits, kept, reserve int64
		err := scan(&p.Payee, &p.Count, &waits, &kept, &reserve)
		if p.Amount, p.Kept = money.Fen(waits+kept+reserve), money.Fen(kept); p.Count > 0 || !p.Amount.IsZero() {
			out = append(out, p)
		}
		return err
	}, `SELECT p.payee, COUNT(i.seq), CAST(COALESCE(SUM(i.fen), 0) AS BIGINT), p.kept, p.reserve
		FROM settlement_payee p LEFT JOIN settlement_item i ON i.payee = p.payee AND i.seq > p.mark
		GROUP BY p.payee, p.kept, p.reserve ORDER BY p.payee`)
	return out, err
}

// A Day is what a payee sees of the day that runs.
type Day struct {
	Day         calendar.Date
	Count       int
	Gross       money.Amount
	Refunds     money.Amount // zero or less, with chargebacks
	Fee         fee.Parts
	Net         money.Amount // of the items that wait
	PaidAtOnce  money.Amount // today
	Kept        money.Amount // from before; below zero: will be recovered
	Reserve     money.Amount
	Held        money.Amount // by holds of an amount
	Stopped     bool         // by a hold of everything
	FreeAtOnce  int          // payouts at once that are due without a fee
	EndsAt      time.Time
	ArrivesNext calendar.Date
}

// Today reads the day that runs for a payee.
func Today(q db.Reader, id string, now time.Time) (d Day, err error) {
	p, err := payeeOf(q, id)
	if err != nil {
		return d, err
	}
	t, err := TermsOf(q, id, calendar.Of(now, calendar.Beijing))
	if err != nil {
		return d, err
	}
	d.Day = t.today(now)
	d.EndsAt, d.ArrivesNext = t.ends(d.Day), t.arrives(d.Day)
	s, err := waiting(q, id, func(*row) *tally { return nil })
	if err != nil {
		return d, err
	}
	d.Count, d.Gross, d.Refunds, d.Fee = int(s.n), money.Fen(s.gross), money.Fen(s.refunds+s.chargebacks), s.fee
	d.Net = money.Fen(s.gross + s.refunds + s.chargebacks - s.fee.Fee)
	d.Kept, d.Reserve, d.Held, d.Stopped, d.FreeAtOnce = money.Fen(p.kept), money.Fen(p.reserve), money.Fen(p.held), p.stopped > 0, int(p.free)
	done, err := ofDay(q, id, d.Day, d.Day)
	d.PaidAtOnce = money.Fen(0)
	for _, o := range done {
		if o.Kind == AtOnce && o.State != Returned {
			d.PaidAtOnce = d.PaidAtOnce.Add(o.Amount)
		}
	}
	return d, err
}

// waiting tallies the items of a payee that wait; into may choose a tally of
// its own for an item besides the sum.
func waiting(q db.Reader, id string, into func(*row) *tally) (sum tally, err error) {
	terms, err := termsAmong(q, id, id)
	if err != nil {
		return sum, err
	}
	pr := newPricer(q)
	pr.of(terms[id])
	for seq, n := int64(0), pageItems; n == pageItems; {
		n = 0
		err = db.Each(q, func(scan func(...any) error) error {
			var r row
			if err := r.scan(scan); err != nil {
				return err
			}
			n, seq = n+1, r.seq
			f, err := pr.price(&r)
			sum.add(&r, f)
			if t := into(&r); t != nil {
				t.add(&r, f)
			}
			return err
		}, itemsFrom, id, seq, id, pageItems)
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// An Arrival is money on its way to a payee.
type Arrival struct {
	Day     calendar.Date // of the sales
	Arrives calendar.Date
	Count   int
	Amount  money.Amount // after fees; of days not closed before reserve, holds and what is kept
	Payout  string       // empty: the day is not closed, or what it left is carried
	State   State        // Carried: to the next payday, with that of the days before
}

// arrivalsBack is how many closings the calendar looks back.
const arrivalsBack = 31

// Expected is a payee's settlement calendar, oldest first: payouts that were
// made and when they arrive, and the days whose items wait.
func Expected(q db.Reader, id string, now time.Time) ([]Arrival, error) {
	paid, err := Payouts(q, id, "", arrivalsBack)
	if err != nil {
		return nil, err
	}
	all, err := AllTerms(q, id)
	if err != nil {
		return nil, err
	}
	var out []Arrival
	for i := len(paid) - 1; i >= 0; i-- {
		o := paid[i]
		a := Arrival{o.Day, o.Arrives, o.Count, o.Amount, o.ID, o.State}
		if o.Kind == AtOnce {
			a.Arrives = calendar.Of(o.Promised, calendar.Beijing)
		}
		out = append(out, a)
	}
	carried, err := carriedOf(q, id, all, now)
	if err != nil {
		return nil, err
	}
	if carried.Amount.Sign() > 0 {
		out = append(out, carried)
	}
	var days []calendar.Date
	sums := map[calendar.Date]*tally{}
	_, err = waiting(q, id, func(r *row) *tally {
		t := inForce(all, calendar.Of(db.Moment(r.booked), calendar.Beijing))
		day := t.today(db.Moment(r.booked))
		if sums[day] == nil {
			days, sums[day] = append(days, day), &tally{}
		}
		return sums[day]
	})
	running := calendar.Of(now, calendar.Beijing)
	for _, day := range days {
		t, s := inForce(all, day), sums[day]
		arrives := t.arrives(day)
		for arrives.Before(running) { // it waits for more, or for the account
			arrives = t.arrives(arrives)
		}
		out = append(out, Arrival{Day: day, Arrives: arrives, Count: int(s.n), Amount: money.Fen(s.gross + s.refunds + s.chargebacks - s.fee.Fee)})
	}
	return out, err
}

// carriedOf is what a payee that is paid once a month has carried to its next
// payday; nothing for others.
func carriedOf(q db.Reader, id string, all []Terms, now time.Time) (Arrival, error) {
	a := Arrival{Amount: money.Fen(0), State: Carried}
	t := inForce(all, calendar.Of(now, calendar.Beijing))
	p, err := payeeOf(q, id)
	if err != nil || !t.Monthly || p.kept <= 0 || p.day == "" {
		return a, err
	}
	if a.Day, err = calendar.Parse(p.day); err != nil {
		return a, err
	}
	a.Arrives, a.Amount = t.arrives(a.Day), money.Fen(p.kept)
	err = q.QueryRow(`SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM settlement_payout WHERE payee = $1
		AND upto > (SELECT COALESCE(MAX(upto), 0) FROM settlement_payout WHERE payee = $1 AND fen > 0)`, id).Scan(&a.Count)
	return a, err
}

// Explain is the payout in lines that sum to what is paid.
func (p *Payout) Explain() []fee.Line {
	var out []fee.Line
	add := func(en, zh string, a money.Amount, always bool) {
		if always || !a.IsZero() {
			out = append(out, fee.Line{EN: en, ZH: zh, Fen: a})
		}
	}
	add("Sales", "交易金额", p.Gross, true)
	add("Refunds", "退款", p.Refunds, false)
	add("Chargebacks", "拒付", p.Chargebacks, false)
	add("Card fees", "手续费", money.Fen(-p.Fee.Fee), true)
	add("Kept as reserve", "提取保证金", p.Reserved.Neg(), false)
	add("Reserve given back", "释放保证金", p.Released, false)
	if p.Brought.Sign() < 0 {
		add("Recovered: balance below zero", "收回欠款", p.Brought, false)
	} else {
		add("Carried over", "上期结转", p.Brought, false)
	}
	add("Price of being paid at once", "即时到账服务费", p.Advance.Neg(), false)
	if p.Kept.Sign() < 0 {
		add("Owed, recovered from later sales", "欠款，从以后的交易中收回", p.Kept.Neg(), false)
	} else {
		add("Kept for the next payout", "结转下期", p.Kept.Neg(), false)
	}
	add("Paid", "到账金额", p.Amount, true)
	return out
}
