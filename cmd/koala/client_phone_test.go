package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Phone readers. NFSEE: nfcim/nfsee, assets/read.js. Metrodroid:
// metrodroid/metrodroid, card/china, card/emv, card/iso7816. NFCard:
// sinpolib/nfcard, nfc/reader/pboc.

// A script is NFSEE's read.js: what it finds on a tag of ISO 14443-4 type A.
type script struct{ *plug }

// A found card is what the script reports of one card, by its field names.
type found map[string]any

// tells sends one command and gives all of the answer in hexadecimal.
func (s script) tells(apdu string) string {
	s.t.Helper()
	return s.ask(apdu)
}

func fine(r string) bool { return strings.HasSuffix(r, "9000") }

func number(hexed string) int64 {
	n, _ := strconv.ParseUint(hexed, 16, 64)
	return int64(n)
}

// readAny is the script's order, its early ends included.
func (s script) readAny() []found {
	if r := s.tells("00B0840020"); fine(r) && strings.HasPrefix(r, "1000") {
		return []found{s.beijing(r)}
	}
	if strings.HasSuffix(s.tells("9060000000"), "91AF") {
		return []found{{"card_type": "MifareDESFire"}} // and nothing else is looked for
	}
	var cards []found
	for _, other := range []string{"00A40400075041592E535A54", "00A40400094150312e5748435443", "00A40400085041592E4150505900", "00A4040007D410000003000100",
		"00A404000B535558494E2E4444463031", "00A404000AB0C4C3C5CDA8C7AEB0FC", "00A404000B414D544A41564143415244", "00A4040009A0000000038698070100"} {
		if r := s.tells(other); fine(r) {
			cards = append(cards, found{"card_type": other})
		}
	}
	if r := s.tells("00A4040008A00000063201010500"); fine(r) {
		cards = append(cards, s.tUnion(r))
	}
	if r := s.tells("00A404000E325041592E5359532E444446303100"); fine(r) {
		cards = append(cards, s.ppse(r))
	}
	return cards
}

// purse reads balance, log and both counters of the purse.
func (s script) purse(c found) found {
	if r := s.tells("805C000204"); fine(r) {
		c["balance"] = number(r[:8]) % 0x80000000
	}
	c["purchase_atc"], c["transactions"] = int64(0), 0
	for n := 1; n <= 10; n++ {
		r := s.tells(fmt.Sprintf("00B2%02XC417", n))
		if !fine(r) {
			break
		}
		if n == 1 {
			c["purchase_atc"] = number(r[:4])
		}
		c["transactions"] = n
	}
	if r := s.tells("805000020B010000000100000000000010"); fine(r) {
		c["load_atc"] = number(r[8:12])
	}
	return c
}

func (s script) beijing(file string) found {
	if !fine(s.tells("00A4000002100100")) {
		s.t.Error("no DF 1001")
	}
	return s.purse(found{"card_type": "BMAC", "card_number": file[:16], "issue_date": file[48:56], "expiry_date": file[56:64]})
}

func (s script) tUnion(fci string) found {
	f15 := upper(s.at(unhexed(fci[:len(fci)-4]), 0x6F, 0xA5, 0x9F0C))
	f17 := s.tells("00B097000B")
	if !fine(f17) {
		s.t.Fatalf("file 17: %s", f17)
	}
	return s.purse(found{"card_type": "TUnion", "card_number": strings.TrimLeft(f15[20:40], "0"), "issue_date": f15[40:48], "expiry_date": f15[48:56],
		"province": f17[8:12], "city": f17[12:16], "tu_type": number(f17[20:22])})
}

// scriptPDOL are its answers to a list; what it does not know is zeros.
var scriptPDOL = map[tlv.Tag]string{0x9F66: "26000000", 0x9F02: "000000000001", 0x9F03: "000000000000", 0x9F1A: "0156", 0x95: "0000000000",
	0x5F2A: "0156", 0x9A: "200331", 0x9C: "00", 0x9F37: "11223344"}

