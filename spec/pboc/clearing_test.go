package pboc_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/spec/emv"
	"koala/spec/pboc"
)

// sale is a record whose cryptogram stands in CARD.md 6.4 #1.
func sale() pboc.Clearing {
	return pboc.Clearing{
		Kind: pboc.ClearSale, PAN: "6228000100001", PSN: 1, AID: []byte("\xA0\x00\x00\x03\x33\x01\x01\x01"),
		AC: [8]byte{0x5D, 0x01, 0x6C, 0x91, 0x00, 0x5E, 0x7C, 0xC2}, IAD: []byte("\x07\x00\x01\x03\xA0\x40\x02\x01"),
		ATC: 0x0240, AIP: [2]byte{0x7D, 0}, UN: [4]byte{0x1E, 0x78, 0xEE, 0xBC}, TVR: [5]byte{0, 0x80, 0x04, 0x60, 0},
		Fen: 1, Currency: 156, Country: 156, Date: [3]byte{0x14, 0x07, 0x01}, Time: [3]byte{0x12, 0x30, 0x59},
		Type: 0, Capabilities: [3]byte{0xE0, 0xE1, 0xC8}, STAN: 42, Batch: 7, TID: "30008900", MID: "898110058120001", Serial: "KOALA001",
	}
}

func TestClearingReadsBack(t *testing.T) {
	for _, c := range []pboc.Clearing{sale(), func() pboc.Clearing {
		c := sale()
		c.PAN, c.Product, c.IssuerCode = "6228000100001123456", bytes.Repeat([]byte{9}, 16), []byte("KOALA1")
		c.Kind, c.Fen, c.Other = pboc.ClearReversal, 999_999_999_999, 5
		return c
	}()} {
		wire, err := c.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		back, err := pboc.ParseClearing(wire)
		if err != nil || back.Key() != c.Key() {
			t.Fatalf("%v, %v", back, err)
		}
		if again, err := back.MarshalBinary(); err != nil || !bytes.Equal(again, wire) {
			t.Errorf("writes %X, %v", again, err)
		}
		if len(wire) > pboc.MaxClearingLen || len(c.Key()) >= 32 {
			t.Errorf("%d bytes, key of %d", len(wire), len(c.Key()))
		}
	}
}

// The published cryptogram (CARD.md 6.4 #1) comes out of the record alone. It
// is an ARQC: as an approval it does not verify, and neither does one that
// differs in anything the card signed.
func TestClearingVerifies(t *testing.T) {
	mk := pboc.NewKey(pboc.TripleDES, [16]byte{0x01, 0x4D, 0x99, 0x6F, 0xCC, 0x8F, 0x49, 0x15, 0x7D, 0xC8, 0xB4, 0x9E, 0x3B, 0xCD, 0xFD, 0x99})
	c := sale()
	data, err := c.ACData()
	if err != nil || mk.Session(c.ATC).MAC(nil, data) != c.AC {
		t.Fatalf("%X %v", data, err)
	}
	for kind, good := range map[pboc.ClearingKind]bool{
		pboc.ClearSale: false, pboc.ClearReversal: false, pboc.ClearRefund: true, pboc.ClearOnline: true, pboc.ClearCancel: true,
	} {
		if c.Kind = kind; good != (c.Verify(mk) == nil) {
			t.Errorf("an ARQC in a record of kind %d: %v", kind, c.Verify(mk))
		}
	}
	c.Kind = pboc.ClearSale
	c.IAD[4] = 0x90 // TC
	data, _ = c.ACData()
	c.AC = mk.Session(c.ATC).MAC(nil, data)
	if err := c.Verify(mk); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*pboc.Clearing){
		"amount": func(c *pboc.Clearing) { c.Fen++ }, "ATC": func(c *pboc.Clearing) { c.ATC++ },
		"UN": func(c *pboc.Clearing) { c.UN[0]++ }, "TVR": func(c *pboc.Clearing) { c.TVR[4] = 1 },
		"AIP": func(c *pboc.Clearing) { c.AIP[0] = 0 }, "AC": func(c *pboc.Clearing) { c.AC[7]++ },
		"date": func(c *pboc.Clearing) { c.Date[2]++ }, "country": func(c *pboc.Clearing) { c.Country = 344 },
	} {
		bad := c
		spoil(&bad)
		if err := bad.Verify(mk); !errors.Is(err, pboc.ErrTC) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClearingHidesTheCard(t *testing.T) {
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(form, sale()); strings.Contains(s, "6228000100001") || !strings.Contains(s, "622800***0001") {
			t.Errorf("%s shows %s", form, s)
		}
	}
	if pboc.MaskPAN("123456789") != "*********" {
		t.Error("a short number shows")
	}
}

func TestClearingRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*pboc.Clearing){
		"no kind":         func(c *pboc.Clearing) { c.Kind = 0 },
		"short PAN":       func(c *pboc.Clearing) { c.PAN = "622800" },
		"letters":         func(c *pboc.Clearing) { c.PAN = "622800010000A" },
		"no AID":          func(c *pboc.Clearing) { c.AID = nil },
		"PSN":             func(c *pboc.Clearing) { c.PSN = 100 },
		"currency":        func(c *pboc.Clearing) { c.Currency = 1000 },
		"type":            func(c *pboc.Clearing) { c.Type = 0x0A },
		"amount":          func(c *pboc.Clearing) { c.Fen = 1_000_000_000_000 },
		"no 9F10":         func(c *pboc.Clearing) { c.IAD = nil },
		"ATC":             func(c *pboc.Clearing) { c.ATC = 0 },
		"STAN":            func(c *pboc.Clearing) { c.STAN = 0 },
		"batch":           func(c *pboc.Clearing) { c.Batch = 1_000_000 },
		"TID":             func(c *pboc.Clearing) { c.TID = "1" },
		"MID":             func(c *pboc.Clearing) { c.MID = strings.Repeat("\n", 15) },
		"date":            func(c *pboc.Clearing) { c.Date = [3]byte{0x14, 0x13, 0x01} },
		"time":            func(c *pboc.Clearing) { c.Time = [3]byte{0x24} },
		"product":         func(c *pboc.Clearing) { c.Product = []byte{1} },
		"issuer's code":   func(c *pboc.Clearing) { c.IssuerCode = []byte{} },
		"9F10 over bound": func(c *pboc.Clearing) { c.IAD = make([]byte, 33) },
	} {
		c := sale()
		spoil(&c)
		if _, err := c.MarshalBinary(); !errors.Is(err, pboc.ErrClearing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClearingMoment(t *testing.T) {
	at, err := sale().Moment(time.FixedZone("CST", 8*3600))
	if err != nil || at.UTC().Format(time.RFC3339) != "2014-07-01T04:30:59Z" {
		t.Errorf("%v %v", at, err)
	}
}

// Objects in another order, twice or missing are no record, so that one
// transaction has one wire form.
func TestClearingHasOneForm(t *testing.T) {
	wire, _ := sale().MarshalBinary()
	kind := wire[:5] // DF8101 01 01
	for name, b := range map[string][]byte{
		"empty": nil, "twice": append(bytes.Clone(kind), wire...), "late": append(bytes.Clone(wire[5:]), kind...),
		"cut": wire[:len(wire)-1], "missing": wire[5:], "more": append(bytes.Clone(wire), 0x8A, 2, '0', '0'),
	} {
		if _, err := pboc.ParseClearing(b); !errors.Is(err, pboc.ErrClearing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClearingKeysAreUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func() pboc.Clearing {
			c := sale()
			c.PAN = rapid.StringMatching(`622[0-9]{10,16}`).Draw(t, "pan")
			c.PSN, c.ATC = rapid.ByteRange(0, 99).Draw(t, "psn"), rapid.Uint16Min(1).Draw(t, "atc")
			c.Kind = rapid.SampledFrom([]pboc.ClearingKind{pboc.ClearSale, pboc.ClearReversal}).Draw(t, "kind")
			return c
		}
		a, b := draw(), draw()
		same := a.PAN == b.PAN && a.PSN == b.PSN && a.ATC == b.ATC && a.Kind == b.Kind
		if same != (a.Key() == b.Key()) {
			t.Fatalf("%v and %v", a, b)
		}
		wire, err := a.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := pboc.ParseClearing(wire); err != nil || back.Key() != a.Key() || !bytes.Equal(back.Get(emv.TagPAN), a.Get(emv.TagPAN)) {
			t.Fatalf("%v %v", back, err)
		}
	})
}

func TestClearingBatch(t *testing.T) {
	one, two := sale(), sale()
	two.STAN, two.Kind = 43, pboc.ClearReversal
	b := pboc.ClearingBatch{TID: "30008900", First: 7, Records: []pboc.Clearing{one, two}}
	wire, err := b.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	back, err := pboc.ParseClearingBatch(wire)
	if err != nil || back.TID != b.TID || back.First != 7 || len(back.Records) != 2 || back.Records[1].Key() != two.Key() {
		t.Errorf("%+v %v", back, err)
	}
	for n := range wire {
		bad := bytes.Clone(wire)
		bad[n] ^= 0x10
		if _, err := pboc.ParseClearingBatch(bad); err == nil {
			t.Errorf("byte %d changed, and it reads", n)
		}
	}
	one.STAN = 0
	if _, err := (pboc.ClearingBatch{TID: "30008900", Records: []pboc.Clearing{one}}).MarshalBinary(); !errors.Is(err, pboc.ErrClearing) {
		t.Errorf("a bad record goes out: %v", err)
	}
	if _, err := (pboc.ClearingBatch{TID: "3"}).MarshalBinary(); !errors.Is(err, pboc.ErrClearing) {
		t.Errorf("no terminal: %v", err)
	}
}

func FuzzParseClearingBatch(f *testing.F) {
	for _, b := range []pboc.ClearingBatch{{TID: "30008900", First: 1}, {TID: "30008900", First: 7, Records: []pboc.Clearing{sale()}}} {
		wire, err := b.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := pboc.ParseClearingBatch(in)
		if err != nil {
			return
		}
		if again, err := b.MarshalBinary(); err != nil || !bytes.Equal(again, in) {
			t.Errorf("%X writes %X, %v", in, again, err)
		}
	})
}

func FuzzParseClearing(f *testing.F) {
	wire, err := sale().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	f.Add(wire[:40])
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := pboc.ParseClearing(in)
		if err != nil {
			return
		}
		if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, in) {
			t.Errorf("%X writes %X, %v", in, again, err)
		}
	})
}
