package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// emv-tool: openemv/emv-utils, tools/emv-tool.c, src/emv.c, emv_tal.c, emv_app.c,
// emv_oda.c, emv_rsa.c; its configuration: src/emv_config_xml.c,
// tests/emv_config_xml_test.c, tools/emv-config.xsd.

// A toolKernel is its contact kernel with a configuration.
type toolKernel struct {
	*plug
	config, icc map[tlv.Tag][]byte
	aids        []string // partial matches, in order
	ca          emv.CAKey
	static      []byte // records for authentication
	pdol        []byte
}

// configure reads the exported file as the kernel does: names of elements and
// attributes, spaces, nothing twice, the hash that must fit.
func (k *toolKernel) configure(text string) {
	k.t.Helper()
	var c struct {
		XMLName xml.Name `xml:"emv"`
		Data    []struct {
			TLV []emvToolTLV `xml:"tlv"`
		} `xml:"data"`
		Apps []emvToolApp `xml:"app"`
		Keys []emvToolKey `xml:"capk"`
	}
	if err := xml.Unmarshal([]byte(text), &c); err != nil || len(c.Data) != 1 || len(c.Apps) == 0 || len(c.Keys) != 1 {
		k.t.Fatalf("%v in %s", err, text)
	}
	list := c.Data[0].TLV
	for _, a := range c.Apps {
		if n := len(unhexed(a.AID)); n < 5 || n > 16 || a.Match != "partial" && a.Match != "exact" {
			k.t.Errorf("app %+v", a)
		}
		k.aids = append(k.aids, a.AID)
	}
	k.config = map[tlv.Tag][]byte{}
	for _, x := range append(list, c.Apps[0].Data...) {
		var tag uint32
		_, err := fmt.Sscanf(x.ID, "%X", &tag)
		if v := unhexed(x.Value); err != nil || len(v) == 0 || k.config[tlv.Tag(tag)] != nil {
			k.t.Errorf("tlv %+v", x)
		}
		k.config[tlv.Tag(tag)] = unhexed(x.Value)
	}
	key := c.Keys[0]
	k.ca = emv.CAKey{RID: [5]byte(unhexed(key.RID)), Index: unhexed(key.Index)[0], Modulus: unhexed(key.Modulus), Exponent: unhexed(key.Exponent)}
	sum := sha1.Sum(append(append(append(unhexed(key.RID), unhexed(key.Index)...), k.ca.Modulus...), k.ca.Exponent...))
	if key.HashID != "01" || upper(sum[:]) != key.Hash {
		k.t.Errorf("the key's hash %s of kind %s", key.Hash, key.HashID)
	}
	for tag, n := range map[tlv.Tag]int{0x9F1B: 4, 0x9F33: 3, 0x9F35: 1, 0x9F40: 5, 0x9F49: 3, 0x9F1A: 2, 0x9F09: 2} {
		if len(k.config[tag]) != n {
			k.t.Errorf("configuration %X: %X", tag, k.config[tag])
		}
	}
}

// candidates are read from PSE: SFI of one byte, records until 6A83 and no other
// word, a label in every entry.
func (k *toolKernel) candidates() (list []string) {
	k.t.Helper()
	sfi := k.at(k.ok("00A404000E315041592E5359532E444446303100"), 0x6F, 0xA5, 0x88)
	if len(sfi) != 1 {
		k.t.Fatalf("SFI %X", sfi)
	}
	for n := 1; ; n++ {
		data, sw := k.do(fmt.Sprintf("00B2%02X%02X00", n, sfi[0]<<3|4))
		if sw == iso7816.SWRecordNotFound {
			return list
		}
		if sw != iso7816.OK || n > 20 {
			k.t.Fatalf("record %d of PSE: %v", n, sw)
		}
		entry := k.at(data, 0x70, 0x61)
		if len(k.at(entry, 0x50)) == 0 {
			k.t.Error("no label")
		}
		aid := upper(k.at(entry, 0x4F))
		for _, known := range k.aids {
			if strings.HasPrefix(aid, known) {
				list = append(list, aid)
				break
			}
		}
	}
}

// dol fills a list from the terminal's data: what is not there is zeros.
func (k *toolKernel) dol(raw []byte, more map[tlv.Tag][]byte) []byte {
	k.t.Helper()
	list, err := emv.ParseDOL(raw)
	if err != nil {
		k.t.Fatal(err)
	}
	return list.Append(nil, func(t tlv.Tag) []byte {
		if v, ok := more[t]; ok {
			return v
		}
		return k.config[t]
	})
}

// read takes the records of the locator: templates 70 without anything after
// them, every object once, the mandatory ones.
func (k *toolKernel) read(afl []byte) {
	k.t.Helper()
	if len(afl) == 0 || len(afl)%4 != 0 {
		k.t.Fatalf("AFL %X", afl)
	}
	for ; len(afl) > 0; afl = afl[4:] {
		sfi, first, last, signed := afl[0]>>3, afl[1], afl[2], afl[3]
		if sfi < 1 || sfi > 30 || first == 0 || last < first || int(signed) > int(last-first)+1 {
			k.t.Fatalf("AFL entry %X", afl[:4])
		}
		for n := first; n <= last; n++ {
			data := k.ok(fmt.Sprintf("00B2%02X%02X00", n, sfi<<3|4))
			tag, body, rest, err := tlv.Next(data)
			if err != nil || tag != 0x70 || len(rest) != 0 {
				k.t.Fatalf("record %d of %d: %X", n, sfi, data)
			}
			if n < first+signed {
				k.static = append(k.static, body...)
			}
			for len(body) > 0 {
				var v []byte
				if tag, v, body, err = tlv.Next(body); err != nil || k.icc[tag] != nil {
					k.t.Fatalf("%X twice or broken: %v", tag, err)
				}
				k.icc[tag] = v
			}
		}
	}
	for _, tag := range []tlv.Tag{0x5A, 0x5F24, 0x8C, 0x8D} {
		if k.icc[tag] == nil {
			k.t.Errorf("no %X", tag)
		}
	}
}

