package pos_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/internal/clock"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// The whole of it: tapped, authenticated offline, kept, verified by the host
// from the record alone, settled.
func TestOfflineSale(t *testing.T) {
	for _, version := range []bool{false, true} {
		p := issue(t, func(c *pboc.Card) { c.Version1 = version }) // fDDA 00 and 01
		s := newShop(t, func(c *pos.Config) { c.Record = true })
		r := s.tap(p, 12_00)
		if want(t, r.Outcome, kernel.Approved, kernel.NoReason); p.holds() != 88_00 || r.Record == nil || r.Record.Kind != pboc.ClearSale || len(s.bank.asked) != 0 {
			t.Fatalf("card holds %d, record %v", p.holds(), r.Record)
		}
		if err := r.Record.Verify(openAC); err != nil {
			t.Error(err)
		}
		if r.Took > 500*time.Millisecond || r.Took < 100*time.Millisecond {
			t.Errorf("took %v by the model", r.Took)
		}
		t.Logf("fDDA 01 %v: %v in %d commands", version, r.Took, len(s.till.Dialogue()))
		if sum := s.till.Totals(); sum.Sales != 1 || sum.SalesFen != 12_00 || sum.Net() != 12_00 {
			t.Errorf("totals %+v", sum)
		}
		b := s.till.Batch(10)
		wire := must(b.MarshalBinary())
		if back := must(pboc.ParseClearingBatch(wire)); back.Records[0].Verify(openAC) != nil {
			t.Error("the batch does not read back")
		}
		if len(b.Records) != 1 || b.First != 1 || b.Records[0].Batch != 1 || b.Records[0].STAN != r.STAN || s.till.BatchNumber() != 1 {
			t.Errorf("batch %+v", b)
		}
		if err := s.till.Release(1); !errors.Is(err, pos.ErrOpen) {
			t.Errorf("released from the open batch: %v", err)
		}
		if n, sum, err := s.till.Close(); n != 1 || sum.Sales != 1 || err != nil {
			t.Errorf("closed %d %+v %v", n, sum, err)
		}
		if err := s.till.Release(1); err != nil || s.till.Waiting() != 0 {
			t.Errorf("%v, %d wait", err, s.till.Waiting())
		}
		s.boot()
		if s.till.BatchNumber() != 2 || s.till.Last().SalesFen != 12_00 || s.till.Totals() != (pos.Totals{}) {
			t.Errorf("after power: batch %d, last %+v", s.till.BatchNumber(), s.till.Last())
		}
	}
}

