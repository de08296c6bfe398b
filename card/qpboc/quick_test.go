package qpboc

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// The card of the published vector answers with the published cryptogram, balance
// proof and application data, byte for byte, and its script commands are taken.
func TestPublishedCard(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) {
		c.DKI, c.AIP, c.Balance = 0, [2]byte{0x7D, 0}, 10_00
		c.Processing |= pboc.ProcPINTries
		c.Support = 0
	}))
	b.own(func(a *applet, s *card.Session) {
		a.cells.WriteUint16(atATC, 0x023F)
		a.setByte(atTries, 0)
	})
	b.set(emv.TagDate, unhex("140701")).set(emv.TagTVR, unhex("0080046000")).set(emv.TagTTQ, unhex("36800000"))
	b.tap()
	r := b.want(iso7816.OK, b.gpo())
	// The published card had also done DDA (A04002): its CVR differs in that one bit,
	// so the cryptogram is computed over ours and the balance proof is the same.
	iad := iadOf(t, r)
	if got := value(r, emv.TagIAD); !bytes.Equal(got[:4], unhex("07000103")) || !bytes.Equal(got[8:], unhex("0A010000001000D1F61152")) {
		t.Errorf("9F10 %X", got)
	}
	if iad.CVR != pboc.CVRFrom([3]byte{0xA0, 0x00, 0x00}) {
		t.Errorf("CVR %06X", uint32(iad.CVR)) // 9F66 2.8 asks for the issuer before the PIN is looked at
	}
	b.published(t)
}

// published runs the same card by contact, where DDA comes first.
func (b *bench) published(t *testing.T) {
	b.own(func(a *applet, s *card.Session) { a.cells.WriteUint16(atATC, 0x023F) })
	b.own(func(a *applet, s *card.Session) { a.setObject(emv.TagLastOnlineATC, []byte{0, 1}) })
	b.insert()
	b.want(iso7816.OK, b.gpo())
	b.want(iso7816.OK, b.send(iso7816.Command{INS: iso7816.InsInternalAuthenticate, Data: unhex("1E78EEBC")}))
	b.term[emv.TagAmount] = amount(1)
	r := b.want(iso7816.OK, b.generate(emv.TagCDOL1, 0x80))
	if want := unhex("80 80 0240 5D016C91005E7CC2 07000103A04002010A010000001000D1F61152"); !bytes.Equal(r.Data[2:], want[1:]) {
		t.Errorf("GENERATE AC %X, want %X", r.Data, want)
	}
	b.want(iso7816.OK, b.raw("008200000A 21415243527CE78F 3031"))
	b.want(iso7816.OK, b.raw("04DA9F790A 000000005000 AE268094"))
	if b.fen(emv.TagECBalance) != 50_00 {
		t.Errorf("balance %d", b.fen(emv.TagECBalance))
	}
	b.want(iso7816.OK, b.raw("841E000004 42CA0591"))
	b.want(iso7816.SWSelectedBlocked, b.choose())
}

// The shapes of the traced card (QKATA): FCI, PDOL, answer to GPO of an online
// request.
func TestTracedShapes(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.Support = 0 }))
	r := b.tap()
	for tag, want := range map[tlv.Tag]string{emv.TagDFName: "A000000333010101", emv.TagLogEntry: "0B0A", emv.TagLoadLogEntry: "0C0A",
		emv.TagPDOL: "9F66049F02069F03069F1A0295055F2A029A039C019F37049F21039F4E14", emv.TagLabel: hex.EncodeToString([]byte("PBOC DEBIT"))} {
		if v, ok := tlv.Find(r.Data, tag); !ok || !bytes.Equal(v, unhex(want)) {
			t.Errorf("FCI %v: %X", tag, v)
		}
	}
	b.set(emv.TagTTQ, unhex("36800000"))
	r = b.gpo()
	if got := tags(r); got != "82 9F36 57 9F10 9F26 5F34 9F6C 9F5D" {
		t.Errorf("GPO: %s", got)
	}
	if v := value(r, emv.TagIAD); len(v) != 0x13 || !bytes.Equal(v[:10], unhex("07010103A00000010A01")) {
		t.Errorf("9F10 %X", v)
	}
}

