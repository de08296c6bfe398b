package switching_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/switching"
)

// sealable are the fields that a script may set: those whose parsers stand
// behind the MAC.
var sealable = []int{2, 3, 4, 12, 13, 14, 22, 23, 25, 26, 35, 36, 37, 38, 39, 48, 49, 52, 53, 54, 55, 57, 59, 60, 61, 62, 63}

// skeletons are requests for scripts to bend.
var skeletons = []struct{ mti, process, point, kind, net string }{
	{"0200", "000000", "00", "22", ""}, {"0200", "200000", "00", "23", ""}, {"0220", "200000", "00", "25", ""}, {"0200", "310000", "00", "01", ""},
	{"0100", "030000", "06", "10", ""}, {"0100", "200000", "06", "11", ""}, {"0200", "000000", "06", "20", ""}, {"0220", "000000", "06", "24", ""}, {"0220", "000000", "00", "30", ""},
	{"0220", "000000", "00", "34", ""}, {"0200", "000000", "00", "36", ""}, {"0200", "000000", "64", "22", ""}, {"0200", "600000", "91", "45", ""}, {"0200", "620000", "91", "47", ""},
	{"0400", "000000", "00", "22", ""}, {"0400", "030000", "06", "10", ""}, {"0620", "000000", "00", "22", ""}, {"0820", "", "", "00", "002"},
	{"0500", "", "", "00", "201"}, {"0320", "", "", "00", "201"}, {"0320", "", "", "00", "202"}, {"0320", "", "", "00", "203"}, {"0320", "", "", "36", "203"}, {"0320", "", "", "00", "204"},
	{"0320", "", "", "00", "205"}, {"0320", "", "", "00", "206"}, {"0320", "", "", "00", "207"},
	{"0800", "", "", "00", "360"}, {"0800", "", "", "00", "370"}, {"0820", "", "", "00", "372"}, {"0800", "", "", "00", "380"}, {"0820", "", "", "00", "382"},
	{"0800", "", "", "00", "390"}, {"0820", "", "", "00", "362"}, {"0920", "", "", "07", "800"},
}

// mostMessages bounds a script.
const mostMessages = 8

// play sends what a script says, each message with a fresh trace and the right
// MAC: a byte for the skeleton, one for the number of fields to set (of them 15
// at most; the high bit sends it a second time), per field a byte for which,
// one for its length and its bytes. It gives how many messages were sent.
func (p *terminal) play(script []byte, base func(i int) fields) (sent int) {
	take := func(n int) []byte {
		n = min(n, len(script))
		out := script[:n]
		script = script[n:]
		return out
	}
	one := func() int {
		if b := take(1); len(b) == 1 {
			return int(b[0])
		}
		return 0
	}
	for ; sent < mostMessages && len(script) > 0; sent++ {
		s := skeletons[one()%len(skeletons)]
		f := base(sent)
		f[11], f[60] = p.next(), fmt.Sprintf("%s%06d%s", s.kind, p.batch, s.net)
		if s.net == "" {
			f[3], f[4], f[25], f[49] = s.process, fmt.Sprintf("%012d", 1_00), s.point, "156"
			f[60] += "00060"
		}
		n := one()
		for range n & 15 {
			which := sealable[one()%len(sealable)]
			if v := take(one()); len(v) == 0 {
				delete(f, which)
			} else {
				f[which] = string(v)
			}
		}
		wire, err := p.message(s.mti, f).Seal(nil, p.key)
		if err != nil {
			continue // a field that cannot be written: a terminal cannot either
		}
		for range 1 + n>>7 {
			_, _ = p.h.host.Handle(ctx, wire)
		}
	}
	return sent
}

// proved: the books stand, every booked transaction is proved by its item, and
// nothing waits for an answer.
func (h *house) proved(t *testing.T) {
	var wrong []string
	var open int
	h.read(func(q *db.Query) (err error) {
		if wrong, err = switching.Prove(q); err != nil {
			return err
		}
		return q.QueryRow(`SELECT COUNT(*) FROM switching_txn WHERE state = 'sent'`).Scan(&open)
	})
	report, err := h.book.Verify(ctx)
	if err != nil || !report.OK() || len(wrong) > 0 || open > 0 {
		t.Errorf("ledger %+v (%v), unproved %q, %d transactions without an end", report, err, wrong, open)
	}
}

