package transit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
)

// Schema is what this package keeps. Debits and shares are only added;
// journeys are what the debits known so far tell, and are written again when a
// late one tells otherwise.
var Schema = db.Schema{Owner: "transit", Steps: []string{
	`CREATE TABLE transit_debit (
		card TEXT NOT NULL,
		seq BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		terminal TEXT NOT NULL,
		number BIGINT NOT NULL,  -- the terminal's running number
		at BIGINT NOT NULL,      -- the terminal's clock, microseconds
		got BIGINT NOT NULL,
		body BYTEA NOT NULL,     -- wire form of purse.Debit
		funded BOOLEAN NOT NULL, -- paid from the card's float, else from suspense
		journey TEXT NOT NULL,
		PRIMARY KEY (card, seq))`,
	`CREATE INDEX transit_debit_terminal ON transit_debit (terminal, number)`,
	`CREATE INDEX transit_debit_at ON transit_debit (at)`,
	`CREATE INDEX transit_debit_unfunded ON transit_debit (card, seq) WHERE NOT funded`,
	// What was not booked and is kept for the operator: another body under a
	// used sequence (fork), or a TAC that does not verify (tac).
	`CREATE TABLE transit_odd (
		id TEXT PRIMARY KEY,
		why TEXT NOT NULL,
		card TEXT NOT NULL,
		seq BIGINT NOT NULL,
		terminal TEXT NOT NULL,
		number BIGINT NOT NULL,
		got BIGINT NOT NULL,
		body BYTEA NOT NULL,
		UNIQUE (card, seq, body))`,
	`CREATE TABLE transit_journey (
		id TEXT PRIMARY KEY,
		card TEXT NOT NULL,
		first BIGINT NOT NULL,
		last BIGINT NOT NULL,
		mode TEXT NOT NULL,
		state TEXT NOT NULL,
		finish TEXT NOT NULL,
		origin BIGINT NOT NULL,
		target BIGINT NOT NULL,
		entered BIGINT NOT NULL,
		gone BIGINT NOT NULL,
		month TEXT NOT NULL,
		counts BIGINT NOT NULL,
		exception TEXT NOT NULL,
		deadline BIGINT NOT NULL,
		changed BIGINT NOT NULL,
		body TEXT NOT NULL)      -- the rest, JSON`,
	`CREATE INDEX transit_journey_card ON transit_journey (card, first)`,
	`CREATE INDEX transit_journey_state ON transit_journey (state, id)`,
	`CREATE INDEX transit_journey_due ON transit_journey (deadline) WHERE deadline > 0`,
	`CREATE INDEX transit_journey_exception ON transit_journey (id) WHERE exception <> ''`,
	// What each operator got for a debit: the first rows, then corrections.
	`CREATE TABLE transit_share (
		ref TEXT NOT NULL,       -- of the ledger entry
		card TEXT NOT NULL,
		seq BIGINT NOT NULL,     -- -1 for a repair
		line TEXT NOT NULL,
		operator TEXT NOT NULL,
		metres BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		day TEXT NOT NULL,       -- settlement day of the booking
		PRIMARY KEY (ref, line, operator))`,
	`CREATE INDEX transit_share_debit ON transit_share (card, seq)`,
	`CREATE INDEX transit_share_day ON transit_share (day, operator, line)`,
	`CREATE TABLE transit_series (
		kind TEXT NOT NULL,      -- card or terminal
		name TEXT NOT NULL,
		low BIGINT NOT NULL,
		high BIGINT NOT NULL,
		PRIMARY KEY (kind, name))`,
	`CREATE TABLE transit_gap (
		kind TEXT NOT NULL,
		name TEXT NOT NULL,
		low BIGINT NOT NULL,
		high BIGINT NOT NULL,    -- inclusive
		opened BIGINT NOT NULL,
		PRIMARY KEY (kind, name, low))`,
	`CREATE TABLE transit_repair (
		id TEXT PRIMARY KEY,
		journey TEXT NOT NULL,
		card TEXT NOT NULL,
		at BIGINT NOT NULL,
		who TEXT NOT NULL,
		missing TEXT NOT NULL,   -- missing-entry or missing-exit
		station BIGINT NOT NULL,
		reason TEXT NOT NULL,
		fen BIGINT NOT NULL,     -- what the rider paid more
		account TEXT NOT NULL)`,
	`CREATE INDEX transit_repair_card ON transit_repair (card, at)`,
	`CREATE INDEX transit_repair_journey ON transit_repair (journey, at)`,
	`CREATE TABLE transit_device (
		terminal TEXT PRIMARY KEY,
		kind TEXT NOT NULL,
		station BIGINT NOT NULL,
		operator TEXT NOT NULL,
		route TEXT NOT NULL,
		seen BIGINT NOT NULL,
		number BIGINT NOT NULL,
		deny BIGINT NOT NULL,
		pack BIGINT NOT NULL)`,
	`CREATE TABLE transit_pack (
		station BIGINT NOT NULL,
		version BIGINT NOT NULL,
		tariff TEXT NOT NULL,
		made BIGINT NOT NULL,
		body BYTEA NOT NULL,
		PRIMARY KEY (station, version))`,
	`CREATE TABLE transit_denied (
		card TEXT PRIMARY KEY,
		reason BIGINT NOT NULL,
		why TEXT NOT NULL,
		at BIGINT NOT NULL,
		version BIGINT NOT NULL) -- 0: not published yet`,
	`CREATE INDEX transit_denied_version ON transit_denied (version)`,
	`CREATE TABLE transit_delta (
		version BIGINT PRIMARY KEY,
		made BIGINT NOT NULL,
		n BIGINT NOT NULL,
		delta BYTEA NOT NULL,    -- signed, from the version before
		whole BYTEA NOT NULL)    -- signed, from nothing; kept for the newest only`,
}}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func limited(n int) int { return min(max(n, 1), maxPage) }

