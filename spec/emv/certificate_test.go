package emv_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// The industry test card of openemv/emv-utils, emv_rsa_cda_test.c (CARD.md
// 6.5). Its static data is not in that file: the hash of its own certificate
// cannot be recomputed.
const (
	testIssuerCert = "3312205B0EFA6715BA18134BB2168A9CA250D268853506D925DD72B2A2E0CF107518DE182F0089B255B7D70A189D90859E741E7D79BB5D36339B16D9B1508DDBC35E2A3008B923E14417A42E86D3AD0A1AD6DBB394E7BC0BA812F3D4971412DE4997C8B34BA93F3CE0F5AE27E0A052DB57CD7595C467E831041AC2DBEC91E2EC8D27D4EABAA31322B769415B550B8B18E3B05B32CAE7813AB21D8F3B2BFF3741C6AD967AE694800F5B24A20EF78013E4"
	testIssuerKey  = "99903295DA9DFA7CB84E664E6500E48A5A1D2EDD3F460BE4AD52066435A644C5A803AE5B829C31B21E81889869BF98D73D9A126F222AC762298808EA0AFB94B33D8FE26AF363FAEACC3B1557CF31F7CCC996E430EA74F6936993C37F638538C075039AD3A8BAF26E44D25FADD3524107"
	testICCCert    = "1BA49B6A034309AA5212D5D39EA0861983E295DFD0052FB0543E3743E4DF5D0CD44FC3FABBC163727C2E3F64ACD670E4B8F1D5C5A6F9C42D6A02AD24F1D9220661D78489FC89D3D2F017AE0EE080D43F620B863C25470AE8C2632FDA6421D424C29E21653CC56BBBA65F851EBAF1F8C7"
	testSDAD       = "7B9F22B297CCEAD536B87C449EEE744C6971AA0EBDD6B611C88E30FFF0A671CC6D6AC45A5555311E30C466863817EA0AA3D13B54BEA6849976592DFC73DED0BB958D506DF7180FAA7A1FD0540859C0E539035BAB64CE8891353DDD3008A0B446"
)

func testCA(t testing.TB) emv.CAKey {
	t.Helper()
	ca, ok := emv.FindCA([5]byte{0xA0, 0, 0, 0, 0x04}, 0xF1)
	if !ok {
		t.Fatal("test key F1 is not in the table")
	}
	return ca
}

func TestPublishedChain(t *testing.T) {
	ca := testCA(t)
	wantHex(t, "CA check value", ca.Hash[:], "D8E68DA167AB5A85D8C3D55ECB9B0517A1A5B4BB")
	check := emv.Check{PAN: "5413330089020011", Date: [3]byte{0x27, 0x12, 0x31}}
	issuer, err := emv.RecoverIssuer(ca, emv.Certificate{Certificate: unhex(t, testIssuerCert), Exponent: []byte{3}}, check)
	if err != nil {
		t.Fatal(err)
	}
	if issuer.Owner != "541333" || issuer.Expiry != [2]byte{0x12, 0x27} || issuer.Serial != [3]byte{0, 0, 1} {
		t.Errorf("issuer %+v", issuer)
	}
	wantHex(t, "issuer key", issuer.Key.Modulus(), testIssuerKey)

	raw, err := issuer.Key.Apply(unhex(t, testICCCert))
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "ICC certificate head", raw[:21], "6A04 5413330089020011FFFF 1227 000001 01 01 60 01")
	wantHex(t, "ICC certificate tail", raw[len(raw)-21:], "91566E18006E2CBA8D286484A9E6BA9E32B48D1E BC")
	// The hash covers static data nobody published: everything else of the key holds.
	remainder := unhex(t, "00000000000000066000000000000000000000000000000000 55")
	_, err = emv.RecoverICC(issuer.Key, emv.Certificate{Certificate: unhex(t, testICCCert), Remainder: remainder, Exponent: []byte{3}}, nil, check)
	if !errors.Is(err, emv.ErrHash) {
		t.Errorf("without its static data: %v", err)
	}
	icc, err := emv.NewPublicKey(append(raw[21:len(raw)-21:len(raw)-21], remainder...), []byte{3})
	if err != nil {
		t.Fatal(err)
	}
	c, err := emv.VerifyCDA(icc, unhex(t, testSDAD), [4]byte(unhex(t, "8B55633B")), 0x00, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "dynamic number", c.Number, "537EB5E03CC433C8")
	wantHex(t, "cryptogram", c.AC[:], "55B6408DBC985131")
	wantHex(t, "transaction data hash", c.Hash[:], "A04620C52455EA8F2370647AF36748A2CA4AA9F6")
	if _, err := emv.VerifyCDA(icc, unhex(t, testSDAD), [4]byte{}, 0x00, nil); !errors.Is(err, emv.ErrHash) {
		t.Errorf("another unpredictable number: %v", err)
	}
	if _, err := emv.VerifyCDA(icc, unhex(t, testSDAD), [4]byte(unhex(t, "8B55633B")), emv.TC, nil); !errors.Is(err, emv.ErrFormat) {
		t.Errorf("another CID: %v", err)
	}
	if _, err := emv.VerifyCDA(icc, unhex(t, testSDAD), [4]byte(unhex(t, "8B55633B")), 0x00, []byte{1}); !errors.Is(err, emv.ErrHash) {
		t.Errorf("other transaction data: %v", err)
	}
}

