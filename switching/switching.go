// Package switching is the acquirer's switch: it answers the terminals of shops
// (docs/terminal-protocol.md), has the house's own bank or another issuer's
// host decide, keeps what was decided under terminal, batch and trace, takes
// back what a terminal takes back, and makes what a settled batch holds the
// shop's.
//
// Start with New and Host.Handle, which takes one message and gives its answer;
// Host.Tick does what has fallen due. What a kind of transaction is stands in
// one table (Kinds); what a message does is one unit of work.
package switching

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/issuing/points"
	"koala/money"
	"koala/settlement/fee"
	"koala/switching/referral"
	"koala/switching/tally"
)

// What can go wrong for those who ask the switch from inside the house.
// Terminals are answered with codes.
var (
	ErrNotFound = fail.Define(fail.NotFound, "switching.not_found", "there is no such transaction, batch or terminal")
	ErrState    = fail.Define(fail.Conflict, "switching.state", "this cannot be done in its state")
	ErrDown     = fail.Define(fail.Busy, "switching.peer_down", "the issuer's host cannot be reached; nothing was sent")
)

// A State is where a transaction is.
type State string

// The states, and who acts next.
const (
	Sent      State = "sent"      // the issuer's host: answer. Nobody did before a restart: the host takes it back
	Approved  State = "approved"  // the terminal: settle, void or reverse it
	Declined  State = "declined"  // nobody
	Unknown   State = "unknown"   // the host: it takes it back at the issuer until that answers; nothing was booked
	Reversed  State = "reversed"  // nobody: the terminal took it back, or said so before it came
	Voided    State = "voided"    // nobody: a later transaction undid it
	Cleared   State = "cleared"   // the shop: refund. The money has moved
	Completed State = "completed" // nobody: a pre-authorisation that was used
	Expired   State = "expired"   // nobody: a pre-authorisation nobody completed
	Noted     State = "noted"     // nobody: it asked for nothing to be booked
)

// nextState is the table of what may follow what.
var nextState = map[State][]State{
	Sent:      {Approved, Cleared, Declined, Unknown, Noted},
	Approved:  {Reversed, Voided, Cleared, Completed, Expired},
	Cleared:   {Reversed, Voided},
	Voided:    {Approved}, // its void was reversed
	Completed: {Approved}, // its completion was reversed
	Noted:     {Reversed},
	Unknown:   {}, Declined: {}, Reversed: {}, Expired: {},
}

// May tells whether a transaction in state s may go to state to.
func (s State) May(to State) bool {
	for _, t := range nextState[s] {
		if t == to {
			return true
		}
	}
	return false
}

var stateWords = map[State][2]string{Sent: {"waiting for the issuer", "等待发卡方"}, Approved: {"approved", "已批准"}, Declined: {"declined", "已拒绝"},
	Unknown: {"no answer, taken back", "无应答，冲正中"}, Reversed: {"reversed", "已冲正"}, Voided: {"voided", "已撤销"}, Cleared: {"booked", "已入账"},
	Completed: {"completed", "已完成"}, Expired: {"expired", "已过期"}, Noted: {"noted", "已记录"}}

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string { return pick(stateWords[s], string(s), zh) }

func pick(w [2]string, own string, zh bool) string {
	switch {
	case w[0] == "":
		return own
	case zh:
		return w[1]
	}
	return w[0]
}

// A Txn is one transaction of a terminal.
type Txn struct {
	TID         string
	Batch, STAN int
	RRN         string // field 37, 12 characters
	Kind        string // of Kinds
	State       State
	MID, Shop   string
	Host        string         // route that decided; empty: our own bank
	Card        issuing.CardID // of our own bank
	Counter     int            // of the card, or of its request without a chip
	Token       string         // keyed hash of the card number
	Masked      string         // first six and last four digits
	Class       string         // fee class: debit, credit, prepaid, ecash
	Foreign     bool           // a card of another country
	Amount      money.Amount   // asked for
	Due         money.Amount   // after completion, adjustment or tip
	Refunded    money.Amount   // given back so far
	Disputed    money.Amount   // its holder has by disputes
	Entry       string         // field 22
	Auth        string         // field 38
	Code        string         // field 39
	Why         string         // for people who look; empty when approved
	Original    string         // reference number of what it refers to
	Plan        string         // instalments: parts 2 | product 30 | fee mode 1
	StandIn     bool           // approved by the switch in the place of an issuer that did not answer
	At, Changed time.Time

	hash    string    // of the request
	reply   []byte    // field 55 of an issuer's host
	extra   string    // field 54 or 62 of the answer
	cut     time.Time // from when on it is the shop's without a settlement; of a pre-authorisation: over
	counted int64     // fen, in the tally of its shop
}

