package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
)

// Schema is what this package keeps. Files, lines, runs and audit rows are
// never changed into something else: they are why nothing is taken twice.
var Schema = db.Schema{Owner: "reconcile", Steps: []string{
	`CREATE TABLE reconcile_host (
		name TEXT PRIMARY KEY,
		receivable TEXT NOT NULL,
		fees TEXT NOT NULL,
		network TEXT NOT NULL,
		bank TEXT NOT NULL,
		cut_off BIGINT NOT NULL,     -- microseconds into the day, Beijing; 0 none
		due_days BIGINT NOT NULL,    -- calendar days until the bank's line is overdue
		four_eyes BIGINT NOT NULL);  -- fen
	CREATE TABLE reconcile_file (
		hash TEXT PRIMARY KEY,       -- SHA-256
		kind TEXT NOT NULL,          -- clearing, statement
		of TEXT NOT NULL,            -- host/day, or the bank account
		name TEXT NOT NULL,
		at BIGINT NOT NULL);
	CREATE TABLE reconcile_run (
		host TEXT NOT NULL,
		day TEXT NOT NULL,
		hash TEXT NOT NULL,
		ours_n BIGINT NOT NULL, ours_fen BIGINT NOT NULL, ours_fee BIGINT NOT NULL, ours_network BIGINT NOT NULL,
		theirs_n BIGINT NOT NULL, theirs_fen BIGINT NOT NULL, theirs_fee BIGINT NOT NULL, theirs_network BIGINT NOT NULL,
		matched_n BIGINT NOT NULL, matched_fen BIGINT NOT NULL, matched_fee BIGINT NOT NULL, matched_network BIGINT NOT NULL,
		differs BIGINT NOT NULL,
		banked BIGINT NOT NULL,      -- when the bank's line was booked, 0 not yet
		received BIGINT NOT NULL,    -- fen on the statement so far
		released BIGINT NOT NULL,    -- of its difference, what the desk has closed
		due BIGINT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (host, day));
	CREATE INDEX reconcile_run_due ON reconcile_run (banked, due);
	CREATE TABLE reconcile_line (
		account TEXT NOT NULL,
		ref TEXT NOT NULL,           -- the bank's
		fen BIGINT NOT NULL,
		booked BIGINT NOT NULL,
		reference TEXT NOT NULL,
		party TEXT NOT NULL,
		host TEXT NOT NULL,          -- of a clearing line
		day TEXT NOT NULL,
		waits BOOLEAN NOT NULL,      -- for the run of its day
		PRIMARY KEY (account, ref));
	CREATE INDEX reconcile_line_waits ON reconcile_line (host, day, waits);
	CREATE TABLE reconcile_payout (
		id TEXT PRIMARY KEY,
		payee TEXT NOT NULL,
		fen BIGINT NOT NULL,
		due BIGINT NOT NULL,
		paid BIGINT NOT NULL,        -- fen on the statement
		seen BIGINT NOT NULL);       -- when, 0 not yet
	CREATE INDEX reconcile_payout_due ON reconcile_payout (seen, due);
	CREATE TABLE reconcile_exception (
		id TEXT PRIMARY KEY,
		ref TEXT NOT NULL UNIQUE,    -- what it is about: found once
		host TEXT NOT NULL,
		day TEXT NOT NULL,
		type TEXT NOT NULL,
		ours TEXT NOT NULL,          -- JSON, empty: none
		theirs TEXT NOT NULL,
		gross BIGINT NOT NULL,       -- fen
		fee BIGINT NOT NULL,
		network BIGINT NOT NULL,
		held BIGINT NOT NULL,        -- fen on the suspense account
		payee TEXT NOT NULL,
		state TEXT NOT NULL,
		next TEXT NOT NULL,
		proposer TEXT NOT NULL,
		signer TEXT NOT NULL,
		at BIGINT NOT NULL,
		changed BIGINT NOT NULL);
	CREATE INDEX reconcile_exception_state ON reconcile_exception (state, id);
	CREATE INDEX reconcile_exception_host ON reconcile_exception (host, day, id);
	CREATE TABLE reconcile_audit (
		id TEXT PRIMARY KEY,
		exception TEXT NOT NULL,
		at BIGINT NOT NULL,
		who TEXT NOT NULL,
		was TEXT NOT NULL,
		became TEXT NOT NULL,
		why TEXT NOT NULL);
	CREATE INDEX reconcile_audit_exception ON reconcile_audit (exception, id)`,
	`CREATE TABLE reconcile_cost (
		host TEXT NOT NULL, day TEXT NOT NULL, class TEXT NOT NULL,
		upto BIGINT NOT NULL,        -- fen a sale; 0: any above the other rows'
		n BIGINT NOT NULL, fen BIGINT NOT NULL, fee BIGINT NOT NULL, -- of issuer and network
		PRIMARY KEY (host, day, class, upto)) /*without rowid*/`,
	`CREATE TABLE reconcile_paper (
		hash TEXT PRIMARY KEY,       -- SHA-256; of an empty file, of its name
		name TEXT NOT NULL,
		size BIGINT NOT NULL,
		state TEXT NOT NULL,         -- waits, taken, refused
		code TEXT NOT NULL, line BIGINT NOT NULL, col BIGINT NOT NULL, need TEXT NOT NULL, -- why it was refused
		who TEXT NOT NULL,
		at BIGINT NOT NULL,
		changed BIGINT NOT NULL);
	CREATE INDEX reconcile_paper_changed ON reconcile_paper (changed, hash)`,
}}

