package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/money"
)

// A Host is an issuer or network that we clear with, and the accounts that
// tell what it owes.
type Host struct {
	Name       string
	Receivable ledger.AccountID // what it owes for cleared sales (negative: it owes)
	Fees       ledger.AccountID // what the issuer keeps, as our fee card has it
	Network    ledger.AccountID // what the network keeps; empty: the same account as Fees
	Bank       ledger.AccountID // where it pays
	CutOff     time.Duration    // into the day, Beijing: later sales are in the next file; 0: midnight
	DueDays    int64            // calendar days after which the bank's line is overdue
	FourEyes   int64            // fen: above it a second person signs
}

// Span is what a settlement day of the host lasts from and until, Beijing: from
// its cut-off of the day before to its own; from midnight to midnight where it
// has none. It is the host's day and nobody else's: where a shop's own day ends
// is for its payouts, and a night shop's day is in two of the host's files.
func (h Host) Span(day calendar.Date) (from, to time.Time) {
	if h.CutOff == 0 {
		return day.Start(calendar.Beijing), day.AddDays(1).Start(calendar.Beijing)
	}
	return day.AddDays(-1).Start(calendar.Beijing).Add(h.CutOff), day.Start(calendar.Beijing).Add(h.CutOff)
}

// Straddle is how long before the end of a host's day a sale of ours may be one
// of its next day (house rule): the host's clock is another one, and advices wait
// for their turn. Such a sale is Late when the day's file does not have it.
const Straddle = 15 * time.Minute

// BankDesk is the host under which exceptions of the bank itself are kept.
const BankDesk = "bank"

// Loss is the account of what the house bears or keeps in the end.
const Loss ledger.AccountID = "reconcile.loss"

// Suspense is the account on which a host's differences wait.
func Suspense(host string) ledger.AccountID { return ledger.AccountID("suspense." + host) }

// Join makes a host known, or changes its cut-off and limits, and opens its
// suspense account. The other accounts are its owners'. BankDesk has to be
// joined before statements come.
func Join(tx *db.Tx, h Host) error {
	if h.Name == "" || len(h.Name) > MaxHost || h.Bank == "" || h.CutOff < 0 || h.CutOff >= 24*time.Hour || h.FourEyes < 0 || h.DueDays < 0 {
		return fmt.Errorf("host %q: %w", h.Name, ErrHost)
	}
	if h.Network == "" {
		h.Network = h.Fees
	}
	for _, a := range []ledger.Account{
		{ID: Suspense(h.Name), Code: "2050", Name: "differences with " + h.Name, Currency: money.CNY},
		{ID: Loss, Code: "5020", Name: "differences nobody claimed", Currency: money.CNY},
	} {
		if err := ledger.OpenAccount(tx, a); err != nil {
			return err
		}
	}
	return insertHost(tx, h)
}

// A Day is what is compared: one settlement day of a host.
type Day struct {
	Host  string
	Day   calendar.Date
	Ours  iter.Seq2[Item, error] // in any order; read while the file is
	File  io.Reader              // the clearing file, spec/clearing
	Name  string                 // of the file
	More  iter.Seq2[Item, error] // the host's lines that stand elsewhere: chargebacks; may be nil
	Class ClassOf                // may be nil
	Dir   string                 // for what does not fit into memory; empty: the system's

	// Notices is told what the file's lines say in disputes, in the unit that takes
	// the file: a file that comes twice, or again after a crash, tells it once, and
	// one that is refused tells nothing. An error refuses the file, so it keeps what
	// it is told and judges it later. It is not called when there is none.
	Notices func(tx *db.Tx, list []Notice) error
}

// A Report is what a day's comparison found and what the bank has paid of it.
type Report struct {
	Host                  string
	Day                   calendar.Date
	Hash                  string // SHA-256 of the file
	Ours, Theirs, Matched Sum
	Differs               int64     // exceptions it brought
	Banked                time.Time // when the bank's line was booked; zero: not yet
	Received              int64     // fen, on the statement
	Released              int64     // fen of the difference to it that the desk has closed
	Due                   time.Time
	At                    time.Time
}

