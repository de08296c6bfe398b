package foreign

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/clock"
	"koala/spec/clearing"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
)

const number1 = "6226010562885479"

var noon = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)

// A desk asks the host as a switch does.
type desk struct {
	t   interface{ Fatal(...any) }
	h   *Host
	key *iso8583.Key
	now *clock.Virtual
	n   int
}

func open(t interface{ Fatal(...any) }, fault func(uint64) Fault) *desk {
	cfg := Config{Name: "bank", Institution: "03080000", Clock: clock.NewVirtual(noon), Fault: fault,
		PIN: [16]byte([]byte("0123456789abcdef")), MAC: [16]byte([]byte("fedcba9876543210"))}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := iso8583.NewKey(cfg.MAC[:])
	return &desk{t: t, h: h, key: key, now: cfg.Clock.(*clock.Virtual)}
}

// asked is a question, so that another one can name it.
type asked struct {
	mti, trace, sent string
	raw              []byte
}

// original is field 90.
func (a asked) original() string { return a.mti + a.trace + a.sent + "00048021000" + "00048021000" }

func (d *desk) build(mti, processing, condition string, fen int64, set map[int]string) asked {
	d.n++
	a := asked{mti: mti, trace: fmt.Sprintf("%06d", d.n), sent: "0916120000"}
	var m iso8583.Message
	m.Reset(iso8583.UnionPayInterchange(), mti)
	head := iso8583.InterchangeHeader{Version: 2, Destination: [11]byte([]byte("00010000   ")), Source: [11]byte([]byte("48021000   ")),
		Reserved: [3]byte([]byte("000")), Transaction: [8]byte([]byte("00000000")), Reject: [5]byte([]byte("00000"))}
	m.SetHead(head.AppendTo(nil))
	for n, v := range map[int]string{2: number1, 3: processing, 7: a.sent, 11: a.trace, 25: condition, 32: "48021000", 33: "48021000",
		37: fmt.Sprintf("%012d", d.n), 41: "10000001", 42: "898110053110001", 49: "156"} {
		m.SetText(n, v)
	}
	if fen > 0 {
		m.SetText(4, fmt.Sprintf("%012d", fen))
	}
	for n, v := range set {
		m.SetText(n, v)
	}
	var err error
	if a.raw, err = m.Seal(nil, d.key); err != nil {
		d.t.Fatal(err)
	}
	return a
}

// send gives the answer, unpacked and its MAC checked.
func (d *desk) send(a asked) *iso8583.Message {
	raw, err := d.h.Ask(context.Background(), a.raw)
	if err != nil {
		d.t.Fatal(err)
	}
	var m iso8583.Message
	if err := m.Unpack(iso8583.UnionPayInterchange(), raw); err != nil {
		d.t.Fatal(err)
	}
	if err := m.Verify(d.key); err != nil {
		d.t.Fatal(err)
	}
	return &m
}

func (d *desk) do(mti, processing, condition string, fen int64, set map[int]string) (asked, string) {
	a := d.build(mti, processing, condition, fen, set)
	return a, d.send(a).Text(39)
}

func pinBlock(d *desk, pin string) string {
	block, _ := hex.DecodeString("06" + pin + "FFFFFFFF")
	part, _ := hex.DecodeString("0000" + number1[len(number1)-13:len(number1)-1])
	for i := range block {
		block[i] ^= part[i]
	}
	return string(iso9797.NewTDES(d.h.cfg.PIN[:]).EncryptECB(block))
}