func insertHost(tx *db.Tx, h Host) error {
	_, err := tx.Exec(`INSERT INTO reconcile_host (`+hostColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET
		cut_off = excluded.cut_off, due_days = excluded.due_days, four_eyes = excluded.four_eyes`,
		h.Name, string(h.Receivable), string(h.Fees), string(h.Network), string(h.Bank), h.CutOff.Microseconds(), h.DueDays, h.FourEyes)
	return err
}

const hostColumns = `name, receivable, fees, network, bank, cut_off, due_days, four_eyes`

func scanHost(scan func(...any) error) (h Host, err error) {
	var receivable, fees, network, bank string
	var cut int64
	err = scan(&h.Name, &receivable, &fees, &network, &bank, &cut, &h.DueDays, &h.FourEyes)
	h.Receivable, h.Fees, h.Network, h.Bank = ledger.AccountID(receivable), ledger.AccountID(fees), ledger.AccountID(network), ledger.AccountID(bank)
	h.CutOff = time.Duration(cut) * time.Microsecond
	return h, err
}

// HostOf reads a host.
func HostOf(q db.Reader, name string) (Host, error) {
	h, err := scanHost(q.QueryRow(`SELECT `+hostColumns+` FROM reconcile_host WHERE name = $1`, name).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrHost
	}
	if err != nil {
		return Host{}, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// Hosts reads all hosts by name.
func Hosts(q db.Reader) (out []Host, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		h, err := scanHost(scan)
		out = append(out, h)
		return err
	}, `SELECT `+hostColumns+` FROM reconcile_host ORDER BY name`)
	return out, err
}

// takeFile keeps that a file was taken; again says that it was before.
func takeFile(tx *db.Tx, hash, kind, of, name string) (again bool, err error) {
	n, err := tx.Exec(`INSERT INTO reconcile_file (hash, kind, of, name, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO NOTHING`,
		hash, kind, of, name, tx.Now().UnixMicro())
	if err != nil || n == 1 {
		return false, err
	}
	var k, o string
	err = tx.QueryRow(`SELECT kind, of FROM reconcile_file WHERE hash = $1`, hash).Scan(&k, &o)
	if err == nil && (k != kind || o != of) {
		err = fmt.Errorf("%s of %s: %w", k, o, ErrTaken)
	}
	return true, err
}

const runColumns = `host, day, hash, ours_n, ours_fen, ours_fee, ours_network, theirs_n, theirs_fen, theirs_fee, theirs_network,
	matched_n, matched_fen, matched_fee, matched_network, differs, banked, received, released, due, at`

func scanRun(scan func(...any) error) (r Report, err error) {
	var day string
	var banked, due, at int64
	err = scan(&r.Host, &day, &r.Hash, &r.Ours.Count, &r.Ours.Fen, &r.Ours.Fee, &r.Ours.Network, &r.Theirs.Count, &r.Theirs.Fen, &r.Theirs.Fee, &r.Theirs.Network,
		&r.Matched.Count, &r.Matched.Fen, &r.Matched.Fee, &r.Matched.Network, &r.Differs, &banked, &r.Received, &r.Released, &due, &at)
	if err != nil {
		return Report{}, err
	}
	r.Banked, r.Due, r.At = db.Moment(banked), db.Moment(due), db.Moment(at)
	r.Day, err = calendar.Parse(day)
	return r, err
}

func insertRun(tx *db.Tx, r Report) error {
	_, err := tx.Exec(`INSERT INTO reconcile_run (`+runColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0, 0, 0, $17, $18)`,
		r.Host, r.Day.String(), r.Hash, r.Ours.Count, r.Ours.Fen, r.Ours.Fee, r.Ours.Network, r.Theirs.Count, r.Theirs.Fen, r.Theirs.Fee, r.Theirs.Network,
		r.Matched.Count, r.Matched.Fen, r.Matched.Fee, r.Matched.Network, r.Differs, r.Due.UnixMicro(), r.At.UnixMicro())
	return err
}

// ReportOf reads what a day's comparison found.
func ReportOf(q db.Reader, host string, day calendar.Date) (Report, error) {
	r, err := scanRun(q.QueryRow(`SELECT `+runColumns+` FROM reconcile_run WHERE host = $1 AND day = $2`, host, day.String()).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoRun
	}
	if err != nil {
		return Report{}, fmt.Errorf("%s of %s: %w", host, day, err)
	}
	return r, nil
}

// Reports reads the comparisons of a host (empty: of all), newest day first.
func Reports(q db.Reader, host string, limit int) ([]Report, error) {
	return runs(q, `(host = $1 OR $1 = '') ORDER BY day DESC, host LIMIT $2`, host, page(limit))
}

func runs(q db.Reader, where string, args ...any) (out []Report, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		r, err := scanRun(scan)
		out = append(out, r)
		return err
	}, `SELECT `+runColumns+` FROM reconcile_run WHERE `+where, args...)
	return out, err
}

