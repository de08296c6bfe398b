// Package foreign plays the host of another institution: an issuer (simulated)
// that answers what the house's switch asks for its cards, in UnionPay's
// interchange dialect, with keys, PINs and money of its own. It keeps its books
// apart from the house's, hands out the clearing file of each settlement day,
// and can be told to be slow, deaf, silent or lying, so that whoever asks it
// shows what they do then.
//
// Start with New; Host.Handle answers one message.
package foreign

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"koala/calendar"
	"koala/internal/clock"
	"koala/spec/clearing"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
)

// A Config is a host's.
type Config struct {
	Name        string // of the institution, for its cards' money
	Institution string // its code, field 100, at most 11 digits
	PIN, MAC    [16]byte
	Clock       clock.Clock
	// Fault says what goes wrong with the nth message; nil: nothing does.
	Fault func(nth uint64) Fault
	Delay time.Duration // of a slow answer
	// Fees are what the acquirer pays for a transaction to the issuer and to
	// the switch, fen; of one that gives back, what it gets. nil: nothing.
	Fees func(d Deal) (issuer, network int64)
	// Books is the file in which the host keeps its books (simulated), so that it
	// answers tomorrow for what it booked today; empty: it forgets.
	Books string
}

// A Deal is a line of the clearing file with what its fee depends on beside it.
type Deal struct {
	clearing.Record
	At   time.Time // of the sale
	Left int64     // of one that gives back: what was left of the sale before, fen
}

// A Fault is something that goes wrong with one message.
type Fault byte

// The faults.
const (
	None        Fault = iota
	Deaf              // it is not heard
	Silent            // it is carried out, and no answer goes out
	Slow              // the answer comes after Config.Delay
	OtherAmount       // the answer names another amount
	OtherTrace        // the answer names another trace number
	WrongMAC          // the answer's MAC is wrong
	Garbage           // the answer is not a message
	Turncoat          // it is approved and booked, and the answer says it was not
	faults
)

var faultWords = [faults][2]string{None: {"none", "无"}, Deaf: {"not heard", "未收到"}, Silent: {"no answer", "无应答"}, Slow: {"late answer", "应答超时"},
	OtherAmount: {"answers another amount", "应答金额不符"}, OtherTrace: {"answers another trace number", "应答流水号不符"},
	WrongMAC: {"wrong MAC", "应答 MAC 错"}, Garbage: {"answers garbage", "应答乱码"}, Turncoat: {"declines what it books", "实记账而应答拒绝"}}

// Words says the fault, in Chinese if zh.
func (f Fault) Words(zh bool) string {
	w := faultWords[min(f, faults-1)]
	if zh {
		return w[1]
	}
	return w[0]
}

// ErrNoAnswer says that Ask got no answer.
var ErrNoAnswer = errors.New("foreign: no answer came")

// cutOff is when the network's settlement day ends, Beijing time.
const cutOff = 23 * time.Hour

// A Host is one institution's. It is safe for concurrent use.
type Host struct {
	cfg Config
	mac *iso8583.Key
	pin *iso9797.TDES

	mu    sync.Mutex
	heard uint64
	cards map[string]*card
	acts  map[string]*act // by transmission time, trace and acquirer
	order []*act          // as they came
	books books
}

// A card of the institution. What it has is a debit card's balance.
type card struct {
	fen  int64
	lost bool
}

// An act is one question with its answer.
type act struct {
	key    string
	record clearing.Record
	code   string
	extra  map[int]string // fields of the answer beyond what it repeats
	day    calendar.Date
	of     *act // the original of a void, refund or completion
	at     time.Time
	left   int64 // of the original before this gave back
	held   int64 // kept by a pre-authorisation
	back   int64 // given back by refunds
	ended  bool  // voided, reversed or completed
	empty  bool  // moved nothing: a reversal of what did not stand
	never  bool  // given up before it came
}

