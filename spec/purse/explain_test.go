package purse_test

import (
	"strings"
	"testing"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

// One line per command of CARD 2.2 and 2.4: what it says in English, and one
// field that must be there.
func TestExplain(t *testing.T) {
	transit := purse.NewTransit("03105170070104791381")
	transit.Status, transit.EntryAt = purse.Entered, stamp(t, "20241229141740")
	update := purse.UpdateCAPP{SFI: purse.SFITransit, ID: 0x27, Record: transit.Bytes()}
	for _, tt := range []struct{ cmd, answer, says, field, value string }{
		{"0020000002123456"[:14], "9000", "VERIFY", "PIN", "••••"},
		{"805C000204", "00000E0C9000", "GET BALANCE", "balance", "35.96 CNY"},
		{"805C020204", "000000009000", "GET BALANCE", "overdraft used", "0.00 CNY"},
		{"805000020B010000271080010000000110", "00000E0C00070100A1B2C3D4172BFCCF9000", "INITIALIZE FOR LOAD", "MAC1 of the card", "172BFCCF"},
		{"805200000B2025010208091045BF367604", "4CA974799000", "CREDIT FOR LOAD", "TAC, proof of the credit", "4CA97479"},
		{"805001020B01000001F43000890003400F", "00001000042D00000001005A6B7C8D9000", "INITIALIZE FOR PURCHASE", "offline sequence", "1069"},
		{"805003020B01000001F43000890003400F", "9401", "not enough money", "amount", "5.00 CNY"},
		{"80DC00F0022703", "9000", "UPDATE CAPP", "record identifier", "00"},
		{update.Command().String(), "9000", "rail record", "entry time", "2024-12-29 14:17:40"},
		{"805401000F0000102A202412291417409AA6390B08", "EF53AEB2FFE1337A9000", "DEBIT FOR PURCHASE", "MAC2 of the card", "FFE1337A"},
		{"805A0009020028", "0410385D807979F89000", "GET TRANSACTION PROVE", "TAC", "807979F8"},
		{"805005010B010000271080010000000110", "9000", "INITIALIZE FOR UNLOAD", "amount", "100.00 CNY"},
		{"805403000B2025010208091045BF367604", "9000", "DEBIT FOR UNLOAD", "MAC2 of the host", "45BF3676"},
		{"8050040107013000890003400F", "9000", "INITIALIZE FOR UPDATE", "terminal", "300089000340"},
		{"805800000E0003E82024122914174001020304", "9000", "UPDATE OVERDRAW", "new limit", "10.00 CNY"},
		{"00B095001E", "01011000FFFFFFFF020103105170070104791381201907182040123100009000", "file 15", "card number", "03105170070104791381"},
		{"00B097000B", "00000156580058400001019000", "file 17", "city", "5840"},
		{"00B0840020", "10007515114099280102003000000000000000000000000020180410202404109000", "file 04", "valid from", "20180410"},
		{"00B0960006", "3000890003409000", "file 16", "terminal", "300089000340"},
		{"00B201C417", "042D000000000001F409300089000340202412291417409000", "file 18", "type", "09 compound purchase 复合消费"},
		{"00B201F430", "04000030008900034001080019003000" + "00000001F400000E0120241229141740100001011000FFFFFFFF000000000000" + "9000", "file 1E", "trip", "04 exit 出站"},
		{"00B201C417", "6A83", "record not found", "record", "1"},
		{"00D695020" + "2ABCD", "9000", "UPDATE BINARY", "data", "ABCD"},
		{"04D6950006ABCD01020304", "9000", "UPDATE BINARY", "secure messaging MAC", "01020304"},
		{"04DC01D406ABCD01020304", "9000", "UPDATE RECORD", "data", "ABCD"},
		{"00E200C802ABCD", "9000", "APPEND RECORD", "data", "ABCD"},
		{"841E00000401020304", "9000", "APPLICATION BLOCK, until", "secure messaging MAC", "01020304"},
		{"841E00010401020304", "9000", "APPLICATION BLOCK, for ever", "secure messaging MAC", "01020304"},
		{"841800000401020304", "9302", "MAC wrong", "secure messaging MAC", "01020304"},
		{"841600000401020304", "9000", "CARD BLOCK", "secure messaging MAC", "01020304"},
		{"80240000021234", "9000", "PIN UNBLOCK", "PIN and MAC", "••••"},
		{"805E0000021234", "9000", "RELOAD PIN", "new PIN and MAC", "••••"},
		{"00820001080102030405060708", "9000", "EXTERNAL AUTHENTICATE", "proof", "0102030405060708"},
		{"0084000004", "010203049000", "GET CHALLENGE", "random", "01020304"},
		{"00880001080102030405060708", "9000", "INTERNAL AUTHENTICATE", "challenge", "0102030405060708"},
		{"00A4040008A00000063201010500", "6283", "China T-Union purse", "name", "A000000632010105"},
		{"80700000245A6B7C8D042D000001F4092024122914174001005170070104791381" + "01011000FFFFFFFF08", "0000102A9AA6390B9000", "INIT_SAM", "terminal sequence", "4138"},
		{"8072000004FFE1337A", "9000", "CREDIT_SAM", "MAC2 of the card", "FFE1337A"},
		{"801A2701085170070104791381", "9000", "PSAM chooses", "key type", "27"},
		{"80FA0000080102030405060708", "01029000", "PSAM enciphers", "result", "0102"},
	} {
		c, err := iso7816.ParseCommand(unhex(t, tt.cmd))
		if err != nil {
			t.Fatalf("%s: %v", tt.cmd, err)
		}
		r, err := iso7816.ParseResponse(unhex(t, tt.answer))
		if err != nil {
			t.Fatalf("%s: %v", tt.answer, err)
		}
		e, ok := purse.Explain(c, r)
		if !ok || !strings.Contains(e.EN, tt.says) || e.ZH == "" {
			t.Errorf("%s: %q %q, want %q", tt.cmd, e.EN, e.ZH, tt.says)
		}
		found := false
		for _, f := range e.Fields {
			found = found || f.Name == tt.field && f.Value == tt.value
			if f.NameZH == "" {
				t.Errorf("%s: field %s has no Chinese name", tt.cmd, f.Name)
			}
			if f.Secret && f.Value != "••••" {
				t.Errorf("%s: secret %s shown", tt.cmd, f.Name)
			}
		}
		if !found {
			t.Errorf("%s: no field %s = %s in %+v", tt.cmd, tt.field, tt.value, e.Fields)
		}
	}
	if _, ok := purse.Explain(iso7816.Command{CLA: 0x80, INS: 0xF2}, iso7816.Response{}); ok {
		t.Error("explains GET STATUS")
	}
}

func FuzzExplain(f *testing.F) {
	for _, text := range commandTexts {
		f.Add(unhex(f, text), []byte{0x90, 0x00})
	}
	f.Fuzz(func(_ *testing.T, cmd, answer []byte) {
		c, err := iso7816.ParseCommand(cmd)
		if err != nil {
			return
		}
		r, err := iso7816.ParseResponse(answer)
		if err == nil {
			purse.Explain(c, r)
		}
	})
}

func FuzzCommands(f *testing.F) {
	for _, text := range commandTexts {
		f.Add(unhex(f, text))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := iso7816.ParseCommand(in)
		if err != nil {
			return
		}
		if back, ok := readCommand(c); ok {
			again, ok := readCommand(back)
			if !ok || again.String() != back.String() {
				t.Errorf("%X reads as %v, then as %v", in, back, again)
			}
		}
	})
}

