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

// generate is GENERATE AC with the terminal's values for the CDOL.
func (b *bench) generate(cdol tlv.Tag, p1 byte) iso7816.Response {
	b.t.Helper()
	return b.send(b.generateCommand(cdol, p1))
}

func (b *bench) generateCommand(cdol tlv.Tag, p1 byte) iso7816.Command {
	list, _ := tlv.Find(b.send(iso7816.ReadRecord(1, 5, 0)).Data, cdol)
	data := b.list(list)
	if cdol == emv.TagCDOL1 {
		b.cdol1 = data
	}
	return iso7816.Command{CLA: 0x80, INS: pboc.InsGenerateAC, P1: p1, Data: data}
}

// An acAnswer is the answer to GENERATE AC in format 1.
type acAnswer struct {
	cid byte
	atc uint16
	ac  [8]byte
	iad pboc.IAD
}

func (b *bench) answered(r iso7816.Response) (x acAnswer) {
	b.t.Helper()
	_, v, _, err := tlv.Next(r.Data)
	if err != nil || !r.SW.OK() || len(v) < 11 {
		b.t.Fatalf("GENERATE AC: %v", r)
	}
	x = acAnswer{cid: v[0], atc: uint16(v[1])<<8 | uint16(v[2]), ac: [8]byte(v[3:])}
	if x.iad, err = pboc.ParseIAD(v[11:]); err != nil {
		b.t.Fatalf("%v", err)
	}
	return x
}

func (b *bench) session(key [16]byte) *pboc.Key {
	return pboc.NewKey(pboc.TripleDES, key).Session(b.atcNow())
}

// arpc is the issuer's answer to a cryptogram.
func (b *bench) arpc(ac [8]byte, arc string) iso7816.Command {
	proof := b.session(keyAC).ARPC(ac, [2]byte([]byte(arc)))
	return iso7816.Command{INS: iso7816.InsExternalAuthenticate, Data: append(proof[:], arc...), Le: iso7816.NoLe}
}

// asks goes online by contact up to the first cryptogram.
func (b *bench) asks(fen uint64) acAnswer {
	b.t.Helper()
	b.insert()
	b.set(emv.TagAmount, amount(fen))
	b.want(iso7816.OK, b.gpo())
	return b.answered(b.generate(emv.TagCDOL1, 0x80))
}

// completes answers it as the issuer and ends the transaction with a TC.
func (b *bench) completes(x acAnswer) acAnswer {
	b.t.Helper()
	b.want(iso7816.OK, b.send(b.arpc(x.ac, "00")))
	return b.answered(b.generate(emv.TagCDOL2, 0x40))
}

func (b *bench) protect(c pboc.Script, x acAnswer) iso7816.Command {
	return b.session(keyMAC).Protect(c, x.atc, x.ac)
}

// An online transaction by contact: the indicators of each step, fresh counters at
// its end.
func TestOnlineByContact(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.AIP = [2]byte{0x7D, 0x04 << 0}; c.AIP[0] |= 0x04 }))
	b.own(func(a *applet, s *card.Session) {
		a.setAmount(atTotal, 77)
		a.setByte(atOffline, 5)
		a.setByte(atForeign, 2)
	})
	x := b.asks(10_00)
	if x.cid != 0x80 || x.iad.CVR != pboc.NewCVR(pboc.ARQC, pboc.NotRequested)|pboc.CVRNewCard {
		t.Errorf("first: %02X %06X", x.cid, uint32(x.iad.CVR))
	}
	y := b.completes(x)
	if y.cid != 0x40 || y.iad.CVR != pboc.NewCVR(pboc.ARQC, pboc.TC)|pboc.CVRNewCard || y.ac == x.ac {
		t.Errorf("second: %02X %06X", y.cid, uint32(y.iad.CVR))
	}
	b.want(iso7816.SWConditions, b.generate(emv.TagCDOL2, 0x40))
	if !bytes.Equal(b.data(emv.TagLastOnlineATC), []byte{0, 1}) {
		t.Error("9F13")
	}
	b.own(func(a *applet, s *card.Session) {
		if a.amount(atTotal) != 0 || a.byteAt(atOffline)|a.byteAt(atForeign)|a.byteAt(atFlags) != 0 {
			t.Error("counters stand")
		}
	})
	x = b.asks(10_00)
	if x.iad.CVR != pboc.NewCVR(pboc.ARQC, pboc.NotRequested) {
		t.Errorf("next: %06X", uint32(x.iad.CVR))
	}
	x = b.asks(10_00) // the one before never came back
	if !x.iad.CVR.Has(pboc.CVRLastOnlineOpen) {
		t.Errorf("after an open one: %06X", uint32(x.iad.CVR))
	}
	if y = b.answered(b.generate(emv.TagCDOL2, 0x00)); y.cid != 0 || y.iad.CVR.Second() != pboc.AAC {
		t.Errorf("declined: %02X", y.cid)
	}
	if x = b.asks(1); !x.iad.CVR.Has(pboc.CVRNoIssuerAuth) || x.iad.CVR.Has(pboc.CVRLastOnlineOpen) {
		t.Errorf("after no authentication: %06X", uint32(x.iad.CVR))
	}
}

