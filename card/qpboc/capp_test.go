package qpboc

import (
	"bytes"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// gate is what a gate does up to the last record: read the ride, ask for the fare,
// write the ride. It gives the answer to GPO.
func (b *bench) gate(mode pboc.Mode, fen uint64, rec []byte) iso7816.Response {
	b.t.Helper()
	b.iface = card.Contactless
	b.tap()
	b.want(iso7816.OK, b.send(pboc.ReadIndustry(busSFI, pboc.IndustryID(rec))))
	b.set(emv.TagCAPPIndicator, []byte{byte(mode)}).set(emv.TagAmount, amount(fen))
	r := b.gpo()
	if !r.SW.OK() || value(r, emv.TagAFL) == nil {
		return r
	}
	b.want(iso7816.OK, b.ride(keyRec, rec))
	return r
}

// leave reads the records, the last of which pays.
func (b *bench) leave(gpo iso7816.Response) iso7816.Response {
	b.t.Helper()
	return b.records(value(gpo, emv.TagAFL))
}

func (b *bench) industryRecord() []byte {
	b.t.Helper()
	return b.send(pboc.ReadIndustry(busSFI, pboc.BusID)).Data
}

func ridden(status byte) []byte {
	x := pboc.Bus{Valid: 1, Flag: pboc.BusFare, Status: status, MonthRides: 7}
	x.Entry.Device = [4]byte{1, 2, 3, 4}
	return x.Bytes()
}

// A ride: entry with amount 0, exit with the fare, records and money together, each
// with a certificate that can be asked for again.
func TestRide(t *testing.T) {
	b := newBench(t, issued())
	in := b.gate(pboc.ModeFare, 0, ridden(pboc.BusEntered))
	if !bytes.Equal(b.industryRecord(), bus) {
		t.Error("the record changed before the last record was read")
	}
	b.want(iso7816.OK, b.leave(in))
	if !bytes.Equal(b.industryRecord(), ridden(pboc.BusEntered)) || b.fen(emv.TagECBalance) != 100_00 {
		t.Error("entry is not on the card")
	}
	if r := b.send(pboc.GetProof(1)); !bytes.Equal(r.Data, value(in, emv.TagAC)) {
		t.Errorf("proof %v", r)
	}
	out := b.gate(pboc.ModeFare, 4_00, ridden(pboc.BusOut))
	b.want(iso7816.OK, b.leave(out))
	if !bytes.Equal(b.industryRecord(), ridden(pboc.BusOut)) || b.fen(emv.TagECBalance) != 96_00 {
		t.Error("exit is not on the card")
	}
	b.tap()
	if r := b.want(iso7816.OK, b.send(pboc.GetProof(2))); !bytes.Equal(r.Data, value(out, emv.TagAC)) {
		t.Errorf("proof %v", r)
	}
	b.want(iso7816.SWPurseProve, b.send(pboc.GetProof(1)))
	b.want(iso7816.SWLength, b.raw("805A000001 02"))
	b.want(iso7816.SWP1P2, b.raw("805A000102 0002"))
}

// A fare may leave the holder owing up to the offset limit, and no more.
func TestSegmentFareOffset(t *testing.T) {
	for _, tt := range []struct {
		have, owed, fare uint64
		paid             bool
		left, owes       uint64
	}{
		{5_00, 0, 4_00, true, 1_00, 0},
		{5_00, 0, 5_00, true, 0, 0},
		{5_00, 0, 8_00, true, 0, 3_00},
		{5_00, 0, 25_00, true, 0, 20_00},
		{5_00, 0, 25_01, false, 5_00, 0},
		{0, 15_00, 5_00, true, 0, 20_00},
		{0, 15_00, 5_01, false, 0, 15_00},
	} {
		b := newBench(t, issued(func(c *pboc.Card) { c.Balance = tt.have }))
		b.own(func(a *applet, s *card.Session) { a.setFen(emv.TagOffsetUsed, tt.owed) })
		r := b.gate(pboc.ModeFare, tt.fare, ridden(pboc.BusOut))
		if tt.paid {
			b.want(iso7816.OK, b.leave(r))
		} else if iadOf(t, r).CVR.First() != pboc.ARQC {
			t.Errorf("%+v: approved", tt)
		}
		if m, _ := b.money2(); m.have != tt.left || m.offset != tt.owes {
			t.Errorf("%+v: %d, owes %d", tt, m.have, m.offset)
		}
	}
}

// Pre-authorisations: three at most, one for a record, completed with what the ride
// really cost.
func TestHolds(t *testing.T) {
	ids := []pboc.IndustryID{pboc.BusID, {0x27, 0x03}, {0x27, 0x04}, {0x27, 0x05}}
	b := newBench(t, issued(func(c *pboc.Card) {
		for i, id := range ids[1:] {
			c.Opened = append(c.Opened, pboc.Opened{SFI: busSFI, Number: byte(i + 2), Key: keyRec, Data: []byte{id[0], id[1], 1, 0}})
		}
	}))
	rec := func(i int) []byte {
		if i == 0 {
			return ridden(pboc.BusEntered)
		}
		return []byte{ids[i][0], ids[i][1], 1, 9}
	}
	b.want(swNoHold, b.gate(pboc.ModeComplete, 1_00, rec(0)))
	for i := range 3 {
		r := b.gate(pboc.ModeHold, 30_00, rec(i))
		if value(r, emv.TagAC) != nil || value(r, emv.TagSDAD) == nil {
			t.Error("a pre-authorisation has a certificate")
		}
		b.want(iso7816.OK, b.leave(r))
		if p := b.send(pboc.GetProof(b.atcNow())); !bytes.Equal(p.Data, make([]byte, 8)) {
			t.Errorf("proof %v", p)
		}
		b.want(swHeld, b.gate(pboc.ModeHold, 1_00, rec(i)))
	}
	b.want(swHolds, b.gate(pboc.ModeHold, 1_00, rec(3)))
	if m, held := b.money2(); m.have != 10_00 || held != 90_00 {
		t.Errorf("%d, held %d", m.have, held)
	}
	if r := b.gate(pboc.ModeComplete, 40_01, rec(1)); iadOf(t, r).CVR.First() != pboc.ARQC {
		t.Error("a completion above balance and hold is approved")
	}
	b.want(iso7816.OK, b.leave(b.gate(pboc.ModeComplete, 12_00, rec(1))))
	if m, held := b.money2(); m.have != 28_00 || held != 60_00 {
		t.Errorf("%d, held %d", m.have, held)
	}
	b.want(swNoHold, b.gate(pboc.ModeComplete, 1_00, rec(1)))
	b.want(iso7816.OK, b.leave(b.gate(pboc.ModeComplete, 40_00, rec(0))))
	if m, held := b.money2(); m.have != 18_00 || held != 30_00 {
		t.Errorf("%d, held %d", m.have, held)
	}
}

// UPDATE CAPP DATA CACHE only directly after GPO or its like, and every refusal.
func TestUpdateOrder(t *testing.T) {
	b := newBench(t, issued())
	k := pboc.NewKey(pboc.TripleDES, keyRec)
	good := func() iso7816.Command { return pboc.UpdateCAPP(k, busSFI, ridden(1), b.atcNow()) }
	b.set(emv.TagCAPPIndicator, []byte{1})
	b.want(iso7816.SWConditions, b.send(good()))
	b.want(iso7816.OK, b.gpo())
	b.want(iso7816.OK, b.raw("80CA9F7900"))
	b.want(iso7816.SWConditions, b.send(good()))
	b.choose()
	b.set(emv.TagCAPPIndicator, []byte{0})
	b.gpo()
	b.want(iso7816.SWConditions, b.send(good()))
	b.choose()
	b.set(emv.TagCAPPIndicator, []byte{4}) // ignored
	b.gpo()
	b.want(iso7816.SWConditions, b.send(good()))
	b.choose()
	b.set(emv.TagCAPPIndicator, []byte{1})
	b.gpo()
	long, short := append(ridden(1), 0), ridden(1)[:63]
	b.want(iso7816.SWNoSpace, b.send(pboc.UpdateCAPP(k, busSFI, long, b.atcNow())))
	b.want(iso7816.SWData, b.send(pboc.UpdateCAPP(k, busSFI, short, b.atcNow())))
	b.want(iso7816.SWSecureWrong, b.send(pboc.UpdateCAPP(k, busSFI, ridden(1), 99)))
	b.want(iso7816.SWRecordNotFound, b.send(pboc.UpdateCAPP(k, busSFI, []byte{9, 9, 9}, b.atcNow())))
	b.want(iso7816.SWFileNotFound, b.send(pboc.UpdateCAPP(k, 0x17, ridden(1), b.atcNow())))
	b.want(iso7816.SWLength, b.raw("84DE00A805 0221112233"))
	b.want(iso7816.SWP1P2, b.raw("84DE01A806 022111223344"))
	for range cacheCount {
		b.want(iso7816.OK, b.send(good()))
	}
	b.want(iso7816.SWMemory, b.send(good()))
	before, _ := b.money2()
	b.send(iso7816.ReadRecord(1, 2, 0))
	b.send(iso7816.ReadRecord(1, 3, 0))
	b.want(iso7816.OK, b.send(iso7816.ReadRecord(2, 3, 0)))
	b.want(iso7816.SWCAPPNothingRead, b.send(iso7816.ReadRecord(1, 8, 0))) // the cache ran over
	if after, _ := b.money2(); after != before || !bytes.Equal(b.industryRecord(), bus) {
		t.Error("a spoilt transaction changed the card")
	}
}

// The commit needs an update of the record last read.
func TestCommitNeedsTheRecord(t *testing.T) {
	for _, tt := range []struct {
		name     string
		read     bool
		update   bool
		trail    bool
		sw       iso7816.SW
		readLast []byte
	}{
		{"both", true, true, false, iso7816.OK, nil},
		{"not read", false, true, false, iso7816.SWCAPPNothingRead, nil},
		{"not written", true, false, false, iso7816.SWCAPPNothingRead, nil},
		{"another written", true, false, true, iso7816.SWCAPPNothingRead, nil},
		{"both written", true, true, true, iso7816.OK, nil},
	} {
		b := newBench(t, issued())
		if tt.read {
			b.want(iso7816.OK, b.send(pboc.ReadIndustry(busSFI, pboc.BusID)))
		}
		b.set(emv.TagCAPPIndicator, []byte{1}).set(emv.TagAmount, amount(1_00))
		r := b.gpo()
		if tt.update {
			b.want(iso7816.OK, b.ride(keyRec, ridden(1)))
		}
		trail := append([]byte{0xEE, 1}, make([]byte, 14)...)
		if tt.trail {
			b.want(iso7816.OK, b.send(pboc.UpdateCAPP(pboc.NewKey(pboc.TripleDES, keyOpen), trailSFI, trail, b.atcNow())))
		}
		b.want(tt.sw, b.leave(r))
		if m, _ := b.money2(); (m.have == 99_00) != tt.sw.OK() {
			t.Errorf("%s: balance %d", tt.name, m.have)
		}
		if r := b.send(iso7816.ReadRecord(1, trailSFI, 0)); (r.SW.OK() && bytes.Equal(r.Data, trail)) != (tt.sw.OK() && tt.trail) {
			t.Errorf("%s: trail %v", tt.name, r)
		}
	}
}

// The published proofs: R-MAC of a read and of an update.
func TestProofs(t *testing.T) {
	rec := unhex("2703000801020304")
	b := newBench(t, issued(func(c *pboc.Card) {
		c.Opened = []pboc.Opened{{SFI: busSFI, Number: 1, Key: keyRec, Data: rec}}
	}))
	b.own(func(a *applet, s *card.Session) { a.cells.WriteUint16(atATC, 0x023F) })
	b.tap()
	r := b.raw("80B400A80A 2703 1122334455667788 00")
	if !bytes.Equal(r.Data, append(bytes.Clone(rec), unhex("1AF8CF6B")...)) {
		t.Errorf("read %v", r)
	}
	b.set(emv.TagCAPPIndicator, []byte{1})
	gpo := b.gpo()
	if r := b.raw("84DE00A80C 2703000801020304 AF3E93B3"); !r.SW.OK() || !bytes.Equal(r.Data, unhex("CCD7F4CE")) {
		t.Errorf("update %v", r)
	}
	b.want(iso7816.OK, b.leave(gpo))
	b = newBench(t, issued(func(c *pboc.Card) { c.Support = pboc.SupportFull }))
	b.want(iso7816.SWLength, b.raw("80B400A80A 0221 1122334455667788 00"))
	b.want(iso7816.SWLength, b.raw("80B400A803 022100 00"))
	b.want(iso7816.SWP1P2, b.raw("80B401A802 0221 00"))
	b.want(iso7816.SWRecordNotFound, b.raw("80B400A802 0222 00"))
	b.want(iso7816.SWFileNotFound, b.raw("80B400B802 0221 00"))
}

// A record is opened over the air; its identifier works once.
func TestAppendRecord(t *testing.T) {
	b := newBench(t, issued())
	open := pboc.NewKey(pboc.TripleDES, keyOpen)
	key := key16("000102030405060708090A0B0C0D0E0F")
	add := func(rec []byte, atc uint16) iso7816.Response {
		return b.send(pboc.AppendIndustry(open, busSFI, key, rec, atc))
	}
	rec := unhex("2703 0102030405")
	b.want(iso7816.SWSecureWrong, add(rec, 1))
	b.want(iso7816.OK, add(rec, 0))
	b.want(iso7816.SWData, add(rec, 0))
	if r := b.send(pboc.ReadIndustry(busSFI, pboc.IndustryID{0x27, 3})); !bytes.Equal(r.Data, rec) {
		t.Errorf("reads %v", r)
	}
	b.set(emv.TagCAPPIndicator, []byte{1})
	gpo := b.gpo()
	rec[6] = 0xFF
	b.want(iso7816.OK, b.send(pboc.UpdateCAPP(pboc.NewKey(pboc.TripleDES, key), busSFI, rec, 1)))
	b.want(iso7816.OK, b.leave(gpo))
	b.want(iso7816.SWNoSpace, add(append([]byte{1, 1}, make([]byte, 127)...), 1))
	for i := byte(0); i < 3; i++ {
		b.want(iso7816.OK, add([]byte{0x30, i, 0}, 1))
	}
	b.want(iso7816.SWNoSpace, add([]byte{0x31, 0, 0}, 1))
	b.want(iso7816.SWFileType, b.send(pboc.AppendIndustry(open, trailSFI, key, rec, 1)))
	b.want(iso7816.SWFileNotFound, b.send(pboc.AppendIndustry(open, 0x1A, key, rec, 1)))
	b.want(iso7816.SWP1P2, b.raw("04E200A9 04 00000000"))
	b.want(iso7816.SWLength, b.send(func() iso7816.Command {
		c := iso7816.Command{CLA: 0x04, INS: iso7816.InsAppendRecord, P2: busSFI << 3, Data: make([]byte, 5), Le: iso7816.NoLe}
		m := open.CAPPMAC(c, 1)
		c.Data = append(c.Data, m[:]...)
		return c
	}()))
}

// The next record with the same identifier is read, and written where it stands.
func TestNextWithTheSameIdentifier(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) {
		c.Opened = append(c.Opened, pboc.Opened{SFI: busSFI, Number: 3, Key: keyRec, Data: ridden(0)})
	}))
	next := pboc.ReadCAPP{SFI: busSFI, ID: pboc.BusID, Next: true}.Command()
	if r := b.send(next); !bytes.Equal(r.Data, bus) {
		t.Error("first")
	}
	if r := b.send(next); !bytes.Equal(r.Data, ridden(0)) {
		t.Error("second")
	}
	b.set(emv.TagCAPPIndicator, []byte{1})
	gpo := b.gpo()
	b.want(iso7816.OK, b.ride(keyRec, ridden(1)))
	b.want(iso7816.OK, b.leave(gpo))
	if r := b.send(iso7816.ReadRecord(3, busSFI, 0)); !bytes.Equal(r.Data, ridden(1)) {
		t.Errorf("record 3 %X", r.Data)
	}
	if r := b.send(iso7816.ReadRecord(1, busSFI, 0)); !bytes.Equal(r.Data, bus) {
		t.Errorf("record 1 %X", r.Data)
	}
	b.send(next)
	b.want(iso7816.SWRecordNotFound, b.send(next))
}

