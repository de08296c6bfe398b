package switching

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/issuing/points"
	"koala/money"
	"koala/settlement"
	"koala/switching/referral"
	"koala/switching/rollout"
	"koala/switching/route"
	"koala/switching/single"
)

// Schema is what this package keeps. A transaction's row is never removed: it
// is why no trace of a batch is used twice.
var Schema = db.Schema{Owner: "switching", Steps: []string{
	`CREATE TABLE switching_terminal (
		tid TEXT PRIMARY KEY,
		master BYTEA NOT NULL,         -- TMK as the hsm sealed it; empty: none
		pik BYTEA NOT NULL, mak BYTEA NOT NULL, tdk BYTEA NOT NULL,                   -- proven: a message has verified under them
		new_pik BYTEA NOT NULL, new_mak BYTEA NOT NULL, new_tdk BYTEA NOT NULL,       -- given at the last sign-on
		checks TEXT NOT NULL,          -- their check values
		keyed BIGINT NOT NULL,         -- when the newest were given, microseconds
		batch BIGINT NOT NULL,
		closed BOOLEAN NOT NULL,       -- the batch takes nothing new: its totals have come
		signed BOOLEAN NOT NULL,
		reader TEXT NOT NULL,          -- last DUKPT serial number, hexadecimal
		base BIGINT NOT NULL,          -- version of the readers' base key
		demand BIGINT NOT NULL,        -- what the terminal is asked to do next
		status TEXT NOT NULL, reported BIGINT NOT NULL, seen BIGINT NOT NULL);
	CREATE TABLE switching_txn (
		tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL,
		rrn TEXT NOT NULL,
		kind TEXT NOT NULL, state TEXT NOT NULL,
		mid TEXT NOT NULL, shop TEXT NOT NULL, host TEXT NOT NULL,
		card TEXT NOT NULL, counter BIGINT NOT NULL, token TEXT NOT NULL, masked TEXT NOT NULL, class TEXT NOT NULL, abroad BOOLEAN NOT NULL,
		fen BIGINT NOT NULL, due BIGINT NOT NULL, refunded BIGINT NOT NULL,
		entry TEXT NOT NULL, auth TEXT NOT NULL, code TEXT NOT NULL, why TEXT NOT NULL,
		original TEXT NOT NULL,        -- rrn
		plan TEXT NOT NULL, standin BOOLEAN NOT NULL,
		hash TEXT NOT NULL, reply BYTEA NOT NULL, extra TEXT NOT NULL,
		at BIGINT NOT NULL, changed BIGINT NOT NULL,
		PRIMARY KEY (tid, batch, stan)) /*without rowid*/;
	CREATE UNIQUE INDEX switching_txn_rrn ON switching_txn (rrn);
	CREATE INDEX switching_txn_shop ON switching_txn (shop, rrn);
	CREATE TABLE switching_batch (
		tid TEXT NOT NULL, batch BIGINT NOT NULL,
		shop TEXT NOT NULL, state TEXT NOT NULL,
		said TEXT NOT NULL, counted TEXT NOT NULL,  -- field 48 as it came, and as the host has it
		home BIGINT NOT NULL, abroad BIGINT NOT NULL, -- results: 1 balanced, 2 not, 3 error
		items BIGINT NOT NULL,         -- that the terminal sent up
		opened BIGINT NOT NULL, totalled BIGINT NOT NULL, ended BIGINT NOT NULL,
		PRIMARY KEY (tid, batch)) /*without rowid*/;
	CREATE TABLE switching_item (
		tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL,
		kind TEXT NOT NULL, token TEXT NOT NULL, masked TEXT NOT NULL, fen BIGINT NOT NULL, code TEXT NOT NULL, chip BYTEA NOT NULL,
		PRIMARY KEY (tid, batch, stan, code)) /*without rowid*/;
	CREATE TABLE switching_difference (
		id TEXT PRIMARY KEY, tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL, rrn TEXT NOT NULL,
		what TEXT NOT NULL, ours BIGINT NOT NULL, theirs BIGINT NOT NULL, masked TEXT NOT NULL,
		at BIGINT NOT NULL, decided BIGINT NOT NULL, by_whom TEXT NOT NULL, note TEXT NOT NULL);
	CREATE INDEX switching_difference_open ON switching_difference (decided, id);
	CREATE TABLE switching_route (
		prefix TEXT NOT NULL, length BIGINT NOT NULL, -- of the card number, 0 any
		host TEXT NOT NULL, class TEXT NOT NULL, abroad BOOLEAN NOT NULL,
		standin BIGINT NOT NULL,       -- fen approved without the issuer, 0 nothing
		source TEXT NOT NULL,
		PRIMARY KEY (prefix, length)) /*without rowid*/;
	-- What an issuer's host is asked or has to be told. It is sealed: card
	-- numbers stand in it.
	CREATE TABLE switching_queue (
		id BIGINT PRIMARY KEY, tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL, host TEXT NOT NULL,
		what TEXT NOT NULL,            -- asked, reversal, advice, done
		sealed BYTEA NOT NULL, attempts BIGINT NOT NULL, due BIGINT NOT NULL, last TEXT NOT NULL,
		at BIGINT NOT NULL, changed BIGINT NOT NULL);
	CREATE INDEX switching_queue_due ON switching_queue (what, due, id);
	CREATE UNIQUE INDEX switching_queue_txn ON switching_queue (tid, batch, stan, what);
	CREATE TABLE switching_message (
		seq BIGINT PRIMARY KEY, tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL,
		way TEXT NOT NULL,             -- terminal: message and answer; note; a host's name and > or <
		mti TEXT NOT NULL, note TEXT NOT NULL, sealed BYTEA NOT NULL, at BIGINT NOT NULL);
	CREATE INDEX switching_message_txn ON switching_message (tid, batch, stan, seq)`,
	`ALTER TABLE switching_queue ADD COLUMN trace BIGINT NOT NULL DEFAULT 0`,
	transportStep,
	inOrder,
	// Messages are found by what they are about, what is open by its age.
	`ALTER TABLE switching_message ADD COLUMN rrn TEXT NOT NULL DEFAULT '';
	UPDATE switching_message SET rrn = COALESCE((SELECT t.rrn FROM switching_txn t WHERE t.tid = switching_message.tid
		AND t.batch = switching_message.batch AND t.stan = switching_message.stan), '');
	DROP INDEX switching_message_txn;
	CREATE INDEX switching_message_rrn ON switching_message (rrn, seq);
	CREATE INDEX switching_txn_open ON switching_txn (at) WHERE state = 'approved'`,
	`CREATE INDEX switching_txn_tap ON switching_txn (token, counter) WHERE kind = 'tap'`,
	signatureStep,
	// What is open is found by when it is the shop's, or over: days of shops end
	// at different times.
	`ALTER TABLE switching_txn ADD COLUMN cut BIGINT NOT NULL DEFAULT 0;
	UPDATE switching_txn SET cut = CASE WHEN kind = 'preauth' THEN at + 2592000000000 ELSE ((at + 32400000000) / 86400000000 + 1) * 86400000000 - 32400000000 END;
	DROP INDEX switching_txn_open;
	CREATE INDEX switching_txn_open ON switching_txn (cut) WHERE state = 'approved';
	CREATE INDEX switching_txn_waits ON switching_txn (at) WHERE state = 'approved' AND kind = 'tap'`,
	// What a holder has by disputes; what a terminal has loaded once, bit n for
	// task n; a shop's taps on other issuers' cards by day; open cases of a
	// transaction. Ranges of no bank never were the house's.
	`ALTER TABLE switching_txn ADD COLUMN disputed BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE switching_terminal ADD COLUMN loaded BIGINT NOT NULL DEFAULT 0;
	CREATE INDEX switching_txn_far ON switching_txn (shop, at) WHERE kind = 'tap' AND host <> '';
	CREATE INDEX switching_difference_txn ON switching_difference (tid, batch, stan);
	UPDATE switching_route SET host = '` + route.Network + `' WHERE host = '' AND source = '` + route.Seeded + `' AND prefix NOT LIKE '` + bin.HousePrefix + `%'`,
	referral.Step,
	// A shop's transactions are those of the terminals that have stood there: an
	// index by shop would cost every sale a page of its own.
	`CREATE TABLE switching_place (shop TEXT NOT NULL, tid TEXT NOT NULL, PRIMARY KEY (shop, tid)) /*without rowid*/;
	INSERT INTO switching_place (shop, tid) SELECT DISTINCT shop, tid FROM switching_txn;
	DROP INDEX switching_txn_shop;
	CREATE INDEX switching_txn_original ON switching_txn (original) WHERE original <> ''`,
	single.Step,
	`CREATE TABLE switching_proposal (
		id TEXT PRIMARY KEY, about TEXT NOT NULL, what TEXT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL,
		state TEXT NOT NULL, decider TEXT NOT NULL, at BIGINT NOT NULL, decided BIGINT NOT NULL);
	CREATE UNIQUE INDEX switching_proposal_open ON switching_proposal (about) WHERE state = 'open'`,
	points.Step,
	proposal.Carry("switching_proposal", route.Kind, `'`+route.Kind+`:' || SUBSTR(about, 7)`), // "route 622202/16" before
	route.Step,
	rollout.Step,
	rollout.AskStep,
}}

