package dialogue

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// certify checks the chain of one transaction with an application: the issuer's
// certificate under the scheme's published key, the card's under the issuer's,
// then whatever the card signed (EMV 4.4 Book 2, 5 and 6; CARD.md 1.7). It runs
// when the application is selected again and when the report is made.
func (s *Session) certify(a *application) {
	chain := &chain{s: s, a: a}
	for _, c := range chain.check() {
		if !slices.ContainsFunc(s.certs, func(x Certificate) bool { return sameCheck(x, c) }) {
			s.certs = append(s.certs, c)
		}
	}
}

// sameCheck says that two checks are of the same thing with the same outcome.
func sameCheck(a, b Certificate) bool {
	return bytes.Equal(a.App, b.App) && a.Kind == b.Kind && a.OK == b.OK && a.Reason == b.Reason && a.Serial == b.Serial && a.Owner == b.Owner
}

// A chain is the keys of one application as far as they could be recovered.
type chain struct {
	s      *Session
	a      *application
	issuer emv.PublicKey
	icc    emv.PublicKey
	static []byte
	whole  bool // static is all of the data to be authenticated
	why    string
	whyZH  string
}

func (c *chain) get(tag tlv.Tag) []byte { return c.a.objects[tag] }

func (c *chain) check() (out []Certificate) {
	if c.get(emv.TagIssuerCert) == nil {
		return nil
	}
	out = append(out, c.issuerKey())
	c.collect()
	if sda := c.get(emv.TagSSAD); sda != nil {
		out = append(out, c.signedStatic(sda))
	}
	if c.get(emv.TagICCCert) != nil {
		out = append(out, c.cardKey())
	}
	if c.a.daAnswer != nil {
		out = append(out, c.dynamic())
	}
	for _, x := range c.a.combined {
		if tagged(x.answer, emv.TagSDAD) {
			out = append(out, c.combinedSignature(x))
		}
	}
	if c.get(emv.TagSDAD) != nil && c.a.daAnswer == nil && len(c.a.combined) == 0 {
		out = append(out, c.fast())
	}
	return out
}

func (c *chain) new(k CertificateKind) Certificate { return Certificate{Kind: k, App: c.a.aid} }

// undecided says what the dialogue lacks.
func (x Certificate) undecided(en, zh string) Certificate {
	x.Reason, x.ReasonZH = en, zh
	return x
}

// failed says what the check found wrong.
func (x Certificate) failed(err error) Certificate {
	x.Decided = true
	x.Reason, x.ReasonZH = refusal(err)
	return x
}

// refusals are the words for spec/emv's reasons.
var refusals = []struct {
	err    error
	en, zh string
}{
	{emv.ErrSignature, "the SM2 signature does not verify", "SM2 签名验证失败"},
	{emv.ErrHash, "the hash inside does not match", "内含哈希不符"},
	{emv.ErrLength, "not as long as the key that signed it", "长度与签名密钥不符"},
	{emv.ErrTrailer, "does not recover: trailer is not BC", "恢复失败：尾部不是 BC"},
	{emv.ErrHeader, "does not recover: header is not 6A", "恢复失败：头部不是 6A"},
	{emv.ErrFormat, "recovered data has a wrong format", "恢复数据格式错误"},
	{emv.ErrOwner, "belongs to another card number", "证书属于其他卡号"},
	{emv.ErrAlgorithm, "unknown algorithm", "未知算法"},
	{emv.ErrRemainder, "key remainder does not fit", "公钥余项不符"},
	{emv.ErrPublicKey, "the key is not usable", "公钥不可用"},
}

func refusal(err error) (string, string) {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.en, r.zh
		}
	}
	return "does not verify", "验证失败"
}

// passed fills in what a certificate says about its key.
func (c *chain) passed(x Certificate, info emv.KeyInfo) Certificate {
	x.OK, x.Decided, x.Hash = true, true, true
	x.Bits = info.Key.Bits()
	x.Expiry = monthText(info.Expiry)
	x.Serial = fmt.Sprintf("%X", info.Serial)
	x.Owner = info.Owner
	if x.Kind == CardKey {
		x.Owner = c.s.masked(info.Owner)
	}
	return x
}

// monthText writes MMYY of BCD as YYYY-MM.
func monthText(b [2]byte) string {
	century := "20"
	if b[1]>>4 >= 5 {
		century = "19"
	}
	return fmt.Sprintf("%s%02X-%02X", century, b[1], b[0])
}

