package purse_test

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB, s string) [16]byte { return [16]byte(unhex(t, s)) }

func wantHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("%s = %X, want %s", what, got, want)
	}
}

func terminal(t testing.TB, s string) purse.Terminal {
	t.Helper()
	term, err := purse.ParseTerminal(s)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func stamp(t testing.TB, s string) purse.Stamp {
	return purse.StampFrom([7]byte(unhex(t, s)))
}

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		err      error
	}{
		{"03105170070104791381", "03105170070104791381", nil},
		{"3105170070104791381", "03105170070104791381", nil},
		{"", "", purse.ErrNumber},
		{"123456789012345678901", "", purse.ErrNumber},
		{"31051700701047A1381", "", purse.ErrNumber},
	} {
		n, err := purse.ParseNumber(tt.in)
		if string(n) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q gives %q, %v", tt.in, n, err)
		}
	}
	n := purse.Number("03105170070104791381")
	f := n.Factor()
	wantHex(t, "factor", f[:], "5170070104791381")
	if n.Printed() != "3105170070104791381" {
		t.Error(n.Printed())
	}
	if _, err := purse.NumberOf(unhex(t, "0310517007010479138F")); !errors.Is(err, purse.ErrNumber) {
		t.Errorf("hexadecimal digit: %v", err)
	}
}

