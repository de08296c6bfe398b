package qpboc

import (
	"testing"

	"pgregory.net/rapid"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// A model is what the card should hold.
type model struct {
	have, owed, held uint64
	open             bool // a pre-authorisation
	atc              uint16
}

// Any order of payments, rides, pre-authorisations, loads, tears and lost answers
// conserves money: what left the balance is what the model says was paid, and the
// transaction counter grows by one for each GPO that was understood.
func TestMoneyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, issued())
		m := model{have: 100_00}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			fen := rapid.Uint64Range(0, 160_00).Draw(t, "fen")
			b.iface = card.Contactless
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				m.pay(t, b, pboc.Mode(rapid.IntRange(0, 3).Draw(t, "mode")), fen)
			case 2:
				m.load(t, b, fen*5)
			case 3:
				b.tap()
				b.gpo() // and away
				m.atc++
			default:
				m.contact(t, b, fen)
			}
			m.check(t, b)
		}
	})
}

func (m *model) check(t *rapid.T, b *bench) {
	t.Helper()
	x, held := b.money2()
	if x.have != m.have || x.offset != m.owed || held != m.held || b.atcNow() != m.atc {
		t.Fatalf("have %d owed %d held %d ATC %d, want %+v", x.have, x.offset, held, b.atcNow(), *m)
	}
}

// maybe sends a command that may be cut or whose answer may be lost, and says
// whether the card has carried it out.
func (m *model) maybe(t *rapid.T, b *bench, c iso7816.Command) (r iso7816.Response, done bool) {
	t.Helper()
	before := b.memory2()
	b.e.Memory().CutAt(rapid.IntRange(0, 20).Draw(t, "cut"), rapid.IntRange(0, 64).Draw(t, "keep"))
	if rapid.IntRange(0, 4).Draw(t, "lose") == 0 {
		b.e.LoseAnswer(1)
	}
	r, err := b.e.Transmit(c)
	b.e.Memory().CutAt(0, 0)
	b.e.LoseAnswer(0)
	if err != nil {
		b.tap()
		return r, b.memory2() != before
	}
	return r, r.SW.OK()
}

// memory2 is the state region as it stands, power or not.
func (b *bench) memory2() string { return string(b.e.Memory().Region(b.self, stateTag).Bytes()) }

func (m *model) pay(t *rapid.T, b *bench, mode pboc.Mode, fen uint64) {
	t.Helper()
	b.set(emv.TagTTQ, unhex("26000080"))
	b.tap()
	b.want(iso7816.OK, b.send(pboc.ReadIndustry(busSFI, pboc.BusID)))
	b.set(emv.TagCAPPIndicator, []byte{byte(mode)}).set(emv.TagAmount, amount(fen))
	gpo := b.gpo()
	m.atc++
	usable := m.have
	switch mode {
	case pboc.ModeFare:
		usable += 20_00 - m.owed
	case pboc.ModeHold:
		if m.open {
			b.want(swHeld, gpo)
			return
		}
	case pboc.ModeComplete:
		if !m.open {
			b.want(swNoHold, gpo)
			return
		}
		usable += m.held
	}
	if approved := iadOf(t, gpo).CVR.First() == pboc.TC; approved != (fen <= usable) {
		t.Fatalf("mode %d, %d of %d: approved %v", mode, fen, usable, approved)
	} else if !approved {
		return
	}
	if mode != pboc.ModeNone {
		b.want(iso7816.OK, b.ride(keyRec, ridden(byte(m.atc))))
	}
	if _, done := m.maybe(t, b, last(b, gpo)); done {
		m.paid(mode, fen)
	}
}

func (m *model) paid(mode pboc.Mode, fen uint64) {
	switch {
	case mode == pboc.ModeComplete:
		m.have, m.held, m.open = m.have+m.held-fen, 0, false
	case mode == pboc.ModeFare && fen > m.have:
		m.owed, m.have = m.owed+fen-m.have, 0
	default:
		m.have -= fen
		if mode == pboc.ModeHold {
			m.held, m.open = fen, true
		}
	}
}

func (m *model) load(t *rapid.T, b *bench, fen uint64) {
	t.Helper()
	x := b.asks(0)
	m.atc++
	b.completes(x)
	c := b.protect(pboc.PutBalance(fen), x)
	right := rapid.IntRange(0, 3).Draw(t, "right") > 0
	if !right {
		c.Data[len(c.Data)-1] ^= 1
	}
	have, owed := fen-min(fen, m.owed), m.owed-min(fen, m.owed)
	r, done := m.maybe(t, b, c)
	switch {
	case !right && r.SW.OK():
		t.Fatal("a wrong MAC loads")
	case !right, have+m.held > 1000_00, !done:
		return
	}
	if now, _ := b.money2(); r.SW.OK() || now.have == have && now.offset == owed {
		m.have, m.owed = have, owed
	}
}

