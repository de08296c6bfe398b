package main

import (
	"bytes"
	"crypto/des"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
)

// This file is a terminal of somebody else: written from
// docs/terminal-protocol.md alone, with moov-io/iso8583 as its codec and keys,
// MACs and PIN blocks of its own. It uses none of this module's terminals,
// codecs or switch.

// packedTrack is track data two characters a byte, D for the separator, the last
// half byte 0 (section 1, field 35).
type packedTrack struct{}

// Encode packs.
func (packedTrack) Encode(data []byte) ([]byte, error) {
	if len(data)%2 == 1 {
		data = append(bytes.Clone(data), '0')
	}
	return hex.DecodeString(string(data))
}

// Decode unpacks so many characters.
func (packedTrack) Decode(data []byte, length int) ([]byte, int, error) {
	n := (length + 1) / 2
	if len(data) < n {
		return nil, 0, io.ErrUnexpectedEOF
	}
	return []byte(strings.ToUpper(hex.EncodeToString(data[:n]))[:length]), n, nil
}

// dialect is section 1's table.
func dialect() *moov.MessageSpec {
	s := &moov.MessageSpec{Fields: map[int]field.Field{
		0: field.NewString(&field.Spec{Length: 4, Enc: encoding.BCD, Pref: prefix.BCD.Fixed}),
		1: field.NewBitmap(&field.Spec{Length: 8, Enc: encoding.Binary, Pref: prefix.Binary.Fixed}),
	}}
	put := func(enc encoding.Encoder, pref prefix.Prefixer, lengths map[int]int) {
		for n, length := range lengths {
			s.Fields[n] = field.NewString(&field.Spec{Length: length, Enc: enc, Pref: pref})
		}
	}
	put(encoding.LBCD, prefix.BCD.Fixed, map[int]int{3: 6, 4: 12, 11: 6, 12: 6, 13: 4, 14: 4, 15: 4, 22: 3, 25: 2, 26: 2, 53: 16})
	put(encoding.BCD, prefix.BCD.Fixed, map[int]int{23: 3})
	put(encoding.LBCD, prefix.BCD.LL, map[int]int{2: 19, 32: 11})
	put(packedTrack{}, prefix.BCD.LL, map[int]int{35: 37})
	put(encoding.ASCII, prefix.ASCII.Fixed, map[int]int{37: 12, 38: 6, 39: 2, 41: 8, 42: 15, 49: 3})
	put(encoding.ASCII, prefix.BCD.LL, map[int]int{44: 25})
	put(encoding.LBCD, prefix.BCD.LLL, map[int]int{48: 999, 60: 999, 61: 999})
	put(encoding.ASCII, prefix.BCD.LLL, map[int]int{54: 120, 57: 999})
	put(encoding.Binary, prefix.BCD.LLL, map[int]int{55: 999, 62: 999, 63: 999})
	put(encoding.Binary, prefix.Binary.Fixed, map[int]int{52: 8, 64: 8})
	return s
}

// A foreignTerminal is that terminal.
type foreignTerminal struct {
	t        *testing.T
	address  string
	tid, mid string
	tmk      [16]byte
	pik, mak []byte
	batch    int
	trace    int
	conn     net.Conn
	sent     []byte // the last request
	got      *moov.Message
}

// under enciphers or deciphers blocks of 8 under a double-length key (K1 K2 K1).
func under(key, v []byte, encrypt bool) []byte {
	c, err := des.NewTripleDESCipher(append(append([]byte{}, key...), key[:8]...))
	if err != nil {
		panic(err)
	}
	out := make([]byte, len(v))
	for i := 0; i < len(v); i += 8 {
		if encrypt {
			c.Encrypt(out[i:], v[i:])
		} else {
			c.Decrypt(out[i:], v[i:])
		}
	}
	return out
}

// macOf is section 4.
func macOf(key, data []byte) []byte {
	data = append(bytes.Clone(data), make([]byte, (8-len(data)%8)%8)...)
	sum := make([]byte, 8)
	for i := range data {
		sum[i%8] ^= data[i]
	}
	text := []byte(fmt.Sprintf("%X", sum))
	x := under(key, text[:8], true)
	for i := range x {
		x[i] ^= text[8+i]
	}
	return []byte(fmt.Sprintf("%X", under(key, x, true))[:8])
}

// pinBlock is section 5.
func (p *foreignTerminal) pinBlock(pin, number string) string {
	a, _ := hex.DecodeString(fmt.Sprintf("0%d%s%s", len(pin), pin, strings.Repeat("F", 14-len(pin))))
	b, _ := hex.DecodeString("0000" + number[len(number)-13:len(number)-1])
	for i := range a {
		a[i] ^= b[i]
	}
	return string(under(p.pik, a, true))
}

type says map[int]string

