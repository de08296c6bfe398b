package coupon

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/coupon"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

func TestRedeem(t *testing.T) {
	b := newBench(t)
	r, sw := b.do(coupon.Redeem, voucherID, 25_00)
	if !sw.OK() || r.Reduction != 5_00 || r.Counter != 0 || r.Holder != holder || r.Merchant != shop {
		t.Fatalf("%v %+v", sw, r)
	}
	if r, sw = b.do(coupon.Redeem, voucherID, 25_00); !sw.OK() || r.Counter != 1 {
		t.Fatalf("%v %+v", sw, r)
	}
	if _, sw = b.do(coupon.Redeem, voucherID, 25_00); sw != iso7816.SWReferenceInvalid {
		t.Errorf("a third time: %v", sw)
	}
	if c := b.coupon(voucherID); c.Uses != 0 || c.Counter != 2 {
		t.Errorf("%+v", c)
	}
}

func TestStampCard(t *testing.T) {
	b := newBench(t)
	for round := range uint16(2) {
		if _, sw := b.do(coupon.Redeem, stampID, 30_00); sw != coupon.SWStamps {
			t.Errorf("without stamps: %v", sw)
		}
		for i := range byte(3) {
			if r, sw := b.do(coupon.GiveStamp, stampID, 20_00); !sw.OK() || r.Reduction != 0 || b.coupon(stampID).Stamps != i+1 {
				t.Fatalf("stamp %d: %v", i+1, sw)
			}
		}
		if _, sw := b.do(coupon.GiveStamp, stampID, 20_00); sw != coupon.SWFull {
			t.Errorf("a fourth stamp: %v", sw)
		}
		r, sw := b.do(coupon.Redeem, stampID, 10_00)
		if c := b.coupon(stampID); !sw.OK() || r.Reduction != 10_00 || r.Counter != 4*round+3 || c.Stamps != 0 || c.Uses != 1-round {
			t.Fatalf("%v %+v, then %+v", sw, r, c)
		}
	}
	if _, sw := b.do(coupon.GiveStamp, stampID, 20_00); sw != iso7816.SWReferenceInvalid {
		t.Errorf("used up: %v", sw)
	}
}

// What is refused changes nothing but a key's tries.
func TestRefusals(t *testing.T) {
	late := noon
	late[3] = 0x31
	for _, tt := range []struct {
		name string
		x    func(b *bench) iso7816.Command
		want iso7816.SW
	}{
		{"unknown coupon", func(b *bench) iso7816.Command { return b.ask(coupon.Redeem, coupon.ID{9}, 25_00).Command() }, iso7816.SWReferenceNotFound},
		{"below the minimum", func(b *bench) iso7816.Command { return b.ask(coupon.Redeem, voucherID, 19_99).Command() }, coupon.SWMinimum},
		{"too late", func(b *bench) iso7816.Command {
			x := b.ask(coupon.Redeem, voucherID, 25_00)
			x.At = late
			return x.Command()
		}, coupon.SWDate},
		{"a stamp on a voucher", func(b *bench) iso7816.Command { return b.ask(coupon.GiveStamp, voucherID, 25_00).Command() }, iso7816.SWData},
		{"COMMIT without BEGIN", func(*bench) iso7816.Command { return coupon.Commit{}.Command() }, iso7816.SWConditions},
		{"COMMIT too short", func(*bench) iso7816.Command {
			return iso7816.Command{CLA: coupon.CLA, INS: coupon.InsCommit, Data: []byte{1}}
		}, iso7816.SWLength},
		{"BEGIN with P2", func(b *bench) iso7816.Command {
			c := b.ask(coupon.Redeem, voucherID, 25_00).Command()
			c.P2 = 1
			return c
		}, iso7816.SWP1P2},
		{"PROVE of nothing", func(*bench) iso7816.Command { return coupon.Prove{}.Command() }, iso7816.SWReferenceNotFound},
		{"fourth coupon", func(*bench) iso7816.Command { return coupon.Read{N: 4}.Command() }, iso7816.SWRecordNotFound},
		{"coupon of no id", func(*bench) iso7816.Command { return coupon.Read{ID: coupon.ID{9}}.Command() }, iso7816.SWReferenceNotFound},
		{"another class", func(*bench) iso7816.Command { return iso7816.ReadBinarySFI(0x15, 0, 30) }, iso7816.SWClass},
		{"another instruction", func(*bench) iso7816.Command { return iso7816.Command{CLA: 0x80, INS: 0xCA} }, iso7816.SWInstruction},
	} {
		b := newBench(t)
		before := b.state()
		b.tap()
		if r := b.send(tt.x(b)); r.SW != tt.want || len(r.Data) != 0 {
			t.Errorf("%s: %v, want %v", tt.name, r, tt.want)
		}
		if b.state() != before {
			t.Errorf("%s: the card has changed", tt.name)
		}
	}
}

