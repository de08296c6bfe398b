package desfire_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/spec/desfire"
	"pgregory.net/rapid"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// The example of AN10922 (CARD.md 6.6), and its 2K3DES twin, whose input is the
// 15 bytes that a cipher of 8-byte blocks takes.
func TestDiversification(t *testing.T) {
	value := [16]byte(unhex("00112233445566778899AABBCCDDEEFF"))
	input := desfire.DiversificationInput(desfire.UID(unhex("04782E21801D80")), desfire.AIDFrom([3]byte(unhex("3042F5"))), "NXP Abu")
	if want := unhex("04782E21801D803042F54E585020416275"); !bytes.Equal(input, want) {
		t.Fatalf("input %X", input)
	}
	if got := desfire.Diversify(desfire.AESKey(value, 5), input); !bytes.Equal(got.Bytes(), unhex("A8DD63A3B89D54B37CA802473FDA9175")) || got.Version != 5 {
		t.Errorf("AES %X", got.Bytes())
	}
	if got := desfire.Diversify(desfire.DESKey(value), input[:15]); !bytes.Equal(got.Bytes(), unhex("16F8597C9E8910C86B9648D006107DD7")) {
		t.Errorf("2K3DES %X", got.Bytes())
	}
	if s := fmt.Sprintf("%v %#v %+v", desfire.AESKey(value, 1), desfire.AESKey(value, 1), desfire.DESKey(value)); strings.Contains(s, "0011") || strings.Contains(s, "17 34") {
		t.Errorf("a key prints itself: %s", s)
	}
}

// The checksums by their published check values over "123456789": CRC-32/JAMCRC
// and CRC-16/ISO-IEC-14443-3-A.
func TestChecksums(t *testing.T) {
	if got := desfire.CRC32([]byte("1234"), []byte("56789")); got != 0x340BC6D9 {
		t.Errorf("CRC32 %08X", got)
	}
	if got := desfire.CRC16([]byte("123456789")); got != 0xBF05 {
		t.Errorf("CRC16 %04X", got)
	}
}

// pair authenticates a reader and a card with each other.
func pair(t *rapid.T, cmd byte, k desfire.Key) (host, card *desfire.Session) {
	random := rapid.SliceOfN(rapid.Byte(), k.RandomSize(), k.RandomSize())
	c, token, err := desfire.NewChallenge(cmd, 3, k, random.Draw(t, "rndB"))
	if err != nil {
		t.Fatal(err)
	}
	p, out, err := desfire.Prove(cmd, 3, k, token, random.Draw(t, "rndA"))
	if err != nil {
		t.Fatal(err)
	}
	answer, card, err := c.Verify(out)
	if err != nil {
		t.Fatal(err)
	}
	if host, err = p.Finish(answer); err != nil {
		t.Fatal(err)
	}
	return host, card
}

var auths = []struct {
	cmd  byte
	kind desfire.KeyKind
}{
	{desfire.CmdAuthAES, desfire.AES}, {desfire.CmdAuthISO, desfire.DES}, {desfire.CmdAuthISO, desfire.TDES}, {desfire.CmdAuthLegacy, desfire.DES},
}