// The 1984-bit chain of openemv/emv-utils, emv_rsa_test.c. Here too the static
// data is not published.
const (
	visaIssuerCert = "665CD65C20DEAE638C7320EA011E5E2B33FC5070FF7D153D74FE9A01ABFF0B9587B3779C524577F8A57C19923B39CD3F5CCDD457D360DC2619CDBB94328777BB905E1CB79E280458F60C8C5593EFD22D6385512B11B7F2EAFE1184CF9066B9B47A0BF832045066359AE465473D31B9F830A6DE7D88E969CB456033F8073BEC512205920E3DEA773D3E36E1F46C2E8BDDC423FB675CA1710A3D0A06E9C7570919735190BD6ED65BD5EF92C0416BFE4094EA96A218013838EF337151A8BE7222DCF0717399553C4DDA16EBABB2DD386A07BDF313D970C1324CAAB885067691E3EE5E5D8B912799BD53C8E1830237E9EC0A9254D80B2BD3622C"
	visaSSAD       = "30661BC4D33D38F913D48429E6760FD9BDF2D9172A22F30418A29138A2D35A473E2AE42A3A6E6EEDFBF99D6C8C21F12EB96FD717D67AE222DB53863257EC8D7D649E40F2A64D18659B2FB45D893A995B88AEC4209975975E8DB3AC516D4CDF4A26681C524F9EA5C3750283A2B8F4569F9A9672DE9B6ED2C529B9611B38F237C8BDCFF088988CB2DD6599B8E62D4E77EE5386B892BE36B7BFB553A2BFDE900FB774C1A544CEB2C5A6CE9968927ED38B87"
	visaICCCert    = "A6CDB529A1D8CB538E19A277764C633F3C2F468A6A7CC3B5EF3F5B9838B7900316A627927569F679EAE367E10160D7A1E08D9F20399F8B6FFE77A564B108DD924458A89D966C980D1E52A0093CA1CFA44CB3FCCF102632A799486B409C34C1F6A3DCC3C1C0EE1C0F6E1EA7A33C1CDAEA9852AAA4B954D429C9EEDBF8803D6D159CAB6B8DCAB0694B5850D5F3C4014B45ABCB5B8F69BFC647D94F9E0039439A2D5584DEAD27729C894615F62AE7AC8216"
)

