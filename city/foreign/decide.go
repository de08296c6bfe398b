package foreign

import (
	"encoding/hex"
	"fmt"
	"strings"

	"koala/calendar"
	"koala/spec/clearing"
	"koala/spec/iso8583"
	"koala/spec/pan"
)

// A step is what a kind of question does to the institution's books.
type step func(h *Host, q *iso8583.Message, a *act) (code string)

// stepOf finds it by message type, processing code and condition code
// (DOMAIN.md 5).
func stepOf(q *iso8583.Message) step {
	mti, kind, pre := q.MTI(), "", q.Text(25) == "06"
	if p := q.Text(3); len(p) == 6 {
		kind = p[:2]
	}
	switch {
	case mti == "0420" || mti == "0421":
		return (*Host).takeBack
	case mti == "0820" || mti == "0620":
		return func(*Host, *iso8583.Message, *act) string { return "00" }
	case mti == "0200" && (kind == "30" || kind == "31"):
		return (*Host).tell
	case mti == "0100" && kind == "03":
		return (*Host).hold
	case mti == "0100" && kind == "20", mti == "0200" && kind == "20":
		return (*Host).undo
	case mti == "0220" && kind == "20":
		return (*Host).refund
	case (mti == "0200" || mti == "0220") && kind == "00" && pre:
		return (*Host).complete
	case mti == "0200" && kind == "00":
		return (*Host).pay
	case mti == "0220" && kind == "00":
		return (*Host).advise
	}
	return func(*Host, *iso8583.Message, *act) string { return "40" }
}

