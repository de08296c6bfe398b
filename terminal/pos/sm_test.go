package pos_test

import (
	"bytes"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

const smIndex = 0xD1

// smKey is a fixed SM2 key of the tests: a byte repeated.
func smKey(b byte) *emv.PrivateKey { return must(emv.NewSM2Key(bytes.Repeat([]byte{b}, 32))) }

// withSM gives a card an SM2 chain beside the RSA one. It comes last: the chain
// certifies what the card is by then.
func withSM(c *pboc.Card) {
	issuer := must(emv.MakeIssuerCertificate(smKey(0x11), emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x35}, Serial: [3]byte{0, 0, 9}, Key: smKey(0x22).Public()}))
	own := must(emv.MakeICCCertificate(smKey(0x22), emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x35}, Key: smKey(0x33).Public()}, c.Static()))
	c.SM = pboc.SMChain{CA: smIndex, IssuerCertificate: issuer.Certificate, ICCCertificate: own.Certificate, Key: smKey(0x33),
		SSAD: must(smKey(0x22).SignStatic([2]byte{0xDA, 0xC0}, c.Static()))}
}

// knowsSM gives a till the SM2 key of a certification authority.
func knowsSM(c *pos.Config) {
	c.Kernel.Keys = append(c.Kernel.Keys, emv.NewCAKey([5]byte([]byte(pboc.RID)), smIndex, smKey(0x11).Public()))
	c.Record = true
}

// sawSM tells whether the card of the last dialogue was read in its SM2 chain, by the
// signature or the certificate it gave.
func (s *shop) sawSM() bool {
	for _, x := range s.till.Dialogue() {
		for _, tag := range []tlv.Tag{emv.TagSDAD, emv.TagIssuerCert} {
			if v, ok := tlv.Find(x.Response.Data, tag); ok && (v[0] == 0x15 || len(v) == 142) {
				return true
			}
		}
	}
	return false
}