// Left is what can still be given back of a transaction.
func (t Txn) Left() money.Amount { return t.Due.Sub(t.Refunded).Sub(t.Disputed) }

// A Place is what stands behind a terminal number.
type Place struct {
	TID, MID, Shop string
	Name           string           // of the shop, for statements and receipts
	Category       string           // merchant category code
	Open           bool             // terminal, shop and merchant may trade
	Limits         map[string]Limit // by fee class; a class that is not there has none
	Barred         Barred
	Floor          int64         // fen: largest offline sale; 0: no limit
	Tips           int           // per cent, 0 none
	CutOff         time.Duration // of the shop's day, after the midnight that begins it; 0: CutOff
}

// A Limit bounds what a shop takes on cards of one class, fen; 0: no bound.
type Limit struct {
	Single  int64 // one sale
	Daily   int64 // a Beijing day
	Monthly int64 // a calendar month
}

// Barred is what the house's trust in a merchant does not reach to.
type Barred struct {
	Keyed   bool // card numbers entered by hand
	Offline bool // sales without asking the issuer
	PreAuth bool // amounts held for later
	Credit  bool // credit cards at this terminal
}

// An Estate knows terminals: the merchants' side of the house.
type Estate interface {
	// Place finds a terminal; ErrNotFound when there is none.
	Place(q db.Reader, tid string) (Place, error)
	// SignedOn is told of every sign-on, in its unit, with the version of the
	// terminal's software as its header has it: 31.311312.
	SignedOn(tx *db.Tx, tid, version string) error
}

// A Side is how a kind counts in a settlement's totals.
type Side int

// The sides.
const (
	Uncounted Side = 0
	Debits    Side = 1
	Credits   Side = -1
)

// An act is what the state machine does for a kind.
type act int

const (
	actAsk      act = iota // asks the issuer, holds nothing
	actPay                 // asks the issuer, holds the money
	actVoid                // undoes an original of the same batch
	actComplete            // books a pre-authorisation
	actRefund
	actAdjust // changes an amount that is not booked yet
	actTap    // books what a card paid offline
	actLoad
	actUnload // undoes a cash load whose script never came
	actTapBack
)

// A Kind is one line of the table of transactions.
type Kind struct {
	Name    string
	EN, ZH  string
	MTI     string // of the request
	Process string // field 3
	Old     string // field 3 of terminals by the field table of 2002; empty: the same
	Point   string // field 25
	Type    string // field 60.1
	Side    Side
	Of      []string // kinds of its original; empty: it has none
	act     act
	card    bool // the card or its number has to come
	advice  bool // it is told afterwards: the issuer is informed, not asked
}