// Net is what the host has to pay by its own file, in fen.
func (r Report) Net() int64 { return r.Theirs.Net() }

// Run compares a day and keeps what it found, once: the same file again changes
// nothing and returns the report of then, another one is ErrOther. What earlier
// days left open closes by itself when its other half is here.
func Run(ctx context.Context, store *db.Store, d Day) (Report, error) {
	r, err := run(ctx, store, d)
	if err != nil {
		return Report{}, fmt.Errorf("reconciling %s of %s: %w", d.Host, d.Day, err)
	}
	return r, nil
}

func run(ctx context.Context, store *db.Store, d Day) (Report, error) {
	hash := sha256.New()
	var had map[claimed]bool
	err := store.Read(ctx, func(q *db.Query) (err error) { had, err = claims(q, d.Host, d.Day.AddDays(-claimDays)); return err })
	if err != nil {
		return Report{}, err
	}
	var told []Notice
	ours, theirs, err := SortBoth(without(d.Ours, had), both(readClearing(io.TeeReader(d.File, hash), d.Day, d.Class, &told), d.More), d.Dir)
	if err != nil {
		return Report{}, err
	}
	defer ours.Close()
	defer theirs.Close()
	sum := hex.EncodeToString(hash.Sum(nil))
	for {
		var h Host
		var carried Carried
		var kept Report
		err := store.Read(ctx, func(q *db.Query) (err error) {
			if kept, err = ReportOf(q, d.Host, d.Day); err == nil || !errors.Is(err, ErrNoRun) {
				return err
			}
			if h, err = HostOf(q, d.Host); err == nil {
				carried, err = carry(q, d.Host)
			}
			return err
		})
		switch {
		case err == nil && kept.Hash == "":
		case err == nil && kept.Hash != sum:
			return Report{}, ErrOther
		case err != nil || kept.Hash != "":
			return kept, err
		}
		_, end := h.Span(d.Day)
		found, err := Match(ours.All(), theirs.All(), end.Add(-Straddle), carried)
		if err != nil {
			return Report{}, err
		}
		var r Report
		err = store.Write(ctx, func(tx *db.Tx) (err error) {
			r, err = keep(tx, h, d, sum, found, told)
			return err
		})
		if !errors.Is(err, errAgain) {
			return r, err
		}
	}
}

// claimDays is how far back a line may be that had a movement of a day's.
const claimDays = 31

// without leaves out what lines of earlier days have had.
func without(ours iter.Seq2[Item, error], had map[claimed]bool) iter.Seq2[Item, error] {
	if len(had) == 0 {
		return ours
	}
	return func(yield func(Item, error) bool) {
		for x, err := range ours {
			if err == nil && had[x.claim()] {
				continue
			}
			if !yield(x, err) {
				return
			}
		}
	}
}

// both reads one sequence and then the other, if there is one.
func both(a, b iter.Seq2[Item, error]) iter.Seq2[Item, error] {
	if b == nil {
		return a
	}
	return func(yield func(Item, error) bool) {
		for _, s := range []iter.Seq2[Item, error]{a, b} {
			for x, err := range s {
				if !yield(x, err) {
					return
				}
			}
		}
	}
}

// carry reads what may still find its other half.
func carry(q db.Reader, host string) (c Carried, err error) {
	open, err := exceptions(q, `host = $1 AND state <> $2 AND type IN ($3, $4, $5) ORDER BY id`,
		host, string(Closed), string(MissingAtNetwork), string(Late), string(MissingHere))
	for _, x := range open {
		if x.Ours != nil {
			c.Ours = append(c.Ours, Carry{x.ID, *x.Ours})
		} else if x.Theirs != nil {
			c.Theirs = append(c.Theirs, Carry{x.ID, *x.Theirs})
		}
	}
	return c, err
}

