package merchants

import (
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"

	"koala/internal/db"
	"koala/merchant"
	"koala/web"
	trading "koala/web/merchant/shell"
	"koala/web/ops/shell"
)

const atWishes = here + "/wishes"

// A wishesView is what shops ask for.
type wishesView struct {
	open, done web.Table
	acts       []shell.Question
}

// wishes lists terminals that shops want stopped.
func (d Deps) wishes(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var open, done []merchant.Wish
	names := map[string]web.Text{}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if open, err = merchant.Wishes(q, false, shell.Rows); err == nil {
			done, err = merchant.Wishes(q, true, shell.Rows)
		}
		for _, x := range slices.Concat(open, done) {
			if _, ok := names[x.Shop]; ok || err != nil {
				continue
			}
			var s merchant.Shop
			s, err = merchant.ShopOf(q, x.Shop)
			names[x.Shop] = shopName(s)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wishes of shops: %w", err)
	}
	now := d.Desk.Store.Now()
	v := wishesView{open: web.Table{ID: "wishes", NoCSV: true, Empty: words.NoWishes, Head: []web.Column{{Name: words.Terminal}, {Name: words.Shop, Wide: true}, {Name: words.By}, {Name: words.Waits, Num: true}}},
		done: web.Table{ID: "answered", NoCSV: true, Empty: words.NoAnswers, Head: []web.Column{{Name: words.Terminal}, {Name: words.Shop}, {Name: words.Result}, {Name: words.Reason, Wide: true}, {Name: words.By}, {Name: words.Since, Num: true}}}}
	for i, x := range open {
		v.open.Rows = append(v.open.Rows, web.Row{Href: "/ops/terminals/" + x.TID, Cells: []web.Cell{web.Mono(x.TID), web.Plain(names[x.Shop].In(ctx)), web.Plain(x.By), shell.Short(shell.Ago(now, x.At).In(ctx))}})
		if i < mostActs {
			at := atWishes + "/" + x.TID
			v.acts = append(v.acts, shell.Question{ID: "ask-stop-" + x.TID, Action: at + "/stop", Open: words.StopIt.F(x.TID), Body: words.StopBody, Icon: "pause", Danger: true, Receiver: names[x.Shop].In(ctx), About: words.Shop},
				shell.Question{ID: "ask-keep-" + x.TID, Action: at + "/keep", Open: words.KeepIt.F(x.TID), Body: words.KeepBody, Icon: "x", Receiver: names[x.Shop].In(ctx), About: words.Shop})
		}
	}
	for _, x := range done {
		result := web.Status(ctx, web.Neutral, words.WishDeclined)
		if x.Granted {
			result = web.Status(ctx, web.Good, words.WishGranted)
		}
		v.done.Rows = append(v.done.Rows, web.Row{Href: "/ops/terminals/" + x.TID, Cells: []web.Cell{web.Mono(x.TID), web.Plain(names[x.Shop].In(ctx)), result, shell.Written(x.Why), web.Plain(x.Decider), shell.At(x.Answered)}})
	}
	return d.Desk.Show(w, r, page(), wishesPage(v))
}

// answer stops a terminal as its shop wishes, or not.
func (d Deps) answer(w http.ResponseWriter, r *http.Request) error {
	tid, act := r.PathValue("tid"), r.PathValue("act")
	if act != "stop" && act != "keep" {
		return fmt.Errorf("act %q on a wish: %w", act, web.ErrNoPage)
	}
	u, _ := web.Who(r.Context())
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, atWishes, err)
	}
	return d.Desk.Change(w, r, atWishes, words.Answered, shell.Deed{Act: shell.ActWish, Target: "/ops/terminals/" + tid, What: tid + ": " + act}, func(tx *db.Tx) error {
		d.Switch.Forget(tx, tid)
		return merchant.AnswerStop(tx, tid, act == "stop", u.Name, reason)
	})
}

// look opens a document of an applicant for who says why; the look is in the
// trail before the document is shown.
func (d Deps) look(w http.ResponseWriter, r *http.Request) error {
	ctx, id, hash := r.Context(), r.PathValue("id"), r.PathValue("hash")
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, here+"/"+id, err)
	}
	var media string
	var sealed []byte
	kind := merchant.DocKind("")
	err = d.Desk.Store.Read(ctx, func(q *db.Query) error {
		docs, err := merchant.DocumentsOf(q, id)
		for _, x := range docs {
			if hex.EncodeToString(x.Hash[:]) == hash {
				kind = x.Kind
			}
		}
		if err == nil {
			media, sealed, err = trading.PaperOf(q, id, hash)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("document of %s: %w", id, err)
	}
	clear, err := d.Unseal(ctx, sealed)
	if err != nil {
		return fmt.Errorf("opening a document of %s: %w", id, err)
	}
	err = d.Desk.Store.Write(ctx, func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActLook, Target: here + "/" + id, What: id + ": looked at " + string(kind) + " " + hash[:16], Why: reason})
	})
	if err != nil {
		return fmt.Errorf("trail of a look at %s: %w", id, err)
	}
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": string(kind)}))
	_, err = w.Write(clear)
	return err
}

// papersKept are the documents whose files the house has, with a question for
// each before it is opened.
func papersKept(q *db.Query, x merchant.Detail) (acts []shell.Question, err error) {
	seen := map[[32]byte]bool{}
	for _, doc := range x.Documents {
		hash := hex.EncodeToString(doc.Hash[:])
		if seen[doc.Hash] {
			continue
		}
		seen[doc.Hash] = true
		switch _, _, err := trading.PaperOf(q, x.Merchant.ID, hash); {
		case errors.Is(err, trading.ErrPaper): // only its hash was handed in
		case err != nil:
			return nil, err
		default:
			acts = append(acts, shell.Question{ID: "ask-look-" + hash[:16], Action: here + "/papers/" + x.Merchant.ID + "/" + hash, Open: named(words.LookAt, shell.Both(doc.Kind.Words)), Body: words.LookBody, Icon: "eye", Receiver: x.Merchant.Name, About: words.Merchant})
		}
	}
	return acts, nil
}
