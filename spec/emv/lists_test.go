package emv_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// The PDOL of a logged UnionPay card and the values its terminal sent (CARD.md
// 1.1, 6.7).
func TestListOfALoggedCard(t *testing.T) {
	raw := unhex(t, "9F6604 9F0206 9F0306 9F1A02 9505 5F2A02 9A03 9C01 9F3704")
	d, err := emv.ParseDOL(raw)
	if err != nil {
		t.Fatal(err)
	}
	if d.Len() != 33 || len(d) != 9 || !d.Has(emv.TagTTQ) || d.Has(emv.TagTime) {
		t.Errorf("%d bytes for %v", d.Len(), d)
	}
	have := map[tlv.Tag][]byte{
		emv.TagTTQ: unhex(t, "36800000"), emv.TagAmount: unhex(t, "000000000100"), emv.TagTerminalCountry: unhex(t, "0156"),
		emv.TagCurrency: unhex(t, "0156"), emv.TagDate: unhex(t, "170601"), emv.TagType: {0}, emv.TagUN: unhex(t, "2B29EBE4"),
	}
	sent := d.Append(nil, func(tag tlv.Tag) []byte { return have[tag] })
	wantHex(t, "values", sent, "36800000 000000000100 000000000000 0156 0000000000 0156 170601 00 2B29EBE4")
	values, err := d.Split(sent)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := values.Get(emv.TagUN); !ok || !bytes.Equal(v, have[emv.TagUN]) {
		t.Errorf("unpredictable number %X", v)
	}
	if _, ok := values.Get(emv.TagTime); ok {
		t.Error("a value nobody asked for")
	}
	if _, err := d.Split(sent[1:]); !errors.Is(err, emv.ErrDOLData) {
		t.Errorf("short: %v", err)
	}
}