func TestLongestPublishedChain(t *testing.T) {
	ca, ok := emv.FindCA([5]byte{0xA0, 0, 0, 0, 0x03}, 0x94)
	if !ok {
		t.Fatal("no CA key")
	}
	cert := emv.Certificate{Certificate: unhex(t, visaIssuerCert), Remainder: []byte{}, Exponent: []byte{3}}
	issuer, err := emv.RecoverIssuer(ca, cert, emv.Check{PAN: "4761739001010119", Date: [3]byte{0x31, 0x12, 0x01}})
	if err != nil {
		t.Fatal(err)
	}
	if issuer.Owner != "476173" || issuer.Expiry != [2]byte{0x12, 0x31} || issuer.Serial != [3]byte{0x03, 0xDA, 0x0A} || issuer.Key.Size() != 176 {
		t.Errorf("issuer %+v", issuer)
	}
	cert.Exponent = []byte{1, 0, 1}
	if _, err := emv.RecoverIssuer(ca, cert, emv.Check{}); !errors.Is(err, emv.ErrHash) {
		t.Errorf("another exponent: %v", err)
	}
	for _, tt := range []struct{ name, signed, head, tail string }{
		{"static data", visaSSAD, "6A 03 01 DAC0 BB", "4E2821974D704E338E7218F887763F7BDCE2B814 BC"},
		{"ICC certificate", visaICCCert, "6A 04 4761739001010119FFFF 1222 000001 01 01 B0 01 AB02DC02", "B8D9B5F7A12DC0D77FC0B2F7BBACA514939CAD60 BC"},
	} {
		raw, err := issuer.Key.Apply(unhex(t, tt.signed))
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, tt.name, raw[:len(unhex(t, tt.head))], tt.head)
		wantHex(t, tt.name+", end", raw[len(raw)-21:], tt.tail)
	}
	if _, err := emv.VerifySDA(issuer.Key, unhex(t, visaSSAD), nil); !errors.Is(err, emv.ErrHash) {
		t.Errorf("static data without the data: %v", err)
	}
}

func TestEveryPublishedCAKey(t *testing.T) {
	keys := emv.CAKeys()
	if len(keys) != 140 {
		t.Errorf("%d keys", len(keys))
	}
	for _, k := range keys {
		id := [6]byte(append(k.RID[:], k.Index))
		if !k.Valid() {
			t.Errorf("%X: check value", id)
		}
		// Exponent 2 is another cipher; the key of 2048 bits was published with an even modulus.
		usable := k.Exponent[0] != 2 && len(k.Modulus) <= emv.MaxKeyBytes
		if p, err := k.Public(); usable != (err == nil) || usable && p.Size() != len(k.Modulus) {
			t.Errorf("%X: %v", id, err)
		}
		k.Index++
		if k.Valid() {
			t.Errorf("%X: check value of another index", id)
		}
	}
	for index, sum := range map[byte]string{
		0x09: "A075306EAB0045BAF72CDD33B3B678779DE1F527", 0x0A: "C88BE6B2417C4F941C9371EA35A377158767E4E3",
		0x0B: "BD331F9996A490B33C13441066A09AD3FEB5F66C",
	} {
		k, ok := emv.FindCA(emv.RIDUnionPay, index)
		if !ok {
			t.Fatalf("no UnionPay key %02X", index)
		}
		wantHex(t, "UnionPay check value", k.Hash[:], sum)
	}
	if all := emv.FindCAs([5]byte{0xA0, 0, 0, 0, 0x04}, 0x05); len(all) != 2 || all[0].Environment != "live" {
		t.Errorf("%d keys 05, first %s", len(all), all[0].Environment)
	}
	if _, ok := emv.FindCA(emv.RIDUnionPay, 0xEE); ok {
		t.Error("found a key that is not there")
	}
}

// A trace is one dialogue of the published card traces.
type trace struct {
	ID        string
	Exchanges []struct{ C, R string }
}

