package dispute

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
)

// A Trace is what somebody knows of a sale that is looked for.
type Trace struct {
	RRN      string // retrieval reference, 12 digits
	Terminal string
	Tail     string        // the card number's last four digits
	Day      calendar.Date // of the sale, Beijing; zero: not told
	Fen      int64         // what was sold; 0: not told
}

// Enough tells whether a sale can be looked for by it: a reference, or a day
// with the card's end or the terminal.
func (t Trace) Enough() bool {
	return t.RRN != "" || !t.Day.IsZero() && (len(t.Tail) == 4 || t.Terminal != "")
}

// A Lead is a sale that fits a trace.
type Lead struct {
	Sale     Sale
	Terminal string
	Masked   string // card number
	Fen      int64  // what was sold, before refunds
}

// A Finder knows sales. It gives each that all of the trace fits, none that a
// part of it does not, and ErrBroad when there are more than it can look through.
type Finder func(q db.Reader, t Trace) ([]Lead, error)

// ErrBroad is a trace that too many sales fit.
var ErrBroad = fail.Define(fail.Refused, "dispute.broad", "too many sales to look through: name the reference, the terminal or the day")

// ErrSale is a trace that no sale fits, or several.
var ErrSale = fail.Define(fail.NotFound, "dispute.no_sale", "no sale fits this, or more than one: it has to be found by a person")

// ErrNumber is a record without number of a sale that has no case.
var ErrNumber = fail.Define(fail.Refused, "dispute.no_number", "the file names no case number, and the sale has no case that this would be a step of")

// One is the only sale with a reference, as Heed wants it.
func (f Finder) One(q db.Reader, rrn string) (Sale, error) { return f.only(q, Trace{RRN: rrn}) }

func (f Finder) only(q db.Reader, t Trace) (Sale, error) {
	if !t.Enough() {
		return Sale{}, ErrSale
	}
	list, err := f(q, t)
	switch {
	case err != nil:
		return Sale{}, err
	case len(list) != 1:
		return Sale{}, fmt.Errorf("%d sales fit: %w", len(list), ErrSale)
	}
	return list[0].Sale, nil
}

// A Record is what a line of a host's clearing file says against a sale.
type Record struct {
	Host   string // whose file
	Ref    string // the network's number of the case; empty: the line has none
	Said   Said   // retrieval, chargeback or second chargeback
	Undone bool   // the issuer takes that back
	Sale   Trace
	Amount money.Amount // disputed
	Reason string       // code; may be empty where the case has one
	At     time.Time    // when it was said
}

// said is what a case hears: an issuer that takes back what it said gives up.
func (r Record) said() Said {
	if r.Undone {
		return SaidWithdrawn
	}
	return r.Said
}

// key names a record by all it says: the same line in another file is the same.
func (r Record) key() string {
	all := fmt.Sprintf("%q", []string{r.Host, r.Ref, string(r.Said), fmt.Sprint(r.Undone), r.Sale.RRN, r.Sale.Terminal, r.Sale.Tail, r.Sale.Day.String(),
		fmt.Sprint(r.Sale.Fen), r.Amount.String(), r.Reason, fmt.Sprint(r.At.UnixMicro())})
	sum := sha256.Sum256([]byte(all))
	return hex.EncodeToString(sum[:16])
}

// A RecordState is what became of a record.
type RecordState string

// The states.
const (
	RecordWaits   RecordState = "waits"   // for the case to come so far, or for a person
	RecordHeeded  RecordState = "heeded"  // the case has it
	RecordEntered RecordState = "entered" // a person has completed it; another one confirms
	RecordDropped RecordState = "dropped" // a person has set it aside
)

var recordWords = map[RecordState][2]string{RecordWaits: {"waits", "待处理"}, RecordHeeded: {"taken", "已入案"}, RecordEntered: {"to be confirmed", "待复核"}, RecordDropped: {"set aside", "已搁置"}}

// Words says the state for people, in Chinese if zh.
func (s RecordState) Words(zh bool) string { return pick(recordWords, s, zh) }

