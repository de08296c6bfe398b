package hsm_test

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db/dbtest"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

//go:embed testdata/primes.txt
var primes []byte

// bank is an hsm with the keys of an issuing bank, RSA keys from the pool.
func bank(t testing.TB) *hsm.HSM {
	t.Helper()
	h, err := hsm.Open(ctx, dbtest.Open(t), hsm.Config{KeyFile: filepath.Join(t.TempDir(), "koala.key"), Rand: clock.Random(3), Primes: primes})
	if err == nil {
		err = errors.Join(h.Provision(ctx), h.ProvisionBank(ctx), h.ProvisionBank(ctx))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPublishedVector runs CARD.md 6.4 #1 (cnblogs 1024Planet) through the hsm:
// ARQC, balance MAC, ARPC, and the two scripts derived from its keys there.
func TestPublishedVector(t *testing.T) {
	h, err := hsm.Open(ctx, dbtest.Open(t), hsm.Config{KeyFile: filepath.Join(t.TempDir(), "koala.key")})
	if err != nil {
		t.Fatal(err)
	}
	for label, imk := range map[string]string{
		hsm.LabelCardAC: "F0C34A8124CEE0A91A0B034AA97D6EAC", hsm.LabelCardENC: "D30F45EABC12AC3EF56B0C0D7F8654DE",
		hsm.LabelCardMAC: "12B1AC4AF070CC35612BFE2D30AB600D",
	} {
		if _, err := h.Import(ctx, label, hsm.CardRoot, unhex(t, imk)); err != nil {
			t.Fatal(err)
		}
	}
	c := hsm.Cryptogram{PAN: "6228000100001", PSN: 1, ATC: 0x0240, AC: [8]byte(unhex(t, "5D016C91005E7CC2")), AIP: [2]byte{0x7D, 0x00},
		IAD: unhex(t, "07000103A04002010A010000001000D1F61152"),
		Data: pboc.Transaction{Amount: [6]byte{5: 1}, Country: [2]byte{0x01, 0x56}, TVR: [5]byte(unhex(t, "0080046000")), Currency: [2]byte{0x01, 0x56},
			Date: [3]byte{0x14, 0x07, 0x01}, Unpredictable: [4]byte(unhex(t, "1E78EEBC"))}}
	iad, err := h.CheckAC(ctx, c)
	if err != nil || iad.CVR.First() != pboc.ARQC || iad.Amounts[0] != 10_00 {
		t.Errorf("%+v, %v", iad, err)
	}
	if arpc, err := h.ARPC(ctx, c, [2]byte{'0', '1'}); err != nil || !bytes.Equal(arpc, unhex(t, "21415243527CE78F 3031")) {
		t.Errorf("ARPC %X, %v", arpc, err)
	}
	script, err := h.ProtectScript(ctx, c, pboc.PutBalance(50_00), pboc.AppBlock())
	if err != nil || fmt.Sprintf("%X", script[0].Bytes()) != "04DA9F790A000000005000AE268094" || fmt.Sprintf("%X", script[1].Bytes()) != "841E00000442CA0591" {
		t.Errorf("scripts %v, %v", script, err)
	}
	for _, spoil := range []func(*hsm.Cryptogram){
		func(c *hsm.Cryptogram) { c.AC[0]++ }, func(c *hsm.Cryptogram) { c.ATC++ }, func(c *hsm.Cryptogram) { c.PSN++ },
		func(c *hsm.Cryptogram) { c.Data.Amount[5]++ }, func(c *hsm.Cryptogram) { c.AIP[0]++ }, func(c *hsm.Cryptogram) { c.IAD = c.IAD[:12] },
	} {
		bad := c
		spoil(&bad)
		if _, err := h.CheckAC(ctx, bad); !errors.Is(err, hsm.ErrAC) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	richer := c
	richer.IAD = bytes.Clone(c.IAD)
	richer.IAD[13]++
	if _, err := h.CheckAC(ctx, richer); !errors.Is(err, hsm.ErrBalance) {
		t.Errorf("a balance that the card did not report: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, c.PAN) {
		t.Errorf("printing shows the PAN: %s", s)
	}
}

// TestEveryCryptogramVerifies lets a card with drawn data, either algorithm and
// either version make cryptograms, and the hsm verify them and answer.
func TestEveryCryptogramVerifies(t *testing.T) {
	h := bank(t)
	roots := map[string][]byte{}
	for _, root := range []string{hsm.LabelCardAC, hsm.LabelCardMAC} {
		for usage, label := range map[hsm.Usage]string{hsm.CardRoot: root, hsm.CardRootSM: root + hsm.LabelSM} {
			roots[label] = append([]byte(label)[:0:0], unhex(t, "00112233445566778899AABBCCDDEEFF")...)
			roots[label][0] = byte(len(label))
			if _, err := h.Import(ctx, label, usage, roots[label]); err != nil {
				t.Fatal(err)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		alg := rapid.SampledFrom([]pboc.Algorithm{pboc.TripleDES, pboc.SM4}).Draw(rt, "alg")
		c := hsm.Cryptogram{PAN: rapid.StringMatching(`62[0-9]{14,17}`).Draw(rt, "pan"), PSN: rapid.Byte().Draw(rt, "psn") % 100,
			ATC: rapid.Uint16().Draw(rt, "atc"), AIP: [2]byte{0x7C, 0}}
		copy(c.Data.Unpredictable[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "un"))
		c.Data.Amount = pboc.Amount(uint64(rapid.IntRange(0, 1_000_00).Draw(rt, "fen")))
		iad := pboc.IAD{DKI: 2, CVN: rapid.SampledFrom([]byte{pboc.CVN01, pboc.CVN17, 0x11}).Draw(rt, "cvn"), Alg: alg,
			CVR: pboc.NewCVR(pboc.ARQC, pboc.NotRequested), Report: pboc.ReportBalance, Amounts: [2]uint64{uint64(rapid.IntRange(0, 1_000_00).Draw(rt, "balance"))}}
		ac, mac := chipKeys(rt, roots, alg, c)
		iad.Sign(mac.Session(c.ATC), c.ATC)
		c.IAD = iad.Bytes()
		data, err := pboc.ACData(iad.CVN, c.Data, c.AIP, c.ATC, iad.CVR)
		if err != nil {
			rt.Fatal(err)
		}
		c.AC = ac.Session(c.ATC).MAC(nil, data)
		if got, err := h.CheckAC(ctx, c); err != nil || got.Amounts != iad.Amounts {
			rt.Fatalf("%+v: %v", got, err)
		}
		arc := [2]byte{'0', '0'}
		want := ac.Session(c.ATC).ARPC(c.AC, arc)
		if got, err := h.ARPC(ctx, c, arc); err != nil || !bytes.Equal(got[:8], want[:]) {
			rt.Fatalf("ARPC %X, want %X, %v", got, want, err)
		}
		script, err := h.ProtectScript(ctx, c, pboc.PutBalance(7))
		if err == nil {
			_, err = mac.Session(c.ATC).Unprotect(script[0], c.ATC, c.AC)
		}
		if err != nil {
			rt.Fatal(err)
		}
		log := pboc.SignedLoadLog{ATC: c.ATC, Entries: []pboc.LoadEntry{{Tag: 0x9F79, New: 5, ATC: c.ATC}}}
		log.Sign(mac.Session(c.ATC))
		if got, err := h.CheckLoadLog(ctx, hsm.BankCard{PAN: c.PAN, PSN: c.PSN, Alg: alg}, log.Bytes()); err != nil || len(got.Entries) != 1 {
			rt.Fatalf("load log %+v, %v", got, err)
		}
		log.MAC[0]++
		if _, err := h.CheckLoadLog(ctx, hsm.BankCard{PAN: c.PAN, PSN: c.PSN, Alg: alg}, log.Bytes()); !errors.Is(err, hsm.ErrBalance) {
			rt.Fatalf("a load log nobody signed: %v", err)
		}
	})
}

// chipKeys derives as CARD.md 1.6 says, with spec/emv and, for SM4, by hand.
func chipKeys(t *rapid.T, roots map[string][]byte, alg pboc.Algorithm, c hsm.Cryptogram) (ac, mac *pboc.Key) {
	psn := c.PSN/10<<4 | c.PSN%10
	derive := func(label string) *pboc.Key {
		if alg == pboc.TripleDES {
			mk, err := emv.CardKey(roots[label], c.PAN, psn, emv.OptionA)
			if err != nil {
				t.Fatal(err)
			}
			return pboc.NewKey(alg, [16]byte(mk))
		}
		digits := c.PAN + fmt.Sprintf("%02X", psn)
		y, err := hex.DecodeString(digits[len(digits)-16:])
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range y[:8] {
			y = append(y, ^b)
		}
		return pboc.NewKey(alg, [16]byte(pboc.NewKey(alg, [16]byte(roots[label+hsm.LabelSM])).Encrypt(y)))
	}
	return derive(hsm.LabelCardAC), derive(hsm.LabelCardMAC)
}

func TestCertificateChain(t *testing.T) {
	h := bank(t)
	const pan = "6288880000000000018"
	if n, err := h.FillPool(ctx, 3); n != 3 || err != nil {
		t.Fatalf("made %d, %v", n, err)
	}
	if n, err := h.FillPool(ctx, 2); n != 0 || err != nil {
		t.Fatalf("made %d more, %v", n, err)
	}
	k, err := h.TakeICCKey(ctx, "order 1")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.TakeICCKey(ctx, "order 1"); err != nil || again.ID != k.ID {
		t.Errorf("the same order got %s and %s, %v", k.ID, again.ID, err)
	}
	if other, err := h.TakeICCKey(ctx, "order 2"); err != nil || other.ID == k.ID {
		t.Errorf("two orders got %s, %v", k.ID, err)
	}
	if n, err := h.PoolSize(ctx); n != 1 || err != nil {
		t.Errorf("%d keys left, %v", n, err)
	}
	ca, err := h.CAKey(ctx, emv.RSA, 0)
	if err != nil || !ca.Valid() || len(ca.Modulus) != 1408/8 || string(ca.RID[:]) != pboc.RID {
		t.Fatalf("%+v, %v", ca, err)
	}
	if _, public := emv.FindCA(ca.RID, ca.Index); public {
		t.Errorf("index %02X is UnionPay's own", ca.Index)
	}
	static := []byte("static data")
	issuer, index, err := h.IssuerCertificate(ctx, emv.RSA, pan[:8], [2]byte{0x12, 0x35})
	if err != nil || index != ca.Index {
		t.Fatal(index, err)
	}
	icc, err := h.ICCCertificate(ctx, emv.KeyInfo{Owner: pan, Expiry: [2]byte{0x09, 0x20}, Serial: [3]byte{0, 0, 1}, Key: k.Public}, static)
	if err != nil {
		t.Fatal(err)
	}
	clear(issuer.Certificate[:4]) // a caller's own bytes: the next gets whole ones
	if issuer, _, err = h.IssuerCertificate(ctx, emv.RSA, pan[:8], [2]byte{0x12, 0x35}); err != nil {
		t.Fatal(err)
	}
	top, err := emv.RecoverIssuer(ca, issuer, emv.Check{PAN: pan, Date: [3]byte{0x15, 0x09, 0x16}})
	if err != nil {
		t.Fatal(err)
	}
	card, err := emv.RecoverICC(top.Key, icc, static, emv.Check{PAN: pan, Date: [3]byte{0x15, 0x09, 0x16}})
	if err != nil || !bytes.Equal(card.Key.Modulus(), k.Public.Modulus()) {
		t.Errorf("%+v, %v", card, err)
	}
	ssad, err := h.SignStatic(ctx, emv.RSA, [2]byte{1, 2}, static)
	if err != nil {
		t.Fatal(err)
	}
	if dac, err := emv.VerifySDA(top.Key, ssad, static); err != nil || dac != [2]byte{1, 2} {
		t.Errorf("SDA %X, %v", dac, err)
	}
}

// TestSM2Chain: the house's second chain down to a card, its key once for each
// card, and its parts under the element's DEK only.
func TestSM2Chain(t *testing.T) {
	h := bank(t)
	const pan = "6288880000000000018"
	k, err := h.TakeSM2Key(ctx, "order 1")
	if err != nil || k.Public.Algorithm() != emv.SM2 {
		t.Fatal(err)
	}
	if again, err := h.TakeSM2Key(ctx, "order 1"); err != nil || again.ID != k.ID || !bytes.Equal(again.Public.Modulus(), k.Public.Modulus()) {
		t.Errorf("the same order got %s and %s, %v", k.ID, again.ID, err)
	}
	if other, err := h.TakeSM2Key(ctx, "order 2"); err != nil || bytes.Equal(other.Public.Modulus(), k.Public.Modulus()) {
		t.Errorf("two orders got one key, %v", err)
	}
	if r, err := h.TakeICCKey(ctx, "order 1"); err != nil || r.ID == k.ID || r.Public.Algorithm() != emv.RSA {
		t.Errorf("the RSA key of the same order: %v %v", r.ID, err)
	}
	if _, err := h.TakeSM2Key(ctx, ""); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("for nobody: %v", err)
	}
	ca, err := h.CAKey(ctx, emv.SM2, 0)
	rsa, err2 := h.CAKey(ctx, emv.RSA, 0)
	if err != nil || err2 != nil || !ca.Valid() || ca.Algorithm != emv.SM2 || ca.Index == rsa.Index || string(ca.RID[:]) != pboc.RID {
		t.Fatalf("%+v, %v, %v", ca, err, err2)
	}
	if _, public := emv.FindCA(ca.RID, ca.Index); public {
		t.Errorf("index %02X is UnionPay's own", ca.Index)
	}
	static, check := []byte("static data"), emv.Check{PAN: pan, Date: [3]byte{0x15, 0x09, 0x16}}
	issuer, index, err := h.IssuerCertificate(ctx, emv.SM2, pan[:8], [2]byte{0x12, 0x35})
	if again, _, _ := h.IssuerCertificate(ctx, emv.SM2, pan[:8], [2]byte{0x12, 0x35}); err != nil || index != ca.Index || !bytes.Equal(again.Certificate, issuer.Certificate) {
		t.Fatal(index, err)
	}
	own, err := h.ICCCertificate(ctx, emv.KeyInfo{Owner: pan, Expiry: [2]byte{0x09, 0x20}, Serial: [3]byte{0, 0, 1}, Key: k.Public}, static)
	if err != nil {
		t.Fatal(err)
	}
	top, err := emv.RecoverIssuer(ca, issuer, check)
	if err != nil {
		t.Fatal(err)
	}
	card, err := emv.RecoverICC(top.Key, own, static, check)
	if err != nil || !bytes.Equal(card.Key.Modulus(), k.Public.Modulus()) {
		t.Errorf("%+v, %v", card, err)
	}
	ssad, err := h.SignStatic(ctx, emv.SM2, [2]byte{1, 2}, static)
	if dac, err2 := emv.VerifySDA(top.Key, ssad, static); err != nil || err2 != nil || dac != [2]byte{1, 2} {
		t.Errorf("SDA %X, %v %v", dac, err, err2)
	}
	if _, err := h.Rotate(ctx, hsm.LabelCA+hsm.LabelSM2); err != nil {
		t.Fatal(err)
	}
	if next, err := h.CAKey(ctx, emv.SM2, 0); err != nil || next.Index != ca.Index+1 {
		t.Errorf("the next CA key %+v %v", next, err)
	}
	for _, label := range []string{hsm.LabelCA + hsm.LabelSM2, hsm.LabelIssuer + hsm.LabelSM2} { // what was certified under the old keys is not handed out
		if _, err := h.Rotate(ctx, label); err != nil {
			t.Fatal(err)
		}
		ca, err := h.CAKey(ctx, emv.SM2, 0)
		next, index, err2 := h.IssuerCertificate(ctx, emv.SM2, pan[:8], [2]byte{0x12, 0x35})
		if err != nil || err2 != nil || index != ca.Index {
			t.Fatal(index, err, err2)
		}
		own, err := h.ICCCertificate(ctx, emv.KeyInfo{Owner: pan, Expiry: [2]byte{0x09, 0x20}, Serial: [3]byte{0, 0, 1}, Key: k.Public}, static)
		top, err2 := emv.RecoverIssuer(ca, next, check)
		if err != nil || err2 != nil {
			t.Fatalf("under new %s: %v %v", label, err, err2)
		}
		if _, err := emv.RecoverICC(top.Key, own, static, check); err != nil {
			t.Errorf("under new %s: %v", label, err)
		}
	}
}

func TestPIN(t *testing.T) {
	h := bank(t)
	const pan = "6288880000000000018"
	block, err := h.EncipherPIN(ctx, pan, "135790")
	if err != nil {
		t.Fatal(err)
	}
	ref, err := h.PINReference(ctx, pan, block)
	if err != nil || bytes.Contains(ref, []byte("135790")) {
		t.Fatalf("%X, %v", ref, err)
	}
	if err := h.CheckPIN(ctx, pan, block, ref); err != nil {
		t.Error(err)
	}
	wrong, err := h.EncipherPIN(ctx, pan, "135791")
	if err != nil {
		t.Fatal(err)
	}
	garbled := block
	garbled.Block[3]++
	for _, tt := range []struct {
		name, pan string
		block     hsm.PINBlock
		ref       []byte
		want      error
	}{
		{"another PIN", pan, wrong, ref, hsm.ErrPIN},
		{"another card's block", "6288880000000000026", block, ref, hsm.ErrPINBlock},
		{"damaged", pan, garbled, ref, hsm.ErrPINBlock},
		{"format 1", pan, hsm.PINBlock{Format: 1, Block: block.Block}, ref, hsm.ErrPINBlock},
		{"no zone", pan, hsm.PINBlock{Zone: "zone.other"}, ref, hsm.ErrNoKey},
		{"not a zone", pan, hsm.PINBlock{Zone: hsm.LabelCardAC}, ref, hsm.ErrUsage},
		{"no reference", pan, block, nil, hsm.ErrSealed},
	} {
		if err := h.CheckPIN(ctx, tt.pan, tt.block, tt.ref); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	one, err := h.Token(ctx, pan)
	if err == nil {
		_, err = h.Rotate(ctx, hsm.LabelToken)
	}
	if two, err2 := h.Token(ctx, pan); err != nil || err2 != nil || one != two || len(one) != 32 {
		t.Errorf("tokens %s %s, %v %v", one, two, err, err2)
	}
}

// TestKeyGroups personalises over a channel and opens what arrived with the
// element's DEK: the groups are those of spec/pboc.
func TestKeyGroups(t *testing.T) {
	h := bank(t)
	e := &element{kdd: [10]byte{1, 2, 3}, keys: globalplatform.FactoryKeys()}
	card := hsm.BankCard{PAN: "6288880000000000018", PSN: 1, Alg: pboc.TripleDES, DKI: 1}
	icc, err := h.TakeICCKey(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	block, err := h.EncipherPIN(ctx, card.PAN, "1234")
	if err != nil {
		t.Fatal(err)
	}
	pin, err := h.SealPIN(ctx, card.PAN, block)
	if err != nil {
		t.Fatal(err)
	}
	refs := []hsm.KeyRef{
		{DGI: pboc.DGIKeys, Form: hsm.CardKeys, Card: card.Ref()}, {DGI: pboc.DGIKeyChecks, Form: hsm.CardChecks, Card: card.Ref()},
		{DGI: pboc.DGIPIN, Form: hsm.PINGroup, Data: pin}, {DGI: pboc.DGIPrimeP, Form: hsm.RSAPart, Card: icc.ID},
	}
	list, err := h.WrapScript(ctx, hsm.Script{HostChallenge: host, InitAnswer: e.initialise(t, host), Level: globalplatform.CMAC | globalplatform.CENC,
		Commands: []hsm.Plain{{Command: iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsStoreData, P1: 0x88, Le: iso7816.NoLe}, Keys: refs}}})
	if err != nil {
		t.Fatal(err)
	}
	data := e.run(t, list)[0].Data
	sizes := 0
	got := map[uint16][]byte{}
	for range refs {
		d, rest, ok, err := globalplatform.NextDGI(data)
		if err != nil || !ok {
			t.Fatal(err)
		}
		got[d.ID], data = d.Data, rest
	}
	for _, r := range refs {
		if n := len(got[r.DGI]); n == 0 || n+3 > r.Size() {
			t.Errorf("group %04X has %d bytes, said %d", r.DGI, n, r.Size())
		}
		sizes += r.Size()
	}
	keys := opened(t, e, got[pboc.DGIKeys])
	var checks []byte
	for i := range 3 {
		kcv := pboc.KCV(pboc.TripleDES, [16]byte(keys[16*i:]))
		checks = append(checks, kcv[:]...)
	}
	if !bytes.Equal(checks, got[pboc.DGIKeyChecks]) {
		t.Errorf("check values %X, of the keys %X", got[pboc.DGIKeyChecks], checks)
	}
	if b := opened(t, e, got[pboc.DGIPIN]); !bytes.Equal(b, unhex(t, "241234FFFFFFFFFF 8000000000000000")) {
		t.Errorf("PIN block %X", b)
	}
	if p := opened(t, e, got[pboc.DGIPrimeP]); len(p) != 80 || p[64] != 0x80 {
		t.Errorf("prime %X", p)
	}
}

// TestSM2Groups: an SM2 key's number and point go out under the element's DEK, and
// no part of a key goes out in the other key's form.
func TestSM2Groups(t *testing.T) {
	h := bank(t)
	sm, err := h.TakeSM2Key(ctx, "order 9")
	rsa, err2 := h.TakeICCKey(ctx, "order 9")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	host := [8]byte{1, 2, 3}
	wrap := func(refs ...hsm.KeyRef) ([]iso7816.Command, *element, error) {
		e := &element{kdd: [10]byte{0, 0, 0, 4, 1, 2, 3, 4, 5, 6}, keys: globalplatform.FactoryKeys()}
		list, err := h.WrapScript(ctx, hsm.Script{HostChallenge: host, InitAnswer: e.initialise(t, host), Level: globalplatform.CMAC | globalplatform.CENC,
			Commands: []hsm.Plain{{Command: iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsStoreData, P1: 0x88, Le: iso7816.NoLe}, Keys: refs}}})
		return list, e, err
	}
	refs := []hsm.KeyRef{{DGI: pboc.DGIScalarSM, Form: hsm.SM2Part, Card: sm.ID}, {DGI: pboc.DGIPointSM, Form: hsm.SM2Part, Card: sm.ID}}
	list, e, err := wrap(refs...)
	if err != nil {
		t.Fatal(err)
	}
	data := e.run(t, list)[0].Data
	var parts [][]byte
	for _, r := range refs {
		d, rest, ok, err := globalplatform.NextDGI(data)
		if err != nil || !ok || d.ID != r.DGI || len(d.Data)+3 > r.Size() {
			t.Fatalf("%+v %v", d, err)
		}
		parts, data = append(parts, opened(t, e, d.Data)), rest
	}
	k, err := emv.NewSM2Key(parts[0][:32])
	if err != nil || parts[0][32] != 0x80 || parts[1][64] != 0x80 || !bytes.Equal(k.Public().Modulus(), sm.Public.Modulus()) || !bytes.Equal(parts[1][:64], sm.Public.Modulus()) {
		t.Errorf("parts of %d and %d bytes, %v", len(parts[0]), len(parts[1]), err)
	}
	for _, r := range []hsm.KeyRef{
		{DGI: pboc.DGIScalarSM, Form: hsm.SM2Part, Card: rsa.ID}, {DGI: pboc.DGIPrimeP, Form: hsm.RSAPart, Card: sm.ID},
		{DGI: pboc.DGIPrimeP, Form: hsm.SM2Part, Card: sm.ID}, {DGI: pboc.DGIScalarSM, Form: hsm.RSAPart, Card: rsa.ID},
	} {
		if _, _, err := wrap(r); !errors.Is(err, hsm.ErrUsage) {
			t.Errorf("%04X in form %d: %v", r.DGI, r.Form, err)
		}
	}
}

func opened(t *testing.T, e *element, sealed []byte) []byte {
	t.Helper()
	b, err := e.card.DecryptKey(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDESFireGroup: keys in an application's group are the card's own, by its
// UID, and the door's credential carries the access host's MAC for that card.
func TestDESFireGroup(t *testing.T) {
	h := bank(t)
	roots := map[string][16]byte{}
	for i, label := range []string{hsm.LabelDoor + ".0", hsm.LabelDoor + ".1", hsm.LabelDoorHost} {
		k := [16]byte(unhex(t, "00112233445566778899AABBCCDDEEFF"))
		k[0] = byte(i + 1)
		roots[label] = k
		if _, err := h.Import(ctx, label, hsm.AESRoot, k[:]); err != nil {
			t.Fatal(err)
		}
	}
	e := &element{kdd: [10]byte{0, 0, 0, 4, 0x78, 0x2E, 0x21, 0x80, 0x1D, 0x80}, keys: globalplatform.FactoryKeys()}
	uid := desfire.UID(e.kdd[3:])
	app, err := desfire.Door([2]desfire.SealedKey{}, desfire.Credential{Site: 7, Person: 9}).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.WrapScript(ctx, hsm.Script{HostChallenge: host, InitAnswer: e.initialise(t, host), Level: globalplatform.CMAC | globalplatform.CENC,
		Commands: []hsm.Plain{{Command: iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsStoreData, P1: 0x88, Le: iso7816.NoLe},
			Keys: []hsm.KeyRef{{DGI: desfire.DGIApplication, Form: hsm.AESApp, Label: hsm.LabelDoor, Data: app},
				{DGI: desfire.DGIMaster, Form: hsm.AESMaster, Label: hsm.LabelPICC, Data: []byte{0x0F}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	d, rest, _, err := globalplatform.NextDGI(e.run(t, list)[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := desfire.ParseApplication(d.Data)
	if err != nil {
		t.Fatal(err)
	}
	for i, sealed := range got.Keys {
		k, err := sealed.Open(e.card.DecryptKey)
		want := desfire.CardKey(desfire.AESKey(roots[fmt.Sprintf("%s.%d", hsm.LabelDoor, i)], 2), uid, desfire.DoorAID, desfire.DoorSystem)
		if err != nil || k != want {
			t.Errorf("key %d: %v, %v", i, k == want, err)
		}
	}
	c, err := desfire.ParseCredential(got.Files[0].Content)
	if err != nil || c.Verify(roots[hsm.LabelDoorHost], uid) != nil || c.Verify(roots[hsm.LabelDoorHost], desfire.UID{}) == nil {
		t.Errorf("credential %+v, %v", c, err)
	}
	if d, _, _, err = globalplatform.NextDGI(rest); err != nil || len(d.Data) != 22 {
		t.Errorf("master group %X, %v", d.Data, err)
	}
}

// TestKeysFromChance: with the same source of chance the same keys come out, so
// that a run of the city can be repeated.
func TestKeysFromChance(t *testing.T) {
	var lists [2]string
	for i := range lists {
		h, err := hsm.Open(ctx, dbtest.Open(t), hsm.Config{KeyFile: filepath.Join(t.TempDir(), "k"), Rand: clock.Random(9)})
		if err == nil {
			err = h.ProvisionBank(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		ca, err := h.CAKey(ctx, emv.RSA, 0)
		if err != nil {
			t.Fatal(err)
		}
		lists[i] = fmt.Sprintf("%X", ca.Modulus)
	}
	if lists[0] != lists[1] {
		t.Error("two CA keys from one source of chance")
	}
}
