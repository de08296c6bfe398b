package unionpay_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/card"
	"koala/internal/db"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/switching/pack"
	"koala/switching/rollout"
	"koala/terminal"
	"koala/terminal/unionpay"
)

var (
	packKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	otherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
)

// shopText are the parameters that are the shop's own, and where those of the
// pack go.
const shopText = "22KOALA                                   "

// give has the host serve a pack that key signed.
func (h *host) give(p pack.Pack, key ed25519.PrivateKey) (told *[]pack.Mark) {
	signed := must(p.Sign(func(b []byte) ([]byte, error) { return ed25519.Sign(key, b), nil }))
	told = new([]pack.Mark)
	mark := func(v []byte) []byte { return pack.Mark{Number: p.Number}.Append(v) }
	h.fetch["360"] = func(in []byte) []byte {
		var out []byte
		for _, x := range p.Parameters {
			if x.Number > 22 && !bytes.Contains(out, []byte(shopText)) {
				out = append(out, shopText...)
			}
			out = fmt.Appendf(out, "%02d%s", x.Number, x.Value)
		}
		if _, m := pack.Cut(in); !m.There {
			return out
		}
		return pack.Mark{Number: p.Number, Black: p.Black, Signature: signed[len(signed)-64:]}.Append(out)
	}
	h.fetch["372"] = func(in []byte) []byte { return p.KeyNames(0) }
	h.fetch["370"] = func(in []byte) []byte { return mark(p.Key(in)) }
	h.fetch["382"] = func([]byte) []byte { return p.ApplicationNames(0) }
	h.fetch["380"] = func(in []byte) []byte { return mark(p.Application(in)) }
	h.fetch["361"] = func(in []byte) []byte {
		if _, m := pack.Cut(in); m.Ends {
			*told = append(*told, m)
		}
		return nil
	}
	return told
}

// packOf is a pack whose wait is given.
func packOf(number uint32, wait int) pack.Pack {
	set := rollout.Usual
	set.Wait = wait
	return must(rollout.Make(number, set, rollout.Published(), "20150916"))
}

func packShop(t testing.TB) *shop {
	s := newShop(t)
	s.cfg.Signed = []ed25519.PublicKey{packKey.Public().(ed25519.PublicKey)}
	s.boot()
	return s
}

// TestPackIsTakenWholeOrNotAtAll: a signed pack is used, and nothing of one that
// is forged, unsigned, bent on its way or older; the host hears why.
func TestPackIsTakenWholeOrNotAtAll(t *testing.T) {
	s := packShop(t)
	told := s.host.give(packOf(4, 45), packKey)
	if err := s.pos.Download(unionpay.WantCAKeys); err != nil {
		t.Fatal(err)
	}
	stands := func(what string, number uint32, wait int) {
		t.Helper()
		s.boot()
		if p := s.pos.Parameters(); s.pos.Pack() != number || p.Wait != wait || p.Name != "KOALA" {
			t.Errorf("%s: pack %d waits %d s at %q, want %d with %d", what, s.pos.Pack(), p.Wait, p.Name, number, wait)
		}
	}
	stands("first", 4, 45)
	if len(*told) != 1 || (*told)[0].Number != 4 || (*told)[0].Result != pack.InUse {
		t.Errorf("the host heard %+v", *told)
	}
	for _, tt := range []struct {
		name string
		pack pack.Pack
		key  ed25519.PrivateKey
		bend func()
		want pack.Result
	}{
		{"forged", packOf(5, 10), otherKey, nil, pack.BadSign},
		{"an older number", packOf(3, 10), packKey, nil, pack.Outdated},
		{"a key left out", packOf(5, 10), packKey, func() {
			p := packOf(5, 10)
			p.Keys = p.Keys[1:]
			s.host.fetch["372"] = func([]byte) []byte { return p.KeyNames(0) }
		}, pack.BadSign},
		{"another limit", packOf(5, 10), packKey, func() {
			one := s.host.fetch["380"]
			s.host.fetch["380"] = func(in []byte) []byte {
				return bytes.Replace(one(in), tlv.Append(nil, 0xDF20, []byte{0, 0, 0, 0x10, 0, 0}), tlv.Append(nil, 0xDF20, []byte{0, 0, 0, 0x99, 0, 0}), 1)
			}
		}, pack.BadSign},
		{"no last day", packOf(5, 10), packKey, func() {
			one := s.host.fetch["370"]
			s.host.fetch["370"] = func(in []byte) []byte { return bytes.Replace(one(in), []byte("20211231"), []byte("2021-1-1"), 1) }
		}, pack.Unreadable},
	} {
		told := s.host.give(tt.pack, tt.key)
		if tt.bend != nil {
			tt.bend()
		}
		if err := s.pos.Download(unionpay.WantParameters); !errors.Is(err, unionpay.ErrSigned) || len(*told) != 1 || (*told)[0].Result != tt.want {
			t.Errorf("%s: %v, the host heard %+v", tt.name, err, *told)
		}
		stands(tt.name, 4, 45)
	}
	s.host.give(packOf(5, 10), packKey)
	s.host.fetch["360"] = func([]byte) []byte { return []byte("1209") } // of a host that signs nothing
	if err := s.pos.Download(unionpay.WantParameters); !errors.Is(err, unionpay.ErrSigned) {
		t.Error(err)
	}
	stands("unsigned", 4, 45)
	s.host.give(packOf(6, 50), packKey)
	if err := s.pos.Download(unionpay.WantAIDs); err != nil {
		t.Fatal(err)
	}
	stands("next", 6, 50)
}