// Whatever is said in whatever mode, the other side reads it; what a bit has
// changed, it does not, where there is a MAC or checksum.
func TestSessionsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(auths).Draw(t, "authentication")
		key := desfire.NewKey(a.kind, rapid.SliceOfN(rapid.Byte(), a.kind.Size(), a.kind.Size()).Draw(t, "key"), 0)
		host, card := pair(t, a.cmd, key)
		for range rapid.IntRange(1, 6).Draw(t, "turns") {
			mode := rapid.SampledFrom([]desfire.Mode{desfire.Plain, desfire.MACed, desfire.Enciphered}).Draw(t, "mode")
			header := rapid.SliceOfN(rapid.Byte(), 0, 7).Draw(t, "header")
			data := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "data")
			body := host.Command(0x3D, header, data, mode)
			got, err := card.OpenCommand(0x3D, header, body[len(header):], len(data), mode)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%v: %X %v, want %X", mode, got, err, data)
			}
			whole := rapid.Bool().Draw(t, "whole")
			n := len(data)
			if whole && len(data) > 0 {
				n = -1
			}
			if got, err = host.OpenAnswer(card.Answer(data, mode, whole), n, mode); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%v answer: %X %v, want %X", mode, got, err, data)
			}
		}
		mode := rapid.SampledFrom([]desfire.Mode{desfire.MACed, desfire.Enciphered}).Draw(t, "last")
		body := host.Command(0x3D, []byte{1}, []byte("amount"), mode)
		body[1+rapid.IntRange(0, len(body)-2).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := card.OpenCommand(0x3D, []byte{1}, body[1:], 6, mode); !errors.Is(err, desfire.ErrMAC) {
			t.Fatalf("%v: took %q %v", mode, got, err)
		}
	})
}

// A key changes under its own session and under another's.
func TestKeysTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(auths).Draw(t, "authentication")
		value := func(name string, k desfire.KeyKind) desfire.Key {
			return desfire.NewKey(k, rapid.SliceOfN(rapid.Byte(), k.Size(), k.Size()).Draw(t, name), rapid.Byte().Draw(t, "version"))
		}
		host, card := pair(t, a.cmd, value("key", a.kind))
		next, kind := value("next", a.kind), a.kind
		old := value("old", a.kind)
		before := &old
		if rapid.Bool().Draw(t, "own") {
			before = nil
		}
		body := host.SealKey(2, next, before)
		if got, err := card.OpenKey(2, kind, body, before); err != nil || got != next {
			t.Fatalf("%v %v", got, err)
		}
	})
}

func TestWrongKeyIsNoSession(t *testing.T) {
	for _, a := range auths {
		k := desfire.NewKey(a.kind, make([]byte, a.kind.Size()), 0)
		other := desfire.NewKey(a.kind, bytes.Repeat([]byte{2}, a.kind.Size()), 0)
		c, token, err := desfire.NewChallenge(a.cmd, 0, k, make([]byte, k.RandomSize()))
		if err != nil {
			t.Fatal(err)
		}
		p, out, err := desfire.Prove(a.cmd, 0, other, token, make([]byte, k.RandomSize()))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Verify(out); !errors.Is(err, desfire.ErrAuth) {
			t.Errorf("%02X: the card took it: %v", a.cmd, err)
		}
		if _, err := p.Finish(make([]byte, k.RandomSize())); !errors.Is(err, desfire.ErrAuth) {
			t.Errorf("%02X: the reader took it: %v", a.cmd, err)
		}
	}
	if _, _, err := desfire.NewChallenge(desfire.CmdAuthAES, 0, desfire.DESKey([16]byte{}), make([]byte, 8)); !errors.Is(err, desfire.ErrAuth) {
		t.Error("a DES key for AES")
	}
}

func TestAccess(t *testing.T) {
	a := desfire.Rights(1, 2, desfire.Free, desfire.Never)
	if a != 0x12EF || a.Read() != 1 || a.Write() != 2 || a.Both() != desfire.Free || a.Change() != desfire.Never {
		t.Errorf("%04X %v", uint16(a), a)
	}
	if got := desfire.AID(0x112233).Bytes(); got != [3]byte{0x33, 0x22, 0x11} {
		t.Errorf("%X", got)
	}
}

