package pos_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal/kernel"
)

const busSFI = 0x15

var (
	keyOpen   = [16]byte{0x40, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	keyRecord = [16]byte{0x50, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// transitCard is an e-cash card with a bus operator's record.
func transitCard(t testing.TB) *purchaser {
	return issue(t, func(c *pboc.Card) {
		c.Support, c.OffsetLimit = pboc.SupportFull, 20_00
		c.Files = []pboc.File{{SFI: busSFI, Kind: pboc.Variable, MaxRecord: 128, Size: 128, Key: keyOpen}}
		c.Opened = []pboc.Opened{{SFI: busSFI, Number: 1, Key: keyRecord, Data: pboc.Bus{Valid: 1}.Bytes()}}
	})
}

// busGate lets in for nothing and out for the fare.
func busGate(fen uint64, mode byte) kernel.Ride {
	return kernel.Ride{
		SFI: busSFI, ID: pboc.BusID, Number: emv.RecordID{SFI: 2, Number: 1},
		Decide: func(f kernel.Fare) (kernel.FareDecision, error) {
			b, err := pboc.ParseBus(f.Record)
			if err != nil || b.Valid != 1 {
				return kernel.FareDecision{Refuse: kernel.CardError}, nil
			}
			d := kernel.FareDecision{Mode: mode}
			if b.Status == pboc.BusEntered {
				b.Status, d.Fen, b.Fen = pboc.BusOut, fen, uint16(fen)
			} else {
				b.Status = pboc.BusEntered
			}
			d.Record = b.Bytes()
			return d, nil
		},
		Update: func(o *kernel.Outcome, record []byte) (iso7816.Command, error) {
			return pboc.UpdateCAPP(pboc.NewKey(pboc.TripleDES, keyRecord), busSFI, record, binary.BigEndian.Uint16(o.Get(emv.TagATC))), nil
		},
	}
}

func bus(t testing.TB, p *purchaser) pboc.Bus {
	t.Helper()
	send := p.present(card.Contactless)
	for _, c := range []iso7816.Command{iso7816.Select([]byte(pboc.AIDDebit)), pboc.ReadIndustry(busSFI, pboc.BusID)} {
		r, err := send(c)
		if err != nil || !r.SW.OK() {
			t.Fatal(r.SW, err)
		}
		if c.INS == pboc.InsReadCAPP {
			return must(pboc.ParseBus(r.Data))
		}
	}
	return pboc.Bus{}
}

// In for nothing, out for the fare, record and money together.
func TestRide(t *testing.T) {
	p, s := transitCard(t), newShop(t)
	k := must(kernel.New(s.cfg.Kernel))
	ride := func(fen uint64) kernel.Outcome {
		o, err := k.Ride(p.present(card.Contactless), kernel.Transaction{At: noon, Unpredictable: [4]byte{1, 2, 3, 4}, Sequence: 1}, kernel.Seams{}, busGate(fen, kernel.SegmentFare))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	want(t, ride(4_00), kernel.Approved, kernel.NoReason)
	if b := bus(t, p); b.Status != pboc.BusEntered || p.holds() != 100_00 {
		t.Fatalf("after entry: %+v, holds %d", b, p.holds())
	}
	o := ride(4_00)
	want(t, o, kernel.Approved, kernel.NoReason)
	if b := bus(t, p); b.Status != pboc.BusOut || b.Fen != 4_00 || p.holds() != 96_00 {
		t.Fatalf("after exit: %+v, holds %d", b, p.holds())
	}
	send := p.present(card.Contactless)
	if _, err := send(iso7816.Select([]byte(pboc.AIDDebit))); err != nil {
		t.Fatal(err)
	}
	tc, ok, err := kernel.Prove(send, binary.BigEndian.Uint16(o.Get(emv.TagATC)))
	if err != nil || !ok || !bytes.Equal(tc[:], o.Get(emv.TagAC)) {
		t.Errorf("proof %X %v %v", tc, ok, err)
	}
	if _, ok, _ := kernel.Prove(send, 99); ok {
		t.Error("proof of another ride")
	}
}

// The card leaves at each answer and at each of its writes: record and money
// move together or not at all, and no gate opens without them.
func TestRideTorn(t *testing.T) {
	for _, lost := range []bool{true, false} {
		for n := 1; ; n++ {
			p, s := transitCard(t), newShop(t)
			k := must(kernel.New(s.cfg.Kernel))
			ride := func() kernel.Outcome {
				o, err := k.Ride(p.e.Transmit, kernel.Transaction{At: noon, Unpredictable: [4]byte{1, 2, 3, 4}, Sequence: 1}, kernel.Seams{}, busGate(4_00, kernel.SegmentFare))
				if err != nil {
					t.Fatal(err)
				}
				return o
			}
			if p.e.PowerOn(card.Contactless); ride().Result != kernel.Approved {
				t.Fatal("not in")
			}
			if err := p.e.PowerOn(card.Contactless); err != nil {
				t.Fatal(err)
			}
			if lost {
				p.e.LoseAnswer(n)
			} else {
				p.e.Memory().CutAfter(n)
			}
			o := ride()
			holds := p.holds()
			b := bus(t, p)
			paid := holds == 96_00 && b.Status == pboc.BusOut
			if !paid && (holds != 100_00 || b.Status != pboc.BusEntered) {
				t.Fatalf("lost %v %d: holds %d, record %+v", lost, n, holds, b)
			}
			if o.Result == kernel.Approved && !paid {
				t.Fatalf("lost %v %d: the gate opens for nothing", lost, n)
			}
			if o.Result == kernel.Approved {
				t.Logf("lost %v: %d", lost, n-1)
				break
			}
			want(t, o, kernel.TryAgain, kernel.Torn)
		}
	}
}

// What a gate refuses, and what it cannot use, leaves the card as it was.
func TestRideRefused(t *testing.T) {
	s := newShop(t)
	k := must(kernel.New(s.cfg.Kernel))
	tx := kernel.Transaction{At: noon, Unpredictable: [4]byte{1}, Sequence: 1}
	plain := issue(t)
	o, err := k.Ride(plain.present(card.Contactless), tx, kernel.Seams{}, busGate(1, kernel.SegmentFare))
	if want(t, o, kernel.EndApplication, kernel.NoApplication); err != nil {
		t.Fatal(err)
	}
	p := transitCard(t)
	refusing := busGate(1, kernel.SegmentFare)
	refusing.Decide = func(kernel.Fare) (kernel.FareDecision, error) {
		return kernel.FareDecision{Refuse: kernel.NotForThis}, nil
	}
	o, err = k.Ride(p.present(card.Contactless), tx, kernel.Seams{}, refusing)
	if want(t, o, kernel.Declined, kernel.NotForThis); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("PSAM")
	dead := busGate(1, kernel.SegmentFare)
	dead.Update = func(*kernel.Outcome, []byte) (iso7816.Command, error) { return iso7816.Command{}, broken }
	if _, err = k.Ride(p.present(card.Contactless), tx, kernel.Seams{}, dead); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	forged := busGate(1, kernel.SegmentFare)
	forged.Update = func(o *kernel.Outcome, record []byte) (iso7816.Command, error) {
		return pboc.UpdateCAPP(pboc.NewKey(pboc.TripleDES, keyOpen), busSFI, record, 1), nil
	}
	o, err = k.Ride(p.present(card.Contactless), tx, kernel.Seams{}, forged)
	if err != nil || o.Result != kernel.Declined || o.SW != iso7816.SWSecureWrong {
		t.Errorf("%v %v", o, err)
	}
	if b := bus(t, p); b.Status != pboc.BusOut || p.holds() != 100_00 {
		t.Errorf("%+v, holds %d", b, p.holds())
	}
}
