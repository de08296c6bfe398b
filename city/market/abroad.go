package market

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"koala/calendar"
	"koala/city/foreign"
	"koala/hsm"
	"koala/issuing/bin"
	"koala/merchant"
	"koala/reconcile"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/spec/pan"
	"koala/switching"
)

// An Institution is another bank: its host, played here, and a few of its
// cardholders.
type Institution struct {
	Name  string // as routes give it
	Class fee.Class
	Cards []Card
	host  *foreign.Host
	start map[string]int64 // what each card had

	carried, forgot []byte // lines that were left out of earlier files
}

// A Card is one of another institution's, in the hand of somebody who knows its
// PIN. It has no chip.
type Card struct {
	Number, Track2, Expiry, PIN string
	Credit                      bool
}

// GoString and String show nothing of the card.
func (c Card) String() string { return "card" }

// GoString is String.
func (c Card) GoString() string { return "card" }

// institutions are played: the bank, and the range its cards are of.
var institutions = []struct{ name, prefix string }{{"ICBC", "622202"}, {"CMB", "622588"}, {"CCB", "622700"}}

// cardsEach is how many cards of each are in the city.
const cardsEach = 40

// playHosts makes the institutions.
func (m *Market) playHosts() error {
	for _, x := range institutions {
		i, err := newInstitution(x.name, x.prefix, m)
		if err != nil {
			return fmt.Errorf("the host of %s: %w", x.name, err)
		}
		m.abroad[x.name] = i
		m.names = append(m.names, x.name)
	}
	slices.Sort(m.names)
	return nil
}

func newInstitution(name, prefix string, m *Market) (*Institution, error) {
	own, ok := bin.Range{}, false
	for _, b := range bin.All() {
		if b.Prefix == prefix && b.Bank == name && b.Length > 0 {
			own, ok = b, true
		}
	}
	if !ok {
		return nil, fmt.Errorf("range %s: %w", prefix, reconcile.ErrHost)
	}
	i := &Institution{Name: name, Class: classOf(own), start: map[string]int64{}}
	var err error
	i.host, err = foreign.New(foreign.Config{Name: name, Institution: fmt.Sprintf("%08d", uint32(drawn("institution", name)[0])+1_000_000), PIN: drawn("PIN", name), MAC: drawn("MAC", name),
		Clock: m.cfg.Clock, Fault: func(uint64) foreign.Fault { return m.hostFault() }, Fees: Fees})
	if err != nil {
		return nil, err
	}
	for n := range cardsEach {
		number, err := luhn(prefix, own.Length, n+1)
		if err != nil {
			return nil, err
		}
		i.Cards = append(i.Cards, Card{Number: number, Track2: number + "D3012101" + "000000", Expiry: "3012", PIN: i.host.PIN(number), Credit: i.Class == fee.Credit})
		i.start[number] = i.host.Balance(number)
	}
	return i, nil
}

// drawn are 16 bytes that an institution has for a purpose: no secret.
func drawn(what, name string) [16]byte {
	sum := sha256.Sum256([]byte("koala city\x00" + what + "\x00" + name))
	return [16]byte(sum[:16])
}

// luhn makes the nth number of a range.
func luhn(prefix string, length, n int) (string, error) {
	first := fmt.Sprintf("%s%0*d", prefix, length-1-len(prefix), n)
	for d := '0'; d <= '9'; d++ {
		if _, err := pan.Parse(first + string(d)); err == nil {
			return first + string(d), nil
		}
	}
	return "", fmt.Errorf("range %s: %w", prefix, reconcile.ErrFormat)
}

func (m *Market) hostFault() foreign.Fault {
	if m.cfg.Faults.Host == nil {
		return foreign.None
	}
	f := m.cfg.Faults.Host()
	if f != foreign.None {
		m.note("host " + f.Words(false))
	}
	return f
}

// Fees is what a card's institution and the network keep of a transaction by the
// published tariff; the network's institutions work it out by themselves.
func Fees(d foreign.Deal) (issuer, network int64) {
	day := calendar.Of(d.At, calendar.Beijing)
	t, err := settlement.Statutes().Tariff(day, merchant.FeeCategory(d.MCC, day), "")
	if err != nil {
		return 0, 0
	}
	class := fee.Debit
	if b, ok := bin.Of(d.PAN); ok {
		class = classOf(b)
	}
	p := t.Of(d.Amount, class)
	if d.Left > 0 {
		p = t.Back(d.Amount, d.Left, class)
	}
	return p.Issuer, p.Network
}

func classOf(b bin.Range) fee.Class {
	if b.Type == "CC" || b.Type == "SCC" {
		return fee.Credit
	}
	return fee.Debit
}

// Institutions lists those that are played, by name.
func (m *Market) Institutions() []*Institution {
	out := make([]*Institution, 0, len(m.names))
	for _, n := range m.names {
		out = append(out, m.abroad[n])
	}
	return out
}

// Peers are the ways to the institutions' hosts, for the house's Config.
func (m *Market) Peers() map[string]switching.Peer {
	out := map[string]switching.Peer{}
	for name, i := range m.abroad {
		out[name] = i.host
	}
	return out
}

// paid is what the institution's cards have paid in all, by its own books, fen.
func (i *Institution) paid() (fen int64) {
	for _, c := range i.Cards {
		fen += i.start[c.Number] - i.host.Balance(c.Number)
	}
	return fen
}

// share brings the institutions' zone keys into the house's key store.
func (m *Market) share(ctx context.Context) error {
	h := m.House()
	list, err := h.Keys.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, k := range list {
		known[k.Label] = true
	}
	for _, name := range m.names {
		pin, mac := switching.ZoneLabels(name)
		for _, x := range []struct {
			label string
			key   [16]byte
		}{{pin, drawn("PIN", name)}, {mac, drawn("MAC", name)}} {
			if known[x.label] {
				continue
			}
			if _, err := h.Keys.Import(ctx, x.label, hsm.ZoneKey, x.key[:]); err != nil {
				return fmt.Errorf("zone key of %s: %w", name, err)
			}
		}
	}
	return nil
}
