package device

import (
	"encoding/hex"
	"fmt"
	"net/http"

	"koala/acquiring"
	"koala/spec/coupon"
)

// redemptions are what cards proved to a coupon till, with the number of the
// first in the till's row. Each is the wire form of coupon.Redemption,
// hexadecimal.
type redemptions struct {
	First uint32   `json:"first"`
	List  []string `json:"redemptions"`
}

func (d Deps) redemptions(w http.ResponseWriter, r *http.Request, id string) error {
	var in redemptions
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if len(in.List) > acquiring.MaxBatch {
		return fmt.Errorf("%d redemptions of device %s: %w", len(in.List), id, ErrBody)
	}
	list := make([]coupon.Redemption, len(in.List))
	for i, s := range in.List {
		raw, err := hex.DecodeString(s)
		if err == nil {
			list[i], err = coupon.ParseRedemption(raw)
		}
		if err != nil {
			return fmt.Errorf("redemption %d of device %s: %w: %w", i+1, id, ErrBody, err)
		}
	}
	h, err := d.Office.CollectRedemptions(r.Context(), id, in.First, list)
	if err != nil {
		return err
	}
	return writeHanded(w, h)
}