// A whole offline payment: fDDA 00 and 01 verify, money and log move with the last
// record and not before, and that record read again is the same answer.
func TestOfflinePayment(t *testing.T) {
	for _, version := range []byte{0, 1} {
		b := newBench(t, issued(func(c *pboc.Card) { c.Version1 = version == 1 }))
		b.set(emv.TagAmount, amount(12_34))
		r := b.want(iso7816.OK, b.gpo())
		if got := tags(r); got != "82 94 9F36 57 9F10 9F26 5F34 9F6C 9F5D 9F4B" {
			t.Fatalf("GPO: %s", got)
		}
		if x := iadOf(t, r); x.CVR.First() != pboc.TC || x.Amounts[0] != 100_00-12_34 || !x.Verify(pboc.NewKey(pboc.TripleDES, keyMAC).Session(1), 1) {
			t.Errorf("9F10 %+v", x)
		}
		b.want(iso7816.OK, b.send(iso7816.ReadRecord(1, 2, 0)))
		b.want(iso7816.OK, b.send(iso7816.ReadRecord(1, 3, 0)))
		if icc := b.want(iso7816.OK, b.send(iso7816.ReadRecord(2, 3, 0))); value(icc, emv.TagICCCert) == nil {
			t.Error("the card's certificate is not where it was")
		}
		if b.fen(emv.TagECBalance) != 100_00 {
			t.Error("paid before the last record")
		}
		last := b.want(iso7816.OK, b.send(iso7816.ReadRecord(1, 8, 0)))
		if b.fen(emv.TagECBalance) != 100_00-12_34 {
			t.Error("not paid with the last record")
		}
		f := emv.FastDDA{Version: version, UN: [4]byte(b.term[emv.TagUN]), Amount: [6]byte(amount(12_34)), Currency: [2]byte{1, 0x56}, CardAuth: value(last, emv.TagCardAuth)}
		if version == 1 && (len(f.CardAuth) != 8 || f.CardAuth[0] != 1 || f.CardAuth[7] != 0x82) || version == 0 && f.CardAuth != nil {
			t.Errorf("9F69 %X", f.CardAuth)
		}
		if _, err := emv.VerifyFastDDA(rsa1024.Public(), value(r, emv.TagSDAD), f, value(r, emv.TagATC)); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		again := b.send(iso7816.ReadRecord(1, 8, 0))
		b.tap()
		torn := b.send(iso7816.ReadRecord(1, 8, 0))
		if !bytes.Equal(again.Data, last.Data) || !bytes.Equal(torn.Data, last.Data) {
			t.Error("the last record read again is another answer")
		}
		log, err := pboc.ParseLogEntry(b.send(iso7816.ReadRecord(1, pboc.LogSFI, 0)).Data)
		if err != nil || log.Amount != 12_34 || log.ATC != 1 || log.Date != [3]byte{0x24, 0x12, 0x29} || !strings.HasPrefix(string(log.Merchant[:]), "BEIJING") {
			t.Errorf("log %+v %v", log, err)
		}
		b.want(iso7816.SWRecordNotFound, b.send(iso7816.ReadRecord(2, pboc.LogSFI, 0)))
		b.gpo()
		if r := b.send(iso7816.ReadRecord(1, 8, 0)); bytes.Equal(r.Data, last.Data) && version == 1 {
			t.Error("the kept answer outlives the next transaction")
		}
	}
}

