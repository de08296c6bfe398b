package dispute

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
)

// Said is what a notice of the network says.
type Said string

// What issuer and arbiter say, in the order of a case.
const (
	SaidRetrieval  Said = "retrieval"         // the issuer asks for the receipt
	SaidChargeback Said = "chargeback"        // the issuer takes the sale back
	SaidAgain      Said = "second_chargeback" // and once more, behind our representment
	SaidFiled      Said = "arbitration"       // the issuer brings the case before the arbiter
	SaidShop       Said = "award_shop"        // the arbiter: the money is the shop's
	SaidHolder     Said = "award_cardholder"  // the arbiter: the money is the cardholder's
	SaidWithdrawn  Said = "withdrawal"        // the issuer gives up
)

var saidWords = map[Said][2]string{
	SaidRetrieval: {"retrieval request", "调单"}, SaidChargeback: {"chargeback", "一次退单"}, SaidAgain: {"second chargeback", "二次退单"}, SaidFiled: {"arbitration filed by the issuer", "发卡行提交仲裁"},
	SaidShop: {"award for the shop", "裁定商户胜诉"}, SaidHolder: {"award for the cardholder", "裁定持卡人胜诉"}, SaidWithdrawn: {"withdrawal", "发卡行撤回"},
}

// Words says it for people, in Chinese if zh.
func (s Said) Words(zh bool) string { return pick(saidWords, s, zh) }

// saidTo is the state that each brings a case to. No state is entered twice in
// the life of a case, so case number and state tell whether a notice was taken.
var saidTo = map[Said]State{SaidRetrieval: Requested, SaidChargeback: Charged, SaidAgain: Again, SaidFiled: Arbitration, SaidShop: Won, SaidHolder: Lost, SaidWithdrawn: Withdrawn}

// To is the state that what was said brings a case to; empty if nobody says so.
func (s Said) To() State { return saidTo[s] }

// A Notice is one word of the network about a sale.
type Notice struct {
	Ref    string // the network's number of the case
	Said   Said
	RRN    string       // retrieval reference of the sale
	Amount money.Amount // disputed; the same in each notice of a case
	Reason string       // code; of a retrieval and a chargeback
	At     time.Time    // when it was said
	Why    string       // what the issuer or the arbiter writes
}

// ErrNotice is a notice that says nothing a case can follow.
var ErrNotice = fail.Define(fail.Invalid, "dispute.notice", "a notice has a number, a sale, an amount, a moment not ahead of now, and says one of the known steps")

// Heed opens the case of a notice or moves it, by the network's number. Its
// natural key is number and step: the same again returns the case as it stands,
// other content is ErrDiffers, and a step that needs one before it is ErrState,
// or ErrNone if nothing opened the case. find knows the sale; it is asked only
// by what opens a case.
func Heed(tx *db.Tx, n Notice, find func(db.Reader, string) (Sale, error)) (Case, error) {
	c, err := heed(tx, n, find)
	if err != nil {
		return c, fmt.Errorf("notice %s of %s: %w", n.Said, n.Ref, err)
	}
	return c, nil
}

func heed(tx *db.Tx, n Notice, find func(db.Reader, string) (Sale, error)) (Case, error) {
	to := n.Said.To()
	if to == "" || n.Ref == "" || n.RRN == "" || n.Why == "" || n.Amount.Sign() <= 0 || n.At.IsZero() || n.At.After(tx.Now()) {
		return Case{}, ErrNotice
	}
	c, err := ByRef(tx, n.Ref)
	switch {
	case errors.Is(err, ErrNone) && (to == Requested || to == Charged):
		sale, err := find(tx, n.RRN)
		if err != nil {
			return Case{}, err
		}
		return open(tx, Claim{Ref: n.Ref, Sale: sale, Amount: n.Amount, Reason: n.Reason, Money: to == Charged, At: n.At, Why: n.Why})
	case err != nil:
		return c, err
	case c.Sale.RRN != n.RRN || c.Amount != n.Amount:
		return c, ErrDiffers
	}
	steps, err := History(tx, c.ID)
	if err != nil {
		return c, err
	}
	if slices.ContainsFunc(steps, func(e Event) bool { return e.Is == to && e.Was != to }) {
		if to == Charged && c.Reason != n.Reason {
			err = ErrDiffers
		}
		return c, err
	}
	switch n.Said {
	case SaidChargeback:
		return chargeBack(tx, c.ID, n.Reason, n.Why, n.At)
	case SaidAgain:
		return chargeAgain(tx, c.ID, n.Why, n.At)
	case SaidFiled:
		return moveAt(tx, c.ID, Arbitration, string(Issuer), n.Why, n.At)
	case SaidShop, SaidHolder:
		return Decide(tx, c.ID, to == Won, n.Why)
	case SaidWithdrawn:
		return Withdraw(tx, c.ID, n.Why)
	}
	return c, ErrState // a request behind the chargeback
}