// A coupon is its merchant's: another one's key does nothing but use up tries.
func TestOnlyItsMerchant(t *testing.T) {
	b := newBench(t)
	for range KeyTries {
		x, sw := b.begin(otherRoot, other, b.ask(coupon.Redeem, voucherID, 25_00))
		if !sw.OK() {
			t.Fatal(sw)
		}
		if r := b.send(x.Commit().Command()); r.SW != iso7816.SWSecurity {
			t.Fatalf("%v", r)
		}
		if r := b.send(x.Commit().Command()); r.SW != iso7816.SWConditions {
			t.Fatalf("a second try in one session: %v", r)
		}
	}
	if _, sw := b.do(coupon.Redeem, voucherID, 25_00); sw != iso7816.SWBlocked {
		t.Errorf("after %d wrong MACs: %v", KeyTries, sw)
	}
	if x, sw := b.begin(otherRoot, other, b.ask(coupon.Redeem, otherID, 25_00)); !sw.OK() || x.said.Key != 3 {
		t.Errorf("the other's own coupon: %v", sw)
	}
}

func TestTriesComeBack(t *testing.T) {
	b := newBench(t)
	for range 3 {
		for range KeyTries - 1 {
			x, _ := b.begin(otherRoot, other, b.ask(coupon.GiveStamp, stampID, 25_00))
			if r := b.send(x.Commit().Command()); r.SW != iso7816.SWSecurity {
				t.Fatal(r)
			}
		}
		if _, sw := b.do(coupon.GiveStamp, stampID, 25_00); !sw.OK() {
			t.Fatal(sw)
		}
	}
}

// What is volatile dies with power; a session is good for one COMMIT.
func TestSessionDies(t *testing.T) {
	b := newBench(t)
	x, _ := b.begin(merchantRoot, shop, b.ask(coupon.Redeem, voucherID, 25_00))
	b.tap()
	if r := b.send(x.Commit().Command()); r.SW != iso7816.SWConditions {
		t.Errorf("after power off: %v", r)
	}
	again := b.send(x.heard.Command())
	if a, err := coupon.ParseBeginAnswer(again.Data); err != nil || a.Challenge == x.said.Challenge {
		t.Errorf("%v, the same challenge again: %v", err, again)
	}
	if r := b.send(x.Commit().Command()); r.SW != iso7816.SWSecurity {
		t.Errorf("the old MAC: %v", r)
	}
	x, _ = b.begin(merchantRoot, shop, b.ask(coupon.Redeem, voucherID, 25_00))
	if r := b.send(x.Commit().Command()); !r.SW.OK() {
		t.Fatal(r)
	}
	if r := b.send(x.Commit().Command()); r.SW != iso7816.SWConditions {
		t.Errorf("the same COMMIT again: %v", r)
	}
	if r := b.send(x.heard.Command()); r.SW != iso7816.SWConditions {
		t.Errorf("a challenge that has been used: %v", r)
	}
}

// The four last operations can be proven, whatever happens in between.
func TestProofs(t *testing.T) {
	b := newBench(t)
	var tills []*till
	var answers []string
	for i := range 6 {
		op, id := coupon.GiveStamp, stampID
		if i == 3 {
			op = coupon.Redeem
		}
		x, sw := b.begin(merchantRoot, shop, b.ask(op, id, 25_00))
		if !sw.OK() {
			t.Fatal(sw)
		}
		r := b.send(x.Commit().Command())
		b.accept(x, r.Data)
		tills, answers = append(tills, x), append(answers, r.String())
	}
	b.tap()
	for i, x := range tills {
		r := b.send(coupon.Prove{Challenge: x.heard.Challenge}.Command())
		switch {
		case i < len(tills)-Proofs && r.SW != iso7816.SWReferenceNotFound:
			t.Errorf("operation %d is still known: %v", i, r)
		case i >= len(tills)-Proofs && r.String() != answers[i]:
			t.Errorf("operation %d: %v, want %s", i, r, answers[i])
		}
	}
}

