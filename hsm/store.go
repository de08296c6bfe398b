package hsm

import (
	"errors"
	"time"

	"koala/internal/db"
)

var schema = db.Schema{Owner: "hsm", Steps: []string{
	`CREATE TABLE hsm_master (id BIGINT PRIMARY KEY, mark BYTEA NOT NULL);
	CREATE TABLE hsm_key (
		label TEXT NOT NULL, version BIGINT NOT NULL, usage TEXT NOT NULL,
		sealed BYTEA NOT NULL, kcv BYTEA NOT NULL, at BIGINT NOT NULL,
		PRIMARY KEY (label, version))`,
	// Card keys made ahead. A row that was taken stays: it is why no key goes
	// into two cards.
	`CREATE TABLE hsm_icc (
		id TEXT PRIMARY KEY, sealed BYTEA NOT NULL, taken TEXT NOT NULL, at BIGINT NOT NULL);
	CREATE INDEX hsm_icc_taken ON hsm_icc (taken, id)`,
}}

// readMark returns the mark of the key file the keys are sealed under, nil
// before the first start.
func readMark(q *db.Query) (mark []byte, err error) {
	err = q.QueryRow(`SELECT mark FROM hsm_master WHERE id = 1`).Scan(&mark)
	if errors.Is(err, db.ErrNoRows) {
		return nil, nil
	}
	return mark, err
}

func keepMark(tx *db.Tx, mark []byte) error {
	_, err := tx.Exec(`INSERT INTO hsm_master (id, mark) VALUES (1, $1)`, mark)
	return err
}

// A sealedKey is a row of hsm_key.
type sealedKey struct {
	info   KeyInfo
	sealed []byte
}

func readKeys(q *db.Query) (list []sealedKey, err error) {
	rows, err := q.Rows(`SELECT label, version, usage, sealed, kcv, at FROM hsm_key ORDER BY label, version`)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var k sealedKey
		var at int64
		if err := rows.Scan(&k.info.Label, &k.info.Version, &k.info.Usage, &k.sealed, &k.info.KCV, &at); err != nil {
			return nil, err
		}
		k.info.At = time.UnixMicro(at).UTC()
		list = append(list, k)
	}
	return list, rows.Err()
}

// newestRow is version 0 for a label without keys.
func newestRow(tx *db.Tx, label string) (version byte, usage Usage, err error) {
	err = tx.QueryRow(`SELECT version, usage FROM hsm_key WHERE label = $1 ORDER BY version DESC LIMIT 1`, label).
		Scan(&version, &usage)
	if errors.Is(err, db.ErrNoRows) {
		return 0, "", nil
	}
	return version, usage, err
}

func keepKey(tx *db.Tx, k sealedKey) error {
	_, err := tx.Exec(`INSERT INTO hsm_key (label, version, usage, sealed, kcv, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		k.info.Label, k.info.Version, k.info.Usage, k.sealed, k.info.KCV[:], k.info.At.UnixMicro())
	return err
}

// An iccRow is a row of hsm_icc.
type iccRow struct {
	id     string
	sealed []byte
}

func keepICC(tx *db.Tx, id string, sealed []byte) error {
	_, err := tx.Exec(`INSERT INTO hsm_icc (id, sealed, taken, at) VALUES ($1, $2, '', 0)`, id, sealed)
	return err
}

// takeICC finds the key taken under ref, or takes the oldest; none is no id.
func takeICC(tx *db.Tx, ref string) (r iccRow, err error) {
	if ref == "" {
		return r, ErrUsage
	}
	for _, taken := range []string{ref, ""} {
		err = tx.QueryRow(`SELECT id, sealed FROM hsm_icc WHERE taken = $1 ORDER BY id LIMIT 1`, taken).Scan(&r.id, &r.sealed)
		if err == nil {
			break
		}
		if !errors.Is(err, db.ErrNoRows) {
			return r, err
		}
	}
	if err != nil {
		return iccRow{}, nil
	}
	_, err = tx.Exec(`UPDATE hsm_icc SET taken = $2, at = $3 WHERE id = $1 AND taken = ''`, r.id, ref, tx.Now().UnixMicro())
	return r, err
}

// takenICC finds the key taken under ref; none is no id.
func takenICC(tx *db.Tx, ref string) (r iccRow, err error) {
	err = tx.QueryRow(`SELECT id, sealed FROM hsm_icc WHERE taken = $1 ORDER BY id LIMIT 1`, ref).Scan(&r.id, &r.sealed)
	if errors.Is(err, db.ErrNoRows) {
		return iccRow{}, nil
	}
	return r, err
}

// keepTaken keeps a key that was made for ref.
func keepTaken(tx *db.Tx, r iccRow, ref string) error {
	_, err := tx.Exec(`INSERT INTO hsm_icc (id, sealed, taken, at) VALUES ($1, $2, $3, $4)`, r.id, r.sealed, ref, tx.Now().UnixMicro())
	return err
}

func readICC(q *db.Query, id string) (r iccRow, err error) {
	err = q.QueryRow(`SELECT id, sealed FROM hsm_icc WHERE id = $1 AND taken <> ''`, id).Scan(&r.id, &r.sealed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoKey
	}
	return r, err
}
