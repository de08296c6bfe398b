package open

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/issuing"
)

// Schema is what the API keeps: partners, their keys, their drafts, what they
// ordered, the wearers' consents, and the log of requests. Keys and codes are
// never kept, only their hashes.
var Schema = db.Schema{Owner: "open", Steps: []string{
	`CREATE TABLE open_partner (
		code TEXT PRIMARY KEY,       -- the issuer of its card templates
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		made BIGINT NOT NULL);
	CREATE TABLE open_key (
		id TEXT PRIMARY KEY,
		partner TEXT NOT NULL,
		hash BYTEA NOT NULL UNIQUE,  -- SHA-256 of the key
		head TEXT NOT NULL,          -- its first characters, to tell keys apart
		name TEXT NOT NULL,
		scopes TEXT NOT NULL,        -- with spaces between
		form TEXT NOT NULL UNIQUE,   -- the form that asked for it
		by_whom TEXT NOT NULL,
		made BIGINT NOT NULL,
		used BIGINT NOT NULL,        -- 0 never
		revoked BIGINT NOT NULL);    -- 0 not
	CREATE INDEX open_key_partner ON open_key (partner, id);
	CREATE TABLE open_template (
		id TEXT PRIMARY KEY,
		partner TEXT NOT NULL,
		body TEXT NOT NULL,          -- JSON, as the partner described it
		template TEXT NOT NULL,      -- at issuing; empty: a draft
		made BIGINT NOT NULL);
	CREATE INDEX open_template_partner ON open_template (partner, id);
	CREATE TABLE open_order (
		id TEXT PRIMARY KEY,         -- at tsm
		partner TEXT NOT NULL,
		reference TEXT NOT NULL,
		template TEXT NOT NULL,
		band TEXT NOT NULL,
		card TEXT NOT NULL,
		made BIGINT NOT NULL,
		UNIQUE (partner, reference));
	CREATE INDEX open_order_card ON open_order (card);
	CREATE TABLE open_request (
		id TEXT PRIMARY KEY,
		at BIGINT NOT NULL,
		partner TEXT NOT NULL,
		key TEXT NOT NULL,
		method TEXT NOT NULL,
		path TEXT NOT NULL,
		status BIGINT NOT NULL,
		code TEXT NOT NULL,          -- of the problem; empty: none
		took BIGINT NOT NULL,        -- microseconds
		replayed BOOLEAN NOT NULL);
	CREATE INDEX open_request_partner ON open_request (partner, id);
	CREATE INDEX open_request_at ON open_request (at)`,
	`CREATE TABLE open_consent (
		id TEXT PRIMARY KEY,
		band TEXT NOT NULL,
		owner TEXT NOT NULL,         -- who wears it
		partner TEXT NOT NULL,       -- empty: any
		hash BYTEA NOT NULL,         -- SHA-256 of its id, the band and the code
		form TEXT NOT NULL UNIQUE,   -- the form that asked for it
		made BIGINT NOT NULL,
		until BIGINT NOT NULL,
		ended BIGINT NOT NULL,       -- 0 not
		how TEXT NOT NULL,           -- used, withdrawn, guessed
		wrong BIGINT NOT NULL,       -- wrong codes in a row while it lived
		by_whom TEXT NOT NULL,       -- the partner that used it
		tsm_order TEXT NOT NULL);    -- and for which order
	CREATE INDEX open_consent_band ON open_consent (band);
	CREATE INDEX open_consent_owner ON open_consent (owner, id);
	CREATE INDEX open_consent_by ON open_consent (by_whom, id);
	CREATE INDEX open_consent_made ON open_consent (made)`,
}}

// A Partner is a firm that uses the API. Its code is the issuer of its
// templates.
type Partner struct {
	Code           string // a-z, 0-9, dash; at most 32
	NameEN, NameZH string
	Made           time.Time
}

// A Scope is one right of a key.
type Scope string

// The scopes.
const (
	ReadTemplates  Scope = "templates:read"
	WriteTemplates Scope = "templates:write"
	ReadCards      Scope = "cards:read"
	WriteCards     Scope = "cards:write"
)

