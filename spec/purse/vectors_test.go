package purse_test

import (
	"bytes"
	"testing"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

// Load and purchase of public pages (xingyexinwen/379, csdn 42240855 and
// 95907029, w3help); the rest worked out with the same key (CARD 6.3).
func TestPublishedMACs(t *testing.T) {
	k := key(t, "11223344556677888877665544332211")
	term, rnd := terminal(t, "001122334455"), [4]byte{0x11, 0x22, 0x33, 0x44}
	load := purse.LoadSession(k, rnd, 0)
	wantHex(t, "load session", load[:], "9B1D924E05595603")
	m := purse.LoadMAC1(load, 0, 0x1000, purse.LoadED, term)
	wantHex(t, "load MAC1", m[:], "2988AE5A")
	m = purse.LoadMAC2(load, 0x1000, purse.LoadED, term, stamp(t, "20111221214822"))
	wantHex(t, "load MAC2", m[:], "3A845BF0")

	buy := purse.PurchaseSession(k, rnd, 0, 1)
	wantHex(t, "purchase session", buy[:], "003238ABC57659DD")
	at := stamp(t, "20120229135100")
	m = purse.PurchaseMAC1(buy, 0x1000, purse.PurchaseEP, term, at)
	wantHex(t, "purchase MAC1", m[:], "F15CAB75")
	m = purse.PurchaseMAC1(buy, 0x1000, purse.CAPP, term, at)
	wantHex(t, "CAPP MAC1", m[:], "0E5AE1C1")
	m = purse.PurchaseMAC2(buy, 0x1000)
	wantHex(t, "purchase MAC2", m[:], "56988A13")

	tk := purse.TACKey(k)
	wantHex(t, "TAC key", tk[:], "9955551111555599")
	m = purse.PurchaseTAC(tk, 0x1000, purse.PurchaseEP, term, 1, at)
	wantHex(t, "TAC", m[:], "F5B221C9")
	m = purse.PurchaseTAC(tk, 0x1000, purse.CAPP, term, 1, at)
	wantHex(t, "CAPP TAC", m[:], "1A5DD956")
	m = purse.LoadTAC(tk, 0x1000, 0, 0x1000, purse.LoadED, term, stamp(t, "20111221214822"))
	wantHex(t, "load TAC", m[:], "FF5C1389")
	d := purse.Disperse(k, [8]byte{7: 1})
	wantHex(t, "dispersed key", d[:], "6B3C059DBA64295091C3F108689C120A")
	if purse.Equal(m, [4]byte{}) || !purse.Equal(m, m) {
		t.Error("Equal")
	}
}

// The constructed gate purchase of CARD 6.3, from both ends.
func TestGoldenPurchase(t *testing.T) {
	number, term := purse.Number("03105170070104791381"), terminal(t, "300089000340")
	dpk := purse.Disperse(key(t, "11223344556677888877665544332211"), number.Factor())
	dtk := purse.Disperse(key(t, "0123456789ABCDEFFEDCBA9876543210"), number.Factor())
	wantHex(t, "DPK", dpk[:], "85B3F8D3A5E6E6A4BEBC4306CAAB53B4")
	wantHex(t, "DTK", dtk[:], "4515223C1E1EABB0E457FDD02769ACA8")
	tk := purse.TACKey(dtk)
	wantHex(t, "TAC key", tk[:], "A142DFEC39770718")

	init := purse.InitPurchase{CAPP: true, Purse: purse.EP, Key: 1, Fen: 500, Terminal: term}
	wantHex(t, "INIT", init.Command().Bytes(), "805003020B 01 000001F4 300089000340 0F")
	answer, err := purse.ParseInitPurchaseAnswer(unhex(t, "00001000 042D 000000 01 00 5A6B7C8D"))
	if err != nil {
		t.Fatal(err)
	}
	at := stamp(t, "20241229141740")
	sam := purse.SAMPurchase{
		Rnd: answer.Rnd, Seq: answer.Seq, Fen: 500, Type: init.Type(), Stamp: at, KeyVersion: answer.KeyVersion, Alg: answer.Alg,
		Factors: [][8]byte{number.Factor(), purse.IssuerFactor([4]byte{0x01, 0x01, 0x10, 0x00})},
	}
	wantHex(t, "PSAM", sam.Command().Bytes(), "8070000024 5A6B7C8D 042D 000001F4 09 20241229141740 01 00 5170070104791381 01011000FFFFFFFF 08")
	sk := purse.PurchaseSession(dpk, answer.Rnd, answer.Seq, 0x102A)
	wantHex(t, "session", sk[:], "06FA23996656AB93")
	mac1 := purse.PurchaseMAC1(sk, 500, purse.CAPP, term, at)
	wantHex(t, "PSAM answer", purse.SAMPurchaseAnswer{TSeq: 0x102A, MAC1: mac1}.Bytes(), "0000102A 9AA6390B")

	debit := purse.DebitCommand{TSeq: 0x102A, Stamp: at, MAC1: mac1}
	wantHex(t, "DEBIT", debit.Command().Bytes(), "805401000F 0000102A 20241229 141740 9AA6390B 08")
	paid := purse.DebitAnswer{TAC: purse.PurchaseTAC(tk, 500, purse.CAPP, term, 0x102A, at), MAC2: purse.PurchaseMAC2(sk, 500)}
	wantHex(t, "DEBIT answer", paid.Bytes(), "EF53AEB2 FFE1337A")
	wantHex(t, "PSAM credit", purse.SAMCredit{MAC2: paid.MAC2}.Command().Bytes(), "8072000004 FFE1337A")
	log := purse.Log{Seq: answer.Seq, Fen: 500, Type: purse.CAPP, Terminal: term, Stamp: at}
	wantHex(t, "log", log.Bytes(), "042D 000000 000001F4 09 300089000340 20241229 141740")
}

// The constructed top-up of CARD 6.3, from both ends.
func TestGoldenLoad(t *testing.T) {
	number, term := purse.Number("03105170070104791381"), terminal(t, "800100000001")
	dlk := purse.Disperse(key(t, "404142434445464748494A4B4C4D4E4F"), number.Factor())
	wantHex(t, "DLK", dlk[:], "C8772AF7DC2C96F6E65C4FE641A843C0")
	init := purse.InitLoad{Purse: purse.EP, Key: 1, Fen: 10000, Terminal: term}
	wantHex(t, "INIT", init.Command().Bytes(), "805000020B 01 00002710 800100000001 10")
	rnd := [4]byte{0xA1, 0xB2, 0xC3, 0xD4}
	sk := purse.LoadSession(dlk, rnd, 7)
	wantHex(t, "session", sk[:], "421EE6A5329555A1")
	answer := purse.InitLoadAnswer{
		Balance: 0xE0C, Seq: 7, KeyVersion: 1, Rnd: rnd, MAC1: purse.LoadMAC1(sk, 0xE0C, 10000, init.Type(), term),
	}
	wantHex(t, "INIT answer", answer.Bytes(), "00000E0C 0007 01 00 A1B2C3D4 172BFCCF")
	at := stamp(t, "20250102080910")
	credit := purse.CreditCommand{Stamp: at, MAC2: purse.LoadMAC2(sk, 10000, init.Type(), term, at)}
	wantHex(t, "CREDIT", credit.Command().Bytes(), "805200000B 20250102 080910 45BF3676 04")
	dtk := purse.Disperse(key(t, "0123456789ABCDEFFEDCBA9876543210"), number.Factor())
	tac := purse.LoadTAC(purse.TACKey(dtk), 0x351C, 7, 10000, init.Type(), term, at)
	wantHex(t, "CREDIT answer", purse.CreditAnswer{TAC: tac}.Bytes(), "4CA97479")
}

// The ETC trace of a purchase whose answer was lost (jishu.shishitao 104912).
func TestProveAfterLostAnswer(t *testing.T) {
	init := purse.InitPurchase{CAPP: true, Purse: purse.EP, Key: 1, Terminal: terminal(t, "014400019C8B")}
	wantHex(t, "INIT again", init.Command().Bytes(), "805003020B 01 00000000 014400019C8B 0F")
	again, err := purse.ParseInitPurchaseAnswer(unhex(t, "11E1A2D9 0028 000000 01 00 C7B13722"))
	if err != nil || again.Seq != 0x28 || again.Balance != 0x11E1A2D9 {
		t.Errorf("%+v %v", again, err)
	}
	wantHex(t, "PROVE", purse.Prove{Type: purse.CAPP, Seq: 0x28}.Command().Bytes(), "805A000902 0028 08")
	p, err := purse.ParseProveAnswer(unhex(t, "0410385D 807979F8"))
	if err != nil || p.MAC2 != [4]byte{0x04, 0x10, 0x38, 0x5D} || p.TAC != [4]byte{0x80, 0x79, 0x79, 0xF8} {
		t.Errorf("%+v %v", p, err)
	}
}

// readCommand reads any purse command at the card and writes it back.
func readCommand(c iso7816.Command) (iso7816.Command, bool) {
	if x, err := purse.ParseInitPurchase(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseInitLoad(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseDebitCommand(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseCreditCommand(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseProve(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseGetBalance(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseUpdateCAPP(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseSAMPurchase(c); err == nil {
		return x.Command(), true
	}
	if x, err := purse.ParseSAMCredit(c); err == nil {
		return x.Command(), true
	}
	return iso7816.Command{}, false
}

var commandTexts = []string{
	"805003020B01000001F43000890003400F", "805001010B01000001F43000890003400F", "805000020B010000271080010000000110",
	"805005010B010000271080010000000110", "805401000F0000102A202412291417409AA6390B08", "805200000B2025010208091045BF367604",
	"805403000B2025010208091045BF367604", "805A000902042D08", "805C000204", "80DC00F0022703", "8072000004FFE1337A",
	"807000001C5A6B7C8D042D000001F40920241229141740010051700701047913810800"[:66] + "08",
}

func TestCommandsReadBack(t *testing.T) {
	for _, text := range commandTexts {
		c, err := iso7816.ParseCommand(unhex(t, text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		back, ok := readCommand(c)
		if !ok || !bytes.Equal(back.Bytes(), unhex(t, text)) {
			t.Errorf("%s reads back as %v", text, back)
		}
	}
	for _, text := range []string{"805003020A01000001F430008900030F", "805009020B01000001F43000890003400F", "905C000204", "805C040204", "80DC00F1022703", "807000000100"} {
		c, err := iso7816.ParseCommand(unhex(t, text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if back, ok := readCommand(c); ok {
			t.Errorf("%s is taken for %v", text, back)
		}
	}
}

func BenchmarkGateMACs(b *testing.B) {
	root := purse.NewRoot(key(b, "11223344556677888877665544332211"))
	term, at := terminal(b, "300089000340"), stamp(b, "20241229141740")
	factor := purse.Number("03105170070104791381").Factor()
	for b.Loop() {
		s := purse.NewSession(purse.PurchaseSession(root.Disperse(factor), [4]byte{1, 2, 3, 4}, 7, 8))
		s.PurchaseMAC1(500, purse.CAPP, term, at)
		s.PurchaseMAC2(500)
	}
}