// fuzzBytes checks that what parses writes back the same.
func fuzzBytes[T interface{ Bytes() []byte }](f *testing.F, parse func([]byte) (T, error), seeds ...string) {
	for _, s := range seeds {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if x, err := parse(in); err == nil && string(x.Bytes()) != string(in) {
			t.Errorf("%X writes %X", in, x.Bytes())
		}
	})
}

func FuzzParseFile15(f *testing.F) {
	fuzzBytes(f, purse.ParseFile15, "01011000FFFFFFFF02010310517007010479138120190718204012310000")
}

func FuzzParseFile17(f *testing.F) {
	fuzzBytes(f, purse.ParseFile17, "0000015658005840000101")
}

func FuzzParseBeijingFile(f *testing.F) {
	fuzzBytes(f, purse.ParseBeijingFile, "1000751511409928010200300000000000000000000000002018041020240410")
}

func FuzzParseLog(f *testing.F) {
	fuzzBytes(f, purse.ParseLog, "042D000000000001F40930008900034020241229141740")
}

func FuzzParseTrip(f *testing.F) {
	fuzzBytes(f, purse.ParseTrip, "0400003000890003400108001900300000000001F400000E0120241229141740100001011000FFFFFFFF000000000000")
}

func FuzzParseTransit(f *testing.F) {
	f.Add(purse.NewTransit("03105170070104791381").Bytes())
	fuzzBytes(f, purse.ParseTransit)
}

func FuzzParseKeyRecord(f *testing.F) {
	fuzzBytes(f, purse.ParseKeyRecord, "0101010011223344556677888877665544332211010203")
}

func FuzzParseAnswers(f *testing.F) {
	f.Add(unhex(f, "00001000042D00000001005A6B7C8D"))
	f.Fuzz(func(t *testing.T, in []byte) {
		outs := map[string][]byte{}
		if a, err := purse.ParseInitPurchaseAnswer(in); err == nil {
			outs["purchase"] = a.Bytes()
		}
		if a, err := purse.ParseInitLoadAnswer(in); err == nil {
			outs["load"] = a.Bytes()
		}
		if a, err := purse.ParseDebitAnswer(in); err == nil {
			outs["debit"] = a.Bytes()
		}
		if a, err := purse.ParseProveAnswer(in); err == nil {
			outs["prove"] = a.Bytes()
		}
		if a, err := purse.ParseCreditAnswer(in); err == nil {
			outs["credit"] = a.Bytes()
		}
		if a, err := purse.ParseSAMPurchaseAnswer(in); err == nil {
			outs["PSAM"] = a.Bytes()
		}
		if a, err := purse.ParseLimits(in); err == nil {
			outs["limits"] = a.Bytes()
		}
		for name, out := range outs {
			if string(out) != string(in) {
				t.Errorf("%s: %X writes %X", name, in, out)
			}
		}
	})
}

func FuzzParseFCI(f *testing.F) {
	f.Add(unhex(f, "6F08840450424F43A500"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if x, err := purse.ParseFCI(in); err == nil {
			if y, err := purse.ParseFCI(x.Bytes()); err != nil || string(y.Public) != string(x.Public) || string(y.AID) != string(x.AID) {
				t.Errorf("%X: %+v then %+v, %v", in, x, y, err)
			}
		}
	})
}

func FuzzParseDebit(f *testing.F) {
	raw, _ := purse.Debit{Card: "03105170070104791381", Seq: 1, Fen: 500, Record: []byte{1}}.MarshalBinary()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := purse.ParseDebit(in)
		if err != nil {
			return
		}
		if again, err := d.MarshalBinary(); err != nil || string(again) != string(in) {
			t.Errorf("%X writes %X, %v", in, again, err)
		}
	})
}
