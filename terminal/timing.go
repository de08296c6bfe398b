package terminal

import (
	"cmp"
	"time"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

// Budget is what one tap may take (DB11/T 1164.6-2023, Beijing).
const Budget = 300 * time.Millisecond

// A Link says how long a command and its answer take on the way.
type Link interface {
	Takes(c iso7816.Command, r iso7816.Response) time.Duration
}

// A Rate is a bit rate of ISO 14443 in kbit/s.
type Rate int

// The rates: the carrier of 13.56 MHz divided by 128, 64, 32, 16.
const (
	Kbit106 Rate = 106
	Kbit212 Rate = 212
	Kbit424 Rate = 424
	Kbit848 Rate = 848
)

// bit is the time of one bit.
func (r Rate) bit() time.Duration {
	const at106 = 9440 * time.Nanosecond // 128 cycles of 13.56 MHz
	switch r {
	case Kbit212:
		return at106 / 2
	case Kbit424:
		return at106 / 4
	case Kbit848:
		return at106 / 8
	default:
		return at106
	}
}

// Air is the contactless link (ISO 14443-3 and -4): nine bits per byte, per
// block PCB 1, CRC 2 and two bit times of framing, a frame delay before every
// block, and an R(ACK) of three bytes for each block but the last of a chain.
type Air struct {
	Rate       Rate
	FSC        int           // largest frame in bytes; 0 is 256
	FrameDelay time.Duration // 0 is 86.4 us, 1172 cycles
}

const blockFrame = 3 // PCB and CRC, bytes

// Takes is the time of a command and its answer.
func (a Air) Takes(c iso7816.Command, r iso7816.Response) time.Duration {
	return a.chain(commandSize(c)) + a.chain(len(r.Data)+2)
}

// Bytes is the time of n bytes on the air, without framing.
func (a Air) Bytes(n int) time.Duration { return time.Duration(9*n) * a.Rate.bit() }

func (a Air) chain(n int) time.Duration {
	fsc, delay := a.FSC, a.FrameDelay
	if fsc == 0 {
		fsc = 256
	}
	if delay == 0 {
		delay = 86400 * time.Nanosecond
	}
	blocks := max(1, (n+fsc-blockFrame-1)/(fsc-blockFrame))
	frames := 2*blocks - 1 // each block but the last is acknowledged
	return a.Bytes(n+frames*blockFrame) + time.Duration(frames)*(delay+2*a.Rate.bit())
}

// T0 is a contact link under T=0: 12 etu per byte; a command with data both
// ways costs a procedure byte, 61xx and a GET RESPONSE.
type T0 struct {
	Baud int // 0 is DefaultBaud
}

// DefaultBaud is the rate of contact readers and PSAMs, bit/s.
const DefaultBaud = 115200

// Takes is the time of a command and its answer.
func (t T0) Takes(c iso7816.Command, r iso7816.Response) time.Duration {
	n := 5 + len(c.Data) + len(r.Data) + 2
	if len(c.Data) > 0 || len(r.Data) > 0 {
		n++
	}
	if len(c.Data) > 0 && len(r.Data) > 0 {
		n += 2 + 5 + 1
	}
	return t.Bytes(n)
}

// Bytes is the time of n bytes.
func (t T0) Bytes(n int) time.Duration {
	return time.Duration(n) * 12 * time.Second / time.Duration(cmp.Or(t.Baud, DefaultBaud))
}

func commandSize(c iso7816.Command) int {
	n := 4 + len(c.Data)
	if len(c.Data) > 0 {
		n++
	}
	if c.Le != iso7816.NoLe {
		n++
	}
	if len(c.Data) > iso7816.MaxShortData || c.Le > iso7816.MaxShortLe {
		n += 2
	}
	return n
}

// Costs are what cards compute and write. They are parameters of the model,
// taken in the middle of what such chips do; no source names them.
type Costs struct {
	DES     time.Duration // one block of triple DES, or of AES where the card has that
	Sign    time.Duration // one signature with a 1024-bit RSA key
	Page    time.Duration // one page of EEPROM
	Fixed   time.Duration // per command: dispatch, file search
	Process map[byte]Work // per instruction
}

// Work is what one command makes a card do.
type Work struct{ Blocks, Pages, Signatures int }

// DefaultCosts: a block 30 us, a signature 100 ms, a page 3 ms, a command
// 300 us. A debit computes a session key, MAC1, MAC2 and TAC and writes about
// 230 bytes.
func DefaultCosts() Costs {
	return Costs{
		DES: 30 * time.Microsecond, Sign: 100 * time.Millisecond, Page: 3 * time.Millisecond, Fixed: 300 * time.Microsecond,
		Process: map[byte]Work{
			purse.InsInit:        {Blocks: 1},
			purse.InsDebit:       {Blocks: 9, Pages: 12},
			purse.InsCredit:      {Blocks: 8, Pages: 6},
			purse.InsSAMPurchase: {Blocks: 8, Pages: 1},
			purse.InsSAMCredit:   {Blocks: 2},
		},
	}
}

// AESCosts are those of cards that compute with AES, 10 us a block, with the
// work of their instructions.
func AESCosts(process map[byte]Work) Costs {
	return Costs{DES: 10 * time.Microsecond, Page: 3 * time.Millisecond, Fixed: 300 * time.Microsecond, Process: process}
}

// Activation is what comes before the first command: field guard time 5 ms,
// REQA, two anticollision levels, SELECT and RATS about 5 ms, and PPS 1 ms
// when the rate is raised. Polling is the passenger's time, not the budget's.
func Activation(r Rate) time.Duration {
	if r == Kbit106 {
		return 10 * time.Millisecond
	}
	return 11 * time.Millisecond
}

// An Exchange is one command with its answer, as it went over a link.
type Exchange struct {
	Where    string // "card" or "PSAM"
	Command  iso7816.Command
	Response iso7816.Response
	Torn     bool // no answer came
	Took     time.Duration
}

// A Meter adds up what a dialogue takes by the model, and keeps the dialogue.
// Begin each tap with Tap or Begin; what else speaks in it is wrapped by the same
// Meter.
type Meter struct {
	Rate     Rate
	Costs    Costs
	Record   bool // keep the dialogue
	Took     time.Duration
	Dialogue []Exchange
}

// NewMeter is the meter of a device: at 106 kbit/s unless rate says otherwise,
// with the usual costs unless there are others.
func NewMeter(rate Rate, costs, usual Costs, record bool) Meter {
	if costs.Process == nil {
		costs = usual
	}
	return Meter{Rate: cmp.Or(rate, Kbit106), Costs: costs, Record: record}
}

// Tap begins with a card that is held to the reader.
func (m *Meter) Tap(card iso7816.Transmit) iso7816.Transmit {
	return m.Begin(Air{Rate: m.Rate}, card)
}

// Begin forgets the tap before and begins with a card behind a link.
func (m *Meter) Begin(link Link, card iso7816.Transmit) iso7816.Transmit {
	m.Took, m.Dialogue = Activation(m.Rate), nil
	return m.Wrap("card", link, card, nil)
}

// Wrap measures a contact. writes, when not nil, counts the chip's physical
// page writes so far; the pages of a command are then counted, not assumed.
func (m *Meter) Wrap(where string, link Link, send iso7816.Transmit, writes func() int) iso7816.Transmit {
	return func(c iso7816.Command) (iso7816.Response, error) {
		before := 0
		if writes != nil {
			before = writes()
		}
		r, err := send(c)
		work := m.Costs.Process[c.INS]
		if writes != nil {
			work.Pages = writes() - before
		}
		took := link.Takes(c, r) + m.Costs.Fixed + time.Duration(work.Blocks)*m.Costs.DES +
			time.Duration(work.Signatures)*m.Costs.Sign + time.Duration(work.Pages)*m.Costs.Page
		m.Took += took
		if m.Record {
			m.Dialogue = append(m.Dialogue, Exchange{where, c, r, err != nil, took})
		}
		return r, err
	}
}

// InTime says whether the dialogue so far meets the budget.
func (m *Meter) InTime() bool { return m.Took <= Budget }
