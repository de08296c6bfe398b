package hsm

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
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

// The key file: a line of words, the key, and a check of the file itself.
const (
	fileHead  = "koala key file 1: keep it secret, and back it up apart from the data"
	fileKey   = "key "
	fileCheck = "check "
	masterLen = 32
)

// unlock reads the key file, or makes it for an empty database, and compares it
// with what the database remembers of it.
func (h *HSM) unlock(ctx context.Context, file string) error {
	known, err := h.knownMaster(ctx)
	if err != nil {
		return err
	}
	master, err := readKeyFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && known != nil:
		return ErrNoKeyFile
	case errors.Is(err, fs.ErrNotExist):
		if master, err = h.makeKeyFile(ctx, file); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	defer clear(master)
	h.master = newSealer(master)
	mark := masterMark(master)
	if known == nil {
		return h.rememberMaster(ctx, mark)
	}
	if subtle.ConstantTimeCompare(known, mark) != 1 {
		return ErrWrongFile
	}
	return nil
}

// masterMark tells one master key from another without telling it.
func masterMark(master []byte) []byte {
	sum := sha256.Sum256(append([]byte("koala master key of a database: "), master...))
	return sum[:8]
}

func fileMark(master []byte) string {
	sum := sha256.Sum256(append([]byte("koala key file: "), master...))
	return hex.EncodeToString(sum[:6])
}

func readKeyFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a file", ErrKeyFile)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("mode %o: %w", info.Mode().Perm(), ErrOpenFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return parseKeyFile(string(text))
}

func parseKeyFile(text string) ([]byte, error) {
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	if len(lines) != 3 || strings.TrimRight(lines[0], "\r") != fileHead {
		return nil, fmt.Errorf("%w: it does not begin with %q and go on for three lines", ErrKeyFile, fileHead)
	}
	word, isKey := strings.CutPrefix(strings.TrimRight(lines[1], "\r"), fileKey)
	check, isCheck := strings.CutPrefix(strings.TrimRight(lines[2], "\r"), fileCheck)
	if !isKey || !isCheck {
		return nil, fmt.Errorf("%w: line 2 is not %q or line 3 not %q", ErrKeyFile, fileKey, fileCheck)
	}
	master, err := base64.StdEncoding.Strict().DecodeString(word)
	if err != nil || len(master) != masterLen {
		return nil, fmt.Errorf("%w: the key in line 2 is damaged", ErrKeyFile)
	}
	if subtle.ConstantTimeCompare([]byte(check), []byte(fileMark(master))) != 1 {
		return nil, fmt.Errorf("%w: the key does not match its check value", ErrKeyFile)
	}
	return master, nil
}

func keyFileText(master []byte) string {
	return fileHead + "\n" + fileKey + base64.StdEncoding.EncodeToString(master) + "\n" + fileCheck + fileMark(master) + "\n"
}

// makeKeyFile never writes over a file, and returns only when the key is on
// the disk: what is sealed next depends on it.
func (h *HSM) makeKeyFile(ctx context.Context, file string) (master []byte, err error) {
	master = make([]byte, masterLen)
	if err := h.Random(ctx, master); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	_, err = f.WriteString(keyFileText(master))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		// A half-written file would stand in the way of the next start.
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrKeyFile, err), os.Remove(file))
	}
	return master, nil
}

func (h *HSM) knownMaster(ctx context.Context) (mark []byte, err error) {
	err = h.store.Read(ctx, func(q *db.Query) (err error) {
		mark, err = readMark(q)
		return err
	})
	return mark, err
}

func (h *HSM) rememberMaster(ctx context.Context, mark []byte) error {
	return h.store.Write(ctx, func(tx *db.Tx) error { return keepMark(tx, mark) })
}