// A Kept is a record with what became of it.
type Kept struct {
	Record
	Key   string
	State RecordState
	Code  string // of the failure that it waits for; empty: it was not tried yet
	Case  string // id; empty: of none
	Who   string // completed it or set it aside
	Note  string // why
	Since time.Time
}

// KeepRecord keeps what a file says, once, in the caller's unit, which may be
// the one that takes the file: it refuses nothing that a line can say. HeedKept
// heeds it.
func KeepRecord(tx *db.Tx, r Record) error {
	_, err := keepRecord(tx, r)
	return err
}

// HeedRecord heeds what a file says in the caller's unit, once: by what it says,
// and by number and step as Heed does. It is an error, and the unit is to be
// given up, if no one sale fits or the case refuses the step: TakeRecords has
// those wait for a person.
func HeedRecord(tx *db.Tx, r Record, find Finder) (Case, error) {
	k, err := keepRecord(tx, r)
	switch {
	case err != nil:
		return Case{}, err
	case k.State == RecordHeeded:
		return Get(tx, k.Case)
	case k.State != RecordWaits:
		return Case{}, nil // a person has it
	}
	n, err := noticeOf(tx, k.Record, find)
	if err != nil {
		return Case{}, fmt.Errorf("record %s: %w", k.Key, err)
	}
	n.At = earlier(n.At, tx.Now()) // the host's clock is another one
	c, err := Heed(tx, n, find.One)
	if err != nil {
		return c, fmt.Errorf("record %s: %w", k.Key, err)
	}
	return c, setRecord(tx, k.Key, RecordHeeded, c.ID, "", "")
}

// noticeOf makes a notice of a record: its sale found, its number told by the case
// if the line has none. It reads only.
func noticeOf(q db.Reader, r Record, find Finder) (Notice, error) {
	n := Notice{Ref: r.Ref, Said: r.said(), RRN: r.Sale.RRN, Amount: r.Amount, Reason: r.Reason, At: r.At, Why: fmt.Sprintf(whyFile, r.Host)}
	if r.Amount.Currency() != money.CNY {
		return n, ErrNotice
	}
	sale, err := find.only(q, r.Sale)
	if err != nil {
		return n, err
	}
	n.RRN = sale.RRN
	c, err := caseOf(q, r, n.RRN)
	switch {
	case errors.Is(err, ErrNone) && r.Ref != "" && !r.Undone:
		return n, nil
	case err != nil:
		return n, err
	}
	n.Ref, n.Reason = c.Ref, cmp.Or(n.Reason, c.Reason)
	if r.Undone {
		return n, undoes(q, c, r.Said.To())
	}
	return n, nil
}

// caseOf is the case that a record is a step of: by its number, else the one
// case of the sale over the amount that has the step or may yet take it.
func caseOf(q db.Reader, r Record, rrn string) (Case, error) {
	if r.Ref != "" {
		return ByRef(q, r.Ref)
	}
	all, err := OfSale(q, rrn)
	if err != nil {
		return Case{}, err
	}
	var fit []Case
	for _, c := range all {
		steps, err := History(q, c.ID)
		if err != nil {
			return Case{}, err
		}
		if c.Amount == r.Amount && (c.State.May(r.said().To()) || slices.ContainsFunc(steps, func(e Event) bool { return e.Is == r.said().To() && e.Was != e.Is })) {
			fit = append(fit, c)
		}
	}
	if len(fit) != 1 {
		return Case{}, ErrNumber
	}
	return fit[0], nil
}

// undoes refuses to take back what the issuer has not said, or not said last.
func undoes(q db.Reader, c Case, step State) error {
	steps, err := History(q, c.ID)
	if err != nil || c.State == Withdrawn {
		return err
	}
	last := State("")
	for _, e := range steps {
		if e.Was != e.Is && slices.Contains([]State{Requested, Charged, Again, Arbitration}, e.Is) {
			last = e.Is
		}
	}
	if last != step {
		return fmt.Errorf("the issuer's last word was %s: %w", last, ErrState)
	}
	return nil
}

