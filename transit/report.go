package transit

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/internal/db"
	"koala/money"
	"koala/spec/purse"
	"koala/transit/network"
)

// JourneyByID reads one journey.
func JourneyByID(q db.Reader, id string) (Journey, error) {
	j, err := scanJourney(q.QueryRow(`SELECT `+journeyColumns+` FROM transit_journey WHERE id = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoJourney
	}
	if err != nil {
		return Journey{}, fmt.Errorf("journey %s: %w", id, err)
	}
	return j, nil
}

func journeyOfTap(q db.Reader, card purse.Number, seq uint16) (Journey, error) {
	var id string
	if err := q.QueryRow(`SELECT journey FROM transit_debit WHERE card = $1 AND seq = $2`, string(card), int64(seq)).Scan(&id); err != nil {
		return Journey{}, err
	}
	return JourneyByID(q, id)
}

// JourneysOfCard reads a card's journeys, newest first, from before the given
// card sequence (negative: from the newest).
func JourneysOfCard(q db.Reader, card purse.Number, before, limit int) ([]Journey, error) {
	if before < 0 {
		before = 1 << 16
	}
	return journeys(q, `WHERE card = $1 AND first < $2 ORDER BY first DESC LIMIT $3`, string(card), int64(before), limited(limit))
}

// Journeys reads journeys in a state (empty: all), newest first, from before
// the given id (empty: from the newest).
func Journeys(q db.Reader, state State, before string, limit int) ([]Journey, error) {
	if before == "" {
		before = "~" // after every id
	}
	return journeys(q, `WHERE (state = $1 OR $1 = '') AND id < $2 ORDER BY id DESC LIMIT $3`, string(state), before, limited(limit))
}

// Exceptions reads the journeys that staff should look at, newest first.
func Exceptions(q db.Reader, before string, limit int) ([]Journey, error) {
	if before == "" {
		before = "~"
	}
	return journeys(q, `WHERE exception <> '' AND id < $1 ORDER BY id DESC LIMIT $2`, before, limited(limit))
}

// An OddTap was not booked: its TAC is wrong (tac) or another payment of the
// card has its sequence (fork).
type OddTap struct {
	ID     string
	Why    string
	Debit  purse.Debit
	Number uint32
	Got    time.Time
}

// OddTaps reads what was not booked, newest first.
func OddTaps(q db.Reader, before string, limit int) (out []OddTap, err error) {
	if before == "" {
		before = "~"
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var o OddTap
		var body []byte
		var got int64
		if err := scan(&o.ID, &o.Why, &o.Number, &got, &body); err != nil {
			return err
		}
		d, err := purse.ParseDebit(body)
		o.Debit, o.Got = d, db.Moment(got)
		out = append(out, o)
		return err
	}, `SELECT id, why, number, got, body FROM transit_odd WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, limited(limit))
	return out, err
}

// TapOf reads one collected debit with its trace: the terminal's number and
// when it came in.
func TapOf(q db.Reader, card purse.Number, seq uint16) (d purse.Debit, number uint32, got time.Time, err error) {
	var body []byte
	var at int64
	err = q.QueryRow(`SELECT body, number, got FROM transit_debit WHERE card = $1 AND seq = $2`, string(card), int64(seq)).Scan(&body, &number, &at)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoJourney
	}
	if err != nil {
		return d, 0, got, fmt.Errorf("tap %d: %w", seq, err)
	}
	d, err = purse.ParseDebit(body)
	return d, number, db.Moment(at), err
}

func cardsOf(q db.Reader, sql string, args ...any) (out []purse.Number, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var card string
		err := scan(&card)
		out = append(out, purse.Number(card))
		return err
	}, sql, args...)
	return out, err
}

// paidAt is what a debit took and where.
func paidAt(q db.Reader, card purse.Number, seq uint16) (fen money.Amount, t purse.Terminal, err error) {
	var n int64
	var terminal string
	if err = q.QueryRow(`SELECT fen, terminal FROM transit_debit WHERE card = $1 AND seq = $2`, string(card), int64(seq)).Scan(&n, &terminal); err != nil {
		return fen, t, err
	}
	t, err = purse.ParseTerminal(terminal)
	return money.Fen(n), t, err
}

