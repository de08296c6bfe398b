package purse

import (
	"encoding/hex"
	"testing"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

const (
	initCAPP0 = "805003020B 01 00000000 300089000340 0F > …9000\n"
	anyDebit  = "805401000F 00000001 20241229 141740 00000000 08"
	anyCredit = "805200000B 20241229 141740 00000000 04"
	anyRecord = "80DC00F030 04 0000300089000340 01 0800 1900 3000 00 00000000 00000E01 20241229141740 1000 01011000FFFFFFFF 000000000000"
)

// One line per rule: the situation and what the card says to it.
func TestStatusWords(t *testing.T) {
	full := store(purse.DGILimits, "000186A0 000000") // 1000 yuan
	for _, tt := range []struct {
		name   string
		opts   []option
		script string
	}{
		{"more than the balance", []option{holds(100, 0, 0)}, "805001020B 01 00000065 300089000340 0F > 9401"},
		{"exactly the balance", []option{holds(100, 0, 0)}, "805001020B 01 00000064 300089000340 0F > …9000"},
		{"overdraft lets her owe", []option{store(purse.DGILimits, "000186A0 0003E8"), holds(1000, 0, 0)},
			"805C000204 > 000003E8 9000\n805C030204 > 00000000 9000\n805C010204 > 000003E8 9000\n805001020B 01 000003E8 300089000340 0F > 000003E8 0000 0003E8…9000\n805001020B 01 000003E9 300089000340 0F > 9401"},
		{"load beyond the limit", []option{full, holds(99_999, 0, 0)}, "805000020B 01 00000002 800100000001 10 > 6A80\n805C000204 > 0001869F 9000"},
		{"load up to the limit", []option{full, holds(99_999, 0, 0)}, "805000020B 01 00000001 800100000001 10 > …9000"},
		{"load of the largest amount", []option{holds(1, 0, 0)}, "805000020B 01 FFFFFFFF 800100000001 10 > 6A80"},
		{"wrong MAC1", nil, initCAPP0 + anyRecord + "> 9000\n" + anyDebit + "> 9302\n" + anyDebit + "> 6985"},
		{"wrong MAC2", nil, "805000020B 01 00000001 800100000001 10 > …9000\n" + anyCredit + "> 9302\n" + anyCredit + "> 6985"},
		{"unknown key", nil, "805001020B 02 00000000 300089000340 0F > 9403\n805000020B 07 00000001 800100000001 10 > 9403"},
		{"debit without init", nil, anyDebit + "> 6985"},
		{"credit without init", nil, anyCredit + "> 6985"},
		{"cache without init", nil, anyRecord + "> 6985"},
		{"cache after a plain purchase", nil, "805001020B 01 00000000 300089000340 0F > …9000\n" + anyRecord + "> 6985"},
		{"compound debit without record", nil, initCAPP0 + anyDebit + "> 6985"},
		{"credit after a purchase's init", nil, "805001020B 01 00000000 300089000340 0F > …9000\n" + anyCredit + "> 6985\n" + anyDebit + "> 6985"},
		{"reads leave it armed", nil, initCAPP0 + "00B095001E > …9000\n805C000204 > 00000000 9000\n00B201C417 > 6A83\n" + anyRecord + "> 9000"},
		{"another command disarms", nil, initCAPP0 + "0084000004 > …9000\n" + anyRecord + "> 6985"},
		{"an unknown command disarms", nil, initCAPP0 + "80FE000000 > 6D00\n" + anyRecord + "> 6985"},
		{"selecting disarms", nil, initCAPP0 + "00A4040008 A000000632010105 00 > …9000\n" + anyRecord + "> 6985"},
		{"a refused record disarms", nil, initCAPP0 + "80DC55D001 55 > 6A83\n" + anyRecord + "> 6985"},
		{"record of another length", nil, initCAPP0 + "80DC27D003 270300 > 6700"},
		{"record with another identifier", nil, initCAPP0 + "80DC01D401 28 > 6A80"},
		{"the log is the card's own", nil, initCAPP0 + "80DC01C417 0000000000000000000000000000000000000000000000 > 6981"},
		{"nothing to prove", nil, "805A000902 0000 08 > 9406\n805A000902 FFFF 08 > 9406\n805A007702 0001 08 > 9406"},
		{"offline sequence at its end", []option{holds(1, 0, 0xFFFF)}, "805001020B 01 00000000 300089000340 0F > 9402\n" + "805C000204 > 00000001 9000\n805000020B 01 00000001 800100000001 10 > …9000"},
		{"online sequence at its end", []option{holds(1, 0xFFFF, 0)}, "805000020B 01 00000001 800100000001 10 > 9402\n805001020B 01 00000000 300089000340 0F > …9000"},
		{"records beyond the end", nil, "00B20BC400 > 6A83\n00B200C400 > 6A83\n00B201F400 > 6A83\n00B204D400 > 6A83\n00B255D000 > 6A83"},
		{"transparent files", nil, "00B0990000 > 6981\n00B0930000 > 6A82\n00B0950A1E > 6C14\n00B0951E01 > 6B00\n00B0951D00 > 00 9000\n00B00000 00 > 6986\n00B2017C00 > 6A82\n00B201AC00 > 6981"},
		{"updates need a MAC", nil, "00D6950001 FF > 6982\n00DC01D401 FF > 6982\n00E200D001 FF > 6982\n04D6950005 FF00000000 > 6984"},
		{"compound purchase is EP's", nil, "805003010B 01 00000000 300089000340 0F > 6A86\n805001030B 01 00000000 300089000340 0F > 6A86"},
		{"malformed", nil, "805001020A 01 00000000 3000890003 > 6700\n805002020B 01 00000000 300089000340 0F > 6A86\n8054010001 00 > 6985\n805C040204 > 6A86\n805C000304 > 6A86\n805A000901 00 > 6700"},
		{"unload is not offered", nil, "805005010B 01 00000000 300089000340 10 > 6A86"},
		{"classes", nil, "90B0950000 > 6E00\n04A4000002 0015 > 6D00\n00A4050000 > 6A86\n00FE000000 > 6D00\nFFCA000000 > 6E00\n41A40000 > 6881\n03B0950000 > 6881"},
		{"no PIN here", nil, "0020000003 123456 > 6A88"},
	} {
		t.Run(tt.name, func(t *testing.T) { newBench(t, tt.opts...).run(tt.script) })
	}
}

func TestPIN(t *testing.T) {
	b := newBench(t, store(DGIPIN, "0203"+"03123456800000000000000000000000"))
	loads := "805000020B 01 00000001 800100000001 10 > "
	b.run(loads + "6982\n00200000 > 63C3\n0020000003 999999 > 63C2\n0020000003 123456 > 9000\n" + loads + "…9000")
	b.tap()
	b.run(loads + "6982\n0020000003 999999 > 63C2\n0020000002 1234 > 63C1\n0020000003 999999 > 63C0\n0020000003 123456 > 6983\n" + loads + "6982")
	// ED has no PIN here, and buying needs none.
	b.run("805000010B 01 00000001 800100000001 10 > …9000\n" + "805001020B 01 00000000 300089000340 0F > …9000")
}

// A wrong PIN costs its try even when power goes away at the write.
func TestPINTryIsSpentFirst(t *testing.T) {
	b := newBench(t, store(DGIPIN, "0203"+"03123456800000000000000000000000"))
	w := b.e.Memory().Writes()
	b.run("0020000003 999999 > 63C2")
	writes := b.e.Memory().Writes() - w
	b.e.Memory().CutAfter(writes)
	if _, err := b.e.TransmitRaw(unhex("0020000003999999")); err == nil {
		t.Fatal("power was to fail")
	}
	b.tap()
	b.run("00200000 > 63C1")
}

func TestKeysLockAfterWrongMACs(t *testing.T) {
	b := newBench(t, holds(500, 0, 0))
	const initLoad = "805000020B 01 00000001 800100000001 10 > "
	for range KeyTries - 1 {
		b.run(initCAPP0 + anyRecord + "> 9000\n" + anyDebit + "> 9302")
		b.run(initLoad + "…9000\n" + anyCredit + "> 9302")
	}
	// A right MAC resets the count of the load key; the purchase key goes on to its end.
	a, _ := b.initLoad(1)
	if r := b.send(creditOf(a, purse.LoadEP, 1).Command()); !r.SW.OK() {
		t.Fatalf("%v", r)
	}
	b.run(initLoad + "…9000\n" + anyCredit + "> 9302\n" + initLoad + "…9000")
	b.run(initCAPP0 + anyRecord + "> 9000\n" + anyDebit + "> 9302")
	b.run("805003020B 01 00000000 300089000340 0F > 6983\n805C000204 > 000001F5 9000")
	b.tap()
	b.run("805001020B 01 00000000 300089000340 0F > 6983")
}

// protected asks for a challenge and sends c with its MAC.
func (b *bench) protected(c iso7816.Command) iso7816.SW {
	b.t.Helper()
	return b.send(purse.Protect(damk, b.send(iso7816.GetChallenge(8)).Data, c)).SW
}

func TestBlockAndUnblock(t *testing.T) {
	b := newBench(t, holds(77, 0, 0))
	wrong := b.send(iso7816.GetChallenge(8)).Data
	if r := b.send(purse.Protect(dpk, wrong, purse.AppBlock(false))); r.SW != iso7816.SWSecureWrong {
		t.Fatalf("under another key: %v", r)
	}
	if sw := b.protected(purse.AppBlock(false)); !sw.OK() {
		t.Fatalf("block: %v", sw)
	}
	b.run("805C000204 > 6985\n00B095001E > 6985\n805001020B 01 00000000 300089000340 0F > 6985")
	b.tap()
	b.run("00A4040008 A000000632010105 00 > 6F31…6283\n805C000204 > 6985")
	if sw := b.protected(purse.AppUnblock()); !sw.OK() {
		t.Fatalf("unblock: %v", sw)
	}
	b.run("805C000204 > 0000004D 9000")
	if sw := b.protected(purse.AppBlock(true)); !sw.OK() {
		t.Fatalf("block for ever: %v", sw)
	}
	b.run("805C000204 > 9303\n0084000008 > 9303")
	b.tap()
	b.run("00A4040008 A000000632010105 00 > 9303\n805C000204 > 9303")
}

func TestFileUpdates(t *testing.T) {
	b := newBench(t)
	if sw := b.protected(iso7816.UpdateBinarySFI(purse.SFIRegion, 4, unhex("11002000"))); !sw.OK() {
		t.Fatalf("update binary: %v", sw)
	}
	b.run("00B097000B > 00000156 11002000 000101 9000")
	local := iso7816.Command{INS: iso7816.InsAppendRecord, P2: purse.SFILocal << 3, Data: unhex("AA03010203"), Le: iso7816.NoLe}
	for _, want := range []iso7816.SW{iso7816.OK, iso7816.SWData} {
		if sw := b.protected(local); sw != want {
			t.Fatalf("append: %v, want %v", sw, want)
		}
	}
	b.run("00B2AAC805 > AA03010203 9000")
	update := iso7816.Command{INS: iso7816.InsUpdateRecord, P1: 1, P2: purse.SFILocal<<3 | 4, Data: unhex("AA03040506"), Le: iso7816.NoLe}
	if sw := b.protected(update); !sw.OK() {
		t.Fatalf("update record: %v", sw)
	}
	b.run("00B201CC05 > AA03040506 9000")
	for id := byte(1); id <= 3; id++ {
		local.Data = []byte{id, 0}
		if sw := b.protected(local); !sw.OK() {
			t.Fatalf("append %d: %v", id, sw)
		}
	}
	if local.Data = []byte{9, 0}; b.protected(local) != iso7816.SWNoSpace {
		t.Error("a fifth local record found room")
	}
	// The challenge is good for one command, and only right after it.
	ch := b.send(iso7816.GetChallenge(4)).Data
	b.run("805C000204 > 00000000 9000")
	if r := b.send(purse.Protect(damk, ch, update)); r.SW != iso7816.SWReferenceInvalid {
		t.Errorf("stale challenge: %v", r)
	}
}

// What protected updates are refused for, each after a right MAC.
func TestProtectedRefusals(t *testing.T) {
	b := newBench(t)
	trip := make([]byte, purse.TripLen)
	for _, tt := range []struct {
		name string
		c    iso7816.Command
		want iso7816.SW
	}{
		{"past the end", iso7816.UpdateBinarySFI(purse.SFIRegion, 59, []byte{1, 2}), iso7816.SWOffset},
		{"no such file", iso7816.UpdateBinarySFI(0x1D, 0, []byte{1}), iso7816.SWFileNotFound},
		{"records by bytes", iso7816.UpdateBinarySFI(purse.SFILog, 0, []byte{1}), iso7816.SWFileType},
		{"no current file", iso7816.Command{INS: iso7816.InsUpdateBinary, Data: []byte{1}}, iso7816.SWNoFile},
		{"no current file of records", iso7816.Command{INS: iso7816.InsUpdateRecord, P1: 1, P2: 4, Data: []byte{1}}, iso7816.SWNoFile},
		{"nothing to write", iso7816.UpdateBinarySFI(purse.SFIRegion, 0, nil), iso7816.SWLength},
		{"the log", iso7816.Command{INS: iso7816.InsUpdateRecord, P1: 1, P2: purse.SFILog<<3 | 4, Data: make([]byte, purse.LogLen)}, iso7816.SWFileType},
		{"no such record", iso7816.Command{INS: iso7816.InsUpdateRecord, P1: 0x55, P2: purse.SFITransit << 3, Data: []byte{0x55}}, iso7816.SWRecordNotFound},
		{"another length", iso7816.Command{INS: iso7816.InsUpdateRecord, P1: 0x27, P2: purse.SFITransit << 3, Data: []byte{0x27}}, iso7816.SWLength},
		{"an old trip", iso7816.Command{INS: iso7816.InsUpdateRecord, P1: 2, P2: purse.SFITrip<<3 | 4, Data: trip}, iso7816.SWFileType},
		{"a short trip", iso7816.Command{INS: iso7816.InsAppendRecord, P2: purse.SFITrip << 3, Data: trip[1:]}, iso7816.SWLength},
		{"a trip", iso7816.Command{INS: iso7816.InsAppendRecord, P2: purse.SFITrip << 3, Data: trip}, iso7816.OK},
		{"a local record too long", iso7816.Command{INS: iso7816.InsAppendRecord, P2: purse.SFILocal << 3, Data: make([]byte, localLen+1)}, iso7816.SWData},
		{"block with data", iso7816.Command{CLA: 0x80, INS: purse.InsAppBlock, Data: []byte{1}}, iso7816.SWLength},
		{"block of a third kind", iso7816.Command{CLA: 0x80, INS: purse.InsAppBlock, P2: 2}, iso7816.SWP1P2},
		{"unblock for ever", iso7816.Command{CLA: 0x80, INS: purse.InsAppUnblock, P2: 1}, iso7816.SWP1P2},
	} {
		tt.c.Le = iso7816.NoLe
		if sw := b.protected(tt.c); sw != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, sw, tt.want)
		}
	}
	b.run("0084010008 > 6A86\n0084000005 > 6700\n0084000008 > …9000\n04D6970003 000000 > 6987\n00B201F430 > " + hex.EncodeToString(trip) + "9000")
}