// Over the air: what comes again changes nothing, what contradicts is refused.
func TestStoreData(t *testing.T) {
	b := newBench(t, 4)
	if _, sw := b.do(coupon.Redeem, voucherID, 25_00); !sw.OK() {
		t.Fatal(sw)
	}
	used := b.state()
	b.store(iso7816.OK, coupon.DGICoupon, voucher().Bytes())
	b.store(iso7816.OK, coupon.DGIHolder, holder[:])
	changed := voucher()
	changed.Value = 50_00
	b.store(iso7816.SWConditions, coupon.DGICoupon, changed.Bytes())
	b.store(iso7816.SWConditions, coupon.DGIHolder, shop[:])
	b.store(iso7816.SWData, coupon.DGIHolder, make([]byte, 8))
	b.store(iso7816.SWData, coupon.DGICoupon, make([]byte, coupon.Len))
	b.store(iso7816.SWData, coupon.DGIDelete, []byte{1})
	b.store(iso7816.SWReferenceNotFound, 0x7777, nil)
	b.store(iso7816.SWData, coupon.DGIKeyFirst, coupon.KeyRecord{Index: 1, Use: coupon.MerchantKey, Owner: shop}.Bytes())
	b.store(iso7816.SWData, coupon.DGIKeyFirst, coupon.KeyRecord{Index: 1, Use: 7, Owner: shop, KCV: iso9797.KCVAES(make([]byte, 16))}.Bytes())
	if b.state() != used {
		t.Fatal("the card has changed")
	}
	more := voucher()
	more.ID = coupon.ID{7}
	b.store(iso7816.OK, coupon.DGICoupon, more.Bytes())
	more.ID = coupon.ID{8}
	b.store(iso7816.SWNoSpace, coupon.DGICoupon, more.Bytes())
	for range 2 {
		b.store(iso7816.OK, coupon.DGIDelete, voucherID[:])
	}
	b.store(iso7816.OK, coupon.DGICoupon, more.Bytes())
	b.tap()
	if r := b.send(coupon.Read{ID: voucherID}.Command()); r.SW != iso7816.SWReferenceNotFound {
		t.Errorf("deleted: %v", r)
	}
	f, err := coupon.ParseFCI(b.send(iso7816.Select([]byte(cardAID))).Data)
	if err != nil || f.Count != 4 || f.Holder != holder {
		t.Errorf("%+v %v", f, err)
	}
	for n := byte(1); n <= 4; n++ {
		if _, err := coupon.Parse(b.send(coupon.Read{N: n}.Command()).Data); err != nil {
			t.Errorf("coupon %d: %v", n, err)
		}
	}
	for i := range byte(keyCount - 3) {
		k := coupon.KeyRecord{Index: 10 + i, Use: coupon.MerchantKey, Owner: other, Key: otherRoot, KCV: iso9797.KCVAES(otherRoot[:])}
		b.store(iso7816.OK, coupon.DGIKeyFirst, k.Bytes())
		b.store(iso7816.OK, coupon.DGIKeyFirst, k.Bytes())
	}
	b.store(iso7816.SWNoSpace, coupon.DGIKeyFirst, coupon.KeyRecord{Index: 99, Use: coupon.MerchantKey, Owner: other, Key: otherRoot, KCV: iso9797.KCVAES(otherRoot[:])}.Bytes())
}

func TestInstallParameters(t *testing.T) {
	for _, tt := range []struct {
		params []byte
		want   iso7816.SW
	}{{nil, iso7816.OK}, {[]byte{64}, iso7816.OK}, {[]byte{0}, iso7816.SWData}, {[]byte{65}, iso7816.SWData}, {[]byte{1, 1}, iso7816.SWData}} {
		sw, err := cardtest.New(t, card.Config{}, modules).Factory(func(s *card.Session) iso7816.SW {
			_, sw := s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable, AID: cardAID, Module: moduleAID, Domain: cardtest.Domain}, tt.params)
			return sw
		})
		if sw != tt.want || err != nil {
			t.Errorf("%v: %v %v", tt.params, sw, err)
		}
	}
}