// What the card makes of what GENERATE AC asks for.
func TestCardAction(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*pboc.Card)
		state  func(a *applet)
		p1     byte
		want   pboc.Cryptogram
		cvr    pboc.CVR
	}{
		{"approves", nil, nil, 0x40, pboc.TC, 0},
		{"goes online", nil, nil, 0x80, pboc.ARQC, 0},
		{"declines", nil, nil, 0x00, pboc.AAC, 0},
		{"lower limit", func(c *pboc.Card) { c.LowerOffline = 3 }, func(a *applet) { a.setByte(atOffline, 3) }, 0x40, pboc.ARQC, pboc.CVRVelocity},
		{"below it", func(c *pboc.Card) { c.LowerOffline = 3 }, func(a *applet) { a.setByte(atOffline, 2) }, 0x40, pboc.TC, 0},
		{"total", nil, func(a *applet) { a.setAmount(atTotal, 490_01) }, 0x40, pboc.ARQC, pboc.CVRVelocity},
		{"total just fits", nil, func(a *applet) { a.setAmount(atTotal, 490_00) }, 0x40, pboc.TC, 0},
		{"new card", func(c *pboc.Card) { c.DefaultAction = [2]byte{0x02, 0} }, func(a *applet) { a.setObject(emv.TagLastOnlineATC, []byte{0, 0}) }, 0x40, pboc.ARQC, pboc.CVRNewCard},
		{"last one open", nil, func(a *applet) { a.setFlag(lastOnlineOpen, true) }, 0x40, pboc.ARQC, pboc.CVRLastOnlineOpen},
		{"last failed", func(c *pboc.Card) { c.DefaultAction = [2]byte{0x80, 0} }, func(a *applet) { a.setFlag(lastAuthFailed, true) }, 0x40, pboc.ARQC, pboc.CVRLastIssuerAuthFailed},
		{"last script failed", func(c *pboc.Card) { c.DefaultAction = [2]byte{0, 0x08} }, func(a *applet) { a.setFlag(lastScriptFailed, true) }, 0x40, pboc.ARQC, pboc.CVRScriptFailed},
		{"PIN tries, online", func(c *pboc.Card) { c.DefaultAction = [2]byte{0, 0x20} }, func(a *applet) { a.setByte(atTries, 0) }, 0x40, pboc.ARQC, pboc.CVRPINLimit},
		{"PIN tries, decline", func(c *pboc.Card) { c.DefaultAction = [2]byte{0, 0x40} }, func(a *applet) { a.setByte(atTries, 0) }, 0x80, pboc.AAC, pboc.CVRPINLimit},
		{"blocked", nil, func(a *applet) { a.setByte(atLife, blocked) }, 0x40, pboc.AAC, 0},
	} {
		b := newBench(t, issued(func(c *pboc.Card) {
			if tt.change != nil {
				tt.change(c)
			}
		}))
		b.own(func(a *applet, s *card.Session) {
			a.setObject(emv.TagLastOnlineATC, []byte{0, 1})
			if tt.state != nil {
				tt.state(a)
			}
		})
		b.insert()
		b.set(emv.TagAmount, amount(10_00))
		b.want(iso7816.OK, b.gpo())
		before, _ := b.money2()
		x := b.answered(b.generate(emv.TagCDOL1, tt.p1))
		if x.iad.CVR != pboc.NewCVR(tt.want, pboc.NotRequested)|tt.cvr || x.cid != tt.want.CID() {
			t.Errorf("%s: %02X %06X", tt.name, x.cid, uint32(x.iad.CVR))
		}
		if after, _ := b.money2(); (after.total != before.total) != (tt.want == pboc.TC) || after.have != before.have {
			t.Errorf("%s: total %d, then %d", tt.name, before.total, after.total)
		}
		if tt.want != pboc.ARQC {
			b.want(iso7816.SWConditions, b.generate(emv.TagCDOL2, 0x40))
		}
	}
}