// TestTornDownload: wherever line or power goes, the terminal has the old pack
// or the new one, whole, and a second try asks only for what is missing.
func TestTornDownload(t *testing.T) {
	for n, done := 1, false; !done; n++ {
		for _, power := range []bool{false, true} {
			s := packShop(t)
			s.host.give(packOf(1, 45), packKey)
			if err := s.pos.Download(unionpay.WantParameters); err != nil {
				t.Fatal(err)
			}
			s.host.give(packOf(2, 55), packKey)
			before := len(s.host.list)
			if power {
				s.cfg.Packs.CutAfter(n)
			} else {
				begun := s.host.n
				s.host.fault = func(at int, _, answer []byte) ([]byte, error) {
					if at == -(begun + n) {
						return nil, errSilent
					}
					return answer, nil
				}
			}
			err := s.pos.Download(unionpay.WantParameters)
			if !power {
				done = err == nil
			}
			if power && err != nil && !errors.Is(err, terminal.ErrPower) {
				t.Fatal(err)
			}
			s.host.fault = nil
			s.cfg.Packs.PowerOn()
			s.boot()
			if p := s.pos.Parameters(); !(s.pos.Pack() == 1 && p.Wait == 45 || s.pos.Pack() == 2 && p.Wait == 55) {
				t.Fatalf("cut %d: pack %d waits %d s", n, s.pos.Pack(), p.Wait)
			}
			asked := len(s.host.list)
			if err := s.pos.Download(unionpay.WantParameters); err != nil || s.pos.Pack() != 2 {
				t.Fatalf("cut %d: pack %d after another try: %v", n, s.pos.Pack(), err)
			}
			twice := map[string]int{}
			for _, m := range s.host.asked[before:] {
				if v := m.Get(62); strings.HasSuffix(m.Text(60), "370") && len(v) > 0 {
					twice[string(v)]++
				}
			}
			again := 0
			for _, n := range twice {
				again += n - 1
			}
			if again > 1 { // the one whose answer was lost
				t.Errorf("cut %d: %d keys were asked for again, in %d messages", n, again, len(s.host.list)-asked)
			}
		}
		if n > 200 {
			t.Fatal("it never ends")
		}
	}
}

// TestBadLastDay: a CA key whose last day cannot be one is refused with a word,
// the others stand.
func TestBadLastDay(t *testing.T) {
	p := packOf(1, 60)
	for _, day := range []string{"2021", "20211231 ", "20150230", "2021123X"} {
		s := newShop(t)
		s.host.give(p, packKey)
		one := s.host.fetch["370"]
		s.host.fetch["370"] = func(in []byte) []byte {
			v, _ := pack.Cut(one(in))
			if i, _ := tlv.Find(in, 0x9F22); len(i) == 1 && i[0] == 3 {
				v = append(bytes.Clone(v[:bytes.Index(v, []byte{0xDF, 5})]), append(tlv.Append(nil, 0xDF05, []byte(day)), v[bytes.Index(v, []byte{0xDF, 6}):]...)...)
			}
			return v
		}
		if err := s.pos.Download(unionpay.WantCAKeys); err != nil {
			t.Errorf("%q: %v", day, err)
		}
		if list := s.pos.Refusals(); len(list) != 1 || !strings.Contains(list[0], "A000000333/03") || !strings.Contains(list[0], day) {
			t.Errorf("%q: refused %v", day, list)
		}
		if s.boot(); s.pos.Settling() {
			t.Error("it does not start")
		}
	}
}