func (g *plug) pdol(raw []byte, known map[tlv.Tag]string) []byte {
	k := toolKernel{plug: g}
	values := map[tlv.Tag][]byte{}
	for t, v := range known {
		values[t] = unhexed(v)
	}
	return k.dol(raw, values)
}

func (s script) ppse(fci string) found {
	entry := s.at(unhexed(fci[:len(fci)-4]), 0x6F, 0xA5, 0xBF0C, 0x61)
	aid, label := s.at(entry, 0x4F), strings.ToLower(string(s.at(entry, 0x50)))
	app := unhexed(s.tells(fmt.Sprintf("00A40400%02X%X00", len(aid), aid)))
	app = app[:len(app)-2]
	data := s.pdol(s.at(app, 0x6F, 0xA5, 0x9F38), scriptPDOL)
	r := s.tells(fmt.Sprintf("80A80000%02X83%02X%X00", len(data)+2, len(data), data))
	if !fine(r) {
		s.t.Fatalf("GPO: %s", r)
	}
	gpo := unhexed(r[:len(r)-4])
	track := upper(s.at(gpo, 0x77, 0x57))
	cut := strings.IndexByte(track, 'D')
	c := found{"card_type": hexed(string(aid)), "card_number": track[:cut], "expiration": track[cut+1:cut+3] + "/" + track[cut+3:cut+5],
		"atc": number(upper(s.at(gpo, 0x77, 0x9F36))), "card_category": label[strings.LastIndexByte(label, ' ')+1:]}
	pin := unhexed(s.tells("80CA9F1700"))
	c["pin_retry"] = int(s.at(pin[:len(pin)-2], 0x9F17)[0])
	format := unhexed(s.tells("80CA9F4F00"))
	log := s.at(app, 0x6F, 0xA5, 0xBF0C, 0x9F4D)
	if len(s.at(format[:len(format)-2], 0x9F4F)) == 0 || len(log) != 2 {
		s.t.Errorf("log %X of format %X", log, format)
	}
	for n := byte(1); n <= log[1] && fine(s.tells(fmt.Sprintf("00B2%02X%02X00", n, log[0]<<3|4))); n++ {
		c["transactions"] = int(n)
	}
	return c
}

// NFSEE takes a band over the air for one card with two cards on it, and where
// the Beijing card stands in front, for that card. Its probing moves no money.
func TestClientNFSEE(t *testing.T) {
	for _, tt := range []struct{ personality, want string }{
		{"contactless", `[{"balance":4096,"card_number":"3105170070104791381","card_type":"TUnion","city":"5840","expiry_date":"20401231","issue_date":"20190718",` +
			`"load_atc":1,"province":"5800","purchase_atc":0,"transactions":1,"tu_type":1},` +
			`{"atc":1,"card_category":"debit","card_number":"6228000100001117","card_type":"A000000333010101","expiration":"40/12","pin_retry":3}]`},
		{"beijing", `[{"balance":4096,"card_number":"1000751517007010","card_type":"BMAC","expiry_date":"20401231","issue_date":"20190718",` +
			`"load_atc":1,"purchase_atc":0,"transactions":1}]`},
		{"desfire", `[{"card_type":"MifareDESFire"}]`},
	} {
		g := plugIn(t, tt.personality, gp.AES)
		for range 2 { // twice: what the first reading did to the card would show
			out, err := json.Marshal(script{g}.readAny())
			if got := string(out); err != nil || got != strings.ReplaceAll(tt.want, `"atc":1`, fmt.Sprintf(`"atc":%d`, counted(g))) {
				t.Errorf("%s: %s", tt.personality, got)
			}
			g.ask("02")
		}
		if v := g.look(); *v.Cards[0].Fen != testFen || *v.Cards[1].Fen != testCash {
			t.Errorf("%s: the money has moved: %+v", tt.personality, v.Cards)
		}
	}
}

