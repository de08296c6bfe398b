package dialogue_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"koala/spec/dialogue"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/spec/tlv"
)

// A testCard has a chain of its own under index F0, so that what the published
// traces lack can be shown: contactless signatures.
type testCard struct {
	ca           emv.CAKey
	issuer, card *emv.PrivateKey
	records      [2][]byte
}

const testPAN = "6224240000000018"

var testExpiry = [2]byte{0x12, 0x35}

func newTestCard(t testing.TB) testCard {
	t.Helper()
	random := rand.New(rand.NewSource(1))
	var keys [3]*emv.PrivateKey
	for i, bits := range []int{640, 576, 512} {
		k, err := emv.GenerateKey(random, bits, 3)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	return chained(t, keys)
}

// newSMCard is the same with an SM2 chain.
func newSMCard(t testing.TB) testCard {
	t.Helper()
	var keys [3]*emv.PrivateKey
	for i := range keys {
		k, err := emv.NewSM2Key(bytes.Repeat([]byte{byte(i + 1)}, 32))
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	return chained(t, keys)
}

func chained(t testing.TB, keys [3]*emv.PrivateKey) testCard {
	t.Helper()
	c := testCard{ca: emv.NewCAKey(emv.RIDUnionPay, 0xF0, keys[0].Public()), issuer: keys[1], card: keys[2]}
	issuer, err := emv.MakeIssuerCertificate(keys[0], emv.KeyInfo{Owner: testPAN[:8], Expiry: testExpiry, Key: keys[1].Public()})
	if err != nil {
		t.Fatal(err)
	}
	pan, err := hex.DecodeString(testPAN)
	if err != nil {
		t.Fatal(err)
	}
	signed := tlv.Append(tlv.Append(nil, emv.TagPAN, pan), emv.TagExpiry, []byte{0x35, 0x12, 0x31})
	card, err := emv.MakeICCCertificate(keys[1], emv.KeyInfo{Owner: testPAN, Expiry: testExpiry, Key: keys[2].Public()}, signed)
	if err != nil {
		t.Fatal(err)
	}
	c.records[0] = tlv.Append(nil, emv.TagRecord, signed)
	c.records[1] = template(emv.TagRecord, emv.Values{{Tag: emv.TagCAIndex, Value: []byte{0xF0}}, {Tag: emv.TagIssuerCert, Value: issuer.Certificate},
		{Tag: emv.TagIssuerRemainder, Value: issuer.Remainder}, {Tag: emv.TagIssuerExponent, Value: issuer.Exponent}, {Tag: emv.TagICCCert, Value: card.Certificate},
		{Tag: emv.TagICCRemainder, Value: card.Remainder}, {Tag: emv.TagICCExponent, Value: card.Exponent}})
	return c
}

func template(tag tlv.Tag, list emv.Values) []byte {
	var body []byte
	for _, v := range list {
		if v.Value != nil {
			body = tlv.Append(body, v.Tag, v.Value)
		}
	}
	return tlv.Append(nil, tag, body)
}

func ok(data []byte) []byte { return append(data, 0x90, 0x00) }

func selecting(aid string, inner []byte) dialogue.Exchange {
	return dialogue.Exchange{Command: iso7816.Select([]byte(aid)).Bytes(),
		Response: ok(tlv.Append(nil, emv.TagFCI, append(tlv.Append(nil, emv.TagDFName, []byte(aid)), inner...)))}
}

// quick is a contactless transaction of the card, signed as the version says.
func (c testCard) quick(t testing.TB, version byte, spoil bool) []dialogue.Exchange {
	t.Helper()
	pdol := emv.DOL{{Tag: emv.TagTTQ, Len: 4}, {Tag: emv.TagAmount, Len: 6}, {Tag: emv.TagCurrency, Len: 2}, {Tag: emv.TagUN, Len: 4}}
	f := emv.FastDDA{Version: version, UN: [4]byte{1, 2, 3, 4}, Amount: pboc.Amount(250), Currency: [2]byte{0x01, 0x56}}
	if version == 1 {
		f.CardAuth = []byte{1, 9, 9, 9, 9, 0, 0, 0}
	}
	sdad, err := c.card.SignFastDDA([2]byte{0, 7}, f)
	if err != nil {
		t.Fatal(err)
	}
	if spoil {
		f.UN[3]++
	}
	values := append([]byte{0x36, 0, 0, 0x80}, f.Amount[:]...)
	values = append(append(values, f.Currency[:]...), f.UN[:]...)
	return []dialogue.Exchange{
		selecting(pboc.AIDECash, tlv.Append(nil, emv.TagFCIProprietary, tlv.Append(nil, emv.TagPDOL, pdol.Bytes()))),
		{Command: iso7816.Command{CLA: 0x80, INS: pboc.InsGPO, Data: tlv.Append(nil, emv.TagCommand, values)}.Bytes(),
			Response: ok(template(emv.TagAnswer2, emv.Values{{Tag: emv.TagAIP, Value: []byte{0x7C, 0}}, {Tag: emv.TagAFL, Value: []byte{0x08, 1, 2, 1}}, {Tag: emv.TagATC, Value: []byte{0, 7}},
				{Tag: emv.TagIAD, Value: pboc.IAD{DKI: 1, CVN: 1, CVR: pboc.NewCVR(1, 2), Alg: pboc.TripleDES, Report: pboc.ReportBalance, Amounts: [2]uint64{975}}.Bytes()},
				{Tag: emv.TagAC, Value: make([]byte, 8)}, {Tag: emv.TagSDAD, Value: sdad}, {Tag: emv.TagCardAuth, Value: f.CardAuth}}))},
		{Command: iso7816.ReadRecord(1, 1, 0).Bytes(), Response: ok(c.records[0])},
		{Command: iso7816.ReadRecord(2, 1, 0).Bytes(), Response: ok(c.records[1])},
	}
}

func TestContactlessSignatures(t *testing.T) {
	c := newTestCard(t)
	for _, tt := range []struct {
		name    string
		version byte
		spoil   bool
		cas     []emv.CAKey
		want    string
		sound   bool
	}{
		{"version 00", 0, false, []emv.CAKey{c.ca}, "issuer true true, icc true true, fdda true true", true},
		{"version 01", 1, false, []emv.CAKey{c.ca}, "issuer true true, icc true true, fdda true true", true},
		{"another terminal number", 1, true, []emv.CAKey{c.ca}, "issuer true true, icc true true, fdda true false", false},
		{"a key nobody published", 0, false, nil, "issuer false false, icc false false, fdda false false", true},
	} {
		r := dialogue.Explain(c.quick(t, tt.version, tt.spoil), dialogue.Options{CAs: tt.cas})
		var got []string
		for _, x := range r.Certificates {
			got = append(got, fmt.Sprintf("%s %t %t", x.Kind, x.Decided, x.OK))
		}
		if g := strings.Join(got, ", "); g != tt.want || r.Sound() != tt.sound {
			t.Errorf("%s: %s, sound %t", tt.name, g, r.Sound())
		}
		if en := r.Lines[2].Explanation.EN; !strings.HasSuffix(en, ", signed") || !strings.HasSuffix(r.Lines[3].Explanation.EN, "the card commits the payment") {
			t.Errorf("%s: %s, then %s", tt.name, en, r.Lines[3].Explanation.EN)
		}
		if r.Card != dialogue.UnionPay || r.Interface != dialogue.Contactless || r.Balance.Fen != 975 || r.To != "2035-12-31" {
			t.Errorf("%s: %s %s %+v %s", tt.name, r.Card, r.Interface, r.Balance, r.To)
		}
	}
}

// A reader that stopped before the last record cannot know whether a signature is of
// version 01: only one of version 00 is decided.
func TestSignatureBeforeTheLastRecord(t *testing.T) {
	c := newTestCard(t)
	for version, want := range map[byte][2]bool{0: {true, true}, 1: {false, false}} {
		list := c.quick(t, version, false)
		gpo := list[1].Response
		list[1].Response = bytes.Replace(bytes.Replace(gpo, []byte{0x94, 4, 0x08, 1, 2, 1}, []byte{0x94, 4, 0x08, 1, 3, 1}, 1), []byte{0x9F, 0x69, 8}, []byte{0x9F, 0x7C, 8}, 1)
		r := dialogue.Explain(list, dialogue.Options{CAs: []emv.CAKey{c.ca}})
		if x := r.Certificates[len(r.Certificates)-1]; x.Kind != dialogue.FastDDA || x.Decided != want[0] || x.OK != want[1] {
			t.Errorf("version %d: %+v", version, x)
		}
	}
}

// The SM2 chain is told in the same words, with what SM2 says when it fails.
func TestSMSignatures(t *testing.T) {
	c := newSMCard(t)
	for _, version := range []byte{0, 1} {
		r := dialogue.Explain(c.quick(t, version, false), dialogue.Options{CAs: []emv.CAKey{c.ca}})
		if len(r.Certificates) != 3 || !r.Sound() {
			t.Fatalf("%+v", r.Certificates)
		}
		for _, x := range r.Certificates {
			if !x.OK || x.Kind != dialogue.FastDDA && x.Bits != 256 {
				t.Errorf("%+v", x)
			}
		}
	}
	r := dialogue.Explain(c.quick(t, 1, true), dialogue.Options{CAs: []emv.CAKey{c.ca}})
	if x := r.Certificates[2]; x.OK || x.Reason != "the SM2 signature does not verify" || r.Sound() {
		t.Errorf("%+v", x)
	}
}

// A card that is selected twice keeps what each transaction proved, once.
func TestSelectedAgain(t *testing.T) {
	c := newTestCard(t)
	list := append(c.quick(t, 0, false), c.quick(t, 0, true)...)
	r := dialogue.Explain(append(list, c.quick(t, 0, false)...), dialogue.Options{CAs: []emv.CAKey{c.ca}})
	if len(r.Applications) != 1 || len(r.Certificates) != 4 || r.Sound() {
		t.Errorf("%d applications, %d certificates, sound %t", len(r.Applications), len(r.Certificates), r.Sound())
	}
}

// Over T=0 the answers come by GET RESPONSE and mean the same.
func TestGetResponse(t *testing.T) {
	c := newTestCard(t)
	var over0 []dialogue.Exchange
	for _, e := range c.quick(t, 1, false) {
		data := e.Response[:len(e.Response)-2]
		over0 = append(over0, dialogue.Exchange{Command: e.Command, Response: []byte{0x61, byte(len(data))}},
			dialogue.Exchange{Command: iso7816.GetResponse(len(data)).Bytes(), Response: e.Response})
	}
	r := dialogue.Explain(over0, dialogue.Options{CAs: []emv.CAKey{c.ca}})
	if !r.Sound() || len(r.Certificates) != 3 || !r.Certificates[2].OK || r.Balance.Fen != 975 {
		t.Errorf("%+v %+v", r.Certificates, r.Balance)
	}
	if got := r.Lines[1].Explanation.EN; !strings.HasPrefix(got, "GET RESPONSE, the answer to SELECT UnionPay e-cash") {
		t.Error(got)
	}
}

// Logs decode by the card's own formats, also when those are read last.
func TestLogs(t *testing.T) {
	format := emv.DOL{{Tag: emv.TagDate, Len: 3}, {Tag: emv.TagTime, Len: 3}, {Tag: emv.TagAmount, Len: 6}, {Tag: emv.TagCurrency, Len: 2}, {Tag: emv.TagMerchantName, Len: 20}, {Tag: emv.TagATC, Len: 2}}
	load := emv.DOL{{Tag: emv.TagDate, Len: 3}, {Tag: emv.TagTime, Len: 3}, {Tag: emv.TagATC, Len: 2}}
	entry := tlv.Append(tlv.Append(nil, emv.TagLogEntry, []byte{0x0B, 0x0A}), emv.TagLoadLogEntry, []byte{0x0C, 0x0A})
	amount, older, newer := pboc.Amount(1234), pboc.Amount(100), pboc.Amount(5100)
	paid := append([]byte{0x15, 0x09, 0x16, 0x08, 0x10, 0x00}, amount[:]...)
	paid = append(append(append(paid, 0x01, 0x56), []byte("Dongdan newsstand   ")...), 0, 9)
	loaded := append(append([]byte{0x9F, 0x79}, older[:]...), newer[:]...)
	loaded = append(loaded, 0x15, 0x09, 0x15, 0x20, 0x00, 0x00, 0, 8)
	get := func(tag tlv.Tag, value []byte) dialogue.Exchange {
		return dialogue.Exchange{Command: iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: byte(tag >> 8), P2: byte(tag)}.Bytes(), Response: ok(tlv.Append(nil, tag, value))}
	}
	first := selecting(pboc.AIDECash, tlv.Append(nil, emv.TagFCIProprietary, tlv.Append(nil, emv.TagFCIDiscretionary, entry)))
	logs := []dialogue.Exchange{
		{Command: iso7816.ReadRecord(1, 0x0B, 0).Bytes(), Response: ok(paid)},
		{Command: iso7816.ReadRecord(1, 0x0C, 0).Bytes(), Response: ok(loaded)},
		{Command: iso7816.ReadRecord(2, 0x0B, 0).Bytes(), Response: []byte{0x6A, 0x83}},
	}
	formats := []dialogue.Exchange{get(emv.TagLogFormat, format.Bytes()), get(emv.TagLoadLogFormat, load.Bytes())}
	for name, list := range map[string][]dialogue.Exchange{
		"formats first": append(append([]dialogue.Exchange{first}, formats...), logs...),
		"formats last":  append(append([]dialogue.Exchange{first}, logs...), formats...),
	} {
		r := dialogue.Explain(append(list, get(emv.TagECBalance, []byte{0, 0, 0, 0, 0x51, 0})), dialogue.Options{})
		got := rendered(dialogue.Transcript{}, r)
		for _, want := range []string{
			"record transaction log 0B 1 date=2015-09-16 time=081000 amount_fen=12.34 CNY currency=0156 merchant=Dongdan newsstand atc=9",
			"record load log 0C 1 object=Electronic Cash Balance old_fen=1.00 CNY new_fen=51.00 CNY date=2015-09-15 time=200000 atc=8",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, got)
			}
		}
		if r.Balance.Fen != 5100 || len(r.Records) != 2 {
			t.Errorf("%s: %+v, %d records", name, r.Balance, len(r.Records))
		}
	}
}

