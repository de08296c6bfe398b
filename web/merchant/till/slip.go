package till

import (
	"context"
	"errors"
	"net/http"

	"koala/internal/db"
	"koala/internal/openkey"
	"koala/slip"
	"koala/web"
	"koala/web/merchant/shell"
	"koala/web/paper"
)

// Slips gives the slip of a sale as it was when the sale was answered.
type Slips interface {
	Fresh(ctx context.Context, rrn string) (slip.Kept, error)
	List(ctx context.Context) (openkey.Book, error)
}

// slipOf reads a sale's slip; what was refused or asked only has none.
func (d Deps) slipOf(ctx context.Context, rrn string) (v paper.View, there bool, err error) {
	v.Slip, err = d.Slips.Fresh(ctx, rrn)
	if errors.Is(err, slip.ErrNotFound) || errors.Is(err, slip.ErrBusy) { // busy: somebody else writes them; the page shows it when it is opened again
		return v, false, nil
	}
	return v, err == nil, err
}

// reprint is the slip alone, for the printer: the bytes of the day, and outside of
// them that it is printed again.
func (d Deps) reprint(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	rrn := r.PathValue("rrn")
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		_, err := txnOf(q, s, rrn)
		return err
	})
	if err != nil {
		return err
	}
	v, there, err := d.slipOf(r.Context(), rrn)
	if err == nil && !there {
		err = slip.ErrNotFound
	}
	if err == nil {
		err = d.proves(r.Context(), &v.Slip)
	}
	if err != nil {
		return err
	}
	v.Again, v.Address = true, paper.Address(r, &v.Slip)
	if v.Slip.Signed.Key != "" {
		v.Picture = salePath(rrn) + "/signature"
	}
	return d.Desk.Show(w, r, s, web.Page{Title: words.Slip, Lead: web.Same(rrn), Back: salePath(rrn), Here: atSales}, reprintPage(v))
}

// proves keeps a slip that was altered in the store from being printed.
func (d Deps) proves(ctx context.Context, k *slip.Kept) error {
	book, err := d.Slips.List(ctx)
	if err != nil {
		return err
	}
	return k.Check(book)
}

// otherLang is the language that the page is not in.
func otherLang(ctx context.Context) web.Lang {
	if web.LangOf(ctx) == web.ZH {
		return web.EN
	}
	return web.ZH
}