// money2 reads balances under way, without taking power away.
func (b *bench) money2() (x balances, held uint64) {
	a := &applet{cells: b.e.Memory().Region(b.self, stateTag)}
	return a.balances(firstECash), a.held()
}

// The second GENERATE AC with an issuer that fails, stays away or is not there.
func TestSecondCryptogram(t *testing.T) {
	auth := func(c *pboc.Card) { c.AIP[0] |= 0x04; c.IssuerAuth = 0x80 }
	for _, tt := range []struct {
		name   string
		action [2]byte
		arc    string
		prove  string // right, wrong, none
		want   pboc.Cryptogram
		cvr    pboc.CVR
		next   pboc.CVR
	}{
		{"proved", [2]byte{0x60, 0}, "00", "right", pboc.TC, 0, 0},
		{"wrong, tolerated", [2]byte{}, "00", "wrong", pboc.TC, pboc.CVRIssuerAuthFailed, pboc.CVRLastIssuerAuthFailed},
		{"wrong, declined", [2]byte{0x40, 0}, "00", "wrong", pboc.AAC, pboc.CVRIssuerAuthFailed, pboc.CVRLastIssuerAuthFailed},
		{"none, declined", [2]byte{0x20, 0}, "00", "none", pboc.AAC, 0, pboc.CVRNoIssuerAuth},
		{"none, tolerated", [2]byte{}, "00", "none", pboc.TC, 0, pboc.CVRNoIssuerAuth},
		{"away", [2]byte{0x20, 0}, "Y3", "none", pboc.TC, pboc.CVRNoOnline, pboc.CVRLastOnlineOpen},
		{"away, new card", [2]byte{0x01, 0}, "Y3", "none", pboc.AAC, pboc.CVRNoOnline, pboc.CVRLastOnlineOpen},
	} {
		b := newBench(t, issued(auth, func(c *pboc.Card) { c.DefaultAction = tt.action }))
		x := b.asks(10_00)
		b.set(emv.TagARC, []byte(tt.arc))
		c := b.arpc(x.ac, tt.arc)
		switch tt.prove {
		case "right":
			b.want(iso7816.OK, b.send(c))
		case "wrong":
			c.Data[7] ^= 1
			b.want(iso7816.SWWarning, b.send(c))
		}
		y := b.answered(b.generate(emv.TagCDOL2, 0x40))
		if want := pboc.NewCVR(pboc.ARQC, tt.want) | pboc.CVRNewCard | tt.cvr; y.iad.CVR != want || y.cid != tt.want.CID() {
			t.Errorf("%s: %02X %06X, want %06X", tt.name, y.cid, uint32(y.iad.CVR), uint32(want))
		}
		if z := b.asks(1); z.iad.CVR&^pboc.CVRNewCard != pboc.NewCVR(pboc.ARQC, pboc.NotRequested)|tt.next {
			t.Errorf("%s: next %06X", tt.name, uint32(z.iad.CVR))
		}
	}
}

// EXTERNAL AUTHENTICATE works once; a hundred failures end it for good.
func TestExternalAuthenticate(t *testing.T) {
	b := newBench(t, issued())
	x := b.asks(1)
	good := b.arpc(x.ac, "00")
	b.want(iso7816.SWLength, b.raw("0082000008 0000000000000000"))
	b.want(iso7816.SWP1P2, b.raw("008201000A 00000000000000000000"))
	b.want(iso7816.OK, b.send(good))
	b.want(iso7816.SWConditions, b.send(good))
	if y := b.answered(b.generate(emv.TagCDOL2, 0x40)); !y.iad.CVR.Has(pboc.CVRIssuerAuthFailed) {
		t.Errorf("twice: %06X", uint32(y.iad.CVR))
	}
	b.want(iso7816.SWConditions, b.send(good))
	b.own(func(a *applet, s *card.Session) { a.setByte(atAuthFails, maxFails-1) })
	x = b.asks(1)
	c := b.arpc(x.ac, "00")
	c.Data[0] ^= 0x10
	b.want(iso7816.SWWarning, b.send(c))
	x = b.asks(1)
	b.want(iso7816.SWConditions, b.send(b.arpc(x.ac, "00")))
}

