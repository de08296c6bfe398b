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

	"koala/internal/db"
)

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
