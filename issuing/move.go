package issuing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing/rule"
	"koala/ledger"
	"koala/money"
	"koala/spec/purse"
	"koala/wallet"
)

// ClaimState is where the claim for a lost card's money stands.
type ClaimState string

// The states, and who acts next.
const (
	ClaimWaiting   ClaimState = "waiting"   // nobody before it is due; then its holder: Move or Refund. Found again: Restore
	ClaimPaid      ClaimState = "paid"      // nobody: the money went to the wallet, or with the holder's other card
	ClaimWithdrawn ClaimState = "withdrawn" // nobody: the card was found
)

// A Claim is the money of a lost card.
type Claim struct {
	Old   CardID
	Lost  time.Time // reported
	Due   time.Time // paid from then on: by then what was spent has been handed in
	New   CardID    // the card that took its place; empty: none
	Fen   money.Amount
	State ClaimState
	Rule  rule.Ruling // the waiting time, with its source
	Carry Carry       // what went along to the card that took its place, beside the money
}

// Suspend refuses all living cards of a band from now on, in one act, and opens
// a claim for the money on each. It returns them: what keeps lists for
// terminals puts them there in the same unit. Again it changes nothing.
func Suspend(tx *db.Tx, band string) ([]Card, error) {
	list, err := InBand(tx, band)
	for i := range list {
		if err == nil {
			list[i], err = SuspendCard(tx, list[i].ID)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("suspending band %s: %w", band, err)
	}
	return list, nil
}

// SuspendCard does the same for one card.
func SuspendCard(tx *db.Tx, id CardID) (Card, error) {
	c, err := Get(tx, id)
	if err != nil || !c.Suspended.IsZero() || c.State.Over() {
		return c, err
	}
	c.Suspended = tx.Now()
	if _, err := tx.Exec(`UPDATE issuing_card SET suspended = $2 WHERE id = $1`, id, tx.Now().UnixMicro()); err != nil {
		return c, err
	}
	if err := DenyCard(tx, id, purse.DenyLost); err != nil || !c.Kind.Money() {
		return c, err
	}
	wait, err := rule.On(tx, string(c.ID), c.Product, rule.Claim, tx.Now())
	if err != nil {
		return c, err
	}
	_, err = tx.Exec(`INSERT INTO issuing_claim (old, lost, due, new, fen, state) VALUES ($1, $2, $3, '', 0, $4)
		ON CONFLICT (old) DO UPDATE SET lost = excluded.lost, due = excluded.due, state = excluded.state WHERE issuing_claim.state <> $5`,
		id, tx.Now().UnixMicro(), tx.Now().AddDate(0, 0, int(wait.Value)).UnixMicro(), ClaimWaiting, ClaimPaid)
	return c, err
}

// Restore lets the cards of a band that was found be used again: all that are
// suspended and that no other card was opened for. It returns them.
func Restore(tx *db.Tx, band string) ([]Card, error) {
	list, err := InBand(tx, band)
	var out []Card
	for _, c := range list {
		if err != nil {
			break
		}
		was := c.Suspended
		if c, err = RestoreCard(tx, c.ID); !was.IsZero() && c.Suspended.IsZero() {
			out = append(out, c)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("restoring band %s: %w", band, err)
	}
	return out, nil
}

// RestoreCard does the same for one card; one that another took over stays as
// it is.
func RestoreCard(tx *db.Tx, id CardID) (Card, error) {
	c, err := Get(tx, id)
	if err != nil || c.Suspended.IsZero() {
		return c, err
	}
	heir, err := heirOf(tx, id)
	if err != nil || heir != "" {
		return c, err
	}
	if _, err := tx.Exec(`UPDATE issuing_card SET suspended = 0 WHERE id = $1`, id); err != nil {
		return c, err
	}
	if err := DenyCard(tx, id, purse.Allowed); err != nil {
		return c, err
	}
	c.Suspended = time.Time{}
	_, err = tx.Exec(`UPDATE issuing_claim SET state = $2 WHERE old = $1 AND state = $3`, id, ClaimWithdrawn, ClaimWaiting)
	return c, err
}

// ClaimOf reads the claim for a card, with the rule it waits by.
func ClaimOf(q db.Reader, old CardID) (c Claim, err error) {
	var lost, due, fen int64
	err = q.QueryRow(`SELECT old, lost, due, new, fen, state FROM issuing_claim WHERE old = $1`, old).Scan(&c.Old, &lost, &due, &c.New, &fen, &c.State)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoClaim
	}
	if err != nil {
		return Claim{}, fmt.Errorf("claim for card %s: %w", old.Masked(), err)
	}
	c.Lost, c.Due, c.Fen = db.Moment(lost), db.Moment(due), money.Fen(fen)
	card, err := Get(q, old)
	if err != nil {
		return Claim{}, err
	}
	if c.Rule, err = rule.On(q, string(card.ID), card.Product, rule.Claim, c.Lost); err != nil {
		return c, err
	}
	heir, err := heirOf(q, old)
	if err == nil && heir != "" {
		card, err = Get(q, heir)
		c.Carry = card.Carry
	}
	return c, err
}

// Move ends a lost card in favour of a living one of the same kind and holder:
// its money, as the card proved it last and as far as the books hold it, goes
// to the wallet with the deposit, from where the new card is loaded; the number
// is closed for ever. What goes along beside the money was given to the new
// card when it was opened (Application.Replaces and Carry). It returns the
// claim with the amount. Again it changes nothing.
func Move(tx *db.Tx, old, to CardID) (Claim, error) {
	c, err := Get(tx, to)
	if err == nil && (c.Replaces != old || c.State.Over()) {
		err = ErrNotHeir
	}
	if err != nil {
		return Claim{}, fmt.Errorf("moving card %s: %w", old.Masked(), err)
	}
	return payClaim(tx, old, to, Replaced)
}

// Replace ends a lost card without money in favour of a living one that was
// opened in its place, once that is written: the number is closed for ever. A
// card with money ends with its claim (Move). Again it changes nothing.
func Replace(tx *db.Tx, old, to CardID) error {
	heir, err := Get(tx, to)
	if err == nil && (heir.Replaces != old || heir.State != Active) {
		err = ErrNotHeir
	}
	var c Card
	if err == nil {
		c, err = Get(tx, old)
	}
	switch {
	case err != nil:
	case c.Kind.Money():
		err = ErrKind
	case c.State == Replaced:
	case !c.State.May(Replaced):
		err = ErrState
	default:
		err = errors.Join(returnDeposit(tx, c), setState(tx, old, c.State, Replaced, "lost"))
	}
	if err != nil {
		return fmt.Errorf("replacing card %s: %w", old.Masked(), err)
	}
	return nil
}

// Refund ends a lost card without another one: the money and the deposit go to
// the wallet.
func Refund(tx *db.Tx, old CardID) (Claim, error) { return payClaim(tx, old, "", Closed) }

func payClaim(tx *db.Tx, old, to CardID, end State) (Claim, error) {
	claim, err := ClaimOf(tx, old)
	switch {
	case err != nil:
	case claim.State == ClaimPaid && claim.New == to:
		return claim, nil
	case claim.State != ClaimWaiting:
		err = ErrState
	case tx.Now().Before(claim.Due):
		err = ErrNotDue
	}
	if err == nil {
		err = claim.pay(tx, to, end)
	}
	if err != nil {
		return Claim{}, fmt.Errorf("claim for card %s: %w", old.Masked(), err)
	}
	return claim, nil
}

// pay books a due claim. What the float holds above the proven balance belongs
// to payments that terminals have not handed in.
func (k *Claim) pay(tx *db.Tx, to CardID, end State) error {
	c, err := Get(tx, k.Old)
	if err != nil {
		return err
	}
	if c.State != Active && c.State != Blocked {
		return ErrState
	}
	if err := dropLoad(tx, c.ID); err != nil {
		return err
	}
	if err := dropDoubts(tx, c.ID); err != nil {
		return err
	}
	b, err := ledger.BalanceOf(tx, Float(c.ID))
	if err != nil {
		return err
	}
	k.Fen, k.New, k.State = c.Known.Balance, to, ClaimPaid
	if k.Fen.Cmp(b.Posted) > 0 {
		k.Fen = b.Posted
	}
	if k.Fen.Sign() > 0 {
		e := ledger.Move("claim:"+string(c.ID), Float(c.ID), wallet.Account(c.Customer), k.Fen)
		e.Kind, e.Text = KindMoved, fmt.Sprintf("balance of a lost card, proven at counter %d", max(c.Known.Online, c.Known.Offline))
		if _, err := ledger.Post(tx, e); err != nil {
			return err
		}
	}
	if err := returnDeposit(tx, c); err != nil {
		return err
	}
	n, err := tx.Exec(`UPDATE issuing_claim SET new = $2, fen = $3, state = $4 WHERE old = $1 AND state = $5`, k.Old, to, k.Fen.Minor(), k.State, ClaimWaiting)
	if err == nil && n == 0 {
		err = ErrState
	}
	if err != nil {
		return err
	}
	if end == Closed { // as a card that was given back, in the two steps of its table
		if err := setState(tx, c.ID, c.State, Closing, "lost"); err != nil {
			return err
		}
		c.State = Closing
	}
	return setState(tx, c.ID, c.State, end, "lost")
}

// dropLoad gives a lost card's open load up. One whose script is out is staff's
// to decide first.
func dropLoad(tx *db.Tx, id CardID) error {
	l, err := openLoad(tx, id)
	switch {
	case errors.Is(err, ErrNoLoad):
		return nil
	case err == nil && l.State == LoadBound:
		return ErrBusyLoad
	case err != nil:
		return err
	}
	return l.end(tx, LoadVoid, "card lost")
}

// dropDoubts ends what no card will tell any more. Where nothing was given the
// money is the holder's either way; of a sale that gave something staff decide
// first.
func dropDoubts(tx *db.Tx, id CardID) error {
	list, err := DoubtsOf(tx, id)
	for _, d := range list {
		switch {
		case err != nil || d.State != DoubtWaiting || askOf(d.Type) == askLoad:
		case d.given():
			err = ErrDoubt
		default:
			err = d.decided(tx, DoubtUnpaid, Evidence{By: "claim"})
		}
	}
	return err
}

// A Refusal says that terminals are to refuse a card from a version of the list
// on, or, with purse.Allowed, not any more.
type Refusal struct {
	Version uint32
	Card    CardID // Purse() is its number where it is a transit purse
	Kind    Kind
	Reason  purse.DenyReason
	At      time.Time
}

// DenyCard puts a card on the list of what terminals refuse, or takes it off
// (purse.Allowed). Suspend, Restore and the end of a card do it themselves.
func DenyCard(tx *db.Tx, id CardID, reason purse.DenyReason) error {
	var version int64
	if err := tx.QueryRow(`SELECT COALESCE(MAX(version), 0) + 1 FROM issuing_refusal`).Scan(&version); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO issuing_refusal (version, card, reason, at) VALUES ($1, $2, $3, $4)`, version, id, byte(reason), tx.Now().UnixMicro())
	return err
}

// Refusals reads what changed after a version, in the order of it. Of one card
// the last counts.
func Refusals(q db.Reader, after uint32, limit int) (out []Refusal, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var r Refusal
		var at int64
		err := scan(&r.Version, &r.Card, &r.Reason, &at, &r.Kind)
		r.At = db.Moment(at)
		out = append(out, r)
		return err
	}, `SELECT r.version, r.card, r.reason, r.at, c.kind FROM issuing_refusal r JOIN issuing_card c ON c.id = r.card
		WHERE r.version > $1 ORDER BY r.version LIMIT $2`, int64(after), min(max(limit, 1), purse.MaxDenyDelta))
	return out, err
}

// ExceptionList makes the signed delta of PANs that tills refuse, from version
// have on: text of purse.DenyDelta with 20-digit numbers, zeros in front of the
// PAN, then the Ed25519 signature, 64 bytes; nil when nothing changed. The
// numbers come out of the hsm for it and are not kept. From 0 it is the whole
// list.
func (b *Bank) ExceptionList(ctx context.Context, have uint32) ([]byte, error) {
	var list []Refusal
	secrets := map[CardID]secret{}
	err := b.store.Read(ctx, func(q *db.Query) (err error) {
		if list, err = Refusals(q, have, purse.MaxDenyDelta); err != nil {
			return err
		}
		for _, r := range list {
			if r.Kind.Bank() && err == nil {
				secrets[r.Card], err = secretOf(q, r.Card)
			}
		}
		return err
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	last := map[purse.Number]purse.DenyReason{} // a renewed card has its forerunner's number
	for _, r := range list {
		s, ok := secrets[r.Card]
		if !ok {
			continue
		}
		number, err := b.panOf(ctx, s)
		if err != nil {
			return nil, err
		}
		last[purse.Number(strings.Repeat("0", 20-len(number))+string(number))] = r.Reason
	}
	d := purse.DenyDelta{From: have, To: list[len(list)-1].Version, At: b.store.Now()}
	for n, reason := range last {
		if have > 0 || reason != purse.Allowed {
			d.Changes = append(d.Changes, purse.Denial{Card: n, Reason: reason})
		}
	}
	text, err := d.Bytes()
	if err != nil {
		return nil, fmt.Errorf("exception list after version %d: %w", have, err)
	}
	sig, err := b.keys.Sign(ctx, hsm.LabelPack, text)
	if err != nil {
		return nil, fmt.Errorf("exception list after version %d: %w", have, err)
	}
	return append(text, sig...), nil
}

// maxLineage bounds how many cards stand behind one another.
const maxLineage = 64

// Lineage lists the cards that stand behind a card: itself, the one it
// replaced, the one before that. What a month has counted goes over all of
// them.
func Lineage(q db.Reader, id CardID) ([]CardID, error) {
	out := []CardID{id}
	for len(out) < maxLineage {
		var before CardID
		err := q.QueryRow(`SELECT replaces FROM issuing_card WHERE id = $1`, out[len(out)-1]).Scan(&before)
		if errors.Is(err, db.ErrNoRows) || err == nil && before == "" {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cards before %s: %w", id.Masked(), err)
		}
		out = append(out, before)
	}
	return out, nil
}

// TakeBack books e, a move of fen from a holder's account. What was spent of it he owes (Owed).
func TakeBack(tx *db.Tx, e ledger.Entry, account, to ledger.AccountID, fen money.Amount) error {
	_, err := ledger.Post(tx, e)
	if !errors.Is(err, ledger.ErrInsufficient) {
		return err
	}
	credit, lent := creditOf(tx, account)
	if lent != nil {
		return lent
	}
	flaw, lent := spent{secret: secret{account: string(account)}, credit: credit, payee: to, fen: fen}.lend(tx, e)
	if flaw == NoFlaw {
		return lent
	}
	return err
}

// creditOf is how far below zero an account may go: that of a credit card.
func creditOf(tx *db.Tx, account ledger.AccountID) (int64, error) {
	id, is := strings.CutPrefix(string(account), string(CreditAccount("")))
	if !is {
		return 0, nil
	}
	c, err := Get(tx, CardID(id))
	if err != nil {
		return 0, err
	}
	d, _, err := bankDataOf(tx, c)
	return d.CreditLimit, err
}

// Recover takes what holders owe (Owed) from the money that has come to their
// accounts since.
func (b *Bank) Recover(ctx context.Context) error {
	var all []ledger.AccountID
	err := b.store.Read(ctx, func(q *db.Query) error {
		return db.Each(q, func(scan func(...any) error) error {
			var a ledger.AccountID
			err := scan(&a)
			all = append(all, a)
			return err
		}, `SELECT account FROM issuing_owed WHERE fen > 0 ORDER BY account`)
	})
	for _, a := range all {
		if err == nil {
			err = b.store.Write(ctx, func(tx *db.Tx) error { return recoverFrom(tx, a) })
		}
	}
	if err != nil {
		return fmt.Errorf("what cardholders owe: %w", err)
	}
	return nil
}

func recoverFrom(tx *db.Tx, account ledger.AccountID) error {
	var fen, credit, paid int64
	err := tx.QueryRow(`SELECT fen, credit, paid FROM issuing_owed WHERE account = $1`, string(account)).Scan(&fen, &credit, &paid)
	if errors.Is(err, db.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := creditOf(tx, account) // rows of before may not say
	if err != nil {
		return err
	}
	b, err := ledger.BalanceOf(tx, account)
	n := min(b.Available.Minor()+max(credit, own), fen)
	if err != nil || n <= 0 {
		return err
	}
	if _, err := post(tx, ledger.Move(fmt.Sprintf("owed:%s:%d", account, paid+1), account, Owed(account), money.Fen(n)), KindOwed); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE issuing_owed SET fen = fen - $2, paid = paid + 1 WHERE account = $1`, string(account), n)
	return err
}

// Has is what a payee still has of a card's payment at a counter, online or
// offline: nothing when a record took it back.
func Has(q db.Reader, id CardID, counter int, payee ledger.AccountID) (money.Amount, error) {
	var fen int64
	err := q.QueryRow(`SELECT CAST(COALESCE((SELECT fen FROM issuing_spent WHERE card = $1 AND atc = $2 AND payee = $3 AND place = $4), 0) +
		COALESCE((SELECT paid FROM issuing_auth WHERE card = $1 AND atc = $2 AND payee = $3 AND kind = $5 AND state = $6), 0) AS BIGINT)`,
		id, counter, string(payee), withPayee, askPay, authPaid).Scan(&fen)
	return money.Fen(fen), err
}
