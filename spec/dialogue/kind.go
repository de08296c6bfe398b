package dialogue

import (
	"bytes"

	"koala/spec/globalplatform"
	"koala/spec/purse"
)

// A Kind is the kind of a card or of one of its applications.
type Kind string

// The kinds of cards this package tells apart.
const (
	Unknown        Kind = "unknown"
	TUnion         Kind = "t-union"    // 交通联合 purse
	CityUnion      Kind = "city-union" // CJ/T 166 purse
	BeijingBMAC    Kind = "bmac"       // Beijing card before T-Union: DF 1001
	UnionPay       Kind = "unionpay"   // PBOC debit, credit and e-cash
	Visa           Kind = "visa"
	Mastercard     Kind = "mastercard"
	Amex           Kind = "amex"
	JCB            Kind = "jcb"
	Discover       Kind = "discover"
	CB             Kind = "cb" // Cartes Bancaires
	OtherPayment   Kind = "payment"
	GeldKarte      Kind = "geldkarte"
	DESFire        Kind = "desfire"
	Coupons        Kind = "coupon" // discount cards of this house
	GlobalPlatform Kind = "globalplatform"
	Directory      Kind = "directory" // PSE and PPSE
	PSAM           Kind = "psam"
	OtherCard      Kind = "other"
)

type kindWords struct {
	en, zh  string
	payment bool // speaks EMV
}

var kinds = map[Kind]kindWords{
	Unknown:        {en: "unknown card", zh: "未知卡"},
	TUnion:         {en: "China T-Union transit card", zh: "交通联合卡"},
	CityUnion:      {en: "City-Union transit card", zh: "城市一卡通"},
	BeijingBMAC:    {en: "Beijing Municipal Administration and Communications card", zh: "北京市政交通一卡通"},
	UnionPay:       {en: "UnionPay card", zh: "银联卡", payment: true},
	Visa:           {en: "Visa card", zh: "Visa 卡", payment: true},
	Mastercard:     {en: "Mastercard card", zh: "万事达卡", payment: true},
	Amex:           {en: "American Express card", zh: "美国运通卡", payment: true},
	JCB:            {en: "JCB card", zh: "JCB 卡", payment: true},
	Discover:       {en: "Discover card", zh: "Discover 卡", payment: true},
	CB:             {en: "Cartes Bancaires card", zh: "法国 CB 卡", payment: true},
	OtherPayment:   {en: "payment card", zh: "支付卡", payment: true},
	GeldKarte:      {en: "GeldKarte, German e-purse", zh: "德国 GeldKarte 电子钱包"},
	DESFire:        {en: "DESFire card", zh: "DESFire 卡"},
	Coupons:        {en: "discount card", zh: "优惠卡"},
	GlobalPlatform: {en: "GlobalPlatform card", zh: "GlobalPlatform 卡"},
	Directory:      {en: "payment directory", zh: "支付目录"},
	PSAM:           {en: "PSAM of a terminal", zh: "终端 PSAM 卡"},
	OtherCard:      {en: "card application", zh: "卡应用"},
}

// Words names the kind, in Chinese if zh.
func (k Kind) Words(zh bool) string {
	if zh {
		return kinds[k].zh
	}
	return kinds[k].en
}

// Payment says that the kind speaks EMV.
func (k Kind) Payment() bool { return kinds[k].payment }

// Purse says that the kind speaks the purse commands of PBOC ED/EP.
func (k Kind) Purse() bool {
	return k == TUnion || k == CityUnion || k == BeijingBMAC || k == PSAM
}

// Names of the payment directories (EMV 4.4 Book 1, 12.2; Book B, 3.3).
var (
	namePSE  = []byte("1PAY.SYS.DDF01")
	namePPSE = []byte("2PAY.SYS.DDF01")
)

// An aidName is the beginning of application names and what answers to them.
// The longest beginning that fits decides.
type aidName struct {
	prefix string
	kind   Kind
	en, zh string
}