// contact pays by e-cash on contact, where it fits.
func (m *model) contact(t *rapid.T, b *bench, fen uint64) {
	t.Helper()
	b.insert()
	b.set(emv.TagECIndicator, []byte{1}).set(emv.TagAmount, amount(fen))
	b.want(iso7816.OK, b.gpo())
	b.set(emv.TagECIndicator, []byte{0})
	m.atc++
	if fen > m.have {
		return
	}
	if _, done := m.maybe(t, b, b.generateCommand(emv.TagCDOL1, 0x40)); done {
		m.have -= fen
	}
}

// FuzzAPDUs: any bytes as commands never panic, and without keys nobody moves money
// into the card, changes a record or its life; only payments take money out.
func FuzzAPDUs(f *testing.F) {
	for _, seed := range []string{
		"05 00B2011400 05 80CA9F7900 08 80B400A8020221 00",
		"0D 00A4040008A000000333010101 05 00B201140C 07 805A00000200 01",
		"0F 04DA9F790A000000005000AE268094 09 841E00000442CA0591 11 84DE00A80C2703000801020304AF3E93B3",
		"0E 0020008008249999FFFFFFFFFF 0F 008200000A21415243527CE78F3031 09 008800000411223344",
		"48 80A8000042833F26000080000000000100000000000000015600000000000156241229001E78EEBC14174042454A494E47205355425741592020202020200100 05 00B2011400 05 00B2011C00 05 00B2021C00 05 00B2014400",
		"0B 04E200A80400000000 05 8084000008",
	} {
		f.Add(unhex(seed), true)
		f.Add(unhex(seed), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, contact bool) {
		b := newBench(t, issued())
		if contact {
			b.iface = card.Contact
		}
		before, _ := b.money()
		record := b.memoryOf(industryTag(busSFI)) + b.memoryOf(0x0401)
		b.tap()
		atc := b.atcNow()
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			was := b.settled()
			r, err := b.e.TransmitRaw(in[1 : 1+n])
			if err != nil {
				t.Fatalf("%X: %v", in[1:1+n], err)
			}
			if sw := r[len(r)-2]; sw != 0x90 && sw != 0x62 && b.settled() != was {
				t.Fatalf("%X: refused with %X, but changed the card", in[1:1+n], r)
			}
			if now := b.atcNow(); now < atc {
				t.Fatal("the transaction counter went back")
			} else {
				atc = now
			}
			in = in[1+n:]
		}
		after, held := b.money()
		if after.have > before.have || after.offset < before.offset || held != 0 {
			t.Fatalf("money appeared: %+v, held %d", after, held)
		}
		if b.memoryOf(industryTag(busSFI))+b.memoryOf(0x0401) != record {
			t.Fatal("a record changed")
		}
	})
}

// settled is the card's memory without what a refused command may move: the
// transaction counter with the answer kept before it, the counts of failures and
// their indicators.
func (b *bench) settled() string {
	state := []byte(b.memory2())
	for _, at := range []int{atATC, atATC + 1, atTries, atFlags, atAuthFails, atMACFails, atBackup} {
		state[at] = 0
	}
	return string(state) + b.memoryOf(2) + b.memoryOf(3) + b.memoryOf(industryTag(busSFI)) + b.memoryOf(industryTag(trailSFI))
}

func (b *bench) memoryOf(tag uint16) string {
	return string(b.e.Memory().Region(b.self, tag).Bytes())
}

// A stranger's tool that tries every instruction in every class changes nothing but
// the counter of PIN tries, which it asks for itself.
func TestProbing(t *testing.T) {
	for _, iface := range []card.Interface{card.Contactless, card.Contact} {
		b := newBench(t, issued())
		b.iface = iface
		before := b.memory()
		b.tap()
		for _, cla := range []byte{0x00, 0x04, 0x08, 0x80, 0x84, 0x90, 0xA0, 0xFF} {
			for ins := range 256 {
				if byte(ins) == iso7816.InsManageChannel || byte(ins) == iso7816.InsVerify {
					continue
				}
				for _, body := range []string{"", "00", "0411223344", "080000000000000000 00"} {
					raw := append([]byte{cla, byte(ins), 0, 0}, unhex(body)...)
					if r, err := b.e.TransmitRaw(raw); err != nil || len(r) < 2 {
						t.Fatalf("%X: %v", raw, err)
					}
				}
			}
		}
		if b.memory() != before {
			t.Error("probing changed the card")
		}
	}
}