// Scopes lists them.
var Scopes = []Scope{ReadTemplates, WriteTemplates, ReadCards, WriteCards}

// A Key is a partner's key as far as it may be known.
type Key struct {
	ID            string // key_…
	Partner       string
	Head          string // first characters of the key
	Name          string
	Scopes        []Scope
	By            string // who made it
	Made          time.Time
	Used, Revoked time.Time // zero: never, not
}

// A Logged is one request that a partner made.
type Logged struct {
	ID           string // req_…
	At           time.Time
	Partner, Key string
	Method, Path string
	Status       int
	Code         string // of the problem; empty: none
	Took         time.Duration
	Replayed     bool
}

// Bounds of what staff enter, in bytes.
const (
	MaxCode = 32
	MaxName = 60
)

// AddPartner makes a firm a partner; the same again changes nothing.
func AddPartner(tx *db.Tx, p Partner) error {
	if !plain(p.Code) || len(p.Code) > MaxCode || p.Code == issuing.House || p.NameEN == "" || p.NameZH == "" || len(p.NameEN) > MaxName || len(p.NameZH) > MaxName {
		return fmt.Errorf("partner %q: %w", p.Code, ErrPartner)
	}
	if known, err := PartnerOf(tx, p.Code); err == nil {
		if known.NameEN != p.NameEN || known.NameZH != p.NameZH {
			return fmt.Errorf("partner %q: %w", p.Code, ErrTaken)
		}
		return nil
	} else if !errors.Is(err, ErrNoPartner) {
		return err
	}
	_, err := tx.Exec(`INSERT INTO open_partner (code, name_en, name_zh, made) VALUES ($1, $2, $3, $4)`, p.Code, p.NameEN, p.NameZH, tx.Now().UnixMicro())
	return err
}

func plain(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && s[0] != '-'
}

// PartnerOf reads one partner.
func PartnerOf(q db.Reader, code string) (p Partner, err error) {
	var made int64
	err = q.QueryRow(`SELECT code, name_en, name_zh, made FROM open_partner WHERE code = $1`, code).Scan(&p.Code, &p.NameEN, &p.NameZH, &made)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoPartner
	}
	if err != nil {
		return Partner{}, fmt.Errorf("partner %q: %w", code, err)
	}
	p.Made = db.Moment(made)
	return p, nil
}

// Partners reads partners by code, from the one after the given.
func Partners(q db.Reader, after string, limit int) (out []Partner, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Partner
		var made int64
		err := scan(&p.Code, &p.NameEN, &p.NameZH, &made)
		p.Made = db.Moment(made)
		out = append(out, p)
		return err
	}, `SELECT code, name_en, name_zh, made FROM open_partner WHERE code > $1 ORDER BY code LIMIT $2`, after, bound(limit))
	return out, err
}

func bound(limit int) int { return min(max(limit, 1), 500) }

// keyHead is how much of a key is kept to tell keys apart.
const keyHead = 12

// KeyText is a key as a partner gets it, once: a mark that secret scanners
// find, and what chance gave, at least 24 bytes of it.
func KeyText(chance []byte) string { return "koala_" + hex.EncodeToString(chance) }

// AddKey keeps a new key's hash. form names the form that asked for it: the
// same form again is refused, because the key cannot be shown again.
func AddKey(tx *db.Tx, k Key, form, text string) (Key, error) {
	if _, err := PartnerOf(tx, k.Partner); err != nil {
		return Key{}, err
	}
	if k.Name == "" || len(k.Name) > MaxName || form == "" || len(form) > MaxName || len(text) < keyHead+36 || len(k.Scopes) == 0 ||
		slices.ContainsFunc(k.Scopes, func(s Scope) bool { return !slices.Contains(Scopes, s) }) {
		return Key{}, fmt.Errorf("key of %s: %w", k.Partner, ErrPartner)
	}
	hash := sha256.Sum256([]byte(text))
	k.ID, k.Head, k.Made = tx.NewID("key"), text[:keyHead], tx.Now()
	n, err := tx.Exec(`INSERT INTO open_key (id, partner, hash, head, name, scopes, form, by_whom, made, used, revoked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0) ON CONFLICT (form) DO NOTHING`,
		k.ID, k.Partner, hash[:], k.Head, k.Name, scopeText(k.Scopes), form, k.By, k.Made.UnixMicro())
	if err == nil && n == 0 {
		err = ErrShown
	}
	return k, err
}