// TestPackAtTheSwitch: the real switch gives its first pack, and the next one by
// ring; what the terminal says of it is kept.
func TestPackAtTheSwitch(t *testing.T) {
	b := openBank(t)
	s := b.install()
	s.cfg.Signed = []ed25519.PublicKey{must(b.keys.PublicKey(ctx, pack.Label))}
	s.boot()
	carrier := func() (c rollout.Carrier) {
		b.write(func(tx *db.Tx) (err error) {
			c, err = rollout.CarrierOf(tx, s.cfg.Till.Kernel.TerminalID, tx.Now())
			return err
		})
		return c
	}
	if err := errors.Join(s.pos.SignOn(), s.pos.Status("well"), s.pos.Obey("well")); err != nil || s.pos.Pack() != 1 || carrier().Have != 1 || s.pos.Wants() != unionpay.WantNothing {
		t.Fatal(err, s.pos.Pack(), carrier(), s.pos.Wants())
	}
	set := rollout.Usual
	set.Wait = 33
	draft := must(b.host.Packs().Draft(ctx, set))
	act := func(a rollout.Act, content *pack.Pack) {
		t.Helper()
		var id string
		var c rollout.Change
		b.write(func(tx *db.Tx) (err error) {
			if c, err = rollout.Plan(tx, a, content); err != nil {
				return err
			}
			p, err := rollout.Propose(tx, c, "lin", "a test")
			id = p.ID
			return err
		})
		signed := must(b.host.Packs().Sign(ctx, c))
		b.write(func(tx *db.Tx) error { _, err := rollout.Confirm(tx, id, "wang", signed); return err })
		b.host.Packs().Reload()
	}
	act(rollout.Bring, &draft)
	for ring := 1; ring <= pack.Ring(s.cfg.Till.Kernel.TerminalID); ring++ {
		if err := errors.Join(s.pos.Status("well"), s.pos.Obey("well")); err != nil || s.pos.Pack() != 1 {
			t.Fatal("not its ring yet", err, s.pos.Pack())
		}
		act(rollout.On, nil)
	}
	if err := errors.Join(s.pos.Status("well"), s.pos.Obey("well")); err != nil || s.pos.Pack() != 2 || s.pos.Parameters().Wait != 33 || carrier().Have != 2 {
		t.Fatal(err, s.pos.Pack(), carrier())
	}
	act(rollout.Back, nil)
	s.cfg.Signed = []ed25519.PublicKey{otherKey.Public().(ed25519.PublicKey)} // a terminal that was given the wrong key
	s.boot()
	if err := errors.Join(s.pos.Status("well"), s.pos.Obey("well")); !errors.Is(err, unionpay.ErrSigned) || s.pos.Pack() != 2 {
		t.Fatal(err, s.pos.Pack())
	}
	if c := carrier(); c.Refused != 3 || c.Result != pack.BadSign || c.Have != 2 {
		t.Errorf("%+v", c)
	}
	if err := s.pos.Status("well"); err != nil || s.pos.Wants() != unionpay.WantNothing {
		t.Error("it is asked again for what it refused", err, s.pos.Wants())
	}
}

// TestCodeOfCertificates: a card that knew its issuer is sent up with 206, one
// that did not and approved all the same with 205.
func TestCodeOfCertificates(t *testing.T) {
	for _, tt := range []struct {
		name string
		bend byte
		code string
	}{{"good ARPC", 0, "206"}, {"wrong ARPC", 1, "205"}} {
		s := newShop(t)
		s.host.chip = func(m *iso8583.Message) []byte {
			out := issuer(m)
			if out[2] ^= tt.bend; len(out) < 10 {
				t.Fatal("no ARPC")
			}
			return out
		}
		p := issueCard(t, func(c *pboc.Card) { c.IssuerAuth = 0 })
		r, err := s.pos.Insert(p.present(card.Contact), unionpay.Order{Kind: unionpay.PreAuth, Fen: 50_00})
		if err != nil || !r.Approved {
			t.Fatalf("%s: %v, %v", tt.name, r.Approved, err)
		}
		s.settle()
		if sent := strings.Join(s.host.list, ","); !strings.Contains(sent, "0320 10000007"+tt.code) {
			t.Errorf("%s: %s", tt.name, sent)
		}
	}
}