// A stored debit.
type kept struct {
	debit   purse.Debit
	got     time.Time
	number  uint32
	journey string
}

// insertDebit writes d unless its card and sequence are known.
func insertDebit(tx *db.Tx, d purse.Debit, number uint32, body []byte, at time.Time) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO transit_debit (card, seq, fen, terminal, number, at, got, body, funded, journey)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, TRUE, '') ON CONFLICT (card, seq) DO NOTHING`,
		string(d.Card), int64(d.Seq), int64(d.Fen), d.Terminal.String(), int64(number), micros(at), micros(tx.Now()), body)
	return n == 1, err
}

func debitBody(q db.Reader, card purse.Number, seq uint16) (body []byte, err error) {
	err = q.QueryRow(`SELECT body FROM transit_debit WHERE card = $1 AND seq = $2`, string(card), int64(seq)).Scan(&body)
	return body, err
}

func setFunded(tx *db.Tx, card purse.Number, seq uint16, funded bool) error {
	_, err := tx.Exec(`UPDATE transit_debit SET funded = $3 WHERE card = $1 AND seq = $2`, string(card), int64(seq), funded)
	return err
}

func setJourney(tx *db.Tx, card purse.Number, seq uint16, id string) error {
	_, err := tx.Exec(`UPDATE transit_debit SET journey = $3 WHERE card = $1 AND seq = $2`, string(card), int64(seq), id)
	return err
}

// keepOdd keeps what is not booked, once.
func keepOdd(tx *db.Tx, why string, d purse.Debit, number uint32, body []byte) error {
	_, err := tx.Exec(`INSERT INTO transit_odd (id, why, card, seq, terminal, number, got, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (card, seq, body) DO NOTHING`,
		tx.NewID("odd"), why, string(d.Card), int64(d.Seq), d.Terminal.String(), int64(number), micros(tx.Now()), body)
	return err
}

// debitsFrom reads a card's debits from seq on, in order.
func debitsFrom(q db.Reader, card purse.Number, seq uint16) (out []kept, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var k kept
		var body []byte
		var got, number int64
		if err := scan(&body, &got, &number, &k.journey); err != nil {
			return err
		}
		d, err := purse.ParseDebit(body)
		k.debit, k.got, k.number = d, db.Moment(got), uint32(number)
		out = append(out, k)
		return err
	}, `SELECT body, got, number, journey FROM transit_debit WHERE card = $1 AND seq >= $2 ORDER BY seq`, string(card), int64(seq))
	return out, err
}

// A journeyBody is what of a journey no query looks for.
type journeyBody struct {
	Metres   int         `json:"m,omitempty"`
	Charged  int64       `json:"charged"`
	Due      int64       `json:"due"`
	Adjusted int64       `json:"adjusted,omitempty"`
	Tariff   string      `json:"tariff,omitempty"`
	Lines    []fare.Line `json:"lines,omitempty"`
	Device   string      `json:"device"`
	Taps     []uint16    `json:"taps"`
	Pays     []uint16    `json:"pays,omitempty"`
}

func (j *Journey) pack() (string, error) {
	raw, err := json.Marshal(journeyBody{
		Metres: j.Metres, Charged: j.Charged.Minor(), Due: j.Due.Minor(), Adjusted: j.Adjusted.Minor(), Tariff: j.Tariff,
		Lines: j.Lines, Device: j.Device.String(), Taps: j.Taps, Pays: j.Pays,
	})
	return string(raw), err
}

func (j *Journey) unpack(body string) error {
	var b journeyBody
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return fmt.Errorf("journey %s: %w", j.ID, err)
	}
	j.Metres, j.Tariff, j.Lines, j.Taps, j.Pays = b.Metres, b.Tariff, b.Lines, b.Taps, b.Pays
	j.Charged, j.Due, j.Adjusted = money.Fen(b.Charged), money.Fen(b.Due), money.Fen(b.Adjusted)
	raw, err := hex.DecodeString(b.Device)
	copy(j.Device[:], raw)
	return err
}

func putJourney(tx *db.Tx, j Journey) error {
	body, err := j.pack()
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO transit_journey
		(id, card, first, last, mode, state, finish, origin, target, entered, gone, month, counts, exception, deadline, changed, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (id) DO UPDATE SET first = excluded.first, last = excluded.last, mode = excluded.mode, state = excluded.state,
			finish = excluded.finish, origin = excluded.origin, target = excluded.target, entered = excluded.entered,
			gone = excluded.gone, month = excluded.month, counts = excluded.counts, exception = excluded.exception,
			deadline = excluded.deadline, changed = excluded.changed, body = excluded.body`,
		j.ID, string(j.Card), int64(j.First), int64(j.Last), string(j.Mode), string(j.State), string(j.Finish), int64(j.From), int64(j.To),
		micros(j.Entered), micros(j.Left), j.Month, j.Counts.Minor(), string(j.Exception), micros(j.Deadline), micros(j.Changed), body)
	return err
}

