package purse

import (
	"errors"
	"testing"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// A money is one money command with what leads to it: prepare leaves the card
// ready, and act is the command that is cut.
type money struct {
	name string
	typ  purse.Type
	fen  uint32
	run  func(b *bench) iso7816.Command
	opts []option
}

var moneys = []money{
	{"load", purse.LoadEP, 700, func(b *bench) iso7816.Command {
		a, _ := b.initLoad(700)
		return creditOf(a, purse.LoadEP, 700).Command()
	}, nil},
	{"purchase", purse.PurchaseEP, 500, func(b *bench) iso7816.Command {
		a, _ := b.initPurchase(purse.InitPurchase{Purse: purse.EP, Fen: 500})
		return debitOf(a, purse.PurchaseEP, 500, 9).Command()
	}, nil},
	{"gate exit", purse.CAPP, 500, func(b *bench) iso7816.Command {
		a, _ := b.initPurchase(purse.InitPurchase{CAPP: true, Purse: purse.EP, Fen: 500})
		b.send(purse.UpdateCAPP{SFI: purse.SFITransit, ID: 0x27, Record: rail(purse.Left)}.Command())
		b.send(purse.UpdateCAPP{SFI: purse.SFITrip, Record: unhex(trip1E)}.Command())
		return debitOf(a, purse.CAPP, 500, 9).Command()
	}, nil},
	{"gate entry", purse.CAPP, 0, func(b *bench) iso7816.Command {
		a, _ := b.initPurchase(purse.InitPurchase{CAPP: true, Purse: purse.EP})
		b.send(purse.UpdateCAPP{SFI: purse.SFITransit, ID: 0x27, Record: rail(purse.Entered)}.Command())
		return debitOf(a, purse.CAPP, 0, 9).Command()
	}, nil},
}

// Power fails at every physical write of every money command, with nothing, a
// part or all of that write landed, and then at every write of the recovery.
// The card is as before or as after, and says which.
func TestMoneyIsCutAtEveryWrite(t *testing.T) {
	for _, m := range moneys {
		t.Run(m.name, func(t *testing.T) {
			old, done := newBench(t, holds(5000, 3, 8)), newBench(t, holds(5000, 3, 8))
			before := old.state()
			w := done.e.Memory().Writes()
			if r := done.send(m.run(done)); !r.SW.OK() {
				t.Fatalf("uncut: %v", r)
			}
			writes := done.e.Memory().Writes() - w
			after := done.state()
			for n := 1; n <= writes; n++ {
				for _, keep := range []int{0, 1, 17, 32, 63, 64} {
					cutOnce(t, m, n, keep, before, after)
				}
			}
			t.Logf("%d physical writes", writes)
		})
	}
}

func cutOnce(t *testing.T, m money, n, keep int, before, after string) {
	t.Helper()
	b := newBench(t, holds(5000, 3, 8))
	c := m.run(b)
	b.e.Memory().CutAt(n, keep)
	if r, err := b.e.Transmit(c); !errors.Is(err, iso7816.ErrTorn) {
		t.Fatalf("cut %d: %v %v", n, r, err)
	}
	// The recovery is cut at its first, second, … write until it gets through.
	for k := 1; ; k++ {
		b.e.Memory().CutAt(k, keep)
		err := b.e.PowerOn(card.Contactless)
		b.e.Memory().CutAt(0, 0)
		if err == nil {
			break
		}
	}
	b.tap()
	got := b.state()
	if got != before && got != after {
		t.Fatalf("cut %d keeping %d: neither old nor new", n, keep)
	}
	b.tap()
	seq := uint16(9)
	if m.typ == purse.LoadEP {
		seq = 4
	}
	want := iso7816.SWPurseProve
	if got == after {
		want = iso7816.OK
	}
	if r := b.send(purse.Prove{Type: m.typ, Seq: seq}.Command()); r.SW != want {
		t.Fatalf("cut %d keeping %d: proof %v, want %v", n, keep, r, want)
	}
	agree(t, b)
}

// agree checks balance, sequences and log against each other: the newest log
// record is the last transaction, and the money it moved is the money moved.
func agree(t *testing.T, b *bench) {
	t.Helper()
	moved := int64(0)
	in, out := uint16(3), uint16(8)
	for n := byte(1); ; n++ {
		r := b.send(iso7816.ReadRecord(n, purse.SFILog, purse.LogLen))
		if !r.SW.OK() {
			break
		}
		l, err := purse.ParseLog(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		if l.Type == purse.LoadEP {
			moved += int64(l.Fen)
			in++
		} else {
			moved -= int64(l.Fen)
			out++
		}
	}
	p, _ := b.initPurchase(purse.InitPurchase{Purse: purse.EP})
	l, _ := b.initLoad(1)
	if int64(b.balance()) != 5000+moved || p.Seq != out || l.Seq != in {
		t.Fatalf("balance %d, log moved %d; sequences %d %d, log says %d %d", b.balance(), moved, l.Seq, p.Seq, in, out)
	}
}

// The answer is lost after the work: the money has moved, the proof says so.
func TestAnswerIsLost(t *testing.T) {
	for _, m := range moneys {
		b := newBench(t, holds(5000, 3, 8))
		c := m.run(b)
		b.e.LoseAnswer(1)
		if _, err := b.e.Transmit(c); !errors.Is(err, iso7816.ErrTorn) {
			t.Fatalf("%s: %v", m.name, err)
		}
		b.tap()
		agree(t, b)
		seq := uint16(9)
		if m.typ == purse.LoadEP {
			seq = 4
		}
		if r := b.send(purse.Prove{Type: m.typ, Seq: seq}.Command()); !r.SW.OK() {
			t.Errorf("%s: proof %v", m.name, r)
		}
	}
}

// What INITIALIZE armed dies with power, reset and selection; the same
// INITIALIZE never gives the same random twice.
func TestNothingVolatileSurvives(t *testing.T) {
	b := newBench(t, holds(5000, 3, 8))
	seen := map[[4]byte]bool{}
	for name, leave := range map[string]func(){
		"power off": b.tap,
		"reset":     func() { _ = b.e.Reset(); b.send(iso7816.Select([]byte(purseAID))) },
		"selection": func() { b.send(iso7816.Select([]byte(purseAID))) },
	} {
		a, _ := b.initPurchase(purse.InitPurchase{Purse: purse.EP, Fen: 5})
		if seen[a.Rnd] {
			t.Errorf("%s: the random came twice", name)
		}
		seen[a.Rnd] = true
		leave()
		if r := b.send(debitOf(a, purse.PurchaseEP, 5, 1).Command()); r.SW != iso7816.SWConditions {
			t.Errorf("%s: %v", name, r)
		}
	}
}