// The load log with the card's MAC is one answer with all records.
func TestSignedLoadLog(t *testing.T) {
	log := pboc.SignedLoadLog{ATC: 9, MAC: [4]byte{1, 2, 3, 4}, Entries: []pboc.LoadEntry{
		{Tag: 0x9F79, Old: 100, New: 5100, Date: [3]byte{0x15, 9, 0x16}, Time: [3]byte{8, 0, 0}, ATC: 8}, {Tag: 0x9F79, New: 100, Date: [3]byte{0x15, 9, 1}, ATC: 2}}}
	r := dialogue.Explain([]dialogue.Exchange{
		selecting(pboc.AIDECash, tlv.Append(nil, emv.TagFCIProprietary, tlv.Append(nil, emv.TagLoadLogEntry, []byte{0x0C, 0x0A}))),
		{Command: pboc.ReadSignedLoadLog(0x0C).Bytes(), Response: ok(log.Bytes())},
		{Command: pboc.ReadSignedLoadLog(0x0C).Bytes(), Response: ok([]byte{1, 2, 3})},
	}, dialogue.Options{})
	if len(r.Records) != 2 || num(r.Records[0], "new_fen") != 5100 || num(r.Records[1], "atc") != 2 || !strings.Contains(r.Lines[1].Explanation.EN, "load log with the card's MAC") {
		t.Errorf("%+v %s", r.Records, r.Lines[1].Explanation.EN)
	}
}

