package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"koala/spec/purse"
)

// Terminals is what gates and buses need of the house.
type Terminals interface {
	// Collect takes a batch in whatever state the books are: debits known
	// before change nothing. It returns the number up to which the terminal
	// may release its store.
	Collect(ctx context.Context, terminal string, batch purse.Batch) (release uint32, err error)
	// TariffPack is the signed tariff of the terminal when it is newer than
	// have; nil when there is nothing newer.
	TariffPack(ctx context.Context, terminal string, have uint32) ([]byte, error)
	// DenyPack is the signed delta that follows deny list version have; nil
	// when there is nothing newer.
	DenyPack(ctx context.Context, terminal string, have uint32) ([]byte, error)
}

// debits takes a batch (purse.Batch on the wire) and answers the number up to
// which the terminal may release its store, as {"release": 42}.
func (d Deps) debits(w http.ResponseWriter, r *http.Request, id string) error {
	raw, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fmt.Errorf("batch over %d bytes: %w", large.Limit, ErrBody)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	batch, err := purse.ParseBatch(raw)
	if err != nil {
		return fmt.Errorf("terminal %s: %w: %w", id, ErrBody, err)
	}
	if err := whole(batch); err != nil {
		return fmt.Errorf("terminal %s: %w", id, err)
	}
	release, err := d.Terminals.Collect(r.Context(), id, batch)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]uint32{"release": release})
}

// whole refuses a batch of which only a part could be taken: debits are booked
// one by one, and a refusal in the middle would come again for ever.
func whole(b purse.Batch) error {
	n := len(b.Debits)
	if n > 0 && (b.First == 0 || uint64(b.First)+uint64(n) > 1<<32) {
		return fmt.Errorf("%d debits from number %d: %w", n, b.First, ErrBody)
	}
	for i, d := range b.Debits {
		if d.Terminal != b.Terminal {
			return fmt.Errorf("number %d is of terminal %s: %w", b.First+uint32(i), d.Terminal, ErrBody)
		}
	}
	return nil
}

func (d Deps) tariff(w http.ResponseWriter, r *http.Request, id string) error {
	return sendPack(w, r, id, d.Terminals.TariffPack)
}

func (d Deps) deny(w http.ResponseWriter, r *http.Request, id string) error {
	return sendPack(w, r, id, d.Terminals.DenyPack)
}

// sendPack answers 204 when the terminal has the newest version (?have=N).
func sendPack(w http.ResponseWriter, r *http.Request, id string, pack func(context.Context, string, uint32) ([]byte, error)) error {
	have, err := strconv.ParseUint(r.FormValue("have"), 10, 32)
	if err != nil && r.FormValue("have") != "" {
		return fmt.Errorf("have=%q is not a version: %w", r.FormValue("have"), ErrBody)
	}
	b, err := pack(r.Context(), id, uint32(have))
	if err != nil {
		return err
	}
	if len(b) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = w.Write(b)
	return err
}
