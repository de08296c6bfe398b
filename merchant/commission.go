package merchant

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
)

// An agent is a payee of settlement. What it is given of a charge is one row of
// accrual, one entry in the books and one item, in the unit of the charge and
// under one reference: none is there without the others.

// Commissions is the account that agents are paid from: what the house gives
// away of its part of the fees.
const Commissions ledger.AccountID = "expense.commission"

const (
	codeCommissions = "5030"
	commissionKind  = "commission" // of entries and items
	carried         = "carried"    // in place of a charge: accrued before agents were payees
)

// Payee is an agent's name as a payee of settlement.
func Payee(agent string) string { return "agent." + agent }

// shareRef names what one agent is given of one charge.
func shareRef(charge, agent string) string { return "share:" + charge + "/" + agent }

// maxCharge bounds the reference of a charge: with the longest name of an agent
// it is still one of settlement's.
const maxCharge = settlement.MaxRef - len("share:/") - maxAgent

// A Part is what one agent is given of a fee (below zero: what it gives back).
type Part struct {
	Agent  string // empty: the house keeps it
	Amount money.Amount
}

// Commission splits a net fee over the agents of a path and the house, which
// keeps the rest: to the fen, by largest remainder, the house last. A negative
// fee is split as its opposite is. Points below nothing or above 10,000 in sum
// are ErrRate.
func Commission(path []Share, net money.Amount) ([]Part, error) {
	weights := make([]int64, len(path)+1)
	left := int64(wholeFee)
	for i, s := range path {
		if s.Points < 0 || s.Points > left {
			return nil, fmt.Errorf("share of %s: %w", s.Agent, ErrRate)
		}
		weights[i], left = s.Points, left-s.Points
	}
	weights[len(path)] = left
	whole := net
	if net.Sign() < 0 {
		whole = net.Neg()
	}
	out := make([]Part, len(weights))
	for i, a := range whole.Apportion(weights) {
		if net.Sign() < 0 {
			a = a.Neg()
		}
		out[i].Amount = a
		if i < len(path) {
			out[i].Agent = path[i].Agent
		}
	}
	return out, nil
}

// A Charge is a change of the net fee of a shop's sales of one day: what the
// house keeps of a closing's fees, or gives up again (below zero).
type Charge struct {
	Ref  string        // unique for ever, at most 49 bytes: the closing and the day, the dispute
	Shop string        // whose fee it is
	Day  calendar.Date // of the sales: its rates count, however late something comes back
	Net  money.Amount
}

// Earn gives each agent of the shop its part of a charge: see EarnAll.
func Earn(tx *db.Tx, ref, shop string, day calendar.Date, by money.Amount) error {
	return EarnAll(tx, []Charge{{Ref: ref, Shop: shop, Day: day, Net: by}})
}

// EarnAll gives the agents of shops their parts of charges, in the month of the
// unit: whatever comes back in whatever parts and order, each has the commission
// of what is left of the day, and never gives back more than its rows of that
// shop and day sum up to. The same charge again changes nothing; another under
// its reference is ErrDiffers. A charge that has no agent leaves no trace.
func EarnAll(tx *db.Tx, charges []Charge) error {
	e := earning{tx: tx, lines: map[string][]Share{}, months: map[string]*Due{}}
	for _, c := range charges {
		if err := e.charge(c); err != nil {
			return fmt.Errorf("commission of %s: %w", c.Ref, err)
		}
	}
	return e.book()
}

// An earning collects what one unit has to book.
type earning struct {
	tx      *db.Tx
	lines   map[string][]Share // by agent and day
	months  map[string]*Due    // by agent
	entries []ledger.Entry
	items   []settlement.Item
}