// signatureStep keeps the pictures of signatures, as terminals send them: in
// pieces, sealed.
const signatureStep = `CREATE TABLE switching_signature (
	tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL,
	piece BIGINT NOT NULL, pieces BIGINT NOT NULL,
	hash TEXT NOT NULL,  -- SHA-256 of the whole
	sealed BYTEA NOT NULL, at BIGINT NOT NULL,
	PRIMARY KEY (tid, batch, stan, piece))`

// inOrder has transactions lie in the order in which they came: what one commit
// writes then fills few pages.
const inOrder = `ALTER TABLE switching_txn RENAME TO switching_txn_old;
	DROP INDEX switching_txn_rrn;
	DROP INDEX switching_txn_shop;
	CREATE TABLE switching_txn (
		tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL,
		rrn TEXT PRIMARY KEY,
		kind TEXT NOT NULL, state TEXT NOT NULL,
		mid TEXT NOT NULL, shop TEXT NOT NULL, host TEXT NOT NULL,
		card TEXT NOT NULL, counter BIGINT NOT NULL, token TEXT NOT NULL, masked TEXT NOT NULL, class TEXT NOT NULL, abroad BOOLEAN NOT NULL,
		fen BIGINT NOT NULL, due BIGINT NOT NULL, refunded BIGINT NOT NULL,
		entry TEXT NOT NULL, auth TEXT NOT NULL, code TEXT NOT NULL, why TEXT NOT NULL,
		original TEXT NOT NULL,        -- rrn
		plan TEXT NOT NULL, standin BOOLEAN NOT NULL,
		hash TEXT NOT NULL, reply BYTEA NOT NULL, extra TEXT NOT NULL,
		at BIGINT NOT NULL, changed BIGINT NOT NULL) /*without rowid*/;
	INSERT INTO switching_txn SELECT * FROM switching_txn_old;
	DROP TABLE switching_txn_old;
	CREATE UNIQUE INDEX switching_txn_name ON switching_txn (tid, batch, stan);
	CREATE INDEX switching_txn_shop ON switching_txn (shop, rrn)`

