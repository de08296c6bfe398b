package main

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"koala/card/catalog"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// GlobalPlatformPro: martinpaljak/GlobalPlatformPro, GPSession, GPData,
// GPRegistry, GPKeyInfo, SCP03Wrapper and GPTool. gpshell3: kaoh/globalplatform,
// gpshell/src/gpshell3.c and globalplatform/src/globalplatform.c.

// A manager is one of the two with its secure channel.
type manager struct {
	*plug
	h *gp.Host
}

// open is what every command with keys begins with. le is the trailing byte that
// one program sends with commands and the other leaves out.
func (m *manager) open(keys gp.KeySet, version byte, level gp.Level, protocol byte) {
	m.t.Helper()
	host := [8]byte{1, 2, 3, 4, 5, 6, 7, byte(level)}
	raw := m.ok(fmt.Sprintf("8050%02X0008%X00", version, host))
	if n := len(raw); n != 28 && n != 29 && n != 32 {
		m.t.Fatalf("INITIALIZE UPDATE answers %d bytes", n)
	}
	a, err := gp.ParseInitAnswer(raw)
	if err != nil || a.Protocol != protocol || version != 0 && a.Version != version {
		m.t.Fatalf("%+v %v", a, err)
	}
	h, auth, err := gp.NewHost(keys, host, a, level)
	if err != nil {
		m.t.Fatal(err)
	}
	m.ok(upper(auth.Bytes()))
	m.h = h
}

// run wraps a command given in plain and unwraps its answer.
func (m *manager) run(plain string) ([]byte, iso7816.SW) {
	m.t.Helper()
	c, err := iso7816.ParseCommand(unhexed(plain))
	if err != nil {
		m.t.Fatalf("%s: %v", plain, err)
	}
	w, err := m.h.Wrap(c)
	if err != nil {
		m.t.Fatal(err)
	}
	w.Le = c.Le
	data, sw := m.do(upper(w.Bytes()))
	r, err := m.h.Unwrap(iso7816.Response{Data: data, SW: sw})
	if err != nil {
		m.t.Fatalf("%s: %v", plain, err)
	}
	return r.Data, r.SW
}

func (m *manager) must(plain string) []byte {
	m.t.Helper()
	data, sw := m.run(plain)
	if sw != iso7816.OK {
		m.t.Fatalf("%s: %v", plain, sw)
	}
	return data
}

// sends codes a command of content management with a trailing byte or none.
func sends(ins, p1, p2 byte, data []byte, le string) string {
	return fmt.Sprintf("80%02X%02X%02X%02X%X%s", ins, p1, p2, len(data), data, le)
}

func lv(fields ...string) (out []byte) {
	for _, f := range fields {
		b := unhexed(f)
		out = append(append(out, byte(len(b))), b...)
	}
	return out
}

// registry is GET STATUS of every subset, "next" while 6310, and what the
// programs read of it.
func (m *manager) registry(order string) map[string][]gp.Entry {
	m.t.Helper()
	out := map[string][]gp.Entry{}
	for _, p1 := range unhexed(order) {
		var all []byte
		for p2 := byte(2); ; p2 = 3 {
			data, sw := m.run(sends(0xF2, p1, p2, []byte{0x4F, 0}, "00"))
			all = append(all, data...)
			if sw == 0x6A88 && len(data) == 0 || sw == iso7816.OK {
				break
			}
			if sw != 0x6310 || len(data) == 0 {
				m.t.Fatalf("GET STATUS %02X: %v", p1, sw)
			}
		}
		for rest := all; len(rest) > 0; {
			tag, v, after, err := tlv.Next(rest)
			if err != nil || tag != 0xE3 {
				m.t.Fatalf("GET STATUS %02X: %X", p1, rest)
			}
			if name := m.at(v, 0x4F); len(name) < 5 || len(name) > 16 || len(m.at(v, 0x9F70)) == 0 {
				m.t.Fatalf("GET STATUS %02X: %X", p1, v)
			}
			if priv, ok := tlv.Find(v, 0xC5); ok && len(priv) != 1 && len(priv) != 3 {
				m.t.Fatalf("privileges %X", priv)
			}
			rest = after
		}
		list, err := gp.ParseStatus(all)
		if err != nil {
			m.t.Fatal(err)
		}
		out[fmt.Sprintf("%02X", p1)] = list
	}
	return out
}

