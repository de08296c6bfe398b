package psam_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/card"
	"koala/card/cardtest"
	"koala/card/psam"
	cardpurse "koala/card/purse"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

const (
	psamAID  = card.AID("koala.psam")
	purseAID = card.AID("\xA0\x00\x00\x06\x32\x01\x01\x05")
	number   = purse.Number("03105170070104791381")
)

var (
	dpkRoot = key16("11223344556677888877665544332211")
	dlkRoot = key16("404142434445464748494A4B4C4D4E4F")
	dtkRoot = key16("0123456789ABCDEFFEDCBA9876543210")
	gate    = purse.Terminal(unhex("300089000340"))
	stamp   = purse.StampFrom([7]byte(unhex("20241229141740")))
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func key16(s string) [16]byte { return [16]byte(unhex(s)) }

type group struct {
	dgi  uint16
	data []byte
}

func key(n uint16, kind purse.KeyKind, k [16]byte) group {
	return group{purse.DGIKeyFirst + n, purse.KeyRecord{Kind: kind, Index: byte(n + 1), Version: byte(n + 1), Key: k, KCV: iso9797.KCVDES(k[:])}.Bytes()}
}

func cardKey(n uint16, kind purse.KeyKind, root [16]byte) group {
	k := purse.Disperse(root, number.Factor())
	return group{purse.DGIKeyFirst + n, purse.KeyRecord{Kind: kind, Index: 1, Version: 1, Key: k, KCV: iso9797.KCVDES(k[:])}.Bytes()}
}

// element makes one with one instance of aid, personalised and selected.
func element(t testing.TB, aid card.AID, groups ...group) *cardtest.Element {
	t.Helper()
	e := cardtest.New(t, card.Config{}, cardtest.Modules{psamAID: psam.Module(), purseAID: cardpurse.Module()})
	id := e.Install(card.Entry{AID: aid})
	for _, g := range groups {
		e.Store(id, g.dgi, g.data)
	}
	tap(t, e, aid)
	return e
}

func tap(t testing.TB, e *cardtest.Element, aid card.AID) {
	t.Helper()
	e.Power(card.Contactless)
	e.Ask(iso7816.Select([]byte(aid)))
}

func newSAM(t testing.TB, x psam.Settings, more ...group) *cardtest.Element {
	return element(t, psamAID, append([]group{
		{purse.DGIPublic, unhex("2301010101000000212241010101")}, {purse.DGIHolder, gate[:]},
		{psam.DGISettings, x.Bytes()}, key(0, purse.DPK, dpkRoot),
	}, more...)...)
}

func newPurse(t testing.TB) *cardtest.Element {
	return element(t, purseAID,
		group{purse.DGIPublic, unhex("01011000FFFFFFFF020103105170070104791381201907182040123100 00")},
		group{purse.DGITransit, purse.NewTransit(number).Bytes()},
		cardKey(0, purse.DPK, dpkRoot), cardKey(1, purse.DLK, dlkRoot), cardKey(2, purse.DTK, dtkRoot))
}

func run(t testing.TB, e *cardtest.Element, script string) {
	t.Helper()
	for line := range strings.Lines(script) {
		cmd, want, _ := strings.Cut(strings.TrimSpace(line), ">")
		raw, err := e.TransmitRaw(unhex(cmd))
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		if got := strings.ToUpper(hex.EncodeToString(raw)); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s\n got %s\nwant %s", cmd, got, want)
		}
	}
}

const golden8070 = "8070000024 5A6B7C8D 042D 000001F4 09 20241229141740 01 00 5170070104791381 01011000FFFFFFFF 08"

// The PSAM's side of the constructed golden gate trace (issuer key, one level).
func TestGoldenGateTrace(t *testing.T) {
	run(t, newSAM(t, psam.Settings{Levels: 1, Tries: 3, TSeq: 0x102A}), `00B095000E > 2301010101000000212241010101 9000
		00B0960006 > 300089000340 9000
		8072000004 FFE1337A > 6985
		`+golden8070+` > 0000102A 9AA6390B 9000
		8072000004 FFE1337A > 9000
		8072000004 FFE1337A > 6985
		80CA00C100 > 0000102B 9000`)
}