// E-cash by contact: chosen by the terminal's indicator, paid at GENERATE AC, and
// refused when the transaction changed after GPO.
func TestContactECash(t *testing.T) {
	b := newBench(t, issued())
	b.insert()
	b.set(emv.TagECIndicator, []byte{1}).set(emv.TagAmount, amount(30_00))
	r := b.want(iso7816.OK, b.gpo())
	if _, v, _, _ := tlv.Next(r.Data); !bytes.Equal(v[len(v)-4:], unhex("20010100")) {
		t.Errorf("AFL %X does not end with the issuer's code", v)
	}
	b.set(emv.TagTVR, unhex("8000000000")).set(emv.TagUN, unhex("01020304"))
	x := b.answered(b.generate(emv.TagCDOL1, 0x40))
	if x.cid != 0x40 || b.fen(emv.TagECBalance) != 70_00 || x.iad.Amounts[0] != 70_00 {
		t.Errorf("%+v, balance %d", x, b.fen(emv.TagECBalance))
	}
	if l, err := pboc.ParseLogEntry(b.send(iso7816.ReadRecord(1, pboc.LogSFI, 0)).Data); err != nil || l.Amount != 30_00 {
		t.Errorf("log %+v %v", l, err)
	}
	b.insert()
	b.want(iso7816.OK, b.gpo())
	b.set(emv.TagAmount, amount(29_99))
	if x = b.answered(b.generate(emv.TagCDOL1, 0x40)); x.cid != 0 || b.fen(emv.TagECBalance) != 70_00 {
		t.Errorf("changed amount: %02X", x.cid)
	}
	for _, tt := range []struct {
		fen      uint64
		currency string
	}{{70_01, "0156"}, {1_00, "0840"}} {
		b.set(emv.TagAmount, amount(tt.fen)).set(emv.TagCurrency, unhex(tt.currency))
		b.insert()
		if _, v, _, _ := tlv.Next(b.gpo().Data); bytes.Equal(v[len(v)-4:], unhex("20010100")) {
			t.Errorf("%+v is e-cash", tt)
		}
	}
}

// A combined signature is there when it was asked for, over the first and the second
// cryptogram.
func TestCombinedSignature(t *testing.T) {
	b := newBench(t, issued())
	b.insert()
	b.want(iso7816.OK, b.gpo())
	check := func(r iso7816.Response, cdol2 []byte) {
		t.Helper()
		_, body, _, _ := tlv.Next(r.Data)
		data, err := emv.TransactionData(b.pdol, b.cdol1, cdol2, body)
		if err != nil {
			t.Fatal(err)
		}
		x, err := emv.VerifyCDA(rsa1024.Public(), value(r, emv.TagSDAD), [4]byte(b.term[emv.TagUN]), value(r, emv.TagCID)[0], data)
		if err != nil || !bytes.Equal(x.Number, value(r, emv.TagATC)) {
			t.Errorf("%+v %v", x, err)
		}
		if got := tags(r); got != "9F27 9F36 9F4B 9F10" {
			t.Errorf("tags %s", got)
		}
	}
	check(b.want(iso7816.OK, b.generate(emv.TagCDOL1, 0x90)), nil)
	c := b.generateCommand(emv.TagCDOL2, 0x50)
	check(b.want(iso7816.OK, b.send(c)), c.Data)
	b.insert()
	b.want(iso7816.OK, b.gpo())
	if r := b.generate(emv.TagCDOL1, 0x10); r.Data[0] != 0x80 {
		t.Errorf("a decline is signed: %X", r.Data)
	}
}

func TestInternalAuthenticate(t *testing.T) {
	b := newBench(t, issued())
	b.insert()
	b.want(iso7816.OK, b.gpo())
	r := b.want(iso7816.OK, b.raw("0088000004 11223344 00"))
	_, sdad, _, _ := tlv.Next(r.Data)
	if n, err := emv.VerifyDDA(rsa1024.Public(), sdad, unhex("11223344")); err != nil || !bytes.Equal(n, []byte{0, 1}) {
		t.Errorf("%X %v", n, err)
	}
	b.want(iso7816.SWLength, b.raw("0088000003 112233 00"))
	b.want(iso7816.SWP1P2, b.raw("0088000104 11223344 00"))
	if x := b.answered(b.generate(emv.TagCDOL1, 0x80)); !x.iad.CVR.Has(pboc.CVRDDA) {
		t.Errorf("CVR %06X", uint32(x.iad.CVR))
	}
	b = newBench(t, issued(func(c *pboc.Card) { c.Private = emv.CRT{} }))
	b.insert()
	b.gpo()
	b.want(iso7816.SWConditions, b.raw("0088000004 11223344 00"))
}