// keep writes a comparison down.
func keep(tx *db.Tx, h Host, d Day, hash string, found Result, told []Notice) (Report, error) {
	if kept, err := ReportOf(tx, h.Name, d.Day); !errors.Is(err, ErrNoRun) {
		if err == nil && kept.Hash != hash {
			err = ErrOther
		}
		return kept, err
	}
	if found.Theirs.Count > 0 { // the files of two days without sales are the same
		if _, err := takeFile(tx, hash, "clearing", h.Name+"/"+d.Day.String(), d.Name); err != nil {
			return Report{}, err
		}
	}
	r := Report{Host: h.Name, Day: d.Day, Hash: hash, Ours: found.Ours, Theirs: found.Theirs, Matched: found.Matched,
		Differs: int64(len(found.Differences)), At: tx.Now(), Due: d.Day.AddDays(int(h.DueDays) + 1).Start(calendar.Beijing).UTC()}
	if err := insertRun(tx, r); err != nil {
		return r, err
	}
	if err := found.costs.keep(tx, h.Name, d.Day); err != nil {
		return r, err
	}
	for _, id := range found.Resolved {
		if err := selfClose(tx, id, fmt.Sprintf(whyHalf, d.Day)); err != nil {
			return r, err
		}
	}
	if err := missed(tx, found.Missed, d.Day); err != nil {
		return r, err
	}
	err := outbox.Put(tx, outbox.Event{Name: "day.reconciled", Subject: h.Name + "/" + d.Day.String(), Data: map[string]int64{"differs": r.Differs, "theirs": r.Theirs.Count}})
	if err != nil {
		return r, err
	}
	if d.Notices != nil && len(told) > 0 {
		if err := d.Notices(tx, told); err != nil {
			return r, fmt.Errorf("what the file says in disputes: %w", err)
		}
	}
	for i, x := range found.Differences {
		if err := find(tx, h.Name, d.Day, x, i); err != nil {
			return r, err
		}
	}
	return r, settleWaiting(tx, h, r)
}

// missed makes what was late and did not come a case for the desk.
func missed(tx *db.Tx, ids []string, day calendar.Date) error {
	for _, id := range ids {
		x, err := ExceptionOf(tx, id)
		if err != nil {
			return err
		}
		if x.Type != Late || x.State == Closed || !x.Day.Before(day) {
			continue
		}
		x.Type, x.Next = MissingAtNetwork, MissingAtNetwork.Next()
		if err := updateException(tx, x.State, x); err != nil {
			return err
		}
		if err := audit(tx, id, System, x.State, x.State, fmt.Sprintf(whyNowhere, day)); err != nil {
			return err
		}
	}
	return nil
}

// find keeps a difference as an exception.
func find(tx *db.Tx, host string, day calendar.Date, d Difference, nth int) error {
	x := Exception{ID: tx.NewID("rexc"), Host: host, Day: day, Type: d.Type, Ours: d.Ours, Theirs: d.Theirs, Gross: d.Gross, Fee: d.Fee, Network: d.Network, Next: d.Type.Next()}
	key := ""
	if d.Ours != nil {
		x.Payee, key = d.Ours.Payee, d.Ours.Key()
	} else {
		key = d.Theirs.Key()
	}
	x.Ref = host + "/" + day.String() + "/" + string(d.Type) + "/" + key + "/" + strconv.Itoa(nth)
	if _, err := insertException(tx, x); err != nil {
		return err
	}
	x.State = Open
	if err := tell(tx, x); err != nil {
		return err
	}
	return audit(tx, x.ID, System, "", Open, whyCompared)
}

// A leg is fen that an account gets.
type leg struct {
	account ledger.AccountID
	fen     int64
}

// move books fen from one account to another, or back when they are negative.
func move(tx *db.Tx, ref, text string, from, to ledger.AccountID, fen int64) error {
	return post(tx, ref, text, leg{from, -fen}, leg{to, fen})
}

// post books legs; those of nothing are left out, and an entry of nothing is no
// entry.
func post(tx *db.Tx, ref, text string, legs ...leg) error {
	e := ledger.Entry{Ref: ref, Kind: "reconcile", Text: text}
	for _, l := range legs {
		if l.fen != 0 {
			e.Legs = append(e.Legs, ledger.Leg{Account: l.account, Amount: money.Fen(l.fen)})
		}
	}
	if len(e.Legs) == 0 {
		return nil
	}
	_, err := ledger.Post(tx, e)
	return err
}