func scopeText(list []Scope) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, " ")
}

// Revoke takes a key back; the next request with it is refused.
func Revoke(tx *db.Tx, partner, id string) error {
	n, err := tx.Exec(`UPDATE open_key SET revoked = CASE WHEN revoked = 0 THEN CAST($3 AS BIGINT) ELSE revoked END WHERE id = $2 AND partner = $1`,
		partner, id, tx.Now().UnixMicro())
	if err == nil && n == 0 {
		err = fmt.Errorf("key %s of %s: %w", id, partner, ErrNoPartner)
	}
	return err
}

const keyColumns = `id, partner, head, name, scopes, by_whom, made, used, revoked`

func scanKey(scan func(...any) error) (k Key, err error) {
	var scopes string
	var made, used, revoked int64
	err = scan(&k.ID, &k.Partner, &k.Head, &k.Name, &scopes, &k.By, &made, &used, &revoked)
	for _, s := range strings.Fields(scopes) {
		k.Scopes = append(k.Scopes, Scope(s))
	}
	k.Made, k.Used, k.Revoked = db.Moment(made), db.Moment(used), db.Moment(revoked)
	return k, err
}

// KeysOf reads a partner's keys, newest first.
func KeysOf(q db.Reader, partner string) (out []Key, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		k, err := scanKey(scan)
		out = append(out, k)
		return err
	}, `SELECT `+keyColumns+` FROM open_key WHERE partner = $1 ORDER BY id DESC`, partner)
	return out, err
}

// keyBy finds the living key that a request brings.
func keyBy(q db.Reader, text string) (Key, error) {
	hash := sha256.Sum256([]byte(text))
	k, err := scanKey(q.QueryRow(`SELECT `+keyColumns+` FROM open_key WHERE hash = $1`, hash[:]).Scan)
	if errors.Is(err, db.ErrNoRows) || err == nil && !k.Revoked.IsZero() {
		err = ErrKey
	}
	return k, err
}

// keepRequest writes a request's row and that its key was used.
func keepRequest(tx *db.Tx, l Logged) error {
	_, err := tx.Exec(`INSERT INTO open_request (id, at, partner, key, method, path, status, code, took, replayed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING`,
		l.ID, tx.Now().UnixMicro(), l.Partner, l.Key, l.Method, l.Path, int64(l.Status), l.Code, l.Took.Microseconds(), l.Replayed)
	if err == nil {
		_, err = tx.Exec(`UPDATE open_key SET used = $2 WHERE id = $1`, l.Key, tx.Now().UnixMicro())
	}
	return err
}

// RequestsOf reads a partner's requests, newest first, from the one before the
// given.
func RequestsOf(q db.Reader, partner, before string, limit int) (out []Logged, err error) {
	if before == "" {
		before = "~" // behind every id
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var l Logged
		var at, took, status int64
		err := scan(&l.ID, &at, &l.Partner, &l.Key, &l.Method, &l.Path, &status, &l.Code, &took, &l.Replayed)
		l.At, l.Took, l.Status = db.Moment(at), time.Duration(took)*time.Microsecond, int(status)
		out = append(out, l)
		return err
	}, `SELECT id, at, partner, key, method, path, status, code, took, replayed FROM open_request
		WHERE partner = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, partner, before, bound(limit))
	return out, err
}

// logTime is how long the log of requests and the consents go back.
const logTime = 30 * 24 * time.Hour

// Forget drops what is too old to be asked for.
func Forget(tx *db.Tx) error {
	before := tx.Now().Add(-logTime).UnixMicro()
	_, err := tx.Exec(`DELETE FROM open_request WHERE at < $1`, before)
	if err == nil {
		_, err = tx.Exec(`DELETE FROM open_consent WHERE made < $1`, before)
	}
	return err
}
