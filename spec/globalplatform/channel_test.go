package globalplatform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"koala/spec/iso7816"

	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func command(t testing.TB, s string) iso7816.Command {
	t.Helper()
	c, err := iso7816.ParseCommand(unhex(t, s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return c
}

func keySet(t testing.TB, version byte, enc, mac, dek string) KeySet {
	return KeySet{version, unhex(t, enc), unhex(t, mac), unhex(t, dek)}
}

// A session from osmocom/pysim tests/unittests/test_globalplatform.py.
type session struct {
	name       string
	keys       KeySet
	host, init string
	auth       string
	level      Level
	steps      [][2]string // plain, wrapped
	answer     string      // of the first step, as sent; "" when not given
	plain      string      // of that answer
}

const eidPlain = "80E2910006BF3E035C015A00"
const eidAnswer = "BF3E125A1089882119900000000000000000000005"

var fourCases = [4]string{"80F22002", "80CA006600", "80F220020A4F0212345C054F9F70C5", "80F28002024F0000"}

func steps(get string, cases ...string) [][2]string {
	var out [][2]string
	if get != "" {
		out = append(out, [2]string{eidPlain, get})
	}
	for i, c := range cases {
		out = append(out, [2]string{fourCases[i], c})
	}
	return out
}

func sessions(t testing.TB) []session {
	des := keySet(t, 0x70, "100102030405060708090A0B0C0D0E0F", "101102030405060708090A0B0C0D0E0F", "102102030405060708090A0B0C0D0E0F")
	enc, mac, dek := "000102030405060708090A0B0C0D0E0F", "101112131415161718191A1B1C1D1E1F", "202122232425262728292A2B2C2D2E2F"
	aes128 := keySet(t, 0x30, enc, mac, dek)
	aes192 := keySet(t, 0x31, enc+enc[:16], mac+mac[:16], dek+dek[:16])
	aes256 := keySet(t, 0x32, enc+enc, mac+mac, dek+dek)
	const k0 = "00000000000000000000"
	return []session{
		{"SCP02 level 01", des, "40A62C37FA6304F8", k0 + "700200016B4524ABEE7CF32EA3838BC148F3",
			"8482010010BA6961667737C5BCEBECE14C7D6A4376", 0x01, steps("", "84F220020814DB34FA4341DCA8",
				"84CA00660855ED7C5FF069512B00", "84F22002124F0212345C054F9F70C58FC1B380C4228AF8", "84F280020A4F003B95F09317DE6A4E00"), "", ""},
		{"AES-128 level 11", aes128, "B13E5F938FC108C4", k0 + "3003703EB51047495B249F66C484C1D2EF1948000002",
			"84821100107D5F5826A993EBC89EEA24957FA0B3CE", 0x11, steps("84E291000EBF3E035C015A558D036518A2829700",
				"84F220020863A63F8959827FB2", "84CA006608A0C6A4A74166F7CE00", "84F22002124F0212345C054F9F70C52249B50272656536",
				"84F280020A4F00E91443F6DCE6B8ED00"), eidAnswer + "971BE68992DBBDFA", eidAnswer},
		{"AES-128 level 03", aes128, "8E1552D0513C60F3", k0 + "30037030760CD2C47C1DD395065FE5EAD8A9D7000001",
			"8482030010FD4721A14D9B07003C451D2F8AE6BB21", 0x03, steps("84E2910018CA9C00F6713D79BC8BAA642BDFF51C3F6A4082D3BD9AD26C00",
				"84F2200208C9811B11F1264CF1", "84CA006608E10AB60B3054798800", "84F22002184E2908BDB48B2315A55482E9E936CA122D6ECFAE7D17416E",
				"84F28002180DD10A6B6193E5340B9E77D32D5A179CD710AC2773AEFB2800"), eidAnswer, eidAnswer},
		{"AES-128 level 33", aes128, "FDF38259A1E0DE44", k0 + "3003703B1ACA81E821F219081CDC01C26B372D000003",
			"84823300108C36F96BCC00724A4E13AD591D7DA3F0", 0x33, steps("84E2910018267A85DFE4A98FCA6FB0527E0DFECCE4914E40401433C87F00",
				"84F2200208AC6A59024BED84CC", "84CA006608409912AD8FB7AED000", "84F22002185F3DAFC3AC14C381536A488BF44E06D056DF9D74DBD21E5A",
				"84F280021865165105BE3373347D0424D4400AF2AC393F569EC779389E00"),
			"F3BA2B1013AA6224F5E1C138D71805C569E5439B47576260B75FC021B25097CB2E68F8A0144975B9", eidAnswer},
		{"AES-192 level 11", aes192, "7396430B768B085B", k0 + "3103708CFC23522FFDBF1E5DF5542CAC8FD866000003",
			"84821100102145ED30B146F5DB252FB7E624CEC244", 0x11, steps("84E291000EBF3E035C015AFF42CF801D14394400",
				"84F22002084584E4F6784811EE", "84CA006608937776EBE190FA3000", "84F22002124F0212345C054F9F70C59A52BDDF3040368C",
				"84F280020A4F009804B11411F7393D00"), eidAnswer + "162FBD33E04940A9", eidAnswer},
		{"AES-192 level 03", aes192, "69C65DA8202BF19F", k0 + "310370B570A67BE38446717729D6DD3D2EC5B1000001",
			"848203001065DF4F1A356A887905466516D9E5B7C1", 0x03, steps("84E2910018D2C6FB477C5D4AFE4FD4D21F17EFF10D3578EC1774A12A2D00",
				"84F2200208964E188F0B1BB697", "84CA006608F0820035A41D3E1800", "84F220021806B076ED452CD1FA84F77F5C08A146AA77A9286757DEA791",
				"84F2800218D06527E39222DCE091FABDB8E9B898417A67A6852D3577DB00"), eidAnswer, eidAnswer},
		{"AES-192 level 33", aes192, "9B3F2EEF0E8C9374", k0 + "310370F6BB305A15BAE1A68F79FB08212FBED7000002",
			"84823300109100BC22D58B45B86A26365CE39FF3CF", 0x33, steps("84E29100188F7F946C84F70D17994BC6E8791251BB1BB1BF02CF8DE58900",
				"84F2200208D5D97754B6B3D2BA", "84CA006608516C82B8E30ADBEB00", "84F2200218CC247F4761E6944277A4E0D6E32E44025B1E31537E2FC668",
				"84F2800218BA22B63D509BEF5D093B43E5EAED03ED23144AB2D9CB51DE00"),
			"C05176C1B6F72AAE50C32CBEE63B0E95998928FD4DFB2BE9F27FFDE8C8476F5909B4805CC4039599", eidAnswer},
		{"AES-256 level 11", aes256, "11666D57866C6F54", k0 + "32037053EA8847EFA7674E41498A4D66CF0DEE000003",
			"84821100102F2AD190EFF2FAFC4908996D1CEBD310", 0x11, steps("84E291000EBF3E035C015AF4B680372542B59D00",
				"84F2200208D618B7DA68D5FE52", "84CA0066088F3E055DB23AD5E500", "84F22002124F0212345C054F9F70C5B6E15CC42404915E",
				"84F280020A4F00AA124AA74AFE7F7500"), eidAnswer + "8012DD7F01F1C4C1", eidAnswer},
		{"AES-256 level 03", aes256, "C6066990FC426E1D", k0 + "3203708682CD81BBD8919F2DE3F2664581F118000001",
			"848203001077C493B632EDADAF865A1E64ACC07CE9", 0x03, steps("84E29100183DDAA60594963BEFAADA3525B492EDE23C2AB2C1CE3AFE4400",
				"84F2200208480DDC8E419DA38D", "84CA0066083E9D6A6C0B2D732000", "84F22002183EBFEF2DA8B04AF2A85F491F299B76973DF76FF08A4031BE",
				"84F2800218783FFF80990F5585B1055010EA95094A26E4A8F1EF4B18E100"), eidAnswer, eidAnswer},
		{"AES-256 level 33", aes256, "97B2055FE58599FD", k0 + "320370A8439A22CEDF045FA9F1903B2834F26E000002",
			"8482330010508A0FD959D2E547C6B33154A6BE2057", 0x33, steps("84E29100187A5EF717EAF1E135AE92FE54429D0E465DECDA65F5FE5AEA00",
				"84F2200208BCC5C17275545D93", "84CA00660804806ABA9D543BB600", "84F2200218717222491556EC81A45F49CE48BE33320024801A1C4CB0E0",
				"84F2800218561F105BCCD3A1642904B251CCC1228BEB80A82370A8637000"),
			"EA90DBFA648A67C5EB6ABC57F8530B97D0CD5647C5E8732016B55203B078DD2ACE7F8BC5D1C1CD99", eidAnswer},
	}
}

func challenge(t testing.TB, s string) [8]byte { return [8]byte(unhex(t, s)) }

// Every line of both ends: INITIALIZE UPDATE answer, EXTERNAL AUTHENTICATE,
// five commands and the answer of the first.
func TestPublishedSessions(t *testing.T) {
	for _, s := range sessions(t) {
		t.Run(s.name, func(t *testing.T) {
			host := challenge(t, s.host)
			a, err := ParseInitAnswer(unhex(t, s.init))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.Bytes(), unhex(t, s.init)) {
				t.Errorf("answer writes %X", a.Bytes())
			}
			h, auth, err := NewHost(s.keys, host, a, s.level)
			if err != nil {
				t.Fatal(err)
			}
			if got := auth.String(); got != s.auth {
				t.Fatalf("EXTERNAL AUTHENTICATE %s, want %s", got, s.auth)
			}
			k := card(t, s.keys, a, host)
			if err := k.Authenticate(command(t, s.auth)); err != nil {
				t.Fatal(err)
			}
			for i, step := range s.steps {
				wrapped, err := h.Wrap(command(t, step[0]))
				if err != nil || wrapped.String() != step[1] {
					t.Fatalf("step %d: %v %v, want %s", i, wrapped, err, step[1])
				}
				opened, err := k.Open(command(t, step[1]))
				if err != nil || opened.String() != step[0] {
					t.Fatalf("step %d opens as %v %v, want %s", i, opened, err, step[0])
				}
				answer := iso7816.Response{Data: unhex(t, s.plain), SW: iso7816.OK}
				sealed := k.Seal(answer)
				if i == 0 && s.answer != "" && !bytes.Equal(sealed.Data, unhex(t, s.answer)) {
					t.Fatalf("sealed %v, want %s", sealed, s.answer)
				}
				if got, err := h.Unwrap(sealed); err != nil || !bytes.Equal(got.Data, answer.Data) {
					t.Fatalf("step %d answer reads %v %v", i, got, err)
				}
			}
		})
	}
}

// card makes the card's end with the random of a published answer.
func card(t *testing.T, keys KeySet, a InitAnswer, host [8]byte) *Card {
	t.Helper()
	if a.Protocol == 2 {
		k, got, err := NewCard02(keys, a.KDD, uint16(a.Sequence), [6]byte(a.Random[:6]), host)
		if err != nil || got != a {
			t.Fatalf("card answers %X %v, want %X", got.Bytes(), err, a.Bytes())
		}
		return k
	}
	// The published cards derive their challenge for the ISD-R of an eUICC.
	k, got, err := NewCard03(keys, a.KDD, a.Sequence, "\xA0\x00\x00\x05\x59\x10\x10\xFF\xFF\xFF\xFF\x89\x00\x00\x01\x00", host)
	if err != nil || got != a {
		t.Fatalf("card answers %X %v, want %X", got.Bytes(), err, a.Bytes())
	}
	return k
}

func TestSessionKeys(t *testing.T) {
	s := sessions(t)
	a, _ := ParseInitAnswer(unhex(t, s[0].init))
	s2, err := newSCP02(s[0].keys, uint16(a.Sequence), [6]byte(a.Random[:6]), challenge(t, s[0].host))
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 8)
	for name, got := range map[string][2]string{ // compared through what the keys encrypt
		"S-ENC":  {"1BA074B31F72A6C44FE8F5D9AFE4DA2F", string(s2.enc.EncryptECB(zero))},
		"S-MAC":  {"29A69328E60494982632039DDD47A2F1", string(s2.mac.EncryptECB(zero))},
		"S-DEK":  {"511DB767812597722109C867F9D7257A", string(s2.dek.EncryptECB(zero))},
		"S-RMAC": {"FDF8A06C38FA7A54123C80AB9087BF25", string(s2.rmac.EncryptECB(zero))},
	} {
		if want := DES.Check(unhex(t, got[0])); !strings.HasPrefix(got[1], string(want[:])) {
			t.Errorf("SCP02 %s differs from CARD 6.1", name)
		}
	}
	a, _ = ParseInitAnswer(unhex(t, s[1].init))
	s3, err := newSCP03(s[1].keys, challenge(t, s[1].host), a.Random)
	if err != nil {
		t.Fatal(err)
	}
	ones := bytes.Repeat([]byte{1}, 16)
	for name, got := range map[string][2]string{
		"S-ENC":  {"C4E87149F2114DA66BB015A567D751F9", string(s3.enc.EncryptCBC(nil, ones))},
		"S-MAC":  {"8B2635556E987A6B84F43D9FFC197D3F", string(s3.mac.EncryptCBC(nil, ones))},
		"S-RMAC": {"3F6B2CE3B3ABD9A99BD4453AFA54CC7B", string(s3.rmac.EncryptCBC(nil, ones))},
	} {
		if want := AES.Check(unhex(t, got[0])); !strings.HasPrefix(got[1], string(want[:])) {
			t.Errorf("SCP03 %s differs from CARD 6.2", name)
		}
	}
}

