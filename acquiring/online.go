package acquiring

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/money"
	"koala/settlement"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// Reasons of this package beside the issuer's, for an answer to a till.
const (
	NotHouse issuing.Reason = "not_house" // 15: no issuer here has cards of that range
	UsedSTAN issuing.Reason = "stan"      // 94: the trace number was used for another request today
)

// ReasonWords says why a request was answered as it was, in Chinese if zh.
func ReasonWords(r issuing.Reason, zh bool) string {
	switch r {
	case NotHouse:
		return pick([2]string{"no issuer here has this card", "无此发卡方"}, "", zh)
	case UsedSTAN:
		return pick([2]string{"the trace number was used for another request", "终端流水号重复"}, "", zh)
	}
	return r.Words(zh)
}

// An Answer goes back to the till.
type Answer struct {
	ID  string // of the request, for its trace
	ARC string // two characters, tag 8A
	Why issuing.Reason
	EMV []byte // 91, and 72 where there is a script
}

// tagPIN is the block of a PIN in a request (EMV 4.4 Book 3, annex A), format 0.
const tagPIN tlv.Tag = 0x99

// Authorise answers a till's online request: data objects as in field 55 of ISO
// 8583, with 9F41 as the trace number. The range of the card decides who
// answers: the house's own bank, for cards of the house. A terminal uses a trace
// number for one request a day; the same request again gets the same answer.
func (o *Office) Authorise(ctx context.Context, tid string, request []byte) (Answer, error) {
	d, err := o.working(ctx, tid, POS)
	if err != nil {
		return Answer{}, err
	}
	hash, err := o.keys.Token(ctx, string(request))
	if err != nil {
		return Answer{}, err
	}
	a := asking{d: d, hash: hash}
	why := a.read(request)
	if why == issuing.Approval {
		err = o.store.Write(ctx, func(tx *db.Tx) (err error) {
			why, err = a.begin(tx)
			return err
		})
	}
	if err != nil || why != issuing.Approval {
		return Answer{ID: a.id, ARC: codeOf(why), Why: why}, err
	}
	if a.house {
		return o.ask(ctx, a, request)
	}
	return Answer{ID: a.id, ARC: codeOf(NotHouse), Why: NotHouse}, o.store.Write(ctx, func(tx *db.Tx) error {
		return a.end(tx, issuing.Answer{ARC: codeOf(NotHouse), Why: NotHouse})
	})
}

func codeOf(r issuing.Reason) string {
	switch r {
	case NotHouse:
		return "15"
	case UsedSTAN:
		return "94"
	}
	return r.Code()
}

// ask has the house's bank answer.
func (o *Office) ask(ctx context.Context, a asking, request []byte) (Answer, error) {
	online := issuing.Online{EMV: request, Payee: settlement.Payable(a.d.Shop)}
	err := o.store.Read(ctx, func(q *db.Query) error {
		s, err := ShopOf(q, a.d.Shop)
		online.Text = s.NameEN
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	if a.pin != nil {
		online.PIN = &hsm.PINBlock{Block: [8]byte(a.pin)}
	}
	got, err := o.bank.Authorise(ctx, online)
	if err != nil {
		return Answer{}, fmt.Errorf("request %06d of device %s: %w", a.stan, a.d.TID, err)
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error { return a.end(tx, got) })
	return Answer{ID: a.id, ARC: got.ARC, Why: got.Why, EMV: got.EMV}, err
}

// An asking is a request taken apart.
type asking struct {
	d     Device
	hash  string
	stan  uint32
	fen   money.Amount
	house bool
	pin   []byte
	id    string
	day   string
}

// read takes what the acquirer needs out of a request.
func (a *asking) read(request []byte) issuing.Reason {
	have := map[tlv.Tag][]byte{}
	for in := request; len(in) > 0; {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return issuing.Malformed
		}
		have[tag], in = v, rest
	}
	stan, err := strconv.ParseUint(hex.EncodeToString(have[emv.TagSequence]), 10, 32)
	if err != nil || stan == 0 || stan > 999_999 {
		return issuing.Malformed
	}
	amount, err := pboc.ParseAmount(have[emv.TagAmount])
	if err != nil {
		return issuing.Malformed
	}
	number := strings.TrimRight(hex.EncodeToString(have[emv.TagPAN]), "f")
	if v := have[emv.TagTrack2]; number == "" && v != nil {
		number, _, _ = strings.Cut(hex.EncodeToString(v), "d")
	}
	if number == "" {
		return issuing.Malformed
	}
	if v, ok := have[tagPIN]; ok {
		if len(v) != 8 {
			return issuing.Malformed
		}
		a.pin = v
	}
	a.stan, a.fen, a.house = uint32(stan), money.Fen(int64(amount)), strings.HasPrefix(number, bin.HousePrefix)
	return issuing.Approval
}

// begin enters the trace number of the day. One that was used for the same
// request goes on: the issuer gives the answer of then.
func (a *asking) begin(tx *db.Tx) (issuing.Reason, error) {
	a.day = calendar.Of(tx.Now(), calendar.Beijing).String()
	var hash string
	err := tx.QueryRow(`SELECT id, hash FROM acquiring_auth WHERE tid = $1 AND day = $2 AND stan = $3`, a.d.TID, a.day, int64(a.stan)).Scan(&a.id, &hash)
	switch {
	case err == nil && hash != a.hash:
		a.id = ""
		return UsedSTAN, nil
	case err == nil:
		return issuing.Approval, nil
	case !errors.Is(err, db.ErrNoRows):
		return "", err
	}
	a.id = tx.NewID("auth")
	_, err = tx.Exec(`INSERT INTO acquiring_auth (tid, day, stan, id, hash, shop, card, fen, arc, why, at) VALUES ($1, $2, $3, $4, $5, $6, '', $7, '', '', $8)`,
		a.d.TID, a.day, int64(a.stan), a.id, a.hash, a.d.Shop, a.fen.Minor(), micros(tx.Now()))
	return issuing.Approval, err
}

// end keeps the answer.
func (a asking) end(tx *db.Tx, got issuing.Answer) error {
	if _, err := tx.Exec(`UPDATE acquiring_auth SET card = $2, arc = $3, why = $4 WHERE id = $1`, a.id, got.Card, got.ARC, got.Why); err != nil {
		return err
	}
	return outbox.Put(tx, outbox.Event{Name: "request.answered", Subject: a.id,
		Data: Event{Device: a.d.TID, Shop: a.d.Shop, Card: string(got.Card), Fen: a.fen.Minor(), Why: Why(got.Why)}})
}