func TestGenerateACIsChecked(t *testing.T) {
	b := newBench(t, issued())
	b.insert()
	good := b.generateCommand(emv.TagCDOL1, 0x80)
	b.want(iso7816.SWConditions, b.send(good))
	b.want(iso7816.OK, b.gpo())
	for p1, sw := range map[byte]iso7816.SW{0xC0: iso7816.SWP1P2, 0x81: iso7816.SWP1P2, 0x20: iso7816.SWP1P2} {
		c := good
		c.P1 = p1
		b.want(sw, b.send(c))
	}
	short := good
	short.Data = good.Data[1:]
	b.want(iso7816.SWLength, b.send(short))
	b.want(iso7816.OK, b.send(good))
	b.want(iso7816.SWConditions, b.generate(emv.TagCDOL2, 0x80))
	b.want(iso7816.OK, b.generate(emv.TagCDOL2, 0x40))
	// Contactless "full PBOC" is the same path.
	b.iface = card.Contactless
	b.set(emv.TagTTQ, unhex("76000080"))
	b.tap()
	if r := b.want(iso7816.OK, b.gpo()); r.Data[0] != 0x80 {
		t.Errorf("full path: %X", r.Data)
	}
	b.want(iso7816.OK, b.generate(emv.TagCDOL1, 0x80))
	// qPBOC has no GENERATE AC.
	b.set(emv.TagTTQ, unhex("36000080"))
	b.tap()
	b.gpo()
	b.want(iso7816.SWConditions, b.send(good))
}

// The offline PIN: tries count down, survive a reset, and stop at none.
func TestVerify(t *testing.T) {
	const right, wrong = "0020008008 241234FFFFFFFFFF", "0020008008 249999FFFFFFFFFF"
	b := newBench(t, issued(func(c *pboc.Card) { c.DefaultAction = [2]byte{0, 0x80} }))
	b.want(iso7816.SWConditions, b.raw(right)) // contactless
	b.insert()
	b.want(iso7816.SWP1P2, b.raw("0020000008 241234FFFFFFFFFF"))
	b.want(iso7816.SWLength, b.raw("0020008007 241234FFFFFFFF"))
	b.want(iso7816.Tries(2), b.raw(wrong))
	b.want(iso7816.OK, b.raw(right))
	b.want(iso7816.Tries(2), b.raw(wrong))
	b.insert()
	if v := b.data(emv.TagPINTries); v[0] != 2 {
		t.Errorf("tries %d", v[0])
	}
	b.gpo()
	b.want(iso7816.Tries(1), b.raw(wrong))
	x := b.answered(b.generate(emv.TagCDOL1, 0x80))
	if !x.iad.CVR.Has(pboc.CVROfflinePIN | pboc.CVRPINFailed) {
		t.Errorf("CVR %06X", uint32(x.iad.CVR))
	}
	b.want(iso7816.Tries(0), b.raw(wrong))
	b.want(iso7816.SWBlocked, b.raw(right))
	b.want(iso7816.SWSelectedBlocked, b.choose()) // as 9F52 says
	if x = b.answered(func() iso7816.Response { b.gpo(); return b.generate(emv.TagCDOL1, 0x80) }()); x.cid != 0 || !x.iad.CVR.Has(pboc.CVRPINLimit|pboc.CVRBlockedByPIN) {
		t.Errorf("CVR %06X", uint32(x.iad.CVR))
	}
	b = newBench(t, issued(func(c *pboc.Card) { c.PIN = nil }))
	b.insert()
	b.want(iso7816.SWReferenceNotFound, b.raw(right))
}

// A total without limit does not run over.
func TestTotalStaysWithinN12(t *testing.T) {
	b := newBench(t, issued(func(c *pboc.Card) { c.TotalLimit = 0 }))
	for range 3 {
		b.insert()
		b.set(emv.TagAmount, amount(pboc.MaxFen))
		b.want(iso7816.OK, b.gpo())
		if x := b.answered(b.generate(emv.TagCDOL1, 0x40)); x.cid != 0x40 {
			t.Errorf("%02X", x.cid)
		}
	}
	if m, _ := b.money2(); m.total != pboc.MaxFen {
		t.Errorf("total %d", m.total)
	}
}