func (e *earning) charge(c Charge) error {
	if c.Ref == "" || len(c.Ref) > maxCharge || c.Day.IsZero() {
		return ErrCharge
	}
	line, err := e.line(c)
	if err != nil || len(line) == 0 || c.Net.IsZero() {
		return err
	}
	if known, err := chargeOf(e.tx, c.Ref); err != nil || known.Ref != "" {
		if err == nil && (known.Shop != c.Shop || known.Day != c.Day || known.Net.Minor() != c.Net.Minor() && !known.Net.IsZero()) {
			err = ErrDiffers
		}
		return err
	}
	was, err := feeOf(e.tx, c.Shop, c.Day)
	if err != nil {
		return err
	}
	parts, err := e.parts(c, line, was)
	if err != nil {
		return err
	}
	if err := keepFee(e.tx, c.Shop, c.Day, was+c.Net.Minor()); err != nil {
		return err
	}
	rows := make([][]any, len(parts))
	for i, p := range parts {
		rows[i] = []any{c.Ref, p.Agent, calendar.MonthOf(e.tx.Now()).String(), c.Shop, c.Day.String(), c.Net.Minor(), p.Amount.Minor(), micros(e.tx.Now())}
		e.give(shareRef(c.Ref, p.Agent), p)
	}
	return accrualSheet.insert(e.tx, rows...)
}

// line reads who has parts of a charge, and sees to it that each has an account.
func (e *earning) line(c Charge) ([]Share, error) {
	agent, err := broughtBy(e.tx, c.Shop)
	if err != nil {
		return nil, err
	}
	key := agent + " " + c.Day.String()
	line, known := e.lines[key]
	if known || agent == "" {
		return line, nil
	}
	if line, err = PathOn(e.tx, agent, c.Day); err != nil {
		return nil, err
	}
	for _, s := range line {
		a, err := AgentOf(e.tx, s.Agent)
		if err == nil {
			err = openPayee(e.tx, a, settlement.BankAccount{})
		}
		if err != nil {
			return nil, err
		}
	}
	e.lines[key] = line
	return line, nil
}

// parts is what each agent is given: the commission of what the day's net fee is
// then, less the sum of its rows, so nobody comes to less than nothing. A fen may
// go the other way than the fee, from one agent to another: the largest remainders
// change.
func (e *earning) parts(c Charge, line []Share, was int64) ([]Part, error) {
	// Below zero: what is undone came before what it undoes.
	parts, err := Commission(line, money.Fen(max(0, was+c.Net.Minor())))
	if err != nil {
		return nil, err
	}
	has, err := accruedOf(e.tx, c.Shop, c.Day)
	if err != nil {
		return nil, err
	}
	parts = parts[:len(line)] // the house is last, and keeps the rest
	for i, p := range parts {
		parts[i].Amount = p.Amount.Sub(money.Fen(has[p.Agent]))
	}
	return parts, nil
}

// give notes one part for the books.
func (e *earning) give(ref string, p Part) {
	d := e.months[p.Agent]
	if d == nil {
		d = &Due{Amount: money.Fen(0)}
		e.months[p.Agent] = d
	}
	d.Count, d.Amount = d.Count+1, d.Amount.Add(p.Amount)
	if !p.Amount.IsZero() {
		e.entries = append(e.entries, commissionEntry(ref, p))
		e.items = append(e.items, settlement.Item{Ref: ref, Payee: Payee(p.Agent), Amount: p.Amount, Kind: commissionKind})
	}
}

func commissionEntry(ref string, p Part) ledger.Entry {
	x := ledger.Move(ref, Commissions, settlement.Payable(Payee(p.Agent)), p.Amount)
	x.Kind = commissionKind
	return x
}