// issuerKey recovers the issuer's certificate under the key that tag 8F names.
func (c *chain) issuerKey() Certificate {
	x := c.new(IssuerKey)
	index := c.get(emv.TagCAIndex)
	if len(index) != 1 || len(c.a.aid) < 5 {
		return x.undecided("the CA key index 8F or the application's name was not read", "未读到 CA 公钥索引 8F 或应用标识")
	}
	ca, ok := c.s.authority([5]byte(c.a.aid[:5]), index[0])
	if !ok {
		x.Signer = fmt.Sprintf("%X %02X", c.a.aid[:5], index[0])
		x.SignerZH = x.Signer
		return x.undecided("no published CA key with this index is known", "未知该索引的 CA 公钥")
	}
	x.Signer = fmt.Sprintf("%s %02X (%s)", ca.Scheme, ca.Index, ca.Environment)
	x.SignerZH = x.Signer
	exponent := c.get(emv.TagIssuerExponent)
	if exponent == nil && ca.Algorithm != emv.SM2 {
		return x.undecided("the exponent 9F32 was not read", "未读到指数 9F32")
	}
	info, err := emv.RecoverIssuer(ca, emv.Certificate{
		Certificate: c.get(emv.TagIssuerCert), Remainder: c.get(emv.TagIssuerRemainder), Exponent: exponent}, emv.Check{PAN: c.pan()})
	if err != nil {
		return x.failed(err)
	}
	c.issuer = info.Key
	return c.passed(x, info)
}

// authority is the scheme's key: one the options bring, else a published one.
func (s *Session) authority(rid [5]byte, index byte) (emv.CAKey, bool) {
	for _, k := range s.options.CAs {
		if k.RID == rid && k.Index == index {
			return k, true
		}
	}
	return emv.FindCA(rid, index)
}

// pan is the card's number for the comparison with its certificates.
func (c *chain) pan() string {
	val := c.get(emv.TagPAN)
	if val == nil {
		val = c.get(emv.TagTrack2)
	}
	return fmt.Sprintf("%X", val)[:panDigits(val)]
}

// collect puts the data to be authenticated together from the records the
// file locator names.
func (c *chain) collect() {
	afl, err := emv.ParseAFL(c.get(emv.TagAFL))
	if err != nil {
		c.why, c.whyZH = "the file locator 94 was not read", "未读到应用文件定位器 94"
		return
	}
	var records []emv.Record
	for _, id := range afl.Records() {
		data, ok := c.a.answers[fileRecord{id.SFI, id.Number}]
		if id.ODA && !ok {
			c.why = fmt.Sprintf("record %d of file %d, which is signed, was not read", id.Number, id.SFI)
			c.whyZH = fmt.Sprintf("参与认证的文件 %d 记录 %d 未读取", id.SFI, id.Number)
			return
		}
		records = append(records, emv.Record{RecordID: id, Data: data})
	}
	static, err := emv.StaticData(records, c.get(emv.TagSDATagList), c.get(emv.TagAIP))
	if err != nil {
		c.why, c.whyZH = "the data to be authenticated is malformed", "待认证数据格式错误"
		return
	}
	c.static, c.whole = static, true
}

func (c *chain) noIssuer(x Certificate) (Certificate, bool) {
	x.Signer, x.SignerZH = "the issuer's key", "发卡行公钥"
	if c.issuer.Size() == 0 {
		return x.undecided("the issuer's key was not recovered", "发卡行公钥未恢复"), true
	}
	if !c.whole {
		return x.undecided(c.why, c.whyZH), true
	}
	return x, false
}

func (c *chain) signedStatic(sda []byte) Certificate {
	x, stop := c.noIssuer(c.new(StaticData))
	if stop {
		return x
	}
	dac, err := emv.VerifySDA(c.issuer, sda, c.static)
	if err != nil {
		return x.failed(err)
	}
	x.OK, x.Decided, x.Hash = true, true, true
	x.Reason, x.ReasonZH = fmt.Sprintf("data authentication code %X", dac), fmt.Sprintf("数据认证代码 %X", dac)
	return x
}

