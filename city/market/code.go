package market

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/spec/pan"
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/wallet"
)

// A CodeFault is what is wrong with a payment code that a shopper shows.
type CodeFault byte

// The faults. With each of them the house must decline.
const (
	Fresh    CodeFault = iota
	Stale              // it was drawn on an earlier visit: its minute is over, and perhaps it has paid
	Misread            // the scanner reads a digit otherwise
	Invented           // it looks like one, and nobody drew it
)

// Name says the fault, for counts.
func (f CodeFault) Name() string {
	return [...]string{"", "code over", "code misread", "code invented"}[f]
}

// A drawnCode is the last that a customer was given.
type drawnCode struct {
	digits string
	at     time.Time
}

// Code draws a payment code for a customer, as the phone does.
func (m *Market) Code(ctx context.Context, who customer.ID) (fresh wallet.Code, err error) {
	m.mu.Lock()
	m.drawn++
	random := m.cfg.Rand(fmt.Sprintf("code/%d", m.drawn))
	m.mu.Unlock()
	err = m.write(ctx, "payment code", func(tx *db.Tx) error { // another one when a commit broke: the first may be known
		var chance [8]byte
		_, err := io.ReadFull(random, chance[:])
		if err == nil {
			fresh, err = wallet.NewCode(tx, who, chance)
		}
		return err
	})
	return fresh, err
}

// showCode has the shopper draw a code from the house and show it; good is false
// when it is one that must not pay.
func (m *Market) showCode(ctx context.Context, dice Dice, who customer.ID) (digits string, good bool, err error) {
	m.mu.Lock()
	last := m.codes[who]
	m.mu.Unlock()
	fresh, err := m.Code(ctx, who)
	if err != nil {
		return "", false, err
	}
	fault := Fresh
	if m.cfg.Faults.Code != nil {
		fault = m.cfg.Faults.Code()
	}
	now := m.cfg.Clock.Now()
	if fault == Stale && (last.digits == "" || now.Sub(last.at) < wallet.CodeLife) {
		fault = Fresh // there is none that is over
	}
	m.mu.Lock()
	m.codes[who] = drawnCode{fresh.Digits, now}
	m.mu.Unlock()
	if digits = fresh.Digits; fault == Fresh {
		return digits, true, nil
	}
	m.note(fault.Name())
	switch at := len(wallet.CodePrefix) + dice.IntN(wallet.CodeLen-len(wallet.CodePrefix)); fault {
	case Stale:
		digits = last.digits
	case Misread:
		digits = digits[:at] + string('0'+(digits[at]-'0'+1)%10) + digits[at+1:]
	case Invented:
		made, err := pan.Complete(wallet.CodePrefix + fmt.Sprintf("%015d", dice.IntN(1_000_000_000)))
		if err != nil {
			return "", false, err
		}
		digits = string(made)
	}
	return digits, false, nil
}

// tradeByCode is a sale that a shopper pays out of the wallet. Who is declined
// for a code that is none any more draws another one. Sometimes it is voided.
func (m *Market) tradeByCode(ctx context.Context, dice Dice, t *Till, fen uint64, who customer.ID) (out Outcome, err error) {
	for range maxTries {
		digits, good, err := m.showCode(ctx, dice, who)
		if err != nil {
			return out, err
		}
		out, err = m.try(ctx, t.ID, Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: unionpay.Card{Code: digits}}})
		if err != nil {
			return out, err
		}
		if good {
			break
		}
		if out.Approved {
			return out, differs("%s was paid with a code that is none", t.ID)
		}
		m.count("codes not taken", 1)
	}
	switch {
	case !out.Approved || out.Entry == nil:
		return out, nil
	case dice.IntN(100) < 8:
		_, err = m.try(ctx, t.ID, Order{Void: out.STAN})
	default:
		m.remember(sold{till: t.ID, rrn: out.Get(37), fen: fen, at: m.cfg.Clock.Now()})
	}
	m.count("paid by code", 1)
	return out, err
}

// wallets: what left the wallets of those who showed codes is what the shops got
// by codes, less what they gave back.
func (m *Market) wallets(ctx context.Context) error {
	var gone, got int64
	for _, who := range slices.Sorted(maps.Keys(m.codes)) {
		for from := uint64(1); ; {
			list, err := wallet.Statement(ctx, m.House().Book, who, from, page)
			if err != nil {
				return err
			}
			for _, x := range list {
				from = x.Nth + 1
				if x.Kind == "wallet.paid" || x.Kind == "wallet.returned" || x.Kind == "wallet.reversed" {
					gone -= x.Amount.Minor()
				}
			}
			if len(list) < page {
				break
			}
		}
	}
	err := m.read(ctx, func(q *db.Query) error {
		for _, t := range m.Tills() {
			rows, err := m.rows(q, t.TID)
			if err != nil {
				return err
			}
			for _, x := range rows {
				side := int64(switching.KindNamed(x.Kind).Side)
				if strings.HasPrefix(x.Masked, wallet.CodePrefix) && x.State == switching.Cleared && (side > 0 || x.Kind == "refund") {
					got += side * x.Due.Minor()
				}
			}
		}
		return nil
	})
	if err == nil && gone != got {
		err = differs("wallets paid %d fen by codes, the shops got %d", gone, got)
	}
	return err
}