func TestKinds(t *testing.T) {
	d := open(t, nil)
	start := d.h.Balance(number1)
	spent := func(want int64, what string) {
		t.Helper()
		if got := start - d.h.Balance(number1); got != want {
			t.Errorf("%s: %d spent, want %d", what, got, want)
		}
	}
	want := func(got, code, what string) {
		t.Helper()
		if got != code {
			t.Errorf("%s: %s, want %s", what, got, code)
		}
	}
	sale, code := d.do("0200", "000000", "00", 100_00, map[int]string{52: pinBlock(d, d.h.PIN(number1))})
	want(code, "00", "a sale with its PIN")
	spent(100_00, "a sale")
	if m := d.send(sale); m.Text(39) != "00" || m.Text(38) == "" {
		t.Error("the same again differs")
	}
	spent(100_00, "the same again")
	_, code = d.do("0200", "000000", "00", 1_00, map[int]string{52: pinBlock(d, "000000")})
	want(code, "55", "a wrong PIN")
	_, code = d.do("0200", "000000", "00", start+1, nil)
	want(code, "51", "more than there is")
	_, code = d.do("0220", "200000", "00", 60_00, map[int]string{90: sale.original()})
	want(code, "00", "a partial refund")
	_, code = d.do("0220", "200000", "00", 40_01, map[int]string{90: sale.original()})
	want(code, "61", "a refund above the sale")
	_, code = d.do("0200", "200000", "00", 100_00, map[int]string{90: sale.original()})
	want(code, "12", "a void after a refund")
	spent(40_00, "after the refund")
	second, _ := d.do("0200", "000000", "00", 10_00, nil)
	void, code := d.do("0200", "200000", "00", 10_00, map[int]string{90: second.original()})
	want(code, "00", "a void")
	_, code = d.do("0200", "200000", "00", 10_00, map[int]string{90: void.original()})
	want(code, "25", "a void of a void")
	spent(40_00, "after the void")
	_, code = d.do("0420", "200000", "00", 10_00, map[int]string{90: void.original()})
	want(code, "00", "the void reversed")
	spent(50_00, "after the void's reversal")
	_, code = d.do("0420", "000000", "00", 10_00, map[int]string{90: second.original()})
	want(code, "00", "the sale reversed")
	_, code = d.do("0420", "000000", "00", 10_00, map[int]string{90: second.original()})
	want(code, "00", "and once more")
	spent(40_00, "after the reversals")
	pre, code := d.do("0100", "030000", "06", 200_00, nil)
	want(code, "00", "a pre-authorisation")
	spent(240_00, "held")
	_, code = d.do("0200", "000000", "06", 230_01, map[int]string{90: pre.original()})
	want(code, "61", "above 115 %")
	fin, code := d.do("0200", "000000", "06", 230_00, map[int]string{90: pre.original()})
	want(code, "00", "115 %")
	spent(270_00, "completed")
	_, code = d.do("0420", "000000", "06", 230_00, map[int]string{90: fin.original()})
	want(code, "00", "the completion reversed")
	spent(240_00, "held again")
	_, code = d.do("0100", "200000", "06", 200_00, map[int]string{90: pre.original()})
	want(code, "00", "the pre-authorisation cancelled")
	spent(40_00, "released")
	never := d.build("0200", "000000", "00", 5_00, nil)
	_, code = d.do("0420", "000000", "00", 5_00, map[int]string{90: never.original()})
	want(code, "25", "a reversal of what never came")
	want(d.send(never).Text(39), "40", "and then it comes")
	d.h.Report(number1, true)
	_, code = d.do("0200", "000000", "00", 1_00, nil)
	want(code, "41", "a lost card")
	bad := d.build("0200", "000000", "00", 1_00, nil)
	bad.raw[len(bad.raw)-1] ^= 1
	want(d.send(bad).Text(39), "A0", "a wrong MAC")
	if m := d.send(d.build("0200", "310000", "00", 0, nil)); m.Text(39) != "41" {
		t.Error("a lost card's balance")
	}
	spent(40_00, "at the end")
	file, err := d.h.ClearingFile(calendar.Of(noon, calendar.Beijing))
	if err != nil {
		t.Fatal(err)
	}
	if got := sum(t, file); got != 40_00 {
		t.Errorf("the file says %d:\n%s", got, file)
	}
}