// counted is the transaction counter after the reading that was.
func counted(g *plug) int {
	v := g.look()
	g.ask("01")
	return *v.Cards[1].Counter
}

// Metrodroid reads every file of a Chinese card by short identifier and by
// SELECT, balances 0 to 3, then the payment cards of both directories.
func TestClientMetrodroid(t *testing.T) {
	g := plugIn(t, "contactless", gp.AES)
	before := g.look()
	g.ask("01")
	g.metro("A000000632010105")
	if got := g.ok("00B0950000"); len(got) < 28 || upper(got[10:20]) != testNumber {
		t.Errorf("file 15 %X", got)
	}
	if got := number(upper(g.ok("805C000204"))) & 0x7FFFFFFF; got != testFen {
		t.Errorf("balance %d", got)
	}
	for _, name := range []string{"4F43", "50424F43", "A00000000386980701", "325041592E5359532E4444463031"} {
		g.do(fmt.Sprintf("00A40400%02X%s00", len(name)/2, name))
	}
	entry := g.at(g.ok("00A404000E325041592E5359532E444446303100"), 0x6F, 0xA5, 0xBF0C, 0x61)
	g.metroSFIs()
	aid := g.at(entry, 0x4F)
	fci := g.ok(fmt.Sprintf("00A40400%02X%X00", len(aid), aid))
	g.metroSFIs()
	data := g.pdol(g.at(fci, 0x6F, 0xA5, 0x9F38), map[tlv.Tag]string{0x5F2A: "0840", 0x9A: "180101", 0x9F02: "000000000001", 0x9F1A: "0840", 0x9F37: "08130CE7", 0x9F66: "F620C000"})
	g.ok(fmt.Sprintf("80A80000%02X83%02X%X00", len(data)+2, len(data), data))
	for _, o := range []string{"9F13", "9F17", "9F36", "9F4F"} {
		g.ok("80CA" + o + "00")
	}
	after := g.look()
	*after.Cards[1].Counter-- // GET PROCESSING OPTIONS counts
	if asJSON(t, before) != asJSON(t, after) {
		t.Errorf("read as %s, then %s", asJSON(t, before), asJSON(t, after))
	}
	g = plugIn(t, "beijing", gp.AES)
	g.metro("50424F43") // the directory's name finds it
	if got := g.metroFile("0004"); !bytes.Equal(got, unhexed(testFile04)) {
		t.Errorf("file 04 %X", got)
	}
}

// metro selects and dumps one Chinese card.
func (g *plug) metro(name string) {
	g.t.Helper()
	g.ok(fmt.Sprintf("00A40400%02X%s00", len(name)/2, name))
	g.metroSFIs()
	for p1 := range 4 {
		if got := g.ok(fmt.Sprintf("805C%02X0204", p1)); len(got) != 4 {
			g.t.Errorf("balance %d: %X", p1, got)
		}
	}
	for _, dir := range []string{"", "1001"} {
		for _, file := range []string{"0004", "0005", "0008", "0009", "000A", "0015", "0018", "0019"} {
			g.metroFile(dir + file)
		}
	}
}

// metroSFIs reads files 0 to 31 whole and by record until there is none.
func (g *plug) metroSFIs() {
	g.t.Helper()
	for sfi := range 32 {
		if data, sw := g.do(fmt.Sprintf("00B0%02X0000", 0x80|sfi)); sw != iso7816.OK && len(data) > 0 {
			g.t.Errorf("file %d: %X %v", sfi, data, sw)
		}
		for n := 1; n <= 255; n++ {
			data, sw := g.do(fmt.Sprintf("00B2%02X%02X00", n, sfi<<3|4))
			if sw != iso7816.OK || len(data) == 0 {
				break
			}
		}
	}
}