func find(list []gp.Entry, aid string) *gp.Entry {
	i := slices.IndexFunc(list, func(e gp.Entry) bool { return upper([]byte(e.AID)) == aid })
	if i < 0 {
		return nil
	}
	return &list[i]
}

const (
	strangerFile   = "D27600012401"
	strangerApplet = "D2760001240102"
	strangerDomain = "A000000151535041AA"
	secondCard     = "A000000333010102"
	gpOrder        = "80401020"
)

// A gpCase is one way to reach the card: protocol, level, interface.
type gpCase struct {
	kind        gp.KeyType
	level       gp.Level
	personality string
}

func (c gpCase) protocol() byte {
	if c.kind == gp.DES {
		return 2
	}
	return 3
}

func gpCases() (list []gpCase) {
	for kind, levels := range map[gp.KeyType][]gp.Level{gp.DES: {0x00, 0x01, 0x03, 0x11, 0x13}, gp.AES: {0x00, 0x01, 0x03, 0x11, 0x13, 0x33}} {
		for i, level := range levels {
			list = append(list, gpCase{kind, level, []string{"contact-t1", "contact-t0", "contactless"}[i%3]})
		}
	}
	return append(list, gpCase{gp.DES, 1, "contact-t0"}, gpCase{gp.AES, 1, "contact-t0"})
}

// gp -i, -l, --install CAP, --create, --store-dgi-file, --lock-applet, --move,
// --domain, --delete, --lock, --lock-card, under every level of both protocols.
func TestClientGlobalPlatformPro(t *testing.T) {
	for _, c := range gpCases() {
		t.Run(fmt.Sprintf("SCP0%d-%02X-%s", c.protocol(), byte(c.level), c.personality), func(t *testing.T) {
			m := &manager{plug: plugIn(t, c.personality, c.kind)}
			m.sameClass = true
			m.proInfo(c)
			m.open(gp.FactoryKeys(), 0, c.level, c.protocol())
			m.proContent()
			m.proPersonalises()
			m.proLocks(c)
			m.proKeys(c)
		})
	}
}

// proInfo is -i: SELECT without a name, then objects without a channel.
func (m *manager) proInfo(c gpCase) {
	m.t.Helper()
	fci := m.ok("00A4040000")
	if aid := m.at(fci, 0x6F, 0x84); upper(aid) != "A000000151000000" {
		m.t.Fatalf("the domain is %X", aid)
	}
	if o := m.at(fci, 0x6F, 0xA5, 0x73, 0x06); upper(o) != "2A864886FC6B01" {
		m.t.Errorf("card recognition data %X", o)
	}
	if n := m.at(fci, 0x6F, 0xA5, 0x9F65); len(n) == 0 || len(n) > 2 {
		m.t.Errorf("longest data %X", n)
	}
	if cplc := m.ok("80CA9F7F00"); len(cplc) != 45 || !bytes.HasPrefix(cplc, []byte{0x9F, 0x7F, 0x2A}) {
		m.t.Errorf("CPLC %X", cplc)
	}
	for _, o := range []string{"0042", "0045", "00CF", "00C1", "0067"} {
		if data := m.ok("80CA" + o + "00"); data[0] != unhexed(o)[1] || int(data[1]) != len(data)-2 {
			m.t.Errorf("object %s: %X", o, data)
		}
	}
	option := map[byte]byte{2: 0x15, 3: 0x70}[c.protocol()]
	if o := m.at(m.ok("80CA006600"), 0x66, 0x73, 0x64, 0x06); !bytes.Equal(o, append(unhexed("2A864886FC6B04"), c.protocol(), option)) {
		m.t.Errorf("secure channel %X", o)
	}
	m.keysAre(m.ok("80CA00E000"), gp.FactoryVersion, c.kind)
}

// keysAre reads a key information template: C0 of four bytes each.
func (m *manager) keysAre(template []byte, version byte, kind gp.KeyType) {
	m.t.Helper()
	rest := m.at(template, 0xE0)
	for id := byte(1); id <= 3; id++ {
		tag, v, after, err := tlv.Next(rest)
		if err != nil || tag != 0xC0 || !bytes.Equal(v, []byte{id, version, byte(kind), 16}) {
			m.t.Fatalf("key template %X", template)
		}
		rest = after
	}
	if len(rest) != 0 {
		m.t.Errorf("key template %X", template)
	}
}