func sum(t interface{ Fatal(...any) }, file []byte) (fen int64) {
	for line := range bytes.Lines(file) {
		r, err := clearing.Parse(bytes.TrimRight(line, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		fen += r.Fen()
	}
	return fen
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		fault  Fault
		spent  int64
		silent bool
		right  bool // an answer that can be read, with its MAC
	}{
		{None, 100, false, true}, {Deaf, 0, true, false}, {Silent, 100, true, false}, {Slow, 100, false, true}, {OtherAmount, 100, false, true},
		{OtherTrace, 100, false, true}, {WrongMAC, 100, false, false}, {Garbage, 100, false, false}, {Turncoat, 100, false, true},
	} {
		d := open(t, func(uint64) Fault { return tt.fault })
		start := d.h.Balance(number1)
		raw, err := d.h.Ask(context.Background(), d.build("0200", "000000", "00", 100, nil).raw)
		if errors.Is(err, ErrNoAnswer) != tt.silent || start-d.h.Balance(number1) != tt.spent {
			t.Errorf("%s: %v, spent %d", tt.fault.Words(false), err, start-d.h.Balance(number1))
		}
		var m iso8583.Message
		if right := err == nil && m.Unpack(iso8583.UnionPayInterchange(), raw) == nil && m.Verify(d.key) == nil; right != tt.right {
			t.Errorf("%s: right is %v", tt.fault.Words(false), right)
		}
		if (m.Text(4) != "000000000100" || m.Text(11) != "000001" || m.Text(39) != "00") != (tt.fault >= OtherAmount || tt.silent) && tt.right {
			t.Errorf("%s: answers %s %s %s", tt.fault.Words(false), m.Text(4), m.Text(11), m.Text(39))
		}
	}
}

// TestFileEqualsBooks states the rule of the host: what it takes from its cards
// is what its clearing files say, whatever is asked, doubled and reversed.
func TestFileEqualsBooks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := open(rt, nil)
		start := d.h.Balance(number1)
		var all []asked
		var pre int64
		for range rapid.IntRange(1, 30).Draw(rt, "acts") {
			fen := rapid.Int64Range(1, 50).Draw(rt, "fen")
			var set map[int]string
			if len(all) > 0 {
				set = map[int]string{90: all[rapid.IntRange(0, len(all)-1).Draw(rt, "original")].original()}
			}
			k := rapid.SampledFrom([][3]string{{"0200", "000000", "00"}, {"0200", "200000", "00"}, {"0220", "200000", "00"}, {"0100", "030000", "06"},
				{"0100", "200000", "06"}, {"0200", "000000", "06"}, {"0420", "000000", "00"}, {"0220", "000000", "00"}}).Draw(rt, "kind")
			a := d.build(k[0], k[1], k[2], fen, set)
			all = append(all, a)
			for range rapid.IntRange(1, 2).Draw(rt, "times") {
				d.send(a)
			}
		}
		for _, a := range d.h.order {
			if a.held > 0 && !a.ended {
				pre += a.held
			}
		}
		file, err := d.h.ClearingFile(calendar.Of(noon, calendar.Beijing))
		if err != nil {
			rt.Fatal(err)
		}
		if got := start - d.h.Balance(number1); got != sum(rt, file)+pre {
			rt.Fatalf("spent %d, the file says %d, held %d:\n%s", got, sum(rt, file), pre, file)
		}
	})
}

func FuzzHandle(f *testing.F) {
	d := open(f, nil)
	f.Add(d.build("0200", "000000", "00", 100, nil).raw)
	f.Add(d.build("0420", "000000", "00", 100, map[int]string{90: d.build("0200", "000000", "00", 1, nil).original()}).raw)
	f.Fuzz(func(t *testing.T, in []byte) {
		before := len(d.h.acts)
		_, err := d.h.Handle(context.Background(), in)
		var m iso8583.Message
		sealed := m.Unpack(iso8583.UnionPayInterchange(), in) == nil && m.Verify(d.key) == nil
		if err != nil && sealed || !sealed && len(d.h.acts) != before {
			t.Errorf("%x: sealed %v, error %v, %d acts more", in, sealed, err, len(d.h.acts)-before)
		}
	})
}

func TestDoubling(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	double := Doubling(l, func() bool { return true })
	go func() {
		conn, err := double.Accept()
		if err == nil {
			_, _ = conn.Write([]byte("a"))
			conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(conn); err != nil || b.String() != "aa" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// TestExpiry: a card whose last month is over is refused, by field 14 or track 2.
func TestExpiry(t *testing.T) {
	for _, x := range []struct {
		set  map[int]string
		want string
	}{
		{map[int]string{14: "1508"}, "54"}, {map[int]string{14: "1509"}, "00"}, {map[int]string{14: "1510"}, "00"},
		{map[int]string{35: number1 + "=1508101"}, "54"}, {map[int]string{35: number1 + "=1509101", 14: "1509"}, "00"}, {nil, "00"},
	} {
		d := open(t, nil)
		if got := d.send(d.build("0200", "000000", "00", 1_00, x.set)).Text(39); got != x.want {
			t.Errorf("%v: %s, want %s", x.set, got, x.want)
		}
	}
	d := open(t, nil)
	d.now.Advance(15 * 24 * time.Hour) // the first of October
	if got := d.send(d.build("0200", "310000", "00", 0, map[int]string{14: "1509"})).Text(39); got != "54" {
		t.Errorf("balance in the month after it: %s", got)
	}
}
