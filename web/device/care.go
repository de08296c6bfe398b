package device

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"koala/activity"
	"koala/customer"
	"koala/firmware"
	"koala/internal/db"
	"koala/tsm"
)

// What a band tells and asks about itself, not about its cards.
type (
	outcome struct {
		Version uint32           `json:"version"`
		Outcome firmware.Outcome `json:"outcome"`
	}
	hour struct {
		Start  time.Time `json:"start"`
		Steps  int64     `json:"steps"`
		Asleep int64     `json:"asleep"`
	}
)

// release offers a band the newest signed release that is meant for it: 200
// with its bytes, 204 when there is none.
func (d Deps) release(w http.ResponseWriter, r *http.Request, id string) error {
	have, err := strconv.ParseUint(r.URL.Query().Get("have"), 10, 32)
	if err != nil {
		return fmt.Errorf("have: %w", ErrBody)
	}
	var signed []byte
	err = d.Store.Read(r.Context(), func(q *db.Query) (err error) {
		signed, err = firmware.Offer(q, id, uint32(have))
		return err
	})
	if err != nil {
		return err
	}
	if signed == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = w.Write(signed)
	return err
}

// outcome keeps what became of a release.
func (d Deps) outcome(w http.ResponseWriter, r *http.Request, id string) error {
	var in outcome
	if err := readJSON(r, &in); err != nil {
		return err
	}
	err := d.Store.Write(r.Context(), func(tx *db.Tx) error { return firmware.Tell(tx, id, in.Version, in.Outcome) })
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// activity keeps what the band counted in its owner's account.
func (d Deps) activity(w http.ResponseWriter, r *http.Request, id string) error {
	var in []hour
	if err := readJSON(r, &in); err != nil {
		return err
	}
	hours := make([]activity.Hour, len(in))
	for i, h := range in {
		hours[i] = activity.Hour(h)
	}
	err := d.Store.Write(r.Context(), func(tx *db.Tx) error {
		b, err := tsm.BandOf(tx, id)
		if err != nil {
			return err
		}
		return activity.Keep(tx, customer.ID(b.Owner), hours)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
