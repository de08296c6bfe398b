package device

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"

	"koala/acquiring"
	"koala/spec/desfire"
	"koala/spec/pboc"
)

// sales takes a till's batch (pboc.ClearingBatch on the wire).
func (d Deps) sales(w http.ResponseWriter, r *http.Request, id string) error {
	raw, err := body(r, id)
	if err != nil {
		return err
	}
	b, err := pboc.ParseClearingBatch(raw)
	if err != nil {
		return fmt.Errorf("till %s: %w: %w", id, ErrBody, err)
	}
	if b.TID != id {
		return fmt.Errorf("till %s sent a batch of %s: %w", id, b.TID, ErrBody)
	}
	h, err := d.Office.CollectSales(r.Context(), id, b)
	if err != nil {
		return err
	}
	return writeHanded(w, h)
}

// The bodies around sales without a known end.
type (
	doubt struct {
		Record string `json:"record"` // wire form of pboc.Clearing, base64
		Sale   string `json:"sale"`   // instead, of a canteen's till: desfire.Sale as it was begun, MAC zero, base64
		Paid   bool   `json:"paid"`   // the card's log shows it
	}
	doubtCase struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
)

// doubts keeps what a till is not sure of, each as a case of the desk.
func (d Deps) doubts(w http.ResponseWriter, r *http.Request, id string) error {
	var in []doubt
	if err := readJSON(r, &in); err != nil {
		return err
	}
	out := []doubtCase{}
	for i, x := range in {
		k, err := d.keepDoubt(r, id, x)
		if err != nil {
			return fmt.Errorf("doubt %d of till %s: %w", i+1, id, err)
		}
		if k.ID == "" { // of a card that is not the house's: put aside
			k.State = acquiring.DoubtState(acquiring.Odd)
		}
		out = append(out, doubtCase{k.ID, string(k.State)})
	}
	return writeJSON(w, out)
}

func (d Deps) keepDoubt(r *http.Request, id string, x doubt) (acquiring.Doubt, error) {
	if x.Sale != "" {
		raw, err := base64.StdEncoding.DecodeString(x.Sale)
		if err != nil {
			return acquiring.Doubt{}, fmt.Errorf("%w: %w", ErrBody, err)
		}
		s, err := desfire.ParseSale(raw)
		if err != nil {
			return acquiring.Doubt{}, fmt.Errorf("%w: %w", ErrBody, err)
		}
		return d.Office.KeepMealDoubt(r.Context(), id, s)
	}
	raw, err := base64.StdEncoding.DecodeString(x.Record)
	if err != nil {
		return acquiring.Doubt{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	c, err := pboc.ParseClearing(raw)
	if err != nil {
		return acquiring.Doubt{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	return d.Office.KeepDoubt(r.Context(), id, c, x.Paid)
}

// An answer to an online request: response code, reason, and the data objects
// for the card, hexadecimal.
type answer struct {
	ID  string `json:"id,omitempty"`
	ARC string `json:"arc"`
	Why string `json:"why,omitempty"`
	EMV string `json:"emv,omitempty"`
}

// authorise answers a till's online request: data objects as in field 55.
func (d Deps) authorise(w http.ResponseWriter, r *http.Request, id string) error {
	raw, err := body(r, id)
	if err != nil {
		return err
	}
	a, err := d.Office.Authorise(r.Context(), id, raw)
	if err != nil {
		return err
	}
	return writeJSON(w, answer{a.ID, a.ARC, string(a.Why), hex.EncodeToString(a.EMV)})
}

// exceptions gives the signed delta of the exception list that follows ?have=N.
func (d Deps) exceptions(w http.ResponseWriter, r *http.Request, id string) error {
	return sendPack(w, r, id, d.Office.ExceptionPack)
}