// New makes the host.
func New(cfg Config) (*Host, error) {
	mac, err := iso8583.NewKey(cfg.MAC[:])
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, mac: mac, pin: iso9797.NewTDES(cfg.PIN[:]), cards: map[string]*card{}, acts: map[string]*act{}}
	return h, h.recall()
}

// PIN is the PIN of a card of the institution: six digits made of its name and
// the card's number, so that whoever plays the cardholder knows it.
func (h *Host) PIN(number string) string {
	return fmt.Sprintf("%06d", h.draw("pin", number)%1_000_000)
}

// Balance is what a card has, fen. A card nobody has used yet has between 2,000
// and 20,000 yuan, drawn from its number.
func (h *Host) Balance(number string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.card(number).fen
}

// Booked is what stands in the institution's books of each transaction, by its
// reference number, fen: what the cardholder paid, below zero what came back.
func (h *Host) Booked() map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]int64{}
	for _, a := range h.order {
		switch k := a.record.Kind(); {
		case a.code != "00" || a.empty || a.ended:
		case k == clearing.Sale, a.held > 0:
			out[a.record.RRN] += a.record.Amount
		case k == clearing.Presented:
			out[a.record.RRN] += a.record.Amount
		case k == clearing.Refund, k == clearing.Chargeback:
			out[a.record.RRN] -= a.record.Amount
		}
	}
	return out
}

// Report makes a card lost, or found again.
func (h *Host) Report(number string, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.card(number).lost = lost
	h.keep(nil, number)
}

func (h *Host) draw(what, number string) uint64 {
	sum := sha256.Sum256([]byte(h.cfg.Name + "\x00" + what + "\x00" + number))
	return binary.BigEndian.Uint64(sum[:])
}

func (h *Host) card(number string) *card {
	c := h.cards[number]
	if c == nil {
		c = &card{fen: 2000_00 + int64(h.draw("balance", number)%18000_00)}
		h.cards[number] = c
	}
	return c
}

// Ask is Handle for whoever stands in the same process: silence is ErrNoAnswer.
func (h *Host) Ask(ctx context.Context, request []byte) ([]byte, error) {
	answer, err := h.Handle(ctx, request)
	if err == nil && answer == nil {
		err = ErrNoAnswer
	}
	return answer, err
}

// Handle answers a message of the interchange dialect. An error says that it is
// none.
func (h *Host) Handle(ctx context.Context, message []byte) ([]byte, error) {
	var q iso8583.Message
	if err := q.Unpack(iso8583.UnionPayInterchange(), message); err != nil {
		return nil, err
	}
	fault := h.next()
	if fault == Deaf {
		return nil, nil
	}
	a, err := h.decide(&q)
	if err != nil {
		return nil, err
	}
	switch fault {
	case Silent:
		return nil, nil
	case Slow:
		select {
		case <-time.After(h.cfg.Delay):
		case <-ctx.Done():
		}
	case Garbage:
		return []byte("not a message"), nil
	}
	return h.answer(&q, a, fault)
}

func (h *Host) next() Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard++
	if h.cfg.Fault == nil {
		return None
	}
	return h.cfg.Fault(h.heard)
}

// answer packs what was decided, bent by the fault.
func (h *Host) answer(q *iso8583.Message, a *act, fault Fault) ([]byte, error) {
	code := a.code
	if fault == Turncoat && code == "00" {
		code = "05"
	}
	var m iso8583.Message
	if err := m.AnswerTo(q, code); err != nil {
		return nil, err
	}
	for n, v := range a.extra {
		if n != 38 || code == "00" {
			m.SetText(n, v)
		}
	}
	switch fault {
	case OtherAmount:
		if fen, err := strconv.ParseInt(m.Text(4), 10, 64); err == nil {
			m.SetText(4, fmt.Sprintf("%012d", fen+1))
		}
	case OtherTrace:
		m.SetText(11, fmt.Sprintf("%06d", (number(m.Text(11))+1)%1_000_000))
	}
	out, err := m.Seal(nil, h.mac)
	if err == nil && fault == WrongMAC {
		out[len(out)-1] ^= 1
	}
	return out, err
}

