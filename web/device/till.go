package device

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"koala/acquiring"
	"koala/spec/desfire"
)

// KindTill is the kind of the tokens of everything that stands in shops and at
// sites: tills, canteen tills, doors, coupon desks.
const KindTill = "till"

// tills adds the addresses of shops' devices.
func (d Deps) tills(m *http.ServeMux) {
	for at, h := range map[string]handler{
		"POST /device/tills/{id}/install":     d.install,
		"POST /device/tills/{id}/sales":       d.sales,
		"POST /device/tills/{id}/doubts":      d.doubts,
		"POST /device/tills/{id}/authorise":   d.authorise,
		"GET /device/tills/{id}/exceptions":   d.exceptions,
		"POST /device/tills/{id}/meals":       d.meals,
		"GET /device/tills/{id}/menu":         d.menu,
		"POST /device/tills/{id}/passages":    d.passages,
		"GET /device/tills/{id}/plan":         d.plan,
		"POST /device/tills/{id}/redemptions": d.redemptions,
	} {
		m.HandleFunc(at, d.guard(KindTill, h))
	}
}

// The answers to hand-overs.
type (
	handed struct {
		Release uint32    `json:"release"`
		Results []result  `json:"results"`
		Missing []missing `json:"missing,omitempty"`
	}
	result struct {
		Number uint32         `json:"number"`
		ID     string         `json:"id"`
		Fate   acquiring.Fate `json:"fate"`
		Why    acquiring.Why  `json:"why,omitempty"`
	}
	missing struct {
		Low  uint32 `json:"low"`
		High uint32 `json:"high"`
	}
)

// writeHanded says up to where the device may forget, and what became of each.
func writeHanded(w http.ResponseWriter, h acquiring.Handed) error {
	out := handed{Release: h.Release, Results: []result{}}
	for _, r := range h.Results {
		out.Results = append(out.Results, result(r))
	}
	for _, g := range h.Missing {
		out.Missing = append(out.Missing, missing{g.Low, g.High})
	}
	return writeJSON(w, out)
}

// body reads a body in a device's own binary form.
func body(r *http.Request, id string) ([]byte, error) {
	raw, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fmt.Errorf("device %s: body over %d bytes: %w", id, large.Limit, ErrBody)
	case err != nil:
		return nil, fmt.Errorf("device %s: %w: %w", id, ErrBody, err)
	}
	return raw, nil
}

// installationForm is the form of the answer to an installation: 2 has signed. An
// answer without a form is of form 1.
const installationForm = 2

// The answer to an installation. Key blocks, public keys and moduli are hexadecimal.
type (
	installation struct {
		Form   int            `json:"form"`
		TID    string         `json:"tid"`
		Kind   acquiring.Kind `json:"kind"`
		MID    string         `json:"mid,omitempty"`
		Names  names          `json:"names"` // of the shop or the site
		Place  names          `json:"place"`
		MCC    string         `json:"mcc,omitempty"`
		Site   uint32         `json:"site,omitempty"`     // of a door
		Holder string         `json:"merchant,omitempty"` // of a coupon till, as cards name it
		Packs  string         `json:"packs"`              // Ed25519 public key of packs
		Signed []string       `json:"signed,omitempty"`   // those of parameter packs, of who speaks to the switch
		Serial string         `json:"ksn,omitempty"`      // of a reader with a key per transaction, its counter 0
		CA     []ca           `json:"ca,omitempty"`
		Keys   []keyBlock     `json:"keys,omitempty"`
	}
	// A keyBlock is a key wrapped under the device's transport key (hsm.Injected).
	keyBlock struct {
		Use     string `json:"use"`
		Version byte   `json:"version"`
		KCV     string `json:"kcv"`
		Block   string `json:"block"`
	}
	names struct {
		EN string `json:"en"`
		ZH string `json:"zh"`
	}
	ca struct {
		RID      string `json:"rid"`
		Index    byte   `json:"index"`
		Modulus  string `json:"modulus"`
		Exponent string `json:"exponent"`
		Hash     string `json:"hash"`
		// 4: SM2, whose modulus is X | Y and which has no exponent; 1 or absent: RSA.
		Algorithm byte `json:"algorithm,omitempty"`
	}
)

// proofOf reads the proof of the transport key, nil where a device sends none.
func proofOf(r *http.Request, id string) ([]byte, error) {
	raw, err := body(r, id)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	var in struct {
		Proof string `json:"proof"`
	}
	err = json.Unmarshal(raw, &in)
	proof, bad := hex.DecodeString(in.Proof)
	if err != nil || bad != nil || len(proof) == 0 {
		return nil, fmt.Errorf("till %s: proof of its transport key: %w", id, ErrBody)
	}
	return proof, nil
}

// install hands the wrapped keys out, once.
func (d Deps) install(w http.ResponseWriter, r *http.Request, id string) error {
	proof, err := proofOf(r, id)
	if err != nil {
		return err
	}
	signers, err := d.signers(r.Context()) // before: once the transport key is used there is no second try
	if err != nil {
		return err
	}
	if done, err := d.fit(w, r, id, proof, signers); done || err != nil {
		return err
	}
	in, err := d.Office.InstallProven(r.Context(), id, proof)
	if err != nil {
		return err
	}
	out := installation{Form: installationForm, TID: id, Kind: in.Device.Kind, Signed: signedFor(in.Device.Kind, signers), MID: in.Device.MID, Place: names{in.Device.PlaceEN, in.Device.PlaceZH},
		Names: names{in.Shop.NameEN, in.Shop.NameZH}, MCC: in.Shop.MCC, Packs: hex.EncodeToString(in.Packs)}
	for _, k := range in.CA {
		out.CA = append(out.CA, caOf(k))
	}
	switch in.Device.Kind {
	case acquiring.Door:
		out.Site, out.Names = in.Site.Number, names{in.Site.NameEN, in.Site.NameZH}
	case acquiring.Coupon:
		merchant := in.Shop.Merchant()
		out.Holder = hex.EncodeToString(merchant[:])
	}
	for _, k := range in.Keys {
		out.Keys = append(out.Keys, keyBlock{string(k.Use), k.Version, hex.EncodeToString(k.KCV[:]), hex.EncodeToString(k.Block)})
	}
	w.Header().Set("Cache-Control", "no-store")
	return writeJSON(w, out)
}

// meals takes a canteen till's batch (desfire.SaleBatch on the wire).
func (d Deps) meals(w http.ResponseWriter, r *http.Request, id string) error {
	raw, err := body(r, id)
	if err != nil {
		return err
	}
	b, err := desfire.ParseSaleBatch(raw)
	if err != nil {
		return fmt.Errorf("till %s: %w: %w", id, ErrBody, err)
	}
	h, err := d.Office.CollectMeals(r.Context(), id, b)
	if err != nil {
		return err
	}
	return writeHanded(w, h)
}

// menu gives the signed menu (desfire.Menu) that is newer than ?have=N.
func (d Deps) menu(w http.ResponseWriter, r *http.Request, id string) error {
	return sendPack(w, r, id, d.Office.MenuPack)
}