// TakeRecords keeps what a file says in one unit and heeds each in one of its
// own. What cannot be heeded waits, with the reason; it is no error. A cut
// anywhere is safe: what was kept is heeded by HeedKept, and the same file again
// keeps nothing twice.
func TakeRecords(ctx context.Context, store *db.Store, list []Record, find Finder) error {
	err := store.Write(ctx, func(tx *db.Tx) error {
		for _, r := range list {
			if err := KeepRecord(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return err
	}
	_, err = HeedKept(ctx, store, find)
	return err
}

// retryAfter is when a record that waits is looked at again although its case
// has not moved: its sale may have been cleared meanwhile.
const retryAfter = 24 * time.Hour

// HeedKept heeds the records that wait and were not tried since their case moved
// last, each in a unit of its own, oldest first; a record may let the next one of
// its case go on, so it goes round until none does. It says how many were heeded.
func HeedKept(ctx context.Context, store *db.Store, find Finder) (n int, err error) {
	for more := true; more; {
		more = false
		for after := (Kept{}); ; {
			var list []Kept
			err := store.Read(ctx, func(q *db.Query) (err error) {
				list, err = untried(q, store.Now().Add(-retryAfter), after)
				return err
			})
			if err != nil {
				return n, err
			}
			for _, after = range list {
				done, err := heedKept(ctx, store, after, find)
				if err != nil {
					return n, err
				}
				if done {
					n, more = n+1, true
				}
			}
			if len(list) < tickPage {
				break
			}
		}
	}
	return n, nil
}

// heedKept tries one. The reason of a refusal is kept in another unit: a cut
// between the two leaves a record that is tried again.
func heedKept(ctx context.Context, store *db.Store, k Kept, find Finder) (bool, error) {
	err := store.Write(ctx, func(tx *db.Tx) error { _, err := HeedRecord(tx, k.Record, find); return err })
	if err == nil {
		return true, nil
	}
	f := fail.Of(err)
	if !slices.Contains([]fail.Kind{fail.Invalid, fail.NotFound, fail.Conflict, fail.Refused}, f.Kind) { // it is not about the record
		return false, err
	}
	return false, store.Write(ctx, func(tx *db.Tx) error { return triedRecord(tx, k.Key, f.Code) })
}

// Complete is a person's word on a record that waits: the number, the sale and
// the reason. It becomes a notice that another person confirms (Confirm), and is
// what it was if that is dropped.
func Complete(tx *db.Tx, key, ref, rrn, reason, who, why string) error {
	k, err := RecordOf(tx, key)
	if err == nil && k.State != RecordWaits {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	n := Notice{Ref: cmp.Or(ref, k.Ref), Said: k.said(), RRN: cmp.Or(rrn, k.Sale.RRN), Amount: k.Amount, Reason: cmp.Or(reason, k.Reason), At: earlier(k.At, tx.Now()), Why: why}
	if err := Enter(tx, n, who); err != nil {
		return err
	}
	return setRecord(tx, key, RecordEntered, entered(n.Ref, n.Said), who, why)
}

// entered names the notice that a record became.
func entered(ref string, said Said) string { return ref + "/" + string(said) }

// SetAside ends a record that no case follows; it stays in the list with who and
// why.
func SetAside(tx *db.Tx, key, who, why string) error {
	k, err := RecordOf(tx, key)
	switch {
	case err != nil:
	case who == "" || why == "" || len(why) > MaxWhy:
		err = ErrWhy
	case k.State != RecordWaits:
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	return setRecord(tx, key, RecordDropped, "", who, why)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

const recordColumns = `key, host, ref, said, undone, rrn, terminal, tail, day, sale_fen, fen, currency, reason, at, state, code, dispute, who, note, kept`

// keepRecord writes a record unless it is there, and gives it as it stands.
func keepRecord(tx *db.Tx, r Record) (Kept, error) {
	key, day := r.key(), ""
	if !r.Sale.Day.IsZero() {
		day = r.Sale.Day.String()
	}
	_, err := tx.Exec(`INSERT INTO dispute_record (`+recordColumns+`, tried) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, '', '', '', '', $16, 0)
		ON CONFLICT (key) DO NOTHING`, key, r.Host, r.Ref, string(r.Said), r.Undone, r.Sale.RRN, r.Sale.Terminal, r.Sale.Tail, day, r.Sale.Fen, r.Amount.Minor(),
		string(r.Amount.Currency()), r.Reason, r.At.UnixMicro(), string(RecordWaits), tx.Now().UnixMicro())
	if err != nil {
		return Kept{}, fmt.Errorf("keeping what the file of %s says: %w", r.Host, err)
	}
	return RecordOf(tx, key)
}

func setRecord(tx *db.Tx, key string, s RecordState, id, who, note string) error {
	_, err := tx.Exec(`UPDATE dispute_record SET state = $2, dispute = $3, who = $4, note = $5, code = '', tried = $6 WHERE key = $1`, key, string(s), id, who, note, tx.Now().UnixMicro())
	return err
}

func triedRecord(tx *db.Tx, key, code string) error {
	_, err := tx.Exec(`UPDATE dispute_record SET code = $2, tried = $3 WHERE key = $1 AND state = 'waits'`, key, code, tx.Now().UnixMicro())
	return err
}

// confirmed says what became of records that were completed as a notice: they
// are heeded in a case, or, without one, wait again.
func confirmed(tx *db.Tx, ref string, said Said, id string) error {
	state := RecordHeeded
	if id == "" {
		state = RecordWaits
	}
	_, err := tx.Exec(`UPDATE dispute_record SET state = $2, dispute = $3 WHERE state = 'entered' AND dispute = $1`, entered(ref, said), string(state), id)
	return err
}

func records(q db.Reader, where string, args ...any) (out []Kept, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var k Kept
		var day, currency string
		var fen, at, since int64
		err := scan(&k.Key, &k.Host, &k.Ref, &k.Said, &k.Undone, &k.Sale.RRN, &k.Sale.Terminal, &k.Sale.Tail, &day, &k.Sale.Fen, &fen, &currency, &k.Reason, &at,
			&k.State, &k.Code, &k.Case, &k.Who, &k.Note, &since)
		if err == nil && day != "" {
			k.Sale.Day, err = calendar.Parse(day)
		}
		k.Amount, k.At, k.Since = money.Of(fen, money.Currency(currency)), time.UnixMicro(at).UTC(), db.Moment(since)
		if k.State == RecordEntered {
			k.Case = "" // the notice's name stands there
		}
		out = append(out, k)
		return err
	}, `SELECT `+recordColumns+` FROM dispute_record `+where, args...)
	return out, err
}

// untried lists records that wait and were not tried since their case moved,
// behind one.
func untried(q db.Reader, since time.Time, after Kept) ([]Kept, error) {
	return records(q, `WHERE state = 'waits' AND (kept > $1 OR kept = $1 AND key > $2) AND (tried <= $3 OR EXISTS (
		SELECT 1 FROM dispute_case c WHERE c.at >= dispute_record.tried AND (c.ref = dispute_record.ref OR c.rrn = dispute_record.rrn AND c.rrn <> '')))
		ORDER BY kept, key LIMIT $4`, micros(after.Since), after.Key, max(since.UnixMicro(), 0), tickPage)
}

// RecordOf reads one record.
func RecordOf(q db.Reader, key string) (Kept, error) {
	list, err := records(q, `WHERE key = $1`, key)
	if err == nil && len(list) == 0 {
		err = ErrNone
	}
	if err != nil {
		return Kept{}, fmt.Errorf("record %s: %w", key, err)
	}
	return list[0], nil
}

// Records lists records in a state, newest first, behind one (empty: from the
// newest).
func Records(q db.Reader, s RecordState, after string, limit int) ([]Kept, error) {
	from := Kept{Key: "~", Since: time.UnixMicro(1 << 60)}
	if after != "" {
		var err error
		if from, err = RecordOf(q, after); err != nil {
			return nil, err
		}
	}
	return records(q, `WHERE state = $1 AND (kept < $2 OR kept = $2 AND key < $3) ORDER BY kept DESC, key DESC LIMIT $4`, string(s), from.Since.UnixMicro(), from.Key, page(limit))
}

// Tail is the last four digits of a card number, masked or not.
func Tail(number string) string {
	number = strings.TrimSpace(number)
	return number[max(len(number)-4, 0):]
}
