package app_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"koala/calendar"
	"koala/internal/db"
	"koala/reconcile"
)

func (c colleague) bring(name, text string) int {
	c.o.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	c.o.must(err)
	_, err = part.Write([]byte(text))
	c.o.must(err)
	c.o.must(form.Close())
	r, err := http.NewRequest("POST", c.o.server.URL+"/ops/recon/files", &body)
	c.o.must(err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	code, _ := c.send(r)
	return code
}

// TestFilesByHand: a file that is uploaded waits whole and is taken once; the same
// again is said to be the same; a wrong one is refused with its line, nothing of
// it taken, and may be tried again; who may not change brings nothing.
func TestFilesByHand(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 88_00)
	day := calendar.Of(o.clock.Now(), calendar.Beijing)
	file := sale.Host + "-" + day.String() + ".clr"
	wang, zh := o.as("wang", "en"), o.as("zhao", "zh")
	papers := func() (out map[string]reconcile.Paper) {
		out = map[string]reconcile.Paper{}
		o.read(func(q *db.Query) error {
			list, err := reconcile.Papers(q, 50)
			for _, p := range list {
				out[p.Name] = p
			}
			return err
		})
		return out
	}
	for _, tt := range []struct {
		name, text string
		code       int
		rows       int
	}{{"../x.clr", "", 303, 0}, {"letter.txt", "dear sirs", 303, 0}, {file, "short line\n", 303, 1}, {file, "short line\n", 303, 1}, {"statement-1.csv", "nonsense", 303, 2}} {
		if code := wang.bring(tt.name, tt.text); code != tt.code || len(papers()) != tt.rows {
			t.Errorf("%s: %d, %d rows, want %d", tt.name, code, len(papers()), tt.rows)
		}
	}
	if code := o.as("shen", "en").bring("statement-2.csv", "x"); code != 403 {
		t.Errorf("the auditor uploads: %d", code)
	}
	if p := papers()[file]; p.State != reconcile.PaperWaits || p.Who != "wang" {
		t.Errorf("%+v", p)
	}
	o.must(o.h.Tick(ctx))
	p := papers()[file]
	if p.State != reconcile.PaperRefused || p.Line != 1 || p.Column == 0 || p.Code != "reconcile.format" {
		t.Errorf("%+v", p)
	}
	for c, want := range map[colleague][]string{wang: {"Line 1, column", file, "refused", "Try again"}, zh: {"第 1 行第", "已拒绝", "重试"}} {
		_, body := c.get("/ops/recon/files")
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("the page lacks %s", w)
			}
		}
	}
	wang.post("/ops/recon/files/"+p.Key+"/retry", why(), "")
	if p = papers()[file]; p.State != reconcile.PaperWaits {
		t.Errorf("tried again: %+v", p)
	}
	o.must(o.h.Tick(ctx))
	// The right file of the day, though it is empty, and once more under its name.
	if code := wang.bring(file, ""); code != 303 {
		t.Errorf("the right one: %d", code)
	}
	o.must(o.h.Tick(ctx))
	wang.bring(file, "")
	o.must(os.WriteFile(filepath.Join(o.h.Config.Data, "clearing", "in", file), nil, 0o600))
	o.must(o.h.Tick(ctx))
	o.read(func(q *db.Query) error {
		list, err := reconcile.Papers(q, 50)
		taken := 0
		for _, p := range list {
			if p.State == reconcile.PaperTaken && p.Name == file && p.Who == "wang" {
				taken++
			}
		}
		if taken != 1 || len(list) != 3 {
			t.Errorf("%+v", list)
		}
		o.must(err)
		r, err := reconcile.ReportOf(q, sale.Host, day)
		if r.Differs != 1 {
			t.Errorf("%+v", r)
		}
		return err
	})
}