// proContent lists, loads a CAP file with code this card cannot know, installs
// from it, deletes it with what hangs on it; makes a domain and moves into it.
func (m *manager) proContent() {
	m.t.Helper()
	before := m.registry(gpOrder)
	if isd := before["80"]; len(isd) != 1 || find(before["40"], "A000000333010101") == nil || find(before["10"], "A00000033301").Modules == nil {
		m.t.Fatalf("registry %v", before)
	}
	m.must(sends(0xE6, 0x02, 0, lv(strangerFile, "A000000151000000", "", "", ""), ""))
	code := append(unhexed("C482044C"), bytes.Repeat([]byte{0xDE}, 0x044C)...)
	for block, size := byte(0), m.h.MaxData(); len(code) > 0; block++ {
		n, p1 := min(size, len(code)), byte(0)
		if n == len(code) {
			p1 = 0x80
		}
		if a := m.must(sends(0xE8, p1, block, code[:n], "")); !bytes.Equal(a, []byte{0}) {
			m.t.Errorf("LOAD answers %X", a)
		}
		code = code[n:]
	}
	if a := m.must(sends(0xE6, 0x0C, 0, lv(strangerFile, strangerApplet, strangerApplet, "00", "C900", ""), "")); !bytes.Equal(a, []byte{0}) {
		m.t.Errorf("INSTALL answers %X", a)
	}
	if e := find(m.registry(gpOrder)["40"], strangerApplet); e == nil || e.State != gp.Selectable {
		m.t.Errorf("the new applet %+v", e)
	}
	if _, sw := m.run(sends(0xE4, 0, 0, tlv.Append(nil, 0x4F, unhexed(strangerFile)), "")); sw != iso7816.SWConditions {
		m.t.Errorf("DELETE of a load file with an instance: %v", sw)
	}
	m.must(sends(0xE4, 0, 0x80, tlv.Append(nil, 0x4F, unhexed(strangerFile)), ""))
	if _, sw := m.run(sends(0xE4, 0, 0, tlv.Append(nil, 0x4F, unhexed(strangerFile)), "")); sw != 0x6A88 {
		m.t.Errorf("DELETE of nothing: %v", sw)
	}
	protocol := upper(m.at(m.must("80CA006600"), 0x66, 0x73, 0x64, 0x06)[7:])
	m.must(sends(0xE6, 0x0C, 0, lv("A0000001515350", "A000000151535041", strangerDomain, "80", "C90C8102"+protocol+"820220208702"+"2020", ""), ""))
	m.must(sends(0xE6, 0x0C, 0, lv("F06B6F616C6104", "F06B6F616C610401", "F06B6F616C610499", "00", "C900", ""), ""))
	m.must(sends(0xE6, 0x10, 0, lv(strangerDomain, "", "F06B6F616C610499", "", "", ""), ""))
	after := m.registry(gpOrder)["40"]
	if d, x := find(after, strangerDomain), find(after, "F06B6F616C610499"); d == nil || !d.Privileges.Has(gp.PrivSecurityDomain) || x == nil || upper([]byte(x.Domain)) != strangerDomain {
		m.t.Errorf("domain %+v and application %+v", d, x)
	}
	m.must(sends(0xE4, 0, 0, tlv.Append(nil, 0x4F, unhexed("F06B6F616C610499")), ""))
	m.must(sends(0xE4, 0, 0, tlv.Append(nil, 0x4F, unhexed(strangerDomain)), ""))
}