func TestHostRefusesTheWrongCard(t *testing.T) {
	for _, s := range sessions(t) {
		a, _ := ParseInitAnswer(unhex(t, s.init))
		bad := a
		bad.Cryptogram[7] ^= 1
		if _, _, err := NewHost(s.keys, challenge(t, s.host), bad, s.level); !errors.Is(err, ErrCryptogram) {
			t.Errorf("%s, other cryptogram: %v", s.name, err)
		}
		if _, _, err := NewHost(s.keys, challenge(t, s.host), a, 0x02); !errors.Is(err, ErrLevel) {
			t.Errorf("%s, level 02: %v", s.name, err)
		}
		other := NewHost02
		if a.Protocol == 2 {
			other = NewHost03
		}
		if _, _, err := other(s.keys, challenge(t, s.host), a, s.level); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s, other protocol: %v", s.name, err)
		}
	}
}

func TestCardRefusesAForgedHost(t *testing.T) {
	for _, s := range sessions(t) {
		a, _ := ParseInitAnswer(unhex(t, s.init))
		for i, want := range map[int]error{0: ErrCryptogram, 15: ErrMAC} {
			c := command(t, s.auth)
			c.Data[i] ^= 0x80
			if err := card(t, s.keys, a, challenge(t, s.host)).Authenticate(c); !errors.Is(err, want) {
				t.Errorf("%s, byte %d changed: %v", s.name, i, err)
			}
		}
		k := card(t, s.keys, a, challenge(t, s.host))
		if err := k.Authenticate(command(t, s.auth)); err != nil {
			t.Fatal(err)
		}
		c := command(t, s.steps[0][1])
		c.P1 ^= 1
		if _, err := k.Open(c); !errors.Is(err, ErrMAC) {
			t.Errorf("%s, other P1: %v", s.name, err)
		}
	}
}