// A key longer than 1024 bits signs into a record, which is read before the last.
func TestLongSignatureIsRead(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.Private = rsa1152.CRT() }))
	b.set(emv.TagAmount, amount(5_00))
	r := b.want(iso7816.OK, b.gpo())
	signature := b.want(iso7816.OK, b.send(iso7816.ReadRecord(1, 6, 0)))
	if value(r, emv.TagSDAD) != nil || tags(signature) != "9F4B" || b.fen(emv.TagECBalance) != 100_00 {
		t.Errorf("GPO %s, record 6 %s, balance %d", tags(r), tags(signature), b.fen(emv.TagECBalance))
	}
	last := b.records(value(r, emv.TagAFL))
	if got := tags(last); got != "5F30 9F69" || b.fen(emv.TagECBalance) != 95_00 {
		t.Errorf("last record %s %X, balance %d", got, last.Data, b.fen(emv.TagECBalance))
	}
	f := emv.FastDDA{Version: 1, UN: [4]byte(b.term[emv.TagUN]), Amount: [6]byte(amount(5_00)), Currency: [2]byte{1, 0x56}, CardAuth: value(last, emv.TagCardAuth)}
	if _, err := emv.VerifyFastDDA(rsa1152.Public(), value(signature, emv.TagSDAD), f, []byte{0, 1}); err != nil {
		t.Error(err)
	}
	b.tap()
	if kept := b.want(iso7816.OK, b.send(iso7816.ReadRecord(1, 8, 0))); !bytes.Equal(kept.Data, last.Data) {
		t.Errorf("kept answer %X", kept.Data)
	}
	b.gpo()
	b.choose()
	if r := b.send(iso7816.ReadRecord(1, 6, 0)); value(r, emv.TagSDAD) != nil {
		t.Errorf("a signature without a transaction: %X", r.Data)
	}
}

// A placeholder of the signature that the issuer put into a record is left out
// until there is one, and 9F5D in a record is always the present one.
func TestRecordsAreComputed(t *testing.T) {
	c := issued()
	p := c.Personalisation()
	p.QPBOC.AFL = unhex("10010101 18010200 30010100")
	p.Records = append(p.Records, pboc.Record{SFI: 6, Number: 1, Data: unhex("7010 9F4B04 00000000 9F5D06 000000000000")})
	b := personalised(t, p)
	if r := b.send(iso7816.ReadRecord(1, 6, 0)); !bytes.Equal(r.Data, unhex("7009 9F5D06 000000010000")) {
		t.Errorf("selected: %X", r.Data)
	}
	_, last := b.pay(1_00)
	if got := tags(last); got != "9F5D 9F69" || !bytes.Equal(value(last, emv.TagAvailable), amount(99_00)) {
		t.Errorf("paid: %X", last.Data)
	}
}

// The four outcomes and what they leave behind.
func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ttq      string
		fen      uint64
		tags     string
		decision pboc.Cryptogram
		sw       iso7816.SW
	}{
		{"approved", "26000080", 50_00, "82 94 9F36 57 9F10 9F26 5F34 9F6C 9F5D 9F4B", pboc.TC, 0x9000},
		{"online", "26800080", 50_00, "82 9F36 57 9F10 9F26 5F34 9F6C 9F5D", pboc.ARQC, 0x9000},
		{"declined", "2E000080", 150_00, "82 9F36 57 9F10 9F26 5F34 9F6C", pboc.AAC, 0x9000},
		{"refused", "10000080", 50_00, "", 0, iso7816.SWConditions},
	} {
		b := newBench(t, issued())
		before, _ := b.money()
		b.tap()
		b.set(emv.TagTTQ, unhex(tt.ttq)).set(emv.TagAmount, amount(tt.fen))
		r := b.want(tt.sw, b.gpo())
		if tt.sw.OK() && (tags(r) != tt.tags || iadOf(t, r).CVR.First() != tt.decision) {
			t.Errorf("%s: %s, CVR %06X", tt.name, tags(r), uint32(iadOf(t, r).CVR))
		}
		if b.atc() != 1 {
			t.Errorf("%s: ATC %d", tt.name, b.atc())
		}
		b.want(iso7816.SWConditions, b.gpo())
		if after, _ := b.money(); after != before {
			t.Errorf("%s: GPO alone moved money", tt.name)
		}
	}
}

