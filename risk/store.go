package risk

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
)

// Schema is what this package keeps. Facts are appended and never changed.
var Schema = db.Schema{Owner: "risk", Steps: []string{
	`CREATE TABLE risk_fact (
		seq BIGINT PRIMARY KEY,
		ref TEXT NOT NULL,
		at BIGINT NOT NULL,
		kind TEXT NOT NULL,
		card TEXT NOT NULL,          -- a token, never a number
		class TEXT NOT NULL,
		shop TEXT NOT NULL,
		terminal TEXT NOT NULL,
		agent TEXT NOT NULL,
		category TEXT NOT NULL,
		fen BIGINT NOT NULL,
		entry TEXT NOT NULL,
		declined BOOLEAN NOT NULL,
		sale TEXT NOT NULL,
		since BIGINT NOT NULL,
		lat BIGINT NOT NULL, lon BIGINT NOT NULL,           -- 1/10,000 degree
		home_lat BIGINT NOT NULL, home_lon BIGINT NOT NULL,
		level TEXT NOT NULL,
		action TEXT NOT NULL,
		score BIGINT NOT NULL,
		version BIGINT NOT NULL);
	CREATE INDEX risk_fact_at ON risk_fact (at, ref);
	CREATE TABLE risk_set (
		version BIGINT PRIMARY KEY,
		text TEXT NOT NULL,          -- JSON
		state TEXT NOT NULL,
		author TEXT NOT NULL,
		approver TEXT NOT NULL,
		why TEXT NOT NULL,
		valid_from BIGINT NOT NULL,  -- microseconds
		report TEXT NOT NULL,        -- JSON of the replay, empty: none
		made BIGINT NOT NULL);
	CREATE TABLE risk_case (
		id TEXT PRIMARY KEY,
		shop TEXT NOT NULL,
		state TEXT NOT NULL,
		assignee TEXT NOT NULL,
		action TEXT NOT NULL,
		score BIGINT NOT NULL,
		facts BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		holding BOOLEAN NOT NULL,
		why TEXT NOT NULL,
		at BIGINT NOT NULL,
		changed BIGINT NOT NULL);
	CREATE INDEX risk_case_state ON risk_case (state, score, id);
	CREATE INDEX risk_case_shop ON risk_case (shop, state);
	CREATE TABLE risk_evidence (
		ref TEXT PRIMARY KEY,        -- of the fact
		risk_case TEXT NOT NULL,
		shop TEXT NOT NULL,
		fact TEXT NOT NULL,          -- JSON
		decision TEXT NOT NULL,
		at BIGINT NOT NULL);
	CREATE INDEX risk_evidence_case ON risk_evidence (risk_case, at, ref);
	CREATE TABLE risk_act (
		id TEXT PRIMARY KEY,
		risk_case TEXT NOT NULL,
		at BIGINT NOT NULL,
		who TEXT NOT NULL,
		was TEXT NOT NULL,
		became TEXT NOT NULL,
		why TEXT NOT NULL);
	CREATE INDEX risk_act_case ON risk_act (risk_case, id)`,
}}

const factColumns = `ref, at, kind, card, class, shop, terminal, agent, category, fen, entry, declined, sale, since,
	lat, lon, home_lat, home_lon, level, action, score, version`