func TestStamp(t *testing.T) {
	at := time.Date(2024, 12, 29, 6, 17, 40, 999, time.UTC)
	s := purse.StampOf(at)
	b := s.Bytes()
	wantHex(t, "stamp", b[:], "20241229141740")
	if s.String() != "2024-12-29 14:17:40" {
		t.Error(s)
	}
	back, err := s.Moment()
	if err != nil || !back.Equal(at.Truncate(time.Second)) {
		t.Errorf("%v %v", back, err)
	}
	for _, bad := range []string{"20241301000000", "20240230000000", "2024122924000A", "00000000000000"} {
		if _, err := stamp(t, bad).Moment(); !errors.Is(err, purse.ErrTime) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if line, ok := terminal(t, "300089000340").BeijingLine(); line != "08" || !ok {
		t.Errorf("line %s", line)
	}
}

// Every record of a real card reads and writes back the same, and its fields
// make sense.
func TestRecordsOfRealCards(t *testing.T) {
	f, err := os.Open("testdata/tunion_records.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) != 133 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		raw := unhex(t, row[1])
		if row[0] == "SFI18" {
			l, err := purse.ParseLog(raw)
			if err != nil || !bytes.Equal(l.Bytes(), raw) || l.Type.Words(false) == "" {
				t.Errorf("%s: %+v %v", row[1], l, err)
			}
			continue
		}
		r, err := purse.ParseTrip(raw)
		if err != nil || !bytes.Equal(r.Bytes(), raw) {
			t.Errorf("%s: %+v %v", row[1], r, err)
		}
		if _, err := r.Stamp.Moment(); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
	}
}

// Answers of real cards (NFSEE tests/reader-mock.js; T-Union_Master
// card_data_format.md; the logged Beijing card of CoreExtendedNFC).
func TestFilesOfRealCards(t *testing.T) {
	fci, err := purse.ParseFCI(unhex(t, "6F318408A000000632010105A5259F0801029F0C1E01011000FFFFFFFF02010310517007010479138120190718204012310000"))
	if err != nil || !bytes.Equal(fci.AID, purse.AIDTUnion) {
		t.Fatalf("%+v %v", fci, err)
	}
	wantHex(t, "FCI", fci.Bytes(), "6F318408A000000632010105A5259F0801029F0C1E01011000FFFFFFFF02010310517007010479138120190718204012310000")
	f15, err := purse.ParseFile15(fci.Public)
	if err != nil || f15.Number != "03105170070104791381" || f15.IssuerCode() != [4]byte{1, 1, 0x10, 0} {
		t.Fatalf("%+v %v", f15, err)
	}
	if !bytes.Equal(f15.Bytes(), fci.Public) {
		t.Errorf("file 15 writes %X", f15.Bytes())
	}
	for day, valid := range map[string]bool{"20190717": false, "20190718": true, "20401231": true, "20410101": false} {
		if f15.ValidOn(stamp(t, day+"120000")) != valid {
			t.Errorf("valid on %s", day)
		}
	}
	f17, err := purse.ParseFile17(unhex(t, "0000015658005840000101"))
	if err != nil || !f17.Interoperable() || f17.CardType != purse.CardOrdinary || f17.City != [2]byte{0x58, 0x40} {
		t.Errorf("%+v %v", f17, err)
	}
	wantHex(t, "file 17", f17.Bytes(), "0000015658005840000101")
	bj, err := purse.ParseBeijingFile(unhex(t, "1000751511409928010200300000000000000000000000002018041020240410"))
	if err != nil || bj.From != purse.DateBCD(2018, 4, 10) || bj.To != purse.DateBCD(2024, 4, 10) {
		t.Errorf("%+v %v", bj, err)
	}
	beijing := purse.FCI{AID: purse.NameBeijingDF}
	wantHex(t, "Beijing directory", beijing.Bytes(), "6F08840450424F43A500")
	l, err := purse.ParseLog(unhex(t, "0002000000000003E80500000000002420170830125637"))
	if err != nil || l.Fen != 1000 || l.Type != purse.PurchaseED || l.Seq != 2 {
		t.Errorf("%+v %v", l, err)
	}
	l, err = purse.ParseLog(unhex(t, "042D000000000001F40930008900034020241229141740"))
	if err != nil || l.Amount() != 500 || l.Type != purse.CAPP || l.Terminal != terminal(t, "300089000340") {
		t.Errorf("%+v %v", l, err)
	}
	trip, err := purse.ParseTrip(unhex(t, "04 0000300089000340 01 0800 1900 3000 00 000001F4 00000E01 20241229141740 1000 01011000FFFFFFFF 000000000000"))
	if err != nil || trip.Kind != purse.TripExit || trip.Fen != 500 || trip.Balance != 3585 || trip.City != [2]byte{0x10, 0} {
		t.Errorf("%+v %v", trip, err)
	}
}

func TestTransitRecord(t *testing.T) {
	r := purse.NewTransit("03105170070104791381")
	r.Status, r.EntryStation, r.EntryAt = purse.Entered, [8]byte{1, 2, 3}, stamp(t, "20241229140000")
	r.MaxFare, r.Accumulated, r.Count, r.Flags = 900, 12345, 17, [2]byte{1, 2}
	raw := r.Bytes()
	if len(raw) != purse.TransitLen {
		t.Fatalf("%d bytes", len(raw))
	}
	wantHex(t, "head", raw[:15], "27037D00010051700701047913810"+"1")
	back, err := purse.ParseTransit(raw)
	if err != nil || back != r {
		t.Errorf("%+v %v", back, err)
	}
	raw[40] ^= 1
	if _, err := purse.ParseTransit(raw); !errors.Is(err, purse.ErrChecksum) {
		t.Errorf("damaged: %v", err)
	}
	raw[0] = 0
	if _, err := purse.ParseTransit(raw); !errors.Is(err, purse.ErrRecord) {
		t.Errorf("other identifier: %v", err)
	}
}

func TestDebitWire(t *testing.T) {
	d := purse.Debit{
		Card: "03105170070104791381", Seq: 0x042D, Fen: 500, Type: purse.CAPP, Terminal: terminal(t, "300089000340"),
		TSeq: 0x102A, At: stamp(t, "20241229141740"), TAC: [4]byte{0xEF, 0x53, 0xAE, 0xB2}, Balance: 3596, Record: []byte{1, 2},
	}
	raw, err := d.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "debit", raw, "01 03105170070104791381 042D 000001F4 09 300089000340 0000102A 20241229141740 EF53AEB2 00000E0C 0002 0102")
	back, err := purse.ParseDebit(raw)
	if err != nil || !back.Equal(d) {
		t.Errorf("%+v %v", back, err)
	}
	two, _ := d.AppendBinary(raw)
	_, rest, err := purse.NextDebit(two)
	if err != nil || len(rest) != len(raw) {
		t.Errorf("first of two leaves %d bytes, %v", len(rest), err)
	}
	for name, bad := range map[string]error{"short": purse.ErrLength, "more": purse.ErrLength, "version": purse.ErrVersion, "card": purse.ErrNumber} {
		b := bytes.Clone(raw)
		switch name {
		case "short":
			b = b[:len(b)-1]
		case "more":
			b = append(b, 0)
		case "version":
			b[0] = 9
		case "card":
			b[1] = 0xAA
		}
		if _, err := purse.ParseDebit(b); !errors.Is(err, bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.Card = "not a number"
	if _, err := d.MarshalBinary(); !errors.Is(err, purse.ErrNumber) {
		t.Errorf("bad number: %v", err)
	}
}

func TestPersonalisationRecords(t *testing.T) {
	k := purse.KeyRecord{Kind: purse.DPK, Index: 1, Version: 2, Key: key(t, "11223344556677888877665544332211"), KCV: [3]byte{1, 2, 3}}
	back, err := purse.ParseKeyRecord(k.Bytes())
	if err != nil || back != k {
		t.Errorf("%v %v", back, err)
	}
	if s := k.String(); strings.Contains(s, "1122334455") {
		t.Errorf("prints the key: %s", s)
	}
	l := purse.Limits{MaxBalance: 100000, Overdraft: 0x010203}
	if back, err := purse.ParseLimits(l.Bytes()); err != nil || back != l {
		t.Errorf("%v %v", back, err)
	}
}

func TestSecureMessaging(t *testing.T) {
	damk, challenge := key(t, "00112233445566778899AABBCCDDEEFF"), unhex(t, "0102030405060708")
	for _, c := range []iso7816.Command{
		purse.AppBlock(false), purse.AppBlock(true), purse.AppUnblock(), purse.CardBlock(),
		iso7816.UpdateBinarySFI(purse.SFIHolder, 2, []byte("anna")),
	} {
		p := purse.Protect(damk, challenge, c)
		back, err := purse.Unprotect(damk, challenge, p)
		if err != nil || !bytes.Equal(back.Bytes(), c.Bytes()) {
			t.Errorf("%v protects to %v, back %v, %v", c, p, back, err)
		}
		if _, err := purse.Unprotect(damk, unhex(t, "01020304"), p); !errors.Is(err, purse.ErrMAC) {
			t.Errorf("other challenge: %v", err)
		}
		if _, err := purse.Unprotect(damk, challenge, c); !errors.Is(err, purse.ErrMAC) {
			t.Errorf("no MAC: %v", err)
		}
	}
	for n := range 20 {
		c := iso7816.UpdateBinarySFI(purse.SFIHolder, 0, bytes.Repeat([]byte{0x80}, n))
		plain, err := purse.Unprotect(damk, challenge, purse.ProtectEncrypted(damk, challenge, c))
		if err != nil {
			t.Fatal(err)
		}
		data, err := purse.Decipher(damk, plain.Data)
		if err != nil || !bytes.Equal(data, c.Data) {
			t.Errorf("%d bytes: %X %v", n, data, err)
		}
	}
	if _, err := purse.Decipher(damk, make([]byte, 7)); !errors.Is(err, purse.ErrLength) {
		t.Errorf("%v", err)
	}
	wantHex(t, "header", purse.Protect(damk, challenge, purse.AppBlock(true)).Bytes()[:5], "841E000104")
}
