package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
)

// ExceptionState is where an exception stands.
type ExceptionState string

// The states, and who acts next.
const (
	Open     ExceptionState = "open"     // the desk: propose; Late: nobody
	Proposed ExceptionState = "proposed" // another of the desk: sign or reject
	Rejected ExceptionState = "rejected" // the desk: propose again, or close with a reason
	Signed   ExceptionState = "signed"   // whom the type names: answer; the desk: close
	Booked   ExceptionState = "booked"   // as Signed; the amount is on suspense
	Closed   ExceptionState = "closed"   // nobody
)

// nextStates is the table of what may follow. Closed is reached from everywhere:
// the other half may turn up at any time.
var nextStates = map[ExceptionState][]ExceptionState{
	Open:     {Proposed, Closed},
	Proposed: {Signed, Rejected, Closed},
	Rejected: {Proposed, Closed},
	Signed:   {Booked, Closed},
	Booked:   {Closed},
	Closed:   {},
}

// May tells whether an exception in state s may go to state to.
func (s ExceptionState) May(to ExceptionState) bool { return slices.Contains(nextStates[s], to) }

var stateWords = map[ExceptionState][2]string{
	Open: {"open", "待处理"}, Proposed: {"proposed, to be signed", "已提议，待复核"}, Rejected: {"rejected", "已驳回"},
	Signed: {"signed", "已复核"}, Booked: {"on suspense", "已挂账"}, Closed: {"closed", "已关闭"},
}

// Words says the state for people, in Chinese if zh.
func (s ExceptionState) Words(zh bool) string { return pick(stateWords, s, zh) }

// An Exception is one thing that does not agree. Amounts are fen.
type Exception struct {
	ID       string // rexc_…
	Ref      string // what it is about
	Host     string
	Day      calendar.Date
	Type     Type
	Ours     *Item
	Theirs   *Item
	Gross    int64 // theirs less ours
	Fee      int64 // of the issuer
	Network  int64 // of the network
	Held     int64 // on the suspense account for it: above zero, owed to somebody
	Payee    string
	State    ExceptionState
	Next     Actor
	Proposer string
	Signer   string
	At       time.Time
	Changed  time.Time
}

// Weight is what the limit of four eyes looks at, in fen: of e-cash, which holds
// nothing here, what the record is of, and never nothing.
func (x Exception) Weight() int64 {
	if x.Type.ECash() && x.Ours != nil {
		return max(abs(x.Ours.Fen), 1)
	}
	return max(abs(x.net()), abs(x.Held))
}

// net is what the difference comes to when the fees are kept.
func (x Exception) net() int64 { return x.Gross - x.Fee - x.Network }

func abs(n int64) int64 { return max(n, -n) }

// differs tells whether receivable or fee accounts are off by it until it is
// booked or its other half turns up.
func (x Exception) differs() bool { return x.Gross != 0 || x.Fee != 0 || x.Network != 0 }

// An Act is one row of the audit.
type Act struct {
	At          time.Time
	Who         string
	Was, Became ExceptionState
	Why         string
}

// System is who acts when nobody does.
const System = "system"

// What the system writes into the audit; a day may stand in the place of %s.
const (
	whyCompared = "found by comparison"
	whyOnPaper  = "found on the statement"
	whySigned   = "booked as signed"
	whyHalf     = "its other half is in the comparison of %s"
	whyNowhere  = "late, and not in the file of %s either"
	whyLine     = "another line of the day came"
	whyMadeUp   = "later lines of the day made up for it"
	whyLineIn   = "the bank's line is in"
	whyPaid     = "the bank carried it out"
	whyGone     = "it has an end at the e-cash desk"
	whyTold     = "the line itself moved the case"
)

var systemWords = []struct{ en, zh string }{
	{whyCompared, "对账时发现"}, {whyOnPaper, "银行对账单上发现"}, {whySigned, "按复核意见入账"}, {whyHalf, "另一方已出现在 %s 的对账中"},
	{whyNowhere, "跨日，%s 的文件中也没有"}, {whyLine, "当日又有银行流水到账"}, {whyMadeUp, "当日后续银行流水已补足"}, {whyLineIn, "银行流水已到"}, {whyPaid, "银行已付出"}, {whyGone, "电子现金台已了结"}, {whyTold, "该笔差错已随文件入案"},
}

// Reason is why, for people: what the system wrote in Chinese if zh, what
// somebody wrote as it was written.
func (a Act) Reason(zh bool) string {
	if a.Who != System || !zh {
		return a.Why
	}
	for _, w := range systemWords {
		before, behind, with := strings.Cut(w.en, "%s")
		switch rest, fits := strings.CutPrefix(a.Why, before); {
		case !with && a.Why == w.en:
			return w.zh
		case with && fits && strings.HasSuffix(rest, behind):
			return fmt.Sprintf(w.zh, strings.TrimSuffix(rest, behind))
		}
	}
	return a.Why
}

func checkWho(who, why string) error {
	if who == "" || who == System || why == "" || len(why) > MaxWhy {
		return ErrWhy
	}
	return nil
}

