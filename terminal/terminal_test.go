package terminal_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/terminaltest"
)

var made = time.Date(2024, 12, 30, 4, 0, 0, 0, time.UTC)

func pack(t testing.TB, from, to uint32, changes ...purse.Denial) []byte {
	t.Helper()
	text, err := purse.DenyDelta{From: from, To: to, At: made.Add(time.Duration(to) * time.Hour), Changes: changes}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return terminaltest.Sign(text)
}

const (
	cardA purse.Number = "00000000000000000001"
	cardB purse.Number = "00000000000000000002"
	cardC purse.Number = "00000000000000000003"
)

func TestDenyList(t *testing.T) {
	f := terminal.NewFlash(2)
	l, err := terminal.OpenDenyList(f, terminaltest.Public)
	if err != nil || l.Version() != 0 || !l.MadeAt().IsZero() {
		t.Fatal(l.Version(), err)
	}
	steps := []struct {
		name string
		pack []byte
		want error
		size int
	}{
		{"first", pack(t, 0, 1, purse.Denial{Card: cardA, Reason: purse.DenyLost}, purse.Denial{Card: cardC, Reason: purse.DenyDebt}), nil, 2},
		{"same again", pack(t, 0, 1), terminal.ErrOld, 2},
		{"gap", pack(t, 2, 3, purse.Denial{Card: cardB, Reason: purse.DenyLost}), terminal.ErrGap, 2},
		{"next", pack(t, 1, 2, purse.Denial{Card: cardA}, purse.Denial{Card: cardB, Reason: purse.DenyForged}), nil, 2},
		{"takes off what is not there", pack(t, 2, 3, purse.Denial{Card: cardA}), nil, 2},
		{"not signed by the house", append(pack(t, 3, 4), 0), purse.ErrSignature, 2},
		{"whole list over a gap", pack(t, 0, 9, purse.Denial{Card: cardC, Reason: purse.DenyClosed}), nil, 1},
	}
	for _, tt := range steps {
		if err := l.Apply(tt.pack); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if l.Size() != tt.size {
			t.Errorf("%s: %d cards", tt.name, l.Size())
		}
	}
	if l, err = terminal.OpenDenyList(f, terminaltest.Public); err != nil || l.Version() != 9 || l.Size() != 1 || l.Reason(cardC) != purse.DenyClosed || l.Reason(cardB) != purse.Allowed {
		t.Errorf("after power: version %d, %d cards, %v", l.Version(), l.Size(), err)
	}
	if !l.MadeAt().Equal(made.Add(9 * time.Hour)) {
		t.Errorf("made at %v", l.MadeAt())
	}
}

// A cut while a delta is applied leaves the old list or the new one.
func TestDenyListCut(t *testing.T) {
	many := make([]purse.Denial, 300)
	for i := range many {
		many[i] = purse.Denial{Card: purse.Number(bytes.Repeat([]byte{'1'}, 17)) + purse.Number([]byte{'0' + byte(i/100), '0' + byte(i/10%10), '0' + byte(i%10)}), Reason: purse.DenyLost}
	}
	for n := 1; ; n++ {
		f := terminal.NewFlash(4)
		l, _ := terminal.OpenDenyList(f, terminaltest.Public)
		for v := uint32(1); v <= 3; v++ { // both halves have been in use
			if err := l.Apply(pack(t, v-1, v, purse.Denial{Card: cardA, Reason: purse.DenyLost})); err != nil {
				t.Fatal(err)
			}
		}
		f.CutAfter(n)
		err := l.Apply(pack(t, 3, 4, many...))
		f.PowerOn()
		again, openErr := terminal.OpenDenyList(f, terminaltest.Public)
		if openErr != nil {
			t.Fatal(n, openErr)
		}
		if err == nil {
			if again.Version() != 4 || again.Size() != 301 {
				t.Errorf("uncut: version %d, %d cards", again.Version(), again.Size())
			}
			return
		}
		if !errors.Is(err, terminal.ErrPower) || again.Version() != 3 && again.Version() != 4 || again.Version() == 3 && again.Size() != 1 {
			t.Fatalf("cut %d: %v, version %d, %d cards", n, err, again.Version(), again.Size())
		}
		if err := again.Apply(pack(t, 3, 4, many...)); again.Version() != 4 && err != nil {
			t.Fatalf("cut %d, again: %v", n, err)
		}
	}
}

