package qpboc

import (
	"bytes"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// Every group is checked before it is kept.
func TestPersonalisationIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name string
		dgi  uint16
		data string
		sw   iso7816.SW
	}{
		{"no such group", 0x7000, "00", iso7816.SWReferenceNotFound},
		{"record 0", 0x0100, "7000", iso7816.SWReferenceNotFound},
		{"record without template", 0x0101, "5A0112", iso7816.SWData},
		{"record with a tail", 0x0101, "700000", iso7816.SWData},
		{"record broken inside", 0x0101, "70035A0512", iso7816.SWData},
		{"record", 0x0101, "70035A0112", iso7816.OK},
		{"9F10", pboc.DGIApplication, "9F1008 0701020300000001", iso7816.SWData}, // CVN 02
		{"9F10 of another maker", pboc.DGIApplication, "9F1007 06010A03A00000", iso7816.SWData},
		{"keys too short", pboc.DGIKeys, "00", iso7816.SWData},
		{"check values", pboc.DGIKeyChecks, "000000000000000000", iso7816.SWData},
		{"check values, two", pboc.DGIKeyChecks, "000000000000", iso7816.SWData},
		{"FCI without A5", pboc.DGIFCI, "9F3800", iso7816.SWData},
		{"PDOL too short for a cryptogram", pboc.DGIFCI, "A5089F38059F66049C01", iso7816.SWData},
		{"PDOL broken", pboc.DGIContactFCI, "A5059F3802DF60", iso7816.SWData},
		{"contact FCI", pboc.DGIContactFCI, "A5035001AA", iso7816.OK},
		{"AFL", pboc.DGIOptions, "82027C00 9404 10020101", iso7816.SWData},
		{"options", pboc.DGIOptions, "82027C00", iso7816.SWData},
		{"object not of the list", pboc.DGIObjects, "9F360200FF", iso7816.SWData},
		{"object too long", pboc.DGIObjects, "9F680591000000FF", iso7816.SWData},
		{"amount", pboc.DGIECash, "9F790600000000000A", iso7816.SWData},
		{"log format", pboc.DGIObjects, "9F4F039F02FF", iso7816.SWData},
		{"load log format", pboc.DGIObjects, "DF4F039F0240", iso7816.SWData},
		{"PIN", pboc.DGIPIN, "241234FFFFFFFFFF", iso7816.SWData},
		{"PIN digits", pboc.DGIPIN, "24123AFFFFFFFFFF 8000000000000000", iso7816.SWData},
		{"PIN tries", pboc.DGIPINTries, "0403", iso7816.SWData},
		{"no tries", pboc.DGIPINTries, "0000", iso7816.SWData},
		{"key part without padding", pboc.DGIPrimeP, "00", iso7816.SWData},
		{"another list of files", pboc.DGIFiles, "15010000800280", iso7816.SWConditions},
		{"the same list", pboc.DGIFiles, hexOf(pboc.FileBytes(issued().Files)), iso7816.OK},
		{"file outside", pboc.DGIFiles, "14010000800280", iso7816.SWData},
		{"opening keys", pboc.DGIOpenKeys, "00", iso7816.SWData},
		{"industry record too long", 0x1501, hexOf(make([]byte, 16+129)), iso7816.SWData},
		{"industry record without key", 0x1501, "0221", iso7816.SWData},
		{"industry record beyond the end", 0x1506, hexOf(make([]byte, 20)), iso7816.SWData},
		{"industry record of no file", 0x1701, hexOf(make([]byte, 20)), iso7816.SWConditions},
	} {
		b := newBench(t, issued())
		if sw := b.e.Personalise(b.self, tt.dgi, unhex(tt.data)); sw != tt.sw {
			t.Errorf("%s: %v", tt.name, sw)
		}
	}
	b := blank(t)
	if sw := b.e.Personalise(b.self, pboc.DGIOpenKeys, make([]byte, 16)); sw != iso7816.SWConditions {
		t.Errorf("opening keys without files: %v", sw)
	}
	if sw := b.e.Personalise(b.self, pboc.DGIKeys, make([]byte, 48)); sw != iso7816.SWData {
		t.Errorf("keys without algorithm: %v", sw)
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789ABCDEF"
	var out []byte
	for _, x := range b {
		out = append(out, digits[x>>4], digits[x&15])
	}
	return string(out)
}

// Keys whose check values have not come make no card.
func TestKeysNeedTheirCheckValues(t *testing.T) {
	b := newBench(t, issued())
	if sw := b.e.Personalise(b.self, pboc.DGIKeys, bytes.Repeat([]byte{7}, 48)); !sw.OK() {
		t.Fatal(sw)
	}
	b.want(iso7816.SWFileNotFound, b.tap())
	kcv := pboc.KCV(pboc.TripleDES, [16]byte(bytes.Repeat([]byte{7}, 16)))
	if sw := b.e.Personalise(b.self, pboc.DGIKeyChecks, bytes.Repeat(kcv[:], 3)); !sw.OK() {
		t.Fatal(sw)
	}
	b.want(iso7816.OK, b.tap())
}

// FuzzPersonalisation: whatever groups a security domain sends, the card does not
// fall over, neither then nor in the transactions after.
func FuzzPersonalisation(f *testing.F) {
	for _, g := range issued(withSM).Personalisation().DGIs() {
		if len(g.Data) < 256 {
			f.Add(append([]byte{byte(g.ID >> 8), byte(g.ID), byte(len(g.Data))}, g.Data...))
		}
	}
	f.Add(tlv.Append([]byte{0x0D, 0x01, 0x06}, 0x9F53, []byte{9, 9, 9}))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := newBench(t, issued())
		for len(in) >= 3 {
			dgi, n := uint16(in[0])<<8|uint16(in[1]), min(int(in[2]), len(in)-3)
			b.e.Personalise(b.self, dgi, in[3:3+n])
			in = in[3+n:]
		}
		for _, iface := range []card.Interface{card.Contactless, card.Contact} {
			b.iface, b.fci = iface, nil
			if r := b.tap(); !r.SW.OK() {
				continue
			}
			dol, _ := tlv.Find(b.fci, emv.TagPDOL)
			if list, err := emv.ParseDOL(dol); err != nil || list.Len() > emv.MaxDOLData {
				t.Fatalf("the card took the PDOL %X", dol)
			}
			r := b.gpo()
			if afl, err := emv.ParseAFL(value(r, emv.TagAFL)); err == nil {
				for i, x := range afl.Records() {
					if i < 20 {
						b.send(iso7816.ReadRecord(x.Number, x.SFI, 0))
					}
				}
			}
			cdol, _ := tlv.Find(b.send(iso7816.ReadRecord(1, 5, 0)).Data, emv.TagCDOL1)
			if list, err := emv.ParseDOL(cdol); err == nil && list.Len() <= 255 {
				b.generate(emv.TagCDOL1, 0x40)
			}
			b.send(pboc.ReadSignedLoadLog(pboc.LoadLogSFI))
		}
	})
}