var (
	sold     = []string{"sale", "instalment", "points", "phone", "phone18"}
	kindList = []Kind{
		{Name: "balance", EN: "balance inquiry", ZH: "余额查询", MTI: "0200", Process: "310000", Point: "00", Type: "01", act: actAsk, card: true},
		{Name: "sale", EN: "sale", ZH: "消费", MTI: "0200", Process: "000000", Point: "00", Type: "22", Side: Debits, act: actPay, card: true},
		{Name: "void", EN: "void", ZH: "消费撤销", MTI: "0200", Process: "200000", Point: "00", Type: "23", Side: Credits, Of: []string{"sale"}, act: actVoid},
		{Name: "refund", EN: "refund", ZH: "退货", MTI: "0220", Process: "200000", Old: "000000", Point: "00", Type: "25", Side: Credits,
			Of: append([]string{"completion", "advice", "offline", "reservation"}, sold...), act: actRefund, card: true, advice: true},
		{Name: "preauth", EN: "pre-authorisation", ZH: "预授权", MTI: "0100", Process: "030000", Point: "06", Type: "10", act: actPay, card: true},
		{Name: "preauth.cancel", EN: "pre-authorisation cancel", ZH: "预授权撤销", MTI: "0100", Process: "200000", Point: "06", Type: "11", Of: []string{"preauth"}, act: actVoid},
		{Name: "completion", EN: "completion", ZH: "预授权完成", MTI: "0200", Process: "000000", Point: "06", Type: "20", Side: Debits, Of: []string{"preauth"}, act: actComplete},
		{Name: "advice", EN: "completion advice", ZH: "预授权完成通知", MTI: "0220", Process: "000000", Point: "06", Type: "24", Side: Debits, Of: []string{"preauth"},
			act: actComplete, advice: true},
		{Name: "completion.cancel", EN: "completion cancel", ZH: "预授权完成撤销", MTI: "0200", Process: "200000", Point: "06", Type: "21", Side: Credits,
			Of: []string{"completion", "advice"}, act: actVoid},
		{Name: "offline", EN: "offline sale", ZH: "离线结算", MTI: "0220", Process: "000000", Point: "00", Type: "30", Side: Debits, act: actPay, card: true, advice: true},
		{Name: "adjust", EN: "adjustment", ZH: "结算调整", MTI: "0220", Process: "000000", Point: "00", Type: "32", Of: []string{"offline"}, act: actAdjust, advice: true},
		{Name: "tip", EN: "tip", ZH: "小费调整", MTI: "0220", Process: "000000", Point: "00", Type: "34", Of: []string{"sale", "offline"}, act: actAdjust, advice: true},
		{Name: "instalment", EN: "sale in instalments", ZH: "分期付款", MTI: "0200", Process: "000000", Point: "64", Type: "22", Side: Debits, act: actPay, card: true},
		{Name: "instalment.void", EN: "void of instalments", ZH: "分期付款撤销", MTI: "0200", Process: "200000", Point: "64", Type: "23", Side: Credits, Of: []string{"instalment"}, act: actVoid},
		{Name: "points", EN: "sale for points", ZH: "积分消费", MTI: "0200", Process: "000000", Point: "65", Type: "22", Side: Debits, act: actPay, card: true},
		{Name: "points.void", EN: "void of points", ZH: "积分消费撤销", MTI: "0200", Process: "200000", Point: "65", Type: "23", Side: Credits, Of: []string{"points"}, act: actVoid},
		{Name: "phone", EN: "order by phone", ZH: "电话订购", MTI: "0200", Process: "000000", Point: "08", Type: "22", Side: Debits, act: actPay, card: true},
		{Name: "phone.void", EN: "void of a phone order", ZH: "电话订购撤销", MTI: "0200", Process: "200000", Point: "08", Type: "23", Side: Credits, Of: []string{"phone", "phone18"}, act: actVoid},
		{Name: "phone18", EN: "order by phone", ZH: "电话订购", MTI: "0200", Process: "000000", Point: "18", Type: "22", Side: Debits, act: actPay, card: true},
		{Name: "phone18.void", EN: "void of a phone order", ZH: "电话订购撤销", MTI: "0200", Process: "200000", Point: "18", Type: "23", Side: Credits, Of: []string{"phone", "phone18"}, act: actVoid},
		{Name: "reservation", EN: "reservation", ZH: "预约消费", MTI: "0200", Process: "000000", Point: "67", Type: "54", Side: Debits, act: actPay, card: true},
		{Name: "reservation.void", EN: "reservation cancel", ZH: "预约消费撤销", MTI: "0200", Process: "200000", Point: "67", Type: "53", Side: Credits,
			Of: []string{"reservation"}, act: actVoid},
		{Name: "tap", EN: "offline Quickpass payment", ZH: "电子现金脱机消费", MTI: "0200", Process: "000000", Point: "00", Type: "36", Side: Debits, act: actTap, card: true},
		{Name: "load", EN: "load, linked account", ZH: "指定账户圈存", MTI: "0200", Process: "600000", Point: "91", Type: "45", act: actLoad, card: true},
		{Name: "load.other", EN: "load, other account", ZH: "非指定账户圈存", MTI: "0200", Process: "620000", Point: "91", Type: "47", act: actLoad, card: true},
		{Name: "load.cash", EN: "load with cash", ZH: "现金充值", MTI: "0200", Process: "630000", Point: "91", Type: "46", Side: Credits, act: actLoad, card: true},
		{Name: "unload", EN: "undo of a cash load", ZH: "现金充值撤销", MTI: "0200", Process: "170000", Point: "91", Type: "51", Side: Debits, Of: []string{"load.cash"}, act: actUnload},
		{Name: "tap.refund", EN: "e-cash refund", ZH: "电子现金脱机退货", MTI: "0220", Process: "200000", Point: "00", Type: "27", Side: Credits, Of: []string{"tap"}, act: actTapBack,
			card: true, advice: true},
	}
)

