package device

import (
	"context"
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

// fit answers an installation of a merchant's terminal; false: it is none.
func (d Deps) fit(w http.ResponseWriter, r *http.Request, id string, proof []byte) (bool, error) {
	if d.Merchants == nil {
		return false, nil
	}
	f, ok, err := d.Merchants.Install(r.Context(), id, proof)
	if !ok || err != nil {
		return ok, err
	}
	out := installation{TID: id, Kind: acquiring.Kind(f.Kind), MID: f.MID, MCC: f.MCC, Names: names{f.NameEN, f.NameZH}, Place: names{f.PlaceEN, f.PlaceZH},
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