// FuzzSealed: up to eight messages of a terminal that has its keys; what they
// say is anybody's guess. Nothing panics and the books stand.
func FuzzSealed(f *testing.F) {
	h := open(f, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	set := func(skeleton byte, list ...any) []byte {
		out := []byte{skeleton, byte(len(list) / 2)}
		for i := 0; i < len(list); i += 2 {
			v := list[i+1].(string)
			out = append(append(out, byte(slices.Index(sealable, list[i].(int))), byte(len(v))), v...)
		}
		return out
	}
	f.Add(bytes.Join([][]byte{set(0), set(14, 39, "98"), set(3)}, nil))
	f.Add(bytes.Join([][]byte{set(0), set(1, 61, "000001000002"), set(2, 61, "0000010000020916"), set(7, 38, "123456")}, nil))
	f.Add(bytes.Join([][]byte{set(0), set(18, 48, "0000000001000010000000000000000000000000000000000000000000000000"[:62]), set(19, 48, "0122000002622202000001310000000100"), set(26, 48, "0001")}, nil))
	f.Add(bytes.Join([][]byte{set(21, 62, "6100000000000001000000001"), set(23, 62, "6100000000000001000000001"), set(24, 62, "61"), set(25)}, nil))
	f.Add(bytes.Join([][]byte{set(27), set(29, 62, "100"), set(31, 62, "101"), set(30, 62, "\x9f\x06\x08\xa0\x00\x00\x03\x33\x01\x01\x01"), set(28, 62, "\x9f\x06\x05\xa0\x00\x00\x03\x33\x9f\x22\x01\x02"), set(32, 62, "00000000000000000000"), set(33, 62, "ok")}, nil))
	f.Add(bytes.Join([][]byte{set(34, 61, "000001000002", 62, "0101"+string(make([]byte, 40))), set(11, 62, "03"), set(0, 22, "032", 62, "281234567890123456", 2, "", 55, "")}, nil))
	f.Fuzz(func(t *testing.T, script []byte) {
		h.t = t
		h.now.Advance(time.Hour) // past what an earlier script left open
		if err := h.host.Tick(ctx, h.now.Now()); err != nil {
			t.Fatal(err)
		}
		p.signOn()
		p.play(script, func(int) fields { return c.chip(0, 1_00, pboc.ARQC) })
		h.proved(t)
	})
}

// A bent host is an issuer's that has the zone key and says in its answers what
// a script has it say.
type bent struct {
	*far
	script []byte // per field: which 1, length 1, bytes
}

// answerable are the fields of an interchange answer that a script may set.
var answerable = []int{2, 3, 4, 7, 11, 12, 13, 15, 22, 32, 33, 37, 38, 39, 41, 42, 44, 48, 49, 54, 55, 57, 60, 61, 62, 63, 90, 100}

func (b *bent) Ask(ctx context.Context, request []byte) ([]byte, error) {
	wire, err := b.far.Ask(ctx, request)
	if err != nil || len(b.script) == 0 {
		return wire, err
	}
	var m iso8583.Message
	if err := m.Unpack(iso8583.UnionPayInterchange(), bytes.Clone(wire)); err != nil {
		return nil, err
	}
	for rest := b.script; len(rest) >= 2; {
		which, n := answerable[int(rest[0])%len(answerable)], min(int(rest[1]), len(rest)-2)
		m.Set(which, rest[2:2+n])
		rest = rest[2+n:]
	}
	if said, err := m.Seal(nil, b.key); err == nil {
		return said, nil
	}
	return wire, nil // what cannot be written was not said
}

// FuzzAnswer: an issuer's host may answer what it likes under a good MAC. The
// books stand, nothing is left open once it answers as it should, and a sale
// that the terminal was told is approved is one the host approved.
func FuzzAnswer(f *testing.F) {
	b := &bent{far: newFar()}
	h := open(f, true, map[string]switching.Peer{"FAR": b})
	p := h.terminal("10000001")
	add := func(kind byte, which int, v string) {
		f.Add(kind, append([]byte{byte(slices.Index(answerable, which)), byte(len(v))}, v...))
	}
	add(0, 39, "51")
	add(0, 39, "10")
	add(0, 4, "000000005000")
	add(0, 4, "000000020000")
	add(0, 38, "      ")
	add(0, 55, "\x91\x0a\x01\x02")
	add(1, 54, "1002156C000000012345")
	add(2, 39, "25")
	add(3, 39, "A3")
	add(0, 37, "")
	f.Fuzz(func(t *testing.T, kind byte, script []byte) {
		h.t, p.h.t = t, t
		settle := func() {
			b.script = nil
			for range 3 {
				h.now.Advance(20 * time.Minute)
				if err := h.host.Tick(ctx, h.now.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		settle()
		p.signOn()
		before := b.sum()
		in := p.far()
		switch b.script = script; kind % 4 {
		case 0:
			code := p.ask("sale", 100_00, in)
			if code == "00" && b.sum() != before+100_00 {
				t.Errorf("approved, and the host holds %d more", b.sum()-before)
			}
		case 1:
			p.ask("balance", 0, in)
		case 2:
			b.script = nil
			p.ask("sale", 100_00, in)
			stan := p.stan
			b.script = script
			p.ask("void", 100_00, p.of(stan))
		case 3:
			p.ask("sale", 100_00, in)
			p.reverse("sale", p.stan, 100_00, "98")
		}
		settle()
		h.proved(t)
	})
}

// A script's messages reach what stands behind the MAC.
func TestSealedReaches(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	if n := p.play([]byte{0, 0, 3, 0}, func(int) fields { return c.chip(0, 1_00, pboc.ARQC) }); n != 2 {
		t.Fatalf("%d messages", n)
	}
	h.read(func(q *db.Query) error {
		var n int
		err := q.QueryRow(`SELECT COUNT(*) FROM switching_txn WHERE state = 'approved'`).Scan(&n)
		if n == 0 {
			err = errors.Join(err, errors.New("nothing was approved"))
		}
		return err
	})
	h.proved(t)
}