// Any commands and answers at any level arrive as they left, on both protocols.
func TestChannelCarriesEverything(t *testing.T) {
	keys := FactoryKeys()
	rapid.Check(t, func(t *rapid.T) {
		two := rapid.Bool().Draw(t, "SCP02")
		host := [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "host"))
		var k *Card
		var a InitAnswer
		var err error
		levels := []Level{0x00, 0x01, 0x03, 0x11, 0x13, 0x33}
		if two {
			levels[5] = 0x10
			k, a, err = NewCard02(keys, [10]byte{1}, 7, [6]byte{2}, host)
		} else {
			k, a, err = NewCard03(keys, [10]byte{1}, 7, IssuerDomain, host)
		}
		if err != nil {
			t.Fatal(err)
		}
		h, auth, err := NewHost(keys, host, a, rapid.SampledFrom(levels).Draw(t, "level"))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Authenticate(auth); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 8).Draw(t, "commands") {
			c := iso7816.Command{CLA: CLA, INS: rapid.Byte().Draw(t, "ins"), P1: rapid.Byte().Draw(t, "p1"),
				Data: rapid.SliceOfN(rapid.Byte(), 0, h.MaxData()).Draw(t, "data"), Le: rapid.SampledFrom([]int{0, iso7816.NoLe}).Draw(t, "le")}
			w, err := h.Wrap(c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Open(w)
			if err != nil || got.String() != c.String() {
				t.Fatalf("%v opens as %v: %v", c, got, err)
			}
			r := iso7816.Response{Data: rapid.SliceOfN(rapid.Byte(), 0, k.MaxAnswer()).Draw(t, "answer"),
				SW: rapid.SampledFrom([]iso7816.SW{iso7816.OK, SWMore, 0x6283}).Draw(t, "sw")}
			sealed := k.Seal(r)
			if len(sealed.Data) > 256 {
				t.Fatalf("answer of %d bytes became %d", len(r.Data), len(sealed.Data))
			}
			back, err := h.Unwrap(sealed)
			if err != nil || back.String() != r.String() {
				t.Fatalf("%v reads as %v: %v", r, back, err)
			}
		}
	})
}

