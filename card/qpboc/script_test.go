package qpboc

import (
	"bytes"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// load tops the e-cash up as an issuer does (CARD 1.11).
func (b *bench) load(fen uint64) iso7816.Response {
	b.t.Helper()
	x := b.asks(0)
	b.completes(x)
	return b.send(b.protect(pboc.PutBalance(fen), x))
}

// A load end to end: balance and both forms of the load log, the proof on the next
// transaction.
func TestLoad(t *testing.T) {
	b := newBench(t, issued())
	b.want(iso7816.OK, b.load(150_00))
	if b.fen(emv.TagECBalance) != 150_00 {
		t.Errorf("balance %d", b.fen(emv.TagECBalance))
	}
	rec := b.send(iso7816.ReadRecord(1, pboc.LoadLogSFI, 0)).Data
	e, err := pboc.ParseLoadEntry(rec)
	if err != nil || e != (pboc.LoadEntry{Tag: 0x9F79, Old: 100_00, New: 150_00, Date: [3]byte{0x24, 0x12, 0x29}, Time: [3]byte{0x14, 0x17, 0x40}, ATC: 1}) {
		t.Errorf("load log %+v %v", e, err)
	}
	b.want(iso7816.OK, b.load(151_00))
	b.tap()
	signed, err := pboc.ParseSignedLoadLog(b.send(pboc.ReadSignedLoadLog(pboc.LoadLogSFI)).Data)
	if err != nil || len(signed.Entries) != 2 || signed.Entries[0].New != 151_00 || signed.Entries[1] != e || !signed.Verify(b.session(keyMAC)) {
		t.Errorf("signed load log %+v %v", signed, err)
	}
	x := b.asks(0)
	if x.iad.Amounts[0] != 151_00 || x.iad.CVR.Scripts() != 1 {
		t.Errorf("9F10 after a load: %+v", x.iad)
	}
	if y := b.completes(x); y.iad.CVR.Scripts() != 1 {
		t.Errorf("%+v", y.iad)
	}
	if x = b.asks(0); x.iad.CVR.Scripts() != 0 {
		t.Errorf("the count of scripts stays: %+v", x.iad)
	}
	for range 12 {
		b.want(iso7816.OK, b.load(1))
	}
	b.tap()
	if signed, err = pboc.ParseSignedLoadLog(b.send(pboc.ReadSignedLoadLog(pboc.LoadLogSFI)).Data); err != nil || len(signed.Entries) != 10 {
		t.Errorf("%d entries, %v", len(signed.Entries), err)
	}
	b.want(iso7816.SWRecordNotFound, b.send(iso7816.ReadRecord(11, pboc.LoadLogSFI, 0)))
}

// PUT DATA: the list, lengths, bounds, and what a load does to an offset in use.
func TestPutData(t *testing.T) {
	bcd := func(fen uint64) []byte { return amount(fen) }
	for _, tt := range []struct {
		name   string
		offset uint64 // DF63 before
		tag    uint16
		value  []byte
		sw     iso7816.SW
		have   uint64
		owed   uint64
	}{
		{"balance", 0, 0x9F79, bcd(7), iso7816.OK, 7, 0},
		{"balance limit", 0, 0x9F79, bcd(1000_00), iso7816.OK, 1000_00, 0},
		{"above it", 0, 0x9F79, bcd(1000_01), iso7816.SWData, 0, 0},
		{"pays what is owed first", 5_00, 0x9F79, bcd(20_00), iso7816.OK, 15_00, 0},
		{"pays part of it", 5_00, 0x9F79, bcd(3_00), iso7816.OK, 0, 2_00},
		{"pays exactly", 5_00, 0x9F79, bcd(5_00), iso7816.OK, 0, 0},
		{"limit counts after it", 5_00, 0x9F79, bcd(1005_00), iso7816.OK, 1000_00, 0},
		{"above it even so", 5_00, 0x9F79, bcd(1005_01), iso7816.SWData, 0, 5_00},
		{"no digits", 0, 0x9F79, unhex("00000000000A"), iso7816.SWData, 0, 0},
		{"length", 0, 0x9F79, bcd(7)[1:], iso7816.SWLength, 0, 0},
		{"offset used", 0, 0xDF63, bcd(0), iso7816.SWP1P2, 0, 0},
		{"not on the list", 0, 0x9F36, []byte{0, 0}, iso7816.SWData, 0, 0},
		{"nor this", 0, 0x9F68, []byte{0, 0, 0, 0}, iso7816.SWData, 0, 0},
		{"second e-cash not there", 0, 0xDF79, bcd(1), iso7816.SWData, 0, 0},
		{"offset limit", 5_00, 0xDF62, bcd(5_00), iso7816.OK, 0, 5_00},
		{"below what is owed", 5_00, 0xDF62, bcd(4_99), iso7816.SWData, 0, 5_00},
		{"offset limit beyond n12", 0, 0xDF62, bcd(pboc.MaxFen), iso7816.SWData, 0, 0},
		{"balance limit beyond n12", 0, 0x9F77, bcd(pboc.MaxFen), iso7816.SWData, 0, 0},
		{"upper limit", 0, 0x9F59, []byte{9}, iso7816.OK, 0, 0},
		{"extension", 0, 0xDF61, []byte{1}, iso7816.OK, 0, 0},
	} {
		b := newBench(t, issued(func(c *pboc.Card) { c.Balance = 0 }))
		b.own(func(a *applet, s *card.Session) { a.setFen(emv.TagOffsetUsed, tt.offset) })
		x := b.asks(0)
		b.completes(x)
		r := b.send(b.protect(pboc.PutData(tt.tag, tt.value), x))
		if r.SW != tt.sw {
			t.Errorf("%s: %v", tt.name, r.SW)
		}
		if m, _ := b.money2(); m.have != tt.have || m.offset != tt.owed {
			t.Errorf("%s: %d, owed %d", tt.name, m.have, m.offset)
		}
		if y := b.asks(0); y.iad.CVR.Has(pboc.CVRScriptFailed) == tt.sw.OK() || y.iad.CVR.Scripts() != 1 {
			t.Errorf("%s: CVR %06X", tt.name, uint32(y.iad.CVR))
		}
		if tt.sw.OK() {
			if v := value(b.tap(), emv.TagCAPPCard); tt.tag == 0xDF61 && !bytes.Equal(v, tt.value) {
				t.Errorf("%s: FCI %X", tt.name, v)
			}
			if v := b.data(tlv.Tag(tt.tag)); len(v) != len(tt.value) {
				t.Errorf("%s: reads %X", tt.name, v)
			}
		}
	}
}

// Money set aside for a pre-authorisation must find room again.
func TestLoadLeavesRoomForHolds(t *testing.T) {
	b := newBench(t, issued())
	b.own(func(a *applet, s *card.Session) { a.setHold(0, hold{busSFI, pboc.BusID, 30_00}) })
	b.want(iso7816.SWData, b.load(970_01))
	b.want(iso7816.OK, b.load(970_00))
}

func TestSecondECash(t *testing.T) {
	second := tlv.Append(tlv.Append(nil, pboc.TagCurrency2, unhex("0344")), pboc.TagBalance2, amount(10_00))
	second = tlv.Append(tlv.Append(second, pboc.TagBalanceLimit2, amount(500_00)), pboc.TagSingleLimit2, amount(100_00))
	b := newBench(t, issued(func(c *pboc.Card) { c.Extra = second }))
	b.set(emv.TagCurrency, unhex("0344"))
	_, last := b.pay(4_00)
	b.want(iso7816.OK, last)
	if b.fen(pboc.TagBalance2) != 6_00 || b.fen(emv.TagECBalance) != 100_00 {
		t.Errorf("balances %d and %d", b.fen(emv.TagECBalance), b.fen(pboc.TagBalance2))
	}
	x := b.asks(0)
	b.want(iso7816.OK, b.send(b.protect(pboc.PutData(uint16(pboc.TagBalance2), amount(500_00)), x)))
	b.want(iso7816.SWData, b.send(b.protect(pboc.PutData(uint16(pboc.TagBalance2), amount(500_01)), x)))
	if e, err := pboc.ParseLoadEntry(b.send(iso7816.ReadRecord(1, pboc.LoadLogSFI, 0)).Data); err != nil || e.Tag != uint16(pboc.TagBalance2) || e.Old != 6_00 {
		t.Errorf("load log %+v %v", e, err)
	}
	b.set(emv.TagCurrency, unhex("0840"))
	b.iface = card.Contactless
	if r, _ := b.pay(1_00); iadOf(t, r).CVR.First() != pboc.ARQC {
		t.Error("a third currency is paid offline")
	}
}

// The order of scripts: after a first cryptogram, not after a failed issuer, not
// after a wrong MAC; a hundred wrong ones end them for good.
func TestScriptOrder(t *testing.T) {
	b := newBench(t, issued())
	b.insert()
	b.gpo()
	b.want(iso7816.SWConditions, b.raw("04DA9F790A 000000005000 AE268094"))
	x := b.asks(0)
	good := b.protect(pboc.PutBalance(1), x)
	b.want(iso7816.OK, b.send(good)) // 71: before the second
	c := b.arpc(x.ac, "00")
	c.Data[0] ^= 1
	b.want(iso7816.SWWarning, b.send(c))
	b.want(iso7816.SWConditions, b.send(good))

	x = b.asks(0)
	wrong := b.protect(pboc.PutBalance(2), x)
	wrong.Data[9] ^= 1
	b.want(iso7816.SWSecureWrong, b.send(wrong))
	wrong.Data[9] ^= 1
	b.want(iso7816.SWConditions, b.send(wrong))
	if x = b.asks(0); !x.iad.CVR.Has(pboc.CVRScriptFailed) || x.iad.CVR.Scripts() != 0 {
		t.Errorf("CVR %06X", uint32(x.iad.CVR))
	}
	b.want(iso7816.SWSecureWrong, b.raw("04DA9F7903 000000"))
	b.own(func(a *applet, s *card.Session) { a.setByte(atMACFails, maxFails-1) })
	x = b.asks(0)
	wrong = b.protect(pboc.PutBalance(2), x)
	wrong.Data[0] ^= 1
	b.want(iso7816.SWSecureWrong, b.send(wrong))
	x = b.asks(0)
	b.want(iso7816.SWConditions, b.send(b.protect(pboc.PutBalance(2), x)))
	if m, _ := b.money2(); m.have != 1 {
		t.Errorf("balance %d", m.have)
	}
}

func TestBlockAndUnblock(t *testing.T) {
	b := newBench(t, issued())
	x := b.asks(0)
	b.want(iso7816.OK, b.send(b.protect(pboc.AppBlock(), x)))
	x = b.asks(0)
	if x.cid != 0 {
		t.Errorf("a blocked card answers %02X", x.cid)
	}
	b.want(iso7816.SWP1P2, b.send(b.protect(iso7816.Command{CLA: 0x84, INS: pboc.InsAppUnblock, P2: 1, Le: iso7816.NoLe}, x)))
	b.want(iso7816.SWLength, b.send(b.protect(iso7816.Command{CLA: 0x84, INS: pboc.InsAppUnblock, Data: []byte{1}, Le: iso7816.NoLe}, x)))
	b.want(iso7816.OK, b.send(b.protect(pboc.AppUnblock(), x)))
	b.want(iso7816.OK, b.choose())
	x = b.asks(0)
	b.want(iso7816.OK, b.send(b.protect(pboc.CardBlock(), x)))
	b.want(iso7816.SWFunction, b.choose())
}

// A PIN comes and goes by script; with the old one mixed in a wrong old PIN gives
// none that can be read.
func TestPINByScript(t *testing.T) {
	b := newBench(t, issued())
	change := func(x acAnswer, pin, old string) iso7816.Response {
		t.Helper()
		c, err := pboc.PINChange(b.session(keyENC), keyENC, pin, old)
		if err != nil {
			t.Fatal(err)
		}
		return b.send(b.protect(c, x))
	}
	x := b.asks(0)
	b.want(iso7816.Tries(2), b.raw("0020008008 249999FFFFFFFFFF"))
	b.want(iso7816.OK, b.send(b.protect(pboc.PINUnblock(), x)))
	if b.data(emv.TagPINTries)[0] != 3 {
		t.Error("tries")
	}
	b.want(iso7816.OK, change(x, "987654", ""))
	b.want(iso7816.OK, b.raw("0020008008 26987654FFFFFFFF"))
	b.want(iso7816.OK, change(x, "4321", "987654"))
	b.want(iso7816.OK, b.raw("0020008008 244321FFFFFFFFFF"))
	b.want(iso7816.SWData, change(x, "1111", "777777"))
	b.want(iso7816.OK, b.raw("0020008008 244321FFFFFFFFFF"))
	b.want(iso7816.SWLength, b.send(b.protect(iso7816.Command{CLA: 0x84, INS: pboc.InsPINChange, P2: 2, Data: make([]byte, 8), Le: iso7816.NoLe}, x)))
	b.want(iso7816.SWP1P2, b.send(b.protect(iso7816.Command{CLA: 0x84, INS: pboc.InsPINChange, P2: 3, Le: iso7816.NoLe}, x)))
}

func TestUpdateRecord(t *testing.T) {
	b := newBench(t, issued())
	x := b.asks(0)
	rec := tlv.Append(nil, emv.TagRecord, tlv.Append(nil, emv.TagECIssuerCode, []byte("654321")))
	b.want(iso7816.OK, b.send(b.protect(pboc.UpdateRecord(4, 1, rec), x)))
	if r := b.send(iso7816.ReadRecord(1, 4, 0)); !bytes.Equal(r.Data, rec) {
		t.Errorf("record %X", r.Data)
	}
	for _, tt := range []struct {
		sfi, n byte
		rec    []byte
		sw     iso7816.SW
	}{
		{4, 2, rec, iso7816.SWRecordNotFound}, {9, 1, rec, iso7816.SWRecordNotFound}, {4, 1, rec[1:], iso7816.SWData},
		{pboc.LogSFI, 1, rec, iso7816.SWFileType}, {busSFI, 1, rec, iso7816.SWFileType},
		{4, 1, tlv.Append(nil, emv.TagRecord, tlv.Append(nil, emv.TagECIssuerCode, make([]byte, 60))), iso7816.SWNoSpace},
	} {
		b.want(tt.sw, b.send(b.protect(pboc.UpdateRecord(tt.sfi, tt.n, tt.rec), x)))
	}
}