// One line per way a till can end a sale, with what the card and the store
// hold afterwards.
func TestSales(t *testing.T) {
	for _, tt := range []struct {
		name    string
		card    func(*pboc.Card)
		shop    func(*pos.Config)
		bank    func(*bank)
		contact bool
		fen     uint64
		result  kernel.Result
		reason  kernel.Reason
		holds   uint64
		kind    pboc.ClearingKind // 0: no record
	}{
		{"all the card has", nil, nil, nil, false, 100_00, kernel.Approved, kernel.NoReason, 0, pboc.ClearSale},
		{"more than it has: the host", nil, nil, nil, false, 100_01, kernel.Approved, kernel.NoReason, 100_00, pboc.ClearOnline},
		{"the host declines", nil, nil, func(b *bank) { b.arc = "51" }, false, 100_01, kernel.Declined, kernel.HostDeclined, 100_00, 0},
		{"the host is silent", nil, nil, func(b *bank) { b.silent = true }, false, 100_01, kernel.Declined, kernel.NoHost, 100_00, pboc.ClearCancel},
		{"no line", nil, func(c *pos.Config) { c.Issuer = nil }, nil, false, 100_01, kernel.Declined, kernel.NoHost, 100_00, 0},
		{"offline only till", nil, func(c *pos.Config) { c.Kernel.TTQ[0] |= 0x08 }, nil, false, 100_01, kernel.Declined, kernel.CardDecided, 100_00, 0},
		{"expired", func(c *pboc.Card) { c.Expiry = [3]byte{0x26, 0x12, 0x31} }, nil, nil, false, 1, kernel.Declined, kernel.Expired, 100_00, 0},
		{"unknown CA", func(c *pboc.Card) { c.CA = 0x99 }, nil, nil, false, 1, kernel.Declined, kernel.NotGenuine, 100_00, 0},
		{"inserted, e-cash", nil, nil, nil, true, 12_00, kernel.Approved, kernel.NoReason, 88_00, pboc.ClearSale},
		{"wants the contacts for the host", func(c *pboc.Card) { c.Processing |= pboc.ProcPreferContact }, nil, nil, false, 100_01, kernel.OtherInterface, kernel.CardRefused, 100_00, 0},
		{"a CVM it has not", func(c *pboc.Card) { c.Processing &^= pboc.ProcSignature; c.Balance = 400_00 }, nil, nil, false, 300_00, kernel.OtherInterface, kernel.CardRefused, 400_00, 0},
		{"by signature", func(c *pboc.Card) { c.Balance = 400_00 }, nil, nil, false, 300_00, kernel.Approved, kernel.NoReason, 100_00, pboc.ClearSale},
		{"inserted, combined signature", func(c *pboc.Card) { c.AIP[0] |= 0x01 }, nil, nil, true, 12_00, kernel.Approved, kernel.NoReason, 88_00, pboc.ClearSale},
		{"inserted, combined signature, the host", func(c *pboc.Card) { c.AIP[0] |= 0x01 }, nil, nil, true, 600_00, kernel.Approved, kernel.NoReason, 100_00, pboc.ClearOnline},
		{"inserted, static signature asked", func(c *pboc.Card) { c.AIP[0] = 0x5C }, func(c *pos.Config) { c.Issuer = nil }, nil, true, 12_00, kernel.Declined, kernel.NoHost, 100_00, 0},
		{"inserted, expired", func(c *pboc.Card) { c.Expiry = [3]byte{0x26, 0x12, 0x31} }, func(c *pos.Config) { c.Issuer = nil }, nil, true, 12_00, kernel.Declined, kernel.NoHost, 100_00, 0},
		{"inserted, unknown CA", func(c *pboc.Card) { c.CA = 0x99 }, func(c *pos.Config) { c.Issuer = nil }, nil, true, 12_00, kernel.Declined, kernel.NoHost, 100_00, 0},
		{"inserted, the host", nil, nil, nil, true, 600_00, kernel.Approved, kernel.NoReason, 100_00, pboc.ClearOnline},
		{"inserted, the host declines", nil, nil, func(b *bank) { b.arc = "51" }, true, 600_00, kernel.Declined, kernel.HostDeclined, 100_00, 0},
		{"inserted, silent", nil, nil, func(b *bank) { b.silent = true }, true, 600_00, kernel.Declined, kernel.NoHost, 100_00, pboc.ClearCancel},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cards []func(*pboc.Card)
			var shops []func(*pos.Config)
			if tt.card != nil {
				cards = append(cards, tt.card)
			}
			if tt.shop != nil {
				shops = append(shops, tt.shop)
			}
			p, s := issue(t, cards...), newShop(t, shops...)
			if tt.bank != nil {
				tt.bank(s.bank)
			}
			sell := s.tap
			if tt.contact {
				sell = s.insert
			}
			r := sell(p, tt.fen)
			want(t, r.Outcome, tt.result, tt.reason)
			var kind pboc.ClearingKind
			if r.Record != nil {
				kind = r.Record.Kind
			}
			if p.holds() != tt.holds || kind != tt.kind || s.bank.refused > 0 || len(s.till.Doubts()) > 0 {
				t.Errorf("card holds %d, record %d, bank refused %d, doubts %v", p.holds(), kind, s.bank.refused, s.till.Doubts())
			}
			if kind != 0 {
				if err := r.Record.Verify(openAC); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestExceptionList(t *testing.T) {
	p, s := issue(t), newShop(t)
	s.deny(number)
	want(t, s.tap(p, 1).Outcome, kernel.Declined, kernel.OnExceptions)
	want(t, s.insert(p, 1).Outcome, kernel.Declined, kernel.OnExceptions)
	if p.holds() != 100_00 {
		t.Errorf("card holds %d", p.holds())
	}
}

func TestReverse(t *testing.T) {
	p, s := issue(t), newShop(t)
	r := s.tap(p, 12_00)
	back, err := s.till.Reverse(r.STAN)
	if err != nil || back.Kind != pboc.ClearReversal || back.AC != r.Record.AC {
		t.Fatalf("%v %v", back, err)
	}
	if _, err := s.till.Reverse(r.STAN); !errors.Is(err, pos.ErrReversed) {
		t.Errorf("reversed twice: %v", err)
	}
	if _, err := s.till.Reverse(999); !errors.Is(err, pos.ErrNoSale) {
		t.Errorf("reversed nothing: %v", err)
	}
	if sum := s.till.Totals(); sum.Net() != 0 || sum.Reversals != 1 {
		t.Errorf("totals %+v", sum)
	}
}

func TestTakeBack(t *testing.T) {
	p, s := issue(t), newShop(t)
	r := s.tap(p, 12_00)
	if _, err := s.till.TakeBack(1, r.STAN); !errors.Is(err, pos.ErrOpen) {
		t.Errorf("refunded in the open batch: %v", err)
	}
	if _, _, err := s.till.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.till.Reverse(r.STAN); !errors.Is(err, pos.ErrNoSale) {
		t.Errorf("reversed in a closed batch: %v", err)
	}
	back, err := s.till.TakeBack(1, r.STAN)
	if err != nil || back.Kind != pboc.ClearRefund || back.Batch != 2 || back.STAN == r.STAN || back.Verify(openAC) != nil {
		t.Fatalf("%v %v", back, err)
	}
	if _, err := s.till.TakeBack(1, r.STAN); !errors.Is(err, pos.ErrReversed) {
		t.Errorf("refunded twice: %v", err)
	}
	if sum := s.till.Totals(); sum.Refunds != 1 || sum.Net() != -12_00 {
		t.Errorf("totals %+v", sum)
	}
}

func TestRefund(t *testing.T) {
	p, s := issue(t), newShop(t)
	r, err := s.till.Tap(p.present(card.Contactless), pos.Sale{Fen: 5_00, Type: pos.Refund})
	if err != nil {
		t.Fatal(err)
	}
	if want(t, r.Outcome, kernel.Approved, kernel.NoReason); r.Record.Kind != pboc.ClearRefund || p.holds() != 100_00 || s.till.Totals().Net() != -5_00 {
		t.Errorf("%v, holds %d", r.Record, p.holds())
	}
}

func TestReceipt(t *testing.T) {
	p, s := issue(t), newShop(t)
	r := s.tap(p, 12_00)
	for _, zh := range []bool{false, true} {
		text := strings.Join(s.till.Receipt(r, zh), "\n")
		if strings.Contains(text, number) {
			t.Error("the receipt shows the card")
		}
		for _, must := range []string{"KOALA TEAHOUSE", "898110058120001", "30008900", "000001", "2027-03-01 12:00:00", "12.00", "622800******1117",
			"KOALA E-CASH  AID A000000333010101", "TC ", "ATC 0001", "88.00"} {
			if !strings.Contains(text, must) {
				t.Errorf("no %q in\n%s", must, text)
			}
		}
	}
	slip := strings.Join(s.till.TotalsSlip(1, s.till.Totals(), true), "\n")
	if !strings.Contains(slip, "脱机消费 1  12.00") || !strings.Contains(slip, "净额 12.00 元") {
		t.Error(slip)
	}
	t.Logf("\n%s", strings.Join(s.till.Receipt(r, true), "\n"))
}

// A full store stops sales before a card pays, and goes on once it is settled.
func TestStoreIsBounded(t *testing.T) {
	p, s := issue(t), newShop(t, func(c *pos.Config) { c.Sales = terminal.NewFlash(4) })
	n := 0
	for ; ; n++ {
		r := s.tap(p, 1)
		if r.Outcome.Result != kernel.Approved {
			want(t, r.Outcome, kernel.EndApplication, kernel.NoRoom)
			break
		}
	}
	if p.holds() != 100_00-uint64(n) || s.till.Waiting() != n || n < 10 {
		t.Fatalf("%d sold, %d wait, card holds %d", n, s.till.Waiting(), p.holds())
	}
	if _, _, err := s.till.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.till.Release(uint32(n)); err != nil {
		t.Fatal(err)
	}
	want(t, s.tap(p, 1).Outcome, kernel.Approved, kernel.NoReason)
}

// Trace numbers never repeat, whatever happens to the power.
func TestTraceNumbers(t *testing.T) {
	p, s := issue(t), newShop(t)
	seen := map[uint32]bool{}
	for range 20 {
		r := s.tap(p, 1)
		if seen[r.STAN] || r.STAN == 0 {
			t.Fatalf("STAN %d again", r.STAN)
		}
		seen[r.STAN] = true
		s.boot()
	}
}

// A card of another house, and none at all.
func TestStrangers(t *testing.T) {
	s := newShop(t)
	r, err := s.till.Tap(func(iso7816.Command) (iso7816.Response, error) {
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	}, pos.Sale{Fen: 1})
	if err != nil {
		t.Fatal(err)
	}
	want(t, r.Outcome, kernel.EndApplication, kernel.NoApplication)
	r, err = s.till.Tap(func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn }, pos.Sale{Fen: 1})
	if err != nil {
		t.Fatal(err)
	}
	want(t, r.Outcome, kernel.TryAgain, kernel.Torn)
}

// A card whose keys are SM4's pays the same way; its cryptogram is another.
func TestOfflineSaleSM4(t *testing.T) {
	p, s := issue(t, func(c *pboc.Card) { c.Alg = pboc.SM4 }), newShop(t)
	r := s.tap(p, 12_00)
	want(t, r.Outcome, kernel.Approved, kernel.NoReason)
	if err := r.Record.Verify(pboc.NewKey(pboc.SM4, keyAC)); err != nil {
		t.Error(err)
	}
	if err := r.Record.Verify(openAC); !errors.Is(err, pboc.ErrTC) {
		t.Errorf("verifies under triple DES: %v", err)
	}
}

// A card whose own certificate is not right is found out before it has paid: its
// record is read before the one that commits.
func TestWrongCardCertificate(t *testing.T) {
	other := must(emv.GenerateKey(clock.Random(8), 1152, 3))
	for name, spoil := range map[string]func(*pboc.Card){
		"a bit of it": func(c *pboc.Card) { c.ICCCertificate = spoiled(c.ICCCertificate, 30) },
		"of another card": func(c *pboc.Card) {
			c.ICCCertificate = must(emv.MakeICCCertificate(keys().issuer, emv.KeyInfo{Owner: "6228000100001125", Expiry: [2]byte{0x12, 0x35}, Key: keys().card.Public()}, c.Static())).Certificate
		},
		"by another issuer": func(c *pboc.Card) {
			c.ICCCertificate = must(emv.MakeICCCertificate(other, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x35}, Key: keys().card.Public()}, c.Static())).Certificate
		},
		"out of date": func(c *pboc.Card) {
			c.ICCCertificate = must(emv.MakeICCCertificate(keys().issuer, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x26}, Key: keys().card.Public()}, c.Static())).Certificate
		},
	} {
		for _, v1 := range []bool{false, true} {
			c := certified(func(c *pboc.Card) { c.Version1 = v1 })
			spoil(&c)
			p, s := written(t, c), newShop(t)
			r := s.tap(p, 12_00)
			want(t, r.Outcome, kernel.Declined, kernel.NotGenuine)
			if sum := s.till.Totals(); r.Outcome.Committed || p.holds() != 100_00 || sum.SalesFen != 0 || len(s.till.Doubts()) != 0 {
				t.Errorf("%s, version 01 %v: card holds %d, %+v", name, v1, p.holds(), sum)
			}
		}
	}
}