func appendFact(tx *db.Tx, f *Fact, d *Decision) error {
	return tx.Append("risk_fact", "seq, "+factColumns, tx.NewSeq(), f.Ref, f.At.UnixMicro(), string(f.Kind), f.Card, f.Class, f.Shop, f.Terminal, f.Agent,
		f.Category, f.Fen, string(f.Entry), f.Declined, f.Sale, micros(f.Since), int64(f.Place.Lat), int64(f.Place.Lon), int64(f.Home.Lat), int64(f.Home.Lon),
		string(f.Level), string(d.Action), int64(d.Score), int64(d.Version))
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// factsBehind reads facts behind (at, ref) and before until, with the verdict of
// the case that has them.
func factsBehind(q db.Reader, at int64, ref string, until int64, limit int) (out []Labelled, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var x Labelled
		var at, since int64
		var verdict string
		err := scan(&x.Ref, &at, &x.Kind, &x.Card, &x.Class, &x.Shop, &x.Terminal, &x.Agent, &x.Category, &x.Fen, &x.Entry, &x.Declined, &x.Sale, &since,
			&x.Place.Lat, &x.Place.Lon, &x.Home.Lat, &x.Home.Lon, &x.Level, &x.Was.Action, &x.Was.Score, &x.Was.Version, &verdict)
		x.At, x.Since = db.Moment(at), db.Moment(since)
		x.Label = map[CaseState]Label{Confirmed: Fraud, Cleared: Good}[CaseState(verdict)]
		out = append(out, x)
		return err
	}, `SELECT f.ref, f.at, f.kind, f.card, f.class, f.shop, f.terminal, f.agent, f.category, f.fen, f.entry, f.declined, f.sale, f.since,
			f.lat, f.lon, f.home_lat, f.home_lon, f.level, f.action, f.score, f.version, COALESCE(c.state, '')
		FROM risk_fact f LEFT JOIN risk_evidence e ON e.ref = f.ref LEFT JOIN risk_case c ON c.id = e.risk_case
		WHERE (f.at > $1 OR f.at = $1 AND f.ref > $2) AND f.at < $3 ORDER BY f.at, f.ref, f.seq LIMIT $4`, at, ref, until, limit)
	return out, err
}

// Forget drops facts from before t that no case has, at most limit, and says
// how many.
func Forget(tx *db.Tx, t time.Time, limit int) (int64, error) {
	return tx.Exec(`DELETE FROM risk_fact WHERE seq IN (SELECT f.seq FROM risk_fact f WHERE f.at < $1
		AND NOT EXISTS (SELECT 1 FROM risk_evidence e WHERE e.ref = f.ref) ORDER BY f.at, f.ref, f.seq LIMIT $2)`, t.UnixMicro(), limit)
}

func insertSet(tx *db.Tx, s Set, state SetState, who, why string) error {
	text, err := json.Marshal(s)
	if err == nil {
		_, err = tx.Exec(`INSERT INTO risk_set (version, text, state, author, approver, why, valid_from, report, made) VALUES ($1, $2, $3, $4, '', $5, 0, '', $6)`,
			s.Version, string(text), string(state), who, why, tx.Now().UnixMicro())
	}
	return err
}

func decideSet(tx *db.Tx, version int, to SetState, who string, from time.Time) error {
	n, err := tx.Exec(`UPDATE risk_set SET state = $2, approver = $3, valid_from = $4 WHERE version = $1 AND state = $5`,
		version, string(to), who, micros(from), string(Proposed))
	if err == nil && n == 0 {
		err = ErrState
	}
	return err
}

func keepReport(tx *db.Tx, version int, r Report) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	n, err := tx.Exec(`UPDATE risk_set SET report = $2 WHERE version = $1 AND state = $3`, version, string(text), string(Proposed))
	if err == nil && n == 0 {
		err = ErrState
	}
	return err
}

func scanSet(scan func(...any) error) (s SetInfo, err error) {
	var text, report string
	var from, made int64
	if err = scan(&text, &s.State, &s.Author, &s.Approver, &s.Why, &from, &report, &made); err != nil {
		return s, err
	}
	s.From, s.Made = db.Moment(from), db.Moment(made)
	if err = json.Unmarshal([]byte(text), &s.Set); err == nil && report != "" {
		s.Report = &Report{}
		err = json.Unmarshal([]byte(report), s.Report)
	}
	return s, err
}

const setColumns = `text, state, author, approver, why, valid_from, report, made`

// SetOf reads one rule set.
func SetOf(q db.Reader, version int) (SetInfo, error) {
	s, err := scanSet(q.QueryRow(`SELECT `+setColumns+` FROM risk_set WHERE version = $1`, version).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoSet
	}
	if err != nil {
		return SetInfo{}, fmt.Errorf("rule set %d: %w", version, err)
	}
	return s, nil
}

// Sets reads the rule sets, newest version first.
func Sets(q db.Reader, limit int) (out []SetInfo, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		s, err := scanSet(scan)
		out = append(out, s)
		return err
	}, `SELECT `+setColumns+` FROM risk_set ORDER BY version DESC LIMIT $1`, page(limit))
	return out, err
}