// proPersonalises is --create and --store-dgi-file: no structure named, a whole
// grouping a command, wholly enciphered where the file says so.
func (m *manager) proPersonalises() {
	m.t.Helper()
	m.must(sends(0xE6, 0x0C, 0, lv(upper([]byte(catalog.PaymentLoadFile)), upper([]byte(catalog.PaymentModule)), secondCard, "00", "C900", ""), ""))
	private, err := testCardPrimes.key()
	if err != nil {
		m.t.Fatal(err)
	}
	c, err := bankCard(private)
	if err == nil {
		c, err = certified(c, private)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.must(sends(0xE6, 0x20, 0, lv("", "", secondCard, "", "", ""), "00"))
	groups := c.Personalisation().DGIs()
	for i, g := range groups {
		p1, value := byte(0), g.Data
		if g.Secret == len(g.Data) {
			p1 = 0x60
		}
		if g.Secret > 0 {
			sealed, err := m.h.EncryptKey(value[:g.Secret])
			if err != nil {
				m.t.Fatal(err)
			}
			value = append(sealed, value[g.Secret:]...)
		}
		if i == len(groups)-1 {
			p1 |= 0x80
		}
		x := iso7816.Command{CLA: 0x80, INS: 0xE2, P1: p1, P2: byte(i), Data: gp.DGI{ID: g.ID, Data: value}.Append(nil)}
		m.must(upper(x.Bytes()))
	}
	m.must(sends(0xE6, 0x20, 0, lv("", "", "F06B6F616C610410", "", "", ""), "00")) // --store-data takes P1 01
	m.run(sends(0xE2, 0x81, 0, unhexed("0000"), "00"))
	if data, sw := m.run(sends(0xE2, 0x81, 0, unhexed("4204"+testIIN), "00")); sw != iso7816.OK {
		m.t.Errorf("STORE DATA of the domain: %X %v", data, sw)
	}
}

// proLocks is --lock-applet and --unlock-applet, then --lock-card and
// --unlock-card of a card that nobody has secured.
func (m *manager) proLocks(c gpCase) {
	m.t.Helper()
	lock := func(state byte) { m.must(sends(0xF0, 0x40, state, unhexed(secondCard), "")) }
	lock(0x80)
	if e := find(m.registry("40")["40"], secondCard); e.State&gp.LockBit == 0 {
		m.t.Errorf("locked: %02X", e.State)
	}
	m.refuses("00A4040008" + secondCard + "00")
	m.reopen(c, gp.FactoryKeys(), 0)
	lock(0x00)
	if r := m.ok("00A4040008" + secondCard + "00"); len(r) == 0 {
		m.t.Error("no FCI after unlocking")
	}
	m.reopen(c, gp.FactoryKeys(), 0)
	m.must("80F0807F")
	m.refuses("00A404000E325041592E5359532E444446303100")
	if _, sw := m.do("00A4040000"); sw != 0x6283 {
		m.t.Errorf("SELECT of a locked card: %v", sw)
	}
	m.open(gp.FactoryKeys(), 0, c.level, c.protocol())
	m.must("80F0800F")
	m.ok("00A404000E325041592E5359532E444446303100")
	m.reopen(c, gp.FactoryKeys(), 0)
	m.must(sends(0xE4, 0, 0, tlv.Append(nil, 0x4F, unhexed(secondCard)), ""))
}

func (m *manager) reopen(c gpCase, keys gp.KeySet, version byte) {
	m.t.Helper()
	m.ok("00A4040008A00000015100000000")
	m.open(keys, version, c.level, c.protocol())
}

// proKeys is --lock: the key template under the channel, then three keys with
// their clear length in front where they are AES; the new version at once.
func (m *manager) proKeys(c gpCase) {
	m.t.Helper()
	m.keysAre(m.must("80CA00E000"), gp.FactoryVersion, c.kind)
	next := gp.KeySet{Version: 1, ENC: bytes.Repeat([]byte{0x11}, 16), MAC: bytes.Repeat([]byte{0x22}, 16), DEK: bytes.Repeat([]byte{0x33}, 16)}
	put := func(p1 byte, set gp.KeySet) {
		cmd, err := m.h.PutKey(p1, set, gp.MeasuredKeys)
		if err != nil {
			m.t.Fatal(err)
		}
		a := m.must(upper(cmd.Bytes()))
		if len(a) != 1 && len(a) != 10 || a[0] != set.Version {
			m.t.Errorf("PUT KEY answers %X", a)
		}
	}
	put(0, next)
	m.reopen(c, next, 1)
	m.keysAre(m.must("80CA00E000"), 1, c.kind)
	next.ENC = bytes.Repeat([]byte{0x44}, 16)
	put(1, next)
	m.reopen(c, next, 0)
	if len(m.registry(gpOrder)["80"]) != 1 {
		m.t.Error("no list with the new keys")
	}
}

// gpshell3: SELECT and commands without Le, the recognition data before the
// channel, keys bare, check values compared, a first set in place of itself.
func TestClientGPShell(t *testing.T) {
	for _, c := range gpCases() {
		if c.level == 0 || c.level == 0x11 || c.level == 0x33 { // levels that it cannot be told
			continue
		}
		t.Run(fmt.Sprintf("SCP0%d-%02X-%s", c.protocol(), byte(c.level), c.personality), func(t *testing.T) {
			m := &manager{plug: plugIn(t, c.personality, c.kind)}
			m.shellData()
			m.ok("00A4040008A000000151000000")
			m.at(m.ok("80CA006600"), 0x66, 0x73, 0x64, 0x06)
			m.open(gp.FactoryKeys(), 0, c.level, c.protocol())
			if r := m.registry("40802010"); len(r["20"]) == 0 || len(r["10"]) == 0 {
				t.Error("no load files")
			}
			m.shellContent(c)
			m.shellKeys(c)
		})
	}
}

// shellData is card-data: one object that is missing is an error to it.
func (m *manager) shellData() {
	m.t.Helper()
	m.ok("00A4040008A000000151000000")
	for _, o := range []string{"0042", "0045", "9F7F", "0066", "0067", "FF21", "00C2", "00C1", "00CF"} {
		if tag, _, rest, err := tlv.Next(m.ok("80CA" + o + "00")); err != nil || len(rest) != 0 || fmt.Sprintf("%04X", uint32(tag)) != o {
			m.t.Errorf("object %s: %v %v", o, tag, err)
		}
	}
	m.refuses("80CA01E000")
}

func (m *manager) shellContent(c gpCase) {
	m.t.Helper()
	protocol := upper(m.at(m.must("80CA006600"), 0x66, 0x73, 0x64, 0x06)[7:])
	m.must(sends(0xE6, 0x0C, 0, lv("A0000001515350", "A000000151535041", strangerDomain, "80", "C90E8102"+protocol+"8202040484010487020404"[:20], ""), ""))
	m.must(sends(0xF0, 0x40, 0x0F, unhexed(strangerDomain), ""))
	m.must(sends(0xF0, 0x60, 0x83, unhexed(strangerDomain), ""))
	m.must(sends(0xF0, 0x60, 0x00, unhexed(strangerDomain), ""))
	m.must(sends(0xE4, 0, 0, tlv.Append(nil, 0x4F, unhexed(strangerDomain)), ""))
	purse := "A000000632010105"
	m.must(sends(0xF0, 0x40, 0x83, unhexed(purse), ""))
	m.refuses("00A4040008" + purse)
	m.ok("00A4040008A000000151000000")
	m.open(gp.FactoryKeys(), 0, c.level, c.protocol())
	m.must(sends(0xF0, 0x40, 0x07, unhexed(purse), ""))
	m.ok("00A4040008" + purse)
	m.ok("00A4040008A000000151000000")
	m.open(gp.FactoryKeys(), 0, c.level, c.protocol())
	fresh := "F06B6F616C610498" // store: groupings without a structure named
	m.must(sends(0xE6, 0x0C, 0, lv("F06B6F616C6104", "F06B6F616C610401", fresh, "00", "C900", ""), ""))
	m.must(sends(0xE6, 0x20, 0, lv("", "", fresh, "", "", ""), ""))
	m.must(sends(0xE2, 0x80, 0, append(unhexed("000108"), testHolder[:]...), ""))
	m.must(sends(0xE6, 0x40, 0, lv("", "", fresh, "000020", "", ""), ""))
}

// shellKeys is put-auth with its defaults: set 1 in place of set 1.
func (m *manager) shellKeys(c gpCase) {
	m.t.Helper()
	set := gp.KeySet{Version: 1, ENC: bytes.Repeat([]byte{5}, 16), MAC: bytes.Repeat([]byte{6}, 16), DEK: bytes.Repeat([]byte{7}, 16)}
	cmd, err := m.h.PutKey(1, set, gp.BareKeys)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd.Le = iso7816.NoLe
	want := []byte{1}
	for _, k := range set.Checks(c.kind) {
		want = append(want, k[:]...)
	}
	if a := m.must(upper(cmd.Bytes())); !bytes.Equal(a, want) {
		m.t.Errorf("PUT KEY answers %X, want %X", a, want)
	}
	m.ok("00A4040008A000000151000000")
	m.open(set, 1, c.level, c.protocol())
	m.keysAre(m.must("80CA00E000"), 1, c.kind)
}
