package market

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"koala/reconcile"
	"koala/settlement"
	"koala/spec/clearing"
)

// account is the custody account at the bank (simulated).
const account = "custody"

// A BankFault is what the bank does with one movement.
type BankFault byte

// The faults.
const (
	Carried  BankFault = iota
	Short              // ten fen less arrive, the rest comes a day later
	Delayed            // it comes five days later
	Stranger           // beside it, somebody else's money comes in by mistake, and goes out again a day later
	Bounced            // of a payout: the shop's bank sends it back
)

// Name says the fault, for counts.
func (f BankFault) Name() string {
	return [...]string{"", "bank short", "bank late", "bank stranger", "payout bounced"}[f]
}

// A movement is one line to be written on a day.
type movement struct {
	At        time.Time `json:"at"`
	Reference string    `json:"reference"`
	Party     string    `json:"party"`
	Fen       int64     `json:"fen"`
}

// bank is the custody bank (simulated): it does what it is told, nearly always.
type bank struct {
	Waiting []movement      `json:"waiting,omitempty"`
	Ordered map[string]bool `json:"ordered,omitempty"` // payouts
	Asked   map[string]bool `json:"asked,omitempty"`   // corrections, by exception
}

const oneDay = 24 * time.Hour

// ten fen are what goes astray.
const astray = 10

// put has a movement written after a time.
func (b *bank) put(m *Market, after time.Duration, reference, party string, fen int64) {
	b.Waiting = append(b.Waiting, movement{m.cfg.Clock.Now().Add(after), reference, party, fen})
}

func (m *Market) bankFault() BankFault {
	if m.cfg.Faults.Bank == nil {
		return Carried
	}
	return m.cfg.Faults.Bank()
}

// pay is an institution's net of a day.
func (b *bank) pay(m *Market, reference, party string, fen int64) {
	f := m.bankFault()
	if f == Bounced {
		f = Carried
	}
	if f != Carried {
		m.note(f.Name())
	}
	switch f {
	case Short:
		b.put(m, 0, reference, party, fen-astray)
		b.put(m, oneDay, reference, party, astray)
	case Delayed:
		b.put(m, 5*oneDay, reference, party, fen)
	case Stranger:
		b.put(m, 0, reference, party, fen)
		b.put(m, 0, "somebody's rent", "somebody", 1234_00)
		b.put(m, oneDay, "somebody's rent back", "somebody", -1234_00)
	default:
		b.put(m, 0, reference, party, fen)
	}
}

// order carries out a payout.
func (b *bank) order(m *Market, p settlement.Payout) {
	if b.Ordered == nil {
		b.Ordered = map[string]bool{}
	}
	b.Ordered[p.ID] = true
	f := m.bankFault()
	shop := slices.ContainsFunc(m.shops, func(s *Shop) bool { return s.Payee == p.Payee })
	if f == Stranger || p.Amount.Minor() <= astray || f == Bounced && !shop {
		f = Carried
	}
	if f != Carried {
		m.note(f.Name())
	}
	switch fen := -p.Amount.Minor(); f {
	case Short:
		b.put(m, 0, "payout "+p.ID, p.Payee, fen+astray)
	case Delayed:
		b.put(m, 5*oneDay, "payout "+p.ID, p.Payee, fen)
	case Bounced:
		b.put(m, 0, "payout "+p.ID, p.Payee, fen)
		b.put(m, oneDay, "return "+p.ID, p.Payee, -fen)
	default:
		b.put(m, 0, "payout "+p.ID, p.Payee, fen)
	}
}

// correct moves what an exception holds: what we owe goes out, what we are owed
// comes in.
func (b *bank) correct(m *Market, x reconcile.Exception) {
	if b.Asked == nil {
		b.Asked = map[string]bool{}
	}
	b.Asked[x.ID] = true
	b.put(m, oneDay/2, "correction "+x.ID, x.Host, -x.Held)
}

// due takes what has fallen due, as lines of a statement.
func (b *bank) due(now time.Time) (out []reconcile.StatementLine) {
	slices.SortStableFunc(b.Waiting, func(x, y movement) int { return x.At.Compare(y.At) })
	n := 0
	for ; n < len(b.Waiting) && !b.Waiting[n].At.After(now); n++ {
		x := b.Waiting[n]
		out = append(out, reconcile.StatementLine{Ref: fmt.Sprintf("B%d-%04d", now.Unix(), n+1), Booked: x.At.Truncate(time.Second), Fen: x.Fen, Reference: x.Reference, Party: cmp.Or(x.Party, "bank")})
	}
	b.Waiting = append([]movement(nil), b.Waiting[n:]...)
	return out
}

// sale reads a line of a clearing file that is a sale; false for any other.
func sale(line []byte) (r clearing.Record, ok bool) {
	r, err := clearing.Parse(trimLine(line))
	return r, err == nil && r.Kind() == clearing.Sale
}

func trimLine(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}