// pack writes a message with its header, and its MAC when it has a key.
func (p *foreignTerminal) pack(mti string, sealed bool, f says) []byte {
	p.t.Helper()
	m := moov.NewMessage(dialect())
	m.MTI(mti)
	f[41], f[42] = p.tid, p.mid
	if sealed {
		f[64] = "00000000"
	}
	for n, v := range f {
		if err := m.Field(n, v); err != nil {
			p.t.Fatalf("field %d: %v", n, err)
		}
	}
	out, err := m.Pack()
	if err != nil {
		p.t.Fatal(err)
	}
	if sealed {
		copy(out[len(out)-8:], macOf(p.mak, out[:len(out)-8]))
	}
	return append([]byte{0x60, 0, 3, 0, 0, 0x60, 0x31, 0, 0x31, 0x13, 0x12}, out...)
}

// send puts a frame on the line.
func (p *foreignTerminal) send(message []byte) {
	p.t.Helper()
	if p.conn == nil {
		var err error
		if p.conn, err = net.Dial("tcp", p.address); err != nil {
			p.t.Fatal(err)
		}
	}
	p.sent = message
	if _, err := p.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends and reads the answer; sealed says that it must have a MAC.
func (p *foreignTerminal) ask(message []byte, sealed bool) (code string) {
	p.t.Helper()
	p.send(message)
	_ = p.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	var head [2]byte
	if _, err := io.ReadFull(p.conn, head[:]); err != nil {
		p.t.Fatal(err)
	}
	answer := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(p.conn, answer); err != nil {
		p.t.Fatal(err)
	}
	p.got = moov.NewMessage(dialect())
	if err := p.got.Unpack(answer[11:]); err != nil {
		p.t.Fatalf("%X: %v", answer, err)
	}
	if sealed && !bytes.Equal(answer[len(answer)-8:], macOf(p.mak, answer[11:len(answer)-8])) {
		p.t.Fatalf("the answer's MAC is wrong: %X", answer)
	}
	return p.text(39)
}

func (p *foreignTerminal) text(n int) string {
	v, _ := p.got.GetString(n)
	return v
}

func (p *foreignTerminal) next() string {
	p.trace++
	return fmt.Sprintf("%06d", p.trace)
}

// signOn is section 10 and section 3.
func (p *foreignTerminal) signOn() {
	p.t.Helper()
	if code := p.ask(p.pack("0800", false, says{11: p.next(), 60: "00" + "000001" + "003", 62: "Sequence No16" + "SOMEBODY-0000001", 63: "01 "}), false); code != "00" {
		p.t.Fatalf("sign-on: %s", code)
	}
	keys := []byte(p.text(62))
	if len(keys) != 40 {
		p.t.Fatalf("field 62 has %d bytes", len(keys))
	}
	p.pik, p.mak = under(p.tmk[:], keys[:16], false), under(p.tmk[:], keys[20:36], false)
	for i, k := range [][]byte{p.pik, p.mak} {
		if check := under(k, make([]byte, 8), true)[:4]; !bytes.Equal(check, keys[i*20+16:i*20+20]) {
			p.t.Fatalf("check value of key %d: %X", i, check)
		}
	}
	p.batch, _ = strconv.Atoi(p.text(60)[2:8])
}

// swipe is a sale by stripe with PIN.
func (p *foreignTerminal) swipe(fen int, number, expiry, pin string) []byte {
	p.t.Helper()
	return p.pack("0200", true, says{2: number, 3: "000000", 4: fmt.Sprintf("%012d", fen), 11: p.next(), 14: expiry, 22: "021", 25: "00", 26: "12",
		35: number + "D" + expiry + "2200000000000", 49: "156", 52: p.pinBlock(pin, number), 53: "2600000000000000", 60: fmt.Sprintf("22%06d00020", p.batch)})
}

func (p *foreignTerminal) void(fen, trace int, number string) []byte {
	p.t.Helper()
	return p.pack("0200", true, says{2: number, 3: "200000", 4: fmt.Sprintf("%012d", fen), 11: p.next(), 22: "012", 25: "00", 49: "156",
		60: fmt.Sprintf("23%06d00020", p.batch), 61: fmt.Sprintf("%06d%06d", p.batch, trace)})
}

func (p *foreignTerminal) refund(fen int, rrn, number string) []byte {
	p.t.Helper()
	return p.pack("0220", true, says{2: number, 3: "200000", 4: fmt.Sprintf("%012d", fen), 11: p.next(), 22: "012", 25: "00", 37: rrn, 49: "156",
		60: fmt.Sprintf("25%06d00020", p.batch)})
}

// reversal repeats the original's trace (section 8).
func (p *foreignTerminal) reversal(fen, trace int, number, reason string) []byte {
	p.t.Helper()
	return p.pack("0400", true, says{2: number, 3: "000000", 4: fmt.Sprintf("%012d", fen), 11: fmt.Sprintf("%06d", trace), 22: "021", 25: "00", 39: reason, 49: "156",
		60: fmt.Sprintf("22%06d00020", p.batch)})
}

// totals is 0500 (section 9); the two results of the answer.
func (p *foreignTerminal) totals(debit, debits, credit, credits int) string {
	p.t.Helper()
	half := fmt.Sprintf("%012d%03d%012d%03d0", debit, debits, credit, credits)
	if code := p.ask(p.pack("0500", true, says{11: p.next(), 48: half + strings.Repeat("0", 31), 49: "156", 60: fmt.Sprintf("00%06d201", p.batch), 63: "01 "}), true); code != "00" {
		p.t.Fatalf("0500: %s", code)
	}
	v := p.text(48)
	return v[30:31] + v[61:62]
}

// end is the end of the batch.
func (p *foreignTerminal) end(code string, items int) string {
	p.t.Helper()
	got := p.ask(p.pack("0320", true, says{11: p.next(), 48: fmt.Sprintf("%04d", items), 60: fmt.Sprintf("00%06d%s", p.batch, code)}), true)
	if got == "00" {
		p.batch, _ = strconv.Atoi(p.text(60)[2:8])
	}
	return got
}

func TestStrangersTerminal(t *testing.T) {
	r := newCounterRig(t)
	r.serve()
	tid, mid, tmk := r.installed()
	p := &foreignTerminal{t: t, address: r.line, tid: tid, mid: mid, tmk: tmk}
	number, expiry := r.card.number, r.card.expiry
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	want("echo", p.ask(p.pack("0820", false, says{60: "00" + "000001" + "301"}), false), "00")
	p.signOn()

	// A sale; the same message again; another one under its trace.
	first := p.swipe(125_50, number, expiry, paperPIN)
	want("sale", p.ask(first, true), "00")
	sale, rrn := p.trace, p.text(37)
	if len(rrn) != 12 || len(p.text(38)) != 6 || p.text(32) != "00010344" {
		t.Errorf("the approval has 37 %q, 38 %q, 32 %q", rrn, p.text(38), p.text(32))
	}
	want("the same again", p.ask(first, true)+p.text(37), "00"+rrn)
	p.trace--
	want("another sale under its trace", p.ask(p.swipe(1, number, expiry, paperPIN), true), "94")
	want("a wrong PIN", p.ask(p.swipe(1_00, number, expiry, "111111"), true), "55")
	forged := p.swipe(1_00, number, expiry, paperPIN)
	forged[len(forged)-1] ^= 1
	want("a wrong MAC", p.ask(forged, true), "A0")

	// Taken back, and given back.
	want("void of another amount", p.ask(p.void(125_51, sale, number), true), "64")
	want("void", p.ask(p.void(125_50, sale, number), true), "00")
	want("void again", p.ask(p.void(125_50, sale, number), true), "12")
	want("sale", p.ask(p.swipe(100_00, number, expiry, paperPIN), true), "00")
	rrn = p.text(37)
	want("refund", p.ask(p.refund(30_00, rrn, number), true), "00")
	want("more than is left", p.ask(p.refund(70_01, rrn, number), true), "64")

	// An answer is lost: the terminal hangs up, and reverses first thing.
	p.send(p.swipe(50_00, number, expiry, paperPIN))
	lost := p.trace
	p.conn.Close()
	p.conn = nil
	want("reversal", p.ask(p.reversal(50_00, lost, number, "98"), true), "00")
	want("reversal again", p.ask(p.sent, true), "00")

	// Balanced: two sales, a void and a refund.
	want("totals", p.totals(225_50, 2, 155_50, 2), "11")
	want("a closed batch", p.ask(p.swipe(1_00, number, expiry, paperPIN), true), "95")
	want("end", p.end("207", 0), "00")

	// Not balanced: the terminal says a sale more than there is, and sends its items.
	want("sale in the next batch", p.ask(p.swipe(20_00, number, expiry, paperPIN), true), "00")
	item := func(trace, fen int) string { return fmt.Sprintf("22%06d%020s%012d", trace, number, fen) }
	only := p.trace
	want("wrong totals", p.totals(21_00, 2, 0, 0), "21")
	want("items", p.ask(p.pack("0320", true, says{11: p.next(), 48: "02" + item(only, 20_00) + item(only+500, 1_00), 60: fmt.Sprintf("00%06d201", p.batch)}), true), "00")
	want("wrong number of items", p.end("202", 3), "95")
	want("items again", p.ask(p.pack("0320", true, says{11: p.next(), 48: "02" + item(only, 20_00) + item(only+500, 1_00), 60: fmt.Sprintf("00%06d201", p.batch)}), true), "00")
	want("end", p.end("202", 2), "00")

	want("sign-off", p.ask(p.pack("0820", true, says{11: p.next(), 60: fmt.Sprintf("00%06d002", p.batch)}), true), "00")
	want("a sale after it", p.ask(p.swipe(1_00, number, expiry, paperPIN), true), "77")
	r.stop()
	if posted, held := r.wallet(); posted != 5_000_00-90_00 || held != 0 {
		t.Errorf("the cardholder has %d fen, %d held; want 491000 and none", posted, held)
	}
	if out := r.koala("verify", "--data", r.dir); !strings.Contains(out, "Everything holds") {
		t.Error(out)
	}
}