func TestBankBounds(t *testing.T) {
	b := terminal.OpenBank(terminal.NewFlash(2))
	if err := b.Put(1, make([]byte, terminal.SectorSize)); !errors.Is(err, terminal.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if b.Version() != 0 || b.Value() != nil {
		t.Error("kept what it refused")
	}
	if err := b.Put(1, nil); err != nil {
		t.Error(err)
	}
}

// The worked sizes of CARD 5: a gate purchase of 583 bytes, and the PSAM's
// 8070 with two factors.
func TestTimeModel(t *testing.T) {
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if d := got - want; d < -want/100 || d > want/100 {
			t.Errorf("%s: %v, want about %v", what, got, want)
		}
	}
	near("583 bytes at 106", terminal.Air{Rate: terminal.Kbit106}.Bytes(583), 49500*time.Microsecond)
	near("583 bytes at 424", terminal.Air{Rate: terminal.Kbit424}.Bytes(583), 12400*time.Microsecond)
	near("8070 at 9600", terminal.T0{Baud: 9600}.Bytes(5+36+8+2), 63750*time.Microsecond)
	near("8070 at 115200", terminal.T0{Baud: 115200}.Bytes(5+36+8+2), 5312*time.Microsecond)

	short := terminal.Air{Rate: terminal.Kbit106}
	one := short.Takes(iso7816.Command{Data: make([]byte, 200), Le: 0}, iso7816.Response{SW: iso7816.OK})
	chained := terminal.Air{Rate: terminal.Kbit106, FSC: 64}.Takes(iso7816.Command{Data: make([]byte, 200), Le: 0}, iso7816.Response{SW: iso7816.OK})
	// 206 bytes in four blocks of 61: three more blocks, each acknowledged.
	near("chaining", chained-one, short.Bytes(6*3)+6*(86400+2*9440)*time.Nanosecond)
}

func TestMeter(t *testing.T) {
	m := terminal.Meter{Costs: terminal.DefaultCosts(), Record: true}
	pages := 0
	torn := false
	send := m.Wrap("card", terminal.Air{Rate: terminal.Kbit106}, func(iso7816.Command) (iso7816.Response, error) {
		pages += 12
		if torn {
			return iso7816.Response{}, iso7816.ErrTorn
		}
		return iso7816.Response{SW: iso7816.OK}, nil
	}, func() int { return pages })
	c := purse.DebitCommand{}.Command()
	if _, err := send(c); err != nil {
		t.Fatal(err)
	}
	if m.Took < 36*time.Millisecond || m.Took > 45*time.Millisecond || !m.InTime() {
		t.Errorf("a debit takes %v", m.Took)
	}
	torn = true
	if _, err := send(c); !errors.Is(err, iso7816.ErrTorn) {
		t.Error(err)
	}
	if len(m.Dialogue) != 2 || !m.Dialogue[1].Torn || m.Dialogue[0].Where != "card" {
		t.Errorf("%+v", m.Dialogue)
	}
	for range 10 {
		_, _ = send(c)
	}
	if m.InTime() {
		t.Errorf("twelve debits in %v", m.Took)
	}
}

func TestComplete(t *testing.T) {
	held := []byte{1, 2, 3, 4}
	send := terminal.Complete(func(c iso7816.Command) (iso7816.Response, error) {
		switch {
		case c.INS == iso7816.InsGetResponse && c.Le == 2:
			out := held[:2]
			held = held[2:]
			if len(held) > 0 {
				return iso7816.Response{Data: out, SW: iso7816.More(len(held))}, nil
			}
			return iso7816.Response{Data: out, SW: iso7816.OK}, nil
		case c.Le == 7:
			return iso7816.Response{SW: iso7816.More(2)}, nil
		case c.Le == iso7816.NoLe:
			return iso7816.Response{}, iso7816.ErrTorn
		}
		return iso7816.Response{SW: iso7816.Exact(7)}, nil
	})
	r, err := send(iso7816.Command{Le: 0})
	if err != nil || !bytes.Equal(r.Data, []byte{1, 2, 3, 4}) || !r.SW.OK() {
		t.Errorf("%v %v", r, err)
	}
	if _, err := send(iso7816.Command{Le: iso7816.NoLe}); !errors.Is(err, iso7816.ErrTorn) {
		t.Error(err)
	}
}

// A PSAM that does not say which terminal it is opens no device.
func TestOpenWithoutTerminal(t *testing.T) {
	for name, send := range map[string]iso7816.Transmit{
		"gone":    func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn },
		"no file": func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{SW: 0x6A82}, nil },
	} {
		var c terminal.Collector
		if err := c.Open(send, terminal.NewFlash(4), terminal.NewFlash(2), terminaltest.Public); !errors.Is(err, terminal.ErrSAM) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	for r := terminal.Recovered; r <= terminal.NothingToDo; r++ {
		if r.Words(false) == "" || r.Words(true) == "" {
			t.Errorf("reason %d is not named", r)
		}
	}
	for r := terminal.Opened; r <= terminal.OutOfService; r++ {
		if r.Words(false) == "" || r.Words(true) == "" {
			t.Errorf("result %d is not named", r)
		}
	}
}