// activeSets reads what is or will be in force, rising by its begin.
func activeSets(q db.Reader) (out []dated, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		s, err := scanSet(scan)
		out = append(out, dated{s.Set, micros(s.From)})
		return err
	}, `SELECT `+setColumns+` FROM risk_set WHERE state = $1 ORDER BY valid_from, version`, string(Active))
	return out, err
}

const caseColumns = `id, shop, state, assignee, action, score, facts, fen, holding, why, at, changed`

func scanCase(scan func(...any) error) (c Case, err error) {
	var at, changed int64
	err = scan(&c.ID, &c.Shop, &c.State, &c.Assignee, &c.Action, &c.Score, &c.Facts, &c.Fen, &c.Holding, &c.Why, &at, &changed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoCase
	}
	c.At, c.Changed = db.Moment(at), db.Moment(changed)
	return c, err
}

func insertCase(tx *db.Tx, c Case) error {
	_, err := tx.Exec(`INSERT INTO risk_case (`+caseColumns+`) VALUES ($1, $2, $3, '', $4, 0, 0, 0, $5, '', $6, $6)`,
		c.ID, c.Shop, string(c.State), string(c.Action), false, c.At.UnixMicro())
	return err
}

// updateCase writes a step, if nobody else has taken one.
func updateCase(tx *db.Tx, c Case, was CaseState) error {
	n, err := tx.Exec(`UPDATE risk_case SET state = $3, assignee = $4, action = $5, score = $6, facts = $7, fen = $8, holding = $9, why = $10, changed = $11
		WHERE id = $1 AND state = $2`, c.ID, string(was), string(c.State), c.Assignee, string(c.Action), c.Score, c.Facts, c.Fen, c.Holding, c.Why, tx.Now().UnixMicro())
	if err == nil && n == 0 {
		err = ErrState
	}
	return err
}

func openCaseOf(q db.Reader, shop string) (Case, error) {
	return scanCase(q.QueryRow(`SELECT `+caseColumns+` FROM risk_case WHERE shop = $1 AND state IN ($2, $3) ORDER BY id LIMIT 1`,
		shop, string(Opened), string(Assigned)).Scan)
}

// CaseOf reads one case.
func CaseOf(q db.Reader, id string) (Case, error) {
	c, err := scanCase(q.QueryRow(`SELECT `+caseColumns+` FROM risk_case WHERE id = $1`, id).Scan)
	if err != nil {
		return Case{}, fmt.Errorf("case %s: %w", id, err)
	}
	return c, nil
}

func page(limit int) int { return min(max(limit, 1), maxPage) }

// Cases reads cases in a state (empty: in any) of a shop (empty: of all), newest
// first, from the one before the given (empty: from the newest).
func Cases(q db.Reader, state CaseState, shop, before string, limit int) (out []Case, err error) {
	if before == "" {
		before = "~" // after every id
	}
	err = db.Each(q, func(scan func(...any) error) error {
		c, err := scanCase(scan)
		out = append(out, c)
		return err
	}, `SELECT `+caseColumns+` FROM risk_case WHERE (state = $1 OR $1 = '') AND (shop = $2 OR $2 = '') AND id < $3 ORDER BY id DESC LIMIT $4`,
		string(state), shop, before, page(limit))
	return out, err
}

// Queue reads the cases that nobody has taken, highest score first, then oldest.
func Queue(q db.Reader, limit int) (out []Case, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		c, err := scanCase(scan)
		out = append(out, c)
		return err
	}, `SELECT `+caseColumns+` FROM risk_case WHERE state = $1 ORDER BY score DESC, id LIMIT $2`, string(Opened), page(limit))
	return out, err
}

func insertAct(tx *db.Tx, id string, a Act) error {
	_, err := tx.Exec(`INSERT INTO risk_act (id, risk_case, at, who, was, became, why) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		tx.NewID("ract"), id, a.At.UnixMicro(), a.Who, string(a.Was), string(a.Is), a.Why)
	return err
}

// ActsOf reads what was done to a case, oldest first.
func ActsOf(q db.Reader, id string) (out []Act, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var a Act
		var at int64
		err := scan(&at, &a.Who, &a.Was, &a.Is, &a.Why)
		a.At = db.Moment(at)
		out = append(out, a)
		return err
	}, `SELECT at, who, was, became, why FROM risk_act WHERE risk_case = $1 ORDER BY id`, id)
	return out, err
}
