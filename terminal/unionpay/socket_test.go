package unionpay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"koala/hostlink"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/iso8583"
	"koala/spec/poskey"
	"koala/terminal"
	"koala/terminal/unionpay"
	"koala/wallet"
)

// A street is the whole host behind a real socket: a server of terminals' lines,
// the switch and the house's bank.
type street struct {
	*bank
	addr string
	good *shop  // a terminal that only wants to sell
	own  banked // a credit card that pays there: nothing that is done to another card or its account touches it
	card banked
	sold int64

	tid   string // of a terminal whose keys its owner has read out
	key   *iso8583.Key
	wires [][]byte // what it said when it was honest
}

func (s *street) dial() (net.Conn, error) { return net.Dial("tcp", s.addr) }

// An overheard line keeps what goes over it.
type overheard struct {
	unionpay.Line
	said, heard [][]byte
}

func (t *overheard) Exchange(request []byte) ([]byte, error) {
	answer, err := t.Line.Exchange(request)
	t.said, t.heard = append(t.said, bytes.Clone(request)), append(t.heard, bytes.Clone(answer))
	return answer, err
}

func openStreet(t testing.TB) *street {
	s := &street{bank: openBank(t)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := &hostlink.Server{Handler: s.host, Half: time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	s.addr = l.Addr().String()
	s.good, s.own, s.card = s.install(), s.bank.cardOf(issuing.CreditCard), s.bank.card()
	s.good.pin = "123456"
	s.good.cfg.Line = &hostlink.Line{Dial: s.dial}
	s.good.boot()
	s.write(func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, "street", holder, money.Fen(5_000_00))
		return err
	})
	s.funds += 5_000_00
	s.learn()
	return s
}

// learn has a second terminal do a day's work, and reads its key out.
func (s *street) learn() {
	bad := s.install()
	bad.pin = "123456"
	heard := &overheard{Line: &hostlink.Line{Dial: s.dial}}
	s.tid, bad.cfg.Line = bad.cfg.Till.Kernel.TerminalID, heard
	form, sealed, err := s.keys.NewTransport(ctx, s.tid)
	if err != nil {
		s.t.Fatal(err)
	}
	in := must(s.host.Install(ctx, s.tid, sealed))
	master, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: hsm.TerminalMaster, TID: s.tid}, must(form.Key()), in.Block)
	if err != nil {
		s.t.Fatal(err)
	}
	bad.vault = terminal.NewFlash(2)
	check := poskey.KCV(master)
	if err := unionpay.OpenKeystore(bad.vault).Inject(master[:], check[:]); err != nil {
		s.t.Fatal(err)
	}
	bad.boot()
	stripe := unionpay.Card{Track2: s.card.track}
	do := func(o unionpay.Order) unionpay.Result { return must(bad.pos.Do(o)) }
	first := do(unionpay.Order{Kind: unionpay.Sale, Fen: 3_00, Card: stripe})
	do(unionpay.Order{Kind: unionpay.Sale, Fen: 4_00, Card: stripe})
	do(unionpay.Order{Kind: unionpay.SaleVoid, STAN: first.STAN})
	do(unionpay.Order{Kind: unionpay.PreAuth, Fen: 5_00, Card: stripe})
	do(unionpay.Order{Kind: unionpay.Balance, Card: stripe})
	if err := errors.Join(bad.pos.Status("well"), bad.pos.Obey("well"), bad.pos.Echo()); err != nil {
		s.t.Fatal(err)
	}
	bad.settle()
	s.wires = heard.said
	m := new(iso8583.Message)
	for i, a := range heard.heard {
		if err := m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(a)); err == nil && m.IsMTI("0810") && i == 0 {
			blocks := must(poskey.ParseField(m.Get(62)))
			mak := must(blocks[1].Open(master))
			s.key = must(iso8583.NewKey(mak[:]))
		}
	}
	if s.key == nil {
		s.t.Fatal("its key was not read out")
	}
}

// framed is a message with its length in front.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// The ways to be a bad neighbour.
const (
	garbage = iota
	halfFrame
	tooLong
	bentByte  // of a good message: its MAC is wrong
	bentField // and the MAC is right
	again     // a good message of before
	keepOpen
	badWays
)