// A card without number or keys shows itself and redeems nothing.
func TestNotPersonalised(t *testing.T) {
	b := newBench(t)
	b.e.PowerOff()
	_, _ = b.e.Factory(func(s *card.Session) iso7816.SW {
		own := *s
		own.Self = b.self
		own.Region(regionTag).Write(atKeys, make([]byte, keyCount*keySize))
		return iso7816.OK
	})
	b.tap()
	if _, sw := b.do(coupon.Redeem, voucherID, 25_00); sw != iso7816.SWConditions {
		t.Error(sw)
	}
}

// Any order of operations, wrong tills, tears, lost answers and proofs: the
// card's counters are those of a model that is told only what was proven, no use
// is taken twice and none is lost.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t)
		model := map[coupon.ID]coupon.Coupon{voucherID: voucher(), stampID: stampCard()}
		proven := map[coupon.Redemption]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := rapid.SampledFrom([]coupon.ID{voucherID, stampID}).Draw(t, "coupon")
			op := rapid.SampledFrom([]coupon.Op{coupon.Redeem, coupon.GiveStamp}).Draw(t, "op")
			fen := rapid.Uint32Range(15_00, 40_00).Draw(t, "fen")
			want := model[id].May(op, fen, noon)
			root, merchant := merchantRoot, shop
			if wrong := rapid.IntRange(0, 9).Draw(t, "till") == 0; wrong {
				root, merchant = otherRoot, other
			}
			x, sw := b.begin(root, merchant, b.ask(op, id, fen))
			if sw != want && sw != iso7816.SWBlocked {
				t.Fatalf("begin %v on %+v: %v, want %v", op, model[id], sw, want)
			}
			if !sw.OK() {
				continue
			}
			b.e.Memory().CutAt(rapid.IntRange(0, 8).Draw(t, "cut"), rapid.IntRange(0, 64).Draw(t, "keep"))
			b.e.LoseAnswer(rapid.IntRange(0, 3).Draw(t, "lose"))
			r, err := b.e.Transmit(x.Commit().Command())
			b.e.Memory().CutAt(0, 0)
			b.e.LoseAnswer(0)
			if err != nil {
				b.tap()
				r = b.send(coupon.Prove{Challenge: x.heard.Challenge}.Command())
			}
			if r.SW.OK() {
				red := b.accept(x, r.Data)
				if proven[red] || merchant != shop {
					t.Fatalf("proven twice, or to a stranger: %+v", red)
				}
				proven[red] = true
				model[id] = model[id].After(op)
			}
			if got := b.coupon(id); got != model[id] {
				t.Fatalf("the card has %+v, the model %+v", got, model[id])
			}
		}
	})
}

// A stranger's probing changes nothing: no random command moves a byte, but for
// tries that a wrong MAC1 takes.
func TestStrangersChangeNothing(t *testing.T) {
	b := newBench(t)
	before := b.state()
	b.tap()
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		c := iso7816.Command{CLA: coupon.CLA, INS: []byte{coupon.InsBegin, coupon.InsCommit, coupon.InsProve, coupon.InsRead, byte(r.Uint32())}[r.IntN(5)],
			P1: byte(r.IntN(3)), P2: byte(r.IntN(3)), Data: make([]byte, []int{0, 8, 35, r.IntN(64)}[r.IntN(4)])}
		for i := range c.Data {
			c.Data[i] = byte(r.Uint32())
		}
		if _, err := b.e.Transmit(c); err != nil {
			t.Fatal(err)
		}
	}
	if b.state() != before {
		t.Error("the card has changed")
	}
}

// FuzzProcess: any sequence of commands is answered, and no coupon gains a use.
func FuzzProcess(f *testing.F) {
	f.Add(coupon.Begin{Op: coupon.Redeem, Coupon: voucherID, Fen: 25_00, At: noon}.Command().Bytes(), coupon.Commit{}.Command().Bytes())
	f.Add(coupon.Read{N: 1}.Command().Bytes(), coupon.Prove{}.Command().Bytes())
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b := newBench(t)
		for _, raw := range [][]byte{first, second, first} {
			if _, err := b.e.TransmitRaw(raw); err != nil {
				t.Fatal(err)
			}
		}
		b.tap()
		if c := b.coupon(voucherID); c != voucher() {
			t.Errorf("%+v", c)
		}
	})
}