// With the root in the PSAM the issuer code is dispersed first.
func TestTwoLevels(t *testing.T) {
	sam := newSAM(t, psam.Settings{Levels: 2, Tries: 3, TSeq: 1})
	issuer := purse.IssuerFactor([4]byte{1, 1, 0x10, 0})
	x := purse.SAMPurchase{Rnd: [4]byte{1, 2, 3, 4}, Seq: 5, Fen: 6, Type: purse.CAPP, Stamp: stamp, KeyVersion: 1,
		Factors: [][8]byte{number.Factor(), issuer}}
	r, _ := sam.Transmit(x.Command())
	a, err := purse.ParseSAMPurchaseAnswer(r.Data)
	dpk := purse.Disperse(purse.Disperse(dpkRoot, issuer), number.Factor())
	if want := purse.PurchaseMAC1(purse.PurchaseSession(dpk, x.Rnd, 5, 1), 6, purse.CAPP, gate, stamp); err != nil || a.MAC1 != want {
		t.Errorf("%v %v, want %X", r, err, want)
	}
	x.Factors = x.Factors[:1]
	if r, _ := sam.Transmit(x.Command()); r.SW != iso7816.SWPurseKey {
		t.Errorf("one factor: %v", r)
	}
}

func TestStatusWords(t *testing.T) {
	sam := newSAM(t, psam.Settings{Levels: 1, Tries: 2, TSeq: 7}, key(1, purse.DPK, dtkRoot))
	run(t, sam, `80700000 02 0000 > 6700
		8070010024 5A6B7C8D 042D 000001F4 09 20241229141740 01 00 5170070104791381 01011000FFFFFFFF > 6A86
		8070000024 5A6B7C8D 042D 000001F4 09 20241229141740 03 00 5170070104791381 01011000FFFFFFFF > 9403
		8070000024 5A6B7C8D 042D 000001F4 09 20241229141740 01 04 5170070104791381 01011000FFFFFFFF > 9403
		80CA00C100 > 00000007 9000
		80CA9F7F00 > 6A88
		00B0970000 > 6A82
		00B0950E00 > 6B00
		00B0000000 > 6986
		00A4000002 0016 > 9000
		00B0000000 > 300089000340 9000
		00A4000002 0017 > 6A82
		00DA000000 > 6D00
		80720000 03 000000 > 6700`)
	if r, _ := sam.TransmitRaw(unhex(golden8070)); len(r) != 10 {
		t.Fatalf("%X", r)
	}
	// Two wrong MAC2 lock it; a right one in between resets the count.
	run(t, sam, "8072000004 00000000 > 9302\n80CA00C200 > 01 9000")
	mac2 := purse.PurchaseMAC2(purse.PurchaseSession(purse.Disperse(dpkRoot, number.Factor()), [4]byte{0x5A, 0x6B, 0x7C, 0x8D}, 0x042D, 7), 500)
	run(t, sam, "8072000004"+hex.EncodeToString(mac2[:])+"> 9000\n80CA00C200 > 02 9000")
	if r, _ := sam.TransmitRaw(unhex(golden8070)); len(r) != 10 {
		t.Fatalf("%X", r)
	}
	run(t, sam, "8072000004 00000000 > 9302\n8072000004 00000000 > 9302\n8072000004 00000000 > 6983\n"+golden8070+"> 6983")
	tap(t, sam, psamAID)
	run(t, sam, golden8070+"> 6983")
}

// A transaction number is used once whatever happens: power fails at every
// write of 8070, and no MAC1 is ever made twice under one number.
func TestTransactionNumbersAreUsedOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		sam := newSAM(t, psam.Settings{Levels: 1, Tries: 3, TSeq: 10})
		last := uint32(9)
		for range rapid.IntRange(1, 12).Draw(r, "taps") {
			sam.Memory().CutAt(rapid.IntRange(0, 4).Draw(r, "cut"), rapid.IntRange(0, 64).Draw(r, "keep"))
			if rapid.Bool().Draw(r, "lose") {
				sam.LoseAnswer(1)
			}
			raw, err := sam.TransmitRaw(unhex(golden8070))
			sam.LoseAnswer(0)
			for errors.Is(err, iso7816.ErrTorn) {
				err = sam.PowerOn(card.Contact)
			}
			sam.Memory().CutAfter(0)
			tap(t, sam, psamAID)
			if raw == nil {
				continue
			}
			x, err := purse.ParseSAMPurchaseAnswer(raw[:8])
			if err != nil || x.TSeq <= last {
				r.Fatalf("number %d after %d: %v", x.TSeq, last, err)
			}
			last = x.TSeq
		}
	})
}

func TestSettingsNeverTurnTheNumberBack(t *testing.T) {
	sam := newSAM(t, psam.Settings{Levels: 1, Tries: 3, TSeq: 100})
	sam.PowerOff()
	sw, err := sam.Factory(func(s *card.Session) iso7816.SW {
		x, _ := s.Registry().Find(psamAID)
		return s.Personalise(x.ID, psam.DGISettings, psam.Settings{Levels: 1, Tries: 3, TSeq: 99}.Bytes(), nil)
	})
	if sw != iso7816.SWConditions || err != nil {
		t.Errorf("%v %v", sw, err)
	}
}

// must sends a command that has to succeed.
func must(t testing.TB, e *cardtest.Element, c iso7816.Command) []byte {
	r, err := e.Transmit(c)
	if err != nil || !r.SW.OK() {
		t.Fatalf("%v: %v %v", c, r, err)
	}
	return r.Data
}