// metroFile deselects, selects along a path, and reads.
func (g *plug) metroFile(path string) []byte {
	g.t.Helper()
	g.do("00A4000000")
	for ; path != ""; path = path[4:] {
		if _, sw := g.do("00A4000002" + path[:4] + "00"); sw != iso7816.OK {
			if sw != iso7816.SWFileNotFound {
				g.t.Errorf("SELECT %s: %v", path[:4], sw)
			}
			return nil
		}
	}
	data, _ := g.do("00B0000000")
	for n := 1; n <= 30; n++ {
		if _, sw := g.do(fmt.Sprintf("00B2%02X0400", n)); sw != iso7816.OK {
			break
		}
	}
	return data
}

// NFCard selects the master file or PSE, tries the Beijing card's files, then
// T-Union's balances in the order 3, 2, 1, its log at once, then e-cash by GET
// DATA and every record of files 1 to 10.
func TestClientNFCard(t *testing.T) {
	for _, tt := range []struct{ personality, number string }{{"contactless", ""}, {"beijing", testFile04[:16]}} {
		g := plugIn(t, tt.personality, gp.AES)
		before := g.look()
		g.ask("01")
		if _, sw := g.do("00A40000023F0000"); sw != iso7816.OK {
			g.ok("00A404000E315041592E5359532E444446303100")
		}
		info, sw := g.do("00B0840000")
		if got := upper(info); sw == iso7816.OK != (tt.number != "") || !strings.HasPrefix(got, tt.number) {
			t.Errorf("file 04: %s %v", got, sw)
		}
		g.do("00B0850000")
		if tt.number != "" {
			g.ok("00A4000002100100")
		} else {
			g.ok("00A4040008A00000063201010500")
			if info := g.ok("00B0950000"); len(info) < 30 || upper(info[10:20])[1:] != testNumber[1:] {
				t.Errorf("file 15: %X", info)
			}
		}
		for _, p1 := range []string{"03", "02", "01"} {
			got := number(upper(g.ok("805C" + p1 + "0204")))
			if want := map[string]int64{"03": testFen}[p1]; got != want {
				t.Errorf("balance %s is %d", p1, got)
			}
		}
		if log := g.ok("00B201C500"); len(log) != 23 {
			t.Errorf("log %X", log)
		}
		g.nfcardCash()
		if after := g.look(); asJSON(t, after) != asJSON(t, before) {
			t.Errorf("%s: read as %s, then %s", tt.personality, asJSON(t, before), asJSON(t, after))
		}
	}
}

func (g *plug) nfcardCash() {
	g.t.Helper()
	aid := g.at(g.ok("00A404000E325041592E5359532E444446303100"), 0x6F, 0xA5, 0xBF0C, 0x61, 0x4F)
	g.ok(fmt.Sprintf("00A40400%02X%X00", len(aid), aid))
	seen := map[string]string{}
	for _, o := range []string{"9F79", "9F78", "9F77", "9F13", "9F36", "9F51", "9F4F", "9F4D", "005A", "5F24", "5F25", "DF63", "DF62"} {
		if data, sw := g.do("80CA" + o + "00"); sw == iso7816.OK {
			_, v, _, _ := tlv.Next(data)
			seen[o] = upper(v)
		}
	}
	pan := ""
	for sfi := 1; sfi <= 10; sfi++ {
		for n := 1; n <= 10; n++ {
			data, sw := g.do(fmt.Sprintf("00B2%02X%02X00", n, sfi<<3|4))
			if sw != iso7816.OK {
				break
			}
			if v, ok := tlv.Find(data, 0x70); ok {
				if p, ok := tlv.Find(v, 0x5A); ok {
					pan = upper(p)
				}
			}
		}
	}
	if pan != testPAN || seen["9F79"] != "000000010000" || seen["9F77"] != "000000100000" || seen["9F51"] != "0156" {
		g.t.Errorf("PAN %s, %v", pan, seen)
	}
}