func (c *chain) cardKey() Certificate {
	x, stop := c.noIssuer(c.new(CardKey))
	if stop {
		return x
	}
	exponent := c.get(emv.TagICCExponent)
	if exponent == nil && c.issuer.Algorithm() != emv.SM2 {
		return x.undecided("the exponent 9F47 was not read", "未读到指数 9F47")
	}
	info, err := emv.RecoverICC(c.issuer, emv.Certificate{Certificate: c.get(emv.TagICCCert),
		Remainder: c.get(emv.TagICCRemainder), Exponent: exponent}, c.static, emv.Check{PAN: c.pan()})
	if err != nil {
		return x.failed(err)
	}
	c.icc = info.Key
	return c.passed(x, info)
}

// noCard stops the check of a dynamic signature without the card's key.
func (c *chain) noCard(k CertificateKind) (Certificate, bool) {
	x := c.new(k)
	x.Signer, x.SignerZH = "the card's key", "卡片公钥"
	if c.icc.Size() == 0 {
		return x.undecided("the card's key was not recovered", "卡片公钥未恢复"), true
	}
	return x, false
}

func (x Certificate) signed(number []byte) Certificate {
	x.OK, x.Decided, x.Hash = true, true, true
	x.Reason, x.ReasonZH = fmt.Sprintf("dynamic number %X", number), fmt.Sprintf("动态数 %X", number)
	return x
}

func (c *chain) dynamic() Certificate {
	x, stop := c.noCard(Dynamic)
	if stop {
		return x
	}
	number, err := emv.VerifyDDA(c.icc, c.a.daAnswer, c.a.daData)
	if err != nil {
		return x.failed(err)
	}
	return x.signed(number)
}

func (c *chain) combinedSignature(a combinedAnswer) Certificate {
	x, stop := c.noCard(Combined)
	if stop {
		return x
	}
	tag, body, _, ok := nextObject(a.answer)
	sdad, _ := tlv.Find(a.answer, emv.TagSDAD)
	cid, hasCID := tlv.Find(a.answer, emv.TagCID)
	if !ok || tag != emv.TagAnswer2 || !hasCID || len(cid) != 1 || len(a.un) != 4 {
		return x.undecided("the terminal's number or the cryptogram information is missing", "缺少终端随机数或密文信息数据")
	}
	data, err := emv.TransactionData(c.a.pdolData, a.data, nil, body)
	if err != nil {
		return x.failed(err)
	}
	cda, err := emv.VerifyCDA(c.icc, sdad, [4]byte(a.un), cid[0], data)
	if err != nil {
		return x.failed(err)
	}
	return x.signed(cda.Number)
}

// fast checks the signature of a contactless transaction; the values it covers
// are those the reader sent for the PDOL.
func (c *chain) fast() Certificate {
	x, stop := c.noCard(FastDDA)
	if stop {
		return x
	}
	values, err := c.a.pdol.Split(c.a.pdolData)
	un, ok := values.Get(emv.TagUN)
	if err != nil || !ok || len(un) != 4 {
		return x.undecided("the terminal's number was not sent for the PDOL", "PDOL 数据中无终端随机数")
	}
	f := emv.FastDDA{UN: [4]byte(un)}
	if auth := c.get(emv.TagCardAuth); len(auth) > 0 && auth[0] == 1 {
		amount, _ := values.Get(emv.TagAmount)
		currency, _ := values.Get(emv.TagCurrency)
		if len(amount) != 6 || len(currency) != 2 {
			return x.undecided("amount or currency was not sent for the PDOL", "PDOL 数据中无金额或货币")
		}
		f.Version, f.Amount, f.Currency, f.CardAuth = 1, [6]byte(amount), [2]byte(currency), auth
	}
	number, err := emv.VerifyFastDDA(c.icc, c.get(emv.TagSDAD), f, c.get(emv.TagATC))
	switch {
	case err != nil && f.Version == 0 && !c.ended(): // 9F69 comes with the last record
		return x.undecided("the last record was not read, and the signature is none of version 00", "未读末条记录，签名不是 00 版")
	case err != nil:
		return x.failed(err)
	}
	return x.signed(number)
}

// ended tells whether the last record of the file locator was read.
func (c *chain) ended() bool {
	afl, err := emv.ParseAFL(c.get(emv.TagAFL))
	last, any := afl.Last()
	_, read := c.a.answers[fileRecord{last.SFI, last.Number}]
	return err == nil && any && read
}
