package main

import (
	"koala/card"
	"koala/card/catalog"
	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/pboc"
)

// A pair of primes makes one key of the published chain, exponent 3. They were
// drawn once; anybody may sign with them, so no terminal that takes money may
// know the authority.
type primes struct{ p, q string }

var (
	testCAPrimes = primes{ // 1408 bits
		"CB80E543E80C2CA18AE7EB9E97294510BE683946099C4E3533F69C32159377ED78B08D18D9E212DFAEDC47D839EE3113" +
			"146E0C5BDC5FD10BEE3955239D7D7758FA06145CBD21EB2D8F345E2F6CF6C1A3736456B699A3F283",
		"FA5FC1A57BCA9A3F13DF58E7225877729D9594F235C6BA4388E27B19193DE5DA71E6641B110483F8C0D306660DA825B1" +
			"C99DED5AC9AD280DF9B01E7E73A55DA1045333E135ECB72E55A5708B1094027E79308F773E1EDD25",
	}
	testIssuerPrimes = primes{ // 1152 bits
		"E53CCDBD33C1F8AD701B2E18BA9E65CF8A1360F103D322A3B1FAE26C89F315D201E80DF483858C352A0B5A6E504B1B06" +
			"62836971BDCB4CBCCCFF6F9AC0443DDAFD26C1266683443B",
		"C33B0778FBCE620181B781B57457A5DDA94628CB4066EBC1AEDD27A490E8B66B453D3D5B5EA42397FA1637E2D5F6ED34" +
			"7FCE1C0F121CDAE1D9D8E379985F406371B3417AB7F4D12B",
	}
	testCardPrimes = primes{ // 1024 bits
		"E485AB3D2DA722ED7C37A974A58574836E32166F5B469BDACD79121118B30D750235F1DAA27787807BDA35BEA38E8AA7" +
			"4FA9ACA63F0161E9059FF7AD0E3CEFD9",
		"D7B33810506A53D0F305E4C22733F85DB4818B72A784E3FF07505B24B9751FB737ABFCD5D0DCAF7242BDE938777C6486" +
			"32D6E8807FAF2BE4428565AEF3E5F091",
	}
)

func (x primes) key() (*emv.PrivateKey, error) {
	return emv.NewPrivateKey(mustHex(x.p), mustHex(x.q), []byte{3})
}

// The published bank card: the roots of its keys are those of a public worked
// example of cryptograms, so that its values can be followed by hand.
const (
	testPAN      = "6228000100001117"
	testOwner    = "62280001" // of the issuer's certificate
	testCAIndex  = 0xF0
	testMasterAC = "113348A6711C7D40D4C3F66A84A177C6"
	testMasterMA = "86F294F77FF2E64B9827AE94CAB173EF"
	testMasterEN = "9F2DC3BC2FB48470B252234888F597A3"
	testCash     = 100_00 // fen of e-cash
	testPIN      = "1234"
)

// testAuthority is the public key that terminals need for the test card.
func testAuthority() (emv.CAKey, error) {
	ca, err := testCAPrimes.key()
	if err != nil {
		return emv.CAKey{}, err
	}
	k := emv.NewCAKey([5]byte([]byte(pboc.RID)), testCAIndex, ca.Public())
	k.Scheme, k.Environment = "koala test cards", "test"
	return k, nil
}

// bankCard is everything the issuer of the test card knows, certificates still
// to come.
func bankCard(private *emv.PrivateKey) (pboc.Card, error) {
	pin, err := emv.PINBlock(testPIN)
	return pboc.Card{
		Label: "PBOC DEBIT", Priority: 1, PAN: testPAN, PSN: 1, Service: "220", Name: "TEST/KOALA",
		Effective: [3]byte{0x24, 0x01, 0x01}, Expiry: [3]byte{0x40, 0x12, 0x31},
		Country: [2]byte{0x01, 0x56}, Currency: [2]byte{0x01, 0x56}, AIP: [2]byte{0x7C, 0x00},
		DKI: 1, CVN: pboc.CVN01, Alg: pboc.TripleDES, Report: pboc.ReportBalance,
		AC: [16]byte(mustHex(testMasterAC)), MAC: [16]byte(mustHex(testMasterMA)), ENC: [16]byte(mustHex(testMasterEN)),
		CA: testCAIndex, Private: private.CRT(), Version1: true, PIN: pin[:], PINLimit: 3,
		Processing: pboc.ProcECash | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcSignature | pboc.ProcOnlinePIN,
		Balance:    testCash, BalanceLimit: 1000_00, SingleLimit: 1000_00, CVMLimit: 300_00, TotalLimit: 500_00,
	}, err
}

// certified puts the published chain on a card.
func certified(c pboc.Card, private *emv.PrivateKey) (pboc.Card, error) {
	ca, err := testCAPrimes.key()
	if err != nil {
		return c, err
	}
	issuer, err := testIssuerPrimes.key()
	if err != nil {
		return c, err
	}
	expiry := [2]byte{0x12, 0x40}
	up, err := emv.MakeIssuerCertificate(ca, emv.KeyInfo{Owner: testOwner, Expiry: expiry, Serial: [3]byte{0, 0, 1}, Key: issuer.Public()})
	if err != nil {
		return c, err
	}
	own, err := emv.MakeICCCertificate(issuer, emv.KeyInfo{Owner: c.PAN, Expiry: expiry, Serial: [3]byte{0, 0, 2}, Key: private.Public()}, c.Static())
	c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = up.Certificate, up.Remainder, up.Exponent
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = own.Certificate, own.Remainder, own.Exponent
	return c, err
}

func writeTestBankCard(w *cardWriter) error {
	return writeBankCard(w, pboc.AIDDebit, func(*pboc.Card) {})
}

// writeBankCard writes the published card under any name, with something
// changed that no certificate vouches for.
func writeBankCard(w *cardWriter, aid card.AID, change func(*pboc.Card)) error {
	private, err := testCardPrimes.key()
	if err != nil {
		return err
	}
	c, err := bankCard(private)
	if err != nil {
		return err
	}
	if c, err = certified(c, private); err != nil {
		return err
	}
	change(&c)
	var groups []gp.DGI
	for _, g := range c.Personalisation().DGIs() {
		data := g.Data
		if g.Secret > 0 {
			sealed, err := w.key(data[:g.Secret])
			if err != nil {
				return err
			}
			data = append(append([]byte(nil), sealed...), data[g.Secret:]...)
		}
		groups = append(groups, gp.DGI{ID: g.ID, Data: data})
	}
	return w.install(catalog.PaymentLoadFile, catalog.PaymentModule, aid, nil, groups)
}
