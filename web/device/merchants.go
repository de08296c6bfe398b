package device

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"net/http"

	"koala/acquiring"
	"koala/spec/emv"
)

// Merchants is the house as the terminals of its merchants reach it before they
// have keys of the acquirer's line.
type Merchants interface {
	// Install hands a terminal its keys, once; ok is false when no merchant has
	// such a terminal. proof is nil or shows that its transport key is the last.
	Install(ctx context.Context, tid string, proof []byte) (f Fitting, ok bool, err error)
	// Signers are the Ed25519 public keys under which parameter packs of terminals
	// that speak to the switch are signed, oldest first.
	Signers(ctx context.Context) ([]ed25519.PublicKey, error)
}

// A Fitting is what a merchant's terminal is installed with.
type Fitting struct {
	Kind             string // pos, reader, kiosk
	MID, MCC         string
	NameEN, NameZH   string
	PlaceEN, PlaceZH string
	Packs            []byte // Ed25519 public key of packs
	CA               []emv.CAKey
	Serial           string // KSN of a reader, 20 hexadecimal digits
	Use              string // of its key
	Version          byte
	KCV              [3]byte
	Block            []byte
}

// signers are those of Merchants, as an installation has them.
func (d Deps) signers(ctx context.Context) (out []string, err error) {
	if d.Merchants == nil {
		return nil, nil
	}
	keys, err := d.Merchants.Signers(ctx)
	for _, k := range keys {
		out = append(out, hex.EncodeToString(k))
	}
	return out, err
}

// signedFor is what of them a kind of device is told: a reader has a key for each
// request and loads no pack.
func signedFor(kind acquiring.Kind, signers []string) []string {
	if kind == acquiring.POS || kind == kindKiosk {
		return signers
	}
	return nil
}

// kindKiosk is merchant.Kiosk: this door knows merchants by what they answer.
const kindKiosk acquiring.Kind = "kiosk"

// fit answers an installation of a merchant's terminal; false: it is none.
func (d Deps) fit(w http.ResponseWriter, r *http.Request, id string, proof []byte, signers []string) (bool, error) {
	if d.Merchants == nil {
		return false, nil
	}
	f, ok, err := d.Merchants.Install(r.Context(), id, proof)
	if !ok || err != nil {
		return ok, err
	}
	kind := acquiring.Kind(f.Kind)
	out := installation{Form: installationForm, TID: id, Kind: kind, Signed: signedFor(kind, signers), MID: f.MID, MCC: f.MCC, Names: names{f.NameEN, f.NameZH}, Place: names{f.PlaceEN, f.PlaceZH},
		Packs: hex.EncodeToString(f.Packs), Serial: f.Serial,
		Keys: []keyBlock{{f.Use, f.Version, hex.EncodeToString(f.KCV[:]), hex.EncodeToString(f.Block)}}}
	for _, k := range f.CA {
		out.CA = append(out.CA, caOf(k))
	}
	w.Header().Set("Cache-Control", "no-store")
	return true, writeJSON(w, out)
}

func caOf(k emv.CAKey) ca {
	return ca{hex.EncodeToString(k.RID[:]), k.Index, hex.EncodeToString(k.Modulus), hex.EncodeToString(k.Exponent), hex.EncodeToString(k.Hash[:]), byte(k.Algorithm)}
}