var aidNames = []aidName{
	{string(purse.AIDTUnion), TUnion, "China T-Union purse", "交通联合电子钱包"},
	{"\xA0\x00\x00\x06\x32\x01\x01\x06", UnionPay, "China T-Union e-cash", "交通联合电子现金"},
	{string(purse.AIDCityUnion), CityUnion, "City-Union purse", "城市一卡通电子钱包"},
	{"\xA0\x00\x00\x03\x33", UnionPay, "UnionPay", "银联"},
	{"\xA0\x00\x00\x03\x33\x01\x01\x01", UnionPay, "UnionPay debit", "银联借记"},
	{"\xA0\x00\x00\x03\x33\x01\x01\x02", UnionPay, "UnionPay credit", "银联贷记"},
	{"\xA0\x00\x00\x03\x33\x01\x01\x03", UnionPay, "UnionPay quasi-credit", "银联准贷记"},
	{"\xA0\x00\x00\x03\x33\x01\x01\x06", UnionPay, "UnionPay e-cash", "银联电子现金"},
	{"\xA0\x00\x00\x03\x33\x01\x01\x08", UnionPay, "UnionPay US debit", "银联美国借记"},
	{"\xA0\x00\x00\x00\x03", Visa, "Visa", "Visa"},
	{"\xA0\x00\x00\x00\x03\x10\x10", Visa, "Visa debit or credit", "Visa 借记或贷记"},
	{"\xA0\x00\x00\x00\x03\x20\x10", Visa, "Visa Electron", "Visa Electron"},
	{"\xA0\x00\x00\x00\x03\x20\x20", Visa, "V PAY", "V PAY"},
	{"\xA0\x00\x00\x00\x04", Mastercard, "Mastercard", "万事达"},
	{"\xA0\x00\x00\x00\x04\x10\x10", Mastercard, "Mastercard debit or credit", "万事达借记或贷记"},
	{"\xA0\x00\x00\x00\x04\x30\x60", Mastercard, "Maestro", "Maestro"},
	{"\xA0\x00\x00\x00\x25", Amex, "American Express", "美国运通"},
	{"\xA0\x00\x00\x00\x65", JCB, "JCB", "JCB"},
	{"\xA0\x00\x00\x01\x52", Discover, "Discover", "Discover"},
	{"\xA0\x00\x00\x03\x24", Discover, "Discover", "Discover"},
	{"\xA0\x00\x00\x00\x42", CB, "Cartes Bancaires", "法国 CB"},
	{"\xA0\x00\x00\x06\x58", OtherPayment, "Mir", "Mir"},
	{"\xA0\x00\x00\x05\x24", OtherPayment, "RuPay", "RuPay"},
	{"\xA0\x00\x00\x02\x77", OtherPayment, "Interac", "Interac"},
	{"\xA0\x00\x00\x01\x21", OtherPayment, "Dankort", "Dankort"},
	{"\xA0\x00\x00\x01\x41", OtherPayment, "CoGeBan PagoBancomat", "意大利 PagoBancomat"},
	{"\xA0\x00\x00\x03\x59", OtherPayment, "Euro Alliance girocard", "girocard"},
	{"\xA0\x00\x00\x00\x29", OtherPayment, "LINK", "LINK"},
	{"\xD5\x78\x00\x00\x02", OtherPayment, "BankAxept", "BankAxept"},
	{"\xD2\x76\x00\x00\x25", GeldKarte, "GeldKarte or girocard of the German banks", "德国银行 GeldKarte/girocard"},
	{"\xD2\x76\x00\x00\x85\x01\x00", DESFire, "DESFire", "DESFire"},
	{"\xD2\x76\x00\x00\x85\x01\x01", OtherCard, "NFC Forum tag (NDEF)", "NFC 论坛标签 (NDEF)"},
	{"\xF0koala\x02", PSAM, "PSAM of a terminal", "终端 PSAM 卡"},
	{"\xF0koala\x04", Coupons, "koala discount card", "koala 优惠卡"},
	{"\xF0koala", OtherCard, "koala application", "koala 应用"},
	{string(globalplatform.IssuerDomain), GlobalPlatform, "issuer security domain", "发卡方安全域"},
	{"\xA0\x00\x00\x01\x51", GlobalPlatform, "GlobalPlatform application", "GlobalPlatform 应用"},
	{"\xA0\x00\x00\x01\x51\x43\x52\x53", GlobalPlatform, "contactless registry (CRS)", "非接触注册服务 (CRS)"},
	{"\xA0\x00\x00\x00\x03\x00\x00\x00", GlobalPlatform, "issuer security domain (Visa card manager)", "发卡方安全域 (Visa)"},
	{"\xA0\x00\x00\x00\x18\x43\x4D", GlobalPlatform, "issuer security domain (Gemalto card manager)", "发卡方安全域 (Gemalto)"},
	{string(namePSE), Directory, "payment directory of the contact interface (PSE)", "接触支付目录 (PSE)"},
	{string(namePPSE), Directory, "payment directory of the contactless interface (PPSE)", "非接触支付目录 (PPSE)"},
	{"PAY.SZT", CityUnion, "Shenzhen Tong purse", "深圳通电子钱包"},
	{"PAY.TICL", CityUnion, "Lingnan Pass purse", "岭南通电子钱包"},
	{"PAY.APPY", CityUnion, "Lingnan Pass purse", "岭南通电子钱包"},
	{"AP1.WHCTC", CityUnion, "Wuhan Tong purse", "武汉通电子钱包"},
	{"SUSHIN.DDF01", OtherCard, "Hong Kong and Shenzhen transit (SUSHIN.DDF01)", "SUSHIN.DDF01"},
	{"\xD4\x10\x00\x00\x03\x00\x01", OtherCard, "T-money purse", "韩国 T-money"},
	{"\xA0\x00\x00\x03\x08", OtherCard, "PIV identity card", "PIV 身份卡"},
	{"\xA0\x00\x00\x00\x63", OtherCard, "PKCS #15 application", "PKCS #15 应用"},
	{"\xD2\x76\x00\x01\x24\x01", OtherCard, "OpenPGP card", "OpenPGP 卡"},
	{"\xA0\x00\x00\x02\x47\x10\x01", OtherCard, "travel document", "旅行证件"},
	{"\xA0\x00\x00\x00\x87", OtherCard, "USIM of a mobile network", "移动网络 USIM"},
	{string(purse.NameBeijingDF), BeijingBMAC, "purse of a Beijing card", "北京一卡通电子钱包"},
	{"OC", BeijingBMAC, "purse of a Beijing card", "北京一卡通电子钱包"},
}

// kindOf says what answers to an application name.
func kindOf(aid []byte) (k aidName, ok bool) {
	k = aidName{kind: Unknown, en: "application", zh: "应用"}
	for _, a := range aidNames {
		if bytes.HasPrefix(aid, []byte(a.prefix)) && len(a.prefix) > len(k.prefix) {
			k, ok = a, true
		}
	}
	return k, ok
}