// A card of random answers, at a till with its store: never an approval, never
// an error of the till, nothing kept.
func FuzzHostileCard(f *testing.F) {
	p := issue(f)
	send := p.present(card.Contactless)
	var seed []byte
	for _, c := range []iso7816.Command{
		iso7816.Select([]byte("2PAY.SYS.DDF01")), iso7816.Select([]byte(pboc.AIDDebit)), iso7816.ReadRecord(1, 2, 0), iso7816.ReadRecord(1, 3, 0),
	} {
		r, _ := send(c)
		seed = append(append(seed, byte(len(r.Data))), r.Data...)
	}
	f.Add(seed, byte(0))
	f.Add(seed, byte(1))
	f.Add([]byte{2, 0x77, 0}, byte(2))
	s := newShop(f)
	f.Fuzz(func(t *testing.T, in []byte, way byte) {
		script := in
		hostile := func(iso7816.Command) (iso7816.Response, error) {
			if len(script) == 0 {
				return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
			}
			n := min(int(script[0]), len(script)-1)
			r := iso7816.Response{Data: script[1 : 1+n], SW: iso7816.OK}
			script = script[1+n:]
			return r, nil
		}
		var o kernel.Outcome
		var err error
		switch way % 3 {
		case 0:
			var r pos.Result
			r, err = s.till.Tap(hostile, pos.Sale{Fen: 1})
			o = r.Outcome
		case 1:
			var r pos.Result
			r, err = s.till.Insert(hostile, pos.Sale{Fen: 1})
			o = r.Outcome
		case 2:
			var r pos.LoadResult
			r, err = s.till.Load(hostile, 1)
			o = r.Outcome
		}
		if err != nil || o.Result == kernel.Approved || s.till.Waiting() > 0 {
			t.Fatalf("%v %v, %d kept", o, err, s.till.Waiting())
		}
	})
}