// GPO is checked before anything moves.
func TestMalformedOptions(t *testing.T) {
	b := newBench(t, issued())
	good := b.gpoCommand()
	for _, tt := range []struct {
		name string
		sw   iso7816.SW
		data func(d []byte) []byte
		p1   byte
	}{
		{"short", iso7816.SWLength, func(d []byte) []byte { return d[:len(d)-1] }, 0},
		{"long", iso7816.SWLength, func(d []byte) []byte { return append(d, 0) }, 0},
		{"empty", iso7816.SWLength, func(d []byte) []byte { return nil }, 0},
		{"other template", iso7816.SWData, func(d []byte) []byte { d[0] = 0x84; return d }, 0},
		{"length inside", iso7816.SWData, func(d []byte) []byte { d[1]++; return d }, 0},
		{"P1", iso7816.SWP1P2, func(d []byte) []byte { return d }, 1},
	} {
		c := good
		c.P1, c.Data = tt.p1, tt.data(bytes.Clone(good.Data))
		if r := b.send(c); r.SW != tt.sw {
			t.Errorf("%s: %v", tt.name, r.SW)
		}
	}
	if b.atc() != 0 {
		t.Error("a malformed GPO moved the ATC")
	}
	b.set(emv.TagAmount, unhex("00000000000A"))
	b.want(iso7816.SWData, b.gpo())
}

// A PDOL of 128 bytes or more needs the long form of the length.
func TestLongPDOL(t *testing.T) {
	p := issued().Personalisation()
	p.FCI = bytes.Replace(p.FCI, unhex("9F4E14"), unhex("9F4E70"), 1)
	b := personalised(t, p)
	b.want(iso7816.OK, b.gpo())
}

// The transaction counter ends at FFFF and the application with it.
func TestCounterEnds(t *testing.T) {
	b := newBench(t, issued())
	b.own(func(a *applet, s *card.Session) { a.cells.WriteUint16(atATC, 0xFFFD) })
	b.tap()
	b.want(iso7816.OK, b.gpo())
	b.choose()
	b.want(iso7816.SWConditions, b.gpo())
	b.want(iso7816.SWFunction, b.choose())
	b.want(iso7816.SWConditions, b.send(iso7816.ReadRecord(1, 2, 0)))
}

// The commands of the state SELECTED change nothing and are answered.
func TestSelectedReads(t *testing.T) {
	b := newBench(t, issued())
	before := b.memory()
	b.tap()
	b.want(iso7816.OK, b.send(iso7816.ReadRecord(1, 2, 0)))
	b.want(iso7816.OK, b.send(iso7816.ReadRecord(2, 3, 0)))
	b.want(iso7816.OK, b.send(pboc.ReadIndustry(busSFI, pboc.BusID)))
	b.want(iso7816.SWRecordNotFound, b.send(iso7816.ReadRecord(9, 2, 0)))
	b.want(iso7816.SWRecordNotFound, b.send(iso7816.ReadRecord(0, 2, 0)))
	b.want(iso7816.SWFileNotFound, b.raw("00B2010400"))
	b.want(iso7816.SWP1P2, b.raw("00B2011500"))
	b.want(0x6C54, b.raw("00B2011401"))
	b.want(iso7816.SWLength, b.raw("00B201140155"))
	b.want(iso7816.SWPurseProve, b.send(pboc.GetProof(1)))
	b.want(iso7816.SWConditions, b.raw("80AE8000 01 00"))
	b.want(iso7816.SWConditions, b.raw("008800000411223344"))
	b.want(iso7816.SWConditions, b.raw("008200000A 00000000000000003030"))
	b.want(iso7816.SWConditions, b.raw("84DE00A80C 2703000801020304 AF3E93B3"))
	b.want(iso7816.SWConditions, b.raw("04DA9F790A 000000005000 AE268094"))
	b.want(iso7816.SWSecurity, b.raw("00DA9F7906 000000005000"))
	b.want(iso7816.SWInstruction, b.raw("80500002 0B 01 00000001 000000000010"))
	b.want(iso7816.SWInstruction, b.raw("00B0840020"))
	b.want(iso7816.SWClass, b.raw("9060000000"))
	if r := b.want(iso7816.OK, b.raw("0084000008")); len(r.Data) != 8 {
		t.Error("GET CHALLENGE")
	}
	if b.memory() != before {
		t.Error("reading changed the card")
	}
}

