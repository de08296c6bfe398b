package main

import (
	"fmt"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/clock"
	"koala/spec/iso8583"
	"koala/switching"
)

// askedBank has a simulated bank of the demo answer a question about its sample
// card: a sale, or what names one.
func askedBank(t *testing.T, b *banks, mti, trace, original string) (code string) {
	t.Helper()
	var m, a iso8583.Message
	m.Reset(iso8583.UnionPayInterchange(), mti)
	head := iso8583.InterchangeHeader{Version: 2, Source: [11]byte([]byte("48021000   ")), Reserved: [3]byte([]byte("000")),
		Transaction: [8]byte([]byte("00000000")), Reject: [5]byte([]byte("00000"))}
	copy(head.Destination[:], fmt.Sprintf("%-11s", "CMB"))
	m.SetHead(head.AppendTo(nil))
	for n, v := range map[int]string{2: b.sample(), 3: "000000", 4: "000000012345", 7: "0916120000", 11: trace, 25: "00", 32: "48021000", 33: "48021000",
		37: "000000" + trace, 41: "10000001", 42: "898110053110001", 49: "156", 90: original} {
		if v != "" {
			m.SetText(n, v)
		}
	}
	key, err := iso8583.NewKey(simulated("MAC", "CMB"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.Seal(nil, key)
	if err == nil {
		raw, err = b.Handle(t.Context(), raw)
	}
	if err == nil {
		err = a.Unpack(iso8583.UnionPayInterchange(), raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a.Text(39)
}

// TestBanksRemember: a demo that is killed and started again asks the simulated
// banks about sales of before: they repeat their answer, take a sale back once,
// and have it in the clearing file of its day.
func TestBanksRemember(t *testing.T) {
	dir, now := t.TempDir(), clock.NewVirtual(time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing))
	start := func() *banks {
		t.Helper()
		b, err := openBanks(now, dir, &peers{ways: map[string]switching.Peer{}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.l.Close(); b.close() })
		return b
	}
	b := start()
	if code := askedBank(t, b, "0200", "000001", ""); code != "00" {
		t.Fatal(code)
	}
	h, err := b.host("CMB")
	if err != nil {
		t.Fatal(err)
	}
	left := h.Balance(b.sample())
	b = start() // nothing was closed: the first was killed
	if h, err = b.host("CMB"); err != nil || h.Balance(b.sample()) != left {
		t.Fatal("the bank forgot what its card paid", err)
	}
	if code := askedBank(t, b, "0200", "000001", ""); code != "00" || h.Balance(b.sample()) != left {
		t.Errorf("the same question: %s", code)
	}
	file, err := h.ClearingFile(calendar.Of(now.Now(), calendar.Beijing))
	if err != nil || len(file) == 0 {
		t.Error("the sale is in no clearing file", err)
	}
	for range 2 {
		b = start()
		if h, err = b.host("CMB"); err != nil {
			t.Fatal(err)
		}
		if code := askedBank(t, b, "0420", "000001", "0200"+"000001"+"0916120000"+"00048021000"+"00048021000"); code != "00" || h.Balance(b.sample()) != left+123_45 {
			t.Errorf("a reversal: %s, %d back", code, h.Balance(b.sample())-left)
		}
	}
}
