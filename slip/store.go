package slip

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// Schema is what this package keeps. Rows are never changed, but that the
// cardholder's signature is added once.
var Schema = db.Schema{Owner: "slip", Steps: []string{
	`CREATE TABLE slip (
		rrn TEXT PRIMARY KEY,
		tid TEXT NOT NULL, number BIGINT NOT NULL,      -- of the terminal's slips
		batch BIGINT NOT NULL, day TEXT NOT NULL, tail TEXT NOT NULL, fen BIGINT NOT NULL,
		body BYTEA NOT NULL, hash BYTEA NOT NULL, signature BYTEA NOT NULL,
		picture BYTEA NOT NULL, picture_key TEXT NOT NULL, picture_sig BYTEA NOT NULL, -- empty: not signed by hand
		at BIGINT NOT NULL) /*without rowid*/;
	CREATE UNIQUE INDEX slip_number ON slip (tid, number);
	CREATE INDEX slip_day ON slip (tid, day);
	CREATE TABLE slip_chain (tid TEXT PRIMARY KEY, number BIGINT NOT NULL, hash BYTEA NOT NULL) /*without rowid*/; -- last of each
	CREATE TABLE slip_mark (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL);                  -- last event that was looked at
	INSERT INTO slip_mark (id, seq) VALUES (1, 0)`,
}}

const columns = `rrn, tid, number, batch, day, tail, fen, body, hash, signature, picture, picture_key, picture_sig, at`

func (k *Kept) row() []any {
	return []any{k.RRN, k.TID, k.Number, k.Batch, dayOf(k.At), k.Tail(), k.Amount.Minor(), k.Bytes, k.Hash[:], k.Signature, []byte{}, "", []byte{}, k.Written.UnixMicro()}
}

// kept reads slips. A body that does not read is an error of the row's, and of
// nothing else: Prove names it.
func kept(q db.Reader, where string, args ...any) (out []Kept, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var k Kept
		var rrn, tid, day, tail, pictureKey string
		var number, batch, fen, at int64
		var hash, picture, pictureSig []byte
		err := scan(&rrn, &tid, &number, &batch, &day, &tail, &fen, &k.Bytes, &hash, &k.Signature, &picture, &pictureKey, &pictureSig, &at)
		if err != nil {
			return err
		}
		var flaw error
		k.Slip, flaw = Parse(k.Bytes)
		k.misfiled = flaw != nil || k.RRN != rrn || k.TID != tid || k.Number != number || k.Tail() != tail ||
			k.Amount.Minor() != fen || dayOf(k.At) != day || int64(k.Batch) != batch
		k.RRN, k.TID, k.Number = rrn, tid, number
		copy(k.Hash[:], hash)
		copy(k.Signed.Picture[:], picture)
		k.Signed.Key, k.Signed.Signature, k.Written = pictureKey, pictureSig, db.Moment(at)
		out = append(out, k)
		return nil
	}, `SELECT `+columns+` FROM slip WHERE `+where, args...)
	return out, err
}

// OfSale reads the slip of a transaction by its reference number.
func OfSale(q db.Reader, rrn string) (Kept, error) {
	list, err := kept(q, `rrn = $1`, rrn)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("slip of %.20q: %w", rrn, ErrNotFound)
	}
	if err != nil {
		return Kept{}, err
	}
	return list[0], nil
}

// ByID reads a slip by its id.
func ByID(q db.Reader, id string) (Kept, error) {
	rrn, _, _ := strings.Cut(id, "-")
	k, err := OfSale(q, rrn)
	if err == nil && k.ID() != id {
		err = fmt.Errorf("slip %.40q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Kept{}, err
	}
	return k, nil
}

// maxFound bounds what one look-up gives.
const maxFound = 20

// Find looks a slip up by what its holder reads on it or knows: the terminal's
// number, the day in Beijing, the amount, and the card's last four digits. All
// four must be right.
func Find(q db.Reader, tid string, day calendar.Date, amount money.Amount, tail string) ([]Kept, error) {
	return kept(q, `tid = $1 AND day = $2 AND fen = $3 AND tail = $4 ORDER BY number LIMIT $5`, tid, day.String(), amount.Minor(), tail, maxFound)
}

// chainOf is the last slip of a terminal: its number, 0 for none, and its hash.
func chainOf(q db.Reader, tid string) (number int64, hash [32]byte, err error) {
	var last []byte
	err = q.QueryRow(`SELECT number, hash FROM slip_chain WHERE tid = $1`, tid).Scan(&number, &last)
	copy(hash[:], last)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return number, hash, err
}

func mark(q db.Reader) (seq int64, err error) {
	err = q.QueryRow(`SELECT seq FROM slip_mark WHERE id = 1`).Scan(&seq)
	return seq, err
}

func appendSignature(body, signature []byte) []byte {
	return fmt.Appendf(body, "signature: %s\n", base64.StdEncoding.EncodeToString(signature))
}