func number(digits string) int64 {
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

// ClearingFile is the institution's file of a settlement day: one line for what
// was approved that day, and one for what was reversed.
func (h *Host) ClearingFile(day calendar.Date) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []byte
	for _, a := range h.order {
		if a.day != day || a.code != "00" || a.empty || a.record.Kind() == clearing.Other {
			continue
		}
		r := a.priced(h.cfg.Fees)
		var err error
		if out, err = r.Append(out); err != nil {
			return nil, fmt.Errorf("trace %s: %w", r.Trace, err)
		}
		out = append(out, '\n')
	}
	return out, nil
}

// priced is an act's line with its fees.
func (a *act) priced(fees func(Deal) (issuer, network int64)) clearing.Record {
	r := a.record
	if k := r.Kind(); fees == nil || k == clearing.Chargeback || k == clearing.Presented {
		return r // a dispute moves the amount; the fees of the sale stay as they are
	}
	d := Deal{Record: r, At: a.at, Left: a.left}
	for o := a.of; o != nil; o = o.of {
		d.At = o.at
	}
	issuer, network := fees(d)
	if r.Fen() < 0 {
		r.Receivable, r.SwitchFee = issuer, -network
	} else {
		r.Payable, r.SwitchFee = issuer, network
	}
	return r
}

// Correct takes back what the institution booked and should not have, by its
// reference number: its cardholder has the money again. No clearing line says
// so, because it is settled between the banks. It gives how much that was.
func (h *Host) Correct(rrn string) (fen int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.order {
		if a.record.RRN != rrn || a.code != "00" || a.ended || a.empty {
			continue
		}
		back := a.record.Amount
		switch a.record.Kind() {
		case clearing.Sale:
		case clearing.Void:
			a.of.ended = false
			back = -back
		case clearing.Refund:
			if a.of != nil {
				a.of.back -= a.record.Amount
			}
			back = -back
		default:
			continue
		}
		a.ended = true
		fen += back
		h.card(string(a.record.PAN)).fen += back
		h.keep([]*act{a, a.of}, string(a.record.PAN))
	}
	return fen
}

// ErrNoSale says that a dispute is about a sale that the institution does not know.
var ErrNoSale = errors.New("foreign: the institution knows no such sale")

// Dispute books what a dispute moves, once by its name: below zero the
// institution takes a sale's fen back for its cardholder, above zero the acquirer
// has them again. The clearing file of its day has a line for it.
func (h *Host) Dispute(name, rrn string, fen int64, at time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := "dispute/" + name
	if h.acts[key] != nil {
		return nil
	}
	for _, was := range h.order {
		if was.record.RRN != rrn || was.code != "00" || was.empty || was.record.Kind() != clearing.Sale {
			continue
		}
		a := &act{key: key, record: was.record, code: "00", extra: map[int]string{}, at: at, day: settlementDay(at), of: was}
		a.record.MTI, a.record.Processing, a.record.Amount = "0422", "000000", -fen
		if fen > 0 {
			a.record.Processing, a.record.Amount = "200000", fen
		}
		a.record.FirstTrace, a.record.Sent = was.record.Trace, at.In(calendar.Beijing).Format("0102150405")
		h.acts[key] = a
		h.order = append(h.order, a)
		h.card(string(a.record.PAN)).fen -= fen
		h.keep([]*act{a}, string(a.record.PAN))
		return h.books.broken
	}
	return fmt.Errorf("%s of %s: %w", name, rrn, ErrNoSale)
}

// settlementDay is the day that a transaction at t belongs to.
func settlementDay(t time.Time) calendar.Date {
	return calendar.Of(t.Add(24*time.Hour-cutOff), calendar.Beijing)
}

// keyOf names a message among all: its transmission time, trace number and
// acquirer.
func keyOf(sent, trace, acquirer string) string {
	return sent + "/" + trace + "/" + strings.TrimLeft(acquirer, "0")
}