// book writes what was noted. A cut before the unit's commit loses rows, entries
// and items together, and with them what made the charge; a unit that is tried
// again finds none of them.
func (e *earning) book() error {
	month := calendar.MonthOf(e.tx.Now()).String()
	for _, agent := range slices.Sorted(maps.Keys(e.months)) {
		d := e.months[agent]
		_, err := e.tx.Exec(`INSERT INTO merchant_month (month, agent, n, fen) VALUES ($1, $2, $3, $4)
			ON CONFLICT (month, agent) DO UPDATE SET n = merchant_month.n + excluded.n, fen = merchant_month.fen + excluded.fen`, month, agent, d.Count, d.Amount.Minor())
		if err != nil {
			return err
		}
	}
	for some := range slices.Chunk(e.entries, ledger.MaxGroup) {
		if _, err := ledger.PostAll(e.tx, some); err != nil {
			return err
		}
	}
	slices.SortStableFunc(e.items, func(a, b settlement.Item) int { return cmp.Compare(a.Payee, b.Payee) })
	return settlement.CaptureAll(e.tx, e.items)
}

// openPayee makes an agent a payee, once: from then on what it is given waits on
// its account and is paid once a month. What it had accrued before is its first
// item. Without a bank account it is paid nothing until it has one
// (settlement.SetAccount).
func openPayee(tx *db.Tx, a Agent, account settlement.BankAccount) error {
	if !a.Opened.IsZero() {
		return nil
	}
	name := Payee(a.ID)
	terms := settlement.Terms{Since: calendar.Of(tx.Now(), calendar.Beijing), CutOff: settlement.ShopCutOff, Least: money.Fen(0), Monthly: true}
	if err := settlement.OpenAll(tx, []settlement.Opening{{Payee: name, Name: a.Name, Terms: []settlement.Terms{terms}, Account: account}}); err != nil {
		return fmt.Errorf("agent %s as a payee: %w", a.ID, err)
	}
	if err := ledger.OpenAccount(tx, ledger.Account{ID: Commissions, Code: codeCommissions, Name: "commissions of agents", Currency: money.CNY}); err != nil {
		return err
	}
	if account.Masked == "" {
		_, err := settlement.PutHold(tx, settlement.Hold{ID: "hold_" + name, Payee: name, Reason: settlement.ForAccount, Amount: money.Fen(0), Text: "no bank account yet"})
		if err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`UPDATE merchant_agent SET opened = $2 WHERE id = $1`, a.ID, micros(tx.Now())); err != nil {
		return err
	}
	had, err := accruedBy(tx, a.ID)
	if err != nil || had == 0 {
		return err
	}
	ref, p := shareRef(carried, a.ID), Part{Agent: a.ID, Amount: money.Fen(had)}
	if _, err := ledger.Post(tx, commissionEntry(ref, p)); err != nil {
		return err
	}
	return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: name, Amount: p.Amount, Kind: commissionKind})
}

// OpenAgents makes agents of a store from before agents were payees payees, some
// of those behind one, by id; next is empty when it was the last.
func OpenAgents(tx *db.Tx, after string, limit int) (next string, err error) {
	list, err := agents(tx, `WHERE id > $1 ORDER BY id LIMIT $2`, after, limited(limit))
	for _, a := range list {
		if err == nil {
			err = openPayee(tx, a, settlement.BankAccount{})
		}
	}
	if err == nil && len(list) == limited(limit) {
		next = list[len(list)-1].ID
	}
	return next, err
}

// Brought reads which shops from first to last, by id, an agent has brought.
func Brought(q db.Reader, first, last string) (map[string]bool, error) {
	out := map[string]bool{}
	err := db.Each(q, func(scan func(...any) error) error {
		var shop string
		err := scan(&shop)
		out[shop] = true
		return err
	}, `SELECT s.id FROM merchant_shop s JOIN merchant_party m ON m.id = s.merchant WHERE s.id >= $1 AND s.id <= $2 AND m.agent <> '' ORDER BY s.id`, first, last)
	return out, err
}

// An Accrual is one line of an agent's month.
type Accrual struct {
	Ref    string // of the charge
	Shop   string
	Day    calendar.Date // of the sales
	Net    money.Amount  // the charge; zero: kept from before it was written down
	Amount money.Amount  // below zero: clawed back
	At     time.Time
}