// Kinds lists the kinds of transactions there are.
func Kinds() []Kind { return kindList }

// KindNamed finds a kind, nil when there is none.
func KindNamed(name string) *Kind { return kindNames[name] }

// Words says the kind for people, in Chinese if zh.
func (k Kind) Words(zh bool) string { return pick([2]string{k.EN, k.ZH}, k.Name, zh) }

// kindKey is what a message says its kind by: fields 3, 25 and 60.1.
type kindKey [10]byte

var (
	kindKeys  = map[kindKey][]*Kind{}
	kindNames = map[string]*Kind{}
)

func init() { // a table that contradicts itself must not start
	for i := range kindList {
		k := &kindList[i]
		kindNames[k.Name] = k
		for _, process := range []string{k.Process, k.Old} {
			if process == "" {
				continue
			}
			key := kindKey([]byte(process + k.Point + k.Type))
			if slices.ContainsFunc(kindKeys[key], func(other *Kind) bool { return other.MTI == k.MTI }) {
				panic("switching: two kinds are coded alike: " + k.Name)
			}
			kindKeys[key] = append(kindKeys[key], k)
		}
	}
}

// kindOf finds the kind that a request or, for a reversal, its original is of.
func kindOf(mti, process, point, typ []byte) *Kind {
	var key kindKey
	if len(process)+len(point)+len(typ) != len(key) {
		return nil
	}
	n := copy(key[:], process)
	n += copy(key[n:], point)
	copy(key[n:], typ)
	for _, k := range kindKeys[key] {
		if mti == nil || k.MTI == string(mti) {
			return k
		}
	}
	return nil
}

func (k *Kind) refersTo(name string) bool { return slices.Contains(k.Of, name) }

type tallyKey struct{}

// meet has the tally read what a shop has taken this month, once.
func meet(tx *db.Tx, y *tally.Tally, shop string) error {
	if y.Met(shop) {
		return nil
	}
	day := calendar.Of(tx.Now(), calendar.Beijing)
	var past []tally.Change
	for before := "~"; ; {
		list, err := Live(tx, Filter{Shop: shop, Before: before, Limit: maxPage})
		if err != nil {
			return err
		}
		for i := range list {
			past = append(past, list[i].change(list[i].counted))
			before = list[i].RRN
		}
		if n := len(list); n < maxPage || calendar.Of(list[n-1].At, calendar.Beijing).Before(day.AddDays(1-day.Day)) {
			break
		}
	}
	y.Meet(shop, day, past)
	return nil
}

// FeeClass is what the transaction's fee goes by: its card, and in how many
// parts the issuer spreads it.
func (t *Txn) FeeClass() fee.Class {
	class := fee.Class(t.Class)
	if t.Kind == "instalment" && len(t.Plan) == planLen {
		return class.In(number([]byte(t.Plan[:2])))
	}
	return class
}

// taken is what a transaction counts for in its shop's limits: payments that
// stand or may come to.
func (t *Txn) taken() int64 {
	if t.State != Sent && t.State != Approved && t.State != Cleared {
		return 0
	}
	if k := kindNames[t.Kind]; k == nil || k.Side != Debits || k.act != actPay && k.act != actComplete {
		return 0
	}
	return t.Due.Minor()
}

func (t *Txn) change(fen int64) tally.Change {
	return tally.Change{Shop: t.Shop, Class: t.Class, Fen: fen, Day: calendar.Of(t.At, calendar.Beijing)}
}

// count has the tally follow the row.
func (t *Txn) count(tx *db.Tx) error {
	y, _ := tx.Provided(tallyKey{}).(*tally.Tally)
	by := t.taken() - t.counted
	if y == nil || by == 0 {
		return nil
	}
	if err := meet(tx, y, t.Shop); err != nil {
		return err
	}
	t.counted += by
	x := t.change(by)
	if by < 0 {
		tx.After(func() { y.TakeBack(x) })
		return nil
	}
	y.Count(x)
	return nil
}