// A card with both chains at tills that know one or both of them, over the air and
// by contact, in every way of authentication. What is wrong with a certificate shows
// before the card has paid; a signature that may be one of version 01, which signs
// what the last record tells, only after.
func TestSMSales(t *testing.T) {
	for _, tt := range []struct {
		name    string
		card    func(*pboc.Card)
		shop    func(*pos.Config)
		contact bool
		sm      bool
		fen     uint64
		result  kernel.Result
		reason  kernel.Reason
		holds   uint64
	}{
		{"fDDA 00", nil, knowsSM, false, true, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"fDDA 01", func(c *pboc.Card) { c.Version1 = true; withSM(c) }, knowsSM, false, true, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"till without an SM2 key", nil, func(c *pos.Config) { c.Record = true }, false, false, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"card without an SM2 chain", func(c *pboc.Card) { c.SM = pboc.SMChain{} }, knowsSM, false, false, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"DDA", nil, knowsSM, true, true, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"CDA", func(c *pboc.Card) { c.AIP[0] |= 0x01; withSM(c) }, knowsSM, true, true, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"SDA", func(c *pboc.Card) { c.AIP[0] = 0x5C; withSM(c) }, knowsSM, true, true, 12_00, kernel.Approved, kernel.NoReason, 88_00},
		{"unknown CA", func(c *pboc.Card) { c.SM.CA = 0xD2 }, knowsSM, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"the RSA CA named", func(c *pboc.Card) { c.SM.CA = caIndex }, knowsSM, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"wrong issuer certificate", func(c *pboc.Card) { c.SM.IssuerCertificate = spoiled(c.SM.IssuerCertificate, 20) }, knowsSM, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"wrong card certificate", func(c *pboc.Card) { c.SM.ICCCertificate = spoiled(c.SM.ICCCertificate, 30) }, knowsSM, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"certificate of another card", func(c *pboc.Card) {
			c.SM.ICCCertificate = must(emv.MakeICCCertificate(smKey(0x22), emv.KeyInfo{Owner: "6228000100001125", Expiry: [2]byte{0x12, 0x35}, Key: smKey(0x33).Public()}, c.Static())).Certificate
		}, knowsSM, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"another key in the card", func(c *pboc.Card) { c.SM.Key = smKey(0x44) }, knowsSM, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"revoked issuer", nil, func(c *pos.Config) {
			knowsSM(c)
			c.Kernel.Revoked = func(_ [5]byte, index byte, serial [3]byte) bool {
				return index == smIndex && serial == [3]byte{0, 0, 9}
			}
		}, false, true, 1, kernel.Declined, kernel.NotGenuine, 100_00},
		{"inserted, wrong card certificate", func(c *pboc.Card) { c.SM.ICCCertificate = spoiled(c.SM.ICCCertificate, 30) },
			func(c *pos.Config) { knowsSM(c); c.Issuer = nil }, true, true, 12_00, kernel.Declined, kernel.NoHost, 100_00},
		{"inserted, unknown CA", func(c *pboc.Card) { c.SM.CA = 0xD2 },
			func(c *pos.Config) { knowsSM(c); c.Issuer = nil }, true, true, 12_00, kernel.Declined, kernel.NoHost, 100_00},
		{"inserted, combined, another key", func(c *pboc.Card) { c.AIP[0] |= 0x01; withSM(c); c.SM.Key = smKey(0x44) },
			func(c *pos.Config) { knowsSM(c); c.Issuer = nil }, true, true, 12_00, kernel.Declined, kernel.PaidNotAccepted, 88_00},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := issue(t, func(c *pboc.Card) {
				withSM(c)
				if tt.card != nil {
					tt.card(c)
				}
			})
			s := newShop(t, tt.shop)
			sell := s.tap
			if tt.contact {
				sell = s.insert
			}
			r := sell(p, tt.fen)
			want(t, r.Outcome, tt.result, tt.reason)
			if s.sawSM() != tt.sm || p.holds() != tt.holds {
				t.Errorf("SM2 chain read: %v, card holds %d", s.sawSM(), p.holds())
			}
			if tt.result == kernel.Approved && (r.Record == nil || r.Record.Verify(openAC) != nil) {
				t.Errorf("record %v", r.Record)
			}
		})
	}
}

func spoiled(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// Somebody between card and till changes one bit of the signature.
func TestSMSignatureChanged(t *testing.T) {
	p, s := issue(t, withSM), newShop(t, knowsSM)
	transmit := p.present(card.Contactless)
	r, err := s.till.Tap(func(c iso7816.Command) (iso7816.Response, error) {
		r, err := transmit(c)
		if v, ok := tlv.Find(r.Data, emv.TagSDAD); ok {
			v[40] ^= 1
		}
		return r, err
	}, pos.Sale{Fen: 12_00})
	if err != nil {
		t.Fatal(err)
	}
	if want(t, r.Outcome, kernel.Declined, kernel.NotGenuine); p.holds() != 100_00 {
		t.Errorf("card holds %d", p.holds())
	}
}

// BenchmarkQuickpassSM is BenchmarkQuickpass with the SM2 chain.
func BenchmarkQuickpassSM(b *testing.B) {
	s := newShop(b, func(c *pos.Config) { c.Sales = terminal.NewFlash(64) }, knowsSM, func(c *pos.Config) { c.Record = false })
	rich := func(c *pboc.Card) { c.Balance, c.BalanceLimit = 900_000_00, 999_999_99 }
	p := issue(b, rich, withSM)
	b.ResetTimer()
	for i := range b.N {
		if r := s.tap(p, 1); r.Outcome.Result != kernel.Approved {
			b.Fatal(r.Outcome)
		}
		if i%100 == 99 {
			b.StopTimer()
			if _, _, err := s.till.Close(); err != nil {
				b.Fatal(err)
			}
			if err := s.till.Release(s.till.Batch(1).First + uint32(s.till.Waiting()) - 1); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if i%60000 == 59999 { // its counter ends
			p = issue(b, rich, withSM)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "taps/s")
}