// What is selected on one logical channel says nothing about another.
func TestChannels(t *testing.T) {
	x, err := dialogue.ReadItems(strings.Fields("00A4040008A000000632010105 9000 01A4040008A000000333010101 9000 01B201C400 6A83 00B201C417 6A83 02B201C400 6A83"))
	if err != nil {
		t.Fatal(err)
	}
	got := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{}))
	if strings.Count(got, "READ RECORD: file 18, transaction log") != 2 || strings.Count(got, "READ RECORD 1 of file 18:") != 1 {
		t.Error(got)
	}
}

// A session says the same exchange by exchange as the whole dialogue does.
func TestSessionAndWholeAgree(t *testing.T) {
	for _, x := range traces(t) {
		s := dialogue.NewSession(dialogue.Options{})
		for _, e := range x.Exchanges {
			s.Say(e)
		}
		once, again := rendered(x, s.Report()), rendered(x, s.Report())
		if once != again || once != rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{})) {
			t.Errorf("%s: session and whole differ", x.ID)
		}
	}
}

// The same command means what the selected application makes of it.
func TestContextDecides(t *testing.T) {
	for _, tt := range []struct{ items, want string }{
		{"00A4040008A000000632010105 9000 00B201C417 6A83", "READ RECORD: file 18, transaction log"},
		{"00A4040008A000000333010101 9000 00B201C400 6A83", "READ RECORD 1 of file 18"},
		{"00A404000E315041592E5359532E4444463031 9000 00B2010C00 6A83", "READ RECORD 1 of file 01, the payment directory"},
		{"00A4040008A000000632010105 9000 805000020B010000271080010000000110 9401", "INITIALIZE FOR LOAD"},
		{"00A4040008A000000151000000 9000 80500000081122334455667788 6A88", "ask for a secure channel"},
		{"00A4040008A000000333010101 9000 00820000081122334455667788 6300", "EXTERNAL AUTHENTICATE: the issuer's answer"},
		{"00A4040008A000000632010105 9000 00820001081122334455667788 9000", "the outside proves a key to the card"},
		{"00A4040008A000000333010101 9000 04DA9F790A000000005000AE268094 9000", "PUT DATA (issuer script): Electronic Cash Balance"},
		{"00A4040008A000000333010101 9000 84DE00A80C2703000801020304AF3E93B3 9000", "UPDATE CAPP DATA CACHE of file 15"},
		{"00A4040007D2760000850100 9000 9060000000 91AF", "more follows"},
		{"00A4040007D2760000850100 9000 906C0000010000 88130000" + "9100", ": 5000"},
		{"FFCA000000 041122339000", "the card's UID"},
		{"FFCA010000 041122339000", "historical bytes"},
		{"00A4040009A00000000386980701 9000 00B095001E 00002000FFFFFFFF02010000000012345678" + "0000" + "20100101203012310000" + "9000", "issuer's city | 发卡城市: Shanghai 上海"},
		{"FF00400000 9000", "for the reader itself"},
		{"00A4040008F06B6F616C610201 9000 80700000245A6B7C8D042D000001F4092024122914174001005170070104791381" + "01011000FFFFFFFF08 0000102A9AA6390B9000", "INIT_SAM_FOR_PURCHASE"},
		{"00A4040008A000000632010105 9000 80500000081122334455667788 6A88", "ask for a secure channel"},
		{"00A4040008A000000151000000 9000 848200001000112233445566778899AABBCCDDEEFF 9000", "open the secure channel"},
		{"80F28002024F0000 6A88", "list the issuer security domain"},
		{"00A4040008A000000333010101 9000 80B400A8022703 20212223249000", "READ CAPP DATA of file 15"},
		{"00A4040008A000000333010101 9000 805A0000020240 11223344556677889000", "TC | 交易证书 TC: 1122334455667788"},
		{"00A4040008A000000333010101 9000 04E200A8062703AF3E93B3 9000", "APPEND RECORD to file 15"},
		{"00A4040008A000000333010101 9000 00880000047863AFC6 77049F4B01119000", "9F4B Signed Dynamic Application Data"},
		{"00A4040008A000000333010101 9000 00C0000005 6A86", "GET RESPONSE, the answer to SELECT UnionPay debit"},
		{"00C0000005 6A86", "GET RESPONSE: 6A86"},
		{"00B201C417 0002000000000002F40930010000000120210509112135" + "9000", "line's name | 线路名称: Line1"},
		{"00B095001E 01011000FFFFFFFF02010310517007010479138120190718204012310000" + "9000", "t-union  03105170070104791381"},
		{"7081038701" + "01", "87 Application Priority Indicator"},
		{"80120000 6D00", "command 80 12: 6D00 instruction not supported"},
		{"00A4040008A0000000031010FF 6A82", "SELECT Visa debit or credit: 6A82 file or application not found"},
	} {
		x, err := dialogue.ReadItems(strings.Fields(tt.items))
		if err != nil {
			t.Fatal(tt.items, err)
		}
		if got := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{})); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q is not in\n%s", tt.items, tt.want, got)
		}
	}
}