func page(limit int) int { return min(max(limit, 1), maxPage) }

const exceptionColumns = `id, ref, host, day, type, ours, theirs, gross, fee, network, held, payee, state, next, proposer, signer, at, changed`

func scanException(scan func(...any) error) (x Exception, err error) {
	var day, ours, theirs string
	var at, changed int64
	err = scan(&x.ID, &x.Ref, &x.Host, &day, &x.Type, &ours, &theirs, &x.Gross, &x.Fee, &x.Network, &x.Held, &x.Payee, &x.State, &x.Next,
		&x.Proposer, &x.Signer, &at, &changed)
	if err != nil {
		return Exception{}, err
	}
	x.At, x.Changed = db.Moment(at), db.Moment(changed)
	if x.Ours, err = itemIn(ours); err == nil {
		x.Theirs, err = itemIn(theirs)
	}
	if err == nil {
		x.Day, err = calendar.Parse(day)
	}
	return x, err
}

func itemIn(text string) (*Item, error) {
	if text == "" {
		return nil, nil
	}
	x := &Item{}
	return x, json.Unmarshal([]byte(text), x)
}

func itemText(x *Item) (string, error) {
	if x == nil {
		return "", nil
	}
	text, err := json.Marshal(x)
	return string(text), err
}

// insertException writes x unless one with its reference is known.
func insertException(tx *db.Tx, x Exception) (fresh bool, err error) {
	ours, err := itemText(x.Ours)
	if err != nil {
		return false, err
	}
	theirs, err := itemText(x.Theirs)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(`INSERT INTO reconcile_exception (`+exceptionColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $15, $10, $11, $12, $13, '', '', $14, $14) ON CONFLICT (ref) DO NOTHING`,
		x.ID, x.Ref, x.Host, x.Day.String(), string(x.Type), ours, theirs, x.Gross, x.Fee, x.Held, x.Payee, string(Open), string(x.Next), tx.Now().UnixMicro(), x.Network)
	return n == 1, err
}

// updateException writes what may change, if nobody else has changed the state.
func updateException(tx *db.Tx, was ExceptionState, x Exception) error {
	n, err := tx.Exec(`UPDATE reconcile_exception SET type = $3, held = $4, state = $5, next = $6, proposer = $7, signer = $8, changed = $9, payee = $10
		WHERE id = $1 AND state = $2`, x.ID, string(was), string(x.Type), x.Held, string(x.State), string(x.Next), x.Proposer, x.Signer, tx.Now().UnixMicro(), x.Payee)
	if err == nil && n == 0 {
		err = ErrState
	}
	return err
}

// ExceptionOf reads one exception.
func ExceptionOf(q db.Reader, id string) (Exception, error) {
	x, err := scanException(q.QueryRow(`SELECT `+exceptionColumns+` FROM reconcile_exception WHERE id = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNone
	}
	if err != nil {
		return Exception{}, fmt.Errorf("exception %s: %w", id, err)
	}
	return x, nil
}

