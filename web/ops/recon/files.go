package recon

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"koala/internal/db"
	"koala/reconcile"
	"koala/web"
	"koala/web/ops/shell"
)

const atFiles = here + "/files"

// A filesView is what came, and what is being taken.
type filesView struct {
	table   web.Table
	acts    []shell.Question
	reading reconcile.Reading
	waits   bool
}

var paperTones = map[reconcile.PaperState]web.Tone{reconcile.PaperWaits: web.Info, reconcile.PaperTaken: web.Good, reconcile.PaperRefused: web.Bad}

// retried is how many refused files the page offers to try again.
const retried = 20

// files lists the files that came, newest first.
func (d Deps) files(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var list []reconcile.Paper
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) { list, err = reconcile.Papers(q, 200); return err })
	if err != nil {
		return fmt.Errorf("files that came: %w", err)
	}
	v := filesView{reading: d.Inbox.Reading(), table: web.Table{ID: "files", Empty: words.NoFiles,
		Head: []web.Column{{Name: words.File, Wide: true}, {Name: words.State}, {Name: words.Refusal, Wide: true}, {Name: words.Bytes, Num: true}, {Name: words.By}, {Name: words.At, Num: true}}}}
	for _, p := range list {
		why := shell.None()
		if p.State == reconcile.PaperRefused {
			why = web.Plain(refusal(p).In(ctx))
			if len(v.acts) < retried {
				v.acts = append(v.acts, shell.Question{ID: "retry-" + p.Key[:12], Action: atFiles + "/" + p.Key + "/retry", Open: web.Text{ZH: words.Retry.ZH + " " + p.Name, EN: words.Retry.EN + " " + p.Name}, Body: words.RetryBody, Icon: "rotate-ccw"})
			}
		}
		by := web.Same(p.Who)
		if p.Who == reconcile.FromFolder {
			by = words.Folder
		}
		v.waits = v.waits || p.State == reconcile.PaperWaits
		v.table.Rows = append(v.table.Rows, web.Row{Cells: []web.Cell{web.Mono(p.Name), web.Status(ctx, paperTones[p.State], shell.Both(p.State.Words)), why, web.Count(p.Size), web.Plain(by.In(ctx)), shell.At(p.Changed)}})
	}
	v.waits = v.waits || v.reading.Name != ""
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.table)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, filesPage(v))
}

// refusal says why a file was refused, and where.
func refusal(p reconcile.Paper) web.Text {
	t := web.FailureText(p.Code, p.Code)
	switch {
	case p.Column > 0:
		at := words.LineColumn.F(p.Line, p.Column)
		return web.Text{ZH: at.ZH + t.ZH + " " + p.Need, EN: at.EN + p.Need}
	case p.Line > 0:
		at := words.OnlyLine.F(p.Line)
		return web.Text{ZH: at.ZH + t.ZH + " " + p.Need, EN: at.EN + p.Need}
	}
	return t
}

// upload takes a file by hand as it comes: nothing of it is held in memory, and
// nothing is read of it before it is whole.
func (d Deps) upload(w http.ResponseWriter, r *http.Request) error {
	u, _ := web.Who(r.Context())
	parts, err := r.MultipartReader()
	if err != nil {
		return fmt.Errorf("upload: %w: %w", shell.ErrForm, err)
	}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("upload without a file: %w", shell.ErrForm)
		}
		if err != nil {
			return fmt.Errorf("upload: %w: %w", shell.ErrForm, err)
		}
		if part.FormName() != "file" {
			continue
		}
		name := part.FileName()
		_, err = d.Inbox.Put(r.Context(), name, u.Name, part, func(tx *db.Tx) error {
			return shell.Keep(tx, r, shell.Deed{Act: shell.ActFile, Target: atFiles, What: name, Why: name})
		})
		switch {
		case errors.Is(err, reconcile.ErrName), errors.Is(err, reconcile.ErrLarge):
			return d.says(w, r, err)
		case err != nil:
			return shell.Sorry(w, r, atFiles, err)
		}
		return shell.Done(w, r, atFiles, words.Uploaded)
	}
}

// says leads back with what is wrong with a file.
func (d Deps) says(w http.ResponseWriter, r *http.Request, err error) error {
	code := "reconcile.name"
	if errors.Is(err, reconcile.ErrLarge) {
		code = "reconcile.file_large"
	}
	return web.Redirect(w, r, atFiles, web.Toast{Tone: web.Bad, Text: web.FailureText(code, err.Error()).In(r.Context())})
}

// retry has a refused file tried again.
func (d Deps) retry(w http.ResponseWriter, r *http.Request) error {
	key := r.PathValue("key")
	u, _ := web.Who(r.Context())
	return d.Desk.Change(w, r, atFiles, words.WillRetry, shell.Deed{Act: shell.ActFile, Target: atFiles, What: key}, func(tx *db.Tx) error { return d.Inbox.Retry(tx, key, u.Name) })
}

// every is when the list reads itself again: soon, while something waits.
func every(waits bool) string {
	if waits {
		return "every 2s"
	}
	return "every 30s"
}

func percent(r reconcile.Reading) int {
	if r.Size == 0 {
		return 100
	}
	return int(min(r.Read*100/r.Size, 100))
}

func percentText(r reconcile.Reading) string { return fmt.Sprint(percent(r)) }
