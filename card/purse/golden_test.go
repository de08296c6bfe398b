package purse

import (
	"bytes"
	"encoding/hex"
	"testing"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

const (
	trip1E = "04 0000300089000340 01 0800 1900 3000 00 000001F4 00000E01 20241229141740 1000 01011000FFFFFFFF 000000000000"
)

func rail(status purse.TransitStatus) []byte {
	r := purse.NewTransit("03105170070104791381")
	r.Status = status
	return r.Bytes()
}

// The constructed golden gate trace of the design (one dispersion level), the
// PSAM's side taken from it.
func TestGoldenGateTrace(t *testing.T) {
	b := newBench(t, holds(0x1000, 7, 0x042D))
	b.chance.Next = unhex("5A6B7C8D")
	b.run("805003020B 01 000001F4 300089000340 0F > 00001000 042D 000000 01 00 5A6B7C8D 9000")
	if r := b.send(purse.UpdateCAPP{SFI: purse.SFITransit, ID: 0x27, Record: rail(purse.Left)}.Command()); !r.SW.OK() {
		t.Fatalf("1A: %v", r)
	}
	b.run(`80DC00F030 ` + trip1E + ` > 9000
		805401000F 0000102A 20241229 141740 9AA6390B 08 > EF53AEB2 FFE1337A 9000
		805C000204 > 00000E0C 9000
		00B201C417 > 042D 000000 000001F4 09 300089000340 20241229 141740 9000
		00B201F430 > ` + trip1E + ` 9000
		00B227D080 > 27037D000100 5170070104791381 02…9000
		805A000902 042E 08 > FFE1337A EF53AEB2 9000
		805A000902 042D 08 > FFE1337A EF53AEB2 9000
		805A000902 042C 08 > 9406
		805A000602 042E 08 > 9406`)
	if a, _ := b.initPurchase(purse.InitPurchase{CAPP: true, Purse: purse.EP}); a.Seq != 0x042E || a.Balance != 0x0E0C {
		t.Errorf("next INIT: %+v", a)
	}
}

func TestGoldenTopUp(t *testing.T) {
	b := newBench(t, holds(0x0E0C, 7, 0x042E))
	b.chance.Next = unhex("A1B2C3D4")
	b.run(`805000020B 01 00002710 800100000001 10 > 00000E0C 0007 01 00 A1B2C3D4 172BFCCF 9000
		805200000B 20250102 080910 45BF3676 04 > 4CA97479 9000
		805C000204 > 0000351C 9000
		00B201C417 > 0007 000000 00002710 02 800100000001 20250102 080910 9000
		805A000202 0008 08 > 00000000 4CA97479 9000
		805200000B 20250102 080910 45BF3676 04 > 6985
		805C000204 > 0000351C 9000`)
}

// The vector of public pages (load, type 01, balance 0): its MAC1 and MAC2.
func TestPublishedLoad(t *testing.T) {
	key := key16("11223344556677888877665544332211")
	b := newBench(t, storeKey(1, purse.DLK, key), storeKey(2, purse.DTK, key))
	b.chance.Next = unhex("11223344")
	b.run(`805000010B 01 00001000 001122334455 10 > 00000000 0000 01 00 11223344 2988AE5A 9000
		805200000B 20111221 214822 3A845BF0 04 > FF5C1389 9000`)
}

// What nfcim/nfsee sends: before any SELECT, then as a T-Union card.
func TestReaderNFSEE(t *testing.T) {
	b := newBench(t, holds(12345, 7, 9))
	before := b.state()
	_ = b.e.PowerOn(card.Contactless)
	b.run(`00B0840020 > 6D00
		9060000000 > 6D00
		00A4040007 5041592E535A54 00 > 6A82
		00A4040009 A00000000386980701 00 > 6A82
		00A4040008 A000000632010105 > 6F318408A000000632010105A5259F0801029F0C1E` + file15 + `9000
		00B095001E > ` + file15 + `9000
		00B097000B > ` + file17 + `9000
		805C000204 > 00003039 9000
		00B201C417 > 6A83
		00B20AC417 > 6A83
		805000020B 01 00000001 000000000010 > 00003039 0007 01 00…9000`)
	if b.state() != before {
		t.Error("reading changed the card")
	}
}

// Beijing, NFSEE and METRO: MF file 04 and DF 1001 in front, T-Union beside it,
// one purse behind both.
func TestReaderBeijing(t *testing.T) {
	b := newBench(t, holds(5000, 0, 0), store(purse.DGIBeijing, file04), defaultSelected)
	_ = b.e.PowerOn(card.Contactless)
	b.run(`00B0840020 > ` + file04 + `9000
		00A40000023F00 > 6F…9000
		00A4000002100100 > 6F08840450424F43A500 9000
		805C000204 > 00001388 9000
		00B201C417 > 6A83
		00A4040008 A000000632010105 > 6F31…9000
		805C000204 > 00001388 9000`)
	for _, id := range []string{"0004", "0015"} {
		b.run("00A4000002" + id + " > 9000")
	}
	for _, id := range []string{"0005", "0008", "0009", "000A", "0003", "1002"} {
		b.run("00A4000002" + id + "00 > 6A82")
	}
	b.run("00A40000020018 > 9000\n 00B201041700 > 6700\n 00B2010417 > 6A83")
}

// METRO asks every short identifier in both ways; nothing may be lost by it.
func TestReaderMETRO(t *testing.T) {
	b := newBench(t, holds(12345, 7, 9))
	before := b.state()
	b.run("805C000204 > 00003039 9000\n805C010204 > 00000000 9000")
	for sfi := range byte(0x20) {
		for _, c := range []iso7816.Command{iso7816.ReadBinarySFI(sfi, 0, 0), iso7816.ReadRecord(1, sfi, 0)} {
			switch r := b.send(c); r.SW {
			case iso7816.OK, iso7816.SWFileNotFound, iso7816.SWRecordNotFound, iso7816.SWFileType, iso7816.SWNoFile:
			default:
				t.Errorf("%v: %v", c, r)
			}
		}
	}
	if b.state() != before {
		t.Error("reading changed the card")
	}
}

// NFCARD: balance parts 3, 2, 1; 30 bytes of information; all of the log in one
// command, then record by record.
func TestReaderNFCARD(t *testing.T) {
	b := newBench(t, holds(12345, 7, 9))
	b.run(`805C030204 > 00003039 9000
		805C020204 > 00000000 9000
		805C010204 > 00000000 9000
		00B0950000 > ` + file15 + `9000
		00B201C500 > 6A83`)
	var want []byte
	for range 3 {
		a, _ := b.initLoad(100)
		b.send(creditOf(a, purse.LoadEP, 100).Command())
		r := b.send(iso7816.ReadRecord(1, purse.SFILog, purse.LogLen))
		want = append(bytes.Clone(r.Data), want...)
	}
	b.run("00B201C500 > " + hex.EncodeToString(want) + "9000")
	b.run("00B204C417 > 6A83\n00B201C400 > …9000\n00B201C410 > 6C17")
}

// The ETC trace's order of commands after a torn debit: INITIALIZE shows the
// sequence one on, GET TRANSACTION PROVE with it gives what was lost.
func TestRecoveryAsInETC(t *testing.T) {
	b := newBench(t, holds(5000, 0, 0x27))
	a, _ := b.initPurchase(purse.InitPurchase{CAPP: true, Purse: purse.EP, Fen: 300})
	b.send(purse.UpdateCAPP{SFI: purse.SFITransit, ID: 0x27, Record: rail(purse.Left)}.Command())
	b.e.LoseAnswer(1)
	d := debitOf(a, purse.CAPP, 300, 0x0077433B)
	if _, err := b.e.Transmit(d.Command()); err == nil {
		t.Fatal("the answer was to be lost")
	}
	b.tap()
	again, _ := b.initPurchase(purse.InitPurchase{CAPP: true, Purse: purse.EP})
	r := b.send(purse.Prove{Type: purse.CAPP, Seq: again.Seq}.Command())
	p, err := purse.ParseProveAnswer(r.Data)
	if err != nil || again.Seq != 0x28 || again.Balance != 4700 {
		t.Fatalf("%+v %v %v", again, r, err)
	}
	sk := purse.PurchaseSession(dpk, a.Rnd, a.Seq, d.TSeq)
	if p.MAC2 != purse.PurchaseMAC2(sk, 300) || p.TAC != purse.PurchaseTAC(purse.TACKey(dtk), 300, purse.CAPP, gate, d.TSeq, stamp) {
		t.Errorf("proof %+v", p)
	}
}