// traces reads the dialogues of testdata.
func traces(t testing.TB) []trace {
	t.Helper()
	text, err := os.ReadFile("testdata/cards.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []trace
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// A dialogue is what a chain needs of a trace: all objects and the records.
type dialogue struct {
	objects map[tlv.Tag][]byte
	records []emv.Record
	aip     []byte
}

func readTrace(t testing.TB, id string) dialogue {
	t.Helper()
	d := dialogue{objects: map[tlv.Tag][]byte{}}
	var afl []byte
	answers := map[string][]byte{}
	for _, tr := range traces(t) {
		if tr.ID != id {
			continue
		}
		for _, x := range tr.Exchanges {
			c, r := unhex(t, x.C), unhex(t, x.R)
			r = r[:len(r)-2]
			answers[x.C[:8]] = r
			_ = tlv.Walk(r, func(_ int, tag tlv.Tag, val []byte) error {
				if _, ok := d.objects[tag]; !ok {
					d.objects[tag] = val
				}
				return nil
			})
			if c[1] == 0xA8 && r[0] == 0x80 {
				d.aip, afl = r[2:4], r[4:]
			}
		}
	}
	if afl == nil {
		d.aip, afl = d.objects[emv.TagAIP], d.objects[emv.TagAFL]
	}
	files, err := emv.ParseAFL(afl)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range files.Records() {
		d.records = append(d.records, emv.Record{RecordID: id, Data: answers[hexOf(0x00, 0xB2, id.Number, id.SFI<<3|4)]})
	}
	return d
}

// Both test cards that were logged whole: certificates, static data and the
// signatures over what the terminal sent.
func TestLoggedCards(t *testing.T) {
	for _, tt := range []struct {
		id   string
		rid  [5]byte
		pan  string
		sign func(*testing.T, dialogue, emv.PublicKey)
	}{
		{"contact-upi", emv.RIDUnionPay, "6210948000000011", func(t *testing.T, d dialogue, icc emv.PublicKey) {
			sdad := unhex(t, "352B18497D05FA834B99349185EE0AE2C710F41AC81E6CB0931388C3560B225B3D63DF203473E800D5A9EA206F1631826CE9B5A95807935E1991117A6292899365F2F93E9A8D8377679B24B38E91EA43D56A512B968B484D8959B5135CC536B05A8DBA5CFA59AA0624D01CA982A3A1846F1F87362CF00A164D48FA03754C58F30857CD079B56359C9E6DDCAEFBACBF5A7B39ADD00C7A44977AC61D85C90F3429424656B9E486F4A936E61171FAA8E636")
			number, err := emv.VerifyDDA(icc, sdad, unhex(t, "7863AFC6"))
			if err != nil {
				t.Fatal(err)
			}
			wantHex(t, "dynamic number", number, "000659A2F145F4") // the ATC and five bytes of chance
		}},
		{"contactless-mastercard", [5]byte{0xA0, 0, 0, 0, 0x04}, "5413330089600044", func(t *testing.T, d dialogue, icc emv.PublicKey) {
			cdol := unhex(t, "00000001000100000000000000020000000000003612031500000EEC8522000000000000000000005E0300")
			var content []byte
			for _, tr := range traces(t) {
				if tr.ID == "contactless-mastercard" {
					last := unhex(t, tr.Exchanges[len(tr.Exchanges)-1].R)
					_, content, _, _ = tlv.Next(last)
				}
			}
			data, err := emv.TransactionData(nil, cdol, nil, content)
			if err != nil {
				t.Fatal(err)
			}
			un := cdol[25:29]
			if _, err := emv.VerifyCDA(icc, d.objects[emv.TagSDAD], [4]byte(un), d.objects[emv.TagCID][0], data); err != nil {
				t.Errorf("un %X: %v", un, err)
			}
		}},
	} {
		t.Run(tt.id, func(t *testing.T) {
			d := readTrace(t, tt.id)
			ca, ok := emv.FindCA(tt.rid, d.objects[emv.TagCAIndex][0])
			if !ok {
				t.Fatal("no CA key")
			}
			check := emv.Check{PAN: tt.pan, Date: [3]byte{0x14, 0x06, 0x01}}
			static, err := emv.StaticData(d.records, d.objects[emv.TagSDATagList], d.aip)
			if err != nil {
				t.Fatal(err)
			}
			issuer, icc, err := emv.RecoverChain(ca, func(tag tlv.Tag) []byte { return d.objects[tag] }, static, check)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("issuer %s %X %d bits, card %X %d bits", issuer.Owner, issuer.Expiry, 8*issuer.Key.Size(), icc.Expiry, 8*icc.Key.Size())
			tt.sign(t, d, icc.Key)
			if ssad := d.objects[emv.TagSSAD]; ssad != nil {
				if _, err := emv.VerifySDA(issuer.Key, ssad, static); err != nil {
					t.Errorf("static data: %v", err)
				}
			}
		})
	}
}

func hexOf(b ...byte) string { return fmt.Sprintf("%X", b) }