// authenticate is DDA, which 7C00 and a terminal with all three come to: the
// chain to the authority, PAN and issuer's digits byte by byte, the tag list
// that may hold 82 only, INTERNAL AUTHENTICATE.
func (k *toolKernel) authenticate(aip []byte) {
	k.t.Helper()
	if k.config[0x9F33][2]&0x40 == 0 || aip[0]&0x20 == 0 || aip[0]&0x01 != 0 {
		k.t.Fatalf("AIP %X", aip)
	}
	if k.icc[0x8F][0] != k.ca.Index || !bytes.Equal(k.icc[0x9F4A], []byte{0x82}) || len(k.icc[0x90]) != len(k.ca.Modulus) {
		k.t.Fatalf("key %X, tag list %X, certificate of %d bytes", k.icc[0x8F], k.icc[0x9F4A], len(k.icc[0x90]))
	}
	pan := strings.TrimRight(upper(k.icc[0x5A]), "F")
	get := func(t tlv.Tag) []byte { return k.icc[t] }
	issuer, own, err := emv.RecoverChain(k.ca, get, append(k.static, aip...), emv.Check{PAN: pan, Date: [3]byte{0x26, 0x11, 0x30}})
	if err != nil {
		k.t.Fatal(err)
	}
	if len(issuer.Owner)%2 != 0 || !strings.HasPrefix(pan, issuer.Owner) || own.Owner != pan || own.Key.Size() < 64 || len(k.icc[0x9F46]) != issuer.Key.Size() {
		k.t.Errorf("issuer %+v, card %+v", issuer, own)
	}
	values := k.dol(k.icc[0x9F49], map[tlv.Tag][]byte{0x9F37: {1, 2, 3, 4}})
	a := k.ok(fmt.Sprintf("00880000%02X%X00", len(values), values))
	tag, v, rest, err := tlv.Next(a)
	if err == nil && tag == 0x77 {
		v, tag = k.at(a, 0x77, 0x9F4B), 0x80
	}
	if err != nil || tag != 0x80 || len(rest) != 0 || len(v) != own.Key.Size() {
		k.t.Fatalf("INTERNAL AUTHENTICATE: %X", a)
	}
	if _, err := emv.VerifyDDA(own.Key, v, values); err != nil {
		k.t.Error(err)
	}
}

// decline is the first GENERATE AC, which asks for an AAC always.
func (k *toolKernel) decline() {
	k.t.Helper()
	for _, o := range []string{"9F36", "9F13"} { // velocity checking, where the card has limits
		if data := k.ok("80CA" + o + "00"); len(k.at(data, tlv.Tag(uint32(unhexed(o)[0])<<8|uint32(unhexed(o)[1])))) != 2 {
			k.t.Errorf("GET DATA %s: %X", o, data)
		}
	}
	values := k.dol(k.icc[0x8C], map[tlv.Tag][]byte{0x9F02: unhexed("000000000100"), 0x9A: unhexed("261130"), 0x5F2A: unhexed("0978"),
		0x9C: {0}, 0x9F37: {1, 2, 3, 4}, 0x95: unhexed("0000008000"), 0x9F21: unhexed("182000")})
	a := k.ok(fmt.Sprintf("80AE0000%02X%X00", len(values), values))
	tag, v, _, err := tlv.Next(a)
	switch {
	case err == nil && tag == 0x80 && len(v) >= 11 && len(v) <= 43:
	case err == nil && tag == 0x77:
		v = append(append(k.at(v, 0x9F27), k.at(v, 0x9F36)...), k.at(v, 0x9F26)...)
	default:
		k.t.Fatalf("GENERATE AC: %X %v", a, err)
	}
	if v[0]&0xC0 != 0x00 {
		k.t.Errorf("cryptogram information %02X", v[0])
	}
}

// emv-tool with the exported configuration accepts the published card by contact,
// verifies its chain and its signature and ends with the cryptogram.
func TestClientEMVTool(t *testing.T) {
	r := koala(t, "", "card", "ca", "export", "--format", "xml-emv-tool", "--test-cards")
	if r.code != exitFine {
		t.Fatal(r.errs)
	}
	for _, personality := range []string{"contact-t0", "contact-t1"} {
		t.Run(personality, func(t *testing.T) {
			k := &toolKernel{plug: plugIn(t, personality, gp.AES), icc: map[tlv.Tag][]byte{}}
			k.configure(r.out)
			if sw := k.refuses("FFCA000000"); sw == iso7816.OK {
				t.Error("a contact card with a UID")
			}
			list := k.candidates()
			if len(list) != 1 {
				t.Fatalf("candidates %v", list)
			}
			fci := k.ok(fmt.Sprintf("00A40400%02X%s00", len(list[0])/2, list[0]))
			if upper(k.at(fci, 0x6F, 0x84)) != list[0] || len(k.at(fci, 0x6F, 0xA5, 0x50)) == 0 {
				t.Errorf("FCI %X", fci)
			}
			k.pdol = k.dol(k.at(fci, 0x6F, 0xA5, 0x9F38), map[tlv.Tag][]byte{0x9F02: unhexed("000000000100"), 0x5F2A: unhexed("0978")})
			v := k.at(k.ok(fmt.Sprintf("80A80000%02X83%02X%X00", len(k.pdol)+2, len(k.pdol), k.pdol)), 0x80)
			k.read(v[2:])
			k.authenticate(v[:2])
			k.decline()
		})
	}
}