// Exchange serves those who have values: every object is a field, a response
// of status 0 has not come.
func TestExchangeOfValues(t *testing.T) {
	s := dialogue.NewSession(dialogue.Options{})
	e := s.Exchange(iso7816.Select([]byte(pboc.AIDDebit)), iso7816.Response{})
	if e.EN != "SELECT UnionPay debit" {
		t.Error(e.EN)
	}
	e = s.Exchange(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x36}, iso7816.Response{Data: []byte{0x9F, 0x36, 2, 0, 5}, SW: iso7816.OK})
	if len(e.Fields) != 1 || e.Fields[0].Name != "9F36 Application Transaction Counter (ATC)" || e.Fields[0].Value != "0005 5" {
		t.Errorf("%+v", e)
	}
}

// The rail record names its stations where somebody knows them.
func TestRailRecord(t *testing.T) {
	x := purse.NewTransit("03105170070104791381")
	x.Status, x.EntryStation, x.ExitStation = purse.Left, purse.StationBytes(10118), purse.StationBytes(10119)
	x.Actual, x.Accumulated, x.Count = 300, 1200, 4
	list := []dialogue.Exchange{selecting("\xA0\x00\x00\x06\x32\x01\x01\x05", nil), {Command: iso7816.ReadRecordByID(0x27, purse.SFITransit, 0).Bytes(), Response: ok(x.Bytes())}}
	names := map[uint32]string{10118: "东单", 10119: "建国门"}
	r := dialogue.Explain(list, dialogue.Options{Station: func(code uint32) (string, bool) { s, ok := names[code]; return s, ok }})
	got := rendered(dialogue.Transcript{}, r)
	for _, want := range []string{"record rail record 1A 0 status=left", "amount_fen=3.00 CNY month_fen=12.00 CNY month_rides=4 entry_name=东单 exit_name=建国门", "entered at | 进站站名: 东单"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestAmount(t *testing.T) {
	for _, tt := range []struct {
		n        int64
		currency string
		want     string
	}{{740, "156", "7.40 CNY"}, {-5, "156", "-0.05 CNY"}, {1234, "0392", "1234 JPY"}, {7, "", "0.07"}, {0, "978", "0.00 EUR"}} {
		if got := dialogue.Amount(tt.n, tt.currency); got != tt.want {
			t.Errorf("%d %s: %s, want %s", tt.n, tt.currency, got, tt.want)
		}
	}
}

var fuzzAIDs = []string{pboc.AIDDebit, "\xA0\x00\x00\x06\x32\x01\x01\x05", "\xA0\x00\x00\x00\x04\x10\x10", "\xA0\x00\x00\x00\x03\x10\x10",
	"2PAY.SYS.DDF01", "\xA0\x00\x00\x01\x51\x00\x00\x00", "\xD2\x76\x00\x00\x25\x45\x50\x02\x00", "\xD2\x76\x00\x00\x85\x01\x00", ""}

// Any bytes after any selection, also with digits missing, are told without a
// panic and without a word about nobody.
func FuzzExchanges(f *testing.F) {
	for i, x := range traces(f) {
		var raw []byte
		for _, e := range x.Exchanges[:min(8, len(x.Exchanges))] {
			raw = append(append(append(raw, byte(len(e.Command))), e.Command...), byte(len(e.Response)))
			raw = append(raw, e.Response...)
		}
		f.Add(byte(i), raw, []byte{0, 0xF0, 0})
	}
	f.Fuzz(func(t *testing.T, which byte, raw, mask []byte) {
		aid := fuzzAIDs[int(which)%len(fuzzAIDs)]
		list := []dialogue.Exchange{{Command: iso7816.Select([]byte(aid)).Bytes(), Response: []byte{0x90, 0x00}}}
		take := func() (part []byte) {
			if len(raw) > 0 {
				n := min(int(raw[0]), len(raw)-1)
				part, raw = raw[1:1+n:1+n], raw[1+n:]
			}
			return part
		}
		for len(raw) > 0 && len(list) < 64 {
			e := dialogue.Exchange{Command: take(), Response: take(), Bare: which&0x80 != 0}
			if len(mask) > 0 && len(e.Response) > 0 && len(list)%2 == 0 {
				e.Response = append([]byte(nil), e.Response...)
				e.ResponseMask = make([]byte, len(e.Response))
				for i := range e.Response {
					e.ResponseMask[i] = mask[i%len(mask)]
					e.Response[i] &^= e.ResponseMask[i]
				}
			}
			list = append(list, e)
		}
		r := dialogue.Explain(list, dialogue.Options{})
		for i, l := range r.Lines {
			if l.Explanation.EN == "" || l.Explanation.ZH == "" || len(l.Response) != 2*len(list[i].Response) {
				t.Errorf("line %d: %+v", i, l)
			}
			for _, o := range l.Objects {
				if o.Name == "" || o.NameZH == "" {
					t.Errorf("line %d: object %v has no name", i, o.Tag)
				}
			}
			for _, x := range l.Explanation.Fields {
				if x.Name == "" || x.NameZH == "" {
					t.Errorf("line %d: field %+v", i, x)
				}
			}
		}
	})
}