func TestSales(t *testing.T) {
	key := desfire.Till{1, 2, 3, 4}.Key([16]byte{9})
	at := desfire.StampOf(time.Date(2024, 12, 29, 6, 17, 40, 0, time.UTC))
	if at.String() != "2024-12-29 14:17:40" {
		t.Errorf("%v", at)
	}
	good := desfire.Sale{Till: desfire.Till{1, 2, 3, 4}, Seq: 0x10002, Kind: desfire.Purchase, Fen: 1200, Before: 5000, After: 3800, At: at, App: desfire.CanteenAID}
	if l := good.Log(); l != (desfire.Log{Fen: 1200, Till: good.Till, At: at, Seq: 2}) || len(l.Bytes()) != desfire.LogLen {
		t.Errorf("%+v", l)
	}
	for name, change := range map[string]func(s *desfire.Sale){
		"as it is": func(*desfire.Sale) {},
		"refund":   func(s *desfire.Sale) { s.Kind, s.Before, s.After = desfire.Refund, 3800, 5000 },
		"void":     func(s *desfire.Sale) { s.Kind, s.Fen, s.After = desfire.Void, 0, 5000 },
	} {
		s := good
		change(&s)
		if err := s.Sign(key).Verify(key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range desfire.SaleLen {
			b := s.Sign(key).Bytes()
			b[n] ^= 4
			if x, err := desfire.ParseSale(b); err == nil && x.Verify(key) == nil {
				t.Errorf("%s: byte %d does not matter", name, n)
			}
		}
	}
	for name, change := range map[string]func(s *desfire.Sale){
		"more than it says":    func(s *desfire.Sale) { s.After = 3700 },
		"a void that moves":    func(s *desfire.Sale) { s.Kind = desfire.Void },
		"a refund that takes":  func(s *desfire.Sale) { s.Kind = desfire.Refund },
		"kind nobody has seen": func(s *desfire.Sale) { s.Kind = 9 },
	} {
		s := good
		change(&s)
		if err := s.Sign(key).Verify(key); !errors.Is(err, desfire.ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentialIsOfOneCard(t *testing.T) {
	key := [16]byte{1}
	c := desfire.Credential{Site: 7, Person: 42, From: [4]byte{0x20, 0x24, 1, 1}, To: [4]byte{0x20, 0x25, 1, 1}}.Sign(key, desfire.UID{1})
	if err := c.Verify(key, desfire.UID{1}); err != nil {
		t.Error(err)
	}
	if err := c.Verify(key, desfire.UID{2}); !errors.Is(err, desfire.ErrMAC) {
		t.Errorf("another card: %v", err)
	}
	c.Person++
	if err := c.Verify(key, desfire.UID{1}); !errors.Is(err, desfire.ErrMAC) {
		t.Errorf("another person: %v", err)
	}
}

func plan() desfire.Plan {
	return desfire.Plan{
		Version: 3, Site: 7, Made: time.Unix(1735452000, 0).UTC(),
		Zones: []desfire.Zone{{ID: 1, Doors: []uint32{10, 11}}, {ID: 2, Doors: []uint32{20}}},
		Schedules: []desfire.Schedule{
			{ID: 1, Windows: []desfire.Window{{desfire.EveryDay, 0, 1440}}},
			{ID: 2, Windows: []desfire.Window{{desfire.Weekdays | desfire.Working, 8 * 60, 18 * 60}, {1 << 5, 600, 720}}},
		},
		Holidays: []desfire.Holiday{{Day: [4]byte{0x20, 0x25, 0x01, 0x01}}, {Day: [4]byte{0x20, 0x25, 0x01, 0x26}, Worked: true}},
		Grants:   []desfire.Grant{{42, 1, 1}, {42, 2, 2}, {43, 1, 2}},
		Denied:   []desfire.Denial{{desfire.UID{4, 9}, 1}},
	}
}

// Hours of the week, holidays and days worked instead, in Beijing time.
func TestAdmits(t *testing.T) {
	p := plan()
	for _, tt := range []struct {
		person    uint64
		door      uint32
		at        string
		ever, now bool
	}{
		{42, 10, "2024-12-29 03:00", true, true},
		{42, 20, "2024-12-30 07:59", true, false},
		{42, 20, "2024-12-30 08:00", true, true},
		{42, 20, "2024-12-30 17:59", true, true},
		{42, 20, "2024-12-30 18:00", true, false},
		{42, 20, "2024-12-28 11:00", true, true},  // Saturday hours
		{42, 20, "2024-12-29 11:00", true, false}, // Sunday
		{42, 20, "2025-01-01 11:00", true, false}, // a Wednesday off
		{42, 20, "2025-01-26 11:00", true, true},  // a Sunday worked
		{43, 20, "2024-12-30 11:00", false, false},
		{43, 11, "2024-12-30 11:00", true, true},
		{44, 10, "2024-12-30 11:00", false, false},
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", tt.at, time.FixedZone("CST", 8*3600))
		if err != nil {
			t.Fatal(err)
		}
		if ever, now := p.Admits(tt.person, tt.door, at); ever != tt.ever || now != tt.now {
			t.Errorf("%d at %d, %s: %v %v", tt.person, tt.door, tt.at, ever, now)
		}
	}
	if _, denied := p.Deny(desfire.UID{4, 9}); !denied {
		t.Error("not denied")
	}
}

func TestSignedPacks(t *testing.T) {
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	public := private.Public().(ed25519.PublicKey)
	pack, err := plan().Sign(private)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := desfire.OpenPlan(public, pack); err != nil || p.Version != 3 {
		t.Errorf("%+v %v", p, err)
	}
	pack[9] ^= 1
	if _, err := desfire.OpenPlan(public, pack); !errors.Is(err, desfire.ErrMAC) {
		t.Errorf("%v", err)
	}
	for name, change := range map[string]func(p *desfire.Plan){
		"doors out of order":   func(p *desfire.Plan) { p.Zones[0].Doors = []uint32{11, 10} },
		"grant of no zone":     func(p *desfire.Plan) { p.Grants[0].Zone = 9 },
		"grants out of order":  func(p *desfire.Plan) { p.Grants[2].Person = 1 },
		"window without hours": func(p *desfire.Plan) { p.Schedules[0].Windows[0].To = 0 },
		"past midnight":        func(p *desfire.Plan) { p.Schedules[0].Windows[0].To = 1441 },
	} {
		p := plan()
		change(&p)
		if _, err := p.Sign(private); !errors.Is(err, desfire.ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := menu()
	if pack, err = m.Sign(private); err != nil {
		t.Fatal(err)
	}
	if got, err := desfire.OpenMenu(public, pack); err != nil || got.Meals[1].ZH != "午餐" {
		t.Errorf("%+v %v", got, err)
	}
	m.Meals[1].From = 100
	if _, err := m.Sign(private); !errors.Is(err, desfire.ErrSettings) {
		t.Errorf("overlapping meals: %v", err)
	}
}

func menu() desfire.Menu {
	return desfire.Menu{
		Version: 2, Made: time.Unix(1735452000, 0).UTC(),
		Meals: []desfire.Meal{
			{ID: 1, From: 390, To: 540, Percent: 100, Subsidy: 500, EN: "breakfast", ZH: "早餐", Dishes: []desfire.Dish{{1, 200, "congee", "粥"}}},
			{ID: 2, From: 660, To: 810, Percent: 50, Subsidy: 800, EN: "lunch", ZH: "午餐", Dishes: []desfire.Dish{{1, 1200, "noodles", "面条"}, {2, 300, "soup", "汤"}}},
		},
		Denied: []desfire.Denial{{desfire.UID{4, 9}, 1}},
	}
}

func TestMealShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := desfire.Meal{Percent: rapid.ByteRange(0, 100).Draw(t, "percent"), Subsidy: rapid.Uint32Range(0, 5000).Draw(t, "most")}
		fen := rapid.Uint32().Draw(t, "fen")
		share := m.Share(fen)
		exact := uint64(fen) * uint64(m.Percent)
		if share > fen || share > m.Subsidy || uint64(share)*100 > exact || share < m.Subsidy && uint64(share)*100+100 <= exact {
			t.Fatalf("%d of %d", share, fen)
		}
	})
}