// decide carries a question out, once: the same again gets the answer of then.
func (h *Host) decide(q *iso8583.Message) (*act, error) {
	if q.Verify(h.mac) != nil {
		return &act{code: "A0"}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.books.broken != nil {
		return nil, h.books.broken
	}
	key := keyOf(q.Text(7), q.Text(11), q.Text(32))
	if q.IsMTI("0420") || q.IsMTI("0421") { // it may have the trace of what it takes back
		key = "reversal/" + key
	}
	if known := h.acts[key]; known != nil {
		return known, nil
	}
	now := h.cfg.Clock.Now()
	a := &act{key: key, record: record(q), extra: map[int]string{}, at: now, day: settlementDay(now)}
	a.record.Receiver, a.record.Issuer = h.cfg.Institution, h.cfg.Institution
	a.code = stepOf(q)(h, q, a)
	a.record.Response = a.code
	if a.code == "00" {
		a.extra[15] = fmt.Sprintf("%02d%02d", a.day.Month, a.day.Day)
		if a.record.Kind() != clearing.Other || a.held > 0 {
			a.record.Approval = fmt.Sprintf("%06d", h.draw("approval", key)%1_000_000)
			a.extra[38] = a.record.Approval
		}
	}
	h.acts[key] = a
	h.order = append(h.order, a)
	h.keepAll(q, a)
	return a, h.books.broken
}

// keepAll keeps what a question may have changed: its act and card, the original
// that it names and what that one was of.
func (h *Host) keepAll(q *iso8583.Message, a *act) {
	acts, cards := []*act{a, a.of}, []string{q.Text(2)}
	if _, was := h.original(q); was != nil {
		acts, cards = append(acts, was, was.of), append(cards, string(was.record.PAN))
	}
	h.keep(acts, cards...)
}

// record keeps of a question what a clearing file says of it.
func record(q *iso8583.Message) clearing.Record {
	return clearing.Record{Agent: q.Text(32), Sender: q.Text(33), Trace: q.Text(11), Sent: q.Text(7), PAN: pan.PAN(q.Text(2)), Amount: number(q.Text(4)),
		MTI: q.MTI(), Processing: q.Text(3), MCC: q.Text(18), Terminal: q.Text(41), Merchant: q.Text(42), RRN: q.Text(37),
		Condition: q.Text(25), Entry: q.Text(22), CardSeq: q.Text(23), FirstTrace: firstTrace(q)}
}

// original finds what field 90 names: message type 4, trace 6, transmission
// time 10, acquirer 11, sender 11 digits.
func (h *Host) original(q *iso8583.Message) (key string, a *act) {
	f := q.Text(90)
	if len(f) != 42 {
		return "", nil
	}
	key = keyOf(f[10:20], f[4:10], f[20:31])
	return key, h.acts[key]
}

func firstTrace(q *iso8583.Message) string {
	if f := q.Text(90); len(f) == 42 {
		return f[4:10]
	}
	return ""
}

// check applies what every payment has to pass.
func (h *Host) check(q *iso8583.Message, need int64) string {
	c := h.card(q.Text(2))
	switch {
	case q.Text(2) == "" || q.Text(4) == "" && need > 0:
		return "30"
	case c.lost:
		return "41"
	case h.expired(q):
		return "54"
	case q.Has(52) && !h.pinRight(q):
		return "55"
	case c.fen < need:
		return "51"
	}
	return "00"
}

// expired says whether the last month of the card is over, by field 14 or the
// track (YYMM behind the separator); a message without either says nothing.
func (h *Host) expired(q *iso8583.Message) bool {
	last := q.Text(14)
	if _, after, found := strings.Cut(strings.ReplaceAll(q.Text(35), "D", "="), "="); found && len(after) >= 4 {
		last = after[:4]
	}
	return last != "" && last < h.cfg.Clock.Now().In(calendar.Beijing).Format("0601")
}

// pinRight opens the PIN block of format 0 (ISO 9564-1, 9.3.1) under the zone's
// PIN key.
func (h *Host) pinRight(q *iso8583.Message) bool {
	number := q.Text(2)
	if len(q.Get(52)) != 8 || len(number) < 13 {
		return false
	}
	block := h.pin.DecryptECB(q.Get(52))
	part, err := hex.DecodeString("0000" + number[len(number)-13:len(number)-1])
	if err != nil {
		return false
	}
	for i := range block {
		block[i] ^= part[i]
	}
	pin := h.PIN(number)
	return hex.EncodeToString(block) == "06"+pin+"ffffffff"
}

// tell answers a balance (field 54: account, kind, currency, sign, amount).
func (h *Host) tell(q *iso8583.Message, a *act) string {
	code := h.check(q, 0)
	if code == "00" {
		a.extra[54] = fmt.Sprintf("1002156C%012d", h.card(q.Text(2)).fen)
	}
	return code
}

func (h *Host) pay(q *iso8583.Message, a *act) string {
	code := h.check(q, a.record.Amount)
	if code == "00" {
		h.card(q.Text(2)).fen -= a.record.Amount
	}
	return code
}

// advise books what was approved without asking, whatever the card has. One that
// names a sale says that it came to another amount: a tip.
func (h *Host) advise(q *iso8583.Message, a *act) string {
	c := h.card(q.Text(2))
	if _, was := h.original(q); was != nil {
		if was.ended || was.back > 0 || was.code != "00" || was.record.Kind() != clearing.Sale {
			return "25"
		}
		c.fen += was.record.Amount - a.record.Amount
		was.record.Amount, a.empty, a.ended = a.record.Amount, true, true
		return "00"
	}
	c.fen -= a.record.Amount
	return "00"
}

func (h *Host) hold(q *iso8583.Message, a *act) string {
	code := h.pay(q, a)
	if code == "00" {
		a.held = a.record.Amount
	}
	return code
}

// complete takes a pre-authorised payment: up to 115 % of what is held.
func (h *Host) complete(q *iso8583.Message, a *act) string {
	_, was := h.original(q)
	switch {
	case was == nil || was.held == 0 || was.ended || was.code != "00":
		return "25"
	case a.record.Amount*100 > was.held*115:
		return "61"
	}
	a.of, was.ended = was, true
	h.card(q.Text(2)).fen += was.held - a.record.Amount
	return "00"
}

// undo voids a payment, a pre-authorisation or a completion, whole.
func (h *Host) undo(q *iso8583.Message, a *act) string {
	_, was := h.original(q)
	switch {
	case was == nil || was.code != "00" || q.IsMTI("0100") != (was.held > 0) || was.held == 0 && was.record.Kind() != clearing.Sale:
		return "25"
	case was.ended || was.back > 0:
		return "12"
	case was.record.Amount != a.record.Amount:
		return "64"
	}
	a.of, a.left, was.ended = was, was.record.Amount, true
	h.card(q.Text(2)).fen += was.record.Amount
	return "00"
}

// refund gives back a part; without a known original it is taken as it comes,
// as refunds of earlier months are.
func (h *Host) refund(q *iso8583.Message, a *act) string {
	if _, was := h.original(q); was != nil {
		if was.ended || was.code != "00" || was.record.Kind() != clearing.Sale || was.back+a.record.Amount > was.record.Amount {
			return "61"
		}
		a.of, a.left = was, was.record.Amount-was.back
		was.back += a.record.Amount
	}
	h.card(q.Text(2)).fen += a.record.Amount
	return "00"
}

// takeBack reverses what was asked; of something that never came it keeps that
// it was given up, so that it is refused when it comes.
func (h *Host) takeBack(q *iso8583.Message, a *act) string {
	key, was := h.original(q)
	a.empty = true
	switch {
	case key == "":
		return "30"
	case was == nil:
		h.acts[key] = &act{key: key, code: "40", never: true}
		return "25"
	case was.ended || was.code != "00":
		return "00" // nothing stands of it
	case was.back > 0 || was.record.MTI == "0420" || was.record.MTI == "0421":
		return "12" // a part of it went back already, or it is a reversal itself
	}
	was.ended, a.empty = true, was.record.Kind() == clearing.Other
	a.record.Amount, a.record.Processing = was.record.Amount, was.record.Processing
	a.of, a.left = was, max(was.left, was.record.Amount)
	c := h.card(string(was.record.PAN))
	switch back := strings.HasPrefix(was.record.Processing, "20"); {
	case was.record.Kind() == clearing.Refund:
		c.fen -= was.record.Amount
		if was.of != nil {
			was.of.back -= was.record.Amount
		}
	case back: // a void or a cancelled pre-authorisation: the original stands again
		c.fen -= was.record.Amount
		was.of.ended = false
	default:
		c.fen += was.record.Amount
		if was.of != nil { // a completion: the pre-authorisation stands again
			c.fen -= was.of.held
			was.of.ended = false
		}
	}
	return "00"
}