func insertShare(tx *db.Tx, ref string, card purse.Number, seq int64, s network.Share) error {
	_, err := tx.Exec(`INSERT INTO transit_share (ref, card, seq, line, operator, metres, fen, day) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		ref, string(card), seq, s.Line, s.Operator, int64(s.Metres), s.Fen.Minor(), calendar.ServiceDay(tx.Now()).String())
	return err
}

// sharesOf sums the shares of a debit and counts the entries that made them.
func sharesOf(q db.Reader, card purse.Number, seq uint16) (out []network.Share, entries int, err error) {
	err = q.QueryRow(`SELECT COUNT(DISTINCT ref) FROM transit_share WHERE card = $1 AND seq = $2`, string(card), int64(seq)).Scan(&entries)
	if err != nil || entries == 0 {
		return nil, entries, err
	}
	out, err = shares(q, `WHERE card = $1 AND seq = $2 GROUP BY operator, line`+notNil+` ORDER BY operator, line`, string(card), int64(seq))
	return out, entries, err
}

// notNil leaves lines out that a correction took everything back from: a tap
// read without the ones around it is another ride, over other lines, and what
// those got first says nothing of the journey any more.
const notNil = ` HAVING SUM(metres) <> 0 OR SUM(fen) <> 0`

func shares(q db.Reader, where string, args ...any) (out []network.Share, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s network.Share
		var metres, fen int64
		err := scan(&s.Line, &s.Operator, &metres, &fen)
		s.Metres, s.Fen = int(metres), money.Fen(fen)
		out = append(out, s)
		return err
	}, `SELECT line, operator, CAST(SUM(metres) AS BIGINT), CAST(SUM(fen) AS BIGINT) FROM transit_share `+where, args...)
	return out, err
}

// SharesOf says who got what of a journey's money, by line; the ledger entry
// of a debit is transit:<card>/<seq>, its shares' the same with :shares.
func SharesOf(q db.Reader, j Journey) (out []network.Share, err error) {
	for _, seq := range j.Pays {
		part, _, err := sharesOf(q, j.Card, seq)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

// Clearing is the clearing table of one settlement day: what each operator
// earned on each line, with corrections booked that day. Its sum is that of
// the day's captures. Method and words are network.MethodEN and MethodZH.
func Clearing(q db.Reader, day calendar.Date) ([]network.Share, error) {
	return shares(q, `WHERE day = $1 GROUP BY operator, line`+notNil+` ORDER BY operator, line`, day.String())
}

// Check proves that every debit of a registered device has been shared to the
// fen. It lists what is wrong.
func Check(q db.Reader) (wrong []string, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var card string
		var seq, fen, shared int64
		err := scan(&card, &seq, &fen, &shared)
		wrong = append(wrong, fmt.Sprintf("tap %d of card …%s took %d fen, operators got %d", seq, tail(purse.Number(card)), fen, shared))
		return err
	}, `SELECT d.card, d.seq, d.fen, CAST(COALESCE(SUM(s.fen), 0) AS BIGINT) FROM transit_debit d
		JOIN transit_device v ON v.terminal = d.terminal
		LEFT JOIN transit_share s ON s.card = d.card AND s.seq = d.seq
		GROUP BY d.card, d.seq, d.fen HAVING COALESCE(SUM(s.fen), 0) <> d.fen ORDER BY d.card, d.seq`)
	if err != nil {
		return wrong, err
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var card string
		var seq int64
		err := scan(&card, &seq)
		wrong = append(wrong, fmt.Sprintf("tap %d of card …%s was shared among operators, but is not there", seq, tail(purse.Number(card))))
		return err
	}, `SELECT DISTINCT s.card, s.seq FROM transit_share s LEFT JOIN transit_debit d ON d.card = s.card AND d.seq = s.seq
		WHERE d.card IS NULL AND s.seq >= 0 ORDER BY s.card, s.seq`) // repairs share under negative numbers
	if err != nil {
		return wrong, err
	}
	return checkBodies(q, wrong)
}

// checkBodies compares every debit's row with the bytes its TAC was verified
// over, a page at a time.
func checkBodies(q db.Reader, wrong []string) ([]string, error) {
	const page = 2000
	var card string
	var seq, fen int64
	for n := page; n == page; {
		n = 0
		err := db.Each(q, func(scan func(...any) error) error {
			var body []byte
			if err := scan(&card, &seq, &fen, &body); err != nil {
				return err
			}
			n++
			d, err := purse.ParseDebit(body)
			if err != nil || string(d.Card) != card || int64(d.Seq) != seq || int64(d.Fen) != fen {
				wrong = append(wrong, fmt.Sprintf("tap %d of card …%s differs from the bytes its TAC was verified over", seq, tail(purse.Number(card))))
			}
			return nil
		}, `SELECT card, seq, fen, body FROM transit_debit WHERE (card, seq) > ($1, $2) ORDER BY card, seq LIMIT $3`, card, first(card, seq), page)
		if err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// first is the sequence before a page: none before the first.
func first(card string, seq int64) int64 {
	if card == "" {
		return -1
	}
	return seq
}

// A FlowCell is how many riders entered or left at a station in an hour.
type FlowCell struct {
	Station fare.Code
	Hour    time.Time // its begin, Beijing
	In, Out int       // -1: fewer cards than the smallest group shown
}

// Flow counts riders by station and hour between two times. A cell with fewer
// than k different cards shows -1; k 0 takes the rule's.
func Flow(q db.Reader, from, to time.Time, k int) (out []FlowCell, err error) {
	if k == 0 {
		r, err := RulesAt(from)
		if err != nil {
			return nil, err
		}
		k = r.K
	}
	at := map[[2]int64]int{}
	count := func(column, station string, set func(*FlowCell, int)) error {
		return db.Each(q, func(scan func(...any) error) error {
			var code, hour, n, cards int64
			if err := scan(&code, &hour, &n, &cards); err != nil {
				return err
			}
			i, ok := at[[2]int64{code, hour}]
			if !ok {
				i = len(out)
				at[[2]int64{code, hour}] = i
				out = append(out, FlowCell{Station: fare.Code(code), Hour: time.Unix(hour*3600, 0).In(calendar.Beijing)})
			}
			if cards < int64(k) {
				n = -1
			}
			set(&out[i], int(n))
			return nil
		}, `SELECT `+station+`, `+column+` / 3600000000, COUNT(*), COUNT(DISTINCT card) FROM transit_journey
			WHERE mode = 'rail' AND `+station+` > 0 AND `+column+` >= $1 AND `+column+` < $2
			GROUP BY `+station+`, `+column+` / 3600000000 ORDER BY `+column+` / 3600000000, `+station, micros(from), micros(to))
	}
	if err := count("entered", "origin", func(c *FlowCell, n int) { c.In = n }); err != nil {
		return nil, err
	}
	return out, count("gone", "target", func(c *FlowCell, n int) { c.Out = n })
}

// Devices, their rows and what they say.

const deviceColumns = `terminal, kind, station, operator, route, seen, number, deny, pack, COALESCE((SELECT made FROM transit_delta WHERE version = deny), 0)`

func scanDevice(scan func(...any) error) (d Device, err error) {
	var terminal, kind, route string
	var station, seen, number, deny, packed, made int64
	if err = scan(&terminal, &kind, &station, &d.Operator, &route, &seen, &number, &deny, &packed, &made); err != nil {
		return d, err
	}
	if d.Terminal, err = purse.ParseTerminal(terminal); err != nil {
		return d, err
	}
	d.Kind, d.Station, d.Seen, d.Number = DeviceKind(kind), fare.Code(station), db.Moment(seen), uint32(number)
	d.DenyVersion, d.PackVersion, d.DenyAt = uint32(deny), uint32(packed), db.Moment(made)
	return d, json.Unmarshal([]byte(route), &d.Route)
}

// DeviceOf reads one device.
func DeviceOf(q db.Reader, t purse.Terminal) (Device, error) {
	d, err := scanDevice(q.QueryRow(`SELECT `+deviceColumns+` FROM transit_device WHERE terminal = $1`, t.String()).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoDevice
	}
	if err != nil {
		return Device{}, fmt.Errorf("terminal %s: %w", t, err)
	}
	return d, nil
}

// deviceOr reads a device; one that is not registered has no kind.
func deviceOr(q db.Reader, t purse.Terminal) (Device, error) {
	d, err := DeviceOf(q, t)
	if errors.Is(err, ErrNoDevice) {
		return Device{Terminal: t}, nil
	}
	return d, err
}

// Devices reads the registry in the order of terminal numbers.
func Devices(q db.Reader, after string, limit int) (out []Device, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		d, err := scanDevice(scan)
		out = append(out, d)
		return err
	}, `SELECT `+deviceColumns+` FROM transit_device WHERE terminal > $1 ORDER BY terminal LIMIT $2`, after, limited(limit))
	return out, err
}