// The trip file turns over: thirty records, the newest first.
func TestTripFileTurnsOver(t *testing.T) {
	b := newBench(t)
	for i := range byte(purse.TripCount + 5) {
		rec := make([]byte, purse.TripLen)
		rec[0] = i
		if sw := b.protected(iso7816.Command{INS: iso7816.InsAppendRecord, P2: purse.SFITrip << 3, Data: rec, Le: iso7816.NoLe}); !sw.OK() {
			t.Fatal(sw)
		}
	}
	for n := byte(1); n <= purse.TripCount; n++ {
		if r := b.send(iso7816.ReadRecord(n, purse.SFITrip, purse.TripLen)); len(r.Data) == 0 || r.Data[0] != purse.TripCount+5-n {
			t.Fatalf("record %d: %v", n, r)
		}
	}
	b.run("00B21FF430 > 6A83\n00B201F400 > 22…9000")
}

// What STORE DATA takes and what it refuses; a refusal changes nothing.
func TestPersonalisationRefusals(t *testing.T) {
	b := newBench(t, holds(500, 1, 1))
	before := b.state()
	b.e.PowerOff()
	good := purse.KeyRecord{Kind: purse.DPK, Index: 2, Version: 1, Key: dpk}
	for _, tt := range []struct {
		name string
		dgi  uint16
		data string
		want iso7816.SW
	}{
		{"unknown group", 0x7777, "00", iso7816.SWReferenceNotFound},
		{"file 15 too short", purse.DGIPublic, file15[:58], iso7816.SWData},
		{"card number of letters", purse.DGIPublic, file15[:20] + "AA" + file15[22:], iso7816.SWData},
		{"file 17 too long", purse.DGIRegion, hex.EncodeToString(make([]byte, 61)), iso7816.SWData},
		{"empty file", purse.DGIHolder, "", iso7816.SWData},
		{"rail record too short", purse.DGITransit, "2703", iso7816.SWData},
		{"key with a wrong check value", purse.DGIKeyFirst, hex.EncodeToString(good.Bytes()), iso7816.SWData},
		{"short key", purse.DGIKeyFirst, "010101", iso7816.SWData},
		{"limits too short", purse.DGILimits, "0001", iso7816.SWData},
		{"PIN of one byte", DGIPIN, "0203" + "01128000000000000000000000000000", iso7816.SWData},
	} {
		_, err := b.e.Factory(func(s *card.Session) iso7816.SW {
			if sw := s.Personalise(b.self, tt.dgi, unhex(tt.data), cardtest.Clear); sw != tt.want {
				t.Errorf("%s: %v, want %v", tt.name, sw, tt.want)
			}
			return iso7816.OK
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if b.state() != before {
		t.Error("a refused group left a trace")
	}
}

// No key leaves by reading: every short identifier, record and offset is tried.
func TestNoKeyIsReadable(t *testing.T) {
	b := newBench(t, store(purse.DGIBeijing, file04), store(purse.DGIHolder, "00"))
	for p1 := range 256 {
		for _, ins := range []byte{iso7816.InsReadBinary, iso7816.InsReadRecord, iso7816.InsGetData} {
			for p2 := 0; p2 < 256; p2++ {
				r, err := b.e.Transmit(iso7816.Command{INS: ins, P1: byte(p1), P2: byte(p2)})
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range [][16]byte{dpk, dlk, dtk, damk} {
					if len(r.Data) >= 16 && containsKey(r.Data, k) {
						t.Fatalf("%02X %02X %02X shows a key", ins, p1, p2)
					}
				}
			}
		}
	}
}

func containsKey(b []byte, k [16]byte) bool {
	for i := 0; i+16 <= len(b); i++ {
		if [16]byte(b[i:]) == k {
			return true
		}
	}
	return false
}