// step moves an exception and writes the audit row.
func step(tx *db.Tx, x Exception, to ExceptionState, who, why string) (Exception, error) {
	was := x.State
	if !was.May(to) {
		return x, fmt.Errorf("exception %s from %s to %s: %w", x.ID, was, to, ErrState)
	}
	x.State = to
	if to == Closed {
		x.Next = Nobody
	}
	if err := updateException(tx, was, x); err != nil {
		return x, fmt.Errorf("exception %s: %w", x.ID, err)
	}
	if err := audit(tx, x.ID, who, was, to, why); err != nil {
		return x, err
	}
	return x, tell(tx, x)
}

// tell lets pages know that an exception is new or has moved.
func tell(tx *db.Tx, x Exception) error {
	return outbox.Put(tx, outbox.Event{Name: "exception." + string(x.State), Subject: x.ID, Data: map[string]string{"host": x.Host, "type": string(x.Type)}})
}

// Propose takes the type's proposal up; what is late has none. payee names the shop it is about, when
// the exception does not.
func Propose(tx *db.Tx, id, who, why, payee string) (Exception, error) {
	x, err := ExceptionOf(tx, id)
	if err == nil {
		err = checkWho(who, why)
	}
	if err == nil && x.Type == Late {
		err = fmt.Errorf("exception %s waits for the next file: %w", id, ErrState)
	}
	if err != nil {
		return x, err
	}
	if payee != "" && x.Payee == "" {
		x.Payee = payee
	}
	x.Proposer, x.Signer, x.Next = who, "", Desk
	return step(tx, x, Proposed, who, why)
}

// Reject sends a proposal back.
func Reject(tx *db.Tx, id, who, why string) (Exception, error) {
	x, err := ExceptionOf(tx, id)
	if err == nil {
		err = checkWho(who, why)
	}
	if err != nil {
		return x, err
	}
	return step(tx, x, Rejected, who, why)
}

// Sign accepts a proposal and books what it books. Above the host's limit it
// has to be somebody else than the proposer.
func Sign(tx *db.Tx, id, who, why string) (Exception, error) {
	x, err := ExceptionOf(tx, id)
	if err == nil {
		err = checkWho(who, why)
	}
	if err != nil {
		return x, err
	}
	h, err := HostOf(tx, x.Host)
	if err != nil {
		return x, err
	}
	if x.State == Proposed && who == x.Proposer && x.Weight() > h.FourEyes {
		return x, fmt.Errorf("exception %s: %w", id, ErrFourEyes)
	}
	m := meaningOf[x.Type]
	x.Signer, x.Next = who, m.Afterward
	if x, err = step(tx, x, Signed, who, why); err != nil || !m.Books {
		return x, err
	}
	if x.Type == PayoutReturned {
		err = x.oweAgain(tx, h)
	} else {
		x.Held, err = x.suspend(tx, h)
	}
	if err != nil {
		return x, fmt.Errorf("booking exception %s: %w", id, err)
	}
	return step(tx, x, Booked, System, whySigned)
}

// Outcome is where the money that an exception holds on suspense goes.
type Outcome string

// The outcomes.
const (
	Nothing Outcome = "nothing" // nothing is held
	ToShop  Outcome = "shop"    // the shop's: paid with its next settlement, or taken from it
	ToLoss  Outcome = "loss"    // the house bears or keeps it
)

var outcomeWords = map[Outcome][2]string{
	Nothing: {"nothing is held", "无挂账"}, ToShop: {"to the shop", "给商户"}, ToLoss: {"to the house's loss", "计入损益"},
}

// Outcomes lists the outcomes in the order of pages.
var Outcomes = []Outcome{Nothing, ToShop, ToLoss}

// Words says the outcome for people, in Chinese if zh.
func (o Outcome) Words(zh bool) string { return pick(outcomeWords, o, zh) }

// Close ends an exception with a reason. What is on suspense for it is booked
// where outcome says; above the limit not by the one who proposed. What the bank
// received or paid for it is an exception of its own: see Offset.
func Close(tx *db.Tx, id string, outcome Outcome, who, why string) (Exception, error) {
	x, err := ExceptionOf(tx, id)
	if err == nil {
		err = checkWho(who, why)
	}
	if err != nil {
		return x, err
	}
	h, err := HostOf(tx, x.Host)
	if err != nil {
		return x, err
	}
	unsigned := x.State == Open || x.State == Rejected
	switch {
	case x.State != Booked && (x.differs() || unsigned && x.Held != 0 || !unsigned && (x.State != Signed || meaningOf[x.Type].Books)):
		// A difference in the books is signed and booked before it may be closed,
		// and what is on suspense is signed for.
		return x, fmt.Errorf("closing exception %s in state %s: %w", id, x.State, ErrState)
	case (x.Held == 0) != (outcome == Nothing):
		return x, fmt.Errorf("exception %s: %w", id, ErrOutcome)
	case x.Held != 0 && who == x.Proposer && x.Weight() > h.FourEyes:
		return x, fmt.Errorf("exception %s: %w", id, ErrFourEyes)
	}
	if err := x.release(tx, h, outcome); err != nil {
		return x, fmt.Errorf("closing exception %s: %w", id, err)
	}
	if err := x.let(tx); err != nil {
		return x, err
	}
	x.Held = 0
	return step(tx, x, Closed, who, why)
}

