package qpboc

import (
	"bytes"
	"errors"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// An act is one command that changes the card, with what leads to it.
type act struct {
	name  string
	moves bool // money moves with it
	run   func(b *bench) iso7816.Command
}

// last gives the last READ RECORD of an approval that is begun here.
func last(b *bench, gpo iso7816.Response) iso7816.Command {
	afl, _ := emv.ParseAFL(value(gpo, emv.TagAFL))
	records := afl.Records()
	for _, r := range records[:len(records)-1] {
		b.send(iso7816.ReadRecord(r.Number, r.SFI, 0))
	}
	r := records[len(records)-1]
	return iso7816.ReadRecord(r.Number, r.SFI, 0)
}

var acts = []act{
	{"offline payment", true, func(b *bench) iso7816.Command {
		b.set(emv.TagAmount, amount(5_00))
		return last(b, b.gpo())
	}},
	{"gate exit", true, func(b *bench) iso7816.Command {
		return last(b, b.gate(pboc.ModeFare, 5_00, ridden(pboc.BusOut)))
	}},
	{"gate exit into the offset", true, func(b *bench) iso7816.Command {
		return last(b, b.gate(pboc.ModeFare, 110_00, ridden(pboc.BusOut)))
	}},
	{"gate entry", false, func(b *bench) iso7816.Command {
		return last(b, b.gate(pboc.ModeFare, 0, ridden(pboc.BusEntered)))
	}},
	{"pre-authorisation", true, func(b *bench) iso7816.Command {
		return last(b, b.gate(pboc.ModeHold, 30_00, ridden(pboc.BusEntered)))
	}},
	{"completion", true, func(b *bench) iso7816.Command {
		b.leave(b.gate(pboc.ModeHold, 30_00, ridden(pboc.BusEntered)))
		return last(b, b.gate(pboc.ModeComplete, 12_00, ridden(pboc.BusOut)))
	}},
	{"e-cash by contact", true, func(b *bench) iso7816.Command {
		b.insert()
		b.set(emv.TagECIndicator, []byte{1}).set(emv.TagAmount, amount(5_00))
		b.gpo()
		return b.generateCommand(emv.TagCDOL1, 0x40)
	}},
	{"load", true, func(b *bench) iso7816.Command {
		x := b.asks(0)
		b.completes(x)
		return b.protect(pboc.PutBalance(170_00), x)
	}},
	{"end of an online transaction", false, func(b *bench) iso7816.Command {
		x := b.asks(1_00)
		b.send(b.arpc(x.ac, "00"))
		return b.generateCommand(emv.TagCDOL2, 0x40)
	}},
	{"record opened over the air", false, func(b *bench) iso7816.Command {
		return pboc.AppendIndustry(pboc.NewKey(pboc.TripleDES, keyOpen), busSFI, keyRec, unhex("2703 01020304"), b.atcNow())
	}},
	{"new PIN", false, func(b *bench) iso7816.Command {
		x := b.asks(0)
		c, _ := pboc.PINChange(b.session(keyENC), keyENC, "778899", "")
		return b.protect(c, x)
	}},
}

// Power fails at every physical write of every command that changes the card, with
// nothing, a part or all of that write landed, and then at every write of the
// recovery. The card is as before or as after.
func TestCutAtEveryWrite(t *testing.T) {
	for _, a := range acts {
		t.Run(a.name, func(t *testing.T) {
			old, done := newBench(t, issued()), newBench(t, issued())
			a.run(old)
			before := old.memory()
			c := a.run(done)
			w := done.e.Memory().Writes()
			if r := done.send(c); !r.SW.OK() {
				t.Fatalf("uncut: %v", r)
			}
			writes := done.e.Memory().Writes() - w
			after := done.memory()
			if writes == 0 || before == after {
				t.Fatal("the command changes nothing")
			}
			for n := 1; n <= writes; n++ {
				for _, keep := range []int{0, 17, 64} {
					cutOnce(t, a, n, keep, before, after)
				}
			}
		})
	}
}

func cutOnce(t *testing.T, a act, n, keep int, before, after string) {
	t.Helper()
	b := newBench(t, issued())
	c := a.run(b)
	b.e.Memory().CutAt(n, keep)
	if r, err := b.e.Transmit(c); !errors.Is(err, iso7816.ErrTorn) {
		t.Fatalf("cut %d: %v %v", n, r, err)
	}
	for k := 1; ; k++ { // the recovery is cut at its first, second, … write until it gets through
		b.e.Memory().CutAt(k, keep)
		err := b.e.PowerOn(b.iface)
		b.e.Memory().CutAt(0, 0)
		if err == nil {
			break
		}
	}
	if got := b.memory(); got != before && got != after {
		t.Fatalf("cut %d keeping %d: neither old nor new", n, keep)
	} else if got == after {
		agree(t, b, a)
	}
}

// agree checks balance, logs and proof against each other.
func agree(t *testing.T, b *bench, a act) {
	t.Helper()
	b.iface = card.Contactless
	b.tap()
	m, held := b.money2()
	moved := int64(m.have) + int64(held) - int64(m.offset) - 100_00
	told := int64(0)
	for n := byte(1); ; n++ {
		r := b.send(iso7816.ReadRecord(n, pboc.LogSFI, 0))
		if !r.SW.OK() {
			break
		}
		l, err := pboc.ParseLogEntry(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		if a.moves {
			told -= int64(l.Amount)
		}
	}
	if a.name == "pre-authorisation" || a.name == "completion" {
		told += 30_00 // set aside, not spent
	}
	if e, err := pboc.ParseLoadEntry(b.send(iso7816.ReadRecord(1, pboc.LoadLogSFI, 0)).Data); err == nil {
		told += int64(e.New) - int64(e.Old)
	}
	if moved != told {
		t.Fatalf("money moved %d, the logs tell of %d", moved, told)
	}
}

// The answer is lost after the work: money has moved once, the last record and the
// proof say so after a reset.
func TestAnswerIsLost(t *testing.T) {
	b := newBench(t, issued())
	gpo := b.gate(pboc.ModeFare, 5_00, ridden(pboc.BusOut))
	c := last(b, gpo)
	b.e.LoseAnswer(1)
	if _, err := b.e.Transmit(c); !errors.Is(err, iso7816.ErrTorn) {
		t.Fatal(err)
	}
	b.tap()
	if b.fen(emv.TagECBalance) != 95_00 || !bytes.Equal(b.industryRecord(), ridden(pboc.BusOut)) {
		t.Error("the ride is not paid")
	}
	if r := b.send(pboc.GetProof(1)); !bytes.Equal(r.Data, value(gpo, emv.TagAC)) {
		t.Errorf("proof %v", r)
	}
	if r := b.send(c); !r.SW.OK() || value(r, emv.TagCardAuth) == nil || b.fen(emv.TagECBalance) != 95_00 {
		t.Errorf("the last record again: %v", r)
	}
}

// A transaction that was cut off before its last record has only used up a number,
// and nothing of it survives a reset or a selection.
func TestNothingVolatileSurvives(t *testing.T) {
	for name, leave := range map[string]func(b *bench){
		"power off": func(b *bench) { b.tap() },
		"reset":     func(b *bench) { _ = b.e.Reset(); b.choose() },
		"selection": func(b *bench) { b.choose() },
	} {
		b := newBench(t, issued())
		gpo := b.gate(pboc.ModeFare, 5_00, ridden(pboc.BusOut))
		c := last(b, gpo)
		leave(b)
		b.want(iso7816.OK, b.send(c))
		b.want(iso7816.SWConditions, b.ride(keyRec, ridden(pboc.BusOut)))
		if b.fen(emv.TagECBalance) != 100_00 || b.atc() != 1 || !bytes.Equal(b.industryRecord(), bus) {
			t.Errorf("%s: something stayed", name)
		}
		b.want(iso7816.SWPurseProve, b.send(pboc.GetProof(1)))
	}
}

// The transaction counter moves in a unit of its own, before anything is answered:
// cut anywhere in GPO, it is old or new and nothing else has changed.
func TestCutInOptions(t *testing.T) {
	for n := 1; n < 10; n++ {
		b := newBench(t, issued())
		before, _ := b.money()
		b.tap()
		c := b.gpoCommand()
		b.e.Memory().CutAfter(n)
		_, err := b.e.Transmit(c)
		b.e.Memory().CutAfter(0)
		if err == nil {
			if n < 3 {
				t.Errorf("GPO of %d writes", n-1)
			}
			return
		}
		b.tap()
		if after, _ := b.money2(); after != before || b.atc() > 1 {
			t.Errorf("cut %d: ATC %d", n, b.atc())
		}
	}
}

// A wrong PIN costs its try even when power goes as soon as it is known.
func TestPINTryIsNotGivenBack(t *testing.T) {
	c, _ := iso7816.ParseCommand(unhex("0020008008 249999FFFFFFFFFF"))
	for n := 1; n < 20; n++ {
		b := newBench(t, issued())
		b.insert()
		w := b.e.Memory().Writes()
		b.e.Memory().CutAfter(n)
		_, err := b.e.Transmit(c)
		b.e.Memory().CutAfter(0)
		if err == nil {
			return
		}
		b.tap()
		if left := b.data(emv.TagPINTries)[0]; left == 3 && b.e.Memory().Writes()-w > 2 {
			t.Errorf("cut %d: %d tries", n, left)
		}
	}
}

// A prepaid card's online request takes its money at GPO: cut there, the counter may
// have moved alone, or everything has.
func TestCutInPrepaidOptions(t *testing.T) {
	prepaid := func(c *pboc.Card) { c.Processing |= pboc.ProcPrepaid }
	for n := 1; ; n++ {
		b := newBench(t, issued(prepaid))
		b.set(emv.TagTTQ, unhex("26800080")).set(emv.TagAmount, amount(30_00))
		c := b.gpoCommand()
		b.e.Memory().CutAfter(n)
		_, err := b.e.Transmit(c)
		b.e.Memory().CutAfter(0)
		if err == nil {
			if n < 4 {
				t.Errorf("GPO of %d writes", n-1)
			}
			return
		}
		b.tap()
		m, _ := b.money2()
		if paid := m.have == 70_00; !paid && m.have != 100_00 || paid && b.atc() != 1 {
			t.Errorf("cut %d: balance %d, ATC %d", n, m.have, b.atc())
		}
	}
}