// EMV 4.4 Book 3, 5.4: which side is cut and filled.
func TestFilling(t *testing.T) {
	for _, tt := range []struct {
		name, entry, value, want string
	}{
		{"numeric, short", "9F0206", "0100", "000000000100"},
		{"numeric, long", "9F0202", "000000001234", "1234"},
		{"numeric, exact", "9A03", "250131", "250131"},
		{"numeric currency that tables call text", "5F2A03", "0156", "000156"},
		{"compressed, short", "5A0A", "6228000100001F", "6228000100001FFFFFFF"},
		{"compressed, long", "5A02", "6228000100001F", "6228"},
		{"binary, short", "9F3706", "01020304", "010203040000"},
		{"binary, long", "9F3702", "01020304", "0102"},
		{"text, short", "9F1C08", "41424344", "4142434400000000"},
		{"text, long", "9F1C02", "41424344", "4142"},
		{"absent", "9F0203", "", "000000"},
		{"absent compressed", "5A03", "", "000000"},
		{"unknown", "DF7F03", "01", "010000"},
		{"constructed", "7003", "01", "000000"},
		{"nothing asked", "9F0200", "01", ""},
	} {
		d, err := emv.ParseDOL(unhex(t, tt.entry))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		var value []byte
		if tt.value != "" {
			value = unhex(t, tt.value)
		}
		wantHex(t, tt.name, d.Append(nil, func(tlv.Tag) []byte { return value }), tt.want)
	}
	for _, bad := range []string{"9F", "9F02", "00", "0004", "9F8182838404", "9F0206 9F"} {
		if _, err := emv.ParseDOL(unhex(t, bad)); !errors.Is(err, emv.ErrDOL) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// However long values are, exactly the asked bytes are sent, and they come
// apart again.
func TestListsAreExact(t *testing.T) {
	tags := []tlv.Tag{emv.TagAmount, emv.TagPAN, emv.TagUN, emv.TagTerminalID, emv.TagTVR, 0xDF60, 0x9F7A, 0x70}
	rapid.Check(t, func(t *rapid.T) {
		var d emv.DOL
		for range rapid.IntRange(0, 6).Draw(t, "entries") {
			d = append(d, emv.DOLEntry{Tag: rapid.SampledFrom(tags).Draw(t, "tag"), Len: rapid.IntRange(0, 40).Draw(t, "len")})
		}
		value := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "value")
		sent := d.Append([]byte{0xEE}, func(tlv.Tag) []byte { return value })
		if len(sent) != 1+d.Len() {
			t.Fatalf("%d bytes for %v", len(sent)-1, d)
		}
		values, err := d.Split(sent[1:])
		if err != nil {
			t.Fatal(err)
		}
		again := []byte{0xEE}
		for i, v := range values {
			if v.Tag != d[i].Tag {
				t.Fatalf("value %d is %v", i, v.Tag)
			}
			again = append(again, v.Value...)
		}
		if !bytes.Equal(again, sent) {
			t.Fatalf("%X comes apart as %X", sent, again)
		}
	})
}

func TestFileLocators(t *testing.T) {
	a, err := emv.ParseAFL(unhex(t, "0801030010010501 20010100"))
	if err != nil {
		t.Fatal(err)
	}
	var names []byte
	for _, r := range a.Records() {
		mark := byte(0)
		if r.ODA {
			mark = 0xDA
		}
		names = append(names, r.SFI, r.Number, mark)
	}
	wantHex(t, "records", names, "010100 010200 010300 0201DA 020200 020300 020400 020500 040100")
	if last, ok := a.Last(); !ok || last != (emv.RecordID{SFI: 4, Number: 1}) {
		t.Errorf("last is %+v", last)
	}
	if last, ok := (emv.AFL{{SFI: 3, First: 2, Last: 3, ODA: 2}}).Last(); !ok || !last.ODA || last.Number != 3 {
		t.Errorf("signed last is %+v", last)
	}
	if _, ok := (emv.AFL{}).Last(); ok {
		t.Error("an empty locator has a last record")
	}
	for _, bad := range []string{"", "080101", "09010100", "00010100", "F8010100", "08000100", "08020100", "08010102"} {
		if _, err := emv.ParseAFL(unhex(t, bad)); !errors.Is(err, emv.ErrAFL) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := emv.ParseAFL(unhex(t, "F001FFFF")); err != nil {
		t.Errorf("255 signed records of file 30: %v", err)
	}
}

func TestStaticData(t *testing.T) {
	record := func(sfi byte, oda bool, data string) emv.Record {
		return emv.Record{RecordID: emv.RecordID{SFI: sfi, Number: 1, ODA: oda}, Data: unhex(t, data)}
	}
	got, err := emv.StaticData([]emv.Record{record(1, true, "70035A0112"), record(2, false, "70035A0113"), record(11, true, "70035A0114")}, []byte{0x82}, []byte{0x7C, 0x00})
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "signed data", got, "5A0112 70035A0114 7C00")
	if got, err := emv.StaticData([]emv.Record{record(1, true, "70035A0112")}, nil, []byte{0x7C, 0x00}); err != nil || len(got) != 3 {
		t.Errorf("without tag list: %X %v", got, err)
	}
	for name, bad := range map[string]func() ([]byte, error){
		"other template": func() ([]byte, error) { return emv.StaticData([]emv.Record{record(1, true, "77035A0112")}, nil, nil) },
		"more behind":    func() ([]byte, error) { return emv.StaticData([]emv.Record{record(1, true, "70035A011200")}, nil, nil) },
		"cut":            func() ([]byte, error) { return emv.StaticData([]emv.Record{record(1, true, "70035A01")}, nil, nil) },
		"other tag":      func() ([]byte, error) { return emv.StaticData(nil, []byte{0x5A}, nil) },
		"82 and another": func() ([]byte, error) { return emv.StaticData(nil, []byte{0x82, 0x5A}, nil) },
		"empty tag list": func() ([]byte, error) { return emv.StaticData(nil, []byte{}, nil) },
	} {
		if _, err := bad(); !errors.Is(err, emv.ErrStaticData) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseDOL(f *testing.F) {
	f.Add(unhex(f, "9F66049F02069F03069F1A0295055F2A029A039C019F3704"), []byte{1, 2})
	f.Fuzz(func(t *testing.T, in, value []byte) {
		d, err := emv.ParseDOL(in)
		if err != nil {
			return
		}
		if again := d.Bytes(); !bytes.Equal(again, in) {
			t.Errorf("%X writes %X", in, again)
		}
		sent := d.Append(nil, func(tlv.Tag) []byte { return value })
		if _, err := d.Split(sent); err != nil {
			t.Errorf("%X: %v", in, err)
		}
	})
}

func FuzzParseAFL(f *testing.F) {
	f.Add(unhex(f, "080103001001050120010100"))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := emv.ParseAFL(in)
		if err != nil {
			return
		}
		if again := a.Bytes(); !bytes.Equal(again, in) {
			t.Errorf("%X writes %X", in, again)
		}
		records := a.Records()
		if last, ok := a.Last(); !ok || records[len(records)-1] != last {
			t.Errorf("last of %X is %+v", in, last)
		}
	})
}