func TestErrorsLeaveUnprotected(t *testing.T) {
	keys := FactoryKeys()
	k, a, _ := NewCard03(keys, [10]byte{}, 1, IssuerDomain, [8]byte{})
	h, auth, err := NewHost03(keys, [8]byte{}, a, 0x33)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Authenticate(auth); err != nil {
		t.Fatal(err)
	}
	w, _ := h.Wrap(command(t, "80F28002024F0000"))
	if _, err := k.Open(w); err != nil {
		t.Fatal(err)
	}
	r := k.Seal(iso7816.Response{SW: 0x6A88})
	if len(r.Data) != 0 {
		t.Errorf("6A88 leaves with %X", r.Data)
	}
	if _, err := h.Unwrap(r); err != nil {
		t.Errorf("the host refuses 6A88: %v", err)
	}
	empty := k.Seal(iso7816.Response{SW: iso7816.OK})
	if len(empty.Data) != 8 {
		t.Errorf("an empty answer carries %d bytes, want the MAC alone", len(empty.Data))
	}
}

// The whole script can be wrapped before the card has answered anything.
func TestWrapAhead(t *testing.T) {
	keys := FactoryKeys()
	k, a, _ := NewCard03(keys, [10]byte{}, 1, IssuerDomain, [8]byte{})
	h, auth, _ := NewHost03(keys, [8]byte{}, a, 0x33)
	var wires []iso7816.Command
	for range 3 {
		w, err := h.Wrap(command(t, "80F28002024F0000"))
		if err != nil {
			t.Fatal(err)
		}
		wires = append(wires, w)
	}
	if err := k.Authenticate(auth); err != nil {
		t.Fatal(err)
	}
	for i, w := range wires {
		if _, err := k.Open(w); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Unwrap(k.Seal(iso7816.Response{Data: []byte{byte(i)}, SW: iso7816.OK})); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	if _, err := h.Unwrap(iso7816.Response{SW: iso7816.OK}); !errors.Is(err, ErrAnswer) {
		t.Errorf("a fourth answer to three commands: %v", err)
	}
}

func TestTooLongForOneCommand(t *testing.T) {
	keys := FactoryKeys()
	k, a, _ := NewCard03(keys, [10]byte{}, 1, IssuerDomain, [8]byte{})
	h, auth, _ := NewHost03(keys, [8]byte{}, a, 0x03)
	if err := k.Authenticate(auth); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Wrap(iso7816.Command{CLA: CLA, Data: make([]byte, h.MaxData()+1)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("%d bytes: %v", h.MaxData()+1, err)
	}
	w, err := h.Wrap(command(t, "80F28002024F0000"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(w); err != nil {
		t.Errorf("the refused command moved the chain: %v", err)
	}
}

// A command in extended length, as some hosts send RSA keys: its MAC is over the
// length of three bytes.
func TestExtendedLength(t *testing.T) {
	keys := FactoryKeys()
	two, a2, _ := NewCard02(keys, [10]byte{}, 1, [6]byte{}, [8]byte{})
	three, a3, _ := NewCard03(keys, [10]byte{}, 1, IssuerDomain, [8]byte{})
	for i, k := range []*Card{two, three} {
		h, auth, err := NewHost(keys, [8]byte{}, []InitAnswer{a2, a3}[i], CMAC)
		if err != nil || k.Authenticate(auth) != nil {
			t.Fatal(err)
		}
		c := iso7816.Command{CLA: CLASecure, INS: InsPutKey, P2: 1, Data: bytes.Repeat([]byte{0xA5}, 267)}
		mac := h.ch.commandMAC(c)
		c.Data = append(c.Data, mac[:]...)
		got, err := k.Open(c)
		if err != nil || len(got.Data) != 267 || got.CLA != CLA {
			t.Errorf("SCP0%d: %d bytes, %v", 2+i, len(got.Data), err)
		}
		c.Data[0] ^= 1
		if _, err := k.Open(c); err == nil {
			t.Errorf("SCP0%d: any long command opens", 2+i)
		}
	}
}