// Rights of a file: what is keyed is not read without its command, what is never
// written is not.
func TestFileRights(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) {
		c.Files[0].Read, c.Files[0].Write = pboc.Keyed, pboc.Keyed
		c.Files[1].Read, c.Files[1].Write = pboc.Never, pboc.Never
	}))
	b.want(iso7816.SWSecurity, b.send(iso7816.ReadRecord(1, busSFI, 0)))
	b.want(iso7816.OK, b.send(pboc.ReadIndustry(busSFI, pboc.BusID)))
	b.want(iso7816.SWSecurity, b.send(pboc.ReadIndustry(trailSFI, pboc.BusID)))
	b.want(iso7816.SWSecurity, b.send(pboc.AppendIndustry(pboc.NewKey(pboc.TripleDES, keyOpen), busSFI, keyRec, []byte{1, 2, 3}, 0)))
	b.set(emv.TagCAPPIndicator, []byte{1})
	b.gpo()
	b.want(iso7816.SWSecurity, b.send(pboc.UpdateCAPP(pboc.NewKey(pboc.TripleDES, keyOpen), trailSFI, make([]byte, 16), 1)))
}

// A card with segment fare only takes no pre-authorisation: the terminal's wish is
// ignored.
func TestSupport(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.Support = pboc.SupportFare }))
	b.set(emv.TagCAPPIndicator, []byte{byte(pboc.ModeHold)})
	r := b.want(iso7816.OK, b.gpo())
	if value(r, emv.TagAC) == nil {
		t.Error("a pre-authorisation was made")
	}
	b.want(iso7816.OK, b.leave(r))
}