// Six-digit numbers begin again after 999999.
func TestNumbersWrap(t *testing.T) {
	p := issue(t)
	state := terminal.NewFlash(2)
	value := append([]byte{0, 0x0F, 0x42, 0x3A, 0, 0x0F, 0x42, 0x3F, 0, 0, 0, 1}, make([]byte, 60)...) // STANs taken up to 999994, batch 999999
	if err := terminal.OpenBank(state).Put(1, value); err != nil {
		t.Fatal(err)
	}
	s := newShop(t, func(c *pos.Config) { c.State = state })
	for _, stan := range []uint32{999_995, 999_996, 999_997, 999_998, 999_999, 1, 2} {
		if r := s.tap(p, 1); r.STAN != stan || r.Batch != 999_999 {
			t.Fatalf("STAN %d in batch %d, want %d", r.STAN, r.Batch, stan)
		}
	}
	if _, _, err := s.till.Close(); err != nil || s.till.BatchNumber() != 1 {
		t.Errorf("batch %d, %v", s.till.BatchNumber(), err)
	}
	s.boot()
	if r := s.tap(p, 1); r.STAN <= 2 || r.Batch != 1 {
		t.Errorf("after power STAN %d in batch %d", r.STAN, r.Batch)
	}
	broken := terminal.NewFlash(2)
	if err := terminal.OpenBank(broken).Put(1, []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	s.cfg.State = broken
	if _, err := pos.New(s.cfg); err == nil {
		t.Error("starts with counters that do not read")
	}
}

// A band that has verified its wearer answers for the cardholder; one that has
// not leaves a card that cannot sign to the other interface.
func TestVerifiedOnTheWrist(t *testing.T) {
	p := issue(t, func(c *pboc.Card) { c.Processing &^= pboc.ProcSignature; c.Balance = 400_00 })
	s := newShop(t)
	if r := s.tap(p, 300_00); r.Outcome.Result != kernel.OtherInterface {
		t.Errorf("nobody vouches: %v", r.Outcome.Result)
	}
	p.e.Vouch(true)
	if r := s.tap(p, 300_00); r.Outcome.Result != kernel.Approved || r.Outcome.CVM != kernel.ConsumerDevice {
		t.Errorf("vouched for: %v, verified %v", r.Outcome.Result, r.Outcome.CVM)
	}
}

// A signature that is changed on its way is seen before a card of fDDA version
// 00 pays, and when one of version 01 has paid. The till declines and gives no
// goods; what was paid it tells the house, as a record that claims nothing.
func TestFastChanged(t *testing.T) {
	for version, left := range map[bool]uint64{false: 100_00, true: 88_00} {
		p, s := issue(t, func(c *pboc.Card) { c.Version1 = version }), newShop(t)
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
		why := map[bool]kernel.Reason{false: kernel.NotGenuine, true: kernel.PaidNotAccepted}[version]
		if want(t, r.Outcome, kernel.Declined, why); p.holds() != left {
			t.Errorf("version 01 %v: the card holds %d", version, p.holds())
		}
		list := s.till.Batch(pboc.MaxClearingBatch).Records
		if version != (len(list) == 1) || version && (list[0].Kind != pboc.ClearReversal || list[0].Fen != 12_00) {
			t.Errorf("version 01 %v: %+v", version, list)
		}
	}
}