// GET DATA has its list; everything else is unknown.
func TestGetData(t *testing.T) {
	second := tlv.Append(tlv.Append(nil, pboc.TagCurrency2, unhex("0840")), pboc.TagBalance2, amount(5))
	b := newBench(t, issued(func(c *pboc.Card) { c.Extra = second }))
	for tag, want := range map[tlv.Tag]string{0x9F13: "0000", 0x9F17: "03", 0x9F36: "0000", 0x9F51: "0156", 0x9F5D: "000000010000", 0x9F79: "000000010000",
		0x9F77: "000000100000", 0xDF61: "82", 0xDF62: "000000002000", 0xDF63: "000000000000", 0xDF71: "0840", 0xDF79: "000000000005", 0x9F68: "81109000"} {
		if v := b.data(tag); !bytes.Equal(v, unhex(want)) {
			t.Errorf("%v: %X, want %s", tag, v, want)
		}
	}
	for _, tag := range []tlv.Tag{0x9F7F, 0x5A00, 0x9F10, 0x9F26, 0xDF72, 0x9F75} {
		if b.data(tag) != nil {
			t.Errorf("%v is readable", tag)
		}
	}
	b.want(iso7816.SWReferenceNotFound, b.raw("80CA9F7F00"))
	b.want(iso7816.SWLength, b.raw("80CA9F790100"))
	b.want(0x6C09, b.raw("80CA9F7903"))
	b.want(iso7816.OK, b.raw("80CA9F79"))
}

// A blocked card can be selected but pays nothing; one blocked for ever is gone.
func TestBlocked(t *testing.T) {
	b := newBench(t, issued())
	b.own(func(a *applet, s *card.Session) { a.setByte(atLife, blocked) })
	b.want(iso7816.SWSelectedBlocked, b.tap())
	b.want(iso7816.SWConditions, b.gpo())
	if b.atc() != 0 {
		t.Error("a blocked card counts")
	}
	b.own(func(a *applet, s *card.Session) { a.setByte(atLife, blockedForEver) })
	b.want(iso7816.SWFunction, b.tap())
	b.want(iso7816.SWConditions, b.gpo())
}

// Both interfaces have their own FCI; a card without one is not selectable there.
func TestPersonalities(t *testing.T) {
	b := newBench(t, issued())
	if v := value(b.tap(), emv.TagPDOL); !bytes.HasPrefix(v, unhex("9F6604")) {
		t.Errorf("contactless PDOL %X", v)
	}
	if v := value(b.insert(), emv.TagPDOL); !bytes.Equal(v, unhex("9F7A01 9F0206 5F2A02")) {
		t.Errorf("contact PDOL %X", v)
	}
	p := issued().Personalisation()
	p.ContactFCI, p.NoContact, p.NoECash = nil, true, true
	b = personalised(t, p)
	b.want(iso7816.SWFileNotFound, b.insert())
	b = blank(t)
	b.want(iso7816.SWFileNotFound, b.tap())
	b.own(func(a *applet, s *card.Session) {
		if a.Directory(s) != nil {
			t.Error("an empty card is listed")
		}
	})
}

func TestDirectory(t *testing.T) {
	b := newBench(t, issued())
	b.own(func(a *applet, s *card.Session) {
		want := "4F08A000000333010101 500A50424F43204445424954 870101 9F120A50424F43204445424954"
		if got := a.Directory(s); !bytes.Equal(got, unhex(want)) {
			t.Errorf("%X, want %s", got, want)
		}
	})
}