// Statement reads the lines of an agent's month by reference, from the one
// after the given: what Due sums up.
func Statement(q db.Reader, agent string, month calendar.Month, after string, limit int) (out []Accrual, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		a, err := scanAccrual(scan)
		out = append(out, a)
		return err
	}, `SELECT `+accrualColumns+` FROM merchant_accrual WHERE agent = $1 AND month = $2 AND ref > $3 ORDER BY ref LIMIT $4`, agent, month.String(), after, limited(limit))
	return out, err
}

const accrualColumns = `ref, shop, day, net, fen, at`

func scanAccrual(scan func(...any) error) (a Accrual, err error) {
	var day string
	var net, fen, at int64
	if err = scan(&a.Ref, &a.Shop, &day, &net, &fen, &at); err == nil && day != "" {
		a.Day, err = calendar.Parse(day)
	}
	a.Net, a.Amount, a.At = money.Fen(net), money.Fen(fen), db.Moment(at)
	return a, err
}

// chargeOf reads one row of a charge; without reference: it never came.
func chargeOf(q db.Reader, ref string) (Accrual, error) {
	a, err := scanAccrual(q.QueryRow(`SELECT `+accrualColumns+` FROM merchant_accrual WHERE ref = $1 ORDER BY agent LIMIT 1`, ref).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return a, err
}

// accruedOf sums the rows of a shop's day by agent.
func accruedOf(q db.Reader, shop string, day calendar.Date) (map[string]int64, error) {
	out := map[string]int64{}
	err := db.Each(q, func(scan func(...any) error) error {
		var agent string
		var fen int64
		err := scan(&agent, &fen)
		out[agent] = fen
		return err
	}, `SELECT agent, CAST(SUM(fen) AS BIGINT) FROM merchant_accrual WHERE shop = $1 AND day = $2 GROUP BY agent ORDER BY agent`, shop, day.String())
	return out, err
}

// accruedBy sums all rows of an agent.
func accruedBy(q db.Reader, agent string) (fen int64, err error) {
	err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM merchant_accrual WHERE agent = $1`, agent).Scan(&fen)
	return fen, err
}

// feeOf reads the net fee of a shop's day so far.
func feeOf(q db.Reader, shop string, day calendar.Date) (fen int64, err error) {
	err = q.QueryRow(`SELECT fen FROM merchant_fee WHERE shop = $1 AND day = $2`, shop, day.String()).Scan(&fen)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return fen, err
}

func keepFee(tx *db.Tx, shop string, day calendar.Date, fen int64) error {
	_, err := tx.Exec(`INSERT INTO merchant_fee (shop, day, fen) VALUES ($1, $2, $3) ON CONFLICT (shop, day) DO UPDATE SET fen = excluded.fen`, shop, day.String(), fen)
	return err
}

// broughtBy reads which agent brought a shop's merchant.
func broughtBy(q db.Reader, shop string) (agent string, err error) {
	err = q.QueryRow(`SELECT m.agent FROM merchant_shop s JOIN merchant_party m ON m.id = s.merchant WHERE s.id = $1`, shop).Scan(&agent)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("shop %q: %w", shop, err)
	}
	return agent, nil
}

// Accrued tells whether agents have a part of a charge whose reference begins
// with this one and a colon.
func Accrued(q db.Reader, ref string) (bool, error) {
	return exists(q, `SELECT COUNT(*) FROM merchant_accrual WHERE ref > $1 AND ref < $2`, ref+":", ref+";")
}

// A Due is what an agent has earned in one month.
type Due struct {
	Agent  string
	Month  string // 2015-09
	Count  int64  // charges
	Amount money.Amount
}

// DuesOf reads what every agent has earned in a month, by agent.
func DuesOf(q db.Reader, month calendar.Month) (out []Due, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Due
		var fen int64
		err := scan(&d.Agent, &d.Month, &d.Count, &fen)
		d.Amount = money.Fen(fen)
		out = append(out, d)
		return err
	}, `SELECT agent, month, n, fen FROM merchant_month WHERE month = $1 ORDER BY agent`, month.String())
	return out, err
}