func byRef(q db.Reader, ref string) (Exception, error) {
	x, err := scanException(q.QueryRow(`SELECT `+exceptionColumns+` FROM reconcile_exception WHERE ref = $1`, ref).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNone
	}
	return x, err
}

func exceptions(q db.Reader, where string, args ...any) (out []Exception, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		x, err := scanException(scan)
		out = append(out, x)
		return err
	}, `SELECT `+exceptionColumns+` FROM reconcile_exception WHERE `+where, args...)
	return out, err
}

// Exceptions reads exceptions of a host (empty: of all) in a state (empty: in
// any but closed), by id, from the one after the given.
func Exceptions(q db.Reader, host string, state ExceptionState, after string, limit int) ([]Exception, error) {
	return exceptions(q, `(host = $1 OR $1 = '') AND (state = $2 OR $2 = '' AND state <> $3) AND id > $4 ORDER BY id LIMIT $5`,
		host, string(state), string(Closed), after, page(limit))
}

// OfDay reads the exceptions that a day of a host brought, by id.
func OfDay(q db.Reader, host string, day calendar.Date) ([]Exception, error) {
	return exceptions(q, `host = $1 AND day = $2 ORDER BY id`, host, day.String())
}

// A Tally counts the exceptions of a host and type that are not closed.
type Tally struct {
	Host  string
	Type  Type
	Count int64
	Net   int64 // fen that the books are off by, or that is on suspense
}

// Count sums the exceptions that are not closed, by host and type.
func Count(q db.Reader) (out []Tally, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var t Tally
		err := scan(&t.Host, &t.Type, &t.Count, &t.Net)
		out = append(out, t)
		return err
	}, `SELECT host, type, COUNT(*), CAST(SUM(CASE WHEN held <> 0 THEN held ELSE gross - fee - network END) AS BIGINT)
		FROM reconcile_exception WHERE state <> $1 GROUP BY host, type ORDER BY host, type`, string(Closed))
	return out, err
}

func audit(tx *db.Tx, id, who string, was, became ExceptionState, why string) error {
	_, err := tx.Exec(`INSERT INTO reconcile_audit (id, exception, at, who, was, became, why) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		tx.NewID("raud"), id, tx.Now().UnixMicro(), who, string(was), string(became), why)
	return err
}

// History reads who did what to an exception, oldest first.
func History(q db.Reader, id string) (out []Act, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var a Act
		var at int64
		err := scan(&at, &a.Who, &a.Was, &a.Became, &a.Why)
		a.At = db.Moment(at)
		out = append(out, a)
		return err
	}, `SELECT at, who, was, became, why FROM reconcile_audit WHERE exception = $1 ORDER BY id`, id)
	return out, err
}
