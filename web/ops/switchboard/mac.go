package switchboard

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"koala/internal/db"
	"koala/spec/iso8583"
	"koala/switching"
	"koala/switching/macs"
	"koala/web"
)

// A macView is messages whose MACs are explained.
type macView struct {
	form web.Field
	list []macText
}

// A macText is one of them in words.
type macText struct {
	title web.Text
	tone  web.Tone
	says  web.Text // whether it is right, and under which keys
	steps []web.Fact
}

// macs explains the MACs of a transaction's messages, or waits for one to be put in.
func (d Deps) macs(w http.ResponseWriter, r *http.Request) error {
	ctx, rrn := r.Context(), r.FormValue("rrn")
	var said []switching.Message
	if rrn != "" {
		err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
			t, err := switching.Transaction(q, rrn)
			if err == nil {
				said, err = switching.Messages(q, t)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("MACs of a transaction: %w", err)
		}
	}
	v := macView{}
	for _, m := range said {
		if m.Way != "terminal" {
			continue
		}
		in, out, err := d.Switch.Open(ctx, m)
		for _, wire := range [][]byte{in, out} {
			if err == nil && len(wire) > 0 {
				var x macText
				if x, err = d.explainMAC(ctx, wire); err == nil {
					v.list = append(v.list, x)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("MACs of %s: %w", rrn, err)
		}
	}
	return d.showMACs(w, r, v, "")
}

// mac explains the MAC of a message that was put in. It is not kept.
func (d Deps) mac(w http.ResponseWriter, r *http.Request) error {
	text := strings.Join(strings.Fields(r.PostFormValue("message")), "")
	wire, err := hex.DecodeString(text)
	v := macView{}
	if err != nil || len(wire) == 0 {
		v.form.Error = words.MACNoHex
		return d.showMACs(w, r, v, text)
	}
	x, err := d.explainMAC(r.Context(), wire)
	if err != nil {
		return err
	}
	v.list = []macText{x}
	return d.showMACs(w, r, v, text)
}

// maxHex bounds what is put in: a message of this dialect has at most 1,024 bytes.
const maxHex = 2400

func (d Deps) showMACs(w http.ResponseWriter, r *http.Request, v macView, text string) error {
	v.form.Name, v.form.Label, v.form.Hint, v.form.Value, v.form.Max, v.form.Required = "message", words.MACMessage, words.MACHint, text, maxHex, true
	w.Header().Set("Cache-Control", "no-store") // a message may hold a card number
	return d.Desk.Show(w, r, web.Page{Title: words.MACTitle, Lead: words.MACLead, Back: atSwitch, Here: atSwitch}, macPage(v))
}

func (d Deps) explainMAC(ctx context.Context, wire []byte) (out macText, err error) {
	x, err := d.Switch.ExplainMAC(ctx, wire)
	var m iso8583.Message
	if m.Unpack(iso8583.UnionPayPOS(), wire) == nil {
		out.title = words.MACOf.F(m.MTI(), x.TID)
	}
	switch {
	case errors.Is(err, iso8583.ErrNoMAC):
		out.says, out.tone = words.MACNone, web.Info
		return out, nil
	case errors.Is(err, switching.ErrNotFound):
		out.says, out.tone = words.MACNobody, web.Bad
		return out, nil
	case err != nil: // it does not read: say where
		out.title, out.says, out.tone = words.MACUnread, web.Same(err.Error()), web.Bad
		return out, nil
	}
	switch x.Fit {
	case macs.InUse:
		out.says, out.tone = words.MACRight, web.Good
	case macs.Fresh:
		out.says, out.tone = words.MACFresh, web.Good
	case macs.Other:
		form := words.MACBinary
		if x.Other.Hex {
			form = words.MACHex
		}
		out.says, out.tone = web.Text{ZH: words.MACOther.To(web.ZH, strings.ToUpper(x.Other.Algorithm.String()), form.ZH), EN: words.MACOther.To(web.EN, strings.ToUpper(x.Other.Algorithm.String()), form.EN)}, web.Warn
	case macs.NoKeys:
		out.says, out.tone = words.MACNoKeys, web.Warn
	default:
		out.says, out.tone = words.MACWrong, web.Bad
	}
	for _, s := range x.Steps(false) {
		out.steps = append(out.steps, web.Fact{Name: web.Text{ZH: s.ZH, EN: s.EN}, Value: grouped(s.Value), Mono: true})
	}
	return out, nil
}

// grouped sets bytes apart so that a long value breaks where it may.
func grouped(value string) string {
	if len(value) <= 16 {
		return value
	}
	var b strings.Builder
	for i := 0; i < len(value); i += 16 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(value[i:min(i+16, len(value))])
	}
	return b.String()
}
