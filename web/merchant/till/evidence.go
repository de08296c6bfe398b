package till

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"koala/dispute"
	"koala/internal/db"
	"koala/merchant"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
	"koala/web/paper"
)

// Evidence is what the switch has of a disputed sale, as pieces of an evidence
// pack: the messages and the chip's data in words, secrets masked, and the slip.
// A sale that never came by the switch has none.
func (d Deps) Evidence(ctx context.Context, c dispute.Case) (out []dispute.Piece, err error) {
	var t switching.Txn
	var said []switching.Message
	var s shell.Seat
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if t, err = switching.Transaction(q, c.Sale.RRN); err != nil {
			return err
		}
		if said, err = switching.Messages(q, t); err != nil {
			return err
		}
		s.Shop, err = merchant.ShopOf(q, t.Shop)
		return err
	})
	if errors.Is(err, switching.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("evidence of %s: %w", c.Sale.RRN, err)
	}
	list, err := d.exchanges(ctx, said)
	if err != nil {
		return nil, err
	}
	var all, chip strings.Builder
	for _, x := range list {
		fmt.Fprintf(&all, "%s  %s  %s\n", x.at, x.way.EN, x.title.EN)
		for _, l := range x.lines {
			line := fmt.Sprintf("  %-8s %-40s %s  %s\n", fieldName(l), l.EN, l.Value, l.Meaning)
			all.WriteString(line)
			if l.Field == 55 {
				chip.WriteString(line)
			}
		}
	}
	add := func(kind dispute.Kind, name, text string) {
		if text != "" {
			out = append(out, dispute.Piece{Kind: kind, Name: name, Type: "text/plain", At: t.At, Data: []byte(text)})
		}
	}
	add(dispute.Messages, "messages.txt", all.String())
	add(dispute.ChipData, "chip.txt", chip.String())
	paid, there, err := d.slipOf(ctx, t.RRN)
	if err != nil {
		return nil, err
	}
	if there {
		k := &paid.Slip
		add(dispute.ReceiptCopy, "slip.txt", paper.Text(k, web.EN)+"\n\n"+paper.Text(k, web.ZH)+"\n\n"+string(k.File()))
	}
	switch picture, err := d.Switch.Signature(ctx, t); {
	case err == nil:
		out = append(out, dispute.Piece{Kind: dispute.Signature, Name: "signature.png", Type: "image/png", At: t.At, Data: picture})
	case !errors.Is(err, switching.ErrNotFound):
		return nil, err
	}
	return out, nil
}