// room says whether the limits of the shop leave room for a payment, in the
// unit that counts it.
func (w *work) room(tx *db.Tx) error {
	l := w.s.place.Limits[w.route.Class]
	if l.Single > 0 && w.fen > l.Single {
		return refuse("61", "above the shop's limit for one sale")
	}
	if l.Daily == 0 && l.Monthly == 0 {
		return nil
	}
	if err := meet(tx, w.h.tally, w.s.place.Shop); err != nil {
		return err
	}
	daily, monthly := w.h.tally.Taken(w.s.place.Shop, w.route.Class, calendar.Of(tx.Now(), calendar.Beijing))
	switch {
	case l.Daily > 0 && daily+w.fen > l.Daily:
		return refuse("61", "above the shop's limit for a day")
	case l.Monthly > 0 && monthly+w.fen > l.Monthly:
		return refuse("61", "above the shop's limit for a month")
	}
	return nil
}

// A Filter chooses transactions for a page. Zero values choose all.
type Filter struct {
	Shop, TID, Host string
	State           State
	Before          string // reference number: older ones
	Limit           int
}

// Live lists transactions, newest first.
func Live(q db.Reader, f Filter) (out []Txn, err error) {
	limit := min(max(f.Limit, 1), maxPage)
	where := `rrn < $1 AND (host = $2 OR $2 = '') AND (state = $3 OR $3 = '') AND (shop = $4 OR $4 = '')`
	args := []any{cmp.Or(f.Before, "~"), f.Host, f.State, f.Shop, limit}
	tids := []string{f.TID}
	switch {
	case f.TID != "":
	case f.Shop == "":
		return txns(q, where+` ORDER BY rrn DESC LIMIT $5`, args...)
	default:
		tids, err = stoodIn(q, f.Shop)
	}
	for _, tid := range tids {
		var list []Txn
		if err == nil {
			list, err = newest(q, tid, limit, where, args)
		}
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b Txn) int { return strings.Compare(b.RRN, a.RRN) })
	return out[:min(len(out), limit)], err
}

// stoodIn lists the terminals that have sold in a shop.
func stoodIn(q db.Reader, shop string) (out []string, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var tid string
		err := scan(&tid)
		out = append(out, tid)
		return err
	}, `SELECT tid FROM switching_place WHERE shop = $1 ORDER BY tid`, shop)
	return out, err
}

// newest reads a terminal's transactions batch by batch: what a batch has is
// older than what the next has, but for batch 0, of reversals that came before
// what they reverse.
func newest(q db.Reader, tid string, limit int, where string, args []any) (out []Txn, err error) {
	for batch := 1 << 30; ; {
		err := q.QueryRow(`SELECT batch FROM switching_txn WHERE tid = $1 AND batch < $2 AND rrn < $3 ORDER BY batch DESC LIMIT 1`, tid, batch, args[0]).Scan(&batch)
		if errors.Is(err, db.ErrNoRows) {
			return out, nil
		}
		var list []Txn
		if err == nil {
			list, err = txns(q, `tid = $6 AND batch = $7 AND `+where+` ORDER BY rrn DESC LIMIT $5`, append(args[:5:5], tid, batch)...)
		}
		if err != nil {
			return nil, err
		}
		if out = append(out, list...); len(out) >= limit {
			batch = min(batch, 1)
		}
	}
}

// Desk is the house's desk for shops that call.
func (h *Host) Desk() *referral.Desk { return referral.New(h.bank, h.keys) }

// prepare has the bank look at a request. One for points holds no money.
func (h *Host) prepare(ctx context.Context, w *work, o issuing.Online) (issuing.Prepared, error) {
	p, err := h.bank.Prepare(ctx, o)
	if w.kind.Name == "points" {
		p = p.Inquiry()
	}
	return p, err
}

// decide has the bank decide, and takes the points of a sale for them.
func (h *Host) decide(tx *db.Tx, w *work, t *Txn, p issuing.Prepared) (issuing.Decided, error) {
	d, err := h.bank.Decide(tx, p)
	if err == nil && w.kind.Name == "points" && d.Why == issuing.Approval && !d.Replayed {
		err = domain(points.Spend(tx, t.RRN, string(d.Card), w.fen))
	}
	return d, err
}

// clearFailed clears the record of a tap for nothing, unless its holder has the money by a dispute.
func (w *work) clearFailed(tx *db.Tx, k issuing.Checked) (fate issuing.Fate, err error) {
	n := 0
	err = tx.QueryRow(`SELECT COUNT(*) FROM switching_txn WHERE kind = 'tap' AND token = $1 AND counter = $2 AND disputed > 0`, w.token, w.chip.atc).Scan(&n)
	if err == nil && n == 0 {
		fate, _, err = issuing.ClearTC(tx, k)
	}
	return fate, err
}