// A Waiting is a notice that somebody entered by hand and that a second person
// has not seen yet. It has moved nothing.
type Waiting struct {
	Notice
	Who string
}

// Mark names what was entered, all of it: who confirms says with it what he saw.
func (w Waiting) Mark() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%s|%d|%s|%d|%q|%q", w.Ref, w.Said, w.RRN, w.Amount.Minor(), w.Reason, w.At.UnixMicro(), w.Why, w.Who))
	return hex.EncodeToString(sum[:8])
}

// ErrSecond is somebody who confirms what he entered himself.
var ErrSecond = fail.Define(fail.Refused, "dispute.second", "another person has to confirm this")

// Enter keeps a notice that came by hand until a second person confirms it. It
// is bounded like one that came by wire; the same again changes nothing, and
// another content of the same number and step is ErrDiffers.
func Enter(tx *db.Tx, n Notice, who string) error {
	_, known := ReasonOf(n.Reason)
	if who == "" || n.Said.To() == "" || n.Ref == "" || len(n.Ref) > MaxRef || n.RRN == "" || n.Why == "" || len(n.Why) > MaxWhy || n.Amount.Sign() <= 0 || n.Amount.Currency() != money.CNY || n.At.IsZero() || n.At.After(tx.Now()) || !known {
		return fmt.Errorf("notice %s of %s: %w", n.Said, n.Ref, ErrNotice)
	}
	all, err := waiting(tx, `WHERE ref = $1 AND said = $2`, n.Ref, string(n.Said))
	switch {
	case err != nil:
		return err
	case len(all) > 0 && (all[0].RRN != n.RRN || all[0].Amount != n.Amount || all[0].Reason != n.Reason):
		return fmt.Errorf("notice %s of %s: %w", n.Said, n.Ref, ErrDiffers)
	case len(all) > 0:
		return nil
	}
	_, err = tx.Exec(`INSERT INTO dispute_waiting (ref, said, rrn, fen, reason, at, why, who) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		n.Ref, string(n.Said), n.RRN, n.Amount.Minor(), n.Reason, n.At.UnixMicro(), n.Why, who)
	return err
}

// Confirm is the second person's yes to an entered notice: it is heeded and
// waits no more, in one unit. mark is that of what he saw: what was dropped and
// entered otherwise since is ErrDiffers.
func Confirm(tx *db.Tx, ref string, said Said, mark, who string, find func(db.Reader, string) (Sale, error)) (Case, error) {
	all, err := waiting(tx, `WHERE ref = $1 AND said = $2`, ref, string(said))
	switch {
	case err != nil:
		return Case{}, err
	case len(all) == 0:
		return Case{}, fmt.Errorf("notice %s of %s: %w", said, ref, ErrNone)
	case who == "" || who == all[0].Who:
		return Case{}, fmt.Errorf("notice %s of %s: %w", said, ref, ErrSecond)
	case mark != all[0].Mark():
		return Case{}, fmt.Errorf("notice %s of %s: %w", said, ref, ErrDiffers)
	}
	c, err := Heed(tx, all[0].Notice, find)
	if err == nil {
		err = unwait(tx, ref, said)
	}
	if err == nil {
		err = confirmed(tx, ref, said, c.ID)
	}
	return c, err
}

// Drop gives up an entered notice; whoever entered it may, too. A record of a file
// that it was made of waits again.
func Drop(tx *db.Tx, ref string, said Said) error {
	if err := unwait(tx, ref, said); err != nil {
		return err
	}
	return confirmed(tx, ref, said, "")
}

func unwait(tx *db.Tx, ref string, said Said) error {
	_, err := tx.Exec(`DELETE FROM dispute_waiting WHERE ref = $1 AND said = $2`, ref, string(said))
	return err
}

// Unconfirmed lists what waits for a second person, by number.
func Unconfirmed(q db.Reader) ([]Waiting, error) { return waiting(q, ``) }

func waiting(q db.Reader, where string, args ...any) (out []Waiting, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var w Waiting
		var said string
		var fen, at int64
		err := scan(&w.Ref, &said, &w.RRN, &fen, &w.Reason, &at, &w.Why, &w.Who)
		w.Said, w.Amount, w.At = Said(said), money.Fen(fen), time.UnixMicro(at).UTC()
		out = append(out, w)
		return err
	}, `SELECT ref, said, rrn, fen, reason, at, why, who FROM dispute_waiting `+where+` ORDER BY ref, said LIMIT 500`, args...)
	return out, err
}