// let tells the run of a statement's difference that it is dealt with: later
// lines of the day are weighed without it.
func (x Exception) let(tx *db.Tx) error {
	if x.Host == BankDesk || x.Type != StatementShort && x.Type != UnknownCredit {
		return nil
	}
	_, err := tx.Exec(`UPDATE reconcile_run SET released = released + $3 WHERE host = $1 AND day = $2`, x.Host, x.Day.String(), x.Held)
	return err
}

// Offset closes two exceptions whose amounts on suspense cancel out: a claim
// and the unknown credit that paid it.
func Offset(tx *db.Tx, id, other, who, why string) error {
	if err := checkWho(who, why); err != nil {
		return err
	}
	x, err := ExceptionOf(tx, id)
	if err != nil {
		return err
	}
	y, err := ExceptionOf(tx, other)
	if err != nil {
		return err
	}
	if x.Held == 0 || x.Held+y.Held != 0 || id == other {
		return fmt.Errorf("exceptions %s and %s: %w", id, other, ErrOutcome)
	}
	h, err := HostOf(tx, x.Host)
	if err == nil && x.Weight() > h.FourEyes && (who == x.Proposer || who == y.Proposer) {
		err = ErrFourEyes
	}
	if err == nil && x.Host != y.Host {
		err = move(tx, "reconcile:"+id+":offset", why, Suspense(x.Host), Suspense(y.Host), x.Held)
	}
	for _, e := range []*Exception{&x, &y} {
		if err == nil {
			err = e.let(tx)
		}
		if err == nil {
			e.Held = 0
			_, err = step(tx, *e, Closed, who, why)
		}
	}
	if err != nil {
		return fmt.Errorf("exceptions %s and %s: %w", id, other, err)
	}
	return nil
}

// selfClose ends an exception whose other half turned up, and takes back what
// was booked for it.
func selfClose(tx *db.Tx, id, why string) error {
	x, err := ExceptionOf(tx, id)
	if err != nil {
		return err
	}
	if x.State == Closed {
		return errAgain
	}
	if x.State == Booked && x.differs() {
		if _, err := ledger.Reverse(tx, "reconcile:"+id+":undo", "reconcile:"+id, money.Amount{}); err != nil {
			return fmt.Errorf("exception %s: %w", id, err)
		}
		x.Held = 0
	}
	_, err = step(tx, x, Closed, System, why)
	return err
}

// errAgain makes a run read its carried exceptions again.
var errAgain = errors.New("reconcile: what earlier days left has changed")

// suspend books what a difference leaves on receivable and fee account to the
// host's suspense account, and says how much that is.
func (x Exception) suspend(tx *db.Tx, h Host) (held int64, err error) {
	held = x.net()
	return held, post(tx, "reconcile:"+x.ID, string(x.Type), leg{h.Receivable, -x.Gross}, leg{h.Fees, x.Fee}, leg{h.Network, x.Network}, leg{Suspense(h.Name), held})
}

// oweAgain gives a payout that came back to the shop: as settlement does with
// one of its own, else as an item of its own.
func (x *Exception) oweAgain(tx *db.Tx, h Host) error {
	id := strings.TrimPrefix(x.Ref, returned(""))
	p, err := settlement.PayoutOf(tx, id)
	if errors.Is(err, settlement.ErrNoPayout) {
		err = x.capture(tx, "reconcile:"+x.ID, Suspense(x.Host))
		x.Held = 0
		return err
	}
	if err != nil {
		return err
	}
	// Settlement's own entry takes it from the bank: there it has to be. What
	// the shop's bank kept of it stays on suspense.
	if err := move(tx, "reconcile:"+x.ID, string(x.Type), Suspense(x.Host), h.Bank, p.Amount.Minor()); err != nil {
		return err
	}
	x.Held -= p.Amount.Minor()
	return settlement.Return(tx, id, "returned by the shop's bank")
}

// capture moves what is held to the shop's earnings, as an item of settlement.
func (x Exception) capture(tx *db.Tx, ref string, from ledger.AccountID) error {
	if x.Payee == "" {
		return ErrOutcome
	}
	if err := move(tx, ref, string(x.Type), from, settlement.Payable(x.Payee), x.Held); err != nil {
		return err
	}
	return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: x.Payee, Amount: money.Fen(x.Held), At: x.At, Kind: "correction"})
}

// release empties the suspense of an exception.
func (x Exception) release(tx *db.Tx, h Host, outcome Outcome) error {
	ref := "reconcile:" + x.ID + ":close"
	switch outcome {
	case Nothing:
		return nil
	case ToLoss:
		return move(tx, ref, string(x.Type), Suspense(h.Name), Loss, x.Held)
	case ToShop:
		return x.capture(tx, ref, Suspense(h.Name))
	}
	return ErrOutcome
}