const txnColumns = `tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded,
	entry, auth, code, why, original, plan, standin, hash, reply, extra, at, changed, cut, disputed`

// values are the columns of t.
func (t *Txn) values() []any {
	return []any{t.TID, t.Batch, t.STAN, t.RRN, t.Kind, t.State, t.MID, t.Shop, t.Host, t.Card, t.Counter, t.Token, t.Masked, t.Class, t.Foreign,
		t.Amount.Minor(), t.Due.Minor(), t.Refunded.Minor(), t.Entry, t.Auth, t.Code, t.Why, t.Original, t.Plan, t.StandIn, t.hash, full(t.reply), t.extra,
		t.At.UnixMicro(), t.Changed.UnixMicro(), t.cut.UnixMicro(), t.Disputed.Minor()}
}

func scanTxn(scan func(...any) error) (t Txn, err error) {
	var fen, due, refunded, disputed, at, changed, cut int64
	err = scan(&t.TID, &t.Batch, &t.STAN, &t.RRN, &t.Kind, &t.State, &t.MID, &t.Shop, &t.Host, &t.Card, &t.Counter, &t.Token, &t.Masked, &t.Class, &t.Foreign,
		&fen, &due, &refunded, &t.Entry, &t.Auth, &t.Code, &t.Why, &t.Original, &t.Plan, &t.StandIn, &t.hash, &t.reply, &t.extra, &at, &changed, &cut, &disputed)
	t.Amount, t.Due, t.Refunded, t.At, t.Changed = money.Fen(fen), money.Fen(due), money.Fen(refunded), db.Moment(at), db.Moment(changed)
	t.Disputed, t.cut, t.counted = money.Fen(disputed), db.Moment(cut), t.taken()
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return t, err
}