// Prepaid: an online request takes the money in the unit of GPO; a card that prefers
// the contact interface sends the reader there.
func TestOnlineRequests(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.Processing |= pboc.ProcPrepaid }))
	b.set(emv.TagTTQ, unhex("26800080"))
	r, _ := b.pay(30_00)
	if x := iadOf(t, r); x.CVR.First() != pboc.ARQC || x.Amounts[0] != 70_00 || b.fen(emv.TagECBalance) != 70_00 {
		t.Errorf("%+v, balance %d", x, b.fen(emv.TagECBalance))
	}
	for _, fen := range []uint64{0, 70_01} {
		if r, _ = b.pay(fen); iadOf(t, r).CVR.First() != pboc.AAC || b.fen(emv.TagECBalance) != 70_00 {
			t.Errorf("%d: %s", fen, iadOf(t, r).CVR.Words(false))
		}
	}
	b = newBench(t, issued(func(c *pboc.Card) { c.Processing |= pboc.ProcPreferContact }))
	b.set(emv.TagTTQ, unhex("36800080"))
	b.want(iso7816.SWConditions, b.gpo())
	b.want(iso7816.SWConditions, b.gpo())
}

// What can be spent offline, and what the issuer is told, by what the card checks.
func TestSpendingAmount(t *testing.T) {
	for _, tt := range []struct {
		name        string
		cpp         pboc.Processing
		report      pboc.ReportID
		fen         uint64
		available   uint64
		amounts     [2]uint64
		have, total uint64
	}{
		{"e-cash", pboc.ProcECash, pboc.ReportAvailable, 10_00, 90_00, [2]uint64{90_00}, 90_00, 0},
		{"both must do", pboc.ProcECashAndTotal, pboc.ReportBalanceTotal, 10_00, 40_00, [2]uint64{90_00, 10_00}, 90_00, 10_00},
		{"either does", pboc.ProcECashOrTotal, pboc.ReportAvailable, 10_00, 140_00, [2]uint64{140_00}, 90_00, 0},
		{"either does, the total", pboc.ProcECashOrTotal, pboc.ReportTotalAndLimit, 45_00, 15_00, [2]uint64{45_00, 50_00}, 10_00, 45_00},
	} {
		b := newBench(t, issued(func(c *pboc.Card) {
			c.Processing = tt.cpp | pboc.ProcAvailable
			c.Report, c.TotalLimit = tt.report, 50_00
			if tt.fen > 40_00 {
				c.Balance = 10_00
			}
		}))
		r, last := b.pay(tt.fen)
		b.want(iso7816.OK, last)
		if x := iadOf(t, r); x.Amounts != tt.amounts || !bytes.Equal(value(r, emv.TagAvailable), amount(tt.available)) {
			t.Errorf("%s: %+v, 9F5D %X", tt.name, x, value(r, emv.TagAvailable))
		}
		if m, _ := b.money2(); m.have != tt.have || m.total != tt.total || b.fen(emv.TagAvailable) != tt.available {
			t.Errorf("%s: %+v", tt.name, m)
		}
	}
}

// Transactions in another currency are counted with the last record.
func TestForeign(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.Processing |= pboc.ProcForeignOffline; c.ForeignLimit = 2 }))
	b.set(emv.TagCurrency, unhex("0840"))
	for i := range 4 {
		r, _ := b.pay(10_00)
		if got := iadOf(t, r).CVR.First(); (got == pboc.TC) != (i < 2) {
			t.Errorf("%d: %v", i, got)
		}
	}
	if b.fen(emv.TagECBalance) != 100_00 {
		t.Error("paid in another currency from the e-cash")
	}
}

// NFSEE asks for one fen and reads the number from 57: a reader that only looks pays
// nothing.
func TestReaderNFSEE(t *testing.T) {
	b := newBench(t, issued())
	b.set(emv.TagTTQ, unhex("26000000")).set(emv.TagUN, unhex("11223344"))
	r := b.want(iso7816.OK, b.gpo())
	if !bytes.Equal(value(r, emv.TagTrack2), unhex("6228000100001D3412220F")) {
		t.Errorf("57 %X", value(r, emv.TagTrack2))
	}
	for _, tag := range []tlv.Tag{0x9F79, 0x9F17, 0x9F36, 0x9F13, 0x9F4F} {
		if b.data(tag) == nil {
			t.Errorf("%v is not readable", tag)
		}
	}
	b.want(iso7816.SWRecordNotFound, b.send(iso7816.ReadRecord(1, pboc.LogSFI, 0)))
	if b.fen(emv.TagECBalance) != 100_00 {
		t.Error("looking costs money")
	}
}