func dropJourney(tx *db.Tx, id string) error {
	_, err := tx.Exec(`DELETE FROM transit_journey WHERE id = $1`, id)
	return err
}

const journeyColumns = `id, card, first, last, mode, state, finish, origin, target, entered, gone, month, counts, exception, deadline, changed, body`

func scanJourney(scan func(...any) error) (j Journey, err error) {
	var card, mode, state, finish, exception, body string
	var first, last, from, to, entered, left, counts, deadline, changed int64
	err = scan(&j.ID, &card, &first, &last, &mode, &state, &finish, &from, &to, &entered, &left, &j.Month, &counts, &exception, &deadline, &changed, &body)
	if err != nil {
		return j, err
	}
	j.Card, j.First, j.Last, j.Mode, j.State, j.Finish = purse.Number(card), uint16(first), uint16(last), Mode(mode), State(state), Finish(finish)
	j.From, j.To, j.Entered, j.Left = fare.Code(from), fare.Code(to), db.Moment(entered), db.Moment(left)
	j.Counts, j.Exception, j.Deadline, j.Changed = money.Fen(counts), Exception(exception), db.Moment(deadline), db.Moment(changed)
	return j, j.unpack(body)
}

func journeys(q db.Reader, where string, args ...any) (out []Journey, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		j, err := scanJourney(scan)
		out = append(out, j)
		return err
	}, `SELECT `+journeyColumns+` FROM transit_journey `+where, args...)
	return out, err
}

// foldFrom is where the card's journeys must be told again when a tap arrives
// at seq: from the last one that may reach over it (single taps stand alone).
// lead is the journey before that, which the first tap may still pay for.
func foldFrom(q db.Reader, card purse.Number, seq uint16) (lead, from uint16, err error) {
	var firsts []uint16
	err = db.Each(q, func(scan func(...any) error) error {
		var first int64
		err := scan(&first)
		firsts = append(firsts, uint16(first))
		return err
	}, `SELECT first FROM transit_journey WHERE card = $1 AND first < $2 AND finish <> $3 ORDER BY first DESC LIMIT 2`,
		string(card), int64(seq), string(SingleTap))
	switch len(firsts) {
	case 0:
		return seq, seq, err
	case 1:
		return firsts[0], firsts[0], err
	}
	return firsts[1], firsts[0], err
}

// monthsBefore sums what journeys before first counted, by month, with all
// journeys of the cards that this one was made in place of.
func monthsBefore(q db.Reader, card purse.Number, first uint16) (map[string]money.Amount, error) {
	months := map[string]money.Amount{}
	line, err := issuing.Lineage(q, issuing.IDOf(card))
	for _, c := range line {
		limit := int64(first)
		if c.Purse() != card {
			limit = everyJourney
		}
		if err == nil {
			err = addMonths(q, months, string(c), limit)
		}
	}
	return months, err
}

// everyJourney is above the first sequence of any.
const everyJourney = 1 << 16

func addMonths(q db.Reader, months map[string]money.Amount, card string, first int64) error {
	return db.Each(q, func(scan func(...any) error) error {
		var month string
		var fen int64
		err := scan(&month, &fen)
		months[month] = money.Fen(0).Add(months[month]).Add(money.Fen(fen))
		return err
	}, `SELECT month, CAST(SUM(counts) AS BIGINT) FROM transit_journey WHERE card = $1 AND first < $2 GROUP BY month ORDER BY month`,
		card, first)
}

// CarryOf is what a card that replaces this one takes over: the rides of the
// month of now that count for the rebate, and what they cost.
func CarryOf(q db.Reader, card purse.Number, now time.Time) (c issuing.Carry, err error) {
	c.Spent = money.Fen(0)
	line, err := issuing.Lineage(q, issuing.IDOf(card))
	if err != nil {
		return c, err
	}
	for _, id := range line {
		var rides, fen int64
		err := q.QueryRow(`SELECT COUNT(*), CAST(COALESCE(SUM(counts), 0) AS BIGINT)
			FROM transit_journey WHERE card = $1 AND month = $2 AND counts > 0`, string(id), calendar.MonthOf(now).String()).Scan(&rides, &fen)
		if err != nil {
			return c, err
		}
		c.Rides, c.Spent = c.Rides+int(rides), c.Spent.Add(money.Fen(fen))
	}
	if c.Rides > 0 { // the gates look at its month only
		c.At = now
	}
	return c, nil
}