func topUp(t testing.TB, e *cardtest.Element, fen uint32) {
	t.Helper()
	a, err := purse.ParseInitLoadAnswer(must(t, e, purse.InitLoad{Purse: purse.EP, Key: 1, Fen: fen, Terminal: gate}.Command()))
	if err != nil {
		t.Fatal(err)
	}
	sk := purse.LoadSession(purse.Disperse(dlkRoot, number.Factor()), a.Rnd, a.Seq)
	must(t, e, purse.CreditCommand{Stamp: stamp, MAC2: purse.LoadMAC2(sk, fen, purse.LoadEP, gate, stamp)}.Command())
}

// pass is one whole passage: card, PSAM and what a gate sends, both records
// written with the money.
func pass(t testing.TB, e, sam *cardtest.Element, fen uint32, rail, trip []byte) purse.DebitAnswer {
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	fci, err := purse.ParseFCI(must(t, e, iso7816.Select([]byte(purseAID))))
	if err != nil {
		t.Fatal(err)
	}
	f, err := purse.ParseFile15(fci.Public)
	if err != nil {
		t.Fatal(err)
	}
	must(t, e, iso7816.ReadRecordByID(0x27, purse.SFITransit, purse.TransitLen))
	a, err := purse.ParseInitPurchaseAnswer(must(t, e, purse.InitPurchase{CAPP: true, Purse: purse.EP, Key: 1, Fen: fen, Terminal: gate}.Command()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := purse.ParseSAMPurchaseAnswer(must(t, sam, purse.SAMPurchase{
		Rnd: a.Rnd, Seq: a.Seq, Fen: fen, Type: purse.CAPP, Stamp: stamp, KeyVersion: a.KeyVersion, Alg: a.Alg,
		Factors: [][8]byte{f.Number.Factor(), purse.IssuerFactor(f.IssuerCode())},
	}.Command()))
	if err != nil {
		t.Fatal(err)
	}
	must(t, e, purse.UpdateCAPP{SFI: purse.SFITransit, ID: 0x27, Record: rail}.Command())
	must(t, e, purse.UpdateCAPP{SFI: purse.SFITrip, Record: trip}.Command())
	d, err := purse.ParseDebitAnswer(must(t, e, purse.DebitCommand{TSeq: m.TSeq, Stamp: stamp, MAC1: m.MAC1}.Command()))
	if err != nil {
		t.Fatal(err)
	}
	must(t, sam, purse.SAMCredit{MAC2: d.MAC2}.Command())
	return d
}

// A card and a PSAM that share nothing but the root agree, and the issuer can
// check the TAC from the roots.
func TestPassage(t *testing.T) {
	e, sam := newPurse(t), newSAM(t, psam.Settings{Levels: 1, Tries: 3, TSeq: 1})
	topUp(t, e, 10_00)
	d := pass(t, e, sam, 4_00, purse.NewTransit(number).Bytes(), purse.Trip{Kind: purse.TripExit}.Bytes())
	tk := purse.TACKey(purse.Disperse(dtkRoot, number.Factor()))
	if d.TAC != purse.PurchaseTAC(tk, 4_00, purse.CAPP, gate, 1, stamp) {
		t.Error("TAC")
	}
	if fen, _ := purse.ParseBalance(must(t, e, purse.GetBalance{Purse: purse.EP}.Command())); fen != 6_00 {
		t.Errorf("balance %d", fen)
	}
}

// BenchmarkPassage is a whole gate purchase at card and PSAM, power on included.
func BenchmarkPassage(b *testing.B) {
	e, sam := newPurse(b), newSAM(b, psam.Settings{Levels: 1, Tries: 3, TSeq: 1})
	topUp(b, e, 1000_00)
	rail, trip := purse.NewTransit(number).Bytes(), purse.Trip{Kind: purse.TripExit}.Bytes()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%60000 == 59999 { // the offline sequence of a card ends at FFFF
			b.StopTimer()
			e = newPurse(b)
			b.StartTimer()
		}
		pass(b, e, sam, 0, rail, trip)
	}
}

func FuzzAPDUs(f *testing.F) {
	f.Add(unhex("29" + strings.ReplaceAll(golden8070, " ", "") + "098072000004FFE1337A"))
	f.Add(unhex("0500B095000E0580CA00C100"))
	f.Fuzz(func(t *testing.T, in []byte) {
		sam := newSAM(t, psam.Settings{Levels: 1, Tries: 3, TSeq: 1})
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			if _, err := sam.TransmitRaw(in[1 : 1+n]); err != nil {
				t.Fatalf("%X: %v", in[1:1+n], err)
			}
			in = in[1+n:]
		}
	})
}