// insert writes t with the other rows of its batch of units: nothing in this
// unit reads it back.
func (t *Txn) insert(tx *db.Tx) error {
	if err := t.count(tx); err != nil {
		return err
	}
	return tx.Append("switching_txn", txnColumns, t.values()...)
}

// put writes t at once, for units that go on with it.
func (t *Txn) put(tx *db.Tx) error {
	if err := t.count(tx); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO switching_txn (`+txnColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
		$19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)`, t.values()...)
	return err
}

// update writes what can change of t, if it is still in state was.
func (t *Txn) update(tx *db.Tx, was State) error {
	if t.State != was && !was.May(t.State) {
		return fmt.Errorf("transaction %s from %s to %s: %w", t.RRN, was, t.State, ErrState)
	}
	if err := t.count(tx); err != nil { // first: a tally that meets the shop here reads the row as it was
		return err
	}
	t.Changed = tx.Now()
	n, err := tx.Exec(`UPDATE switching_txn SET state = $5, due = $6, refunded = $7, auth = $8, code = $9, why = $10, reply = $11, extra = $12, changed = $13,
		standin = $14, counter = $15, disputed = $16 WHERE tid = $1 AND batch = $2 AND stan = $3 AND state = $4`, t.TID, t.Batch, t.STAN, was, t.State, t.Due.Minor(), t.Refunded.Minor(),
		t.Auth, t.Code, t.Why, full(t.reply), t.extra, t.Changed.UnixMicro(), t.StandIn, t.Counter, t.Disputed.Minor())
	if err == nil && n == 0 {
		err = fmt.Errorf("transaction %s: %w", t.RRN, ErrState)
	}
	return err
}

// txnAt finds a transaction by its natural key.
func txnAt(q db.Reader, tid string, batch, stan int) (Txn, error) {
	return scanTxn(q.QueryRow(`SELECT `+txnColumns+` FROM switching_txn WHERE tid = $1 AND batch = $2 AND stan = $3`, tid, batch, stan).Scan)
}

// txnOf finds a transaction by its reference number.
func txnOf(q db.Reader, rrn string) (Txn, error) {
	return scanTxn(q.QueryRow(`SELECT `+txnColumns+` FROM switching_txn WHERE rrn = $1`, rrn).Scan)
}

func txns(q db.Reader, where string, args ...any) (out []Txn, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		t, err := scanTxn(scan)
		out = append(out, t)
		return err
	}, `SELECT `+txnColumns+` FROM switching_txn WHERE `+where, args...)
	return out, err
}

// A terminalRow is what is kept of a terminal.
type terminalRow struct {
	tid           string
	master        []byte
	proven, fresh keySet
	checks        string
	keyed         time.Time
	batch         int
	closed        bool
	signed        bool
	reader        string
	base          int
	demand        int
	loaded        int // bit n: it has done task n of firstTasks
	status        string
	reported      time.Time
	seen          time.Time
}

// A keySet are the working keys of one sign-on, as the hsm sealed them.
type keySet struct{ pik, mak, tdk []byte }

func (k keySet) empty() bool { return len(k.mak) == 0 }

const terminalColumns = `tid, master, pik, mak, tdk, new_pik, new_mak, new_tdk, checks, keyed, batch, closed, signed, reader, base, demand, status, reported, seen, loaded`

func terminalAt(q db.Reader, tid string) (r terminalRow, err error) {
	var keyed, reported, seen int64
	err = q.QueryRow(`SELECT `+terminalColumns+` FROM switching_terminal WHERE tid = $1`, tid).Scan(&r.tid, &r.master, &r.proven.pik, &r.proven.mak, &r.proven.tdk,
		&r.fresh.pik, &r.fresh.mak, &r.fresh.tdk, &r.checks, &keyed, &r.batch, &r.closed, &r.signed, &r.reader, &r.base, &r.demand, &r.status, &reported, &seen, &r.loaded)
	r.keyed, r.reported, r.seen = db.Moment(keyed), db.Moment(reported), db.Moment(seen)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return r, err
}

