package device

import (
	"fmt"
	"net/http"

	"koala/spec/desfire"
)

// passages takes what a door saw (desfire.PassageBatch on the wire).
func (d Deps) passages(w http.ResponseWriter, r *http.Request, id string) error {
	raw, err := body(r, id)
	if err != nil {
		return err
	}
	b, err := desfire.ParsePassageBatch(raw)
	if err != nil {
		return fmt.Errorf("door %s: %w: %w", id, ErrBody, err)
	}
	h, err := d.Office.CollectPassages(r.Context(), id, b)
	if err != nil {
		return err
	}
	return writeHanded(w, h)
}

// plan gives the signed plan of the door's site (desfire.Plan) that is newer
// than ?have=N.
func (d Deps) plan(w http.ResponseWriter, r *http.Request, id string) error {
	return sendPack(w, r, id, d.Office.PlanPack)
}
