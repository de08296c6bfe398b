package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed assets vendor
var files embed.FS

// A bundle is every asset under a name that carries its content's hash, so a
// browser may keep it for ever and never shows an old one.
type bundle struct {
	named  map[string]string // "app.css" → "app.1a2b3c4d.css"
	served map[string]asset
}

type asset struct {
	kind       string // Content-Type
	body, gzip []byte
}

// shared is the one bundle of the program: the files are the program's.
var shared = sync.OnceValue(loadBundle)

func loadBundle() *bundle {
	b := &bundle{named: map[string]string{}, served: map[string]asset{}}
	for _, dir := range []string{"vendor", "assets"} {
		entries, err := fs.ReadDir(files, dir)
		if err != nil {
			panic(err) // embedded: present or the program would not have compiled
		}
		for _, e := range entries {
			body, err := files.ReadFile(path.Join(dir, e.Name()))
			if err != nil {
				panic(err)
			}
			b.add(e.Name(), body)
		}
	}
	return b
}

func (b *bundle) add(name string, body []byte) {
	sum, ext := sha256.Sum256(body), path.Ext(name)
	if ext == "" || ext == ".LICENSE" {
		return
	}
	hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:5]) + ext
	var packed bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if _, err := zw.Write(body); err != nil {
		panic(err) // memory only
	}
	if err := zw.Close(); err != nil {
		panic(err)
	}
	b.named[name] = hashed
	b.served[hashed] = asset{kind: mime.TypeByExtension(ext), body: body, gzip: packed.Bytes()}
}

// path is the address of an embedded file; an unknown name is a defect.
func (b *bundle) path(name string) string {
	hashed, ok := b.named[name]
	if !ok {
		panic("web: no asset " + name)
	}
	return "/assets/" + hashed
}

func (k *Kit) asset(w http.ResponseWriter, r *http.Request) error {
	a, ok := shared().served[r.PathValue("name")]
	if !ok {
		return ErrNoPage
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		_, _ = w.Write(a.gzip)
		return nil
	}
	_, _ = w.Write(a.body)
	return nil
}
