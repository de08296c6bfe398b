package home

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"koala/internal/openkey"
	"koala/web"
)

// Keys gives the public keys of the house. A page of them needs no login: they
// are for whoever has a paper of the house and does not ask it.
type Keys func(ctx context.Context) (openkey.Book, error)

func (d Deps) keyPages(m *web.Mux) {
	m.Handle("GET /keys", d.keys)
	m.Handle("GET /keys.json", d.keysJSON)
	m.Handle("GET /keys/{file}", d.keyFile)
}

func (d Deps) keys(w http.ResponseWriter, r *http.Request) error {
	book, err := d.Keys(r.Context())
	if err != nil {
		return fmt.Errorf("public keys: %w", err)
	}
	t := web.Table{ID: "keys", NoCSV: true, Empty: words.KeysNone, Head: []web.Column{{Name: words.KeyID}, {Name: words.KeyUse}, {Name: words.KeyHex, Wide: true}, {Name: words.KeyFile}}}
	for _, k := range book {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{{Text: k.ID, Mono: true}, {Text: keyUses[k.Use].In(r.Context())},
			{Text: fmt.Sprintf("%x", []byte(k.Public)), Mono: true}, {Show: fileLink("/keys/"+k.ID+".pem", k.ID+".pem")}}})
	}
	return d.Kit.Page(w, r, web.Page{Title: words.Keys, Lead: words.KeysLead, Back: "/"}, keysPage(t))
}

// keyUses says what each key signs.
var keyUses = map[openkey.Use]web.Text{
	openkey.Bills:    {ZH: "商户账单", EN: "bills of shops"},
	openkey.OldBills: {ZH: "商户账单（换专用密钥之前）", EN: "bills of shops, before these had a key of their own"},
	openkey.Slips:    {ZH: "签购单", EN: "slips of sales"},
	openkey.Packs:    {ZH: "商户终端的参数包", EN: "parameter packs of shop terminals"},
}

func (d Deps) keysJSON(w http.ResponseWriter, r *http.Request) error {
	book, err := d.Keys(r.Context())
	if err != nil {
		return fmt.Errorf("public keys: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(book.JSON()) // the reader hung up: nothing is left to tell it
	return nil
}

func (d Deps) keyFile(w http.ResponseWriter, r *http.Request) error {
	book, err := d.Keys(r.Context())
	if err != nil {
		return fmt.Errorf("public keys: %w", err)
	}
	id, _ := strings.CutSuffix(r.PathValue("file"), ".pem")
	for _, k := range book {
		if k.ID == id && r.PathValue("file") == id+".pem" {
			w.Header().Set("Content-Type", "application/x-pem-file")
			w.Header().Set("Content-Disposition", `attachment; filename="`+id+`.pem"`)
			_, _ = w.Write(k.PEM()) // the reader hung up: nothing is left to tell it
			return nil
		}
	}
	return web.ErrNoPage
}

// opensslCheck checks a bill with what every system has.
const opensslCheck = `openssl dgst -sha256 bill-2016-09-06.csv
head -n 8 bill-2016-09-06.csv.sig > message
sed -n 's/^signature: //p' bill-2016-09-06.csv.sig | openssl base64 -d -A > signature
openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in message -sigfile signature`