// bend gives what a script has go over the line; whole: an answer may come.
func (s *street) bend(script []byte) (out []byte, whole bool) {
	at := 0
	one := func() int {
		if at == len(script) {
			return 0
		}
		at++
		return int(script[at-1])
	}
	way := one() % badWays
	wire := bytes.Clone(s.wires[one()%len(s.wires)])
	switch way {
	case garbage:
		return script[at:], false
	case halfFrame:
		f := framed(wire)
		return f[:1+one()%(len(f)-1)], false
	case tooLong:
		return append([]byte{0xFF, byte(one())}, script[at:]...), false
	case bentByte:
		for range 1 + one()%4 {
			wire[one()%len(wire)] ^= byte(1 + one()%255)
		}
	case bentField:
		m := new(iso8583.Message)
		if err := m.Unpack(iso8583.UnionPayPOS(), wire); err != nil {
			break
		}
		for range 1 + one()%4 {
			n := 2 + one()%62
			v := bytes.Clone(m.Get(n))
			switch one() % 4 {
			case 0:
				v = nil
			case 1:
				if len(v) > 0 {
					v[one()%len(v)] ^= byte(1 << (one() % 8))
				}
			case 2:
				v = v[:len(v)/2]
			default:
				k := min(one(), len(script)-at)
				v, at = script[at:at+k], at+k
			}
			if n != 41 { // the key is this terminal's
				m.Set(n, v)
			}
		}
		m.SetText(11, fmt.Sprintf("%06d", 1+one()<<8+one()))
		if sealed, err := m.Seal(nil, s.key); err == nil {
			wire = sealed
		}
	case keepOpen:
		return []byte{0, 0}, true
	}
	return framed(wire), true
}

// attack sends what a script says over a connection of its own.
func (s *street) attack(script []byte) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	out, whole := s.bend(script)
	if _, err := conn.Write(out); err != nil {
		return nil // the host hung up already
	}
	if !whole {
		return nil
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // nothing more comes: the host answers what it has and ends
	}
	_, _ = io.Copy(io.Discard, conn)
	return nil
}

// serves sells something at the good terminal.
func (s *street) serves(t testing.TB) {
	t.Helper()
	r, err := s.good.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{Track2: s.own.track}})
	if err != nil || !r.Approved {
		t.Fatalf("the good terminal is not served: %v %s", err, r.Code)
	}
	if s.sold++; s.sold%200 == 0 { // a batch has room for 999
		if _, err := s.good.pos.Settle(); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzSocket: whatever comes over a line, under no key, a wrong MAC or the right
// one, the host stays, others are served, and the books stand.
func FuzzSocket(f *testing.F) {
	s := openStreet(f)
	f.Add([]byte{garbage, 0, 1, 2, 3})
	f.Add([]byte{garbage, 0, 0, 3, 0x60, 0, 3})
	f.Add([]byte{halfFrame, 1, 9})
	f.Add([]byte{tooLong, 0, 0x27, 1})
	f.Add([]byte{bentByte, 2, 1, 20, 7})
	f.Add([]byte{bentField, 1, 1, 2, 0, 33, 1})
	f.Add([]byte{bentField, 3, 0, 58, 3, 4, '0', '0', '9', '9'})
	f.Add([]byte{again, 1})
	f.Add([]byte{keepOpen})
	f.Fuzz(func(t *testing.T, script []byte) {
		if err := s.attack(script); err != nil {
			t.Fatal(err)
		}
		s.serves(t)
		s.kit.TB = t
		s.kit.Proved()
	})
}

// TestSocketStorm: many bad neighbours at once, and one who only wants to sell.
func TestSocketStorm(t *testing.T) {
	const neighbours, each = 4, 120
	s := openStreet(t)
	var all sync.WaitGroup
	failed := make([]error, neighbours)
	for n := range neighbours {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 7))
			for range each {
				script := make([]byte, 4+r.IntN(60))
				for i := range script {
					script[i] = byte(r.Uint32())
				}
				if err := s.attack(script); err != nil {
					failed[n] = err
					return
				}
			}
		})
	}
	for range 20 {
		s.serves(t)
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Error(err)
	}
	s.serves(t)
	if got, err := s.good.pos.Settle(); err != nil || !got.Balanced {
		t.Errorf("the good terminal settles: %+v, %v", got, err)
	}
	s.kit.Proved()
}