// save writes a terminal's row.
func (r *terminalRow) save(tx *db.Tx) error {
	r.seen = tx.Now()
	_, err := tx.Exec(`INSERT INTO switching_terminal (`+terminalColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		ON CONFLICT (tid) DO UPDATE SET master = excluded.master, pik = excluded.pik, mak = excluded.mak, tdk = excluded.tdk, new_pik = excluded.new_pik,
		new_mak = excluded.new_mak, new_tdk = excluded.new_tdk, checks = excluded.checks, keyed = excluded.keyed, batch = excluded.batch,
		closed = excluded.closed, signed = excluded.signed, reader = excluded.reader, base = excluded.base, demand = excluded.demand,
		status = excluded.status, reported = excluded.reported, seen = excluded.seen, loaded = excluded.loaded`,
		r.tid, full(r.master), full(r.proven.pik), full(r.proven.mak), full(r.proven.tdk), full(r.fresh.pik), full(r.fresh.mak), full(r.fresh.tdk), r.checks,
		micros(r.keyed), r.batch, r.closed, r.signed, r.reader, r.base, r.demand, r.status, micros(r.reported), micros(r.seen), r.loaded)
	return err
}

// full is b, never nil: the columns are not.
func full(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Transaction reads one transaction by its reference number.
func Transaction(q db.Reader, rrn string) (Txn, error) { return txnOf(q, rrn) }

// Transactions reads those that refer to one: voids, completions, refunds.
func Transactions(q db.Reader, t Txn) ([]Txn, error) {
	return txns(q, `original = $1 AND original <> '' ORDER BY rrn LIMIT 100`, t.RRN)
}

// Postings are the references of the entries that a transaction may have made in
// the ledger.
func (t Txn) Postings() []string {
	out := []string{"sale:" + t.RRN, "void:" + t.RRN, "refund:" + t.RRN, "reversal:" + t.RRN, "declined:" + t.RRN, "cash:" + t.RRN, "cash-back:" + t.RRN}
	if t.Host == "" && t.Card != "" {
		out = append(out, issuing.PaymentRef(t.Card, t.Counter))
	}
	return out
}

// A Message is one line of the log. Open gives its bytes.
type Message struct {
	Seq    int64
	Way    string // terminal: a message and its answer; note; a host's name and > (asked) or < (answered)
	MTI    string
	Note   string // the answer's code, or what was wrong
	At     time.Time
	sealed []byte
}

// Messages reads what was said about a transaction, in order.
func Messages(q db.Reader, t Txn) (out []Message, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var m Message
		var at int64
		err := scan(&m.Seq, &m.Way, &m.MTI, &m.Note, &m.sealed, &at)
		m.At = db.Moment(at)
		out = append(out, m)
		return err
	}, `SELECT seq, way, mti, note, sealed, at FROM switching_message WHERE rrn = $1 ORDER BY seq LIMIT 100`, t.RRN)
	return out, err
}

// Open unseals a line: a message, and its answer when a terminal sent it; nil
// where there is none. They are to be described with masking, not shown as they
// are.
func (h *Host) Open(ctx context.Context, m Message) (message, answer []byte, err error) {
	if len(m.sealed) == 0 {
		return nil, nil, nil
	}
	both, err := h.keys.Unseal(ctx, m.sealed)
	if err != nil || m.Way != "terminal" {
		return both, nil, err
	}
	if len(both) < 2 || len(both) < 2+int(binary.BigEndian.Uint16(both)) {
		return nil, nil, fmt.Errorf("message %d: %w", m.Seq, hsm.ErrSealed)
	}
	n := 2 + int(binary.BigEndian.Uint16(both))
	return both[2:n], both[n:], nil
}

// A Batch is one batch of a terminal whose totals have come.
type Batch struct {
	TID             string
	Number          int
	Shop            string
	State           string // totalled, ended
	Said, Counted   string // field 48: the terminal's, and the switch's with its results
	Home, Abroad    int    // Balanced, NotBalanced, InError
	Items           int    // that the terminal sent up
	Totalled, Ended time.Time
}

// Batches lists batches of a shop (empty: of all), newest first, from before a
// moment (zero: from now).
func Batches(q db.Reader, shop string, before time.Time, limit int) (out []Batch, err error) {
	last := int64(1 << 62)
	if !before.IsZero() {
		last = before.UnixMicro()
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var b Batch
		var totalled, ended int64
		err := scan(&b.TID, &b.Number, &b.Shop, &b.State, &b.Said, &b.Counted, &b.Home, &b.Abroad, &b.Items, &totalled, &ended)
		b.Totalled, b.Ended = db.Moment(totalled), db.Moment(ended)
		out = append(out, b)
		return err
	}, `SELECT tid, batch, shop, state, said, counted, home, abroad, items, totalled, ended FROM switching_batch
		WHERE (shop = $1 OR $1 = '') AND totalled < $2 ORDER BY totalled DESC, tid, batch LIMIT $3`, shop, last, min(max(limit, 1), maxPage))
	return out, err
}

// Differences lists cases, open ones only if open, by id from the one after the
// given.
func Differences(q db.Reader, open bool, after string, limit int) (out []Difference, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Difference
		var ours, theirs, at, decided int64
		err := scan(&d.ID, &d.TID, &d.Batch, &d.STAN, &d.RRN, &d.What, &ours, &theirs, &d.Masked, &at, &decided, &d.By, &d.Note)
		d.Ours, d.Theirs, d.At, d.Decided = money.Fen(ours), money.Fen(theirs), db.Moment(at), db.Moment(decided)
		out = append(out, d)
		return err
	}, `SELECT id, tid, batch, stan, rrn, what, ours, theirs, masked, at, decided, by_whom, note FROM switching_difference
		WHERE id > $1 AND (decided = 0 OR NOT $2) ORDER BY id LIMIT $3`, after, open, min(max(limit, 1), maxPage))
	return out, err
}

// A Terminal is what the switch knows of one.
type Terminal struct {
	TID      string
	Batch    int
	Closed   bool // its batch's totals have come
	Signed   bool
	Checks   string // check values of its keys
	Keyed    time.Time
	Demand   int
	Status   string
	Reported time.Time
	Seen     time.Time
}

// TerminalOf reads one terminal.
func TerminalOf(q db.Reader, tid string) (Terminal, error) {
	r, err := terminalAt(q, tid)
	return Terminal{TID: r.tid, Batch: r.batch, Closed: r.closed, Signed: r.signed, Checks: r.checks, Keyed: r.keyed, Demand: r.demand, Status: r.status,
		Reported: r.reported, Seen: r.seen}, err
}

// Prove compares what terminals sold with what settlement has of it: a booked
// payment has one item of its amount, a refund one that takes it back. A
// payment by the house's own chip may have been booked by its clearing record
// before, under that one's name.
func Prove(q db.Reader) (wrong []string, err error) {
	const page = 1_000
	for after := ""; ; {
		list, err := txns(q, `rrn > $1 AND state = 'cleared' ORDER BY rrn LIMIT $2`, after, page)
		if err != nil {
			return nil, err
		}
		for i := range list {
			t := &list[i]
			after = t.RRN
			what, err := t.proven(q)
			if err != nil {
				return nil, err
			}
			if what != "" {
				wrong = append(wrong, fmt.Sprintf("transaction %s of terminal %s: %s", t.RRN, t.TID, what))
			}
		}
		if len(list) < page {
			return wrong, nil
		}
	}
}

// proven says what is wrong with a booked transaction's item; empty: nothing.
func (t *Txn) proven(q db.Reader) (string, error) {
	k := kindNames[t.Kind]
	if k == nil {
		return "it is of no kind", nil
	}
	ref, due := "sale:"+t.RRN, t.Due.Minor()
	switch k.act {
	case actPay, actComplete:
	case actRefund:
		ref, due = "refund:"+t.RRN, -t.Amount.Minor()
	default:
		return "", nil
	}
	i, _, err := settlement.Explain(q, ref)
	switch {
	case errors.Is(err, settlement.ErrItem):
		if t.Host == "" && k.act == actPay && t.Counter >= 0 && t.Counter <= maxCounter {
			return "", nil
		}
		return "it is booked and has no item", nil
	case err != nil:
		return "", err
	case i.Payee != t.Shop || i.Amount.Minor() != due:
		return fmt.Sprintf("its item is %s for %s, it is due %d fen", i.Amount, i.Payee, due), nil
	}
	return "", nil
}

// maxCounter is the highest counter of a chip; above it are requests without.
const maxCounter = 0xFFFF
